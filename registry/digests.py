"""Proof that a version's files are those that were registered."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from core.errors import DeploymentError, DigestMismatch, UnsafeArtifact

MANIFEST = "manifest.json"
UNLISTED = ("MLmodel", "plots")
"""What may stand beside the listed files in a registry: for people and for MLflow, never fetched."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify_folder(folder: Path, *, digest: str | None = None) -> str:
    """Compare each file with the manifest, and the manifest with the registered digest.

    Args:
        folder: a version's.
        digest: SHA-256 of its manifest; None: the manifest is believed.

    Returns:
        The manifest's digest.

    Raises:
        DigestMismatch: naming the first file that differs.
        DeploymentError: if one is missing, or the manifest cannot be read.
    """
    try:
        found = sha256_of(folder / MANIFEST)
        if digest is not None and found != digest:
            raise DigestMismatch(str(folder / MANIFEST), digest, found)
        for name, expected in listed_files(folder).items():
            actual = sha256_of(folder / name)
            if actual != expected:
                raise DigestMismatch(str(folder / name), expected, actual)
    except (OSError, ValueError, AttributeError) as error:
        raise DeploymentError(
            f"The version in {folder} is incomplete ({error}). Fetch it again, or retrain."
        ) from error
    return found


def listed_files(folder: Path) -> dict[str, str]:
    """What the manifest lists: plain file name -> SHA-256.

    Raises:
        DeploymentError: if it lists something else than plain file names.
    """
    listed: dict[str, str] = json.loads((folder / MANIFEST).read_bytes())
    for name in listed:
        if Path(name).name != name:
            raise DeploymentError(f"{folder / MANIFEST} lists {name!r}, which is no plain file name. Retrain.")
    return listed


def install(into: Path, digest: str, download: Callable[[Path], object]) -> Path:
    """Put a version's verified files into a folder, at once or not at all.

    Args:
        into: the folder; replaced unless it holds exactly this version already.
        digest: the registered one.
        download: puts the manifest and what it lists into the empty folder it is given; `UNLISTED` is dropped.

    Returns:
        `into`.

    Raises:
        DigestMismatch: if a file is not the one that was registered; `into` is then left as it was.
        UnsafeArtifact: if there is more than that, or a link.
        DeploymentError: if one is missing.
    """
    if _holds(into, digest):
        return into
    fresh = into.with_name(f".{into.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        download(fresh)
        verify_folder(fresh, digest=digest)
        _drop_unlisted(fresh)
        shutil.rmtree(into, ignore_errors=True)
        fresh.replace(into)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return into


def _holds(folder: Path, digest: str) -> bool:
    try:
        return verify_folder(folder, digest=digest) == digest
    except DeploymentError:
        return False


def _drop_unlisted(folder: Path) -> None:
    listed = {MANIFEST, *listed_files(folder)}
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            raise UnsafeArtifact("The artifact", f"holds {path.name}, which is a link")
        if path.name in UNLISTED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.name not in listed:
            raise UnsafeArtifact("The artifact", f"holds {path.name}, which its manifest does not list")
