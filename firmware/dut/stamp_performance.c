// Timestamps as numbers: `m-lap-us-`, a counter of microseconds that wraps at 2^32.

#include "bsp.h"
#include "console.h"
#include "stamp.h"

static uint32_t opened_us;

static void print_lap(uint32_t time_us) {
    console_text("m-lap-us-");
    console_uint(time_us);
    console_end();
}

uint32_t stamp_baud(void) {
    return 115200;
}

void stamp_boot(void) {
    console_line("m-timestamp-mode-performance");
    stamp_now();
}

void stamp_now(void) {
    print_lap(bsp_time_us());
}

void stamp_open_window(void) {
    opened_us = bsp_time_us();
}

void stamp_close_window(void) {
    const uint32_t closed_us = bsp_time_us();
    print_lap(opened_us);
    print_lap(closed_us);
}
