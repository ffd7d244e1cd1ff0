from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from core.errors import DeploymentError, DigestMismatch
from serving.torchserve.packer import pack, verify
from serving.torchserve.seals import ArchiveSeals
from tests.torchserve_process import make_version


def tamper(archive: Path) -> None:
    """Change the model and the manifest, so that they agree again."""
    with zipfile.ZipFile(archive) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    files["model.onnx"] += b"\x00"
    digests = json.loads(files["manifest.json"])
    digests["model.onnx"] = hashlib.sha256(files["model.onnx"]).hexdigest()
    files["manifest.json"] = json.dumps(digests).encode()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(make_version(tmp_path / "v"), tmp_path / "store", use_case="toy", version="7")


@pytest.fixture
def seals(tmp_path: Path) -> ArchiveSeals:
    return ArchiveSeals(tmp_path / "seals")


def test_an_archive_is_known_again_until_it_is_changed(archive: Path, seals: ArchiveSeals, tmp_path: Path) -> None:
    seals.seal(archive)
    seals.check(archive)
    (seal,) = (tmp_path / "seals").iterdir()
    assert seal.stat().st_mode & 0o077 == (tmp_path / "seals").stat().st_mode & 0o077 == 0
    tamper(archive)
    with pytest.raises(DigestMismatch, match=r"toy-7\.mar has digest"):
        seals.check(archive)


def test_an_archive_that_nobody_sealed_is_refused(archive: Path, seals: ArchiveSeals) -> None:
    with pytest.raises(DeploymentError, match="packed by nobody known"):
        seals.check(archive)
    seals.seal(archive)
    seals.forget(archive)
    seals.forget(archive)
    with pytest.raises(DeploymentError, match="packed by nobody known"):
        seals.check(archive)


def test_an_unpacked_archive_must_be_one_that_was_sealed(archive: Path, seals: ArchiveSeals, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(unpacked)
    seals.check_unpacked(unpacked)
    seals.seal(archive)
    seals.check_unpacked(unpacked)
    tamper(archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(unpacked)
    verify(unpacked)
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        seals.check_unpacked(unpacked)


def test_what_cannot_be_read_is_named(archive: Path, seals: ArchiveSeals, tmp_path: Path) -> None:
    seals.seal(archive)
    (tmp_path / "seals" / "toy-7.mar.json").write_text("{}")
    with pytest.raises(DeploymentError, match=r"seal .* cannot be read"):
        seals.check(archive)
    seals.seal(archive)
    archive.write_bytes(b"no archive")
    with pytest.raises(DeploymentError, match="cannot be sealed"):
        seals.seal(archive)
    archive.unlink()
    with pytest.raises(DeploymentError, match="cannot be read"):
        seals.check(archive)
    with pytest.raises(DeploymentError, match="incomplete"):
        seals.check_unpacked(tmp_path / "nowhere")
