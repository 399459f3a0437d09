"""A bundle laid open for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from edge_asd.comparison import Backend
from edge_asd.manifest import Manifest


def tables(manifest: Manifest, digest: str) -> Iterator[Table]:
    """What the bundle is, its sections, and its entries."""
    yield _facts(manifest, digest)
    yield _sections(manifest)
    yield _entries(manifest)


def _facts(manifest: Manifest, digest: str) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    front_end, windows, golden = manifest.front_end, manifest.windows, manifest.golden
    for name, value in {
        "machine": manifest.machine,
        "system": manifest.system,
        **({"score": " + ".join(map(_in_words, manifest.backends))} if manifest.backends else {}),
        "digest": digest,
        "made": manifest.made_at,
        "format": str(manifest.format_version),
        "needs": f"edge-asd {manifest.minimum_runtime} or later",
        "front end": f"{front_end.sample_rate} Hz, {front_end.n_fft} samples a frame, hop {front_end.hop}, "
        f"{front_end.mels} mels",
        "windows": f"{windows.frames} frames, hop {windows.hop}",
        "model": f"{manifest.quantisation.weights} weights, {manifest.quantisation.activations} activations, "
        f"{manifest.dimensions} dimensions",
        "golden clip": f"section {golden.section}, score {golden.score:.6g} with {golden.runtime}",
        "data": manifest.data_fingerprint,
        "configuration": manifest.config_fingerprint,
    }.items():
        table.add_row(name, value)
    return table


def _in_words(backend: Backend) -> str:
    parts = [backend.distance if backend.neighbours == 1 else f"{backend.neighbours} {backend.distance}"]
    if backend.density:
        parts.append(f"by the density of {backend.density}")
    return f"{', '.join(parts)} ({backend.feature})"


def _sections(manifest: Manifest) -> Table:
    table = Table("section")
    for title in ("source clips", "target clips", "bank entries", "decision", "alarm"):
        table.add_column(title, justify="right")
    for name, section in sorted(manifest.sections.items()):
        thresholds, sign = section.thresholds, " (sign flipped)" if section.flipped else ""
        counts = (str(count) for count in (section.source_clips, section.target_clips, section.entries))
        table.add_row(name + sign, *counts, f"{thresholds.decision:.6g}", f"{thresholds.alarm:.6g}")
    return table


def _entries(manifest: Manifest) -> Table:
    table = Table("entry")
    table.add_column("bytes", justify="right")
    for name, entry in sorted(manifest.entries.items()):
        table.add_row(name, f"{entry.bytes:,}")
    return table
