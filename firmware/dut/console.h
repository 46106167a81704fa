// The line to the host: replies go out byte by byte, commands come in up to their '%'.

#ifndef DUT_CONSOLE_H
#define DUT_CONSOLE_H

#include <stdint.h>

enum { CONSOLE_COMMAND_BYTES = 80 };

enum console_fault {
    CONSOLE_WHOLE,
    CONSOLE_TOO_LONG,   // more than 80 bytes before the terminator
    CONSOLE_UNPRINTABLE // a byte outside of printable ASCII, kept in `offender`
};

struct console_command {
    char text[CONSOLE_COMMAND_BYTES + 1];  // ends in 0
    enum console_fault fault;
    uint8_t offender;
};

void console_text(const char *text);
void console_uint(uint32_t value);
void console_hex(uint8_t value);

// A real number rounded to thousandths, halves to even: "0.996".
void console_thousandths(float value);

// Ends a reply's line with CR LF.
void console_end(void);

// A whole line.
void console_line(const char *text);

// Sleeps until a whole command has come. Bytes of a faulty command are dropped up to its terminator.
void console_read(struct console_command *command);

#endif
