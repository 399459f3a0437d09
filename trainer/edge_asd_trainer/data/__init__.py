"""Clips, and the data sets that they make up: names, folders, and what they must hold."""

from edge_asd_trainer.data.clip_name import ClipName, parse_clip_name
from edge_asd_trainer.data.dataset import Clip, evaluation_clips, machines, training_clips

__all__ = ["Clip", "ClipName", "evaluation_clips", "machines", "parse_clip_name", "training_clips"]
