"""Windows in pairs: X, X' and lambda (paper, sections 2.3 and 2.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asd.windows import Windows
from edge_asd_trainer.distributed import ALONE, Group
from edge_asd_trainer.features import LogMels

Indices = NDArray[np.int64]


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


@dataclass(frozen=True, eq=False)
class Labelled:
    """A batch without pairs: windows (N, 128, P) in dB, section indices (N,)."""

    x: Tensor
    section: Tensor

    def to(self, device: str) -> Labelled:
        """The same windows on another device."""
        return Labelled(self.x.to(device), self.section.to(device))


class PairSampler:
    """Draws pairs from memory-mapped log-mels; windows are gathered in one call, never cut beforehand.

    What a step draws follows from the seed, the epoch and the step alone: a training that goes on in the middle draws
    what it would have drawn, and processes that share a batch agree on it without a word.
    """

    def __init__(
        self, log_mels: LogMels, windows: Windows, seed: int, group: Group = ALONE, *, held_out: float = 0.0
    ) -> None:
        """Look at the log-mels of a training set.

        Args:
            log_mels, windows: what to draw from, and how it is cut.
            seed: of every draw.
            group: says which share of every batch is this process's.
            held_out: this share of the windows, the last ones, is never drawn.
        """
        self._log_mels = log_mels
        starts, owners = log_mels.window_starts(windows)
        kept = max(1, round(len(starts) * (1 - held_out)))
        self._starts, owners = starts[:kept], owners[:kept]
        names = log_mels.names
        self.sections = sorted({name.section for name in names})
        sections = np.array([self.sections.index(name.section) for name in names])
        self._section = sections[owners]
        self._is_target = np.array([name.domain == "target" for name in names])[owners]
        self._seed, self._group, self._clips = seed, group, len(names)
        # Every possible window start as a view (frames - P + 1, mels, P); index_select copies what is drawn.
        self._views = group.placed(torch.from_numpy(log_mels.frames)).unfold(0, windows.frames, 1)
        self._of_domain = {target: np.flatnonzero(self._is_target == target) for target in (False, True)}
        self._of_group = {
            (section, target): np.flatnonzero((self._section == section) & (self._is_target == target))
            for section in range(len(self.sections))
            for target in (False, True)
        }

    def __len__(self) -> int:
        """Number of windows: clips x 32 where all clips are 10 s long."""
        return len(self._starts)

    @property
    def windows_a_clip(self) -> float:
        """32 where all clips are 10 s long."""
        return len(self) / self._clips

    def steps_per_epoch(self, batch: int) -> int:
        """Every window of every clip once: 6000 x 32 / 1024 gives 187 whole batches."""
        return max(1, len(self) // batch)

    def epochs(
        self, number: int, batch: int, steps: int, alpha: float, *, start: int = 0, **shares: float
    ) -> Iterator[Pairs]:
        """So many epochs, one behind the other, from step `start` of all on; the rest is as in `epoch`."""
        for epoch in range(start // steps, number):
            first = max(0, start - epoch * steps)
            yield from self.epoch(batch, steps, alpha, number=epoch, first=first, **shares)

    def epoch(
        self,
        batch: int,
        steps: int,
        alpha: float,
        *,
        number: int = 0,
        first: int = 0,
        cross_domain_share: float = 0.0,
        same_section_share: float = 0.0,
    ) -> Iterator[Pairs]:
        """An epoch of `steps` batches; of each, this process's share.

        X runs through all windows in a random order (and anew where they don't suffice). X' is an independent draw
        over all sections and domains, except for these shares of the batch:

        Args:
            batch: N, pairs a batch, of all processes together.
            steps: batches.
            alpha: one lambda a pair, from Beta(alpha, alpha).
            number: of the epoch, from 0.
            first: step of the epoch to begin with.
            cross_domain_share: X' comes from the other domain, any section.
            same_section_share: X' comes from the other domain of X's own section.
        """
        order = self._order(batch * steps, self._random(number, 0))
        for step in range(first, steps):
            random = self._random(number, 1 + step)
            x = order[step * batch : (step + 1) * batch]
            other = random.integers(len(self), size=batch)
            crossing, within = x[: round(cross_domain_share * batch)], x[: round(same_section_share * batch)]
            _redraw(other, (self._of_domain[not self._is_target[i]] for i in crossing), random)
            _redraw(other, (self._of_group[self._section[i], not self._is_target[i]] for i in within), random)
            lam = torch.from_numpy(random.beta(alpha, alpha, batch).astype(np.float32))
            mine = self._group.share(batch)
            x, other = x[mine], other[mine]
            pairs = Pairs(self._windows(x), self._windows(other), self._sections(x), self._sections(other), lam[mine])
            self._log_mels.let_go()  # or a data set as large as the memory would sooner or later fill it
            yield pairs

    def singles(self, number: int, batch: int, steps: int, *, start: int = 0) -> Iterator[Labelled]:
        """So many epochs of `steps` batches of single windows, from step `start` of all on; this process's share.

        An epoch runs through all windows in a random order, and anew where they don't suffice.
        """
        mine = self._group.share(batch)
        for epoch in range(start // steps, number):
            order = self._order(batch * steps, self._random(epoch, 0))
            for step in range(max(0, start - epoch * steps), steps):
                x = order[step * batch : (step + 1) * batch][mine]
                yield Labelled(self._windows(x), self._sections(x))
                self._log_mels.let_go()

    def sample(self, count: int) -> Tensor:
        """(count, mels, P) windows drawn at random, without repetition while there are enough."""
        return self._windows(self._order(count, self._random()))

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, *place))

    def _order(self, count: int, random: np.random.Generator) -> Indices:
        rounds = -(-count // len(self))
        order: Indices = np.concatenate([random.permutation(len(self)) for _ in range(rounds)])
        return order[:count]

    def _windows(self, indices: Indices) -> Tensor:
        starts = torch.from_numpy(self._starts[indices])
        return self._views.index_select(0, starts.to(self._views.device))

    def _sections(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self._section[indices])


def _redraw(other: Indices, groups: Iterable[Indices], random: np.random.Generator) -> None:
    """Replace the first of X' by a draw from a group each, where that has any."""
    for index, group in enumerate(groups):
        if len(group):
            other[index] = group[random.integers(len(group))]
