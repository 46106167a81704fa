// A download is taken whole or refused with a reason; nothing of a faulty command is kept.

#include "buffer.h"

#include "bsp.h"
#include "console.h"
#include "cost_model.h"

enum { PRINTED_A_LINE = 8 };

static uint8_t bytes[BUFFER_BYTES];
static uint32_t expected;
static uint32_t filled;

static void load(const struct words *words) {
    uint32_t size = 0;
    if (words->count != 3) {
        console_line("e-['db load' takes one argument, the number of bytes]");
    } else if (!words_number(words->word[2], 1, UINT32_MAX, &size)) {
        console_line("e-['db load' takes a number of bytes from 1 up]");
    } else if (size > BUFFER_BYTES) {
        // The protocol's one refusal without the prefix of an error; hosts know it by its words.
        console_text("Supplied buffer size ");
        console_uint(size);
        console_text(" exceeds maximum of ");
        console_uint(BUFFER_BYTES);
        console_end();
    } else {
        expected = size;
        filled = 0;
        console_text("m-[Expecting ");
        console_uint(size);
        console_line(" bytes]");
    }
}

static void print(void) {
    if (filled == 0) {
        console_line("e-[The buffer is empty]");
    }
    for (uint32_t i = 0; i < filled; i++) {
        console_text(i % PRINTED_A_LINE == 0 ? "m-buffer-" : "-");
        console_hex(bytes[i]);
        if (i % PRINTED_A_LINE == PRINTED_A_LINE - 1 || i + 1 == filled) {
            console_end();
        }
    }
}

static int digit_value(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

// Takes all bytes of the command or none, so that the host can send it again.
static void fill(const char *hex) {
    uint32_t digits = 0;
    for (; hex[digits] != '\0'; digits++) {
        if (digit_value(hex[digits]) < 0) {
            const char offender[] = {hex[digits], '\0'};
            console_text("e-[Not a hex digit: ");
            console_text(offender);
            console_line("]");
            return;
        }
    }
    bsp_spend(BSP_CPU, digits * COST_PARSE_BYTE);
    if (digits % 2u != 0) {
        console_line("e-[Odd number of hex digits]");
    } else if (expected == 0) {
        console_line("e-['db load' must come before the bytes]");
    } else if (digits / 2u > expected - filled) {
        console_text("e-[More bytes than announced, still expecting ");
        console_uint(expected - filled);
        console_line("]");
    } else {
        for (uint32_t i = 0; i < digits; i += 2) {
            bytes[filled++] = (uint8_t)(digit_value(hex[i]) * 16 + digit_value(hex[i + 1]));
        }
        if (filled == expected) {
            console_line("m-load-done");
        }
    }
}

void buffer_command(const struct words *words) {
    if (words->count < 2) {
        console_line("e-['db' takes 'load N', 'print' or hex digits]");
    } else if (words_equal(words->word[1], "load")) {
        load(words);
    } else if (words->count > 2) {
        console_line("e-['db' takes one argument but for 'db load N']");
    } else if (words_equal(words->word[1], "print")) {
        print();
    } else {
        fill(words->word[1]);
    }
}

uint32_t buffer_loaded(void) {
    return filled == expected ? filled : 0;
}

const uint8_t *buffer_bytes(void) {
    return bytes;
}
