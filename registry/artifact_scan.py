"""What a version's files may be: proof, without running any of them, that nothing else is smuggled in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import DeploymentError
from registry.digests import MANIFEST, sha256_of

MOST_BYTES = 512 * 1024 * 1024
"""Of all files of a version together; the graph alone may not exceed protobuf's own limit of 2 GiB anyway."""
REQUIRED = ("model.onnx", "use_case.py", "feature_spec.json")
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
_CODE = "use_case.py"  # the one file of code: the use case as it was trained, under its digest
_KINDS = (".json", ".parquet")
_PLOTS, _PICTURES = "plots", (".png", ".html")
_EXECUTABLE = 0o111
# Source: file(1), magic/Magdir/{elf,msdos,mach,python,archive,compress}; pickle protocols 2 to 5 begin with PROTO.
_MAGIC = (
    (b"\x7fELF", "an ELF program"), (b"MZ", "a Windows program"), (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"\xca\xfe\xba\xbe", "Java bytecode"), (b"#!", "a script"), (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"), (b"\x80\x02", "a pickle"), (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"), (b"\x80\x05", "a pickle"),
)  # fmt: skip


class ArtifactRefused(DeploymentError):
    """A version's files are not what a version may consist of.

    Args:
        where: the version, for people.
        findings: what is wrong, as clauses.
    """

    def __init__(self, where: str, findings: Iterable[str]) -> None:
        self.findings = tuple(findings)
        super().__init__(
            f"{where} is no version that may be served: {'; '.join(self.findings)}. "
            "Nothing of it was run. Retrain, and find out who wrote the files."
        )


@dataclass(frozen=True)
class Scan:
    """What was found in a version's folder.

    Args:
        files: name -> bytes, of those the manifest lists.
        operators: names of the graph's operators, those of subgraphs included.
        domains: operator sets of the graph, name -> version.
        findings: what is wrong, as clauses; empty if nothing is.
    """

    files: dict[str, int]
    operators: tuple[str, ...]
    domains: dict[str, int]
    findings: tuple[str, ...]

    @property
    def said(self) -> str:
        """The outcome in one clause."""
        if self.findings:
            return "; ".join(self.findings)
        size = sum(self.files.values()) / 1e6
        return f"{len(self.files)} files, {size:.1f} MB, {len(self.operators)} standard operators, nothing else"


def require_clean(folder: Path, where: str, *, most_bytes: int = MOST_BYTES) -> Scan:
    """Scan a version's folder and refuse it if anything is wrong.

    Raises:
        ArtifactRefused: with all that is wrong.
    """
    found = scan_folder(folder, most_bytes=most_bytes)
    if found.findings:
        raise ArtifactRefused(where, found.findings)
    return found


def scan_folder(folder: Path, *, most_bytes: int = MOST_BYTES) -> Scan:
    """Look at every file of a version without running or unpickling any.

    A version consists of plain files that its manifest lists with their digests: ``model.onnx``, ``use_case.py``, and
    data as JSON or Parquet. ``plots/`` may lie beside them, since it is never served. The graph may use the operators
    of the standard domains only, which are data to ONNX Runtime, and may not point to files outside itself.

    Args:
        folder: as written for the registry, fetched from it, or unpacked from an archive.
        most_bytes: of all files together.
    """
    listed, findings = _manifest(folder)
    findings += _strangers(folder, set(listed))
    files = {}
    for name, digest in sorted(listed.items()):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            findings.append(f"{name} is listed and is no plain file")
            continue
        files[name] = path.stat().st_size
        if sum(files.values()) > most_bytes:
            findings.append(f"its files are larger than {most_bytes / 1e6:.0f} MB together")
            return Scan(files, (), {}, tuple(findings))
        if sha256_of(path) != digest:
            findings.append(f"{name} has not the digest that the manifest lists")
        findings += _of_kind(path)
    operators: tuple[str, ...] = ()
    domains: dict[str, int] = {}
    if "model.onnx" in files:
        operators, domains, more = _graph(folder / "model.onnx")
        findings += more
    return Scan(files, operators, domains, tuple(findings))


def _manifest(folder: Path) -> tuple[dict[str, str], list[str]]:
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        return {}, [f"its manifest cannot be read ({error})"]
    if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
        return {}, ["its manifest is no list of digests by file name"]
    outside = sorted(name for name in listed if Path(name).name != name or name in ("", ".", ".."))
    findings = [f"its manifest lists {name!r}, which is no plain file name" for name in outside]
    findings += [f"its manifest does not list {name}" for name in REQUIRED if name not in listed]
    return {name: digest for name, digest in listed.items() if name not in outside}, findings


def _strangers(folder: Path, listed: set[str]) -> list[str]:
    """Whatever lies in the folder without being listed."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name == _PLOTS and path.is_dir() and not path.is_symlink():
            found += [
                f"{_PLOTS}/{each.name} is no picture and no page"
                for each in sorted(path.iterdir())
                if each.is_symlink() or not each.is_file() or each.suffix not in _PICTURES
            ]
        elif path.name != MANIFEST and path.name not in listed:
            found.append(f"{path.name} is not listed in its manifest")
    return found


def _of_kind(path: Path) -> list[str]:
    """Whether a file is of a kind that a version has, by its name and by what is in it."""
    with path.open("rb") as file:
        head = file.read(8)
    told = next((what for magic, what in _MAGIC if head.startswith(magic)), None)
    if told is not None:
        return [f"{path.name} is {told}"]
    if path.stat().st_mode & _EXECUTABLE:
        return [f"{path.name} is marked as executable"]
    if path.name in ("model.onnx", _CODE):
        return []
    if path.suffix not in _KINDS:
        return [f"{path.name} is of a kind no version has: {', '.join(_KINDS)}, model.onnx and {_CODE} are"]
    if path.suffix == ".parquet":
        return [] if head.startswith(b"PAR1") else [f"{path.name} is no Parquet file"]
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return [f"{path.name} is no JSON"]
    return []


def _graph(path: Path) -> tuple[tuple[str, ...], dict[str, int], list[str]]:
    """The graph's operators and operator sets, and what is wrong with it; nothing it refers to is opened."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError, RuntimeError) as error:
        return (), {}, [f"model.onnx is no ONNX graph ({type(error).__name__})"]
    domains = {each.domain or "ai.onnx": int(each.version) for each in model.opset_import}
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    nodes = [node for body in bodies for node in _nodes(body)]
    findings = [f"model.onnx uses the operators of {name!r}" for name in sorted(set(domains) - set(DOMAINS))]
    own = {(function.domain, function.name) for function in model.functions}
    findings += sorted({
        f"model.onnx uses {node.domain or 'ai.onnx'}.{node.op_type}, which is no operator of {', '.join(DOMAINS[1:])}"
        for node in nodes
        if (node.domain, node.op_type) not in own and not _is_standard(node)
    })  # fmt: skip
    findings += sorted({f"model.onnx keeps {each!r} in a file outside itself" for each in _external(model, nodes)})
    if not model.graph.node:
        findings.append("model.onnx computes nothing")
    return tuple(sorted({node.op_type for node in nodes})), domains, findings


def _is_standard(node: Any) -> bool:
    import onnx

    domain = "" if node.domain == "ai.onnx" else node.domain
    return domain in DOMAINS and bool(onnx.defs.has(node.op_type, domain))


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes, and those of the graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _external(model: Any, nodes: Iterable[Any]) -> Iterator[str]:
    """Names of tensors that are to be read from other files."""
    for tensor in _tensors(model.graph):
        if tensor.external_data or tensor.data_location != 0:
            yield tensor.name
    for node in nodes:
        for attribute in node.attribute:
            inner = [attribute.t, *attribute.tensors]
            for graph in (attribute.g, *attribute.graphs):
                inner += _tensors(graph)
            for tensor in inner:
                if tensor.external_data or tensor.data_location != 0:
                    yield tensor.name or f"a value of {node.op_type}"


def _tensors(graph: Any) -> list[Any]:
    sparse = [part for each in graph.sparse_initializer for part in (each.values, each.indices)]
    return [*graph.initializer, *sparse]
