/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fencing by refusing leases (rules B1 to B6 of the core): what fence_vmpair and vmpair(8) ask for, what is told of it, and what this node
 * does to itself when it is the one that is fenced. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

enum { FENCE_DEFAULT_MS = 20000 };
static const uint64_t ms_ns = 1000000u;

static const char *get_text(const json_t *msg, const char *key)
{
	const char *s = json_string_value(json_object_get(msg, key));

	return s ? s : "";
}

static const char *by_text(unsigned by)
{
	return by == VMP_BAR_BY_AGENT ? "Pacemaker's fence_vmpair" : by == VMP_BAR_BY_OPERATOR ? "an operator" : "nobody known";
}

void vmp_bars_keep_off(struct vmp_daemon *d, const char *pair, const char *rsc, bool on)
{
	const struct vmp_member *m = vmp_member_by_name(d, pair);

	if (!d->pcmk || !*rsc || (m && m->retired_ns)) /* let_back() ends that one */
		return;
	if (vmp_pcmk_ban(d->pcmk, pair, rsc, on) < 0)
		vmp_log(LOG_WARNING, "%s: Pacemaker is not told %s", pair, on ? "to keep the pair off this node" : "that it may use this node again");
}

void vmp_bars_note(struct vmp_daemon *d, const struct vmp_action *a)
{
	const char *node = vmp_node_name(d, (unsigned)a->a), *writer = vmp_node_name(d, (unsigned)a->b);
	const char *what = a->code == VMP_NOTE_BARRED ? "fenced" : "unfenced";

	vmp_log(a->code == VMP_NOTE_BARRED ? LOG_WARNING : LOG_NOTICE, "%s is %s by %s (%s)", node, what, writer, by_text((unsigned)a->c));
	vmp_journal_add(d->journal, NULL, 0, what, "%s is %s by %s (%s)", node, what, writer, by_text((unsigned)a->c));
	for (unsigned i = 0; i < d->cib.n_pairs && a->code == VMP_NOTE_UNBARRED && a->a == d->node; i++)
		vmp_bars_keep_off(d, d->cib.pairs[i].pair, d->cib.pairs[i].rsc, false);
	/* in the time line of each pair that had a part there as well, as the cause of what follows for the primary's */
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];
		struct vmp_pair_view v;

		if (m->used && vmp_member_view(m, &v) && (v.primary == a->a || v.sync_node == a->a || a->a == d->node))
			vmp_journal_add(d->journal, m->name, v.epoch, a->code == VMP_NOTE_BARRED && v.primary == a->a ? "cause" : what,
					"%s is %s by %s (%s)", node, what, writer, by_text((unsigned)a->c));
	}
	vmp_group_publish_soon(d);
}

bool vmp_bars_self(const struct vmp_daemon *d, char *reason, size_t size)
{
	struct vmp_bar_view v;

	if (!d->core_up || !vmp_core_barred(&d->core, d->node, &v))
		return false;
	snprintf(reason, size, "this node is fenced (by %.32s, for %s): no member starts before it is unfenced", vmp_node_name(d, v.writer),
		 by_text(v.by));
	return true;
}

json_t *vmp_bars_status(const struct vmp_daemon *d, uint8_t node)
{
	struct vmp_bar_view v;

	if (!d->core_up || !vmp_core_barred(&d->core, node, &v))
		return json_null();
	return json_pack("{s:s s:s}", "from", vmp_node_name(d, v.writer), "for", by_text(v.by));
}

void vmp_bars_problems(const struct vmp_daemon *d, json_t *problems)
{
	struct vmp_bar_view v;

	for (unsigned i = 0; d->core_up && i < d->n_nodes; i++)
		if (vmp_core_barred(&d->core, (uint8_t)d->nodes[i].id, &v))
			json_array_append_new(problems, json_sprintf("%s is fenced (by %s, for %s): it gets no lease and starts no member until "
								     "\"vmpair unfence %s\", or until Pacemaker unfences it",
								     d->nodes[i].name, vmp_node_name(d, v.writer), by_text(v.by),
								     d->nodes[i].name));
}

void vmp_bars_self_fenced(struct vmp_daemon *d)
{
	struct vmp_bar_view v;

	/* VMs of an earlier daemon that this one does not manage end as well. */
	for (unsigned i = 0; i < ARRAY_SIZE(d->unadopted); i++) {
		uint64_t start = d->unadopted[i].run.start_ticks;
		CLEANUP_CLOSE int fd = -1;

		if (d->unadopted[i].run.pid && vmp_proc_open(d->unadopted[i].run.pid, &start, &fd) == 0)
			vmp_proc_kill(fd, SIGKILL);
	}
	/* An operator who fenced the node by hand lifts that by hand. */
	if (vmp_core_barred(&d->core, d->node, &v) && v.by == VMP_BAR_BY_AGENT && d->pcmk && vmp_pcmk_unfencing(d->pcmk) < 0)
		vmp_log(LOG_WARNING, "Pacemaker could not be told to unfence this node: restart it, or: vmpair unfence %s", d->node_name);
}

/* --- requests ------------------------------------------------------------------------------------------------------------- */
static uint8_t node_of(const struct vmp_daemon *d, const char *name)
{
	char *end;
	unsigned long id;

	for (unsigned i = 0; i < d->n_nodes; i++)
		if (!strcmp(d->nodes[i].name, name))
			return (uint8_t)d->nodes[i].id;
	id = strtoul(name, &end, 10);
	for (unsigned i = 0; *name && !*end && i < d->n_nodes; i++)
		if (d->nodes[i].id == id)
			return (uint8_t)id;
	return 0;
}

/* Whether this daemon could fence now, as far as it knows. */
static const char *why_not(struct vmp_daemon *d, char *buf, size_t size)
{
	struct vmp_node_view nv;

	if (!d->core_up)
		return "vmpaird has no connection to corosync yet";
	vmp_core_node_view(&d->core, vmp_now_ns(), &nv);
	if (nv.n == 0)
		return "there is no voter set yet: all nodes must have been seen once";
	if (nv.abstaining)
		return "the voter of this node has lost its memory and has not read it back yet";
	if (nv.heard >= nv.m)
		return NULL;
	snprintf(buf, size, "this node hears %u of %u voters and needs %u", nv.heard, nv.n, nv.m);
	return buf;
}

void vmp_bars_request(struct vmp_daemon *d, uint64_t token, const json_t *msg)
{
	const char *what = get_text(msg, "what"), *name = get_text(msg, "node"), *no;
	bool on = !strcmp(what, "off"), off_on = on || !strcmp(what, "on");
	json_int_t limit_ms = json_integer_value(json_object_get(msg, "timeout_ms"));
	struct vmp_event ev = { .type = VMP_EV_BAR, .on = on };
	char reason[200];

	if (!strcmp(what, "list")) {
		json_t *list = json_array();

		for (unsigned i = 0; i < d->n_nodes; i++)
			json_array_append_new(list, json_pack("{s:s s:i s:o}", "name", d->nodes[i].name, "id", (int)d->nodes[i].id, "fenced",
							      vmp_bars_status(d, (uint8_t)d->nodes[i].id)));
		vmp_ctl_reply(d->ctl, token, VMP_CTL_OK, "", json_pack("{s:o}", "nodes", list));
		return;
	}
	if (off_on && !d->core_up) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, why_not(d, reason, sizeof(reason)), json_pack("{s:b}", "retry", 1));
		return;
	}
	ev.node = node_of(d, name);
	if ((*name || strcmp(what, "check")) && !ev.node) {
		snprintf(reason, sizeof(reason), "\"%.64s\" is neither name nor id of a node of corosync.conf", name);
		vmp_ctl_reply(d->ctl, token, VMP_CTL_NOT_FOUND, reason, NULL);
		return;
	}
	if (!off_on) { /* check, status */
		no = why_not(d, reason, sizeof(reason));
		vmp_ctl_reply(d->ctl, token, no ? VMP_CTL_FAILED : VMP_CTL_OK, no ? no : "",
			      ev.node ? json_pack("{s:s s:o}", "node", vmp_node_name(d, ev.node), "fenced", vmp_bars_status(d, ev.node)) : NULL);
		return;
	}
	ev.member = !strcmp(get_text(msg, "by"), "agent") ? VMP_BAR_BY_AGENT : VMP_BAR_BY_OPERATOR;
	if (limit_ms <= 0 || limit_ms > VMP_CTL_MAX_TIMEOUT_MS)
		limit_ms = FENCE_DEFAULT_MS;
	ev.deadline_ns = vmp_now_ns() + (uint64_t)limit_ms * 9 / 10 * ms_ns;
	vmp_log(LOG_NOTICE, "fence: %s %s asked for here (%s)", what, vmp_node_name(d, ev.node), by_text((unsigned)ev.member));
	vmp_journal_add(d->journal, NULL, 0, "fence-asked", "%s %s asked for on %s (%s)", what, vmp_node_name(d, ev.node), d->node_name,
			by_text((unsigned)ev.member));
	vmp_exec_op(d, VMP_OP_BAR, token, &ev);
}

void vmp_bars_op_done(struct vmp_daemon *d, const struct vmp_op *op, int rc, unsigned reason)
{
	unsigned long long took_ms = (vmp_now_ns() - op->begun_ns) / ms_ns;
	const char *node = vmp_node_name(d, op->node), *no;
	char text[256], buf[160];

	if (rc == 0) {
		snprintf(text, sizeof(text), "%s: a majority has recorded it%s, %llu ms", op->on ? "fenced" : "unfenced",
			 op->on ? " and its entries must be closed" : "", took_ms);
		vmp_journal_add(d->journal, NULL, 0, "fence-done", "%s %s", node, text);
		vmp_log(LOG_NOTICE, "%s %s", node, text);
		vmp_ctl_reply(d->ctl, op->token, VMP_CTL_OK, "", json_pack("{s:s s:b s:I}", "node", node, "fenced", op->on, "took_ms",
									    (json_int_t)took_ms));
		return;
	}
	if (rc == -ETIMEDOUT && reason == VMP_REASON_GUARD && !d->core.config.version)
		reason = VMP_REASON_NO_QUORUM_CONFIG;
	if (rc == -ETIMEDOUT && reason == VMP_REASON_GUARD) /* T1 */
		snprintf(text, sizeof(text), "%s is barred, but with fewer than three voters its leases end only by its own word: nothing can be "
			 "said about its entries", node);
	else if ((no = why_not(d, buf, sizeof(buf))))
		snprintf(text, sizeof(text), "%s cannot be %s: %s", node, op->on ? "fenced" : "unfenced", no);
	else
		snprintf(text, sizeof(text), "%s cannot be %s: %s", node, op->on ? "fenced" : "unfenced", vmp_reason_text(reason));
	vmp_journal_add(d->journal, NULL, 0, "fence-failed", "%s", text);
	vmp_log(LOG_ERR, "fence: %s", text);
	vmp_ctl_reply(d->ctl, op->token, rc == -ETIMEDOUT ? VMP_CTL_TIMEOUT : VMP_CTL_FAILED, text, NULL);
}
