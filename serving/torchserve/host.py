"""TorchServe as a model host, through its management and inference APIs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx

from core.errors import DependencyDown, DeploymentError
from core.settings import Settings
from core.trust import trusted
from serving.torchserve.configuration import key_file, store
from serving.torchserve.tokens import Tokens

_STARTUP_S = 120.0  # a worker imports torch: 3 s when idle, many times that while everything else starts
_RECOVERY_S = 10.0
_TIMEOUT_S = 30.0
_LOOK_AGAIN_S = 0.05
_PAGE = 100
_WRONG_TOKEN = "InvalidKeyException"  # its status is 400, as for a malformed request
_BUSY = (502, 503, 504, 507)


class _Start:
    """A version whose workers are on their way."""

    def __init__(self, since_s: float, most_processes: int) -> None:
        self._until_s = since_s + _STARTUP_S
        self._most_processes = most_processes
        self._pids: dict[str, set[int]] = {}

    def has_failed(self, described: dict[str, Any], now_s: float) -> bool:
        """Whether a worker is not up in time, or needed more processes than one that just starts does."""
        for worker in described["workers"]:
            if worker["pid"] > 0:
                self._pids.setdefault(worker["id"], set()).add(worker["pid"])
        return now_s > self._until_s or any(len(pids) > self._most_processes for pids in self._pids.values())


class TorchServeHost:
    """The model host that ``evergreen up`` runs.

    Args:
        settings: where TorchServe is, how many workers each version gets.
        timeout_s: seconds it gets to answer a call.
    """

    def __init__(self, settings: Settings, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._management = settings.torchserve_management_url
        self._inference = settings.torchserve_inference_url
        self._store = store(settings)
        self._workers = settings.torchserve.workers
        self._response_timeout_s = settings.torchserve.response_timeout_s
        self._tokens = Tokens(key_file(settings))
        self._client = httpx.Client(timeout=timeout_s, trust_env=False, verify=trusted())

        self._pause = threading.Event()
        self._starts: dict[tuple[str, str], _Start] = {}

    def close(self) -> None:
        """Close the connections, and cut short whatever waits."""
        self._pause.set()
        self._client.close()

    def register(self, use_case: str, version: str, archive: Path) -> None:
        """Load an archive of TorchServe's own store and start its workers.

        A version that is new waits for all of its workers, so that it never begins with half of them; one that
        lost its workers answers again with the first.
        """
        _require_own(archive, self._store, f"{use_case} {version}")
        key = (use_case, version)
        if self._describe(use_case, version) is None:
            self._load(use_case, version, archive)
            self._starts[key] = _Start(time.monotonic(), most_processes=1)
            self._wait_until_ready(use_case, version, workers=self._workers, patience_s=_STARTUP_S)
        else:
            self._starts.setdefault(key, _Start(time.monotonic(), most_processes=2))
            self._wait_until_ready(use_case, version, workers=1, patience_s=_RECOVERY_S)
        del self._starts[key]

    def unregister(self, use_case: str, version: str) -> None:
        """Stop a version's workers and forget it; if it is the preferred one, another takes that place first."""
        reply = self._delete(use_case, version)
        if reply.status_code == 403:  # TorchServe does not let go of the default version while there are others
            others = [v for v in self._versions(use_case) if v["modelVersion"] != version]
            if others:
                self._set_default(use_case, max(others, key=_preference)["modelVersion"])
            reply = self._delete(use_case, version)
        if reply.status_code != 404:
            _require_success(reply, f"{use_case} {version} cannot be unregistered")

    def loaded(self) -> dict[str, set[str]]:
        """Versions with a worker that is ready."""
        found = {
            name: {version["modelVersion"] for version in self._versions(name) if _ready_workers(version)}
            for name in self._names()
        }
        return {name: versions for name, versions in found.items() if versions}

    def worker_pids(self, use_case: str, version: str) -> list[int]:
        """The processes that are ready to answer for a version."""
        described = self._describe(use_case, version) or {"workers": []}
        return [worker["pid"] for worker in described["workers"] if worker["status"] == "READY"]

    def prefer(self, use_case: str, version: str) -> None:
        """Make it TorchServe's default version, which TorchServe would allow without a worker to answer, too."""
        described = self._describe(use_case, version)
        if described is not None and not _ready_workers(described):
            raise DependencyDown("TorchServe", f"none of the workers of {use_case} {version} is ready")
        self._set_default(use_case, version)

    def predict(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the inference API."""
        headers = {"Authorization": f"Bearer {self._tokens.inference()}"}
        url = f"{self._inference}/predictions/{use_case}/{version}"
        reply = self._send("POST", url, headers=headers, json=body)
        _require_success(reply, f"{use_case} {version} does not answer a prediction")
        answer: dict[str, Any] = reply.json()
        return answer

    def _set_default(self, use_case: str, version: str) -> None:
        reply = self._manage("PUT", f"/models/{use_case}/{version}/set-default")
        _require_success(reply, f"{use_case} {version} cannot be made the default")

    def _load(self, use_case: str, version: str, archive: Path) -> None:
        """Start loading. Waiting for the end is up to the caller.

        With ``synchronous=true`` TorchServe blocks one of the threads that answer predictions until the
        worker is up, and every connection of that thread with it.
        """
        parameters = {
            "url": archive.name,
            "model_name": use_case,
            "initial_workers": self._workers,
            "synchronous": "false",
            "batch_size": 1,
            "max_batch_delay": 0,
            "response_timeout": self._response_timeout_s,
            "startup_timeout": int(_STARTUP_S),
        }
        reply = self._manage("POST", "/models", params=parameters)
        if reply.status_code != 409:  # else somebody was faster
            _require_success(reply, f"{use_case} {version} cannot be loaded from {archive.name}")

    def _wait_until_ready(self, use_case: str, version: str, *, workers: int, patience_s: float) -> None:
        """Wait until that many workers are ready, which start for the first time, or again.

        TorchServe restarts dead workers by itself, so a version is let go only if they die over and over:
        else a worker's restart would become an outage.
        """
        start, deadline = self._starts[use_case, version], time.monotonic() + patience_s
        while (described := self._describe(use_case, version)) is None or _ready_workers(described) < workers:
            now = time.monotonic()
            if described is None or start.has_failed(described, now):
                del self._starts[use_case, version]
                self.unregister(use_case, version)
                raise DeploymentError(f"{use_case} {version} cannot be loaded: its workers die. See TorchServe's log.")
            if now > deadline:
                raise DependencyDown("TorchServe", f"{use_case} {version} is loaded, but its workers are not ready")
            if not described["workers"]:
                self._scale(use_case, version)
            self._pause.wait(_LOOK_AGAIN_S)

    def _scale(self, use_case: str, version: str) -> None:
        parameters = {"min_worker": self._workers, "max_worker": self._workers, "synchronous": "false"}
        reply = self._manage("PUT", f"/models/{use_case}/{version}", params=parameters)
        _require_success(reply, f"{use_case} {version} cannot be given workers")

    def _delete(self, use_case: str, version: str) -> httpx.Response:
        return self._manage("DELETE", f"/models/{use_case}/{version}")

    def _describe(self, use_case: str, version: str) -> dict[str, Any] | None:
        return next((v for v in self._versions(use_case) if v["modelVersion"] == version), None)

    def _versions(self, use_case: str) -> list[dict[str, Any]]:
        reply = self._manage("GET", f"/models/{use_case}/all")
        if reply.status_code == 404:
            return []
        _require_success(reply, f"{use_case} cannot be described")
        described: list[dict[str, Any]] = reply.json()
        return described

    def _names(self) -> list[str]:
        names: list[str] = []
        token: str | None = "0"
        while token is not None:
            reply = self._manage("GET", "/models", params={"limit": _PAGE, "next_page_token": token})
            _require_success(reply, "The models cannot be listed")
            page = reply.json()
            names += [model["modelName"] for model in page["models"]]
            token = page.get("nextPageToken")
        return names

    def _manage(self, method: str, path: str, params: dict[str, Any] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._tokens.management()}"}
        return self._send(method, f"{self._management}{path}", headers=headers, params=params)

    def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            reply = self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise DependencyDown("TorchServe", f"{method} {url}: {type(error).__name__} {error}") from error
        if reply.status_code in _BUSY or _WRONG_TOKEN in reply.text:  # a fresh start is about to write its tokens
            raise DependencyDown("TorchServe", f"{method} {url}: {reply.status_code} {_message(reply)}")
        return reply


def _ready_workers(version: dict[str, Any]) -> int:
    return sum(worker["status"] == "READY" for worker in version["workers"])


def _preference(version: dict[str, Any]) -> tuple[bool, int, str]:
    """Sorts what answers last, and of that the newest."""
    return _ready_workers(version) > 0, len(version["modelVersion"]), version["modelVersion"]


def _require_own(archive: Path, store: Path, what: str) -> None:
    """Refuse what lies elsewhere: TorchServe runs the code of whatever it loads, also of a plain folder."""
    own = archive.parent.resolve() == store.resolve() and not archive.is_symlink()
    if not own or archive.is_dir():
        raise DeploymentError(
            f"{what} cannot be loaded from {archive}: only plain files of TorchServe's own store {store} are. "
            "Deploy the version again, which packs it there."
        )


def _require_success(reply: httpx.Response, what: str) -> None:
    if not reply.is_success:
        raise DeploymentError(f"{what}: TorchServe says {reply.status_code} {_message(reply)}")


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return reply.text[:300]
