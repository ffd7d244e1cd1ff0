from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import SettingsError
from core.settings import Settings
from serving.gateway.tls import tls_options
from stack.environment import absolute
from tests.certificate import make_certificate


def with_files(cert: Path | str, key: Path | str) -> Settings:
    return Settings(gateway={"tls_cert": str(cert), "tls_key": str(key)})


def test_without_files_there_is_no_tls() -> None:
    assert tls_options(Settings()) == {}
    assert Settings().gateway_url == "http://127.0.0.1:18080"


def test_both_files_are_handed_to_the_server(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    settings = with_files(cert, key)
    assert tls_options(settings) == {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}
    assert settings.gateway_url == "https://127.0.0.1:18080"


def test_what_cannot_work_is_said_with_the_setting(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    other, other_key = make_certificate(tmp_path, "other")
    _, locked = make_certificate(tmp_path, "locked", password=b"s3cret")
    (tmp_path / "empty.pem").write_text("")
    for settings, said in (
        (with_files(cert, ""), "TLS_CERT is set and EVERGREEN_GATEWAY__TLS_KEY is not"),
        (with_files("", key), "TLS_KEY is set and EVERGREEN_GATEWAY__TLS_CERT is not"),
        (with_files(tmp_path / "nowhere", key), "TLS_CERT is .*nowhere, which cannot be read .No such file"),
        (with_files(cert, tmp_path), "TLS_KEY is .*, which cannot be read"),
        (with_files(cert, other_key), "does not belong to the certificate"),
        (with_files(other, key), "does not belong to the certificate"),
        (with_files(cert, tmp_path / "empty.pem"), "Both must be PEM"),
        (with_files(key, key), "Both must be PEM"),
        (with_files(cert, locked), "encrypted"),
    ):
        with pytest.raises(SettingsError, match=said):
            tls_options(settings)


def test_other_processes_find_the_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = absolute(with_files("a.pem", "a.key"))
    assert (settings.gateway.tls_cert, settings.gateway.tls_key) == (str(tmp_path / "a.pem"), str(tmp_path / "a.key"))
    assert absolute(Settings()).gateway.tls_cert == ""
