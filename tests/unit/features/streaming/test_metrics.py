"""What a stream worker tells Prometheus."""

from __future__ import annotations

import socket

import pytest

from core.errors import SettingsError
from features.streaming.metrics import StreamMetrics


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="EVERGREEN_STREAM__PORT"):
            StreamMetrics().serve(taken.getsockname()[1])
