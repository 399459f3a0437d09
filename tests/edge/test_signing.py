"""Signatures by the ssh-keygen that is installed: whose are taken, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from common import missing
from edge_asd import bundle as bundles
from edge_asd import child, signing
from edge_asd import signature as signatures
from edge_asd.errors import BundleError, CheckFailed, MissingRequirement, SignatureError, StorageError, UsageError
from edge_asd.signing import refuse_older, sign, verify
from made_up import some_bundle

TYPED = "as said on the phone"


@pytest.fixture(autouse=True, scope="module")
def _ssh_keygen() -> None:
    if not shutil.which("ssh-keygen"):
        missing("ssh-keygen (apt install openssh-client)")


@pytest.fixture(autouse=True)
def _nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent of whoever runs the tests, and no window that asks them for a passphrase."""
    for name in ("SSH_AUTH_SOCK", "DISPLAY", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE"):
        monkeypatch.delenv(name, raising=False)


def keygen(*words: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, stdin=subprocess.DEVNULL)


def key_of(folder: Path, name: str, *words: str, passphrase: str = "") -> Path:
    keygen(*(words or ("-t", "ed25519")), "-N", passphrase, "-C", "", "-f", folder / name)
    return folder / name


def line(key: Path, options: str = 'namespaces="edge-asd"', principal: str = "maintenance@plant") -> str:
    return f"{principal} {options} {key.with_name(f'{key.name}.pub').read_text().strip()}\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    key_of(folder, "ours")
    key_of(folder, "theirs")
    key_of(folder, "locked", passphrase=TYPED)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that `ours` signed, to be read alone."""
    path = tmp_path_factory.mktemp("signed") / "fan.easd"
    bundles.write(path, some_bundle())
    assert sign(path, keys / "ours") == path.with_name("fan.easd.sig")
    return path


@pytest.fixture
def allowed(keys: Path, tmp_path: Path) -> Path:
    path = tmp_path / "allowed_signers"
    path.write_text(f"# who may\n\n{line(keys / 'ours')}")
    return path


def refused(content: bytes, signature: bytes | None, allowed: Path) -> str:
    with pytest.raises(SignatureError) as refusal:
        verify(content, signature, allowed, "incoming/fan.easd")
    message = str(refusal.value)
    assert "\n" not in message
    assert refusal.value.exit_code == BundleError.exit_code
    return message


AGAIN = "sign it where it was made: edge-asd bundle sign fan.easd --key ~/.ssh/id_ed25519"


@pytest.mark.parametrize("kind", [["-t", "ed25519"], ["-t", "rsa", "-b", "3072"], ["-t", "ecdsa", "-b", "384"]])
def test_signed_by_a_key_of_every_kind(kind: list[str], tmp_path: Path) -> None:
    path, key = tmp_path / "fan.easd", key_of(tmp_path, "key", *kind)
    bundles.write(path, some_bundle())
    assert signing.read(path) is None
    sign(path, key)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(line(key))
    assert verify(path.read_bytes(), signing.read(path), allowed, str(path)) == "maintenance@plant"
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "allowed_signers",
        "fan.easd",
        "fan.easd.sig",
        "key",
        "key.pub",
    ]


def test_ssh_keygen_itself_takes_it(signed: Path, allowed: Path) -> None:
    command = ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "maintenance@plant", "-n", "edge-asd"]
    with signed.open("rb") as content:
        done = subprocess.run([*command, "-s", signing.path_of(signed)], stdin=content, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith('Good "edge-asd" signature for maintenance@plant')


def test_unsigned(signed: Path, allowed: Path) -> None:
    message = refused(signed.read_bytes(), None, allowed)
    assert message.startswith("incoming/fan.easd: not signed (no fan.easd.sig beside it)")
    assert str(allowed) in message
    assert message.endswith(AGAIN)


def test_a_signature_that_is_too_large(signed: Path, allowed: Path) -> None:
    signature = signing.path_of(signed).read_bytes()
    verify(signed.read_bytes(), signature + b"\n" * ((64 << 10) - len(signature)), allowed, "fan.easd")
    message = refused(signed.read_bytes(), signature + b"\n" * ((64 << 10) + 1 - len(signature)), allowed)
    assert "larger than 64 KiB" in message


def test_a_signature_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "fan.easd"
    signing.path_of(path).write_bytes(bytes(1 << 20))
    assert len(signing.read(path) or b"") == (64 << 10) + 1
    signing.path_of(path).unlink()
    signing.path_of(path).mkdir()
    with pytest.raises(StorageError, match="can't be read"):
        signing.read(path)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"x" * 1000,
        b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\n?\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n",  # nothing behind the version
        b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAf////8=\n-----END SSH SIGNATURE-----\n",  # a key of 4 GiB
        b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAg==\n-----END SSH SIGNATURE-----\n",  # version 2
        b"-----BEGIN PGP SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END PGP SIGNATURE-----\n",
    ],
)
def test_what_is_no_signature(signature: bytes, signed: Path, allowed: Path) -> None:
    message = refused(signed.read_bytes(), signature, allowed)
    assert "no signature of `ssh-keygen -Y sign`" in message
    assert message.endswith(AGAIN)


def test_signed_by_somebody_else(keys: Path, signed: Path, allowed: Path) -> None:
    allowed.write_text(line(keys / "theirs"))
    message = refused(signed.read_bytes(), signing.read(signed), allowed)
    shown = subprocess.run(["ssh-keygen", "-lf", keys / "ours.pub"], capture_output=True, text=True, check=True)
    fingerprint = shown.stdout.split()[1]
    assert f"signed by the key {fingerprint}, which {allowed} doesn't list" in message
    assert 'NAME namespaces="edge-asd"' in message


def test_signed_for_another_purpose(keys: Path, tmp_path: Path, allowed: Path) -> None:
    path = tmp_path / "fan.easd"
    bundles.write(path, some_bundle())
    keygen("-Y", "sign", "-f", keys / "ours", "-n", "git", path)
    message = refused(path.read_bytes(), signing.read(path), allowed)
    assert "signed for the purpose (namespace) 'git', expected 'edge-asd'" in message


def test_a_line_that_allows_another_purpose(keys: Path, signed: Path, allowed: Path) -> None:
    allowed.write_text(line(keys / "ours", 'namespaces="git"'))
    message = refused(signed.read_bytes(), signing.read(signed), allowed)
    assert "lists but doesn't allow: key is not permitted for use in signature namespace" in message


def test_a_line_without_a_purpose_allows_every_one(keys: Path, signed: Path, allowed: Path) -> None:
    allowed.write_text(line(keys / "ours", ""))
    assert verify(signed.read_bytes(), signing.read(signed), allowed, "fan.easd") == "maintenance@plant"


@pytest.mark.parametrize("ours", ["20200101", "20210101"])
def test_a_key_that_has_expired(ours: str, keys: Path, signed: Path, allowed: Path) -> None:
    allowed.write_text(line(keys / "ours", f'namespaces="edge-asd",valid-before="{ours}"'))
    message = refused(signed.read_bytes(), signing.read(signed), allowed)
    assert "lists but doesn't allow: key has expired" in message
    assert f"valid-before {ours[:4]}-01-01" in message


def test_a_key_that_will_expire(keys: Path, signed: Path, allowed: Path) -> None:
    allowed.write_text(line(keys / "ours", 'namespaces="edge-asd",valid-before="20370101"'))
    assert verify(signed.read_bytes(), signing.read(signed), allowed, "fan.easd") == "maintenance@plant"
    allowed.write_text(line(keys / "ours", 'namespaces="edge-asd",valid-after="20370101"'))
    assert "not yet valid" in refused(signed.read_bytes(), signing.read(signed), allowed)


def test_any_line_of_a_key_may_allow_it(keys: Path, signed: Path, allowed: Path) -> None:
    """ssh-keygen alone would take the first that has not expired."""
    lines = [
        "rubbish\n",
        line(keys / "ours", 'valid-before="20200101"', "past@plant"),
        line(keys / "ours", 'namespaces="git"', "commits@plant"),
        line(keys / "theirs", principal="others@plant"),
        line(keys / "ours", 'namespaces="edge-asd,git"', "*@plant,!guest@plant"),
    ]
    allowed.write_text("".join(lines))
    assert verify(signed.read_bytes(), signing.read(signed), allowed, "fan.easd") == "*@plant"
    allowed.write_text("".join(lines[:4]))
    assert "has expired" in refused(signed.read_bytes(), signing.read(signed), allowed)


def test_a_key_with_lines_without_end(keys: Path, signed: Path, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    run = child.run
    monkeypatch.setattr(child, "run", lambda command, **more: asked.append(command) or run(command, **more))
    allowed.write_text(line(keys / "ours", 'valid-before="20200101"') * 100 + line(keys / "ours"))
    refused(signed.read_bytes(), signing.read(signed), allowed)
    assert len(asked) == 1 + signing.MOST_LINES


def test_a_key_that_an_authority_certified(keys: Path, tmp_path: Path, allowed: Path) -> None:
    path, key = tmp_path / "fan.easd", key_of(tmp_path, "key")
    bundles.write(path, some_bundle())
    keygen("-s", keys / "theirs", "-I", "her", "-n", "maintenance@plant", tmp_path / "key.pub")
    sign(path, tmp_path / "key-cert.pub")
    assert "signed by a certificate, which" in refused(path.read_bytes(), signing.read(path), allowed)
    allowed.write_text(line(keys / "ours", "cert-authority", "*") + line(keys / "theirs", "cert-authority", "*@plant"))
    assert verify(path.read_bytes(), signing.read(path), allowed, "fan.easd") == "maintenance@plant"
    assert key.is_file()


def test_every_single_bit_of_a_bundle_counts(signed: Path, allowed: Path) -> None:
    content, random = signed.read_bytes(), np.random.default_rng(0)
    ends = [0, len(content) - 1]
    for position in [*ends, *random.integers(0, len(content), 30)]:
        altered = bytearray(content)
        altered[position] ^= 1 << random.integers(8)
        message = refused(bytes(altered), signing.read(signed), allowed)
        assert "altered since it was signed" in message
    for cut_or_longer in (content[:-1], content + b"\0", b""):
        assert "altered since it was signed" in refused(cut_or_longer, signing.read(signed), allowed)


def test_an_altered_signature_is_refused_or_still_says_the_same(signed: Path, allowed: Path) -> None:
    """Bits of its lines' ends say nothing; all others count."""
    signature, random, counted = signing.path_of(signed).read_bytes(), np.random.default_rng(0), 0
    for position in random.integers(0, len(signature), 60):
        altered = bytearray(signature)
        altered[position] ^= 1 << random.integers(8)
        try:
            assert verify(signed.read_bytes(), bytes(altered), allowed, "fan.easd") == "maintenance@plant"
        except SignatureError:
            counted += 1
        else:
            assert signatures.decode(bytes(altered)) == signatures.decode(signature)
    assert counted > 50


def test_the_signature_of_another_bundle(keys: Path, signed: Path, tmp_path: Path, allowed: Path) -> None:
    other = tmp_path / "fan.easd"
    bundles.write(other, bundle_with(made=1))
    sign(other, keys / "ours")
    message = refused(signed.read_bytes(), signing.read(other), allowed)
    assert "or the signature is another bundle's" in message
    assert message.endswith(AGAIN)


def bundle_with(**fields: object) -> bundles.Bundle:
    bundle = some_bundle()
    return dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, **fields))


@pytest.mark.parametrize(
    ("content", "said"), [("", "names nobody"), ("\n# nobody yet\n", "names nobody"), (None, "can't be read (No such")]
)
def test_a_list_that_trusts_nobody(content: str | None, said: str, signed: Path, allowed: Path) -> None:
    allowed.unlink()
    if content is not None:
        allowed.write_text(content)
    message = refused(signed.read_bytes(), signing.read(signed), allowed)
    assert message.startswith(f"{allowed}: {said}")
    assert 'expected lines such as: NAME namespaces="edge-asd" ssh-ed25519 AAAA...' in message


def test_a_list_that_is_too_large(signed: Path, allowed: Path) -> None:
    with allowed.open("ab") as file:
        file.truncate((1 << 20) + 1)
    assert "larger than 1 MiB" in refused(signed.read_bytes(), signing.read(signed), allowed)


def test_without_ssh_keygen(signed: Path, allowed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingRequirement, match="apt install openssh-client"):
        verify(signed.read_bytes(), signing.read(signed), allowed, "fan.easd")
    with pytest.raises(MissingRequirement, match="apt install openssh-client"):
        sign(signed, keys / "ours")


def test_an_ssh_keygen_that_never_ends(signed: Path, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> child.Finished:
        raise CheckFailed("it was not done after 60 s and was ended.")

    monkeypatch.setattr(child, "run", run)
    assert "was not done after 60 s" in refused(signed.read_bytes(), signing.read(signed), allowed)


def test_a_full_disk_is_said(signed: Path, allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(allowed / "no folder"))
    with pytest.raises(StorageError, match="could not be written"):
        verify(signed.read_bytes(), signing.read(signed), allowed, "fan.easd")


def unsigned_bundle(folder: Path) -> Path:
    path = folder / "fan.easd"
    bundles.write(path, some_bundle())
    return path


def test_only_a_bundle_that_reads_well_is_signed(keys: Path, tmp_path: Path) -> None:
    path = unsigned_bundle(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="damaged or not a bundle"):
        sign(path, keys / "ours")
    with pytest.raises(BundleError, match="can't be read"):
        sign(tmp_path / "none.easd", keys / "ours")
    assert [file.name for file in tmp_path.iterdir()] == ["fan.easd"]


def not_signed(bundle: Path, key: Path) -> str:
    signing.path_of(bundle).write_bytes(b"as it was")
    with pytest.raises(UsageError) as refusal:
        sign(bundle, key)
    assert signing.path_of(bundle).read_bytes() == b"as it was"
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{key}: ")
    return str(refusal.value)


def test_keys_that_can_not_sign(keys: Path, tmp_path: Path) -> None:
    path = unsigned_bundle(tmp_path)
    assert "there is no such file" in not_signed(path, tmp_path / "none")
    assert "there is no such file" in not_signed(path, tmp_path)
    (tmp_path / "text").write_text("no key\n")
    assert "give --key a private key's file" in not_signed(path, tmp_path / "text")
    half = Path(shutil.copy(keys / "ours.pub", tmp_path / "half.pub"))
    assert "No private key found" in not_signed(path, half)
    open_to_all = Path(shutil.copy(keys / "ours", tmp_path / "open"))
    open_to_all.chmod(0o644)
    assert "ssh-keygen did not sign with it" in not_signed(path, open_to_all)


def test_a_passphrase_without_a_terminal(keys: Path, tmp_path: Path) -> None:
    assert "its passphrase is wrong, or can't be asked for without a terminal" in not_signed(
        unsigned_bundle(tmp_path), keys / "locked"
    )


@pytest.mark.parametrize(("typed", "code"), [(TYPED, 0), ("wrong", 2)])
def test_a_passphrase_is_asked_for_at_the_terminal(
    typed: str, code: int, keys: Path, tmp_path: Path, allowed: Path, edge_asd: list[str]
) -> None:
    path = unsigned_bundle(tmp_path)
    command = [*edge_asd, "bundle", "sign", str(path), "--key", str(keys / "locked")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)  # noqa: S606
    said = b""
    try:
        while piece := os.read(terminal, 1000):
            if b"passphrase" not in said and b"passphrase" in said + piece:
                os.write(terminal, f"{typed}\n".encode())
            said += piece
    except OSError:  # as Linux says that nobody has the terminal any more
        pass
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, said
    if code:
        assert b"did not sign with it (see above)" in said
        assert signing.read(path) is None
    else:
        allowed.write_text(line(keys / "locked"))
        assert verify(path.read_bytes(), signing.read(path), allowed, str(path)) == "maintenance@plant"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not shutil.which("ssh-agent"):
        missing("ssh-agent (apt install openssh-client)")
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()  # it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield
        process.terminate()


@pytest.mark.usefixtures("agent")
def test_an_agent_holds_the_key(tmp_path: Path, allowed: Path) -> None:
    path, key = unsigned_bundle(tmp_path), key_of(tmp_path, "key")
    allowed.write_text(line(key))
    subprocess.run(["ssh-add", "-q", key], check=True, stdin=subprocess.DEVNULL)
    key.unlink()
    sign(path, tmp_path / "key.pub")
    assert verify(path.read_bytes(), signing.read(path), allowed, str(path)) == "maintenance@plant"


def test_older() -> None:
    one, other = (bundle_with(made=made).manifest for made in (1_700_000_000, 1_700_000_001))
    refuse_older(other, one)
    refuse_older(one, one)
    with pytest.raises(SignatureError) as refusal:
        refuse_older(one, other)
    message = str(refusal.value)
    assert "made 2023-11-14 22:13:20 UTC, the one that runs 2023-11-14 22:13:21 UTC" in message
    assert message.endswith("say --allow-older.")


def test_the_commands(tiny_bundle: Path, keys: Path, tmp_path: Path, allowed: Path, edge_asd: list[str]) -> None:
    path = Path(shutil.copy(tiny_bundle, tmp_path))

    def called(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*edge_asd, "bundle", *map(str, words)], capture_output=True, text=True)

    verified = called("verify", path, "--allowed-signers", allowed)
    assert verified.returncode == 5
    assert verified.stderr.startswith(f"edge-asd: {path}: not signed")
    assert verified.stdout == ""  # its model is not run
    done = called("sign", path, "--key", keys / "ours")
    assert (done.returncode, done.stdout) == (0, f"{path}.sig: signed with {keys / 'ours'}\n")
    verified = called("verify", path, "--allowed-signers", allowed)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith(f"{path}: signed by maintenance@plant\n{path}: hashes agree")
    found = json.loads(called("verify", path, "--allowed-signers", allowed, "--json").stdout)
    assert found["signer"] == "maintenance@plant"
    assert found["passed"]
    assert "2023-11-14 22:13:20 UTC" in called("inspect", path).stdout
