"""What a signature of `ssh-keygen -Y sign` says of itself (its format: PROTOCOL.sshsig of OpenSSH).

Nothing here says whether it is a good one: that ssh-keygen decides (`signing`).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG\0\0\0\1"  # of version 1


@dataclass(frozen=True)
class Signature:
    """The parts of a signature that can be told without verifying it.

    Attributes:
        key: the public key's bytes, or a certificate's.
        namespace: what it was made for.
    """

    key: bytes
    namespace: str

    @property
    def signer(self) -> str:
        """Its key, as `ssh-keygen -l` shows it."""
        if self._certified:
            return "a certificate"
        return f"the key SHA256:{base64.b64encode(hashlib.sha256(self.key).digest()).decode().rstrip('=')}"

    def may_be_meant_by(self, line: bytes) -> bool:
        """A line of allowed_signers holds this key, or may hold the authority that certified it."""
        return base64.b64encode(self.key) in line.split() or (self._certified and b"cert-authority" in line)

    @property
    def _certified(self) -> bool:
        return b"-cert-v" in self.key[:64]  # the key's type comes first


def decode(content: bytes) -> Signature:
    """What a signature's file says. Raises: ValueError where it isn't one."""
    text = content.strip()
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise ValueError("not between the lines that begin and end an SSH signature")
    blob = base64.b64decode(b"".join(text[len(_BEGIN) : -len(_END)].split()), validate=True)
    if not blob.startswith(_MAGIC):
        raise ValueError("not version 1 of the format")
    key, rest = _string(blob[len(_MAGIC) :])
    namespace, _ = _string(rest)
    return Signature(key, namespace.decode(errors="replace"))


def _string(content: bytes) -> tuple[bytes, bytes]:
    """One string of SSH's binary format (RFC 4251, section 5), and what follows it. Raises: ValueError."""
    end = 4 + int.from_bytes(content[:4], "big")
    if len(content) < max(4, end):
        raise ValueError("shorter than it says")
    return content[4:end], content[end:]
