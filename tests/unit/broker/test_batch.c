/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each target gets exactly the bytes that the protocol wants, in the publisher's order, once,
 * and every block reference comes back. Method: expected texts for each way a message can take,
 * then random traffic whose output is parsed and compared with a model. Every delivery passes the
 * checks in broker_case.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker_case.h"

#include "base/hashmap.h"

static struct broker_case broker;

static int set_up(void **state)
{
    (void)state;
    broker_case_init(&broker, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    broker_case_deinit(&broker);
    return 0;
}

static void begin_as_client(struct sink *self, bool echo)
{
    begin(&broker, SOURCE_CLIENT, self, echo, 60000);
}

static struct esi_batch_stats stats_of_batch(void)
{
    struct esi_batch_stats stats;

    esi_batch_stats(broker.batch, &stats);
    return stats;
}

static uint32_t publish_full(enum esi_publish_source source, struct esi_publish message,
                             const char *body)
{
    begin(&broker, source, NULL, true, 60000);
    message.body = put_body(&broker, body, strlen(body));
    message.total_len = strlen(body);
    const uint32_t count = esi_batch_add(broker.batch, &message);
    (void)!esi_batch_flush(broker.batch);
    return count;
}

/* --- clients --- */

static void expect_line(struct esi_bytes *expected, const char *subject, const char *sid,
                        bool has_reply, const char *body)
{
    esi_bytes_printf(expected, "MSG %s %s %s%zu\r\n%s\r\n", subject, sid, has_reply ? "r " : "",
                     strlen(body), body);
}

/* Messages on ever other subjects are looked up some at a time: order, answers about replies, and
 * what is subscribed meanwhile are as though they were not. */
static void test_ever_other_subjects(void **state)
{
    enum { MESSAGES = 400, OTHERS = 10000 };
    struct sink *all = new_sink(&broker, false);
    struct sink *late = new_sink(&broker, false);
    struct esi_bytes expected;
    struct esi_bytes expected_late;
    static char subjects[MESSAGES][8]; /* borrowed until the flush */
    char body[16];

    (void)state;
    esi_bytes_init(&expected, 0);
    esi_bytes_init(&expected_late, 0);
    struct esi_sub *subs[] = {subscribe(all, "n.*", "", "1", 0), subscribe(all, "n.7", "", "2", 0),
                              subscribe(late, "none", "", "3", 0)};
    /* With few subscriptions nothing is looked up ahead. */
    struct esi_sub **others = test_malloc(OTHERS * sizeof *others);
    for (uint32_t i = 0; i < OTHERS; i++) {
        char other[16];
        snprintf(other, sizeof other, i % 3 == 0 ? "n.%u.*" : "n.x.%u", i);
        others[i] = subscribe(late, other, "", "4", 0);
    }
    begin_as_client(NULL, true);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        const uint32_t number = i % 23 == 0 ? 7 : i % 100 < 10 ? 8 : i * 31 % 97;
        const bool has_reply = i % 41 == 0;
        char *subject = subjects[i];
        snprintf(subject, sizeof subjects[i], "n.%u", number);
        snprintf(body, sizeof body, "%u", i);
        const uint32_t count = publish(&broker, subject, has_reply ? "r" : "", body);
        if (has_reply) {
            assert_int_equal(count, (number == 7 ? 2 : 1) + (i >= MESSAGES / 2));
            assert_int_equal(publish(&broker, "nobody", "r", ""), 0);
        }
        expect_line(&expected, subject, "1", has_reply, body);
        if (number == 7) {
            expect_line(&expected, subject, "2", has_reply, body);
        }
        if (i >= MESSAGES / 2) {
            expect_line(&expected_late, subject, "3", has_reply, body);
        }
        if (i == MESSAGES / 2 - 1) {
            esi_batch_settle(broker.batch);
            unsubscribe(subs[2]);
            subs[2] = subscribe(late, "n.>", "", "3", 0);
        }
    }
    (void)!esi_batch_flush(broker.batch);
    esi_bytes_append(&expected, "", 1);
    esi_bytes_append(&expected_late, "", 1);
    assert_string_equal(take(all), expected.data);
    assert_string_equal(take(late), expected_late.data);
    esi_bytes_deinit(&expected);
    esi_bytes_deinit(&expected_late);
    for (size_t i = 0; i < sizeof subs / sizeof subs[0]; i++) {
        unsubscribe(subs[i]);
    }
    for (uint32_t i = 0; i < OTHERS; i++) {
        unsubscribe(others[i]);
    }
    test_free(others);
    free_sink(all);
    free_sink(late);
}

static void test_plain_lines(void **state)
{
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(one, "a.*", "", "7", 0), subscribe(two, "a.b", "", "7", 0)};
    begin_as_client(NULL, true);
    assert_int_equal(publish(&broker, "a.b", "", "hello"), 2);
    assert_int_equal(publish(&broker, "a.b", "r", ""), 2);
    assert_int_equal(publish(&broker, "a.c", "", "x"), 1);
    assert_int_equal(publish(&broker, "nobody", "", "x"), 0);
    assert_int_equal(one->deliveries, 0);
    assert_false(esi_batch_flush(broker.batch));
    assert_string_equal(take(one),
                        "MSG a.b 7 5\r\nhello\r\nMSG a.b 7 r 0\r\n\r\nMSG a.c 7 1\r\nx\r\n");
    assert_string_equal(take(two), "MSG a.b 7 5\r\nhello\r\nMSG a.b 7 r 0\r\n\r\n");
    /* One delivery each, however many messages. */
    assert_int_equal(one->deliveries, 1);
    assert_int_equal(one->messages, 3);
    assert_int_equal(two->messages, 2);
    const struct esi_batch_stats stats = stats_of_batch();
    assert_int_equal(stats.messages_in, 4);
    assert_int_equal(stats.messages_out, 5);
    assert_int_equal(stats.deliveries, 2);
    assert_int_equal(stats.dropped, 0);
    unsubscribe(subs[0]);
    unsubscribe(subs[1]);
    free_sink(one);
    free_sink(two);
}

static void test_headers_are_kept_or_stripped(void **state)
{
    struct sink *with = new_sink(&broker, false);
    struct sink *without = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(with, "h", "", "1", SUB_HEADERS),
                              subscribe(without, "h", "", "1", 0)};
    const struct esi_publish message = {.subject = ESI_STR("h"), .header_len = 12};
    assert_int_equal(publish_full(SOURCE_CLIENT, message, "NATS/1.0\r\n\r\nbody"), 2);
    assert_string_equal(take(with), "HMSG h 1 12 16\r\nNATS/1.0\r\n\r\nbody\r\n");
    assert_string_equal(take(without), "MSG h 1 4\r\nbody\r\n");
    /* A message without a header is a plain one for both. */
    begin_as_client(NULL, true);
    publish(&broker, "h", "", "x");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(with), "MSG h 1 1\r\nx\r\n");
    unsubscribe(subs[0]);
    unsubscribe(subs[1]);
    free_sink(with);
    free_sink(without);
}

static void test_echo(void **state)
{
    struct sink *self = new_sink(&broker, false);
    struct sink *other = new_sink(&broker, false);

    (void)state;
    struct esi_sub *own = subscribe(self, "e", "", "1", 0);
    begin_as_client(self, false);
    assert_int_equal(publish(&broker, "e", "", "x"), 0);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(self), "");
    struct esi_sub *theirs = subscribe(other, "e", "", "1", 0);
    struct esi_sub *member = subscribe(self, "e", "q", "2", 0);
    begin_as_client(self, false);
    assert_int_equal(publish(&broker, "e", "", "x"), 1);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(self), "");
    assert_string_equal(take(other), "MSG e 1 1\r\nx\r\n");
    begin_as_client(self, true);
    assert_int_equal(publish(&broker, "e", "", "y"), 3);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(self), "MSG e 1 1\r\ny\r\nMSG e 2 1\r\ny\r\n");
    unsubscribe(own);
    unsubscribe(theirs);
    unsubscribe(member);
    free_sink(self);
    free_sink(other);
}

/* Messages of one publisher reach one target in order, whatever subscriptions they take. */
static void test_order_over_subscriptions(void **state)
{
    struct sink *sink = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(sink, "o.a", "", "1", 0),
                              subscribe(sink, "o.*", "", "2", 0),
                              subscribe(sink, "o.b", "g", "3", 0)};
    begin_as_client(NULL, true);
    publish(&broker, "o.a", "", "1");
    publish(&broker, "o.b", "", "2");
    publish(&broker, "o.a", "", "3");
    publish(&broker, "o.a", "", "4");
    (void)!esi_batch_flush(broker.batch);
    const char *got = take(sink);
    char digits[16] = {0};
    uint32_t count = 0;
    for (const char *at = got; (at = strstr(at, " 1\r\n")) != NULL && count < 15; at += 4) {
        digits[count++] = at[4];
    }
    assert_string_equal(digits, "11223344");
    for (size_t i = 0; i < 3; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(sink);
}

static void test_groups_choose_one_each(void **state)
{
    enum { MEMBERS = 4, MESSAGES = 8000 };
    struct sink *sinks[MEMBERS];
    struct esi_sub *subs[MEMBERS];

    (void)state;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        sinks[i] = new_sink(&broker, false);
        subs[i] = subscribe(sinks[i], i % 2 == 0 ? "q.x" : "q.*", "g", "1", 0);
    }
    for (uint32_t i = 0; i < MESSAGES / 100; i++) {
        begin_as_client(NULL, true);
        for (uint32_t j = 0; j < 100; j++) {
            assert_int_equal(publish(&broker, "q.x", "", "z"), 1);
        }
        (void)!esi_batch_flush(broker.batch);
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        total += sinks[i]->messages;
        assert_in_range(sinks[i]->messages, MESSAGES / MEMBERS * 9 / 10,
                        MESSAGES / MEMBERS * 11 / 10);
    }
    assert_int_equal(total, MESSAGES);
    /* A member that is closing is passed over; when all are, the message is not delivered, nor
     * anything broken. */
    for (uint32_t i = 0; i < MEMBERS; i++) {
        sinks[i]->messages = 0;
        /* order: relaxed; one thread. */
        atomic_store_explicit(&sinks[i]->target.is_gone, i != 2, memory_order_relaxed);
    }
    begin_as_client(NULL, true);
    for (uint32_t j = 0; j < 100; j++) {
        publish(&broker, "q.x", "", "z");
    }
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(sinks[2]->messages, 100);
    /* order: relaxed; one thread. */
    atomic_store_explicit(&sinks[2]->target.is_gone, true, memory_order_relaxed);
    begin_as_client(NULL, true);
    publish(&broker, "q.x", "", "z");
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(sinks[2]->messages, 100);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        unsubscribe(subs[i]);
        free_sink(sinks[i]);
    }
}

/* Groups of as many members as a run has messages, and of one more, which are served in another
 * way: each message goes to one, and what each gets is in order. */
static void test_large_groups(void **state)
{
    enum { MEMBERS_MAX = ESI_BATCH_RUN_MAX + 1, MESSAGES = 3 * ESI_BATCH_RUN_MAX };
    static struct sink *sinks[MEMBERS_MAX];
    static struct esi_sub *subs[MEMBERS_MAX];

    (void)state;
    for (uint32_t members = ESI_BATCH_RUN_MAX; members <= MEMBERS_MAX; members++) {
        for (uint32_t i = 0; i < members; i++) {
            sinks[i] = new_sink(&broker, false);
            subs[i] = subscribe(sinks[i], "q", "g", "1", 0);
        }
        begin_as_client(NULL, true);
        for (uint32_t i = 0; i < MESSAGES; i++) {
            char body[8];
            snprintf(body, sizeof body, "%04u", i);
            assert_int_equal(publish(&broker, "q", "", body), 1);
            if (i < 10) {
                (void)!esi_batch_flush(broker.batch); /* a run of one, as of a large group */
            }
        }
        (void)!esi_batch_flush(broker.batch);
        uint64_t total = 0;
        for (uint32_t i = 0; i < members; i++) {
            const uint64_t count = sinks[i]->messages;
            const char *got = count > 0 ? take(sinks[i]) : "";
            const char *previous = "";
            for (uint64_t j = 0; j < count; j++, got += strlen("MSG q 1 4\r\n0000\r\n")) {
                const char *body = got + strlen("MSG q 1 4\r\n");
                assert_memory_equal(got, "MSG q 1 4\r\n", strlen("MSG q 1 4\r\n"));
                assert_true(strncmp(previous, body, 4) < 0);
                previous = body;
            }
            total += count;
            unsubscribe(subs[i]);
            free_sink(sinks[i]);
        }
        assert_int_equal(total, MESSAGES);
    }
}

/* Large payloads are not copied: they come out of the block that they were read into. */
static void test_large_payloads(void **state)
{
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);
    char *payload = test_malloc(ESI_BATCH_COPY_MAX + 2);

    (void)state;
    memset(payload, 'p', ESI_BATCH_COPY_MAX + 1);
    payload[ESI_BATCH_COPY_MAX + 1] = '\0';
    struct esi_sub *subs[] = {subscribe(one, "l", "", "1", 0),
                              subscribe(two, "l", "", "22", SUB_HEADERS)};
    one->keeps_last = true;
    begin_as_client(NULL, true);
    const char *body = broker.read->data + broker.read_used;
    publish(&broker, "l", "", payload);
    publish(&broker, "l", "", "small");
    publish(&broker, "l", "", payload);
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(one->last->slice_count, 4);
    assert_ptr_equal(one->last->slices[1].data, body);
    assert_ptr_equal(one->last->slices[1].block, broker.read);
    assert_true(one->last->slices[0].is_continued);
    assert_int_equal(one->last->slices[0].message_count, 0);
    assert_false(esi_block_is_unique(broker.read));
    assert_int_equal(two->messages, 3);
    const size_t len = 2 * (sizeof "MSG l 1 8193\r\n" - 1 + ESI_BATCH_COPY_MAX + 3) +
                       sizeof "MSG l 1 5\r\nsmall\r\n" - 1;
    assert_int_equal(one->got.len, len);
    assert_memory_equal(one->got.data, "MSG l 1 8193\r\nppp", 17);
    assert_int_equal(two->got.len, len + 3);
    unsubscribe(subs[0]);
    unsubscribe(subs[1]);
    free_sink(one);
    free_sink(two);
    test_free(payload);
}

/* More slices than one delivery holds: several deliveries, in order. */
static void test_many_slices(void **state)
{
    struct sink *sink = new_sink(&broker, false);
    char *payload = test_malloc(ESI_BATCH_COPY_MAX + 2);

    (void)state;
    memset(payload, 'p', ESI_BATCH_COPY_MAX + 1);
    payload[ESI_BATCH_COPY_MAX + 1] = '\0';
    struct esi_sub *sub = subscribe(sink, "l", "", "1", 0);
    begin(&broker, SOURCE_CLIENT, NULL, true, 64 * 9000);
    for (uint32_t i = 0; i < 64; i++) {
        payload[0] = (char)('0' + i % 10);
        publish(&broker, "l", "", payload);
    }
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(sink->messages, 64);
    assert_true(sink->deliveries > 2);
    for (uint32_t i = 0; i < 64; i++) {
        const char *line = sink->got.data + (size_t)i * (14 + ESI_BATCH_COPY_MAX + 3);
        assert_memory_equal(line, "MSG l 1 8193\r\n", 14);
        assert_int_equal(line[14], '0' + i % 10);
    }
    unsubscribe(sub);
    free_sink(sink);
    test_free(payload);
}

/* A subscription with records gets each message by itself, with where its reply stands. */
static void test_records(void **state)
{
    struct sink *sink = new_sink(&broker, false);

    (void)state;
    sink->keeps_last = true;
    struct esi_sub *sub = subscribe(sink, "r.*", "", "12", SUB_RECORDS);
    sub->slot = 5;
    begin_as_client(NULL, true);
    publish(&broker, "r.x", "", "one");
    publish(&broker, "r.x", "in.box", "two");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(sink), "MSG r.x 12 3\r\none\r\nMSG r.x 12 in.box 3\r\ntwo\r\n");
    assert_int_equal(sink->last->slice_count, 2);
    const struct esi_slice *slice = &sink->last->slices[1];
    assert_true(slice->is_record);
    assert_int_equal(slice->sub_slot, 5);
    assert_int_equal(slice->message_count, 1);
    assert_int_equal(slice->reply_len, 6);
    assert_memory_equal(slice->data + slice->reply_offset, "in.box", 6);
    assert_int_equal(sink->last->slices[0].reply_len, 0);
    assert_int_equal(slice->extra_len, 0);
    unsubscribe(sub);
    free_sink(sink);
}

/* --- maxima --- */

static struct esi_sub *subscribe_counted(struct sink *sink, const char *queue, const char *sid,
                                         int64_t claims)
{
    struct esi_sub *sub = subscribe(sink, "c", queue, sid, SUB_RECORDS | SUB_COUNTED);

    esi_sub_add_claims(sub, claims);
    return sub;
}

/* A subscription with a maximum is a receiver as often as it may be claimed, and those beside it
 * get what they would without it. */
static void test_maximum(void **state)
{
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);
    struct sink *self = new_sink(&broker, false);
    struct sink *link = new_sink(&broker, true);

    (void)state;
    struct esi_sub *subs[] = {subscribe_counted(one, "", "1", 2),
                              subscribe_counted(two, "", "1", 3),
                              subscribe_counted(self, "", "1", 1)};
    begin_as_client(self, false);
    assert_int_equal(publish(&broker, "c", "", "a"), 2);
    assert_int_equal(publish(&broker, "c", "r", "b"), 2);
    assert_int_equal(publish(&broker, "c", "r", "c"), 1);
    assert_int_equal(publish(&broker, "c", "r", "d"), 0);
    esi_sub_add_claims(subs[0], 1); /* another maximum */
    assert_int_equal(publish(&broker, "c", "r", "e"), 1);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(one), "MSG c 1 1\r\na\r\nMSG c 1 r 1\r\nb\r\nMSG c 1 r 1\r\ne\r\n");
    assert_string_equal(take(two), "MSG c 1 1\r\na\r\nMSG c 1 r 1\r\nb\r\nMSG c 1 r 1\r\nc\r\n");
    assert_string_equal(take(self), ""); /* it wants no echo, so it has claimed none */
    struct esi_sub *plain = subscribe(two, "*", "", "2", 0);
    struct esi_sub *remote = subscribe(link, ">", "", "", 0);
    begin_as_client(self, true);
    assert_int_equal(publish(&broker, "c", "r", "f"), 3);
    assert_int_equal(publish(&broker, "c", "r", "g"), 2);
    assert_int_equal(publish(&broker, "other", "r", "h"), 2);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(self), "MSG c 1 r 1\r\nf\r\n");
    assert_string_equal(take(two),
                        "MSG c 2 r 1\r\nf\r\nMSG c 2 r 1\r\ng\r\nMSG other 2 r 1\r\nh\r\n");
    assert_int_equal(link->messages, 3);
    unsubscribe(plain);
    unsubscribe(remote);
    for (size_t i = 0; i < 3; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(one);
    free_sink(two);
    free_sink(self);
    free_sink(link);
}

/* Where a member has its maximum, another one is chosen; also for groups that a gateway names. */
static void test_maximum_in_a_group(void **state)
{
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);
    struct sink *link = new_sink(&broker, true);

    (void)state;
    struct esi_sub *subs[] = {subscribe_counted(one, "g", "1", 5),
                              subscribe_counted(two, "g", "2", 7)};
    begin_as_client(NULL, true);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(publish(&broker, "c", "r", "x"), 1);
    }
    (void)!esi_batch_flush(broker.batch);
    const struct esi_publish named = {
        .subject = ESI_STR("c"), .reply = ESI_STR("r"), .queues = ESI_STR("g h g")};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(publish_full(SOURCE_GATEWAY, named, "y"), i < 2 ? 1 : 0);
    }
    assert_int_equal(one->messages, 5);
    assert_int_equal(two->messages, 7);
    begin_as_client(NULL, true);
    assert_int_equal(publish(&broker, "c", "r", "x"), 0);
    struct esi_sub *plain = subscribe(one, "c", "g", "3", 0);
    assert_int_equal(publish(&broker, "c", "r", "x"), 1);
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(one->messages, 6);
    unsubscribe(plain);
    unsubscribe(subs[0]);
    unsubscribe(subs[1]);
    free_sink(one);
    free_sink(two);
    free_sink(link);
}

/* Large payloads, in more subscriptions than are looked at at once. */
static void test_maximum_of_many(void **state)
{
    enum { SUBS = ESI_BATCH_RUN_MAX + 20 };
    struct sink *sinks[SUBS];
    struct esi_sub *subs[SUBS];
    char *payload = test_malloc(ESI_BATCH_COPY_MAX + 2);

    (void)state;
    memset(payload, 'p', ESI_BATCH_COPY_MAX + 1);
    payload[ESI_BATCH_COPY_MAX + 1] = '\0';
    for (uint32_t i = 0; i < SUBS; i++) {
        sinks[i] = new_sink(&broker, false);
        subs[i] = subscribe_counted(sinks[i], "", "1", i % 3);
    }
    begin_as_client(NULL, true);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t expected = 0;
        for (uint32_t j = 0; j < SUBS; j++) {
            expected += j % 3 > i;
        }
        assert_int_equal(publish(&broker, "c", "r", i == 1 ? payload : "x"), expected);
    }
    (void)!esi_batch_flush(broker.batch);
    for (uint32_t i = 0; i < SUBS; i++) {
        assert_int_equal(sinks[i]->messages, i % 3);
        unsubscribe(subs[i]);
        free_sink(sinks[i]);
    }
    test_free(payload);
}

/* --- gateways --- */

static void test_lines_for_links(void **state)
{
    struct sink *link = new_sink(&broker, true);
    struct sink *member = new_sink(&broker, false);

    (void)state;
    struct esi_sub *plain = subscribe(link, "g.*", "", "", SUB_HEADERS);
    begin_as_client(NULL, true);
    assert_int_equal(publish(&broker, "g.x", "", "one"), 1);
    assert_int_equal(publish(&broker, "g.x", "rep", "two"), 1);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), "RMSG $G g.x 3\r\none\r\nRMSG $G g.x rep 3\r\ntwo\r\n");
    struct esi_sub *group = subscribe(link, "g.x", "q1", "", SUB_HEADERS);
    struct esi_sub *other = subscribe(link, "g.>", "q2", "", SUB_HEADERS);
    begin_as_client(NULL, true);
    publish(&broker, "g.x", "", "one");
    publish(&broker, "g.x", "rep", "two");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link),
                        "RMSG $G g.x | q1 q2 3\r\none\r\nRMSG $G g.x + rep q1 q2 3\r\ntwo\r\n");
    /* Served here: the link's cluster must not serve it too. */
    struct esi_sub *local = subscribe(member, "g.x", "q1", "1", 0);
    begin_as_client(NULL, true);
    assert_int_equal(publish(&broker, "g.x", "", "one"), 2);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), "RMSG $G g.x | q2 3\r\none\r\n");
    assert_string_equal(take(member), "MSG g.x 1 3\r\none\r\n");
    const struct esi_publish message = {.subject = ESI_STR("g.y"), .header_len = 12};
    publish_full(SOURCE_CLIENT, message, "NATS/1.0\r\n\r\nbody");
    assert_string_equal(take(link), "HMSG $G g.y | q2 12 16\r\nNATS/1.0\r\n\r\nbody\r\n");
    unsubscribe(plain);
    unsubscribe(group);
    unsubscribe(other);
    unsubscribe(local);
    free_sink(link);
    free_sink(member);
}

/* From a gateway: local plain subscriptions and the groups it names, once each, never another
 * link. */
static void test_from_a_gateway(void **state)
{
    struct sink *link = new_sink(&broker, true);
    struct sink *local = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(link, "f", "", "", 0), subscribe(local, "f", "", "1", 0),
                              subscribe(local, "f", "q1", "2", 0),
                              subscribe(local, "f", "q2", "3", 0),
                              subscribe(local, "f", "q3", "4", 0)};
    struct esi_publish message = {.subject = ESI_STR("f"), .queues = ESI_STR("q3 q1 nope q3 q1")};
    publish_full(SOURCE_GATEWAY, message, "x");
    const char *got = take(local);
    assert_int_equal(local->messages, 3);
    assert_non_null(strstr(got, "MSG f 1 1\r\nx\r\n"));
    assert_non_null(strstr(got, "MSG f 2 1\r\nx\r\n"));
    assert_non_null(strstr(got, "MSG f 4 1\r\nx\r\n"));
    assert_string_equal(take(link), "");
    message.queues = ESI_STR("");
    publish_full(SOURCE_GATEWAY, message, "x");
    assert_string_equal(take(local), "MSG f 1 1\r\nx\r\n");
    /* A mapped reply that came home goes to all groups. */
    local->messages = 0;
    publish_full(SOURCE_GATEWAY_REPLY, message, "x");
    assert_int_equal(local->messages, 4);
    for (size_t i = 0; i < 5; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(link);
    free_sink(local);
}

/* Messages with many names and many groups: each group once, and the work stays in proportion to
 * their sum. */
static void test_many_named_groups(void **state)
{
    enum { GROUPS = 3000 };
    struct sink *local = new_sink(&broker, false);
    struct esi_sub **subs = test_malloc(GROUPS * sizeof *subs);
    struct esi_bytes names;
    char name[16];

    (void)state;
    esi_bytes_init(&names, 0);
    for (uint32_t i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "g%u", i);
        subs[i] = subscribe(local, "many", name, "1", 0);
        esi_bytes_printf(&names, "%s%s", i > 0 ? " " : "", i % 2 == 0 ? name : "unknown");
    }
    const struct esi_publish message = {.subject = ESI_STR("many"),
                                        .queues = esi_bytes_str(&names)};
    for (uint32_t round = 0; round < 20; round++) {
        local->messages = 0;
        publish_full(SOURCE_GATEWAY, message, "x");
        assert_int_equal(local->messages, GROUPS / 2);
        local->got.len = 0;
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        unsubscribe(subs[i]);
    }
    esi_bytes_deinit(&names);
    free_sink(local);
    test_free(subs);
}

/* A reply that somebody began to listen on just now is mapped on its way to links, and only
 * there. */
static void test_young_replies_are_mapped(void **state)
{
    struct sink *link = new_sink(&broker, true);
    struct sink *asker = new_sink(&broker, false);
    struct sink *local = new_sink(&broker, false);
    struct esi_retired *retired = NULL;
    char expected[128];
    char mapped[64];

    (void)state;
    struct esi_sub *remote = subscribe(link, "m", "", "", 0);
    struct esi_sub *plain = subscribe(local, "m", "", "1", 0);
    struct esi_sub *inbox =
        esi_sub_new(&asker->target, ESI_STR("inbox"), ESI_STR(""), ESI_STR("9"));
    inbox->created_ns = broker.now_ns - 1000000000;
    assert_int_equal(esi_subtable_add(broker.table, inbox, &retired), ES_OK);
    esi_subtable_free_retired(retired);
    const struct esi_reply_map_hash cluster = esi_reply_map_hash(ESI_STR("here"));
    const struct esi_reply_map_hash server = esi_reply_map_hash(ESI_STR("server"));
    const char *end = esi_reply_map_write(mapped, &cluster, &server, ESI_STR("inbox"));
    snprintf(expected, sizeof expected, "RMSG $G m %.*s 1\r\nx\r\n", (int)(end - mapped), mapped);
    begin_as_client(NULL, true);
    publish(&broker, "m", "inbox", "x");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), expected);
    assert_string_equal(take(local), "MSG m 1 inbox 1\r\nx\r\n");
    /* For a peer of the older kind. */
    link->target.old_reply_prefix = true;
    end = esi_reply_map_write_old(mapped, &cluster, ESI_STR("inbox"));
    snprintf(expected, sizeof expected, "RMSG $G m %.*s 1\r\nx\r\n", (int)(end - mapped), mapped);
    begin_as_client(NULL, true);
    publish(&broker, "m", "inbox", "x");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), expected);
    /* Three seconds later its interest has travelled. */
    broker.now_ns += 3000000000;
    begin_as_client(NULL, true);
    publish(&broker, "m", "inbox", "x");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), "RMSG $G m inbox 1\r\nx\r\n");
    unsubscribe(remote);
    unsubscribe(plain);
    unsubscribe(inbox);
    free_sink(link);
    free_sink(asker);
    free_sink(local);
}

/* What came with a mapped reply shows it stripped to clients, and tells the target what the answer
 * must go to. */
static void test_mapped_replies_travel_beside(void **state)
{
    struct sink *local = new_sink(&broker, false);

    (void)state;
    local->keeps_last = true;
    struct esi_sub *sub = subscribe(local, "m", "", "1", 0);
    const struct esi_publish message = {.subject = ESI_STR("m"),
                                        .reply = ESI_STR("inbox"),
                                        .extra = ESI_STR("_GR_.abcdef.ghijkl.inbox")};
    publish_full(SOURCE_GATEWAY, message, "x");
    assert_string_equal(take(local), "MSG m 1 inbox 1\r\nx\r\n");
    const struct esi_slice *slice = &local->last->slices[0];
    assert_int_equal(slice->extra_len, message.extra.len);
    assert_memory_equal(slice->data - slice->extra_len, message.extra.data, message.extra.len);
    assert_memory_equal(slice->data + slice->reply_offset, "inbox", 5);
    unsubscribe(sub);
    free_sink(local);
}

/* A message for one link alone stands in its place, whatever the interest, with headers as that
 * peer takes them. */
static void test_one_link_alone(void **state)
{
    struct sink *link = new_sink(&broker, true);
    struct sink *other = new_sink(&broker, true);
    struct sink *local = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(link, "t", "", "", 0), subscribe(other, ">", "", "", 0),
                              subscribe(local, ">", "", "1", 0)};
    const char *body = "NATS/1.0\r\n\r\nbody";
    begin_as_client(NULL, true);
    publish(&broker, "t", "", "1");
    struct esi_publish message = {.subject = ESI_STR("_GR_.abcdef.ghijkl.r"),
                                  .reply = ESI_STR("next"),
                                  .body = put_body(&broker, body, strlen(body)),
                                  .header_len = 12,
                                  .total_len = strlen(body)};
    esi_batch_send_link(broker.batch, &link->target, true, &message);
    esi_batch_send_link(broker.batch, &link->target, false, &message);
    publish(&broker, "t", "", "3");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link),
                        "RMSG $G t 1\r\n1\r\n"
                        "HMSG $G _GR_.abcdef.ghijkl.r next 12 16\r\nNATS/1.0\r\n\r\nbody\r\n"
                        "RMSG $G _GR_.abcdef.ghijkl.r next 4\r\nbody\r\n"
                        "RMSG $G t 1\r\n3\r\n");
    assert_string_equal(take(other), "RMSG $G t 1\r\n1\r\nRMSG $G t 1\r\n3\r\n");
    assert_string_equal(take(local), "MSG t 1 1\r\n1\r\nMSG t 1 1\r\n3\r\n");
    for (size_t i = 0; i < 3; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(link);
    free_sink(other);
    free_sink(local);
}

/* Ordinary messages of a gateway and answers that came home, mixed in one block. */
static void test_sources_change_within_a_batch(void **state)
{
    struct sink *link = new_sink(&broker, true);
    struct sink *local = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(link, "f", "", "", 0), subscribe(local, "f", "", "1", 0),
                              subscribe(local, "f", "q", "2", 0)};
    begin(&broker, SOURCE_GATEWAY, NULL, true, 60000);
    publish(&broker, "f", "", "1");
    esi_batch_set_source(broker.batch, SOURCE_GATEWAY_REPLY);
    struct esi_publish answer = {.subject = ESI_STR("f"),
                                 .reply = ESI_STR("r"),
                                 .extra = ESI_STR("_GR_.abcdef.ghijkl.r"),
                                 .body = put_body(&broker, "2", 1),
                                 .total_len = 1};
    esi_batch_add(broker.batch, &answer);
    esi_batch_set_source(broker.batch, SOURCE_GATEWAY);
    publish(&broker, "f", "", "3");
    (void)!esi_batch_flush(broker.batch);
    /* Another link sees the reply in the form that leads back to where it came from. */
    assert_string_equal(take(link), "RMSG $G f _GR_.abcdef.ghijkl.r 1\r\n2\r\n");
    assert_string_equal(take(local), "MSG f 1 1\r\n1\r\nMSG f 1 r 1\r\n2\r\nMSG f 2 r 1\r\n2\r\n"
                                     "MSG f 1 1\r\n3\r\n");
    for (size_t i = 0; i < 3; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(link);
    free_sink(local);
}

/* A link that gets everything but what it refused gets each message once, and is told enough to
 * leave it out. */
static void test_optimistic_link(void **state)
{
    struct sink *link = new_sink(&broker, true);

    (void)state;
    link->keeps_last = true;
    struct esi_sub *subs[] = {subscribe(link, "o.x", "", "", 0),
                              subscribe(link, ">", "", "", SUB_OPTIMISTIC),
                              subscribe(link, "o.*", "", "", 0)};
    begin_as_client(NULL, true);
    assert_int_equal(publish(&broker, "o.x", "", "1"), 1);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), "RMSG $G o.x 1\r\n1\r\n");
    const struct esi_slice *slice = &link->last->slices[0];
    assert_true(slice->is_record);
    assert_int_equal(slice->reply_len, 3);
    assert_memory_equal(slice->data + slice->reply_offset, "o.x", 3);
    /* Each message by itself, so that one can be left out. */
    begin_as_client(NULL, true);
    publish(&broker, "o.x", "", "1");
    publish(&broker, "o.x", "", "2");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), "RMSG $G o.x 1\r\n1\r\nRMSG $G o.x 1\r\n2\r\n");
    assert_int_equal(link->last->slice_count, 2);
    /* A group is named: it must go out in any case. */
    struct esi_sub *group = subscribe(link, "o.x", "q", "", 0);
    begin_as_client(NULL, true);
    publish(&broker, "o.x", "", "1");
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(link), "RMSG $G o.x | q 1\r\n1\r\n");
    assert_int_equal(link->last->slices[0].reply_len, 0);
    unsubscribe(group);
    for (size_t i = 0; i < 3; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(link);
}

/* --- backpressure --- */

static void test_pause(void **state)
{
    struct sink *sink = new_sink(&broker, false);

    (void)state;
    struct esi_sub *sub = subscribe(sink, "p", "", "1", 0);
    /* order: relaxed; one thread. */
    atomic_store_explicit(&sink->target.pending_bytes, 1000000, memory_order_relaxed);
    /* Much waits, but it has taken nothing for long: nobody waits for it. */
    begin_as_client(NULL, true);
    publish(&broker, "p", "", "x");
    assert_false(esi_batch_flush(broker.batch));
    /* order: relaxed; one thread. */
    atomic_store_explicit(&sink->target.progress_ns, broker.now_ns - 5000000, memory_order_relaxed);
    begin_as_client(NULL, true);
    publish(&broker, "p", "", "x");
    assert_true(esi_batch_flush(broker.batch));
    /* order: relaxed; one thread. */
    atomic_store_explicit(&sink->target.pending_bytes, 10, memory_order_relaxed);
    begin_as_client(NULL, true);
    publish(&broker, "p", "", "x");
    assert_false(esi_batch_flush(broker.batch));
    unsubscribe(sub);
    free_sink(sink);
}

/* A target that blocks is named to its publisher while it has too much waiting. */
static void test_blocker(void **state)
{
    struct sink *sink = new_sink(&broker, false);
    struct sink *other = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(sink, "b", "", "1", 0), subscribe(other, "b", "", "1", 0)};
    for (int blocks = 0; blocks < 2; blocks++) {
        sink->target.blocks = blocks == 1;
        /* order: relaxed; one thread. */
        atomic_store_explicit(&sink->target.pending_bytes, 2000000, memory_order_relaxed);
        begin_as_client(NULL, true);
        publish(&broker, "b", "", "x");
        (void)!esi_batch_flush(broker.batch);
        assert_ptr_equal(esi_batch_blocker(broker.batch), blocks == 1 ? &sink->target : NULL);
        /* order: relaxed; one thread. */
        atomic_store_explicit(&sink->target.pending_bytes, 10, memory_order_relaxed);
        begin_as_client(NULL, true);
        publish(&broker, "b", "", "x");
        (void)!esi_batch_flush(broker.batch);
        assert_null(esi_batch_blocker(broker.batch));
    }
    /* Of two the one that has more. */
    other->target.blocks = true;
    /* order: relaxed; one thread. */
    atomic_store_explicit(&sink->target.pending_bytes, 2000000, memory_order_relaxed);
    /* order: relaxed; one thread. */
    atomic_store_explicit(&other->target.pending_bytes, 3000000, memory_order_relaxed);
    begin_as_client(NULL, true);
    publish(&broker, "b", "", "x");
    (void)!esi_batch_flush(broker.batch);
    assert_ptr_equal(esi_batch_blocker(broker.batch), &other->target);
    unsubscribe(subs[0]);
    unsubscribe(subs[1]);
    free_sink(sink);
    free_sink(other);
}

static uint64_t lost_of(const struct sink *sink)
{
    /* order: relaxed; one thread. */
    return atomic_load_explicit(&sink->target.lost_msgs, memory_order_relaxed);
}

/* Messages for which there is no memory are counted for each who should have had them. */
static void test_lost_for_want_of_memory(void **state)
{
    struct esi_ledger *ledger = NULL;
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);
    struct sink *self = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {subscribe(one, "m", "", "1", 0), subscribe(two, "m", "", "1", 0),
                              subscribe(two, "m", "", "2", SUB_RECORDS),
                              subscribe(self, "m", "", "1", 0)};
    struct esi_sub *counted = subscribe_counted(one, "", "1", 1);
    assert_int_equal(esi_ledger_new(4 * 1024 * 1024, 1, &ledger), ES_OK);
    struct esi_lease *lease = esi_ledger_lease(ledger, 0);
    broker.pools.blocks.lease = lease;
    begin_as_client(self, false); /* its block for bodies is taken before */
    assert_true(esi_ledger_take(lease, MEMORY_OUTBOUND,
                                ledger->classes[MEMORY_TRANSIT].limit_bytes -
                                    esi_ledger_leased_bytes(ledger, MEMORY_TRANSIT) +
                                    lease->spare_bytes[MEMORY_TRANSIT]));
    publish(&broker, "m", "", "x");
    publish(&broker, "m", "", "y");
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(lost_of(one), 2);
    assert_int_equal(lost_of(two), 4);
    assert_int_equal(lost_of(self), 0); /* it wants no echo */
    assert_int_equal(stats_of_batch().dropped, 6);
    assert_string_equal(take(one), "");
    /* What was lost counts towards no maximum. */
    assert_int_equal(publish(&broker, "c", "r", "lost"), 1);
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(lost_of(one), 3);
    esi_ledger_give(lease, MEMORY_OUTBOUND, esi_ledger_owner_bytes(ledger, MEMORY_OUTBOUND));
    begin_as_client(self, false);
    publish(&broker, "m", "", "z");
    assert_int_equal(publish(&broker, "c", "r", "y"), 1);
    assert_int_equal(publish(&broker, "c", "r", "x"), 0);
    (void)!esi_batch_flush(broker.batch);
    assert_string_equal(take(one), "MSG m 1 1\r\nz\r\nMSG c 1 r 1\r\ny\r\n");
    assert_int_equal(lost_of(one), 3);
    unsubscribe(counted);
    for (size_t i = 0; i < 4; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(one);
    free_sink(two);
    free_sink(self);
    broker.pools.blocks.lease = NULL;
    esi_ledger_free(ledger);
}

/* --- changes between messages --- */

/* A change of subscriptions takes effect between two messages of one batch, not before and not
 * later. */
static void test_changes_within_a_batch(void **state)
{
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);

    (void)state;
    struct esi_sub *first = subscribe(one, "c", "", "1", 0);
    begin_as_client(NULL, true);
    for (uint32_t i = 0; i < 3; i++) {
        publish(&broker, "c", "", "a");
    }
    struct esi_sub *second = subscribe(two, "*", "", "1", 0);
    publish(&broker, "c", "", "b");
    struct esi_retired *retired = NULL;
    esi_subtable_remove(broker.table, first, &retired);
    publish(&broker, "c", "", "c");
    (void)!esi_batch_flush(broker.batch);
    /* The turn has ended: now a grace period could have passed. */
    esi_subtable_free_retired(retired);
    free(first);
    assert_string_equal(take(one),
                        "MSG c 1 1\r\na\r\nMSG c 1 1\r\na\r\nMSG c 1 1\r\na\r\nMSG c 1 1\r\nb\r\n");
    assert_string_equal(take(two), "MSG c 1 1\r\nb\r\nMSG c 1 1\r\nc\r\n");
    unsubscribe(second);
    free_sink(one);
    free_sink(two);
}

/* --- random traffic against a model --- */

enum { SINKS = 6, SUBS = 24, ROUNDS = 400, MESSAGES_MAX = 60 };

struct expected_msg {
    uint32_t number;
    uint32_t copies; /* plain subscriptions of this sink that match */
};

struct traffic {
    struct sink *sinks[SINKS];
    struct esi_sub *subs[SUBS];
    struct esi_bytes expected[SINKS]; /* of struct expected_msg */
    uint64_t in_groups;               /* messages that groups of all sinks must have got */
};

static const char *const patterns[] = {"a", "b", "a.a", "a.b", "a.*",   "*.a",
                                       ">", "*", "a.>", "b.*", "c.c.c", "c.>"};
static const char *const subjects[] = {"a", "b", "a.a", "a.b", "b.a", "c.c.c", "none"};
static uint64_t random_state = 77;

static uint32_t draw_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 20) % limit);
}

struct counting {
    struct traffic *traffic;
    uint32_t copies[SINKS];
    bool has_group[3];
};

static void count_match(void *argument, struct esi_sub *sub)
{
    struct counting *counting = argument;

    if (sub->queue.len > 0) {
        counting->has_group[sub->queue.data[0] - 'x'] = true;
        return;
    }
    for (uint32_t i = 0; i < SINKS; i++) {
        counting->copies[i] += sub->target == &counting->traffic->sinks[i]->target;
    }
}

static void publish_modelled(struct traffic *traffic, uint32_t number)
{
    const char *subject = subjects[draw_below(7)];
    struct counting counting = {.traffic = traffic};
    char *payload = test_malloc(12000);
    const uint32_t kind = draw_below(10);
    const size_t len = kind == 0 ? 8193 + draw_below(2000) : draw_below(kind == 1 ? 8192 : 100);

    const int digits = snprintf(payload, 12000, "%08u:", number);
    memset(payload + digits, 'x', len);
    payload[(size_t)digits + len] = '\0';
    esi_subtable_walk(broker.table, esi_str_from(subject), esi_hashmap_hash(esi_str_from(subject)),
                      count_match, &counting);
    for (uint32_t i = 0; i < SINKS; i++) {
        if (counting.copies[i] > 0) {
            const struct expected_msg expected = {.number = number, .copies = counting.copies[i]};
            esi_bytes_append(&traffic->expected[i], &expected, sizeof expected);
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        traffic->in_groups += counting.has_group[i];
    }
    publish(&broker, subject, draw_below(3) == 0 ? "reply.to" : "", payload);
    test_free(payload);
}

/* Reads one message out of what a sink got: its number and whether a group's sid brought it.
 * Returns its end. */
static const char *read_msg(const char *at, uint32_t *number, bool *is_group)
{
    char sid[16];
    char subject[32];
    char third[32];
    char fourth[32] = "";
    char line[128];

    const char *line_end = strstr(at, "\r\n");
    broker_check(line_end != NULL && (size_t)(line_end - at) < sizeof line);
    snprintf(line, sizeof line, "%.*s", (int)(line_end - at), at);
    const int fields = sscanf(line, "MSG %31s %15s %31s %31s", subject, sid, third, fourth);
    broker_check(fields == 3 || fields == 4);
    const size_t len = strtoul(fields == 4 ? fourth : third, NULL, 10);
    const char *body = line_end + 2;
    *number = (uint32_t)strtoul(body, NULL, 10);
    *is_group = sid[0] == 'g';
    broker_check(body[8] == ':');
    for (size_t i = 9; i < len; i++) {
        broker_check(body[i] == 'x');
    }
    broker_check(memcmp(body + len, "\r\n", 2) == 0);
    return body + len + 2;
}

static void compare_sink(struct traffic *traffic, uint32_t index, uint64_t *in_groups)
{
    struct sink *sink = traffic->sinks[index];
    struct esi_bytes *expected = &traffic->expected[index];
    const struct expected_msg *next = (const struct expected_msg *)(const void *)expected->data;
    const struct expected_msg *end = next + expected->len / sizeof *next;
    uint32_t copies = 0;
    uint32_t last = 0;
    uint64_t read = 0;

    const size_t len = sink->got.len;
    const char *at = take(sink);
    const char *limit = at + len;
    while (at < limit) {
        uint32_t number = 0;
        bool is_group = false;
        at = read_msg(at, &number, &is_group);
        read++;
        broker_check(number >= last);
        last = number;
        if (is_group) {
            (*in_groups)++;
            continue;
        }
        broker_check(next < end && next->number == number);
        if (++copies == next->copies) {
            next++;
            copies = 0;
        }
    }
    broker_check(at == limit && next == end && copies == 0);
    broker_check(read == sink->messages);
    sink->messages = 0;
    esi_bytes_clear(expected);
}

static void change_subscriptions(struct traffic *traffic)
{
    struct esi_sub **sub = &traffic->subs[draw_below(SUBS)];
    struct sink *sink = traffic->sinks[draw_below(SINKS)];
    const char *pattern = patterns[draw_below(12)];

    if (*sub != NULL) {
        unsubscribe(*sub);
        *sub = NULL;
    } else if (draw_below(3) == 0) {
        static const char *const groups[] = {"x", "y", "z"};
        *sub = subscribe(sink, pattern, groups[draw_below(3)], "g1",
                         draw_below(2) == 0 ? SUB_RECORDS : 0);
    } else {
        static const char *const sids[] = {"1", "1", "2", "33"};
        *sub =
            subscribe(sink, pattern, "", sids[draw_below(4)], draw_below(5) == 0 ? SUB_RECORDS : 0);
    }
}

static void test_random_traffic(void **state)
{
    struct traffic traffic = {0};
    uint32_t number = 1;
    uint64_t in_groups = 0;

    (void)state;
    for (uint32_t i = 0; i < SINKS; i++) {
        traffic.sinks[i] = new_sink(&broker, false);
        esi_bytes_init(&traffic.expected[i], 0);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = draw_below(4); i > 0; i--) {
            change_subscriptions(&traffic);
        }
        begin(&broker, SOURCE_CLIENT, NULL, true, MESSAGES_MAX * 12000);
        for (uint32_t i = draw_below(MESSAGES_MAX); i > 0; i--) {
            publish_modelled(&traffic, number++);
        }
        (void)!esi_batch_flush(broker.batch);
        for (uint32_t i = 0; i < SINKS; i++) {
            compare_sink(&traffic, i, &in_groups);
        }
        assert_int_equal(in_groups, traffic.in_groups);
    }
    assert_true(in_groups > 100 && stats_of_batch().messages_out > 5000);
    assert_int_equal(stats_of_batch().dropped, 0);
    for (uint32_t i = 0; i < SUBS; i++) {
        if (traffic.subs[i] != NULL) {
            unsubscribe(traffic.subs[i]);
        }
    }
    for (uint32_t i = 0; i < SINKS; i++) {
        free_sink(traffic.sinks[i]);
        esi_bytes_deinit(&traffic.expected[i]);
    }
}

/* --- lines that are copied --- */

enum { RUNS = 40, RUN_MSGS_MAX = 400, RUN_ROOM = RUN_MSGS_MAX * 9100 };

/* Appends what a receiver must see: verb, names, reply, sizes, and the bytes without what it has no
 * use for. */
static void expect_msg(struct esi_bytes *expected, bool is_link, const char *sid, bool has_headers,
                       const struct esi_publish *message)
{
    char line[256];
    const bool is_hmsg = has_headers && message->header_len > 0;
    const size_t skipped = has_headers ? 0 : message->header_len;
    const struct esi_str reply =
        is_link && message->extra.len > 0 ? message->extra : message->reply;
    int len = snprintf(line, sizeof line, "%s%s r.x %s%.*s%s",
                       is_hmsg   ? "H"
                       : is_link ? "R"
                                 : "",
                       is_link ? "MSG $G" : "MSG", is_link ? "" : sid, (int)reply.len, reply.data,
                       reply.len > 0 ? " " : "");
    esi_bytes_append(expected, line, (size_t)len);
    if (is_hmsg) {
        len = snprintf(line, sizeof line, "%zu ", message->header_len);
        esi_bytes_append(expected, line, (size_t)len);
    }
    len = snprintf(line, sizeof line, "%zu\r\n", message->total_len - skipped);
    esi_bytes_append(expected, line, (size_t)len);
    esi_bytes_append(expected, message->body + skipped, message->total_len - skipped + 2);
}

/* Mostly the sizes of the message before, so that lines repeat. */
static struct esi_publish draw_message(size_t *payload_len)
{
    static const char header[] = "NATS/1.0\r\n\r\n";
    char body[9100];
    struct esi_publish message = {.subject = ESI_STR("r.x")};

    if (draw_below(4) == 0) {
        *payload_len = draw_below(8) == 0 ? 8180 + draw_below(40) : draw_below(300);
    }
    message.header_len = draw_below(5) == 0 ? sizeof header - 1 : 0;
    message.total_len = *payload_len;
    if (*payload_len < message.header_len || draw_below(2) == 0) {
        message.total_len += message.header_len;
    }
    memset(body, (int)('a' + draw_below(26)), message.total_len);
    memcpy(body, header, message.header_len);
    message.body = put_body(&broker, body, message.total_len);
    if (draw_below(6) == 0) {
        message.reply = ESI_STR("answer");
        message.extra = draw_below(3) == 0 ? ESI_STR("_GR_.abcdef.ghijkl.answer") : ESI_STR("");
    }
    return message;
}

/* The messages of a run often have the same line, which is then copied: whatever sizes, headers and
 * replies follow each other, through the ends of output blocks and between messages that go by
 * themselves, each receiver gets the bytes that it would get from a run of one. */
static void test_lines_of_a_run(void **state)
{
    static const struct {
        bool is_link;
        const char *subject;
        const char *sid;
        uint32_t flags;
    } kinds[] = {{false, "r.x", "1 ", SUB_HEADERS},
                 {false, "r.x", "22 ", 0},
                 {false, "r.*", "3 ", SUB_HEADERS | SUB_RECORDS},
                 {true, "r.x", "", SUB_HEADERS},
                 {true, "r.*", "", 0},
                 {true, ">", "", SUB_HEADERS | SUB_OPTIMISTIC}};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    struct sink *sinks[KINDS];
    struct esi_sub *subs[KINDS];
    struct esi_bytes expected;
    size_t payload_len = 16;

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        char sid[4] = "";
        memcpy(sid, kinds[i].sid, strcspn(kinds[i].sid, " "));
        sinks[i] = new_sink(&broker, kinds[i].is_link);
        subs[i] = subscribe(sinks[i], kinds[i].subject, "", sid, kinds[i].flags);
    }
    for (uint32_t run = 0; run < RUNS; run++) {
        struct esi_publish messages[RUN_MSGS_MAX];
        const size_t count = 1 + draw_below(RUN_MSGS_MAX);
        begin(&broker, SOURCE_GATEWAY_REPLY, NULL, true, RUN_ROOM);
        for (size_t i = 0; i < count; i++) {
            messages[i] = draw_message(&payload_len);
            assert_int_equal(esi_batch_add(broker.batch, &messages[i]), KINDS);
        }
        (void)!esi_batch_flush(broker.batch);
        for (size_t i = 0; i < KINDS; i++) {
            esi_bytes_init(&expected, 0);
            for (size_t j = 0; j < count; j++) {
                expect_msg(&expected, kinds[i].is_link, kinds[i].sid,
                           (kinds[i].flags & SUB_HEADERS) != 0, &messages[j]);
            }
            assert_int_equal(sinks[i]->got.len, expected.len);
            assert_memory_equal(take(sinks[i]), expected.data, expected.len);
            assert_int_equal(sinks[i]->messages, count);
            sinks[i]->messages = 0;
            esi_bytes_deinit(&expected);
        }
    }
    for (size_t i = 0; i < KINDS; i++) {
        unsubscribe(subs[i]);
        free_sink(sinks[i]);
    }
}

/* Messages that follow each other are one piece of a link's delivery. */
static void test_link_gets_a_run_in_one_piece(void **state)
{
    struct sink *link = new_sink(&broker, true);

    (void)state;
    link->keeps_last = true;
    struct esi_sub *sub = subscribe(link, "r.x", "", "", 0);
    begin_as_client(NULL, true);
    for (int i = 0; i < 100; i++) {
        publish(&broker, "r.x", "", i % 2 == 0 ? "even" : "odd");
    }
    (void)!esi_batch_flush(broker.batch);
    assert_int_equal(link->messages, 100);
    assert_int_equal(link->last->slice_count, 1);
    assert_int_equal(link->last->slices[0].message_count, 100);
    assert_int_equal(link->last->slices[0].payload_len, 50 * 4 + 50 * 3);
    unsubscribe(sub);
    free_sink(link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ever_other_subjects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_headers_are_kept_or_stripped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_echo, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_over_subscriptions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_groups_choose_one_each, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_groups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_payloads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_slices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_maximum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_maximum_in_a_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_maximum_of_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lines_for_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_from_a_gateway, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_named_groups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_young_replies_are_mapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mapped_replies_travel_beside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_link_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sources_change_within_a_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_optimistic_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pause, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_blocker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_for_want_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changes_within_a_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random_traffic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lines_of_a_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_gets_a_run_in_one_piece, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
