/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part that the parsers of this layer share: keyword, blanks, arguments, line end, payload,
 * resumable at any byte. It knows verbs only by a table, and no meaning. For proto/client_parser.c
 * and proto/gateway_parser.c only.
 *
 * States, each with the bytes that data begins with:
 *   START   a keyword. Nothing is consumed before it is whole; it is at most 8 bytes, so looking
 *           again is cheap
 *   BLANK   what must be the first blank behind a keyword
 *   BLANKS  blanks; they are consumed, so that a long run needs no room
 *   ARGS    the arguments; `scanned` of them hold no LF
 *   REST    text that is ignored up to LF; consumed as it comes
 *   BODY    the arguments, of a line that is judged; `needed` bytes make the message whole
 */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum esi_line_state {
    LINE_STATE_START,
    LINE_STATE_BLANK,
    LINE_STATE_BLANKS,
    LINE_STATE_ARGS,
    LINE_STATE_REST,
    LINE_STATE_BODY,
    LINE_STATE_DEAD
};

struct esi_line_machine {
    uint8_t state; /* enum esi_line_state */
    uint8_t verb;  /* index in the table */
    size_t scanned;
    size_t needed;
};

/* What may follow a keyword. */
enum esi_line_form {
    LINE_FORM_BLANK_ARGS, /* at least one blank, then arguments */
    LINE_FORM_ARGS,       /* any blanks, then arguments */
    LINE_FORM_REST        /* anything, ignored */
};

struct esi_line_verb {
    const char *word; /* upper case */
    uint8_t len;
    uint8_t form; /* enum esi_line_form */
};

enum esi_line_result {
    LINE_MORE,     /* the bytes end inside the line */
    LINE_WHOLE,    /* a line: machine->verb, and its arguments unless it has none */
    LINE_UNKNOWN,  /* no verb of the table begins so, or no blank follows */
    LINE_TOO_LONG, /* over max_control_line bytes of arguments */
    LINE_BROKEN    /* the payload is not followed by CR LF */
};

/* A line inside the caller's buffer. */
struct esi_line {
    struct esi_str args;
    const char *start; /* of the arguments */
    size_t line_len;   /* from start, with LF */
};

/*
 * Goes on until a line is whole.
 *   used  bytes of data that are done with: in and out; the rest of the line starts at data + *used
 *   line  written with LINE_WHOLE
 * In state BODY LINE_WHOLE comes again for the same line once the whole message is there.
 */
enum esi_line_result esi_line_machine_next(struct esi_line_machine *machine,
                                           const struct esi_line_verb *verbs, size_t verb_count,
                                           size_t max_control_line, struct esi_str data,
                                           size_t *used, struct esi_line *line);
/*
 * After a line that announces a payload of size bytes: is it there, followed by CR LF? LINE_WHOLE,
 * LINE_BROKEN, or LINE_MORE (then the machine is in state BODY and knows what it needs).
 *   available  bytes from line->start
 */
enum esi_line_result esi_line_machine_body(struct esi_line_machine *machine,
                                           const struct esi_line *line, size_t size,
                                           size_t available);
/* Ready for the next line. */
void esi_line_machine_reset(struct esi_line_machine *machine);

/*
 * Splits arguments at blanks and tabs into at most capacity fields. *count is the number of fields
 * there are, also when that is more. Returns false when a field holds CR, LF or NUL: those would
 * break the framing of whoever the field is forwarded to (nats-server lets some of them through; no
 * client sends them).
 */
bool esi_line_machine_split(struct esi_str args, struct esi_str *fields, size_t capacity,
                            size_t *count);
