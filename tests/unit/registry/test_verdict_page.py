from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from core.decision import Decision
from core.policy import Policy
from registry.gate import HoldoutScores, judge, with_latency
from registry.verdict import shortfall
from registry.verdict_page import verdict_page

RNG = np.random.default_rng(0)
ODDS = RNG.normal(size=1200)
LABELS = (RNG.uniform(size=1200) < 1 / (1 + np.exp(-ODDS))).astype(np.int64)


def scored(odds: Any, version: str = "") -> HoldoutScores:
    return HoldoutScores(LABELS, (1 / (1 + np.exp(-odds))).astype(np.float32), version)


def verdict(noise: float, *, champion: bool = True, sign: int = 1) -> Decision:
    other = scored(ODDS + noise * RNG.normal(size=1200), "<4>") if champion else None
    columns = {"a <b>": ODDS.astype(np.float32), "vendor": (np.arange(1200) % 3).astype(np.float32)}
    return judge(scored(sign * ODDS), other, Policy(), segments={"vendor": columns["vendor"]}, features=columns)


class Pictures(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize(
    ("decision", "word"),
    [
        (verdict(1.0), "Promoted"),
        (verdict(0.2), "Kept as challenger"),
        (verdict(0.2, sign=-1), "Rejected"),
        (verdict(0.0, champion=False), "Promoted"),
    ],
)
def test_every_verdict_has_its_page_with_everything_in_it(decision: Decision, word: str) -> None:
    page = verdict_page("taxi_tip", decision, title="version 7")
    parser = Pictures()
    parser.feed(page)
    assert parser.fetched and all(each.startswith("data:image/png;base64,") for each in parser.fetched)
    assert f"<b>{word}.</b>" in page and "taxi_tip: version 7" in page
    assert "a &lt;b&gt;" in page and "<b>version" not in page
    assert f"{decision.evidence['challenger']['log_loss']:.4f}" in page


def test_it_tells_what_the_rows_could_tell_and_how_each_segment_did() -> None:
    decision = verdict(0.2)
    page, told = verdict_page("taxi_tip", decision), shortfall(decision.evidence)
    assert f"{told['gain']:.5f} ({told['relative']:.2%})" in page
    assert len(re.findall(r"<td>vendor=\d</td><td>400</td>", page)) == 3


def test_it_tells_how_staging_went() -> None:
    decision = verdict(1.0)
    assert "it was not asked for" in verdict_page("t", decision)
    staged = with_latency(decision, {"ratio": 1.25, "challenger_ms": 2.5, "champion_ms": 2.0})
    assert "1.25 (2.50 ms, champion 2.00 ms)" in verdict_page("t", staged)
    assert "TorchServe is &lt;away&gt;" in verdict_page(
        "t", with_latency(decision, {"skipped": "TorchServe is <away>"})
    )


def test_the_same_verdict_gives_the_same_page() -> None:
    decision = verdict(1.0)
    assert verdict_page("t", decision) == verdict_page("t", decision)
