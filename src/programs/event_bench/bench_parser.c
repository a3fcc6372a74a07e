/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads one line, then what it announces. The line is looked for again when more has come: it is
 * short. */
#include "event_bench/bench_parser.h"

#include <string.h>

#include "base/num.h"

enum { TOKENS_MAX = 5, SIZE_DIGITS_MAX = 9 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Splits at runs of blanks. Returns the count, or TOKENS_MAX + 1 when there are more. */
static size_t split(struct esi_str line, struct esi_str *tokens)
{
    size_t count = 0;
    size_t at = 0;

    for (;;) {
        while (at < line.len && is_blank(line.data[at])) {
            at++;
        }
        if (at == line.len) {
            return count;
        }
        if (count == TOKENS_MAX) {
            return TOKENS_MAX + 1;
        }
        const size_t start = at;
        while (at < line.len && !is_blank(line.data[at])) {
            at++;
        }
        tokens[count++] = (struct esi_str){.data = line.data + start, .len = at - start};
    }
}

static bool read_size(struct esi_str token, uint64_t *out)
{
    return esi_num_parse(token.data, token.len, SIZE_DIGITS_MAX, out);
}

/* data: from the frame's first byte; arguments: its line after MSG or HMSG. */
static enum esi_bench_op read_message(struct esi_str data, struct esi_str arguments, size_t body_at,
                                      size_t payload_max, struct esi_bench_frame *frame,
                                      size_t *used)
{
    const bool has_header = data.data[0] == 'H';
    const size_t least = has_header ? 4 : 3;
    struct esi_str tokens[TOKENS_MAX];
    uint64_t header_len = 0;
    uint64_t total_len;

    const size_t count = split(arguments, tokens);
    if (count != least && count != least + 1) {
        return BENCH_OP_BAD;
    }
    if (!read_size(tokens[count - 1], &total_len) || total_len > payload_max ||
        (has_header && (!read_size(tokens[count - 2], &header_len) || header_len > total_len))) {
        return BENCH_OP_BAD;
    }
    if (data.len - body_at < total_len + 2) {
        return BENCH_OP_PART;
    }
    const char *body = data.data + body_at;
    if (body[total_len] != '\r' || body[total_len + 1] != '\n') {
        return BENCH_OP_BAD;
    }
    *frame = (struct esi_bench_frame){
        .subject = tokens[0],
        .sid = tokens[1],
        .reply = count > least ? tokens[2] : (struct esi_str){0},
        .header = {.data = body, .len = header_len},
        .payload = {.data = body + header_len, .len = total_len - header_len}};
    *used = body_at + total_len + 2;
    return BENCH_OP_MSG;
}

static bool has_verb(struct esi_str line, struct esi_str verb)
{
    return esi_str_starts_with(line, verb) &&
           (line.len == verb.len || is_blank(line.data[verb.len]));
}

static struct esi_str after(struct esi_str line, size_t count)
{
    while (count < line.len && is_blank(line.data[count])) {
        count++;
    }
    return (struct esi_str){.data = line.data + count, .len = line.len - count};
}

enum esi_bench_op esi_bench_parser_next(struct esi_str data, size_t payload_max,
                                        struct esi_bench_frame *frame, size_t *used)
{
    static const struct {
        struct esi_str verb;
        enum esi_bench_op op;
    } verbs[] = {{ESI_STR("MSG"), BENCH_OP_MSG},   {ESI_STR("HMSG"), BENCH_OP_MSG},
                 {ESI_STR("PING"), BENCH_OP_PING}, {ESI_STR("PONG"), BENCH_OP_PONG},
                 {ESI_STR("+OK"), BENCH_OP_OK},    {ESI_STR("-ERR"), BENCH_OP_ERR},
                 {ESI_STR("INFO"), BENCH_OP_INFO}};
    const size_t look = data.len < BENCH_LINE_BYTES_MAX ? data.len : BENCH_LINE_BYTES_MAX;
    const char *end = data.len > 0 ? memchr(data.data, '\n', look) : NULL;

    if (end == NULL) {
        return data.len < BENCH_LINE_BYTES_MAX ? BENCH_OP_PART : BENCH_OP_BAD;
    }
    const size_t line_used = (size_t)(end - data.data) + 1;
    struct esi_str line = {.data = data.data, .len = line_used - 1};
    if (line.len > 0 && line.data[line.len - 1] == '\r') {
        line.len--;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (!has_verb(line, verbs[i].verb)) {
            continue;
        }
        const struct esi_str arguments = after(line, verbs[i].verb.len);
        if (verbs[i].op == BENCH_OP_MSG) {
            return read_message(data, arguments, line_used, payload_max, frame, used);
        }
        *frame = (struct esi_bench_frame){.text = arguments};
        *used = line_used;
        return verbs[i].op;
    }
    return BENCH_OP_BAD;
}
