"""Carrying out the steps of a plan, one at a time."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from core.clock import Clock
from core.decision import Decision
from core.errors import DependencyDown, DeploymentError, Unavailable
from core.ledger import Ledger
from registry.artifact_scan import require_clean
from registry.digests import verify_folder
from registry.versions import ModelRegistry
from serving.anchors import DIGEST, require_anchored
from serving.asked import asked_for, event_now
from serving.model_host import ModelHost
from serving.routes import RouteTable, is_followed
from serving.routing import Route
from serving.smoke import smoke_fault, smoke_request
from serving.standing import END, KIND, RELEASE
from serving.steps import (
    Announce,
    AwaitPickUp,
    Deploy,
    End,
    Load,
    MoveAlias,
    Publish,
    Release,
    Smoke,
    Split,
    Step,
    Unload,
)
from serving.torchserve.packer import archive_name, pack, read_smoke
from serving.torchserve.seals import ArchiveSeals
from serving.wanted import CANARY

logger = logging.getLogger(__name__)
ACTOR = "deployer"
_PICK_UP_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.02


class SmokeFailed(DeploymentError):
    """A loaded version does not answer its recorded requests as it should."""

    def __init__(self, use_case: str, version: str, problem: str) -> None:
        super().__init__(f"{use_case} {version} fails its smoke test: {problem}. Retrain, or move the alias back.")


@dataclass(frozen=True)
class Stations:
    """Everything a deployment passes through.

    Args:
        registry: where versions are kept.
        host: where they run.
        routes: where it says who answers.
        ledger: where it says who answered, when and why.
        store: folder of archives that the host loads from.
        clock: tells now.
        event_time: whether history is replayed, so that versions answer in event time.
    """

    registry: ModelRegistry
    host: ModelHost
    routes: RouteTable
    ledger: Ledger
    store: Path
    clock: Clock
    event_time: bool = False


class Deployment:
    """Carries out steps. Every step may be repeated.

    Args:
        stations: what the steps act on.
        stop: set when the process is to end; whatever waits then gives up.
    """

    def __init__(self, stations: Stations, stop: threading.Event) -> None:
        self._at = stations
        self._seals = ArchiveSeals(stations.store.with_name("seals"))
        self._stop = stop
        self._seconds: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        self._published: dict[tuple[str, str], float] = {}

    def take(self, use_case: str, step: Step) -> None:
        """Carry out one step and log it.

        Raises:
            DeploymentError: if the version is at fault.
            Unavailable: if something needed is away.
            StaleGeneration: if somebody else deployed meanwhile.
        """
        started = time.perf_counter()
        self._dispatch(use_case, step)
        logger.info("%s: %s took %.2f s", use_case, step, time.perf_counter() - started)

    def _dispatch(self, use_case: str, step: Step) -> None:  # noqa: C901 - one short branch per kind of step
        match step:
            case Load(version, fresh):
                self._load(use_case, version, fresh)
            case Smoke(version):
                self._smoke(use_case, version)
            case Deploy():
                self._deploy(use_case, step)
            case Split():
                self._split(use_case, step)
            case End(role, version):
                self._record(use_case, version, Decision(END, f"{version} is {role} no longer", {"role": role}))
            case Publish(route):
                self._publish(use_case, route)
            case AwaitPickUp(route):
                self._await_pick_up(use_case, route)
            case Announce(version, generation):
                self._announce(use_case, version, generation)
            case MoveAlias(alias, version, to):
                if self._at.registry.alias(use_case, alias) == version:  # else a person was faster
                    self._at.registry.set_alias(use_case, alias, to)
            case Release(role, version):
                gone = f"the alias {role} was off {version} since that was taken back: setting it again is a new try"
                self._record(use_case, version, Decision(RELEASE, gone, {"role": role}))
            case Unload(version):
                self._at.host.unregister(use_case, version)
                archive = self._at.store / archive_name(use_case, version)
                archive.unlink(missing_ok=True)
                self._seals.forget(archive)

    def _load(self, use_case: str, version: str, fresh: bool) -> None:
        archive = self._at.store / archive_name(use_case, version)
        if not fresh and archive.exists():  # serves on while the registry is away
            try:
                require_anchored(self._at.ledger, use_case, version, self._seals.check(archive))
                self._register(use_case, version, archive)
                return
            except DeploymentError as error:
                logger.warning("The archive at hand does not load, so it is fetched anew: %s", error)
        self._fetch_and_pack(use_case, version)
        self._register(use_case, version, archive)

    def _register(self, use_case: str, version: str, archive: Path) -> None:
        with self._timed(use_case, version, "register"):
            self._at.host.register(use_case, version, archive)

    def _fetch_and_pack(self, use_case: str, version: str) -> None:
        self._at.store.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._at.store) as workplace:
            try:
                with self._timed(use_case, version, "fetch"):
                    folder = self._at.registry.fetch(use_case, version, Path(workplace) / version)
                with self._timed(use_case, version, "scan"):
                    require_anchored(self._at.ledger, use_case, version, verify_folder(folder))
                    require_clean(folder, f"{use_case} {version}")
                with self._timed(use_case, version, "pack"):
                    self._seals.seal(pack(folder, self._at.store, use_case=use_case, version=version))
            except DeploymentError as error:  # the workplace is gone when this is read
                error.args = (f"{use_case} {version}: {re.sub(re.escape(workplace) + r'/[^/ ]*/?', '', str(error))}",)
                raise

    def _smoke(self, use_case: str, version: str) -> None:
        recorded = read_smoke(self._at.store / archive_name(use_case, version))
        with self._timed(use_case, version, "smoke"):
            try:
                answer = self._at.host.predict(use_case, version, smoke_request(recorded))
            except DeploymentError as error:
                if version not in self._at.host.loaded().get(use_case, set()):  # the host was restarted just now
                    raise DependencyDown("The model host", f"it lost {use_case} {version}") from error
                raise SmokeFailed(use_case, version, str(error)) from error
        fault = smoke_fault(answer, version=version, n=len(recorded["instances"]))
        if fault is not None:
            raise SmokeFailed(use_case, version, fault)

    def _deploy(self, use_case: str, step: Deploy) -> None:
        ledger, deployments = self._at.ledger, self._at.ledger.deployments(use_case)
        reason = f"champion moved from {step.previous or 'nothing'} to {step.version}"
        if step.is_return:  # must not wait for a registry that is away
            as_of, why = self._trained_at(use_case, step.version), f"{step.previous} was taken back"
        else:
            info = self._at.registry.info(use_case, step.version)
            as_of, why = info.as_of, info.reason
        asked = asked_for(ledger, use_case, step.version, deployments)
        digest = self._digest(use_case, step.version)
        evidence = {"from": step.previous, "decisions": asked.decisions, "asked": asked.reason, DIGEST: digest}
        if self._at.event_time:
            as_of, evidence["clock"] = event_now(ledger, use_case) or as_of, "event"
        ledger.deploy(
            use_case,
            expected_generation=step.expected_generation,
            version=step.version,
            previous=step.previous,
            actor=asked.actor,
            reason=f"{reason}: {why}",
            as_of=as_of,
            evidence=evidence,
        )

    def _digest(self, use_case: str, version: str) -> str | None:
        """Of what is loaded; None if its archive is gone by now."""
        try:
            return self._seals.check(self._at.store / archive_name(use_case, version))
        except DeploymentError:
            return None

    def _trained_at(self, use_case: str, version: str) -> datetime:
        earlier = (each.as_of for each in self._at.ledger.deployments(use_case) if each.version == version)
        return next(earlier, self._at.clock.now())

    def _split(self, use_case: str, step: Split) -> None:
        version, percent, was = step.share.version, step.share.percent, step.was
        is_new = was is None or was.version != version
        what = (
            "answers {:g} % of the entities" if step.role == CANARY else "is asked {:g} % of the requests as a shadow"
        )
        change = "" if was is None else f", in the place of {was.version}" if is_new else f", {was.percent:g} % before"
        before = {"version": was.version, "percent": was.percent} if was else None
        seconds = self._take_seconds(use_case, version) if is_new else {}
        evidence = {"role": step.role, "percent": percent, "was": before, "seconds": seconds}
        self._record(use_case, version, Decision(step.role, f"{version} {what.format(percent)}{change}", evidence))

    def _record(self, use_case: str, version: str, decision: Decision) -> None:
        self._at.ledger.record(use_case, KIND, decision, actor=ACTOR, as_of=self._at.clock.now(), version=version)

    def _publish(self, use_case: str, route: Route) -> None:
        self._at.host.prefer(use_case, route.version)
        self._published[use_case, route.stamp] = time.perf_counter()
        self._at.routes.publish(use_case, route)

    def _await_pick_up(self, use_case: str, route: Route) -> None:
        deadline = time.monotonic() + _PICK_UP_WITHIN_S
        while not is_followed(self._at.routes.reports(), use_case, route):
            if time.monotonic() > deadline:
                raise DependencyDown("A gateway", f"it does not follow the route {route.stamp} of {use_case}")
            if self._stop.wait(_LOOK_AGAIN_S):
                raise Unavailable("The deployer is stopping.")
        published = self._published.pop((use_case, route.stamp), None)
        if published is not None:
            self._seconds[use_case, route.version]["route"] = time.perf_counter() - published

    def _announce(self, use_case: str, version: str, generation: int) -> None:
        live = self._at.ledger.live(use_case)
        if live is None or live.generation != generation:  # somebody deployed again; theirs to announce
            return
        seconds = self._take_seconds(use_case, version)
        evidence = {"generation": generation, "previous": live.previous, "seconds": seconds}
        decision = Decision("deploy", f"{version} answers since {live.deployed_at:%Y-%m-%d %H:%M:%S} UTC", evidence)
        self._at.ledger.record(use_case, KIND, decision, actor=ACTOR, as_of=live.as_of, version=version)

    def _take_seconds(self, use_case: str, version: str) -> dict[str, float]:
        """What it took so far, by step."""
        return {name: round(value, 4) for name, value in self._seconds.pop((use_case, version), {}).items()}

    @contextmanager
    def _timed(self, use_case: str, version: str, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[use_case, version][name] = time.perf_counter() - started
