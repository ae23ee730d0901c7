/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvmpair alone, on one core: records encoded and decoded; a whole request (request, dispatched, answer, done) through two sessions. One line "METRIC UNIT VALUE" for each sample.   session_bench [--runs N]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmpair/sync.h"

#define N 20000
#define DATA 200
#define ID 36

static uint8_t buf[N * (VMPAIR_HEADER_LEN + ID + DATA)];

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);	/* others may want this core, too */
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void need(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "session_bench: %s\n", what);
		exit(1);
	}
}

static size_t encode_all(void)
{
	static const char id[ID + 1] = "0123456789abcdef0123456789abcdef0123", data[DATA] = "GET /account/17 HTTP/1.1";
	struct vmpair_record rec = { .type = VMPAIR_REQUEST, .flags = VMPAIR_LAST | VMPAIR_HAS_ID, .epoch = 257, .conn = 1, .id = id, .id_len = ID,
				     .data = data, .data_len = DATA };
	size_t len = 0;

	for (unsigned int i = 0; i < N; i++) {
		int n;

		rec.number = rec.seq = i;
		n = vmpair_record_encode(&rec, buf + len, sizeof(buf) - len);
		need(n > 0, "encode");
		len += (size_t)n;
	}
	return len;
}

static uint64_t decode_all(size_t len)
{
	struct vmpair_record rec;
	uint64_t sum = 0;
	size_t at = 0;
	unsigned int n = 0;

	while (at < len) {
		int used = vmpair_record_decode(buf + at, len - at, &rec);

		need(used > 0, "decode");
		at += (size_t)used;
		sum += rec.number + rec.data_len;
		n++;
	}
	need(n == N, "count");
	return sum;
}

static struct vmpair_session *session(unsigned int node)
{
	struct vmpair_session_conf c = { .pair = 1, .member = node, .random = node, .node = (uint8_t)node };
	struct vmpair_session *s;

	need(vmpair_session_new(&s, &c) == 0, "session");
	return s;
}

static void carry(struct vmpair_session *from, struct vmpair_session *to)
{
	const void *p;
	size_t n;

	while ((n = vmpair_session_output(from, &p))) {
		vmpair_session_input(to, 1, p, n);
		vmpair_session_output_done(from, 1, n);
	}
}

/* A request as a relay has it, with batches of 16 between two deliveries. */
static double through_sessions(void)
{
	static const char data[DATA];
	struct vmpair_session *a = session(1), *b = session(2);
	struct vmpair_event ev;
	double t;

	vmpair_session_primary(a, 1, 257);
	vmpair_session_standby(b, 1, 257);
	need(vmpair_session_link_up(a, 1, false) == 0 && vmpair_session_link_up(b, 1, true) == 0, "link");
	carry(b, a);
	vmpair_session_mode(a, VMPAIR_MODE_SYNC, 0, 2, 2);
	t = now();
	for (uint32_t i = 0; i < N; i += 16) {
		uint64_t number = 0;

		for (uint32_t k = i; k < i + 16; k++) {
			struct vmpair_request r = { .conn = k % 64, .seq = k, .flags = VMPAIR_LAST, .data = data, .len = DATA };

			need(vmpair_session_request(a, 1, &r, NULL) == 0 && vmpair_session_dispatched(a, r.conn, k, NULL) == 0 &&
			     vmpair_session_answer(a, 1, r.conn, k, data, DATA, VMPAIR_LAST, &number) == 0, "request");
		}
		carry(a, b);
		carry(b, a);
		need(vmpair_session_may_leave(a, number), "held");
		for (uint32_t k = i; k < i + 16; k++)
			need(vmpair_session_done(a, 1, k % 64, k) == 0, "done");
		while (vmpair_session_next_event(a, &ev))
			;
	}
	t = (now() - t) / N;
	vmpair_session_free(a);
	vmpair_session_free(b);
	return t;
}

static volatile uint64_t sink; /* so that decoding is not left out */

int main(int argc, char **argv)
{
	int runs = argc == 3 && !strcmp(argv[1], "--runs") ? atoi(argv[2]) : 10;

	for (int r = -1; r < runs; r++) {	/* the first warms the memory up */
		double t0 = now(), t2;
		size_t len = encode_all();

		sink += decode_all(len);
		t2 = now();
		if (r < 0)
			continue;
		printf("session.records_per_s /s %.0f\n", N / ((t2 - t0) / 1e9));
		printf("session.request_ns ns %.1f\n", through_sessions());
	}
	return 0;
}
