"""What is read back from a disk to which somebody else may have written: state folder, releases, signatures."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from edge_asd import commission_desk, npy, shadow_file, shadow_standing, signing, site, status
from edge_asd.bundle import Bundle
from edge_asd.commission_desk import Report, Request
from edge_asd.deviation import Spectrum
from edge_asd.post import Opened
from edge_asd.release_record import Record
from edge_asd.release_tree import Tree, read_record
from edge_asd.scoring import Detector
from edge_asd.settings import CaptureSettings, DeviceConfig
from edge_asd.shadow import Disagreement, Side, Tally
from edge_asd.shadow import Record as Compared
from edge_asd.sinks import mqtt_state
from edge_asd.site import Promise, Site
from edge_asd.status import Commissioning, SinkStatus
from fuzz import contract, mutations
from fuzz.bundles import DIMENSIONS, MELS, detector_of, small
from fuzz.doors import A_FIFTH, Door, fields, folder
from made_up_events import STATUS

_UTC = "2026-01-01T00:00:00.000Z"
_DIGEST = "0123456789abcdef"
_RELEASE = f"fan-{_DIGEST}"


@cache
def _opened() -> tuple[DeviceConfig, Bundle, Detector]:
    """What a daemon has open that listens with a state folder."""
    state = folder() / "site-state"
    (state / site.FOLDER).mkdir(parents=True)
    bundle = replace(small(rich=True), digest=_DIGEST)
    capture = CaptureSettings(command=("arecord",))
    return DeviceConfig(bundle=Path("fan.easd"), state=state, capture=capture), bundle, detector_of(bundle)


def know_site(content: bytes) -> None:
    """A daemon starts with what was learned of its site: the record, and arrays by the digests that it shall have."""
    config, bundle, detector = _opened()
    place = config.state / site.FOLDER
    found = dict(mutations.parts(content))
    record = found.get(b"site.json", b"")
    for kind in ("log_mels", "heard"):
        array = found.get(kind.encode(), b"")
        digest = hashlib.sha256(array).hexdigest()
        record = record.replace(f'"@{kind}"'.encode(), f'"{digest}"'.encode())
        (place / f"{digest[:16]}.{kind}.npy").write_bytes(array)
    (place / site.FILE).write_bytes(record)
    try:
        with contract.refusals(), contract.lines_said(), np.errstate(all="ignore"):
            Opened(config, bundle, detector).post(config)
        with contract.refusals():
            if read := site.read(config.state):
                commission_desk.lines(read)
        with contract.refusals():
            site.undo(config.state)
    finally:
        for path in place.iterdir():
            path.unlink()


def know_state(content: bytes) -> None:
    """The same bytes as each of the other records in a state folder, and what is said of them."""
    state = folder() / "state"
    state.mkdir(exist_ok=True)
    for name in (status.FILE_NAME, shadow_file.FILE_NAME, commission_desk.REQUEST, commission_desk.REPORT):
        (state / name).write_bytes(content)
    with contract.refusals():
        if found := status.read(state):
            status.describe(found, alive=True)
            status.headline(found)
            mqtt_state.encode(found)
    with contract.refusals(), np.errstate(all="ignore"):
        if compared := shadow_file.read(state):
            shadow_standing.lines(shadow_standing.standing(compared, lasts=True))
    with contract.refusals():
        if wish := commission_desk.requested(state):
            _ = wish.plan
    with contract.refusals():
        report = commission_desk.reported(state, "a1")
        if report and report.site:
            commission_desk.lines(report.site)


def know_releases(content: bytes) -> None:
    """What is committed, read back."""
    tree = Tree(folder() / "device")
    tree.releases.mkdir(parents=True, exist_ok=True)
    tree.record.write_bytes(content)
    with contract.refusals():
        read_record(tree)


def check_signature(content: bytes) -> None:
    """A signature, and a list of those who are trusted, as far as they are read by us and not by ssh-keygen."""
    path = folder() / "allowed_signers"
    found = dict(mutations.parts(content))
    path.write_bytes(found.get(b"signers", content))
    with contract.refusals():
        lines = signing._trusted(path)
        stated = signing._decoded(found.get(b"signature", content), "a.easd", "sign it")
        contract.fit_to_be_read(stated.signer)
        for line in lines:
            stated.may_be_meant_by(line)


def _sites() -> list[bytes]:
    _, bundle, _ = _opened()
    promise = Promise(1.0, 2, 0.5)
    learned = Site(
        format_version=1,
        made_utc=_UTC,
        machine="fan",
        section="00",
        bundle=_DIGEST,
        front_end=bundle.manifest.front_end,
        clips=("a", "b"),
        log_mels="@log_mels",
        heard="@heard",
        threshold=1.0,
        false_alarms=1.0,
        minutes=10.0,
        before=promise,
        after=promise,
        level_dbfs=-30.0,
        spectrum=Spectrum((-30.0,) * MELS, (2.0,) * MELS),
        doubts=("it was short",),
    )
    random = np.random.default_rng(1)
    arrays = {
        "log_mels": random.normal(size=(2, 12, MELS)).astype(np.float16),
        "heard": random.normal(size=(2, DIMENSIONS + 2 * MELS)).astype(np.float32),
    }
    parts = [(name.encode(), npy.encode(array)) for name, array in arrays.items()]
    others = (learned, msgspec.structs.replace(learned, bundle="f" * 16, level_dbfs=None))
    return [mutations.joined([(b"site.json", msgspec.json.encode(one)), *parts]) for one in others]


def _states() -> list[bytes]:
    full = msgspec.structs.replace(
        STATUS,
        faults=("silent",),
        sensor="is silent",
        gated=True,
        level_dbfs=-31.5,
        commissioning=Commissioning(phase="learning", done=0.5, said="waits"),
        storage="is full",
        sinks=(SinkStatus(name="mqtt", waiting=2, missed=1, trouble="down"),),
        shadow=_DIGEST,
    )
    sides = Side(_DIGEST, "00", 1.0, _UTC), Side("f" * 16, "00", 2.0)
    compared = Compared(
        since=_UTC,
        updated=_UTC,
        running=sides[0],
        shadow=sides[1],
        moment_seconds=0.256,
        moments=3,
        of_running=Tally(1, 1, 0.5, 1.5),
        of_shadow=Tally(0, 0, 0.2, 1.2),
        only_running=1,
        disagreements=(Disagreement(_UTC, 1.5, 0.5),),
        pairs=((0.5, 0.2), (0.7, 0.4), (1.5, 1.2)),
    )
    request = Request("a1", 10.0, 1.0)
    record = (
        dict(mutations.parts(_sites()[0]))[b"site.json"].replace(b"@log_mels", b"0" * 64).replace(b"@heard", b"1" * 64)
    )
    site_record = msgspec.json.decode(record, type=Site)
    reports = Report("a1", site_record), Report("a1", refusal="no")
    return [msgspec.json.encode(one) for one in (STATUS, full, compared, request, *reports)]


def _signatures() -> list[bytes]:
    import base64
    import struct

    def strings(*texts: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(text)) + text for text in texts)

    key = strings(b"ssh-ed25519", bytes(32))
    certificate = strings(b"ssh-ed25519-cert-v01@openssh.com", bytes(32))
    found = []
    for one in (key, certificate):
        blob = base64.b64encode(b"SSHSIG\0\0\0\1" + strings(one, b"edge-asd", b"", b"sha512", bytes(83)))
        signature = b"-----BEGIN SSH SIGNATURE-----\n" + blob + b"\n-----END SSH SIGNATURE-----\n"
        line = b'me namespaces="edge-asd" ssh-ed25519 ' + base64.b64encode(one)
        found.append(mutations.joined([(b"signature", signature), (b"signers", b"# us\n" + line + b"\n")]))
    return [*found, b"me ssh-ed25519 AAAA\n"]


DOORS = (
    Door(
        "site",
        "what was learned on site",
        know_site,
        _sites,
        words=(*fields(Site, Promise), b"@heard", b"@log_mels", b"'shape': (2, 3)", b"'<f2'", b"\n#"),
        mutations=(mutations.of_parts,),
        longest=3000,
        weight=A_FIFTH,
    ),
    Door(
        "state",
        "status, shadow, commissioning",
        know_state,
        _states,
        words=fields(status.Status, Compared, Request, Report, SinkStatus, Commissioning),
        mutations=(mutations.of_json,),
        longest=3000,
        weight=A_FIFTH,
    ),
    Door(
        "releases",
        "committed.json",
        know_releases,
        lambda: [msgspec.json.encode(one) for one in (Record((_RELEASE,)), Record((_RELEASE, "fan"), _RELEASE))],
        words=(*fields(Record), b'"..", "../../etc"'),
        mutations=(mutations.of_json,),
        longest=600,
        weight=A_FIFTH,
    ),
    Door(
        "signature",
        "signature, allowed_signers",
        check_signature,
        _signatures,
        words=(b"-----BEGIN SSH SIGNATURE-----", b"cert-authority ", b"\n#signature\n", b"\n#signers\n", b"SSHSIG"),
        longest=1500,
        weight=A_FIFTH,
    ),
)
