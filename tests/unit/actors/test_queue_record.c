/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the queue reads from a record exactly what was published, and refuses what is not one whole
 * message. Method: slices made as the broker makes them, with each optional part and without; then
 * each slice cut at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/queue_record.h"
#include "broker/batch.h"
#include "proto/client_writer.h"

enum { ROOM_BYTES = 4096 };

struct message {
    struct esi_str subject;
    struct esi_str reply;
    struct esi_str mapped;
    struct esi_str header;
    struct esi_str payload;
    bool is_continued;
};

struct made {
    char room[ROOM_BYTES];
    struct esi_slice slices[2];
    uint32_t count;
};

static const struct esi_str sid = ESI_STR("1");

static char *append(char *at, struct esi_str text)
{
    if (text.len > 0) {
        memcpy(at, text.data, text.len);
    }
    return at + text.len;
}

/* What broker/batch.c makes of a message for a subscription with records. */
static void make(const struct message *message, struct made *made)
{
    const size_t total_len = message->header.len + message->payload.len;
    const bool has_header = message->header.len > 0;
    char *line = append(made->room, message->mapped);
    char *end = esi_client_writer_msg(line, message->subject, sid, message->reply,
                                      message->header.len, total_len);
    char *body = message->is_continued ? end + 100 : end;
    char *body_end =
        append(append(append(body, message->header), message->payload), ESI_STR("\r\n"));

    made->slices[0] = (struct esi_slice){
        .data = line,
        .len = (uint32_t)((message->is_continued ? end : body_end) - line),
        .extra_len = (uint32_t)message->mapped.len,
        .reply_offset = (uint32_t)((has_header ? 5 : 4) + message->subject.len + 1 + sid.len + 1),
        .reply_len = (uint32_t)message->reply.len,
        .is_record = true,
        .is_continued = message->is_continued,
    };
    made->slices[1] = (struct esi_slice){.data = body, .len = (uint32_t)(body_end - body)};
    made->count = message->is_continued ? 2 : 1;
}

static const struct message messages[] = {
    {.subject = ESI_STR("event.a"), .payload = ESI_STR("hello")},
    {.subject = ESI_STR("event.a")},
    {.subject = ESI_STR("event.a"), .reply = ESI_STR("_INBOX.1"), .payload = ESI_STR("{}")},
    {.subject = ESI_STR("event.a.b"),
     .reply = ESI_STR("r"),
     .mapped = ESI_STR("_GR_.abcdef.ghijkl.r"),
     .payload = ESI_STR("\r\n\r\n")},
    {.subject = ESI_STR("e.x"),
     .header = ESI_STR("NATS/1.0\r\nA: b\r\n\r\n"),
     .payload = ESI_STR("body")},
    {.subject = ESI_STR("e.x"), .reply = ESI_STR("r"), .header = ESI_STR("NATS/1.0\r\n\r\n")},
    {.subject = ESI_STR("e.x"), .payload = ESI_STR("large"), .is_continued = true},
    {.subject = ESI_STR("e.x"),
     .reply = ESI_STR("r.s"),
     .mapped = ESI_STR("_GR_.abcdef.ghijkl.r.s"),
     .header = ESI_STR("NATS/1.0\r\n\r\n"),
     .payload = ESI_STR("large"),
     .is_continued = true},
};

static void expect_str(struct esi_str got, struct esi_str wanted)
{
    if (!esi_str_equal(got, wanted)) {
        fail_msg("expected \"%.*s\", got \"%.*s\"", ESI_STR_ARG(wanted), ESI_STR_ARG(got));
    }
}

static void reads_what_was_published(void **state)
{
    struct esi_queue_record record;
    struct made made;
    uint32_t used = 0;
    (void)state;

    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        const struct message *message = &messages[i];
        make(message, &made);
        assert_int_equal(esi_queue_record_read(made.slices, made.count, sid, &record, &used),
                         ES_OK);
        assert_int_equal(used, made.count);
        expect_str(record.subject, message->subject);
        expect_str(record.reply, message->reply);
        expect_str(record.mapped, message->mapped);
        expect_str(record.header, message->header);
        expect_str(record.payload, message->payload);
        assert_false(record.is_from_gateway);
    }
}

/* Each slice stands at the end of its memory, so that a read beyond it is seen by a sanitizer. */
static void refuses_what_is_cut(void **state)
{
    struct esi_queue_record record;
    struct made made;
    uint32_t used = 0;
    (void)state;

    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        make(&messages[i], &made);
        struct esi_slice *last = &made.slices[made.count - 1];
        const uint32_t whole = last->len;
        for (uint32_t cut = 3; cut <= whole; cut++) {
            const uint32_t len = whole - cut;
            char *copy = malloc(len > 0 ? len : 1);
            assert_non_null(copy);
            memcpy(copy, last->data, len);
            struct esi_slice slices[2] = {made.slices[0], made.slices[1]};
            slices[made.count - 1].data = copy;
            slices[made.count - 1].len = len;
            slices[made.count - 1].extra_len = 0;
            if (messages[i].payload.len == 0 && messages[i].header.len == 0) {
                /* Its body is the line's end alone. */
                slices[0].len = len > 2 ? len - 2 : 0;
            }
            assert_int_equal(esi_queue_record_read(slices, made.count, sid, &record, &used),
                             ES_INVALID);
            assert_in_range(used, 1, made.count);
            free(copy);
        }
    }
}

static void refuses_a_body_that_is_missing(void **state)
{
    struct esi_queue_record record;
    struct made made;
    uint32_t used = 0;
    (void)state;

    make(&messages[6], &made);
    assert_int_equal(esi_queue_record_read(made.slices, 1, sid, &record, &used), ES_INVALID);
    assert_int_equal(used, 1);
    /* The next record is not taken for it. */
    made.slices[1].is_record = true;
    assert_int_equal(esi_queue_record_read(made.slices, 2, sid, &record, &used), ES_INVALID);
    assert_int_equal(used, 1);
    made.slices[0].is_record = false;
    assert_int_equal(esi_queue_record_read(made.slices, 1, sid, &record, &used), ES_INVALID);
}

static void tells_where_it_came_from(void **state)
{
    struct esi_queue_record record;
    struct made made;
    uint32_t used = 0;
    (void)state;

    make(&messages[0], &made);
    made.slices[0].is_from_gateway = true;
    assert_int_equal(esi_queue_record_read(made.slices, 1, sid, &record, &used), ES_OK);
    assert_true(record.is_from_gateway);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_published),
        cmocka_unit_test(refuses_what_is_cut),
        cmocka_unit_test(refuses_a_body_that_is_missing),
        cmocka_unit_test(tells_where_it_came_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
