"""What a flow works with: built once per run from the settings, each part when it is first used."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from prefect.runtime import flow_run

from core.clock import SystemClock, as_utc, parse_moment
from core.discovery import UseCaseFile, discover, select
from core.errors import EvergreenError
from core.ledger import Ledger
from core.logs import run_id_var
from core.settings import Settings, load_settings
from features.offline.log import OfflineLog
from features.streaming.worker import settle
from features.streams import Keys

if TYPE_CHECKING:
    import redis

    from registry.versions import ModelRegistry

ALL = "all"


class FlowContext:
    """The settings, and the clients that follow from them.

    Args:
        settings: this process's.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def use_cases(self) -> dict[str, UseCaseFile]:
        """Every use case by name."""
        return discover(self.settings.models_dir)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, brought up to date."""
        ledger = Ledger(self.settings.ledger_url)
        ledger.migrate()
        return ledger

    @cached_property
    def log(self) -> OfflineLog:
        """The offline log."""
        return OfflineLog(self.settings.offline_dir)

    def settle(self) -> None:
        """Wait until all that was acknowledged so far is in the offline log, so that the run sees it.

        Raises:
            DependencyDown: if the stream worker does not get there.
        """
        settle(self.redis, self.keys, self.settings.stream.partitions)

    @cached_property
    def registry(self) -> ModelRegistry:
        """Registered versions."""
        from registry.mlflow_registry import MlflowRegistry

        return MlflowRegistry(self.settings.mlflow_url)

    @cached_property
    def redis(self) -> redis.Redis:
        """The online store.

        Raises:
            DependencyDown: if it is a cluster that does not answer.
        """
        from features.connection import connect

        return connect(self.settings)

    @cached_property
    def keys(self) -> Keys:
        """Names of its keys."""
        return Keys(self.settings.redis.namespace)

    def select(self, name: str) -> list[UseCaseFile]:
        """The use case of that name, or every one for ``all``."""
        return list(self.use_cases.values()) if name == ALL else [select(self.use_cases, name)]

    def moment(self, use_case: str, as_of: str | None) -> datetime:
        """The moment a run is for: the one given, else now; in a replay, else the newest thing logged.

        Raises:
            EvergreenError: if it cannot be read, or a replay has not begun.
        """
        if as_of:
            try:
                return parse_moment(as_of)
            except ValueError as error:
                raise EvergreenError(
                    f"as_of {as_of!r} is no ISO 8601 moment. Write it like 2019-02-05T00:00:00+00:00."
                ) from error
        if self.settings.clock == "system":
            return SystemClock().now()
        logged = [frame["known_at"].max() for frame in (self.log.predictions(use_case), self.log.labels(use_case))
                  if len(frame)]  # fmt: skip
        if not logged:
            raise EvergreenError(f"{use_case}: nothing was replayed yet, so there is no event time. Give as_of.")
        return as_utc(max(logged).to_pydatetime())


def open_context() -> FlowContext:
    """Read the settings of this process, and name the run in its logs from here on."""
    run_id_var.set(str(flow_run.id or "-"))
    return FlowContext(load_settings())
