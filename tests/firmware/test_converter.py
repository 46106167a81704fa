"""tflite_to_c: what it refuses, and that it says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.deadline import HUNG_S

from .conftest import FIRMWARE, MODEL


def with_operator(raw: bytes, old: int, new: int) -> bytes:
    """The model with one kind of operator renumbered to another."""
    import tflite

    changed = bytearray(raw)
    model = tflite.Model.GetRootAs(changed, 0)
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        if code.DeprecatedBuiltinCode() == old:
            table = code._tab
            for slot, width in ((4, 1), (10, 4)):
                if offset := table.Offset(slot):
                    changed[table.Pos + offset : table.Pos + offset + width] = new.to_bytes(width, "little")
    return bytes(changed)


def convert(model: Path, out: Path) -> subprocess.CompletedProcess[str]:
    tool = FIRMWARE / "tools" / "tflite_to_c.py"
    return subprocess.run(
        [sys.executable, str(tool), str(model), "--id", "m", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=HUNG_S,
        check=False,
    )


@pytest.mark.usefixtures("converter")
def test_an_unsupported_operator_is_named(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(with_operator(MODEL.read_bytes(), old=17, new=14))
    done = convert(model, tmp_path)
    assert done.returncode == 1
    assert "operator 1 (LOGISTIC) is not supported; supported are AVERAGE_POOL_2D, CONV_2D" in done.stderr
    assert not (tmp_path / "m.c").exists()


@pytest.mark.usefixtures("converter")
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a TensorFlow Lite model"), (b"no model at all", "not a TensorFlow Lite model")],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(content)
    done = convert(model, tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("converter")
def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    whole = MODEL.read_bytes()
    for size in range(8, len(whole), 613):
        model.write_bytes(whole[:size])
        done = convert(model, tmp_path)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_the_same_model_gives_the_same_source(converter: ModuleType, tmp_path: Path) -> None:
    sources = [converter.convert(MODEL, "digits01", tmp_path / name).read_text() for name in ("a", "b")]
    assert sources[0] == sources[1]
