"""A session of Triton's own client with a real gateway, in front of TorchServe and of MLServer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import redis
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from core.settings import GatewaySettings, Settings
from features.streams import Keys
from serving.model_host import ModelHost
from serving.open_inference.host import OpenInferenceHost
from serving.open_inference.scorings import store as open_inference_store
from serving.routing import Route
from serving.torchserve.configuration import store
from serving.torchserve.host import TorchServeHost
from serving.torchserve.packer import pack
from stack.environment import settings_environment
from tests.mlserver_process import running_mlserver
from tests.torchserve_process import INSTANCE, expected_score, free_ports, make_version, running_torchserve
from tests.waiting import answers, until_up

ROOT = Path(__file__).resolve().parents[3]
KEY = "open-sesame"


@dataclass
class Live:
    """A stack as far as a prediction needs it: version 1 of ``toy`` is live, version 2 is loaded."""

    settings: Settings
    host: ModelHost
    redis: redis.Redis

    def client(self) -> InferenceServerClient:
        return InferenceServerClient(self.settings.gateway_url.removeprefix("http://"))

    def logged(self) -> list[dict[str, Any]]:
        entries = self.redis.xrange(Keys(self.settings.redis.namespace).predictions)
        return [orjson.loads(fields[b"meta"]) for _, fields in entries]


@pytest.fixture(scope="module", params=["torchserve", "mlserver"])
def live(request: pytest.FixtureRequest, redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    models = home / "models"
    models.mkdir()
    (models / "toy.py").write_text((make_version(home / "versions" / "1", bias=1.0) / "use_case.py").read_text())
    running = running_mlserver if request.param == "mlserver" else running_torchserve
    with running(home, redis_server, f"v2-{request.param}") as found:
        (port,) = free_ports(1)
        gateway = GatewaySettings(port=port, route_poll_s=0.02, api_key=KEY)
        settings = found.model_copy(update={"gateway": gateway, "models_dir": models})
        elsewhere = settings.host.kind == "open_inference"
        host: Any = OpenInferenceHost(settings) if elsewhere else TorchServeHost(settings)
        folder = open_inference_store(settings) if elsewhere else store(settings)
        for version in ("1", "2"):
            made = make_version(home / "versions" / version, bias=float(version))
            host.register("toy", version, pack(made, folder, use_case="toy", version=version))
        client = redis.Redis.from_url(redis_server)
        client.hset(Keys(settings.redis.namespace).routes, "toy", Route("1", 1).encode())
        with running_gateway(settings):
            yield Live(settings, host, client)
        host.close()
        client.close()


@contextmanager
def running_gateway(settings: Settings) -> Iterator[None]:
    """A gateway process that answers for as long as the block runs."""
    log = settings.home / "gateway.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.gateway.main"],
            cwd=ROOT, env={**os.environ, **settings_environment(settings)}, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until_up(process, lambda: answers(f"{settings.gateway_url}/readyz"), log)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def key() -> dict[str, str]:
    """Headers for one call: the client writes its own into them."""
    return {"X-API-Key": KEY}


def tensor(name: str, array: Any, datatype: str, *, binary: bool) -> InferInput:
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=binary)


def inputs(*amounts: float, binary: bool = True) -> list[InferInput]:
    n = len(amounts)
    return [
        tensor("shop", np.array([INSTANCE["shop"]] * n, dtype=np.object_), "BYTES", binary=binary),
        tensor("amount", np.array(amounts), "FP64", binary=binary),
        tensor("items", np.array([INSTANCE["items"]] * n, dtype=np.int64), "INT64", binary=binary),
    ]


def test_a_session_of_tritons_client(live: Live) -> None:
    before = len(live.logged())
    with live.client() as client:
        assert client.is_server_live(headers=key())
        assert client.is_server_ready(headers=key())
        assert client.get_server_metadata(headers=key())["name"] == "evergreen"
        index = client.get_model_repository_index(headers=key())
        assert index == [{"name": "toy", "version": "1", "state": "READY", "reason": ""}]
        assert [t["name"] for t in client.get_model_metadata("toy", headers=key())["inputs"]] == [
            "shop", "amount", "items", "at",
        ]  # fmt: skip
        assert client.get_model_config("toy", headers=key())["name"] == "toy"
        assert client.is_model_ready("toy", headers=key())
        assert client.is_model_ready("toy", "1", headers=key())
        assert not client.is_model_ready("toy", "2", headers=key()), "it answers no client"
        assert len(live.logged()) == before, "asking whether a model is ready leaves no trace"
        wanted = [expected_score(INSTANCE | {"amount": amount}, 1.0) for amount in (1.5, 3.0)]
        for binary in (True, False):
            result = client.infer("toy", inputs(1.5, 3.0, binary=binary), request_id="r-1", headers=key())
            assert result.as_numpy("scores").tolist() == pytest.approx(wanted, abs=1e-6)
            assert result.as_numpy("degraded").tolist() == [b"", b""]
            assert (result.get_response()["id"], result.get_response()["model_version"]) == ("r-1", "1")
        asked = [InferRequestedOutput("prediction_ids", binary_data=False)]
        named = client.infer("toy", inputs(1.5), model_version="1", outputs=asked, headers=key())
        assert named.as_numpy("scores") is None
        logged = live.logged()[before:]
        assert [entry["version"] for entry in logged] == ["1", "1", "1"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_what_the_client_compresses_is_understood(live: Live, algorithm: str) -> None:
    with live.client() as client:
        result = client.infer(
            "toy", inputs(1.5), headers=key(),
            request_compression_algorithm=algorithm, response_compression_algorithm=algorithm,
        )  # fmt: skip
        assert result.as_numpy("scores").tolist() == pytest.approx([expected_score(INSTANCE, 1.0)], abs=1e-6)


def test_the_client_gets_its_own_kind_of_error(live: Live) -> None:
    with live.client() as client:
        with pytest.raises(InferenceServerException, match="The API key is missing") as missing:
            client.infer("toy", inputs(1.5))
        with pytest.raises(InferenceServerException, match=r"amount\[0\]: Must be finite") as infinite:
            client.infer("toy", inputs(float("inf")), headers=key())
        with pytest.raises(InferenceServerException, match="use one of: 1") as unserved:
            client.infer("toy", inputs(1.5), model_version="2", headers=key())
        assert [error.value.status() for error in (missing, infinite, unserved)] == ["401", "422", "404"]


def test_the_native_api_gives_the_same_scores(live: Live) -> None:
    reply = httpx.post(
        f"{live.settings.gateway_url}/v1/models/toy/predict",
        json={"instances": [INSTANCE]}, headers=key(),
    )  # fmt: skip
    assert reply.json()["predictions"] == pytest.approx([expected_score(INSTANCE, 1.0)], abs=1e-6)
    assert reply.json()["model_version"] == "1"
