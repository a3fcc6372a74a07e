/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no first record of a client harms its reader, and a name that is found lies within the
 * record. Method: the input is read whole and cut at each of its first bytes: more bytes never turn
 * an answer into "more, please".
 */
#include "net/client_hello.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_str whole = {.data = (const char *)data, .len = size};
    struct esi_str name = {0};
    const enum es_err err = esi_client_hello_read(whole, &name);

    if (name.len > 0 && (name.data < whole.data || name.data + name.len > whole.data + whole.len)) {
        abort();
    }
    for (size_t len = 0; len < size && len < 64; len++) {
        struct esi_str part_name = {0};
        const enum es_err part_err =
            esi_client_hello_read((struct esi_str){.data = whole.data, .len = len}, &part_name);

        if (err == ES_AGAIN && part_err != ES_AGAIN) {
            abort();
        }
        if (part_err == ES_OK && err != ES_OK) {
            abort();
        }
    }
    return 0;
}
