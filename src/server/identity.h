/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server's id: of the form of a server nkey, new at each start. */
#pragma once

struct esi_env;

/* Writes 56 characters and a NUL: base32 of the prefix byte for servers, 32 random bytes and their
 * CRC-16. */
void esi_identity_new(struct esi_env *env, char out[57]);
