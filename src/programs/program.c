/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a server process: command line, configuration, start, signals, stop. Signals are
 * waited for by the first thread alone, which does nothing else. */
#include "program.h"

#include <eventservice/auth.h>

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { STOP_TIMEOUT_MS = 3000 };

static void print_help(const struct program *program, FILE *out)
{
    fprintf(out,
            "%s - %s\n\n"
            "usage: %s --config FILE\n"
            "       %s --check-config --config FILE\n",
            program->name, program->purpose, program->name, program->name);
    for (const struct program_command *command = program->commands; command->name != NULL;
         command++) {
        fprintf(out, "       %s %s %s\n", program->name, command->name, command->usage);
    }
    fputs("\n", out);
#define OPTION(letter, name, value, text)                                                          \
    fprintf(out, "  -%c, --%-18s %s\n", letter, value[0] != '\0' ? name " " value : name, text);
#include "command_line.def"
    fputs("\nsignals\n", out);
#define SIGNAL(names, text) fprintf(out, "  %-24s %s\n", names, text);
#include "command_line.def"
    fputs("\nexit status\n", out);
#define STATUS(number, text) fprintf(out, "  %-24d %s\n", number, text);
#include "command_line.def"
    fprintf(out, "\nmanual pages: %s(8), event-service.yaml(5)\n", program->name);
}

/* The signals that the program waits for are blocked before any thread is made, so that no worker
 * is interrupted. */
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGUSR1);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* A connection is a descriptor, and what systems give at first (1024) is far below max_connections.
 * What may be had is a matter of the hard limit. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* without it the listener says what is lacking */
    }
}

static void wait_for_end(const struct program *program, const sigset_t *signals)
{
    for (;;) {
        int number = 0;
        if (sigwait(signals, &number) != 0) {
            continue;
        }
        switch (number) {
        case SIGINT:
        case SIGTERM:
            return;
        case SIGUSR1:
            if (es_log_reopen() != ES_OK) {
                fprintf(stderr, "%s: the log file cannot be opened again\n", program->name);
            }
            break;
        default:
            fprintf(stderr, "%s: signal %d is not built into this version: ignored\n",
                    program->name, number);
            break;
        }
    }
}

static int run(const struct program *program, const char *path)
{
    struct es_config *config = NULL;
    struct es_server *server = NULL;
    struct es_error error = {.text = ""};
    char *errors = NULL;
    sigset_t signals;
    int status = EXIT_CLEAN;

    block_signals(&signals);
    raise_file_limit();
    if (es_config_load(path, program->kind, &config, &errors) != ES_OK) {
        fputs(errors != NULL ? errors : "out of memory\n", stderr);
        free(errors);
        return EXIT_CONFIG;
    }
    const enum es_err err = es_server_start(config, &server, &error);
    if (err != ES_OK) {
        fprintf(stderr, "%s: %s\n", program->name, error.text);
        es_config_free(config);
        return err == ES_UNSUPPORTED ? EXIT_CONFIG : EXIT_RUN_TIME;
    }
    wait_for_end(program, &signals);
    if (es_server_stop(server, STOP_TIMEOUT_MS) != ES_OK) {
        fprintf(stderr,
                "%s: some peers did not take what waited for them in time and were cut off\n",
                program->name);
    }
    es_server_free(server);
    es_config_free(config);
    return status;
}

/* Writes a text that the library made, and frees it. */
static bool print_out(char *text)
{
    const bool is_printed = text != NULL && fputs(text, stdout) != EOF && fflush(stdout) == 0;

    free(text);
    return is_printed;
}

static int print_keys(const struct program *program)
{
    if (!print_out(es_config_keys(program->kind))) {
        fprintf(stderr, "%s: the keys cannot be printed\n", program->name);
        return EXIT_RUN_TIME;
    }
    return EXIT_CLEAN;
}

/* The token file, which is no part of the configuration because it changes while a server runs; but
 * a wrong one stops the start. One that is not there yet does not. */
static enum es_err check_tokens(const struct es_config *config, struct es_error *error)
{
    char *table = NULL;
    const enum es_err err = es_token_list(config, &table, error);

    free(table);
    return err == ES_UNSUPPORTED ? ES_OK : err; /* ES_UNSUPPORTED: none is configured */
}

static int check(const struct program *program, const char *path)
{
    struct es_config *config = NULL;
    struct es_error error = {.text = ""};
    char *errors = NULL;

    if (es_config_load(path, program->kind, &config, &errors) != ES_OK) {
        fputs(errors != NULL ? errors : "out of memory\n", stderr);
        free(errors);
        return EXIT_CONFIG;
    }
    if (check_tokens(config, &error) != ES_OK) {
        fprintf(stderr, "%s: %s\n", program->name, error.text);
        es_config_free(config);
        return EXIT_CONFIG;
    }
    const bool is_printed = print_out(es_config_print(config));
    es_config_free(config);
    if (!is_printed) {
        fprintf(stderr, "%s: what is in effect cannot be printed\n", program->name);
        return EXIT_RUN_TIME;
    }
    fprintf(stderr, "%s: configuration file %s is valid\n", program->name, path);
    return EXIT_CLEAN;
}

static int fail_usage(const struct program *program, const char *problem)
{
    fprintf(stderr, "%s: %s (see %s --help)\n", program->name, problem, program->name);
    return EXIT_USAGE;
}

int esi_program_main(const struct program *program, int argc, char **argv)
{
    static const struct option options[] = {
#define OPTION(letter, name, value, text)                                                          \
    {name, sizeof(value) > 1 ? required_argument : no_argument, NULL, letter},
#include "command_line.def"
        {NULL, 0, NULL, 0}};
    /* "c:t": the same for single letters. */
    static const char letters[] = {
#define OPTION(letter, name, value, text) letter, sizeof(value) > 1 ? ':' : letter,
#include "command_line.def"
        '\0'};
    const char *path = NULL;
    bool is_check = false;
    int option;

    for (const struct program_command *command = program->commands;
         argc > 1 && command->name != NULL; command++) {
        if (strcmp(argv[1], command->name) == 0) {
            return command->run(argc - 1, argv + 1);
        }
    }
    opterr = 0;
    while ((option = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 't':
            is_check = true;
            break;
        case 'k':
            return print_keys(program);
        case 'v':
            printf("%s %s\n", program->name, es_version());
            return EXIT_CLEAN;
        case 'h':
            print_help(program, stdout);
            return EXIT_CLEAN;
        default:
            return fail_usage(program, "unknown option, or one without its value");
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument %s (see %s --help)\n", program->name, argv[optind],
                program->name);
        return EXIT_USAGE;
    }
    if (path == NULL) {
        return fail_usage(program, "--config FILE is missing");
    }
    return is_check ? check(program, path) : run(program, path);
}
