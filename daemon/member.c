/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pair's member on this node: template, port, VM, readiness, and what Pacemaker is told of it. Decides nothing about who is
 * primary: it reports to the core and follows it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/facts.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum {
	CHECK_FAST_MS = 100,  /* until a member is ready for the first time */
	CHECK_SLOW_MS = 1000,
	START_TIMEOUT_MS = 60000,
	RESTART_TIMEOUT_MS = 20000, /* in place: after that it is Pacemaker's turn */
	PORT_TRIES = 4,
	HOST_PORT_TRIES = 50, /* of one that is no device of the VM's: the interface may be on its way */
	FLIP_WAIT_MS = 5000,
	MONITOR_WAIT_MS = 700,
	LET_BACK_MS = 5000,
	BOOT_MS = 10000, /* without a readiness check, a VM that has run for this long counts as one that had come up */
	MEMBERS_FRESH_MS = 1000, /* daemons say five times a second which members they have */
};

/* --- lookup ---------------------------------------------------------------------------------------------------------- */
struct vmp_member *vmp_member_by_name(struct vmp_daemon *d, const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used && !strcmp(d->members[i].name, name))
			return &d->members[i];
	return NULL;
}

struct vmp_member *vmp_member_by_id(struct vmp_daemon *d, uint64_t id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used && d->members[i].id == id)
			return &d->members[i];
	return NULL;
}

struct vmp_member *vmp_member_new(struct vmp_daemon *d, const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];

		if (m->used)
			continue;
		memset(m, 0, sizeof(*m));
		m->used = true;
		m->d = d;
		m->id = vmp_pair_id(name);
		snprintf(m->name, sizeof(m->name), "%s", name);
		m->own.d = m->peer.d = d;
		m->own.m = m->peer.m = m;
		m->peer.of_peer = true;
		m->told = VMP_TOLD_STOPPED;
		vmp_signs_init(m);
		return m;
	}
	return NULL;
}

static void checker_stop(struct vmp_checker *c)
{
	if (c->probe) {
		vmp_loop_del_fd(c->d->loop, vmp_probe_fd(c->probe));
		c->probe = vmp_probe_free(c->probe);
	}
	vmp_loop_timer_del(c->d->loop, &c->timer);
	c->failures = 0;
	c->answered = c->ok = false;
}

void vmp_member_forget(struct vmp_member *m)
{
	checker_stop(&m->own);
	checker_stop(&m->peer);
	vmp_signs_stop(m);
	vmp_vrrp_guard_stop(m->guard);
	vmp_sync_forget(m);
	json_decref(m->params_json);
	json_decref(m->params_refused);
	json_decref(m->monitor);
	vmp_domxml_free(m->dom);
	memset(m, 0, sizeof(*m));
}

bool vmp_member_view(const struct vmp_member *m, struct vmp_pair_view *ret)
{
	return m->d->core_up && vmp_core_pair_view(&m->d->core, m->id, vmp_now_ns(), ret) == 0;
}

bool vmp_member_primary(const struct vmp_member *m)
{
	struct vmp_pair_view v;

	return vmp_member_view(m, &v) && v.role == VMP_ROLE_HOLDING;
}

/* --- parameters ------------------------------------------------------------------------------------------------------ */
struct errbuf {
	char *buf;
	size_t size;
};

static void first_error(void *data, const char *param, const char *message)
{
	struct errbuf *e = data;

	if (!e->buf[0])
		snprintf(e->buf, e->size, "parameter %s: %s", param, message);
}

static const char *param_text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* The same entry address in another pair of any node would be two open entries for one address. */
static int entry_is_free(const struct vmp_member *m, const struct vmp_pair_params *p, char *reason, size_t size)
{
	const struct vmp_daemon *d = m->d;

	for (unsigned i = 0; i < d->n_nodes; i++) {
		json_t *pairs = json_object_get(vmp_group_state(d, d->nodes[i].id), "pairs"), *other, *text;
		const char *name;
		size_t k;

		if (d->nodes[i].id == d->node)
			continue;
		json_object_foreach(pairs, name, other) {
			if (!strcmp(name, m->name))
				continue;
			json_array_foreach(json_object_get(other, "entries"), k, text) {
				const struct vmp_addr *common;
				char buf[VMP_ADDR_STRLEN];
				struct vmp_addr a;

				if (!json_is_string(text) || vmp_addr_parse(json_string_value(text), &a) < 0)
					continue;
				common = vmp_entry_common(&a, 1, p->entry, p->n_entry);
				if (!common)
					continue;
				snprintf(reason, size, "parameter entry: %s is an entry address of pair %.63s on %.40s already",
					 vmp_addr_str(common, false, buf), name, d->nodes[i].name);
				return -EEXIST;
			}
		}
	}
	return 0;
}

int vmp_member_configure(struct vmp_member *m, const json_t *params, const char *rsc, char *reason, size_t size)
{
	struct errbuf e = { reason, size };
	struct vmp_pair_params p;
	struct vmp_internal_net net = { 0 };
	struct vmp_probe_spec ready;
	struct vmp_slot slot;
	struct vmp_daemon *d = m->d;
	json_t *copy;
	int r;

	reason[0] = '\0';
	r = vmp_pair_params_parse(params, &p, first_error, &e);
	if (r < 0)
		return r;
	net.net = p.internal;
	memcpy(net.bridge, p.internal_bridge, sizeof(net.bridge));
	r = vmp_probe_parse(!strcmp(param_text(params, "ready"), "running") ? "none" : param_text(params, "ready"), &ready, reason,
			    size);
	if (r < 0)
		return r;
	if (ready.kind != VMP_PROBE_NONE && !p.has_internal) {
		snprintf(reason, size, "parameter ready: a check needs internal_net, by which the member is reached");
		return -EINVAL;
	}
	r = vmp_slot_derive(m->name, d->node, p.has_internal ? &net : NULL, &slot, reason, size);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		const struct vmp_member *o = &d->members[i];
		const struct vmp_addr *common;
		char buf[VMP_ADDR_STRLEN];

		if (!o->used || o == m || !o->params_json)
			continue;
		if (o->id == m->id) {
			snprintf(reason, size, "pair %s has the same id as %s: give one another name", m->name, o->name);
			return -EEXIST;
		}
		common = vmp_entry_common(o->params.entry, o->params.n_entry, p.entry, p.n_entry);
		if (common) {
			snprintf(reason, size, "parameter entry: %s is an entry address of pair %s already",
				 vmp_addr_str(common, false, buf), o->name);
			return -EEXIST;
		}
		if (o->params.has_internal && p.has_internal && vmp_internal_net_overlap(&o->internal, &net)) {
			snprintf(reason, size, "parameter internal_net: overlaps that of pair %s: members would share addresses",
				 o->name);
			return -EEXIST;
		}
	}
	r = entry_is_free(m, &p, reason, size);
	if (r < 0)
		return r;
	copy = json_deep_copy(params);
	if (!copy)
		return -ENOMEM;
	json_decref(m->params_json);
	m->params_json = copy;
	m->params = p;
	m->internal = net;
	m->ready_spec = ready;
	m->slot = slot;
	if (rsc && *rsc)
		snprintf(m->rsc, sizeof(m->rsc), "%s", rsc);
	return 0;
}

/* --- core ------------------------------------------------------------------------------------------------------------- */
static void add_to_core(struct vmp_member *m)
{
	struct vmp_event ev = {
		.type = VMP_EV_PAIR_ADD,
		.pair = m->id,
		.policy = { .peer_link = m->params.peer_link_failover ? VMP_PEER_LINK_FAILOVER : VMP_PEER_LINK_KEEP,
			    .auto_failover = true,
			    .cold_start = m->params.cold_start_auto,
			    .relay = vmp_sync_wanted(m) },
	};

	if (!m->d->core_up)
		return;
	vmp_exec_feed(m->d, &ev);
	m->in_core = true;
	if (m->frozen) {
		struct vmp_event fr = { .type = VMP_EV_FREEZE, .pair = m->id, .on = true };

		vmp_exec_feed(m->d, &fr);
	}
}

static const struct vmp_cib_pair *in_cib(const struct vmp_cib *cib, const char *name)
{
	for (unsigned i = 0; i < cib->n_pairs; i++)
		if (!strcmp(cib->pairs[i].pair, name))
			return &cib->pairs[i];
	return NULL;
}

bool vmp_member_ready(const struct vmp_member *m)
{
	/* Once it has handed over, a VM that is being shut down is nobody's standby. */
	return m->member && !(m->phase == VMP_HOST_STOPPING && m->stop_handed) &&
	       (m->ready_spec.kind == VMP_PROBE_NONE || m->own.ok) && vmp_sync_ready(m) && strcmp(m->vrrp, "STOP") != 0;
}

/* Tell the core how the member is, when that changed. */
void vmp_member_to_core(struct vmp_member *m)
{
	bool running = m->member != 0, ready = vmp_member_ready(m);
	struct vmp_event ev = { .type = VMP_EV_MEMBER, .pair = m->id, .member = m->member, .on = running, .ready = ready };

	if (!m->d->core_up || !m->in_core)
		return;
	if (running == m->core_running && ready == m->core_ready && m->member == m->core_member)
		return;
	m->core_member = m->member;
	m->core_running = running;
	m->core_ready = ready;
	m->been_ready |= ready;
	vmp_exec_feed(m->d, &ev);
	vmp_member_changed(m);
}

void vmp_member_core_started(struct vmp_daemon *d)
{
	const struct vmp_store_loaded *run = vmp_store_run(d->store);

	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];

		if (!m->used || m->phase == VMP_HOST_IDLE)
			continue;
		add_to_core(m);
		/* Said in any case: the core may hold the pair since before, for a VM that has ended meanwhile (R2). */
		m->core_running = m->member == 0;
		m->core_ready = false;
		vmp_member_to_core(m);
	}
	/* Held since before, by a VM that could not be taken over, and whose gate is closed: given up, or nobody else could serve it. */
	for (unsigned i = 0; i < run->count; i++) {
		struct vmp_event ev = { .type = VMP_EV_PAIR_REMOVE, .pair = run->record[i].pair };
		struct vmp_pair_view v;

		if (vmp_core_pair_view(&d->core, ev.pair, vmp_now_ns(), &v) == 0 && v.role == VMP_ROLE_HOLDING &&
		    !vmp_member_by_id(d, ev.pair))
			vmp_exec_feed(d, &ev);
	}
}

static void to_core_policy(struct vmp_member *m)
{
	if (m->in_core)
		add_to_core(m); /* PAIR_ADD of a known pair changes its policy only */
}

static void remove_from_core(struct vmp_member *m)
{
	struct vmp_event ev = { .type = VMP_EV_PAIR_REMOVE, .pair = m->id };

	if (!m->in_core)
		return;
	vmp_exec_feed(m->d, &ev);
	m->in_core = m->core_running = m->core_ready = false;
}

/* --- facts, score, status ------------------------------------------------------------------------------------------------ */
static void write_facts(struct vmp_member *m)
{
	struct vmp_facts f = { .pid = m->run.pid, .start_time = m->run.start_ticks, .told = m->told, .params = m->params_json };
	struct vmp_pair_view v;
	char dir[300];
	int r;

	if (!m->params_json)
		return;
	snprintf(dir, sizeof(dir), "%s/pairs", m->d->conf.runtime_dir);
	snprintf(f.pair, sizeof(f.pair), "%s", m->name);
	snprintf(f.rsc, sizeof(f.rsc), "%s", m->rsc);
	snprintf(f.vrrp, sizeof(f.vrrp), "%s", m->vrrp);
	f.member = m->member;
	f.has_nic = m->nic.known;
	f.entry_multi_queue = m->nic.multi_queue;
	memcpy(f.entry_mac, m->nic.mac, sizeof(f.entry_mac));
	if (m->sync.relay) {
		f.relay_pid = vmp_relay_pid(m->sync.relay);
		f.relay_start = vmp_relay_start_time(m->sync.relay);
		f.relay_instance = vmp_relay_instance(m->sync.relay);
		f.relay_number = vmp_relay_number(m->sync.relay);
	}
	if (vmp_member_view(m, &v)) {
		f.primary = v.role == VMP_ROLE_HOLDING;
		f.epoch = v.epoch;
	}
	r = vmp_facts_write(dir, &f);
	if (r < 0)
		vmp_log(LOG_WARNING, "%s/%s.json: %s", dir, m->name, strerror(-r));
}

static void remove_facts(struct vmp_member *m)
{
	char dir[300];

	snprintf(dir, sizeof(dir), "%s/pairs", m->d->conf.runtime_dir);
	vmp_facts_remove(dir, m->name);
	snprintf(dir, sizeof(dir), "%s/role", m->d->conf.runtime_dir);
	m->role_page = vmp_rolepage_remove(m->role_page, dir, m->name);
}

static bool nobody_holds(const struct vmp_pair_view *v)
{
	return vmp_agree_nobody_holds(v->guard_ns, v->reg.promised.released, vmp_now_ns());
}

/* A8 */
static bool may_be_promoted(const struct vmp_member *m, const struct vmp_pair_view *v)
{
	const struct vmp_daemon *d = m->d;
	bool last_here = v->reg.state.holder == d->node;
	/* not of the own node: what it says of itself is made from this */
	const json_t *last = last_here ? NULL : vmp_group_pair(d, v->reg.state.holder, m->name);

	return vmp_agree_promote(&(struct vmp_agree_promote){
		.ready = v->ready,
		.role_none = v->role == VMP_ROLE_NONE,
		.recorded = v->reg.state.epoch != 0,
		.cold = v->reg.state.cold,
		.last_here = last_here,
		.last_without_member = !last_here && vmp_group_has(d, v->reg.state.holder) &&
				       !(last && json_is_true(json_object_get(last, "running"))),
		.in_sync = v->reg.state.sync_node == d->node && v->reg.state.sync_member == m->member,
		.last_member = last_here && v->reg.state.holder_member == m->member,
		.cold_start_auto = m->params.cold_start_auto,
		.nobody_holds = nobody_holds(v),
	});
}

bool vmp_member_flip_pending(struct vmp_member *m)
{
	struct vmp_pair_view v;
	const json_t *p;

	if (!m->handed_ns)
		return false;
	if (vmp_now_ns() - m->handed_ns < FLIP_WAIT_MS * ms_ns && vmp_member_view(m, &v) &&
	    (v.role == VMP_ROLE_NONE || v.role == VMP_ROLE_CLOSING)) {
		if (v.primary == m->d->node || !v.primary)
			return true; /* released a moment ago: the successor is about to write its state */
		p = vmp_group_has(m->d, v.primary) ? vmp_group_pair(m->d, v.primary, m->name) : NULL;
		if (p && strcmp(param_text(p, "told"), "Promoted") != 0)
			return true;
	}
	m->handed_ns = 0;
	return false;
}

bool vmp_member_left_out(const struct vmp_member *m, const struct vmp_pair_view *v)
{
	return v->ready && v->role == VMP_ROLE_NONE && nobody_holds(v) && !may_be_promoted(m, v);
}

/* The first score of a standby follows that of the primary, or Pacemaker would promote the only one that has any. */
static bool score_behind(struct vmp_member *m, const struct vmp_pair_view *v)
{
	const json_t *p = v->primary && v->primary != m->d->node ? vmp_group_pair(m->d, v->primary, m->name) : NULL;

	/* Both members were lost: no score of a primary is to come, and Pacemaker has to begin with this one. */
	if (nobody_holds(v) && p && strcmp(param_text(p, "role"), "primary") != 0)
		p = NULL;
	if (!p || (m->score_known && m->score_set) || !strcmp(param_text(p, "told"), "Promoted")) {
		m->behind_ns = 0;
		return false;
	}
	if (!m->behind_ns)
		m->behind_ns = vmp_now_ns();
	return vmp_now_ns() - m->behind_ns < FLIP_WAIT_MS * ms_ns;
}

static void update_score(struct vmp_member *m)
{
	struct vmp_pair_view v = { 0 };
	struct vmp_agree_score s;
	bool have = vmp_member_view(m, &v);

	if (!m->d->pcmk || !m->rsc[0])
		return;
	s = vmp_agree_score(v.epoch, have && v.role == VMP_ROLE_HOLDING, have && may_be_promoted(m, &v));
	if (m->score_known && m->score_set == s.set && (!s.set || m->score == s.score))
		return;
	if (have && v.role == VMP_ROLE_ESTABLISHING)
		return; /* decided within milliseconds */
	if (vmp_member_flip_pending(m))
		return; /* each change of an attribute aborts the transition that brings the flip */
	if (s.set && have && v.role == VMP_ROLE_NONE && score_behind(m, &v))
		return;
	if (s.lower_others)
		for (unsigned i = 0; i < m->d->n_nodes; i++)
			if (m->d->nodes[i].id != m->d->node && vmp_group_pair(m->d, m->d->nodes[i].id, m->name))
				vmp_pcmk_score(m->d->pcmk, m->name, m->rsc, m->d->nodes[i].name, true, VMP_AGREE_BASE);
	if (vmp_pcmk_score(m->d->pcmk, m->name, m->rsc, NULL, s.set, s.score) < 0)
		return;
	m->score_known = true;
	m->score_set = s.set;
	m->score = s.score;
}

/* Since when what Pacemaker was told differs from what is: bounds how long a monitor keeps telling the old story. */
static void track_told(struct vmp_member *m)
{
	bool primary = vmp_member_primary(m), gone = m->phase != VMP_HOST_RUNNING;
	bool differs = (m->told == VMP_TOLD_PROMOTED && !primary) || (m->told == VMP_TOLD_UNPROMOTED && (primary || gone));

	if (!differs)
		m->told_changed_ns = 0;
	else if (!m->told_changed_ns)
		m->told_changed_ns = vmp_now_ns();
}

void vmp_member_changed(struct vmp_member *m)
{
	bool primary = vmp_member_primary(m);

	if (m->was_primary && !primary)
		m->handed_ns = vmp_now_ns();
	else if (primary)
		m->handed_ns = 0;
	m->was_primary = primary;
	if (m->phase == VMP_HOST_IDLE && !m->in_core)
		return;
	track_told(m);
	update_score(m);
	write_facts(m);
	vmp_group_publish_soon(m->d);
}

/* --- readiness ------------------------------------------------------------------------------------------------------------- */
static void checker_begin(void *data);

static void checker_result(struct vmp_checker *c, int r)
{
	struct vmp_member *m = c->m;
	bool was = c->ok;
	uint64_t next;

	if (c->probe) {
		vmp_loop_del_fd(c->d->loop, vmp_probe_fd(c->probe));
		c->probe = vmp_probe_free(c->probe);
	}
	if (r > 0) {
		c->failures = 0;
		c->answered = c->ok = true;
		c->ok_ns = vmp_now_ns();
		c->reason[0] = '\0';
	} else if (++c->failures >= VMP_READY_FAILURES || !c->answered) {
		c->ok = false;
	}
	next = c->answered && c->ok ? CHECK_SLOW_MS : CHECK_FAST_MS;
	vmp_loop_timer(c->d->loop, &c->timer, vmp_now_ns() + next * ms_ns, checker_begin, c);
	if (was == c->ok)
		return;
	if (!c->of_peer) {
		vmp_journal_add(c->d->journal, m->name, 0, c->ok ? "ready" : "not-ready", "%s", c->ok ? "the readiness check answers" :
				c->reason);
		vmp_log(c->ok ? LOG_NOTICE : LOG_WARNING, "%s: member %s%s%s", m->name, c->ok ? "is ready" : "is not ready: ",
			c->ok ? "" : c->reason, "");
		vmp_member_to_core(m);
	} else {
		/* Both ends notice a loss, at different moments: who has just taken over because of it must not give back. */
		struct vmp_event ev = { .type = VMP_EV_PEER_LINK, .pair = m->id, .on = c->ok, .ready = c->ok_ns > m->primary_ns };

		/* Only "was there, now is not, while our own member answers" is evidence about the link. */
		m->link_down = !c->ok;
		vmp_journal_add(c->d->journal, m->name, 0, c->ok ? "link-up" : "link-down", "member of %s over the internal net%s%s",
				vmp_node_name(c->d, m->peer_node), c->ok ? "" : ": ", c->ok ? "" : c->reason);
		if (c->ok || m->own.ok)
			vmp_exec_feed(c->d, &ev);
		vmp_group_publish_soon(c->d);
	}
}

static void checker_deadline(void *data)
{
	struct vmp_checker *c = data;
	int r = vmp_probe_dispatch(c->probe, vmp_now_ns(), c->reason, sizeof(c->reason));

	checker_result(c, r ? r : -ETIMEDOUT);
}

static void checker_fd(int fd, short revents, void *data)
{
	struct vmp_checker *c = data;
	int r = vmp_probe_dispatch(c->probe, vmp_now_ns(), c->reason, sizeof(c->reason));

	(void)revents;
	if (r)
		checker_result(c, r);
	else
		vmp_loop_mod_fd(c->d->loop, fd, vmp_probe_events(c->probe));
}

const char *vmp_member_bridge(const struct vmp_member *m)
{
	const char *bridge = m->dom ? m->dom->internal_bridge : m->internal.bridge;

	return *bridge ? bridge : NULL;
}

static void checker_begin(void *data)
{
	struct vmp_checker *c = data;
	struct vmp_member *m = c->m;
	struct vmp_addr addr = m->slot.internal;
	uint64_t deadline = vmp_now_ns() + (uint64_t)m->params.ready_timeout_ms * ms_ns;
	int r;

	if (c->of_peer) {
		r = vmp_slot_internal_addr(&m->internal, m->peer_node, &addr);
		if (r < 0) {
			checker_result(c, r);
			return;
		}
	}
	r = vmp_probe_start(&c->probe, &m->ready_spec, &addr, vmp_member_bridge(m), deadline, c->reason, sizeof(c->reason));
	if (r == 0)
		r = vmp_loop_add_fd(c->d->loop, VMP_PRIO_LOW, vmp_probe_fd(c->probe), vmp_probe_events(c->probe),
				    checker_fd, c);
	if (r < 0) {
		c->probe = vmp_probe_free(c->probe);
		checker_result(c, r);
		return;
	}
	vmp_loop_timer(c->d->loop, &c->timer, deadline, checker_deadline, c);
}

/* The voter with that index has just said which members it has. */
static bool told_lately(const struct vmp_daemon *d, unsigned voter)
{
	return d->core.peer[voter].members_ns && vmp_now_ns() - d->core.peer[voter].members_ns < MEMBERS_FRESH_MS * ms_ns;
}

/* Watch the peer member over the internal net while both members run. */
static void watch_peer(struct vmp_member *m)
{
	struct vmp_pair_view v;
	uint8_t node = 0;

	if (m->phase == VMP_HOST_RUNNING && m->params.has_internal && m->ready_spec.kind != VMP_PROBE_NONE && vmp_member_view(m, &v))
		for (unsigned i = 0; i < m->d->core.config.n; i++) {
			uint8_t n = m->d->core.config.voter[i].node;

			/* What a lost node said last must not stand for the link to the one that has come in its place. */
			if (n != m->d->node && (v.peer[i].flags & VMP_MEMBER_READY) && told_lately(m->d, i) &&
			    (!node || n == v.primary || n == v.sync_node))
				node = n;
		}
	if (node == m->peer_node)
		return;
	checker_stop(&m->peer);
	m->peer_node = node;
	if (m->link_down) {
		struct vmp_event ev = { .type = VMP_EV_PEER_LINK, .pair = m->id, .on = true };

		m->link_down = false;
		vmp_exec_feed(m->d, &ev);
	}
	if (node)
		checker_begin(&m->peer);
}

/* --- start ----------------------------------------------------------------------------------------------------------------------- */
/* Reading and transforming the template may wait for a disk, so a thread of its own does it. */
struct job {
	struct vmp_daemon *d;
	uint64_t pair, serial;
	char name[64], disk_dir[400];
	struct vmp_slot slot;
	struct vmp_pair_params params;
	struct vmp_internal_net internal;
	char guest_channel[VMP_CONF_STR + 96], relay_channel[VMP_CONF_STR + 96], relay_keys[VMP_CONF_STR + 96]; /* "" = no relay in the guest */
	struct vmp_domxml *dom;
	int rc, done_fd[2];
	char reason[200];
};

/* Below 6.6 <bandwidth><outbound> makes an `ingress` qdisc, which keeps the gate's program off the port. */
static bool kernel_at_least(unsigned major, unsigned minor)
{
	struct utsname u;
	unsigned a, b;

	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &a, &b) == 2 && (a > major || (a == major && b >= minor));
}

/* Where the host carries the entry addresses, the guest has no entry NIC. */
static const char *guest_entry_nic(const struct vmp_pair_params *p)
{
	return p->entry_mode == VMP_ENTRY_BRIDGE ? p->entry_nic : NULL;
}

static void *job_run(void *arg)
{
	struct job *j = arg;
	struct vmp_domxml_params p = {
		.pair = j->name,
		.slot = &j->slot,
		.entry_nic = guest_entry_nic(&j->params),
		.entry = j->params.entry,
		.n_entry = j->params.n_entry,
		.internal = j->params.has_internal ? &j->internal : NULL,
		.disk_dir = j->disk_dir,
		.guest_channel = j->guest_channel,
		.relay_channel = j->relay_channel[0] ? j->relay_channel : NULL,
		.relay_keys = j->relay_keys[0] ? j->relay_keys : NULL,
		.shaping_ok = kernel_at_least(6, 6),
	};
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	char done = 1;
	ssize_t w;

	j->rc = vmp_domxml_read(j->params.domain, &text, &len, j->reason, sizeof(j->reason));
	if (j->rc == 0)
		j->rc = vmp_domxml_build(text, len, j->params.domain, &p, &j->dom, j->reason, sizeof(j->reason));
	w = write(j->done_fd[1], &done, 1);
	(void)w;
	return NULL;
}

static void reply_start(struct vmp_member *m, int ocf, const char *reason)
{
	uint64_t token = m->start_token;

	m->start_token = 0;
	if (token)
		vmp_ctl_reply_ocf(m->d->ctl, token, ocf, reason);
}

/*
 * ocf: what is wrong with this node only (template, bridge) is ERR_INSTALLED, which keeps the pair off this node. ERR_CONFIGURED would make
 * Pacemaker stop the pair's healthy members on all nodes.
 */
static void start_failed(struct vmp_member *m, int ocf, const char *reason)
{
	snprintf(m->fail_reason, sizeof(m->fail_reason), "%s", reason);
	vmp_log(LOG_ERR, "%s: start failed: %s", m->name, reason);
	vmp_journal_add(m->d->journal, m->name, 0, "start-failed", "%s", reason);
	if (m->phase == VMP_HOST_PREPARING || m->phase == VMP_HOST_STARTING)
		m->phase = VMP_HOST_FAILED;
	m->failed_ns = vmp_now_ns();
	if (!m->restarting) { /* that one Pacemaker has not asked for, and hears of by a monitor */
		m->start_failed = true;
		m->failed_op = "start";
		m->failed_interval_ms = 0;
	}
	m->restarting = false;
	reply_start(m, ocf, reason);
	vmp_group_publish_soon(m->d);
}

/* The digest of every node that runs or starts this pair must be ours; the last words of one that has gone count no more. */
static bool digest_agrees(struct vmp_member *m, char *reason, size_t size)
{
	char own[2 * VMP_DIGEST_LEN + 1];

	for (unsigned i = 0; i < VMP_DIGEST_LEN; i++)
		snprintf(own + 2 * i, 3, "%02x", m->dom->digest[i]);
	for (unsigned i = 0; i < m->d->n_nodes; i++) {
		const json_t *p = vmp_group_pair(m->d, m->d->nodes[i].id, m->name);
		const char *theirs = p ? json_string_value(json_object_get(p, "digest")) : NULL;

		if (!vmp_group_has(m->d, m->d->nodes[i].id) || m->d->nodes[i].id == m->d->node || !theirs || !*theirs || !strcmp(theirs, own))
			continue;
		snprintf(reason, size, "%.100s differs from the one on %.40s: make the file the same on all nodes", m->params.domain,
			 m->d->nodes[i].name);
		return false;
	}
	return true;
}

static unsigned gate_addrs(const struct vmp_member *m, struct vmp_gate_addr *out)
{
	unsigned n = 0;

	for (; n < m->params.n_entry && n < VMP_GATE_MAX_ADDRS; n++) {
		out[n].family = m->params.entry[n].family;
		memcpy(out[n].addr, m->params.entry[n].bytes, 16);
		out[n].prefix = m->params.entry[n].prefix;
	}
	return n;
}

/* The first "cause" before a change of primary explains it (vmpair why): the end of a member that is none does not. */
static const char *end_word(const struct vmp_member *m)
{
	struct vmp_pair_view v;

	return vmp_member_view(m, &v) && v.primary && v.primary != m->d->node ? "ended" : "cause";
}

/* A VM without its entry port is of no use, and only a new start gives it one: its end is handled as any other. */
static void without_port(struct vmp_member *m, const char *why)
{
	vmp_log(LOG_ERR, "%s: VM ended, because its entry port %s", m->name, why);
	vmp_journal_add(m->d->journal, m->name, 0, end_word(m), "entry port %s: the VM is ended", why);
	vmp_virt_kill(m->d->virt, m->id);
}

/* The port of a VM that has run since before could not be taken over: the table may be locked, the kernel short of memory. */
static void not_taken(struct vmp_member *m, const char *reason)
{
	char why[VMP_GATE_REASON + 32];

	if (!m->port_tries)
		vmp_log(LOG_WARNING, "%s: entry port not taken over, tried again: %s", m->name, reason);
	if (++m->port_tries < (m->params.entry_mode == VMP_ENTRY_BRIDGE ? PORT_TRIES : HOST_PORT_TRIES)) {
		m->port_again = true;
		return;
	}
	snprintf(why, sizeof(why), "cannot be taken over (%s)", reason);
	without_port(m, why);
}

static void nic_of_dom(struct vmp_member *m)
{
	memcpy(m->nic.mac, m->dom->entry_mac, sizeof(m->nic.mac));
	m->nic.multi_queue = m->dom->entry_multi_queue;
	m->nic.known = true;
}

static void make_port(struct vmp_member *m)
{
	struct vmp_gate_spec spec = { .n_addrs = 0 };
	char reason[VMP_GATE_REASON] = "";
	int r;

	snprintf(spec.bridge, sizeof(spec.bridge), "%s", m->params.entry_nic);
	if (m->params.entry_mode != VMP_ENTRY_BRIDGE) {
		spec.kind = m->params.entry_mode == VMP_ENTRY_HOST ? VMP_GATE_HOST : VMP_GATE_HOST_OTHER;
	} else {
		snprintf(spec.tap, sizeof(spec.tap), "%s", m->slot.entry_tap);
		memcpy(spec.mac, m->nic.mac, sizeof(spec.mac));
		spec.multi_queue = m->nic.multi_queue;
	}
	spec.n_addrs = gate_addrs(m, spec.addrs);
	m->port_ready = false;
	r = vmp_gate_port_add(m->d->gate, m->id, m->name, &spec, reason, sizeof(reason));
	if (r < 0 && m->phase == VMP_HOST_RUNNING)
		not_taken(m, reason[0] ? reason : strerror(-r));
	else if (r < 0)
		start_failed(m, r == -EEXIST || r == -EINVAL ? VMP_OCF_ERR_INSTALLED : VMP_OCF_ERR_GENERIC,
			     reason[0] ? reason : strerror(-r));
}

/* A VM that somebody else has started, or a daemon that died meanwhile: with a port, or it would serve nobody. */
static void found_port(struct vmp_member *m)
{
	struct vmp_gate_info info;

	if (m->phase != VMP_HOST_RUNNING || (!vmp_gate_port_info(m->d->gate, m->id, &info) && info.ready && !info.alarm))
		return;
	m->port_tries = 0;
	if (m->nic.known || m->params.entry_mode != VMP_ENTRY_BRIDGE)
		make_port(m);
	else
		without_port(m, "is not known");
}

static void on_job_done(int fd, short revents, void *data)
{
	struct job *j = data;
	struct vmp_daemon *d = j->d;
	struct vmp_member *m = vmp_member_by_id(d, j->pair);
	char reason[256];

	(void)revents;
	vmp_loop_del_fd(d->loop, fd);
	close(j->done_fd[0]);
	close(j->done_fd[1]);
	if (!m || m->phase != VMP_HOST_PREPARING || m->job != j->serial) { /* stopped, maybe started again, meanwhile */
		vmp_domxml_free(j->dom);
	} else if (j->rc < 0) {
		start_failed(m, VMP_OCF_ERR_INSTALLED, j->reason);
	} else {
		vmp_domxml_free(m->dom);
		m->dom = j->dom;
		nic_of_dom(m);
		if (digest_agrees(m, reason, sizeof(reason)))
			make_port(m);
		else
			start_failed(m, VMP_OCF_ERR_INSTALLED, reason);
	}
	free(j);
}

static int begin_job(struct vmp_member *m)
{
	struct job *j = calloc(1, sizeof(*j));
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int r;

	if (!j)
		return -ENOMEM;
	j->d = m->d;
	j->pair = m->id;
	j->serial = m->job = ++m->d->next_job;
	snprintf(j->name, sizeof(j->name), "%s", m->name);
	snprintf(j->disk_dir, sizeof(j->disk_dir), "%s/disks/%s", m->d->conf.state_dir, m->name);
	j->slot = m->slot;
	j->params = m->params;
	j->internal = m->internal;
	vmp_signs_channel(m->d, m->name, j->guest_channel, sizeof(j->guest_channel));
	vmp_sync_guest_paths(m, j->relay_channel, sizeof(j->relay_channel), j->relay_keys, sizeof(j->relay_keys));
	if (pipe2(j->done_fd, O_CLOEXEC | O_NONBLOCK) < 0) {
		r = -errno;
		free(j);
		return r;
	}
	r = vmp_loop_add_fd(m->d->loop, VMP_PRIO_MED, j->done_fd[0], POLLIN, on_job_done, j);
	if (r == 0) {
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, 1 << 20);
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r = -pthread_create(&t, &attr, job_run, j);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		pthread_attr_destroy(&attr);
		if (r == 0)
			return 0;
		vmp_loop_del_fd(m->d->loop, j->done_fd[0]);
	}
	close(j->done_fd[0]);
	close(j->done_fd[1]);
	free(j);
	return r;
}

static int register_virt(struct vmp_member *m)
{
	struct vmp_virt_run run;
	int r = vmp_virt_pair_add(m->d->virt, m->id, m->name, m->slot.uuid, &run);

	if (r == -EEXIST)
		r = vmp_virt_run(m->d->virt, m->id, &run);
	if (r == 0)
		m->run = run;
	return r;
}

bool vmp_member_has_register(const struct vmp_daemon *d, uint64_t id)
{
	struct vmp_pair_view v;

	return !d->core_up || vmp_core_pairs_left(&d->core) || vmp_core_pair_view(&d->core, id, vmp_now_ns(), &v) == 0;
}

static bool prepare(struct vmp_member *m)
{
	char reason[VMP_CONF_STR + 200] = "";
	int r;

	m->phase = VMP_HOST_PREPARING;
	if (vmp_copies_forbid(m, reason, sizeof(reason))) {
		start_failed(m, VMP_OCF_ERR_GENERIC, reason);
		return false;
	}
	r = vmp_sync_prepare(m, reason, sizeof(reason));
	if (r == 0)
		r = vmp_signs_prepare(m->d, reason, sizeof(reason));
	if (r == 0)
		r = register_virt(m);
	if (r == 0)
		r = begin_job(m);
	if (r < 0)
		start_failed(m, VMP_OCF_ERR_GENERIC, reason[0] ? reason : strerror(-r));
	return r == 0;
}

static void answer_stop(struct vmp_member *m);

void vmp_member_start(struct vmp_member *m, uint64_t token)
{
	if (m->phase == VMP_HOST_IDLE)
		answer_stop(m); /* who starts it waits for nothing any more */
	if (m->phase == VMP_HOST_RUNNING) {
		vmp_ctl_reply_ocf(m->d->ctl, token, VMP_OCF_OK, "");
		return;
	}
	if (m->restarting && !m->start_token) {
		m->start_token = token;
		return;
	}
	if (m->phase == VMP_HOST_STOPPING || m->start_token) {
		vmp_ctl_reply_ocf(m->d->ctl, token, VMP_OCF_ERR_GENERIC, "another start or stop of this pair is under way");
		return;
	}
	m->start_token = token;
	m->fail_reason[0] = '\0';
	m->start_failed = m->port_again = false;
	m->port_tries = 0;
	if (in_cib(&m->d->cib, m->name)) /* read before there was a member here */
		m->cib_known = true;
	m->phase = VMP_HOST_PREPARING;
	if (!vmp_member_has_register(m->d, m->id)) {
		start_failed(m, VMP_OCF_ERR_INSTALLED, "no register is left for another pair name: see vmpaird(8), RECOVERY");
		return;
	}
	if (!prepare(m))
		return;
	if (!m->in_core) /* so that the others hear of the member that is coming (A5) */
		add_to_core(m);
	/* A daemon that dies before libvirt has answered: its successor must know whose VM it is that then runs. */
	m->told = VMP_TOLD_STOPPED;
	write_facts(m);
	vmp_journal_add(m->d->journal, m->name, 0, "starting", "VM of this node");
	if (m->d->pcmk)
		vmp_pcmk_rewrite(m->d->pcmk, m->name);
	m->score_known = false;
	vmp_group_publish_soon(m->d);
}

uint64_t vmp_member_new_id(void)
{
	uint64_t v = 0;

	while (v == 0)
		if (getrandom(&v, sizeof(v), 0) != sizeof(v))
			v = 0;
	return v;
}

void vmp_member_content(struct vmp_member *m, uint64_t id)
{
	if (m->phase != VMP_HOST_RUNNING && m->phase != VMP_HOST_STOPPING)
		return;
	m->member = id;
	vmp_member_to_core(m);
	vmp_member_changed(m);
}

static void end_at_once(struct vmp_member *m, const char *why)
{
	if (m->phase == VMP_HOST_IDLE || m->phase == VMP_HOST_FAILED)
		return;
	vmp_log(LOG_WARNING, "%s: VM is killed: %s", m->name, why);
	vmp_journal_add(m->d->journal, m->name, 0, end_word(m), "VM is killed: %s", why);
	if (m->phase == VMP_HOST_PREPARING) {
		start_failed(m, VMP_OCF_ERR_GENERIC, why);
		return;
	}
	/* by its pidfd: its end is told as any other. One that libvirt is just starting is killed as soon as there is a process. */
	vmp_virt_kill(m->d->virt, m->id);
}

void vmp_member_end_all(struct vmp_daemon *d)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used)
			end_at_once(&d->members[i], "this node is fenced");
	vmp_bars_self_fenced(d);
}

static void vm_runs(struct vmp_member *m, const struct vmp_virt_run *run, uint64_t member)
{
	char why[160];

	m->run = *run;
	m->phase = VMP_HOST_RUNNING;
	m->member = member;
	m->started_ns = vmp_now_ns();
	m->been_ready = false;
	checker_stop(&m->own);
	if (m->ready_spec.kind != VMP_PROBE_NONE)
		checker_begin(&m->own);
	if (!m->in_core)
		add_to_core(m);
	m->core_running = m->core_ready = false;
	vmp_sync_start(m);
	vmp_signs_start(m);
	vmp_member_to_core(m);
	vmp_member_changed(m);
	if (vmp_bars_self(m->d, why, sizeof(why)))
		end_at_once(m, why);
}

/* --- restart in place (A6) ------------------------------------------------------------------------------------------------- */
static bool wanted_here(const struct vmp_member *m)
{
	const struct vmp_cib *cib = &m->d->cib;
	const struct vmp_cib_pair *p = in_cib(cib, m->name);

	for (unsigned i = 0; p && i < cib->n_nodes; i++)
		if (!strcmp(cib->nodes[i].name, m->d->node_name))
			return p->enabled && !cib->nodes[i].standby && !(p->banned & (UINT64_C(1) << i));
	return false;
}

/* To be asked before the core hears that the VM is over. */
static bool may_restart(const struct vmp_member *m, bool left)
{
	const struct vmp_daemon *d = m->d;
	struct vmp_agree_restart in = { .frozen = m->frozen, .wanted = wanted_here(m), .been_ready = m->been_ready, .left = left };
	struct vmp_pair_view v;
	char why[160];

	if (m->phase != VMP_HOST_RUNNING || !vmp_member_view(m, &v))
		return false;
	if (m->ready_spec.kind == VMP_PROBE_NONE && vmp_now_ns() - m->started_ns < BOOT_MS * ms_ns)
		in.been_ready = false;
	in.attended = d->corosync_up && d->quorate && d->libvirt_up && d->pcmk && d->pcmk_state != VMP_PCMK_ABSENT && !vmp_bars_self(d, why, sizeof(why));
	in.primary = v.role != VMP_ROLE_NONE;
	in.successor = v.reg.state.sync_node && v.reg.state.sync_node != d->node;
	for (unsigned i = 0; i < d->core.config.n; i++)
		if (d->core.config.voter[i].node != d->node && (v.peer[i].flags & VMP_MEMBER_RUNNING) && told_lately(d, i))
			in.others++;
	return vmp_agree_restart(&in);
}

/* The VM's process, and what libvirt has of it, is gone: once Pacemaker has the successor promoted, the same again. */
static void start_again(struct vmp_member *m)
{
	if (vmp_member_flip_pending(m))
		return; /* vmp_member_slow comes back */
	m->guard = vmp_vrrp_guard_stop(m->guard); /* it reads the word of the port that goes */
	vmp_gate_port_del(m->d->gate, m->id);
	vmp_virt_pair_del(m->d->virt, m->id);
	if (!prepare(m))
		return;
	vmp_journal_add(m->d->journal, m->name, 0, "starting", "VM of this node, in place");
	write_facts(m);
	vmp_group_publish_soon(m->d);
}

static void begin_restart(struct vmp_member *m)
{
	struct vmp_virt_stop how = { .graceful_ms = 0, .destroy_ms = 200 };
	int r;

	m->restarting = true;
	m->stopped_here = false;
	m->phase = VMP_HOST_STOPPING;
	r = vmp_virt_stop(m->d->virt, m->id, &how, m->id);
	if (r == -ENOENT) {
		m->stopped_here = true;
	} else if (r < 0) {
		m->restarting = false;
		m->phase = VMP_HOST_FAILED;
	}
}

/* What is learnt after it has begun, and before the VM is there again. */
static void no_restart(struct vmp_member *m, const char *why)
{
	vmp_copies_left(m);
	if (!m->restarting || (m->phase != VMP_HOST_STOPPING && m->phase != VMP_HOST_PREPARING))
		return;
	m->restarting = false;
	m->phase = VMP_HOST_FAILED;
	m->failed_ns = vmp_now_ns();
	snprintf(m->fail_reason, sizeof(m->fail_reason), "%s", why);
	vmp_log(LOG_WARNING, "%s: VM is not started again: %s", m->name, why);
	vmp_member_changed(m);
}

/* The VM is over: the core closes, releases and hands over before anything else happens. */
static void vm_over(struct vmp_member *m, const char *why, bool left)
{
	bool again = may_restart(m, left);

	if (left)
		vmp_copies_left(m);

	m->member = 0;
	m->run = (struct vmp_virt_run){ 0 };
	vmp_sync_stop(m);
	vmp_signs_stop(m);
	checker_stop(&m->own);
	checker_stop(&m->peer);
	m->peer_node = 0;
	m->link_down = false;
	if (m->phase == VMP_HOST_RUNNING) {
		m->phase = VMP_HOST_FAILED;
		m->failed_ns = vmp_now_ns();
		snprintf(m->fail_reason, sizeof(m->fail_reason), "%s", why);
	}
	if (again)
		begin_restart(m);
	vmp_member_to_core(m);
	vmp_member_changed(m);
}

void vmp_member_end(struct vmp_member *m, const char *why)
{
	vm_over(m, why, false);
	vmp_virt_kill(m->d->virt, m->id);
}

/* The guest shut itself down, and nothing is to follow from it: the lease goes on, for an entry behind which nobody is, until Pacemaker acts. */
static void vm_off(struct vmp_member *m, const char *why)
{
	m->run = (struct vmp_virt_run){ 0 };
	checker_stop(&m->own);
	checker_stop(&m->peer);
	m->peer_node = 0;
	m->phase = VMP_HOST_FAILED;
	m->failed_ns = vmp_now_ns();
	snprintf(m->fail_reason, sizeof(m->fail_reason), "%s", why);
	vmp_member_changed(m);
}

/* --- keepalived ------------------------------------------------------------------------------------------------------------ */
static void start_guard(struct vmp_member *m)
{
	char map[256];
	int r;

	if (m->params.entry_mode != VMP_ENTRY_KEEPALIVED || m->guard || !m->d->vrrp)
		return;
	r = vmp_gate_word_path(m->d->gate, m->name, map, sizeof(map));
	r = r ? r : vmp_vrrp_guard_start(m->d->vrrp, m->name, map, &m->guard);
	if (r < 0)
		vmp_log(LOG_ERR, "%s: guard of keepalived's track file: %s", m->name, strerror(-r));
}

void vmp_member_entry_stored(struct vmp_member *m)
{
	vmp_vrrp_guard_wake(m->guard);
}

void vmp_member_vrrp(void *daemon, const char *instance, const char *state)
{
	struct vmp_daemon *d = daemon;
	struct vmp_member *m = vmp_member_by_name(d, instance);
	bool stopped = !strcmp(state, "STOP");

	if (!m || m->params.entry_mode != VMP_ENTRY_KEEPALIVED || !strcmp(m->vrrp, state))
		return;
	snprintf(m->vrrp, sizeof(m->vrrp), "%s", state);
	vmp_log(stopped ? LOG_WARNING : LOG_INFO, "%s: VRRP instance: %s", m->name, stopped ? "keepalived has ended" : state);
	vmp_journal_add(d->journal, m->name, 0, "vrrp", "%s", state);
	/* Nobody carries the entry address here any more: hand over, and be no standby. */
	if (stopped && vmp_member_primary(m))
		vmp_request_switchover(d, 0, m->name);
	vmp_member_to_core(m);
	vmp_member_changed(m);
}

void vmp_member_port_event(struct vmp_member *m, const struct vmp_gate_event *ev)
{
	struct vmp_daemon *d = m->d;
	struct vmp_gate_info info;
	int r;

	switch (ev->type) {
	case VMP_GATE_EV_PORT_READY:
		m->port_ready = true;
		m->port_tries = 0;
		start_guard(m);
		if (m->phase != VMP_HOST_PREPARING)
			break;
		m->phase = VMP_HOST_STARTING;
		r = vmp_virt_start(d->virt, m->id, m->dom, m->restarting ? RESTART_TIMEOUT_MS : START_TIMEOUT_MS, m->id);
		if (r < 0)
			start_failed(m, VMP_OCF_ERR_GENERIC, strerror(-r));
		break;
	case VMP_GATE_EV_PORT_FAILED:
		m->port_ready = false;
		if (m->phase == VMP_HOST_PREPARING)
			start_failed(m, VMP_OCF_ERR_GENERIC, ev->reason);
		else if (m->phase == VMP_HOST_RUNNING && (vmp_gate_port_info(d->gate, m->id, &info) == -ENOENT || !info.ready))
			not_taken(m, ev->reason);
		break;
	case VMP_GATE_EV_PORT_GONE:
		m->port_ready = false;
		break;
	case VMP_GATE_EV_TAP_LOST:
	case VMP_GATE_EV_ALARM:
		m->port_ready = false;
		if (m->phase == VMP_HOST_RUNNING)
			without_port(m, ev->type == VMP_GATE_EV_TAP_LOST ? "is gone" : "had to be disabled");
		break;
	default:
		break;
	}
	vmp_group_publish_soon(d);
}

/* --- stop ------------------------------------------------------------------------------------------------------------------------------ */
static void answer_stop(struct vmp_member *m)
{
	uint64_t token = m->stop_token;

	m->stop_token = 0;
	if (token)
		vmp_ctl_reply_ocf(m->d->ctl, token, VMP_OCF_OK, "");
}

/* Pacemaker calculates anew as soon as it is answered: with the score of one that is gone it would move the other member here. */
static void answer_when_unscored(struct vmp_member *m)
{
	if (!m->d->pcmk || !vmp_pcmk_pending(m->d->pcmk, m->name))
		answer_stop(m);
}

void vmp_member_pcmk_absent(struct vmp_daemon *d)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].phase == VMP_HOST_IDLE)
			answer_stop(&d->members[i]);
}

void vmp_member_score_done(struct vmp_member *m, bool set, int rc)
{
	if (m->phase == VMP_HOST_IDLE && (!set || rc < 0))
		answer_stop(m);
}

static void stopped(struct vmp_member *m)
{
	int r;

	m->stop_failed = m->restarting = false;
	m->member = 0;
	m->run = (struct vmp_virt_run){ 0 };
	vmp_member_to_core(m);
	remove_from_core(m);
	vmp_sync_stop(m);
	vmp_signs_stop(m);
	checker_stop(&m->own);
	checker_stop(&m->peer);
	m->peer_node = 0;
	m->phase = VMP_HOST_IDLE;
	m->told = VMP_TOLD_STOPPED;
	m->told_changed_ns = 0;
	if (!m->start_failed) /* Pacemaker stops what did not start: the reason is still wanted after that */
		m->fail_reason[0] = '\0';
	m->guard = vmp_vrrp_guard_stop(m->guard);
	r = vmp_gate_port_del(m->d->gate, m->id);
	if (r == -ENOENT) /* one that was never taken over */
		r = vmp_gate_forget(m->d->gate, m->id, m->name);
	if (r < 0 && r != -ENOENT)
		vmp_log(LOG_ERR, "%s: the entry port that an earlier vmpaird has left cannot be closed before its lease ends: %s", m->name, strerror(-r));
	vmp_virt_pair_del(m->d->virt, m->id);
	if (m->d->pcmk && m->rsc[0])
		vmp_pcmk_score(m->d->pcmk, m->name, m->rsc, NULL, false, 0);
	m->score_known = false;
	remove_facts(m);
	vmp_journal_add(m->d->journal, m->name, 0, "stopped", "VM of this node");
	vmp_group_publish_soon(m->d);
	answer_when_unscored(m);
	m->retired = false;
	vmp_member_merged(m->d);
	if (m->monitor_token) {
		vmp_ctl_reply_ocf(m->d->ctl, m->monitor_token, VMP_OCF_NOT_RUNNING, "");
		m->monitor_token = 0;
		json_decref(m->monitor);
		m->monitor = NULL;
	}
}

/*
 * The process is there still: it stays STOPPING, so that no monitor calls it gone and no start comes in between, and the next stop tries
 * again.
 */
static void stop_failed(struct vmp_member *m, const char *why)
{
	uint64_t token = m->stop_token;

	m->restarting = false;
	m->stop_token = 0;
	m->stop_failed = true;
	snprintf(m->fail_reason, sizeof(m->fail_reason), "stop failed: %.140s", why);
	vmp_log(LOG_ERR, "%s: %s", m->name, m->fail_reason);
	vmp_journal_add(m->d->journal, m->name, 0, "stop-failed", "%s", why);
	vmp_group_publish_soon(m->d);
	if (token)
		vmp_ctl_reply_ocf(m->d->ctl, token, VMP_OCF_ERR_GENERIC, why);
}

void vmp_member_stop_now(struct vmp_member *m)
{
	struct vmp_virt_stop how = { .graceful_ms = m->retired ? 0 : m->params.stop_timeout_ms, .destroy_ms = m->retired ? 200 : 0 };
	int r;

	m->stop_handed = true;
	m->stop_failed = false;
	vmp_member_to_core(m);
	r = vmp_virt_stop(m->d->virt, m->id, &how, m->id);
	if (r == -ENOENT) {
		stopped(m);
		return;
	}
	if (r < 0) {
		vmp_log(LOG_ERR, "%s: stop: %s; the VM's process is killed", m->name, strerror(-r));
		if (vmp_virt_kill(m->d->virt, m->id) == -ESRCH)
			stopped(m);
		else
			m->stop_failed = true; /* its end is told by EXITED; if not, the next stop tries again */
	}
}

void vmp_member_stop(struct vmp_member *m, uint64_t token)
{
	struct vmp_event ev = { .type = VMP_EV_DEMOTE, .pair = m->id };

	if (m->start_token)
		reply_start(m, VMP_OCF_ERR_GENERIC, "stopped while it started");
	m->stale = false; /* Pacemaker sees to it */
	if (m->stop_token) /* Pacemaker gave up on the earlier one and asks again: answer the newer */
		vmp_ctl_reply_ocf(m->d->ctl, m->stop_token, VMP_OCF_ERR_GENERIC, "superseded by another stop");
	m->stop_token = token;
	if (m->phase == VMP_HOST_IDLE) {
		answer_when_unscored(m);
		return;
	}
	if (m->phase == VMP_HOST_STOPPING && !m->restarting) {
		if (m->stop_failed)
			vmp_member_stop_now(m);
		return;
	}
	m->phase = VMP_HOST_STOPPING;
	m->restarting = m->stop_handed = m->stop_failed = false;
	vmp_journal_add(m->d->journal, m->name, 0, "stopping", "asked for by Pacemaker or an operator");
	if (m->d->core_up && m->in_core && m->last_role != VMP_ROLE_NONE) {
		vmp_exec_op(m->d, VMP_OP_STOP, 0, &ev); /* the VM ends when the entry is closed and handed over */
	} else {
		vmp_gate_close(m->d->gate, m->id, 0);
		vmp_member_stop_now(m);
	}
}

/* --- a third member (A5) ----------------------------------------------------------------------------------------------------------------- */
static bool surplus(const struct vmp_member *m, const struct vmp_pair_view *v)
{
	const struct vmp_daemon *d = m->d;
	struct vmp_agree_third in = { .frozen = m->frozen, .role_none = v->role == VMP_ROLE_NONE, .member = m->member,
				      .holder_member = v->reg.state.holder_member, .sync_member = v->reg.state.sync_member,
				      .apart = !d->corosync_up };

	for (unsigned i = 0; i < d->core.config.n && in.n_heard < VMP_AGREE_HEARD_MAX; i++) {
		uint8_t node = d->core.config.voter[i].node;

		if (node == d->node || !(v->peer[i].flags & VMP_MEMBER_LISTED) || !told_lately(d, i))
			continue;
		in.heard[in.n_heard++] = v->peer[i].flags & VMP_MEMBER_RUNNING ? v->peer[i].member : 0;
		in.apart |= !vmp_group_has(d, node);
	}
	return vmp_agree_surplus(&in);
}

static void end_if_surplus(struct vmp_member *m)
{
	struct vmp_pair_view v;

	if (m->phase != VMP_HOST_RUNNING || !vmp_member_view(m, &v) || !surplus(m, &v))
		return;
	vmp_log(LOG_NOTICE, "%s: VM is ended: the pair has become whole without it (primary on %s)", m->name, vmp_node_name(m->d, v.primary));
	vmp_journal_add(m->d->journal, m->name, v.reg.state.epoch, "surplus", "VM is ended: the pair has become whole without it (primary on %s)",
			vmp_node_name(m->d, v.primary));
	m->phase = VMP_HOST_STOPPING;
	m->retired = m->stale = true;
	if (m->d->pcmk && m->rsc[0] && vmp_pcmk_ban(m->d->pcmk, m->name, m->rsc, true) == 0)
		m->retired_ns = vmp_now_ns();
	vmp_gate_close(m->d->gate, m->id, 0);
	vmp_member_stop_now(m);
}

/* Once the cluster has been one again for a while, Pacemaker has seen that there are two members, and may use this node as any other. */
static void let_back(struct vmp_member *m)
{
	struct vmp_daemon *d = m->d;

	if (!m->retired_ns)
		return;
	if (!d->quorate)
		m->retired_ns = vmp_now_ns();
	else if (vmp_now_ns() - m->retired_ns >= LET_BACK_MS * ms_ns && d->pcmk && vmp_pcmk_ban(d->pcmk, m->name, m->rsc, false) == 0)
		m->retired_ns = 0;
}

/*
 * After a short cut corosync merges before the Pacemaker of this side has stopped the member that has retired. It would count as a third one,
 * and be it the primary's instance that has the number too many. So its record goes while Pacemaker's nodes join each other, which takes
 * them longer than this.
 */
void vmp_member_merged(struct vmp_daemon *d)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];

		if (m->used && m->stale && m->phase == VMP_HOST_IDLE && d->quorate && d->pcmk)
			m->stale = vmp_pcmk_refresh(d->pcmk, m->name, m->rsc) < 0;
	}
}

/* --- events of the virtual machines ---------------------------------------------------------------------------------------------------- */
void vmp_member_virt_events(struct vmp_daemon *d)
{
	struct vmp_virt_event ev;

	while (vmp_virt_next(d->virt, &ev) > 0) {
		struct vmp_member *m = ev.pair_id ? vmp_member_by_id(d, ev.pair_id) : NULL;

		if (!ev.pair_id) {
			if (ev.type == VMP_VIRT_LIBVIRTD_LOST || ev.type == VMP_VIRT_LIBVIRTD_BACK) {
				d->libvirt_up = ev.type == VMP_VIRT_LIBVIRTD_BACK;
				vmp_log(d->libvirt_up ? LOG_NOTICE : LOG_WARNING, "libvirtd %s%s%s", d->libvirt_up ? "is there" : "is lost",
					ev.reason[0] ? ": " : "", ev.reason);
				vmp_journal_add(d->journal, NULL, 0, d->libvirt_up ? "libvirtd-up" : "libvirtd-lost", "%s", ev.reason);
				vmp_group_publish_soon(d);
			} else {
				vmp_log(LOG_INFO, "libvirt: %s", ev.reason);
			}
			continue;
		}
		if (ev.type == VMP_VIRT_REMOVED && ev.rc < 0 && ev.rc != -ENOENT)
			vmp_log(LOG_WARNING, "disks of a deleted pair are left: %s", ev.reason[0] ? ev.reason : strerror(-ev.rc));
		if (!m)
			continue;
		switch (ev.type) {
		case VMP_VIRT_STARTED:
			if (m->phase != VMP_HOST_STARTING)
				break;
			if (ev.rc < 0) {
				start_failed(m, VMP_OCF_ERR_GENERIC, ev.reason[0] ? ev.reason : strerror(-ev.rc));
				break;
			}
			vmp_log(LOG_NOTICE, "%s: VM runs, process %d", m->name, (int)ev.run.pid);
			vmp_journal_add(d->journal, m->name, 0, "started", "VM runs, process %d", (int)ev.run.pid);
			if (!m->restarting)
				m->told = VMP_TOLD_UNPROMOTED;
			else if (d->pcmk && vmp_pcmk_count(d->pcmk, m->name, m->rsc) < 0)
				vmp_log(LOG_WARNING, "%s: the restart in place is not counted in Pacemaker's fail count", m->name);
			m->restarting = false;
			m->fail_reason[0] = '\0';
			vm_runs(m, &ev.run, vmp_member_new_id());
			reply_start(m, VMP_OCF_OK, "");
			break;
		case VMP_VIRT_STOPPED:
			if (m->phase != VMP_HOST_STOPPING)
				break;
			if (ev.rc == 0 && m->restarting) {
				m->stopped_here = true;
				start_again(m);
			} else if (ev.rc == 0)
				stopped(m);
			else if (ev.rc != -ECANCELED) /* superseded: the result of the newer one counts */
				stop_failed(m, ev.reason[0] ? ev.reason : strerror(-ev.rc));
			break;
		case VMP_VIRT_FOUND:
			vmp_log(LOG_WARNING, "%s: its VM was started by somebody else (process %d); it is taken over", m->name,
				(int)ev.run.pid);
			if (m->phase == VMP_HOST_IDLE)
				answer_stop(m);
			if (m->phase == VMP_HOST_FAILED || m->phase == VMP_HOST_IDLE) {
				vm_runs(m, &ev.run, vmp_member_new_id());
				found_port(m);
			}
			break;
		case VMP_VIRT_EXITED:
			if (m->phase == VMP_HOST_STOPPING && m->stop_failed && ev.gone)
				stopped(m);
			if (m->phase != VMP_HOST_RUNNING)
				break;
			vmp_journal_add(d->journal, m->name, 0, end_word(m), "VM %s: %s", ev.gone ? "exited" : "is about to exit", ev.reason);
			vmp_log(LOG_WARNING, "%s: VM ended: %s", m->name, ev.reason);
			if (ev.how == VMP_VIRT_HOW_SHUTDOWN && vmp_signs_shutdown(m))
				vm_off(m, "the guest shut itself down, and on_shutdown=report");
			else
				vm_over(m, vmp_virt_how_str(ev.how), ev.how == VMP_VIRT_HOW_MIGRATED);
			break;
		case VMP_VIRT_GONE:
			if (m->phase == VMP_HOST_STOPPING && m->stop_failed)
				stopped(m);
			break;
		case VMP_VIRT_CAUSE:
			vmp_journal_add(d->journal, m->name, 0, "libvirt", "%s %s", vmp_virt_how_str(ev.how), ev.reason);
			if (ev.how == VMP_VIRT_HOW_MIGRATED)
				no_restart(m, "it was migrated to another host");
			break;
		case VMP_VIRT_REBOOTED:
			vmp_journal_add(d->journal, m->name, 0, vmp_virt_event_str(ev.type), "%s", ev.reason);
			vmp_log(LOG_NOTICE, "%s: VM %s", m->name, vmp_virt_event_str(ev.type));
			vmp_signs_virt(m, &ev);
			break;
		case VMP_VIRT_PAUSED:
		case VMP_VIRT_RESUMED:
		case VMP_VIRT_PANICKED:
		case VMP_VIRT_WATCHDOG:
		case VMP_VIRT_IO_ERROR:
		case VMP_VIRT_RESET:
		case VMP_VIRT_PONG:
			vmp_signs_virt(m, &ev);
			break;
		default:
			if (ev.reason[0])
				vmp_log(LOG_INFO, "%s: %s", m->name, ev.reason);
			break;
		}
	}
}

/* --- adoption by a restarted daemon ------------------------------------------------------------------------------------------------------- */
static void cannot_adopt(struct vmp_daemon *d, const struct vmp_facts *f, const char *reason)
{
	vmp_log(LOG_ERR, "%s: cannot be taken over: %s", f->pair, reason);
	vmp_journal_add(d->journal, f->pair, 0, "not-taken-over", "%s", reason);
	for (unsigned i = 0; f->pid && i < ARRAY_SIZE(d->unadopted); i++) {
		struct vmp_unadopted *u = &d->unadopted[i];

		if (u->run.pid)
			continue;
		u->run = (struct vmp_virt_run){ f->pid, f->start_time };
		snprintf(u->pair, sizeof(u->pair), "%s", f->pair);
		snprintf(u->reason, sizeof(u->reason), "%s", reason);
		break;
	}
}

/* keepalived tells of changes only, and nobody listened while no daemon ran. */
static void adopt_vrrp(struct vmp_member *m, const struct vmp_facts *f)
{
	const char *state = f->vrrp;

	if (vmp_vrrp_carries(&m->params.entry[0]))
		state = "MASTER";
	else if (!strcmp(state, "MASTER"))
		state = "";
	snprintf(m->vrrp, sizeof(m->vrrp), "%s", state);
	vmp_journal_add(m->d->journal, m->name, 0, "vrrp", "%s", *state ? state : "unknown, no master");
}

static int adopt(const struct vmp_facts *f, void *data)
{
	struct vmp_daemon *d = data;
	struct vmp_member *m;
	char reason[200];
	int r;

	m = vmp_member_new(d, f->pair);
	if (!m) {
		cannot_adopt(d, f, "too many pairs on this node");
		return 0;
	}
	r = vmp_member_configure(m, f->params, f->rsc, reason, sizeof(reason));
	if (r < 0) {
		cannot_adopt(d, f, reason);
		vmp_member_forget(m);
		return 0;
	}
	m->told = f->told;
	if (m->params.entry_mode == VMP_ENTRY_KEEPALIVED && *f->vrrp)
		adopt_vrrp(m, f);
	r = register_virt(m);
	if (r < 0) {
		cannot_adopt(d, f, strerror(-r));
		vmp_member_forget(m);
		return 0;
	}
	m->phase = m->run.pid ? VMP_HOST_RUNNING : VMP_HOST_FAILED;
	if (m->run.pid) {
		struct vmp_domxml_params p = { .pair = m->name, .slot = &m->slot, .entry_nic = guest_entry_nic(&m->params), .entry = m->params.entry,
					       .n_entry = m->params.n_entry,
					       .internal = m->params.has_internal ? &m->internal : NULL, .disk_dir = "/nonexistent" };
		CLEANUP_FREE char *text = NULL;
		size_t len;

		/* Start-up: blocking reads are allowed here. */
		if (vmp_domxml_read(m->params.domain, &text, &len, reason, sizeof(reason)) < 0 ||
		    vmp_domxml_build(text, len, m->params.domain, &p, &m->dom, reason, sizeof(reason)) < 0)
			vmp_log(LOG_WARNING, "%s: %s; the VM goes on with the entry port that it had", m->name, reason);
		else if (!f->has_nic)
			nic_of_dom(m);
		if (f->has_nic) {
			m->nic.known = true;
			m->nic.multi_queue = f->entry_multi_queue;
			memcpy(m->nic.mac, f->entry_mac, sizeof(m->nic.mac));
		}
		if (m->nic.known || m->params.entry_mode != VMP_ENTRY_BRIDGE)
			make_port(m);
		else
			without_port(m, "is not known");
		/* The very process that this content id was given to: (pid, start time) are unique within a boot. */
		m->member = f->pid == m->run.pid && f->start_time == m->run.start_ticks && f->member ? f->member : vmp_member_new_id();
		if (!vmp_sync_adopt(m, f)) {
			m->member = vmp_member_new_id(); /* what the old relay held is lost */
			vmp_sync_start(m);
		}
		if (m->ready_spec.kind != VMP_PROBE_NONE)
			checker_begin(&m->own);
		vmp_signs_start(m);
		vmp_log(LOG_NOTICE, "%s: VM taken over, process %d", m->name, (int)m->run.pid);
	}
	return 0;
}

void vmp_member_adopt_all(struct vmp_daemon *d)
{
	char dir[300];

	snprintf(dir, sizeof(dir), "%s/pairs", d->conf.runtime_dir);
	vmp_facts_each(dir, adopt, d);
}

/* --- live changes -------------------------------------------------------------------------------------------------------------------------- */
int vmp_member_reconfigure(struct vmp_member *m, const json_t *params, char *reason, size_t size)
{
	struct vmp_pair_params p;
	struct errbuf e = { reason, size };
	const char *name = "";
	struct vmp_gate_addr addrs[VMP_GATE_MAX_ADDRS];
	int r;

	reason[0] = '\0';
	r = vmp_pair_params_parse(params, &p, first_error, &e);
	if (r < 0)
		return r;
	if (m->params_json && m->phase != VMP_HOST_IDLE) {
		r = vmp_pair_params_reloadable(&m->params, &p, &name);
		if (r < 0) {
			snprintf(reason, size, "parameter %s cannot change while the VM runs", name);
			return r;
		}
	}
	r = vmp_member_configure(m, params, NULL, reason, size);
	if (r < 0)
		return r;
	if (m->phase == VMP_HOST_IDLE)
		return 0;
	r = vmp_gate_port_addrs(m->d->gate, m->id, addrs, gate_addrs(m, addrs));
	if (r < 0 && r != -ENOENT)
		vmp_log(LOG_ERR, "%s: entry addresses: %s", m->name, strerror(-r));
	if (m->phase == VMP_HOST_RUNNING) {
		checker_stop(&m->own);
		checker_stop(&m->peer);
		m->peer_node = 0;
		if (m->ready_spec.kind != VMP_PROBE_NONE) {
			m->own.ok = m->own.answered = m->core_ready; /* a changed check has to fail first */
			checker_begin(&m->own);
		}
	}
	vmp_sync_reconfigure(m);
	vmp_signs_reconfigure(m);
	to_core_policy(m);
	vmp_member_to_core(m);
	vmp_member_changed(m);
	return 0;
}

static void remove_disks(struct vmp_daemon *d, const char *name)
{
	char dir[400];

	snprintf(dir, sizeof(dir), "%s/disks/%s", d->conf.state_dir, name);
	if (access(dir, F_OK) == 0 && vmp_virt_remove(d->virt, vmp_pair_id(name), dir, 10000, vmp_pair_id(name)) < 0)
		vmp_log(LOG_WARNING, "%s: %s is left", name, dir);
}

/*
 * Pacemaker has stopped the member here after a failed monitor, and the pair is whole on other nodes: what may be left of that monitor in
 * its status would count as a third member (vmp_pcmk_unpend). Not before: until then it has Pacemaker start the member here again.
 */
static void forget_monitor(struct vmp_member *m)
{
	const struct vmp_daemon *d = m->d;
	unsigned others = 0;

	if (!m->monitor_failed || m->phase != VMP_HOST_IDLE || !d->pcmk || !d->quorate || !m->rsc[0])
		return;
	for (unsigned i = 0; i < d->n_nodes; i++) {
		const json_t *p = d->nodes[i].id == d->node ? NULL : vmp_group_pair(d, d->nodes[i].id, m->name);
		const char *role = json_string_value(json_object_get(p, "role"));

		others += role && (!strcmp(role, "starting") || !strcmp(role, "standby") || !strcmp(role, "primary"));
	}
	if (others >= 2 && vmp_pcmk_unpend(d->pcmk, m->name, m->rsc) == 0)
		m->monitor_failed = false;
}

/* A pair that is not in the CIB and has no VM here: nothing of it stays. Its VM may end only after it was taken out of the CIB. */
static void forget_if_deleted(struct vmp_member *m)
{
	struct vmp_daemon *d = m->d;

	if (m->phase != VMP_HOST_IDLE || m->close_op) /* the core waits for that */
		return;
	if (in_cib(&d->cib, m->name))
		return;
	answer_stop(m);
	remove_disks(d, m->name);
	if (d->pcmk)
		vmp_pcmk_forget(d->pcmk, m->name);
	vmp_journal_add(d->journal, m->name, 0, "deleted", "the pair is not in the CIB any more");
	vmp_member_forget(m);
	vmp_group_publish_soon(d);
}

void vmp_member_cib(struct vmp_daemon *d, const struct vmp_cib *cib)
{
	/* Disks of an earlier member: only a deletion seen happening counts, an old or empty CIB must not cost data. */
	for (unsigned i = 0; i < d->cib.n_pairs; i++)
		if (!in_cib(cib, d->cib.pairs[i].pair) && !vmp_member_by_name(d, d->cib.pairs[i].pair))
			remove_disks(d, d->cib.pairs[i].pair);
	d->cib = *cib;
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];
		const struct vmp_cib_pair *p = NULL;

		if (!m->used)
			continue;
		for (unsigned k = 0; k < cib->n_pairs && !p; k++)
			if (!strcmp(cib->pairs[k].pair, m->name))
				p = &cib->pairs[k];
		if (!p) {
			forget_if_deleted(m);
			continue;
		}
		m->cib_known = true;
		snprintf(m->rsc, sizeof(m->rsc), "%s", p->rsc);
		snprintf(m->frozen_reason, sizeof(m->frozen_reason), "%s", p->frozen_reason);
		if (p->frozen != m->frozen) {
			struct vmp_event ev = { .type = VMP_EV_FREEZE, .pair = m->id, .on = p->frozen };

			m->frozen = p->frozen;
			vmp_log(LOG_NOTICE, "%s: fast failover %s%s%s", m->name, m->frozen ? "frozen: " : "active again", p->frozen_reason,
				"");
			vmp_journal_add(d->journal, m->name, 0, m->frozen ? "frozen" : "unfrozen", "%s", p->frozen_reason);
			if (m->in_core)
				vmp_exec_feed(d, &ev);
			if (!m->frozen && d->pcmk)
				vmp_pcmk_rewrite(d->pcmk, m->name);
			vmp_member_changed(m);
		}
	}
}

/* A few times a second: what is derived from the core's view and not tied to one event. */
void vmp_member_slow(struct vmp_daemon *d)
{
	if (d->vrrp)
		vmp_vrrp_slow(d->vrrp);
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];

		if (!m->used)
			continue;
		vmp_exec_close_again(m);
		if (m->port_again && m->phase == VMP_HOST_RUNNING) {
			m->port_again = false;
			make_port(m);
		}
		let_back(m);
		forget_monitor(m);
		if (m->phase == VMP_HOST_IDLE && m->cib_known) {
			forget_if_deleted(m);
			continue;
		}
		if (!m->in_core)
			continue;
		track_told(m);
		update_score(m);
		if (m->restarting && m->stopped_here && m->phase == VMP_HOST_STOPPING)
			start_again(m);
		watch_peer(m);
		end_if_surplus(m);
		vmp_signs_slow(m);
		vmp_sync_update(m);
		if (m->monitor_token && vmp_member_flip_pending(m)) {
			/* A transition that was aborted meanwhile waits for this very answer; the next monitor tells the truth. */
			if (vmp_now_ns() - m->monitor_ns > MONITOR_WAIT_MS * ms_ns) {
				vmp_ctl_reply_ocf(d->ctl, m->monitor_token, VMP_OCF_OK, "");
				m->monitor_token = 0;
				json_decref(m->monitor);
				m->monitor = NULL;
			}
		} else if (m->monitor_token) {
			json_t *msg = m->monitor;
			uint64_t token = m->monitor_token;

			m->monitor = NULL;
			m->monitor_token = 0;
			vmp_request_monitor(d, token, m, msg);
			json_decref(msg);
		}
	}
}
