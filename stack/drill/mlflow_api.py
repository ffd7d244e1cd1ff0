"""What only a drill asks of MLflow: to undo what it did there. Plain calls of its REST API."""

from __future__ import annotations

from typing import Any

import httpx

from core.errors import DependencyDown
from core.trust import trusted

_TIMEOUT_S = 30.0
_MISSING = (404, 400)  # what is gone already


class MlflowApi:
    """MLflow's REST API.

    Every method raises DependencyDown if it does not answer as it should.

    Args:
        url: the server's, e.g. ``http://127.0.0.1:15000``.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(
            base_url=f"{url}/api/2.0/mlflow", timeout=_TIMEOUT_S, trust_env=False, verify=trusted()
        )

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def delete_version(self, use_case: str, version: str) -> None:
        """Delete a version and its run; no effect on what is gone."""
        named = {"name": use_case, "version": version}
        found = self._call("GET", "/model-versions/get", params=named, gone=_MISSING)
        if found is None:
            return
        self._call("DELETE", "/model-versions/delete", json=named, gone=_MISSING)
        self._call("POST", "/runs/delete", json={"run_id": found["model_version"]["run_id"]}, gone=_MISSING)

    def set_tag(self, use_case: str, tag: str, value: str | None) -> None:
        """Set a tag of the registered model, or take it away."""
        if value is None:
            self._call("DELETE", "/registered-models/delete-tag", json={"name": use_case, "key": tag}, gone=_MISSING)
        else:
            self._call("POST", "/registered-models/set-tag", json={"name": use_case, "key": tag, "value": value})

    def active_webhooks(self) -> list[str]:
        """Ids of the webhooks that are told of events."""
        found = self._call("GET", "/webhooks", params={"max_results": 100}) or {}
        return [hook["webhook_id"] for hook in found.get("webhooks", []) if hook.get("status") == "ACTIVE"]

    def set_webhook(self, webhook: str, *, active: bool) -> None:
        """Let a webhook be told of events, or not; no effect on one that is gone."""
        body = {"webhook_id": webhook, "status": "ACTIVE" if active else "DISABLED"}
        self._call("PATCH", f"/webhooks/{webhook}", json=body, gone=(404,))

    def _call(self, method: str, path: str, *, gone: tuple[int, ...] = (), **options: Any) -> dict[str, Any] | None:
        try:
            reply = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise DependencyDown("MLflow", f"{method} {path}: {type(error).__name__} {error}") from error
        if reply.status_code in gone:
            return None
        if not reply.is_success:
            raise DependencyDown("MLflow", f"{method} {path}: {reply.status_code} {reply.text[:200]}")
        found: dict[str, Any] = reply.json()
        return found
