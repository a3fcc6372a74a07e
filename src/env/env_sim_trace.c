/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trace: a digest of all that has happened, and the last lines of it, written out only when
 * somebody wants to see them. */
#include "env/env_sim_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)

static uint64_t mix(uint64_t digest, uint64_t value)
{
    const __uint128_t product = (__uint128_t)(digest ^ UINT64_C(0xa0761d6478bd642f)) *
                                (value ^ UINT64_C(0xe7037ed1a0b428db));

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t esi_env_sim_trace_hash(const void *data, size_t len)
{
    const char *at = data;
    uint64_t digest = len;
    uint64_t word;

    while (len >= sizeof word) {
        memcpy(&word, at, sizeof word);
        digest = mix(digest, word);
        at += sizeof word;
        len -= sizeof word;
    }
    word = 0;
    if (len > 0) {
        memcpy(&word, at, len);
    }
    return mix(digest, word);
}

static void print_line(const struct sim_trace_line *line)
{
    static const char *const formats[SIM_TRACE_KINDS] = {
        [SIM_TURN] = "turn of thread %" PRIu64,
        [SIM_LISTEN] = "socket %" PRIu64 " of host %" PRIu64 " listens at port %" PRIu64,
        [SIM_CONNECT] = "socket %" PRIu64 " of host %" PRIu64 " connects to port %" PRIu64,
        [SIM_CONNECTED] = "socket %" PRIu64 " is connected with %" PRIu64,
        [SIM_REFUSED] = "socket %" PRIu64 " is refused",
        [SIM_ACCEPT] = "socket %" PRIu64 " accepts %" PRIu64,
        [SIM_READ] = "socket %" PRIu64 " reads %" PRIu64 " bytes (%016" PRIx64 ")",
        [SIM_WRITE] = "socket %" PRIu64 " writes %" PRIu64 " bytes (%016" PRIx64 ")",
        [SIM_FIN] = "socket %" PRIu64 " sends FIN",
        [SIM_RESET] = "socket %" PRIu64 " is reset",
        [SIM_CLOSE] = "socket %" PRIu64 " is closed",
        [SIM_CUT] = "hosts %" PRIu64 " and %" PRIu64 " are cut off from each other",
        [SIM_HEAL] = "hosts %" PRIu64 " and %" PRIu64 " reach each other again",
        [SIM_NOTE] = "",
    };

    printf("%6" PRIu64 ".%09" PRIu64 " ", line->at_ns / NS_PER_S, line->at_ns % NS_PER_S);
    if (line->kind == SIM_NOTE) {
        printf("* %s\n", line->note);
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    printf(formats[line->kind], line->values[0], line->values[1], line->values[2]);
#pragma GCC diagnostic pop
    printf("\n");
}

static struct sim_trace_line *add_line(struct esi_env_sim *sim, enum sim_trace_kind kind)
{
    struct sim_trace *trace = &sim->trace;
    struct sim_trace_line *line = &trace->lines[trace->count % SIM_TRACE_LINES];

    trace->count++;
    line->at_ns = sim->now_ns;
    line->kind = kind;
    trace->digest = mix(mix(trace->digest, sim->now_ns), (uint64_t)kind);
    return line;
}

void esi_env_sim_trace(struct esi_env_sim *sim, enum sim_trace_kind kind, uint64_t a, uint64_t b,
                       uint64_t c)
{
    struct sim_trace_line *line = add_line(sim, kind);

    line->values[0] = a;
    line->values[1] = b;
    line->values[2] = c;
    sim->trace.digest = mix(mix(mix(sim->trace.digest, a), b), c);
    if (sim->trace.is_printed) {
        print_line(line);
    }
}

void esi_env_sim_note(struct esi_env_sim *sim, const char *format, ...)
{
    struct sim_trace_line *line = add_line(sim, SIM_NOTE);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line->note, sizeof line->note, format, arguments);
    va_end(arguments);
    sim->trace.digest =
        mix(sim->trace.digest, esi_env_sim_trace_hash(line->note, strlen(line->note)));
    if (sim->trace.is_printed) {
        print_line(line);
    }
}

uint64_t esi_env_sim_digest(const struct esi_env_sim *sim)
{
    return sim->trace.digest;
}

uint64_t esi_env_sim_steps(const struct esi_env_sim *sim)
{
    return sim->trace.count;
}

void esi_env_sim_print_last(const struct esi_env_sim *sim, size_t lines)
{
    const struct sim_trace *trace = &sim->trace;
    const uint64_t kept = trace->count < SIM_TRACE_LINES ? trace->count : SIM_TRACE_LINES;
    const uint64_t wanted = lines < kept ? lines : kept;

    for (uint64_t i = trace->count - wanted; i < trace->count; i++) {
        print_line(&trace->lines[i % SIM_TRACE_LINES]);
    }
}
