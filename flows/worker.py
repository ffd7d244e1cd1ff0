"""The process that executes flow runs: ``python -m flows.worker``.

It deploys first, so that Prefect is imported once for both.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

from prefect.settings import PREFECT_API_URL, PREFECT_WORKER_QUERY_SECONDS, temporary_settings

from core.logs import configure_logging
from core.settings import Settings, load_settings
from flows.deploy import deploy_all
from flows.warm import WarmProcessWorker, warm_up

# A run waits half of it on average before it starts; a query costs the server about 10 ms.
_QUERY_S = 0.5
_log = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Deploy, then execute flow runs until the process is told to stop (SIGTERM or SIGINT)."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, task.cancel)
    await asyncio.to_thread(warm_up)
    await deploy_all(settings)
    worker = WarmProcessWorker(
        work_pool_name=settings.prefect.pool, name=f"evergreen-{socket.gethostname()}", create_pool_if_not_found=False
    )
    await worker.start(printer=_log.info)


def main() -> None:
    """Run the worker; a stop signal ends it and its flow runs."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    for chatty in ("httpx", "alembic"):  # a line per poll, twice a second
        logging.getLogger(chatty).setLevel(logging.WARNING)
    changes = {PREFECT_API_URL: settings.prefect_api_url, PREFECT_WORKER_QUERY_SECONDS: _QUERY_S}
    try:
        with temporary_settings(changes):
            asyncio.run(serve(settings))
    except asyncio.CancelledError:
        _log.info("stopped")


if __name__ == "__main__":
    main()
