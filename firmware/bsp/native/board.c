// A board that is a process: docs/reference/native-link.md tells what it says to the rack over standard input and output.
//
// Time is the cycle counter alone, driven by the cost model, so that the same commands at the same cycles give the
// same frames on every machine. Frames are collected and written in one go: before the board sleeps, and whenever
// the collection is full.

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bsp.h"

enum {
    LINK_VERSION = 1,
    CLOCK_HZ = 80000000,
    CYCLES_PER_US = CLOCK_HZ / 1000000,
    BOOT_CYCLES = 40 * 1000 * CYCLES_PER_US,  // regulator, crystal and PLL, clearing of memory: 40 ms
    UART_OPEN_CYCLES = 400,
    PIN_CYCLES = 4,
    BITS_PER_BYTE = 10,
    TIMING_PIN = 0,
    FRAME_BYTES = 16,
    FRAMES_HELD = 1024
};

enum frame_kind {
    FRAME_HELLO = 0x01,
    FRAME_ACTIVITY = 0x02,
    FRAME_PIN = 0x03,
    FRAME_TX = 0x04,
    FRAME_BAUD = 0x05,
    FRAME_WAIT = 0x06,
    FRAME_RX = 0x81
};

enum exit_code { EXIT_POWER_OFF = 0, EXIT_LINK_BROKEN = 3 };

static uint64_t cycle;
static uint32_t byte_cycles;
static enum bsp_activity activity;
static uint8_t held[FRAMES_HELD * FRAME_BYTES];
static size_t held_bytes;

static void store(uint8_t *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static void flush(void) {
    if (fwrite(held, 1, held_bytes, stdout) != held_bytes || fflush(stdout) != 0) {
        exit(EXIT_POWER_OFF);  // nobody listens any more: the rack is gone, and the supply with it
    }
    held_bytes = 0;
}

static void send(enum frame_kind kind, uint8_t a, uint16_t b, uint32_t c) {
    uint8_t *frame = held + held_bytes;
    store(frame, cycle, 8);
    frame[8] = (uint8_t)kind;
    frame[9] = a;
    store(frame + 10, b, 2);
    store(frame + 12, c, 4);
    held_bytes += FRAME_BYTES;
    if (held_bytes == sizeof held) {
        flush();
    }
}

static void turn_to(enum bsp_activity next) {
    if (next != activity) {
        activity = next;
        send(FRAME_ACTIVITY, (uint8_t)next, 0, 0);
    }
}

void bsp_boot(void) {
    signal(SIGPIPE, SIG_IGN);  // a closed pipe is seen by flush()
    send(FRAME_HELLO, LINK_VERSION, 0, CLOCK_HZ);
    bsp_spend(BSP_BOOT, BOOT_CYCLES);
}

void bsp_spend(enum bsp_activity on, uint32_t cycles) {
    turn_to(on);
    cycle += cycles;
}

void bsp_delay_us(uint32_t us) {
    turn_to(BSP_CPU);
    cycle += (uint64_t)us * CYCLES_PER_US;
}

uint32_t bsp_time_us(void) {
    return (uint32_t)(cycle / CYCLES_PER_US);
}

void bsp_timing_pin(enum bsp_level level) {
    bsp_spend(BSP_CPU, PIN_CYCLES);
    send(FRAME_PIN, TIMING_PIN, (uint16_t)level, 0);
}

void bsp_uart_open(uint32_t baud) {
    bsp_spend(BSP_CPU, UART_OPEN_CYCLES);
    byte_cycles = (BITS_PER_BYTE * (uint32_t)CLOCK_HZ + baud - 1) / baud;
    send(FRAME_BAUD, 0, 0, baud);
}

void bsp_uart_put(uint8_t byte) {
    turn_to(BSP_CPU);
    send(FRAME_TX, byte, 0, 0);
    cycle += byte_cycles;
}

// Ends the process if the rack has closed the pipe or speaks another language.
static void read_frame(uint8_t *frame) {
    const size_t got = fread(frame, 1, FRAME_BYTES, stdin);
    if (got == 0 && feof(stdin)) {
        exit(EXIT_POWER_OFF);
    }
    if (got != FRAME_BYTES) {
        fprintf(stderr, "native board: the rack's pipe ended inside of a frame, after %zu bytes\n", got);
        exit(EXIT_LINK_BROKEN);
    }
    if (frame[8] != FRAME_RX) {
        fprintf(stderr, "native board: the rack sent a frame of kind 0x%02x, expected 0x%02x\n", (unsigned)frame[8],
                (unsigned)FRAME_RX);
        exit(EXIT_LINK_BROKEN);
    }
}

uint8_t bsp_uart_get(void) {
    uint8_t frame[FRAME_BYTES];
    uint64_t arrived = 0;
    turn_to(BSP_IDLE);
    send(FRAME_WAIT, 0, 0, 0);
    flush();
    read_frame(frame);
    for (int i = 0; i < 8; i++) {
        arrived |= (uint64_t)frame[i] << (8 * i);
    }
    cycle = arrived > cycle ? arrived : cycle;
    turn_to(BSP_CPU);
    return frame[9];
}
