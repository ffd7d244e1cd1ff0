"""The packed versions of a store, each ready to score with its own feature code and a model that runs elsewhere."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.errors import DeploymentError
from core.settings import Settings
from serving.open_inference.server import InferenceServer
from serving.scoring import Scoring
from serving.torchserve.packer import archive_name, unpack

Stamp = tuple[int, int, int]


def store(settings: Settings) -> Path:
    """The folder that the deployer packs versions into and the gateways read them from."""
    return settings.home.absolute() / "open_inference" / "store"


@dataclass(frozen=True)
class _Loaded:
    scoring: Scoring
    folder: Path
    stamp: Stamp


class Scorings:
    """Scores with the versions in a store. May be used from several threads.

    A version is unpacked and its digests are verified when it is first asked for, and again when its archive changed.

    Args:
        settings: where Redis is, and the store.
        server: runs the models.
    """

    def __init__(self, settings: Settings, server: InferenceServer) -> None:
        self._settings = settings
        self._server = server
        self._store = store(settings)
        self._loaded: dict[tuple[str, str], _Loaded] = {}
        self._lock = threading.Lock()

    def get(self, use_case: str, version: str) -> Scoring:
        """What scores with a version.

        Raises:
            DeploymentError: if it is not in the store, or cannot be used.
        """
        archive = self._store / archive_name(use_case, version)
        stamp = _stamp(archive, use_case, version)
        loaded = self._loaded.get((use_case, version))
        if loaded is not None and loaded.stamp == stamp:
            return loaded.scoring
        with self._lock:
            self._drop_removed()
            loaded = self._loaded.get((use_case, version))
            if loaded is None or loaded.stamp != stamp:
                loaded = self._loaded[use_case, version] = self._load(use_case, version, archive, stamp)
            return loaded.scoring

    def has(self, use_case: str, version: str) -> bool:
        """Whether a version is in the store."""
        return (self._store / archive_name(use_case, version)).exists()

    def close(self) -> None:
        """Let go of all versions."""
        with self._lock:
            while self._loaded:
                self._drop(*next(iter(self._loaded)))

    def _load(self, use_case: str, version: str, archive: Path, stamp: Stamp) -> _Loaded:
        folder = Path(tempfile.mkdtemp(prefix=f"evergreen-{use_case}-{version}-"))
        try:
            unpack(archive, folder)
            run = partial(self._server.score, use_case, version)
            return _Loaded(Scoring(folder, version, run, self._settings), folder, stamp)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _drop_removed(self) -> None:
        for use_case, version in list(self._loaded):
            if not self.has(use_case, version):
                self._drop(use_case, version)

    def _drop(self, use_case: str, version: str) -> None:
        loaded = self._loaded.pop((use_case, version))
        loaded.scoring.close()
        shutil.rmtree(loaded.folder, ignore_errors=True)


def _stamp(archive: Path, use_case: str, version: str) -> Stamp:
    try:
        found = archive.stat()
    except OSError as error:
        raise DeploymentError(
            f"{use_case} {version}: there is no {archive} ({error.strerror or error}). Deploy the version again."
        ) from error
    return (found.st_ino, found.st_mtime_ns, found.st_size)
