/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Publishes events, or watches subjects, through the C client of NATS: for scripts/run,
 * scripts/demo-publish and tests, which want a client that is not ours.
 *
 * usage: event_client publish --server URL [OPTION...]             reads lines "TYPE BODY"
 *        event_client watch --server URL [OPTION...] SUBJECT...    until it is ended
 *   --ca FILE --cert FILE --key FILE   TLS; the server's certificate must name "localhost"
 *   --token-file FILE                  the token is its first line
 *   --name NAME                        of the connection
 *   --timeout MS                       for connecting and for each answer (default 5000)
 *
 * publish prints "connected", then a line an event: "TYPE answer TEXT" or "TYPE error TEXT". Exit
 * status: 0 when every answer said "success":true; 1 otherwise; 2 usage. watch prints "watching"
 * once all subscriptions are in force, then "SUBJECT PAYLOAD" a message. What comes from outside is
 * printed with all but plain ASCII turned into dots: it must not steer a terminal.
 */
#include <nats/nats.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000, TOKEN_MAX = 4096, SUBJECT_MAX = 512, WATCHES_MAX = 16, USAGE = 2 };

struct settings {
    const char *server, *ca, *cert, *key, *token_file, *name; /* NULL: not given */
    int64_t timeout_ms;
    char token[TOKEN_MAX];
};

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "event_client: %s: %s\n", what, why);
    return 1;
}

static void print_plain(const char *text, int len)
{
    for (int i = 0; i < len; i++) {
        putchar(text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '.');
    }
}

/* The longer text behind a status, where the client has one. */
static const char *reason_of(natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);

    /* The client puts its own place before the text: "(conn.c:1905): Authorization Violation". */
    if (text != NULL && text[0] == '(' && strstr(text, "): ") != NULL) {
        text = strstr(text, "): ") + 3;
    }
    return last == status && text != NULL && text[0] != '\0' ? text : natsStatus_GetText(status);
}

static bool read_token(struct settings *settings)
{
    FILE *file = fopen(settings->token_file, "r");
    const bool is_read =
        file != NULL && fgets(settings->token, sizeof settings->token, file) != NULL;

    if (file != NULL) {
        fclose(file);
    }
    settings->token[strcspn(settings->token, "\n")] = '\0';
    return is_read;
}

static natsStatus set_options(const struct settings *settings, natsOptions *options)
{
    natsStatus status = natsOptions_SetURL(options, settings->server);

    if (status == NATS_OK && settings->ca != NULL) {
        status = natsOptions_LoadCATrustedCertificates(options, settings->ca);
    }
    if (status == NATS_OK && settings->ca != NULL) {
        status = natsOptions_SetExpectedHostname(options, "localhost");
    }
    if (status == NATS_OK && settings->cert != NULL) {
        status = natsOptions_LoadCertificatesChain(options, settings->cert, settings->key);
    }
    if (status == NATS_OK && settings->token[0] != '\0') {
        status = natsOptions_SetToken(options, settings->token);
    }
    if (status == NATS_OK && settings->name != NULL) {
        status = natsOptions_SetName(options, settings->name);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetTimeout(options, settings->timeout_ms);
    }
    if (status == NATS_OK) {
        /* Whoever started us shall see at once that the server is gone. */
        status = natsOptions_SetAllowReconnect(options, false);
    }
    return status;
}

static natsStatus open_connection(const struct settings *settings, natsConnection **out)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);

    if (status == NATS_OK) {
        status = set_options(settings, options);
    }
    if (status == NATS_OK) {
        status = natsConnection_Connect(out, options);
    }
    natsOptions_Destroy(options);
    return status;
}

/* One request; true when the event was accepted. */
static bool publish(natsConnection *nc, const struct settings *settings, const char *type,
                    const char *body)
{
    char subject[SUBJECT_MAX];
    natsMsg *msg = NULL;
    bool is_accepted = false;

    snprintf(subject, sizeof subject, "event.%s", type);
    natsStatus status = natsConnection_RequestString(&msg, nc, subject, body, settings->timeout_ms);
    print_plain(type, (int)strlen(type));
    if (status == NATS_OK) {
        fputs(" answer ", stdout);
        print_plain(natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
        is_accepted = strstr(natsMsg_GetData(msg), "\"success\":true") != NULL;
    } else {
        printf(" error %s", natsStatus_GetText(status));
    }
    putchar('\n');
    fflush(stdout);
    natsMsg_Destroy(msg);
    return is_accepted;
}

static int publish_lines(natsConnection *nc, const struct settings *settings)
{
    char *line = NULL;
    size_t capacity = 0;
    bool is_good = true;

    printf("connected\n");
    fflush(stdout);
    while (getline(&line, &capacity, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *body = strchr(line, ' ');
        if (body != NULL) {
            *body++ = '\0';
        }
        is_good = publish(nc, settings, line, body != NULL ? body : "") && is_good;
    }
    free(line);
    return is_good ? 0 : 1;
}

static void print_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)nc;
    (void)sub;
    (void)closure;
    /* One lock around the line: each subscription has a thread of its own. */
    flockfile(stdout);
    print_plain(natsMsg_GetSubject(msg), (int)strlen(natsMsg_GetSubject(msg)));
    putchar(' ');
    print_plain(natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
    putchar('\n');
    fflush(stdout);
    funlockfile(stdout);
    natsMsg_Destroy(msg);
}

static int watch(natsConnection *nc, const struct settings *settings, char **subjects, int count)
{
    natsSubscription *subs[WATCHES_MAX] = {NULL};
    natsStatus status = count > WATCHES_MAX ? NATS_INVALID_ARG : NATS_OK;

    for (int i = 0; status == NATS_OK && i < count; i++) {
        status = natsConnection_Subscribe(&subs[i], nc, subjects[i], print_message, NULL);
    }
    if (status == NATS_OK) {
        status = natsConnection_FlushTimeout(nc, settings->timeout_ms);
    }
    if (status != NATS_OK) {
        return complain("watch", reason_of(status));
    }
    printf("watching\n");
    fflush(stdout);
    while (!natsConnection_IsClosed(nc)) {
        nats_Sleep(100);
    }
    return complain("watch", "the connection has ended");
}

static const char **find_option(struct settings *settings, const char *name)
{
    const struct {
        const char *name, **value;
    } options[] = {{"--server", &settings->server},
                   {"--ca", &settings->ca},
                   {"--cert", &settings->cert},
                   {"--key", &settings->key},
                   {"--token-file", &settings->token_file},
                   {"--name", &settings->name}};

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return options[i].value;
        }
    }
    return NULL;
}

/* Returns the index of the first argument behind the options, or 0 on wrong usage. */
static int read_options(int argc, char **argv, struct settings *settings)
{
    int i = 2;

    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const char **value = find_option(settings, argv[i]);
        if (strcmp(argv[i], "--timeout") == 0) {
            settings->timeout_ms = strtol(argv[i + 1], NULL, 10);
        } else if (value != NULL) {
            *value = argv[i + 1];
        } else {
            return 0;
        }
    }
    return settings->server != NULL && settings->timeout_ms > 0 ? i : 0;
}

int main(int argc, char **argv)
{
    struct settings settings = {.timeout_ms = TIMEOUT_MS};
    natsConnection *nc = NULL;
    const int first = argc > 2 ? read_options(argc, argv, &settings) : 0;
    const bool is_publish = first != 0 && strcmp(argv[1], "publish") == 0 && first == argc;
    const bool is_watch = first != 0 && strcmp(argv[1], "watch") == 0 && first < argc;

    if (!is_publish && !is_watch) {
        fprintf(
            stderr,
            "usage: event_client publish|watch --server URL [--ca FILE] [--cert FILE --key FILE]\n"
            "       [--token-file FILE] [--name NAME] [--timeout MS] [SUBJECT...]\n");
        return USAGE;
    }
    if (settings.token_file != NULL && !read_token(&settings)) {
        return complain(settings.token_file, "no token can be read");
    }
    natsStatus status = open_connection(&settings, &nc);
    explicit_bzero(settings.token, sizeof settings.token);
    if (status != NATS_OK) {
        return complain(settings.server, reason_of(status));
    }
    const int result = is_publish ? publish_lines(nc, &settings)
                                  : watch(nc, &settings, argv + first, argc - first);
    natsConnection_Destroy(nc);
    nats_Close();
    return result;
}
