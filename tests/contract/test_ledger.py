"""The ledger behaves alike on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DatabaseError

from core.clock import ManualClock
from core.decision import Decision
from core.errors import LedgerError, StaleGeneration
from core.ledger import Ledger
from tests.postgres_process import postgres_url

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2019, 2, 2, 3, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_url(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'folder' / 'ledger.db'}"
    server: str = request.getfixturevalue("postgres")
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"t{abs(hash(tmp_path)):x}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def ledger(url: str, clock: ManualClock) -> Iterator[Ledger]:
    ledger = Ledger(url, clock)
    ledger.migrate()
    ledger.migrate()
    yield ledger
    ledger.close()


def test_decisions_come_back_newest_first(ledger: Ledger) -> None:
    first = ledger.record("taxi_tip", "trigger", Decision("wait", "no trigger fired"), actor="monitor", as_of=NOW)
    evidence = {"log_loss": 0.97, "drifted": ["a", "b"]}
    second = ledger.record(
        "taxi_tip", "trigger", Decision("retrain", "worse", evidence), actor="monitor", as_of=NOW, version="3"
    )
    ledger.record("ad_click", "gate", Decision("promote", "better"), actor="retrain", as_of=NOW)
    entries = ledger.entries("taxi_tip")
    assert [entry.id for entry in entries] == [second, first]
    assert entries[0].evidence == evidence
    assert entries[0].as_of == NOW
    assert entries[0].recorded_at == NOW
    assert [entry.use_case for entry in ledger.entries(kind="gate")] == ["ad_click"]
    assert ledger.entries(limit=1)[0].use_case == "ad_click"
    assert ledger.entry(second) == entries[0]


def test_generations_rise_and_a_late_writer_is_refused(ledger: Ledger) -> None:
    def deploy(expected: int, version: str) -> int:
        return ledger.deploy(
            "taxi_tip", expected_generation=expected, version=version, previous=None, actor="deployer",
            reason="champion", as_of=NOW,
        )  # fmt: skip

    assert ledger.live("taxi_tip") is None
    assert deploy(0, "1") == 1
    assert deploy(1, "2") == 2
    with pytest.raises(StaleGeneration, match="generation 2 was deployed meanwhile"):
        deploy(1, "3")
    live = ledger.live("taxi_tip")
    assert live is not None
    assert (live.version, live.generation) == ("2", 2)


def test_a_deployment_keeps_what_it_was_made_on(ledger: Ledger, url: str) -> None:
    def deploy(generation: int, **evidence: object) -> None:
        ledger.deploy(
            "taxi_tip", expected_generation=generation, version="8", previous="7", actor="ops (evergreen)",
            reason="better", as_of=NOW, evidence=evidence,
        )  # fmt: skip

    deploy(0, digest="ab" * 32, decisions=[3, 5])
    deploy(1)
    engine = create_engine(url)
    with engine.begin() as connection:  # as releases without evidence wrote it
        connection.execute(text(
            "INSERT INTO deployments (use_case, generation, version, actor, reason, as_of, deployed_at) "
            "SELECT use_case, 3, '6', actor, reason, as_of, deployed_at FROM deployments WHERE generation = 1"
        ))  # fmt: skip
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(text("UPDATE deployments SET evidence = NULL"))
    engine.dispose()
    found = ledger.deployments("taxi_tip")
    assert [dict(each.evidence) for each in found] == [{}, {}, {"digest": "ab" * 32, "decisions": [3, 5]}]


def test_decisions_about_one_version_are_found(ledger: Ledger) -> None:
    for version in ("7", "8", "7"):
        ledger.record("taxi_tip", "gate", Decision("keep", "worse"), actor="t", as_of=NOW, version=version)
    assert [entry.id for entry in ledger.entries("taxi_tip", version="7")] == [3, 1]


def test_of_many_deployments_at_once_one_wins_each_generation(ledger: Ledger) -> None:
    outcomes: list[int | None] = []

    def deploy(version: int) -> None:
        try:
            outcomes.append(
                ledger.deploy(
                    "taxi_tip",
                    expected_generation=0,
                    version=str(version),
                    previous=None,
                    actor="t",
                    reason="r",
                    as_of=NOW,
                )
            )
        except StaleGeneration:
            outcomes.append(None)

    threads = [threading.Thread(target=deploy, args=(version,)) for version in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=lambda o: o or 0) == [None] * 7 + [1]


@pytest.mark.parametrize("statement", ["DELETE FROM decisions", "UPDATE decisions SET reason = 'nicer'"])
def test_what_is_written_cannot_be_changed(ledger: Ledger, url: str, statement: str) -> None:
    ledger.record("taxi_tip", "trigger", Decision("wait", "nothing"), actor="monitor", as_of=NOW)
    engine = create_engine(url)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_a_lease_is_held_by_one_until_it_runs_out(ledger: Ledger, clock: ManualClock) -> None:
    first = ledger.acquire("retrain:taxi_tip", "a", ttl_s=10)
    assert first is not None
    assert ledger.acquire("retrain:taxi_tip", "b", ttl_s=10) is None
    clock.advance(timedelta(seconds=8))
    assert ledger.renew("retrain:taxi_tip", first, ttl_s=10)
    clock.advance(timedelta(seconds=11))
    second = ledger.acquire("retrain:taxi_tip", "b", ttl_s=10)
    assert second is not None
    assert second > first
    assert not ledger.renew("retrain:taxi_tip", first, ttl_s=10)
    assert not ledger.holds("retrain:taxi_tip", first)
    assert ledger.holds("retrain:taxi_tip", second)
    ledger.release("retrain:taxi_tip", second)
    assert ledger.acquire("retrain:taxi_tip", "c", ttl_s=10) is not None


def test_many_processes_may_migrate_at_once(url: str) -> None:
    code = "import sys; from core.ledger import Ledger; ledger = Ledger(sys.argv[1]); input(); ledger.migrate()"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in processes] == [b""] * 4
    with closing(Ledger(url)) as ledger:
        assert ledger.entries() == []


def test_a_ledger_that_cannot_be_opened_says_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be"):
        Ledger(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}").migrate()
