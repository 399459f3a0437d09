"""Back-ends beyond the paper's, each against a plain computation or scikit-learn's."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sklearn.covariance import ShrunkCovariance
from sklearn.neighbors import NearestNeighbors

from edge_asd import manifest
from edge_asd.bank import Bank
from edge_asd.bundle import decode, encode
from edge_asd.comparison import Backend, Comparison, Heard, Spread, held_out, scorer, statistics
from edge_asd.errors import BundleError
from edge_asd.front_end import FrontEnd
from edge_asd.scoring import ClipScorer, Detector, StreamScorer
from edge_asd.windows import Windows
from made_up import some_bundle

CLIPS = 60
KNN, DENSITY, MAHALANOBIS = Backend(neighbours=3), Backend(density=4), Backend(distance="mahalanobis")
RATE = 16000


def embeddings_of(clips: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(99).normal(size=(320, 320)))[0]
    return (random.normal(size=(clips, 320)) * 5 * np.exp(-np.arange(320) / 6) @ turned).astype(np.float32)


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    return embeddings_of(CLIPS)


@pytest.fixture(scope="module")
def bank(known: np.ndarray) -> Bank:
    return Bank.of(known, [f"{i}.wav" for i in range(CLIPS)], spread=True)


@pytest.fixture(scope="module")
def asked() -> np.ndarray:
    return embeddings_of(20, seed=1)


def test_several_neighbours_are_their_mean(known: np.ndarray, bank: Bank, asked: np.ndarray) -> None:
    expected = NearestNeighbors(n_neighbors=3).fit(known).kneighbors(asked)[0].mean(axis=1)
    np.testing.assert_allclose([scorer(KNN, bank)(x) for x in asked], expected, rtol=0.03)


def test_local_density_divides_by_an_entrys_own_distances(known: np.ndarray, bank: Bank, asked: np.ndarray) -> None:
    densities = NearestNeighbors(n_neighbors=5).fit(known).kneighbors(known)[0][:, 1:].mean(axis=1)
    distances = np.linalg.norm(asked[:, None].astype(np.float64) - known, axis=2)
    expected = (distances / densities).min(axis=1)
    np.testing.assert_allclose([scorer(DENSITY, bank)(x) for x in asked], expected, rtol=0.03)


def test_mahalanobis_is_scikit_learns_of_shrunk_covariance(known: np.ndarray, bank: Bank, asked: np.ndarray) -> None:
    fitted = ShrunkCovariance(shrinkage=0.1).fit(known.astype(np.float64))
    for x in [*asked, 10 * asked[0], asked[1] + 1]:
        assert scorer(MAHALANOBIS, bank)(x) == pytest.approx(np.sqrt(fitted.mahalanobis(x[None])[0]), rel=0.03)


def test_the_papers_is_the_nearest_and_one_line(bank: Bank, asked: np.ndarray) -> None:
    for x in asked:
        nearest = bank.nearest(x)
        assert Comparison({"embedding": bank}).judge(Heard(x)) == (nearest.distance, bank.clips[nearest.entry])
        assert scorer(Backend(), bank)(x) == pytest.approx(nearest.distance, rel=1e-6)
    assert msgspec.to_builtins(Backend()) == {
        "feature": "embedding",
        "distance": "nearest",
        "neighbours": 1,
        "density": 0,
    }


@pytest.mark.parametrize("backend", [Backend(), KNN, DENSITY])
def test_a_clip_that_is_held_out_does_not_meet_itself(backend: Backend, known: np.ndarray, bank: Bank) -> None:
    scores = held_out(backend, bank, known, range(CLIPS))
    for index in (0, 31):
        others = Bank.of(np.delete(known, index, axis=0), [""] * (CLIPS - 1))
        assert scores[index] == pytest.approx(scorer(backend, others)(known[index]), rel=0.1)
    # one that isn't among the entries meets them all
    assert held_out(backend, bank, known[:1], [-1])[0] < 0.8 * scores[0]


def test_a_single_entry_has_no_other(known: np.ndarray) -> None:
    alone = Bank.of(known[:1], ["0.wav"])
    assert len(held_out(Backend(), alone, known[:1], [0])) == 0
    assert len(held_out(Backend(), alone, known[:3], [0, -1, -1])) == 2


def test_several_are_z_normalised_and_summed(bank: Bank, asked: np.ndarray) -> None:
    spreads = [Spread(3.0, 0.5), Spread(18.0, 2.0)]
    both = Comparison({"embedding": bank}, (Backend(), MAHALANOBIS), spreads)
    for x in asked:
        value, name = both.judge(Heard(x))
        one, other = bank.nearest(x).distance, scorer(MAHALANOBIS, bank)(x)
        assert value == pytest.approx((one - 3) / 0.5 + (other - 18) / 2, rel=1e-5)
        assert name == bank.clips[bank.nearest(x).entry]


class Loudness:
    """A value a window: its mean in dB."""

    name = "loudness"

    def prepare(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel

    def embed(self, windows: np.ndarray) -> np.ndarray:
        return windows.mean(axis=(1, 2), keepdims=True)[:, 0]


def hum(seconds: float, seed: int, tone: float = 0.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.05, len(time))
    return (noise + 0.1 * np.sin(2 * np.pi * 120 * time) + tone * np.sin(2 * np.pi * 3000 * time)).astype(np.float32)


@pytest.fixture(scope="module")
def listening() -> Detector:
    """Nearest embedding, and Mahalanobis on the statistics of the log-mel."""
    backends, front_end, windows = (
        (Backend(), Backend(feature="statistics", distance="mahalanobis")),
        FrontEnd(),
        Windows(),
    )
    log_mels = [front_end.log_mel(hum(10, seed)) for seed in range(12)]
    embeddings = np.array([[windows.cut(one).mean()] for one in log_mels], np.float32)
    of_log_mels = np.stack([statistics(one) for one in log_mels])
    names = [f"{seed}.wav" for seed in range(12)]
    banks = {"embedding": Bank.of(embeddings, names), "statistics": Bank.of(of_log_mels, names, spread=True)}
    spreads = [Spread(0.01, 0.01), Spread(14.0, 1.0)]
    return Detector(front_end, windows, Loudness(), {"00": Comparison(banks, backends, spreads)})


def test_the_statistics_hear_what_the_embedding_does_not(listening: Detector) -> None:
    normal, faulty = (ClipScorer(listening).score(hum(10, 77, tone), "00").value for tone in (0.0, 0.02))
    assert faulty > normal + 5


def test_a_stream_gives_the_statistics_of_its_last_10_s(listening: Detector) -> None:
    sound = np.concatenate([hum(10, 78, 0.1), hum(10.3, 79)])
    scores = StreamScorer(listening, "00").push(sound)
    assert scores[0].value > 100
    whole = ClipScorer(listening).score(sound[-10 * RATE :], "00").value
    assert scores[-1].value == pytest.approx(whole, abs=1.5)


def test_a_streamed_clip_has_the_clips_score(listening: Detector) -> None:
    sound = hum(10, 80)
    stream = StreamScorer(listening, "00", padded=True)
    for start in range(0, len(sound), 4000):
        stream.push(sound[start : start + 4000])
    assert stream.finish().value == pytest.approx(ClipScorer(listening).score(sound, "00").value, abs=0.3)


def test_statistics_are_mean_and_deviation_over_time() -> None:
    log_mel = np.random.default_rng(0).normal(-40, 10, (313, 128)).astype(np.float32)
    expected = np.concatenate([log_mel.mean(axis=0), log_mel.std(axis=0)])
    np.testing.assert_allclose(statistics(log_mel), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("backends", "spreads", "said"),
    [
        ([], 0, "system1 has back-ends"),
        ([{"feature": "statistics"}], 0, "must look at the embedding"),
        ([{}, {"distance": "mahalanobis"}], 0, "section 00 has 0 spreads, expected 2"),
        ([{}], 1, "section 00 has 1 spreads, expected 0"),
        ([{"distance": "mahalanobis", "neighbours": 3}], 0, "neighbours and density belong to distance nearest"),
        ([{"neighbours": 0}], 0, "neighbours"),
        ([{"distance": "manhattan"}], 0, "manhattan"),
        ([{"weight": 2}], 0, "weight"),
    ],
)
def test_a_manifest_whose_back_ends_can_not_be(backends: list[dict[str, object]], spreads: int, said: str) -> None:
    stated = json.loads(manifest.encode(some_bundle().manifest))
    stated["backends"] = backends
    stated["sections"]["00"]["spreads"] = [{"mean": 0.0, "deviation": 1.0}] * spreads
    with pytest.raises(BundleError, match=said):
        manifest.decode(json.dumps(stated).encode(), "fan.easd")


def test_a_bundle_holds_a_bank_of_every_feature() -> None:
    bundle = some_bundle()
    rows = np.random.default_rng(0).normal(-40, 5, (3, 256)).astype(np.float32)
    both = {**bundle.banks["00"], "statistics": Bank.of(rows, bundle.banks["00"]["embedding"].clips)}
    stated = msgspec.structs.replace(
        bundle.manifest,
        backends=(Backend(), Backend(feature="statistics", neighbours=2)),
        sections={"00": msgspec.structs.replace(bundle.manifest.sections["00"], spreads=(Spread(1.0, 2.0),) * 2)},
    )
    read = decode(encode(replace(bundle, manifest=stated, banks={"00": both})), "fan.easd")
    assert read.banks["00"].keys() == {"embedding", "statistics"}
    np.testing.assert_array_equal(read.banks["00"]["statistics"].codes, both["statistics"].codes)
    assert read.banks["00"]["statistics"].scale == both["statistics"].scale
    with pytest.raises(BundleError, match=r"doesn't list bank/00\.statistics"):
        decode(encode(replace(bundle, manifest=stated)), "fan.easd")
