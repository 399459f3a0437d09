from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from msgspec import inspect

from edge_asd.errors import ConfigError
from edge_asd_trainer.config import Config, as_toml, fingerprint, load, presets, read


def test_the_paper_preset_holds_the_papers_numbers() -> None:
    config = load("paper")
    pre, fine = config.pretraining, config.fine_tuning
    assert (pre.gamma, pre.mu, pre.nu) == (25, 25, 1)
    assert (pre.optimiser, pre.learning_rate, pre.final_learning_rate, pre.weight_decay) == ("lars", 0.8, 0.002, 1e-4)
    assert (pre.batch, pre.epochs, pre.warm_up_epochs, pre.steps_per_epoch) == (1024, 100, 10, 0)
    assert (pre.alpha, pre.expander_width, pre.expander_last) == (0.5, 1280, "bn_relu")
    assert (pre.reduction, pre.variance_scale, pre.cross_domain_share) == ("mean", 1.0, 0.0)
    assert (pre.momentum, pre.trust) == (0.9, 0.001)
    assert (fine.learning_rate, fine.weight_decay, fine.batch, fine.schedule) == (1e-4, 1e-4, 64, "constant")
    assert (fine.epochs, fine.constraint) == (20, 1.0)
    assert (config.network.channels, config.network.tail, config.input_scaling) == (3, "dense", "standardise")
    assert config.detection.decision_percentile == 90


def test_a_file_goes_over_the_preset_and_an_option_over_both(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\n[pretraining]\nbatch = 32\nepochs = 2\n")
    config = load("paper", file, ["pretraining.epochs=7", "network.tail=depthwise", "fine_tuning.alpha=0.2"])
    assert (config.seed, config.pretraining.batch, config.pretraining.epochs) == (3, 32, 7)
    assert (config.network.tail, config.fine_tuning.alpha) == ("depthwise", 0.2)
    assert config.pretraining.learning_rate == 0.8


@pytest.mark.parametrize("preset", presets())
def test_what_is_written_down_reads_back_the_same(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(as_toml(load(preset)))
    assert read(path) == load(preset)
    assert fingerprint(read(path)) == fingerprint(load(preset))
    assert fingerprint(load(preset, options=["seed=1"])) != fingerprint(load(preset))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("pretraining.epoch=3", "epoch"),
        ("pretraining.epochs=many", "pretraining.epochs"),
        ("pretraining.epochs=-1", "pretraining.epochs must lie in 0..100000, found -1"),
        ("network.tail=sparse", "network.tail"),
        ("front_end.hop=0", "front_end"),
        ("pretraining.batch=1", "pretraining.batch must lie in 2..65536, found 1"),
        ("front_end.n_ftt=2048", "front_end has no key `n_ftt`"),
        ("windows.frames=32", "windows.frames must be 64, the size of image that Table 1 is for, found 32"),
        ("front_end.mels=64", "front_end.mels must be 128"),
        ("front_end.floor=nan", "front_end.floor must be finite, found nan"),
        ("pretraining.weight_decay=-1", "pretraining.weight_decay must lie in 0.0..1000.0, found -1"),
        ("pretraining.gamma=nan", "pretraining.gamma must lie in 0.0..1000000.0, found nan"),
        ("fine_tuning.learning_rate=inf", "fine_tuning.learning_rate must lie in 0.0..1000.0, found inf"),
        ("seed=-1", "seed must lie in"),
        ("just words", "expected the form table.key=value"),
    ],
)
def test_what_can_not_be_is_named(option: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load("cpu", options=[option])
    assert says in str(error.value)


def test_every_number_of_our_own_has_a_range() -> None:
    def numbers(table: inspect.Type) -> list[inspect.IntType | inspect.FloatType]:
        if isinstance(table, inspect.IntType | inspect.FloatType):
            return [table]
        return (
            [n for field in table.fields for n in numbers(field.type)] if isinstance(table, inspect.StructType) else []
        )

    found = numbers(inspect.type_info(Config))
    assert len(found) > 30
    assert all(number.ge is not None and number.le is not None for number in found)


def test_an_error_names_all_that_the_numbers_came_from(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\n")
    with pytest.raises(ConfigError) as error:
        load("cpu", file, ["compute.threads=1", "pretraining.batch=1"])
    assert str(error.value).startswith(
        f"preset cpu, {file}, --set compute.threads=1, --set pretraining.batch=1: pretraining."
    )


def test_no_such_preset_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no preset 'gpu'; there are cpu, demo, paper"):
        load("gpu")
    with pytest.raises(ConfigError, match="can't be read"):
        load("cpu", tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(ConfigError, match=r"bad.toml: not TOML .*line 1"):
        load("cpu", tmp_path / "bad.toml")


def test_a_rate_that_would_rise_instead_of_decay_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"final_learning_rate must not lie above .* found 0\.002 and 0\.001"):
        load("paper", options=["pretraining.learning_rate=0.001"])


def test_what_a_table_leaves_unsaid_is_written_down_all_the_same(tmp_path: Path) -> None:
    """A bundle would lack it, and no reader would take it."""
    path = tmp_path / "mine.toml"
    path.write_text("[front_end]\nfmax = 7000.0\n[windows]\nhop = 4\n")
    told = tomllib.loads(as_toml(load("cpu", path)))
    assert told["windows"] == {"frames": 64, "hop": 4, "to_the_end": False}
    assert told["front_end"] == {**tomllib.loads(as_toml(load("cpu")))["front_end"], "fmax": 7000.0}
