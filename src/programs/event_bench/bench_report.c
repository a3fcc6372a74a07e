/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text report. Rates of single clients run until their last message, the total until the last
 * of all. */
#include "event_bench/bench_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CLIENT_LINES_MAX = 16 };

/* 1234567 as 1,234,567; out holds 32 bytes. Returns out. */
static const char *group_digits(uint64_t value, char *out)
{
    char digits[24];
    const int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    size_t at = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            out[at++] = ',';
        }
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

static void append_count(struct esi_bytes *out, uint64_t value)
{
    char text[32];

    esi_bytes_append_text(out, group_digits(value, text));
}

static void append_rate(struct esi_bytes *out, double rate, uint64_t size_bytes)
{
    append_count(out, (uint64_t)(rate + 0.5));
    esi_bytes_printf(out, " msgs/sec ~ %.2f MiB/sec", rate * (double)size_bytes / 1048576.0);
}

static void append_us(struct esi_bytes *out, double ns)
{
    char text[32];
    const double us = ns / 1e3;

    if (us < 1000) {
        esi_bytes_printf(out, "%.1f us", us);
    } else {
        esi_bytes_printf(out, "%s us", group_digits((uint64_t)(us + 0.5), text));
    }
}

/* The rates of the clients of one kind. */
struct rates {
    struct esi_bytes *out;
    uint64_t size_bytes;
    uint64_t count;
    double min;
    double max;
    double sum;
    double sum_of_squares;
};

static void add_client(struct rates *rates, uint64_t messages, uint64_t begin_ns, uint64_t last_ns)
{
    const double seconds = last_ns > begin_ns ? (double)(last_ns - begin_ns) / 1e9 : 0;
    const double rate = seconds > 0 ? (double)messages / seconds : 0;

    rates->count++;
    rates->min = rates->count == 1 || rate < rates->min ? rate : rates->min;
    rates->max = rate > rates->max ? rate : rates->max;
    rates->sum += rate;
    rates->sum_of_squares += rate * rate;
    if (rates->count <= CLIENT_LINES_MAX) {
        esi_bytes_printf(rates->out, "  [%llu] ", (unsigned long long)rates->count);
        append_rate(rates->out, rate, rates->size_bytes);
        esi_bytes_append_text(rates->out, " (");
        append_count(rates->out, messages);
        esi_bytes_append_text(rates->out, " msgs)\n");
    }
}

static void finish_clients(struct rates *rates)
{
    const double mean = rates->sum / (double)rates->count;
    const double variance = rates->sum_of_squares / (double)rates->count - mean * mean;

    if (rates->count < 2) {
        return;
    }
    if (rates->count > CLIENT_LINES_MAX) {
        esi_bytes_printf(rates->out, "  ... and %llu more\n",
                         (unsigned long long)(rates->count - CLIENT_LINES_MAX));
    }
    esi_bytes_append_text(rates->out, "  message rates min ");
    append_count(rates->out, (uint64_t)rates->min);
    esi_bytes_append_text(rates->out, " | avg ");
    append_count(rates->out, (uint64_t)mean);
    esi_bytes_append_text(rates->out, " | max ");
    append_count(rates->out, (uint64_t)rates->max);
    esi_bytes_append_text(rates->out, " | stddev ");
    append_count(rates->out, (uint64_t)(variance > 0 ? sqrt(variance) : 0));
    esi_bytes_append_text(rates->out, " msgs\n");
}

static void append_clients(const struct esi_bench_result *result, const struct esi_bench_row *rows,
                           size_t count, struct esi_bytes *out)
{
    struct rates rates = {.out = out, .size_bytes = result->options->size_bytes};

    for (size_t i = 0; i < count; i++) {
        add_client(&rates, rows[i].messages, rows[i].begin_ns, rows[i].last_ns);
    }
    finish_clients(&rates);
}

/* Who does what, in the words of each scenario. */
static void append_load(const struct esi_bench_options *options, struct esi_bytes *out)
{
    const enum esi_bench_scenario scenario = options->scenario;
    const bool has_subscribers = scenario != BENCH_PUB && scenario != BENCH_EVENTS;

    esi_bytes_append_text(out, esi_bench_options_scenario_name(scenario));
    if (esi_bench_options_has_groups(scenario)) {
        esi_bytes_printf(out, " %llu", (unsigned long long)options->publishers);
        if (has_subscribers) {
            esi_bytes_printf(out, ":%llu", (unsigned long long)options->subscribers);
        }
        esi_bytes_printf(out, ", %llu B", (unsigned long long)options->size_bytes);
    }
    if (esi_bench_options_has_in_flight(scenario)) {
        esi_bytes_printf(out, ", %llu in flight", (unsigned long long)options->in_flight);
    }
    esi_bytes_append_text(out, ", ");
}

static void append_head(const struct esi_bench_result *result, struct esi_bytes *out)
{
    const struct esi_bench_options *options = result->options;
    const struct esi_bench_server *server = &result->sum.server;

    append_load(options, out);
    if (options->rate != 0) {
        esi_bytes_printf(out, "open loop at %llu msgs/sec, ", (unsigned long long)options->rate);
    }
    if (options->subjects > 1) {
        esi_bytes_printf(out, "%llu subjects, ", (unsigned long long)options->subjects);
    }
    if (options->stalled > 0) {
        esi_bytes_printf(out, "%llu stalled, ", (unsigned long long)options->stalled);
    }
    if (options->tls.is_on) {
        esi_bytes_append_text(out, "TLS, ");
    }
    if (options->subscriber_server.host[0] != '\0') {
        esi_bytes_printf(out, "subscribers at %s:%u, ", options->subscriber_server.host,
                         options->subscriber_server.port);
    }
    if (options->processes * options->threads > 1) {
        esi_bytes_printf(out, "%llu processes of %llu threads, ",
                         (unsigned long long)options->processes,
                         (unsigned long long)options->threads);
    }
    esi_bytes_printf(out, "%s:%u, server %s version %s\n", options->server.host,
                     options->server.port, server->name, server->version);
}

static void append_stamp(const struct esi_bench_stamp *stamp, struct esi_bytes *out)
{
    esi_bytes_printf(out,
                     "Environment: %s, %s %s, %llu cores (%s), load %.2f before and %.2f after, "
                     "event-bench " ESI_BENCH_VERSION " by %s, TLS: wolfSSL, %s\n",
                     stamp->date, stamp->kernel, stamp->machine, (unsigned long long)stamp->cores,
                     stamp->cpu, stamp->load_before[0], stamp->load_after[0], stamp->compiler,
                     stamp->tls_library);
}

static const char *const latency_words[BENCH_SCENARIO_COUNT] = {
    [BENCH_PUB] = "Latencies until the PONG behind a batch: ",
    [BENCH_SUB] = "Latencies one way (the publisher being on this machine): ",
    [BENCH_PUB_SUB] = "Latencies one way: ",
    [BENCH_FAN_OUT] = "Latencies one way: ",
    [BENCH_FAN_IN] = "Latencies one way: ",
    [BENCH_QUEUE] = "Latencies one way: ",
    [BENCH_EVENTS] = "Latencies until the worker service has it: ",
    [BENCH_REQUEST_REPLY] = "Latencies until the reply: ",
    [BENCH_CONNECT] = "Latencies until the first PONG: ",
    [BENCH_CHURN] = "Latencies of a run of SUBs and UNSUBs: ",
    [BENCH_IDLE] = "",
};

static void append_percentiles(const struct esi_histogram *times, struct esi_bytes *out)
{
    static const struct {
        const char *name;
        double percent;
    } columns[] = {{"P50", 50}, {"P90", 90}, {"P99", 99}, {"P99.9", 99.9}, {"P99.99", 99.99}};

    esi_bytes_append_text(out, "min ");
    append_us(out, (double)esi_histogram_min(times));
    esi_bytes_append_text(out, " | avg ");
    append_us(out, esi_histogram_mean(times));
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        esi_bytes_printf(out, " | %s ", columns[i].name);
        append_us(out, (double)esi_histogram_percentile(times, columns[i].percent));
    }
    esi_bytes_append_text(out, " | max ");
    append_us(out, (double)times->max);
    esi_bytes_append_text(out, "\n");
}

static void append_latency(const struct esi_bench_result *result, struct esi_bytes *out)
{
    esi_bytes_append_text(out, latency_words[result->options->scenario]);
    append_percentiles(&result->sum.latency_ns, out);
    if (result->options->rate != 0) {
        esi_bytes_append_text(out, "  of these the generator itself was late: ");
        append_percentiles(&result->sum.late_ns, out);
    } else if (result->options->scenario < BENCH_REQUEST_REPLY) {
        esi_bytes_append_text(out, "  (under full load that is mostly the time in buffers; --rate "
                                   "shows the latency at a given load)\n");
    }
}

/* share holds 32 bytes. Returns it. */
static const char *describe_share(double user_share, char *share)
{
    share[0] = '\0';
    if (user_share >= 0) {
        snprintf(share, 32, " (%.0f%% user)", 100 * user_share);
    }
    return share;
}

static void append_costs(const struct esi_bench_result *result, struct esi_bytes *out)
{
    const enum esi_bench_scenario scenario = result->options->scenario;
    const char *each = scenario == BENCH_CONNECT ? "a connection"
                       : scenario == BENCH_CHURN ? "a SUB or UNSUB"
                                                 : "a delivered message";
    char share[32];

    if (result->has_server) {
        const struct esi_bench_usage *after = &result->gate->server_after;
        esi_bytes_printf(
            out,
            "Server: %.3f us CPU %s%s, %.2f cores, context "
            "switches a 1000 %.1f voluntary %.1f forced, %.1f MiB resident, "
            "%llu threads\n",
            result->server_cpu_us, each, describe_share(result->server_user_share, share),
            result->server_cores, result->server_voluntary, result->server_involuntary,
            (double)after->resident_bytes / 1048576.0, (unsigned long long)after->threads);
    }
    esi_bytes_printf(out, "Generator: %.3f us CPU %s%s, busy %.0f%%\n", result->generator_cpu_us,
                     each, describe_share(result->generator_user_share, share),
                     100 * result->sum.busy);
    if (result->is_generator_limit) {
        esi_bytes_append_text(out, "WARNING: ");
        esi_bench_report_bottleneck(result, out);
        esi_bytes_append_text(out, "\n");
    }
}

void esi_bench_report_bottleneck(const struct esi_bench_result *result, struct esi_bytes *out)
{
    if (result->options->rate != 0) {
        esi_bytes_append_text(out, "the generator was the bottleneck: it was late itself by more "
                                   "than half of P50 or P99. The server is quicker than this.");
    } else if (result->has_server) {
        esi_bytes_append_text(out, "the generator was the bottleneck: it hardly ever waited, while "
                                   "the server had CPU to spare. The server can do more than this "
                                   "rate.");
    } else {
        esi_bytes_append_text(out, "the generator hardly ever waited and may be the bottleneck; "
                                   "--server-pid tells.");
    }
}

void esi_bench_report_faults(const struct esi_bench_result *result, struct esi_bytes *out)
{
    const struct esi_bench_faults *faults = &result->sum.faults;
    const struct {
        uint64_t count;
        const char *word;
    } rows[] = {{faults->lost, "lost"},
                {faults->duplicated, "duplicated"},
                {faults->reordered, "reordered"},
                {faults->damaged, "damaged"},
                {faults->misrouted, "misrouted"}};
    const char *separator = "messages: ";

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].count > 0) {
            esi_bytes_printf(out, "%s%llu %s", separator, (unsigned long long)rows[i].count,
                             rows[i].word);
            separator = ", ";
        }
    }
}

/* Scenarios without messages. */
static void append_operations(const struct esi_bench_result *result, struct esi_bytes *out)
{
    const enum esi_bench_scenario scenario = result->options->scenario;

    if (scenario == BENCH_IDLE) {
        append_count(out, result->sum.delivered);
        esi_bytes_printf(out, " connections that said nothing for %.2f s\n", result->seconds);
        if (result->has_server) {
            esi_bytes_printf(out,
                             "Server: %.0f bytes resident a connection, %.0f a subscription, "
                             "%.2f ms CPU a second\n",
                             esi_bench_result_idle_bytes(result),
                             esi_bench_result_subscription_bytes(result),
                             1000 * result->server_cores);
        }
        return;
    }
    append_count(out, (uint64_t)((double)result->sum.delivered / result->seconds + 0.5));
    esi_bytes_printf(out, " %s a second in %.2f s\n",
                     scenario == BENCH_CONNECT ? "connections" : "SUBs and UNSUBs",
                     result->seconds);
    append_latency(result, out);
    append_costs(result, out);
}

/* Latencies are then those of an overload, which grow as long as it lasts. */
static void append_missed_rate(const struct esi_bench_result *result, struct esi_bytes *out)
{
    static const double enough = 0.98; /* of a short run the last messages' way is a part */
    const double rate = (double)result->sum.published / result->seconds;

    /* One more may have been due at the very end, which is much of a few. */
    if ((double)(result->sum.published + 1) <
        enough * (double)result->options->rate * result->seconds) {
        esi_bytes_append_text(out, "NOTE: the rate was not reached: ");
        append_count(out, (uint64_t)(rate + 0.5));
        esi_bytes_append_text(out, " of ");
        append_count(out, result->options->rate);
        esi_bytes_append_text(out, " msgs/sec were published\n");
    }
}

/* Of scenarios with messages. */
static void append_messages(const struct esi_bench_result *result, struct esi_bytes *out)
{
    const struct esi_bench_options *options = result->options;
    const bool has_replies = options->scenario == BENCH_REQUEST_REPLY;
    const size_t row_count = esi_bench_part_row_count(options);

    if (has_replies) {
        esi_bytes_append_text(out, "Requests with their replies: ");
        append_rate(out, (double)result->sum.replies / result->seconds, options->size_bytes);
    } else {
        esi_bytes_append_text(out, options->scenario == BENCH_PUB ? "Published: " : "Delivered: ");
        append_rate(out, (double)result->sum.delivered / result->seconds, options->size_bytes);
    }
    esi_bytes_printf(out, " in %.2f s\n", result->seconds);
    append_missed_rate(result, out);
    if (options->scenario != BENCH_SUB) {
        esi_bytes_append_text(out, has_replies ? " Requester stats:\n" : " Publisher stats:\n");
        append_clients(result, result->rows, options->publishers, out);
    }
    if (row_count > options->publishers) {
        esi_bytes_append_text(out, has_replies ? " Responder stats:\n" : " Subscriber stats:\n");
        append_clients(result, result->rows + options->publishers, row_count - options->publishers,
                       out);
    }
    append_latency(result, out);
    append_costs(result, out);
}

void esi_bench_report_text(const struct esi_bench_result *result, struct esi_bytes *out)
{
    if (!result->has_figures && !result->sum.server.is_known) {
        return; /* no server was found: one line on standard error says all */
    }
    append_head(result, out);
    append_stamp(&result->stamp, out);
    if (!result->has_figures) {
        return;
    }
    if (esi_bench_options_has_groups(result->options->scenario)) {
        append_messages(result, out);
    } else {
        append_operations(result, out);
    }
}
