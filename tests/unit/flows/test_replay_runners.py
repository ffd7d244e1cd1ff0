"""A task runner that is asked for and not installed is told with what to do about it, before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import PrefectSettings, ReplaySettings, Settings
from flows.replay import run_replay
from flows.replay_inputs import ReplaySpec
from tests.conftest import free_port


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_runner_that_is_not_installed_is_told_with_the_remedy(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    replay = ReplaySettings.model_validate({"task_runner": kind})
    settings = Settings(home=tmp_path, prefect=PrefectSettings(port=free_port()), replay=replay)
    spec = ReplaySpec("none", tmp_path, tmp_path, tmp_path, ("never",))

    with pytest.raises(SettingsError, match=rf"EVERGREEN_REPLAY__TASK_RUNNER is '{kind}'.*pip install prefect-{kind}"):
        run_replay(spec, settings)
