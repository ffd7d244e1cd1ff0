"""Windows of a version, one after the other, as what is known of them grows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.losses import log_loss
from core.policy import Policy
from core.triggers import WorthIt
from monitoring.facts import LossPoint, MonitorFacts
from monitoring.live import LiveVersion, Past, Served, window_start
from monitoring.look import look
from monitoring.loss_curve import POINTS
from monitoring.triggers import decide_retrain, redecide

START = datetime(2019, 2, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLICY = Policy(monitor_window=2 * DAY, monitor_every=2 * DAY, min_monitor_rows=10, trigger=WorthIt(0.001))
A_DAY = 100


class Watched:
    """The parts of a use case that a look needs."""

    class label:  # noqa: N801
        horizon = HOUR

    class features:  # noqa: N801
        columns = ("fare",)

    categorical, codes, policy = (), (), POLICY


def asked(days: int, version: str = "1") -> Served:
    """Answers to questions evenly over some days, each with its label half an hour later."""
    rng, n = np.random.default_rng(3), days * A_DAY
    at = pd.date_range(START, periods=n, freq=DAY / A_DAY)
    score = rng.uniform(0.05, 0.95, n)
    ids = [f"q{i}" for i in range(n)]
    label = (rng.random(n) < score).astype(float)
    return Served(
        pd.DataFrame({"prediction_id": ids, "at": at, "score": score, "version": version, "f__fare": 1.0}),
        pd.DataFrame({"prediction_id": ids, "label": label, "known_at": at + HOUR / 2}),
    )


def live(version: str = "1", trained_at: datetime = START) -> LiveVersion:
    return LiveVersion(version, trained_at, 0.5, pd.DataFrame({"score": [], "label": []}))


class Watch:
    """Looks at what there is, again and again; remembers what was found, and which windows were read again."""

    def __init__(self, there: Served, version: LiveVersion | None = None) -> None:
        self.there, self.version = there, version or live()
        self.looks: list[MonitorFacts] = []
        self.read: list[datetime] = []

    def cut(self, since: datetime, until: datetime, known_by: datetime) -> Served:
        rows, labels = self.there.predictions, self.there.labels
        return Served(
            rows[(rows["at"] >= since) & (rows["at"] < until)],
            labels[(labels["known_at"] >= since) & (labels["known_at"] <= known_by)],
        )

    def look(self, moment: datetime) -> MonitorFacts:
        def earlier(since: datetime, until: datetime) -> Served:
            self.read.append(since)
            return self.cut(since, until, moment)

        use_case: Any = Watched()
        served = self.cut(window_start(use_case, moment), moment, moment)
        past = Past(looks=self.looks[-1:], retrain_s=1.0, earlier=earlier)
        self.looks.append(look(use_case, self.version, served, past, as_of=moment))
        return self.looks[-1]


def relabelled(there: Served, day: int, known_at: datetime) -> Served:
    """All labels of a day contradicted later."""
    rows = there.predictions
    of_day = rows.loc[(rows["at"] >= START + day * DAY) & (rows["at"] < START + (day + 1) * DAY), "prediction_id"]
    late = there.labels[there.labels["prediction_id"].isin(of_day)].assign(known_at=known_at)
    return Served(there.predictions, pd.concat([there.labels, late.assign(label=1 - late["label"])]))


def test_looks_a_window_apart_read_nothing_again() -> None:
    watch = Watch(asked(8))

    for day in (2, 4, 6, 8):
        found = watch.look(START + day * DAY)

    assert watch.read == []
    assert [(p.from_at, p.to_at, p.at) for p in found.losses] == [
        (START + (day - 2) * DAY - HOUR, START + day * DAY - HOUR, START + day * DAY) for day in (2, 4, 6, 8)
    ]
    rows = watch.there.predictions.merge(watch.there.labels, on="prediction_id")
    second = rows[(rows["at"] >= START + 2 * DAY - HOUR) & (rows["at"] < START + 4 * DAY - HOUR)]
    assert found.losses[1].log_loss == pytest.approx(log_loss(second["label"].to_numpy(), second["score"].to_numpy()))
    assert all(p.low < p.log_loss < p.high and p.rows == p.due for p in found.losses if p.low and p.high)


def test_frequent_looks_measure_each_window_once_it_has_ended() -> None:
    watch = Watch(asked(7))

    curves = [watch.look(START + hours * HOUR).losses for hours in range(5, 7 * 24, 5)]

    assert watch.read == [START + day * DAY - HOUR for day in (0, 2, 4)]
    assert [p.at for p in curves[-1]] == [START + day * DAY for day in (2, 4, 6)] + [watch.looks[-1].as_of]


def test_late_labels_correct_the_windows_they_belong_to_and_no_other() -> None:
    there = asked(8)
    plain, late = Watch(there), Watch(relabelled(there, 2, START + 6.5 * DAY))
    for day in (2, 4, 6, 8):
        before, after = plain.look(START + day * DAY), late.look(START + day * DAY)

    corrected = after.losses[1]
    assert corrected.log_loss > before.losses[1].log_loss + 0.2
    assert (after.losses[0], after.losses[2:]) == (before.losses[0], before.losses[2:])
    assert late.looks[2].losses == plain.looks[2].losses, "they were not known yet"


def test_what_a_retrain_gains_is_expected_from_the_corrected_curve() -> None:
    there = asked(8)
    worse = relabelled(relabelled(there, 2, START + 7 * DAY), 3, START + 7 * DAY)
    decided = []
    for given in (there, worse):
        watch = Watch(given)
        for day in (2, 4, 6, 8):
            found = watch.look(START + day * DAY)
        decided.append(decide_retrain(found, POLICY))

    plain, corrected = (each.evidence["answers"]["reason"] for each in decided)
    assert plain != corrected
    curve = decided[1].evidence["curve"]
    assert [set(point) for point in curve] == [
        {"version", "from", "to", "rows", "labelled", "log_loss", "low", "high"}
    ] * 4  # fmt: skip
    assert curve[1]["log_loss"] > decided[0].evidence["curve"][1]["log_loss"]
    assert redecide(decided[1].evidence) == decided[1]


def test_windows_that_another_version_answered_stay_and_are_corrected_but_expect_nothing() -> None:
    there = asked(8)
    there.predictions.loc[there.predictions["at"] >= START + 4 * DAY, "version"] = "2"
    watch = Watch(relabelled(there, 0, START + 7 * DAY))
    first, second = (watch.look(START + day * DAY) for day in (2, 4))
    watch.version = live("2", START + 4 * DAY)

    watch.look(START + 6 * DAY)
    found = watch.look(START + 8 * DAY)

    assert [p.version for p in found.losses] == ["1", "1", "2", "2"]
    assert found.losses[0].log_loss > first.losses[0].log_loss + 0.2
    assert found.losses[1] == second.losses[1]


def test_a_window_no_longer_logged_stays_as_it_was_found() -> None:
    watch = Watch(relabelled(asked(8), 5, START + 7 * DAY))
    first = watch.look(START + 2 * DAY).losses[0]
    for day in (4, 6):
        watch.look(START + day * DAY)
    watch.there = Served(watch.there.predictions[watch.there.predictions["at"] >= START + 3 * DAY], watch.there.labels)

    assert watch.look(START + 8 * DAY).losses[0] == first


def test_the_curve_does_not_grow_without_end() -> None:
    watch = Watch(asked(40))

    for day in range(2, 41, 2):
        found = watch.look(START + day * DAY)

    assert len(found.losses) == POINTS
    assert found.losses[-1].at == START + 40 * DAY


def test_what_an_earlier_release_recorded_is_read_and_left_behind() -> None:
    old = {"at": "2019-02-03T00:00:00Z", "rows": 9, "log_loss": 0.4}
    watch = Watch(asked(4))
    recorded = watch.look(START + 2 * DAY).as_json() | {"losses": [old]}
    watch.looks = [MonitorFacts.from_json(recorded)]

    assert watch.looks[0].losses == (LossPoint(at=START + 2 * DAY, rows=9, log_loss=0.4),)
    assert [p.at for p in watch.look(START + 4 * DAY).losses] == [START + 4 * DAY]
