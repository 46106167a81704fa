// The download buffer behind the `db` commands: the host announces a size and sends the bytes in hex, piece by piece.

#ifndef DUT_BUFFER_H
#define DUT_BUFFER_H

#include <stdint.h>

#include "words.h"

// Largest input of MLPerf Tiny: 96 x 96 RGB of the visual wake words.
enum { BUFFER_BYTES = 27648 };

// Runs `db load N`, `db print` or `db HEX`, and prints the answer or an error; not the final m-ready.
void buffer_command(const struct words *words);

// Bytes loaded; 0 while none, or not yet all, have come.
uint32_t buffer_loaded(void);

const uint8_t *buffer_bytes(void);

#endif
