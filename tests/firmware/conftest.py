from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from .native_board import NativeBoard

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"
MODEL = FIRMWARE / "models" / "digits01" / "digits01.tflite"


def run_build(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run build.py as a person would; `environment` adds to the present one."""
    return subprocess.run(
        [sys.executable, str(FIRMWARE / "build.py"), "--out", str(out)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the two native images."""
    out = tmp_path_factory.mktemp("firmware")
    done = run_build(out)
    assert done.returncode == 0, done.stderr
    return out / "native"


@pytest.fixture(scope="session")
def checked_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopping at the first undefined behaviour or bad memory access; skips where the compiler cannot."""
    out = tmp_path_factory.mktemp("firmware-checked")
    done = run_build(out, CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all")
    if done.returncode != 0 and "sanitize" in done.stderr:
        pytest.skip(f"the compiler has no sanitizers: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return out / "native"


@pytest.fixture
def start(images: Path) -> Iterator[Callable[[str], NativeBoard]]:
    """Starts a board with the image of a mode; all are switched off at the end."""
    with ExitStack() as boards:
        yield lambda mode: boards.enter_context(NativeBoard(images / f"digits01-{mode}.elf"))


@pytest.fixture(scope="session")
def held_out() -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    """The benchmark's inputs, shape (n, 64), and labels, shape (n,)."""
    with np.load(ROOT / "labd" / "benchmarks" / "digits01" / "inputs.npz") as arrays:
        return arrays["inputs"], arrays["labels"]


@pytest.fixture(scope="session")
def converter() -> Iterator[object]:
    """The module firmware/tools/tflite_to_c.py."""
    pytest.importorskip("tflite", reason="the package tflite is not installed")
    tools = str(FIRMWARE / "tools")
    sys.path.insert(0, tools)
    try:
        yield importlib.import_module("tflite_to_c")
    finally:
        sys.path.remove(tools)
