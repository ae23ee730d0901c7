/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "daemon/seal.h"

#define MS 1000000ULL

/* Two ends and the datagrams between them; everything is deterministic. */
struct dgram {
	uint8_t p[VMP_SEAL_MAX_DATAGRAM];
	size_t len;
};

static uint64_t now;
static uint64_t prng;
static struct vmp_seal_in in;

static void test_random(void *ctx, uint8_t *buf, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		prng = prng * 6364136223846793005ULL + 1442695040888963407ULL;
		buf[i] = (uint8_t)(prng >> 56);
	}
}

static struct vmp_keys keys_of(unsigned int n, const uint16_t *id, unsigned int send)
{
	struct vmp_keys k = { .count = n, .send = send };

	for (unsigned int i = 0; i < n; i++) {
		k.key[i].id = id[i];
		for (unsigned int b = 0; b < VMP_KEY_LEN; b++)
			k.key[i].secret[b] = (uint8_t)(id[i] * 7 + b);
	}
	return k;
}

#define KEYS(send, ...) keys_of(sizeof((uint16_t[]){ __VA_ARGS__ }) / 2, (uint16_t[]){ __VA_ARGS__ }, send)

static struct vmp_seal *seal_make(uint8_t self, uint64_t inc, struct vmp_keys keys)
{
	struct vmp_seal *s = NULL;

	assert_int_equal(vmp_seal_new(&s, self, inc, &keys, test_random, NULL), 0);
	for (uint8_t n = 1; n <= 3; n++)
		if (n != self)
			assert_int_equal(vmp_seal_peer_add(s, n), 0);
	return s;
}

static struct dgram data(struct vmp_seal *s, uint8_t to, const char *text)
{
	struct dgram d;
	int n = vmp_seal_data(s, to, now, (const uint8_t *)text, strlen(text), d.p, sizeof(d.p));

	assert_int_equal(n, (int)strlen(text) + VMP_SEAL_OVERHEAD);
	d.len = (size_t)n;
	return d;
}

static struct dgram hello(struct vmp_seal *s, uint8_t to)
{
	struct dgram d;
	int n = vmp_seal_hello(s, to, now, d.p, sizeof(d.p));

	assert_int_equal(n, VMP_SEAL_HELLO_LEN);
	d.len = (size_t)n;
	return d;
}

static enum vmp_seal_cause give(struct vmp_seal *s, const struct dgram *d)
{
	memset(&in, 0xa5, sizeof(in));
	vmp_seal_open(s, now, d->p, d->len, &in);
	return in.cause;
}

static void assert_opens(struct vmp_seal *s, const struct dgram *d, const char *text)
{
	assert_int_equal(give(s, d), VMP_SEAL_DATA);
	assert_true(in.authentic);
	assert_int_equal(in.len, strlen(text));
	assert_memory_equal(in.payload, text, in.len);
}

/* The whole handshake, started by a; returns the number of datagrams. */
static unsigned int meet(struct vmp_seal *a, uint8_t an, struct vmp_seal *b, uint8_t bn)
{
	struct vmp_seal *to = b, *from = a;
	uint8_t to_node = bn, from_node = an;
	unsigned int n = 0;

	do {
		struct dgram d = hello(from, to_node);
		struct vmp_seal *ts = from;
		uint8_t tn = from_node;

		assert_int_equal(give(to, &d), VMP_SEAL_HELLO);
		from = to;
		from_node = to_node;
		to = ts;
		to_node = tn;
		assert_true(++n < 10);
	} while (in.answer);
	return n;
}

static int setup(void **state)
{
	(void)state;
	now = 1000 * MS;
	prng = 1;
	return 0;
}

static void handshake(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d;

	(void)state;
	assert_int_equal(vmp_seal_data(a, 2, now, (const uint8_t *)"x", 1, d.p, sizeof(d.p)), -ENOTCONN);
	d = hello(a, 2);
	assert_int_equal(give(b, &d), VMP_SEAL_HELLO);
	assert_true(in.answer);
	assert_false(in.session_new);	/* a recorded hello looks the same */
	assert_int_equal(vmp_seal_peer_inc(b, 1), 0);
	d = hello(b, 1);
	assert_int_equal(give(a, &d), VMP_SEAL_HELLO);
	assert_true(in.session_new);	/* after one round trip */
	assert_int_equal(in.peer_inc, 0xb1);
	assert_true(in.answer);
	d = hello(a, 2);
	assert_int_equal(give(b, &d), VMP_SEAL_HELLO);
	assert_true(in.session_new);
	assert_int_equal(in.peer_inc, 0xa1);
	assert_false(in.answer);	/* it ends here */

	d = data(a, 2, "hello b");
	assert_opens(b, &d, "hello b");
	assert_int_equal(in.from, 1);
	d = data(b, 1, "");
	assert_opens(a, &d, "");
	/* A node not spoken to has no session. */
	assert_int_equal(vmp_seal_data(a, 3, now, (const uint8_t *)"x", 1, d.p, sizeof(d.p)), -ENOTCONN);
	assert_int_equal(vmp_seal_data(a, 9, now, (const uint8_t *)"x", 1, d.p, sizeof(d.p)), -ENOENT);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

/* Both say hello at once, and every hello comes twice over two links. */
static void crossing_hellos(void **state)
{
	struct vmp_seal *s[2] = { seal_make(1, 0xa1, KEYS(0, 1)), seal_make(2, 0xb1, KEYS(0, 1)) };
	struct dgram q[2][64];		/* to s[0], to s[1] */
	unsigned int n[2] = { 0, 0 }, done[2] = { 0, 0 }, sessions = 0, i = 0;

	(void)state;
	for (unsigned int e = 0; e < 2; e++) {
		q[!e][n[!e]++] = hello(s[e], (uint8_t)(2 - e));
		q[!e][n[!e]] = q[!e][n[!e] - 1];
		n[!e]++;
	}
	while (done[0] < n[0] || done[1] < n[1]) {
		unsigned int e = i++ & 1;

		if (done[e] == n[e])
			continue;
		assert_int_equal(give(s[e], &q[e][done[e]++]), VMP_SEAL_HELLO);
		sessions += in.session_new;
		if (in.answer) {
			struct dgram d;
			int len = vmp_seal_hello(s[e], (uint8_t)(2 - e), now, d.p, sizeof(d.p));

			if (len == -EAGAIN)
				continue;
			d.len = (size_t)len;
			assert_true(n[!e] + 2 <= 64);
			q[!e][n[!e]++] = d;
			q[!e][n[!e]++] = d;
		}
	}
	assert_int_equal(sessions, 2);
	assert_true(n[0] + n[1] <= 32);
	for (unsigned int e = 0; e < 2; e++) {
		struct dgram d = data(s[e], (uint8_t)(2 - e), "ok");

		assert_opens(s[!e], &d, "ok");
	}
	vmp_seal_free(s[0]);
	vmp_seal_free(s[1]);
}

/* Daemons that count leases differently never have a session, whoever begins; the same ones do. */
static void settings_differ(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1)), *b2;
	struct dgram d;

	(void)state;
	vmp_seal_set_settings(a, 614500);
	vmp_seal_set_settings(b, 614400);
	for (int i = 0; i < 3; i++) {
		d = hello(a, 2);
		assert_int_equal(give(b, &d), VMP_SEAL_SETTINGS);
		assert_true(in.authentic && vmp_seal_cause_is_refusal(in.cause));
		assert_false(in.session_new);
		assert_true(in.answer == (i == 0));	/* once in a while */
		d = hello(b, 1);
		assert_int_equal(give(a, &d), VMP_SEAL_SETTINGS);
	}
	assert_int_equal(vmp_seal_peer_inc(a, 2), 0);
	assert_int_equal(vmp_seal_data(a, 2, now, (const uint8_t *)"x", 1, d.p, sizeof(d.p)), -ENOTCONN);
	b2 = seal_make(2, 0xb2, KEYS(0, 1));	/* restarted with a's */
	vmp_seal_set_settings(b2, 614500);
	meet(a, 1, b2, 2);
	vmp_seal_free(a);
	vmp_seal_free(b);
	vmp_seal_free(b2);
}

static void duplicates_and_order(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	static struct dgram d[2000];

	(void)state;
	meet(a, 1, b, 2);
	for (unsigned int i = 0; i < 2000; i++)
		d[i] = data(a, 2, "n");
	assert_int_equal(give(b, &d[1023]), VMP_SEAL_DATA);
	for (int i = 1022; i >= 0; i--)		/* wholly reversed, within the window */
		assert_int_equal(give(b, &d[i]), VMP_SEAL_DATA);
	for (unsigned int i = 0; i < 1024; i++) {
		assert_int_equal(give(b, &d[i]), VMP_SEAL_DUPLICATE);
		assert_false(in.answer);
		assert_false(vmp_seal_cause_is_refusal(in.cause));
	}
	assert_int_equal(give(b, &d[1999]), VMP_SEAL_DATA);
	assert_int_equal(give(b, &d[0]), VMP_SEAL_REPLAY);
	assert_int_equal(give(b, &d[975]), VMP_SEAL_REPLAY);	/* just outside; seen or not does not matter */
	assert_int_equal(give(b, &d[976]), VMP_SEAL_DUPLICATE);	/* just inside, seen */
	for (unsigned int i = 1024; i < 1999; i++)	/* a gap filled late */
		assert_int_equal(give(b, &d[i]), VMP_SEAL_DATA);
	for (unsigned int i = 1024; i < 2000; i++)
		assert_int_equal(give(b, &d[i]), VMP_SEAL_DUPLICATE);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

/* Against a plain model: random jumps, repeats and stragglers. */
static void window_against_model(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	enum { N = 6000 };
	static struct dgram d[N];
	static bool seen[N];
	int top = -1;

	(void)state;
	meet(a, 1, b, 2);
	for (unsigned int i = 0; i < N; i++)
		d[i] = data(a, 2, "n");
	for (unsigned int step = 0; step < 20000; step++) {
		enum vmp_seal_cause want;
		uint8_t r[4];
		int i;

		test_random(NULL, r, 4);
		i = top + (r[0] < 20 ? 1 + r[1] * 3 : 1 + r[1] % 4) - (r[2] % 3 ? (r[2] * 5 + r[3]) % 1200 : 0);
		if (i < 0 || i >= N)
			continue;
		want = i > top ? VMP_SEAL_DATA : top - i >= 1024 ? VMP_SEAL_REPLAY : seen[i] ? VMP_SEAL_DUPLICATE : VMP_SEAL_DATA;
		assert_int_equal(give(b, &d[i]), want);
		seen[i] = true;
		if (i > top)
			top = i;
	}
	assert_true(top > 3000);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

/* One end starts again: the other learns it from the first hello, nothing of the old start passes any more. */
static void restart_of_sender(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1)), *a2;
	struct dgram old_hello = hello(a, 2), old_last, old_data, unsent, d;

	(void)state;
	assert_int_equal(give(b, &old_hello), VMP_SEAL_HELLO);
	d = hello(b, 1);
	assert_int_equal(give(a, &d), VMP_SEAL_HELLO);
	old_last = hello(a, 2);		/* carried the proof */
	assert_int_equal(give(b, &old_last), VMP_SEAL_HELLO);
	assert_true(in.session_new);
	old_data = data(a, 2, "old");
	unsent = data(a, 2, "kept back by the attacker");
	assert_opens(b, &old_data, "old");

	a2 = seal_make(1, 0xa2, KEYS(0, 1));
	now += 20 * MS;
	meet(a2, 1, b, 2);
	assert_int_equal(vmp_seal_peer_inc(b, 1), 0xa2);
	d = data(a2, 2, "new");
	assert_opens(b, &d, "new");
	d = data(b, 1, "to the new one");
	assert_opens(a2, &d, "to the new one");
	assert_int_equal(give(a, &d), VMP_SEAL_OLD_SESSION);

	assert_int_equal(give(b, &old_data), VMP_SEAL_OLD_SESSION);
	assert_int_equal(give(b, &unsent), VMP_SEAL_OLD_SESSION);
	assert_int_equal(give(b, &old_hello), VMP_SEAL_HELLO);
	assert_false(in.session_new);
	assert_int_equal(give(b, &old_last), VMP_SEAL_HELLO);
	assert_false(in.session_new);
	assert_int_equal(vmp_seal_peer_inc(b, 1), 0xa2);
	assert_int_equal(give(b, &unsent), VMP_SEAL_OLD_SESSION);
	/* The session with the new start was not disturbed; the doubt the replays raised is settled by one exchange. */
	d = data(a2, 2, "still");
	assert_opens(b, &d, "still");
	now += 20 * MS;
	meet(b, 2, a2, 1);
	d = data(a2, 2, "still");
	assert_opens(b, &d, "still");
	vmp_seal_free(a);
	vmp_seal_free(a2);
	vmp_seal_free(b);
}

/* The receiver starts again: what was sealed for its earlier start does not open, also when replayed after the handshake. */
static void restart_of_receiver(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1)), *b2;
	struct dgram old, d, echo_of_b1;

	(void)state;
	meet(a, 1, b, 2);
	old = data(a, 2, "old");
	now += 20 * MS;
	b2 = seal_make(2, 0xb2, KEYS(0, 1));
	assert_int_equal(give(b2, &old), VMP_SEAL_OLD_SESSION);
	assert_true(in.answer);		/* heals from either side: b2 says hello by itself */
	echo_of_b1 = hello(a, 2);
	assert_int_equal(give(b2, &echo_of_b1), VMP_SEAL_HELLO);
	assert_false(in.session_new);
	meet(b2, 2, a, 1);
	assert_int_equal(vmp_seal_peer_inc(a, 2), 0xb2);
	assert_int_equal(give(b2, &old), VMP_SEAL_OLD_SESSION);
	d = data(a, 2, "new");
	assert_opens(b2, &d, "new");
	vmp_seal_free(a);
	vmp_seal_free(b);
	vmp_seal_free(b2);
}

/* The last hello of the handshake is lost: the first data datagram makes the receiver ask. */
static void lost_last_hello(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d;

	(void)state;
	d = hello(a, 2);
	give(b, &d);
	d = hello(b, 1);
	give(a, &d);
	assert_true(in.session_new);
	d = data(a, 2, "too early");
	assert_int_equal(give(b, &d), VMP_SEAL_OLD_SESSION);
	assert_true(in.answer);
	meet(b, 2, a, 1);
	d = data(a, 2, "now");
	assert_opens(b, &d, "now");
	vmp_seal_free(a);
	vmp_seal_free(b);
}

/* A hello of the same start, fresh or not, leaves the window as it is. */
static void hello_keeps_the_window(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d, again;

	(void)state;
	meet(a, 1, b, 2);
	d = data(a, 2, "once");
	assert_opens(b, &d, "once");
	for (unsigned int i = 0; i < 3; i++) {
		now += 20 * MS;
		meet(b, 2, a, 1);
		meet(a, 1, b, 2);
		again = data(b, 1, "x");
		assert_opens(a, &again, "x");
		assert_int_equal(give(b, &d), VMP_SEAL_DUPLICATE);
	}
	vmp_seal_free(a);
	vmp_seal_free(b);
}

/* The same counter and plaintext under another start of either side: another key, so no keystream is used twice. */
static void keystreams_differ(void **state)
{
	struct vmp_seal *a[2], *b[2];
	struct dgram d[2][2];
	unsigned int same;

	(void)state;
	for (unsigned int i = 0; i < 2; i++)
		for (unsigned int k = 0; k < 2; k++) {
			a[i] = seal_make(1, 0xa1 + i, KEYS(0, 1));
			b[k] = seal_make(2, 0xb1 + k, KEYS(0, 1));
			meet(a[i], 1, b[k], 2);
			d[i][k] = data(a[i], 2, "sixteen bytes or more of known text");
			vmp_seal_free(a[i]);
			vmp_seal_free(b[k]);
		}
	for (unsigned int i = 1; i < 4; i++) {
		const struct dgram *x = &d[0][0], *y = &d[i >> 1][i & 1];

		assert_memory_equal(x->p + 24, y->p + 24, 8);	/* the counters are the same */
		same = 0;
		for (size_t p = VMP_SEAL_HEADER; p < x->len; p++)
			same += x->p[p] == y->p[p];
		assert_in_range(same, 0, 8);
	}
}

static void altered(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d, good, h;

	(void)state;
	meet(a, 1, b, 2);
	good = data(a, 2, "payload");
	for (size_t i = 0; i < good.len; i++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			d = good;
			d.p[i] ^= (uint8_t)(1 << bit);
			assert_int_not_equal(give(b, &d), VMP_SEAL_DATA);
			assert_false(in.authentic);
		}
	for (size_t len = 0; len < good.len; len++) {
		d = good;
		d.len = len;
		assert_int_not_equal(give(b, &d), VMP_SEAL_DATA);
	}
	d = good;
	d.len++;
	assert_int_equal(give(b, &d), VMP_SEAL_AUTH);
	assert_opens(b, &good, "payload");	/* none of it used up the counter */

	now += 100 * MS;
	h = hello(a, 2);
	for (size_t i = 0; i < h.len; i++) {
		d = h;
		d.p[i] ^= 1;
		assert_int_not_equal(give(b, &d), VMP_SEAL_HELLO);
		assert_false(in.authentic);
	}
	assert_int_equal(give(b, &h), VMP_SEAL_HELLO);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

static void causes(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram good, d;

	(void)state;
	meet(a, 1, b, 2);
	good = data(a, 2, "x");

	d = good;
	d.p[2] = VMP_SEAL_VERSION + 1;
	assert_int_equal(give(b, &d), VMP_SEAL_BAD_VERSION);
	assert_int_equal(in.from, 1);
	d.len = 6;	/* another version may be shorter */
	assert_int_equal(give(b, &d), VMP_SEAL_BAD_VERSION);
	d = good;
	d.p[3] = 3;
	assert_int_equal(give(b, &d), VMP_SEAL_GARBAGE);
	d = good;
	d.p[4] = 77;
	assert_int_equal(give(b, &d), VMP_SEAL_UNKNOWN);
	assert_int_equal(in.from, 0);
	d = good;
	d.p[4] = 2;	/* our own node */
	assert_int_equal(give(b, &d), VMP_SEAL_UNKNOWN);
	d = good;
	d.p[5] = 3;	/* for somebody else */
	assert_int_equal(give(b, &d), VMP_SEAL_UNKNOWN);
	d = good;
	d.p[4] = 3;	/* an insider's datagram under another name: no session, then no match */
	assert_int_equal(give(b, &d), VMP_SEAL_OLD_SESSION);
	d = good;
	d.p[6] = 9;
	assert_int_equal(give(b, &d), VMP_SEAL_KEY_ID);
	d.len = 0;
	assert_int_equal(give(b, &d), VMP_SEAL_GARBAGE);
	memset(d.p, 0, sizeof(d.p));
	d.len = sizeof(d.p);
	assert_int_equal(give(b, &d), VMP_SEAL_GARBAGE);
	/* A datagram of ours sent back to us. */
	d = data(b, 1, "mine");
	assert_int_equal(give(b, &d), VMP_SEAL_UNKNOWN);
	d.p[4] = 1;
	d.p[5] = 2;
	assert_int_equal(give(b, &d), VMP_SEAL_OLD_SESSION);
	for (unsigned int c = 0; c < VMP_SEAL_CAUSE_COUNT; c++)
		assert_true(strlen(vmp_seal_cause_str(c)) > 2);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

static void other_key_same_id(void **state)
{
	struct vmp_keys wrong = KEYS(0, 1);
	struct vmp_seal *a, *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d;

	(void)state;
	wrong.key[0].secret[31] ^= 1;
	a = seal_make(1, 0xa1, wrong);
	d = hello(a, 2);
	assert_int_equal(give(b, &d), VMP_SEAL_AUTH);
	assert_false(in.answer);
	d = hello(b, 1);
	assert_int_equal(give(a, &d), VMP_SEAL_AUTH);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

/* Rotation: add on both, send on one after the other, drop on both. Not a datagram is lost, no hello is needed. */
static void rotation(void **state)
{
	struct vmp_seal *s[2] = { seal_make(1, 0xa1, KEYS(0, 1)), seal_make(2, 0xb1, KEYS(0, 1)) };
	const struct {
		unsigned int end;
		struct vmp_keys keys;
	} steps[] = {
		{ 0, KEYS(0, 1, 2) }, { 1, KEYS(1, 2, 1) }, { 1, KEYS(1, 1, 2) }, { 0, KEYS(1, 1, 2) }, { 0, KEYS(0, 2) }, { 1, KEYS(0, 2) },
	};
	struct dgram before, d;

	(void)state;
	meet(s[0], 1, s[1], 2);
	before = data(s[0], 2, "under way with the old key");
	for (unsigned int i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		assert_int_equal(vmp_seal_set_keys(s[steps[i].end], &steps[i].keys), 0);
		for (unsigned int e = 0; e < 2; e++) {
			struct dgram again;

			d = data(s[e], (uint8_t)(2 - e), "x");
			assert_opens(s[!e], &d, "x");
			again = d;
			assert_int_equal(give(s[!e], &again), VMP_SEAL_DUPLICATE);
		}
		if (i == 3)
			assert_opens(s[1], &before, "under way with the old key");
	}
	d = data(s[0], 2, "x");
	assert_int_equal(d.p[6], 2);
	assert_int_equal(give(s[1], &before), VMP_SEAL_KEY_ID);
	/* A changed secret under the same id is another key. */
	struct vmp_keys other = KEYS(0, 2);

	other.key[0].secret[0] ^= 1;
	assert_int_equal(vmp_seal_set_keys(s[0], &other), 0);
	d = data(s[0], 2, "x");
	assert_int_equal(give(s[1], &d), VMP_SEAL_AUTH);
	other.count = 0;
	assert_int_equal(vmp_seal_set_keys(s[0], &other), -EINVAL);
	d = data(s[0], 2, "the set stayed");
	vmp_seal_free(s[0]);
	vmp_seal_free(s[1]);
}

/* A flood of whatever kind makes at most one hello per interval; a proof of freshness is answered all the same. */
static void flood_is_bounded(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram forged, recorded = hello(a, 2), d;
	unsigned int hellos = 0;
	struct dgram last = { .len = 0 };

	(void)state;
	meet(a, 1, b, 2);
	forged = data(a, 2, "x");
	forged.p[8] ^= 1;	/* an inc we do not have */
	now += 1000 * MS;
	for (unsigned int i = 0; i < 10000; i++) {
		now += 10000;	/* 100 kHz: 100 ms in all */
		assert_int_equal(give(b, i & 1 ? &forged : &recorded), i & 1 ? VMP_SEAL_OLD_SESSION : VMP_SEAL_HELLO);
		if (in.answer) {
			int n = vmp_seal_hello(b, 1, now, last.p, sizeof(last.p));

			if (n > 0) {
				last.len = (size_t)n;
				hellos++;
			}
		}
	}
	assert_in_range(hellos, 1, 100 / 2 + VMP_SEAL_HELLO_BURST);
	/* In the middle of it a restarted peer gets through with what the flood itself made us say. */
	struct vmp_seal *a2 = seal_make(1, 0xa2, KEYS(0, 1));

	assert_int_equal(give(a2, &last), VMP_SEAL_HELLO);
	assert_true(in.answer);
	d = hello(a2, 2);
	assert_int_equal(give(b, &d), VMP_SEAL_HELLO);
	assert_true(in.session_new);
	assert_true(in.answer);
	d = hello(b, 1);	/* asserts that it is not limited */
	assert_int_equal(give(a2, &d), VMP_SEAL_HELLO);
	assert_true(in.session_new);
	vmp_seal_free(a);
	vmp_seal_free(a2);
	vmp_seal_free(b);
}

static void peer_removed_and_back(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d, old;

	(void)state;
	meet(a, 1, b, 2);
	old = data(a, 2, "once");
	assert_opens(b, &old, "once");
	assert_int_equal(vmp_seal_peer_add(b, 1), -EEXIST);
	assert_int_equal(vmp_seal_peer_del(b, 1), 0);
	assert_int_equal(vmp_seal_peer_del(b, 1), -ENOENT);
	d = data(a, 2, "x");
	assert_int_equal(give(b, &d), VMP_SEAL_UNKNOWN);
	assert_int_equal(vmp_seal_peer_inc(b, 1), 0);
	assert_int_equal(vmp_seal_peer_add(b, 1), 0);
	assert_int_equal(give(b, &old), VMP_SEAL_DUPLICATE);
	assert_opens(b, &d, "x");
	vmp_seal_free(a);
	vmp_seal_free(b);
}

static void limits(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1)), *x = NULL;
	static uint8_t big[VMP_SEAL_MAX_PAYLOAD + 1];
	struct vmp_keys k = KEYS(0, 1);
	struct dgram d;
	int n;

	(void)state;
	assert_int_equal(vmp_seal_new(&x, 0, 1, &k, NULL, NULL), -EINVAL);
	assert_int_equal(vmp_seal_new(&x, 1, 0, &k, NULL, NULL), -EINVAL);
	assert_null(x);
	assert_int_equal(vmp_seal_peer_add(a, 0), -EINVAL);
	assert_int_equal(vmp_seal_peer_add(a, 1), -EINVAL);
	meet(a, 1, b, 2);
	assert_int_equal(vmp_seal_data(a, 2, now, big, sizeof(big), d.p, sizeof(d.p)), -EMSGSIZE);
	assert_int_equal(vmp_seal_data(a, 2, now, big, 10, d.p, 10 + VMP_SEAL_OVERHEAD - 1), -EMSGSIZE);
	assert_int_equal(vmp_seal_hello(a, 2, now, d.p, VMP_SEAL_HELLO_LEN - 1), -EMSGSIZE);
	n = vmp_seal_data(a, 2, now, big, VMP_SEAL_MAX_PAYLOAD, d.p, sizeof(d.p));
	assert_int_equal(n, VMP_SEAL_MAX_DATAGRAM);
	d.len = (size_t)n;
	assert_int_equal(give(b, &d), VMP_SEAL_DATA);
	assert_int_equal(in.len, VMP_SEAL_MAX_PAYLOAD);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

static void round_trip_time(void **state)
{
	struct vmp_seal *a = seal_make(1, 0xa1, KEYS(0, 1)), *b = seal_make(2, 0xb1, KEYS(0, 1));
	struct dgram d;

	(void)state;
	meet(a, 1, b, 2);
	assert_int_equal(vmp_seal_rtt_us(a, 2), 0);
	d = data(a, 2, "x");
	now += 300000;		/* there */
	assert_opens(b, &d, "x");
	now += 50 * MS;		/* held */
	d = data(b, 1, "y");
	now += 400000;		/* back */
	assert_opens(a, &d, "y");
	assert_in_range(vmp_seal_rtt_us(a, 2), 699, 701);
	vmp_seal_free(a);
	vmp_seal_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
		T(handshake), T(crossing_hellos), T(settings_differ), T(duplicates_and_order), T(window_against_model), T(restart_of_sender),
		T(restart_of_receiver), T(lost_last_hello), T(hello_keeps_the_window), T(keystreams_differ), T(altered), T(causes), T(other_key_same_id), T(rotation),
		T(flood_is_bounded), T(peer_removed_and_back), T(limits), T(round_trip_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
