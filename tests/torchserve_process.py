"""A real TorchServe for tests, and versions small enough to load in no time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.discovery import load_use_case
from core.errors import DependencyDown
from core.settings import RedisSettings, Settings, TorchserveSettings
from features.definitions import feature_set
from serving.torchserve.configuration import Launch, key_file, launch
from serving.torchserve.tokens import Tokens
from tests.waiting import answers, until_up

USE_CASE = """
from datetime import timedelta
from core.serving_policy import Bake, Serving
from core.use_case import Field, Label, UseCase
from features.definitions import FeatureSet, RequestView

def _doubled(columns):
    BEFORE
    return {"doubled": columns["amount"] * 2.0, "count": columns["items"]}

use_case = UseCase(
    name="NAME",
    description="A use case for tests.",
    entities=(Field(name="shop", dtype="str", example="a"),),
    request=(Field(name="amount", dtype="float", example=1.5), Field(name="items", dtype="int", example=2)),
    sources=(),
    features=FeatureSet(
        (RequestView(name="basket", inputs=("amount", "items"), outputs=("doubled", "count"), compute=_doubled),)
    ),
    label=Label(name="paid", horizon=timedelta(hours=1), known_only_after=()),
    estimator=lambda columns: None,
    history=lambda folder: None,
    serving=SERVING,
)
"""
INSTANCE = {"shop": "a", "amount": 1.5, "items": 2}


def free_ports(n: int) -> list[int]:
    """Different ports of the loopback interface that nobody listens on."""
    from tests.conftest import free_port

    found: set[int] = set()
    while len(found) < n:
        found.add(free_port())
    return sorted(found)


def use_case_file(name: str = "toy", before: str = "pass", serving: str = "Serving()") -> str:
    """The text of a use-case file.

    Args:
        name: the use case's.
        before: a statement that runs before its features are computed.
        serving: an expression that makes its `core.serving_policy.Serving`.
    """
    return USE_CASE.replace("NAME", name).replace("BEFORE", before).replace("SERVING", serving)


def make_version(folder: Path, *, use_case: str = "toy", bias: float = 0.0, before: str = "pass") -> Path:
    """The folder of a registered version: scores = sigmoid(0.1 * doubled + 0.2 * count + bias)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "use_case.py").write_text(use_case_file(use_case, before))
    spec = feature_set(load_use_case(folder / "use_case.py").use_case).spec()
    (folder / "feature_spec.json").write_text(json.dumps(spec))
    (folder / "model.onnx").write_bytes(_model(bias).SerializeToString())
    (folder / "smoke.json").write_text(
        json.dumps({"instances": [INSTANCE, INSTANCE | {"amount": 3.0}], "at": ["2019-02-02T00:00:00+00:00"] * 2})
    )
    (folder / "profile.json").write_text("{}")
    write_manifest(folder)
    return folder


def write_manifest(folder: Path) -> None:
    """List every file of the folder with its digest."""
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(digests))


def expected_score(instance: dict[str, float], bias: float = 0.0) -> float:
    """What the model of `make_version` answers."""
    return float(1 / (1 + np.exp(-(0.1 * instance["amount"] * 2 + 0.2 * instance["items"] + bias))))


def _model(bias: float) -> onnx.ModelProto:
    weights = np.array([[0.1], [0.2]], dtype=np.float32)
    offset = np.array([bias], dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["column"]),
        helper.make_node("Reshape", ["column", "shape"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(weights, "W"),
            numpy_helper.from_array(offset, "b"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def torchserve_settings(home: Path, redis_url: str, namespace: str, *, workers: int = 1) -> Settings:
    """Settings of a TorchServe on free ports, with one worker per version unless a test is about more."""
    inference, management, metrics = free_ports(3)
    return Settings(
        home=home,
        redis=RedisSettings(url=redis_url, namespace=namespace),
        torchserve=TorchserveSettings(
            inference_port=inference, management_port=management, metrics_port=metrics, heap_mb=256, workers=workers
        ),
    )


def start(plan: Launch, log: Path) -> subprocess.Popen[bytes]:
    """Start the process a plan describes, its output in `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            plan.argv, env={**os.environ, **plan.env}, cwd=plan.cwd, stdout=output, stderr=subprocess.STDOUT
        )


def wait_until_up(settings: Settings, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the inference API answers with the tokens of this start."""
    tokens, ping = Tokens(key_file(settings)), f"{settings.torchserve_inference_url}/ping"

    def is_up() -> bool:
        try:
            token = tokens.inference()
        except DependencyDown:  # it has not written it yet
            return False
        return answers(ping, {"Authorization": f"Bearer {token}"})

    until_up(process, is_up, log)


@contextmanager
def running_torchserve(home: Path, redis_url: str, namespace: str) -> Iterator[Settings]:
    """A TorchServe that lives as long as the block."""
    settings = torchserve_settings(home, redis_url, namespace)
    plan = launch(settings)
    log = home / "torchserve.log"
    process = start(plan, log)
    try:
        wait_until_up(settings, process, log)
        yield settings
    finally:
        process.terminate()
        process.wait(timeout=30)
