"""`edge-asd data download` and `edge-asd data check`: the commands.

They stand outside the package `data`, which imports NumPy: the command line starts without it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from edge_asd.errors import CheckFailed, UsageError
from edge_asd.requirements import extra


class DataSet(StrEnum):
    """What can be downloaded."""

    DCASE2022 = "dcase2022"


class Half(StrEnum):
    """The challenge's two halves."""

    DEV = "dev"
    EVAL = "eval"
    ALL = "all"


def download(
    data_set: Annotated[DataSet, typer.Argument(help="DCASE 2022 Task 2, from Zenodo.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; a download that broke off goes on there.")],
    machine: Annotated[
        list[str] | None,
        typer.Option(help="ToyCar, ToyTrain, bearing, fan, gearbox, slider or valve; repeatable. By default all."),
    ] = None,
    half: Annotated[Half, typer.Option(help="The development or the evaluation half.")] = Half.ALL,
    *,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Leave the zips in OUT/archives once they are unpacked.")
    ] = False,
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="A mirror with Zenodo's paths (/records/<number>/files/...).")
    ] = "https://zenodo.org",
) -> None:
    """Fetch a data set, verify and unpack it: OUT/dev_data and OUT/eval_data, <machine>/{train,test} in each.

    A half of all machine types is some 8 GB. What is there already is left alone, a transfer that broke off goes on
    where it ended, and the environment's proxy is used (HTTPS_PROXY).

    Example: edge-asd data download dcase2022 DATA --machine fan --half dev
    """
    _refuse_no_address(source)
    with extra("train"):
        from edge_asd_trainer.data import dcase2022
    wanted = dcase2022.sources(machine or (), half.value)
    dcase2022.download(out, wanted, base=source, keep_archives=keep_archives)
    typer.echo(f"{out}: all that was asked for of {data_set.value} is there.")


def check(
    data: Annotated[Path, typer.Argument(help="Folder of the data set: DATA/<machine>/{train,test}/*.wav")],
    machine: Annotated[list[str] | None, typer.Option(help="Machine type; repeatable. By default all.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Everything that was found, on standard output.")] = False,
) -> None:
    """Say what is wrong with recordings before they are trained on, clip by clip, and what there is.

    Errors are what training would refuse: the exit code is 1. Warnings are what would make the detector worse.

    Example: edge-asd data check DATA --machine fan
    """
    import msgspec

    from edge_asd_trainer.data import check as checks
    from edge_asd_trainer.data.check_report import as_text, verdict

    report = checks.check(data, machine or ())
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=1))
    else:
        typer.echo(as_text(report))
    if report.errors:
        raise CheckFailed(f"{data}: {verdict(report)} Mend what is named above and check again.")


def _refuse_no_address(url: str) -> None:
    """Raises: UsageError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"--from {url}: not an address to download from; expected one like https://zenodo.org.")
