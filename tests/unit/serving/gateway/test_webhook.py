"""Webhooks that are forged, stale, repeated or cut off have no effect; one that is MLflow's wakes the deployer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from core.errors import DependencyDown
from core.settings import WebhookSettings
from serving.gateway.webhook import PATH
from tests.unit.serving.gateway.conftest import Running, World

pytestmark = pytest.mark.anyio
SECRET = "s3cret of the webhook"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "tip"}}).encode()
SETTINGS = {"webhook": WebhookSettings(secret=SECRET)}


def signed(body: bytes = BODY, *, at: float | None = None, secret: str = SECRET, **changed: str) -> dict[str, str]:
    """Headers as MLflow makes them."""
    delivery, moment = str(uuid.uuid4()), str(int(time.time() if at is None else at))
    found = {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": moment,
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, moment, body.decode()),
    }
    return found | {f"X-MLflow-{name.title().replace('_', '-')}": value for name, value in changed.items()}


async def send(world: World, headers: dict[str, str], body: bytes = BODY) -> int:
    answer = await world.client.post(PATH, content=body, headers=headers | {"Content-Type": "application/json"})
    if answer.status_code != 204:
        assert answer.headers["content-type"] == "application/problem+json"
        assert "EVERGREEN_WEBHOOK__SECRET" in answer.json()["remedy"]
    return answer.status_code


def wakes(world: World) -> int:
    return len(world.store.streams.get(world.keys.wakes, []))


async def test_a_signed_webhook_wakes_the_deployer_without_an_api_key(running: Running) -> None:
    async with running(gateway={"api_key": "root"}, **SETTINGS) as world:
        assert await send(world, signed()) == 204
        assert wakes(world) == 1


async def test_what_is_not_mlflows_is_refused_without_an_effect(running: Running) -> None:
    unsigned = base64.b64encode(hmac.new(b"guess", BODY, hashlib.sha256).digest()).decode()
    now = time.time()
    async with running(**SETTINGS) as world:
        for headers in (
            {},
            signed(secret="guess"),
            signed(signature=f"v1,{unsigned}"),
            signed(signature="v1,"),
            signed(delivery_id=str(uuid.uuid4())),
            signed(at=now, timestamp=str(int(now) + 1)),
            signed(timestamp="yesterday"),
            signed(at=now - 301),
            signed(at=now + 400),
            signed(signature="v2," + signed()["X-MLflow-Signature"][3:]),
        ):
            assert await send(world, headers) == 401, headers
        for cut in (BODY[:-1], BODY[: len(BODY) // 2], b"", BODY + b" "):
            assert await send(world, signed(), cut) == 401
        assert wakes(world) == 0


async def test_a_replay_is_refused_and_a_duplicate_event_is_harmless(running: Running) -> None:
    async with running(**SETTINGS) as world:
        headers = signed()
        assert [await send(world, headers) for _ in range(3)] == [204, 401, 401]
        assert await send(world, signed()) == 204
        assert wakes(world) == 2


async def test_without_redis_nothing_is_taken_for_new(running: Running) -> None:
    async with running(**SETTINGS) as world:
        headers = signed()
        world.store.down = True
        answer = await world.client.post(PATH, content=BODY, headers=headers)
        assert answer.status_code == 503
        world.store.down = False
        assert await send(world, headers) == 204


async def test_a_webhook_that_came_to_nothing_is_taken_when_mlflow_sends_it_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(**SETTINGS) as world:
        headers, append = signed(), world.store.append

        async def away(entries: Any) -> Any:
            raise DependencyDown("Redis", "TimeoutError")

        monkeypatch.setattr(world.store, "append", away)
        assert (await world.client.post(PATH, content=BODY, headers=headers)).status_code == 503
        monkeypatch.setattr(world.store, "append", append)
        assert [await send(world, headers) for _ in range(2)] == [204, 401]
        assert wakes(world) == 1
