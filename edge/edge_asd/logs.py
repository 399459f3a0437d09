"""Log lines on standard error, as everything for people; in worker processes too."""

from __future__ import annotations

import logging
import sys

from edge_asd import progress


def start(*, verbose: bool = False) -> None:
    """From here on the libraries' and our own log lines appear, with `verbose` the small ones as well."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():  # elsewhere rich would break lines at 80 columns
        from rich.logging import RichHandler

        handler = RichHandler(console=progress.console(), show_path=False, show_time=False, show_level=verbose)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s",
        handlers=[handler],
        force=True,
    )
