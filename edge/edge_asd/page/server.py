"""Serves the page from a thread beside the daemon, with little: two threads, a few connections, small requests."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge_asd import progress
from edge_asd.errors import ConfigError
from edge_asd.live import Live
from edge_asd.page.app import App, EventLog
from edge_asd.page.guard import Guard
from edge_asd.settings import PageSettings

__all__ = ["EventLog", "PageServer"]

CONNECTIONS = 20
OWN_SOCKETS = 2  # the listening one, and the one that wakes the loop; waitress counts them among the connections
WAITING = 64  # connections that the kernel keeps for us meanwhile
PATIENCE = 30  # seconds for a connection that says nothing
SHUTDOWN_SECONDS = 10


class PageServer:
    """The page, for as long as the block lasts.

    `with PageServer(settings, live, log, state / "sounds", bands_hz=front_end.band_edges[1:-1]): ...`
    """

    def __init__(
        self,
        settings: PageSettings,
        live: Live,
        log: EventLog,
        clips: Path,
        *,
        bands_hz: Sequence[float],
        frame_seconds: float = 0.032,
        say: Callable[[str], None] = progress.say,
    ) -> None:
        """Read the token and the page; listen to nobody yet.

        Args:
            settings: where to listen, and the token.
            live: the present.
            log: the past; called from two threads.
            clips: folder of the events' sounds and pictures, named by `Event.clip`; it needn't exist.
            bands_hz: where each of the log-mel's bands peaks, Hz, the lowest first.
            frame_seconds: from one frame of it to the next.
            say: where a line for the log goes.

        Raises:
            ConfigError: the token can't be read, or is too short.
        """
        self._settings, self._say = settings, say
        guard = Guard(settings)
        self._app = App(guard, live, log, clips, bands_hz=bands_hz, frame_seconds=frame_seconds, say=say)
        self._map: dict[int, Any] = {}  # waitress' sockets
        self._loop: Any = None  # its module of that
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        """Begin to serve. Raises: ConfigError, where the address isn't to be had."""
        from waitress import wasyncore
        from waitress.server import create_server

        from edge_asd.page.channel import Channel

        # It'd say so each time three browsers ask at once.
        logging.getLogger("waitress").setLevel(logging.ERROR)
        logging.getLogger("waitress.queue").setLevel(logging.CRITICAL)
        listening = _listen(self._settings)
        host, port = listening.getsockname()[:2]
        self._ending.clear()
        self._server = create_server(
            self._app,
            map=self._map,
            sockets=[listening],
            threads=2,
            connection_limit=CONNECTIONS + OWN_SOCKETS,
            backlog=WAITING,
            channel_timeout=PATIENCE,
            cleanup_interval=PATIENCE // 3,
            max_request_header_size=16 << 10,
            max_request_body_size=1 << 10,
            inbuf_overflow=64 << 10,
            outbuf_overflow=4 << 20,  # larger than any answer that isn't a file, so that nothing goes to the SD card
            log_socket_errors=False,
            ident="edge-asd",
            expose_tracebacks=False,
        )
        self._server.channel_class = Channel
        self._loop, self._address = wasyncore, (host, port)
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)
        self._thread.start()
        self._say(f"page: http://{f'[{host}]' if ':' in host else host}:{port}/")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop at once: what isn't sent yet stays unsent."""
        if self._thread is None:
            return
        self._ending.set()
        self._server.pull_trigger()  # wakes the loop, which leaves the sockets to us: this one must not be gone yet
        self._thread.join(SHUTDOWN_SECONDS)
        self._thread = None
        self._server.task_dispatcher.shutdown(timeout=SHUTDOWN_SECONDS // 2)
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()  # and the file that it was to send
        self._loop.close_all(self._map)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens at, in the end; those of the settings before it does."""
        return self._address or self._settings.address

    def _serve(self) -> None:
        """The loop of waitress, which alone touches its sockets while it goes on."""
        said = False
        while not self._ending.is_set():
            try:
                self._loop.loop(timeout=1.0, use_poll=True, map=self._map, count=1)
            except Exception as error:  # the daemon listens on without a page, and this may pass
                if not said:
                    self._say(f"page: {type(error).__name__}: {error}; it goes on.")
                said = True
                self._ending.wait(1.0)


def _listen(settings: PageSettings) -> socket.socket:
    """The listening socket: one, also for a name of several addresses. Raises: ConfigError."""
    host, port = settings.address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        found.sort(key=lambda one: one[0] != socket.AF_INET)
        family, _, _, _, address = found[0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=WAITING, dualstack_ipv6=both)
    except OSError as error:
        raise ConfigError(
            f"page.listen: can't listen at {settings.listen} ({error.strerror or error}); "
            "give another port, or an address of this device."
        ) from error
