"""Addresses of this machine that nobody listens at."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that was free a moment ago, drawn by the system: two processes do not draw the same one."""
    with socket.socket() as drawn:
        drawn.bind(("127.0.0.1", 0))
        port: int = drawn.getsockname()[1]
    return port
