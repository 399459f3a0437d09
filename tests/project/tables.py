"""Tables of the documentation, and the tests that they name, for tests that hold a page against the project."""

from __future__ import annotations

import ast
import re
from functools import cache

from common import ROOT


def column(page: str, head: str) -> list[str]:
    """The cells under a column's head, in all tables of a page that have one."""
    found, at = [], None
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if head in cells:
            at = cells.index(head)
        elif not cells:
            at = None
        elif at is not None and set(line) - set("|-"):
            found.append(cells[at])
    return found


def quoted(page: str, head: str) -> list[str]:
    """What stands in backticks in these cells, each once."""
    return sorted({name for cell in column(page, head) for name in re.findall(r"`([^`]+)`", cell)})


@cache
def held_in(module: str) -> set[str]:
    """The tests of a file anywhere below tests, such as test_losses; of two of one name edge/test_config."""
    [path] = (ROOT / "tests").rglob(f"{module}.py")
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
