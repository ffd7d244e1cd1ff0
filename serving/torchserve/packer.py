"""A registered version as an archive that TorchServe loads."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import DeploymentError, DigestMismatch, UnsafeArtifact

MANIFEST = "manifest.json"
REQUIRED = ("model.onnx", "use_case.py", "feature_spec.json")
_NOT_SERVED = ("reference.parquet", "profile.json")
_HANDLER = "serving.torchserve.handler"
_DESCRIPTION = "MAR-INF/MANIFEST.json"
_BESIDE = ("MAR-INF", "plots")  # TorchServe's own; and what people look at, which is not packed
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest moment a zip entry can bear: the same version packs to the same bytes


def archive_name(use_case: str, version: str) -> str:
    """The archive's file name in the store.

    Example:
        >>> archive_name("taxi_tip", "7")
        'taxi_tip-7.mar'
    """
    return f"{use_case}-{version}.mar"


def packed_versions(store: Path, use_case: str) -> set[str]:
    """The versions whose archive is in the store; none if there is no store yet."""
    found = {path.stem.removeprefix(f"{use_case}-") for path in store.glob(f"{use_case}-*.mar")}
    return {version for version in found if version.isdecimal()}


def pack(folder: Path, store: Path, *, use_case: str, version: str) -> Path:
    """Verify a version's folder and write its archive into the store, at once or not at all.

    Returns:
        The archive.

    Raises:
        DeploymentError: if a file is missing.
        DigestMismatch: if a file is not the one that was registered.
        UnsafeArtifact: if there are others, or links.
    """
    digests = verify(folder)
    served = [name for name in sorted(digests) if name not in _NOT_SERVED]
    target = store / archive_name(use_case, version)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    # https://github.com/pytorch/serve/blob/v0.12.0/model-archiver/README.md: the manifest of a model archive
    description = {
        "runtime": "python",
        "model": {"modelName": use_case, "modelVersion": version, "handler": _HANDLER},
        "archiverVersion": "0.12.0",
        "createdOn": "01/01/1980 00:00:00",
    }
    store.mkdir(parents=True, exist_ok=True, mode=0o700)
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_DESCRIPTION, _EPOCH), json.dumps(description))
        for name in [MANIFEST, *served]:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), (folder / name).read_bytes())
    fresh.replace(target)
    return target


def verify(folder: Path) -> Mapping[str, str]:
    """Compare every file of a version with the digest in its manifest.

    Files that only training and monitoring need may be absent.

    Returns:
        File name -> SHA-256.

    Raises:
        DeploymentError: if the manifest or a file is missing.
        DigestMismatch: naming the first file that differs.
        UnsafeArtifact: naming the first that the manifest does not list, or that is a link.
    """
    try:
        digests: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())
        for name in REQUIRED:
            if name not in digests:
                raise DeploymentError(f"{folder / MANIFEST} does not list {name}. Register the version again.")
        for name in digests:
            if Path(name).name != name:
                raise DeploymentError(f"{folder / MANIFEST} lists {name!r}, no plain file name. Register anew.")
        _require_nothing_else(folder, digests)
        for name, expected in digests.items():
            if name in _NOT_SERVED and not (folder / name).exists():
                continue
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if found != expected:
                raise DigestMismatch(str(folder / name), expected, found)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DeploymentError(f"The version in {folder} is incomplete ({error}). Register it again.") from error
    return digests


def _require_nothing_else(folder: Path, digests: Mapping[str, str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            raise UnsafeArtifact(str(folder), f"holds {path.name}, which is a link")
        if path.name not in {MANIFEST, *_BESIDE, *digests}:
            raise UnsafeArtifact(str(folder), f"holds {path.name}, which its manifest does not list")


def require_packed(archive: Path) -> str:
    """Return if an archive holds what `pack` puts there and nothing else.

    Returns:
        SHA-256 of the manifest, which is the version's digest.

    Raises:
        UnsafeArtifact: if there is more, something twice, or another handler.
        DeploymentError: if it cannot be read.
    """
    with _opened(archive) as packed:
        names, manifest = packed.namelist(), packed.read(MANIFEST)
        served = [name for name in json.loads(manifest) if name not in _NOT_SERVED]
        if len(set(names)) < len(names):
            raise UnsafeArtifact(archive.name, "holds a file twice")
        for name in sorted(set(names) - {_DESCRIPTION, MANIFEST, *served}):
            raise UnsafeArtifact(archive.name, f"holds {name}, which its manifest does not list")
        handler = json.loads(packed.read(_DESCRIPTION))["model"]["handler"]
        if handler != _HANDLER:
            raise UnsafeArtifact(archive.name, f"names the handler {handler}")
    return hashlib.sha256(manifest).hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Put a packed version's files into a folder, and verify them.

    Raises:
        DeploymentError: if the archive cannot be read, or a file is missing.
        DigestMismatch: if a file is not the one that was registered.
    """
    require_packed(archive)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _opened(archive) as packed:
        for name in packed.namelist():
            if Path(name).name == name:  # all others are TorchServe's
                (folder / name).write_bytes(packed.read(name))
    verify(folder)


def read_smoke(archive: Path) -> dict[str, Any]:
    """The recorded requests of a packed version: ``{"instances": […], "at": […]}``.

    Raises:
        DeploymentError: if there are none.
    """
    with _opened(archive) as packed:
        smoke: dict[str, Any] = json.loads(packed.read("smoke.json"))
    if not isinstance(smoke, dict) or not smoke.get("instances"):
        raise DeploymentError(f"{archive} carries no recorded requests. Register a version with smoke.json.")
    return smoke


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as packed:
            yield packed
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DeploymentError(f"The archive {archive} cannot be read ({error}). Deploy the version again.") from error
