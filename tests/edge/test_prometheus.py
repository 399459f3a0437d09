"""What Prometheus reads is what the status says."""

from __future__ import annotations

import sys

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_asd.errors import MissingRequirement
from edge_asd.sensor import FAULTS
from edge_asd.sinks.metrics import render
from edge_asd.status import SinkStatus, Status

STATUS = Status(
    version="0.1.0",
    device='p"i\\1\n',
    pid=1,
    bundle="0123456789abcdef",
    machine="fan",
    section="00",
    since="2026-01-01T00:00:00.000Z",
    updated="2026-01-01T00:00:10.000Z",
    heard_seconds=86400.25,
    scores=337501,
    last_score=0.123456789,
    threshold=0.75,
    alert=True,
    faults=("clipping", "level"),
    sensor="too loud",
    gated=True,
    rms_dbfs=-30.5,
    peak_dbfs=-12.25,
    level_dbfs=-31.0,
    lost_samples=160,
    synchronised=True,
    storage="disk full",
    unwritten=2,
    sinks=(SinkStatus(name="mqtt", waiting=12, missed=3, trouble="away"), SinkStatus(name="webhook")),
    resident_mb=80.5,
)


def samples(status: Status) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, content_type = render(status)
    assert content_type.startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_every_figure_is_the_statuss() -> None:
    found = samples(STATUS)
    about = {"version": "0.1.0", "bundle": "0123456789abcdef", "machine": "fan", "section": "00", "device": 'p"i\\1\n'}
    expected = {
        ("edge_asd_info", tuple(sorted(about.items()))): 1.0,
        ("edge_asd_score", ()): 0.123456789,
        ("edge_asd_threshold", ()): 0.75,
        ("edge_asd_alert", ()): 1.0,
        ("edge_asd_microphone_ok", ()): 0.0,
        ("edge_asd_gated", ()): 1.0,
        ("edge_asd_level_dbfs", ()): -31.0,
        ("edge_asd_rms_dbfs", ()): -30.5,
        ("edge_asd_peak_dbfs", ()): -12.25,
        ("edge_asd_storage_ok", ()): 0.0,
        ("edge_asd_unwritten_events", ()): 2.0,
        ("edge_asd_clock_synchronised", ()): 1.0,
        ("edge_asd_commissioning", ()): 0.0,
        ("edge_asd_resident_bytes", ()): 80_500_000.0,
        ("edge_asd_lost_samples_total", ()): 160.0,
        ("edge_asd_scores_total", ()): 337501.0,
        ("edge_asd_heard_seconds_total", ()): 86400.25,
        ("edge_asd_sink_waiting", (("sink", "mqtt"),)): 12.0,
        ("edge_asd_sink_waiting", (("sink", "webhook"),)): 0.0,
        ("edge_asd_sink_up", (("sink", "mqtt"),)): 0.0,
        ("edge_asd_sink_up", (("sink", "webhook"),)): 1.0,
        ("edge_asd_sink_missed_total", (("sink", "mqtt"),)): 3.0,
        ("edge_asd_sink_missed_total", (("sink", "webhook"),)): 0.0,
        **{("edge_asd_sensor_fault", (("fault", fault),)): float(fault in ("clipping", "level")) for fault in FAULTS},
    }
    assert found == expected


def test_every_known_fault_has_its_figure_and_an_unknown_one_gets_one() -> None:
    found = samples(msgspec.structs.replace(STATUS, faults=("upside down",)))
    faults = {labels[0][1]: value for (name, labels), value in found.items() if name == "edge_asd_sensor_fault"}
    assert faults == {**dict.fromkeys(FAULTS, 0.0), "upside down": 1.0}


def test_what_is_not_known_yet_is_left_out() -> None:
    found = samples(
        msgspec.structs.replace(STATUS, last_score=None, rms_dbfs=None, peak_dbfs=None, level_dbfs=None, sinks=())
    )
    names = {name for name, _ in found}
    assert not names & {"edge_asd_score", "edge_asd_rms_dbfs", "edge_asd_peak_dbfs", "edge_asd_level_dbfs"}
    assert not any(name.startswith("edge_asd_sink_") for name in names)
    assert "edge_asd_threshold" in names


def test_names_carry_their_prefix_and_a_counter_its_total() -> None:
    body, _ = render(STATUS)
    for family in text_string_to_metric_families(body.decode()):
        assert family.name.startswith("edge_asd")
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingRequirement, match="prometheus_client"):
        render(STATUS)
