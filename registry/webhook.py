"""MLflow's webhook that says when an alias moves: registered once, kept as it should be."""

from __future__ import annotations

import logging

from registry.mlflow_registry import MlflowRegistry

logger = logging.getLogger(__name__)
EVENTS = (
    "model_version_alias.created",
    "model_version_alias.deleted",
    "model_version_tag.set",
    "model_version_tag.deleted",
)
_PAGE = 100


def ensure_webhook(registry: MlflowRegistry, *, name: str, receiver: str, secret: str) -> bool:
    """Let MLflow tell of moved aliases; may be repeated with the same effect as once.

    Args:
        registry: whose MLflow.
        name: what the webhook is called there; another one of that name is brought up to date.
        receiver: URL that it is sent to.
        secret: what it is signed with.

    Returns:
        Whether there was none of that name before.

    Raises:
        DependencyDown: if MLflow does not answer, or does not allow it: it needs
            ``MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY``, and settings that allow the receiver's scheme and address.
    """
    wish = {"url": receiver, "events": list(EVENTS), "secret": secret}
    with registry.client() as client:
        page = client.list_webhooks(max_results=_PAGE)
        known = [webhook for webhook in page if webhook.name == name]
        while page.token:
            page = client.list_webhooks(max_results=_PAGE, page_token=page.token)
            known += [webhook for webhook in page if webhook.name == name]
        if not known:
            client.create_webhook(name=name, description="Wakes Evergreen's deployer.", **wish)
            return True
        client.update_webhook(known[0].webhook_id, status="ACTIVE", **wish)
        for other in known[1:]:  # of two that were started at once
            client.delete_webhook(other.webhook_id)
    return False
