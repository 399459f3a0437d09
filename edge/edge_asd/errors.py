"""Every way in which edge-asd refuses to go on, as one tree; each branch has its exit code.

    EdgeAsdError            70   never raised itself: the code that an unforeseen exception leaves with
    ├── CheckFailed          1   a verdict or a check came out negative; nothing is broken
    ├── UsageError           2   the command was called wrongly
    ├── ConfigError          3   a configuration file says something that can't be
    ├── DataError            4   a clip or a data set can't be used
    │   ├── ClipError              one sound file: unreadable, empty, too short, NaN
    │   └── ClipNameError          its name doesn't say section, domain or label
    ├── BundleError          5   a bundle can't be verified, or isn't for this program
    │   └── SignatureError         nobody whom this device trusts signed it, or it is older than the one that runs
    ├── MissingRequirement   6   a package or a program isn't installed
    ├── StorageError         7   a disk is full, read-only or broken
    ├── DeploymentError      8   a release was refused or rolled back
    ├── CaptureError         9   the microphone, or what stands for it, gave up
    ├── TrainingError       10   training or export did not give a usable result
    ├── DownloadError       11   a download failed, or brought something that is refused
    └── Unreachable         12   a device can't be reached
        └── NotAdmitted            it doesn't let us in, or isn't the host that it was

A message is one sentence or two: what was found, what was expected, where, and how to mend it. Some of what was found
is a stranger's, so that every message is made one line of bounded length, without what only a terminal understands.
The command line prints it on one line and leaves with the branch's code (`edge_asd.ending`). An exception from outside
this tree is a fault in the program: its traceback is printed.
"""

from __future__ import annotations

from edge_asd.plain import plain

LONGEST_MESSAGE = 1000  # characters
_LONGEST_END = 300  # of them, of what is left of a longer one's end, which says how to mend it


class EdgeAsdError(Exception):
    """The root: whatever edge-asd raises on purpose. Never raised itself."""

    exit_code: int = 70

    def __init__(self, message: str) -> None:
        """What a person is told; whatever is in it, that is one line."""
        words = plain(" ".join(line.strip() for line in message.replace("\t", " ").splitlines()).strip())
        if len(words) > LONGEST_MESSAGE:
            words = f"{words[: LONGEST_MESSAGE - _LONGEST_END - 5]} ... {words[-_LONGEST_END:]}"
        super().__init__(words)


class CheckFailed(EdgeAsdError):
    """A verdict or a check came out negative; the program itself works."""

    exit_code = 1


class UsageError(EdgeAsdError):
    """The command was called wrongly."""

    exit_code = 2


class ConfigError(EdgeAsdError):
    """A configuration file or option holds a value that can't be."""

    exit_code = 3


class DataError(EdgeAsdError):
    """A clip or a data set can't be used."""

    exit_code = 4


class ClipError(DataError):
    """One sound file can't be used: unreadable, empty, too short, not finite."""


class ClipNameError(DataError):
    """A clip's name doesn't say what was needed from it: section, domain, split or label."""


class BundleError(EdgeAsdError):
    """A bundle can't be verified, or was made for another program or version."""

    exit_code = 5


class SignatureError(BundleError):
    """A bundle wasn't signed by anyone trusted here, was altered since, or is older than the one that runs."""


class MissingRequirement(EdgeAsdError):
    """A package or a program that this command needs isn't installed."""

    exit_code = 6


class StorageError(EdgeAsdError):
    """Something could not be written; what stood there before is untouched."""

    exit_code = 7


class Unwritable(StorageError):
    """A file or folder that can't be written now: a full or read-only disk, or no permission."""


class DeploymentError(EdgeAsdError):
    """A release was refused or rolled back; what ran before still runs."""

    exit_code = 8


class CaptureError(EdgeAsdError):
    """The microphone, or the program or file that stands for it, gave up."""

    exit_code = 9


class TrainingError(EdgeAsdError):
    """Training, quantisation or export did not give a usable result."""

    exit_code = 10


class DownloadError(EdgeAsdError):
    """A download failed, or brought something that is refused; what arrived so far may be kept, and is never used."""

    exit_code = 11


class Unreachable(EdgeAsdError):
    """A device can't be reached, or the connection to it broke; what it had begun it finishes by itself."""

    exit_code = 12


class NotAdmitted(Unreachable):
    """A device is there and doesn't let us in: an unknown or changed host key, no login, no right to install."""
