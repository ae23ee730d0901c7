/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmpair/sync.h"

static uint8_t buf[VMPAIR_RECORD_MAX];

static void same(const struct vmpair_record *a, const struct vmpair_record *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->service, b->service);
	assert_true(a->seq == b->seq && a->epoch == b->epoch && a->number == b->number && a->conn == b->conn);
	assert_true(a->digest == b->digest && a->total == b->total);
	assert_true(a->id_len == b->id_len && !memcmp(a->id, b->id, a->id_len));
	assert_true(a->data_len == b->data_len && !memcmp(a->data, b->data, a->data_len));
}

static void test_round_trip(void **state)
{
	static uint8_t big[VMPAIR_DATA_MAX], id[VMPAIR_ID_MAX];
	static const size_t lens[] = { 0, 1, 55, 4096, VMPAIR_DATA_MAX };
	struct vmpair_record rec = { .service = 0x1234, .seq = 0xdeadbeef, .epoch = 0x0123456789abcdef, .number = UINT64_MAX, .conn = 7,
				     .digest = 0xfedcba9876543210, .total = 99, .id = id, .data = big };
	struct vmpair_record back;

	(void)state;
	memset(big, 0x5a, sizeof(big));
	memset(id, 0xa5, sizeof(id));
	for (unsigned int type = 0; type < 256; type++) {
		bool known = (type >= VMPAIR_START && type <= VMPAIR_CLOSE) || (type >= VMPAIR_HELLO && type <= VMPAIR_SNAPSHOT_END);

		assert_int_equal(strcmp(vmpair_record_name(type), "unknown") != 0, known);
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			int n;

			rec.type = (uint8_t)type;
			rec.flags = i & 1 ? VMPAIR_LAST : VMPAIR_HAS_ID | VMPAIR_IDEMPOTENT;
			rec.data_len = lens[i];
			rec.id_len = i * 32;
			n = vmpair_record_encode(&rec, buf, sizeof(buf));
			if (!known) {
				assert_int_equal(n, -EINVAL);
				continue;
			}
			assert_int_equal(n, (int)(VMPAIR_HEADER_LEN + rec.id_len + rec.data_len));
			assert_int_equal(vmpair_record_decode(buf, (size_t)n, &back), n);
			same(&rec, &back);
			assert_int_equal(vmpair_record_encode(&rec, buf, (size_t)n - 1), -ENOSPC);
		}
	}
}

static void test_layout(void **state)
{
	static const uint8_t want[] = { 61, 0, 0, 0, 3, 1, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
					3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 'i', 'd', 'a', 'b', 'c' };
	struct vmpair_record rec = { .type = VMPAIR_REQUEST, .flags = VMPAIR_LAST, .service = 0x0102, .epoch = 0x0102030405060708, .number = 1,
				     .conn = 2, .seq = 3, .digest = 4, .total = 5, .id = "id", .id_len = 2, .data = "abc", .data_len = 3 };

	(void)state;
	assert_int_equal(vmpair_record_encode(&rec, buf, sizeof(buf)), (int)sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));
}

static void test_pieces(void **state)
{
	struct vmpair_record rec = { .type = VMPAIR_REQUEST, .id = "id", .id_len = 2, .data = "abc", .data_len = 3 }, back;
	int n = vmpair_record_encode(&rec, buf, sizeof(buf));

	(void)state;
	for (int i = 0; i < n; i++)
		assert_int_equal(vmpair_record_decode(buf, (size_t)i, &back), 0);
	assert_int_equal(vmpair_record_decode(buf, (size_t)n + 10, &back), n);
}

static void refused(int at, uint8_t value)
{
	struct vmpair_record rec = { .type = VMPAIR_REQUEST, .data = "abc", .data_len = 3 }, back;
	int n = vmpair_record_encode(&rec, buf, sizeof(buf));

	buf[at] = value;
	assert_int_equal(vmpair_record_decode(buf, (size_t)n, &back), -EPROTO);
}

static void test_refused(void **state)
{
	struct vmpair_record rec = { .type = VMPAIR_PING, .data = buf, .data_len = VMPAIR_DATA_MAX + 1 }, back;
	static const uint8_t huge[4] = { 0xff, 0xff, 0xff, 0xff };

	(void)state;
	refused(0, VMPAIR_HEADER_LEN - 1);	/* shorter than a header */
	refused(2, 2);				/* longer than any record */
	refused(4, 0);
	refused(4, 9);
	refused(4, 255);
	refused(5, VMPAIR_NO_DIGEST);
	refused(5, 64);
	refused(36, 4);				/* the id would end behind the record */
	refused(36, VMPAIR_ID_MAX + 1);
	refused(37, 1);
	refused(38, 1);
	refused(39, 1);
	assert_int_equal(vmpair_record_decode(huge, 4, &back), -EPROTO);	/* not waited for */
	assert_int_equal(vmpair_record_encode(&rec, buf, sizeof(buf)), -EMSGSIZE);
	rec.data_len = 0;
	rec.id_len = VMPAIR_ID_MAX + 1;
	assert_int_equal(vmpair_record_encode(&rec, buf, sizeof(buf)), -EMSGSIZE);
	rec.id_len = 0;
	rec.flags = VMPAIR_NO_DIGEST;
	assert_int_equal(vmpair_record_encode(&rec, buf, sizeof(buf)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
