// Two-dimensional convolution with per-channel quantization.

#include "cost_model.h"

#include "bsp.h"
#include "fixed_point.h"
#include "kernels.h"

static int32_t sum_at(const struct nn_conv2d *layer, const int8_t *input, int32_t top, int32_t left, int32_t channel) {
    const struct nn_window *window = &layer->window;
    const int32_t depth = layer->input.channels;
    const int8_t *filter = layer->weights + channel * window->height * window->width * depth;
    int32_t sum = layer->bias[channel];
    for (int32_t fy = 0; fy < window->height; fy++) {
        const int32_t y = top + fy * window->dilation_height;
        for (int32_t fx = 0; fx < window->width; fx++, filter += depth) {
            const int32_t x = left + fx * window->dilation_width;
            if (y < 0 || y >= layer->input.height || x < 0 || x >= layer->input.width) {
                continue;  // padding stands for real zeros
            }
            const int8_t *pixel = input + (y * layer->input.width + x) * depth;
            for (int32_t c = 0; c < depth; c++) {
                sum += (pixel[c] - layer->input_zero_point) * filter[c];
            }
        }
    }
    return sum;
}

void nn_conv2d(const struct nn_conv2d *layer, const int8_t *input, int8_t *output) {
    const struct nn_window *window = &layer->window;
    const struct nn_requantize *requantize = &layer->requantize;
    int8_t *next = output;
    for (int32_t y = 0; y < layer->output.height; y++) {
        const int32_t top = y * window->stride_height - window->padding_top;
        for (int32_t x = 0; x < layer->output.width; x++) {
            const int32_t left = x * window->stride_width - window->padding_left;
            for (int32_t c = 0; c < layer->output.channels; c++) {
                const int32_t sum = sum_at(layer, input, top, left, c);
                const int32_t scaled = fixed_scale(sum, requantize->multipliers[c], requantize->shifts[c]);
                *next++ = (int8_t)fixed_clamp(scaled + requantize->zero_point, requantize->minimum, requantize->maximum);
            }
        }
    }
    const uint32_t positions = (uint32_t)(layer->output.height * layer->output.width);
    const uint32_t outputs = positions * (uint32_t)layer->output.channels;
    const uint32_t patch = (uint32_t)(window->height * window->width * layer->input.channels);
    bsp_spend(BSP_MEMORY, positions * patch * COST_COPY_PER_4_BYTES / 4u);
    bsp_spend(BSP_CONV, COST_KERNEL_CALL + outputs * patch / 4u * COST_CONV_PER_4_MACS + outputs * COST_REQUANTIZE);
}
