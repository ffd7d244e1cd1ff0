"""What the live stack answers: the gateway to good, odd and bad calls, the command line to what documents show."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from core.discovery import discover
from core.prediction_ids import issue_ids
from core.trust import trusted
from features.streams import Keys
from serving.torchserve.tokens import Tokens
from tests.doc_examples import NAMES, ROOT, fences, pages_with, to_run
from tests.e2e.conftest import Live
from tests.e2e.examples import Stage, carry_out, curve_of, serve_ads, set_stage, ungated


def last_entries(live: Live) -> dict[str, bytes]:
    """The id of the newest entry each stream ever had."""
    keys = Keys(live.settings.redis.namespace)
    with redis.Redis.from_url(live.settings.redis_url) as client:
        streams = (keys.log(0), keys.predictions, keys.labels)
        return {stream: client.xinfo_stream(stream)["last-generated-id"] for stream in streams}


PREDICT, FEEDBACK, EVENTS = "/v1/models/taxi_tip/predict", "/v1/models/taxi_tip/feedback", "/v1/events/taxi_payments"
GOOD = (
    b'{"instances": [{"pickup_zone": 161, "dropoff_zone": 236, "trip_distance": 1.8, "duration_min": 11.5, '
    b'"fare_amount": 9.5, "extra": 0.5, "tolls_amount": 0.0}]}'
)
BAD: list[tuple[str, str, bytes, str]] = [
    ("unknown use case", "/v1/models/no_such/predict", GOOD, "no_such"),
    ("missing entity", PREDICT, GOOD.replace(b'"pickup_zone": 161, ', b""), "instances[0].pickup_zone"),
    ("wrong type", PREDICT, GOOD.replace(b"9.5", b'"nine"'), "instances[0].fare_amount"),
    ("boolean for a number", PREDICT, GOOD.replace(b"9.5", b"true"), "instances[0].fare_amount"),
    ("null where none may be", PREDICT, GOOD.replace(b"9.5", b"null"), "instances[0].fare_amount"),
    ("fraction for an integer", PREDICT, GOOD.replace(b"161", b"161.5"), "instances[0].pickup_zone"),
    ("out of bounds", PREDICT, GOOD.replace(b"161", b"266"), "instances[0].pickup_zone"),
    ("unknown field", PREDICT, GOOD.replace(b'"extra"', b'"tip_amount"'), "tip_amount"),
    ("NaN", PREDICT, GOOD.replace(b"9.5", b"NaN"), ""),
    ("Infinity", PREDICT, GOOD.replace(b"9.5", b"Infinity"), ""),
    ("1e400", PREDICT, GOOD.replace(b"9.5", b"1e400"), ""),
    ("huge integer", PREDICT, GOOD.replace(b"161", b"1" * 30), "instances[0].pickup_zone"),
    ("empty batch", PREDICT, b'{"instances": []}', "instances"),
    ("no batch", PREDICT, b"{}", "instances"),
    ("over-long batch", PREDICT, b'{"instances": [' + b",".join([b"{}"] * 300) + b"]}", "instances"),
    ("malformed JSON", PREDICT, b'{"instances": [', ""),
    ("not an object", PREDICT, b"[1, 2]", ""),
    ("duplicate key", PREDICT, b'{"instances": [], "instances": []}', "instances"),
    ("not UTF-8", PREDICT, b'{"instances": "\xff"}', ""),
    ("10 MB body", PREDICT, b'{"instances": "' + b"x" * 10_000_000 + b'"}', ""),
    ("question from the future", PREDICT, GOOD.replace(b'"extra"', b'"at": "2030-01-01T00:00:00Z", "extra"'), "at"),
    ("made-up prediction", FEEDBACK, b'{"labels": [{"prediction_id": "abc", "label": 1}]}', "labels[0].prediction_id"),
    ("label that is none", FEEDBACK, b'{"labels": [{"prediction_id": "abc", "label": 2}]}', "labels[0]"),
    ("unknown source", "/v1/events/no_such", b'{"events": [{"id": "1", "at": "2018-02-01T00:00:00Z"}]}', "no_such"),
    ("event without id", EVENTS, b'{"events": [{"at": "2018-02-01T00:00:00Z"}]}', "events[0].id"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "named"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_a_problem_that_names_field_and_remedy(live: Live, path: str, body: bytes, named: str) -> None:
    before = last_entries(live)
    answer = live.post(path, body)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["remedy"], problem
    assert named in answer.text
    assert last_entries(live) == before, "something was logged"


def test_an_id_of_another_deployment_is_unknown(live: Live) -> None:
    (stranger,) = issue_ids(b"x" * 32, "taxi_tip", 1_549_065_600_000, 1)
    answer = live.post(FEEDBACK, {"labels": [{"prediction_id": stranger, "label": 1}]})
    assert answer.status_code == 404
    assert answer.json()["field"] == "labels[0].prediction_id"


def test_an_unknown_entity_is_served_with_defaults_and_said_to_be_degraded(live: Live) -> None:
    answer = live.predict(live.instance(), live.instance(pickup_zone=110))
    assert answer.status_code == 200
    body = answer.json()
    assert all(0 <= score <= 1 for score in body["predictions"])
    (degraded,) = body["degraded"]
    assert degraded["instance"] == 1
    assert {"pickup_hours: unknown entity", "pickup_profile: unknown entity"} <= set(degraded["reasons"])


def test_torchserve_called_directly_gives_the_same_score(live: Live) -> None:
    through = live.predict(live.instance()).json()
    token = Tokens(live.settings.home / "torchserve" / "key_file.json").inference()
    us = 1_517_788_800_000_000  # 2018-02-05, the end of the replay
    answer = httpx.post(
        f"{live.settings.torchserve_inference_url}/predictions/taxi_tip/{through['model_version']}",
        headers={"Authorization": f"Bearer {token}"},
        json={"instances": [live.instance()], "at_us": [us], "now_us": us},
    )
    assert answer.json()["predictions"] == through["predictions"]


def test_torchserve_answers_nobody_without_its_token(live: Live) -> None:
    answer = httpx.post(f"{live.settings.torchserve_inference_url}/predictions/taxi_tip", json={})
    assert answer.status_code in (400, 401, 403)


def test_pages_answer(live: Live) -> None:
    def get(path: str) -> Any:
        return httpx.get(live.settings.gateway_url + path, verify=trusted())

    assert get("/healthz").status_code == 200
    assert get("/readyz").status_code == 200
    assert {model["name"] for model in get("/v1/models").json()["models"]} == set(discover(live.settings.models_dir))
    assert get("/v1/models/taxi_tip").json()["version"] in ("1", "2")
    assert PREDICT in get("/openapi.json").json()["paths"]
    metrics = get("/metrics").text
    assert re.search(r"^evergreen_\w+.*\d", metrics, re.M)


def test_a_use_case_without_a_champion_says_how_to_get_one(live: Live) -> None:
    fields = discover(live.settings.models_dir)["flight_delay"].use_case.request_fields
    answer = live.post("/v1/models/flight_delay/predict", {"instances": [{f.name: f.example for f in fields}]})
    assert answer.status_code == 503
    assert "evergreen retrain flight_delay" in answer.text
    assert answer.headers["retry-after"]


def test_scores_are_finite(live: Live) -> None:
    scores = np.array([score for _, score, _ in live.result.record.answers.values()])
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 100


@pytest.fixture(scope="module")
def third_version(live: Live, tmp_path_factory: pytest.TempPathFactory) -> str:
    return ungated(live, tmp_path_factory.mktemp("ungated"))


@pytest.fixture
def stage(live: Live, third_version: str, tmp_path: Path) -> Iterator[Stage]:
    shutil.copytree(ROOT / "models", tmp_path / "models")
    set_stage(live)
    yield Stage(live, third_version, tmp_path)
    set_stage(live)


@pytest.mark.parametrize("page", pages_with("stack"), ids=NAMES.get)
def test_what_a_page_shows_works_as_it_is_written(stage: Stage, page: Path) -> None:
    commands = to_run(page, "stack")
    if any("ad_click" in command.said for command in commands):
        serve_ads(stage.live, stage.folder / "ads")
    for command in commands:
        said = carry_out(stage, command)
        if command.said == "evergreen status --json":
            (shown,) = fences(ROOT / "docs" / "judgement.md", "json")
            assert {tuple(point) for point in curve_of(said)} == {tuple(json.loads(shown))}
        if command.words[1] == "drill":
            (shown,) = fences(page, "text")
            heading = said.splitlines()[0].replace(" expected ", " ")
            assert heading.split() == shown.splitlines()[0].split()
        if "--html" in command.words:
            assert (stage.folder / "replay.html").read_text().startswith("<!doctype html>")
        if "--write" in command.words:
            (shown,) = fences(ROOT / "docs" / "replay.md", "json")
            written = json.loads((stage.folder / "models" / "taxi_tip.policy.json").read_text())
            assert written.keys() == json.loads(shown).keys() and "kind" in written["policy"]["trigger"]
