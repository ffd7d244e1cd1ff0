"""Clients that ask all the time, know what every answer should be, and keep a record of all that came back."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from serving.routing import Route
from tests.torchserve_process import INSTANCE, expected_score

BASE_LENGTH = 38
"""Characters that the prediction ids of one call have in common."""
_TOLERANCE = 1e-5
_SHOPS = 1000


@dataclass
class Record:
    """What the clients saw.

    Args:
        answers: how many predictions each version answered.
        errors: how many calls ended with each status or fault.
        wrong: answers whose score is not that of the version they name, or whose version is not the entity's.
        moments: when each error was seen, in seconds of the monotonic clock.
        repeats: calls that were sent a second time because their connection broke.
        predicted: what the ids of each answered call begin with.
        labels: ids whose feedback was acknowledged.
        slowest_s: the longest call.
    """

    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    repeats: int = 0
    predicted: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    slowest_s: float = 0.0

    def faults(self, deadline_s: float) -> Iterator[str]:
        """What must not be, whatever is done to the stack: wrong answers, and calls that hang."""
        yield from (f"wrong answer: {wrong}" for wrong in self.wrong[:3])
        if self.slowest_s > deadline_s:
            yield f"a call took {self.slowest_s:.1f} s, more than {deadline_s:.1f} s"

    @property
    def outage_s(self) -> float:
        """Seconds between the first error and the last."""
        return self.moments[-1] - self.moments[0] if self.moments else 0.0


class RecordingClients:
    """Threads that ask ``toy`` through one gateway port and send a label for every prediction.

    A call whose connection breaks is repeated once on a new one, as any client of a service with several
    processes does; predictions and labels are safe to repeat.

    Args:
        port: the gateway's.
        biases: version -> the bias it was made with; may grow while the clients run.
        threads: how many ask at the same time.
        pause_s: seconds between two calls of a thread.
        timeout_s: seconds after which a call counts as hung.
        feedback: whether labels are sent.

    Attributes:
        routes: those of which one says which version may answer for each entity; with none of them, any may.
    """

    def __init__(
        self,
        port: int,
        biases: Mapping[str, float],
        *,
        threads: int = 4,
        pause_s: float = 0.01,
        timeout_s: float = 15.0,
        feedback: bool = False,
    ) -> None:
        self.record = Record()
        self.routes: Collection[Route] = ()
        self._port = port
        self._biases = biases
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._feedback = feedback
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def fresh(self) -> Record:
        """What was recorded since the last call, and a new record from now on."""
        with self._lock:
            found, self.record = self.record, Record()
        return found

    def answered(self) -> int:
        """How many predictions were answered since the record began."""
        with self._lock:
            return self.record.answers.total()

    def _run(self, seed: int) -> None:
        rng, connection = random.Random(seed), _Connection(self._port, self._timeout_s)
        while not self._enough.wait(self._pause_s):
            rows = [
                INSTANCE | {"shop": f"s{rng.randrange(_SHOPS)}", "amount": round(rng.uniform(0, 9), 2)}
                for _ in range(rng.choice((1, 1, 3)))
            ]
            routes = self.routes  # of the moment when it asks: those of the moment of the answer may be others
            answer = self._call(connection, "/v1/models/toy/predict", {"instances": rows})
            if answer is None:
                continue
            self._check(rows, answer, {*routes, *self.routes})
            if self._feedback:
                identity = answer["prediction_ids"][0]
                labels = [{"prediction_id": identity, "label": rng.randrange(2)}]
                if self._call(connection, "/v1/models/toy/feedback", {"labels": labels}) is not None:
                    with self._lock:
                        self.record.labels.add(identity)
        connection.close()

    def _check(self, rows: list[dict[str, Any]], answer: dict[str, Any], routes: Collection[Route]) -> None:
        versions = answer.get("model_versions") or [answer["model_version"]] * len(rows)
        biases = [self._biases.get(version, float("nan")) for version in versions]
        expected = [expected_score(row, bias) for row, bias in zip(rows, biases, strict=True)]
        right = all(abs(a - b) < _TOLERANCE for a, b in zip(answer["predictions"], expected, strict=True))
        shops = [str(row["shop"]) for row in rows]
        strangers = [
            f"{version} answered for {shop}"
            for version, shop in zip(versions, shops, strict=True)
            if routes and version not in {route.version_for("toy", shop) for route in routes}
        ]
        with self._lock:
            self.record.answers[answer["model_version"]] += 1
            self.record.predicted.add(answer["prediction_ids"][0][:BASE_LENGTH])
            self.record.wrong += strangers
            if not right:
                self.record.wrong.append(f"{versions} answered {answer['predictions']} instead of {expected}")

    def _call(self, connection: _Connection, path: str, document: Any) -> dict[str, Any] | None:
        started, body = time.monotonic(), json.dumps(document)
        try:
            status, answer = connection.post(path, body)
            problem = None if status in (200, 202) else f"{path.rsplit('/', 1)[1]} {status} {answer.get('detail')}"
        except (OSError, http.client.HTTPException) as error:
            status, answer, problem = 0, {}, f"{path.rsplit('/', 1)[1]} {error!r}"
        ended = time.monotonic()
        with self._lock:
            self.record.repeats += connection.take_repeats()
            self.record.slowest_s = max(self.record.slowest_s, ended - started)
            if problem is not None:
                self.record.errors[problem] += 1
                self.record.moments.append(ended)
        return answer if problem is None else None


class _Connection:
    """One kept-alive connection that is made anew, and the call repeated once, when it breaks."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._open = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._repeats = 0

    def post(self, path: str, body: str) -> tuple[int, dict[str, Any]]:
        try:
            return self._once(path, body)
        except TimeoutError:
            self.close()
            raise
        except (OSError, http.client.HTTPException):
            self.close()
            self._repeats += 1
        try:
            return self._once(path, body)
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def take_repeats(self) -> int:
        found, self._repeats = self._repeats, 0
        return found

    def close(self) -> None:
        self._open.close()

    def _once(self, path: str, body: str) -> tuple[int, dict[str, Any]]:
        self._open.request("POST", path, body, {"Content-Type": "application/json"})
        reply = self._open.getresponse()
        return reply.status, json.loads(reply.read() or b"{}")
