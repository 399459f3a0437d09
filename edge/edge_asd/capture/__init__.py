"""Where samples come from: a sound file, a microphone or a program that writes PCM, behind one protocol.

settings --source_of--> AudioSource --for block in source--> Block(samples, lost, clipped, recording, absent)
"""

from __future__ import annotations

from edge_asd.capture.source import AudioSource, Block
from edge_asd.settings import CaptureSettings

__all__ = ["AudioSource", "Block", "source_of"]


def source_of(settings: CaptureSettings, sample_rate: int) -> AudioSource:
    """The source that a configuration asks for, mono at `sample_rate` Hz. It starts when it is entered.

    Files have an end; a microphone has none, and is waited for where it is away.
    """
    if settings.wav is not None:
        from edge_asd.capture.wav import WavSource  # needs soundfile, which a microphone's daemon never loads

        return WavSource(settings.wav, sample_rate=sample_rate, channel=settings.channel, pace=settings.pace)
    from edge_asd.capture.patient import PatientSource

    return PatientSource(lambda: _microphone(settings, sample_rate), sample_rate)


def _microphone(settings: CaptureSettings, sample_rate: int) -> AudioSource:
    from edge_asd.capture import arecord
    from edge_asd.capture.command import CommandSource

    command = settings.command or arecord.command_line(settings.device, settings.rate, settings.channels)
    return CommandSource(
        command,
        rate=settings.rate,
        channels=settings.channels,
        channel=settings.channel,
        sample_rate=sample_rate,
        buffer_seconds=0.0 if settings.command else arecord.BUFFER_SECONDS,
    )
