/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The application's side. Journal: a pool of connections, each with requests of one client at a time, one after the other in
 * http1. Mirror: one lane in record order, a connection per service of which only one has requests under way, so that every
 * member executes in the same order.
 *
 * When a connection breaks before an answer began, what it had under way is given to another one if the pair's `redo` says
 * that executing twice is allowed; else the client is told. In the lane nothing is executed twice: when its connection breaks
 * with requests under way, nobody knows which of them were executed, and the member's content is not known any more.
 * Such a connection is shut and watched until the application closes it: until then it may still execute what it had not read,
 * so no state is exported or imported before.
 */
#include "heartbeat/relay/relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal/cleanup.h"

enum { RUN_READS = 8, RETRY_NS = 100000000, IOV = 16, TUNNEL_OUT = 65536, LANE_AHEAD = 4096 };

struct vmpr_backend {
	struct vmpr_src src;
	struct vmpr_tmo tmo;
	struct vmpr_dead dead;
	struct vmpr_service *sv;
	struct vmpr_backend *prev, *next;   /* all */
	struct vmpr_backend *inext;	    /* idle */
	struct vmpr_backend *anext, *bnext; /* again, blocked */
	uint32_t refs;			    /* lists that name it, but for idle */
	bool gone, connecting, readable, writable, hup, eof, paused, is_idle, is_again, is_blocked, in_lane, draining, reused, shut;
	struct vmpr_req_list reqs; /* under way, in order */
	struct vmp_frame_ans st;
	struct vmp_part part; /* found, and not passed on as a whole yet */
	size_t part_done;
	bool part_open;
	struct vmpr_queue out;
	char *in;
	size_t in_len, in_seen;
	struct vmpr_client *owner, *tunnel;
};

static void pool_send(struct vmpr_req *req, const void *data, size_t len);
static void backend_run(struct vmpr_backend *be);

/* --- lists ------------------------------------------------------------------------------------------------------------------ */
void vmpr_list_add(struct vmpr_req_list *l, struct vmpr_req *req)
{
	req->next = NULL;
	if (l->tail)
		l->tail->next = req;
	else
		l->head = req;
	l->tail = req;
	l->n++;
}

struct vmpr_req *vmpr_list_pop(struct vmpr_req_list *l)
{
	struct vmpr_req *req = l->head;

	if (req) {
		l->head = req->next;
		if (!l->head)
			l->tail = NULL;
		l->n--;
		req->next = NULL;
	}
	return req;
}

static bool mirror(const struct vmpr_relay *r)
{
	return r->conf.kind == VMPAIR_MIRROR;
}

static void backend_free(struct vmpr_dead *d)
{
	free(vmpr_container(d, struct vmpr_backend, dead));
}

static void backend_unref(struct vmpr_backend *be)
{
	if (--be->refs == 0 && be->gone)
		vmpr_ev_defer(&be->sv->r->ev, &be->dead, backend_free);
}

static void backend_again(struct vmpr_backend *be)
{
	struct vmpr_relay *r = be->sv->r;

	if (be->is_again || be->gone)
		return;
	be->is_again = true;
	be->refs++;
	be->anext = r->b_again;
	r->b_again = be;
}

static void idle_take(struct vmpr_backend *be)
{
	for (struct vmpr_backend **p = &be->sv->idle; be->is_idle && *p; p = &(*p)->inext)
		if (*p == be) {
			*p = be->inext;
			be->is_idle = false;
			return;
		}
}

static void backend_close(struct vmpr_backend *be)
{
	struct vmpr_relay *r = be->sv->r;

	if (be->gone)
		return;
	be->gone = true;
	be->refs++;
	idle_take(be);
	vmpr_tmo_stop(&be->tmo);
	vmpr_src_close(&r->ev, &be->src);
	vmpr_queue_clear(&r->pool, &be->out);
	free(TAKE_PTR(be->in));
	if (be->owner)
		*vmpr_client_backend(be->owner) = NULL;
	be->owner = NULL;
	if (be->sv->lane == be)
		be->sv->lane = NULL;
	if (!be->in_lane)
		be->sv->n_backends--;
	r->n_draining -= be->draining;
	be->sv->n_connecting -= be->connecting;
	if (be->prev)
		be->prev->next = be->next;
	else
		r->backends = be->next;
	if (be->next)
		be->next->prev = be->prev;
	backend_unref(be);
}

/* --- what becomes of a request that got no answer ----------------------------------------------------------------------------- */
static bool may_repeat(const struct vmpr_relay *r, const struct vmpr_req *req)
{
	if (r->conf.redo == VMPR_REDO_ALL || (req->flags & VMP_UNIT_IDEMPOTENT))
		return true;
	return r->conf.redo == VMPR_REDO_IDEMPOTENT && (req->flags & VMP_UNIT_HAS_ID);
}

/*
 * The outcome of a request is not known, and it is not to be executed again: who repeats its id is told the same. That is recorded as
 * its answer, so the peer tells it too. False: it has no id, or an answer was begun.
 */
bool vmpr_outcome_unknown(struct vmpr_relay *r, const struct vmp_frame_conf *frame, uint64_t conn, uint32_t seq, bool dispatched,
			  enum vmp_refuse why, uint64_t *ret_number)
{
	const char *text;
	uint64_t number = 0;
	size_t len;

	vmp_frame_failure(frame, why, &text, &len);
	if (!dispatched && vmpair_session_dispatched(r->session, conn, seq, &number) < 0)
		return false;
	if (vmpair_session_answer(r->session, r->ev.now_ns, conn, seq, text, len, VMPAIR_LAST, &number) < 0)
		return false;
	vmpr_made(r, number);
	*ret_number = number;
	return true;
}

static void req_unpark(struct vmpr_req *req)
{
	if ((req->state == VMPR_REQ_COMMIT || req->state == VMPR_REQ_QUEUED) && req->client && !mirror(req->service->r))
		--*vmpr_client_parked(req->client);
}

static void req_fail(struct vmpr_req *req, enum vmp_refuse why)
{
	struct vmpr_service *sv = req->service;
	struct vmpr_relay *r = sv->r;
	struct vmpr_client *c = req->client;
	const char *text;
	uint64_t number = 0;
	size_t len;
	bool on = vmp_frame_failure(&sv->frame, why, &text, &len);

	r->count.backend_errors++;
	r->count.refused[why]++;
	vmpr_say(r, VMPR_SAY_BACKEND, "service %u: %s%s", sv->port, vmp_refuse_text(why),
		 c ? "" : " (a request taken over, or whose client had gone)");
	if (mirror(r)) {
		vmpair_session_answer(r->session, r->ev.now_ns, req->conn, req->seq, text, len, VMPAIR_LAST, &number);
		vmpr_made(r, number);
	} else if (r->conf.redo != VMPR_REDO_NEVER || !(req->flags & VMP_UNIT_HAS_ID) || !req->dispatched || req->begun ||
		   why == VMP_REFUSE_BACKEND_DOWN ||
		   !vmpr_outcome_unknown(r, &sv->frame, req->conn, req->seq, true, why, &number)) {
		vmpair_session_drop(r->session, req->conn, req->seq, vmp_refuse_name(why));
		number = vmpr_newest(r);
	}
	req->why = (uint8_t)why;
	if (c && req->begun) {
		/* part of an answer was passed on */
		vmpr_client_answered(req, true);
		vmpr_client_cut(c);
		return;
	}
	if (c)
		vmpr_client_put(c, text, len, number, false);
	vmpr_client_answered(req, !on);
}

/* --- connections ---------------------------------------------------------------------------------------------------------------- */

/*
 * Connections are made a few at a time: after a takeover a thousand requests are to be executed at once, and clients should not
 * have to wait until the last of them has its own connection. The first ones serve others by then.
 */
static bool may_connect(const struct vmpr_service *sv)
{
	return sv->n_backends < sv->r->conf.max_backends && sv->n_connecting < VMPR_CONNECTING;
}

static void queue_pump(struct vmpr_service *sv)
{
	while (sv->queue.n && (sv->idle || may_connect(sv)) && sv->r->ev.now_ns >= sv->retry_at_ns) {
		struct vmpr_req *req = vmpr_list_pop(&sv->queue);

		req_unpark(req);
		pool_send(req, NULL, 0);
	}
}

static void requests_drop(struct vmpr_req_list *l)
{
	struct vmpr_req *req;

	while ((req = vmpr_list_pop(l))) {
		if (req->client)
			vmpr_client_cut(req->client);
		vmpr_req_free(req);
	}
}

/* Of the lane, with requests under way that nobody waits for any more. */
static void backend_drain(struct vmpr_backend *be)
{
	struct vmpr_relay *r = be->sv->r;

	if (be->sv->lane == be)
		be->sv->lane = NULL;
	be->draining = true;
	r->n_draining++;
	be->paused = be->is_blocked = false;
	be->readable = true;
	vmpr_tmo_stop(&be->tmo);
	vmpr_queue_clear(&r->pool, &be->out);
	free(TAKE_PTR(be->in));
	be->in_len = be->in_seen = 0;
	shutdown(be->src.fd, SHUT_WR);
	vmpr_tmo_arm(&r->ev, &r->t_answer, &be->tmo);
	backend_again(be);
}

static void drain_read(struct vmpr_backend *be)
{
	struct vmpr_relay *r = be->sv->r;
	ssize_t n = 1;

	for (unsigned int i = 0; i < RUN_READS && be->readable; i++) {
		n = recv(be->src.fd, r->scratch, VMPR_SCRATCH, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
	}
	if (n < 0 && errno == EAGAIN)
		be->readable = false;
	else if (n <= 0)
		backend_close(be);
	else
		backend_again(be);
}

/* The content of this member is not known any more. False: the relay ends, and nobody is told anything. */
static bool content_broken(struct vmpr_relay *r, const struct vmpr_service *sv, enum vmp_refuse why)
{
	char text[160];

	snprintf(text, sizeof(text), "service %u: the connection to the application broke with requests under way (%s)", sv->port,
		 vmp_refuse_text(why));
	if (r->role == VMPAIR_PRIMARY && r->synced) {
		vmpr_fail(r, "%s: what it has executed is not known, and the other member has everything: this one ends", text);
		return false;
	}
	vmpr_note(r, LOG_WARNING, "%s: %s", text, r->role == VMPAIR_PRIMARY ? "it goes on with what the application holds; a standby begins anew" :
		  "what it has executed is not known: this member begins anew");
	vmpair_session_broken(r->session, r->ev.now_ns, "the connection to the application broke with requests under way");
	return true;
}

/* Broken, or given up: `why` for the request whose answer was due. */
static void backend_broken(struct vmpr_backend *be, enum vmp_refuse why)
{
	struct vmpr_service *sv = be->sv;
	struct vmpr_relay *r = sv->r;
	struct vmpr_req_list reqs = be->reqs;
	bool connecting = be->connecting, lane = be->in_lane, first = true;
	struct vmpr_req *req;

	if (be->gone)
		return;
	be->reqs = (struct vmpr_req_list){ 0 };
	if (be->tunnel) {
		struct vmpr_client *c = TAKE_PTR(be->tunnel);

		vmpr_client_tunnel(c, NULL);
		backend_close(be);
		vmpr_client_eof(c);
		return;
	}
	if (lane && reqs.n) {
		r->lane_sent -= reqs.n;
		sv->retry_at_ns = r->ev.now_ns + RETRY_NS;
		backend_drain(be);
		if (!content_broken(r, sv, why) || r->role != VMPAIR_PRIMARY) {
			requests_drop(&reqs);
			requests_drop(&r->lane);
			return;
		}
	} else {
		backend_close(be);
	}
	if (lane && !reqs.n) {
		if (connecting)
			vmpr_say(r, VMPR_SAY_BACKEND, "service %u: the application cannot be reached; requests wait for it", sv->port);
		sv->retry_at_ns = r->ev.now_ns + RETRY_NS;
	}
	while ((req = vmpr_list_pop(&reqs))) {
		enum vmp_refuse w = first || why == VMP_REFUSE_BACKEND_DOWN ? why : VMP_REFUSE_BACKEND_BROKEN;

		req->be = NULL;
		if (!lane && connecting && !req->client) {
			/* accepted, and nobody to tell: it waits for the application */
			req->state = VMPR_REQ_QUEUED;
			vmpr_list_add(&sv->queue, req);
			sv->retry_at_ns = r->ev.now_ns + RETRY_NS;
		} else if (!lane && !connecting && !req->begun && !req->retried && w == VMP_REFUSE_BACKEND_BROKEN && may_repeat(r, req)) {
			req->retried = true;
			pool_send(req, NULL, 0);
		} else {
			req_fail(req, w);
		}
		first = false;
	}
	if (!lane)
		queue_pump(sv);
}

static int backend_flush(struct vmpr_backend *be)
{
	struct vmpr_relay *r = be->sv->r;

	while (be->writable && be->out.len > 0) {
		struct iovec iov[IOV];
		struct msghdr mh = { .msg_iov = iov };
		ssize_t n;

		mh.msg_iovlen = (size_t)vmpr_queue_iov(&be->out, be->out.len, iov, IOV);
		n = sendmsg(be->src.fd, &mh, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			be->writable = false;
		else if (n < 0)
			return -errno;
		else
			vmpr_queue_drop(&r->pool, &be->out, (size_t)n);
	}
	if (be->out.len == 0 && be->shut && !be->connecting)
		shutdown(be->src.fd, SHUT_WR);
	return 0;
}

static void backend_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_backend *be = vmpr_container(s, struct vmpr_backend, src);
	struct vmpr_relay *r = be->sv->r;

	if (be->connecting) {
		int err = 0;
		socklen_t len = sizeof(err);

		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err) {
			backend_broken(be, VMP_REFUSE_BACKEND_DOWN);
			return;
		}
		be->connecting = false;
		be->sv->n_connecting--;
		vmpr_tmo_stop(&be->tmo);
		if (be->reqs.n)
			vmpr_tmo_arm(&r->ev, &r->t_answer, &be->tmo);
		if (be->in_lane)
			vmpr_lane_pump(r);
		else
			queue_pump(be->sv);
		if (be->gone)
			return;
	}
	if (events & EPOLLOUT) {
		be->writable = true;
		if (backend_flush(be) < 0) {
			backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
			return;
		}
		if (be->tunnel)
			vmpr_client_more(be->tunnel);
	}
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		be->hup = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		be->readable = true;
		backend_run(be);
	}
}

static void connect_late(struct vmpr_tmo *t)
{
	backend_broken(vmpr_container(t, struct vmpr_backend, tmo), VMP_REFUSE_BACKEND_DOWN);
}

static void answer_late(struct vmpr_tmo *t)
{
	struct vmpr_backend *be = vmpr_container(t, struct vmpr_backend, tmo);

	/* not the application's fault while its answer is not taken */
	if (be->paused || be->is_blocked) {
		vmpr_tmo_arm(&be->sv->r->ev, &be->sv->r->t_answer, t);
	} else if (be->draining) {
		vmpr_say(be->sv->r, VMPR_SAY_BACKEND, "service %u: the application still holds a connection that was shut: no state is taken or given "
			 "before it has ended it", be->sv->port);
		vmpr_tmo_arm(&be->sv->r->ev, &be->sv->r->t_answer, t);
	} else
		backend_broken(be, VMP_REFUSE_BACKEND_SLOW);
}

static void pool_late(struct vmpr_tmo *t)
{
	backend_close(vmpr_container(t, struct vmpr_backend, tmo));
}

static struct vmpr_backend *backend_new(struct vmpr_service *sv)
{
	struct vmpr_relay *r = sv->r;
	struct vmpr_backend *be = calloc(1, sizeof(*be));
	CLEANUP_CLOSE int fd = -1;
	int one = 1;

	if (!be)
		return NULL;
	fd = socket(sv->backend.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		goto fail;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&sv->backend.ss, sv->backend.len) == 0)
		be->writable = true;
	else if (errno == EINPROGRESS)
		be->connecting = true;
	else
		goto fail;
	be->sv = sv;
	if (vmpr_src_add(&r->ev, &be->src, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, backend_event) < 0)
		goto fail;
	(void)TAKE_FD(fd);
	sv->n_connecting += be->connecting;
	if (be->connecting)
		vmpr_tmo_arm(&r->ev, &r->t_connect, &be->tmo);
	be->next = r->backends;
	if (be->next)
		be->next->prev = be;
	r->backends = be;
	return be;
fail:
	free(be);
	return NULL;
}

/* --- requests ----------------------------------------------------------------------------------------------------------------------- */
static void backend_send(struct vmpr_backend *be, struct vmpr_req *req, const void *data, size_t len)
{
	struct vmpr_relay *r = be->sv->r;
	struct vmpair_entry e;
	const char *p = data;
	uint64_t number = 0;

	if (!p) {
		if (vmpair_session_entry(r->session, req->conn, req->seq, &e) < 0) {
			/* forgotten: only when the content was given up meanwhile */
			vmpr_client_answered(req, true);
			return;
		}
		p = e.data;
		len = e.len;
	}
	if (!req->dispatched) {
		req->dispatched = true;
		/* a copy to a short-lived buffer is not needed: the session keeps the request's bytes where they are */
		if (vmpair_session_dispatched(r->session, req->conn, req->seq, &number) == 0)
			vmpr_made(r, number);
	}
	req->be = be;
	req->state = VMPR_REQ_SENT;
	vmpr_list_add(&be->reqs, req);
	if (be->reqs.n == 1) {
		vmp_frame_answer_start(&be->st, req->flags, req->swallow);
		if (!be->connecting)
			vmpr_tmo_arm(&r->ev, &r->t_answer, &be->tmo);
	}
	if (be->writable && be->out.len == 0) {
		ssize_t n = send(be->src.fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
			return;
		}
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
		if (len > 0)
			be->writable = n < 0 && errno == EINTR;
	}
	if (len > 0 && (vmpr_queue_put(&r->pool, &be->out, p, len) < 0 || backend_flush(be) < 0))
		backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
}

/* Journal: on to a connection, or wait for one. */
static void pool_send(struct vmpr_req *req, const void *data, size_t len)
{
	struct vmpr_service *sv = req->service;
	struct vmpr_relay *r = sv->r;
	struct vmpr_client *c = sv->pipeline > 1 ? req->client : NULL;
	struct vmpr_backend *be = c ? *vmpr_client_backend(c) : NULL;

	if (!be) {
		be = sv->idle;
		if (be) {
			sv->idle = be->inext;
			be->is_idle = false;
			vmpr_tmo_stop(&be->tmo);
		} else if (may_connect(sv)) {
			be = backend_new(sv);
			if (be) {
				sv->n_backends++;
			} else if (req->client) {
				req_fail(req, VMP_REFUSE_BACKEND_DOWN);
				return;
			} else {
				sv->retry_at_ns = r->ev.now_ns + RETRY_NS;
			}
		}
	}
	if (!be) {
		req->state = VMPR_REQ_QUEUED;
		if (req->client)
			++*vmpr_client_parked(req->client);
		vmpr_list_add(&sv->queue, req);
		return;
	}
	if (c && !be->owner) {
		be->owner = c;
		*vmpr_client_backend(c) = be;
	}
	backend_send(be, req, data, len);
}

void vmpr_dispatch(struct vmpr_req *req, const void *data, size_t len)
{
	struct vmpr_service *sv = req->service;
	struct vmpr_relay *r = sv->r;
	struct vmpr_client *c = req->client;
	uint64_t number = 0;

	if (mirror(r)) {
		req->state = VMPR_REQ_QUEUED;
		vmpr_list_add(&r->lane, req);
		vmpr_lane_pump(r);
		return;
	}
	/* What must not be executed twice is given to the application only when a standby knows that it will be. */
	if (!may_repeat(r, req)) {
		req->dispatched = true;
		if (vmpair_session_dispatched(r->session, req->conn, req->seq, &number) == 0)
			vmpr_made(r, number);
	}
	if (number > vmpair_session_leave_limit(r->session) || (c && *vmpr_client_parked(c))) {
		req->number = number;
		req->state = VMPR_REQ_COMMIT;
		if (c)
			++*vmpr_client_parked(c);
		vmpr_list_add(&r->commit, req);
		return;
	}
	pool_send(req, data, len);
}

void vmpr_backends_release(struct vmpr_relay *r)
{
	while (r->commit.head && r->commit.head->number <= r->limit) {
		struct vmpr_req *req = vmpr_list_pop(&r->commit);

		req_unpark(req);
		req->state = VMPR_REQ_QUEUED;
		/* behind what of this client waits for a connection already */
		if (req->client && *vmpr_client_parked(req->client) && req->service->queue.n) {
			++*vmpr_client_parked(req->client);
			vmpr_list_add(&req->service->queue, req);
		} else {
			pool_send(req, NULL, 0);
		}
	}
}

/* --- answers --------------------------------------------------------------------------------------------------------------------------- */
static void backend_ready(struct vmpr_backend *be)
{
	struct vmpr_service *sv = be->sv;
	struct vmpr_relay *r = sv->r;

	if (be->owner) {
		*vmpr_client_backend(be->owner) = NULL;
		be->owner = NULL;
	}
	if (be->hup || be->gone) {
		backend_close(be);
		queue_pump(sv);
		return;
	}
	vmpr_tmo_arm(&r->ev, &r->t_pool, &be->tmo);
	be->inext = sv->idle;
	sv->idle = be;
	be->is_idle = true;
	queue_pump(sv);
}

static void answer_done(struct vmpr_backend *be, uint32_t flags)
{
	struct vmpr_relay *r = be->sv->r;
	struct vmpr_req *req = vmpr_list_pop(&be->reqs);
	struct vmpr_client *c = req->client;

	be->reused = true;
	req->be = NULL;
	if (be->in_lane)
		r->lane_sent--;
	if (flags & VMP_PART_UPGRADED) {
		vmpr_client_answered(req, false);
		if (!c) {
			backend_close(be);
			return;
		}
		vmpr_tmo_stop(&be->tmo);
		be->tunnel = c;
		if (be->owner)
			*vmpr_client_backend(be->owner) = NULL;
		be->owner = NULL;
		vmpr_client_tunnel(c, be);
		return;
	}
	if (flags & VMP_PART_CLOSE) {
		if (be->reqs.n)
			backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
		else
			backend_close(be);
	} else if (be->reqs.head) {
		vmp_frame_answer_start(&be->st, be->reqs.head->flags, be->reqs.head->swallow);
		vmpr_tmo_arm(&r->ev, &r->t_answer, &be->tmo);
	} else {
		vmpr_tmo_stop(&be->tmo);
	}
	vmpr_client_answered(req, flags & VMP_PART_CLOSE);
	if (be->gone)
		queue_pump(be->sv);
}

/* One piece of it to the session and the client. 0, -ENOBUFS: come again. */
static int answer_put(struct vmpr_req *req, const char *p, size_t len, unsigned int flags, bool more)
{
	struct vmpr_relay *r = req->service->r;
	uint64_t number = 0;
	int n = vmpair_session_answer(r->session, r->ev.now_ns, req->conn, req->seq, p, len, flags, &number);

	if (n == -ENOBUFS)
		return n;
	req->begun = true;
	/* a request the session has given up has nobody who may see an answer */
	if (n < 0)
		return 0;
	vmpr_made(r, number);
	if (req->client)
		vmpr_client_put(req->client, p, len, number, more);
	return 0;
}

static int answer_part(struct vmpr_backend *be, struct vmpr_req *req, const char *p, bool more)
{
	const struct vmp_part *part = &be->part;
	size_t cut[3] = { part->used, part->used, part->used };
	bool done = part->flags & VMP_PART_DONE, varies = mirror(be->sv->r) && (req->flags & VMP_UNIT_VARIES);

	if (part->flags & VMP_PART_SWALLOW)
		return 0;
	if (mirror(be->sv->r) && part->vary_len) {
		cut[0] = part->vary_off;
		cut[1] = cut[0] + part->vary_len;
	}
	for (unsigned int i = 0; i < 3; i++) {
		bool last = cut[i] == part->used;
		int n;

		if (be->part_done > cut[i] || (be->part_done == cut[i] && !last))
			continue;
		n = answer_put(req, p + be->part_done, cut[i] - be->part_done,
			       (varies || (i == 1 && cut[0] < cut[1]) ? VMPAIR_NO_DIGEST : 0) | (done && last ? VMPAIR_LAST : 0), more || !last);
		if (n < 0)
			return n;
		be->part_done = cut[i];
		if (last)
			break;
	}
	return 0;
}

/* Returns the bytes used; the rest is kept. */
static size_t backend_feed(struct vmpr_backend *be, const char *p, size_t len)
{
	struct vmpr_service *sv = be->sv;
	struct vmpr_relay *r = sv->r;
	size_t used = 0;

	be->in_seen = 0;
	while (used < len && !be->gone && !be->paused && !be->is_blocked) {
		struct vmpr_req *req = be->reqs.head;
		struct vmpr_client *c;
		uint32_t flags;

		if (be->tunnel) {
			vmpr_client_put(be->tunnel, p + used, len - used, r->newest, false);
			if (be->tunnel && vmpr_client_owes(be->tunnel) > VMPR_OUT_HIGH) {
				be->paused = true;
				vmpr_client_stops(be->tunnel, be);
			}
			return len;
		}
		if (!req) {
			vmpr_say(r, VMPR_SAY_BACKEND, "service %u: the application sent bytes nobody had asked for", sv->port);
			r->count.backend_errors++;
			backend_close(be);
			return len;
		}
		if (!be->part_open) {
			if (vmp_frame_answer(&be->st, &sv->frame, p + used, len - used, &be->part) < 0) {
				backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
				return len;
			}
			if (be->part.used == 0 && !(be->part.flags & VMP_PART_DONE)) {
				be->in_seen = len - used;
				return used;
			}
			be->part_open = true;
			be->part_done = 0;
		}
		if (answer_part(be, req, p + used, used + be->part.used < len) == -ENOBUFS) {
			be->is_blocked = true;
			be->refs++;
			be->bnext = r->b_blocked;
			r->b_blocked = be;
			return used;
		}
		/* a client that was lost over it is not the backend's matter */
		c = be->reqs.head ? be->reqs.head->client : NULL;
		used += be->part.used;
		flags = be->part.flags;
		be->part_open = false;
		if (c && vmpr_client_owes(c) > VMPR_OUT_HIGH) {
			if (!be->in_lane) {
				be->paused = true;
				vmpr_client_stops(c, be);
			} else if (vmpr_client_owes(c) > VMPR_OUT_MAX) {
				r->count.dropped_slow++;
				vmpr_say(r, VMPR_SAY_CLIENT, "service %u: a client that did not read its answer was dropped", sv->port);
				vmpr_client_cut(c);
			}
		}
		if (flags & VMP_PART_DONE)
			answer_done(be, flags);
		else
			vmpr_tmo_arm(&r->ev, &r->t_answer, &be->tmo);
	}
	return be->gone ? len : used;
}

static void backend_eof(struct vmpr_backend *be)
{
	struct vmpr_req *req = be->reqs.head;

	if (be->tunnel) {
		struct vmpr_client *c = TAKE_PTR(be->tunnel);

		vmpr_client_tunnel(c, NULL);
		backend_close(be);
		vmpr_client_eof(c);
	} else if (req && req->begun && vmp_frame_answer_eof(&be->st, &be->sv->frame) == 0 &&
		   answer_put(req, "", 0, VMPAIR_LAST, false) == 0) {
		answer_done(be, VMP_PART_CLOSE);
	} else if (req) {
		backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
	} else {
		struct vmpr_service *sv = be->sv;

		backend_close(be);
		queue_pump(sv);
	}
}

static int in_set(struct vmpr_backend *be, const char *p, size_t len)
{
	char *in = NULL;

	if (len > 0) {
		in = malloc(len);
		if (!in)
			return -ENOMEM;
		memcpy(in, p, len);
	}
	free(be->in);
	be->in = in;
	be->in_len = len;
	return 0;
}

static void backend_run(struct vmpr_backend *be)
{
	struct vmpr_service *sv = be->sv;
	struct vmpr_relay *r = sv->r;
	char *buf = (char *)r->scratch;

	for (unsigned int i = 0; i < RUN_READS; i++) {
		size_t have = be->in_len, used;
		ssize_t n = 0;

		if (be->gone || be->paused || be->is_blocked)
			break;
		if (be->draining) {
			drain_read(be);
			break;
		}
		/* what was kept comes first; more is read behind it unless it can be passed on as it is */
		if (have > 0)
			memcpy(buf, be->in, have);
		if (have == 0 || be->in_seen == have) {
			if (!be->readable) {
				if (be->eof)
					backend_eof(be);
				break;
			}
			if (have > VMPR_SCRATCH) {
				backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
				break;
			}
			do
				n = recv(be->src.fd, buf + have, VMPR_SCRATCH, 0);
			while (n < 0 && errno == EINTR);
			if (n < 0 && errno == EAGAIN) {
				be->readable = false;
				break;
			}
			if (n <= 0) {
				be->readable = false;
				be->eof = true;
				if (n < 0) {
					backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
					break;
				}
				continue;
			}
			if (n < VMPR_SCRATCH && !be->hup)
				be->readable = false;
		}
		used = backend_feed(be, buf, have + (size_t)n);
		if (!be->gone && in_set(be, buf + used, have + (size_t)n - used) < 0)
			backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
	}
	if (!be->gone && !be->draining) {
		if ((be->readable || be->eof || be->in_len > be->in_seen) && !be->paused && !be->is_blocked)
			backend_again(be);
		else if (!be->reqs.n && !be->tunnel && !be->in_lane && !be->is_idle && !be->connecting)
			backend_ready(be);
	}
	if (!mirror(r))
		return;
	if (r->role == VMPAIR_STANDBY && r->lane.n < LANE_AHEAD / 2)
		vmpr_lane_fill(r);
	else
		vmpr_lane_pump(r);
}

void vmpr_backend_resume(struct vmpr_backend *be)
{
	be->paused = false;
	backend_again(be);
}

void vmpr_backend_disown(struct vmpr_backend *be)
{
	be->owner = NULL;
}

void vmpr_backends_again(struct vmpr_relay *r)
{
	struct vmpr_backend *be = r->b_again, *next;

	r->b_again = NULL;
	for (; be; be = next) {
		next = be->anext;
		be->is_again = false;
		if (!be->gone)
			backend_run(be);
		backend_unref(be);
	}
}

void vmpr_backends_room(struct vmpr_relay *r)
{
	struct vmpr_backend *be = r->b_blocked, *next;

	r->b_blocked = NULL;
	for (; be; be = next) {
		next = be->bnext;
		be->is_blocked = false;
		be->in_seen = 0;
		backend_again(be);
		backend_unref(be);
	}
}

/* --- the lane ------------------------------------------------------------------------------------------------------------------------------ */
void vmpr_lane_fill(struct vmpr_relay *r)
{
	struct vmpair_entry e;

	/* a primary that has just taken over puts all of them before what its clients bring */
	while ((r->role == VMPAIR_PRIMARY || r->lane.n < LANE_AHEAD) && vmpair_session_execute(r->session, &e)) {
		struct vmpr_req *req = vmpr_req_of(r, &e);

		if (!req) {
			/* a request of a service this member does not have: its answer cannot be the same */
			vmpair_session_answer(r->session, r->ev.now_ns, e.conn, e.seq, "", 0, VMPAIR_LAST, NULL);
			continue;
		}
		req->dispatched = true;
		req->state = VMPR_REQ_QUEUED;
		vmpr_list_add(&r->lane, req);
	}
	vmpr_lane_pump(r);
}

void vmpr_lane_pump(struct vmpr_relay *r)
{
	struct vmpr_req *req;

	/* Paused for an export: what counts as given to the application already still is, nothing else. */
	while ((req = r->lane.head) && !(r->lane_paused && !req->dispatched)) {
		struct vmpr_service *sv = req->service;

		if (r->lane_sent > 0 && (r->lane_sv != sv || r->lane_sent >= sv->pipeline))
			return;
		if (!sv->lane) {
			if (r->ev.now_ns < sv->retry_at_ns)
				return;
			sv->lane = backend_new(sv);
			if (!sv->lane) {
				sv->retry_at_ns = r->ev.now_ns + RETRY_NS;
				return;
			}
			sv->retry_at_ns = 0;
			sv->lane->in_lane = true;
		}
		if (sv->lane->connecting || sv->lane->out.len > TUNNEL_OUT)
			return;
		vmpr_list_pop(&r->lane);
		r->lane_sv = sv;
		r->lane_sent++;
		backend_send(sv->lane, req, NULL, 0);
	}
	if (r->lane_paused)
		vmpr_export_pump(r);
}

/* --- tunnels --------------------------------------------------------------------------------------------------------------------------------- */
void vmpr_backend_tunnel_open(struct vmpr_client *c, struct vmpr_service *sv)
{
	struct vmpr_backend *be = backend_new(sv);

	if (!be) {
		vmpr_say(sv->r, VMPR_SAY_BACKEND, "service %u: %s", sv->port, vmp_refuse_text(VMP_REFUSE_BACKEND_DOWN));
		vmpr_client_eof(c);
		return;
	}
	sv->n_backends++;
	be->tunnel = c;
	vmpr_client_tunnel(c, be);
}

size_t vmpr_backend_send_raw(struct vmpr_backend *be, const void *data, size_t len)
{
	struct vmpr_relay *r = be->sv->r;

	if (be->gone || be->out.len >= TUNNEL_OUT)
		return 0;
	if (vmpr_queue_put(&r->pool, &be->out, data, len) < 0 || backend_flush(be) < 0)
		backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
	return len;
}

void vmpr_backend_shut(struct vmpr_backend *be)
{
	be->shut = true;
	if (!be->gone && backend_flush(be) < 0)
		backend_broken(be, VMP_REFUSE_BACKEND_BROKEN);
}

void vmpr_backend_drop(struct vmpr_backend *be)
{
	struct vmpr_service *sv = be->sv;

	be->tunnel = NULL;
	backend_close(be);
	queue_pump(sv);
}

/* --- all ---------------------------------------------------------------------------------------------------------------------------------------- */
/* Role lost: clients have been closed before. What the application still does is told to nobody. */
void vmpr_backends_close(struct vmpr_relay *r)
{
	requests_drop(&r->commit);
	requests_drop(&r->lane);
	for (unsigned int i = 0; i < r->conf.n_services; i++) {
		requests_drop(&r->service[i].queue);
		r->service[i].retry_at_ns = 0;
	}
	while (r->backends) {
		requests_drop(&r->backends->reqs);
		backend_close(r->backends);
	}
	r->lane_sent = 0;
	r->lane_sv = NULL;
}

/*
 * Role lost, mirror kind. What was given to the application is executed, and the session is told: this member's content stays known, and it
 * can be standby at once. What was not given yet is the session's to give again.
 */
void vmpr_lane_keep(struct vmpr_relay *r)
{
	struct vmpr_req_list given = { 0 };
	struct vmpr_req *req;

	requests_drop(&r->commit);
	while ((req = vmpr_list_pop(&r->lane))) {
		if (req->dispatched)
			vmpr_list_add(&given, req);
		else
			vmpr_req_free(req);
	}
	r->lane = given;
}

/*
 * Mirror: the member's content is given up. What the application was not given is forgotten; what it was given it may execute, but nothing
 * of it after the next state was imported.
 */
void vmpr_lane_abandon(struct vmpr_relay *r)
{
	requests_drop(&r->lane);
	for (unsigned int i = 0; i < r->conf.n_services; i++) {
		struct vmpr_backend *be = r->service[i].lane;

		if (!be)
			continue;
		r->lane_sent -= be->reqs.n;
		if (be->reqs.n) {
			requests_drop(&be->reqs);
			backend_drain(be);
		} else {
			backend_close(be);
		}
	}
}

void vmpr_backends_tick(struct vmpr_relay *r)
{
	uint64_t limit_ns = (uint64_t)r->conf.answer_ms * 1000000u, now = r->ev.now_ns;

	for (unsigned int i = 0; i < r->conf.n_services; i++) {
		struct vmpr_service *sv = &r->service[i];

		while (sv->queue.head && sv->queue.head->client && now - sv->queue.head->since_ns > limit_ns) {
			struct vmpr_req *req = vmpr_list_pop(&sv->queue);

			req_unpark(req);
			req_fail(req, VMP_REFUSE_BUSY);
		}
		if (sv->retry_at_ns && now >= sv->retry_at_ns) {
			sv->retry_at_ns = 0;
			if (mirror(r))
				vmpr_lane_pump(r);
			else
				queue_pump(sv);
		}
	}
	/* The lane's requests are executed some time; their clients need not wait for ever. */
	for (struct vmpr_req *req = r->lane.head; req && now - req->since_ns > limit_ns; req = req->next)
		if (req->client) {
			struct vmpr_client *c = req->client;

			vmpr_client_late(c, VMP_REFUSE_BACKEND_SLOW);
			vmpr_client_cut(c);
		}
}

uint64_t vmpr_backends_deadline(const struct vmpr_relay *r)
{
	uint64_t at = VMPR_NEVER;

	for (unsigned int i = 0; i < r->conf.n_services; i++)
		if (r->service[i].retry_at_ns && r->service[i].retry_at_ns < at)
			at = r->service[i].retry_at_ns;
	return at;
}

void vmpr_backends_init(struct vmpr_relay *r)
{
	const uint64_t ms = 1000000;

	vmpr_tmo_list_add(&r->ev, &r->t_connect, r->conf.connect_ms * ms, connect_late);
	vmpr_tmo_list_add(&r->ev, &r->t_answer, r->conf.answer_ms * ms, answer_late);
	vmpr_tmo_list_add(&r->ev, &r->t_pool, r->conf.idle_ms * ms, pool_late);
}
