"""Leaving a version alone that does not answer, and bounding how much is tried again."""

from __future__ import annotations

from dataclasses import dataclass

_FAILURES = 5
_OPEN_S = 1.0
# one call every two seconds costs a host nothing, and is how long one that is back goes unnoticed
_LONGEST_OPEN_S = 2.0


@dataclass(slots=True)
class Breaker:
    """Says of one version whether it is worth asking.

    After five failures in a row it opens, and callers are refused at once. When it has been open for a second, one
    call is let through to try; if that fails too, it stays open for twice as long, up to two seconds.

    Source: the circuit breaker of M. Nygard, "Release It!", 2nd edition, 2018, section 5.2.

    Example:
        >>> breaker = Breaker()
        >>> for _ in range(5):
        ...     breaker.failed(now_s=10.0)
        >>> breaker.allows(now_s=10.5), breaker.allows(now_s=11.0), breaker.allows(now_s=11.0)
        (False, True, False)
        >>> breaker.succeeded()
        >>> breaker.allows(now_s=11.0)
        True
    """

    failures: int = 0
    open_until_s: float | None = None
    open_for_s: float = _OPEN_S

    @property
    def is_open(self) -> bool:
        """Whether callers are refused; also while one call tries."""
        return self.open_until_s is not None

    def allows(self, now_s: float) -> bool:
        """Whether to make a call now; the caller then tells how it went."""
        if self.open_until_s is None:
            return True
        if now_s < self.open_until_s:
            return False
        self.open_until_s = now_s + self.open_for_s  # for the others, until this one is back
        return True

    def succeeded(self) -> None:
        """The version answered."""
        self.failures, self.open_until_s, self.open_for_s = 0, None, _OPEN_S

    def failed(self, now_s: float) -> None:
        """The version did not answer."""
        self.failures += 1
        if self.open_until_s is not None:
            self.open_for_s = min(2 * self.open_for_s, _LONGEST_OPEN_S)
        if self.failures >= _FAILURES:
            self.open_until_s = now_s + self.open_for_s


@dataclass(slots=True)
class RetryBudget:
    """Bounds retries to a share of the calls, so that trying again cannot multiply an overload.

    Every call adds a fifth of a retry, up to `most`, and time adds `per_s`; a retry takes one.

    Source: the retry budgets of Finagle (Twitter), https://twitter.github.io/finagle/guide/Clients.html#retries.

    Example:
        >>> budget = RetryBudget(most=1.0, per_s=0.0)
        >>> budget.take(now_s=0.0), budget.take(now_s=0.0)
        (True, False)
        >>> for _ in range(5):
        ...     budget.called()
        >>> budget.take(now_s=0.0)
        True
    """

    most: float = 20.0
    per_s: float = 2.0
    share: float = 0.2
    held: float = -1.0
    at_s: float = 0.0

    def called(self) -> None:
        """A first call was made."""
        self.held = min((self.most if self.held < 0 else self.held) + self.share, self.most)

    def take(self, now_s: float) -> bool:
        """Whether a call may be made again."""
        held = self.most if self.held < 0 else min(self.held + (now_s - self.at_s) * self.per_s, self.most)
        self.at_s = now_s
        self.held = held - 1 if held >= 1 else held
        return held >= 1
