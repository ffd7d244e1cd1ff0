"""Prefect's flow runs by plain HTTP: the gateway must not import Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from core.errors import DependencyDown
from core.trust import trusted

RETRAIN = "retrain/retrain"
_NEWEST = 30
_FIRST_RETRY_WITHIN_S = 0.1


@dataclass(frozen=True)
class FlowRun:
    """A run of a flow.

    Args:
        id: Prefect's.
        name: for people.
        deployment: ``flow/deployment`` is ``retrain/retrain``; here its id.
        state: Prefect's word: Scheduled, Running, Completed, Failed, Crashed, …
        is_final: whether it has ended.
        use_case: what it was called for; ``all``, or empty if it names none.
        expected_at: when it is, or was, to begin; None if unknown.
        seconds: how long it has run.
    """

    id: str
    name: str
    deployment: str
    state: str
    is_final: bool
    use_case: str
    expected_at: datetime | None
    seconds: float


class FlowRuns:
    """Starts runs of deployments and says how they stand. Safe to use from several threads.

    Prefect answers 503 while its database is busy with another write, and means to be asked again; everything that is
    asked here may be repeated.

    Args:
        api_url: Prefect's, ending in ``/api``; a name and password in it are sent along.
        timeout_s: how long one answer may take, and for how long a busy server is asked again, in seconds.
    """

    def __init__(self, api_url: str, timeout_s: float = 5.0) -> None:
        self._url = api_url.rstrip("/")
        self._client = httpx.Client(timeout=timeout_s, verify=trusted())
        self._until_free = Retrying(
            retry=retry_if_exception(_is_busy),
            wait=wait_random_exponential(multiplier=_FIRST_RETRY_WITHIN_S),
            stop=stop_before_delay(timeout_s),
            reraise=True,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def start(self, deployment: str, parameters: Mapping[str, str], *, once: str) -> FlowRun:
        """Ask for a run.

        Args:
            deployment: flow and deployment, with a slash between.
            parameters: the flow's.
            once: asked for again with the same text, no second run is made.

        Raises:
            DependencyDown: if Prefect does not answer, or does not know the deployment.
        """
        body = {"parameters": dict(parameters), "idempotency_key": once, "state": {"type": "SCHEDULED"}}
        path = f"deployments/{self.deployment_id(deployment)}/create_flow_run"
        return _run(self._ask("POST", path, json=body))

    def deployment_id(self, deployment: str) -> str:
        """Prefect's id of a deployment.

        Raises:
            DependencyDown: if Prefect does not answer, or does not know it.
        """
        return str(self._ask("GET", f"deployments/name/{deployment}")["id"])

    def run(self, run_id: str) -> FlowRun:
        """How a run stands.

        Raises:
            DependencyDown: if Prefect does not answer, or does not know it.
        """
        return _run(self._ask("GET", f"flow_runs/{run_id}"))

    def scheduled(self, deployment: str) -> list[FlowRun]:
        """Runs that are still to begin, the next one first.

        Raises:
            DependencyDown: if Prefect does not answer.
        """
        return self._filtered(deployment, "EXPECTED_START_TIME_ASC", ("SCHEDULED", "PENDING"))

    def newest(self, deployment: str) -> list[FlowRun]:
        """Runs that have begun, the newest first.

        Raises:
            DependencyDown: if Prefect does not answer.
        """
        began = ("RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING")
        return self._filtered(deployment, "EXPECTED_START_TIME_DESC", began)

    def _filtered(self, deployment: str, order: str, states: Sequence[str]) -> list[FlowRun]:
        flow, _, name = deployment.partition("/")
        body = {
            "flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}},
            "flow_runs": {"state": {"type": {"any_": list(states)}}}, "sort": order, "limit": _NEWEST,
        }  # fmt: skip
        return [_run(found) for found in self._ask("POST", "flow_runs/filter", json=body)]

    def _ask(self, method: str, path: str, **what: Any) -> Any:
        try:
            return self._until_free(self._ask_once, method, path, **what)
        except httpx.HTTPStatusError as error:
            raise DependencyDown("Prefect", f"status {error.response.status_code}") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise DependencyDown("Prefect", f"{error}" or type(error).__name__) from error

    def _ask_once(self, method: str, path: str, **what: Any) -> Any:
        response = self._client.request(method, f"{self._url}/{path}", **what)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise DependencyDown("Prefect", f"it does not know {path}; run: python -m flows.deploy")
        return response.raise_for_status().json()


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.SERVICE_UNAVAILABLE


def _run(found: Mapping[str, Any]) -> FlowRun:
    expected = found.get("expected_start_time")
    return FlowRun(
        id=str(found["id"]),
        name=str(found.get("name", "")),
        deployment=str(found.get("deployment_id") or ""),
        state=str(found.get("state_name") or "Scheduled"),
        is_final=found.get("state_type") in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"),
        use_case=str((found.get("parameters") or {}).get("use_case", "")),
        expected_at=datetime.fromisoformat(expected) if expected else None,
        seconds=float(found.get("total_run_time") or 0.0),
    )
