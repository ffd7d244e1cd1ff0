"""The page of a look, for people: Evidently's report, and before it what Evidently does not know."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from core.use_case import UseCase
from monitoring.drift_page import LATEST, draw_drift, served_columns
from monitoring.live import LiveVersion, Served
from monitoring.measured import recent
from monitoring.profile import ReferenceProfile
from monitoring.ranks import moved_pairs
from monitoring.window import WindowProfile

_STYLE = "font-family:sans-serif;font-size:14px;margin:16px 24px"
_PAIRS = 8
_CELL = "padding:2px 12px;text-align:right"


def draw_page(
    use_case: UseCase,
    live: LiveVersion,
    served: Served,
    *,
    as_of: datetime,
    page: Path,
    curve: Sequence[Mapping[str, Any]] = (),
) -> dict[str, float]:
    """Write the page about the predictions a look at `as_of` saw.

    Args:
        use_case: whose.
        live: the version that answers.
        served: what the look saw.
        as_of: its moment.
        page: the file; beside it a copy is named ``latest.html``.
        curve: the loss of the newest windows, as decisions record it.

    Returns:
        Evidently's distances, by column.
    """
    answered = served.predictions.loc[served.predictions["version"] == live.version]
    distances = draw_drift(
        served_columns(recent(use_case, answered, as_of), use_case.features.columns),
        live.reference,
        categorical=use_case.categorical,
        threshold=use_case.policy.drift_threshold,
        page=page,
    )
    sections = [curve_section(curve, live.log_loss)] if curve else []
    if live.profile is not None and live.profile.related:
        sections.append(relations_section(live.profile, recent(use_case, answered, as_of)))
    if sections:
        put_first(page, "".join(sections))
        shutil.copyfile(page, page.with_name(LATEST))
    return distances


def put_first(page: Path, section: str) -> None:
    """Put a section at the beginning of a page's body."""
    before, body, rest = page.read_text(encoding="utf-8").partition("<body>")
    page.write_text(f"{before}{body}{section}{rest}" if body else f"{section}{before}", encoding="utf-8")


def curve_section(curve: Sequence[Mapping[str, Any]], reference: float) -> str:
    """The loss of the newest windows as a table with bars, in HTML.

    Args:
        curve: as decisions record it, oldest first.
        reference: the live version's log-loss on its holdout, in nats.
    """
    highest = max((point["high"] or point["log_loss"] for point in curve), default=0.0) or 1.0
    rows = "".join(_row(point, highest) for point in curve)
    heads = ("from", "to", "version", "predictions", "labelled", "log-loss", "between", "")
    return (
        f'<section style="{_STYLE}"><h2>Log-loss over time</h2><p>By the labels known now; the live version had '
        f"{reference:.4f} on its holdout. The bar ends at the loss, the line is its interval.</p><table><tr>"
        + "".join(f'<th style="{_CELL}">{head}</th>' for head in heads)
        + f"</tr>{rows}</table></section>"
    )


def relations_section(reference: ReferenceProfile, rows: pd.DataFrame) -> str:
    """The pairs of features whose rank correlation moved most, in HTML.

    Args:
        reference: of the version that answered.
        rows: what it answered.
    """
    now = WindowProfile(reference).add(rows).ranks.correlations
    moved = moved_pairs(reference.related, reference.correlations, now, _PAIRS)
    cells = "".join(
        f'<tr><td style="{_CELL}">{escape(pair.one)}, {escape(pair.other)}</td>'
        f'<td style="{_CELL}">{pair.before:+.2f}</td><td style="{_CELL}">{pair.now:+.2f}</td></tr>'
        for pair in moved
    )
    return (
        f'<section style="{_STYLE}"><h2>Relations between features</h2><p>The pairs whose rank correlation moved '
        f"most, of {len(reference.related)} columns.</p><table><tr>"
        + "".join(f'<th style="{_CELL}">{head}</th>' for head in ("columns", "reference", "window"))
        + f"</tr>{cells}</table></section>"
    )


def _row(point: Mapping[str, Any], highest: float) -> str:
    low, high = point["low"], point["high"]
    between = "" if low is None else f"{low:.4f} to {high:.4f}"
    cells = (
        str(point["from"])[:16].replace("T", " "), str(point["to"])[:16].replace("T", " "), str(point["version"]),
        str(point["rows"]), str(point["labelled"]), f"{point['log_loss']:.4f}", between,
    )  # fmt: skip
    shown = "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in cells)
    return f"<tr>{shown}<td>{_bar(point['log_loss'], low, high, highest)}</td></tr>"


def _bar(value: float, low: float | None, high: float | None, highest: float) -> str:
    x = [round(200 * each / highest, 1) for each in (value, value if low is None else low, high or value)]
    return (
        f'<svg width="204" height="14"><rect width="{x[0]}" height="10" y="2" fill="#9bc1a3"/>'
        f'<line x1="{x[1]}" x2="{x[2]}" y1="7" y2="7" stroke="#333" stroke-width="2"/></svg>'
    )
