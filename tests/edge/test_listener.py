"""What a listener makes of sound, of a microphone that doesn't hear, and of recordings one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from edge_asd.capture import Block
from edge_asd.listener import Finding, Listener, Recorded
from edge_asd.scoring import ClipScorer, Score
from edge_asd.sensor import SensorChange, SensorRule
from edge_asd.verdict import AlarmRule, Change
from listening_post import FIRST_SCORE, RATE, absent, blocks, detector, noise, post, tone


def heard(listener: Listener, *pieces: Iterable[Block]) -> list[tuple[float, Finding]]:
    """All findings, each with the second of the stream at which it came."""
    now, found = 0.0, []
    for piece in pieces:
        for block in piece:
            now += (len(block.samples) + block.lost) / RATE + (0.5 if block.absent else 0.0)
            found += [(listener.seconds, finding) for finding in listener.take(block, now)]
    return found + [(listener.seconds, finding) for finding in listener.end()]


def of_kind(found: list[tuple[float, Finding]], kind: type) -> list:
    return [finding for _, finding in found if isinstance(finding, kind)]


def silence(seconds: float) -> Iterable[Block]:
    return blocks(noise(seconds, 1e-6))


def test_a_silent_microphone_is_a_fault_of_its_own_and_no_alert() -> None:
    """Silence is far from what the bank knows: without the sensor it would be a strange machine."""
    found = heard(Listener(post()), blocks(noise(20)), silence(30), blocks(noise(25)))
    assert of_kind(found, Change) == []
    raised, cleared = of_kind(found, SensorChange)
    assert (raised.kind, raised.fault, cleared.kind) == ("raised", "silent", "cleared")
    assert raised.seconds == pytest.approx(20.0, abs=0.5)
    assert cleared.seconds == pytest.approx(50.0, abs=0.5)
    strange = [score for score in of_kind(found, Score) if score.value > 3.0]
    assert strange  # the scores themselves are told, and mean nothing
    assert strange[-1].seconds < 55.5


def test_listening_begins_anew_once_the_microphone_hears_again() -> None:
    found = heard(Listener(post()), blocks(noise(15)), silence(15), blocks(noise(30)))
    after = [score.seconds for score in of_kind(found, Score) if score.seconds > 36]
    assert after[0] == pytest.approx(35 + FIRST_SCORE, abs=0.6)  # 5 s of good sound clear the fault
    assert all(score.value < 1.0 for score in of_kind(found, Score) if score.seconds > 36)


def test_a_silence_that_is_no_fault_yet_raises_nothing_while_it_lasts() -> None:
    """What is left of it in the scores counts: a microphone that drops out again and again is never passed over."""
    found = heard(Listener(post()), blocks(noise(20)), silence(4), blocks(noise(20)))
    assert of_kind(found, SensorChange) == []
    raised, cleared = of_kind(found, Change)
    assert raised.episode.began > 24.0
    assert cleared.episode.ended > 30.0


def test_an_alert_ends_when_the_microphone_is_lost() -> None:
    listener = Listener(post())
    found = heard(listener, blocks(noise(12)), blocks(tone(8)), absent(20), blocks(noise(20)))
    assert [change.kind for change in of_kind(found, Change)] == ["raised", "cleared"]
    assert [(change.kind, change.fault) for change in of_kind(found, SensorChange)] == [
        ("raised", "absent"),
        ("cleared", "absent"),
    ]
    assert not listener.sensor.gates


def test_a_gap_is_counted_and_touches_no_score() -> None:
    lost = 3 * RATE + 7
    listener = Listener(post())
    found = heard(listener, blocks(noise(20)), [Block(noise(0.1), lost=lost)], blocks(noise(20)))
    ends = 20 + lost / RATE
    seconds = [score.seconds for score in of_kind(found, Score)]
    assert not [moment for moment in seconds if 20 < moment < ends + FIRST_SCORE - 0.1]
    assert listener.lost == lost
    assert listener.seconds == pytest.approx(40.1 + lost / RATE)


def test_the_bands_of_an_alert_are_those_at_its_peak() -> None:
    listener = Listener(post())
    whistle = noise(15) + 0.3 * np.sin(2 * np.pi * 3000 * np.arange(15 * RATE) / RATE).astype(np.float32)
    found = heard(listener, blocks(noise(12)), blocks(whistle))
    if not of_kind(found, Change):  # a pure tone moves the mean level little
        listener = Listener(post(rule=AlarmRule(0.2)))
        found = heard(listener, blocks(noise(12)), blocks(whistle))
    assert of_kind(found, Change)
    assert listener.bands[0].low_hz < 3000 < listener.bands[0].high_hz
    assert listener.bands[0].deviation_db > 10


def test_recordings_are_scored_as_clips_are() -> None:
    known = detector()
    clips = {f"{seed}.wav": noise(10, 0.005 * seed, seed) for seed in (1, 2, 3)}
    pieces = [[Block(clip[:777], recording=name), *blocks(clip[777:])] for name, clip in clips.items()]
    recorded = of_kind(heard(Listener(post(detector=known)), *pieces), Recorded)
    assert [one.name for one in recorded] == list(clips)
    for one, clip in zip(recorded, clips.values(), strict=True):
        expected = ClipScorer(known).score(clip, "00")
        assert one.score
        assert one.score.value == pytest.approx(expected.value, rel=0.01, abs=1e-4)


def test_a_recording_that_is_too_short_has_no_score() -> None:
    pieces = [[Block(noise(1), recording="short.wav")], [Block(noise(0.1), recording="b.wav")]]
    recorded = of_kind(heard(Listener(post()), *pieces), Recorded)
    assert recorded == [Recorded("short.wav", None), Recorded("b.wav", None)]


def test_nothing_lasts_from_one_recording_to_the_next() -> None:
    sound = np.concatenate([noise(12), tone(8)])
    pieces = [[Block(sound[:500], recording="a.wav"), *blocks(sound[500:])], [Block(noise(20), recording="b.wav")]]
    found = heard(Listener(post()), *pieces)
    assert [change.kind for change in of_kind(found, Change)] == ["raised", "cleared"]
    assert not [score for score in of_kind(found, Score) if score.seconds > 25 and score.value > 1]


def test_another_rule_is_in_force_from_the_next_sample() -> None:
    listener = Listener(post(rule=AlarmRule(1000.0)))
    assert of_kind(heard(listener, blocks(noise(12)), blocks(tone(10))), Change) == []
    listener.adopt(post())
    assert [change.kind for change in of_kind(heard(listener, blocks(tone(3))), Change)] == ["raised"]


def test_a_level_that_fell_gates_and_one_that_rose_does_not() -> None:
    quiet = Listener(post(sensor=SensorRule(reference_dbfs=-20.0)))
    heard(quiet, blocks(noise(400)))
    assert quiet.sensor.faults == ["level"]
    assert quiet.sensor.gates
    loud = Listener(post(sensor=SensorRule(reference_dbfs=-70.0)))
    found = heard(loud, blocks(noise(400)), blocks(tone(10)))
    assert loud.sensor.faults == ["level"]
    assert not loud.sensor.gates
    assert [change.kind for change in of_kind(found, Change)] == ["raised"]


def test_a_microphone_that_never_gives_ten_seconds_without_a_gap_is_a_fault() -> None:
    listener = Listener(post())
    spells = [[Block(noise(0.1), lost=100), *blocks(noise(7.9))] for _ in range(20)]
    found = heard(listener, blocks(noise(20)), *spells)
    [raised] = of_kind(found, SensorChange)
    assert (raised.kind, raised.fault) == ("raised", "gaps")
    assert raised.seconds == pytest.approx(20.0, abs=12.0)
    assert listener.sensor.gates
    [cleared] = of_kind(heard(listener, blocks(noise(40))), SensorChange)
    assert (cleared.kind, cleared.fault) == ("cleared", "gaps")


def test_bands_are_of_the_spectrum_that_is_known_now() -> None:
    listener = Listener(post())
    heard(listener, blocks(noise(12)), blocks(tone(5)), blocks(noise(15)))
    assert listener.bands
    listener.adopt(post(spectrum=None))
    assert of_kind(heard(listener, blocks(tone(5))), Change)
    assert listener.bands == ()


def test_only_what_was_heard_well_can_be_learned_from() -> None:
    listener = Listener(post())
    heard(listener, blocks(noise(12)))
    assert listener.heard_well
    heard(listener, silence(2), blocks(noise(9)))
    assert not listener.heard_well
    heard(listener, blocks(noise(1.5)))
    assert listener.heard_well
    heard(listener, [Block(noise(0.1), lost=1)])
    assert not listener.heard_well
