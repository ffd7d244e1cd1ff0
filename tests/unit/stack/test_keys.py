"""The commands of ``evergreen keys``."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from core.clock import SystemClock, parse_moment
from core.ledger import Ledger
from serving.keys.key import digest_of
from serving.keys.sql_store import SqlKeyStore
from tests.unit.stack.test_cli import evergreen

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVERGREEN_MODELS_DIR", str(ROOT / "models"))
    return f"sqlite:///{tmp_path / 'home' / 'ledger.db'}"


@pytest.mark.parametrize("command", ["create", "list", "rotate", "revoke"])
def test_every_command_of_the_keys_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("keys", command, "--help") == 0
    assert f"Usage: evergreen keys {command}" in capsys.readouterr().out


def test_a_secret_is_shown_once(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("keys", "create", "shop", "--scopes", "predict, feedback", "--rate", "5", "--expires", "2d") == 0
    *_, secret = capsys.readouterr().out.split()
    with closing(SqlKeyStore(url)) as store:
        (key,) = store.read()
    assert key.digest == digest_of(secret.encode())
    assert (key.rate_per_s, key.quota_per_day, key.use_cases) == (5, None, frozenset())
    assert key.expires_at is not None
    assert timedelta(days=1, hours=23) < key.expires_at - SystemClock().now() <= timedelta(days=2)
    assert evergreen("keys", "list") == 0
    said = capsys.readouterr().out
    assert key.id in said and "predict, feedback" in said and secret not in said


def test_a_key_is_rotated_and_revoked(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("keys", "create", "ops", "--scopes", "admin", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert evergreen("keys", "rotate", first["id"], "--overlap", "30min", "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert second["api_key"].startswith(f"eg_{second['id']}_")
    assert evergreen("keys", "revoke", second["id"]) == 0
    capsys.readouterr()
    assert evergreen("keys", "list", "--json") == 0
    old, new = json.loads(capsys.readouterr().out)
    assert (old["replaced_by"], old["state"], new["state"]) == (second["id"], "live", "revoked")
    left = parse_moment(old["expires_at"]) - SystemClock().now()
    assert timedelta(minutes=29) < left <= timedelta(minutes=30)
    with closing(Ledger(url)) as ledger:
        entries = ledger.entries(kind="admin")
    assert [entry.action for entry in reversed(entries)] == ["create_key", "rotate_key", "revoke_key", "list_keys"]
    assert all(entry.actor.endswith("(evergreen)") for entry in entries)


def test_what_is_not_there_is_1_and_recorded(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("keys", "revoke", "0" * 12) == 1
    assert evergreen("keys", "rotate", "nonesuch") == 1
    assert "There is no key 'nonesuch'" in capsys.readouterr().err
    with closing(Ledger(url)) as ledger:
        assert [entry.evidence["outcome"] for entry in ledger.entries(kind="admin")] == ["refused"] * 2


@pytest.mark.parametrize(("options", "named"), [
    (("--scopes", "all"), "predict, feedback, events, admin"),
    (("--scopes", "predict", "--use-cases", "nonesuch"), "taxi_tip"),
    (("--scopes", "predict", "--rate", "-1"), "rate_per_s"),
    (("--scopes", "predict", "--quota", "0"), "quota_per_day"),
    (("--scopes", "predict", "--expires", "tomorrow"), "ISO 8601"),
    (("--scopes", "predict", "--expires", "999999999d"), "ISO 8601"),
    (("--scopes", "predict", "--expires", "2001-01-01"), "future"),
    ((), "scopes"),
])  # fmt: skip
def test_wrong_usage_is_2_and_names_what_is_allowed(
    options: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evergreen("keys", "create", "shop", *options) == 2
    assert named in capsys.readouterr().err


def test_a_duration_has_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert evergreen("keys", "rotate", "0" * 12, "--overlap", "24") == 2
    assert "24h, 30min or 7d" in capsys.readouterr().err
