/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One fault after the other, each with its end; those of the link do not overlap, so that it is
 * simple to say since when it has been whole. */
#include "sim_faults.h"

#include "sim_client.h"
#include "sim_events.h"

#include <inttypes.h>

enum { PERIOD_S_MAX = 15 };

static uint64_t draw(struct sim_world *world, uint64_t limit)
{
    return esi_env_sim_draw(world->sim, limit);
}

static uint64_t now_of(const struct sim_world *world)
{
    return esi_env_sim_now_ns(world->sim);
}

static void cut_link(struct sim_world *world, bool is_cut)
{
    esi_env_sim_cut(world->sim, world->servers[SERVER_INNER].env, world->servers[SERVER_OUTER].env,
                    is_cut);
    world->is_link_cut = is_cut;
    world->link_ok_since_ns = now_of(world);
}

static void heal_link(void *argument)
{
    struct sim_world *world = argument;

    if (world->is_link_cut) {
        cut_link(world, false);
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

static void disturb_link(struct sim_world *world)
{
    if (!world->has_gateway || world->is_link_cut) {
        return;
    }
    world->counts.faults++;
    if (draw(world, 2) == 0) {
        esi_env_sim_note(world->sim, "the link is reset");
        esi_env_sim_reset(world->sim, world->servers[SERVER_INNER].env,
                          world->servers[SERVER_OUTER].env);
        world->link_ok_since_ns = now_of(world);
        return;
    }
    cut_link(world, true);
    esi_env_sim_at(world->sim, now_of(world) + draw_length_ns(world), heal_link, world);
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
    const uint64_t kind = draw(world, world->has_gateway ? 2 : 1);

    if (draw(world, 3) == 0) {
        world->counts.faults++;
        world->restarts[kind] = draw(world, 2) == 0 ? RESTART_DEATH : RESTART_STOP;
    }
}

static void go_wrong(void *argument)
{
    struct sim_world *world = argument;

    if (world->phase != PHASE_ACTIVE) {
        return;
    }
    switch (draw(world, 6)) {
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
    heal_link(world);
    heal_client(world);
    world->restarts[SERVER_INNER] = RESTART_NONE;
    world->restarts[SERVER_OUTER] = RESTART_NONE;
}

struct sim_server *sim_faults_next_restart(struct sim_world *world, bool *is_death)
{
    for (int i = 0; i < SERVER_COUNT; i++) {
        if (world->restarts[i] != RESTART_NONE) {
            *is_death = world->restarts[i] == RESTART_DEATH;
            world->restarts[i] = RESTART_NONE;
            return &world->servers[i];
        }
    }
    return NULL;
}
