/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulated environment: a world of hosts in one thread, with virtual time, an in-memory
 * network and files. All that is left to chance (delays, order of turns, short reads and writes,
 * what the servers ask for as randomness) is drawn from one seed, so that a world can be played
 * again.
 *
 * Time passes from event to event. Threads are steps (env.h): a step takes no time for the others,
 * and the thread is then busy for a drawn while, at least as long as it has seen pass on its own
 * clock (look_ns_max): so actors have load. A connection is two queues of segments with times of
 * arrival, each with a window; order holds as in TCP. What a host without a listener, a closed
 * socket or a lost packet means is as Linux has it.
 *
 * For tests: the programs do not contain it.
 */
#pragma once

#include "env/env.h"

struct esi_env_sim;

struct esi_env_sim_options {
    uint64_t seed;
    uint64_t latency_ns_max; /* of a packet, one way; a few take much longer */
    size_t window_bytes_min; /* what a connection holds in one direction */
    size_t window_bytes_max;
    uint32_t short_permille; /* reads and writes that are cut short */
    uint32_t stall_permille; /* turns after which a thread is busy for long */
    uint64_t look_ns_max; /* what passes at a look at the clock within a turn; 0: turns take none */
    uint32_t full_permille; /* accepts that find the process out of descriptors */
    bool is_printed;        /* each line of the trace, as it comes, on standard output */
};

/* A world without hosts, at a time of its own. options: borrowed. ES_NO_MEMORY. */
ES_MUST_USE enum es_err esi_env_sim_new(const struct esi_env_sim_options *options,
                                        struct esi_env_sim **out);
/* All threads must have been joined. Closes what sockets are left. NULL is accepted. */
void esi_env_sim_free(struct esi_env_sim *sim);
/*
 * The environment of a machine, which exists from its first mention on. host: a numeric address.
 * Owned by the world. NULL when there is no memory or no room (32).
 */
struct esi_env *esi_env_sim_host(struct esi_env_sim *sim, const char *host);

uint64_t esi_env_sim_now_ns(const struct esi_env_sim *sim);
/* Lets the next thing happen, or time pass until the deadline where nothing is due before. */
void esi_env_sim_step(struct esi_env_sim *sim, uint64_t deadline_ns);
/* Calls happen(argument) when the time has come. Not within a step of a thread. */
void esi_env_sim_at(struct esi_env_sim *sim, uint64_t at_ns, void (*happen)(void *argument),
                    void *argument);
/* A number below limit (1 or more), for the scenario: drawn apart from what the world draws. */
uint64_t esi_env_sim_draw(struct esi_env_sim *sim, uint64_t limit);

/* Cuts two hosts off from each other: packets are held; or heals that: they come after all. */
void esi_env_sim_cut(struct esi_env_sim *sim, const struct esi_env *a, const struct esi_env *b,
                     bool is_cut);
/* Resets all connections between two hosts. What is under way is lost. */
void esi_env_sim_reset(struct esi_env_sim *sim, const struct esi_env *a, const struct esi_env *b);
/* Resets all connections of a host, as the death of its process does; it stays usable. */
void esi_env_sim_crash(struct esi_env_sim *sim, const struct esi_env *host);
/* When a connection between two hosts last began or ended, by whomever; 0: never. */
uint64_t esi_env_sim_changed_ns(const struct esi_env_sim *sim, const struct esi_env *a,
                                const struct esi_env *b);
/* How many connections there are between two hosts, open on both sides. */
uint32_t esi_env_sim_connections(const struct esi_env_sim *sim, const struct esi_env *a,
                                 const struct esi_env *b);
/* Sockets of a host that are open. */
uint32_t esi_env_sim_sockets(const struct esi_env_sim *sim, const struct esi_env *host);

/* A line for the trace. */
void esi_env_sim_note(struct esi_env_sim *sim, const char *format, ...) ESI_PRINTF(2, 3);
/* Of all that has happened: the same for the same seed and scenario. */
uint64_t esi_env_sim_digest(const struct esi_env_sim *sim);
/* How much has happened. */
uint64_t esi_env_sim_steps(const struct esi_env_sim *sim);
/* The last lines of the trace, on standard output. */
void esi_env_sim_print_last(const struct esi_env_sim *sim, size_t lines);
