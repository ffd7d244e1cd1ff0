"""Settings come from the environment, are frozen, and say what is wrong with them."""

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.errors import SettingsError
from core.settings import GatewaySettings, MlflowSettings, Settings, WebhookSettings, load_settings


def test_nested_groups_are_set_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_GATEWAY__PORT", "9999")
    monkeypatch.setenv("EVERGREEN_REDIS__URL", "redis://elsewhere:6379/1")
    settings = load_settings()
    assert settings.gateway_url == "http://127.0.0.1:9999"
    assert settings.redis_url == "redis://elsewhere:6379/1"


def test_a_malformed_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_GATEWAY__PORT", "ninety")
    with pytest.raises(SettingsError, match="EVERGREEN_GATEWAY__PORT"):
        load_settings()


def test_a_worker_that_would_be_killed_within_a_deadline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_GATEWAY__TIMEOUT_S", "30")
    with pytest.raises(SettingsError, match=r"EVERGREEN_TORCHSERVE__RESPONSE_TIMEOUT_S is 30.*GATEWAY__TIMEOUT_S"):
        load_settings()
    monkeypatch.setenv("EVERGREEN_TORCHSERVE__RESPONSE_TIMEOUT_S", "31")
    assert load_settings().gateway.timeout_s == 30


def test_the_signing_secret_is_made_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    secret = settings.signing_secret()
    assert len(secret) == 32
    assert settings.signing_secret() == secret
    assert (tmp_path / "secrets" / "prediction-ids").stat().st_mode & 0o077 == 0


def test_the_webhooks_secrets_are_made_once_unless_one_is_given(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.webhook_secret() == settings.webhook_secret() != settings.webhook_encryption_key()
    assert len(base64.urlsafe_b64decode(settings.webhook_encryption_key())) == 32
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "secrets").iterdir())
    given = WebhookSettings(secret=SecretStr("given"))
    assert Settings(home=tmp_path, webhook=given).webhook_secret() == "given"


@pytest.mark.parametrize(
    ("mlflow", "webhook", "receiver"),
    [
        ("", "", "http://127.0.0.1:1234/v1/webhooks/mlflow"),
        ("https://mlflow.example", "", ""),
        ("https://mlflow.example", "https://door.example/", "https://door.example/v1/webhooks/mlflow"),
    ],
)
def test_webhooks_are_sent_to_where_mlflow_reaches_the_gateway(mlflow: str, webhook: str, receiver: str) -> None:
    settings = Settings(
        gateway=GatewaySettings(port=1234), mlflow=MlflowSettings(url=mlflow), webhook=WebhookSettings(url=webhook)
    )
    assert settings.webhook_receiver == receiver


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="EVERGREEN_HOME"):
        Settings(home=tmp_path / "file").signing_secret()
