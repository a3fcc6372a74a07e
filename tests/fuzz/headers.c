/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no header block harms its reader, what is found lies in the block and ends no line, and
 * what is written is read back. Method: the input is walked as a block; each line found is looked
 * up by its name, written anew, and the new block must give the same lines.
 */
#include "proto/headers.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_part(struct esi_str block, struct esi_str part)
{
    require(part.len == 0 ||
            (part.data >= block.data && part.data + part.len <= block.data + block.len));
    require(part.len == 0 || memchr(part.data, '\n', part.len) == NULL);
}

static size_t rewrite(struct esi_str block, struct esi_bytes *out)
{
    struct esi_headers_cursor cursor = esi_headers_lines(block);
    struct esi_str name;
    struct esi_str value;
    size_t count = 0;

    esi_headers_begin(out);
    while (esi_headers_next(&cursor, &name, &value)) {
        struct esi_str found;
        check_part(block, name);
        check_part(block, value);
        require(name.len > 0);
        require(esi_headers_find(block, name, &found));
        esi_headers_add(out, name, value);
        count++;
    }
    esi_headers_end(out);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_str block = {.data = (const char *)data, .len = size};
    struct esi_bytes written[3];

    if (size > 4096) {
        return 0;
    }
    (void)esi_headers_status(block);
    struct esi_str last = block;
    size_t count = 0;
    for (size_t i = 0; i < 3; i++) {
        esi_bytes_init(&written[i], 0);
        const size_t found = rewrite(last, &written[i]);
        require(!written[i].failed && (i == 0 || found == count));
        count = found;
        last = esi_bytes_str(&written[i]);
    }
    /* At the first time bytes that would end a line become blanks, which count no more at the end
     * of a value. */
    require(esi_str_equal(esi_bytes_str(&written[1]), esi_bytes_str(&written[2])));
    for (size_t i = 0; i < 3; i++) {
        esi_bytes_deinit(&written[i]);
    }
    return 0;
}
