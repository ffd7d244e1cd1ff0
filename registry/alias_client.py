"""MLflow's aliases by plain HTTP: for processes that must not import MLflow, such as the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from core.errors import DependencyDown
from core.trust import trusted
from registry.versions import Desired, unknown_version

_API = "api/2.0/mlflow"
_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_MOST_VERSIONS = 100


@dataclass(frozen=True)
class Listed:
    """A version as the registry lists it.

    Args:
        version: its number.
        run_id: of the run that made it; empty if none is known.
    """

    version: str
    run_id: str


class AliasClient:
    """Reads and moves aliases, as `registry.mlflow_registry.MlflowRegistry` does. Safe to use from several threads.

    Args:
        url: of the MLflow server; a name and password in it are sent along.
        timeout_s: how long one answer may take, in seconds.
    """

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=timeout_s, verify=trusted())

    def __enter__(self) -> AliasClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def alias(self, use_case: str, name: str) -> str | None:
        """The version an alias points to; None without such an alias, version or use case.

        Raises:
            DependencyDown: if MLflow does not answer.
        """
        return self.desired(use_case).aliases.get(name)

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        """Point an alias to a version, or to none, and set tags of the model; may be repeated.

        Raises:
            DeploymentError: if there is no such version; nothing is changed then.
            DependencyDown: if MLflow does not answer.
        """
        known = self.desired(use_case)
        if version is not None and self._find("model-versions/get", name=use_case, version=version) is None:
            raise unknown_version(use_case, version)
        for tag, value in (tags or {}).items():
            if known.tags.get(tag) != value:
                self._change("POST", "registered-models/set-tag", name=use_case, key=tag, value=value)
        if known.aliases.get(name) == version:
            return
        if version is None:
            self._change("DELETE", "registered-models/alias", name=use_case, alias=name)
        else:
            self._change("POST", "registered-models/alias", name=use_case, alias=name, version=version)

    def desired(self, use_case: str) -> Desired:
        """All aliases and tags of a use case's model; none of either if nothing is registered.

        Raises:
            DependencyDown: if MLflow does not answer.
        """
        found = self._find("registered-models/get", name=use_case)
        model: Mapping[str, Any] = (found or {}).get("registered_model", {})
        return Desired(
            {each["alias"]: str(each["version"]) for each in model.get("aliases", ())},
            {each["key"]: each.get("value", "") for each in model.get("tags", ())},
        )

    def versions(self, use_case: str) -> list[Listed]:
        """The newest 100 versions, the newest first.

        Raises:
            DependencyDown: if MLflow does not answer.
        """
        found = self._find(
            "model-versions/search", filter=f"name='{use_case}'", max_results=str(_MOST_VERSIONS),
            order_by="version_number DESC",
        )  # fmt: skip
        listed = [
            Listed(str(each["version"]), each.get("run_id", "")) for each in (found or {}).get("model_versions", ())
        ]
        return sorted(listed, key=lambda each: -int(each.version))

    def _find(self, path: str, **query: str) -> Mapping[str, Any] | None:
        """What is asked for; None if MLflow says that there is none."""
        response = self._send("GET", path, params=query)
        if response.status_code in (400, 404) and _error_code(response) in _NOT_FOUND:
            return None
        return self._content(response)

    def _change(self, method: str, path: str, **body: str) -> None:
        self._content(self._send(method, path, json=body))

    def _send(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"{self._url}/{_API}/{path}", **what)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DependencyDown("MLflow", f"{error}" or type(error).__name__) from error

    def _content(self, response: httpx.Response) -> Mapping[str, Any]:
        try:
            response.raise_for_status()
            content = response.json()
        except (httpx.HTTPError, ValueError) as error:
            said = _error_code(response) or f"status {response.status_code}"
            raise DependencyDown("MLflow", said) from error
        return content if isinstance(content, Mapping) else {}


def _error_code(response: httpx.Response) -> str:
    try:
        return str(response.json().get("error_code", ""))
    except (ValueError, AttributeError):
        return ""
