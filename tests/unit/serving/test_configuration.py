from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import RedisSettings, Settings, TorchserveSettings
from serving.torchserve.configuration import home, launch, store


def properties(folder: Path) -> dict[str, str]:
    lines = (folder / "config.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_torchserve_is_closed_to_everybody_but_the_project(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, torchserve=TorchserveSettings(inference_port=5001, management_port=5002))
    launch(settings)
    written = properties(home(settings))
    assert written["inference_address"] == "http://127.0.0.1:5001"
    assert written["management_address"] == "http://127.0.0.1:5002"
    assert {written[f"grpc_{api}_address"] for api in ("inference", "management")} == {"127.0.0.1"}
    assert written["disable_token_authorization"] == "false"
    assert written["enable_envvars_config"] == written["use_env_allowed_urls"] == "false"
    assert written["allowed_urls"] == f"{store(settings).as_uri()}/.*"
    assert "load_models" not in written
    assert store(settings).stat().st_mode & 0o077 == 0


def test_workers_get_complete_settings_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    redis = RedisSettings(url="redis://:secret@elsewhere:1/0", namespace="other")
    plan = launch(Settings(home=Path("relative"), redis=redis, clock="event"))
    assert plan.cwd == tmp_path / "relative" / "torchserve"
    assert plan.env["EVERGREEN_HOME"] == str(tmp_path / "relative")
    assert plan.env["EVERGREEN_REDIS__URL"] == "redis://:secret@elsewhere:1/0"
    assert plan.env["EVERGREEN_REDIS__NAMESPACE"] == "other"
    assert plan.env["EVERGREEN_CLOCK"] == "event"
    path = [Path(part) for part in plan.env["PYTHONPATH"].split(os.pathsep)]
    assert any((part / "serving" / "torchserve" / "handler.py").exists() for part in path)
    assert not any("secret" in argument for argument in plan.argv)


@pytest.mark.slow
def test_workers_start_without_torch_and_get_the_real_one_when_they_ask_for_it(tmp_path: Path) -> None:
    """As TorchServe starts them: its worker's file is run by name, with our path in the environment."""
    worker = tmp_path / "model_service_worker.py"
    worker.write_text(
        "import sys, ts.model_service_worker, serving.torchserve.handler\n"
        "print('torch' in sys.modules)\n"
        "import torch\n"
        "print(torch.nn.Linear(2, 1).weight.shape[1])\n"
    )
    path = launch(Settings(home=tmp_path / "h")).env["PYTHONPATH"]
    environment = {**os.environ, "PYTHONPATH": path}
    run = subprocess.run([sys.executable, str(worker)], env=environment, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["False", "2"], run.stderr


def test_a_deep_home_gets_a_short_folder_for_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    temp = next(a for a in launch(Settings(home=deep)).argv if a.startswith("-Djava.io.tmpdir=")).split("=")[1]
    assert len(temp) < 80 and Path(temp).stat().st_mode & 0o077 == 0
    Path(temp).rmdir()
    shallow = Settings(home=Path("/tmp/e"))
    assert "/tmp/e/torchserve/tmp" in str(launch(shallow).argv)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "h")
    plan = launch(settings)
    temp = Path(next(a for a in plan.argv if a.startswith("-Djava.io.tmpdir=")).split("=")[1])
    (temp / "models").mkdir()
    launch(settings)
    assert list(temp.iterdir()) == []


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="EVERGREEN_HOME"):
        launch(Settings(home=tmp_path / "file"))
