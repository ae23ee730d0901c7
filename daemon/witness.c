/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/witness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "internal/cleanup.h"

static void add_node(struct vmp_daemon *d, const struct vmp_conf_node *n)
{
	struct vmp_cluster_node *to = &d->nodes[d->n_nodes++];

	memset(to, 0, sizeof(*to));
	to->id = n->id;
	snprintf(to->name, sizeof(to->name), "%s", n->name);
	for (unsigned i = 0; i < n->n_addr; i++)
		snprintf(to->addr[i], sizeof(to->addr[i]), "%s", n->addr[i]);
}

void vmp_witness_join(struct vmp_daemon *d)
{
	struct vmp_conf_node w[VMP_CONF_MAX_NODES];

	d->witness = 0;
	if (vmp_conf_nodes(d->conf.witness, w, NULL, 0) != 1)
		return;
	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id == w[0].id || !strcmp(d->nodes[i].name, w[0].name)) {
			vmp_log(LOG_ERR, "witness %s (%u) is left out: %s (%u) of corosync.conf has that name or node id", w[0].name, w[0].id,
				d->nodes[i].name, d->nodes[i].id);
			return;
		}
	if (d->n_nodes == VMP_CLUSTER_MAX_NODES)
		return;
	add_node(d, &w[0]);
	d->witness = w[0].id;
}

static int take_conf(struct vmp_daemon *d)
{
	struct vmp_conf_node w[VMP_CONF_MAX_NODES], h[VMP_CONF_MAX_NODES];
	int n = vmp_conf_nodes(d->conf.hosts, h, NULL, 0);

	if (vmp_conf_nodes(d->conf.witness, w, NULL, 0) != 1 || n < 1)
		return -EINVAL;
	if (d->node && d->node != w[0].id) {
		vmp_log(LOG_ERR, "the id of this witness changed from %u to %u: restart vmpaird", d->node, w[0].id);
		return -EINVAL;
	}
	d->n_nodes = 0;
	for (int i = 0; i < n; i++)
		add_node(d, &h[i]);
	add_node(d, &w[0]);
	d->witness = d->node = w[0].id;
	snprintf(d->node_name, sizeof(d->node_name), "%s", w[0].name);
	return 0;
}

int vmp_witness_start(struct vmp_daemon *d)
{
	int r = take_conf(d);

	if (r < 0)
		return r;
	vmp_run_identified(d);
	return d->core_up ? 0 : -ENOTCONN;
}

void vmp_witness_reload(struct vmp_daemon *d)
{
	uint8_t was;

	if (!d->core_up)
		return;
	if (d->as_witness) {
		if (take_conf(d) == 0)
			vmp_exec_start(d);
		return;
	}
	was = d->witness;
	if (was && d->nodes[d->n_nodes - 1].id == was)
		d->n_nodes--;
	vmp_witness_join(d);
	if (was && was != d->witness)
		vmp_net_peer_del(d->net, was);
	vmp_exec_start(d);
	vmp_group_publish_soon(d);
}

/* --- what status says ---------------------------------------------------------------------------------------------------- */

static bool is_voter(const struct vmp_node_view *nv, unsigned node)
{
	for (unsigned v = 0; v < nv->config.n; v++)
		if (nv->config.voter[v].node == node)
			return true;
	return false;
}

static bool is_heard(const struct vmp_daemon *d, const struct vmp_node_view *nv, unsigned node)
{
	uint64_t now = vmp_now_ns();

	for (unsigned v = 0; v < nv->config.n; v++)
		if (nv->config.voter[v].node == node)
			return node == d->node || (nv->heard_ns[v] && now - nv->heard_ns[v] < (uint64_t)d->conf.lease_ms * 1000000);
	return false;
}

static bool same_node(const struct vmp_cluster_node *a, const struct vmp_conf_node *b)
{
	if (a->id != b->id || strcmp(a->name, b->name))
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(a->addr); i++)
		if (strcmp(a->addr[i], i < b->n_addr ? b->addr[i] : ""))
			return false;
	return true;
}

/* `hosts`, where a node has it, against corosync's list: the witness goes by the former. */
static void hosts_problem(const struct vmp_daemon *d, json_t *problems)
{
	struct vmp_conf_node h[VMP_CONF_MAX_NODES];
	int n = vmp_conf_nodes(d->conf.hosts, h, NULL, 0);
	unsigned same = 0, hosts = 0;

	for (unsigned k = 0; n > 0 && k < d->n_nodes; k++) {
		hosts += d->nodes[k].id != d->witness;
		for (int i = 0; i < n; i++)
			same += same_node(&d->nodes[k], &h[i]);
	}
	if (n > 0 && (same != (unsigned)n || same != hosts))
		json_array_append_new(problems, json_sprintf("hosts in vmpaird.conf (%s) are not the nodes of corosync.conf: the witness may not "
							     "reach all of them", d->conf.hosts));
}

static void voters_problem(const struct vmp_daemon *d, const struct vmp_node_view *nv, json_t *problems)
{
	char silent[256] = "";
	unsigned heard = 0;
	size_t len = 0;

	for (unsigned v = 0; v < nv->config.n; v++) {
		unsigned node = nv->config.voter[v].node;

		if (is_heard(d, nv, node))
			heard++;
		else if (len < sizeof(silent))
			len += (size_t)snprintf(silent + len, sizeof(silent) - len, "%s%s", len ? ", " : "", vmp_node_name(d, node));
	}
	if (heard == nv->config.n || nv->config.n < 3)
		return;
	if (heard < nv->m)
		json_array_append_new(problems, json_sprintf("no majority: of %u voters only %u are heard here (silent: %s); no pair can be "
							     "served or moved from here", nv->config.n, heard, silent));
	else
		json_array_append_new(problems, json_sprintf("voters not heard: %s; %s", silent, heard == nv->m ?
							     "no other voter may fail now: pairs would stop, and none could be moved" :
							     "a majority is left"));
}

void vmp_witness_problems(struct vmp_daemon *d, const struct vmp_node_view *nv, json_t *problems)
{
	for (unsigned i = 0; i < d->n_nodes; i++) {
		unsigned node = d->nodes[i].id;
		struct vmp_net_peer_stats st;
		const json_t *state;

		if (node == d->node)
			continue;
		if (d->net && vmp_net_peer_stats(d->net, (uint8_t)node, &st) == 0 && st.causes[VMP_SEAL_SETTINGS] &&
		    (is_voter(nv, node) ? !is_heard(d, nv, node) : !st.inc))
			json_array_append_new(problems, json_sprintf("%s is not listened to: %s", d->nodes[i].name,
								     vmp_seal_cause_help(VMP_SEAL_SETTINGS)));
		state = vmp_group_state(d, node);
		if (state && vmp_group_has(d, node)) {
			const char *theirs = json_string_value(json_object_get(state, "witness"));

			if (strcmp(theirs ? theirs : "", d->conf.witness))
				json_array_append_new(problems, json_sprintf("%s has another witness in vmpaird.conf (%s) than this node (%s)",
									     d->nodes[i].name, theirs && *theirs ? theirs : "none",
									     *d->conf.witness ? d->conf.witness : "none"));
		}
	}
	if (!d->core_up)
		return;
	if (!d->as_witness && *d->conf.witness && !d->witness)
		json_array_append_new(problems, json_sprintf("witness %s: its name or node id is one of corosync.conf, so it is left out",
							     d->conf.witness));
	if (nv->other_wish)
		json_array_append_new(problems, json_sprintf("no voter set is formed: %s lists other nodes than this one does (corosync.conf, "
							     "or witness and hosts in vmpaird.conf)", vmp_node_name(d, nv->other_wish)));
	if (!d->as_witness)
		hosts_problem(d, problems);
	if (nv->config.n && d->witness && !is_voter(nv, d->witness))
		json_array_append_new(problems, json_sprintf("%s is no voter yet: vmpair voter add %s%s", vmp_node_name(d, d->witness),
							     vmp_node_name(d, d->witness), d->as_witness ? ", on a host" : ""));
	voters_problem(d, nv, problems);
}
