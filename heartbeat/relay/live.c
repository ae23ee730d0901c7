/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heartbeat/relay/live.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "internal/cleanup.h"
#include "internal/endian.h"

/* payload: version (1), role (1), epoch (8), member (8), held (8) */
enum { WORD_VERSION = 1, WORD_LEN = 26 };

static void send_to_peer(struct vmpr_live *v, const uint8_t *p, int len)
{
	if (len > 0)
		(void)sendto(v->sock.fd, p, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&v->peer.ss, v->peer.len);
}

static void hello(struct vmpr_live *v)
{
	uint8_t out[VMP_SEAL_HELLO_LEN];

	send_to_peer(v, out, vmp_seal_hello(v->seal, v->node, v->ev->now_ns, out, sizeof(out)));
}

static void say(struct vmpr_live *v, const struct vmpr_word *own)
{
	uint8_t in[WORD_LEN], out[WORD_LEN + VMP_SEAL_OVERHEAD];
	int n;

	in[0] = WORD_VERSION;
	in[1] = own->role;
	put_le64(in + 2, own->epoch);
	put_le64(in + 10, own->member);
	put_le64(in + 18, own->held);
	n = vmp_seal_data(v->seal, v->node, v->ev->now_ns, in, sizeof(in), out, sizeof(out));
	if (n == -ENOTCONN)
		hello(v);
	else
		send_to_peer(v, out, n);
}

static void sock_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_live *v = vmpr_container(s, struct vmpr_live, sock);
	uint8_t buf[VMP_SEAL_MAX_DATAGRAM];
	struct vmp_seal_in in;

	(void)events;
	/* bounded: what is left is level-triggered */
	for (unsigned int i = 0; i < 64; i++) {
		ssize_t n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0)
			return;
		vmp_seal_open(v->seal, v->ev->now_ns, buf, (size_t)n, &in);
		if (vmp_seal_cause_is_refusal(in.cause) && in.cause != VMP_SEAL_OLD_SESSION) {
			v->refused++;
			v->refused_why = in.cause;
			v->news = true;
		}
		if (in.answer && in.from == v->node)
			hello(v);
		if (in.cause != VMP_SEAL_DATA || in.from != v->node || in.len < WORD_LEN || in.payload[0] != WORD_VERSION)
			continue;
		v->word = (struct vmpr_word){ .role = in.payload[1], .epoch = get_le64(in.payload + 2),
					      .member = get_le64(in.payload + 10), .held = get_le64(in.payload + 18) };
		v->heard = true;
		v->heard_ns = v->ev->now_ns;
	}
}

int vmpr_live_open(struct vmpr_live *v, struct vmpr_ev *ev, uint8_t self, const struct vmp_keys *keys, const struct vmpr_addr *bind_to,
		   uint16_t port, uint64_t interval_ns, uint64_t timeout_ns)
{
	struct vmpr_addr a = *bind_to;
	CLEANUP_CLOSE int fd = -1;
	uint64_t inc = 0;
	int r, one = 1;

	*v = (struct vmpr_live){ .ev = ev, .sock.fd = -1, .self = self, .interval_ns = interval_ns, .timeout_ns = timeout_ns };
	while (!inc)
		if (getrandom(&inc, sizeof(inc), 0) != sizeof(inc))
			return -EIO;
	r = vmp_seal_new(&v->seal, self, inc, keys, NULL, NULL);
	if (r < 0)
		return r;
	if (a.ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&a.ss)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)&a.ss)->sin_port = htons(port);
	fd = socket(a.ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a.ss, a.len) < 0)
		return -errno;
	r = vmpr_src_add(ev, &v->sock, fd, EPOLLIN, sock_event);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

void vmpr_live_close(struct vmpr_live *v)
{
	if (!v->ev)
		return;
	vmpr_src_close(v->ev, &v->sock);
	v->seal = vmp_seal_free(v->seal);
	v->ev = NULL;
}

void vmpr_live_peer(struct vmpr_live *v, uint8_t node, const struct vmpr_addr *peer)
{
	if (node == v->node && peer->len == v->peer.len && memcmp(&peer->ss, &v->peer.ss, peer->len) == 0)
		return;
	if (v->node && v->node != node)
		vmp_seal_peer_del(v->seal, v->node);
	if (node && v->node != node)
		vmp_seal_peer_add(v->seal, node);
	v->node = node;
	v->peer = *peer;
	v->heard = false;
	v->next_ns = 0;
}

int vmpr_live_keys(struct vmpr_live *v, const struct vmp_keys *keys)
{
	return vmp_seal_set_keys(v->seal, keys);
}

uint64_t vmpr_live_deadline(const struct vmpr_live *v)
{
	uint64_t at = v->node ? v->next_ns : VMPR_NEVER;

	if (v->heard && v->heard_ns + v->timeout_ns < at)
		at = v->heard_ns + v->timeout_ns;
	return at;
}

bool vmpr_live_tick(struct vmpr_live *v, const struct vmpr_word *own)
{
	uint64_t now = v->ev->now_ns;
	bool late = v->last_tick_ns && now - v->last_tick_ns > v->timeout_ns / 2, lost = false;

	v->last_tick_ns = now;
	if (late)
		v->heard_ns = now; /* we slept, or the machine did: the peer had no chance to be heard */
	if (v->node && now >= v->next_ns) {
		v->next_ns = v->next_ns && now - v->next_ns < v->interval_ns ? v->next_ns + v->interval_ns : now + v->interval_ns;
		say(v, own);
	}
	if (v->heard && now >= v->heard_ns + v->timeout_ns) {
		v->heard = false;
		lost = true;
	}
	return lost;
}
