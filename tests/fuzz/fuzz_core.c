/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes as the scheduler of the simulator: every decision about network, clocks and faults is taken from the input while it lasts. */
#define SIM_FUZZ
#include "tests/sim/sim.c"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seed = 14695981039346656037ull;
	size_t i;

	if (size < 8)
		return 0;
	for (i = 0; i < 8; i++)		/* decides what comes after the script */
		seed = (seed ^ data[i]) * 1099511628211ull;
	script = data + 8;
	script_left = size - 8;
	run_seed(seed);
	if (W.violation)
		fprintf(stderr, "%s: %s\n", W.violation, W.detail);
	MUST(!W.violation);
	return 0;
}
