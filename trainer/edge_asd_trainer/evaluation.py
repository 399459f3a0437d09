"""How good a run is: scored from its bundle alone, with the device's own code; what is measured is what ships.

Beside it, on the same split: the float network (what quantisation costs), and systems without a network (the bar).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd import bundle as bundles
from edge_asd.bank import Bank
from edge_asd.errors import ConfigError, DataError
from edge_asd.model import InputScaling
from edge_asd.scoring import Detector
from edge_asd_trainer.baselines.statistics import SYSTEMS, clip_statistics
from edge_asd_trainer.config import Config, fingerprint
from edge_asd_trainer.data import evaluation_clips, training_clips
from edge_asd_trainer.detection import banks, embed_clips, gamma_percentile, thresholds
from edge_asd_trainer.embedding_map import EmbeddingMap, embedding_map
from edge_asd_trainer.export import FloatModel
from edge_asd_trainer.features import LogMels, log_mels
from edge_asd_trainer.metrics import SectionFigures, means, official_score, section_figures
from edge_asd_trainer.packing import mean_cosine
from edge_asd_trainer.pipeline import load_encoder
from edge_asd_trainer.run_folder import RunFolder, write_json

INT8 = "System 1, int8 (the bundle)"
FLOAT = "System 1, float"


class ClipResult(msgspec.Struct, frozen=True):
    """One test clip, as the bundle scores it; `path` is relative to the data set, an unknown truth is None."""

    file: str
    path: str
    section: str
    domain: str | None
    anomalous: bool | None
    score: float
    nearest: str


class SystemResult(msgspec.Struct, frozen=True):
    """One system: its figures by section, and the official score over them."""

    name: str
    sections: dict[str, SectionFigures]
    score: float


class Agreement(msgspec.Struct, frozen=True):
    """How well the clips' scores of two systems agree; None where there are too few clips to say.

    Attributes:
        rank_correlation: Spearman's.
        auc, pauc: difference in points of 100.
    """

    rank_correlation: float | None
    auc: float | None
    pauc: float | None


class Parity(msgspec.Struct, frozen=True):
    """int8 against float, on the test clips.

    Attributes:
        cosine: mean cosine of the window embeddings.
        overall: over all clips; AUC and pAUC are the harmonic means over the sections.
        worst: the lowest rank correlation and the largest differences of any section.
    """

    cosine: float
    overall: Agreement
    worst: Agreement


class Evaluation(msgspec.Struct, frozen=True):
    """All that an evaluation found.

    Attributes:
        machine, seed, preset, data: what was evaluated on what.
        bundle: first 16 digits of its SHA-256.
        clips: every test clip.
        thresholds: decision threshold by section.
        systems: the bundle first; empty where no section has labelled clips of both kinds.
        parity: int8 against float.
        embeddings: where the clips' embeddings lie on a plane, for the eye.
    """

    machine: str
    seed: int
    preset: str
    data: str
    bundle: str
    clips: list[ClipResult]
    thresholds: dict[str, float]
    systems: list[SystemResult]
    parity: Parity
    embeddings: EmbeddingMap


def evaluate(folder: RunFolder) -> Evaluation:
    """Evaluate a run on its data set's test clips.

    Figures are those of the labelled clips; a section that lacks normal or anomalous ones has none, which is said.

    Raises:
        ConfigError: the folder is no run, or its configuration isn't that of its bundle.
        BundleError: its bundle can't be verified.
        DataError: the data set is gone, there are no test clips, one of a section that the bundle doesn't know, or
            the training clips aren't those of the bundle.
    """
    provenance, config = folder.read_provenance(), folder.read_config()
    data, machine = provenance.data_set(), provenance.machine
    bundle = bundles.read(folder.bundle(machine))
    stated = bundle.manifest
    if stated.config_fingerprint != fingerprint(config):
        raise ConfigError(
            f"{folder.config}: not the numbers that {folder.bundle(machine)} was trained with; "
            "training was broken off, so run the same `edge-asd train` again."
        )
    clips = evaluation_clips(data, machine, stated.sections.keys())
    if not clips:
        raise DataError(f"{data / machine / 'test'}: no test clips there; nothing can be evaluated.")
    test = log_mels(clips, stated.front_end, stated.windows, folder.features("test"))
    train = log_mels(
        training_clips(data, machine),
        stated.front_end,
        stated.windows,
        folder.features("train"),
        config.features.front_end,
    )
    if stated.data_fingerprint != train.fingerprint:
        raise DataError(
            f"{data / machine / 'train'}: not the clips that {folder.bundle(machine)} was trained on; "
            "put them back, or train again."
        )

    detector = bundle.detector()
    embeddings = embed_clips(test, config.windows, detector.model)
    neighbours = [detector.bank(name.section).nearest(e) for name, e in zip(test.names, embeddings, strict=True)]
    scores = np.array([neighbour.distance for neighbour in neighbours])
    decision = {name: section.thresholds.decision for name, section in bundle.manifest.sections.items()}

    floating, float_scores, float_decision = _float_scores(train, test, folder, config, bundle.manifest.input_scaling)
    systems = _systems(train, test, config, {INT8: (scores, decision), FLOAT: (float_scores, float_decision)})
    return Evaluation(
        machine=provenance.machine,
        seed=config.seed,
        preset=provenance.preset,
        data=provenance.data,
        bundle=bundle.digest,
        clips=[
            ClipResult(
                file=clip.path.name,
                path=str(clip.path.relative_to(data)),
                section=clip.name.section,
                domain=clip.name.domain,
                anomalous=None if clip.name.label is None else clip.name.label == "anomaly",
                score=neighbour.distance,
                nearest=detector.bank(clip.name.section).clips[neighbour.entry],
            )
            for clip, neighbour in zip(clips, neighbours, strict=True)
        ],
        thresholds=decision,
        systems=systems,
        parity=_parity(test, config, detector, floating, scores, float_scores, systems),
        embeddings=embedding_map(embeddings, test.names, bundle.banks),
    )


def write(folder: RunFolder, evaluation: Evaluation) -> None:
    """Keep an evaluation in its run's folder. Raises: StorageError."""
    write_json(folder.evaluation / "evaluation.json", evaluation)


def read(folder: RunFolder) -> Evaluation:
    """The run's last evaluation. Raises: ConfigError where there is none."""
    path = folder.evaluation / "evaluation.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); run `edge-asd evaluate {folder.path}` first.") from error


def _float_scores(
    train: LogMels, test: LogMels, folder: RunFolder, config: Config, scaling: InputScaling
) -> tuple[FloatModel, NDArray[np.float64], dict[str, float]]:
    """The same scores by the float network, against its own bank, with its own thresholds."""
    floating = FloatModel(load_encoder(folder.encoder, config), scaling, config.network)
    own: dict[str, Bank] = banks(embed_clips(train, config.windows, floating), train)
    embeddings = embed_clips(test, config.windows, floating)
    scores = [own[name.section].nearest(e).distance for name, e in zip(test.names, embeddings, strict=True)]
    decision = {section: thresholds(bank, config.detection).decision for section, bank in own.items()}
    return floating, np.array(scores), decision


def _systems(
    train: LogMels,
    test: LogMels,
    config: Config,
    learnt: Mapping[str, tuple[NDArray[np.float64], Mapping[str, float]]],
) -> list[SystemResult]:
    """Figures of every system; none where no section has both normal and anomalous clips."""
    if not _judged_sections(test):
        return []
    return [
        *(_result(name, test, scores, decision) for name, (scores, decision) in learnt.items()),
        *(_result(name, test, *_without_network(name, train, test, config)) for name in SYSTEMS),
    ]


def _without_network(
    name: str, train: LogMels, test: LogMels, config: Config
) -> tuple[NDArray[np.float64], dict[str, float]]:
    known, asked = clip_statistics(train), clip_statistics(test)
    known_section = np.array([clip.section for clip in train.names])
    asked_section = np.array([clip.section for clip in test.names])
    scores, decision = np.empty(len(asked)), {}
    for section in sorted(set(asked_section)):
        bank = known[known_section == section]
        scores[asked_section == section] = SYSTEMS[name](bank, asked[asked_section == section])
        left_out = [SYSTEMS[name](np.delete(bank, i, axis=0), bank[i : i + 1])[0] for i in range(len(bank))]
        decision[str(section)] = gamma_percentile(np.array(left_out), config.detection.decision_percentile)
    return scores, decision


def _judged_sections(test: LogMels) -> list[str]:
    """The sections that have normal and anomalous clips, so that an AUC exists."""
    normal = {name.section for name in test.names if name.label == "normal"}
    return sorted(normal & {name.section for name in test.names if name.label == "anomaly"})


def _result(name: str, test: LogMels, scores: NDArray[np.float64], decision: Mapping[str, float]) -> SystemResult:
    figures = {}
    for section in _judged_sections(test):
        members = [i for i, clip in enumerate(test.names) if clip.section == section and clip.label is not None]
        clips = [test.names[i] for i in members]
        figures[section] = section_figures(
            scores[members],
            np.array([clip.label == "anomaly" for clip in clips]),
            [clip.domain or "source" for clip in clips],
            decision[section],
            f"section {section}",
        )
    return SystemResult(name, figures, official_score(figures.values()))


def _parity(
    test: LogMels,
    config: Config,
    detector: Detector,
    floating: FloatModel,
    scores: NDArray[np.float64],
    float_scores: NDArray[np.float64],
    systems: list[SystemResult],
) -> Parity:
    cosines = []
    for index in range(0, len(test.clips), max(1, len(test.clips) // 32)):
        windows = config.windows.cut(test[index])
        cosines.append(mean_cosine(detector.model.embed(windows), floating.embed(windows)))
    section = np.array([name.section for name in test.names])
    correlations = [_rank_correlation(scores[section == one], float_scores[section == one]) for one in set(section)]
    int8, floating_figures = (list(system.sections.values()) for system in systems[:2]) if systems else ([], [])
    auc, pauc = (
        [(getattr(one, figure), getattr(other, figure)) for one, other in zip(int8, floating_figures, strict=True)]
        for figure in ("auc", "pauc")
    )
    return Parity(
        cosine=float(np.mean(cosines)),
        overall=Agreement(_rank_correlation(scores, float_scores), _points_apart(auc), _points_apart(pauc)),
        worst=Agreement(
            min((one for one in correlations if one is not None), default=None),
            max((100 * abs(one - other) for one, other in auc), default=None),
            max((100 * abs(one - other) for one, other in pauc), default=None),
        ),
    )


def _rank_correlation(scores: NDArray[np.float64], others: NDArray[np.float64]) -> float | None:
    """Spearman's; None for a single clip, or where all clips score the same."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return None
    return float(stats.spearmanr(scores, others).statistic)


def _points_apart(pairs: Sequence[tuple[float, float]]) -> float | None:
    """How far the harmonic means of two systems' figures, (figure, figure) a section, lie apart, in points of 100."""
    if not pairs:
        return None
    (_, one), (_, other) = (means(figures) for figures in zip(*pairs, strict=True))
    return 100 * abs(one - other)
