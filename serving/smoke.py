"""Asking a version its recorded requests before any client does."""

from __future__ import annotations

import math
from typing import Any

from core.clock import parse_moment, to_us


def smoke_request(recorded: dict[str, Any]) -> dict[str, Any]:
    """The call that asks the recorded requests without logging the answers.

    Args:
        recorded: ``smoke.json``: ``instances``, and optionally ``at``, ISO 8601 or microseconds.
    """
    body: dict[str, Any] = {"instances": recorded["instances"], "log": False}
    if recorded.get("at"):
        body["at_us"] = [at if isinstance(at, int) else to_us(parse_moment(at)) for at in recorded["at"]]
    return body


def smoke_fault(answer: dict[str, Any], *, version: str, n: int) -> str | None:
    """What is wrong with the answer to `n` recorded requests, as a clause; None if nothing is.

    Example:
        >>> smoke_fault({"predictions": [0.5, 1.5], "model_version": "7"}, version="7", n=2)
        'its score 1 is 1.5, which is no probability'
    """
    scores = answer.get("predictions")
    if answer.get("model_version") != version:
        return f"version {answer.get('model_version')!r} answered in its place"
    if not isinstance(scores, list) or len(scores) != n:
        return f"it gave {len(scores) if isinstance(scores, list) else 'no'} scores for {n} recorded requests"
    for i, score in enumerate(scores):
        if not isinstance(score, (int, float)) or not math.isfinite(score) or not 0 <= score <= 1:
            return f"its score {i} is {score}, which is no probability"
    return None
