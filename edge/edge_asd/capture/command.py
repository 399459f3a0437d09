"""A program that writes PCM to its standard output: `arecord`, or whatever hears something."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import selectors
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Self

import numpy as np

from edge_asd.capture.arecord import Overruns
from edge_asd.capture.mono import MIX, MonoStream
from edge_asd.capture.source import BLOCK_SECONDS, Block, nothing
from edge_asd.errors import CaptureError, MissingRequirement

QUIET_SECONDS = 0.5  # how long to wait for samples before saying that there are none
DEAF_SECONDS = 30.0  # without one sample it isn't slow but stuck, and only a new start can help
PATIENCE_SECONDS = 2.0  # how long a program may take to end before it is killed
LOOK_SECONDS = 0.02  # how often to look whether it has ended
KEPT_COMPLAINT = 4096  # bytes of standard error, for the last line
PIPE_BYTES = 256 << 10  # 8 s of 16 kHz mono wait in the pipe, not in the program, while a disk is slow
COMPLAINT_BYTES = 64 << 10  # what a pipe holds: one read takes all of standard error that there is

_FULL_SCALE = np.float32(32768.0)
_ENGLISH = {"LC_ALL": "C"}  # arecord translates what it says of lost samples

Frames = np.ndarray[tuple[int, ...], np.dtype[np.int16]]


class CommandSource:
    """The blocks of a child process's S16_LE PCM.

    The child leads a process group of its own, and that ends with the source: whatever the child started, too. Nobody
    waits for the child before, so that its number stays the group's.

    When arecord says that it lost samples ("overrun!!! (at least 12.345 ms long)"), it has said so before it writes the
    first sample behind the gap. So standard error is looked at after every read and before anything is handed on, and
    all that was read and not handed on by then is counted as lost too: what is handed on never straddles the gap.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        rate: int = 16000,
        channels: int = 1,
        channel: int = MIX,
        sample_rate: int = 16000,
        buffer_seconds: float = 0.0,
    ) -> None:
        """Name the program; it is started on entering.

        Args:
            command: program and arguments; no shell is between.
            rate: of its PCM, Hz.
            channels: samples in a frame of it, interleaved.
            channel: the one to listen to, from 0; -1 mixes all down.
            sample_rate: of the blocks, Hz.
            buffer_seconds: of sound in the program's own buffer, which an overrun throws away and doesn't tell of.
        """
        self._command = list(command)
        self._rate = rate
        self._channels = channels
        self._channel = channel
        self._sample_rate = sample_rate
        self._buffer_seconds = buffer_seconds
        self._frame_bytes = channels * 2
        self._block_bytes = max(1, round(rate * BLOCK_SECONDS)) * self._frame_bytes
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
                env={**os.environ, **_ENGLISH},
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MissingRequirement(
                f"{self._command[0]}: there is no such program; install it (arecord comes with alsa-utils) "
                "or mend capture.command."
            ) from error
        except (OSError, ValueError) as error:
            raise CaptureError(f"{_without_user(shlex.join(self._command))}: can't be started ({error}).") from error
        with contextlib.suppress(OSError):  # a kernel that grants less still works
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._stderr.fileno(), False)
        self._complains = True
        self._complaint = b""
        self._overruns = Overruns()
        self._mono = MonoStream(self._rate, self._sample_rate, self._channel)
        self._pending = b""
        self._lost = 0  # frames, before those pending
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._stdout.close()  # arecord first writes what it has, and would wait for ever where the pipe is full
        self._stderr.close()
        self._exit_status(PATIENCE_SECONDS)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __iter__(self) -> Iterator[Block]:
        """What the program hears, without end. Raises: CaptureError when it ends by itself, or gives nothing more."""
        heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            if self._complains:
                selector.register(self._stderr, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(QUIET_SECONDS)]
                if not ready:
                    yield nothing()
                ended = self._stdout in ready and not self._read()
                now = time.monotonic()
                deaf = now - heard
                if self._stdout in ready:
                    heard = now
                complained = self._complains
                # Only now: what is said of a gap has been said before the first sample behind it was written.
                if overruns := self._listen_to_complaints():
                    before = self._skip(overruns, believable=deaf + DEAF_SECONDS)
                    if len(before.samples):
                        yield before
                if complained and not self._complains:
                    selector.unregister(self._stderr)
                if len(self._pending) == self._block_bytes or ended:
                    yield self._block(last=ended)
                if ended:
                    raise self._gave_up(self._how_it_ended())
                if deaf > DEAF_SECONDS and self._stdout not in ready:
                    raise self._gave_up(f"gave no sample for {DEAF_SECONDS:g} s")

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout  # noqa: S101 - for the type checker: it was asked for
        return self._process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self._process.stderr  # noqa: S101 - as above
        return self._process.stderr

    def _read(self) -> bool:
        """Read at most what is missing of a block; false at the end."""
        read = os.read(self._stdout.fileno(), self._block_bytes - len(self._pending))
        self._pending += read
        return bool(read)

    def _block(self, *, last: bool) -> Block:
        """The whole frames that are pending, mono and resampled, and what was lost before them."""
        whole = len(self._pending) - len(self._pending) % self._frame_bytes
        frames: Frames = np.frombuffer(self._pending[:whole], np.dtype("<i2")).reshape(-1, self._channels)
        block = Block(
            self._mono.convert(frames.astype(np.float32) / _FULL_SCALE, last=last),
            lost=round(self._lost * self._sample_rate / self._rate),
            clipped=int(np.count_nonzero((frames == 32767) | (frames <= -32767))),
        )
        self._pending = b""
        self._lost = 0
        return block

    def _skip(self, overruns: list[float], believable: float) -> Block:
        """Leave out what may lie on both sides of a gap; give what the resampler still held from before it.

        Args:
            overruns: what the program said of them, ms.
            believable: a gap was no longer than so many seconds; a wrong clock has made arecord tell of years.
        """
        waiting = struct.unpack("i", fcntl.ioctl(self._stdout, termios.FIONREAD, bytes(4)))[0]
        thrown = self._pending + (os.read(self._stdout.fileno(), waiting) if waiting else b"")
        frames, broken = divmod(len(thrown), self._frame_bytes)
        before = self._mono.convert(np.empty((0, self._channels), np.float32), last=True)
        self._mono = MonoStream(self._rate, self._sample_rate, self._channel)
        self._pending = thrown[len(thrown) - broken :]
        self._lost += frames + sum(
            math.ceil(min(ms / 1000, believable) * self._rate) + round(self._buffer_seconds * self._rate)
            for ms in overruns
        )
        return Block(before)

    def _listen_to_complaints(self) -> list[float]:
        """Read what standard error holds, without waiting; keep its end, and give the gaps it tells of, ms."""
        if not self._complains:
            return []
        try:
            some = os.read(self._stderr.fileno(), COMPLAINT_BYTES)
        except BlockingIOError:
            return []
        self._complains = bool(some)
        self._complaint = (self._complaint + some)[-KEPT_COMPLAINT:]
        return self._overruns.take(some)

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
        return CaptureError(_without_user(f"{shlex.join(self._command)} {how}; {last}"))

    def _hear_last_words(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stderr, selectors.EVENT_READ)
            for _ in range(64):  # what a grandchild goes on to say isn't waited for
                if not selector.select(0.0) or not self._complains:
                    return
                self._listen_to_complaints()


def _without_user(text: str) -> str:
    """The text without user and password in addresses, such as a camera's: what is said goes to logs and receivers."""
    return re.sub(r"://[^/\s@]{1,256}@", "://", text)
