"""The demo's report: a summary for machines, a picture and a page for people."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import orjson

from core.ledger import Entry
from core.use_case import UseCase
from stack.comparison import Comparison
from stack.delivery_times import DeliveryTimes
from stack.replay import ReplayResult, Retrain

_SHOWN = ("gate", "promotion", "deployment", "data_check")


def summary(
    use_case: UseCase, result: ReplayResult, comparison: Comparison, times: Sequence[DeliveryTimes] = ()
) -> dict[str, Any]:
    """The summary as JSON-able values; ``log_loss`` covers the predictions since ``log_loss_since``."""
    caught = first_caught(result.retrains, comparison.since)
    return {
        "use_case": use_case.name,
        "predictions": result.record.predictions,
        "degraded_predictions": result.record.degraded,
        "failed_requests": len(result.record.failed),
        "retrains": [
            {
                "at": r.at.isoformat(),
                "reason": r.reason,
                "version": r.version,
                "promoted": r.promoted,
                "training_set": r.fingerprint,
            }
            for r in result.retrains
        ],
        "log_loss": {"frozen": comparison.frozen, "evergreen": comparison.evergreen},
        "log_loss_since": comparison.since.isoformat(),
        "log_loss_whole": {"frozen": comparison.whole_frozen, "evergreen": comparison.whole_evergreen},
        "drift_detected_at": caught.at.isoformat() if caught else None,
        "detected_to_serving_s": round(caught.seconds, 1) if caught else None,
        "deliveries": [each.as_json() for each in times],
        "longest_without_fitting_s": max((round(each.other_s, 1) for each in times), default=None),
    }


def first_caught(retrains: Sequence[Retrain], since: datetime) -> Retrain | None:
    """The first promoted retrain after `since` that drift or performance called for."""
    return next((r for r in retrains if r.promoted and r.reason in ("drift", "performance") and r.at >= since), None)


def write_summary(path: Path, values: dict[str, Any]) -> None:
    """Write the summary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(values, option=orjson.OPT_INDENT_2))


def draw(comparison: Comparison, retrains: Sequence[Retrain], use_case: UseCase, path: Path) -> None:
    """Draw log-loss per month, frozen against Evergreen, with the promotions."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    months = comparison.months
    x = list(range(len(months)))
    figure, axes = plt.subplots(figsize=(10, 4.8), dpi=120)
    axes.plot(x, months["frozen"], "--", color="#b0413e", marker="o", markersize=4, label="frozen first version")
    axes.plot(x, months["evergreen"], "-", color="#1b7f4b", marker="o", markersize=4, label="Evergreen")
    names = months["month"].tolist()
    for retrain in retrains:
        month = retrain.at.strftime("%Y-%m")
        if retrain.promoted and retrain.reason != "first" and month in names:
            place = names.index(month) + (retrain.at.day - 15) / 31
            axes.axvline(place, color="#1b7f4b", alpha=0.35, linewidth=1)
            axes.annotate(
                f"v{retrain.version} {retrain.reason}", (place, 0.98), xycoords=("data", "axes fraction"),
                rotation=90, va="top", ha="right", fontsize=8, color="#1b7f4b",
            )  # fmt: skip
    axes.set_xticks(x, names, rotation=45, ha="right")
    axes.set_ylabel("log-loss (nats), lower is better")
    axes.set_title(f"{use_case.name}: {use_case.description}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.35 * float(months[["frozen", "evergreen"]].to_numpy().max()))
    axes.legend(loc="lower left", frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def write_page(
    path: Path, values: dict[str, Any], comparison: Comparison, entries: Sequence[Entry], plot: Path
) -> None:
    """Write the page: the picture, the months, the decisions."""
    picture = base64.b64encode(plot.read_bytes()).decode()
    months = "".join(
        f"<tr><td>{row['month']}<td>{row['predictions']}<td>{row['frozen']:.4f}<td>{row['evergreen']:.4f}"
        f"<td>{1 - row['evergreen'] / row['frozen']:+.1%}<td>{escape(row['versions'])}"
        for row in comparison.months.to_dict("records")
    )
    decisions = "".join(
        f"<tr><td>{e.as_of:%Y-%m-%d %H:%M}<td>{e.kind}<td>{escape(e.action)}<td>{e.version or ''}"
        f"<td>{escape(e.reason)}<td>{escape(e.actor)}"
        for e in decisions_shown(entries)
    )
    path.write_text(
        f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Evergreen: {values["use_case"]}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c2b22 }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 }} img {{ max-width: 100% }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d8e0da; vertical-align: top }}
.scroll {{ overflow-x: auto }}
</style>
<h1>{values["use_case"]}: kept current for {len(comparison.months)} months</h1>
<p>{values["predictions"]:,} predictions, {values["failed_requests"]} failed requests. Since
{comparison.since:%d %b %Y} the log-loss of what Evergreen served is <b>{comparison.evergreen:.4f}</b>, the frozen
first version's <b>{comparison.frozen:.4f}</b> ({comparison.gain:.1%} less).</p>
<img alt="Log-loss per month: frozen first version and Evergreen" src="data:image/png;base64,{picture}">
<h2>Months</h2><div class="scroll"><table><tr><th>month<th>labelled predictions<th>frozen<th>Evergreen
<th>less<th>versions that answered{months}</table></div>
<h2>Decisions</h2><div class="scroll"><table><tr><th>event time<th>kind<th>action<th>version<th>reason<th>by{decisions}
</table></div></html>""",
        encoding="utf-8",
    )


def decisions_shown(entries: Sequence[Entry]) -> list[Entry]:
    """What a person wants to see, oldest first: everything but the looks that found nothing."""
    quiet = {"trigger": "wait", "audit": "pass", "aftermath": "wait", "delivery": "done"}
    return [e for e in reversed(entries) if e.kind in _SHOWN or e.action != quiet.get(e.kind, e.action)]
