"""Log lines, as people and machines get them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from core.logs import configure_logging, run_id_var, use_case_var, version_var


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Leave the root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_text_is_one_line_with_the_use_case(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    token = use_case_var.set("toy")
    logging.getLogger("somewhere").info("%d things", 3)
    use_case_var.reset(token)
    logging.getLogger("somewhere").debug("nothing")
    (line,) = lines(capsys)
    assert line.endswith("INFO somewhere [toy] 3 things")


def test_json_carries_what_is_known_and_leaves_out_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    tokens = [(variable, variable.set(value)) for variable, value in ((use_case_var, "toy"), (version_var, "7"))]
    logging.getLogger("somewhere").warning("slow: %s", "ü", extra={"prediction_ids": ["a"], "version": "8"})
    for variable, token in tokens:
        variable.reset(token)
    token = run_id_var.set("r1")
    logging.getLogger("elsewhere").info("two\nlines")
    run_id_var.reset(token)
    first, second = (json.loads(line) for line in lines(capsys))
    assert first.pop("at").endswith("+00:00")
    assert first == {
        "level": "WARNING", "logger": "somewhere", "message": "slow: ü",
        "use_case": "toy", "version": "8", "prediction_ids": ["a"],
    }  # fmt: skip
    assert (second["message"], second["run_id"], "use_case" in second) == ("two\nlines", "r1", False)


def test_json_carries_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        raise ValueError("no good")
    except ValueError:
        logging.getLogger("somewhere").exception("failed", extra={"odd": {1, 2}})
    (line,) = lines(capsys)
    assert "ValueError: no good" in json.loads(line)["exception"]
    assert json.loads(line)["odd"] == "{1, 2}"
