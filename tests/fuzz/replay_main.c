/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replays a kept corpus through a fuzz target, so that it is an ordinary test where libFuzzer is
 * not linked. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 20 };

/* Returns 1 when the input could not be played: one that is left out would pass unseen. */
static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    static uint8_t data[INPUT_BYTES_MAX + 1];
    const size_t size = fread(data, 1, sizeof data, file);
    const int has_failed = ferror(file);
    fclose(file);
    /* An exact-size copy, so that the address sanitizer sees a read past the end. */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL || has_failed || size > INPUT_BYTES_MAX) {
        fprintf(stderr, "%s: cannot be read, or is longer than 1 MiB\n", path);
        free(exact);
        return 1;
    }
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    DIR *folder = opendir(argv[1]);
    if (folder == NULL) {
        perror(argv[1]);
        return 1;
    }
    int count = 0;
    int failed = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        /* Said before: when the target crashes, the last name is the input. */
        printf("%s\n", entry->d_name);
        fflush(stdout);
        failed += replay(path);
        count++;
    }
    closedir(folder);
    printf("%d inputs replayed\n", count);
    return count > 0 && failed == 0 ? 0 : 1;
}
