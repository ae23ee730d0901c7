/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Protection of the datagrams among daemons: bytes in, bytes out. No sockets, no clock (times are passed in, CLOCK_BOOTTIME
 * ns), no logging.
 *
 * Header, little-endian, in the clear and authenticated; the first five bytes keep their place in every version:
 *
 *     0 magic "VP"   2 version   3 type (1 data, 2 hello)   4 from   5 to   6 key id (2)
 *     8 inc of the sender (8)   16 inc of the receiver as the sender knows it, or 0 (8)   24 counter (8)
 *
 * data   AES-256-GCM over { send stamp us (4), echoed stamp (4), held us (4), payload }, tag 16. The key is derived (HKDF) from
 *        the file's key and (sender, its inc, receiver, its inc); an inc is a random number per start of a daemon, the counter
 *        never restarts within one, so a nonce is never used twice, and nothing sealed for another start of either side opens.
 * hello  flags (1), 3 zero bytes, settings (4), challenge (16), echo (16), HMAC-SHA-256 truncated to 16. Daemons whose settings differ
 *        (vmp_conf_lease_digest) never have a session: the lease of one would be longer than the other's guard. A receiver takes an inc of a peer
 *        for current only when a hello of that inc echoes its present challenge, which is used once. So an old start of a
 *        peer cannot be replayed at us, although its datagrams named our inc. A hello opens or keeps a session; it never
 *        resets the replay window of a session whose inc is unchanged.
 *
 * A is new: A hello(chA, wants answer) > B hello(chB, echo chA, wants answer) > A hello(echo chB). A may send data after one
 * round trip, B half a round trip later. A datagram that names an inc we do not have makes us say hello (rate-limited), so a
 * restart of either side heals at the next datagram in either direction.
 *
 * A datagram sent over two links arrives twice: the second is VMP_SEAL_DUPLICATE, which is normal. Window: 1024 counters per peer.
 * Cost of garbage: no state and no memory. What is not authenticated can at most make us say a hello to the address configured
 * for a peer (never to the source), one per VMP_SEAL_HELLO_MIN_NS; these hellos carry our present challenge, so a flood cannot keep
 * two daemons from meeting: a hello that echoes the challenge is answered without limit, and each challenge only once.
 *
 * Ownership: an opaque object that copies the keys and wipes them. One thread.
 */
#ifndef VMP_SEAL_H
#define VMP_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/keys.h"

#define VMP_SEAL_VERSION 1
#define VMP_SEAL_MAX_NODE 255
#define VMP_SEAL_HEADER 32
#define VMP_SEAL_STAMPS 12
#define VMP_SEAL_TAG 16
#define VMP_SEAL_OVERHEAD (VMP_SEAL_HEADER + VMP_SEAL_STAMPS + VMP_SEAL_TAG)
#define VMP_SEAL_HELLO_LEN (VMP_SEAL_HEADER + 8 + 16 + 16 + VMP_SEAL_TAG)
#define VMP_SEAL_MAX_PAYLOAD 1300
#define VMP_SEAL_MAX_DATAGRAM (VMP_SEAL_MAX_PAYLOAD + VMP_SEAL_OVERHEAD)
#define VMP_SEAL_HELLO_MIN_NS 2000000ULL	/* hellos to one peer are this far apart in the mean */
#define VMP_SEAL_HELLO_BURST 8

/* What became of a received datagram. Stable names by vmp_seal_cause_str(). */
#define VMP_SEAL_CAUSES(X) \
	X(DATA,		"data",			"payload delivered") \
	X(HELLO,	"hello",		"handshake step taken") \
	X(DUPLICATE,	"duplicate",		"seen before: the copy of another link") \
	X(GARBAGE,	"garbage",		"not a datagram of vmpair") \
	X(BAD_VERSION,	"version",		"a different protocol version: bring the nodes to the same release") \
	X(UNKNOWN,	"unknown-node",		"sender or receiver node is not one of ours") \
	X(KEY_ID,	"unknown-key",		"key id not in the key file: old key, or the new one was not added here") \
	X(AUTH,		"wrong-key",		"authentication failed: the key differs from ours under the same id, or the datagram was altered") \
	X(SETTINGS,	"settings",		"lease_ms or clock_error differ from ours: they must be the same on all nodes and on the witness") \
	X(OLD_SESSION,	"old-session",		"made for an earlier start of this or the other daemon") \
	X(REPLAY,	"replay",		"counter below the replay window")

enum vmp_seal_cause {
#define X(id, str, help) VMP_SEAL_##id,
	VMP_SEAL_CAUSES(X)
#undef X
	VMP_SEAL_CAUSE_COUNT
};

const char *vmp_seal_cause_str(enum vmp_seal_cause cause);
const char *vmp_seal_cause_help(enum vmp_seal_cause cause);

/* True for the causes an operator should hear of. */
bool vmp_seal_cause_is_refusal(enum vmp_seal_cause cause);

struct vmp_seal;

/* Fills n random bytes; the default is gnutls_rnd. Tests pass a deterministic one. */
typedef void (*vmp_seal_random_fn)(void *ctx, uint8_t *buf, size_t n);

/* self 1..255, inc random and not 0. random may be NULL. */
int vmp_seal_new(struct vmp_seal **ret, uint8_t self, uint64_t inc, const struct vmp_keys *keys,
		 vmp_seal_random_fn random, void *random_ctx);
struct vmp_seal *vmp_seal_free(struct vmp_seal *s);
/* Before the first hello; 0 when never called. */
void vmp_seal_set_settings(struct vmp_seal *s, uint32_t settings);

/* New set of keys at run time: sessions, counters and windows live on. On failure the old set stays. */
int vmp_seal_set_keys(struct vmp_seal *s, const struct vmp_keys *keys);

/* -EEXIST / -ENOENT. A removed peer is unknown; its counters are kept aside, so adding it again lets nothing old pass. */
int vmp_seal_peer_add(struct vmp_seal *s, uint8_t node);
int vmp_seal_peer_del(struct vmp_seal *s, uint8_t node);

/* Payload into a datagram for `to`; returns its length. -ENOTCONN: no session yet, send a hello instead; -ENOENT no such
 * peer; -EMSGSIZE. out holds VMP_SEAL_OVERHEAD more bytes than the payload. */
int vmp_seal_data(struct vmp_seal *s, uint8_t to, uint64_t now_ns, const uint8_t *payload, size_t len,
		  uint8_t *out, size_t cap);

/* A hello for `to`; returns its length, or -EAGAIN when one left too recently. */
int vmp_seal_hello(struct vmp_seal *s, uint8_t to, uint64_t now_ns, uint8_t *out, size_t cap);

struct vmp_seal_in {
	enum vmp_seal_cause cause;
	uint8_t from;		/* claimed sender when it is a peer, else 0 */
	bool authentic;		/* the sender is proved to hold the key */
	bool session_new;	/* a session with a new inc of this peer began with this datagram */
	bool answer;		/* send vmp_seal_hello() to `from` now */
	uint64_t peer_inc;	/* session_new: its inc */
	size_t len;		/* VMP_SEAL_DATA: payload length */
	const uint8_t *payload;	/* into buf */
	uint8_t buf[VMP_SEAL_STAMPS + VMP_SEAL_MAX_PAYLOAD];
};

/* Total: any bytes. Everything but buf is set. */
void vmp_seal_open(struct vmp_seal *s, uint64_t now_ns, const uint8_t *in, size_t len, struct vmp_seal_in *ret);

/* Inc of the peer's present session, 0 when there is none. */
uint64_t vmp_seal_peer_inc(const struct vmp_seal *s, uint8_t node);

/* Round trip of the newest sample in us, own clock only; 0 when unknown. */
uint32_t vmp_seal_rtt_us(const struct vmp_seal *s, uint8_t node);

#endif
