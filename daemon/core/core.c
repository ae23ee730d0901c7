/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/core/core.h"

uint64_t vmp_pair_id(const char *name)
{
	uint64_t h = 14695981039346656037ull;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 1099511628211ull;
	return h > VMP_PAIR_VOTERS ? h : h + 2;
}

/* H = L * (1 - rho) / (1 + rho) - q */
uint64_t vmp_holder_lease_ns(uint32_t lease_ms, uint32_t clock_error_permille, uint32_t gate_delay_ms)
{
	uint64_t lease_ns = (uint64_t)lease_ms * 1000000, q_ns = (uint64_t)gate_delay_ms * 1000000, h;

	if (clock_error_permille >= 1000)
		return 0;
	h = lease_ns * (1000 - clock_error_permille) / (1000 + clock_error_permille);
	return h > q_ns ? h - q_ns : 0;
}
