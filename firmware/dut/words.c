// Words are split in place and numbers are read strictly: no sign, no blank, no overflow.

#include "words.h"

#include "bsp.h"
#include "cost_model.h"

struct words words_split(char *text) {
    struct words words = {0};
    for (char *next = text; *next != '\0';) {
        if (*next == ' ') {
            *next++ = '\0';
            continue;
        }
        if (words.count < WORDS_MAX) {
            words.word[words.count] = next;
        }
        words.count++;
        while (*next != ' ' && *next != '\0') {
            next++;
        }
    }
    return words;
}

bool words_equal(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

bool words_number(const char *word, uint32_t smallest, uint32_t largest, uint32_t *value) {
    uint64_t number = 0;
    if (*word == '\0') {
        return false;
    }
    for (; *word != '\0'; word++) {
        bsp_spend(BSP_CPU, COST_PARSE_BYTE);
        if (*word < '0' || *word > '9') {
            return false;
        }
        number = number * 10u + (uint64_t)(*word - '0');
        if (number > largest) {
            return false;
        }
    }
    if (number < smallest) {
        return false;
    }
    *value = (uint32_t)number;
    return true;
}
