"""The page of a device as a browser shows it: what it says of what the device hears, on a desk and on a phone."""

from __future__ import annotations

import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import pytest
import soundfile
from playwright.sync_api import BrowserContext, Page, expect

from chromium import chromium
from edge_asd.errors import StorageError
from edge_asd.events import Band, Event
from edge_asd.front_end import FrontEnd
from edge_asd.live import Live
from edge_asd.page import PageServer
from edge_asd.scoring import Score
from edge_asd.settings import PageSettings
from edge_asd.status import Commissioning, SinkStatus, Status

PHONE = (360, 740)
DESK = (1280, 1000)
THRESHOLD = 14.0
ATTACK = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
TOKEN = "0123456789abcdef-token"  # noqa: S105 - of these tests alone
INK = """(id) => {
  const canvas = document.getElementById(id), seen = new Set(), copy = document.createElement("canvas");
  copy.width = canvas.width, copy.height = canvas.height;
  const pen = copy.getContext("2d", {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  for (let at = 0; at < data.length; at += 4) seen.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
  return seen.size;
}"""


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def picture(path: Path) -> None:
    """A PNG of 600 x 128 grey levels, as small as one can be written."""
    rows = np.sin(np.add.outer(np.linspace(0, 20, 128), np.linspace(0, 60, 600))) * 60 + 128
    octets = b"".join(b"\0" + row.tobytes() for row in rows.astype(np.uint8))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 600, 128, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(octets)) + chunk(b"IEND", b"")
    )


class Device:
    """A daemon that hears made-up sound: a quarter of an hour of it at once, then as time goes by."""

    def __init__(self, folder: Path, port: int = 0, **settings: Any) -> None:
        self.clips = folder / "clips"
        self.clips.mkdir(exist_ok=True)
        self.began = datetime.now(UTC) - timedelta(minutes=14)
        self.status = Status(
            version="0.1.0",
            device="pi-hall-3",
            pid=4711,
            bundle="9f2c4be01a77d3e8",
            machine="fan",
            section="00",
            since=iso(self.began),
            updated=iso(datetime.now(UTC)),
            heard_seconds=840.0,
            scores=3281,
            last_score=9.87,
            threshold=THRESHOLD,
            threshold_from="site",
            alert=False,
            rms_dbfs=-38.2,
            peak_dbfs=-21.4,
            level_dbfs=-40.1,
            lost_samples=0,
            synchronised=True,
            site=iso(self.began - timedelta(days=3)),
            sinks=(SinkStatus(name="mqtt"),),
            resident_mb=66.0,
        )
        self.log: list[Event] = []
        self.trouble = ""
        self.live = Live(self.status)
        self.random = np.random.default_rng(1)
        self._ending, self._thread = threading.Event(), threading.Thread(target=self._hear, daemon=True)
        page = PageSettings(listen=f"127.0.0.1:{port}", **settings)
        self.server = PageServer(
            page, self.live, self, self.clips, bands_hz=FrontEnd().band_edges[1:-1], say=lambda line: None
        )

    def newest(self, count: int) -> list[Event]:
        if self.trouble:
            raise StorageError(self.trouble)
        return self.log[:count]

    def event(self, id: str) -> Event | None:  # noqa: A002
        return next((event for event in self.log if event.id == id), None)

    def __enter__(self) -> Self:
        for back in range(840 * 4, 0, -1):
            self._score(datetime.now(UTC) - timedelta(seconds=back / 4))
        self.live.show(self._frames(640))
        self.server.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self.server.__exit__(kind, error, traceback)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.address[1]}/"

    def tell(self, **changes: Any) -> None:
        self.status = msgspec.structs.replace(self.status, **changes)

    def strange(self, number: int, minutes_ago: float, lasted: float = 24.0, **changes: Any) -> Event:
        """An event of the past, with its sound and its picture."""
        began = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        event = Event(
            id=f"{number:032x}",
            kind="anomaly",
            device="pi-hall-3",
            machine="fan",
            section="00",
            bundle="9f2c4be01a77d3e8",
            began_utc=iso(began),
            raised_utc=iso(began + timedelta(seconds=2)),
            ended_utc=iso(began + timedelta(seconds=lasted)),
            began_s=100.0,
            raised_s=102.0,
            ended_s=100.0 + lasted,
            synchronised=True,
            peak=18.34,
            peak_s=110.0,
            threshold=THRESHOLD,
            nearest="section_00_source_train_normal_0017_strength_1_ambient",
            bands=(Band(1210.0, 1590.0, 9.2), Band(3100.0, 4200.0, 6.1), Band(180.0, 340.0, -3.8)),
            clip=f"strange-{number}",
        )
        event = msgspec.structs.replace(event, **changes)
        if event.clip:
            tone = np.sin(np.arange(12 * 16000) * 2 * np.pi * 440 / 16000).astype(np.float32) * 0.2
            soundfile.write(self.clips / f"{event.clip}.flac", tone, 16000)
            picture(self.clips / f"{event.clip}.png")
        self.log.insert(0, event)
        return event

    def _hear(self) -> None:
        while not self._ending.wait(0.25):
            now = datetime.now(UTC)
            value = self._score(now)
            self.live.show(self._frames(8))
            self.tell(updated=iso(now), last_score=value if self.status.last_score is not None else None)
            self.live.tell(self.status)

    def _score(self, moment: datetime) -> float:
        ago = (datetime.now(UTC) - moment).total_seconds()
        hill = sum(8.0 * np.exp(-(((ago - 60 * minutes + 12) / 11) ** 2)) for minutes in (4.0, 9.0))
        value = float(9.0 + np.sin(ago / 35) * 0.8 + self.random.normal(0, 0.35) + hill)
        self.live.take(Score(seconds=ago, value=value, nearest=""), moment)
        return value

    def _frames(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        bands = np.arange(128)
        hum = 22 * np.exp(-(((bands - 20) / 2.0) ** 2)) + 16 * np.exp(-(((bands - 58) / 3.0) ** 2))
        return (-42 - bands * 0.18 + hum + self.random.normal(0, 2.5, (count, 128))).astype(np.float32)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with chromium(tmp_path_factory.mktemp("profile"), locale="en-GB", timezone_id="Europe/Berlin") as context:
        context.set_default_timeout(20_000)
        yield context


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path) as device:
        device.strange(1, 9.0)
        device.strange(2, 4.0, 31.0)
        yield device


Opened = tuple[Page, list[str]]


@pytest.fixture
def opened(browser: BrowserContext) -> Iterator[Callable[..., Opened]]:
    """Opens a tab; and what the browser complained of, or asked others for."""
    tabs: list[Page] = []

    def open_(url: str, size: tuple[int, int] = DESK, scheme: Any = "light") -> Opened:
        tab = browser.new_page()
        tabs.append(tab)
        tab.set_viewport_size({"width": size[0], "height": size[1]})
        tab.emulate_media(color_scheme=scheme)
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        tab.on(
            "request",
            lambda request: None if request.url.startswith(url) else complaints.append(f"asked for: {request.url}"),
        )
        tab.goto(url)
        return tab, complaints

    yield open_
    for tab in tabs:
        tab.close()


def drawn(tab: Page, canvas: str, colours: int) -> None:
    """Wait until there is a picture on a canvas."""
    until(tab, f"({INK})('{canvas}') > {colours}")


def until(tab: Page, script: str) -> None:
    """Wait until a script is true. Playwright's own way asks again by eval, which the page forbids."""
    waited(tab, lambda: tab.evaluate(script), script)


def waited(tab: Page, true: Callable[[], object], what: str) -> None:
    """Wait until something is true, and listen to the browser meanwhile."""
    patience = time.monotonic() + 20
    while not true():
        assert time.monotonic() < patience, f"it never came true: {what}"
        tab.wait_for_timeout(50)


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_nothing_is_wrong_with_the_page(
    device: Device, opened: Callable[..., Opened], size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    tab, complaints = opened(device.url, size, scheme)
    expect(tab.locator("#said")).to_have_text("Sounds like itself")
    expect(tab.locator("#events > li")).to_have_count(2)
    for canvas, colours in (("frames", 100), ("scores", 20), ("level", 3)):
        drawn(tab, canvas, colours)
    tab.wait_for_timeout(1500)
    wide, room = tab.evaluate("(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(document.scrollingElement)")
    assert wide <= room
    small = tab.evaluate("""() => [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility()
        && [...one.childNodes].some((node) => node.nodeType == Node.TEXT_NODE && node.data.trim())
        && parseFloat(getComputedStyle(one).fontSize) < 14).map((one) => one.textContent)""")
    assert small == []
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 384) == (scheme == "dark")
    assert complaints == []
    tab.screenshot(path=tmp_path / f"{size[0]}-{scheme}.png", full_page=True)


def test_what_is_written_can_be_read(device: Device, opened: Callable[..., Opened]) -> None:
    """Contrast of every text to its ground, WCAG AA: 4.5."""
    for scheme in ("light", "dark"):
        tab, _ = opened(device.url, DESK, scheme)
        expect(tab.locator("#events > li")).to_have_count(2)
        pale = tab.evaluate("""() => {
          const parts = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
          const light = (colour) => parts(colour).slice(0, 3).map((one) => one / 255)
            .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
            .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
          const ground = (one) => {
            for (; one; one = one.parentElement) {
              const colour = getComputedStyle(one).backgroundColor, [, , , opacity = 1] = parts(colour);
              if (opacity > 0) return colour;
            }
            return "rgb(255, 255, 255)";
          };
          return [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility()
            && [...one.childNodes].some((node) => node.nodeType == Node.TEXT_NODE && node.data.trim()))
            .map((one) => [light(getComputedStyle(one).color), light(ground(one)), one.textContent])
            .filter(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5);
        }""")
        assert pale == []


def test_an_event_says_when_how_long_and_where_in_the_spectrum(device: Device, opened: Callable[..., Opened]) -> None:
    tab, _ = opened(device.url)
    newest = tab.locator("#events > li").first
    expect(newest).to_contain_text("Lasted 31 s")
    expect(newest).to_contain_text("Peak 18.34, 1.31 times the threshold (14)")
    expect(newest).to_contain_text("Nearest normal clip: section_00_source_train_normal_0017_strength_1_ambient")
    assert newest.locator(".bands li").all_inner_texts() == [
        "1.2\u20131.6 kHz +9 dB",
        "3.1\u20134.2 kHz +6 dB",
        "180\u2013340 Hz \u22124 dB",
    ]
    began = datetime.fromisoformat(device.log[0].began_utc)
    moment = newest.locator("time").first
    assert moment.get_attribute("datetime") == device.log[0].began_utc
    assert moment.get_attribute("title") == began.strftime("%Y-%m-%d %H:%M:%S UTC")
    hour = tab.evaluate("(iso) => new Date(iso).toLocaleTimeString('en-GB', {timeZone: 'Europe/Berlin'})", iso(began))
    assert hour in moment.inner_text()
    image = newest.locator("img")
    image.scroll_into_view_if_needed()
    until(tab, "document.querySelector('#events img').naturalWidth == 600")


def test_the_sound_of_an_event_plays_while_the_list_goes_on(device: Device, opened: Callable[..., Opened]) -> None:
    tab, complaints = opened(device.url)
    sound = tab.locator("#events > li").first.locator("audio")
    assert sound.get_attribute("preload") == "none"
    sound.evaluate("sound => { window.sound = sound; return sound.play(); }")
    until(tab, "window.sound.currentTime > 0.3")
    assert tab.evaluate("window.sound.duration") == pytest.approx(12.0)
    device.strange(3, 0.2, 5.0)
    device.tell(alert=True)  # it asks for events at once
    expect(tab.locator("#events > li")).to_have_count(3)
    assert not tab.evaluate("window.sound.paused")
    before = tab.evaluate("window.sound.currentTime")
    until(tab, f"window.sound.currentTime > {before + 0.3}")
    tab.evaluate("window.sound.currentTime = 6")
    until(tab, "window.sound.currentTime > 6.2")
    tab.evaluate("window.sound.currentTime = 11.8")  # Chromium may fail to, and must be able to play it again
    until(tab, "window.sound.paused")
    tab.evaluate("window.sound.play()")
    until(tab, "!window.sound.paused && window.sound.currentTime > 0.2 && window.sound.currentTime < 6")
    assert complaints == []


def test_a_sound_that_is_gone_is_said_to_be(device: Device, opened: Callable[..., Opened]) -> None:
    (device.clips / "strange-2.flac").unlink()
    tab, _ = opened(device.url)
    event = tab.locator("#events > li").first
    event.locator("audio").evaluate("sound => sound.play().catch(() => 0)")
    expect(event).to_contain_text("This sound can't be had: it is no longer kept, or not yet.")


@pytest.mark.parametrize(
    ("changes", "state", "said", "why"),
    [
        ({"alert": True}, "strange", "Sounds strange", "An alert is on."),
        (
            {"gated": True, "faults": ("silent",), "sensor": "It hears nothing: see to its plug."},
            "deaf",
            "Can't hear: silent",
            "It hears nothing: see to its plug.",
        ),
        ({"last_score": None}, "waiting", "Listens", "The first score takes ten seconds of sound."),
        (
            {"commissioning": Commissioning(phase="learning", done=0.42, said="Some 17 hours are left.")},
            "learning",
            "Gets to know the machine",
            "No alerts until it does.",
        ),
    ],
)
def test_the_verdict_is_plain(
    device: Device, opened: Callable[..., Opened], changes: dict[str, Any], state: str, said: str, why: str
) -> None:
    tab, complaints = opened(device.url)
    expect(tab.locator("#said")).to_have_text("Sounds like itself")
    device.tell(**changes)
    expect(tab.locator("#said")).to_have_text(said)
    expect(tab.locator("#why")).to_have_text(why)
    assert tab.locator("#said").get_attribute("aria-live") == "polite"
    assert tab.locator("#verdict").get_attribute("data-state") == state
    assert tab.title() == f"{said} · fan 00"
    assert complaints == []


def test_commissioning_shows_how_far_it_is(device: Device, opened: Callable[..., Opened]) -> None:
    tab, _ = opened(device.url)
    expect(tab.locator("#commissioning")).to_be_hidden()
    device.tell(commissioning=Commissioning(phase="measuring", done=0.42, said="Some 17 hours are left."))
    expect(tab.locator("#percent")).to_have_text("42 %")
    assert tab.locator("#done").evaluate("one => one.value") == 42
    expect(tab.locator("#phase")).to_contain_text("It measures what that sounds like")
    expect(tab.locator("#phase")).to_contain_text("Some 17 hours are left.")
    device.tell(commissioning=None)
    expect(tab.locator("#commissioning")).to_be_hidden()


def test_health_says_what_is_wrong(device: Device, opened: Callable[..., Opened]) -> None:
    tab, _ = opened(device.url)
    health = tab.locator("#health")
    expect(health).to_contain_text("hears rightly")
    expect(health.locator(".wrong")).to_have_count(0)
    expect(tab.locator("#clock")).to_be_hidden()
    device.tell(
        synchronised=False,
        lost_samples=12345,
        storage="the disk is full",
        unwritten=3,
        sinks=(SinkStatus(name="mqtt", waiting=7, missed=2, trouble="no answer"), SinkStatus(name="webhook")),
    )
    expect(tab.locator("#clock")).to_be_visible()
    for said in (
        "12,345 so far",
        "not known to be right",
        "the disk is full; 3 events wait for it",
        "no answer; 7 messages wait; 2 were dropped",
        "66 MB",
        "14, learned on this site",
        "9f2c4be01a77d3e8",
    ):
        expect(health).to_contain_text(said)
    expect(health.locator(".wrong")).to_have_count(3)


def test_an_event_that_goes_on_and_one_of_the_microphone(device: Device, opened: Callable[..., Opened]) -> None:
    device.strange(5, 2.0, ended_s=None, ended_utc=None, clip="", synchronised=False)
    sensor = {"kind": "sensor", "fault": "clipping", "said": "Too loud: turn it down.", "peak": None, "bands": ()}
    device.strange(6, 1.0, clip="", nearest="", **sensor)
    device.tell(alert=True)
    tab, _ = opened(device.url)
    newest = tab.locator("#events > li").first
    expect(newest).to_contain_text("Microphone: clipping")
    expect(newest).to_contain_text("Too loud: turn it down.")
    expect(newest.locator("audio")).to_have_count(0)
    expect(newest).not_to_contain_text("Peak")
    second = tab.locator("#events > li").nth(1)
    expect(second).to_contain_text("Goes on since 2 min")
    expect(second).to_contain_text("The clock wasn't known to be right then.")
    device.tell(alert=False)
    expect(second).to_contain_text("Its end wasn't heard")


def test_names_are_text_whatever_they_hold(device: Device, opened: Callable[..., Opened]) -> None:
    device.strange(7, 0.5, nearest=ATTACK, clip="")
    device.strange(8, 0.4, kind="sensor", fault=ATTACK, said=ATTACK, clip="")
    device.tell(device=ATTACK, machine=ATTACK, sensor=ATTACK, faults=(ATTACK,), gated=True, threshold_from=ATTACK)
    tab, complaints = opened(device.url)
    expect(tab.locator("#said")).to_have_text(f"Can't hear: {ATTACK}")
    expect(tab.locator("#events > li").nth(1)).to_contain_text(f"Nearest normal clip: {ATTACK}")
    expect(tab.locator("#machine")).to_have_text(f"{ATTACK} 00")
    assert tab.locator("img[onerror]").count() == 0
    assert tab.locator("script").count() == 1
    assert tab.title().startswith("Can't hear: <img")
    assert complaints == []


def test_a_day_is_shown_by_the_minute(device: Device, opened: Callable[..., Opened]) -> None:
    for minute in range(24 * 60, 15, -1):
        moment = datetime.now(UTC) - timedelta(minutes=minute)
        device.live.take(Score(seconds=0.0, value=9 + np.sin(minute / 90), nearest=""), moment)
    tab, complaints = opened(device.url)
    expect(tab.locator("#legend-range")).to_be_hidden()
    tab.get_by_role("button", name="24 h").click()
    expect(tab.locator("#day")).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("#legend-range")).to_be_visible()
    expect(tab.locator("#scores")).to_have_attribute("aria-label", re.compile("last 24 hours.*at most"))
    tab.get_by_role("button", name="15 min").click()
    expect(tab.locator("#scores")).to_have_attribute("aria-label", re.compile("last 15 minutes: now .*threshold 14"))
    assert complaints == []


def test_earlier_events_are_shown_when_asked_for(device: Device, opened: Callable[..., Opened]) -> None:
    for number in range(10, 45):
        device.strange(number, 60.0, clip="")
    tab, _ = opened(device.url)
    expect(tab.locator("#events > li")).to_have_count(20)
    tab.get_by_role("button", name="Show earlier ones").click()
    expect(tab.locator("#events > li")).to_have_count(37)
    expect(tab.locator("#more")).to_be_hidden()


def test_a_database_that_fails_is_said(device: Device, opened: Callable[..., Opened]) -> None:
    device.trouble = "events.db: the disk is full"
    tab, _ = opened(device.url)
    expect(tab.locator("#no-events")).to_have_text("events.db: the disk is full")
    expect(tab.locator("#said")).to_have_text("Sounds like itself")


def test_the_log_mel_is_the_right_way_up(device: Device, opened: Callable[..., Opened]) -> None:
    """A tone at 1 kHz is bright at the height that is marked 1 kHz, and nowhere else."""
    band = int(np.argmin(np.abs(FrontEnd().band_edges[1:-1] - 1000.0)))
    frames = np.full((640, 128), -60.0, np.float32)
    frames[:, band - 1 : band + 2] = 0.0
    device._frames = lambda count: frames[:count]  # type: ignore[method-assign]
    tab, _ = opened(device.url)
    tab.wait_for_timeout(1000)
    device.live.show(frames)
    drawn(tab, "frames", 2)
    tab.wait_for_timeout(1000)
    height, bright = tab.evaluate("""() => {
      const canvas = document.getElementById("frames"), scale = window.devicePixelRatio;
      const column = canvas.getContext("2d").getImageData(Math.round(canvas.width * 0.9), 0, 1, canvas.height).data;
      const found = [];
      for (let y = 0; y < canvas.height; y += 1) if (column[4 * y] > 220 && column[4 * y + 2] < 90) found.push(y);
      return [canvas.height / scale, found.map((y) => y / scale)];
    }""")
    top, bottom = 4, height - 22
    expected = bottom - (band + 0.5) / 128 * (bottom - top)
    assert bright
    assert sum(bright) / len(bright) == pytest.approx(expected, abs=2.0)
    assert max(bright) - min(bright) < 10


def test_a_daemon_that_goes_is_missed_and_one_that_comes_back_is_welcome(
    tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    with Device(tmp_path) as device:
        device.strange(1, 9.0)
        port = device.server.address[1]
        tab, complaints = opened(device.url)
        expect(tab.locator("#said")).to_have_text("Sounds like itself")
        drawn(tab, "frames", 100)
        assert complaints == []
    expect(tab.locator("#said")).to_have_text("The daemon doesn't answer")
    expect(tab.locator("#why")).to_contain_text("Its last answer was at")
    expect(tab.locator("#offline")).to_be_visible()
    with Device(tmp_path, port) as device:  # it counts from the beginning
        device.tell(machine="pump", since=iso(datetime.now(UTC)))
        expect(tab.locator("#said")).to_have_text("Sounds like itself")
        expect(tab.locator("#machine")).to_have_text("pump 00")
        expect(tab.locator("#offline")).to_be_hidden()
        expect(tab.locator("#events > li")).to_have_count(0)
        with tab.expect_response(lambda answer: "/api/frames?since=" in answer.url and answer.status == 200):
            pass
        drawn(tab, "frames", 100)
    assert not [one for one in complaints if "Failed to load resource: net::ERR_" not in one]


def test_a_page_whose_daemon_hears_nothing_new_says_so(device: Device, opened: Callable[..., Opened]) -> None:
    tab, _ = opened(device.url)
    expect(tab.locator("#said")).to_have_text("Sounds like itself")
    device._ending.set()
    expect(tab.locator("#said")).to_have_text("The daemon doesn't answer", timeout=30_000)
    expect(tab.locator("#why")).to_contain_text("Its page does, but it has said nothing new for")
    device._thread.join()


def test_the_token_is_asked_for_and_remembered(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with Device(tmp_path, token_file=tmp_path / "token") as device:
        tab, _ = opened(device.url, PHONE)
        expect(tab.get_by_role("heading")).to_have_text("This page needs a token")
        tab.screenshot(path=tmp_path / "token.png")
        tab.get_by_label("Token").fill("wrong-wrong-wrong-wrong")
        tab.get_by_role("button", name="Look").click()
        expect(tab.get_by_role("heading")).to_have_text("This page needs a token")
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_role("button", name="Look").click()
        expect(tab.locator("#said")).to_have_text("Sounds like itself")
        assert tab.url == device.url
        assert tab.evaluate("document.cookie") == ""
        again, complaints = opened(device.url)
        expect(again.locator("#said")).to_have_text("Sounds like itself")
        assert complaints == []


def test_who_does_not_look_does_not_ask(device: Device, opened: Callable[..., Opened]) -> None:
    tab, _ = opened(device.url)
    expect(tab.locator("#said")).to_have_text("Sounds like itself")
    tab.evaluate("""() => {
      Object.defineProperty(document, "hidden", {get: () => window.away});
      window.away = true;
    }""")
    tab.wait_for_timeout(2500)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.wait_for_timeout(2500)
    assert asked == []
    tab.evaluate("() => { window.away = false; document.dispatchEvent(new Event('visibilitychange')); }")
    every = {"status", "scores", "frames", "events"}
    waited(tab, lambda: {re.sub(r".*/api/(\w+).*", r"\1", url) for url in asked} >= every, "it asks for everything")
