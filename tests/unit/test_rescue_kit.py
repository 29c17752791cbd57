"""For which machines a rescue kit is, by the wheels that are in it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from muster.adapters.python_interpreter import describe
from muster.adapters.rescue_kit import least_glibc

ANY, ABI = "py3-none-any", "cp311-cp311"


@pytest.mark.parametrize(
    ("wheels", "needed"),
    [
        ([f"a-1-{ANY}.whl"], None),
        ([f"a-1-{ABI}-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", f"b-1-{ANY}.whl"], "2.17"),
        ([f"a-1-{ABI}-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", f"b-1-{ABI}-manylinux1_x86_64.whl"], "2.27"),
        ([f"a-1-{ABI}-manylinux_2_9_x86_64.whl", f"b-1-{ABI}-manylinux_2_28_x86_64.whl"], "2.28"),
        ([f"a-1-{ABI}-manylinux_2_28_x86_64.whl", f"b-1-{ABI}-linux_x86_64.whl"], "2.36"),
        ([], None),
    ],
)
def test_the_newest_that_any_wheel_needs_is_needed(wheels: list[str], needed: str | None) -> None:
    """Each wheel does with the oldest of its own tags; one that was built here needs what is here."""
    here = dataclasses.replace(describe(Path(sys.executable)), glibc="2.36")
    assert least_glibc(wheels, here) == needed
    assert least_glibc(wheels, dataclasses.replace(here, glibc=None)) is None
