"""Serving: what it must reach, each figure beside its peers' under the same load in the same call."""

from __future__ import annotations

from bench import serving_loris, serving_overload, serving_rates, serving_stages

PARTS = {
    "one": serving_rates.one,
    "rank": serving_rates.rank,
    "peers": serving_rates.peers,
    "echo": serving_rates.bare,
    "overload": serving_overload.run,
    "slow_loris": serving_loris.run,
    "stages": serving_stages.run,
}
