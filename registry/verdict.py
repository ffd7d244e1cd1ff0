"""The gate's verdict, made from recorded evidence alone, so that it can be made again at any time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.decision import Decision
from registry.paired import detectable, rows_to_detect

FEWEST_ROWS = 30  # below, no bound of a mean is to be believed
_FARTHEST = 1000  # times the rows at hand: beyond, "how many more" is no advice


def rejudge(evidence: Mapping[str, Any], policy: Mapping[str, Any] | None = None) -> Decision:
    """Give the verdict that belongs to some evidence.

    Args:
        evidence: as `registry.gate.judge` measured it, e.g. from the ledger.
        policy: as recorded in ``evidence["policy"]``, or another one, to see what it would have said. Bounds are not
            measured again: they stay at the confidence they were measured with.

    Returns:
        promote, keep or reject, with the same evidence.

    Raises:
        ValueError: if the evidence is not complete, e.g. because an older release wrote it.
    """
    try:
        asked = evidence["policy"] if policy is None else policy
        action, reason = _verdict(evidence, asked)
    except KeyError as missing:
        raise ValueError(
            f"the evidence has no {missing}: this release cannot judge it again. Retrain to have it judged anew."
        ) from missing
    return Decision(action, reason, dict(evidence))


def shortfall(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows could tell: the smallest gain they show, and how many more labels the gain at hand takes.

    Args:
        evidence: of a comparison with a champion.

    Returns:
        ``gain``, nats, and ``relative``, the minimum detectable effect; ``power`` and ``confidence`` with which;
        ``more_labels``, until the gain at hand is told from none; None if there is no gain, or it is told already.
    """
    test, rows = evidence["test"], evidence["rows"]
    smallest = detectable(test["standard_error"], test["critical"], test["power"])
    champion = evidence["champion"]["log_loss"]
    needed = rows_to_detect(evidence["gain"], test["standard_error"], rows, test["critical"], test["power"])
    is_told = evidence["gain_interval"][0] > 0
    return {
        "gain": smallest,
        "relative": smallest / champion if champion > 0 else 0.0,
        "power": test["power"],
        "confidence": evidence["confidence"],
        "more_labels": None if needed is None or is_told else max(needed - rows, 1),
    }


def suspicions(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    """What looks as if the label were known, as sentences.

    A gain is held against the best that was known to be possible: the champion's, the base rate's, and what the
    champion reached on its own holdout, so that a champion that broke down makes no honest successor suspicious.
    """
    found = []
    known = _best_known_auc(evidence)
    for each in evidence["leakage"]:
        tells = {"value": "", "missing": " by whether it is there", "code": " by its code"}[each["by"]]
        if each["auc"] >= policy["leak_auc"]:
            found.append(f"{each['feature']} alone{tells} reaches an AUC of {each['auc']:.3f}")
        elif each["copies"] is not None and each["copies"] >= policy["leak_auc"]:
            found.append(f"{each['feature']} is a copy of the label in {each['copies']:.1%} of the rarer one")
        elif known is not None and each["auc"] - known >= policy["leak_excess"] * (1 - known):
            found.append(
                f"{each['feature']} alone{tells} reaches an AUC of {each['auc']:.3f}, the whole champion {known:.3f}"
            )
    excess = _gain_over_best_known(evidence)
    if excess is not None and excess >= policy["leak_gain"]:
        found.append(f"its log-loss is {excess:.0%} below the best known, which is too good to be true")
    return found


def objections(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    """What speaks against promoting a challenger that is better on the whole, as clauses."""
    found = []
    for part in evidence["segments"]:
        if part["rise_interval"][0] > policy["segment_margin"] * part["champion_log_loss"]:
            found.append(
                f"{part['name']} is {part['rise'] / part['champion_log_loss']:.1%} worse on {part['rows']} rows, "
                f"{policy['segment_margin']:.0%} is allowed"
            )
    calibration = evidence["calibration"]
    if calibration["rise"] > policy["calibration_margin"] and calibration["rise_low"] > 0:
        found.append(
            f"its calibration error is {calibration['rise']:.3f} larger, {policy['calibration_margin']:g} is allowed"
        )
    old = evidence.get("old_regime")
    if old and old["rise_interval"][0] > policy["old_regime_margin"] * old["champion_log_loss"]:
        found.append(
            f"on {old['rows']} rows from before the training window it is {old['rise'] / old['champion_log_loss']:.1%} "
            f"worse, {policy['old_regime_margin']:.0%} is allowed"
        )
    latency, most = evidence.get("latency", {}), policy["max_latency_ratio"]
    if most is not None and latency.get("ratio", 0) > most:
        found.append(f"it takes {latency['ratio']:.1f} times as long to answer, {most:g} times is allowed")
    if "fault" in latency:
        found.append(f"it fails in the staged host: {latency['fault']}")
    return found


def _verdict(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> tuple[str, str]:
    suspected = suspicions(evidence, policy)
    if suspected:
        return "reject", (
            f"it seems to know the label: {'; '.join(suspected)}. Look at these features; if they are right, "
            "raise the policy's leak_auc, leak_excess or leak_gain."
        )
    failed = evidence.get("model_tests", {}).get("failed", ())
    if failed:
        tests = "; ".join(f"{each['name']}: {each['said']}" for each in failed)
        return "reject", (
            f"it fails {len(failed)} of the tests that every version must pass: {tests}. Look at what it was trained "
            "on, or correct the use case's tests."
        )
    if "champion" not in evidence:
        return _first(evidence)
    (low, high), gain, relative = evidence["gain_interval"], evidence["gain"], evidence["relative_gain"]
    numbers = (
        f"log-loss {evidence['challenger']['log_loss']:.4f} against the champion's "
        f"{evidence['champion']['log_loss']:.4f} on the same {evidence['rows']} newest rows"
    )
    bounds = f"the gain is between {low:+.4f} and {high:+.4f}, each bound with {_percent(evidence['confidence'])}"
    if high < 0:
        return "reject", f"{numbers}: {-relative:.2%} worse ({bounds})."
    is_told = low > 0 and evidence["rows"] >= FEWEST_ROWS
    if is_told and gain > 0 and relative >= policy["min_gain"]:
        against = objections(evidence, policy)
        if against:
            return "keep", f"{numbers}: {relative:.2%} better ({bounds}), but {'; '.join(against)}."
        return "promote", f"{numbers}: {relative:.2%} better ({bounds})."
    if is_told:
        return "keep", f"{numbers}: {relative:+.2%}, at least {policy['min_gain']:.1%} is wanted ({bounds})."
    return "keep", f"{numbers}: {relative:+.2%} ({bounds}); {_what_it_takes(evidence)}."


def _first(evidence: Mapping[str, Any]) -> tuple[str, str]:
    loss, base = evidence["challenger"]["log_loss"], evidence["base_rate_log_loss"]
    numbers = f"log-loss {loss:.4f} against {base:.4f} of the base rate on {evidence['rows']} newest rows"
    if loss < base:
        return "promote", f"first version, {numbers}: better."
    return "reject", f"first version, {numbers}: no better than a constant."


def _what_it_takes(evidence: Mapping[str, Any]) -> str:
    told = shortfall(evidence)
    if evidence["rows"] < FEWEST_ROWS:
        return f"at least {FEWEST_ROWS} rows are needed to tell"
    smallest = f"these rows tell a gain of {told['relative']:.2%} or more"
    if told["more_labels"] is None:
        return smallest
    if told["more_labels"] > _FARTHEST * evidence["rows"]:
        return f"{smallest}, and this one is too small to tell in any number of labels"
    return f"{smallest}: needs {told['more_labels']:,} more labels to tell"


def _best_known_auc(evidence: Mapping[str, Any]) -> float | None:
    champion = evidence.get("champion", {})
    known = [auc for auc in (champion.get("auc"), champion.get("reference_auc")) if auc is not None]
    return max(known, default=None)


def _gain_over_best_known(evidence: Mapping[str, Any]) -> float | None:
    champion = evidence.get("champion")
    if champion is None:
        return None
    known = [champion["log_loss"], evidence["base_rate_log_loss"]]
    if champion.get("reference_log_loss") is not None:
        known.append(champion["reference_log_loss"])
    best = min(known)
    return 1 - evidence["challenger"]["log_loss"] / best if best > 0 else None


def _percent(share: float) -> str:
    return f"{share:.4g} confidence" if share > 0.999 else f"{100 * share:.3g} % confidence"
