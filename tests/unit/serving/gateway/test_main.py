from __future__ import annotations

import socket
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.ledger import Ledger
from core.settings import Settings
from serving.gateway import main as gateway_main
from serving.gateway.main import listen, main, require_key_beyond_loopback
from serving.keys.key import Key
from serving.keys.sql_store import SqlKeyStore


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    require_key_beyond_loopback(Settings(gateway={"host": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_beyond_loopback_a_key_is_needed(host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(home=tmp_path, gateway={"host": host})
    with pytest.raises(SettingsError, match=r"evergreen keys create NAME .* EVERGREEN_GATEWAY__API_KEY"):
        require_key_beyond_loopback(settings)
    require_key_beyond_loopback(Settings(home=tmp_path, gateway={"host": host, "api_key": "k"}))
    assert "in the clear" in caplog.text


def test_a_live_key_of_the_database_will_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, gateway={"host": "0.0.0.0"})
    with closing(Ledger(settings.ledger_url)) as ledger, closing(SqlKeyStore(settings.ledger_url)) as store:
        ledger.migrate()
        now = datetime.now(UTC)
        store.add(Key("0123456789ab", "shop", "", frozenset({"predict"}), frozenset(), None, None, created_at=now))
        require_key_beyond_loopback(settings)
        store.revoke("0123456789ab", now)
    with pytest.raises(SettingsError, match="there is no API key"):
        require_key_beyond_loopback(settings)


def test_a_database_that_is_away_does_not_keep_a_closed_gateway_from_starting(tmp_path: Path) -> None:
    away = "postgresql+psycopg://127.0.0.1:1/ledger"
    require_key_beyond_loopback(Settings(home=tmp_path, gateway={"host": "0.0.0.0"}, ledger={"url": away}))


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
