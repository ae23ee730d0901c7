/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes are a schedule for two ends and an adversary who records, drops, delays, repeats, reorders, alters and invents datagrams,
 * while the ends restart and change keys. Always: what is delivered was sent by that peer, for this start of the receiver, arrives
 * at most once, and sessions never go back to an earlier start. At the end an undisturbed exchange must work.
 */
#include <errno.h>
#include <string.h>

#include "daemon/seal.h"
#include "internal/endian.h"
#include "tests/fuzz/fuzz.h"

#define RECORDED 64
#define SENT_MAX 1024

struct recorded {
	uint8_t p[VMP_SEAL_MAX_DATAGRAM];
	size_t len;
	unsigned int to;
};

static struct vmp_seal *end[2];
static uint64_t inc[2], session[2];	/* incs count up, so "earlier" is "smaller" */
static struct recorded rec[RECORDED];
static unsigned int n_rec;
static bool delivered[SENT_MAX];
static unsigned int n_sent;
static uint64_t now, prng;
static struct vmp_keys keys[3];

static void fuzz_random(void *ctx, uint8_t *buf, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		prng = prng * 6364136223846793005ULL + 1442695040888963407ULL;
		buf[i] = (uint8_t)(prng >> 56);
	}
}

static void start(unsigned int e)
{
	vmp_seal_free(end[e]);
	inc[e]++;
	session[e] = 0;
	MUST(vmp_seal_new(&end[e], (uint8_t)(e + 1), inc[e], &keys[0], fuzz_random, NULL) == 0);
	MUST(vmp_seal_peer_add(end[e], (uint8_t)(2 - e)) == 0);
}

static void record(unsigned int to, const uint8_t *p, int len)
{
	struct recorded *r;

	if (len <= 0)
		return;
	r = &rec[n_rec++ % RECORDED];
	memcpy(r->p, p, (size_t)len);
	r->len = (size_t)len;
	r->to = to;
}

static void say_hello(unsigned int from)
{
	uint8_t out[VMP_SEAL_MAX_DATAGRAM];
	int n = vmp_seal_hello(end[from], (uint8_t)(2 - from), now, out, sizeof(out));

	MUST(n == VMP_SEAL_HELLO_LEN || n == -EAGAIN);
	record(!from, out, n);
}

static bool say_data(unsigned int from)
{
	uint8_t plain[20], out[VMP_SEAL_MAX_DATAGRAM];
	int n;

	if (n_sent == SENT_MAX)
		return false;
	put_le32(plain, n_sent);
	put_le64(plain + 4, inc[from]);
	put_le64(plain + 12, vmp_seal_peer_inc(end[from], (uint8_t)(2 - from)));
	n = vmp_seal_data(end[from], (uint8_t)(2 - from), now, plain, sizeof(plain), out, sizeof(out));
	if (n < 0)
		return false;
	n_sent++;
	record(!from, out, n);
	return true;
}

/* Returns true when something was delivered. */
static bool receive(unsigned int to, const uint8_t *p, size_t len)
{
	static struct vmp_seal_in in;
	uint64_t peer;

	vmp_seal_open(end[to], now, p, len, &in);
	peer = vmp_seal_peer_inc(end[to], (uint8_t)(2 - to));
	MUST(in.cause < VMP_SEAL_CAUSE_COUNT);
	MUST(in.session_new == (peer != session[to]));
	MUST(peer >= session[to]);
	session[to] = peer;
	if (in.answer)
		say_hello(to);
	if (in.cause != VMP_SEAL_DATA)
		return false;
	MUST(in.authentic && in.from == 2 - to && in.len == 20);
	MUST(get_le32(in.payload) < n_sent && !delivered[get_le32(in.payload)]);
	delivered[get_le32(in.payload)] = true;
	MUST(get_le64(in.payload + 4) == peer);
	MUST(get_le64(in.payload + 12) == inc[to]);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t i = 0;

	if (size > 4096)
		return 0;
	memset(delivered, 0, sizeof(delivered));
	memset(rec, 0, sizeof(rec));
	n_rec = n_sent = 0;
	now = 1000000000;
	prng = 42;
	for (unsigned int k = 0; k < 3; k++) {
		keys[k] = (struct vmp_keys){ .count = k == 1 ? 2 : 1 };
		for (unsigned int j = 0; j < 2; j++) {
			keys[k].key[j].id = (uint16_t)(1 + (j ^ (k == 2)));
			memset(keys[k].key[j].secret, keys[k].key[j].id, VMP_KEY_LEN);
		}
	}
	inc[0] = inc[1] = 0;
	start(0);
	start(1);

#define NEXT (i < size ? data[i++] : 0)
	while (i < size) {
		uint8_t op = NEXT;
		unsigned int e = op & 1;
		struct recorded *r;

		switch (op >> 1 & 7) {
		case 0:
			say_hello(e);
			break;
		case 1:
			say_data(e);
			break;
		case 2:
		case 3:		/* deliver any recorded one, to whom it was for; it may be delivered again */
			r = &rec[NEXT % RECORDED];
			receive(r->to, r->p, r->len);
			break;
		case 4: {	/* altered, perhaps turned back to its sender */
			struct recorded m = rec[NEXT % RECORDED];
			uint8_t at = NEXT;

			if (m.len)
				m.p[at % m.len] ^= NEXT;
			if (op & 16)
				m.len = m.len ? m.len - 1 : 0;
			receive(op & 32 ? !m.to : m.to, m.p, m.len);
			break;
		}
		case 5: {	/* invented */
			size_t len = NEXT;

			if (len > size - i)
				len = size - i;
			receive(e, data + i, len);
			i += len;
			break;
		}
		case 6:
			if (op & 16)
				start(e);
			else
				MUST(vmp_seal_set_keys(end[e], &keys[(op >> 5) % 3]) == 0);
			break;
		case 7:
			now += (uint64_t)NEXT * 1000000;
			break;
		}
	}
#undef NEXT

	/* Heartbeats over an undisturbed network: after two intervals both directions work. */
	for (unsigned int e = 0; e < 2; e++)
		MUST(vmp_seal_set_keys(end[e], &keys[1]) == 0);
	bool ok[2] = { false, false };

	for (unsigned int hb = 0; hb < 3; hb++) {
		unsigned int todo = n_rec;

		now += 20000000;
		for (unsigned int e = 0; e < 2; e++)
			if (!say_data(e) && n_sent < SENT_MAX)
				say_hello(e);
		for (; todo < n_rec; todo++) {
			struct recorded r = rec[todo % RECORDED];
			bool got = receive(r.to, r.p, r.len);

			MUST(n_rec - todo < RECORDED);
			if (r.p[3] == 1)
				ok[r.to] = got;
		}
	}
	MUST((ok[0] && ok[1]) || n_sent == SENT_MAX);
	for (unsigned int e = 0; e < 2; e++)
		end[e] = vmp_seal_free(end[e]);
	return 0;
}
