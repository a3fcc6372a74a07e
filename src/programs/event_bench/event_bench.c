/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * event-bench: loads a NATS server and measures it. The run is cut into shards, one a thread; the
 * first shard runs in the main thread. Figures are printed only when every message was accounted
 * for.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/bytes.h"
#include "env/env.h"
#include "event_bench/bench_control.h"
#include "event_bench/bench_options.h"
#include "event_bench/bench_progress.h"
#include "event_bench/bench_report.h"
#include "event_bench/bench_report_json.h"
#include "event_bench/bench_result.h"
#include "event_bench/bench_shard.h"
#include "net/tls.h"

enum exit_status { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct bench {
    struct esi_env *env;
    struct esi_bench_options options;
    struct esi_tls_context *tls; /* NULL: plain */
    struct esi_bench_gate gate;
    struct esi_bench_shard *shards; /* owned; shard_count */
    size_t shard_count;
    struct esi_bench_progress progress;
    struct esi_bench_result result;
};

static bool say(const char *what, const char *why)
{
    fprintf(stderr, "event-bench: %s: %s\n", what, why);
    return false;
}

/* The part of `total` that shard number `index` of `count` gets; the first take the remainder. */
static uint64_t share_of(uint64_t total, uint64_t index, uint64_t count)
{
    return total / count + (index < total % count ? 1 : 0);
}

/* The usual soft limit of 1024 descriptors is below what this program allows itself. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* without it, a connect tells */
    }
}

static bool make_shard(struct bench *bench, uint64_t index, const struct esi_bench_share *share)
{
    struct esi_bench_shard *shard = &bench->shards[index];

    bench->shard_count++;
    shard->index = index;
    shard->link.tls = bench->tls;
    const enum es_err err =
        esi_bench_shard_init(shard, bench->env, &bench->options, &bench->gate, share);
    return err == ES_OK || say("start", es_err_text(err));
}

static bool make_shards(struct bench *bench)
{
    const struct esi_bench_options *options = &bench->options;
    struct esi_bench_share share = {0};

    bench->shards = calloc(options->threads, sizeof *bench->shards);
    if (bench->shards == NULL) {
        return say("start", es_err_text(ES_NO_MEMORY));
    }
    for (uint64_t s = 0; s < options->threads; s++) {
        if (esi_bench_control_has(options->scenario)) {
            share.messages = share_of(options->messages, s, options->threads);
            if (!make_shard(bench, s, &share)) {
                return false;
            }
            continue;
        }
        share.group_count = share_of(options->publishers, s, options->threads);
        /* By publishers, so that each publisher of the run has the same share. */
        share.messages = options->messages == 0
                             ? 0
                             : options->messages * (share.first_group + share.group_count) /
                                       options->publishers -
                                   options->messages * share.first_group / options->publishers;
        if (!make_shard(bench, s, &share)) {
            return false;
        }
        share.first_group += share.group_count;
    }
    return true;
}

static bool resolve(const struct bench *bench, const struct esi_bench_address *server,
                    struct esi_address *out)
{
    size_t count;
    const enum es_err err = esi_env_resolve(bench->env, server->host, server->port, out, 1, &count);

    return err == ES_OK || say(server->host, es_err_text(err));
}

/* One context serves all connections. */
static bool make_tls(struct bench *bench)
{
    const struct esi_bench_tls *tls = &bench->options.tls;
    const struct esi_tls_certificate certificate = {.cert_path = tls->cert_path,
                                                    .key_path = tls->key_path};
    const struct esi_tls_options options = {
        .role = TLS_CLIENT,
        .min_version = TLS_VERSION_1_2,
        .certificates = &certificate,
        .certificate_count = tls->cert_path != NULL ? 1 : 0,
        .root_ca_path = tls->ca_path,
        .verify_peer = !tls->is_insecure,
        .insecure = tls->is_insecure,
    };
    struct es_error error = {.text = ""};

    return !tls->is_on || esi_tls_context_new(bench->env, &options, &bench->tls, &error) == ES_OK ||
           say("TLS", error.text);
}

static bool open_shards(struct bench *bench)
{
    const struct esi_bench_options *options = &bench->options;
    struct esi_address publishers;
    struct esi_address subscribers;

    if (!resolve(bench, &options->server, &publishers)) {
        return false;
    }
    subscribers = publishers;
    if (options->subscriber_server.host[0] != '\0' &&
        !resolve(bench, &options->subscriber_server, &subscribers)) {
        return false;
    }
    for (size_t s = 0; s < bench->shard_count; s++) {
        bench->shards[s].address = publishers;
        esi_bench_shard_open(&bench->shards[s], &publishers, &subscribers);
        if (bench->shards[s].link.has_failed) {
            return say("cannot start", bench->shards[s].link.error.text);
        }
    }
    return true;
}

/* Runs all shards, the first in this thread. */
static void run_shards(struct bench *bench)
{
    struct esi_thread *threads[BENCH_THREADS_MAX];
    void (*const run)(void *argument) = esi_bench_control_has(bench->options.scenario)
                                            ? esi_bench_control_run
                                            : esi_bench_shard_run;
    enum es_err err = ES_OK;

    for (size_t s = 1; s < bench->shard_count && err == ES_OK; s++) {
        err = esi_env_thread_start(bench->env, "bench", run, &bench->shards[s], &threads[s]);
    }
    if (err != ES_OK) {
        /* The threads that have started would wait for nobody; the process ends with them. */
        say("cannot start a thread", es_err_text(err));
        exit(EXIT_FAILED);
    }
    run(&bench->shards[0]);
    for (size_t s = 1; s < bench->shard_count; s++) {
        esi_env_thread_join(bench->env, threads[s]);
    }
    esi_bench_progress_finish(&bench->progress);
}

static bool check_server_process(struct bench *bench)
{
    struct esi_bench_usage usage;

    if (bench->options.server_pid_count == 0) {
        return true;
    }
    if (esi_bench_meter_read_all(bench->options.server_pids, bench->options.server_pid_count,
                                 &usage) != ES_OK) {
        return say("--server-pid", "no such process");
    }
    bench->gate.server_resident_bytes = usage.resident_bytes;
    return true;
}

/* One line for the user: what stopped the run, and which messages went wrong. Empty when all is
 * well. */
static void describe_failure(const struct bench *bench, struct esi_bytes *out)
{
    if (bench->result.is_valid) {
        return;
    }
    esi_bench_report_faults(&bench->result, out);
    for (size_t s = 0; s < bench->shard_count; s++) {
        const struct esi_bench_shard *shard = &bench->shards[s];
        if (shard->link.has_failed) {
            /* What was on its way then is no verdict on the server. */
            esi_bytes_clear(out);
            esi_bytes_append_text(out, shard->link.error.text);
            return;
        }
        if (shard->has_stalled) {
            esi_bytes_printf(out, "%sno progress for %.1f s", out->len > 0 ? "; " : "",
                             (double)bench->options.timeout_ns / 1e9);
            return;
        }
    }
    if (out->len == 0) {
        esi_bytes_append_text(out, "no message was delivered");
    }
}

static bool write_file(const char *path, struct esi_str text)
{
    FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");

    if (file == NULL) {
        return say(path, "cannot be written");
    }
    const bool is_written = fwrite(text.data, 1, text.len, file) == text.len;
    const bool is_flushed = (file == stdout ? fflush(file) : fclose(file)) == 0;
    return (is_written && is_flushed) || say(path, "cannot be written");
}

static bool report(const struct bench *bench)
{
    const char *json_path = bench->options.json_path;
    struct esi_bytes failure;
    struct esi_bytes text;
    bool is_good = bench->result.is_valid;

    esi_bytes_init(&failure, 0);
    esi_bytes_init(&text, 0);
    describe_failure(bench, &failure);
    esi_bytes_append(&failure, "", 1); /* ended by NUL */
    if (json_path != NULL) {
        esi_bench_report_json(&bench->result, failure.data != NULL ? failure.data : "", &text);
        is_good = write_file(json_path, esi_bytes_str(&text)) && is_good;
    }
    if (json_path == NULL || strcmp(json_path, "-") != 0) {
        esi_bytes_clear(&text);
        esi_bench_report_text(&bench->result, &text);
        fwrite(text.data, 1, text.len, stdout);
        fflush(stdout);
    }
    if (!bench->result.is_valid) {
        fprintf(stderr, "event-bench: FAILED: %s; no figures\n",
                failure.data != NULL ? failure.data : "");
    }
    esi_bytes_deinit(&failure);
    esi_bytes_deinit(&text);
    return is_good;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bool is_good = false;

    bench.env = esi_env_linux();
    switch (esi_bench_options_parse(bench.env, argc, argv, &bench.options)) {
    case BENCH_PARSED_EXIT:
        return EXIT_GOOD;
    case BENCH_PARSED_USAGE:
        return EXIT_USAGE;
    case BENCH_PARSED_RUN:
        break;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    atomic_init(&bench.gate.to_begin, (uint32_t)bench.options.threads);
    atomic_init(&bench.gate.to_end, (uint32_t)bench.options.threads);
    if (check_server_process(&bench) && make_tls(&bench) && make_shards(&bench) &&
        open_shards(&bench)) {
        if (bench.options.show_progress) {
            esi_bench_progress_init(&bench.progress, &bench.options, bench.shards,
                                    bench.shard_count, esi_env_now_ns(bench.env));
            bench.shards[0].progress = &bench.progress;
        }
        esi_bench_result_stamp(&bench.result.stamp, bench.env);
        run_shards(&bench);
        esi_bench_result_collect(&bench.result, &bench.options, bench.shards, bench.shard_count);
        is_good = report(&bench);
    }
    for (size_t s = 0; s < bench.shard_count; s++) {
        esi_bench_shard_deinit(&bench.shards[s]);
    }
    free(bench.shards);
    esi_tls_context_unref(bench.tls);
    return is_good ? EXIT_GOOD : EXIT_FAILED;
}
