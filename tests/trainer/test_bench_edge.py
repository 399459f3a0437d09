"""What measures the edge core: that it measures what it says, and beside whom. Not how fast anything is."""

from __future__ import annotations

import math
import mmap
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.bank import Bank
from edge_asd.errors import MissingRequirement
from edge_asd.front_end import FrontEnd
from edge_asd.model import InputScaling
from edge_asd.scoring import ClipScorer
from edge_asd_trainer.bench import clip_peers, turns
from edge_asd_trainer.bench.banks import indexed
from edge_asd_trainer.bench.catalogue import measurement
from edge_asd_trainer.bench.listening import Repeated
from edge_asd_trainer.bench.log_mels import waveform
from edge_asd_trainer.bench.made_up_bundle import HEARD, embeddings, encoder, network, some_windows, written
from edge_asd_trainer.bench.measurement import Effort
from edge_asd_trainer.bench.scoring import frames_of

TINY = Effort(repetitions=1, scale=0.02)
ROWS = {
    "log-mel-limit": 1,
    "clip": 4,
    "nearest-neighbour": 6,
    "score-jobs": 1,
    "listening": 1,
    "daemon-memory": 3,
    "start": 1,
    "bundle": 2,
}


def test_the_bare_transform_has_the_frames_of_the_front_end() -> None:
    front_end, samples = FrontEnd(), waveform(1) + np.float32(0.01)
    frames = frames_of(samples)
    assert (frames.shape, frames.dtype, frames.flags.c_contiguous) == ((313, 1024), np.float32, True)
    log_mel = front_end.decibel(front_end.mel_power(np.fft.rfft(frames.astype(np.float64), axis=1)))
    assert np.abs(log_mel - front_end.log_mel(samples)).max() < 1e-3


def test_made_up_embeddings_vary_as_a_trained_networks_do() -> None:
    some, others = embeddings(2000), embeddings(2000, seed=1)
    variances = np.linalg.svd(some - some.mean(axis=0), compute_uv=False) ** 2 / len(some)
    assert np.allclose(np.log(variances[:20]), -np.arange(20) / 6, atol=0.2)
    axes = np.linalg.svd(some, full_matrices=False)[2][:32]
    assert np.square(others @ axes.T).sum() > 0.99 * np.square(others).sum()  # of one machine, whatever the seed
    assert np.array_equal(embeddings(5), some[:5])
    even = embeddings(2000, evenly=True)
    spread = even.std(axis=0)
    assert spread.max() < 1.2 * spread.min()
    assert np.square(even).sum() == pytest.approx(np.square(some).sum(), rel=0.05)


@pytest.mark.parametrize("evenly", [False, True])
def test_faiss_and_a_bank_name_the_same_neighbour(evenly: bool) -> None:
    pytest.importorskip("faiss")
    bank, index = indexed(400, evenly=evenly)
    rows = embeddings(400, evenly=evenly)
    for entry in (0, 7, 399):
        query = rows[entry] + 0.01 * embeddings(1, seed=5, evenly=evenly)[0]
        squares, entries = index.search(query[None], 1)
        assert bank.nearest(query).entry == entries[0, 0] == entry
    for query in (*embeddings(20, seed=6, evenly=evenly), 10 * embeddings(1, seed=7, evenly=True)[0]):
        squares, _ = index.search(query[None], 1)
        assert bank.nearest(query).distance == pytest.approx(math.sqrt(squares[0, 0]), rel=0.03)


def test_a_bank_is_smaller_where_few_directions_carry_all() -> None:
    sizes = [Bank.of(embeddings(600, evenly=evenly), [""] * 600).codes.nbytes for evenly in (False, True)]
    assert 4 * sizes[0] < sizes[1] < 4 * 600 * 320


def test_the_baselines_windows_are_their_frames_side_by_side() -> None:
    log_mel = np.random.default_rng(0).standard_normal((128, 313)).astype(np.float32)
    vectors = clip_peers.frames_side_by_side(log_mel, 5)
    assert vectors.shape == (309, 640)
    for number in (0, 100, 308):
        assert np.array_equal(vectors[number], np.concatenate(list(log_mel.T[number : number + 5])))
    assert clip_peers.frames_side_by_side(log_mel, 64).shape == (250, 64 * 128)


def test_the_peer_has_the_windows_of_ours() -> None:
    log_mel = FrontEnd().log_mel(waveform(1))
    images = clip_peers.images(log_mel, InputScaling(-30.0, 10.0))
    assert images.shape == (32, 1, 128, 64)
    assert np.allclose(images[3, 0], (log_mel[24:88].T + 30) / 10)


def test_what_a_day_of_sound_leaves_in_memory_is_seen() -> None:
    source, kept = Repeated(waveform(1)[: 10 * 512], [2, 4]), []
    for block in source:
        kept.append(block.samples)
        if len(kept) > 2 * 16000 / 512:
            leak = np.frombuffer(mmap.mmap(-1, 1_000_000), np.float32)  # pages of its own, none that was freed before
            leak.fill(1)
            kept.append(leak)
    assert sum(len(samples) for samples in kept if len(samples) == 512) == 4 * 16000
    before, after = source.noted
    assert after - before > 20
    assert np.array_equal(kept[0], waveform(1)[:512])


def test_groups_in_processes_of_their_own_take_turns() -> None:
    groups = [turns.Group(partial(dict, ours=partial(abs, 1))), turns.Group(partial(dict, theirs=partial(abs, 2)), 3)]
    seconds = turns.fastest_apart(groups, 2)
    assert list(seconds) == ["ours", "theirs"]
    assert all(0 < value < 1 for value in seconds.values())


def test_a_missing_peer_is_named_with_what_brings_it() -> None:
    turns.needs("numpy")
    with pytest.raises(MissingRequirement, match=r"needs no_such_peer, .*edge-asd\[bench\]"):
        turns.needs("numpy", "no_such_peer")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("made-up"), 200)


@pytest.mark.slow
def test_a_made_up_bundle_is_a_whole_one(bundle: Path) -> None:
    opened = bundles.read(bundle)
    assert golden.check(opened).exact
    [section] = opened.manifest.sections.values()
    assert section.entries == 200
    assert opened.manifest.quantisation.cosine > 0.9
    score = ClipScorer(opened.detector()).score(waveform(HEARD), "00").value
    assert 0 < score < section.thresholds.alarm  # what is heard lies among the entries


@pytest.mark.slow
def test_onnx_runtime_computes_the_network_that_was_exported(tmp_path: Path) -> None:
    """Its quantised form is another rounding of the same network, so only the float one can agree closely."""
    import torch

    scaling, onnx = network().scaling, tmp_path / "network.onnx"
    onnx.write_bytes(network().onnx)
    windows = ((some_windows()[:32, None] - scaling.mean) / scaling.std).astype(np.float32)
    with torch.inference_mode():
        expected = encoder()(torch.from_numpy(windows)).numpy()
    found = clip_peers.session(onnx)(windows)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    rounded = clip_peers.session(clip_peers.quantised(onnx, scaling, tmp_path))(windows)
    assert rounded.shape == expected.shape
    cosines = (rounded * expected).sum(axis=1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_part_of_the_edge_core_is_measured(name: str) -> None:
    rows = measurement(name)(TINY)
    assert len(rows) == ROWS[name]
    for row in rows:
        assert math.isfinite(row.ours)
        assert row.ours > 0
        assert math.isfinite(row.theirs)
        assert row.theirs > 0
