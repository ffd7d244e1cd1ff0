"""A Prefect process worker whose flow runs start in a fraction of a second.

Prefect's own process worker starts two interpreters per run, each of which imports Prefect, and the flow then
imports pandas, scikit-learn, MLflow and Evidently: many seconds of CPU before the first line of a flow. Here one
helper process imports all that once and keeps no threads; each run is a fork of it and then goes through
Prefect's engine exactly as elsewhere: own process, own environment, cancelled by a signal, reported as crashed
when it dies. The pool stays an ordinary process pool, so that ``prefect worker start`` can serve it as well.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import warnings
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus
from anyio.to_thread import run_sync
from prefect.context import SettingsContext, get_settings_context
from prefect.flows import load_flow_from_flow_run
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.settings import Settings as PrefectSettings
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.runner._control_channel import ControlChannel

PRELOADED = ["flows.preload"]


class WarmProcessWorker(ProcessWorker):
    """Executes flow runs in forks of a process that has everything imported."""

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Known to Prefect beside its own process worker, not instead of it."""
        return "warm-process"

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run one flow run to its end and report the exit status of its process."""
        results: list[FlowRunExecutionResult | None] = []
        async with FlowRunExecutorContext() as context:
            starter = _ForkStarter(_fork_context(), configuration, context.control_channel)
            executor = context.create_executor(
                flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
            )

            async def execute(*, task_status: TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED) -> None:
                results.append(await executor.submit(task_status=task_status))

            async with anyio.create_task_group() as group:
                handle: ProcessHandle = await group.start(execute)
                if task_status is not None and handle.pid is not None:
                    task_status.started(handle.pid)
        result = results[0]
        if result is None or result.status_code is None:
            raise RuntimeError(f"the process of flow run {flow_run.id} could not be started")
        return ProcessWorkerResult(status_code=result.status_code, identifier=str(result.handle.pid))


def warm_up() -> None:
    """Start the helper process now, so that the first flow run does not wait for its imports."""
    _fork_context().Process(target=_nothing).start()


class _ForkStarter:
    """Starts one flow run as a fork; see Prefect's ProcessStarter for what is owed to it."""

    def __init__(
        self, forks: ForkServerContext, configuration: ProcessJobConfiguration, control: ControlChannel
    ) -> None:
        self._forks = forks
        self._configuration = configuration
        self._control = control

    async def start(
        self, flow_run: FlowRun, task_status: TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        environment = {
            **self._configuration.env,
            **get_current_settings().to_environment_variables(exclude_unset=True),
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            **self._control_variables(flow_run),
        }
        given = {name: str(value) for name, value in environment.items() if value is not None}
        folder = str(self._configuration.working_dir or Path.cwd())
        process: ForkServerProcess = self._forks.Process(target=_run_engine, args=(given, folder))
        try:
            await run_sync(process.start)
        except BaseException:
            self._control.unregister(flow_run.id)
            raise
        task_status.started(ProcessHandle(process))  # type: ignore[arg-type]  # has pid and exitcode, as asked for
        await run_sync(process.join, abandon_on_cancel=True)

    def _control_variables(self, flow_run: FlowRun) -> dict[str, str]:
        try:
            port, token = self._control.register(flow_run.id)
        except RuntimeError:  # no loopback port was free: cancelling then kills at once, as Prefect does it
            return {}
        return {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}


def _fork_context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _nothing() -> None:
    """What the first fork does: only the helper process behind it is wanted."""


def _run_engine(environment: dict[str, str], folder: str) -> None:
    """Become the process of one flow run: what ``python -m prefect.engine`` does, without the imports."""
    os.environ.clear()  # noqa: TID251  # Prefect's engine is told by variables what to run
    os.environ.update(environment)  # noqa: TID251
    os.chdir(folder)
    with SettingsContext(profile=get_settings_context().profile, settings=PrefectSettings()):
        warnings.filterwarnings("ignore", message="'prefect.engine' found in sys.modules", category=RuntimeWarning)
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
