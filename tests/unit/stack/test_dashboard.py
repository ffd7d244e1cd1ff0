"""The dashboard asks for metrics that there are, by labels that they have."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from features.streaming.metrics import StreamMetrics
from serving.gateway.metrics import GatewayMetrics
from stack.dashboard import DOCUMENT, dashboard

# what PromQL selects by: a metric with its suffix, and the labels in braces
SELECTOR = re.compile(r"\b((?:evergreen|process)_\w+)(?:\{([^}]*)\})?")


def known() -> dict[str, set[str]]:
    """Every series there is, with its labels."""
    found: dict[str, set[str]] = {}
    for registry in (GatewayMetrics().registry, StreamMetrics().registry):
        found |= series(registry)
    return found


def series(registry: CollectorRegistry) -> dict[str, set[str]]:
    collectors: dict[str, Any] = registry._names_to_collectors
    found = {name: set(getattr(each, "_labelnames", ())) for name, each in collectors.items()}
    return found | {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def test_the_file_is_fresh() -> None:
    assert json.loads(DOCUMENT.read_text()) == dashboard(), "run: python -m stack.dashboard"


@pytest.mark.parametrize("query", queries())
def test_a_query_finds_what_it_asks_for(query: str) -> None:
    there = known()
    selected = SELECTOR.findall(query)
    assert selected
    for metric, matchers in selected:
        assert metric in there, f"no {metric} in {query}"
        asked = set(re.findall(r"(\w+)\s*=~?", matchers or ""))
        asked |= {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(", ")}
        assert asked - {"le"} <= there[metric], f"{metric} has the labels {there[metric]}"


def test_every_graph_has_its_own_number_and_place() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_every_metric_of_ours_is_on_it() -> None:
    asked = {metric for query in queries() for metric, _ in SELECTOR.findall(query)}
    ours = {re.sub(r"_(total|bucket|count|sum|created)$", "", name) for name in known() if name.startswith("evergreen")}
    shown = {re.sub(r"_(total|bucket)$", "", name) for name in asked}
    assert ours - shown <= {
        "evergreen_stream_apply_seconds", "evergreen_stream_batches", "evergreen_stream_entries",
        "evergreen_stream_flushed_rows", "evergreen_stream_partitions",
    }  # fmt: skip
