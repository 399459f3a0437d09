"""One file over HTTP: resumed where it broke off, bounded in tries and size, there whole or not at all.

Until it is whole it is called <name>.part, and <name>.part.json says what of. A server that can't resume starts over.
Proxies and certificates are those that `requests` takes from the environment (HTTPS_PROXY, REQUESTS_CA_BUNDLE).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from edge_asd import __version__, files, progress
from edge_asd.errors import DownloadError, EdgeAsdError
from edge_asd.progress import say
from edge_asd_trainer.data.disk import need
from edge_asd_trainer.data.partial import Begun, Partial

LARGEST_FILE = 16 << 30
BLOCK = 1 << 16
MEBIBYTE = 1 << 20
MOST_REDIRECTS = 5
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # statuses that another try may find gone

_MD5 = re.compile(r'(?:"md5:)?(?P<digest>[0-9a-f]{32})"?')  # Zenodo's own: ETag "md5:...", Content-MD5 in hexadecimal


@dataclass(frozen=True)
class Patience:
    """How long a transfer is tried for.

    Attributes:
        tries: so many in a row that bring less than a MiB beyond what was there before.
        pause: seconds before the second try; each further one takes twice as long.
        longest_pause: seconds, whatever the server asks for.
        connecting: seconds to wait for a connection.
        silence: seconds to wait for the next byte.
    """

    tries: int = 6
    pause: float = 1.0
    longest_pause: float = 90.0
    connecting: float = 10.0
    silence: float = 60.0


class _Again(Exception):
    """A try that failed in a way that the next one may not. `after`: seconds that the server asks to wait."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def fetch(
    url: str, path: Path, *, patience: Patience = Patience(), sleep: Callable[[float], object] = time.sleep
) -> None:
    """Fetch an address into a file, going on with what an earlier time had begun.

    Raises:
        DownloadError: there is no such file, or after all tries it didn't come whole; what came is kept.
        StorageError: no room for it and for what it unpacks to, or it can't be written.
    """
    part = Partial(path, url)
    try:
        with requests.Session() as session:
            session.headers.update({"User-Agent": f"edge-asd/{__version__}", "Accept-Encoding": "identity"})
            session.max_redirects = MOST_REDIRECTS
            _try_and_try_again(session, part, patience, sleep)
    except KeyboardInterrupt:
        say(f"{path.name}: {_mebibytes(part.size())} are kept; the same command goes on from there")
        raise
    _verify(part)
    part.finish()


def _try_and_try_again(
    session: requests.Session, part: Partial, patience: Patience, sleep: Callable[[float], object]
) -> None:
    reached, failed = part.size() if part.begun() else 0, 0
    while True:
        try:
            return _once(session, part, patience)
        except _Again as again:
            failed = 1 if part.size() >= reached + MEBIBYTE else failed + 1
            reached = max(reached, part.size())
            if failed >= patience.tries:
                raise _given_up(part, again, failed) from again
            pause = min(max(patience.pause * 2 ** (failed - 1), again.after), patience.longest_pause)
            say(f"{part.path.name}: {again}; next try in {pause:.0f} s")
            sleep(pause)


def _once(session: requests.Session, part: Partial, patience: Patience) -> None:
    """One try. Raises: _Again where another one may do better."""
    begun = part.begun()
    offset = part.size() if begun else 0
    if begun and offset and offset == begun.length:
        return
    headers = {}
    if begun and offset:
        headers["Range"] = f"bytes={offset}-"
        if begun.validator:
            headers["If-Range"] = begun.validator
    try:
        timeout = (patience.connecting, patience.silence)
        with session.get(part.url, headers=headers, stream=True, timeout=timeout) as answer:
            _refuse_downgrade(part.url, answer)
            begun = _accepted(answer, part, begun, offset)
            _receive(answer, part, begun)
    except requests.RequestException as error:
        raise _failure(part, error, patience) from error
    if begun.length is not None and part.size() != begun.length:
        raise _Again(f"{part.size()} of {begun.length} bytes came")


def _accepted(answer: requests.Response, part: Partial, begun: Begun | None, offset: int) -> Begun:
    """What an answer brings: the rest of what was begun, or the whole from the start. Raises: _Again, DownloadError."""
    if answer.status_code == requests.codes.partial and begun and offset:
        if _continues(answer, begun, offset):
            return begun
        part.discard()
        raise _Again("the server sent another part than the one asked for; starting over")
    if answer.status_code == requests.codes.requested_range_not_satisfiable and offset:
        part.discard()
        raise _Again("the server no longer knows the rest of what was begun; starting over")
    if answer.status_code in TRANSIENT:
        after = answer.headers.get("Retry-After", "")
        raise _Again(f"the server answers {_status(answer)}", float(after) if after.isdecimal() else 0.0)
    if answer.status_code != requests.codes.ok:
        raise DownloadError(
            f"{part.url}: the server answers {_status(answer)}, expected the file; look whether the address opens in a "
            "browser, and name a mirror with --from if it has moved."
        )
    begun = Begun(url=part.url, length=_length(answer, part), validator=_validator(answer), md5=_md5(answer))
    part.start_over(begun)
    return begun


def _receive(answer: requests.Response, part: Partial, begun: Begun) -> None:
    """Append the body. Raises: DownloadError where it is larger than any such file."""
    size = part.size()
    if begun.length is not None:
        rest = begun.length - size
        need(part.path.parent, rest + begun.length, f"for {part.path.name} and what it unpacks to")
    total = (begun.length or 0) // MEBIBYTE
    try:
        with part.file.open("ab") as file, progress.bar(f"{part.path.name}, MiB", total) as bar:
            bar.advance(size // MEBIBYTE)
            for block in answer.iter_content(BLOCK):
                file.write(block)
                bar.advance((size + len(block)) // MEBIBYTE - size // MEBIBYTE)
                size += len(block)
                if size > LARGEST_FILE:
                    raise _too_large(part, "sends more than")
    except requests.RequestException:
        raise
    except OSError as error:
        raise files.unwritable(part.file, error) from error


def _continues(answer: requests.Response, begun: Begun, offset: int) -> bool:
    """A 206 brings the very bytes that are missing, of the file that was begun."""
    range_ = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if not range_ or int(range_[1]) != offset:
        return False
    same_length = begun.length is None or int(range_[2]) + 1 == begun.length
    return same_length and _validator(answer) in {"", begun.validator}


def _length(answer: requests.Response, part: Partial) -> int | None:
    """Bytes of the whole file; None where its chunks say when it ends. Raises: DownloadError."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(
            f"{part.url}: comes encoded, which was not asked for; perhaps a proxy does that, go around it."
        )
    stated = answer.headers.get("Content-Length", "")
    if stated.isdecimal():
        if len(stated) > 18 or int(stated) > LARGEST_FILE:
            raise _too_large(part, f"announces {stated[:30]} bytes, expected at most")
        return int(stated)
    if answer.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return None
    raise DownloadError(
        f"{part.url}: the server doesn't say how long the file is, so one that broke off couldn't be told from a whole "
        "one; use another mirror or proxy."
    )


def _validator(answer: requests.Response) -> str:
    """What tells this version of the file from another one: a strong ETag, else the date; empty where there is none."""
    tag: str = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    date: str = answer.headers.get("Last-Modified", "")
    return date


def _md5(answer: requests.Response) -> str:
    """The MD5 that the server states, as Zenodo does; empty where it states none."""
    for header in ("ETag", "Content-MD5"):
        if (match := _MD5.fullmatch(answer.headers.get(header, ""))) and (header != "ETag" or "md5:" in match[0]):
            return match["digest"]
    return ""


def _verify(part: Partial) -> None:
    """Hold what came against the server's own MD5. Raises: DownloadError."""
    begun = part.begun()
    if not begun or not begun.md5:
        return
    with part.file.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != begun.md5:
        part.discard()
        raise DownloadError(
            f"{part.url}: came damaged (MD5 {digest}, the server says {begun.md5}) and was thrown away; run the same "
            "command again."
        )


def _refuse_downgrade(url: str, answer: requests.Response) -> None:
    hops = [hop.url for hop in (*answer.history, answer)]
    if url.startswith("https:") and not all(hop.startswith("https:") for hop in hops):
        raise DownloadError(
            f"{url}: leads to {hops[-1]}, which isn't encrypted; use another mirror, or another network."
        )


def _failure(part: Partial, error: requests.RequestException, patience: Patience) -> _Again | EdgeAsdError:
    """What a failed request means: try again, or say at once what to mend."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return DownloadError(
            f"{part.url}: the server's certificate can't be verified; where a proxy puts its own in place, name its "
            "authority in REQUESTS_CA_BUNDLE."
        )
    if isinstance(error, ValueError | requests.TooManyRedirects):  # an address, a proxy's address, its scheme
        return DownloadError(f"{part.url}: can't be asked for ({error}); look at --from and at HTTPS_PROXY.")
    if isinstance(error, requests.Timeout):
        waited = patience.connecting if isinstance(error, requests.ConnectTimeout) else patience.silence
        return _Again(f"no answer within {waited:.0f} s")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return _Again("the connection broke off")
    return _Again(str(_innermost(error)).rpartition(": ")[2])


def _innermost(error: Exception) -> Exception:
    """What happened, without the layers of libraries around it."""
    for deeper in (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args[-1:]):
        if isinstance(deeper, Exception):
            return _innermost(deeper)
    return error


def _given_up(part: Partial, again: _Again, tries: int) -> DownloadError:
    return DownloadError(
        f"{part.url}: {tries} tries brought little or nothing ({again}); {_mebibytes(part.size())} are kept. "
        "Look at the network and, behind a proxy, at HTTPS_PROXY; the same command goes on from there."
    )


def _too_large(part: Partial, how: str) -> DownloadError:
    part.discard()
    return DownloadError(f"{part.url}: {how} {LARGEST_FILE >> 30} GiB, so it is not the archive; look at --from.")


def _status(answer: requests.Response) -> str:
    return f"{answer.status_code} {answer.reason}".strip()


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"
