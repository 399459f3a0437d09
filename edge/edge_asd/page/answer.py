"""What goes back to a browser: words, JSON, octets, or a stretch of a file; each with headers that keep it harmless."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from wsgiref.types import StartResponse, WSGIEnvironment

import msgspec

Headers = tuple[tuple[str, str], ...]

# What isn't from here is neither loaded nor run, nor is a script in the page's own text; and nobody frames it.
SAFETY: Headers = (
    (
        "Content-Security-Policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


@dataclass(frozen=True)
class Answer:
    """A status, what is said with it, of which kind that is, and further headers.

    Attributes:
        file: stands in place of the body, from where it is on, `length` bytes of it; closed once it is sent.
    """

    status: HTTPStatus
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: Headers = ()
    file: BinaryIO | None = None
    length: int = 0

    def send(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The way of WSGI. A file goes out by itself: a slow reader holds no thread, and nothing is read ahead."""
        length = self.length if self.file else len(self.body)
        headers = [("Content-Type", self.kind), ("Content-Length", str(length)), *SAFETY, *self.headers]
        start_response(f"{self.status.value} {self.status.phrase}", headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            if self.file:
                self.file.close()
            return []
        if self.file:
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](self.file)
            return wrapped
        return [self.body]


def words(status: HTTPStatus, said: str, headers: Headers = ()) -> Answer:
    """A sentence for a person."""
    return Answer(status, f"{said}\n".encode(), headers=headers)


def json(value: object) -> Answer:
    """A value for the page's script."""
    return Answer(HTTPStatus.OK, msgspec.json.encode(value), "application/json")


def recording(path: Path, kind: str, asked: str) -> Answer | None:
    """A file, or of it the stretch that a `Range` header asked for; None where there is no such file.

    Phones play no sound without ranges. More than one at once is allowed to be answered by the whole, which we do.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        return None
    file, size = os.fdopen(handle, "rb"), found.st_size
    headers: Headers = (("Accept-Ranges", "bytes"), ("Content-Disposition", f'inline; filename="{path.name}"'))
    stretch = _stretch(asked, size)
    if stretch is None:
        return Answer(HTTPStatus.OK, kind=kind, headers=headers, file=file, length=size)
    if not stretch:
        file.close()
        said = f"Found {size} bytes, and none in that range."
        return words(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, said, (("Content-Range", f"bytes */{size}"),))
    file.seek(stretch.start)
    headers += (("Content-Range", f"bytes {stretch.start}-{stretch[-1]}/{size}"),)
    return Answer(HTTPStatus.PARTIAL_CONTENT, kind=kind, headers=headers, file=file, length=len(stretch))


def _stretch(asked: str, size: int) -> range | None:
    """Which bytes are asked for: none of them where the file is too short, None where it is all."""
    found = _RANGE.fullmatch(asked.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1 if last else size))
