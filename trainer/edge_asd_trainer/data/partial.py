"""A file that is still on its way: what has come, and of what it is a part."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_asd import files


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said of the file when its transfer began.

    Attributes:
        url: its address.
        length: of the whole, bytes; None where the server didn't say.
        validator: strong ETag or date, by which the server knows whether it is still the same; or empty.
        md5: of the whole, or empty.
    """

    url: str
    length: int | None
    validator: str
    md5: str


class Partial:
    """The part of `path` that has come: <name>.part, and <name>.part.json that says of what."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        self.file = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")

    def size(self) -> int:
        """Bytes that have come."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def begun(self) -> Begun | None:
        """What they are a part of; None where that isn't known, or was asked for at another address."""
        try:
            begun = msgspec.json.decode(self._note.read_bytes(), type=Begun)
        except (OSError, msgspec.DecodeError):
            return None
        fits = begun.url == self.url and (begun.length is None or self.size() <= begun.length)
        return begun if fits else None

    def start_over(self, begun: Begun) -> None:
        """Forget what has come, and note what will. Raises: StorageError."""
        self.discard()  # first, or a crash here would leave the bytes of one file with the note of another
        files.write_bytes(self._note, msgspec.json.encode(begun))

    def discard(self) -> None:
        """Forget what has come. Raises: StorageError."""
        self._remove(self.file)
        self._remove(self._note)

    def finish(self) -> None:
        """Everything has come: the file takes its name. Raises: StorageError."""
        try:
            files.sync(self.file)
            self.file.replace(self.path)
            files.sync(self.path.parent)
        except OSError as error:
            raise files.unwritable(self.path, error) from error
        self._remove(self._note)

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise files.unwritable(file, error) from error
