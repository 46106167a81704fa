// A device under test of MLPerf Tiny: boots, tells its mode, and then answers one command after another.

#include <stddef.h>

#include "bsp.h"
#include "buffer.h"
#include "console.h"
#include "cost_model.h"
#include "inference.h"
#include "stamp.h"
#include "words.h"

static const char firmware_name[] = "labd DUT firmware 0.1.0";

static void name(const struct words *words) {
    (void)words;
    console_line("m-name-dut-[labd]");
}

static void timestamp(const struct words *words) {
    (void)words;
    stamp_now();
}

static void profile(const struct words *words) {
    (void)words;
    console_text("m-profile-[");
    console_text(firmware_name);
    console_line("]");
    console_text("m-model-[");
    console_text(inference_model_id());
    console_line("]");
}

static void results(const struct words *words) {
    (void)words;
    inference_results();
}

static void help(const struct words *words);

struct verb {
    const char *name;
    int words_max;  // itself and its arguments
    void (*run)(const struct words *words);
    const char *help;
};

static const struct verb verbs[] = {
    {"name", 1, name, "name            who makes this board"},
    {"timestamp", 1, timestamp, "timestamp       one timestamp in the way of this image's mode"},
    {"profile", 1, profile, "profile         firmware and model"},
    {"help", 1, help, "help            this list"},
    {"db", 3, buffer_command,
     "db load N       announce an input of N bytes\r\n"
     "db HEX          the next bytes of it\r\n"
     "db print        show the bytes that came"},
    {"infer", 3, inference_command, "infer [N [W]]   N timed inferences (1) after W warm-ups (10)"},
    {"results", 1, results, "results         the last inference's results again"},
};

enum { VERBS = sizeof verbs / sizeof verbs[0] };

static void help(const struct words *words) {
    (void)words;
    console_line(firmware_name);
    for (size_t i = 0; i < VERBS; i++) {
        console_line(verbs[i].help);
    }
    console_line("A command ends in a percent sign, with no line end.");
}

static void quote_error(const char *before, const char *quoted, const char *after) {
    console_text("e-[");
    console_text(before);
    console_text(quoted);
    console_text(after);
    console_line("]");
}

static void dispatch(const struct words *words) {
    if (words->count == 0) {
        console_line("e-[Empty command]");
        return;
    }
    for (size_t i = 0; i < VERBS; i++) {
        if (words_equal(words->word[0], verbs[i].name)) {
            if (words->count > verbs[i].words_max) {
                quote_error("Too many arguments for '", verbs[i].name, "'");
            } else {
                verbs[i].run(words);
            }
            return;
        }
    }
    quote_error("Unknown command: ", words->word[0], "");
}

static void answer(struct console_command *command) {
    bsp_spend(BSP_CPU, COST_COMMAND);
    if (command->fault == CONSOLE_TOO_LONG) {
        console_line("e-[Command longer than 80 bytes]");
    } else if (command->fault == CONSOLE_UNPRINTABLE) {
        console_text("e-[Command with byte 0x");
        console_hex(command->offender);
        console_line(", not printable]");
    } else {
        const struct words words = words_split(command->text);
        dispatch(&words);
    }
    console_line("m-ready");
}

int main(void) {
    bsp_boot();
    bsp_uart_open(stamp_baud());
    stamp_boot();
    console_line("m-init-done");
    console_line("m-ready");
    for (;;) {
        struct console_command command;
        console_read(&command);
        answer(&command);
    }
}
