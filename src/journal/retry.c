/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a delivery is tried again: see retry.h. */
#include "journal/retry.h"

#include "base/assert.h"

enum esi_retry_class esi_retry_classify(uint32_t status, bool success)
{
    if (status > RETRY_GRPC_UNAUTHENTICATED) {
        return RETRY_LATER;
    }
    switch ((enum esi_retry_grpc_status)status) {
    case RETRY_GRPC_OK:
        return success ? RETRY_DELIVERED : RETRY_LATER;
    case RETRY_GRPC_INVALID_ARGUMENT:
    case RETRY_GRPC_ALREADY_EXISTS:
    case RETRY_GRPC_OUT_OF_RANGE:
    case RETRY_GRPC_DATA_LOSS:
        return RETRY_POISON;
    case RETRY_GRPC_RESOURCE_EXHAUSTED:
        return RETRY_OVERLOADED;
    case RETRY_GRPC_PERMISSION_DENIED:
    case RETRY_GRPC_UNAUTHENTICATED:
        return RETRY_UNAUTHORIZED;
    case RETRY_GRPC_UNIMPLEMENTED:
        return RETRY_UNIMPLEMENTED;
    case RETRY_GRPC_CANCELLED:
    case RETRY_GRPC_UNKNOWN: /* what a Go worker's plain error becomes */
    case RETRY_GRPC_DEADLINE_EXCEEDED:
    case RETRY_GRPC_NOT_FOUND:
    case RETRY_GRPC_FAILED_PRECONDITION:
    case RETRY_GRPC_ABORTED:
    case RETRY_GRPC_INTERNAL:
    case RETRY_GRPC_UNAVAILABLE:
        break;
    }
    return RETRY_LATER;
}

enum esi_retry_blame esi_retry_blame(enum esi_retry_class failure)
{
    switch (failure) {
    case RETRY_LATER:
    case RETRY_POISON:
    case RETRY_CRASHED:
        return RETRY_BLAME_EVENT;
    case RETRY_LOST:
        return RETRY_BLAME_OPEN;
    case RETRY_DELIVERED:
    case RETRY_OVERLOADED:
    case RETRY_UNREACHABLE:
    case RETRY_UNAUTHORIZED:
    case RETRY_UNIMPLEMENTED:
        break;
    }
    return RETRY_BLAME_WORKER;
}

uint64_t esi_retry_delay_ns(const struct esi_retry_policy *policy, uint32_t attempts,
                            uint64_t random)
{
    uint64_t ceiling = policy->delay_ns;

    ESI_REQUIRE(attempts > 0);
    for (uint32_t i = 1; i < attempts && ceiling < policy->delay_max_ns; i++) {
        if (__builtin_mul_overflow(ceiling, (uint64_t)2, &ceiling) || ceiling == 0) {
            ceiling = policy->delay_max_ns;
        }
    }
    if (ceiling > policy->delay_max_ns) {
        ceiling = policy->delay_max_ns;
    }
    /* The high half of the product: an even spread over 0 to ceiling without a division. */
    return (uint64_t)(((__uint128_t)random * ((__uint128_t)ceiling + 1)) >> 64);
}

enum esi_retry_verdict esi_retry_decide(const struct esi_retry_policy *policy,
                                        struct esi_retry_outcome outcome, uint64_t random,
                                        uint64_t *delay_ns)
{
    switch (outcome.failure) {
    case RETRY_DELIVERED:
        return RETRY_VERDICT_DONE;
    case RETRY_POISON:
        return RETRY_VERDICT_GIVE_UP;
    case RETRY_LATER:
    case RETRY_CRASHED:
        if (policy->attempts_max != 0 && outcome.counted >= policy->attempts_max) {
            return RETRY_VERDICT_GIVE_UP;
        }
        break;
    case RETRY_UNAUTHORIZED:
    case RETRY_UNIMPLEMENTED:
        *delay_ns = policy->delay_max_ns;
        return RETRY_VERDICT_AGAIN;
    case RETRY_OVERLOADED:
    case RETRY_UNREACHABLE:
    case RETRY_LOST:
        break;
    }
    *delay_ns = esi_retry_delay_ns(policy, outcome.attempts, random);
    return RETRY_VERDICT_AGAIN;
}
