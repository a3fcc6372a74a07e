/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event-docs: the schema of the configuration as JSON, for scripts/generate-docs. A tool of the
 * build, not installed: it knows the table as the programs know it, not as its text looks. */
#include "config/describe.h"

#include <stdio.h>

int main(void)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_describe_json(&text);
    const bool is_written =
        !text.failed && fwrite(text.data, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
    esi_bytes_deinit(&text);
    return is_written ? 0 : 1;
}
