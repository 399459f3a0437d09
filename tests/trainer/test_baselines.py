"""The challenge's two baselines, trained for a moment: their networks, scores and thresholds are the challenge's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.reference
import pytest
import torch
from scipy import stats
from torch import nn

from common import MOMENT
from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.audio import read_clip
from edge_asd.errors import DataError
from edge_asd.front_end import FrontEnd
from edge_asd.windows import Windows
from edge_asd_trainer.baselines.autoencoder import Autoencoder
from edge_asd_trainer.baselines.mobilenetv2 import MobileNetV2
from edge_asd_trainer.config import Detection, load
from edge_asd_trainer.detection import challenge_thresholds, free_gamma_percentile
from edge_asd_trainer.evaluation import Evaluation, evaluate
from edge_asd_trainer.network import images, one_channel
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.pipeline import train
from edge_asd_trainer.run_folder import RunFolder
from made_up import log_mels_of

SHORT = (
    "autoencoder.epochs=1",
    "autoencoder.steps_per_epoch=40",
    "mobilenetv2.epochs=1",
    "mobilenetv2.steps_per_epoch=2",
)


def parameters(network: nn.Module) -> int:
    """As Keras counts them: with the running statistics of the normalisations."""
    running = [buffer for name, buffer in network.named_buffers() if "running" in name]
    return sum(tensor.numel() for tensor in [*network.parameters(), *running])


def test_the_networks_have_the_challenges_parameters() -> None:
    """What `model.count_params()` says of the challenge's Keras models."""
    assert parameters(Autoencoder()) == 269_992
    assert parameters(MobileNetV2(sections=6)) == 713_910
    assert parameters(MobileNetV2(sections=3)) == 713_910 - 3 * 1281


def test_the_networks_have_the_challenges_shapes() -> None:
    widths = [layer.out_features for layer in Autoencoder().layers if isinstance(layer, nn.Linear)]
    assert widths == [128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    assert Autoencoder().eval()(torch.zeros(2, 1, 128, 5)).shape == (2, 640)
    network = MobileNetV2(sections=4).eval()
    assert network(torch.zeros(2, 3, 128, 64)).shape == (2, 4)
    assert [layer for layer in network.layers if isinstance(layer, nn.Conv2d)][-1].out_channels == 1280
    normalisations = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, round(layer.momentum or 0, 6)) for layer in normalisations} == {(1e-3, 1e-3)}


def test_one_channel_is_the_same_function_as_three_that_are_the_same() -> None:
    three = MobileNetV2(sections=2).eval()
    single = MobileNetV2(sections=2, channels=1).eval()
    single.load_state_dict(one_channel(three.state_dict()))
    windows = torch.randn(2, 128, 64)
    torch.testing.assert_close(single(images(windows, 1)), three(images(windows, 3)), atol=1e-4, rtol=1e-4)


def test_the_last_tenth_of_the_windows_is_not_learnt_from(tmp_path: Path) -> None:
    names = [f"section_{clip // 5:02d}_source_train_normal_{clip:04d}.wav" for clip in range(10)]
    frames = np.repeat(np.arange(100 * 10, dtype=np.float32)[:, None], 128, axis=1)
    data = log_mels_of(names, frames, tmp_path)
    sampler = PairSampler(data, Windows(64, 8, to_the_end=True), 0, held_out=0.1)
    whole = PairSampler(data, Windows(64, 8, to_the_end=True), 0)
    assert (len(whole), len(sampler)) == (50, 45)
    drawn = {int(batch.x[i, 0, 0]) for batch in sampler.singles(2, 9, 5) for i in range(9)}
    assert len(drawn) == 45
    assert max(drawn) < 900  # the tenth clip's frames
    assert {int(start) // 500 for start in drawn} == {0, 1}


def test_single_windows_go_on_in_the_middle_as_they_would_have(tmp_path: Path) -> None:
    names = [f"section_00_source_train_normal_{clip:04d}.wav" for clip in range(4)]
    data = log_mels_of(names, np.random.default_rng(0).normal(size=(400, 128)), tmp_path)
    sampler = PairSampler(data, Windows(5, 1, to_the_end=True), 0)
    whole = [batch.x for batch in sampler.singles(2, 8, 3)]
    rest = [batch.x for batch in sampler.singles(2, 8, 3, start=4)]
    assert len(whole) == 6
    torch.testing.assert_close(torch.stack(whole[4:]), torch.stack(rest))


@pytest.fixture(scope="module", params=["autoencoder", "mobilenetv2"])
def run(
    request: pytest.FixtureRequest, plant: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, Evaluation]:
    """A baseline trained for a moment on the plant, and evaluated."""
    folder = RunFolder(tmp_path_factory.mktemp("baseline") / request.param)
    options = [*MOMENT, *SHORT, f"system={request.param}"]
    train(plant, "fan", folder, load("demo", options=options), "demo")
    return folder, evaluate(folder)


def of_the_float_network(folder: RunFolder, path: Path, section: int, system: str) -> float:
    """The challenge's score of a clip, written down once more, by the network as it was exported to ONNX."""
    log_mel = FrontEnd().log_mel(read_clip(path))
    frames = 5 if system == "autoencoder" else 64
    starts = range(0, len(log_mel) - frames + 1, 1 if frames == 5 else 50)
    vectors = np.stack([log_mel[start : start + frames].T for start in starts])
    [outputs] = onnx.reference.ReferenceEvaluator(str(folder.onnx)).run(None, {"windows": vectors[:, None]})
    if system == "autoencoder":
        return float(np.mean((outputs - vectors.reshape(len(vectors), -1)) ** 2))
    p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True))[:, section]
    return float(np.mean(np.log(1 - p) - np.log(p)))


def test_a_clips_score_is_the_challenges(run: tuple[RunFolder, Evaluation], plant: Path) -> None:
    folder, evaluation = run
    for clip in (evaluation.clips[0], evaluation.clips[-1]):
        expected = of_the_float_network(folder, plant / clip.path, int(clip.section), evaluation.system)
        # of the costly one every 50th window only, which are much alike after so short a training
        assert clip.float_score == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_bundle_ships_the_baseline_and_verifies(run: tuple[RunFolder, Evaluation]) -> None:
    folder, evaluation = run
    bundle = bundles.read(folder.bundle("fan"))
    assert bundle.manifest.system == evaluation.system
    assert bundle.embedding_banks == {}
    assert bundle.manifest.dimensions == (1 if evaluation.system == "autoencoder" else 2)
    assert golden.check(bundle).exact
    assert len({section.thresholds for section in bundle.manifest.sections.values()}) == 1  # one a machine type
    assert "Euclidean" not in bundle.model_card


def test_a_baseline_is_evaluated_beside_the_others(run: tuple[RunFolder, Evaluation]) -> None:
    _, evaluation = run
    title = "autoencoder baseline" if evaluation.system == "autoencoder" else "MobileNetV2 baseline"
    names = [system.name for system in evaluation.systems]
    assert names[:2] == [f"{title}, int8 (the bundle)", f"{title}, float"]
    assert len(names) == 5
    assert evaluation.embeddings is None
    assert evaluation.bank_sizes == []
    assert {clip.nearest for clip in evaluation.clips} == {""}
    ours = evaluation.systems[0]
    assert ours.bundle_bytes
    assert min(ours.milliseconds, ours.training_seconds) > 0


def test_one_section_is_nothing_to_be_told_apart(plant: Path, tmp_path: Path) -> None:
    train_folder = tmp_path / "plant" / "fan" / "train"
    train_folder.mkdir(parents=True)
    for clip in sorted((plant / "fan" / "train").glob("section_00_*"))[:3]:
        (train_folder / clip.name).symlink_to(clip)
    config = load("demo", options=[*MOMENT, "system=mobilenetv2"])
    with pytest.raises(DataError, match="one section only, 00, and this baseline learns to tell sections apart"):
        train(tmp_path / "plant", "fan", RunFolder(tmp_path / "run"), config, "demo")


def test_the_challenges_threshold_is_that_of_a_gamma_distribution_of_any_location() -> None:
    scores = np.random.default_rng(0).gamma(4.0, 0.5, 2000) - 20.0
    expected = stats.gamma(4.0, scale=0.5).ppf([0.9, 0.999]) - 20.0
    found = challenge_thresholds(scores, Detection())
    assert found.decision == pytest.approx(expected[0], abs=0.1)
    assert found.alarm == pytest.approx(expected[1], abs=0.5)


def test_a_flipped_sections_threshold_is_the_lower_tails() -> None:
    scores = np.random.default_rng(0).gamma(4.0, 0.5, 2000)
    flipped = challenge_thresholds(scores, Detection(), flipped=True)
    assert np.mean(-scores > flipped.decision) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("scores", [[3.0], [1.0, 2.0], [5.0] * 20, [0.0] * 20])
def test_where_no_gamma_fits_the_scores_own_percentile_stands(scores: list[float]) -> None:
    assert free_gamma_percentile(np.array(scores), 90) == pytest.approx(np.percentile(scores, 90))


def test_a_fit_that_goes_astray_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_asd_trainer import detection

    scores = np.random.default_rng(0).normal(size=200)
    monkeypatch.setattr(detection.stats.gamma, "fit", lambda _: (1.0, 50.0, 1.0))
    assert free_gamma_percentile(scores, 90) == pytest.approx(np.percentile(scores, 90))
