"""A control group of its own for a process, of either version of the kernel's interface: so much memory and no more."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import until

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A limit, MB, and how much was taken at the most."""

    folder: Path
    old: bool  # version 1

    def limit(self, megabytes: float) -> None:
        size = str(round(megabytes * 1e6) // 4096 * 4096)
        if self.old:
            (self.folder / "memory.limit_in_bytes").write_text(size)
        else:
            (self.folder / "memory.max").write_text(size)
            with suppress(OSError):  # a machine without swap has no such file
                (self.folder / "memory.swap.max").write_text("0")

    @property
    def processes(self) -> Path:
        """Where a process that wants to be one of it writes its number."""
        return self.folder / "cgroup.procs"

    @property
    def most_mb(self) -> float:
        return int((self.folder / ("memory.max_usage_in_bytes" if self.old else "memory.peak")).read_text()) / 1e6


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """Skips where this process may not make one."""
    old = (ROOT / "memory").is_dir()
    folder = (ROOT / "memory" if old else ROOT) / f"edge-asd-{uuid.uuid4().hex[:8]}"
    try:
        if not old:
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here ({error}): needs root, and a kernel's memory controller")
    try:
        yield MemoryGroup(folder, old)
    finally:
        for pid in MemoryGroup(folder, old).processes.read_text().split():  # of a test that failed
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        until(lambda: not MemoryGroup(folder, old).processes.read_text())
        folder.rmdir()
