"""Starting flows from outside and waiting for them: for the command line and the replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import DependencyDown, EvergreenError
from core.settings import load_settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

RETRAIN = "retrain/retrain"
_POLL_S = 0.15
_NEWEST = 50


@dataclass(frozen=True)
class FlowResult:
    """How a flow run ended, or stands.

    Args:
        state: Prefect's name of it: Completed, Failed, Crashed, Cancelled, …; Running or Scheduled if it was
            not waited for.
        name: the run's name.
        id: the run's id.
        message: what Prefect says about the state.
        parameters: what the run was called with.
    """

    state: str
    name: str
    id: str
    message: str
    parameters: Mapping[str, Any]

    @property
    def completed(self) -> bool:
        """Whether it ended well."""
        return self.state == "Completed"


class FlowTimeout(EvergreenError):
    """A flow run did not end, or did not begin, in the time given."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(
            f"{what} within {timeout_s:.0f} s. Look at the run in the Prefect UI, and at the worker's log."
        )


def run_deployment(
    name: str,
    parameters: Mapping[str, str | None],
    *,
    timeout_s: float = 600,
    wait: bool = True,
    api_url: str | None = None,
) -> FlowResult:
    """Start a run of a deployment, such as ``monitor/monitor``.

    Args:
        name: flow and deployment, with a slash between.
        parameters: the flow's parameters; None values are left out.
        timeout_s: how long to wait for its end.
        wait: whether to wait for its end.
        api_url: Prefect's API; the settings' by default.

    Raises:
        DependencyDown: if Prefect does not answer or does not know the deployment.
        FlowTimeout: if the run does not end in time; it goes on.
    """
    with _client(api_url) as client:
        deployment = client.read_deployment_by_name(name)
        given = {key: value for key, value in parameters.items() if value is not None}
        run = client.create_flow_run_from_deployment(deployment.id, parameters=given)
        return _ended(client, run, timeout_s) if wait else _result(run)


def wait_for_triggered(
    decision_id: int | str, timeout_s: float = 600, *, deployment: str = RETRAIN, api_url: str | None = None
) -> FlowResult:
    """Wait for the run that an event started, known by its parameter ``decision_id``, and for its end."""
    wanted = str(decision_id)
    return wait_for_flow_runs(
        deployment, lambda parameters: parameters.get("decision_id") == wanted, timeout_s=timeout_s, api_url=api_url
    )


def wait_for_flow_runs(
    deployment: str,
    predicate: Callable[[Mapping[str, Any]], bool],
    *,
    timeout_s: float = 600,
    api_url: str | None = None,
) -> FlowResult:
    """Wait until the newest run of a deployment whose parameters satisfy the predicate exists and has ended."""
    deadline = time.monotonic() + timeout_s
    with _client(api_url) as client:
        while True:
            for run in _newest(client, deployment):
                if predicate(run.parameters):
                    return _ended(client, run, deadline - time.monotonic())
            if time.monotonic() > deadline:
                raise FlowTimeout(f"No matching run of {deployment} began", timeout_s)
            time.sleep(_POLL_S)


def _newest(client: SyncPrefectClient, deployment: str) -> list[FlowRun]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    flow_name, _, deployment_name = deployment.partition("/")
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment_name])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_NEWEST,
    )


def _ended(client: SyncPrefectClient, run: FlowRun, timeout_s: float) -> FlowResult:
    deadline = time.monotonic() + timeout_s
    while run.state is None or not run.state.is_final():
        if time.monotonic() > deadline:
            raise FlowTimeout(f"The flow run {run.name} did not end", timeout_s)
        time.sleep(_POLL_S)
        run = client.read_flow_run(run.id)
    return _result(run)


def _result(run: FlowRun) -> FlowResult:
    state = run.state
    return FlowResult(
        state=(state.name if state else None) or "Scheduled",
        name=run.name,
        id=str(run.id),
        message=(state.message if state else None) or "",
        parameters=dict(run.parameters),
    )


@contextmanager
def _client(api_url: str | None) -> Iterator[SyncPrefectClient]:
    # Prefect takes a second to import; a command that starts no flow should not wait for it.
    import httpx
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.exceptions import ObjectNotFound

    url = api_url or load_settings().prefect_api_url
    try:
        with SyncPrefectClient(url) as client:
            yield client
    except ObjectNotFound as error:
        raise DependencyDown("Prefect", f"{url} does not know this deployment; run: python -m flows.deploy") from error
    except httpx.HTTPError as error:
        raise DependencyDown("Prefect", f"{url}: {error}") from error
