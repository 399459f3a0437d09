"""The network, whatever runs it: windows in, embeddings out.

LiteRT (`ai-edge-litert`) and `tflite-runtime` have the same `Interpreter`; the first that imports is taken, LiteRT
before the other, which never hands int8 to XNNPACK and is up to twenty times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import BundleError, MissingRequirement
from edge_asd.front_end import LogMel
from edge_asd.native_output import silenced

WINDOWS_AT_ONCE = 32

_greeted: set[str] = set()  # the runtimes that have greeted in this process

Runtime = Literal["litert", "tflite-runtime"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)  # as they are preferred
_PACKAGES: dict[Runtime, tuple[str, str]] = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}


class Model(Protocol):
    """Anything that embeds windows: an int8 interpreter here, a float network on the workstation."""

    name: str

    def prepare(self, log_mel: LogMel) -> NDArray[Any]:
        """A log-mel (frames, mels) in dB as the network takes it, so that this is done once a frame, not a window."""
        ...

    def embed(self, windows: NDArray[Any]) -> NDArray[np.float32]:
        """(N, mels, frames), in dB or cut from what was prepared, to (N, dimensions)."""
        ...


@dataclass(frozen=True)
class InputScaling:
    """Mean and standard deviation, in dB, by which the log-mel is standardised before the network."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.std) and self.std > 0):
            raise ValueError(f"mean must be finite and std positive, found {self.mean}, {self.std}")


def package_of(runtime: Runtime) -> str:
    """The name of the package that brings a runtime."""
    return _PACKAGES[runtime][1]


def installed_runtime(preferred: Runtime | None = None) -> tuple[str, Callable[..., Any]]:
    """Name and version of the first runtime that imports, such as "litert 2.1.0", and its `Interpreter` class.

    Raises:
        MissingRequirement: neither runtime (or not the preferred one) can be imported here.
    """
    reasons = []
    for name in (preferred,) if preferred else _PACKAGES:
        module, package = _PACKAGES[name]
        try:
            return f"{name} {version(package)}", import_module(module).Interpreter
        except (ImportError, AttributeError) as error:
            reasons.append(f"{name}: {error}")
    raise MissingRequirement(
        f"no TFLite interpreter can be imported ({'; '.join(reasons)}); install one with: pip install ai-edge-litert"
    )


class TFLiteModel:
    """A TFLite file with int8 or float input and output.

    Standardisation and quantisation of the input are one multiplication and one addition:
    q = round((x - mean) / std / scale + zero_point).
    """

    def __init__(
        self, content: bytes, scaling: InputScaling, *, threads: int = 1, preferred: Runtime | None = None
    ) -> None:
        """Load a TFLite file.

        Raises:
            MissingRequirement: no interpreter is installed, or none that works here.
            BundleError: the interpreter refuses the file, or its tensors aren't what they should be.
        """
        self.name, interpreter = installed_runtime(preferred)
        try:
            # The first allocation greets on standard error, which later ones leave to whoever speaks meanwhile.
            with nullcontext() if self.name in _greeted else silenced():
                self._interpreter = interpreter(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
            _greeted.add(self.name)
            [self._input] = self._interpreter.get_input_details()
            [self._output] = self._interpreter.get_output_details()
        except SystemError as error:  # its native part was built for another NumPy
            raise MissingRequirement(
                f"{self.name} doesn't work beside NumPy {np.__version__}; install another: pip install ai-edge-litert, "
                "or pip install 'numpy<2'."
            ) from error
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"model.tflite: {self.name} can't load it ({error}); export the bundle again.") from error
        self._batch = 0
        self._scaling = scaling
        self.window_shape = tuple(int(size) for size in self._input["shape"][1:3])
        self.dimensions = int(self._output["shape"][-1])

    def prepare(self, log_mel: LogMel) -> NDArray[Any]:
        """(frames, mels) in dB to int8, where that is the input's type, else as it is.

        Bands lie one behind the other in memory, so that a window is 128 runs of neighbours.
        """
        return np.asfortranarray(log_mel if self._input["dtype"] == np.float32 else self._to_input(log_mel))

    def embed(self, windows: NDArray[Any]) -> NDArray[np.float32]:
        """(N, mels, frames) log-mel, in dB or cut from what was prepared, to (N, dimensions).

        Raises:
            ValueError: the windows don't have the shape that the model takes.
        """
        if windows.shape[1:] != self.window_shape:
            raise ValueError(f"the model takes windows of shape {self.window_shape}, found {windows.shape[1:]}")
        parts = [self._invoke(windows[start : start + WINDOWS_AT_ONCE]) for start in _starts(len(windows))]
        return np.concatenate(parts) if parts else np.empty((0, self.dimensions), np.float32)

    def _invoke(self, windows: NDArray[Any]) -> NDArray[np.float32]:
        if len(windows) != self._batch:
            self._interpreter.resize_tensor_input(self._input["index"], (len(windows), *self.window_shape, 1))
            self._interpreter.allocate_tensors()
            self._batch = len(windows)
        inputs = windows if windows.dtype == self._input["dtype"] != np.float32 else self._to_input(windows)
        np.copyto(self._interpreter.tensor(self._input["index"])()[..., 0], inputs)  # set_tensor would copy it twice
        self._interpreter.invoke()
        return self._from_output(self._interpreter.get_tensor(self._output["index"]))

    def _to_input(self, windows: NDArray[np.float32]) -> NDArray[Any]:
        dtype = self._input["dtype"]
        scale, zero_point = self._input["quantization"]
        if dtype == np.float32:
            return ((windows - self._scaling.mean) / self._scaling.std).astype(np.float32)
        factor, limits = 1.0 / (self._scaling.std * scale), np.iinfo(dtype)
        # Step by step in float32, which every processor rounds alike; a compiler has no chance to fuse two of them.
        steps = np.multiply(windows, np.float32(factor))
        steps += np.float32(zero_point - self._scaling.mean * factor)
        np.rint(steps, out=steps)
        np.clip(steps, limits.min, limits.max, out=steps)
        return steps.astype(dtype)

    def _from_output(self, output: NDArray[Any]) -> NDArray[np.float32]:
        if output.dtype == np.float32:
            return output.reshape(len(output), -1)
        scale, zero_point = self._output["quantization"]
        return ((output.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)).reshape(len(output), -1)


def _starts(count: int) -> Iterable[int]:
    return range(0, count, WINDOWS_AT_ONCE)
