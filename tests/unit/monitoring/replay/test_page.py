from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from monitoring.replay.course import Span
from monitoring.replay.outcome import Comparison, Outcome
from monitoring.replay.page import HEADINGS, cells, write_page
from monitoring.replay.policies import policies_named
from tests.replayed_use_case import DAY, POLICY, START


def outcome(policy: str, log_loss: float, retrains: int) -> Outcome:
    return Outcome(
        policy=policy, log_loss=log_loss, retrains=retrains, promoted=1, refused=retrains - 1, taken_back=0, alarms=2,
        compute_s=1.25 * retrains, regret=0.01, triggers={"drift": retrains}, by_step=(log_loss, None, log_loss),
        retrained_at=(START,), promoted_at=(START + DAY,),
    )  # fmt: skip


FOUND = Comparison(
    use_case="taxi <tip>", span=Span(start=START, end=START + 21 * DAY, every=timedelta(days=7)), rows=1234,
    outcomes=(outcome("drift", 0.5, 3), outcome("always", 0.49, 10)), at=(START, START + 7 * DAY, START + 14 * DAY),
    recommended="drift", why="it is the cheapest", policies=policies_named(("drift", "always"), POLICY), wall_s=12.0,
)  # fmt: skip


def test_the_page_stands_by_itself(tmp_path: Path) -> None:
    write_page(FOUND, tmp_path / "made" / "page.html")

    page = (tmp_path / "made" / "page.html").read_text()
    assert "taxi &lt;tip&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "<tr class=best><td>drift</td><td>0.5000</td><td>+2.04%</td>" in page


def test_every_heading_has_a_cell() -> None:
    assert [len(cells(each, FOUND)) for each in FOUND.outcomes] == [len(HEADINGS)] * 2
    assert cells(FOUND.outcomes[0], replace(FOUND, outcomes=FOUND.outcomes[:1]))[2] == "–"


def test_as_json_it_is_whole() -> None:
    found = json.loads(json.dumps(FOUND.as_json()))

    assert found["recommended"] == "drift"
    assert found["outcomes"][0]["by_step"] == [0.5, None, 0.5]
    assert found["span"] == {"start": START.isoformat(), "end": (START + 21 * DAY).isoformat(), "every_s": 604_800.0}
    assert found["policies"]["always"]["trigger"] == {"kind": "always"}
