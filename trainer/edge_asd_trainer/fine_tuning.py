"""Fine-tuning (paper, section 2.4): tell the sections of a machine type apart, from mixed windows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edge_asd import progress
from edge_asd.model import InputScaling
from edge_asd_trainer.config import FineTuning
from edge_asd_trainer.descent import Engine, Training, at_least_float32, descend, deviation
from edge_asd_trainer.losses import invariance, mixed_label_divergence
from edge_asd_trainer.network import Encoder, classifier
from edge_asd_trainer.pairs import Pairs, PairSampler
from edge_asd_trainer.pretraining import three_branches


def fine_tune(encoder: Encoder, pairs: PairSampler, scaling: InputScaling, config: FineTuning, engine: Engine) -> float:
    """Train the encoder in place; the classifier is thrown away afterwards. Returns the last step's loss.

    The loss is the KL divergence to the mixed section label plus equation 1 on the encoder's output. Where
    `config.averaging` asks for it, what is left is the exponential average of the weights, and not those of the last
    step.

    Raises:
        TrainingError: the loss is not finite any more, or the embeddings have collapsed.
        StorageError: a checkpoint or the log could not be written.
    """
    if not config.epochs:
        return engine.left_out()
    if len(pairs.sections) < 2:
        progress.say(
            f"fine-tuning: left out, for there is nothing to tell section {pairs.sections[0]} apart from; "
            "clips of a second unit or machine as another section would make the detector better"
        )
        return engine.left_out()
    classified = _Classified(encoder, classifier(len(pairs.sections))).to(engine.group.device).train()
    network = engine.prepared(classified)
    exponential = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
    average = AveragedModel(encoder, multi_avg_fn=exponential, use_buffers=True)

    def objective(batch: Pairs) -> tuple[Tensor, Mapping[str, Tensor]]:
        embeddings, logits = network(three_branches(batch, scaling, encoder.channels))
        y, y_other, y_lam = at_least_float32(embeddings).chunk(3)
        divergence = mixed_label_divergence(at_least_float32(logits), batch.section, batch.other_section, batch.lam)
        constraint = invariance(y_lam, y, y_other, batch.lam)
        terms = {"divergence": divergence, "constraint": constraint, "deviation": deviation(y)}
        return divergence + config.constraint * constraint, terms

    training = Training(
        title="fine-tuning",
        learner=nn.ModuleDict({"classified": classified, "average": average}),
        optimiser=torch.optim.AdamW(classified.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay),
        pairs=pairs,
        config=config,
        final_rate=config.learning_rate if config.schedule == "constant" else 0.0,
        draw=lambda training, start: pairs.epochs(
            training.epochs,
            config.batch,
            training.steps,
            config.alpha,
            start=start,
            same_section_share=config.same_section_share,
        ),
        objective=objective,
        if_diverged=f"lower fine_tuning.learning_rate (now {config.learning_rate})",
        if_collapsed=f"lower fine_tuning.constraint (now {config.constraint}) or fine_tuning.learning_rate "
        f"(now {config.learning_rate})",
        after_step=lambda: average.update_parameters(encoder),
    )
    loss = descend(training, engine)
    encoder.load_state_dict(average.module.state_dict())
    return loss


class _Classified(nn.Module):
    """Embeddings of all images, and from those of the last third, the mixed ones, which sections they are of."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.encoder(images)
        *_, mixed = embeddings.chunk(3)
        return embeddings, self.head(mixed)
