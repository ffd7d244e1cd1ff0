"""A real supervisord over real processes: Redis and the stream worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from core.errors import StackError
from core.settings import RedisSettings, Settings, StreamSettings
from stack.environment import STACK_MARKER, stack_marker
from stack.local import LocalStack
from stack.probes import alive_for
from stack.processes import Command, Process, declared_processes
from stack.status import read_status
from stack.sweep import members
from tests.conftest import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
USE_CASE = """
from datetime import timedelta
from core.use_case import EventSource, Field, History, Label, UseCase
from features.definitions import Aggregate, FeatureSet, WindowView
view = WindowView(
    name="v", entity="shop", source="sales", tile=timedelta(minutes=1), windows=(timedelta(hours=1),),
    aggregates=(Aggregate(name="n", kind="count"),),
)
use_case = UseCase(
    name="sale", description="", entities=(Field(name="shop", dtype="int"),), request=(),
    sources=(EventSource(name="sales", fields=(Field(name="shop", dtype="int"),)),), features=FeatureSet((view,)),
    label=Label(name="sold", horizon=timedelta(days=1), known_only_after=()),
    estimator=lambda columns: None, history=lambda folder: History(None, None, {}),
)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sale.py").write_text(USE_CASE)
    return Settings(
        home=tmp_path / "home",
        models_dir=tmp_path / "models",
        redis=RedisSettings(port=free_port()),
        stream=StreamSettings(port=free_port()),
    )


@pytest.fixture
def stack(settings: Settings) -> Iterator[LocalStack]:
    stack = LocalStack(settings, some("redis", "stream-worker"))
    yield stack
    stack.down()
    assert members(settings) == []


def some(*names: str) -> Callable[[Settings], list[Process]]:
    return lambda settings: [process for process in declared_processes(settings) if process.name in names]


def test_up_survives_kills_and_down_leaves_nothing(stack: LocalStack, settings: Settings) -> None:
    seen: list[tuple[str, str]] = []
    started = stack.up(lambda name, state: seen.append((name, state)))
    assert not started.already_up
    assert {name for name, state in seen if state == "ready"} == {"redis", "stream-worker"}
    assert stack.up().already_up

    client = redis.Redis.from_url(settings.redis_url)
    for number in range(100):
        client.set(f"kept-{number}", number)
    before = stack.supervisor.states()
    for state in before.values():
        os.kill(state.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = stack.supervisor.states()
        return all(now[name].state == "RUNNING" and now[name].pid != state.pid for name, state in before.items())

    until(is_back, "the killed processes did not come back")
    assert len(client.keys("kept-*")) == 100
    client.close()
    assert stack.supervisor.restarts() == {"redis": 1, "stream-worker": 1}

    pids = [state.pid for state in stack.supervisor.states().values()] + [stack.supervisor.pid()]
    assert stack.down() == []
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert not stack.is_up()


def test_what_a_killed_supervisor_leaves_behind_is_ended(stack: LocalStack, settings: Settings) -> None:
    stack.up()
    supervisor = psutil.Process(stack.supervisor.pid())
    supervisor.kill()
    until(lambda: not stack.is_up(), "the supervisor lives")
    assert members(settings)
    assert not stack.up().already_up
    os.kill(stack.supervisor.pid() or 0, signal.SIGKILL)
    until(lambda: not stack.is_up(), "the supervisor lives")
    assert any("redis-server" in ended for ended in stack.down())
    assert members(settings) == []


def test_two_stacks_run_side_by_side(stack: LocalStack, settings: Settings) -> None:
    other_settings = settings.model_copy(
        update={"home": settings.home.with_name("other"), "redis": RedisSettings(port=free_port())}
    )
    other = LocalStack(other_settings, some("redis"))
    stack.up()
    try:
        other.up()
        stack.down()
        assert other.is_up()
        assert [process.name() for process in members(other_settings)].count("redis-server") == 1
    finally:
        other.down()


def test_a_port_in_use_is_said_before_anything_starts(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.redis.port)):
        stack = LocalStack(settings, some("redis"))
        with pytest.raises(StackError, match=r"which redis needs, cannot be used .*EVERGREEN_REDIS__PORT"):
            stack.up()
    assert members(settings) == []


def test_a_process_that_ends_at_once_is_named_with_its_last_words(settings: Settings) -> None:
    argv = (sys.executable, "-c", "import sys; sys.exit('the disk is on fire')")
    broken = Process(name="broken", command=lambda: Command(argv, ROOT), ready=alive_for(5))
    stack = LocalStack(settings, lambda found: [*some("redis")(found), broken])
    with pytest.raises(StackError, match=r"broken ends again and again[\s\S]*the disk is on fire"):
        stack.up()
    assert not stack.is_up()
    assert members(settings) == []


def test_a_program_that_is_not_there_is_named(settings: Settings) -> None:
    broken = Process(name="broken", command=lambda: Command(("/nonesuch",), ROOT), ready=alive_for(5))
    with pytest.raises(StackError, match=r"broken cannot be started \(can't find command '/nonesuch'\)"):
        LocalStack(settings, lambda found: [broken]).up()


def test_changed_settings_need_a_restart(stack: LocalStack, settings: Settings) -> None:
    stack.up()
    changed = settings.model_copy(update={"log_level": "DEBUG"})
    with pytest.raises(StackError, match=r"runs with other settings\. Run: evergreen down"):
        LocalStack(changed, some("redis", "stream-worker")).up()


def test_a_stopped_process_is_started_by_up(stack: LocalStack) -> None:
    stack.up()
    stack.supervisor.stop(["stream-worker"])
    assert not stack.up().already_up
    assert stack.supervisor.states()["stream-worker"].state == "RUNNING"


def test_status_tells_the_truth(stack: LocalStack, settings: Settings) -> None:
    stack.up()
    stack.supervisor.stop(["stream-worker"])
    found = {process.name: process for process in read_status(settings).processes}
    assert (found["redis"].state, found["redis"].healthy) == ("running", True)
    assert found["redis"].pid == stack.supervisor.states()["redis"].pid
    assert (found["stream-worker"].state, found["stream-worker"].healthy) == ("stopped", False)
    assert (found["mlflow"].state, found["mlflow"].pid) == ("not started", None)
    assert read_status(settings).stack == "degraded"


def test_a_child_in_a_session_of_its_own_does_not_escape(settings: Settings) -> None:
    environment = {STACK_MARKER: stack_marker(settings)}
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    argv = [sys.executable, "-c", stubborn]
    with subprocess.Popen(argv, env=environment, start_new_session=True, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"deaf\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stack.sweep._PATIENCE_S", 0.5)
            ended = LocalStack(settings, some("redis")).down()
    assert [entry.split()[0] for entry in ended] == [str(child.pid)]
    assert not psutil.pid_exists(child.pid)


def test_the_command_itself(settings: Settings) -> None:
    """`evergreen status --json` in a process of its own, as scripts call it."""
    environment = {"EVERGREEN_HOME": str(settings.home), "EVERGREEN_MODELS_DIR": str(settings.models_dir), "PATH": ""}
    argv = [sys.executable, "-m", "stack.cli", "status", "--json"]
    found = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stderr
    assert json.loads(found.stdout)["stack"] == "down"
