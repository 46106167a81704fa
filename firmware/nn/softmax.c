// Softmax in fixed point. Exponentials and the reciprocal of their sum follow gemmlowp step by step: each rounding
// counts, or the last bit of a result differs from TensorFlow Lite's.

#include "cost_model.h"

#include "bsp.h"
#include "fixed_point.h"
#include "kernels.h"

enum { DIFFERENCE_FRACTION_BITS = 26, SUM_INTEGER_BITS = 12 };

// exp(x) for x in [-1/4, 0), both in Q0.31: a Taylor series of four terms around -1/8.
static int32_t exp_near_zero(int32_t x) {
    const int32_t exp_minus_eighth = 1895147668;
    const int32_t third = 715827883;
    const int32_t t = x + (INT32_C(1) << 28);
    const int32_t t2 = fixed_multiply(t, t);
    const int32_t t3 = fixed_multiply(t2, t);
    const int32_t quarter_t4 = fixed_divide_by_power(fixed_multiply(t2, t2), 2);
    const int32_t tail = fixed_divide_by_power(fixed_multiply(quarter_t4 + t3, third) + t2, 1);
    return exp_minus_eighth + fixed_multiply(exp_minus_eighth, t + tail);
}

// exp(x) for x <= 0 in Q5.26, as Q0.31: x is split in a part within a quarter and powers of two from 1/4 to 16.
static int32_t exp_of(int32_t x) {
    static const int32_t exp_minus_power[] = {
        1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242,  // exp(-1/4), exp(-1/2), ... exp(-16)
    };
    const int32_t quarter = INT32_C(1) << (DIFFERENCE_FRACTION_BITS - 2);
    if (x == 0) {
        return INT32_MAX;
    }
    const int32_t near = (int32_t)((uint32_t)x & (uint32_t)(quarter - 1)) - quarter;
    const int32_t rest = near - x;
    int32_t result = exp_near_zero(fixed_multiply_by_power(near, 31 - DIFFERENCE_FRACTION_BITS));
    for (int i = 0; i < 7; i++) {
        if (rest & (INT32_C(1) << (DIFFERENCE_FRACTION_BITS - 2 + i))) {
            result = fixed_multiply(result, exp_minus_power[i]);
        }
    }
    return result;
}

// 1 / (1 + x) for x in [0, 1), both in Q0.31: Newton's division in Q2.29.
static int32_t reciprocal_of_one_plus(int32_t x) {
    const int32_t half_denominator = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t estimate = 1515870810 + fixed_multiply(half_denominator, -1010580540);  // 48/17 - 32/17 d
    for (int i = 0; i < 3; i++) {
        const int32_t error = (INT32_C(1) << 29) - fixed_multiply(half_denominator, estimate);
        estimate += fixed_multiply_by_power(fixed_multiply(estimate, error), 2);
    }
    return fixed_multiply_by_power(estimate, 1);
}

static int leading_zeros(uint32_t x) {
    int count = 0;
    for (uint32_t bit = UINT32_C(1) << 31; bit != 0 && (x & bit) == 0; bit >>= 1) {
        count++;
    }
    return count;
}

// The exponential of an input's distance to the row's largest, in Q0.31; 0 where it is too small to count.
static int32_t share(const struct nn_softmax *layer, int32_t difference) {
    if (difference < layer->smallest_difference) {
        return 0;
    }
    return exp_of(fixed_scale(difference, layer->multiplier, layer->shift));
}

static void softmax_row(const struct nn_softmax *layer, const int8_t *input, int8_t *output) {
    int32_t largest = INT8_MIN;
    for (int32_t i = 0; i < layer->depth; i++) {
        largest = input[i] > largest ? input[i] : largest;
    }
    int32_t sum = 0;  // Q12.19
    for (int32_t i = 0; i < layer->depth; i++) {
        sum += fixed_divide_by_power(share(layer, input[i] - largest), SUM_INTEGER_BITS);
    }
    const int headroom = leading_zeros((uint32_t)sum);
    const int32_t fraction = (int32_t)(((uint32_t)sum << headroom) - (UINT32_C(1) << 31));
    const int32_t scale = reciprocal_of_one_plus(fraction);
    const int shift = SUM_INTEGER_BITS - headroom + 31 - 8;
    for (int32_t i = 0; i < layer->depth; i++) {
        const int32_t difference = input[i] - largest;
        const int32_t scaled = fixed_divide_by_power(fixed_multiply(scale, share(layer, difference)), shift);
        output[i] = (int8_t)fixed_clamp(scaled + INT8_MIN, INT8_MIN, INT8_MAX);
    }
}

void nn_softmax(const struct nn_softmax *layer, const int8_t *input, int8_t *output) {
    for (int32_t row = 0; row < layer->rows; row++) {
        softmax_row(layer, input + row * layer->depth, output + row * layer->depth);
    }
    const uint32_t rows = (uint32_t)layer->rows;
    const uint32_t per_row = COST_SOFTMAX_PER_ROW + (uint32_t)layer->depth * COST_SOFTMAX_PER_INPUT;
    bsp_spend(BSP_SOFTMAX, COST_KERNEL_CALL + rows * per_row);
}
