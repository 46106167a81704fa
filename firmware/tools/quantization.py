"""Fixed-point parameters of the kernels, in the very steps of TensorFlow Lite Micro's preparation.

Sources: tensorflow/lite/kernels/internal/quantization_util.cc (QuantizeMultiplier, PreprocessSoftmaxScaling,
CalculateInputRadius) and tensorflow/lite/kernels/kernel_util.cc (PopulateConvolutionQuantizationParams,
GetQuantizedConvolutionMultipler, CalculateActivationRangeQuantized). Which product is taken in single and which in
double precision decides the last bit of a multiplier, so it is kept as it is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tflite
from graph import ModelError, Tensor

INT8_MIN, INT8_MAX = -128, 127
SOFTMAX_DIFFERENCE_INTEGER_BITS = 5


def quantize_multiplier(real: float) -> tuple[int, int]:
    """A positive real number as a multiplier in Q0.31 and a power of two (positive is left)."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier //= 2
        shift += 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def conv_multipliers(source: Tensor, weights: Tensor, result: Tensor, channels: int) -> tuple[tuple[int, int], ...]:
    """One multiplier and shift a channel: input scale times filter scale over output scale."""
    scales = np.broadcast_to(weights.scales, channels)
    return tuple(quantize_multiplier(float(source.scale) * float(scale) / float(result.scale)) for scale in scales)


def dense_multipliers(source: Tensor, weights: Tensor, result: Tensor, channels: int) -> tuple[tuple[int, int], ...]:
    """As for a convolution; one scale for all rows is multiplied in single precision."""
    if len(weights.scales) > 1:
        return conv_multipliers(source, weights, result, channels)
    product = np.float32(source.scale * weights.scale)
    return (quantize_multiplier(float(product) / float(result.scale)),) * channels


def activation_range(activation: int, result: Tensor) -> tuple[int, int]:
    """Smallest and largest int8 value that a fused activation lets through.

    Raises:
        ModelError: an activation that the kernels do not have.
    """

    def quantized(real: float) -> int:
        ratio = float(np.float32(real) / result.scale)
        return result.zero_point + math.floor(abs(ratio) + 0.5) * (1 if ratio >= 0 else -1)

    kinds = tflite.ActivationFunctionType
    match activation:
        case kinds.NONE:
            return INT8_MIN, INT8_MAX
        case kinds.RELU:
            return max(INT8_MIN, quantized(0.0)), INT8_MAX
        case kinds.RELU6:
            return max(INT8_MIN, quantized(0.0)), min(INT8_MAX, quantized(6.0))
        case kinds.RELU_N1_TO_1:
            return max(INT8_MIN, quantized(-1.0)), min(INT8_MAX, quantized(1.0))
    raise ModelError(f"fused activation number {activation} is not supported")


@dataclass(frozen=True)
class SoftmaxScaling:
    """What turns an int8 difference into Q5.26, and the smallest difference that counts."""

    multiplier: int
    shift: int
    smallest_difference: int


def softmax_scaling(beta: float, source: Tensor) -> SoftmaxScaling:
    """Scaling of a softmax's inputs with factor `beta`.

    Raises:
        ModelError: the product of factor and scale is too small for the kernel's left shift.
    """
    bits = SOFTMAX_DIFFERENCE_INTEGER_BITS
    real = min(beta * float(source.scale) * 2.0 ** (31 - bits), 2.0**31 - 1.0)
    multiplier, shift = quantize_multiplier(real)
    if shift < 0:
        raise ModelError(f"tensor {source.index}: an input scale of {source.scale} is too small for a softmax")
    radius = math.floor((2.0**bits - 1.0) * 2.0 ** (31 - bits) / 2.0**shift)
    return SoftmaxScaling(multiplier, shift, -radius)
