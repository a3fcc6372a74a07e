/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal in memory: see journal.h.
 *
 * A record stands in the list of all (order of acceptance), in a table by number, in a table by
 * event ID (records with the same ID form a ring, the table points to the newest), and, once
 * finished, in the history (order of finishing). An entry waits either in its handler's queue (a
 * list) or in its heap (a retry with its time; what was given back has time 0). Room in tables and
 * heaps is made when an event is accepted, so that nothing later can fail.
 */
#include "journal/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hashmap.h"
#include "base/list.h"
#include "base/own.h"
#include "event/event.h"

enum { NOT_IN_HEAP = UINT32_MAX, HEAP_CAPACITY_MIN = 16 };

struct record;

struct entry {
    struct esi_list queue_node; /* in the handler's queue */
    struct esi_list open_node;  /* in the handler's list of open entries */
    struct record *record;      /* borrowed */
    char *note;                 /* owned; NULL: none, or no memory for it */
    uint64_t changed_ns;
    uint64_t next_ns; /* key of the heap */
    uint32_t heap_index;
    uint32_t attempts;
    uint32_t counted;
    uint32_t losses;
    uint32_t handler;
    enum esi_retry_blame blame; /* RETRYING: of the last failure */
    enum esi_journal_state state;
};

struct record {
    struct esi_list all_node;
    struct esi_list history_node;
    struct esi_list same_id; /* a ring without a head: next is the one accepted before this one */
    struct esi_event *event; /* one reference while open, then NULL */
    uint64_t seq;
    uint64_t accepted_ns;
    uint64_t handlers; /* bits; the entries stand in their order */
    uint32_t entry_count;
    uint32_t open_count;
    uint32_t mark;       /* the owner's */
    struct esi_str id;   /* in the same allocation, behind the entries */
    struct esi_str type; /* likewise */
    struct entry entries[];
};

struct handler {
    struct esi_list queue; /* entries in the state QUEUED, in order of acceptance */
    struct esi_list open;  /* open entries, in order of acceptance */
    struct entry **heap;   /* owned */
    size_t heap_count;
    size_t heap_capacity; /* at least open_count: pushing cannot fail */
    size_t share;
    size_t open_count;
    size_t state_counts[JOURNAL_DEAD + 1]; /* open states only */
    uint64_t delivered;
    uint64_t dead;
    uint64_t retried;
    bool is_ordered;
};

struct esi_journal {
    struct esi_list all;
    struct esi_list history;
    struct esi_hashmap by_seq;
    struct esi_hashmap by_id;
    uint64_t last_seq;
    uint64_t bytes_max;
    size_t history_max;
    struct esi_journal_stats stats;
    uint32_t handler_count;
    struct handler handlers[];
};

static struct esi_str seq_key(const struct record *record)
{
    return (struct esi_str){.data = (const char *)&record->seq, .len = sizeof record->seq};
}

enum es_err esi_journal_new(const struct esi_journal_options *options, struct esi_journal **journal)
{
    ESI_REQUIRE(options->event_limit > 0);
    ESI_REQUIRE(options->handler_count > 0 && options->handler_count <= ESI_JOURNAL_HANDLERS_MAX);
    struct esi_journal *made =
        calloc(1, sizeof *made + options->handler_count * sizeof made->handlers[0]);
    if (made == NULL) {
        return ES_NO_MEMORY;
    }
    esi_list_init(&made->all);
    esi_list_init(&made->history);
    esi_hashmap_init(&made->by_seq);
    esi_hashmap_init(&made->by_id);
    made->bytes_max = options->bytes_max;
    made->history_max = options->history_max;
    made->stats.event_limit = options->event_limit;
    made->handler_count = options->handler_count;
    for (uint32_t i = 0; i < made->handler_count; i++) {
        struct handler *handler = &made->handlers[i];
        const size_t half = options->event_limit / 2;
        const size_t asked = options->shares != NULL ? options->shares[i] : 0;
        esi_list_init(&handler->queue);
        esi_list_init(&handler->open);
        handler->share = asked != 0 ? asked : half != 0 ? half : 1;
        handler->is_ordered = (options->ordered_handlers >> i & 1) != 0;
    }
    *journal = made;
    return ES_OK;
}

static void free_record(struct record *record)
{
    for (uint32_t i = 0; i < record->entry_count; i++) {
        free(record->entries[i].note);
    }
    esi_event_unref(record->event);
    free(record);
}

void esi_journal_free(struct esi_journal *journal)
{
    if (journal == NULL) {
        return;
    }
    for (struct esi_list *node = journal->all.next; node != &journal->all;) {
        struct record *record = ESI_CONTAINER_OF(node, struct record, all_node);
        node = node->next;
        free_record(record);
    }
    for (uint32_t i = 0; i < journal->handler_count; i++) {
        free(journal->handlers[i].heap);
    }
    esi_hashmap_deinit(&journal->by_seq);
    esi_hashmap_deinit(&journal->by_id);
    free(journal);
}

/* The heap: the entry that is due first on top, among equals the one accepted first. */

static bool is_before(const struct entry *a, const struct entry *b)
{
    return a->next_ns != b->next_ns ? a->next_ns < b->next_ns : a->record->seq < b->record->seq;
}

static void place(struct handler *handler, size_t index, struct entry *entry)
{
    handler->heap[index] = entry;
    entry->heap_index = (uint32_t)index;
}

static void sift_up(struct handler *handler, size_t index)
{
    struct entry *entry = handler->heap[index];

    while (index > 0 && is_before(entry, handler->heap[(index - 1) / 2])) {
        place(handler, index, handler->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    place(handler, index, entry);
}

static void sift_down(struct handler *handler, size_t index)
{
    struct entry *entry = handler->heap[index];

    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= handler->heap_count) {
            break;
        }
        if (child + 1 < handler->heap_count &&
            is_before(handler->heap[child + 1], handler->heap[child])) {
            child++;
        }
        if (!is_before(handler->heap[child], entry)) {
            break;
        }
        place(handler, index, handler->heap[child]);
        index = child;
    }
    place(handler, index, entry);
}

static void heap_push(struct handler *handler, struct entry *entry)
{
    ESI_ASSERT(handler->heap_count < handler->heap_capacity);
    place(handler, handler->heap_count++, entry);
    sift_up(handler, handler->heap_count - 1);
}

static void heap_remove(struct handler *handler, struct entry *entry)
{
    const size_t index = entry->heap_index;

    ESI_ASSERT(index < handler->heap_count && handler->heap[index] == entry);
    entry->heap_index = NOT_IN_HEAP;
    struct entry *last = handler->heap[--handler->heap_count];
    if (last != entry) {
        place(handler, index, last);
        sift_up(handler, index);
        sift_down(handler, last->heap_index);
    }
}

/* Makes room for one entry more than are open. */
static enum es_err heap_reserve(struct handler *handler)
{
    if (handler->open_count < handler->heap_capacity) {
        return ES_OK;
    }
    const size_t capacity =
        handler->heap_capacity == 0 ? (size_t)HEAP_CAPACITY_MIN : handler->heap_capacity * 2;
    struct entry **heap = realloc(handler->heap, capacity * sizeof(struct entry *));
    if (heap == NULL) {
        return ES_NO_MEMORY;
    }
    handler->heap = heap;
    handler->heap_capacity = capacity;
    return ES_OK;
}

/* Accepting. */

static bool has_room(const struct esi_journal *journal, const struct esi_event *event,
                     uint64_t handlers, struct esi_journal_full *full)
{
    const struct esi_journal_stats *stats = &journal->stats;

    if (stats->open_events >= stats->event_limit) {
        *full = (struct esi_journal_full){.bound = JOURNAL_FULL_EVENTS};
        return false;
    }
    if (journal->bytes_max != 0 && (stats->open_bytes > journal->bytes_max ||
                                    event->memory_bytes > journal->bytes_max - stats->open_bytes)) {
        *full = (struct esi_journal_full){.bound = JOURNAL_FULL_BYTES};
        return false;
    }
    for (uint64_t rest = handlers; rest != 0; rest &= rest - 1) {
        const uint32_t index = (uint32_t)__builtin_ctzll(rest);
        if (journal->handlers[index].open_count >= journal->handlers[index].share) {
            *full = (struct esi_journal_full){.bound = JOURNAL_FULL_SHARE, .handler = index};
            return false;
        }
    }
    return true;
}

/* A record in no list and no table yet; the event's reference is not taken yet. Returns NULL
 * without memory. */
static struct record *make_record(struct esi_event *event, uint64_t handlers, uint64_t now_ns)
{
    const uint32_t count = (uint32_t)__builtin_popcountll(handlers);
    const size_t head = sizeof(struct record) + count * sizeof(struct entry);
    struct record *record = calloc(1, head + event->id.len + event->type.len);

    if (record == NULL) {
        return NULL;
    }
    char *id = (char *)record + head;
    char *type = id + event->id.len;
    memcpy(id, event->id.data, event->id.len);
    memcpy(type, event->type.data, event->type.len);
    record->id = (struct esi_str){.data = id, .len = event->id.len};
    record->type = (struct esi_str){.data = type, .len = event->type.len};
    record->event = event;
    record->handlers = handlers;
    record->accepted_ns = now_ns;
    record->entry_count = count;
    record->open_count = count;
    esi_list_init(&record->all_node);
    esi_list_init(&record->history_node);
    esi_list_init(&record->same_id);
    uint64_t rest = handlers;
    for (uint32_t i = 0; i < count; i++, rest &= rest - 1) {
        struct entry *entry = &record->entries[i];
        entry->record = record;
        entry->handler = (uint32_t)__builtin_ctzll(rest);
        entry->heap_index = NOT_IN_HEAP;
        entry->changed_ns = now_ns;
        esi_list_init(&entry->queue_node);
        esi_list_init(&entry->open_node);
    }
    return record;
}

/* Makes room in heaps and enters the record into both tables. */
static enum es_err enter_tables(struct esi_journal *journal, struct record *record)
{
    for (uint32_t i = 0; i < record->entry_count; i++) {
        const enum es_err err = heap_reserve(&journal->handlers[record->entries[i].handler]);
        if (err != ES_OK) {
            return err;
        }
    }
    enum es_err err = esi_hashmap_insert(&journal->by_seq, seq_key(record), record);
    if (err != ES_OK) {
        return err;
    }
    struct record *newest = esi_hashmap_find(&journal->by_id, record->id);
    err = esi_hashmap_insert(&journal->by_id, record->id, record);
    if (err != ES_OK) {
        esi_hashmap_remove(&journal->by_seq, seq_key(record));
        return err;
    }
    if (newest != NULL) {
        esi_list_append(&newest->same_id, &record->same_id);
    }
    return ES_OK;
}

enum es_err esi_journal_accept(struct esi_journal *journal, struct esi_event *event,
                               uint64_t handlers, uint64_t now_ns, uint64_t *seq,
                               struct esi_journal_full *full)
{
    struct esi_journal_full bound;

    ESI_REQUIRE(handlers != 0);
    ESI_REQUIRE(journal->handler_count == ESI_JOURNAL_HANDLERS_MAX ||
                handlers >> journal->handler_count == 0);
    if (!has_room(journal, event, handlers, full != NULL ? full : &bound)) {
        journal->stats.refused++;
        return ES_FULL;
    }
    struct record *record = make_record(event, handlers, now_ns);
    if (record == NULL) {
        return ES_NO_MEMORY;
    }
    record->seq = journal->last_seq + 1;
    const enum es_err err = enter_tables(journal, record);
    if (err != ES_OK) {
        free(record);
        return err;
    }
    esi_event_ref(event);
    journal->last_seq = record->seq;
    esi_list_append(&journal->all, &record->all_node);
    for (uint32_t i = 0; i < record->entry_count; i++) {
        struct entry *entry = &record->entries[i];
        struct handler *handler = &journal->handlers[entry->handler];
        esi_list_append(&handler->queue, &entry->queue_node);
        esi_list_append(&handler->open, &entry->open_node);
        handler->open_count++;
        handler->state_counts[JOURNAL_QUEUED]++;
    }
    journal->stats.open_events++;
    journal->stats.open_bytes += event->memory_bytes;
    journal->stats.accepted++;
    if (seq != NULL) {
        *seq = record->seq;
    }
    return ES_OK;
}

enum es_err esi_journal_set_mark(struct esi_journal *journal, uint64_t seq, uint32_t mark)
{
    const struct esi_str key = {.data = (const char *)&seq, .len = sizeof seq};
    struct record *record = esi_hashmap_find(&journal->by_seq, key);

    if (record == NULL) {
        return ES_NOT_FOUND;
    }
    record->mark = mark;
    return ES_OK;
}

/* Forgetting. */

static void leave_id_table(struct esi_journal *journal, struct record *record)
{
    if (esi_hashmap_find(&journal->by_id, record->id) == record) {
        /* Also when an older one takes its place: the table's key must be that one's text. */
        esi_hashmap_remove(&journal->by_id, record->id);
        if (!esi_list_is_empty(&record->same_id)) {
            struct record *older = ESI_CONTAINER_OF(record->same_id.next, struct record, same_id);
            const enum es_err err = esi_hashmap_insert(&journal->by_id, older->id, older);
            /* One was removed just now, so the table need not grow. */
            ESI_ASSERT(err == ES_OK);
        }
    }
    esi_list_remove(&record->same_id);
}

static void forget(struct esi_journal *journal, struct record *record)
{
    leave_id_table(journal, record);
    esi_hashmap_remove(&journal->by_seq, seq_key(record));
    esi_list_remove(&record->all_node);
    esi_list_remove(&record->history_node);
    free_record(record);
}

/* Moves a record whose last entry was answered to the history. */
static void finish(struct esi_journal *journal, struct record *record)
{
    journal->stats.open_events--;
    journal->stats.open_bytes -= record->event->memory_bytes;
    journal->stats.finished++;
    esi_event_unref(ESI_MOVE(record->event));
    esi_list_append(&journal->history, &record->history_node);
    journal->stats.history_count++;
    if (journal->stats.history_count > journal->history_max) {
        journal->stats.history_count--;
        forget(journal, ESI_CONTAINER_OF(journal->history.next, struct record, history_node));
    }
}

/* Changes of state. */

/* A failure to copy loses a remark, no event. */
static void set_note(struct entry *entry, struct esi_str note)
{
    const size_t len = note.len < ESI_JOURNAL_NOTE_MAX ? note.len : (size_t)ESI_JOURNAL_NOTE_MAX;

    free(entry->note);
    entry->note = len > 0 ? esi_str_dup((struct esi_str){.data = note.data, .len = len}) : NULL;
}

/* Changes the state of an entry and takes it out of where it waited. */
static void change_state(struct handler *handler, struct entry *entry, enum esi_journal_state state,
                         uint64_t now_ns)
{
    esi_list_remove(&entry->queue_node);
    if (entry->heap_index != NOT_IN_HEAP) {
        heap_remove(handler, entry);
    }
    handler->state_counts[entry->state]--;
    entry->state = state;
    entry->changed_ns = now_ns;
    if (state == JOURNAL_DELIVERED || state == JOURNAL_DEAD) {
        esi_list_remove(&entry->open_node);
        handler->open_count--;
    } else {
        handler->state_counts[state]++;
    }
}

static struct entry *find_entry(const struct esi_journal *journal, uint32_t handler, uint64_t seq)
{
    const struct esi_str key = {.data = (const char *)&seq, .len = sizeof seq};
    struct record *record = esi_hashmap_find(&journal->by_seq, key);

    if (handler >= journal->handler_count || record == NULL ||
        (record->handlers >> handler & 1) == 0) {
        return NULL;
    }
    const uint64_t below = record->handlers & (((uint64_t)1 << handler) - 1);
    return &record->entries[__builtin_popcountll(below)];
}

static struct entry *find_in_flight(const struct esi_journal *journal, uint32_t handler,
                                    uint64_t seq)
{
    struct entry *entry = find_entry(journal, handler, seq);

    return entry != NULL && entry->state == JOURNAL_IN_FLIGHT ? entry : NULL;
}

static struct entry *first_of(const struct esi_list *queue)
{
    return esi_list_is_empty(queue) ? NULL
                                    : ESI_CONTAINER_OF(queue->next, struct entry, queue_node);
}

/* The oldest open entry of an ordered handler, or NULL. */
static struct entry *oldest_of(const struct handler *handler)
{
    return esi_list_is_empty(&handler->open)
               ? NULL
               : ESI_CONTAINER_OF(handler->open.next, struct entry, open_node);
}

static struct entry *choose(const struct handler *handler, uint64_t now_ns)
{
    if (handler->is_ordered) {
        struct entry *oldest = oldest_of(handler);
        const bool is_ready =
            oldest != NULL && (oldest->state == JOURNAL_QUEUED ||
                               (oldest->state == JOURNAL_RETRYING && oldest->next_ns <= now_ns));
        return is_ready ? oldest : NULL;
    }
    if (handler->heap_count > 0 && handler->heap[0]->next_ns <= now_ns) {
        return handler->heap[0];
    }
    return first_of(&handler->queue);
}

enum es_err esi_journal_take(struct esi_journal *journal, uint32_t handler, uint64_t now_ns,
                             struct esi_journal_delivery *delivery)
{
    ESI_REQUIRE(handler < journal->handler_count);
    struct entry *entry = choose(&journal->handlers[handler], now_ns);
    if (entry == NULL) {
        return ES_AGAIN;
    }
    change_state(&journal->handlers[handler], entry, JOURNAL_IN_FLIGHT, now_ns);
    entry->attempts++;
    *delivery = (struct esi_journal_delivery){
        .event = entry->record->event,
        .seq = entry->record->seq,
        .attempt = entry->attempts,
        .counted = entry->counted,
        .losses = entry->losses,
        .accepted_ns = entry->record->accepted_ns,
    };
    return ES_OK;
}

uint64_t esi_journal_next_due_ns(const struct esi_journal *journal, uint32_t handler)
{
    ESI_REQUIRE(handler < journal->handler_count);
    const struct handler *of = &journal->handlers[handler];

    if (of->is_ordered) {
        const struct entry *oldest = oldest_of(of);
        return oldest != NULL && oldest->state == JOURNAL_RETRYING ? oldest->next_ns : UINT64_MAX;
    }
    return of->heap_count > 0 ? of->heap[0]->next_ns : UINT64_MAX;
}

enum es_err esi_journal_deliver(struct esi_journal *journal, uint32_t handler, uint64_t seq,
                                uint64_t now_ns, struct esi_str note)
{
    struct entry *entry = find_in_flight(journal, handler, seq);

    if (entry == NULL) {
        return ES_NOT_FOUND;
    }
    change_state(&journal->handlers[handler], entry, JOURNAL_DELIVERED, now_ns);
    journal->handlers[handler].delivered++;
    set_note(entry, note);
    if (--entry->record->open_count == 0) {
        finish(journal, entry->record);
    }
    return ES_OK;
}

enum es_err esi_journal_retry(struct esi_journal *journal, uint32_t handler, uint64_t seq,
                              uint64_t now_ns, uint64_t next_ns, enum esi_retry_blame blame,
                              struct esi_str note)
{
    struct entry *entry = find_in_flight(journal, handler, seq);

    if (entry == NULL) {
        return ES_NOT_FOUND;
    }
    change_state(&journal->handlers[handler], entry, JOURNAL_RETRYING, now_ns);
    journal->handlers[handler].retried++;
    entry->blame = blame;
    entry->counted += blame == RETRY_BLAME_EVENT;
    entry->losses += blame == RETRY_BLAME_OPEN;
    entry->next_ns = next_ns;
    heap_push(&journal->handlers[handler], entry);
    set_note(entry, note);
    return ES_OK;
}

enum es_err esi_journal_give_back(struct esi_journal *journal, uint32_t handler, uint64_t seq,
                                  uint64_t now_ns)
{
    struct entry *entry = find_in_flight(journal, handler, seq);

    if (entry == NULL) {
        return ES_NOT_FOUND;
    }
    change_state(&journal->handlers[handler], entry, JOURNAL_QUEUED, now_ns);
    entry->attempts--;
    /* The heap, not the list: several that are given back come out in the order of acceptance
     * again. */
    entry->next_ns = 0;
    heap_push(&journal->handlers[handler], entry);
    return ES_OK;
}

enum es_err esi_journal_bury(struct esi_journal *journal, uint32_t handler, uint64_t seq,
                             uint64_t now_ns, struct esi_str note, struct esi_event **event)
{
    struct entry *entry = find_entry(journal, handler, seq);

    if (entry == NULL || entry->state == JOURNAL_DELIVERED || entry->state == JOURNAL_DEAD) {
        return ES_NOT_FOUND;
    }
    change_state(&journal->handlers[handler], entry, JOURNAL_DEAD, now_ns);
    journal->handlers[handler].dead++;
    set_note(entry, note);
    *event = esi_event_ref(entry->record->event);
    if (--entry->record->open_count == 0) {
        finish(journal, entry->record);
    }
    return ES_OK;
}

void esi_journal_wake(struct esi_journal *journal, uint32_t handler, uint64_t now_ns)
{
    ESI_REQUIRE(handler < journal->handler_count);
    struct handler *of = &journal->handlers[handler];

    for (size_t i = 0; i < of->heap_count; i++) {
        if (of->heap[i]->next_ns > now_ns && of->heap[i]->blame != RETRY_BLAME_EVENT) {
            of->heap[i]->next_ns = now_ns;
        }
    }
    for (size_t i = of->heap_count / 2; i > 0; i--) {
        sift_down(of, i - 1);
    }
}

/* Showing. */

static void view_record(const struct record *record, struct esi_journal_view *view)
{
    view->seq = record->seq;
    view->id = record->id;
    view->type = record->type;
    view->accepted_ns = record->accepted_ns;
    view->mark = record->mark;
    view->is_open = record->open_count > 0;
    view->entry_count = record->entry_count;
    for (uint32_t i = 0; i < record->entry_count; i++) {
        const struct entry *entry = &record->entries[i];
        view->entries[i] = (struct esi_journal_entry_view){
            .handler = entry->handler,
            .state = entry->state,
            .attempts = entry->attempts,
            .changed_ns = entry->changed_ns,
            .next_ns = entry->state == JOURNAL_RETRYING ? entry->next_ns : 0,
            .note = esi_str_from(entry->note),
        };
    }
}

enum es_err esi_journal_find(const struct esi_journal *journal, struct esi_str id,
                             struct esi_journal_view *view)
{
    const struct record *record = esi_hashmap_find(&journal->by_id, id);

    if (record == NULL) {
        return ES_NOT_FOUND;
    }
    view_record(record, view);
    return ES_OK;
}

void esi_journal_stats(const struct esi_journal *journal, struct esi_journal_stats *stats)
{
    *stats = journal->stats;
}

void esi_journal_handler_stats(const struct esi_journal *journal, uint32_t handler,
                               struct esi_journal_handler_stats *stats)
{
    ESI_REQUIRE(handler < journal->handler_count);
    const struct handler *of = &journal->handlers[handler];
    const struct entry *oldest = oldest_of(of);

    *stats = (struct esi_journal_handler_stats){
        .share = of->share,
        .queued = of->state_counts[JOURNAL_QUEUED],
        .in_flight = of->state_counts[JOURNAL_IN_FLIGHT],
        .retrying = of->state_counts[JOURNAL_RETRYING],
        .delivered = of->delivered,
        .dead = of->dead,
        .retried = of->retried,
        .has_oldest = oldest != NULL,
        .oldest_accepted_ns = oldest != NULL ? oldest->record->accepted_ns : 0,
    };
}

const char *esi_journal_state_text(enum esi_journal_state state)
{
    switch (state) {
    case JOURNAL_QUEUED:
        return "queued";
    case JOURNAL_IN_FLIGHT:
        return "in flight";
    case JOURNAL_RETRYING:
        return "retrying";
    case JOURNAL_DELIVERED:
        return "delivered";
    case JOURNAL_DEAD:
        break;
    }
    return "dead";
}
