"""Ports of loopback, and who answers on them."""

from __future__ import annotations

import http.client
import socket

from bench.http_bytes import HOST

_PATIENCE_S = 5.0


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> bool:
    """Whether a POST of JSON is answered with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})
        return connection.getresponse().status == 200
    finally:
        connection.close()
