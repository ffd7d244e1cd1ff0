"""From any situation, and stopped after any step, the plans lead to what is wanted without an outage."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from serving.reconcile import Announce, AwaitPickUp, Deploy, Live, Load, Observed, Publish, Smoke, Step, Unload, plan
from serving.routes import Route

VERSIONS = ("1", "2", "3", "4")
version = st.sampled_from(VERSIONS)


@dataclass
class World:
    """What the steps act on, reduced to what plans can see."""

    desired: str | None
    live: Live | None
    route: Route | None
    loaded: set[str]
    bad: frozenset[str] = frozenset()
    picked_up: bool = False
    announced: bool = False
    refused: set[str] = field(default_factory=set)
    outages: list[str] = field(default_factory=list)

    def observed(self) -> Observed:
        return Observed(
            desired=self.desired,
            live=self.live,
            route=self.route,
            loaded=frozenset(self.loaded),
            picked_up=self.picked_up,
            announced=self.announced,
            refused=frozenset(self.refused),
            drained=frozenset(self.loaded - {self.route.version if self.route else ""}),
        )

    def take(self, step: Step) -> bool:  # noqa: C901 - one short branch per kind of step
        match step:
            case Load(wanted):
                if wanted in self.bad:
                    self.refused.add(wanted)
                    return False
                self.loaded.add(wanted)
            case Smoke(wanted):
                assert wanted in self.loaded
            case Deploy(wanted, generation, previous):
                assert generation == (self.live.generation if self.live else 0)
                self.live, self.announced = Live(wanted, generation + 1, previous), False
            case Publish(wanted, generation):
                if wanted not in self.loaded:
                    self.outages.append(f"{wanted} is routed to, but not loaded")
                self.route, self.picked_up = Route(wanted, generation), False
            case AwaitPickUp():
                self.picked_up = True
            case Announce(wanted, generation):
                assert self.live is not None and generation == self.live.generation and self.picked_up
                self.announced = True
            case Unload(wanted):
                if self.route and wanted == self.route.version:
                    self.outages.append(f"{wanted} is unloaded under its clients")
                self.loaded.discard(wanted)
        return True


@st.composite
def worlds(draw: st.DrawFn, bad: bool = False) -> World:
    live = draw(st.none() | st.builds(Live, version, st.integers(1, 5), st.none() | version))
    route = draw(st.none() | st.builds(Route, version, st.integers(1, 5)))
    return World(
        desired=draw(st.none() | version),
        live=live,
        route=route,
        loaded=draw(st.sets(version)),
        bad=draw(st.frozensets(version)) if bad else frozenset(),
        picked_up=draw(st.booleans()),
        announced=draw(st.booleans()),
    )


def settle(world: World, stops: list[int]) -> None:
    """Plan and act until nothing is left to do; each stop cuts a plan short after so many steps, as a kill would."""
    for round_ in range(30):
        steps = plan(world.observed())
        if not steps:
            return
        for step in steps[: stops[round_] if round_ < len(stops) else len(steps)]:
            if not world.take(step):
                break
    raise AssertionError(f"does not settle: {world}, next {plan(world.observed())}")


@given(worlds(), st.lists(st.integers(0, 6), max_size=6))
def test_any_state_converges_whenever_it_is_stopped(world: World, stops: list[int]) -> None:
    settle(world, stops)
    assert world.outages == []
    if world.desired is not None:
        assert world.live is not None and world.live.version == world.desired
    if world.live is not None:
        assert world.route == Route(world.live.version, world.live.generation)
        assert world.picked_up and world.announced
        needed = {world.live.version} | ({world.live.previous} if world.live.previous else set())
        assert world.loaded == needed


@given(worlds(bad=True), st.lists(st.integers(0, 6), max_size=6))
def test_versions_that_do_not_load_cause_no_outage_and_no_endless_work(world: World, stops: list[int]) -> None:
    before = world.live
    settle(world, stops)
    assert world.outages == []
    if world.desired in world.bad and world.desired not in world.loaded and before is not None:
        assert world.live is not None and world.live.version == before.version


def test_a_switch_happens_in_the_order_that_loses_no_request() -> None:
    seen = Observed(
        desired="7",
        live=Live("6", 12, "5"),
        route=Route("6", 12),
        loaded=frozenset({"5", "6"}),
        drained=frozenset({"5"}),
    )
    assert plan(seen) == [
        Load("7", fresh=True),
        Smoke("7"),
        Deploy("7", 12, "6"),
        Publish("7", 13),
        AwaitPickUp("7", 13),
        Announce("7", 13),
    ]


def test_going_back_to_the_warm_version_loads_nothing() -> None:
    seen = Observed(desired="6", live=Live("7", 13, "6"), route=Route("7", 13), loaded=frozenset({"6", "7"}))
    assert [type(step) for step in plan(seen)] == [Smoke, Deploy, Publish, AwaitPickUp, Announce]


def test_a_restarted_host_gets_the_live_version_before_the_wanted_one() -> None:
    seen = Observed(desired="8", live=Live("7", 13, "6"), route=Route("7", 13))
    assert plan(seen)[:2] == [Load("7"), Load("8", fresh=True)]


def test_without_a_champion_serving_goes_on() -> None:
    assert plan(Observed(live=Live("7", 13, "6"), route=Route("7", 13), loaded=frozenset({"6", "7"}))) == []


def test_what_is_still_waited_for_is_not_unloaded() -> None:
    seen = Observed(
        desired="8",
        live=Live("8", 14, "7"),
        route=Route("8", 14),
        loaded=frozenset({"6", "7", "8"}),
        drained=frozenset(),
    )
    assert plan(seen) == []


def test_the_one_before_the_previous_is_let_go_once_drained() -> None:
    seen = Observed(
        desired="8",
        live=Live("8", 14, "7"),
        route=Route("8", 14),
        loaded=frozenset({"6", "7", "8"}),
        drained=frozenset({"6", "7"}),
    )
    assert plan(seen) == [Unload("6")]
