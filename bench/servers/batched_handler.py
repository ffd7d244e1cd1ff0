"""The product's handler, made fit for TorchServe's own batching: the calls of a batch share one read and one run.

The product's registers versions with a batch of one, as its gateway gathers calls before. TorchServe alone is at its
best when the handler answers what TorchServe has gathered as if it were one call.
"""

from __future__ import annotations

from typing import Any

import orjson

from serving.torchserve.handler import Handler

_BY_INSTANCE = ("predictions", "prediction_ids", "degraded")


class BatchedHandler(Handler):
    """Answers a batch by one call of the product's handler; a ``context`` stands for fields given once."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch of calls."""
        calls = [_instances(orjson.loads(row.get("body", row.get("data")))) for row in data]
        merged = {"instances": [instance for call in calls for instance in call]}
        answer = orjson.loads(super().handle([{"body": merged}], context)[0])
        replies, start = [], 0
        for i, call in enumerate(calls):
            end = start + len(call)
            own = {name: answer[name][start:end] for name in _BY_INSTANCE}
            replies.append(orjson.dumps({**own, "model_version": answer["model_version"]}))
            context.set_response_content_type(i, "application/json")
            start = end
        return replies


def _instances(call: dict[str, Any]) -> list[dict[str, Any]]:
    context = call.get("context")
    return [{**context, **row} for row in call["instances"]] if context else call["instances"]
