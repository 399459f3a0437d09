"""Clips to waveforms, as every way to compute a data set's log-mels reads them."""

from __future__ import annotations

from edge_asd.audio import read_clip
from edge_asd.errors import DataError
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.windows import Windows
from edge_asd_trainer.data import Clip


def read_waveform(clip: Clip, front_end: FrontEnd, windows: Windows) -> Samples:
    """(samples,) of a clip at the front end's rate.

    Raises:
        ClipError: the clip can't be read.
        DataError: it is shorter than one window.
    """
    waveform = read_clip(clip.path, front_end.sample_rate)
    if not windows.count(front_end.frames(len(waveform))):
        seconds = len(waveform) / front_end.sample_rate
        least = windows.frames * front_end.hop / front_end.sample_rate
        raise DataError(f"{clip.path}: {seconds:.2f} s long, one window takes {least:.2f} s; record longer clips.")
    return waveform
