/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control protocol: lines of the input are datagrams of a client each; what they ask for is done by a daemon. */
#include "tests/fuzz/daemonworld.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!D)
		world_begin();
	while (size) {
		const uint8_t *end = memchr(data, '\n', size);
		size_t len = end ? (size_t)(end - data) : size;

		if (len)
			world_ask(data, len);
		data += len + (end != NULL);
		size -= len + (end != NULL);
	}
	return 0;
}
