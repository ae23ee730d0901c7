/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvmpair's record codec costs: the four records of a request with an id (100 bytes) and its answer (240 bytes). Per record,
 * best of 500 short rounds, in ns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmpair/sync.h"

#define ROUND 1000

static const char id[36] = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
static char data[240];

static struct vmpair_record records[] = {
	{ .type = VMPAIR_REQUEST, .flags = VMPAIR_LAST | VMPAIR_HAS_ID, .conn = 1, .seq = 1, .id = id, .id_len = sizeof(id), .data = data,
	  .data_len = 100 },
	{ .type = VMPAIR_DISPATCHED, .conn = 1, .seq = 1 },
	{ .type = VMPAIR_ANSWER, .flags = VMPAIR_LAST, .conn = 1, .seq = 1, .digest = 0x123456789abcdef, .total = sizeof(data), .data = data,
	  .data_len = sizeof(data) },
	{ .type = VMPAIR_DONE, .conn = 1, .seq = 1 },
};
enum { RECORDS = sizeof(records) / sizeof(records[0]) };

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(void)
{
	static unsigned char buf[RECORDS * 512];
	double encode = 0, decode = 0;
	uint64_t number = 0;
	size_t len = 0;

	for (int round = 0; round < 500; round++) {
		double t0 = now_ns(), t;

		for (int i = 0; i < ROUND; i++) {
			len = 0;
			for (int k = 0; k < RECORDS; k++) {
				int n;

				records[k].epoch = 7;
				records[k].number = ++number;
				n = vmpair_record_encode(&records[k], buf + len, sizeof(buf) - len);
				if (n < 0)
					abort();
				len += (size_t)n;
			}
		}
		t = (now_ns() - t0) / (ROUND * RECORDS);
		encode = round == 0 || t < encode ? t : encode;

		t0 = now_ns();
		for (int i = 0; i < ROUND; i++) {
			size_t at = 0;

			for (int k = 0; k < RECORDS; k++) {
				struct vmpair_record rec;
				int n = vmpair_record_decode(buf + at, len - at, &rec);

				if (n <= 0 || rec.type != records[k].type || rec.data_len != records[k].data_len)
					abort();
				at += (size_t)n;
			}
		}
		t = (now_ns() - t0) / (ROUND * RECORDS);
		decode = round == 0 || t < decode ? t : decode;
	}
	printf("codec.encode_ns %.1f\ncodec.decode_ns %.1f\n", encode, decode);
	return 0;
}
