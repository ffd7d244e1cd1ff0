"""Reference profiles as a file of a version: JSON, with its counts compressed."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from features.segments import Cut, cuts_named
from monitoring.bins import ColumnBins
from monitoring.profile import Histograms, ReferenceProfile, SegmentQuality, Summary
from monitoring.seasons import Grid

FILE = "reference_profile.json"
FORMAT = 1
_PLAIN = ("first_block", "rows", "from_us", "to_us", "longest_gap_s")


def dump_profile(profile: ReferenceProfile) -> bytes:
    """The profile as a file; the same profile gives the same bytes."""
    found: dict[str, Any] = {name: getattr(profile, name) for name in _PLAIN}
    found |= {
        "format": FORMAT,
        "grid": asdict(profile.grid),
        "bins": [asdict(column) for column in profile.bins],
        "counts": _packed(profile.histograms.counts),
        "segments": {name: _packed(part.counts) for name, part in profile.segments.items()},
        "cuts": [asdict(cut) for cut in profile.cuts],
        "summaries": {name: _with_nulls(asdict(summary)) for name, summary in profile.summaries.items()},
        "correlations": np.round(profile.correlations, 4).tolist(),
        "related": list(profile.related),
        "importance": dict(profile.importance),
        "quality": {name: asdict(quality) for name, quality in profile.quality.items()},
        "magnitudes": _packed(profile.magnitudes),
        "longest_streaks": profile.longest_streaks.tolist(),
        "pauses_s": dict(profile.pauses_s),
    }
    return json.dumps(found, sort_keys=True, allow_nan=False).encode()


def load_profile(written: bytes) -> ReferenceProfile:
    """The profile that `dump_profile` wrote.

    Raises:
        ValueError: if it is something else, or of another format.
    """
    found = json.loads(written)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"this is no reference profile of format {FORMAT}: retrain, and the new version has one")
    bins = tuple(
        ColumnBins(**column | {"edges": tuple(column["edges"]), "weights": tuple(column["weights"])})
        for column in found["bins"]
    )
    related = tuple(found.get("related", ()))  # without, correlations are of an earlier release, and of values
    return ReferenceProfile(
        **{name: found[name] for name in _PLAIN},
        grid=Grid(**found["grid"]),
        histograms=Histograms(bins, _unpacked(found["counts"])),
        segments={name: Histograms(bins, _unpacked(part)) for name, part in found["segments"].items()},
        summaries={name: _summary(summary) for name, summary in found["summaries"].items()},
        correlations=np.asarray(found["correlations"] if related else np.zeros((0, 0)), dtype=np.float64),
        related=related,
        cuts=tuple(_cut(each) for each in found["cuts"]) if "cuts" in found else cuts_named(list(found["segments"])),
        importance=found["importance"],
        quality={name: SegmentQuality(**quality) for name, quality in found["quality"].items()},
        magnitudes=_unpacked(found["magnitudes"]),
        longest_streaks=np.asarray(found["longest_streaks"], dtype=np.int64),
        pauses_s=found.get("pauses_s", {}),
    )


def _cut(found: dict[str, Any]) -> Cut:
    return Cut(found["column"], tuple(found["edges"]), tuple(found["categories"]))


def _packed(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    raw = counts.astype("<i4").tobytes()
    return {"shape": list(counts.shape), "zlib": base64.b64encode(zlib.compress(raw, 6)).decode()}


def _unpacked(packed: dict[str, Any]) -> npt.NDArray[np.int64]:
    raw = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(raw, dtype="<i4").reshape(packed["shape"]).astype(np.int64)


def _with_nulls(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [_null(v) for v in value] if isinstance(value, tuple) else _null(value) for name, value in summary.items()
    }


def _null(value: float) -> float | None:
    return None if value != value else value


def _summary(found: dict[str, Any]) -> Summary:
    quantiles = tuple(_number(value) for value in found["quantiles"])
    return Summary(_number(found["mean"]), _number(found["sd"]), _number(found["nulls"]), quantiles)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
