"""What people are told of, once: pure functions of what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from core.ledger import Entry

KIND = "alert"
RAISE, RETRY, END = "raise", "retry", "end"
Severity = Literal["page", "notice"]
PAGE: Severity = "page"
NOTICE: Severity = "notice"
_AGAIN_AFTER = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something people should know of.

    Args:
        use_case: whose.
        cause: what it is about; the same cause is told of once until it ends, or a day has passed.
        severity: ``page``: somebody must act; ``notice``: Evergreen does.
        title: a few words.
        reason: one sentence with the numbers.
        decision_id: of the entry in the ledger that it comes from.
        command: what to type.
        lasts: whether it is a state, which ends when a look does not find it, and not an event.
    """

    use_case: str
    cause: str
    severity: Severity
    title: str
    reason: str
    decision_id: int
    command: str
    lasts: bool = False

    def as_json(self) -> dict[str, Any]:
        """As JSON, for the ledger."""
        return asdict(self)


@dataclass(frozen=True)
class Raised:
    """An alert that was raised, as the ledger has it.

    Args:
        id: of its entry.
        alert: what was said.
        as_of: when.
        delivered: by channel, whether it got through.
        has_ended: whether its cause was over since.
    """

    id: int
    alert: Alert
    as_of: datetime
    delivered: Mapping[str, bool]
    has_ended: bool = False


@dataclass(frozen=True)
class AlertPlan:
    """What is to be done at one look.

    Args:
        to_raise: new ones, or old ones to be reminded of.
        to_retry: raised ones that did not get through everywhere.
        ended: causes that are over.
    """

    to_raise: tuple[Alert, ...]
    to_retry: tuple[Raised, ...]
    ended: tuple[str, ...]


def plan_alerts(entries: Sequence[Entry], past: Sequence[Entry], *, as_of: datetime) -> AlertPlan:
    """Decide what to say of a use case now.

    Args:
        entries: what was decided about it lately, newest first.
        past: its entries of the kind ``alert``, newest first, far enough back to hold those that last.
        as_of: the moment of the look.
    """
    raised = raised_alerts(past)
    newest = {each.alert.cause: each for each in raised}  # oldest first, so the newest stays
    told = {(each.alert.cause, each.alert.decision_id) for each in raised}
    to_raise: dict[str, Alert] = {}
    current, looked = lasting_alerts(entries)
    for alert in (*current, *event_alerts(entries)):
        before = newest.get(alert.cause)
        is_known = before is not None and as_of - before.as_of < _AGAIN_AFTER and not before.has_ended
        if not is_known and (alert.cause, alert.decision_id) not in told:
            to_raise.setdefault(alert.cause, alert)
    over = {cause for cause, each in newest.items() if each.alert.lasts and not each.has_ended}
    over -= {alert.cause for alert in current}
    return AlertPlan(
        to_raise=tuple(to_raise.values()),
        to_retry=tuple(r for r in raised if _is_missed(r) and as_of - r.as_of < _AGAIN_AFTER),
        ended=tuple(sorted(cause for cause in over if cause.partition("/")[0] in looked)),
    )


def raised_alerts(past: Sequence[Entry]) -> list[Raised]:
    """The alerts of some entries, oldest first, with what became of them."""
    found: dict[int, Raised] = {}
    for entry in reversed(past):
        if entry.action == RAISE:
            alert = Alert(**entry.evidence["alert"])
            found[entry.id] = Raised(entry.id, alert, entry.as_of, dict(entry.evidence["delivered"]))
        elif entry.action == RETRY and entry.evidence["alert_id"] in found:
            before = found[entry.evidence["alert_id"]]
            found[before.id] = replace(before, delivered={**before.delivered, **entry.evidence["delivered"]})
        elif entry.action == END:
            for id_, each in found.items():
                if each.alert.cause == entry.evidence["cause"]:
                    found[id_] = replace(each, has_ended=True)
    return list(found.values())


def lasting_alerts(entries: Sequence[Entry]) -> tuple[list[Alert], set[str]]:
    """What the newest look and the newest audit find wrong, and of which of the two there is one at all."""
    look = next((e for e in entries if e.kind == "trigger" and "rows" in _facts(e)), None)
    audit = next((e for e in entries if e.kind == "audit"), None)
    found = [] if look is None else list(_of_look(look))
    if audit is not None and audit.action == "alarm":
        found.append(_alert(audit, "audit", PAGE, "features served are not those logged", lasts=True))
    return found, {name for name, entry in (("look", look), ("audit", audit)) if entry is not None}


def event_alerts(entries: Sequence[Entry]) -> list[Alert]:
    """What happened, newest first."""
    return [alert for entry in entries if (alert := _of_event(entry)) is not None]


def _is_missed(raised: Raised) -> bool:
    return not all(raised.delivered.values()) and not (raised.alert.lasts and raised.has_ended)


def _of_look(entry: Entry) -> Iterable[Alert]:
    facts = _facts(entry)
    for fault in facts.get("faults") or ():
        column = fault["column"] or "data"
        cause, title = f"look/fault/{fault['kind']}/{column}", f"{fault['kind']} in {column}"
        yield replace(_alert(entry, cause, PAGE, title, lasts=True), reason=fault["detail"])
    blind = (facts.get("estimate") or {}).get("blind")
    if blind:
        alert = _alert(entry, "look/blind", NOTICE, "estimated performance is blind", lasts=True)
        yield replace(alert, reason=blind)


def _of_event(entry: Entry) -> Alert | None:  # noqa: C901 - one short branch per kind of entry
    name, version = entry.use_case, entry.version
    history = f"evergreen history {name}"
    match entry.kind, entry.action:
        case "trigger", "failed":
            return _alert(entry, "retrain failed", PAGE, "a retrain failed", f"evergreen retrain {name}")
        case "trigger", "retrain":
            trigger = entry.evidence.get("trigger", "")
            return _alert(entry, f"retrain/{trigger}", NOTICE, f"a retrain is called for: {trigger}")
        case "aftermath", "rollback":
            return _alert(entry, f"aftermath/{version}", PAGE, f"version {version} is taken back", history)
        case "promotion", "hold":
            return _alert(
                entry, f"held/{version}", PAGE, f"version {version} waits", f"evergreen approve {name} {version}"
            )
        case "promotion", "refuse":
            return _alert(entry, f"held/{version}", PAGE, f"version {version} may not become champion", history)
        case "deployment", "orphan":
            return _alert(entry, f"orphan/{version}", PAGE, f"version {version}, which answers, was deleted", history)
        case "deployment", "rollback" if entry.evidence.get("by_hand"):
            return _alert(entry, f"bake/{version}", NOTICE, f"version {version} is taken back by hand", history)
        case "deployment", "rollback":
            return _alert(entry, f"bake/{version}", PAGE, f"version {version} is taken back", history)
        case "dispatch", "failed":
            return _alert(entry, "dispatch failed", PAGE, "GitHub was not told to retrain", f"evergreen retrain {name}")
        case "deployment", "refuse":
            return _alert(entry, f"refused/{version}", PAGE, f"version {version} is refused", history)
    return None


def _alert(
    entry: Entry,
    cause: str,
    severity: Severity,
    title: str,
    command: str = "",
    *,
    lasts: bool = False,
) -> Alert:
    return Alert(
        use_case=entry.use_case, cause=cause, severity=severity, title=title, reason=entry.reason,
        decision_id=entry.id, command=command or f"evergreen explain {entry.id}", lasts=lasts,
    )  # fmt: skip


def _facts(entry: Entry) -> Mapping[str, Any]:
    """The facts a look was decided from, which are its evidence or a part of it."""
    found: Mapping[str, Any] = entry.evidence.get("facts") or entry.evidence
    return found
