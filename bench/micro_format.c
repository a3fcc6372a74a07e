/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Formatting of the heads of messages: MSG and HMSG for clients, RMSG for gateway links. Subjects,
 * sids and sizes differ from one head to the next, so that no branch is learnt by heart.
 */
#include "base/own.h"
#include "micro.h"
#include "proto/client_writer.h"
#include "proto/gateway_writer.h"

#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 4096, TEXT_BYTES = 32, HEAD_BYTES_MAX = 256, OUT_BYTES = 128 * 1024 };

struct head {
    char subject[TEXT_BYTES];
    char sid[TEXT_BYTES];
    struct esi_str subject_str;
    struct esi_str sid_str;
    size_t total_len;
};

struct desk {
    struct head heads[HEADS];
    char out[OUT_BYTES]; /* written from the start again when it is full, as blocks are */
    struct esi_str reply;
    size_t header_len;
};

static void init_desk(struct desk *desk)
{
    uint64_t random = 42;

    for (uint32_t i = 0; i < HEADS; i++) {
        struct head *head = &desk->heads[i];
        snprintf(head->subject, sizeof head->subject, "orders.created.%u",
                 (unsigned)(micro_random(&random) % 100000));
        snprintf(head->sid, sizeof head->sid, "%u", (unsigned)(micro_random(&random) % 10000));
        head->subject_str = esi_str_from(head->subject);
        head->sid_str = esi_str_from(head->sid);
        head->total_len = 64 + micro_random(&random) % 4096;
    }
}

static void run_client(void *argument, struct micro_pass *pass)
{
    struct desk *desk = argument;
    char *out = desk->out;

    for (uint32_t i = 0; i < HEADS; i++) {
        const struct head *head = &desk->heads[i];
        char *end = esi_client_writer_msg(out, head->subject_str, head->sid_str, desk->reply,
                                          desk->header_len, head->total_len);
        pass->sum += (uint64_t)(end - out) + (unsigned char)end[-3];
        out = end - desk->out > OUT_BYTES - HEAD_BYTES_MAX ? desk->out : end;
    }
    pass->operations = HEADS;
}

static void run_gateway(void *argument, struct micro_pass *pass)
{
    struct desk *desk = argument;
    char *out = desk->out;

    for (uint32_t i = 0; i < HEADS; i++) {
        const struct head *head = &desk->heads[i];
        const struct esi_gateway_msg msg = {.account = ESI_STR("$G"),
                                            .subject = head->subject_str,
                                            .reply = desk->reply,
                                            .header_len = desk->header_len,
                                            .total_len = head->total_len};
        char *end = esi_gateway_writer_msg(out, &msg);
        pass->sum += (uint64_t)(end - out) + (unsigned char)end[-3];
        out = end - desk->out > OUT_BYTES - HEAD_BYTES_MAX ? desk->out : end;
    }
    pass->operations = HEADS;
}

void micro_format(struct micro *micro)
{
    static struct desk desk;
    static const struct esi_str replies[] = {{"", 0}, {"_INBOX.abcdefghijklmnopqrstuv.17", 32}};

    init_desk(&desk);
    for (uint32_t i = 0; i < 4; i++) {
        const bool has_header = i / 2 == 1;
        char name[64];
        desk.reply = replies[i % 2];
        desk.header_len = has_header ? 40 : 0;
        snprintf(name, sizeof name, "%s%s", has_header ? "HMSG" : "MSG",
                 i % 2 == 1 ? " with reply" : "");
        micro_measure(micro, "format", name, run_client, &desk);
        snprintf(name, sizeof name, "%s of a link%s", has_header ? "HMSG" : "RMSG",
                 i % 2 == 1 ? " with reply" : "");
        micro_measure(micro, "format", name, run_gateway, &desk);
    }
}
