"""TLS at the gateway's door: by setting, and refused with the reason where it cannot work."""

from __future__ import annotations

import ssl
from pathlib import Path

from core.errors import SettingsError
from core.settings import Settings

CERT, KEY = "EVERGREEN_GATEWAY__TLS_CERT", "EVERGREEN_GATEWAY__TLS_KEY"


class _Encrypted(Exception):
    """The private key asks for a password."""


def tls_options(settings: Settings) -> dict[str, str]:
    """What uvicorn must be told to speak TLS; nothing if it is not set.

    Raises:
        SettingsError: if a file is missing, cannot be read or used, or the two do not belong together.
    """
    cert, key = settings.gateway.tls_cert, settings.gateway.tls_key
    if not cert and not key:
        return {}
    if not cert or not key:
        present, missing = (CERT, KEY) if cert else (KEY, CERT)
        raise SettingsError(f"{present} is set and {missing} is not. Set both to speak TLS, or neither.")
    for name, path in ((CERT, cert), (KEY, key)):
        _require_readable(name, Path(path))
    _require_matching(cert, key)
    return {"ssl_certfile": cert, "ssl_keyfile": key}


def _require_readable(name: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{name} is {path}, which cannot be read ({error.strerror or error}). "
            "Name a PEM file that the gateway's user may read."
        ) from error


def _require_matching(cert: str, key: str) -> None:
    def asked_for_password() -> str:
        raise _Encrypted

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, asked_for_password)
    except _Encrypted as error:
        raise SettingsError(f"{KEY} is {key}, which is encrypted. Name a key without a password.") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"The private key {key} does not belong to the certificate {cert}. "
                f"Set {CERT} and {KEY} to files that were made together; the server's own certificate comes first."
            ) from error
        raise SettingsError(
            f"{CERT} {cert} and {KEY} {key} cannot be used ({error.reason or error}). "
            "Both must be PEM: the certificate with its chain, and its private key."
        ) from error
