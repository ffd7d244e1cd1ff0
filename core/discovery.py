"""Finding the use cases in ``models/``."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import DuplicateUseCase, UnknownUseCase, UseCaseError
from core.policy_file import chosen_policy, policy_path
from core.use_case import UseCase


@dataclass(frozen=True)
class UseCaseFile:
    """A use case and the file that declares it.

    Args:
        use_case: the validated declaration.
        path: its file.
        digest: SHA-256 of the file, hexadecimal.
    """

    use_case: UseCase
    path: Path
    digest: str


def load_use_case(path: Path) -> UseCaseFile:
    """Load and validate one use-case file; it must bind exactly one UseCase at module level.

    A policy that was chosen for it counts in place of the declared one, see `core.policy_file`.

    Raises:
        UseCaseError: naming the file, what is wrong and what to do.
    """
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    module_name = f"evergreen_use_case_{path.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UseCaseError(str(path), "is not a Python file", "Name it NAME.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        # what runs is what was digested, not what was compiled of the file before; and nothing is written beside it
        exec(compile(source, path, "exec"), vars(module))
    except UseCaseError:
        raise
    except Exception as error:  # an entry point for other people's code: whatever it raises is its fault
        raise UseCaseError(str(path), f"cannot be loaded ({type(error).__name__}: {error})", "Fix the file.") from error
    found = [value for value in vars(module).values() if isinstance(value, UseCase)]
    if len(found) != 1:
        raise UseCaseError(
            str(path), f"declares {len(found)} use cases", "A file declares exactly one UseCase at its top level."
        )
    try:
        found[0].validate()
    except UseCaseError as error:
        error.args = (f"{path}: {error}",)
        raise
    use_case = replace(found[0], policy=chosen_policy(path, found[0].policy))
    try:
        use_case.validate_policy()
    except UseCaseError as error:
        error.args = (f"{policy_path(path)}: {error}",)
        raise
    return UseCaseFile(use_case, path, digest)


def discover(models_dir: Path) -> dict[str, UseCaseFile]:
    """Load every use case of a folder: each ``*.py`` not starting with an underscore.

    Returns:
        Use cases by name, sorted.

    Raises:
        UseCaseError: for the first file that cannot be used, or two that share a name.
    """
    if not models_dir.is_dir():
        raise UseCaseError(str(models_dir), "is not a folder", "Set EVERGREEN_MODELS_DIR to the folder of use cases.")
    found: dict[str, UseCaseFile] = {}
    for path in sorted(models_dir.glob("*.py")):
        if path.name.startswith("_"):
            continue
        loaded = load_use_case(path)
        name = loaded.use_case.name
        if name in found:
            raise DuplicateUseCase(name, str(found[name].path), str(path))
        found[name] = loaded
    _check_shared_sources(found)
    return dict(sorted(found.items()))


def select(use_cases: dict[str, UseCaseFile], name: str) -> UseCaseFile:
    """The use case of that name.

    Raises:
        UnknownUseCase: naming those there are.
    """
    if name not in use_cases:
        raise UnknownUseCase(name, list(use_cases))
    return use_cases[name]


def _check_shared_sources(found: dict[str, UseCaseFile]) -> None:
    owners: dict[str, UseCaseFile] = {}
    for loaded in found.values():
        for source in loaded.use_case.sources:
            first = owners.setdefault(source.name, loaded)
            if first.use_case.source(source.name).fields != source.fields:
                raise UseCaseError(
                    str(loaded.path),
                    f"declares the event source {source.name!r} with other fields than {first.path}",
                    "Declare the same fields in both, or rename one source.",
                )
