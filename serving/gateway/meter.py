"""Counting one key's calls against its rate and its quota, with what other gateway processes counted."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import QuotaExceeded, RateLimited
from serving.keys.key import Key

DAY_S = 86_400
_REMEMBERED_S = 2  # seconds before the present one whose calls are still told to the others


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls by second and by day, each as a number since 1970 UTC."""

    seconds: dict[int, int]
    days: dict[int, int]


class Meter:
    """The calls of one key: this process's own at once, everybody else's as of the last exchange.

    The rate is a sliding second: the calls of the present second of the clock, and of those of the one before it the
    share that lies within the last 1,000 ms, as if they had come evenly. So no second of the clock holds more calls
    than the rate, and a key that was idle may make all calls of a second at once. The quota counts
    the calls of a UTC day. Calls that are refused count for neither.

    Not safe for threads: the event loop alone counts and exchanges.

    Args:
        key: whose calls; its limits count.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        self.touched_s = 0.0
        self._second = self._day = 0
        self._in_second = self._in_second_before = self._in_day = 0
        self._unsent: dict[int, int] = {}
        self._unsent_days: dict[int, int] = {}
        self._is_shared = False

    def take(self, cost: int, now_s: float) -> None:
        """Count calls.

        Args:
            cost: how many.
            now_s: seconds since 1970 UTC.

        Raises:
            RateLimited: if they would exceed the rate; none of them counts.
            QuotaExceeded: if they would exceed the quota; none of them counts.
        """
        key = self.key
        if key.rate_per_s is None and key.quota_per_day is None:
            return
        self._turn(now_s)
        self.touched_s = now_s
        if key.rate_per_s is not None:
            over = self._last_second(now_s) + cost - key.rate_per_s
            if over > 0:
                raise RateLimited(key.id, limit=key.rate_per_s, window_s=1, retry_after_s=self._wait_s(over, now_s))
        if key.quota_per_day is not None:
            if self._in_day + cost > key.quota_per_day:
                left_s = (self._day + 1) * DAY_S - now_s
                raise QuotaExceeded(key.id, limit=key.quota_per_day, window_s=DAY_S, retry_after_s=left_s)
            self._in_day += cost
            self._unsent_days[self._day] = self._unsent_days.get(self._day, 0) + cost
        if key.rate_per_s is not None:
            self._in_second += cost
            self._unsent[self._second] = self._unsent.get(self._second, 0) + cost

    def is_due(self, now_s: float) -> bool:
        """Whether there is something to tell, or to ask for because calls may come."""
        if self.key.rate_per_s is None and self.key.quota_per_day is None:
            return False
        return not self._is_shared or bool(self._unsent or self._unsent_days) or now_s - self.touched_s < _REMEMBERED_S

    def hand_over(self, now_s: float) -> Counts:
        """What to add to the shared counters; must be followed by `learn` or `take_back`."""
        self._turn(now_s)
        seconds = {s: self._unsent.get(s, 0) for s in (self._second, self._second - 1)} if self.key.rate_per_s else {}
        days = {**dict.fromkeys([self._day] if self.key.quota_per_day else [], 0), **self._unsent_days}
        self._unsent, self._unsent_days = {}, {}
        return Counts(seconds, days)

    def learn(self, totals: Counts) -> None:
        """Take in the shared counters as they are after what was handed over was added."""
        self._is_shared = True
        now, before, day = self._second, self._second - 1, self._day
        # never less than is known here: counters that Redis lost are not forgotten by all at once
        self._in_second = max(self._in_second, totals.seconds.get(now, 0) + self._unsent.get(now, 0))
        self._in_second_before = max(
            self._in_second_before, totals.seconds.get(before, 0) + self._unsent.get(before, 0)
        )
        self._in_day = max(self._in_day, totals.days.get(day, 0) + self._unsent_days.get(day, 0))

    def take_back(self, sent: Counts) -> None:
        """Keep for the next exchange what could not be sent; of seconds, only those that still matter.

        If it was counted and only the answer was lost, it counts twice then: too strict, by one exchange's calls.
        """
        for second, calls in sent.seconds.items():
            if calls and second >= self._second - _REMEMBERED_S:
                self._unsent[second] = self._unsent.get(second, 0) + calls
        for day, calls in sent.days.items():
            if calls and day >= self._day - 1:
                self._unsent_days[day] = self._unsent_days.get(day, 0) + calls

    def _turn(self, now_s: float) -> None:
        """Begin a new second or day; a clock that steps back stays in the present one."""
        second = int(now_s)
        if second <= self._second:
            return
        self._in_second_before = self._in_second if second == self._second + 1 else 0
        self._in_second, self._second = 0, second
        for old in [s for s in self._unsent if s < second - _REMEMBERED_S]:
            del self._unsent[old]
        day = second // DAY_S
        if day != self._day:
            self._in_day, self._day = 0, day

    def _last_second(self, now_s: float) -> float:
        passed = min(max(now_s - self._second, 0.0), 1.0)
        return self._in_second + self._in_second_before * (1.0 - passed)

    def _wait_s(self, over: float, now_s: float) -> float:
        """Seconds until `over` calls have left the last second, if no other come."""
        passed = min(max(now_s - self._second, 0.0), 1.0)
        if self._in_second_before * (1.0 - passed) >= over:
            return over / self._in_second_before
        rest = over - self._in_second_before * (1.0 - passed)
        return 1.0 - passed + min(1.0, rest / max(self._in_second, 1))
