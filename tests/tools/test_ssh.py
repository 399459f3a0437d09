"""The way to a device: what ssh refuses is said in words that help, and nothing is ever asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_asd.errors import DeploymentError, EdgeAsdError, MissingRequirement, NotAdmitted, Unreachable, UsageError
from edge_asd_tools.deploy.ssh import PROGRAM, Ssh
from edge_asd_tools.deploy.visit import visit
from sshd import HOST, Server, served


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv(PROGRAM, running.ssh)
    running.is_known()
    running.authorized_keys.write_text((running.folder / "client.pub").read_text())
    return running


def refusal(host: str, root: Path) -> EdgeAsdError:
    with pytest.raises(EdgeAsdError) as refused, visit(Ssh(host, str(root))) as there:
        there.look()
    assert "\n" not in str(refused.value)
    return refused.value


def test_a_device_says_what_it_is(server: Server, tmp_path: Path) -> None:
    with visit(Ssh(HOST, str(tmp_path))) as there:
        facts = there.look()
        assert (facts.current, facts.config, facts.runtimes) == (None, None, [])
        assert (facts.busy, facts.serves) == (False, True)
        assert there.expect([], 0, dry=True) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_host_is_not_trusted(server: Server, tmp_path: Path) -> None:
    server.known_hosts.write_text("")
    error = refusal(HOST, tmp_path)
    assert isinstance(error, NotAdmitted)
    assert f"an unknown host, whose key is {server.fingerprint()}" in str(error)
    assert f"say yes: ssh {HOST}" in str(error)
    assert server.known_hosts.read_text() == ""


def test_a_host_that_changed_is_not_trusted(server: Server, tmp_path: Path) -> None:
    server.is_known("other")
    error = refusal(HOST, tmp_path)
    assert isinstance(error, NotAdmitted)
    assert f"IS NOT THE HOST THAT IT WAS: its key is now {server.fingerprint()}" in str(error)
    assert f"ssh-keygen -R {HOST}" in str(error)


def test_no_password_is_asked_for(server: Server, tmp_path: Path) -> None:
    server.authorized_keys.write_text("")
    error = refusal(HOST, tmp_path)
    assert isinstance(error, NotAdmitted)
    assert f"ssh-copy-id {HOST}" in str(error)


def test_nobody_answers(server: Server, tmp_path: Path) -> None:
    with (server.folder / "config").open("a") as file:
        file.write("Host nobody\n  HostName 127.0.0.1\n  Port 1\n")
    error = refusal("nobody", tmp_path)
    assert type(error) is Unreachable
    assert "nobody: can't be reached" in str(error)


def test_a_jump_host_of_the_users_configuration(server: Server, tmp_path: Path) -> None:
    with (server.folder / "config").open("a") as file:
        file.write(
            f"Host behind\n  HostName 127.0.0.1\n  Port {server.port}\n  IdentityFile {server.folder / 'client'}\n"
            f"  UserKnownHostsFile {server.known_hosts}\n  ProxyCommand {server.ssh} -W %h:%p {HOST}\n"
        )
    with visit(Ssh("behind", str(tmp_path))) as there:
        assert there.look().host


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("sudo: a password is required\n", "sudo wants a password there, which is never asked for"),
        ("sudo: a terminal is required to read the password; either use ...\n", "/etc/sudoers.d/edge-asd"),
        ("sh: 1: exec: sudo: not found\n", "there is no sudo there; deploy as root@shop-floor-7"),
        ("sh: 1: exec: python3: not found\n", "sudo apt-get install python3"),
        ("bash: cannot fork\n", "pi@shop-floor-7: bash: cannot fork"),
    ],
)
def test_what_stands_in_the_way_there(said: str, expected: str) -> None:
    error = Ssh("pi@shop-floor-7").explain(1, said)
    assert isinstance(error, NotAdmitted)
    assert expected in str(error)


@pytest.mark.parametrize(
    "said",
    [
        "sudo: unknown user edge-asd\n",
        "runuser: failed to execute /opt/edge-asd/current/venv/bin/python: No such file or directory\n",
    ],
)
def test_a_device_with_nothing_on_it_is_not_asked(said: str) -> None:
    error = Ssh("pi@shop-floor-7").explain(1, said)
    assert isinstance(error, DeploymentError)
    assert "nothing is deployed there: edge-asd deploy fan.easd pi@shop-floor-7" in str(error)


@pytest.mark.parametrize("name", ["", "-oProxyCommand=true", "a b", "pi@-x", "pi@host;true", "pi@host\n", "@host"])
def test_a_target_is_no_option_and_no_command(name: str) -> None:
    with pytest.raises(UsageError, match="is no device; expected USER@HOST"):
        Ssh(name)


def test_ssh_itself_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PROGRAM, "no-such-ssh")
    assert isinstance(refusal("host", tmp_path), MissingRequirement)
    monkeypatch.setenv(PROGRAM, "ssh '")
    assert isinstance(refusal("host", tmp_path), UsageError)


def test_a_login_script_that_talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says before the first answer is passed over, up to a bound."""
    program = tmp_path / "ssh"
    monkeypatch.setenv(PROGRAM, str(program))
    program.write_text('#!/bin/sh\nfor last; do :; done\necho "Welcome!"\nexec sh -c "$last"\n')
    program.chmod(0o755)
    with visit(Ssh("host", str(tmp_path))) as there:
        assert there.look().host
    program.write_text("#!/bin/sh\nexec yes\n")
    assert isinstance(refusal("host", tmp_path), DeploymentError)
