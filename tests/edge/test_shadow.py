"""A shadow's comparison: what is counted and kept of it, within which bounds, and how it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.stats import spearmanr

from edge_asd import shadow_file, status
from edge_asd.errors import StorageError
from edge_asd.scoring import Score
from edge_asd.shadow import MOST_DISAGREEMENTS, MOST_PAIRS, Ledger, Pair, Record, Side, rank_correlation
from edge_asd.shadow_standing import lines, standing
from edge_asd.verdict import AlarmRule
from made_up_events import STATUS

STEP = 0.256
UTC = "2026-03-01T12:00:00.000Z"
RULES = (AlarmRule(1.0), AlarmRule(2.0))


def begun(**changes: object) -> Record:
    sides = {"running": Side("a" * 16, "00", 1.0), "shadow": Side("b" * 16, "00", 2.0)}
    return Record(since=UTC, updated=UTC, moment_seconds=STEP, **{**sides, **changes})  # type: ignore[arg-type]


def feed(ledger: Ledger, running: np.ndarray, shadow: np.ndarray, first: int = 0) -> Ledger:
    for number, (one, other) in enumerate(zip(running.tolist(), shadow.tolist(), strict=True), first):
        ledger.take(*(Score(value, "a.wav", number * STEP) for value in (one, other)), f"moment {number}")
    return ledger


def compared(running: np.ndarray, shadow: np.ndarray) -> Record:
    return feed(Ledger(begun(), RULES), running, shadow).record()


def some(count: int, seed: int = 0) -> np.ndarray:
    """Scores of six digits, as they are kept."""
    return np.random.default_rng(seed).uniform(0.1, 0.9, count).round(6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 6])
def test_ranks_correlate_as_scipy_says(seed: int, digits: int) -> None:
    """With one digit most scores are equal to others."""
    random = np.random.default_rng(seed)
    running = random.normal(size=300)
    pairs: list[Pair] = list(
        zip(
            running.round(digits).tolist(),
            (running * seed / 4 + random.normal(size=300)).round(digits).tolist(),
            strict=True,
        )
    )
    assert rank_correlation(pairs) == pytest.approx(spearmanr(np.array(pairs)).statistic, abs=1e-12)


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)], [(1.0, 2.0), (2.0, 2.0)]])
def test_where_nothing_differs_there_are_no_ranks(pairs: list[Pair]) -> None:
    assert rank_correlation(pairs) is None


def test_the_same_scores_agree_in_all() -> None:
    scores = some(500)
    record = feed(Ledger(begun(shadow=Side("b", "00", 1.0)), (AlarmRule(1.0),) * 2), scores * 2, scores * 2).record()
    assert rank_correlation(record.pairs) == 1.0
    assert record.of_running == record.of_shadow
    assert record.of_running.above == np.count_nonzero(scores * 2 > 1.0) > 0
    assert (record.only_running, record.only_shadow, record.disagreements) == (0, 0, ())


@pytest.mark.parametrize("count", [1, MOST_PAIRS, MOST_PAIRS + 1, 3 * MOST_PAIRS + 7, 8 * MOST_PAIRS + 1])
def test_pairs_are_thinned_evenly_and_all_else_is_counted(count: int) -> None:
    running, shadow = some(count), some(count, 1)
    record = compared(running, shadow)
    assert len(record.pairs) <= MOST_PAIRS
    assert len(record.pairs) > MOST_PAIRS // 2 or record.stride == 1
    kept = slice(None, None, record.stride)
    assert record.pairs == tuple(zip(running[kept].tolist(), shadow[kept].tolist(), strict=True))
    assert record.moments == count
    assert (record.of_running.least, record.of_shadow.most) == (running.min(), shadow.max())
    assert record.hours == pytest.approx(count * STEP / 3600)


def test_a_month_takes_no_more_room_than_an_hour() -> None:
    """Of the longest scores there are, and as many disagreements as are kept."""
    longest = -1.23456e-300
    count = 12 * MOST_PAIRS
    running = np.full(count, longest)
    running[::2] = 5.0
    record = compared(running, np.full(count, longest))
    assert len(record.disagreements) == MOST_DISAGREEMENTS
    assert record.only_running == count / 2
    assert len(msgspec.json.encode(record)) < shadow_file.LARGEST / 2
    ledger = Ledger(record, RULES)
    assert len(feed(ledger, running, running).record().pairs) <= MOST_PAIRS


def test_alerts_of_both_are_of_the_same_moments(tmp_path: Path) -> None:
    quiet, loud, louder = (np.full(20, value) for value in (0.5, 1.5, 2.5))
    running = np.concatenate([quiet, loud, quiet, louder, quiet])
    record = compared(running, np.where(running > 2, running, 0.5))
    assert (record.of_running.alerts, record.of_shadow.alerts) == (2, 1)
    assert (record.of_running.above, record.of_shadow.above) == (40, 20)
    assert (record.only_running, record.only_shadow) == (20, 0)
    [apart] = record.disagreements
    assert (apart.utc, apart.running, apart.shadow) == ("moment 20", 1.5, 0.5)


def test_an_alert_needs_its_seconds_without_doubt_or_gap() -> None:
    def alerts(between: Callable[[Ledger], None]) -> int:
        ledger = Ledger(begun(), RULES)
        for start in (0, 3):
            feed(ledger, np.full(3, 5.0), np.full(3, 5.0), start)
            between(ledger)
        return ledger.record().of_shadow.alerts

    assert alerts(lambda ledger: None) == 1
    assert alerts(Ledger.doubt) == alerts(lambda ledger: ledger.interrupt(3 * STEP)) == 0


def test_other_rules_with_the_same_thresholds_go_on() -> None:
    ledger = Ledger(begun(), RULES)
    ledger.adopt(tuple(replace(rule, minimum_seconds=0.0) for rule in RULES))  # type: ignore[arg-type]
    assert feed(ledger, np.full(1, 5.0), np.full(1, 1.5)).record().of_running.alerts == 1


@pytest.mark.parametrize("split", [1, 1000, MOST_PAIRS, 2 * MOST_PAIRS + 1])
def test_what_is_kept_goes_on_as_if_nothing_had_been(tmp_path: Path, split: int) -> None:
    running, shadow = some(3 * MOST_PAIRS) * 1.5, some(3 * MOST_PAIRS, 1) * 2.5
    whole = Ledger(begun(), RULES)
    feed(whole, running[:split], shadow[:split])
    shadow_file.write(tmp_path, whole.record())
    kept = shadow_file.read(tmp_path)
    assert kept == whole.record()
    assert kept
    whole.interrupt(0.0)  # as every start is
    parts = feed(Ledger(kept, RULES), running[split:], shadow[split:], split)
    assert parts.record() == feed(whole, running[split:], shadow[split:], split).record()


def test_where_nothing_was_kept_there_is_none(tmp_path: Path) -> None:
    assert shadow_file.read(tmp_path) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"format_version":1', '"format_version":2'),
        lambda text: text.replace('"moments":10', '"moments":11'),
        lambda text: text.replace('"above":0', '"above":11'),
        lambda text: text.replace('"stride":1', '"stride":0'),
        lambda text: text.replace('"stride":1', '"stride":1,"more":1'),
        lambda text: text.replace('"least":', '"lest":'),
        lambda text: text.replace('"pairs":[[', '"pairs":[[null,1.0],['),
        lambda text: text + " " * shadow_file.LARGEST,
        lambda text: "\udcff",
    ],
)
def test_what_is_no_comparison_is_refused(tmp_path: Path, damage: Callable[[str], str]) -> None:
    shadow_file.write(tmp_path, compared(some(10), some(10, 1)))
    path = tmp_path / shadow_file.FILE_NAME
    before = path.read_text()
    assert damage(before) != before
    path.write_text(damage(before), errors="surrogateescape")
    with pytest.raises(StorageError, match=r"shadow.json: isn't a shadow's comparison .* begins anew"):
        shadow_file.read(tmp_path)


def hours(count: float, running: np.ndarray, shadow: np.ndarray) -> str:
    record = compared(running, shadow)
    return standing(msgspec.structs.replace(record, moment_seconds=count * 3600 / record.moments), lasts=True).said


def test_a_sentence_says_how_long_and_what_that_is_worth() -> None:
    scores = some(100)
    assert hours(0.5, scores, scores) == (
        "In 0.5 h neither would have raised an alert; they rank moments alike (rank correlation 1.00); "
        "that is too short to say anything."
    )
    assert "; less than a day doesn't hold all that a machine does." in hours(5, scores, scores)
    said = hours(60, scores, scores[::-1])
    assert said.startswith("In 2.5 days neither would have raised an alert; they rank moments differently ")
    assert said.endswith(f"(rank correlation {spearmanr(scores, scores[::-1]).statistic:.2f}).")
    assert "nothing was compared" in standing(begun(), lasts=True).said.lower()
    assert "can't be said" in hours(30, np.full(9, 0.5), np.full(9, 0.5))


def test_who_would_have_alerted_more() -> None:
    quiet, loud = np.full(20, 0.5), np.full(20, 2.5)
    strange, normal = np.concatenate([quiet, loud, quiet]), np.full(60, 0.5)
    assert "the shadow would have raised no alerts and the running bundle 1;" in hours(30, strange, normal)
    assert "the shadow would have raised 1 alert and the running bundle none;" in hours(30, normal, strange)
    assert "both would have raised 1 alert;" in hours(30, strange, strange)


def test_the_table_has_all_of_it() -> None:
    running, shadow = some(1000) * 1.2, some(1000, 1) * 2.2
    found = standing(compared(running, shadow), lasts=False)
    assert found.running.scores
    assert found.running.scores.least == running.min()
    assert found.running.scores.p95 == pytest.approx(np.quantile(running, 0.95), rel=1e-5)
    assert found.running.above == np.mean(running > 1.0)
    told = "\n".join(lines(found))
    for words in (
        "1000 moments since 2026-03-01T12:00:00.000Z, 0.0711 h of sound; is over, as of moment 999",
        f"bundle            {'a' * 16}  {'b' * 16}",
        f"above threshold {100 * np.mean(running > 1.0):>16.2f} %{100 * np.mean(shadow > 2.0):>16.2f} %",
        f"median          {f'{np.median(running):.6g}':>18}",
        "disagreed   moment 9",
        found.said,
    ):
        assert words in told
    assert lines(standing(begun(), lasts=True))[-1] == "Nothing was compared yet: 0 h are too short to say anything."


def edge_asd(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_shows_it_and_says_where_there_is_none(tmp_path: Path) -> None:
    done = edge_asd("shadow", "--state", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no shadow ever scored with this state folder" in done.stderr
    record = compared(some(100), some(100, 1))
    shadow_file.write(tmp_path, record)
    done = edge_asd("shadow", "--state", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines(standing(record, lasts=False))
    (tmp_path / "device.toml").write_text('bundle = "a.easd"\nstate = "."\n[capture]\nwav = "a.wav"\n')
    with status.alone(tmp_path):
        status.write(tmp_path, msgspec.structs.replace(STATUS, shadow="b" * 16))
        found = json.loads(edge_asd("shadow", "--config", tmp_path / "device.toml", "--json").stdout)
    assert (found["moments"], found["lasts"], found["shadow"]["bundle"]) == (100, True, "b" * 16)
    assert found["rank_correlation"] == round(spearmanr(*zip(*record.pairs, strict=True)).statistic, 4)
    assert set(found) == set(type(standing(record, lasts=True)).__struct_fields__)


def test_a_status_names_the_shadow_where_there_is_one() -> None:
    assert not [line for line in status.describe(STATUS, alive=True) if line.startswith("shadow")]
    told = status.describe(msgspec.structs.replace(STATUS, shadow="b" * 16), alive=True)
    assert f"shadow     {'b' * 16} scores beside it: edge-asd shadow" in told
