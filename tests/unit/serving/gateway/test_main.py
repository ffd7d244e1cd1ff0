from __future__ import annotations

import socket
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import Settings
from serving.gateway import main as gateway_main
from serving.gateway.main import listen, main, require_key_beyond_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    require_key_beyond_loopback(Settings(gateway={"host": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_beyond_loopback_a_key_is_needed(host: str) -> None:
    with pytest.raises(SettingsError, match="EVERGREEN_GATEWAY__API_KEY"):
        require_key_beyond_loopback(Settings(gateway={"host": host}))
    require_key_beyond_loopback(Settings(gateway={"host": host, "api_key": "k"}))


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}.*EVERGREEN_GATEWAY__PORT"):
            listen("127.0.0.1", port)


def test_a_start_that_is_not_allowed_exits_2_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(home=tmp_path, models_dir=tmp_path, gateway={"host": "0.0.0.0"})
    monkeypatch.setattr(gateway_main, "load_settings", lambda: settings)
    monkeypatch.setattr(gateway_main, "configure_logging", lambda *_: None)
    assert main() == 2
    assert "EVERGREEN_GATEWAY__API_KEY" in capsys.readouterr().err
