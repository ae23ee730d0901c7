/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoder of messages and records: any bytes; what it takes encodes to the same bytes again. */
#include <string.h>

#include "daemon/wire.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vmp_msg msg;
	struct vmp_record rec;
	uint8_t out[VMP_WIRE_MAX];

	if (vmp_wire_decode(data, size, &msg) == 0) {
		MUST(vmp_wire_encode(&msg, out, sizeof(out)) == (int)size);
		MUST(memcmp(out, data, size) == 0);
	}
	if (vmp_record_decode(data, size, &rec) == 0) {
		MUST(vmp_record_encode(&rec, out, sizeof(out)) == (int)size);
		MUST(memcmp(out, data, size) == 0);
	}
	return 0;
}
