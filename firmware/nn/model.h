// A network as the firmware sees it: a name, two buffers, and how to read the output.
// firmware/tools/tflite_to_c.py writes one constant of this type for each .tflite file.

#ifndef NN_MODEL_H
#define NN_MODEL_H

#include <stdint.h>

struct nn_model {
    const char *id;
    uint32_t input_bytes;
    uint32_t output_bytes;
    float output_scale;           // real value = scale * (byte - zero point)
    int32_t output_zero_point;
    void (*infer)(const int8_t *input, int8_t *output);
};

#endif
