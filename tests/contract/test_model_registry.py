"""What every model registry must do, run over the one in memory and over a real MLflow server."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.errors import DependencyDown, DeploymentError, DigestMismatch, UnsafeArtifact
from registry.alias_client import AliasClient, Listed
from registry.digests import MANIFEST, verify_folder
from registry.mlflow_registry import MlflowRegistry
from registry.versions import FORCE_TAG, Desired, MemoryRegistry, ModelRegistry, VersionInfo
from tests.conftest import free_port
from tests.mlflow_process import mlflow_url

FILES = {"model.onnx": b"graph", "feature_spec.json": b'{"columns": ["a", "b"]}', "use_case.py": b"# none\n"}


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_url(folder) as url:
        yield url, folder


ALIASES = pytest.mark.parametrize("kind", ["memory", "mlflow", "mlflow by plain HTTP"], indirect=True)


class ByPlainHttp(MlflowRegistry):
    """Versions as MLflow's own client registers them, aliases as the gateway moves them."""

    def alias(self, use_case: str, name: str) -> str | None:
        with AliasClient(self.url) as client:
            return client.alias(use_case, name)

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        with AliasClient(self.url) as client:
            client.set_alias(use_case, name, version, tags)

    def desired(self) -> dict[str, Desired]:
        with AliasClient(self.url) as client:
            return {name: client.desired(name) for name in super().desired()}


@pytest.fixture(params=["memory", "mlflow"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def registry(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if kind == "memory":
        return MemoryRegistry(tmp_path / "registry")
    url, _ = request.getfixturevalue("mlflow_server")
    return MlflowRegistry(url) if kind == "mlflow" else ByPlainHttp(url)


@pytest.fixture
def name() -> str:
    return f"case_{uuid.uuid4().hex[:12]}"


def make_version(folder: Path, graph: bytes = b"graph") -> VersionInfo:
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "scores.png").write_bytes(b"picture")
    files = {**FILES, "model.onnx": graph}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    (folder / MANIFEST).write_text(json.dumps({f: hashlib.sha256(c).hexdigest() for f, c in files.items()}))
    return VersionInfo(
        digest=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        as_of=datetime(2019, 2, 8, 12, 30, 0, 5, tzinfo=UTC),
        reason="log-loss rose by 41 %",
        fingerprint="ab" * 32,
        log_loss=0.1 + 0.2,
        git_commit="0" * 40,
        params={"estimator": "Forest", "trees": "7"},
        metrics={"auc": 0.75, "log_loss": 0.1 + 0.2},
        description="# card\n\nwith **words**",
    )


def test_versions_are_numbered_in_order_of_registration(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    numbers = []
    for i in range(3):
        info = make_version(tmp_path / str(i), graph=b"graph %d" % i)
        numbers.append(registry.register(name, tmp_path / str(i), info))
    assert numbers == ["1", "2", "3"]


def test_registering_the_same_digest_again_returns_its_number(
    registry: ModelRegistry, name: str, tmp_path: Path
) -> None:
    first, second = make_version(tmp_path / "a"), make_version(tmp_path / "b", graph=b"other")
    registry.register(name, tmp_path / "a", first)
    registry.register(name, tmp_path / "b", second)
    assert registry.register(name, tmp_path / "a", replace(first, reason="once more")) == "1"
    assert registry.info(name, "1").reason == first.reason


def test_what_was_registered_is_told(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    info = make_version(tmp_path / "v")
    assert registry.info(name, registry.register(name, tmp_path / "v", info)) == info


def test_fetching_gives_the_registered_files_and_only_those(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    info = make_version(tmp_path / "v")
    version = registry.register(name, tmp_path / "v", info)
    fetched = registry.fetch(name, version, tmp_path / "into" / "deep")
    assert fetched == tmp_path / "into" / "deep"
    assert {path.name for path in fetched.iterdir()} == {*FILES, MANIFEST}
    assert verify_folder(fetched) == info.digest
    assert [path.name for path in fetched.parent.iterdir()] == ["deep"]


def test_fetching_again_repairs_a_damaged_copy(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    version = registry.register(name, tmp_path / "v", make_version(tmp_path / "v"))
    fetched = registry.fetch(name, version, tmp_path / "into")
    (fetched / "model.onnx").write_bytes(b"damaged")
    assert (registry.fetch(name, version, tmp_path / "into") / "model.onnx").read_bytes() == b"graph"
    assert registry.fetch(name, version, tmp_path / "into") == fetched


@pytest.mark.parametrize("file", ["model.onnx", MANIFEST])
def test_a_changed_artifact_is_refused(
    registry: ModelRegistry, kind: str, name: str, file: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    version = registry.register(name, tmp_path / "v", make_version(tmp_path / "v"))
    if isinstance(registry, MemoryRegistry):
        stored = registry.folder(name, version) / file
    else:
        artifacts = request.getfixturevalue("mlflow_server")[1] / "artifacts"
        stored = max(artifacts.rglob(f"version/{file}"), key=lambda path: path.stat().st_mtime_ns)
    stored.write_bytes(stored.read_bytes() + b" ")
    with pytest.raises(DigestMismatch, match=file.replace(".", r"\.")):
        registry.fetch(name, version, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_a_file_that_was_not_registered_is_refused(
    registry: ModelRegistry, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    version = registry.register(name, tmp_path / "v", make_version(tmp_path / "v"))
    if isinstance(registry, MemoryRegistry):
        folder = registry.folder(name, version)
    else:
        artifacts = request.getfixturevalue("mlflow_server")[1] / "artifacts"
        folder = max(artifacts.rglob("version/model.onnx"), key=lambda path: path.stat().st_mtime_ns).parent
    (folder / "handler.py").write_text("import os")
    with pytest.raises(UnsafeArtifact, match=r"holds handler\.py, which its manifest does not list"):
        registry.fetch(name, version, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_the_tag_that_forces_a_version_and_a_deleted_one(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    for i in range(2):
        registry.register(name, tmp_path / str(i), make_version(tmp_path / str(i), graph=b"graph %d" % i))
    registry.set_alias(name, "champion", "2")
    assert registry.info(name, "2").forced == ""
    if isinstance(registry, MemoryRegistry):
        registry.tag(name, "2", forced="labels are late")
        assert registry.info(name, "2").forced == "labels are late"
        registry.delete(name, "2")
    else:
        assert isinstance(registry, MlflowRegistry)
        client = MlflowClient(tracking_uri=registry.url)
        client.set_model_version_tag(name, "2", FORCE_TAG, "labels are late")
        assert registry.info(name, "2").forced == "labels are late"
        client.delete_model_version(name, "2")
    assert registry.alias(name, "champion") is None and registry.desired()[name].aliases == {}
    with pytest.raises(DeploymentError, match="no version '2'"):
        registry.info(name, "2")
    registry.info(name, "1")


@ALIASES
def test_an_alias_moves_and_says_so(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    for i in range(2):
        registry.register(name, tmp_path / str(i), make_version(tmp_path / str(i), graph=b"graph %d" % i))
    assert registry.alias(name, "champion") is None
    assert registry.desired()[name].aliases == {}
    registry.set_alias(name, "champion", "1")
    registry.set_alias(name, "challenger", "2")
    registry.set_alias(name, "champion", "2")
    registry.set_alias(name, "champion", "2")
    assert registry.alias(name, "champion") == "2"
    assert registry.desired()[name].aliases == {"champion": "2", "challenger": "2"}
    registry.set_alias(name, "champion", "1")
    assert registry.desired()[name].aliases == {"champion": "1", "challenger": "2"}


@ALIASES
def test_an_alias_is_taken_away_and_tags_say_how_much(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    registry.register(name, tmp_path / "v", make_version(tmp_path / "v"))
    for _ in range(2):
        registry.set_alias(name, "canary", "1", {"evergreen.canary_percent": "5"})
    assert registry.desired()[name] == Desired({"canary": "1"}, {"evergreen.canary_percent": "5"})
    registry.set_alias(name, "canary", "1", {"evergreen.canary_percent": "50"})
    for _ in range(2):
        registry.set_alias(name, "canary", None)
    assert registry.desired()[name] == Desired({}, {"evergreen.canary_percent": "50"})
    with pytest.raises(DeploymentError, match="has no version '2'"):
        registry.set_alias(name, "canary", "2", {"evergreen.canary_percent": "1"})
    assert registry.desired()[name].tags == {"evergreen.canary_percent": "50"}


def test_what_is_not_there_is_named(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    assert registry.alias(name, "champion") is None
    assert name not in registry.desired()
    with pytest.raises(DeploymentError, match=f"{name} has no version '1'"):
        registry.set_alias(name, "champion", "1")
    registry.register(name, tmp_path / "v", make_version(tmp_path / "v"))
    for version in ("2", "0", "latest", ""):
        with pytest.raises(DeploymentError, match="has no version"):
            registry.info(name, version)
        with pytest.raises(DeploymentError, match="has no version"):
            registry.fetch(name, version, tmp_path / "into")
        with pytest.raises(DeploymentError, match="has no version"):
            registry.set_alias(name, "champion", version)
    assert registry.alias(name, "champion") is None


def logged(registry: ModelRegistry, use_case: str, version: str) -> dict[datetime, dict[str, float]]:
    """The distances of the looks at a version, by moment, as a reader of the registry finds them."""
    if isinstance(registry, MemoryRegistry):
        return {at: dict(found) for at, found in registry.looks(use_case, version).items()}
    assert isinstance(registry, MlflowRegistry)
    client = MlflowClient(registry.url)
    run = client.get_model_version(use_case, version).run_id
    assert run is not None
    found: dict[datetime, dict[str, float]] = {}
    for name in client.get_run(run).data.metrics:
        for metric in client.get_metric_history(run, name) if name.startswith("drift/") else ():
            assert metric.timestamp == metric.step * 1000
            at = datetime.fromtimestamp(metric.step, UTC)
            assert name not in found.get(at, {}), "logged twice"
            found.setdefault(at, {})[name.removeprefix("drift/")] = metric.value
    return found


def pages(registry: ModelRegistry, use_case: str, version: str, into: Path) -> dict[str, str]:
    if isinstance(registry, MemoryRegistry):
        folder = registry.pages(use_case, version)
    else:
        assert isinstance(registry, MlflowRegistry)
        client = MlflowClient(registry.url)
        run = client.get_model_version(use_case, version).run_id
        assert run is not None
        folder = Path(client.download_artifacts(run, "monitoring", str(into)))
    return {page.name: page.read_text(encoding="utf-8") for page in folder.iterdir()}


def test_looks_are_kept_with_the_version_and_change_nothing_of_it(
    registry: ModelRegistry, name: str, tmp_path: Path
) -> None:
    info = make_version(tmp_path / "v")
    version = registry.register(name, tmp_path / "v", info)
    first, later = (datetime(2019, 2, day, 6, 30, tzinfo=UTC) for day in (9, 16))
    for at, moved in ((later, 0.5), (first, 0.25), (later, 0.5)):
        (tmp_path / "page.html").write_text(f"<p>moved by {moved} ≠ 0", encoding="utf-8")
        registry.log_look(name, version, at=at, page=tmp_path / "page.html", distances={"fare": moved, "score": 0.0})

    assert logged(registry, name, version) == {
        first: {"fare": 0.25, "score": 0.0}, later: {"fare": 0.5, "score": 0.0},
    }  # fmt: skip
    (tmp_path / "into").mkdir()
    assert pages(registry, name, version, tmp_path / "into") == {
        "2019-02-09T063000.html": "<p>moved by 0.25 ≠ 0", "2019-02-16T063000.html": "<p>moved by 0.5 ≠ 0",
    }  # fmt: skip
    assert registry.info(name, version) == info
    with pytest.raises(DeploymentError, match="has no version '2'"):
        registry.log_look(name, "2", at=first, page=tmp_path / "page.html", distances={})


@ALIASES
def test_an_alias_of_what_is_not_there_is_none_and_cannot_be_set(
    registry: ModelRegistry, name: str, tmp_path: Path
) -> None:
    assert registry.alias(name, "champion") is None
    registry.register(name, tmp_path / "v", make_version(tmp_path / "v"))
    for version in ("2", "0", "latest", ""):
        with pytest.raises(DeploymentError, match="has no version"):
            registry.set_alias(name, "champion", version)
    assert registry.alias(name, "champion") is None


def test_versions_are_listed_by_plain_http_with_their_runs(
    mlflow_server: tuple[str, Path], name: str, tmp_path: Path
) -> None:
    registry = MlflowRegistry(mlflow_server[0])
    for i in range(2):
        registry.register(name, tmp_path / str(i), make_version(tmp_path / str(i), graph=b"graph %d" % i))
    client = MlflowClient(registry.url)
    with AliasClient(registry.url) as plain:
        assert plain.versions(name) == [
            Listed(version, client.get_model_version(name, version).run_id or "") for version in ("2", "1")
        ]
        assert plain.versions("nobody") == []


def test_a_server_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(DependencyDown, match=f"MLflow at {url} does not answer"):
        MlflowRegistry(url).desired()
    with AliasClient(url) as client, pytest.raises(DependencyDown, match="MLflow does not answer"):
        client.alias("tip", "champion")
