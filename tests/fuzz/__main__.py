"""`make fuzz MINUTES=30`: every door, at most so many minutes each, one by one; docs/reliability.md keeps the outcome.

What is found to be worth keeping lies in .fuzz, from where a later run goes on; what a door didn't stand lies there as
`<door>.crash-*` and the like. `--keep` puts some of it, small, into tests/fuzz/corpus.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what is to be instrumented is imported later
    from fuzz.doors import Door

CORPUS = Path(__file__).parent / "corpus"
MOST_EXECUTIONS = 10_000_000
MOST_MEMORY_MB = 2048
HANGS_SECONDS = 20  # by the wall clock, on a machine that does other things too; `contract` has the processor's
MOST_KEPT, LARGEST_KEPT = 2, 4000  # files of a door, bytes of each
INSTRUMENTED = [  # whose branches guide the fuzzer
    *("edge_asd", "edge_asd_tools", "zipfile", "tomllib", "tokenize", "numpy.lib.format", "soundfile"),
    *("waitress", "paho", "urllib.parse", "msgspec"),
]
HEADER = ("door", "executions", "minutes", "a second", "corpus", "found")


@dataclass(frozen=True)
class Fuzzed:
    """What came of a door: how often it was knocked at, for how long, what is worth keeping, what it didn't stand."""

    title: str
    executions: int
    seconds: float
    corpus: int
    found: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("doors", nargs="*", help="by name; all of them by default")
    parser.add_argument("--minutes", type=float, default=30.0, help="for each, by its weight; 0 only sums up")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"))
    parser.add_argument("--page", type=Path, help="to write the table to")
    parser.add_argument("--keep", action="store_true", help="put what is worth it into the project, and fuzz nothing")
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        _inside(*given.inside)
        return
    from fuzz.doors import doors

    every = doors()
    if unknown := set(given.doors) - every.keys():
        parser.error(f"there is no door {sorted(unknown)[0]}; doors are {', '.join(every)}")
    wanted = [every[name] for name in given.doors or every]
    if given.keep:
        for door in wanted:
            _keep(door.name, given.folder)
        return
    for door in wanted if given.minutes else ():
        sys.stdout.write(f"{door.title} ...\n")
        sys.stdout.flush()
        _fuzz(door.name, given.minutes * 60 * door.weight, given.folder)
    # Of every door what came of it last, so that one which was mended can be run alone.
    fuzzed = [found for door in every.values() if (found := _came_of(door, given.folder))]
    text = table(fuzzed)
    sys.stdout.write(text)
    if given.page:
        from edge_asd_trainer.bench import page as pages

        pages.write(given.page, "fuzz", f"{text}\n{pages.machine()}.\n", kind="made")
    sys.exit(any(one.found for one in fuzzed))


def table(fuzzed: Sequence[Fuzzed]) -> str:
    """A row for every door."""
    lines: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for one in fuzzed:
        rate = one.executions / max(one.seconds, 1.0)
        figures = (one.executions, f"{one.seconds / 60:.1f}", f"{rate:.0f}", one.corpus, one.found)
        lines.append((one.title, *(f"{figure}" for figure in figures)))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _fuzz(name: str, seconds: float, folder: Path) -> None:
    """One door in a process of its own, until its time is up, or it was knocked at often enough, or it gives way."""
    corpus, known = folder / name, CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for path in _broken(folder, name):  # of an earlier run
        path.rename(path.with_name(f"before.{path.name}"))
    options = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-runs={MOST_EXECUTIONS}",
        f"-timeout={HANGS_SECONDS}",
        f"-rss_limit_mb={MOST_MEMORY_MB}",
        f"-artifact_prefix={folder}/{name}.",
        "-print_final_stats=1",
        "-reload=0",
    ]
    folders = [str(corpus), *([str(known)] if known.is_dir() else [])]
    with (folder / f"{name}.log").open("wb") as out:
        subprocess.run([*_command(name), *options, *folders], stdout=out, stderr=out)


def _came_of(door: Door, folder: Path) -> Fuzzed | None:
    """What a door's log tells; None where it was never run, or runs."""
    log = folder / f"{door.name}.log"
    if not log.is_file():
        return None
    said = log.read_text(errors="replace")
    figures = {name: int(value) for name, value in re.findall(r"^stat::(\w+):\s*(\d+)$", said, re.MULTILINE)}
    whole = re.search(r"^Done \d+ runs in (\d+) second", said, re.MULTILINE)
    if not whole and "ERROR: libFuzzer" not in said:
        return None
    for path in (broken := _broken(folder, door.name)):
        sys.stdout.write(f"{path}, see {log}\n")
    executions = figures.get("number_of_executed_units", 0)
    return Fuzzed(
        door.title,
        executions,
        float(whole[1]) if whole else executions / max(1, figures.get("average_exec_per_sec", 1)),
        len(list((folder / door.name).iterdir())),
        max(len(broken), int(not whole)),
    )


def _broken(folder: Path, name: str) -> set[Path]:
    return {path for how in ("crash", "timeout", "oom") for path in folder.glob(f"{name}.{how}-*")}


def _keep(name: str, folder: Path) -> None:
    """The few smallest of those that together reach what all reach; what once broke the door stays in any case."""
    known = CORPUS / name
    known.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as chosen:
        command = [*_command(name), "-set_cover_merge=1", chosen, str(folder / name)]
        subprocess.run(command, capture_output=True)
        found = [path for path in Path(chosen).iterdir() if path.stat().st_size <= LARGEST_KEPT]
        for path in known.iterdir():
            if not path.name.startswith("crash-"):
                path.unlink()
        for path in sorted(found, key=lambda path: (path.stat().st_size, path.name))[-MOST_KEPT:]:
            shutil.copyfile(path, known / path.name[:12])


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "fuzz", "--inside", name]


def _inside(name: str, *arguments: str) -> None:
    """The process of a door: what it reads with is instrumented, what is right is where it begins."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from fuzz import contract
        from fuzz.doors import doors

        door = doors()[name]
        door.knock(b"")  # what is imported or made at the first time alone, is now
    options = [f"-max_len={door.longest}"]
    with TemporaryDirectory() as made:
        seeds, words = Path(made) / "seeds", Path(made) / "words"
        seeds.mkdir()
        for number, seed in enumerate(door.seeds()):
            (seeds / f"{number}").write_bytes(seed)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in door.words))
        if door.words:
            options.append(f"-dict={words}")
        contract.limit_memory()

        def mutate(content: bytes, longest: int, seed: int) -> bytes:
            random = Random(seed)
            if random.random() < 0.5:
                other = random.choice(door.mutations)(content, random)
                if other is not None and len(other) <= longest:
                    return other
            return bytes(atheris.Mutate(content, longest))

        def knock(content: bytes) -> None:
            door.knock(content)

        again = Path(made) / "again"  # how libFuzzer starts itself anew, when it chooses from a corpus
        again.write_text(f'#!/bin/sh\nexec {shlex.join(_command(name))} "$@"\n')
        again.chmod(0o755)
        atheris.Setup(
            [str(again), *options, *arguments, str(seeds)],
            knock,
            **({"custom_mutator": mutate} if door.mutations else {}),
        )
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(chr(one) if 32 <= one < 127 and chr(one) not in '"\\' else f"\\x{one:02x}" for one in word)


if __name__ == "__main__":
    main()
