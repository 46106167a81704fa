"""How the daemon takes memory: measured on processes of their own, since it holds for a process's life."""

from __future__ import annotations

import subprocess
import sys

import pytest


def printed(program: str, argument: str) -> str:
    """What a process of its own says."""
    done = subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, check=True)
    return done.stdout.strip()


THREADS = """
import ctypes, sys, threading
from pathlib import Path
from labd.heap import keep_heap_small

if sys.argv[1] == "shared":
    keep_heap_small()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
found = []
thread = threading.Thread(target=lambda: found.append(libc.malloc(4096)))
thread.start()
thread.join()
heap = next(line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]"))
begin, end = (int(each, 16) for each in heap.split("-"))
print(begin <= found[0] < end)
"""


@pytest.mark.parametrize(("heaps", "in_the_main_heap"), [("shared", "True"), ("own", "False")])
def test_a_thread_allocates_from_the_main_heap(heaps: str, in_the_main_heap: str) -> None:
    assert printed(THREADS, heaps) == in_the_main_heap


BLOCKS = """
import ctypes, sys
from labd.heap import MAPPED_BYTES, keep_heap_small

if sys.argv[1] == "small":
    keep_heap_small()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(3):  # glibc learns from what is freed
    libc.free(libc.malloc(MAPPED_BYTES))
print(libc.malloc(MAPPED_BYTES) < libc.sbrk(0))
"""


@pytest.mark.parametrize(("heap", "on_the_heap"), [("small", "False"), ("as it comes", "True")])
def test_a_large_block_is_not_taken_from_the_heap(heap: str, on_the_heap: str) -> None:
    assert printed(BLOCKS, heap) == on_the_heap
