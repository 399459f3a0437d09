"""Which bands an alert names, and how they are said."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asd.deviation import Spectrum, deviating, level
from edge_asd.events import Band, text
from edge_asd.front_end import FrontEnd

FRONT_END = FrontEnd()


def normal_clips() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(-40.0, 1.0, (313, 128)).astype(np.float32) for _ in range(10)]


def test_a_spectrum_is_the_mean_and_the_spread_of_levels() -> None:
    clips = [np.full((10, 3), value, np.float32) + np.array([0.0, 10.0, 20.0]) for value in (-41.0, -39.0)]
    assert Spectrum.of(clips) == Spectrum((-40.0, -30.0, -20.0), (1.0, 1.0, 1.0))
    np.testing.assert_allclose(level(clips[0]), [-41.0, -31.0, -21.0])


def test_the_bands_that_deviate_most_come_first() -> None:
    normal = Spectrum.of(normal_clips())
    sound = normal_clips()[0]
    sound[:, 60:70] += 9.0
    sound[:, 5:8] -= 4.0
    first, second = deviating(sound, normal, FRONT_END)
    edges = FRONT_END.band_edges
    assert (first.low_hz, first.high_hz) == (round(edges[60], 1), round(edges[71], 1))
    assert first.deviation_db == pytest.approx(9.0, abs=0.2)
    assert (second.low_hz, second.high_hz) == (round(edges[5], 1), round(edges[9], 1))
    assert second.deviation_db == pytest.approx(-4.0, abs=0.2)


def test_a_tone_is_found_where_it_sounds() -> None:
    time_axis = np.arange(160000) / 16000
    quiet = [0.01 * np.random.default_rng(seed).standard_normal(160000) for seed in range(5)]
    normal = Spectrum.of(FRONT_END.log_mel(clip.astype(np.float32)) for clip in quiet)
    for hertz in (120.0, 1000.0, 5000.0):
        whistling = quiet[0] + 0.05 * np.sin(2 * np.pi * hertz * time_axis)
        first = deviating(FRONT_END.log_mel(whistling.astype(np.float32)), normal, FRONT_END)[0]
        assert first.low_hz < hertz < first.high_hz
        assert first.high_hz - first.low_hz < max(0.3 * hertz, 150.0)
        assert first.deviation_db > 5.0


def test_one_range_is_named_though_little_deviates_and_none_of_nothing() -> None:
    normal = Spectrum.of(normal_clips())
    assert len(deviating(normal_clips()[1], normal, FRONT_END)) == 1
    exact = np.tile(np.array(normal.mean, np.float64), (5, 1))
    assert deviating(exact, normal, FRONT_END) == ()


def test_everything_louder_is_one_range_from_end_to_end() -> None:
    normal = Spectrum.of(normal_clips())
    [band] = deviating(normal_clips()[0] + np.float32(20.0), normal, FRONT_END)
    assert (band.low_hz, band.high_hz) == (0.0, 8000.0)


def test_bands_as_people_say_them() -> None:
    assert text([Band(1190.0, 1614.0, 8.6), Band(60.0, 120.0, -4.2)]) == "1.2-1.6 kHz +9 dB, 60-120 Hz -4 dB"
    assert text([]) == ""
