"""The C kernels against TensorFlow Lite Micro's reference kernels, byte by byte."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from .conftest import FIRMWARE, MODEL, ROOT
from .native_board import NativeBoard

Int8s = npt.NDArray[np.int8]
Infer = Callable[[Int8s], Int8s]

NO_TIME = '#include "bsp.h"\nvoid bsp_spend(enum bsp_activity on, uint32_t cycles) { (void)on; (void)cycles; }\n'


class CModel(ctypes.Structure):
    """`struct nn_model` of firmware/nn/model.h."""

    _fields_ = (
        ("id", ctypes.c_char_p),
        ("input_bytes", ctypes.c_uint32),
        ("output_bytes", ctypes.c_uint32),
        ("output_scale", ctypes.c_float),
        ("output_zero_point", ctypes.c_int32),
        ("infer", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)),
    )


def compiler_command() -> list[str]:
    """The compiler that build.py would take."""
    spec = importlib.util.spec_from_file_location("firmware_build", FIRMWARE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return list(module.find_compiler().command)


def build_c_model(converter: ModuleType, model: Path, model_id: str, folder: Path) -> Infer:
    """Convert and compile a model into a shared library, and return its inference."""
    source = converter.convert(model, model_id, folder)
    (folder / "no_time.c").write_text(NO_TIME)
    kernels = sorted(FIRMWARE.glob("nn/*.c"))
    library = folder / f"{model_id}.so"
    command = [*compiler_command(), "-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC"]
    command += [f"-I{FIRMWARE / 'nn'}", f"-I{FIRMWARE / 'bsp'}", *map(str, [*kernels, source, folder / "no_time.c"])]
    subprocess.run([*command, "-o", str(library)], check=True, timeout=300)
    loaded = ctypes.CDLL(str(library))
    c_model = CModel.in_dll(loaded, f"{model_id}_model")

    def infer(data: Int8s) -> Int8s:
        assert data.size == c_model.input_bytes
        given = np.ascontiguousarray(data)
        found = np.empty(c_model.output_bytes, np.int8)
        c_model.infer(given.ctypes.data, found.ctypes.data)
        return found

    return infer


def reference(model: Path, shape: tuple[int, ...]) -> Infer:
    """The same inference by TensorFlow Lite Micro."""
    runtime = pytest.importorskip("tflite_micro", reason="tflite_micro is not installed: no oracle").runtime
    interpreter = runtime.Interpreter.from_file(str(model))

    def infer(data: Int8s) -> Int8s:
        interpreter.set_input(data.reshape(shape), 0)
        interpreter.invoke()
        found: Int8s = interpreter.get_output(0).ravel().copy()
        return found

    return infer


@pytest.fixture(scope="module")
def digits01(converter: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Infer:
    return build_c_model(converter, MODEL, "digits01", tmp_path_factory.mktemp("digits01"))


def test_all_held_out_inputs_agree_bit_by_bit(digits01: Infer, held_out: tuple[Int8s, Any]) -> None:
    oracle = reference(MODEL, (1, 8, 8, 1))
    for row in held_out[0]:
        np.testing.assert_array_equal(digits01(row), oracle(row))


def test_inputs_that_are_no_digits_agree_bit_by_bit(digits01: Infer) -> None:
    """Noise leaves the softmax undecided, so that all of its outputs matter."""
    oracle = reference(MODEL, (1, 8, 8, 1))
    random = np.random.default_rng(8)
    undecided = 0
    for spread in np.linspace(0, 127, 1500):
        row = np.clip(np.rint(random.normal(-40, spread + 1, 64)), -128, 127).astype(np.int8)
        found = digits01(row)
        np.testing.assert_array_equal(found, oracle(row))
        undecided += int(np.count_nonzero(found > -120) > 2)
    assert undecided > 200


def test_a_dense_network_quantized_by_tensor_agrees_bit_by_bit(
    converter: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(os.environ.get("LABD_REFERENCE", ROOT.parent / "shared" / "reference")) / "models"
    models = sorted(folder.glob("**/*ad*int8*.tflite"))
    if not models:
        pytest.skip(f"no reference model of anomaly detection below {folder}")
    infer = build_c_model(converter, models[0], "ad01", tmp_path_factory.mktemp("ad01"))
    oracle = reference(models[0], (1, 640))
    random = np.random.default_rng(1)
    for _ in range(50):
        row = random.integers(-128, 128, 640).astype(np.int8)
        np.testing.assert_array_equal(infer(row), oracle(row))


def test_the_board_reads_the_held_out_digits_as_well_as_the_model(
    images: Path, digits01: Infer, held_out: tuple[Int8s, npt.NDArray[np.uint8]]
) -> None:
    inputs, labels = held_out
    right = 0
    with NativeBoard(images / "digits01-performance.elf") as board:
        for row, label in zip(inputs, labels, strict=True):
            board.load(row.tobytes())
            results = board.ask("infer 1 0")[-2].removeprefix("m-results-[").removesuffix("]").split(",")
            expected = (digits01(row).astype(int) + 128) / 256
            assert results == [f"{share:.3f}" for share in expected]
            right += int(np.argmax([float(share) for share in results]) == label)
    assert right / len(inputs) >= 0.95
