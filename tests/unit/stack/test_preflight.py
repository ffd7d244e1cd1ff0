from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from core.errors import StackError
from core.settings import RedisSettings, Settings
from stack.preflight import require_free, require_package, require_redis_kind, require_use_cases, require_writable
from stack.processes import Port


def test_a_port_in_use_names_its_user_and_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        expected = (
            rf"Port {number} on 127.0.0.1, which redis needs, cannot be used .*: process {os.getpid()} .*"
            r"or set EVERGREEN_REDIS__PORT to another port\."
        )
        with pytest.raises(StackError, match=expected):
            require_free("redis", Port(number, "EVERGREEN_REDIS__PORT"))


def test_a_free_port_is_fine(port: int) -> None:
    require_free("redis", Port(port, "EVERGREEN_REDIS__PORT"))


def test_an_unwritable_home_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot be written .*set EVERGREEN_HOME to a folder that is"):
        require_writable(tmp_path / "file" / "home")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.preflight._FREE_BYTES", 10**18)
    with pytest.raises(StackError, match=r"GB left, 1 GB is needed"):
        require_writable(tmp_path)


def test_a_folder_without_use_cases_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "_private.py").write_text("")
    with pytest.raises(StackError, match=r"There is no use case in .*EVERGREEN_MODELS_DIR"):
        require_use_cases(tmp_path)


def test_a_missing_package_names_the_remedy() -> None:
    with pytest.raises(StackError, match=r"The package nonesuch is not installed .* make install"):
        require_package("nonesuch")


def test_a_cluster_is_not_started_here() -> None:
    require_redis_kind(Settings())
    with pytest.raises(StackError, match=r"EVERGREEN_REDIS__CLUSTER is true.*Set EVERGREEN_REDIS__URL to a node"):
        require_redis_kind(Settings(redis=RedisSettings(cluster=True)))


@pytest.mark.slow  # a cluster takes seconds to find itself
def test_a_redis_of_the_other_kind_is_said(redis_server: str, redis_cluster: str) -> None:
    require_redis_kind(Settings(redis=RedisSettings(url=redis_server)))
    require_redis_kind(Settings(redis=RedisSettings(url=redis_cluster, cluster=True)))
    require_redis_kind(Settings(redis=RedisSettings(url="redis://127.0.0.1:1/0", cluster=True)))
    with pytest.raises(StackError, match=r"is no cluster, but EVERGREEN_REDIS__CLUSTER is true\. Set it to false"):
        require_redis_kind(Settings(redis=RedisSettings(url=redis_server, cluster=True)))
    with pytest.raises(StackError, match=r"is a cluster, but EVERGREEN_REDIS__CLUSTER is false\. Set it to true"):
        require_redis_kind(Settings(redis=RedisSettings(url=redis_cluster)))
