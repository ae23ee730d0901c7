/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What daemons tell each other over CPG: lines of the input are messages, the first byte of each says of which node; then an operator looks. */
#include "tests/fuzz/daemonworld.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char status[] = "{\"v\":1,\"cmd\":\"status\"}", why[] = "{\"v\":1,\"cmd\":\"why\",\"pair\":\"p1\"}",
			  move[] = "{\"v\":1,\"cmd\":\"switchover\",\"pair\":\"p1\"}";

	if (!D)
		world_begin();
	while (size) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t len = end ? (size_t)(end - data) : size;

		if (len > 1)
			vmp_group_message(D, (unsigned)data[0] % 4, (const char *)data + 1, len - 1);
		vmp_group_own_stale(D);
		data += len + (end != NULL);
		size -= len + (end != NULL);
	}
	world_ask(status, sizeof(status) - 1);
	world_ask(why, sizeof(why) - 1);
	world_ask(move, sizeof(move) - 1);
	return 0;
}
