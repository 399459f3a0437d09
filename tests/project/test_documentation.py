"""README, docs and --help say what the program does: every command that they show exists, with those options."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from common import ROOT
from edge_asd import errors
from edge_asd.cli import build

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "firmware_configs/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SHOWN = re.compile(r"^(?:\$ )?(edge-asd (?:[^`\n\\]|\\\n)+)", re.MULTILINE)


def commands() -> dict[str, typer.core.TyperCommand]:
    """Every command by its words, such as "data synth"."""
    found = {}
    root = typer.main.get_command(build())
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            found.update({f"{name} {sub}": one for sub, one in command.commands.items()})
        else:
            found[name] = command
    return found


def shown(page: Path) -> list[str]:
    """Every command line of a page, in blocks and in the running text."""
    block = re.compile(r"^```(?:bash|console|)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    text = page.read_text()
    lines = [line for content in block.findall(text) for line in SHOWN.findall(content)]
    return lines + re.findall(r"`(edge-asd [^`]+)`", block.sub("", text))


def check(line: str) -> None:
    """The command of a shown line exists and takes the options shown."""
    words = shlex.split(line.replace("\\\n", " "), comments=True)[1:]
    known = commands()
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
    assert name, f"there is no command like {line!r}"
    options = {option for parameter in known[name].params for option in parameter.opts}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in options, f"{line!r}: {name} has no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_exists(page: Path) -> None:
    lines = shown(page)
    assert lines or page.name == "CONTRIBUTING.md"
    for line in lines:
        check(line)


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_commands_help_has_an_example_that_is_right(name: str) -> None:
    text = commands()[name].help or ""
    [example] = re.findall(r"Example: (edge-asd [^\n]+)", text)
    assert example.startswith(f"edge-asd {name}")
    check(re.split(r"[|>]", example)[0])


def test_the_readme_knows_every_command_and_every_make_target() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in commands():
        assert f"`edge-asd {name}" in readme, f"README.md doesn't say what `edge-asd {name}` does"
    for target in re.findall(r"^(\w+): .*##", (ROOT / "Makefile").read_text(), re.MULTILINE):
        if target != "clean":
            assert f"make {target}" in readme + (ROOT / "CONTRIBUTING.md").read_text(), target


def test_the_exit_codes_in_the_documentation_are_the_error_trees() -> None:
    table = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    drawn = re.findall(r"── (\w+) +(\d+)   (.+)", errors.__doc__ or "")
    assert {name: int(code) for name, code, _ in drawn} == {
        branch.__name__: branch.exit_code for branch in errors.EdgeAsdError.__subclasses__()
    }
    assert [code for code, _ in table] == ["0", *(code for _, code, _ in drawn), str(errors.EdgeAsdError.exit_code)]
    assert table[1:-1] == [(code, meaning) for _, code, meaning in drawn]


def test_what_the_readme_links_to_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_command_line_starts_without_anything_heavy() -> None:
    """As docs/architecture.md says: a Pi waits seconds for NumPy."""
    heavy = {"numpy", "soundfile", "scipy", "matplotlib", "torch", "tensorflow"}
    program = f"import sys; from edge_asd.cli import build; build(); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
