/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes of a server into the gRPC client, after a proper SETTINGS frame and with calls in
 * flight. The first byte chooses how they are cut, the second what the owner does meanwhile. Each
 * call must have exactly one result.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/grpc_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CALLS_AGAIN = 1, IS_DEAF = 4, TIME_PASSES = 8, SHUTS_DOWN = 16, IS_LONG = 32 };
enum { CALLS_MAX = 64 };

static const char SETTINGS[] = "\0\0\0\4\0\0\0\0\0";

struct calls {
    unsigned results[CALLS_MAX];
    size_t count;
};

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static void call(struct esi_grpc_client *client, struct calls *calls, unsigned manner,
                 uint64_t now_ns)
{
    static char message[80000];
    const struct esi_grpc_call spec = {
        .path = ESI_STR("/a.B/C"),
        .authority = ESI_STR("a"),
        .message = {.data = message, .len = (manner & IS_LONG) != 0 ? sizeof message : 3},
        .timeout_ns = calls->count % 2 == 0 ? 5000000000 : 0,
        .tag = &calls->results[calls->count]};
    uint32_t id;

    if (calls->count < CALLS_MAX && esi_grpc_client_call(client, &spec, now_ns, &id) == ES_OK) {
        calls->count++;
    }
}

static void poll_results(struct esi_grpc_client *client)
{
    struct esi_grpc_result result;

    while (esi_grpc_client_next(client, &result)) {
        (*(unsigned *)result.tag)++;
        check(result.status_text.len <= GRPC_STATUS_TEXT_MAX);
        for (size_t i = 0; i < result.status_text.len; i++) {
            check(result.status_text.data[i] >= 0x20 && result.status_text.data[i] <= 0x7e);
        }
        check(result.message.len <= 1000000);
        check(result.status == GRPC_OK || result.message.len == 0);
    }
}

static void run(struct esi_grpc_client *client, const uint8_t *data, size_t size, unsigned manner,
                size_t step)
{
    struct calls calls = {.count = 0};
    struct esi_bytes out;
    uint64_t now_ns = 1;

    esi_bytes_init(&out, 0);
    for (int i = 0; i < 4; i++) {
        call(client, &calls, manner, now_ns);
    }
    if ((manner & IS_DEAF) == 0) {
        esi_grpc_client_take_output(client, &out, SIZE_MAX);
    }
    (void)!esi_grpc_client_feed(client, SETTINGS, sizeof SETTINGS - 1, now_ns);
    while (size > 0) {
        const size_t count = size < step ? size : step;
        const enum es_err error = esi_grpc_client_feed(client, data, count, now_ns);
        data += count;
        size -= count;
        poll_results(client);
        if ((manner & CALLS_AGAIN) != 0) {
            call(client, &calls, manner, now_ns);
        }
        if ((manner & IS_DEAF) == 0) {
            esi_bytes_clear(&out);
            esi_grpc_client_take_output(client, &out, SIZE_MAX);
        }
        if ((manner & TIME_PASSES) != 0) {
            now_ns += 1000000000;
            esi_grpc_client_tick(client, now_ns);
        }
        if ((manner & SHUTS_DOWN) != 0 && size % 7 == 0) {
            esi_grpc_client_shutdown(client);
        }
        if (error != ES_OK) {
            break;
        }
    }
    esi_grpc_client_lost(client);
    poll_results(client);
    check(esi_grpc_client_in_flight(client) == 0);
    for (size_t i = 0; i < calls.count; i++) {
        check(calls.results[i] == 1);
    }
    esi_bytes_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_grpc_client_options options = {.in_flight_max = 32,
                                                    .response_bytes_max = 1000000};
    struct esi_grpc_client *client;

    if (size < 2 || esi_grpc_client_new(&options, &client) != ES_OK) {
        return 0;
    }
    run(client, data + 2, size - 2, data[1], data[0] == 0 ? SIZE_MAX : (size_t)data[0] * 4);
    esi_grpc_client_free(client);
    return 0;
}
