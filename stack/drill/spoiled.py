"""Rehearsals that offer a bad version, made of the live one, as a canary that would get nothing of the traffic."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import DigestMismatch
from core.ledger import Entry
from registry.digests import MANIFEST, sha256_of
from serving.deployment import SmokeFailed
from serving.wanted import CANARY, PERCENT_TAGS
from stack.drill.rehearsal import Rehearsal
from stack.drill.scene import Scene
from stack.drill.verdicts import Expectation

_TAG = PERCENT_TAGS[CANARY]
_ENTRIES = 50
_MODEL = "model.onnx"


class BadVersion(Rehearsal):
    """A version is registered that must be refused before it serves. It is deleted from MLflow afterwards.

    Attributes:
        refused_as: the error that the ledger must name.
    """

    refused_as = ""
    _version = ""
    _last_entry = 0

    def obstacle(self, scene: Scene) -> str | None:
        """Nothing is registered in an MLflow that runs elsewhere."""
        return "MLflow runs elsewhere, so no version is registered there" if scene.stack.settings.mlflow.url else None

    def prepare(self, scene: Scene) -> None:
        """Make it of the live version, and register it."""
        with tempfile.TemporaryDirectory(prefix="evergreen-drill-") as workplace:
            folder = scene.registry.fetch(scene.use_case, scene.live, Path(workplace) / "version")
            info = scene.registry.info(scene.use_case, scene.live)
            digest = self._spoil(folder)
            told = replace(
                info, digest=digest, reason=f"drill: {self.name}", description=f"Made by a drill: {self.did}."
            )
            self._version = scene.registry.register(scene.use_case, folder, told)
        scene.remember(scene.memo.having(made=(*scene.memo.made, self._version)))

    def act(self, scene: Scene) -> None:
        """Name it as canary. Should it not be refused, it still gets no call of a client."""
        newest = scene.ledger.entries(scene.use_case, limit=1)
        self._last_entry = newest[0].id if newest else 0
        scene.registry.set_alias(scene.use_case, CANARY, self._version, {_TAG: "0"})

    def is_over(self, scene: Scene) -> bool:
        """Whether it was refused, or was not."""
        return bool(self._refusals(scene)) or self._is_served(scene)

    def faults(self, scene: Scene) -> Iterator[str]:
        """It must not have been served, and refused for nothing but what is wrong with it."""
        if self._is_served(scene):
            yield f"the bad version {self._version} was not refused: it became canary"
        kinds = {entry.evidence.get("error") for entry in self._refusals(scene)}
        if kinds - {self.refused_as}:
            yield f"it was refused as {', '.join(sorted(map(str, kinds)))}, not as {self.refused_as}"

    def facts(self, scene: Scene) -> Mapping[str, Any]:
        """Which version, and why it was refused."""
        found = self._refusals(scene)
        return {"version": self._version, "refused": found[0].reason if found else None}

    def restore(self, scene: Scene) -> None:
        """Take the alias and the tag away, and delete the version."""
        if not self._version:
            return
        if scene.registry.alias(scene.use_case, CANARY) == self._version:
            scene.registry.set_alias(scene.use_case, CANARY, None)
        scene.api.set_tag(scene.use_case, _TAG, scene.memo.tags.get(_TAG))
        scene.api.delete_version(scene.use_case, self._version)

    @abstractmethod
    def _spoil(self, folder: Path) -> str:
        """Spoil the files of a version, and return the digest of its manifest, which is another than before."""

    def _refusals(self, scene: Scene) -> list[Entry]:
        found = scene.ledger.entries(scene.use_case, version=self._version, actions=("refuse",), limit=_ENTRIES)
        return [entry for entry in found if entry.id > self._last_entry]

    def _is_served(self, scene: Scene) -> bool:
        route = scene.routes.routes().get(scene.use_case)
        return route is not None and self._version in route.versions


class BadArtifact(BadVersion):
    """A file is not the one that was registered."""

    name = "bad-artifact"
    did = "a version with one flipped bit in its model was offered"
    refused_as = DigestMismatch.__name__
    expected = Expectation(within_s=30)

    def _spoil(self, folder: Path) -> str:
        digest = renewed(folder)
        model = bytearray((folder / _MODEL).read_bytes())
        model[len(model) // 2] ^= 1
        (folder / _MODEL).write_bytes(model)
        return digest


class BadAnswers(BadVersion):
    """It loads, and answers what is no probability."""

    name = "bad-answers"
    did = "a version whose scores are no probabilities was offered"
    refused_as = SmokeFailed.__name__
    expected = Expectation(within_s=120)

    def _spoil(self, folder: Path) -> str:
        (folder / _MODEL).write_bytes(shifted((folder / _MODEL).read_bytes()))
        return renewed(folder)


def shifted(model: bytes) -> bytes:
    """A graph that scores 2 more than another one."""
    import onnx
    from onnx import TensorProto, helper

    loaded = onnx.load_from_string(model)
    for node in loaded.graph.node:
        node.output[:] = ["drill_scores" if name == "scores" else name for name in node.output]
        node.input[:] = ["drill_scores" if name == "scores" else name for name in node.input]
    loaded.graph.initializer.append(helper.make_tensor("drill_two", TensorProto.FLOAT, [], [2.0]))
    loaded.graph.node.append(helper.make_node("Add", ["drill_scores", "drill_two"], ["scores"]))
    changed: bytes = loaded.SerializeToString(deterministic=True)
    return changed


def renewed(folder: Path) -> str:
    """Write the manifest anew, with a file more, and return its digest."""
    shutil.rmtree(folder / "plots", ignore_errors=True)
    (folder / f"drill-{secrets.token_hex(8)}.json").write_text('{"made_by": "a drill"}')
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    (folder / MANIFEST).write_text(json.dumps({name: sha256_of(folder / name) for name in names}))
    return sha256_of(folder / MANIFEST)
