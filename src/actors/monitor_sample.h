/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory and CPU of the process, read on a service thread, since reading files is never done on a
 * worker. Belongs to the asking actor, except between begin and the message `done`.
 */
#pragma once

#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_env;
struct esi_msg;

struct esi_monitor_sample {
    struct esi_job job;
    struct esi_env *env;     /* borrowed */
    struct esi_actor *asker; /* borrowed: alive until done has come */
    struct esi_msg *done;
    /* written by the service thread */
    bool is_ok;
    uint64_t rss_pages;
    uint64_t cpu_ticks;
    /* the begin of the window that cpu_percent is taken over */
    uint64_t window_ticks;
    uint64_t window_ns;
    /* the results of the last sample that could be read */
    uint64_t mem_bytes;
    double cpu_percent; /* 100: one core */
    double cpu_s;       /* since the process began */
};

/* start_ns: when the process began, monotonic. */
void esi_monitor_sample_init(struct esi_monitor_sample *sample, struct esi_env *env,
                             uint64_t start_ns);
/* Takes a sample; done is sent to the asker. */
void esi_monitor_sample_begin(struct esi_monitor_sample *sample, struct esi_runtime *runtime,
                              struct esi_actor *asker, struct esi_msg *done);
/* done has come: computes the results. */
void esi_monitor_sample_end(struct esi_monitor_sample *sample, uint64_t now_ns);
