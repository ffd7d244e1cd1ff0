from __future__ import annotations

import socket
from pathlib import Path

import pytest

from core.settings import RedisSettings, Settings
from stack.doctor import Finding, _pins, examine, pinned

ROOT = Path(__file__).resolve().parents[3]


def test_what_is_wrong_comes_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        settings = Settings(home=tmp_path, models_dir=tmp_path, redis=RedisSettings(port=number))
        findings = {finding.what: finding for finding in examine(settings)}
    assert findings["redis-server"].ok
    assert findings["Java"].ok
    assert findings["kind of Redis"].ok
    assert "EVERGREEN_MODELS_DIR" in findings["use cases"].detail
    assert "EVERGREEN_REDIS__PORT" in findings[f"port {number}"].detail


def test_packages_are_compared_with_the_pins(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("pytest==0.1  # old\nnonesuch[all]==1.2\n# note\n")
    (finding,) = _pins(tmp_path / "requirements.txt")
    assert not finding.ok
    assert "pytest is " in finding.detail
    assert "nonesuch is missing, 1.2 is pinned" in finding.detail
    assert "make install" in finding.detail


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert len(pinned("\n".join(lines))) == len(lines)


def test_an_installed_product_has_no_pins_to_compare(tmp_path: Path) -> None:
    assert list(_pins(tmp_path / "requirements.txt")) == [
        Finding("packages", True, "not installed from a source folder: nothing to compare with")
    ]
