/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each column is written by one call, which writes its name into the heading or its value into the
 * line, so that the two cannot get out of step.
 */
#include "event_bench/bench_report_csv.h"

#include <string.h>

struct table {
    struct esi_bytes *out;
    bool is_heading;
    bool has_figures; /* else they are left empty */
    bool has_begun;
};

static void begin_column(struct table *table, const char *name)
{
    esi_bytes_append_text(table->out, table->has_begun ? "," : "");
    table->has_begun = true;
    if (table->is_heading) {
        esi_bytes_append_text(table->out, name);
    }
}

/* Quoted, since names and errors come from outside. A line stays a line, and a spreadsheet does not
 * take it for a formula. */
static void add_text(struct table *table, const char *name, const char *text)
{
    begin_column(table, name);
    if (table->is_heading) {
        return;
    }
    esi_bytes_append_text(table->out, text[0] != '\0' && strchr("=+-@", text[0]) ? "\"'" : "\"");
    for (; *text != '\0'; text++) {
        const char byte = (unsigned char)*text < ' ' ? ' ' : *text;
        esi_bytes_append_text(table->out, byte == '"' ? "\"" : "");
        esi_bytes_append(table->out, &byte, 1);
    }
    esi_bytes_append_text(table->out, "\"");
}

static void add_u64(struct table *table, const char *name, uint64_t value)
{
    begin_column(table, name);
    if (!table->is_heading) {
        esi_bytes_printf(table->out, "%llu", (unsigned long long)value);
    }
}

static void add_figure(struct table *table, const char *name, double value)
{
    begin_column(table, name);
    if (!table->is_heading && table->has_figures) {
        esi_bytes_printf(table->out, "%.6g", value);
    }
}

static void add_load(struct table *table, const struct esi_bench_options *options)
{
    add_text(table, "scenario", esi_bench_options_scenario_name(options->scenario));
    add_u64(table, "size_bytes", options->size_bytes);
    add_u64(table, "publishers", options->publishers);
    add_u64(table, "subscribers", options->subscribers);
    add_u64(table, "stalled", options->stalled);
    add_u64(table, "subjects", options->subjects);
    add_u64(table, "in_flight", options->in_flight);
    add_u64(table, "rate", options->rate);
    add_u64(table, "threads", options->threads);
    add_u64(table, "processes", options->processes);
    add_text(table, "tls", options->tls.is_on ? "on" : "none");
}

static void add_environment(struct table *table, const struct esi_bench_result *result)
{
    const struct esi_bench_stamp *stamp = &result->stamp;

    add_text(table, "server_name", result->sum.server.name);
    add_text(table, "server_version", result->sum.server.version);
    add_text(table, "kernel", stamp->kernel);
    add_text(table, "machine", stamp->machine);
    add_u64(table, "cores", stamp->cores);
    add_text(table, "cpu", stamp->cpu);
    add_text(table, "version", ESI_BENCH_VERSION);
    add_text(table, "compiler", stamp->compiler);
    add_text(table, "tls_library", stamp->tls_library);
}

static void add_faults(struct table *table, const struct esi_bench_faults *faults)
{
    add_u64(table, "lost", faults->lost);
    add_u64(table, "duplicated", faults->duplicated);
    add_u64(table, "reordered", faults->reordered);
    add_u64(table, "damaged", faults->damaged);
    add_u64(table, "misrouted", faults->misrouted);
}

static void add_figures(struct table *table, const struct esi_bench_result *result)
{
    const struct esi_histogram *latency = &result->sum.latency_ns;
    static const struct {
        const char *name;
        double percent;
    } columns[] = {
        {"p50_us", 50}, {"p90_us", 90}, {"p99_us", 99}, {"p99_9_us", 99.9}, {"p99_99_us", 99.99}};

    add_figure(table, "seconds", result->seconds);
    add_figure(table, "published_per_second", (double)result->sum.published / result->seconds);
    add_figure(table, "delivered_per_second", (double)result->sum.delivered / result->seconds);
    add_figure(table, "replies_per_second", (double)result->sum.replies / result->seconds);
    add_figure(table, "min_us", (double)esi_histogram_min(latency) / 1e3);
    add_figure(table, "mean_us", esi_histogram_mean(latency) / 1e3);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        add_figure(table, columns[i].name,
                   (double)esi_histogram_percentile(latency, columns[i].percent) / 1e3);
    }
    add_figure(table, "max_us", (double)latency->max / 1e3);
    add_figure(table, "longest_pause_us", (double)result->sum.longest_pause_ns / 1e3);
    add_figure(table, "server_cpu_us", result->server_cpu_us);
    add_figure(table, "server_cores", result->server_cores);
    add_figure(table, "server_resident_bytes", (double)result->gate->server_after.resident_bytes);
    add_figure(table, "generator_cpu_us", result->generator_cpu_us);
    add_figure(table, "generator_busy", result->sum.busy);
    add_figure(table, "generator_late_us", esi_histogram_mean(&result->sum.late_ns) / 1e3);
}

static void add_line(const struct esi_bench_result *result, const char *error, bool is_heading,
                     struct esi_bytes *out)
{
    struct table table = {.out = out, .is_heading = is_heading, .has_figures = result->has_figures};

    add_text(&table, "date", result->stamp.date);
    add_load(&table, result->options);
    add_text(&table, "error", error);
    add_faults(&table, &result->sum.faults);
    add_figures(&table, result);
    add_u64(&table, "generator_is_bottleneck", result->is_generator_limit ? 1 : 0);
    add_environment(&table, result);
    esi_bytes_append_text(out, "\n");
}

void esi_bench_report_csv(const struct esi_bench_result *result, bool has_heading,
                          const char *error, struct esi_bytes *out)
{
    if (has_heading) {
        add_line(result, error, true, out);
    }
    add_line(result, error, false, out);
}
