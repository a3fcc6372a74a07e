/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of a simulated world know of each other: the servers, the clients, and the book in
 * which every publication and every delivery is kept, so that order, loss and doubles can be told.
 *
 * A check that fails prints the seed, the virtual time and the last lines of the trace, and ends
 * the process.
 */
#pragma once

#include "config/config.h"
#include "env/env_sim.h"
#include "server/assemble.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_S UINT64_C(1000000000)
#define SIM_MS UINT64_C(1000000)

enum {
    SIM_SERVERS_MAX = 4,
    SIM_CLIENTS_MAX = 8,
    SIM_SUBJECTS = 8,
    SIM_PATTERNS = 8,
    SIM_GROUPS = 3,
    SIM_SUBS_MAX = 12, /* of one connection */
};

/* SERVER_INNER is event-service, SERVER_OUTER event-gateway. */
enum sim_server_kind { SERVER_INNER, SERVER_OUTER };

struct sim_server {
    enum sim_server_kind kind;
    uint32_t index;
    char host[16];
    bool knows[SIM_SERVERS_MAX]; /* by its configuration; of others it learns */
    struct esi_env *env;
    struct esi_config *config;
    struct esi_assembly assembly;
    bool is_up;
    uint64_t up_since_ns; /* also when it went down, where it is down */
    uint32_t starts;
    bool drops_new;         /* limits.slow_consumer: drop_new */
    bool has_little_memory; /* limits.memory */
};

/* Between two servers, in both directions. */
struct sim_link {
    struct sim_world *world;
    uint32_t a; /* the lesser one's index */
    uint32_t b;
    bool is_cut;
    uint64_t ok_since_ns; /* when it was last disturbed */
};

enum sim_phase {
    PHASE_ACTIVE, /* clients do as they like, things go wrong */
    PHASE_QUIET,  /* nothing goes wrong any more, no new messages */
    PHASE_LEAVE,  /* clients say good-bye */
    PHASE_OVER
};

enum sim_restart { RESTART_NONE, RESTART_STOP, RESTART_DEATH };

struct sim_client;
struct sim_book;
struct sim_events;
struct sim_monitor;
struct sim_publisher;
struct sim_tokens;

struct sim_world {
    uint64_t seed;
    bool has_log;
    bool is_printed;
    struct esi_env_sim *sim;
    enum sim_phase phase;
    struct sim_server servers[SIM_SERVERS_MAX]; /* the first is an inner one */
    uint32_t server_count;
    struct sim_link links[SIM_SERVERS_MAX][SIM_SERVERS_MAX]; /* [a][b], a < b */
    bool has_little_memory;   /* servers have, and clients publish much and read little */
    uint64_t fault_period_ns; /* mean time between two faults, doubled; 0: none */
    uint32_t cut_client;      /* which one is cut off; SIM_CLIENTS_MAX: none */
    enum sim_restart restarts[SIM_SERVERS_MAX]; /* to be done */
    uint32_t client_count;
    struct sim_client *clients[SIM_CLIENTS_MAX];
    struct sim_book *book;
    struct sim_events *events;       /* NULL: none */
    struct sim_publisher *publisher; /* NULL: no events, or none by gRPC */
    struct sim_monitor *monitor;
    struct sim_tokens *tokens; /* NULL: one token for all */
    struct {
        uint64_t published;
        uint64_t delivered;
        uint64_t required; /* deliveries whose absence would have been a failure */
        uint64_t connections;
        uint64_t faults;
        uint64_t events;
        uint64_t called; /* of them, accepted by gRPC */
        uint64_t pages;
        uint64_t refused;   /* bearers of a secret */
        uint64_t moves;     /* of actors, from worker to worker */
        uint64_t shortages; /* times a server was seen short of memory */
        uint64_t dropped;   /* messages that a server left out, and counted */
    } counts;
};

/* The process ends. */
#define sim_check(world, condition, ...)                                                           \
    ((condition) ? (void)0 : sim_world_fail((world), #condition, __FILE__, __LINE__, __VA_ARGS__))
_Noreturn void sim_world_fail(const struct sim_world *world, const char *condition,
                              const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* A line for who reads the whole trace. */
#define sim_tell(world, ...)                                                                       \
    ((world)->is_printed ? esi_env_sim_note((world)->sim, __VA_ARGS__) : (void)0)

struct sim_options {
    uint64_t seed;
    uint64_t duration_ns; /* of the active phase, virtual; 0: drawn */
    bool is_printed;
    bool has_log; /* the servers' own, on standard error */
};

struct sim_result {
    uint64_t digest;
    uint64_t steps;
    uint64_t virtual_ns;
    uint64_t published;
    uint64_t delivered;
    uint64_t required;
    uint64_t connections;
    uint64_t faults;
    uint64_t events;
    uint64_t called;
    uint64_t pages;
    uint64_t dropped;
    uint64_t shortages;
    uint64_t moves;
    uint64_t refused;
};

/* Plays one world from start to end. Does not return when a check fails. */
void sim_world_play(const struct sim_options *options, struct sim_result *out);

struct sim_link *sim_world_link(const struct sim_world *world, uint32_t a, uint32_t b);
/* When the link between two servers was last disturbed, made or broken. */
uint64_t sim_world_link_ok_since_ns(const struct sim_world *world, uint32_t a, uint32_t b);
/* True when the link between two servers has been undisturbed for long enough before `since_ns`,
 * and is still. */
bool sim_world_is_linked_since(const struct sim_world *world, uint32_t a, uint32_t b,
                               uint64_t since_ns);
/* The same of all links of a server. */
bool sim_world_is_joined_since(const struct sim_world *world, uint32_t server, uint64_t since_ns);
/* How often an event-service was started: what was accepted before is lost with its memory. */
uint32_t sim_world_inner_starts(const struct sim_world *world);
