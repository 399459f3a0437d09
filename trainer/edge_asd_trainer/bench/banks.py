"""A bank's nearest neighbour and its size, beside faiss; and the size of the whole file that travels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.bank import Bank
from edge_asd.bundle import encode
from edge_asd_trainer.bench.made_up_bundle import DIMENSIONS, bundle, embeddings
from edge_asd_trainer.bench.measurement import Effort, Row
from edge_asd_trainer.bench.turns import Contenders, Group, fastest_apart, needs

if TYPE_CHECKING:
    import faiss

ENTRIES, BUNDLE_ENTRIES, SECTIONS = 6000, 1000, 6
LIMIT = 2.5  # MB
FAISS = "faiss.IndexFlatL2"
NEAR, FAR = "near", "far"
UNSEEN = 1  # the seed of embeddings that no bank holds
SCALE_BYTES = 8


def nearest_neighbour(effort: Effort) -> list[Row]:
    """The nearest of 6000 embeddings of 320 values, milliseconds on one thread; and what keeping them takes.

    They vary as a trained network's do: a few directions carry nearly all. A near query is one more of them, a far
    one lies ten times as far from their centre. Ours is a bank's codes with their axes, faiss keeps float32. The last
    rows are of embeddings that vary evenly in all 320 directions, as no trained network's do: all axes are kept then.
    """
    needs("faiss")
    entries, rows = effort.of(ENTRIES, 50), []
    for evenly in (False, True):
        of = f"{entries} entries" + (", even in all directions" if evenly else "")
        seconds = fastest_apart([Group(partial(_searches, entries, evenly), effort.of(200))], effort.repetitions)
        for place in (NEAR, FAR):
            ours, theirs = (1e3 * seconds[f"{place} {whose}"] for whose in ("ours", FAISS))
            rows.append(Row(f"1-NN of {of}, {place}", ours, theirs, "ms", FAISS, None if evenly else 1.0))
        kept, theirs = _megabytes(entries, evenly=evenly)
        rows.append(Row(f"size of {of}", kept, theirs, "MB", FAISS, None if evenly else 4.0))
    return rows


def bundle_size(effort: Effort) -> list[Row]:
    """The file that travels: network, banks of 1000 clips a section, a golden clip of 10 s and the rest, in MB."""
    entries = effort.of(BUNDLE_ENTRIES, 20)
    what = f"bundle, {entries} clips"
    return [
        Row(f"{what}, one section", len(encode(bundle(entries))) / 1e6, LIMIT, "MB", "the limit", 1.0),
        Row(f"{what} in each of six sections", len(encode(bundle(entries, SECTIONS))) / 1e6, LIMIT, "MB", "the limit"),
    ]


def indexed(entries: int, *, evenly: bool = False) -> tuple[Bank, faiss.IndexFlatL2]:
    """The same embeddings as a bank and as an index of faiss."""
    import faiss

    faiss.omp_set_num_threads(1)
    rows = embeddings(entries, evenly=evenly)
    index = faiss.IndexFlatL2(DIMENSIONS)
    index.add(rows)
    return Bank.of(rows, [""] * entries), index


def _searches(entries: int, evenly: bool) -> Contenders:
    bank, index = indexed(entries, evenly=evenly)
    [near] = embeddings(1, UNSEEN, evenly=evenly)
    [direction] = embeddings(1, UNSEEN, evenly=True)
    places = {NEAR: near, FAR: (near + 10 * direction).astype(np.float32)}
    contenders: dict[str, Callable[[], object]] = {}
    for place, x in places.items():
        contenders[f"{place} ours"] = partial(bank.nearest, x)
        contenders[f"{place} {FAISS}"] = partial(index.search, x[None], 1)
    return contenders


def _megabytes(entries: int, *, evenly: bool) -> tuple[float, float]:
    import faiss

    bank, index = indexed(entries, evenly=evenly)
    return (bank.codes.nbytes + bank.axes.nbytes + SCALE_BYTES) / 1e6, faiss.serialize_index(index).nbytes / 1e6
