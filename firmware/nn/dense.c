// Fully connected layer: per tensor or per channel, the converter writes one multiplier for each output either way.

#include "cost_model.h"

#include "bsp.h"
#include "fixed_point.h"
#include "kernels.h"

void nn_dense(const struct nn_dense *layer, const int8_t *input, int8_t *output) {
    const struct nn_requantize *requantize = &layer->requantize;
    const int8_t *row = layer->weights;
    for (int32_t o = 0; o < layer->outputs; o++, row += layer->inputs) {
        int32_t sum = layer->bias[o];
        for (int32_t i = 0; i < layer->inputs; i++) {
            sum += (input[i] - layer->input_zero_point) * row[i];
        }
        const int32_t scaled = fixed_scale(sum, requantize->multipliers[o], requantize->shifts[o]);
        output[o] = (int8_t)fixed_clamp(scaled + requantize->zero_point, requantize->minimum, requantize->maximum);
    }
    const uint32_t outputs = (uint32_t)layer->outputs;
    const uint32_t macs = outputs * (uint32_t)layer->inputs;
    bsp_spend(BSP_DENSE, COST_KERNEL_CALL + macs / 4u * COST_DENSE_PER_4_MACS + outputs * COST_REQUANTIZE);
}
