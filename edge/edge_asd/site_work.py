"""Commissioning beside the daemon: begins when somebody asks, tells how far it is, puts in force what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_asd import commission_desk as desk
from edge_asd import progress, site
from edge_asd.clock import Clock, iso
from edge_asd.commissioning import Commissioner, Findings
from edge_asd.comparison import Heard
from edge_asd.errors import DataError, StorageError
from edge_asd.front_end import LogMel
from edge_asd.post import Post
from edge_asd.scoring import Score
from edge_asd.status import Commissioning

PAUSE_SECONDS = 10.0  # after a disk that failed


class SiteWork:
    """What was learned on site, and what is being learned. A disk that fails here is said; listening goes on."""

    def __init__(
        self, state: Path, post: Post, renew: Callable[[], Post], clock: Clock, known: site.Fingerprint = None
    ) -> None:
        """Look after a state folder.

        Args:
            state: the folder.
            post: what listens now.
            renew: gives the post with what is in force in the folder by then.
            clock: tells the time.
            known: what was in force there when `post` was made.
        """
        self._state = state
        self._post = post
        self._renew = renew
        self._clock = clock
        self._request: desk.Request | None = None
        self._commissioner: Commissioner | None = None
        self._refusal = ""  # why nothing can be learned
        self._found: Findings | None = None
        self._written: site.Site | None = None  # what was put in force and isn't reported yet
        self._known = known
        self._not_before = 0.0  # of the monotonic clock, after a disk that failed
        self._said = ""

    @property
    def status(self) -> Commissioning | None:
        """How far a commissioning is; None where there is none."""
        return self._commissioner.status if self._commissioner else None

    def adopt(self, post: Post) -> None:
        """Other settings are in force; a commissioning goes on as it began."""
        self._post = post

    def take(self, score: Score, heard: Heard, log_mel: LogMel, utc: str) -> None:
        """A score that may be learned from, and what it is of."""
        if self._commissioner and self._commissioner.phase != "done":
            try:
                self._commissioner.take(score, heard, log_mel, utc)
            except DataError as error:
                self._refusal = str(error)
            except Exception as error:  # a fault of ours must end no daemon, and not come again at each of its starts
                self._refusal = f"{type(error).__name__}: {error}"

    def look(self, level_dbfs: float | None) -> Post | None:
        """See what is wanted and whether anything is done; the post to go on with, where it is another one."""
        try:
            return self._look(level_dbfs)
        except StorageError as error:
            self._not_before = self._clock.monotonic() + PAUSE_SECONDS
            if str(error) != self._said:
                progress.say(f"edge-asd: commissioning: {error}")
            self._said = str(error)
        except Exception as error:  # a fault of ours: what was wanted is given up, and listening goes on
            self._commissioner, self._refusal = None, f"{type(error).__name__}: {error}"
            progress.say(f"edge-asd: commissioning failed: {self._refusal}")
        return None

    def _look(self, level_dbfs: float | None) -> Post | None:
        if self._clock.monotonic() < self._not_before:
            return None
        wanted = desk.requested(self._state)
        if wanted and wanted != self._request and desk.reported(self._state, wanted.id):
            desk.withdraw(self._state)  # the power went between the report and this
            wanted = None
        if wanted != self._request:
            self._request, self._commissioner, self._refusal = wanted, None, ""
            self._found = self._written = None
            if wanted:
                plain = self._post.plain or self._post.detector
                self._commissioner = Commissioner(wanted.plan, plain, self._post.origin.section, self._post.rule)
                progress.say(f"commissioning: listening to the machine for {wanted.minutes:g} minutes")
            else:
                progress.say("commissioning: given up; all is as it was")
        if self._request and self._refusal:
            self._refuse(self._request)
        elif self._request and self._commissioner and self._commissioner.phase == "done":
            self._finish(self._request, self._commissioner, level_dbfs)
        if (found := site.fingerprint(self._state, self._known)) != self._known:
            self._known = found
            self._post = self._renew()
            progress.say(f"commissioning: threshold {self._post.rule.threshold:.4g} from {self._post.threshold_from}")
            return self._post
        return None

    def _finish(self, request: desk.Request, commissioner: Commissioner, level_dbfs: float | None) -> None:
        try:
            self._found = self._found or commissioner.findings()
        except DataError as error:
            self._refusal = str(error)
            return
        if not self._written:
            record = self._record(request, self._found, level_dbfs)
            self._written = site.write(self._state, record, self._found.learned)
        desk.answer(self._state, desk.Report(request.id, self._written))
        self._request = self._commissioner = self._found = self._written = None

    def _refuse(self, request: desk.Request) -> None:
        desk.answer(self._state, desk.Report(request.id, refusal=self._refusal))
        progress.say(f"commissioning: nothing was learned: {self._refusal}")
        self._request, self._commissioner, self._refusal = None, None, ""

    def _record(self, request: desk.Request, found: Findings, level_dbfs: float | None) -> site.Site:
        origin = self._post.origin
        return site.Site(
            format_version=1,
            made_utc=iso(self._clock.utc_now()),
            machine=origin.machine,
            section=origin.section,
            bundle=origin.bundle,
            front_end=self._post.detector.front_end,
            clips=found.learned.clips,
            log_mels="",
            heard="",
            threshold=found.threshold,
            false_alarms=request.false_alarms,
            minutes=request.minutes,
            before=found.before,
            after=found.after,
            level_dbfs=None if level_dbfs is None else round(level_dbfs, 1),
            spectrum=found.spectrum,
            doubts=found.doubts,
        )
