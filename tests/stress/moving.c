/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: moving actors from worker to worker at random loses, doubles and reorders nothing, and
 * cause still comes before effect; timers and sockets move along. Method: nodes pass tokens on at
 * random (token_case.h) and wish themselves elsewhere all the time, while visits go round. Each
 * node has a timer and one end of a socket pair, whose other end another node writes to. Everything
 * is counted on both sides and compared at the end.
 */
#include "token_case.h"

#include "base/own.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BYTES_EACH = 60, /* through its socket */
    TICKS_EACH = 20, /* of its timer; more while too few nodes have moved */
    MOVES_MIN = 500
};

enum round_kind { ROUND_BEGIN = 1, ROUND_DONE };

static const struct token_plan moving_plan = {.foreign = 2, .tokens_each = 200, .hops = 50};

struct node {
    struct esi_actor actor; /* first */
    struct passer passer;
    uint64_t last_ns; /* its clock must not go back */
    struct esi_worker *home_seen;
    uint64_t homes; /* moves that it was told of */
    /* timer and socket */
    struct esi_actor_timer timer;
    uint64_t deadline_ns;
    uint32_t ticks;
    struct esi_io io;
    int sock;    /* its end */
    int foreign; /* the end of another node's, which it writes to; all nodes make a ring */
    uint32_t bytes_in;
    uint32_t bytes_out;
};

/* Asks for visits. */
struct rounds {
    struct esi_actor actor; /* first */
    struct esi_visit visit;
    struct esi_msg done;
    bool is_under_way;
    uint32_t met[NODES];
    uint32_t count;
};

static struct esi_runtime *runtime;
static uint32_t worker_total;
static struct rounds *rounds;
static struct node *nodes[NODES];
static _Atomic uint32_t started; /* nodes; a visit meets nobody before */
static _Atomic uint32_t moves;   /* of all nodes */
static sem_t freed;

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

/* Every reaction begins here: it runs at home, and its time does not go back. */
static void check_home(struct node *self)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);

    case_check(esi_actor_home(&self->actor) == esi_worker_current());
    case_check(self->home_seen == esi_worker_current());
    case_check(now_ns >= self->last_ns);
    self->last_ns = now_ns;
}

static void wish_elsewhere(struct node *self)
{
    if (draw_below(&self->passer.sent.random, 3) == 0) {
        esi_actor_move(
            &self->actor,
            esi_runtime_worker(runtime, draw_below(&self->passer.sent.random, worker_total)));
    }
}

static void write_byte(struct node *self)
{
    const char byte = (char)self->bytes_out;

    if (self->bytes_out < BYTES_EACH) {
        self->bytes_out++;
        case_check(write(self->foreign, &byte, 1) == 1);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);

    check_home(self);
    if (!pass_on(&self->passer, msg)) {
        return;
    }
    if (draw_below(&self->passer.sent.random, 8) == 0) {
        write_byte(self);
    }
    wish_elsewhere(self);
}

static void set_timer(struct node *self)
{
    self->deadline_ns =
        esi_actor_now_ns(&self->actor) + draw_below(&self->passer.sent.random, 4000000);
    esi_actor_timer_set(&self->timer, self->deadline_ns);
}

static void start(struct esi_actor *actor)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);

    self->home_seen = esi_worker_current();
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&started, 1, memory_order_relaxed);
    case_check(esi_actor_io_watch(&self->io, self->sock, POLL_READ) == ES_OK);
    set_timer(self);
}

static void moved(struct esi_actor *actor)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);

    case_check(self->home_seen != esi_worker_current());
    self->home_seen = esi_worker_current();
    self->homes++;
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&moves, 1, memory_order_relaxed);
    check_home(self);
}

static void ask_for_round(void)
{
    struct esi_msg *msg = malloc(sizeof *msg);

    case_check(msg != NULL);
    begin_some(1);
    *msg = (struct esi_msg){.kind = ROUND_BEGIN, .free = free_token};
    esi_actor_send(&rounds->actor, msg);
}

/* A busy machine may hold workers back until all tokens have been passed. */
static bool has_moved_enough(void)
{
    /* order: relaxed; a counter. */
    return worker_total == 1 || atomic_load_explicit(&moves, memory_order_relaxed) > MOVES_MIN;
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);

    check_home(self);
    case_check(fired == &self->timer.timer && esi_actor_now_ns(actor) >= self->deadline_ns);
    /* The socket's bytes come to an end also when there are few tokens. */
    write_byte(self);
    write_byte(self);
    write_byte(self);
    /* order: relaxed; whoever has counted itself stands in its worker's list. */
    if (atomic_load_explicit(&started, memory_order_relaxed) < NODES) {
        set_timer(self);
        return;
    }
    if (self->passer.index == 0) {
        ask_for_round();
    }
    if (++self->ticks < TICKS_EACH || !has_moved_enough()) {
        set_timer(self);
    } else {
        end_one();
    }
    wish_elsewhere(self);
}

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);
    char bytes[7];

    check_home(self);
    case_check(io == &self->io && (events & POLL_READ) != 0);
    const ssize_t count = read(self->sock, bytes, sizeof bytes);
    for (ssize_t i = 0; i < count; i++) {
        case_check(bytes[i] == (char)self->bytes_in);
        self->bytes_in++;
        end_one();
    }
    wish_elsewhere(self);
}

static void stop(struct esi_actor *actor)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);

    check_home(self);
    esi_actor_timer_cancel(&self->timer);
    esi_actor_io_unwatch(&self->io);
    esi_actor_finish(actor);
}

static void cut(struct esi_actor *actor)
{
    (void)actor;
    case_fail("no socket was lost", __FILE__, __LINE__);
}

static void free_node(struct esi_actor *actor)
{
    (void)actor; /* looked at by main, and freed there */
    sem_post(&freed);
}

static const struct esi_actor_type node_type = {.name = "node",
                                                .stop_phase = STOP_PEERS,
                                                .may_move = true,
                                                .moved = moved,
                                                .start = start,
                                                .handle = handle,
                                                .ready = ready,
                                                .timer = timer,
                                                .stop = stop,
                                                .cut = cut,
                                                .free = free_node};

/* --- visits: each meets every node once, however they move --- */

static void meet(struct esi_actor *actor, void *argument)
{
    struct rounds *self = argument;

    if (actor->type == &node_type) {
        struct node *node = ESI_CONTAINER_OF(actor, struct node, actor);
        check_home(node);
        self->met[node->passer.index]++;
        /* And from outside its own turn. */
        wish_elsewhere(node);
    }
}

static void begin_round(struct rounds *self)
{
    begin_some(1);
    self->is_under_way = true;
    memset(self->met, 0, sizeof self->met);
    self->done = (struct esi_msg){.kind = ROUND_DONE, .free = keep};
    self->visit = (struct esi_visit){
        .visit = meet, .argument = self, .asker = &self->actor, .done = &self->done};
    esi_runtime_visit(runtime, &self->visit);
}

static void end_round(struct rounds *self)
{
    self->is_under_way = false;
    for (uint32_t i = 0; i < NODES; i++) {
        if (self->met[i] != 1) {
            fprintf(stderr, "node %u was met %u times\n", i, self->met[i]);
        }
        case_check(self->met[i] == 1);
    }
    self->count++;
    end_one();
}

static void handle_rounds(struct esi_actor *actor, struct esi_msg *msg)
{
    struct rounds *self = ESI_CONTAINER_OF(actor, struct rounds, actor);

    if (msg->kind == ROUND_DONE) {
        end_round(self);
    } else if (!self->is_under_way) {
        begin_round(self);
    }
}

static void stop_plain(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static const struct esi_actor_type rounds_type = {.name = "rounds",
                                                  .stop_phase = STOP_PEERS,
                                                  .handle = handle_rounds,
                                                  .stop = stop_plain,
                                                  .free = free_node};

/* --- one run --- */

static void compare(void)
{
    uint64_t homes = 0;

    compare_passers(500);
    for (uint32_t i = 0; i < NODES; i++) {
        const struct node *node = nodes[i];
        homes += node->homes;
        case_check(node->homes == node->actor.stats.moves);
        case_check(node->ticks >= TICKS_EACH && node->bytes_in == BYTES_EACH);
    }
    case_check(worker_total == 1 ? homes == 0 : homes > MOVES_MIN);
    case_check(rounds->count > 1);
}

static void *new_part(size_t size)
{
    void *part = aligned_alloc(ESI_CACHE_LINE, size);

    case_check(part != NULL);
    return memset(part, 0, size);
}

static void new_node(uint32_t index)
{
    struct node *node = new_part(sizeof *node);

    nodes[index] = node;
    init_passer(&node->passer, index, &node->actor);
    esi_actor_init(&node->actor, &node_type, runtime, esi_runtime_place(runtime));
    esi_actor_timer_init(&node->actor, &node->timer);
    esi_actor_io_init(&node->actor, &node->io);
}

static void start_nodes(void)
{
    for (uint32_t i = 0; i < NODES; i++) {
        new_node(i);
    }
    for (uint32_t i = 0; i < NODES; i++) {
        int pair[2];
        case_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
        nodes[i]->sock = pair[0];
        nodes[(i + 1) % NODES]->foreign = pair[1];
    }
    rounds = new_part(sizeof *rounds);
    esi_actor_init(&rounds->actor, &rounds_type, runtime, esi_runtime_worker(runtime, 0));
    /* order: relaxed; no node has begun. */
    atomic_store_explicit(&started, 0, memory_order_relaxed);
    /* order: relaxed; likewise. */
    atomic_store_explicit(&moves, 0, memory_order_relaxed);
    begin_passing(&moving_plan, NODES * (1 + BYTES_EACH));
    for (uint32_t i = 0; i < NODES; i++) {
        esi_actor_start(&nodes[i]->actor);
    }
    esi_actor_start(&rounds->actor);
}

static void run(uint32_t worker_count)
{
    /* Short turns: moves happen between turns. */
    const struct esi_runtime_options options = {.env = esi_env_linux(),
                                                .worker_count = worker_count,
                                                .work_bound = 4,
                                                .placement = PLACEMENT_SPREAD};

    worker_total = worker_count;
    case_check(esi_runtime_new(&options, &runtime) == ES_OK);
    sem_init(&freed, 0, 0);
    start_nodes();
    pass_all();
    stop_runtime(runtime);
    await_count(&freed, NODES + 1);
    compare();
    for (uint32_t i = 0; i < NODES; i++) {
        close(nodes[i]->sock);
        close(nodes[i]->foreign);
        free(nodes[i]);
    }
    free(rounds);
    sem_destroy(&freed);
}

int main(void)
{
    static const uint32_t worker_counts[] = {1, 2, 3, 8};

    for (size_t i = 0; i < ESI_COUNT_OF(worker_counts); i++) {
        run(worker_counts[i]);
    }
    return 0;
}
