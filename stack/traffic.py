"""A client that sends history through the gateway and keeps its own record of every answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import numpy as np
import orjson
import pandas as pd

from core.clock import from_us
from core.use_case import UseCase
from features.offline.importing import instances_of
from features.offline.point_in_time import to_us_array

_EVENTS_AT_ONCE = 500


@dataclass
class Record:
    """What the client saw.

    Args:
        predictions: answered predictions.
        failed: calls that did not succeed, with what was answered.
        versions: the versions that answered, in order of first appearance.
        scores: per prediction key, the id, the score and the version answered.
    """

    predictions: int = 0
    degraded: int = 0
    failed: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    answers: dict[str, tuple[str, float, str]] = field(default_factory=dict)


class Traffic:
    """Sends requests, events and labels of one use case to a gateway, as of given moments.

    Args:
        session: HTTP session.
        url: the gateway.
        use_case: whose traffic.
        batch: most instances in one predict call.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, use_case: UseCase, *, batch: int = 8) -> None:
        self._session = session
        self._url = url
        self._use_case = use_case
        self._batch = batch
        self.record = Record()

    async def predict(self, requests: pd.DataFrame, now: datetime) -> None:
        """Ask for every request (``key, at``, fields), in small concurrent calls."""
        instances = instances_of(self._use_case, requests)
        for instance, us in zip(instances, to_us_array(requests["at"]), strict=True):
            instance["at"] = from_us(int(us)).isoformat()
        keys = requests["key"].tolist()
        parts = range(0, len(keys), self._batch)
        await asyncio.gather(
            *(self._ask(keys[i : i + self._batch], instances[i : i + self._batch], now) for i in parts)
        )

    async def send_events(self, source: str, events: pd.DataFrame, now: datetime) -> dict[int, int]:
        """Send events (``id, at``, fields) and return the newest position of each partition that got some."""
        positions: dict[int, int] = {}
        names = [f.name for f in self._use_case.source(source).fields]
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            part = events.iloc[start : start + _EVENTS_AT_ONCE]
            rows = part[["id", *names]].astype(object).where(part[["id", *names]].notna(), None).to_dict("records")
            for row, us in zip(rows, to_us_array(part["at"]), strict=True):
                row["at"] = from_us(int(us)).isoformat()
            answer = await self._post(f"/v1/events/{source}", {"events": rows}, now)
            for partition, position in (answer or {}).get("positions", {}).items():
                positions[int(partition)] = max(position, positions.get(int(partition), 0))
        return positions

    async def send_labels(self, labels: pd.DataFrame, now: datetime) -> None:
        """Send the labels (``key, label, at``) of predictions that were answered."""
        known = [
            {"prediction_id": self.record.answers[key][0], "label": int(label), "at": from_us(int(us)).isoformat()}
            for key, label, us in zip(labels["key"], labels["label"], to_us_array(labels["at"]), strict=True)
            if key in self.record.answers
        ]
        for start in range(0, len(known), _EVENTS_AT_ONCE):
            body = {"labels": known[start : start + _EVENTS_AT_ONCE]}
            await self._post(f"/v1/models/{self._use_case.name}/feedback", body, now)

    async def _ask(self, keys: Sequence[str], instances: Sequence[Mapping[str, Any]], now: datetime) -> None:
        answer = await self._post(f"/v1/models/{self._use_case.name}/predict", {"instances": instances}, now)
        if answer is None:
            return
        version = str(answer["model_version"])
        if version not in self.record.versions:
            self.record.versions.append(version)
        self.record.predictions += len(keys)
        self.record.degraded += len(answer["degraded"])
        for key, prediction_id, score in zip(keys, answer["prediction_ids"], answer["predictions"], strict=True):
            self.record.answers[key] = (prediction_id, score, version)

    async def _post(self, path: str, body: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
        headers = {"Content-Type": "application/json", "X-Evergreen-Now": now.isoformat()}
        try:
            async with self._session.post(
                self._url + path, data=orjson.dumps(body, option=_JSON), headers=headers
            ) as r:
                text = await r.read()
                if r.status < 300:
                    answer: dict[str, Any] = orjson.loads(text)
                    return answer
                self.record.failed.append(f"{path}: {r.status} {text[:300]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.record.failed.append(f"{path}: {error!r}")
        return None


_JSON = orjson.OPT_SERIALIZE_NUMPY


def rolling_log_loss(record: Record, labels: pd.DataFrame, last: int = 2000) -> float:
    """Log-loss of the last answered and labelled predictions; NaN without any."""
    tail = labels.iloc[-last:]
    pairs = [(record.answers[k][1], y) for k, y in zip(tail["key"], tail["label"], strict=True) if k in record.answers]
    if not pairs:
        return float("nan")
    scores, y = np.clip(np.array([p for p, _ in pairs]), 1e-7, 1 - 1e-7), np.array([y for _, y in pairs])
    return float(-np.mean(np.where(y == 1, np.log(scores), np.log(1 - scores))))
