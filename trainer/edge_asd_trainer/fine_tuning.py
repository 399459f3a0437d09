"""Fine-tuning (paper, section 2.4): tell the sections of a machine type apart, from mixed windows."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_asd import progress
from edge_asd.model import InputScaling
from edge_asd_trainer.config import FineTuning
from edge_asd_trainer.descent import descend
from edge_asd_trainer.losses import invariance, mixed_label_divergence
from edge_asd_trainer.network import Encoder, classifier
from edge_asd_trainer.optimiser import learning_rate
from edge_asd_trainer.pairs import Pairs, PairSampler
from edge_asd_trainer.pretraining import three_branches


def fine_tune(encoder: Encoder, pairs: PairSampler, scaling: InputScaling, config: FineTuning, device: str) -> float:
    """Train the encoder in place; the classifier is thrown away afterwards. Returns the last step's loss.

    The loss is the KL divergence to the mixed section label plus equation 1 on the encoder's output. Where
    `config.averaging` asks for it, what is left is the exponential average of the weights, and not those of the last
    step.

    Raises:
        TrainingError: the loss is not finite any more.
    """
    if not config.epochs:
        return float("nan")
    if len(pairs.sections) < 2:
        progress.say(
            f"fine-tuning: left out, for there is nothing to tell section {pairs.sections[0]} apart from; "
            "clips of a second unit or machine as another section would make the detector better"
        )
        return float("nan")
    head = classifier(len(pairs.sections)).to(device)
    whole = nn.ModuleList([encoder, head]).train()
    exponential = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
    average = AveragedModel(encoder, multi_avg_fn=exponential, use_buffers=True)
    optimiser = torch.optim.AdamW(whole.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.steps_per_epoch or pairs.steps_per_epoch(config.batch)
    total = steps * config.epochs
    batches = pairs.epochs(
        config.epochs, config.batch, steps, config.alpha, same_section_share=config.same_section_share
    )
    rate = partial(
        learning_rate,
        steps=total,
        warm_up=round(config.warm_up_epochs * steps),
        peak=config.learning_rate,
        final=config.learning_rate if config.schedule == "constant" else 0.0,
    )

    def objective(batch: Pairs) -> tuple[Tensor, str]:
        batch = batch.to(device)
        y, y_other, y_lam = three_branches(encoder, batch, scaling, encoder.channels)
        divergence = mixed_label_divergence(head(y_lam), batch.section, batch.other_section, batch.lam)
        constraint = invariance(y_lam, y, y_other, batch.lam)
        return divergence + config.constraint * constraint, f"KL {divergence.item():.3f}  s {constraint.item():.4f}"

    loss = descend(
        "fine-tuning",
        optimiser,
        batches,
        total,
        rate=rate,
        objective=objective,
        advice=f"lower fine_tuning.learning_rate (now {config.learning_rate})",
        after_step=lambda: average.update_parameters(encoder),
    )
    encoder.load_state_dict(average.module.state_dict())
    return loss
