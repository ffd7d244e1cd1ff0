"""A version's way through a real MLflow server, and what a person sees and does there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.discovery import UseCaseFile, load_use_case
from core.errors import DependencyDown, DeploymentError
from features.offline.training import TrainingSet
from registry.candidate import Candidate, build_candidate
from registry.mlflow_registry import MlflowRegistry
from registry.version_folder import load_version, write_version_folder
from tests.mlflow_process import mlflow_url

ROOT = Path(__file__).parents[3]
AS_OF = datetime(2019, 2, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_url(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def taxi_tip() -> UseCaseFile:
    return load_use_case(ROOT / "models" / "taxi_tip.py")


@pytest.fixture(scope="module")
def candidate(taxi_tip: UseCaseFile) -> Candidate:
    """Trained on real trips, with the features that need a store left at 0."""
    past, columns = taxi_tip.use_case.history(ROOT / "data"), taxi_tip.use_case.features.columns
    requests = past.requests.head(6000).assign(watermark=-1)
    matrix = np.zeros((len(requests), len(columns)), dtype=np.float32)
    for name in set(columns) & set(requests.columns):
        matrix[:, columns.index(name)] = requests[name].fillna(0)
    training = TrainingSet(
        X=matrix, y=past.labels["label"].head(6000).to_numpy(), at=requests["at"].dt.tz_localize(None).to_numpy(),
        columns=columns, prediction_ids=requests["key"].to_numpy(), requests=requests, fingerprint="cd" * 32,
        dropped=past.dropped,
    )  # fmt: skip
    return build_candidate(taxi_tip, training)


@pytest.fixture(scope="module")
def client(server: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(server, server)


@pytest.fixture(scope="module")
def registered(server: str, candidate: Candidate, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """The number of the registered version, and the seconds registering took."""
    folder = tmp_path_factory.mktemp("folder")
    info = write_version_folder(candidate, folder, reason="log-loss rose", as_of=AS_OF)
    registry = MlflowRegistry(server)
    registry.desired()  # connects
    started = time.perf_counter()
    version = registry.register("taxi_tip", folder, info)
    return version, time.perf_counter() - started


def test_it_scores_after_the_round_trip_as_it_did_before(
    server: str, candidate: Candidate, registered: tuple[str, float], tmp_path: Path
) -> None:
    registry = MlflowRegistry(server)
    digest = registry.info("taxi_tip", registered[0]).digest
    loaded = load_version(registry.fetch("taxi_tip", registered[0], tmp_path / "v"), digest=digest)
    assert np.array_equal(loaded.scorer.score(candidate.holdout.X), candidate.holdout.scores)
    assert loaded.profile["log_loss"] == candidate.profile["log_loss"]
    assert loaded.use_case_file.digest == candidate.use_case_file.digest


def test_registering_takes_little_time(registered: tuple[str, float]) -> None:
    assert registered[1] < 10  # 0.5 s on an idle machine; log_model with inferred requirements takes 12


def test_the_run_tells_where_the_version_comes_from(client: Any, registered: tuple[str, float]) -> None:
    found = client.get_model_version("taxi_tip", registered[0])
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "taxi_tip"
    assert run.data.params["estimator"] == "HistGradientBoostingClassifier"
    assert {"log_loss", "auc", "fit_s", "export_s", "training_rows"} <= set(run.data.metrics)
    assert run.inputs.dataset_inputs[0].dataset.digest == ("cd" * 32)[:36]
    assert len(run.data.tags["mlflow.source.git.commit"]) in (7, 40)
    assert {f.path for f in client.list_artifacts(found.run_id, "plots")} == {
        "plots/calibration.png", "plots/importance.png", "plots/scores.png"
    }  # fmt: skip
    assert "log-loss rose" in found.description
    assert found.tags["evergreen.as_of"] == AS_OF.isoformat()


def test_mlflow_knows_it_as_an_onnx_model(
    client: Any, candidate: Candidate, registered: tuple[str, float], tmp_path: Path
) -> None:
    from mlflow.models import Model

    found = client.get_model_version("taxi_tip", registered[0])
    assert found.source.endswith("/version")
    model = Model.load(client.download_artifacts(found.run_id, "version", str(tmp_path)))
    assert model.flavors["onnx"]["data"] == "model.onnx"
    assert model.flavors["python_function"]["loader_module"] == "mlflow.onnx"
    assert model.signature.inputs.input_names() == ["X"]
    assert model.signature.inputs.inputs[0].shape == (-1, len(candidate.columns))


def test_a_version_made_by_hand_is_refused_with_the_reason(
    server: str, client: Any, registered: tuple[str, float], tmp_path: Path
) -> None:
    run_id = client.get_model_version("taxi_tip", registered[0]).run_id
    client.create_registered_model("by_hand")
    source = client.get_model_version("taxi_tip", registered[0]).source
    made = client.create_model_version("by_hand", source=source, run_id=run_id, await_creation_for=0)
    with pytest.raises(DeploymentError, match="not registered by Evergreen"):
        MlflowRegistry(server).fetch("by_hand", made.version, tmp_path / "v")


def test_an_alias_moved_or_deleted_by_hand_is_seen(server: str, client: Any, registered: tuple[str, float]) -> None:
    registry = MlflowRegistry(server)
    registry.set_alias("taxi_tip", "challenger", registered[0])
    client.delete_registered_model_alias("taxi_tip", "challenger")
    assert registry.alias("taxi_tip", "challenger") is None
    client.set_registered_model_alias("taxi_tip", "challenger", registered[0])
    assert registry.desired()["taxi_tip"].aliases["challenger"] == registered[0]


def test_a_registration_that_fails_leaves_no_version_and_a_failed_run(
    server: str, client: Any, candidate: Candidate, tmp_path: Path
) -> None:
    info = write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF + timedelta(days=1))
    (tmp_path / "v" / "model.onnx").unlink()
    with pytest.raises(OSError, match=r"model\.onnx"):
        MlflowRegistry(server).register("unlucky", tmp_path / "v", info)
    assert client.search_model_versions("name='unlucky'") == []
    (run,) = client.search_runs([client.get_experiment_by_name("unlucky").experiment_id])
    assert run.info.status == "FAILED"


def test_nothing_is_printed_and_no_global_is_moved(
    server: str,
    candidate: Candidate,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    info = write_version_folder(candidate, tmp_path / "v", reason="r", as_of=AS_OF)
    with caplog.at_level(logging.INFO):
        registry = MlflowRegistry(server)
        registry.set_alias("silent", "champion", registry.register("silent", tmp_path / "v", info))
        registry.fetch("silent", "1", tmp_path / "into")
    assert mlflow.get_tracking_uri() == before
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("mlflow")]


class _Failing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def test_a_server_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with HTTPServer(("127.0.0.1", 0), _Failing) as failing:
        thread = threading.Thread(target=failing.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(
                DependencyDown, match=f"MLflow at http://127.0.0.1:{failing.server_port} does not answer"
            ):
                MlflowRegistry(f"http://127.0.0.1:{failing.server_port}").alias("taxi_tip", "champion")
        finally:
            failing.shutdown()
            thread.join()
