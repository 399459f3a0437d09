"""A program that writes PCM to its standard output: `arecord`, or whatever hears something."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Self

import numpy as np

from edge_asd.capture.mono import MIX, MonoStream
from edge_asd.capture.source import BLOCK_SECONDS, Block, nothing
from edge_asd.errors import CaptureError, MissingRequirement

QUIET_SECONDS = 0.5  # how long to wait for samples before saying that there are none
DEAF_SECONDS = 30.0  # without one sample it isn't slow but stuck, and only a new start can help
PATIENCE_SECONDS = 2.0  # how long a program may take to end before it is killed
LOOK_SECONDS = 0.02  # how often to look whether it has ended
KEPT_COMPLAINT = 4096  # bytes of standard error, for the last line
PIPE_BYTES = 256 << 10  # 8 s of 16 kHz mono wait in the pipe, not in the program, while a disk is slow

_FULL_SCALE = np.float32(32768.0)


class CommandSource:
    """The blocks of a child process's S16_LE PCM.

    The child leads a process group of its own, and that ends with the source: whatever the child started, too. Nobody
    waits for the child before, so that its number stays the group's.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        rate: int = 16000,
        channels: int = 1,
        channel: int = MIX,
        sample_rate: int = 16000,
    ) -> None:
        """Name the program; it is started on entering.

        Args:
            command: program and arguments; no shell is between.
            rate: of its PCM, Hz.
            channels: samples in a frame of it, interleaved.
            channel: the one to listen to, from 0; -1 mixes all down.
            sample_rate: of the blocks, Hz.
        """
        self._command = list(command)
        self._channels = channels
        self._mono = MonoStream(rate, sample_rate, channel)
        self._block_bytes = max(1, round(rate * BLOCK_SECONDS)) * channels * 2
        self._complaint = b""

    def __enter__(self) -> Self:
        """Start the program. Raises: MissingRequirement, CaptureError."""
        try:
            # A group of its own: Ctrl-C in a terminal ends us, and we end the program.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MissingRequirement(
                f"{self._command[0]}: there is no such program; install it (arecord comes with alsa-utils) "
                "or mend capture.command."
            ) from error
        except (OSError, ValueError) as error:
            raise CaptureError(f"{shlex.join(self._command)}: can't be started ({error}).") from error
        with contextlib.suppress(OSError):  # a kernel that grants less still works
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._exit_status(PATIENCE_SECONDS)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stdout.close()
        self._stderr.close()

    def __iter__(self) -> Iterator[Block]:
        """What the program hears, without end. Raises: CaptureError when it ends by itself, or gives nothing more."""
        pending = b""
        heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stderr, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(QUIET_SECONDS)]
                if not ready:
                    yield nothing()
                if self._stderr in ready and not self._listen_to_complaints():
                    selector.unregister(self._stderr)
                if self._stdout in ready:
                    heard = time.monotonic()
                    read = os.read(self._stdout.fileno(), self._block_bytes - len(pending))
                    pending += read
                    if len(pending) == self._block_bytes or not read:
                        whole = len(pending) - len(pending) % (2 * self._channels)
                        yield Block(self._mono.convert(self._frames(pending[:whole]), last=not read))
                        pending = b""
                    if not read:
                        raise self._gave_up(self._how_it_ended())
                elif time.monotonic() - heard > DEAF_SECONDS:
                    raise self._gave_up(f"gave no sample for {DEAF_SECONDS:g} s")

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout  # noqa: S101 - for the type checker: it was asked for
        return self._process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._process.stderr  # noqa: S101 - as above
        return self._process.stderr

    def _frames(self, pcm: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        samples = np.frombuffer(pcm, np.dtype("<i2")).reshape(-1, self._channels)
        return samples.astype(np.float32) / _FULL_SCALE

    def _listen_to_complaints(self) -> bool:
        """Read some of standard error, keep its end; false once it is closed."""
        some = os.read(self._stderr.fileno(), KEPT_COMPLAINT)
        self._complaint = (self._complaint + some)[-KEPT_COMPLAINT:]
        return bool(some)

    def _how_it_ended(self) -> str:
        ended = self._exit_status(PATIENCE_SECONDS)
        if ended is None:
            return "closed its standard output"
        if ended.si_code == os.CLD_EXITED:
            return f"ended by itself with exit code {ended.si_status}"
        return f"was ended by signal {ended.si_status}"

    def _exit_status(self, patience: float) -> os.waitid_result | None:
        """How the program ended, if it does within so many seconds; afterwards it is still there to be waited for."""
        deadline = time.monotonic() + patience
        look = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while not (ended := os.waitid(os.P_PID, self._process.pid, look)) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return ended

    def _gave_up(self, how: str) -> CaptureError:
        """Why the samples ended, with the program's own last words."""
        self._hear_last_words()
        lines = [line.strip() for line in self._complaint.decode(errors="replace").splitlines() if line.strip()]
        last = f"its last words: {lines[-1]}" if lines else "it said nothing"
        return CaptureError(f"{shlex.join(self._command)} {how}; {last}")

    def _hear_last_words(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stderr, selectors.EVENT_READ)
            for _ in range(64):  # a full pipe; what a grandchild goes on to say isn't waited for
                if not selector.select(0.0) or not self._listen_to_complaints():
                    return
