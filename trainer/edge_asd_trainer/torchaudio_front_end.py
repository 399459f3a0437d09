"""The log-mels of a data set by torchaudio, batch by batch, on the GPU if there is one (`[features] front_end`).

In float64, as the device's own front end: in float32 the quiet bands beside a 16-bit tone come out 0.2 dB off.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from edge_asd.errors import MissingRequirement
from edge_asd.front_end import FrontEnd, LogMel, Samples
from edge_asd.windows import Windows
from edge_asd_trainer.data import Clip
from edge_asd_trainer.waveforms import read_waveform

# In a batch, with 50 bytes each on the way; a longer clip goes alone. A GPU wants many, a CPU's cache hardly holds one.
SAMPLES_AT_ONCE = {"cuda": 32 * 160_000, "cpu": 160_000}
CLIPS_AHEAD = 64  # read, and waited for


def log_mels_of(clips: Sequence[Clip], front_end: FrontEnd, windows: Windows) -> Generator[LogMel]:
    """The log-mel of each clip, (frames, mels) in dB, in order.

    Raises:
        ClipError: a clip can't be read.
        DataError: a clip is shorter than one window; names it.
        MissingRequirement: torchaudio can't be imported.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    transform = TorchaudioFrontEnd(front_end, device)
    for batch in _batches(_read(clips, front_end, windows), SAMPLES_AT_ONCE[device]):
        yield from transform.log_mels(batch)


class TorchaudioFrontEnd:
    """`FrontEnd.log_mel` by torchaudio's transforms, for several clips at once."""

    def __init__(self, front_end: FrontEnd, device: str) -> None:
        """Raises: MissingRequirement: torchaudio can't be imported."""
        transforms = _torchaudio_transforms()
        self._front_end = front_end
        self._device = device
        self._spectrogram = transforms.Spectrogram(
            front_end.n_fft,
            hop_length=front_end.hop,
            window_fn=partial(torch.hann_window, dtype=torch.float64),
            power=front_end.power,
            pad_mode="constant",
        ).to(device)
        self._mel_scale = transforms.MelScale(
            front_end.mels,
            front_end.sample_rate,
            front_end.fmin,
            front_end.fmax,
            front_end.n_fft // 2 + 1,
            norm=front_end.mel_norm,
            mel_scale=front_end.mel_scale,
        ).to(device)
        # torchaudio computes the same filters in float32, which puts the quiet bands of a chirp 4e-3 dB off.
        self._mel_scale.fb = torch.from_numpy(front_end.mel_filters).to(device)

    @torch.inference_mode()
    def log_mels(self, waveforms: Sequence[Samples]) -> Iterator[LogMel]:
        """The log-mel of each waveform, (frames, mels) in dB.

        Args:
            waveforms: (samples,) each, of any lengths. Behind the shorter ones stand zeros; the frames that a clip has
                see no more of them than it is padded with anyway.
        """
        power = self._mel_scale(self._spectrogram(self._centred(waveforms)))
        decibel = 10.0 * torch.log10(power.clamp(min=self._front_end.floor))
        log_mels = decibel.transpose(1, 2).to(torch.float32).contiguous().cpu().numpy()
        for waveform, log_mel in zip(waveforms, log_mels, strict=True):
            yield log_mel[: self._front_end.frames(len(waveform))]

    def _centred(self, waveforms: Sequence[Samples]) -> Tensor:
        """(clips, samples of the longest) in float64: every clip less its mean, and zeros behind it."""
        samples = pad_sequence([torch.from_numpy(waveform) for waveform in waveforms], batch_first=True)
        means = torch.tensor([[np.mean(waveform, dtype=np.float64)] for waveform in waveforms], device=self._device)
        lengths = torch.tensor([[len(waveform)] for waveform in waveforms], device=self._device)
        held = torch.arange(samples.shape[1], device=self._device) < lengths
        return (samples.to(self._device).double() - means) * held


def _torchaudio_transforms() -> ModuleType:
    try:
        from torchaudio import transforms
    except (ImportError, OSError, RuntimeError) as error:  # a torchaudio for another torch fails in each of these ways
        raise MissingRequirement(
            f"features.front_end is torchaudio, which can't be imported here ({error}); install the one that goes with "
            f"torch {torch.__version__}: pip install torchaudio; or do without it: --set features.front_end=numpy"
        ) from error
    module: ModuleType = transforms
    return module


def _read(clips: Sequence[Clip], front_end: FrontEnd, windows: Windows) -> Iterator[Samples]:
    """The clips' waveforms, in order, read by a few threads a few clips ahead."""
    waiting: deque[Future[Samples]] = deque()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, CLIPS_AHEAD)) as threads:
        for clip in clips:
            if len(waiting) == CLIPS_AHEAD:
                yield waiting.popleft().result()
            waiting.append(threads.submit(read_waveform, clip, front_end, windows))
        while waiting:
            yield waiting.popleft().result()


def _batches(waveforms: Iterator[Samples], at_once: int) -> Iterator[list[Samples]]:
    """Waveforms, as many as make up so many samples with the zeros behind the shorter ones; one at least."""
    batch: list[Samples] = []
    for waveform in waveforms:
        if batch and (len(batch) + 1) * max(len(waveform), *map(len, batch)) > at_once:
            yield batch
            batch = []
        batch.append(waveform)
    if batch:
        yield batch
