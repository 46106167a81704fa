"""Builds the firmware images: `python firmware/build.py --out build/firmware`.

Each benchmark has two images, one a mode: the way of taking timestamps is fixed when the firmware is compiled, as with
the official firmware. `manifest.json` in the output folder lists them with their digests; paths are relative to it.

The compiler is $CC, else `cc`, else the one in the Python package ziglang; $CFLAGS is appended to its flags. Nothing is
done if no source, flag or compiler has changed. The same sources and compiler give the same bytes, wherever they lie.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FIRMWARE = Path(__file__).resolve().parent
BENCHMARKS = ("digits01",)
MODES = ("performance", "energy")
FLAGS = (
    *("-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
    "-ffp-contract=off",  # a fused multiply-add would round results differently from machine to machine
    *("-Wl,--build-id=none", "-s"),
)
INCLUDES = ("bsp", "nn", "dut")
COMPILE_TIMEOUT_S = 300


class BuildError(Exception):
    """The images cannot be built; the message says what to do."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler: what to run, and which version it is."""

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Image:
    """One entry of the manifest."""

    name: str
    benchmark: str
    mode: str
    target: str
    path: str
    sha256: str


def find_compiler() -> Compiler:
    """The compiler to use.

    Raises:
        BuildError: there is none, or $CC does not work.
    """
    named = shlex.split(os.environ.get("CC", ""))
    command = named or ([found] if (found := shutil.which("cc")) else [])
    if not command:
        if importlib.util.find_spec("ziglang") is None:
            raise BuildError(
                "no C compiler found: install one (apt-get install gcc), set CC, or pip install 'labd[zig]'"
            )
        # A named target, or else the image would follow this machine's processor and version of the C library.
        pinned = platform.libc_ver()[0] == "glibc" and platform.machine() in ("x86_64", "aarch64", "riscv64")
        target = ("-target", f"{platform.machine()}-linux-gnu.2.28") if pinned else ()
        version = f"ziglang {importlib.metadata.version('ziglang')}"
        return Compiler((sys.executable, "-m", "ziglang", "cc", *target), version)
    try:
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        origin = "CC is set to" if named else "found"
        raise BuildError(f"{origin} {shlex.join(command)!r}, which does not run: {error}") from error
    return Compiler(tuple(command), shown.partition("\n")[0].strip())


def _tracked() -> Iterator[Path]:
    """All files that an image depends on, in a fixed order."""
    patterns = ("build.py", "tools/*.py", "bsp/**/*.[ch]", "dut/*.[ch]", "nn/*.[ch]", "models/*/*.tflite")
    for pattern in patterns:
        yield from sorted(FIRMWARE.glob(pattern))


def _key(compiler: Compiler, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps([compiler.command, compiler.version, flags]).encode())
    for path in _tracked():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(FIRMWARE)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _up_to_date(out: Path, key: str) -> bool:
    try:
        images = json.loads((out / "manifest.json").read_text())
        return (out / "build-key").read_text() == key and all(
            _sha256(out / image["path"]) == image["sha256"] for image in images
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _generate(benchmark: str, out: Path) -> Path:
    """Turn the benchmark's model into C and return the source's path."""
    model = FIRMWARE / "models" / benchmark / f"{benchmark}.tflite"
    converter = [sys.executable, str(FIRMWARE / "tools" / "tflite_to_c.py"), str(model)]
    done = subprocess.run(
        [*converter, "--id", benchmark, "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        missing = "ModuleNotFoundError" in done.stderr
        remedy = "; pip install 'labd[firmware]' brings what the converter needs" if missing else ""
        raise BuildError(f"the model {benchmark} was not converted{remedy}:\n{done.stderr.rstrip()}")
    return out / f"{benchmark}.c"


def _compile(compile_command: tuple[str, ...], mode: str, generated: Path, to: Path) -> None:
    portable = [path for path in sorted(FIRMWARE.glob("dut/*.c")) if not path.name.startswith("stamp_")]
    sources = [*sorted(FIRMWARE.glob("nn/*.c")), *portable, FIRMWARE / "dut" / f"stamp_{mode}.c"]
    sources += sorted(FIRMWARE.glob("bsp/native/*.c"))
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        image = Path(scratch) / to.name
        command = [*compile_command, *(f"-I{folder}" for folder in INCLUDES), f"-I{generated.parent}"]
        command += [f"-DDUT_MODEL={generated.stem}_model", *(str(path.relative_to(FIRMWARE)) for path in sources)]
        command += [str(generated), "-o", str(image)]
        done = subprocess.run(
            command, cwd=FIRMWARE, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise BuildError(f"{to.name} was not compiled by {compile_command[0]}:\n{done.stderr.rstrip()}")
        image.replace(to)


def build(out: Path) -> bool:
    """Bring all images and the manifest in `out` up to date; return whether there was anything to do.

    Raises:
        BuildError: there is no compiler, or it or the converter failed.
    """
    out = out.resolve()
    compiler = find_compiler()
    flags = (*FLAGS, *shlex.split(os.environ.get("CFLAGS", "")))
    key = _key(compiler, flags)
    if _up_to_date(out, key):
        return False
    print(f"compiler: {shlex.join(compiler.command)} ({compiler.version})")
    folder = out / "native"
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for benchmark in BENCHMARKS:
        generated = _generate(benchmark, out / "generated")
        for mode in MODES:
            path = folder / f"{benchmark}-{mode}.elf"
            _compile((*compiler.command, *flags), mode, generated, path)
            relative = path.relative_to(out).as_posix()
            images.append(Image(path.stem, benchmark, mode, "native", relative, _sha256(path)))
    (out / "manifest.json").write_text(json.dumps([asdict(image) for image in images], indent=2) + "\n")
    (out / "build-key").write_text(key)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/firmware"), help="folder for images and manifest")
    out = parser.parse_args().out
    try:
        built = build(out)
    except BuildError as error:
        print(f"firmware: {error}", file=sys.stderr)
        return 1
    print(f"firmware: {'built' if built else 'up to date'} in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
