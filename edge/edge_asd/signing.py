"""Signed bundles: `<name>.easd.sig` beside the bundle, in the format of `ssh-keygen -Y sign`, namespace `edge-asd`.

Users have SSH keys, devices have a list of those whom they trust (ALLOWED SIGNERS in ssh-keygen's manual), and nobody
needs a new tool. ssh-keygen decides whether a signature is good and from whom; what is read here says why it isn't.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asd import child, files
from edge_asd import signature as signatures
from edge_asd.errors import CheckFailed, MissingRequirement, SignatureError, UsageError
from edge_asd.signature import Signature

if TYPE_CHECKING:  # reading a bundle takes NumPy, verifying who signed it doesn't
    from edge_asd.manifest import Manifest

NAMESPACE = "edge-asd"
LARGEST_SIGNATURE = 64 << 10
LARGEST_ALLOWED_SIGNERS = 1 << 20
MOST_LINES = 16  # of one key
VERIFY_SECONDS = 60.0  # of one call, which reads the bundle once or not at all
SIGN_SECONDS = 600.0  # somebody types a passphrase, or looks for a security key


def path_of(bundle: Path) -> Path:
    """Where a bundle's signature lies: beside it."""
    return bundle.with_name(f"{bundle.name}.sig")


def read(bundle: Path) -> bytes | None:
    """The signature beside a bundle, for `verify`, which refuses one that is too large; None where there is none.

    Raises:
        StorageError: it is there and can't be read.
    """
    return files.beginning(path_of(bundle), LARGEST_SIGNATURE + 1)


def sign(bundle: Path, key: Path) -> Path:
    """Sign a bundle that reads well; give the signature's path. A passphrase is asked for at the terminal.

    Args:
        bundle: to be signed; its signature takes the place of an earlier one.
        key: of SSH: a private key's file, or a public key's whose private half an agent holds.

    Raises:
        BundleError: the bundle can't be verified.
        UsageError: the key can't be used.
        MissingRequirement: there is no ssh-keygen.
        StorageError: the signature can't be written.
    """
    from edge_asd import bundle as bundles

    program = _ssh_keygen()
    content = bundles.content_of(bundle)
    bundles.decode(content, str(bundle))
    if not key.is_file():
        raise UsageError(
            f"{key}: there is no such file; give --key the file of an SSH key, such as ~/.ssh/id_ed25519, or make one: "
            "ssh-keygen -t ed25519"
        )
    with _private_folder() as folder:
        copy = folder / "bundle"  # what was verified is what is signed
        copy.write_bytes(content)
        _run_at_the_terminal([program, "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(copy)], key)
        signature = path_of(copy).read_bytes()
    path = path_of(bundle)
    files.write_bytes(path, signature)
    return path


def verify(content: bytes, signature: bytes | None, allowed_signers: Path, source: str) -> str:
    """Who signed these bytes, by the name that `allowed_signers` gives them; several are joined by commas.

    Args:
        content: of the bundle's file.
        signature: of the file beside it, None where there is none.
        allowed_signers: whom to trust, one key a line, as `ssh-keygen -Y verify` takes it.
        source: names the bundle in errors.

    Raises:
        SignatureError: unsigned, altered since, signed by nobody in the list or for another purpose, or the list can't
            be used.
        MissingRequirement: there is no ssh-keygen.
        StorageError: there is no room for a copy to verify.
    """
    again = f"sign it where it was made: edge-asd bundle sign {shlex.quote(Path(source).name)} --key ~/.ssh/id_ed25519"
    if signature is None:
        raise SignatureError(
            f"{source}: not signed (no {path_of(Path(source)).name} beside it), and {allowed_signers} asks for it; "
            f"{again}"
        )
    program, trusted = _ssh_keygen(), _trusted(allowed_signers)
    stated = _decoded(signature, source, again)
    lines = [line for line in trusted if stated.may_be_meant_by(line)]
    if not lines:
        raise SignatureError(
            f"{source}: signed by {stated.signer}, which {allowed_signers} doesn't list; if you trust it, add a line "
            f'there: NAME namespaces="{NAMESPACE}" and what stands in its .pub file.'
        )
    with _private_folder() as folder:
        work = _Verification(program, folder, content, signature)
        if not work.is_of_the_content():
            raise SignatureError(
                f"{source}: altered since it was signed, or the signature is another bundle's; copy both again, or "
                f"{again}"
            )
        refusals = []
        for line in lines[:MOST_LINES]:
            principals, refusal = work.allowed_by(line)
            if principals:
                return principals
            refusals.append(refusal)
    raise SignatureError(
        f"{source}: signed by {stated.signer}, which {allowed_signers} lists but doesn't allow: {'; '.join(refusals)}. "
        "Sign it with another key, or mend that line."
    )


def refuse_older(incoming: Manifest, running: Manifest) -> None:
    """Refuse a bundle that was made before the one that runs, however well it is signed. Raises: SignatureError."""
    if incoming.made < running.made:
        raise SignatureError(
            f"the bundle was made {incoming.made_at}, the one that runs {running.made_at}: an older one may bring back "
            "what was mended since. Send a newer one or, if this one is meant, say --allow-older."
        )


class _Verification:
    """One content and its signature in a private folder, laid before ssh-keygen."""

    def __init__(self, program: str, folder: Path, content: bytes, signature: bytes) -> None:
        self._program, self._allowed = program, folder / "allowed_signers"
        self._content, self._signature = folder / "content", folder / "signature"
        self._content.write_bytes(content)
        self._signature.write_bytes(signature)

    def is_of_the_content(self) -> bool:
        """The signature is one of the content and for our namespace, whoever made it."""
        return self._asked("check-novalidate", "-n", NAMESPACE).code == 0

    def allowed_by(self, line: bytes) -> tuple[str, str]:
        """The principals who signed, as one line of allowed_signers has it; or "", and why it doesn't.

        A line at a time, for of several ssh-keygen finds the first with the key, be it for another purpose.
        """
        self._allowed.write_bytes(line + b"\n")
        found = self._asked("find-principals", "-f", str(self._allowed))
        principals = [name for name in found.output.split("\n") if name and not name.startswith("!")]
        if found.code == 0 and principals:
            found = self._asked("verify", "-I", principals[0], "-n", NAMESPACE, "-f", str(self._allowed))
            if found.code == 0:
                return ",".join(principals), ""
        said, where = found.errors.splitlines(), f"{self._allowed}:1: "
        return "", next((text.removeprefix(where) for text in said if text.startswith(where)), found.last_line)

    def _asked(self, act: str, *words: str) -> child.Finished:
        command = [self._program, "-Y", act, "-s", str(self._signature), *words]
        with self._content.open("rb") as content:
            try:
                return child.run(command, seconds=VERIFY_SECONDS, stdin=content)
            except CheckFailed as error:
                raise SignatureError(f"the signature could not be verified: {error} Try again.") from error


def _decoded(signature: bytes, source: str, again: str) -> Signature:
    """What a signature says of itself. Raises: SignatureError where it is none, or one for another purpose."""
    if len(signature) > LARGEST_SIGNATURE:
        raise SignatureError(
            f"{source}: its signature is larger than {LARGEST_SIGNATURE >> 10} KiB, which none is; {again}"
        )
    try:
        stated = signatures.decode(signature)
    except ValueError as error:
        raise SignatureError(
            f"{source}: what lies beside it is no signature of `ssh-keygen -Y sign` ({error}); copy it again, or "
            f"{again}"
        ) from error
    if stated.namespace != NAMESPACE:
        raise SignatureError(
            f"{source}: signed for the purpose (namespace) {stated.namespace[:40]!r}, expected {NAMESPACE!r}; {again}"
        )
    return stated


def _trusted(allowed_signers: Path) -> list[bytes]:
    """The lines of allowed_signers but for comments. Raises: SignatureError where there are none."""
    example = f'so nobody is trusted; expected lines such as: NAME namespaces="{NAMESPACE}" ssh-ed25519 AAAA...'
    try:
        with allowed_signers.open("rb") as file:
            content = file.read(LARGEST_ALLOWED_SIGNERS + 1)
    except OSError as error:
        raise SignatureError(f"{allowed_signers}: can't be read ({error.strerror}), {example}") from error
    if len(content) > LARGEST_ALLOWED_SIGNERS:
        raise SignatureError(f"{allowed_signers}: larger than {LARGEST_ALLOWED_SIGNERS >> 20} MiB, {example}")
    lines = [line for line in map(bytes.strip, content.splitlines()) if line and not line.startswith(b"#")]
    if not lines:
        raise SignatureError(f"{allowed_signers}: names nobody, {example}")
    return lines


def _run_at_the_terminal(command: list[str], key: Path) -> None:
    """Let ssh-keygen ask for what it needs, where somebody can answer. Raises: UsageError where it doesn't sign."""
    attended = sys.stdin.isatty() and sys.stderr.isatty()
    try:
        done = subprocess.run(  # in our session and with our terminal, unlike what `child` runs
            command,
            stdin=None if attended else subprocess.DEVNULL,
            stdout=sys.stderr if attended else subprocess.DEVNULL,
            stderr=None if attended else subprocess.PIPE,
            timeout=SIGN_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{key}: ssh-keygen did not sign with it ({error}); try again.") from error
    if done.returncode == 0:
        return
    said = [line.strip() for line in (done.stderr or b"").decode(errors="replace").split("\n") if line.strip()]
    if any("incorrect passphrase" in line for line in said):
        raise UsageError(
            f"{key}: its passphrase is wrong, or can't be asked for without a terminal; run this at one, or add the "
            "key to an agent (ssh-add) and give --key its .pub file."
        )
    raise UsageError(
        f"{key}: ssh-keygen did not sign with it ({said[-1] if said else 'see above'}); give --key a private key's "
        "file, or a .pub file whose private key an agent holds (ssh-add -l lists them)."
    )


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that nobody else can look into, until it has served. Raises: StorageError where it can't be filled."""
    try:
        with tempfile.TemporaryDirectory(prefix="edge-asd-signature.") as folder:
            yield Path(folder)
    except OSError as error:
        raise files.unwritable(Path(tempfile.gettempdir()), error) from error


def _ssh_keygen() -> str:
    """The program. Raises: MissingRequirement."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise MissingRequirement(
            "signatures need ssh-keygen, which isn't installed here; install it with: sudo apt install openssh-client"
        )
    return program
