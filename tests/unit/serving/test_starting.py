"""A version that began as canary or shadow is promoted when its time is over and nothing was found against it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serving.starting import Asked, Begun, Told, judge_start

NOW = datetime(2019, 2, 5, 12, tzinfo=UTC)
CANARY, SHADOW = Begun("canary", 600, True, 200), Begun("shadow", 600, True, 200)


def told(*what: tuple[str, float]) -> list[Told]:
    """What the deployer recorded: (action, minutes ago), given newest first."""
    return [(action, f"{action} it is", NOW - timedelta(minutes=ago)) for action, ago in what]


@pytest.mark.parametrize(
    ("recorded", "action", "reason"),
    [
        (told(), "wait", "has not made it canary yet"),
        (told(("canary", 5)), "wait", "300 s of 600 s"),
        (told(("pass", 1), ("canary", 9)), "wait", "540 s of 600 s"),
        (told(("canary", 11)), "wait", "bake is not over"),
        (told(("pass", 1), ("canary", 11)), "promote", "pass it is"),
        (told(("rollback", 1), ("canary", 11)), "keep", "was taken back: rollback it is"),
        (told(("refuse", 1)), "keep", "was taken back: refuse it is"),
    ],
)
def test_a_canary_is_promoted_once_its_bake_and_its_time_are_over(
    recorded: list[Told], action: str, reason: str
) -> None:  # fmt: skip
    decision = judge_start(CANARY, recorded, None, NOW)
    assert decision.action == action and reason in decision.reason


def test_who_lost_its_alias_by_hand_stays_challenger() -> None:
    decision = judge_start(replace(CANARY, is_named=False), told(("pass", 1), ("canary", 11)), None, NOW)
    assert (decision.action, decision.reason) == ("keep", "somebody took the alias canary from it")


@pytest.mark.parametrize(
    ("asked", "action", "reason"),
    [
        (None, "wait", "asked 0 times, 200 are wanted"),
        (Asked(199), "wait", "asked 199 times"),
        (Asked(200), "promote", "no label is due yet"),
        (Asked(300, (-0.02, 0.01, 0.03)), "promote", "+0.0100 (-0.0200 to +0.0300)"),
        (Asked(300, (0.01, 0.02, 0.03)), "keep", "0.0200 above the champion's, at least 0.0100"),
    ],
)
def test_a_shadow_is_promoted_unless_labels_show_it_worse(asked: Asked | None, action: str, reason: str) -> None:
    decision = judge_start(SHADOW, told(("shadow", 11)), asked, NOW)
    assert decision.action == action and reason in decision.reason
