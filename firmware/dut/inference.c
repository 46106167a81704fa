// The timed loop holds the kernels and nothing else; all printing lies outside of the window.

#include "inference.h"

#include <stdbool.h>
#include <stdint.h>

#include "bsp.h"
#include "buffer.h"
#include "console.h"
#include "cost_model.h"
#include "model.h"
#include "stamp.h"

// A million keeps the slowest benchmark within the 71 minutes after which a microsecond counter has wrapped.
enum { ITERATIONS_MAX = 1000000, WARMUP_DEFAULT = 10, OUTPUT_BYTES_MAX = 640 };

extern const struct nn_model DUT_MODEL;  // the name comes from the build

static int8_t input[BUFFER_BYTES];
static int8_t output[OUTPUT_BYTES_MAX];
static bool has_results;

static void infer_times(uint32_t times) {
    while (times-- > 0) {
        bsp_spend(BSP_CPU, COST_INFERENCE);
        DUT_MODEL.infer(input, output);
    }
}

static void load_input(void) {
    const uint8_t *bytes = buffer_bytes();
    for (uint32_t i = 0; i < DUT_MODEL.input_bytes; i++) {
        input[i] = (int8_t)(bytes[i] < 128 ? bytes[i] : bytes[i] - 256);
    }
    bsp_spend(BSP_MEMORY, DUT_MODEL.input_bytes * COST_COPY_PER_4_BYTES / 4u);
}

static void run(uint32_t iterations, uint32_t warmups) {
    load_input();
    console_text("m-warmup-start-");
    console_uint(warmups);
    console_end();
    infer_times(warmups);
    console_line("m-warmup-done");
    console_text("m-infer-start-");
    console_uint(iterations);
    console_end();
    stamp_open_window();
    infer_times(iterations);
    stamp_close_window();
    console_line("m-infer-done");
    has_results = true;
    inference_results();
}

const char *inference_model_id(void) {
    return DUT_MODEL.id;
}

void inference_command(const struct words *words) {
    uint32_t iterations = 1;
    uint32_t warmups = WARMUP_DEFAULT;
    if (words->count > 1 && !words_number(words->word[1], 1, ITERATIONS_MAX, &iterations)) {
        console_line("e-[Inference iterations must be a number from 1 to 1000000]");
    } else if (words->count > 2 && !words_number(words->word[2], 0, ITERATIONS_MAX, &warmups)) {
        console_line("e-[Inference warmups must be a number from 0 to 1000000]");
    } else if (buffer_loaded() == 0) {
        console_line("e-[No whole input is loaded]");
    } else if (buffer_loaded() != DUT_MODEL.input_bytes) {
        console_text("e-[The model takes ");
        console_uint(DUT_MODEL.input_bytes);
        console_text(" bytes, loaded are ");
        console_uint(buffer_loaded());
        console_line("]");
    } else {
        run(iterations, warmups);
    }
}

void inference_results(void) {
    if (!has_results) {
        console_line("e-[No results yet]");
        return;
    }
    console_text("m-results-[");
    for (uint32_t i = 0; i < DUT_MODEL.output_bytes; i++) {
        if (i > 0) {
            console_text(",");
        }
        console_thousandths(DUT_MODEL.output_scale * (float)(output[i] - DUT_MODEL.output_zero_point));
    }
    console_line("]");
}
