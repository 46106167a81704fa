"""Reads a .tflite file into plain records: tensors, operators in order of execution, one input and one output."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

Array = npt.NDArray[Any]

OPERATOR_NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
TYPE_NAMES = {value: name for name, value in vars(tflite.TensorType).items() if isinstance(value, int)}


class ModelError(Exception):
    """The model cannot be turned into C; the message names the operator or tensor and why."""


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Args:
        index: Its number in the file.
        shape: Its dimensions.
        type_name: INT8, INT32 and so on.
        scales: float32, one, or one a channel, or none.
        zero_points: int64, as many.
        data: Its bytes if it is a constant, else empty.
    """

    index: int
    shape: tuple[int, ...]
    type_name: str
    scales: Array
    zero_points: Array
    data: bytes

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def scale(self) -> np.float32:
        """The one scale of a tensor that is quantized as a whole."""
        return np.float32(self.scales[0])

    @property
    def zero_point(self) -> int:
        """The one zero point of a tensor that is quantized as a whole."""
        return int(self.zero_points[0])

    def renamed(self, index: int) -> Tensor:
        """This tensor, living in the place of tensor `index`."""
        return replace(self, index=index)


@dataclass(frozen=True)
class Operator:
    """One step: its place in the file, name, inputs, outputs and undecoded table of options."""

    position: int
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    def __str__(self) -> str:
        return f"operator {self.position} ({self.name})"


@dataclass(frozen=True)
class Network:
    """A whole model, operators in order of execution."""

    operators: tuple[Operator, ...]
    input: Tensor
    output: Tensor


def _read_tensor(model: Any, subgraph: Any, index: int) -> Tensor:
    table = subgraph.Tensors(index)
    quantization = table.Quantization()
    quantized = quantization is not None and quantization.ScaleLength() > 0
    buffer = model.Buffers(table.Buffer())
    return Tensor(
        index=index,
        shape=tuple(int(size) for size in table.ShapeAsNumpy()) if table.ShapeLength() else (),
        type_name=TYPE_NAMES.get(table.Type(), str(table.Type())),
        scales=quantization.ScaleAsNumpy() if quantized else np.empty(0, np.float32),
        zero_points=quantization.ZeroPointAsNumpy() if quantized else np.empty(0, np.int64),
        data=bytes(buffer.DataAsNumpy()) if buffer.DataLength() else b"",
    )


def _whole(tensor: Tensor, role: str) -> Tensor:
    if tensor.type_name != "INT8" or len(tensor.scales) != 1:
        raise ModelError(f"the model's {role} is {tensor.type_name}, only quantized INT8 is supported")
    return tensor


def read_network(raw: bytes) -> Network:
    """Read a model of one subgraph with one input and one output, both int8.

    Raises:
        ModelError: `raw` is no such model.
    """
    if not tflite.Model.ModelBufferHasIdentifier(raw, 0):
        raise ModelError("this is not a TensorFlow Lite model")
    try:
        return _decode(raw)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"the file is damaged: {error}") from error


def _decode(raw: bytes) -> Network:
    model = tflite.Model.GetRootAs(raw, 0)
    if model.SubgraphsLength() != 1:
        raise ModelError(f"the model has {model.SubgraphsLength()} subgraphs, only one is supported")
    subgraph = model.Subgraphs(0)
    if subgraph.InputsLength() != 1 or subgraph.OutputsLength() != 1:
        raise ModelError(
            f"the model has {subgraph.InputsLength()} inputs and {subgraph.OutputsLength()} outputs, "
            "only one of each is supported"
        )
    tensors = [_read_tensor(model, subgraph, index) for index in range(subgraph.TensorsLength())]
    operators = []
    for position in range(subgraph.OperatorsLength()):
        table = subgraph.Operators(position)
        code = model.OperatorCodes(table.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # old files fill the second alone
        operators.append(
            Operator(
                position=position,
                name=OPERATOR_NAMES.get(number, f"number {number}"),
                inputs=tuple(tensors[index] for index in table.InputsAsNumpy() if index >= 0),
                outputs=tuple(tensors[index] for index in table.OutputsAsNumpy()),
                options=table.BuiltinOptions(),
            )
        )
    return Network(
        tuple(operators), _whole(tensors[subgraph.Inputs(0)], "input"), _whole(tensors[subgraph.Outputs(0)], "output")
    )
