// Timestamps as falling edges of the timing pin, which idles high.
//
// The rules ask for a low pulse of 1 us. It is held longer here, so that an input sampled every few microseconds sees
// it as well. The first pulse lies inside of the window that its falling edge opens, as with the reference firmware.

#include "bsp.h"
#include "console.h"
#include "stamp.h"

enum { LOW_US = 10 };

uint32_t stamp_baud(void) {
    return 9600;
}

void stamp_boot(void) {
    bsp_timing_pin(BSP_HIGH);
    console_line("m-timestamp-mode-energy");
    stamp_now();
}

void stamp_now(void) {
    bsp_timing_pin(BSP_LOW);
    bsp_delay_us(LOW_US);
    bsp_timing_pin(BSP_HIGH);
}

void stamp_open_window(void) {
    stamp_now();
}

void stamp_close_window(void) {
    stamp_now();
}
