"""The three calls that carry traffic: predict, feedback and events."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import Any

import orjson

from core.errors import EvergreenError, UnknownPrediction
from core.logs import use_case_var
from core.prediction_ids import is_issued
from core.use_case import EventSource, UseCase
from features.definitions import feature_set
from features.streams import encode_labels
from serving.gateway.exchange import LONGEST_TIMEOUT_MS, TIMEOUT_HEADER, Call, RawHeaders, Reply, Respond, header
from serving.gateway.instance_rules import InstanceRules
from serving.gateway.intake import Intake
from serving.gateway.json_body import parse_object
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.predictor import Asked, Predictor, Scored
from serving.gateway.problems import BadHeader, Fault, InvalidFields, shown
from serving.gateway.validation import (
    AHEAD_US,
    RecordRules,
    Rejected,
    moment_rule,
    read_records,
    record_rules,
    text_rule,
    within,
)
from serving.gateway.watching import Watch
from serving.keys.key import Scope

_TIMEOUT_HEADER = TIMEOUT_HEADER.lower().encode()


class Predict:
    """Scores instances of one use case.

    Args:
        use_case: its declaration.
        predictor: has them scored.
        most: most instances per call.
        metrics: where predictions are counted.
        watch: told of single ones.
    """

    route = "/v1/models/{use_case}/predict"
    scope: Scope = "predict"

    def __init__(
        self, use_case: UseCase, *, predictor: Predictor, most: int, metrics: GatewayMetrics, watch: Watch
    ) -> None:
        self.use_case = use_case.name
        self._name = use_case.name
        self._rules = InstanceRules(use_case.request_fields, most)
        self._lateness_us = int(feature_set(use_case).lateness.total_seconds() * 1_000_000)
        self._predictor = predictor
        self._metrics = metrics
        self._watch = watch

    def require_room(self) -> None:
        """Refuse a call before it is even read, if it would wait too long."""
        self._predictor.require_room()

    def begin(self, call: Call, respond: Respond) -> None:
        """Answer ``{"instances": […]}`` with scores, prediction ids, the version and what was degraded."""
        began_s, trace = monotonic(), self._watch.begin(call.headers)

        def done(result: Scored | BaseException) -> None:
            if isinstance(result, Scored):
                respond(self._reply(result, began_s))
                self._watch.answered(result, trace, began_s, monotonic())
            else:
                self._watch.failed(result, trace, began_s)
                respond(result)

        try:
            self._predictor.ask(self._read(call, trace.traceparent if trace else None), done)
        except EvergreenError as error:
            self._watch.failed(error, trace, began_s)
            raise

    def _reply(self, scored: Scored, began_s: float) -> Reply:
        document: dict[str, Any] = {
            "predictions": scored.predictions,
            "prediction_ids": scored.ids,
            "model_version": scored.version,
            "degraded": [{"instance": i, "reasons": why} for i, why in scored.degraded],
        }
        if scored.versions is not None:
            document["model_versions"] = scored.versions
        body = orjson.dumps(document)
        stages, total_s = scored.stages, monotonic() - began_s
        queue_s, call_s = stages.called_s - stages.asked_s, stages.answered_s - stages.called_s
        self._metrics.predicted(self._name, total_s, len(scored.degraded))
        timing = b"queue;dur=%.2f, features;dur=%.2f, model;dur=%.2f, log;dur=%.2f, host;dur=%.2f, total;dur=%.2f" % (
            queue_s * 1e3, stages.features_s * 1e3, stages.model_s * 1e3, stages.log_s * 1e3, call_s * 1e3,
            total_s * 1e3,
        )  # fmt: skip
        return Reply(200, body, ((b"server-timing", timing),))

    def _read(self, call: Call, traceparent: bytes | None) -> Asked:
        timeout_s = timeout_of(call.headers)
        rows, context, moments = self._rules.read(parse_object(call.body))
        now_us = call.now_us
        if moments is None:
            return Asked(rows, context, now_us, now_us, timeout_s, traceparent=traceparent)
        earliest_us, latest_us = now_us - self._lateness_us, now_us + AHEAD_US
        faults: list[Fault] = []
        for path, at in moments:
            if at is not None:
                _note(within(at, earliest_us=earliest_us, latest_us=latest_us), path, faults)
        if faults:
            raise InvalidFields(faults)
        at_us = [now_us if at is None else at for _, at in moments]
        return Asked(rows, context, at_us, now_us, timeout_s, traceparent=traceparent)


def timeout_of(headers: RawHeaders) -> float | None:
    """Seconds that a request allows for its answer; None if it does not say.

    Raises:
        BadHeader: if it is no whole number of milliseconds from 1 to 600,000.
    """
    value = header(headers, _TIMEOUT_HEADER)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 6 or not 1 <= int(value) <= LONGEST_TIMEOUT_MS:
        raise BadHeader(
            f"Must be a whole number of milliseconds, got {shown(value.decode('latin-1'))}.",
            field=TIMEOUT_HEADER,
            remedy=f"Send 1 to {LONGEST_TIMEOUT_MS}, or leave it out.",
        )
    return int(value) / 1000


class _Stored(ABC):
    """An endpoint that answers once what it was sent is stored."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def require_room(self) -> None:  # noqa: B027 - not for subclasses to say
        """Return: what is stored does not wait for anybody."""

    def begin(self, call: Call, respond: Respond) -> None:
        """Begin to answer; `respond` gets the reply or what went wrong."""
        store = self.read(call)
        task = asyncio.get_running_loop().create_task(_answer(store, respond))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @abstractmethod
    def read(self, call: Call) -> Callable[[], Awaitable[Reply]]:
        """Check a call, and return what stores it."""


async def _answer(store: Callable[[], Awaitable[Reply]], respond: Respond) -> None:
    try:
        reply = await store()
    except Exception as error:  # the top of a task: whoever waits is told
        respond(error)
    else:
        respond(reply)


class Feedback(_Stored):
    """Takes labels for predictions of one use case.

    Args:
        use_case: the use case's name.
        secret: what prediction ids are signed with.
        most: most labels per call.
        intake: where labels are written.
    """

    route = "/v1/models/{use_case}/feedback"

    scope: Scope = "feedback"

    def __init__(self, use_case: str, *, secret: bytes, most: int, intake: Intake) -> None:
        super().__init__()
        self.use_case = use_case
        self._name = use_case
        self._secret = secret
        self._most = most
        self._intake = intake
        self._rules = RecordRules(
            {
                "prediction_id": text_rule("as returned by predict"),
                "label": _label_rule,
                "at": moment_rule(required=False),
            }
        )

    def read(self, call: Call) -> Callable[[], Awaitable[Reply]]:
        """Answer ``{"labels": […]}`` with 202 once the labels are stored."""
        now_us = call.now_us
        records = _faultless(read_records(parse_object(call.body), "labels", self._most, _reader(self._rules, now_us)))
        seen: set[str] = set()
        for i, record in enumerate(records):
            identity = record["prediction_id"]
            path = f"labels[{i}].prediction_id"
            if not is_issued(self._secret, self._name, identity):
                raise UnknownPrediction(
                    f"There is no prediction {shown(identity)} of {self._name}.",
                    field=path,
                    remedy="Send an id that predict returned for this use case.",
                )
            if identity in seen:
                raise InvalidFields([Fault(path, f"{shown(identity)} stands twice.", "Send one label per prediction.")])
            seen.add(identity)
        labels = [
            {
                "prediction_id": record["prediction_id"],
                "label": record["label"],
                "at_us": now_us if record["at"] is None else record["at"],
            }
            for record in records
        ]

        async def store() -> Reply:
            use_case_var.set(self._name)
            await self._intake.labels(encode_labels(self._name, labels, now_us))
            return Reply(202, orjson.dumps({"accepted": len(labels)}))

        return store


class Events(_Stored):
    """Takes events of one source.

    Args:
        source: its declaration.
        readers: the use cases that read it.
        groups: the key groups by which window views read it.
        most: most events per call.
        intake: where events are written.
    """

    route = "/v1/events/{source}"
    scope: Scope = "events"

    def __init__(
        self,
        source: EventSource,
        *,
        readers: Iterable[str],
        groups: Sequence[tuple[str, ...]],
        most: int,
        intake: Intake,
    ) -> None:
        super().__init__()
        self.use_case = frozenset(readers)
        self._name = source.name
        self._groups = groups
        self._most = most
        self._intake = intake
        further = {"id": text_rule("unique within the source"), "at": moment_rule(required=True)}
        self._rules = record_rules(source.fields, **further)

    def read(self, call: Call) -> Callable[[], Awaitable[Reply]]:
        """Answer ``{"events": […]}`` with 202 and the positions in the log once the events are stored."""
        now_us = call.now_us
        records = _faultless(read_records(parse_object(call.body), "events", self._most, _reader(self._rules, now_us)))
        for record in records:
            record["at_us"] = record.pop("at")

        async def store() -> Reply:
            positions = await self._intake.events(self._name, self._groups, records, now_us)
            answer = {"accepted": len(records), "positions": positions}
            return Reply(202, orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS))

        return store


def _reader(rules: RecordRules, now_us: int) -> Any:
    """Reads records whose ``at`` may not lie in the future."""
    latest_us = now_us + AHEAD_US

    def read(record: Any, path: str, faults: list[Fault]) -> dict[str, Any] | None:
        row = rules.check(record, path, faults)
        if row is not None and row["at"] is not None:
            _note(within(row["at"], latest_us=latest_us), f"{path}.at", faults)
        return row

    return read


def _note(why: Rejected | None, path: str, faults: list[Fault]) -> None:
    if why is not None:
        faults.append(Fault(path, why.detail, why.remedy))


def _faultless(read: tuple[Sequence[Any], Sequence[Fault]]) -> list[dict[str, Any]]:
    records, faults = read
    if faults:
        raise InvalidFields(faults)
    return list(records)


def _label_rule(value: Any) -> int:
    if type(value) is not int or value not in (0, 1):
        got = shown(value) if isinstance(value, str | int | float | list | dict) or value is None else "nothing"
        raise Rejected(f"Must be 0 or 1, got {got}.", "Send 1 if it came true, else 0, as a number.")
    return value
