"""A device at the other end of a real SSH connection, which is cut wherever it can be."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import psutil
import pytest

from common import missing, until
from edge_asd import bundle, release, signing
from edge_asd.errors import (
    BundleError,
    DeploymentError,
    DownloadError,
    EdgeAsdError,
    SignatureError,
    StorageError,
    Unreachable,
    UsageError,
)
from edge_asd.release_record import bundle_of
from edge_asd.release_tree import Tree
from edge_asd_tools.deploy import remote_device, remote_plan
from edge_asd_tools.deploy.device import Order
from edge_asd_tools.deploy.first_config import Wishes
from edge_asd_tools.deploy.remote_device import RemoteDevice
from edge_asd_tools.deploy.ssh import PROGRAM, Ssh
from sshd import HOST, Server, served

pytestmark = pytest.mark.slow

Report = Callable[[str, str], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@dataclass
class Site:
    """A device under a folder, and what was said while it was deployed to."""

    root: Path
    said: list[tuple[str, str]] = field(default_factory=list)

    @property
    def device(self) -> RemoteDevice:
        return RemoteDevice(Ssh(HOST, str(self.root)))

    @property
    def tree(self) -> Tree:
        return Tree(self.root)

    @property
    def steps(self) -> list[str]:
        return [step for step, _ in self.said]

    def outcome(self, step: str) -> str:
        return next(outcome for one, outcome in self.said if one == step)

    def deploy(self, path: Path, report: Report | None = None, **asked: bool) -> remote_device.Outcome:
        self.said.clear()

        def tell(step: str, outcome: str) -> None:
            self.said.append((step, outcome))
            if report:
                report(step, outcome)

        return self.device.deploy(Order(path, wishes=Wishes(section="00"), **asked), tell)

    def runs(self) -> str:
        """The digest of the bundle that runs; "" where none does."""
        return bundle_of(release.status(self.root).current or "")

    def processes(self) -> list[psutil.Process]:
        """What works on the device, the connection aside."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.root) in process.cmdline() and process.name() not in ("ssh", "pytest"):
                    found.append(process)
        return found

    def nothing_is_left(self) -> None:
        """No part of a deployment, but the releases, runtimes and wheels that the record names."""
        kept = release.status(self.root)
        home = {path.name for path in self.tree.home.iterdir()}
        assert home <= {"committed.json", "current", "previous", "shadow", "lock", "releases", "runtimes", "wheels"}
        releases = {path.name for path in self.tree.releases.iterdir()}
        assert releases == {*kept.kept, *([kept.shadow] if kept.shadow else [])}
        used = {(path / "venv").resolve().name for path in self.tree.releases.iterdir()}
        assert {path.name for path in self.tree.runtimes.iterdir()} == used


@pytest.fixture(scope="module")
def template(server: Server, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A device with one release, that others are copied from."""
    site = Site(tmp_path_factory.mktemp("template") / "device")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROGRAM, server.ssh)
        try:
            site.deploy(tiny_bundle)
        except DownloadError as error:
            missing(f"the package registry ({error})")
    return site


@pytest.fixture
def site(template: Site, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(PROGRAM, server.ssh)
    shutil.copytree(template.root, tmp_path / "device", symlinks=True)
    for venv in (tmp_path / "device/opt/edge-asd/releases").glob("*/venv"):  # its links are absolute
        target = tmp_path / "device/opt/edge-asd/runtimes" / venv.readlink().name
        venv.unlink()
        venv.symlink_to(target)
    return Site(tmp_path / "device")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_device, "RECONNECT_SECONDS", (0.1, 0.1))
    monkeypatch.setattr(remote_device, "AGAIN_SECONDS", 0.3)


@pytest.fixture
def bare(template: Site, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A device with nothing."""
    monkeypatch.setenv(PROGRAM, server.ssh)
    return Site(tmp_path / "bare")


@pytest.fixture
def other(tiny_bundle: Path, tmp_path: Path) -> Path:
    return changed(tiny_bundle, tmp_path / "other.easd", "# another\n")


def changed(path: Path, to: Path, card: str) -> Path:
    bundle.write(to, replace(bundle.read(path), model_card=card))
    return to


def digest(path: Path) -> str:
    return bundle.digest(path.read_bytes())


def cut(site: Site) -> None:
    """The network goes: our end of the connection ends."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.name() == "ssh":
                child.kill()


def kill(site: Site) -> None:
    """The device's end is killed, and what it started."""
    for process in site.processes():
        with suppress(psutil.Error):
            process.kill()


def files_of(root: Path) -> dict[str, int]:
    """What is there, and when it was written; of folders, that they are there."""
    found = {str(path): path.lstat() for path in root.rglob("*")}
    return {name: 0 if stat.S_ISDIR(about.st_mode) else about.st_mtime_ns for name, about in found.items()}


def test_a_bare_device(template: Site, tiny_bundle: Path) -> None:
    assert template.runs() == digest(tiny_bundle)
    wanted = ["connect", "send", "unpack", "compile", "stage", "verify", "golden", "switch", "health", "commit", "done"]
    assert template.steps == wanted
    template.nothing_is_left()
    runtime = (template.tree.current / "venv").resolve()
    described = msgspec.json.decode((runtime / "sbom.json").read_bytes())
    names = {component["name"] for component in described["components"]}
    assert {"numpy", "edge-asd", "ai-edge-litert"} <= names
    assert all(component["licenses"] for component in described["components"])
    assert (runtime / "edge-asd.service").read_text().startswith("# The daemon on a device.")
    assert not list(runtime.rglob("*torch*"))
    assert list(runtime.glob("lib/python3.11/site-packages/edge_asd/__pycache__/daemon.*.pyc"))  # or each start is slow


def test_a_second_time_nothing_is_sent_and_nothing_changes(site: Site, tiny_bundle: Path) -> None:
    before = files_of(site.root)
    assert not site.deploy(tiny_bundle).changed
    assert site.outcome("send").startswith("nothing")
    assert files_of(site.root) == before
    assert site.device.plan(Order(tiny_bundle)) == []


def test_an_update_sends_the_bundle_alone(site: Site, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    honest = remote_device.Visit.take

    def take(there: object, file: tuple[str, int, str], begin: int, *rest: object) -> None:
        sent.append(file[1] - begin)
        honest(there, file, begin, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(remote_device.Visit, "take", take)
    said = site.device.plan(Order(other))
    assert any(line.startswith("send the bundle") for line in said)
    assert not any("wheels" in line for line in said)
    assert site.deploy(other).changed
    assert sent == [other.stat().st_size]
    assert site.runs() == digest(other)
    site.nothing_is_left()


def test_a_dry_run_touches_nothing(bare: Site, tiny_bundle: Path) -> None:
    said = "\n".join(bare.device.plan(Order(tiny_bundle, wishes=Wishes(section="00"))))
    assert "of wheels" in said
    assert "send the bundle" in said
    assert "device.toml" in said
    assert not bare.root.exists()


def test_back_and_forth(site: Site, tiny_bundle: Path, other: Path) -> None:
    site.deploy(other)
    site.device.rollback(Order(), lambda step, outcome: None)
    assert site.runs() == digest(tiny_bundle)
    site.device.rollback(Order(), lambda step, outcome: None)
    assert site.runs() == digest(other)
    site.nothing_is_left()


def test_a_bundle_on_trial(site: Site, tiny_bundle: Path, other: Path, tmp_path: Path) -> None:
    silent: Report = lambda step, outcome: None  # noqa: E731 - three words
    with pytest.raises(DeploymentError, match="no bundle is tried there"):
        site.device.promote(Order(), silent)
    site.deploy(other, shadow=True)
    found = release.status(site.root)
    assert (site.runs(), bundle_of(found.shadow or "")) == (digest(tiny_bundle), digest(other))
    assert (site.tree.shadow / "bundle.easd").read_bytes() == other.read_bytes()
    assert not site.deploy(other, shadow=True).changed
    site.device.drop(Order(), silent)
    assert release.status(site.root).shadow is None
    assert not site.tree.shadow.exists()
    site.nothing_is_left()
    site.deploy(other, shadow=True)
    third = changed(tiny_bundle, tmp_path / "third.easd", "# third\n")
    site.deploy(third)  # the trial goes on beside it
    assert bundle_of(release.status(site.root).shadow or "") == digest(other)
    site.device.promote(Order(), silent)
    assert (site.runs(), release.status(site.root).shadow) == (digest(other), None)
    assert not site.tree.shadow.is_symlink()
    site.nothing_is_left()


def test_a_bundle_that_computes_otherwise_is_refused(site: Site, tiny_bundle: Path, tmp_path: Path) -> None:
    whole = bundle.read(tiny_bundle)
    golden = msgspec.structs.replace(whole.manifest.golden, score=0.5)
    wrong = tmp_path / "wrong.easd"
    bundle.write(wrong, replace(whole, manifest=msgspec.structs.replace(whole.manifest, golden=golden)))
    with pytest.raises(DeploymentError, match=r"was refused: the golden clip.*runs as before"):
        site.deploy(wrong)
    assert site.runs() == digest(tiny_bundle)
    site.nothing_is_left()


def test_what_no_bundle_is_never_leaves_the_workstation(site: Site, tmp_path: Path) -> None:
    before = files_of(site.root)
    (tmp_path / "no.easd").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(EdgeAsdError, match="not a bundle"):
        site.deploy(tmp_path / "no.easd")
    assert files_of(site.root) == before


def test_signed_bundles_alone(site: Site, tiny_bundle: Path, other: Path, server: Server) -> None:
    site.tree.allowed_signers.write_text(f"plant {server.host_key('other')}\n")
    before = release.status(site.root)
    with pytest.raises(SignatureError, match=r"not signed, and shop-floor-7 takes signed bundles alone; sign it"):
        site.deploy(other)
    signing.sign(other, server.folder / "client")
    with pytest.raises(BundleError, match=r"incoming/other\.easd"):
        site.deploy(other)
    assert release.status(site.root) == before
    signing.path_of(other).unlink()
    signing.sign(other, server.folder / "other")
    site.deploy(other)
    assert site.outcome("verify").endswith("signed by plant")
    assert signing.path_of(site.tree.current / "bundle.easd").exists()
    with pytest.raises(BundleError, match="not signed"):  # what ran before was never signed
        site.device.rollback(Order(), lambda step, outcome: None)
    assert site.runs() == digest(other)
    site.nothing_is_left()


def test_a_signature_that_comes_later_is_kept(site: Site, tiny_bundle: Path, server: Server, tmp_path: Path) -> None:
    copy = Path(shutil.copy(tiny_bundle, tmp_path / "fan.easd"))
    signing.sign(copy, server.folder / "other")
    site.tree.allowed_signers.write_text(f"plant {server.host_key('other')}\n")
    site.deploy(copy)
    assert signing.path_of(site.tree.current / "bundle.easd").read_bytes() == signing.path_of(copy).read_bytes()
    assert not site.deploy(copy).changed


def test_undeploy(site: Site) -> None:
    event = site.tree.state / "events.sqlite"
    event.write_bytes(b"kept")
    assert site.device.undeploy(data=False) == [str(site.tree.home)]
    assert event.read_bytes() == b"kept"
    assert site.tree.config.exists()
    assert site.device.undeploy(data=True) == [str(site.tree.config.parent), str(site.tree.state)]
    assert site.device.undeploy(data=True) == []


def test_another_deployment_is_at_work(site: Site, other: Path) -> None:
    with site.tree.home.joinpath("lock").open("a") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeploymentError, match="another deployment is at work there"):
            site.deploy(other)
    assert site.deploy(other).changed


def test_settings_and_options_are_held_against_each_other(site: Site, other: Path, bare: Site) -> None:
    with pytest.raises(UsageError, match="--section: found '01', the site's settings say '00'"):
        site.device.deploy(Order(other, wishes=Wishes(section="01")), lambda step, outcome: None)
    with pytest.raises(UsageError, match="say with --section"):
        bare.device.deploy(Order(other), lambda step, outcome: None)
    with pytest.raises(UsageError, match=r"--board pi-4b: isn't a"):
        site.device.deploy(Order(other, board="pi-4b"), lambda step, outcome: None)


def test_a_full_disk_is_seen_before(site: Site, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_plan, "room", lambda items: 1 << 60)
    with pytest.raises(StorageError, match=r"needs \d+ MB, \d+ MB are free"):
        site.deploy(other)


def test_an_upload_that_breaks_off_goes_on_by_itself(
    bare: Site, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(bare, 10_000_000, monkeypatch)
    assert bare.deploy(tiny_bundle).changed
    assert bare.steps.count("reconnect") == 1
    assert remaining(bare) < 29
    bare.nothing_is_left()


def test_an_upload_that_breaks_off_goes_on_the_next_time(
    bare: Site, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_device, "RECONNECT_SECONDS", ())
    broken_at(bare, 10_000_000, monkeypatch)
    with pytest.raises(Unreachable, match="the connection broke off"):
        bare.deploy(tiny_bundle)
    until(lambda: not bare.processes())
    assert not bare.tree.current.exists()
    bare.deploy(tiny_bundle)
    assert remaining(bare) < 29
    bare.nothing_is_left()


def test_a_part_that_rotted_is_sent_again(bare: Site, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_device, "RECONNECT_SECONDS", ())
    broken_at(bare, 20_000_000, monkeypatch)  # amid NumPy: its first megabytes have arrived
    with pytest.raises(Unreachable):
        bare.deploy(tiny_bundle)
    until(lambda: not bare.processes())
    [part] = (bare.tree.home / "incoming").glob("*.part")
    part.write_bytes(b"\0" * max(1, part.stat().st_size))
    with pytest.raises(DeploymentError, match="is not what was sent"):
        bare.deploy(tiny_bundle)
    assert bare.deploy(tiny_bundle).changed


def remaining(site: Site) -> float:
    """Of some 38 MB, those that were sent in the end."""
    return float(site.outcome("send").split()[0])


def broken_at(site: Site, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the connection once, when so many bytes of wheels were sent."""
    honest, sent, done = remote_device.Visit.take, 0, False

    def take(
        there: object, file: tuple[str, int, str], begin: int, content: object, advance: Callable[[int], None]
    ) -> None:
        def counted(piece: int) -> None:
            nonlocal sent, done
            sent += piece
            if sent > size and not done:
                done = True
                cut(site)
            advance(piece)

        honest(there, file, begin, content, counted)  # type: ignore[arg-type]

    monkeypatch.setattr(remote_device.Visit, "take", take)


CUTS = ["connect", "send", "stage", "verify", "golden", "switch", "health", "commit"]


@pytest.mark.parametrize("end", [cut, kill], ids=["connection", "device"])
@pytest.mark.parametrize("step", CUTS)
def test_cut_at_a_step(site: Site, tiny_bundle: Path, other: Path, step: str, end: Callable[[Site], None]) -> None:
    """The old release runs or the new one does; the next deployment finishes, and nothing is left over."""

    def ended(at: str, outcome: str) -> None:
        if at == step:
            end(site)

    outcome = None
    with suppress(Unreachable, DeploymentError):
        outcome = site.deploy(other, ended)
    until(lambda: not site.processes(), seconds=60)
    assert site.runs() in {digest(tiny_bundle), digest(other)}
    assert (site.tree.current / "venv" / "bin" / "python").exists()
    if end is cut and step not in ("connect", "send"):  # what the device had begun it finished by itself
        assert release.status(site.root).committed
        assert site.runs() == digest(other)
        assert outcome  # the host asked again, and knows
        assert bundle_of(outcome.release) == digest(other)
    site.deploy(other)
    assert (site.runs(), release.status(site.root).committed) == (digest(other), True)
    assert bundle_of(release.status(site.root).previous or "") == digest(tiny_bundle)
    site.nothing_is_left()


@pytest.mark.parametrize("end", [cut, kill], ids=["connection", "device"])
@pytest.mark.parametrize("step", ["send", "unpack", "compile"])
def test_a_first_deployment_cut_at_a_step(
    bare: Site, tiny_bundle: Path, step: str, end: Callable[[Site], None]
) -> None:
    def ended(at: str, outcome: str) -> None:
        if at == step:
            end(bare)

    with suppress(Unreachable, DeploymentError):
        bare.deploy(tiny_bundle, ended)
    until(lambda: not bare.processes(), seconds=60)
    assert bare.runs() in {"", digest(tiny_bundle)}
    bare.deploy(tiny_bundle)
    assert bare.runs() == digest(tiny_bundle)
    bare.nothing_is_left()


def test_a_device_that_is_not_heard_of_again_has_not_taken_over(
    site: Site, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release may be what silenced it: that is no device that can't be reached."""
    monkeypatch.setattr(remote_device, "ALONE_SECONDS", 1.0)

    def gone(step: str, outcome: str) -> None:
        if step == "stage":
            monkeypatch.setenv(PROGRAM, "false")
            cut(site)

    with pytest.raises(DeploymentError, match="Which release it runs isn't known"):
        site.deploy(other, gone)
    until(lambda: not site.processes(), seconds=60)


def test_a_step_that_is_killed_is_known_not_to_have_taken_over(site: Site, tiny_bundle: Path, other: Path) -> None:
    def killed(step: str, outcome: str) -> None:
        if step == "verify":
            kill(site)

    with pytest.raises(DeploymentError, match=r"the connection broke, and \S+ didn't take over; \S+ runs"):
        site.deploy(other, killed)
    assert bundle_of(release.status(site.root).kept[0]) == digest(tiny_bundle)  # it may have got as far as the switch
