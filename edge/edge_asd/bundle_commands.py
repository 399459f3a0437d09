"""`edge-asd bundle ...`: look into bundles, verify them, sign them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from edge_asd import json_lines
from edge_asd.cli import CommandLine
from edge_asd.errors import CheckFailed
from edge_asd.options import Interpreter, Json

BundleFile = Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, .easd.")]


def register(line: CommandLine) -> None:
    """Add the group's commands."""
    for command in (inspect, verify, sign):
        line.group("bundle").command()(command)


def inspect(file: BundleFile, json: Json = False) -> None:
    """What is in a bundle: machine, sections, thresholds, sizes, fingerprints; with --json the manifest.

    Example: edge-asd bundle inspect fan.easd
    """
    from edge_asd import bundle as bundles

    bundle = bundles.read(file)
    if json:
        json_lines.tell(bundle.manifest)
        return
    from rich.console import Console

    from edge_asd import inspection

    console = Console()
    for table in inspection.tables(bundle.manifest, bundle.digest):
        console.print(table)


def verify(
    file: BundleFile,
    *,
    runtime: Annotated[Interpreter | None, typer.Option(help="The interpreter; whichever is installed.")] = None,
    allowed_signers: Annotated[
        Path | None, typer.Option(help="Whom to trust; FILE.sig must be by one of them, and is said by whom.")
    ] = None,
    json: Json = False,
) -> None:
    """Check every hash in a bundle, and that its golden clip scores here what it scored at export.

    With --allowed-signers the signature is checked before anything else; it is one `edge-asd bundle sign` made.

    Example: edge-asd bundle verify fan.easd
    """
    from edge_asd import bundle as bundles
    from edge_asd import golden, signing

    content, signer = bundles.content_of(file), {}
    if allowed_signers:
        signer = {"signer": signing.verify(content, signing.read(file), allowed_signers, str(file))}
    result = golden.check(bundles.decode(content, str(file)), runtime=runtime.value if runtime else None)
    if json:
        json_lines.tell({**dataclasses.asdict(result), **signer})
    else:
        if signer:
            typer.echo(f"{file}: signed by {signer['signer']}")
        agreement = "bit for bit" if result.exact else f"largest difference in the embedding {result.largest_step:.3g}"
        typer.echo(
            f"{file}: hashes agree; the golden clip scores {result.score!r} with {result.runtime}, "
            f"at export {result.expected!r} ({agreement})"
        )
    if not result.passed:
        raise CheckFailed(
            f"{file}: the golden clip scores {result.score:.6g} here and {result.expected:.6g} at export; "
            "don't use this bundle with this interpreter."
        )


def sign(
    file: BundleFile,
    *,
    key: Annotated[Path, typer.Option(help="An SSH key's file; or its .pub file, where an agent holds the key.")],
) -> None:
    """Sign a bundle with an SSH key: FILE.sig beside it, for devices that insist on one.

    The bundle is verified first. A passphrase is asked for at the terminal.

    Example: edge-asd bundle sign fan.easd --key ~/.ssh/id_ed25519
    """
    from edge_asd import signing

    typer.echo(f"{signing.sign(file, key)}: signed with {key}")
