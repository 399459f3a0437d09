"""Where samples come from: a sound file, or a program that writes PCM, behind one protocol.

settings --source_of--> AudioSource --for block in source--> Block(samples, lost)
"""

from __future__ import annotations

from edge_asd.capture.source import AudioSource, Block
from edge_asd.config import CaptureSettings

__all__ = ["AudioSource", "Block", "source_of"]


def source_of(settings: CaptureSettings, sample_rate: int) -> AudioSource:
    """The source that a configuration asks for, mono at `sample_rate` Hz. It starts when it is entered."""
    if settings.wav is not None:
        from edge_asd.capture.wav import WavSource  # needs soundfile, which a microphone's daemon never loads

        return WavSource(settings.wav, sample_rate=sample_rate, channel=settings.channel, pace=settings.pace)
    from edge_asd.capture.command import CommandSource

    return CommandSource(
        settings.command,
        rate=settings.rate,
        channels=settings.channels,
        channel=settings.channel,
        sample_rate=sample_rate,
    )
