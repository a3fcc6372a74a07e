/* SPDX-License-Identifier: GPL-2.0-or-later */
/* However the stream is cut, no byte of a line is looked at twice but those of its keyword: what
 * was seen is kept in the state. */
#include "proto/line_machine.h"
#include "base/assert.h"
#include "base/own.h"

#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Letter for letter, so that a wrong byte is found when it comes, not at the end of the line. */
static enum esi_line_result match_verb(struct esi_line_machine *machine,
                                       const struct esi_line_verb *verbs, size_t verb_count,
                                       struct esi_str rest)
{
    for (size_t v = 0; v < verb_count; v++) {
        const size_t len = rest.len < verbs[v].len ? rest.len : verbs[v].len;
        size_t i = 0;
        while (i < len) {
            const char c = rest.data[i];
            const char upper = (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
            if (upper != verbs[v].word[i]) {
                break;
            }
            i++;
        }
        if (i == verbs[v].len) {
            machine->verb = (uint8_t)v;
            return LINE_WHOLE;
        }
        if (i == rest.len) {
            return LINE_MORE;
        }
    }
    return LINE_UNKNOWN;
}

static enum esi_line_result begin(struct esi_line_machine *machine,
                                  const struct esi_line_verb *verbs, size_t verb_count,
                                  struct esi_str data, size_t *used)
{
    const struct esi_str rest = {.data = data.data + *used, .len = data.len - *used};
    const enum esi_line_result result =
        rest.len == 0 ? LINE_MORE : match_verb(machine, verbs, verb_count, rest);

    if (result == LINE_WHOLE) {
        const enum esi_line_form form = (enum esi_line_form)verbs[machine->verb].form;
        *used += verbs[machine->verb].len;
        machine->state = form == LINE_FORM_BLANK_ARGS ? LINE_STATE_BLANK
                         : form == LINE_FORM_ARGS     ? LINE_STATE_BLANKS
                                                      : LINE_STATE_REST;
    }
    return result;
}

/* Ignored text needs no room: it is used up as it comes. */
static enum esi_line_result skip_rest(struct esi_str data, size_t *used, struct esi_line *line)
{
    const char *start = data.data + *used;
    const char *lf = *used < data.len ? memchr(start, '\n', data.len - *used) : NULL;

    if (lf == NULL) {
        *used = data.len;
        return LINE_MORE;
    }
    *line = (struct esi_line){.start = start, .line_len = (size_t)(lf - start) + 1};
    return LINE_WHOLE;
}

/*
 * Finds the line end among the arguments. The first byte is an argument whatever it is, also CR and
 * LF. Only max_control_line bytes, CR and LF can matter: more is too long in any case.
 */
static enum esi_line_result scan_args(struct esi_line_machine *machine, size_t max_control_line,
                                      struct esi_str data, size_t used, struct esi_line *line)
{
    const char *start = data.data + used;
    const size_t available = data.len - used;
    const size_t window =
        available > 2 && available - 2 > max_control_line ? max_control_line + 2 : available;
    const size_t from = machine->scanned > 0 ? machine->scanned : 1;
    const char *lf = from < window ? memchr(start + from, '\n', window - from) : NULL;
    size_t len = lf != NULL ? (size_t)(lf - start) : window;

    /* A CR that ends what is there is not counted: it may belong to the line end. */
    if (len > 1 && start[len - 1] == '\r') {
        len--;
    }
    if (len > max_control_line) {
        return LINE_TOO_LONG;
    }
    if (lf == NULL) {
        machine->scanned = window;
        return LINE_MORE;
    }
    machine->scanned = (size_t)(lf - start);
    *line = (struct esi_line){
        .args = {.data = start, .len = len}, .start = start, .line_len = (size_t)(lf - start) + 1};
    return LINE_WHOLE;
}

/* The byte in the place of CR is judged as soon as it is there. */
static enum esi_line_result check_body(const struct esi_line_machine *machine, const char *start,
                                       size_t available)
{
    if (available + 1 < machine->needed) {
        return LINE_MORE;
    }
    if (start[machine->needed - 2] != '\r') {
        return LINE_BROKEN;
    }
    if (available < machine->needed) {
        return LINE_MORE;
    }
    return start[machine->needed - 1] == '\n' ? LINE_WHOLE : LINE_BROKEN;
}

/* Blanks behind a keyword are used up, so that a long run of them needs no room. */
static void skip_blanks(struct esi_line_machine *machine, struct esi_str data, size_t *used)
{
    while (*used < data.len && is_blank(data.data[*used])) {
        (*used)++;
    }
    if (*used < data.len) {
        machine->state = LINE_STATE_ARGS;
        machine->scanned = 0;
    }
}

enum esi_line_result esi_line_machine_next(struct esi_line_machine *machine,
                                           const struct esi_line_verb *verbs, size_t verb_count,
                                           size_t max_control_line, struct esi_str data,
                                           size_t *used, struct esi_line *line)
{
    if (machine->state == LINE_STATE_START) {
        const enum esi_line_result result = begin(machine, verbs, verb_count, data, used);
        if (result != LINE_WHOLE) {
            return result;
        }
    }
    if (machine->state == LINE_STATE_REST) {
        return skip_rest(data, used, line);
    }
    if (machine->state == LINE_STATE_BLANK) {
        if (*used == data.len) {
            return LINE_MORE;
        }
        if (!is_blank(data.data[*used])) {
            return LINE_UNKNOWN;
        }
        machine->state = LINE_STATE_BLANKS;
    }
    if (machine->state == LINE_STATE_BLANKS) {
        skip_blanks(machine, data, used);
        if (machine->state == LINE_STATE_BLANKS) {
            return LINE_MORE;
        }
    }
    if (machine->state == LINE_STATE_BODY) {
        const enum esi_line_result result =
            check_body(machine, data.data + *used, data.len - *used);
        /* The line was judged when it came: a limit lowered since does not touch it. */
        return result != LINE_WHOLE ? result : scan_args(machine, SIZE_MAX, data, *used, line);
    }
    return scan_args(machine, max_control_line, data, *used, line);
}

enum esi_line_result esi_line_machine_body(struct esi_line_machine *machine,
                                           const struct esi_line *line, size_t size,
                                           size_t available)
{
    ESI_DEBUG_ASSERT(size <= 999999999);
    machine->needed = line->line_len + size + 2;
    machine->state = LINE_STATE_BODY;
    return check_body(machine, line->start, available);
}

void esi_line_machine_reset(struct esi_line_machine *machine)
{
    *machine = (struct esi_line_machine){.state = LINE_STATE_START};
}

bool esi_line_machine_split(struct esi_str args, struct esi_str *fields, size_t capacity,
                            size_t *count)
{
    const char *const end = args.data + args.len;
    const char *at = args.data;

    *count = 0;
    for (;;) {
        while (at < end && is_blank(*at)) {
            at++;
        }
        if (at == end) {
            return true;
        }
        const char *start = at;
        while (at < end && !is_blank(*at)) {
            if (*at == '\r' || *at == '\n' || *at == '\0') {
                return false;
            }
            at++;
        }
        if (*count < capacity) {
            fields[*count] = (struct esi_str){.data = start, .len = (size_t)(at - start)};
        }
        (*count)++;
    }
}
