"""What other programs say: the recorder with its complaints, ssh, a device that answers, a host that asks a device."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from edge_asd import config
from edge_asd.arrival.desk import Desk
from edge_asd.capture import arecord
from edge_asd.capture.arecord import Overruns
from edge_asd.capture.command import CommandSource
from edge_asd.errors import EdgeAsdError
from edge_asd_tools.deploy import boards, lock, remote_plan
from edge_asd_tools.deploy.remote_device import _numbers
from edge_asd_tools.deploy.ssh import PROGRAM, Ssh
from edge_asd_tools.deploy.visit import Visit
from fuzz import contract, mutations
from fuzz.doors import A_FIFTH, Door, folder

_RELEASE = "fan-0123456789abcdef"


def hear_complaints(content: bytes) -> None:
    """The recorder's standard error in pieces, and the list of sound cards."""
    with contract.refusals():
        overruns = Overruns()
        for begin in range(0, len(content), 7):
            for length in overruns.take(content[begin : begin + 7]):
                if not 0 <= length < 1e16:
                    raise contract.Breach(f"a gap of {length} ms")
        if len(overruns._line) > 256:
            raise contract.Breach("keeps a line without end")
        arecord.parse_cards(content.decode(errors="replace"))


def hear_program(content: bytes) -> None:
    """A program that writes the first part to standard error and the second to standard output, then ends."""
    found = dict(mutations.parts(content))
    said, heard = folder() / "said", folder() / "heard"
    said.write_bytes(found.get(b"said", b""))
    heard.write_bytes(found.get(b"heard", content))
    command = ["sh", "-c", 'cat "$1" >&2; exec cat "$2"', "sh", str(said), str(heard)]
    frames = 0
    with contract.refusals(), CommandSource(command, channels=2, rate=16000) as source:
        for block in islice(source, 100):
            frames += len(block.samples)
            if block.lost < 0 or block.clipped < 0:
                raise contract.Breach(f"lost {block.lost}, clipped {block.clipped}")
    if frames > len(content):
        raise contract.Breach("heard more than was said")


def be_refused(content: bytes) -> None:
    """What ssh says when it doesn't get there, in our words."""
    text = content.decode(errors="replace")
    before = os.environ.get(PROGRAM)
    os.environ[PROGRAM] = "false"  # asked for a fingerprint, it says nothing
    try:
        with contract.refusals():
            raise Ssh("pi@shop-floor-7").explain(content[0] if content else 255, text)
    finally:
        del os.environ[PROGRAM]
        if before is not None:
            os.environ[PROGRAM] = before


@dataclass(frozen=True)
class _Answering:
    """A device whose answers lie in a file already."""

    name: str = "pi@shop-floor-7"
    root: str = "/"

    def command(self, *words: str, account: str = "") -> list[str]:
        raise NotImplementedError

    def explain(self, code: int, errors: str) -> EdgeAsdError:
        return Ssh(self.name).explain(code, errors)


def believe_device(content: bytes) -> None:
    """A device answers the first questions of a deployment; what it says of itself is gone by."""
    path = folder() / "answers"
    path.write_bytes(content)
    command = ["cat", str(path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin = Path(os.devnull).open("wb")  # noqa: SIM115 - whatever it is asked, it answers what lies there
    there = Visit(_Answering(), process)
    try:
        with contract.refusals():
            _converse(there)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        there.close()


def _converse(there: Visit) -> None:
    facts = there.look()
    for said in (facts.host, facts.model):
        if said and not said.isprintable():
            raise contract.Breach(f"a device is called {said!r}")
    remote_plan.committed(facts)
    _numbers(facts.glibc)
    boards.read(boards.of_model(facts.model, facts.machine))
    if facts.config is not None:
        config.parse(facts.config, Path("/etc/edge-asd/device.toml"))
    lock.read(facts.machine, facts.python)
    said: list[str] = []
    for digest, here in there.expect([("a" * 64, 7, "wheel")], 0).items():
        if not 0 <= here <= 7:
            raise contract.Breach(f"{here} bytes of {digest} are there")
    there.run("activate", lambda step, outcome: said.extend((step, outcome)))
    there.remove(data=False)
    for line in said:
        if line and not line.replace("\t", " ").isprintable():
            raise contract.Breach(f"a device says {line!r}")


def answer_host(content: bytes) -> None:
    """Requests of a host to a device, which is a folder here; nothing outside of it is touched."""
    root = folder() / "desk"
    for place in ("opt/edge-asd/releases", "opt/edge-asd/runtimes", "etc/edge-asd"):
        (root / place).mkdir(parents=True, exist_ok=True)
    answers = io.BytesIO()
    with contract.refusals(), contract.changing_only(root):
        Desk(str(root), io.BytesIO(content), answers).serve()
    for line in answers.getvalue().splitlines():
        json.loads(line)


def _lines(*values: object) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


_FACTS = {
    "host": "pi", "model": "Raspberry Pi 4 Model B Rev 1.4", "machine": "aarch64", "python": "3.11", "glibc": "2.36",
    "systemd": True, "busy": False, "serves": True, "config": 'bundle = "a"\n', "signers": False,
    "record": json.dumps({"releases": [_RELEASE]}), "current": _RELEASE, "runtimes": ["a" * 16],
}  # fmt: skip


def _answers() -> list[bytes]:
    return [
        b"Welcome!\n" + _lines({"done": _FACTS}, {"done": {"a" * 64: 3}}, {"say": ["check", "ok"]}, {"done": None}),
        _lines({"done": {**_FACTS, "config": None, "record": None}}, {"refused": "is full", "code": 7}),
        _lines({"refused": "no", "code": 8}),
    ]


def _requests() -> list[bytes]:
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
    runtime = {
        "id": "a" * 16,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "wheels": {"a-1-py3-none-any.whl": digest},
        "unit": digest,
        "sbom": digest,
    }
    file = [digest, 0, "wheel"]
    return [
        _lines({"do": "look"}, {"do": "expect", "files": [file], "room": 1, "dry": False}),
        _lines({"do": "take", "file": file, "begin": 0}, {"do": "build", "runtime": runtime}),
        _lines({"do": "expect", "files": [file], "room": 1}, {"do": "take", "file": [digest, 3, "file"], "begin": 1})
        + b"ab\n",
        _lines({"do": "run", "step": "activate", "runtime": "a" * 16, "bundle": digest, "name": "fan.easd"}),
        _lines({"do": "run", "step": "drop", "options": ["--x"]}, {"do": "remove", "data": True}),
    ]


_SSH = (
    b"Permission denied (publickey).\n",
    b"Host key verification failed.\n",
    b"Server host key: ssh-ed25519 SHA256:abc\n",
    b"REMOTE HOST IDENTIFICATION HAS CHANGED",
    b"sudo: a password is required",
    b"python3: command not found",
    b"ModuleNotFoundError",
    b"unknown user",
)

DOORS = (
    Door(
        "complaints",
        "arecord's complaints, sound cards",
        hear_complaints,
        lambda: [
            b"overrun!!! (at least 12.345 ms long)\noverrun !!!\noverrun!!! (at least -1,5 ms long)\n",
            b" 0 [Device         ]: USB-Audio - USB PnP Sound Device\n                      C-Media at usb-1\n",
        ],
        words=(b"overrun!!! (at least ", b" ms long)\n", b"]: ", b" - ", b"\n 1 ["),
        longest=1000,
        weight=A_FIFTH,
    ),
    Door(
        "program",
        "a program's PCM",
        hear_program,
        lambda: [
            mutations.joined([(b"said", b"overrun!!! (at least 5 ms long)\n"), (b"heard", bytes(range(256)) * 40)]),
            b"#said\nno such device\n#heard\n",
        ],
        words=(b"overrun!!! (at least ", b"\n#heard\n", b"#said\n"),
        longest=20000,
        weight=A_FIFTH,
    ),
    Door(
        "ssh",
        "what ssh says",
        be_refused,
        lambda: [b"\xff" + said for said in _SSH],
        words=_SSH,
        longest=600,
        weight=A_FIFTH,
    ),
    Door(
        "device",
        "a device's answers",
        believe_device,
        _answers,
        words=[f'"{key}":'.encode() for key in (*_FACTS, "say", "done", "refused", "code")],
        mutations=(mutations.of_lines,),
        longest=3000,
        weight=A_FIFTH,
    ),
    Door(
        "desk",
        "a host's requests",
        answer_host,
        _requests,
        words=[f'"{key}"'.encode() for key in ("do", "look", "expect", "take", "build", "run", "remove", "files")],
        mutations=(mutations.of_lines,),
        longest=2000,
        weight=A_FIFTH,
    ),
)
