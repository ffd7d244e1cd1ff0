"""Having instances scored: by which version, under which ids, and by whom besides."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from core.errors import DeadlineMissed, Overloaded
from core.prediction_ids import ids_of, issue_base
from core.use_case import UseCase
from features.streams import SHADOW, entity_text
from serving.gateway.access_log import AccessLog
from serving.gateway.coalescer import Answer, Coalescer, Question, Stages
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed
from serving.gateway.problems import DeadlineTooShort, Fault, InvalidFields
from serving.gateway.route_table import RouteTable
from serving.routing import Route, Share

_SHARE_BITS = 32


@dataclass(slots=True)  # one per request: frozen ones take three times as long to make
class Asked:
    """What a client asks.

    Args:
        rows: clean rows, n at least 1.
        context: clean fields that are the same for all of them, and stand in none; None if there are none.
        at_us: the moment they are asked for, µs since 1970 UTC; one for all, or n.
        now_us: the moment that counts as now.
        timeout_s: seconds the client allows; None: as long as the gateway does.
        log: whether it may end in the prediction log; a probe's must not.
        traceparent: of the trace it belongs to, for the model host; None if it belongs to none.
    """

    rows: list[dict[str, Any]]
    context: Mapping[str, Any] | None
    at_us: int | list[int]
    now_us: int
    timeout_s: float | None = None
    log: bool = True
    traceparent: bytes | None = None


@dataclass(slots=True)
class Scored:
    """What a client gets.

    Args:
        predictions: n scores; None where the model gave no finite one.
        ids: n prediction ids.
        degraded: instances that something was missing for: their index and why, in order.
        version: the version that answered, of the first instance if there were several.
        versions: of each instance, if several versions answered; else None.
        stages: where the time went, for the first of them.
    """

    predictions: list[float | None]
    ids: list[str]
    degraded: list[tuple[int, list[str]]]
    version: str
    versions: list[str] | None
    stages: Stages


Done = Callable[[Scored | BaseException], None]


class Predictor:
    """Has instances of one use case scored.

    Args:
        use_case: its declaration.
        secret: what prediction ids are signed with.
        routes: which versions are live.
        coalescer: asks the model host.
        metrics: where shadows are counted.
        access_log: told of what was not answered.
        mirror_below: instances pending from which on no shadow is asked.
    """

    def __init__(
        self,
        use_case: UseCase,
        *,
        secret: bytes,
        routes: RouteTable,
        coalescer: Coalescer,
        metrics: GatewayMetrics,
        access_log: AccessLog,
        mirror_below: int,
    ) -> None:
        self._name = use_case.name
        self._sticky_by = use_case.serving.sticky_by or (use_case.entities[0].name,)
        self._log_share = use_case.serving.log_share
        self._secret = secret
        self._routes = routes
        self._coalescer = coalescer
        self._metrics = metrics
        self._access_log = access_log
        self._mirror_below = mirror_below

    def require_room(self) -> None:
        """Refuse a call before it is even read, if it would wait too long.

        Raises:
            Overloaded: if it would.
        """
        route = self._routes.find(self._name)
        if route is not None:
            self._coalescer.require_room(self._name, route.version)

    def ask(self, asked: Asked, done: Done, version: str | None = None) -> None:
        """Have instances scored; `done` is called later, once, with the result or what went wrong.

        Args:
            asked: the instances.
            done: gets a Scored, or an EvergreenError, or what was not foreseen.
            version: which one must answer; None: whichever the route says.

        Raises:
            NoLiveVersion: if there is nothing to answer.
            Overloaded: if it would wait too long.
        """
        route = self._routes.live(self._name)
        if version is not None or route.canary is None:
            self._ask_one(route, version or route.version, asked, done)
            return
        versions = self._assign(route, asked)
        if len(set(versions)) == 1:
            self._ask_assigned(route, versions[0], asked, done)
        else:
            self._ask_several(route, versions, asked, done)

    def _ask_assigned(self, route: Route, version: str, asked: Asked, done: Done) -> None:
        """Have a canary's instances answered by it, or by the champion while it cannot keep up."""
        try:
            self._ask_one(route, version, asked, done)
        except Overloaded:
            if version == route.version:
                raise
            self._ask_one(route, route.version, asked, done)

    def _ask_one(self, route: Route, version: str, asked: Asked, done: Done) -> None:
        n = len(asked.rows)
        base = issue_base(self._secret, self._name, asked.now_us // 1000, n)
        log = asked.log and (self._log_share >= 1 or self._is_kept(base))
        question = Question(
            asked.rows, asked.context, asked.at_us, base, asked.now_us, log=log, traceparent=asked.traceparent
        )
        asked_s = monotonic()

        def answered(result: Answer | BaseException) -> None:
            if isinstance(result, Answer):
                scored = Scored(
                    result.predictions, ids_of(base, n), result.degraded, result.version, None, result.stages
                )
                done(scored)
                if route.shadow is not None:
                    self._mirror(route.shadow, question, result.version)
            else:
                error = self._explain(result, version, asked)
                self._access_log.failed(self._name, version, monotonic() - asked_s, ids_of(base, n), error)
                done(error)

        self._coalescer.submit(self._name, version, question, answered, asked.timeout_s)

    def _ask_several(self, route: Route, versions: list[str], asked: Asked, done: Done) -> None:
        """Have each part answered by its version, and put the answers together."""
        parts = [
            (version, [i for i, chosen in enumerate(versions) if chosen == version])
            for version in dict.fromkeys(versions)
        ]
        merging = _Merging(len(versions), len(parts), done)
        for version, places in parts:
            at_us = asked.at_us if isinstance(asked.at_us, int) else [asked.at_us[i] for i in places]
            part = replace(asked, rows=[asked.rows[i] for i in places], at_us=at_us)
            try:
                self._ask_assigned(route, version, part, merging.taker(places))
            except Overloaded as error:
                merging.fail(error)

    def _assign(self, route: Route, asked: Asked) -> list[str]:
        context, names = asked.context or {}, self._sticky_by
        if all(name in context for name in names):
            version = route.version_for(self._name, entity_text([context[name] for name in names]))
            return [version] * len(asked.rows)
        return [
            route.version_for(self._name, entity_text([row[name] if name in row else context[name] for name in names]))
            for row in asked.rows
        ]

    def _mirror(self, shadow: Share, question: Question, answered_by: str) -> None:
        """Ask the shadow too: after the client has its answer, and only while there is room to spare."""
        if shadow.version == answered_by:
            return
        if shadow.percent < 100 and zlib.crc32(question.ids.encode()) % 10_000 >= shadow.percent * 100:
            return
        name, metrics = self._name, self._metrics
        if self._coalescer.pending >= self._mirror_below:
            metrics.mirrored(name, "no room")
            return

        def heard(result: Answer | BaseException) -> None:
            metrics.mirrored(name, "answered" if isinstance(result, Answer) else "failed")

        try:
            self._coalescer.submit(name, shadow.version, replace(question, role=SHADOW, traceparent=None), heard)
        except Overloaded:
            metrics.mirrored(name, "no room")

    def _is_kept(self, base: str) -> bool:
        """Whether a call is among the share that is logged: by the random part of its ids."""
        return int(base[12:20], 16) < self._log_share * (1 << _SHARE_BITS)

    def _explain(self, error: BaseException, version: str, asked: Asked) -> BaseException:
        if isinstance(error, CallFailed) and error.status == 400:
            # a served version may be stricter than the declaration read at start
            remedy = f"Compare with the fields of GET /v1/models/{self._name}."
            return InvalidFields([Fault("instances", f"Version {version} refuses them.", remedy)])
        if isinstance(error, DeadlineMissed) and asked.timeout_s is not None:
            return DeadlineTooShort(
                f"There was no answer within the {asked.timeout_s * 1000:g} ms that the request allows.",
                remedy="Allow more time, or leave the deadline out.",
            )
        return error


class _Merging:
    """Puts the answers of several versions to the parts of one question together."""

    def __init__(self, n: int, parts: int, done: Done) -> None:
        self._predictions: list[float | None] = [None] * n
        self._ids = [""] * n
        self._versions = [""] * n
        self._degraded: list[tuple[int, list[str]]] = []
        self._left = parts
        self._done: Done | None = done

    def taker(self, places: list[int]) -> Done:
        """What takes the answer to the instances at these places."""

        def take(result: Scored | BaseException) -> None:
            if not isinstance(result, Scored):
                self.fail(result)
                return
            for at, score, identity in zip(places, result.predictions, result.ids, strict=True):
                self._predictions[at], self._ids[at], self._versions[at] = score, identity, result.version
            self._degraded += [(places[i], why) for i, why in result.degraded]
            self._left -= 1
            if not self._left:
                self._finish(result.stages)

        return take

    def fail(self, error: BaseException) -> None:
        """Answer with an error, the first one."""
        done, self._done = self._done, None
        if done is not None:
            done(error)

    def _finish(self, stages: Stages) -> None:
        done, self._done = self._done, None
        if done is not None:
            versions = self._versions if len(set(self._versions)) > 1 else None
            degraded = sorted(self._degraded)
            done(Scored(self._predictions, self._ids, degraded, self._versions[0], versions, stages))
