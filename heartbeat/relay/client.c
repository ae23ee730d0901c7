/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients: accepting, taking requests apart, recording them, and letting answers out.
 *
 * A client's answers leave in the order of its requests: whatever the relay answers by itself (a refusal, a stored answer)
 * waits until nothing of that client is under way. What is read lies in one buffer for all; only what is left of an incomplete
 * request, and answers that may not leave yet, are kept per client.
 */
#include "heartbeat/relay/relay.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal/cleanup.h"

enum { RUN_READS = 8, LINGER_MS = 2000, SETTLE_MS = 200, IN_MIN = 2048, IOV = 16 };
enum timer { T_NONE, T_REQUEST, T_IDLE, T_SEND, T_LINGER };

struct vmpr_client {
	struct vmpr_src src;
	struct vmpr_tmo tmo, settle;
	struct vmpr_dead dead;
	struct vmpr_service *sv;
	struct vmpr_client *prev, *next;		  /* all */
	struct vmpr_client *dnext, *anext, *bnext, *wnext; /* dirty, again, blocked, waiters of one request */
	uint64_t conn;
	uint32_t seq, refs; /* refs: marks and lists that name it */
	uint8_t timer;
	bool gone, readable, writable, hup, eof, final, closing, /* final: no request follows */
	      lingering, is_dirty, is_again, is_blocked;
	struct vmpr_req *first, **last; /* under way or answered, in order */
	unsigned int under_way;
	struct vmpr_req *waits; /* for the answer to the same id */
	char *in;
	size_t in_len, in_cap, in_seen; /* in_seen: the parser has seen so many of them and wants more */
	struct vmp_frame_req st;
	const char *interim;
	size_t interim_len;
	struct vmpr_queue out;
	uint64_t total, sent, allowed; /* offsets in what goes to the client */
	uint32_t marks;
	struct vmpr_backend *tunnel, *stopped;
	struct vmpr_backend *be; /* has requests of this client under way, where the framing allows several */
	unsigned int parked;	 /* of its requests, not given to a backend yet */
};

static void client_close(struct vmpr_client *c, bool in_order);
static void client_timer(struct vmpr_client *c);
static void client_failure(struct vmpr_client *c, enum vmp_refuse why, uint64_t number);
static bool client_can_parse(const struct vmpr_client *c);

/* --- requests as the relay keeps them ---------------------------------------------------------------------------------- */
static unsigned int id_bucket(uint64_t conn, uint32_t seq)
{
	return (unsigned int)((conn * 0x9e3779b97f4a7c15u + seq * 0x85ebca6bu) >> 32) % VMPR_ID_BUCKETS;
}

struct vmpr_req *vmpr_req_find(struct vmpr_relay *r, uint64_t conn, uint32_t seq)
{
	struct vmpr_req *req = r->ids[id_bucket(conn, seq)];

	while (req && (req->conn != conn || req->seq != seq))
		req = req->hnext;
	return req;
}

struct vmpr_req *vmpr_req_new(struct vmpr_service *sv, uint64_t conn, uint32_t seq, uint32_t flags, uint32_t swallow)
{
	struct vmpr_relay *r = sv->r;
	struct vmpr_req *req = r->free_reqs;

	if (req)
		r->free_reqs = req->next;
	else
		req = malloc(sizeof(*req));
	if (!req)
		return NULL;
	*req = (struct vmpr_req){ .service = sv, .conn = conn, .seq = seq, .flags = flags, .swallow = swallow,
				  .since_ns = r->ev.now_ns };
	if (flags & VMP_UNIT_HAS_ID) {
		struct vmpr_req **b = &r->ids[id_bucket(conn, seq)];

		req->hashed = true;
		req->hnext = *b;
		*b = req;
	}
	r->in_flight++;
	return req;
}

static void req_unhash(struct vmpr_req *req)
{
	struct vmpr_req **p = &req->service->r->ids[id_bucket(req->conn, req->seq)];

	if (!req->hashed)
		return;
	while (*p != req)
		p = &(*p)->hnext;
	*p = req->hnext;
	req->hashed = false;
}

void vmpr_req_free(struct vmpr_req *req)
{
	struct vmpr_relay *r = req->service->r;

	req_unhash(req);
	if (req->state != VMPR_REQ_ANSWERED)
		r->in_flight--;
	req->next = r->free_reqs;
	r->free_reqs = req;
}

struct vmpr_req *vmpr_req_of(struct vmpr_relay *r, const struct vmpair_entry *e)
{
	struct vmp_frame_req st = { 0 };
	struct vmp_unit unit;
	int n;

	if (e->service >= r->conf.n_services)
		return NULL;
	/* the first calls may only say what a waiting client would have been told */
	do
		n = vmp_frame_request(&st, &r->service[e->service].frame, e->data, e->len, &unit);
	while (n == 0 && unit.interim_len);
	return n == 1 ? vmpr_req_new(&r->service[e->service], e->conn, e->seq, unit.flags, unit.swallow) : NULL;
}

/* --- lists --------------------------------------------------------------------------------------------------------------- */
static void client_free(struct vmpr_dead *d)
{
	free(vmpr_container(d, struct vmpr_client, dead));
}

static void client_unref(struct vmpr_client *c)
{
	if (--c->refs == 0 && c->gone)
		vmpr_ev_defer(&c->sv->r->ev, &c->dead, client_free);
}

static void client_dirty(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;

	if (c->is_dirty || c->gone)
		return;
	c->is_dirty = true;
	c->refs++;
	c->dnext = r->dirty;
	r->dirty = c;
}

static void client_again(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;

	if (c->is_again || c->gone)
		return;
	c->is_again = true;
	c->refs++;
	c->anext = r->again;
	r->again = c;
}

static void client_block(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;

	if (c->is_blocked || c->gone)
		return;
	c->is_blocked = true;
	c->refs++;
	c->bnext = r->blocked;
	r->blocked = c;
}

/* --- output ---------------------------------------------------------------------------------------------------------------- */
static int mark_push(struct vmpr_relay *r, struct vmpr_client *c, uint64_t number)
{
	if (r->mark_n == r->mark_cap) {
		uint32_t cap = r->mark_cap ? r->mark_cap * 2 : 1024;
		struct vmpr_mark *m = malloc(cap * sizeof(*m));

		if (!m)
			return -ENOMEM;
		for (uint32_t i = 0; i < r->mark_n; i++)
			m[i] = r->marks[(r->mark_head + i) & (r->mark_cap - 1)];
		free(r->marks);
		r->marks = m;
		r->mark_cap = cap;
		r->mark_head = 0;
	}
	r->marks[(r->mark_head + r->mark_n++) & (r->mark_cap - 1)] = (struct vmpr_mark){ number, c->total, c };
	c->marks++;
	c->refs++;
	return 0;
}

void vmpr_clients_release(struct vmpr_relay *r)
{
	while (r->mark_n > 0) {
		struct vmpr_mark *m = &r->marks[r->mark_head];
		struct vmpr_client *c = m->c;

		if (m->number > r->limit)
			return;
		if (m->off > c->allowed)
			c->allowed = m->off;
		r->mark_head = (r->mark_head + 1) & (r->mark_cap - 1);
		r->mark_n--;
		c->marks--;
		client_dirty(c);
		client_unref(c);
	}
}

static void client_sent(struct vmpr_client *c, size_t n)
{
	struct vmpr_relay *r = c->sv->r;

	c->sent += n;
	if (r->takeover.open && n > 0)
		vmpr_relay_first_answer(r);
}

static void client_flush(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;
	struct iovec iov[IOV];

	while (c->writable && c->allowed > c->sent) {
		struct msghdr mh = { .msg_iov = iov };
		ssize_t n;

		mh.msg_iovlen = (size_t)vmpr_queue_iov(&c->out, c->allowed - c->sent, iov, IOV);
		n = mh.msg_iovlen == 1 ? send(c->src.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
				       : sendmsg(c->src.fd, &mh, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->writable = false;
			break;
		}
		if (n < 0) {
			client_close(c, false);
			return;
		}
		vmpr_queue_drop(&r->pool, &c->out, (size_t)n);
		client_sent(c, (size_t)n);
		c->timer = c->timer == T_SEND ? T_NONE : c->timer; /* progress: its time begins anew */
	}
	if (c->stopped && c->out.len < VMPR_OUT_LOW) {
		struct vmpr_backend *be = c->stopped;

		c->stopped = NULL;
		vmpr_backend_resume(be);
		if (c->gone)
			return;
	}
	if ((c->in_len > c->in_seen || c->readable) && client_can_parse(c))
		client_again(c);
	if (c->sent == c->total) {
		if (c->closing && !c->under_way && !c->waits && !c->lingering) {
			if (c->eof) {
				client_close(c, true);
				return;
			}
			/* Closing while the client still sends would reset the connection and destroy what it has not read. */
			shutdown(c->src.fd, SHUT_WR);
			c->lingering = true;
			free(c->in);
			c->in = NULL;
			c->in_len = c->in_cap = 0;
			client_again(c);
		} else if (c->first && !c->settle.next) {
			vmpr_tmo_arm(&r->ev, &r->t_settle, &c->settle);
		}
	}
	client_timer(c);
}

void vmpr_clients_flush(struct vmpr_relay *r)
{
	while (r->dirty) {
		struct vmpr_client *c = r->dirty;

		r->dirty = c->dnext;
		c->is_dirty = false;
		if (!c->gone)
			client_flush(c);
		client_unref(c);
	}
}

void vmpr_client_put(struct vmpr_client *c, const void *data, size_t len, uint64_t number, bool more)
{
	struct vmpr_relay *r = c->sv->r;
	bool free_now = number <= r->limit && c->marks == 0;
	const char *p = data;

	if (c->gone || len == 0)
		return;
	if (free_now && !more && c->writable && c->out.len == 0) {
		ssize_t n = send(c->src.fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			client_close(c, false);
			return;
		}
		if (n > 0) {
			c->total += (size_t)n;
			c->allowed = c->total;
			client_sent(c, (size_t)n);
			p += n;
			len -= (size_t)n;
			client_dirty(c); /* what follows from it is done once a round */
		}
		if (len == 0)
			return;
		c->writable = false;
	}
	if (vmpr_queue_put(&r->pool, &c->out, p, len) < 0) {
		vmpr_say(r, VMPR_SAY_LIMIT, "out of memory: a client was dropped");
		client_close(c, false);
		return;
	}
	c->total += len;
	if (free_now)
		c->allowed = c->total;
	else if (mark_push(r, c, number) < 0)
		client_close(c, false);
	client_dirty(c);
}

size_t vmpr_client_owes(const struct vmpr_client *c)
{
	return c->out.len;
}

struct vmpr_backend **vmpr_client_backend(struct vmpr_client *c)
{
	return &c->be;
}

unsigned int *vmpr_client_parked(struct vmpr_client *c)
{
	return &c->parked;
}

void vmpr_client_cut(struct vmpr_client *c)
{
	client_close(c, false);
}

void vmpr_client_late(struct vmpr_client *c, enum vmp_refuse why)
{
	client_failure(c, why, 0);
	c->closing = true;
	client_dirty(c);
}

void vmpr_client_more(struct vmpr_client *c)
{
	client_again(c);
}

void vmpr_client_stops(struct vmpr_client *c, struct vmpr_backend *be)
{
	c->stopped = be;
}

void vmpr_client_eof(struct vmpr_client *c)
{
	c->closing = true;
	client_dirty(c);
}

/* The client has what left: requests answered that far are done. */
static void client_settle(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;
	struct vmpr_req *req;

	while ((req = c->first) && req->state == VMPR_REQ_ANSWERED && req->end <= c->sent) {
		c->first = req->cnext;
		if (!c->first)
			c->last = &c->first;
		if (!req->why)
			vmpair_session_done(r->session, r->ev.now_ns, req->conn, req->seq);
		vmpr_req_free(req);
	}
}

static void settle_late(struct vmpr_tmo *t)
{
	struct vmpr_client *c = vmpr_container(t, struct vmpr_client, settle);
	int unacked = 0;

	/* the kernel has acknowledgements for all that was sent */
	if (c->sent == c->total && ioctl(c->src.fd, SIOCOUTQ, &unacked) == 0 && unacked == 0)
		client_settle(c);
	if (c->first && c->first->state == VMPR_REQ_ANSWERED)
		vmpr_tmo_arm(&c->sv->r->ev, &c->sv->r->t_settle, &c->settle);
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */
static void client_reply(struct vmpr_client *c, const char *text, size_t len, enum vmp_refuse why, bool close_after)
{
	struct vmpr_relay *r = c->sv->r;

	if (why) {
		r->count.refused[why]++;
		vmpr_say(r, VMPR_SAY_CLIENT, "service %u: a client was refused: %s", c->sv->port, vmp_refuse_text(why));
	}
	if (close_after)
		c->closing = true;
	vmpr_client_put(c, text, len, 0, false);
	client_dirty(c);
}

static void client_failure(struct vmpr_client *c, enum vmp_refuse why, uint64_t number)
{
	const char *text;
	size_t len;
	bool on = vmp_frame_failure(&c->sv->frame, why, &text, &len);

	c->sv->r->count.refused[why]++;
	if (!on)
		c->closing = true;
	vmpr_client_put(c, text, len, number, false);
	client_dirty(c);
}

/* The answer that was given to the same id; flags and swallow of the unit that asks. */
static void client_stored(struct vmpr_client *c, const struct vmpair_entry *e, uint32_t flags, uint32_t swallow)
{
	struct vmpr_relay *r = c->sv->r;
	struct vmp_frame_ans st;
	struct vmp_part part;
	uint64_t off = 0;
	const void *p;
	size_t len;

	r->count.repeats++;
	if (!e->kept) {
		/* too long to have been kept; executing it again would be wrong */
		client_failure(c, VMP_REFUSE_LOST, e->answer_number);
		return;
	}
	while (vmpair_session_stored(r->session, e->conn, e->seq, off, &p, &len) == 0 && len > 0 && !c->gone) {
		if (off == 0) {
			/* one that ends with its connection does so again */
			vmp_frame_answer_start(&st, flags, swallow);
			if (vmp_frame_answer(&st, &c->sv->frame, p, len, &part) == 0 &&
			    (part.flags & (VMP_PART_CLOSE | VMP_PART_UNTIL_EOF)))
				c->closing = true;
		}
		vmpr_client_put(c, p, len, e->answer_number, true);
		off += len;
	}
}

static void waiters_answer(struct vmpr_req *req)
{
	struct vmpr_relay *r = req->service->r;
	struct vmpr_client *c, *next;
	struct vmpair_entry e;

	for (c = req->waiters; c; c = next) {
		next = c->wnext;
		c->waits = NULL;
		if (!req->why && vmpair_session_entry(r->session, req->conn, req->seq, &e) == 0)
			client_stored(c, &e, req->flags, req->swallow);
		else
			client_failure(c, req->why ? req->why : VMP_REFUSE_LOST, r->newest);
		client_again(c);
	}
	req->waiters = NULL;
}

void vmpr_client_answered(struct vmpr_req *req, bool last)
{
	struct vmpr_relay *r = req->service->r;
	struct vmpr_client *c = req->client;

	req->state = VMPR_REQ_ANSWERED;
	r->in_flight--;
	r->count.answers++;
	waiters_answer(req);
	req_unhash(req);
	if (!c) {
		vmpr_req_free(req);
		return;
	}
	req->end = c->total;
	c->under_way--;
	if (last || (req->flags & VMP_UNIT_CLOSE))
		c->closing = true;
	if (c->interim && !c->under_way) {
		const char *text = c->interim;

		c->interim = NULL;
		vmpr_client_put(c, text, c->interim_len, 0, false);
	}
	client_dirty(c);
	if (c->in_len > 0 || c->readable || c->eof)
		client_again(c);
}

/* 1 taken, 0 not now (the unit stays), negative: the client was closed. */
static int client_unit(struct vmpr_client *c, const char *data, const struct vmp_unit *unit)
{
	struct vmpr_service *sv = c->sv;
	struct vmpr_relay *r = sv->r;
	struct vmpair_request rq = { .conn = c->conn, .seq = c->seq, .service = sv->index, .flags = VMPAIR_LAST,
				     .data = data, .len = unit->len };
	struct vmpair_entry e;
	struct vmpr_req *req;
	uint64_t number;
	int n;

	if (c->first)
		client_settle(c);
	if (unit->flags & VMP_UNIT_HAS_ID) {
		if (vmpair_session_find(r->session, sv->index, unit->id, unit->id_len, &e) == 0) {
			if (c->under_way)
				return 0;
			if (e.state == VMPAIR_ANSWERED || e.state == VMPAIR_FINISHED) {
				client_stored(c, &e, unit->flags, unit->swallow);
				if (unit->flags & VMP_UNIT_CLOSE)
					c->closing = true;
				return c->gone ? -1 : 1;
			}
			req = vmpr_req_find(r, e.conn, e.seq);
			if (req) {
				c->waits = req;
				c->wnext = req->waiters;
				req->waiters = c;
				if (unit->flags & VMP_UNIT_CLOSE)
					c->closing = true;
				return 1;
			}
		}
		rq.flags |= VMPAIR_HAS_ID;
		rq.id = unit->id;
		rq.id_len = unit->id_len;
	}
	if (unit->flags & VMP_UNIT_IDEMPOTENT)
		rq.flags |= VMPAIR_IDEMPOTENT;
	if (r->pool.bytes > r->conf.sync_buffer) {
		client_block(c);
		return 0;
	}
	req = vmpr_req_new(sv, c->conn, c->seq, unit->flags, unit->swallow);
	n = req ? vmpair_session_request(r->session, r->ev.now_ns, &rq, &number) : -ENOBUFS;
	if (n < 0) {
		if (req)
			vmpr_req_free(req);
		if (n == -ENOBUFS) {
			vmpr_say(r, VMPR_SAY_ROOM, "sync_buffer is full: clients wait");
			client_block(c);
			return 0;
		}
		if (n == -EMSGSIZE) {
			client_failure(c, VMP_REFUSE_SIZE, 0);
			c->closing = true;
			return 1;
		}
		client_close(c, false);
		return -1;
	}
	vmpr_made(r, number);
	c->seq++;
	r->count.requests++;
	req->client = c;
	*c->last = req;
	c->last = &req->cnext;
	c->under_way++;
	if (unit->flags & VMP_UNIT_CLOSE)
		c->final = true;
	vmpr_dispatch(req, data, unit->len);
	return c->gone ? -1 : 1;
}

static bool client_can_parse(const struct vmpr_client *c)
{
	return !c->gone && !c->closing && !c->final && !c->waits && !c->is_blocked && !c->tunnel && c->under_way < c->sv->pipeline &&
	       !c->interim && c->out.len < VMPR_OUT_HIGH;
}

/* Takes requests from the front of what was read; returns the bytes used. */
static size_t client_parse(struct vmpr_client *c, const char *p, size_t len)
{
	size_t used = 0;
	struct vmp_unit u;
	int n;

	c->in_seen = 0;
	while (used < len && client_can_parse(c)) {
		n = vmp_frame_request(&c->st, &c->sv->frame, p + used, len - used, &u);
		if (n == 0) {
			if (u.interim_len) {
				if (!c->under_way) {
					vmpr_client_put(c, u.interim, u.interim_len, 0, false);
					continue;
				}
				c->interim = u.interim;
				c->interim_len = u.interim_len;
				return used;
			}
			c->in_seen = len - used;
			return used;
		}
		if (n < 0 || (u.flags & VMP_UNIT_LOCAL)) {
			if (c->under_way) {
				/* found again when its turn comes */
				memset(&c->st, 0, sizeof(c->st));
				return used;
			}
			client_reply(c, u.reply, u.reply_len, u.why, n < 0 || (u.flags & VMP_UNIT_CLOSE));
			if (n < 0 || c->gone)
				return len;
			used += u.len;
			continue;
		}
		if (!(u.flags & VMP_UNIT_SKIP)) {
			n = client_unit(c, p + used, &u);
			if (n < 0)
				return len;
			if (n == 0)
				return used;
			if (u.flags & VMP_UNIT_CLOSE) {
				used = len; /* whatever follows is not answered */
				return used;
			}
		}
		used += u.len;
	}
	return c->closing || c->gone ? len : used;
}

static int in_keep(struct vmpr_client *c, const char *p, size_t len)
{
	size_t cap = c->in_cap ? c->in_cap : IN_MIN;
	char *in;

	while (cap < len)
		cap *= 2;
	if (cap != c->in_cap) {
		in = realloc(c->in, cap);
		if (!in)
			return -ENOMEM;
		c->in = in;
		c->in_cap = cap;
	}
	memcpy(c->in, p, len);
	c->in_len = len;
	return 0;
}

static int in_grow(struct vmpr_client *c)
{
	char *in;

	if (c->in_cap - c->in_len >= c->in_cap / 4)
		return 0;
	in = realloc(c->in, c->in_cap * 2);
	if (!in)
		return -ENOMEM;
	c->in = in;
	c->in_cap *= 2;
	return 0;
}

static void in_used(struct vmpr_client *c, size_t used)
{
	if (c->gone)
		return;
	c->in_len -= used;
	if (c->in_len == 0) {
		free(c->in);
		c->in = NULL;
		c->in_cap = 0;
	} else if (used > 0) {
		memmove(c->in, c->in + used, c->in_len);
	}
}

static ssize_t client_recv(struct vmpr_client *c, void *p, size_t size)
{
	ssize_t n;

	do
		n = recv(c->src.fd, p, size, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		c->readable = false;
		return 0;
	}
	if (n < 0)
		return -errno;
	if (n == 0) {
		c->readable = false;
		c->eof = true;
		return 0;
	}
	if ((size_t)n < size && !c->hup)
		c->readable = false; /* drained: what comes later is a new edge */
	return n;
}

static void client_tunnel_in(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;

	for (unsigned int i = 0; i < RUN_READS && c->tunnel; i++) {
		size_t took;
		ssize_t n;

		if (c->in_len > 0) {
			took = vmpr_backend_send_raw(c->tunnel, c->in, c->in_len);
			in_used(c, took);
			if (c->in_len > 0)
				return; /* the backend tells when it can take more */
		}
		if (!c->readable) {
			if (c->eof)
				vmpr_backend_shut(c->tunnel);
			return;
		}
		n = client_recv(c, r->scratch, VMPR_SCRATCH);
		if (n < 0) {
			client_close(c, false);
			return;
		}
		took = n ? vmpr_backend_send_raw(c->tunnel, r->scratch, (size_t)n) : 0;
		if (took < (size_t)n && in_keep(c, (char *)r->scratch + took, (size_t)n - took) < 0) {
			client_close(c, false);
			return;
		}
	}
	if (c->tunnel && c->readable)
		client_again(c);
}

static void client_linger(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;

	for (unsigned int i = 0; i < RUN_READS && c->readable; i++)
		if (client_recv(c, r->scratch, sizeof(r->scratch)) < 0) {
			client_close(c, false);
			return;
		}
	if (c->eof)
		client_close(c, true);
	else if (c->readable)
		client_again(c);
	else
		client_timer(c);
}

static void client_run(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;

	for (unsigned int i = 0; i < RUN_READS && !c->gone; i++) {
		ssize_t n;

		if (c->tunnel) {
			client_tunnel_in(c);
			return;
		}
		if (c->lingering) {
			client_linger(c);
			return;
		}
		if (c->in_len > c->in_seen && client_can_parse(c)) {
			in_used(c, client_parse(c, c->in, c->in_len));
			if (c->gone)
				return;
		}
		if (!client_can_parse(c) || (c->in_len > 0 && c->in_seen < c->in_len))
			break;
		if (!c->readable)
			break;
		if (c->in_len > 0) {
			if (in_grow(c) < 0) {
				client_close(c, false);
				return;
			}
			n = client_recv(c, c->in + c->in_len, c->in_cap - c->in_len);
			if (n > 0)
				c->in_len += (size_t)n;
		} else {
			n = client_recv(c, r->scratch, VMPR_SCRATCH);
			if (n > 0) {
				size_t used = client_parse(c, (char *)r->scratch, (size_t)n);

				if (!c->gone && used < (size_t)n && in_keep(c, (char *)r->scratch + used, (size_t)n - used) < 0)
					n = -ENOMEM;
			}
		}
		if (n < 0) {
			client_close(c, false);
			return;
		}
	}
	if (c->gone)
		return;
	if (c->eof && !c->closing && !c->tunnel && (!c->in_len || c->in_seen == c->in_len)) {
		/* It has said all it will: what is under way is still answered, half a request never was one. */
		c->closing = true;
		in_used(c, c->in_len);
		client_dirty(c);
	} else if (c->readable && client_can_parse(c)) {
		client_again(c);
	}
	client_timer(c);
}

void vmpr_clients_again(struct vmpr_relay *r)
{
	struct vmpr_client *c = r->again, *next;

	r->again = NULL;
	for (; c; c = next) {
		next = c->anext;
		c->is_again = false;
		if (!c->gone)
			client_run(c);
		client_unref(c);
	}
}

void vmpr_clients_room(struct vmpr_relay *r)
{
	struct vmpr_client *c = r->blocked, *next;

	if (r->pool.bytes > r->conf.sync_buffer)
		return;
	r->blocked = NULL;
	for (; c; c = next) {
		next = c->bnext;
		c->is_blocked = false;
		client_again(c);
		client_unref(c);
	}
}

/* --- connections ------------------------------------------------------------------------------------------------------------------ */
static void client_timer(struct vmpr_client *c)
{
	struct vmpr_relay *r = c->sv->r;
	struct vmpr_tmo_list *list[] = { NULL, &r->t_request, &r->t_idle, &r->t_send, &r->t_linger };
	enum timer want = T_NONE;

	if (c->gone)
		return;
	if (c->lingering)
		want = T_LINGER;
	else if (c->allowed > c->sent)
		want = T_SEND;
	else if (c->tunnel)
		want = T_NONE;
	else if (c->in_len > 0 && c->in_seen == c->in_len && !c->under_way)
		want = T_REQUEST;
	else if (!c->under_way && !c->waits && !c->is_blocked && c->out.len == 0)
		want = T_IDLE;
	if (want == c->timer)
		return;
	c->timer = want;
	if (want == T_NONE)
		vmpr_tmo_stop(&c->tmo);
	else
		vmpr_tmo_arm(&r->ev, list[want], &c->tmo);
}

static void request_late(struct vmpr_tmo *t)
{
	struct vmpr_client *c = vmpr_container(t, struct vmpr_client, tmo);

	c->timer = T_NONE;
	vmpr_say(c->sv->r, VMPR_SAY_CLIENT, "service %u: a client was dropped: %s", c->sv->port, vmp_refuse_text(VMP_REFUSE_CLIENT_SLOW));
	client_failure(c, VMP_REFUSE_CLIENT_SLOW, 0);
	if (!c->gone) {
		c->closing = true;
		client_dirty(c);
	}
}

static void idle_late(struct vmpr_tmo *t)
{
	struct vmpr_client *c = vmpr_container(t, struct vmpr_client, tmo);

	c->timer = T_NONE;
	c->closing = true;
	client_dirty(c);
}

static void send_late(struct vmpr_tmo *t)
{
	struct vmpr_client *c = vmpr_container(t, struct vmpr_client, tmo);

	c->sv->r->count.dropped_slow++;
	vmpr_say(c->sv->r, VMPR_SAY_CLIENT, "service %u: a client that did not read its answer was dropped", c->sv->port);
	client_close(c, false);
}

static void linger_late(struct vmpr_tmo *t)
{
	client_close(vmpr_container(t, struct vmpr_client, tmo), true);
}

static void client_close(struct vmpr_client *c, bool in_order)
{
	struct vmpr_relay *r = c->sv->r;
	struct linger rst = { .l_onoff = 1 };

	if (c->gone)
		return;
	c->gone = true;
	c->refs++; /* ours, until the end of this function */
	if (!in_order)
		setsockopt(c->src.fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	vmpr_tmo_stop(&c->tmo);
	vmpr_tmo_stop(&c->settle);
	vmpr_src_close(&r->ev, &c->src);
	for (struct vmpr_req *req = c->first, *next; req; req = next) {
		next = req->cnext;
		req->cnext = NULL;
		req->client = NULL; /* one under way goes on: it was accepted */
		if (req->state == VMPR_REQ_ANSWERED)
			vmpr_req_free(req);
	}
	c->first = NULL;
	/* A primary that gives up its role does not know what its clients have got. */
	if (r->role == VMPAIR_PRIMARY)
		vmpair_session_close(r->session, r->ev.now_ns, c->conn);
	if (c->waits)
		for (struct vmpr_client **w = &c->waits->waiters; *w; w = &(*w)->wnext)
			if (*w == c) {
				*w = c->wnext;
				break;
			}
	c->waits = NULL;
	if (c->stopped) {
		struct vmpr_backend *be = c->stopped;

		c->stopped = NULL;
		vmpr_backend_resume(be);
	}
	if (c->be)
		vmpr_backend_disown(TAKE_PTR(c->be));
	if (c->tunnel)
		vmpr_backend_drop(TAKE_PTR(c->tunnel));
	vmpr_queue_clear(&r->pool, &c->out);
	free(c->in);
	c->in = NULL;
	if (c->prev)
		c->prev->next = c->next;
	else
		r->clients = c->next;
	if (c->next)
		c->next->prev = c->prev;
	r->n_clients--;
	if (!r->accepting && r->role == VMPAIR_PRIMARY && r->n_clients < r->max_clients)
		vmpr_listen_watch(r, true);
	client_unref(c);
}

void vmpr_clients_close(struct vmpr_relay *r)
{
	while (r->clients)
		client_close(r->clients, false);
}

void vmpr_client_tunnel(struct vmpr_client *c, struct vmpr_backend *be)
{
	c->tunnel = be;
	if (be)
		client_again(c);
}

static void client_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_client *c = vmpr_container(s, struct vmpr_client, src);

	if (events & (EPOLLHUP | EPOLLERR)) {
		client_close(c, (events & EPOLLERR) == 0);
		return;
	}
	if (events & EPOLLRDHUP)
		c->hup = true;
	if (events & EPOLLOUT && !c->writable) {
		c->writable = true;
		if (c->allowed > c->sent)
			client_dirty(c);
	}
	if (events & (EPOLLIN | EPOLLRDHUP)) {
		c->readable = true;
		client_run(c);
	}
}

static void client_new(struct vmpr_listener *ls, int fd, const struct vmpr_addr *from)
{
	struct vmpr_service *sv = ls->service;
	struct vmpr_relay *r = sv->r;
	uint8_t wire[VMP_TICKLE_WIRE_MAX];
	struct vmpr_client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->sv = sv;
	c->writable = true;
	c->last = &c->first;
	c->conn = r->next_conn++;
	if (vmpr_src_add(&r->ev, &c->src, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, client_event) < 0) {
		close(fd);
		free(c);
		return;
	}
	c->next = r->clients;
	if (c->next)
		c->next->prev = c;
	r->clients = c;
	r->n_clients++;
	r->count.accepted++;
	/* without memory for it the client is served as well */
	vmpair_session_open(r->session, r->ev.now_ns, c->conn, sv->index, wire, vmpr_tickle_of(&ls->addr, from, wire));
	if (sv->frame.framing == VMP_FRAMING_STREAM)
		vmpr_backend_tunnel_open(c, sv);
	client_timer(c);
}

/* --- listening ---------------------------------------------------------------------------------------------------------------------- */
static void listener_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_listener *ls = vmpr_container(s, struct vmpr_listener, src);
	struct vmpr_relay *r = ls->service->r;

	(void)events;
	for (unsigned int i = 0; i < VMPR_ACCEPTS && r->accepting; i++) {
		struct vmpr_addr from = { .len = sizeof(from.ss) };
		int fd = accept4(s->fd, (struct sockaddr *)&from.ss, &from.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				vmpr_say(r, VMPR_SAY_LIMIT, "cannot accept more clients than the present %u: %s", r->n_clients, strerror(errno));
				vmpr_listen_watch(r, false);
			}
			return;
		}
		client_new(ls, fd, &from);
		if (r->n_clients >= r->max_clients) {
			vmpr_say(r, VMPR_SAY_LIMIT, "limit of %u clients reached: others wait until one has gone", r->max_clients);
			vmpr_listen_watch(r, false);
		}
	}
}

void vmpr_listen_watch(struct vmpr_relay *r, bool on)
{
	if (r->accepting == on)
		return;
	r->accepting = on;
	for (unsigned int i = 0; i < r->n_listeners; i++)
		vmpr_src_mod(&r->ev, &r->listeners[i].src, on ? EPOLLIN : 0);
}

static int listen_one(struct vmpr_relay *r, struct vmpr_service *sv, const char *address)
{
	struct vmpr_listener *ls = &r->listeners[r->n_listeners];
	CLEANUP_CLOSE int fd = -1;
	struct vmpr_addr a;
	int n = vmpr_addr_parse(address, sv->port, &a), one = 1;

	if (n < 0)
		return n;
	fd = socket(a.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted connections inherit it */
	/* the address comes to this host, or guest, only with the role */
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	if (a.ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a.ss, a.len) < 0 || listen(fd, 65535) < 0)
		return -errno;
	ls->service = sv;
	ls->addr = a;
	n = vmpr_src_add(&r->ev, &ls->src, fd, 0, listener_event);
	if (n < 0)
		return n;
	(void)TAKE_FD(fd);
	r->n_listeners++;
	return 0;
}

int vmpr_listen_open(struct vmpr_relay *r)
{
	r->listeners = calloc(r->conf.n_listen * r->conf.n_services, sizeof(*r->listeners));
	if (!r->listeners)
		return -ENOMEM;
	for (unsigned int i = 0; i < r->conf.n_services; i++)
		for (unsigned int j = 0; j < r->conf.n_listen; j++) {
			int n = listen_one(r, &r->service[i], r->conf.listen[j]);

			if (n < 0) {
				vmpr_note(r, LOG_ERR, "cannot listen on %s port %u: %s", r->conf.listen[j], r->service[i].port, strerror(-n));
				return n;
			}
		}
	return 0;
}

void vmpr_listen_close(struct vmpr_relay *r)
{
	for (unsigned int i = 0; i < r->n_listeners; i++)
		vmpr_src_close(&r->ev, &r->listeners[i].src);
	free(r->listeners);
	r->listeners = NULL;
	r->n_listeners = 0;
	r->accepting = false;
}

void vmpr_clients_init(struct vmpr_relay *r)
{
	const uint64_t ms = 1000000;

	vmpr_tmo_list_add(&r->ev, &r->t_request, r->conf.request_ms * ms, request_late);
	vmpr_tmo_list_add(&r->ev, &r->t_idle, r->conf.idle_ms * ms, idle_late);
	vmpr_tmo_list_add(&r->ev, &r->t_send, r->conf.send_ms * ms, send_late);
	vmpr_tmo_list_add(&r->ev, &r->t_linger, LINGER_MS * ms, linger_late);
	vmpr_tmo_list_add(&r->ev, &r->t_settle, SETTLE_MS * ms, settle_late);
}
