"""Every number of a run, in one tree: a preset, then a TOML file, then single options, each over the one before."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomli_w

from edge_asd.errors import ConfigError
from edge_asd.front_end import FrontEnd
from edge_asd.strict import check_keys
from edge_asd.windows import Windows


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration: immutable, and strict about what it doesn't know."""


class Network(Table, frozen=True):
    """Section 2.2. `channels` of the training images; the `tail` of Table 1."""

    channels: int = 3
    tail: Literal["dense", "depthwise"] = "dense"


class Pretraining(Table, frozen=True):
    """Section 2.3.

    Attributes:
        epochs: 0 leaves pre-training out.
        steps_per_epoch: 0 stands for every window of every clip once, in whole batches: clips x 32 // batch.
        batch: pairs (X, X') a step, so three times as many images.
        optimiser, learning_rate, final_learning_rate, warm_up_epochs, weight_decay, momentum, trust: LARS as in
            VICReg, linear warm-up from 0 and cosine decay, both per step; "adamw" is for small batches.
        alpha: of Beta(alpha, alpha), from which a pair's lambda is drawn.
        gamma, mu, nu: weights of the three terms of equation 5.
        variance_scale: 1.0 reads equation 5 literally, 0.5 is VICReg's code.
        reduction: of equation 1: "mean" over batch and dimensions, or the literal "sum" over dimensions.
        expander_width, expander_last: 1280; "bn_relu" (paper) or "linear" (VICReg).
        cross_domain_share: this share of the pairs is made of a source and a target clip; 0 leaves it to chance.
    """

    epochs: int = 100
    steps_per_epoch: int = 0
    batch: int = 1024
    optimiser: Literal["lars", "adamw"] = "lars"
    learning_rate: float = 0.8
    final_learning_rate: float = 0.002
    warm_up_epochs: float = 10.0
    weight_decay: float = 1e-4
    momentum: float = 0.9
    trust: float = 0.001
    alpha: float = 0.5
    gamma: float = 25.0
    mu: float = 25.0
    nu: float = 1.0
    variance_scale: float = 1.0
    reduction: Literal["mean", "sum"] = "mean"
    expander_width: int = 1280
    expander_last: Literal["bn_relu", "linear"] = "bn_relu"
    cross_domain_share: float = 0.0


class FineTuning(Table, frozen=True):
    """Section 2.4.

    Attributes:
        epochs: 0 leaves fine-tuning out.
        steps_per_epoch: 0 stands for clips x 32 // batch.
        batch, learning_rate, weight_decay: AdamW.
        schedule: "constant", as the paper says nothing else, or "cosine" after a warm-up of `warm_up_epochs`.
        alpha: of the mixup's Beta distribution.
        constraint: weight of the geometrical constraint, equation 1 on the encoder's output.
        same_section_share: this share of the pairs is source x target of one section, the rest any two windows.
    """

    epochs: int = 20
    steps_per_epoch: int = 0
    batch: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up_epochs: float = 0.0
    alpha: float = 0.5
    constraint: float = 1.0
    same_section_share: float = 0.5


class Detection(Table, frozen=True):
    """Section 2.5 and the thresholds: percentiles of a gamma distribution fitted to leave-one-out distances.

    Attributes:
        decision_percentile: the challenge's, for a clip (90).
        alarm_percentile: what a daemon alerts at, for it asks four times a second (99.9).
    """

    decision_percentile: float = 90.0
    alarm_percentile: float = 99.9


class Quantisation(Table, frozen=True):
    """How the network becomes int8.

    Attributes:
        aware_share: this last share of fine-tuning runs under the rounding that int8 will bring. The paper knows
            nothing of it; 0 leaves it out.
        calibration_windows: how many training windows measure the activations' ranges.
    """

    aware_share: float = 0.0
    calibration_windows: int = 512


class Config(Table, frozen=True):
    """A run.

    Attributes:
        seed: of weights, pairs and lambdas.
        threads: of PyTorch; 0 leaves it to PyTorch.
        input_scaling: "standardise" with one mean and deviation of the training set, or "none".
    """

    seed: int = 0
    threads: int = 0
    input_scaling: Literal["standardise", "none"] = "standardise"
    front_end: FrontEnd = FrontEnd()
    windows: Windows = Windows()
    network: Network = Network()
    pretraining: Pretraining = Pretraining()
    fine_tuning: FineTuning = FineTuning()
    detection: Detection = Detection()
    quantisation: Quantisation = Quantisation()


def presets() -> list[str]:
    """The names of the presets."""
    folder = resources.files("edge_asd_trainer") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(preset: str, file: Path | None = None, options: Iterable[str] = ()) -> Config:
    """A preset, overridden by a TOML file, overridden by options such as "pretraining.epochs=10".

    Raises:
        ConfigError: no such preset or file, an unknown key, or a value of the wrong kind; names which.
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
    for option in options:
        values = _over(values, _parse(option))
    where = f"{file}" if file else f"preset {preset} with its options"
    return _checked(values, where)


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
        config = msgspec.convert(values, Config)
        check_keys(values, config, complete=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    for name, value, low, high in (
        ("pretraining.batch", config.pretraining.batch, 2, 65536),
        ("pretraining.epochs", config.pretraining.epochs, 0, 100_000),
        ("pretraining.alpha", config.pretraining.alpha, 1e-3, 1e3),
        ("pretraining.cross_domain_share", config.pretraining.cross_domain_share, 0.0, 1.0),
        ("fine_tuning.batch", config.fine_tuning.batch, 2, 65536),
        ("fine_tuning.epochs", config.fine_tuning.epochs, 0, 100_000),
        ("fine_tuning.alpha", config.fine_tuning.alpha, 1e-3, 1e3),
        ("fine_tuning.same_section_share", config.fine_tuning.same_section_share, 0.0, 1.0),
        ("detection.decision_percentile", config.detection.decision_percentile, 1.0, 99.9999),
        ("detection.alarm_percentile", config.detection.alarm_percentile, 1.0, 99.9999),
        ("quantisation.aware_share", config.quantisation.aware_share, 0.0, 1.0),
        ("quantisation.calibration_windows", config.quantisation.calibration_windows, 16, 8192),
        ("network.channels", config.network.channels, 1, 3),
        ("threads", config.threads, 0, 1024),
        ("seed", config.seed, 0, 2**32 - 2),
        ("pretraining.steps_per_epoch", config.pretraining.steps_per_epoch, 0, 1_000_000),
        ("pretraining.learning_rate", config.pretraining.learning_rate, 0.0, 1e3),
        ("pretraining.warm_up_epochs", config.pretraining.warm_up_epochs, 0.0, 1e5),
        ("pretraining.expander_width", config.pretraining.expander_width, 1, 65536),
        ("fine_tuning.steps_per_epoch", config.fine_tuning.steps_per_epoch, 0, 1_000_000),
        ("fine_tuning.learning_rate", config.fine_tuning.learning_rate, 0.0, 1e3),
        ("fine_tuning.warm_up_epochs", config.fine_tuning.warm_up_epochs, 0.0, 1e5),
        # Table 1 maps images of just this size to 320 values
        ("front_end.mels", config.front_end.mels, 128, 128),
        ("windows.frames", config.windows.frames, 64, 64),
    ):
        if not low <= value <= high:
            raise ConfigError(f"{where}: {name} must lie in {low}..{high}, found {value}.")
    return config


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
