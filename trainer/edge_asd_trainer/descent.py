"""The loop that pre-training and fine-tuning share: a batch of pairs, a loss, a step of the optimiser.

It goes on where an earlier process was interrupted, keeps a log, and stops a training that has gone wrong.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edge_asd import progress
from edge_asd.errors import TrainingError
from edge_asd_trainer.checkpoint import Checkpoint
from edge_asd_trainer.config import Compute
from edge_asd_trainer.distributed import ALONE, Group
from edge_asd_trainer.memory import give_back, shortage
from edge_asd_trainer.optimiser import learning_rate, set_learning_rate
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.training_log import TrainingLog

logger = logging.getLogger(__name__)

# Embeddings whose features deviate by less than this over a batch, where 1 is asked, are all the same.
COLLAPSED = 0.01
STEPS_TO_BE_SURE = 10
STEPS_OF_SPEED = 20


@dataclass(frozen=True, eq=False)
class Engine:
    """What carries a training out.

    Attributes:
        group: the processes that share it, and this one's device.
        compute: threads, precision, compilation.
        checkpoint: where it stands; None keeps nothing.
        log: what it says of every step; None says nothing.
    """

    group: Group = ALONE
    compute: Compute = field(default_factory=Compute)
    checkpoint: Checkpoint | None = None
    log: TrainingLog | None = None

    def left_out(self) -> float:
        """There is no training: an earlier one's log would be taken for its own. Returns NaN, in place of a loss."""
        if self.log and self.group.leads:
            self.log.clear()
        return float("nan")

    def prepared(self, network: nn.Module) -> Callable[[Tensor], Any]:
        """The network as it is trained: shared by the group, compiled, in the precision that was asked for."""
        shared = self.group.wrapped(network)
        forward = torch.compile(shared) if self.compute.compile else shared
        kind = torch.device(self.group.device).type

        def run(images: Tensor) -> Any:
            with torch.autocast(kind, torch.bfloat16, enabled=self.compute.precision == "bfloat16"):
                return forward(images)

        return run


class Schedule(Protocol):
    """The numbers of a training that the loop needs, as `config` has them."""

    @property
    def epochs(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warm_up_epochs(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Training:
    """One training: what learns from what, how long, and how fast.

    Attributes:
        title: for the progress bar and the errors.
        learner: everything that changes from step to step but for the optimiser's own state.
        optimiser: of all parameters that learn.
        pairs: what is learnt from.
        config: epochs, steps, batch, learning rate and its warm-up.
        final_rate: what the learning rate decays to.
        draw: batches from a given step on, in the order in which they are learnt from.
        objective: of a batch the loss, and its terms by name. Where one is the "deviation" of the embeddings, their
            collapse is noticed.
        if_diverged, if_collapsed: what to do about a loss that isn't finite, and embeddings that are all the same.
        images_an_item: of a pair three: its two, and their mix.
        after_step: called after each.
    """

    title: str
    learner: nn.Module
    optimiser: torch.optim.Optimizer
    pairs: PairSampler
    config: Schedule
    final_rate: float
    draw: Callable[[Training, int], Iterator[Any]]
    objective: Callable[[Any], tuple[Tensor, Mapping[str, Tensor]]]
    if_diverged: str
    if_collapsed: str = ""
    images_an_item: int = 3
    after_step: Callable[[], None] = lambda: None

    @property
    def epochs(self) -> int:
        return self.config.epochs

    @property
    def steps(self) -> int:
        """Of each epoch."""
        return self.config.steps_per_epoch or self.pairs.steps_per_epoch(self.config.batch)

    @property
    def clips(self) -> float:
        """A step's worth of the training set's clips, of all processes together."""
        return self.config.batch / self.pairs.windows_a_clip

    @property
    def images(self) -> int:
        """Of a step."""
        return self.images_an_item * self.config.batch

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate(
            step,
            steps=self.steps * self.epochs,
            warm_up=round(self.config.warm_up_epochs * self.steps),
            peak=self.config.learning_rate,
            final=self.final_rate,
        )

    def batches(self, start: int) -> Iterator[Any]:
        """What is learnt from, from a given step on."""
        return self.draw(self, start)


def at_least_float32(outputs: Tensor) -> Tensor:
    """What a network computed in bfloat16, as a loss wants it."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def deviation(embeddings: Tensor) -> Tensor:
    """Standard deviation over the batch (N, D), mean over the features: 0 where all embeddings are the same."""
    return embeddings.detach().std(dim=0).mean()


def descend(training: Training, engine: Engine) -> float:
    """Take one step a batch, in place; returns the last step's loss.

    Raises:
        TrainingError: the loss is not finite any more, the embeddings have collapsed, or a GPU's memory is too small.
        KeyboardInterrupt: Ctrl-C; the step was finished and kept.
        StorageError: a checkpoint or the log could not be written.
    """
    title, group, checkpoint = training.title, engine.group, engine.checkpoint
    start = checkpoint.read(training.learner, training.optimiser) if checkpoint else 0
    if group.device == "cpu" and (short := shortage(training.images // group.size, engine.compute.precision)):
        logger.warning("%s: %s; if it is ended for want of memory, lower its batch", title, short)
    watch, stopwatch, loss = _Watch(training), _Stopwatch(training.clips), float("nan")
    with ExitStack() as stack:
        log = stack.enter_context(engine.log.from_step(start)) if engine.log and group.leads else None
        bar = stack.enter_context(progress.bar(title, training.epochs * training.steps, start))
        interrupted = stack.enter_context(_interrupts_noted(alone=group.size == 1))
        stack.enter_context(_full_memory_told(training))
        for step, batch in enumerate(training.batches(start), start):
            rate = training.rate(step)
            set_learning_rate(training.optimiser, rate)
            minimised, terms = training.objective(batch.to(group.device))
            training.optimiser.zero_grad(set_to_none=True)
            minimised.backward()  # type: ignore[no-untyped-call]
            training.optimiser.step()
            training.after_step()

            loss = group.mean(minimised).item()
            figures = {name: group.mean(term).item() for name, term in terms.items()}
            watch.look(step, loss, figures.get("deviation", math.inf))
            speed = stopwatch.clips_per_second()
            if log:
                epoch = step // training.steps
                described = {"epoch": epoch, "learning_rate": rate, "loss": loss, **figures}
                log.row(step, {**described, "clips_per_second": speed})
            told = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
            bar.say(f"loss {loss:.3f}  {told}  rate {rate:.2g}  {speed:.1f} clips/s")
            bar.advance()
            if checkpoint and group.leads and (interrupted() or checkpoint.due()):
                checkpoint.write(step + 1, training.learner, training.optimiser)
            if interrupted():
                progress.say(f"{title}: interrupted after step {step}; the same command goes on from there")
                raise KeyboardInterrupt
    give_back()
    return loss


class _Watch:
    """Stops a training that has gone wrong, with a sentence that says what to change."""

    def __init__(self, training: Training) -> None:
        self._training, self._collapsed = training, 0

    def look(self, step: int, loss: float, deviation: float) -> None:
        title = self._training.title
        if not math.isfinite(loss):
            raise TrainingError(f"{title} diverged at step {step}: the loss is {loss}; {self._training.if_diverged}.")
        self._collapsed = self._collapsed + 1 if deviation < COLLAPSED else 0
        if self._collapsed == STEPS_TO_BE_SURE:
            raise TrainingError(
                f"{title} collapsed by step {step}: all windows get the same embedding (its features deviate by "
                f"{deviation:.1g} over a batch, where 1 is asked); {self._training.if_collapsed}."
            )


class _Stopwatch:
    """The speed of the last steps."""

    def __init__(self, clips: float) -> None:
        self._clips, self._moments = clips, deque([time.monotonic()], maxlen=STEPS_OF_SPEED)

    def clips_per_second(self) -> float:
        self._moments.append(time.monotonic())
        seconds = self._moments[-1] - self._moments[0]
        return self._clips * (len(self._moments) - 1) / max(seconds, 1e-9)


@contextmanager
def _full_memory_told(training: Training) -> Iterator[None]:
    """A GPU whose memory can't hold a step, as our own error. Raises: TrainingError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{training.title}: the GPU's memory doesn't hold a step of {training.images} images; lower its batch (now "
            f"{training.config.batch}), set compute.precision=bfloat16, or share it out with torchrun."
        ) from error


@contextmanager
def _interrupts_noted(*, alone: bool) -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C lets the step in hand finish; a second one doesn't wait. Gives whether one came.

    Processes that share a training are not to wait for one that left, so there Ctrl-C ends each at once.
    """
    noted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if noted.is_set():
            signal.default_int_handler(number, frame)
        noted.set()

    here = alone and threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted.is_set
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
