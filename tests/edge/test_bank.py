from __future__ import annotations

import numpy as np
import pytest

from edge_asd.bank import Bank


def some_bank(entries: int = 50, seed: int = 0) -> Bank:
    embeddings = np.random.default_rng(seed).normal(size=(entries, 320)).astype(np.float32)
    return Bank.of(embeddings, [f"clip_{index}.wav" for index in range(entries)])


def test_the_nearest_is_found_by_a_slow_loop_too() -> None:
    bank = some_bank()
    x = np.random.default_rng(1).normal(size=320).astype(np.float32)
    distances = [
        sum((float(a) - float(b)) ** 2 for a, b in zip(entry, x, strict=True)) ** 0.5 for entry in bank.embeddings
    ]
    nearest = bank.nearest(x)
    assert nearest.entry == int(np.argmin(distances))
    assert nearest.distance == pytest.approx(min(distances), rel=1e-6)


def test_an_entry_is_its_own_nearest_but_not_when_left_out() -> None:
    bank = some_bank(5)
    assert bank.nearest(bank.embeddings[3].astype(np.float32)) == (0.0, 3)
    left_out = bank.leave_one_out()
    for index in range(5):
        others = np.delete(bank.embeddings.astype(np.float64), index, axis=0)
        expected = np.sqrt(((others - bank.embeddings[index].astype(np.float64)) ** 2).sum(axis=1)).min()
        assert left_out[index] == pytest.approx(expected, rel=1e-6)


def test_float16_moves_a_distance_by_less_than_a_thousandth() -> None:
    exact = np.random.default_rng(2).normal(size=(30, 320)).astype(np.float32)
    bank = Bank.of(exact, [""] * 30)
    x = np.random.default_rng(3).normal(size=320).astype(np.float32)
    np.testing.assert_allclose(bank.distances(x), np.linalg.norm(exact - x, axis=1), rtol=1e-3)


def test_a_single_entry_has_no_other() -> None:
    assert len(some_bank(1).leave_one_out()) == 0


@pytest.mark.parametrize("embeddings", [np.empty((0, 320), np.float16), np.zeros(320, np.float16)])
def test_refuses_to_be_empty(embeddings: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least one embedding"):
        Bank(embeddings, ())


def test_refuses_entries_without_a_name() -> None:
    with pytest.raises(ValueError, match="names every entry"):
        Bank(np.zeros((2, 320), np.float16), ("one.wav",))
