/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What allocates; the other functions on runs of bytes are inline, for the path of a message. */
#include "base/str.h"

#include <stdlib.h>

char *esi_str_dup(struct esi_str s)
{
    char *copy = malloc(s.len + 1);

    if (copy != NULL) {
        if (s.len > 0) {
            memcpy(copy, s.data, s.len);
        }
        copy[s.len] = '\0';
    }
    return copy;
}
