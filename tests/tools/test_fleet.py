"""fleet.toml: what it says, and what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_asd.errors import ConfigError
from edge_asd_tools.deploy import fleet
from edge_asd_tools.deploy.fleet import Entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.toml"


def test_devices_in_their_order_with_what_all_share(path: Path) -> None:
    path.write_text(
        """
        at_once = 3
        [defaults]
        section = "00"
        board = "pi-4b"
        [[device]]
        host = "pi@shop-floor-7"
        section = "01"
        board = "pi-zero-2w"
        [[device]]
        host = "an-alias"
        """
    )
    found = fleet.read(path)
    assert found.devices == (Entry("pi@shop-floor-7", "01", "pi-zero-2w"), Entry("an-alias", "00", "pi-4b"))
    assert found.at_once == 3


def test_the_example_of_the_module_is_one(path: Path) -> None:
    path.write_text("\n".join(line for line in str(fleet.__doc__).splitlines() if line.startswith("    ")))
    assert fleet.read(path).devices == (Entry("pi@shop-floor-7", "01", "pi-zero-2w"),)


def test_what_nothing_says_is_left_to_the_device(path: Path) -> None:
    path.write_text('[[device]]\nhost = "pi@shop-floor-7"\n')
    assert fleet.read(path) == fleet.Fleet((Entry("pi@shop-floor-7", None, None),), 8)


def test_ten_thousand_devices_and_no_more(path: Path) -> None:
    path.write_text("".join(f'[[device]]\nhost = "pi@d{number}"\n' for number in range(10_000)))
    assert len(fleet.read(path).devices) == 10_000
    path.write_text(path.read_text() + '[[device]]\nhost = "pi@one-more"\n')
    with pytest.raises(ConfigError, match=r"device: expected `array` of length <= 10000"):
        fleet.read(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "object missing required field `device`; a fleet has devices, each of them a [[device]] with host = "),
        ("device = []", "device: expected `array` of length >= 1"),
        ("device = [7]", "[[device]] number 1: expected `object`, got `int`"),
        ("[[device]]\nhost = 'a'\n[[device]]\nsection = '00'", "[[device]] number 2: object missing required field"),
        ("[[device]]\nhost = 'a'\n[[device]]\nhost = 'pi@b'\nport = 22", "number 2, 'pi@b': object contains unknown"),
        ("[[device]]\nhost = 'a'\nport = 22", "`port`; known are host, section, board"),
        ("[[device]]\nhost = 'a'\nsection = 0", "[[device]] number 1, 'a': section: expected `str`, got `int`"),
        ("[[device]]\nhost = 'a'\nsection = ''", "[[device]] number 1, 'a': section: expected `str` of length >= 1"),
        ("at_once = 0\n[[device]]\nhost = 'a'", "at_once: expected `int` >= 1"),
        ("at_once = 65\n[[device]]\nhost = 'a'", "at_once: expected `int` <= 64"),
        ("[defaults]\nhost = 'b'\n[[device]]\nhost = 'a'", "unknown field `host`; known are section, board"),
        ("wave = '1'\n[[device]]\nhost = 'a'", "unknown field `wave`; known are device, defaults, at_once"),
        ("[[device]]\nhost = '-oProxyCommand=x'", "host = '-oProxyCommand=x': is no device; expected USER@HOST"),
        ("[[device]]\nhost = 'a b'", "host = 'a b': is no device"),
        ("[[device]]\nhost = 'a'\nboard = '../x'", "a: there is no board '../x'; boards are generic-aarch64"),
        ("[defaults]\nboard = 'pi-6'\n[[device]]\nhost = 'a'", "a: there is no board 'pi-6'"),
        ("[[device]]\nhost = 'a'\n[[device]]\nhost = 'a'", "a is there twice; take one of the two out"),
        ("[[device]]\nhost = 'pi@a'\n[[device]]\nhost = 'root@A'", "root@A is there twice, first as pi@a"),
        ("[[device]", "is not TOML"),
        ("a = " + "[" * 50_000, "is not TOML"),
        ("#" * (1 << 20) + "#", "larger than 1024 KiB"),
    ],
)
def test_what_is_wrong_is_said_with_the_device(path: Path, text: str, complaint: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(complaint)) as error:
        fleet.read(path)
    assert str(error.value).startswith(str(path))


def test_what_is_no_text_and_no_file(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be read .*give the path of a fleet\.toml"):
        fleet.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        fleet.read(path)
