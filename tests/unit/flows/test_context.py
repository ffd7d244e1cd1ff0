from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from core.errors import EvergreenError
from core.settings import Settings
from flows.context import FlowContext


def test_the_moment_is_the_one_given(tmp_path: Path) -> None:
    context = FlowContext(Settings(home=tmp_path))

    assert context.moment("taxi_tip", "2019-02-05T03:00:00+01:00") == datetime(2019, 2, 5, 2, tzinfo=UTC)
    assert context.moment("taxi_tip", None) - datetime.now(UTC) < timedelta(seconds=1)
    with pytest.raises(EvergreenError, match="no ISO 8601 moment"):
        context.moment("taxi_tip", "yesterday")


def test_a_replay_goes_on_from_the_newest_thing_logged(tmp_path: Path) -> None:
    context = FlowContext(Settings(home=tmp_path, clock="event"))
    with pytest.raises(EvergreenError, match="Give as_of"):
        context.moment("taxi_tip", None)
    known = pd.Series(pd.to_datetime(["2019-02-03", "2019-02-02"], utc=True)).astype("datetime64[us, UTC]")
    rows = pd.DataFrame({"prediction_id": ["a", "b"], "label": 1, "at": known, "known_at": known, "position": 1})
    context.log.write("labels", 1, {"labels/taxi_tip": rows})

    assert context.moment("taxi_tip", "") == datetime(2019, 2, 3, tzinfo=UTC)
