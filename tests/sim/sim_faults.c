/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One fault after the other, each with its end; those of the link do not overlap, so that it is
 * simple to say since when it has been whole. */
#include "sim_faults.h"

#include "sim_client.h"
#include "sim_events.h"
#include "sim_tokens.h"

#include <inttypes.h>

enum { PERIOD_S_MAX = 15 };
static const uint64_t LEARNED_CUT_NS_MAX = 10 * SIM_S;

static uint64_t draw(struct sim_world *world, uint64_t limit)
{
    return esi_env_sim_draw(world->sim, limit);
}

static uint64_t now_of(const struct sim_world *world)
{
    return esi_env_sim_now_ns(world->sim);
}

static void cut_link(struct sim_link *link, bool is_cut)
{
    struct sim_world *world = link->world;

    esi_env_sim_cut(world->sim, world->servers[link->a].env, world->servers[link->b].env, is_cut);
    link->is_cut = is_cut;
    link->ok_since_ns = now_of(world);
}

static void heal_link(void *argument)
{
    struct sim_link *link = argument;

    if (link->is_cut) {
        cut_link(link, false);
    }
}

static void heal_client(void *argument)
{
    struct sim_world *world = argument;

    if (world->cut_client < world->client_count) {
        sim_client_cut(world->clients[world->cut_client], false);
        world->cut_client = SIM_CLIENTS_MAX;
    }
}

/* Short, or longer than any deadline. */
static uint64_t draw_length_ns(struct sim_world *world)
{
    return draw(world, 3) == 0 ? draw(world, 60 * SIM_S) : draw(world, 2 * SIM_S);
}

/* A cluster that was only learned of is forgotten after five rounds of dialling, of 15 s at least:
 * who cuts it off for longer cannot ask for the link to come back. */
static uint64_t draw_cut_ns(struct sim_world *world, const struct sim_link *link)
{
    const uint64_t length_ns = draw_length_ns(world);
    const bool is_configured =
        world->servers[link->a].knows[link->b] || world->servers[link->b].knows[link->a];

    return is_configured || length_ns < LEARNED_CUT_NS_MAX ? length_ns : LEARNED_CUT_NS_MAX;
}

static void disturb_link(struct sim_world *world)
{
    if (world->server_count == 1) {
        return;
    }
    const uint32_t a = (uint32_t)draw(world, world->server_count);
    const uint32_t b =
        (a + 1 + (uint32_t)draw(world, world->server_count - 1)) % world->server_count;
    struct sim_link *link = sim_world_link(world, a, b);
    if (link->is_cut) {
        return;
    }
    world->counts.faults++;
    if (draw(world, 2) == 0) {
        esi_env_sim_note(world->sim, "the link of servers %" PRIu32 " and %" PRIu32 " is reset", a,
                         b);
        esi_env_sim_reset(world->sim, world->servers[a].env, world->servers[b].env);
        link->ok_since_ns = now_of(world);
        return;
    }
    cut_link(link, true);
    esi_env_sim_at(world->sim, now_of(world) + draw_cut_ns(world, link), heal_link, link);
}

static void disturb_client(struct sim_world *world)
{
    const uint32_t index = (uint32_t)draw(world, world->client_count);

    world->counts.faults++;
    if (draw(world, 2) == 0) {
        sim_client_reset(world->clients[index]);
    } else if (world->cut_client == SIM_CLIENTS_MAX) {
        world->cut_client = index;
        sim_client_cut(world->clients[index], true);
        esi_env_sim_at(world->sim, now_of(world) + draw_length_ns(world), heal_client, world);
    }
}

static void disturb_server(struct sim_world *world)
{
    const uint64_t index = draw(world, world->server_count);

    if (draw(world, 3) == 0) {
        world->counts.faults++;
        world->restarts[index] = draw(world, 2) == 0 ? RESTART_DEATH : RESTART_STOP;
    }
}

static void go_wrong(void *argument)
{
    struct sim_world *world = argument;

    if (world->phase != PHASE_ACTIVE) {
        return;
    }
    switch (draw(world, 7)) {
    case 0:
    case 1:
        disturb_link(world);
        break;
    case 2:
    case 3:
        disturb_client(world);
        break;
    case 4:
        if (world->events != NULL) {
            world->counts.faults++;
            sim_events_disturb(world->events);
        }
        break;
    case 5:
        if (world->tokens != NULL) {
            world->counts.faults++;
            sim_tokens_change(world->tokens);
        }
        break;
    default:
        disturb_server(world);
        break;
    }
    esi_env_sim_at(world->sim, now_of(world) + draw(world, world->fault_period_ns), go_wrong,
                   world);
}

void sim_faults_start(struct sim_world *world)
{
    world->cut_client = SIM_CLIENTS_MAX;
    if (draw(world, 3) == 0) {
        return; /* a world in which nothing goes wrong */
    }
    world->fault_period_ns = SIM_S + draw(world, PERIOD_S_MAX * 2 * SIM_S);
    esi_env_sim_at(world->sim, now_of(world) + draw(world, world->fault_period_ns), go_wrong,
                   world);
}

void sim_faults_heal(struct sim_world *world)
{
    for (uint32_t a = 0; a < world->server_count; a++) {
        for (uint32_t b = a + 1; b < world->server_count; b++) {
            heal_link(&world->links[a][b]);
        }
        world->restarts[a] = RESTART_NONE;
    }
    heal_client(world);
}

struct sim_server *sim_faults_next_restart(struct sim_world *world, bool *is_death)
{
    for (uint32_t i = 0; i < world->server_count; i++) {
        if (world->restarts[i] != RESTART_NONE) {
            *is_death = world->restarts[i] == RESTART_DEATH;
            world->restarts[i] = RESTART_NONE;
            return &world->servers[i];
        }
    }
    return NULL;
}
