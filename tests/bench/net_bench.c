/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cost of a message on its way: encode, seal, open, decode. One JSON object, metric -> {median, p99, n, unit}. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/net.h"
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

/* --- through the kernel, over the loopback -------------------------------------------------------------------------------- */
static unsigned int got;

static void on_message(void *ctx, uint8_t from, uint64_t now_ns, const struct vmp_msg *m)
{
	(void)ctx;
	(void)from;
	(void)now_ns;
	(void)m;
	got++;
}

static struct vmp_net *end_open(uint8_t node, const struct vmp_keys *keys)
{
	static const struct vmp_net_ops ops = { .message = on_message };
	struct vmp_net_param param = { .self = node, .inc = node, .keys = keys };
	char reason[200] = "";
	struct vmp_net *n = NULL;

	need(vmp_net_new(&n, &param, &ops, NULL, reason, sizeof(reason)) == 0, reason);
	return n;
}

static void end_peer(struct vmp_net *n, uint8_t node, const struct vmp_net *other)
{
	struct vmp_net_addr addr;

	need(vmp_net_addr_parse("127.0.0.1", vmp_net_port(other), &addr) == 0 && vmp_net_peer_set(n, node, &addr, 1) == 0, "peer");
}

static void wait_one(struct vmp_net *n)
{
	struct pollfd p = { vmp_net_fd(n), POLLIN, 0 };

	need(poll(&p, 1, 1000) == 1, "loopback");
	vmp_net_dispatch(n);
}

static void print_sorted(const char *name, double *r, unsigned int n, unsigned int samples, bool last)
{
	qsort(r, n, sizeof(r[0]), by_value);
	printf("  \"net.%s\": {\"median\": %.0f, \"p99\": %.0f, \"n\": %u, \"unit\": \"ns\"}%s\n", name, r[n / 2], r[n * 99 / 100], samples,
	       last ? "" : ",");
}

static void through_kernel(const struct vmp_keys *keys)
{
	static double one_way[ROUNDS], garbage[ROUNDS];
	static uint8_t dirt[100] = { 'V', 'P', VMP_SEAL_VERSION, 2, 1, 2, 1, 0, 1 };	/* a forged hello: costs a MAC */
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct vmp_net *x = end_open(1, keys), *y = end_open(2, keys);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	end_peer(x, 2, y);
	end_peer(y, 1, x);
	gen_msg(&msg, VMP_MSG_CLAIM, true);
	vmp_net_send(x, 2, &msg);
	wait_one(y);
	wait_one(x);
	wait_one(y);
	for (unsigned int k = 0; k < ROUNDS; k++) {
		uint64_t t = ns();

		need(vmp_net_send(x, 2, &msg) == 0, "send");
		got = 0;
		while (!got)
			wait_one(y);
		one_way[k] = (double)(ns() - t);
	}
	sa.sin_port = htons(vmp_net_port(y));
	need(fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0, "socket");
	for (unsigned int k = 0; k < ROUNDS; k++) {
		struct vmp_net_peer_stats before, after;
		uint64_t t;

		for (unsigned int i = 0; i < PER_ROUND; i++)
			need(send(fd, dirt, VMP_SEAL_HELLO_LEN, 0) > 0, "send");
		vmp_net_peer_stats(y, 1, &before);
		t = ns();
		vmp_net_dispatch(y);
		t = ns() - t;
		vmp_net_peer_stats(y, 1, &after);
		need(after.causes[VMP_SEAL_AUTH] > before.causes[VMP_SEAL_AUTH], "garbage");
		garbage[k] = (double)t / (double)(after.causes[VMP_SEAL_AUTH] - before.causes[VMP_SEAL_AUTH]);
	}
	print_sorted("send_to_callback.claim", one_way, ROUNDS, ROUNDS, false);
	print_sorted("dispatch.forged_hello", garbage, ROUNDS, ROUNDS * PER_ROUND, true);
	close(fd);
	vmp_net_free(x);
	vmp_net_free(y);
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
		measure(size, "forged", do_forged, NULL, false);
	}
	through_kernel(&keys);
	printf("}\n");
	a = vmp_seal_free(a);
	b = vmp_seal_free(b);
	return 0;
}
