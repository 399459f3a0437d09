"""The daemon's figures for Prometheus, made anew of a status for each that asks.

Names carry their units; what isn't known yet, such as a score before the first, is left out rather than made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_asd.errors import MissingRequirement
from edge_asd.sensor import FAULTS
from edge_asd.status import Status

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector


def render(status: Status) -> tuple[bytes, str]:
    """The figures as Prometheus reads them, and their content type. Raises: MissingRequirement."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ModuleNotFoundError as error:
        raise MissingRequirement(
            f"/metrics needs {error.name}, which isn't installed here; install it with: pip install prometheus-client"
        ) from error

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_collector(status))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _collector(status: Status) -> Collector:
    from prometheus_client.registry import Collector

    class Figures(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from _single(status)
            yield from _faults(status)
            yield from _sinks(status)

    return Figures()


def _single(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    about = {name: getattr(status, name) for name in ("version", "bundle", "machine", "section", "device")}
    yield InfoMetricFamily("edge_asd", "What listens, and to what.", value=about)
    gauges: tuple[tuple[str, str, float | None], ...] = (
        ("score", "The newest anomaly score.", status.last_score),
        ("threshold", "What scores are held against.", status.threshold),
        ("alert", "1 while the machine sounds strange.", status.alert),
        ("microphone_ok", "1 while the microphone hears rightly.", not status.faults),
        ("gated", "1 while a fault of the microphone keeps scores from raising an alert.", status.gated),
        ("level_dbfs", "Level of the last minutes, dB below full scale.", status.level_dbfs),
        ("rms_dbfs", "RMS of the last quarter of a second, dB below full scale.", status.rms_dbfs),
        ("peak_dbfs", "Peak of the last quarter of a second, dB below full scale.", status.peak_dbfs),
        ("storage_ok", "1 while the database can be written.", not status.storage),
        ("unwritten_events", "Events that wait for the database.", status.unwritten),
        ("clock_synchronised", "1 if the wall clock is known to be right.", status.synchronised),
        ("commissioning", "1 while the device learns its site.", status.commissioning is not None),
        ("resident_bytes", "Memory of the daemon.", status.resident_mb * 1e6),
    )
    for name, says, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(f"edge_asd_{name}", says, value=float(value))
    counters: tuple[tuple[str, str, float], ...] = (
        ("lost_samples", "Samples that the source lost.", status.lost_samples),
        ("scores", "Scores so far.", status.scores),
        ("heard_seconds", "Seconds of sound so far, those lost included.", status.heard_seconds),
    )
    for name, says, value in counters:
        yield CounterMetricFamily(f"edge_asd_{name}", says, value=float(value))


def _faults(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily("edge_asd_sensor_fault", "1 while the microphone has this fault.", labels=["fault"])
    for fault in dict.fromkeys((*FAULTS, *status.faults)):
        family.add_metric([fault], float(fault in status.faults))
    yield family


def _sinks(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    waiting = GaugeMetricFamily("edge_asd_sink_waiting", "Messages that wait for this receiver.", labels=["sink"])
    up = GaugeMetricFamily("edge_asd_sink_up", "1 while this receiver takes what it is sent.", labels=["sink"])
    missed = CounterMetricFamily("edge_asd_sink_missed", "Messages that this receiver will never get.", labels=["sink"])
    for sink in status.sinks:
        waiting.add_metric([sink.name], float(sink.waiting))
        up.add_metric([sink.name], float(not sink.trouble))
        missed.add_metric([sink.name], float(sink.missed))
    yield from (waiting, up, missed)
