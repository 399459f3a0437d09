"""Log lines on standard error, as everything for people; in worker processes too."""

from __future__ import annotations

import logging
import sys

from edge_asd import progress
from edge_asd.plain import plain


class _Plain(logging.Formatter):
    """A message as it is; what it says of a file may be the name that somebody else gave that."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return plain(super().formatMessage(record))


def start(*, verbose: bool = False) -> None:
    """From here on the libraries' and our own log lines appear, with `verbose` the small ones as well."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():  # elsewhere rich would break lines at 80 columns
        from rich.logging import RichHandler

        handler = RichHandler(console=progress.console(), show_path=False, show_time=False, show_level=verbose)
    handler.setFormatter(_Plain("%(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
