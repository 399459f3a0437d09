"""How good a run is: scored from its bundle alone, with the device's own code; what is measured is what ships.

Beside it, on the same split: the float network (what quantisation costs), and systems without a network (the bar).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_asd import bundle as bundles
from edge_asd import progress
from edge_asd.bundle import Bundle
from edge_asd.errors import ConfigError, DataError
from edge_asd.manifest import Manifest
from edge_asd.scoring import ClipScorer
from edge_asd_trainer.bank_size import BankSize, bank_sizes
from edge_asd_trainer.baselines.statistics import SYSTEMS as WITHOUT_NETWORK
from edge_asd_trainer.candidates import Candidate, Judged, judged, milliseconds_a_clip, without_network
from edge_asd_trainer.config import Config, fingerprint
from edge_asd_trainer.data import Clip, evaluation_clips, training_clips
from edge_asd_trainer.detection import detect
from edge_asd_trainer.embedding_map import EmbeddingMap, embedding_map
from edge_asd_trainer.export import FloatModel
from edge_asd_trainer.features import LogMels, log_mels
from edge_asd_trainer.ground_truth import named
from edge_asd_trainer.ground_truth import read as read_ground_truth
from edge_asd_trainer.metrics import SectionFigures, official_interval, official_score, resampled, section_figures
from edge_asd_trainer.parity import Parity, parity, window_cosine
from edge_asd_trainer.run_folder import RunFolder, write_json
from edge_asd_trainer.systems import SYSTEMS


class ClipResult(msgspec.Struct, frozen=True):
    """One test clip, as the bundle scores it; `path` is relative to the data set, an unknown truth is None.

    Attributes:
        score, float_score: of the bundle, and of the float network.
        nearest: the training clip that the score is the distance to; empty for a system without a bank.
    """

    file: str
    path: str
    section: str
    domain: str | None
    anomalous: bool | None
    score: float
    float_score: float
    nearest: str


class SystemResult(msgspec.Struct, frozen=True):
    """One system: its figures by section, the official score over them, and what it costs.

    Attributes:
        interval: of the score, 95 %.
        training_seconds: of all its trainings, or of fitting.
        bundle_bytes: what a device gets; None of what isn't exported.
        milliseconds: from a clip's samples to its score, on this machine and one thread; median of some clips.
    """

    name: str
    sections: dict[str, SectionFigures]
    score: float
    interval: tuple[float, float]
    training_seconds: float
    bundle_bytes: int | None
    milliseconds: float


class Evaluation(msgspec.Struct, frozen=True):
    """All that an evaluation found.

    Attributes:
        machine, system, seed, preset, data: what was evaluated on what.
        bundle: first 16 digits of its SHA-256.
        clips: every test clip.
        thresholds: decision threshold by section.
        flipped: sections whose scores have the opposite sign.
        systems: the bundle first; empty where no section has labelled clips of both kinds.
        parity: int8 against float.
        embeddings: where the clips' embeddings lie on a plane, for the eye; None for a system without a bank.
        bank_sizes: what smaller banks would reach; empty where there is none, or nothing is labelled.
    """

    machine: str
    system: str
    seed: int
    preset: str
    data: str
    bundle: str
    clips: list[ClipResult]
    thresholds: dict[str, float]
    flipped: list[str]
    systems: list[SystemResult]
    parity: Parity
    embeddings: EmbeddingMap | None
    bank_sizes: list[BankSize]


def evaluate(folder: RunFolder, ground_truth: Path | None = None) -> Evaluation:
    """Evaluate a run on its data set's test clips.

    Figures are those of the labelled clips; a section that lacks normal or anomalous ones has none, which is said.

    Args:
        folder: of the run.
        ground_truth: labels and domains of clips whose names don't say them, see `ground_truth.read`.

    Raises:
        ConfigError: the folder is no run, or its configuration isn't that of its bundle.
        BundleError: its bundle can't be verified.
        DataError: the data set is gone, there are no test clips, one of a section that the bundle doesn't know, the
            training clips aren't those of the bundle, or the ground truth isn't of these clips.
    """
    provenance, config = folder.read_provenance(), folder.read_config()
    data, system = provenance.data_set(), SYSTEMS[config.system]
    bundle = _bundle(folder, provenance.machine, config)
    clips = _test_clips(data, provenance.machine, bundle.manifest, ground_truth)
    train, test = _log_mels(data, clips, folder, provenance.machine, config, bundle)

    detector = bundle.detector()
    found = judged(detector, test)
    floating = FloatModel(system.network(folder.network, config), bundle.manifest.input_scaling)
    banks = bundle.embedding_banks
    kept = {name for bank in banks.values() for name in bank.clips}
    float_sections, float_detector = detect(train, floating, system, config, provenance.machine, kept=kept)
    float_found = judged(float_detector, test)

    trained = sum(folder.read_timings().seconds.get(stage, 0.0) for stage in system.stages)
    title = system.title + "".join(f", {section} flipped" for section in sorted(detector.flipped))
    learnt = [
        (f"{title}, int8 (the bundle)", detector, found, bundle.manifest.sections, bundle.size),
        (f"{title}, float", float_detector, float_found, float_sections, None),
    ]
    candidates = [
        Candidate(
            name=name,
            scores=result.scores,
            decision={section: stated.thresholds.decision for section, stated in sections.items()},
            training_seconds=trained,
            bundle_bytes=size,
            milliseconds=milliseconds_a_clip(ClipScorer(one).score, clips, config.front_end),
        )
        for name, one, result, sections, size in learnt
    ]
    candidates += [without_network(one, train, test, config.detection, config.front_end) for one in WITHOUT_NETWORK]
    labelled = _labelled(test)
    systems = [_result(candidate, test, labelled) for candidate in candidates] if labelled else []
    return Evaluation(
        machine=provenance.machine,
        system=config.system,
        seed=config.seed,
        preset=provenance.preset,
        data=provenance.data,
        bundle=bundle.digest,
        clips=[_clip_result(clip, data, index, found, float_found) for index, clip in enumerate(clips)],
        thresholds=dict(candidates[0].decision),
        flipped=sorted(detector.flipped),
        systems=systems,
        parity=parity(
            window_cosine(test, detector.windows, detector.model, float_detector.model),
            [name.section for name in test.names],
            found.scores,
            float_found.scores,
            *([list(one.sections.values()) for one in systems[:2]] or ([], [])),
        ),
        embeddings=embedding_map(found.embeddings, test.names, banks) if banks else None,
        bank_sizes=_bank_sizes(bundle, found, test, labelled),
    )


def _bundle(folder: RunFolder, machine: str, config: Config) -> Bundle:
    """The run's bundle, which its numbers must be those of."""
    bundle = bundles.read(folder.bundle(machine))
    if bundle.manifest.config_fingerprint != fingerprint(config):
        raise ConfigError(
            f"{folder.config}: not the numbers that {folder.bundle(machine)} was trained with; "
            "training was broken off, so run the same `edge-asd train` again."
        )
    return bundle


def _test_clips(data: Path, machine: str, stated: Manifest, ground_truth: Path | None) -> Sequence[Clip]:
    clips = evaluation_clips(data, machine, stated.sections.keys())
    if not clips:
        raise DataError(f"{data / machine / 'test'}: no test clips there; nothing can be evaluated.")
    if not ground_truth:
        return clips
    labelled = named(clips, read_ground_truth(ground_truth, machine))
    if unknown := sum(clip.name.label is not None and clip.name.domain is None for clip in labelled):
        progress.say(f"{ground_truth}: says no domain of {unknown} clips; they count as of the source domain")
    return labelled


def _log_mels(
    data: Path, clips: Sequence[Clip], folder: RunFolder, machine: str, config: Config, bundle: Bundle
) -> tuple[LogMels, LogMels]:
    """Of the training clips, which must be those of the bundle, and of the test clips."""
    front_end, windows = bundle.manifest.front_end, SYSTEMS[config.system].training_windows(config)
    known = training_clips(data, machine)
    train = log_mels(known, front_end, windows, folder.features("train"), config.features.front_end)
    if bundle.manifest.data_fingerprint != train.fingerprint:
        raise DataError(
            f"{data / machine / 'train'}: not the clips that {folder.bundle(machine)} was trained on; "
            "put them back, or train again."
        )
    return train, log_mels(clips, front_end, windows, folder.features("test"))


def _labelled(test: LogMels) -> dict[str, list[int]]:
    """By section its labelled clips; of the sections that have normal and anomalous ones, so that an AUC exists."""
    labels = {(name.section, name.label) for name in test.names}
    both = sorted(section for section, label in labels if label == "normal" and (section, "anomaly") in labels)
    for section in sorted({section for section, _ in labels} - {*both}):
        progress.say(f"section {section}: no figures, for it lacks test clips that are labelled normal, or anomalous")
    return {
        section: [i for i, name in enumerate(test.names) if name.section == section and name.label] for section in both
    }


def _result(candidate: Candidate, test: LogMels, labelled: Mapping[str, list[int]]) -> SystemResult:
    figures, drawn = {}, []
    for section, members in labelled.items():
        names, title = [test.names[i] for i in members], f"section {section}"
        scores, anomalous = candidate.scores[members], np.array([name.label == "anomaly" for name in names])
        domains = [name.domain or "source" for name in names]
        drawn.append(resampled(scores, anomalous, domains, title))
        decision = candidate.decision[section]
        figures[section] = section_figures(scores, anomalous, domains, decision, title, drawn[-1])
    return SystemResult(
        name=candidate.name,
        sections=figures,
        score=official_score(figures.values()),
        interval=official_interval(drawn),
        training_seconds=round(candidate.training_seconds, 3),
        bundle_bytes=candidate.bundle_bytes,
        milliseconds=round(candidate.milliseconds, 3),
    )


def _clip_result(clip: Clip, data: Path, index: int, found: Judged, float_found: Judged) -> ClipResult:
    return ClipResult(
        file=clip.path.name,
        path=str(clip.path.relative_to(data)),
        section=clip.name.section,
        domain=clip.name.domain,
        anomalous=None if clip.name.label is None else clip.name.label == "anomaly",
        score=float(found.scores[index]),
        float_score=float(float_found.scores[index]),
        nearest=found.nearest[index],
    )


def _bank_sizes(bundle: Bundle, found: Judged, test: LogMels, labelled: Mapping[str, list[int]]) -> list[BankSize]:
    members = [i for one in labelled.values() for i in one]
    if not bundle.embedding_banks or not members:
        return []
    names = [test.names[i] for i in members]
    flipped = [bundle.manifest.sections[name.section].flipped for name in names]
    return bank_sizes(
        bundle.embedding_banks,
        found.embeddings[members],
        [name.section for name in names],
        [name.label == "anomaly" for name in names],
        np.where(flipped, -1.0, 1.0),
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
