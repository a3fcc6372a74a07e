/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each look walks the page anew from its begin: pages of a world are small, and nothing is kept. */
#include "sim_page.h"

#include "base/num.h"
#include "base/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CIDS_MAX = 1024, NAME_BYTES = 64, STATUS_OK = 200, STATUS_REFUSED = 503 };

/* --- one value --- */

/* One with the name, which ends at a dot or at the text's end. */
static bool find_field(struct esi_str object, const char *name, size_t len,
                       struct esi_json_value *value)
{
    struct esi_json_fields fields;
    struct esi_json_field field;

    if (esi_json_fields_open(object, &fields) != ES_OK) {
        return false;
    }
    while (esi_json_fields_next(&fields, &field)) {
        if (strlen(field.name) == len && memcmp(field.name, name, len) == 0) {
            *value = field.value;
            return true;
        }
    }
    return false;
}

bool sim_page_find(struct esi_str page, const char *path, struct esi_json_value *value)
{
    struct esi_json_value found = {.type = JSON_FIELD_OBJECT, .raw = page};

    while (*path != '\0') {
        const size_t len = strcspn(path, ".");
        if (found.type != JSON_FIELD_OBJECT || !find_field(found.raw, path, len, &found)) {
            return false;
        }
        path += len + (path[len] == '.' ? 1 : 0);
    }
    *value = found;
    return true;
}

uint64_t sim_page_number(const struct sim_world *world, struct esi_str page, const char *path)
{
    struct esi_json_value value;
    int64_t number = -1;

    sim_check(world, sim_page_find(page, path, &value), "a page has no %s", path);
    sim_check(world, esi_json_fields_read_i64(&value, &number) == ES_OK && number >= 0,
              "%s is %.*s", path, ESI_STR_ARG(value.raw));
    return (uint64_t)number;
}

/* The sum of all numbers of an object. */
static uint64_t sum_fields(const struct sim_world *world, struct esi_str page, const char *path)
{
    struct esi_json_value object;
    struct esi_json_fields fields;
    struct esi_json_field field;
    uint64_t sum = 0;

    sim_check(world,
              sim_page_find(page, path, &object) &&
                  esi_json_fields_open(object.raw, &fields) == ES_OK,
              "a page has no %s", path);
    while (esi_json_fields_next(&fields, &field)) {
        int64_t number = 0;
        sim_check(world, esi_json_fields_read_i64(&field.value, &number) == ES_OK, "%s.%s is %.*s",
                  path, field.name, ESI_STR_ARG(field.value.raw));
        sum += (uint64_t)number;
    }
    return sum;
}

static struct esi_json_fields items_of(const struct sim_world *world, struct esi_str page,
                                       const char *path)
{
    struct esi_json_value array;
    struct esi_json_fields items;

    sim_check(world,
              sim_page_find(page, path, &array) && esi_json_fields_items(&array, &items) == ES_OK,
              "a page has no list %s", path);
    return items;
}

static uint64_t count_items(const struct sim_world *world, struct esi_str page, const char *path)
{
    struct esi_json_fields items = items_of(world, page, path);
    struct esi_json_value item;
    uint64_t count = 0;

    while (esi_json_fields_next_item(&items, &item)) {
        count++;
    }
    return count;
}

uint64_t sim_page_sum(const struct sim_world *world, struct esi_str page, const char *list,
                      const char *name)
{
    struct esi_json_fields items = items_of(world, page, list);
    struct esi_json_value item;
    uint64_t sum = 0;

    while (esi_json_fields_next_item(&items, &item)) {
        sum += sim_page_number(world, item.raw, name);
    }
    return sum;
}

/* --- the pages --- */

static void check_connz(const struct sim_world *world, struct esi_str page)
{
    const uint64_t shown = sim_page_number(world, page, "num_connections");
    const uint64_t total = sim_page_number(world, page, "total");
    const uint64_t offset = sim_page_number(world, page, "offset");
    struct esi_json_fields items = items_of(world, page, "connections");
    struct esi_json_value item;
    uint64_t cids[CIDS_MAX];
    uint64_t count = 0;

    while (count < CIDS_MAX && esi_json_fields_next_item(&items, &item)) {
        const uint64_t cid = sim_page_number(world, item.raw, "cid");
        for (uint64_t i = 0; i < count; i++) {
            sim_check(world, cids[i] != cid, "/connz has connection %" PRIu64 " twice", cid);
        }
        cids[count++] = cid;
    }
    sim_check(world, count == shown, "/connz says %" PRIu64 " and shows %" PRIu64, shown, count);
    sim_check(world, count <= sim_page_number(world, page, "limit"), "/connz shows %" PRIu64,
              count);
    sim_check(world, shown == 0 || offset + shown <= total,
              "/connz: %" PRIu64 " from %" PRIu64 " of %" PRIu64, shown, offset, total);
}

static void check_varz(const struct sim_world *world, struct esi_str page)
{
    static const char *const classes[] = {"transit", "lasting", "input", "auxiliary"};
    uint64_t leased = 0;
    char path[NAME_BYTES];

    for (size_t i = 0; i < ESI_COUNT_OF(classes); i++) {
        snprintf(path, sizeof path, "memory.%s.leased", classes[i]);
        leased += sim_page_number(world, page, path);
    }
    const uint64_t owned = sum_fields(world, page, "memory.owners");
    sim_check(world, owned <= leased,
              "/varz: owners have %" PRIu64 " bytes, classes %" PRIu64 " for them", owned, leased);
    const uint64_t slow = sim_page_number(world, page, "slow_consumers");
    sim_check(world, sum_fields(world, page, "slow_consumer_stats") == slow,
              "/varz: %" PRIu64 " slow consumers", slow);
    sim_check(world, sim_page_number(world, page, "memory.slow_consumers") <= slow,
              "/varz: more slow for memory than slow");
    sim_check(world,
              sim_page_number(world, page, "connections") <=
                  sim_page_number(world, page, "total_connections"),
              "/varz: more connections than there ever were");
}

static void check_eventz(const struct sim_world *world, struct esi_str page)
{
    struct esi_json_value queue;

    if (!sim_page_find(page, "events.queue", &queue)) {
        return;
    }
    const uint64_t accepted = sim_page_number(world, queue.raw, "accepted");
    const uint64_t finished = sim_page_number(world, queue.raw, "finished");
    const uint64_t unrouted = sim_page_number(world, queue.raw, "unrouted");
    const uint64_t events = sim_page_number(world, queue.raw, "events");
    sim_check(world, accepted == finished + events,
              "/eventz: %" PRIu64 " accepted, %" PRIu64 " finished, %" PRIu64 " queued", accepted,
              finished, events);
    const uint64_t received = sum_fields(world, queue.raw, "received");
    const uint64_t refused = sum_fields(world, queue.raw, "refused");
    const uint64_t held = sim_page_number(world, queue.raw, "held");
    sim_check(world, received == accepted + unrouted + refused + held,
              "/eventz: %" PRIu64 " received, %" PRIu64 " accepted, %" PRIu64 " unrouted, %" PRIu64
              " refused, %" PRIu64 " held",
              received, accepted, unrouted, refused, held);
}

static void check_subsz(const struct sim_world *world, struct esi_str page)
{
    const uint64_t count = sim_page_number(world, page, "num_subscriptions");
    const uint64_t added = sim_page_number(world, page, "num_inserts");
    const uint64_t removed = sim_page_number(world, page, "num_removes");

    sim_check(world, added == removed + count,
              "/subsz: %" PRIu64 " added, %" PRIu64 " removed, %" PRIu64 " there", added, removed,
              count);
}

static void check_gatewayz(const struct sim_world *world, struct esi_str page)
{
    struct esi_json_value remotes;

    if (sim_page_find(page, "remotes", &remotes)) {
        const uint64_t count = count_items(world, page, "remotes");
        sim_check(world, count < world->server_count, "/gatewayz: %" PRIu64 " remotes", count);
    }
}

static void check_actorz(const struct sim_world *world, struct esi_str page)
{
    const uint64_t come = sim_page_sum(world, page, "workers", "moves_in");
    const uint64_t gone = sim_page_sum(world, page, "workers", "moves_out");

    sim_check(world, come <= gone, "/actorz: %" PRIu64 " moves in, %" PRIu64 " out", come, gone);
}

/* Lines that say what a family is, then its samples; and an end. */
static void check_metrics(const struct sim_world *world, struct esi_str page)
{
    static const char end[] = "# EOF\n";

    sim_check(world,
              page.len >= sizeof end - 1 &&
                  memcmp(page.data + page.len - (sizeof end - 1), end, sizeof end - 1) == 0,
              "/metrics has no end");
    for (size_t at = 0; at < page.len;) {
        const char *start = page.data + at;
        const char *stop = memchr(start, '\n', page.len - at);
        const size_t len = (size_t)(stop - start);
        const char *space = memrchr(start, ' ', len);
        sim_check(world,
                  start[0] == '#' ||
                      (space != NULL && space + 1 < stop &&
                       strspn(space + 1, "+-.0123456789eInf") == (size_t)(stop - space - 1)),
                  "/metrics: %.*s", (int)len, start);
        at += len + 1;
    }
}

static void check_body(const struct sim_world *world, const char *path, struct esi_str page)
{
    static const struct {
        const char *path;
        void (*check)(const struct sim_world *world, struct esi_str page);
    } checks[] = {{"/connz", check_connz},       {"/varz", check_varz},   {"/eventz", check_eventz},
                  {"/gatewayz", check_gatewayz}, {"/subsz", check_subsz}, {"/actorz", check_actorz},
                  {"/metrics", check_metrics}};
    struct esi_json_fields fields;

    if (strcmp(path, "/metrics") != 0) {
        sim_check(world, esi_json_fields_open(page, &fields) == ES_OK, "%s does not parse: %.*s",
                  path, ESI_STR_ARG(page));
    }
    for (size_t i = 0; i < ESI_COUNT_OF(checks); i++) {
        const size_t len = strlen(checks[i].path);
        if (strncmp(path, checks[i].path, len) == 0 && (path[len] == '\0' || path[len] == '?')) {
            checks[i].check(world, page);
        }
    }
}

struct esi_str sim_page_check(const struct sim_world *world, const struct sim_server *server,
                              const char *path, struct esi_str answer)
{
    static const char length_name[] = "\r\nContent-Length: ";
    const char *blank = memmem(answer.data, answer.len, "\r\n\r\n", 4);
    uint64_t status = 0;
    uint64_t length = 0;

    sim_check(world,
              blank != NULL && esi_str_starts_with(answer, ESI_STR("HTTP/1.1 ")) &&
                  esi_num_parse(answer.data + 9, 3, 3, &status),
              "server %" PRIu32 " answers %s by '%.*s'", server->index, path, ESI_STR_ARG(answer));
    const size_t head = (size_t)(blank - answer.data) + 4;
    const char *at = memmem(answer.data, head, length_name, sizeof length_name - 1);
    sim_check(world, at != NULL, "%s has no length", path);
    at += sizeof length_name - 1;
    sim_check(world,
              esi_num_parse(at, strcspn(at, "\r"), 10, &length) && answer.len - head == length,
              "%s has %zu bytes and says %" PRIu64, path, answer.len - head, length);
    const bool is_health = strcmp(path, "/healthz") == 0;
    if (status == STATUS_REFUSED && !is_health) {
        sim_check(world, !server->is_up || server->has_little_memory, "%s is refused: %.*s", path,
                  (int)length, answer.data + head);
        return ESI_STR("");
    }
    sim_check(world, status == STATUS_OK || (is_health && status == STATUS_REFUSED),
              "%s has status %" PRIu64 ": %.*s", path, status, (int)length, answer.data + head);
    const struct esi_str body = {.data = answer.data + head, .len = (size_t)length};
    check_body(world, path, body);
    return body;
}
