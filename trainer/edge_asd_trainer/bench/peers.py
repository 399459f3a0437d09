"""What others make of a clip's waveform with the same frames, hop and mels; each where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import MissingRequirement
from edge_asd.front_end import FrontEnd, Samples

LogMelOf = Callable[[Samples], NDArray[np.float32]]


def librosa_log_mel(front_end: FrontEnd) -> LogMelOf:
    """As the challenge's baselines do it."""
    import librosa

    def log_mel(waveform: Samples) -> NDArray[np.float32]:
        power = librosa.feature.melspectrogram(
            y=waveform, sr=front_end.sample_rate, n_fft=front_end.n_fft, hop_length=front_end.hop, n_mels=front_end.mels
        )
        decibel: NDArray[np.float32] = librosa.power_to_db(power, amin=front_end.floor, top_db=None)
        return decibel

    return log_mel


def kaldi_log_mel(front_end: FrontEnd) -> LogMelOf:
    """As near as kaldi-native-fbank comes: it mirrors a clip at its ends, and gives natural logarithms."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq = front_end.sample_rate
    frame.frame_length_ms = 1000 * front_end.n_fft / front_end.sample_rate
    frame.frame_shift_ms = 1000 * front_end.hop / front_end.sample_rate
    frame.window_type = "hann"
    frame.snip_edges, frame.remove_dc_offset, frame.preemph_coeff, frame.dither = False, False, 0.0, 0.0
    mel.num_bins, mel.low_freq, mel.high_freq = front_end.mels, front_end.fmin, front_end.fmax
    mel.is_librosa = True  # Slaney's scale and areas

    def log_mel(waveform: Samples) -> NDArray[np.float32]:
        frames = kaldi_native_fbank.OnlineFbank(options)
        frames.accept_waveform(front_end.sample_rate, waveform)
        frames.input_finished()
        return np.stack([frames.get_frame(index) for index in range(frames.num_frames_ready)])

    return log_mel


def torchaudio_log_mel(front_end: FrontEnd) -> LogMelOf:
    """As a data set of PyTorch does it for each clip, in float32."""
    import torch
    from torchaudio.transforms import MelSpectrogram

    transform: Any = MelSpectrogram(
        front_end.sample_rate,
        front_end.n_fft,
        hop_length=front_end.hop,
        n_mels=front_end.mels,
        norm="slaney",
        mel_scale="slaney",
        pad_mode="constant",
    )

    @torch.inference_mode()
    def log_mel(waveform: Samples) -> NDArray[np.float32]:
        power = transform(torch.from_numpy(waveform))
        decibel: NDArray[np.float32] = (10.0 * torch.log10(power.clamp(min=front_end.floor))).numpy()
        return decibel

    return log_mel


PEERS: dict[str, Callable[[FrontEnd], LogMelOf]] = {
    "librosa": librosa_log_mel,
    "kaldi-native-fbank": kaldi_log_mel,
    "torchaudio": torchaudio_log_mel,
}


def installed_peers() -> list[str]:
    """The names of those that can be imported here. Raises: MissingRequirement where none can."""
    found = []
    for name in PEERS:
        try:
            import_module(name.replace("-", "_"))
        except (ImportError, OSError, RuntimeError):  # torchaudio for another torch fails in each of these ways
            continue
        found.append(name)
    if not found:
        raise MissingRequirement(
            f"none of {', '.join(PEERS)} can be imported here; there is nothing to compare with. "
            "Install some with: pip install 'edge-asd[bench]'"
        )
    return found
