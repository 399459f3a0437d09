"""Every message posted as JSON to a web address.

    POST /...                          200..299                                it has it
    Content-Type: application/json     401, 403, 404, 407, 408, 425, 429, 5xx  later: somebody will mend that
    Authorization: Bearer ...          3xx                                     later, said: not followed
    Idempotency-Key: EVENT-SEQUENCE    other 4xx                               never: passed over

A message may arrive twice, after an answer that was lost: its `Idempotency-Key` is then the same.

Of the environment's proxies `https_proxy` is used for https, as `no_proxy` allows; `http_proxy` never is, since a web
address without TLS is one of the same building.
"""

from __future__ import annotations

import email.message
import os
import socket
import ssl
import threading
import time
import urllib.request
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import msgspec

from edge_asd import __version__
from edge_asd.config import secret
from edge_asd.errors import ConfigError
from edge_asd.events import Message
from edge_asd.settings import WebhookSettings
from edge_asd.sinks.courier import Refused, SinkDown
from edge_asd.sinks.reasons import why_unreachable

LARGEST_ANSWER = 64 << 10  # bytes that are read of it
LATER = frozenset({401, 403, 404, 407, 408, 425, 429})  # of 400 to 499, those that may pass or be mended
SHOWN = 200  # characters of an answer that are shown to people


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer, and no order to send an alert and a token elsewhere."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


class _Hurried(HTTPConnection):
    """A connection whose answer begins in time or not at all: sockets count each wait anew, so lines may trickle."""

    def getresponse(self) -> HTTPResponse:
        late = threading.Event()
        timer = threading.Timer(self.timeout or 0.0, self._hang_up, [late])
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        except (OSError, HTTPException) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()

    def _hang_up(self, late: threading.Event) -> None:
        late.set()
        with suppress(OSError, AttributeError, TypeError):  # it is closed already
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # of TLS, too, the socket beneath


class _HurriedByTls(_Hurried, HTTPSConnection):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Hurried, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_HurriedByTls, req, context=ssl.create_default_context())


class Webhook:
    """The web address."""

    name = "webhook"

    def __init__(self, settings: WebhookSettings) -> None:
        """Look whether the token can be read. Raises: ConfigError."""
        self._settings = settings
        parts = urlsplit(settings.url)
        self._where = f"{parts.scheme}://{parts.netloc}"  # without the path, which may be a secret
        https_proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
        proxies = urllib.request.ProxyHandler({"https": https_proxy} if https_proxy else {})
        self._opener = urllib.request.build_opener(proxies, _NoRedirect, _Http, _Https)
        self._token()

    def deliver(self, message: Message, stop: threading.Event) -> None:
        """Post it, and wait at most about `timeout` seconds for the answer. Raises: SinkDown, Refused."""
        if stop.is_set():
            raise SinkDown("stopping")
        request = self._request(message)
        try:
            with closing(self._opener.open(request, timeout=self._settings.timeout)) as response:
                # Accepted by its status already; a sender who hung up now would look like one who failed.
                self._read(response, stop)
        except HTTPError as answer:
            with closing(answer):
                self._judge(answer, self._read(answer, stop))
        except URLError as error:
            reason = error.reason if isinstance(error.reason, BaseException) else error
            raise SinkDown(why_unreachable(reason, self._where)) from error
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a host that is no host name
            raise SinkDown(why_unreachable(error, self._where)) from error

    def close(self) -> None:
        """Nothing is held open between two messages."""

    def _token(self) -> str:
        """Read anew for each message, so that one which is replaced needs no restart. Raises: ConfigError."""
        path = self._settings.token_file
        if path is None:
            return ""
        token = secret(path)
        if not token.isascii():
            raise ConfigError(f"{path}: a token for HTTP is ASCII, found other characters; replace it.")
        return token

    def _request(self, message: Message) -> urllib.request.Request:
        """Raises: SinkDown."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edge-asd/{__version__}",
            "Idempotency-Key": f"{message.event.id}-{message.sequence}",
        }
        try:
            if token := self._token():
                headers["Authorization"] = f"Bearer {token}"
            content = msgspec.json.encode(message)
            # Only http and https come through the settings.
            return urllib.request.Request(self._settings.url, content, headers, method="POST")  # noqa: S310
        except ConfigError as error:
            raise SinkDown(str(error).rstrip(".")) from error
        except ValueError as error:
            raise SinkDown(why_unreachable(error, self._where)) from error

    def _judge(self, answer: HTTPError, content: bytes) -> None:
        """Raises: SinkDown, Refused."""
        said = "".join(c if c.isprintable() else " " for c in content.decode(errors="replace")[:SHOWN]).strip()
        what = f"{self._where}: answered {answer.code} {str(answer.reason)[:SHOWN]}{f' ({said})' if said else ''}"
        if 300 <= answer.code < 400:
            headers: email.message.Message = answer.headers
            target = urlsplit(headers.get("Location", ""))
            where = f"{target.scheme}://{target.netloc}" if target.netloc else "another path"
            raise SinkDown(
                f"{self._where}: answered {answer.code}, a redirection to {where}, which is not followed; "
                "mend `url` of sinks.webhook"
            )
        if 400 <= answer.code < 500 and answer.code not in LATER:
            raise Refused(what)
        raise SinkDown(what)

    def _read(self, response: Any, stop: threading.Event) -> bytes:
        """The beginning of an answer, as far as it comes in time."""
        content = b""
        patience = time.monotonic() + self._settings.timeout
        with suppress(OSError, HTTPException, ValueError):
            while len(content) < LARGEST_ANSWER and time.monotonic() < patience and not stop.is_set():
                piece = response.read1(min(4096, LARGEST_ANSWER - len(content)))
                if not piece:
                    break
                content += piece
        return content
