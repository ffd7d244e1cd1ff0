"""A comparison of policies as a page of its own: nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from string import Template

from monitoring.replay.outcome import Comparison, Outcome
from monitoring.replay.plots import draw_cost, draw_time

HEADINGS = (
    "policy", "log-loss", "against always", "regret", "retrains", "promoted", "refused", "taken back", "alarms",
    "compute s",
)  # fmt: skip

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}tr.best{background:#eef4fb;font-weight:600}img{max-width:100%}
.note{color:#666;font-size:.9em}</style></head><body>
<h1>$title</h1><p>$what</p><p><strong>$why</strong></p>
<table><thead><tr>$head</tr></thead><tbody>$rows</tbody></table>
<p class="note">The oracle answers at each step with the version that, in hindsight, does best of all that any policy
had trained by then; regret is what is above it. Retrains leave out the first training, compute seconds do not.
A schedule is kept at looks alone: one that is shorter than the time between them retrains at each.</p>
<img alt="log-loss against retrains" src="data:image/png;base64,$cost">
<img alt="log-loss over time" src="data:image/png;base64,$time">
</body></html>
""")


def write_page(found: Comparison, path: Path) -> None:
    """Write the page; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(found), encoding="utf-8")


def render_page(found: Comparison) -> str:
    """The page as HTML."""
    span = found.span
    what = (
        f"{found.rows:,} labelled predictions from {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}, a look every "
        f"{span.every.total_seconds() / 86_400:g} days; replayed in {found.wall_s:.0f} s."
    )
    rows = "".join(
        f"<tr{' class=best' if each.policy == found.recommended else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(each, found))
        + "</tr>"
        for each in found.outcomes
    )
    return _PAGE.substitute(
        title=html.escape(f"Retraining policies of {found.use_case} on its past"), what=html.escape(what),
        why=html.escape(found.why), head="".join(f"<th>{heading}</th>" for heading in HEADINGS), rows=rows,
        cost=base64.b64encode(draw_cost(found)).decode(), time=base64.b64encode(draw_time(found)).decode(),
    )  # fmt: skip


def cells(outcome: Outcome, found: Comparison) -> tuple[str, ...]:
    """A policy's row, one text under each of `HEADINGS`."""
    always = next((each for each in found.outcomes if each.policy == "always"), None)
    against = f"{outcome.log_loss / always.log_loss - 1:+.2%}" if always else "–"
    return (
        outcome.policy, f"{outcome.log_loss:.4f}", against, f"{outcome.regret:.4f}", str(outcome.retrains),
        str(outcome.promoted), str(outcome.refused), str(outcome.taken_back), str(outcome.alarms),
        f"{outcome.compute_s:.1f}",
    )  # fmt: skip
