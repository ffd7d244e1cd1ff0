"""All settings, in one frozen object, read from ``EVERGREEN_…`` variables once per process."""

from __future__ import annotations

import base64
import ipaddress
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisSettings(_Group):
    """Online features, streams and routes."""

    url: str = Field("", description="An external Redis, e.g. redis://host:6379/0; empty: start a local one.")
    port: int = Field(16379, description="Port of the local Redis.", ge=1, le=65535)
    cluster: bool = Field(False, description="Whether the external Redis is a cluster; its URL names any node.")
    namespace: str = Field("evergreen", description="Prefix of every key, so that stacks can share one Redis.")


class MlflowSettings(_Group):
    """The model registry."""

    url: str = Field("", description="An external MLflow tracking server; empty: start a local one.")
    port: int = Field(15000, description="Port of the local MLflow server.", ge=1, le=65535)


class PrefectSettings(_Group):
    """Orchestration."""

    url: str = Field("", description="An external Prefect API, e.g. https://host/api; empty: start a local one.")
    port: int = Field(14200, description="Port of the local Prefect server.", ge=1, le=65535)
    pool: str = Field("evergreen", description="Name of the Prefect work pool.")


class TorchserveSettings(_Group):
    """The model host."""

    inference_port: int = Field(18085, description="TorchServe's inference port (loopback).", ge=1, le=65535)
    management_port: int = Field(18086, description="TorchServe's management port (loopback).", ge=1, le=65535)
    metrics_port: int = Field(18087, description="TorchServe's metrics port (loopback).", ge=1, le=65535)
    workers: int = Field(2, description="Workers per model version; with two, one that dies goes unnoticed.", ge=1)
    response_timeout_s: int = Field(
        30, description="Seconds after which a worker that does not answer is killed; more than any deadline.", ge=1
    )
    heap_mb: int = Field(512, description="Largest Java heap, in MB.", ge=128)


class HostSettings(_Group):
    """What runs the models: TorchServe, or any server of the Open Inference Protocol v2."""

    kind: Literal["torchserve", "open_inference"] = Field(
        "torchserve", description="'open_inference': a server that runs elsewhere (Triton, MLServer); no TorchServe."
    )
    url: str = Field("", description="Base address of that server, e.g. http://host:8000.")
    repository: str = Field("", description="Folder that server loads models from, as seen from this machine.")
    flavour: Literal["triton", "mlserver"] = Field("triton", description="How that server wants its folder laid out.")
    timeout_s: float = Field(30.0, description="Seconds that server may take to answer or to load a model.", gt=0)
    threads: int = Field(8, description="Calls to that server each gateway process makes at a time.", ge=1, le=256)


class GatewaySettings(_Group):
    """The REST door."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback an API key is required.")
    port: int = Field(18080, description="Port of the gateway.", ge=1, le=65535)
    api_key: SecretStr = Field(
        SecretStr(""), description="A key with every scope and no limit, beside those of `evergreen keys`."
    )
    tls_cert: str = Field("", description="PEM file of the certificate with its chain; with tls_key: HTTPS alone.")
    tls_key: str = Field("", description="PEM file of the certificate's private key, without a password.")
    max_body_bytes: int = Field(2_097_152, description="Largest request body, in bytes.", ge=1024)
    max_instances: int = Field(256, description="Most instances in one predict call.", ge=1, le=65_535)
    max_events: int = Field(1000, description="Most events or labels in one call.", ge=1)
    max_pending: int = Field(8_192, description="Most instances waiting for the model before load is shed.", ge=1)
    max_wait_s: float = Field(
        0.25, description="Seconds a request may be expected to wait for the model before load is shed.", gt=0
    )
    processes: int = Field(1, description="Gateway processes that share the port.", ge=1, le=64)
    timeout_s: float = Field(10.0, description="Seconds a prediction may take before it is given up.", gt=0)
    slow_s: float = Field(1.0, description="Seconds from which a prediction is logged as slow.", gt=0)
    route_poll_s: float = Field(0.2, description="Seconds between looks at the route table.", gt=0)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class ConsoleSettings(_Group):
    """The page on which people see and steer the loop; the gateway serves it."""

    enabled: bool = Field(True, description="Whether the gateway serves /console.")
    url: str = Field(
        "", description="Address at which people reach it, e.g. https://ops.example/console; empty: the gateway's own."
    )
    mlflow_link: str = Field("", description="Address at which people's browsers reach MLflow; empty: MLflow's URL.")
    prefect_link: str = Field(
        "", description="Address at which people's browsers reach Prefect's UI; empty: Prefect's URL without /api."
    )
    session_s: int = Field(
        1800, description="Seconds without a click after which somebody has to log in again.", ge=60, le=86_400
    )
    behind_tls: bool = Field(
        False, description="Whether browsers come by HTTPS through a proxy; the cookie is sent over HTTPS alone then."
    )


class TelemetrySettings(_Group):
    """Traces of predict requests, over OpenTelemetry."""

    otlp_endpoint: str = Field(
        "",
        description="Address of a collector that takes OTLP over HTTP, e.g. http://127.0.0.1:4318; empty: no traces.",
        pattern=r"^(https?://.+)?$",
    )
    sample_ratio: float = Field(
        0.01,
        description="Share of the requests that are traced, 0 to 1; those with a traceparent do as it says.",
        ge=0,
        le=1,
    )
    service_name: str = Field("evergreen-gateway", description="What traces are filed under.", min_length=1)


class ReplaySettings(_Group):
    """Trying policies on the past."""

    task_runner: Literal["threads", "dask", "ray"] = Field(
        "threads", description="What runs policies side by side; 'dask' and 'ray' need prefect-dask or prefect-ray."
    )
    workers: int = Field(0, description="Policies replayed at a time; 0: one per processor.", ge=0, le=256)


class LedgerSettings(_Group):
    """The append-only record of decisions."""

    url: str = Field("", description="SQLAlchemy URL, e.g. postgresql+psycopg://…; empty: SQLite in the home folder.")


class StreamSettings(_Group):
    """Streams into online features and the offline log."""

    flush_every_s: float = Field(
        60.0, description="Most seconds between writes of the log to Parquet; flows ask for one when they begin.", gt=0
    )
    partitions: int = Field(
        1,
        description="Partitions of the event log, by entity; change it with: evergreen features rebuild.",
        ge=1,
        le=4096,
    )
    port: int = Field(18088, description="Port of the stream worker's metrics (loopback).", ge=1, le=65535)
    lease_s: float = Field(
        5.0, description="Seconds after which another stream worker takes over what a dead one applied.", gt=0
    )
    batch_entries: int = Field(8192, description="Most stream entries applied in one step.", ge=1)
    max_entries: int = Field(200_000, description="Entries a stream may hold before writers are refused.", ge=1000)


class DeployerSettings(_Group):
    """The reconciler between MLflow's aliases and what serves."""

    poll_s: float = Field(1.0, description="Seconds between comparisons of desired and actual state.", gt=0)
    registry_poll_s: float = Field(
        5.0, description="Most seconds between looks at MLflow when nothing says that an alias moved.", gt=0, le=60
    )


class PromotionSettings(_Group):
    """What a version needs to become champion."""

    require_gate: bool = Field(
        True, description="Whether a version needs a passed gate, unless somebody forces it and says why."
    )
    second_person: bool = Field(
        False, description="Whether two different people or flows must stand for it: `evergreen approve`."
    )


class WebhookSettings(_Group):
    """What MLflow sends when an alias moves; it makes promotions fast, and nothing depends on it."""

    url: str = Field(
        "",
        description="Where an external MLflow reaches the gateway, e.g. https://host; empty: the local one only.",
        pattern=r"^(https?://.+)?$",
    )
    secret: SecretStr = Field(
        SecretStr(""), description="What MLflow signs with; empty: one that is made in the home folder."
    )
    tolerance_s: int = Field(300, description="Seconds a webhook's time may be off.", ge=1, le=3600)


class AlertSettings(_Group):
    """What people are told of, and how; Prefect gets every alert as the event evergreen.alert."""

    least: Literal["notice", "page"] = Field(
        "notice", description="'page' tells only of what somebody must act on; what Evergreen does itself is left out."
    )
    link: str = Field(
        "", description="Address of a decision, with {id} for its number; empty: its page in the console."
    )
    prefect_block: str = Field("", description="A notification block set up in Prefect, e.g. slack-webhook/on-call.")
    webhook_url: SecretStr = Field(
        SecretStr(""), description="A Slack-compatible incoming webhook; empty: none. Its address is a secret."
    )
    email_to: str = Field("", description="Who gets mail, separated by commas; empty: nobody.")
    email_from: str = Field("", description="Who mail is from.")
    smtp_host: str = Field("", description="The mail server.")
    smtp_port: int = Field(587, description="Its port.", ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted: after a greeting, from its start (465), or not."
    )
    smtp_user: str = Field("", description="Whom to log in as; empty: nobody.")
    smtp_password: SecretStr = Field(SecretStr(""), description="That user's password.")
    timeout_s: float = Field(5.0, description="Seconds a webhook or mail server may take.", gt=0, le=60)

    @model_validator(mode="after")
    def _mail_has_all_it_needs(self) -> AlertSettings:
        if self.email_to and not (self.email_from and self.smtp_host):
            raise ValueError("mail needs EVERGREEN_ALERTS__EMAIL_FROM and EVERGREEN_ALERTS__SMTP_HOST as well")
        return self


class GithubSettings(_Group):
    """Retrains that run in GitHub Actions, started by a repository_dispatch."""

    repository: str = Field(
        "",
        description="OWNER/NAME of the repository whose workflow retrains; empty: none.",
        pattern=r"^([^/\s]+/[^/\s]+)?$",
    )
    token: SecretStr = Field(SecretStr(""), description="A token that may write its contents.")
    secret: SecretStr = Field(
        SecretStr(""), description="What dispatches are signed with; the workflow has it too. At least 16 characters."
    )
    api_url: str = Field("https://api.github.com", description="GitHub's API; of GitHub Enterprise, its own.")
    event: str = Field("evergreen-retrain", description="The event's type, which the workflow names.", min_length=1)
    instead: bool = Field(True, description="Whether Prefect's event is then left out; else both start a retrain.")
    attempts: int = Field(3, description="How often a look tries to send one.", ge=1, le=10)
    wait_s: float = Field(1.0, description="Seconds before it is tried again; doubled each time.", ge=0, le=60)
    timeout_s: float = Field(10.0, description="Seconds GitHub may take to answer.", gt=0, le=60)

    @model_validator(mode="after")
    def _has_all_it_needs(self) -> GithubSettings:
        if self.repository and not (self.token.get_secret_value() and len(self.secret.get_secret_value()) >= 16):
            raise ValueError("EVERGREEN_GITHUB__REPOSITORY needs __TOKEN, and a __SECRET of 16 characters or more")
        return self


class Settings(BaseSettings):
    """Everything that can be set. Nested groups use two underscores: ``EVERGREEN_GATEWAY__PORT``.

    Example:
        >>> Settings(home="/tmp/eg").ledger_url
        'sqlite:////tmp/eg/ledger.db'
    """

    model_config = SettingsConfigDict(env_prefix="EVERGREEN_", env_nested_delimiter="__", frozen=True, extra="ignore")

    home: Path = Field(Path(".evergreen"), description="Folder of all state; may be deleted when stopped.")
    models_dir: Path = Field(Path("models"), description="Folder of the use-case files.")
    data_dir: Path = Field(Path("data"), description="Folder of the data sets that histories are read from.")
    clock: Literal["system", "event"] = Field(
        "system", description="'event' replays history: each call carries its now in the X-Evergreen-Now header."
    )
    log_level: str = Field("INFO", description="Level of the logs: DEBUG, INFO, WARNING or ERROR.")
    log_format: Literal["text", "json"] = Field(
        "text", description="'json' writes one JSON object per line, with use case, version, run and prediction ids."
    )
    databases: dict[str, SecretStr] = Field(
        {}, description="SQLAlchemy URLs, by name, that batch views may query: a JSON object."
    )
    redis: RedisSettings = RedisSettings()
    mlflow: MlflowSettings = MlflowSettings()
    prefect: PrefectSettings = PrefectSettings()
    torchserve: TorchserveSettings = TorchserveSettings()
    host: HostSettings = HostSettings()
    gateway: GatewaySettings = GatewaySettings()
    console: ConsoleSettings = ConsoleSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    replay: ReplaySettings = ReplaySettings()
    ledger: LedgerSettings = LedgerSettings()
    stream: StreamSettings = StreamSettings()
    deployer: DeployerSettings = DeployerSettings()
    promotion: PromotionSettings = PromotionSettings()
    webhook: WebhookSettings = WebhookSettings()
    alerts: AlertSettings = AlertSettings()
    github: GithubSettings = GithubSettings()

    @model_validator(mode="after")
    def _workers_outlive_deadlines(self) -> Settings:
        """One call that takes longer than TorchServe allows costs its worker, and everybody else that worker's time."""
        if self.torchserve.response_timeout_s <= self.gateway.timeout_s:
            raise ValueError(
                f"EVERGREEN_TORCHSERVE__RESPONSE_TIMEOUT_S is {self.torchserve.response_timeout_s}, which must be more "
                f"than EVERGREEN_GATEWAY__TIMEOUT_S ({self.gateway.timeout_s:g}): TorchServe kills a worker that takes "
                "longer. Raise the one or lower the other"
            )
        return self

    @property
    def redis_url(self) -> str:
        """Where Redis is."""
        return self.redis.url or f"redis://127.0.0.1:{self.redis.port}/0"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow is."""
        return self.mlflow.url or f"http://127.0.0.1:{self.mlflow.port}"

    @property
    def prefect_api_url(self) -> str:
        """Where Prefect's API is."""
        return self.prefect.url or f"http://127.0.0.1:{self.prefect.port}/api"

    @property
    def gateway_url(self) -> str:
        """Where clients on this machine reach the gateway."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.gateway.host, self.gateway.host)
        scheme = "https" if self.gateway.tls_cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.gateway.port}"

    @property
    def console_url(self) -> str:
        """Where people reach the console."""
        return self.console.url.rstrip("/") or f"{self.gateway_url}/console"

    @property
    def linked_alerts(self) -> AlertSettings:
        """The alerts' settings; decisions are linked into the console unless another place is set."""
        if self.alerts.link or not self.console.enabled:
            return self.alerts
        return self.alerts.model_copy(update={"link": f"{self.console_url}/decisions/{{id}}"})

    @property
    def torchserve_inference_url(self) -> str:
        """Where TorchServe answers predictions."""
        return f"http://127.0.0.1:{self.torchserve.inference_port}"

    @property
    def torchserve_management_url(self) -> str:
        """Where TorchServe registers models."""
        return f"http://127.0.0.1:{self.torchserve.management_port}"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger.url or f"sqlite:///{self.home.absolute() / 'ledger.db'}"

    @property
    def offline_dir(self) -> Path:
        """Root of the Parquet log."""
        return self.home / "offline"

    def signing_secret(self) -> bytes:
        """The key prediction ids are signed with; made on first use, kept in the home folder (mode 0600).

        Raises:
            SettingsError: if the home folder cannot be written.
        """
        return self._kept("prediction-ids", lambda: secrets.token_bytes(32))

    def webhook_secret(self) -> str:
        """What MLflow's webhooks are signed with: the setting's, else one that is made and kept likewise.

        Raises:
            SettingsError: if the home folder cannot be written.
        """
        given = self.webhook.secret.get_secret_value()
        return given or self._kept("mlflow-webhook", lambda: secrets.token_urlsafe(32).encode()).decode()

    def webhook_encryption_key(self) -> str:
        """What the local MLflow encrypts that secret with in its database: a Fernet key, made and kept likewise.

        Raises:
            SettingsError: if the home folder cannot be written.
        """
        return self._kept("mlflow-webhook-key", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32))).decode()

    @property
    def webhook_receiver(self) -> str:
        """Where MLflow is to send its webhooks; empty if it could not reach the gateway."""
        base = self.webhook.url.rstrip("/") or ("" if self.mlflow.url else self.gateway_url)
        return f"{base}/v1/webhooks/mlflow" if base else ""

    def _kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        path = self.home / "secrets" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
            if not path.exists():
                fresh.touch(mode=0o600)
                fresh.write_bytes(make())
                try:
                    os.link(fresh, path)
                except FileExistsError:  # another process was first: its secret counts
                    pass
                finally:
                    fresh.unlink()
            return path.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"EVERGREEN_HOME {self.home} cannot be written ({error}). Make it writable or set another folder."
            ) from error


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: naming every variable that is malformed.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(_fault(fault["loc"], fault["msg"]) for fault in error.errors())
        raise SettingsError(f"{faults}. See the settings table in docs/settings.md.") from error


def _fault(place: tuple[int | str, ...], message: str) -> str:
    """What is wrong with one variable; with several together if there is no place."""
    name = "__".join(str(part) for part in place).upper()
    return f"EVERGREEN_{name}: {message}" if name else message.removeprefix("Value error, ")


def own_environment() -> dict[str, str]:
    """This process's environment as it is: for more processes of its kind."""
    return dict(os.environ)


THREADS_SLEEP: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for one another sleep.

Else they spin, and a fit takes ten times as long where others need the cores, as a stack that serves does.
"""


def inherited_environment() -> dict[str, str]:
    """This process's environment without Evergreen's own variables: what child processes start from."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")}


def share_cores() -> None:
    """Let this process's threads of OpenMP wait as `THREADS_SLEEP` says, unless something else is set.

    To be called before a library is loaded that has such threads.
    """
    for name, value in THREADS_SLEEP.items():
        os.environ.setdefault(name, value)
