"""Knowing an archive again: what was packed, kept where TorchServe does not load from."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from core.errors import DeploymentError, DigestMismatch
from serving.torchserve.packer import MANIFEST


class ArchiveSeals:
    """The digests of the archives in the store, each in a file of its own that only its user may read.

    An archive carries its own manifest, so that whoever changes both goes unseen by comparing them. The seal stands
    outside the store: it is made from the archive that was just packed from the registry's verified files.

    Args:
        folder: where seals are kept; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seal(self, archive: Path) -> None:
        """Remember an archive that was just packed.

        Raises:
            DeploymentError: if it cannot be read, or the seal cannot be written.
        """
        try:
            with zipfile.ZipFile(archive) as packed:
                manifest = hashlib.sha256(packed.read(MANIFEST)).hexdigest()
            sealed = {"archive": _sha256_of(archive), "manifest": manifest}
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._path(archive).with_name(f".{archive.name}.{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(sealed))
            fresh.replace(self._path(archive))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DeploymentError(f"The archive {archive} cannot be sealed ({error}). Deploy it again.") from error

    def check(self, archive: Path) -> str:
        """Return if an archive is the one that was sealed.

        Returns:
            SHA-256 of its manifest, which is the version's digest.

        Raises:
            DigestMismatch: if it was changed since.
            DeploymentError: if it was never sealed, or cannot be read.
        """
        sealed = self._read(archive)
        if sealed is None:
            raise DeploymentError(f"The archive {archive} was packed by nobody known. Deploy the version again.")
        try:
            found = _sha256_of(archive)
        except OSError as error:
            raise DeploymentError(f"The archive {archive} cannot be read ({error}). Deploy it again.") from error
        _compare(archive, sealed["archive"], found)
        return sealed["manifest"]

    def check_unpacked(self, folder: Path) -> None:
        """Return if an unpacked archive's manifest is one that was sealed; where nothing is sealed, any is.

        Its name and version are not asked: they stand in the same folder, and could have been changed with the rest.

        Raises:
            DigestMismatch: if none of the seals is of this manifest.
            DeploymentError: if it, or a seal, cannot be read.
        """
        sealed = [self._read(path.with_suffix("")) for path in sorted(self._folder.glob("*.mar.json"))]
        manifests = [seal["manifest"] for seal in sealed if seal is not None]
        try:
            found = _sha256_of(folder / MANIFEST)
        except OSError as error:
            raise DeploymentError(f"The version in {folder} is incomplete ({error}). Deploy it again.") from error
        if manifests and found not in manifests:
            raise DigestMismatch(str(folder / MANIFEST), " or ".join(digest[:12] for digest in manifests), found)

    def forget(self, archive: Path) -> None:
        """Let go of a seal; nothing happens if there is none."""
        self._path(archive).unlink(missing_ok=True)

    def _path(self, archive: Path) -> Path:
        return self._folder / f"{archive.name}.json"

    def _read(self, archive: Path) -> Mapping[str, str] | None:
        path = self._path(archive)
        try:
            sealed: dict[str, str] = json.loads(path.read_bytes())
            return {"archive": str(sealed["archive"]), "manifest": str(sealed["manifest"])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeploymentError(f"The seal {path} cannot be read ({error}). Deploy the version again.") from error


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(what: Path, expected: str, found: str) -> None:
    if found != expected:
        raise DigestMismatch(str(what), expected, found)
