/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records of libvmpair: any bytes; what decodes encodes to the same bytes again, and every shorter piece is waited for or refused alike. */
#include <errno.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmpair/sync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[VMPAIR_RECORD_MAX];
	struct vmpair_record rec;
	int n = vmpair_record_decode(data, size, &rec);

	MUST(n == 0 || n == -EPROTO || (n >= (int)VMPAIR_HEADER_LEN && (size_t)n <= size));
	if (n <= 0)
		return 0;
	MUST(rec.id_len <= VMPAIR_ID_MAX && rec.data_len <= VMPAIR_DATA_MAX);
	MUST(vmpair_record_encode(&rec, out, sizeof(out)) == n && !memcmp(out, data, (size_t)n));
	MUST(vmpair_record_encode(&rec, out, (size_t)n - 1) == -ENOSPC);
	MUST(vmpair_record_decode(data, (size_t)n - 1, &rec) == 0);
	return 0;
}
