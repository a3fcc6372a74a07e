/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plays simulated worlds, a process each, and checks them.
 *
 *   sim --seed N [--hours H] [--print] [--log]   one world; --print: its whole trace
 *   sim --seeds A-B [--jobs J]                   many; the seeds that failed are told at the end
 *   sim --file FILE                              each seed of a file, a line each
 *   sim --twice A-B                              each twice: the traces must be the same
 *
 * A seed says everything: what failed once fails again, with the same trace, in any build of the
 * same code.
 */
#include "sim_world.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    JOBS_MAX = 64,
    FAILURES_MAX = 100,
    KEPT_MAX = 1000, /* seeds of a file */
    CPU_S_MAX = 60   /* a world that stands still in an endless loop */
};

/* What a process leaves behind, in memory that it shares with its parent. */
struct slot {
    pid_t pid; /* 0: free */
    uint64_t seed;
    struct sim_result result;
};

struct runner {
    struct sim_options options;
    uint32_t jobs;
    bool is_twice;
    struct slot *slots;
    struct sim_result total;
    uint64_t played;
    uint64_t failed;
    uint64_t failures[FAILURES_MAX];
};

static void add_up(struct sim_result *total, const struct sim_result *result)
{
    total->digest ^= result->digest;
    total->steps += result->steps;
    total->virtual_ns += result->virtual_ns;
    total->published += result->published;
    total->delivered += result->delivered;
    total->required += result->required;
    total->connections += result->connections;
    total->faults += result->faults;
    total->events += result->events;
    total->called += result->called;
    total->pages += result->pages;
    total->dropped += result->dropped;
    total->shortages += result->shortages;
    total->moves += result->moves;
    total->refused += result->refused;
}

_Noreturn static void play_in_child(const struct runner *runner, struct slot *slot)
{
    struct sim_options options = runner->options;
    struct sim_result first = {0};

    options.seed = slot->seed;
    if (options.duration_ns == 0) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){.rlim_cur = CPU_S_MAX, .rlim_max = CPU_S_MAX});
    }
    if (runner->is_twice) {
        /* The second time in a process of its own, which has as little of the first as this one. */
        const pid_t pid = fork();
        if (pid == 0) {
            sim_world_play(&options, &slot->result);
            exit(0);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
            exit(1);
        }
        first = slot->result;
    }
    sim_world_play(&options, &slot->result);
    if (runner->is_twice && first.digest != slot->result.digest) {
        printf("FAILED: seed %" PRIu64 " has two traces: %016" PRIx64 " and %016" PRIx64 "\n",
               slot->seed, first.digest, slot->result.digest);
        exit(1);
    }
    exit(0);
}

/* Waits until one process has ended. */
static void reap(struct runner *runner)
{
    int status = 0;
    const pid_t pid = wait(&status);

    for (uint32_t i = 0; i < runner->jobs; i++) {
        struct slot *slot = &runner->slots[i];
        if (pid <= 0 || slot->pid != pid) {
            continue;
        }
        slot->pid = 0;
        runner->played++;
        if (status == 0) {
            add_up(&runner->total, &slot->result);
            return;
        }
        if (WIFSIGNALED(status)) {
            printf("FAILED: seed %" PRIu64 " ended by signal %d\n", slot->seed, WTERMSIG(status));
        } else {
            printf("FAILED: seed %" PRIu64 " ended with status %d\n", slot->seed,
                   WEXITSTATUS(status));
        }
        if (runner->failed < FAILURES_MAX) {
            runner->failures[runner->failed] = slot->seed;
        }
        runner->failed++;
        return;
    }
}

static struct slot *free_slot(struct runner *runner)
{
    for (;;) {
        for (uint32_t i = 0; i < runner->jobs; i++) {
            if (runner->slots[i].pid == 0) {
                return &runner->slots[i];
            }
        }
        reap(runner);
    }
}

static void play(struct runner *runner, uint64_t seed)
{
    struct slot *slot = free_slot(runner);

    slot->seed = seed;
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        play_in_child(runner, slot);
    }
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    slot->pid = pid;
}

static void play_range(struct runner *runner, const char *range)
{
    char *end = NULL;
    const uint64_t first = strtoull(range, &end, 10);
    const uint64_t last = *end == '-' ? strtoull(end + 1, &end, 10) : first;

    if (*end != '\0' || last < first) {
        fprintf(stderr, "'%s': one seed, or FIRST-LAST\n", range);
        exit(2);
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        play(runner, seed);
    }
}

/* All of it is read first: a child that ends puts the offset, which it shares, back to where it
 * has read to. */
static void play_file(struct runner *runner, const char *path)
{
    uint64_t seeds[KEPT_MAX];
    size_t count = 0;
    char line[256];
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        perror(path);
        exit(2);
    }
    while (fgets(line, sizeof line, file) != NULL && count < KEPT_MAX) {
        if (line[0] >= '0' && line[0] <= '9') {
            seeds[count++] = strtoull(line, NULL, 10);
        }
    }
    fclose(file);
    for (size_t i = 0; i < count; i++) {
        play(runner, seeds[i]);
    }
}

static int report(struct runner *runner)
{
    const struct sim_result *total = &runner->total;

    for (uint32_t i = 0; i < runner->jobs; i++) {
        while (runner->slots[i].pid != 0) {
            reap(runner);
        }
    }
    printf("%" PRIu64 " worlds, %" PRIu64 " virtual seconds, %" PRIu64 " steps, digest %016" PRIx64
           "\n%" PRIu64 " connections, %" PRIu64 " faults, %" PRIu64 " messages published, %" PRIu64
           " delivered, of %" PRIu64 " it was certain, %" PRIu64 " dropped; %" PRIu64
           " events, %" PRIu64 " accepted by gRPC; %" PRIu64 " pages, %" PRIu64
           " times short of memory, %" PRIu64 " moves, %" PRIu64 " secrets refused\n",
           runner->played, total->virtual_ns / SIM_S, total->steps, total->digest,
           total->connections, total->faults, total->published, total->delivered, total->required,
           total->dropped, total->events, total->called, total->pages, total->shortages,
           total->moves, total->refused);
    for (uint64_t i = 0; i < runner->failed && i < FAILURES_MAX; i++) {
        printf("failed: %" PRIu64 "\n", runner->failures[i]);
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", runner->played - runner->failed,
           runner->failed);
    return runner->failed == 0 && runner->played > 0 ? 0 : 1;
}

static void usage(void)
{
    fprintf(stderr, "usage: sim [--hours H] [--jobs J] [--print] [--log] "
                    "(--seed N | --seeds A-B | --twice A-B | --file FILE)...\n");
    exit(2);
}

static void take_setting(struct runner *runner, int option)
{
    switch (option) {
    case 's':
    case 'f':
    case 't':
        break;
    case 'h':
        runner->options.duration_ns = (uint64_t)(strtod(optarg, NULL) * 3600.0 * 1e9);
        break;
    case 'j':
        runner->jobs = (uint32_t)strtoul(optarg, NULL, 10);
        runner->jobs = runner->jobs < 1 || runner->jobs > JOBS_MAX ? 1 : runner->jobs;
        break;
    case 'p':
        runner->options.is_printed = true;
        break;
    case 'l':
        runner->options.has_log = true;
        break;
    default:
        usage();
    }
}

static void take_action(struct runner *runner, int option)
{
    switch (option) {
    case 's':
        play_range(runner, optarg);
        break;
    case 't':
        runner->is_twice = true;
        play_range(runner, optarg);
        break;
    case 'f':
        play_file(runner, optarg);
        break;
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
                                          {"seeds", required_argument, NULL, 's'},
                                          {"twice", required_argument, NULL, 't'},
                                          {"file", required_argument, NULL, 'f'},
                                          {"hours", required_argument, NULL, 'h'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"print", no_argument, NULL, 'p'},
                                          {"log", no_argument, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
    struct runner runner = {.jobs = 1};
    int option;

    runner.slots = mmap(NULL, JOBS_MAX * sizeof *runner.slots, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (runner.slots == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        take_setting(&runner, option);
    }
    if (optind != argc) {
        usage();
    }
    optind = 1; /* once more, now that all settings are known */
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        take_action(&runner, option);
    }
    return report(&runner);
}
