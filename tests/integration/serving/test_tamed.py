"""What TorchServe would do to its users, and does not: against a real one, behind a real gateway and deployer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from core.errors import DependencyDown, DeploymentError
from serving.torchserve.configuration import key_file, store
from serving.torchserve.packer import pack
from serving.torchserve.tokens import Tokens
from stack.probes import torchserve_healthy, versions_answer
from tests.recording_client import RecordingClients
from tests.serving_stack import ServingStack
from tests.torchserve_process import INSTANCE, make_version

SLOW = "import threading; threading.Event().wait(2.0 * bool((columns['amount'] == 99.0).any()))"
DEADLINE_S = 1.0


@pytest.fixture(scope="module")
def serving(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    folder = tmp_path_factory.mktemp("serving")
    stack = ServingStack(folder, redis_server, "tamed", gateway={"timeout_s": DEADLINE_S})
    stack.make_champion(0.5, before=SLOW)
    yield stack
    stack.close()


@pytest.fixture
def live(serving: ServingStack) -> str:
    """The version that answers clients, with all of its workers."""
    version = serving.routes.routes()["toy"].version
    serving.until(lambda: len(serving.worker_pids(version)) == 2, "the workers do not come back")
    return version


def test_a_killed_worker_costs_no_client_an_error(serving: ServingStack, live: str) -> None:
    generation = serving.routes.routes()["toy"].generation
    with RecordingClients(serving.settings.gateway.port, {live: 0.5}) as clients:
        for _ in range(2):
            before = serving.worker_pids(live)
            os.kill(before[0], signal.SIGKILL)
            serving.until(lambda before=before: _replaced(serving, live, before), "no new worker came")
            seen = clients.answered()
            serving.until(lambda seen=seen: clients.answered() > seen + 50, "nobody is answered")
    assert not clients.record.errors
    assert not clients.record.wrong
    assert clients.record.answers.total() > 100
    assert serving.routes.routes()["toy"].generation == generation
    assert "cannot be loaded" not in str(serving.ledger.entries("toy", limit=20))


def _replaced(serving: ServingStack, version: str, before: list[int]) -> bool:
    now = serving.worker_pids(version)
    return len(now) == 2 and before[0] not in now and before[1] in now


def test_an_answer_that_takes_too_long_is_given_up_and_costs_no_worker(serving: ServingStack, live: str) -> None:
    pids, started = serving.worker_pids(live), time.monotonic()
    url = f"{serving.settings.gateway_url}/v1/models/toy/predict"
    reply = httpx.post(url, json={"instances": [INSTANCE | {"amount": 99.0}]}, timeout=10)
    assert reply.status_code == 503, reply.text
    assert time.monotonic() - started < DEADLINE_S + 0.5
    serving.until(lambda: _is_idle(serving, live), "the slow call does not end")
    assert httpx.post(url, json={"instances": [INSTANCE]}, timeout=10).json()["model_version"] == live
    assert serving.worker_pids(live) == pids


def _is_idle(serving: ServingStack, version: str) -> bool:
    """Whether both workers answer: TorchServe deals calls to whichever is free."""
    started = time.monotonic()
    for _ in range(4):
        serving.host.predict("toy", version, {"instances": [INSTANCE], "log": False})
    return time.monotonic() - started < 0.5


def test_a_version_without_workers_is_not_preferred(serving: ServingStack, tmp_path: Path) -> None:
    archive = _packed(serving, tmp_path, "77")
    management = serving.settings.torchserve_management_url
    headers = {"Authorization": f"Bearer {Tokens(key_file(serving.settings)).management()}"}
    parameters = {"url": archive.name, "model_name": "idle", "initial_workers": "0"}
    assert httpx.post(f"{management}/models", params=parameters, headers=headers, timeout=30).is_success
    assert httpx.put(f"{management}/models/idle/77/set-default", headers=headers).is_success, "TorchServe does not mind"
    with pytest.raises(DependencyDown, match="none of the workers of idle 77 is ready"):
        serving.host.prefer("idle", "77")
    serving.host.unregister("idle", "77")


def test_only_files_of_the_store_are_loaded(serving: ServingStack, tmp_path: Path) -> None:
    own = store(serving.settings)
    elsewhere = tmp_path / "toy-9.mar"
    elsewhere.write_bytes(b"")
    folder = make_version(own / "folder-9")
    link = own / "link-9.mar"
    link.symlink_to(elsewhere)
    for archive in (elsewhere, folder, link, own / ".." / "store" / ".." / "key_file.json"):
        with pytest.raises(DeploymentError, match=r"toy 9 cannot be loaded from .*only plain files of .*store"):
            serving.host.register("toy", "9", archive)
    assert "9" not in serving.host.loaded()["toy"]
    assert own.stat().st_mode & 0o077 == 0


def test_the_management_api_is_closed_without_its_token(serving: ServingStack) -> None:
    management = serving.settings.torchserve_management_url
    inference = Tokens(key_file(serving.settings)).inference()
    for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {inference}"}):
        for method, path in (("GET", "/models"), ("DELETE", "/models/toy"), ("POST", "/models?url=toy-1.mar")):
            reply = httpx.request(method, f"{management}{path}", headers=headers)
            assert (reply.status_code, reply.json()["type"]) == (400, "InvalidKeyException")


def test_a_dead_model_is_seen_though_torchserve_calls_itself_healthy(serving: ServingStack, live: str) -> None:
    now = datetime.now(UTC)
    ping, answers = torchserve_healthy(serving.settings), versions_answer(serving.settings)
    assert ping(now) and answers(now)

    def is_seen() -> bool:
        for pid in serving.worker_pids(live):  # those that are started meanwhile, too: they would answer what is asked
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return ping(now) and not answers(now)

    serving.until(is_seen, "nobody notices")
    serving.until(lambda: answers(now), "the workers do not come back")
    assert serving.ledger.live("toy").version == live


def test_a_restarted_host_is_empty_until_the_deployer_restores_what_was_live(serving: ServingStack, live: str) -> None:
    old_key = Tokens(key_file(serving.settings)).inference()
    serving.torchserve.kill()
    serving.torchserve.wait()
    serving.torchserve = serving.start_torchserve()
    now, answers = datetime.now(UTC), versions_answer(serving.settings)
    url = f"{serving.settings.gateway_url}/v1/models/toy/predict"
    serving.until(lambda: answers(now), "the live version is not restored")
    assert Tokens(key_file(serving.settings)).inference() != old_key
    reply = httpx.post(url, json={"instances": [INSTANCE]}, timeout=10)
    assert reply.json()["model_version"] == live


def _packed(serving: ServingStack, folder: Path, version: str) -> Path:
    made = make_version(folder / version, use_case="idle")
    return pack(made, store(serving.settings), use_case="idle", version=version)
