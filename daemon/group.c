/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemons tell each other over CPG, as JSON: the state of each node's pairs (on change, and every 5 s), the parts of
 * `vmpair why`, requests passed on to the node concerned, and new keys. Nothing here is needed for, or trusted by, a failover.
 */
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "daemon/daemon.h"
#include "daemon/witness.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
static const uint64_t remote_token = 1ull << 63;
enum { PUBLISH_MIN_MS = 50, PUBLISH_MAX_MS = 5000, WHY_WAIT_MS = 700, FORWARD_WAIT_MS = 20000, KEY_WAIT_MS = 5000, N_PENDING = 16, WHY_EVENTS = 200 };

struct vmp_remote { /* what a node published last */
	unsigned node;
	json_t *state;
};

enum pending_kind { P_FREE, P_WHY, P_FORWARD, P_SERVE, P_KEY_ADD, P_KEY_USE };

struct pending {
	enum pending_kind kind;
	uint64_t id, token, deadline_ns;
	char pair[64];
	unsigned from;    /* P_SERVE: node that asked */
	uint64_t served;  /* P_SERVE: the token under which it is done here */
	json_t *events;   /* P_WHY */
	uint64_t answered; /* bit per index of d->nodes */
	unsigned key_id;
};

struct vmp_why_query {
	struct pending p[N_PENDING];
	uint64_t next_id;
	struct vmp_timer timer;
	json_t *own; /* state of this node, as of this round of the loop */
};

/* --- sending ------------------------------------------------------------------------------------------------------------- */
static int send_json(struct vmp_daemon *d, json_t *o)
{
	char *s = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int r = !s ? -ENOMEM : d->cluster ? vmp_cluster_send(d->cluster, s, strlen(s)) : -ENOTCONN;

	free(s);
	json_decref(o);
	return r;
}

static const char *get_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static uint64_t get_number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

void vmp_group_send(struct vmp_daemon *d, json_t *o)
{
	send_json(d, o);
}

/* --- state ----------------------------------------------------------------------------------------------------------------- */
/* What is wrong with the member, "" when nothing is. */
static const char *own_reason(const struct vmp_member *m, const struct vmp_pair_view *v)
{
	if (m->phase == VMP_HOST_FAILED || m->phase == VMP_HOST_IDLE || m->stop_failed || m->restarting)
		return m->fail_reason;
	if (m->phase != VMP_HOST_RUNNING)
		return "";
	if (!strcmp(m->vrrp, "STOP"))
		return "keepalived does not run";
	if (m->own.ok && !vmp_sync_ready(m))
		return "its relay has not answered yet";
	if (!v || !v->ready)
		return m->own.reason[0] ? m->own.reason : "not ready yet";
	if (vmp_member_left_out(m, v))
		return "not the member on record, and cold_start=manual: vmpair force-primary decides";
	return "";
}

json_t *vmp_group_own_pair(const struct vmp_member *m)
{
	static const char *const phases[] = { "stopped", "starting", "starting", "standby", "failed", "stopping" };
	struct vmp_pair_view v = { 0 };
	bool have = vmp_member_view(m, &v);
	const char *role = phases[m->phase];
	char reason[sizeof(m->fail_reason)];
	json_t *entries = json_array(), *o, *relay, *signs, *moved;
	char addr[VMP_ADDR_STRLEN], internal[VMP_ADDR_STRLEN] = "", digest[2 * VMP_DIGEST_LEN + 1] = "";

	snprintf(reason, sizeof(reason), "%s", own_reason(m, have ? &v : NULL));
	vmp_text_clean(reason);
	if ((m->phase == VMP_HOST_RUNNING || m->signs.held) && have && v.role == VMP_ROLE_HOLDING)
		role = "primary";
	else if (m->restarting)
		role = "starting";
	for (unsigned i = 0; i < m->params.n_entry; i++)
		json_array_append_new(entries, json_string(vmp_addr_str(&m->params.entry[i], true, addr)));
	if (m->dom && (m->phase == VMP_HOST_RUNNING || m->phase == VMP_HOST_STARTING))
		for (unsigned i = 0; i < VMP_DIGEST_LEN; i++)
			snprintf(digest + 2 * i, 3, "%02x", m->dom->digest[i]);
	o = json_pack("{s:s s:s s:s s:I s:b s:b s:b s:I s:s s:s s:s s:b s:s s:o s:o s:s}", "role", role, "rsc", m->rsc, "mode",
			 have && v.role == VMP_ROLE_HOLDING ? vmp_mode_name(v.mode) : "none", "epoch",
			 (json_int_t)(have ? v.reg.state.epoch : 0), "entry_open", have && v.entry_open, "running",
			 m->phase == VMP_HOST_RUNNING, "ready", have && v.ready, "pid", (json_int_t)m->run.pid, "internal",
			 m->params.has_internal ? vmp_addr_str(&m->slot.internal, false, internal) : "", "digest", digest, "told",
			 m->told == VMP_TOLD_PROMOTED ? "Promoted" : m->told == VMP_TOLD_UNPROMOTED ? "Unpromoted" : "Stopped", "frozen",
			 m->frozen, "frozen_reason", m->frozen_reason, "entries", entries, "score",
			 m->score_known && m->score_set ? json_integer(m->score) : json_null(), "reason",
			 reason);
	relay = vmp_sync_state(m);
	moved = vmp_copies_text(m);
	if (moved)
		json_object_set_new(o, "moved", moved);
	if (relay)
		json_object_set_new(o, "relay", relay);
	signs = vmp_signs_state(m);
	if (signs)
		json_object_set_new(o, "signs", signs);
	if (m->params.entry_mode == VMP_ENTRY_KEEPALIVED)
		json_object_set_new(o, "vrrp", json_string(m->vrrp));
	return o;
}

static json_t *own_state(const struct vmp_daemon *d)
{
	json_t *pairs = json_object();
	char voter[17] = "";

	if (d->core_up)
		snprintf(voter, sizeof(voter), "%016llx", (unsigned long long)d->core.voter);
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used && d->members[i].params_json)
			json_object_set_new(pairs, d->members[i].name, vmp_group_own_pair(&d->members[i]));
	return json_pack("{s:s s:s s:s s:s s:s s:o s:o*}", "t", "state", "node", d->node_name, "version", PACKAGE_VERSION, "witness",
			 d->conf.witness, "voter", voter, "pairs", pairs, "copies", vmp_copies_state(d));
}

static void publish(void *data)
{
	struct vmp_daemon *d = data;
	uint64_t now = vmp_now_ns();

	d->publish_due = false;
	d->last_publish_ns = now;
	if (d->corosync_up)
		send_json(d, own_state(d));
	vmp_loop_timer(d->loop, &d->publish_timer, now + PUBLISH_MAX_MS * ms_ns, publish, d);
}

void vmp_group_publish_soon(struct vmp_daemon *d)
{
	uint64_t at = d->last_publish_ns + PUBLISH_MIN_MS * ms_ns, now = vmp_now_ns();

	if (d->publish_due)
		return;
	d->publish_due = true;
	vmp_loop_timer(d->loop, &d->publish_timer, at > now ? at : now + ms_ns, publish, d);
}

static int node_index(const struct vmp_daemon *d, unsigned node)
{
	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id == node)
			return (int)i;
	return -ENOENT;
}

bool vmp_group_has(const struct vmp_daemon *d, unsigned node)
{
	for (unsigned i = 0; i < d->n_group; i++)
		if (d->group[i] == node)
			return true;
	return node == d->node;
}

const json_t *vmp_group_state(const struct vmp_daemon *d, unsigned node)
{
	if (node == d->node) { /* built on demand: the own node must not wait for its message to come back */
		if (!d->why->own)
			d->why->own = own_state(d);
		return d->why->own;
	}
	for (unsigned i = 0; i < VMP_CLUSTER_MAX_NODES; i++)
		if (d->remotes[i].node == node)
			return d->remotes[i].state;
	return NULL;
}

void vmp_group_own_stale(struct vmp_daemon *d)
{
	json_decref(d->why->own);
	d->why->own = NULL;
}

const json_t *vmp_group_pair(const struct vmp_daemon *d, unsigned node, const char *pair)
{
	const json_t *s = vmp_group_state(d, node);

	return s ? json_object_get(json_object_get(s, "pairs"), pair) : NULL;
}

static void keep_state(struct vmp_daemon *d, unsigned node, json_t *o)
{
	struct vmp_remote *free_slot = NULL;

	for (unsigned i = 0; i < VMP_CLUSTER_MAX_NODES; i++) {
		struct vmp_remote *r = &d->remotes[i];

		if (r->node == node || (!r->node && !free_slot))
			free_slot = r;
		if (r->node == node)
			break;
	}
	if (!free_slot)
		return;
	json_decref(free_slot->state);
	free_slot->node = node;
	free_slot->state = json_incref(o);
}

/* A node that comes may be another than the one that left. */
static void forget_state(struct vmp_daemon *d, unsigned node)
{
	for (unsigned i = 0; i < VMP_CLUSTER_MAX_NODES; i++)
		if (d->remotes[i].node == node) {
			json_decref(d->remotes[i].state);
			d->remotes[i].state = NULL;
		}
}

/* --- questions that wait for answers ------------------------------------------------------------------------------------------ */
static void pending_timer(void *data);

static struct pending *pending_new(struct vmp_daemon *d, enum pending_kind kind, uint64_t token, uint64_t wait_ms)
{
	struct vmp_why_query *q = d->why;

	for (unsigned i = 0; i < N_PENDING; i++) {
		struct pending *p = &q->p[i];

		if (p->kind != P_FREE)
			continue;
		*p = (struct pending){ .kind = kind, .id = ++q->next_id << 8 | d->node, .token = token,
				       .deadline_ns = vmp_now_ns() + wait_ms * ms_ns };
		vmp_loop_timer(d->loop, &q->timer, vmp_now_ns() + 50 * ms_ns, pending_timer, d);
		return p;
	}
	return NULL;
}

static struct pending *pending_find(struct vmp_daemon *d, enum pending_kind kind, uint64_t id)
{
	for (unsigned i = 0; i < N_PENDING; i++)
		if (d->why->p[i].kind == kind && d->why->p[i].id == id)
			return &d->why->p[i];
	return NULL;
}

static bool all_answered(const struct vmp_daemon *d, const struct pending *p)
{
	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id != d->node && vmp_group_has(d, d->nodes[i].id) && !(p->answered & 1ull << i))
			return false;
	return true;
}

static json_t *missing_nodes(const struct vmp_daemon *d, const struct pending *p)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id != d->node && d->nodes[i].id != d->witness && !(p->answered & 1ull << i))
			json_array_append_new(a, json_string(d->nodes[i].name));
	return a;
}

static void why_done(struct vmp_daemon *d, struct pending *p)
{
	json_t *why = vmp_journal_why(p->events, p->pair), *missing = missing_nodes(d, p);

	if (why) {
		json_object_set_new(why, "missing", missing);
		vmp_ctl_reply(d->ctl, p->token, VMP_CTL_OK, "", why);
	} else {
		json_decref(missing);
		vmp_ctl_reply(d->ctl, p->token, VMP_CTL_NOT_FOUND, "no change of primary of this pair is on record", NULL);
	}
	json_decref(p->events);
	p->events = NULL;
	p->kind = P_FREE;
}

static void key_step_done(struct vmp_daemon *d, struct pending *p);

static void pending_timer(void *data)
{
	struct vmp_daemon *d = data;
	uint64_t now = vmp_now_ns();
	bool more = false;

	for (unsigned i = 0; i < N_PENDING; i++) {
		struct pending *p = &d->why->p[i];

		if (p->kind == P_FREE || p->deadline_ns > now) {
			more |= p->kind != P_FREE;
			continue;
		}
		if (p->kind == P_WHY) {
			why_done(d, p);
		} else if (p->kind == P_FORWARD) {
			vmp_ctl_reply(d->ctl, p->token, VMP_CTL_TIMEOUT, "the node that holds the pair did not answer", NULL);
			p->kind = P_FREE;
		} else if (p->kind == P_SERVE) {
			p->kind = P_FREE;
		} else {
			key_step_done(d, p);
			more |= p->kind != P_FREE;
		}
	}
	if (more)
		vmp_loop_timer(d->loop, &d->why->timer, now + 50 * ms_ns, pending_timer, d);
}

void vmp_group_why(struct vmp_daemon *d, uint64_t token, const char *pair)
{
	struct pending *p = pending_new(d, P_WHY, token, WHY_WAIT_MS);

	if (!p) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, "too many questions at once", NULL);
		return;
	}
	snprintf(p->pair, sizeof(p->pair), "%s", pair);
	p->events = vmp_journal_list(d->journal, pair, WHY_EVENTS);
	if (all_answered(d, p) ||
	    send_json(d, json_pack("{s:s s:I s:s}", "t", "why?", "id", (json_int_t)p->id, "pair", pair)) < 0)
		why_done(d, p);
}

unsigned vmp_group_primary(struct vmp_daemon *d, const char *pair)
{
	json_int_t epoch, newest = -1;
	unsigned primary = 0;

	for (unsigned i = 0; i < d->n_nodes; i++) {
		const json_t *o = vmp_group_has(d, d->nodes[i].id) ? vmp_group_pair(d, d->nodes[i].id, pair) : NULL;

		if (!o || strcmp(get_text(o, "role"), "primary") != 0)
			continue;
		epoch = json_integer_value(json_object_get(o, "epoch"));
		if (epoch > newest) {
			newest = epoch;
			primary = d->nodes[i].id;
		}
	}
	return primary;
}

/* --- requests passed on ------------------------------------------------------------------------------------------------------------ */
void vmp_group_forward(struct vmp_daemon *d, uint64_t token, const char *cmd, const char *pair)
{
	struct pending *p;
	unsigned to = vmp_group_primary(d, pair);
	bool known = false;

	for (unsigned i = 0; i < d->n_nodes; i++)
		known |= vmp_group_pair(d, d->nodes[i].id, pair) != NULL;
	if (token & remote_token) { /* passed on to us, and meanwhile we are not the one */
		vmp_group_answer(d, token, VMP_CTL_FAILED, "the primary has just moved: look and ask again", NULL);
		return;
	}
	if (!known || !to || to == d->node) {
		vmp_ctl_reply(d->ctl, token, known ? VMP_CTL_FAILED : VMP_CTL_NOT_FOUND,
			      known ? "no node is primary of this pair" : "no such pair", NULL);
		return;
	}
	p = pending_new(d, P_FORWARD, token, FORWARD_WAIT_MS);
	if (!p || send_json(d, json_pack("{s:s s:I s:i s:s s:s}", "t", "req", "id", (json_int_t)p->id, "to", (int)to, "cmd", cmd, "pair",
					 pair)) < 0) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, "cannot reach the other nodes over corosync", NULL);
		if (p)
			p->kind = P_FREE;
	}
}

void vmp_group_answer(struct vmp_daemon *d, uint64_t token, int rc, const char *reason, json_t *extra)
{
	struct pending *p;

	if (!(token & remote_token)) {
		vmp_ctl_reply(d->ctl, token, rc, reason, extra);
		return;
	}
	p = &d->why->p[token % N_PENDING];
	if (p->kind == P_SERVE && p->served == token) { /* else its time was over, and the place may be somebody else's */
		send_json(d, json_pack("{s:s s:I s:i s:i s:s s:O*}", "t", "rep", "id", (json_int_t)p->id, "to", (int)p->from, "rc", rc,
				       "reason", reason, "extra", extra));
		p->kind = P_FREE;
	}
	json_decref(extra);
}

static void serve(struct vmp_daemon *d, unsigned from, const json_t *o)
{
	struct pending *p;

	if (get_number(o, "to") != d->node || strcmp(get_text(o, "cmd"), "switchover") != 0)
		return;
	p = pending_new(d, P_SERVE, 0, FORWARD_WAIT_MS);
	if (!p)
		return;
	p->from = from;
	p->id = get_number(o, "id");
	p->served = remote_token | d->why->next_id * N_PENDING | (uint64_t)(p - d->why->p);
	vmp_request_switchover(d, p->served, get_text(o, "pair"));
}

/* --- keys ----------------------------------------------------------------------------------------------------------------------------- */
/*
 * One new key for all: made here, sealed under the present sending key (CPG is encrypted by corosync only where the operator
 * configured so), added by everybody for receiving; when all that are there have it, all send with it. The old one stays valid
 * for nodes that were away, until `vmpair key drop`.
 */
enum { KEY_NONCE = 12, KEY_TAG = 16 };

static int key_aead(const struct vmp_key *k, gnutls_aead_cipher_hd_t *ret)
{
	const gnutls_datum_t secret = { (unsigned char *)(uintptr_t)k->secret, VMP_KEY_LEN }, salt = { (unsigned char *)"vmpair key", 10 };
	unsigned char prk[32], okm[32];
	gnutls_datum_t prk_d = { prk, sizeof(prk) }, okm_d = { okm, sizeof(okm) }, info = { (unsigned char *)"rotate", 6 };
	int r = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &secret, &salt, prk);

	if (r == 0)
		r = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &prk_d, &info, okm, sizeof(okm));
	if (r == 0)
		r = gnutls_aead_cipher_init(ret, GNUTLS_CIPHER_AES_256_GCM, &okm_d);
	gnutls_memset(prk, 0, sizeof(prk));
	gnutls_memset(okm, 0, sizeof(okm));
	return r == 0 ? 0 : -EIO;
}

static void hex(const unsigned char *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static int unhex(const char *s, unsigned char *out, size_t n)
{
	if (strlen(s) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		unsigned v;

		if (sscanf(s + 2 * i, "%2x", &v) != 1)
			return -EINVAL;
		out[i] = (unsigned char)v;
	}
	return 0;
}

static int reload_keys(struct vmp_daemon *d)
{
	struct vmp_keys fresh;
	struct vmp_diag diag;
	int r;

	vmp_diag_init(&diag);
	r = vmp_keys_load(d->conf.key_file, &fresh, &diag);
	if (r < 0) {
		vmp_log(LOG_ERR, "keys not taken over: %s", diag.text);
		return r;
	}
	vmp_keys_wipe(&d->keys);
	d->keys = fresh;
	vmp_keys_wipe(&fresh);
	vmp_sync_rekey(d);
	return d->net ? vmp_net_set_keys(d->net, &d->keys) : 0;
}

static void key_import(struct vmp_daemon *d, const json_t *o)
{
	unsigned char nonce[KEY_NONCE], sealed[VMP_KEY_LEN + KEY_TAG], plain[VMP_KEY_LEN];
	uint16_t id = (uint16_t)get_number(o, "key");
	size_t len = sizeof(plain);
	gnutls_aead_cipher_hd_t h;
	int under = vmp_keys_find(&d->keys, (uint16_t)get_number(o, "under")), r;

	if (under < 0 || unhex(get_text(o, "nonce"), nonce, sizeof(nonce)) < 0 || unhex(get_text(o, "sealed"), sealed, sizeof(sealed)) < 0 ||
	    key_aead(&d->keys.key[under], &h) < 0) {
		vmp_log(LOG_ERR, "key rotation: a new key came under a key that is not here: copy the key file from a node that has it");
		return;
	}
	r = gnutls_aead_cipher_decrypt(h, nonce, sizeof(nonce), &id, sizeof(id), KEY_TAG, sealed, sizeof(sealed), plain, &len);
	gnutls_aead_cipher_deinit(h);
	if (r == 0 && len == sizeof(plain))
		r = vmp_keys_import(d->conf.key_file, id, plain, NULL);
	else
		r = -EBADMSG;
	gnutls_memset(plain, 0, sizeof(plain));
	if (r == 0)
		r = reload_keys(d);
	vmp_log(r < 0 ? LOG_ERR : LOG_NOTICE, "key rotation: key %u %s%s", id, r < 0 ? "refused: " : "added", r < 0 ? strerror(-r) : "");
	if (r == 0)
		send_json(d, json_pack("{s:s s:I}", "t", "key-ok", "id", json_integer_value(json_object_get(o, "id"))));
}

static void key_use(struct vmp_daemon *d, const json_t *o)
{
	uint16_t id = (uint16_t)get_number(o, "key");
	int r = vmp_keys_set_send(d->conf.key_file, id, NULL);

	if (r == 0)
		r = reload_keys(d);
	vmp_log(r < 0 ? LOG_ERR : LOG_NOTICE, "key rotation: key %u %s%s", id, r < 0 ? "cannot be used: " : "is used for sending",
		r < 0 ? strerror(-r) : "");
	vmp_journal_add(d->journal, NULL, 0, "key", "key %u %s", id, r < 0 ? "cannot be used" : "is used for sending");
	if (r == 0)
		send_json(d, json_pack("{s:s s:I}", "t", "key-ok", "id", json_integer_value(json_object_get(o, "id"))));
}

static void key_step_done(struct vmp_daemon *d, struct pending *p)
{
	json_t *missing = missing_nodes(d, p);

	if (p->kind == P_KEY_USE && json_array_size(missing) == 0 && d->keys.key[d->keys.send].id != p->key_id)
		json_array_append_new(missing, json_string(d->node_name)); /* its own key file could not be written */
	if (!all_answered(d, p) || json_array_size(missing)) {
		char reason[200];

		snprintf(reason, sizeof(reason), "%s has not confirmed key %u: %s", json_string_value(json_array_get(missing, 0)), p->key_id,
			 p->kind == P_KEY_ADD ? "the old key stays in use; repeat when all nodes are there" :
						"it may still send with the old key, which stays valid");
		vmp_ctl_reply(d->ctl, p->token, VMP_CTL_FAILED, reason, json_pack("{s:i s:o}", "key_id", (int)p->key_id, "missing", missing));
		p->kind = P_FREE;
		return;
	}
	json_decref(missing);
	if (p->kind == P_KEY_ADD) {
		p->kind = P_KEY_USE;
		p->answered = 0;
		p->deadline_ns = vmp_now_ns() + KEY_WAIT_MS * ms_ns;
		send_json(d, json_pack("{s:s s:I s:i}", "t", "key-use", "id", (json_int_t)p->id, "key", (int)p->key_id));
		return;
	}
	json_t *nodes = json_array();
	for (unsigned i = 0; i < d->n_nodes; i++)
		json_array_append_new(nodes, json_string(d->nodes[i].name));
	vmp_ctl_reply(d->ctl, p->token, VMP_CTL_OK, "", json_pack("{s:i s:o}", "key_id", (int)p->key_id, "nodes", nodes));
	p->kind = P_FREE;
}

void vmp_group_key_rotate(struct vmp_daemon *d, uint64_t token)
{
	unsigned char nonce[KEY_NONCE], sealed[VMP_KEY_LEN + KEY_TAG];
	char nonce_hex[2 * KEY_NONCE + 1], sealed_hex[2 * sizeof(sealed) + 1];
	struct vmp_diag diag;
	struct pending *p;
	gnutls_aead_cipher_hd_t h;
	size_t len = sizeof(sealed);
	uint16_t id = 0, under;
	int r, at, at_under;

	if (!d->corosync_up || d->witness) {
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED, d->witness ?
			      "a witness hears nothing over corosync: use key add and key use on each node and on the witness" :
			      "corosync is down: the other nodes cannot be told", NULL);
		return;
	}
	vmp_diag_init(&diag);
	under = d->keys.key[d->keys.send].id;
	r = vmp_keys_add(d->conf.key_file, &id, &diag);
	if (r == 0)
		r = reload_keys(d);
	at = r == 0 ? vmp_keys_find(&d->keys, id) : r;
	at_under = vmp_keys_find(&d->keys, under); /* the file may have been edited: all of it was read again */
	p = at >= 0 && at_under >= 0 ? pending_new(d, P_KEY_ADD, token, KEY_WAIT_MS) : NULL;
	if (!p || key_aead(&d->keys.key[at_under], &h) < 0) {
		if (p)
			p->kind = P_FREE;
		vmp_ctl_reply(d->ctl, token, VMP_CTL_FAILED,
			      at == -ENOSPC ? "four keys are valid already: drop an old one first (vmpair key drop)" :
			      diag.len	    ? diag.text :
					      "cannot make a new key", NULL);
		return;
	}
	p->key_id = id;
	gnutls_rnd(GNUTLS_RND_NONCE, nonce, sizeof(nonce));
	r = gnutls_aead_cipher_encrypt(h, nonce, sizeof(nonce), &id, sizeof(id), KEY_TAG, d->keys.key[at].secret, VMP_KEY_LEN, sealed, &len);
	gnutls_aead_cipher_deinit(h);
	hex(nonce, sizeof(nonce), nonce_hex);
	hex(sealed, sizeof(sealed), sealed_hex);
	if (r == 0)
		send_json(d, json_pack("{s:s s:I s:i s:i s:s s:s}", "t", "key-add", "id", (json_int_t)p->id, "key", (int)id, "under",
				       (int)under, "nonce", nonce_hex, "sealed", sealed_hex));
	vmp_log(LOG_NOTICE, "key rotation: key %u made, sent to all nodes under key %u", id, under);
}

/* --- receiving --------------------------------------------------------------------------------------------------------------------------- */
void vmp_group_message(struct vmp_daemon *d, unsigned from, const char *text, size_t len)
{
	json_t *o = json_loadb(text, len, 0, NULL), *rep;
	const char *t = get_text(o, "t");
	struct pending *p;

	if (!o)
		return;
	if (!strcmp(t, "state") && from != d->node) {
		keep_state(d, from, o);
		vmp_sync_update_all(d); /* a peer's address */
	} else if (!strcmp(t, "why?") && from != d->node) {
		/* the newest that fit into one group message */
		for (unsigned n = WHY_EVENTS; n >= WHY_EVENTS / 8; n /= 2) {
			rep = vmp_journal_list(d->journal, get_text(o, "pair"), n);
			if (send_json(d, json_pack("{s:s s:I s:o}", "t", "why!", "id", (json_int_t)get_number(o, "id"), "events", rep)) !=
			    -EMSGSIZE)
				break;
		}
	} else if (!strcmp(t, "why!") && (p = pending_find(d, P_WHY, get_number(o, "id")))) {
		int i = node_index(d, from);

		json_array_extend(p->events, json_object_get(o, "events"));
		if (i >= 0)
			p->answered |= 1ull << i;
		if (all_answered(d, p))
			why_done(d, p);
	} else if (!strcmp(t, "copy?")) {
		vmp_copies_asked(d, from, o);
	} else if (!strcmp(t, "copy!")) {
		vmp_copies_told(d, from, o);
	} else if (!strcmp(t, "req")) {
		serve(d, from, o);
	} else if (!strcmp(t, "rep") && get_number(o, "to") == d->node && (p = pending_find(d, P_FORWARD, get_number(o, "id")))) {
		vmp_ctl_reply(d->ctl, p->token, (int)json_integer_value(json_object_get(o, "rc")), get_text(o, "reason"),
			      json_incref(json_object_get(o, "extra")));
		p->kind = P_FREE;
	} else if (!strcmp(t, "key-add") && from != d->node) {
		key_import(d, o);
	} else if (!strcmp(t, "key-use")) {
		key_use(d, o);
	} else if (!strcmp(t, "key-ok")) {
		int i = node_index(d, from);

		p = pending_find(d, P_KEY_ADD, get_number(o, "id"));
		if (!p)
			p = pending_find(d, P_KEY_USE, get_number(o, "id"));
		if (p && i >= 0)
			p->answered |= 1ull << i;
		if (p && all_answered(d, p))
			key_step_done(d, p);
	}
	json_decref(o);
}

/* Who we are, from corosync's node list. */
static void take_nodelist(struct vmp_daemon *d, const struct vmp_cluster_event *ev)
{
	if (ev->own_id < 1 || ev->own_id > 255) {
		vmp_log(LOG_ERR, "corosync.conf: nodeid %u of this node is not within 1..255, which vmpaird needs", ev->own_id);
		return;
	}
	d->n_nodes = 0;
	for (unsigned i = 0; i < ev->n_nodes; i++)
		if (ev->nodes[i].id >= 1 && ev->nodes[i].id <= 255)
			d->nodes[d->n_nodes++] = ev->nodes[i];
		else
			vmp_log(LOG_ERR, "corosync.conf: nodeid %u of %s is not within 1..255, which vmpaird needs: the node is left out",
				ev->nodes[i].id, ev->nodes[i].name);
	if (d->node && d->node != ev->own_id) {
		vmp_log(LOG_ERR, "corosync changed the id of this node from %u to %u: restart vmpaird", d->node, ev->own_id);
		return;
	}
	d->node = (uint8_t)ev->own_id;
	vmp_witness_join(d);
	snprintf(d->node_name, sizeof(d->node_name), "%s", vmp_node_name(d, d->node));
	vmp_run_identified(d);
}

void vmp_group_cluster_event(struct vmp_daemon *d)
{
	struct vmp_cluster_event ev;

	while (vmp_cluster_next(d->cluster, &ev) > 0) {
		switch (ev.type) {
		case VMP_CLUSTER_UP:
			if (!d->corosync_up)
				vmp_log(LOG_NOTICE, "connected to corosync");
			d->corosync_up = true;
			take_nodelist(d, &ev);
			vmp_run_status(d);
			vmp_group_publish_soon(d);
			break;
		case VMP_CLUSTER_NODELIST:
			take_nodelist(d, &ev);
			break;
		case VMP_CLUSTER_LOST:
			d->corosync_up = d->quorate = false;
			d->n_group = 0;
			vmp_log(LOG_WARNING, "corosync is gone; leases go on by themselves");
			vmp_journal_add(d->journal, NULL, 0, "corosync-lost", "leases go on by themselves");
			vmp_run_status(d);
			break;
		case VMP_CLUSTER_QUORUM:
			if (d->quorate != ev.quorate)
				vmp_journal_add(d->journal, NULL, 0, "quorum", "%s, %u nodes", ev.quorate ? "quorate" : "lost", ev.n_nodes);
			d->quorate = ev.quorate;
			vmp_member_merged(d);
			if (d->pcmk)
				vmp_pcmk_rewrite(d->pcmk, NULL);
			break;
		case VMP_CLUSTER_MEMBERS:
			for (unsigned i = 0; i < ev.n_nodes; i++)
				if (!vmp_group_has(d, ev.nodes[i].id))
					forget_state(d, ev.nodes[i].id);
			d->n_group = ev.n_nodes;
			for (unsigned i = 0; i < ev.n_nodes; i++)
				d->group[i] = ev.nodes[i].id;
			vmp_journal_add(d->journal, NULL, 0, "membership", "%u daemons in the group", ev.n_nodes);
			vmp_group_publish_soon(d);
			break;
		case VMP_CLUSTER_MSG:
			if (d->node)
				vmp_group_message(d, ev.from, (const char *)ev.data, ev.len);
			break;
		}
		vmp_cluster_event_done(&ev);
	}
}

int vmp_group_new(struct vmp_daemon *d)
{
	d->remotes = calloc(VMP_CLUSTER_MAX_NODES, sizeof(*d->remotes));
	d->why = calloc(1, sizeof(*d->why));
	return d->remotes && d->why ? 0 : -ENOMEM;
}

void vmp_group_free(struct vmp_daemon *d)
{
	for (unsigned i = 0; d->remotes && i < VMP_CLUSTER_MAX_NODES; i++)
		json_decref(d->remotes[i].state);
	if (d->why) {
		vmp_group_own_stale(d);
		for (unsigned i = 0; i < N_PENDING; i++)
			json_decref(d->why->p[i].events);
	}
	free(TAKE_PTR(d->remotes));
	free(TAKE_PTR(d->why));
}
