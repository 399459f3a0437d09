"""Contenders that can't share a process take turns all the same: a process for each group of them, long started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from edge_asd.requirements import extra
from edge_asd.workers import one_thread
from edge_asd_trainer.bench.measurement import fastest
from edge_asd_trainer.bench.pool import started_pool

Contenders = Mapping[str, Callable[[], object]]


class Group(NamedTuple):
    """Contenders that share a process: what makes them there, and how often each of them takes its turn in a round."""

    prepare: Callable[[], Contenders]
    times: int = 1


def fastest_apart(groups: Sequence[Group], rounds: int) -> dict[str, float]:
    """Seconds that each contender took when it was fastest, each group in a process of one thread.

    In a round every group works once, alone on the machine, and in it the contenders take turns. Before the first one
    each is done once, unmeasured: memory is fetched then and plans are made.
    """
    seconds: dict[str, float] = {}
    with one_thread(), ExitStack() as stack:
        pools = [stack.enter_context(started_pool(1, partial(_prepare, group.prepare))) for group in groups]
        for _ in range(rounds):
            for pool, group in zip(pools, groups, strict=True):
                with pool.each(_take_turns, [group.times], 1) as results:
                    [found] = results
                seconds |= {name: min(value, seconds.get(name, value)) for name, value in found.items()}
    return seconds


def needs(*modules: str) -> None:
    """Raises: MissingRequirement where a peer of this name can't be found; it says which extra brings it."""
    for name in modules:
        with extra("bench"):
            if find_spec(name) is None:
                raise ModuleNotFoundError(name=name)


_prepared: dict[str, Callable[[], object]] = {}  # of this process


def _prepare(prepare: Callable[[], Contenders]) -> None:
    _prepared.update(prepare())
    for contender in _prepared.values():
        contender()


def _take_turns(times: int) -> dict[str, float]:
    return fastest(_prepared, times)
