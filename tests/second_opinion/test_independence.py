"""The other implementations share no code with ours: what they import is known, and none of it is the project's."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

OTHERS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("test_"))
FOREIGN = {"ai_edge_litert", "librosa", "numpy", "scipy", "sklearn", "soundfile", "tflite_runtime"}
BACK_DOORS = {"importlib", "runpy", "subprocess", "__import__", "exec", "eval"}


def imported(tree: ast.AST) -> set[str]:
    """The packages, within functions too; one relative to the own folder is called after its dots."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level or (node.module or "").partition(".")[0])
    return found


def test_there_are_some() -> None:
    assert {path.stem for path in OTHERS} >= {"by_hand", "outsider"}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_the_other_opinions_share_no_code_with_ours(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = imported(tree)
    assert names
    assert names - sys.stdlib_module_names <= FOREIGN
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not (names | called) & BACK_DOORS


@pytest.mark.parametrize(
    "line",
    ["import edge_asd.bank", "from edge_asd_trainer import losses", "from . import test_outsider", "import made_up"],
)
def test_a_line_of_ours_would_be_found(line: str) -> None:
    assert imported(ast.parse(f"def f():\n    {line}")) - sys.stdlib_module_names - FOREIGN
