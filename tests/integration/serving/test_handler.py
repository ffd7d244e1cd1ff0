"""A version inside a real TorchServe worker."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import redis

from core.errors import DeploymentError
from core.prediction_ids import ids_of, is_issued
from core.settings import Settings
from features.streams import Keys
from serving.torchserve.configuration import key_file, store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.packer import pack
from serving.torchserve.tokens import Tokens
from tests.torchserve_process import INSTANCE, expected_score, make_version
from tests.waiting import until

STREAM = Keys("served").predictions
BAD_BODIES = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"instances": []}',
    b'{"instances": [1]}',
    b'{"instances": [{}]}',
    b'{"instances": [{"shop": "a", "amount": NaN, "items": 1}]}',
    b'{"instances": [{"shop": "a", "amount": "x", "items": 1}]}',
    b'{"instances": [{"shop": "a", "amount": 1.0, "items": 99999999999999999999}]}',
    b'{"instances": [{"shop": "a", "amount": {}, "items": 1}]}',
    b'{"instances": [{"shop": "a", "amount": 1.0, "items": 1}], "at_us": ["x"]}',
]


@pytest.fixture(scope="module")
def version(torchserve: Settings, host: TorchServeHost, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Version 1 of ``toy``, loaded."""
    folder = make_version(tmp_path_factory.mktemp("version") / "1")
    host.register("toy", "1", pack(folder, store(torchserve), use_case="toy", version="1"))
    return "1"


@pytest.fixture
def log(redis_server: str) -> Iterator[redis.Redis]:
    """Redis with an empty prediction log."""
    client = redis.Redis.from_url(redis_server)
    client.delete(STREAM)
    yield client
    client.close()


def post(settings: Settings, body: bytes, *, token: str | None) -> httpx.Response:
    headers = {"content-type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return httpx.post(f"{settings.torchserve_inference_url}/predictions/toy/1", content=body, headers=headers)


def worker_pid(settings: Settings) -> int:
    headers = {"Authorization": f"Bearer {Tokens(key_file(settings)).management()}"}
    described: Any = httpx.get(f"{settings.torchserve_management_url}/models/toy/1", headers=headers).json()
    return int(described[0]["workers"][0]["pid"])


def test_scores_are_those_of_the_model_and_are_logged_with_their_features(
    torchserve: Settings, host: TorchServeHost, version: str, log: redis.Redis
) -> None:
    rows = [INSTANCE, INSTANCE | {"amount": 3.0}]
    call = {"instances": rows, "calls": [[2, [10, 11], "a", None, True]], "now_us": 20}
    answer = host.predict("toy", version, call)
    assert answer["predictions"] == pytest.approx([expected_score(row) for row in rows], abs=1e-6)
    assert "prediction_ids" not in answer, "who brings ids knows them"
    assert answer["logged"] == "stream"
    ((_, fields),) = log.xrange(STREAM)
    meta = orjson.loads(fields[b"meta"])
    assert meta == {
        "use_case": "toy", "version": "1", "role": "answer", "known_views": [], "now_us": 20, "ids": [[2, "a"]],
        "at_us": [10, 11], "degraded": [[], []], "columns": ["doubled", "count"],
    }  # fmt: skip
    assert np.frombuffer(fields[b"x"], "<f4").reshape(2, 2).tolist() == [[3.0, 2.0], [6.0, 2.0]]
    assert np.frombuffer(fields[b"scores"], "<f4").tolist() == np.float32(answer["predictions"]).tolist()
    assert orjson.loads(fields[b"instances"]) == rows


def test_a_direct_call_gets_ids_that_prove_themselves(
    torchserve: Settings, host: TorchServeHost, version: str, log: redis.Redis
) -> None:
    answer = host.predict("toy", version, {"instances": [INSTANCE]})
    secret = torchserve.signing_secret()
    assert all(is_issued(secret, "toy", prediction_id) for prediction_id in answer["prediction_ids"])
    assert log.xlen(STREAM) == 1


def test_a_smoke_test_is_not_logged(host: TorchServeHost, version: str, log: redis.Redis) -> None:
    host.predict("toy", version, {"instances": [INSTANCE], "log": False})
    assert log.xlen(STREAM) == 0


def test_bad_bodies_are_refused_by_name_and_the_worker_lives_on(
    torchserve: Settings, version: str, log: redis.Redis
) -> None:
    token, pid = Tokens(key_file(torchserve)).inference(), worker_pid(torchserve)
    for body in BAD_BODIES:
        reply = post(torchserve, body, token=token)
        assert reply.status_code == 400, (body, reply.text)
        assert "Send" in reply.json()["message"], (body, reply.text)
    assert log.xlen(STREAM) == 0
    assert post(torchserve, orjson.dumps({"instances": [INSTANCE]}), token=token).status_code == 200
    assert worker_pid(torchserve) == pid


def test_nobody_without_a_token_gets_in(torchserve: Settings, version: str) -> None:
    body = orjson.dumps({"instances": [INSTANCE]})
    for token in (None, "guess", Tokens(key_file(torchserve)).management()):
        reply = post(torchserve, body, token=token)
        assert (reply.status_code, reply.json()["type"]) == (400, "InvalidKeyException")
    assert httpx.get(f"{torchserve.torchserve_management_url}/models").status_code == 400
    assert key_file(torchserve).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", ["ALL", "WRITE"])
def test_predictions_wait_on_disk_while_redis_is_away(
    torchserve: Settings, host: TorchServeHost, version: str, log: redis.Redis, mode: str
) -> None:
    log.execute_command("CLIENT", "PAUSE", 2500, mode)
    answers = []
    for _ in range(3):
        started = time.monotonic()
        answers.append(host.predict("toy", version, {"instances": [INSTANCE]}))
        assert time.monotonic() - started < 2
    assert {answer["logged"] for answer in answers} == {"spool"}
    wanted = {identity for answer in answers for identity in answer["prediction_ids"]}
    until(lambda: logged_ids(log) == wanted, f"the stream does not hold {wanted}")
    until(lambda: not list((torchserve.home / "spool").glob("*.spool")), "the spool is not emptied")
    until(
        lambda: host.predict("toy", version, {"instances": [INSTANCE]})["logged"] == "stream", "it still goes to disk"
    )


def logged_ids(log: redis.Redis) -> set[str]:
    """The prediction ids in the log; one that was written twice counts once, as for every reader."""
    metas = [orjson.loads(fields[b"meta"]) for _, fields in log.xrange(STREAM)]
    return {identity for meta in metas for n, base in meta["ids"] for identity in ids_of(base, n)}


def test_archives_come_from_the_store_only(torchserve: Settings, tmp_path: Path) -> None:
    archive = pack(make_version(tmp_path / "v"), tmp_path / "elsewhere", use_case="toy", version="9")
    headers = {"Authorization": f"Bearer {Tokens(key_file(torchserve)).management()}"}
    for url in (archive.as_uri(), "http://127.0.0.1:1/toy-9.mar", "../elsewhere/toy-9.mar"):
        reply = httpx.post(f"{torchserve.torchserve_management_url}/models", params={"url": url}, headers=headers)
        assert reply.status_code in (400, 404), reply.text


def test_a_killed_worker_comes_back(torchserve: Settings, host: TorchServeHost, version: str) -> None:
    killed = worker_pid(torchserve)
    os.kill(killed, signal.SIGKILL)
    while host.loaded():  # until TorchServe notices
        pass
    host.register("toy", version, store(torchserve) / "toy-1.mar")
    assert host.predict("toy", version, {"instances": [INSTANCE], "log": False})["model_version"] == "1"
    assert worker_pid(torchserve) != killed


def test_an_archive_that_was_tampered_with_is_not_loaded(
    torchserve: Settings, host: TorchServeHost, tmp_path: Path
) -> None:
    archive = pack(make_version(tmp_path / "v"), store(torchserve), use_case="toy", version="2")
    with zipfile.ZipFile(archive) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in (content | {"use_case.py": content["use_case.py"] + b"\n# more"}).items():
            packed.writestr(name, data)
    with pytest.raises(DeploymentError, match="toy 2"):
        host.register("toy", "2", archive)
    log = torchserve.home / "torchserve.log"
    until(lambda: "use_case.py has digest" in log.read_text(), "TorchServe does not pass on what its worker said")
