"""What came before a look, as the ledger and the log have it."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import takewhile

import numpy as np
import pandas as pd

from core.clock import MICROSECOND
from core.ledger import Entry
from core.use_case import UseCase
from features.offline.event_times import newest_event_at
from features.offline.log import OfflineLog
from flows.context import FlowContext
from monitoring.facts import MonitorFacts
from monitoring.live import LiveVersion, Past, Served, worth_remembering
from monitoring.look import kinds_called

# Older triggers cannot matter: at one look an hour this is half a year.
_TRIGGERS = 5000
_COSTS = 3
_GATES = 200
_ANSWERED = ("prediction_id", "at", "version", "score")


def past_of(context: FlowContext, use_case: UseCase, live: LiveVersion | None, moment: datetime) -> Past:
    """What a look at `moment` needs to know of the time before it."""
    name = use_case.name
    triggers = context.ledger.entries(name, kind="trigger", limit=_TRIGGERS)
    last, looks = last_retrain_at(triggers), _looks(triggers, moment, use_case.policy.monitor_window)
    since = max((when for when in (last, live.trained_at if live else None) if when is not None), default=None)
    new = 0 if since is None else _new_labels(context, name, since, looks, moment)
    gates = context.ledger.entries(name, kind="gate", limit=_GATES)
    refused = list(takewhile(lambda entry: entry.action != "promote", gates))
    return Past(
        looks=looks, last_retrain_at=last, refused=len(refused),
        refused_kinds=kinds_called(_called_by(triggers, refused)), retrain_s=_retrain_s(gates),
        labels_since_training=new, earlier=LoggedEarlier(context.log, name, moment).read,
        newest_event_at=_newest_events(context, use_case, moment),
    )  # fmt: skip


class LoggedEarlier:
    """Reads windows that have ended from the offline log; see `monitoring.live.Earlier`.

    Args:
        log: where from.
        name: of the use case.
        moment: of the look; labels known later are not looked at.
    """

    def __init__(self, log: OfflineLog, name: str, moment: datetime) -> None:
        self._log, self._name, self._moment = log, name, moment
        self._labels: pd.DataFrame | None = None
        self._since = moment

    def read(self, since: datetime, until: datetime) -> Served:
        """The answers to what was asked in [since, until), and the labels known since then; the latter are kept."""
        if self._labels is None or since < self._since:
            self._labels, self._since = self._log.labels(self._name, since=since, known_by=self._moment), since
        rows = self._log.predictions(self._name, since=since, until=until, columns=_ANSWERED)
        return Served(rows, self._labels)


def last_retrain_at(triggers: list[Entry]) -> datetime | None:
    """What moment the newest retrain was called for, by whom ever; those that failed do not count.

    Args:
        triggers: entries of that kind, the newest first.
    """
    failed = {entry.evidence.get("decision_id") for entry in triggers if entry.action == "failed"}
    called = (entry for entry in triggers if entry.action == "retrain" and str(entry.id) not in failed)
    return next((entry.as_of for entry in called), None)


def _looks(triggers: list[Entry], moment: datetime, apart: timedelta) -> list[MonitorFacts]:
    """The looks before this one, oldest first; one that is repeated does not come before itself."""
    recorded = [entry for entry in triggers if "facts" in entry.evidence and entry.as_of < moment][::-1]
    kept = worth_remembering([entry.as_of for entry in recorded], apart)
    return [MonitorFacts.from_json(recorded[i].evidence["facts"]) for i in kept]


def _newest_events(context: FlowContext, use_case: UseCase, moment: datetime) -> dict[str, datetime]:
    """Of each source there was ever an event of, when its newest one became known."""
    found = {each.name: newest_event_at(context.log, each.name, known_by=moment) for each in use_case.sources}
    return {source: at for source, at in found.items() if at is not None}


def _called_by(triggers: list[Entry], gates: list[Entry]) -> list[MonitorFacts]:
    """What was seen at the looks that called for some retrains."""
    ids = {str(entry.evidence.get("decision_id")) for entry in gates}
    found = (entry for entry in triggers if str(entry.id) in ids and "facts" in entry.evidence)
    return [MonitorFacts.from_json(entry.evidence["facts"]) for entry in found]


def _retrain_s(gates: list[Entry]) -> float | None:
    costs = [float(entry.evidence["compute_s"]) for entry in gates[:_COSTS] if "compute_s" in entry.evidence]
    return float(np.mean(costs)) if costs else None


def _new_labels(context: FlowContext, name: str, since: datetime, looks: list[MonitorFacts], moment: datetime) -> int:
    """Labels known after `since`; if the look before counted from there too, only those that came after it are read."""
    before = looks[-1] if looks and _last_training(looks[-1]) == since else None
    counted, start = (before.labels_since_training, before.as_of) if before else (0, since)
    return counted + len(context.log.labels(name, since=start + MICROSECOND, known_by=moment))


def _last_training(facts: MonitorFacts) -> datetime | None:
    return max((when for when in (facts.trained_at, facts.last_retrain_at) if when is not None), default=None)
