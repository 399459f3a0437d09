"""A browser for tests, which asks nobody for anything but the pages that it is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, expect, sync_playwright

from common import missing

QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--mute-audio")
SILENT = ("--disable-background-networking", "--disable-component-update")

expect.set_options(timeout=30_000)  # ms; by itself 5 s, which a page that asks ever more seldom may need


@contextmanager
def chromium(profile: Path, **options: Any) -> Iterator[BrowserContext]:
    """Headless Chromium with a new profile, which ends with the block; `options` are Playwright's, of a context."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("chromium")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch_persistent_context(
            profile,
            executable_path=program,
            chromium_sandbox=False,  # a container may forbid it; the pages are our own
            args=[*QUIET, *SILENT],
            **options,
        ) as context,
    ):
        yield context
