"""All that says which versions serve, read from the real stations at one moment, and what it should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from features.streams import Keys
from serving.routes import RedisRouteTable, is_followed
from serving.routing import Route, Share
from serving.standing import read_standing
from serving.torchserve.configuration import seals, store
from serving.torchserve.packer import archive_name
from serving.wanted import CANARY, CHAMPION
from tests.chaos_stack import GATEWAYS, WORKERS, ChaosStack
from tests.serving_stack import USE_CASE, described, ready_workers


@dataclass(frozen=True)
class Goal:
    """What is wanted, all of it.

    Args:
        aliases: in MLflow.
        route: what gateways are to follow; its generation is the ledger's.
        previous: the champion before, which stays warm.
    """

    aliases: Mapping[str, str]
    route: Route
    previous: str

    @property
    def loaded(self) -> set[str]:
        """Versions that are to be loaded, and no others."""
        return {self.previous, *self.route.versions}

    @property
    def files(self) -> set[str]:
        """Archives and seals that are to be kept, and no others."""
        archives = {archive_name(USE_CASE, version) for version in self.loaded}
        return archives | {f"{archive}.json" for archive in archives}


@dataclass(frozen=True)
class State:
    """What there is. Two of them are equal if nothing was written and nothing was loaded in between.

    Args:
        aliases: in MLflow.
        tags: of the registered model.
        raw_route: in Redis.
        is_followed: whether every gateway follows it.
        workers: processes that are ready to answer, by every version that TorchServe knows.
        preferred: TorchServe's default version.
        deployments: the ledger's, newest first: generation, version, previous.
        entries: the rest of the ledger, newest first: id, kind, action, version, generation.
        shares: by role, what canary and shadow get by the ledger.
        barred: by role, what was taken back.
        files: archives and seals, with the moments when they were written.
    """

    aliases: Mapping[str, str]
    tags: Mapping[str, str]
    raw_route: bytes
    is_followed: bool = field(compare=False)
    workers: Mapping[str, list[int]]
    preferred: str
    deployments: list[tuple[int, str, str | None]]
    entries: list[tuple[Any, ...]]
    shares: Mapping[str, Share]
    barred: Mapping[str, str]
    files: Mapping[str, int]

    @property
    def route(self) -> Route:
        """What the gateways are told."""
        return Route.decode(self.raw_route)

    def disagreements(self, goal: Goal) -> Iterator[str]:
        """Where it is not as it should be."""
        route, canary = goal.route, goal.route.canary
        announced = [generation for _, _, action, _, generation in self.entries if action == "deploy"]
        pairs: tuple[tuple[str, Any, Any], ...] = (
            ("route", self.route, route),
            ("every gateway follows", self.is_followed, True),
            ("aliases", self.aliases, goal.aliases),
            ("loaded", {v: len(pids) for v, pids in self.workers.items()}, dict.fromkeys(goal.loaded, WORKERS)),
            ("default version", self.preferred, route.version),
            ("deployment", self.deployments[0], (route.generation, route.version, goal.previous)),
            ("announced, how often", announced.count(route.generation), 1),
            ("shares", self.shares, {} if canary is None else {CANARY: canary}),
            ("barred", self.barred, {}),
            ("archives and seals", set(self.files), goal.files),
        )
        yield from (f"{what}: {found} in place of {wanted}" for what, found, wanted in pairs if found != wanted)


def read_route(stack: ChaosStack) -> bytes:
    """The route as it is in Redis."""
    raw: Any = stack.redis.hget(Keys(stack.settings.redis.namespace).routes, USE_CASE)
    assert isinstance(raw, bytes), "there is no route"
    return raw


def read_state(stack: ChaosStack) -> State:
    """Ask every station."""
    raw, reports = read_route(stack), RedisRouteTable(stack.redis, stack.settings.redis.namespace).reports()
    follows = len(reports) == GATEWAYS and is_followed(reports, USE_CASE, Route.decode(raw))
    wanted, standing = stack.registry.desired()[USE_CASE], read_standing(stack.ledger, USE_CASE)
    folders = (store(stack.settings), seals(stack.settings))
    return State(
        aliases=wanted.aliases,
        tags=wanted.tags,
        raw_route=raw,
        is_followed=follows,
        workers={v["modelVersion"]: sorted(ready_workers(v)) for v in described(stack.settings, "all")},
        preferred=described(stack.settings, "")[0]["modelVersion"],
        deployments=[(d.generation, d.version, d.previous) for d in stack.ledger.deployments(USE_CASE)],
        entries=[
            (entry.id, entry.kind, entry.action, entry.version, entry.evidence.get("generation"))
            for entry in stack.ledger.entries(USE_CASE)
        ],
        shares={role: part.share for role, part in standing.parts.items()},
        barred=standing.barred,
        files={path.name: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()},
    )


def disagreements(stack: ChaosStack, goal: Goal) -> list[str]:
    """Where the stack is not as it should be; no more than the route is asked for while that is another one."""
    route = Route.decode(read_route(stack))
    if route != goal.route:
        return [f"route: {route} in place of {goal.route}"]
    return list(read_state(stack).disagreements(goal))


def goal_of(stack: ChaosStack, *, champion: str, canary: Share | None) -> Goal:
    """What is wanted if those aliases are set, given what the ledger says is live now.

    Args:
        stack: a running one in which there were two champions.
        champion: the version that is to answer.
        canary: what is to answer a share of the entities; the champion itself gets none besides.
    """
    live = stack.ledger.live(USE_CASE)
    assert live is not None and live.previous is not None, "there must have been two champions"
    is_switch = champion != live.version
    generation, previous = (live.generation + 1, live.version) if is_switch else (live.generation, live.previous)
    aliases = {CHAMPION: champion, **({CANARY: canary.version} if canary else {})}
    share = None if canary is None or canary.version == champion else canary
    return Goal(aliases, Route(champion, generation, canary=share), previous)
