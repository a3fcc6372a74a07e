/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways to one result. parse_canonical_pub handles what publishers send almost always, a whole
 * "PUB subject [reply] size" message in upper case with single blanks, in one pass, and there are
 * such ways for HPUB, SUB and UNSUB; whatever else comes goes through the line machine. The fuzz
 * target checks that both agree. The fast path is entered only between messages and never before
 * the authentication is done.
 */
#include "proto/client_parser.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/own.h"
#include "proto/scan_internal.h"

#include <string.h>

enum verb {
    VERB_PUB,
    VERB_HPUB,
    VERB_SUB,
    VERB_UNSUB,
    VERB_PING,
    VERB_PONG,
    VERB_CONNECT,
    VERB_INFO,
    VERB_OK,
    VERB_ERR,
    VERB_COUNT
};

/* HMSG is left out on purpose: no client may send it, and its effect in nats-server is undefined.
 */
static const struct esi_line_verb verbs[VERB_COUNT] = {
    [VERB_PUB] = {"PUB", 3, LINE_FORM_BLANK_ARGS},
    [VERB_HPUB] = {"HPUB", 4, LINE_FORM_BLANK_ARGS},
    [VERB_SUB] = {"SUB", 3, LINE_FORM_BLANK_ARGS},
    [VERB_UNSUB] = {"UNSUB", 5, LINE_FORM_BLANK_ARGS},
    [VERB_PING] = {"PING", 4, LINE_FORM_REST},
    [VERB_PONG] = {"PONG", 4, LINE_FORM_REST},
    [VERB_CONNECT] = {"CONNECT", 7, LINE_FORM_ARGS},
    [VERB_INFO] = {"INFO", 4, LINE_FORM_ARGS},
    [VERB_OK] = {"+OK", 3, LINE_FORM_REST},
    [VERB_ERR] = {"-ERR", 4, LINE_FORM_BLANK_ARGS},
};

enum { FIELDS_MAX = 4, SIZE_DIGITS_MAX = 9 };

void esi_client_parser_init(struct esi_client_parser *parser, int64_t max_payload,
                            size_t max_control_line)
{
    ESI_REQUIRE(max_payload >= -1 && max_control_line > 0);
    *parser = (struct esi_client_parser){.max_payload = max_payload,
                                         .max_control_line = max_control_line};
    esi_line_machine_reset(&parser->line);
}

static enum esi_client_op fail(struct esi_client_parser *parser, enum esi_fault fault,
                               const char *reason, struct esi_client_item *item)
{
    parser->line.state = LINE_STATE_DEAD;
    parser->fault = fault;
    parser->reason = reason;
    item->fault = fault;
    item->reason = reason;
    return CLIENT_FAULT;
}

static bool exceeds_payload(const struct esi_client_parser *parser, size_t size)
{
    /* -1, no limit, is the largest number when unsigned. */
    return size > (uint64_t)parser->max_payload;
}

/*
 * The fast path. Returns the bytes of the whole message with item filled, or 0 when it is anything
 * but canonical, not wholly there, or wrong: the line machine then says what it is.
 */
static inline size_t parse_canonical_pub(const struct esi_client_parser *parser, const char *data,
                                         size_t len, struct esi_client_item *item)
{
    const uint32_t keyword = 'P' | 'U' << 8 | 'B' << 16 | (uint32_t)' ' << 24;
    size_t size = 0;

    if (len < 12 || load_le32(data) != keyword) {
        return 0;
    }
    const char *const last = data + len - 8;
    const char *const subject = data + 4;
    const char *stop = find_stop(subject, last);
    if (stop == NULL || *stop != ' ' || stop == subject) {
        return 0;
    }
    item->subject = (struct esi_str){.data = subject, .len = (size_t)(stop - subject)};
    const char *field = stop + 1;
    stop = find_stop(field, last);
    if (stop == NULL) {
        return 0;
    }
    item->reply = (struct esi_str){.data = field, .len = 0};
    if (*stop == ' ') {
        item->reply.len = (size_t)(stop - field);
        field = stop + 1;
        stop = find_stop(field, last);
        if (stop == NULL) {
            return 0;
        }
    }
    if (!read_size(field, (size_t)(stop - field), &size) ||
        (size_t)(data + len - stop) < size + 4 || !is_line_end(stop) ||
        !is_line_end(stop + 2 + size) || (size_t)(stop - subject) > parser->max_control_line ||
        exceeds_payload(parser, size)) {
        return 0;
    }
    item->body = stop + 2;
    item->header_len = 0;
    item->total_len = size;
    item->is_hpub = false;
    return (size_t)(stop - data) + 4 + size;
}

/* The same for HPUB. It may be left to the line machine at any time, and costs less than half of it
 * (14 instead of 37 ns). */
static size_t parse_canonical_hpub(const struct esi_client_parser *parser, const char *data,
                                   size_t len, struct esi_client_item *item)
{
    const uint32_t keyword = 'H' | 'P' << 8 | 'U' << 16 | (uint32_t)'B' << 24;
    struct esi_str fields[FIELDS_MAX];
    size_t count = 0;

    if (len < 16 || load_le32(data) != keyword || data[4] != ' ' || !parser->headers_allowed) {
        return 0;
    }
    const char *const args = data + 5;
    const char *const stop = scan_fields(args, data + len, fields, FIELDS_MAX, &count);
    if (stop == NULL || count < 3 || (size_t)(stop - args) > parser->max_control_line ||
        !read_size(fields[count - 1].data, fields[count - 1].len, &item->total_len) ||
        !read_size(fields[count - 2].data, fields[count - 2].len, &item->header_len) ||
        item->header_len > item->total_len || exceeds_payload(parser, item->total_len) ||
        (size_t)(data + len - stop) < item->total_len + 4 ||
        !is_line_end(stop + 2 + item->total_len)) {
        return 0;
    }
    item->subject = fields[0];
    item->reply = count == 4 ? fields[1] : (struct esi_str){.data = fields[1].data, .len = 0};
    item->body = stop + 2;
    item->is_hpub = true;
    return (size_t)(stop - data) + 4 + item->total_len;
}

/* SUB: subject [queue] sid. */
static void fill_sub(const struct esi_str *fields, size_t count, struct esi_client_item *item)
{
    item->subject = fields[0];
    item->queue =
        count == 3 ? fields[1] : (struct esi_str){.data = fields[0].data + fields[0].len, .len = 0};
    item->sid = fields[count - 1];
}

/* UNSUB: sid [max]. What is no usable number means "now", as in nats-server. */
static void fill_unsub(const struct esi_str *fields, size_t count, struct esi_client_item *item)
{
    uint64_t max = 0;

    item->sid = fields[0];
    item->has_max = count == 2 &&
                    esi_num_parse(fields[1].data, fields[1].len, SIZE_DIGITS_MAX, &max) && max > 0;
    item->max = max;
}

/* The same for SUB and UNSUB, which come in long runs. Returns the bytes of the line with item and
 * op filled, or 0. */
static size_t parse_canonical_sub(const struct esi_client_parser *parser, const char *data,
                                  size_t len, enum esi_client_op *op, struct esi_client_item *item)
{
    const uint32_t sub = 'S' | 'U' << 8 | 'B' << 16 | (uint32_t)' ' << 24;
    const uint32_t unsub = 'U' | 'N' << 8 | 'S' << 16 | (uint32_t)'U' << 24;
    struct esi_str fields[3];
    size_t count = 0;

    if (len < 16) {
        return 0;
    }
    const uint32_t keyword = load_le32(data);
    const bool is_sub = keyword == sub;
    if (!is_sub && (keyword != unsub || data[4] != 'B' || data[5] != ' ')) {
        return 0;
    }
    const char *const args = data + (is_sub ? 4 : 6);
    const char *const stop = scan_fields(args, data + len, fields, is_sub ? 3 : 2, &count);
    if (stop == NULL || (size_t)(stop - args) > parser->max_control_line ||
        count < (is_sub ? 2U : 1U)) {
        return 0;
    }
    if (is_sub) {
        fill_sub(fields, count, item);
    } else {
        fill_unsub(fields, count, item);
    }
    *op = is_sub ? CLIENT_SUB : CLIENT_UNSUB;
    return (size_t)(stop - data) + 2;
}

/* PUB and HPUB: subject [reply] [header size] size. */
static enum esi_client_op take_pub(struct esi_client_parser *parser, const struct esi_line *line,
                                   size_t available, size_t *used, struct esi_client_item *item)
{
    const bool is_hpub = parser->line.verb == VERB_HPUB;
    const size_t size_count = is_hpub ? 2 : 1;
    const bool is_judged = parser->line.state == LINE_STATE_BODY;
    struct esi_str fields[FIELDS_MAX];
    size_t count = 0;
    size_t header_len = 0;
    size_t total_len = 0;

    if (is_hpub && !parser->headers_allowed && !is_judged) {
        return fail(parser, FAULT_SILENT, "HPUB without negotiated headers", item);
    }
    if (!esi_line_machine_split(line->args, fields, FIELDS_MAX, &count) || count < 1 + size_count ||
        count > 2 + size_count) {
        return fail(parser, FAULT_SILENT, "wrong arguments for PUB", item);
    }
    if (!read_size(fields[count - 1].data, fields[count - 1].len, &total_len) ||
        (is_hpub && !read_size(fields[count - 2].data, fields[count - 2].len, &header_len)) ||
        header_len > total_len) {
        return fail(parser, FAULT_SILENT, "wrong size in PUB", item);
    }
    if (!is_judged && exceeds_payload(parser, total_len)) {
        return fail(parser, FAULT_MAX_PAYLOAD, "payload over max_payload", item);
    }
    const enum esi_line_result body =
        esi_line_machine_body(&parser->line, line, total_len, available);
    if (body == LINE_MORE) {
        item->needed = parser->line.needed;
        return CLIENT_MORE;
    }
    if (body != LINE_WHOLE) {
        return fail(parser, FAULT_UNKNOWN_OPERATION, "payload not followed by CR LF", item);
    }
    item->subject = fields[0];
    item->reply = count == 2 + size_count
                      ? fields[1]
                      : (struct esi_str){.data = fields[0].data + fields[0].len, .len = 0};
    item->body = line->start + line->line_len;
    item->header_len = header_len;
    item->total_len = total_len;
    item->is_hpub = is_hpub;
    *used += line->line_len + total_len + 2;
    return CLIENT_PUB;
}

static enum esi_client_op take_sub(struct esi_client_parser *parser, const struct esi_line *line,
                                   struct esi_client_item *item)
{
    struct esi_str fields[3];
    size_t count = 0;

    if (!esi_line_machine_split(line->args, fields, ESI_COUNT_OF(fields), &count) || count < 2 ||
        count > 3) {
        return fail(parser, FAULT_SILENT, "wrong arguments for SUB", item);
    }
    fill_sub(fields, count, item);
    return CLIENT_SUB;
}

static enum esi_client_op take_unsub(struct esi_client_parser *parser, const struct esi_line *line,
                                     struct esi_client_item *item)
{
    struct esi_str fields[2];
    size_t count = 0;

    if (!esi_line_machine_split(line->args, fields, ESI_COUNT_OF(fields), &count) || count < 1 ||
        count > 2) {
        return fail(parser, FAULT_SILENT, "wrong arguments for UNSUB", item);
    }
    fill_unsub(fields, count, item);
    return CLIENT_UNSUB;
}

static enum esi_client_op take_text(const struct esi_line *line, enum esi_client_op op,
                                    struct esi_client_item *item)
{
    item->text = line->args;
    return op;
}

/* Everything but PUB and HPUB: the line is all there is. */
static enum esi_client_op take_line(struct esi_client_parser *parser, const struct esi_line *line,
                                    struct esi_client_item *item)
{
    switch ((enum verb)parser->line.verb) {
    case VERB_SUB:
        return take_sub(parser, line, item);
    case VERB_UNSUB:
        return take_unsub(parser, line, item);
    case VERB_PING:
        return CLIENT_PING;
    case VERB_PONG:
        return CLIENT_PONG;
    case VERB_CONNECT:
        return take_text(line, CLIENT_CONNECT, item);
    case VERB_INFO:
        return take_text(line, CLIENT_INFO, item);
    case VERB_OK:
        return CLIENT_OK;
    case VERB_ERR:
        return take_text(line, CLIENT_ERR, item);
    case VERB_PUB:
    case VERB_HPUB:
    case VERB_COUNT:
        break;
    }
    ESI_ASSERT(false);
    return CLIENT_FAULT;
}

/* Who has not shown who it is may not fill a buffer that was made large for others. */
static size_t line_bytes_max(const struct esi_client_parser *parser)
{
    return parser->auth_pending && parser->max_control_line > ESI_CLIENT_OPENING_LINE_MAX
               ? ESI_CLIENT_OPENING_LINE_MAX
               : parser->max_control_line;
}

/* The general way: any legal form, cut at any byte. */
static enum esi_client_op parse_any(struct esi_client_parser *parser, struct esi_str data,
                                    size_t *consumed, struct esi_client_item *item)
{
    struct esi_line line;
    size_t used = 0;

    *consumed = 0;
    if (parser->line.state == LINE_STATE_DEAD) {
        return fail(parser, parser->fault, parser->reason, item);
    }
    if (parser->auth_pending && parser->line.state == LINE_STATE_START && data.len > 0 &&
        data.data[0] != 'C' && data.data[0] != 'c') {
        return fail(parser, FAULT_AUTHORIZATION, "operation before CONNECT", item);
    }
    switch (esi_line_machine_next(&parser->line, verbs, VERB_COUNT, line_bytes_max(parser), data,
                                  &used, &line)) {
    case LINE_UNKNOWN:
        return fail(parser, FAULT_UNKNOWN_OPERATION, "unknown operation", item);
    case LINE_TOO_LONG:
        return fail(parser, FAULT_CONTROL_LINE, "control line over max_control_line", item);
    case LINE_BROKEN:
        return fail(parser, FAULT_UNKNOWN_OPERATION, "payload not followed by CR LF", item);
    case LINE_MORE:
        *consumed = used;
        item->needed = parser->line.state == LINE_STATE_BODY ? parser->line.needed : 0;
        return CLIENT_MORE;
    case LINE_WHOLE:
        break;
    }
    enum esi_client_op op;
    if (parser->line.verb == VERB_PUB || parser->line.verb == VERB_HPUB) {
        op = take_pub(parser, &line, data.len - used, &used, item);
    } else {
        op = take_line(parser, &line, item);
        used += line.line_len;
    }
    if (op == CLIENT_FAULT) {
        return op;
    }
    if (op != CLIENT_MORE) {
        esi_line_machine_reset(&parser->line);
    }
    *consumed = used;
    return op;
}

/* Kept out of line, so that it can be a tail call and the fast path saves no registers for it. */
static __attribute__((noinline)) enum esi_client_op parse_unusual(struct esi_client_parser *parser,
                                                                  const char *data, size_t len,
                                                                  size_t *consumed,
                                                                  struct esi_client_item *item)
{
    if (parser->line.state == LINE_STATE_START && !parser->auth_pending) {
        enum esi_client_op op = CLIENT_PUB;
        size_t used = parse_canonical_hpub(parser, data, len, item);
        if (used == 0) {
            used = parse_canonical_sub(parser, data, len, &op, item);
        }
        if (used > 0) {
            *consumed = used;
            return op;
        }
    }
    return parse_any(parser, (struct esi_str){.data = data, .len = len}, consumed, item);
}

enum esi_client_op esi_client_parser_next(struct esi_client_parser *parser, const char *data,
                                          size_t len, size_t *consumed,
                                          struct esi_client_item *item)
{
    if (ESI_LIKELY(parser->line.state == LINE_STATE_START && !parser->auth_pending)) {
        const size_t used = parse_canonical_pub(parser, data, len, item);
        if (ESI_LIKELY(used > 0)) {
            *consumed = used;
            return CLIENT_PUB;
        }
    }
    return parse_unusual(parser, data, len, consumed, item);
}
