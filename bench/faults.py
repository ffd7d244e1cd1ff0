"""What is said of data that are broken on purpose, as the table of docs/judgement.md: ``python -m bench.faults``.

New York's yellow taxis in 2018: a version is trained on the trips paid by card until June, to tell who tips at least a
quarter of the fare, and the weeks after that are looked at, each broken in one way.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from bench.judged_streams import History, taxi, weeks
from bench.peers import ROOT
from core.policy import DriftPolicy
from monitoring.drift import find_drift
from monitoring.label_counts import count_labels
from monitoring.profile import ReferenceProfile
from monitoring.profiling import profile_reference
from monitoring.quality import find_faults
from monitoring.window import WindowProfile

PAGE = ROOT / "docs" / "judgement.md"
BEGIN, END = "<!-- faults: made by python -m bench.faults -->", "<!-- end of faults -->"
HORIZON = timedelta(hours=1)
TRAINED_UNTIL, HOLDOUT_DAYS, WEEKS = pd.Timestamp("2018-07-01", tz="UTC"), 60, 20
CHANGED = pd.Timestamp("2019-02-09", tz="UTC")
FEATURES = ("trip_distance", "minutes", "fare_amount", "extra", "tolls_amount", "passenger_count", "hour", "vendor_id",
            "rate_code_id")  # fmt: skip
CODES = ("vendor_id", "rate_code_id")
GENEROUS, CARD = 0.25, 1
_SEED = 5


@dataclass(frozen=True)
class Week:
    """One window as it was logged.

    Args:
        rows: ``prediction_id``, ``at``, features and ``score``.
        labels: ``prediction_id``, ``label``, ``known_at``.
        as_of: the moment of the look.
    """

    rows: pd.DataFrame
    labels: pd.DataFrame
    as_of: datetime


@dataclass(frozen=True)
class Said:
    """What was said of one window: kinds of faults, kinds of drift."""

    faults: tuple[str, ...]
    drift: tuple[str, ...]


Breaking = Callable[[Week, np.random.Generator], Week]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put it between the marks of {PAGE.relative_to(ROOT)}")
    asked, text = parser.parse_args(arguments), table()
    if not asked.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def table() -> str:
    """The table, in Markdown."""
    reference, seen, later = scored_weeks(ROOT / "data")
    lines = ["| broken | seen in | verdict | action |", "| --- | --- | --- | --- |"]
    for name, breaking in BREAKINGS.items():
        said = [judge(reference, breaking(week, np.random.default_rng(_SEED + i))) for i, week in enumerate(seen)]
        lines.append(f"| {name} | {_line(said)} |")
    changed = [judge(reference, week) for week in later]
    lines.append(f"| nothing, but the concept drifts: the congestion surcharge of 2019 | {_line(changed)} |")
    return "\n".join(lines)


def judge(reference: ReferenceProfile, week: Week) -> Said:
    """What a look at one window says."""
    asked = week.rows.merge(week.labels.drop_duplicates("prediction_id", keep="last"), on="prediction_id", how="left")
    window = WindowProfile(reference).add(asked)
    counts = count_labels(week.rows, week.labels, horizon=HORIZON, as_of=week.as_of)
    faults = find_faults(reference, window, as_of=week.as_of, labels=counts)
    drift = find_drift(reference, [window], DriftPolicy())
    kinds = dict.fromkeys(found.kind for found in drift.over)
    return Said(tuple(dict.fromkeys(fault.kind for fault in faults)), tuple(kinds))


def scored_weeks(data: Path) -> tuple[ReferenceProfile, list[Week], list[Week]]:
    """The version's reference, weeks soon after it with scores and labels, and as many after a real change."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    history = taxi(data, until="2019-09-01")
    rows = history.rows[(history.rows["payment_type"] == CARD) & (history.rows["fare_amount"] > 0)]
    label = (rows["tip_amount"] >= GENEROUS * rows["fare_amount"]).to_numpy(dtype=np.float32)
    rows, at = rows[[*FEATURES, "at"]], rows["at"]
    fitted = (at < TRAINED_UNTIL - pd.Timedelta(days=HOLDOUT_DAYS)).to_numpy()
    model = HistGradientBoostingClassifier(max_iter=80, random_state=0).fit(
        rows.loc[fitted, list(FEATURES)], label[fitted]
    )
    score = model.predict_proba(rows[list(FEATURES)])[:, 1]
    known = (at < TRAINED_UNTIL).to_numpy()
    reference = profile_reference(
        rows.loc[known, list(FEATURES)].to_numpy(dtype=np.float32),
        FEATURES,
        at=at[known].dt.tz_convert(None).to_numpy(),
        categorical=CODES,
        scores=np.where(fitted, np.nan, score)[known],
        labels=label[known],
    )
    scored = rows.assign(score=score, label=label, prediction_id=[f"p{i}" for i in range(len(rows))])
    history = History("taxi", scored.reset_index(drop=True), CODES)
    soon, later = (list(weeks(history, start))[:WEEKS] for start in (TRAINED_UNTIL, CHANGED))
    return reference, [_week(part) for part in soon], [_week(part) for part in later]


def _week(rows: pd.DataFrame) -> Week:
    known_at = rows["at"] + pd.Timedelta(minutes=20)
    labels = pd.DataFrame({"prediction_id": rows["prediction_id"], "label": rows["label"], "known_at": known_at})
    return Week(rows.drop(columns="label"), labels, rows["at"].iloc[-1].to_pydatetime() + timedelta(seconds=1))


def _flip(share: float) -> Breaking:
    def breaking(week: Week, rng: np.random.Generator) -> Week:
        hit = rng.random(len(week.labels)) < share
        label = week.labels["label"]
        return Week(week.rows, week.labels.assign(label=label.where(~hit, 1 - label)), week.as_of)

    return breaking


def _column(name: str, change: Callable[[pd.DataFrame], object]) -> Breaking:
    return lambda week, rng: Week(week.rows.assign(**{name: change(week.rows)}), week.labels, week.as_of)


def _swap(one: str, other: str) -> Breaking:
    return lambda week, rng: Week(
        week.rows.assign(**{one: week.rows[other], other: week.rows[one]}), week.labels, week.as_of
    )


def _day_missing(week: Week, rng: np.random.Generator) -> Week:
    day = week.rows["at"].dt.date
    gone = week.rows.loc[day == day.iloc[len(day) // 2], "prediction_id"]
    return Week(week.rows, week.labels[~week.labels["prediction_id"].isin(gone)], week.as_of)


def _repeated(week: Week, rng: np.random.Generator) -> Week:
    again = week.labels.sample(frac=0.2, random_state=_SEED).assign(
        known_at=lambda labels: labels["known_at"] + pd.Timedelta(minutes=1)
    )
    return Week(week.rows, pd.concat([week.labels, again], ignore_index=True), week.as_of)


def _clock(minutes: int) -> Breaking:
    def breaking(week: Week, rng: np.random.Generator) -> Week:
        at = week.rows["at"] + pd.Timedelta(minutes=minutes)
        return Week(week.rows.assign(at=at), week.labels, week.as_of)

    return breaking


def _labels_early(week: Week, rng: np.random.Generator) -> Week:
    known_at = week.labels["known_at"] - pd.Timedelta(minutes=30)
    return Week(week.rows, week.labels.assign(known_at=known_at), week.as_of)


def _stopped(week: Week, rng: np.random.Generator) -> Week:
    until = week.as_of - timedelta(days=1)
    return Week(week.rows[week.rows["at"] < until], week.labels, week.as_of)


BREAKINGS: dict[str, Breaking] = {
    "nothing": lambda week, rng: week,
    **{f"{share:.0%} of the labels flipped": _flip(share) for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)},
    "a feature stuck at zero (fare)": _column("fare_amount", lambda rows: 0.0),
    "another unit (distance in km)": _column("trip_distance", lambda rows: rows["trip_distance"] * 1.609344),
    "another unit (fare in cents)": _column("fare_amount", lambda rows: rows["fare_amount"] * 100),
    "two columns swapped (distance, fare)": _swap("trip_distance", "fare_amount"),
    "two columns swapped that look alike (fare, minutes)": _swap("fare_amount", "minutes"),
    "10 % nulls (distance)": _column(
        "trip_distance", lambda rows: rows["trip_distance"].where(np.arange(len(rows)) % 10 > 0)
    ),
    "a category gone (vendor 1 sent as 2)": _column("vendor_id", lambda rows: rows["vendor_id"].replace(1.0, 2.0)),
    "a day of missing labels": _day_missing,
    "a fifth of the labels sent twice": _repeated,
    "predictions' clock 10 minutes ahead": _clock(10),
    "predictions' clock 10 minutes behind": _clock(-10),
    "labels' clock 30 minutes behind": _labels_early,
    "nothing logged for a day": _stopped,
}


def _line(said: Sequence[Said]) -> str:
    """Windows in which anything was said, the verdicts with their counts, and what is done about most of them."""
    faults = Counter(kind for one in said for kind in one.faults)
    drift = Counter(kind for one in said for kind in one.drift)
    blocked, moved = sum(bool(one.faults) for one in said), sum(bool(one.drift) for one in said)
    verdicts = [f"fault: {kind} ({many})" for kind, many in faults.most_common()]
    verdicts += [f"{kind} drift ({many})" for kind, many in drift.most_common()]
    action = "none"
    if blocked > len(said) / 2:
        action = "a person is called, training is blocked"
    elif moved > len(said) / 2:
        action = "drift is called, a retrain may follow"
    either = sum(bool(one.faults or one.drift) for one in said)
    return f"{either} of {len(said)} weeks | {', '.join(verdicts) or 'none'} | {action}"


if __name__ == "__main__":
    main()
