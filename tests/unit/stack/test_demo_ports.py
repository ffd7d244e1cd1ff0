"""The demo runs beside a stack of its user's: other ports where the usual ones are taken."""

from __future__ import annotations

import socket
from pathlib import Path

from core.settings import Settings, StreamSettings
from stack.demo import _demo_settings, _variables, free_ports


def test_a_port_that_is_taken_is_replaced_and_one_that_is_free_stays(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        moved = free_ports(Settings(stream=StreamSettings(port=number)))
        assert moved["stream"].port != number
    assert free_ports(Settings(stream=StreamSettings(port=port)))["stream"].port == port


def test_the_demo_writes_in_larger_pieces_whatever_its_ports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = Settings(stream=StreamSettings(port=taken.getsockname()[1], max_entries=5000))
        demo = _demo_settings(usual, tmp_path / "demo")
    assert demo.stream.port != usual.stream.port
    assert (demo.stream.flush_every_s, demo.stream.max_entries) == (20.0, 5000)
    assert _variables(usual, demo)["EVERGREEN_STREAM__PORT"] == str(demo.stream.port)
