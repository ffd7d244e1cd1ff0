"""The contract of a use case: one prediction problem, described in one file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from core.errors import LeakageError, UseCaseError
from core.model_tests import ModelTest, check_declared
from core.policy import Policy as Policy
from core.policy_rules import check_policy
from core.serving_policy import Serving

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

Dtype = Literal["int", "float", "str"]
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
RESERVED_NAMES = (
    "id", "at", "key", "at_us", "known_at", "position", "row", "by", "label", "prediction_id", "version", "score",
    "degraded", "role", "watermark", "entity", "generation",
)  # fmt: skip
"""Columns of the log's own: no field of a request or an event bears one of these names."""
_RESERVED_PREFIXES = ("f__", "k__")  # of the columns in which a prediction's features and what it knew are logged


@dataclass(frozen=True, kw_only=True)
class Field:
    """One value in a request or an event.

    Args:
        name: lower-case identifier, none of `RESERVED_NAMES`.
        dtype: ``int`` (64 bit), ``float`` (finite) or ``str`` (at most 256 characters, not empty).
        nullable: whether null or absence is accepted (it becomes NaN, or "" for ``str``). A nullable ``int`` is
            held as a float, so the gateway refuses values beyond 2^53 either way; declare larger ones as ``str``.
        ge: smallest value accepted, numbers only.
        le: largest value accepted, numbers only.
        description: what it is, with its unit.
        example: a valid value, shown in the API docs and in the demo's curl line.
    """

    name: str
    dtype: Dtype
    nullable: bool = False
    ge: float | None = None
    le: float | None = None
    description: str = ""
    example: int | float | str | None = None


@dataclass(frozen=True, kw_only=True)
class EventSource:
    """A named stream of events that feature views read. Several use cases may declare the same one.

    Every event also carries ``id`` (string, unique within the source) and ``at`` (when it happened).
    """

    name: str
    fields: tuple[Field, ...]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is predicted.

    Args:
        name: the label's name.
        horizon: how long after the prediction a label may arrive; later ones are corrections.
        known_only_after: fields that are known only with the label or later. No request field and no
            request feature may bear one of these names.
        description: what 1 means.
    """

    name: str
    horizon: timedelta
    known_only_after: tuple[str, ...]
    description: str = ""
    kind: Literal["binary"] = "binary"


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """A rule that rows must satisfy to be asked about and trained on.

    Args:
        name: short name, shown with the count of rows that were dropped.
        keep: vectorised predicate, frame of n rows -> boolean array of n; must not change the frame.
    """

    name: str
    keep: Callable[[pd.DataFrame], Any]


class Classifier(Protocol):
    """What is trained: scikit-learn's classifier interface, on float32 matrices.

    Must be deterministic: the same rows give the same model.
    """

    def fit(self, X: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> Any:
        """Fit on X of shape (n, features) and y of shape (n,) with values 0 and 1."""
        ...

    def predict_proba(self, X: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Probabilities of shape (n, 2); the second column is the score."""
        ...


class FeatureDeclaration(Protocol):
    """What a use case needs to know of its features; ``features.definitions.FeatureSet`` is the one there is."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the feature columns, in the order of the matrix."""
        ...

    @property
    def request_columns(self) -> tuple[str, ...]:
        """Those computed from the request alone."""
        ...

    def validate(self, use_case: UseCase) -> None:
        """Raise UseCaseError unless every view reads entities, fields and sources the use case declares."""
        ...


@dataclass(frozen=True)
class History:
    """A past to learn from and to replay.

    Args:
        requests: one row per question, sorted by ``at``: ``key`` (str, unique), ``at`` (UTC), the
            entities and the request fields.
        labels: ``key``, ``label`` (0 or 1), ``at`` (UTC, when it became known).
        events: per source a frame with ``id``, ``at`` (UTC, when it happened and became known) and its fields,
            sorted by ``at``.
        dropped: rows left out by each data check, by name.
    """

    requests: pd.DataFrame
    labels: pd.DataFrame
    events: Mapping[str, pd.DataFrame]
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReplaySpan:
    """The part of the history that ``evergreen demo`` replays.

    Args:
        start: first moment of which events are sent.
        first_training: when the first version is trained, on the questions since `start`.
        end: where the replay ends.
        tick: how much event time is sent at once; no longer than the features' lateness.
        compare_from: from when on Evergreen and the frozen first version are compared; None: from the first version.
    """

    start: datetime
    first_training: datetime
    end: datetime
    tick: timedelta = timedelta(hours=3)
    compare_from: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class UseCase:
    """One prediction problem.

    Args:
        name: lower-case identifier, unique; names the MLflow model and the REST path.
        description: one sentence for people.
        entities: keys that features are looked up by; each is also a field of the request.
        request: further fields of the request.
        sources: event streams its views read.
        features: the feature views, in the order of the matrix.
        label: what is predicted.
        estimator: makes a fresh, unfitted classifier, given the feature columns in order.
        history: reads a past from the data folder.
        checks: rules for rows.
        policy: when to retrain and what to promote.
        serving: how it is served, and when a new version is taken back.
        replay: what ``evergreen demo`` replays; None if the use case is not for demonstration.
        categorical: feature columns that are codes, not quantities (drift is measured accordingly).
        tests: what every version must show before it may be promoted, see `core.model_tests`.
    """

    name: str
    description: str
    entities: tuple[Field, ...]
    request: tuple[Field, ...]
    sources: tuple[EventSource, ...]
    features: FeatureDeclaration
    label: Label
    estimator: Callable[[tuple[str, ...]], Classifier]
    history: Callable[[Path], History]
    checks: tuple[DataCheck, ...] = ()
    policy: Policy = field(default_factory=Policy)
    serving: Serving = field(default_factory=Serving)
    replay: ReplaySpan | None = None
    categorical: tuple[str, ...] = ()
    tests: tuple[ModelTest, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """Columns and fields that are codes, not quantities: those called categorical, and the entities."""
        return (*self.categorical, *(f.name for f in self.entities if f.name not in self.categorical))

    @property
    def request_fields(self) -> tuple[Field, ...]:
        """Every field of an instance: entities, then request fields."""
        return self.entities + self.request

    def source(self, name: str) -> EventSource:
        """The declared event source of that name.

        Raises:
            KeyError: if the use case declares none.
        """
        return {source.name: source for source in self.sources}[name]

    def validate(self) -> None:
        """Check the declaration as a whole.

        Raises:
            UseCaseError: naming the field or view at fault, and the remedy.
        """
        if not _NAME.match(self.name):
            raise UseCaseError(
                repr(self.name), "is not a usable name", "Use lower-case letters, digits and underscores."
            )
        if not isinstance(self.label, Label):
            raise UseCaseError(
                self.name, "declares no label", "Set label=Label(name=…, horizon=…, known_only_after=…)."
            )
        if not self.entities:
            raise UseCaseError(self.name, "declares no entity", "Name at least one key that features are looked up by.")
        self._validate_fields()
        self._validate_label()
        self._validate_serving()
        self.features.validate(self)
        if not self.features.columns:
            raise UseCaseError(self.name, "declares no feature", "Add a view to features=FeatureSet(…).")
        unknown = sorted(set(self.categorical) - set(self.features.columns))
        if unknown:
            raise UseCaseError(self.name, f"calls {unknown} categorical, which are no features", "Use feature names.")
        self.validate_policy()

    def validate_policy(self) -> None:
        """Check the policy, which may have been chosen after the use case was declared.

        Raises:
            UseCaseError: naming the value at fault, and the remedy.
        """
        fields = [f.name for f in self.request_fields]
        check_policy(self.name, self.policy, request=fields, features=self.features.columns)
        check_declared(self.name, self.tests, request=fields, features=self.features.columns)

    def _validate_fields(self) -> None:
        groups = [("the request", self.request_fields)] + [(s.name, s.fields) for s in self.sources]
        for where, fields in groups:
            names = [f.name for f in fields]
            for name in names:
                if not _NAME.match(name) or name in RESERVED_NAMES or name.startswith(_RESERVED_PREFIXES):
                    raise UseCaseError(
                        self.name,
                        f"field {name!r} of {where} has an unusable name",
                        "Use lower-case letters, digits and underscores; taken are "
                        f"{', '.join(RESERVED_NAMES)} and what begins with {' or '.join(_RESERVED_PREFIXES)}.",
                    )
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise UseCaseError(self.name, f"{where} declares {twice} twice", "Keep one of each.")

    def _validate_label(self) -> None:
        forbidden = {self.label.name, *self.label.known_only_after}
        for f in self.request_fields:
            if f.name in forbidden:
                raise LeakageError(
                    self.name,
                    f"request field {f.name!r} is known only with the label",
                    "Leave it out of the request; a window view may read it from past events.",
                )
        for column in self.features.request_columns:
            if column in forbidden:
                raise LeakageError(
                    self.name, f"feature {column!r} is the label or known only with it", "Remove the feature."
                )

    def _validate_serving(self) -> None:
        known = {f.name for f in self.entities}
        unknown = sorted(set(self.serving.sticky_by) - known)
        if unknown:
            raise UseCaseError(
                self.name, f"is sticky by {unknown}, which are no entities", f"Use one of: {', '.join(sorted(known))}."
            )
        if not 0 <= self.serving.log_share <= 1:
            raise UseCaseError(
                self.name, f"logs a share of {self.serving.log_share:g} of its predictions", "Use a number from 0 to 1."
            )
        if self.serving.start not in ("at_once", "canary", "shadow"):
            raise UseCaseError(
                self.name, f"starts its versions as {self.serving.start!r}", "Use at_once, canary or shadow."
            )
        if not 0 < self.serving.start_percent <= 100:
            raise UseCaseError(
                self.name,
                f"gives a version that starts {self.serving.start_percent:g} %",
                "Use a number above 0, at most 100.",
            )
