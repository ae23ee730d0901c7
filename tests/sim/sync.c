/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Seeded simulator of two members: real sessions, a connection that carries bytes in pieces and breaks at any byte, relays that
 * dispatch and answer, applications, clients that repeat what was not answered, and daemons that keep to the register (who may claim,
 * who is in sync) but are late, give claims up, re-claim, and learn of a new primary at any time. Members crash and come back empty.
 * Everything follows from the seed. A primary that was replaced goes on answering as long as its session lets it: no clock protects here.
 *
 *   sync [--runs N] [--seed S] [--kind journal|mirror]    random schedules from seed S on
 *   sync --replay SEED [--verbose]
 *   sync --bug NAME | --all-bugs [--least N] | --list-bugs   (test build) wrong variants
 *
 * Checked: an answer that left is never lost nor changed; in mode sync the recorded member has it, in mode wait none leaves; nothing is
 * executed twice by a member (mirror: per content; redo=never: at all); a fenced standby takes nothing; in the end both members agree,
 * in the order of execution, too; memory stays within its limit; a healed pair comes into sync and every client is answered.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmpair/sync.h"

#ifdef VMPAIR_BUGS
#define VMPAIR_B(name) SIM_BUG_##name,
enum {
#include "heartbeat/lib/bugs.def"
	SIM_BUG_COUNT
};
#undef VMPAIR_B
#define VMPAIR_B(name) #name,
static const char *const bug_name[] = {
#include "heartbeat/lib/bugs.def"
};
#undef VMPAIR_B
void vmpair_session_bugs(struct vmpair_session *s, uint64_t bugs);
static uint64_t bugs;
#endif

#define MS 1000000ull
#define MAX_REQ 48
#define MAX_CLIENTS 5
#define MAX_OUT 3		/* outstanding requests of a client */
#define MAX_JOBS 96
#define PIPE 6000
#define MAX_MEMBERS 128
#define UNKNOWN 0xffffu		/* the answer "nobody knows whether it was done" */

enum { JOURNAL_NEVER, JOURNAL_ALL, MIRROR };

struct req {
	bool has_id, acked, gone;	/* gone: nobody waits for it any more */
	uint32_t value;			/* as acknowledged */
	uint32_t shared;		/* journal: what the shared application made of it, 0: nothing yet */
	unsigned int executed;
	uint64_t by_reign[8];
	unsigned int n_by;
};

struct out {			/* a client's request under way */
	int req;
	uint32_t seq;
	bool half;		/* its second part is still to be sent */
	bool sent;
};

struct client {
	int node;		/* -1: not connected */
	uint64_t conn;
	uint32_t seq;
	unsigned int n;
	struct out out[MAX_OUT];
};

enum job_type { JOB_DISPATCH, JOB_RUN, JOB_ANSWER, JOB_LEAVE, JOB_DONE, JOB_REPEAT };

struct job {			/* what a relay has to do */
	uint8_t type;
	bool begun;
	int req;
	uint64_t conn, number;	/* number: has to be allowed to leave first */
	uint32_t seq, value;
	uint64_t to_conn;	/* REPEAT: who repeats */
	uint32_t to_seq;
};

struct app {			/* mirror: what a member's application has done, in order */
	unsigned int n;
	uint8_t list[MAX_REQ];
	bool has[MAX_REQ];
};

struct node {
	bool up, link;
	struct vmpair_session *s;
	uint64_t member, epoch, fence, claim, claim_member, last;
	bool primary, need_member, app_broken, closing, export_due, exporting;
	uint8_t mode;			/* as told */
	uint8_t sync_node;
	uint64_t sync_member;
	uint8_t putting;		/* 1: alone, 2: sync */
	bool caught, waiting;		/* waiting: op is under way */
	uint64_t caught_member, op, whole_member, whole_number;
	uint8_t caught_node;
	unsigned int n_jobs;
	struct job job[MAX_JOBS];
	struct app app;
	uint8_t export[MAX_REQ + 1], import[MAX_REQ + 1];
	unsigned int export_len, export_at, import_len;
	bool import_last;
};

static struct world {
	uint64_t seed, rng, now, epochs, members, conns, ops, steps;
	int kind;
	bool quiet, broken, verbose, over;
	struct node node[2];
	struct { uint8_t buf[PIPE]; size_t n; } pipe[2];	/* to node i */
	bool eof[2];						/* nothing more comes for node i */
	struct {
		uint64_t epoch, holder_member, sync_member;
		int holder, sync;	/* -1: none */
	} reg;
	struct { uint64_t id, number; } held[MAX_MEMBERS];	/* what each member ever had */
	unsigned int n_held;
	struct req req[MAX_REQ];
	int n_req;
	struct client client[MAX_CLIENTS];
	uint32_t counter;
	size_t buffer;
	uint64_t calm, lazy;	/* one step in so many is a fault; daemons are awake in one of so many */
	char why[200];
} W;

static struct {
	uint64_t schedules, steps, acked, takeovers, resumed, snapshots, repeats, in_sync, dead, records, refused;
} total;

static uint64_t rnd(void)
{
	W.rng ^= W.rng << 13;
	W.rng ^= W.rng >> 7;
	W.rng ^= W.rng << 17;
	return W.rng;
}

static uint64_t below(uint64_t n)
{
	return rnd() % n;
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	va_list ap;

	if (!W.verbose)
		return;
	printf("%6llu ", (unsigned long long)W.steps);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

__attribute__((format(printf, 1, 2))) static void broken(const char *fmt, ...)
{
	va_list ap;

	if (W.broken)
		return;
	W.broken = true;
	va_start(ap, fmt);
	vsnprintf(W.why, sizeof(W.why), fmt, ap);
	va_end(ap);
	say("BROKEN: %s", W.why);
}

static struct vmpair_info info(const struct node *x)
{
	struct vmpair_info i;

	vmpair_session_info(x->s, &i);
	return i;
}

static int index_of(const struct node *x)
{
	return x == &W.node[1];
}

/* --- members ------------------------------------------------------------------------------------------------------------------ */
static void held_by(uint64_t member, uint64_t number)
{
	for (unsigned int i = 0; i < W.n_held; i++) {
		if (W.held[i].id == member) {
			if (number > W.held[i].number)
				W.held[i].number = number;
			return;
		}
	}
	if (W.n_held < MAX_MEMBERS) {
		W.held[W.n_held].id = member;
		W.held[W.n_held++].number = number;
	}
}

static uint64_t what_held(uint64_t member)
{
	for (unsigned int i = 0; i < W.n_held; i++) {
		if (W.held[i].id == member)
			return W.held[i].number;
	}
	return 0;
}

static void start(struct node *x)
{
	int i = index_of(x);
	struct vmpair_session_conf c = { .pair = 1, .member = ++W.members, .random = rnd() | 1, .node = (uint8_t)(i + 1),
					 .kind = W.kind == MIRROR, .pristine = true, .can_export = true, .can_import = true,
					 .buffer_bytes = W.buffer, .keep_ns = VMPAIR_NEVER / 4, .peer_timeout_ns = 300 * MS };

	*x = (struct node){ .up = true, .member = c.member };
	if (vmpair_session_new(&x->s, &c) < 0)
		abort();
#ifdef VMPAIR_BUGS
	vmpair_session_bugs(x->s, bugs);
#endif
	say("%d starts as member %llu", i, (unsigned long long)x->member);
}

static void link_end(struct node *x, const char *why)
{
	if (!x->link)
		return;
	vmpair_session_link_down(x->s, why);
	x->link = x->closing = false;
	x->exporting = x->export_due = false;
	W.pipe[index_of(x)].n = 0;
	W.eof[!index_of(x)] = true;
}

static void relay_down(struct node *x)
{
	for (unsigned int c = 0; c < MAX_CLIENTS; c++) {
		if (W.client[c].node == index_of(x))
			W.client[c].node = -1;
	}
}

static void crash(struct node *x)
{
	say("%d crashes", index_of(x));
	link_end(x, "crash");
	relay_down(x);
	x->s = vmpair_session_free(x->s);
	x->up = x->primary = false;
}

static bool eligible(const struct node *x)
{
	int i = index_of(x);

	return x->up && !x->need_member && (!W.reg.epoch || (i == W.reg.holder && x->member == W.reg.holder_member) ||
			 (i == W.reg.sync && x->member == W.reg.sync_member));
}

/* --- applications -------------------------------------------------------------------------------------------------------------- */
static uint32_t execute(struct node *x, int r, uint64_t reign)
{
	struct req *q = &W.req[r];

	if (W.kind == MIRROR) {
		if (x->app.has[r])
			broken("request %d is executed twice by member %llu", r, (unsigned long long)x->member);
		x->app.has[r] = true;
		if (x->app.n < MAX_REQ)
			x->app.list[x->app.n++] = (uint8_t)r;
		return x->app.n;
	}
	for (unsigned int i = 0; i < q->n_by; i++) {
		if (q->by_reign[i] == reign)
			broken("request %d is executed twice by one primary", r);
	}
	if (q->n_by < 8)
		q->by_reign[q->n_by++] = reign;
	if (W.kind == JOURNAL_NEVER && q->executed)
		broken("request %d is executed twice, redo=never", r);
	q->executed++;
	if (!q->shared || !q->has_id)	/* the application knows ids */
		q->shared = ++W.counter;
	return q->shared;
}

/* --- relay --------------------------------------------------------------------------------------------------------------------- */
static struct job *job_add(struct node *x, enum job_type type, int req, uint64_t conn, uint32_t seq)
{
	static struct job none;

	if (x->n_jobs == MAX_JOBS) {
		broken("the simulator's table of jobs is too small");
		return &none;
	}
	x->job[x->n_jobs] = (struct job){ .type = (uint8_t)type, .req = req, .conn = conn, .seq = seq };
	return &x->job[x->n_jobs++];
}

static void job_del(struct node *x, unsigned int i)
{
	memmove(&x->job[i], &x->job[i + 1], sizeof(x->job[0]) * (--x->n_jobs - i));
}

static int req_of(const void *data, size_t len)
{
	const uint8_t *p = data;

	if (len < 2 || p[0] >= W.n_req) {
		broken("a request came out as something else");
		return 0;
	}
	for (size_t i = 1; i < len; i++) {
		if (p[i] != (uint8_t)(p[0] * 7 + i)) {
			broken("request %d came out changed", p[0]);
			break;
		}
	}
	return p[0];
}

static size_t req_make(int r, uint8_t *buf)
{
	size_t len = 2 + (size_t)(r * 37 % 90);

	if (r % 11 == 3)
		len += 700;
	buf[0] = (uint8_t)r;
	for (size_t i = 1; i < len; i++)
		buf[i] = (uint8_t)(r * 7 + (int)i);
	return len;
}

static uint64_t reign_of(const struct node *x)
{
	return (uint64_t)x->member << 32 | x->epoch;
}

/* An answer reaches the client. */
static void acked(struct node *x, uint64_t conn, uint32_t seq, int r, uint32_t value, uint64_t number)
{
	struct req *q = &W.req[r];

	if (x->mode == VMPAIR_MODE_WAIT)
		broken("an answer left in mode wait");
	if (x->mode == VMPAIR_MODE_SYNC && what_held(x->sync_member) < number)
		broken("answer %d left with record %llu, member %llu has %llu", r, (unsigned long long)number,
		       (unsigned long long)x->sync_member, (unsigned long long)what_held(x->sync_member));
	for (unsigned int c = 0; c < MAX_CLIENTS; c++) {
		struct client *k = &W.client[c];

		if (k->node != index_of(x) || k->conn != conn)
			continue;
		for (unsigned int i = 0; i < k->n; i++) {
			if (k->out[i].seq != seq)
				continue;
			if (k->out[i].req != r)
				broken("request %d got the answer of %d", k->out[i].req, r);
			if (q->acked && q->value != value)
				broken("request %d was answered by %u, now by %u", r, q->value, value);
			if (!q->acked)
				total.acked++;
			q->acked = true;
			q->value = value;
			say("%d answers request %d: %u (record %llu)", index_of(x), r, value, (unsigned long long)number);
			memmove(&k->out[i], &k->out[i + 1], sizeof(k->out[0]) * (--k->n - i));
			return;
		}
	}
}

static void answer_bytes(int r, uint32_t value, uint8_t buf[6])
{
	buf[0] = (uint8_t)value;
	buf[1] = (uint8_t)(value >> 8);
	buf[2] = (uint8_t)r;
	memset(buf + 3, 0x77, 3);
}

static bool stored(struct node *x, const struct vmpair_entry *e, int r, uint32_t *ret_value)
{
	uint8_t got[6];
	size_t have = 0, n;
	const void *p;

	while (have < 6 && vmpair_session_stored(x->s, e->conn, e->seq, have, &p, &n) == 0 && n) {
		if (have + n > 6)
			n = 6 - have;
		memcpy(got + have, p, n);
		have += n;
	}
	if (have != 6 || got[2] != r)
		return false;
	*ret_value = got[0] | (uint32_t)got[1] << 8;
	return true;
}

/* True: the job is over. */
static bool job_run(struct node *x, struct job *j)
{
	uint8_t a[6];
	uint32_t v;
	uint64_t number;
	struct vmpair_entry e;
	int rc;

	switch (j->type) {
	case JOB_DISPATCH:	/* journal */
		rc = vmpair_session_dispatched(x->s, j->conn, j->seq, &number);
		if (rc < 0)
			return rc != -ENOMEM;
		j->type = JOB_RUN;
		j->number = W.kind == JOURNAL_NEVER ? number : 0;
		return false;
	case JOB_RUN:
		if (!vmpair_session_may_leave(x->s, j->number))
			return false;
		if (W.kind == MIRROR && vmpair_session_entry(x->s, j->conn, j->seq, &e) < 0)
			return true;
		j->value = execute(x, j->req, reign_of(x));
		j->type = JOB_ANSWER;
		return false;
	case JOB_ANSWER:
		answer_bytes(j->req, j->value, a);
		if (!j->begun && below(4) == 0) {
			rc = vmpair_session_answer(x->s, W.now, j->conn, j->seq, a, 3, 0, NULL);
			if (rc == 0)
				j->begun = true;
			return rc < 0 && rc != -ENOBUFS;
		}
		rc = vmpair_session_answer(x->s, W.now, j->conn, j->seq, a + (j->begun ? 3 : 0), j->begun ? 3 : 6, VMPAIR_LAST, &number);
		if (rc == -ENOBUFS)
			return false;
		if (rc < 0 || !x->primary || !number)
			return true;
		j->type = JOB_LEAVE;
		j->number = number;
		return false;
	case JOB_LEAVE:
		if (!vmpair_session_may_leave(x->s, j->number))
			return false;
		acked(x, j->conn, j->seq, j->req, j->value, j->number);
		j->type = JOB_DONE;
		return false;
	case JOB_DONE:
		return vmpair_session_done(x->s, W.now, j->conn, j->seq) != -ENOMEM;
	case JOB_REPEAT:
		if (vmpair_session_entry(x->s, j->conn, j->seq, &e) < 0)
			return true;
		if (e.state != VMPAIR_ANSWERED && e.state != VMPAIR_FINISHED)
			return false;
		if (!vmpair_session_may_leave(x->s, e.answer_number))
			return false;
		if (e.kept && stored(x, &e, j->req, &v)) {
			total.repeats++;
			acked(x, j->to_conn, j->to_seq, j->req, v, e.answer_number);
		} else if (e.kept) {
			broken("the stored answer of request %d is damaged", j->req);
		}
		return true;
	}
	return true;
}

static void relay_step(struct node *x)
{
	struct vmpair_entry e;
	unsigned int i, lane = 0;

	if (W.kind == MIRROR) {
		for (i = 0; i < x->n_jobs; i++)
			lane += x->job[i].type == JOB_RUN || x->job[i].type == JOB_ANSWER;
		if (x->export_due) {
			if (vmpair_session_export_start(x->s) == 0) {
				x->export[0] = (uint8_t)x->app.n;
				memcpy(x->export + 1, x->app.list, x->app.n);
				x->export_len = x->app.n + 1;
				x->export_at = 0;
				x->exporting = true;
				x->export_due = false;
			}
		} else if (lane < 3 && below(2) && vmpair_session_execute(x->s, &e)) {
			job_add(x, JOB_RUN, req_of(e.data, e.len), e.conn, e.seq);
		}
		if (x->exporting && below(2)) {
			unsigned int n = 1 + (unsigned int)below(x->export_len - x->export_at);
			bool last = x->export_at + n == x->export_len;
			int rc = vmpair_session_export(x->s, x->export + x->export_at, n, last);

			if (rc == 0)
				x->export_at += n;
			if (rc == -ENOENT || (rc == 0 && last))
				x->exporting = false;
		}
	}
	if (!x->n_jobs)
		return;
	/* A lane is served in order: the first of its jobs only. */
	i = (unsigned int)below(x->n_jobs);
	if (W.kind == MIRROR && (x->job[i].type == JOB_RUN || x->job[i].type == JOB_ANSWER)) {
		for (i = 0; x->job[i].type != JOB_RUN && x->job[i].type != JOB_ANSWER; i++)
			;
	}
	if (job_run(x, &x->job[i]))
		job_del(x, i);
}

/* --- clients ------------------------------------------------------------------------------------------------------------------- */
static void client_lost(struct client *k)
{
	unsigned int n = 0;

	k->node = -1;
	for (unsigned int i = 0; i < k->n; i++) {
		struct req *q = &W.req[k->out[i].req];

		if (!q->has_id) {	/* nothing to repeat it by */
			q->gone = true;
			continue;
		}
		k->out[n] = k->out[i];
		k->out[n].sent = k->out[n].half = false;
		n++;
	}
	k->n = n;
}

static void client_send(struct node *x, struct client *k, struct out *o)
{
	uint8_t data[1024], id[2];
	struct vmpair_request r = { .conn = k->conn, .seq = o->seq, .data = data };
	struct vmpair_entry e;
	int rc;

	r.len = req_make(o->req, data);
	if (o->half) {
		r.data = data + r.len / 2;
		r.len -= r.len / 2;
		r.flags = VMPAIR_LAST;
	} else {
		o->seq = ++k->seq;
		r.seq = o->seq;
		if (W.req[o->req].has_id) {
			id[0] = (uint8_t)o->req;
			id[1] = 0x55;
			r.id = id;
			r.id_len = 2;
			r.flags = VMPAIR_HAS_ID;
			if (vmpair_session_find(x->s, 0, id, 2, &e) == 0) {
				struct job *j = job_add(x, JOB_REPEAT, o->req, e.conn, e.seq);

				j->to_conn = k->conn;
				j->to_seq = o->seq;
				o->sent = true;
				return;
			}
		}
		if (below(5) == 0)
			r.len /= 2;
		else
			r.flags |= VMPAIR_LAST;
	}
	rc = vmpair_session_request(x->s, W.now, &r, NULL);
	if (rc == -ENOBUFS)
		return;
	if (rc < 0) {
		broken("request %d: %s", o->req, strerror(-rc));
		return;
	}
	o->half = !(r.flags & VMPAIR_LAST);
	o->sent = !o->half;
	if (o->sent && W.kind != MIRROR)
		job_add(x, JOB_DISPATCH, o->req, k->conn, o->seq);
}

static void client_step(struct client *k)
{
	struct node *x;
	unsigned int i;

	if (k->node < 0) {
		client_lost(k);
		x = &W.node[below(2)];
		if (!x->up || !x->primary)
			return;
		k->node = index_of(x);
		k->conn = ++W.conns;
		k->seq = 0;
		if (below(2))
			vmpair_session_open(x->s, W.now, k->conn, 0, NULL, 0);
		return;
	}
	x = &W.node[k->node];
	if ((below(W.quiet ? 100000 : 60) == 0) || !x->primary) {	/* hangs up */
		if (x->primary && below(3))
			vmpair_session_close(x->s, W.now, k->conn);
		client_lost(k);
		return;
	}
	for (i = 0; i < k->n; i++) {
		if (!k->out[i].sent) {
			client_send(x, k, &k->out[i]);
			return;
		}
	}
	if (k->n < MAX_OUT && W.n_req < MAX_REQ && !W.quiet) {
		W.req[W.n_req] = (struct req){ .has_id = below(4) != 0 };
		k->out[k->n++] = (struct out){ .req = W.n_req++ };
	}
}

/* --- daemon ------------------------------------------------------------------------------------------------------------------- */
static void mode(struct node *x, uint8_t m, uint64_t op)
{
	static const char *const name[] = { "wait", "alone", "sync" };

	x->mode = m;
	x->op = op;
	say("%d mode %s, op %llu, member %llu", index_of(x), name[m], (unsigned long long)op, (unsigned long long)x->sync_member);
	vmpair_session_mode(x->s, m, op, m == VMPAIR_MODE_SYNC ? x->sync_node : 0, m == VMPAIR_MODE_SYNC ? x->sync_member : 0);
}

static void jobs_end(struct node *x)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < x->n_jobs; i++) {
		struct job *j = &x->job[i];

		if (W.kind == MIRROR && (j->type == JOB_RUN || j->type == JOB_ANSWER)) {
			x->job[n++] = *j;	/* the application goes on, its answer counts */
		} else if (W.kind != MIRROR && j->type == JOB_RUN && vmpair_session_may_leave(x->s, j->number) && below(2)) {
			execute(x, j->req, reign_of(x));	/* it was on its way */
		}
	}
	x->n_jobs = n;
}

static void become_standby(struct node *x)
{
	if (x->primary) {
		jobs_end(x);
		relay_down(x);
		x->primary = false;
		x->putting = 0;
		x->caught = x->waiting = false;
		if (below(2))
			vmpair_session_idle(x->s);
	}
	x->exporting = x->export_due = false;
	x->mode = VMPAIR_MODE_WAIT;
	x->epoch = W.reg.epoch;
	vmpair_session_standby(x->s, W.now, W.reg.epoch);
	if (x->fence < W.reg.epoch)
		x->fence = W.reg.epoch;
}

static void become_primary(struct node *x)
{
	uint64_t cursor = 0;
	struct vmpair_entry e;
	int rc;

	rc = vmpair_session_primary(x->s, W.now, x->claim);
	if (rc < 0) {
		broken("primary of epoch %llu: %s", (unsigned long long)x->claim, strerror(-rc));
		return;
	}
	if (rc == 1 && W.reg.epoch)
		broken("a new history was begun");
	say("%d is primary of epoch %llu, record %llu", index_of(x), (unsigned long long)x->claim, (unsigned long long)info(x).number);
	total.takeovers += W.reg.epoch != 0;
	x->primary = true;
	x->epoch = x->claim;
	W.reg.epoch = x->claim;
	W.reg.holder = index_of(x);
	W.reg.holder_member = x->member;
	W.reg.sync = -1;
	W.reg.sync_member = 0;
	x->putting = 0;
	x->caught = x->waiting = false;
	mode(x, VMPAIR_MODE_ALONE, 0);
	while (W.kind != MIRROR && vmpair_session_next_unfinished(x->s, &cursor, &e)) {
		int r = req_of(e.data, e.len);

		if (W.kind == JOURNAL_NEVER && e.state == VMPAIR_UNDER_WAY) {
			if (e.flags & VMPAIR_HAS_ID) {	/* so that a repetition is told the same */
				struct job *j = job_add(x, JOB_ANSWER, r, e.conn, e.seq);

				j->value = UNKNOWN;
				j->begun = false;
				vmpair_session_dispatched(x->s, e.conn, e.seq, NULL);
			} else {
				vmpair_session_drop(x->s, e.conn, e.seq, "unknown");
			}
		} else {
			job_add(x, JOB_DISPATCH, r, e.conn, e.seq);
		}
	}
}

static void daemon_step(struct node *x)
{
	int i = index_of(x);

	if (x->claim) {
		if (below(6) == 0 && !W.quiet) {
			say("%d gives its claim up", i);
		} else if (below(2)) {
			return;
		} else if (eligible(x) && x->member == x->claim_member && W.reg.epoch < x->claim) {
			if (!x->primary) {
				become_primary(x);
			} else if (W.reg.epoch == x->epoch) {	/* re-claim: the state is put again */
				if (vmpair_session_primary(x->s, W.now, x->claim) < 0)
					broken("re-claim refused");
				W.reg.epoch = x->epoch = x->claim;
			}
		}
		x->claim = 0;
		return;
	}
	if (x->need_member) {
		uint64_t fresh = ++W.members;

		x->need_member = x->app_broken = false;
		say("%d gets member %llu", i, (unsigned long long)fresh);
		if (!x->primary && vmpair_session_set_member(x->s, fresh) == 0) {
			x->member = fresh;
			x->n_jobs = 0;
			x->app = (struct app){ 0 };
			x->import_len = 0;
		}
		return;
	}
	if (!x->primary) {
		const struct node *h = &W.node[W.reg.holder < 0 ? 0 : W.reg.holder];
		bool lost = !W.reg.epoch || !h->up || h->member != W.reg.holder_member || !h->primary;

		if (eligible(x) && (lost || (!W.quiet && below(12) == 0)) && below(3) == 0) {
			x->claim = ++W.epochs;
			x->claim_member = x->member;
			x->fence = x->claim;
			say("%d claims epoch %llu", i, (unsigned long long)x->claim);
			vmpair_session_fence(x->s, x->claim);
		} else if (W.reg.epoch && W.reg.holder != i && (info(x).role != VMPAIR_STANDBY || W.reg.epoch > x->epoch)) {
			become_standby(x);
		}
		return;
	}
	if (W.reg.epoch > x->epoch) {
		if (below(4) == 0)
			become_standby(x);
		return;
	}
	/* a voter promised more than we hold: the other gave a claim up, or nothing at all happened */
	if ((W.epochs > x->epoch && below(8) == 0) || (!W.quiet && below(100) == 0)) {
		x->claim = ++W.epochs;
		x->claim_member = x->member;
		x->fence = x->claim;
		vmpair_session_fence(x->s, x->claim);
		return;
	}
	switch (x->putting) {
	case 1:
		W.reg.sync = -1;
		W.reg.sync_member = 0;
		x->putting = 3;
		return;
	case 2:
		W.reg.sync = x->sync_node - 1;
		W.reg.sync_member = x->sync_member;
		x->putting = 4;
		return;
	case 3:
		x->putting = 0;
		mode(x, VMPAIR_MODE_ALONE, 0);
		return;
	case 4:
		x->putting = 0;
		say("member %llu is in sync", (unsigned long long)x->sync_member);
		total.in_sync++;
		mode(x, VMPAIR_MODE_SYNC, 0);
		return;
	default:
		break;
	}
	if (x->mode == VMPAIR_MODE_SYNC && (!x->caught || x->caught_member != x->sync_member)) {
		mode(x, VMPAIR_MODE_WAIT, 0);
		x->putting = 1;
	} else if (x->mode == VMPAIR_MODE_ALONE && x->caught && !x->waiting) {
		mode(x, VMPAIR_MODE_WAIT, ++W.ops);
		x->waiting = true;
	} else if (x->waiting && !x->caught) {
		x->waiting = false;
		mode(x, VMPAIR_MODE_ALONE, 0);
	}
}

/* --- connection ---------------------------------------------------------------------------------------------------------------- */
static void events(struct node *x)
{
	struct vmpair_event ev;
	int i = index_of(x);

	while (x->up && vmpair_session_next_event(x->s, &ev)) {
		switch (ev.type) {
		case VMPAIR_EV_CAUGHT:
			say("%d caught %d op %llu member %llu", i, ev.on, (unsigned long long)ev.op, (unsigned long long)ev.member);
			if (!ev.op) {
				x->caught = ev.on;
				x->caught_member = ev.member;
				x->caught_node = ev.node;
			} else if (x->waiting && ev.op == x->op && x->caught && ev.member == x->caught_member) {
				x->waiting = false;
				x->sync_node = ev.node;
				x->sync_member = ev.member;
				x->putting = 2;
			}
			break;
		case VMPAIR_EV_NEED_MEMBER:
			x->need_member = true;
			break;
		case VMPAIR_EV_NEED_EXPORT:
			x->export_due = true;
			break;
		case VMPAIR_EV_IMPORT:
			if (x->import_len + ev.len > sizeof(x->import)) {
				broken("the state is longer than what was sent");
				break;
			}
			memcpy(x->import + x->import_len, ev.data, ev.len);
			x->import_len += (unsigned int)ev.len;
			x->import_last = ev.last;
			break;
		case VMPAIR_EV_REFUSED:
			total.refused++;
			x->closing = true;
			say("%d refused: %s", i, ev.reason);
			break;
		case VMPAIR_EV_LINK_LOST:
			say("%d lost: %s", i, ev.reason);
			if (strstr(ev.reason, "does not fit") || strstr(ev.reason, "was due") || strstr(ev.reason, "is no record"))
				broken("%s", ev.reason);
			link_end(x, NULL);
			x->import_len = 0;
			x->import_last = false;
			break;
		case VMPAIR_EV_DIVERGED:
			broken("the answers of record %llu differ", (unsigned long long)ev.number);
			break;
		default:
			break;
		}
	}
}

static void connect_them(void)
{
	for (int p = 0; p < 2; p++) {
		struct node *a = &W.node[p], *b = &W.node[!p];

		if (!a->up || !b->up || !a->primary || info(b).role != VMPAIR_STANDBY || a->link || b->link || b->claim)
			continue;
		if (vmpair_session_link_up(a->s, W.now, false) < 0 || vmpair_session_link_up(b->s, W.now, true) < 0) {
			broken("a connection is not taken");
			return;
		}
		a->link = b->link = true;
		b->import_len = 0;
		b->import_last = false;
		b->need_member = b->app_broken;
		W.pipe[0].n = W.pipe[1].n = 0;
		W.eof[0] = W.eof[1] = false;
		say("%d connects to %d", !p, p);
		return;
	}
}

static void send_some(struct node *x)
{
	int to = !index_of(x);
	const void *p;
	size_t n;

	if (!x->link)
		return;
	n = vmpair_session_output(x->s, &p);
	if (!n) {
		if (x->closing)
			link_end(x, NULL);
		return;
	}
	if (below(2))
		n = 1 + below(n);
	if (n > PIPE - W.pipe[to].n)
		n = PIPE - W.pipe[to].n;
	if (W.node[to].link && !W.eof[to]) {
		memcpy(W.pipe[to].buf + W.pipe[to].n, p, n);
		W.pipe[to].n += n;
	}
	vmpair_session_output_done(x->s, W.now, n);
}

static void receive_some(struct node *x)
{
	int i = index_of(x);
	size_t n = W.pipe[i].n;
	struct vmpair_info was, is;

	if (!x->link)
		return;
	if (!n) {
		if (W.eof[i])
			link_end(x, "closed by the other side");
		return;
	}
	if (!vmpair_session_wants_input(x->s))
		return;
	if (below(2))
		n = 1 + below(n);
	was = info(x);
	vmpair_session_input(x->s, W.now, W.pipe[i].buf, n);
	W.pipe[i].n -= n;
	memmove(W.pipe[i].buf, W.pipe[i].buf + n, W.pipe[i].n);
	is = info(x);
	if (!x->primary && is.number > was.number && is.epoch && is.epoch < x->fence)
		broken("record %llu of epoch %llu was taken after the fence at %llu", (unsigned long long)is.number,
		       (unsigned long long)is.epoch, (unsigned long long)x->fence);
	total.records += is.records_taken - was.records_taken;
	total.resumed += !x->primary && is.resumed > was.resumed;
	total.snapshots += !x->primary && is.snapshots > was.snapshots;
	events(x);
	if (x->import_last && x->link) {
		bool ok = W.quiet || below(5);

		if (ok) {
			x->app = (struct app){ .n = x->import[0] };
			memcpy(x->app.list, x->import + 1, x->app.n);
			for (unsigned int k = 0; k < x->app.n; k++)
				x->app.has[x->app.list[k]] = true;
		}
		if (ok && below(3))
			return;		/* it takes its time */
		x->import_last = false;
		x->import_len = 0;
		vmpair_session_imported(x->s, W.now, ok);
	}
}

static void import_step(struct node *x)
{
	if (x->link && x->import_last && below(3) == 0) {
		x->app = (struct app){ .n = x->import[0] };
		memcpy(x->app.list, x->import + 1, x->app.n);
		for (unsigned int k = 0; k < x->app.n; k++)
			x->app.has[x->app.list[k]] = true;
		x->import_last = false;
		x->import_len = 0;
		vmpair_session_imported(x->s, W.now, true);
	}
}

/* Mirror: a member's application breaks with requests under way. */
static void app_breaks(struct node *x)
{
	unsigned int n = 0;
	int rc = vmpair_session_broken(x->s, W.now, "the application broke");

	say("%d: the application breaks", index_of(x));
	if (rc < 0)
		broken("the application broke: %s", strerror(-rc));
	if (x->primary)
		return;			/* what it does from here on is right by definition */
	events(x);
	x->app_broken = x->need_member;	/* not one that stands for nothing yet */
	for (unsigned int i = 0; i < x->n_jobs; i++) {
		if (x->job[i].type != JOB_RUN && x->job[i].type != JOB_ANSWER)
			x->job[n++] = x->job[i];
	}
	x->n_jobs = n;
}

static void fault(void)
{
	struct node *x = &W.node[below(2)], *y = &W.node[!index_of(x)];

	switch (below(W.kind == MIRROR ? 9 : 8)) {
	case 8:
		if (x->up && (x->primary ? x->mode == VMPAIR_MODE_ALONE && W.reg.sync < 0 : !eligible(x) || eligible(y)))
			app_breaks(x);
		break;
	case 6:
	case 7:
	case 0:		/* a member that is needed is spared: nothing could be checked any more */
		if (x->up && (!eligible(x) || eligible(y)))
			crash(x);
		break;
	case 1:
	case 2:
		if (x->link && below(2))
			link_end(x, "broken");
		break;
	case 3:		/* both ends at once, with all that is under way */
		link_end(x, "broken");
		link_end(y, "broken");
		break;
	case 4:
		W.now += below(2000) * MS;
		break;
	default:
		if (!x->link || !y->link || !W.pipe[index_of(x)].n)
			break;
		/* the end of what is under way is lost, then the connection */
		W.pipe[index_of(x)].n = below(W.pipe[index_of(x)].n);
		link_end(y, "broken");
		break;
	}
}

/* I2: a member id stands for one content. */
static void content_check(struct node *x)
{
	struct vmpair_info is = info(x);

	if (x->primary || x->need_member)	/* which the daemon knows as soon as the relay does */
		return;
	if (is.caught_up)
		held_by(x->member, is.number);
	if (x->whole_member == x->member && (!is.caught_up || is.number < x->whole_number))
		broken("member %llu gave up what it held (%llu, now %llu) and kept its id", (unsigned long long)x->member,
		       (unsigned long long)x->whole_number, (unsigned long long)is.number);
	if (is.caught_up) {
		x->whole_member = x->member;
		x->whole_number = is.number;
	}
}

/* --- a schedule ------------------------------------------------------------------------------------------------------------------ */
static void step(void)
{
	struct node *x = &W.node[below(2)];

	W.steps++;
	W.now += below(3) == 0 ? below(4) * MS : below(100000);
	if (!x->up) {
		if (below(8) == 0)
			start(x);
		return;
	}
	switch (below(12)) {
	case 0:
	case 1:
		if (W.quiet || below(W.lazy) == 0)
			daemon_step(x);
		break;
	case 2:
	case 3: relay_step(x); break;
	case 4:
	case 5: send_some(x); break;
	case 6:
	case 7: receive_some(x); break;
	case 8:
	case 9: client_step(&W.client[below(MAX_CLIENTS)]); break;
	case 10:
		connect_them();
		import_step(x);
		break;
	default:
		vmpair_session_tick(x->s, W.now);
		if (!W.quiet && below(W.calm) == 0)
			fault();
		break;
	}
	for (unsigned int i = 0; i < 2; i++) {
		struct node *y = &W.node[i];

		if (!y->up)
			continue;
		events(y);
		content_check(y);
	}
	if (x->up && x->primary && info(x).bytes > W.buffer + W.buffer / 8 + 65536)
		broken("%zu bytes are in use of %zu", info(x).bytes, W.buffer);
}

static bool settled(void)
{
	for (int p = 0; p < 2; p++) {
		struct node *a = &W.node[p], *b = &W.node[!p];
		struct vmpair_info ia, ib;

		if (!a->up || !b->up || !a->primary || b->primary || a->epoch != W.reg.epoch || a->mode != VMPAIR_MODE_SYNC || a->n_jobs ||
		    b->n_jobs || a->putting || a->claim || b->claim)
			continue;
		ia = info(a);
		ib = info(b);
		if (ia.held != ia.number || ib.number != ia.number || !ib.linked)
			continue;
		for (unsigned int c = 0; c < MAX_CLIENTS; c++) {
			if (W.client[c].n)
				return false;
		}
		if (W.kind == MIRROR && a->app.n != b->app.n)
			continue;
		return true;
	}
	return false;
}

static void final_check(void)
{
	struct node *a = &W.node[W.reg.holder], *b = &W.node[!W.reg.holder];
	struct vmpair_info ia = info(a), ib = info(b);

	if (ia.history != ib.history)
		broken("two histories");
	if (ia.entries != ib.entries || ia.unfinished != ib.unfinished || ia.finished != ib.finished) {
		if (!ia.evicted && !ib.evicted)
			broken("the tables differ: %llu and %llu entries", (unsigned long long)ia.entries, (unsigned long long)ib.entries);
	}
	for (int r = 0; r < W.n_req; r++) {
		uint8_t id[2] = { (uint8_t)r, 0x55 };
		struct req *q = &W.req[r];
		struct vmpair_entry e;
		uint32_t v;

		if (!q->acked)
			continue;
		if (W.kind == MIRROR) {
			if (!q->value || q->value > a->app.n || a->app.list[q->value - 1] != r)
				broken("request %d was answered as number %u, that is another one", r, q->value);
		} else if (!q->executed && q->value != UNKNOWN) {
			broken("request %d was answered and never executed", r);
		}
		if (!q->has_id || ia.evicted || ib.evicted)
			continue;
		for (int k = 0; k < 2; k++) {
			struct node *x = k ? b : a;

			if (vmpair_session_find(x->s, 0, id, 2, &e) < 0)
				broken("request %d was answered, member %llu does not know it", r, (unsigned long long)x->member);
			else if (!stored(x, &e, r, &v) || v != q->value)
				broken("request %d was answered by %u, member %llu does not have that", r, q->value,
				       (unsigned long long)x->member);
		}
	}
	if (W.kind == MIRROR && memcmp(a->app.list, b->app.list, a->app.n))
		broken("the members executed in different orders");
}

static bool schedule(uint64_t seed, int kind, bool verbose)
{
	unsigned int n, i;

	memset(&W, 0, sizeof(W));
	W.verbose = verbose;
	W.seed = seed;
	W.rng = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	for (i = 0; i < 8; i++)
		rnd();
	W.kind = kind >= 0 ? kind : (int)below(3);
	W.now = 1000 * MS;
	W.reg.holder = W.reg.sync = -1;
	/* Small buffers bring back-pressure, eviction, and standbys that are too far behind. */
	W.buffer = below(2) ? 65536 : 1 << 20;
	W.calm = 4ull << below(5);
	W.lazy = 1ull << 2 * below(4);
	for (i = 0; i < MAX_CLIENTS; i++)
		W.client[i].node = -1;
	start(&W.node[0]);
	start(&W.node[1]);
	n = 500 + (unsigned int)below(2500);
	for (i = 0; i < n && !W.broken; i++)
		step();
	W.quiet = true;
	say("quiet from here on");
	for (i = 0; i < 60000 && !W.broken; i++) {
		step();
		if (i % 16 == 0 && settled())
			break;
		if (!eligible(&W.node[0]) && !eligible(&W.node[1]) && !W.node[0].claim && !W.node[1].claim)
			break;
	}
	if (!W.broken && (eligible(&W.node[0]) || eligible(&W.node[1]))) {
		if (!settled())
			broken("the healed pair does not come into sync");
		else
			final_check();
	} else if (!W.broken) {
		total.dead++;
	}
	total.schedules++;
	total.steps += W.steps;
	for (i = 0; i < 2; i++)
		W.node[i].s = vmpair_session_free(W.node[i].s);
	return !W.broken;
}

static int run(uint64_t seed, uint64_t runs, int kind)
{
	struct timespec a, b;
	double s;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (uint64_t i = 0; i < runs; i++) {
		if (!schedule(seed + i, kind, false)) {
			printf("not ok - seed %llu, step %llu: %s\n", (unsigned long long)(seed + i), (unsigned long long)W.steps, W.why);
			return 1;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	printf("ok - %llu schedules in %.1f s: %llu steps, %llu records, %llu requests answered, %llu repeated, %llu takeovers, %llu resumed, "
	       "%llu full resynchronisations, %llu times in sync, %llu refused, %llu without a survivor\n",
	       (unsigned long long)total.schedules, s, (unsigned long long)total.steps, (unsigned long long)total.records,
	       (unsigned long long)total.acked, (unsigned long long)total.repeats, (unsigned long long)total.takeovers,
	       (unsigned long long)total.resumed, (unsigned long long)total.snapshots, (unsigned long long)total.in_sync,
	       (unsigned long long)total.refused, (unsigned long long)total.dead);
	return 0;
}

#ifdef VMPAIR_BUGS
static int all_bugs(uint64_t runs, uint64_t least, const char *only)
{
	uint64_t caught = 0, tried = 0;

	for (unsigned int b = 0; b < SIM_BUG_COUNT; b++) {
		uint64_t seed;

		if (only && strcmp(only, bug_name[b]))
			continue;
		bugs = 1ull << b;
		tried++;
		for (seed = 1; seed <= runs && schedule(seed, -1, false); seed++)
			;
		if (seed <= runs) {
			caught++;
			printf("# %-20s caught by seed %llu: %s\n", bug_name[b], (unsigned long long)seed, W.why);
		} else {
			printf("# %-20s NOT caught in %llu schedules\n", bug_name[b], (unsigned long long)runs);
		}
	}
	if (only)
		least = 1;
	printf("%s - %llu of %llu wrong variants caught\n", tried && caught >= least ? "ok" : "not ok", (unsigned long long)caught,
	       (unsigned long long)tried);
	return tried && caught >= least ? 0 : 1;
}
#endif

int main(int argc, char **argv)
{
	uint64_t runs = 1000, seed = 1, replay = 0;
	bool verbose = false, have_replay = false;
	int kind = -1;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(a, "--runs"))
			runs = strtoull(v, NULL, 0), i++;
		else if (!strcmp(a, "--seed"))
			seed = strtoull(v, NULL, 0), i++;
		else if (!strcmp(a, "--replay"))
			replay = strtoull(v, NULL, 0), have_replay = true, i++;
		else if (!strcmp(a, "--kind"))
			kind = !strcmp(v, "mirror") ? MIRROR : JOURNAL_ALL, i++;
		else if (!strcmp(a, "--verbose"))
			verbose = true;
#ifdef VMPAIR_BUGS
		else if (!strcmp(a, "--list-bugs")) {
			for (unsigned int b = 0; b < SIM_BUG_COUNT; b++)
				puts(bug_name[b]);
			return 0;
		} else if (!strcmp(a, "--all-bugs")) {
			uint64_t least = SIM_BUG_COUNT;

			for (int k = 1; k + 1 < argc; k++) {
				if (!strcmp(argv[k], "--least"))
					least = strtoull(argv[k + 1], NULL, 0);
				if (!strcmp(argv[k], "--runs"))
					runs = strtoull(argv[k + 1], NULL, 0);
			}
			return all_bugs(runs, least, NULL);
		} else if (!strcmp(a, "--bug")) {
			if (have_replay) {
				for (unsigned int b = 0; b < SIM_BUG_COUNT; b++)
					bugs |= !strcmp(v, bug_name[b]) ? 1ull << b : 0;
				i++;
			} else {
				return all_bugs(runs, 1, v);
			}
		}
#endif
		else {
			fprintf(stderr, "usage: see the head of the source\n");
			return 2;
		}
	}
	if (have_replay) {
		bool ok = schedule(replay, kind, verbose);

		printf("%s - seed %llu %s\n", ok ? "ok" : "not ok", (unsigned long long)replay, W.why);
		return !ok;
	}
	return run(seed, runs, kind);
}
