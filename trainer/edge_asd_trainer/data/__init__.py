"""Clips, and the data sets that they make up: names, folders, and what they must hold."""

from edge_asd_trainer.data.dataset import Clip, evaluation_clips, machines, training_clips

__all__ = ["Clip", "evaluation_clips", "machines", "training_clips"]
