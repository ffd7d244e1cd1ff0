"""Versions in MLflow: one registered model per use case, one run per version."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.clock import to_us
from core.errors import DependencyDown, DeploymentError
from registry.digests import MANIFEST, install, listed_files
from registry.mlmodel import mlmodel_yaml
from registry.model_card import placed
from registry.versions import FORCE_TAG, Desired, VersionInfo, look_name, unknown_version

_log = logging.getLogger(__name__)
_FOLDER = "version"
_CONNECT_TIMEOUT_S = 2.0
_REQUEST_TIMEOUT_S = 30
_RETRIES = 2
_LONGEST_TAG = 4000
_LONGEST_DIGEST = 36
_LOOKS, _LOOK_METRICS = "monitoring", "drift/"
_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class MlflowRegistry:
    """A ModelRegistry on an MLflow server.

    The files are in the run's artifact folder ``version/``, which is also an MLflow ONNX model; the version's tags
    ``evergreen.…`` hold its digest and lineage, the run its parameters, metrics, plots and data set. Later looks add
    pages in ``monitoring/`` and distances by column as metrics ``drift/…``, whose steps are seconds since 1970.

    Args:
        tracking_url: the server's, e.g. ``http://127.0.0.1:15000``.
    """

    def __init__(self, tracking_url: str) -> None:
        self.url = tracking_url
        self._connected: Any = None

    def register(self, use_case: str, folder: Path, info: VersionInfo) -> str:
        """See ModelRegistry."""
        with self.client() as client:
            known = client.search_model_versions(f"name='{use_case}' and tag.`evergreen.digest`='{info.digest}'")
            if known:
                return str(min(int(version.version) for version in known))
            self._ensure_model(client, use_case)
            run = client.create_run(
                self._experiment(client, use_case),
                run_name=f"{use_case} {info.as_of:%Y-%m-%d %H:%M}",
                tags=_run_tags(use_case, info),
            )
            card = placed(info.description, run_id=run.info.run_id, experiment_id=run.info.experiment_id)
            try:
                self._log_run(client, run, use_case, folder, info)
                client.set_tag(run.info.run_id, "mlflow.note.content", card[:_LONGEST_TAG])
                version = client.create_model_version(
                    use_case,
                    source=f"{run.info.artifact_uri}/{_FOLDER}",
                    run_id=run.info.run_id,
                    tags=_version_tags(info),
                    description=card,
                    await_creation_for=0,
                )
            except BaseException:
                client.set_terminated(run.info.run_id, status="FAILED")
                raise
            client.set_terminated(run.info.run_id)
        _log.info("registered %s version %s, digest %s", use_case, version.version, info.digest[:12])
        return str(version.version)

    def fetch(self, use_case: str, version: str, into: Path) -> Path:
        """See ModelRegistry."""
        with self.client() as client:
            found = self._version(client, use_case, version)

            def download(fresh: Path) -> None:
                folder = Path(client.download_artifacts(found.run_id, _FOLDER, str(fresh)))
                for path in list(folder.iterdir()):
                    shutil.move(path, fresh / path.name)
                folder.rmdir()

            return install(into, found.tags["evergreen.digest"], download)

    def alias(self, use_case: str, name: str) -> str | None:
        """See ModelRegistry."""
        with self.client() as client:
            return self._desired(client, use_case).aliases.get(name)

    def set_alias(self, use_case: str, name: str, version: str | None, tags: Mapping[str, str] | None = None) -> None:
        """See ModelRegistry."""
        with self.client() as client:
            known = self._desired(client, use_case)
            if version is not None:
                with _unknown_as(unknown_version(use_case, version)):
                    client.get_model_version(use_case, version)
            for tag, value in (tags or {}).items():
                if known.tags.get(tag) != value:
                    client.set_registered_model_tag(use_case, tag, value)
            if known.aliases.get(name) == version:
                return
            if version is None:
                client.delete_registered_model_alias(use_case, name)
            else:
                client.set_registered_model_alias(use_case, name, version)

    def info(self, use_case: str, version: str) -> VersionInfo:
        """See ModelRegistry."""
        with self.client() as client:
            found = self._version(client, use_case, version)
            run = client.get_run(found.run_id)
        tags = found.tags
        return VersionInfo(
            digest=tags["evergreen.digest"],
            as_of=datetime.fromisoformat(tags["evergreen.as_of"]),
            reason=tags["evergreen.reason"],
            fingerprint=tags["evergreen.fingerprint"],
            log_loss=float(tags["evergreen.log_loss"]),
            git_commit=tags["evergreen.git_commit"],
            params=dict(run.data.params),
            metrics={k: v for k, v in run.data.metrics.items() if not k.startswith(_LOOK_METRICS)},
            description=found.description or "",
            forced=tags.get(FORCE_TAG, ""),
        )

    def desired(self) -> dict[str, Desired]:
        """See ModelRegistry."""
        with self.client() as client:
            names = [model.name for model in client.search_registered_models(max_results=1000)]
            # some MLflow versions leave the aliases out of what a search returns
            return {name: self._desired(client, name) for name in names}

    def log_look(
        self, use_case: str, version: str, *, at: datetime, page: Path, distances: Mapping[str, float]
    ) -> None:
        """See LookLog."""
        with self.client() as client:
            from mlflow.entities import Metric

            run_id, at_ms = self._version(client, use_case, version).run_id, to_us(at) // 1000
            client.log_text(run_id, page.read_text(encoding="utf-8"), f"{_LOOKS}/{look_name(at)}")
            found = [Metric(_LOOK_METRICS + name, value, at_ms, at_ms // 1000) for name, value in distances.items()]
            client.log_batch(run_id, metrics=found)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """MLflow's own client, for this folder alone; what is wrong with the server turns into DependencyDown."""
        self._require_listening()
        if self._connected is None:
            self._connected = _connect(self.url)
        from mlflow.exceptions import MlflowException
        from requests import RequestException  # what its artifact store raises as it is

        try:
            yield self._connected
        except (MlflowException, RequestException) as error:
            raise DependencyDown(f"MLflow at {self.url}", _first_line(error)) from error

    def _require_listening(self) -> None:
        """Find out at once that nobody listens: MLflow's own client retries for minutes."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            return
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname, port), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise DependencyDown(f"MLflow at {self.url}", str(error)) from error

    def _version(self, client: Any, use_case: str, version: str) -> Any:
        with _unknown_as(unknown_version(use_case, version)):
            found = client.get_model_version(use_case, version)
        if "evergreen.digest" not in found.tags:
            raise DeploymentError(
                f"Version {version} of {use_case} was not registered by Evergreen: it has no tag evergreen.digest. "
                f"Use another version, or train one: evergreen retrain {use_case}"
            )
        return found

    def _desired(self, client: Any, use_case: str) -> Desired:
        try:
            with _unknown_as(unknown_version(use_case, "")):
                found = client.get_registered_model(use_case)
        except DeploymentError:
            return Desired()
        return Desired({name: str(version) for name, version in found.aliases.items()}, dict(found.tags))

    def _ensure_model(self, client: Any, use_case: str) -> None:
        with _tolerate_existing():
            client.create_registered_model(use_case, description=f"Versions of the use case {use_case}.")

    def _experiment(self, client: Any, use_case: str) -> str:
        found = client.get_experiment_by_name(use_case)
        if found is None:
            with _tolerate_existing():
                client.create_experiment(use_case)
            found = client.get_experiment_by_name(use_case)
        return str(found.experiment_id)

    def _log_run(self, client: Any, run: Any, use_case: str, folder: Path, info: VersionInfo) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        run_id, at_ms = run.info.run_id, to_us(info.as_of) // 1000
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, at_ms, 0) for name, value in sorted(info.metrics.items())],
            params=[Param(name, value) for name, value in sorted(info.params.items())],
        )
        dataset = Dataset(
            name=f"{use_case} labelled rows",
            digest=info.fingerprint[:_LONGEST_DIGEST],
            source_type="evergreen",
            source=json.dumps({"offline_log": use_case, "as_of": info.as_of.isoformat()}),
            profile=json.dumps({"rows": info.metrics.get("training_rows")}),
        )
        client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        for name in sorted(listed_files(folder)):
            client.log_artifact(run_id, str(folder / name), _FOLDER)
        client.log_artifact(run_id, str(folder / MANIFEST), _FOLDER)
        client.log_text(run_id, mlmodel_yaml(folder, run_id=run_id, as_of=info.as_of), f"{_FOLDER}/MLmodel")
        if (folder / "plots").is_dir():
            client.log_artifacts(run_id, str(folder / "plots"), "plots")


def _first_line(error: Exception) -> str:
    """What it says, without the pages that servers send along."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _connect(url: str) -> Any:
    """Make a client. For this process, MLflow's telemetry and printing are off and its patience is bounded.

    Its own defaults are 7 retries of 120 s each; who sets its variables in the environment keeps them.
    """
    from mlflow import MlflowClient
    from mlflow import environment_variables as variables
    from mlflow.telemetry import set_telemetry_client

    variables.MLFLOW_DISABLE_TELEMETRY.set(True)
    variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    for variable, value in (
        (variables.MLFLOW_HTTP_REQUEST_TIMEOUT, _REQUEST_TIMEOUT_S),
        (variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES, _RETRIES),
    ):
        if not variable.is_set():
            variable.set(value)
    set_telemetry_client()
    return MlflowClient(tracking_uri=url, registry_uri=url)


@contextmanager
def _unknown_as(error: DeploymentError) -> Iterator[None]:
    """Turn MLflow's "there is none" into the given error."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as cause:
        if cause.error_code in _NOT_FOUND:
            raise error from cause
        raise


@contextmanager
def _tolerate_existing() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as cause:
        if cause.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _run_tags(use_case: str, info: VersionInfo) -> Mapping[str, str]:
    return {
        **_version_tags(info),
        "evergreen.use_case": use_case,
        "mlflow.source.name": "use_case.py",
        "mlflow.source.git.commit": info.git_commit,
    }


def _version_tags(info: VersionInfo) -> dict[str, str]:
    return {
        "evergreen.digest": info.digest,
        "evergreen.as_of": info.as_of.isoformat(),
        "evergreen.reason": info.reason[:_LONGEST_TAG],
        "evergreen.fingerprint": info.fingerprint,
        "evergreen.log_loss": repr(info.log_loss),
        "evergreen.git_commit": info.git_commit,
    }
