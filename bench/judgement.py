"""Judgement: whether what is decided is right, on streams whose truth is known."""

from __future__ import annotations

from bench import judgement_aftermath, judgement_drift, judgement_estimate, judgement_gate, judgement_replay

PARTS = {
    "drift": judgement_drift.run,
    "estimate": judgement_estimate.run,
    "aftermath": judgement_aftermath.run,
    "gate": judgement_gate.run,
    "replay": judgement_replay.run,
}
