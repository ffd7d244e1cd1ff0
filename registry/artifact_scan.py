"""Looking through a version's folder for what no version may hold, before anything of it is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core.errors import DeploymentError, UnsafeArtifact
from registry.digests import MANIFEST, UNLISTED, listed_files

_CODE = "use_case.py"
_GRAPH = "model.onnx"
_SUFFIXES = (".json", ".parquet")
_PARQUET = b"PAR1"
# The operators of the standard; https://onnx.ai/onnx/operators. Any other domain means a library of its own.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def scan_folder(folder: Path) -> list[str]:
    """Return what was looked at, or say what is wrong.

    A version holds its graph, its use case's file, and JSON and Parquet files; all of them plain files that stand in
    its manifest. The graph holds its weights itself and uses the standard's operators alone.

    Raises:
        UnsafeArtifact: naming what must not be there.
        DeploymentError: if the manifest or the graph cannot be read.
    """
    require_plain(folder)
    try:
        names = sorted(listed_files(folder))
    except (OSError, ValueError, AttributeError) as error:
        raise DeploymentError(f"The manifest in {folder} cannot be read ({error}). Retrain.") from error
    for name in names:
        _require_kind(folder / name)
    if (folder / _GRAPH).exists():
        scan_graph(folder / _GRAPH)
    return [f"{len(names)} files", "no code but the use case's", "no links", "no external data", "no custom operators"]


def require_plain(folder: Path) -> None:
    """Return if a folder holds plain files alone, all of them in its manifest.

    Raises:
        UnsafeArtifact: naming what is not.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UnsafeArtifact(str(folder), f"holds {name}, which is no plain file but a link or a device")
    require_listed((path.name for path in folder.iterdir()), listed_files(folder), str(folder))


def require_listed(found: Iterable[str], listed: Iterable[str], where: str) -> None:
    """Return if nothing is there that the manifest does not list.

    Raises:
        UnsafeArtifact: naming the first that is.
    """
    for name in sorted(set(found) - {MANIFEST, *UNLISTED, *listed}):
        raise UnsafeArtifact(where, f"holds {name}, which its manifest does not list")


def scan_graph(path: Path) -> None:
    """Return if an ONNX graph keeps to itself.

    Raises:
        UnsafeArtifact: if its weights are in other files, or it uses operators of a library of its own.
        DeploymentError: if it cannot be read.
    """
    import onnx  # takes a third of a second
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (OSError, ValueError, DecodeError) as error:
        raise DeploymentError(f"{path.name} is no ONNX graph ({error}). Export it again.") from error
    own = {function.domain for function in model.functions}
    graphs = [model.graph, *(training.algorithm for training in model.training_info)]
    for node, tensor in _parts([*graphs, *model.functions]):
        if node is not None and node.domain not in _DOMAINS | own:
            raise UnsafeArtifact(path.name, f"uses the operator {node.domain}.{node.op_type}, which is not ONNX's own")
        if tensor is not None and (tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL):
            places = {entry.value for entry in tensor.external_data if entry.key == "location"}
            raise UnsafeArtifact(path.name, f"reads {', '.join(sorted(places)) or 'another file'} for its weights")


def _parts(graphs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each node and each tensor of graphs and functions, those of nested graphs too."""
    for graph in graphs:
        tensors = list(getattr(graph, "initializer", ()))
        for sparse in getattr(graph, "sparse_initializer", ()):
            tensors += [sparse.values, sparse.indices]
        yield from ((None, tensor) for tensor in tensors)
        for node in graph.node:
            yield node, None
            for attribute in node.attribute:
                sparse_tensors = [attribute.sparse_tensor, *attribute.sparse_tensors]
                yield from ((None, tensor) for tensor in (attribute.t, *attribute.tensors))
                yield from ((None, t) for each in sparse_tensors for t in (each.values, each.indices))
                nested = [attribute.g] if attribute.HasField("g") else []
                yield from _parts([*nested, *attribute.graphs])


def _require_kind(path: Path) -> None:
    if path.name in (_CODE, _GRAPH) or not path.exists():
        return
    if path.suffix not in _SUFFIXES:
        raise UnsafeArtifact(str(path.parent), f"holds {path.name}; a version holds JSON and Parquet besides its graph")
    content = path.read_bytes()
    if not (content[:4] == content[-4:] == _PARQUET if path.suffix == ".parquet" else _is_json(content)):
        raise UnsafeArtifact(str(path.parent), f"holds {path.name}, which is not what its name says")


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
