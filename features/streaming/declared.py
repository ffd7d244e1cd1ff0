"""What the stream worker needs to know of the declared use cases, gathered once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.use_case import Field, UseCase
from features.definitions import WindowView, feature_set, key_groups, largest_lateness_us, view_digest
from features.streaming.entries import declared_fields

DAY_US = 86_400_000_000
_UNREAD_LATENESS_US = 7 * DAY_US
_MARGIN_DAYS = 2
"""Days that ids are remembered longer than needed: clocks of gateways differ."""


@dataclass(frozen=True)
class StoredWindow:
    """A window view and the digest its values are kept under."""

    view: WindowView
    digest: str

    @property
    def keep_s(self) -> int:
        """Seconds after the last event of an entity when its value may go: nobody reads it any more."""
        return int((self.view.slots * self.view.tile).total_seconds()) + _MARGIN_DAYS * 86_400


@dataclass(frozen=True)
class Declared:
    """The window views of some use cases and the sources they read.

    Args:
        windows: every window view.
        fields: of each declared source.
        groups: the key groups of each declared source.
        lateness_us: of each declared source, after how many microseconds an event is too late; None: never.
    """

    windows: tuple[StoredWindow, ...]
    fields: Mapping[str, tuple[Field, ...]]
    groups: Mapping[str, tuple[tuple[str, ...], ...]]
    lateness_us: Mapping[str, int | None]

    @classmethod
    def of(cls, use_cases: Iterable[UseCase]) -> Declared:
        """Of every use case given."""
        known = list(use_cases)
        fields = declared_fields(known)
        windows = {
            (digest := view_digest(use_case.name, view)): StoredWindow(view, digest)
            for use_case in known
            for view in feature_set(use_case).window_views
        }
        return cls(
            windows=tuple(windows.values()),
            fields=fields,
            groups={source: key_groups(known, source) for source in fields},
            lateness_us={source: largest_lateness_us(known, source) for source in fields},
        )

    def late_after_us(self, source: str) -> int | None:
        """After how many microseconds an event of a source is too late for every view; None: never."""
        return self.lateness_us.get(source)

    def remembered_us(self, source: str) -> int:
        """How far back ids must be known: events that happened before are too late, or taken as they come."""
        late_after = self.late_after_us(source)
        return _UNREAD_LATENESS_US if late_after is None else late_after

    def first_day(self, source: str, known_at_us: int) -> int:
        """The first day (since 1970) whose ids still matter once events known at a moment have come."""
        return (known_at_us - self.remembered_us(source)) // DAY_US - _MARGIN_DAYS

    def remembered_s(self, source: str) -> int:
        """Seconds after the last event of a day when its ids may go."""
        return self.remembered_us(source) // 1_000_000 + (_MARGIN_DAYS + 2) * 86_400
