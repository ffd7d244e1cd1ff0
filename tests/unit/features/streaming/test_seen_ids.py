"""Seen ids are a set, whatever order they come in and whenever they are loaded anew."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.streaming.seen_ids import DAY_US, SeenIds, SortedRuns, hash_ids

batches = st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=30), max_size=12)


@given(batches=batches, reload_at=st.integers(0, 12))
def test_each_id_is_new_once_a_day(batches: list[list[tuple[int, int]]], reload_at: int) -> None:
    stored: dict[tuple[str, int], bytes] = {}
    ids = SeenIds(lambda source, day: stored.get((source, day), b""))
    known: set[tuple[int, int]] = set()
    for number, batch in enumerate(batches):
        if number == reload_at:  # another worker goes on
            ids = SeenIds(lambda source, day: stored.get((source, day), b""))
        hashed = hash_ids([f"é{n}" for n, _ in batch])
        at_us = np.array([day * DAY_US + n for n, day in batch], dtype=np.int64)
        is_first, fresh = ids.take("s", at_us, hashed)
        for event, got in zip(batch, is_first.tolist(), strict=True):
            assert got == (event not in known)
            known.add(event)
        for day, new in fresh.items():
            stored["s", day] = stored.get(("s", day), b"") + new.astype("<u8").tobytes()
    assert sum(len(packed) for packed in stored.values()) == 8 * len(known)


def test_sources_are_apart_and_past_days_are_forgotten() -> None:
    ids, hashed, at_us = SeenIds(lambda source, day: b""), hash_ids(["a"]), np.array([5 * DAY_US])
    for source in ("s", "t"):
        assert ids.take(source, at_us, hashed)[0].tolist() == [True]
    ids.forget("s", 6)
    assert ids.take("t", at_us, hashed)[0].tolist() == [False]
    assert ids.take("s", at_us, hashed)[0].tolist() == [True]


def test_few_runs_are_kept() -> None:
    runs, rng = SortedRuns(), np.random.default_rng(0)
    for _ in range(500):
        runs.add(np.sort(rng.integers(0, 2**63, 20).astype(np.uint64)))
    assert len(runs) == 10_000
    assert len(runs._runs) < 16


def test_hashes_are_the_same_in_every_process() -> None:
    assert hash_ids(["e1", "ü", ""]).tolist() == [6744810807989902084, 6689755093696353227, 1760245841805064774]
