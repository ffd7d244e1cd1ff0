"""What the console knows at one moment: gathered from several places, any of which may be away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

from core.ledger import Deployment, Entry
from core.settings import Settings
from core.use_case import UseCase
from registry.versions import Desired
from serving.feature_status import FeatureStatus
from serving.gateway.console.flow_runs import FlowRun
from serving.gateway.console.latency import Quantiles
from serving.routing import Route
from serving.standing import Standing

T = TypeVar("T")
MONITOR, RETRAIN, MATERIALIZE = "monitor/monitor", "retrain/retrain", "materialize/materialize"


@dataclass(frozen=True)
class Found(Generic[T]):
    """What was asked for, or why it is not known.

    Args:
        value: None if it is not known.
        problem: one sentence; empty if it is known.
    """

    value: T | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """What the ledger says of a use case; entries are newest first.

    Args:
        deployments: all of them.
        standing: which versions share the traffic.
        looks: of the monitor.
        promotions: what was asked, held and refused.
        gates: verdicts.
        deliveries: retrains, with their stages.
        alerts: what people were told.
        audits: the newest comparison of served features with the log.
        aftermaths: the newest verdict on the newest promotion.
        newest: of all kinds.
    """

    deployments: tuple[Deployment, ...] = ()
    standing: Standing = field(default_factory=Standing)
    looks: tuple[Entry, ...] = ()
    promotions: tuple[Entry, ...] = ()
    gates: tuple[Entry, ...] = ()
    deliveries: tuple[Entry, ...] = ()
    alerts: tuple[Entry, ...] = ()
    audits: tuple[Entry, ...] = ()
    aftermaths: tuple[Entry, ...] = ()
    newest: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class RegistryFacts:
    """What the registry says of a use case.

    Args:
        desired: aliases and tags.
        runs: version -> id of the run that made it; the newest version first.
    """

    desired: Desired = field(default_factory=Desired)
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FlowFacts:
    """What the orchestrator says.

    Args:
        scheduled: deployment -> runs still to begin, the next one first.
        retrains: that have begun, the newest first.
    """

    scheduled: Mapping[str, tuple[FlowRun, ...]] = field(default_factory=dict)
    retrains: tuple[FlowRun, ...] = ()


@dataclass(frozen=True)
class ReportFile:
    """A page in ``reports/`` of the home folder.

    Args:
        name: of the file.
        kind: ``look`` (Evidently), ``gate`` or ``other``.
        version: it is about; empty if its name does not say.
        at: its moment as its name says it; None if it does not.
    """

    name: str
    kind: str
    version: str
    at: datetime | None


@dataclass(frozen=True)
class Links:
    """Where the other pages are that people know.

    Args:
        mlflow: MLflow's address, without credentials.
        prefect: of Prefect's UI, likewise.
    """

    mlflow: str
    prefect: str

    @classmethod
    def of(cls, settings: Settings) -> Links:
        """As the settings say."""
        own = settings.console
        prefect = own.prefect_link or settings.prefect_api_url.rstrip("/").removesuffix("/api")
        return cls(_shown(own.mlflow_link or settings.mlflow_url), _shown(prefect))

    def model(self, use_case: str) -> str:
        """The registered model."""
        return self.mlflow and f"{self.mlflow}/#/models/{use_case}"

    def version(self, use_case: str, version: str) -> str:
        """One of its versions."""
        return self.mlflow and f"{self.mlflow}/#/models/{use_case}/versions/{version}"

    def run(self, run_id: str) -> str:
        """The run that made a version."""
        return self.mlflow and f"{self.mlflow}/#/runs/{run_id}"

    def flow_run(self, run_id: str) -> str:
        """A flow run."""
        return self.prefect and f"{self.prefect}/runs/flow-run/{run_id}"

    def deployment(self, deployment_id: str) -> str:
        """A deployment of a flow."""
        return self.prefect and f"{self.prefect}/deployments/deployment/{deployment_id}"


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything a page is made from.

    Args:
        use_case: which.
        now: the moment of the page.
        is_replay: whether history is replayed, so that the moments of decisions are not of this clock.
        ledger: what was decided.
        features: what Redis says.
        registry: what MLflow says.
        flows: what Prefect says.
        route: what this gateway follows; None if nothing is live.
        latency: by stage of a predict request, as this gateway's processes measured it.
        reports: the newest first.
        links: to other pages.
    """

    use_case: UseCase
    now: datetime
    is_replay: bool
    ledger: Found[LedgerFacts]
    features: Found[FeatureStatus]
    registry: Found[RegistryFacts]
    flows: Found[FlowFacts]
    route: Route | None
    latency: Mapping[str, Quantiles]
    reports: tuple[ReportFile, ...]
    links: Links


def _shown(url: str) -> str:
    """An address for a page: without name and password, and empty unless a browser can open it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path.rstrip("/"), "", ""))
