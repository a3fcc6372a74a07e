/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop of one thread: let every group send, wait, react, see whether a phase is over. */
#include "event_bench/bench_shard.h"

#include <stdlib.h>

#include "base/assert.h"
#include "event_bench/bench_progress.h"
#include "event_bench/bench_worker.h"

enum { READY_MAX = 256 };

static const uint64_t ms = 1000000;

static uint64_t now_ns(const struct esi_bench_shard *shard)
{
    return esi_env_now_ns(shard->link.env);
}

void esi_bench_shard_poll(struct esi_bench_shard *shard, int64_t timeout_ns)
{
    struct esi_poll_ready ready[READY_MAX];
    const uint64_t before_ns = timeout_ns == 0 ? 0 : now_ns(shard);
    const size_t count =
        esi_env_poller_wait(shard->link.env, shard->link.poller, timeout_ns, ready, READY_MAX);

    shard->link.now_ns = now_ns(shard);
    if (timeout_ns != 0 && shard->tally.is_measuring) {
        shard->idle_ns += shard->link.now_ns - before_ns;
    }
    for (size_t i = 0; i < count && !shard->link.has_failed; i++) {
        if (shard->worker != NULL && esi_bench_worker_has(shard->worker, ready[i].tag)) {
            esi_bench_worker_on_ready(shard->worker, ready[i].tag);
        } else if (ready[i].tag != NULL) {
            esi_bench_client_on_ready(ready[i].tag, ready[i].events);
        }
    }
}

/* Opening. */

/* Otherwise another event-bench publishes. */
static bool has_sources(const struct esi_bench_shard *shard)
{
    return shard->link.options->scenario != BENCH_SUB;
}

static void wait_for_pong(struct esi_bench_shard *shard, const struct esi_bench_client *client,
                          const char *what)
{
    const uint64_t deadline_ns = now_ns(shard) + shard->link.options->timeout_ns;

    while (client->pongs_due > 0 && !shard->link.has_failed) {
        if (now_ns(shard) > deadline_ns) {
            esi_bench_client_fail(&shard->link, "timeout: the server did not answer %s", what);
            return;
        }
        esi_bench_shard_poll(shard, (int64_t)(100 * ms));
    }
}

static void open_client(struct esi_bench_shard *shard, struct esi_bench_client *client,
                        const struct esi_bench_address *server, const struct esi_address *address)
{
    if (!shard->link.has_failed) {
        esi_bench_client_open(client, server, address, NULL);
        wait_for_pong(shard, client, "CONNECT");
    }
}

/* Linked servers: a SUB that its own server has confirmed may not be known to the other yet. */
static void wait_for_interest(struct esi_bench_shard *shard, struct esi_bench_group *group)
{
    const uint64_t deadline_ns = now_ns(shard) + shard->link.options->timeout_ns;

    while (!esi_bench_group_is_reached(group) && !shard->link.has_failed) {
        if (now_ns(shard) > deadline_ns) {
            esi_bench_client_fail(&shard->link,
                                  "timeout: what is published at %s port %u does not"
                                  " reach the subscribers at %s port %u%s",
                                  shard->link.options->server.host,
                                  shard->link.options->server.port,
                                  shard->link.options->subscriber_server.host,
                                  shard->link.options->subscriber_server.port,
                                  group->has_replies ? ", or their replies do not come back" : "");
            return;
        }
        esi_bench_group_probe(group);
        esi_bench_shard_poll(shard, (int64_t)(10 * ms));
    }
}

/* The server may take a while to find the worker service: one event of each publisher goes ahead.
 */
static void wait_for_event(struct esi_bench_shard *shard, struct esi_bench_group *group)
{
    const uint64_t deadline_ns = now_ns(shard) + shard->link.options->timeout_ns;
    uint64_t due_ns;

    group->target = 1;
    while (esi_bench_group_base(group) < 1 && !shard->link.has_failed) {
        if (now_ns(shard) > deadline_ns) {
            esi_bench_client_fail(&shard->link,
                                  "timeout: no event of subject %s came to the worker service at "
                                  "%s port %u",
                                  group->subject, shard->link.options->worker.host,
                                  shard->link.options->worker.port);
            return;
        }
        (void)esi_bench_group_push(group, now_ns(shard), &due_ns);
        esi_bench_shard_poll(shard, (int64_t)(10 * ms));
    }
    group->target = UINT64_MAX;
}

static bool start_worker(struct esi_bench_shard *shard)
{
    const enum es_err err = esi_bench_worker_start(shard, &shard->worker);

    if (err != ES_OK) {
        esi_bench_client_fail(&shard->link, "the worker service cannot listen on %s port %u: %s",
                              shard->link.options->worker.host, shard->link.options->worker.port,
                              es_err_text(err));
    }
    return err == ES_OK;
}

void esi_bench_shard_open(struct esi_bench_shard *shard, const struct esi_address *publishers,
                          const struct esi_address *subscribers)
{
    const struct esi_bench_options *options = shard->link.options;
    const bool is_linked = options->subscriber_server.host[0] != '\0';
    const bool has_events = options->scenario == BENCH_EVENTS;

    if (has_events && !start_worker(shard)) {
        return;
    }
    for (size_t g = 0; g < shard->group_count; g++) {
        struct esi_bench_group *group = &shard->groups[g];
        if (has_sources(shard)) {
            open_client(shard, &group->source, &options->server, publishers);
        }
        for (size_t i = 0; i < esi_bench_group_client_count(group); i++) {
            open_client(shard, &group->members[i].client,
                        is_linked ? &options->subscriber_server : &options->server, subscribers);
        }
    }
    for (size_t g = 0; g < shard->group_count && !shard->link.has_failed; g++) {
        struct esi_bench_group *group = &shard->groups[g];
        esi_bench_group_subscribe(group);
        wait_for_pong(shard, &group->source, "SUB");
        for (size_t i = 0; i < esi_bench_group_client_count(group); i++) {
            wait_for_pong(shard, &group->members[i].client, "SUB");
        }
        if (is_linked && esi_bench_group_client_count(group) > 0) {
            wait_for_interest(shard, group);
        }
        if (has_events) {
            wait_for_event(shard, group);
        }
        esi_bench_group_stall(group);
    }
}

/* The phases. */

static bool read_servers(const struct esi_bench_shard *shard, struct esi_bench_usage *usage)
{
    const struct esi_bench_options *options = shard->link.options;

    return options->server_pid_count > 0 &&
           esi_bench_meter_read_all(options->server_pids, options->server_pid_count, usage) ==
               ES_OK;
}

/* The same however threads and processes share the publishers out: another event-bench may wait for
 * them. */
static uint64_t share_of_publisher(const struct esi_bench_shard *shard, uint64_t index)
{
    const struct esi_bench_options *options = shard->link.options;

    return options->messages * (index + 1) / options->publishers -
           options->messages * index / options->publishers;
}

void esi_bench_shard_begin(struct esi_bench_shard *shard)
{
    struct esi_bench_gate *gate = shard->gate;

    /* order: acq_rel; pairs with itself in the other shards: exactly one takes it to 0, after all
     * others. */
    if (atomic_fetch_sub_explicit(&gate->to_begin, 1, memory_order_acq_rel) == 1) {
        gate->has_server = read_servers(shard, &gate->server_before);
        if (esi_bench_meter_read_all(gate->pids, gate->pid_count, &gate->own_before) != ES_OK) {
            gate->own_before = (struct esi_bench_usage){0};
        }
    }
    for (size_t g = 0; g < shard->group_count; g++) {
        struct esi_bench_group *group = &shard->groups[g];
        esi_bench_group_mark_begin(group);
        if (shard->messages != 0) {
            group->target = group->sent + share_of_publisher(shard, group->index);
        }
    }
    shard->phase = BENCH_MEASURE;
    shard->tally.is_measuring = true;
    shard->idle_ns = 0;
    shard->cpu_ns = esi_bench_meter_thread_cpu_ns();
    shard->begin_ns = now_ns(shard);
    shard->pause_mark = shard->tally.delivered;
    shard->pause_ns = shard->begin_ns;
    shard->link.now_ns = shard->begin_ns; /* never before it */
}

/* How long nothing has come. Known to a turn of the loop, which is less than anybody minds. */
static void note_pause(struct esi_bench_shard *shard, uint64_t now)
{
    const uint64_t pause_ns = now - shard->pause_ns;

    if (shard->tally.is_measuring && pause_ns > shard->longest_pause_ns) {
        shard->longest_pause_ns = pause_ns;
    }
    if (shard->tally.delivered != shard->pause_mark) {
        shard->pause_mark = shard->tally.delivered;
        shard->pause_ns = now;
    }
}

void esi_bench_shard_end(struct esi_bench_shard *shard)
{
    struct esi_bench_gate *gate = shard->gate;

    shard->end_ns = now_ns(shard);
    note_pause(shard, shard->end_ns);
    shard->cpu_ns = esi_bench_meter_thread_cpu_ns() - shard->cpu_ns;
    shard->tally.is_measuring = false;
    /* order: acq_rel; pairs with itself in the other shards: exactly one takes it to 0, after all
     * others. */
    if (atomic_fetch_sub_explicit(&gate->to_end, 1, memory_order_acq_rel) == 1) {
        gate->has_server = gate->has_server && read_servers(shard, &gate->server_after);
        if (esi_bench_meter_read_all(gate->pids, gate->pid_count, &gate->own_after) != ES_OK) {
            gate->own_after = gate->own_before;
        }
    }
    for (size_t g = 0; g < shard->group_count; g++) {
        esi_bench_group_mark_end(&shard->groups[g]);
        shard->groups[g].target = shard->groups[g].sent;
    }
    shard->phase = BENCH_DRAIN;
}

/* Those that stall are not asked. */
static size_t farewell_count(const struct esi_bench_group *group)
{
    return esi_bench_group_client_count(group) > 0 ? group->member_count : 0;
}

static void begin_farewell(struct esi_bench_shard *shard)
{
    for (size_t g = 0; g < shard->group_count; g++) {
        struct esi_bench_group *group = &shard->groups[g];
        for (size_t i = 0; i < farewell_count(group); i++) {
            esi_bench_client_ping(&group->members[i].client);
            esi_bench_client_flush(&group->members[i].client);
        }
        /* A relay would pass it on like all the rest. */
        if (!shard->link.options->is_raw && has_sources(shard)) {
            esi_bench_client_ping(&group->source);
            esi_bench_client_flush(&group->source);
        }
    }
    shard->phase = BENCH_FAREWELL;
}

static bool has_all_pongs(const struct esi_bench_shard *shard)
{
    for (size_t g = 0; g < shard->group_count; g++) {
        const struct esi_bench_group *group = &shard->groups[g];
        if (group->source.pongs_due > 0) {
            return false;
        }
        for (size_t i = 0; i < farewell_count(group); i++) {
            if (group->members[i].client.pongs_due > 0) {
                return false;
            }
        }
    }
    return true;
}

/* What one look over the groups tells. */
struct glance {
    uint64_t sent;
    bool is_quiet;    /* everything sent has arrived */
    bool is_complete; /* and nothing is left to send */
};

static struct glance look(const struct esi_bench_shard *shard)
{
    struct glance glance = {.is_quiet = true, .is_complete = true};

    for (size_t g = 0; g < shard->group_count; g++) {
        const struct esi_bench_group *group = &shard->groups[g];
        glance.sent += group->sent;
        if (esi_bench_group_base(group) < group->sent) {
            glance.is_quiet = false;
        }
        if (group->sent < group->target) {
            glance.is_complete = false;
        }
    }
    glance.is_complete = glance.is_complete && glance.is_quiet;
    return glance;
}

/* Moves on to the next phase when this one is over. Several may be over at once. */
static void advance_phase(struct esi_bench_shard *shard, uint64_t now, struct glance glance)
{
    const struct esi_bench_options *options = shard->link.options;

    if (shard->phase == BENCH_MEASURE) {
        const bool is_over = shard->messages != 0 ? glance.is_complete
                                                  : now - shard->begin_ns >= options->duration_ns;
        if (is_over) {
            esi_bench_shard_end(shard);
            glance.is_complete = glance.is_quiet;
        }
    }
    if (shard->phase == BENCH_DRAIN && glance.is_complete) {
        begin_farewell(shard);
    }
    if (shard->phase == BENCH_FAREWELL && has_all_pongs(shard)) {
        shard->phase = BENCH_DONE;
    }
}

static bool is_stalled(struct esi_bench_shard *shard, uint64_t now, struct glance glance)
{
    const uint64_t mark = glance.sent + shard->tally.delivered + (uint64_t)shard->phase;
    const bool waits = !glance.is_quiet || shard->phase == BENCH_FAREWELL;

    if (mark != shard->progress_mark || !waits) {
        shard->progress_mark = mark;
        shard->last_progress_ns = now;
    }
    return now - shard->last_progress_ns > shard->link.options->timeout_ns;
}

/* Lets every group send. Returns how long the poller may wait. */
static int64_t push_all(struct esi_bench_shard *shard, uint64_t now)
{
    uint64_t wake_ns = now + 100 * ms;

    if (shard->messages == 0 && shard->phase == BENCH_MEASURE) {
        const uint64_t over_ns = shard->begin_ns + shard->link.options->duration_ns;
        wake_ns = over_ns < wake_ns ? over_ns : wake_ns;
    }
    for (size_t g = 0; g < shard->group_count; g++) {
        uint64_t due_ns = UINT64_MAX;
        switch (esi_bench_group_push(&shard->groups[g], now, &due_ns)) {
        case BENCH_PUSH_MORE:
            wake_ns = now;
            break;
        case BENCH_PUSH_LATER:
            wake_ns = due_ns < wake_ns ? due_ns : wake_ns;
            break;
        case BENCH_PUSH_WAIT:
            break;
        }
    }
    return wake_ns <= now ? 0 : (int64_t)(wake_ns - now);
}

/* What another event-bench will have sent counts as sent: then the run ends when all of it is here.
 */
static void await_strangers(struct esi_bench_shard *shard)
{
    esi_bench_shard_begin(shard);
    for (size_t g = 0; g < shard->group_count; g++) {
        struct esi_bench_group *group = &shard->groups[g];
        group->sent = group->target;
        group->sent_span.before = group->sent; /* by others */
    }
}

/* Measuring begins with the first message: nobody knows before when the other one starts. */
static void begin_late(struct esi_bench_shard *shard)
{
    shard->begin_ns = shard->link.now_ns;
    shard->pause_ns = shard->begin_ns;
    shard->idle_ns = 0;
}

void esi_bench_shard_run(void *argument)
{
    struct esi_bench_shard *shard = argument;
    const uint64_t start_ns = now_ns(shard);

    shard->last_progress_ns = start_ns;
    for (size_t g = 0; g < shard->group_count; g++) {
        shard->groups[g].start_ns = start_ns;
    }
    if (!has_sources(shard)) {
        await_strangers(shard);
    }
    while (shard->phase != BENCH_DONE && !shard->link.has_failed) {
        const uint64_t now = now_ns(shard);
        if (shard->phase == BENCH_WARMUP && now - start_ns >= shard->link.options->warmup_ns) {
            esi_bench_shard_begin(shard);
        }
        const int64_t timeout_ns = push_all(shard, now);
        esi_bench_shard_poll(shard, timeout_ns);
        if (!has_sources(shard) && shard->tally.delivered > 0 && shard->pause_mark == 0) {
            begin_late(shard);
        }
        if (shard->tally.is_measuring) {
            note_pause(shard, shard->link.now_ns);
        }
        const struct glance glance = look(shard);
        advance_phase(shard, shard->link.now_ns, glance);
        if (is_stalled(shard, shard->link.now_ns, glance)) {
            shard->has_stalled = true;
            break;
        }
        /* order: relaxed; only shown, nothing is derived from it. */
        atomic_store_explicit(&shard->shown->delivered, shard->tally.delivered,
                              memory_order_relaxed);
        if (shard->progress != NULL) {
            esi_bench_progress_update(shard->progress, shard->link.now_ns);
        }
    }
    if (shard->phase == BENCH_WARMUP) {
        esi_bench_shard_begin(shard);
    }
    if (shard->phase == BENCH_MEASURE) {
        esi_bench_shard_end(shard);
    }
}

/* Setting up. */

enum es_err esi_bench_shard_init(struct esi_bench_shard *shard, struct esi_env *env,
                                 const struct esi_bench_options *options,
                                 struct esi_bench_gate *gate, const struct esi_bench_share *share)
{
    shard->link.env = env;
    shard->link.options = options;
    shard->link.payload_max = options->size_bytes + 4096; /* 4096: headers of a status message */
    shard->link.block_bytes = shard->link.payload_max + BENCH_LINE_BYTES_MAX + 2 + BENCH_READ_BYTES;
    shard->gate = gate;
    shard->messages = share->messages;
    esi_histogram_init(&shard->tally.latency_ns);
    esi_histogram_init(&shard->tally.late_ns);
    shard->link.block = malloc(shard->link.block_bytes);
    shard->groups = calloc(share->group_count + 1, sizeof *shard->groups); /* may be none */
    if (shard->link.block == NULL || shard->groups == NULL) {
        return ES_NO_MEMORY;
    }
    shard->group_count = share->group_count;
    enum es_err err = esi_env_poller_new(env, &shard->link.poller);
    for (size_t g = 0; g < shard->group_count && err == ES_OK; g++) {
        err = esi_bench_group_init(&shard->groups[g], &shard->link, &shard->tally,
                                   share->first_group + g);
        if (esi_bench_options_is_fan_in(options->scenario)) {
            shard->groups[g].family = shard->groups;
            shard->groups[g].family_count = share->group_count;
        }
    }
    return err;
}

void esi_bench_shard_deinit(struct esi_bench_shard *shard)
{
    for (size_t g = 0; g < shard->group_count; g++) {
        esi_bench_group_deinit(&shard->groups[g]);
    }
    esi_bench_worker_stop(shard->worker);
    free(shard->groups);
    free(shard->link.block);
    if (shard->link.env != NULL) {
        esi_env_poller_free(shard->link.env, shard->link.poller);
    }
    *shard = (struct esi_bench_shard){0};
}
