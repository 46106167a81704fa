// What the firmware asks of a board: one UART, one timing pin, one clock, and an account of the work done.
//
// Everything above this header is portable C11. A board support package implements these functions; on silicon
// bsp_spend() is empty, because there the work itself takes the time.

#ifndef BSP_H
#define BSP_H

#include <stdint.h>

// What the board is busy with; numbers as in docs/reference/native-link.md.
enum bsp_activity {
    BSP_BOOT = 1,
    BSP_IDLE = 2,
    BSP_CPU = 3,
    BSP_MEMORY = 4,
    BSP_CONV = 5,
    BSP_DENSE = 6,
    BSP_POOL = 7,
    BSP_SOFTMAX = 8
};

enum bsp_level { BSP_LOW = 0, BSP_HIGH = 1 };

// Brings up clocks and memory. The first call of the program.
void bsp_boot(void);

// Accounts for `cycles` of the core clock spent on `activity`.
void bsp_spend(enum bsp_activity activity, uint32_t cycles);

// Lets at least `us` microseconds pass, busy waiting.
void bsp_delay_us(uint32_t us);

// Microseconds since power-on; wraps at 2^32.
uint32_t bsp_time_us(void);

// Drives the timing pin.
void bsp_timing_pin(enum bsp_level level);

// Opens the UART at `baud` bit/s, 8N1.
void bsp_uart_open(uint32_t baud);

// Sends one byte and returns when its stop bit is out.
void bsp_uart_put(uint8_t byte);

// Sleeps until a byte has come, and returns it.
uint8_t bsp_uart_get(void);

#endif
