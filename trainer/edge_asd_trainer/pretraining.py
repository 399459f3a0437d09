"""Self-supervised pre-training (paper, section 2.3): a mixed pair's embedding must be the mix of the embeddings."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_asd.model import InputScaling
from edge_asd_trainer.config import Pretraining
from edge_asd_trainer.descent import Engine, Training, at_least_float32, descend, deviation
from edge_asd_trainer.losses import mix, pretraining_loss
from edge_asd_trainer.network import Encoder, expander, images
from edge_asd_trainer.optimiser import LARS
from edge_asd_trainer.pairs import Pairs, PairSampler


def pretrain(encoder: Encoder, pairs: PairSampler, scaling: InputScaling, config: Pretraining, engine: Engine) -> float:
    """Train the encoder in place; the expander is thrown away afterwards. Returns the last step's loss.

    Raises:
        TrainingError: the loss is not finite any more, or the embeddings have collapsed.
        StorageError: a checkpoint or the log could not be written.
    """
    if not config.epochs:
        return engine.left_out()
    group = engine.group
    head = expander(config.expander_width, config.expander_last).to(group.device)
    branch = nn.Sequential(encoder, head).train()
    network = engine.prepared(branch)

    def objective(batch: Pairs) -> tuple[Tensor, Mapping[str, Tensor]]:
        outputs = network(three_branches(batch, scaling, encoder.channels))
        z, z_other, z_lam = (group.gather(rows) for rows in at_least_float32(outputs).chunk(3))
        terms = pretraining_loss(
            z,
            z_other,
            z_lam,
            group.gather(batch.lam),
            gamma=config.gamma,
            mu=config.mu,
            nu=config.nu,
            reduction=config.reduction,
            variance_scale=config.variance_scale,
        )
        return terms.loss, {
            "invariance": terms.invariance,
            "variance": terms.variance,
            "covariance": terms.covariance,
            "deviation": deviation(z),
        }

    training = Training(
        title="pre-training",
        learner=branch,
        optimiser=_optimiser(branch, config),
        pairs=pairs,
        config=config,
        final_rate=config.final_learning_rate,
        draw=lambda training, start: pairs.epochs(
            training.epochs,
            config.batch,
            training.steps,
            config.alpha,
            start=start,
            cross_domain_share=config.cross_domain_share,
        ),
        objective=objective,
        if_diverged=f"lower pretraining.learning_rate (now {config.learning_rate}) or lengthen "
        f"pretraining.warm_up_epochs (now {config.warm_up_epochs})",
        if_collapsed=f"raise pretraining.mu (now {config.mu}) or lower pretraining.learning_rate "
        f"(now {config.learning_rate})",
    )
    return descend(training, engine)


def three_branches(batch: Pairs, scaling: InputScaling, channels: int) -> Tensor:
    """The standardised images of X, X' and X_lam, one behind the other: (3N, channels, 128, 64).

    They pass through the network together: batch normalisation then sees all three, where one pass a branch would hide
    from it that mixed images vary less. Standardisation is affine, so it commutes with the mix.
    """
    x, other = ((windows - scaling.mean) / scaling.std for windows in (batch.x, batch.other))
    return images(torch.cat([x, other, mix(x, other, batch.lam)]), channels)


def _optimiser(branch: nn.Module, config: Pretraining) -> torch.optim.Optimizer:
    if config.optimiser == "adamw":
        return torch.optim.AdamW(branch.parameters(), lr=0.0, weight_decay=config.weight_decay)
    return LARS(branch.parameters(), weight_decay=config.weight_decay, momentum=config.momentum, trust=config.trust)
