"""The loop that pre-training and fine-tuning share: a batch of pairs, a loss, a step of the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from edge_asd import progress
from edge_asd.errors import TrainingError
from edge_asd_trainer.optimiser import set_learning_rate
from edge_asd_trainer.pairs import Pairs


def descend(
    title: str,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Pairs],
    total: int,
    *,
    rate: Callable[[int], float],
    objective: Callable[[Pairs], tuple[Tensor, str]],
    advice: str,
    after_step: Callable[[], None] = lambda: None,
) -> float:
    """Take one step a batch, in place; returns the last step's loss.

    Args:
        title: of the training, for the progress bar and the error.
        optimiser: of all parameters that learn.
        batches: pairs, in the order in which they are learnt from.
        total: how many batches there are.
        rate: the learning rate of a step, counted from 0.
        objective: of a batch the loss, and its terms in words.
        advice: what to do about a loss that isn't finite.
        after_step: called after each.

    Raises:
        TrainingError: the loss is not finite any more.
    """
    loss = float("nan")
    with progress.bar(title, total) as bar:
        for step, batch in enumerate(batches):
            set_learning_rate(optimiser, rate(step))
            minimised, terms = objective(batch)
            optimiser.zero_grad(set_to_none=True)
            minimised.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            after_step()
            loss = minimised.item()
            if not torch.isfinite(minimised):
                raise TrainingError(f"{title} diverged at step {step}: the loss is {loss}; {advice}.")
            bar.say(f"loss {loss:.3f}  {terms}")
            bar.advance()
    return loss
