"""A folder of models that a server of the Open Inference Protocol loads from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError

from core.errors import DeploymentError
from serving.open_inference.layouts import MODEL, Layout

_MARK: Final = ".evergreen"  # in the folders of models that are ours: all others are left alone


class ModelRepository:
    """Writes versions into a model repository, as ``<model>/<version>/model.onnx`` and what the server wants beside it.

    Only one process may write to it. A version appears at once or not at all.

    Args:
        root: the repository's folder; may hold other models.
        layout: what the server wants.
    """

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root = root
        self._layout = layout

    def add(self, model: str, version: str, graph: Path) -> None:
        """Put a version in; again, to the same effect, if it is there already.

        Args:
            model: the model's name.
            version: a whole number, as these servers take no other.
            graph: its ONNX file, verified.

        Raises:
            DeploymentError: if the graph, the version or what is in its place does not allow it.
        """
        if not version.isdecimal():
            raise DeploymentError(f"{model} {version}: a model repository takes whole numbers as versions only.")
        _width(graph)
        try:
            self._own(model)
            self._install(model, version, graph)
            self._describe(model)
        except OSError as error:
            raise DeploymentError(
                f"The model repository {self._root} cannot be written ({error}). "
                "Make it writable, or choose another folder."
            ) from error

    def remove(self, model: str, version: str) -> None:
        """Take a version out, and with the last one the model; nothing if it is not there."""
        folder = self._root / model / version
        if version not in self.versions().get(model, set()):
            return
        gone = self._root / f".gone-{model}-{version}"
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
        if self.versions().get(model):
            self._describe(model)
        else:
            shutil.rmtree(self._root / model)

    def versions(self) -> dict[str, set[str]]:
        """What was added and not removed, by model."""
        found = {
            mark.parent.name: {graph.parent.name for graph in mark.parent.glob(f"*/{MODEL}")}
            for mark in self._root.glob(f"*/{_MARK}")
        }
        return {model: versions for model, versions in found.items() if versions}

    def digest(self, model: str, version: str) -> str | None:
        """SHA-256 of a version's graph; None if it is not there."""
        graph = self._root / model / version / MODEL
        return hashlib.sha256(graph.read_bytes()).hexdigest() if graph.is_file() else None

    def _own(self, model: str) -> None:
        folder = self._root / model
        if not (folder / _MARK).exists() and folder.exists() and any(folder.iterdir()):
            raise DeploymentError(
                f"{folder} holds a model that Evergreen did not put there. Move it away, or choose another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()

    def _install(self, model: str, version: str, graph: Path) -> None:
        for leftover in (*self._root.glob(".new-*"), *self._root.glob(".gone-*")):  # of a process that was killed
            shutil.rmtree(leftover)
        fresh = self._root / f".new-{model}-{version}"
        fresh.mkdir()
        shutil.copyfile(graph, fresh / MODEL)
        for name, content in self._layout.version_files(model, version).items():
            (fresh / name).write_bytes(content)
        place = self._root / model / version
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)

    def _describe(self, model: str) -> None:
        folder = self._root / model
        widths = {version: _width(folder / version / MODEL) for version in self.versions()[model]}
        for name, content in self._layout.model_files(model, widths).items():
            fresh = folder / f".{name}.new"
            fresh.write_bytes(content)
            fresh.replace(folder / name)


def _width(graph: Path) -> int:
    """Number of features that a graph takes.

    Raises:
        DeploymentError: if it does not take X, float32 (n, features), and give scores, float32 (n,).
    """
    try:
        found = onnx.load(str(graph)).graph
        inputs, outputs = _shapes(found.input), _shapes(found.output)
        if len(inputs) == 1 and len(outputs["scores"]) == 1:
            _, width = inputs["X"]
            return int(width)
    except (OSError, KeyError, ValueError, DecodeError) as error:
        raise DeploymentError(
            f"{graph.name} cannot be served ({type(error).__name__}: {error}). Export it again."
        ) from error
    raise DeploymentError(
        f"{graph.name} takes {inputs} and gives {outputs}; it must take X of shape (n, features) and give scores of "
        "shape (n,). Export it again."
    )


def _shapes(values: Any) -> Mapping[str, list[int]]:
    return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
