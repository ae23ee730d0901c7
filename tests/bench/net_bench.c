/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cost of a message on its way: encode, seal, open, decode. One JSON object, metric -> {median, p99, n, unit}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/seal.h"
#include "daemon/wire.h"
#include "tests/unit/msggen.h"

#define ROUNDS 200
#define PER_ROUND 200

static struct vmp_seal *a, *b;
static struct vmp_seal_in in;
static struct vmp_msg msg, back;
static uint8_t plain[VMP_WIRE_MAX], dgram[PER_ROUND][VMP_SEAL_MAX_DATAGRAM], junk[VMP_SEAL_MAX_DATAGRAM];
static int plain_len, dgram_len;
static uint64_t now = 1000000000;

static uint64_t ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *x, const void *y)
{
	double d = *(const double *)x - *(const double *)y;

	return d < 0 ? -1 : d > 0;
}

static void need(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "net_bench: %s failed\n", what);
		exit(1);
	}
}

static void do_encode(unsigned int i)
{
	(void)i;
	plain_len = vmp_wire_encode(&msg, plain, sizeof(plain));
}

static void do_decode(unsigned int i)
{
	(void)i;
	need(vmp_wire_decode(plain, (size_t)plain_len, &back) == 0, "decode");
}

static void do_seal(unsigned int i)
{
	dgram_len = vmp_seal_data(a, 2, now, plain, (size_t)plain_len, dgram[i], sizeof(dgram[i]));
}

static void do_open(unsigned int i)
{
	vmp_seal_open(b, now, dgram[i], (size_t)dgram_len, &in);
	need(in.cause == VMP_SEAL_DATA, "open");
}

static void do_duplicate(unsigned int i)
{
	vmp_seal_open(b, now, dgram[i], (size_t)dgram_len, &in);
}

static void do_forged(unsigned int i)
{
	(void)i;
	vmp_seal_open(b, now, junk, (size_t)dgram_len, &in);
}

static void measure(const char *size, const char *what, void (*fn)(unsigned int), void (*before)(unsigned int), bool last)
{
	static double r[ROUNDS];

	for (unsigned int k = 0; k < ROUNDS; k++) {
		uint64_t t;

		for (unsigned int i = 0; before && i < PER_ROUND; i++)
			before(i);
		t = ns();
		for (unsigned int i = 0; i < PER_ROUND; i++)
			fn(i);
		r[k] = (double)(ns() - t) / PER_ROUND;
	}
	qsort(r, ROUNDS, sizeof(r[0]), by_value);
	printf("  \"net.%s.%s\": {\"median\": %.0f, \"p99\": %.0f, \"n\": %d, \"unit\": \"ns\"}%s\n", what, size, r[ROUNDS / 2],
	       r[ROUNDS * 99 / 100], ROUNDS * PER_ROUND, last ? "" : ",");
}

static void meet(void)
{
	struct vmp_seal *s[2] = { a, b };
	uint8_t h[VMP_SEAL_HELLO_LEN];

	for (unsigned int i = 0; i < 3; i++) {
		int n = vmp_seal_hello(s[i & 1], (uint8_t)(2 - (i & 1)), now, h, sizeof(h));

		need(n > 0, "hello");
		vmp_seal_open(s[!(i & 1)], now, h, (size_t)n, &in);
	}
}

int main(void)
{
	struct vmp_keys keys = { .count = 1, .key = { { .id = 1 } } };

	memset(keys.key[0].secret, 7, sizeof(keys.key[0].secret));
	need(vmp_seal_new(&a, 1, 11, &keys, NULL, NULL) == 0 && vmp_seal_new(&b, 2, 22, &keys, NULL, NULL) == 0 &&
	     vmp_seal_peer_add(a, 2) == 0 && vmp_seal_peer_add(b, 1) == 0, "set-up");
	meet();
	printf("{\n");
	for (unsigned int full = 0; full < 2; full++) {
		const char *size = full ? "full" : "claim";

		gen_msg(&msg, full ? VMP_MSG_HEARTBEAT : VMP_MSG_CLAIM, true);
		measure(size, "encode", do_encode, NULL, false);
		measure(size, "decode", do_decode, NULL, false);
		measure(size, "seal", do_seal, NULL, false);
		measure(size, "open", do_open, do_seal, false);
		measure(size, "duplicate", do_duplicate, NULL, false);
		do_seal(0);
		memcpy(junk, dgram[0], (size_t)dgram_len);
		junk[dgram_len - 1] ^= 1;
		measure(size, "forged", do_forged, NULL, full);
	}
	printf("}\n");
	a = vmp_seal_free(a);
	b = vmp_seal_free(b);
	return 0;
}
