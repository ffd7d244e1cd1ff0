"""Evidently's page about how far live inputs and scores have moved from those a version was made on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from evidently import Dataset
    from evidently.core.report import Snapshot

SCORE = "score"
LATEST = "latest.html"

# Enough rows for the distances below to settle (an unmoved column stays under 0.1), few enough to be quick.
_MAX_ROWS = 3000
# Rare codes are counted together: the Jensen-Shannon distance of two samples of one distribution grows with
# the number of codes, about sqrt(codes / 8 * (1/n + 1/m)). Source: Lin (1991), expansion to second order.
_MAX_CODES = 30
_OTHER = "(other)"
_NUMERIC_METHOD = "wasserstein"
_CODE_METHOD = "jensenshannon"


def draw_drift(
    current: pd.DataFrame, reference: pd.DataFrame, *, categorical: tuple[str, ...], threshold: float, page: Path
) -> dict[str, float]:
    """Write Evidently's HTML report on a window against the reference, and beside it a copy named ``latest.html``.

    Only effect sizes are shown: at these sample sizes a p-value calls every column drifted. Nothing is decided by them.

    Args:
        current: predictions of the window; the feature columns and ``score``.
        reference: the version's reference with the same columns; those missing in either are not compared.
        categorical: columns that are codes, not quantities.
        threshold: distance above which the page shows a column as drifted.
        page: the file.

    Returns:
        By column the distance the page shows: for quantities Wasserstein's in standard deviations of the reference,
        for codes Jensen-Shannon's (0 to 0.83). Columns without any value on one side are left out.
    """
    names = [name for name in reference.columns if name in current.columns]
    live, base = _sample(current[names]), _sample(reference[names])
    filled = [name for name in names if live[name].notna().any() and base[name].notna().any()]
    codes = [name for name in filled if name in categorical]
    live, base = _grouped(live[filled], base[filled], codes)
    snapshot = _run_evidently(live, base, codes, threshold)
    page.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(page))
    shutil.copyfile(page, page.with_name(LATEST))
    return {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}


def served_columns(predictions: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The feature columns of logged predictions (``f__<feature>``) under their own names, and ``score``."""
    logged = {f"f__{name}": name for name in columns if f"f__{name}" in predictions.columns}
    return predictions[[*logged, SCORE]].rename(columns=logged)


def _sample(frame: pd.DataFrame) -> pd.DataFrame:
    """At most `_MAX_ROWS` rows at even distances, so that the whole window is seen and the result repeats."""
    if len(frame) <= _MAX_ROWS:
        return frame.reset_index(drop=True)
    picked = np.linspace(0, len(frame) - 1, _MAX_ROWS).astype(np.int64)
    return frame.iloc[picked].reset_index(drop=True)


def _grouped(live: pd.DataFrame, base: pd.DataFrame, codes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Quantities as float64; codes as text, all but the reference's most frequent as one."""
    as_number = {name: "float64" for name in live.columns if name not in codes}
    live, base = live.astype(as_number), base.astype(as_number)
    for name in codes:
        kept = base[name].value_counts().index[:_MAX_CODES]
        live[name] = live[name].where(live[name].isin(kept), other=np.nan).map(_code)
        base[name] = base[name].where(base[name].isin(kept), other=np.nan).map(_code)
    return live, base


def _code(value: object) -> str:
    if isinstance(value, float):
        return _OTHER if np.isnan(value) else f"{value:g}"
    return str(value)


def _run_evidently(live: pd.DataFrame, base: pd.DataFrame, codes: list[str], threshold: float) -> Snapshot:
    # Importing Evidently takes seconds; only a process that measures drift pays for it.
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(
        numerical_columns=[name for name in live.columns if name not in codes], categorical_columns=codes
    )
    metrics = [
        ValueDrift(column=name, method=_CODE_METHOD if name in codes else _NUMERIC_METHOD, threshold=threshold)
        for name in live.columns
    ]
    current: Dataset = Dataset.from_pandas(live, data_definition=definition)
    return Report(metrics).run(current, Dataset.from_pandas(base, data_definition=definition))
