"""Writes the C of one operator: its constants, and the kernel of firmware/nn/kernels.h that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from graph import ModelError, Operator, Tensor
from quantization import activation_range, conv_multipliers, dense_multipliers, softmax_scaling

NUMBERS_A_LINE = 16


@dataclass(frozen=True)
class Call:
    """A kernel and the C constants that it is called with."""

    kernel: str
    constants: str


@dataclass(frozen=True)
class Window:
    """A sliding window and its padding, along height and width."""

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]

    def to_c(self) -> str:
        pairs = zip(("", "stride_", "dilation_"), (self.size, self.stride, self.dilation), strict=True)
        fields = [f".{name}height = {pair[0]}, .{name}width = {pair[1]}" for name, pair in pairs]
        return "{" + ", ".join([*fields, f".padding_top = {self.padding[0]}, .padding_left = {self.padding[1]}"]) + "}"


def _array(ctype: str, name: str, values: Iterable[int]) -> str:
    numbers = [str(int(value)) for value in values]
    rows = [", ".join(numbers[at : at + NUMBERS_A_LINE]) for at in range(0, len(numbers), NUMBERS_A_LINE)]
    return f"static const {ctype} {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(rows) + ",\n};\n"


def _struct(ctype: str, name: str, fields: dict[str, object]) -> str:
    body = "".join(f"    .{key} = {value},\n" for key, value in fields.items())
    return f"static const struct {ctype} {name} = {{\n{body}}};\n"


def _shape(op: Operator, tensor: Tensor) -> tuple[int, int, int]:
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise ModelError(f"{op}: tensor of shape {tensor.shape}, expected (1, height, width, channels)")
    return tensor.shape[1], tensor.shape[2], tensor.shape[3]


def _shape_c(shape: tuple[int, int, int]) -> str:
    return f"{{.height = {shape[0]}, .width = {shape[1]}, .channels = {shape[2]}}}"


def _window(op: Operator, options: Any, size: tuple[int, int], dilation: tuple[int, int]) -> Window:
    """The padding is what the model's output shape needs, the odd one below and to the right."""
    source, result = _shape(op, op.inputs[0]), _shape(op, op.outputs[0])
    stride = (options.StrideH(), options.StrideW())
    padding = [0, 0]
    if options.Padding() == tflite.Padding.SAME:
        for axis in (0, 1):
            reach = (result[axis] - 1) * stride[axis] + (size[axis] - 1) * dilation[axis] + 1
            padding[axis] = max(0, reach - source[axis]) // 2
    return Window(size, stride, dilation, (padding[0], padding[1]))


def _bias(op: Operator, outputs: int) -> Sequence[int]:
    if len(op.inputs) < 3:
        return [0] * outputs
    bias = op.inputs[2]
    if bias.type_name != "INT32" or bias.size != outputs:
        raise ModelError(f"{op}: bias of {bias.size} {bias.type_name}, expected {outputs} INT32")
    return np.frombuffer(bias.data, "<i4").tolist()


def _weights(op: Operator) -> Tensor:
    weights = op.inputs[1]
    if weights.type_name != "INT8" or not weights.data:
        raise ModelError(f"{op}: weights must be a constant INT8 tensor, not {weights.type_name}")
    if np.any(weights.zero_points):
        raise ModelError(f"{op}: weights with a zero point other than 0 are not supported")
    return weights


def _layer_fields(name: str, source: Tensor, result: Tensor, activation: int) -> dict[str, object]:
    minimum, maximum = activation_range(activation, result)
    requantize = (
        f"{{\n        .multipliers = {name}_multipliers,\n        .shifts = {name}_shifts,\n"
        f"        .zero_point = {result.zero_point},\n"
        f"        .minimum = {minimum},\n        .maximum = {maximum},\n    }}"
    )
    return {
        "input_zero_point": source.zero_point,
        "weights": f"{name}_weights",
        "bias": f"{name}_bias",
        "requantize": requantize,
    }


def _layer_arrays(name: str, weights: Tensor, bias: Sequence[int], multipliers: Sequence[tuple[int, int]]) -> str:
    return (
        _array("int8_t", f"{name}_weights", np.frombuffer(weights.data, np.int8))
        + _array("int32_t", f"{name}_bias", bias)
        + _array("int32_t", f"{name}_multipliers", (multiplier for multiplier, _ in multipliers))
        + _array("int8_t", f"{name}_shifts", (shift for _, shift in multipliers))
    )


def _conv2d(op: Operator, name: str) -> Call:
    options = _options(op, tflite.Conv2DOptions)
    source, weights, result = op.inputs[0], _weights(op), op.outputs[0]
    channels, height, width, depth = weights.shape
    if depth != _shape(op, source)[2]:
        raise ModelError(f"{op}: grouped convolution is not supported")
    window = _window(op, options, (height, width), (options.DilationHFactor(), options.DilationWFactor()))
    fields = {
        "input": _shape_c(_shape(op, source)),
        "output": _shape_c(_shape(op, result)),
        "window": window.to_c(),
        **_layer_fields(name, source, result, options.FusedActivationFunction()),
    }
    arrays = _layer_arrays(name, weights, _bias(op, channels), conv_multipliers(source, weights, result, channels))
    return Call("nn_conv2d", arrays + _struct("nn_conv2d", name, fields))


def _dense(op: Operator, name: str) -> Call:
    options = _options(op, tflite.FullyConnectedOptions)
    source, weights, result = op.inputs[0], _weights(op), op.outputs[0]
    outputs, inputs = weights.shape
    if source.size != inputs:
        raise ModelError(f"{op}: {source.size} inputs for rows of {inputs}, only a batch of one is supported")
    fields = {
        "inputs": inputs,
        "outputs": outputs,
        **_layer_fields(name, source, result, options.FusedActivationFunction()),
    }
    arrays = _layer_arrays(name, weights, _bias(op, outputs), dense_multipliers(source, weights, result, outputs))
    return Call("nn_dense", arrays + _struct("nn_dense", name, fields))


def _pool(op: Operator, name: str, kernel: str) -> Call:
    options = _options(op, tflite.Pool2DOptions)
    source, result = op.inputs[0], op.outputs[0]
    if source.scale != result.scale or source.zero_point != result.zero_point:
        raise ModelError(f"{op}: a pooling that also changes the quantization is not supported")
    minimum, maximum = activation_range(options.FusedActivationFunction(), result)
    fields = {
        "input": _shape_c(_shape(op, source)),
        "output": _shape_c(_shape(op, result)),
        "window": _window(op, options, (options.FilterHeight(), options.FilterWidth()), (1, 1)).to_c(),
        "minimum": minimum,
        "maximum": maximum,
    }
    return Call(kernel, _struct("nn_pool", name, fields))


def _max_pool(op: Operator, name: str) -> Call:
    return _pool(op, name, "nn_max_pool")


def _average_pool(op: Operator, name: str) -> Call:
    return _pool(op, name, "nn_average_pool")


def _softmax(op: Operator, name: str) -> Call:
    source, result = op.inputs[0], op.outputs[0]
    if float(result.scale) != 1 / 256 or result.zero_point != -128:
        raise ModelError(f"{op}: output scale {result.scale} and zero point {result.zero_point}, not 1/256 and -128")
    scaling = softmax_scaling(_options(op, tflite.SoftmaxOptions).Beta(), source)
    fields = {
        "rows": source.size // source.shape[-1],
        "depth": source.shape[-1],
        "multiplier": scaling.multiplier,
        "shift": scaling.shift,
        "smallest_difference": scaling.smallest_difference,
    }
    return Call("nn_softmax", _struct("nn_softmax", name, fields))


def _options(op: Operator, kind: Any) -> Any:
    if op.options is None:
        raise ModelError(f"{op}: its options are missing")
    options = kind()
    options.Init(op.options.Bytes, op.options.Pos)
    return options


EMITTERS: dict[str, Callable[[Operator, str], Call]] = {
    "AVERAGE_POOL_2D": _average_pool,
    "CONV_2D": _conv2d,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _max_pool,
    "SOFTMAX": _softmax,
}


def call_of(op: Operator, name: str) -> Call:
    """The kernel call of one operator, its constants named after `name`.

    Raises:
        ModelError: the operator is not supported, or not with these types, shapes or options.
    """
    if op.name not in EMITTERS:
        raise ModelError(f"{op} is not supported; supported are {', '.join(sorted([*EMITTERS, 'RESHAPE']))}")
    for tensor in (op.inputs[0], op.outputs[0]):
        if tensor.type_name != "INT8" or len(tensor.scales) != 1:
            raise ModelError(f"{op}: tensor {tensor.index} is {tensor.type_name}, only quantized INT8 is supported")
    return EMITTERS[op.name](op, name)
