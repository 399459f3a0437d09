"""What a refusal says, whoever's words are in it."""

from __future__ import annotations

import pickle

import pytest

from edge_asd import errors
from edge_asd.errors import BundleError, EdgeAsdError


def test_a_message_is_one_line_that_a_terminal_shows_and_obeys_in_nothing() -> None:
    said = str(BundleError("a.easd: holds\n an entry \x1b]0;owned\x07 \u202e\ud800\x85 läuft, 3 µV;\texport it again."))
    assert said == "a.easd: holds an entry ?]0;owned? ?? läuft, 3 µV; export it again."


def test_a_message_is_bounded_and_keeps_what_was_found_and_how_to_mend_it() -> None:
    said = str(BundleError(f"a.easd: has no key {'x' * 10**6}; export the bundle again."))
    assert len(said) == errors.LONGEST_MESSAGE
    assert said.startswith("a.easd: has no key xxx")
    assert said.endswith("xxx; export the bundle again.")


@pytest.mark.parametrize("kind", [EdgeAsdError, BundleError, errors.NotAdmitted])
def test_a_worker_hands_it_on(kind: type[EdgeAsdError]) -> None:
    error = pickle.loads(pickle.dumps(kind("a\x1b: no.")))  # noqa: S301 - of this very test
    assert (type(error), str(error)) == (kind, "a?: no.")
