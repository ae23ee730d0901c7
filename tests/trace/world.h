/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small well-behaved world around real cores for golden traces and unit tests: equal clocks, one delay, everything in order.
 * lease 100 ms, heartbeat 20 ms, q 5 ms; node i has boot 0xb0+i, voter id 0xe0+i. Not thread-safe; one world per program. */
#ifndef VMP_TEST_WORLD_H
#define VMP_TEST_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/core.h"

#define WORLD_MAX 5
#define WORLD_QUEUE 512
#define WORLD_MS 1000000ull
#define WORLD_BASE (1000 * WORLD_MS)

struct world_item {
	uint64_t at;
	unsigned int to, gen;
	struct vmp_event ev;
};

static struct world {
	unsigned int n, n_queue, gen[WORLD_MAX + 1];
	uint64_t now, delay, last_rc, seed;
	bool up[WORLD_MAX + 1], cut[WORLD_MAX + 1][WORLD_MAX + 1];
	struct vmp_core core[WORLD_MAX + 1];
	struct vmp_record run[WORLD_MAX + 1][4];
	struct vmp_config config[WORLD_MAX + 1], previous[WORLD_MAX + 1];
	uint64_t boot[WORLD_MAX + 1];
	uint64_t expiry[WORLD_MAX + 1];		/* of the pair opened last on the node */
	int op_rc[64];				/* result of each request, 1 while it runs */
	unsigned int op_reason[64];
	unsigned int ended[WORLD_MAX + 1];	/* how often its members were to be ended (B3) */
	bool fail_write[WORLD_MAX + 1], no_disk[WORLD_MAX + 1];
	unsigned int refuse[WORLD_MAX + 1];	/* so many stores: the gate is not ready */
	unsigned int fail_config[WORLD_MAX + 1], fail_holding[WORLD_MAX + 1];	/* so many writes: of the voter set, of records that say "holding" */
	struct world_item queue[WORLD_QUEUE];
	struct vmp_event ev;
	struct vmp_out out;
	void (*line)(const char *line);
} world;

#ifdef VMP_CORE_BUGS
static uint64_t world_bugs;
#endif

static void world_push(uint64_t at, unsigned int to, const struct vmp_event *ev)
{
	unsigned int i = world.n_queue;

	if (i == WORLD_QUEUE)
		abort();
	for (world.n_queue++; i && world.queue[i - 1].at > at; i--)
		world.queue[i] = world.queue[i - 1];
	world.queue[i] = (struct world_item){ .at = at, .to = to, .gen = world.gen[to], .ev = *ev };
}

static bool world_is_voter(unsigned int of, unsigned int node)
{
	const struct vmp_config *config = &world.core[of].config;
	unsigned int v;

	for (v = 0; v < config->n && config->voter[v].node != node; v++)
		;
	return v < config->n;
}

static int world_step(unsigned int node, const struct vmp_event *event)
{
	struct vmp_out *out = &world.out;
	struct vmp_event reply, failed = { .type = VMP_EV_COUNT };
	struct vmp_record rec;
	uint64_t unstored = 0;
	unsigned int i, k;
	int r;

	world.ev = *event;
	world.ev.now_ns = world.now;
	r = vmp_core_step(&world.core[node], &world.ev, out);
	if (world.line) {
		static char text[65536];

		vmp_core_str(&world.core[node], &world.ev, out, WORLD_BASE, text, sizeof text);
		world.line(text);
	}
	for (i = 0; i < out->n_actions; i++) {
		const struct vmp_action *a = &out->action[i];

		if ((failed.type != VMP_EV_COUNT && !vmp_action_stands(&out->action[i])) || vmp_action_lapses(out, a, unstored))
			continue;
		memset(&reply, 0, sizeof reply);
		reply.pair = a->pair;
		reply.epoch = a->epoch;
		reply.op = a->op;
		switch ((enum vmp_action_type)a->type) {
		case VMP_ACT_PERSIST:
			if (world.fail_write[node]) {
				world.fail_write[node] = false;
				failed = (struct vmp_event){ .type = VMP_EV_PERSIST_FAILED, .pair = a->pair };
				break;
			}
			for (k = 0; k < 4 && world.run[node][k].pair && world.run[node][k].pair != a->pair; k++)
				;
			if (k == 4 || vmp_core_record(&world.core[node], a->pair, &rec))
				abort();
			if (rec.role == VMP_ROLE_HOLDING && world.fail_holding[node]) {
				world.fail_holding[node]--;
				failed = (struct vmp_event){ .type = VMP_EV_PERSIST_FAILED, .pair = a->pair };
				break;
			}
			world.run[node][k] = rec;
			break;
		case VMP_ACT_PERSIST_CONFIG:
			if (world.fail_config[node]) {
				world.fail_config[node]--;
				failed = (struct vmp_event){ .type = VMP_EV_PERSIST_FAILED };
				break;
			}
			vmp_core_config(&world.core[node], &world.config[node], &world.previous[node]);
			break;
		case VMP_ACT_SEND:
			reply = (struct vmp_event){ .type = VMP_EV_MSG, .node = (uint8_t)node };
			reply.msg = out->msg[a->msg];
			if (reply.msg.version != world.config[node].version && reply.msg.type != VMP_MSG_RELEASE)
				abort();	/* said under a voter set that is not on the disk */
			for (k = 1; k <= world.n; k++) {
				if ((a->to == k || (a->to == VMP_TO_VOTERS && world_is_voter(node, k))) && !world.cut[node][k] && world.up[k])
					world_push(world.now + (k == node ? 1000 : world.delay), k, &reply);
			}
			break;
		case VMP_ACT_ENTRY_OPEN:
		case VMP_ACT_ENTRY_REFRESH:
			if (world.refuse[node]) {
				world.refuse[node]--;
				unstored = a->pair;
				break;
			}
			world.expiry[node] = a->expiry_ns;
			break;
		case VMP_ACT_ENTRY_CLOSE:
			world.expiry[node] = 0;
			reply.type = VMP_EV_CLOSED;
			world_push(world.now + 50000, node, &reply);
			break;
		case VMP_ACT_RELAY_FENCE:
			reply.type = VMP_EV_RELAY_READY;
			world_push(world.now + 50000, node, &reply);
			break;
		case VMP_ACT_OP_DONE:
			if (a->op < 64) {
				world.op_rc[a->op] = a->rc;
				world.op_reason[a->op] = a->code;
			}
			break;
		case VMP_ACT_END_MEMBERS:
			world.ended[node]++;
			break;
		default:
			break;
		}
	}
	return failed.type == VMP_EV_COUNT ? r : world_step(node, &failed);
}

static int world_event(unsigned int node, struct vmp_event ev)
{
	if (ev.op && ev.op < 64)
		world.op_rc[ev.op] = 1;
	return world_step(node, &ev);
}

static void world_start(unsigned int node, bool same_boot)
{
	static struct vmp_init init;
	unsigned int i;

	memset(&init, 0, sizeof init);
	init.node = (uint8_t)node;
	init.start = same_boot ? VMP_START_SAME_BOOT : VMP_START_NEW;
	init.no_disk = !same_boot && world.no_disk[node];
	for (i = 1; i <= world.n; i++)
		init.wish[init.n_wish++] = (uint8_t)i;
	init.now_ns = world.now;
	init.boot = world.boot[node];
	init.inc = ++world.seed;
	init.voter = 0xe0 + node;
	init.seed = ++world.seed;
	init.lease_ms = 100;
	init.hb_ms = 20;
	init.gate_delay_ms = 5;
	init.hold_max_ms = 300;
	init.clock_error_permille = 100;
	init.config = world.config[node];
	init.previous = world.previous[node];
	for (i = 0; i < 4 && world.run[node][i].pair && !init.no_disk; i++)
		init.record[init.n_records++] = world.run[node][i];
	world.gen[node]++;
	world.up[node] = true;
#ifdef VMP_CORE_BUGS
	world.core[node].bugs = world_bugs;
#endif
	if (vmp_core_init(&world.core[node], &init))
		abort();
}

static void world_down(unsigned int node, bool host)
{
	world.up[node] = false;
	world.gen[node]++;
	if (host) {
		world.boot[node] += 0x100;
		world.expiry[node] = 0;
	}
}

/* The first `voters` of n nodes are in the voter set, version 1, with nothing to wait for; the others have no configuration. */
static void world_some(unsigned int n, unsigned int voters)
{
	unsigned int i, k;
	void (*line)(const char *) = world.line;

	memset(&world, 0, sizeof world);
	world.line = line;
	world.n = n;
	world.now = WORLD_BASE;
	world.delay = 200000;
	for (i = 1; i <= n; i++) {
		world.boot[i] = 0xb0 + i;
		for (k = 1; k <= voters && i <= voters; k++) {
			world.config[i].version = 1;
			world.config[i].n = (uint8_t)voters;
			world.config[i].voter[k - 1] = (struct vmp_voter){ .id = 0xe0 + k, .node = (uint8_t)k };
		}
		world_start(i, i <= voters);
	}
}

/* `fresh`: no configuration yet (first-ever start), else all are voters. */
static void world_new(unsigned int n, bool fresh)
{
	world_some(n, fresh ? 0 : n);
}

static void world_run_us(uint64_t us)
{
	uint64_t end = world.now + us * (WORLD_MS / 1000);

	for (;;) {
		uint64_t at = world.n_queue ? world.queue[0].at : VMP_NEVER;
		unsigned int i, who = 0;
		struct vmp_event tick = { .type = VMP_EV_TICK };

		for (i = 1; i <= world.n; i++) {
			uint64_t t = world.up[i] ? vmp_core_deadline(&world.core[i]) : VMP_NEVER;

			if (t < at) {
				at = t;
				who = i;
			}
		}
		if (at > end)
			break;
		if (at > world.now)
			world.now = at;
		if (who) {
			if (world_step(who, &tick))
				abort();
		} else {
			static struct world_item it;

			it = world.queue[0];
			memmove(world.queue, world.queue + 1, --world.n_queue * sizeof world.queue[0]);
			if (world.up[it.to] && it.gen == world.gen[it.to] && world_step(it.to, &it.ev))
				abort();
		}
	}
	world.now = end;
}

static void world_run(uint64_t ms)
{
	world_run_us(ms * 1000);
}

/* What this node has sent is lost, as far as it is on its way still. */
static inline void world_lose(unsigned int from)
{
	unsigned int i, k = 0;

	for (i = 0; i < world.n_queue; i++) {
		if (world.queue[i].ev.type != VMP_EV_MSG || world.queue[i].ev.node != from || world.queue[i].to == from)
			world.queue[k++] = world.queue[i];
	}
	world.n_queue = k;
}

static void world_cut(unsigned int a, unsigned int b, bool on)
{
	world.cut[a][b] = world.cut[b][a] = on;
}

static inline bool world_open(unsigned int node)
{
	return world.expiry[node] > world.now;
}

#endif
