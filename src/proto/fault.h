/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a parser found wrong: each fault ends the connection, some after one -ERR line. */
#pragma once

enum esi_fault {
    FAULT_NONE,
    FAULT_UNKNOWN_OPERATION, /* -ERR 'Unknown Protocol Operation', close */
    FAULT_SILENT,            /* close without any -ERR, as nats-server does */
    FAULT_MAX_PAYLOAD,       /* -ERR 'Maximum Payload Violation', close; the payload is not read */
    FAULT_CONTROL_LINE,      /* -ERR 'maximum control line exceeded', close */
    FAULT_AUTHORIZATION      /* -ERR 'Authorization Violation', close */
};
