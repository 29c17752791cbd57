"""Memory that is used again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

from muster.vault.buffers import Buffers

ROUNDS, CHUNKS = 10, 8


def test_freed_memory_is_kept_once_a_vault_is_open() -> None:
    """Chunks that come and go, in two threads, do not fetch their pages from the kernel each time, as they do before that."""
    before, after = map(int, _faults().split())
    pages = 2 * ROUNDS * CHUNKS * (1 << 20) // 4096  # in two threads
    assert before > pages / 2
    assert after < before / 10


def test_a_buffer_has_one_owner() -> None:
    """Whoever wants one more than there are waits until one is given back, and gets that."""
    buffers = Buffers(4096, 1)
    first = buffers.take()
    got: list[memoryview] = []
    waiting = threading.Thread(target=lambda: got.append(buffers.take()))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    buffers.give(first)
    waiting.join(10)
    assert got == [first]


def _faults() -> str:
    """Page faults of chunks that come and go before a vault was opened, and after."""
    script = f"""
        import resource, threading
        from concurrent.futures import ThreadPoolExecutor
        from fakes import MemoryStore
        from vaults import make_vault

        size = 1 << 20

        def churn(_):
            for _ in range({ROUNDS}):
                [b"x" * size for _ in range({CHUNKS})]  # gone at once

        def faults():
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(churn, range(2)))  # what is kept is fetched once
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                list(pool.map(churn, range(2)))
                return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        first = faults()
        make_vault(MemoryStore())
        print(first, faults())
    """
    around = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    around["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.check_output([sys.executable, "-c", textwrap.dedent(script)], text=True, env=around)
