/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Seeded simulator: N real cores in a world of drifting clocks, a bad network, crashes, reboots, pauses, torn and failed writes,
 * VM exits and operators; a kernel gate with absolute expiry; a simple relay with acknowledged requests. Everything follows from
 * the seed. The invariants of the protocol are checked after every step.
 *
 *   sim [--runs N] [--seed S] [--voters N] [--verbose]   random schedules from seed S on
 *   sim --replay SEED [--voters N] [--verbose]           one schedule again, told step by step with --verbose
 *   sim --bug NAME | --all-bugs | --list-bugs            (test build) wrong variants; --all-bugs prints what caught each
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/core/core.h"

#define MS 1000000ull
#define MAX_N 8
#define MAX_P 2
#define PV MAX_P		/* the reserved pair of the voter set */
#define PB(node) (PV + (node))	/* the register of a bar, node 1 .. MAX_N */
#define MAX_R (PV + MAX_N + 1)	/* all registers */
#define MAX_REQ 2048
#define MAX_MEMBERS 64
#define POOL 8192
#define HEAP 32768
#define LEASE_MS 80
#define BAR_OP 0x100		/* + 2 * node + 1 for off */
#define HB_MS 15
#define Q_MS 5

#ifdef VMP_CORE_BUGS
#define VMP_B(name) SIM_BUG_##name,
enum { 
#include "daemon/core/bugs.def"
	SIM_BUG_COUNT
};
#undef VMP_B
#define VMP_B(name) #name,
static const char *const bug_name[] = {
#include "daemon/core/bugs.def"
};
#undef VMP_B
static uint64_t bugs;
#define BUG(name) (bugs >> SIM_BUG_##name & 1)
#else
#define BUG(name) false
#endif

enum qtype { Q_TICK, Q_MSG, Q_CLOSED, Q_RELAY_READY, Q_IN_SYNC, Q_MEMBER, Q_RESUME, Q_START, Q_VM, Q_FAULT, Q_HEAL, Q_FENCE, Q_CLIENT, Q_REPL,
	     Q_CONFIRM, Q_RELAY, Q_MANAGER, Q_FLUSH, Q_STORE, Q_VOTERS, Q_BAR, Q_QUIET };

struct item {
	uint64_t at, order;
	uint8_t type, node, pair, from;
	uint32_t gen, slot;
	uint64_t a, b;
};

struct gate {		/* the kernel's word */
	uint64_t expiry;
	bool by_expiry;
	bool refused;		/* the last store was: the next one is made up for it */
};

struct vm {
	uint64_t member;	/* content id; 0: no VM */
	unsigned int idx;	/* bit of the content in request.holders */
	bool ready;
};

struct relay {		/* data path at one node, as primary side */
	uint64_t epoch;		/* records below are refused (C4, D4) */
	uint64_t run_epoch;	/* epoch it serves */
	uint8_t mode;
	bool active;
	bool connected;		/* streams to a standby */
	uint8_t to;
	uint64_t to_member;
	uint64_t sync_member;	/* mode sync: whose word counts (D1) */
	unsigned int inflight;
	unsigned int flushed;	/* requests before this one have their answer, or never get one */
	uint64_t catch_op;
};

struct sim_node {
	struct vmp_core core;
	bool up, daemon, complete;
	uint64_t paused;	/* real time */
	uint64_t base_r, base_l;
	int64_t rate;		/* per million */
	uint64_t boot, inc, voter;
	uint32_t gen, tick_gen;
	uint64_t tick_at;
	struct vmp_record run[MAX_R], disk[MAX_R];
	bool has_run[MAX_R], has_disk[MAX_R];
	struct vmp_config config, previous;
	uint64_t joined_l;			/* local time at which it became a voter */
	bool was_voter;
	uint64_t adopted;			/* version, and the states it knew then */
	struct vmp_state at_adopt[MAX_P];
	struct gate gate[MAX_P];
	struct vm vm[MAX_P];
	struct relay relay[MAX_P];
	struct vmp_reg seen[MAX_R];		/* for "never fall" */
	struct vmp_state ever[MAX_R];		/* newest state ever in the register */
	bool pending;
	unsigned int pending_from;
	uint64_t unstored;	/* vmp_action_lapses */
	struct vmp_out rest;
};

struct request {
	uint64_t holders;	/* bit per content */
	uint64_t epoch;
	uint8_t node, pair;
	unsigned int idx;
	uint64_t confirmed;	/* content that confirmed it */
	bool acked, dropped;
};

struct held_epoch {
	uint64_t epoch, boot;
	uint8_t node;
};

static struct world {
	uint64_t seed, prng, ids, now, order, quiet_at, end_at, bad_until;
	unsigned int n, n_pairs;	/* n: nodes; some may be outside the voter set */
	unsigned int voters;		/* in the first set */
	struct item heap[HEAP];
	unsigned int n_heap;
	struct vmp_msg pool[POOL];
	uint32_t freelist[POOL];
	unsigned int n_free;
	struct sim_node node[MAX_N];
	bool cut[MAX_N][MAX_N];
	unsigned int loss, dup, slow, torn, pause_mid;	/* per 10000 */
	uint64_t delay;
	bool quiet, third, relay_policy, starting;
	struct request req[MAX_REQ];
	unsigned int n_req, acked_from[MAX_P];
	unsigned int n_members;
	uint64_t last_open[MAX_P];
	uint64_t forced[MAX_P];		/* contents that may open without everything: by force or after a cold start */
	struct held_epoch held[MAX_P][256];
	unsigned int n_held[MAX_P];
	uint64_t alone_epoch[MAX_P];	/* check_alone has found a majority to know this state */
	uint64_t alone_seq[MAX_P];
	uint64_t claims[MAX_P + 1][512];
	unsigned int n_claims[MAX_P + 1];
	bool barred[MAX_N];		/* off was answered, and no lift can be under way since */
	uint64_t lift_until[MAX_N];	/* a lift asked for before may come into force until then */
	bool bar_test;
	unsigned int bar_wanted;	/* the bar asked for after the last fault: node + 1, 0 none */
	struct vmp_config set[64];	/* settled voter sets, by version */
	unsigned int n_sets;
	const char *violation;
	char detail[256];
	uint64_t steps, opens, acks, takeovers, last_check, bars;
	struct vmp_event ev;
	struct vmp_out out;
} W;

static bool verbose;
static unsigned int force_voters;
static uint64_t total_steps, total_opens, total_acks, total_sets, total_bars;

static const uint64_t pair_id[MAX_P] = { 0xa, 0xb };

/* --- randomness, time ----------------------------------------------------------------------------------------------------- */
static const uint8_t *script;		/* tests/fuzz/fuzz_core.c: decisions to take instead */
static size_t script_left;

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t rnd(void)
{
	uint64_t z;

	if (script_left >= 2) {
		z = (uint64_t)(script[0] | script[1] << 8) * 0x9e3779b97f4a7c15ull >> 13;
		script += 2;
		script_left -= 2;
		return z;
	}
	return mix(W.prng += 0x9e3779b97f4a7c15ull);
}

/* What the protocol takes for unique (I1, I2) is so, also when all bytes of a script are the same. */
static uint64_t rnd_id(void)
{
	uint64_t z = rnd();

	return script ? mix(++W.ids) : z;
}

static uint64_t rnd_to(uint64_t max)
{
	return max ? rnd() % max : 0;
}

static bool chance(unsigned int per_10000)
{
	return per_10000 && rnd() % 10000 < per_10000;
}

static uint64_t local_at(const struct sim_node *x, uint64_t real)
{
	return x->base_l + (uint64_t)((int64_t)(real - x->base_r) * x->rate / 1000000);
}

static uint64_t real_at(const struct sim_node *x, uint64_t local)
{
	if (local <= x->base_l)
		return x->base_r;
	return x->base_r + (local - x->base_l) * 1000000 / (uint64_t)x->rate + 1;
}

static void rate_change(struct sim_node *x)
{
	x->base_l = local_at(x, W.now);
	x->base_r = W.now;
	x->rate = chance(5000) ? 1000000 : chance(3333) ? 900000 : chance(5000) ? 1100000 : 900000 + (int64_t)rnd_to(200001);
}

__attribute__((format(printf, 1, 2)))
static void say(const char *fmt, ...)
{
	va_list ap;

	if (!verbose)
		return;
	printf("[%9.3f] ", (double)W.now / MS);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

__attribute__((format(printf, 2, 3)))
static void violate(const char *what, const char *fmt, ...)
{
	va_list ap;

	if (W.violation)
		return;
	W.violation = what;
	va_start(ap, fmt);
	vsnprintf(W.detail, sizeof W.detail, fmt, ap);
	va_end(ap);
	say("VIOLATION %s: %s", what, W.detail);
}

/* --- queue ------------------------------------------------------------------------------------------------------------------ */
static bool before(const struct item *a, const struct item *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct item it)
{
	unsigned int i;

	if (W.n_heap == HEAP) {
		fprintf(stderr, "sim: queue full\n");
		abort();
	}
	it.order = W.order++;
	for (i = W.n_heap++; i && before(&it, &W.heap[(i - 1) / 2]); i = (i - 1) / 2)
		W.heap[i] = W.heap[(i - 1) / 2];
	W.heap[i] = it;
}

static struct item pop(void)
{
	struct item top = W.heap[0], last = W.heap[--W.n_heap];
	unsigned int i = 0, k;

	while ((k = 2 * i + 1) < W.n_heap) {
		if (k + 1 < W.n_heap && before(&W.heap[k + 1], &W.heap[k]))
			k++;
		if (!before(&W.heap[k], &last))
			break;
		W.heap[i] = W.heap[k];
		i = k;
	}
	W.heap[i] = last;
	return top;
}

static void msg_copy(struct vmp_msg *to, const struct vmp_msg *from)
{
	size_t size;

	switch (from->type) {
	case VMP_MSG_HEARTBEAT:
		size = offsetof(struct vmp_msg, u.heartbeat.held) + from->u.heartbeat.n_held * sizeof(struct vmp_held);
		break;
	case VMP_MSG_ACK:
		size = offsetof(struct vmp_msg, u.ack.supported) + from->u.ack.n_supported * sizeof(struct vmp_held);
		break;
	case VMP_MSG_MEMBERS:
		size = offsetof(struct vmp_msg, u.members.member) + from->u.members.n * sizeof(struct vmp_member_info);
		break;
	case VMP_MSG_TABLE: case VMP_MSG_COLD: case VMP_MSG_CONFIG_OK: case VMP_MSG_STATES: case VMP_MSG_STATES_OK:
		size = offsetof(struct vmp_msg, u.table.reg) + from->u.table.n_regs * sizeof(struct vmp_reg);
		break;
	case VMP_MSG_CONFIG:
		size = offsetof(struct vmp_msg, u) + sizeof(struct vmp_msg_config);
		break;
	default:
		size = offsetof(struct vmp_msg, u) + sizeof(struct vmp_msg_refuse);
	}
	memcpy(to, from, size);
}

/* --- network ---------------------------------------------------------------------------------------------------------------- */
static void deliver(unsigned int from, unsigned int to, const struct vmp_msg *msg)
{
	uint64_t delay = from == to ? 1000 : 20000 + rnd_to(W.delay);
	unsigned int copies = 1;
	uint32_t slot;

	if (from != to) {
		if (W.cut[from][to] || (!W.quiet && chance(W.loss)))
			return;
		if (!W.quiet && chance(W.dup))
			copies = 2;
	}
	while (copies--) {
		if (!W.n_free)
			return;
		if (from != to && !W.quiet && chance(W.slow))
			delay += rnd_to(chance(3000) ? 600 * MS : 60 * MS);
		slot = W.freelist[--W.n_free];
		msg_copy(&W.pool[slot], msg);
		push((struct item){ .at = W.now + delay, .type = Q_MSG, .node = (uint8_t)to, .from = (uint8_t)from, .slot = slot,
				    .gen = from == to ? W.node[to].gen : 0 });
		delay += rnd_to(W.delay * 4);
	}
}

/* --- gate, members, relay ------------------------------------------------------------------------------------------------------ */
/* A frame that passed the gate may be on its way for q longer, unless the gate was closed on purpose (K4). */
static bool on_wire(const struct sim_node *x, unsigned int p)
{
	const struct gate *g = &x->gate[p];

	return x->up && g->expiry && local_at(x, W.now) < g->expiry + (g->by_expiry ? Q_MS * MS : 0);
}

static bool gate_open(const struct sim_node *x, unsigned int p)
{
	return x->up && local_at(x, W.now) < x->gate[p].expiry;
}

static void gate_store(unsigned int i, unsigned int p, uint64_t expiry)
{
	struct sim_node *x = &W.node[i];
	unsigned int k;

	x->gate[p].expiry = expiry;
	x->gate[p].by_expiry = true;
	if (!gate_open(x, p))
		return;
	if (W.barred[i])
		violate("barred-node-opens", "pair %u on node %u", p, i + 1);
	for (k = 0; k < W.n; k++) {
		if (k != i && on_wire(&W.node[k], p))
			violate("one-open-entry", "pair %u open on nodes %u and %u", p, i + 1, k + 1);
	}
}

static unsigned int new_content(unsigned int p, int copy_of)
{
	unsigned int idx = W.n_members++, r;

	if (idx >= MAX_MEMBERS) {	/* forget nothing that matters: reuse is avoided by ending the schedule's churn */
		W.n_members = MAX_MEMBERS;
		return MAX_MEMBERS - 1;
	}
	if (copy_of >= 0 && (W.forced[p] >> copy_of & 1))
		W.forced[p] |= 1ull << idx;
	for (r = W.acked_from[p]; r < W.n_req && copy_of >= 0; r++) {
		if (W.req[r].pair == p && (W.req[r].holders >> copy_of & 1))
			W.req[r].holders |= 1ull << idx;
	}
	return idx;
}

static void step(unsigned int i, struct vmp_event *ev);

static void event(unsigned int i, struct vmp_event e)
{
	/* the message part is large and only used with MSG */
	memcpy(&W.ev, &e, offsetof(struct vmp_event, msg));
	step(i, &W.ev);
}

static void member_event(unsigned int i, unsigned int p)
{
	struct sim_node *x = &W.node[i];

	if (x->paused > W.now || x->pending)	/* told when it goes on */
		push((struct item){ .at = W.now > x->paused ? W.now : x->paused + 500, .type = Q_MEMBER, .node = (uint8_t)i, .pair = (uint8_t)p });
	else if (x->up && x->daemon)
		event(i, (struct vmp_event){ .type = VMP_EV_MEMBER, .pair = pair_id[p], .member = x->vm[p].member,
					     .on = x->vm[p].member != 0, .ready = x->vm[p].ready });
}

static void relay_flush(unsigned int i, unsigned int p)
{
	struct relay *rl = &W.node[i].relay[p];
	unsigned int r;

	if (!gate_open(&W.node[i], p) || !W.node[i].vm[p].member)
		return;
	if (rl->flushed < W.acked_from[p])
		rl->flushed = W.acked_from[p];
	for (r = rl->flushed; r < W.n_req; r++) {
		struct request *q = &W.req[r];

		if (q->pair != p || q->node != i || q->acked || q->dropped || q->idx != W.node[i].vm[p].idx) {
			rl->flushed += r == rl->flushed;
			continue;
		}
		if (rl->mode == VMP_MODE_ALONE || (rl->mode == VMP_MODE_SYNC && q->confirmed == rl->sync_member && q->epoch == rl->run_epoch)) {
			q->acked = true;
			W.acks++;
		}
	}
}

static void relay_broken(unsigned int i, unsigned int p)
{
	struct relay *rl = &W.node[i].relay[p];

	if (!rl->connected)
		return;
	rl->connected = false;
	rl->inflight = 0;
	rl->catch_op = 0;
	push((struct item){ .at = W.now + rnd_to(10 * MS), .type = Q_IN_SYNC, .node = (uint8_t)i, .pair = (uint8_t)p, .from = rl->to,
			    .gen = W.node[i].gen, .a = rl->to_member, .b = VMP_NEVER });
}

static void relay_caught(unsigned int i, unsigned int p)
{
	struct relay *rl = &W.node[i].relay[p];

	if (rl->catch_op && rl->connected && !rl->inflight) {
		push((struct item){ .at = W.now + rnd_to(MS), .type = Q_IN_SYNC, .node = (uint8_t)i, .pair = (uint8_t)p, .from = rl->to,
				    .gen = W.node[i].gen, .a = rl->to_member, .b = rl->catch_op });
		rl->catch_op = 0;
	}
}

/* Whether the nodes of the mask are m of a voter set as node i counts it: with n < 3 a fenced voter is left out (T1), and, until it has recovered by
 * asking the other one, may know nothing. */
static bool majority_of(unsigned int i, const struct vmp_config *set, unsigned int mask)
{
	unsigned int v, n = set->n, have = 0;

	for (v = 0; v < set->n; v++) {
		const struct sim_node *y = &W.node[set->voter[v].node - 1];
		const struct vmp_peer *peer = &W.node[i].core.peer[v];

		if (set->n < 3 && set == &W.node[i].core.config && (peer->left_out || (peer->fenced_boot && (!y->up || y->core.rec.abstaining))))
			n--;
		else
			have += mask >> (set->voter[v].node - 1) & 1;
	}
	return have >= n / 2 + 1;
}

/* While a voter set follows another, what a majority of the first knows is met by any majority of the second. */
static bool majority(unsigned int i, unsigned int mask)
{
	const struct vmp_core *c = &W.node[i].core;

	/* but one of one voter, which is a majority whatever the two before it say */
	if (!c->settled && c->config.n == 1 && c->previous.n == 2 && c->change.phase < VMP_CH_HAND)
		return majority_of(i, &c->previous, mask);
	return majority_of(i, &c->config, mask) || (c->previous.n && majority_of(i, &c->previous, mask));
}

static bool is_voter(unsigned int of, unsigned int i)
{
	const struct vmp_config *set = &W.node[of].core.config;
	unsigned int v;

	for (v = 0; v < set->n; v++) {
		if (set->voter[v].node == i + 1 && set->voter[v].id == W.node[i].voter)
			return true;
	}
	return false;
}

/* Each settled voter set is the neighbour of the one before; one version is one set. */
static void set_settled(const struct vmp_config *set)
{
	unsigned int i, k, v, differ;

	for (i = W.n_sets; i && W.set[i - 1].version > set->version; i--)
		;
	if (i && W.set[i - 1].version == set->version) {
		if (memcmp(&W.set[i - 1], set, sizeof *set))
			violate("one-set-per-version", "version %llx", (unsigned long long)set->version);
		return;
	}
	if (W.n_sets == 64)
		return;
	memmove(&W.set[i + 1], &W.set[i], (W.n_sets++ - i) * sizeof W.set[0]);
	W.set[i] = *set;
	for (k = i ? i - 1 : 0; k < i + 1 && k + 1 < W.n_sets; k++) {
		const struct vmp_config *a = &W.set[k], *b = &W.set[k + 1];
		unsigned int in_a = 0, in_b = 0;

		for (v = 0; v < a->n; v++)
			in_a |= 1u << a->voter[v].node;
		for (v = 0; v < b->n; v++)
			in_b |= 1u << b->voter[v].node;
		differ = in_a ^ in_b;
		if (differ & (differ - 1))
			violate("one-voter-at-a-time", "from version %llx to %llx", (unsigned long long)a->version, (unsigned long long)b->version);
	}
}

static void opening(unsigned int i, unsigned int p, uint64_t epoch)
{
	struct sim_node *x = &W.node[i];
	unsigned int r, k, have = 0;	/* have: bit per node */

	W.opens++;
	if (epoch < W.last_open[p])
		violate("epochs-of-openings-grow", "pair %u: %llx after %llx", p, (unsigned long long)epoch,
			(unsigned long long)W.last_open[p]);
	for (k = 0; k < W.n; k++)
		have |= (unsigned int)(W.node[k].ever[p].epoch >= epoch) << k;
	if (x->core.config.n >= 3 && epoch != W.last_open[p] && !majority(i, have))
		violate("majority-holds-state", "pair %u epoch %llx opened with nodes %x of %u", p, (unsigned long long)epoch, have,
			x->core.config.n);
	if (W.forced[p] >> x->vm[p].idx & 1)
		W.acked_from[p] = W.n_req;
	W.forced[p] = 0;
	if (W.n_members < MAX_MEMBERS && x->vm[p].member) {	/* an entry without a VM behind it answers nobody */
		for (r = W.acked_from[p]; r < W.n_req; r++) {
			if (W.req[r].pair == p && W.req[r].acked && !(W.req[r].holders >> x->vm[p].idx & 1)) {
				violate("acknowledged-is-kept", "pair %u request %u (acked by node %u) is not in the member on node %u", p, r,
					W.req[r].node + 1, i + 1);
				break;
			}
		}
	}
	W.last_open[p] = epoch;
}

static void request_new(unsigned int i, unsigned int p)
{
	struct sim_node *x = &W.node[i];
	struct relay *rl = &x->relay[p];
	struct request *q;

	if (W.n_req == MAX_REQ || !x->vm[p].member || !rl->active)
		return;
	q = &W.req[W.n_req];
	*q = (struct request){ .holders = 1ull << x->vm[p].idx, .epoch = rl->run_epoch, .node = (uint8_t)i, .pair = (uint8_t)p,
			       .idx = x->vm[p].idx };
	if (rl->mode == VMP_MODE_ALONE) {
		q->acked = true;
		W.acks++;
	}
	if (rl->connected) {
		if (W.cut[i][rl->to]) {
			relay_broken(i, p);
		} else {
			rl->inflight++;
			push((struct item){ .at = W.now + 20000 + rnd_to(chance(2000) ? 8 * MS : W.delay), .type = Q_REPL, .node = rl->to,
					    .pair = (uint8_t)p, .from = (uint8_t)i, .slot = W.n_req, .a = rl->to_member, .b = rl->run_epoch });
		}
	}
	W.n_req++;
}

static void replicate(const struct item *it)		/* arrives at the standby */
{
	struct sim_node *x = &W.node[it->node], *pr = &W.node[it->from];
	struct relay *rl = &pr->relay[it->pair];
	bool ok = x->up && x->vm[it->pair].member == it->a && x->relay[it->pair].epoch <= it->b;	/* D4 */

	if (ok)
		W.req[it->slot].holders |= 1ull << x->vm[it->pair].idx;
	if (!rl->connected || rl->to_member != it->a)
		return;
	if (!ok || W.cut[it->node][it->from]) {
		relay_broken(it->from, it->pair);
		return;
	}
	push((struct item){ .at = W.now + 20000 + rnd_to(W.delay), .type = Q_CONFIRM, .node = it->from, .pair = it->pair, .slot = it->slot,
			    .a = it->a, .b = it->b });
}

static void confirmed(const struct item *it)
{
	struct sim_node *x = &W.node[it->node];
	struct relay *rl = &x->relay[it->pair];

	if (!x->up || !rl->connected || rl->to_member != it->a)
		return;
	if (rl->inflight)
		rl->inflight--;
	if (rl->run_epoch == it->b && rl->epoch <= it->b)
		W.req[it->slot].confirmed = it->a;
	relay_flush(it->node, it->pair);
	relay_caught(it->node, it->pair);
}

static struct vmp_pair *core_pair(unsigned int i, unsigned int p)
{
	unsigned int k;

	for (k = 0; k < W.node[i].core.n_pairs; k++) {
		if (W.node[i].core.pair[k].id == pair_id[p])
			return &W.node[i].core.pair[k];
	}
	return NULL;
}

static unsigned int core_pair_no(uint64_t id)
{
	return id == VMP_PAIR_VOTERS ? PV : vmp_pair_is_bar(id) ? PB(vmp_pair_bar_node(id)) : id == pair_id[1];
}

/* A primary's relay looks for a standby, copies everything to it (new content id, I2) and then streams. */
static void relay_connect(unsigned int i, unsigned int p)
{
	struct sim_node *x = &W.node[i], *y;
	struct relay *rl = &x->relay[p];
	const struct vmp_pair *cp;
	unsigned int k, first = (unsigned int)rnd_to(W.n);

	if (!x->up || !rl->active || rl->connected || !x->vm[p].member || W.n_members >= MAX_MEMBERS)
		return;
	for (k = 0; k < W.n; k++) {
		unsigned int j = (first + k) % W.n;

		y = &W.node[j];
		if (j == i || !y->up || !y->daemon || y->paused > W.now || !y->vm[p].member || W.cut[i][j] || W.cut[j][i] ||
		    y->relay[p].epoch > rl->run_epoch || y->relay[p].active)
			continue;
		cp = core_pair(j, p);
		if (cp && cp->at.phase >= VMP_PH_CLAIMING && !BUG(MEMBER_REPLACED))
			continue;	/* C2 */
		y->vm[p].idx = new_content(p, (int)x->vm[p].idx);
		y->vm[p].member = rnd_id() | 1;
		y->vm[p].ready = true;
		rl->connected = true;
		rl->to = (uint8_t)j;
		rl->to_member = y->vm[p].member;
		rl->inflight = 0;
		rl->catch_op = 0;
		say("relay %u: node %u copies to node %u, content %llx", p, i + 1, j + 1, (unsigned long long)y->vm[p].member);
		push((struct item){ .at = W.now + rnd_to(3 * MS), .type = Q_IN_SYNC, .node = (uint8_t)i, .pair = (uint8_t)p, .from = (uint8_t)j,
				    .gen = x->gen, .a = rl->to_member });
		member_event(j, p);
		return;
	}
}

static void vm_start(unsigned int i, unsigned int p)
{
	struct sim_node *x = &W.node[i];

	if (!x->up || x->vm[p].member || W.n_members >= MAX_MEMBERS)
		return;
	/* it is the daemon that starts VMs; not on a barred node (B3) */
	if (!x->daemon || x->pending || x->paused > W.now || vmp_core_barred(&x->core, (uint8_t)(i + 1), &(struct vmp_bar_view){ 0 })) {
		push((struct item){ .at = W.now + 10 * MS, .type = Q_VM, .node = (uint8_t)i, .pair = (uint8_t)p });
		return;
	}
	x->vm[p] = (struct vm){ .member = rnd_id() | 1, .idx = new_content(p, -1), .ready = true };
	say("node %u pair %u: VM starts, content %llx", i + 1, p, (unsigned long long)x->vm[p].member);
	member_event(i, p);
}

static void vm_kill(unsigned int i, unsigned int p)
{
	struct sim_node *x = &W.node[i];

	if (!x->vm[p].member)
		return;
	say("node %u pair %u: VM exits", i + 1, p);
	x->vm[p] = (struct vm){ 0 };
	x->relay[p].active = false;
	relay_broken(i, p);
	member_event(i, p);
	push((struct item){ .at = W.now + 5 * MS + rnd_to(60 * MS), .type = Q_VM, .node = (uint8_t)i, .pair = (uint8_t)p });
}

/* --- node life ------------------------------------------------------------------------------------------------------------------ */
static void tick_plan(unsigned int i)
{
	struct sim_node *x = &W.node[i];
	uint64_t at = real_at(x, vmp_core_deadline(&x->core));

	if (at <= W.now)
		at = W.now + 1000;
	if (at == x->tick_at)
		return;
	x->tick_at = at;
	push((struct item){ .at = at + (W.quiet ? 0 : rnd_to(100000)), .type = Q_TICK, .node = (uint8_t)i, .gen = ++x->tick_gen });
}

static void daemon_start(unsigned int i, bool same_boot)
{
	struct sim_node *x = &W.node[i];
	struct vmp_init init = { 0 };
	unsigned int k;

	same_boot = same_boot && x->complete;
	x->daemon = true;
	x->gen++;
	x->inc = rnd_id() | 1;
	x->tick_at = 0;
	x->pending = false;
	init.node = (uint8_t)(i + 1);
	init.start = same_boot ? VMP_START_SAME_BOOT : VMP_START_NEW;
	for (k = 0; k < (i < W.voters ? W.voters : W.n); k++)
		init.wish[init.n_wish++] = (uint8_t)((i < W.voters ? W.voters : W.n) - k);
	init.now_ns = local_at(x, W.now);
	init.boot = x->boot;
	init.inc = x->inc;
	init.voter = x->voter;
	init.seed = rnd_id();
	init.lease_ms = LEASE_MS;
	init.hb_ms = HB_MS;
	init.gate_delay_ms = Q_MS;
	init.hold_max_ms = LEASE_MS;
	init.clock_error_permille = 100;
	init.config = x->config;
	init.previous = x->previous;
	for (k = 0; k < MAX_R; k++) {
		if (same_boot ? x->has_run[k] : x->has_disk[k])
			init.record[init.n_records++] = same_boot ? x->run[k] : x->disk[k];
	}
#ifdef VMP_CORE_BUGS
	x->core.bugs = bugs;
#endif
	if (vmp_core_init(&x->core, &init)) {
		violate("init", "node %u", i + 1);
		return;
	}
	if (same_boot)
		x->joined_l = 0;	/* it has forgotten nothing */
	x->was_voter = is_voter(i, i);
	memset(x->seen, 0, sizeof x->seen);
	say("node %u: daemon starts (%s)", i + 1, same_boot ? "same boot" : "memory lost");
	W.starting = true;
	event(i, (struct vmp_event){ .type = VMP_EV_TICK });
	for (k = 0; k < W.n_pairs; k++) {
		event(i, (struct vmp_event){ .type = VMP_EV_PAIR_ADD, .pair = pair_id[k],
					     .policy = { .auto_failover = true, .cold_start = true, .relay = W.relay_policy,
							 .peer_link = (uint8_t)(W.seed >> 3 & 1) } });
		member_event(i, k);
	}
	W.starting = false;
	/* the relays go on by themselves; what they say again is whether the standby has caught up */
	for (k = 0; k < W.n_pairs; k++) {
		struct relay *rl = &x->relay[k];

		if (rl->connected)
			push((struct item){ .at = W.now + rnd_to(3 * MS), .type = Q_IN_SYNC, .node = (uint8_t)i, .pair = (uint8_t)k,
					    .from = rl->to, .gen = x->gen, .a = rl->to_member });
	}
}

static void daemon_kill(unsigned int i)
{
	struct sim_node *x = &W.node[i];

	x->daemon = false;
	x->pending = false;
	x->paused = 0;
	x->gen++;
	x->tick_gen++;
	x->tick_at = 0;
	say("node %u: daemon dies", i + 1);
}

static void host_crash(unsigned int i)
{
	struct sim_node *x = &W.node[i];
	unsigned int p;

	daemon_kill(i);
	x->up = x->complete = false;
	for (p = 0; p < W.n_pairs; p++) {
		relay_broken(i, p);
		x->vm[p] = (struct vm){ 0 };
		x->relay[p] = (struct relay){ 0 };
		x->gate[p] = (struct gate){ 0 };
	}
	memset(x->has_run, 0, sizeof x->has_run);
	say("node %u: host down", i + 1);
}

static void host_start(unsigned int i)
{
	struct sim_node *x = &W.node[i];
	unsigned int p;

	x->up = true;
	x->boot = rnd_id() | 1;
	x->base_r = W.now;
	x->base_l = 10000 * MS + rnd_to(100000 * MS);
	x->joined_l = 0;
	daemon_start(i, false);
	for (p = 0; p < W.n_pairs; p++)
		push((struct item){ .at = W.now + rnd_to(100 * MS), .type = Q_VM, .node = (uint8_t)i, .pair = (uint8_t)p });
}

static bool hosts(unsigned int i, unsigned int p)
{
	return (W.third && i < W.voters) || i == p % W.voters || i == (p + 1) % W.voters;
}

/* --- checks ---------------------------------------------------------------------------------------------------------------------- */
static void check_node(unsigned int i)
{
	struct sim_node *x = &W.node[i];
	unsigned int k;
	int which;

	for (k = 0; k < x->core.n_pairs; k++) {
		const struct vmp_reg *now = &x->core.pair[k].reg, *was;
		unsigned int p = core_pair_no(x->core.pair[k].id);

		was = &x->seen[p];
		if (!memcmp(was, now, sizeof(*now)))	/* the same to the bit: nothing to look at */
			continue;
		if (now->promised.epoch < was->promised.epoch || now->state.epoch < was->state.epoch ||
		    (now->state.epoch == was->state.epoch && now->state.seq < was->state.seq))
			violate("registers-never-fall", "node %u pair %u", i + 1, p);
		x->seen[p] = *now;
		/* Of the epochs that a cold start skips (I3) it may hit one that all disks have missed (seed 231477356): of another member, then. */
		if (now->state.epoch > x->ever[p].epoch || (now->state.epoch == x->ever[p].epoch &&
		    (now->state.seq >= x->ever[p].seq || now->state.holder_member != x->ever[p].holder_member)))
			x->ever[p] = now->state;
	}
	if (vmp_core_check(&x->core, &which))
		violate("local", "node %u: local invariant %d", i + 1, which);
	/* T1: else whoever is left when the other one has been fenced holds the pair and never opens it */
	if (x->core.settled && x->core.config.n && x->core.config.n < 3 && x->core.self != VMP_MAX_VOTERS && !x->core.renew_ok)
		violate("renews-itself", "node %u goes by the rule for three voters", i + 1);
}

/* M2: what a majority of the old set knew when it adopted the version, a majority of the new one knows before the next may follow. */
static void check_handed_over(unsigned int i)
{
	const struct vmp_core *c = &W.node[i].core;
	unsigned int k, j, p;

	for (p = 0; p < W.n_pairs && c->previous.n; p++) {
		for (k = 0; k < W.n; k++) {
			const struct vmp_state *st = &W.node[k].at_adopt[p];
			unsigned int know = 0, have = 0;

			if (W.node[k].adopted != c->config.version || !st->epoch)
				continue;
			for (j = 0; j < W.n; j++) {
				const struct vmp_state *a = &W.node[j].at_adopt[p], *e = &W.node[j].ever[p];

				if (W.node[j].adopted == c->config.version && (a->epoch > st->epoch || (a->epoch == st->epoch && a->seq >= st->seq)))
					know |= 1u << j;
				if (e->epoch > st->epoch || (e->epoch == st->epoch && e->seq >= st->seq))
					have |= 1u << j;
			}
			if (majority_of(i, &c->previous, know) && !majority_of(i, &c->config, have))
				violate("states-handed-over", "pair %u: %llx/%llu known to nodes %x, after version %llx only to %x", p,
					(unsigned long long)st->epoch, (unsigned long long)st->seq, know, (unsigned long long)c->config.version, have);
		}
	}
}

static void check_config(unsigned int i, const struct vmp_action *a)
{
	struct sim_node *x = &W.node[i];
	unsigned int p;

	if (a->c) {
		if (a->a == x->core.config.version)	/* the same step may have proposed the next one */
			set_settled(&x->core.config);
		if (x->core.change.phase == VMP_CH_MARK)
			check_handed_over(i);
		return;
	}
	x->adopted = a->a;
	for (p = 0; p < W.n_pairs; p++) {
		const struct vmp_pair *cp = core_pair(i, p);

		x->at_adopt[p] = cp ? cp->reg.state : (struct vmp_state){ 0 };
	}
}

static void check_role(unsigned int i, unsigned int p, const struct vmp_action *a)
{
	struct sim_node *x = &W.node[i];
	unsigned int k;

	if (a->code == VMP_ROLE_ESTABLISHING) {
		const struct vmp_pair *cp = core_pair(i, p);

		if (cp && (cp->at.force || cp->reg.state.cold))
			W.forced[p] |= 1ull << x->vm[p].idx;
		return;
	}
	if (a->code != VMP_ROLE_HOLDING)
		return;
	for (k = 0; k < W.n_held[p]; k++) {
		if (W.held[p][k].epoch != a->epoch)
			continue;
		if (W.held[p][k].node != i || W.held[p][k].boot != x->boot)
			violate("one-holder-per-epoch", "pair %u epoch %llx: nodes %u and %u", p, (unsigned long long)a->epoch,
				W.held[p][k].node + 1, i + 1);
		return;
	}
	if (W.n_held[p] < 256)
		W.held[p][W.n_held[p]++] = (struct held_epoch){ .epoch = a->epoch, .boot = x->boot, .node = (uint8_t)i };
}

static void check_alone(unsigned int i, unsigned int p, uint64_t epoch)
{
	const struct vmp_pair *cp = core_pair(i, p);
	unsigned int k, have = 0;

	/* Told again in another voter set: that one gets the state before it settles (seed 231424863). */
	if (W.alone_epoch[p] == epoch && W.alone_seq[p] == cp->own.seq)
		return;
	for (k = 0; k < W.n; k++) {
		const struct vmp_state *st = &W.node[k].ever[p];
		bool knows = st->epoch > epoch || (st->epoch == epoch && st->seq >= cp->own.seq && !st->sync_node);

		have |= (unsigned int)knows << k;
	}
	if (!majority(i, have))
		violate("alone-implies-majority", "pair %u epoch %llx: only nodes %x know that nobody is in sync", p,
			(unsigned long long)epoch, have);
	W.alone_epoch[p] = epoch;
	W.alone_seq[p] = cp->own.seq;
}

static void heal(void)
{
	memset(W.cut, 0, sizeof W.cut);
}

static void cut_off(unsigned int i)
{
	unsigned int k, j;

	heal();
	for (k = 0; k < W.n; k++) {
		for (j = 0; j < W.n; j++)
			W.cut[k][j] = (k == i) != (j == i);
	}
	say("node %u cut off", i + 1);
	push((struct item){ .at = W.now + rnd_to(250 * MS), .type = Q_HEAL });
}

/* When a voter set has been adopted and nobody has been told yet; half of the time the node is fenced. */
static void cut_in_change(unsigned int i)
{
	cut_off(i);
	if (chance(5000))
		push((struct item){ .at = W.now + rnd_to(150 * MS), .type = Q_FENCE, .node = (uint8_t)i, .gen = W.node[i].gen });
}

/* --- one step of one node --------------------------------------------------------------------------------------------------------- */
static void act_mode(unsigned int i, unsigned int p, const struct vmp_action *a)
{
	struct sim_node *x = &W.node[i];
	struct relay *rl = &x->relay[p];
	const struct vmp_pair *cp = core_pair(i, p);
	unsigned int r;

	rl->mode = a->code;
	rl->sync_member = a->code == VMP_MODE_SYNC ? a->b : 0;
	if (cp && cp->role == VMP_ROLE_HOLDING && cp->epoch == a->epoch) {
		if (rl->run_epoch != a->epoch || !rl->active) {
			bool again = rl->active && rl->run_epoch;	/* re-claim: the stream goes on in the new epoch */

			for (r = W.acked_from[p]; r < W.n_req; r++) {
				if (W.req[r].pair == p && W.req[r].node == i && !W.req[r].acked)
					W.req[r].dropped |= !again;
			}
			if (again && rl->inflight)
				relay_broken(i, p);
			if (!again)
				rl->connected = false;
			rl->active = true;
			rl->run_epoch = a->epoch;
			if (rl->epoch < a->epoch)
				rl->epoch = a->epoch;
		}
	}
	if (a->code == VMP_MODE_ALONE && cp && cp->role == VMP_ROLE_HOLDING)
		check_alone(i, p, a->epoch);
	rl->catch_op = a->op;
	relay_flush(i, p);
	relay_caught(i, p);
}

static void act_store(unsigned int i, unsigned int p, const struct vmp_action *a, uint64_t computed_at)
{
	struct sim_node *x = &W.node[i];
	uint64_t value = a->expiry_ns;

	if (BUG(EXPIRY_FROM_NOW))
		value = local_at(x, W.now) + (a->expiry_ns - computed_at);
	if ((a->type == VMP_ACT_ENTRY_OPEN || x->gate[p].refused) && local_at(x, W.now) < value)	/* a store that comes late opens nothing (K2) */
		opening(i, p, a->epoch);
	x->gate[p].refused = false;
	if (value > vmp_core_lease_end(&x->core, a->pair) && !BUG(EXPIRY_FROM_NOW))
		violate("expiry-within-lease", "node %u pair %u", i + 1, p);
	gate_store(i, p, value);
	if (BUG(SECOND_WRITER))
		push((struct item){ .at = W.now + rnd_to(4 * MS), .type = Q_STORE, .node = (uint8_t)i, .pair = (uint8_t)p, .a = value });
	relay_flush(i, p);
}

/* B2: off was answered, so everything of that node has to be over. */
static void bar_answered(unsigned int k, bool on)
{
	unsigned int p;

	if (W.bar_wanted == k + 1 && on)
		W.bar_wanted = 0;
	if (!on || W.now < W.lift_until[k] + LEASE_MS * MS)	/* what is answered was so a moment ago */
		return;
	say("node %u is barred", k + 1);
	W.bars++;
	W.barred[k] = true;
	for (p = 0; p < W.n_pairs; p++) {
		if (on_wire(&W.node[k], p))
			violate("off-before-closed", "pair %u still open on node %u", p, k + 1);
	}
}

static void bar_ask(unsigned int i, unsigned int k, bool on, uint64_t limit)
{
	if (!W.node[i].up || !W.node[i].daemon || W.node[i].paused > W.now || W.node[i].pending)
		return;
	if (!on) {
		W.barred[k] = false;
		if (W.lift_until[k] < W.now + limit * 5 / 4 + MS)
			W.lift_until[k] = W.now + limit * 5 / 4 + MS;
	}
	event(i, (struct vmp_event){ .type = VMP_EV_BAR, .node = (uint8_t)(k + 1), .on = on, .op = BAR_OP + 2 * k + on, .member = VMP_BAR_BY_AGENT,
				     .deadline_ns = local_at(&W.node[i], W.now) + limit });
}

/* Returns false when the list was given up (crash, failed write). */
static bool run_actions(unsigned int i, struct vmp_out *out, unsigned int from, uint64_t computed_at)
{
	struct sim_node *x = &W.node[i];
	struct vmp_event failed = { .type = VMP_EV_COUNT };
	unsigned int k, v;

	if (!from)
		x->unstored = 0;
	for (k = from; k < out->n_actions && !W.violation; k++) {
		const struct vmp_action *a = &out->action[k];
		unsigned int p = core_pair_no(a->pair);

		if (vmp_action_lapses(out, a, x->unstored))
			continue;
		if (failed.type != VMP_EV_COUNT && !vmp_action_stands(&out->action[k]))
			continue;
		if (failed.type == VMP_EV_COUNT && !W.quiet && !W.starting && a->type != VMP_ACT_NOTE && chance(W.pause_mid)) {
			/* stopped between computing and doing; for no time at all, it would not be seen as stopped by what comes now */
			x->paused = W.now + 1 + rnd_to(150 * MS);
			if (out != &x->rest) {
				x->rest.n_actions = out->n_actions;
				x->rest.n_msgs = out->n_msgs;
				memcpy(x->rest.action, out->action, out->n_actions * sizeof out->action[0]);
				for (v = 0; v < out->n_msgs; v++)
					msg_copy(&x->rest.msg[v], &out->msg[v]);
			}
			x->pending = true;
			x->pending_from = k;
			say("node %u: stops before %s for %.3f ms", i + 1, vmp_action_name(a->type), (double)(x->paused - W.now) / MS);
			push((struct item){ .at = x->paused, .type = Q_RESUME, .node = (uint8_t)i, .gen = x->gen, .a = computed_at });
			return false;
		}
		switch ((enum vmp_action_type)a->type) {
		case VMP_ACT_PERSIST_CONFIG:
		case VMP_ACT_PERSIST: {
			struct vmp_record rec;

			if (!W.quiet && !W.starting && chance(W.torn)) {
				if (chance(5000)) {		/* the write fails */
					say("node %u: write fails", i + 1);
					failed = (struct vmp_event){ .type = VMP_EV_PERSIST_FAILED, .pair = a->pair };
					break;
				}
				say("node %u: dies while writing", i + 1);
				daemon_kill(i);
				push((struct item){ .at = W.now + rnd_to(200 * MS), .type = Q_START, .node = (uint8_t)i });
				return false;
			}
			if (a->type == VMP_ACT_PERSIST_CONFIG) {
				vmp_core_config(&x->core, &x->config, &x->previous);
				if (!x->core.settled && !W.quiet && !W.starting && chance(1000))
					cut_in_change(i);
			} else if (!vmp_core_record(&x->core, a->pair, &rec)) {
				x->run[p] = rec;
				x->has_run[p] = true;
			}
			break;
		}
		case VMP_ACT_SEND: {
			const struct vmp_msg *msg = &out->msg[a->msg];

			if (x->core.rec.abstaining && (msg->type == VMP_MSG_ACK || msg->type == VMP_MSG_GRANT || msg->type == VMP_MSG_PUT_OK ||
						       msg->type == VMP_MSG_TABLE) && !BUG(ACK_ABSTAINING) && !BUG(ABSTAIN_ANSWERS_READ))
				violate("abstaining-is-silent", "node %u sends %s", i + 1, vmp_msg_name(msg->type));
			if (x->joined_l && local_at(x, W.now) < x->joined_l + LEASE_MS * MS && !W.quiet &&
			    (msg->type == VMP_MSG_ACK || msg->type == VMP_MSG_GRANT || msg->type == VMP_MSG_PUT_OK || msg->type == VMP_MSG_TABLE))
				violate("new-voter-is-silent", "node %u sends %s", i + 1, vmp_msg_name(msg->type));
			if (msg->version != x->config.version && msg->type != VMP_MSG_RELEASE)
				violate("voter-set-on-disk", "node %u sends %s", i + 1, vmp_msg_name(msg->type));
			for (v = 0; v < W.n; v++) {
				if (a->to == v + 1 || (a->to == VMP_TO_VOTERS && is_voter(i, v)))
					deliver(i, v, msg);
			}
			break;
		}
		case VMP_ACT_ENTRY_OPEN:
		case VMP_ACT_ENTRY_REFRESH:
			if (!W.quiet && chance(100)) {	/* the gate is not ready, or being repaired */
				say("node %u: store refused", i + 1);
				x->unstored = a->pair;
				x->gate[p].refused = true;
				break;
			}
			act_store(i, p, a, computed_at);
			break;
		case VMP_ACT_ENTRY_CLOSE:
			if (BUG(STORE_AFTER_CLOSE))
				push((struct item){ .at = W.now + rnd_to(MS), .type = Q_STORE, .node = (uint8_t)i, .pair = (uint8_t)p,
						    .a = x->gate[p].expiry });
			if (!BUG(RELEASE_BEFORE_CLOSE)) {
				x->gate[p] = (struct gate){ 0 };
				push((struct item){ .at = W.now + rnd_to(MS), .type = Q_CLOSED, .node = (uint8_t)i, .pair = (uint8_t)p,
						    .gen = x->gen, .a = a->op });
			} else {	/* the close itself may take its time; only its word counts */
				push((struct item){ .at = W.now + 3 * MS, .type = Q_CLOSED, .node = (uint8_t)i, .pair = (uint8_t)p,
						    .gen = x->gen, .a = a->op, .b = 1 });
			}
			break;
		case VMP_ACT_RELAY_FENCE:
			push((struct item){ .at = W.now + rnd_to(MS), .type = Q_RELAY_READY, .node = (uint8_t)i, .pair = (uint8_t)p,
					    .gen = x->gen, .a = a->epoch });
			if (x->relay[p].epoch < a->epoch)
				x->relay[p].epoch = a->epoch;
			break;
		case VMP_ACT_MODE:
			act_mode(i, p, a);
			break;
		case VMP_ACT_ROLE:
			check_role(i, p, a);
			if (a->code == VMP_ROLE_NONE || a->code == VMP_ROLE_CLOSING) {
				x->relay[p].active = false;
				relay_broken(i, p);
			}
			break;
		case VMP_ACT_NOTE:
			if (a->code == VMP_NOTE_CONFIG)
				check_config(i, a);
			if (a->code == VMP_NOTE_CLAIM_SENT) {
				for (v = 0; v < W.n_claims[p]; v++) {
					if (W.claims[p][v] == a->a)
						violate("epoch-used-once", "node %u pair %u epoch %llx claimed twice", i + 1, p, (unsigned long long)a->a);
				}
				if (W.n_claims[p] < 512)
					W.claims[p][W.n_claims[p]++] = a->a;
			}
			break;
		case VMP_ACT_END_MEMBERS:
			for (v = 0; v < W.n_pairs; v++)
				push((struct item){ .at = W.now + rnd_to(MS), .type = Q_VM, .node = (uint8_t)i, .pair = (uint8_t)v, .b = 1 });
			break;
		case VMP_ACT_OP_DONE:
			if (a->op >= BAR_OP && !a->rc)
				bar_answered((unsigned int)(a->op - BAR_OP) / 2, a->op & 1);
			break;
		case VMP_ACT_COUNT:
			break;
		}
	}
	if (failed.type != VMP_EV_COUNT && !W.violation) {
		event(i, failed);
		return false;
	}
	return true;
}

/* X5: the disks lag behind, so what was acknowledged last and the last epochs may be forgotten. The core has started cold also when a write
 * fails and the rest of the list, which tells of it, is dropped. */
static void see_cold_start(const struct vmp_out *out)
{
	unsigned int k, p;

	for (k = 0; k < out->n_actions; k++) {
		const struct vmp_action *a = &out->action[k];

		if (a->type != VMP_ACT_NOTE || a->code != VMP_NOTE_RECOVERED || !a->b)
			continue;
		for (p = 0; p < W.n_pairs; p++) {
			W.acked_from[p] = W.n_req;
			W.last_open[p] = W.n_claims[p] = W.n_held[p] = 0;
			W.alone_epoch[p] = 0;
		}
		W.n_claims[PV] = 0;
		memset(W.barred, 0, sizeof W.barred);
	}
}

static void step(unsigned int i, struct vmp_event *ev)
{
	struct sim_node *x = &W.node[i];
	struct vmp_out *out = &W.out;
	int r;

	if (!x->up || !x->daemon || W.violation)
		return;
	if (x->paused > W.now || x->pending)		/* events made while stopped wait; only those of the sim itself get here */
		return;
	ev->now_ns = local_at(x, W.now);
	W.steps++;
	r = vmp_core_step(&x->core, ev, out);
	if (verbose) {
		static char line[16384];

		vmp_core_str(&x->core, ev, out, x->base_l, line, sizeof line);
		say("%s", line);
	}
	if (r)
		violate("step", "node %u: %s gives %d", i + 1, ev->type == VMP_EV_MSG ? vmp_msg_name(ev->msg.type) : vmp_event_name(ev->type), r);
	if (r)
		say("pair %llx: transition %u -> %u", (unsigned long long)x->core.fault_pair, x->core.fault_from, x->core.fault_to);
	if (is_voter(i, i) && !x->was_voter && x->core.config.version > 1)
		x->joined_l = ev->now_ns;	/* M3: a new voter starts with X2 */
	x->was_voter = is_voter(i, i);
	check_node(i);
	if (x->core.rec.waited)
		see_cold_start(out);
	if (run_actions(i, out, 0, ev->now_ns) && x->daemon && vmp_core_run_complete(&x->core))
		x->complete = true;	/* X1 */
	if (x->daemon && !x->pending && !W.violation)
		tick_plan(i);
}

/* --- the world's will ---------------------------------------------------------------------------------------------------------------- */
/* R3: a node is fenced, by boot: everybody hears of it. A slow fence agent tells it when the node is back. */
static void fence(unsigned int i)
{
	uint64_t boot = W.node[i].boot;
	unsigned int k;

	host_crash(i);
	push((struct item){ .at = W.now + rnd_to(100 * MS), .type = Q_START, .node = (uint8_t)i, .a = 1 });
	for (k = 0; k < W.n; k++) {
		if (k != i)
			push((struct item){ .at = W.now + rnd_to(150 * MS), .type = Q_FAULT, .node = (uint8_t)k, .from = (uint8_t)i, .a = boot, .b = 1 });
	}
}

static void fault(void)
{
	unsigned int i = (unsigned int)rnd_to(W.n), p = (unsigned int)rnd_to(W.n_pairs), k, j;
	struct sim_node *x = &W.node[i];

	/* half of the time at the holder of a pair */
	if (chance(5000)) {
		for (k = 0; k < W.n; k++) {
			const struct vmp_pair *cp = core_pair(k, p);

			if (W.node[k].up && W.node[k].daemon && cp && cp->role == VMP_ROLE_HOLDING)
				i = k;
		}
		x = &W.node[i];
	}
	switch (rnd_to(15)) {
	case 0:
	case 1:
		if (x->up && x->daemon) {
			daemon_kill(i);
			push((struct item){ .at = W.now + rnd_to(chance(5000) ? 20 * MS : 250 * MS), .type = Q_START, .node = (uint8_t)i });
		}
		break;
	case 2:
	case 3:
		if (x->up) {
			host_crash(i);
			push((struct item){ .at = W.now + rnd_to(200 * MS), .type = Q_START, .node = (uint8_t)i, .a = 1 });
		}
		break;
	case 4:
		if (x->up && x->daemon && x->paused <= W.now && !x->pending) {
			x->paused = W.now + rnd_to(200 * MS);
			say("node %u: stopped for %.3f ms", i + 1, (double)(x->paused - W.now) / MS);
		}
		break;
	case 5:
	case 6:		/* partition */
		cut_off(i);
		break;
	case 7:		/* one way, or one link */
		j = (unsigned int)rnd_to(W.n);
		W.cut[i][j] = i != j;
		if (chance(5000))
			W.cut[j][i] = i != j;
		say("link %u -> %u cut", i + 1, j + 1);
		push((struct item){ .at = W.now + rnd_to(250 * MS), .type = Q_HEAL });
		break;
	case 8:
	case 9:
		if (x->up)
			vm_kill(i, p);
		break;
	case 10:
		event(i, (struct vmp_event){ .type = VMP_EV_SWITCHOVER, .pair = pair_id[p], .op = 1 });
		break;
	case 11:
		event(i, (struct vmp_event){ .type = VMP_EV_DEMOTE, .pair = pair_id[p], .op = 1 });
		break;
	case 12:
		event(i, (struct vmp_event){ .type = VMP_EV_PROMOTE, .pair = pair_id[p], .op = 1,
					     .deadline_ns = local_at(x, W.now) + 100 * MS });
		break;
	case 13:
		if (chance(5000))
			rate_change(x);
		else if (chance(5000))
			event(i, (struct vmp_event){ .type = VMP_EV_HOLD, .ms = LEASE_MS, .op = 1 });
		else
			event(i, (struct vmp_event){ .type = VMP_EV_UNHOLD, .op = 1 });
		break;
	case 14:
		if (chance(3000)) {
			event(i, (struct vmp_event){ .type = VMP_EV_CLOCK_JUMP });
		} else if (chance(3000)) {
			event(i, (struct vmp_event){ .type = VMP_EV_PEER_LINK, .pair = pair_id[p], .on = false, .ready = true });
		} else {
			fence(i);
		}
		break;
	}
}

static bool state_same(const struct vmp_state *a, const struct vmp_state *b)
{
	return a->epoch == b->epoch && a->seq == b->seq;
}

/* What Pacemaker would do: keep a pair promoted somewhere. */
static void manager(unsigned int p)
{
	unsigned int i, best = W.n, k;
	const struct vmp_state *newest = NULL;
	bool lost, eligible = false;

	for (i = 0; i < W.n; i++) {
		const struct vmp_pair *cp = core_pair(i, p);

		if (!W.node[i].up || !W.node[i].daemon || !cp || !is_voter(i, i))
			continue;
		if (cp->role != VMP_ROLE_NONE || cp->promote.deadline_ns)
			return;
		if (newest && !state_same(newest, &cp->reg.state))
			;
		else if (newest && cp->reg.state.cold)
			newest = &cp->reg.state;
		if (!newest || cp->reg.state.epoch > newest->epoch ||
		    (cp->reg.state.epoch == newest->epoch && cp->reg.state.seq > newest->seq))
			newest = &cp->reg.state;
	}
	for (k = 0, i = (unsigned int)rnd_to(W.n); k < W.n; k++, i = (i + 1) % W.n) {
		const struct sim_node *x = &W.node[i];

		if (!x->up || !x->daemon || x->paused > W.now || !x->vm[p].member || !is_voter(i, i))
			continue;
		if (best == W.n)
			best = i;
		if (newest && ((newest->holder == i + 1 && (newest->holder_member == x->vm[p].member || newest->cold)) ||
			       (!newest->cold && newest->sync_node == i + 1 && newest->sync_member == x->vm[p].member))) {
			best = i;
			eligible = true;
			if (W.quiet)
				break;
		}
	}
	/* whoever could have the newest content has left the voter set: that is for an operator to decide */
	lost = W.quiet && newest && best < W.n && newest->holder && !eligible &&
	       (!is_voter(best, newest->holder - 1u) || (newest->sync_node && !is_voter(best, newest->sync_node - 1u)));
	if (best < W.n)
		event(best, (struct vmp_event){ .type = lost ? VMP_EV_FORCE : VMP_EV_PROMOTE, .pair = pair_id[p], .op = 2,
						.deadline_ns = local_at(&W.node[best], W.now) + 120 * MS });
}

/* An operator asks a node to add or remove a voter. */
static void voters_change(void)
{
	unsigned int i = (unsigned int)rnd_to(W.n), k = (unsigned int)rnd_to(W.n);
	struct sim_node *x = &W.node[i];
	bool add = !is_voter(i, k);

	if (!x->up || !x->daemon || !is_voter(i, i) || (!add && x->core.config.n <= 2 && !chance(1000)))
		return;
	event(i, (struct vmp_event){ .type = VMP_EV_VOTERS, .node = (uint8_t)(k + 1), .on = add, .op = 3,
				     .member = chance(5000) ? W.node[k].voter : 0, .deadline_ns = local_at(x, W.now) + 300 * MS });
}

static void go_quiet(void)
{
	unsigned int i, p;

	say("quiet from here on");
	W.quiet = true;
	heal();
	for (i = 0; i < W.n; i++) {
		struct sim_node *x = &W.node[i];

		if (x->up && !x->daemon)
			daemon_start(i, true);
		for (p = 0; p < W.n_pairs && x->up; p++)
			event(i, (struct vmp_event){ .type = VMP_EV_PEER_LINK, .pair = pair_id[p], .on = true });
	}
	if (W.bar_test)
		push((struct item){ .at = W.now + 400 * MS, .type = Q_BAR, .from = (uint8_t)rnd_to(W.n), .b = 1 });
	for (i = 0; i < W.n && W.bar_test; i++) {
		if (chance(5000))
			bar_ask((unsigned int)rnd_to(W.n), i, false, 300 * MS);
	}
}

static void check_liveness(void)
{
	unsigned int i, p;

	for (p = 0; p < W.n_pairs; p++) {
		bool open = false, possible = false;

		for (i = 0; i < W.n; i++) {
			open |= gate_open(&W.node[i], p);
			possible |= W.node[i].up && W.node[i].vm[p].member && is_voter(i, i) &&
				    !vmp_core_barred(&W.node[i].core, (uint8_t)(i + 1), &(struct vmp_bar_view){ 0 });
		}
		if (possible && !open)
			violate("liveness", "pair %u has no open entry after 10 L of quiet", p);
	}
	if (W.bar_wanted)
		violate("bar-liveness", "node %u cannot be barred", W.bar_wanted);
}

static void handle(struct item *it)
{
	struct sim_node *x = &W.node[it->node];
	unsigned int k;

	switch ((enum qtype)it->type) {
	case Q_TICK:
		if (it->gen != x->tick_gen || !x->daemon)
			return;
		x->tick_at = 0;
		event(it->node, (struct vmp_event){ .type = VMP_EV_TICK });
		return;
	case Q_MSG:
		if (x->up && x->daemon && (!it->gen || it->gen == x->gen)) {
			memset(&W.ev, 0, offsetof(struct vmp_event, msg));
			W.ev.type = VMP_EV_MSG;
			W.ev.node = it->from + 1;
			msg_copy(&W.ev.msg, &W.pool[it->slot]);
			step(it->node, &W.ev);
		}
		W.freelist[W.n_free++] = it->slot;
		return;
	case Q_CLOSED:
		if (it->b)
			x->gate[it->pair] = (struct gate){ 0 };
		if (it->gen == x->gen)
			event(it->node, (struct vmp_event){ .type = VMP_EV_CLOSED, .pair = pair_id[it->pair], .op = it->a });
		return;
	case Q_RELAY_READY:
		if (it->gen == x->gen)
			event(it->node, (struct vmp_event){ .type = VMP_EV_RELAY_READY, .pair = pair_id[it->pair], .epoch = it->a });
		return;
	case Q_IN_SYNC:
		if (it->gen == x->gen && (it->b == VMP_NEVER || (x->relay[it->pair].connected && x->relay[it->pair].to_member == it->a)))
			event(it->node, (struct vmp_event){ .type = VMP_EV_IN_SYNC, .pair = pair_id[it->pair], .node = it->from + 1,
							    .member = it->a, .on = it->b != VMP_NEVER, .op = it->b == VMP_NEVER ? 0 : it->b });
		return;
	case Q_MEMBER:
		member_event(it->node, it->pair);
		return;
	case Q_RESUME:
		if (it->gen == x->gen && x->pending) {
			x->pending = false;
			x->paused = 0;
			if (run_actions(it->node, &x->rest, x->pending_from, it->a) && x->daemon && !W.violation)
				tick_plan(it->node);
		}
		return;
	case Q_START:
		if (it->a && !x->up)
			host_start(it->node);
		else if (!it->a && x->up && !x->daemon)
			daemon_start(it->node, true);
		return;
	case Q_VM:
		if (it->b)
			vm_kill(it->node, it->pair);
		else if (hosts(it->node, it->pair))
			vm_start(it->node, it->pair);
		return;
	case Q_FAULT:
		if (it->b) {
			if (!W.quiet)
				event(it->node, (struct vmp_event){ .type = VMP_EV_FENCED, .node = it->from + 1, .member = it->a });
			return;
		}
		if (W.quiet)
			return;
		fault();
		push((struct item){ .at = W.now + rnd_to(W.bad_until), .type = Q_FAULT });
		return;
	case Q_HEAL:
		heal();
		return;
	case Q_FENCE:
		if (it->gen == x->gen && x->up && !W.quiet)
			fence(it->node);
		return;
	case Q_CLIENT:
		for (k = 0; k < W.n; k++) {
			if (gate_open(&W.node[k], it->pair))
				request_new(k, it->pair);
		}
		push((struct item){ .at = W.now + 2 * MS + rnd_to(3 * MS), .type = Q_CLIENT, .pair = it->pair });
		return;
	case Q_REPL:
		replicate(it);
		return;
	case Q_CONFIRM:
		confirmed(it);
		return;
	case Q_RELAY:
		for (k = 0; k < W.n; k++)
			relay_connect(k, it->pair);
		push((struct item){ .at = W.now + 8 * MS + rnd_to(30 * MS), .type = Q_RELAY, .pair = it->pair });
		return;
	case Q_MANAGER:
		manager(it->pair);
		push((struct item){ .at = W.now + 20 * MS + rnd_to(60 * MS), .type = Q_MANAGER, .pair = it->pair });
		return;
	case Q_FLUSH:
		for (k = 0; k < MAX_R && x->up; k++) {
			if (x->has_run[k]) {
				x->disk[k] = x->run[k];
				x->has_disk[k] = true;
			}
		}
		push((struct item){ .at = W.now + 20 * MS + rnd_to(60 * MS), .type = Q_FLUSH, .node = it->node });
		return;
	case Q_STORE:
		gate_store(it->node, it->pair, it->a);
		return;
	case Q_VOTERS:
		if (!W.quiet) {
			voters_change();
			push((struct item){ .at = W.now + rnd_to(160 * MS), .type = Q_VOTERS });
		}
		return;
	case Q_BAR:
		if (it->b) {	/* after the last fault: one that has to succeed */
			for (k = 0; k < W.n && (!is_voter(k, k) || W.node[k].core.rec.abstaining || !W.node[k].up); k++)
				;
			if (k < W.n) {
				W.bar_wanted = it->from + 1u;
				bar_ask(k, it->from, true, 2000 * MS);
			}
		} else if (!W.quiet) {
			k = (unsigned int)rnd_to(W.n);
			for (unsigned int tries = chance(2000) ? 2 : 1; tries--;)
				bar_ask((unsigned int)rnd_to(W.n), k, tries ? true : chance(6000), chance(5000) ? 100 * MS : 300 * MS);
			push((struct item){ .at = W.now + rnd_to(200 * MS), .type = Q_BAR });
		}
		return;
	case Q_QUIET:
		go_quiet();
		return;
	}
}

static void world_init(uint64_t seed)
{
	static const unsigned int losses[] = { 0, 0, 100, 500, 2000 }, dups[] = { 0, 200, 1000 }, slows[] = { 0, 50, 300, 1000 };
	static const uint64_t delays[] = { MS / 10, MS, 5 * MS };
	unsigned int i, p;
	bool first, change;

	memset(&W, 0, offsetof(struct world, heap));
	W.n_heap = 0;
	memset((char *)&W + offsetof(struct world, cut), 0, offsetof(struct world, req) - offsetof(struct world, cut));
	memset((char *)&W + offsetof(struct world, n_req), 0, offsetof(struct world, ev) - offsetof(struct world, n_req));
	W.seed = W.prng = seed;
	rnd();
	W.now = 1000 * MS;
	W.voters = force_voters ? force_voters : chance(6000) ? 3 : chance(4000) ? 5 : chance(4000) ? 4 : chance(6000) ? 2 : chance(7000) ? 7 : 1;
	first = chance(500);
	change = !first && chance(4000);
	W.bar_test = chance(4000);
	W.n = W.voters;
	if (change && W.n < MAX_N)	/* W.n - W.voters nodes that may be added */
		W.n += 1 + (unsigned int)rnd_to(W.n < MAX_N - 1 && W.n < 4 ? 2 : 1);
	W.n_pairs = chance(3000) ? 2 : 1;
	W.third = W.voters >= 3 && chance(4000);
	W.relay_policy = true;
	W.loss = losses[rnd_to(5)];
	W.dup = dups[rnd_to(3)];
	W.slow = slows[rnd_to(4)];
	W.delay = delays[rnd_to(3)];
	W.torn = chance(3000) ? 100 : 0;
	W.pause_mid = chance(3000) ? 40 : 0;
	W.bad_until = chance(5000) ? 60 * MS : 160 * MS;	/* mean distance of faults, twice */
	W.n_free = POOL;
	for (i = 0; i < POOL; i++)
		W.freelist[i] = i;
	for (i = 0; i < W.n; i++) {
		struct sim_node *x = &W.node[i];

		memset(x, 0, offsetof(struct sim_node, rest));
		x->up = x->complete = true;
		x->base_r = W.now;
		x->base_l = 1000 * MS + rnd_to(100000 * MS);
		x->rate = 1000000;
		x->boot = rnd_id() | 1;
		x->voter = rnd_id() | 1;
	}
	for (i = 0; i < W.n; i++) {
		struct sim_node *x = &W.node[i];

		rate_change(x);
		x->was_voter = !first && i < W.voters;
		for (p = 0; p < W.voters && !first && i < W.voters; p++) {
			x->config.voter[p].node = (uint8_t)(p + 1);
			x->config.voter[p].id = W.node[p].voter;
			x->config.n = (uint8_t)W.voters;
			x->config.version = 1;
		}
		for (p = 0; p < W.n_pairs; p++) {
			if (hosts(i, p))
				x->vm[p] = (struct vm){ .member = rnd_id() | 1, .idx = new_content(p, -1), .ready = true };
		}
	}
	W.quiet_at = W.now + 600 * MS;
	W.end_at = W.quiet_at + 250 * MS + (change ? 18 : 10) * LEASE_MS * MS + (W.bar_test ? 8 * LEASE_MS * MS : 0);	/* what a lost proposer began is finished first */
	for (i = 0; i < W.n; i++) {
		W.node[i].complete = !first && i < W.voters;
		daemon_start(i, !first);
		push((struct item){ .at = W.now + rnd_to(60 * MS), .type = Q_FLUSH, .node = (uint8_t)i });
	}
	for (p = 0; p < W.n_pairs; p++) {
		push((struct item){ .at = W.now + 2 * MS, .type = Q_MANAGER, .pair = (uint8_t)p });
		push((struct item){ .at = W.now + 5 * MS, .type = Q_CLIENT, .pair = (uint8_t)p });
		push((struct item){ .at = W.now + 10 * MS, .type = Q_RELAY, .pair = (uint8_t)p });
	}
	push((struct item){ .at = W.now + 30 * MS + rnd_to(100 * MS), .type = Q_FAULT });
	if (change)
		push((struct item){ .at = W.now + 20 * MS + rnd_to(200 * MS), .type = Q_VOTERS });
	push((struct item){ .at = W.quiet_at, .type = Q_QUIET });
	if (W.bar_test)
		push((struct item){ .at = W.now + 20 * MS + rnd_to(200 * MS), .type = Q_BAR });
}

/* One schedule; NULL when all invariants held. */
static const char *run_seed(uint64_t seed)
{
	world_init(seed);
	say("seed %llu: %u voters (%u nodes), %u pairs, loss %u dup %u slow %u torn %u", (unsigned long long)seed, W.voters, W.n, W.n_pairs, W.loss, W.dup,
	    W.slow, W.torn);
	while (W.n_heap && !W.violation) {
		struct item it = pop();
		struct sim_node *x = &W.node[it.node];

		if (it.at > W.end_at)
			break;
		if (W.steps > 100000)
			violate("busy", "more steps than time allows");
		W.now = it.at;
		/* V1: a stopped daemon finds everything when it goes on; what came in comes before its timers */
		if (x->daemon && x->paused > W.now && it.type < Q_RESUME) {
			it.at = x->paused + (it.type == Q_TICK ? 2000 : 1000);
			push(it);
			continue;
		}
		handle(&it);
	}
	if (!W.violation)
		check_liveness();
	total_steps += W.steps;
	total_opens += W.opens;
	total_acks += W.acks;
	total_sets += W.n_sets;
	total_bars += W.bars;
	return W.violation;
}

#ifndef SIM_FUZZ
static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool first_only;

static int run_many(uint64_t seed, uint64_t runs)
{
	double start = seconds(), took;
	uint64_t i, failed = 0;

	for (i = 0; i < runs; i++) {
		if (!run_seed(seed + i))
			continue;
		printf("seed %llu: %s: %s (replay: sim --replay %llu", (unsigned long long)(seed + i), W.violation, W.detail,
		       (unsigned long long)(seed + i));
		if (force_voters)
			printf(" --voters %u", force_voters);
		printf(" --verbose)\n");
		if (first_only)
			return 1;
		if (++failed == 10)
			break;
	}
	took = seconds() - start;
	printf("%llu schedules in %.1f s (%.0f/s): %llu steps, %llu openings, %llu acknowledged requests, %llu voter sets, %llu bars, %llu failed\n",
	       (unsigned long long)i, took, (double)i / took, (unsigned long long)total_steps, (unsigned long long)total_opens,
	       (unsigned long long)total_acks, (unsigned long long)total_sets, (unsigned long long)total_bars, (unsigned long long)failed);
	return failed ? 1 : 0;
}

#ifdef VMP_CORE_BUGS
static void all_bugs(uint64_t seed, uint64_t runs)
{
	unsigned int b, caught = 0;
	uint64_t i;

	printf("%-24s %-26s %s\n", "variant", "caught by", "after schedules");
	for (b = 0; b < SIM_BUG_COUNT; b++) {
		const char *how = NULL;

		bugs = 1ull << b;
		for (i = 0; i < runs && !how; i++)
			how = run_seed(seed + i);
		printf("%-24s %-26s %llu%s%s\n", bug_name[b], how ? how : "NOT CAUGHT", (unsigned long long)i, how ? "  " : "",
		       how ? W.detail : "");
		fflush(stdout);
		caught += how != NULL;
	}
	printf("%u of %u variants caught\n", caught, SIM_BUG_COUNT);
}
#endif

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "runs", required_argument, NULL, 'r' }, { "seed", required_argument, NULL, 's' },
		{ "voters", required_argument, NULL, 'n' }, { "verbose", no_argument, NULL, 'v' },
		{ "replay", required_argument, NULL, 'p' }, { "bug", required_argument, NULL, 'b' },
		{ "all-bugs", no_argument, NULL, 'a' }, { "list-bugs", no_argument, NULL, 'l' },
		{ "first", no_argument, NULL, 'f' }, { NULL, 0, NULL, 0 },
	};
	uint64_t runs = 1000, seed = 1;
	bool replay = false, all = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'r': runs = strtoull(optarg, NULL, 0); break;
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'p': seed = strtoull(optarg, NULL, 0); replay = true; break;
		case 'n': force_voters = (unsigned int)strtoul(optarg, NULL, 0); break;
		case 'v': verbose = true; break;
		case 'a': all = true; break;
		case 'f': first_only = true; break;
#ifdef VMP_CORE_BUGS
		case 'l':
			for (unsigned int b = 0; b < SIM_BUG_COUNT; b++)
				puts(bug_name[b]);
			return 0;
		case 'b':
			for (unsigned int b = 0; b < SIM_BUG_COUNT; b++) {
				if (!strcmp(bug_name[b], optarg))
					bugs |= 1ull << b;
			}
			if (!bugs) {
				fprintf(stderr, "sim: no such variant: %s\n", optarg);
				return 2;
			}
			break;
#endif
		default:
			fprintf(stderr, "usage: sim [--runs N] [--seed S | --replay SEED] [--voters N] [--verbose] [--first] [--bug NAME | --all-bugs]\n");
			return 2;
		}
	}
	if (force_voters > MAX_N)
		return 2;
#ifdef VMP_CORE_BUGS
	if (all) {
		all_bugs(seed, runs);
		return 0;
	}
#else
	if (all) {
		fprintf(stderr, "sim: the wrong variants are only in the test build\n");
		return 2;
	}
#endif
	return run_many(seed, replay ? 1 : runs);
}
#endif
