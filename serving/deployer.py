"""Makes what serves agree with MLflow's ``champion`` aliases: ``python -m serving.deployer``."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime

from core.clock import SystemClock
from core.decision import Decision
from core.errors import DeploymentError, DigestMismatch, EvergreenError, StaleGeneration
from core.ledger import Entry, Ledger
from core.logs import configure_logging, use_case_var
from core.settings import Settings, load_settings
from serving.deployment import ACTOR, KIND, Deployment, SmokeFailed, Stations
from serving.draining import Draining
from serving.open_inference.host import OpenInferenceHost
from serving.open_inference.scorings import store as open_inference_store
from serving.reconcile import Live, Load, Observed, Smoke, Step, plan
from serving.routes import RedisRouteTable, Route
from serving.torchserve.configuration import store
from serving.torchserve.host import TorchServeHost

logger = logging.getLogger(__name__)
CHAMPION = "champion"
_GRACE_S = 5.0  # many times the gateways' poll: a request accepted on the old route is reported well within it
_TRY_AGAIN_S = 15.0
_ENTRIES = 50


class Deployer:
    """Compares what is wanted with what serves, again and again, and acts until they agree.

    It remembers nothing it could not do without: whenever it is killed, the next one goes on from what the
    ledger, the route table and the model host say.

    Args:
        stations: what a deployment passes through.
        stop: set when the process is to end.
        grace_s: seconds a version must be idle before it is let go.
        monotonic: a clock in seconds that never goes backwards.
    """

    def __init__(
        self,
        stations: Stations,
        stop: threading.Event,
        *,
        grace_s: float = _GRACE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at = stations
        self._stop = stop
        self._monotonic = monotonic
        self._deployment = Deployment(stations, stop)
        self._draining = Draining(grace_s)
        self._desired: dict[str, str] = {}
        self._refused: dict[str, dict[str, float]] = {}
        self._announced: dict[str, int] = {}
        self._troubles: dict[str, str] = {}

    def run(self, poll_s: float) -> None:
        """Poll until told to stop."""
        self._at.store.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._at.store.glob(".*"):  # of a deployer that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception as error:  # the entry point: nothing ends the deployer but a signal
                self._note("this round", error)
            else:
                self._over("this round")
            self._stop.wait(poll_s)

    def poll(self) -> None:
        """Compare once, and act; trouble with one use case leaves the others alone.

        Raises:
            Unavailable: if the model host or the route table is away.
        """
        desired = self._read_desired()
        loaded, routes = self._at.host.loaded(), self._at.routes.routes()
        for use_case in sorted({*desired, *loaded, *routes}):
            if self._stop.is_set():
                return
            token = use_case_var.set(use_case)
            try:
                seen = self._observe(use_case, desired.get(use_case), loaded.get(use_case, set()), routes.get(use_case))
                settled = self._act(use_case, plan(seen))
            except Exception as error:  # likewise: whatever one use case meets must not stop the others
                self._note(use_case, error)
            else:
                if settled:
                    self._over(use_case)
            finally:
                use_case_var.reset(token)

    def _read_desired(self) -> dict[str, str]:
        """The champions; none while the registry is away, so that serving goes on as it is."""
        try:
            aliases = self._at.registry.aliases()
        except EvergreenError as error:
            self._note("the registry", error)
            return {}
        self._over("the registry")
        desired = {use_case: named[CHAMPION] for use_case, named in aliases.items() if CHAMPION in named}
        for use_case, version in desired.items():
            if self._desired.get(use_case) != version:
                self._refused.pop(use_case, None)
        self._desired |= desired
        return desired

    def _observe(self, use_case: str, desired: str | None, loaded: set[str], route: Route | None) -> Observed:
        found = self._at.ledger.live(use_case)
        live = Live(found.version, found.generation, found.previous) if found else None
        picked_up = route is not None and self._at.routes.picked_up(use_case, route.generation)
        now_s = self._monotonic()
        refused = frozenset(v for v, until_s in self._refused.get(use_case, {}).items() if now_s < until_s)
        busy = {route.version if route else None, live.version if live else None} | ({desired} - refused)
        busy |= set(self._at.routes.in_flight(use_case))
        drained = self._draining.look(use_case, loaded=loaded, busy=busy, now_s=now_s)
        return Observed(
            desired=desired,
            live=live,
            route=route,
            loaded=frozenset(loaded),
            picked_up=picked_up,
            announced=live is None or self._is_announced(use_case, live.generation),
            refused=refused,
            drained=drained,
        )

    def _act(self, use_case: str, steps: list[Step]) -> bool:
        """Take the steps; False if one could not be taken because of the version it is about."""
        for step in steps:
            if self._stop.is_set():
                return False
            try:
                self._deployment.take(use_case, step)
            except DeploymentError as error:
                if not isinstance(step, (Load, Smoke)):
                    raise
                self._refuse(use_case, step.version, error)
                return False
            except StaleGeneration as error:
                logger.info("%s", error)
                return False
        return True

    def _refuse(self, use_case: str, version: str, error: DeploymentError) -> None:
        """Leave a version alone: for good if it is not what it should be, for a while if it just did not load."""
        hopeless = isinstance(error, (DigestMismatch, SmokeFailed)) and not self._serves(use_case, version)
        until_s = math.inf if hopeless else self._monotonic() + _TRY_AGAIN_S
        self._refused.setdefault(use_case, {})[version] = until_s
        reason = str(error)
        kind = type(error).__name__
        if self._was_said(use_case, version, kind):
            return
        logger.error("%s %s is refused, serving goes on as it is: %s", use_case, version, reason)
        evidence = {"error": kind, "again_in_s": None if hopeless else _TRY_AGAIN_S}
        self._at.ledger.record(
            use_case, KIND, Decision("refuse", reason, evidence),
            actor=ACTOR, as_of=self._as_of(use_case, version), version=version,
        )  # fmt: skip

    def _was_said(self, use_case: str, version: str, kind: str) -> bool:
        """Whether the same refusal is in the ledger, and no deployment since."""
        for entry in self._at.ledger.entries(use_case, kind=KIND, limit=_ENTRIES):
            if entry.action == "deploy":
                return False
            if (entry.version, entry.evidence.get("error")) == (version, kind):
                return True
        return False

    def _serves(self, use_case: str, version: str) -> bool:
        live = self._at.ledger.live(use_case)
        return live is not None and live.version == version

    def _as_of(self, use_case: str, version: str) -> datetime:
        try:
            return self._at.registry.info(use_case, version).as_of
        except EvergreenError:
            return self._at.clock.now()

    def _is_announced(self, use_case: str, generation: int) -> bool:
        if self._announced.get(use_case) != generation and any(
            _announces(entry, generation) for entry in self._at.ledger.entries(use_case, kind=KIND, limit=_ENTRIES)
        ):
            self._announced[use_case] = generation
        return self._announced.get(use_case) == generation

    def _note(self, what: str, error: Exception) -> None:
        """Log a trouble when it begins or changes, not each time it is met."""
        text = f"{type(error).__name__}: {error}"
        if self._troubles.get(what) == text:
            return
        self._troubles[what] = text
        if isinstance(error, EvergreenError):
            logger.warning("%s has to wait: %s", what, error)
        else:
            logger.error("%s failed unexpectedly", what, exc_info=error)

    def _over(self, what: str) -> None:
        if self._troubles.pop(what, None) is not None:
            logger.info("%s goes on", what)


def _announces(entry: Entry, generation: int) -> bool:
    return entry.action == "deploy" and entry.evidence.get("generation") == generation


def build_stations(settings: Settings) -> Stations:
    """The real ones: MLflow, the model host that the settings name, Redis and the ledger."""
    from registry.mlflow_registry import MlflowRegistry  # MLflow takes seconds to import

    ledger = Ledger(settings.ledger_url)
    ledger.migrate()
    elsewhere = settings.host.kind == "open_inference"
    return Stations(
        registry=MlflowRegistry(settings.mlflow_url),
        host=OpenInferenceHost(settings) if elsewhere else TorchServeHost(settings),
        routes=RedisRouteTable.connect(settings),
        ledger=ledger,
        store=open_inference_store(settings) if elsewhere else store(settings),
        clock=SystemClock(),
    )


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Deployer(build_stations(settings), stop).run(settings.deployer.poll_s)
    logger.info("The deployer has stopped.")


if __name__ == "__main__":
    main()
