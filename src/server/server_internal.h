/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is behind the handles of the public interface. */
#pragma once

#include "config/config.h"

struct es_config {
    struct esi_config *config; /* owned */
};
