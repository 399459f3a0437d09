"""What `edge-asd threshold` rests on: the sustained score, its tail, what company costs; how recordings are heard."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from edge_asd import bundle as bundles
from edge_asd import promise
from edge_asd.errors import BundleError, ClipError, DataError, UsageError
from edge_asd.false_alarms import WEEK, Evidence, Recording, evidence, sustained
from edge_asd.scoring import Score
from edge_asd.verdict import AlarmRule, Judge
from edge_asd_trainer import threshold_command
from made_up import some_bundle

HOP = 0.256
RULE = AlarmRule(math.inf)
BLOCKS_A_WEEK = 60_480


def recording(scores: np.ndarray, name: str = "normal.wav") -> Recording:
    return Recording(name, 10.048 + HOP * np.arange(len(scores)), np.asarray(scores, np.float64))


def known(*series: np.ndarray, rule: AlarmRule = RULE) -> Evidence:
    return evidence([recording(scores, f"{number}.wav") for number, scores in enumerate(series)], rule)


def moving(random: np.random.Generator, count: int) -> np.ndarray:
    """Gaussian scores as a stream has them of noise: means of 32 windows, each of which shares 7/8 with the next."""
    weights = np.convolve(np.ones(8), np.ones(32))
    noise = random.standard_normal(count + len(weights) - 1)
    return np.convolve(noise, weights / np.linalg.norm(weights), "valid")


def alerts_of(scores: np.ndarray, rule: AlarmRule) -> int:
    judge = Judge(rule)
    changes = [judge.take(Score(value, "", 10.048 + HOP * at)) for at, value in enumerate(scores.tolist())]
    return sum(change is not None and change.kind == "raised" for change in changes)


@pytest.mark.parametrize("minimum_seconds", [0.0, 0.2, 0.256, 1.0, 1.024, 5.0])
def test_an_alert_is_raised_when_the_sustained_score_passes_the_threshold(minimum_seconds: float) -> None:
    scores = moving(np.random.default_rng(0), 2000)
    rule = AlarmRule(0.0, minimum_seconds=minimum_seconds)
    highest = float(sustained(recording(scores), minimum_seconds).max())
    assert highest <= scores.max()
    assert alerts_of(scores, replace(rule, threshold=highest)) == 0
    assert alerts_of(scores, replace(rule, threshold=np.nextafter(highest, -np.inf))) == 1


def test_of_a_recording_too_short_for_an_alert_the_least_score_stands() -> None:
    assert sustained(recording(np.array([3.0, 2.0, 4.0])), 1.0).tolist() == [2.0]
    assert sustained(recording(np.array([3.0])), 1.0).tolist() == [3.0]


@pytest.mark.parametrize("hours", [0.5, 3.0])
def test_where_the_tail_is_exponential_as_many_alerts_come_as_were_promised(hours: float) -> None:
    """On average over what might have been recorded: known from k excesses, a scale taken for true promises too few."""
    random = np.random.default_rng(1)
    blocks = round(hours * 360)
    rates = []
    for _ in range(150):
        threshold = known(np.repeat(random.exponential(1.0, blocks), 39)).lowest_threshold(1.0)
        rates.append(BLOCKS_A_WEEK * math.exp(-threshold))
    # the design effect, 1 or more by chance, makes it somewhat fewer
    assert 0.3 < np.mean(rates) < 1.2


def weekly(threshold: np.ndarray, later: np.ndarray) -> float:
    """How often in a week scores of a day or more rise above thresholds and stay there for a second, on average."""
    lasting = np.lib.stride_tricks.sliding_window_view(later, 5).min(axis=1)
    rises = [np.count_nonzero((lasting[1:] > one) & (lasting[:-1] <= one)) for one in threshold]
    return float(np.mean(rises)) * WEEK / (len(later) * HOP)


@pytest.mark.parametrize(
    ("sound", "least", "most"),
    [
        (lambda scores: 1.0 + 0.1 * scores, 1.0, 40.0),  # lighter than exponential: fewer
        (lambda scores: np.exp(0.3 * scores), 1.0, 40.0),
        (lambda scores: np.exp(0.5 * scores), 5.0, 60.0),
        (lambda scores: -3.0 + 0.1 * scores, 1.0, 40.0),  # of a baseline: none is positive
    ],
)
def test_what_is_promised_of_correlated_scores_comes(
    sound: Callable[[np.ndarray], np.ndarray], least: float, most: float
) -> None:
    """40 a week promised from an hour each, counted in the scores of two weeks."""
    random = np.random.default_rng(2)
    hour = round(3600 / HOP)
    thresholds = [known(sound(moving(random, hour))).lowest_threshold(40.0) for _ in range(40)]
    assert least < weekly(np.array(thresholds), sound(moving(random, round(2 * WEEK / HOP)))) < most


def conditions(random: np.random.Generator, recordings: int) -> list[np.ndarray]:
    """Recordings of ten minutes, each louder or softer throughout: what is normal differs from day to day."""
    return [np.exp(0.4 * random.standard_normal()) * (1 + 0.05 * moving(random, 2344)) for _ in range(recordings)]


def test_scores_that_are_high_together_count_for_less() -> None:
    random = np.random.default_rng(3)
    apart, together = [], []
    for _ in range(20):
        days = conditions(random, 12)
        together.append(known(*days).tail.points)
        mixed = np.concatenate(days)[: 12 * 2340].reshape(-1, 39)
        apart.append(known(random.permutation(mixed).ravel()).tail.points)
    assert np.median(together) < 5 < 8 < np.median(apart)


def test_days_that_differ_raise_the_threshold_until_other_days_are_quiet() -> None:
    """A day in a thousand is three sigma out; without the discount eight times as many days raise an alert."""
    random = np.random.default_rng(4)
    passed = 0
    for _ in range(40):
        threshold = known(*conditions(random, 8)).lowest_threshold(10.0)
        passed += sum(float(np.max(day)) > threshold for day in conditions(random, 10))
    assert passed <= 8  # of 400


def test_alerts_are_counted_where_they_are_frequent() -> None:
    scores = 1.0 + 0.1 * moving(np.random.default_rng(5), 28_000)
    found = known(scores)
    often = 12 * WEEK / found.seconds
    threshold = found.lowest_threshold(often)
    rule = replace(RULE, threshold=threshold)
    assert 6 <= alerts_of(scores, rule) <= 12 == int(often * found.seconds / WEEK)
    assert found.outlook(threshold).alerts == alerts_of(scores, rule)
    assert alerts_of(scores, replace(rule, threshold=threshold - 0.05)) > 12
    # far below, one alert lasts for ever; that doesn't make it a threshold
    everywhere = found.outlook(0.5)
    assert (everywhere.alerts, round(everywhere.lasting, 2)) == (1, 1.0)
    assert found.lowest_threshold(1e6) >= np.median(found.maxima)


def test_a_clip_counts_as_the_listening_that_one_score_is_worth() -> None:
    scores = 1.0 + np.random.default_rng(6).exponential(0.1, 200)
    clips = evidence([Recording(f"{n}.wav", np.array([10.0]), np.array([s])) for n, s in enumerate(scores)], RULE)
    assert clips.seconds == 200 * 2.5
    assert clips.tail.points == len(clips.maxima[clips.maxima > clips.tail.level])  # clips have no company
    stream = known(np.repeat(scores, 39))
    assert clips.lowest_threshold(1.0) > stream.lowest_threshold(1.0)
    assert clips.outlook(1.0).alerts == 200
    assert clips.outlook(1.0).lasting == 1.0


def test_one_moment_far_above_all_others_is_noticed() -> None:
    scores = np.repeat(1.0 + np.random.default_rng(7).exponential(0.1, 200), 39)
    assert not known(scores).stands_alone()
    scores[5000:5039] = 5.0
    slammed = known(scores)
    assert slammed.stands_alone()
    name, at, value = slammed.highest()
    assert (name, value) == ("0.wav", 5.0)
    assert 10.048 + 5000 * HOP + 1.0 <= at <= 10.048 + 5039 * HOP


def test_scores_that_can_get_no_higher_give_no_threshold() -> None:
    bounded = np.minimum(moving(np.random.default_rng(8), 10_000), 0.5)
    with pytest.raises(DataError, match=r"highest scores are all 0\.5, as if they could get no higher"):
        known(bounded)


@pytest.mark.parametrize("value", [3.14159265, 0.1, 123456.71, -0.0123456789, -2.0, 0.0, 1e-9])
def test_a_threshold_is_rounded_up(value: float) -> None:
    rounded = promise.rounded_up(value)
    assert value <= rounded <= value + abs(value) * 1.1e-5
    assert len(f"{rounded!r}".replace("-", "").replace(".", "").strip("0").split("e")[0]) <= 6


def noise(path: Path, seconds: float, *, rate: int = 16000, channels: int = 1, seed: int = 0) -> Path:
    samples = 0.05 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def call(bundle: Path, *recordings: Path, **options: object) -> None:
    given = {"false_alarms": 1.0, "section": "00", **options}
    threshold_command.threshold(bundle, list(recordings), **given)  # type: ignore[arg-type]


def listened(bundle: Path, *files: Path) -> Sequence[Recording]:
    return threshold_command._hear(files, [10.0] * len(files), bundles.read(bundle).detector(), "00")


def test_ten_seconds_are_scored_as_a_whole_and_other_formats_as_a_device_hears_them(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    from edge_asd.audio import read_clip
    from edge_asd.scoring import ClipScorer

    files = [noise(tmp_path / "a.wav", 10.0), noise(tmp_path / "b.flac", 13.0, rate=44100, channels=2)]
    clip, stereo = listened(tiny_bundle, *files)
    whole = ClipScorer(bundles.read(tiny_bundle).detector()).score(read_clip(files[0]), "00")
    assert clip.scores == pytest.approx([whole.value], rel=0.1)  # one window fewer
    assert len(stereo.scores) == 12
    assert np.diff(stereo.seconds) == pytest.approx(HOP)
    assert stereo.seconds[-1] <= 13.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path, "there is no such file"),
        (lambda path: path.write_bytes(b"RIFF"), "can't be read as a sound file"),
        (lambda path: noise(path, 5.0), "5.0 s long, and a score is of 10 s"),
        (lambda path: soundfile.write(path, np.zeros(200_000), 16000), "digital silence"),
        (lambda path: soundfile.write(path, np.full(200_000, np.nan), 16000, subtype="FLOAT"), "not finite"),
    ],
)
def test_a_recording_that_says_nothing_is_named(
    make: Callable[[Path], object], said: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "monday.wav"
    make(path)
    with pytest.raises(ClipError, match=f"monday.wav.*{said}"):
        call(tiny_bundle, path)


def test_what_is_asked_for_must_make_sense(tiny_bundle: Path, tmp_path: Path) -> None:
    clip = noise(tmp_path / "a.wav", 10.0)
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="a number above 0"):
            call(tiny_bundle, clip, false_alarms=wrong)
    for section in ("", "07"):
        with pytest.raises(UsageError, match="has 00, 01"):
            call(tiny_bundle, clip, section=section)
    with pytest.raises(UsageError, match="there is one already"):
        call(tiny_bundle, clip, out=clip)
    with pytest.raises(BundleError):
        call(clip, clip)
    assert soundfile.info(clip).duration == 10.0


def a_report(value: float, tail: np.ndarray | None = None) -> threshold_command.Report:
    scores = np.repeat(np.random.default_rng(9).exponential(0.1, 300), 39) if tail is None else tail
    return threshold_command._report(some_bundle(), "00", known(scores + value), 10.0, 3000.0)


def test_the_lines_for_a_site_are_ones_that_its_reader_takes() -> None:
    import tomllib

    from edge_asd.settings import AlarmSettings

    report = a_report(1.0)
    written = tomllib.loads(report.settings)["alarm"]
    assert written == {"threshold": report.found.threshold}
    assert msgspec.convert(written, AlarmSettings).threshold == report.found.threshold
    assert report.settings in threshold_command._as_text(report)
    slow = known(np.repeat(np.random.default_rng(9).exponential(0.1, 300), 39), rule=AlarmRule(0.0, 0.8, 5.0))
    assert tomllib.loads(threshold_command._settings(1.5, slow))["alarm"] == {
        "threshold": 1.5,
        "release": 0.8,
        "minimum_seconds": 5.0,
    }


def test_of_a_threshold_below_zero_there_are_no_such_lines() -> None:
    report = a_report(-50.0)
    assert report.found.threshold < -40
    assert report.settings == ""
    assert "write a bundle with --out" in threshold_command._as_text(report)


def test_the_bundle_is_the_same_but_for_one_threshold_and_a_line_on_its_card(tmp_path: Path) -> None:
    before = some_bundle()
    report = a_report(1.0)
    bundles.write(tmp_path / "quiet.easd", threshold_command._with_alarm(before, report))
    after = bundles.read(tmp_path / "quiet.easd")
    assert after.manifest.sections["00"].thresholds.alarm == report.found.threshold
    assert msgspec.structs.replace(
        after.manifest, sections=before.manifest.sections, entries={}
    ) == msgspec.structs.replace(before.manifest, entries={})
    assert after.model_card.startswith(before.model_card)
    assert f"Set to {report.found.threshold!r} after training" in after.model_card
    same = ("model", "golden_wav", "sbom")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


def test_doubts_are_said() -> None:
    quiet = np.repeat(1.0 + np.random.default_rng(10).exponential(0.1, 8000), 39)
    assert promise.doubts(known(quiet), 1.0) == []
    short = known(quiet[:20_000])
    [far] = promise.doubts(short, 1.0)
    assert "118 times as far" in far
    assert "listen to 1.68 h or more" in far
    assert promise.doubts(short, 10.0) == []
    days = known(*conditions(np.random.default_rng(11), 6))
    assert "scores come in spells" in " ".join(promise.doubts(days, 1000.0))


def test_recordings_that_were_trained_on_are_noticed() -> None:
    found = evidence([recording(np.repeat(np.random.default_rng(12).exponential(1, 100), 39), "x/b.wav")], RULE)
    [said] = threshold_command._trained_on(some_bundle(), "00", found)
    assert said.startswith("1 of the recordings are named like clips that were trained on, b.wav")


def test_the_command_from_recordings_to_a_bundle_in_place(
    tiny_bundle: Path, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten-second clips, which a stream gives no score of, repeated at other volumes for want of twenty."""
    normal = sorted((plant / "fan" / "test").glob("section_00_*_normal_*"))
    normal += sorted((plant / "fan" / "train").glob("section_00_*"))
    folder = tmp_path / "normal"
    folder.mkdir()
    for number in range(21):
        samples, rate = soundfile.read(normal[number % len(normal)])
        soundfile.write(folder / f"{number:02d}.wav", samples * (0.9 + 0.005 * number), rate)
    bundle = tmp_path / "fan.easd"
    bundle.write_bytes(tiny_bundle.read_bytes())
    call(bundle, folder, folder / "00.wav", out=bundle, json=True)
    output = capsys.readouterr()
    told = json.loads(output.out)
    assert (told["recordings"], told["machine"], told["section"]) == (21, "fan", "00")
    assert told["listened_hours"] == pytest.approx(21 * 2.5 / 3600)
    assert told["found"]["threshold"] > told["highest_score"]
    assert told["found"]["alerts"] == 0
    assert told["found"]["per_week"] == pytest.approx(1.0, rel=0.01)
    assert "warning: this is extrapolated" in output.err
    changed, trained = bundles.read(bundle), bundles.read(tiny_bundle)
    assert changed.manifest.sections["00"].thresholds.alarm == told["found"]["threshold"]
    assert changed.manifest.sections["01"] == trained.manifest.sections["01"]
    assert told["alarm"]["threshold"] == trained.manifest.sections["00"].thresholds.alarm
