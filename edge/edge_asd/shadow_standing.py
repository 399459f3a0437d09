"""How a shadow stands beside the running bundle, for programs and for people: `edge-asd shadow`."""

from __future__ import annotations

import msgspec
import numpy as np

from edge_asd.promise import period
from edge_asd.shadow import Disagreement, Record, Side, Tally, rank_correlation

TOO_SHORT_HOURS = 1.0
SHORT_HOURS = 24.0  # a day, in which most of what a machine does comes up
ALIKE, PARTLY = 0.9, 0.6  # rank correlations from which on that is said

QUANTILES = (0.05, 0.5, 0.95, 0.99)


class Scores(msgspec.Struct, frozen=True):
    """How the scores of one side are spread: least and largest of all, quantiles of those that are kept."""

    least: float
    p05: float
    p50: float
    p95: float
    p99: float
    most: float


class SideStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two.

    Attributes:
        bundle, section, threshold, site: as `shadow.Side` has them.
        alerts: that it would have raised.
        above: share of the moments that are above its threshold; None before the first.
        only: moments at which it alone was.
        scores: None before the first.
    """

    bundle: str
    section: str
    threshold: float
    site: str
    alerts: int
    above: float | None
    only: int
    scores: Scores | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a comparison.

    Attributes:
        since, updated: when it began, and as of when this is, UTC.
        lasts: it goes on.
        hours, moments: of sound that was compared.
        running, shadow: the two.
        rank_correlation: of their scores, Spearman's; None where there is none.
        pairs: from so many that, and the quantiles, are.
        disagreements: the newest stretches of moments at which only one was above its threshold.
        said: all that in a sentence.
    """

    since: str
    updated: str
    lasts: bool
    hours: float
    moments: int
    running: SideStanding
    shadow: SideStanding
    rank_correlation: float | None
    pairs: int
    disagreements: tuple[Disagreement, ...]
    said: str


def standing(record: Record, *, lasts: bool) -> Standing:
    """What a record comes to; `lasts`: the shadow scores at present."""
    running, shadow = zip(*record.pairs, strict=True) if record.pairs else ((), ())
    correlation = rank_correlation(record.pairs)
    return Standing(
        since=record.since,
        updated=record.updated,
        lasts=lasts,
        hours=round(record.hours, 4),
        moments=record.moments,
        running=_side(record, record.running, record.of_running, record.only_running, running),
        shadow=_side(record, record.shadow, record.of_shadow, record.only_shadow, shadow),
        rank_correlation=None if correlation is None else round(correlation, 4),
        pairs=len(record.pairs),
        disagreements=record.disagreements,
        said=_said(record, correlation),
    )


def lines(found: Standing) -> list[str]:
    """For people."""
    end = "goes on" if found.lasts else "is over"
    rows = [f"{'':<16}{'running':>18}{'shadow':>18}"]
    both = (found.running, found.shadow)
    rows.append(_row("bundle", *(one.bundle for one in both)))
    rows.append(_row("section", *(one.section for one in both)))
    rows.append(_row("site", *(one.site[:10] or "nothing learned" for one in both)))
    rows.append(_row("threshold", *(f"{one.threshold:.6g}" for one in both)))
    rows.append(_row("alerts", *(str(one.alerts) for one in both)))
    rows.append(_row("above threshold", *("-" if one.above is None else f"{100 * one.above:.2f} %" for one in both)))
    rows.append(_row("it alone above", *(str(one.only) for one in both)))
    for name, words in zip(
        Scores.__struct_fields__, ("least", "5 %", "median", "95 %", "99 %", "largest"), strict=True
    ):
        rows.append(_row(words, *(f"{getattr(one.scores, name):.6g}" if one.scores else "-" for one in both)))
    newest = found.disagreements[-3:]
    return [
        f"{found.moments} moments since {found.since}, {period(found.hours)} of sound; {end}, as of {found.updated}",
        "",
        *rows,
        "",
        *(f"disagreed   {one.utc}: running {one.running:.4g}, shadow {one.shadow:.4g}" for one in newest),
        found.said,
    ]


def _row(words: str, running: str, shadow: str) -> str:
    return f"{words:<16}{running:>18}{shadow:>18}"


def _side(record: Record, side: Side, tally: Tally, only: int, kept: tuple[float, ...]) -> SideStanding:
    scores = None
    if kept and tally.least is not None and tally.most is not None:
        between = np.quantile(np.array(kept), QUANTILES).clip(tally.least, tally.most).tolist()
        scores = Scores(*(tally.least, *between, tally.most))
    return SideStanding(
        bundle=side.bundle,
        section=side.section,
        threshold=side.threshold,
        site=side.site,
        alerts=tally.alerts,
        above=tally.above / record.moments if record.moments else None,
        only=only,
        scores=scores,
    )


def _said(record: Record, correlation: float | None) -> str:
    """A sentence: how long, who would have alerted more, whether they rank alike, and what that is worth."""
    if not record.moments:
        return "Nothing was compared yet: 0 h are too short to say anything."
    parts = [_alerts(record.of_running.alerts, record.of_shadow.alerts), _ranks(correlation)]
    if record.hours < TOO_SHORT_HOURS:
        parts.append("that is too short to say anything")
    elif record.hours < SHORT_HOURS:
        parts.append("less than a day doesn't hold all that a machine does")
    return f"In {period(record.hours)} {'; '.join(parts)}."


def _alerts(running: int, shadow: int) -> str:
    if not running and not shadow:
        return "neither would have raised an alert"
    if running == shadow:
        return f"both would have raised {_counted(shadow)}"
    return f"the shadow would have raised {_counted(shadow)} and the running bundle {running or 'none'}"


def _counted(alerts: int) -> str:
    return "1 alert" if alerts == 1 else f"{alerts or 'no'} alerts"


def _ranks(correlation: float | None) -> str:
    if correlation is None:
        return "whether they rank moments alike can't be said"
    how = "alike" if correlation >= ALIKE else "partly alike" if correlation >= PARTLY else "differently"
    return f"they rank moments {how} (rank correlation {correlation:.2f})"
