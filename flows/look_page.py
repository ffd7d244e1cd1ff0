"""The page of a look, for people: drawn when it is worth one, kept here and with the version's run."""

from __future__ import annotations

import logging
from datetime import datetime

from core.decision import Decision
from core.errors import DependencyDown
from core.use_case import UseCase
from flows.context import FlowContext
from monitoring.live import LiveVersion, Served
from monitoring.look_page import draw_page
from monitoring.triggers import WAIT

_log = logging.getLogger(__name__)


def keep_page(
    context: FlowContext, use_case: UseCase, live: LiveVersion, served: Served, decision: Decision, moment: datetime
) -> None:
    """Draw the first look at a version, and each at which something is decided; log page and distances to its run.

    A registry that is away costs no look: the page is in ``reports/`` then.

    Args:
        context: whose home folder and registry.
        use_case: what is looked at.
        live: the version that answers.
        served: what the look saw.
        decision: what was decided.
        moment: of the look.
    """
    name = use_case.name
    pages = context.settings.home / "reports" / name
    if decision.action == WAIT and any(pages.glob(f"*-v{live.version}.html")):
        return
    page = pages / f"{moment:%Y-%m-%dT%H%M%S}-v{live.version}.html"
    distances = draw_page(use_case, live, served, as_of=moment, page=page, curve=decision.evidence.get("curve", ()))
    try:
        context.registry.log_look(name, live.version, at=moment, page=page, distances=distances)
    except DependencyDown as problem:
        _log.warning("%s: the page of the look at %s is only in %s: %s", name, moment, page, problem)
