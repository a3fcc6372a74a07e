/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sums over the shards of one process. */
#include "event_bench/bench_part.h"

#include <stdio.h>

/* A shard that waited for the server during less than 5% of the time was itself a limit. */
static const double busy_limit = 0.95;

static uint64_t span_of(struct esi_bench_span span)
{
    return span.after - span.before;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

size_t esi_bench_part_row_count(const struct esi_bench_options *options)
{
    if (!esi_bench_options_has_groups(options->scenario)) {
        return 0;
    }
    if (options->scenario == BENCH_PUB || options->scenario == BENCH_EVENTS) {
        return options->publishers;
    }
    return options->publishers + (esi_bench_options_is_fan_in(options->scenario)
                                      ? options->subscribers
                                      : options->publishers * options->subscribers);
}

/* Of subscribers that get what all publishers send, each group has counted its own messages. */
static void add_member(struct esi_bench_row *row, const struct esi_bench_member *member,
                       const struct esi_bench_shard *shard)
{
    const uint64_t last_ns = least(member->last_ns, shard->end_ns);

    row->messages += span_of(member->received_span);
    row->begin_ns = shard->begin_ns;
    row->last_ns = last_ns > row->last_ns ? last_ns : row->last_ns;
}

static void fill_rows(struct esi_bench_row *rows, const struct esi_bench_options *options,
                      const struct esi_bench_shard *shard, const struct esi_bench_group *group)
{
    const bool is_fan_in = esi_bench_options_is_fan_in(options->scenario);
    struct esi_bench_row *source = &rows[group->index];
    struct esi_bench_row *members = &rows[options->publishers];

    source->begin_ns = shard->begin_ns;
    if (group->has_replies) {
        source->messages = span_of(group->replies_span);
        source->last_ns = least(group->reply_last_ns, shard->end_ns);
    } else {
        source->messages = span_of(group->sent_span);
        source->last_ns = least(group->source.written_ns, shard->end_ns);
    }
    members += is_fan_in ? 0 : group->index * group->member_count;
    for (size_t i = 0; i < group->member_count; i++) {
        add_member(&members[i], &group->members[i], shard);
    }
}

static void add_group(struct esi_bench_part *part, const struct esi_bench_group *group)
{
    const struct esi_bench_faults faults = esi_bench_group_faults(group);

    part->published += span_of(group->sent_span);
    part->replies += span_of(group->replies_span);
    part->delivered += span_of(group->replies_span);
    for (size_t i = 0; i < group->member_count; i++) {
        part->delivered += span_of(group->members[i].received_span);
    }
    part->faults.lost += faults.lost;
    part->faults.duplicated += faults.duplicated;
    part->faults.reordered += faults.reordered;
    part->faults.damaged += faults.damaged;
    part->faults.misrouted += faults.misrouted;
}

static void add_shard(struct esi_bench_part *part, const struct esi_bench_shard *shard)
{
    const uint64_t wall_ns = shard->end_ns - shard->begin_ns;
    const double busy = wall_ns > 0 ? 1 - (double)shard->idle_ns / (double)wall_ns : 0;

    part->begin_ns = least(shard->begin_ns, part->begin_ns);
    part->end_ns = shard->end_ns > part->end_ns ? shard->end_ns : part->end_ns;
    part->delivered += shard->tally.operations;
    part->delivered_total += shard->tally.delivered;
    esi_histogram_merge(&part->latency_ns, &shard->tally.latency_ns);
    esi_histogram_merge(&part->late_ns, &shard->tally.late_ns);
    part->busy = busy > part->busy ? busy : part->busy;
    part->saturated += busy >= busy_limit ? 1 : 0;
    part->longest_pause_ns = shard->longest_pause_ns > part->longest_pause_ns
                                 ? shard->longest_pause_ns
                                 : part->longest_pause_ns;
    part->has_stalled = part->has_stalled || shard->has_stalled;
    if (shard->link.has_failed && part->failure.text[0] == '\0') {
        part->failure = shard->link.error;
    }
}

void esi_bench_part_collect(struct esi_bench_part *part, struct esi_bench_row *rows,
                            const struct esi_bench_options *options,
                            const struct esi_bench_shard *shards, size_t shard_count)
{
    *part = (struct esi_bench_part){.begin_ns = UINT64_MAX, .server = shards[0].link.server};
    esi_histogram_init(&part->latency_ns);
    esi_histogram_init(&part->late_ns);
    for (size_t s = 0; s < shard_count; s++) {
        for (size_t g = 0; g < shards[s].group_count; g++) {
            add_group(part, &shards[s].groups[g]);
            fill_rows(rows, options, &shards[s], &shards[s].groups[g]);
        }
        add_shard(part, &shards[s]);
    }
}
