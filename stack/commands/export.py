"""``export``: a version for servers that Evergreen does not run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from core.errors import DeploymentError
from stack.commands.console import (
    JsonOption,
    UseCaseArgument,
    declared_use_case,
    err,
    out,
    say_json,
    settings_of_command,
)

_CHAMPION = "champion"
_SPEC = "feature_spec.json"


def export(
    use_case: UseCaseArgument,
    version: Annotated[str, typer.Argument(help="Version of its model in MLflow; the champion if left out.")] = "",
    triton: Annotated[
        Path, typer.Option("--triton", help="Folder to write a Triton model repository into.", file_okay=False)
    ] = ...,  # type: ignore[assignment]  # typer's way to say that there is no default
    json: JsonOption = False,
) -> None:
    """Write a version as a Triton model repository: its ONNX graph, digests verified, and a config.pbtxt.

    The graph takes the features as a matrix, its columns in the order of feature_spec.json, which is written beside it.
    """
    from registry.mlflow_registry import MlflowRegistry
    from serving.open_inference.layouts import MODEL, TRITON
    from serving.open_inference.repository import ModelRepository

    settings = settings_of_command()
    declared_use_case(settings, use_case)
    with err().status(f"exporting {use_case}"), tempfile.TemporaryDirectory(prefix="evergreen-export-") as workplace:
        registry = MlflowRegistry(settings.mlflow_url)
        chosen = version or registry.alias(use_case, _CHAMPION)
        if chosen is None:
            raise DeploymentError(
                f"{use_case} has no champion yet. Name a version, or train one: evergreen retrain {use_case}"
            )
        folder = registry.fetch(use_case, chosen, Path(workplace) / chosen)
        ModelRepository(triton, TRITON).add(use_case, chosen, folder / MODEL)
        place = triton.absolute() / use_case / chosen / MODEL
        (place.parent / _SPEC).write_bytes((folder / _SPEC).read_bytes())
    if json:
        say_json({"use_case": use_case, "version": chosen, "model": str(place)})
    else:
        out().print(f"Version {chosen} of {use_case} is in {place.parent}.", markup=False)
