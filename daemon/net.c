/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "internal/cleanup.h"

#define RX_BATCH 32
#define RX_SIZE (VMP_SEAL_MAX_DATAGRAM + 1)	/* one more, so that a longer one is seen to be too long */
#define OLD_SESSION_GRACE_NS 1000000000ULL	/* a restart of either side explains them for so long */
#define OLD_SESSION_GAP_NS 5000000000ULL	/* after so long without any a new streak begins */
#define RCVBUF (1024 * 1024)			/* the kernel doubles it; about 2700 of the smallest datagrams */

struct limit {			/* one report per VMP_NET_REPORT_NS */
	uint64_t next_ns;
	uint64_t count;
};

struct peer {
	uint8_t node;
	bool waits;		/* in vmp_net.waiting */
	size_t joined_len;
	uint8_t joined[VMP_SEAL_MAX_PAYLOAD];	/* messages that leave in one datagram */
	struct vmp_net_addr addr[VMP_NET_LINKS];
	struct vmp_net_peer_stats stats;
	struct limit limit[VMP_NET_CAUSE_COUNT];
	uint64_t old_first_ns, old_last_ns;	/* streak of VMP_SEAL_OLD_SESSION */
};

struct sock {
	int fd;
	int family;
};

struct tx {			/* one datagram on one link */
	struct peer *peer;
	unsigned int link;
};

struct queue {			/* what goes out by one socket with one call */
	unsigned int count;
	struct mmsghdr hdr[VMP_NET_PEERS * VMP_NET_LINKS];
	struct iovec iov[VMP_NET_PEERS * VMP_NET_LINKS];
	struct tx tx[VMP_NET_PEERS * VMP_NET_LINKS];
};

struct vmp_net {
	struct vmp_seal *seal;
	struct vmp_net_ops ops;
	void *ctx;
	uint64_t (*now_ns)(void);
	int epfd;
	unsigned int sock_count;
	struct sock sock[VMP_NET_LINKS];
	uint16_t port;
	bool dispatching;
	unsigned int waiting_count;
	struct peer *waiting[VMP_NET_PEERS];	/* with something joined */
	unsigned int peer_count;
	struct peer *peer[VMP_SEAL_MAX_NODE + 1];
	struct peer nobody;	/* statistics of what belongs to no peer */

	/* Buffers; sending and receiving have their own, a callback may send while a batch is being worked off. */
	struct queue queue[VMP_NET_LINKS];
	uint8_t out[VMP_NET_PEERS][VMP_SEAL_MAX_DATAGRAM];
	struct vmp_seal_in in;
	struct vmp_msg msg;
	struct mmsghdr rx_hdr[RX_BATCH];
	struct iovec rx_iov[RX_BATCH];
	struct sockaddr_storage rx_from[RX_BATCH];
	uint8_t rx[RX_BATCH][RX_SIZE];
};

const char *vmp_net_cause_str(unsigned int cause)
{
	switch (cause) {
	case VMP_NET_DECODE:
		return "malformed";
	case VMP_NET_SEND:
		return "cannot-send";
	default:
		return vmp_seal_cause_str((enum vmp_seal_cause)cause);
	}
}

static uint64_t boottime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* --- addresses ---------------------------------------------------------------------------------------------------------- */
int vmp_net_addr_parse(const char *text, uint16_t port, struct vmp_net_addr *ret)
{
	struct vmp_net_addr a = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a.ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a.ss;
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE];
	char *scope;

	if (strlen(text) >= sizeof(host))
		return -EINVAL;
	strcpy(host, text);
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		a.len = sizeof(*v4);
		*ret = a;
		return 0;
	}
	scope = strchr(host, '%');
	if (scope)
		*scope++ = '\0';
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
		return -EINVAL;
	if (scope) {
		v6->sin6_scope_id = if_nametoindex(scope);
		if (!v6->sin6_scope_id)
			return -EINVAL;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	a.len = sizeof(*v6);
	*ret = a;
	return 0;
}

void vmp_net_addr_str(const struct vmp_net_addr *a, char *buf, size_t size)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->ss;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->ss;
	char host[INET6_ADDRSTRLEN], name[IF_NAMESIZE];

	if (a->len && a->ss.ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
		snprintf(buf, size, "%s:%u", host, ntohs(v4->sin_port));
	else if (a->len && a->ss.ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
		snprintf(buf, size, "[%s%s%s]:%u", host, v6->sin6_scope_id ? "%" : "",
			 v6->sin6_scope_id && if_indextoname(v6->sin6_scope_id, name) ? name : "", ntohs(v6->sin6_port));
	else
		snprintf(buf, size, "?");
}

/* Ports apart. */
static bool same_host(const struct vmp_net_addr *a, const struct sockaddr_storage *b)
{
	if (!a->len || a->ss.ss_family != b->ss_family)
		return false;
	if (b->ss_family == AF_INET)
		return ((const struct sockaddr_in *)&a->ss)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return memcmp(&((const struct sockaddr_in6 *)&a->ss)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 16) == 0;
}

/* --- sockets ------------------------------------------------------------------------------------------------------------- */
static void set_int(int fd, int level, int name, int value)
{
	/* Each of these only improves things; none is needed. */
	(void)!setsockopt(fd, level, name, &value, sizeof(value));
}

/* explicit_bind: the address may appear later (FREEBIND). */
static int sock_open(const struct vmp_net_addr *a, bool explicit_bind, int *ret_fd)
{
	CLEANUP_CLOSE int fd = -1;
	int one = 1, size = RCVBUF;

	fd = socket(a->ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (a->ss.ss_family == AF_INET6) {
		if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
			return -errno;
		set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, IPTOS_CLASS_CS6);
		if (explicit_bind)
			set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
	} else {
		set_int(fd, IPPROTO_IP, IP_TOS, IPTOS_CLASS_CS6);
		if (explicit_bind)
			set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
	}
	set_int(fd, SOL_SOCKET, SO_PRIORITY, 6);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, size);
	if (bind(fd, (const struct sockaddr *)&a->ss, a->len) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static uint16_t sock_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return 0;
	return ntohs(ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port : ((struct sockaddr_in6 *)&ss)->sin6_port);
}

static void set_port(struct vmp_net_addr *a, uint16_t port)
{
	if (a->ss.ss_family == AF_INET)
		((struct sockaddr_in *)&a->ss)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)&a->ss)->sin6_port = htons(port);
}

static int socks_open(struct vmp_net *n, const struct vmp_net_param *param, char *reason, size_t size)
{
	struct vmp_net_addr addr[VMP_NET_LINKS];
	unsigned int count = param->bind_count;
	struct epoll_event ev = { .events = EPOLLIN };
	char text[80];

	if (count > VMP_NET_LINKS) {
		snprintf(reason, size, "more than %d local addresses", VMP_NET_LINKS);
		return -EINVAL;
	}
	memcpy(addr, param->bind, sizeof(addr));
	if (!count) {
		vmp_net_addr_parse("0.0.0.0", param->port, &addr[0]);
		vmp_net_addr_parse("::", param->port, &addr[1]);
		count = 2;
	}
	n->port = param->port;
	for (unsigned int i = 0; i < count; i++) {
		struct sock *s = &n->sock[n->sock_count];
		int r;

		set_port(&addr[i], n->port);
		r = sock_open(&addr[i], param->bind_count > 0, &s->fd);
		if (r == -EAFNOSUPPORT && !param->bind_count)
			continue;	/* a kernel without IPv6 (or IPv4) */
		if (r < 0) {
			vmp_net_addr_str(&addr[i], text, sizeof(text));
			snprintf(reason, size, "cannot use UDP address %s: %s%s", text, strerror(-r), r == -EADDRINUSE ?
				 " (does another vmpaird run? else choose another port on all nodes)" : "");
			return r;
		}
		s->family = addr[i].ss.ss_family;
		n->sock_count++;
		n->port = sock_port(s->fd);
		ev.data.u32 = i;
		if (epoll_ctl(n->epfd, EPOLL_CTL_ADD, s->fd, &ev) < 0) {
			r = -errno;
			snprintf(reason, size, "epoll: %s", strerror(-r));
			return r;
		}
	}
	if (!n->sock_count) {
		snprintf(reason, size, "the kernel has neither IPv4 nor IPv6");
		return -EAFNOSUPPORT;
	}
	return 0;
}

int vmp_net_new(struct vmp_net **ret, const struct vmp_net_param *param, const struct vmp_net_ops *ops, void *ctx,
		char *reason, size_t reason_size)
{
	struct vmp_net *n = calloc(1, sizeof(*n));
	int r;

	if (!n) {
		snprintf(reason, reason_size, "out of memory");
		return -ENOMEM;
	}
	n->epfd = -1;
	n->ops = *ops;
	n->ctx = ctx;
	n->now_ns = param->now_ns ? param->now_ns : boottime_ns;
	for (unsigned int i = 0; i < RX_BATCH; i++) {
		n->rx_iov[i] = (struct iovec){ n->rx[i], sizeof(n->rx[i]) };
		n->rx_hdr[i].msg_hdr.msg_iov = &n->rx_iov[i];
		n->rx_hdr[i].msg_hdr.msg_iovlen = 1;
		n->rx_hdr[i].msg_hdr.msg_name = &n->rx_from[i];
	}
	r = vmp_seal_new(&n->seal, param->self, param->inc, param->keys, NULL, NULL);
	if (r < 0)
		snprintf(reason, reason_size, "keys: %s", strerror(-r));
	if (r == 0) {
		vmp_seal_set_settings(n->seal, param->settings);
		n->epfd = epoll_create1(EPOLL_CLOEXEC);
		if (n->epfd < 0) {
			r = -errno;
			snprintf(reason, reason_size, "epoll: %s", strerror(-r));
		}
	}
	if (r == 0)
		r = socks_open(n, param, reason, reason_size);
	if (r < 0) {
		vmp_net_free(n);
		return r;
	}
	*ret = n;
	return 0;
}

struct vmp_net *vmp_net_free(struct vmp_net *n)
{
	if (!n)
		return NULL;
	for (unsigned int i = 0; i < n->sock_count; i++)
		close(n->sock[i].fd);
	if (n->epfd >= 0)
		close(n->epfd);
	for (unsigned int i = 0; i <= VMP_SEAL_MAX_NODE; i++)
		free(n->peer[i]);
	vmp_seal_free(n->seal);
	free(n);
	return NULL;
}

int vmp_net_fd(const struct vmp_net *n)
{
	return n->epfd;
}

uint16_t vmp_net_port(const struct vmp_net *n)
{
	return n->port;
}

int vmp_net_set_keys(struct vmp_net *n, const struct vmp_keys *keys)
{
	return vmp_seal_set_keys(n->seal, keys);
}

static unsigned int leave(struct vmp_net *n, int *ret_err);

/* --- peers --------------------------------------------------------------------------------------------------------------- */
int vmp_net_peer_set(struct vmp_net *n, uint8_t node, const struct vmp_net_addr *addr, unsigned int count)
{
	struct peer *p = n->peer[node];
	int r;

	if (count < 1 || count > VMP_NET_LINKS)
		return -EINVAL;
	for (unsigned int i = 0; i < count; i++)
		if (addr[i].ss.ss_family != AF_INET && addr[i].ss.ss_family != AF_INET6)
			return -EINVAL;
	if (!p) {
		if (n->peer_count == VMP_NET_PEERS)
			return -ENOSPC;
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		r = vmp_seal_peer_add(n->seal, node);
		if (r < 0) {
			free(p);
			return r;
		}
		p->node = node;
		n->peer[node] = p;
		n->peer_count++;
	}
	for (unsigned int i = 0; i < VMP_NET_LINKS; i++) {
		struct vmp_net_addr a = { 0 };

		if (i < count)
			a = addr[i];
		if (memcmp(&a, &p->addr[i], sizeof(a)) != 0)
			memset(&p->stats.link[i], 0, sizeof(p->stats.link[i]));
		p->addr[i] = a;
	}
	p->stats.links = count;
	return 0;
}

int vmp_net_peer_del(struct vmp_net *n, uint8_t node)
{
	int err = 0;

	if (!n->peer[node])
		return -ENOENT;
	leave(n, &err);
	vmp_seal_peer_del(n->seal, node);
	free(n->peer[node]);
	n->peer[node] = NULL;
	n->peer_count--;
	return 0;
}

int vmp_net_peer_stats(const struct vmp_net *n, uint8_t node, struct vmp_net_peer_stats *ret)
{
	const struct peer *p = node ? n->peer[node] : &n->nobody;

	if (!p)
		return -ENOENT;
	*ret = p->stats;
	if (node) {
		ret->inc = vmp_seal_peer_inc(n->seal, node);
		ret->rtt_us = vmp_seal_rtt_us(n->seal, node);
	}
	return 0;
}

/* Count, and report at most once per interval: at once the first time, later with what came in between. */
static void refuse(struct vmp_net *n, struct peer *p, unsigned int cause, int err, uint64_t now, const struct sockaddr_storage *ss,
		   socklen_t len)
{
	struct limit *l = &p->limit[cause];
	struct vmp_net_addr a = { .len = len };
	char text[80];

	l->count++;
	if (now < l->next_ns || !n->ops.report)
		return;
	if (len)
		memcpy(&a.ss, ss, len);
	vmp_net_addr_str(&a, text, sizeof(text));
	l->next_ns = now + VMP_NET_REPORT_NS;
	n->ops.report(n->ctx, p->node, cause, l->count, err, text);
	l->count = 0;
}

/* A few datagrams for an earlier start are normal when a daemon was restarted; only those that keep coming are told. */
static bool old_session_persists(struct peer *p, uint64_t now)
{
	if (!p->old_last_ns || now - p->old_last_ns > OLD_SESSION_GAP_NS)
		p->old_first_ns = now;
	p->old_last_ns = now;
	return now - p->old_first_ns >= OLD_SESSION_GRACE_NS;
}

/* --- sending -------------------------------------------------------------------------------------------------------------- */
static int sock_for(const struct vmp_net *n, unsigned int link, int family)
{
	if (link < n->sock_count && n->sock[link].family == family)
		return (int)link;
	for (unsigned int i = 0; i < n->sock_count; i++)
		if (n->sock[i].family == family)
			return (int)i;
	return -EAFNOSUPPORT;
}

static void tx_failed(struct vmp_net *n, struct peer *p, unsigned int link, int err)
{
	p->stats.link[link].tx_errors++;
	p->stats.causes[VMP_NET_SEND]++;
	refuse(n, p, VMP_NET_SEND, err, n->now_ns(), &p->addr[link].ss, p->addr[link].len);
}

/* One sealed datagram onto the queues of all links of the peer. */
static void enqueue(struct vmp_net *n, struct peer *p, uint8_t *buf, size_t len)
{
	for (unsigned int link = 0; link < p->stats.links; link++) {
		int s = sock_for(n, link, p->addr[link].ss.ss_family);
		struct queue *q;
		unsigned int i;

		if (s < 0) {
			tx_failed(n, p, link, s);
			continue;
		}
		q = &n->queue[s];
		i = q->count++;
		q->iov[i] = (struct iovec){ buf, len };
		q->tx[i] = (struct tx){ p, link };
		q->hdr[i].msg_hdr = (struct msghdr){
			.msg_name = &p->addr[link].ss, .msg_namelen = p->addr[link].len, .msg_iov = &q->iov[i], .msg_iovlen = 1,
		};
	}
}

/* Returns the number of datagrams that left; *ret_err gets the last error. */
static unsigned int flush(struct vmp_net *n, int *ret_err)
{
	unsigned int sent = 0;

	for (unsigned int s = 0; s < n->sock_count; s++) {
		struct queue *q = &n->queue[s];
		unsigned int i = 0;

		while (i < q->count) {
			int r = sendmmsg(n->sock[s].fd, &q->hdr[i], q->count - i, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (r < 0 && errno == EINTR)
				continue;
			if (r <= 0) {
				/* It failed at the first of the rest; go on behind it. */
				*ret_err = r < 0 ? -errno : -EIO;
				tx_failed(n, q->tx[i].peer, q->tx[i].link, *ret_err);
				i++;
				continue;
			}
			for (; r > 0; r--, i++) {
				q->tx[i].peer->stats.link[q->tx[i].link].tx++;
				sent++;
			}
		}
		q->count = 0;
	}
	return sent;
}

static int send_hello(struct vmp_net *n, struct peer *p)
{
	int err = 0;
	int len = vmp_seal_hello(n->seal, p->node, n->now_ns(), n->out[0], sizeof(n->out[0]));

	if (len < 0)
		return len;
	enqueue(n, p, n->out[0], (size_t)len);
	return flush(n, &err) ? 0 : err;
}

/* What was joined leaves, with one call per socket. Returns the number of datagrams. */
static unsigned int leave(struct vmp_net *n, int *ret_err)
{
	unsigned int used = 0;
	uint64_t now;

	if (!n->waiting_count)
		return 0;
	now = n->now_ns();
	for (unsigned int i = 0; i < n->waiting_count; i++) {
		struct peer *p = n->waiting[i];
		int r = vmp_seal_data(n->seal, p->node, now, p->joined, p->joined_len, n->out[used], sizeof(n->out[used]));

		p->waits = false;
		p->joined_len = 0;
		if (r < 0)
			*ret_err = r;	/* its session ended meanwhile; a loss like any other */
		else
			enqueue(n, p, n->out[used++], (size_t)r);
	}
	n->waiting_count = 0;
	return flush(n, ret_err);
}

/* Joins a message to what waits for the peer. -ENOTCONN: no session, a hello left instead. */
static int join(struct vmp_net *n, struct peer *p, const uint8_t *plain, size_t len)
{
	int err = 0;

	if (!vmp_seal_peer_inc(n->seal, p->node)) {
		send_hello(n, p);
		return -ENOTCONN;
	}
	if (p->joined_len + len > sizeof(p->joined))
		leave(n, &err);
	if (!p->waits)
		n->waiting[n->waiting_count++] = p;
	p->waits = true;
	memcpy(p->joined + p->joined_len, plain, len);
	p->joined_len += len;
	p->stats.tx++;
	return 0;
}

int vmp_net_send_many(struct vmp_net *n, const uint8_t *to, unsigned int count, const struct vmp_msg *msg)
{
	uint8_t plain[VMP_WIRE_MAX];
	unsigned int reached = 0;
	int len, err = 0;

	len = vmp_wire_encode(msg, plain, sizeof(plain));
	if (len < 0)
		return len;
	for (unsigned int i = 0; i < count; i++)
		if (n->peer[to[i]] && join(n, n->peer[to[i]], plain, (size_t)len) == 0)
			reached++;
	if (!n->dispatching)
		leave(n, &err);
	return (int)reached;
}

int vmp_net_send(struct vmp_net *n, uint8_t to, const struct vmp_msg *msg)
{
	uint8_t plain[VMP_WIRE_MAX];
	struct peer *p = n->peer[to];
	int len, r, err = 0;

	if (!p)
		return -ENOENT;
	len = vmp_wire_encode(msg, plain, sizeof(plain));
	if (len < 0)
		return len;
	r = join(n, p, plain, (size_t)len);
	if (r < 0 || n->dispatching)
		return r;
	return leave(n, &err) ? 0 : err;
}

/* --- receiving ------------------------------------------------------------------------------------------------------------- */
static void take(struct vmp_net *n, const uint8_t *buf, size_t len, const struct sockaddr_storage *ss, socklen_t sslen)
{
	struct vmp_seal_in *in = &n->in;
	uint64_t now = n->now_ns();	/* V1: after it left the socket */
	const uint8_t *payload;
	struct peer *p;
	int r;

	vmp_seal_open(n->seal, now, buf, len, in);
	p = in->from ? n->peer[in->from] : &n->nobody;
	p->stats.causes[in->cause]++;
	for (unsigned int i = 0; i < p->stats.links; i++)
		if (same_host(&p->addr[i], ss) && (in->authentic || in->cause == VMP_SEAL_DUPLICATE)) {
			p->stats.link[i].rx++;
			p->stats.link[i].last_rx_ns = now;
			break;
		}
	if (in->authentic)
		p->stats.last_rx_ns = now;
	if (in->session_new)
		p->old_last_ns = 0;
	if (vmp_seal_cause_is_refusal(in->cause) && (in->cause != VMP_SEAL_OLD_SESSION || old_session_persists(p, now)))
		refuse(n, p, in->cause, 0, now, ss, sslen);
	/* The hello goes first: what the owner sends from its callback needs it to be understood. */
	if (in->answer)
		send_hello(n, p);
	if (in->session_new && n->ops.session)
		n->ops.session(n->ctx, p->node, in->peer_inc);
	if (in->cause != VMP_SEAL_DATA)
		return;
	payload = in->payload;
	while (in->len && n->peer[in->from] == p) {	/* the owner may have removed it */
		r = vmp_wire_next(&payload, &in->len, &n->msg);
		if (r < 0) {
			p->stats.causes[VMP_NET_DECODE]++;
			refuse(n, p, VMP_NET_DECODE, r, now, ss, sslen);
			return;
		}
		p->stats.rx++;
		n->ops.message(n->ctx, p->node, now, &n->msg);
	}
}

int vmp_net_dispatch(struct vmp_net *n)
{
	bool dry[VMP_NET_LINKS] = { false };
	unsigned int left = n->sock_count, taken = 0;
	int err = 0;

	/* From within a callback: the outer call goes on draining, and its buffers are in use. */
	if (n->dispatching)
		return 0;
	n->dispatching = true;
	while (left && taken < VMP_NET_DRAIN_MAX) {
		for (unsigned int s = 0; s < n->sock_count; s++) {
			int r;

			if (dry[s])
				continue;
			for (unsigned int i = 0; i < RX_BATCH; i++)
				n->rx_hdr[i].msg_hdr.msg_namelen = sizeof(n->rx_from[i]);
			r = recvmmsg(n->sock[s].fd, n->rx_hdr, RX_BATCH, MSG_DONTWAIT, NULL);
			if (r < 0) {
				if (errno == EINTR)
					continue;
				if (errno != EAGAIN)
					err = -errno;
				dry[s] = true;
				left--;
				continue;
			}
			for (int i = 0; i < r; i++)
				take(n, n->rx[i], n->rx_hdr[i].msg_len, &n->rx_from[i], n->rx_hdr[i].msg_hdr.msg_namelen);
			leave(n, &err);
			taken += (unsigned int)r;
			/* No short cut on a short batch: more may have come while the callbacks ran. */
		}
	}
	n->dispatching = false;
	return taken || !err ? (int)taken : err;
}
