/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heartbeat/relay/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/crypto.h>

#include "internal/cleanup.h"

#define ALPN "vmpair-sync/1"
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305:-GROUP-ALL:" \
	"+GROUP-X25519:+GROUP-SECP256R1"
#define HANDSHAKE_NS 3000000000u

enum {
	OPEN_MAX = 8,	       /* connections that have not proved the key */
	RECORD = 16384,	       /* largest TLS record */
	OUT_SIZE = 16 * 16640, /* sealed records on their way to the kernel */
	IN_SIZE = 65536,
	RETRY_MIN_MS = 20, RETRY_MAX_MS = 500,
	REFUSED_MIN_MS = 50, REFUSED_MAX_MS = 5000, REFUSED_FORGET_MS = 30000,
};

enum state { CONNECTING, HANDSHAKE, READY };

struct vmpr_conn {
	struct vmpr_src src;
	struct vmpr_tmo tmo;
	struct vmpr_dead dead;
	struct vmpr_link *l;
	struct vmpr_conn *next;
	enum state state;
	bool initiator, readable, writable, eof;
	gnutls_session_t tls;
	size_t in_start, in_end, out_start, out_end;
	uint8_t in[IN_SIZE], out[OUT_SIZE];
};

static void conn_close(struct vmpr_conn *c);

int vmpr_addr_parse(const char *text, uint16_t port, struct vmpr_addr *ret)
{
	struct addrinfo hint = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *ai;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(text, service, &hint, &ai) != 0)
		return -EINVAL;
	*ret = (struct vmpr_addr){ .len = ai->ai_addrlen };
	memcpy(&ret->ss, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(ai);
	return 0;
}

/* --- keys ------------------------------------------------------------------------------------------------------------ */
/* The file's secret also protects the datagrams: each use has a key of its own. */
static int psk_of(const struct vmp_key *key, uint8_t out[VMP_KEY_LEN])
{
	static uint8_t salt[] = "vmpair relay tls 1";
	uint8_t prk[32];
	gnutls_datum_t secret = { (uint8_t *)key->secret, sizeof(key->secret) }, salt_d = { salt, sizeof(salt) - 1 };
	gnutls_datum_t prk_d = { prk, sizeof(prk) }, info = { (uint8_t *)"psk", 3 };
	int r = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &secret, &salt_d, prk);

	if (r == 0)
		r = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &prk_d, &info, out, VMP_KEY_LEN);
	gnutls_memset(prk, 0, sizeof(prk));
	return r == 0 ? 0 : -ENOMEM;
}

static int server_psk(gnutls_session_t tls, const char *name, gnutls_datum_t *ret)
{
	const struct vmpr_conn *c = gnutls_session_get_ptr(tls);
	const struct vmp_keys *keys = c->l->keys;
	char id[8];

	for (unsigned int i = 0; i < keys->count; i++) {
		snprintf(id, sizeof(id), "%u", keys->key[i].id);
		if (strcmp(id, name) != 0)
			continue;
		ret->data = gnutls_malloc(VMP_KEY_LEN);
		ret->size = VMP_KEY_LEN;
		return ret->data && psk_of(&keys->key[i], ret->data) == 0 ? 0 : -1;
	}
	return -1;
}

int vmpr_link_keys(struct vmpr_link *l)
{
	const struct vmp_key *key = &l->keys->key[l->keys->send];
	gnutls_psk_client_credentials_t cred;
	uint8_t psk[VMP_KEY_LEN];
	gnutls_datum_t datum = { psk, sizeof(psk) };
	char id[8];
	int r = psk_of(key, psk);

	if (r < 0)
		return r;
	snprintf(id, sizeof(id), "%u", key->id);
	if (gnutls_psk_allocate_client_credentials(&cred) != 0)
		return -ENOMEM;
	r = gnutls_psk_set_client_credentials(cred, id, &datum, GNUTLS_PSK_KEY_RAW) == 0 ? 0 : -ENOMEM;
	gnutls_memset(psk, 0, sizeof(psk));
	if (r < 0) {
		gnutls_psk_free_client_credentials(cred);
		return r;
	}
	/* handshakes under way use the old one */
	for (struct vmpr_conn *c = l->open, *next; c; c = next) {
		next = c->next;
		if (c->initiator)
			conn_close(c);
	}
	if (l->client_cred)
		gnutls_psk_free_client_credentials(l->client_cred);
	l->client_cred = cred;
	return 0;
}

/* --- bytes between GnuTLS and the kernel ------------------------------------------------------------------------------- */
static ssize_t pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
	struct vmpr_conn *c = ptr;
	size_t n;

	if (c->in_start == c->in_end) {
		ssize_t got;

		c->in_start = c->in_end = 0;
		if (!c->readable) {
			gnutls_transport_set_errno(c->tls, EAGAIN);
			return c->eof ? 0 : -1;
		}
		do
			got = recv(c->src.fd, c->in, sizeof(c->in), 0);
		while (got < 0 && errno == EINTR);
		if (got <= 0) {
			c->readable = false;
			c->eof = got == 0;
			gnutls_transport_set_errno(c->tls, got < 0 ? errno : 0);
			return got;
		}
		c->in_end = (size_t)got;
		if (c->in_end < sizeof(c->in) && !c->eof)
			c->readable = false; /* drained: the next byte is a new edge */
	}
	n = c->in_end - c->in_start;
	if (n > len)
		n = len;
	memcpy(data, c->in + c->in_start, n);
	c->in_start += n;
	return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned int ms)
{
	const struct vmpr_conn *c = ptr;

	(void)ms;
	return c->in_start < c->in_end || c->readable ? 1 : 0;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
	struct vmpr_conn *c = ptr;

	if (len > sizeof(c->out) - c->out_end) {
		gnutls_transport_set_errno(c->tls, EAGAIN);
		return -1;
	}
	memcpy(c->out + c->out_end, data, len);
	c->out_end += len;
	return (ssize_t)len;
}

/* 0 or -errno of a broken connection. */
static int conn_write(struct vmpr_conn *c)
{
	while (c->writable && c->out_start < c->out_end) {
		ssize_t n = send(c->src.fd, c->out + c->out_start, c->out_end - c->out_start, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			c->writable = false;
		else if (n < 0)
			return -errno;
		else
			c->out_start += (size_t)n;
	}
	if (c->out_start == c->out_end) {
		c->out_start = c->out_end = 0;
	} else if (c->out_start > sizeof(c->out) / 2) {
		memmove(c->out, c->out + c->out_start, c->out_end - c->out_start);
		c->out_end -= c->out_start;
		c->out_start = 0;
	}
	return 0;
}

/* --- connections --------------------------------------------------------------------------------------------------------- */
static void conn_free(struct vmpr_dead *d)
{
	struct vmpr_conn *c = vmpr_container(d, struct vmpr_conn, dead);

	if (c->tls)
		gnutls_deinit(c->tls);
	free(c);
}

static void conn_close(struct vmpr_conn *c)
{
	struct vmpr_link *l = c->l;

	if (c->src.fd < 0)
		return;
	vmpr_tmo_stop(&c->tmo);
	vmpr_src_close(l->ev, &c->src);
	if (c == l->used)
		l->used = NULL;
	if (c == l->waiting)
		l->waiting = NULL;
	for (struct vmpr_conn **p = &l->open; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			l->n_open--;
			break;
		}
	vmpr_ev_defer(l->ev, &c->dead, conn_free);
}

static void conn_use(struct vmpr_conn *c);

static void conn_fail(struct vmpr_conn *c, const char *reason)
{
	struct vmpr_link *l = c->l;
	bool used = c == l->used && c->state == READY, said = c->state == HANDSHAKE || c->state == CONNECTING;

	conn_close(c);
	if (used)
		l->ops->down(l->ctx, reason);
	else if (said)
		l->ops->refused(l->ctx, reason);
	if (l->waiting && !l->used) {
		c = l->waiting;
		l->waiting = NULL;
		conn_use(c);
	}
}

static void conn_read(struct vmpr_conn *c)
{
	struct vmpr_link *l = c->l;
	uint8_t buf[RECORD];

	while (c == l->used && c->src.fd >= 0) {
		ssize_t n;

		if (!l->ops->wants(l->ctx)) {
			l->held = true;
			return;
		}
		n = gnutls_record_recv(c->tls, buf, sizeof(buf));
		if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
			if (!c->readable && c->in_start == c->in_end)
				return;
			continue;
		}
		if (n == 0) {
			conn_fail(c, "the peer closed the connection");
			return;
		}
		if (n < 0) {
			if (gnutls_error_is_fatal((int)n))
				conn_fail(c, gnutls_strerror((int)n));
			continue;
		}
		l->heard_ns = l->ev->now_ns;
		if (l->ops->input(l->ctx, buf, (size_t)n) < 0 && c == l->used)
			conn_fail(c, "the peer's records were refused");
	}
}

void vmpr_link_resume(struct vmpr_link *l)
{
	if (!l->held || !l->ops->wants(l->ctx))
		return;
	l->held = false;
	if (l->used)
		conn_read(l->used);
}

static void conn_use(struct vmpr_conn *c)
{
	struct vmpr_link *l = c->l;

	l->used = c;
	l->heard_ns = l->ev->now_ns;
	l->retry_ms = RETRY_MIN_MS;
	l->ops->up(l->ctx, c->initiator);
	if (c == l->used)
		conn_read(c);
}

static void conn_proved(struct vmpr_conn *c)
{
	struct vmpr_link *l = c->l;

	vmpr_tmo_stop(&c->tmo);
	c->state = READY;
	for (struct vmpr_conn **p = &l->open; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			l->n_open--;
			break;
		}
	if (!c->initiator && !l->serve) {
		conn_close(c);
		return;
	}
	if (c != l->used && l->used) {
		if (l->waiting)
			conn_close(l->waiting);
		l->waiting = c;
		return;
	}
	conn_use(c);
}

static void conn_handshake(struct vmpr_conn *c)
{
	gnutls_datum_t alpn;
	char text[160];
	int r;

	do
		r = gnutls_handshake(c->tls);
	while (r < 0 && !gnutls_error_is_fatal(r) && (c->readable || c->in_start < c->in_end));
	if (conn_write(c) < 0) {
		conn_fail(c, "the connection broke in the TLS handshake");
		return;
	}
	if (r == 0) {
		if (gnutls_alpn_get_selected_protocol(c->tls, &alpn) != 0) {
			conn_fail(c, "the peer does not speak " ALPN);
			return;
		}
		conn_proved(c);
		return;
	}
	if (!gnutls_error_is_fatal(r)) {
		if (c->eof)
			conn_fail(c, "the peer closed the connection in the TLS handshake");
		return;
	}
	if (r == GNUTLS_E_PULL_ERROR || r == GNUTLS_E_PUSH_ERROR || r == GNUTLS_E_PREMATURE_TERMINATION) {
		conn_fail(c, "the connection broke in the TLS handshake");
		return;
	}
	/* a wrong key shows itself here as a failed binder or a key the other side does not know */
	snprintf(text, sizeof(text), "TLS handshake failed (%s%s%s): is the relay's key the same on both nodes?", gnutls_strerror(r),
		 r == GNUTLS_E_FATAL_ALERT_RECEIVED ? ": " : "",
		 r == GNUTLS_E_FATAL_ALERT_RECEIVED ? gnutls_alert_get_name(gnutls_alert_get(c->tls)) : "");
	gnutls_alert_send_appropriate(c->tls, r);
	conn_write(c);
	conn_fail(c, text);
}

static void conn_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_conn *c = vmpr_container(s, struct vmpr_conn, src);
	struct vmpr_link *l = c->l;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & EPOLLOUT)
		c->writable = true;
	if (c->state == CONNECTING) {
		int err = 0;
		socklen_t len = sizeof(err);

		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err) {
			conn_fail(c, strerror(err));
			return;
		}
		c->state = HANDSHAKE;
	}
	if (c->state == HANDSHAKE) {
		conn_handshake(c);
	} else if (c == l->used) {
		conn_read(c);
		if (c == l->used && (events & EPOLLOUT))
			vmpr_link_flush(l);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		conn_close(c); /* the one that waited gave up */
	}
}

static void handshake_late(struct vmpr_tmo *t)
{
	conn_fail(vmpr_container(t, struct vmpr_conn, tmo), "no TLS handshake within 3 s");
}

/* Takes fd. */
static struct vmpr_conn *conn_new(struct vmpr_link *l, int fd, bool initiator)
{
	static const gnutls_datum_t alpn = { (unsigned char *)ALPN, sizeof(ALPN) - 1 };
	struct vmpr_conn *c = malloc(sizeof(*c));
	int one = 1;

	if (!c)
		goto fail;
	memset(c, 0, offsetof(struct vmpr_conn, in));
	c->l = l;
	c->initiator = initiator;
	c->state = initiator ? CONNECTING : HANDSHAKE;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (gnutls_init(&c->tls, (initiator ? GNUTLS_CLIENT : GNUTLS_SERVER) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
				 GNUTLS_NO_TICKETS) != 0) {
		c->tls = NULL;
		goto fail;
	}
	gnutls_session_set_ptr(c->tls, c);
	gnutls_handshake_set_timeout(c->tls, 0); /* ours is in the loop */
	if (gnutls_priority_set(c->tls, l->priority) != 0 ||
	    gnutls_credentials_set(c->tls, GNUTLS_CRD_PSK, initiator ? (void *)l->client_cred : (void *)l->server_cred) != 0 ||
	    gnutls_alpn_set_protocols(c->tls, &alpn, 1, GNUTLS_ALPN_MANDATORY) != 0)
		goto fail;
	gnutls_transport_set_ptr(c->tls, c);
	gnutls_transport_set_pull_function(c->tls, pull);
	gnutls_transport_set_pull_timeout_function(c->tls, pull_timeout);
	gnutls_transport_set_push_function(c->tls, push);
	if (vmpr_src_add(l->ev, &c->src, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, conn_event) < 0)
		goto fail;
	vmpr_tmo_arm(l->ev, &l->handshakes, &c->tmo);
	c->next = l->open;
	l->open = c;
	l->n_open++;
	return c;
fail:
	close(fd);
	if (c && c->tls)
		gnutls_deinit(c->tls);
	free(c);
	return NULL;
}

static void listener_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_link *l = vmpr_container(s, struct vmpr_link, listener);
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (!l->serve || l->n_open >= OPEN_MAX)
		close(fd);
	else
		conn_new(l, fd, false);
}

static void peer_connect(struct vmpr_link *l)
{
	int fd = socket(l->peer.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	l->retry_ms = l->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : l->retry_ms * 2;
	l->retry_at_ns = l->ev->now_ns + l->retry_ms * 1000000ull;
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&l->peer.ss, l->peer.len) < 0 && errno != EINPROGRESS) {
		l->ops->refused(l->ctx, strerror(errno));
		close(fd);
		return;
	}
	conn_new(l, fd, true);
}

/* --- the link -------------------------------------------------------------------------------------------------------------- */
static int set_port(struct vmpr_addr *a, uint16_t port)
{
	if (a->ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&a->ss)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)&a->ss)->sin_port = htons(port);
	return 0;
}

int vmpr_link_open(struct vmpr_link *l, struct vmpr_ev *ev, const struct vmp_keys *keys, const struct vmpr_addr *bind_to,
		   uint16_t port_min, uint16_t port_max, uint64_t silent_ns, const struct vmpr_link_ops *ops, void *ctx)
{
	int r = -EADDRINUSE, one = 1;

	*l = (struct vmpr_link){ .ev = ev, .ops = ops, .ctx = ctx, .keys = keys, .listener.fd = -1, .bind = *bind_to,
				 .silent_ns = silent_ns, .retry_ms = RETRY_MIN_MS };
	vmpr_tmo_list_add(ev, &l->handshakes, HANDSHAKE_NS, handshake_late);
	if (gnutls_psk_allocate_server_credentials(&l->server_cred) != 0 ||
	    gnutls_priority_init(&l->priority, PRIORITY, NULL) != 0)
		return -ENOMEM;
	gnutls_psk_set_server_credentials_function(l->server_cred, server_psk);
	r = vmpr_link_keys(l);
	if (r < 0)
		return r;
	for (unsigned int port = port_min; port <= port_max; port++) {
		CLEANUP_CLOSE int fd = socket(l->bind.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0)
			return -errno;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
		set_port(&l->bind, (uint16_t)port);
		if (bind(fd, (struct sockaddr *)&l->bind.ss, l->bind.len) < 0 || listen(fd, 16) < 0) {
			r = -errno;
			if (r == -EADDRINUSE)
				continue;
			return r;
		}
		r = vmpr_src_add(ev, &l->listener, fd, EPOLLIN, listener_event);
		if (r == 0) {
			(void)TAKE_FD(fd);
			l->port = (uint16_t)port;
		}
		return r;
	}
	return r;
}

void vmpr_link_drop(struct vmpr_link *l)
{
	if (l->used)
		conn_close(l->used);
}

void vmpr_link_close(struct vmpr_link *l)
{
	if (!l->ev)
		return;
	vmpr_link_drop(l);
	if (l->waiting)
		conn_close(l->waiting);
	while (l->open)
		conn_close(l->open);
	vmpr_src_close(l->ev, &l->listener);
	vmpr_ev_reap(l->ev);
	if (l->client_cred)
		gnutls_psk_free_client_credentials(l->client_cred);
	if (l->server_cred)
		gnutls_psk_free_server_credentials(l->server_cred);
	if (l->priority)
		gnutls_priority_deinit(l->priority);
	l->ev = NULL;
}

void vmpr_link_role(struct vmpr_link *l, bool serve, bool connect_)
{
	if (l->serve == serve && l->connect == connect_)
		return;
	l->serve = serve;
	l->connect = connect_;
	if (l->used) {
		conn_close(l->used);
		l->ops->down(l->ctx, "change of role");
	}
	if (l->waiting)
		conn_close(l->waiting);
	while (l->open)
		conn_close(l->open);
	l->retry_ms = RETRY_MIN_MS;
	l->retry_at_ns = 0;
}

void vmpr_link_refused(struct vmpr_link *l)
{
	uint64_t now = l->ev->now_ns;

	if (now - l->refused_ns > REFUSED_FORGET_MS * 1000000ull)
		l->refused_ms = 0;
	l->refused_ms = !l->refused_ms ? REFUSED_MIN_MS : l->refused_ms * 2 > REFUSED_MAX_MS ? REFUSED_MAX_MS : l->refused_ms * 2;
	l->refused_ns = now;
	l->retry_at_ns = now + l->refused_ms * 1000000ull;
}

void vmpr_link_peer(struct vmpr_link *l, const struct vmpr_addr *peer)
{
	if (l->peer.len == peer->len && memcmp(&l->peer.ss, &peer->ss, peer->len) == 0)
		return;
	l->peer = *peer;
	l->retry_ms = RETRY_MIN_MS;
	l->retry_at_ns = 0;
	for (struct vmpr_conn *c = l->open, *next; c; c = next) {
		next = c->next;
		if (c->initiator)
			conn_close(c);
	}
	if (l->used && l->used->initiator) {
		conn_close(l->used);
		l->ops->down(l->ctx, "another peer");
	}
}

void vmpr_link_flush(struct vmpr_link *l)
{
	struct vmpr_conn *c = l->used;

	if (!c || c->state != READY)
		return;
	for (;;) {
		const uint8_t *p;
		size_t len;

		/* seal as many records as there is room for, then write once */
		while (sizeof(c->out) - c->out_end > RECORD + 256) {
			ssize_t n;

			l->ops->output(l->ctx, &p, &len);
			if (len == 0)
				break;
			n = gnutls_record_send(c->tls, p, len > RECORD ? RECORD : len);
			if (n < 0) {
				conn_fail(c, gnutls_strerror((int)n));
				return;
			}
			l->ops->output_done(l->ctx, (size_t)n);
		}
		if (c->out_start == c->out_end)
			return;
		if (conn_write(c) < 0) {
			conn_fail(c, "the connection to the peer broke");
			return;
		}
		if (c->out_end > 0)
			return; /* the kernel's buffer is full: EPOLLOUT follows */
	}
}

uint64_t vmpr_link_deadline(const struct vmpr_link *l)
{
	uint64_t at = VMPR_NEVER;

	if (l->connect && l->peer.len && !l->used && !l->n_open)
		at = l->retry_at_ns;
	if (l->waiting && l->used && l->heard_ns + l->silent_ns / 2 < at)
		at = l->heard_ns + l->silent_ns / 2;
	return at;
}

void vmpr_link_tick(struct vmpr_link *l)
{
	if (l->waiting && l->used && l->ev->now_ns >= l->heard_ns + l->silent_ns / 2)
		conn_fail(l->used, "the peer was silent and has connected anew");
	if (l->connect && l->peer.len && !l->used && !l->n_open && l->ev->now_ns >= l->retry_at_ns)
		peer_connect(l);
}
