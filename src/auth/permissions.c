/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each list is a trie over tokens: literal children in a hash map, '*' as a child of its own, '>'
 * as a mark on the node. One walk serves all questions; it differs only in how it follows a
 * wildcard token of the subject asked about:
 *
 *   mode      subject token   follows
 *   LITERAL   any             the child of that name, the '*' child (publish, delivery, deny)
 *   COVER     literal         the same
 *             '*'             only the '*' child: nothing else takes all it matches
 *             '>'             '>' here, or an unbroken chain of '*' ends down to one
 *   OVERLAP   literal         the same as LITERAL
 *             '*'             every child
 *             '>'             anything below
 *
 * The walk holds one frame a level, so its stack is bounded by ESI_PERMISSIONS_TOKENS_MAX, and its
 * work by the size of the trie. COVER looks for one branch that covers; that several branches cover
 * together is seen only in the '*' chain, so it errs on the side of refusing.
 */
#include "auth/permissions.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "proto/subject.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Entries that end at one place of the trie. */
struct terminal {
    bool is_plain;          /* an entry without a queue: plain subscriptions and all queues */
    struct esi_str *queues; /* owned array; the texts are borrowed from the entries */
    size_t queue_count;
};

struct node {
    struct esi_hashmap children; /* token -> struct node, literal tokens only */
    struct node *star;
    struct terminal end;       /* entries that end with this token */
    struct terminal full;      /* entries that go on with '>' */
    struct node *next_created; /* all nodes of the permissions, for freeing without recursion */
};

/* A copy of an entry's text; tokens and queues point into it. */
struct entry_text {
    struct entry_text *next_created;
    char data[];
};

struct esi_permissions {
    atomic_uint_fast32_t reference_count;
    struct node *publish_allow; /* NULL: the list imposes nothing */
    struct node *publish_deny;
    struct node *subscribe_allow;
    struct node *subscribe_deny;
    struct node *nodes;       /* owned */
    struct entry_text *texts; /* owned */
    bool allow_responses;
    int64_t responses_max;
    uint64_t responses_expires_ns;
};

enum mode { LITERAL, COVER, OVERLAP };

struct answer {
    bool is_plain;      /* an entry without a queue was found */
    bool has_queues;    /* an entry with a queue was found, and a queue is asked about */
    bool queue_matches; /* and one of them takes this queue */
};

struct question {
    enum mode mode;
    struct esi_str queue; /* empty: plain */
    bool any_is_enough;   /* a deny list: the first entry decides */
};

struct frame {
    const struct node *node;
    struct esi_subject_cursor rest;
    struct esi_str token;
    size_t child_cursor;
    enum { FRAME_NEW, FRAME_CHILDREN, FRAME_DONE } stage;
};

static bool is_star(struct esi_str token)
{
    return token.len == 1 && token.data[0] == '*';
}

static bool is_full(struct esi_str token)
{
    return token.len == 1 && token.data[0] == '>';
}

/*
 * Wildcards in a queue entry; unlike a subject, a queue name may have empty tokens, which '*' and
 * '>' take as well: else a name like "q..x" would slip through a deny entry for all queues.
 */
static bool queue_matches(struct esi_str pattern, struct esi_str queue)
{
    struct esi_subject_cursor patterns = esi_subject_tokens(pattern);
    struct esi_subject_cursor names = esi_subject_tokens(queue);
    struct esi_str wanted;
    struct esi_str found;

    while (esi_subject_next_token(&patterns, &wanted)) {
        if (!esi_subject_next_token(&names, &found)) {
            return false;
        }
        if (is_full(wanted) && patterns.next == NULL) {
            return true;
        }
        if (!is_star(wanted) && !esi_str_equal(wanted, found)) {
            return false;
        }
    }
    return names.next == NULL;
}

static void look_at(const struct terminal *terminal, const struct question *question,
                    struct answer *answer)
{
    answer->is_plain = answer->is_plain || terminal->is_plain;
    if (question->queue.len == 0 || terminal->queue_count == 0) {
        return;
    }
    answer->has_queues = true;
    for (size_t i = 0; i < terminal->queue_count && !answer->queue_matches; i++) {
        answer->queue_matches = queue_matches(terminal->queues[i], question->queue);
    }
}

static bool is_settled(const struct question *question, const struct answer *answer)
{
    return answer->queue_matches ||
           (answer->is_plain && (question->any_is_enough || question->queue.len == 0));
}

/* '>' is covered by "*", "*.*", ... down to one "*.*.>", since together they take every depth. */
static bool covers_all_depths(const struct node *node)
{
    while (!node->full.is_plain) {
        node = node->star;
        if (node == NULL || !node->end.is_plain) {
            return false;
        }
    }
    return true;
}

/* A '>' at the end of the subject asked about. */
static void look_below(const struct node *node, const struct question *question,
                       struct answer *answer)
{
    if (question->mode == COVER) {
        answer->is_plain = answer->is_plain || covers_all_depths(node);
    } else if (node->star != NULL || node->children.count > 0) {
        /* Some entry lies below; for which queue is not asked, which costs at most a needless check
         * later. */
        answer->is_plain = true;
    }
}

/* First visit of a frame: its marks, and whether it has children to follow. Returns the '*' child
 * to visit, if any. */
static const struct node *enter(struct frame *frame, const struct question *question,
                                struct answer *answer)
{
    const struct node *node = frame->node;

    frame->stage = FRAME_DONE;
    if (!esi_subject_next_token(&frame->rest, &frame->token)) {
        look_at(&node->end, question, answer);
        return NULL;
    }
    look_at(&node->full, question, answer);
    if (question->mode != LITERAL && is_full(frame->token)) {
        look_below(node, question, answer);
        return NULL;
    }
    frame->stage = FRAME_CHILDREN;
    return node->star;
}

/* The next literal child to visit, or NULL when the frame is done. */
static const struct node *next_child(struct frame *frame, const struct question *question)
{
    void *child = NULL;
    struct esi_str key;

    if (frame->stage == FRAME_DONE) {
        return NULL;
    }
    if (question->mode == OVERLAP && is_star(frame->token)) {
        if (!esi_hashmap_next(&frame->node->children, &frame->child_cursor, &key, &child)) {
            child = NULL;
        }
        return child;
    }
    /* No child is named '*' or '>', so in COVER and LITERAL a wildcard token finds only the '*'
     * child. */
    frame->stage = FRAME_DONE;
    return esi_hashmap_find(&frame->node->children, frame->token);
}

/* An empty token matches nothing, so a subject with one meets no entry at all. */
static struct answer ask(const struct node *root, struct esi_str subject,
                         const struct question *question)
{
    struct frame frames[ESI_PERMISSIONS_TOKENS_MAX + 2];
    struct answer answer = {0};
    size_t depth = 1;

    if (esi_subject_has_empty_token(subject)) {
        return answer;
    }
    frames[0] = (struct frame){.node = root, .rest = esi_subject_tokens(subject)};
    while (depth > 0 && !is_settled(question, &answer)) {
        struct frame *frame = &frames[depth - 1];
        const bool is_new = frame->stage == FRAME_NEW;
        const struct node *next =
            is_new ? enter(frame, question, &answer) : next_child(frame, question);
        if (next != NULL) {
            /* A trie has no more levels than its longest entry has tokens. */
            ESI_ASSERT(depth < ESI_COUNT_OF(frames));
            frames[depth++] = (struct frame){.node = next, .rest = frame->rest};
        } else if (!is_new) {
            depth--;
        }
    }
    return answer;
}

static struct node *add_node(struct esi_permissions *permissions)
{
    struct node *node = calloc(1, sizeof *node);

    if (node != NULL) {
        esi_hashmap_init(&node->children);
        node->next_created = permissions->nodes;
        permissions->nodes = node;
    }
    return node;
}

/* The child for a token, made where there is none; NULL when memory is exhausted. */
static struct node *get_child(struct esi_permissions *permissions, struct node *node,
                              struct esi_str token)
{
    if (is_star(token)) {
        if (node->star == NULL) {
            node->star = add_node(permissions);
        }
        return node->star;
    }
    struct node *child = esi_hashmap_find(&node->children, token);
    if (child == NULL) {
        child = add_node(permissions);
        if (child == NULL || esi_hashmap_insert(&node->children, token, child) != ES_OK) {
            return NULL;
        }
    }
    return child;
}

static enum es_err add_queue(struct terminal *terminal, struct esi_str queue)
{
    /* Grows at powers of two; the count says when. */
    if ((terminal->queue_count & (terminal->queue_count - 1)) == 0) {
        const size_t capacity = terminal->queue_count == 0 ? 1 : terminal->queue_count * 2;
        struct esi_str *queues = reallocarray(terminal->queues, capacity, sizeof *queues);
        if (queues == NULL) {
            return ES_NO_MEMORY;
        }
        terminal->queues = queues;
    }
    terminal->queues[terminal->queue_count++] = queue;
    return ES_OK;
}

/* Adds a checked entry; subject and queue live as long as the permissions. */
static enum es_err add_entry(struct esi_permissions *permissions, struct node *root,
                             struct esi_str subject, struct esi_str queue)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(subject);
    struct esi_str token;
    struct node *node = root;
    struct terminal *terminal = &root->end;

    while (esi_subject_next_token(&cursor, &token)) {
        if (is_full(token)) {
            terminal = &node->full;
            break;
        }
        node = get_child(permissions, node, token);
        if (node == NULL) {
            return ES_NO_MEMORY;
        }
        terminal = &node->end;
    }
    if (queue.len > 0) {
        return add_queue(terminal, queue);
    }
    terminal->is_plain = true;
    return ES_OK;
}

static void report(struct es_error *error, struct esi_str entry, const char *what)
{
    struct esi_bytes quoted;

    if (error == NULL) {
        return;
    }
    esi_bytes_init(&quoted, 0);
    const struct esi_str shown = {.data = entry.data, .len = entry.len < 64 ? entry.len : 64};
    esi_subject_quote(shown, &quoted);
    snprintf(error->text, sizeof error->text, "%.*s: %s", (int)quoted.len,
             quoted.data != NULL ? quoted.data : "", what);
    esi_bytes_deinit(&quoted);
}

static struct esi_str trim(struct esi_str text)
{
    while (text.len > 0 && text.data[0] == ' ') {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && text.data[text.len - 1] == ' ') {
        text.len--;
    }
    return text;
}

/* Takes "subject[ queue]" apart and checks both. */
static enum es_err check_entry(struct esi_str entry, bool may_have_queue, struct esi_str *subject,
                               struct esi_str *queue, struct es_error *error)
{
    const struct esi_str text = trim(entry);
    const char *blank = text.len > 0 ? memchr(text.data, ' ', text.len) : NULL;

    *subject = text;
    *queue = (struct esi_str){0};
    if (blank != NULL) {
        subject->len = (size_t)(blank - text.data);
        *queue = trim((struct esi_str){.data = blank, .len = text.len - subject->len});
    }
    if (queue->len > 0 && !may_have_queue) {
        report(error, entry, "a publish entry has no queue");
        return ES_INVALID;
    }
    if (!esi_subject_is_valid(*subject) || esi_subject_has_forbidden_byte(*subject) ||
        esi_subject_has_forbidden_byte(*queue)) {
        report(error, entry,
               "not a valid subject: no empty token, '>' only as the last one, no blank");
        return ES_INVALID;
    }
    if (esi_subject_token_count(*subject) > ESI_PERMISSIONS_TOKENS_MAX) {
        report(error, entry, "more than 64 tokens");
        return ES_TOO_LARGE;
    }
    return ES_OK;
}

static enum es_err add_list(struct esi_permissions *permissions,
                            const struct esi_permissions_list *list, bool may_have_queue,
                            struct node **root, struct es_error *error)
{
    if (list->count == 0 && !list->is_given) {
        return ES_OK;
    }
    *root = add_node(permissions);
    if (*root == NULL) {
        return ES_NO_MEMORY;
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct esi_str entry = list->entries[i];
        struct esi_str subject;
        struct esi_str queue;
        struct entry_text *text = malloc(sizeof *text + entry.len + 1);
        if (text == NULL) {
            return ES_NO_MEMORY;
        }
        text->next_created = permissions->texts;
        permissions->texts = text;
        memcpy(text->data, entry.len > 0 ? entry.data : "", entry.len);
        text->data[entry.len] = '\0';
        enum es_err err = check_entry((struct esi_str){.data = text->data, .len = entry.len},
                                      may_have_queue, &subject, &queue, error);
        if (err == ES_OK) {
            err = add_entry(permissions, *root, subject, queue);
        }
        if (err != ES_OK) {
            return err;
        }
    }
    return ES_OK;
}

static void free_all(struct esi_permissions *permissions)
{
    while (permissions->nodes != NULL) {
        struct node *node = permissions->nodes;
        permissions->nodes = node->next_created;
        esi_hashmap_deinit(&node->children);
        free(node->end.queues);
        free(node->full.queues);
        free(node);
    }
    while (permissions->texts != NULL) {
        struct entry_text *text = permissions->texts;
        permissions->texts = text->next_created;
        free(text);
    }
    free(permissions);
}

enum es_err esi_permissions_new(const struct esi_permissions_spec *spec,
                                struct esi_permissions **permissions, struct es_error *error)
{
    struct esi_permissions *made = calloc(1, sizeof *made);

    if (made == NULL) {
        return ES_NO_MEMORY;
    }
    atomic_init(&made->reference_count, 1);
    made->allow_responses = spec->allow_responses;
    made->responses_max = spec->responses_max;
    made->responses_expires_ns = spec->responses_expires_ns;
    struct esi_permissions_list publish_allow = spec->publish_allow;
    if (spec->allow_responses && publish_allow.count == 0 && spec->publish_deny.count == 0) {
        /* Who is allowed to answer and nothing else was said may do nothing else. */
        publish_allow.is_given = true;
    }
    enum es_err err = add_list(made, &publish_allow, false, &made->publish_allow, error);
    if (err == ES_OK) {
        err = add_list(made, &spec->publish_deny, false, &made->publish_deny, error);
    }
    if (err == ES_OK) {
        err = add_list(made, &spec->subscribe_allow, true, &made->subscribe_allow, error);
    }
    if (err == ES_OK) {
        err = add_list(made, &spec->subscribe_deny, true, &made->subscribe_deny, error);
    }
    if (err != ES_OK) {
        free_all(made);
        return err;
    }
    *permissions = made;
    return ES_OK;
}

struct esi_permissions *esi_permissions_ref(struct esi_permissions *permissions)
{
    if (permissions != NULL) {
        /* order: relaxed; the caller has a reference already, so the object is visible to it and
         * cannot go away. */
        const uint_fast32_t before =
            atomic_fetch_add_explicit(&permissions->reference_count, 1, memory_order_relaxed);
        ESI_ASSERT(before > 0);
    }
    return permissions;
}

void esi_permissions_unref(struct esi_permissions *permissions)
{
    if (permissions == NULL) {
        return;
    }
    /* order: acq_rel; each release pairs with the acquire of the last unref, which frees after all
     * uses. */
    if (atomic_fetch_sub_explicit(&permissions->reference_count, 1, memory_order_acq_rel) == 1) {
        free_all(permissions);
    }
}

/* A deny list: one entry that takes the subject, plain or for this queue, is enough. */
static bool is_denied(const struct node *deny, struct esi_str subject, struct esi_str queue)
{
    const struct question question = {.mode = LITERAL, .queue = queue, .any_is_enough = true};

    if (deny == NULL) {
        return false;
    }
    const struct answer answer = ask(deny, subject, &question);
    return answer.is_plain || answer.queue_matches;
}

bool esi_permissions_may_publish(const struct esi_permissions *permissions, struct esi_str subject)
{
    const struct question question = {.mode = LITERAL, .any_is_enough = true};
    const struct esi_str none = {0};

    if (permissions == NULL) {
        return true;
    }
    if (permissions->publish_allow != NULL &&
        !ask(permissions->publish_allow, subject, &question).is_plain) {
        return false;
    }
    return !is_denied(permissions->publish_deny, subject, none);
}

/*
 * Where entries with queues cover the subject, a queue subscription must match one of them, even if
 * an entry without a queue covers it as well: so nats-server, and it is the stricter reading.
 */
static bool is_subscribe_allowed(const struct node *allow, struct esi_str subject,
                                 struct esi_str queue)
{
    const struct question question = {.mode = COVER, .queue = queue};

    if (allow == NULL) {
        return true;
    }
    const struct answer answer = ask(allow, subject, &question);
    return answer.has_queues ? answer.queue_matches : answer.is_plain;
}

bool esi_permissions_may_subscribe(const struct esi_permissions *permissions,
                                   struct esi_str subject, struct esi_str queue)
{
    if (esi_subject_is_reserved_queue(queue)) {
        return false;
    }
    if (permissions == NULL) {
        return true;
    }
    return is_subscribe_allowed(permissions->subscribe_allow, subject, queue) &&
           !is_denied(permissions->subscribe_deny, subject, queue);
}

bool esi_permissions_needs_delivery_check(const struct esi_permissions *permissions,
                                          struct esi_str subject, struct esi_str queue)
{
    const struct question question = {.mode = OVERLAP, .queue = queue, .any_is_enough = true};

    if (permissions == NULL || permissions->subscribe_deny == NULL) {
        return false;
    }
    const struct answer answer = ask(permissions->subscribe_deny, subject, &question);
    return answer.is_plain || answer.queue_matches;
}

bool esi_permissions_is_delivery_denied(const struct esi_permissions *permissions,
                                        struct esi_str subject, struct esi_str queue)
{
    return permissions != NULL && is_denied(permissions->subscribe_deny, subject, queue);
}

bool esi_permissions_allows_responses(const struct esi_permissions *permissions, int64_t *max,
                                      uint64_t *expires_ns)
{
    if (permissions == NULL || !permissions->allow_responses) {
        return false;
    }
    *max = permissions->responses_max;
    *expires_ns = permissions->responses_expires_ns;
    return true;
}
