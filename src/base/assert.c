/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a process that cannot trust its own state: said on standard error, not in the log,
 * which may be what is broken. */
#include "base/assert.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void esi_assert_failed(const char *kind, const char *condition, const char *file, int line)
{
    void *frames[48];

    fprintf(stderr, "%s failed: %s (%s:%d)\n", kind, condition, file, line);
    fflush(stderr);
    backtrace_symbols_fd(frames, backtrace(frames, 48), STDERR_FILENO);
    abort();
}
