/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums over the shards; everything a delivered message is divided here, and only here. */
#include "event_bench/bench_result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

/*
 * A thread that waited for the server during less than 5% of the time was itself what limited the
 * rate, unless the server was at work on most of a core as well.
 */
static const double busy_limit = 0.95;
static const double server_low = 0.80;

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

    *stamp = (struct esi_bench_stamp){.cores = esi_env_core_count(env)};
    if (uname(&name) == 0) {
        snprintf(stamp->kernel, sizeof stamp->kernel, "%.40s %.100s", name.sysname, name.release);
        snprintf(stamp->machine, sizeof stamp->machine, "%.60s", name.machine);
    }
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", stamp->governor,
              sizeof stamp->governor);
    if (gmtime_r(&now, &utc) != NULL) {
        strftime(stamp->date, sizeof stamp->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    read_load(stamp->load_before);
}

static uint64_t span_of(struct esi_bench_span span)
{
    return span.after - span.before;
}

static void add_group(struct esi_bench_result *result, const struct esi_bench_group *group)
{
    const struct esi_bench_faults faults = esi_bench_group_faults(group);

    result->published += span_of(group->sent_span);
    result->replies += span_of(group->replies_span);
    result->delivered += span_of(group->replies_span);
    for (size_t i = 0; i < group->member_count; i++) {
        result->delivered += span_of(group->members[i].received_span);
    }
    result->faults.lost += faults.lost;
    result->faults.duplicated += faults.duplicated;
    result->faults.reordered += faults.reordered;
    result->faults.damaged += faults.damaged;
    result->faults.misrouted += faults.misrouted;
}

static double divide(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static double user_share(const struct esi_bench_usage *before, const struct esi_bench_usage *after)
{
    const uint64_t user = after->user_ns - before->user_ns;
    const uint64_t system = after->system_ns - before->system_ns;

    return divide((double)user, (double)(user + system));
}

static void add_costs(struct esi_bench_result *result, const struct esi_bench_gate *gate)
{
    const double delivered = (double)result->delivered;
    const double own_ns = (double)(gate->own_after.cpu_ns - gate->own_before.cpu_ns);

    result->generator_cpu_us = divide(own_ns / 1e3, delivered);
    result->generator_user_share = user_share(&gate->own_before, &gate->own_after);
    result->has_server = gate->has_server;
    if (gate->has_server) {
        const struct esi_bench_usage *before = &gate->server_before;
        const struct esi_bench_usage *after = &gate->server_after;
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
    result->is_generator_limit = result->options->rate == 0 &&
                                 result->generator_busy >= busy_limit &&
                                 (!gate->has_server || result->server_cores < server_low);
}

void esi_bench_result_collect(struct esi_bench_result *result,
                              const struct esi_bench_options *options,
                              struct esi_bench_shard *shards, size_t shard_count)
{
    uint64_t begin_ns = UINT64_MAX;
    uint64_t end_ns = 0;
    bool is_whole = true;

    result->options = options;
    result->shards = shards;
    result->shard_count = shard_count;
    esi_histogram_init(&result->latency_ns);
    for (size_t s = 0; s < shard_count; s++) {
        const struct esi_bench_shard *shard = &shards[s];
        const uint64_t wall_ns = shard->end_ns - shard->begin_ns;
        begin_ns = shard->begin_ns < begin_ns ? shard->begin_ns : begin_ns;
        end_ns = shard->end_ns > end_ns ? shard->end_ns : end_ns;
        for (size_t g = 0; g < shard->group_count; g++) {
            add_group(result, &shard->groups[g]);
        }
        result->delivered += shard->tally.operations;
        esi_histogram_merge(&result->latency_ns, &shard->tally.latency_ns);
        result->delivered_total += shard->tally.delivered;
        const double busy = 1 - divide((double)shard->idle_ns, (double)wall_ns);
        result->generator_busy = busy > result->generator_busy ? busy : result->generator_busy;
        is_whole = is_whole && !shard->has_stalled && !shard->link.has_failed;
    }
    result->seconds = end_ns > begin_ns ? (double)(end_ns - begin_ns) / 1e9 : 0;
    add_costs(result, shards[0].gate);
    read_load(result->stamp.load_after);
    const struct esi_bench_faults *faults = &result->faults;
    result->is_valid = is_whole && result->delivered > 0 &&
                       faults->lost + faults->duplicated + faults->reordered + faults->damaged +
                               faults->misrouted ==
                           0;
}

double esi_bench_result_idle_bytes(const struct esi_bench_result *result)
{
    const struct esi_bench_gate *gate = result->shards[0].gate;
    const double grown =
        (double)gate->server_after.resident_bytes - (double)gate->server_resident_bytes;

    return divide(grown, (double)result->delivered);
}

double esi_bench_result_subscription_bytes(const struct esi_bench_result *result)
{
    return esi_bench_result_idle_bytes(result) / (double)result->options->subjects;
}
