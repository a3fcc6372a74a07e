/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what the journal accepts is given out until it is answered for good, within its bounds and
 * in its order. Method: single stories, and a long seeded run of random operations against a plain
 * model of the same rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "event/event.h"
#include "journal/journal.h"

static struct esi_event *make_event(const char *id)
{
    char body[128];
    const struct esi_event_decode_options options = {.type_from_subject = ESI_STR("t.y")};
    struct esi_event *event = NULL;

    snprintf(body, sizeof body, "{\"EventID\":\"%s\"}", id);
    assert_int_equal(esi_event_decode(esi_str_from(body), &options, &event, NULL), ES_OK);
    return event;
}

static unsigned references(const struct esi_event *event)
{
    /* order: relaxed; one thread. */
    return atomic_load_explicit(&event->reference_count, memory_order_relaxed);
}

static struct esi_journal *make(struct esi_journal_options options)
{
    struct esi_journal *journal = NULL;

    assert_int_equal(esi_journal_new(&options, &journal), ES_OK);
    return journal;
}

static uint64_t accept(struct esi_journal *journal, const char *id, uint64_t handlers,
                       uint64_t now_ns)
{
    struct esi_event *event = make_event(id);
    uint64_t seq = 0;

    assert_int_equal(esi_journal_accept(journal, event, handlers, now_ns, &seq, NULL), ES_OK);
    esi_event_unref(event);
    return seq;
}

static void expect_full(struct esi_journal *journal, uint64_t handlers, int bound, uint32_t handler)
{
    struct esi_event *event = make_event("refused");
    struct esi_journal_full full = {.bound = JOURNAL_FULL_BYTES, .handler = 99};

    assert_int_equal(esi_journal_accept(journal, event, handlers, 1, NULL, &full), ES_FULL);
    assert_int_equal(full.bound, bound);
    if (bound == JOURNAL_FULL_SHARE) {
        assert_int_equal(full.handler, handler);
    }
    assert_int_equal(references(event), 1);
    esi_event_unref(event);
}

/* Takes and compares the ID; NULL: nothing to take. */
static uint64_t take(struct esi_journal *journal, uint32_t handler, uint64_t now_ns, const char *id)
{
    struct esi_journal_delivery delivery = {0};
    const enum es_err err = esi_journal_take(journal, handler, now_ns, &delivery);

    if (id == NULL) {
        assert_int_equal(err, ES_AGAIN);
        return 0;
    }
    assert_int_equal(err, ES_OK);
    if (!esi_str_equal(delivery.event->id, esi_str_from(id))) {
        fail_msg("expected %s, got %.*s", id, ESI_STR_ARG(delivery.event->id));
    }
    return delivery.seq;
}

static void expect_state(const struct esi_journal *journal, const char *id, uint32_t handler,
                         enum esi_journal_state state, uint32_t attempts, const char *note)
{
    struct esi_journal_view view;

    assert_int_equal(esi_journal_find(journal, esi_str_from(id), &view), ES_OK);
    for (uint32_t i = 0; i < view.entry_count; i++) {
        if (view.entries[i].handler == handler) {
            if (view.entries[i].state != state) {
                fail_msg("%s: expected %s, got %s", id, esi_journal_state_text(state),
                         esi_journal_state_text(view.entries[i].state));
            }
            assert_int_equal(view.entries[i].attempts, attempts);
            assert_true(esi_str_equal(view.entries[i].note, esi_str_from(note)));
            return;
        }
    }
    fail_msg("%s has no handler %u", id, handler);
}

static void shows_the_mark_of_the_owner(void **state)
{
    struct esi_journal *journal =
        make((struct esi_journal_options){.event_limit = 2, .handler_count = 1, .history_max = 1});
    static struct esi_journal_view view;
    (void)state;

    const uint64_t seq = accept(journal, "a", 1, 1);
    assert_int_equal(esi_journal_find(journal, ESI_STR("a"), &view), ES_OK);
    assert_int_equal(view.mark, 0);
    assert_int_equal(esi_journal_set_mark(journal, seq, 7), ES_OK);
    assert_int_equal(esi_journal_find(journal, ESI_STR("a"), &view), ES_OK);
    assert_int_equal(view.mark, 7);
    assert_int_equal(esi_journal_set_mark(journal, seq + 1, 7), ES_NOT_FOUND);
    esi_journal_free(journal);
}

static void delivers_in_the_order_of_acceptance(void **state)
{
    struct esi_journal *journal = make(
        (struct esi_journal_options){.event_limit = 100, .handler_count = 2, .history_max = 9});
    struct esi_journal_stats stats;

    (void)state;
    accept(journal, "a", 3, 1);
    accept(journal, "b", 1, 2);
    accept(journal, "c", 2, 3);
    const uint64_t a = take(journal, 0, 5, "a");
    const uint64_t b = take(journal, 0, 5, "b");
    take(journal, 0, 5, NULL);
    assert_int_equal(take(journal, 1, 5, "a"), a);
    take(journal, 1, 5, "c");
    expect_state(journal, "a", 0, JOURNAL_IN_FLIGHT, 1, NULL);
    assert_int_equal(esi_journal_deliver(journal, 0, a, 6, ESI_STR("thanks")), ES_OK);
    expect_state(journal, "a", 0, JOURNAL_DELIVERED, 1, "thanks");
    expect_state(journal, "a", 1, JOURNAL_IN_FLIGHT, 1, NULL);
    assert_int_equal(esi_journal_deliver(journal, 0, b, 6, ESI_STR("")), ES_OK);
    /* Answered for good by all its handlers: remembered, no longer open. */
    expect_state(journal, "b", 0, JOURNAL_DELIVERED, 1, NULL);
    esi_journal_stats(journal, &stats);
    assert_int_equal(stats.open_events, 2);
    assert_int_equal(stats.history_count, 1);
    assert_int_equal(stats.finished, 1);
    esi_journal_free(journal);
    esi_journal_free(NULL);
}

static void remembers_the_finished(void **state)
{
    struct esi_journal *journal =
        make((struct esi_journal_options){.event_limit = 10, .handler_count = 1, .history_max = 2});
    struct esi_journal_view view;
    static const char *const ids[] = {"a", "b", "c"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const uint64_t seq = accept(journal, ids[i], 1, 10);
        take(journal, 0, 20, ids[i]);
        assert_int_equal(esi_journal_deliver(journal, 0, seq, 30, ESI_STR("ok")), ES_OK);
    }
    assert_int_equal(esi_journal_find(journal, ESI_STR("a"), &view), ES_NOT_FOUND);
    assert_int_equal(esi_journal_find(journal, ESI_STR("b"), &view), ES_OK);
    assert_false(view.is_open);
    assert_int_equal(view.accepted_ns, 10);
    assert_int_equal(view.entries[0].changed_ns, 30);
    assert_true(esi_str_equal(view.type, ESI_STR("t.y")));
    expect_state(journal, "c", 0, JOURNAL_DELIVERED, 1, "ok");
    esi_journal_free(journal);
}

static void lets_the_event_go_when_it_is_finished(void **state)
{
    struct esi_journal *journal =
        make((struct esi_journal_options){.event_limit = 10, .handler_count = 2, .history_max = 5});
    struct esi_event *event = make_event("a");
    struct esi_event *buried = NULL;
    uint64_t seq = 0;

    (void)state;
    assert_int_equal(esi_journal_accept(journal, event, 3, 1, &seq, NULL), ES_OK);
    assert_int_equal(references(event), 2);
    take(journal, 0, 2, "a");
    assert_int_equal(esi_journal_deliver(journal, 0, seq, 3, ESI_STR("")), ES_OK);
    assert_int_equal(references(event), 2);
    assert_int_equal(esi_journal_bury(journal, 1, seq, 3, ESI_STR("no worker"), &buried), ES_OK);
    assert_ptr_equal(buried, event);
    assert_int_equal(references(event), 2);
    esi_event_unref(buried);
    expect_state(journal, "a", 1, JOURNAL_DEAD, 0, "no worker");
    esi_event_unref(event);
    esi_journal_free(journal);
}

static void refuses_beyond_its_bounds(void **state)
{
    const size_t shares[] = {0, 1};
    struct esi_event *event = make_event("x");
    struct esi_journal_handler_stats stats;

    (void)state;
    struct esi_journal *journal =
        make((struct esi_journal_options){.event_limit = 4, .handler_count = 2, .shares = shares});
    esi_journal_handler_stats(journal, 0, &stats);
    assert_int_equal(stats.share, 2);
    const uint64_t first = accept(journal, "a", 1, 1);
    accept(journal, "b", 3, 1);
    expect_full(journal, 1, JOURNAL_FULL_SHARE, 0);
    expect_full(journal, 2, JOURNAL_FULL_SHARE, 1);
    /* What is given out still counts; what is answered does not. */
    take(journal, 0, 2, "a");
    expect_full(journal, 1, JOURNAL_FULL_SHARE, 0);
    assert_int_equal(esi_journal_deliver(journal, 0, first, 2, ESI_STR("")), ES_OK);
    accept(journal, "c", 1, 3);
    esi_journal_free(journal);

    const size_t large[] = {100};
    journal =
        make((struct esi_journal_options){.event_limit = 2, .handler_count = 1, .shares = large});
    accept(journal, "a", 1, 1);
    accept(journal, "b", 1, 1);
    expect_full(journal, 1, JOURNAL_FULL_EVENTS, 0);
    esi_journal_free(journal);

    journal = make((struct esi_journal_options){
        .event_limit = 100, .handler_count = 1, .bytes_max = 2 * event->memory_bytes});
    accept(journal, "a", 1, 1);
    accept(journal, "b", 1, 1);
    expect_full(journal, 1, JOURNAL_FULL_BYTES, 0);
    esi_journal_free(journal);

    journal = make((struct esi_journal_options){.event_limit = 1, .handler_count = 1});
    accept(journal, "a", 1, 1);
    esi_journal_free(journal);
    esi_event_unref(event);
}

static void retries_when_due(void **state)
{
    struct esi_journal *journal = make(
        (struct esi_journal_options){.event_limit = 100, .handler_count = 1, .history_max = 9});
    struct esi_journal_delivery delivery;

    (void)state;
    const uint64_t a = accept(journal, "a", 1, 1);
    const uint64_t b = accept(journal, "b", 1, 1);
    accept(journal, "c", 1, 1);
    take(journal, 0, 2, "a");
    take(journal, 0, 2, "b");
    assert_int_equal(esi_journal_next_due_ns(journal, 0), UINT64_MAX);
    assert_int_equal(
        esi_journal_retry(journal, 0, a, 3, 100, RETRY_BLAME_EVENT, ESI_STR("UNKNOWN")), ES_OK);
    assert_int_equal(esi_journal_retry(journal, 0, b, 3, 50, RETRY_BLAME_OPEN, ESI_STR("gone")),
                     ES_OK);
    expect_state(journal, "a", 0, JOURNAL_RETRYING, 1, "UNKNOWN");
    assert_int_equal(esi_journal_next_due_ns(journal, 0), 50);
    take(journal, 0, 49, "c");
    take(journal, 0, 49, NULL);
    assert_int_equal(esi_journal_take(journal, 0, 50, &delivery), ES_OK);
    assert_int_equal(delivery.seq, b);
    assert_int_equal(delivery.attempt, 2);
    assert_int_equal(delivery.counted, 0);
    assert_int_equal(delivery.losses, 1);
    take(journal, 0, 99, NULL);
    assert_int_equal(esi_journal_take(journal, 0, 100, &delivery), ES_OK);
    assert_int_equal(delivery.counted, 1);
    assert_int_equal(delivery.losses, 0);
    esi_journal_free(journal);
}

/* A worker that is back gets what was lost with the one before at once; what it failed on, or what
 * may have killed it, not earlier for that. */
static void wakes_what_was_lost(void **state)
{
    struct esi_journal *journal =
        make((struct esi_journal_options){.event_limit = 100, .handler_count = 1});
    static const struct {
        const char *id;
        enum esi_retry_blame blame;
        uint64_t next_ns;
    } retries[] = {
        {"a", RETRY_BLAME_EVENT, 910},
        {"b", RETRY_BLAME_OPEN, 920},
        {"c", RETRY_BLAME_WORKER, 930},
        {"d", RETRY_BLAME_EVENT, 90},
    };

    (void)state;
    for (size_t i = 0; i < sizeof retries / sizeof retries[0]; i++) {
        const uint64_t seq = accept(journal, retries[i].id, 1, 1);
        take(journal, 0, 2, retries[i].id);
        assert_int_equal(esi_journal_retry(journal, 0, seq, 3, retries[i].next_ns, retries[i].blame,
                                           ESI_STR("gone")),
                         ES_OK);
    }
    esi_journal_wake(journal, 0, 102);
    take(journal, 0, 102, "d"); /* it was due already */
    take(journal, 0, 102, "b");
    take(journal, 0, 102, "c");
    take(journal, 0, 909, NULL);
    take(journal, 0, 910, "a");
    expect_state(journal, "a", 0, JOURNAL_IN_FLIGHT, 2, "gone");
    esi_journal_free(journal);
}

static void gives_back_in_order(void **state)
{
    struct esi_journal *journal =
        make((struct esi_journal_options){.event_limit = 100, .handler_count = 1});

    (void)state;
    const uint64_t a = accept(journal, "a", 1, 1);
    const uint64_t b = accept(journal, "b", 1, 1);
    accept(journal, "c", 1, 1);
    take(journal, 0, 2, "a");
    take(journal, 0, 2, "b");
    assert_int_equal(esi_journal_give_back(journal, 0, a, 3), ES_OK);
    assert_int_equal(esi_journal_give_back(journal, 0, b, 3), ES_OK);
    expect_state(journal, "b", 0, JOURNAL_QUEUED, 0, NULL);
    take(journal, 0, 4, "a");
    take(journal, 0, 4, "b");
    take(journal, 0, 4, "c");
    expect_state(journal, "a", 0, JOURNAL_IN_FLIGHT, 1, NULL);
    esi_journal_free(journal);
}

static void keeps_the_order_where_asked(void **state)
{
    struct esi_journal *journal = make((struct esi_journal_options){
        .event_limit = 100, .handler_count = 1, .ordered_handlers = 1});

    (void)state;
    const uint64_t a = accept(journal, "a", 1, 1);
    accept(journal, "b", 1, 1);
    take(journal, 0, 2, "a");
    take(journal, 0, 2, NULL);
    assert_int_equal(esi_journal_retry(journal, 0, a, 3, 50, RETRY_BLAME_EVENT, ESI_STR("")),
                     ES_OK);
    take(journal, 0, 49, NULL);
    assert_int_equal(esi_journal_next_due_ns(journal, 0), 50);
    take(journal, 0, 50, "a");
    assert_int_equal(esi_journal_give_back(journal, 0, a, 51), ES_OK);
    take(journal, 0, 52, "a");
    assert_int_equal(esi_journal_deliver(journal, 0, a, 53, ESI_STR("")), ES_OK);
    take(journal, 0, 54, "b");
    esi_journal_free(journal);
}

static void late_and_doubled_answers_do_no_harm(void **state)
{
    struct esi_journal *journal = make(
        (struct esi_journal_options){.event_limit = 100, .handler_count = 2, .history_max = 1});
    struct esi_event *event = NULL;

    (void)state;
    const uint64_t seq = accept(journal, "a", 1, 1);
    const struct esi_str note = ESI_STR("");
    assert_int_equal(esi_journal_deliver(journal, 0, seq, 2, note), ES_NOT_FOUND);
    assert_int_equal(esi_journal_deliver(journal, 1, seq, 2, note), ES_NOT_FOUND);
    assert_int_equal(esi_journal_deliver(journal, 7, seq, 2, note), ES_NOT_FOUND);
    assert_int_equal(esi_journal_deliver(journal, 0, seq + 1, 2, note), ES_NOT_FOUND);
    assert_int_equal(esi_journal_retry(journal, 0, seq, 2, 3, RETRY_BLAME_EVENT, note),
                     ES_NOT_FOUND);
    assert_int_equal(esi_journal_give_back(journal, 0, seq, 2), ES_NOT_FOUND);
    take(journal, 0, 2, "a");
    assert_int_equal(esi_journal_deliver(journal, 0, seq, 2, note), ES_OK);
    assert_int_equal(esi_journal_deliver(journal, 0, seq, 2, note), ES_NOT_FOUND);
    assert_int_equal(esi_journal_bury(journal, 0, seq, 2, note, &event), ES_NOT_FOUND);
    assert_int_equal(esi_journal_bury(journal, 0, 99, 2, note, &event), ES_NOT_FOUND);
    assert_null(event);
    esi_journal_free(journal);
}

static void finds_the_newest_of_one_id(void **state)
{
    struct esi_journal *journal = make(
        (struct esi_journal_options){.event_limit = 100, .handler_count = 1, .history_max = 2});
    struct esi_journal_view view;

    (void)state;
    for (int i = 0; i < 5; i++) {
        accept(journal, "same", 1, (uint64_t)i);
    }
    accept(journal, "other", 1, 9);
    assert_int_equal(esi_journal_find(journal, ESI_STR("same"), &view), ES_OK);
    assert_int_equal(view.seq, 5);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        take(journal, 0, 10, seq <= 5 ? "same" : "other");
    }
    /* Finished newest first: the two last finished are remembered, so the newest known one changes.
     */
    for (uint64_t seq = 5; seq >= 1; seq--) {
        assert_int_equal(esi_journal_deliver(journal, 0, seq, 11, ESI_STR("")), ES_OK);
        assert_int_equal(esi_journal_find(journal, ESI_STR("same"), &view), ES_OK);
        assert_int_equal(view.seq, seq >= 4 ? 5 : seq == 3 ? 4 : seq == 2 ? 3 : 2);
    }
    esi_journal_free(journal);
}

/* The model: the same rules over plain arrays, searched in full. */
enum { MODEL_EVENTS = 4000, MODEL_HANDLERS = 3, MODEL_LIMIT = 40, MODEL_OPERATIONS = 60000 };

struct model_entry {
    bool is_there;
    enum esi_journal_state state;
    uint64_t next_ns;
    bool is_in_heap;
    uint32_t attempts;
};

struct model {
    struct model_entry entries[MODEL_EVENTS + 2][MODEL_HANDLERS];
    uint64_t last_seq;
    uint64_t random;
};

static uint32_t draw(struct model *model, uint32_t below)
{
    model->random = model->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(model->random >> 33) % below;
}

static bool is_open(const struct model_entry *entry)
{
    return entry->is_there && entry->state != JOURNAL_DELIVERED && entry->state != JOURNAL_DEAD;
}

static size_t count_open(const struct model *model, uint32_t handler)
{
    size_t count = 0;

    for (uint64_t seq = 1; seq <= model->last_seq; seq++) {
        count += is_open(&model->entries[seq][handler]);
    }
    return count;
}

static size_t count_open_events(const struct model *model)
{
    size_t count = 0;

    for (uint64_t seq = 1; seq <= model->last_seq; seq++) {
        bool any = false;
        for (uint32_t handler = 0; handler < MODEL_HANDLERS; handler++) {
            any = any || is_open(&model->entries[seq][handler]);
        }
        count += any;
    }
    return count;
}

/* What take must give: the due one with the least (time, number), else the oldest queued; 0:
 * nothing. */
static uint64_t model_choice(const struct model *model, uint32_t handler, uint64_t now_ns)
{
    uint64_t due = 0;
    uint64_t queued = 0;

    for (uint64_t seq = 1; seq <= model->last_seq; seq++) {
        const struct model_entry *entry = &model->entries[seq][handler];
        if (!is_open(entry) || entry->state == JOURNAL_IN_FLIGHT) {
            continue;
        }
        if (entry->is_in_heap) {
            if (entry->next_ns <= now_ns &&
                (due == 0 || entry->next_ns < model->entries[due][handler].next_ns)) {
                due = seq;
            }
        } else if (queued == 0) {
            queued = seq;
        }
    }
    return due != 0 ? due : queued;
}

static void try_accept(struct model *model, struct esi_journal *journal, uint64_t now_ns)
{
    char id[32];
    const uint64_t handlers = 1 + draw(model, 7);
    bool fits = count_open_events(model) < MODEL_LIMIT;
    uint64_t seq = 0;

    if (model->last_seq == MODEL_EVENTS) {
        return;
    }
    for (uint32_t handler = 0; handler < MODEL_HANDLERS; handler++) {
        if ((handlers >> handler & 1) != 0 && count_open(model, handler) >= MODEL_LIMIT / 2) {
            fits = false;
        }
    }
    snprintf(id, sizeof id, "%u", draw(model, 500));
    struct esi_event *event = make_event(id);
    assert_int_equal(esi_journal_accept(journal, event, handlers, now_ns, &seq, NULL),
                     fits ? ES_OK : ES_FULL);
    esi_event_unref(event);
    if (!fits) {
        return;
    }
    assert_int_equal(seq, ++model->last_seq);
    for (uint32_t handler = 0; handler < MODEL_HANDLERS; handler++) {
        model->entries[seq][handler].is_there = (handlers >> handler & 1) != 0;
    }
}

static void try_take(struct model *model, struct esi_journal *journal, uint64_t now_ns)
{
    const uint32_t handler = draw(model, MODEL_HANDLERS);
    const uint64_t expected = model_choice(model, handler, now_ns);
    struct esi_journal_delivery delivery = {0};

    assert_int_equal(esi_journal_take(journal, handler, now_ns, &delivery),
                     expected != 0 ? ES_OK : ES_AGAIN);
    assert_int_equal(delivery.seq, expected);
    if (expected != 0) {
        struct model_entry *entry = &model->entries[expected][handler];
        entry->state = JOURNAL_IN_FLIGHT;
        entry->is_in_heap = false;
        entry->attempts++;
        assert_int_equal(delivery.attempt, entry->attempts);
    }
}

/* Mostly an entry that is in flight, else any number. */
static uint64_t choose_answered(struct model *model, uint32_t handler)
{
    uint64_t seq = draw(model, (uint32_t)model->last_seq + 2);

    if (draw(model, 4) == 0) {
        return seq;
    }
    for (uint64_t i = 0; i <= model->last_seq; i++) {
        seq = seq < model->last_seq ? seq + 1 : 0;
        if (is_open(&model->entries[seq][handler]) &&
            model->entries[seq][handler].state == JOURNAL_IN_FLIGHT) {
            break;
        }
    }
    return seq;
}

static void try_answer(struct model *model, struct esi_journal *journal, uint64_t now_ns)
{
    const uint32_t handler = draw(model, MODEL_HANDLERS);
    const uint64_t seq = choose_answered(model, handler);
    struct model_entry *entry = &model->entries[seq][handler];
    const bool in_flight = is_open(entry) && entry->state == JOURNAL_IN_FLIGHT;
    const enum es_err expected = in_flight ? ES_OK : ES_NOT_FOUND;
    struct esi_event *event = NULL;
    uint64_t next_ns;

    switch (draw(model, 5)) {
    case 0:
        next_ns = now_ns + draw(model, 200);
        assert_int_equal(esi_journal_retry(journal, handler, seq, now_ns, next_ns,
                                           RETRY_BLAME_EVENT, ESI_STR("why")),
                         expected);
        if (in_flight) {
            *entry = (struct model_entry){.is_there = true,
                                          .state = JOURNAL_RETRYING,
                                          .next_ns = next_ns,
                                          .is_in_heap = true,
                                          .attempts = entry->attempts};
        }
        break;
    case 1:
        assert_int_equal(esi_journal_give_back(journal, handler, seq, now_ns), expected);
        if (in_flight) {
            *entry = (struct model_entry){.is_there = true,
                                          .state = JOURNAL_QUEUED,
                                          .is_in_heap = true,
                                          .attempts = entry->attempts - 1};
        }
        break;
    case 2:
        if (draw(model, 4) == 0) {
            assert_int_equal(
                esi_journal_bury(journal, handler, seq, now_ns, ESI_STR("dead"), &event),
                is_open(entry) ? ES_OK : ES_NOT_FOUND);
            if (is_open(entry)) {
                entry->state = JOURNAL_DEAD;
            }
            esi_event_unref(event);
            break;
        }
        __attribute__((fallthrough));
    default:
        assert_int_equal(esi_journal_deliver(journal, handler, seq, now_ns, ESI_STR("ok")),
                         expected);
        if (in_flight) {
            entry->state = JOURNAL_DELIVERED;
        }
        break;
    }
}

static void expect_stats(const struct model *model, const struct esi_journal *journal)
{
    struct esi_journal_stats stats;
    struct esi_journal_handler_stats of;

    esi_journal_stats(journal, &stats);
    assert_int_equal(stats.open_events, count_open_events(model));
    assert_int_equal(stats.accepted, model->last_seq);
    assert_int_equal(stats.open_bytes == 0, stats.open_events == 0);
    for (uint32_t handler = 0; handler < MODEL_HANDLERS; handler++) {
        esi_journal_handler_stats(journal, handler, &of);
        assert_int_equal(of.queued + of.in_flight + of.retrying, count_open(model, handler));
    }
}

static void behaves_as_the_model(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    struct esi_journal *journal = make((struct esi_journal_options){
        .event_limit = MODEL_LIMIT, .handler_count = MODEL_HANDLERS, .history_max = 25});
    uint64_t now_ns = 1000;

    (void)state;
    assert_non_null(model);
    model->random = 20201204;
    for (int i = 0; i < MODEL_OPERATIONS; i++) {
        now_ns += draw(model, 20);
        switch (draw(model, 5)) {
        case 0:
            try_accept(model, journal, now_ns);
            break;
        case 1:
        case 2:
            try_take(model, journal, now_ns);
            break;
        default:
            try_answer(model, journal, now_ns);
            break;
        }
        if (i % 64 == 0) {
            expect_stats(model, journal);
        }
    }
    /* The run must have gone through many events, or it has shown nothing. */
    assert_true(model->last_seq > 1000);
    esi_journal_free(journal);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_the_mark_of_the_owner),
        cmocka_unit_test(delivers_in_the_order_of_acceptance),
        cmocka_unit_test(remembers_the_finished),
        cmocka_unit_test(lets_the_event_go_when_it_is_finished),
        cmocka_unit_test(refuses_beyond_its_bounds),
        cmocka_unit_test(retries_when_due),
        cmocka_unit_test(wakes_what_was_lost),
        cmocka_unit_test(gives_back_in_order),
        cmocka_unit_test(keeps_the_order_where_asked),
        cmocka_unit_test(late_and_doubled_answers_do_no_harm),
        cmocka_unit_test(finds_the_newest_of_one_id),
        cmocka_unit_test(behaves_as_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
