"""A deployment as a transaction: what it leaves behind when it is done, refused, rolled back or cut off."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
import soundfile

from edge_asd import bundle, config, files, golden, release, release_checks, release_steps, release_tree
from edge_asd.errors import BundleError, CheckFailed, ConfigError, DeploymentError, StorageError
from edge_asd.release import Provision
from edge_asd.release_tree import Release, Tree, linked, locked
from edge_asd.scoring import StreamScorer
from simulated_device import CONFIG, PASSES, REAL, SimulatedDevice, differing, release_id, simulated, snapshot


@pytest.fixture
def device(tmp_path: Path) -> SimulatedDevice:
    """Without real arithmetic: fast."""
    return SimulatedDevice(tmp_path / "device", simulated(tmp_path / "venv"))


@pytest.fixture
def real_device(tmp_path: Path) -> SimulatedDevice:
    """One whose releases run in the environment of these tests."""
    return SimulatedDevice(tmp_path / "device", REAL)


@pytest.fixture
def bundles(tiny_bundle: Path, tmp_path: Path) -> list[Path]:
    return differing(tiny_bundle, tmp_path)


def with_golden_score(path: Path, score: float, to: Path) -> Path:
    """The same bundle, well-formed, whose golden clip is said to have scored something else."""
    whole = bundle.read(path)
    golden = msgspec.structs.replace(whole.manifest.golden, score=score)
    bundle.write(to, replace(whole, manifest=msgspec.structs.replace(whole.manifest, golden=golden)))
    return to


def test_first_deployment(real_device: SimulatedDevice, tiny_bundle: Path) -> None:
    steps: list[str] = []
    deployed = real_device.deploy(tiny_bundle, lambda step, outcome: steps.append(step))
    tree = real_device.tree
    assert deployed == release.Deployed(release_id(tiny_bundle), None, changed=True)
    assert steps == ["stage", "verify", "golden", "switch", "health", "commit"]
    assert (tree.current / "bundle.easd").read_bytes() == tiny_bundle.read_bytes()
    assert os.readlink(tree.current) == f"releases/{deployed.current}"
    assert msgspec.json.decode((tree.current / "release.json").read_bytes())["sections"] == ["00", "01"]
    assert config.load(tree.config).bundle.read_bytes() == tiny_bundle.read_bytes()
    assert tree.state.is_dir()
    assert list(tree.state.iterdir()) == []
    assert release.status(real_device.root) == release.Installed(deployed.current, True, None, (deployed.current,))


def test_the_release_runs_by_its_own_interpreter(real_device: SimulatedDevice, tiny_bundle: Path) -> None:
    real_device.deploy(tiny_bundle)
    python = real_device.tree.current / "venv" / "bin" / "python"
    command = [python, "-I", "-c", "import edge_asd, sys; print(sys.prefix)"]
    prefix = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout.strip()
    assert Path(prefix) == real_device.tree.current / "venv"


def test_the_same_bundle_again_changes_nothing(device: SimulatedDevice, bundles: list[Path]) -> None:
    device.deploy(bundles[0])
    before = snapshot(device.root)
    steps: list[str] = []
    again = device.deploy(bundles[0], lambda step, outcome: steps.append(step))
    assert not again.changed
    assert steps == ["unchanged"]
    assert snapshot(device.root) == before


def test_the_release_before_is_kept_and_no_more_than_three(device: SimulatedDevice, bundles: list[Path]) -> None:
    ids = [device.deploy(path).current for path in bundles]
    tree = device.tree
    assert os.readlink(tree.previous) == f"releases/{ids[3]}"
    assert release.status(device.root).kept == (ids[4], ids[3], ids[2])
    assert {folder.name for folder in tree.releases.iterdir()} == set(ids[2:])


def test_the_bundle_before_can_be_deployed_again(device: SimulatedDevice, bundles: list[Path]) -> None:
    first, second = (device.deploy(path).current for path in bundles[:2])
    assert device.deploy(bundles[0]) == release.Deployed(first, second, changed=True)


def test_rollback_goes_back_and_forth(real_device: SimulatedDevice, bundles: list[Path]) -> None:
    first, second = (real_device.deploy(path).current for path in bundles[:2])
    assert release.rollback(real_device.root) == release.Deployed(first, second, changed=True)
    assert release.status(real_device.root) == release.Installed(first, True, second, (first, second))
    assert release.rollback(real_device.root).current == second


def test_there_may_be_nothing_to_go_back_to(device: SimulatedDevice, bundles: list[Path]) -> None:
    with pytest.raises(DeploymentError, match="nothing was ever deployed"):
        release.rollback(device.root)
    assert not device.root.exists()
    device.deploy(bundles[0])
    with pytest.raises(DeploymentError, match="is the only release"):
        release.rollback(device.root)


def test_a_broken_bundle_is_refused_and_the_old_one_stays(
    device: SimulatedDevice, bundles: list[Path], tmp_path: Path
) -> None:
    device.deploy(bundles[0])
    before = snapshot(device.root)
    content = bytearray(bundles[1].read_bytes())
    content[len(content) // 2] ^= 1
    broken = tmp_path / "broken.easd"
    broken.write_bytes(content)
    with pytest.raises(BundleError):
        device.deploy(broken)
    assert snapshot(device.root) == before


def test_a_card_that_writes_something_else_is_noticed(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = device.deploy(bundles[0]).current
    honest = release_steps.stage

    def stage(*arguments: object) -> object:
        staged = honest(*arguments)
        content = bytearray(staged.bundle.read_bytes())
        content[-1000] ^= 1
        staged.bundle.write_bytes(content)
        return staged

    monkeypatch.setattr(release_steps, "stage", stage)
    with pytest.raises(DeploymentError, match=f"was refused: .*Now {old} runs as before"):
        device.deploy(bundles[1])


def test_another_golden_score_is_refused(real_device: SimulatedDevice, tiny_bundle: Path, tmp_path: Path) -> None:
    old = real_device.deploy(tiny_bundle).current
    before = snapshot(real_device.root)
    wrong = with_golden_score(tiny_bundle, 0.5, tmp_path / "wrong.easd")
    with pytest.raises(DeploymentError, match=f"was refused: the golden clip did not pass.*Now {old} runs as before"):
        real_device.deploy(wrong)
    assert snapshot(real_device.root) == before


@pytest.mark.parametrize(
    ("golden", "complaint"),
    [
        ("exit 3", "did not pass: it said nothing"),
        ("echo Segmentation fault >&2; exit 139", "Segmentation fault"),
        ("echo all is well", "was not scored"),
        (PASSES.replace("true", "false"), "the golden clip scores 1, at export 1"),
    ],
)
def test_what_counts_as_a_golden_clip(
    device: SimulatedDevice, bundles: list[Path], tmp_path: Path, golden: str, complaint: str
) -> None:
    broken = replace(device, environment=simulated(tmp_path / "broken", golden=golden))
    with pytest.raises(DeploymentError, match=f"{complaint}.*Now no release runs"):
        broken.deploy(bundles[0])
    assert not device.tree.config.exists()
    assert list(device.tree.releases.iterdir()) == []


@pytest.mark.parametrize(
    ("health", "complaint"),
    [
        ("echo no microphone >&2; exit 9", "left with code 9: no microphone"),
        ("true", "scored nothing"),
    ],
)
def test_a_release_that_is_not_healthy_is_rolled_back_by_itself(
    device: SimulatedDevice, bundles: list[Path], tmp_path: Path, health: str, complaint: str
) -> None:
    old = device.deploy(bundles[0]).current
    before = snapshot(device.root)
    sick = replace(device, environment=simulated(tmp_path / "sick", health=health))
    with pytest.raises(DeploymentError, match=f"was rolled back: .*{complaint}.*Now {old} runs again"):
        sick.deploy(bundles[1])
    assert snapshot(device.root) == before
    new = device.deploy(bundles[1])
    assert (new.current, new.previous) == (release_id(bundles[1]), old)


def test_a_daemon_without_a_score_is_not_healthy(device: SimulatedDevice, bundles: list[Path], tmp_path: Path) -> None:
    sick = replace(device, environment=simulated(tmp_path / "sick", scores=0))
    with pytest.raises(DeploymentError, match=r"was rolled back.*scored nothing.*Now no release runs"):
        sick.deploy(bundles[0])
    assert not device.tree.current.is_symlink()
    assert not device.tree.config.exists()


def test_health_is_that_of_the_sites_settings(real_device: SimulatedDevice, tiny_bundle: Path) -> None:
    """The daemon runs under them, so what doesn't work in them is found here."""
    real_device.deploy(tiny_bundle)
    tree = real_device.tree
    assert release_checks.health(tree, tree.release(release_id(tiny_bundle))) > 30
    tree.config.write_text(CONFIG.replace('"00"', '"99"'))
    with pytest.raises(CheckFailed, match=r"left with code 3.*'99'"):
        release_checks.health(tree, tree.release(release_id(tiny_bundle)))


@pytest.mark.parametrize("seconds", [2.1, 5.0, 10.0])
def test_a_golden_clip_of_any_length_is_repeated_until_a_stream_scores_it(tiny_bundle: Path, seconds: float) -> None:
    heard = bundle.read(tiny_bundle)
    cut = io.BytesIO()
    soundfile.write(cut, golden.waveform(heard)[: int(seconds * 16000)], 16000, format="WAV", subtype="PCM_16")
    sound = release_checks.long_enough(dataclasses.replace(heard, golden_wav=cut.getvalue()))
    samples, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    assert rate == 16000
    assert StreamScorer(heard.detector(), "00").push(samples)


def test_the_sites_settings_survive(device: SimulatedDevice, bundles: list[Path]) -> None:
    site = CONFIG.replace("# ours", "# theirs").replace('"00"', '"01"')
    device.tree.config.parent.mkdir(parents=True)
    device.tree.config.write_text(site)
    event = device.tree.state / "events.sqlite"
    event.parent.mkdir(parents=True)
    event.write_bytes(b"kept")
    for path in bundles[:2]:
        device.deploy(path)
    release.rollback(device.root)
    assert device.tree.config.read_text() == site
    assert event.read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('section = "00"', 'section = "07"', "names section '07', the bundle has 00, 01"),
        ('section = "00"', "", "names no section"),
        ("/current/", "/elsewhere/", "no deployment would be heard"),
        ('command = ["a-recorder-that-is-nowhere"]', "rate = -1", "capture"),
        ("[capture]", "[capture", "is not TOML"),
    ],
)
def test_settings_that_the_bundle_does_not_fit_are_refused_before_the_switch(
    device: SimulatedDevice, bundles: list[Path], before: str, after: str, complaint: str
) -> None:
    old = device.deploy(bundles[0]).current
    device.tree.config.write_text(CONFIG.replace(before, after))
    with pytest.raises(DeploymentError, match=f"was refused: .*{complaint}.*Now {old} runs as before"):
        device.deploy(bundles[1])
    assert os.readlink(device.tree.current) == f"releases/{old}"
    with pytest.raises((DeploymentError, ConfigError), match=complaint):
        release.plan(device.root, bundles[1], device.given)


def test_a_plan_changes_nothing_and_says_what_would(device: SimulatedDevice, bundles: list[Path]) -> None:
    first = release.plan(device.root, bundles[0], device.given)
    assert not device.root.exists()
    assert [line.split()[0] for line in first] == ["write", "write", "switch"]
    device.deploy(bundles[0])
    before = snapshot(device.root)
    assert release.plan(device.root, bundles[0], device.given) == []
    second = "\n".join(release.plan(device.root, bundles[1], device.given))
    assert snapshot(device.root) == before
    assert f"{release_id(bundles[0])} -> {release_id(bundles[1])}" in second
    assert "device.toml" not in second


def test_an_editors_swap_file_is_nobodys_leftover(device: SimulatedDevice, bundles: list[Path]) -> None:
    swap = device.tree.config.with_name(".device.toml.swp")
    swap.parent.mkdir(parents=True)
    swap.write_bytes(b"")
    device.deploy(bundles[0])
    assert swap.exists()


def test_two_deployments_keep_apart(device: SimulatedDevice, bundles: list[Path]) -> None:
    device.deploy(bundles[0])
    before = snapshot(device.root)
    with locked(device.tree), pytest.raises(DeploymentError, match="another deployment is at work"):
        device.deploy(bundles[1])
    assert snapshot(device.root) == before
    assert device.deploy(bundles[1]).changed


def test_a_damaged_release_is_mended_by_its_own_bundle(device: SimulatedDevice, bundles: list[Path]) -> None:
    current = device.deploy(bundles[0]).current
    kept = device.tree.release(current)
    kept.bundle.write_bytes(b"rotten")
    kept.environment.unlink()
    kept.environment.symlink_to("/nowhere")
    assert device.deploy(bundles[0]).changed
    assert kept.bundle.read_bytes() == bundles[0].read_bytes()
    assert kept.python.exists()


def test_a_damaged_record_is_not_guessed_at(device: SimulatedDevice, bundles: list[Path]) -> None:
    device.deploy(bundles[0])
    for content in ("{", '{"releases": ["../../etc"]}', '{"releases": 1}'):
        device.tree.record.write_text(content)
        before = snapshot(device.root)
        with pytest.raises(DeploymentError, match="can't be understood"):
            device.deploy(bundles[1])
        assert snapshot(device.root) == before


def test_a_record_that_is_lost_is_not_guessed_at(device: SimulatedDevice, bundles: list[Path]) -> None:
    device.deploy(bundles[0])
    device.tree.record.unlink()
    before = snapshot(device.root)
    with pytest.raises(DeploymentError, match="is gone, though there are releases; write into it the id"):
        device.deploy(bundles[1])
    assert snapshot(device.root) == before


def test_another_environment_is_a_change(device: SimulatedDevice, bundles: list[Path], tmp_path: Path) -> None:
    device.deploy(bundles[0])
    newer = simulated(tmp_path / "newer")
    assert replace(device, environment=newer).deploy(bundles[0]).changed
    assert (device.tree.current / "venv").resolve() == newer
    before = snapshot(device.root)
    sick = replace(device, environment=simulated(tmp_path / "sick", golden="exit 3"))
    with pytest.raises(DeploymentError, match=r"did not pass.* runs as before"):
        sick.deploy(bundles[0])
    assert snapshot(device.root) == before


def test_settings_that_are_gone_are_written_again(device: SimulatedDevice, bundles: list[Path], tmp_path: Path) -> None:
    device.deploy(bundles[0])
    device.tree.config.unlink()
    assert release.plan(device.root, bundles[0], device.given) == [
        f"write {device.tree.config}, the site's own from then on"
    ]
    before = snapshot(device.root)
    sick = replace(device, environment=simulated(tmp_path / "sick", health="exit 9"))
    with pytest.raises(DeploymentError, match="left with code 9"):
        sick.deploy(bundles[0])
    assert snapshot(device.root) == before
    assert device.deploy(bundles[0]).changed
    assert device.tree.config.read_text() == CONFIG


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), StorageError("the disk is full")])
def test_a_disk_that_fills_up_is_a_storage_error(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    device.deploy(bundles[0])
    before = snapshot(device.root)

    def full(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(release_steps.files, "write_bytes", full)
    with pytest.raises(StorageError, match=r"was refused: .*[Nn]o space left|was refused: the disk is full"):
        device.deploy(bundles[1])
    assert snapshot(device.root) == before


def test_an_environment_must_be_one(device: SimulatedDevice, bundles: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="has no bin/python"):
        replace(device, environment=tmp_path).deploy(bundles[0])


def test_a_root_that_can_not_be_written_is_a_storage_error(bundles: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        release.activate(tmp_path / "file", bundles[0], Provision(REAL, CONFIG))


STEPS = [
    (release_steps, "stage"),
    (release_steps, "verify"),
    (release_steps, "check_site"),
    (release_checks, "golden"),
    (release_steps, "switch"),
    (release_checks, "health"),
    (release_steps, "commit"),
    (release_steps, "tidy"),
]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("module", "step"), STEPS, ids=[step for _, step in STEPS])
def test_interrupted_at_a_step(
    device: SimulatedDevice,
    bundles: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    step: str,
    before: bool,
) -> None:
    """Ctrl-C: the old release is back at once, or the new one has been committed."""
    old = device.deploy(bundles[0]).current
    new = release_id(bundles[1])
    honest: Callable[..., object] = getattr(module, step)

    def interrupted(*arguments: object, **named: object) -> object:
        if not before:
            honest(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            device.deploy(bundles[1])
    committed = step == "tidy" or (step == "commit" and not before)
    assert release.status(device.root).current == (new if committed else old)
    assert release.status(device.root).committed
    device.deploy(bundles[1])
    assert release.status(device.root) == release.Installed(new, True, old, (new, old))
    assert sorted(os.listdir(device.tree.releases)) == sorted([old, new])


@dataclass
class Recorder:
    """A service that says what was asked of it, and where `current` led then; `sick`: what it never proves."""

    sick: str = ""
    lacking: bool = False
    account: str | None = None
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)

    def _note(self, what: str, tree: Tree) -> None:
        self.asked.append((what, linked(tree.current)))

    def lacks(self, tree: Tree) -> list[str]:
        return ["start it"] if self.lacking else []

    def provide(self, tree: Tree) -> None:
        self._note("provide", tree)

    def start(self, tree: Tree) -> None:
        self._note("start", tree)

    def prove(self, tree: Tree, release: Release) -> str:
        self._note("prove", tree)
        if release.id == self.sick:
            raise CheckFailed("no window was scored")
        return "scored"

    def withdraw(self, tree: Tree) -> None:
        self._note("withdraw", tree)

    def look_again(self, tree: Tree) -> None:
        self._note("look again", tree)


def test_what_listens_follows_the_release(device: SimulatedDevice, bundles: list[Path]) -> None:
    service = Recorder()
    first, second = map(release_id, bundles[:2])
    release.activate(device.root, bundles[0], device.given, service=service)
    assert service.asked == [("provide", None), ("start", first), ("prove", first)]
    service.asked.clear()
    release.activate(device.root, bundles[0], device.given, service=service)
    assert service.asked == []
    service.lacking = True  # somebody has stopped it
    assert release.activate(device.root, bundles[0], device.given, service=service).changed
    assert service.asked == [("provide", first), ("start", first), ("prove", first)]
    service.asked.clear()
    service.sick = second
    with pytest.raises(DeploymentError, match=rf"was rolled back: no window was scored\. Now {first} runs again"):
        release.activate(device.root, bundles[1], device.given, service=service)
    assert service.asked == [("provide", first), ("start", second), ("prove", second), ("start", first)]
    assert not device.tree.switching.exists()


def test_a_first_release_that_is_sick_leaves_nothing_that_listens(device: SimulatedDevice, bundles: list[Path]) -> None:
    service = Recorder(sick=release_id(bundles[0]))
    with pytest.raises(DeploymentError, match="Now no release runs"):
        release.activate(device.root, bundles[0], device.given, service=service)
    assert service.asked[-1] == ("withdraw", None)
    assert not device.tree.config.exists()


def test_what_was_killed_after_the_switch_is_put_right_by_the_next_one(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service of the release that nobody proved still runs, and must not any more when the next one is refused."""
    first = device.deploy(bundles[0]).current
    with monkeypatch.context() as patch:
        patch.setattr(release_steps, "commit", lambda *_: os._exit(9))  # killed: nothing is taken back
        if not (child := os.fork()):
            release.activate(device.root, bundles[1], device.given, service=Recorder())
        os.waitpid(child, 0)
    assert linked(device.tree.current) == release_id(bundles[1])
    service = Recorder()
    with pytest.raises(DeploymentError, match=r"has no bin/python.*runs as before"):
        release.activate(device.root, bundles[2], Provision(tmp_path, CONFIG), service=service)
    assert service.asked[0] == ("start", first)
    assert linked(device.tree.current) == first


def test_a_bundle_on_trial(device: SimulatedDevice, bundles: list[Path]) -> None:
    service = Recorder()
    with pytest.raises(DeploymentError, match="nothing was ever deployed"):
        release.shadow(device.root, bundles[1], device.given, service=service)
    device.deploy(bundles[0])
    before = snapshot(device.root)
    first, second = map(release_id, bundles[:2])
    assert release.shadow(device.root, bundles[1], device.given, service=service).changed
    assert service.asked == [("provide", first), ("look again", first)]
    assert linked(device.tree.shadow) == second
    assert release.status(device.root) == release.Installed(first, True, None, (first,), second)
    assert not release.shadow(device.root, bundles[1], device.given, service=service).changed
    assert not release.shadow(device.root, bundles[0], device.given, service=service).changed  # it runs
    release.drop(device.root, service=service)
    assert snapshot(device.root) == before
    with pytest.raises(DeploymentError, match="no bundle is tried"):
        release.drop(device.root, service=service)
    with pytest.raises(DeploymentError, match="no bundle is tried"):
        release.promote(device.root, service=service)


def test_a_trial_lasts_while_releases_come_and_go(device: SimulatedDevice, bundles: list[Path]) -> None:
    device.deploy(bundles[0])
    release.shadow(device.root, bundles[4], device.given)
    for path in bundles[1:4]:
        device.deploy(path)
    assert linked(device.tree.shadow) == release_id(bundles[4])
    promoted = release.promote(device.root)
    assert promoted == release.Deployed(release_id(bundles[4]), release_id(bundles[3]), changed=True)
    assert release.status(device.root).shadow is None
    assert not device.tree.shadow.is_symlink()
    assert len(list(device.tree.releases.iterdir())) == 3


def test_a_trial_that_is_deployed_is_none_any_more(device: SimulatedDevice, bundles: list[Path]) -> None:
    device.deploy(bundles[0])
    release.shadow(device.root, bundles[1], device.given)
    device.deploy(bundles[1])
    assert release.status(device.root).shadow is None


def test_a_trial_that_computes_otherwise_is_refused(
    device: SimulatedDevice, bundles: list[Path], tmp_path: Path
) -> None:
    device.deploy(bundles[0])
    before = snapshot(device.root)
    environment = device.tree.release(release_id(bundles[0])).environment
    environment.unlink()
    environment.symlink_to(simulated(tmp_path / "broken", golden="exit 3"))
    with pytest.raises(DeploymentError, match="was refused"):
        release.shadow(device.root, bundles[1], device.given)
    assert snapshot(device.root).keys() == before.keys()


def test_a_trial_is_of_the_same_machine(device: SimulatedDevice, bundles: list[Path], tmp_path: Path) -> None:
    device.deploy(bundles[0])
    whole = bundle.read(bundles[1])
    bundle.write(bundles[1], replace(whole, manifest=msgspec.structs.replace(whole.manifest, machine="pump")))
    with pytest.raises(DeploymentError, match="is of a pump, what runs is of a fan"):
        release.shadow(device.root, bundles[1], device.given)


def test_runtimes_that_no_release_runs_in_are_removed(device: SimulatedDevice, bundles: list[Path]) -> None:
    """Those that travelled to a device are its own; one that is about to be deployed is none of the leftovers."""
    runtimes = device.tree.runtimes
    named = {}
    for number, path in enumerate(bundles):
        environment = simulated(runtimes / f"{number:08x}{0:08x}")
        named[path] = environment
        release.activate(device.root, path, Provision(environment, CONFIG))
    assert sorted(folder.name for folder in runtimes.iterdir()) == [f"{number:08x}{0:08x}" for number in (2, 3, 4)]
    assert {folder.name for folder in device.tree.releases.iterdir()} == {
        f"{release_id(path)}.{named[path].name[:8]}" for path in bundles[2:]
    }
    newer = simulated(runtimes / "ffffffff00000000")
    again = release.activate(device.root, bundles[4], Provision(newer, CONFIG))
    assert again.changed  # the same bundle in another runtime is another release
    assert again.previous == f"{release_id(bundles[4])}.00000004"


def test_a_removal_that_broke_off_leaves_nothing_that_looks_whole(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of removing a runtime: the next deployment doesn't take the rest for one."""
    runtimes = device.tree.runtimes
    first = simulated(runtimes / "00000001aaaaaaaa")
    for path in bundles[:3]:
        release.activate(device.root, path, Provision(first, CONFIG))
    simulated(runtimes / "00000003aaaaaaaa")  # nobody's
    second = simulated(runtimes / "00000002aaaaaaaa")

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(release_tree.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            release.activate(device.root, bundles[3], Provision(second, CONFIG))
    assert "00000003aaaaaaaa" not in {path.name for path in runtimes.iterdir()}
    release.activate(device.root, bundles[3], Provision(second, CONFIG))
    assert {path.name for path in runtimes.iterdir()} == {first.name, second.name}


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTEMPTY])
def test_what_a_killed_deployment_started_may_write_on_for_a_moment(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Its health check lives on, and changes the folder while the next deployment removes it."""
    left = device.tree.home / ".health-1"
    (left / "state").mkdir(parents=True)
    (left / "state" / "status.json").write_text("{}")
    attempts, remove = [], shutil.rmtree

    def while_it_writes(folder: Path) -> None:
        attempts.append(folder)
        if len(attempts) in (1, 2):
            raise OSError(number, os.strerror(number), str(folder))
        remove(folder)

    monkeypatch.setattr(release_tree.shutil, "rmtree", while_it_writes)
    assert device.deploy(bundles[0]).changed
    assert attempts[:3] == [left] * 3
    assert not left.exists()


def test_a_folder_that_never_gets_empty_is_not_waited_for_without_end(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (device.tree.home / ".health-1").mkdir(parents=True)

    def in_vain(folder: Path) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))

    monkeypatch.setattr(release_tree, "_WRITES_ON_SECONDS", 0.3)
    monkeypatch.setattr(release_tree.shutil, "rmtree", in_vain)
    with pytest.raises(StorageError, match="Directory not empty"):
        device.deploy(bundles[0])


def test_a_first_deployment_that_broke_off_takes_its_settings_back(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(release_steps, "commit", lambda *_: os._exit(9))
        if not (child := os.fork()):
            device.deploy(bundles[0])
        os.waitpid(child, 0)
    assert device.tree.config.exists()
    other = CONFIG.replace('"00"', '"01"')
    release.activate(device.root, bundles[0], Provision(device.environment, other))
    assert device.tree.config.read_text() == other


def test_the_environment_may_be_named_by_its_link(device: SimulatedDevice, bundles: list[Path]) -> None:
    """`sudo /opt/edge-asd/current/venv/bin/edge-asd release activate` is the same release as the workstation's."""
    environment = simulated(device.tree.runtimes / "00000001aaaaaaaa")
    release.activate(device.root, bundles[0], Provision(environment, CONFIG))
    by_link = Provision(device.tree.current / "venv", CONFIG)
    assert not release.activate(device.root, bundles[0], by_link).changed
    assert release.activate(device.root, bundles[1], by_link).current == f"{release_id(bundles[1])}.00000001"


def test_going_back_needs_no_space(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full once the release is switched, and takes no link, when that turns out to be sick."""
    _, old = (device.deploy(path).current for path in bundles[:2])
    service = Recorder(sick=release_id(bundles[2]))
    link = Path.symlink_to

    def full(self: Path, target: Path) -> None:
        if service.asked[1:]:  # it is started, or was
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        link(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", full)
        with pytest.raises(DeploymentError, match=rf"was rolled back: no window was scored.*Now {old} runs again"):
            release.activate(device.root, bundles[2], device.given, service=service)
    assert service.asked[-1] == ("start", old)
    assert release.status(device.root).committed
    assert not device.tree.switching.exists()
    assert device.deploy(bundles[2]).previous == old


def test_what_is_committed_is_done_though_the_old_one_can_not_be_removed(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in bundles[:3]:
        device.deploy(path)
    said = []

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(release_tree, "_remove", full)
        assert device.deploy(bundles[3], lambda step, outcome: said.append((step, outcome))).changed
    assert said[-1] == ("tidy", "what is left over is removed by the next deployment (No space left on device)")
    assert release.status(device.root).current == release_id(bundles[3])
    device.deploy(bundles[4])
    assert len(list(device.tree.releases.iterdir())) == 3


def test_who_may_read_the_settings_is_synced_with_them(
    device: SimulatedDevice, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves a file that its owner alone may read, and the daemon isn't its owner."""
    modes = []
    sync = files.sync

    def sync_and_look(path: Path) -> None:
        sync(path)
        if path.name.startswith(".device.toml."):
            modes.append(path.stat().st_mode & 0o777)

    monkeypatch.setattr(files, "sync", sync_and_look)
    device.deploy(bundles[0])
    assert modes[0] == 0o644
