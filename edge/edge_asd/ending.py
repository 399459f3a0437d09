"""How a process of ours ends: with one line and its branch's exit code where it refuses, else with a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from edge_asd.errors import EdgeAsdError
from edge_asd.plain import plain


def guarded(work: Callable[[], object]) -> None:
    """Do the work; an error of ours is one line on standard error and its branch's exit code.

    Any other exception is printed with its traceback, and doesn't leave with 1, which means a negative verdict.
    """
    try:
        work()
    except EdgeAsdError as error:
        sys.stderr.write(f"edge-asd: {plain(' '.join(str(error).split()))}\n")
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        sys.exit(EdgeAsdError.exit_code)
