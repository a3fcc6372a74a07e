/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each entry owns its subscription until that is handed to the routers for removal. Invariants:
 * `all` is in the table exactly while messages are sent unasked; a subject is refused only then.
 */
#include "actors/gateway_interest.h"
#include "actors/route_ops.h"
#include "base/assert.h"
#include "base/ledger.h"
#include "base/own.h"
#include "broker/subtable.h"
#include "proto/subject.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_ON_STACK = 512 };

/* Interest of a queue group. The key is subject and group with one NUL between, which neither can
 * hold. */
struct entry {
    struct esi_sub *sub; /* owned */
    size_t key_len;
    char key[];
};

/* How many queue groups there are on one subject: each message on it names them all. */
struct group_count {
    uint32_t count;
    size_t bytes; /* of their names, each with a blank */
    size_t len;
    char subject[];
};

struct refusal {
    size_t len;
    char subject[];
};

void esi_gateway_interest_init(struct esi_gateway_interest *interest, struct esi_target *target,
                               struct esi_route_ops *ops, uint32_t max)
{
    *interest = (struct esi_gateway_interest){.target = target, .ops = ops, .max = max};
    esi_hashmap_init(&interest->plain);
    esi_hashmap_init(&interest->queues);
    esi_hashmap_init(&interest->groups);
    esi_hashmap_init(&interest->refused);
}

/* Frees all values of a map, and the map. */
static void free_map(struct esi_hashmap *map)
{
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    while (esi_hashmap_next(map, &cursor, &key, &value)) {
        free(value);
    }
    esi_hashmap_deinit(map);
}

/* --- memory --- */

static bool take_memory(struct esi_gateway_interest *interest, uint64_t bytes)
{
    if (!esi_ledger_take(interest->lease, MEMORY_INTEREST, bytes)) {
        return false;
    }
    interest->held_bytes += bytes;
    return true;
}

static void give_memory(struct esi_gateway_interest *interest, uint64_t bytes)
{
    interest->held_bytes -= bytes;
    esi_ledger_give(interest->lease, MEMORY_INTEREST, bytes);
}

/* What stored interest takes. The count of groups is as long as its subject and counted for each,
 * though those on one subject share it. */
static uint64_t memory_of(const struct esi_sub *sub)
{
    uint64_t bytes = esi_route_ops_memory_bytes(sub) + esi_hashmap_place_bytes();

    if (sub->queue.len > 0) {
        bytes +=
            esi_ledger_heap_bytes(sizeof(struct entry) + sub->subject.len + 1 + sub->queue.len) +
            esi_ledger_heap_bytes(sizeof(struct group_count) + sub->subject.len + 1) +
            esi_hashmap_place_bytes();
    }
    return bytes;
}

static uint64_t memory_of_refusal(size_t len)
{
    return esi_ledger_heap_bytes(sizeof(struct refusal) + len + 1) + esi_hashmap_place_bytes();
}

static void forget_refusals(struct esi_gateway_interest *interest)
{
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    while (esi_hashmap_next(&interest->refused, &cursor, &key, &value)) {
        give_memory(interest, memory_of_refusal(key.len));
    }
    free_map(&interest->refused);
    interest->refused_bytes = 0;
}

void esi_gateway_interest_deinit(struct esi_gateway_interest *interest)
{
    forget_refusals(interest);
    free_map(&interest->queues);
    free_map(&interest->groups);
    esi_hashmap_deinit(&interest->plain);
    give_memory(interest, interest->held_bytes);
}

const char *esi_gateway_interest_mode_name(enum esi_gateway_mode mode)
{
    static const char *const names[] = {[MODE_UNKNOWN] = "unknown",
                                        [MODE_OPTIMISTIC] = "optimistic",
                                        [MODE_REFUSED] = "refused",
                                        [MODE_SWITCHING] = "switching",
                                        [MODE_COMPLETE] = "interest-only"};

    return names[mode];
}

/* --- optimistic --- */

static enum es_err become_optimistic(struct esi_gateway_interest *interest)
{
    interest->mode = MODE_OPTIMISTIC;
    if (interest->all != NULL) {
        return ES_OK;
    }
    struct esi_sub *sub = esi_sub_new(interest->target, ESI_STR(">"), ESI_STR(""), ESI_STR(""));
    if (sub == NULL) {
        return ES_NO_MEMORY;
    }
    sub->flags = interest->flags | SUB_OPTIMISTIC;
    const enum es_err err = esi_route_ops_add(interest->ops, sub);
    if (err != ES_OK) {
        free(sub);
        return err;
    }
    interest->all = sub;
    return ES_OK;
}

static enum es_err end_optimism(struct esi_gateway_interest *interest)
{
    forget_refusals(interest);
    if (interest->all != NULL) {
        const enum es_err err = esi_route_ops_remove(interest->ops, interest->all);
        if (err != ES_OK) {
            return err;
        }
        interest->all = NULL;
    }
    return ES_OK;
}

/* Beyond the bound nothing is noted: such messages go on being sent, and refused, which harms
 * nobody. */
static enum es_err refuse(struct esi_gateway_interest *interest, struct esi_str subject)
{
    if (interest->refused.count >= ESI_GATEWAY_REFUSED_MAX ||
        interest->refused_bytes + subject.len > ESI_GATEWAY_REFUSED_BYTES_MAX ||
        esi_hashmap_find(&interest->refused, subject) != NULL) {
        return ES_OK;
    }
    if (!take_memory(interest, memory_of_refusal(subject.len))) {
        return ES_OK; /* as beyond the bound */
    }
    struct refusal *refusal = malloc(sizeof *refusal + subject.len + 1);
    if (refusal == NULL) {
        give_memory(interest, memory_of_refusal(subject.len));
        return ES_NO_MEMORY;
    }
    refusal->len = subject.len;
    memcpy(refusal->subject, subject.data, subject.len);
    const struct esi_str key = {.data = refusal->subject, .len = subject.len};
    const enum es_err err = esi_hashmap_insert(&interest->refused, key, refusal);
    if (err != ES_OK) {
        give_memory(interest, memory_of_refusal(subject.len));
        free(refusal);
        return err;
    }
    interest->refused_bytes += subject.len;
    return ES_OK;
}

static void accept_subject(struct esi_gateway_interest *interest, struct esi_str subject)
{
    struct refusal *refusal = esi_hashmap_remove(&interest->refused, subject);

    if (refusal != NULL) {
        interest->refused_bytes -= refusal->len;
        give_memory(interest, memory_of_refusal(refusal->len));
        free(refusal);
    }
}

/* Interest came in a subject, or in all that match a wildcard: they are no longer refused. */
static void accept_again(struct esi_gateway_interest *interest, struct esi_str pattern)
{
    struct refusal *covered[ESI_GATEWAY_REFUSED_MAX];
    size_t covered_count = 0;
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    if (interest->refused.count == 0) {
        return;
    }
    if (!esi_subject_has_wildcard(pattern)) {
        accept_subject(interest, pattern);
        return;
    }
    interest->work += interest->refused.count;
    while (esi_hashmap_next(&interest->refused, &cursor, &key, &value)) {
        if (esi_subject_matches(pattern, key)) {
            covered[covered_count++] = value;
        }
    }
    for (size_t i = 0; i < covered_count; i++) {
        accept_subject(interest,
                       (struct esi_str){.data = covered[i]->subject, .len = covered[i]->len});
    }
}

/*
 * What was on its way to the link when it ceased to send unasked goes out all the same where the
 * peer has completed its interest and has any: perhaps in just this, and what it has none in it
 * drops without a word. One without any, or that has sent A-, would have to answer.
 */
bool esi_gateway_interest_is_refused(const struct esi_gateway_interest *interest,
                                     struct esi_str subject)
{
    if (interest->all == NULL) {
        return interest->mode != MODE_COMPLETE || interest->plain.count == 0;
    }
    return esi_hashmap_find(&interest->refused, subject) != NULL;
}

enum es_err esi_gateway_interest_open(struct esi_gateway_interest *interest, bool headers, bool iom)
{
    interest->flags = headers ? SUB_HEADERS : 0U;
    interest->has_iom = iom;
    return iom ? ES_OK : become_optimistic(interest);
}

/* --- stored interest --- */

/* What an entry takes: a subject with wildcards has a node for each of its tokens. */
static uint64_t weigh(struct esi_str subject, struct esi_str queue)
{
    uint64_t weight = subject.len + queue.len;

    if (esi_subject_has_wildcard(subject)) {
        weight += ESI_GATEWAY_TOKEN_WEIGHT;
        for (size_t i = 0; i < subject.len; i++) {
            weight += subject.data[i] == '.' ? ESI_GATEWAY_TOKEN_WEIGHT : 0;
        }
    }
    return weight;
}

static enum es_err new_sub(struct esi_gateway_interest *interest, struct esi_str subject,
                           struct esi_str queue, struct esi_sub **out)
{
    /* Both bounds, since a subject may be as long as a line. */
    if (interest->plain.count + interest->queues.count >= interest->max ||
        interest->weight + weigh(subject, queue) >
            (uint64_t)interest->max * ESI_GATEWAY_SUBJECT_MEAN_MAX) {
        return ES_FULL;
    }
    struct esi_sub *sub = esi_sub_new(interest->target, subject, queue, ESI_STR(""));
    if (sub == NULL) {
        return ES_NO_MEMORY;
    }
    if (!take_memory(interest, memory_of(sub))) {
        free(sub);
        return ES_FULL;
    }
    sub->flags = interest->flags;
    *out = sub;
    return ES_OK;
}

/* One that came into no table. */
static void free_sub(struct esi_gateway_interest *interest, struct esi_sub *sub)
{
    if (sub != NULL) {
        give_memory(interest, memory_of(sub));
        free(sub);
    }
}

/* Notes the removal of stored interest; its memory is given back a little before it is free. */
static enum es_err remove_sub(struct esi_gateway_interest *interest, struct esi_sub *sub)
{
    const enum es_err err = esi_route_ops_remove(interest->ops, sub);

    if (err == ES_OK) {
        give_memory(interest, memory_of(sub));
    }
    return err;
}

static enum es_err sub_plain(struct esi_gateway_interest *interest, struct esi_str subject)
{
    struct esi_sub *sub = NULL;

    accept_again(interest, subject);
    if (esi_hashmap_find(&interest->plain, subject) != NULL) {
        return ES_OK; /* interest is not counted on a link */
    }
    enum es_err err = new_sub(interest, subject, ESI_STR(""), &sub);
    if (err != ES_OK) {
        return err;
    }
    err = esi_hashmap_insert(&interest->plain, sub->subject, sub);
    if (err != ES_OK) {
        free_sub(interest, sub);
        return err;
    }
    err = esi_route_ops_add(interest->ops, sub);
    if (err != ES_OK) {
        esi_hashmap_remove(&interest->plain, subject);
        free_sub(interest, sub);
        return err;
    }
    interest->weight += weigh(subject, ESI_STR(""));
    return ES_OK;
}

/* One more group on the subject. */
static enum es_err count_group(struct esi_gateway_interest *interest, struct esi_str subject,
                               struct esi_str queue)
{
    struct group_count *groups = esi_hashmap_find(&interest->groups, subject);

    if (queue.len + 1 > ESI_GATEWAY_GROUPS_BYTES_MAX) {
        return ES_FULL;
    }
    if (groups != NULL) {
        if (groups->count >= ESI_GATEWAY_GROUPS_MAX ||
            groups->bytes + queue.len + 1 > ESI_GATEWAY_GROUPS_BYTES_MAX) {
            return ES_FULL;
        }
        groups->count++;
        groups->bytes += queue.len + 1;
        return ES_OK;
    }
    groups = malloc(sizeof *groups + subject.len + 1);
    if (groups == NULL) {
        return ES_NO_MEMORY;
    }
    groups->count = 1;
    groups->bytes = queue.len + 1;
    groups->len = subject.len;
    memcpy(groups->subject, subject.data, subject.len);
    const struct esi_str key = {.data = groups->subject, .len = subject.len};
    const enum es_err err = esi_hashmap_insert(&interest->groups, key, groups);
    if (err != ES_OK) {
        free(groups);
    }
    return err;
}

static void uncount_group(struct esi_gateway_interest *interest, struct esi_str subject,
                          struct esi_str queue)
{
    struct group_count *groups = esi_hashmap_find(&interest->groups, subject);

    ESI_ASSERT(groups != NULL && groups->count > 0);
    groups->count--;
    groups->bytes -= queue.len + 1;
    if (groups->count == 0) {
        esi_hashmap_remove(&interest->groups, subject);
        free(groups);
    }
}

static struct esi_str write_key(char *room, struct esi_str subject, struct esi_str queue)
{
    memcpy(room, subject.data, subject.len);
    room[subject.len] = '\0';
    memcpy(room + subject.len + 1, queue.data, queue.len);
    return (struct esi_str){.data = room, .len = subject.len + 1 + queue.len};
}

static enum es_err store_queue(struct esi_gateway_interest *interest, struct esi_str subject,
                               struct esi_str queue)
{
    struct entry *entry = malloc(sizeof *entry + subject.len + 1 + queue.len);

    if (entry == NULL) {
        return ES_NO_MEMORY;
    }
    const struct esi_str key = write_key(entry->key, subject, queue);
    entry->key_len = key.len;
    if (esi_hashmap_find(&interest->queues, key) != NULL) {
        free(entry);
        return ES_OK;
    }
    enum es_err err = count_group(interest, subject, queue);
    if (err != ES_OK) {
        free(entry);
        return err;
    }
    entry->sub = NULL;
    err = new_sub(interest, subject, queue, &entry->sub);
    if (err == ES_OK) {
        err = esi_hashmap_insert(&interest->queues, key, entry);
    }
    if (err == ES_OK) {
        err = esi_route_ops_add(interest->ops, entry->sub);
        if (err != ES_OK) {
            esi_hashmap_remove(&interest->queues, key);
        }
    }
    if (err != ES_OK) {
        uncount_group(interest, subject, queue);
        free_sub(interest, entry->sub);
        free(entry);
        return err;
    }
    interest->weight += weigh(subject, queue);
    return ES_OK;
}

static enum es_err sub_queue(struct esi_gateway_interest *interest, struct esi_str subject,
                             struct esi_str queue)
{
    const enum es_err err = store_queue(interest, subject, queue);

    if (err != ES_OK || interest->mode != MODE_REFUSED) {
        return err;
    }
    /* After A- a real server announces a queue group like this, and waits for all other messages.
     */
    return become_optimistic(interest);
}

enum es_err esi_gateway_interest_sub(struct esi_gateway_interest *interest, struct esi_str subject,
                                     struct esi_str queue)
{
    return queue.len == 0 ? sub_plain(interest, subject) : sub_queue(interest, subject, queue);
}

static enum es_err unsub_plain(struct esi_gateway_interest *interest, struct esi_str subject)
{
    struct esi_sub *sub = esi_hashmap_find(&interest->plain, subject);
    enum es_err err = ES_OK;

    if (sub != NULL) {
        err = remove_sub(interest, sub);
        if (err != ES_OK) {
            return err;
        }
        interest->weight -= weigh(subject, ESI_STR(""));
        esi_hashmap_remove(&interest->plain, subject);
    }
    if (interest->mode == MODE_REFUSED && !interest->has_iom) {
        err = become_optimistic(interest);
        if (err != ES_OK) {
            return err;
        }
    }
    return interest->all != NULL ? refuse(interest, subject) : ES_OK;
}

static enum es_err unsub_queue(struct esi_gateway_interest *interest, struct esi_str subject,
                               struct esi_str queue)
{
    char on_stack[KEY_ON_STACK];
    const size_t key_len = subject.len + 1 + queue.len;
    char *room = key_len > sizeof on_stack ? malloc(key_len) : on_stack;

    if (room == NULL) {
        return ES_NO_MEMORY;
    }
    const struct esi_str key = write_key(room, subject, queue);
    struct entry *entry = esi_hashmap_find(&interest->queues, key);
    const enum es_err err = entry != NULL ? remove_sub(interest, entry->sub) : ES_OK;
    if (entry != NULL && err == ES_OK) {
        interest->weight -= weigh(subject, queue);
        uncount_group(interest, subject, queue);
        esi_hashmap_remove(&interest->queues, key);
        free(entry);
    }
    if (room != on_stack) {
        free(room);
    }
    return err;
}

enum es_err esi_gateway_interest_unsub(struct esi_gateway_interest *interest,
                                       struct esi_str subject, struct esi_str queue)
{
    return queue.len == 0 ? unsub_plain(interest, subject) : unsub_queue(interest, subject, queue);
}

/* --- the account --- */

enum es_err esi_gateway_interest_account_sub(struct esi_gateway_interest *interest)
{
    if (interest->mode == MODE_REFUSED) {
        return become_optimistic(interest);
    }
    if (interest->mode == MODE_OPTIMISTIC && interest->queues.count == 0) {
        forget_refusals(interest);
    }
    return ES_OK;
}

enum es_err esi_gateway_interest_account_unsub(struct esi_gateway_interest *interest)
{
    if (interest->mode == MODE_OPTIMISTIC && interest->queues.count > 0) {
        /* As nats-server: a peer that still has queue groups goes on getting everything. */
        forget_refusals(interest);
        return ES_OK;
    }
    interest->mode = MODE_REFUSED;
    return end_optimism(interest);
}

void esi_gateway_interest_switch(struct esi_gateway_interest *interest)
{
    /* What was sent unasked goes on being sent until the peer has told all its interest: nothing is
     * lost between. */
    interest->mode = MODE_SWITCHING;
}

enum es_err esi_gateway_interest_complete(struct esi_gateway_interest *interest)
{
    interest->mode = MODE_COMPLETE;
    return end_optimism(interest);
}

/* --- the end --- */

bool esi_gateway_interest_withdraw(struct esi_gateway_interest *interest, uint32_t budget)
{
    struct esi_str key;
    void *value;

    if (end_optimism(interest) != ES_OK) {
        return false;
    }
    /* The maps stay as they are: only so does the cursor keep its meaning from turn to turn. */
    while (interest->plain.count > 0) {
        const size_t here = interest->cursor;
        if (budget == 0) {
            return false;
        }
        if (!esi_hashmap_next(&interest->plain, &interest->cursor, &key, &value)) {
            esi_hashmap_deinit(&interest->plain);
            interest->cursor = 0;
            break;
        }
        budget--;
        if (remove_sub(interest, value) != ES_OK) {
            interest->cursor = here;
            return false;
        }
    }
    while (interest->queues.count > 0) {
        const size_t here = interest->cursor;
        if (budget == 0) {
            return false;
        }
        if (!esi_hashmap_next(&interest->queues, &interest->cursor, &key, &value)) {
            esi_gateway_interest_deinit(interest);
            break;
        }
        budget--;
        struct entry *entry = value;
        if (remove_sub(interest, entry->sub) != ES_OK) {
            interest->cursor = here;
            return false;
        }
        entry->sub = NULL;
    }
    return true;
}
