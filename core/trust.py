"""The certificates that HTTP clients of a process trust."""

from __future__ import annotations

import functools
import ssl


@functools.cache
def trusted() -> ssl.SSLContext:
    """Those that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name, else certifi's.

    Reading them takes tens of milliseconds, which each client would pay anew, also for plain HTTP.
    """
    import httpx

    return httpx.create_ssl_context()
