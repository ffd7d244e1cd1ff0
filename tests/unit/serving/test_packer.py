from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from core.errors import DeploymentError, DigestMismatch
from serving.torchserve.packer import pack, packed_versions, read_smoke, verify
from tests.torchserve_process import make_version, write_manifest


def test_an_archive_holds_what_is_served_and_names_the_handler(tmp_path: Path) -> None:
    archive = pack(make_version(tmp_path / "v"), tmp_path / "store", use_case="toy", version="7")
    assert archive == tmp_path / "store" / "toy-7.mar"
    with zipfile.ZipFile(archive) as packed:
        assert set(packed.namelist()) == {
            "MAR-INF/MANIFEST.json", "manifest.json", "model.onnx", "use_case.py", "feature_spec.json", "smoke.json",
        }  # fmt: skip
        model = json.loads(packed.read("MAR-INF/MANIFEST.json"))["model"]
    assert model == {"modelName": "toy", "modelVersion": "7", "handler": "serving.torchserve.handler"}
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["toy-7.mar"]


def test_the_same_version_packs_to_the_same_bytes(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "v")
    first = pack(folder, tmp_path / "a", use_case="toy", version="7").read_bytes()
    (folder / "model.onnx").touch()
    assert pack(folder, tmp_path / "b", use_case="toy", version="7").read_bytes() == first


def test_packed_versions_are_those_of_one_use_case(tmp_path: Path) -> None:
    assert packed_versions(tmp_path / "store", "toy") == set()
    for name in ("toy-7.mar", "toy-12.mar", ".toy-8.mar.77", "toy_b-3.mar", "toy-b-4.mar", "toy-9.mar.json"):
        (tmp_path / name).touch()
    assert packed_versions(tmp_path, "toy") == {"7", "12"}


@pytest.mark.parametrize("name", ["model.onnx", "use_case.py", "feature_spec.json", "smoke.json"])
def test_a_changed_file_is_noticed(tmp_path: Path, name: str) -> None:
    folder = make_version(tmp_path / "v")
    (folder / name).write_bytes(b"other")
    with pytest.raises(DigestMismatch, match=name):
        pack(folder, tmp_path / "store", use_case="toy", version="7")
    assert not (tmp_path / "store").exists()


def test_what_only_training_needs_may_be_absent_but_not_changed(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "v")
    (folder / "profile.json").write_text("other")
    with pytest.raises(DigestMismatch, match=r"profile\.json"):
        verify(folder)
    (folder / "profile.json").unlink()
    verify(folder)


@pytest.mark.parametrize("name", ["model.onnx", "use_case.py", "manifest.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = make_version(tmp_path / "v")
    (folder / name).unlink()
    with pytest.raises(DeploymentError, match=name):
        verify(folder)


def test_a_manifest_must_list_what_is_needed_and_nothing_elsewhere(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "v")
    (folder / "model.onnx").unlink()
    write_manifest(folder)
    with pytest.raises(DeploymentError, match=r"does not list model\.onnx"):
        verify(folder)
    make_version(folder)
    digests = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(digests | {"../../etc/passwd": "00"}))
    with pytest.raises(DeploymentError, match="no plain file name"):
        verify(folder)


def test_recorded_requests_are_read_from_the_archive(tmp_path: Path) -> None:
    archive = pack(make_version(tmp_path / "v"), tmp_path / "store", use_case="toy", version="7")
    assert len(read_smoke(archive)["instances"]) == 2


def test_an_archive_without_recorded_requests_is_refused(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "v")
    (folder / "smoke.json").write_text('{"instances": []}')
    write_manifest(folder)
    with pytest.raises(DeploymentError, match="no recorded requests"):
        read_smoke(pack(folder, tmp_path / "store", use_case="toy", version="7"))
    (folder / "smoke.json").unlink()
    write_manifest(folder)
    with pytest.raises(DeploymentError, match="cannot be read"):
        read_smoke(pack(folder, tmp_path / "store", use_case="toy", version="7"))
    with pytest.raises(DeploymentError, match="cannot be read"):
        read_smoke(tmp_path / "nowhere.mar")
