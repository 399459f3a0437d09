"""Work shared among processes: its order, its bound, and how it ends when somebody interrupts or kills it."""

from __future__ import annotations

import operator
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from common import interrupted
from edge_asd.errors import StorageError
from edge_asd.workers import IN_FLIGHT, each


def test_results_come_in_the_order_of_the_items() -> None:
    with each(operator.neg, range(20), 2) as results:
        assert list(results) == [-item for item in range(20)]


def test_only_a_few_items_are_drawn_ahead() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for item in range(1000):
            drawn.append(item)
            yield item

    with each(operator.neg, items(), 2) as results:
        assert next(results) == 0
        assert len(drawn) <= 2 * IN_FLIGHT + 1


def test_an_error_of_the_work_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError), each(partial(operator.truediv, 1), [1, 0], 1) as results:
        list(results)


def test_a_worker_that_is_killed_is_an_error_that_says_so() -> None:
    with pytest.raises(StorageError, match="ended from outside"), each(os._exit, [9], 1) as results:
        list(results)


def test_ctrl_c_ends_everybody(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from edge_asd.workers import each\n"
        "with each(time.sleep, [0.01] * 100_000, 2) as done:\n"
        "    for _ in done: Path(sys.argv[1]).touch()\n"
    )
    begun = tmp_path / "begun"
    done = interrupted([sys.executable, "-c", program, str(begun)], begun.exists)
    assert b"KeyboardInterrupt" in done.stderr
    assert is_empty_soon(done.args), "a worker was left behind"


def is_empty_soon(group: int) -> bool:
    """No living process of this group is left, after some seconds at most."""
    for _ in range(500):
        if not living(group):
            return True
        time.sleep(0.02)
    return False


def living(group: int) -> list[Path]:
    """The group's processes; without the dead that nobody has waited for, which a signal would count too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(stat)
    return found
