"""Registers what ``prefect.yaml`` declares: the same as ``prefect deploy --all``, without starting Prefect's CLI.

Differs from it in two settings of Evergreen: the work pool's name, and that no schedule is active while history
is replayed (a wall-clock schedule means nothing in event time).
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectAlreadyExists
from prefect.schedules import Schedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from core.errors import DependencyDown, SettingsError
from core.logs import configure_logging
from core.settings import Settings, load_settings

PREFECT_FILE = Path(__file__).resolve().parent.parent / "prefect.yaml"
_PATIENCE_S = 120.0
_log = logging.getLogger(__name__)


async def deploy_all(settings: Settings, prefect_file: Path = PREFECT_FILE) -> list[str]:
    """Create the work pool and every deployment with its schedules and triggers; safe to repeat.

    Returns:
        Names of the deployments, ``flow/deployment``.

    Raises:
        SettingsError: if the file is not there.
        DependencyDown: if Prefect does not answer in time.
    """
    if not prefect_file.is_file():
        raise SettingsError(f"{prefect_file.absolute()} is not there. It belongs beside the folder of the flows.")
    declared = yaml.safe_load(prefect_file.read_text())["deployments"]
    names = []
    with temporary_settings({PREFECT_API_URL: settings.prefect_api_url}):
        async with get_client() as client:
            await _wait_until_healthy(client, settings.prefect_api_url)
            await _create_pool(client, settings.prefect.pool)
        for entry in declared:
            deployment = _deployment(entry, settings)
            await deployment.aapply()
            names.append(deployment.full_name)
    _log.info("deployed %s", ", ".join(names))
    return names


def _deployment(entry: dict[str, Any], settings: Settings) -> RunnerDeployment:
    schedules = [
        Schedule(**declared | {"active": settings.clock == "system" and declared.get("active", True)})
        for declared in entry.get("schedules") or []
    ]
    return RunnerDeployment.from_entrypoint(
        entry["entrypoint"],
        entry["name"],
        description=entry.get("description"),
        parameters=entry.get("parameters") or {},
        tags=entry.get("tags") or [],
        schedules=schedules,
        triggers=[DeploymentEventTrigger(**trigger) for trigger in entry.get("triggers") or []],
        work_pool_name=settings.prefect.pool,
    )


async def _wait_until_healthy(client: PrefectClient, url: str) -> None:
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while (problem := await client.api_healthcheck()) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise DependencyDown("Prefect", f"{url}: {problem}") from problem
        await asyncio.sleep(0.2)


async def _create_pool(client: PrefectClient, name: str) -> None:
    template = ProcessWorker.get_default_base_job_template()
    try:
        await client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
    except ObjectAlreadyExists:
        _log.debug("the work pool %s is there already", name)


def main() -> None:
    """Deploy and leave."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(deploy_all(settings))
    except httpx.HTTPError as error:
        raise DependencyDown("Prefect", f"{settings.prefect_api_url}: {error}") from error


if __name__ == "__main__":
    main()
