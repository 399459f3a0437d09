from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.windows import Windows


def test_a_10_s_clip_has_32_windows_at_0_8_to_248() -> None:
    log_mel = np.arange(313, dtype=np.float32)[:, None] + np.zeros((1, 128), np.float32)
    cut = Windows().cut(log_mel)
    assert cut.shape == (32, 128, 64)
    np.testing.assert_array_equal(cut[:, 0, 0], np.arange(0, 249, 8))
    np.testing.assert_array_equal(cut[3, 5], np.arange(24, 88))


@given(frames=st.integers(0, 2000))
def test_the_number_of_windows_is_the_papers(frames: int) -> None:
    expected = 0 if frames < 64 else max(1, math.ceil((frames - 64) / 8))
    assert Windows().count(frames) == expected
    if frames >= 64:
        assert len(Windows().cut(np.zeros((frames, 4), np.float32))) == expected


@pytest.mark.parametrize(("windows", "expected"), [(Windows(5, 1, to_the_end=True), 309), (Windows(64, 1, True), 250)])
def test_the_challenges_baselines_take_the_last_window_too(windows: Windows, expected: int) -> None:
    assert windows.count(313) == len(windows.cut(np.zeros((313, 128), np.float32))) == expected
    assert windows.count(windows.frames) == 1
    assert windows.count(windows.frames - 1) == 0


def test_refuses_a_hop_beyond_the_window() -> None:
    with pytest.raises(ValueError, match="hop <= frames"):
        Windows(frames=8, hop=9)
