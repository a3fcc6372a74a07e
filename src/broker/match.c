/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both the local groups and the groups of each link are in order of their names. */
#include "broker/match.h"

#include <stdlib.h>

static int compare_group(const void *name, const void *group)
{
    return esi_str_compare(*(const struct esi_str *)name,
                           ((const struct esi_match_group *)group)->name);
}

static int compare_queue(const void *name, const void *queue)
{
    return esi_str_compare(*(const struct esi_str *)name, *(const struct esi_str *)queue);
}

const struct esi_match_group *esi_match_find_group(const struct esi_match *match,
                                                   struct esi_str name)
{
    return match->group_count == 0 ? NULL
                                   : bsearch(&name, match->groups, match->group_count,
                                             sizeof *match->groups, compare_group);
}

bool esi_match_is_served(const struct esi_match *match, struct esi_str queue)
{
    if (esi_match_find_group(match, queue) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < match->link_count; i++) {
        const struct esi_match_link *link = &match->links[i];
        if (link->queue_count > 0 && bsearch(&queue, link->queues, link->queue_count,
                                             sizeof *link->queues, compare_queue) != NULL) {
            return true;
        }
    }
    return false;
}
