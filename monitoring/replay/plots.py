"""The two pictures of a comparison of policies."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import numpy as np

from monitoring.replay.outcome import TOLERANCE, Comparison
from monitoring.replay.policies import ORACLE

_SMOOTHED = 4  # steps: single ones are too noisy to follow by eye


def draw_cost(found: Comparison) -> bytes:
    """Log-loss against retrains, one point a policy, as PNG."""
    figure, axes = _figure()
    best = min((each.log_loss for each in found.outcomes if each.policy != ORACLE), default=None)
    together: defaultdict[tuple[int, float], list[str]] = defaultdict(list)  # policies that came to the same
    most = max(each.retrains for each in found.outcomes)
    for outcome in found.outcomes:
        marker = "*" if outcome.policy == found.recommended else "x" if outcome.policy == ORACLE else "o"
        axes.plot(outcome.retrains, outcome.log_loss, marker, markersize=11 if marker == "*" else 7, color=_BLUE)
        together[outcome.retrains, round(outcome.log_loss, 3)].append(outcome.policy)
    for place, policies in together.items():
        side = {"xytext": (-6, 5), "ha": "right"} if place[0] > most / 2 else {"xytext": (6, 5), "ha": "left"}
        axes.annotate(", ".join(policies), place, textcoords="offset points", fontsize=8, **side)
    if best is not None:
        axes.axhline(best * (1 + TOLERANCE), color="#999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="retrains", ylabel="log-loss, nats (lower is better)", title="quality against cost")
    return _png(figure)


def draw_time(found: Comparison) -> bytes:
    """Log-loss of each step, as a mean over some of them, with what was promoted when; as PNG."""
    figure, axes = _figure(width=10)
    at = np.array([moment.replace(tzinfo=None) for moment in found.at], dtype="datetime64[s]")
    for outcome in found.outcomes:
        values = np.array([np.nan if loss is None else loss for loss in outcome.by_step])
        is_main = outcome.policy == found.recommended
        axes.plot(
            at, _smooth(values), label=outcome.policy, linewidth=2.2 if is_main else 1, zorder=3 if is_main else 2
        )
    main = next((each for each in found.outcomes if each.policy == found.recommended), None)
    for moment in main.promoted_at if main else ():
        axes.axvline(np.datetime64(moment.replace(tzinfo=None), "s"), color="#bbb", linewidth=0.7, zorder=1)
    axes.set(ylabel="log-loss, nats", title=f"quality over time, mean of {_SMOOTHED} looks")
    axes.legend(fontsize=7, ncols=5)
    figure.autofmt_xdate()
    return _png(figure)


_BLUE = "#1f5fa8"


def _smooth(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean of each step and those just before it, of the values there are."""
    there = ~np.isnan(values)
    kernel = np.ones(_SMOOTHED)
    sums = np.convolve(np.where(there, values, 0.0), kernel)[: len(values)]
    counts = np.convolve(there.astype(np.float64), kernel)[: len(values)]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _figure(width: float = 7) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()
