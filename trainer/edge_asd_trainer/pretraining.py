"""Self-supervised pre-training (paper, section 2.3): a mixed pair's embedding must be the mix of the embeddings."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from edge_asd.model import InputScaling
from edge_asd_trainer.config import Pretraining
from edge_asd_trainer.descent import descend
from edge_asd_trainer.losses import mix, pretraining_loss
from edge_asd_trainer.network import Encoder, expander, images
from edge_asd_trainer.optimiser import LARS, learning_rate
from edge_asd_trainer.pairs import Pairs, PairSampler


def pretrain(encoder: Encoder, pairs: PairSampler, scaling: InputScaling, config: Pretraining, device: str) -> float:
    """Train the encoder in place; the expander is thrown away afterwards. Returns the last step's loss.

    Raises:
        TrainingError: the loss is not finite any more.
    """
    if not config.epochs:
        return float("nan")
    head = expander(config.expander_width, config.expander_last).to(device)
    branch = nn.Sequential(encoder, head).train()
    optimiser = _optimiser(branch, config)
    steps = config.steps_per_epoch or pairs.steps_per_epoch(config.batch)
    total = steps * config.epochs
    batches = pairs.epochs(
        config.epochs, config.batch, steps, config.alpha, cross_domain_share=config.cross_domain_share
    )
    rate = partial(
        learning_rate,
        steps=total,
        warm_up=round(config.warm_up_epochs * steps),
        peak=config.learning_rate,
        final=config.final_learning_rate,
    )

    def objective(batch: Pairs) -> tuple[Tensor, str]:
        batch = batch.to(device)
        terms = pretraining_loss(
            *three_branches(branch, batch, scaling, encoder.channels),
            batch.lam,
            gamma=config.gamma,
            mu=config.mu,
            nu=config.nu,
            reduction=config.reduction,
            variance_scale=config.variance_scale,
        )
        return terms.loss, f"s {terms.invariance:.3f}  v {terms.variance:.3f}  c {terms.covariance:.2f}"

    return descend(
        "pre-training",
        optimiser,
        batches,
        total,
        rate=rate,
        objective=objective,
        advice=f"lower pretraining.learning_rate (now {config.learning_rate}) or lengthen pretraining.warm_up_epochs",
    )


def three_branches(
    branch: nn.Module, batch: Pairs, scaling: InputScaling, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs for X, X' and X_lam (N, D each), in one pass over the 3N images.

    Batch normalisation then sees all three together; one pass a branch would hide from it that mixed images vary less.
    Standardisation is affine, so it commutes with the mix.
    """
    x, other = ((windows - scaling.mean) / scaling.std for windows in (batch.x, batch.other))
    outputs: Tensor = branch(images(torch.cat([x, other, mix(x, other, batch.lam)]), channels))
    first, second, mixed = outputs.chunk(3)
    return first, second, mixed


def _optimiser(branch: nn.Module, config: Pretraining) -> torch.optim.Optimizer:
    if config.optimiser == "adamw":
        return torch.optim.AdamW(branch.parameters(), lr=0.0, weight_decay=config.weight_decay)
    return LARS(branch.parameters(), weight_decay=config.weight_decay, momentum=config.momentum, trust=config.trust)
