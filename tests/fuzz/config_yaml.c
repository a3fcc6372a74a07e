/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no YAML file crashes, hangs or leaks the configuration, and every refusal says why. Method:
 * any bytes as a file of either program, without looking at other files; what is accepted is
 * printed.
 */
#include "config_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_config("fuzz.yaml", data, size);
    return 0;
}
