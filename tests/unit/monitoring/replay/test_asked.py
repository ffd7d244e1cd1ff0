"""What a replay trains on is what production would have trained on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from core.clock import to_us
from features.offline.log import OfflineLog
from features.offline.training import build_training_set
from features.tables import TableAccess
from monitoring.replay.asked import Asked, ask_all
from monitoring.replay.importing import import_events, refresh_views, span_of
from tests.replayed_use_case import DAY, START, history, log_questions, replayed

PAST = history(days=30)
USE_CASE = replayed(PAST).use_case


@pytest.fixture(scope="module")
def asked() -> Asked:
    return ask_all(USE_CASE, PAST, TableAccess(Path(), {}))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> OfflineLog:
    log = OfflineLog(tmp_path_factory.mktemp("offline"))
    import_events(log, PAST)
    refresh_views(log, USE_CASE, *span_of(PAST), TableAccess(Path(), {}))
    log_questions(log, USE_CASE, PAST)
    return log


@pytest.mark.parametrize("days", [12.0, 15.5, 30.0])
def test_training_sets_are_those_of_the_offline_log(asked: Asked, log: OfflineLog, days: float) -> None:
    moment = START + days * DAY
    since = moment - USE_CASE.policy.training_window

    ours = asked.training_set(asked.training_rows(since, moment))
    theirs = build_training_set(log, USE_CASE, as_of=moment, since=since)

    assert len(theirs.y) > 500
    assert ours.fingerprint == theirs.fingerprint
    assert ours.prediction_ids.tolist() == theirs.prediction_ids.tolist()
    assert ours.requests["amount"].tolist() == theirs.requests["amount"].tolist()


def test_nothing_is_trained_on_before_it_was_known(asked: Asked) -> None:
    moment = START + 20 * DAY

    rows = asked.training_rows(moment - 10 * DAY, moment)

    assert asked.known_us[rows].max() <= moment.timestamp() * 1e6
    assert asked.at_us[rows].max() < (moment - USE_CASE.label.horizon).timestamp() * 1e6


def test_labels_come_with_their_delay(asked: Asked) -> None:
    early = START + 12 * timedelta(hours=1)

    labels = asked.labels(START, early)

    assert (
        0
        < len(labels)
        < len(asked.labels(START, START + 2 * DAY))
        == int((asked.known_us <= to_us(START + 2 * DAY)).sum())
    )
    assert labels["known_at"].max() <= early
    assert len(asked.labels(early, START + 2 * DAY)) + len(labels) == len(asked.labels(START, START + 2 * DAY))


def test_a_window_is_logged_as_it_was_served(asked: Asked) -> None:
    cut = asked.between(START + DAY, START + 2 * DAY)
    scores = np.linspace(0, 1, len(asked), dtype=np.float32)
    versions = np.full(len(asked), "7", dtype=object)

    logged = asked.predictions(cut, scores, versions)

    assert logged["score"].to_numpy().tolist() == scores[cut].tolist()
    assert set(logged["version"]) == {"7"}
    assert logged[f"f__{USE_CASE.features.columns[0]}"].to_numpy().tolist() == asked.matrix[cut, 0].tolist()
