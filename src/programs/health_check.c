/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line around es_health_check: one line says how it went. */
#include "health_check.h"
#include "program.h"

#include <eventservice/auth.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_MS_DEFAULT = 1000, TIMEOUT_MS_MAX = 600000 };

static void print_help(void)
{
    printf("event-gateway health-check - does the server of this configuration answer?\n\n"
           "usage: event-gateway health-check " HEALTH_CHECK_USAGE "\n\n"
           "  -c, --config FILE           the configuration that the server was started with\n"
           "      --timeout MILLISECONDS  for the request, and for each step before it (%d)\n"
           "  -h, --help                  print this text and exit\n\n"
           "Comes in by the token that the server wrote to service.health_check_credentials_file "
           "and sends itself\n"
           "a request. exit status: 0 it answered, 1 it did not (a line says why), 2 usage, 78 bad "
           "configuration\n",
           TIMEOUT_MS_DEFAULT);
}

static int fail_usage(const char *problem)
{
    fprintf(stderr, "event-gateway health-check: %s (see event-gateway health-check --help)\n",
            problem);
    return EXIT_USAGE;
}

/* 0: not a number in range. */
static uint32_t read_timeout(const char *text)
{
    char *end = NULL;

    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > TIMEOUT_MS_MAX
               ? 0
               : (uint32_t)value;
}

static int check(const char *path, uint32_t timeout_ms)
{
    struct es_config *config = NULL;
    struct es_error error = {.text = ""};
    char *errors = NULL;

    if (es_config_load(path, ES_EVENT_GATEWAY, &config, &errors) != ES_OK) {
        fputs(errors != NULL ? errors : "out of memory\n", stderr);
        free(errors);
        return EXIT_CONFIG;
    }
    const enum es_err err = es_health_check(config, timeout_ms, &error);
    es_config_free(config);
    if (err != ES_OK) {
        fprintf(stderr, "event-gateway health-check: %s\n", error.text);
        return err == ES_UNSUPPORTED ? EXIT_CONFIG : EXIT_RUN_TIME;
    }
    puts("healthy");
    return EXIT_CLEAN;
}

int esi_health_check_run(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"timeout", required_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    uint32_t timeout_ms = TIMEOUT_MS_DEFAULT;
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 't':
            timeout_ms = read_timeout(optarg);
            if (timeout_ms == 0) {
                return fail_usage("--timeout takes milliseconds, 1 to 600000");
            }
            break;
        case 'h':
            print_help();
            return EXIT_CLEAN;
        default:
            return fail_usage("unknown option, or one without its value");
        }
    }
    if (optind < argc) {
        return fail_usage("unexpected argument");
    }
    return path == NULL ? fail_usage("--config FILE is missing") : check(path, timeout_ms);
}
