/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums over the processes; everything a delivered message is divided here, and only here. */
#include "event_bench/bench_result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "net/tls.h"

#ifdef __clang__
static const char compiler[] = __VERSION__; /* says its name itself */
#else
static const char compiler[] = "gcc " __VERSION__;
#endif

/* A server at work on less than this part of a core was not what limited the rate. */
static const double server_low = 0.80;
static const uint64_t user_share_least_ns = 200000000;

static void read_line(const char *path, char *out, size_t capacity)
{
    FILE *file = fopen(path, "re");

    out[0] = '\0';
    if (file == NULL) {
        return;
    }
    if (fgets(out, (int)capacity, file) == NULL) {
        out[0] = '\0';
    }
    out[strcspn(out, "\n")] = '\0';
    fclose(file);
}

/* The first "model name" of /proc/cpuinfo; other architectures than x86 have none. */
static void read_cpu_model(char *out, size_t capacity)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");

    out[0] = '\0';
    if (file == NULL) {
        return;
    }
    while (out[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        const char *value = strstr(line, ": ");
        if (strncmp(line, "model name", strlen("model name")) == 0 && value != NULL) {
            snprintf(out, capacity, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        }
    }
    fclose(file);
}

static void read_load(double *load)
{
    if (getloadavg(load, 3) != 3) {
        load[0] = load[1] = load[2] = -1;
    }
}

void esi_bench_result_stamp(struct esi_bench_stamp *stamp, struct esi_env *env)
{
    struct utsname name;
    struct tm utc;
    const time_t now = (time_t)(esi_env_wall_ns(env) / 1000000000);

    *stamp = (struct esi_bench_stamp){.compiler = compiler,
                                      .tls_library = esi_tls_build_name(),
                                      .cores = esi_env_core_count(env)};
    if (uname(&name) == 0) {
        snprintf(stamp->kernel, sizeof stamp->kernel, "%.40s %.100s", name.sysname, name.release);
        snprintf(stamp->machine, sizeof stamp->machine, "%.60s", name.machine);
    }
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", stamp->governor,
              sizeof stamp->governor);
    if (gmtime_r(&now, &utc) != NULL) {
        strftime(stamp->date, sizeof stamp->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    read_cpu_model(stamp->cpu, sizeof stamp->cpu);
    read_load(stamp->load_before);
}

static void add_part(struct esi_bench_part *sum, const struct esi_bench_part *part)
{
    sum->begin_ns = part->begin_ns < sum->begin_ns ? part->begin_ns : sum->begin_ns;
    sum->end_ns = part->end_ns > sum->end_ns ? part->end_ns : sum->end_ns;
    sum->published += part->published;
    sum->delivered += part->delivered;
    sum->replies += part->replies;
    sum->delivered_total += part->delivered_total;
    sum->faults.lost += part->faults.lost;
    sum->faults.duplicated += part->faults.duplicated;
    sum->faults.reordered += part->faults.reordered;
    sum->faults.damaged += part->faults.damaged;
    sum->faults.misrouted += part->faults.misrouted;
    esi_histogram_merge(&sum->latency_ns, &part->latency_ns);
    sum->longest_pause_ns = part->longest_pause_ns > sum->longest_pause_ns ? part->longest_pause_ns
                                                                           : sum->longest_pause_ns;
    esi_histogram_merge(&sum->late_ns, &part->late_ns);
    sum->busy = part->busy > sum->busy ? part->busy : sum->busy;
    sum->saturated += part->saturated;
    sum->has_stalled = sum->has_stalled || part->has_stalled;
    if (sum->failure.text[0] == '\0') {
        sum->failure = part->failure;
    }
    if (!sum->server.is_known) {
        sum->server = part->server;
    }
}

static double divide(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* Told in ticks of 10 ms, which say nothing of a short run. */
static double user_share(const struct esi_bench_usage *before, const struct esi_bench_usage *after)
{
    const uint64_t user = after->user_ns - before->user_ns;
    const uint64_t system = after->system_ns - before->system_ns;

    return user + system < user_share_least_ns ? -1 : (double)user / (double)(user + system);
}

static void add_server(struct esi_bench_result *result, const struct esi_bench_gate *gate)
{
    const struct esi_bench_usage *before = &gate->server_before;
    const struct esi_bench_usage *after = &gate->server_after;
    const double delivered = (double)result->sum.delivered;
    const double server_ns = (double)(after->cpu_ns - before->cpu_ns);

    result->server_cpu_us = divide(server_ns / 1e3, delivered);
    result->server_user_share = user_share(before, after);
    result->server_cores = divide(server_ns / 1e9, result->seconds);
    /* A thread that ended meanwhile took its count with it. */
    result->server_voluntary =
        after->voluntary < before->voluntary
            ? 0
            : divide(1000.0 * (double)(after->voluntary - before->voluntary), delivered);
    result->server_involuntary =
        after->involuntary < before->involuntary
            ? 0
            : divide(1000.0 * (double)(after->involuntary - before->involuntary), delivered);
}

/* Open loop: what is shown as latency is more than half the generator's own lateness, in the middle
 * or at P99. Beyond, where few messages decide, the report shows both and the reader decides. */
static bool is_late(const struct esi_bench_part *sum)
{
    static const double percents[] = {50, 99};

    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        const uint64_t late_ns = esi_histogram_percentile(&sum->late_ns, percents[i]);
        if (late_ns > esi_histogram_percentile(&sum->latency_ns, percents[i]) / 2) {
            return true;
        }
    }
    return false;
}

/*
 * As fast as it goes: shards hardly ever waited, while the server was not at work on as many cores
 * as that load could keep busy.
 */
static bool is_generator_limit(const struct esi_bench_result *result)
{
    const struct esi_bench_part *sum = &result->sum;
    const double cores = (double)result->stamp.cores;

    if (result->options->scenario == BENCH_IDLE) {
        return false;
    }
    if (result->options->rate != 0) {
        return is_late(sum);
    }
    const double left = cores > sum->saturated + 1.0 ? cores - sum->saturated : 1.0;
    const double expected = sum->saturated < left ? sum->saturated : left;
    return sum->saturated > 0 &&
           (!result->has_server || result->server_cores < server_low * expected);
}

void esi_bench_result_collect(struct esi_bench_result *result,
                              const struct esi_bench_options *options,
                              const struct esi_bench_gate *gate, const struct esi_bench_part *parts,
                              const struct esi_bench_row *rows)
{
    struct esi_bench_part *sum = &result->sum;
    const struct esi_bench_faults *faults = &sum->faults;

    result->options = options;
    result->gate = gate;
    result->rows = rows;
    *sum = (struct esi_bench_part){.begin_ns = UINT64_MAX};
    esi_histogram_init(&sum->latency_ns);
    esi_histogram_init(&sum->late_ns);
    for (size_t p = 0; p < options->processes; p++) {
        add_part(sum, &parts[p]);
    }
    result->seconds = sum->end_ns > sum->begin_ns ? (double)(sum->end_ns - sum->begin_ns) / 1e9 : 0;
    result->generator_cpu_us = divide(
        (double)(gate->own_after.cpu_ns - gate->own_before.cpu_ns) / 1e3, (double)sum->delivered);
    result->generator_user_share = user_share(&gate->own_before, &gate->own_after);
    result->has_server = gate->has_server;
    if (gate->has_server) {
        add_server(result, gate);
    }
    read_load(result->stamp.load_after);
    result->is_generator_limit = is_generator_limit(result);
    result->is_valid = sum->failure.text[0] == '\0' && !sum->has_stalled && sum->delivered > 0 &&
                       faults->lost + faults->duplicated + faults->reordered + faults->damaged +
                               faults->misrouted ==
                           0;
    /* Without a look at the server's process nobody knows: then it is said and no more. */
    const bool is_certain = result->has_server || options->rate != 0;
    result->has_figures = result->is_valid &&
                          (!result->is_generator_limit || !is_certain || options->allow_bottleneck);
}

double esi_bench_result_idle_bytes(const struct esi_bench_result *result)
{
    const struct esi_bench_gate *gate = result->gate;
    const double grown =
        (double)gate->server_after.resident_bytes - (double)gate->server_resident_bytes;

    return divide(grown, (double)result->sum.delivered);
}

double esi_bench_result_subscription_bytes(const struct esi_bench_result *result)
{
    return esi_bench_result_idle_bytes(result) / (double)result->options->subjects;
}
