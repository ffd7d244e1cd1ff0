import orjson

from bench import joins, kills, online, stream
from bench.__main__ import _cells, _keep, main, page
from bench.contest import Score
from bench.joins import OURS
from bench.measure import Result


def _score(seconds, peak=2_000_000_000, before=100_000_000):
    return Score([seconds] * 5, before, peak)


def test_a_target_may_be_a_share_of_another_figure():
    ours = Result("ours", 0.5, "s", "lower").versus(Result("theirs", 0.4, "s", "lower"), 1.5)
    assert ours.reached
    assert (ours.against, ours.ratio) == ("theirs", 1.25)
    assert Result("rate", 90.0, "events/s", "higher", target=100.0).reached is False
    assert Result("free", 1.0, "s", "lower").reached is None


def test_the_join_is_compared_with_the_fastest_query_with_feast_and_with_its_output():
    scores = {name: _score(0.6) for name in joins._ENGINES} | {"DuckDB ASOF": _score(0.4), joins._FEAST: _score(4.0)}
    found = joins.results(scores | {OURS: _score(0.5, peak=300_000_000)})[-4:]
    assert [round(r.target, 3) for r in found] == [0.6, 0.5, 600.0, 160.0]
    assert [r.reached for r in found] == [True, True, True, False]
    assert "DuckDB ASOF" in found[0].against


def test_without_the_product_only_the_peers_are_shown():
    scores = {name: _score(0.6) for name in [*joins._ENGINES, joins._FEAST]}
    assert all(r.target is None for r in joins.results(scores))


def test_reads_are_compared_call_by_call():
    scores = {name: _score(0.5) for name in [*online._FEAST, online._BARE]} | {OURS: _score(0.05)}
    found = online.results("pair", scores)[-3:]
    assert [r.value for r in found] == [0.1] * 3
    assert [r.reached for r in found] == [True, True, True]


def test_a_row_shows_whom_it_is_compared_with():
    cells = _cells(Result("ours", 1.0, "s", "lower").versus(Result("theirs", 2.0, "s", "lower"), 1.5))
    assert cells == ["ours", "1", "s", "lower", "3", "theirs", "0.5", "yes", "5"]


def test_the_page_says_of_every_figure_that_misses_by_how_much_and_why(tmp_path):
    scores = {name: _score(0.6) for name in [*joins._ENGINES, joins._FEAST]} | {OURS: _score(1.2, peak=200_000_000)}
    _keep(tmp_path / "features.json", ["joins", "kills"], "joins", joins.results(scores))
    text = page(tmp_path)
    assert (
        "It is 1.2 s, 2.00 times as-of join, 1M rows x 20 columns: DuckDB equi-join by day; 1.5 times (0.9 s)" in text
    )
    assert text.count("**Not reached") == 2  # that, and eight times as fast as Feast
    assert "added by the join" not in text.partition("**Not reached")[2]


def test_what_is_not_run_keeps_its_figures(tmp_path):
    path, times = tmp_path / "features.json", {"clean": 2.0, "killed": 3.0}
    _keep(path, ["joins", "kills"], "kills", kills.results("run", True, 0, times))
    _keep(path, ["joins", "kills"], "joins", [Result("join", 1.0, "s", "lower")])
    assert list(orjson.loads(path.read_bytes())) == ["joins", "kills"]


def test_a_part_that_is_unknown_is_refused_with_those_there_are(capsys):
    assert main(["features:nothing"]) == 2
    assert "features:joins" in capsys.readouterr().err
    assert main(["nothing"]) == 2


def test_kills_must_change_nothing():
    times = {"clean": 2.0, "killed": 3.0}
    assert [r.reached for r in kills.results("run", True, 0, times)] == [True, True, None, None]
    assert [r.reached for r in kills.results("run", False, 3, times)[:2]] == [False, False]


def test_streams_are_counted_in_events_a_second():
    found = stream.results({"packed": _score(4.0), "single": _score(2.0)}, {"packed": 500_000, "single": 100_000})
    assert [(r.value, r.reached) for r in found] == [(125_000, True), (50_000, None)]
