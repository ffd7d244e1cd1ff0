"""A whole replay by Prefect, on a server that lives as long as it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.settings import PrefectSettings, ReplaySettings, Settings
from flows.replay import FEATURES, TRAINING, run_replay
from flows.replay_inputs import ReplaySpec
from stack.demo import free_ports
from tests.replayed_use_case import DAY, START

POLICIES = ("never", "performance", "always", "oracle")
FILE = """
from dataclasses import replace
from tests.replayed_use_case import history, replayed

PAST = replayed(history(days=50)).use_case
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    models = tmp_path / "models"
    models.mkdir()
    (models / "replayed.py").write_text(FILE)
    settings = Settings(home=tmp_path / "home", models_dir=models, replay=ReplaySettings(workers=2))
    port = free_ports(settings)["prefect"].port  # nobody answers there
    return settings.model_copy(update={"prefect": PrefectSettings(port=port)})


def test_policies_are_replayed_side_by_side_and_trained_versions_are_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, tuple[int, int]] = {}
    spec = ReplaySpec(
        "replayed", settings.models_dir, settings.data_dir, settings.home, POLICIES, since=START + 10 * DAY
    )

    found = run_replay(spec, settings, lambda what, done, total: told.__setitem__(what, (done, total)))

    by_name = {outcome.policy: outcome for outcome in found.outcomes}
    assert tuple(by_name) == POLICIES
    assert by_name["always"].retrains == found.span.steps == 7
    assert by_name["never"].log_loss > by_name["always"].log_loss >= by_name["oracle"].log_loss
    assert all(outcome.regret >= 0 for outcome in found.outcomes)
    assert {FEATURES, TRAINING, "never", "performance", "always"} == set(told)
    assert all(done == total for what, (done, total) in told.items() if what != FEATURES)
    fits = list((settings.home / "replays" / "replayed" / "fits").glob("*.npz"))
    assert len(fits) == 8
    stamps = {path: path.stat().st_mtime_ns for path in fits}

    monkeypatch.setattr("flows.replay_inputs._inputs", {})  # as in another process
    again = run_replay(spec, settings)

    assert [outcome.log_loss for outcome in again.outcomes] == [outcome.log_loss for outcome in found.outcomes]
    assert {path: path.stat().st_mtime_ns for path in fits} == stamps
