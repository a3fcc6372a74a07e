/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: our gRPC client and our gRPC server understand each other, however the bytes are cut and in
 * whatever order calls are answered, cancelled or lost; and the text forms follow the
 * specification. Method: both joined in memory.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/own.h"
#include "net/grpc.h"
#include "net/grpc_client.h"
#include "net/grpc_internal.h"
#include "net/grpc_server.h"

static const uint64_t SECOND_NS = 1000ULL * 1000 * 1000;

/* ---- the n-th allocation fails ---- */

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t len);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t len);

static unsigned long allocations_left = ULONG_MAX; /* ULONG_MAX: none fails */

static bool fails_now(void)
{
    if (allocations_left == ULONG_MAX) {
        return false;
    }
    if (allocations_left == 0) {
        allocations_left = ULONG_MAX;
        return true;
    }
    allocations_left--;
    return false;
}

void *__wrap_malloc(size_t len)
{
    return fails_now() ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t len)
{
    return fails_now() ? NULL : __real_realloc(old, len);
}

struct pair {
    struct esi_grpc_client *client;
    struct esi_grpc_server *server;
    uint64_t now_ns;
};

static void open_pair(struct pair *pair, const struct esi_grpc_client_options *client_options,
                      const struct esi_grpc_server_options *server_options)
{
    *pair = (struct pair){.now_ns = SECOND_NS};
    assert_int_equal(esi_grpc_client_new(client_options, &pair->client), ES_OK);
    assert_int_equal(esi_grpc_server_new(server_options, pair->now_ns, &pair->server), ES_OK);
}

static void close_pair(struct pair *pair)
{
    esi_grpc_client_free(pair->client);
    esi_grpc_server_free(pair->server);
}

/* Carries output across, at most `step` bytes at a time, until both are silent. */
static void pump(struct pair *pair, size_t step)
{
    struct esi_bytes bytes;
    bool is_silent = false;
    const unsigned long left = allocations_left;

    allocations_left = ULONG_MAX; /* the test's own memory */
    esi_bytes_init(&bytes, 0);
    assert_non_null(esi_bytes_reserve(&bytes, 1 << 20));
    allocations_left = left;
    while (!is_silent) {
        is_silent = true;
        esi_bytes_clear(&bytes);
        if (esi_grpc_client_take_output(pair->client, &bytes, step) > 0) {
            is_silent = false;
            (void)!esi_grpc_server_feed(pair->server, bytes.data, bytes.len, pair->now_ns);
        }
        esi_bytes_clear(&bytes);
        if (esi_grpc_server_take_output(pair->server, &bytes, step) > 0) {
            is_silent = false;
            (void)!esi_grpc_client_feed(pair->client, bytes.data, bytes.len, pair->now_ns);
        }
    }
    esi_bytes_deinit(&bytes);
}

static uint32_t call(struct pair *pair, const char *path, struct esi_str message,
                     uint64_t timeout_ns, void *tag)
{
    const struct esi_grpc_metadata metadata[] = {
        {.name = ESI_STR("api-token"), .value = ESI_STR("s3cret"), .is_secret = true},
        {.name = ESI_STR("x-empty"), .value = ESI_STR("")},
    };
    const struct esi_grpc_call spec = {.path = esi_str_from(path),
                                       .authority = ESI_STR("worker:1"),
                                       .message = message,
                                       .metadata = metadata,
                                       .metadata_count = ESI_COUNT_OF(metadata),
                                       .timeout_ns = timeout_ns,
                                       .tag = tag};
    uint32_t id = 0;

    assert_int_equal(esi_grpc_client_call(pair->client, &spec, pair->now_ns, &id), ES_OK);
    assert_int_not_equal(id, 0);
    return id;
}

/* Answers all that is there with what it brought. */
static unsigned echo(struct pair *pair)
{
    struct esi_grpc_event event;
    unsigned count = 0;

    while (esi_grpc_server_next(pair->server, &event)) {
        if (event.kind == GRPC_EVENT_REQUEST) {
            assert_int_equal(esi_grpc_server_respond(pair->server, event.call_id, GRPC_OK, NULL,
                                                     event.message.data, event.message.len),
                             ES_OK);
            count++;
        }
    }
    return count;
}

static struct esi_grpc_result expect_result(struct pair *pair, uint32_t id,
                                            enum esi_grpc_status status)
{
    struct esi_grpc_result result;

    assert_true(esi_grpc_client_next(pair->client, &result));
    assert_int_equal(result.call_id, id);
    if (result.status != status) {
        fail_msg("expected %s, got %s: %.*s", esi_grpc_status_name(status),
                 esi_grpc_status_name(result.status), ESI_STR_ARG(result.status_text));
    }
    return result;
}

/* ---- text forms ---- */

static void timeouts_are_written_and_read(void **state)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } CASES[] = {{1, "1n"},
                 {99999999, "99999999n"},
                 {100000000, "100000u"},
                 {60 * 1000000000ULL, "60000000u"},
                 {100 * 1000000000ULL, "100000m"},
                 {0, "1n"},
                 {86400ULL * 1000000000 * 30, "2592000S"}};
    char text[16];
    uint64_t ns = 0;
    (void)state;

    for (size_t i = 0; i < ESI_COUNT_OF(CASES); i++) {
        esi_grpc_format_timeout(CASES[i].ns, text);
        assert_string_equal(text, CASES[i].text);
    }
    esi_grpc_format_timeout(UINT64_MAX, text);
    assert_true(strlen(text) <= 9);
    assert_true(esi_grpc_parse_timeout(ESI_STR("1n"), &ns) && ns == 1);
    assert_true(esi_grpc_parse_timeout(ESI_STR("2S"), &ns) && ns == 2 * SECOND_NS);
    assert_true(esi_grpc_parse_timeout(ESI_STR("0m"), &ns) && ns == 0);
    assert_true(esi_grpc_parse_timeout(ESI_STR("99999999H"), &ns) && ns == UINT64_MAX);
    static const char *const BAD[] = {"", "S", "1", "1x", "123456789S", "-1S", " 1S", "1 S", "1SS"};
    for (size_t i = 0; i < ESI_COUNT_OF(BAD); i++) {
        assert_false(esi_grpc_parse_timeout(esi_str_from(BAD[i]), &ns));
    }
}

static void status_texts_are_encoded_and_sanitised(void **state)
{
    char encoded[3 * GRPC_STATUS_TEXT_MAX + 1];
    char decoded[GRPC_STATUS_TEXT_MAX];
    char long_text[1000];
    (void)state;

    esi_grpc_encode_text(ESI_STR("n\xc3\xa4h: 100% \n"), encoded);
    assert_string_equal(encoded, "n%C3%A4h: 100%25 %0A");
    esi_grpc_encode_text(ESI_STR(" a "), encoded);
    assert_string_equal(encoded, "%20a%20");
    size_t len = esi_grpc_decode_text(ESI_STR("n%C3%a4h: 100%25 %0A%zz%"), decoded);
    assert_int_equal(len, 16);
    assert_memory_equal(decoded, "n??h: 100% ?%zz%", 16);
    memset(long_text, 0xe4, sizeof long_text);
    const struct esi_str all = {.data = long_text, .len = sizeof long_text};
    esi_grpc_encode_text(all, encoded);
    assert_int_equal(strlen(encoded), 3 * GRPC_STATUS_TEXT_MAX);
    assert_int_equal(esi_grpc_decode_text(all, decoded), GRPC_STATUS_TEXT_MAX);
    /* A character of two bytes on the edge is left out, not cut. */
    memset(long_text, 'a', sizeof long_text);
    memcpy(long_text + GRPC_STATUS_TEXT_MAX - 1, "\xc3\xa4", 2);
    esi_grpc_encode_text(all, encoded);
    assert_int_equal(strlen(encoded), GRPC_STATUS_TEXT_MAX - 1);
    assert_int_equal(esi_grpc_parse_status(ESI_STR("0")), GRPC_OK);
    assert_int_equal(esi_grpc_parse_status(ESI_STR("16")), GRPC_UNAUTHENTICATED);
    assert_int_equal(esi_grpc_parse_status(ESI_STR("17")), GRPC_UNKNOWN);
    assert_int_equal(esi_grpc_parse_status(ESI_STR("")), GRPC_UNKNOWN);
    assert_int_equal(esi_grpc_parse_status(ESI_STR("0x")), GRPC_UNKNOWN);
    assert_true(esi_grpc_is_content_type(ESI_STR("application/grpc")));
    assert_true(esi_grpc_is_content_type(ESI_STR("application/grpc+proto")));
    assert_true(esi_grpc_is_content_type(ESI_STR("application/grpc;x")));
    assert_false(esi_grpc_is_content_type(ESI_STR("application/grpcx")));
    assert_false(esi_grpc_is_content_type(ESI_STR("text/html")));
    assert_string_equal(esi_grpc_status_name(GRPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(esi_grpc_status_name((enum esi_grpc_status)77), "UNKNOWN");
}

static void old_numbers_of_calls_find_nothing(void **state)
{
    struct esi_grpc_slots slots;
    uint32_t id;
    uint32_t other;
    int a;
    int b;
    (void)state;

    assert_int_equal(esi_grpc_slots_init(&slots, 2), ES_OK);
    assert_int_equal(esi_grpc_slots_add(&slots, &a, &id), ES_OK);
    assert_int_equal(esi_grpc_slots_add(&slots, &b, &other), ES_OK);
    uint32_t third;
    assert_int_equal(esi_grpc_slots_add(&slots, &b, &third), ES_FULL);
    assert_ptr_equal(esi_grpc_slots_find(&slots, id), &a);
    esi_grpc_slots_remove(&slots, id);
    assert_null(esi_grpc_slots_find(&slots, id));
    for (int i = 0; i < 70000; i++) {
        assert_int_equal(esi_grpc_slots_add(&slots, &a, &third), ES_OK);
        assert_int_not_equal(third, 0);
        assert_true(third != id || i == 65534);
        esi_grpc_slots_remove(&slots, third);
    }
    assert_ptr_equal(esi_grpc_slots_find(&slots, other), &b);
    assert_null(esi_grpc_slots_find(&slots, 0));
    assert_null(esi_grpc_slots_find(&slots, UINT32_MAX));
    esi_grpc_slots_deinit(&slots);
}

/* ---- both sides ---- */

static void a_call_is_answered(void **state)
{
    struct pair pair;
    struct esi_grpc_event event;
    int tag;
    (void)state;

    open_pair(&pair, NULL, NULL);
    const uint32_t id = call(&pair, "/a.B/C", ESI_STR("question"), 5 * SECOND_NS, &tag);
    assert_int_equal(esi_grpc_client_in_flight(pair.client), 1);
    assert_int_equal(esi_grpc_client_deadline(pair.client), 6 * SECOND_NS);
    pump(&pair, 1 << 20);
    assert_int_equal(esi_grpc_server_in_flight(pair.server), 1);
    assert_true(esi_grpc_server_next(pair.server, &event));
    assert_int_equal(event.kind, GRPC_EVENT_REQUEST);
    assert_true(esi_str_equal(event.path, ESI_STR("/a.B/C")));
    assert_true(esi_str_equal(event.message, ESI_STR("question")));
    assert_int_equal(event.deadline_ns, 6 * SECOND_NS);
    const uint32_t event_id = event.call_id;
    assert_false(esi_grpc_server_next(pair.server, &event));
    assert_int_equal(esi_grpc_server_respond(pair.server, event_id, GRPC_OK, NULL, "answer", 6),
                     ES_OK);
    assert_int_equal(esi_grpc_server_respond(pair.server, event_id, GRPC_OK, NULL, "answer", 6),
                     ES_NOT_FOUND);
    pump(&pair, 1 << 20);
    const struct esi_grpc_result result = expect_result(&pair, id, GRPC_OK);
    assert_ptr_equal(result.tag, &tag);
    assert_true(result.is_from_peer);
    assert_true(esi_str_equal(result.message, ESI_STR("answer")));
    assert_int_equal(esi_grpc_client_in_flight(pair.client), 0);
    assert_int_equal(esi_grpc_server_in_flight(pair.server), 0);
    assert_int_equal(esi_grpc_client_deadline(pair.client), UINT64_MAX);
    assert_int_equal(esi_grpc_server_deadline(pair.server), UINT64_MAX);
    close_pair(&pair);
}

/* The bytes of a whole conversation, recorded, then given to a fresh server cut at every place. */
static void every_split_of_bytes_is_understood(void **state)
{
    struct pair pair;
    struct esi_bytes to_server;
    (void)state;

    esi_bytes_init(&to_server, 0);
    open_pair(&pair, NULL, NULL);
    call(&pair, "/a/1", ESI_STR("one"), SECOND_NS, NULL);
    call(&pair, "/a/2", ESI_STR(""), 0, NULL);
    call(&pair, "/a/3", ESI_STR("three"), 0, NULL);
    esi_grpc_client_take_output(pair.client, &to_server, SIZE_MAX);
    close_pair(&pair);
    for (size_t cut = 0; cut <= to_server.len; cut++) {
        struct esi_grpc_server *server;
        struct esi_grpc_event event;
        struct esi_bytes out;
        unsigned count = 0;
        esi_bytes_init(&out, 0);
        assert_int_equal(esi_grpc_server_new(NULL, 0, &server), ES_OK);
        assert_int_equal(esi_grpc_server_feed(server, to_server.data, cut, 0), ES_OK);
        while (esi_grpc_server_next(server, &event)) {
            count++;
        }
        assert_int_equal(esi_grpc_server_feed(server, to_server.data + cut, to_server.len - cut, 0),
                         ES_OK);
        while (esi_grpc_server_next(server, &event)) {
            count++;
        }
        assert_int_equal(count, 3);
        esi_grpc_server_take_output(server, &out, SIZE_MAX);
        esi_bytes_deinit(&out);
        esi_grpc_server_free(server);
    }
    esi_bytes_deinit(&to_server);
    /* And both directions in single bytes. */
    open_pair(&pair, NULL, NULL);
    const uint32_t id = call(&pair, "/a/1", ESI_STR("one"), SECOND_NS, NULL);
    pump(&pair, 1);
    assert_int_equal(echo(&pair), 1);
    pump(&pair, 1);
    assert_true(esi_str_equal(expect_result(&pair, id, GRPC_OK).message, ESI_STR("one")));
    close_pair(&pair);
}

static void errors_carry_their_text(void **state)
{
    struct pair pair;
    struct esi_grpc_event event;
    (void)state;

    open_pair(&pair, NULL, NULL);
    for (int status = GRPC_CANCELLED; status <= GRPC_UNAUTHENTICATED; status++) {
        const uint32_t id = call(&pair, "/a/b", ESI_STR("x"), 0, NULL);
        pump(&pair, 1 << 20);
        assert_true(esi_grpc_server_next(pair.server, &event));
        assert_int_equal(esi_grpc_server_respond(pair.server, event.call_id,
                                                 (enum esi_grpc_status)status,
                                                 " full: 100%\r\nX: y ", "not sent", 8),
                         ES_OK);
        pump(&pair, 1 << 20);
        const struct esi_grpc_result result =
            expect_result(&pair, id, (enum esi_grpc_status)status);
        assert_true(result.is_from_peer);
        assert_false(result.is_unstarted);
        assert_true(esi_str_equal(result.status_text, ESI_STR(" full: 100%??X: y ")));
        assert_int_equal(result.message.len, 0);
    }
    close_pair(&pair);
}

/* A thousand calls in windows, answered in reverse order; the server's limit of streams is
 * respected. */
static void many_calls_in_any_order(void **state)
{
    enum { CALLS = 1000, WINDOW = 100 };
    const struct esi_grpc_server_options options = {.streams_max = WINDOW};
    static char seen[CALLS];
    struct pair pair;
    struct esi_grpc_event event;
    struct esi_grpc_result result;
    uint32_t started = 0;
    uint32_t finished = 0;
    (void)state;

    memset(seen, 0, sizeof seen);
    open_pair(&pair, NULL, &options);
    pump(&pair, 1 << 20);
    assert_int_equal(esi_grpc_client_capacity(pair.client), WINDOW);
    while (finished < CALLS) {
        while (started < CALLS && esi_grpc_client_capacity(pair.client) > 0) {
            call(&pair, "/a/b", (struct esi_str){.data = (char *)&started, .len = sizeof started},
                 0, &seen[started]);
            started++;
        }
        assert_in_range(esi_grpc_client_in_flight(pair.client), 1, WINDOW);
        pump(&pair, 4000);
        uint32_t ids[WINDOW];
        uint32_t values[WINDOW];
        size_t count = 0;
        while (esi_grpc_server_next(pair.server, &event)) {
            assert_int_equal(event.kind, GRPC_EVENT_REQUEST);
            memcpy(&values[count], event.message.data, sizeof values[count]);
            ids[count++] = event.call_id;
        }
        assert_true(count > 0);
        while (count > 0) {
            count--;
            assert_int_equal(esi_grpc_server_respond(pair.server, ids[count], GRPC_OK, NULL,
                                                     &values[count], sizeof values[count]),
                             ES_OK);
        }
        pump(&pair, 4000);
        while (esi_grpc_client_next(pair.client, &result)) {
            uint32_t value;
            assert_int_equal(result.status, GRPC_OK);
            memcpy(&value, result.message.data, sizeof value);
            assert_ptr_equal(result.tag, &seen[value]);
            seen[value]++;
            finished++;
        }
    }
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(seen[i], 1);
    }
    assert_int_equal(esi_grpc_server_in_flight(pair.server), 0);
    close_pair(&pair);
}

/* Many long messages at once through a budget that holds only two of them, both ways: none blocks
 * another. */
static void long_messages_share_a_budget(void **state)
{
    enum { MIB = 1 << 20, CALLS = 16 };
    const struct esi_grpc_client_options client_options = {
        .response_bytes_max = MIB, .inbound_bytes_max = 2 * MIB, .outbound_bytes_max = 64 * MIB};
    const struct esi_grpc_server_options server_options = {
        .request_bytes_max = MIB, .inbound_bytes_max = 2 * MIB, .outbound_bytes_max = 64 * MIB};
    struct pair pair;
    struct esi_grpc_result result;
    char *message = malloc(MIB);
    unsigned answered = 0;
    unsigned finished = 0;
    (void)state;

    assert_non_null(message);
    for (size_t i = 0; i < MIB; i++) {
        message[i] = (char)(i * 31 + i / 251);
    }
    open_pair(&pair, &client_options, &server_options);
    for (int i = 0; i < CALLS; i++) {
        call(&pair, "/a/b", (struct esi_str){.data = message, .len = MIB}, 0, NULL);
    }
    for (int turn = 0; turn < 100 && finished < CALLS; turn++) {
        pump(&pair, 1 << 20);
        answered += echo(&pair);
        while (esi_grpc_client_next(pair.client, &result)) {
            assert_int_equal(result.status, GRPC_OK);
            assert_int_equal(result.message.len, MIB);
            assert_memory_equal(result.message.data, message, MIB);
            finished++;
        }
    }
    assert_int_equal(answered, CALLS);
    assert_int_equal(finished, CALLS);
    close_pair(&pair);
    free(message);
}

static void too_long_messages_are_refused(void **state)
{
    const struct esi_grpc_client_options client_options = {.response_bytes_max = 100};
    const struct esi_grpc_server_options server_options = {.request_bytes_max = 1000};
    struct pair pair;
    struct esi_grpc_event event;
    static char message[300000];
    (void)state;

    open_pair(&pair, &client_options, &server_options);
    static const size_t LENGTHS[] = {1001, sizeof message};
    for (size_t i = 0; i < ESI_COUNT_OF(LENGTHS); i++) {
        const uint32_t id =
            call(&pair, "/a/b", (struct esi_str){.data = message, .len = LENGTHS[i]}, 0, NULL);
        pump(&pair, 1 << 20);
        assert_false(esi_grpc_server_next(pair.server, &event));
        assert_true(expect_result(&pair, id, GRPC_RESOURCE_EXHAUSTED).is_from_peer);
    }
    const uint32_t id =
        call(&pair, "/a/b", (struct esi_str){.data = message, .len = 1000}, 0, NULL);
    pump(&pair, 1 << 20);
    assert_int_equal(echo(&pair), 1);
    pump(&pair, 1 << 20);
    assert_false(expect_result(&pair, id, GRPC_RESOURCE_EXHAUSTED).is_from_peer);
    assert_int_equal(esi_grpc_server_in_flight(pair.server), 0);
    close_pair(&pair);
}

static void calls_given_up_are_told_once(void **state)
{
    struct pair pair;
    struct esi_grpc_event event;
    struct esi_grpc_result result;
    (void)state;

    open_pair(&pair, NULL, NULL);
    const uint32_t polled = call(&pair, "/a/polled", ESI_STR("x"), SECOND_NS, NULL);
    pump(&pair, 1 << 20);
    assert_true(esi_grpc_server_next(pair.server, &event));
    const uint32_t server_id = event.call_id;
    const uint32_t ready = call(&pair, "/a/ready", ESI_STR("x"), SECOND_NS, NULL);
    pump(&pair, 1 << 20);
    const uint32_t unsent = call(&pair, "/a/unsent", ESI_STR("x"), SECOND_NS, NULL);
    esi_grpc_client_tick(pair.client, 3 * SECOND_NS);
    pump(&pair, 1 << 20);
    assert_false(expect_result(&pair, polled, GRPC_DEADLINE_EXCEEDED).is_unstarted);
    assert_false(expect_result(&pair, ready, GRPC_DEADLINE_EXCEEDED).is_unstarted);
    assert_true(expect_result(&pair, unsent, GRPC_DEADLINE_EXCEEDED).is_unstarted);
    assert_false(esi_grpc_client_next(pair.client, &result));
    assert_true(esi_grpc_server_next(pair.server, &event));
    assert_int_equal(event.kind, GRPC_EVENT_CANCELLED);
    assert_int_equal(event.call_id, server_id);
    assert_false(esi_grpc_server_next(pair.server, &event));
    assert_int_equal(esi_grpc_server_respond(pair.server, server_id, GRPC_OK, NULL, "", 0),
                     ES_NOT_FOUND);
    assert_int_equal(esi_grpc_server_in_flight(pair.server), 0);
    close_pair(&pair);
}

static void deadlines_end_calls_in_their_order(void **state)
{
    static const uint64_t SECONDS[] = {30, 10, 20, 0, 10};
    uint32_t ids[ESI_COUNT_OF(SECONDS)];
    struct pair pair;
    struct esi_grpc_event event;
    (void)state;

    open_pair(&pair, NULL, NULL);
    for (size_t i = 0; i < ESI_COUNT_OF(SECONDS); i++) {
        ids[i] = call(&pair, "/a/b", ESI_STR("x"), SECONDS[i] * SECOND_NS, NULL);
    }
    pump(&pair, 1 << 20);
    while (esi_grpc_server_next(pair.server, &event)) {
        assert_int_equal(event.kind, GRPC_EVENT_REQUEST);
    }
    esi_grpc_client_tick(pair.client, 11 * SECOND_NS - 1);
    assert_int_equal(esi_grpc_client_in_flight(pair.client), 5);
    assert_int_equal(esi_grpc_client_deadline(pair.client), 11 * SECOND_NS);
    esi_grpc_client_tick(pair.client, 11 * SECOND_NS);
    assert_int_equal(esi_grpc_client_deadline(pair.client), 21 * SECOND_NS);
    esi_grpc_client_tick(pair.client, 100 * SECOND_NS);
    assert_int_equal(esi_grpc_client_in_flight(pair.client), 1);
    expect_result(&pair, ids[1], GRPC_DEADLINE_EXCEEDED);
    expect_result(&pair, ids[4], GRPC_DEADLINE_EXCEEDED);
    expect_result(&pair, ids[2], GRPC_DEADLINE_EXCEEDED);
    expect_result(&pair, ids[0], GRPC_DEADLINE_EXCEEDED);
    pump(&pair, 1 << 20);
    unsigned cancelled = 0;
    while (esi_grpc_server_next(pair.server, &event)) {
        assert_int_equal(event.kind, GRPC_EVENT_CANCELLED);
        cancelled++;
    }
    assert_int_equal(cancelled, 4);
    close_pair(&pair);
}

static void a_lost_connection_ends_all_calls(void **state)
{
    struct pair pair;
    struct esi_grpc_event event;
    struct esi_grpc_result result;
    struct esi_bytes bytes;
    uint8_t garbage[64];
    (void)state;

    memset(garbage, 0xff, sizeof garbage);
    open_pair(&pair, NULL, NULL);
    const uint32_t sent = call(&pair, "/a/b", ESI_STR("x"), SECOND_NS, NULL);
    pump(&pair, 1 << 20);
    assert_true(esi_grpc_server_next(pair.server, &event));
    const uint32_t unsent = call(&pair, "/a/b", ESI_STR("x"), 0, NULL);
    esi_grpc_client_lost(pair.client);
    /* A server whose peer breaks the rules; one whose transport is gone is freed. */
    assert_int_not_equal(esi_grpc_server_feed(pair.server, garbage, sizeof garbage, 0), ES_OK);
    assert_false(expect_result(&pair, sent, GRPC_UNAVAILABLE).is_unstarted);
    assert_true(expect_result(&pair, unsent, GRPC_UNAVAILABLE).is_unstarted);
    assert_false(esi_grpc_client_next(pair.client, &result));
    assert_true(esi_grpc_client_is_done(pair.client));
    assert_int_equal(esi_grpc_client_capacity(pair.client), 0);
    assert_true(esi_grpc_server_next(pair.server, &event));
    assert_int_equal(event.kind, GRPC_EVENT_CANCELLED);
    assert_false(esi_grpc_server_next(pair.server, &event));
    esi_bytes_init(&bytes, 0);
    assert_int_equal(esi_grpc_client_take_output(pair.client, &bytes, 100), 0);
    assert_true(esi_grpc_server_take_output(pair.server, &bytes, 1 << 20) > 0); /* the GOAWAY */
    assert_true(esi_grpc_server_is_done(pair.server));
    esi_bytes_deinit(&bytes);
    assert_int_equal(esi_grpc_client_feed(pair.client, "x", 1, 0), ES_CLOSED);
    const struct esi_grpc_call spec = {.path = ESI_STR("/a/b"), .authority = ESI_STR("a")};
    uint32_t id;
    assert_int_equal(esi_grpc_client_call(pair.client, &spec, 0, &id), ES_CLOSED);
    close_pair(&pair);
}

static void an_orderly_end_finishes_what_is_begun(void **state)
{
    struct pair pair;
    uint32_t id;
    const struct esi_grpc_call spec = {.path = ESI_STR("/a/b"), .authority = ESI_STR("a")};
    (void)state;

    /* By the server. */
    open_pair(&pair, NULL, NULL);
    uint32_t call_id = call(&pair, "/a/b", ESI_STR("x"), 0, NULL);
    pump(&pair, 1 << 20);
    esi_grpc_server_shutdown(pair.server);
    pump(&pair, 1 << 20);
    assert_true(esi_grpc_client_is_draining(pair.client));
    assert_int_equal(esi_grpc_client_call(pair.client, &spec, 0, &id), ES_CLOSED);
    assert_false(esi_grpc_server_is_done(pair.server));
    assert_int_equal(echo(&pair), 1);
    pump(&pair, 1 << 20);
    expect_result(&pair, call_id, GRPC_OK);
    assert_true(esi_grpc_server_is_done(pair.server));
    assert_true(esi_grpc_client_is_done(pair.client));
    close_pair(&pair);
    /* By the client. */
    open_pair(&pair, NULL, NULL);
    call_id = call(&pair, "/a/b", ESI_STR("x"), 0, NULL);
    esi_grpc_client_shutdown(pair.client);
    assert_int_equal(esi_grpc_client_call(pair.client, &spec, 0, &id), ES_CLOSED);
    pump(&pair, 1 << 20);
    assert_int_equal(echo(&pair), 1);
    pump(&pair, 1 << 20);
    expect_result(&pair, call_id, GRPC_OK);
    assert_true(esi_grpc_client_is_done(pair.client));
    assert_true(esi_grpc_server_is_done(pair.server));
    close_pair(&pair);
}

/* Freed in the middle of everything: nothing leaks (the address sanitizer looks). */
static void sides_can_be_freed_at_any_time(void **state)
{
    struct pair pair;
    struct esi_grpc_event event;
    static char message[200000];
    (void)state;

    for (size_t step = 1; step < 200000; step = step * 3 + 1) {
        struct esi_bytes bytes;
        esi_bytes_init(&bytes, 0);
        open_pair(&pair, NULL, NULL);
        call(&pair, "/a/b", (struct esi_str){.data = message, .len = 1000}, 0, NULL);
        call(&pair, "/a/b", (struct esi_str){.data = message, .len = sizeof message}, 0, NULL);
        esi_grpc_client_take_output(pair.client, &bytes, step);
        assert_int_equal(esi_grpc_server_feed(pair.server, bytes.data, bytes.len, 0), ES_OK);
        (void)!esi_grpc_server_next(pair.server, &event);
        esi_bytes_deinit(&bytes);
        close_pair(&pair);
    }
}

/* One conversation with the n-th allocation failing. Returns whether all went well. */
static bool converse(unsigned long n)
{
    static char message[200000];
    static const size_t LENGTHS[] = {10, sizeof message, 0};
    unsigned results[ESI_COUNT_OF(LENGTHS)] = {0};
    struct pair pair = {.now_ns = SECOND_NS};
    struct esi_grpc_event event;
    struct esi_grpc_result result;
    unsigned started = 0;
    unsigned good = 0;
    unsigned ended = 0;

    allocations_left = n;
    if (esi_grpc_client_new(NULL, &pair.client) == ES_OK &&
        esi_grpc_server_new(NULL, pair.now_ns, &pair.server) == ES_OK) {
        for (size_t i = 0; i < ESI_COUNT_OF(LENGTHS); i++) {
            const struct esi_grpc_call spec = {.path = ESI_STR("/a/b"),
                                               .authority = ESI_STR("a"),
                                               .message = {.data = message, .len = LENGTHS[i]},
                                               .tag = &results[i]};
            uint32_t id;
            started += esi_grpc_client_call(pair.client, &spec, pair.now_ns, &id) == ES_OK;
        }
        pump(&pair, 1 << 20);
        while (esi_grpc_server_next(pair.server, &event)) {
            if (event.kind == GRPC_EVENT_REQUEST) {
                (void)!esi_grpc_server_respond(pair.server, event.call_id, GRPC_OK, "fine",
                                               event.message.data, event.message.len);
            }
        }
        pump(&pair, 1 << 20);
        esi_grpc_client_lost(pair.client);
        while (esi_grpc_client_next(pair.client, &result)) {
            (*(unsigned *)result.tag)++;
            good += result.status == GRPC_OK;
        }
        for (size_t i = 0; i < ESI_COUNT_OF(LENGTHS); i++) {
            assert_true(results[i] <= 1);
            ended += results[i];
        }
        assert_int_equal(ended, started);
    }
    allocations_left = ULONG_MAX;
    close_pair(&pair);
    return good == ESI_COUNT_OF(LENGTHS);
}

/* Whichever allocation fails, each call that was started has one result, and nothing leaks or
 * crashes. */
static void every_allocation_can_fail(void **state)
{
    unsigned long n = 0;
    unsigned long passed = 0;
    (void)state;

    /* Some failures are survived: many in a row that pass mean that the end is reached. */
    while (passed < 50) {
        assert_true(n < 5000);
        passed = converse(n++) ? passed + 1 : 0;
    }
    assert_true(n > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_written_and_read),
        cmocka_unit_test(status_texts_are_encoded_and_sanitised),
        cmocka_unit_test(old_numbers_of_calls_find_nothing),
        cmocka_unit_test(a_call_is_answered),
        cmocka_unit_test(every_split_of_bytes_is_understood),
        cmocka_unit_test(errors_carry_their_text),
        cmocka_unit_test(many_calls_in_any_order),
        cmocka_unit_test(long_messages_share_a_budget),
        cmocka_unit_test(too_long_messages_are_refused),
        cmocka_unit_test(calls_given_up_are_told_once),
        cmocka_unit_test(deadlines_end_calls_in_their_order),
        cmocka_unit_test(a_lost_connection_ends_all_calls),
        cmocka_unit_test(an_orderly_end_finishes_what_is_begun),
        cmocka_unit_test(sides_can_be_freed_at_any_time),
        cmocka_unit_test(every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
