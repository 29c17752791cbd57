"""Ports of this machine, for servers that are begun here."""

from __future__ import annotations

import contextlib
import secrets
import socket


def free_port() -> int:
    """
    A loopback port that nobody used a moment ago.

    It is none of those that Linux gives to whoever connects (from 32768 on, ``ip_local_port_range``): such a one may be taken until a
    server has started, which takes seconds.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
