// How the board tells the time of a window. There are two ways, and each makes an image of its own:
// stamp_performance.c prints a microsecond counter, stamp_energy.c gives edges on the timing pin.

#ifndef DUT_STAMP_H
#define DUT_STAMP_H

#include <stdint.h>

uint32_t stamp_baud(void);

// Names the mode to the host and takes the first timestamp, so that the timing pin has its idle level.
void stamp_boot(void);

// One timestamp on request of the host.
void stamp_now(void);

// The two timestamps around the inferences. Nothing is sent between them: the line would be part of the measurement.
void stamp_open_window(void);
void stamp_close_window(void);

#endif
