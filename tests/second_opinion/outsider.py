"""A scorer of bundles by somebody who has read docs/bundle.md and no line of edge-asd: other libraries, other ways.

sound --librosa--> log-mel --slices--> windows --bare interpreter--> embeddings --> mean --scikit-learn--> score
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
from ai_edge_litert.interpreter import Interpreter
from sklearn.neighbors import NearestNeighbors


@dataclass(frozen=True)
class Opinion:
    """What is made of a clip, step by step.

    Attributes:
        log_mel: dB, (mels, frames).
        embedding: the mean of the windows', (dimensions,).
        score: the distance to the nearest entry of the bank.
        nearest: the clip which that is of.
    """

    log_mel: np.ndarray
    embedding: np.ndarray
    score: float
    nearest: str


class Outsider:
    """A bundle, read with zipfile and json."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self._entries = {name: archive.read(name) for name in archive.namelist()}
        self._manifest: dict[str, Any] = json.loads(self._entries["manifest.json"])
        self._interpreter = Interpreter(model_content=self._entries["model.tflite"])
        [self._input], [self._output] = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def opinion(self, samples: np.ndarray, section: str) -> Opinion:
        """Of a clip's samples at the front end's rate."""
        log_mel = self.log_mel(samples - samples.mean())
        embedding = np.mean([self.embed(window) for window in self.windows(log_mel)], axis=0)
        score, nearest = self.compare(embedding, section)
        return Opinion(log_mel, embedding, score, nearest)

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """(mels, frames), by librosa, in float64."""
        wanted = self._manifest["front_end"]
        power = librosa.feature.melspectrogram(
            y=samples.astype(np.float64),
            sr=wanted["sample_rate"],
            n_fft=wanted["n_fft"],
            hop_length=wanted["hop"],
            n_mels=wanted["mels"],
            fmin=wanted["fmin"],
            fmax=wanted["fmax"],
            htk=wanted["mel_scale"] == "htk",
            norm=wanted["mel_norm"],
            power=wanted["power"],
            pad_mode={"zeros": "constant", "reflect": "reflect"}[wanted["padding"]],
            dtype=np.float64,
        )
        decibels: np.ndarray = 10 * np.log10(np.maximum(power, wanted["floor"]))
        return decibels

    def windows(self, log_mel: np.ndarray) -> list[np.ndarray]:
        """(mels, frames of a window) each: B = ceil((T - P) / L) of them (section 2.1)."""
        frames, hop = self._manifest["windows"]["frames"], self._manifest["windows"]["hop"]
        return [log_mel[:, start : start + frames] for start in range(0, log_mel.shape[1] - frames, hop)]

    def embed(self, window: np.ndarray) -> np.ndarray:
        """A window's, by its int8 image: standardised, in the steps of the model's input, rounded, cut to 8 bits."""
        scaling = self._manifest["input_scaling"]
        standardised = (window.astype(np.float32).astype(np.float64) - scaling["mean"]) / scaling["std"]
        step, zero = self._input["quantization"]
        image = np.clip(np.rint(standardised / step) + zero, -128, 127).astype(np.int8)
        self._interpreter.resize_tensor_input(self._input["index"], (1, *window.shape, 1))
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], image[None, :, :, None])
        self._interpreter.invoke()
        step, zero = self._output["quantization"]
        found: np.ndarray = (self._interpreter.get_tensor(self._output["index"])[0].astype(np.float64) - zero) * step
        return found

    def compare(self, embedding: np.ndarray, section: str) -> tuple[float, str]:
        """The nearest entry: coordinates, and the two rests at a right angle to everything and to each other."""
        codes, axes, names = self.bank(section)
        kept = codes * names["scale"]
        from_centre = embedding - axes[0]
        coordinates = from_centre @ axes[1:].T
        rest = float(np.linalg.norm(from_centre - coordinates @ axes[1:]))
        nowhere = np.zeros(len(kept))
        bank = np.column_stack([kept[:, :-1], kept[:, -1], nowhere])
        asked = np.array([[*coordinates, 0.0, rest]])
        [[distance]], [[entry]] = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank).kneighbors(asked)
        return float(distance), names["clips"][entry]

    def bank(self, section: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Codes (entries, axes + 1), centre and axes (1 + axes, dimensions), and what they are of."""
        stem = f"bank/{section}.embedding"
        codes, axes = (
            np.load(io.BytesIO(self._entries[f"{stem}.{kind}.npy"])).astype(np.float64) for kind in ("codes", "axes")
        )
        return codes, axes, json.loads(self._entries[f"{stem}.json"])

    @property
    def golden(self) -> tuple[np.ndarray, np.ndarray, float, str]:
        """The golden clip's samples, its embedding and score at export, and whose bank that was of."""
        samples, _ = soundfile.read(io.BytesIO(self._entries["golden.wav"]))
        stated = self._manifest["golden"]
        return samples, np.load(io.BytesIO(self._entries["golden.npy"])), stated["score"], stated["section"]
