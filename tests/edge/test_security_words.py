"""What a stranger says reaches a log or a terminal as words alone; and no secret of ours reaches either."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_asd import config, logs, progress, status
from edge_asd.capture.command import CommandSource
from edge_asd.ending import guarded
from edge_asd.errors import CaptureError, ConfigError, DeploymentError
from edge_asd.settings import EventSettings, MqttSettings, WebhookSettings
from edge_asd.sinks.courier import Refused, SinkDown
from edge_asd.sinks.webhook import Webhook
from edge_asd.status import SinkStatus
from edge_asd.store import FILE_NAME, EventStore
from made_up_events import STATUS, STRANGE, message

HOSTILE = "x\x1b]0;owned\x07\x9b2J\r\nALERT fan 00: made up\u202e"
SECRET = "s3cr3t-s3cr3t-s3cr3t"  # noqa: S105 - of these tests alone
TOP = 'bundle = "a"\nstate = "b"\n[capture]\ndevice = "x"\n'


def harmless(said: str) -> None:
    assert not set(said) & set("\x1b\x07\x9b\r\u202e"), repr(said)
    assert "\nALERT" not in said


def test_a_line_of_the_daemon_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress.say(HOSTILE)
    said = capsys.readouterr().err
    harmless(said)
    assert said.count("\n") == 1


def test_a_log_line_says_a_name_and_does_as_nobody_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        logs.start()
        logging.getLogger("edge_asd").info("%s: resampled", HOSTILE)
        logging.getLogger("edge_asd").warning("läuft ✓")
    finally:
        logging.getLogger().handlers[:] = before
    said = capsys.readouterr().err
    harmless(said)
    assert said.endswith("läuft ✓\n")


def test_a_refusal_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise DeploymentError(HOSTILE)

    with pytest.raises(SystemExit) as ended:
        guarded(refuse)
    said = capsys.readouterr().err
    harmless(said)
    assert (ended.value.code, said.count("\n")) == (8, 1)


def test_what_lies_in_the_state_folder_is_shown_as_words(tmp_path: Path) -> None:
    """It may be of a daemon that was broken into, and a person looks at it with more rights than that has."""
    event = replace(STRANGE, nearest=HOSTILE, machine=HOSTILE, said=HOSTILE)
    with EventStore(tmp_path / FILE_NAME, bounds=EventSettings()) as store:
        store.put("raised", event)
    status.write(tmp_path, replace(STATUS, sensor=HOSTILE, sinks=(SinkStatus(name="mqtt", trouble=HOSTILE),)))
    for command in ("status", "events"):
        words = [sys.executable, "-m", "edge_asd", command, "--state", str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        harmless(done.stdout + done.stderr)
        assert "owned" in done.stdout


@pytest.mark.parametrize(
    "url", [f"https://user:{SECRET}@example.org/", f"htps://example.org/{SECRET}", f"ftp://example.org/?{SECRET}"]
)
def test_a_webhooks_address_that_is_refused_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http:// or https://") as refused:
        config.parse(f'{TOP}[sinks.webhook]\nurl = "{url}"\n', Path("/etc/edge-asd/device.toml"))
    assert SECRET not in str(refused.value)


def test_a_cameras_password_is_not_told_to_anybody(tmp_path: Path) -> None:
    """What a recorder says last becomes an event, which goes to every receiver."""
    address = f"rtsp://admin:{SECRET}@camera.local/1"
    program = tmp_path / "recorder"
    program.write_text(f"#!/bin/sh\necho '{address}: 401 Unauthorized' >&2\n")
    program.chmod(0o755)
    with CommandSource([str(program), "-i", address]) as source, pytest.raises(CaptureError) as ended:
        list(source)
    said = str(ended.value)
    assert "401 Unauthorized" in said
    assert "rtsp://camera.local/1" in said
    assert SECRET not in said


def test_no_refusal_of_a_receiver_names_the_token_or_the_path(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    sink = Webhook(WebhookSettings(url=f"http://127.0.0.1:1/{SECRET}", token_file=token, timeout=2))
    with pytest.raises((SinkDown, Refused)) as down:
        sink.deliver(message(1), threading.Event())
    assert SECRET not in str(down.value)


@pytest.mark.parametrize(
    "content", [f"{SECRET}\r\nX-Injected: yes\n", f"{SECRET}\0", f"{SECRET}\n{SECRET}\n", "\n", ""]
)
def test_a_token_is_one_line_and_brings_no_header_along(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content.encode())
    with pytest.raises(ConfigError) as refused:
        config.secret(path)
    assert SECRET not in str(refused.value)


def test_no_setting_holds_a_secret_itself() -> None:
    """device.toml is for everybody to read: passwords and tokens are in files of their own."""
    for table in (MqttSettings, WebhookSettings):
        for name in table.__struct_fields__:
            if "password" in name or "token" in name or "key" in name:
                assert name.endswith("_file") or name == "keepalive", name


@pytest.mark.parametrize("line", [" " * 60_000, "\t " * 30_000, "[" * 500 + " " * 50_000, "a " * 30_000])
def test_blanks_without_end_cost_no_time(line: str) -> None:
    """In a device.toml with a fault, of which the line is looked for: it may be a device's, read on a workstation."""
    began = time.monotonic()
    with pytest.raises(ConfigError):
        config.parse(f'# {line}\n{line.lstrip("[a")}\n{TOP}channel = "x"\n', Path("/etc/edge-asd/device.toml"))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["a = " + "1" * 5000, "a = " + "[" * 30_000, "a = 0x" + "f" * 60_000, "a." * 20_000])
def test_a_device_toml_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text, Path("/etc/edge-asd/device.toml"))
    assert "\n" not in str(refused.value)
