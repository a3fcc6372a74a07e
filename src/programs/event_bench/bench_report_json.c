/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The JSON report: verification, environment, server, load, and then, if valid, the figures. */
#include "event_bench/bench_report_json.h"

#include "base/json_writer.h"

static void write_load(struct esi_json_writer *json, const char *key, const double *load)
{
    esi_json_writer_key(json, key);
    esi_json_writer_array_start(json);
    for (int i = 0; i < 3; i++) {
        esi_json_writer_double(json, load[i]);
    }
    esi_json_writer_array_end(json);
}

static void write_environment(struct esi_json_writer *json, const struct esi_bench_result *result)
{
    const struct esi_bench_stamp *stamp = &result->stamp;

    esi_json_writer_key(json, "environment");
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "date", stamp->date);
    esi_json_writer_field_text(json, "kernel", stamp->kernel);
    esi_json_writer_field_text(json, "machine", stamp->machine);
    esi_json_writer_field_u64(json, "cores", stamp->cores);
    esi_json_writer_field_text(json, "cpu", stamp->cpu);
    esi_json_writer_field_text(json, "compiler", stamp->compiler);
    esi_json_writer_field_text(json, "tls_library", stamp->tls_library);
    esi_json_writer_field_text(json, "governor", stamp->governor);
    write_load(json, "load_before", stamp->load_before);
    write_load(json, "load_after", stamp->load_after);
    esi_json_writer_field_text(json, "tls", result->options->tls.is_on ? "on" : "none");
    esi_json_writer_object_end(json);
}

static void write_server(struct esi_json_writer *json, const struct esi_bench_result *result)
{
    const struct esi_bench_server *server = &result->sum.server;

    esi_json_writer_key(json, "server");
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "host", result->options->server.host);
    esi_json_writer_field_u64(json, "port", result->options->server.port);
    esi_json_writer_field_text(json, "server_name", server->name);
    esi_json_writer_field_text(json, "version", server->version);
    esi_json_writer_field_text(json, "go", server->go);
    esi_json_writer_object_end(json);
}

static void write_load_options(struct esi_json_writer *json,
                               const struct esi_bench_options *options)
{
    esi_json_writer_key(json, "load");
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "scenario",
                               esi_bench_options_scenario_name(options->scenario));
    esi_json_writer_field_u64(json, "size_bytes", options->size_bytes);
    esi_json_writer_field_u64(json, "publishers", options->publishers);
    esi_json_writer_field_u64(json, "subscribers", options->subscribers);
    esi_json_writer_field_u64(json, "subjects", options->subjects);
    esi_json_writer_field_u64(json, "in_flight", options->in_flight);
    esi_json_writer_field_u64(json, "messages", options->messages);
    esi_json_writer_field_double(json, "duration_seconds", (double)options->duration_ns / 1e9);
    esi_json_writer_field_double(json, "warmup_seconds", (double)options->warmup_ns / 1e9);
    esi_json_writer_field_u64(json, "rate", options->rate);
    esi_json_writer_field_u64(json, "window_bytes", options->window_bytes);
    esi_json_writer_field_text(json, "sid_mode", options->is_sid_distinct ? "distinct" : "same");
    esi_json_writer_field_u64(json, "threads", options->threads);
    esi_json_writer_field_u64(json, "processes", options->processes);
    esi_json_writer_object_end(json);
}

static void write_verification(struct esi_json_writer *json, const struct esi_bench_faults *faults)
{
    esi_json_writer_key(json, "verification");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "lost", faults->lost);
    esi_json_writer_field_u64(json, "duplicated", faults->duplicated);
    esi_json_writer_field_u64(json, "reordered", faults->reordered);
    esi_json_writer_field_u64(json, "damaged", faults->damaged);
    esi_json_writer_field_u64(json, "misrouted", faults->misrouted);
    esi_json_writer_object_end(json);
}

static void write_histogram(struct esi_json_writer *json, const char *name,
                            const struct esi_histogram *latency)
{
    static const struct {
        const char *key;
        double percent;
    } columns[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99_9", 99.9}, {"p99_99", 99.99}};

    esi_json_writer_key(json, name);
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "count", latency->count);
    esi_json_writer_field_u64(json, "min", esi_histogram_min(latency));
    esi_json_writer_field_double(json, "mean", esi_histogram_mean(latency));
    esi_json_writer_field_double(json, "stddev", esi_histogram_stddev(latency));
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        esi_json_writer_field_u64(json, columns[i].key,
                                  esi_histogram_percentile(latency, columns[i].percent));
    }
    esi_json_writer_field_u64(json, "max", latency->max);
    esi_json_writer_object_end(json);
}

static void write_share(struct esi_json_writer *json, double user_share)
{
    if (user_share >= 0) {
        esi_json_writer_field_double(json, "user_share", user_share);
    }
}

static void write_costs(struct esi_json_writer *json, const struct esi_bench_result *result)
{
    esi_json_writer_key(json, "generator_process");
    esi_json_writer_object_start(json);
    esi_json_writer_field_double(json, "cpu_us_per_delivered", result->generator_cpu_us);
    write_share(json, result->generator_user_share);
    esi_json_writer_field_double(json, "busy", result->sum.busy);
    esi_json_writer_field_bool(json, "is_bottleneck", result->is_generator_limit);
    esi_json_writer_field_double(json, "late_us", esi_histogram_mean(&result->sum.late_ns) / 1e3);
    esi_json_writer_object_end(json);
    if (!result->has_server) {
        return;
    }
    const struct esi_bench_usage *after = &result->gate->server_after;
    esi_json_writer_key(json, "server_process");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "pid", result->options->server_pids[0]);
    esi_json_writer_field_double(json, "cpu_us_per_delivered", result->server_cpu_us);
    write_share(json, result->server_user_share);
    esi_json_writer_field_double(json, "cores", result->server_cores);
    esi_json_writer_field_double(json, "voluntary_switches_per_1000", result->server_voluntary);
    esi_json_writer_field_double(json, "involuntary_switches_per_1000", result->server_involuntary);
    esi_json_writer_field_u64(json, "resident_bytes", after->resident_bytes);
    esi_json_writer_field_u64(json, "resident_bytes_max", after->resident_bytes_max);
    esi_json_writer_field_u64(json, "threads", after->threads);
    if (result->options->scenario == BENCH_IDLE) {
        esi_json_writer_field_double(json, "resident_bytes_per_connection",
                                     esi_bench_result_idle_bytes(result));
        esi_json_writer_field_double(json, "resident_bytes_per_subscription",
                                     esi_bench_result_subscription_bytes(result));
    }
    esi_json_writer_object_end(json);
}

static void write_figures(struct esi_json_writer *json, const struct esi_bench_result *result)
{
    const double rate = (double)result->sum.delivered / result->seconds;

    esi_json_writer_field_double(json, "seconds", result->seconds);
    esi_json_writer_field_u64(json, "published", result->sum.published);
    esi_json_writer_field_u64(json, "delivered", result->sum.delivered);
    esi_json_writer_field_double(json, "published_per_second",
                                 (double)result->sum.published / result->seconds);
    esi_json_writer_field_double(json, "delivered_per_second", rate);
    esi_json_writer_field_double(json, "delivered_mib_per_second",
                                 rate * (double)result->options->size_bytes / 1048576.0);
    if (result->options->scenario == BENCH_REQUEST_REPLY) {
        esi_json_writer_field_u64(json, "replies", result->sum.replies);
        esi_json_writer_field_double(json, "replies_per_second",
                                     (double)result->sum.replies / result->seconds);
    }
    esi_json_writer_field_u64(json, "longest_pause_ns", result->sum.longest_pause_ns);
    write_histogram(json, "latency_ns", &result->sum.latency_ns);
    if (result->options->rate != 0) {
        write_histogram(json, "generator_late_ns", &result->sum.late_ns);
    }
    write_costs(json, result);
}

void esi_bench_report_json(const struct esi_bench_result *result, const char *error,
                           struct esi_bytes *out)
{
    struct esi_json_writer json;

    esi_json_writer_init(&json, out, true);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_text(&json, "program", "event-bench");
    esi_json_writer_field_text(&json, "version", ESI_BENCH_VERSION);
    esi_json_writer_field_bool(&json, "valid", result->is_valid);
    esi_json_writer_field_text(&json, "error", error);
    write_verification(&json, &result->sum.faults);
    write_environment(&json, result);
    write_server(&json, result);
    write_load_options(&json, result->options);
    if (result->has_figures) {
        write_figures(&json, result);
    }
    esi_json_writer_object_end(&json);
    esi_bytes_append_text(out, "\n");
}
