/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bar is drawn ten times a second, the line once, whatever the rate of messages is. */
#include "event_bench/bench_progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "event_bench/bench_options.h"
#include "event_bench/bench_shard.h"

enum { BAR_WIDTH = 40 };

static const uint64_t second_ns = 1000000000;

void esi_bench_progress_init(struct esi_bench_progress *progress,
                             const struct esi_bench_options *options,
                             const struct esi_bench_shown *shown, size_t shard_count,
                             uint64_t now_ns)
{
    uint64_t copies = options->subscribers;

    if (options->scenario == BENCH_QUEUE || options->scenario == BENCH_PUB ||
        options->scenario == BENCH_EVENTS) {
        copies = 1;
    } else if (options->scenario == BENCH_REQUEST_REPLY) {
        copies = 2;
    }
    *progress = (struct esi_bench_progress){
        .options = options,
        .shown = shown,
        .shard_count = shard_count,
        .total = options->messages * copies,
        .start_ns = now_ns,
        .last_ns = now_ns,
        .is_terminal = isatty(STDERR_FILENO) == 1,
    };
    progress->next_ns = now_ns + (progress->is_terminal ? second_ns / 10 : second_ns);
}

/* How much is done, 0 to 1. With a warm-up its messages are in the count, so that is cut at 1. */
static double done_of(const struct esi_bench_progress *progress, uint64_t delivered,
                      uint64_t now_ns)
{
    const double done =
        progress->total != 0
            ? (double)delivered / (double)progress->total
            : (double)(now_ns - progress->start_ns) /
                  (double)(progress->options->warmup_ns + progress->options->duration_ns);

    return done < 1 ? done : 1;
}

void esi_bench_progress_update(struct esi_bench_progress *progress, uint64_t now_ns)
{
    uint64_t delivered = 0;

    if (now_ns < progress->next_ns) {
        return;
    }
    for (size_t i = 0; i < progress->shard_count; i++) {
        /* order: relaxed; only shown, nothing is derived from it. */
        delivered += atomic_load_explicit(&progress->shown[i].delivered, memory_order_relaxed);
    }
    const char *unit = esi_bench_options_has_groups(progress->options->scenario) ? " msgs" : "";
    const double seconds = (double)(now_ns - progress->last_ns) / 1e9;
    const double rate = (double)(delivered - progress->last_delivered) / seconds;
    const double done = done_of(progress, delivered, now_ns);
    if (progress->is_terminal) {
        char bar[BAR_WIDTH + 1];
        const size_t filled = (size_t)(done * BAR_WIDTH);
        memset(bar, '.', BAR_WIDTH);
        memset(bar, '=', filled);
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "\r[%s] %3.0f%%  %.0f%s/sec \033[K", bar, done * 100, rate, unit);
        progress->has_drawn = true;
    } else {
        fprintf(stderr, "event-bench: %3.0f%%  %llu delivered  %.0f%s/sec\n", done * 100,
                (unsigned long long)delivered, rate, unit);
    }
    fflush(stderr);
    progress->last_delivered = delivered;
    progress->last_ns = now_ns;
    progress->next_ns = now_ns + (progress->is_terminal ? second_ns / 10 : second_ns);
}

void esi_bench_progress_finish(struct esi_bench_progress *progress)
{
    if (progress->has_drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
