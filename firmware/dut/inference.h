// The benchmark itself: load the input, warm up, run the timed window, tell the results.

#ifndef DUT_INFERENCE_H
#define DUT_INFERENCE_H

#include "words.h"

// The id that `profile` tells: the model this image was built with.
const char *inference_model_id(void);

// Runs `infer [N [W]]`: N timed inferences (1 if not given) after W untimed ones (10 if not given).
void inference_command(const struct words *words);

// Prints what the last inference gave.
void inference_results(void);

#endif
