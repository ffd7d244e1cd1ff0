"""Registered versions, fetched into the home folder once."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from core.use_case import UseCase
from flows.context import FlowContext
from flows.references import load_reference
from monitoring.live import LiveVersion
from serving.permission import KIND, held
from serving.wanted import CHAMPION

_ENTRIES = 50


def fetch_version(context: FlowContext, use_case: str, version: str) -> Path:
    """A version's verified folder; kept under ``versions/`` in the home folder."""
    return context.registry.fetch(use_case, version, context.settings.home / "versions" / use_case / version)


def champion(context: FlowContext, name: str) -> str | None:
    """The version the alias is on; where that one is held or refused, the one that goes on answering."""
    version, live = context.registry.alias(name, CHAMPION), context.ledger.live(name)
    waits = held(context.ledger.entries(name, kind=KIND, limit=_ENTRIES), live)
    return live.version if live and waits and waits.version == version else version


def live_version(context: FlowContext, use_case: UseCase) -> LiveVersion | None:
    """The version that answers clients now, with its reference; None if there is none."""
    deployed = context.ledger.live(use_case.name)
    if deployed is None:
        return None
    info = context.registry.info(use_case.name, deployed.version)
    folder = fetch_version(context, use_case.name, deployed.version)
    reference = pd.read_parquet(folder / "reference.parquet")
    rows = int(json.loads((folder / "profile.json").read_bytes())["rows"])
    profile = load_reference(use_case, folder)
    return LiveVersion(deployed.version, info.as_of, info.log_loss, reference, rows, profile)
