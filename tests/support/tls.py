"""TLS contexts for a server at localhost and for clients that trust it.

`localhost.pem` is a key and a certificate made for these tests alone: self-signed, for localhost and
127.0.0.1, good from 2020 to 2120 (`openssl req -new`, then `openssl ca -selfsign` with these dates).
"""

from __future__ import annotations

import ssl
from pathlib import Path

PEM = Path(__file__).with_name("localhost.pem")


def server_context() -> ssl.SSLContext:
    """For the server named localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def client_context() -> ssl.SSLContext:
    """For a client that trusts that server alone."""
    return ssl.create_default_context(cafile=PEM)


def distrustful_context() -> ssl.SSLContext:
    """For a client that trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
