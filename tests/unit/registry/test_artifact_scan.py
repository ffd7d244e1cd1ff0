"""Nothing but a version's own files passes the scan, and nothing of what is refused is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from core.discovery import UseCaseFile
from features.offline.training import TrainingSet
from registry.artifact_scan import ArtifactRefused, require_clean, scan_folder
from registry.candidate import build_candidate
from registry.digests import MANIFEST, sha256_of
from registry.version_folder import write_version_folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the version is kept that all tests copy."""
    return tmp_path_factory.mktemp("written") / "version"


@pytest.fixture
def folder(
    use_case_file: UseCaseFile, make_rows: Callable[..., TrainingSet], written: Path, tmp_path: Path
) -> Path:  # fmt: skip
    """A version as a retrain writes it."""
    if not written.exists():
        candidate = build_candidate(use_case_file, make_rows(300))
        write_version_folder(candidate, written, reason="r", as_of=datetime(2019, 2, 8, tzinfo=UTC))
    return shutil.copytree(written, tmp_path / "version")


def add(folder: Path, name: str, content: bytes) -> None:
    """Put a file into the folder and list it, as somebody who can write both would."""
    (folder / name).write_bytes(content)
    listed = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(listed | {name: sha256_of(folder / name)}))


def change_graph(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    add(folder, "model.onnx", model.SerializeToString())


def test_what_a_retrain_writes_passes(folder: Path) -> None:
    found = require_clean(folder, "tiny 1")

    assert found.findings == ()
    assert set(found.files) == set(json.loads((folder / MANIFEST).read_text()))
    assert set(found.domains) <= {"ai.onnx", "ai.onnx.ml"}
    assert "LinearClassifier" in found.operators
    assert "nothing else" in found.said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.json", pickle.dumps({"a": 1}), "weights.json is a pickle"),
        ("reference.parquet", b"\x7fELF" + bytes(8), "reference.parquet is an ELF program"),
        ("use_case.py", b"#!/bin/sh\nid", "use_case.py is a script"),
        ("more.json", b"PK\x03\x04" + bytes(8), "more.json is a zip archive"),
        ("handler.py", b"x = 1", "handler.py is of a kind no version has"),
        ("more.pkl", b"c__builtin__\neval\n.", "more.pkl is of a kind no version has"),
        ("more.json", b"not json", "more.json is no JSON"),
        ("more.parquet", b"PARQ", "more.parquet is no Parquet file"),
        ("model.onnx", b"\x08\x07garbage", "model.onnx is no ONNX graph"),
        ("model.onnx", b"", "model.onnx computes nothing"),
    ],
)
def test_a_listed_file_of_another_kind_is_refused(folder: Path, name: str, content: bytes, said: str) -> None:
    add(folder, name, content)

    with pytest.raises(ArtifactRefused, match=said.replace(".", r"\.")):
        require_clean(folder, "tiny 1")


def test_a_flipped_bit_is_refused(folder: Path) -> None:
    content = bytearray((folder / "profile.json").read_bytes())
    content[content.index(b"1")] ^= 1
    (folder / "profile.json").write_bytes(bytes(content))

    assert scan_folder(folder).findings == ("profile.json has not the digest that the manifest lists",)


def test_what_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "handler.py").write_text("x = 1")
    (folder / "code").mkdir()
    (folder / "plots" / "more.pkl").write_bytes(b"")

    said = scan_folder(folder).findings

    assert said == (
        "code is not listed in its manifest", "handler.py is not listed in its manifest",
        "plots/more.pkl is no picture and no page",
    )  # fmt: skip


def test_links_and_executables_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "smoke.json").write_bytes((folder / "smoke.json").read_bytes())
    (folder / "smoke.json").unlink()
    (folder / "smoke.json").symlink_to(tmp_path / "smoke.json")
    (folder / "profile.json").chmod(0o755)

    assert set(scan_folder(folder).findings) == {
        "smoke.json is listed and is no plain file", "profile.json is marked as executable",
    }  # fmt: skip


def test_other_operators_are_refused(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("com.evil", 1))
        model.graph.node.append(helper.make_node("Shell", ["X"], ["Y"], domain="com.evil"))
        model.graph.node.append(helper.make_node("NoSuchOperator", ["X"], ["Z"]))

    change_graph(folder, change)

    said = "; ".join(scan_folder(folder).findings)
    assert "uses the operators of 'com.evil'" in said
    assert "com.evil.Shell" in said and "ai.onnx.NoSuchOperator" in said


def test_operators_hidden_in_a_subgraph_are_found(folder: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Shell", [], ["out"], domain="com.evil")], "b", [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    hidden = helper.make_node("If", ["X"], ["Y"], then_branch=branch, else_branch=branch)
    change_graph(folder, lambda model: model.graph.node.append(hidden))

    assert "com.evil.Shell" in "; ".join(scan_folder(folder).findings)


def test_data_outside_the_graph_is_refused(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = helper.make_tensor("secret", TensorProto.FLOAT, [1], [0.0])
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../etc/passwd")
        model.graph.initializer.append(tensor)

    change_graph(folder, change)

    assert scan_folder(folder).findings == ("model.onnx keeps 'secret' in a file outside itself",)


def test_a_version_that_is_too_large_is_refused_before_it_is_read(folder: Path) -> None:
    assert scan_folder(folder, most_bytes=10).findings == ("its files are larger than 0 MB together",)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("", "its manifest cannot be read"),
        ("[]", "its manifest is no list of digests"),
        ('{"model.onnx": 1}', "its manifest is no list of digests"),
        ('{"../evil": "00"}', "lists '../evil', which is no plain file name"),
        ("{}", "does not list model.onnx"),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, manifest: str, said: str) -> None:
    (folder / MANIFEST).write_text(manifest)

    assert any(said in finding for finding in scan_folder(folder).findings)
