/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: whatever several workers publish at once, each target gets each message that is meant for
 * it once, in each publisher's order, whole; and every block and delivery comes back to a pool.
 * Method: publisher actors on all workers publish numbered messages on random subjects, small and
 * large; target actors check and count what they get, each publisher keeps the same sums of what it
 * knows must arrive. Some subscriptions have a maximum, alone and in a group: they get exactly so
 * many messages, and each publisher is told the truth about how many receive each of its messages.
 * At the end sums and pools are compared.
 */
#include "actors/context.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "config/config.h"
#include "runtime_case.h"

#include <pthread.h>
#include <string.h>

enum {
    PUBLISHERS = 6,
    TARGETS = 8,
    TURNS = 60,
    MESSAGES_A_TURN = 40,
    LARGE_BYTES = 12000,
    PATTERNS = 9,
    SUBJECTS = 7,
    GROUPS = 2,
    COUNTED = 4, /* of these subscriptions the last two are a group */
    MAXIMUM = 100
};

static const char *const patterns[PATTERNS] = {"a.a", "a.*", "*.a", ">", "b.b",
                                               "b.>", "c",   "a.b", "*"};
static const char *const subjects[SUBJECTS] = {"a.a", "a.b", "b.a", "b.b", "c", "b.c.d", "e.e.e.e"};

/* What arrived, or must arrive, from one publisher at one target. */
struct sums {
    uint64_t count;
    uint64_t numbers; /* mixed sum of the messages' numbers */
};

struct receiver {
    struct esi_actor actor; /* first */
    struct esi_target target;
    uint32_t index;
    struct sums plain[PUBLISHERS];
    uint64_t last[PUBLISHERS]; /* the newest number of each */
    uint64_t in_groups;
    uint64_t counted;
    struct esi_bytes stream; /* of the delivery in hand: a message may be cut between slices */
    uint64_t deliveries;
};

struct publisher {
    struct esi_actor actor; /* first */
    uint32_t index;
    uint64_t random;
    uint64_t number;
    uint32_t turns;
    struct sums sent[TARGETS];
    uint64_t to_groups;
    uint64_t told; /* how many receive its messages */
    struct esi_msg go;
};

struct pool_count {
    uint64_t blocks;
    uint64_t deliveries;
};

static struct esi_context *context;
static struct esi_config config;
static struct esi_runtime *runtime;
static struct receiver *receivers[TARGETS];
static struct publisher *publishers[PUBLISHERS];
static struct esi_sub *subs[TARGETS][3];
static struct esi_sub *counted[COUNTED];
static _Atomic uint64_t under_way; /* deliveries and publishers not yet done */
static sem_t done;
static sem_t freed;
static pthread_mutex_t count_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct pool_count made;
static struct pool_count left;

static void end_one(void)
{
    /* order: acq_rel; the last one sees all that the others did. */
    if (atomic_fetch_sub_explicit(&under_way, 1, memory_order_acq_rel) == 1) {
        sem_post(&done);
    }
}

/* --- targets --- */

static void free_delivery(struct esi_msg *msg)
{
    struct esi_local *local = esi_worker_local(esi_worker_current());

    esi_delivery_free((struct esi_delivery *)(void *)msg, 0, &local->pools);
    end_one();
}

static void deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    struct receiver *receiver = ESI_CONTAINER_OF(target, struct receiver, target);

    /* order: relaxed; the publisher is counted as well. */
    atomic_fetch_add_explicit(&under_way, 1, memory_order_relaxed);
    delivery->msg.kind = 1;
    delivery->msg.free = free_delivery;
    esi_actor_send(&receiver->actor, &delivery->msg);
}

static uint64_t mix(uint64_t number)
{
    return (number + 1) * 0x9e3779b97f4a7c15ULL ^ number << 7;
}

static void add_to(struct sums *sums, uint64_t number)
{
    sums->count++;
    sums->numbers += mix(number);
}

/* "MSG subject sid length", then "publisher:number:" and the filling. Returns the end. */
static const char *take_msg(struct receiver *self, const char *at, const char *end)
{
    char line[128];
    char subject[32];
    char sid[16];
    unsigned long len = 0;
    unsigned publisher = 0;
    unsigned long long number = 0;
    int digits = 0;

    const char *line_end = memchr(at, '\n', (size_t)(end - at));
    case_check(line_end != NULL && (size_t)(line_end - at) < sizeof line);
    memcpy(line, at, (size_t)(line_end - at));
    line[line_end - at] = '\0';
    case_check(sscanf(line, "MSG %31s %15s %lu", subject, sid, &len) == 3);
    const char *body = line_end + 1;
    case_check(len + 2 <= (size_t)(end - body));
    memcpy(line, body, len < 60 ? len : 60);
    line[len < 60 ? len : 60] = '\0';
    case_check(sscanf(line, "%u:%llu:%n", &publisher, &number, &digits) == 2);
    case_check(publisher < PUBLISHERS);
    for (size_t i = (size_t)digits; i < len; i++) {
        case_check(body[i] == (char)('a' + number % 26));
    }
    case_check(memcmp(body + len, "\r\n", 2) == 0);
    /* A target may match twice, so the same number may come again, but never an older one. */
    case_check(number >= self->last[publisher]);
    self->last[publisher] = number;
    if (sid[0] == 'g') {
        self->in_groups++;
    } else if (sid[0] == 'm') {
        self->counted++;
    } else {
        add_to(&self->plain[publisher], number);
    }
    return body + len + 2;
}

static void receive(struct esi_actor *actor, struct esi_msg *msg)
{
    struct receiver *self = ESI_CONTAINER_OF(actor, struct receiver, actor);
    const struct esi_delivery *delivery = (const struct esi_delivery *)(const void *)msg;

    case_check(delivery->target == &self->target);
    esi_bytes_clear(&self->stream);
    uint64_t messages = 0;
    for (uint32_t i = 0; i < delivery->slice_count; i++) {
        esi_bytes_append(&self->stream, delivery->slices[i].data, delivery->slices[i].len);
        messages += delivery->slices[i].message_count;
    }
    case_check(self->stream.len == delivery->bytes && messages == delivery->message_count);
    const char *at = self->stream.data;
    const char *end = at + self->stream.len;
    uint64_t seen = 0;
    while (at < end) {
        at = take_msg(self, at, end);
        seen++;
    }
    case_check(seen == messages);
    self->deliveries++;
    /* order: relaxed; a sum. */
    atomic_fetch_sub_explicit(&self->target.pending_bytes, delivery->bytes, memory_order_relaxed);
}

/* --- publishers --- */

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

struct expectation {
    struct publisher *publisher;
    uint64_t number;
    bool has_group[GROUPS];
};

static void expect_one(void *argument, struct esi_sub *sub)
{
    struct expectation *expectation = argument;
    const struct receiver *receiver = ESI_CONTAINER_OF(sub->target, struct receiver, target);

    if ((sub->flags & SUB_COUNTED) != 0) {
        return;
    }
    if (sub->queue.len > 0) {
        expectation->has_group[sub->queue.data[0] - 'x'] = true;
    } else {
        add_to(&expectation->publisher->sent[receiver->index], expectation->number);
    }
}

static void publish_one(struct publisher *self, struct esi_local *local)
{
    const char *subject = subjects[draw_below(&self->random, SUBJECTS)];
    const bool is_large = draw_below(&self->random, 12) == 0;
    char *body = local->read_block->data + local->read_used;
    struct expectation expectation = {.publisher = self, .number = self->number};
    const int digits =
        snprintf(body, 64, "%u:%llu:", self->index, (unsigned long long)self->number);
    const size_t len =
        (size_t)digits + (is_large ? 8193 + draw_below(&self->random, LARGE_BYTES - 8193 - 64)
                                   : draw_below(&self->random, 300));

    memset(body + digits, (int)('a' + self->number % 26), len - (size_t)digits);
    memcpy(body + len, "\r\n", 2);
    local->read_used += len + 2;
    esi_subtable_walk(context->table, esi_str_from(subject),
                      esi_hashmap_hash(esi_str_from(subject)), expect_one, &expectation);
    for (uint32_t i = 0; i < GROUPS; i++) {
        self->to_groups += expectation.has_group[i];
    }
    const struct esi_publish message = {
        .subject = esi_str_from(subject), .body = body, .total_len = len};
    self->told += esi_batch_add(local->batch, &message);
    self->number++;
}

/* One turn: what fits into the room, as a connection reads it. */
static void publish(struct esi_actor *actor, struct esi_msg *msg)
{
    struct publisher *self = ESI_CONTAINER_OF(actor, struct publisher, actor);
    struct esi_local *local = esi_worker_local(esi_actor_home(actor));
    size_t room = 0;

    case_check(msg == &self->go);
    case_check(esi_context_read_room(local, LARGE_BYTES + 64, &room) != NULL);
    esi_batch_begin(local->batch, SOURCE_CLIENT, NULL, true, local->read_block,
                    esi_actor_now_ns(actor));
    for (uint32_t i = draw_below(&self->random, MESSAGES_A_TURN); i > 0; i--) {
        if (local->read_block->capacity - local->read_used < LARGE_BYTES + 64) {
            break;
        }
        publish_one(self, local);
    }
    (void)!esi_batch_flush(local->batch);
    if (++self->turns < TURNS) {
        esi_actor_send(actor, &self->go);
    } else {
        end_one();
    }
}

static void stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void free_later(struct esi_actor *actor)
{
    (void)actor; /* by main */
    sem_post(&freed);
}

static const struct esi_actor_type receiver_type = {.name = "receiver",
                                                    .stop_phase = STOP_PEERS,
                                                    .handle = receive,
                                                    .stop = stop,
                                                    .free = free_later};
static const struct esi_actor_type publisher_type = {.name = "publisher",
                                                     .stop_phase = STOP_PEERS,
                                                     .handle = publish,
                                                     .stop = stop,
                                                     .free = free_later};

/* --- pools --- */

static void *new_local(void *argument, uint32_t worker_index)
{
    struct esi_local *local = esi_context_local_new(argument, worker_index);

    case_check(local != NULL);
    pthread_mutex_lock(&count_mutex);
    made.blocks += local->pools.blocks.free_count;
    made.deliveries += local->pools.deliveries.free_count;
    pthread_mutex_unlock(&count_mutex);
    return local;
}

static void free_local(void *argument, void *value)
{
    struct esi_local *local = value;

    pthread_mutex_lock(&count_mutex);
    made.blocks += local->pools.blocks.allocation_count;
    made.deliveries += local->pools.deliveries.allocation_count;
    esi_batch_free(ESI_MOVE(local->batch));
    if (local->read_block != NULL) {
        /* Nobody else holds it. */
        case_check(esi_block_is_unique(local->read_block));
        esi_block_unref(ESI_MOVE(local->read_block), &local->pools.blocks, 1);
    }
    left.blocks += local->pools.blocks.free_count;
    left.deliveries += local->pools.deliveries.free_count;
    pthread_mutex_unlock(&count_mutex);
    esi_context_local_free(argument, local);
}

static uint64_t count_in_depot(struct esi_pool_depot *depot)
{
    /* order: relaxed; all threads have ended. */
    return (uint64_t)atomic_load_explicit(&depot->chain_count, memory_order_relaxed) *
           depot->chain_length;
}

/* --- one run --- */

static void subscribe_all(void)
{
    static const char *const queues[GROUPS] = {"x", "y"};
    struct esi_retired *retired = NULL;

    for (uint32_t i = 0; i < TARGETS; i++) {
        for (uint32_t j = 0; j < 3; j++) {
            const char *pattern = patterns[(i * 4 + j * 5) % PATTERNS];
            const bool is_member = j == 2;
            subs[i][j] = esi_sub_new(&receivers[i]->target, esi_str_from(pattern),
                                     esi_str_from(is_member ? queues[i % GROUPS] : ""),
                                     esi_str_from(is_member ? "g"
                                                  : j == 0  ? "1"
                                                            : "22"));
            case_check(subs[i][j] != NULL);
            case_check(esi_subtable_add(context->table, subs[i][j], &retired) == ES_OK);
        }
    }
    for (uint32_t i = 0; i < COUNTED; i++) {
        counted[i] = esi_sub_new(&receivers[i]->target, ESI_STR(">"),
                                 esi_str_from(i < COUNTED - 2 ? "" : "z"), ESI_STR("m"));
        case_check(counted[i] != NULL);
        counted[i]->flags = SUB_RECORDS | SUB_COUNTED;
        esi_sub_add_claims(counted[i], MAXIMUM * (int64_t)(i + 1));
        case_check(esi_subtable_add(context->table, counted[i], &retired) == ES_OK);
    }
    esi_subtable_free_retired(retired);
}

static void make_context(uint32_t worker_count)
{
    const struct esi_runtime_options options = {.env = esi_env_linux(),
                                                .worker_count = worker_count,
                                                .placement = PLACEMENT_SPREAD,
                                                .local_new = new_local,
                                                .local_free = free_local,
                                                .local_argument = context};

    memset(context, 0, sizeof *context);
    config.limits.max_pending_bytes = 64 * 1024 * 1024;
    context->env = esi_env_linux();
    context->config = &config;
    made = (struct pool_count){0};
    left = (struct pool_count){0};
    /* The depots keep all, so that it can be counted. */
    esi_pool_depot_init(&context->block_depot, ESI_BLOCK_OBJECT_BYTES, 4, 100000);
    esi_pool_depot_init(&context->delivery_depot, sizeof(struct esi_delivery), 16, 100000);
    case_check(esi_subtable_new(2, &context->table) == ES_OK);
    case_check(esi_targets_new(100, &context->targets) == ES_OK);
    case_check(esi_runtime_new(&options, &runtime) == ES_OK);
}

static void *new_part(size_t size)
{
    void *part = aligned_alloc(ESI_CACHE_LINE, size);

    case_check(part != NULL);
    return memset(part, 0, size);
}

static void start_actors(void)
{
    for (uint32_t i = 0; i < TARGETS; i++) {
        receivers[i] = new_part(sizeof *receivers[i]);
        receivers[i]->index = i;
        receivers[i]->target.deliver = deliver;
        esi_bytes_init(&receivers[i]->stream, 0);
        case_check(esi_targets_add(context->targets, &receivers[i]->target) == ES_OK);
        esi_actor_init(&receivers[i]->actor, &receiver_type, runtime, esi_runtime_place(runtime));
        esi_actor_start(&receivers[i]->actor);
    }
    subscribe_all();
    /* order: relaxed; no publisher has begun. */
    atomic_store_explicit(&under_way, PUBLISHERS, memory_order_relaxed);
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        publishers[i] = new_part(sizeof *publishers[i]);
        publishers[i]->index = i;
        publishers[i]->random = 900 + i;
        publishers[i]->go = (struct esi_msg){.kind = 1, .free = keep};
        esi_actor_init(&publishers[i]->actor, &publisher_type, runtime, esi_runtime_place(runtime));
        esi_actor_start(&publishers[i]->actor);
    }
}

static void compare(void)
{
    uint64_t to_groups = 0;
    uint64_t in_groups = 0;
    uint64_t messages = 0;
    uint64_t told = 0;
    uint64_t claimed = 0;

    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        told += publishers[i]->told;
        to_groups += publishers[i]->to_groups;
        for (uint32_t j = 0; j < TARGETS; j++) {
            case_check(publishers[i]->sent[j].count == receivers[j]->plain[i].count);
            case_check(publishers[i]->sent[j].numbers == receivers[j]->plain[i].numbers);
            messages += publishers[i]->sent[j].count;
        }
    }
    for (uint32_t j = 0; j < TARGETS; j++) {
        in_groups += receivers[j]->in_groups;
        case_check(receivers[j]->counted == (j < COUNTED ? MAXIMUM * (j + 1) : 0));
        claimed += receivers[j]->counted;
        /* order: relaxed; all threads have ended. */
        case_check(
            atomic_load_explicit(&receivers[j]->target.pending_bytes, memory_order_relaxed) == 0);
    }
    case_check(in_groups == to_groups && in_groups > 100);
    case_check(messages > 1000);
    case_check(told == messages + in_groups + claimed);
    case_check(left.blocks + count_in_depot(&context->block_depot) == made.blocks);
    case_check(left.deliveries + count_in_depot(&context->delivery_depot) == made.deliveries);
}

static void run(uint32_t worker_count)
{
    make_context(worker_count);
    sem_init(&done, 0, 0);
    sem_init(&freed, 0, 0);
    start_actors();
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        esi_actor_send(&publishers[i]->actor, &publishers[i]->go);
    }
    await(&done);
    stop_runtime(runtime);
    await_count(&freed, PUBLISHERS + TARGETS);
    compare();
    for (uint32_t i = 0; i < TARGETS; i++) {
        struct esi_retired *retired = NULL;
        if (i < COUNTED) {
            esi_subtable_remove(context->table, counted[i], &retired);
            free(counted[i]);
        }
        for (uint32_t j = 0; j < 3; j++) {
            esi_subtable_remove(context->table, subs[i][j], &retired);
            free(subs[i][j]);
        }
        esi_subtable_free_retired(retired);
        esi_targets_remove(context->targets, &receivers[i]->target);
        esi_bytes_deinit(&receivers[i]->stream);
        free(receivers[i]);
    }
    for (uint32_t i = 0; i < PUBLISHERS; i++) {
        free(publishers[i]);
    }
    esi_subtable_free(context->table);
    esi_targets_free(context->targets);
    esi_pool_depot_deinit(&context->block_depot);
    esi_pool_depot_deinit(&context->delivery_depot);
    sem_destroy(&done);
    sem_destroy(&freed);
}

int main(void)
{
    static const uint32_t worker_counts[] = {1, 2, 5};

    context = aligned_alloc(ESI_CACHE_LINE, (sizeof *context + ESI_CACHE_LINE - 1) /
                                                ESI_CACHE_LINE * ESI_CACHE_LINE);
    case_check(context != NULL);
    for (size_t i = 0; i < ESI_COUNT_OF(worker_counts); i++) {
        run(worker_counts[i]);
    }
    free(context);
    return 0;
}
