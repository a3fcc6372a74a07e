/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each scenario is a loop: start what may be started, wait, see what has come to its end. */
#include "event_bench/bench_control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event_bench/bench_progress.h"

enum { OPENING_MAX = 64 }; /* of idle clients; more would wait in the server's accept queue */

static const uint64_t ms = 1000000;

bool esi_bench_control_has(enum esi_bench_scenario scenario)
{
    return scenario == BENCH_CONNECT || scenario == BENCH_CHURN || scenario == BENCH_IDLE;
}

static void on_nothing(struct esi_bench_client *client, const struct esi_bench_frame *message)
{
    (void)message;
    esi_bench_client_fail(client->link, "a message came that nobody had published");
}

static bool is_open(const struct esi_bench_client *client)
{
    return client->state == BENCH_CLIENT_OPEN && client->pongs_due == 0;
}

static void count(struct esi_bench_shard *shard, uint64_t operations)
{
    shard->tally.delivered += operations;
    if (shard->tally.is_measuring) {
        shard->tally.operations += operations;
    }
    /* order: relaxed; only shown, nothing is derived from it. */
    atomic_store_explicit(&shard->shown->delivered, shard->tally.delivered, memory_order_relaxed);
    shard->last_progress_ns = shard->link.now_ns;
}

/* Waits for something to happen. False when the run is over by failure. */
static bool wait_a_moment(struct esi_bench_shard *shard)
{
    esi_bench_shard_poll(shard, (int64_t)(100 * ms));
    if (shard->link.now_ns - shard->last_progress_ns > shard->link.options->timeout_ns) {
        shard->has_stalled = true;
    }
    if (shard->progress != NULL) {
        esi_bench_progress_update(shard->progress, shard->link.now_ns);
    }
    return !shard->has_stalled && !shard->link.has_failed;
}

/* Begins to measure after the warm-up. True while there is more to start. */
static bool goes_on(struct esi_bench_shard *shard, uint64_t start_ns)
{
    const struct esi_bench_options *options = shard->link.options;

    if (shard->phase == BENCH_WARMUP && shard->link.now_ns - start_ns >= options->warmup_ns) {
        esi_bench_shard_begin(shard);
    }
    if (shard->phase != BENCH_MEASURE) {
        return true;
    }
    return shard->messages != 0 ? shard->tally.operations < shard->messages
                                : shard->link.now_ns - shard->begin_ns < options->duration_ns;
}

/* --- connect --- */

struct caller {
    struct esi_bench_client client;
    uint64_t start_ns;
};

enum { SOURCES = 200 };

/*
 * Who closes a connection keeps its port for a while (TIME_WAIT: a second on loopback, a minute
 * elsewhere), and Linux gives 14,116 before each further connect looks through all that are taken,
 * which takes 2 ms. On loopback there are addresses enough to take turns. Returns false elsewhere.
 */
static bool choose_source(const struct esi_bench_shard *shard, struct esi_address *source)
{
    static const char loopback[] = "127.";

    if (strncmp(shard->address.host, loopback, sizeof loopback - 1) != 0) {
        return false;
    }
    *source = (struct esi_address){0};
    snprintf(source->host, sizeof source->host, "127.0.%llu.%llu",
             (unsigned long long)(shard->index % 256),
             (unsigned long long)(2 + shard->tally.delivered % SOURCES));
    return true;
}

static void call(struct esi_bench_shard *shard, struct caller *caller)
{
    struct esi_address source;
    const bool has_source = choose_source(shard, &source);

    caller->start_ns = esi_env_now_ns(shard->link.env);
    esi_bench_client_init(&caller->client, &shard->link, on_nothing, NULL);
    esi_bench_client_open(&caller->client, &shard->link.options->server, &shard->address,
                          has_source ? &source : NULL);
}

static void run_connect(struct esi_bench_shard *shard, struct caller *callers, uint64_t start_ns)
{
    const uint64_t caller_count = shard->link.options->in_flight;
    uint64_t busy = 0;
    bool has_more = true;

    while (has_more || busy > 0) {
        for (uint64_t i = 0; i < caller_count && has_more && !shard->link.has_failed; i++) {
            if (callers[i].client.link == NULL) {
                call(shard, &callers[i]);
                busy++;
            }
        }
        if (!wait_a_moment(shard)) {
            return;
        }
        for (uint64_t i = 0; i < caller_count; i++) {
            struct caller *caller = &callers[i];
            if (caller->client.link != NULL && is_open(&caller->client)) {
                if (shard->tally.is_measuring) {
                    esi_histogram_record(&shard->tally.latency_ns,
                                         shard->link.now_ns - caller->start_ns);
                }
                esi_bench_client_deinit(&caller->client);
                busy--;
                count(shard, 1);
            }
        }
        has_more = has_more && goes_on(shard, start_ns);
    }
}

/* --- churn --- */

/* A run of new subjects, and their end: twice as many operations. */
static void append_churn(struct esi_bench_shard *shard, struct esi_bench_client *client,
                         uint64_t *next)
{
    const struct esi_bench_options *options = shard->link.options;

    for (uint64_t i = 0; i < options->in_flight; i++) {
        esi_bytes_printf(&client->out, "SUB %s.%llu.%llu %llu\r\n", options->subject,
                         (unsigned long long)shard->index, (unsigned long long)*next + i,
                         (unsigned long long)*next + i);
    }
    for (uint64_t i = 0; i < options->in_flight; i++) {
        esi_bytes_printf(&client->out, "UNSUB %llu\r\n", (unsigned long long)*next + i);
    }
    *next += options->in_flight;
}

static void run_churn(struct esi_bench_shard *shard, struct caller *callers, uint64_t start_ns)
{
    struct esi_bench_client *client = &callers[0].client;
    uint64_t next = 1;

    call(shard, &callers[0]);
    while (!is_open(client)) {
        if (!wait_a_moment(shard)) {
            return;
        }
    }
    while (goes_on(shard, start_ns)) {
        const uint64_t begin_ns = esi_env_now_ns(shard->link.env);
        append_churn(shard, client, &next);
        esi_bench_client_ping(client);
        esi_bench_client_flush(client);
        while (client->pongs_due > 0) {
            if (!wait_a_moment(shard)) {
                return;
            }
        }
        if (shard->tally.is_measuring) {
            esi_histogram_record(&shard->tally.latency_ns, shard->link.now_ns - begin_ns);
        }
        count(shard, 2 * shard->link.options->in_flight);
    }
}

/* --- idle --- */

/* As many subscriptions as --subjects says: what one takes is seen with a million of them. */
static void subscribe_idle(struct esi_bench_shard *shard, struct caller *caller, uint64_t number)
{
    const struct esi_bench_options *options = shard->link.options;

    for (uint64_t i = 0; i < options->subjects; i++) {
        esi_bytes_printf(&caller->client.out, "SUB %s.%llu.%llu.%s%07llu %llu\r\n",
                         options->subject, (unsigned long long)shard->index,
                         (unsigned long long)number, i % 100 < options->wildcards ? "*." : "s.",
                         (unsigned long long)i, (unsigned long long)i + 1);
    }
    esi_bench_client_ping(&caller->client);
    esi_bench_client_flush(&caller->client);
}

/* Opens all of them, a few at a time. */
static bool open_idle(struct esi_bench_shard *shard, struct caller *callers, uint64_t caller_count)
{
    uint64_t opened = 0;
    uint64_t ready = 0; /* callers below are open and subscribed */

    while (ready < caller_count) {
        while (opened < caller_count && opened - ready < OPENING_MAX && !shard->link.has_failed) {
            call(shard, &callers[opened++]);
        }
        if (!wait_a_moment(shard)) {
            return false;
        }
        while (ready < opened && is_open(&callers[ready].client)) {
            subscribe_idle(shard, &callers[ready], ready);
            count(shard, 1);
            ready++;
        }
    }
    for (uint64_t i = 0; i < caller_count; i++) {
        while (!is_open(&callers[i].client)) {
            if (!wait_a_moment(shard)) {
                return false;
            }
        }
    }
    return true;
}

static void run_idle(struct esi_bench_shard *shard, struct caller *callers)
{
    const uint64_t caller_count = shard->link.options->subscribers;

    if (!open_idle(shard, callers, caller_count)) {
        return;
    }
    esi_bench_shard_begin(shard);
    while (shard->link.now_ns - shard->begin_ns < shard->link.options->duration_ns) {
        shard->last_progress_ns = shard->link.now_ns; /* that nothing happens is what is wanted */
        if (!wait_a_moment(shard)) {
            return;
        }
    }
    shard->tally.operations = caller_count;
}

void esi_bench_control_run(void *argument)
{
    struct esi_bench_shard *shard = argument;
    const struct esi_bench_options *options = shard->link.options;
    const uint64_t start_ns = esi_env_now_ns(shard->link.env);
    const uint64_t caller_count = options->scenario == BENCH_IDLE    ? options->subscribers
                                  : options->scenario == BENCH_CHURN ? 1
                                                                     : options->in_flight;
    struct caller *callers = calloc(caller_count, sizeof *callers);

    if (callers == NULL) {
        esi_bench_client_fail(&shard->link, "%s", es_err_text(ES_NO_MEMORY));
        return;
    }
    shard->link.now_ns = start_ns;
    shard->last_progress_ns = start_ns;
    if (options->scenario == BENCH_IDLE) {
        run_idle(shard, callers);
    } else if (options->scenario == BENCH_CHURN) {
        run_churn(shard, callers, start_ns);
    } else {
        run_connect(shard, callers, start_ns);
    }
    if (shard->phase == BENCH_WARMUP) {
        esi_bench_shard_begin(shard);
    }
    esi_bench_shard_end(shard);
    for (uint64_t i = 0; i < caller_count; i++) {
        esi_bench_client_deinit(&callers[i].client);
    }
    free(callers);
}
