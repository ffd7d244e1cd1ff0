"""The gateway's caller of an inference server: what it answers, and how it says that there is no answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
import redis

from core.prediction_ids import issue_base
from core.settings import Settings
from features.streams import Keys
from serving.gateway.model_caller import CallFailed
from serving.open_inference.caller import OpenInferenceCaller
from serving.open_inference.host import OpenInferenceHost
from serving.open_inference.scorings import store
from serving.torchserve.packer import pack
from tests.mlserver_process import running_mlserver
from tests.torchserve_process import INSTANCE, expected_score, make_version

pytestmark = pytest.mark.anyio
NOW_US = 1_549_108_800_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def settings(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a stack with versions 1 and 2 of ``toy`` on MLServer."""
    home = tmp_path_factory.mktemp("home")
    with running_mlserver(home, redis_server, "caller") as settings:
        host = OpenInferenceHost(settings)
        for version in ("1", "2"):
            made = make_version(home / "versions" / version, bias=float(version))
            host.register("toy", version, pack(made, store(settings), use_case="toy", version=version))
        yield settings
        host.close()


@pytest.fixture
async def caller(settings: Settings) -> AsyncIterator[OpenInferenceCaller]:
    caller = OpenInferenceCaller(settings)
    yield caller
    await caller.close()


def call(settings: Settings, *rows: dict[str, object], log: bool = True) -> dict[str, object]:
    """As the gateway sends it: one client's call."""
    base = issue_base(settings.signing_secret(), "toy", NOW_US // 1000, len(rows))
    calls = [(len(rows), NOW_US, base, None, log)]
    return {"instances": list(rows), "calls": calls, "now_us": NOW_US}


async def test_a_call_is_scored_and_logged_here(settings: Settings, caller: OpenInferenceCaller) -> None:
    client = redis.Redis.from_url(settings.redis_url)
    stream = Keys(settings.redis.namespace).predictions
    client.delete(stream)
    body = call(settings, INSTANCE, INSTANCE | {"amount": 3.0})
    answer = await caller.score("toy", "2", body)
    wanted = [expected_score(INSTANCE | {"amount": amount}, 2.0) for amount in (1.5, 3.0)]
    assert answer["predictions"] == pytest.approx(wanted, abs=1e-6)
    assert (answer["model_version"], answer["degraded"], answer["logged"]) == ("2", [], "stream")
    ((_, fields),) = client.xrange(stream)
    meta = orjson.loads(fields[b"meta"])
    assert (meta["use_case"], meta["version"]) == ("toy", "2")
    await caller.score("toy", "1", call(settings, INSTANCE, log=False))
    assert client.xlen(stream) == 1
    client.close()


async def status_of(caller: OpenInferenceCaller, version: str, body: dict[str, object]) -> int | None:
    with pytest.raises(CallFailed) as failed:
        await caller.score("toy", version, body)
    return failed.value.status


async def test_failures_bear_the_statuses_of_torchserve(
    settings: Settings, caller: OpenInferenceCaller, tmp_path: Path
) -> None:
    good = call(settings, INSTANCE)
    assert await status_of(caller, "9", good) == 404, "never packed"
    pack(make_version(tmp_path / "3"), store(settings), use_case="toy", version="3")
    assert await status_of(caller, "3", good) == 404, "packed, but the server does not know it"
    assert await status_of(caller, "1", call(settings, INSTANCE | {"amount": "x"})) == 400
    assert await status_of(caller, "1", good | {"until_us": 1}) == 504, "nobody waits any more"


async def test_a_server_that_is_away_is_a_passing_trouble(settings: Settings, port: int) -> None:
    away = settings.host.model_copy(update={"url": f"http://127.0.0.1:{port}"})
    caller = OpenInferenceCaller(settings.model_copy(update={"host": away}))
    assert await status_of(caller, "1", call(settings, INSTANCE)) == 503
    await caller.close()
    await caller.close()


async def test_a_version_that_is_let_go_is_forgotten(settings: Settings, caller: OpenInferenceCaller) -> None:
    await caller.score("toy", "2", call(settings, INSTANCE))
    archive = store(settings) / "toy-2.mar"
    aside = archive.rename(archive.with_suffix(".aside"))
    assert await status_of(caller, "2", call(settings, INSTANCE)) == 404
    aside.rename(archive)
    assert (await caller.score("toy", "2", call(settings, INSTANCE)))["model_version"] == "2"
