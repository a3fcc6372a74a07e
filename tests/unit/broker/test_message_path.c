/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no allocation a message. Method: the linker leads every allocation of the program's own
 * code through counters; a warm batch brings 10 000 messages of each kind to its targets, then 20
 * 000 more, and neither the counters nor those of the pools follow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker_case.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static uint64_t allocations;

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __real_aligned_alloc(alignment, size);
}

/* A pool may meet its high-water mark late, since members of a group are chosen by chance. */
enum { SUBJECTS = 100, READ_BYTES = 60000, LARGE_BYTES = 9000, LATE_MAX = 8 };

static struct broker_case broker;
static struct sink *sinks[5];
static struct esi_sub *subs[6];
static char subjects[SUBJECTS][24];
static char payload[LARGE_BYTES];

/* Takes a delivery as a connection does, but keeps nothing. */
static void swallow(struct esi_target *target, struct esi_delivery *delivery)
{
    struct sink *sink = (struct sink *)(void *)target;

    check_delivery(delivery);
    sink->messages += delivery->message_count;
    sink->deliveries++;
    /* order: relaxed; one thread. */
    atomic_fetch_sub_explicit(&target->pending_bytes, delivery->bytes, memory_order_relaxed);
    esi_delivery_free(delivery, 0, &broker.pools);
}

static int set_up(void **state)
{
    (void)state;
    broker_case_init(&broker, 1);
    for (size_t i = 0; i < 5; i++) {
        sinks[i] = new_sink(&broker, i == 4);
        sinks[i]->target.deliver = swallow;
    }
    subs[0] = subscribe(sinks[0], "work.*", "", "1", 0);
    subs[1] = subscribe(sinks[1], ">", "", "1", SUB_HEADERS);
    subs[2] = subscribe(sinks[2], "work.*", "group", "2", 0);
    subs[3] = subscribe(sinks[3], "work.>", "group", "3", 0);
    subs[4] = subscribe(sinks[3], "work.counted", "", "4", SUB_RECORDS);
    subs[5] = subscribe(sinks[4], "work.*", "", "", SUB_HEADERS);
    for (uint32_t i = 0; i < SUBJECTS; i++) {
        snprintf(subjects[i], sizeof subjects[i], "work.%u", i);
    }
    memset(payload, 'p', sizeof payload);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        unsubscribe(subs[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        free_sink(sinks[i]);
    }
    broker_case_deinit(&broker);
    return 0;
}

struct kind {
    const char *name;
    const char *subject; /* NULL: one after the other of many */
    const char *reply;
    size_t len;
    size_t header_len;
};

/* Reads and publishes as a connection does: a block after the other, one batch a block. */
static void publish_many(const struct kind *kind, uint32_t count)
{
    const size_t each = kind->len + 2;

    for (uint32_t i = 0; i < count;) {
        if (broker.read != NULL && esi_block_is_unique(broker.read)) {
            broker.read_used = 0;
        }
        begin(&broker, SOURCE_CLIENT, NULL, true, READ_BYTES);
        while (i < count && broker.read->capacity - broker.read_used >= each) {
            const struct esi_publish message = {
                .subject =
                    esi_str_from(kind->subject != NULL ? kind->subject : subjects[i % SUBJECTS]),
                .reply = esi_str_from(kind->reply),
                .body = put_body(&broker, payload, kind->len),
                .header_len = kind->header_len,
                .total_len = kind->len};
            broker_check(esi_batch_add(broker.batch, &message) > 0);
            i++;
        }
        (void)!esi_batch_flush(broker.batch);
    }
}

static uint64_t count_all(void)
{
    return allocations + broker.pools.blocks.allocation_count +
           broker.pools.deliveries.allocation_count;
}

static void test_no_allocation_a_message(void **state)
{
    static const struct kind kinds[] = {
        {.name = "one subject", .subject = "work.0", .reply = "", .len = 16},
        {.name = "many subjects", .reply = "", .len = 16},
        {.name = "with a reply", .subject = "work.0", .reply = "_INBOX.abc.1", .len = 16},
        {.name = "with a header", .subject = "work.1", .reply = "", .len = 100, .header_len = 20},
        {.name = "records", .subject = "work.counted", .reply = "_INBOX.abc.1", .len = 16},
        {.name = "large", .subject = "work.0", .reply = "", .len = LARGE_BYTES},
        {.name = "large, many subjects", .reply = "r", .len = LARGE_BYTES},
    };

    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        uint64_t counts[2];
        publish_many(&kinds[k], 20000); /* warm */
        for (uint32_t round = 0; round < 2; round++) {
            const uint64_t before = count_all();
            const uint64_t messages_before = sinks[1]->messages;
            publish_many(&kinds[k], 10000 * (round + 1));
            counts[round] = count_all() - before;
            assert_int_equal(sinks[1]->messages - messages_before, 10000 * (round + 1));
        }
        if (counts[0] > LATE_MAX || counts[1] > LATE_MAX) {
            fail_msg("%s: %llu allocations for 10000 messages, %llu for 20000", kinds[k].name,
                     (unsigned long long)counts[0], (unsigned long long)counts[1]);
        }
    }
}

/* The counters count: a message on a new subject is looked up in the table, and its second use is
 * kept. */
static void test_the_counters_count(void **state)
{
    const struct kind kind = {.subject = "work.new", .reply = "", .len = 16};

    (void)state;
    const uint64_t before = count_all();
    publish_many(&kind, 1);
    publish_many(&kind, 1);
    assert_true(count_all() > before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_allocation_a_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_counters_count, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
