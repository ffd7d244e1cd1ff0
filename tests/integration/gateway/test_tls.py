"""A gateway that speaks TLS."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from core.settings import Settings
from stack.probes import gateway_alive
from tests.certificate import make_certificate
from tests.integration.gateway.conftest import ROOT, USE_CASE
from tests.waiting import until_up


def test_a_gateway_with_a_certificate_speaks_tls_alone(tmp_path: Path, port: int, redis_server: str) -> None:
    cert, key = make_certificate(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tip.py").write_text(USE_CASE)
    settings = Settings(
        home=tmp_path / "home",
        models_dir=tmp_path / "models",
        redis={"url": redis_server},
        gateway={"port": port, "tls_cert": str(cert), "tls_key": str(key)},
    )
    values = {
        "HOME": str(settings.home),
        "MODELS_DIR": str(settings.models_dir),
        "REDIS__URL": redis_server,
        "GATEWAY__PORT": str(port),
        "GATEWAY__TLS_CERT": str(cert),
        "GATEWAY__TLS_KEY": str(key),
    }
    environment = {**os.environ, **{f"EVERGREEN_{name}": value for name, value in values.items()}}
    process = subprocess.Popen([sys.executable, "-m", "serving.gateway.main"], cwd=ROOT, env=environment)
    try:
        alive = gateway_alive(settings)
        until_up(process, lambda: alive(datetime.now(UTC)))
        trusting = ssl.create_default_context(cafile=str(cert))
        client = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=20)
        client.request("GET", "/v1/models")
        answer = client.getresponse()
        assert (answer.status, b"tip" in answer.read()) == (200, True)
        client.close()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
