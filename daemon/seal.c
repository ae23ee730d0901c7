/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/seal.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "internal/cleanup.h"
#include "internal/endian.h"

#define TYPE_DATA 1
#define TYPE_HELLO 2
#define HELLO_WANT 1		/* flag: please answer */
#define CHALLENGE 16
#define SETTINGS_TELL_NS 1000000000ULL
#define WINDOW_WORDS 17		/* one word more than the window, so that moving on never clears live bits */
#define WINDOW 1024ULL
#define STAMP_MAX_US 60000000U	/* older stamps are not echoed */

/* Offsets of the header; those below OFF_KEY are the same in every version. */
enum { OFF_VERSION = 2, OFF_TYPE = 3, OFF_FROM = 4, OFF_TO = 5, OFF_KEY = 6, OFF_INC = 8, OFF_TO_INC = 16, OFF_COUNTER = 24 };

struct direction {
	gnutls_aead_cipher_hd_t aead;	/* made at first use, per session */
	gnutls_hmac_hd_t mac;		/* hellos; made at first use */
	uint8_t iv[4];
};

struct slot {			/* what belongs to one key and one peer */
	struct direction rx, tx;
};

struct peer {
	bool active;		/* a removed peer keeps its counters and window: added again, nothing old may pass */
	uint64_t inc;		/* proved by echo; 0: no session */
	bool suspect;		/* something named another inc since */
	uint64_t tx_counter;	/* last used; never restarts, whatever the session or key */
	uint64_t rx_top;	/* highest counter opened */
	uint64_t window[WINDOW_WORDS];
	uint8_t challenge[CHALLENGE];		/* ours, used once */
	uint8_t peer_challenge[CHALLENGE];	/* newest one of theirs; zero: none */
	uint64_t hello_credit_ns, hello_at_ns;	/* token bucket */
	uint64_t settings_told_ns;	/* its settings differ: last time it was answered with ours */
	bool free_hello;	/* the next hello answers a proof of freshness: not limited */
	uint32_t stamp;		/* newest stamp of theirs and when it came, for the round trip */
	uint64_t stamp_at_ns;
	uint32_t rtt_us;
	struct slot slot[VMP_KEYS_MAX];		/* index as in keys */
};

struct vmp_seal {
	uint8_t self;
	uint64_t inc;
	struct vmp_keys keys;
	vmp_seal_random_fn random;
	void *random_ctx;
	uint32_t settings;
	struct peer *peer[VMP_SEAL_MAX_NODE + 1];
};

const char *vmp_seal_cause_str(enum vmp_seal_cause cause)
{
	switch (cause) {
#define X(id, str, help) case VMP_SEAL_##id: return str;
	VMP_SEAL_CAUSES(X)
#undef X
	case VMP_SEAL_CAUSE_COUNT:
		break;
	}
	return "?";
}

const char *vmp_seal_cause_help(enum vmp_seal_cause cause)
{
	switch (cause) {
#define X(id, str, help) case VMP_SEAL_##id: return help;
	VMP_SEAL_CAUSES(X)
#undef X
	case VMP_SEAL_CAUSE_COUNT:
		break;
	}
	return "?";
}

bool vmp_seal_cause_is_refusal(enum vmp_seal_cause cause)
{
	return cause != VMP_SEAL_DATA && cause != VMP_SEAL_HELLO && cause != VMP_SEAL_DUPLICATE;
}

static void default_random(void *ctx, uint8_t *buf, size_t n)
{
	(void)ctx;
	/* GnuTLS fails here only when the system gives no randomness at all; going on without it would be unsafe. */
	if (gnutls_rnd(GNUTLS_RND_NONCE, buf, n) != 0)
		abort();
}

static void direction_end_session(struct direction *d)
{
	if (d->aead)
		gnutls_aead_cipher_deinit(d->aead);
	d->aead = NULL;
	gnutls_memset(d->iv, 0, sizeof(d->iv));
}

static void slot_done(struct slot *sl)
{
	direction_end_session(&sl->rx);
	direction_end_session(&sl->tx);
	if (sl->rx.mac)
		gnutls_hmac_deinit(sl->rx.mac, NULL);
	if (sl->tx.mac)
		gnutls_hmac_deinit(sl->tx.mac, NULL);
	memset(sl, 0, sizeof(*sl));
}

/* HKDF with one salt for this protocol; `info` tells the use. */
static int derive(const struct vmp_key *key, const void *info, size_t info_len, uint8_t *out, size_t out_len)
{
	static uint8_t salt[] = "vmpair udp 1";
	uint8_t prk[32];
	gnutls_datum_t secret = { (uint8_t *)key->secret, sizeof(key->secret) };
	gnutls_datum_t salt_d = { salt, sizeof(salt) - 1 };
	gnutls_datum_t prk_d = { prk, sizeof(prk) };
	gnutls_datum_t info_d = { (uint8_t *)info, (unsigned int)info_len };
	int r;

	r = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &secret, &salt_d, prk);
	if (r == 0)
		r = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &prk_d, &info_d, out, out_len);
	gnutls_memset(prk, 0, sizeof(prk));
	return r == 0 ? 0 : -ENOMEM;
}

/* Key of data from (from, from_inc) to (to, to_inc). */
static int direction_aead(struct direction *d, const struct vmp_key *key, uint8_t from, uint64_t from_inc, uint8_t to, uint64_t to_inc)
{
	uint8_t info[4 + 2 + 16] = "data", out[32 + 4];
	gnutls_datum_t k = { out, 32 };
	int r;

	if (d->aead)
		return 0;
	info[4] = from;
	info[5] = to;
	put_le64(info + 6, from_inc);
	put_le64(info + 14, to_inc);
	r = derive(key, info, sizeof(info), out, sizeof(out));
	if (r == 0) {
		if (gnutls_aead_cipher_init(&d->aead, GNUTLS_CIPHER_AES_256_GCM, &k) != 0) {
			d->aead = NULL;
			r = -ENOMEM;
		} else {
			memcpy(d->iv, out + 32, 4);
		}
	}
	gnutls_memset(out, 0, sizeof(out));
	return r;
}

static int direction_mac(struct direction *d, const struct vmp_key *key, uint8_t from, uint8_t to)
{
	uint8_t info[5 + 2] = "hello", out[32];
	int r;

	if (d->mac)
		return 0;
	info[5] = from;
	info[6] = to;
	r = derive(key, info, sizeof(info), out, sizeof(out));
	if (r == 0 && gnutls_hmac_init(&d->mac, GNUTLS_MAC_SHA256, out, sizeof(out)) != 0) {
		d->mac = NULL;
		r = -ENOMEM;
	}
	gnutls_memset(out, 0, sizeof(out));
	return r;
}

static int hello_mac(struct direction *d, const uint8_t *p, uint8_t tag[VMP_SEAL_TAG])
{
	uint8_t full[32];

	if (gnutls_hmac(d->mac, p, VMP_SEAL_HELLO_LEN - VMP_SEAL_TAG) != 0)
		return -ENOMEM;
	gnutls_hmac_output(d->mac, full);	/* also resets for the next one */
	memcpy(tag, full, VMP_SEAL_TAG);
	return 0;
}

static void nonce_make(const struct direction *d, uint64_t counter, uint8_t nonce[12])
{
	memcpy(nonce, d->iv, 4);
	put_le64(nonce + 4, counter);
}

static void header_put(uint8_t *p, uint8_t type, uint8_t from, uint8_t to, uint16_t key_id, uint64_t inc, uint64_t to_inc,
		       uint64_t counter)
{
	p[0] = 'V';
	p[1] = 'P';
	p[OFF_VERSION] = VMP_SEAL_VERSION;
	p[OFF_TYPE] = type;
	p[OFF_FROM] = from;
	p[OFF_TO] = to;
	put_le16(p + OFF_KEY, key_id);
	put_le64(p + OFF_INC, inc);
	put_le64(p + OFF_TO_INC, to_inc);
	put_le64(p + OFF_COUNTER, counter);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */
static bool keys_valid(const struct vmp_keys *keys)
{
	return keys->count >= 1 && keys->count <= VMP_KEYS_MAX && keys->send < keys->count;
}

int vmp_seal_new(struct vmp_seal **ret, uint8_t self, uint64_t inc, const struct vmp_keys *keys,
		 vmp_seal_random_fn random, void *random_ctx)
{
	struct vmp_seal *s;

	if (self == 0 || inc == 0 || !keys_valid(keys))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->self = self;
	s->inc = inc;
	s->keys = *keys;
	s->random = random ? random : default_random;
	s->random_ctx = random_ctx;
	*ret = s;
	return 0;
}

void vmp_seal_set_settings(struct vmp_seal *s, uint32_t settings)
{
	s->settings = settings;
}

static void peer_free(struct peer *p)
{
	if (!p)
		return;
	for (unsigned int i = 0; i < VMP_KEYS_MAX; i++)
		slot_done(&p->slot[i]);
	gnutls_memset(p, 0, sizeof(*p));
	free(p);
}

struct vmp_seal *vmp_seal_free(struct vmp_seal *s)
{
	if (!s)
		return NULL;
	for (unsigned int i = 0; i <= VMP_SEAL_MAX_NODE; i++)
		peer_free(s->peer[i]);
	vmp_keys_wipe(&s->keys);
	free(s);
	return NULL;
}

int vmp_seal_set_keys(struct vmp_seal *s, const struct vmp_keys *keys)
{
	int old_of[VMP_KEYS_MAX];	/* index before of the key that is now at i, or -1 */
	bool kept[VMP_KEYS_MAX] = { false };

	if (!keys_valid(keys))
		return -EINVAL;
	for (unsigned int i = 0; i < VMP_KEYS_MAX; i++) {
		int old = i < keys->count ? vmp_keys_find(&s->keys, keys->key[i].id) : -1;

		if (old >= 0 && gnutls_memcmp(s->keys.key[old].secret, keys->key[i].secret, VMP_KEY_LEN) != 0)
			old = -1;
		old_of[i] = old;
		if (old >= 0)
			kept[old] = true;
	}
	for (unsigned int n = 0; n <= VMP_SEAL_MAX_NODE; n++) {
		struct slot slot[VMP_KEYS_MAX] = { 0 };
		struct peer *p = s->peer[n];

		if (!p)
			continue;
		for (unsigned int i = 0; i < VMP_KEYS_MAX; i++) {
			if (old_of[i] >= 0)
				slot[i] = p->slot[old_of[i]];
			if (!kept[i])
				slot_done(&p->slot[i]);
		}
		memcpy(p->slot, slot, sizeof(slot));
	}
	vmp_keys_wipe(&s->keys);
	s->keys = *keys;
	return 0;
}

static struct peer *peer_get(const struct vmp_seal *s, uint8_t node)
{
	return s->peer[node] && s->peer[node]->active ? s->peer[node] : NULL;
}

int vmp_seal_peer_add(struct vmp_seal *s, uint8_t node)
{
	struct peer *p;

	if (node == 0 || node == s->self)
		return -EINVAL;
	p = s->peer[node];
	if (p) {
		if (p->active)
			return -EEXIST;
		p->active = true;
		return 0;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	s->random(s->random_ctx, p->challenge, sizeof(p->challenge));
	p->hello_credit_ns = VMP_SEAL_HELLO_BURST * VMP_SEAL_HELLO_MIN_NS;
	p->active = true;
	s->peer[node] = p;
	return 0;
}

int vmp_seal_peer_del(struct vmp_seal *s, uint8_t node)
{
	if (!peer_get(s, node))
		return -ENOENT;
	s->peer[node]->active = false;
	return 0;
}

uint64_t vmp_seal_peer_inc(const struct vmp_seal *s, uint8_t node)
{
	const struct peer *p = peer_get(s, node);

	return p ? p->inc : 0;
}

uint32_t vmp_seal_rtt_us(const struct vmp_seal *s, uint8_t node)
{
	const struct peer *p = peer_get(s, node);

	return p ? p->rtt_us : 0;
}

/* --- sending --------------------------------------------------------------------------------------------------------- */
static uint32_t stamp_of(uint64_t now_ns)
{
	uint32_t us = (uint32_t)(now_ns / 1000);

	return us ? us : 1;	/* 0 means none */
}

int vmp_seal_data(struct vmp_seal *s, uint8_t to, uint64_t now_ns, const uint8_t *payload, size_t len,
		  uint8_t *out, size_t cap)
{
	uint8_t plain[VMP_SEAL_STAMPS + VMP_SEAL_MAX_PAYLOAD], nonce[12];
	size_t clen = cap > VMP_SEAL_HEADER ? cap - VMP_SEAL_HEADER : 0;
	struct peer *p = peer_get(s, to);
	const struct vmp_key *key = &s->keys.key[s->keys.send];
	struct direction *d;
	int r;

	if (!p)
		return -ENOENT;
	if (len > VMP_SEAL_MAX_PAYLOAD || cap < len + VMP_SEAL_OVERHEAD)
		return -EMSGSIZE;
	if (!p->inc)
		return -ENOTCONN;
	d = &p->slot[s->keys.send].tx;
	r = direction_aead(d, key, s->self, s->inc, to, p->inc);
	if (r < 0)
		return r;
	put_le32(plain, stamp_of(now_ns));
	memset(plain + 4, 0, 8);
	if (p->stamp && now_ns >= p->stamp_at_ns && (now_ns - p->stamp_at_ns) / 1000 < STAMP_MAX_US) {
		put_le32(plain + 4, p->stamp);
		put_le32(plain + 8, (uint32_t)((now_ns - p->stamp_at_ns) / 1000));
	}
	memcpy(plain + VMP_SEAL_STAMPS, payload, len);
	header_put(out, TYPE_DATA, s->self, to, key->id, s->inc, p->inc, ++p->tx_counter);
	nonce_make(d, p->tx_counter, nonce);
	if (gnutls_aead_cipher_encrypt(d->aead, nonce, sizeof(nonce), out, VMP_SEAL_HEADER, VMP_SEAL_TAG,
				       plain, len + VMP_SEAL_STAMPS, out + VMP_SEAL_HEADER, &clen) != 0)
		return -EIO;
	assert(clen == len + VMP_SEAL_STAMPS + VMP_SEAL_TAG);
	return (int)(VMP_SEAL_HEADER + clen);
}

/* Token bucket: one hello per VMP_SEAL_HELLO_MIN_NS, bursts of VMP_SEAL_HELLO_BURST. */
static bool hello_allowed(struct peer *p, uint64_t now_ns)
{
	const uint64_t full = VMP_SEAL_HELLO_BURST * VMP_SEAL_HELLO_MIN_NS;
	uint64_t gone = now_ns > p->hello_at_ns ? now_ns - p->hello_at_ns : 0;

	if (p->free_hello) {
		p->free_hello = false;
		return true;
	}
	p->hello_credit_ns = gone >= full - p->hello_credit_ns ? full : p->hello_credit_ns + gone;
	if (gone)
		p->hello_at_ns = now_ns;
	if (p->hello_credit_ns < VMP_SEAL_HELLO_MIN_NS)
		return false;
	p->hello_credit_ns -= VMP_SEAL_HELLO_MIN_NS;
	return true;
}

int vmp_seal_hello(struct vmp_seal *s, uint8_t to, uint64_t now_ns, uint8_t *out, size_t cap)
{
	struct peer *p = peer_get(s, to);
	const struct vmp_key *key = &s->keys.key[s->keys.send];
	struct direction *d;
	uint8_t *q = out + VMP_SEAL_HEADER;
	int r;

	if (!p)
		return -ENOENT;
	if (cap < VMP_SEAL_HELLO_LEN)
		return -EMSGSIZE;
	if (!hello_allowed(p, now_ns))
		return -EAGAIN;
	d = &p->slot[s->keys.send].tx;
	r = direction_mac(d, key, s->self, to);
	if (r < 0)
		return r;
	header_put(out, TYPE_HELLO, s->self, to, key->id, s->inc, p->inc, 0);
	memset(q, 0, 8);
	q[0] = !p->inc || p->suspect ? HELLO_WANT : 0;
	put_le32(q + 4, s->settings);
	memcpy(q + 8, p->challenge, CHALLENGE);
	memcpy(q + 8 + CHALLENGE, p->peer_challenge, CHALLENGE);
	r = hello_mac(d, out, q + 8 + 2 * CHALLENGE);
	return r < 0 ? r : VMP_SEAL_HELLO_LEN;
}

/* --- receiving ------------------------------------------------------------------------------------------------------- */
/* Of `counter`: VMP_SEAL_DATA when it is new, else why not. Changes nothing. */
static enum vmp_seal_cause window_check(const struct peer *p, uint64_t counter)
{
	if (counter > p->rx_top)
		return VMP_SEAL_DATA;
	if (p->rx_top - counter >= WINDOW)
		return VMP_SEAL_REPLAY;
	return p->window[(counter / 64) % WINDOW_WORDS] >> (counter % 64) & 1 ? VMP_SEAL_DUPLICATE : VMP_SEAL_DATA;
}

static void window_take(struct peer *p, uint64_t counter)
{
	if (counter > p->rx_top) {
		uint64_t from = p->rx_top / 64, to = counter / 64;

		if (to - from >= WINDOW_WORDS)
			memset(p->window, 0, sizeof(p->window));
		else
			for (uint64_t w = from + 1; w <= to; w++)
				p->window[w % WINDOW_WORDS] = 0;
		p->rx_top = counter;
	}
	p->window[(counter / 64) % WINDOW_WORDS] |= 1ULL << (counter % 64);
}

static void session_begin(struct peer *p, uint64_t inc)
{
	for (unsigned int i = 0; i < VMP_KEYS_MAX; i++) {
		direction_end_session(&p->slot[i].rx);
		direction_end_session(&p->slot[i].tx);
	}
	p->inc = inc;
	p->rx_top = 0;
	memset(p->window, 0, sizeof(p->window));
	p->stamp = 0;
	p->rtt_us = 0;
}

static enum vmp_seal_cause open_hello(struct vmp_seal *s, struct peer *p, unsigned int key, uint64_t now_ns, const uint8_t *in,
				      size_t len, struct vmp_seal_in *ret)
{
	static const uint8_t zero[CHALLENGE];
	const uint8_t *q = in + VMP_SEAL_HEADER, *challenge = q + 8, *echo = challenge + CHALLENGE, *tag = echo + CHALLENGE;
	uint64_t inc = get_le64(in + OFF_INC);
	uint8_t mac[VMP_SEAL_TAG];

	if (len != VMP_SEAL_HELLO_LEN || get_le64(in + OFF_COUNTER) != 0 || inc == 0)
		return VMP_SEAL_GARBAGE;
	if (direction_mac(&p->slot[key].rx, &s->keys.key[key], ret->from, s->self) < 0 || hello_mac(&p->slot[key].rx, in, mac) < 0)
		return VMP_SEAL_AUTH;
	if (gnutls_memcmp(mac, tag, sizeof(mac)) != 0)
		return VMP_SEAL_AUTH;
	/* From here on the sender holds the key; whether it speaks now or spoke once, only the echo tells. */
	ret->authentic = true;
	if (get_le32(q + 4) != s->settings) {
		/* so that both sides can tell; without end they would answer each other */
		if (!p->settings_told_ns || now_ns - p->settings_told_ns >= SETTINGS_TELL_NS) {
			p->settings_told_ns = now_ns;
			ret->answer = true;
		}
		return VMP_SEAL_SETTINGS;
	}
	if (memcmp(challenge, zero, CHALLENGE) != 0)
		memcpy(p->peer_challenge, challenge, CHALLENGE);
	if (gnutls_memcmp(echo, p->challenge, CHALLENGE) == 0) {
		s->random(s->random_ctx, p->challenge, CHALLENGE);
		p->suspect = false;
		p->free_hello = q[0] & HELLO_WANT;
		if (inc != p->inc) {
			session_begin(p, inc);
			ret->session_new = true;
			ret->peer_inc = inc;
		}
	} else if (inc != p->inc) {
		p->suspect = true;
	}
	ret->answer = q[0] & HELLO_WANT;
	return VMP_SEAL_HELLO;
}

static enum vmp_seal_cause open_data(struct vmp_seal *s, struct peer *p, unsigned int key, uint64_t now_ns,
				     const uint8_t *in, size_t len, struct vmp_seal_in *ret)
{
	uint64_t counter = get_le64(in + OFF_COUNTER);
	struct direction *d = &p->slot[key].rx;
	size_t plen = sizeof(ret->buf);
	enum vmp_seal_cause cause;
	uint32_t echoed, held;
	uint8_t nonce[12];

	if (get_le64(in + OFF_TO_INC) != s->inc || get_le64(in + OFF_INC) != p->inc || !p->inc) {
		/* One of us started anew and the other does not know yet, or it is a replay; a hello settles which. */
		if (get_le64(in + OFF_INC) != p->inc)
			p->suspect = true;
		ret->answer = true;
		return VMP_SEAL_OLD_SESSION;
	}
	cause = window_check(p, counter);
	if (cause != VMP_SEAL_DATA)
		return cause;
	if (direction_aead(d, &s->keys.key[key], ret->from, p->inc, s->self, s->inc) < 0)
		return VMP_SEAL_AUTH;
	nonce_make(d, counter, nonce);
	if (gnutls_aead_cipher_decrypt(d->aead, nonce, sizeof(nonce), in, VMP_SEAL_HEADER, VMP_SEAL_TAG, in + VMP_SEAL_HEADER,
				       len - VMP_SEAL_HEADER, ret->buf, &plen) != 0 || plen < VMP_SEAL_STAMPS)
		return VMP_SEAL_AUTH;
	window_take(p, counter);
	ret->authentic = true;
	ret->payload = ret->buf + VMP_SEAL_STAMPS;
	ret->len = plen - VMP_SEAL_STAMPS;
	p->stamp = get_le32(ret->buf);
	p->stamp_at_ns = now_ns;
	echoed = get_le32(ret->buf + 4);
	held = get_le32(ret->buf + 8);
	if (echoed) {
		uint32_t all = stamp_of(now_ns) - echoed;

		if (all < STAMP_MAX_US && held <= all)
			p->rtt_us = all - held ? all - held : 1;
	}
	return VMP_SEAL_DATA;
}

void vmp_seal_open(struct vmp_seal *s, uint64_t now_ns, const uint8_t *in, size_t len, struct vmp_seal_in *ret)
{
	struct peer *p;
	int key;

	ret->cause = VMP_SEAL_GARBAGE;
	ret->from = 0;
	ret->authentic = ret->session_new = ret->answer = false;
	ret->peer_inc = 0;
	ret->len = 0;
	ret->payload = ret->buf;

	if (len <= OFF_TO || len > VMP_SEAL_MAX_DATAGRAM || in[0] != 'V' || in[1] != 'P')
		return;
	p = peer_get(s, in[OFF_FROM]);
	if (p)
		ret->from = in[OFF_FROM];
	if (in[OFF_VERSION] != VMP_SEAL_VERSION) {
		ret->cause = VMP_SEAL_BAD_VERSION;
		return;
	}
	if (len < VMP_SEAL_OVERHEAD || (in[OFF_TYPE] != TYPE_DATA && in[OFF_TYPE] != TYPE_HELLO))
		return;
	if (!p || in[OFF_TO] != s->self) {
		ret->cause = VMP_SEAL_UNKNOWN;
		return;
	}
	key = vmp_keys_find(&s->keys, get_le16(in + OFF_KEY));
	if (key < 0)
		ret->cause = VMP_SEAL_KEY_ID;
	else if (in[OFF_TYPE] == TYPE_HELLO)
		ret->cause = open_hello(s, p, (unsigned int)key, now_ns, in, len, ret);
	else
		ret->cause = open_data(s, p, (unsigned int)key, now_ns, in, len, ret);
}
