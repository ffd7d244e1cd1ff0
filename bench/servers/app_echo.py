"""A bare ASGI application: reads the body and answers the same JSON to everybody. Runs in the peers' environment."""

from __future__ import annotations

from typing import Any

from bench.servers import told

_BODY = told.option("ANSWER").encode()
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}
_END = {"type": "http.response.body", "body": _BODY}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_END)
