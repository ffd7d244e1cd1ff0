"""Any server of the Open Inference Protocol v2 as a model host: Triton, MLServer, KServe."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from core.errors import DeploymentError, EvergreenError, RequestError
from core.settings import Settings
from serving.open_inference.layouts import LAYOUTS, MODEL
from serving.open_inference.repository import ModelRepository
from serving.open_inference.scorings import Scorings
from serving.open_inference.server import InferenceServer, require_host_settings
from serving.torchserve.packer import unpack

_LOOK_AGAIN_S = 0.05


class OpenInferenceHost:
    """A model host that publishes a version's ONNX graph to a server, and reads the features itself.

    The protocol has no way to say which version answers callers that name none: servers take the newest. So the host
    cannot make it another one; the gateway always names the version.

    Args:
        settings: where the server and its repository are.

    Raises:
        SettingsError: if either is not set.
    """

    def __init__(self, settings: Settings) -> None:
        require_host_settings(settings)
        self._server = InferenceServer(settings.host.url, timeout_s=settings.host.timeout_s)
        self._repository = ModelRepository(Path(settings.host.repository), LAYOUTS[settings.host.flavour])
        self._scorings = Scorings(settings, self._server)
        self._patience_s = settings.host.timeout_s
        self._pause = threading.Event()

    def close(self) -> None:
        """Close the connections, and cut short whatever waits."""
        self._pause.set()
        self._scorings.close()
        self._server.close()

    def register(self, use_case: str, version: str, archive: Path) -> None:
        """Put a version into the repository and have the server load it."""
        try:
            with tempfile.TemporaryDirectory(prefix="evergreen-publish-") as workplace:
                unpack(archive, Path(workplace))
                self._publish(use_case, version, Path(workplace) / MODEL)
            self._scorings.load(use_case, version)
        except DeploymentError as error:
            self._withdraw(use_case, version)
            error.args = (f"{use_case} {version} cannot be loaded: {error}",)
            raise

    def unregister(self, use_case: str, version: str) -> None:
        """Take a version out of the repository and have the server let go of it."""
        self._withdraw(use_case, version)

    def loaded(self) -> dict[str, set[str]]:
        """Versions of the repository that the server says are ready, and whose feature code is at hand."""
        found = {
            model: {v for v in versions if self._scorings.has(model, v) and self._server.is_ready(model, v)}
            for model, versions in self._repository.versions().items()
        }
        return {model: versions for model, versions in found.items() if versions}

    def prefer(self, use_case: str, version: str) -> None:
        """See that it is loaded; the server answers callers that name none with the newest version."""
        self._require(use_case, version)
        if not self._server.is_ready(use_case, version):
            raise DeploymentError(f"{use_case} {version} is not loaded. Register it first.")

    def predict(self, use_case: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Read the features, and ask the server."""
        self._require(use_case, version)
        try:
            return self._scorings.answer(use_case, version, body)
        except RequestError as error:
            raise DeploymentError(f"{use_case} {version} refuses the request: {error}") from error
        except EvergreenError:
            raise
        except Exception as error:  # an entry point: what the code of a use case raises is the version's fault
            raise DeploymentError(
                f"{use_case} {version} fails ({type(error).__name__}: {error}). Train it again."
            ) from error

    def _publish(self, use_case: str, version: str, graph: Path) -> None:
        if self._repository.digest(use_case, version) == _digest(graph) and self._server.is_ready(use_case, version):
            return
        self._repository.add(use_case, version, graph)
        self._server.load(use_case)
        deadline = time.monotonic() + self._patience_s
        while not self._server.is_ready(use_case, version):
            if time.monotonic() > deadline or self._pause.wait(_LOOK_AGAIN_S):
                raise DeploymentError(f"the server is not ready with it after {self._patience_s:g} s. See its log.")

    def _withdraw(self, use_case: str, version: str) -> None:
        """Take a version out; the others are loaded again, which servers do without a gap."""
        if version not in self._repository.versions().get(use_case, set()):
            return
        self._repository.remove(use_case, version)
        if use_case in self._repository.versions():
            self._server.load(use_case)
        else:
            self._server.unload(use_case)

    def _require(self, use_case: str, version: str) -> None:
        if version not in self._repository.versions().get(use_case, set()):
            raise DeploymentError(f"{use_case} {version} is not loaded. Register it first.")


def _digest(graph: Path) -> str:
    return hashlib.sha256(graph.read_bytes()).hexdigest()
