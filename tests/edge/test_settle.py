"""A daemon that starts in the middle of a deployment lets what is committed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asd import settle
from edge_asd.errors import DeploymentError
from edge_asd.release_record import Record
from edge_asd.release_tree import Tree, linked, locked, point, write_record

OLD, NEW = "fan-0123456789abcdef", "fan-fedcba9876543210"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Switched to the new release, which isn't committed."""
    found = Tree(tmp_path)
    for release in (OLD, NEW):
        found.release(release).folder.mkdir(parents=True)
    write_record(found, Record((OLD,)))
    found.switching.touch()
    point(found.previous, OLD)
    point(found.current, NEW)
    return found


def test_the_release_before_runs_again(tree: Tree) -> None:
    assert settle.settle(tree.root)
    assert (linked(tree.current), linked(tree.previous)) == (OLD, None)
    assert not tree.switching.exists()
    assert tree.release(NEW).folder.is_dir()  # what is left over the next deployment removes
    assert not settle.settle(tree.root)


def test_a_committed_release_stays(tree: Tree) -> None:
    """The power went after the commit, and before the mark was taken away."""
    write_record(tree, Record((NEW, OLD)))
    assert not settle.settle(tree.root)
    assert (linked(tree.current), linked(tree.previous)) == (NEW, OLD)
    assert not tree.switching.exists()


def test_a_deployment_that_is_at_work_decides(tree: Tree) -> None:
    with locked(tree), pytest.raises(DeploymentError, match="at work"):
        settle.settle(tree.root)
    assert linked(tree.current) == NEW
    assert tree.switching.exists()


def test_it_is_said(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    settle.main(str(tree.root))
    assert "the one before runs again" in capsys.readouterr().err
    settle.main(str(tree.root))
    assert capsys.readouterr().err == ""
