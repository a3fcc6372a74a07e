/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * event-bench: loads a NATS server and measures it. The run is cut into shards, one a thread, of
 * one process or several; the first shard of a process runs in its main thread. Figures are printed
 * only when every message was accounted for, and the generator was not what limited them.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "env/env.h"
#include "event_bench/bench_control.h"
#include "event_bench/bench_crew.h"
#include "event_bench/bench_options.h"
#include "event_bench/bench_part.h"
#include "event_bench/bench_progress.h"
#include "event_bench/bench_report.h"
#include "event_bench/bench_report_csv.h"
#include "event_bench/bench_report_json.h"
#include "event_bench/bench_result.h"
#include "event_bench/bench_shard.h"
#include "net/tls.h"

enum exit_status { EXIT_GOOD = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_BOTTLENECK = 3 };

struct bench {
    struct esi_env *env;
    struct esi_bench_options options;
    struct esi_bench_crew crew;
    struct esi_bench_part *part;    /* borrowed: what this process has found */
    struct esi_tls_context *tls;    /* NULL: plain */
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

/* Notes why this process cannot start; the one that was started tells the user. */
static bool fail(struct bench *bench, const char *what, const char *why)
{
    snprintf(bench->part->failure.text, sizeof bench->part->failure.text, "%.100s: %.400s", what,
             why);
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

/* An open loop that is late is no measure: by default the kernel lets waits take 50 us longer. */
static void wait_exactly(void)
{
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* threads and children inherit it */
}

/* Shard `index` of the run, which may be one of another process. */
static bool make_shard(struct bench *bench, uint64_t index, const struct esi_bench_share *share)
{
    if (index / bench->options.threads != bench->crew.index) {
        return true;
    }
    struct esi_bench_shard *shard = &bench->shards[bench->shard_count++];
    shard->index = index;
    shard->shown = &bench->crew.board->shown[index];
    shard->link.tls = bench->tls;
    const enum es_err err =
        esi_bench_shard_init(shard, bench->env, &bench->options, &bench->crew.board->gate, share);
    return err == ES_OK || fail(bench, "cannot start", es_err_text(err));
}

static bool make_shards(struct bench *bench)
{
    const struct esi_bench_options *options = &bench->options;
    const uint64_t count = options->processes * options->threads;
    struct esi_bench_share share = {0};

    bench->shards = calloc(options->threads, sizeof *bench->shards);
    if (bench->shards == NULL) {
        return fail(bench, "cannot start", es_err_text(ES_NO_MEMORY));
    }
    for (uint64_t s = 0; s < count; s++) {
        if (esi_bench_control_has(options->scenario)) {
            share.messages = share_of(options->messages, s, count);
        } else {
            share.group_count = share_of(options->publishers, s, count);
            /* By publishers, so that each publisher of the run has the same share. */
            share.messages =
                options->messages * (share.first_group + share.group_count) / options->publishers -
                options->messages * share.first_group / options->publishers;
        }
        if (!make_shard(bench, s, &share)) {
            return false;
        }
        share.first_group += share.group_count;
    }
    return true;
}

static bool resolve(struct bench *bench, const struct esi_bench_address *server,
                    struct esi_address *out)
{
    size_t count;
    const enum es_err err = esi_env_resolve(bench->env, server->host, server->port, out, 1, &count);

    return err == ES_OK || fail(bench, server->host, "this name has no address");
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
           fail(bench, "TLS", error.text);
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
            return fail(bench, "cannot start", bench->shards[s].link.error.text);
        }
    }
    return true;
}

/* Runs all shards, the first in this thread. */
static void run_shards(struct bench *bench)
{
    struct esi_thread *threads[BENCH_THREADS_MAX] = {NULL};
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

/* Before anything is connected. */
static bool read_server_process(const struct bench *bench, struct esi_bench_usage *usage)
{
    if (bench->options.server_pid_count == 0) {
        return true;
    }
    if (esi_bench_meter_read_all(bench->options.server_pids, bench->options.server_pid_count,
                                 usage) != ES_OK) {
        return say("--server-pid", "no such process");
    }
    return true;
}

/* One line for the user: why there are no figures. Empty when there are. */
static void describe_failure(const struct bench *bench, struct esi_bytes *out)
{
    const struct esi_bench_result *result = &bench->result;

    if (result->has_figures) {
        return;
    }
    if (result->is_valid) {
        esi_bench_report_bottleneck(result, out);
        return;
    }
    if (result->sum.failure.text[0] != '\0') {
        /* What was on its way then is no verdict on the server. */
        esi_bytes_append_text(out, result->sum.failure.text);
        return;
    }
    esi_bench_report_faults(result, out);
    if (result->sum.has_stalled) {
        esi_bytes_printf(out, "%sno progress for %.1f s", out->len > 0 ? "; " : "",
                         (double)bench->options.timeout_ns / 1e9);
    }
    if (out->len == 0) {
        esi_bytes_append_text(out, "no message was delivered");
    }
}

static bool is_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static bool write_file(const char *path, const char *mode, struct esi_str text)
{
    FILE *file = is_stdout(path) ? stdout : fopen(path, mode);

    if (file == NULL) {
        return say(path, "cannot be written");
    }
    const bool is_written = fwrite(text.data, 1, text.len, file) == text.len;
    const bool is_flushed = (file == stdout ? fflush(file) : fclose(file)) == 0;
    return (is_written && is_flushed) || say(path, "cannot be written");
}

/* Many runs may share a file: the headings stand where it begins. */
static bool write_csv(const struct bench *bench, const char *failure)
{
    const char *path = bench->options.csv_path;
    struct stat facts;
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    const bool is_new = is_stdout(path) || stat(path, &facts) != 0 || facts.st_size == 0;
    esi_bench_report_csv(&bench->result, is_new, failure, &text);
    const bool is_good = write_file(path, "ae", esi_bytes_str(&text));
    esi_bytes_deinit(&text);
    return is_good;
}

static bool write_reports(const struct bench *bench, const char *failure)
{
    const struct esi_bench_options *options = &bench->options;
    struct esi_bytes text;
    bool is_good = true;

    esi_bytes_init(&text, 0);
    if (options->json_path != NULL) {
        esi_bench_report_json(&bench->result, failure, &text);
        is_good = write_file(options->json_path, "we", esi_bytes_str(&text));
    }
    if (options->csv_path != NULL) {
        is_good = write_csv(bench, failure) && is_good;
    }
    if (!is_stdout(options->json_path) && !is_stdout(options->csv_path)) {
        esi_bytes_clear(&text);
        esi_bench_report_text(&bench->result, &text);
        is_good = write_file("-", "we", esi_bytes_str(&text)) && is_good;
    }
    esi_bytes_deinit(&text);
    return is_good;
}

static enum exit_status report(const struct bench *bench)
{
    struct esi_bytes failure;

    esi_bytes_init(&failure, 0);
    describe_failure(bench, &failure);
    esi_bytes_append(&failure, "", 1); /* ended by NUL */
    const char *text = failure.data != NULL ? failure.data : "";
    const bool is_written = write_reports(bench, text);
    if (!bench->result.has_figures) {
        fprintf(stderr, "event-bench: %s: %s; no figures\n",
                bench->result.is_valid ? "REFUSED" : "FAILED", text);
    }
    esi_bytes_deinit(&failure);
    if (!bench->result.is_valid || !is_written) {
        return EXIT_FAILED;
    }
    return bench->result.has_figures ? EXIT_GOOD : EXIT_BOTTLENECK;
}

/* In every process. */
static bool run(struct bench *bench)
{
    struct esi_bench_crew *crew = &bench->crew;

    bench->part = &crew->board->parts[crew->index];
    const bool is_ready = make_tls(bench) && make_shards(bench) && open_shards(bench);
    if (!esi_bench_crew_meet(crew, is_ready)) {
        return false;
    }
    if (bench->options.show_progress && crew->index == 0) {
        esi_bench_progress_init(&bench->progress, &bench->options, crew->board->shown,
                                bench->options.processes * bench->options.threads,
                                esi_env_now_ns(bench->env));
        bench->shards[0].progress = &bench->progress;
    }
    run_shards(bench);
    esi_bench_part_collect(bench->part, crew->board->rows, &bench->options, bench->shards,
                           bench->shard_count);
    return esi_bench_crew_meet(crew, true);
}

/* In the process that was started, after all have come to their end. */
static enum exit_status conclude(struct bench *bench, bool is_whole)
{
    const struct esi_bench_board *board = bench->crew.board;
    struct es_error *failure = &bench->result.sum.failure;

    esi_bench_result_collect(&bench->result, &bench->options, &board->gate, board->parts,
                             board->rows);
    if (!is_whole) {
        bench->result.is_valid = false;
        bench->result.has_figures = false;
        if (failure->text[0] == '\0') {
            snprintf(failure->text, sizeof failure->text, "a process of the generator has died");
        }
    }
    return report(bench);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct esi_bench_usage usage = {0};
    enum exit_status status = EXIT_FAILED;

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
    wait_exactly();
    esi_bench_result_stamp(&bench.result.stamp, bench.env);
    if (!read_server_process(&bench, &usage)) {
        return EXIT_FAILED;
    }
    const enum es_err err = esi_bench_crew_start(&bench.crew, &bench.options);
    if (err != ES_OK) {
        say("cannot start", es_err_text(err));
    } else if (bench.crew.index != 0) {
        status = run(&bench) ? EXIT_GOOD : EXIT_FAILED;
    } else {
        bench.crew.board->gate.server_resident_bytes = usage.resident_bytes;
        status = conclude(&bench, run(&bench));
    }
    for (size_t s = 0; s < bench.shard_count; s++) {
        esi_bench_shard_deinit(&bench.shards[s]);
    }
    free(bench.shards);
    esi_tls_context_unref(bench.tls);
    esi_bench_crew_finish(&bench.crew);
    return (int)status;
}
