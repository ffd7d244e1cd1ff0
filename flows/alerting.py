"""Telling people what the ledger says, at the end of each look."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from core.clock import SystemClock
from core.decision import Decision
from core.errors import EvergreenError
from core.ledger import Entry
from flows.alert_channels import Channel, channels_of
from flows.context import FlowContext
from flows.lease import hold
from monitoring.alerts import END, KIND, NOTICE, RAISE, RETRY, Alert, plan_alerts

logger = logging.getLogger(__name__)

ACTOR = "flow monitor"
_LATELY = timedelta(days=1)
_ENTRIES = 2000


def send_alerts(context: FlowContext, name: str, as_of: str | None = None) -> None:
    """Tell of what is new, try again what did not get through, and note what is over; never fails a flow.

    Args:
        context: whose settings say how.
        name: the use case.
        as_of: ISO 8601 moment of the look; now by default.
    """
    try:
        with hold(context.ledger, f"{KIND}/{name}") as lease:
            if lease is not None:
                _send(context, name, context.moment(name, as_of))
    except Exception:  # the ledger itself is away, or holds what nobody can read: the next look tries again
        logger.exception("%s: alerts could not be sent", name)


def _send(context: FlowContext, name: str, moment: datetime) -> None:
    ledger, settings = context.ledger, context.settings.linked_alerts
    since = SystemClock().now() - _LATELY
    lately = [entry for entry in ledger.entries(name, limit=_ENTRIES) if entry.recorded_at >= since]
    past: list[Entry] = ledger.entries(name, kind=KIND, limit=_ENTRIES)
    plan, channels = plan_alerts(lately, past, as_of=moment), channels_of(settings)
    for cause in plan.ended:
        over = Decision(END, f"{cause} is over", {"cause": cause})
        ledger.record(name, KIND, over, actor=ACTOR, as_of=moment)
    for raised in plan.to_retry:
        missed = [channel for channel in channels if raised.delivered.get(channel.name) is False]
        if missed:
            delivered = _deliver(raised.alert, missed)
            known = {"alert_id": raised.id, "delivered": delivered}
            again = Decision(RETRY, f"{raised.alert.title}: {_said(delivered)}", known)
            ledger.record(name, KIND, again, actor=ACTOR, as_of=moment)
    for alert in plan.to_raise:
        if alert.severity == NOTICE and settings.least == "page":
            continue
        delivered = _deliver(alert, channels)
        told = Decision(RAISE, f"{alert.title}: {_said(delivered)}", {"alert": alert.as_json(), "delivered": delivered})
        ledger.record(name, KIND, told, actor=ACTOR, as_of=moment)


def _deliver(alert: Alert, channels: Iterable[Channel]) -> dict[str, bool]:
    """Tell by each channel; by channel whether it got through."""
    delivered = {}
    for channel in channels:
        try:
            channel.send(alert)
            delivered[channel.name] = True
        except EvergreenError as error:
            logger.warning("%s: %s: the next look tries again: %s", alert.use_case, channel.name, error)
            delivered[channel.name] = False
    return delivered


def _said(delivered: dict[str, bool]) -> str:
    return ", ".join(f"{name} {'told' if done else 'failed'}" for name, done in delivered.items())
