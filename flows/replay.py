"""The flow that tries policies on the past, side by side."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_LEVEL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from core.errors import SettingsError
from core.settings import Settings
from flows.replay_inputs import ReplaySpec, inputs_of
from flows.replay_training import on_one_thread
from monitoring.replay.course import Course, moments_of
from monitoring.replay.outcome import Comparison, compare
from monitoring.replay.policies import ALWAYS, ORACLE
from monitoring.replay.simulation import Simulation

Show = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it is done."""
FEATURES, TRAINING = "features", "training"
_HEALTH_S = 2.0
_START_S = 120
_show: Show = lambda what, done, total: None  # noqa: E731
_counting = threading.Lock()


@task(cache_policy=NO_CACHE, task_run_name="fit {part}")
def fit(spec: ReplaySpec, moments: Sequence[datetime], part: int) -> None:
    """Train as of each moment; what is trained is kept on disk."""
    trainings = inputs_of(spec).trainings
    for moment in moments:
        trainings.train(moment)
        _count()


@task(cache_policy=NO_CACHE, task_run_name="{name}")
def simulate(spec: ReplaySpec, name: str) -> Course:
    """Run one policy over the past."""
    inputs = inputs_of(spec)
    run = Simulation(inputs.asked, name, inputs.policies[name], inputs.trainings, inputs.gate(name), inputs.windows)
    return run.run(inputs.span, lambda done, steps: _show(name, done, steps))


@flow(name="replay", validate_parameters=False)
def replay(spec: ReplaySpec, workers: int) -> Comparison:
    """Try policies on the past and compare what they come to."""
    began = time.perf_counter()
    inputs = inputs_of(spec, lambda done, total: _show(FEATURES, done, total))
    moments = moments_of(inputs.span)
    if {ALWAYS, ORACLE} & set(spec.policies):
        _start_count(len(moments))
        fits = [fit.submit(spec, moments[part::workers], part) for part in range(workers)]
        wait(fits)
        for future in fits:
            future.result()
    futures = [simulate.submit(spec, name) for name in inputs.policies]
    courses = [future.result() for future in futures]
    trained_at = {moment for course in courses for moment in course.trained_at}
    known = moments if ORACLE in spec.policies else sorted(trained_at)
    versions = [version for moment in known for version in inputs.trainings.train(moment)]
    return compare(
        inputs.asked, courses, versions, inputs.policies, inputs.span, with_oracle=ORACLE in spec.policies,
        wall_s=time.perf_counter() - began,
    )  # fmt: skip


def run_replay(spec: ReplaySpec, settings: Settings, show: Show = _show) -> Comparison:
    """Run the flow here, on the stack's Prefect if it is up, else on one that lives as long as this takes.

    Args:
        spec: what to replay.
        settings: this process's.
        show: is told of the progress, from several threads; of runners in other processes it learns nothing.

    Raises:
        SettingsError: if the task runner asked for is not installed.
        EvergreenError: see `flows.replay_inputs.inputs_of`.
    """
    workers = settings.replay.workers or os.cpu_count() or 1
    with _told(show), _api(settings), on_one_thread():
        found: Comparison = replay.with_options(task_runner=_runner(settings, workers))(spec, workers)
        return found


def _runner(settings: Settings, workers: int) -> TaskRunner[Any]:
    kind = settings.replay.task_runner
    try:
        return _RUNNERS[kind](workers)
    except ImportError as error:
        raise SettingsError(
            f"EVERGREEN_REPLAY__TASK_RUNNER is {kind!r}, which needs prefect-{kind}: pip install prefect-{kind}, or "
            "leave it at 'threads'."
        ) from error


def _on_dask(workers: int) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    runner: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1})
    return runner


def _on_ray(workers: int) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    runner: TaskRunner[Any] = RayTaskRunner(init_kwargs={"num_cpus": workers})
    return runner


def _on_threads(workers: int) -> TaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=workers)


_RUNNERS: Mapping[str, Callable[[int], TaskRunner[Any]]] = {
    "threads": _on_threads, "dask": _on_dask, "ray": _on_ray,
}  # fmt: skip


@contextmanager
def _api(settings: Settings) -> Iterator[None]:
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the progress says what there is to be said
    changes: dict[Any, Any] = {PREFECT_LOGGING_LEVEL: "WARNING"}
    if _answers(settings.prefect_api_url):
        changes[PREFECT_API_URL] = settings.prefect_api_url
        with temporary_settings(changes):
            yield
        return
    database = (Path(settings.home) / "replays" / "prefect.db").absolute()
    database.parent.mkdir(parents=True, exist_ok=True)
    changes |= {
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _START_S,
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}",
    }
    with temporary_settings(changes, restore_defaults={PREFECT_API_URL}):
        yield


def _answers(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/health", timeout=_HEALTH_S).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def _told(show: Show) -> Iterator[None]:
    global _show
    before, _show = _show, show
    try:
        yield
    finally:
        _show = before


_trained, _to_train = 0, 0


def _start_count(total: int) -> None:
    global _trained, _to_train
    _trained, _to_train = 0, total


def _count() -> None:
    global _trained
    with _counting:
        _trained += 1
        done = _trained
    _show(TRAINING, done, _to_train)
