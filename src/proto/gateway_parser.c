/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As in client_parser.c there are several ways: scan_plain_msg takes a whole RMSG without queues in
 * canonical form, which most are, scan_canonical_msg any whole message in canonical form, the line
 * machine all else. The latter two end in interpret_msg, so that the fields have one meaning.
 *
 * Fields of RMSG behind the keyword (HMSG has one size more):
 *   account subject size | account subject reply size
 *   account subject + reply queue... size | account subject '|' queue... size
 * With four fields the third is a reply whatever it is, with more it must be a marker.
 */
#include "proto/gateway_parser.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/own.h"
#include "proto/scan_internal.h"

#include <string.h>

enum verb {
    VERB_RMSG,
    VERB_HMSG,
    VERB_SUB,
    VERB_UNSUB,
    VERB_ACCOUNT_SUB,
    VERB_ACCOUNT_UNSUB,
    VERB_PING,
    VERB_PONG,
    VERB_INFO,
    VERB_CONNECT,
    VERB_OK,
    VERB_ERR,
    VERB_CLIENT_PUB,
    VERB_CLIENT_HPUB,
    VERB_CLIENT_SUB,
    VERB_CLIENT_UNSUB,
    VERB_COUNT
};

/* The client verbs are known here only because they end the link in another way than unknown ones.
 */
static const struct esi_line_verb verbs[VERB_COUNT] = {
    [VERB_RMSG] = {"RMSG", 4, LINE_FORM_BLANK_ARGS},
    [VERB_HMSG] = {"HMSG", 4, LINE_FORM_BLANK_ARGS},
    [VERB_SUB] = {"RS+", 3, LINE_FORM_BLANK_ARGS},
    [VERB_UNSUB] = {"RS-", 3, LINE_FORM_BLANK_ARGS},
    [VERB_ACCOUNT_SUB] = {"A+", 2, LINE_FORM_BLANK_ARGS},
    [VERB_ACCOUNT_UNSUB] = {"A-", 2, LINE_FORM_BLANK_ARGS},
    [VERB_PING] = {"PING", 4, LINE_FORM_REST},
    [VERB_PONG] = {"PONG", 4, LINE_FORM_REST},
    [VERB_INFO] = {"INFO", 4, LINE_FORM_ARGS},
    [VERB_CONNECT] = {"CONNECT", 7, LINE_FORM_ARGS},
    [VERB_OK] = {"+OK", 3, LINE_FORM_REST},
    [VERB_ERR] = {"-ERR", 4, LINE_FORM_BLANK_ARGS},
    [VERB_CLIENT_PUB] = {"PUB", 3, LINE_FORM_BLANK_ARGS},
    [VERB_CLIENT_HPUB] = {"HPUB", 4, LINE_FORM_BLANK_ARGS},
    [VERB_CLIENT_SUB] = {"SUB", 3, LINE_FORM_BLANK_ARGS},
    [VERB_CLIENT_UNSUB] = {"UNSUB", 5, LINE_FORM_BLANK_ARGS},
};

enum { HEAD_FIELDS = 5, TAIL_FIELDS = 3, SCAN_FIELDS_MAX = 8, WEIGHT_DIGITS_MAX = 9 };

/*
 * A message line of any number of fields, without room for all of them: its first and its last
 * ones. Queue names lie between, in the text.
 */
struct msg_fields {
    struct esi_str head[HEAD_FIELDS];
    struct esi_str tail[TAIL_FIELDS]; /* the last fields, the very last one first */
    size_t count;
};

void esi_gateway_parser_init(struct esi_gateway_parser *parser, enum esi_gateway_role role)
{
    *parser = (struct esi_gateway_parser){.role = role,
                                          .max_payload = ESI_GATEWAY_PAYLOAD_MAX,
                                          .max_control_line = ESI_GATEWAY_CONTROL_LINE_MAX,
                                          .auth_pending = role == GATEWAY_ACCEPTOR};
    esi_line_machine_reset(&parser->line);
}

static enum esi_gateway_op fail(struct esi_gateway_parser *parser, enum esi_fault fault,
                                const char *reason, struct esi_gateway_item *item)
{
    parser->line.state = LINE_STATE_DEAD;
    parser->fault = fault;
    parser->reason = reason;
    item->fault = fault;
    item->reason = reason;
    return GATEWAY_FAULT;
}

/* What each side may send: messages and CONNECT from the dialler, interest from the acceptor, the
 * rest from both. */
static bool is_from_wrong_side(enum esi_gateway_role role, enum verb verb)
{
    switch (verb) {
    case VERB_RMSG:
    case VERB_HMSG:
    case VERB_CONNECT:
        return role == GATEWAY_DIALLER;
    case VERB_SUB:
    case VERB_UNSUB:
    case VERB_ACCOUNT_SUB:
    case VERB_ACCOUNT_UNSUB:
        return role == GATEWAY_ACCEPTOR;
    case VERB_PING:
    case VERB_PONG:
    case VERB_INFO:
    case VERB_OK:
    case VERB_ERR:
    case VERB_CLIENT_PUB:
    case VERB_CLIENT_HPUB:
    case VERB_CLIENT_SUB:
    case VERB_CLIENT_UNSUB:
    case VERB_COUNT:
        break;
    }
    return false;
}

/* Queues are the fields from first to last, which may be none. */
static void set_queues(struct esi_gateway_item *item, struct esi_str first, struct esi_str last,
                       size_t count)
{
    item->queue_count = count;
    item->queues = (struct esi_str){
        .data = first.data, .len = count > 0 ? (size_t)(last.data + last.len - first.data) : 0};
}

/* Fills everything of the item but the body. Returns a sentence when the fields make no message,
 * else NULL. */
static const char *interpret_msg(const struct msg_fields *fields, bool is_hmsg,
                                 struct esi_gateway_item *item)
{
    const size_t size_count = is_hmsg ? 2 : 1;
    const size_t name_count = fields->count - size_count;

    if (fields->count < 2 + size_count) {
        return "too few fields in a message line";
    }
    item->header_len = 0;
    if (!read_size(fields->tail[0].data, fields->tail[0].len, &item->total_len) ||
        (is_hmsg && !read_size(fields->tail[1].data, fields->tail[1].len, &item->header_len)) ||
        item->header_len > item->total_len) {
        return "wrong size in a message line";
    }
    const struct esi_str none = {.data = fields->head[1].data + fields->head[1].len, .len = 0};
    item->is_hmsg = is_hmsg;
    item->account = fields->head[0];
    item->subject = fields->head[1];
    item->reply = name_count == 3 ? fields->head[2] : none;
    set_queues(item, none, none, 0);
    if (name_count <= 3) {
        return NULL;
    }
    const struct esi_str last = fields->tail[size_count];
    if (esi_str_equal(fields->head[2], ESI_STR("|"))) {
        set_queues(item, fields->head[3], last, name_count - 3);
        return NULL;
    }
    if (esi_str_equal(fields->head[2], ESI_STR("+"))) {
        item->reply = fields->head[3];
        if (name_count > 4) {
            set_queues(item, fields->head[4], last, name_count - 4);
        }
        return NULL;
    }
    return "wrong marker in a message line";
}

/* The field at `at`, which is followed by a blank; its length is 0 where there is none. */
static inline struct esi_str scan_field(const char *at, const char *last)
{
    const char *const stop = find_stop(at, last);

    return (struct esi_str){.data = at,
                            .len = stop != NULL && *stop == ' ' ? (size_t)(stop - at) : 0};
}

/*
 * The fast path: RMSG with account, subject and perhaps a reply. Returns the bytes of the whole
 * message with item filled, or 0 when it is anything else, not wholly there, or wrong.
 */
static inline size_t scan_plain_msg(const struct esi_gateway_parser *parser, const char *data,
                                    size_t len, struct esi_gateway_item *item)
{
    const uint32_t keyword = 'R' | 'M' << 8 | 'S' << 16 | (uint32_t)'G' << 24;

    if (len < 16 || load_le32(data) != keyword || data[4] != ' ') {
        return 0;
    }
    const char *const last = data + len - 8;
    const struct esi_str account = scan_field(data + 5, last);
    if (account.len == 0) {
        return 0;
    }
    const struct esi_str subject = scan_field(account.data + account.len + 1, last);
    if (subject.len == 0) {
        return 0;
    }
    const char *field = subject.data + subject.len + 1;
    const char *stop = find_stop(field, last);
    struct esi_str reply = {.data = field - 1, .len = 0};
    if (stop != NULL && *stop == ' ') {
        reply = (struct esi_str){.data = field, .len = (size_t)(stop - field)};
        field = stop + 1;
        stop = reply.len > 0 ? find_stop(field, last) : NULL;
    }
    size_t total_len = 0;
    if (stop == NULL || !read_size(field, (size_t)(stop - field), &total_len) ||
        (size_t)(data + len - stop) < total_len + 4 || !is_line_end(stop) ||
        !is_line_end(stop + 2 + total_len) ||
        (size_t)(stop - data) - 5 > parser->max_control_line || total_len > parser->max_payload) {
        return 0;
    }
    item->is_hmsg = false;
    item->account = account;
    item->subject = subject;
    item->reply = reply;
    item->queues = (struct esi_str){.data = field - 1, .len = 0};
    item->queue_count = 0;
    item->header_len = 0;
    item->total_len = total_len;
    item->body = stop + 2;
    return (size_t)(stop - data) + 4 + total_len;
}

/* The same for a message of any form; it costs twice as much. */
static size_t scan_canonical_msg(const struct esi_gateway_parser *parser, const char *data,
                                 size_t len, struct esi_gateway_item *item)
{
    const uint32_t rmsg = 'R' | 'M' << 8 | 'S' << 16 | (uint32_t)'G' << 24;
    const uint32_t hmsg = 'H' | 'M' << 8 | 'S' << 16 | (uint32_t)'G' << 24;
    struct esi_str found[SCAN_FIELDS_MAX];
    struct msg_fields fields = {.count = 0};

    if (len < 16 || data[4] != ' ') {
        return 0;
    }
    const uint32_t keyword = load_le32(data);
    if (keyword != rmsg && keyword != hmsg) {
        return 0;
    }
    const char *const args = data + 5;
    const char *const stop = scan_fields(args, data + len, found, SCAN_FIELDS_MAX, &fields.count);
    if (stop == NULL || fields.count < 3 || (size_t)(stop - args) > parser->max_control_line) {
        return 0;
    }
    for (size_t i = 0; i < HEAD_FIELDS && i < fields.count; i++) {
        fields.head[i] = found[i];
    }
    for (size_t i = 0; i < TAIL_FIELDS; i++) {
        fields.tail[i] = found[fields.count - 1 - i];
    }
    if (interpret_msg(&fields, keyword == hmsg, item) != NULL ||
        item->total_len > parser->max_payload ||
        (size_t)(data + len - stop) < item->total_len + 4 ||
        !is_line_end(stop + 2 + item->total_len)) {
        return 0;
    }
    item->body = stop + 2;
    return (size_t)(stop - data) + 4 + item->total_len;
}

/* Splits a line of any number of fields; false when a field holds CR, LF or NUL. */
static bool split_msg(struct esi_str args, struct msg_fields *fields)
{
    const char *const end = args.data + args.len;
    struct esi_str field = {.data = args.data, .len = 0};
    size_t count = 0;

    fields->count = 0;
    for (const char *at = args.data; at < end;) {
        const struct esi_str rest = {.data = at, .len = (size_t)(end - at)};
        struct esi_str left = rest;
        if (!esi_gateway_parser_next_queue(&left, &field)) {
            break;
        }
        if (!esi_line_machine_split(field, &field, 1, &count)) {
            return false;
        }
        if (fields->count < HEAD_FIELDS) {
            fields->head[fields->count] = field;
        }
        memmove(fields->tail + 1, fields->tail, (TAIL_FIELDS - 1) * sizeof fields->tail[0]);
        fields->tail[0] = field;
        fields->count++;
        at = left.data;
    }
    return true;
}

static enum esi_gateway_op take_msg(struct esi_gateway_parser *parser, const struct esi_line *line,
                                    size_t available, size_t *used, struct esi_gateway_item *item)
{
    const bool is_hmsg = parser->line.verb == VERB_HMSG;
    const bool is_judged = parser->line.state == LINE_STATE_BODY;
    struct msg_fields fields = {.count = 0};

    if (!split_msg(line->args, &fields)) {
        return fail(parser, FAULT_SILENT, "control byte in a message line", item);
    }
    const char *reason = interpret_msg(&fields, is_hmsg, item);
    if (reason != NULL) {
        return fail(parser, FAULT_SILENT, reason, item);
    }
    if (!is_judged && item->total_len > parser->max_payload) {
        return fail(parser, FAULT_MAX_PAYLOAD, "payload over the bound for gateways", item);
    }
    const enum esi_line_result body =
        esi_line_machine_body(&parser->line, line, item->total_len, available);
    if (body == LINE_MORE) {
        item->needed = parser->line.needed;
        return GATEWAY_MORE;
    }
    if (body != LINE_WHOLE) {
        return fail(parser, FAULT_UNKNOWN_OPERATION, "payload not followed by CR LF", item);
    }
    item->body = line->start + line->line_len;
    *used += line->line_len + item->total_len + 2;
    return GATEWAY_MSG;
}

/* RS+ and RS-: the number of fields is strict, since a line with another number means something
 * else elsewhere. */
static enum esi_gateway_op take_interest(struct esi_gateway_parser *parser,
                                         const struct esi_line *line, struct esi_gateway_item *item)
{
    const bool is_sub = parser->line.verb == VERB_SUB;
    const size_t queue_count = is_sub ? 4 : 3;
    struct esi_str fields[4];
    size_t count = 0;
    uint64_t weight = 0;

    if (!esi_line_machine_split(line->args, fields, ESI_COUNT_OF(fields), &count) ||
        (count != 2 && count != queue_count)) {
        return fail(parser, FAULT_SILENT, "wrong fields in an interest line", item);
    }
    item->account = fields[0];
    item->subject = fields[1];
    item->queue =
        count > 2 ? fields[2] : (struct esi_str){.data = fields[1].data + fields[1].len, .len = 0};
    item->weight = 1;
    if (count == 4 && esi_num_parse(fields[3].data, fields[3].len, WEIGHT_DIGITS_MAX, &weight) &&
        weight > 0) {
        item->weight = (uint32_t)weight;
    }
    return is_sub ? GATEWAY_SUB : GATEWAY_UNSUB;
}

static enum esi_gateway_op take_account(struct esi_gateway_parser *parser,
                                        const struct esi_line *line, struct esi_gateway_item *item)
{
    const enum esi_gateway_op op =
        parser->line.verb == VERB_ACCOUNT_SUB ? GATEWAY_ACCOUNT_SUB : GATEWAY_ACCOUNT_UNSUB;
    size_t count = 0;

    if (!esi_line_machine_split(line->args, &item->account, 1, &count) || count != 1) {
        return fail(parser, FAULT_SILENT, "wrong fields in an account line", item);
    }
    return op;
}

/* A client's publish on a link: with a payload nats-server says so, else it just closes. */
static enum esi_gateway_op refuse_publish(struct esi_gateway_parser *parser,
                                          const struct esi_line *line,
                                          struct esi_gateway_item *item)
{
    struct msg_fields fields = {.count = 0};
    size_t size = 0;

    if (split_msg(line->args, &fields) && fields.count >= 2 &&
        read_size(fields.tail[0].data, fields.tail[0].len, &size) && size > 0) {
        return fail(parser, FAULT_MAX_PAYLOAD, "client publish on a gateway connection", item);
    }
    return fail(parser, FAULT_SILENT, "client operation on a gateway connection", item);
}

static enum esi_gateway_op take_text(const struct esi_line *line, enum esi_gateway_op op,
                                     struct esi_gateway_item *item)
{
    item->text = line->args;
    return op;
}

/* Everything but messages: the line is all there is. */
static enum esi_gateway_op take_line(struct esi_gateway_parser *parser, const struct esi_line *line,
                                     struct esi_gateway_item *item)
{
    switch ((enum verb)parser->line.verb) {
    case VERB_SUB:
    case VERB_UNSUB:
        return take_interest(parser, line, item);
    case VERB_ACCOUNT_SUB:
    case VERB_ACCOUNT_UNSUB:
        return take_account(parser, line, item);
    case VERB_PING:
        return GATEWAY_PING;
    case VERB_PONG:
        return GATEWAY_PONG;
    case VERB_INFO:
        return take_text(line, GATEWAY_INFO, item);
    case VERB_CONNECT:
        return take_text(line, GATEWAY_CONNECT, item);
    case VERB_OK:
        return GATEWAY_OK;
    case VERB_ERR:
        return take_text(line, GATEWAY_ERR, item);
    case VERB_CLIENT_PUB:
    case VERB_CLIENT_HPUB:
        return refuse_publish(parser, line, item);
    case VERB_CLIENT_SUB:
    case VERB_CLIENT_UNSUB:
        return fail(parser, FAULT_SILENT, "client operation on a gateway connection", item);
    case VERB_RMSG:
    case VERB_HMSG:
    case VERB_COUNT:
        break;
    }
    ESI_ASSERT(false);
    return GATEWAY_FAULT;
}

/* Who has not shown who it is may not fill a buffer that was made large for others. */
static size_t line_bytes_max(const struct esi_gateway_parser *parser)
{
    return parser->auth_pending && parser->max_control_line > ESI_GATEWAY_OPENING_LINE_MAX
               ? ESI_GATEWAY_OPENING_LINE_MAX
               : parser->max_control_line;
}

/* The general way: any legal form, cut at any byte. */
static enum esi_gateway_op parse_any(struct esi_gateway_parser *parser, struct esi_str data,
                                     size_t *consumed, struct esi_gateway_item *item)
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
    const enum esi_line_result result = esi_line_machine_next(
        &parser->line, verbs, VERB_COUNT, line_bytes_max(parser), data, &used, &line);
    /* Known by the keyword alone: nothing of such a line is worth waiting for. */
    if (parser->line.state != LINE_STATE_START &&
        is_from_wrong_side(parser->role, (enum verb)parser->line.verb)) {
        return fail(parser, FAULT_SILENT, "operation from the wrong side of a gateway connection",
                    item);
    }
    switch (result) {
    case LINE_UNKNOWN:
        return fail(parser, FAULT_UNKNOWN_OPERATION, "unknown operation", item);
    case LINE_TOO_LONG:
        return fail(parser, FAULT_CONTROL_LINE, "control line over the bound for gateways", item);
    case LINE_BROKEN:
        return fail(parser, FAULT_UNKNOWN_OPERATION, "payload not followed by CR LF", item);
    case LINE_MORE:
        *consumed = used;
        item->needed = parser->line.state == LINE_STATE_BODY ? parser->line.needed : 0;
        return GATEWAY_MORE;
    case LINE_WHOLE:
        break;
    }
    enum esi_gateway_op op;
    if (parser->line.verb == VERB_RMSG || parser->line.verb == VERB_HMSG) {
        op = take_msg(parser, &line, data.len - used, &used, item);
    } else {
        op = take_line(parser, &line, item);
        used += line.line_len;
    }
    if (op == GATEWAY_FAULT) {
        return op;
    }
    if (op != GATEWAY_MORE) {
        esi_line_machine_reset(&parser->line);
    }
    *consumed = used;
    return op;
}

enum esi_gateway_op esi_gateway_parser_next(struct esi_gateway_parser *parser, const char *data,
                                            size_t len, size_t *consumed,
                                            struct esi_gateway_item *item)
{
    if (ESI_LIKELY(parser->line.state == LINE_STATE_START && parser->role == GATEWAY_ACCEPTOR &&
                   !parser->auth_pending)) {
        size_t used = scan_plain_msg(parser, data, len, item);
        if (ESI_UNLIKELY(used == 0)) {
            used = scan_canonical_msg(parser, data, len, item);
        }
        if (ESI_LIKELY(used > 0)) {
            *consumed = used;
            return GATEWAY_MSG;
        }
    }
    return parse_any(parser, (struct esi_str){.data = data, .len = len}, consumed, item);
}

bool esi_gateway_parser_next_queue(struct esi_str *queues, struct esi_str *queue)
{
    const char *const end = queues->data + queues->len;
    const char *at = queues->data;

    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    const char *start = at;
    while (at < end && *at != ' ' && *at != '\t') {
        at++;
    }
    *queues = (struct esi_str){.data = at, .len = (size_t)(end - at)};
    if (at == start) {
        return false;
    }
    *queue = (struct esi_str){.data = start, .len = (size_t)(at - start)};
    return true;
}
