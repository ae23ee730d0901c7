/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/spin/harness.h"

#define MS 1000000ull
#define L (120 * MS)
#define HB_MS 30
#define Q (5 * MS)
#define DELAY 100000ull
#define FIFO 4096
#define P 0xa

#ifdef VMP_CORE_BUGS
#define VMP_B(name) SPIN_BUG_##name,
enum {
#include "daemon/core/bugs.def"
	SPIN_BUG_COUNT
};
#undef VMP_B
#define VMP_B(name) #name,
static const char *const bug_name[] = {
#include "daemon/core/bugs.def"
};
#undef VMP_B
static uint64_t bugs;
#define BUG(name) (bugs >> SPIN_BUG_##name & 1)
#else
#define BUG(name) false
#endif

struct spin_world W;

static struct vmp_core core[SPIN_N];	/* unpacked while one transition runs */
static struct fifo {
	uint64_t at;
	uint8_t to, type;
	uint32_t gen;
	uint64_t a;
	struct spin_held m;
} fifo[FIFO];
static unsigned int n_fifo, first_fifo;
static struct vmp_event ev;
static struct vmp_out out;
static bool tell;

static void broken(const char *what, unsigned int i)
{
	if (!W.broken[0])
		snprintf(W.broken, sizeof W.broken, "%s (node %u)", what, i + 1);
}

static uint64_t local_now(const struct spin_node *x)
{
	return x->base_l + (W.now - x->base_r) * x->rate_permille / 1000;
}

static uint64_t real_at(const struct spin_node *x, uint64_t local)
{
	return local <= x->base_l ? x->base_r : x->base_r + (local - x->base_l) * 1000 / x->rate_permille + 1;
}

static void unpack(void)
{
	for (unsigned int i = 0; i < SPIN_N; i++)
		memcpy(&core[i], W.node[i].core, SPIN_CORE);
}

static void pack(void)
{
	for (unsigned int i = 0; i < SPIN_N; i++)
		memcpy(W.node[i].core, &core[i], SPIN_CORE);
}

static struct vmp_pair *pair_of(unsigned int i)
{
	unsigned int k;

	for (k = 0; k < core[i].n_pairs; k++) {
		if (core[i].pair[k].id == P)
			return &core[i].pair[k];
	}
	return NULL;
}

static bool gate_open(const struct spin_node *x)
{
	return x->up && local_now(x) < x->expiry;
}

static bool on_wire(const struct spin_node *x)
{
	return x->up && x->expiry && local_now(x) < x->expiry + (x->by_expiry ? Q : 0);
}

static void fifo_push(unsigned int to, unsigned int type, uint64_t after, uint64_t a, const struct spin_held *m)
{
	struct fifo *f;

	if (n_fifo == FIFO)
		abort();
	f = &fifo[n_fifo++];
	*f = (struct fifo){ .at = W.now + after, .to = (uint8_t)to, .type = (uint8_t)type, .gen = W.node[to].gen, .a = a };
	if (m)
		f->m = *m;
}

static bool majority(unsigned int mask)
{
	return (mask & 1) + (mask >> 1 & 1) + (mask >> 2 & 1) >= 2;
}

static void send_one(unsigned int from, unsigned int to, const struct vmp_msg *msg)
{
	static struct spin_held h;

	h.from = (uint8_t)from;
	h.to = (uint8_t)to;
	h.msg = *msg;
	if (from == to) {
		fifo_push(to, VMP_EV_MSG, 1000, 0, &h);
	} else if (W.link[from][to] == SPIN_FAST) {
		fifo_push(to, VMP_EV_MSG, DELAY, 0, &h);
	} else if (W.link[from][to] == SPIN_KEEP && msg->type != VMP_MSG_MEMBERS && W.n_held < SPIN_HELD) {
		W.held[W.n_held++] = h;
	}
}

static void step(unsigned int i, struct vmp_event *e);

static void event(unsigned int i, struct vmp_event e)
{
	memcpy(&ev, &e, offsetof(struct vmp_event, msg));
	step(i, &ev);
}

static void opening(unsigned int i, uint64_t epoch)
{
	struct spin_node *x = &W.node[i];
	unsigned int k, have = 0;

	if (epoch < W.last_open)
		broken("epochs of openings grow", i);
	for (k = 0; k < SPIN_N; k++)
		have |= (unsigned int)(W.node[k].ever.epoch >= epoch) << k;
	if (epoch != W.last_open && !majority(have))
		broken("a majority holds the state before it opens", i);
	if (W.forced >> i & 1)
		W.acked_from = W.acked;
	W.forced = 0;
	if (x->member && x->holds < W.acked && W.acked > W.acked_from)
		broken("every acknowledged request is in the opening member", i);
	W.last_open = epoch;
}

static void act_mode(unsigned int i, const struct vmp_action *a)
{
	struct spin_node *x = &W.node[i];
	unsigned int k, have = 0;

	x->mode = a->code;
	x->mode_epoch = a->epoch;
	x->sync_member = a->code == VMP_MODE_SYNC ? a->b : 0;
	if (a->code == VMP_MODE_SYNC && a->a >= 1 && a->a <= SPIN_N && W.node[a->a - 1].member == a->b)
		W.node[a->a - 1].holds = x->holds;	/* nothing was answered since it was found to be whole */
	/* alone that is left again in the same step answers nothing */
	if (a->code != VMP_MODE_ALONE || pair_of(i)->mode != VMP_MODE_ALONE || pair_of(i)->role != VMP_ROLE_HOLDING)
		return;
	for (k = 0; k < SPIN_N; k++) {
		const struct vmp_state *st = &W.node[k].ever;

		have |= (unsigned int)(st->epoch > a->epoch ||
				       (st->epoch == a->epoch && st->seq >= pair_of(i)->own.seq && !st->sync_node)) << k;
	}
	if (!majority(have))
		broken("alone only after a majority recorded it", i);
}

static void store(unsigned int i, const struct vmp_action *a)
{
	struct spin_node *x = &W.node[i];
	unsigned int k;

	if (a->expiry_ns > vmp_core_lease_end(&core[i], P))
		broken("expiry within the lease", i);
	if (a->type == VMP_ACT_ENTRY_OPEN && local_now(x) < a->expiry_ns)
		opening(i, a->epoch);
	x->expiry = a->expiry_ns;
	x->by_expiry = true;
	for (k = 0; k < SPIN_N && gate_open(x); k++) {
		if (k != i && on_wire(&W.node[k]))
			broken("two valid primaries", i);
	}
}

static void actions(unsigned int i)
{
	struct spin_node *x = &W.node[i];
	unsigned int k, v, n_actions = out.n_actions;

	for (k = 0; k < n_actions; k++) {
		const struct vmp_action *a = &out.action[k];

		switch ((enum vmp_action_type)a->type) {
		case VMP_ACT_PERSIST:
			if (vmp_core_record(&core[i], a->pair, &x->run[a->pair != P]))
				broken("a record that is not there is written", i);
			break;
		case VMP_ACT_SEND:
			for (v = 0; v < SPIN_N; v++) {
				if (a->to == VMP_TO_VOTERS || a->to == v + 1)
					send_one(i, v, &out.msg[a->msg]);
			}
			break;
		case VMP_ACT_ENTRY_OPEN:
		case VMP_ACT_ENTRY_REFRESH:
			store(i, a);
			break;
		case VMP_ACT_ENTRY_CLOSE:
			if (BUG(RELEASE_BEFORE_CLOSE)) {
				fifo_push(i, VMP_EV_CLOSED, 3 * MS, a->op, NULL);
				break;
			}
			x->expiry = 0;
			fifo_push(i, VMP_EV_CLOSED, 50000, a->op, NULL);
			break;
		case VMP_ACT_RELAY_FENCE:
			fifo_push(i, VMP_EV_RELAY_READY, 50000, a->epoch, NULL);
			break;
		case VMP_ACT_MODE:
			act_mode(i, a);
			break;
		case VMP_ACT_ROLE:
			if (a->code == VMP_ROLE_ESTABLISHING && (pair_of(i)->at.force || pair_of(i)->reg.state.cold))
				W.forced |= (uint8_t)(1u << i);
			break;
		case VMP_ACT_NOTE:
			if (a->code == VMP_NOTE_RECOVERED && a->b) {
				W.acked_from = W.acked;
				W.last_open = 0;
			}
			break;
		case VMP_ACT_PERSIST_CONFIG:
		case VMP_ACT_OP_DONE:
		case VMP_ACT_COUNT:
			break;
		}
	}
}

static void step(unsigned int i, struct vmp_event *e)
{
	struct spin_node *x = &W.node[i];
	const struct vmp_pair *p;
	int which;

	if (!x->up || !x->daemon || x->stopped || W.broken[0])
		return;
	e->now_ns = local_now(x);
	if (vmp_core_step(&core[i], e, &out))
		broken("a transition that is not in the table", i);
	if (tell) {
		static char line[16384];

		vmp_core_str(&core[i], e, &out, 0, line, sizeof line);
		fprintf(stderr, "[%8.3f] %s\n", (double)W.now / MS, line);
	}
	if (core[i].n_pairs > SPIN_PAIRS)
		abort();
	p = pair_of(i);
	if (p) {
		if (p->reg.promised.epoch < x->seen.promised.epoch || vmp_epoch_counter(p->reg.state.epoch) < vmp_epoch_counter(x->seen.state.epoch))
			broken("registers never fall", i);
		x->seen = p->reg;
		if (p->reg.state.epoch > x->ever.epoch || (p->reg.state.epoch == x->ever.epoch && p->reg.state.seq >= x->ever.seq))
			x->ever = p->reg.state;
	}
	if (vmp_core_check(&core[i], &which))
		broken("a local invariant", i);
	actions(i);
	if (vmp_core_run_complete(&core[i]))
		x->complete = true;
}

/* Messages in the order they arrive. */
static void drain(uint64_t until)
{
	while (first_fifo < n_fifo) {
		struct fifo *f, *best = NULL;
		unsigned int k;

		for (k = first_fifo; k < n_fifo; k++) {
			if (fifo[k].type != VMP_EV_COUNT && (!best || fifo[k].at < best->at))
				best = &fifo[k];
		}
		if (!best || best->at > until)
			break;
		f = best;
		if (f->at > W.now)
			W.now = f->at;
		k = f->type;
		f->type = VMP_EV_COUNT;
		while (first_fifo < n_fifo && fifo[first_fifo].type == VMP_EV_COUNT)
			first_fifo++;
		if (k == VMP_EV_MSG) {
			struct spin_node *x = &W.node[f->to];

			if (x->stopped && x->daemon) {
				if (x->n_backlog < SPIN_BACKLOG)
					x->backlog[x->n_backlog++] = f->m;
				continue;
			}
			ev = (struct vmp_event){ .type = VMP_EV_MSG, .node = f->m.from + 1 };
			ev.msg = f->m.msg;
			step(f->to, &ev);
		} else if (f->gen == W.node[f->to].gen) {
			if (k == VMP_EV_CLOSED && BUG(RELEASE_BEFORE_CLOSE))
				W.node[f->to].expiry = 0;
			event(f->to, (struct vmp_event){ .type = (uint8_t)k, .pair = P, .op = f->a, .epoch = f->a });
		}
	}
	if (first_fifo == n_fifo)
		first_fifo = n_fifo = 0;
}

/* Writes of clients: what is answered is counted. */
static void clients(void)
{
	unsigned int i, k;

	for (i = 0; i < SPIN_N; i++) {
		struct spin_node *x = &W.node[i];

		if (!gate_open(x) || !x->member)
			continue;
		if (x->mode == VMP_MODE_ALONE) {
			x->holds = ++W.acked;
		} else if (x->mode == VMP_MODE_SYNC) {
			for (k = 0; k < SPIN_N; k++) {
				struct spin_node *y = &W.node[k];

				if (k == i || !y->up || y->member != x->sync_member || W.link[i][k] == SPIN_CUT || W.link[k][i] == SPIN_CUT ||
				    y->seen.promised.epoch > x->mode_epoch)		/* D4 */
					continue;
				x->holds = y->holds = ++W.acked;
			}
		}
	}
}

static void run(uint64_t for_ns)
{
	uint64_t end = W.now + for_ns;

	while (!W.broken[0]) {
		uint64_t at = end;
		unsigned int i, who = SPIN_N;

		for (i = 0; i < SPIN_N; i++) {
			struct spin_node *x = &W.node[i];
			uint64_t t;

			if (!x->up || !x->daemon || x->stopped)
				continue;
			t = real_at(x, vmp_core_deadline(&core[i]));
			if (t <= W.now)
				t = W.now + 1000;
			if (t < at) {
				at = t;
				who = i;
			}
		}
		drain(at);
		if (W.now < at)
			W.now = at;
		if (who == SPIN_N)
			break;
		/* what arrived may have moved the deadline; an early tick is harmless */
		event(who, (struct vmp_event){ .type = VMP_EV_TICK });
	}
	drain(VMP_NEVER);
	clients();
}

static void member(unsigned int i)
{
	struct spin_node *x = &W.node[i];

	event(i, (struct vmp_event){ .type = VMP_EV_MEMBER, .pair = P, .member = x->member, .on = x->member, .ready = x->member });
}

static void daemon_start(unsigned int i, bool same_boot)
{
	struct spin_node *x = &W.node[i];
	static struct vmp_init init;
	unsigned int k;

	memset(&init, 0, sizeof init);
	same_boot = same_boot && x->complete;
	x->daemon = true;
	x->stopped = false;
	x->n_backlog = 0;
	x->gen++;
	memset(&x->seen, 0, sizeof x->seen);
	init.node = (uint8_t)(i + 1);
	init.start = same_boot ? VMP_START_SAME_BOOT : VMP_START_NEW;
	init.now_ns = local_now(x);
	init.boot = x->boot;
	init.inc = x->inc = ++W.next_id;
	init.voter = 0xe0 + i + 1;
	init.seed = ++W.next_id;
	init.lease_ms = L / MS;
	init.hb_ms = HB_MS;
	init.gate_delay_ms = Q / MS;
	init.hold_max_ms = L / MS;
	init.clock_error_permille = 100;
	init.config.version = 1;
	init.config.n = SPIN_N;
	for (k = 0; k < SPIN_N; k++)
		init.config.voter[k] = (struct vmp_voter){ .id = 0xe0 + k + 1, .node = (uint8_t)(k + 1) };
	for (k = 0; k < SPIN_PAIRS; k++) {
		const struct vmp_record *r = same_boot ? &x->run[k] : &x->disk[k];

		if (r->pair)
			init.record[init.n_records++] = *r;
	}
#ifdef VMP_CORE_BUGS
	core[i].bugs = bugs;
#endif
	if (vmp_core_init(&core[i], &init))
		abort();
#ifdef VMP_CORE_BUGS
	core[i].bugs = bugs;
#endif
	event(i, (struct vmp_event){ .type = VMP_EV_TICK });
	if (i == 2)
		return;
	event(i, (struct vmp_event){ .type = VMP_EV_PAIR_ADD, .pair = P, .policy = { .auto_failover = true, .cold_start = true } });
	member(i);
}

static void daemon_kill(unsigned int i)
{
	W.node[i].daemon = W.node[i].stopped = false;
	W.node[i].n_backlog = 0;
	W.node[i].gen++;
}

static void host_down(unsigned int i)
{
	struct spin_node *x = &W.node[i];

	daemon_kill(i);
	x->up = x->complete = false;
	memset(x->run, 0, sizeof x->run);
	x->expiry = 0;
	x->member = 0;
	x->holds = 0;
	x->mode = VMP_MODE_WAIT;
}

static void host_up(unsigned int i)
{
	struct spin_node *x = &W.node[i];

	x->up = true;
	x->boot = ++W.next_id;
	x->base_r = W.now;
	x->base_l = 1000 * MS;
	x->member = i < 2 ? ++W.next_id : 0;
	daemon_start(i, false);
}

static void promote(unsigned int i)
{
	event(i, (struct vmp_event){ .type = VMP_EV_PROMOTE, .pair = P, .deadline_ns = local_now(&W.node[i]) + 2 * L });
}

static void began(void)
{
	unpack();
}

static void ended(void)
{
	drain(VMP_NEVER);
	pack();
}

void spin_start(unsigned int rates)
{
	unsigned int i;
#ifdef VMP_CORE_BUGS
	const char *name = getenv("VMP_BUG");

	for (i = 0; name && i < SPIN_BUG_COUNT; i++) {
		if (!strcmp(name, bug_name[i]))
			bugs = 1ull << i;
	}
	if (name && *name && !bugs)
		abort();
#endif
	tell = getenv("VMP_SPIN_TELL") != NULL;
	memset(&W, 0, sizeof W);
	memset(core, 0, sizeof core);
	W.now = 1000 * MS;
	for (i = 0; i < SPIN_N; i++) {
		struct spin_node *x = &W.node[i];

		x->up = x->complete = true;
		x->base_r = W.now;
		x->base_l = (1000 + 777 * i) * MS;
		x->rate_permille = 900 + 100 * (rates >> 2 * i & 3);
		x->boot = ++W.next_id;
		x->mode = VMP_MODE_WAIT;
		x->member = i < 2 ? ++W.next_id : 0;
	}
	for (i = 0; i < SPIN_N; i++)
		daemon_start(i, true);
	drain(VMP_NEVER);
	run(HB_MS * MS);
	promote(0);
	drain(VMP_NEVER);
	run(4 * HB_MS * MS);
	for (i = 0; i < SPIN_N; i++)
		memcpy(W.node[i].disk, W.node[i].run, sizeof W.node[i].disk);
	pack();
	if (!W.broken[0] && (!gate_open(&W.node[0]) || W.node[0].mode != VMP_MODE_SYNC))
		broken("the cluster does not start", 0);
}

void spin_advance(void)
{
	began();
	run(HB_MS * MS);
	pack();
}

void spin_link(unsigned int from, unsigned int to, unsigned int how)
{
	W.link[from][to] = (uint8_t)how;
}

void spin_deliver(unsigned int i, bool keep)
{
	static struct spin_held h;

	began();
	h = W.held[i];
	if (!keep)
		memmove(&W.held[i], &W.held[i + 1], (--W.n_held - i) * sizeof h);
	if (!keep)
		memset(&W.held[W.n_held], 0, sizeof h);
	fifo_push(h.to, VMP_EV_MSG, 1000, 0, &h);
	ended();
}

void spin_stop(unsigned int i, bool on)
{
	struct spin_node *x = &W.node[i];
	unsigned int k;

	began();
	x->stopped = on;
	for (k = 0; k < x->n_backlog && !on; k++)	/* V1: what came in comes before the timers */
		fifo_push(i, VMP_EV_MSG, 1000 + k, 0, &x->backlog[k]);
	if (!on) {
		x->n_backlog = 0;
		memset(x->backlog, 0, sizeof x->backlog);
		drain(VMP_NEVER);
		event(i, (struct vmp_event){ .type = VMP_EV_TICK });
	}
	ended();
}

void spin_kill(unsigned int i)
{
	daemon_kill(i);
}

void spin_restart(unsigned int i)
{
	began();
	daemon_start(i, true);
	ended();
}

void spin_crash(unsigned int i)
{
	host_down(i);
}

void spin_boot(unsigned int i)
{
	began();
	host_up(i);
	ended();
}

void spin_vm_exit(unsigned int i)
{
	began();
	W.node[i].member = 0;
	W.node[i].holds = 0;
	member(i);
	drain(VMP_NEVER);
	W.node[i].member = ++W.next_id;
	member(i);
	ended();
}

void spin_fenced(unsigned int i)
{
	uint64_t boot = W.node[i].boot;
	unsigned int k;

	began();
	host_down(i);
	for (k = 0; k < SPIN_N; k++) {
		if (k != i)
			event(k, (struct vmp_event){ .type = VMP_EV_FENCED, .node = (uint8_t)(i + 1), .member = boot });
	}
	ended();
}

void spin_switchover(void)
{
	unsigned int i;

	began();
	for (i = 0; i < 2; i++)
		event(i, (struct vmp_event){ .type = VMP_EV_SWITCHOVER, .pair = P });
	ended();
}

bool spin_ok(void)
{
	if (W.broken[0])
		fprintf(stderr, "broken: %s\n", W.broken);
	return !W.broken[0];
}

static bool any_open(void)
{
	return gate_open(&W.node[0]) || gate_open(&W.node[1]);
}

/* Nodes a and b work and hear each other, and one of them has a member that the newest state they know allows. */
static bool can_take_over(unsigned int a, unsigned int b)
{
	const struct vmp_state *st = NULL;
	unsigned int k;

	if (W.link[a][b] || W.link[b][a])
		return false;
	for (k = a; k <= b; k += b - a) {
		const struct vmp_pair *p = pair_of(k);

		if (!W.node[k].up || !W.node[k].daemon || W.node[k].stopped || core[k].rec.abstaining || !p)
			return false;
		if (!st || p->reg.state.epoch > st->epoch || (p->reg.state.epoch == st->epoch && p->reg.state.seq > st->seq))
			st = &p->reg.state;
	}
	for (k = a; k <= b && !st->cold; k += b - a) {
		const struct vmp_pair *p = pair_of(k);

		if (k < 2 && p->ready && p->member == W.node[k].member &&
		    ((st->holder == k + 1 && st->holder_member == p->member) || (st->sync_node == k + 1 && st->sync_member == p->member)))
			return true;
	}
	return false;
}

/* Within 10 L one is open; or a holder that is still heard has told them that nobody is in sync (D2), which takes the right away. */
bool spin_takes_over(void)
{
	static struct spin_world saved;
	unsigned int a, b, k;
	bool ok = true;

	unpack();
	for (a = 0; a < 2; a++) {
		for (b = a + 1; b < SPIN_N; b++) {
			if (!can_take_over(a, b))
				continue;
			saved = W;
			/* open after five intervals is not just a lease that is running out */
			for (k = 0; k < 40 && !W.broken[0] && !(k > 5 && any_open()); k++)
				run(HB_MS * MS);
			ok = !W.broken[0] && (any_open() || !can_take_over(a, b));
			if (!ok)
				fprintf(stderr, "broken: %s (nodes %u and %u)\n", W.broken[0] ? W.broken : "nobody takes over", a + 1, b + 1);
			W = saved;
			return ok;
		}
	}
	return true;
}

bool spin_heals(void)
{
	static struct spin_world saved;
	unsigned int i, k;
	bool ok;

	saved = W;
	unpack();
	memset(W.link, 0, sizeof W.link);
	W.n_held = 0;
	for (i = 0; i < SPIN_N; i++) {
		if (!W.node[i].up)
			host_up(i);
		else if (!W.node[i].daemon)
			daemon_start(i, true);
		if (W.node[i].stopped) {
			W.node[i].stopped = false;
			W.node[i].n_backlog = 0;
		}
	}
	for (k = 0; k < 60 && !W.broken[0] && !(k > 5 && any_open()); k++) {
		run(HB_MS * MS);
		if (k % 8 == 7 && !any_open()) {
			promote(k / 8 % 2);
			drain(VMP_NEVER);
		}
	}
	ok = any_open() && !W.broken[0];
	if (!ok)
		fprintf(stderr, "broken: %s\n", W.broken[0] ? W.broken : "no entry is open long after everything was repaired");
	W = saved;
	return ok;
}

/* Two independent 64-bit hashes of the whole world: the state that the verifier compares. */
void spin_hash(uint64_t hash[2])
{
	const uint64_t *w = (const uint64_t *)&W;
	uint64_t a = 0x9e3779b97f4a7c15ull, b = 0xd6e8feb86659fd93ull;
	size_t i;

	for (i = 0; i < sizeof W / sizeof *w; i++) {
		a = (a ^ w[i]) * 0xff51afd7ed558ccdull;
		a ^= a >> 32;
		b = (b + w[i]) * 0x9fb21c651e98df25ull;
		b ^= b >> 29;
	}
	hash[0] = a;
	hash[1] = b;
}
