"""One live stack for all end-to-end tests: two weeks of taxi trips, replayed, two versions trained."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.discovery import discover
from core.settings import (
    DeployerSettings,
    GatewaySettings,
    MlflowSettings,
    PrefectSettings,
    RedisSettings,
    Settings,
    StreamSettings,
    TorchserveSettings,
)
from core.trust import trusted
from core.use_case import ReplaySpan, UseCase
from stack.local import LocalStack
from stack.replay import PrefectOrchestrator, Replay, ReplayPlan, ReplayResult
from stack.sweep import members
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
FIRST_TRAINING = datetime(2018, 1, 28, tzinfo=UTC)
END = FIRST_TRAINING + timedelta(days=8)
KILLED_AT = FIRST_TRAINING + timedelta(days=1)


@dataclass(frozen=True)
class Live:
    """The stack with what was replayed on it."""

    settings: Settings
    use_case: UseCase
    result: ReplayResult
    first_version: str
    second_version: str

    def post(self, path: str, body: Any, now: datetime = END, **kwargs: Any) -> httpx.Response:
        """A call as of a moment; `body` is JSON-able, or bytes to be sent as they are."""
        headers = {"X-Evergreen-Now": now.isoformat(), "Content-Type": "application/json"}
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(
            self.settings.gateway_url + path, headers=headers, timeout=30, verify=trusted(), **sent, **kwargs
        )

    def instance(self, **changes: Any) -> dict[str, Any]:
        """A valid question, made of the fields' examples."""
        return {f.name: f.example for f in self.use_case.request_fields} | changes

    def predict(self, *instances: dict[str, Any]) -> httpx.Response:
        """Ask."""
        return self.post("/v1/models/taxi_tip/predict", {"instances": list(instances)})


def settings_of(home: Path) -> Settings:
    """A stack of its own: own folder, own ports."""
    return Settings(
        home=home,
        clock="event",
        models_dir=ROOT / "models",
        data_dir=ROOT / "data",
        redis=RedisSettings(port=free_port()),
        mlflow=MlflowSettings(port=free_port()),
        prefect=PrefectSettings(port=free_port()),
        gateway=GatewaySettings(port=free_port()),
        stream=StreamSettings(port=free_port()),
        torchserve=TorchserveSettings(
            inference_port=free_port(), management_port=free_port(), metrics_port=free_port(), heap_mb=256
        ),
        deployer=DeployerSettings(poll_s=0.5),
    )


@pytest.fixture(scope="package")  # ends with this folder: an idle stack takes time from the tests after it
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The stack is brought up, a first version trained, eight days served, and a second version trained."""
    stack = LocalStack(settings_of(tmp_path_factory.mktemp("live") / "home"))
    try:
        stack.up()
        yield _replayed(stack.settings)
    finally:
        stack.down()
    assert members(stack.settings) == []


def _replayed(settings: Settings) -> Live:
    use_case = discover(settings.models_dir)["taxi_tip"].use_case
    policy = dataclasses.replace(use_case.policy, monitor_every=timedelta(days=7), materialize_every=timedelta(days=14))
    use_case = dataclasses.replace(use_case, policy=policy)
    span = ReplaySpan(start=datetime(2018, 1, 1, tzinfo=UTC), first_training=FIRST_TRAINING, end=END)
    plan = ReplayPlan(use_case=use_case, history=use_case.history(settings.data_dir), span=span)
    orchestrator = PrefectOrchestrator(settings)
    result = Replay(settings, plan, orchestrator, lambda progress: None).run()
    orchestrator.run("retrain/retrain", {"use_case": "taxi_tip", "as_of": END.isoformat(), "reason": "second version"})
    return Live(settings, use_case, result, "1", "2")


def run(coroutine: Any) -> Any:
    """Run a coroutine to its end."""
    return asyncio.run(coroutine)
