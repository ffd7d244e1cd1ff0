"""A verdict as a page for people: one HTML file, drawn from the evidence alone."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from core.decision import Decision
from registry.verdict import objections, shortfall, suspicions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {"promote": "Promoted", "keep": "Kept as challenger", "reject": "Rejected"}
_COLORS = {"promote": "#2e7d32", "keep": "#b26a00", "reject": "#c62828"}
_CHALLENGER, _CHAMPION = "#2e7d32", "#78909c"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;"
    "text-align:right}td:first-child,th:first-child{text-align:left}img{max-width:100%}"
    ".verdict{padding:.6rem 1rem;color:#fff;border-radius:4px}.note{color:#666}"
)
_SHOWN_METRICS = (
    ("log_loss", "log-loss"), ("auc", "AUC"), ("brier", "Brier score"), ("calibration_error", "calibration error"),
)  # fmt: skip


def verdict_page(use_case: str, decision: Decision, *, title: str = "") -> str:
    """The page of a verdict.

    Args:
        use_case: its name.
        decision: of `registry.gate.judge`, from now or from the ledger.
        title: what is said of the version beside the use case's name, e.g. its number.

    Returns:
        HTML that needs nothing else: its pictures are in it.
    """
    evidence = decision.evidence
    parts = [
        f"<h1>{escape(use_case)}{': ' + escape(title) if title else ''}</h1>",
        f'<p class="verdict" style="background:{_COLORS.get(decision.action, "#555")}">'
        f"<b>{_WORDS.get(decision.action, escape(decision.action))}.</b> {escape(decision.reason)}</p>",
        _metrics(evidence),
        *(_comparison(evidence) if "champion" in evidence else ()),
        _checks(evidence),
        _picture(_draw_calibration(evidence), "mean score against the share of label 1"),
        *_tests(evidence),
        _leakage(evidence),
        *_selections(evidence),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(use_case)}: '
        f"{escape(decision.action)}</title><style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _metrics(evidence: Mapping[str, Any]) -> str:
    roles = [role for role in ("challenger", "champion") if role in evidence]
    rows = [[name, *(_number(evidence[role][key]) for role in roles)] for key, name in _SHOWN_METRICS]
    base = f"{evidence['rows']:,} newest labelled rows, {evidence['base_rate']:.1%} with label 1"
    said = f'<p class="note">{base}; log-loss of the base rate {evidence["base_rate_log_loss"]:.4f}.</p>'
    return "<h2>Both on the same rows</h2>" + _table(["", *roles], rows) + said


def _comparison(evidence: Mapping[str, Any]) -> Iterable[str]:
    told, (low, high) = shortfall(evidence), evidence["gain_interval"]
    more = "-" if told["more_labels"] is None else f"{told['more_labels']:,}"
    rows = [
        ["gain (champion's log-loss less the challenger's)", f"{evidence['gain']:+.5f}"],
        [f"bounds, each with {evidence['confidence']:.4g} confidence", f"{low:+.5f} to {high:+.5f}"],
        [
            "relative gain, and what is wanted",
            f"{evidence['relative_gain']:+.2%}, {evidence['policy']['min_gain']:.1%}",
        ],
        [f"smallest gain told in {told['power']:.0%} of cases", f"{told['gain']:.5f} ({told['relative']:.2%})"],
        ["more labels needed to tell this gain", more],
        ["neighbouring rows drawn together", f"{evidence['test']['block_rows']:,}"],
    ]
    yield "<h2>Gain</h2>" + _table(["", ""], rows)
    yield _picture(_draw_gain(evidence), "gain with its bounds, and over the rows in order of time")
    if evidence["segments"]:
        shown = [
            [
                part["name"], f"{part['rows']:,}", f"{part['champion_log_loss']:.4f}", f"{part['rise']:+.4f}",
                f"{part['rise_interval'][0]:+.4f} to {part['rise_interval'][1]:+.4f}",
            ]
            for part in evidence["segments"]
        ]  # fmt: skip
        yield "<h2>Segments</h2>" + _table(["", "rows", "champion's log-loss", "rise", "bounds"], shown)


def _checks(evidence: Mapping[str, Any]) -> str:
    policy, found = evidence["policy"], list(suspicions(evidence, evidence["policy"]))
    if "champion" in evidence:
        found += objections(evidence, policy)
    rows = []
    if "calibration" in evidence:
        rise, margin = evidence["calibration"]["rise"], policy["calibration_margin"]
        rows.append(["rise of the calibration error", f"{rise:+.4f}", f"{margin:g}"])
    if "old_regime" in evidence:
        old = evidence["old_regime"]
        rise = f"{old['rise'] / old['champion_log_loss']:+.1%} on {old['rows']:,} rows"
        rows.append(["rise on rows from before the window", rise, f"{policy['old_regime_margin']:.0%}"])
    latency = evidence.get("latency", {"skipped": "it was not asked for"})
    said = f"{latency['ratio']:.2f}" if "ratio" in latency else f"{latency.get('fault') or latency['skipped']}"
    if "challenger_ms" in latency:
        said += f" ({latency['challenger_ms']:.2f} ms, champion {latency['champion_ms']:.2f} ms)"
    most = policy["max_latency_ratio"]
    rows.append(["time to answer in a staged host, over the champion's", said, "-" if most is None else f"{most:g}"])
    listed = "".join(f"<li>{escape(each)}</li>" for each in found) or "<li>nothing speaks against it</li>"
    return f"<h2>Checks</h2>{_table(['', 'found', 'allowed'], rows)}<ul>{listed}</ul>"


def _tests(evidence: Mapping[str, Any]) -> Iterable[str]:
    results = evidence.get("model_tests", {}).get("results", ())
    if results:
        words = {(True, True): "passed", (True, False): "passed", (False, True): "failed", (False, False): "noted"}
        rows = [[each["name"], words[each["passed"], each["required"]], each["said"]] for each in results]
        yield "<h2>Model tests</h2>" + _table(["", "", ""], rows)


def _leakage(evidence: Mapping[str, Any]) -> str:
    if not evidence["leakage"]:
        return '<h2>Leakage</h2><p class="note">No feature was looked at.</p>'
    rows = [
        [each["feature"], f"{each['auc']:.3f}", each["by"], "-" if each["copies"] is None else f"{each['copies']:.1%}"]
        for each in evidence["leakage"]
    ]
    most = f"An AUC of {evidence['policy']['leak_auc']:g} is suspected of a leak."
    head = ["feature alone", "AUC", "by its", "known of the rarer label"]
    return f'<h2>Leakage</h2><p class="note">{most}</p>{_table(head, rows)}'


def _selections(evidence: Mapping[str, Any]) -> Iterable[str]:
    tried = evidence.get("selections_tried", ())
    if tried:
        rows = [[each["selection"]["name"], f"{each['log_loss']:.4f}", each["verdict"]] for each in tried]
        yield "<h2>Trained on</h2>" + _table(["", "log-loss", "verdict"], rows)


def _draw_gain(evidence: Mapping[str, Any]) -> Figure:
    figure, (left, right) = _figure(2)
    names, middles = ["all rows"], [evidence["gain"]]
    bounds = [evidence["gain_interval"]]
    for part in evidence["segments"][:12]:
        names.append(part["name"])
        middles.append(-part["rise"])
        bounds.append([-part["rise_interval"][1], -part["rise_interval"][0]])
    for place, (middle, (low, high)) in enumerate(zip(middles, bounds, strict=True)):
        color = _CHALLENGER if low > 0 else ("#c62828" if high < 0 else "#555")
        left.plot([low, high], [place, place], color=color, linewidth=2)
        left.plot([middle], [place], "o", color=color)
    smallest = shortfall(evidence)["gain"]
    left.axvline(0, color="0.7")
    left.axvline(smallest, color="#1565c0", linestyle=":", label=f"smallest gain told {smallest:.4f}")
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set(xlabel="gain in log-loss (right of 0: better)", title="Paired difference")
    left.legend(fontsize=8)
    over_time = np.asarray(evidence["gain_over_time"])
    right.bar(np.arange(len(over_time)), over_time, color=np.where(over_time >= 0, _CHALLENGER, "#c62828"))
    right.axhline(evidence["gain"], color="#555", linestyle="--", linewidth=1)
    right.set(xlabel="rows, oldest to newest", title="Gain over time")
    return figure


def _draw_calibration(evidence: Mapping[str, Any]) -> Figure:
    figure, (axes,) = _figure(1)
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    for role, color in (("champion", _CHAMPION), ("challenger", _CHALLENGER)):
        if role in evidence:
            bins = evidence[role]["bins"]
            axes.plot(bins["score"], bins["rate"], marker="o", color=color, label=role)
    axes.set(xlabel="mean score", ylabel="share of label 1", title="Calibration", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return figure


def _figure(panels: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure of its own, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * panels + 1, 4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _picture(figure: Figure, meaning: str) -> str:
    drawn = BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return f'<img alt="{escape(meaning)}" src="data:image/png;base64,{b64encode(drawn.getvalue()).decode()}">'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
