"""Registered versions: what is known of one, and where they are kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from core.errors import DeploymentError
from registry.digests import install

FORCE_TAG = "evergreen.force"
"""The tag of a version that says why it may become champion without a passed gate."""


@dataclass(frozen=True, kw_only=True)
class VersionInfo:
    """What is known of a version besides its files.

    Args:
        digest: SHA-256 of its manifest, which lists the SHA-256 of every file.
        as_of: event time of its training set, aware, UTC.
        reason: why it was trained.
        fingerprint: of its training set.
        log_loss: on its holdout, in nats.
        git_commit: of the use case's repository, or ``unknown``.
        params: how it was trained, as text.
        metrics: how it did.
        description: its model card, in Markdown.
        forced: why it may become champion without a passed gate, by its tag ``evergreen.force``; empty without one.
    """

    digest: str
    as_of: datetime
    reason: str
    fingerprint: str
    log_loss: float
    git_commit: str = "unknown"
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    description: str = ""
    forced: str = ""

    def with_description(self, description: str) -> VersionInfo:
        """The same with a model card."""
        return replace(self, description=description)


@dataclass(frozen=True)
class Desired:
    """What people, the gate and the command line want of a use case.

    Args:
        aliases: alias -> version, e.g. ``champion`` -> ``7``.
        tags: tags of the registered model, e.g. ``evergreen.canary_percent`` -> ``10``.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class LookLog(Protocol):
    """Keeps what people may want to see of looks at versions.

    Obligations: a look that is logged again, at the same moment, is kept once; it changes nothing of what `info` says.
    """

    def log_look(
        self, use_case: str, version: str, *, at: datetime, page: Path, distances: Mapping[str, float]
    ) -> None:
        """Keep a look's page, and how far each column had moved.

        Args:
            use_case: whose.
            version: the one that answered.
            at: the moment of the look, aware, UTC.
            page: an HTML file.
            distances: by column, on the scales of the page.

        Raises:
            DeploymentError: if there is no such version.
            DependencyDown: if the registry does not answer.
        """
        ...


class ModelRegistry(LookLog, Protocol):
    """Keeps versions, their aliases, and the tags that go with these.

    Obligations: a registered version never changes; versions of a use case are "1", "2", … in the order
    of registration; ``register`` and ``set_alias`` may be repeated with the same effect as once; reads see
    every write that has returned. Any call raises DependencyDown when the registry does not answer.
    """

    def register(self, use_case: str, folder: Path, info: VersionInfo) -> str:
        """Keep a version's folder; returns its number, the old one if this digest is registered already."""
        ...

    def fetch(self, use_case: str, version: str, into: Path) -> Path:
        """Put a version's verified files into a folder of its own, at once or not at all, and return the folder.

        Raises:
            DeploymentError: if there is no such version.
            DigestMismatch: if a file is not the one that was registered; `into` is then left as it was.
            UnsafeArtifact: if there are files besides those that were registered; likewise.
        """
        ...

    def alias(self, use_case: str, name: str) -> str | None:
        """The version an alias points to; None without such an alias, version or use case."""
        ...

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        """Point an alias to a version, or to none, having set tags of the registered model.

        Raises:
            DeploymentError: if there is no such version; nothing is changed then.
        """
        ...

    def info(self, use_case: str, version: str) -> VersionInfo:
        """What a version was registered with.

        Raises:
            DeploymentError: if there is no such version.
        """
        ...

    def desired(self) -> dict[str, Desired]:
        """What is wanted of each registered use case."""
        ...


def look_name(at: datetime) -> str:
    """What the page of a look at that moment is called."""
    return f"{at:%Y-%m-%dT%H%M%S}.html"


def unknown_version(use_case: str, version: str) -> DeploymentError:
    """The error for a version nobody registered."""
    return DeploymentError(
        f"{use_case} has no version {version!r}. Use one that the registry lists, or train one: "
        f"evergreen retrain {use_case}"
    )


class MemoryRegistry:
    """Versions on disk, everything else in memory: for tests.

    Args:
        root: folder for the versions' files.

    Example:
        >>> MemoryRegistry(Path("unused")).alias("taxi_tip", "champion") is None
        True
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._infos: dict[str, list[VersionInfo]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._looks: dict[tuple[str, str], dict[datetime, Mapping[str, float]]] = {}
        self._deleted: set[tuple[str, str]] = set()

    def register(self, use_case: str, folder: Path, info: VersionInfo) -> str:
        """See ModelRegistry."""
        infos = self._infos.setdefault(use_case, [])
        for number, known in enumerate(infos, start=1):
            if known.digest == info.digest:
                return str(number)
        version = str(len(infos) + 1)
        shutil.copytree(folder, self.folder(use_case, version))
        infos.append(info)
        return version

    def fetch(self, use_case: str, version: str, into: Path) -> Path:
        """See ModelRegistry."""
        digest, kept = self.info(use_case, version).digest, self.folder(use_case, version)

        def copy(fresh: Path) -> None:
            shutil.copytree(kept, fresh, symlinks=True, dirs_exist_ok=True)

        return install(into, digest, copy)

    def alias(self, use_case: str, name: str) -> str | None:
        """See ModelRegistry."""
        return self._aliases.get(use_case, {}).get(name)

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        """See ModelRegistry."""
        if version is not None:
            self.info(use_case, version)
        self._tags.setdefault(use_case, {}).update(tags or {})
        if version is None:
            self._aliases.get(use_case, {}).pop(name, None)
        else:
            self._aliases.setdefault(use_case, {})[name] = version

    def info(self, use_case: str, version: str) -> VersionInfo:
        """See ModelRegistry."""
        infos = self._infos.get(use_case, [])
        known = {str(number) for number in range(1, len(infos) + 1)}
        if version not in known or (use_case, version) in self._deleted:
            raise unknown_version(use_case, version)
        return infos[int(version) - 1]

    def desired(self) -> dict[str, Desired]:
        """See ModelRegistry."""
        return {
            use_case: Desired(dict(self._aliases.get(use_case, {})), dict(self._tags.get(use_case, {})))
            for use_case, infos in self._infos.items()
            if len([each for each in self._deleted if each[0] == use_case]) < len(infos)
        }

    def tag(self, use_case: str, version: str, **changes: str) -> None:
        """Do what a person may do in MLflow: change what is said of a version, e.g. its ``digest`` or ``forced``."""
        self._infos[use_case][int(version) - 1] = replace(self.info(use_case, version), **changes)  # type: ignore[arg-type]

    def delete(self, use_case: str, version: str) -> None:
        """Do what a person may do in MLflow: delete a version, and with the last one the model."""
        self.info(use_case, version)
        self._deleted.add((use_case, version))
        aliases = self._aliases.get(use_case, {})
        self._aliases[use_case] = {name: kept for name, kept in aliases.items() if kept != version}

    def log_look(
        self, use_case: str, version: str, *, at: datetime, page: Path, distances: Mapping[str, float]
    ) -> None:
        """See LookLog."""
        self.info(use_case, version)
        self.pages(use_case, version).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, self.pages(use_case, version) / look_name(at))
        self._looks.setdefault((use_case, version), {})[at] = dict(distances)

    def looks(self, use_case: str, version: str) -> dict[datetime, Mapping[str, float]]:
        """The distances that were logged, by moment."""
        return dict(self._looks.get((use_case, version), {}))

    def pages(self, use_case: str, version: str) -> Path:
        """Where the pages of looks are kept."""
        return self._root / "looks" / use_case / version

    def folder(self, use_case: str, version: str) -> Path:
        """Where a version's files are kept; tests may tamper with them."""
        return self._root / use_case / version
