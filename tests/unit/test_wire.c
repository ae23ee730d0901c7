/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "daemon/wire.h"
#include "tests/unit/msggen.h"

static void every_type_both_ways(void **state)
{
	struct vmp_msg m, back;
	uint8_t buf[VMP_WIRE_MAX], again[VMP_WIRE_MAX];

	(void)state;
	for (unsigned int type = 1; type < VMP_MSG_COUNT; type++)
		for (unsigned int round = 0; round < 200; round++) {
			int n;

			gen_msg(&m, type, round == 0);
			n = vmp_wire_encode(&m, buf, sizeof(buf));
			assert_in_range(n, 18, VMP_WIRE_MAX);
			memset(&back, 0xff, sizeof(back));
			assert_int_equal(vmp_wire_decode(buf, (size_t)n, &back), 0);
			assert_memory_equal(&m, &back, sizeof(m));
			assert_int_equal(vmp_wire_encode(&back, again, (size_t)n), n);
			assert_memory_equal(buf, again, (size_t)n);
		}
}

/* Neither shorter nor longer by a byte, and no write past a short buffer. */
static void exact_length(void **state)
{
	struct vmp_msg m, back, before;
	uint8_t buf[VMP_WIRE_MAX + 1], small[VMP_WIRE_MAX];

	(void)state;
	for (unsigned int type = 1; type < VMP_MSG_COUNT; type++) {
		int n;

		gen_msg(&m, type, true);
		n = vmp_wire_encode(&m, buf, VMP_WIRE_MAX);
		assert_true(n > 0);
		memset(&back, 0x5a, sizeof(back));
		before = back;
		for (int len = 0; len < n; len++) {
			assert_int_equal(vmp_wire_decode(buf, (size_t)len, &back), -EPROTO);
			assert_memory_equal(&before, &back, sizeof(before));
		}
		buf[n] = 0;
		assert_int_equal(vmp_wire_decode(buf, (size_t)n + 1, &back), -EPROTO);
		for (int cap = 0; cap < n; cap++) {
			memset(small, 0xee, sizeof(small));
			assert_int_equal(vmp_wire_encode(&m, small, (size_t)cap), -EMSGSIZE);
			assert_int_equal(small[cap], 0xee);
		}
	}
}

/* Whatever the decoder takes, the encoder gives back byte by byte: there are no two forms of one message. */
static void canonical(void **state)
{
	uint8_t buf[VMP_WIRE_MAX], again[VMP_WIRE_MAX];
	unsigned int taken = 0;
	struct vmp_msg m, back;

	(void)state;
	for (unsigned int round = 0; round < 100000; round++) {
		int n, r;

		gen_msg(&m, 1 + (unsigned int)(gen() % (VMP_MSG_COUNT - 1)), false);
		n = vmp_wire_encode(&m, buf, sizeof(buf));
		for (unsigned int i = 0; i < 2; i++)
			buf[gen() % (unsigned int)n] ^= (uint8_t)(1 << gen() % 8);
		r = vmp_wire_decode(buf, (size_t)n, &back);
		if (r < 0) {
			assert_true(r == -EPROTO || r == -EPROTONOSUPPORT);
			continue;
		}
		taken++;
		assert_int_equal(vmp_wire_encode(&back, again, sizeof(again)), n);
		assert_memory_equal(buf, again, (size_t)n);
	}
	assert_in_range(taken, 10000, 99999);
}

static void limits(void **state)
{
	uint8_t buf[VMP_WIRE_MAX];
	struct vmp_msg m, back;
	int n;

	(void)state;
	gen_msg(&m, VMP_MSG_GRANT, false);
	n = vmp_wire_encode(&m, buf, sizeof(buf));
	buf[0] = VMP_WIRE_VERSION + 1;
	assert_int_equal(vmp_wire_decode(buf, (size_t)n, &back), -EPROTONOSUPPORT);
	buf[0] = VMP_WIRE_VERSION;
	buf[1] = VMP_MSG_COUNT;
	assert_int_equal(vmp_wire_decode(buf, (size_t)n, &back), -EPROTO);
	buf[1] = 0;
	assert_int_equal(vmp_wire_decode(buf, (size_t)n, &back), -EPROTO);

	m.type = VMP_MSG_COUNT;
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), -EINVAL);
	gen_msg(&m, VMP_MSG_HEARTBEAT, true);
	m.u.heartbeat.n_held = VMP_MAX_PAIRS + 1;
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), -EINVAL);
	gen_msg(&m, VMP_MSG_MEMBERS, true);
	m.u.members.member[3].flags = 4;
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), -EINVAL);
	gen_msg(&m, VMP_MSG_TABLE, true);
	m.u.table.part = m.u.table.parts;
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), -EINVAL);
	gen_msg(&m, VMP_MSG_REFUSE, true);
	m.u.refuse.reason = VMP_REASON_COUNT;
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), -EINVAL);
	/* More than the core puts into one ack does not fit, and is refused whole. */
	gen_msg(&m, VMP_MSG_ACK, true);
	m.u.ack.n_regs = VMP_ACK_REGS;
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), -EMSGSIZE);
}

/* The bytes of version 1. A change here is a new version of the protocol. */
static void bytes_of_version_1(void **state)
{
	static const uint8_t grant[] = {
		1, VMP_MSG_GRANT, 5, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
		1, 0, 0, 0, 0, 0, 0, 0x80, 1, 3, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	};
	static const uint8_t put[] = {
		1, VMP_MSG_PUT, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
		1, 2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 0xb, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1,
	};
	static const uint8_t types[] = { VMP_MSG_HEARTBEAT, VMP_MSG_CLAIM, VMP_MSG_GRANT, VMP_MSG_PUT, VMP_MSG_MEMBERS };
	static const uint8_t numbers[] = { 1, 3, 6, 8, 22 };
	uint8_t buf[VMP_WIRE_MAX];
	struct vmp_msg m = { .type = VMP_MSG_GRANT, .version = 5, .voter = 0x1122334455667788 };

	(void)state;
	m.u.grant = (struct vmp_msg_grant){ 0x8000000000000001, 0x301, UINT64_MAX, 0 };
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), sizeof(grant));
	assert_memory_equal(buf, grant, sizeof(grant));
	memset(&m, 0, sizeof(m));
	m.type = VMP_MSG_PUT;
	m.version = 1;
	m.voter = 2;
	m.u.put.pair = 3;
	m.u.put.boot = 4;
	m.u.put.state = (struct vmp_state){ .epoch = 0x201, .seq = 9, .holder_member = 10, .sync_member = 11, .holder = 1, .sync_node = 2,
					    .cold = true };
	assert_int_equal(vmp_wire_encode(&m, buf, sizeof(buf)), sizeof(put));
	assert_memory_equal(buf, put, sizeof(put));
	assert_memory_equal(types, numbers, sizeof(types));
}

static void records(void **state)
{
	uint8_t buf[VMP_RECORD_MAX + 1];
	struct vmp_record r, back;

	(void)state;
	for (unsigned int i = 0; i < 1000; i++) {
		int n;

		gen_record(&r);
		n = vmp_record_encode(&r, buf, VMP_RECORD_MAX);
		assert_in_range(n, 100, VMP_RECORD_MAX);
		memset(&back, 0xff, sizeof(back));
		assert_int_equal(vmp_record_decode(buf, (size_t)n, &back), 0);
		assert_memory_equal(&r, &back, sizeof(r));
		assert_int_equal(vmp_record_decode(buf, (size_t)n - 1, &back), -EPROTO);
		assert_int_equal(vmp_record_decode(buf, (size_t)n + 1, &back), -EPROTO);
		assert_int_equal(vmp_record_encode(&r, buf, (size_t)n - 1), -EMSGSIZE);
	}
	r.role = VMP_ROLE_COUNT;
	assert_int_equal(vmp_record_encode(&r, buf, sizeof(buf)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_both_ways), cmocka_unit_test(exact_length), cmocka_unit_test(canonical),
		cmocka_unit_test(limits), cmocka_unit_test(bytes_of_version_1), cmocka_unit_test(records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
