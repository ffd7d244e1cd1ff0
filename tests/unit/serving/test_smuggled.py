"""What is changed, exchanged or smuggled into a version is refused, alarmed of, and leaves what answers alone."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from core.errors import UnsafeArtifact
from monitoring.alerts import PAGE, event_alerts
from registry.digests import MANIFEST, sha256_of
from serving.model_host import MemoryModelHost
from serving.routing import Route
from serving.torchserve.packer import pack, require_packed, unpack, verify
from tests.deployer_bench import Bench
from tests.torchserve_process import make_version, write_manifest


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.champion(bench.version())
    bench.deployer.poll()
    yield bench
    bench.ledger.close()


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def add_a_pickle(folder: Path) -> None:
    (folder / "estimator.pkl").write_bytes(pickle.dumps({"weights": [1.0]}))


def add_a_handler(folder: Path) -> None:
    (folder / "handler.py").write_text("def handle(data, context): return data")


def link_elsewhere(folder: Path) -> None:
    (folder / "smoke.json").unlink()
    (folder / "smoke.json").symlink_to("/etc/hostname")


def hide_a_folder(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "lib" / "sitecustomize.py").write_text("")


@pytest.mark.parametrize("spoil", [flip_a_bit, add_a_pickle, add_a_handler, link_elsewhere, hide_a_folder])
def test_a_spoilt_version_is_refused_alarmed_of_and_changes_nothing(
    bench: Bench, spoil: Callable[[Path], None]
) -> None:
    version = bench.version(bias=0.1)
    spoil(bench.registry.folder("toy", version))
    before = (bench.stations.store / "toy-1.mar").read_bytes()
    bench.champion(version)
    for bench.now_s in (0.0, 20.0, 40.0):
        bench.deployer.poll()
    assert_refused(bench, version)
    assert (bench.stations.store / "toy-1.mar").read_bytes() == before


def assert_refused(bench: Bench, version: str) -> None:
    assert bench.routes.routes() == {"toy": Route("1", 1)} and bench.host.loaded() == {"toy": {"1"}}
    assert bench.deployments() == [("deploy", "1"), ("refuse", version)]
    (alert,) = event_alerts(bench.ledger.entries("toy", kind="deployment", limit=1))
    assert (alert.severity, alert.cause) == (PAGE, f"refused/{version}")
    assert [path.name for path in bench.stations.store.iterdir()] == ["toy-1.mar"]


@pytest.mark.parametrize("spoil", [add_a_pickle, add_a_handler])
def test_a_manifest_that_lists_what_was_smuggled_in_does_not_help(bench: Bench, spoil: Callable[[Path], None]) -> None:
    """Also where nobody judged the version, so that no digest is anchored: it was forced."""
    version = bench.version(bias=0.1, passed=False)
    folder = bench.registry.folder("toy", version)
    spoil(folder)
    write_manifest(folder)
    bench.registry.tag("toy", version, digest=sha256_of(folder / MANIFEST), forced="trust me")
    bench.champion(version)
    for bench.now_s in (0.0, 20.0):
        bench.deployer.poll()
    assert_refused(bench, version)


@pytest.mark.parametrize("passed", [True, False])
def test_an_older_artifact_offered_again_is_refused_though_its_tag_says_it_is_right(bench: Bench, passed: bool) -> None:
    version = bench.version(bias=0.1, passed=passed)
    folder = bench.registry.folder("toy", version)
    shutil.rmtree(folder)
    shutil.copytree(bench.registry.folder("toy", "1"), folder)
    bench.registry.tag("toy", version, digest=bench.registry.info("toy", "1").digest, forced="trust me")
    bench.champion(version)
    for bench.now_s in (0.0, 20.0):
        bench.deployer.poll()
    assert_refused(bench, version)
    reason = bench.ledger.entries("toy", limit=1)[0].reason
    assert ("has digest" if passed else "is that of version 1, offered again as 2") in reason


def test_a_version_exchanged_after_it_was_live_is_not_loaded_again(bench: Bench) -> None:
    bench.champion(bench.version(bias=0.1, passed=True))
    bench.deployer.poll()
    folder = bench.registry.folder("toy", "1")
    make_version(folder, bias=0.5)
    bench.registry.tag("toy", "1", digest=sha256_of(folder / MANIFEST))
    (bench.stations.store / "toy-1.mar").unlink()
    bench.restarted(host=MemoryModelHost()).poll()
    assert bench.deployer is not None and bench.deployments()[-1] == ("refuse", "1")
    assert bench.routes.routes()["toy"].version == "2"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(make_version(tmp_path / "v"), tmp_path / "store", use_case="toy", version="7")


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("handler.py", r"holds handler\.py"),
        ("../../evil.py", r"holds \.\./\.\./evil\.py"),
        ("MAR-INF/hook.py", "holds MAR-INF/hook"),
        ("model.onnx", "holds a file twice"),
    ],
)
def test_an_archive_holds_what_was_packed_and_nothing_else(
    archive: Path, member: str, said: str, tmp_path: Path
) -> None:
    assert require_packed(archive) == sha256_of(tmp_path / "v" / MANIFEST)
    with zipfile.ZipFile(archive, "a") as packed, _warned(member == "model.onnx"):
        packed.writestr(member, b"import os")
    with pytest.raises(UnsafeArtifact, match=said):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "evil.py").exists()


def _warned(expected: bool) -> AbstractContextManager[object]:
    return pytest.warns(UserWarning, match="Duplicate name") if expected else nullcontext()


def test_an_archive_names_no_other_handler(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    described = json.loads(files["MAR-INF/MANIFEST.json"])
    described["model"]["handler"] = "use_case.py"
    files["MAR-INF/MANIFEST.json"] = json.dumps(described).encode()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    with pytest.raises(UnsafeArtifact, match=r"names the handler use_case\.py"):
        require_packed(archive)


def test_a_worker_loads_no_folder_with_something_beside(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "unpacked")
    verify(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "__pycache__").mkdir()
    with pytest.raises(UnsafeArtifact, match="__pycache__"):
        verify(tmp_path / "unpacked")


def reads_a_file(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0]
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    weights.external_data.add(key="location", value="../../secrets/prediction-ids")


def reads_a_file_in_a_branch(model: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["inner"], value=numpy_helper.from_array(np.zeros(1, np.float32)))
    constant.attribute[0].t.external_data.add(key="location", value="other.bin")
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("inner", 1, [1])])
    node = helper.make_node("If", ["b"], ["unused"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def runs_a_library(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Shell", ["X"], ["y"], domain="evil.ops"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (reads_a_file, "in a file outside itself"),
        (reads_a_file_in_a_branch, "in a file outside itself"),
        (runs_a_library, r"uses evil\.ops\.Shell"),
    ],
)
def test_a_graph_that_reaches_outside_is_refused_though_forced(
    bench: Bench, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    version = bench.version(bias=0.1, passed=False)
    folder = bench.registry.folder("toy", version)
    model = onnx.load_model(str(folder / "model.onnx"))
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder)
    bench.registry.tag("toy", version, digest=sha256_of(folder / MANIFEST), forced="trust me")
    bench.champion(version)
    for bench.now_s in (0.0, 20.0):
        bench.deployer.poll()
    assert_refused(bench, version)
    assert re.search(said, bench.ledger.entries("toy", limit=1)[0].reason)
