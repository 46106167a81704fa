// Fixed-point arithmetic with the roundings of gemmlowp, on which TensorFlow Lite's int8 results rest.
// A format Qm.n has m integer bits, n fractional bits and a sign.

#ifndef NN_FIXED_POINT_H
#define NN_FIXED_POINT_H

#include <stdint.h>

// High half of 2ab, rounded to nearest, halves away from zero. INT32_MIN squared saturates.
static inline int32_t fixed_multiply(int32_t a, int32_t b) {
    if (a == INT32_MIN && b == INT32_MIN) {
        return INT32_MAX;
    }
    const int64_t product = (int64_t)a * b;
    const int64_t nudge = product >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30);
    return (int32_t)((product + nudge) / ((int64_t)1 << 31));
}

// x / 2^exponent, rounded to nearest, halves away from zero; 0 <= exponent <= 31.
static inline int32_t fixed_divide_by_power(int32_t x, int exponent) {
    const int64_t half = exponent > 0 ? (int64_t)1 << (exponent - 1) : 0;
    const int64_t magnitude = x < 0 ? -(int64_t)x : x;
    const int64_t quotient = (magnitude + half) >> exponent;
    return (int32_t)(x < 0 ? -quotient : quotient);
}

// x * 2^exponent, held at the limits of int32; exponent > 0.
static inline int32_t fixed_multiply_by_power(int32_t x, int exponent) {
    const int64_t wide = (int64_t)x * ((int64_t)1 << exponent);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

// x * multiplier * 2^shift with the multiplier in Q0.31: a left shift comes before the product, a right one after.
static inline int32_t fixed_scale(int32_t x, int32_t multiplier, int shift) {
    const int32_t left = shift > 0 ? (int32_t)((uint32_t)x << shift) : x;
    return fixed_divide_by_power(fixed_multiply(left, multiplier), shift > 0 ? 0 : -shift);
}

static inline int32_t fixed_clamp(int32_t x, int32_t minimum, int32_t maximum) {
    return x < minimum ? minimum : x > maximum ? maximum : x;
}

#endif
