// The words of a command, and the numbers among them.

#ifndef DUT_WORDS_H
#define DUT_WORDS_H

#include <stdbool.h>
#include <stdint.h>

enum { WORDS_MAX = 3 };

struct words {
    int count;  // of all words, also of those beyond WORDS_MAX that are not kept
    const char *word[WORDS_MAX];
};

// Splits `text` at spaces, in place.
struct words words_split(char *text);

// Whether the two words are the same.
bool words_equal(const char *a, const char *b);

// Reads a decimal number of digits alone, from `smallest` to `largest`; false leaves `value` as it was.
bool words_number(const char *word, uint32_t smallest, uint32_t largest, uint32_t *value);

#endif
