"""What the page shows is a pure function of what is known."""

from __future__ import annotations

from typing import Any

import pytest

from core.use_case import UseCase
from serving.gateway.console.page import page
from serving.gateway.console.quality import Bounded
from serving.gateway.console.state import Found
from tests.unit.serving.gateway.console.recorded import NOW, deployment, entry, interval, ledger, look, state


def test_the_live_version_says_since_when_by_whom_and_why(use_case: UseCase) -> None:
    facts = ledger(promotions=(entry(9, "promotion", "promote", version="7"),))
    live = page(state(use_case, facts)).live
    assert live is not None
    assert (live.version, live.previous, live.generation, live.actor, live.reason, live.decision) == (
        "7", "6", 2, "ops (console)", "it is better", 9,
    )  # fmt: skip
    assert (NOW - live.since).days == 3


def test_traffic_tells_share_errors_and_latency_of_each_version(use_case: UseCase) -> None:
    champion, canary = page(state(use_case)).versions
    assert (champion.version, champion.role, champion.percent, champion.requests) == ("7", "champion", 95.0, 1000)
    assert champion.error_share == 0.01
    assert champion.latency.p50_s == pytest.approx(0.015)
    assert champion.latency.p99_s == pytest.approx(0.0199)
    assert (canary.version, canary.role, canary.percent, canary.error_share) == ("8", "canary", 5.0, 0.0)


def test_nothing_decided_yet_is_an_empty_page_and_no_fault(use_case: UseCase) -> None:
    found = page(state(use_case, ledger(deployments=())))
    assert (found.badge.words, found.live, found.performance, found.drift, found.cost) == (
        "no version yet", None, None, None, None,
    )  # fmt: skip
    assert (found.timeline, found.deliveries, found.notices, found.away) == ((), (), (), ())


def test_the_curve_has_a_window_per_look_and_late_labels_correct_it(use_case: UseCase) -> None:
    at = [look(i, days=i, loss=0.5).as_of.isoformat() for i in range(4)]
    losses = [{"at": at[2], "rows": 950, "log_loss": 0.61, "low": 0.6, "high": 0.62, "version": "6"},
              {"at": at[1], "rows": 800, "log_loss": 0.52}, {"at": at[0], "rows": 800, "log_loss": 0.51}]  # fmt: skip
    looks = (look(4, 0, 0.51, losses=losses), look(3, 1, 0.52), look(2, 2, 0.53), look(1, 3, 0.54))
    seen = page(state(use_case, ledger(looks=looks))).performance
    assert seen is not None and seen.log_loss is not None and seen.chart is not None
    assert [(p.log_loss.value, p.rows, p.is_corrected) for p in seen.curve] == [
        (0.54, 800, False), (0.61, 950, True), (0.52, 800, False), (0.51, 800, False),
    ]  # fmt: skip
    assert seen.curve[1].version == "6"
    assert (seen.log_loss.low, seen.log_loss.high) == (0.5, 0.52)
    assert [mark.name for mark in seen.chart.marks] == ["v7"]
    assert [dot.x for dot in seen.chart.dots] == [0.0, 33.33, 66.67, 100.0]
    assert all(0 <= y <= 100 for dot in seen.chart.dots for y in (dot.y, dot.y_low, dot.y_high) if y is not None)


def test_looks_of_an_older_release_are_shown_as_far_as_they_go(use_case: UseCase) -> None:
    old = [
        entry(i, "trigger", "wait", days=i, rows=900, version="7", reference_log_loss=0.5,
              performance={"rows": 800, "coverage": 1.0, "log_loss": 0.55, "auc": 0.7},
              drift={"rows": 900, "share": 0.1, "drifted": {"weekday": 0.46, "fare": 0.3}})
        for i in range(2)
    ]  # fmt: skip
    found = page(state(use_case, ledger(looks=tuple(old))))
    assert found.performance is not None and found.performance.log_loss is not None and found.drift is not None
    assert (found.performance.log_loss.value, found.performance.log_loss.low) == (0.55, None)
    assert [column.name for column in found.drift.ranked] == ["weekday", "fare"]


@pytest.mark.parametrize(
    ("drift", "names", "over"),
    [
        ({"over": [{"column": "a", "kind": "data", "effect": 0.3, "threshold": 0.2},
                   {"column": "b", "kind": "data", "effect": 0.5, "threshold": 0.1}]}, ["b", "a"], [True, True]),
        ({"over": [{"column": "a", "kind": "data", "effect": 0.3, "threshold": 0.2}],
          "scores": {"a": 4.0, "b": 1.0, "c": 6.0}}, ["a", "c", "b"], [True, False, False]),
    ],
)  # fmt: skip
def test_drift_is_ranked_what_is_over_its_threshold_first(
    use_case: UseCase, drift: dict[str, Any], names: list[str], over: list[bool]
) -> None:
    found = page(state(use_case, ledger(looks=(look(1, 0, 0.5, drift={"rows": 900, "columns": 3, **drift}),)))).drift
    assert found is not None
    assert [column.name for column in found.ranked] == names
    assert [column.is_over for column in found.ranked] == over


def test_what_waits_for_somebody_can_be_approved_from_the_page(use_case: UseCase) -> None:
    held = page(state(use_case, ledger(promotions=(entry(9, "promotion", "hold", version="8"),))))
    assert [(notice.approve, notice.entry) for notice in held.notices] == [("8", 9)]
    assert held.badge.words == "waits for approval"
    refused = page(state(use_case, ledger(promotions=(entry(9, "promotion", "refuse", version="8"),))))
    assert [(notice.approve, "refused" in notice.title) for notice in refused.notices] == [("", True)]
    over = ledger(promotions=(entry(9, "promotion", "hold", version="8"),), deployments=(deployment(3, "8", "7", 0),))
    assert page(state(use_case, over)).notices == ()


def test_faults_and_failures_need_attention(use_case: UseCase) -> None:
    fault = {"column": "fare", "kind": "nulls", "detail": "60 % are missing"}
    alert = {
        "use_case": "tip", "cause": "look/fault/nulls/fare", "severity": "page", "title": "nulls in fare",
        "reason": "60 % are missing", "decision_id": 4, "command": "evergreen explain 4", "lasts": True,
    }  # fmt: skip
    raised = entry(5, "alert", "raise", alert=alert, delivered={"prefect event": True})
    found = page(state(use_case, ledger(looks=(look(4, 0, 0.5, faults=[fault]),), alerts=(raised,))))
    assert [(notice.title, notice.entry) for notice in found.notices] == [("nulls in fare", 4)]
    assert found.badge.words == "needs attention"
    ended = entry(6, "alert", "end", cause="look/fault/nulls/fare")
    assert page(state(use_case, ledger(alerts=(ended, raised)))).notices == ()
    failed = page(state(use_case, ledger(deliveries=(entry(8, "delivery", "failed", stages=[]),))))
    assert [notice.title for notice in failed.notices] == ["The newest retrain failed"]


def test_deliveries_tell_their_stages_and_what_retraining_costs(use_case: UseCase) -> None:
    stages = [
        {"name": "data_checks", "status": "done", "started_at": "2026-11-26T11:00:00Z", "seconds": 2.0, "says": ""},
        {"name": "train", "status": "failed", "started_at": "2026-11-26T11:00:02Z", "seconds": 6.0, "says": "no"},
        {"name": "parity", "status": "skipped", "started_at": None, "seconds": None, "says": ""},
    ]
    first = entry(8, "delivery", "failed", stages=stages, decision_id="3", flow_run_id="abc", fit_s=5.0)
    older = entry(
        2, "delivery", "done", days=40, version="7", stages=[{"name": "train", "status": "done", "seconds": 10}]
    )
    found = page(state(use_case, ledger(deliveries=(first, older))))
    run = found.deliveries[0]
    assert run.fit_s == 5.0
    assert (run.outcome, run.seconds, run.called_by, run.link) == ("failed", 8.0, 3, "http://prefect/runs/flow-run/abc")
    assert [(s.name, s.status, s.begin, s.width) for s in run.stages] == [
        ("data checks", "done", 0.0, 25.0), ("train", "failed", 25.0, 75.0), ("parity", "skipped", 100.0, 0.0),
    ]  # fmt: skip
    assert found.cost is not None
    assert (found.cost.last_s, found.cost.typical_s, found.cost.lately, found.cost.lately_s) == (8.0, 9.0, 1, 8.0)


def test_without_deliveries_the_gates_tell_what_retraining_costs(use_case: UseCase) -> None:
    gates = (
        entry(3, "gate", "keep", compute_s=9.0),
        entry(2, "gate", "promote", compute_s=11.0),
        entry(1, "gate", "keep"),
    )
    cost = page(state(use_case, ledger(gates=gates))).cost
    assert cost is not None
    assert (cost.last_s, cost.typical_s, cost.known) == (9.0, 10.0, 2)


def test_the_next_runs_are_those_of_this_use_case_or_of_all(use_case: UseCase) -> None:
    found = page(state(use_case))
    assert [(job.name, job.at is not None) for job in found.jobs] == [
        ("retrain", True), ("look", False), ("batch features", False),
    ]  # fmt: skip
    assert found.jobs[0].at == NOW.replace(hour=17)
    assert found.retraining is not None and found.retraining.id == "c"


def test_routine_is_left_out_of_the_timeline(use_case: UseCase) -> None:
    newest = (look(4, 0, 0.5), entry(3, "audit", "pass"), entry(2, "gate", "keep"), entry(1, "materialize", "publish"))
    assert [row.id for row in page(state(use_case, ledger(newest=newest))).timeline] == [2]


@pytest.mark.parametrize("part", ["ledger", "features", "registry", "flows"])
def test_what_is_away_is_named_and_the_rest_is_shown(use_case: UseCase, part: str) -> None:
    found = page(state(use_case, ledger(looks=(look(1, 0, 0.5),)), **{part: Found(None, "it is away")}))
    assert [away.problem for away in found.away] == ["it is away"]
    assert (found.live is None) == (part == "ledger")
    assert (found.jobs == ()) == (part == "flows")
    assert [row.version for row in found.versions][:1] == ["7"]
    assert (found.performance is None) == (part == "ledger")


def test_an_interval_reads_as_one() -> None:
    assert str(Bounded(**interval(0.5))) == "0.5000 (0.4900 to 0.5100)"
