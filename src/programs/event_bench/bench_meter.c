/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /proc/PID/stat counts CPU in ticks of 10 ms, too coarse for short runs; the process's CPU clock
 * is exact but does not tell user from system time, so both are read. Context switches stand in the
 * status of each thread.
 */
#include "event_bench/bench_meter.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    if (clock_gettime(clock, &now) != 0) {
        return 0;
    }
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* The number after "NAME:" in a line of /proc status, or 0. */
static uint64_t read_field(const char *line, const char *name)
{
    const size_t len = strlen(name);

    return strncmp(line, name, len) == 0 ? strtoull(line + len, NULL, 10) : 0;
}

static void add_status(const char *path, bool is_process, struct esi_bench_usage *usage)
{
    char line[256];
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        return; /* the thread has ended meanwhile */
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (is_process) {
            usage->resident_bytes += 1024 * read_field(line, "VmRSS:");
            usage->resident_bytes_max += 1024 * read_field(line, "VmHWM:");
            usage->threads += read_field(line, "Threads:");
        } else {
            usage->voluntary += read_field(line, "voluntary_ctxt_switches:");
            usage->involuntary += read_field(line, "nonvoluntary_ctxt_switches:");
        }
    }
    fclose(file);
}

static void add_threads(const char *process, struct esi_bench_usage *usage)
{
    char path[320];

    snprintf(path, sizeof path, "%s/task", process);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/task/%.20s/status", process, entry->d_name);
            add_status(path, false, usage);
        }
    }
    closedir(folder);
}

/* Fields 14 and 15 of /proc/PID/stat, counted after the name, which may hold anything but ends at
 * the last bracket. */
static void add_ticks(const char *process, struct esi_bench_usage *usage)
{
    char path[64];
    char text[1024];
    unsigned long long user;
    unsigned long long system;

    snprintf(path, sizeof path, "%.40s/stat", process);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    const size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *after = strrchr(text, ')');
    const long rate = sysconf(_SC_CLK_TCK);
    if (after != NULL && rate > 0 &&
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &system) == 2) {
        usage->user_ns = user * (1000000000U / (unsigned long)rate);
        usage->system_ns = system * (1000000000U / (unsigned long)rate);
    }
}

/* Reads the totals of a process. */
static enum es_err read_one(uint64_t pid, struct esi_bench_usage *usage)
{
    struct esi_bench_usage found = {0};
    char process[40];
    char path[64];
    clockid_t clock;

    if (clock_getcpuclockid((pid_t)pid, &clock) != 0) {
        return ES_NOT_FOUND;
    }
    if (pid == 0) {
        snprintf(process, sizeof process, "/proc/self");
    } else {
        snprintf(process, sizeof process, "/proc/%llu", (unsigned long long)pid);
    }
    snprintf(path, sizeof path, "%s/status", process);
    add_status(path, true, &found);
    if (found.threads == 0) {
        return ES_NOT_FOUND;
    }
    add_threads(process, &found);
    add_ticks(process, &found);
    found.cpu_ns = clock_ns(clock);
    *usage = found;
    return ES_OK;
}

enum es_err esi_bench_meter_read_all(const uint64_t *pids, size_t count,
                                     struct esi_bench_usage *usage)
{
    struct esi_bench_usage sum = {0};

    for (size_t i = 0; i < count; i++) {
        struct esi_bench_usage one;
        const enum es_err err = read_one(pids[i], &one);
        if (err != ES_OK) {
            return err;
        }
        sum.cpu_ns += one.cpu_ns;
        sum.user_ns += one.user_ns;
        sum.system_ns += one.system_ns;
        sum.voluntary += one.voluntary;
        sum.involuntary += one.involuntary;
        sum.resident_bytes += one.resident_bytes;
        sum.resident_bytes_max += one.resident_bytes_max;
        sum.threads += one.threads;
    }
    *usage = sum;
    return ES_OK;
}

uint64_t esi_bench_meter_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}
