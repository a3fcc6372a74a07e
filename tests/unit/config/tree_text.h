/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shows a node tree as one line of text, for comparing: {a:"1",b:[2,{}]}; plain scalars without
 * quotes. */
#pragma once

#include "base/bytes.h"
#include "config/node.h"

static void show_node(const struct esi_node *node, bool with_places, struct esi_bytes *out)
{
    if (with_places) {
        esi_bytes_printf(out, "@%u:%u ", node->at.line, node->at.column);
    }
    if (node->kind == NODE_SCALAR) {
        const char *quote = node->is_quoted ? "\"" : "";
        esi_bytes_printf(out, "%s%s%s", quote, node->text, quote);
        return;
    }
    esi_bytes_append_text(out, node->kind == NODE_MAP ? "{" : "[");
    for (const struct esi_node *child = node->first; child != NULL; child = child->next) {
        if (child->key != NULL) {
            esi_bytes_printf(out, "%s:", child->key);
        }
        show_node(child, with_places, out);
        esi_bytes_append_text(out, child->next != NULL ? "," : "");
    }
    esi_bytes_append_text(out, node->kind == NODE_MAP ? "}" : "]");
}
