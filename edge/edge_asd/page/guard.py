"""Who may look at the page: on loopback whoever asks for it by a loopback name, elsewhere who knows the token."""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode
from wsgiref.types import WSGIEnvironment

from edge_asd import config
from edge_asd.errors import ConfigError
from edge_asd.page.answer import Answer, words
from edge_asd.settings import PageSettings

SHORTEST_TOKEN = 16  # characters
WRONG_TOKENS = 10  # in a minute, of one address
ADDRESSES = 256  # whose wrong tokens are counted; the longest known is forgotten for another
COOKIE_SECONDS = 30 * 86400

_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
_SCRIPTS = ("/api/", "/metrics", "/healthz")

# A form, so that nobody has to write the token into an address.
FORM = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edge-asd: token</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/page.css">
<body class="door">
<main class="card">
<h1>This page needs a token</h1>
<p>It is in the file that <code>token_file</code> in the device's <code>device.toml</code> names.</p>
<form action="/" method="get">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Look</button>
</form>
</main>
</body>
</html>
"""


class Guard:
    """Lets a request in, or says why not.

    A browser keeps a cookie that follows from the token, but isn't it: it may be read off a device without giving the
    token away, and nobody can guess it, so that only tokens need to be counted.
    """

    def __init__(self, settings: PageSettings, *, now: Callable[[], float] = time.monotonic) -> None:
        """Read the token. Raises: ConfigError."""
        self._loopback = settings.loopback
        self._token = b""
        self._now = now
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, and how many
        if settings.token_file is not None:
            token = config.secret(settings.token_file)
            if len(token) < SHORTEST_TOKEN:
                raise ConfigError(
                    f"{settings.token_file}: found {len(token)} characters, "
                    f"expected a token of at least {SHORTEST_TOKEN}."
                )
            self._token = token.encode()
        elif not self._loopback:
            raise ConfigError("page.token_file: there is none, but others can reach page.listen; give one.")
        # Cookies don't know of ports: two daemons on one host must not overwrite each other's.
        self._cookie = f"edge-asd-{self._derived(b'name')[:8]}"
        self._worth = self._derived(b"page").encode()

    def refusal(self, environ: WSGIEnvironment) -> Answer | None:
        """What is answered in place of what was asked for; None lets it pass."""
        host = environ.get("HTTP_HOST", "")
        if self._loopback and not _LOOPBACK.fullmatch(host):
            # A page from elsewhere could give its own name this address, and then read ours.
            return words(HTTPStatus.FORBIDDEN, "Ask for this page by the name localhost, or 127.0.0.1.")
        if not self._token:
            return None
        path, query = environ.get("PATH_INFO", "/"), _query(environ)
        given = [value for key, value in query if key == "token"]
        if given:
            return self._try(given[-1].encode(), environ) or self._entry(path, query)
        if hmac.compare_digest(self._shown_cookie(environ), self._worth):
            return None
        scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._try(bearer.strip().encode("latin-1"), environ)
        return _unknown(path)

    def _try(self, token: bytes, environ: WSGIEnvironment) -> Answer | None:
        """None where it is the token; it is compared at all only while there were few wrong ones."""
        address, now = environ.get("REMOTE_ADDR", ""), self._now()
        with self._lock:
            since, count = self._wrong.get(address, (now, 0))
            if now - since >= 60:
                since, count = now, 0
            if count >= WRONG_TOKENS:
                wait = str(max(1, round(since + 60 - now)))
                said = f"There were {count} wrong tokens within a minute; ask again in {wait} s."
                return words(HTTPStatus.TOO_MANY_REQUESTS, said, (("Retry-After", wait),))
            if hmac.compare_digest(token, self._token):
                return None
            self._wrong[address] = since, count + 1
            while len(self._wrong) > ADDRESSES:
                self._wrong.popitem(last=False)
        return _unknown(environ.get("PATH_INFO", "/"))

    def _entry(self, path: str, query: Sequence[tuple[str, str]]) -> Answer:
        """Give the cookie, and the same address without the token, so that it stands in no history."""
        rest = urlencode([pair for pair in query if pair[0] != "token"])
        # Two slashes at the beginning would be another host.
        place = quote("/" + path.lstrip("/\\"), encoding="latin-1") + (f"?{rest}" if rest else "")
        cookie = f"{self._cookie}={self._worth.decode()}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict"
        return words(HTTPStatus.SEE_OTHER, "Welcome.", (("Location", place), ("Set-Cookie", cookie)))

    def _shown_cookie(self, environ: WSGIEnvironment) -> bytes:
        for pair in environ.get("HTTP_COOKIE", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._cookie:
                return bytes(value.encode("latin-1"))
        return b""

    def _derived(self, purpose: bytes) -> str:
        return hmac.new(self._token, b"edge-asd " + purpose, hashlib.sha256).hexdigest()


def _query(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    try:
        return parse_qsl(environ.get("QUERY_STRING", ""), max_num_fields=8)
    except ValueError:
        return []


def _unknown(path: str) -> Answer:
    """A form for a person, a sentence for a program."""
    headers = (("WWW-Authenticate", 'Bearer realm="edge-asd"'),)
    if path.startswith(_SCRIPTS):
        return words(HTTPStatus.UNAUTHORIZED, "This needs the token of the page: Authorization: Bearer ...", headers)
    return Answer(HTTPStatus.UNAUTHORIZED, FORM, "text/html; charset=utf-8", headers)
