"""Turns an int8 .tflite model into one C source and header: weights, quantization, and the sequence of kernel calls.

    python firmware/tools/tflite_to_c.py MODEL.tflite --id digits01 --out DIRECTORY

Supported operators are the keys of `EMITTERS` in emit.py; any other is refused by name. Activations share one arena:
a tensor's place is used again once nobody reads it any more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emit import call_of
from graph import ModelError, Network, Operator, Tensor, read_network

ARENA_ALIGNMENT = 4


def place_tensors(network: Network) -> tuple[dict[int, int], int]:
    """Give each intermediate tensor the lowest free place; return offsets by tensor and the arena's size, bytes."""
    last_use = {tensor.index: step for step, op in enumerate(network.operators) for tensor in op.inputs}
    live: list[tuple[int, int, int]] = []  # first byte, end, step of the last use
    offsets: dict[int, int] = {}
    size = 0
    for step, op in enumerate(network.operators):
        tensor = op.outputs[0]
        if tensor.index == network.output.index:
            continue
        live = sorted(place for place in live if place[2] >= step)
        offset = 0
        for first, end, _ in live:
            if offset + tensor.size <= first:
                break
            offset = max(offset, -(-end // ARENA_ALIGNMENT) * ARENA_ALIGNMENT)
        live.append((offset, offset + tensor.size, last_use.get(tensor.index, step)))
        offsets[tensor.index] = offset
        size = max(size, offset + tensor.size)
    return offsets, size


def without_reshapes(network: Network) -> Network:
    """The network with each RESHAPE left out: its readers read its input, for the bytes are the same."""
    same: dict[int, Tensor] = {}
    kept: list[Operator] = []
    for op in network.operators:
        inputs = tuple(same.get(tensor.index, tensor) for tensor in op.inputs)
        if op.name != "RESHAPE":
            kept.append(Operator(op.position, op.name, inputs, op.outputs, op.options))
        elif op.outputs[0].index == network.output.index:
            raise ModelError(f"{op} as the last step is not supported")
        else:
            same[op.outputs[0].index] = op.outputs[0].renamed(inputs[0].index)
    return Network(tuple(kept), network.input, network.output)


def source_of(network: Network, model_id: str) -> str:
    """The C source of a model named `model_id`.

    Raises:
        ModelError: an operator, type or shape that the kernels do not serve.
    """
    network = without_reshapes(network)
    offsets, arena_bytes = place_tensors(network)

    def pointer(tensor: Tensor) -> str:
        if tensor.index == network.input.index:
            return "input"
        if tensor.index == network.output.index:
            return "output"
        return f"arena + {offsets[tensor.index]}" if offsets[tensor.index] else "arena"

    constants: list[str] = []
    steps: list[str] = []
    for step, op in enumerate(network.operators):
        call = call_of(op, f"step{step}")
        constants.append(call.constants)
        steps.append(f"    {call.kernel}(&step{step}, {pointer(op.inputs[0])}, {pointer(op.outputs[0])});")

    arena = f"static int8_t arena[{arena_bytes}];\n\n" if arena_bytes else ""
    return (
        f"// Made by firmware/tools/tflite_to_c.py from the model {model_id}. Do not edit.\n\n"
        f'#include "{model_id}.h"\n\n#include "kernels.h"\n\n'
        + "\n".join(constants)
        + f"\n{arena}static void infer(const int8_t *input, int8_t *output) {{\n"
        + "\n".join(steps)
        + f"\n}}\n\nconst struct nn_model {model_id}_model = {{\n"
        f'    .id = "{model_id}",\n'
        f"    .input_bytes = {network.input.size},\n"
        f"    .output_bytes = {network.output.size},\n"
        f"    .output_scale = {float(network.output.scale).hex()}f,\n"
        f"    .output_zero_point = {network.output.zero_point},\n"
        f"    .infer = infer,\n}};\n"
    )


def header_of(model_id: str) -> str:
    """The header that goes with `source_of`."""
    guard = f"MODEL_{model_id.upper()}_H"
    return (
        f"// Made by firmware/tools/tflite_to_c.py from the model {model_id}. Do not edit.\n\n"
        f'#ifndef {guard}\n#define {guard}\n\n#include "model.h"\n\n'
        f"extern const struct nn_model {model_id}_model;\n\n#endif\n"
    )


def convert(model: Path, model_id: str, out: Path) -> Path:
    """Write `<model_id>.c` and `<model_id>.h` into `out` and return the path of the source.

    Raises:
        ModelError: the file is no model, or one that the kernels do not serve.
    """
    if not model_id.isidentifier():
        raise ModelError(f"model id {model_id!r} cannot be part of a C name")
    source = source_of(read_network(model.read_bytes()), model_id)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{model_id}.h").write_text(header_of(model_id))
    path = out / f"{model_id}.c"
    path.write_text(source)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--id", required=True, help="name of the model, as `profile` tells it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the .c and .h")
    arguments = parser.parse_args()
    try:
        print(convert(arguments.model, arguments.id, arguments.out))
    except (ModelError, OSError) as error:
        print(f"tflite_to_c: {arguments.model}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
