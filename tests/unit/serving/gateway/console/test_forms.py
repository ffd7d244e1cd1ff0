"""What the pages of decisions and actions are made of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.errors import InvalidField
from core.settings import Settings
from serving.gateway.console.acting import Wish
from serving.gateway.console.asking import asking
from serving.gateway.console.charts import Point, line_chart
from serving.gateway.console.decision_page import decision_page
from serving.gateway.console.latency import of_buckets
from serving.gateway.console.state import Links
from tests.unit.serving.gateway.console.recorded import NOW, deployment, entry, interval, ledger


def test_promoting_offers_every_version_but_the_live_one_and_says_what_the_gate_said() -> None:
    gates = (entry(3, "gate", "keep", version="8"), entry(2, "gate", "promote", version="9"))
    shown = asking("promote", "tip", ledger(gates=gates), {"10": "run", "7": "run"}, "9")
    assert [(choice.version, choice.passed) for choice in shown.choices] == [
        ("10", False), ("9", True), ("8", False), ("6", True),
    ]  # fmt: skip
    assert (shown.chosen, shown.needs_force) == ("9", True)
    assert asking("promote", "tip", ledger(), {}, "77").chosen == ""


def test_what_cannot_be_done_says_why() -> None:
    first = ledger(deployments=(deployment(1, "6", None, 3),))
    assert asking("rollback", "tip", first, {}, "").obstacle == "There is no earlier version to return to."
    assert asking("approve", "tip", ledger(), {}, "").obstacle == "No version waits for approval."
    assert "evergreen retrain tip" in asking("promote", "tip", first, {}, "").obstacle
    assert asking("rollback", "tip", ledger(), {}, "").chosen == "6"
    waits = ledger(promotions=(entry(9, "promotion", "hold", version="8"),))
    assert asking("approve", "tip", waits, {}, "").chosen == "8"


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish("promote", "tip", "8", ""), "reason"), (Wish("promote", "tip", "8", "x" * 501), "reason"),
        (Wish("promote", "tip", "8", "two\nlines"), "reason"), (Wish("promote", "tip", "latest", "x"), "version"),
        (Wish("approve", "tip", "", "x"), "version"), (Wish("promote", "tip", "٣", "x"), "version"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_filled_in_names_its_field(wish: Wish, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        wish.require_sound()
    assert refused.value.field == field


def test_a_decision_is_laid_out_for_reading() -> None:
    said = {"name": "any", "fired": True, "reason": "", "parts": [{"name": "drift", "fired": True, "reason": "moved"}]}
    facts = {
        "rows": 900,
        "log_loss": interval(0.5),
        "drift": {"over": [{"column": "fare", "effect": 0.3}]},
        "none": None,
    }
    page = decision_page(entry(5, "trigger", "retrain", facts=facts, answers=said, decision_id="3", many=[0.5] * 20))
    assert [(a.depth, a.name, a.fired, a.reason) for a in page.answers] == [
        (0, "any", True, "put together from"), (1, "drift", True, "moved"),
    ]  # fmt: skip
    assert [(line.depth, line.name, line.value) for line in page.facts] == [
        (0, "rows", "900"), (0, "log loss", "0.5000 (0.4900 to 0.5100)"), (0, "drift", ""), (1, "over", ""),
        (2, "1.", "column fare, effect 0.3"),
    ]  # fmt: skip
    assert page.related == (("called for by", 3),)
    assert [line.value for line in page.others if line.name == "many"] == ["20 numbers, 0.5 to 0.5"]


def test_a_chart_needs_two_moments() -> None:
    one = Point(at=NOW, value=0.5)
    assert line_chart([], [], []) is None
    assert line_chart([one], [], []) is None
    assert line_chart([one, one], [], []) is None
    level = line_chart([one, Point(at=NOW + timedelta(days=1), value=0.5)], [], [])
    assert level is not None
    assert (level.band, level.reference, {dot.y for dot in level.dots}) == ("", "", {50.0})


def test_quantiles_of_a_histogram_say_when_they_are_beyond_its_bounds() -> None:
    found = of_buckets([(0.1, 98.0), (0.2, 98.0), (float("inf"), 100.0)])
    assert (found.calls, found.p99_s, found.is_beyond) == (100, 0.2, True)
    assert found.p50_s == pytest.approx(0.051, abs=1e-3)


def test_links_show_no_credentials_and_only_what_a_browser_opens() -> None:
    settings = Settings(
        mlflow={"url": "https://ann:secret@mlflow.example/x/"}, prefect={"url": "http://[::1]:4200/api"}
    )
    links = Links.of(settings)
    assert links.version("tip", "7") == "https://mlflow.example/x/#/models/tip/versions/7"
    assert links.flow_run("a") == "http://[::1]:4200/runs/flow-run/a"
    assert Links.of(Settings(mlflow={"url": "sqlite:///x.db"})).model("tip") == ""


def test_alerts_point_to_the_console_unless_told_otherwise() -> None:
    assert Settings().linked_alerts.link == "http://127.0.0.1:18080/console/decisions/{id}"
    assert Settings(console={"url": "https://ops.example/console/"}).linked_alerts.link == (
        "https://ops.example/console/decisions/{id}"
    )
    assert Settings(alerts={"link": "https://wiki/{id}"}).linked_alerts.link == "https://wiki/{id}"
    assert Settings(console={"enabled": False}).linked_alerts.link == ""
