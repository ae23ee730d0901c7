/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of agents and of vmpair(8): see ctl.h for what each is and what it answers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "daemon/daemon.h"
#include "daemon/proc.h"
#include "daemon/witness.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum { REGISTERS_LOW = 8 };

static const char *get_text(const json_t *msg, const char *key)
{
	const char *s = json_string_value(json_object_get(msg, key));

	return s ? s : "";
}

static uint64_t get_number(const json_t *msg, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(msg, key));

	return v > 0 ? (uint64_t)v : 0;
}

static void ocf(struct vmp_daemon *d, uint64_t token, int code, const char *reason)
{
	vmp_ctl_reply_ocf(d->ctl, token, code, reason);
}

/* --- agents -------------------------------------------------------------------------------------------------------------- */
static void do_start(struct vmp_daemon *d, uint64_t token, const char *pair, json_t *msg)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);
	json_t *params = json_object_get(msg, "params");
	bool fresh = !m;
	char reason[200];
	int r;

	if (!d->core_up) {
		ocf(d, token, VMP_OCF_ERR_GENERIC, "vmpaird has no connection to corosync yet");
		return;
	}
	if (m && m->phase == VMP_HOST_RUNNING) {
		r = vmp_member_reconfigure(m, params, reason, sizeof(reason));
		if (r < 0)
			ocf(d, token, VMP_OCF_ERR_CONFIGURED, reason);
		else
			ocf(d, token, VMP_OCF_OK, "");
		return;
	}
	if (m && m->phase != VMP_HOST_IDLE && m->phase != VMP_HOST_FAILED) {
		ocf(d, token, VMP_OCF_ERR_GENERIC, "another start or stop of this pair is under way");
		return;
	}
	if (vmp_bars_self(d, reason, sizeof(reason))) {
		vmp_bars_keep_off(d, pair, get_text(msg, "rsc"), true);
		ocf(d, token, VMP_OCF_ERR_GENERIC, reason);
		return;
	}
	if (!m)
		m = vmp_member_new(d, pair);
	if (!m) {
		ocf(d, token, VMP_OCF_ERR_GENERIC, "too many pairs on this node");
		return;
	}
	r = vmp_member_configure(m, params, get_text(msg, "rsc"), reason, sizeof(reason));
	if (r < 0) {
		if (fresh)
			vmp_member_forget(m);
		ocf(d, token, VMP_OCF_ERR_CONFIGURED, reason);
		return;
	}
	vmp_member_start(m, token);
}

void vmp_request_monitor(struct vmp_daemon *d, uint64_t token, struct vmp_member *m, json_t *msg)
{
	uint64_t now = vmp_now_ns();
	struct vmp_agree_out out;
	struct vmp_agree_in in = { 0 };
	const char *role = get_text(msg, "role");
	bool well;

	in.interval_ms = get_number(msg, "interval_ms");
	in.probe = in.interval_ms == 0;
	in.primary = vmp_member_primary(m);
	in.frozen = m->frozen || m->signs.held; /* no flip will come */
	in.told = m->told;
	in.op_role = !strcmp(role, "Promoted") ? VMP_TOLD_PROMOTED : !strcmp(role, "Unpromoted") ? VMP_TOLD_UNPROMOTED :
												  VMP_TOLD_UNKNOWN;
	switch (m->phase) {
	case VMP_HOST_RUNNING:
	case VMP_HOST_STARTING:
	case VMP_HOST_PREPARING:
	case VMP_HOST_STOPPING:
		in.vm = VMP_VM_RUNNING;
		break;
	case VMP_HOST_IDLE:
	case VMP_HOST_FAILED:
		in.vm = VMP_VM_GONE;
		break;
	}
	in.since_ms = m->told_changed_ns ? (now - m->told_changed_ns) / ms_ns : 0;
	if (in.told == VMP_TOLD_PROMOTED && !in.primary) {
		struct vmp_pair_view v;

		/* Nobody took over and nobody can: no flip of the scores will come. */
		in.no_successor = vmp_member_view(m, &v) && v.reg.state.sync_node == 0 && v.primary == d->node;
	}
	out = vmp_agree_monitor(&in);
	if (m->told != out.told) {
		m->told = out.told;
		vmp_member_changed(m);
	}
	well = out.rc == VMP_OCF_OK || out.rc == VMP_OCF_RUNNING_PROMOTED;
	ocf(d, token, out.rc, out.reason ? out.reason : well ? "" : m->fail_reason);
	if (in.probe)
		return;
	if (well)
		m->monitor_failed = false;
	if (!well) {
		m->failed_op = "monitor";
		m->monitor_failed = true;
		m->failed_interval_ms = (uint32_t)in.interval_ms;
	} else if (m->failed_op && m->phase == VMP_HOST_RUNNING && out.rc == VMP_OCF_OK) {
		/* Started anew, and Pacemaker looks after it again: before it can be promoted, since the guest has just begun to boot. */
		if (d->pcmk && d->quorate && !vmp_pcmk_clean(d->pcmk, m->name, m->rsc, m->failed_op, m->failed_interval_ms))
			m->failed_op = NULL;
	}
}

/*
 * Pacemaker (2.1) finds changed parameters by a member's last start or promote only: one that was demoted since is not told to reload, but
 * its next monitor carries them.
 */
static void follow_params(struct vmp_member *m, json_t *params)
{
	char reason[200];
	int r;

	if (m->phase != VMP_HOST_RUNNING || !json_object_size(params) || json_equal(params, m->params_json) ||
	    json_equal(params, m->params_refused))
		return;
	r = vmp_member_reconfigure(m, params, reason, sizeof(reason));
	json_decref(m->params_refused);
	m->params_refused = r < 0 ? json_incref(params) : NULL;
	if (r < 0)
		vmp_log(LOG_WARNING, "%s: changed parameters are not in force: %s", m->name, reason);
	vmp_journal_add(m->d->journal, m->name, 0, r < 0 ? "not-reloaded" : "reloaded", "%s", r < 0 ? reason : "parameters changed live");
}

static void do_monitor(struct vmp_daemon *d, uint64_t token, const char *pair, json_t *msg)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);

	if (m && get_number(msg, "interval_ms"))
		follow_params(m, json_object_get(msg, "params"));
	if (!m) {
		ocf(d, token, VMP_OCF_NOT_RUNNING, "");
	} else if (get_number(msg, "interval_ms") && m->told == VMP_TOLD_UNPROMOTED && m->phase == VMP_HOST_FAILED &&
		   !m->monitor_token && vmp_member_flip_pending(m)) {
		m->monitor = json_incref(msg); /* its 7 is told when the new primary has been promoted */
		m->monitor_token = token;
		m->monitor_ns = vmp_now_ns();
	} else {
		vmp_request_monitor(d, token, m, msg);
	}
}

static void do_promote(struct vmp_daemon *d, uint64_t token, const char *pair, json_t *msg)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);
	uint64_t timeout_ms = get_number(msg, "timeout_ms"), now = vmp_now_ns();
	struct vmp_event ev = { .type = VMP_EV_PROMOTE };
	struct vmp_pair_view v;

	if (!m || m->phase != VMP_HOST_RUNNING) {
		ocf(d, token, VMP_OCF_NOT_RUNNING, "the VM of this node does not run");
		return;
	}
	if (vmp_member_view(m, &v) && v.role == VMP_ROLE_HOLDING && v.on_run) {
		m->told = VMP_TOLD_PROMOTED;
		vmp_journal_add(d->journal, m->name, v.epoch, "agreed", "Pacemaker promotes %s, which is primary already", d->node_name);
		vmp_member_changed(m);
		ocf(d, token, VMP_OCF_OK, "");
		return;
	}
	/* Pacemaker wants it here while another node serves: have that one hand over, rather than wait for a lease that does not end. */
	if (vmp_member_view(m, &v) && v.primary && v.primary != d->node && v.sync_node == d->node && vmp_group_has(d, v.primary))
		vmp_group_forward(d, 0, "switchover", m->name);
	ev.pair = m->id;
	ev.deadline_ns = now + (timeout_ms ? timeout_ms * 8 / 10 : 20000) * ms_ns;
	vmp_fencing_urgent(d, ev.deadline_ns); /* T4, R3: Pacemaker promotes once it has fenced */
	vmp_exec_op(d, VMP_OP_PROMOTE, token, &ev);
}

static void do_demote(struct vmp_daemon *d, uint64_t token, const char *pair)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);
	struct vmp_event ev = { .type = VMP_EV_DEMOTE };
	struct vmp_pair_view v;

	if (m && vmp_member_view(m, &v) && v.role != VMP_ROLE_NONE && m->told == VMP_TOLD_PROMOTED) {
		vmp_journal_add(d->journal, m->name, v.epoch, "cause", "Pacemaker demotes %s", d->node_name);
		ev.pair = m->id;
		vmp_exec_op(d, VMP_OP_DEMOTE, token, &ev);
		return;
	}
	if (m) {
		if (m->told == VMP_TOLD_PROMOTED)
			vmp_journal_add(d->journal, m->name, 0, "agreed", "Pacemaker demotes %s, which is not primary any more",
					d->node_name);
		m->told = m->phase == VMP_HOST_IDLE ? VMP_TOLD_STOPPED : VMP_TOLD_UNPROMOTED;
		vmp_member_changed(m);
	}
	ocf(d, token, VMP_OCF_OK, "");
}

static void do_reload(struct vmp_daemon *d, uint64_t token, const char *pair, json_t *msg)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);
	char reason[200];
	int r;

	if (!m) {
		ocf(d, token, VMP_OCF_NOT_RUNNING, "no such pair on this node");
		return;
	}
	r = vmp_member_reconfigure(m, json_object_get(msg, "params"), reason, sizeof(reason));
	if (r == 0)
		vmp_journal_add(d->journal, m->name, 0, "reloaded", "parameters changed live");
	ocf(d, token, r == 0 ? VMP_OCF_OK : VMP_OCF_ERR_CONFIGURED, r == 0 ? "" : reason);
}

static void do_validate(struct vmp_daemon *d, uint64_t token, const char *pair, json_t *msg)
{
	static struct vmp_member scratch; /* large; configured and thrown away */
	struct vmp_member *m = vmp_member_by_name(d, pair);
	char reason[200] = "";
	int r;

	memset(&scratch, 0, sizeof(scratch));
	scratch.d = d;
	scratch.id = m ? 0 : vmp_pair_id(pair);
	snprintf(scratch.name, sizeof(scratch.name), "%s", pair);
	if (m) { /* its own addresses are no conflict */
		struct vmp_pair_params p;

		r = vmp_pair_params_parse(json_object_get(msg, "params"), &p, NULL, NULL);
	} else {
		r = vmp_member_configure(&scratch, json_object_get(msg, "params"), "", reason, sizeof(reason));
		json_decref(scratch.params_json);
	}
	ocf(d, token, r == 0 ? VMP_OCF_OK : VMP_OCF_ERR_CONFIGURED, reason);
}

/* --- operators ------------------------------------------------------------------------------------------------------------------ */
static json_t *node_status(struct vmp_daemon *d)
{
	return json_pack("{s:i s:s s:s s:I s:b}", "id", (int)d->node, "name", d->node_name, "version", PACKAGE_VERSION, "uptime_ms",
			 (json_int_t)((vmp_now_ns() - d->started_ns) / ms_ns), "witness", d->as_witness);
}

static json_t *cluster_status(struct vmp_daemon *d, const struct vmp_node_view *nv)
{
	const char *pcmk = d->pcmk_state == VMP_PCMK_UP ? "up" : d->pcmk_state == VMP_PCMK_ABSENT ? "absent" : "unknown";
	bool fast = d->core_up && nv->fast_node_loss, two = nv->n == 2;
	const char *none = vmp_fencing_none(d);
	char why[320];

	if (fast)
		snprintf(why, sizeof(why), "three or more voters: a lost node's leases run out");
	else if (two && d->cib_known && !none)
		snprintf(why, sizeof(why), "two voters: pairs of a lost node move when Pacemaker has fenced it (device: %s)", d->cib.power);
	else if (two)
		snprintf(why, sizeof(why), "two voters: which one is lost cannot be told without a third, nor by fencing%s%s (vmpaird(8), WITNESS)",
			 none ? ": " : "", none ? none : "");
	else
		snprintf(why, sizeof(why), "%s", nv->n == 1 ? "one voter: no other node is asked, and none takes over" :
							     "no voter set yet: all nodes must have been seen once");
	return json_pack("{s:b s:s s:s s:s s:i s:i s:i s:s s:s}", "quorate", d->quorate, "corosync", d->as_witness ? "none" :
			 d->corosync_up ? "up" : "down", "pacemaker", d->as_witness ? "none" : pcmk, "libvirt", d->as_witness ? "none" :
			 d->libvirt_up ? "up" : "down", "voters", nv->n, "majority", nv->m, "heard",
			 nv->heard, "regime", fast ? "lease" : two && d->cib_known && !none ? "fencing" : "release-only", "regime_reason", why);
}

/* What was refused, by cause. */
static json_t *refused_causes(const struct vmp_net_peer_stats *st, uint64_t *ret_sum)
{
	json_t *o = json_object();

	*ret_sum = 0;
	for (unsigned c = 0; c < VMP_NET_CAUSE_COUNT; c++) {
		if (c == VMP_SEAL_DATA || c == VMP_SEAL_DUPLICATE || c == VMP_SEAL_HELLO || c == VMP_NET_SEND || !st->causes[c])
			continue;
		*ret_sum += st->causes[c];
		json_object_set_new(o, vmp_net_cause_str(c),
				    json_integer((json_int_t)st->causes[c]));
	}
	return o;
}

/* The networks that lead to a node, as corosync.conf has them. Each datagram goes over all. */
static json_t *links_status(const struct vmp_daemon *d, const struct vmp_cluster_node *n, const struct vmp_net_peer_stats *st)
{
	uint64_t now = vmp_now_ns();
	struct vmp_net_addr addr;
	json_t *a = json_array();
	unsigned link = 0;

	for (unsigned l = 0; l < ARRAY_SIZE(n->addr) && link < st->links; l++) {
		const struct vmp_net_link_stats *ls = &st->link[link];

		if (!n->addr[l][0] || vmp_net_addr_parse(n->addr[l], (uint16_t)d->conf.port, &addr) < 0)
			continue;
		json_array_append_new(a, json_pack("{s:s s:b}", "address", n->addr[l], "heard",
						   ls->last_rx_ns && now - ls->last_rx_ns < 1000 * ms_ns));
		link++;
	}
	return a;
}

static json_t *nodes_status(struct vmp_daemon *d, const struct vmp_node_view *nv)
{
	json_t *a = json_array();
	uint64_t now = vmp_now_ns();

	for (unsigned i = 0; i < d->n_nodes; i++) {
		uint8_t id = (uint8_t)d->nodes[i].id;
		struct vmp_net_peer_stats st = { 0 };
		bool voter = false, heard = id == d->node;
		uint64_t refused = 0;
		json_t *causes;

		for (unsigned v = 0; v < nv->config.n; v++)
			if (nv->config.voter[v].node == id) {
				voter = true;
				if (nv->heard_ns[v] && now - nv->heard_ns[v] < (uint64_t)d->conf.lease_ms * ms_ns)
					heard = true;
			}
		if (d->net) /* the row of this node tells of datagrams that belong to no node we know */
			vmp_net_peer_stats(d->net, id == d->node ? 0 : id, &st);
		heard |= !voter && id != d->node && st.last_rx_ns && now - st.last_rx_ns < 1000 * ms_ns;
		causes = refused_causes(&st, &refused);
		json_array_append_new(a, json_pack("{s:i s:s s:b s:b s:b s:I s:b s:I s:o s:o s:o}", "id", (int)id, "name", d->nodes[i].name, "voter",
						   voter, "online", vmp_group_has(d, id) || ((d->as_witness || id == d->witness) && heard), "heard", heard, "rtt_us",
						   (json_int_t)st.rtt_us, "abstaining", id == d->node && nv->abstaining, "refused",
						   (json_int_t)refused, "refused_causes", causes, "fenced", vmp_bars_status(d, id),
						   "links", links_status(d, &d->nodes[i], id == d->node ? &(struct vmp_net_peer_stats){ 0 } : &st)));
	}
	return a;
}

/* Names of all pairs that any node knows. */
static json_t *pair_names(struct vmp_daemon *d, const char *only)
{
	json_t *names = json_object();

	for (unsigned i = 0; i < d->n_nodes; i++) {
		json_t *pairs = json_object_get(vmp_group_state(d, d->nodes[i].id), "pairs"), *p;
		const char *name;

		json_object_foreach(pairs, name, p)
			if (!*only || !strcmp(only, name))
				json_object_set_new(names, name, json_true());
	}
	return names;
}

/* Why a node has no member of this pair, as far as is known here. */
static const char *why_none(struct vmp_daemon *d, unsigned node, const char *node_name, const char *pair, char *buf, size_t size)
{
	const json_t *p = vmp_group_pair(d, node, pair);
	const char *reason = p ? get_text(p, "reason") : "";
	unsigned at = 0;

	while (at < d->cib.n_nodes && strcmp(d->cib.nodes[at].name, node_name))
		at++;
	if (!vmp_group_has(d, node))
		return "not there";
	if (at < d->cib.n_nodes && d->cib.nodes[at].standby)
		return "in standby";
	for (unsigned i = 0; i < d->cib.n_pairs; i++)
		if (!strcmp(d->cib.pairs[i].pair, pair)) {
			if (!d->cib.pairs[i].enabled)
				return "disabled";
			if (at < d->cib.n_nodes && d->cib.pairs[i].banned & 1ull << at)
				return "banned";
		}
	if (!*reason)
		return "not started by Pacemaker";
	snprintf(buf, size, "start failed: %s", reason);
	return buf;
}

static json_t *no_second_member(struct vmp_daemon *d, const char *pair)
{
	char text[1024] = "", buf[200];
	size_t len = 0;

	for (unsigned i = 0; i < d->n_nodes && len < sizeof(text); i++) {
		const json_t *p = vmp_group_pair(d, d->nodes[i].id, pair);

		if (d->nodes[i].id == d->witness)
			continue;

		if (vmp_group_has(d, d->nodes[i].id) && p && strcmp(get_text(p, "role"), "stopped"))
			continue;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %s", len ? "; " : "", d->nodes[i].name,
					why_none(d, d->nodes[i].id, d->nodes[i].name, pair, buf, sizeof(buf)));
	}
	return json_sprintf("no second member: %s", text);
}

/* NULL, shown as null, for what a node that is not there said before. */
static json_t *said(const json_t *p, bool there, const char *key)
{
	return there ? json_object_get(p, key) : NULL;
}

static void relay_status(json_t *r, const char *node, json_t *member, json_t *problems)
{
	uint64_t diverged = vmp_relay_count(json_object_get(r, "stats"), "diverged");

	json_object_set(member, "relay", r);
	if (*get_text(r, "reason"))
		json_array_append_new(problems, json_sprintf("%s: %s", node, get_text(r, "reason")));
	if (diverged)
		json_array_append_new(problems, json_sprintf("%s: %llu answers differ from the primary's (vmpair events names them)", node,
							     (unsigned long long)diverged));
}

static json_t *pair_status(struct vmp_daemon *d, const char *name)
{
	struct vmp_member *m = vmp_member_by_name(d, name);
	uint64_t id = vmp_pair_id(name), now = vmp_now_ns();
	struct vmp_pair_view v = { 0 };
	bool have = d->core_up && vmp_core_pair_view(&d->core, id, now, &v) == 0;
	json_t *members = json_array(), *problems = json_array(), *entries = NULL;
	unsigned n_members = 0, primary = 0, said_primary = vmp_group_primary(d, name);
	const char *rsc = "", *mode = "none", *frozen_reason = "";
	json_t *lease = json_null();
	bool frozen = false, entry_open = false, relay = false;
	json_int_t held_ms = have && v.hold_end_ns > now ? (json_int_t)((v.hold_end_ns - now) / ms_ns) : 0;
	json_int_t epoch = have ? (json_int_t)v.reg.state.epoch : 0;

	for (unsigned i = 0; i < d->n_nodes; i++) {
		unsigned node = d->nodes[i].id;
		const json_t *p = vmp_group_pair(d, node, name);
		const char *role = p ? get_text(p, "role") : "";
		bool there;

		if (!p || !strcmp(role, "stopped"))
			continue;
		there = vmp_group_has(d, node);
		if (!there || (!strcmp(role, "primary") && node != said_primary))
			role = "unknown"; /* what it said last may have changed since, or has */
		n_members += there;
		if (!strcmp(role, "primary")) {
			primary = node;
			mode = get_text(p, "mode");
			entry_open = json_is_true(json_object_get(p, "entry_open"));
		}
		if (!entries)
			entries = json_incref(json_object_get(p, "entries"));
		if (*get_text(p, "rsc"))
			rsc = get_text(p, "rsc");
		if (json_is_true(json_object_get(p, "frozen"))) {
			frozen = true;
			frozen_reason = get_text(p, "frozen_reason");
		}
		json_array_append_new(members, json_pack("{s:s s:i s:s s:O? s:O? s:O? s:O? s:O? s:O? s:s}", "node", d->nodes[i].name, "id",
							 (int)node, "role", role, "running", said(p, there, "running"), "ready",
							 said(p, there, "ready"), "pid", said(p, there, "pid"), "internal",
							 json_object_get(p, "internal"), "told", said(p, there, "told"), "score",
							 said(p, there, "score"), "reason", there ? get_text(p, "reason") : ""));
		if (there && *get_text(p, "reason"))
			json_array_append_new(problems, json_sprintf("%s: %s", d->nodes[i].name, get_text(p, "reason")));
		if (there && *get_text(p, "moved"))
			json_array_append_new(problems, json_sprintf("%s: %s", d->nodes[i].name, get_text(p, "moved")));
		if (there && json_object_get(p, "signs")) {
			json_object_set(json_array_get(members, json_array_size(members) - 1), "signs", json_object_get(p, "signs"));
			vmp_signs_status(d->nodes[i].name, name, json_object_get(p, "signs"), problems);
		}
		if (there && json_object_get(p, "relay")) {
			relay = true;
			relay_status(json_object_get(p, "relay"), d->nodes[i].name, json_array_get(members, json_array_size(members) - 1),
				     problems);
		}
	}
	if (m && have && v.role == VMP_ROLE_HOLDING) {
		primary = d->node;
		lease = json_integer(v.lease_end_ns > now ? (json_int_t)((v.lease_end_ns - now) / ms_ns) : 0);
		mode = vmp_mode_name(v.mode);
		entry_open = v.entry_open && v.lease_end_ns > now;
	}
	if (!primary)
		json_array_append_new(problems, json_sprintf("no primary%s%s", have && v.blocked ? ": " : "",
							     have && v.blocked ? vmp_reason_text(v.blocked) : ""));
	if (relay && primary && !strcmp(mode, "alone"))
		json_array_append_new(problems, json_string("degraded: the primary answers alone, and what it accepts now is lost with it"));
	else if (relay && primary && !strcmp(mode, "wait"))
		json_array_append_new(problems, json_string("no answer leaves while a change of the state is being recorded"));
	if (n_members < 2)
		json_array_append_new(problems, no_second_member(d, name));
	if (frozen)
		json_array_append_new(problems, json_sprintf("fast failover is frozen: %s", frozen_reason));
	if (m && m->link_down)
		json_array_append_new(problems, json_sprintf("the members do not reach each other over the internal net"));
	vmp_copies_status(d, name, problems);
	return json_pack("{s:s s:s s:I s:o s:i s:o s:b s:s s:o s:b s:s s:I s:o s:o s:o}", "name", name, "rsc", rsc, "epoch", epoch,
			 "holder", primary ? json_string(vmp_node_name(d, primary)) : json_null(), "holder_id", (int)primary,
			 "lease_left_ms", lease, "entry_open", entry_open, "mode", mode, "sync",
			 have && v.sync_node ? json_string(vmp_node_name(d, v.sync_node)) : json_null(), "frozen", frozen,
			 "frozen_reason", frozen_reason, "held_ms", held_ms, "entries", entries ? entries : json_array(), "members",
			 members, "problems", problems);
}

/* VMs of pairs that run here beside this daemon, because it did not understand what its predecessor wrote down of them. */
static void not_taken_over(struct vmp_daemon *d, const char *only, json_t *problems)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->unadopted); i++) {
		struct vmp_unadopted *u = &d->unadopted[i];
		uint64_t start = u->run.start_ticks;
		CLEANUP_CLOSE int fd = -1;

		if (!u->run.pid)
			continue;
		if (vmp_proc_open(u->run.pid, &start, &fd) == -ESRCH)
			u->run.pid = 0;
		else if (!*only || !strcmp(only, u->pair))
			json_array_append_new(problems, json_sprintf("%s: its VM runs on this node (process %d), but could not be taken over: "
								     "%s; vmpaird does nothing for it until Pacemaker has stopped it",
								     u->pair, (int)u->run.pid, u->reason));
	}
}

static void do_status(struct vmp_daemon *d, uint64_t token, const char *pair)
{
	struct vmp_node_view nv = { 0 };
	json_t *names, *pairs = json_array(), *problems = json_array(), *value;
	const char *name;
	uint64_t disk_age_ms = 0;
	int disk;

	if (d->core_up)
		vmp_core_node_view(&d->core, vmp_now_ns(), &nv);
	names = pair_names(d, pair);
	if (*pair && json_object_size(names) == 0) {
		json_decref(names);
		json_decref(pairs);
		json_decref(problems);
		vmp_ctl_reply(d->ctl, token, VMP_CTL_NOT_FOUND, "no such pair", NULL);
		return;
	}
	json_object_foreach(names, name, value)
		json_array_append_new(pairs, pair_status(d, name));
	json_decref(names);
	if (d->as_witness)
		; /* knows neither */
	else if (!d->corosync_up)
		json_array_append_new(problems, json_string("corosync is not running on this node"));
	else if (!d->quorate)
		json_array_append_new(problems, json_string("this node's side of the cluster has no quorum"));
	if (!d->libvirt_up && !d->as_witness)
		json_array_append_new(problems, json_string("libvirtd does not answer; running VMs are watched by their processes"));
	if (d->store && (disk = vmp_store_disk_status(d->store, &disk_age_ms)) < 0)
		json_array_append_new(problems, json_sprintf("%s: %s; registers have not reached the disk for %llu ms, which a start "
							     "of all nodes at once needs", d->conf.state_dir, strerror(-disk),
							     (unsigned long long)disk_age_ms));
	if (d->core_up && vmp_core_pairs_left(&d->core) <= REGISTERS_LOW)
		json_array_append_new(problems, json_sprintf("registers left for new pair names: %u; those of deleted pairs stay in use: "
							     "vmpaird(8), RECOVERY", vmp_core_pairs_left(&d->core)));
	not_taken_over(d, pair, problems);
	vmp_bars_problems(d, problems);
	if (d->core_up && nv.abstaining)
		json_array_append_new(problems, json_sprintf("this voter abstains%s: %u of %u others have answered", nv.cold_wait ?
							     " (cold start, all voters are needed)" : "", nv.answered, nv.n ? nv.n - 1 : 0));
	vmp_witness_problems(d, &nv, problems);
	vmp_fencing_problems(d, &nv, problems);
	if (d->core_up && nv.n < 2)
		json_array_append_new(problems, json_string("fewer than two voters: no takeover after the loss of a node"));
	vmp_ctl_reply(d->ctl, token, VMP_CTL_OK, "",
		      json_pack("{s:o s:o s:o s:o s:o}", "node", node_status(d), "cluster", cluster_status(d, &nv), "nodes",
				nodes_status(d, &nv), "pairs", pairs, "problems", problems));
}

static json_t *public_event(const json_t *e)
{
	return json_pack("{s:I s:O s:O s:O s:O s:O}", "ts", json_integer_value(json_object_get(e, "t_ns")) / 1000000, "node",
			 json_object_get(e, "node"), "pair", json_object_get(e, "pair"), "what", json_object_get(e, "what"), "text",
			 json_object_get(e, "text"), "epoch", json_object_get(e, "epoch"));
}

static void do_events(struct vmp_daemon *d, uint64_t token, const char *pair, json_t *msg)
{
	uint64_t limit = get_number(msg, "limit");
	json_t *list = vmp_journal_list(d->journal, *pair ? pair : NULL, limit && limit < 1000 ? (unsigned)limit : 100);
	json_t *out = json_array(), *e;
	size_t i;

	json_array_foreach(list, i, e)
		json_array_append_new(out, public_event(e));
	json_decref(list);
	out = json_pack("{s:o}", "events", out);
	if (json_is_true(json_object_get(msg, "follow")))
		vmp_ctl_subscribe(d->ctl, token, *pair ? pair : NULL, out);
	else
		vmp_ctl_reply(d->ctl, token, VMP_CTL_OK, "", out);
}

static const char *voters_refused(int rc, const char *reason)
{
	switch (rc) {
	case -EINPROGRESS: return "proposed, but not every voter needed has answered: it is driven on; see vmpair status";
	case -EBUSY: return "another change runs, or that node is primary of a pair: vmpair switchover first";
	case -EHOSTUNREACH: return "that node is not heard: is vmpaird running there, with the same key and these nodes in corosync.conf?";
	case -EEXIST: return "that node is a voter with another identity (its disk was made anew): remove it first";
	case -EINVAL: return "a node cannot remove itself: ask on another one";
	case -ENOSPC: return "the voter set is full";
	}
	return reason;
}

/* voters: what = add, remove, lost; node by name or id. */
static void do_voters(struct vmp_daemon *d, uint64_t token, const json_t *msg)
{
	const char *what = get_text(msg, "what"), *name = get_text(msg, "node");
	struct vmp_event ev = { .type = VMP_EV_VOTERS, .on = !strcmp(what, "add"), .deadline_ns = vmp_now_ns() + 20000 * ms_ns };
	char reason[160], *end;

	for (unsigned i = 0; i < d->n_nodes; i++)
		if (!strcmp(d->nodes[i].name, name))
			ev.node = (uint8_t)d->nodes[i].id;
	if (!ev.node && *name) { /* a node that has left corosync.conf is known by its id only */
		unsigned long id = strtoul(name, &end, 10);

		if (!*end && id >= 1 && id <= UINT8_MAX)
			ev.node = (uint8_t)id;
	}
	if (!ev.node) {
		snprintf(reason, sizeof(reason), "%.64s is no node of corosync.conf, nor a node id (1 to 255)", name);
		vmp_ctl_reply(d->ctl, token, VMP_CTL_NOT_FOUND, reason, NULL);
		return;
	}
	vmp_log(LOG_NOTICE, "voters: %s %s asked for by an operator", what, vmp_node_name(d, ev.node));
	vmp_journal_add(d->journal, NULL, 0, "voters", "%s %s asked for on %s by an operator", what, vmp_node_name(d, ev.node), d->node_name);
	if (ev.on && ev.node != d->witness && ev.node != d->node) {
		/* As it says now: set up anew, it is another voter than the one that asked for the configuration last. */
		const json_t *s = vmp_group_has(d, ev.node) ? vmp_group_state(d, ev.node) : NULL;

		ev.member = strtoull(get_text(s, "voter"), NULL, 16);
		if (!s || (json_object_get(s, "voter") && !ev.member)) { /* an older vmpaird does not say */
			vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, voters_refused(-EHOSTUNREACH, ""), NULL);
			return;
		}
	}
	if (!strcmp(what, "lost"))
		ev = (struct vmp_event){ .type = VMP_EV_LOST_DISKS, .node = ev.node };
	vmp_exec_op(d, VMP_OP_VOTERS, token, &ev);
}

static void do_op(struct vmp_daemon *d, uint64_t token, const char *pair, enum vmp_op_kind kind, struct vmp_event *ev)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);
	json_t *names;

	if (m && m->phase != VMP_HOST_IDLE) {
		ev->pair = m->id;
		vmp_exec_op(d, kind, token, ev);
		return;
	}
	names = pair_names(d, pair);
	if (json_object_size(names)) {
		char reason[160];

		snprintf(reason, sizeof(reason), "no member of %s runs on %s: ask on a node where one does (vmpair status)", pair,
			 d->node_name);
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, reason, NULL);
	} else {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_NOT_FOUND, "no such pair", NULL);
	}
	json_decref(names);
}

/* From any node: the daemon that holds the pair does it. */
void vmp_request_switchover(struct vmp_daemon *d, uint64_t token, const char *pair)
{
	struct vmp_member *m = vmp_member_by_name(d, pair);
	struct vmp_event ev = { .type = VMP_EV_SWITCHOVER };

	if (m && vmp_member_primary(m)) {
		vmp_journal_add(d->journal, m->name, 0, "cause", "switchover asked for on %s", d->node_name);
		do_op(d, token, pair, VMP_OP_SWITCHOVER, &ev);
		return;
	}
	vmp_group_forward(d, token, "switchover", pair);
}

static const char *not_here(struct vmp_daemon *d, const struct vmp_pair_view *v, int rc, const char *text, char *buf, size_t size)
{
	if (rc != -ESTALE || !v->primary || v->primary == d->node)
		return text;
	snprintf(buf, size, "%s: ask on %s", text, vmp_node_name(d, v->primary));
	return buf;
}

static void hold_all_done(struct vmp_daemon *d, const char *pair, int rc, const char *text, uint64_t end_ns)
{
	json_int_t left_ms;
	char said[200];

	if (rc == 0) {
		d->hold_all.end_ns = d->hold_all.held++ && d->hold_all.end_ns < end_ns ? d->hold_all.end_ns : end_ns;
	} else if (!d->hold_all.failed[0]) {
		snprintf(d->hold_all.failed, sizeof(d->hold_all.failed), "%s: %s", pair, text);
	}
	if (--d->hold_all.left)
		return;
	left_ms = d->hold_all.held && d->hold_all.end_ns > vmp_now_ns() ? (json_int_t)((d->hold_all.end_ns - vmp_now_ns()) / ms_ns) : 0;
	snprintf(said, sizeof(said), "%s", d->hold_all.failed);
	vmp_ctl_reply(d->ctl, d->hold_all.token, said[0] ? VMP_CTL_FAILED : VMP_CTL_OK, said,
		      json_pack("{s:I s:i}", "until_ms", left_ms, "pairs", (int)d->hold_all.held));
	d->hold_all.token = 0;
}

/* --- dispatch ------------------------------------------------------------------------------------------------------------------------ */
void vmp_request_op_done(struct vmp_daemon *d, const struct vmp_op *op, int rc, unsigned reason)
{
	struct vmp_member *m = vmp_member_by_id(d, op->pair);
	const char *text = rc ? vmp_reason_text(reason) : "";
	json_int_t took_ms = (json_int_t)((vmp_now_ns() - op->begun_ns) / ms_ns);
	struct vmp_pair_view v = { 0 };
	char where[400];

	if (m)
		vmp_member_view(m, &v);
	switch (op->kind) {
	case VMP_OP_PROMOTE:
		if (rc == -ETIMEDOUT && (reason == VMP_REASON_GUARD || reason == VMP_REASON_NO_MAJORITY || reason == VMP_REASON_TIMEOUT) &&
		    vmp_fencing_why_not(d, v.reg.promised.node, where, sizeof(where)))
			text = where;
		if (m && rc == 0) {
			m->told = VMP_TOLD_PROMOTED;
			vmp_journal_add(d->journal, m->name, v.epoch, "agreed", "Pacemaker promoted %s", d->node_name);
			vmp_member_changed(m);
		}
		ocf(d, op->token, rc == 0 ? VMP_OCF_OK : VMP_OCF_ERR_GENERIC, text);
		break;
	case VMP_OP_DEMOTE:
		/* A demote that fails makes Pacemaker stop the VM: what counts is that the entry is closed here. */
		if (m) {
			m->told = VMP_TOLD_UNPROMOTED;
			vmp_member_changed(m);
		}
		ocf(d, op->token, v.role == VMP_ROLE_HOLDING ? VMP_OCF_ERR_GENERIC : VMP_OCF_OK, text);
		break;
	case VMP_OP_STOP:
		if (m && m->phase == VMP_HOST_STOPPING) {
			if (rc)
				vmp_gate_close(d->gate, m->id, 0);
			vmp_member_stop_now(m);
		}
		break;
	case VMP_OP_SWITCHOVER:
		if (rc)
			vmp_group_answer(d, op->token, VMP_CTL_FAILED, text, NULL);
		else
			vmp_group_answer(d, op->token, VMP_CTL_OK, "", json_pack("{s:s s:s s:I s:I}", "from", d->node_name, "to",
						      vmp_node_name(d, v.sync_node), "epoch", (json_int_t)v.epoch, "took_ms", took_ms));
		break;
	case VMP_OP_FORCE:
		vmp_ctl_reply(d->ctl, op->token, rc ? VMP_CTL_FAILED : VMP_CTL_OK, text,
			      json_pack("{s:I}", "epoch", (json_int_t)v.epoch));
		break;
	case VMP_OP_HOLD_ALL:
		hold_all_done(d, m ? m->name : "", rc, text, v.lease_end_ns);
		break;
	case VMP_OP_HOLD:
		vmp_ctl_reply(d->ctl, op->token, rc ? VMP_CTL_FAILED : VMP_CTL_OK, not_here(d, &v, rc, text, where, sizeof(where)),
			      json_pack("{s:I}", "until_ms",
					v.lease_end_ns > vmp_now_ns() ? (json_int_t)((v.lease_end_ns - vmp_now_ns()) / ms_ns) : (json_int_t)0));
		break;
	case VMP_OP_UNHOLD:
		vmp_ctl_reply(d->ctl, op->token, rc ? VMP_CTL_FAILED : VMP_CTL_OK, not_here(d, &v, rc, text, where, sizeof(where)), NULL);
		break;
	case VMP_OP_VOTERS:
		vmp_ctl_reply(d->ctl, op->token, rc ? VMP_CTL_FAILED : VMP_CTL_OK, rc ? voters_refused(rc, text) : "",
			      json_pack("{s:i}", "voters", (int)d->core.config.n));
		break;
	case VMP_OP_BAR:
		vmp_bars_op_done(d, op, rc, reason);
		break;
	case VMP_OP_TRIGGER:
		if (m)
			vmp_signs_moved(m, rc, text);
		break;
	case VMP_OP_EXIT_HOLD:
		if (d->exit_holds && --d->exit_holds == 0)
			vmp_loop_stop(d->loop);
		break;
	}
}

static void do_hold_all(struct vmp_daemon *d, uint64_t token, uint32_t ms)
{
	uint64_t held[ARRAY_SIZE(d->members)];
	unsigned n = 0;

	if (d->hold_all.token) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, "another hold of all pairs is under way", NULL);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used && vmp_member_primary(&d->members[i]))
			held[n++] = d->members[i].id;
	if (!n) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, "this node is primary of no pair", NULL);
		return;
	}
	memset(&d->hold_all, 0, sizeof(d->hold_all));
	d->hold_all.token = token;
	d->hold_all.left = n;
	for (unsigned i = 0; i < n; i++) {
		struct vmp_event ev = { .type = VMP_EV_HOLD, .pair = held[i], .ms = ms };

		vmp_exec_op(d, VMP_OP_HOLD_ALL, token, &ev);
	}
}

static bool is_agent_command(const char *cmd)
{
	static const char *const names[] = { "start", "stop", "monitor", "promote", "demote", "reload" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(cmd, names[i]))
			return true;
	return false;
}

void vmp_request_handle(void *data, uint64_t token, const char *cmd, json_t *msg)
{
	struct vmp_daemon *d = data;
	const char *pair = get_text(msg, "pair");
	bool needs_pair = strcmp(cmd, "status") && strcmp(cmd, "events") && strcmp(cmd, "version") && strcmp(cmd, "key-rotate") &&
			  strcmp(cmd, "hold") && strcmp(cmd, "unhold") && strcmp(cmd, "voters") && strcmp(cmd, "fence");

	if (*pair && !vmp_pair_name_valid(pair)) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_USAGE, "not a pair name (letters, digits, _ . -, at most 63)", NULL);
		return;
	}
	if (needs_pair && !*pair) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_USAGE, "which pair?", NULL);
		return;
	}
	/* Before the pairs of a former run are taken over, "no such pair" would be a lie by which Pacemaker restarts a healthy VM. */
	if (!d->core_up && is_agent_command(cmd)) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, "vmpaird has no connection to corosync yet", json_pack("{s:b}", "retry", 1));
		return;
	}
	if (!strcmp(cmd, "start")) {
		do_start(d, token, pair, msg);
	} else if (!strcmp(cmd, "stop")) {
		struct vmp_member *m = vmp_member_by_name(d, pair);

		if (m)
			vmp_member_stop(m, token);
		else
			ocf(d, token, VMP_OCF_OK, "");
	} else if (!strcmp(cmd, "monitor")) {
		do_monitor(d, token, pair, msg);
	} else if (!strcmp(cmd, "promote")) {
		do_promote(d, token, pair, msg);
	} else if (!strcmp(cmd, "demote")) {
		do_demote(d, token, pair);
	} else if (!strcmp(cmd, "reload")) {
		do_reload(d, token, pair, msg);
	} else if (!strcmp(cmd, "validate")) {
		do_validate(d, token, pair, msg);
	} else if (!strcmp(cmd, "status")) {
		do_status(d, token, pair);
	} else if (!strcmp(cmd, "events")) {
		do_events(d, token, pair, msg);
	} else if (!strcmp(cmd, "why")) {
		vmp_group_why(d, token, pair);
	} else if (!strcmp(cmd, "switchover")) {
		vmp_request_switchover(d, token, pair);
	} else if (!strcmp(cmd, "force-primary")) {
		struct vmp_event ev = { .type = VMP_EV_FORCE, .deadline_ns = vmp_now_ns() + 20000 * ms_ns };

		if (!json_is_true(json_object_get(msg, "yes"))) {
			vmp_ctl_reply(d->ctl, token, VMP_CTL_USAGE, "not confirmed", NULL);
			return;
		}
		vmp_log(LOG_WARNING, "%s: force-primary asked for on %s by an operator", pair, d->node_name);
		vmp_journal_add(d->journal, pair, 0, "cause", "force-primary asked for on %s by an operator", d->node_name);
		do_op(d, token, pair, VMP_OP_FORCE, &ev);
	} else if (!strcmp(cmd, "hold")) {
		struct vmp_event ev = { .type = VMP_EV_HOLD, .ms = (uint32_t)get_number(msg, "ms") };

		if (!ev.ms || ev.ms > d->conf.hold_max_ms) {
			char reason[96];

			snprintf(reason, sizeof(reason), "ms must be 1 to %u (hold_max_ms)", d->conf.hold_max_ms);
			vmp_ctl_reply(d->ctl, token, VMP_CTL_USAGE, reason, NULL);
			return;
		}
		if (*pair)
			do_op(d, token, pair, VMP_OP_HOLD, &ev);
		else
			do_hold_all(d, token, ev.ms);
	} else if (!strcmp(cmd, "unhold")) {
		struct vmp_event ev = { .type = VMP_EV_UNHOLD };

		if (*pair)
			do_op(d, token, pair, VMP_OP_UNHOLD, &ev);
		else
			vmp_exec_op(d, VMP_OP_UNHOLD, token, &ev);
	} else if (!strcmp(cmd, "voters")) {
		do_voters(d, token, msg);
	} else if (!strcmp(cmd, "fence")) {
		vmp_bars_request(d, token, msg);
	} else if (!strcmp(cmd, "key-rotate")) {
		vmp_group_key_rotate(d, token);
	} else if (!strcmp(cmd, "version")) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_OK, "", json_pack("{s:s s:s}", "version", PACKAGE_VERSION, "node", d->node_name));
	} else {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_USAGE, "unknown command", NULL);
	}
}

void vmp_request_cancelled(void *data, uint64_t token, int rc)
{
	struct vmp_daemon *d = data;

	(void)rc;
	/* What was asked for goes on (Pacemaker asks again); only the answer is not wanted any more. */
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		if (d->members[i].start_token == token)
			d->members[i].start_token = 0;
		if (d->members[i].stop_token == token)
			d->members[i].stop_token = 0;
		if (d->members[i].monitor_token == token) {
			d->members[i].monitor_token = 0;
			json_decref(d->members[i].monitor);
			d->members[i].monitor = NULL;
		}
	}
	for (unsigned i = 0; i < VMP_MAX_OPS; i++)
		if (d->ops[i].id && d->ops[i].token == token)
			d->ops[i].token = 0;
}
