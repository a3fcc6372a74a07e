/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new token is printed alone on a line of standard output; everything else that is said goes to
 * standard error. */
#include "token_command.h"
#include "program.h"

#include <eventservice/auth.h>

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the command line says. */
struct token_arguments {
    const char *verb;
    const char *config_path;
    struct es_token_request request;
};

static void print_help(void)
{
    printf("event-gateway token - the tokens that clients come in by\n\n"
           "usage: event-gateway token " TOKEN_COMMAND_USAGE "\n\n"
           "  -c, --config FILE         the configuration, which names auth.token_file\n"
           "      --expires TIME        a time (2027-01-31T12:00:00Z) or from now (24h, 30d); "
           "default: never\n"
           "      --publish SUBJECTS    with commas between; default: "
           "event.>,habitat.event.*,_INBOX.>\n"
           "      --subscribe SUBJECTS  the same; default: _INBOX.>\n"
           "  -h, --help                print this text and exit\n\n"
           "add prints the token once, alone on its line: only its hash is stored. A running "
           "server takes changes\n"
           "in within about two seconds, and closes the connections of a revoked token.\n"
           "exit status: 0 done, 1 failure, 2 usage, 78 bad configuration or token file\n");
}

static int fail_usage(const char *problem)
{
    fprintf(stderr, "event-gateway token: %s (see event-gateway token --help)\n", problem);
    return EXIT_USAGE;
}

static int fail(enum es_err err, const struct es_error *error)
{
    fprintf(stderr, "event-gateway token: %s\n", error->text);
    return err == ES_UNSUPPORTED ? EXIT_CONFIG : EXIT_RUN_TIME;
}

/* The output is the only copy of a token: one that was not written is a failure that must be told.
 */
static int print_out(const char *text, const char *end)
{
    if (fputs(text, stdout) == EOF || fputs(end, stdout) == EOF || fflush(stdout) != 0) {
        fputs("event-gateway token: cannot write to standard output\n", stderr);
        return EXIT_RUN_TIME;
    }
    return EXIT_CLEAN;
}

static int add_token(const struct es_config *config, const struct es_token_request *request)
{
    struct es_error error = {.text = ""};
    char *token = NULL;
    const enum es_err err = es_token_add(config, request, &token, &error);

    if (err != ES_OK) {
        /* The file was read without a complaint before: what is invalid is on the command line. */
        const int status = fail(err, &error);
        return err == ES_INVALID ? EXIT_USAGE : status;
    }
    /* A reader that has gone is told as an error, and the token that nobody saw is taken back. */
    signal(SIGPIPE, SIG_IGN);
    /* Unbuffered, so that no copy stays behind in a buffer of the C library. */
    setvbuf(stdout, NULL, _IONBF, 0);
    const int status = print_out(token, "\n");
    es_token_free(token);
    if (status != EXIT_CLEAN && es_token_revoke(config, request->name, &error) == ES_OK) {
        fprintf(stderr, "event-gateway token: %s was revoked again\n", request->name);
    }
    return status;
}

static int revoke_token(const struct es_config *config, const char *name)
{
    struct es_error error = {.text = ""};
    const enum es_err err = es_token_revoke(config, name, &error);

    return err != ES_OK ? fail(err, &error) : EXIT_CLEAN;
}

static int work(const struct token_arguments *arguments, const struct es_config *config)
{
    struct es_error error = {.text = ""};
    char *table = NULL;
    /* Every command begins by reading the file: one that is wrong is bad configuration. */
    const enum es_err err = es_token_list(config, &table, &error);
    int status;

    if (err != ES_OK) {
        status = fail(err, &error);
        return err == ES_INVALID ? EXIT_CONFIG : status;
    }
    if (strcmp(arguments->verb, "list") == 0) {
        status = print_out(table, "");
    } else if (strcmp(arguments->verb, "add") == 0) {
        status = add_token(config, &arguments->request);
    } else {
        status = revoke_token(config, arguments->request.name);
    }
    free(table);
    return status;
}

static int load_and_work(const struct token_arguments *arguments)
{
    struct es_config *config = NULL;
    char *errors = NULL;

    if (es_config_load(arguments->config_path, ES_EVENT_GATEWAY, &config, &errors) != ES_OK) {
        fputs(errors != NULL ? errors : "out of memory\n", stderr);
        free(errors);
        return EXIT_CONFIG;
    }
    const int status = work(arguments, config);
    es_config_free(config);
    return status;
}

/* Are the words right for the verb? NULL: yes; else what is wrong. */
static const char *find_fault(const struct token_arguments *arguments, int word_count)
{
    const struct es_token_request *request = &arguments->request;
    const bool is_add = strcmp(arguments->verb, "add") == 0;
    const bool is_list = strcmp(arguments->verb, "list") == 0;

    if (!is_add && !is_list && strcmp(arguments->verb, "revoke") != 0) {
        return "say add, list or revoke";
    }
    if (word_count > (is_list ? 1 : 2)) {
        return "unexpected argument";
    }
    if (!is_list && request->name == NULL) {
        return "the NAME of the token is missing";
    }
    if (!is_add &&
        (request->expires != NULL || request->publish != NULL || request->subscribe != NULL)) {
        return "--expires, --publish and --subscribe are for add";
    }
    return arguments->config_path == NULL ? "--config FILE is missing" : NULL;
}

int esi_token_command_run(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},  {"expires", required_argument, NULL, 'e'},
        {"publish", required_argument, NULL, 'p'}, {"subscribe", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct token_arguments arguments = {0};
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            arguments.config_path = optarg;
            break;
        case 'e':
            arguments.request.expires = optarg;
            break;
        case 'p':
            arguments.request.publish = optarg;
            break;
        case 's':
            arguments.request.subscribe = optarg;
            break;
        case 'h':
            print_help();
            return EXIT_CLEAN;
        default:
            return fail_usage("unknown option, or one without its value");
        }
    }
    const int word_count = argc - optind;
    arguments.verb = word_count > 0 ? argv[optind] : "";
    arguments.request.name = word_count > 1 ? argv[optind + 1] : NULL;
    const char *fault = find_fault(&arguments, word_count);
    return fault != NULL ? fail_usage(fault) : load_and_work(&arguments);
}
