"""The report of a run: one HTML file that needs nothing else, and its pictures."""

from edge_asd_trainer.report.page import write

__all__ = ["write"]
