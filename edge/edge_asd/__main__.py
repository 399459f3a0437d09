"""`python -m edge_asd` is `edge-asd`.

A worker process imports this module again, and needs nothing of the command line.
"""


def main() -> None:
    """Run `edge-asd`."""
    from edge_asd import cli

    cli.main()


if __name__ == "__main__":
    main()
