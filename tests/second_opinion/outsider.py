"""A scorer of bundles by somebody who has read docs/bundle.md and no line of edge-asd: other libraries, other ways.

sound --librosa--> log-mel --slices--> images --bare interpreter--> embedding --scikit-learn, SciPy--> score

Of System 1's bundles, all back-ends; the baselines' are held elsewhere.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ai_edge_litert.interpreter as litert
import librosa
import numpy as np
import soundfile
from scipy.spatial import distance
from sklearn.neighbors import NearestNeighbors

MADE_FOR = 313  # frames of a clip of 10 s


def _tflite_runtime(model: bytes) -> Any:
    from tflite_runtime.interpreter import Interpreter  # which isn't there for every Python

    return Interpreter(model_content=model)


INTERPRETERS: dict[str, Callable[[bytes], Any]] = {
    "LiteRT": lambda model: litert.Interpreter(model_content=model),
    # One kernel an operation, as plain as it can be written, and nothing of what makes the others fast.
    "LiteRT's reference kernels": lambda model: litert.Interpreter(
        model_content=model, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    ),
    "tflite-runtime": _tflite_runtime,
}


@dataclass(frozen=True)
class Opinion:
    """What is made of a clip, step by step.

    Attributes:
        log_mel: dB, (mels, frames).
        images: what the model is given, int8 (windows, mels, frames of a window).
        embedding: the mean of the windows', (dimensions,).
        score: the distance to the nearest entry of the bank, or what the back-ends come to.
        nearest: the clip which is the nearest.
    """

    log_mel: np.ndarray
    images: np.ndarray
    embedding: np.ndarray
    score: float
    nearest: str


class Outsider:
    """A bundle, read with zipfile and json."""

    def __init__(self, path: Path, interpreter: str = "LiteRT") -> None:
        with zipfile.ZipFile(path) as archive:
            self._entries = {name: archive.read(name) for name in archive.namelist()}
        self._manifest: dict[str, Any] = json.loads(self._entries["manifest.json"])
        self._interpreter = INTERPRETERS[interpreter](self._entries["model.tflite"])
        [self._input], [self._output] = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def opinion(self, samples: np.ndarray, section: str) -> Opinion:
        """Of a clip's samples at the front end's rate."""
        wide = samples.astype(np.float64)
        log_mel = self.log_mel(wide - wide.mean())
        return self._of(log_mel, self.windows(log_mel), section)

    def opinions_of_a_stream(self, samples: np.ndarray, section: str) -> list[tuple[float, Opinion]]:
        """Of a stream that begins with these samples: after how many seconds there is one, and the opinion."""
        wanted, windows = self._manifest["front_end"], self._manifest["windows"]
        frame, hop, length, step = wanted["n_fft"], wanted["hop"], windows["frames"], windows["hop"]
        a_clip, wide = self.count(MADE_FOR), samples.astype(np.float64)
        ten_seconds = (length + (a_clip - 1) * step) * hop
        cut: list[np.ndarray] = []
        found = []
        # The frame behind the last of a window begins `length` frames after the window does.
        for first in range(0, (len(wide) - frame) // hop - length + 1, step):
            seen = (first + length) * hop + frame
            heard = wide[:seen] if seen <= ten_seconds + frame else wide[seen - ten_seconds : seen]
            own = wide[first * hop : (first + length - 1) * hop + frame]
            cut.append(self.log_mel(own - heard.mean(), clip=False))
            if len(cut) >= a_clip:
                log_mel = np.concatenate([cut[0], *(one[:, -step:] for one in cut[1:])], axis=1)[:, -MADE_FOR:]
                found.append((seen / wanted["sample_rate"], self._of(log_mel, cut[-a_clip:], section)))
        return found

    def log_mel(self, samples: np.ndarray, *, clip: bool = True) -> np.ndarray:
        """(mels, frames), by librosa, in float64 until it is rounded; of a clip its ends are padded."""
        wanted = self._manifest["front_end"]
        power = librosa.feature.melspectrogram(
            y=samples,
            sr=wanted["sample_rate"],
            n_fft=wanted["n_fft"],
            hop_length=wanted["hop"],
            n_mels=wanted["mels"],
            fmin=wanted["fmin"],
            fmax=wanted["fmax"],
            htk=wanted["mel_scale"] == "htk",
            norm=wanted["mel_norm"],
            power=wanted["power"],
            center=clip,
            pad_mode={"zeros": "constant"}[wanted["padding"]],
            dtype=np.float64,
        )
        decibels: np.ndarray = (10 * np.log10(np.maximum(power, wanted["floor"]))).astype(np.float32)
        return decibels

    def count(self, frames: int) -> int:
        """Windows of so many frames, B = ceil((T - P) / L)."""
        windows = self._manifest["windows"]
        beyond = frames - windows["frames"]
        assert beyond >= 0, "a shorter clip is refused"
        if windows["to_the_end"]:
            return beyond // windows["hop"] + 1
        return int(np.ceil(beyond / windows["hop"])) or 1

    def windows(self, log_mel: np.ndarray) -> list[np.ndarray]:
        """(mels, frames of a window) each."""
        frames, hop = self._manifest["windows"]["frames"], self._manifest["windows"]["hop"]
        starts = [number * hop for number in range(self.count(log_mel.shape[1]))]
        return [log_mel[:, start : start + frames] for start in starts]

    def steps(self, log_mel: np.ndarray) -> np.ndarray:
        """A log-mel in the steps of the model's input, before it is rounded and cut: in float64, what is meant."""
        scaling, (step, zero) = self._manifest["input_scaling"], self._input["quantization"]
        meant: np.ndarray = (log_mel.astype(np.float64) - scaling["mean"]) / scaling["std"] / step + zero
        return meant

    def image(self, log_mel: np.ndarray) -> np.ndarray:
        """The same as int8, by the one multiplication and the one addition in float32 that are described."""
        scaling, (step, zero) = self._manifest["input_scaling"], self._input["quantization"]
        f = 1 / (scaling["std"] * step)
        steps = log_mel * np.float32(f) + np.float32(zero - scaling["mean"] * f)
        assert steps.dtype == np.float32
        return np.clip(np.rint(steps), -128, 127).astype(np.int8)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Of int8 images (n, mels, frames), one after the other: (n, dimensions)."""
        step, zero = self._output["quantization"]
        self._interpreter.resize_tensor_input(self._input["index"], (1, *images.shape[1:], 1))
        self._interpreter.allocate_tensors()
        found = []
        for image in images:
            self._interpreter.set_tensor(self._input["index"], image[None, :, :, None])
            self._interpreter.invoke()
            codes = self._interpreter.get_tensor(self._output["index"])[0]
            found.append((codes.astype(np.float32) - np.float32(zero)) * np.float32(step))
        return np.stack(found)

    @property
    def output_step(self) -> float:
        """By which two neighbouring codes of the model's output differ."""
        return float(self._output["quantization"][0])

    def _of(self, log_mel: np.ndarray, windows: list[np.ndarray], section: str) -> Opinion:
        images = np.stack([self.image(window) for window in windows])
        embedding = self.embed(images).mean(axis=0, dtype=np.float64).astype(np.float32)
        return Opinion(log_mel, images, embedding, *self.compare(embedding, log_mel, section))

    def compare(self, embedding: np.ndarray, log_mel: np.ndarray, section: str) -> tuple[float, str]:
        """The score of a clip's embedding, or of the statistics of its log-mel, and the nearest clip."""
        stated, wide = self._manifest["sections"][section], log_mel.astype(np.float64)
        over_time = np.concatenate([np.mean(wide, axis=1), np.std(wide, axis=1)]).astype(np.float32)
        looked_at = {"embedding": embedding, "statistics": over_time}
        scores = [
            Entries(self._entries, section, one["feature"]).score(looked_at[one["feature"]], one)
            for one in self._manifest["backends"]
        ]
        if len(scores) > 1:
            spreads = zip(scores, stated["spreads"], strict=True)
            scores = [(score - spread["mean"]) / spread["deviation"] for score, spread in spreads]
        return -sum(scores) if stated["flipped"] else sum(scores), self.bank(section).nearest(embedding)

    def bank(self, section: str) -> Entries:
        """That of the embeddings."""
        return Entries(self._entries, section, "embedding")

    @property
    def golden(self) -> tuple[np.ndarray, np.ndarray, float, str]:
        """The golden clip's samples, its embedding and score at export, and whose bank that was of."""
        samples, _ = soundfile.read(io.BytesIO(self._entries["golden.wav"]))
        stated = self._manifest["golden"]
        return samples, np.load(io.BytesIO(self._entries["golden.npy"])), stated["score"], stated["section"]


class Entries:
    """A bank, each entry a point: its coordinates, then its rest at a right angle to all and to every other's rest."""

    def __init__(self, files: dict[str, bytes], section: str, feature: str) -> None:
        stem = f"bank/{section}.{feature}"
        codes, axes = (
            np.load(io.BytesIO(files[f"{stem}.{kind}.npy"])).astype(np.float64) for kind in ("codes", "axes")
        )
        names = json.loads(files[f"{stem}.json"])
        self._clips: list[str] = names["clips"]
        self._centre, self._axes = axes[0], axes[1:]
        self._coordinates, self._rests = np.split(codes * names["scale"], [-1], axis=1)

    def _place(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        from_centre = x - self._centre
        coordinates = from_centre @ self._axes.T
        return coordinates, float(np.linalg.norm(from_centre - coordinates @ self._axes))

    def distances(self, x: np.ndarray) -> np.ndarray:
        """To every entry, by SciPy, (entries,)."""
        coordinates, rest = self._place(x)
        points = np.column_stack([self._coordinates, np.zeros(len(self._rests)), self._rests])
        return distance.cdist([[*coordinates, rest, 0.0]], points)[0]

    def nearest(self, x: np.ndarray) -> str:
        """The clip."""
        return self._clips[int(np.argmin(self.distances(x)))]

    def score(self, x: np.ndarray, backend: dict[str, Any]) -> float:
        """By one back-end."""
        if backend["distance"] == "mahalanobis":
            return self._mahalanobis(x)
        if not backend["density"]:
            return self._mean_of_nearest(x, backend["neighbours"])
        rescaled = self.distances(x) / self._own_distances(backend["density"])
        return float(np.partition(rescaled, backend["neighbours"] - 1)[: backend["neighbours"]].mean())

    def _mean_of_nearest(self, x: np.ndarray, neighbours: int) -> float:
        coordinates, rest = self._place(x)
        points = np.column_stack([self._coordinates, self._rests, np.zeros(len(self._rests))])
        asked = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points)
        return float(asked.kneighbors([[*coordinates, 0.0, rest]])[0].mean())

    def _own_distances(self, neighbours: int) -> np.ndarray:
        """Mean distance of every entry to so many others, (entries,)."""
        points = np.column_stack([self._coordinates, np.diag(self._rests[:, 0])])
        others = NearestNeighbors(n_neighbors=min(neighbours, len(points) - 1), algorithm="brute").fit(points)
        means: np.ndarray = others.kneighbors()[0].mean(axis=1)  # asked without points, none meets itself
        return means

    def _mahalanobis(self, x: np.ndarray) -> float:
        """In all dimensions, the rests spread over those that are no axis, by SciPy's distance."""
        along, dimensions = len(self._axes), len(self._centre)
        outside = max(1, dimensions - along)
        spread = np.zeros((along + outside, along + outside))
        spread[:along, :along] = np.cov(self._coordinates, rowvar=False, bias=True)
        spread[range(along, len(spread)), range(along, len(spread))] = np.mean(self._rests**2) / outside
        shrunk = 0.9 * spread + 0.1 * np.trace(spread) / dimensions * np.eye(len(spread))
        coordinates, rest = self._place(x)
        nowhere = np.zeros(outside - 1)
        asked, middle = [*coordinates, rest, *nowhere], [*self._coordinates.mean(axis=0), 0.0, *nowhere]
        return float(distance.mahalanobis(asked, middle, np.linalg.inv(shrunk)))
