"""The SHA-256 of every archive at its first download, in the format of `sha256sum`: nobody published any for 2022.

So the first download is trusted, and a later one must be the same. `sha256sum --check --ignore-missing
checksums.sha256` holds the archives that were kept against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_asd import files
from edge_asd.errors import DataError

LARGEST_FILE = 1 << 20
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[^\n]+)")


@dataclass(frozen=True)
class Checksums:
    """What is known, and the file in which it stands.

    Attributes:
        path: of the file; there may be none yet.
        digests: SHA-256 by name, relative to the file's folder.
    """

    path: Path
    digests: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Checksums:
        """What the file says; nothing where there is none.

        Raises:
            DataError: it isn't such a file.
            StorageError: it can't be read.
        """
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise files.unreadable(path, error) from error
        if len(content) > LARGEST_FILE:
            raise DataError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, which no file of checksums is; remove it.")
        digests = {}
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            match = _LINE.fullmatch(line)
            if not match:
                raise DataError(
                    f"{path}: line {number} is {line[:80]!r}; expected 64 digits, two spaces and a name, as sha256sum "
                    "writes them. Mend the line or remove it: its archive is then trusted as at a first download."
                )
            digests[match["name"]] = match["digest"]
        return cls(path, digests)

    def of(self, name: str) -> str | None:
        """What is known of this name, None where nothing is."""
        return self.digests.get(name)

    def written_with(self, name: str, digest: str) -> Checksums:
        """These and one more, in the file too. Raises: StorageError."""
        if self.of(name) == digest:
            return self
        more = Checksums(self.path, {**self.digests, name: digest})
        files.write_text(self.path, "".join(f"{digest}  {name}\n" for name, digest in sorted(more.digests.items())))
        return more
