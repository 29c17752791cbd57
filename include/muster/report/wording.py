"""Lengths of time and numbers of bytes, in the words of people."""

from __future__ import annotations

import math


def seconds_in_words(seconds: float) -> str:
    """``350 ms``, ``12.3 s``, ``4 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0:
        return f"-{seconds_in_words(-seconds)}"
    if seconds < 0.9995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, low, name, low_name in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86400, 3600, "d", "h")):
        if whole < unit * (60 if unit < 3600 else 24) or unit == 86400:
            big, rest = divmod(whole, unit)
            small = rest // low
            return f"{big} {name} {small} {low_name}" if small else f"{big} {name}"
    raise AssertionError


def size_in_words(size: float) -> str:
    """``0 B``, ``999 B``, ``1.5 KiB``, ``4.0 GiB``: binary units, as the tools of storage people show them."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1023.95 or unit == "TiB":
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError
