/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes of a client into the gRPC server, after a proper preface. The first byte chooses how
 * they are cut, the second what the owner does: answers at once, later, not at all; takes output or
 * not; lets time pass.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/grpc_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ANSWER = 1, ANSWER_LATE = 2, IS_DEAF = 4, TIME_PASSES = 8, SHUTS_DOWN = 16, IS_LONG = 32 };
enum { KNOWN_MAX = 64 };

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

struct known {
    uint32_t ids[KNOWN_MAX]; /* polled and not answered; 0 = free */
};

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static void respond(struct esi_grpc_server *server, uint32_t id, unsigned manner)
{
    static char message[70000];
    const size_t len = (manner & IS_LONG) != 0 ? sizeof message : 3;

    (void)!esi_grpc_server_respond(server, id, id % 3 == 0 ? GRPC_INTERNAL : GRPC_OK, "why not",
                                   message, len);
    check(esi_grpc_server_respond(server, id, GRPC_OK, NULL, "", 0) == ES_NOT_FOUND);
}

static void poll_events(struct esi_grpc_server *server, struct known *known, unsigned manner)
{
    struct esi_grpc_event event;

    while (esi_grpc_server_next(server, &event)) {
        size_t at = 0;
        if (event.kind == GRPC_EVENT_CANCELLED) {
            while (at < KNOWN_MAX && known->ids[at] != event.call_id) {
                at++;
            }
            check(at < KNOWN_MAX);
            known->ids[at] = 0;
            continue;
        }
        check(event.path.len > 0 && event.path.data[0] == '/' && event.path.len <= GRPC_PATH_MAX);
        check(event.message.len <= 1000000);
        if ((manner & ANSWER) != 0) {
            respond(server, event.call_id, manner);
            continue;
        }
        while (at < KNOWN_MAX && known->ids[at] != 0) {
            at++;
        }
        check(at < KNOWN_MAX); /* streams_max bounds what is open */
        known->ids[at] = event.call_id;
    }
}

static void answer_late(struct esi_grpc_server *server, struct known *known, unsigned manner)
{
    for (size_t i = 0; i < KNOWN_MAX; i++) {
        if (known->ids[i] != 0) {
            respond(server, known->ids[i], manner);
            known->ids[i] = 0;
        }
    }
}

static void run(struct esi_grpc_server *server, const uint8_t *data, size_t size, unsigned manner,
                size_t step)
{
    struct known known = {.ids = {0}};
    struct esi_bytes out;
    uint64_t now_ns = 0;

    esi_bytes_init(&out, 0);
    (void)!esi_grpc_server_feed(server, PREFACE, sizeof PREFACE - 1, now_ns);
    while (size > 0) {
        const size_t count = size < step ? size : step;
        const enum es_err error = esi_grpc_server_feed(server, data, count, now_ns);
        data += count;
        size -= count;
        poll_events(server, &known, manner);
        check(esi_grpc_server_in_flight(server) <= KNOWN_MAX);
        if ((manner & ANSWER_LATE) != 0 && size % 3 == 0) {
            answer_late(server, &known, manner);
        }
        if ((manner & IS_DEAF) == 0) {
            esi_bytes_clear(&out);
            esi_grpc_server_take_output(server, &out, SIZE_MAX);
        }
        if ((manner & TIME_PASSES) != 0) {
            now_ns += 1000000000;
            if (esi_grpc_server_deadline(server) <= now_ns) {
                esi_grpc_server_tick(server, now_ns);
            }
        }
        if ((manner & SHUTS_DOWN) != 0 && size % 7 == 0) {
            esi_grpc_server_shutdown(server);
        }
        if (error != ES_OK) {
            break;
        }
    }
    esi_bytes_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_grpc_server_options options = {
        .streams_max = KNOWN_MAX / 2, .request_bytes_max = 1000000, .inbound_bytes_max = 1500000};
    struct esi_grpc_server *server;

    if (size < 2 || esi_grpc_server_new(&options, 0, &server) != ES_OK) {
        return 0;
    }
    run(server, data + 2, size - 2, data[1], data[0] == 0 ? SIZE_MAX : (size_t)data[0] * 4);
    esi_grpc_server_free(server);
    return 0;
}
