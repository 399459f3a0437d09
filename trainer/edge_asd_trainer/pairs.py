"""Windows in pairs: X, X' and lambda (paper, sections 2.3 and 2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asd.windows import Windows
from edge_asd_trainer.features import LogMels


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch: windows (N, 128, 64) in dB, section indices (N,), lambda (N,)."""

    x: Tensor
    other: Tensor
    section: Tensor
    other_section: Tensor
    lam: Tensor

    def to(self, device: str) -> Pairs:
        """The same pairs on another device."""
        return Pairs(*(getattr(self, field.name).to(device) for field in fields(self)))


class PairSampler:
    """Draws pairs from memory-mapped log-mels; windows are gathered in one call, never cut beforehand."""

    def __init__(self, log_mels: LogMels, windows: Windows, seed: int) -> None:
        self._starts, owners = log_mels.window_starts(windows)
        names = log_mels.names
        self.sections = sorted({name.section for name in names})
        sections = np.array([self.sections.index(name.section) for name in names])
        self._section = sections[owners]
        self._is_target = np.array([name.domain == "target" for name in names])[owners]
        # Every possible window start as a view (frames - P + 1, mels, P); index_select copies what is drawn.
        # Nobody writes to it: mapping it "copy on write" keeps PyTorch from warning of a read-only array.
        frames = np.load(log_mels.path, mmap_mode="c", allow_pickle=False)
        self._views = torch.from_numpy(frames).unfold(0, windows.frames, 1)
        self._random = np.random.default_rng(seed)
        self._groups = {
            (section, target): np.flatnonzero((self._section == section) & (self._is_target == target))
            for section in range(len(self.sections))
            for target in (False, True)
        }

    def __len__(self) -> int:
        """Number of windows: clips x 32 where all clips are 10 s long."""
        return len(self._starts)

    def steps_per_epoch(self, batch: int) -> int:
        """Every window of every clip once: 6000 x 32 / 1024 gives 187 whole batches."""
        return max(1, len(self) // batch)

    def epochs(self, number: int, batch: int, steps: int, alpha: float, **shares: float) -> Iterator[Pairs]:
        """So many epochs, one behind the other; the rest is as in `epoch`."""
        for _ in range(number):
            yield from self.epoch(batch, steps, alpha, **shares)

    def epoch(
        self, batch: int, steps: int, alpha: float, *, cross_domain_share: float = 0.0, same_section_share: float = 0.0
    ) -> Iterator[Pairs]:
        """An epoch of `steps` batches.

        X runs through all windows in a random order (and anew where they don't suffice). X' is an independent draw
        over all sections and domains, except for these shares of the batch:

        Args:
            batch: N, pairs a batch.
            steps: batches.
            alpha: one lambda a pair, from Beta(alpha, alpha).
            cross_domain_share: X' comes from the other domain, any section.
            same_section_share: X' comes from the other domain of X's own section.
        """
        order = self._order(batch * steps)
        for step in range(steps):
            x = order[step * batch : (step + 1) * batch]
            other = self._random.integers(len(self), size=batch)
            self._cross_domains(x, other, round(cross_domain_share * batch), same_section=False)
            self._cross_domains(x, other, round(same_section_share * batch), same_section=True)
            lam = torch.from_numpy(self._random.beta(alpha, alpha, batch).astype(np.float32))
            yield Pairs(self._windows(x), self._windows(other), self._sections(x), self._sections(other), lam)

    def sample(self, count: int) -> Tensor:
        """(count, mels, P) windows drawn at random, without repetition while there are enough."""
        return self._windows(self._order(count))

    def _order(self, count: int) -> NDArray[np.int64]:
        rounds = -(-count // len(self))
        order: NDArray[np.int64] = np.concatenate([self._random.permutation(len(self)) for _ in range(rounds)])
        return order[:count]

    def _cross_domains(self, x: NDArray[np.int64], other: NDArray[np.int64], count: int, *, same_section: bool) -> None:
        """Replace the first `count` of X' by windows of the other domain, where there are any."""
        for index in range(count):
            section, target = self._section[x[index]], self._is_target[x[index]]
            if same_section:
                group = self._groups[section, not target]
            else:
                group = np.concatenate([group for (_, domain), group in self._groups.items() if domain != target])
            if len(group):
                other[index] = group[self._random.integers(len(group))]

    def _windows(self, indices: NDArray[np.int64]) -> Tensor:
        return self._views.index_select(0, torch.from_numpy(self._starts[indices]))

    def _sections(self, indices: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._section[indices])
