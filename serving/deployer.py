"""Makes what serves agree with what MLflow's aliases and tags say: ``python -m serving.deployer``."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from core.clock import SystemClock
from core.decision import Decision
from core.errors import DeploymentError, StaleGeneration, Unavailable
from core.ledger import Deployment as Deployed
from core.ledger import Ledger
from core.logs import configure_logging, use_case_var
from core.serving_policy import Bake
from core.settings import Settings, load_settings
from serving.bake_policies import BakePolicies
from serving.deployment import ACTOR, Deployment, Stations
from serving.doorkeeper import Doorkeeper
from serving.draining import Draining
from serving.gateway_report import Report
from serving.intent import Intent
from serving.open_inference.host import OpenInferenceHost
from serving.open_inference.scorings import store as open_inference_store
from serving.permission import Rules, rules_of
from serving.promoting import is_named_anew
from serving.reconcile import Live, Observed, plan
from serving.refusals import Refusals
from serving.routes import RedisRouteTable, in_flight, is_followed
from serving.routing import Route
from serving.standing import KIND, PASS, Standing, read_standing
from serving.steps import Load, MoveAlias, Release, Smoke, Step
from serving.torchserve.configuration import store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.packer import packed_versions
from serving.troubles import Troubles
from serving.wakes import RedisWakes, Wakes
from serving.wanted import CHAMPION, Wanted
from serving.watch import Verdict, Watch
from serving.webhook_keeper import WebhookKeeper

logger = logging.getLogger(__name__)
_GRACE_S = 5.0  # many times the gateways' poll: a request accepted on the old route is reported well within it
_ENTRIES = 50


@dataclass(frozen=True)
class Found:
    """What there is of a use case at the beginning of a round.

    Args:
        wanted: what the registry asks for.
        loaded: versions that answer.
        packed: versions whose archive is kept.
        route: what the gateways are told.
        reports: what they say, by their ids.
    """

    wanted: Wanted
    loaded: set[str]
    packed: set[str]
    route: Route | None
    reports: Mapping[str, Report]


class Deployer:
    """Compares what is wanted with what serves, again and again, and acts until they agree.

    It remembers nothing it could not do without: whenever it is killed, the next one goes on from what the
    ledger, the route table and the model host say.

    Args:
        stations: what a deployment passes through.
        stop: set when the process is to end.
        grace_s: seconds a version must be idle before it is let go.
        monotonic: a clock in seconds that never goes backwards.
        bake_of: what a use case allows its new versions.
        rules: what a version that never answered needs to become champion.
        registry_poll_s: most seconds for which what the registry said counts; 0: it is asked each time.
    """

    def __init__(
        self,
        stations: Stations,
        stop: threading.Event,
        *,
        grace_s: float = _GRACE_S,
        monotonic: Callable[[], float] = time.monotonic,
        bake_of: Callable[[str], Bake] = lambda _: Bake(),
        rules: Rules | None = None,
        registry_poll_s: float = 0.0,
    ) -> None:
        self._at = stations
        self._stop = stop
        self._monotonic = monotonic
        self._deployment = Deployment(stations, stop)
        self._draining = Draining(grace_s)
        self._watch = Watch(bake_of)
        self._wanted: dict[str, Wanted] = {}
        self._intent = Intent(stations, registry_poll_s, monotonic)
        self._doorkeeper = Doorkeeper(stations, rules or Rules())
        self._refusals = Refusals(stations.ledger, stations.registry, stations.clock, monotonic)
        self._announced: dict[str, int] = {}
        self._troubles = Troubles(logger)

    def run(self, poll_s: float, wakes: Wakes | None = None, *, after: Callable[[], None] = lambda: None) -> None:
        """Poll until told to stop.

        Args:
            poll_s: seconds between polls.
            wakes: make it look earlier, and ask the registry then.
            after: called after each poll.
        """
        self._at.store.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._at.store.glob(".*"):  # of a deployer that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        while not self._stop.is_set():
            try:
                self.poll()
                after()
            except Exception as error:  # the entry point: nothing ends the deployer but a signal
                self._troubles.note("this round", error)
            else:
                self._troubles.over("this round")
            if wakes is None:
                self._stop.wait(poll_s)
            elif wakes.wait(poll_s):
                self._intent.look_soon()

    def poll(self) -> None:
        """Compare once, and act; trouble with one use case leaves the others alone.

        Raises:
            Unavailable: if the model host or the route table is away.
        """
        wanted = self._read_wanted()
        try:
            loaded, routes = self._at.host.loaded(), self._at.routes.routes()
            reports = self._at.routes.reports()
        except Unavailable:
            self._watch.interrupt()
            raise
        self._watch.look(reports, self._monotonic())
        for use_case in sorted({*wanted, *loaded, *routes}):
            if self._stop.is_set():
                return
            token = use_case_var.set(use_case)
            try:
                found = Found(
                    wanted.get(use_case, Wanted()),
                    loaded.get(use_case, set()),
                    packed_versions(self._at.store, use_case),
                    routes.get(use_case),
                    reports,
                )
                settled = self._act(use_case, plan(self._observe(use_case, found)))
            except Exception as error:  # likewise: whatever one use case meets must not stop the others
                self._troubles.note(use_case, error)
            else:
                if settled:
                    self._troubles.over(use_case)
            finally:
                use_case_var.reset(token)

    def _read_wanted(self) -> dict[str, Wanted]:
        """What is wanted of each use case; a version that is newly named is tried, whatever it did before."""
        wanted = self._intent.read()
        for use_case, found in wanted.items():
            for _, version in found.named - self._wanted.get(use_case, Wanted()).named:
                self._refusals.forgive(use_case, version)
        self._wanted |= wanted
        return wanted

    def _observe(self, use_case: str, found: Found) -> Observed:
        deployments, standing = self._at.ledger.deployments(use_case), read_standing(self._at.ledger, use_case)
        judged = self._judge(use_case, deployments, standing, found.loaded)
        if judged or self._tries_again(use_case, found.wanted.champion, standing):
            standing = read_standing(self._at.ledger, use_case)
        newest = deployments[0] if deployments else None
        live = Live(newest.version, newest.generation, newest.previous) if newest else None
        wanted = self._doorkeeper.let_in(use_case, found.wanted, deployments, is_fresh=self._intent.is_fresh)
        refused = self._refusals.of(use_case)
        busy = {live.version if live else None} | ({version for _, version in wanted.named} - refused)
        busy |= {*(found.route.versions if found.route else ()), *in_flight(found.reports, use_case)}
        kept = found.loaded | found.packed  # whoever lets go of both may be killed in between
        drained = self._draining.look(use_case, loaded=kept, busy=busy, now_s=self._monotonic())
        return Observed(
            wanted=wanted,
            live=live,
            shares={role: part.share for role, part in standing.parts.items()},
            barred=standing.barred,
            route=found.route,
            loaded=frozenset(found.loaded),
            picked_up=found.route is not None and is_followed(found.reports, use_case, found.route),
            announced=live is None or self._is_announced(use_case, live.generation),
            refused=refused,
            drained=drained,
        )

    def _judge(self, use_case: str, deployments: list[Deployed], standing: Standing, loaded: set[str]) -> bool:
        """Write down what is decided about versions in their bake, before anything follows; True if something is."""
        verdicts = self._watch.verdicts(use_case, deployments, standing, loaded, self._at.clock.now())
        for verdict in verdicts:
            self._record_verdict(use_case, verdict, deployments[0])
        return bool(verdicts)

    def _tries_again(self, use_case: str, champion: str | None, standing: Standing) -> bool:
        """Let a champion that was taken back try again if it got its alias back between two looks; True if it may."""
        taken = standing.taken_back.get(CHAMPION)
        if champion is None or taken is None or taken.version != champion:
            return False
        if not is_named_anew(self._at.ledger, taken, self._intent.known_to):
            return False
        self._refusals.forgive(use_case, champion)
        self._deployment.take(use_case, Release(CHAMPION, champion))
        return True

    def _record_verdict(self, use_case: str, verdict: Verdict, live: Deployed) -> None:
        decision = verdict.decision
        known = f"{verdict.role} {verdict.version}"
        said = f"{known} has passed its bake" if decision.action == PASS else f"{known} is taken back"
        evidence = {**decision.evidence, "role": verdict.role, "generation": live.generation}
        logger.log(logging.INFO if decision.action == PASS else logging.ERROR, "%s: %s", said, decision.reason)
        self._at.ledger.record(
            use_case, KIND, Decision(decision.action, f"{said}: {decision.reason}", evidence),
            actor=ACTOR, as_of=self._at.clock.now(), version=verdict.version,
        )  # fmt: skip

    def _act(self, use_case: str, steps: list[Step]) -> bool:
        """Take the steps; False if one could not be taken now, and what it is about is not settled."""
        for step in steps:
            if self._stop.is_set():
                return False
            if isinstance(step, MoveAlias):
                self._intent.look_soon()
                if not self._intent.is_fresh:  # somebody may have put it there anew since it was read
                    return False
            try:
                self._deployment.take(use_case, step)
            except DeploymentError as error:
                if not isinstance(step, (Load, Smoke)):
                    raise
                self._refusals.refuse(use_case, step.version, error)
                return False
            except StaleGeneration as error:
                logger.info("%s", error)
                return False
        return True

    def _is_announced(self, use_case: str, generation: int) -> bool:
        if self._announced.get(use_case) != generation and any(
            entry.evidence.get("generation") == generation
            for entry in self._at.ledger.entries(use_case, kind=KIND, actions=("deploy",), limit=_ENTRIES)
        ):
            self._announced[use_case] = generation
        return self._announced.get(use_case) == generation


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
        event_time=settings.clock == "event",
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
    deployer = Deployer(
        build_stations(settings),
        stop,
        bake_of=BakePolicies(settings.models_dir),
        rules=rules_of(settings),
        registry_poll_s=settings.deployer.registry_poll_s,
    )
    with closing(RedisWakes.connect(settings, stop)) as wakes:
        deployer.run(settings.deployer.poll_s, wakes, after=WebhookKeeper(settings).keep)
    logger.info("The deployer has stopped.")


if __name__ == "__main__":
    main()
