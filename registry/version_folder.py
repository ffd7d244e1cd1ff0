"""The folder a version consists of: written from a candidate, verified, and loaded.

::

    model.onnx          "X" float32 [n, d] -> "scores" float32 [n]
    use_case.py         the use-case file it was trained from
    feature_spec.json   its features
    reference.parquet   at most 5000 of its newest rows: features, score, label, at
    profile.json        how it did on them
    …                   further files, e.g. what monitoring wants to know of its rows
    smoke.json          recorded requests: {"instances": […], "at": […]}
    manifest.json       {file name: SHA-256}; its own SHA-256 is the version's digest
    plots/              for people; neither listed nor served
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.discovery import UseCaseFile, load_use_case
from core.use_case import Field, UseCase
from features.definitions import feature_set
from registry.candidate import Candidate, Holdout
from registry.digests import MANIFEST, sha256_of, verify_folder
from registry.lineage import git_commit
from registry.model_card import model_card
from registry.plots import draw_plots
from registry.scorer import OnnxScorer
from registry.versions import VersionInfo

REFERENCE_ROWS = 5000
_SMOKE_ROWS = 8


def write_version_folder(
    candidate: Candidate, folder: Path, *, reason: str, as_of: datetime, extras: Mapping[str, bytes] | None = None
) -> VersionInfo:
    """Write everything a version consists of; the same candidate gives the same digest.

    Args:
        candidate: trained and measured.
        folder: made if need be; should be empty.
        reason: why it was trained, for people.
        as_of: event time of the training set.
        extras: further files, by name.

    Returns:
        What to register it with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    use_case = candidate.use_case_file.use_case
    (folder / "model.onnx").write_bytes(candidate.onnx)
    shutil.copyfile(candidate.use_case_file.path, folder / "use_case.py")
    _write_json(folder / "feature_spec.json", feature_set(use_case).spec())
    _write_json(folder / "profile.json", candidate.profile)
    _write_json(folder / "smoke.json", _smoke(use_case, candidate.holdout))
    _write_reference(candidate, folder / "reference.parquet")
    for name, content in (extras or {}).items():
        (folder / name).write_bytes(content)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    _write_json(folder / MANIFEST, {name: sha256_of(folder / name) for name in names})
    draw_plots(candidate, folder / "plots")
    info = VersionInfo(
        digest=sha256_of(folder / MANIFEST),
        as_of=as_of,
        reason=reason,
        fingerprint=candidate.fingerprint,
        log_loss=candidate.profile["log_loss"],
        git_commit=git_commit(candidate.use_case_file.path.parent),
        params=candidate.params,
        metrics=_numbers(candidate),
    )
    return info.with_description(model_card(use_case, candidate.profile, info))


@dataclass(frozen=True)
class LoadedVersion:
    """A verified version, ready to score.

    Args:
        use_case_file: its own copy of the use case, which may differ from the one in ``models/``.
        scorer: its graph.
        profile: how it did on its holdout.
        spec: its features.
        digest: of its manifest.
    """

    use_case_file: UseCaseFile
    scorer: OnnxScorer
    profile: Mapping[str, Any]
    spec: Mapping[str, Any]
    digest: str


def load_version(folder: Path, *, digest: str | None = None) -> LoadedVersion:
    """Verify a version's folder, then load it; nothing of it runs before it is verified.

    Args:
        folder: as fetched from the registry.
        digest: the registered one; None: the folder's own manifest is believed.

    Raises:
        DigestMismatch: if a file is not the one that was registered.
        DeploymentError: if one is missing.
    """
    found = verify_folder(folder, digest=digest)
    return LoadedVersion(
        use_case_file=load_use_case(folder / "use_case.py"),
        scorer=OnnxScorer((folder / "model.onnx").read_bytes()),
        profile=json.loads((folder / "profile.json").read_bytes()),
        spec=json.loads((folder / "feature_spec.json").read_bytes()),
        digest=found,
    )


def _smoke(use_case: UseCase, holdout: Holdout) -> dict[str, Any]:
    rows = holdout.requests.tail(_SMOKE_ROWS)
    fields = use_case.request_fields
    instances = [{f.name: _plain(f, getattr(row, f.name)) for f in fields} for row in rows.itertuples(index=False)]
    return {"instances": instances, "at": [moment.isoformat() for moment in rows["at"]]}


def _plain(field: Field, value: Any) -> int | float | str | None:
    """A value of a frame as JSON knows it."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if field.dtype == "str":
        return str(value)
    return int(value) if field.dtype == "int" else float(value)


def _write_reference(candidate: Candidate, path: Path) -> None:
    newest = slice(-REFERENCE_ROWS, None)
    holdout = candidate.holdout
    columns = {name: pa.array(holdout.X[newest, i]) for i, name in enumerate(candidate.columns)}
    columns["score"] = pa.array(holdout.scores[newest])
    columns["label"] = pa.array(holdout.y[newest])
    columns["at"] = pa.array(holdout.at[newest].astype("datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table(columns), path, compression="zstd")


def _numbers(candidate: Candidate) -> dict[str, float]:
    """The numbers of the profile, and the time it took."""
    training = candidate.profile["training"]
    found = {**candidate.profile, **candidate.timings, "training_rows": training["rows"]}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
