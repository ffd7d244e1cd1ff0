"""The supervised stack of ``evergreen up``, without Prefect, for tests that kill its parts one after another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import redis

from core.ledger import Ledger
from core.settings import (
    DeployerSettings,
    GatewaySettings,
    MlflowSettings,
    RedisSettings,
    Settings,
    StreamSettings,
    TorchserveSettings,
)
from features.connection import REDIS_FAULTS
from features.streams import Keys
from registry.digests import MANIFEST, sha256_of
from registry.mlflow_registry import MlflowRegistry
from serving.routing import Route
from stack.local import LocalStack
from stack.processes import Process, declared_processes
from tests.deployer_bench import pass_gate
from tests.recording_client import BASE_LENGTH
from tests.serving_stack import USE_CASE, is_announced, register_version, worker_pids
from tests.torchserve_process import free_ports, use_case_file
from tests.waiting import until

PARTS = ("redis", "mlflow", "torchserve", "gateway", "deployer")
GATEWAYS = WORKERS = 2
GATEWAY_TIMEOUT_S = 4.0
_PATIENCE_S = 90.0
# Two cores that also run the clients and load the next version are slow now and then, which is no version's fault; and
# a bake that is over is written to the ledger, which is to hold nothing but what a test does.
_SERVING = "Serving(bake=Bake(period=timedelta(hours=9), latency_floor=timedelta(seconds=5)))"


class ChaosStack:
    """Redis, MLflow, TorchServe, two gateway processes and the deployer under supervisord, and versions of ``toy``.

    Without a stream worker, so that all that was acknowledged is in the streams to the end.

    Args:
        folder: where everything is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "toy.py").write_text(use_case_file(serving=_SERVING))
        self.settings = _settings(folder)
        self._stack = LocalStack(self.settings, lambda own: [p for p in declared_processes(own) if p.name in PARTS])
        self._parts: dict[str, Process] = {part.name: part for part in self._stack.processes}
        self.biases: dict[str, float] = {}

    def __enter__(self) -> ChaosStack:
        self._stack.up()
        self.settings = self._stack.settings
        self.registry = MlflowRegistry(self.settings.mlflow_url)
        self.ledger = Ledger(self.settings.ledger_url)
        self.redis = redis.Redis.from_url(self.settings.redis_url, socket_timeout=5)
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        self.redis.close()
        self._stack.down()

    def register(self, n: int) -> list[str]:
        """Register that many versions, each with a bias of its own."""
        known = len(self.biases)
        for bias in (0.1 * i for i in range(known, known + n)):
            made = self._folder / f"made-{bias:.1f}"
            version = register_version(self.registry, made, bias)
            pass_gate(self.ledger, USE_CASE, version, sha256_of(made / MANIFEST))
            self.biases[version] = bias
        return list(self.biases)[known:]

    def want(self, version: str) -> None:
        """Make it the champion in MLflow, and return at once."""
        self.registry.set_alias(USE_CASE, "champion", version)

    def is_live(self, version: str) -> bool:
        """Whether it is in the ledger that every gateway follows its deployment."""
        return is_announced(self.ledger, version)

    def live(self) -> str:
        """The version that the gateways are told to ask."""
        raw: Any = self.redis.hget(Keys(self.settings.redis.namespace).routes, USE_CASE)
        return Route.decode(raw).version

    def pid(self, part: str) -> int:
        """The process that supervisord knows."""
        return self._stack.supervisor.states()[part].pid

    def start(self, part: str) -> None:
        """Let supervisord start it, and return at once."""
        self._stack.supervisor.start(part)

    def stop(self, part: str) -> None:
        """Stop it, and return when it has ended."""
        self._stack.supervisor.stop([part])

    def gateway_pids(self) -> list[int]:
        """The processes that answer clients, the one with most connections first."""
        found = psutil.Process(self.pid("gateway")).children()
        return [child.pid for child in sorted(found, key=lambda child: -len(child.net_connections("tcp")))]

    def worker_pids(self) -> list[int]:
        """TorchServe's workers of the live version."""
        return sorted(worker_pids(self.settings, self.live()))

    def is_whole(self) -> bool:
        """Whether what there is two of is there twice: clients are promised nothing when both are lost."""
        return len(self.worker_pids()) == WORKERS and len(self.gateway_pids()) == GATEWAYS

    def is_back(self, part: str, killed: int) -> bool:
        """Whether another process does the work of one that was killed."""
        state = self._stack.supervisor.states()[part]
        known = self._parts[part]
        healthy = known.healthy or known.ready
        if state.state != "RUNNING" or state.pid == killed or not healthy(state.started_at):
            return False
        # until they are ended, children that outlived it may answer in its place
        return not known.leaves_children or _listens(state.pid, {port.number for port in known.ports})

    def until(self, holds: Callable[[], bool], what: str, within_s: float = _PATIENCE_S) -> None:
        """Ask again and again."""
        until(holds, f"{what} (see {self.settings.home / 'logs'})", within_s=within_s)

    def stored_labels(self) -> set[str]:
        """Ids of all predictions whose labels are in the stream."""
        entries = self._entries(Keys(self.settings.redis.namespace).labels)
        return {label["prediction_id"] for fields in entries for label in orjson.loads(fields[b"data"])["labels"]}

    def stored_predictions(self) -> set[str]:
        """What the ids of each call in the prediction log begin with."""
        found = set()
        for fields in self._entries(Keys(self.settings.redis.namespace).predictions):
            for ids in orjson.loads(fields[b"meta"])["ids"]:
                found.add(ids[:BASE_LENGTH] if isinstance(ids, str) else ids[1])
        return found

    def _entries(self, stream: str) -> Iterator[dict[bytes, bytes]]:
        last = "-"
        while True:
            try:
                batch: Any = self.redis.xrange(stream, last, count=5000)
            except REDIS_FAULTS as error:
                raise AssertionError(f"{stream} cannot be read: {error}") from error
            yield from (fields for _, fields in batch)
            if not batch:
                return
            last = f"({batch[-1][0].decode()}"


def _settings(folder: Path) -> Settings:
    ports = free_ports(6)
    inference, management, metrics = ports[:3]
    return Settings(
        home=folder / "home",
        models_dir=folder / "models",
        data_dir=folder,
        log_level="WARNING",
        redis=RedisSettings(port=ports[3]),
        mlflow=MlflowSettings(port=ports[4]),
        gateway=GatewaySettings(port=ports[5], processes=GATEWAYS, timeout_s=GATEWAY_TIMEOUT_S),
        torchserve=TorchserveSettings(
            inference_port=inference, management_port=management, metrics_port=metrics, heap_mb=256, workers=WORKERS
        ),
        stream=StreamSettings(max_entries=5_000_000),
        deployer=DeployerSettings(poll_s=0.5, registry_poll_s=1.0),
    )


def _listens(pid: int, ports: Collection[int]) -> bool:
    """Whether a process or one below it listens on any of the ports."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return any(
            held.status == psutil.CONN_LISTEN and held.laddr.port in ports
            for process in family
            for held in process.net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False
