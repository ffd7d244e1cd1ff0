"""What the status says of how a use case does: drift, performance, faults, what became of its newest promotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.ledger import Entry
    from monitoring.facts import DriftFacts, MonitorFacts

_MOST_COLUMNS = 5


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was found at the newest look, and since.

    Args:
        drift: ``called`` (kinds), ``over`` (the columns over their thresholds that matter most), ``rows``; None if it
            was not measured.
        performance: ``log_loss`` and ``auc`` with their bounds, ``reference_log_loss``, ``rows`` with a label,
            ``coverage``; None without labelled rows.
        estimate: ``log_loss`` with its bounds, ``method``, ``rows`` without a label, ``blind`` (why it is not to be
            trusted, or None); None if nothing was estimated.
        curve: log-loss of the newest windows, oldest first, by the labels known at the look; each ``version``,
            ``from``, ``to``, ``rows``, ``labelled``, ``log_loss``, ``low`` and ``high``.
        faults: of the data; each ``column``, ``kind`` and ``detail``.
        aftermath: the newest verdict on the version that was promoted last; None if there was none.
        alerts: what people were told of and is not over, the newest first.
    """

    drift: Mapping[str, Any] | None = None
    performance: Mapping[str, Any] | None = None
    estimate: Mapping[str, Any] | None = None
    curve: Sequence[Mapping[str, Any]] = ()
    faults: Sequence[Mapping[str, Any]] = ()
    aftermath: Mapping[str, Any] | None = None
    alerts: Sequence[Mapping[str, Any]] = ()


def read_judged(look: Entry | None, aftermath: Entry | None, alerts: Sequence[Entry]) -> Judged:
    """Read it from the ledger's entries; a look that another release recorded is left out.

    Args:
        look: the newest of the monitor's.
        aftermath: the newest of that kind.
        alerts: of the kind ``alert``, the newest first.
    """
    told = None if aftermath is None else {
        "action": aftermath.action, "reason": aftermath.reason, "version": aftermath.version,
        "as_of": aftermath.as_of.isoformat(), "id": aftermath.id,
    }  # fmt: skip
    return Judged(**_of_facts(_facts(look)), aftermath=told, alerts=_standing(alerts))


def _facts(look: Entry | None) -> MonitorFacts | None:
    from monitoring.facts import MonitorFacts

    if look is None or "facts" not in look.evidence:
        return None
    try:
        return MonitorFacts.from_json(look.evidence["facts"])
    except ValueError:
        return None


def _of_facts(facts: MonitorFacts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    seen, guess = facts.performance, facts.estimate
    return {
        "drift": None if facts.drift is None else _drift(facts.drift),
        "performance": None if seen is None or seen.log_loss is None else {
            "log_loss": asdict(seen.log_loss), "auc": seen.auc and asdict(seen.auc),
            "reference_log_loss": facts.reference_log_loss, "rows": seen.rows, "coverage": seen.coverage,
        },
        "estimate": None if guess is None else {
            "log_loss": asdict(guess.log_loss), "method": guess.method, "rows": guess.rows, "blind": guess.blind,
        },
        "curve": [point.shown() for point in facts.losses],
        "faults": [asdict(fault) for fault in facts.faults],
    }  # fmt: skip


def _drift(found: DriftFacts) -> dict[str, Any]:
    return {
        "called": list(found.called),
        "over": [asdict(each) for each in found.over[:_MOST_COLUMNS]],
        "rows": found.rows,
    }


def _standing(entries: Sequence[Entry]) -> list[Mapping[str, Any]]:
    """The newest of each cause that lasts and is not over."""
    from monitoring.alerts import raised_alerts

    newest = {each.alert.cause: each for each in raised_alerts(entries)}
    standing = [each for each in newest.values() if each.alert.lasts and not each.has_ended]
    return [
        {
            "cause": each.alert.cause, "severity": each.alert.severity, "title": each.alert.title,
            "reason": each.alert.reason, "command": each.alert.command, "as_of": each.as_of.isoformat(),
        }
        for each in sorted(standing, key=lambda each: each.id, reverse=True)
    ]  # fmt: skip
