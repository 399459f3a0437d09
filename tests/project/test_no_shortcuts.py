"""In no room is anything done by which a stranger's bytes become code: read from the syntax of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import ROOT

ROOMS = ("edge/edge_asd", "tools/edge_asd_tools", "trainer/edge_asd_trainer")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
NEVER_IMPORTED = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml", "telnetlib", "ftplib"}
NEVER_CALLED = {
    *("eval", "exec", "compile", "__import__", "input"),
    *("os.system", "os.popen", "os.execl", "os.spawnl", "pty.spawn", "tempfile.mktemp"),
    *("pickle.load", "pickle.loads", "np.fromfile", "subprocess.getoutput", "subprocess.getstatusoutput"),
}


def called(node: ast.Call) -> str:
    """The name of what is called, such as np.load."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def faults(text: str) -> Iterator[str]:
    """What is in a module that none should have."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in NEVER_IMPORTED)
        if not isinstance(node, ast.Call):
            continue
        name, said = called(node), {word.arg: word.value for word in node.keywords}

        def says(argument: str, value: object, said: dict[str | None, ast.expr] = said) -> bool:
            found = said.get(argument)
            return isinstance(found, ast.Constant) and found.value is value

        last = name.rpartition(".")[2]
        if name in NEVER_CALLED:
            yield f"calls {name}"
        if "shell" in said and not says("shell", False):
            yield f"gives {name} a shell"
        if name == "torch.load" and not says("weights_only", True):
            yield "torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and not says("allow_pickle", False):
            yield f"{name} without allow_pickle=False"
        if last in ("extractall", "extract", "unpack_archive"):
            yield f"unpacks whatever an archive says: {name}"
        if last in ("_create_unverified_context", "tls_insecure_set") or says("check_hostname", False):
            yield f"doesn't look who answers: {name}"
        if says("verify", False):
            yield f"doesn't verify: {name}"
        if last == "Environment" and not says("autoescape", True):
            yield "a template that escapes nothing"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_takes_no_shortcut(path: Path) -> None:
    assert list(faults(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from marshal import loads",
        "import yaml.loader",
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.Popen(words, shell=wanted)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "tarfile.open(path).extractall(folder)",
        "zipfile.ZipFile(path).extract(name)",
        "client.tls_insecure_set(True)",
        "requests.get(url, verify=False)",
        "Environment(loader=loader)",
    ],
)
def test_a_shortcut_is_seen(line: str) -> None:
    assert len(list(faults(line))) == 1


def test_all_rooms_are_looked_at() -> None:
    assert len(MODULES) > 200


def test_what_is_run_on_a_bare_device_is_our_own_text() -> None:
    """The one `exec`: in the words that begin a visit, which stand in a string and run on the device."""
    found = [path for path in MODULES if "exec(compile(" in path.read_text()]
    assert [path.name for path in found] == ["visit.py"]
    assert (ROOT / "tools/edge_asd_tools/deploy/visit.py").read_text().count("exec(") == 1
