"""What prefect.yaml promises must be there."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest
import yaml

from flows.deploy import PREFECT_FILE
from flows.monitor import RETRAIN_REQUESTED

DECLARED: list[dict[str, Any]] = yaml.safe_load(PREFECT_FILE.read_text())["deployments"]


@pytest.mark.parametrize("entry", DECLARED, ids=[entry["name"] for entry in DECLARED])
def test_every_deployment_names_a_flow_that_takes_its_parameters(entry: dict[str, Any]) -> None:
    module, _, function = entry["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), function)
    given = [entry.get("parameters", {}), *(trigger["parameters"] for trigger in entry.get("triggers", []))]

    assert flow.name == entry["name"]
    assert set().union(*given) <= set(inspect.signature(flow.fn).parameters)


def test_the_retrain_waits_for_the_event_that_the_monitor_emits() -> None:
    (trigger,) = [trigger for entry in DECLARED for trigger in entry.get("triggers", [])]

    assert trigger["expect"] == [RETRAIN_REQUESTED]
    assert set(trigger["parameters"]) == {"use_case", "as_of", "reason", "decision_id"}
