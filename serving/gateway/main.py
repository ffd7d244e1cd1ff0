"""``python -m serving.gateway.main``: the gateway, as one process or as several that share its port."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

import uvicorn

from core.clock import SystemClock
from core.discovery import discover
from core.errors import DependencyDown, EvergreenError, SettingsError
from core.logs import configure_logging
from core.settings import Settings, load_settings, own_environment
from serving.gateway.app import build_gateway, real_outside
from serving.gateway.asgi import Gateway
from serving.gateway.processes import Processes, end_with_parent
from serving.gateway.protocol import GatewayProtocol
from serving.gateway.tls import tls_options
from serving.keys.sql_store import SqlKeyStore

logger = logging.getLogger(__name__)
_BACKLOG = 2048
_DRAIN_EXTRA_S = 2
# Longer than clients keep idle connections (15 to 60 s), so that it is never the server who hangs up first and a
# request meets a connection that is just being closed.
_KEEP_ALIVE_S = 75


def main(argv: Sequence[str] = ()) -> int:
    """Serve until SIGTERM or SIGINT, then answer what was accepted and leave.

    Args:
        argv: number of an inherited listening socket, if this is one of several processes.

    Returns:
        0 after an orderly end, 2 if the settings or a use case do not allow a start.
    """
    try:
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        require_key_beyond_loopback(settings)
        tls = tls_options(settings)
        use_cases = {name: found.use_case for name, found in discover(settings.models_dir).items()}
        if argv:
            end_with_parent()
            listener = socket.socket(fileno=int(argv[0]))
        else:
            listener = listen(settings.gateway.host, settings.gateway.port)
        if settings.gateway.processes > 1 and not argv:
            metrics = settings.home.absolute() / "run" / "gateway-metrics"
            with listener:
                return Processes(__spec__.name, listener, own_environment(), metrics).run(settings.gateway.processes)
        gateway = build_gateway(settings, use_cases, real_outside(settings))
    except EvergreenError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _serve(settings, gateway, listener, tls)
    return 0


def require_key_beyond_loopback(settings: Settings) -> None:
    """Refuse to be reachable from other machines without an API key.

    Raises:
        SettingsError: saying what to do.
    """
    own = settings.gateway
    if own.is_loopback:
        return
    if not own.api_key.get_secret_value() and not _may_have_a_live_key(settings):
        raise SettingsError(
            f"EVERGREEN_GATEWAY__HOST is {own.host}, which other machines can reach, and there is no API key. "
            "Create one with: evergreen keys create NAME --scopes predict; or set EVERGREEN_GATEWAY__API_KEY, "
            "or listen on 127.0.0.1."
        )
    if not own.tls_cert:
        logger.warning("API keys cross the network in the clear: set EVERGREEN_GATEWAY__TLS_CERT, or serve behind TLS.")


def _may_have_a_live_key(settings: Settings) -> bool:
    """Whether the database holds a live key; also if it is away: until it was read, nothing is answered without one."""
    now = SystemClock().now()
    with closing(SqlKeyStore(settings.ledger_url)) as store:
        try:
            return any(key.state(now) == "live" for key in store.read())
        except DependencyDown:
            return True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SettingsError: if the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"The gateway cannot listen on {host}:{port} ({error.strerror or error}). "
            "Stop what uses the port, or set EVERGREEN_GATEWAY__PORT and EVERGREEN_GATEWAY__HOST."
        ) from error


def _serve(settings: Settings, gateway: Gateway, listener: socket.socket, tls: Mapping[str, str]) -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        gateway,
        http=GatewayProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.gateway.timeout_s) + _DRAIN_EXTRA_S,
        **tls,  # type: ignore[arg-type]  # names of uvicorn's settings and files
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325, section 3.1.1
    for orderly in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again once it has drained
        signal.signal(orderly, lambda *_: sys.exit(0))
    gc.collect()
    gc.freeze()  # what is here by now stays: a full collection that looks at it all stops every answer for 0.1 s
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
