"""A server of the Open Inference Protocol v2, as its client sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from core.errors import DependencyDown, DeploymentError, SettingsError
from core.settings import Settings
from core.trust import trusted
from serving.open_inference.tensors import HEADER_LENGTH, from_bytes

_WHAT: Final = "The inference server"
_BINARY: Final = "binary_tensor_data"  # what servers call the extension that sends tensors as bytes
_BUSY: Final = (502, 503, 504)
_UNSUPPORTED: Final = (404, 405, 501)
_LONGEST: Final = 300


def require_host_settings(settings: Settings) -> None:
    """See that an inference server is described.

    Raises:
        SettingsError: naming the setting that is missing or wrong.
    """
    for name in ("url", "repository"):
        if not getattr(settings.host, name):
            raise SettingsError(
                f"EVERGREEN_HOST__KIND is {settings.host.kind}, and EVERGREEN_HOST__{name.upper()} is not set. "
                "Set it, or leave the kind out to use TorchServe."
            )
    if not Path(settings.host.repository).is_absolute():
        raise SettingsError(
            f"EVERGREEN_HOST__REPOSITORY is {settings.host.repository!r}, which each process would look for in its "
            "own folder. Set an absolute path."
        )


class ServerRefused(DeploymentError):
    """The server does not do what it is asked.

    Args:
        what: what it was asked, as the beginning of a sentence.
        status: the HTTP status it answered with.
        message: what it said.
    """

    def __init__(self, what: str, status: int, message: str) -> None:
        super().__init__(f"{what}: the inference server says {status} {message[:_LONGEST]}")
        self.status = status


class InferenceServer:
    """Calls a server over kept-alive connections; may be used from several threads.

    Every method raises DependencyDown if it does not answer.

    Args:
        url: its base address, e.g. ``http://127.0.0.1:8000``.
        timeout_s: seconds a call may take; loading a model takes the longest.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self._url = url.rstrip("/")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.Client(timeout=timeout_s, limits=limits, trust_env=False, verify=trusted())
        self._binary: bool | None = None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def load(self, model: str) -> None:
        """Make it serve what the repository's folder holds of a model.

        Raises:
            ServerRefused: if it cannot, or does not let its clients load models.
        """
        self._change(model, "load")

    def unload(self, model: str) -> None:
        """Make it let go of a model; nothing if it has none of that name."""
        try:
            self._change(model, "unload")
        except ServerRefused as error:
            if error.status not in (400, 404):
                raise

    def is_ready(self, model: str, version: str) -> bool:
        """Whether a version of a model answers."""
        return self._send("GET", f"/v2/models/{model}/versions/{version}/ready", busy=()).is_success

    def score(self, model: str, version: str, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run a version on ``X`` of shape (n, features); NaN stands for what is missing.

        Returns:
            Its ``scores``, shape (n,).

        Raises:
            ServerRefused: if it does not know the version, or the model fails on it.
        """
        binary = self._is_binary()
        tensor: dict[str, Any] = {"name": "X", "shape": list(matrix.shape), "datatype": "FP32"}
        headers: dict[str, str] = {}
        if binary:
            raw = np.ascontiguousarray(matrix, dtype="<f4").tobytes()
            tensor["parameters"] = {"binary_data_size": len(raw)}
            output = {"name": "scores", "parameters": {"binary_data": True}}
            head = orjson.dumps({"inputs": [tensor], "outputs": [output]})
            headers[HEADER_LENGTH] = str(len(head))
            body = head + raw
        else:
            tensor["data"] = matrix.reshape(-1)
            body = orjson.dumps(
                {"inputs": [tensor], "outputs": [{"name": "scores"}]}, option=orjson.OPT_SERIALIZE_NUMPY
            )
        path = f"/v2/models/{model}/versions/{version}/infer"
        reply = self._send("POST", path, content=body, headers={"Content-Type": "application/json", **headers})
        if not reply.is_success:
            raise ServerRefused(f"{model} {version} gives no scores", reply.status_code, _message(reply))
        return _scores(reply, len(matrix), f"{model} {version}")

    def _is_binary(self) -> bool:
        if self._binary is None:
            reply = self._send("GET", "/v2")
            try:
                self._binary = _BINARY in (reply.json().get("extensions") or ())
            except (ValueError, AttributeError) as error:
                raise DependencyDown(_WHAT, f"{self._url}/v2 answers {reply.status_code}, and no metadata") from error
        return self._binary

    def _change(self, model: str, verb: str) -> None:
        reply = self._send("POST", f"/v2/repository/models/{model}/{verb}", json={}, busy=())
        if reply.is_success:
            return
        message = _message(reply)
        if (reply.status_code in _UNSUPPORTED and b'"error"' not in reply.content) or "not allowed" in message:
            raise ServerRefused(
                f"{model} cannot be {verb}ed. It must let its clients load models "
                "(Triton: --model-control-mode=explicit)",
                reply.status_code,
                message,
            )
        if reply.status_code in _BUSY:
            raise DependencyDown(_WHAT, f"{verb} of {model}: {reply.status_code} {message}")
        raise ServerRefused(f"{model} cannot be {verb}ed", reply.status_code, message)

    def _send(self, method: str, path: str, *, busy: tuple[int, ...] = _BUSY, **options: Any) -> httpx.Response:
        try:
            reply = self._client.request(method, f"{self._url}{path}", **options)
        except httpx.HTTPError as error:
            raise DependencyDown(_WHAT, f"{method} {self._url}{path}: {type(error).__name__} {error}") from error
        if reply.status_code in busy:
            raise DependencyDown(_WHAT, f"{method} {self._url}{path}: {reply.status_code} {_message(reply)}")
        return reply


def _scores(reply: httpx.Response, n: int, who: str) -> npt.NDArray[np.float32]:
    """The scores in an answer; null, where there is no number, becomes NaN."""
    try:
        header = reply.headers.get(HEADER_LENGTH)
        size = len(reply.content) if header is None else int(header)
        outputs = orjson.loads(reply.content[:size])["outputs"]
        start = size
        for output in outputs:
            length = (output.get("parameters") or {}).get("binary_data_size")
            if output["name"] == "scores":
                raw = None if length is None else reply.content[start : start + length]
                values = output["data"] if raw is None else from_bytes(output["datatype"], n, raw)
                scores = np.array(values, dtype=np.float32).reshape(-1)
                if len(scores) == n:
                    return scores
            start += length or 0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServerRefused(f"{who} gives no scores", reply.status_code, f"what cannot be read ({error})") from error
    raise ServerRefused(f"{who} gives no scores", reply.status_code, f"but no {n} scores")


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"])[:_LONGEST]
    except (ValueError, KeyError, TypeError):
        return reply.text[:_LONGEST]
