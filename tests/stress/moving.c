/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: moving actors from worker to worker at random loses, doubles and reorders nothing, and
 * cause still comes before effect; timers and sockets move along. Method: nodes pass tokens on at
 * random and wish themselves elsewhere all the time, while visits go round; each pair of sender and
 * receiver numbers its messages. Now and then a node tells a second one something, and then a third
 * one, which tells the second about it. Each node has a timer and one end of a socket pair, whose
 * other end another node writes to. Everything is counted on both sides and compared at the end.
 */
#include "runtime_case.h"

#include "base/own.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    NODES = 24,
    FOREIGN = 2, /* threads that are no workers */
    SENDERS = NODES + FOREIGN,
    TOKENS_EACH = 200,
    HOPS = 50,
    BYTES_EACH = 60, /* through its socket */
    TICKS_EACH = 20  /* of its timer */
};

enum kind { TOKEN, CAUSE, CARRY, EFFECT };
enum round_kind { ROUND_BEGIN = 1, ROUND_DONE };

struct token {
    struct esi_msg msg; /* first */
    uint32_t sender;
    uint32_t hops;
    uint64_t number; /* of sender and receiver */
    uint32_t about;  /* CARRY: whom to tell; EFFECT: whose cause */
    uint64_t cause;
};

/* What a sender has sent to each node. */
struct sent {
    uint64_t numbers[NODES];
    uint64_t causes[NODES];
    uint64_t random;
};

struct node {
    struct esi_actor actor; /* first */
    uint32_t index;
    struct sent sent;
    uint64_t next[SENDERS];        /* the number expected from each */
    uint64_t causes_seen[SENDERS]; /* the newest cause of each */
    uint64_t tokens;
    uint64_t effects;
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
static struct sent foreign_sent[FOREIGN];
static _Atomic uint64_t under_way; /* messages, ticks and bytes */
static _Atomic uint32_t started;   /* nodes; a visit meets nobody before */
static sem_t done;
static sem_t freed;

static void end_one(void)
{
    /* order: acq_rel; the last one sees all that the others did. */
    if (atomic_fetch_sub_explicit(&under_way, 1, memory_order_acq_rel) == 1) {
        sem_post(&done);
    }
}

static void begin_some(uint64_t count)
{
    /* order: relaxed; the count is above zero as long as who begins is under way. */
    atomic_fetch_add_explicit(&under_way, count, memory_order_relaxed);
}

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void free_token(struct esi_msg *msg)
{
    free(msg);
    end_one();
}

static void send_token(struct sent *sent, uint32_t sender, uint32_t receiver, struct token token)
{
    struct token *copy = malloc(sizeof *copy);

    case_check(copy != NULL);
    begin_some(1);
    *copy = token;
    copy->msg.free = free_token;
    copy->sender = sender;
    copy->number = sent->numbers[receiver]++;
    esi_actor_send(&nodes[receiver]->actor, &copy->msg);
}

/* Tells `second` a cause, and then `third`, which will tell `second` the effect. */
static void cause_and_effect(struct sent *sent, uint32_t sender)
{
    const uint32_t second = draw_below(&sent->random, NODES);
    const uint32_t third = draw_below(&sent->random, NODES);
    const uint64_t cause = ++sent->causes[second];

    send_token(sent, sender, second, (struct token){.msg = {.kind = CAUSE}, .cause = cause});
    send_token(sent, sender, third,
               (struct token){.msg = {.kind = CARRY}, .about = second, .cause = cause});
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
    if (draw_below(&self->sent.random, 3) == 0) {
        esi_actor_move(&self->actor,
                       esi_runtime_worker(runtime, draw_below(&self->sent.random, worker_total)));
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

static void on_token(struct node *self, const struct token *token)
{
    self->tokens++;
    if (token->hops > 0) {
        send_token(&self->sent, self->index, draw_below(&self->sent.random, NODES),
                   (struct token){.msg = {.kind = TOKEN}, .hops = token->hops - 1});
    }
    if (draw_below(&self->sent.random, 4) == 0) {
        cause_and_effect(&self->sent, self->index);
    }
    if (draw_below(&self->sent.random, 8) == 0) {
        write_byte(self);
    }
    wish_elsewhere(self);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);
    const struct token *token = (const struct token *)(const void *)msg;

    check_home(self);
    case_check(token->number == self->next[token->sender]);
    self->next[token->sender]++;
    switch ((enum kind)msg->kind) {
    case TOKEN:
        on_token(self, token);
        break;
    case CAUSE:
        case_check(token->cause == self->causes_seen[token->sender] + 1);
        self->causes_seen[token->sender] = token->cause;
        break;
    case CARRY:
        send_token(
            &self->sent, self->index, token->about,
            (struct token){.msg = {.kind = EFFECT}, .about = token->sender, .cause = token->cause});
        break;
    case EFFECT:
        case_check(token->cause <= self->causes_seen[token->about]);
        self->effects++;
        break;
    }
}

static void set_timer(struct node *self)
{
    self->deadline_ns = esi_actor_now_ns(&self->actor) + draw_below(&self->sent.random, 4000000);
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
    if (self->index == 0) {
        ask_for_round();
    }
    if (++self->ticks < TICKS_EACH) {
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
        self->met[node->index]++;
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

static void *inject(void *argument)
{
    struct sent *sent = argument;
    const uint32_t sender = NODES + (uint32_t)(sent - foreign_sent);

    for (uint32_t i = 0; i < TOKENS_EACH; i++) {
        send_token(sent, sender, draw_below(&sent->random, NODES),
                   (struct token){.msg = {.kind = TOKEN}, .hops = HOPS});
        if (i % 3 == 0) {
            cause_and_effect(sent, sender);
        }
    }
    return NULL;
}

static void compare(void)
{
    uint64_t tokens = 0;
    uint64_t effects = 0;
    uint64_t causes = 0;
    uint64_t moves = 0;

    for (uint32_t i = 0; i < NODES; i++) {
        const struct node *node = nodes[i];
        tokens += node->tokens;
        effects += node->effects;
        moves += node->homes;
        case_check(node->homes == node->actor.stats.moves);
        case_check(node->ticks == TICKS_EACH && node->bytes_in == BYTES_EACH);
        for (uint32_t sender = 0; sender < SENDERS; sender++) {
            const struct sent *sent =
                sender < NODES ? &nodes[sender]->sent : &foreign_sent[sender - NODES];
            case_check(node->next[sender] == sent->numbers[i]);
            case_check(node->causes_seen[sender] == sent->causes[i]);
            causes += sent->causes[i];
        }
    }
    case_check(tokens == (uint64_t)FOREIGN * TOKENS_EACH * (HOPS + 1));
    case_check(effects == causes && effects > 500);
    case_check(worker_total == 1 ? moves == 0 : moves > 500);
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
    node->index = index;
    node->sent.random = index + 1;
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
    /* Held up by one more, so that it does not reach zero before all have begun. */
    /* order: relaxed; no node has begun. */
    atomic_store_explicit(&started, 0, memory_order_relaxed);
    /* order: relaxed; no other thread knows of it yet. */
    atomic_store_explicit(&under_way, 1 + NODES * (1 + BYTES_EACH), memory_order_relaxed);
    for (uint32_t i = 0; i < NODES; i++) {
        esi_actor_start(&nodes[i]->actor);
    }
    esi_actor_start(&rounds->actor);
}

static void await_end(void)
{
    pthread_t threads[FOREIGN];

    for (uint32_t i = 0; i < FOREIGN; i++) {
        memset(&foreign_sent[i], 0, sizeof foreign_sent[i]);
        foreign_sent[i].random = 1000 + i;
        case_check(pthread_create(&threads[i], NULL, inject, &foreign_sent[i]) == 0);
    }
    for (uint32_t i = 0; i < FOREIGN; i++) {
        pthread_join(threads[i], NULL);
    }
    end_one();
    await(&done);
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
    sem_init(&done, 0, 0);
    sem_init(&freed, 0, 0);
    start_nodes();
    await_end();
    stop_runtime(runtime);
    await_count(&freed, NODES + 1);
    compare();
    for (uint32_t i = 0; i < NODES; i++) {
        close(nodes[i]->sock);
        close(nodes[i]->foreign);
        free(nodes[i]);
    }
    free(rounds);
    sem_destroy(&done);
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
