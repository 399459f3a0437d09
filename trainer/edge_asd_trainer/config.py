"""Every number of a run, in one tree: a preset, then a TOML file, then single options, each over the one before."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tomli_w
from msgspec import Meta, inspect

from edge_asd.comparison import Backend
from edge_asd.errors import ConfigError
from edge_asd.front_end import FrontEnd
from edge_asd.strict import check_keys
from edge_asd.systems import System
from edge_asd.windows import Windows

Epochs = Annotated[int, Meta(ge=0, le=100_000)]
Steps = Annotated[int, Meta(ge=0, le=1_000_000)]
Batch = Annotated[int, Meta(ge=2, le=65536)]
Rate = Annotated[float, Meta(ge=0.0, le=1e3)]  # of an optimiser
WarmUp = Annotated[float, Meta(ge=0.0, le=1e5)]  # epochs
Decay = Annotated[float, Meta(ge=0.0, le=0.9999)]  # of a running average, a step
Alpha = Annotated[float, Meta(ge=1e-3, le=1e3)]
Weight = Annotated[float, Meta(ge=0.0, le=1e6)]  # of a term of a loss
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Percentile = Annotated[float, Meta(ge=1.0, le=99.9999)]

FLIPPED = re.compile(r"[0-9A-Za-z_-]{1,32}/\d{2}")  # machine/section


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration: immutable, and strict about what it doesn't know."""


class Features(Table, frozen=True):
    """Section 2.1, on the workstation; the values are those of `[front_end]`, within 1e-3 dB.

    Attributes:
        front_end: what computes the log-mels: "numpy", the device's own in as many processes as there are cores, or
            "torchaudio", on the GPU if there is one. A cache of log-mels, and what is trained on it, is made anew when
            this changes.
    """

    front_end: Literal["numpy", "torchaudio"] = "numpy"


class Network(Table, frozen=True):
    """Section 2.2.

    Attributes:
        channels: of the training images; Table 1 has 3, which repeat the log-mel. The device's network has 1.
        tail: the 4x2 convolution of Table 1 is "dense", or "depthwise".
    """

    channels: Annotated[int, Meta(ge=1, le=3)] = 3
    tail: Literal["dense", "depthwise"] = "dense"


class Pretraining(Table, frozen=True):
    """Section 2.3.

    Attributes:
        epochs: 0 leaves pre-training out.
        steps_per_epoch: 0 stands for every window of every clip once, in whole batches: clips x 32 // batch.
        batch: pairs (X, X') a step, so three times as many images.
        optimiser, weight_decay, momentum, trust: LARS as in VICReg, whose code has 0.9 and 0.001 where the paper is
            silent; "adamw" is for small batches.
        learning_rate, final_learning_rate, warm_up_epochs: linear warm-up from 0 and cosine decay, both per step and
            absolute: 0.8 already is VICReg's 0.2 x 1024 / 256.
        alpha: of Beta(alpha, alpha), from which a pair's lambda is drawn.
        gamma, mu, nu: weights of the three terms of equation 5.
        variance_scale: 1.0 reads equation 5 literally, 0.5 is VICReg's code.
        reduction: of equation 1: "mean" over batch and dimensions, as the text says, or the formula's "sum" over
            dimensions, which is 1280 times heavier.
        expander_width, expander_last: 1280; "bn_relu" (paper) or "linear" (VICReg).
        cross_domain_share: this share of the pairs is made of a source and a target clip; 0 leaves it to chance, by
            which two pairs in a hundred do, for one clip in a hundred is of the target domain (section 1).
    """

    epochs: Epochs = 100
    steps_per_epoch: Steps = 0
    batch: Batch = 1024
    optimiser: Literal["lars", "adamw"] = "lars"
    learning_rate: Rate = 0.8
    final_learning_rate: Rate = 0.002
    warm_up_epochs: WarmUp = 10.0
    weight_decay: Rate = 1e-4
    momentum: Decay = 0.9
    trust: Rate = 0.001
    alpha: Alpha = 0.5
    gamma: Weight = 25.0
    mu: Weight = 25.0
    nu: Weight = 1.0
    variance_scale: Weight = 1.0
    reduction: Literal["mean", "sum"] = "mean"
    expander_width: Annotated[int, Meta(ge=1, le=65536)] = 1280
    expander_last: Literal["bn_relu", "linear"] = "bn_relu"
    cross_domain_share: Share = 0.0


class FineTuning(Table, frozen=True):
    """Section 2.4.

    Attributes:
        epochs: 0 leaves fine-tuning out.
        steps_per_epoch: 0 stands for clips x 32 // batch.
        batch, learning_rate, weight_decay: AdamW.
        schedule, warm_up_epochs: "constant", as the paper says nothing else, or a "cosine" down to 0; either after a
            linear warm-up.
        alpha: of the mixup's Beta distribution.
        constraint: weight of the geometrical constraint, equation 1 on the encoder's output; like the number of
            epochs, the paper doesn't state it.
        same_section_share: this share of the pairs is source x target of one section, the rest any two windows:
            "intra-domain and inter-domain". Where both are of one section, the label isn't mixed at all.
        averaging: what is kept is an exponential average of the weights, this its decay a step; 0 keeps the last ones,
            as the paper does.
    """

    epochs: Epochs = 20
    steps_per_epoch: Steps = 0
    batch: Batch = 64
    learning_rate: Rate = 1e-4
    weight_decay: Rate = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up_epochs: WarmUp = 0.0
    alpha: Alpha = 0.5
    constraint: Weight = 1.0
    same_section_share: Share = 0.5
    averaging: Decay = 0.0


class Baseline(Table, frozen=True):
    """What the challenge's two baselines have in common, beside Adam's numbers and mini-batches of single windows.

    Attributes:
        epochs, batch, learning_rate: of Adam; the rate is constant.
        steps_per_epoch: 0 stands for every window once, in whole batches.
        held_out: this share of the windows, the last in the order of the clips' names, isn't learnt from. The
            challenge's code holds a tenth out for a loss that it prints and makes no other use of.
        warm_up_epochs: of the learning rate; the challenge has none.
    """

    epochs: Epochs
    batch: Batch
    learning_rate: Rate
    steps_per_epoch: Steps = 0
    held_out: Annotated[float, Meta(ge=0.0, le=0.9)] = 0.1
    warm_up_epochs: WarmUp = 0.0


class Autoencoder(Baseline, frozen=True):
    """The challenge's first baseline (DCASE 2022 Task 2)."""

    epochs: Epochs = 100
    batch: Batch = 512
    learning_rate: Rate = 1e-3


class MobileNetV2(Baseline, frozen=True):
    """The challenge's second baseline (DCASE 2022 Task 2)."""

    epochs: Epochs = 20
    batch: Batch = 32
    learning_rate: Rate = 1e-5


class Detection(Table, frozen=True):
    """Section 2.5 and the thresholds: percentiles of a gamma distribution fitted to what normal clips score.

    Attributes:
        decision_percentile: the challenge's, for a clip (90).
        alarm_percentile: what a daemon alerts at, for it asks four times a second (99.9).
        backends: what System 1 takes for strange, see `edge_asd.comparison.Backend`: the paper's nearest neighbour, or
            others, of several the sum. Each is an entry [[detection.backends]] of the file.
        bank_size: entries of a section's bank, which are chosen to stand for all clips; 0 keeps as few as lose no more
            AUC than the tolerance.
        bank_tolerance: what a smaller bank may lose, in points of 100, on held-out clips against anomalies; 0 keeps
            every clip.
        anomalies: a folder of clips of real faults, for that; the names of the machine's own sections say which section
            they are of. Without one, faults are made up.
        flip: sections, such as "fan/00", whose scores get the opposite sign (section 5: submission 2). Nothing but
            test labels says which, so what is then measured on the same labels is no estimate.
    """

    decision_percentile: Percentile = 90.0
    alarm_percentile: Percentile = 99.9
    backends: Annotated[tuple[Backend, ...], Meta(min_length=1, max_length=16)] = (Backend(),)
    bank_size: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    bank_tolerance: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.5
    anomalies: str = ""
    flip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for one in self.flip:
            if not FLIPPED.fullmatch(one):
                raise ValueError(f"flip names sections as machine/section, such as fan/00; found {one!r}")
        if all(backend.feature != "embedding" for backend in self.backends):
            raise ValueError("backends: one at least must look at the embedding")


class Quantisation(Table, frozen=True):
    """How the network becomes int8.

    Attributes:
        calibration_windows: how many training windows measure the activations' ranges.
    """

    calibration_windows: Annotated[int, Meta(ge=16, le=8192)] = 512


class Compute(Table, frozen=True):
    """What carries a training out; the numbers that come out differ by rounding alone.

    Attributes:
        threads: of PyTorch; 0 leaves it to PyTorch.
        precision: of the network's activations. "bfloat16" computes convolutions and matrix products under PyTorch's
            autocast, weights and losses stay float32: half the memory, and faster on GPUs and on processors that
            compute it natively (AVX-512 BF16, AMX). "auto" is that where it is native, else "float32".
        compile: have `torch.compile` fuse the network: a minute or two at the start, worth it on a GPU.
        checkpoint_seconds: between two checkpoints; what a killed training has to do again.
    """

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    compile: bool = False
    checkpoint_seconds: Annotated[float, Meta(ge=0.0, le=86400.0)] = 20.0


class Config(Table, frozen=True):
    """A run.

    Attributes:
        seed: of weights, pairs and lambdas.
        system: which of the paper's; `pretraining`, `fine_tuning`, `network`, `windows` and `input_scaling` are
            System 1's.
        input_scaling: "standardise" with one mean and deviation of the training set, or "none"; section 2.1 is silent,
            and a log-mel reaches down to -156 dB.
    """

    seed: Annotated[int, Meta(ge=0, le=2**32 - 2)] = 0
    system: System = "system1"
    input_scaling: Literal["standardise", "none"] = "standardise"
    front_end: FrontEnd = FrontEnd()
    windows: Windows = Windows()
    features: Features = Features()
    network: Network = Network()
    pretraining: Pretraining = Pretraining()
    fine_tuning: FineTuning = FineTuning()
    autoencoder: Autoencoder = Autoencoder()
    mobilenetv2: MobileNetV2 = MobileNetV2()
    detection: Detection = Detection()
    quantisation: Quantisation = Quantisation()
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        for name, found, only in (
            ("front_end.mels", self.front_end.mels, 128),
            ("windows.frames", self.windows.frames, 64),
        ):
            if found != only:
                raise ValueError(f"{name} must be {only}, the size of image that Table 1 is for, found {found}")
        peak, final = self.pretraining.learning_rate, self.pretraining.final_learning_rate
        if final > peak:
            raise ValueError(
                f"pretraining.final_learning_rate must not lie above pretraining.learning_rate, for it is what that "
                f"decays to; found {final} and {peak}"
            )


def presets() -> list[str]:
    """The names of the presets."""
    folder = resources.files("edge_asd_trainer") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(preset: str, file: Path | None = None, options: Iterable[str] = ()) -> Config:
    """A preset, overridden by a TOML file, overridden by options such as "pretraining.epochs=10".

    Raises:
        ConfigError: no such preset or file, an unknown key, or a value of the wrong kind or out of range; names which.
    """
    if preset not in presets():
        raise ConfigError(f"there is no preset {preset!r}; there are {', '.join(presets())}.")
    text = (resources.files("edge_asd_trainer") / "presets" / f"{preset}.toml").read_text()
    values = tomllib.loads(text)
    if file is not None:
        try:
            values = _over(values, tomllib.loads(file.read_text()))
        except OSError as error:
            raise ConfigError(f"{file}: can't be read ({error.strerror}).") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: not TOML ({error}).") from error
    sources = [f"preset {preset}", *([str(file)] if file else [])]
    for option in options:
        values = _over(values, _parse(option))
        sources.append(f"--set {option}")
    return _checked(values, ", ".join(sources))


def read(path: Path) -> Config:
    """The configuration that a run wrote down. Raises: ConfigError."""
    try:
        return _checked(tomllib.loads(path.read_text()), str(path))
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read ({error.strerror}); is its folder a run of `edge-asd train`?"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error}).") from error


def as_toml(config: Table) -> str:
    """A configuration as TOML text; the same configuration gives the same text."""
    return tomli_w.dumps(msgspec.to_builtins(config))


def fingerprint(*parts: object) -> str:
    """SHA-256 over whatever defines a result."""
    return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(parts), order="sorted")).hexdigest()


def _checked(values: Mapping[str, Any], where: str) -> Config:
    try:
        _check_ranges(values, inspect.type_info(Config))
        config = msgspec.convert(values, Config)
        check_keys(values, config, complete=False)
    except ValueError as error:  # msgspec's ValidationError is one
        raise ConfigError(f"{where}: {error}.") from error
    # msgspec leaves what isn't said of a dataclass to its class, and doesn't write it down either.
    said = {name: dataclasses.replace(getattr(config, name)) for name in ("front_end", "windows")}
    return msgspec.structs.replace(config, **said)


def _check_ranges(values: Mapping[str, Any], kind: inspect.Type, where: str = "") -> None:
    """Hold every number against the range of its field; in words, for msgspec tells neither the value nor both ends."""
    if not isinstance(kind, inspect.StructType | inspect.DataclassType):
        return
    for field in kind.fields:
        found, name = values.get(field.name), f"{where}{field.name}"
        if isinstance(found, Mapping):
            _check_ranges(found, field.type, f"{name}.")
        elif isinstance(found, int | float) and isinstance(field.type, inspect.IntType | inspect.FloatType):
            low, high = field.type.ge, field.type.le
            if low is not None and high is not None and not low <= found <= high:
                # Python keeps the first of annotations that are equal, so 0 and 0.0 may each stand for the other.
                kept = float if isinstance(field.type, inspect.FloatType) else int
                raise ValueError(f"{name} must lie in {kept(low)}..{kept(high)}, found {found}")
            if isinstance(found, float) and not math.isfinite(found):
                raise ValueError(f"{name} must be finite, found {found}")


def _parse(option: str) -> dict[str, Any]:
    name, equals, text = option.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {option}: expected the form table.key=value, such as pretraining.epochs=10.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    for key in reversed(name.strip().split(".")):
        value = {key: value}
    return dict(value)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
