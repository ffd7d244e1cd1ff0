"""The packed versions of a store, each ready to score with its own feature code and a model that runs elsewhere."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from core.errors import DeploymentError
from core.settings import Settings
from serving.open_inference.server import InferenceServer
from serving.scoring import Scoring
from serving.torchserve.packer import archive_name, unpack
from serving.torchserve.seals import ArchiveSeals

Stamp = tuple[int, int, int]


class NotInStore(DeploymentError):
    """A version is asked that was never packed, or is let go already."""

    def __init__(self, use_case: str, version: str, archive: Path, problem: str) -> None:
        super().__init__(f"{use_case} {version}: there is no {archive} ({problem}). Deploy the version again.")


def store(settings: Settings) -> Path:
    """The folder that the deployer packs versions into and the gateways read them from."""
    return settings.home.absolute() / "open_inference" / "store"


@dataclass(frozen=True)
class _Loaded:
    scoring: Scoring
    folder: Path
    stamp: Stamp
    turn: AbstractContextManager[Any]


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
        self._seals = ArchiveSeals(self._store.with_name("seals"))
        self._loaded: dict[tuple[str, str], _Loaded] = {}
        self._lock = threading.Lock()

    def answer(self, use_case: str, version: str, body: object) -> dict[str, Any]:
        """Answer one call with a version, in the format of ``serving.torchserve.wire``.

        Raises:
            NotInStore: if it is not in the store.
            DeploymentError: if it cannot be used, or the server refuses to run it.
            RequestError: if the call is malformed.
            Unavailable: if something needed is away.
        """
        loaded = self.load(use_case, version)
        with loaded.turn:
            answer: dict[str, Any] = orjson.loads(loaded.scoring.answer(body))
        return answer

    def load(self, use_case: str, version: str) -> _Loaded:
        """See that a version is unpacked and can be used.

        Raises:
            NotInStore: if it is not in the store.
            DeploymentError: if it cannot be used.
        """
        archive = self._store / archive_name(use_case, version)
        stamp = _stamp(archive, use_case, version)
        loaded = self._loaded.get((use_case, version))
        if loaded is not None and loaded.stamp == stamp:
            return loaded
        with self._lock:
            self._drop_removed()
            loaded = self._loaded.get((use_case, version))
            if loaded is None or loaded.stamp != stamp:
                loaded = self._loaded[use_case, version] = self._load(use_case, version, archive, stamp)
            return loaded

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
            self._seals.check_unpacked(folder)
            run = partial(self._server.score, use_case, version)
            # a reader of a cluster compares what it sees with what it saw last: one call after the other
            turn = threading.Lock() if self._settings.redis.cluster else nullcontext()
            return _Loaded(Scoring(folder, version, run, self._settings), folder, stamp, turn)
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
        raise NotInStore(use_case, version, archive, error.strerror or str(error)) from error
    return (found.st_ino, found.st_mtime_ns, found.st_size)
