"""Why a receiver could not be reached, in words that say what to mend."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException

LONGEST_DETAIL = 200  # characters; some of it comes from the other side

# The first that fits; each later one is a wider kind of error.
_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not trusted ({detail}); mend ca_file, or the host's name"),
    (ssl.SSLError, "TLS failed ({detail}); does it speak TLS on this port?"),
    (socket.gaierror, "the host's name is not known ({detail}); mend it, or the network's DNS"),
    (ConnectionRefusedError, "nothing listens there (connection refused); start it, or mend host and port"),
    (TimeoutError, "no answer in time; is it reachable from here?"),
    (ConnectionError, "closed the connection in the middle ({detail})"),
    (OSError, "can't be reached ({detail})"),
    (HTTPException, "its answer is not HTTP ({detail})"),
)


def why_unreachable(error: BaseException, where: str) -> str:
    """What went wrong on the way to `where`, such as "broker.local:1883"; a sentence without its full stop."""
    detail = str(
        getattr(error, "verify_message", None)
        or getattr(error, "reason", None)
        or getattr(error, "strerror", None)
        or f"{type(error).__name__}: {error}".rstrip(": ")
    )[:LONGEST_DETAIL]
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return f"{where}: {words.format(detail=detail)}"
    return f"{where}: can't be reached ({detail})"
