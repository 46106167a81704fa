// Formatting without printf: small, the same on every C library, and each byte is accounted for.

#include "console.h"

#include <stdbool.h>

#include "bsp.h"
#include "cost_model.h"

enum { TERMINATOR = '%' };

static void put(char byte) {
    bsp_spend(BSP_CPU, COST_PRINT_BYTE);
    bsp_uart_put((uint8_t)byte);
}

void console_text(const char *text) {
    while (*text != '\0') {
        put(*text++);
    }
}

void console_uint(uint32_t value) {
    char digits[10];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0);
    while (count > 0) {
        put(digits[--count]);
    }
}

void console_hex(uint8_t value) {
    static const char digits[] = "0123456789abcdef";
    put(digits[value >> 4]);
    put(digits[value & 15]);
}

void console_thousandths(float value) {
    const float scaled = (value < 0.0f ? -value : value) * 1000.0f;
    uint32_t thousandths = (uint32_t)scaled;
    const float rest = scaled - (float)thousandths;
    if (rest > 0.5f || (rest == 0.5f && thousandths % 2u != 0)) {
        thousandths++;
    }
    if (value < 0.0f && thousandths != 0) {
        put('-');
    }
    console_uint(thousandths / 1000u);
    put('.');
    for (uint32_t unit = 100; unit != 0; unit /= 10u) {
        put((char)('0' + thousandths / unit % 10u));
    }
}

void console_end(void) {
    console_text("\r\n");
}

void console_line(const char *text) {
    console_text(text);
    console_end();
}

void console_read(struct console_command *command) {
    int length = 0;
    command->fault = CONSOLE_WHOLE;
    command->offender = 0;
    for (;;) {
        const uint8_t byte = bsp_uart_get();
        bsp_spend(BSP_CPU, COST_RECEIVE_BYTE);
        if (byte == TERMINATOR) {
            command->text[length] = '\0';
            return;
        }
        const bool printable = byte >= ' ' && byte <= '~';
        if (!printable && command->fault == CONSOLE_WHOLE) {
            command->fault = CONSOLE_UNPRINTABLE;
            command->offender = byte;
        } else if (printable && length < CONSOLE_COMMAND_BYTES) {
            command->text[length++] = (char)byte;
        } else if (printable && command->fault == CONSOLE_WHOLE) {
            command->fault = CONSOLE_TOO_LONG;
        }
    }
}
