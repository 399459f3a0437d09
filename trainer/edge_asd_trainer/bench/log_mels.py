"""Clips to log-mels, beside librosa, kaldi-native-fbank and torchaudio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_asd.clip_name import parse_clip_name
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.windows import Windows
from edge_asd.workers import each, one_thread
from edge_asd_trainer.bench.measurement import Effort, Row, fastest
from edge_asd_trainer.bench.peers import PEERS, LogMelOf, installed_peers
from edge_asd_trainer.bench.pool import started_pool
from edge_asd_trainer.data import Clip
from edge_asd_trainer.features import compute, fingerprint_of
from edge_asd_trainer.numpy_front_end import CLIPS_A_TASK, Share, log_mels_of, start

FILES, CLIPS = 64, 512
SECONDS = 10
GOALS = {"librosa": 3.0, "kaldi-native-fbank": 1.0, "torchaudio": 1.0}
ONE_THREAD_GOALS = dict.fromkeys(GOALS, 1.0)
OURS = "ours"


def from_the_start(effort: Effort) -> list[Row]:
    """From WAV files of 10 s to log-mels on all cores, milliseconds a clip, as one waits for it.

    Everyone starts as many processes as there are cores and imports what they need. Ours ends with frames and checksums
    in a cache on the disk, a peer with arrays in the parent's memory.
    """
    with _clips(effort.of(FILES), effort.of(CLIPS)) as clips, one_thread():
        figures = _for_data_set(clips, dict.fromkeys((OURS, *installed_peers()), each), effort)
    return _rows(f"log-mels of {len(clips)} clips from the start, {_processes()} processes", figures, GOALS)


def once_started(effort: Effort) -> list[Row]:
    """From WAV files of 10 s to log-mels on all cores, milliseconds a clip once everyone's processes have started."""
    with _clips(effort.of(FILES), effort.of(FILES)) as clips, one_thread(), ExitStack() as stack:
        shares = {}
        for name in (OURS, *installed_peers()):
            pool = stack.enter_context(started_pool(_processes(), partial(_start, name)))
            shares[name] = pool.each
        figures = _for_data_set(clips, shares, effort)
    return _rows(f"log-mels of a data set once all has started, {_processes()} processes", figures)


def on_one_thread(effort: Effort) -> list[Row]:
    """From the samples of 10 s to their log-mel, milliseconds on one thread; nothing is read or written."""
    names = (OURS, *installed_peers())
    with (
        one_thread(),
        started_pool(1, start) as pool,
        pool.each(partial(_time_on_one_thread, names), [effort.repetitions * effort.of(FILES)], 1) as results,
    ):
        [figures] = results
    return _rows("log-mel of a clip, one thread", figures, ONE_THREAD_GOALS)


def _for_data_set(clips: Sequence[Clip], contenders: Mapping[str, Share], effort: Effort) -> dict[str, float]:
    work: dict[str, Callable[[], object]] = {
        name: partial(_ours if name == OURS else partial(_theirs, name), clips, share)
        for name, share in contenders.items()
    }
    return {name: 1e3 * seconds / len(clips) for name, seconds in fastest(work, effort.repetitions).items()}


def _rows(what: str, figures: Mapping[str, float], goals: Mapping[str, float] | None = None) -> list[Row]:
    theirs = {name: figure for name, figure in figures.items() if name != OURS}
    return [Row(what, figures[OURS], figure, "ms", name, (goals or {}).get(name)) for name, figure in theirs.items()]


def _ours(clips: Sequence[Clip], share: Share) -> None:
    """All that `features.log_mels` does where there is no cache yet."""
    fingerprint_of(clips, FrontEnd(), Windows())
    frames = clips[0].path.with_name("frames.npy")
    compute(clips, FrontEnd(), Windows(), frames, partial(log_mels_of, share=share))


def _theirs(name: str, clips: Sequence[Clip], share: Share) -> None:
    paths = [clip.path for clip in clips]
    tasks = [paths[start : start + CLIPS_A_TASK] for start in range(0, len(paths), CLIPS_A_TASK)]
    with share(partial(_their_log_mels, name), tasks, _processes()) as log_mels:
        list(log_mels)


def _their_log_mels(name: str, paths: Sequence[Path]) -> list[NDArray[np.float32]]:
    return [_contender(name)(soundfile.read(path, dtype="float32")[0]) for path in paths]


def _time_on_one_thread(names: Sequence[str], repetitions: int) -> dict[str, float]:
    seconds = fastest({name: partial(_contender(name), waveform(0)) for name in names}, repetitions)
    return {name: 1e3 * value for name, value in seconds.items()}


def _start(name: str) -> None:
    """Import what a contender needs, and let it make its filters and its plans."""
    if name == OURS:
        start()
    _contender(name)(waveform(0))


@cache
def _contender(name: str) -> LogMelOf:
    return FrontEnd().log_mel if name == OURS else PEERS[name](FrontEnd())


def _processes() -> int:
    return os.cpu_count() or 1


@contextmanager
def _clips(files: int, count: int) -> Iterator[list[Clip]]:
    """So many clips; there are fewer files, which come again and again."""
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        clips = []
        for number in range(files):
            path = Path(folder) / f"section_00_source_train_normal_{number:04d}.wav"
            soundfile.write(path, waveform(number), FrontEnd().sample_rate, subtype="PCM_16")
            clips.append(Clip(path, parse_clip_name(path.name)))
        yield [clips[number % files] for number in range(count)]


def waveform(seed: int) -> Samples:
    """10 s of a hum under noise."""
    rng, rate = np.random.default_rng(seed), FrontEnd().sample_rate
    seconds = np.arange(SECONDS * rate) / rate
    hum = sum(0.05 * np.sin(2 * np.pi * rng.uniform(50, 4000) * seconds) for _ in range(4))
    samples: Samples = (hum + rng.normal(0, 0.05, len(seconds))).astype(np.float32)
    return samples
