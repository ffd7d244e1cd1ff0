"""Starting retrains in GitHub Actions: a signed repository_dispatch for each decision that calls for one."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import httpx

from core.clock import SystemClock
from core.decision import Decision
from core.dispatch import Dispatch
from core.errors import DependencyDown, SettingsError
from core.ledger import Entry
from core.settings import GithubSettings
from flows.context import FlowContext
from flows.lease import hold

logger = logging.getLogger(__name__)

ACTOR = "flow monitor"
KIND, SENT, FAILED = "dispatch", "sent", "failed"
_LATELY = timedelta(days=1)
_ENTRIES = 500


def called_for(trigger: object, reason: str) -> str:
    """Why a retrain is called for, in one line.

    Example:
        >>> called_for("drift", "fare moved")
        'drift: fare moved'
    """
    return f"{trigger}: {reason}"


def send_dispatches(context: FlowContext, name: str) -> None:
    """Tell GitHub of each retrain that was called for in the last day and that it was not told of; never fails a flow.

    What did not get through is on record as failed, becomes an alert, and is tried again at the next look.
    """
    if not context.settings.github.repository:
        return
    try:
        with hold(context.ledger, f"{KIND}/{name}") as lease:
            if lease is not None:
                for called in unsent(context, name):
                    _tell(context, called)
    except Exception:  # the ledger is away: the next look tries again
        logger.exception("%s: dispatches could not be sent", name)


def unsent(context: FlowContext, name: str) -> list[Entry]:
    """Decisions of the monitor to retrain, of the last day, that GitHub does not know of; the oldest first."""
    since = SystemClock().now() - _LATELY
    sent = {
        entry.evidence.get("decision_id")
        for entry in context.ledger.entries(name, kind=KIND, actions=(SENT,), limit=_ENTRIES)
    }
    called = context.ledger.entries(name, kind="trigger", actions=("retrain",), limit=_ENTRIES)
    return [
        entry for entry in reversed(called)
        if entry.actor == ACTOR and entry.recorded_at >= since and str(entry.id) not in sent
    ]  # fmt: skip


def dispatch(settings: GithubSettings, called: Dispatch) -> int:
    """Send one; what may pass (no answer, 429, 5xx) is tried again within the budget.

    Source: https://docs.github.com/rest/repos/repos#create-a-repository-dispatch-event

    Returns:
        How many attempts it took.

    Raises:
        SettingsError: if GitHub refuses it for good: token, repository or permission is wrong.
        DependencyDown: if it does not answer, or answers with an error, to the last.
    """
    url = f"{settings.api_url.rstrip('/')}/repos/{settings.repository}/dispatches"
    body = {"event_type": settings.event, "client_payload": called.signed(settings.secret.get_secret_value().encode())}
    headers = {
        "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
        "Authorization": f"Bearer {settings.token.get_secret_value()}",
    }  # fmt: skip
    problem = ""
    for attempt in range(1, settings.attempts + 1):
        if attempt > 1 and settings.wait_s:
            time.sleep(settings.wait_s * 2 ** (attempt - 2))
        try:
            answer = httpx.post(url, json=body, headers=headers, timeout=settings.timeout_s)
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
            continue
        if answer.is_success:
            return attempt
        problem = f"HTTP {answer.status_code}"
        if answer.status_code != 429 and answer.status_code < 500:
            raise SettingsError(
                f"GitHub refuses the dispatch to {settings.repository} ({problem}). "
                "Check EVERGREEN_GITHUB__REPOSITORY, and that EVERGREEN_GITHUB__TOKEN may write its contents."
            )
    raise DependencyDown("GitHub", f"{problem}, {settings.attempts} times")


def _tell(context: FlowContext, called: Entry) -> None:
    settings, decision_id = context.settings.github, str(called.id)
    known = {"decision_id": decision_id, "repository": settings.repository}
    reason = called_for(called.evidence.get("trigger"), called.reason)
    try:
        attempts = dispatch(settings, Dispatch(called.use_case, called.as_of.isoformat(), reason, decision_id))
        said = f"{settings.repository} was told to retrain for decision {decision_id}"
        decision = Decision(SENT, said, {**known, "attempts": attempts})
    except (SettingsError, DependencyDown) as error:
        logger.warning("%s: the next look tries again: %s", called.use_case, error)
        decision = Decision(FAILED, str(error), known)
    context.ledger.record(called.use_case, KIND, decision, actor=ACTOR, as_of=called.as_of)
