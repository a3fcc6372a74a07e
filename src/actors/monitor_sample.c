/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The figures come from /proc/self/statm and /proc/self/stat, whose fields are found by their
 * place.
 */
#include "actors/monitor_sample.h"
#include "base/bytes.h"
#include "base/own.h"
#include "env/env.h"
#include "runtime/actor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROC_FILE_BYTES_MAX = 4096 };

/* Shorter windows show the grain of the kernel's ticks, not the load. */
static const uint64_t WINDOW_NS_MIN = 500000000;

void esi_monitor_sample_init(struct esi_monitor_sample *sample, struct esi_env *env,
                             uint64_t start_ns)
{
    *sample = (struct esi_monitor_sample){.env = env, .window_ns = start_ns};
}

/* The number at *text, which moves behind it. */
static uint64_t take_number(const char **text)
{
    char *end = NULL;
    const uint64_t value = strtoull(*text, &end, 10);

    *text = end;
    return value;
}

static bool read_proc(struct esi_env *env, const char *path, struct esi_bytes *out)
{
    esi_bytes_clear(out);
    if (esi_env_file_read(env, path, PROC_FILE_BYTES_MAX, out) != ES_OK) {
        return false;
    }
    esi_bytes_append(out, "", 1);
    return !out->failed;
}

/* utime and stime are the 14th and 15th field; the second one, in brackets, may hold anything. */
static bool parse_stat(const char *text, uint64_t *ticks)
{
    const char *at = strrchr(text, ')');

    for (int field = 2; at != NULL && field < 14; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return false;
    }
    const uint64_t user = take_number(&at);
    *ticks = user + take_number(&at);
    return true;
}

static bool read_figures(struct esi_monitor_sample *sample, struct esi_bytes *text)
{
    if (!read_proc(sample->env, "/proc/self/statm", text)) {
        return false;
    }
    const char *at = text->data;
    (void)take_number(&at);
    sample->rss_pages = take_number(&at);
    return read_proc(sample->env, "/proc/self/stat", text) &&
           parse_stat(text->data, &sample->cpu_ticks);
}

static void run(struct esi_job *job)
{
    struct esi_monitor_sample *sample = ESI_CONTAINER_OF(job, struct esi_monitor_sample, job);
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    sample->is_ok = read_figures(sample, &text);
    esi_bytes_deinit(&text);
    esi_actor_send(sample->asker, sample->done);
}

void esi_monitor_sample_begin(struct esi_monitor_sample *sample, struct esi_runtime *runtime,
                              struct esi_actor *asker, struct esi_msg *done)
{
    sample->job = (struct esi_job){.run = run};
    sample->asker = asker;
    sample->done = done;
    esi_runtime_submit(runtime, &sample->job);
}

void esi_monitor_sample_end(struct esi_monitor_sample *sample, uint64_t now_ns)
{
    if (!sample->is_ok) {
        return;
    }
    sample->cpu_s = (double)sample->cpu_ticks / (double)sysconf(_SC_CLK_TCK);
    sample->mem_bytes = sample->rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    if (now_ns - sample->window_ns >= WINDOW_NS_MIN) {
        const double used_s =
            (double)(sample->cpu_ticks - sample->window_ticks) / (double)sysconf(_SC_CLK_TCK);
        sample->cpu_percent = used_s * 1e11 / (double)(now_ns - sample->window_ns);
        sample->window_ticks = sample->cpu_ticks;
        sample->window_ns = now_ns;
    }
}
