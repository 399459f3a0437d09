"""A bank keeps distances: along few axes where a few carry them, along all where it takes all."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edge_asd.bank import LARGEST_ERROR, Bank


def embeddings_of(clips: int, dimensions: int = 320, *, decay: float = 6.0, seed: int = 0) -> np.ndarray:
    """As a trained network's are: most of their variance along few directions, which are no axes of theirs."""
    random = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(99).normal(size=(dimensions, dimensions)))[0]
    spread = 5 * np.exp(-np.arange(dimensions) / decay)
    return (random.normal(size=(clips, dimensions)) * spread @ turned + 0.3).astype(np.float32)


def names(clips: int) -> list[str]:
    return [f"clip_{index}.wav" for index in range(clips)]


def true_distances(embeddings: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(embeddings.astype(np.float64) - x, axis=1)


@pytest.mark.parametrize("clips", [2, 9, 75, 1000])
def test_distances_are_kept(clips: int) -> None:
    embeddings = embeddings_of(clips)
    bank = Bank.of(embeddings, names(clips))
    for x in embeddings_of(40, seed=1):
        true = true_distances(embeddings, x)
        np.testing.assert_allclose(bank.distances(x), true, rtol=0.1)
        nearest = bank.nearest(x)
        assert nearest.distance == pytest.approx(true.min(), rel=3 * LARGEST_ERROR)
        assert true[nearest.entry] == pytest.approx(true.min(), rel=3 * LARGEST_ERROR)


@pytest.mark.parametrize("clips", [1, 3, 600, 2000])
def test_the_nearest_is_the_nearest_of_all_bit_for_bit(clips: int) -> None:
    bank = Bank.of(embeddings_of(clips), names(clips))
    for x in [*embeddings_of(20, seed=1), *embeddings_of(clips)[:5]]:
        distances = bank.distances(x)
        assert bank.nearest(x) == (distances.min(), distances.argmin())


def test_what_lies_far_off_the_axes_is_as_far_as_it_is() -> None:
    """A fault may sound in a way that no normal clip varies."""
    embeddings = embeddings_of(100, decay=2.0)
    bank = Bank.of(embeddings, names(100))
    assert bank.codes.shape[1] < 64
    for x in np.random.default_rng(2).normal(0, 10, (10, 320)).astype(np.float32):
        np.testing.assert_allclose(bank.distances(x), true_distances(embeddings, x), rtol=2e-3)


def test_a_thousand_clips_take_a_tenth_of_what_they_did() -> None:
    bank = Bank.of(embeddings_of(1000), names(1000))
    assert bank.codes.nbytes + bank.axes.nbytes < 1000 * 320 * 4 / 10


def test_where_every_direction_counts_all_are_kept() -> None:
    embeddings = np.random.default_rng(0).normal(size=(1500, 320)).astype(np.float32)
    bank = Bank.of(embeddings, names(1500))
    assert bank.codes.shape == (1500, 321)
    assert bank.codes.dtype == np.int8
    x = np.random.default_rng(1).normal(size=320).astype(np.float32)
    np.testing.assert_allclose(bank.distances(x), true_distances(embeddings, x), rtol=1e-2)


def test_an_outlier_does_not_coarsen_the_others() -> None:
    """With one scale and eight bits for everything, a clip ten times as far off would."""
    embeddings = embeddings_of(80)
    embeddings[7] *= 10
    bank = Bank.of(embeddings, names(80))
    for x in embeddings_of(20, seed=1):
        assert bank.nearest(x).distance == pytest.approx(true_distances(embeddings, x).min(), rel=0.05)


def test_between_are_the_distances_to_the_nearest_others() -> None:
    embeddings = embeddings_of(30)
    found = Bank.of(embeddings, names(30)).between(4)
    for index in range(30):
        others = np.sort(true_distances(np.delete(embeddings, index, axis=0), embeddings[index]))
        np.testing.assert_allclose(found[index], others[:4], rtol=0.05)
    assert Bank.of(embeddings[:3], names(3)).between(4).shape == (3, 2)


def test_decoded_are_the_embeddings_but_for_their_rests() -> None:
    embeddings = embeddings_of(50)
    assert np.linalg.norm(Bank.of(embeddings, names(50)).decoded() - embeddings, axis=1).max() < 1


def test_embeddings_that_are_all_the_same() -> None:
    bank = Bank.of(np.full((20, 320), 1.5, np.float32), names(20))
    assert bank.nearest(np.full(320, 1.5, np.float32)).distance == pytest.approx(0, abs=1e-3)
    assert bank.nearest(np.full(320, 2.5, np.float32)).distance == pytest.approx(np.sqrt(320), rel=1e-3)


def test_asking_takes_no_more_memory_than_a_block() -> None:
    bank = Bank.of(np.random.default_rng(0).normal(size=(6000, 64)).astype(np.float32), names(6000))
    x = np.zeros(64, np.float32)
    bank.nearest(x)
    tracemalloc.start()
    try:
        bank.nearest(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6000 * 64 * 4  # as float32


@pytest.mark.parametrize("embeddings", [np.empty((0, 320), np.float32), np.zeros(320, np.float32)])
def test_refuses_to_be_empty(embeddings: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least one embedding"):
        Bank.of(embeddings, ())


def test_refuses_entries_without_a_name() -> None:
    with pytest.raises(ValueError, match="names every entry"):
        Bank.of(np.zeros((2, 320), np.float32), ["one.wav"])
    with pytest.raises(ValueError, match="names every entry"):
        Bank(np.zeros((2, 1), np.int16), np.zeros((1, 320), np.float16), 1.0, ("one.wav",))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 7e4, -1e30])
def test_refuses_what_no_network_gives(value: float) -> None:
    embeddings = embeddings_of(20, 32)
    bank = Bank.of(embeddings, names(20))
    embeddings[3, 5] = value
    for making in (Bank.of, bank.joined):
        with pytest.raises(ValueError, match="every value of an embedding must lie in"):
            making(embeddings, names(20))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-320, 1e300])
def test_refuses_a_scale_that_is_none(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must lie in"):
        Bank(np.zeros((1, 1), np.int8), np.zeros((1, 320), np.float16), scale, ("one.wav",))


def test_refuses_codes_of_other_axes() -> None:
    with pytest.raises(ValueError, match="along axes"):
        Bank(np.zeros((1, 3), np.int8), np.zeros((2, 320), np.float16), 1.0, ("one.wav",))
