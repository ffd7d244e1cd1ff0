"""How well a use case does, out of the monitor's looks: performance over time, drift by column, labels.

What a look recorded is read with tolerance: other releases wrote other facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.ledger import Deployment, Entry
from serving.gateway.console.charts import Chart, Point, line_chart
from serving.gateway.console.words import count, number

_MOST_COLUMNS = 12


@dataclass(frozen=True)
class Bounded:
    """A measured value and its bounds, None where they are not known."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """For people: ``0.6193 (0.6136 to 0.6254)``."""
        if self.low is None or self.high is None:
            return number(self.value)
        return f"{number(self.value)} ({number(self.low)} to {number(self.high)})"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One window of the performance curve.

    Args:
        at: its end.
        log_loss: in nats.
        rows: labelled ones.
        version: that answered; empty if unknown.
        is_corrected: whether labels that came late are in it.
    """

    at: datetime
    log_loss: Bounded
    rows: int
    version: str
    is_corrected: bool = False


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Quality at the newest look that measured it, and before.

    Args:
        at: of that look.
        log_loss: in nats; None without labelled rows.
        auc: likewise.
        reference: the version's log-loss when it was made; None if unknown.
        estimate: of the log-loss of what has no label yet; None if there is none.
        estimate_blind: why the estimate is not to be trusted; empty if nothing speaks against it.
        curve: all windows, the oldest first.
        chart: of the curve; None of fewer than two windows.
    """

    at: datetime
    log_loss: Bounded | None
    auc: Bounded | None
    reference: float | None
    estimate: Bounded | None
    estimate_blind: str
    curve: tuple[Measured, ...]
    chart: Chart | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """How far one column has moved.

    Args:
        name: of the column.
        kind: of drift: data, prediction, label or concept.
        effect: the distance; None if only its score is known.
        threshold: the largest that is expected without drift; None likewise.
        ratio: how many times the threshold, or the score; what columns are ranked by.
        importance: of the feature to the version, in [0, 1]; None if unknown.
        is_over: whether it is beyond what is expected without drift.
    """

    name: str
    kind: str
    effect: float | None
    threshold: float | None
    ratio: float
    importance: float | None
    is_over: bool


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What has moved at the newest look.

    Args:
        at: of the look.
        rows: predictions that were compared.
        columns: how many were compared.
        called: kinds of drift that are called.
        ranked: those that moved most, first.
        unit: what the columns' ratios are of.
    """

    at: datetime
    rows: int
    columns: int | None
    called: tuple[str, ...]
    ranked: tuple[Column, ...]
    unit: str

    @property
    def widest(self) -> float:
        """What a full bar stands for."""
        return max([1.25, *(column.ratio for column in self.ranked)])


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How many predictions have their label.

    Args:
        at: of the look.
        coverage: labelled share of those whose label was due, in [0, 1]; None if none was due.
        rows: labelled ones in the window.
        since_training: labels that no training has seen; None if unknown.
        horizon: after which a label is due.
    """

    at: datetime
    coverage: float | None
    rows: int
    since_training: int | None
    horizon: Any


def facts_of(entry: Entry) -> Mapping[str, Any]:
    """What a look was decided from."""
    found: Mapping[str, Any] = entry.evidence.get("facts") or entry.evidence
    return found


def performance(looks: Sequence[Entry], deployments: Sequence[Deployment]) -> Performance | None:
    """Quality over time; None if no look measured it.

    Args:
        looks: the newest first.
        deployments: the newest first.
    """
    measured = [(entry, facts) for entry in looks if (facts := facts_of(entry)).get("performance")]
    if not measured:
        return None
    newest, facts = measured[0]
    seen, guess = facts["performance"], facts_of(looks[0]).get("estimate") or {}
    curve = tuple(_curve(measured))
    return Performance(
        at=newest.as_of,
        log_loss=_bounded(seen.get("log_loss")),
        auc=_bounded(seen.get("auc")),
        reference=facts.get("reference_log_loss"),
        estimate=_bounded(guess.get("log_loss")),
        estimate_blind=guess.get("blind") or "",
        curve=curve,
        chart=line_chart(
            [Point(at=p.at, value=p.log_loss.value, low=p.log_loss.low, high=p.log_loss.high, title=_title(p))
             for p in curve],
            list(_references(measured, {d.version: d.as_of for d in deployments})),
            [(d.as_of, f"v{d.version}") for d in sorted(deployments, key=lambda d: d.as_of)],
        ),
    )  # fmt: skip


def drift(looks: Sequence[Entry]) -> Drift | None:
    """What has moved; None if it was not measured."""
    entry = next((each for each in looks if facts_of(each).get("drift")), None)
    if entry is None:
        return None
    found = facts_of(entry)["drift"]
    scores = {name: float(score) for name, score in (found.get("scores") or {}).items()}
    columns = list(_columns(found, scores))
    ranked = sorted(columns, key=lambda column: (not column.is_over, -column.ratio))[:_MOST_COLUMNS]
    return Drift(
        at=entry.as_of,
        rows=int(found.get("rows") or 0),
        columns=found.get("columns"),
        called=tuple(found.get("called") or ()),
        ranked=tuple(ranked),
        unit="standard deviations from what is usual" if scores else "times its threshold",
    )


def labels(looks: Sequence[Entry], horizon: Any) -> Labels | None:
    """Label coverage; None if no look measured it."""
    entry = next((each for each in looks if facts_of(each).get("performance")), None)
    if entry is None:
        return None
    facts = facts_of(entry)
    seen = facts["performance"]
    return Labels(
        at=entry.as_of, coverage=seen.get("coverage"), rows=int(seen.get("rows") or 0),
        since_training=facts.get("labels_since_training"), horizon=horizon,
    )  # fmt: skip


def _curve(measured: Sequence[tuple[Entry, Mapping[str, Any]]]) -> Iterator[Measured]:
    """A window per look, and in place of each what the newest look says of it, with labels that came late."""
    found: dict[datetime, Measured] = {}
    for entry, facts in reversed(measured):
        value = _bounded(facts["performance"].get("log_loss"))
        if value is not None:
            rows, version = int(facts["performance"].get("rows") or 0), str(facts.get("version") or "")
            found[entry.as_of] = Measured(at=entry.as_of, log_loss=value, rows=rows, version=version)
    for point in measured[0][1].get("losses") or ():
        at, before = datetime.fromisoformat(point["at"]), found.get(datetime.fromisoformat(point["at"]))
        value = Bounded(point["log_loss"], point.get("low"), point.get("high"))
        is_same = before is not None and before.log_loss.value == value.value
        if value.low is None and is_same:
            continue
        version = point.get("version") or (before.version if before else "")
        found[at] = Measured(
            at=at, log_loss=value, rows=int(point["rows"]), version=str(version),
            is_corrected=before is not None and not is_same,
        )  # fmt: skip
    yield from sorted(found.values(), key=lambda each: each.at)


def _references(
    measured: Sequence[tuple[Entry, Mapping[str, Any]]], since: Mapping[str, datetime]
) -> Iterator[tuple[datetime, float]]:
    """What each version's log-loss is held against, from when it answered first, or was looked at first."""
    last = None
    for entry, facts in reversed(measured):
        reference = facts.get("reference_log_loss")
        if reference is not None and reference != last:
            last = reference
            yield min(since.get(str(facts.get("version")), entry.as_of), entry.as_of), reference


def _columns(found: Mapping[str, Any], scores: Mapping[str, float]) -> Iterator[Column]:
    over = {(each["column"], each.get("segment", "")): each for each in found.get("over") or ()}
    for name, score in scores.items():
        if (name, "") not in over:
            yield Column(name=name, kind="", effect=None, threshold=None, ratio=score, importance=None, is_over=False)
    for (name, segment), each in over.items():
        effect, threshold = float(each["effect"]), float(each["threshold"])
        score = float(scores.get(name, 0.0) if not segment else each.get("score") or 0.0)
        yield Column(
            name=f"{name} where {segment}" if segment else name, kind=each["kind"], effect=effect,
            threshold=threshold, ratio=score or (effect / threshold if threshold > 0 else 0.0),
            importance=each.get("importance"), is_over=True,
        )  # fmt: skip
    for name, effect in (found.get("drifted") or {}).items():  # as the first release recorded it
        yield Column(name=name, kind="data", effect=effect, threshold=0.2, ratio=effect / 0.2, importance=None,
                     is_over=True)  # fmt: skip


def _bounded(value: Any) -> Bounded | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return Bounded(float(value["value"]), value.get("low"), value.get("high"))
    return Bounded(float(value))


def _title(point: Measured) -> str:
    by = f", version {point.version}" if point.version else ""
    return f"{point.at:%Y-%m-%d %H:%M} UTC: {point.log_loss} on {count(point.rows)} labelled rows{by}"
