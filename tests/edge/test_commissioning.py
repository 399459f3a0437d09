"""Learning on site: what is learned is normal, the threshold holds on sound that wasn't learned, undo undoes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_asd import commission_desk as desk
from edge_asd import files, left_over, npy, site
from edge_asd.bank import Bank
from edge_asd.commissioning import Commissioner, Plan
from edge_asd.comparison import Backend, Comparison, Heard
from edge_asd.deviation import Spectrum
from edge_asd.errors import DataError, StorageError, UsageError
from edge_asd.front_end import FrontEnd
from edge_asd.listener import Listener
from edge_asd.scoring import Detector, Score
from edge_asd.site import Learned, Promise, Site
from edge_asd.site_work import SiteWork
from edge_asd.verdict import AlarmRule, Judge
from listening_post import StreamClock, blocks, detector, noise, post
from made_up import some_bundle

HOP = 0.256
RULE = AlarmRule(3.0)


def vectors(count: int, seed: int, place: float = 0.0) -> np.ndarray:
    """Embeddings of clips from one place: near to a line of their own."""
    random = np.random.default_rng(seed)
    line = np.random.default_rng(round(100 * place)).normal(size=320)
    return (place * 5 + 0.3 * random.normal(size=(count, 320)) + random.normal(size=(count, 1)) * line).astype(
        np.float32
    )


def known_detector(backends: tuple[Backend, ...] = (Backend(),)) -> Detector:
    banks = {"embedding": Bank.of(vectors(60, 0), [f"{number}.wav" for number in range(60)])}
    return replace(detector(), comparisons={"00": Comparison(banks, backends)})


def commissioned(commissioner: Commissioner, heard: np.ndarray, detector: Detector, gap_every: int = 0) -> None:
    """As a daemon does: a score each hop, and what it is of; with gaps if wanted."""
    seconds = 0.0
    for number, embedding in enumerate(heard):
        seconds += HOP + (20.0 if gap_every and number % gap_every == 0 else 0.0)
        one = Heard(embedding)
        score = Score(detector.judge(one, "00").value, "", seconds)
        commissioner.take(score, one, np.full((313, 128), -40.0, np.float32), f"at {seconds:.1f} s")
        if commissioner.phase == "done":
            return


def test_what_is_learned_is_normal_from_then_on() -> None:
    before = known_detector()
    commissioner = Commissioner(Plan(20, 1.0), before, "00", RULE)
    assert commissioner.status.phase == "learning"
    commissioned(commissioner, vectors(6000, 1, place=1.0), before)
    assert commissioner.phase == "done"
    found = commissioner.findings()
    assert 55 <= len(found.learned.clips) <= 60  # ten minutes, a clip each ten seconds
    unseen = [Heard(one) for one in vectors(200, 2, place=1.0)]
    old = np.array([before.judge(one, "00").value for one in unseen])
    new = np.array([found.detector.judge(one, "00").value for one in unseen])
    assert new.max() < 0.5 * old.min()
    assert (new <= found.threshold).mean() > 0.9  # an alert takes five above it in a row
    assert found.before.alerts >= 1
    assert found.after.alerts == 0
    assert found.after.per_week <= 1.0
    strange = [Heard(one) for one in vectors(50, 3, place=2.0)]
    assert min(found.detector.judge(one, "00").value for one in strange) > found.threshold
    for one in vectors(20, 4):  # what the bundle knows as normal is so still
        assert found.detector.judge(Heard(one), "00").value == pytest.approx(
            before.judge(Heard(one), "00").value, rel=0.05
        )


def test_the_alerts_that_are_promised_are_those_that_come() -> None:
    """Weeks of the same sound, at the threshold that twenty minutes of it gave: on average no more than promised."""
    counted = []
    for seed in range(6):
        before = known_detector()
        commissioner = Commissioner(Plan(60, 500.0), before, "00", RULE)
        commissioned(commissioner, vectors(16000, 10 + seed, place=1.0), before)
        found = commissioner.findings()
        judge = Judge(AlarmRule(found.threshold))
        later = vectors(4000, 90 + seed, place=1.0)
        scores = [Score(found.detector.judge(Heard(one), "00").value, "", HOP * n) for n, one in enumerate(later)]
        counted.append(sum(change.kind == "raised" for score in scores if (change := judge.take(score))))
    expected = 500.0 * 6 * 4000 * HOP / (7 * 24 * 3600)
    assert sum(counted) <= 3 * expected


@pytest.mark.parametrize("backend", [Backend(neighbours=2), Backend(density=4), Backend(distance="mahalanobis")])
def test_every_back_end_learns(backend: Backend) -> None:
    before = known_detector((backend,))
    commissioner = Commissioner(Plan(10, 1.0, clips=20), before, "00", RULE)
    commissioned(commissioner, vectors(4000, 1, place=1.0), before)
    found = commissioner.findings()
    assert len(found.learned.clips) == 20
    unseen = vectors(50, 2, place=1.0)
    old, new = ([one.judge(Heard(each), "00").value for each in unseen] for one in (before, found.detector))
    assert np.mean(new) < np.mean(old)


def test_only_sound_without_gaps_counts() -> None:
    before = known_detector()
    commissioner = Commissioner(Plan(8, 1.0), before, "00", RULE)
    commissioned(commissioner, vectors(1500, 1, place=1.0), before, gap_every=100)
    listened = 1500 * (1 - 1 / 100) * HOP
    assert commissioner.status.done == pytest.approx(listened / 480, rel=0.01)
    assert commissioner.phase == "measuring"


def test_a_machine_that_always_sounds_the_same_gives_no_threshold() -> None:
    before = known_detector()
    commissioner = Commissioner(Plan(8, 1.0), before, "00", RULE)
    commissioned(commissioner, np.tile(vectors(1, 1), (3000, 1)), before)
    with pytest.raises(DataError, match="which no running machine's are"):
        commissioner.findings()


def test_a_score_that_is_no_number_is_refused() -> None:
    commissioner = Commissioner(Plan(8, 1.0), known_detector(), "00", RULE)
    with pytest.raises(DataError, match="not a number"):
        commissioner.take(Score(float("nan"), "", 1.0), Heard(vectors(1, 0)[0]), np.zeros((2, 128), np.float32), "")


def test_it_learns_from_sound() -> None:
    """The whole way from samples, with a model that hears loudness: a machine that is louder here than in training."""
    listener = Listener(post())
    commissioner = Commissioner(Plan(8, 1.0, clips=12), detector(), "00", RULE)
    random = np.random.default_rng(0)
    now = 0.0
    for second in range(700):
        for block in blocks(noise(1, 0.03 * (1 + 0.05 * random.standard_normal()), second)):
            now += len(block.samples) / 16000
            for found in listener.take(block, now):
                if isinstance(found, Score) and commissioner.phase != "done":
                    commissioner.take(found, *listener.last(), "")
    found = commissioner.findings()
    assert found.before.threshold == 3.0
    assert found.before.alerts == 1  # 9.5 dB louder than it knew: one alert without end
    assert found.threshold < 3.0
    assert found.after.alerts == 0
    assert len(found.learned.clips) == 12
    assert found.spectrum.mean[50] > post().spectrum.mean[50] + 5  # type: ignore[union-attr]


def record(**changes: object) -> Site:
    given: dict[str, object] = {
        "format_version": 1,
        "made_utc": "2026-03-01T12:00:00.000Z",
        "machine": "fan",
        "section": "00",
        "bundle": "b" * 16,
        "front_end": FrontEnd(),
        "clips": (),
        "log_mels": "0" * 64,
        "heard": "0" * 64,
        "threshold": 1.5,
        "false_alarms": 1.0,
        "minutes": 30.0,
        "before": Promise(3.0, 2, 40.0),
        "after": Promise(1.5, 0, 1.0),
        "level_dbfs": -40.0,
        "spectrum": Spectrum((0.0,) * 128, (1.0,) * 128),
    }
    return Site(**{**given, **changes})  # type: ignore[arg-type]


def learned(count: int, seed: int = 0) -> Learned:
    random = np.random.default_rng(seed)
    log_mels = tuple(random.normal(-40, 5, (313, 128)).astype(np.float16).astype(np.float32) for _ in range(count))
    return Learned(
        tuple(f"site {number}" for number in range(count)),
        log_mels,
        tuple(Heard(random.normal(size=320).astype(np.float32)) for _ in range(count)),
    )


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    bundle = replace(some_bundle(), digest="b" * 16)
    known = learned(5)
    written = site.write(tmp_path, record(), known)
    assert site.read(tmp_path) == written
    again = site.learned(tmp_path, written, bundle, replace(detector(), front_end=FrontEnd()))
    assert again.clips == known.clips
    for one, other in zip(again.heard, known.heard, strict=True):
        np.testing.assert_array_equal(one.embedding, other.embedding)
    np.testing.assert_array_equal(again.log_mels, known.log_mels)


def test_another_network_hears_the_clips_again(tmp_path: Path) -> None:
    written = site.write(tmp_path, record(bundle="a" * 16), learned(3))
    bundle = replace(some_bundle(), digest="b" * 16)
    assert not written.promises(bundle)
    again = site.learned(tmp_path, written, bundle, detector())
    expected = [detector().hear(one).embedding for one in again.log_mels]
    np.testing.assert_allclose([one.embedding for one in again.heard], expected)
    assert again.heard[0].embedding.shape == (1,)  # of the other network


def test_undo_goes_back_a_step_and_then_to_the_bundle(tmp_path: Path) -> None:
    site.write(tmp_path, record(threshold=1.0), learned(2, seed=1))
    site.write(tmp_path, record(threshold=2.0), learned(3, seed=2))
    assert len(list((tmp_path / "site").iterdir())) == 6
    before = site.undo(tmp_path)
    assert before
    assert before.threshold == 1.0
    assert len(list((tmp_path / "site").iterdir())) == 3  # nothing lies about
    assert site.undo(tmp_path) is None
    assert list((tmp_path / "site").iterdir()) == []
    with pytest.raises(UsageError, match="nothing to undo"):
        site.undo(tmp_path)


def test_only_two_are_ever_kept(tmp_path: Path) -> None:
    for number in range(6):
        site.write(tmp_path, record(threshold=1.0 + number), learned(2, seed=number))
    assert len(list((tmp_path / "site").iterdir())) == 6


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    bundle = replace(some_bundle(), digest="b" * 16)
    written = site.write(tmp_path, record(), learned(2))
    [path] = (tmp_path / "site").glob("*.log_mels.npy")
    path.write_bytes(path.read_bytes()[:-10] + b"0123456789")
    with pytest.raises(StorageError, match=r"log_mels\.npy: is missing or damaged; run `edge-asd commission` again"):
        site.learned(tmp_path, written, bundle, detector())
    path.unlink()
    with pytest.raises(StorageError, match="is missing or damaged"):
        site.learned(tmp_path, written, bundle, detector())


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("log_mels", b"no array"),
        ("log_mels", b"PK\5\6" + bytes(18)),  # what NumPy would take for many arrays
        ("log_mels", npy.encode(np.zeros((2, 313, 64), np.float16))),
        ("log_mels", npy.encode(np.zeros((2, 313, 128), np.float32))),
        ("heard", npy.encode(np.zeros((2, 320), np.float32)).replace(b"(2, 320)", b"(2**60, 320)")),
        ("heard", npy.encode(np.zeros((2, 7), np.float32))),
        ("heard", npy.encode(np.full((2, 320), np.nan, np.float32))),
        ("heard", npy.encode(np.full((2, 320), 3e38, np.float32))),
    ],
)
def test_an_array_of_no_use_is_refused_though_its_digest_is_right(tmp_path: Path, kind: str, content: bytes) -> None:
    bundle = replace(some_bundle(), digest="b" * 16)
    written = site.write(tmp_path, record(), learned(2))
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "site" / f"{digest[:16]}.{kind}.npy").write_bytes(content)
    changed = msgspec.structs.replace(written, **{kind: digest})
    known = replace(known_detector(), front_end=FrontEnd())
    with pytest.raises(StorageError, match="run `edge-asd commission` again"), np.errstate(all="ignore"):
        site.joined(known, "00", site.learned(tmp_path, changed, bundle, known))


@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b'{"format_version": 2}', b"[" * 10000])
def test_a_record_that_nobody_wrote(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.json").write_bytes(content)
    with pytest.raises(StorageError, match="isn't what `edge-asd commission` writes"):
        site.read(tmp_path)


def test_a_request_and_its_report(tmp_path: Path) -> None:
    assert desk.requested(tmp_path) is None
    request = desk.Request("abc", 30.0, 1.0)
    desk.ask(tmp_path, request)
    assert desk.requested(tmp_path) == request
    assert desk.reported(tmp_path, "abc") is None
    desk.answer(tmp_path, desk.Report("abc", record()))
    assert desk.requested(tmp_path) is None
    report = desk.reported(tmp_path, "abc")
    assert report
    assert report.site == record()
    assert desk.reported(tmp_path, "abd") is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"id": "../x", "minutes": 30, "false_alarms": 1}', b"\xff"])
def test_a_request_that_nobody_would_make_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "commission.json").write_bytes(content)
    assert desk.requested(tmp_path) is None


def test_what_was_learned_in_words() -> None:
    text = "\n".join(desk.lines(record(clips=("a", "b"), doubts=("too short",))))
    for words in ("fan 00: 2 clips learned", "before             3       2              40", "warning: too short"):
        assert words in text
    assert "one in a week; level -40.0 dBFS" in text


def test_a_joined_bank_measures_as_all_embeddings_would() -> None:
    old, new, unseen = vectors(60, 0), vectors(30, 1, place=1.0), vectors(40, 2, place=1.0)
    bank = Bank.of(old, [str(number) for number in range(60)])
    both = bank.joined(new, [f"site {number}" for number in range(30)])
    everything = np.concatenate([old, new])
    for one in unseen:
        true = np.linalg.norm(everything - one, axis=1)
        found = both.nearest(one)
        assert found.distance == pytest.approx(true.min(), rel=0.03)
        assert both.clips[found.entry].startswith("site")


def test_a_damaged_record_is_gone_over_and_never_gone_back_to(tmp_path: Path) -> None:
    site.write(tmp_path, record(), learned(2))
    (tmp_path / "site" / "site.json").write_bytes(b"what is this?")
    written = site.write(tmp_path, record(threshold=9.0), learned(3, seed=1))
    assert site.read(tmp_path) == written
    assert not (tmp_path / "site" / "site.previous.json").exists()
    (tmp_path / "site" / "site.previous.json").write_bytes(b"what is this?")
    assert site.undo(tmp_path) is None


def test_what_is_in_force_stays_so_when_it_cannot_be_seen(tmp_path: Path) -> None:
    site.write(tmp_path, record(), learned(2))
    known = site.fingerprint(tmp_path)
    assert known
    (tmp_path / "site").rename(tmp_path / "gone")
    assert site.fingerprint(tmp_path, known) == known
    (tmp_path / "gone").rename(tmp_path / "site")
    assert site.fingerprint(tmp_path, known) == known
    site.undo(tmp_path)
    assert site.fingerprint(tmp_path, known) is None


def synced(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What lies in a folder each time that it is brought to the disk."""
    found: list[set[str]] = []
    sync = files.sync

    def sync_and_look(path: Path) -> None:
        sync(path)
        if path.is_dir():
            found.append({child.name for child in path.iterdir()})

    monkeypatch.setattr(files, "sync", sync_and_look)
    return found


def test_what_was_undone_does_not_come_back_with_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(tmp_path, record(threshold=1.0), learned(2, seed=1))
    site.write(tmp_path, record(threshold=2.0), learned(3, seed=2))
    known = synced(monkeypatch)
    site.undo(tmp_path)
    assert site.PREVIOUS not in known[-1]
    site.undo(tmp_path)
    assert site.FILE not in known[-1]


def test_a_request_that_was_taken_away_does_not_come_back_with_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ask(tmp_path, desk.Request("abc", 30.0, 1.0))
    known = synced(monkeypatch)
    desk.withdraw(tmp_path)
    assert known == [set()]


def test_a_request_that_was_answered_is_not_begun_anew(tmp_path: Path) -> None:
    """The power went between the report and the end of the request."""
    desk.answer(tmp_path, desk.Report("abc", record()))
    desk.ask(tmp_path, desk.Request("abc", 30.0, 1.0))
    work = SiteWork(tmp_path, post(), post, StreamClock())
    work.look(None)
    assert work.status is None
    assert desk.requested(tmp_path) is None
    desk.ask(tmp_path, desk.Request("abd", 30.0, 1.0))
    work.look(None)
    assert work.status


def test_what_broke_off_is_cleared_away(tmp_path: Path) -> None:
    site.write(tmp_path, record(), learned(2))
    kept = {path.name for path in (tmp_path / "site").iterdir()}
    ours = ["site/0123456789abcdef.heard.npy", "site/.site.json.abcd1234", ".commission.json.abcd_123"]
    ours += [".commissioned.json.12345678", ".shadow.json.abcdefgh"]
    ours += ["sounds/.a.flac.abcdefgh", "sounds/.a.png.abcdefgh"]
    others = ["sounds/a.flac", "events.sqlite", ".device.toml.swp"]
    (tmp_path / "sounds").mkdir()
    for name in (*ours, *others):
        (tmp_path / name).write_text("x")
    left_over.clear(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*others, *(f"site/{name}" for name in kept)}


def test_nothing_is_cleared_away_beside_a_record_of_a_later_version(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for name in ("site.json", "0123456789abcdef.heard.npy"):
        (tmp_path / "site" / name).write_text('{"format_version": 2}')
    left_over.clear(tmp_path)
    assert len(list((tmp_path / "site").iterdir())) == 2
    left_over.clear(tmp_path / "nowhere")
