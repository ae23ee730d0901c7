/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Members that were migrated by hand. A virtual machine that leaves its host takes its member's identity along: there must not be two of
 * it. So every host looks for virtual machines of this kind and tells the others; and a host whose member has left, or stands still for a
 * migration, asks all others whether they have it (A7). Where an entry port came along with it, the fence keeps that shut.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum { LOOK_MS = 1000, ASK_MS = 1000, STILL_MS = 2000 /* that long does a VM that is migrated stand still in any case */ };

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* --- what runs here ------------------------------------------------------------------------------------------------------ */
/* The node whose member's virtual machine runs here under the pair's name; 0: none. Reads what libvirt and the kernel have in memory. */
static unsigned look(const struct vmp_daemon *d, const char *pair, pid_t *ret_pid)
{
	char path[160], reason[200];

	snprintf(path, sizeof(path), "/run/libvirt/qemu/%s.pid", pair);
	if (access(path, F_OK) < 0)
		return 0;
	for (unsigned i = 0; i < d->n_nodes; i++) {
		CLEANUP_CLOSE int pidfd = -1;
		struct vmp_slot slot;
		uint64_t start;

		if (d->nodes[i].id != d->node && vmp_slot_derive(pair, d->nodes[i].id, NULL, &slot, reason, sizeof(reason)) == 0 &&
		    vmp_proc_find_vm("/run/libvirt/qemu", pair, slot.uuid, false, ret_pid, &start, &pidfd) == 0)
			return d->nodes[i].id;
	}
	return 0;
}

static void look_at_all(struct vmp_daemon *d)
{
	struct vmp_copy found[VMP_COPIES] = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < d->cib.n_pairs && n < VMP_COPIES; i++) {
		const struct vmp_member *m = vmp_member_by_name(d, d->cib.pairs[i].pair);
		unsigned node = m && m->run.pid ? 0 : look(d, d->cib.pairs[i].pair, &found[n].pid); /* no two have one name */

		if (!node)
			continue;
		found[n].node = (uint8_t)node;
		snprintf(found[n++].pair, sizeof(found[0].pair), "%s", d->cib.pairs[i].pair);
	}
	if (n == d->n_copies && !memcmp(found, d->copies, sizeof(found)))
		return;
	for (unsigned i = 0; i < n; i++) {
		bool known = false;

		for (unsigned k = 0; k < d->n_copies; k++)
			known |= !memcmp(&found[i], &d->copies[k], sizeof(found[i]));
		if (known)
			continue;
		vmp_log(LOG_WARNING, "%s: the virtual machine of the member of %s has come to this host (process %d); its entry stays closed here",
			found[i].pair, vmp_node_name(d, found[i].node), (int)found[i].pid);
		vmp_journal_add(d->journal, found[i].pair, 0, "copy", "the virtual machine of the member of %s has come to this host",
				vmp_node_name(d, found[i].node));
	}
	memcpy(d->copies, found, sizeof(found));
	d->n_copies = n;
	vmp_group_publish_soon(d);
}

json_t *vmp_copies_state(const struct vmp_daemon *d)
{
	json_t *o = d->n_copies ? json_object() : NULL;

	for (unsigned i = 0; i < d->n_copies; i++)
		json_object_set_new(o, d->copies[i].pair, json_integer(d->copies[i].node));
	return o;
}

/* --- what may run elsewhere -------------------------------------------------------------------------------------------------- */
static bool stands_still(const struct vmp_member *m, uint64_t now)
{
	return m->phase == VMP_HOST_RUNNING && m->signs.paused && m->signs.how == VMP_VIRT_HOW_MIGRATED &&
	       now - m->signs.paused_ns >= STILL_MS * ms_ns;
}

static enum vmp_agree_where where(const struct vmp_member *m)
{
	const struct vmp_daemon *d = m->d;
	unsigned others = 0;

	for (unsigned i = 0; i < d->n_nodes; i++)
		others += d->nodes[i].id != d->node && d->nodes[i].id != d->witness;
	return vmp_agree_where(others, m->left.n_no, m->left.at != 0);
}

static void ask(struct vmp_member *m, uint64_t now)
{
	m->left.asked_ns = now;
	m->left.id++;
	m->left.n_no = 0;
	m->left.no = 0;
	m->left.at = 0;
	vmp_group_send(m->d, json_pack("{s:s s:s s:I}", "t", "copy?", "pair", m->name, "id", (json_int_t)m->left.id));
}

void vmp_copies_left(struct vmp_member *m)
{
	m->left.gone = true;
	ask(m, vmp_now_ns());
}

void vmp_copies_asked(struct vmp_daemon *d, unsigned from, const json_t *o)
{
	const char *pair = text_of(o, "pair");
	char reason[200];
	pid_t pid;

	if (from == d->node || vmp_pair_name_check(pair, reason, sizeof(reason)) < 0)
		return;
	vmp_group_send(d, json_pack("{s:s s:s s:I s:i s:b}", "t", "copy!", "pair", pair, "id",
				    json_integer_value(json_object_get(o, "id")), "to", (int)from, "has", look(d, pair, &pid) == from));
}

void vmp_copies_told(struct vmp_daemon *d, unsigned from, const json_t *o)
{
	struct vmp_member *m = vmp_member_by_name(d, text_of(o, "pair"));
	enum vmp_agree_where before;

	if (!m || json_integer_value(json_object_get(o, "to")) != d->node ||
	    (uint64_t)json_integer_value(json_object_get(o, "id")) != m->left.id)
		return;
	before = where(m);
	for (unsigned i = 0; i < d->n_nodes; i++) {
		if (d->nodes[i].id != from || m->left.no & UINT64_C(1) << i)
			continue;
		if (json_is_true(json_object_get(o, "has"))) {
			m->left.at = (uint8_t)from;
		} else {
			m->left.no |= UINT64_C(1) << i;
			m->left.n_no++;
		}
	}
	if (where(m) == before)
		return;
	if (where(m) == VMP_AGREE_NOWHERE && m->left.gone) {
		m->left.gone = false;
		vmp_journal_add(d->journal, m->name, 0, "left", "no other host has the virtual machine that was migrated: another may be started");
	}
	vmp_group_publish_soon(d);
}

/* Of this node's member, by what the others published: also what a daemon before this one has not told. */
static unsigned known_at(const struct vmp_member *m)
{
	const struct vmp_daemon *d = m->d;

	for (unsigned i = 0; i < d->n_nodes; i++) {
		const json_t *s = d->nodes[i].id != d->node && vmp_group_has(d, d->nodes[i].id) ? vmp_group_state(d, d->nodes[i].id) : NULL;

		if (json_integer_value(json_object_get(json_object_get(s, "copies"), m->name)) == d->node)
			return d->nodes[i].id;
	}
	return 0;
}

static const char *silent_node(const struct vmp_member *m)
{
	const struct vmp_daemon *d = m->d;

	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id != d->node && d->nodes[i].id != d->witness && !(m->left.no & UINT64_C(1) << i))
			return d->nodes[i].name;
	return "another node";
}

bool vmp_copies_forbid(const struct vmp_member *m, char *reason, size_t size)
{
	const struct vmp_daemon *d = m->d;
	unsigned at = m->left.gone && m->left.at ? m->left.at : known_at(m);
	pid_t pid;

	if (look(d, m->name, &pid))
		snprintf(reason, size, "the virtual machine of another node's member, migrated here, has this name (process %d): virsh destroy %s", (int)pid,
			 m->name);
	else if (at)
		snprintf(reason, size, "its virtual machine was migrated to %.63s and runs there: virsh destroy %s, there", vmp_node_name(d, at), m->name);
	else if (m->left.gone)
		snprintf(reason, size, "its virtual machine was migrated, and %.63s has not said that it does not run there", silent_node(m));
	else
		return false;
	return true;
}

/* --- now and then, and what is told ------------------------------------------------------------------------------------------------ */
void vmp_copies_slow(struct vmp_daemon *d)
{
	uint64_t now = vmp_now_ns();

	if (!d->core_up || d->as_witness)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];

		if (!m->used)
			continue;
		m->left.still = stands_still(m, now);
		if ((m->left.gone || m->left.still) && now - m->left.asked_ns >= ASK_MS * ms_ns)
			ask(m, now);
	}
	if (now < d->copies_ns)
		return;
	d->copies_ns = now + LOOK_MS * ms_ns;
	look_at_all(d);
}

json_t *vmp_copies_text(const struct vmp_member *m)
{
	if (!m->left.still)
		return NULL;
	switch (where(m)) {
	case VMP_AGREE_ELSEWHERE:
		return json_sprintf("its VM stands still for a migration to %s, which is under way or broke off: of the two, end the one that is not wanted "
				    "(virsh destroy %s)", vmp_node_name(m->d, m->left.at), m->name);
	case VMP_AGREE_NOWHERE:
		return json_sprintf("its VM stands still for a migration, and no other host has it: virsh resume %s", m->name);
	case VMP_AGREE_WAIT:
		break;
	}
	return json_sprintf("its VM stands still for a migration, and %s has not said whether it has it", silent_node(m));
}

void vmp_copies_status(const struct vmp_daemon *d, const char *pair, json_t *problems)
{
	for (unsigned i = 0; i < d->n_nodes; i++) {
		const json_t *s = vmp_group_has(d, d->nodes[i].id) ? vmp_group_state(d, d->nodes[i].id) : NULL;
		unsigned of = (unsigned)json_integer_value(json_object_get(json_object_get(s, "copies"), pair));

		if (of)
			json_array_append_new(problems, json_sprintf("%s: the VM of the member of %s was migrated here, where its entry stays closed: "
								     "virsh destroy %s", d->nodes[i].name, vmp_node_name(d, of), pair));
	}
}
