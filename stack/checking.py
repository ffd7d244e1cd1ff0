"""Judging the files in ``models/`` before anything is started with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.discovery import UseCaseFile, discover, load_use_case
from core.errors import EvergreenError, UnknownUseCase
from stack.preflight import require_use_cases

_ROWS, _VALUES = 400, 8


@dataclass(frozen=True)
class Verdict:
    """What became of one file.

    Args:
        use_case: its use case's name, or the file's if it could not be loaded.
        path: the file.
        ok: whether it can be used.
        detail: what it declares, or why it is refused.
    """

    use_case: str
    path: str
    ok: bool
    detail: str


def check_use_cases(models_dir: Path, name: str | None = None, *, quick: bool = False) -> list[Verdict]:
    """Load every file, or the one that declares `name`, try its estimator, and see whether all go together.

    Args:
        models_dir: the folder of use-case files.
        name: a use case, or the name of a file; None for all.
        quick: leave out the estimator, which takes seconds to fit and to convert.

    Raises:
        StackError: if there is no file.
        UnknownUseCase: if no file declares that name.
    """
    require_use_cases(models_dir)
    paths = [path for path in sorted(models_dir.glob("*.py")) if path.name[0] != "_"]
    verdicts = [_load(path) for path in paths]
    if name is not None:
        chosen = [verdict for verdict in verdicts if name in (verdict.use_case, Path(verdict.path).stem)]
        if not chosen:
            raise UnknownUseCase(name, [verdict.use_case for verdict in verdicts])
        verdicts = chosen
    if not quick:
        verdicts = [_try_estimator(verdict) if verdict.ok else verdict for verdict in verdicts]
    if all(verdict.ok for verdict in verdicts):
        try:
            discover(models_dir)
        except EvergreenError as error:
            verdicts.append(Verdict("together", str(models_dir), False, str(error)))
    return verdicts


def _load(path: Path) -> Verdict:
    try:
        loaded = load_use_case(path)
        return Verdict(loaded.use_case.name, str(path), True, _describe(loaded))
    except EvergreenError as error:
        return Verdict(path.stem, str(path), False, str(error))


def _try_estimator(verdict: Verdict) -> Verdict:
    """Fit on made-up rows, convert to ONNX and compare: an estimator that cannot serve is found before a retrain."""
    from registry.export import check_parity, to_onnx

    use_case = load_use_case(Path(verdict.path)).use_case
    columns = use_case.features.columns
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, _VALUES, (_ROWS, len(columns))).astype(np.float32)
    labels = np.arange(_ROWS, dtype=np.int64) % 2
    try:
        estimator = use_case.estimator(columns)
        estimator.fit(matrix, labels)
        check_parity(estimator, to_onnx(estimator, columns, use_case.name), matrix, use_case=use_case.name)
    except EvergreenError as error:
        return replace(verdict, ok=False, detail=str(error))
    except Exception as error:  # the estimator is the user's: whatever it raises is a fault of the file
        fault = f"{verdict.path}: the estimator fails on made-up rows ({type(error).__name__}: {error}). Correct it."
        return replace(verdict, ok=False, detail=fault)
    return replace(verdict, detail=f"{verdict.detail}; {type(estimator).__name__} agrees with its ONNX graph")


def _describe(loaded: UseCaseFile) -> str:
    use_case = loaded.use_case
    sources = ", ".join(source.name for source in use_case.sources) or "no events"
    entities = ", ".join(entity.name for entity in use_case.entities)
    return f"{len(use_case.features.columns)} features of {entities} from {sources}; label {use_case.label.name}"
