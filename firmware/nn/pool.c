// Maximum and average pooling. Padding takes no part: an average divides by the inputs that it really saw.

#include "cost_model.h"

#include "bsp.h"
#include "fixed_point.h"
#include "kernels.h"

// The part of a window that lies inside of the input: rows top to bottom, columns left to right, ends excluded.
struct view {
    int32_t top;
    int32_t bottom;
    int32_t left;
    int32_t right;
};

static struct view view_at(const struct nn_pool *layer, int32_t y, int32_t x) {
    const struct nn_window *window = &layer->window;
    const int32_t top = y * window->stride_height - window->padding_top;
    const int32_t left = x * window->stride_width - window->padding_left;
    return (struct view){
        .top = top > 0 ? top : 0,
        .bottom = top + window->height < layer->input.height ? top + window->height : layer->input.height,
        .left = left > 0 ? left : 0,
        .right = left + window->width < layer->input.width ? left + window->width : layer->input.width,
    };
}

static int32_t maximum_of(const struct nn_pool *layer, const int8_t *input, struct view view, int32_t channel) {
    int32_t largest = INT8_MIN;
    for (int32_t y = view.top; y < view.bottom; y++) {
        for (int32_t x = view.left; x < view.right; x++) {
            const int32_t value = input[(y * layer->input.width + x) * layer->input.channels + channel];
            largest = value > largest ? value : largest;
        }
    }
    return largest;
}

static int32_t average_of(const struct nn_pool *layer, const int8_t *input, struct view view, int32_t channel) {
    const int32_t count = (view.bottom - view.top) * (view.right - view.left);
    int32_t sum = 0;
    for (int32_t y = view.top; y < view.bottom; y++) {
        for (int32_t x = view.left; x < view.right; x++) {
            sum += input[(y * layer->input.width + x) * layer->input.channels + channel];
        }
    }
    return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

typedef int32_t (*reduction)(const struct nn_pool *, const int8_t *, struct view, int32_t);

static void pool(const struct nn_pool *layer, const int8_t *input, int8_t *output, reduction reduce, uint32_t finish) {
    int8_t *next = output;
    for (int32_t y = 0; y < layer->output.height; y++) {
        for (int32_t x = 0; x < layer->output.width; x++) {
            const struct view view = view_at(layer, y, x);
            for (int32_t c = 0; c < layer->output.channels; c++) {
                *next++ = (int8_t)fixed_clamp(reduce(layer, input, view, c), layer->minimum, layer->maximum);
            }
        }
    }
    const uint32_t outputs = (uint32_t)(layer->output.height * layer->output.width * layer->output.channels);
    const uint32_t inputs = outputs * (uint32_t)(layer->window.height * layer->window.width);
    bsp_spend(BSP_POOL, COST_KERNEL_CALL + inputs * COST_POOL_PER_INPUT + outputs * finish);
}

void nn_max_pool(const struct nn_pool *layer, const int8_t *input, int8_t *output) {
    pool(layer, input, output, maximum_of, COST_POOL_MAX_OUTPUT);
}

void nn_average_pool(const struct nn_pool *layer, const int8_t *input, int8_t *output) {
    pool(layer, input, output, average_of, COST_POOL_MEAN_OUTPUT);
}
