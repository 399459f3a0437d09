"""A shadow beside the daemon: it begins, follows and ends as it should, and what listens never notices."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

import common
from edge_asd import bundle as bundles
from edge_asd import comparison, model, shadow_file, shadow_post, site, status
from edge_asd.bundle import Bundle
from edge_asd.capture import Block
from edge_asd.config import load
from edge_asd.daemon import run
from edge_asd.duty import Duty, Ears
from edge_asd.errors import BundleError, StorageError
from edge_asd.front_end import FrontEnd
from edge_asd.post import Opened, Post
from edge_asd.scoring import Score, StreamScorer
from edge_asd.shadow import Record, rank_correlation
from edge_asd.shadow_work import KEEP_SECONDS, ShadowWork
from edge_asd.verdict import AlarmRule
from listening_post import RATE, Log, StreamClock, absent, blocks, detector, device_toml, noise, post, tone

until = partial(common.until, seconds=60)


def another(bundle: Bundle, **changes: object) -> bytes:
    """The file of a bundle that differs in its manifest, or else in its card alone."""
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    fields = {name: getattr(bundle, name) for name in bundle.__dataclass_fields__}
    return bundles.encode(Bundle(**{**fields, "manifest": manifest, "model_card": "another\n"}))


class Heard:
    """A daemon whose shadow is what a test says it is, and all that comes out."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        shadow: Callable[[], Post] = post,
        *,
        running: Post | None = None,
        there: bool = True,
        site: object = None,
    ) -> None:
        self.folder = folder
        self.path = folder / "bundle.easd"
        if there:
            self.path.touch()
        self.clock = StreamClock()
        self.scores: list[Score] = []
        monkeypatch.setattr(shadow_post, "read", lambda *_: shadow())
        config = load(device_toml(folder, Path("fan.easd"), 'wav = "a.wav"'))
        running = running or post()
        self.work = ShadowWork(self.path, folder, running, lambda: config, self.clock, patient=True)
        ears = Ears(self.scores.append)
        self.duty = Duty(running, Log(), folder, clock=self.clock, ears=ears, shadow=self.work, site=site)  # type: ignore[arg-type]

    def take(self, *pieces: Iterable[Block]) -> Heard:
        for piece in pieces:
            for block in piece:
                self.clock.seconds += (len(block.samples) + block.lost) / RATE + (0.5 if block.absent else 0)
                self.duty.take(block)
        return self

    def end(self) -> Record:
        self.duty.end()
        self.work.end()
        found = shadow_file.read(self.folder)
        assert found
        return found


def other() -> Post:
    """Of the same network, held against another threshold."""
    known = post()
    return post(origin=msgspec.structs.replace(known.origin, bundle="f" * 16), rule=AlarmRule(6.0))


MISHAPS: dict[str, list[Iterable[Block]]] = {
    "nothing": [blocks(noise(30))],
    "a strange sound": [blocks(noise(15)), blocks(tone(15)), blocks(noise(20))],
    "a gap": [blocks(noise(20)), [Block(noise(0.1), lost=3 * RATE + 7)], blocks(noise(20))],
    "a gap while it begins": [blocks(noise(1)), [Block(noise(0.1), lost=7)], blocks(noise(20))],
    "no microphone": [blocks(noise(12)), absent(20), blocks(noise(30))],
    "a silence": [blocks(noise(15)), blocks(np.zeros(15 * RATE, np.float32)), blocks(noise(30))],
    "recordings": [
        [Block(noise(1), recording="a.wav", mean=0.01), *blocks(noise(14))],
        [Block(noise(1, seed=2), recording="b.wav", mean=0.0), *blocks(tone(14))],
    ],
}


@pytest.mark.parametrize("name", MISHAPS)
def test_the_same_bundle_scores_the_same_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pieces = [list(piece) for piece in MISHAPS[name]]
    heard = Heard(tmp_path, monkeypatch).take(*pieces)
    assert read_status(tmp_path).shadow == post().origin.bundle
    record = heard.end()
    assert record.moments > 0
    assert {running == shadow for running, shadow in record.pairs} == {True}
    assert record.of_running == record.of_shadow
    kept = [running for running, _ in record.pairs]
    told = [float(f"{score.value:.6g}") for score in heard.scores]
    assert set(kept) < set(told) if name in {"no microphone", "a silence"} else kept == told


def read_status(folder: Path) -> status.Status:
    found = status.read(folder)
    assert found
    return found


@pytest.mark.parametrize("seconds", [0.05, 3.0, 14.321])
def test_one_that_begins_later_sees_the_same_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """To the bit, from the second 10 s on: the mean that is subtracted is that of 10 s. Those before don't count."""
    heard = Heard(tmp_path, monkeypatch, there=False).take(blocks(noise(seconds)))
    assert read_status(tmp_path).shadow == ""
    heard.path.touch()
    heard.work.look()
    heard.take(blocks(noise(40, seed=2)))
    record = heard.end()
    assert record.moments == pytest.approx(20 / 0.256, abs=2)
    assert {running == shadow for running, shadow in record.pairs} == {True}


def test_one_whose_windows_are_others_is_compared_at_the_nearest_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from edge_asd.windows import Windows

    slower = replace(detector(), windows=Windows(hop=16))
    heard = Heard(tmp_path, monkeypatch, lambda: post(detector=slower)).take(blocks(noise(40)))
    record = heard.end()
    assert record.moment_seconds == 0.512
    assert record.moments == pytest.approx(len(heard.scores) / 2, abs=2)


def test_what_is_doubtful_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the microphone is silent scores go on, and mean nothing."""
    heard = Heard(tmp_path, monkeypatch).take(blocks(noise(15)), blocks(np.zeros(15 * RATE, np.float32)))
    assert heard.scores[-1].value > 10
    record = heard.end()
    assert record.of_running.most
    assert record.of_running.most < 3
    assert record.moments < len(heard.scores)


def test_it_has_a_threshold_of_its_own_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = post(rule=AlarmRule(1e6))
    heard = Heard(tmp_path, monkeypatch, other, running=running).take(blocks(noise(15)), blocks(tone(15)))
    record = heard.end()
    assert (record.of_running.alerts, record.of_shadow.alerts) == (0, 1)
    assert (record.running.threshold, record.shadow.threshold) == (1e6, 6.0)
    assert record.only_shadow > 0
    said = capsys.readouterr().err
    assert "ALERT" not in said
    assert f"shadow: bundle {'f' * 16}, section 00, scores beside 0123456789abcdef, threshold 6" in said


def test_it_goes_on_after_a_restart_and_begins_anew_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Heard(tmp_path, monkeypatch).take(blocks(noise(20))).end()
    again = Heard(tmp_path, monkeypatch).take(blocks(noise(20))).end()
    assert (again.since, again.moments) == (first.since, 2 * first.moments)
    assert f"goes on comparing since {first.since}" in capsys.readouterr().err
    anew = Heard(tmp_path, monkeypatch, other).take(blocks(noise(20))).end()
    assert (anew.shadow.bundle, anew.moments) == ("f" * 16, first.moments)
    (tmp_path / shadow_file.FILE_NAME).write_text("{}")
    capsys.readouterr()
    assert Heard(tmp_path, monkeypatch, other).take(blocks(noise(20))).end() == anew
    assert "shadow: comparing begins anew: " in capsys.readouterr().err


def test_another_threshold_of_what_listens_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Heard(tmp_path, monkeypatch).take(blocks(noise(20)))
    heard.duty.adopt(post(rule=AlarmRule(3.0, minimum_seconds=2.0)))  # the same threshold
    assert "begins anew" not in capsys.readouterr().err
    heard.duty.adopt(post(rule=AlarmRule(2.0)))
    assert "comparing begins anew, for what listens has changed" in capsys.readouterr().err
    before = len(heard.scores)
    record = heard.take(blocks(noise(5))).end()
    assert (record.running.threshold, record.moments) == (2.0, len(heard.scores) - before)


def test_without_a_shadow_nothing_is_written_and_nothing_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = set(threading.enumerate())
    heard = Heard(tmp_path, monkeypatch, there=False).take(blocks(noise(12)))
    assert set(threading.enumerate()) <= threads
    heard.duty.end()
    heard.work.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device.toml", "status.json"]
    assert capsys.readouterr().err == ""


def test_it_is_kept_at_most_every_ten_minutes_and_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = shadow_file.write

    def count(state: Path, record: Record) -> None:
        written.append(record.moments)
        write(state, record)

    monkeypatch.setattr(shadow_file, "write", count)
    heard = Heard(tmp_path, monkeypatch).take(blocks(noise(12)))
    until(lambda: written == [0])  # another one's would else be shown
    moments = len(heard.scores)
    heard.work.look()
    until(lambda: written == [0, moments])
    heard.clock.seconds += KEEP_SECONDS - 2
    heard.take(blocks(noise(1)))
    assert written == [0, moments]
    heard.take(blocks(noise(20)))
    until(lambda: len(written) == 3)
    heard.end()
    assert len(written) == 4
    assert written[-1] == len(heard.scores)


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ValueError("the disk is full")])
def test_a_disk_that_fails_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(shadow_file, "write", full)
    heard = Heard(tmp_path, monkeypatch)
    for _ in range(5):
        heard.take(blocks(noise(5)))
        heard.work.look()
    heard.duty.end()
    heard.work.end()
    assert capsys.readouterr().err.count("what is compared isn't kept: the disk is full") == 1
    assert heard.scores


def test_a_disk_that_hangs_holds_up_nothing_and_nothing_piles_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, written, write = threading.Event(), [], shadow_file.write

    def slow(state: Path, record: Record) -> None:
        assert goes_on.wait(60)
        written.append(record.moments)
        write(state, record)

    monkeypatch.setattr(shadow_file, "write", slow)
    heard = Heard(tmp_path, monkeypatch).take(blocks(noise(12)))
    for _ in range(50):
        heard.work.look()
    heard.take(blocks(noise(1)))
    assert written == []
    assert heard.work._worker._work_queue.qsize() <= 1
    goes_on.set()
    assert heard.end().moments == len(heard.scores)
    assert len(written) <= 3


class Broken:
    """A network that gives up after so many windows, or gives what is no number."""

    name = "broken"

    def __init__(self, windows: int, value: float | None = None) -> None:
        self.left = windows
        self._value = value
        self._model = detector().model

    def prepare(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel

    def embed(self, windows: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left < 0 and self._value is None:
            raise MemoryError("no room")
        found = self._model.embed(windows)
        return found if self.left >= 0 or self._value is None else found * self._value


@pytest.mark.parametrize(("value", "words"), [(None, "MemoryError: no room"), (np.nan, "it scores nan")])
def test_a_shadow_that_breaks_ends_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: float | None,
    words: str,
) -> None:
    from dataclasses import replace

    sound = np.concatenate([noise(15), tone(15), noise(15)])
    alone = Heard(tmp_path, monkeypatch, there=False).take(blocks(sound))
    broken = replace(detector(), model=Broken(50, value))
    heard = Heard(tmp_path, monkeypatch, lambda: post(detector=broken)).take(blocks(sound))
    assert heard.scores == alone.scores
    assert read_status(tmp_path).shadow == ""
    said = capsys.readouterr().err
    assert said.count("edge-asd: the shadow has ended, listening goes on: ") == said.count(words) == 1
    heard.duty.end()
    heard.work.end()
    record = shadow_file.read(tmp_path)
    assert record
    assert 0 < record.moments <= 20


@pytest.mark.parametrize("error", [BundleError("damaged"), RuntimeError("of ours")])
def test_a_shadow_that_cannot_be_read_is_left_out_and_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse() -> Post:
        raise error

    heard = Heard(tmp_path, monkeypatch, refuse).take(blocks(noise(12)))
    [said] = [line for line in capsys.readouterr().err.splitlines() if "shadow" in line]
    assert said.startswith("edge-asd: listening without a shadow: ")
    assert str(error) in said
    monkeypatch.setattr(shadow_post, "read", lambda *_: post())
    heard.work.look()
    assert heard.take(blocks(noise(25))).end().moments > 0


def test_reading_it_holds_up_nothing_and_ends_with_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    """A site of many clips, all of which the new network is to hear: on a small board that takes half a minute."""
    began, given_up = threading.Event(), []

    def learned(state: Path, record: site.Site, bundle: Bundle, known: object) -> site.Learned:
        began.set()
        try:
            while True:
                known.hear(np.zeros((313, 128), np.float32))  # type: ignore[attr-defined]
        except InterruptedError as error:
            given_up.append(error)
            raise

    state = tmp_path / "state"
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"'))
    opened = Opened(config).post(config)
    learn(state, opened, [noise(10)])
    monkeypatch.setattr(site, "learned", learned)
    clock, scores = StreamClock(), list[Score]()
    work = ShadowWork(tiny_bundle, state, opened, lambda: config, clock)
    duty = Duty(opened, Log(), state, clock=clock, ears=Ears(scores.append), shadow=work)
    assert began.wait(30)
    for block in blocks(noise(12)):
        duty.take(block)
    assert len(scores) == 8
    assert work.digest == ""
    work.end()
    assert len(given_up) == 1


def learn(state: Path, known: Post, clips: list[np.ndarray], bundle: str = "") -> site.Site:
    """What a site would have learned of some clips."""
    # As they are kept, so that whoever hears them again hears the same.
    kept = [known.detector.front_end.log_mel(clip).astype(np.float16) for clip in clips]
    log_mels = tuple(one.astype(np.float32) for one in kept)
    heard: tuple[comparison.Heard, ...] = tuple(known.detector.hear(one) for one in log_mels)
    from edge_asd.deviation import Spectrum

    record = site.Site(
        format_version=1,
        made_utc="2026-01-01T00:00:00.000Z",
        machine=known.origin.machine,
        section=known.origin.section,
        bundle=bundle or known.origin.bundle,
        front_end=known.detector.front_end,
        clips=(),
        log_mels="",
        heard="",
        threshold=123.0,
        false_alarms=1.0,
        minutes=10,
        before=site.Promise(1.0, 0, 0.0),
        after=site.Promise(1.0, 0, 0.0),
        level_dbfs=None,
        spectrum=Spectrum.of(log_mels),
    )
    names = tuple(f"{number}.wav" for number in range(len(clips)))
    return site.write(state, record, site.Learned(names, log_mels, heard))


def test_what_was_learned_on_site_meanwhile_is_soon_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, reads = post(), []

    def counted() -> Post:
        reads.append(len(reads))
        return known

    class Commissioned:
        """Has learned something once there is a record, and puts another threshold in force."""

        status = None

        def look(self, level_dbfs: float | None) -> Post | None:
            return post(rule=AlarmRule(2.0)) if site.fingerprint(tmp_path) and len(reads) == 1 else None

    heard = Heard(tmp_path, monkeypatch, counted, site=Commissioned()).take(blocks(noise(2)))
    heard.work.look()
    assert reads == [0]
    learn(tmp_path, known, [noise(10)])
    heard.take(blocks(noise(2)))
    assert reads == [0, 1]
    assert heard.work.digest == known.origin.bundle
    assert heard.end().running.threshold == 2.0


def test_a_second_network_of_a_process_leaves_standard_error_alone(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read while others speak: nothing of theirs may be lost. Only the first one greets there."""
    bundle = bundles.read(tiny_bundle)
    bundle.detector()
    monkeypatch.setattr(model, "silenced", lambda: pytest.fail("what others say would be lost"))
    bundle.detector()


def daemon(folder: Path, bundle: Path, shadow: Path | None) -> tuple[list[Score], Record | None]:
    scores: list[Score] = []
    config = load(device_toml(folder, bundle, 'wav = "a.wav"\npace = "fast"'))
    run(config, ears=Ears(scores.append), shadow=shadow)
    return scores, shadow_file.read(config.state)


def test_what_listens_scores_the_same_with_a_shadow_and_without(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise(15), 0.2 * tone(15)]), RATE)
    alone, none = daemon(tmp_path, tiny_bundle, None)
    absent_one, still_none = daemon(tmp_path, tiny_bundle, tmp_path / "shadow" / "bundle.easd")
    assert (none, still_none) == (None, None)
    assert "shadow" not in capsys.readouterr().err
    with_itself, record = daemon(tmp_path, tiny_bundle, tiny_bundle)
    assert alone == absent_one == with_itself
    assert record
    assert record.moments == len(alone)
    assert {running == shadow for running, shadow in record.pairs} == {True}
    assert rank_correlation(record.pairs) == 1.0
    known = bundles.read(tiny_bundle)
    assert (record.shadow.bundle, record.shadow.section) == (known.digest, "00")
    assert record.running.threshold == 1e6
    assert record.shadow.threshold == known.manifest.sections["00"].thresholds.alarm


def test_the_shadow_knows_the_site_and_keeps_its_own_threshold(tmp_path: Path, tiny_bundle: Path) -> None:
    """The site's threshold was measured with another bundle."""
    soundfile.write(tmp_path / "a.wav", noise(15), RATE)
    path = tmp_path / "shadow.easd"
    path.write_bytes(another(bundles.read(tiny_bundle)))
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"', ""))
    learn(config.state, Opened(config).post(config), [noise(10)])
    path_of_config = device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"\npace = "fast"', "")
    run(load(path_of_config), shadow=path)
    record = shadow_file.read(config.state)
    assert record
    assert record.running.threshold == 123.0
    assert record.shadow.threshold == bundles.read(path).manifest.sections["00"].thresholds.alarm
    assert record.running.site == record.shadow.site == "2026-01-01T00:00:00.000Z"
    assert {running == shadow for running, shadow in record.pairs} == {True}  # the same network, the same clips


def test_a_path_that_leads_nowhere_is_said_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle.easd").symlink_to("bundle.easd")
    heard = Heard(tmp_path, monkeypatch, there=False).take(blocks(noise(12)))
    assert len(heard.scores) == 8
    assert capsys.readouterr().err.count("the shadow can't be looked for, listening goes on: OSError") == 1
    heard.duty.end()
    heard.work.end()


SLOW = FrontEnd(sample_rate=8000, fmax=4000.0)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda bundle: another(bundle)[:-100], "damaged or not a bundle"),
        (lambda bundle: b"", "damaged or not a bundle"),
        (
            lambda bundle: another(bundle, front_end=SLOW),
            "hears 8000 Hz, expected 16000 Hz",
        ),
        (lambda bundle: another(renamed(bundle, "01", "02")), "has no section '00', it has 01, 02"),
    ],
)
def test_a_shadow_that_cannot_be_used_is_said_in_a_line(
    tmp_path: Path,
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Bundle], bytes],
    words: str,
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(12), RATE)
    path = tmp_path / "shadow.easd"
    path.write_bytes(damage(bundles.read(tiny_bundle)))
    scores, record = daemon(tmp_path, tiny_bundle, path)
    assert len(scores) == 8
    assert record is None
    [said] = [line for line in capsys.readouterr().err.splitlines() if "shadow" in line]
    assert said.startswith(f"edge-asd: listening without a shadow: {path}: ")
    assert words in said


def renamed(bundle: Bundle, *names: str) -> Bundle:
    """A bundle that has its first section under these names, and no other."""
    known = bundle.manifest.sections["00"]
    manifest = msgspec.structs.replace(
        bundle.manifest,
        sections=dict.fromkeys(names, known),
        golden=msgspec.structs.replace(bundle.manifest.golden, section=names[0]),
    )
    fields = {name: getattr(bundle, name) for name in bundle.__dataclass_fields__}
    banks = dict.fromkeys(names, bundle.banks["00"])
    return Bundle(**{**fields, "manifest": manifest, "banks": banks})


def test_a_shadow_of_one_section_scores_that(tmp_path: Path, tiny_bundle: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(12), RATE)
    path = tmp_path / "shadow.easd"
    path.write_bytes(another(renamed(bundles.read(tiny_bundle), "07")))
    _, record = daemon(tmp_path, tiny_bundle, path)
    assert record
    assert (record.running.section, record.shadow.section) == ("00", "07")
    assert {running == shadow for running, shadow in record.pairs} == {True}


FAST = """
import sys, time
with open(sys.argv[1], "rb") as file:
    while piece := file.read(3200):
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        time.sleep(0.01)
time.sleep(600)
"""


def test_hangup_begins_and_ends_it_and_loses_no_sample(tmp_path: Path, tiny_bundle: Path) -> None:
    """The microphone of this test hears ten times as fast as time passes, for a shadow counts after 20 s."""
    samples = (noise(900, 0.1) * 32767).astype(np.int16)
    samples.tofile(tmp_path / "a.raw")
    capture = f"command = {json.dumps([sys.executable, '-c', FAST, str(tmp_path / 'a.raw')])}"
    config = device_toml(tmp_path, tiny_bundle, capture, "[sensor]\nrate_share = 0\n")
    state, link = tmp_path / "state", tmp_path / "shadow"
    releases = [tmp_path / "one", tmp_path / "two"]
    known = bundles.read(tiny_bundle)
    for folder, content in zip(releases, (another(known), tiny_bundle.read_bytes()), strict=True):
        folder.mkdir()
        (folder / "bundle.easd").write_bytes(content)
    digests = [bundles.read(folder / "bundle.easd").digest for folder in releases]
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config), "--json"]
    command += ["--shadow", str(link / "bundle.easd")]

    def hung_up(shadow: str) -> None:
        child.send_signal(signal.SIGHUP)
        until(lambda: read_status(state).shadow == shadow)

    def heard() -> float:
        return read_status(state).heard_seconds

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            told: list[str] = []
            reader = threading.Thread(target=lambda: told.extend(child.stdout or ()))
            reader.start()
            until(lambda: status.read(state) and heard() > 1)
            hung_up("")
            assert shadow_file.read(state) is None
            link.symlink_to(releases[0])
            hung_up(digests[0])
            beside = tmp_path / ".shadow"
            beside.symlink_to(releases[1])
            beside.replace(link)
            hung_up(digests[1])
            since = heard()
            until(lambda: heard() > since + 30)
            link.unlink()
            hung_up("")
            until(lambda: (found := shadow_file.read(state)) and found.moments > 0)
            child.terminate()
            child.wait(timeout=30)
            reader.join(30)
            said = child.stderr.read() if child.stderr else ""
        finally:
            child.kill()
    assert child.returncode == 0, said
    assert said.count("shadow: is over") == 1
    assert [said.count(f"shadow: bundle {digest}") for digest in digests] == [1, 1]
    assert read_status(state).lost_samples == 0
    scores = [line["score"] for line in map(json.loads, told) if line["kind"] == "score"]
    sound = samples[: int(read_status(state).heard_seconds + 60) * RATE] / np.float32(32768)
    alone = StreamScorer(known.detector(), "00").push(sound.astype(np.float32))
    assert len(scores) < len(alone)
    assert scores == [score.value for score in alone[: len(scores)]]
    record = shadow_file.read(state)
    assert record
    assert record.running.bundle == record.shadow.bundle == known.digest
    assert {running == shadow for running, shadow in record.pairs} == {True}
