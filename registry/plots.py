"""Pictures of a candidate, for the registry's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from registry import metrics
from registry.candidate import Candidate
from registry.scorer import OnnxScorer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SAMPLE_ROWS = 1000
_SHOWN_FEATURES = 20
_SHOWN_MOVED = 12
_SEED = 0


def draw_plots(candidate: Candidate, folder: Path) -> None:
    """Write calibration.png, scores.png and importance.png; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    labels, scores = candidate.holdout.y, candidate.holdout.scores
    _draw_calibration(labels, scores, folder / "calibration.png")
    _draw_scores(labels, scores, folder / "scores.png")
    _draw_importance(candidate, folder / "importance.png")


def permutation_importance(candidate: Candidate) -> npt.NDArray[np.float64]:
    """Rise of the log-loss when a column's values are shuffled among rows, per column, in nats.

    Measured on the newest 1000 holdout rows, shuffled once. Source: Breiman (2001), "Random Forests", section 10.
    """
    matrix, labels = candidate.holdout.X[-_SAMPLE_ROWS:], candidate.holdout.y[-_SAMPLE_ROWS:]
    scorer, order = OnnxScorer(candidate.onnx), np.random.default_rng(_SEED).permutation(len(labels))
    before = metrics.log_loss(labels, scorer.score(matrix))
    rises = np.zeros(matrix.shape[1])
    for column in range(matrix.shape[1]):
        shuffled = matrix.copy()
        shuffled[:, column] = matrix[order, column]
        rises[column] = metrics.log_loss(labels, scorer.score(shuffled)) - before
    return rises


def draw_drift(reference: Path, candidate: Candidate, path: Path) -> None:
    """Draw how far each feature of a candidate's newest rows has moved from the champion's, and the farthest three.

    Distance is Kolmogorov and Smirnov's: the largest difference of the two distribution functions, in [0, 1].

    Args:
        reference: the champion's ``reference.parquet``.
        candidate: whose holdout it is compared with, on the columns both have.
        path: of the picture.
    """
    import pandas as pd

    old = pd.read_parquet(reference)
    places = {name: i for i, name in enumerate(candidate.columns) if name in old}
    rows = {name: (old[name].to_numpy(dtype=np.float64), candidate.holdout.X[:, i]) for name, i in places.items()}
    distances = {name: _distance(*both) for name, both in rows.items()}
    names = sorted(distances, key=lambda name: -distances[name])
    shown = names[:_SHOWN_MOVED][::-1]
    figure, panels = _figure(height=7.0, rows=2)
    panels[0].barh(shown, [distances[name] for name in shown], color="#b26a00")
    panels[0].set(xlabel="distance of the distributions", title="Moved since the champion", xlim=(0, 1))
    for name, color in zip(names[:3], ("#b0413e", "#1565c0", "#2e7d32"), strict=False):
        for values, style, whose in zip(rows[name], ("--", "-"), ("champion", "this"), strict=True):
            known = np.sort(values[~np.isnan(values)])
            panels[1].plot(known, np.linspace(0, 1, len(known)), style, color=color, label=f"{name}, {whose}")
    panels[1].set(xlabel="value", ylabel="share of rows below", title="The farthest, then and now")
    panels[1].legend(fontsize=7)
    figure.savefig(path)


def _distance(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> float:
    old, new = np.sort(old[~np.isnan(old)]), np.sort(new[~np.isnan(new)])
    if not len(old) or not len(new):
        return 0.0
    at = np.concatenate([old, new])
    below = (np.searchsorted(each, at, side="right") / len(each) for each in (old, new))
    return float(np.abs(next(below) - next(below)).max())


def _draw_calibration(labels: metrics.Labels, scores: metrics.Scores, path: Path) -> None:
    figure, (axes,) = _figure()
    bins = metrics.calibration_bins(labels, scores)
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    axes.plot(bins.score, bins.rate, marker="o", color="#2e7d32")
    axes.set(xlabel="mean score", ylabel="share of label 1", title="Calibration", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path)


def _draw_scores(labels: metrics.Labels, scores: metrics.Scores, path: Path) -> None:
    figure, (axes,) = _figure()
    edges = np.linspace(0, 1, 41).tolist()
    for label, color in ((0, "#90a4ae"), (1, "#2e7d32")):
        axes.hist(
            scores[labels == label], bins=edges, histtype="stepfilled", alpha=0.6, color=color, label=f"label {label}"
        )
    axes.set(xlabel="score", ylabel="rows", title="Scores on the holdout")
    axes.legend()
    figure.savefig(path)


def _draw_importance(candidate: Candidate, path: Path) -> None:
    rises = permutation_importance(candidate)
    shown = np.argsort(rises)[-_SHOWN_FEATURES:]
    figure, (axes,) = _figure(height=1.0 + 0.25 * len(shown))
    axes.barh([candidate.columns[i] for i in shown], rises[shown], color="#2e7d32")
    axes.set(xlabel="rise of log-loss when shuffled", title="Importance of features")
    figure.savefig(path)


def _figure(height: float = 4.0, rows: int = 1) -> tuple[Any, Sequence[Axes]]:
    """A figure of its own, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, height), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])
