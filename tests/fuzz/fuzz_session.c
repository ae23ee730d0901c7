/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session whose peer sends anything. The input is a program: each byte an operation, what it needs follows. Records are built from
 * few bytes, so that the handshake and long streams are reached; raw bytes come as well. The other end of the program are the calls of
 * a relay. Whatever happens, the numbers stay in order and memory stays bounded.
 */
#include <errno.h>
#include <string.h>

#include "internal/endian.h"
#include "tests/fuzz/fuzz.h"
#include "vmpair/sync.h"

struct in {
	const uint8_t *p;
	size_t left;
};

static uint8_t u8(struct in *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static uint64_t small(struct in *in)	/* small numbers meet each other */
{
	uint8_t b = u8(in);

	return b < 240 ? b % 24 : b < 248 ? UINT64_MAX - b : (uint64_t)b << 56;
}

static size_t record(struct in *in, struct vmpair_session *s, uint8_t *out, size_t size)
{
	uint8_t d[512] = { 0 };
	struct vmpair_record rec = { .data = d };
	struct vmpair_info i;
	uint8_t type = u8(in), how = u8(in);
	int n;

	vmpair_session_info(s, &i);
	rec.type = type % 16 < 8 ? type % 16 + 1 : 32 + type % 8;
	rec.flags = how & 15 & ~(how >> 4);
	rec.number = how & 128 ? small(in) : rec.type >= 32 ? i.number : i.number + 1;
	rec.epoch = how & 64 ? small(in) : i.epoch;
	rec.conn = small(in);
	rec.seq = (uint32_t)small(in);
	if (how & 32) {
		rec.total = small(in);
		rec.digest = small(in);
	}
	if (rec.type == VMPAIR_REQUEST && rec.flags & VMPAIR_HAS_ID) {
		rec.id = "0123456789";
		rec.id_len = u8(in) % 10;
	}
	rec.data_len = u8(in);
	for (size_t k = 0; k < rec.data_len; k++)
		d[k] = u8(in);
	if (rec.type == VMPAIR_HELLO || rec.type == VMPAIR_WELCOME) {
		bool hello = rec.type == VMPAIR_HELLO;

		rec.data_len = hello ? 48 : 32;
		put_le16(d, VMPAIR_SYNC_VERSION + (d[0] > 250));
		d[2] %= 2;
		d[3] %= hello ? 8 : 3;
		d[4] = (uint8_t)(2 + (d[4] > 250));
		if (!(how & 16)) {
			put_le64(d + 8, hello ? 5 : 77);
			put_le64(d + 16, hello ? 88 : i.member);
			put_le64(d + 24, hello ? 0 : 99);
			if (hello) {
				put_le64(d + 32, d[32] & 1 ? i.history : 0);
				put_le64(d + 40, d[40] % 8);
				rec.number = d[32] & 1 ? d[33] % 8 : 0;
			}
		}
	} else if (rec.type == VMPAIR_SNAPSHOT_END) {
		rec.data_len &= ~(size_t)15;
	}
	n = vmpair_record_encode(&rec, out, size);
	return n > 0 ? (size_t)n : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	uint8_t first = u8(&in), buf[1024];
	struct vmpair_session_conf c = { .pair = 5, .member = 100, .random = 7, .node = 1, .kind = first & 1, .pristine = first & 2, .can_export = true,
					 .can_import = true, .buffer_bytes = VMPAIR_BUFFER_MIN, .keep_ns = 50000000 };
	struct vmpair_session *s;
	uint64_t now = 1000000000, last = 0, members = 200, conn = 0;
	struct vmpair_event ev;
	struct vmpair_info i;
	struct vmpair_entry e;
	const void *p;
	size_t n;

	MUST(vmpair_session_new(&s, &c) == 0);
	if (first & 4)
		vmpair_session_primary(s, now, 5);
	else
		vmpair_session_standby(s, now, first >> 4);
	for (unsigned int steps = 0; in.left && steps < 4000; steps++) {
		uint8_t op = u8(&in);
		bool wiped = false;

		now += 100000;
		switch (op % 24) {
		case 0:
			vmpair_session_link_up(s, now, !(first & 4));
			break;
		case 1:
			vmpair_session_link_down(s, NULL);
			break;
		case 2:
			n = u8(&in) % 64;
			n = n < in.left ? n : in.left;
			vmpair_session_input(s, now, in.p, n);
			in.p += n;
			in.left -= n;
			break;
		case 3: {
			struct vmpair_request r = { .conn = small(&in), .seq = (uint32_t)small(&in), .flags = u8(&in) & 7, .id = "abcdef",
						    .id_len = u8(&in) % 6, .data = buf, .len = u8(&in) * 4u };

			memset(buf, 1, sizeof(buf));
			conn = r.conn;
			vmpair_session_request(s, now, &r, NULL);
			break;
		}
		case 4:
			vmpair_session_dispatched(s, small(&in), (uint32_t)small(&in), NULL);
			break;
		case 5:
			vmpair_session_answer(s, now, small(&in), (uint32_t)small(&in), buf, u8(&in), op & 64 ? VMPAIR_LAST : 0, NULL);
			break;
		case 6:
			vmpair_session_done(s, now, small(&in), (uint32_t)small(&in));
			break;
		case 7:
			vmpair_session_close(s, now, op & 64 ? conn : small(&in));
			break;
		case 8:
			vmpair_session_drop(s, small(&in), (uint32_t)small(&in), "why");
			break;
		case 9:
			now += (uint64_t)u8(&in) * 10000000;
			vmpair_session_tick(s, now);
			MUST(vmpair_session_deadline(s) >= now);
			break;
		case 10:
			vmpair_session_mode(s, op / 24 % 3, small(&in), 2, 88);
			break;
		case 11:
			wiped = vmpair_session_set_member(s, ++members) == 0;
			break;
		case 12:
			if (vmpair_session_execute(s, &e))
				vmpair_session_answer(s, now, e.conn, e.seq, buf, u8(&in), VMPAIR_LAST, NULL);
			break;
		case 13:
			if (vmpair_session_export_start(s) == 0)
				vmpair_session_export(s, buf, u8(&in), op & 64);
			break;
		case 14:
			wiped = vmpair_session_imported(s, now, op & 128) == 0;
			break;
		case 15:
			wiped = op > 200 && vmpair_session_primary(s, now, u8(&in)) >= 0;
			break;
		case 16:
			if (op > 200)
				vmpair_session_standby(s, now, u8(&in) % 16);
			else
				vmpair_session_fence(s, u8(&in) % 8);
			break;
		default:
			n = record(&in, s, buf, sizeof(buf));
			vmpair_session_input(s, now, buf, n);
			break;
		}
		while (vmpair_session_next_event(s, &ev))
			wiped |= ev.type == VMPAIR_EV_LINK_LOST || ev.type == VMPAIR_EV_REFUSED;
		for (int k = 0; k < 4 && (n = vmpair_session_output(s, &p)); k++) {
			MUST(p);
			vmpair_session_output_done(s, now, op & 1 ? n : 1);
		}
		vmpair_session_info(s, &i);
		MUST(i.held <= i.number);
		MUST(i.number >= last || wiped || i.role != VMPAIR_PRIMARY);
		MUST(i.unfinished <= i.entries && i.finished <= i.entries);
		/* a primary's memory is its own, a standby's the peer's: nothing here is bigger than a program can make it */
		MUST(i.bytes <= 2 * VMPAIR_BUFFER_MIN + 4096u * 1024);
		last = i.number;
	}
	vmpair_session_free(s);
	return 0;
}
