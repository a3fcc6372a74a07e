/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench-micro: what the parts of a message's path cost by themselves, in nanoseconds of CPU time.
 * Each case is warmed up for one round, then measured for several; the median is the result, least
 * and most say how far to trust it. It measures and asserts nothing but that the parts work.
 */
#include "micro.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CASES_MAX = 256, ROUNDS_MAX = 99, NAME_MAX_BYTES = 64 };

struct result {
    char part[NAME_MAX_BYTES];
    char name[NAME_MAX_BYTES];
    double ns[ROUNDS_MAX]; /* for an operation; in rising order in the end */
    uint64_t operations;   /* of all rounds */
    uint64_t sum;
};

struct micro {
    const char *only; /* NULL: all */
    const char *json; /* NULL: none; "-": standard output, and no table */
    uint32_t rounds;
    uint64_t round_ns;
    bool is_quick;
    bool lists; /* names only */
    uint32_t result_count;
    struct result results[CASES_MAX];
};

static struct micro the_micro;

void micro_fail(const char *what)
{
    fprintf(stderr, "bench-micro: %s\n", what);
    exit(1);
}

void *micro_alloc(size_t bytes)
{
    void *memory = malloc(bytes);

    if (memory == NULL) {
        micro_fail("no memory");
    }
    return memory;
}

uint64_t micro_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

uint64_t micro_thread_cpu_ns(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) {
        micro_fail("no clock of a thread's CPU time");
    }
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

bool micro_is_quick(const struct micro *micro)
{
    return micro->is_quick;
}

bool micro_wants(const struct micro *micro, const char *part, const char *name)
{
    char whole[2 * NAME_MAX_BYTES];

    snprintf(whole, sizeof whole, "%s: %s", part, name);
    return micro->only == NULL || strstr(whole, micro->only) != NULL;
}

/* Passes until the round has lasted long enough; returns ns for an operation. */
static double run_round(const struct micro *micro, struct result *result,
                        void (*run)(void *argument, struct micro_pass *pass), void *argument)
{
    uint64_t operations = 0;
    uint64_t measured_ns = 0;

    while (measured_ns < micro->round_ns) {
        struct micro_pass pass = {0};
        const uint64_t began_ns = micro_thread_cpu_ns();
        run(argument, &pass);
        const uint64_t took_ns = micro_thread_cpu_ns() - began_ns;
        if (pass.operations == 0) {
            micro_fail("a pass did nothing");
        }
        measured_ns += pass.cpu_ns > 0 ? pass.cpu_ns : took_ns;
        operations += pass.operations;
        result->sum += pass.sum;
    }
    result->operations += operations;
    return (double)measured_ns / (double)operations;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

void micro_measure(struct micro *micro, const char *part, const char *name,
                   void (*run)(void *argument, struct micro_pass *pass), void *argument)
{
    if (!micro_wants(micro, part, name)) {
        return;
    }
    if (micro->result_count == CASES_MAX) {
        micro_fail("more cases than there is room for");
    }
    struct result *result = &micro->results[micro->result_count++];
    snprintf(result->part, sizeof result->part, "%s", part);
    snprintf(result->name, sizeof result->name, "%s", name);
    if (micro->lists) {
        printf("%s: %s\n", part, name);
        return;
    }
    run_round(micro, result, run, argument);
    result->operations = 0;
    result->sum = 0;
    for (uint32_t i = 0; i < micro->rounds; i++) {
        result->ns[i] = run_round(micro, result, run, argument);
    }
    qsort(result->ns, micro->rounds, sizeof result->ns[0], compare);
    if (micro->json == NULL || strcmp(micro->json, "-") != 0) {
        printf("%-8s %-44s %9.2f %9.2f %9.2f\n", part, name, result->ns[micro->rounds / 2],
               result->ns[0], result->ns[micro->rounds - 1]);
        fflush(stdout);
    }
}

static void write_json(const struct micro *micro, FILE *file)
{
    fprintf(file, "{\n  \"unit\": \"ns of CPU time\",\n  \"compiler\": \"%s\",\n", __VERSION__);
    fprintf(file, "  \"quick\": %s,\n  \"rounds\": %u,\n  \"round_ms\": %.1f,\n  \"results\": [",
            micro->is_quick ? "true" : "false", micro->rounds, (double)micro->round_ns / 1e6);
    for (uint32_t i = 0; i < micro->result_count; i++) {
        const struct result *result = &micro->results[i];
        fprintf(file,
                "%s\n    {\"part\": \"%s\", \"name\": \"%s\", \"median\": %.3f, \"least\": %.3f, "
                "\"most\": %.3f, \"operations\": %llu, \"sum\": %llu}",
                i > 0 ? "," : "", result->part, result->name, result->ns[micro->rounds / 2],
                result->ns[0], result->ns[micro->rounds - 1],
                (unsigned long long)result->operations, (unsigned long long)result->sum);
    }
    fprintf(file, "\n  ]\n}\n");
}

static void report_json(const struct micro *micro)
{
    FILE *file = strcmp(micro->json, "-") == 0 ? stdout : fopen(micro->json, "w");

    if (file == NULL) {
        micro_fail("the file for JSON cannot be written");
    }
    write_json(micro, file);
    if (fflush(file) != 0 || (file != stdout && fclose(file) != 0)) {
        micro_fail("the file for JSON cannot be written");
    }
}

static void usage(FILE *file)
{
    fprintf(file,
            "usage: bench-micro [--only TEXT] [--json FILE] [--rounds N] [--round-ms N] [--quick]\n"
            "  --only TEXT   cases with this text in \"PART: NAME\"\n"
            "  --json FILE   the figures as JSON; -: to standard output, instead of the table\n"
            "  --rounds N    measured after one that warms up (default 7, at most %d)\n"
            "  --round-ms N  how long a round lasts at least (default 100)\n"
            "  --quick       does everything work? Short rounds and small tables, no figures to "
            "use\n"
            "  --list        names the cases\n",
            ROUNDS_MAX);
}

static uint32_t number(const char *text, unsigned long max)
{
    char *end = NULL;
    const unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || value < 1 || value > max) {
        micro_fail("not a number in the allowed range");
    }
    return (uint32_t)value;
}

static void read_options(struct micro *micro, int argc, char **argv)
{
    static const struct option options[] = {
        {"only", required_argument, NULL, 'o'},   {"json", required_argument, NULL, 'j'},
        {"rounds", required_argument, NULL, 'r'}, {"round-ms", required_argument, NULL, 'm'},
        {"quick", no_argument, NULL, 'q'},        {"list", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'o':
            micro->only = optarg;
            break;
        case 'j':
            micro->json = optarg;
            break;
        case 'r':
            micro->rounds = number(optarg, ROUNDS_MAX);
            break;
        case 'm':
            micro->round_ns = (uint64_t)number(optarg, 60000) * 1000000;
            break;
        case 'q':
            micro->is_quick = true;
            micro->rounds = 3;
            micro->round_ns = 1000000;
            break;
        case 'l':
            micro->lists = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        usage(stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct micro *micro = &the_micro;

    micro->rounds = 7;
    micro->round_ns = 100000000;
    read_options(micro, argc, argv);
    if (!micro->lists && (micro->json == NULL || strcmp(micro->json, "-") != 0)) {
        printf("%-8s %-44s %9s %9s %9s\n", "part", "ns of CPU time for each operation", "median",
               "least", "most");
    }
    micro_parser(micro);
    micro_match(micro);
    micro_mailbox(micro);
    micro_format(micro);
    micro_timer(micro);
    if (micro->result_count == 0) {
        micro_fail("no case has this text in its name (--list names them)");
    }
    if (micro->json != NULL && !micro->lists) {
        report_json(micro);
    }
    return 0;
}
