// Int8 kernels, bit-exact to the reference kernels of TensorFlow Lite Micro.
//
// Tensors are dense NHWC with a batch of one. Parameters are constants written by tflite_to_c.py: a kernel checks
// nothing at run time. Each kernel charges its cycles (bsp/cost_model.h) before it returns.

#ifndef NN_KERNELS_H
#define NN_KERNELS_H

#include <stdint.h>

struct nn_shape {
    int32_t height;
    int32_t width;
    int32_t channels;
};

// Where a sliding window goes; padding is what the output's first row and column see outside of the input.
struct nn_window {
    int32_t height;
    int32_t width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t dilation_height;
    int32_t dilation_width;
    int32_t padding_top;
    int32_t padding_left;
};

// From the 32-bit sum of an output channel to its byte: multiply, shift, add the zero point, clamp.
struct nn_requantize {
    const int32_t *multipliers;  // Q0.31, one a channel
    const int8_t *shifts;        // power of two, one a channel; positive is left
    int32_t zero_point;
    int32_t minimum;             // of the fused activation
    int32_t maximum;
};

struct nn_conv2d {
    struct nn_shape input;
    struct nn_shape output;
    struct nn_window window;
    int32_t input_zero_point;
    const int8_t *weights;       // [output channel][height][width][input channel], zero point 0
    const int32_t *bias;
    struct nn_requantize requantize;
};

struct nn_dense {
    int32_t inputs;
    int32_t outputs;
    int32_t input_zero_point;
    const int8_t *weights;       // [output][input], zero point 0
    const int32_t *bias;
    struct nn_requantize requantize;
};

struct nn_pool {
    struct nn_shape input;
    struct nn_shape output;
    struct nn_window window;
    int32_t minimum;
    int32_t maximum;
};

struct nn_softmax {
    int32_t rows;
    int32_t depth;
    int32_t multiplier;          // of beta times the input's scale, to Q5.26
    int32_t shift;               // left
    int32_t smallest_difference; // below it, an input's share is nothing
};

void nn_conv2d(const struct nn_conv2d *layer, const int8_t *input, int8_t *output);
void nn_dense(const struct nn_dense *layer, const int8_t *input, int8_t *output);
void nn_max_pool(const struct nn_pool *layer, const int8_t *input, int8_t *output);
void nn_average_pool(const struct nn_pool *layer, const int8_t *input, int8_t *output);

// Output scale 1/256, zero point -128.
void nn_softmax(const struct nn_softmax *layer, const int8_t *input, int8_t *output);

#endif
