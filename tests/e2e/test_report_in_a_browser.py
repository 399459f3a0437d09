"""The report as a browser shows it, with the network off: nothing fails, every picture is there, on a phone too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from chromium import chromium
from edge_asd_trainer import report
from edge_asd_trainer.evaluation import Evaluation, evaluate
from edge_asd_trainer.report.looks import WIDTH
from edge_asd_trainer.run_folder import RunFolder

PHONE = (390, 844)
DESK = (1280, 900)
SMALLEST_TEXT = 14  # pixels, of the page
SMALLEST_LETTERS = 11  # pixels, of the 9 points that the pictures are labelled in

FIGURES = [
    *("histogram-00", "histogram-01", "roc"),
    *("clip-normal-1", "clip-normal-2", "clip-anomalous-1", "clip-anomalous-2"),
    *("map", "map-00", "map-01", "bank-size", "agreement-00", "agreement-01", "pre-training", "fine-tuning"),
]

# A picture that was cut off has its full size, but no pixels at its end; so the last row is looked at.
PICTURES = """async () => {
  const found = [];
  for (const figure of document.querySelectorAll("figure")) {
    const image = figure.querySelector("img");
    let whole = true;
    try { await image.decode(); } catch (error) { whole = false; }
    if (whole) {
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth, canvas.height = 1;
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 1 - image.naturalHeight);
      whole = context.getImageData(0, 0, canvas.width, 1).data.every((value, index) => index % 4 < 3 || value == 255);
    }
    found.push({name: figure.id, alt: image.alt, whole, width: image.naturalWidth, shown: image.clientWidth});
  }
  return found;
}"""
TEXT = """() => [...document.querySelectorAll("body *")].filter(
  (element) => [...element.childNodes].some((node) => node.nodeType == Node.TEXT_NODE && node.data.trim())
).map((element) => [element.textContent.slice(0, 40), parseFloat(getComputedStyle(element).fontSize)])"""


@pytest.fixture(scope="module")
def evaluated(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """The page of the run, and what it shows."""
    folder = RunFolder(shutil.copytree(run_folder, tmp_path_factory.mktemp("report") / "fan"))
    evaluation = evaluate(folder)
    return report.write(folder, evaluation), evaluation


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with chromium(tmp_path_factory.mktemp("profile"), offline=True) as context:
        yield context


def opened(browser: BrowserContext, path: Path, size: tuple[int, int]) -> tuple[Page, list[str]]:
    """A tab with a page of that size, and what the browser complained of, or asked others for."""
    tab = browser.new_page()
    width, height = size
    tab.set_viewport_size({"width": width, "height": height})
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:80]}"))
    tab.on(
        "request",
        lambda request: (
            None
            if request.url.startswith("data:") or request.url == path.as_uri()
            else complaints.append(f"asked for: {request.url[:80]}")
        ),
    )
    tab.goto(path.as_uri(), wait_until="load")
    return tab, complaints


def faults(browser: BrowserContext, path: Path, size: tuple[int, int]) -> list[str]:
    """All that is wrong with a page of that size."""
    tab, complaints = opened(browser, path, size)
    try:
        found = [] if tab.evaluate("document.compatMode") == "CSS1Compat" else ["not read as standard HTML"]
        for picture in tab.evaluate(PICTURES):
            name = picture["name"]
            if not picture["whole"] or picture["width"] < 300:
                found.append(f"{name}: no picture, or not all of it")
            if len(picture["alt"]) < 20:
                found.append(f"{name}: not said what it shows")
            if 9 * picture["shown"] / (72 * WIDTH) < SMALLEST_LETTERS:
                found.append(f"{name}: {picture['shown']} pixels wide, too small to read")
        wide, room = tab.evaluate(
            "(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(document.scrollingElement)"
        )
        if wide > room:
            found.append(f"{wide} pixels wide in a window of {room}")
        found += [f"{text!r}: {size} pixels high" for text, size in tab.evaluate(TEXT) if size < SMALLEST_TEXT]
        return found + complaints
    finally:
        tab.close()


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_nothing_is_wrong_with_the_page(
    size: tuple[int, int], browser: BrowserContext, evaluated: tuple[Path, Evaluation]
) -> None:
    assert faults(browser, evaluated[0], size) == []


def test_every_figure_and_every_row_is_there(browser: BrowserContext, evaluated: tuple[Path, Evaluation]) -> None:
    path, evaluation = evaluated
    tab, _ = opened(browser, path, PHONE)
    assert tab.title() == "edge-asd: fan"
    assert tab.locator("figure:has(img)").evaluate_all("all => all.map((one) => one.id)") == FIGURES
    assert tab.locator("#trained tbody tr").all_inner_texts()[0].split()[:3] == ["00", "6", "2"]
    results = tab.locator("#results tbody tr td:first-child").all_inner_texts()
    assert results == [system.name for system in evaluation.systems]
    score = tab.locator("#results tbody tr:first-child td:nth-child(2)").inner_text()
    low, high = evaluation.systems[0].interval
    assert score.split("\n") == [
        f"{100 * evaluation.systems[0].score:.1f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
    ]
    sections = tab.locator("#figures tbody th").all_inner_texts()
    assert sections == ["00", "01", "arithmetic mean", "harmonic mean"]
    assert tab.locator("#figures tbody tr").count() == 8
    captions = tab.locator("figure[id^=clip] figcaption").all_inner_texts()
    assert [caption.split(":")[0] for caption in captions] == [
        "Normal, and scores highest",
        "Normal, and scores second highest",
        "Anomalous, and scores lowest",
        "Anomalous, and scores second lowest",
    ]
    assert all(any(clip.file in caption for clip in evaluation.clips) for caption in captions)
    assert "int8 against float" in tab.locator("#parity").inner_text()
    tab.close()


def test_what_is_wider_than_a_phone_scrolls_in_its_own_box(
    browser: BrowserContext, evaluated: tuple[Path, Evaluation]
) -> None:
    tab, _ = opened(browser, evaluated[0], PHONE)
    box = tab.locator(".wide:has(#results)")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    first = tab.locator("#results tbody td:first-child").first
    before = first.bounding_box()
    assert box.evaluate("box => { box.scrollLeft = 200; return box.scrollLeft; }") == 200
    assert first.bounding_box() == before  # which system a row is of stays in sight
    tab.close()


def cut(page: str) -> str:
    """The ROC curves without their second half."""
    [content] = re.findall(r'<figure id="roc"><img src="data:image/png;base64,([^"]+)"', page)
    return page.replace(content, content[: len(content) // 8 * 4])


@pytest.mark.parametrize(
    ("damage", "noticed"),
    [
        (cut, "roc: no picture"),
        (lambda page: re.sub(r'(<figure id="roc"><img src=")data:[^"]+', r"\1roc.png", page), "roc: no picture"),
        (lambda page: re.sub(r'(<figure id="map">.*?alt=")[^"]+', r"\1", page), "map: not said what"),
        (lambda page: page.replace("img { display: block; width: 100%", "img { width: 200px"), "too small to read"),
        (lambda page: page.replace(".wide { overflow-x: auto;", ".wide {"), "in a window of 390"),
        (lambda page: page.replace("font: 16px/1.5", "font: 13px/1.5"), "13 pixels high"),
        (lambda page: page.replace("<body>", '<body><img src="https://example.org/a.png">'), "Content Security Policy"),
        (lambda page: page.replace("<body>", "<body><script>broken(</script>"), "Content Security Policy"),
        (
            lambda page: re.sub("<meta http-equiv[^>]+>", "", page).replace(
                "<body>", "<body><script>broken()</script>"
            ),
            "broken is not defined",
        ),
        (
            lambda page: re.sub("<meta http-equiv[^>]+>", "", page).replace(
                "<body>", '<body><img src="https://example.org/a.png">'
            ),
            "asked for: https://example.org/a.png",
        ),
        (lambda page: page.replace("<!doctype html>", ""), "standard HTML"),
    ],
)
def test_a_page_with_a_fault_is_noticed(
    damage: Callable[[str], str],
    noticed: str,
    browser: BrowserContext,
    evaluated: tuple[Path, Evaluation],
    tmp_path: Path,
) -> None:
    page = evaluated[0].read_text()
    (tmp_path / "index.html").write_text(damage(page))
    assert damage(page) != page
    assert [fault for fault in faults(browser, tmp_path / "index.html", PHONE) if noticed in fault]
