from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.errors import BundleError, MissingRequirement
from edge_asd.model import InputScaling, TFLiteModel, installed_runtime


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return np.random.default_rng(0).normal(-30, 10, (40, 128, 64)).astype(np.float32)


def test_the_golden_clip_scores_bit_for_bit_as_at_export(tiny_bundle: Path) -> None:
    result = golden.check(bundles.read(tiny_bundle))
    assert result.exact
    assert result.passed
    assert result.score == result.expected > 0


def test_the_other_interpreter_stays_within_the_stated_tolerance(tiny_bundle: Path) -> None:
    result = golden.check(bundles.read(tiny_bundle), runtime="tflite-runtime")
    assert result.runtime.startswith("tflite-runtime")
    assert result.passed


def test_one_window_at_a_time_gives_the_same_as_many(tiny_bundle: Path, windows: np.ndarray) -> None:
    model = bundles.read(tiny_bundle).detector().model
    together = model.embed(windows)
    assert together.shape == (40, 320)
    np.testing.assert_array_equal(np.concatenate([model.embed(window[None]) for window in windows]), together)
    assert model.embed(windows[:0]).shape == (0, 320)


def test_a_window_of_another_shape_is_refused(tiny_bundle: Path, windows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"takes windows of shape \(128, 64\)"):
        bundles.read(tiny_bundle).detector().model.embed(windows[:, :64])


def test_a_model_that_is_none() -> None:
    with pytest.raises(BundleError, match="can't load it"):
        TFLiteModel(b"not a model", InputScaling())


def test_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd.model._PACKAGES", {"litert": ("no_such_module", "none")})
    with pytest.raises(MissingRequirement, match="pip install ai-edge-litert"):
        installed_runtime()


@pytest.mark.parametrize("scaling", [(float("nan"), 1.0), (0.0, 0.0), (0.0, -1.0)])
def test_a_scaling_that_can_not_be(scaling: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="std positive"):
        InputScaling(*scaling)


def test_an_interpreter_that_does_not_fit_the_numpy_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def built_for_another(**_: object) -> None:
        raise SystemError("returned a result with an exception set")

    monkeypatch.setattr("edge_asd.model.installed_runtime", lambda _: ("tflite-runtime 2.14.0", built_for_another))
    with pytest.raises(MissingRequirement, match=r"tflite-runtime 2\.14\.0 doesn't work beside NumPy"):
        TFLiteModel(b"TFL3", InputScaling())
