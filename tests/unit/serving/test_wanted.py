from __future__ import annotations

import pytest

from registry.versions import Desired
from serving.routing import Share
from serving.wanted import Wanted, read_wanted


def test_aliases_and_tags_become_shares() -> None:
    desired = Desired({"champion": "7", "canary": "8", "shadow": "9"}, {"evergreen.canary_percent": " 2.5 % "})
    wanted, faults = read_wanted("toy", desired)
    assert wanted == Wanted("7", {"canary": Share("8", 2.5), "shadow": Share("9", 100)})
    assert faults == []
    assert wanted.named == {("champion", "7"), ("canary", "8"), ("shadow", "9")}


@pytest.mark.parametrize("value", ["", "ten", "-1", "100.1", "nan", "inf", "1e400", "10,5"])
def test_a_malformed_tag_names_tag_value_and_what_is_allowed(value: str) -> None:
    desired = Desired({"champion": "7", "canary": "8"}, {"evergreen.canary_percent": value})
    wanted, (fault,) = read_wanted("toy", desired)
    assert wanted == Wanted("7", {"shadow": None}), "the canary stays as it is"
    assert f"the tag evergreen.canary_percent is {value!r}, which is no number from 0 to 100" in str(fault)


def test_a_malformed_tag_without_its_alias_does_no_harm() -> None:
    wanted, faults = read_wanted("toy", Desired({"champion": "7"}, {"evergreen.canary_percent": "x"}))
    assert wanted == Wanted("7", {"canary": None, "shadow": None}) and faults == []
