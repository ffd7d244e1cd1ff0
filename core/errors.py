"""The errors Evergreen raises.

::

    EvergreenError
    ├── SettingsError            a setting is missing, malformed or contradicts another
    ├── UseCaseError             a file in models/ cannot be used
    │   ├── DuplicateUseCase     two files declare the same name
    │   └── LeakageError         a feature reads the label or the future
    ├── RequestError             what a client sent cannot be accepted
    │   ├── InvalidField         one field has a wrong type, value or is missing
    │   ├── UnknownUseCase       no file in models/ declares that name
    │   ├── UnknownPrediction    feedback for a prediction this gateway never made
    │   ├── UnknownSource        events for a source no use case reads
    │   ├── TooLarge             the body or the batch is over the limit
    │   ├── Unauthorized         the API key is missing, wrong, revoked or expired
    │   ├── Forbidden            the API key may not do that
    │   ├── LimitReached         the API key made more calls than it may
    │   │   ├── RateLimited      in the last second
    │   │   └── QuotaExceeded    in this day
    │   ├── UnknownKey           there is no API key of that id
    │   └── KeyEnded             the API key is no longer live
    ├── Unavailable              something needed is not there right now; trying later may help
    │   ├── NoLiveVersion        the use case has no champion serving yet
    │   ├── Overloaded           the queue is full; the request was shed
    │   ├── DeadlineMissed       there was no answer in time
    │   └── DependencyDown       Redis, MLflow, Prefect or the model host does not answer
    ├── DataError                a table or the offline log cannot be read or written as declared
    ├── TrainingError            a retrain cannot produce a version
    │   ├── NotEnoughData        too few labelled rows
    │   ├── ConversionError      the estimator cannot be converted to ONNX
    │   └── ParityError          native and ONNX scores differ
    ├── DeploymentError          a version cannot be put into service
    │   ├── DigestMismatch       an artifact is not the one that was registered
    │   ├── UnsafeArtifact       an artifact holds what no version may hold
    │   └── NotPermitted         the rules of promotion do not allow it
    ├── LedgerError              the ledger refuses a write
    │   └── StaleGeneration      somebody else deployed in between
    └── StackError               a local process cannot be started or stopped

Every message says what happened, the value, what was allowed, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class EvergreenError(Exception):
    """Root of all errors raised on purpose."""


class SettingsError(EvergreenError):
    """A setting is missing, malformed or contradicts another."""


class UseCaseError(EvergreenError):
    """A file in ``models/`` cannot be used.

    Args:
        where: the file or the use case's name.
        problem: what is wrong, as a clause.
        remedy: what to do, as a sentence.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}. {remedy}")
        self.where = where
        self.problem = problem
        self.remedy = remedy


class DuplicateUseCase(UseCaseError):
    """Two files declare the same use case."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            second,
            f"declares the use case {name!r}, which {first} declares already",
            "Rename one of the two.",
        )


class LeakageError(UseCaseError):
    """A feature reads the label or the future."""


class RequestError(EvergreenError):
    """What a client sent cannot be accepted.

    Args:
        detail: what happened, with the value.
        field: path of the offending field, e.g. ``instances[3].fare_amount``; None if the whole body.
        remedy: what the client should do.
    """

    def __init__(self, detail: str, *, field: str | None = None, remedy: str) -> None:
        super().__init__(f"{field}: {detail} {remedy}" if field else f"{detail} {remedy}")
        self.detail = detail
        self.field = field
        self.remedy = remedy


class InvalidField(RequestError):
    """One field has a wrong type, a wrong value, or is missing."""


class UnknownUseCase(RequestError):
    """No file in ``models/`` declares that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no use case {name!r}.",
            field="use_case",
            remedy=f"Use one of: {', '.join(sorted(known)) or 'none is defined yet'}.",
        )


class UnknownPrediction(RequestError):
    """Feedback names a prediction that was never made for this use case."""


class UnknownSource(RequestError):
    """Events are sent to a source that no use case reads."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no event source {name!r}.",
            field="source",
            remedy=f"Use one of: {', '.join(sorted(known)) or 'none is defined yet'}.",
        )


class TooLarge(RequestError):
    """The body or the batch is over the limit."""


class Unauthorized(RequestError):
    """The API key is missing, wrong, revoked or expired."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, field="X-API-Key", remedy="Send a valid key in the X-API-Key header.")


class Forbidden(RequestError):
    """The API key is valid, and may not do that."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail, field="X-API-Key", remedy=remedy)


class LimitReached(RequestError):
    """The API key made more calls than it may.

    Args:
        key: its id.
        limit: most calls.
        window_s: in how many seconds.
        retry_after_s: when calls are accepted again, in seconds from now.
    """

    what = "limit"

    def __init__(self, key: str, *, limit: int, window_s: int, retry_after_s: float) -> None:
        super().__init__(
            f"The key {key} may make {limit} calls per {'day' if window_s == 86_400 else 'second'}, and has made them.",
            field="X-API-Key",
            remedy=f"Try again in {retry_after_s:.3g} s, or ask for a higher {self.what}.",
        )
        self.limit = limit
        self.window_s = window_s
        self.retry_after_s = retry_after_s


class RateLimited(LimitReached):
    """The API key made as many calls in the last second as it may."""

    what = "rate"


class QuotaExceeded(LimitReached):
    """The API key made as many calls in this UTC day as it may."""

    what = "quota"


class UnknownKey(RequestError):
    """There is no API key of that id."""

    def __init__(self, key: str) -> None:
        super().__init__(f"There is no key {key[:60]!r}.", field="id", remedy="List them with: evergreen keys list")


class KeyEnded(RequestError):
    """The API key is no longer live, or has a successor."""

    def __init__(self, key: str, why: str, remedy: str) -> None:
        super().__init__(f"The key {key} {why}.", field="id", remedy=remedy)


class Unavailable(EvergreenError):
    """Something needed is not there right now; the same call may succeed later."""


class NoLiveVersion(Unavailable):
    """The use case has no champion serving yet."""

    def __init__(self, use_case: str) -> None:
        super().__init__(
            f"The use case {use_case!r} has no live version yet. "
            f"Train and promote one with: evergreen retrain {use_case}"
        )
        self.use_case = use_case


class Overloaded(Unavailable):
    """The queue is full; the request was shed instead of kept waiting."""


class DeadlineMissed(Unavailable):
    """There was no answer in the time that was allowed.

    Args:
        allowed_s: that time, in seconds; 0 if it was over before the work began.
    """

    def __init__(self, allowed_s: float) -> None:
        super().__init__(f"There was no answer within {allowed_s:.3g} s." if allowed_s else "The deadline has passed.")
        self.allowed_s = allowed_s


class DependencyDown(Unavailable):
    """Redis, MLflow, Prefect or the model host does not answer."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what} does not answer: {problem}")
        self.what = what


class DataError(EvergreenError):
    """A table or the offline log cannot be read or written as declared."""


class TrainingError(EvergreenError):
    """A retrain cannot produce a version."""


class NotEnoughData(TrainingError):
    """There are too few labelled rows to train or to judge on."""

    def __init__(self, use_case: str, rows: int, needed: int, what: str) -> None:
        super().__init__(
            f"{use_case}: {rows} {what}, at least {needed} are needed. "
            "Wait for more labels, or lower the policy's min_rows."
        )
        self.rows = rows
        self.needed = needed


class ConversionError(TrainingError):
    """The estimator cannot be converted to ONNX."""

    def __init__(self, use_case: str, estimator: str, cause: str) -> None:
        super().__init__(
            f"{use_case}: the estimator {estimator} cannot be converted to ONNX ({cause}). "
            "Use a scikit-learn estimator that skl2onnx supports, or a core.torch_classifier.TorchClassifier."
        )


class ParityError(TrainingError):
    """Native and ONNX scores differ by more than the tolerance."""

    def __init__(self, use_case: str, difference: float, tolerance: float, rows: int) -> None:
        super().__init__(
            f"{use_case}: native and ONNX scores differ by {difference:.3g} on {rows} rows, "
            f"{tolerance:.0e} is allowed. Train on float32 input and avoid float64-only operations."
        )
        self.difference = difference


class DeploymentError(EvergreenError):
    """A version cannot be put into service."""


class DigestMismatch(DeploymentError):
    """An artifact's bytes are not those that were registered."""

    def __init__(self, artifact: str, expected: str, found: str) -> None:
        super().__init__(
            f"{artifact} has digest {found[:12]}…, the registered one is {expected[:12]}…. "
            "It was changed after training: retrain, or restore the artifact."
        )


class UnsafeArtifact(DeploymentError):
    """An artifact holds what no version may hold: code besides its use case's file, a pickle, a link to elsewhere.

    Args:
        artifact: the folder, archive or graph.
        problem: what it holds, as a clause.
    """

    def __init__(self, artifact: str, problem: str) -> None:
        super().__init__(
            f"{artifact} {problem}. Nothing of it was run. Find out who put it there, then restore the artifact or "
            "retrain."
        )


class NotPermitted(DeploymentError):
    """The rules of promotion do not allow it.

    Args:
        reason: what is missing, as a sentence.
        remedy: what to do, as a sentence.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class LedgerError(EvergreenError):
    """The ledger refuses a write."""


class StaleGeneration(LedgerError):
    """Somebody else deployed in between."""

    def __init__(self, use_case: str, expected: int, found: int) -> None:
        super().__init__(
            f"{use_case}: generation {found} was deployed meanwhile (this writer knew {expected}). "
            "Read the history again and decide anew."
        )


class StackError(EvergreenError):
    """A local process cannot be started or stopped."""
