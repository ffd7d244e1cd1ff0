"""What a person sees of a version in the registry: its card, in Markdown, as MLflow shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.decision import Decision
from core.use_case import UseCase
from registry.verdict import objections
from registry.versions import VersionInfo

RUN, EXPERIMENT = "RUN-ID", "EXPERIMENT-ID"
"""Stand for the run and its experiment until the registry knows them, see `placed`."""
MOST_CHARACTERS = 5000  # MLflow, store/model_registry/dbmodels/models.py: description String(5000)
_LONGEST_REASON = 700
_MOST_ROWS = 8
_SHOWN = (
    ("log_loss", "log-loss"),
    ("base_rate_log_loss", "log-loss of the base rate"),
    ("auc", "AUC"),
    ("brier", "Brier score"),
    ("calibration_error", "calibration error"),
    ("base_rate", "share of label 1"),
)
_COMPARED = ("log_loss", "auc", "brier", "calibration_error")
_WORDS = {"promote": "Promoted", "keep": "Kept as challenger", "reject": "Rejected"}
_PLOTS = (("drift.png", "what moved since the champion"), ("calibration.png", "calibration"),
          ("importance.png", "what it looks at"), ("scores.png", "scores"))  # fmt: skip


@dataclass(frozen=True)
class Predecessor:
    """The champion a version was compared with.

    Args:
        version: its number.
        as_of: event time of its training set.
        params: how it was trained.
        profile: how it did on its own holdout.
        spec: its features.
        git_commit: of its use case's repository.
    """

    version: str
    as_of: datetime
    params: Mapping[str, str]
    profile: Mapping[str, Any]
    spec: Mapping[str, Any]
    git_commit: str


def model_card(
    use_case: UseCase,
    profile: Mapping[str, Any],
    info: VersionInfo,
    *,
    verdict: Decision | None = None,
    before: Predecessor | None = None,
    digests: Mapping[str, str] | None = None,
    plots: Sequence[str] = (),
) -> str:
    """A version's description in Markdown, at most `MOST_CHARACTERS` long: what least matters is left out.

    Args:
        use_case: what it predicts.
        profile: how it does on its holdout.
        info: what it is registered with.
        verdict: the gate's; None: it was not judged yet.
        before: the champion it was compared with; None if there was none.
        digests: SHA-256 of each of its files.
        plots: names of the pictures that are logged beside it, in ``plots/``.
    """
    evidence = verdict.evidence if verdict else {}
    parts = [
        (0, f"# {use_case.name}\n\n{use_case.description}\n\n**Trained because:** {_short(info.reason)}"),
        (0, _judged(verdict)),
        (1, _metrics(profile, evidence, before)),
        (3, _changes(use_case, profile, info, before)),
        (2, _tests(evidence)),
        (4, _segments(evidence)),
        (5, _pictures(plots)),
        (2, _lineage(use_case, profile, info)),
        (6, _files(digests or {})),
        (1, _promoting(use_case.name) if verdict else ""),
    ]
    parts = [(rank, text) for rank, text in parts if text]
    while len(_joined(parts)) > MOST_CHARACTERS and len(parts) > 1:
        parts.remove(max(parts, key=lambda each: each[0]))
    return _joined(parts)[:MOST_CHARACTERS]


def placed(card: str, *, run_id: str, experiment_id: str) -> str:
    """The card with its links to the run it belongs to."""
    return card.replace(RUN, run_id).replace(EXPERIMENT, experiment_id)[:MOST_CHARACTERS]


def _joined(parts: Iterable[tuple[int, str]]) -> str:
    return "\n\n".join(text for _, text in parts) + "\n"


def _judged(verdict: Decision | None) -> str:
    if verdict is None:
        return ""
    said = f"**{_WORDS.get(verdict.action, verdict.action)}.** {_short(verdict.reason)}"
    found = objections(verdict.evidence, verdict.evidence["policy"]) if "champion" in verdict.evidence else []
    latency = verdict.evidence.get("latency", {})
    if "ratio" in latency:
        said += f" It takes {latency['ratio']:.2f} times the champion's time to answer."
    listed = "".join(f"\n- against it: {each}" for each in found)
    return f"{said}\n{listed}" if listed else said


def _metrics(profile: Mapping[str, Any], evidence: Mapping[str, Any], before: Predecessor | None) -> str:
    if before is not None and "champion" in evidence:
        sides = evidence["challenger"], evidence["champion"]
        rows = [
            [title, *(_number(side[name]) for side in sides), _signed(sides[0][name], sides[1][name])]
            for name, title in _SHOWN
            if name in _COMPARED
        ]
        head = [
            f"on the same newest {evidence['rows']:,} labelled rows",
            "this",
            f"champion {before.version}",
            "change",
        ]
        return _table(head, rows)
    rows = [[title, _number(profile[name])] for name, title in _SHOWN if profile.get(name) is not None]
    return _table([f"on the newest {profile['rows']:,} labelled rows", ""], rows)


def _changes(use_case: UseCase, profile: Mapping[str, Any], info: VersionInfo, before: Predecessor | None) -> str:
    """What is different from the champion: data, features, parameters, code."""
    if before is None:
        return ""
    training, old = profile["training"], before.profile["training"]
    lines = [
        f"- **Data:** {training['rows']:,} rows, {_day(training['from'])} to {_day(training['to'])} "
        f"(champion: {old['rows']:,}, {_day(old['from'])} to {_day(old['to'])}); "
        f"share of label 1 {training['base_rate']:.1%} (champion: {old['base_rate']:.1%})"
    ]
    columns, known = use_case.features.columns, list(before.spec["columns"])
    new, gone = [c for c in columns if c not in known], [c for c in known if c not in columns]
    features = [*(f"+ {name}" for name in new), *(f"− {name}" for name in gone)]
    lines.append(f"- **Features:** {_listed(features) or f'the same {len(known)}'}")
    names = sorted({*info.params, *before.params})
    params = [
        f"{name} {before.params.get(name, 'unset')} → {info.params.get(name, 'unset')}"
        for name in names
        if info.params.get(name) != before.params.get(name)
    ]
    lines.append(f"- **Parameters:** {_listed(params) or 'the same'}")
    code = (
        "the same" if info.git_commit == before.git_commit else f"`{before.git_commit[:12]}` → `{info.git_commit[:12]}`"
    )
    lines.append(f"- **Code:** {code}")
    return f"## Changed against champion {before.version}\n\n" + "\n".join(lines)


def _tests(evidence: Mapping[str, Any]) -> str:
    results = evidence.get("model_tests", {}).get("results", ())
    if not results:
        return ""
    rows = [[each["name"], _passed(each), each["said"]] for each in results]
    return "## Model tests\n\n" + _table(["test", "", ""], rows)


def _passed(result: Mapping[str, Any]) -> str:
    return "passed" if result["passed"] else "failed" if result["required"] else "noted"


def _segments(evidence: Mapping[str, Any]) -> str:
    parts = evidence.get("segments", ())
    if not parts:
        return ""
    rows = [
        [
            part["name"], f"{part['rows']:,}", f"{part['champion_log_loss']:.4f}",
            f"{part['rise']:+.4f} ({part['rise_interval'][0]:+.4f} to {part['rise_interval'][1]:+.4f})",
        ]
        for part in parts[:_MOST_ROWS]
    ]  # fmt: skip
    more = f"\n\n{len(parts) - _MOST_ROWS} more are on the gate's page." if len(parts) > _MOST_ROWS else ""
    return "## Segments\n\n" + _table(["segment", "rows", "champion's log-loss", "rise of it"], rows) + more


def _pictures(plots: Sequence[str]) -> str:
    shown = [f"![{said}](get-artifact?path=plots/{name}&run_uuid={RUN})" for name, said in _PLOTS if name in plots]
    return "## Pictures\n\n" + "\n".join(shown) if shown else ""


def _lineage(use_case: UseCase, profile: Mapping[str, Any], info: VersionInfo) -> str:
    training, run = profile["training"], f"#/experiments/{EXPERIMENT}/runs/{RUN}"
    parity = profile.get("parity_difference")
    lines = [
        f"- **Predicts:** {use_case.label.name} ({use_case.label.description or 'no description'})",
        f"- **Estimator:** {info.params.get('estimator', '?')} on {info.params.get('features', '?')} features",
        f"- **Data:** {training['rows']:,} rows known as of {info.as_of.isoformat()}, fingerprint `{info.fingerprint}`",
        f"- **Measured on:** {profile['from']} to {profile['to']}, not trained on",
        f"- **Features:** `feature_spec.json`, **code:** `use_case.py` at commit `{info.git_commit}`",
        f"- **Run:** [{RUN}]({run}), its [artifacts]({run}/artifacts) hold pictures, the gate's page and later looks",
        f"- **Digest:** `{info.digest}`",
    ]
    if parity is not None:
        lines.insert(2, f"- **Native and ONNX scores differ by:** {parity:.1e}")
    return "## Lineage\n\n" + "\n".join(lines)


def _files(digests: Mapping[str, str]) -> str:
    if not digests:
        return ""
    rows = [[f"`{name}`", f"`{digest[:16]}…`"] for name, digest in sorted(digests.items())]
    return "## Files\n\n" + _table(["file", "SHA-256"], rows)


def _promoting(name: str) -> str:
    return (
        "## Promote\n\nGive this version the alias `champion` on this page, or run "
        f"`evergreen promote {name} VERSION`; back with `evergreen rollback {name}`."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "/") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_ROWS} more" if len(names) > _MOST_ROWS else ""
    return ", ".join(names[:_MOST_ROWS]) + more


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _LONGEST_REASON else one_line[: _LONGEST_REASON - 1] + "…"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(new: float | None, old: float | None) -> str:
    return "–" if new is None or old is None else f"{new - old:+.4f}"


def _day(moment: str) -> str:
    return moment[:10]
