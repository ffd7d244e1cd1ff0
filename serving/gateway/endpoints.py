"""The three calls that carry traffic: predict, feedback and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import orjson

from core.errors import UnknownPrediction
from core.logs import use_case_var
from core.prediction_ids import is_issued, issue_ids
from core.use_case import EventSource, UseCase
from features.definitions import feature_set
from features.streams import encode_labels
from serving.gateway.coalescer import Answer, Coalescer, Question
from serving.gateway.intake import Intake
from serving.gateway.json_body import parse_object
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.model_caller import CallFailed
from serving.gateway.problems import Fault, InvalidFields, shown
from serving.gateway.route_table import RouteTable
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

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer.

    Args:
        status: HTTP status.
        body: JSON.
        headers: further headers, lower-case names.
    """

    status: int
    body: bytes
    headers: Headers = ()


class Endpoint(Protocol):
    """Answers a POST. Must not keep anything of a request it refuses."""

    route: str

    async def __call__(self, body: bytes, now_us: int) -> Reply:
        """Answer a request's body, given the moment that counts as now (µs since 1970 UTC).

        Raises:
            EvergreenError: to be answered with a problem document.
        """
        ...


class Predict:
    """Scores instances of one use case.

    Args:
        use_case: its declaration.
        secret: what prediction ids are signed with.
        most: most instances per call.
        routes: which version is live.
        coalescer: asks the model host.
        metrics: where predictions are counted.
    """

    route = "/v1/models/{use_case}/predict"

    def __init__(
        self,
        use_case: UseCase,
        *,
        secret: bytes,
        most: int,
        routes: RouteTable,
        coalescer: Coalescer,
        metrics: GatewayMetrics,
    ) -> None:
        self._name = use_case.name
        self._rules = record_rules(use_case.request_fields, at=moment_rule(required=False))
        self._lateness_us = int(feature_set(use_case).lateness.total_seconds() * 1_000_000)
        self._secret = secret
        self._most = most
        self._routes = routes
        self._coalescer = coalescer
        self._metrics = metrics

    async def __call__(self, body: bytes, now_us: int) -> Reply:
        """Answer ``{"instances": […]}`` with scores, prediction ids, the version and what was degraded."""
        started = perf_counter()
        use_case_var.set(self._name)
        instances = self._read(parse_object(body), now_us)
        at_us = [now_us if (at := row.pop("at")) is None else at for row in instances]
        version = self._routes.live(self._name).version
        ids = issue_ids(self._secret, self._name, now_us // 1000, len(instances))
        answer = await self._score(version, Question(instances, at_us, ids, now_us))
        degraded = [{"instance": i, "reasons": why} for i, why in enumerate(answer.degraded) if why]
        reply = orjson.dumps(
            {
                "predictions": answer.predictions,
                "prediction_ids": ids,
                "model_version": answer.version,
                "degraded": degraded,
            }
        )
        total_s = perf_counter() - started
        self._metrics.predicted(self._name, total_s, len(degraded))
        timing = b"model;dur=%.2f, total;dur=%.2f" % (answer.model_s * 1e3, total_s * 1e3)
        return Reply(200, reply, ((b"server-timing", timing),))

    async def _score(self, version: str, question: Question) -> Answer:
        try:
            return await self._coalescer.score(self._name, version, question)
        except CallFailed as failure:
            if failure.status == 400:  # a served version may be stricter than the declaration read at start
                remedy = f"Compare with the fields of GET /v1/models/{self._name}."
                raise InvalidFields([Fault("instances", f"Version {version} refuses them.", remedy)]) from failure
            raise

    def _read(self, document: dict[str, Any], now_us: int) -> list[dict[str, Any]]:
        earliest_us, latest_us = now_us - self._lateness_us, now_us + AHEAD_US
        check = self._rules.check

        def read(record: Any, path: str, faults: list[Fault]) -> dict[str, Any] | None:
            row = check(record, path, faults)
            if row is not None and row["at"] is not None:
                why = within(row["at"], earliest_us=earliest_us, latest_us=latest_us)
                _note(why, f"{path}.at", faults)
            return row

        return _faultless(read_records(document, "instances", self._most, read))


class Feedback:
    """Takes labels for predictions of one use case.

    Args:
        use_case: the use case's name.
        secret: what prediction ids are signed with.
        most: most labels per call.
        intake: where labels are written.
    """

    route = "/v1/models/{use_case}/feedback"

    def __init__(self, use_case: str, *, secret: bytes, most: int, intake: Intake) -> None:
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

    async def __call__(self, body: bytes, now_us: int) -> Reply:
        """Answer ``{"labels": […]}`` with 202 once the labels are stored."""
        records = _faultless(read_records(parse_object(body), "labels", self._most, _reader(self._rules, now_us)))
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
        await self._intake.labels(encode_labels(self._name, labels, now_us))
        return Reply(202, orjson.dumps({"accepted": len(labels)}))


class Events:
    """Takes events of one source.

    Args:
        source: its declaration.
        groups: the key groups by which window views read it.
        most: most events per call.
        intake: where events are written.
    """

    route = "/v1/events/{source}"

    def __init__(self, source: EventSource, *, groups: Sequence[tuple[str, ...]], most: int, intake: Intake) -> None:
        self._name = source.name
        self._groups = groups
        self._most = most
        self._intake = intake
        further = {"id": text_rule("unique within the source"), "at": moment_rule(required=True)}
        self._rules = record_rules(source.fields, **further)

    async def __call__(self, body: bytes, now_us: int) -> Reply:
        """Answer ``{"events": […]}`` with 202 and the positions in the log once the events are stored."""
        records = _faultless(read_records(parse_object(body), "events", self._most, _reader(self._rules, now_us)))
        for record in records:
            record["at_us"] = record.pop("at")
        positions = await self._intake.events(self._name, self._groups, records, now_us)
        answer = {"accepted": len(records), "positions": positions}
        return Reply(202, orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS))


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
