/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts allocations of a program that is not built for it: preloaded, it stands before the C
 * library's functions and adds one to a 64-bit number in the file that MALLOC_COUNT_FILE names,
 * which a test reads at any time. Invariant: works before its constructor has run, when nothing is
 * counted yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

/* The C library's own names for the functions that are replaced here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic uint64_t *counter;

static void count_one(void)
{
    if (counter != NULL) {
        /* order: relaxed; a counter. */
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
    }
}

__attribute__((constructor)) static void map_counter(void)
{
    const char *path = getenv("MALLOC_COUNT_FILE");
    const int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) {
        counter = mapped;
    }
}

EXPORTED void *malloc(size_t size)
{
    count_one();
    return __libc_malloc(size);
}

EXPORTED void *calloc(size_t count, size_t size)
{
    count_one();
    return __libc_calloc(count, size);
}

EXPORTED void *realloc(void *memory, size_t size)
{
    count_one();
    return __libc_realloc(memory, size);
}

EXPORTED void *aligned_alloc(size_t alignment, size_t size)
{
    count_one();
    return __libc_memalign(alignment, size);
}

EXPORTED int posix_memalign(void **memory, size_t alignment, size_t size)
{
    count_one();
    *memory = __libc_memalign(alignment, size);
    return *memory != NULL ? 0 : ENOMEM;
}
