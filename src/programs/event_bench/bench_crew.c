/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A meeting: each other process says a byte to process 0, and gets one back. */
#include "event_bench/bench_crew.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static bool say(int pipe_end, bool is_good)
{
    const char word = is_good ? '+' : '-';

    return write(pipe_end, &word, 1) == 1; /* SIGPIPE is ignored */
}

/* False also when the other end is gone. */
static bool hear(int pipe_end)
{
    char word = '-';
    ssize_t count;

    do {
        count = read(pipe_end, &word, 1);
    } while (count < 0 && errno == EINTR);
    return count == 1 && word == '+';
}

static void close_both(const int *ends)
{
    close(ends[0]);
    close(ends[1]);
}

/* In the new process: it keeps its own ends alone, so that an end that is closed is noticed. */
static void become(struct esi_bench_crew *crew, size_t index, int from, int to)
{
    for (size_t i = 1; i < index; i++) {
        close(crew->from[i]);
        close(crew->to[i]);
    }
    crew->index = index;
    crew->from[0] = from;
    crew->to[0] = to;
}

static enum es_err start_one(struct esi_bench_crew *crew, size_t index)
{
    int up[2];
    int down[2];

    if (pipe2(up, O_CLOEXEC) != 0) {
        return ES_FULL;
    }
    if (pipe2(down, O_CLOEXEC) != 0) {
        close_both(up);
        return ES_FULL;
    }
    const pid_t pid = fork();
    if (pid < 0) {
        close_both(up);
        close_both(down);
        return ES_FULL;
    }
    if (pid == 0) {
        close(up[0]);
        close(down[1]);
        become(crew, index, down[0], up[1]);
        return ES_OK;
    }
    close(up[1]);
    close(down[0]);
    crew->pids[index] = pid;
    crew->from[index] = up[0];
    crew->to[index] = down[1];
    crew->count = index + 1;
    crew->board->gate.pids[index] = (uint64_t)pid;
    return ES_OK;
}

enum es_err esi_bench_crew_start(struct esi_bench_crew *crew,
                                 const struct esi_bench_options *options)
{
    const uint32_t shard_count = (uint32_t)(options->processes * options->threads);

    crew->board_bytes =
        sizeof *crew->board + esi_bench_part_row_count(options) * sizeof(struct esi_bench_row);
    void *memory =
        mmap(NULL, crew->board_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return ES_NO_MEMORY;
    }
    crew->board = memory;
    crew->count = 1;
    atomic_init(&crew->board->gate.to_begin, shard_count);
    atomic_init(&crew->board->gate.to_end, shard_count);
    crew->board->gate.pids[0] = (uint64_t)getpid();
    crew->board->gate.pid_count = options->processes;
    for (size_t i = 1; i < options->processes && crew->index == 0; i++) {
        const enum es_err err = start_one(crew, i);
        if (err != ES_OK) {
            return err;
        }
    }
    return ES_OK;
}

bool esi_bench_crew_meet(struct esi_bench_crew *crew, bool is_good)
{
    bool all_are_good = is_good;

    if (crew->index != 0) {
        return say(crew->to[0], is_good) && hear(crew->from[0]) && is_good;
    }
    for (size_t i = 1; i < crew->count; i++) {
        all_are_good = hear(crew->from[i]) && all_are_good;
    }
    for (size_t i = 1; i < crew->count; i++) {
        all_are_good = say(crew->to[i], all_are_good) && all_are_good;
    }
    return all_are_good;
}

void esi_bench_crew_finish(struct esi_bench_crew *crew)
{
    if (crew->index != 0) {
        close(crew->from[0]);
        close(crew->to[0]);
    } else {
        for (size_t i = 1; i < crew->count; i++) {
            close(crew->from[i]);
            close(crew->to[i]);
            while (waitpid(crew->pids[i], NULL, 0) < 0 && errno == EINTR) {
            }
        }
    }
    if (crew->board != NULL) {
        munmap(crew->board, crew->board_bytes);
    }
    *crew = (struct esi_bench_crew){0};
}
