/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The only place that knows both sides: feeds events to the core and does the actions it answers with, in their order. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "internal/cleanup.h"

static const uint64_t second_ns = 1000000000u;

const char *vmp_node_name(const struct vmp_daemon *d, unsigned node)
{
	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id == node)
			return d->nodes[i].name;
	return node ? "?" : "-";
}

static const char *pair_name(struct vmp_daemon *d, uint64_t id)
{
	struct vmp_member *m = vmp_member_by_id(d, id);
	const char *name;
	json_t *p;

	if (m)
		return m->name;
	/* A voter also hears of pairs that other nodes have. */
	for (unsigned i = 0; id && i < d->n_nodes; i++) {
		if (d->nodes[i].id == d->node)
			continue;
		json_object_foreach(json_object_get(vmp_group_state(d, d->nodes[i].id), "pairs"), name, p)
			if (vmp_pair_id(name) == id)
				return name;
	}
	return NULL;
}

/* --- binding log ------------------------------------------------------------------------------------------------------ */
/*
 * Written before the store it tells of, with write(2) and not through a queue: a daemon killed between the two has then
 * logged more than it did, never less, and the proof "no two nodes had an entry open at once" stays sound.
 */
static void binding_log(struct vmp_daemon *d, const char *what, const struct vmp_member *m, uint64_t epoch, uint64_t expiry)
{
	char line[160];
	int n, r;

	if (d->binding_fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%llu %s %s %llu %llu\n", (unsigned long long)vmp_now_ns(), what, m->name,
		     (unsigned long long)epoch, (unsigned long long)expiry);
	r = vmp_log_write(d->binding_fd, line, (size_t)n);
	if (r < 0 && vmp_ratelimit_pass(&d->limit_gate, vmp_now_ns(), 60 * second_ns))
		vmp_log(LOG_WARNING, "binding log: %s", strerror(-r));
}

/* What applications on this host read. It says primary only while the gate was told so, and never longer than the lease. */
static void role_page(struct vmp_daemon *d, struct vmp_member *m, uint64_t epoch, uint64_t expiry)
{
	char dir[300];
	int r;

	if (!m->role_page && expiry) {
		snprintf(dir, sizeof(dir), "%s/role", d->conf.runtime_dir);
		r = vmp_rolepage_open(&m->role_page, dir, m->name);
		if (r < 0 && vmp_ratelimit_pass(&d->limit_gate, vmp_now_ns(), 60 * second_ns))
			vmp_log(LOG_WARNING, "%s/%s: %s", dir, m->name, strerror(-r));
	}
	vmp_rolepage_set(m->role_page, epoch, expiry);
}

/* --- actions ------------------------------------------------------------------------------------------------------------ */
static void enqueue(struct vmp_daemon *d, const struct vmp_event *ev, bool first)
{
	unsigned at;

	if (d->q_count == VMP_EVENT_QUEUE) {
		/* Cannot happen while each step makes fewer events than the queue holds; lost own messages are repeated. */
		vmp_log(LOG_ERR, "event queue full: %s dropped", vmp_event_name(ev->type));
		return;
	}
	if (first) {
		d->q_head = (d->q_head + VMP_EVENT_QUEUE - 1) % VMP_EVENT_QUEUE;
		at = d->q_head;
	} else {
		at = (d->q_head + d->q_count) % VMP_EVENT_QUEUE;
	}
	d->queue[at] = *ev;
	d->q_count++;
}

static void feed_closed(struct vmp_daemon *d, uint64_t pair, uint64_t epoch, uint64_t op)
{
	struct vmp_event ev = { .type = VMP_EV_CLOSED, .pair = pair, .epoch = epoch, .op = op };

	vmp_exec_feed(d, &ev);
}

static int do_open(struct vmp_daemon *d, struct vmp_member *m, const struct vmp_action *a)
{
	uint64_t lease_end = vmp_core_lease_end(&d->core, a->pair);
	int r;

	binding_log(d, "open", m, a->epoch, a->expiry_ns);
	r = vmp_gate_open(d->gate, a->pair, a->epoch, a->expiry_ns, lease_end);
	if (r == 0 || r == -EINPROGRESS) {
		m->gate_open = true;
		m->open_epoch = a->epoch;
		m->entry_until_ns = a->expiry_ns;
		vmp_member_entry_stored(m);
		role_page(d, m, a->epoch, a->expiry_ns);
		return 0;
	}
	binding_log(d, "close", m, a->epoch, 0);
	role_page(d, m, a->epoch, 0);
	m->gate_open = false;
	/* -EBUSY: the close before is being confirmed; the next refresh opens. */
	if (r != -ETIME && r != -EBUSY && vmp_ratelimit_pass(&d->limit_gate, vmp_now_ns(), second_ns))
		vmp_log(LOG_ERR, "%s: entry cannot be opened for epoch %llu: %s", m->name, (unsigned long long)a->epoch,
			strerror(-r));
	return r;
}

static int do_refresh(struct vmp_daemon *d, struct vmp_member *m, const struct vmp_action *a)
{
	int r;

	if (!m->gate_open || m->open_epoch != a->epoch)
		return do_open(d, m, a); /* an open that failed (port being repaired, late) is made up for */
	binding_log(d, "refresh", m, a->epoch, a->expiry_ns);
	r = vmp_gate_refresh(d->gate, a->pair, a->epoch, a->expiry_ns, vmp_core_lease_end(&d->core, a->pair));
	if (r == 0 && m->entry_until_ns <= vmp_now_ns())
		vmp_member_entry_stored(m);
	if (r == 0) {
		m->entry_until_ns = a->expiry_ns;
		role_page(d, m, a->epoch, a->expiry_ns);
	}
	if (r < 0 && r != -ETIME && vmp_ratelimit_pass(&d->limit_gate, vmp_now_ns(), second_ns))
		vmp_log(LOG_ERR, "%s: entry cannot be refreshed for epoch %llu: %s", m->name, (unsigned long long)a->epoch,
			strerror(-r));
	return r;
}

static void try_close(struct vmp_daemon *d, struct vmp_member *m)
{
	uint64_t op = m->close_op;
	int r = vmp_gate_close(d->gate, m->id, m->close_epoch);

	if (r == -ENOENT)
		r = vmp_gate_close_unclaimed(d->gate, m->name);
	vmp_member_entry_stored(m);
	m->gate_open = false;
	m->close_again = false;
	if (r == -EINPROGRESS)
		return;
	if (r < 0) { /* not confirmed: the guards of the voters run out meanwhile */
		m->close_again = true;
		if (vmp_ratelimit_pass(&d->limit_gate, vmp_now_ns(), second_ns))
			vmp_log(LOG_ERR, "%s: closing of the entry was not confirmed and is tried again: %s", m->name, strerror(-r));
		return;
	}
	m->close_op = 0;
	binding_log(d, "close", m, m->close_epoch, 0);
	feed_closed(d, m->id, m->close_epoch, op);
}

void vmp_exec_close_again(struct vmp_member *m)
{
	if (m->close_again)
		try_close(m->d, m);
}

static void do_close(struct vmp_daemon *d, struct vmp_member *m, const struct vmp_action *a)
{
	m->close_op = a->op;
	m->close_epoch = a->epoch;
	role_page(d, m, a->epoch, 0);
	try_close(d, m);
}

static void do_send(struct vmp_daemon *d, const struct vmp_action *a)
{
	const struct vmp_msg *msg = &d->out.msg[a->msg];
	uint8_t to[VMP_MAX_VOTERS];
	unsigned n = 0;
	bool self = false;

	if (a->to == VMP_TO_VOTERS) {
		for (unsigned i = 0; i < d->core.config.n; i++) {
			uint8_t node = d->core.config.voter[i].node;

			if (node == d->node)
				self = true;
			else
				to[n++] = node;
		}
	} else if (a->to == d->node) {
		self = true;
	} else {
		to[n++] = a->to;
	}
	if (n == 1)
		vmp_net_send(d->net, to[0], msg); /* loss is the core's business: everything is repeated */
	else if (n > 1)
		vmp_net_send_many(d->net, to, n, msg);
	if (self) {
		struct vmp_event ev = { .type = VMP_EV_MSG, .node = d->node, .msg = *msg };

		vmp_exec_feed(d, &ev);
	}
}

static int do_persist(struct vmp_daemon *d, const struct vmp_action *a)
{
	struct vmp_record rec;
	int r = vmp_core_record(&d->core, a->pair, &rec);

	return r < 0 ? r : vmp_store_put(d->store, &rec);
}

static int do_persist_config(struct vmp_daemon *d)
{
	struct vmp_config config, before;

	vmp_core_config(&d->core, &config, &before);
	d->voter.version = config.version;
	d->voter.count = config.n;
	for (unsigned i = 0; i < config.n; i++) {
		d->voter.set[i].node = config.voter[i].node;
		d->voter.set[i].voter = config.voter[i].id;
	}
	d->voter.count_before = before.n;
	for (unsigned i = 0; i < before.n; i++) {
		d->voter.before[i].node = before.voter[i].node;
		d->voter.before[i].voter = before.voter[i].id;
	}
	return vmp_store_voter_save(d->conf.state_dir, &d->voter);
}

static void op_done(struct vmp_daemon *d, const struct vmp_action *a)
{
	for (unsigned i = 0; i < VMP_MAX_OPS; i++)
		if (d->ops[i].id == a->op && a->op) {
			struct vmp_op op = d->ops[i];

			d->ops[i].id = 0;
			vmp_request_op_done(d, &op, a->rc, a->code);
			return;
		}
}

static void note(struct vmp_daemon *d, const struct vmp_action *a)
{
	const char *pair = pair_name(d, a->pair);
	unsigned long long e = (unsigned long long)a->a;
	struct vmp_journal *j = d->journal;
	uint64_t now = vmp_now_ns();

	switch ((enum vmp_note)a->code) {
	case VMP_NOTE_DETECTED:
		vmp_journal_add(j, pair, 0, "detected", "%s%s%s", vmp_cause_name((unsigned)a->a), a->b ? " of " : "",
				a->b ? vmp_node_name(d, (unsigned)a->b) : "");
		vmp_log(LOG_NOTICE, "%s: %s%s%s", pair ? pair : "node", vmp_cause_name((unsigned)a->a), a->b ? " of " : "",
			a->b ? vmp_node_name(d, (unsigned)a->b) : "");
		break;
	case VMP_NOTE_CLAIM_SENT:
		vmp_journal_add(j, pair, a->a, "claimed", "epoch %llu asked for because of %s%s", e, vmp_cause_name((unsigned)a->b),
				a->c ? ", forced" : "");
		break;
	case VMP_NOTE_PROBE_SENT:
		break; /* repeated every few milliseconds while a guard runs */
	case VMP_NOTE_GRANTED:
		vmp_journal_add(j, pair, a->a, "granted", "epoch %llu by %s", e, vmp_node_name(d, (unsigned)a->b));
		break;
	case VMP_NOTE_REFUSED:
		vmp_journal_add(j, pair, a->a, "refused", "epoch %llu by %s: %s", e, vmp_node_name(d, (unsigned)a->b),
				vmp_reason_text((unsigned)a->c));
		break;
	case VMP_NOTE_GAVE_UP:
		vmp_journal_add(j, pair, a->a, "gave-up", "epoch %llu: %s", e, vmp_reason_text((unsigned)a->c));
		break;
	case VMP_NOTE_ESTABLISHED:
		vmp_journal_add(j, pair, a->a, "established", "epoch %llu stands in a majority", e);
		break;
	case VMP_NOTE_BOUND:
		vmp_journal_add(j, pair, a->a, "bound", "entry open with epoch %llu, lease %.1f ms", e,
				a->b > now ? (double)(a->b - now) / 1e6 : 0.0);
		vmp_log(LOG_NOTICE, "%s: primary, entry bound, epoch %llu", pair ? pair : "?", e);
		break;
	case VMP_NOTE_UNBOUND:
		vmp_journal_add(j, pair, a->a, "unbound", "entry closed, epoch %llu", e);
		break;
	case VMP_NOTE_LAPSED:
		vmp_journal_add(j, pair, a->a, "lapsed", "lease of epoch %llu ended: the entry is closed until a majority supports it", e);
		vmp_log(LOG_WARNING, "%s: lease of epoch %llu ended, entry closed", pair ? pair : "?", e);
		break;
	case VMP_NOTE_RELEASED:
		vmp_gate_retire(d->gate, a->pair, a->a); /* R1: never opened again */
		vmp_journal_add(j, pair, a->a, "released", "epoch %llu%s%s (%s)", e, a->b ? " to " : "",
				a->b ? vmp_node_name(d, (unsigned)a->b) : "", vmp_cause_name((unsigned)a->c));
		break;
	case VMP_NOTE_DROPPED:
		vmp_journal_add(j, pair, a->a, "dropped", "epoch %llu gives way to %llu of %s", e, (unsigned long long)a->b,
				vmp_node_name(d, vmp_epoch_node(a->b)));
		vmp_log(LOG_NOTICE, "%s: not primary any more: %s is, epoch %llu", pair ? pair : "?",
			vmp_node_name(d, vmp_epoch_node(a->b)), (unsigned long long)a->b);
		break;
	case VMP_NOTE_RECLAIM:
		vmp_journal_add(j, pair, a->a, "reclaim", "epoch %llu is in the way of a failed attempt with %llu", e,
				(unsigned long long)a->b);
		break;
	case VMP_NOTE_RESUMED:
		vmp_journal_add(j, pair, a->a, "resumed", "epoch %llu taken up again after a restart of the daemon", e);
		break;
	case VMP_NOTE_ALONE:
		vmp_journal_add(j, pair, a->a, "alone", "a majority has recorded: no standby in sync");
		break;
	case VMP_NOTE_SYNC:
		vmp_journal_add(j, pair, a->a, "in-sync", "standby on %s", vmp_node_name(d, (unsigned)a->c));
		vmp_log(LOG_NOTICE, "%s: standby on %s is in sync", pair ? pair : "?", vmp_node_name(d, (unsigned)a->c));
		break;
	case VMP_NOTE_STANDBY_LOST:
		vmp_journal_add(j, pair, 0, "standby-lost", "%s", vmp_node_name(d, (unsigned)a->a));
		vmp_log(LOG_WARNING, "%s: standby on %s is lost", pair ? pair : "?", vmp_node_name(d, (unsigned)a->a));
		break;
	case VMP_NOTE_BLOCKED:
		vmp_journal_add(j, pair, 0, "blocked", "no claim: %s", vmp_reason_text((unsigned)a->c));
		break;
	case VMP_NOTE_ABSTAINING:
		vmp_journal_add(j, NULL, 0, "abstaining", "this voter has lost its memory and waits %.0f ms before it votes",
				a->a > now ? (double)(a->a - now) / 1e6 : 0.0);
		vmp_log(LOG_NOTICE, "voter abstains until its memory is read back from the others");
		break;
	case VMP_NOTE_RECOVERED:
		vmp_journal_add(j, NULL, 0, "recovered", "registers read back from %llu voters%s", e, a->b ? " (cold start)" : "");
		vmp_log(LOG_NOTICE, "voter takes part again, registers of %llu voters read%s", e, a->b ? " (cold start)" : "");
		break;
	case VMP_NOTE_FIRST_START:
		vmp_journal_add(j, NULL, 0, "first-start", "first voter set, %llu voters", e);
		vmp_log(LOG_NOTICE, "first start of this cluster: voter set of %llu nodes", e);
		break;
	case VMP_NOTE_CONFIG:
		vmp_journal_add(j, NULL, 0, "configuration", "voter set version %llu with %llu voters", e, (unsigned long long)a->b);
		break;
	case VMP_NOTE_HELD:
		vmp_journal_add(j, pair, a->a, "hold", "entry held open for %.0f ms",
				a->b > now ? (double)(a->b - now) / 1e6 : 0.0);
		break;
	case VMP_NOTE_FORCED:
		vmp_journal_add(j, pair, a->a, "forced", "epoch %llu granted by force: its member was not recorded in sync", e);
		vmp_log(LOG_WARNING, "%s: epoch %llu granted by force", pair ? pair : "?", e);
		break;
	case VMP_NOTE_REBOOTED:
		vmp_journal_add(j, pair, a->a, "rebooted", "epoch %llu of an earlier boot of this node is released", e);
		break;
	case VMP_NOTE_BARRED:
	case VMP_NOTE_UNBARRED:
		vmp_bars_note(d, a);
		break;
	case VMP_NOTE_COUNT:
		break;
	}
}

static void do_role(struct vmp_daemon *d, const struct vmp_action *a)
{
	struct vmp_member *m = vmp_member_by_id(d, a->pair);

	vmp_journal_add(d->journal, pair_name(d, a->pair), a->epoch, "role", "%s (%s)", vmp_role_name(a->code),
			vmp_cause_name(a->cause));
	if (m) {
		if (a->code == VMP_ROLE_HOLDING && m->last_role != VMP_ROLE_HOLDING)
			m->primary_ns = vmp_now_ns();
		m->last_role = a->code;
		vmp_sync_update(m);
		vmp_member_changed(m);
	}
}

static void act(struct vmp_daemon *d)
{
	struct vmp_event failed = { .type = VMP_EV_COUNT };
	uint64_t unstored = 0;

	for (unsigned i = 0; i < d->out.n_actions; i++) {
		const struct vmp_action *a = &d->out.action[i];
		struct vmp_member *m;
		int r = 0;

		if (failed.type != VMP_EV_COUNT && !vmp_action_stands(&d->out.action[i]))
			continue;
		switch ((enum vmp_action_type)a->type) {
		case VMP_ACT_PERSIST:
			r = do_persist(d, a);
			break;
		case VMP_ACT_PERSIST_CONFIG:
			r = do_persist_config(d);
			break;
		case VMP_ACT_SEND:
			if (!vmp_action_lapses(&d->out, a, unstored))
				do_send(d, a);
			break;
		case VMP_ACT_ENTRY_OPEN:
		case VMP_ACT_ENTRY_REFRESH:
			m = vmp_member_by_id(d, a->pair);
			if (!m || (a->type == VMP_ACT_ENTRY_OPEN ? do_open(d, m, a) : do_refresh(d, m, a)) < 0)
				unstored = a->pair;
			break;
		case VMP_ACT_ENTRY_CLOSE:
			m = vmp_member_by_id(d, a->pair);
			if (m)
				do_close(d, m, a);
			else
				feed_closed(d, a->pair, a->epoch, a->op);
			break;
		case VMP_ACT_RELAY_FENCE: {
			struct vmp_event ev = { .type = VMP_EV_RELAY_READY, .pair = a->pair, .epoch = a->epoch };

			vmp_gate_prepare(d->gate, a->pair, a->epoch);
			m = vmp_member_by_id(d, a->pair);
			if (m && vmp_sync_wanted(m))
				vmp_sync_fence(m, a->epoch); /* its answer is the event */
			else
				vmp_exec_feed(d, &ev);
			break;
		}
		case VMP_ACT_MODE:
			m = vmp_member_by_id(d, a->pair);
			if (m) {
				m->last_mode = a->code;
				vmp_sync_mode(m, a);
				vmp_member_changed(m);
			}
			break;
		case VMP_ACT_ROLE:
			do_role(d, a);
			break;
		case VMP_ACT_OP_DONE:
			op_done(d, a);
			break;
		case VMP_ACT_NOTE:
			note(d, a);
			break;
		case VMP_ACT_END_MEMBERS:
			vmp_member_end_all(d);
			break;
		case VMP_ACT_COUNT:
			break;
		}
		if (r < 0) {
			failed.type = VMP_EV_PERSIST_FAILED;
			failed.pair = a->pair;
			if (vmp_ratelimit_pass(&d->limit_persist, vmp_now_ns(), second_ns))
				vmp_log(LOG_ERR, "%s cannot be written: %s", a->type == VMP_ACT_PERSIST ? "registers" :
					"voter set, without which this node stays silent,", strerror(-r));
		}
	}
	if (failed.type != VMP_EV_COUNT)
		enqueue(d, &failed, true);
}

/* Entries are closed one by one, whatever state the core is in; the process ends and the kernel's expiry is the second lock. */
static void core_is_broken(struct vmp_daemon *d, const struct vmp_event *ev)
{
	char line[512];

	vmp_core_str(&d->core, ev, &d->out, 0, line, sizeof(line));
	vmp_log(LOG_CRIT, "core: a transition that is not in its table: %s", line);
	for (unsigned i = 0; i < VMP_GATE_MAX_PORTS; i++)
		if (d->members[i].used)
			vmp_gate_close(d->gate, d->members[i].id, 0);
	d->core_up = false; /* nothing more goes into it, or comes out */
	vmp_loop_stop(d->loop);
}

void vmp_exec_feed(struct vmp_daemon *d, struct vmp_event *ev)
{
	if (!d->core_up)
		return;
	enqueue(d, ev, false);
	if (d->stepping)
		return;
	d->stepping = true;
	while (d->q_count) {
		static struct vmp_event cur; /* 2 KiB that need not be on the stack; one thread */
		int r;

		cur = d->queue[d->q_head];
		d->q_head = (d->q_head + 1) % VMP_EVENT_QUEUE;
		d->q_count--;
		cur.now_ns = vmp_now_ns();
		r = vmp_core_step(&d->core, &cur, &d->out);
		if (r == -ENOTRECOVERABLE) {
			core_is_broken(d, &cur);
			break;
		}
		act(d);
	}
	d->stepping = false;
}

void vmp_exec_op(struct vmp_daemon *d, enum vmp_op_kind kind, uint64_t token, struct vmp_event *ev)
{
	struct vmp_op *op = NULL;

	for (unsigned i = 0; i < VMP_MAX_OPS && !op; i++)
		if (!d->ops[i].id)
			op = &d->ops[i];
	if (!d->core_up || !op) {
		struct vmp_op none = { .token = token, .pair = ev->pair, .kind = kind, .begun_ns = vmp_now_ns(),
				       .node = ev->node, .on = ev->on };

		vmp_request_op_done(d, &none, -EAGAIN, d->core_up ? VMP_REASON_BUSY : VMP_REASON_NO_QUORUM_CONFIG);
		return;
	}
	*op = (struct vmp_op){ ++d->next_op, token, ev->pair, kind, vmp_now_ns(), ev->node, ev->on };
	ev->op = op->id;
	vmp_exec_feed(d, ev);
}

/* --- gate ----------------------------------------------------------------------------------------------------------------- */
void vmp_exec_gate_event(void *user, const struct vmp_gate_event *ev)
{
	struct vmp_daemon *d = user;
	struct vmp_member *m = ev->pair_id ? vmp_member_by_id(d, ev->pair_id) : NULL;

	switch (ev->type) {
	case VMP_GATE_EV_CLOSED:
		if (m && m->close_op) {
			uint64_t op = m->close_op;

			m->close_op = 0;
			binding_log(d, "close", m, ev->epoch, 0);
			feed_closed(d, m->id, m->close_epoch, op);
		}
		return;
	case VMP_GATE_EV_OPENED:
		return;
	case VMP_GATE_EV_PROGRAM_LOST:
	case VMP_GATE_EV_FENCE_LOST:
	case VMP_GATE_EV_TAP_LOST:
	case VMP_GATE_EV_TAP_RECREATED:
	case VMP_GATE_EV_ALARM:
	case VMP_GATE_EV_ADDR_FAILED:
		vmp_log(ev->type == VMP_GATE_EV_ALARM ? LOG_ERR : LOG_WARNING, "entry gate%s%s: %s%s%s", m ? " of " : "",
			m ? m->name : "", vmp_gate_ev_name(ev->type), *ev->reason ? ": " : "", ev->reason);
		vmp_journal_add(d->journal, m ? m->name : NULL, ev->epoch, "gate", "%s%s%s", vmp_gate_ev_name(ev->type),
				*ev->reason ? ": " : "", ev->reason);
		break;
	default:
		if (ev->type != VMP_GATE_EV_PORT_READY)
			vmp_journal_add(d->journal, m ? m->name : NULL, ev->epoch, "gate", "%s%s%s", vmp_gate_ev_name(ev->type),
					*ev->reason ? ": " : "", ev->reason);
		break;
	}
	/* Who was to confirm it is gone. */
	if (m && m->close_op && (ev->type == VMP_GATE_EV_PORT_GONE || ev->type == VMP_GATE_EV_PORT_FAILED))
		try_close(d, m);
	if (m)
		vmp_member_port_event(m, ev);
}

/* --- timers ------------------------------------------------------------------------------------------------------------------ */
static void on_core_timer(void *data)
{
	struct vmp_daemon *d = data;
	struct vmp_event ev = { .type = VMP_EV_TICK };
	uint64_t now = vmp_now_ns(), late = now - d->core_due_ns;
	unsigned n;

	/* Not scheduled in time: what seems silent now may only not have been read yet; it is on record for `vmpair events`. */
	if (late > (uint64_t)d->conf.hb_ms * 1000000 && (n = vmp_ratelimit_pass(&d->limit_late, now, second_ns))) {
		vmp_journal_add(d->journal, NULL, 0, "late", "this daemon ran %.1f ms late (%u times in a second)", (double)late / 1e6, n);
		vmp_log(LOG_WARNING, "not scheduled for %.1f ms", (double)late / 1e6);
	}
	vmp_exec_feed(d, &ev);
}

static void on_adapter_timer(void *data)
{
	struct vmp_daemon *d = data;
	uint64_t now = vmp_now_ns();

	if (d->gate && vmp_gate_deadline(d->gate) <= now)
		vmp_gate_tick(d->gate, now);
	if (vmp_ctl_deadline_ns(d->ctl) <= now)
		vmp_ctl_tick(d->ctl, now);
	if (d->pcmk && vmp_pcmk_deadline_ns(d->pcmk) <= now)
		vmp_pcmk_tick(d->pcmk, now);
}

void vmp_exec_rearm(struct vmp_daemon *d)
{
	uint64_t at = d->gate ? vmp_gate_deadline(d->gate) : UINT64_MAX, t = vmp_ctl_deadline_ns(d->ctl);

	if (t < at)
		at = t;
	if (d->pcmk && (t = vmp_pcmk_deadline_ns(d->pcmk)) < at)
		at = t;
	if ((at != d->adapter_timer.at_ns || !d->adapter_timer.linked) && at != UINT64_MAX)
		vmp_loop_timer(d->loop, &d->adapter_timer, at, on_adapter_timer, d);
	if (d->core_up) {
		at = vmp_core_deadline(&d->core);
		if ((at != d->core_timer.at_ns || !d->core_timer.linked) && at != VMP_NEVER) {
			uint64_t now = vmp_now_ns();

			vmp_loop_timer(d->loop, &d->core_timer, at, on_core_timer, d);
			d->core_due_ns = at > now ? at : now; /* a deadline that has passed already is no lateness of ours */
		}
		if (!d->complete_stored && vmp_core_run_complete(&d->core)) {
			struct vmp_store_node node = { .inc = d->inc, .voter = d->voter.voter, .config_version = d->core.config.version,
						       .complete = true };

			if (vmp_store_put_node(d->store, &node) == 0) {
				d->complete_stored = true;
				vmp_run_status(d);
			}
		}
	}
}

/* --- network ------------------------------------------------------------------------------------------------------------------- */
static void on_message(void *ctx, uint8_t from, uint64_t now_ns, const struct vmp_msg *msg)
{
	struct vmp_daemon *d = ctx;
	struct vmp_event ev = { .type = VMP_EV_MSG, .node = from, .msg = *msg };

	(void)now_ns;
	/*
	 * A node that corosync does not count is no place for a standby yet, however well its VM answers: Pacemaker cannot promote
	 * it and is about to start another member. Safety does not depend on it.
	 */
	if (msg->type == VMP_MSG_MEMBERS && d->corosync_up && d->n_group && !vmp_group_has(d, from))
		for (unsigned i = 0; i < ev.msg.u.members.n && i < VMP_MAX_PAIRS; i++)
			ev.msg.u.members.member[i].flags &= (uint8_t)~VMP_MEMBER_READY;
	if (msg->type == VMP_MSG_HEARTBEAT)
		vmp_fencing_heard(d, from, msg->u.heartbeat.boot);
	vmp_exec_feed(d, &ev);
}

static void on_refused(void *ctx, uint8_t node, unsigned cause, uint64_t count, int err, const char *address)
{
	struct vmp_daemon *d = ctx;

	if (cause == VMP_SEAL_DUPLICATE)
		return; /* the second copy of a datagram sent over two links */
	vmp_log(LOG_WARNING, "datagrams %s %s%s%s: %s%s%s (%llu since the last report)", cause == VMP_NET_SEND ? "to" : "from",
		address, node ? ", node " : "", node ? vmp_node_name(d, node) : "", vmp_net_cause_str(cause),
		err || cause < VMP_SEAL_CAUSE_COUNT ? ": " : "", err ? strerror(-err) : cause < VMP_SEAL_CAUSE_COUNT ?
		vmp_seal_cause_help((enum vmp_seal_cause)cause) : "", (unsigned long long)count);
}

static void on_net_fd(int fd, short revents, void *data)
{
	struct vmp_daemon *d = data;

	(void)fd, (void)revents;
	vmp_net_dispatch(d->net);
}

static void drain_net(void *data)
{
	struct vmp_daemon *d = data;

	if (d->net)
		vmp_net_dispatch(d->net);
}

static void set_peers(struct vmp_daemon *d)
{
	for (unsigned i = 0; i < d->n_nodes; i++) {
		const struct vmp_cluster_node *n = &d->nodes[i];
		struct vmp_net_addr addr[VMP_NET_LINKS];
		unsigned count = 0;
		int r;

		if (n->id == d->node)
			continue;
		for (unsigned l = 0; l < VMP_NET_LINKS; l++)
			if (n->addr[l][0] && vmp_net_addr_parse(n->addr[l], (uint16_t)d->conf.port, &addr[count]) == 0)
				count++;
		if (!count) {
			vmp_log(LOG_ERR, "node %s: corosync.conf gives no numeric address (ring0_addr), vmpaird needs one", n->name);
			continue;
		}
		r = vmp_net_peer_set(d->net, (uint8_t)n->id, addr, count);
		if (r < 0)
			vmp_log(LOG_ERR, "node %s: %s", n->name, strerror(-r));
	}
}

static uint64_t random_u64(void)
{
	uint64_t v = 0;

	while (v == 0)
		if (getrandom(&v, sizeof(v), 0) != sizeof(v))
			v = 0;
	return v;
}

/* Corosync told who we are: open the network and start the core. Called again on changes of the node list. */
int vmp_exec_start(struct vmp_daemon *d)
{
	static const struct vmp_net_ops net_ops = { .message = on_message, .report = on_refused };
	struct vmp_net_param np = { .self = d->node, .port = (uint16_t)d->conf.port, .keys = &d->keys,
				   .settings = vmp_conf_lease_digest(&d->conf) };
	const struct vmp_store_loaded *run, *disk, *use;
	struct vmp_store_param sp = { .runtime_dir = d->conf.runtime_dir, .state_dir = d->conf.state_dir, .self = d->node };
	static struct vmp_init init;
	char reason[256] = "";
	bool created;
	int r;

	if (d->core_up) {
		set_peers(d);
		return 0;
	}
	if (d->n_nodes > VMP_MAX_VOTERS)
		vmp_log(LOG_WARNING, "%u nodes in corosync.conf: the first %d are voters", d->n_nodes, VMP_MAX_VOTERS);
	r = vmp_store_boot(d->conf.runtime_dir, &d->boot);
	if (r < 0)
		return r;
	sp.boot = d->boot;
	r = vmp_store_new(&d->store, &sp, reason, sizeof(reason));
	if (r < 0) {
		vmp_log(LOG_ERR, "registers: %s", reason);
		return r;
	}
	r = vmp_store_voter_get(d->conf.state_dir, &d->voter, &created);
	if (r < 0) {
		vmp_log(LOG_ERR, "%s/voter: %s (the identity of this voter; see vmpaird(8), RECOVERY)", d->conf.state_dir, strerror(-r));
		return r;
	}
	d->inc = random_u64();
	np.inc = d->inc;
	np.bind_count = d->conf.bind_count;
	for (unsigned i = 0; i < d->conf.bind_count; i++)
		vmp_net_addr_parse(d->conf.bind[i], (uint16_t)d->conf.port, &np.bind[i]);
	r = vmp_net_new(&d->net, &np, &net_ops, d, reason, sizeof(reason));
	if (r < 0) {
		vmp_log(LOG_ERR, "network: %s", reason);
		return r;
	}
	set_peers(d);

	run = vmp_store_run(d->store);
	disk = vmp_store_disk(d->store);
	use = run->state == VMP_STORE_SAME_BOOT ? run : disk;
	memset(&init, 0, sizeof(init));
	init.node = d->node;
	init.start = run->state == VMP_STORE_SAME_BOOT ? VMP_START_SAME_BOOT : VMP_START_NEW;
	/* X5: a voter of a set that has lost its registers on disk; what a torn write left readable is no older than X5 allows for. */
	init.no_disk = d->voter.version && (disk->state == VMP_STORE_ABSENT || (disk->state == VMP_STORE_DAMAGED && !disk->node.voter));
	if (init.no_disk && init.start == VMP_START_NEW)
		vmp_log(LOG_ERR, "%s/registers: %s: after a power loss of all nodes this voter cannot help (vmpaird(8), RECOVERY)",
			d->conf.state_dir, vmp_store_state_str(disk->state));
	for (unsigned i = 0; i < d->n_nodes && init.n_wish < VMP_MAX_VOTERS; i++)
		init.wish[init.n_wish++] = (uint8_t)d->nodes[i].id;
	init.now_ns = vmp_now_ns();
	init.boot = d->boot;
	init.inc = d->inc;
	init.voter = d->voter.voter;
	init.seed = random_u64();
	init.lease_ms = d->conf.lease_ms;
	init.hb_ms = d->conf.hb_ms;
	init.gate_delay_ms = d->conf.gate_delay_ms;
	init.hold_max_ms = d->conf.hold_max_ms;
	init.clock_error_permille = d->conf.clock_error_permille;
	init.config.version = d->voter.version;
	init.config.n = (uint8_t)d->voter.count;
	for (unsigned i = 0; i < d->voter.count; i++)
		init.config.voter[i] = (struct vmp_voter){ d->voter.set[i].voter, d->voter.set[i].node };
	init.previous.n = (uint8_t)d->voter.count_before;
	for (unsigned i = 0; i < d->voter.count_before; i++)
		init.previous.voter[i] = (struct vmp_voter){ d->voter.before[i].voter, d->voter.before[i].node };
	init.n_records = (uint8_t)use->count;
	memcpy(init.record, use->record, use->count * sizeof(init.record[0]));
	r = vmp_core_init(&d->core, &init);
	if (r < 0) {
		vmp_log(LOG_ERR, "core: the settings do not fit each other (hb_ms %u, lease_ms %u)", init.hb_ms, init.lease_ms);
		return r;
	}
	vmp_log(LOG_NOTICE, "node %s (%u), %u nodes; registers: %s", d->node_name, d->node, d->n_nodes,
		vmp_store_state_str(run->state));
	d->core_up = true;
	r = vmp_loop_add_fd(d->loop, VMP_PRIO_HIGH, vmp_net_fd(d->net), POLLIN, on_net_fd, d);
	if (r < 0)
		return r;
	vmp_loop_set_before_timers(d->loop, drain_net, d);
	vmp_member_core_started(d);
	return 0;
}
