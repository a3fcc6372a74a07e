/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parsers, by message: PUB and HPUB of clients, RMSG of gateway links. Whole: a read block full
 * of messages. Cut: what has come ends somewhere in a message, again and again, as with reads that
 * are smaller than what is sent. The block stays in the processor's caches, as one that the kernel
 * has just copied into does.
 */
#include "micro.h"
#include "proto/client_parser.h"
#include "proto/gateway_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_BYTES = 128 * 1024,
    LINE_BYTES_MAX = 256,
    HEADER_BYTES = 22, /* of NATS/1.0 with one short field */
    CUT_BYTES_MAX = 400,
    CUTS_MAX = BLOCK_BYTES,
    PAYLOAD_BYTES_MAX = 1024 * 1024
};

enum kind { KIND_PUB, KIND_HPUB, KIND_RMSG };

struct input {
    char *block; /* owned */
    size_t len;
    uint32_t message_count;
    /* Where what has come ends, in rising order; the last one is len. */
    size_t *ends; /* owned */
    uint32_t end_count;
    enum kind kind;
};

/* One message behind what is there; false: there is no room for another. */
static bool put_message(struct input *input, size_t payload, uint64_t *random)
{
    static const char header[] = "NATS/1.0\r\nKey: val\r\n\r\n";
    char line[LINE_BYTES_MAX];
    const unsigned subject = (unsigned)(micro_random(random) % 10000);
    int line_len = 0;

    _Static_assert(sizeof header - 1 == HEADER_BYTES, "the length that HPUB tells");
    switch (input->kind) {
    case KIND_PUB:
        line_len = snprintf(line, sizeof line, "PUB orders.created.%u %zu\r\n", subject, payload);
        break;
    case KIND_HPUB:
        line_len = snprintf(line, sizeof line, "HPUB orders.created.%u %d %zu\r\n", subject,
                            HEADER_BYTES, HEADER_BYTES + payload);
        break;
    case KIND_RMSG:
        line_len =
            snprintf(line, sizeof line, "RMSG $G orders.created.%u %zu\r\n", subject, payload);
        break;
    }
    const size_t header_len = input->kind == KIND_HPUB ? HEADER_BYTES : 0;
    const size_t bytes = (size_t)line_len + header_len + payload + 2;
    if (input->len + bytes > BLOCK_BYTES) {
        return false;
    }
    char *at = input->block + input->len;
    memcpy(at, line, (size_t)line_len);
    memcpy(at + line_len, header, header_len);
    memset(at + (size_t)line_len + header_len, 'x', payload);
    memcpy(at + bytes - 2, "\r\n", 2);
    input->len += bytes;
    input->message_count++;
    return true;
}

static void init_input(struct input *input, enum kind kind, size_t payload, bool is_cut)
{
    uint64_t random = 42;

    *input = (struct input){.kind = kind, .block = micro_alloc(BLOCK_BYTES)};
    while (put_message(input, payload, &random)) {
    }
    input->ends = micro_alloc(CUTS_MAX * sizeof *input->ends);
    size_t end = 0;
    while (is_cut && end + CUT_BYTES_MAX < input->len) {
        end += 1 + micro_random(&random) % CUT_BYTES_MAX;
        input->ends[input->end_count++] = end;
    }
    input->ends[input->end_count++] = input->len;
}

static void deinit_input(struct input *input)
{
    free(input->block);
    free(input->ends);
}

static void run_client(void *argument, struct micro_pass *pass)
{
    const struct input *input = argument;
    struct esi_client_parser parser;
    struct esi_client_item item;
    size_t at = 0;

    esi_client_parser_init(&parser, PAYLOAD_BYTES_MAX, 4096);
    parser.headers_allowed = true;
    for (uint32_t i = 0; i < input->end_count; i++) {
        enum esi_client_op op;
        do {
            size_t consumed;
            op = esi_client_parser_next(&parser, input->block + at, input->ends[i] - at, &consumed,
                                        &item);
            at += consumed;
            if (op == CLIENT_PUB) {
                pass->operations++;
                pass->sum += item.subject.len + item.total_len;
            } else if (op != CLIENT_MORE) {
                micro_fail("the client parser found something else than messages");
            }
        } while (op == CLIENT_PUB);
    }
    if (pass->operations != input->message_count) {
        micro_fail("the client parser lost a message");
    }
}

static void run_gateway(void *argument, struct micro_pass *pass)
{
    const struct input *input = argument;
    struct esi_gateway_parser parser;
    struct esi_gateway_item item;
    size_t at = 0;

    esi_gateway_parser_init(&parser, GATEWAY_ACCEPTOR);
    parser.auth_pending = false;
    for (uint32_t i = 0; i < input->end_count; i++) {
        enum esi_gateway_op op;
        do {
            size_t consumed;
            op = esi_gateway_parser_next(&parser, input->block + at, input->ends[i] - at, &consumed,
                                         &item);
            at += consumed;
            if (op == GATEWAY_MSG) {
                pass->operations++;
                pass->sum += item.subject.len + item.total_len;
            } else if (op != GATEWAY_MORE) {
                micro_fail("the gateway parser found something else than messages");
            }
        } while (op == GATEWAY_MSG);
    }
    if (pass->operations != input->message_count) {
        micro_fail("the gateway parser lost a message");
    }
}

void micro_parser(struct micro *micro)
{
    static const char *const kinds[] = {
        [KIND_PUB] = "PUB", [KIND_HPUB] = "HPUB", [KIND_RMSG] = "RMSG"};
    static const size_t payloads[] = {16, 128};

    for (uint32_t i = 0; i < 12; i++) {
        const enum kind kind = (enum kind)(i / 4);
        const size_t payload = payloads[i / 2 % 2];
        const bool is_cut = i % 2 == 1;
        char name[64];
        struct input input;
        snprintf(name, sizeof name, "%s %zu B, %s", kinds[kind], payload,
                 is_cut ? "cut at random" : "whole");
        init_input(&input, kind, payload, is_cut);
        micro_measure(micro, "parser", name, kind == KIND_RMSG ? run_gateway : run_client, &input);
        deinit_input(&input);
    }
}
