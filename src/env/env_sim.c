/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The world: time, chance, threads and files. What happens next is on a heap by time; at one time,
 * the order is drawn. The network is env_sim_net*.c.
 */
#include "env/env_sim.h"

#include "base/assert.h"
#include "base/own.h"
#include "env/env_sim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_PORT = 20000, STALL_NS_MAX = 200000000, JOIN_NS_MAX = 60, PASSED_NS_MAX = 20000000 };

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_US UINT64_C(1000)
/* Not 0, so that "never" and "a long time ago" differ; a date in 2027. */
static const uint64_t START_NS = 1000 * NS_PER_S;
static const int64_t START_WALL_NS = INT64_C(1800000000) * (int64_t)NS_PER_S;

struct esi_thread {
    struct sim_host *host;
    uint32_t index;
    esi_env_step_fn step;
    void *argument;
    struct esi_poller *poller; /* borrowed; NULL: none */
    uint64_t run_at_ns;        /* UINT64_MAX: nothing to do */
    uint64_t busy_until_ns;
    uint64_t cpu_ns; /* what it has been busy with */
    bool has_ended;
};

/* --- chance --- */

static uint64_t next_number(uint64_t *state)
{
    /* splitmix64: any state will do, also 0. */
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t esi_env_sim_chance(struct esi_env_sim *sim, enum sim_chance chance, uint64_t limit)
{
    ESI_REQUIRE(limit > 0);
    return (uint64_t)(((__uint128_t)next_number(&sim->chances[chance]) * limit) >> 64);
}

bool esi_env_sim_happens(struct esi_env_sim *sim, enum sim_chance chance, uint32_t permille)
{
    return permille > 0 && esi_env_sim_chance(sim, chance, 1000) < permille;
}

uint64_t esi_env_sim_draw(struct esi_env_sim *sim, uint64_t limit)
{
    return esi_env_sim_chance(sim, CHANCE_SCENARIO, limit);
}

static void fill_random(struct esi_env *env, void *out, size_t len)
{
    struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;
    char *at = out;

    while (len > 0) {
        const uint64_t number = next_number(&sim->chances[CHANCE_RANDOM]);
        const size_t step = len < sizeof number ? len : sizeof number;
        memcpy(at, &number, step);
        at += step;
        len -= step;
    }
}

/* --- what happens when --- */

void *esi_env_sim_grow(void *table, uint32_t count, size_t entry_bytes)
{
    void *grown = table;

    if ((count & (count - 1)) == 0) {
        grown = realloc(table, (count == 0 ? 1 : (size_t)count * 2) * entry_bytes);
        ESI_ASSERT(grown != NULL);
    }
    return grown;
}

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->tie < b->tie;
}

static void push_event(struct esi_env_sim *sim, struct sim_event event)
{
    if (sim->event_count == sim->event_capacity) {
        sim->event_capacity = sim->event_capacity == 0 ? 256 : sim->event_capacity * 2;
        sim->events = realloc(sim->events, sim->event_capacity * sizeof *sim->events);
        ESI_ASSERT(sim->events != NULL);
    }
    event.at_ns = event.at_ns < sim->now_ns ? sim->now_ns : event.at_ns;
    event.tie = next_number(&sim->chances[CHANCE_TURNS]);
    size_t at = sim->event_count++;
    while (at > 0 && is_before(&event, &sim->events[(at - 1) / 2])) {
        sim->events[at] = sim->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->events[at] = event;
}

static struct sim_event pop_event(struct esi_env_sim *sim)
{
    const struct sim_event first = sim->events[0];
    const struct sim_event last = sim->events[--sim->event_count];
    size_t at = 0;

    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= sim->event_count) {
            break;
        }
        if (child + 1 < sim->event_count &&
            is_before(&sim->events[child + 1], &sim->events[child])) {
            child++;
        }
        if (!is_before(&sim->events[child], &last)) {
            break;
        }
        sim->events[at] = sim->events[child];
        at = child;
    }
    sim->events[at] = last;
    return first;
}

void esi_env_sim_push(struct esi_env_sim *sim, uint64_t at_ns, enum sim_event_kind kind,
                      uint32_t index, uint32_t tries)
{
    push_event(sim,
               (struct sim_event){.at_ns = at_ns, .kind = kind, .index = index, .tries = tries});
}

void esi_env_sim_at(struct esi_env_sim *sim, uint64_t at_ns, void (*happen)(void *argument),
                    void *argument)
{
    push_event(sim,
               (struct sim_event){
                   .at_ns = at_ns, .kind = SIM_EVENT_CALL, .happen = happen, .argument = argument});
}

/* --- threads --- */

void esi_env_sim_schedule(struct esi_env_sim *sim, struct esi_thread *thread, uint64_t at_ns)
{
    if (thread->has_ended) {
        return;
    }
    at_ns = at_ns < sim->now_ns ? sim->now_ns : at_ns;
    at_ns = at_ns < thread->busy_until_ns ? thread->busy_until_ns : at_ns;
    if (at_ns < thread->run_at_ns) {
        thread->run_at_ns = at_ns;
        esi_env_sim_push(sim, at_ns, SIM_EVENT_THREAD, thread->index, 0);
    }
}

static void run_thread(struct esi_env_sim *sim, struct esi_thread *thread)
{
    uint64_t next_ns = UINT64_MAX;

    if (thread == NULL || thread->has_ended || thread->run_at_ns != sim->now_ns) {
        return; /* it was asked for an earlier turn meanwhile, and had it */
    }
    thread->run_at_ns = UINT64_MAX;
    esi_env_sim_trace(sim, SIM_TURN, thread->index, 0, 0);
    sim->running = thread;
    sim->passed_ns = 0;
    const bool goes_on = thread->step(thread->argument, &next_ns);
    const uint64_t passed_ns = sim->passed_ns;
    sim->running = NULL;
    sim->passed_ns = 0;
    const bool is_stalled = esi_env_sim_happens(sim, CHANCE_TURNS, sim->options.stall_permille);
    const uint64_t more_ns =
        is_stalled ? esi_env_sim_chance(sim, CHANCE_TURNS, STALL_NS_MAX)
                   : NS_PER_US + esi_env_sim_chance(sim, CHANCE_TURNS, 30 * NS_PER_US);
    const uint64_t busy_ns = passed_ns + more_ns;
    thread->cpu_ns += is_stalled ? passed_ns : busy_ns;
    thread->busy_until_ns = sim->now_ns + busy_ns;
    if (!goes_on) {
        thread->has_ended = true;
        return;
    }
    if (thread->poller != NULL && esi_env_sim_net_poller_is_ready(thread->poller)) {
        next_ns = 0;
    }
    if (next_ns != UINT64_MAX) {
        esi_env_sim_schedule(sim, thread, next_ns);
    }
}

static enum es_err start_stepped(struct esi_env *env, const char *name, esi_env_step_fn step,
                                 void *argument, struct esi_poller *poller, struct esi_thread **out)
{
    struct sim_host *host = esi_env_sim_host_of(env);
    struct esi_env_sim *sim = host->sim;
    struct esi_thread *thread = malloc(sizeof *thread);

    if (thread == NULL) {
        return ES_NO_MEMORY;
    }
    *thread = (struct esi_thread){.host = host,
                                  .index = sim->thread_count,
                                  .step = step,
                                  .argument = argument,
                                  .poller = poller,
                                  .run_at_ns = UINT64_MAX};
    sim->threads = esi_env_sim_grow(sim->threads, sim->thread_count, sizeof(struct esi_thread *));
    sim->threads[sim->thread_count++] = thread;
    esi_env_sim_note(sim, "thread %u is %s of %s", thread->index, name, host->name);
    if (poller != NULL) {
        esi_env_sim_net_poller_own(poller, thread);
    }
    *out = thread;
    esi_env_sim_schedule(sim, thread,
                         sim->now_ns + esi_env_sim_chance(sim, CHANCE_TURNS, 100 * NS_PER_US));
    return ES_OK;
}

static void wake_stepped(struct esi_env *env, struct esi_thread *thread)
{
    struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;
    const uint64_t limit_ns =
        esi_env_sim_happens(sim, CHANCE_TURNS, 100) ? NS_PER_S / 5 : NS_PER_S / 1000;

    esi_env_sim_schedule(sim, thread,
                         sim->now_ns + esi_env_sim_chance(sim, CHANCE_TURNS, limit_ns));
}

static void yield(struct esi_env *env, uint64_t deadline_ns)
{
    esi_env_sim_step(esi_env_sim_host_of(env)->sim, deadline_ns);
}

static void join_thread(struct esi_env *env, struct esi_thread *thread)
{
    struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;
    const uint64_t deadline_ns = sim->now_ns + JOIN_NS_MAX * NS_PER_S;

    if (thread == NULL) {
        return;
    }
    while (!thread->has_ended) {
        esi_env_sim_step(sim, deadline_ns);
        if (sim->now_ns >= deadline_ns) {
            esi_env_sim_print_last(sim, SIM_TRACE_LINES);
            printf("FAILED: thread %u of host %s does not end; its next turn is at %llu\n",
                   thread->index, thread->host->name, (unsigned long long)thread->run_at_ns);
            fflush(stdout);
            abort();
        }
    }
    sim->threads[thread->index] = NULL;
    free(thread);
}

static enum es_err refuse_thread(struct esi_env *env, const char *name, void (*run)(void *argument),
                                 void *argument, struct esi_thread **thread)
{
    (void)env;
    (void)name;
    (void)run;
    (void)argument;
    (void)thread;
    return ES_UNSUPPORTED;
}

static uint32_t count_cores(struct esi_env *env)
{
    (void)env;
    return 2;
}

void esi_env_sim_step(struct esi_env_sim *sim, uint64_t deadline_ns)
{
    ESI_REQUIRE(sim->running == NULL);
    if (sim->event_count == 0 || sim->events[0].at_ns > deadline_ns) {
        sim->now_ns = deadline_ns > sim->now_ns ? deadline_ns : sim->now_ns;
        return;
    }
    const struct sim_event event = pop_event(sim);
    sim->now_ns = event.at_ns;
    switch (event.kind) {
    case SIM_EVENT_THREAD:
        run_thread(sim, sim->threads[event.index]);
        break;
    case SIM_EVENT_SOCKET:
        esi_env_sim_net_poller_touch(sim, event.index);
        break;
    case SIM_EVENT_SYN:
        esi_env_sim_net_socket_syn(sim, event.index, event.tries);
        break;
    case SIM_EVENT_CALL:
        event.happen(event.argument);
        break;
    }
}

/* --- clock, names, files --- */

static uint64_t now_ns(struct esi_env *env)
{
    struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;

    if (sim->running != NULL && sim->options.look_ns_max > 0 && sim->passed_ns < PASSED_NS_MAX) {
        sim->passed_ns += esi_env_sim_chance(sim, CHANCE_TURNS, sim->options.look_ns_max);
    }
    return sim->now_ns + sim->passed_ns;
}

static uint64_t thread_cpu_ns(struct esi_env *env)
{
    const struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;

    return sim->running != NULL ? sim->running->cpu_ns + sim->passed_ns : sim->now_ns;
}

static int64_t wall_ns(struct esi_env *env)
{
    return START_WALL_NS + (int64_t)now_ns(env);
}

/* There are no names here, only addresses. */
static enum es_err resolve(struct esi_env *env, const char *host, uint16_t port,
                           struct esi_address *addresses, size_t capacity, size_t *count)
{
    (void)env;
    if (capacity == 0 || strspn(host, "0123456789.") != strlen(host) ||
        strlen(host) >= ESI_ENV_HOST_MAX) {
        return ES_NOT_FOUND;
    }
    addresses[0] = (struct esi_address){.port = port};
    snprintf(addresses[0].host, sizeof addresses[0].host, "%s", host);
    *count = 1;
    return ES_OK;
}

static struct sim_file *find_file(struct esi_env *env, const char *path)
{
    struct sim_file *file = esi_env_sim_host_of(env)->sim->files;

    while (file != NULL && strcmp(file->path, path) != 0) {
        file = file->next;
    }
    return file;
}

static enum es_err read_file(struct esi_env *env, const char *path, size_t size_max,
                             struct esi_bytes *out)
{
    const struct sim_file *file = find_file(env, path);

    if (file == NULL) {
        return ES_NOT_FOUND;
    }
    if (file->content.len > size_max) {
        return ES_TOO_LARGE;
    }
    esi_bytes_append(out, file->content.data, file->content.len);
    return out->failed ? ES_NO_MEMORY : ES_OK;
}

static enum es_err replace_file(struct esi_env *env, const char *path, const void *data, size_t len,
                                uint32_t mode)
{
    struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;
    struct sim_file *file = find_file(env, path);

    if (file == NULL) {
        file = calloc(1, sizeof *file);
        char *copy = esi_str_dup(esi_str_from(path));
        if (file == NULL || copy == NULL) {
            free(file);
            free(copy);
            return ES_NO_MEMORY;
        }
        *file = (struct sim_file){.next = sim->files, .path = copy};
        esi_bytes_init(&file->content, 0);
        sim->files = file;
    }
    esi_bytes_clear(&file->content);
    esi_bytes_append(&file->content, data, len);
    file->mode = mode;
    file->modified_ns = wall_ns(env);
    file->inode = ++sim->next_inode;
    return file->content.failed ? ES_NO_MEMORY : ES_OK;
}

static enum es_err tell_file_info(struct esi_env *env, const char *path, struct esi_file_info *info)
{
    const struct sim_file *file = find_file(env, path);

    if (file == NULL) {
        return ES_NOT_FOUND;
    }
    *info = (struct esi_file_info){.size_bytes = file->content.len,
                                   .modified_ns = file->modified_ns,
                                   .inode = file->inode,
                                   .mode = file->mode};
    return ES_OK;
}

/* A file is locked, changed and unlocked within one step. */
static enum es_err lock_file(struct esi_env *env, const char *path, int *lock)
{
    (void)env;
    (void)path;
    *lock = 0;
    return ES_OK;
}

static void unlock_file(struct esi_env *env, int lock)
{
    (void)env;
    (void)lock;
}

/* --- the world --- */

enum es_err esi_env_sim_new(const struct esi_env_sim_options *options, struct esi_env_sim **out)
{
    struct esi_env_sim *sim = calloc(1, sizeof *sim);
    uint64_t state = options->seed;

    if (sim == NULL) {
        return ES_NO_MEMORY;
    }
    sim->options = *options;
    sim->now_ns = START_NS;
    sim->trace.is_printed = options->is_printed;
    for (int i = 0; i < CHANCE_COUNT; i++) {
        sim->chances[i] = next_number(&state);
    }
    *out = sim;
    return ES_OK;
}

void esi_env_sim_free(struct esi_env_sim *sim)
{
    if (sim == NULL) {
        return;
    }
    for (uint32_t i = 0; i < sim->thread_count; i++) {
        ESI_REQUIRE(sim->threads[i] == NULL);
    }
    esi_env_sim_net_socket_end(sim);
    while (sim->files != NULL) {
        struct sim_file *file = sim->files;
        sim->files = file->next;
        free(file->path);
        esi_bytes_deinit(&file->content);
        free(file);
    }
    for (uint32_t i = 0; i < sim->host_count; i++) {
        free(sim->hosts[i]);
    }
    free(sim->events);
    free(sim->threads);
    free(sim->sockets);
    free(sim);
}

struct esi_env *esi_env_sim_host(struct esi_env_sim *sim, const char *name)
{
    static const struct esi_env_ops ops = {
        .now_ns = now_ns,
        .thread_cpu_ns = thread_cpu_ns,
        .wall_ns = wall_ns,
        .random = fill_random,
        .listen = esi_env_sim_net_socket_listen,
        .accept = esi_env_sim_net_socket_accept,
        .connect = esi_env_sim_net_socket_connect,
        .connect_result = esi_env_sim_net_socket_connect_result,
        .local_address = esi_env_sim_net_socket_local_address,
        .read = esi_env_sim_net_stream_read,
        .writev = esi_env_sim_net_stream_writev,
        .shutdown_write = esi_env_sim_net_stream_shutdown_write,
        .close = esi_env_sim_net_socket_close,
        .poller_new = esi_env_sim_net_poller_new,
        .poller_free = esi_env_sim_net_poller_free,
        .poller_add = esi_env_sim_net_poller_add,
        .poller_change = esi_env_sim_net_poller_change,
        .poller_remove = esi_env_sim_net_poller_remove,
        .poller_wait = esi_env_sim_net_poller_wait,
        .poller_wake = esi_env_sim_net_poller_wake,
        .thread_start = refuse_thread,
        .thread_join = join_thread,
        .stepped_start = start_stepped,
        .stepped_wake = wake_stepped,
        .yield = yield,
        .core_count = count_cores,
        .resolve = resolve,
        .file_read = read_file,
        .file_replace = replace_file,
        .file_info = tell_file_info,
        .file_lock = lock_file,
        .file_unlock = unlock_file,
    };

    for (uint32_t i = 0; i < sim->host_count; i++) {
        if (strcmp(sim->hosts[i]->name, name) == 0) {
            return &sim->hosts[i]->env;
        }
    }
    struct sim_host *host = calloc(1, sizeof *host);
    if (host == NULL || sim->host_count == SIM_HOSTS_MAX) {
        free(host);
        return NULL;
    }
    *host = (struct sim_host){
        .env = {.ops = &ops}, .sim = sim, .index = sim->host_count, .next_port = FIRST_PORT};
    snprintf(host->name, sizeof host->name, "%s", name);
    sim->hosts[sim->host_count++] = host;
    return &host->env;
}

uint64_t esi_env_sim_now_ns(const struct esi_env_sim *sim)
{
    return sim->now_ns;
}

uint32_t esi_env_sim_sockets(const struct esi_env_sim *sim, const struct esi_env *host)
{
    (void)sim;
    return esi_env_sim_host_of(host)->sockets;
}
