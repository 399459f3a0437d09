"""What people write: a device's configuration, a fleet's file, a password or token."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_asd import config
from edge_asd_tools.deploy import fleet
from fuzz import contract, mutations
from fuzz.doors import A_FIFTH, Door, folder


def configure(content: bytes) -> None:
    """A device.toml is read, and asked for what is made of several keys."""
    path = folder() / "device.toml"
    path.write_bytes(content)
    with contract.refusals():
        found = config.load(path)
        contract.fit_to_be_read(found.device)
        if found.page:
            _ = found.page.address, found.page.loopback


def keep_secret(content: bytes) -> None:
    """The file of a password or token."""
    path = folder() / "token"
    path.write_bytes(content)
    with contract.refusals():
        contract.fit_to_be_read(config.secret(path)[: contract.LONGEST_WORDS])


def muster(content: bytes) -> None:
    """A fleet.toml is read."""
    path = folder() / "fleet.toml"
    path.write_bytes(content)
    with contract.refusals():
        fleet.read(path)


_CAPTURES = (
    'device = "plughw:CARD=Device,DEV=0"\nrate = 48000\nchannels = 2\nchannel = 0\n',
    'command = ["arecord", "-q"]\n',
    'wav = "clips"\npace = "fast"\n',
)
_REST = """
[model]
threads = 2
runtime = "litert"
[alarm]
threshold = 1.5
release = 0.9
minimum_seconds = 2.0
[sensor]
silence_dbfs = -80.0
clipping_share = 0.02
[events]
keep = 10
keep_days = 3
keep_mb = 1
waiting = 5
[clips]
keep_mb = 5
before_seconds = 10.0
format = "wav"
[page]
listen = "[::1]:8765"
token_file = "token"
[sinks.json_lines]
path = "a.jsonl"
[sinks.mqtt]
host = "broker.local"
tls = true
ca_file = "ca.pem"
topic = "plant"
[sinks.webhook]
url = "https://a.b/c"
timeout = 3
"""


def _seeds() -> list[bytes]:
    head = 'bundle = "fan.easd"\nsection = "00"\nstate = "state"\nname = "pi-7"\n\n[capture]\n'
    texts = [head + capture for capture in _CAPTURES]
    texts += [texts[0] + _REST, 'bundle = "a"\nstate = "b"\ncapture = {wav = "c"}\n[page]\nlisten = "0.0.0.0:1"\n']
    texts += ['a."b c".\'d\' = [1, 0x1f, 1e3, inf, 1979-05-27T07:32:00Z, """x\ny""", {z = true}]\n']
    return [text.encode() for text in texts]


def _fleets() -> list[bytes]:
    entry = '[[device]]\nhost = "pi@shop-floor-7"\nsection = "01"\nboard = "pi-zero-2w"\n'
    texts = [
        entry,
        'at_once = 8\n[defaults]\nsection = "00"\nboard = "pi-4b"\n' + entry + '[[device]]\nhost = "[fe80::1%eth0]"\n',
        'device = [{host = "a"}, {host = "b@A"}]\n',
    ]
    return [text.encode() for text in texts]


def _keys(*kinds: type[msgspec.Struct]) -> Sequence[bytes]:
    return [field.name.encode() + b" = " for kind in kinds for field in msgspec.structs.fields(kind)]


_TOML = (b"[[", b"]]", b'"""', b"'''", b"\\u001b", b"\\U0001F600", b"inf", b"nan", b"true", b"0x", b"1e400", b"-0.0")
_TIMES = (b"1979-05-27T07:32:00.999-07:00", b"07:32:00", b"9999-99-99", b" = ", b".", b"\\", b"\r\n", b"{", b"}")

DOORS = (
    Door(
        "configuration",
        "device.toml",
        configure,
        _seeds,
        words=(*_TOML, *_TIMES, *_keys(*config._TABLES.values())),
        mutations=(mutations.of_toml,),
        longest=3000,
    ),
    Door(
        "fleet",
        "fleet.toml",
        muster,
        _fleets,
        words=(*_TOML, *_TIMES, *_keys(fleet.File, fleet.Entry), b"[[device]]\n", b"[defaults]\n"),
        mutations=(mutations.of_toml,),
        longest=3000,
    ),
    Door(
        "secret",
        "password or token",
        keep_secret,
        lambda: [b"0123456789abcdef\n", b"\xff", b" "],
        longest=5000,
        weight=A_FIFTH,
    ),
)
