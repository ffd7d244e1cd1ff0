"""What a person sees of a version in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.use_case import UseCase
from registry.versions import VersionInfo

_SHOWN = (
    ("log_loss", "log-loss"),
    ("base_rate_log_loss", "log-loss of the base rate"),
    ("auc", "AUC"),
    ("brier", "Brier score"),
    ("calibration_error", "calibration error"),
    ("base_rate", "share of label 1"),
)


def model_card(use_case: UseCase, profile: Mapping[str, Any], info: VersionInfo) -> str:
    """A version's description in Markdown: what it predicts, why it was trained, on what, and how it does."""
    training = profile["training"]
    table = "\n".join(f"| {title} | {profile[name]:.4f} |" for name, title in _SHOWN if profile.get(name) is not None)
    return f"""# {use_case.name}

{use_case.description}

**Trained because:** {info.reason}

| on the newest {profile["rows"]} labelled rows | |
| --- | --- |
{table}

- **Predicts:** {use_case.label.name} ({use_case.label.description or "no description"})
- **Estimator:** {info.params.get("estimator", "?")} on {info.params.get("features", "?")} features
- **Training rows:** {training["rows"]}, {training["from"]} to {training["to"]}
- **Measured on:** {profile["from"]} to {profile["to"]}, not trained on
- **As of:** {info.as_of.isoformat()}
- **Training set:** `{info.fingerprint}`
- **Native and ONNX scores differ by:** {profile["parity_difference"]:.1e}
- **Commit:** `{info.git_commit}`
- **Digest:** `{info.digest}`
"""
