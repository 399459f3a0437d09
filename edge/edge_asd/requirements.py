"""What isn't installed, and which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_asd.errors import MissingRequirement


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports inside need the extra of this name. Raises: MissingRequirement, naming both package and extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingRequirement(
            f"this command needs {error.name}, which isn't installed here; "
            f"install it with: pip install 'edge-asd[{name}]'"
        ) from error
