"""The Grafana dashboard in ``docs/grafana/evergreen.json``: ``python -m stack.dashboard`` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.environment import PROJECT_ROOT

DOCUMENT = PROJECT_ROOT / "docs" / "grafana" / "evergreen.json"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 3
_G, _S = "evergreen_gateway", "evergreen_stream"
_ASKED = 'use_case=~"$use_case"'


@dataclass(frozen=True)
class Panel:
    """One graph.

    Args:
        title: what it shows.
        says: how to read it.
        unit: Grafana's name of the unit.
        queries: legend -> PromQL.
    """

    title: str
    says: str
    unit: str
    queries: dict[str, str]


def _rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def _quantiles(metric: str, where: str = "") -> dict[str, str]:
    return {
        f"p{percent}": f"histogram_quantile({percent / 100}, {_rate(f'{metric}_bucket', 'le', where)})"
        for percent in (50, 95, 99)
    }


def _stages() -> dict[str, str]:
    per_stage = _rate(f"{_G}_stage_seconds_bucket", "le, stage", _ASKED)
    return {"{{stage}}": f"histogram_quantile(0.99, {per_stage})"}


ROWS: dict[str, list[Panel]] = {
    "Requests": [
        Panel("Requests by route and status", "5xx means the service is at fault, 4xx its clients.", "reqps",
              {"{{route}} {{status}}": _rate(f"{_G}_requests_total", "route, status")}),
        Panel("Latency", "Of whole predict requests, inside the gateway.", "s",
              _quantiles(f"{_G}_stage_seconds", f'stage="total", {_ASKED}')),
        Panel("Latency by stage, p99", "Where the time goes: waiting for a call, features, model.", "s", _stages()),
        Panel("Instances per call of the model", "Grows with load: requests that arrive together share a call.", "none",
              _quantiles(f"{_G}_batch_instances", _ASKED)),
        Panel("Instances waiting", "At EVERGREEN_GATEWAY__MAX_PENDING load is shed.", "none",
              {"waiting": f"sum({_G}_pending_instances)"}),
        Panel("Shed", "Requests refused at once, by reason: more load than the model can take.", "reqps",
              {"{{use_case}}: {{reason}}": _rate(f"{_G}_shed_total", "use_case, reason", _ASKED)}),
    ],
    "Versions": [
        Panel("Answers by version", "The split between champion and canary.", "reqps",
              {"{{use_case}} {{version}}": _rate(f"{_G}_answers_total", "use_case, version", _ASKED)}),
        Panel("Errors by version", "Calls a version gave no scores for, whatever the client got in the end.", "reqps",
              {"{{use_case}} {{version}}": _rate(f"{_G}_version_errors_total", "use_case, version", _ASKED)}),
        Panel("Circuit breakers", "1: the version is not asked for a while, as it failed again and again.", "none",
              {"{{use_case}} {{version}}": f"max by (use_case, version) ({_G}_breaker_open{{{_ASKED}}})"}),
        Panel("Retries", "What became of calls that were worth a second try, and of the budget for them.", "reqps",
              {"{{outcome}}": _rate(f"{_G}_retries_total", "outcome")}),
        Panel("Shadow", "Calls mirrored to a challenger, which no client gets the answer of.", "reqps",
              {"{{use_case}}: {{outcome}}": _rate(f"{_G}_shadow_total", "use_case, outcome", _ASKED)}),
        Panel("Degraded", "Predictions made with a missing or stale feature.", "reqps",
              {"{{use_case}}": _rate(f"{_G}_degraded_total", "use_case", _ASKED)}),
    ],
    "Logs and streams": [
        Panel("Predictions spooled", "Kept by the gateway until the prediction log takes them again.", "reqps",
              {"{{use_case}}": _rate(f"{_G}_log_spooled_total", "use_case", _ASKED)}),
        Panel("Stream lag", "Age of the oldest event that online features do not know yet.", "s",
              {"partition {{partition}}": f"max by (partition) ({_S}_lag_seconds)"}),
        Panel("Entries waiting", "To be applied, and to be written to the offline log.", "none",
              {"to be applied": f"sum({_S}_lag_entries)", "not in the offline log": f"sum({_S}_log_entries)"}),
        Panel("Events applied", "Events per second that reached the online features.", "none",
              {"events": f"sum(rate({_S}_events_total[$__rate_interval]))"}),
        Panel("Events left out", "Seen before, too late for every window, or not as declared.", "none",
              {what: f"sum(rate({_S}_{what}_total[$__rate_interval]))" for what in ("duplicates", "late", "unfit")}),
        Panel("Memory", "Of the gateway processes.", "bytes", {"{{instance}}": "process_resident_memory_bytes"}),
    ],
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it; it asks for a Prometheus data source."""
    return {
        "title": "Evergreen",
        "uid": "evergreen",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source_variable(), _use_case_variable()]},
        "panels": list(_panels()),
    }


def main(path: Path = DOCUMENT) -> None:
    """Write the file."""
    path.write_text(json.dumps(dashboard(), indent=1) + "\n")


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row, panels in ROWS.items():
        yield {"id": number, "type": "row", "title": row, "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}, "panels": []}
        number, top = number + 1, top + 1
        for i, panel in enumerate(panels):
            place = {"x": i % _ACROSS * _WIDTH, "y": top + i // _ACROSS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            yield _graph(panel, number, place)
            number += 1
        top += -(-len(panels) // _ACROSS) * _HEIGHT


def _graph(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _use_case_variable() -> dict[str, Any]:
    query = f"label_values({_G}_answers_total, use_case)"
    return {
        "name": "use_case",
        "type": "query",
        "label": "Use case",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "use_case"},
        "definition": query,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    main()
