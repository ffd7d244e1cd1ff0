"""What becomes of flow runs that do not end well: no run may look alive that is dead, no process survive its run."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Completed

from core.errors import DependencyDown
from flows.client import FlowResult, run_deployment, wait_for_flow_runs
from serving.gateway.console.flow_runs import FlowRuns
from tests.waiting import until


def deploy(flow: str, api_url: str) -> str:
    deployment = RunnerDeployment.from_entrypoint(f"tests.integration.flows.doomed.{flow}", flow)
    deployment.work_pool_name = "test-pool"
    with temporary_settings({PREFECT_API_URL: api_url}):
        deployment.apply()
    return deployment.full_name


def start_lingering(api_url: str, marker: Path) -> tuple[FlowResult, int]:
    started = run_deployment(
        deploy("linger", api_url), {"marker": str(marker)}, wait=False, api_url=api_url
    )  # fmt: skip
    until(lambda: marker.exists() and marker.read_text(), "the flow run did not begin")
    return started, int(marker.read_text())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_whose_process_is_killed_is_reported_as_crashed(
    prefect_port: int, worker: subprocess.Popen[bytes]
) -> None:
    api_url = f"http://127.0.0.1:{prefect_port}/api"

    result = run_deployment(deploy("die", api_url), {}, timeout_s=60, api_url=api_url)

    assert result.state == "Crashed"
    assert "-9" in result.message


def test_cancelling_a_run_ends_its_process(prefect_port: int, worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    api_url, marker = f"http://127.0.0.1:{prefect_port}/api", tmp_path / "pid"
    started, pid = start_lingering(api_url, marker)

    with SyncPrefectClient(api_url) as client:
        client.set_flow_run_state(started.id, Cancelling())
    ended = wait_for_flow_runs(
        "linger/linger", lambda given: given["marker"] == str(marker), timeout_s=60, api_url=api_url
    )

    assert ended.state == "Cancelled"
    until(lambda: not alive(pid), "the process survived its run")


def test_runs_are_started_and_followed_by_plain_http(prefect_port: int) -> None:
    api_url = f"http://127.0.0.1:{prefect_port}/api"
    deployment = RunnerDeployment.from_entrypoint(
        "tests.integration.flows.doomed.die", "by-http", enforce_parameter_schema=False
    )  # of no pool, so that no worker takes its runs
    with temporary_settings({PREFECT_API_URL: api_url}):
        deployment.apply()
    with closing(FlowRuns(api_url)) as flows:
        run = flows.start("die/by-http", {"use_case": "tip"}, once="a form")
        assert flows.start("die/by-http", {"use_case": "tip"}, once="a form").id == run.id
        assert [(found.id, found.use_case, found.is_final) for found in flows.scheduled("die/by-http")] == [
            (run.id, "tip", False)
        ]
        assert flows.newest("die/by-http") == []
        assert run.deployment == flows.deployment_id("die/by-http")
        with SyncPrefectClient(api_url) as client:
            client.set_flow_run_state(run.id, Completed(), force=True)  # type: ignore[arg-type]
        ended = flows.run(run.id)
        assert (ended.state, ended.is_final, ended.name) == ("Completed", True, run.name)
        assert [found.id for found in flows.newest("die/by-http")] == [run.id]
        with pytest.raises(DependencyDown, match="does not know"):
            flows.start("retrain/nobody", {}, once="b")
    with closing(FlowRuns("http://127.0.0.1:9/api")) as nobody, pytest.raises(DependencyDown, match="does not answer"):
        nobody.run(run.id)
