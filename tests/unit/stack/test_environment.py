from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import (
    GatewaySettings,
    RedisSettings,
    Settings,
    TorchserveSettings,
    inherited_environment,
    load_settings,
)
from stack.environment import absolute, child_environment, settings_environment, stack_marker

TEXT = st.text(string.ascii_letters + string.digits + " %\"'$:/@.-", max_size=30)


def test_threads_sleep_while_they_wait_unless_somebody_wants_it_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert child_environment(Settings())["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert child_environment(Settings())["OMP_WAIT_POLICY"] == "ACTIVE"


@given(url=TEXT, namespace=TEXT, key=TEXT, port=st.integers(1, 65535), timeout=st.floats(1e-6, 1e6))
def test_children_read_the_same_settings(url: str, namespace: str, key: str, port: int, timeout: float) -> None:
    settings = Settings(
        home="somewhere",
        clock="event",
        redis=RedisSettings(url=url, namespace=namespace, port=port),
        gateway=GatewaySettings(api_key=key, timeout_s=timeout),
        torchserve=TorchserveSettings(response_timeout_s=int(timeout) + 1),
        databases={namespace: url},
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in inherited_names():
            patch.delenv(name, raising=False)
        for name, value in settings_environment(settings).items():
            patch.setenv(name, value)
        assert load_settings() == absolute(settings)


def inherited_names() -> list[str]:
    import os

    return [name for name in os.environ if name.startswith("EVERGREEN_")]


def test_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environment = settings_environment(Settings(home="state", models_dir="models", data_dir="data"))
    folders = [environment[f"EVERGREEN_{name}"] for name in ("HOME", "MODELS_DIR", "DATA_DIR")]
    assert folders == [str(tmp_path / name) for name in ("state", "models", "data")]


def test_own_variables_of_the_caller_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_REDIS__PORT", "1")
    monkeypatch.setenv("SOMETHING_ELSE", "2")
    assert "EVERGREEN_REDIS__PORT" not in inherited_environment()
    assert child_environment(Settings())["SOMETHING_ELSE"] == "2"
    settings = Settings(redis=RedisSettings(port=2))
    assert child_environment(settings)["EVERGREEN_REDIS__PORT"] == "2"


def test_each_home_has_its_own_marker(tmp_path: Path) -> None:
    assert stack_marker(Settings(home=tmp_path / "a")) != stack_marker(Settings(home=tmp_path / "b"))
