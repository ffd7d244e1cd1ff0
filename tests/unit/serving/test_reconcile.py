"""From any situation, and stopped after any step, the plans lead to what is wanted without an outage."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.reconcile import Live, Observed, plan
from serving.routing import Route, Share
from serving.steps import (
    Announce,
    AwaitPickUp,
    Deploy,
    End,
    Load,
    MoveAlias,
    Publish,
    Release,
    Smoke,
    Split,
    Step,
    Unload,
)
from serving.wanted import Wanted

VERSIONS = ("1", "2", "3", "4")
version = st.sampled_from(VERSIONS)
share = st.builds(Share, version, st.sampled_from([10.0, 50.0]))


@dataclass
class World:
    """What the steps act on, reduced to what plans can see."""

    champion: str | None
    wanted: dict[str, Share | None]
    live: Live | None
    shares: dict[str, Share]
    barred: dict[str, str]
    route: Route | None
    loaded: set[str]
    packed: set[str]
    bad: frozenset[str] = frozenset()
    picked_up: bool = False
    announced: bool = False
    refused: set[str] = field(default_factory=set)
    outages: list[str] = field(default_factory=list)

    def observed(self) -> Observed:
        return Observed(
            wanted=Wanted(self.champion, self.wanted),
            live=self.live,
            shares=self.shares,
            barred=self.barred,
            route=self.route,
            loaded=frozenset(self.loaded),
            picked_up=self.picked_up,
            announced=self.announced,
            refused=frozenset(self.refused),
            drained=frozenset((self.loaded | self.packed) - set(self.route.versions if self.route else ())),
        )

    def take(self, step: Step) -> bool:  # noqa: C901 - one short branch per kind of step
        match step:
            case Load(wanted):
                self.packed.add(wanted)
                if wanted in self.bad:
                    self.refused.add(wanted)
                    return False
                self.loaded.add(wanted)
            case Smoke(wanted):
                assert wanted in self.loaded
            case Deploy(wanted, generation, previous):
                assert generation == (self.live.generation if self.live else 0)
                assert wanted != self.barred.get("champion")
                self.live, self.announced = Live(wanted, generation + 1, previous), False
            case Split(role, given_, was):
                assert given_.version in self.loaded
                assert given_.version != self.barred.get(role) and was == self.shares.get(role) != given_
                self.shares = {**self.shares, role: given_}
            case End(role, ended):
                assert self.shares[role].version == ended
                self.shares = {name: kept for name, kept in self.shares.items() if name != role}
            case Publish(route):
                for name in set(route.versions) - self.loaded:
                    self.outages.append(f"{name} is routed to, but not loaded")
                if route.canary is not None and route.canary.version in (route.version, self.barred.get("canary")):
                    self.outages.append(f"{route.canary} may not be canary")
                self.route, self.picked_up = route, False
            case AwaitPickUp(route):
                assert route == self.route
                self.picked_up = True
            case Announce(wanted, generation):
                assert self.live is not None and generation == self.live.generation and self.picked_up
                self.announced = True
            case MoveAlias("champion", moved, to):
                assert self.champion == moved == self.barred["champion"] and to is not None
                self.champion = to
            case MoveAlias(role, moved, to):
                taken = self.wanted[role]
                assert taken is not None and taken.version == moved == self.barred[role] and to is None
                self.wanted = {**self.wanted, role: None}
            case Release(role, freed):
                assert self.barred[role] == freed
                self.barred = {name: kept for name, kept in self.barred.items() if name != role}
            case Unload(wanted):
                if self.route and wanted in self.route.versions:
                    self.outages.append(f"{wanted} is unloaded under its clients")
                if wanted in {held.version for held in self.shares.values()}:
                    self.outages.append(f"{wanted} cannot be loaded again while the registry is away")
                self.loaded.discard(wanted)
                self.packed.discard(wanted)
        return True


@st.composite
def worlds(draw: st.DrawFn, bad: bool = False) -> World:
    live = draw(st.none() | st.builds(Live, version, st.integers(1, 5), st.none() | version))
    shares = draw(st.dictionaries(st.sampled_from(["canary", "shadow"]), share)) if live else {}
    barred = draw(st.dictionaries(st.sampled_from(["canary", "shadow", "champion"]), version)) if live else {}
    # the ledger's own: whoever is taken back has the role no longer, and there is somebody to go back to
    shares = {role: held for role, held in shares.items() if barred.get(role) != held.version}
    if live and live.version == barred.get("champion") and live.previous in (None, live.version):
        del barred["champion"]
    return World(
        champion=draw(st.none() | version),
        wanted=draw(st.dictionaries(st.sampled_from(["canary", "shadow"]), st.none() | share)),
        live=live,
        shares=shares,
        barred=barred,
        route=draw(st.none() | st.builds(Route, version, st.integers(1, 5), st.none() | share, st.none() | share)),
        loaded=draw(st.sets(version)),
        packed=draw(st.sets(version)),
        bad=draw(st.frozensets(version)) if bad else frozenset(),
        picked_up=draw(st.booleans()),
        announced=draw(st.booleans()),
    )


def start_routed(world: World) -> None:
    """Begin as serving would: whatever is routed to is loaded, as far as it can be."""
    if world.route is not None:
        world.loaded |= set(world.route.versions) - world.bad


def settle(world: World, stops: list[int]) -> None:
    """Plan and act until nothing is left to do; each stop cuts a plan short after so many steps, as a kill would."""
    for round_ in range(40):
        steps = plan(world.observed())
        if not steps:
            return
        for step in steps[: stops[round_] if round_ < len(stops) else len(steps)]:
            if not world.take(step):
                break
    raise AssertionError(f"does not settle: {world}, next {plan(world.observed())}")


@settings(max_examples=200)
@given(worlds(), st.lists(st.integers(0, 8), max_size=8))
def test_any_state_converges_whenever_it_is_stopped(world: World, stops: list[int]) -> None:
    champion, wanted, barred, before = world.champion, world.wanted, dict(world.barred), world.live
    held = {role: kept for role, kept in world.shares.items() if before and kept.version != before.version}
    settle(world, stops)
    assert world.outages == []
    live = world.live
    if champion is not None and champion != barred.get("champion"):
        assert live is not None and live.version == champion
    elif before is not None and before.version == barred.get("champion"):
        assert live is not None and live.version == before.previous, "taken back also while the registry is away"
    if live is None:
        return
    expected = {}
    for role in ("canary", "shadow"):
        goal = wanted.get(role, held.get(role))
        if goal is not None and goal.version not in (live.version, barred.get(role)):
            expected[role] = goal
    assert world.route == Route(live.version, live.generation, expected.get("canary"), expected.get("shadow"))
    assert world.shares == expected
    assert world.picked_up and world.announced
    assert world.loaded == {*world.route.versions} | ({live.previous} if live.previous else set())


@settings(max_examples=200)
@given(worlds(bad=True), st.lists(st.integers(0, 8), max_size=8))
def test_versions_that_do_not_load_cause_no_outage_and_no_endless_work(world: World, stops: list[int]) -> None:
    before, champion = world.live, world.champion
    start_routed(world)
    loaded = set(world.loaded)
    settle(world, stops)
    assert world.outages == []
    is_taken_back = before is not None and before.version == world.barred.get("champion")
    if champion in world.bad - loaded and before is not None and not is_taken_back:
        assert world.live is not None and world.live.version in (before.version, before.previous)


SEEN = {"live": Live("6", 12, "5"), "route": Route("6", 12), "loaded": frozenset({"5", "6"})}
NOTHING_MORE: dict[str, Share | None] = {"canary": None, "shadow": None}


def test_a_switch_happens_in_the_order_that_loses_no_request() -> None:
    seen = Observed(wanted=Wanted("7", NOTHING_MORE), **SEEN, drained=frozenset({"5"}))
    assert plan(seen) == [
        Load("7", fresh=True),
        Smoke("7"),
        Deploy("7", 12, "6"),
        Publish(Route("7", 13)),
        AwaitPickUp(Route("7", 13)),
        Announce("7", 13),
    ]


def test_going_back_to_the_warm_version_loads_nothing() -> None:
    seen = Observed(wanted=Wanted("5"), **SEEN)
    assert [type(step) for step in plan(seen)] == [Smoke, Deploy, Publish, AwaitPickUp, Announce]


def test_a_restarted_host_gets_the_live_version_first_and_is_routed_only_what_is_loaded() -> None:
    canary, shadow = Share("8", 10), Share("9", 100)
    whole = Route("7", 13, canary, shadow)
    seen = Observed(
        wanted=Wanted("7", {"canary": canary, "shadow": shadow}), live=Live("7", 13, "6"), route=whole,
        shares={"canary": canary, "shadow": shadow},
    )  # fmt: skip
    steps = [Load("7"), Publish(Route("7", 13)), AwaitPickUp(Route("7", 13)), Load("8"), Load("9")]
    assert plan(seen) == [*steps, Publish(whole), AwaitPickUp(whole), Load("6")]


def test_a_restarted_host_gets_the_live_version_before_the_wanted_one() -> None:
    seen = Observed(wanted=Wanted("8"), live=Live("7", 13, "6"), route=Route("7", 13))
    assert plan(seen)[:2] == [Load("7"), Load("8", fresh=True)]


def test_without_a_champion_serving_goes_on() -> None:
    assert plan(Observed(**SEEN)) == []


def test_a_canary_is_loaded_and_asked_before_it_is_routed() -> None:
    canary = Share("7", 10)
    routed = Route("6", 12, canary)
    seen = Observed(wanted=Wanted("6", {"canary": canary, "shadow": None}), **SEEN)
    assert plan(seen) == [
        Load("7", fresh=True), Smoke("7"), Split("canary", canary, None), Publish(routed), AwaitPickUp(routed),
    ]  # fmt: skip


def test_another_percentage_is_only_published() -> None:
    less, more = Share("7", 10), Share("7", 50)
    seen = Observed(
        wanted=Wanted("6", {"canary": more, "shadow": None}), live=Live("6", 12, "5"), route=Route("6", 12, less),
        shares={"canary": less}, loaded=frozenset({"5", "6", "7"}),
    )  # fmt: skip
    routed = Route("6", 12, more)
    assert plan(seen) == [Split("canary", more, less), Publish(routed), AwaitPickUp(routed)]


def test_a_canary_becomes_champion_without_being_loaded_again_and_the_previous_one_stays() -> None:
    canary = Share("7", 10)
    seen = Observed(
        wanted=Wanted("7", {"canary": canary, "shadow": None}), live=Live("6", 12, "5"), route=Route("6", 12, canary),
        shares={"canary": canary}, loaded=frozenset({"5", "6", "7"}),
    )  # fmt: skip
    routed = Route("7", 13)
    assert plan(seen) == [
        Smoke("7"), Deploy("7", 12, "6"), Publish(routed), AwaitPickUp(routed), Announce("7", 13),
    ]  # fmt: skip


def test_a_canary_that_was_taken_back_is_routed_away_before_its_alias_goes() -> None:
    canary = Share("7", 10)
    seen = Observed(
        wanted=Wanted("6", {"canary": canary, "shadow": None}), live=Live("6", 12, "5"), route=Route("6", 12, canary),
        barred={"canary": "7"}, loaded=frozenset({"5", "6", "7"}),
    )  # fmt: skip
    assert plan(seen) == [
        Publish(Route("6", 12)), AwaitPickUp(Route("6", 12)), MoveAlias("canary", "7", None),
        Release("canary", "7"),
    ]  # fmt: skip


def test_a_champion_that_was_taken_back_gives_way_to_the_warm_one_and_does_not_return() -> None:
    seen = Observed(
        wanted=Wanted("7", NOTHING_MORE), live=Live("7", 13, "6"), route=Route("7", 13), barred={"champion": "7"},
        loaded=frozenset({"6", "7"}),
    )  # fmt: skip
    back = Route("6", 14)
    assert plan(seen) == [
        Deploy("6", 13, "7", is_return=True), Publish(back), AwaitPickUp(back), Announce("6", 14),
    ]  # fmt: skip
    after = Observed(
        wanted=Wanted("7", NOTHING_MORE), live=Live("6", 14, "7"), route=back, barred={"champion": "7"},
        loaded=frozenset({"6", "7"}),
    )  # fmt: skip
    assert plan(after) == [MoveAlias("champion", "7", "6"), Release("champion", "7")]


def test_an_alias_that_is_gone_frees_the_version() -> None:
    seen = Observed(wanted=Wanted("6", NOTHING_MORE), **SEEN, barred={"canary": "7", "champion": "8"})
    assert plan(seen) == [Release("canary", "7"), Release("champion", "8")]
    assert plan(Observed(**SEEN, barred={"canary": "7", "champion": "8"})) == [], (
        "while the registry is away, nobody is"
    )


def test_what_is_still_waited_for_is_not_unloaded() -> None:
    seen = Observed(
        wanted=Wanted("8"),
        live=Live("8", 14, "7"),
        route=Route("8", 14),
        loaded=frozenset({"6", "7", "8"}),
        drained=frozenset(),
    )
    assert plan(seen) == []


def test_the_one_before_the_previous_is_let_go_once_drained() -> None:
    seen = Observed(
        wanted=Wanted("8"),
        live=Live("8", 14, "7"),
        route=Route("8", 14),
        loaded=frozenset({"6", "7", "8"}),
        drained=frozenset({"6", "7"}),
    )
    assert plan(seen) == [Unload("6")]
