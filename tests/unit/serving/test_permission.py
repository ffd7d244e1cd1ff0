from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.ledger import Deployment, Entry
from serving.answered import answered_at
from serving.permission import ALLOW, HOLD, REFUSE, Known, Rules, held, permit

NOW = datetime(2019, 3, 1, tzinfo=UTC)
BOTH = Rules(require_gate=True, second_person=True)
NONE = Rules(require_gate=False)


def entry(action: str, actor: str = "ops (evergreen)", *, id_: int = 1, kind: str = "promotion") -> Entry:
    return Entry(id_, "toy", kind, action, "why", {}, actor, "8", NOW, NOW)


def live(version: str, generation: int = 1, **more: object) -> Deployment:
    return Deployment("toy", generation, version, None, "t", "r", NOW, NOW, **more)  # type: ignore[arg-type]


PASSED = entry("promote", "flow retrain", kind="gate", id_=9)
KEPT = entry("keep", "flow retrain", kind="gate", id_=9)
OPS, FLOW = entry("promote"), entry("promote", "flow retrain")
BEN, AGAIN, FORCED = entry("approve", "ben (console)"), entry("approve", "ops (console)"), entry("force")


@pytest.mark.parametrize(
    ("rules", "gate", "asks", "tagged", "action", "said"),
    [
        (Rules(), None, (OPS,), "", REFUSE, "passed no gate"),
        (Rules(), KEPT, (OPS, BEN), "", REFUSE, "the gate said keep: why"),
        (Rules(), PASSED, (), "", ALLOW, "passed the gate"),
        (Rules(), KEPT, (FORCED,), "", ALLOW, "it was forced"),
        (Rules(), KEPT, (), "labels are late", ALLOW, "it was forced"),
        (Rules(), KEPT, (), "  ", REFUSE, "the gate said keep"),
        (NONE, None, (), "", ALLOW, "no gate is required"),
        (BOTH, PASSED, (), "", HOLD, "nobody stands for it by name, two people must approve"),
        (BOTH, PASSED, (OPS, AGAIN), "", HOLD, "only ops stands for it"),
        (BOTH, PASSED, (OPS, BEN), "", ALLOW, "passed the gate"),
        (BOTH, PASSED, (FLOW, BEN), "", ALLOW, "passed the gate"),
        (BOTH, PASSED, (FLOW, entry("promote", "flow monitor")), "", HOLD, "only Evergreen stands for it"),
        (BOTH, KEPT, (FORCED, BEN), "", ALLOW, "it was forced"),
        (BOTH, KEPT, (), "trust me", HOLD, "nobody stands for it"),
        (BOTH, KEPT, (OPS, BEN), "", REFUSE, "the gate said keep"),
    ],
)
def test_who_may_become_champion(
    rules: Rules, gate: Entry | None, asks: tuple[Entry, ...], tagged: str, action: str, said: str
) -> None:
    known = Known(use_case="toy", version="8", gate=gate, asks=asks, tagged=tagged, deployments=[live("7")])
    decision = permit(known, rules)
    assert (decision.action, said in decision.reason) == (action, True), decision
    assert decision == permit(known, rules)
    assert ("how" in decision.evidence) == (action != ALLOW)


@pytest.mark.parametrize("rules", [Rules(), BOTH])
def test_what_has_answered_before_may_answer_again(rules: Rules) -> None:
    known = Known(use_case="toy", version="7", deployments=[live("8", 2), live("7")])
    assert permit(known, rules).action == ALLOW


def test_what_is_held_is_told_until_it_is_live_or_withdrawn() -> None:
    hold, refuse, gone = entry("hold"), entry("refuse"), entry("withdraw")
    assert held([OPS, hold, refuse], live("7")) == hold
    assert held([refuse], None) == refuse
    assert held([hold], live("8")) is None and held([gone, hold], live("7")) is None and held([OPS], None) is None


def test_of_two_that_had_begun_the_later_generation_answered() -> None:
    event = {"clock": "event"}
    first = live("7", 1, evidence=event)
    back = Deployment("toy", 3, "7", "8", "t", "r", NOW + timedelta(days=2), NOW, event)
    second = Deployment("toy", 2, "8", "7", "t", "r", NOW + timedelta(days=1), NOW, event)
    for days, expected in ((-1, None), (0, first), (1, second), (1.5, second), (2, back), (99, back)):
        assert answered_at([back, first, second], NOW + timedelta(days=days)) == expected
