from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs

from core.errors import StackError
from core.settings import Settings
from stack.supervision import Supervisor, _quoted, _section, _socket_path


@pytest.mark.parametrize("value", ["plain", "", "a,b=c", 'say "x"', "it's", "100 %", "https://host:1/p?q=1"])
def test_variables_survive_supervisords_parser(value: str) -> None:
    assert dict_of_key_value_pairs(f"A={_quoted('A', value)},B='2'") == {"A": value.strip("'\""), "B": "2"}


@pytest.mark.parametrize("value", ["\"'", "two\nlines"])
def test_a_variable_that_cannot_be_passed_is_refused(value: str) -> None:
    with pytest.raises(StackError, match="SECRET holds"):
        _quoted("SECRET", value)


def test_percent_signs_survive() -> None:
    parser = ConfigParser()
    parser.read_string(_section("program:x", {"directory": "/a %b/c"}))
    assert parser["program:x"]["directory"] == "/a %b/c"


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    assert _socket_path(Path("/home/ops/run"), "abc") == Path("/home/ops/run/supervisor.sock")
    short = _socket_path(tmp_path / ("x" * 120), "abc")
    assert len(str(short)) < 104
    assert "abc" in str(short)


def test_restarts_are_counted_since_the_last_start(tmp_path: Path) -> None:
    supervisor = Supervisor(Settings(home=tmp_path))
    supervisor.logs.mkdir()
    spawned = "INFO spawned: '{}' with pid 1\n"
    supervisor.log_file("supervisord").write_text(
        spawned.format("a") * 9 + "supervisord started with pid 7\n" + spawned.format("a") * 3 + spawned.format("b")
    )
    assert supervisor.restarts() == {"a": 2, "b": 0}


def test_the_end_of_a_log_is_shown(tmp_path: Path) -> None:
    supervisor = Supervisor(Settings(home=tmp_path))
    assert supervisor.last_lines("redis") == ""
    supervisor.logs.mkdir()
    supervisor.log_file("redis").write_text("\n".join(str(number) for number in range(9000)) + "\n")
    assert supervisor.last_lines("redis", 2) == "8998\n8999"


def test_without_a_supervisor_there_is_nothing_to_ask(tmp_path: Path) -> None:
    supervisor = Supervisor(Settings(home=tmp_path))
    assert supervisor.pid() is None
    with pytest.raises(StackError, match=r"does not answer .*evergreen up"):
        supervisor.states()
