/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A member and its relay: when it is started, what it is told, and what its words mean for the core. The relay holds requests that are the
 * member's content (I2): with the relay the content is gone, so a relay that ends is to the core what an ended VM is, and a new one begins
 * with a new content id.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/tickle.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum { RETRY_FIRST_MS = 100, RETRY_MAX_MS = 10000, GOOD_RUN_MS = 30000 };
static const char key_purpose[] = "vmpair relay";

static void begin(struct vmp_member *m);

bool vmp_sync_wanted(const struct vmp_member *m)
{
	return m->params.relay != VMP_RELAY_NONE;
}

bool vmp_sync_ready(const struct vmp_member *m)
{
	return !vmp_sync_wanted(m) || (m->sync.relay && vmp_relay_greeted(m->sync.relay));
}

/* --- what a relay is told at first ---------------------------------------------------------------------------------------- */
static const char *own_address(const struct vmp_member *m, char buf[static VMP_ADDR_STRLEN])
{
	const struct vmp_daemon *d = m->d;

	if (m->params.relay == VMP_RELAY_GUEST)
		return vmp_addr_str(&m->slot.internal, false, buf);
	for (unsigned i = 0; i < d->n_nodes; i++)
		if (d->nodes[i].id == d->node) {
			snprintf(buf, VMP_ADDR_STRLEN, "%.*s", VMP_ADDR_STRLEN - 1, d->nodes[i].addr[0]);
			return buf;
		}
	buf[0] = '\0';
	return buf;
}

static bool in_guest(const struct vmp_member *m)
{
	return m->params.relay == VMP_RELAY_GUEST;
}

static void key_path(const struct vmp_member *m, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s/%s.keys", m->d->conf.runtime_dir, in_guest(m) ? "guest" : "relay", m->name);
}

void vmp_sync_guest_paths(const struct vmp_member *m, char *channel, size_t channel_size, char *keys, size_t keys_size)
{
	channel[0] = keys[0] = '\0';
	if (!in_guest(m))
		return;
	snprintf(channel, channel_size, "%s/guest/%s.sock", m->d->conf.runtime_dir, m->name);
	key_path(m, keys, keys_size);
}

/* The relay learns keys made for this pair only; those of the daemons stay with them. qemu's file is handed to its user by libvirt. */
static int write_keys(struct vmp_member *m, char *reason, size_t size)
{
	CLEANUP_KEYS struct vmp_keys keys = { 0 };
	char path[VMP_CONF_STR + 96];
	int r = vmp_keys_derive(&m->d->keys, key_purpose, m->name, &keys);

	key_path(m, path, sizeof(path));
	if (r == 0 && in_guest(m))
		r = vmp_keys_write(path, &keys, (uid_t)-1, (gid_t)-1);
	else if (r == 0)
		r = vmp_keys_write(path, &keys, vmp_relays_uid(m->d->relays), vmp_relays_gid(m->d->relays));
	if (r < 0)
		snprintf(reason, size, "%s: %s", path, strerror(-r));
	return r;
}

static char *config_line(const struct vmp_member *m)
{
	const struct vmp_conf *conf = &m->d->conf;
	char path[VMP_CONF_STR + 96], buf[VMP_ADDR_STRLEN];
	struct vmp_relay_config c = { .params = &m->params, .pair_id = m->id, .member = m->member, .node = m->d->node, .hb_ms = conf->hb_ms,
				      .port_min = conf->relay_port_min, .port_max = conf->relay_port_max, .keys = path };

	/* A VM without a disk of its own is, until something was served, what every other one of the pair is. */
	c.pristine = m->dom && m->dom->n_disks == 0 && m->sync.failures == 0;
	key_path(m, path, sizeof(path));
	snprintf(c.backend, sizeof(c.backend), "%s", in_guest(m) ? "127.0.0.1" :
		 vmp_addr_str(&m->slot.internal, false, buf));
	snprintf(c.bind, sizeof(c.bind), "%s", own_address(m, buf));
	return vmp_relay_config_line(&c);
}

/* Made when the first relay is wanted: a node without relays needs no relay_user. */
static int relays(struct vmp_daemon *d, char *reason, size_t size)
{
	static char dir[VMP_CONF_STR + 8];
	struct vmp_relays_conf conf = { .loop = d->loop, .program = VMP_RELAY_PROGRAM, .dir = dir, .user = d->conf.relay_user };

	if (d->relays)
		return 0;
	snprintf(dir, sizeof(dir), "%s/relay", d->conf.runtime_dir);
	/* Everything in it is closed to others by itself; the relays' user has to come through to its own directory. */
	if (chmod(d->conf.runtime_dir, 0711) < 0) {
		snprintf(reason, size, "%s: %s", d->conf.runtime_dir, strerror(errno));
		return -errno;
	}
	return vmp_relays_new(&d->relays, &conf, reason, size);
}

int vmp_sync_prepare(struct vmp_member *m, char *reason, size_t size)
{
	char dir[VMP_CONF_STR + 8];
	int r;

	if (!vmp_sync_wanted(m))
		return 0;
	r = relays(m->d, reason, size);
	if (r < 0 || !in_guest(m))
		return r;
	snprintf(dir, sizeof(dir), "%s/guest", m->d->conf.runtime_dir);
	if (mkdir(dir, 0711) < 0 && errno != EEXIST) {
		snprintf(reason, size, "%s: %s", dir, strerror(errno));
		return -errno;
	}
	return write_keys(m, reason, size);
}

/* --- what it says ---------------------------------------------------------------------------------------------------------- */
static void on_caught(struct vmp_member *m, const struct vmp_relay_event *ev)
{
	struct vmp_event in = { .type = VMP_EV_IN_SYNC, .pair = m->id, .node = ev->node, .on = ev->on, .member = ev->member, .op = ev->op };

	if (!ev->op && (m->sync.caught != ev->on || m->sync.caught_node != ev->node)) {
		m->sync.caught = ev->on;
		m->sync.caught_node = ev->node;
		vmp_journal_add(m->d->journal, m->name, 0, ev->on ? "caught-up" : "behind", "the relay of %s %s%s%s",
				vmp_node_name(m->d, ev->node), ev->on ? "holds everything up to now" : "does not hold everything",
				ev->text[0] ? ": " : "", ev->text);
	}
	vmp_exec_feed(m->d, &in);
}

/* I2: its content is about to be replaced; the old id may be on record as in sync and must not be claimed with any more. */
static void on_need_member(struct vmp_member *m, const struct vmp_relay_event *ev)
{
	struct vmp_pair_view v;

	if (vmp_member_view(m, &v) && v.role != VMP_ROLE_NONE) {
		vmp_log(LOG_ERR, "%s: the relay asks for a new content id while this node is %s; not given", m->name, vmp_role_name(v.role));
		return;
	}
	vmp_journal_add(m->d->journal, m->name, 0, "resync", "the standby is made anew from the primary%s%s", ev->text[0] ? ": " : "", ev->text);
	vmp_member_content(m, vmp_member_new_id());
	vmp_relay_send(m->sync.relay, vmp_relay_member_line(m->member));
}

static void on_takeover(struct vmp_member *m, const struct vmp_relay_event *ev)
{
	static const char *const keys[] = { "received", "dispatched", "answered", "done", "executed", "kept", "dropped" };
	uint64_t n[ARRAY_SIZE(keys)], first = vmp_relay_count(ev->obj, "first_answer_us");
	char text[320];
	int len;

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		n[i] = vmp_relay_count(ev->obj, keys[i]);
	len = snprintf(text, sizeof(text), "taken over: %llu received only, %llu dispatched, %llu answered, %llu done; of these %llu executed "
		       "here, %llu answers kept for repeats, %llu dropped",
		       (unsigned long long)n[0], (unsigned long long)n[1], (unsigned long long)n[2], (unsigned long long)n[3],
		       (unsigned long long)n[4], (unsigned long long)n[5], (unsigned long long)n[6]);
	if (!(n[0] | n[1] | n[2] | n[3]))
		len = snprintf(text, sizeof(text), "nothing was unfinished");
	if (first)
		snprintf(text + len, sizeof(text) - (size_t)len, "; first answer after %.1f ms", (double)first / 1e3);
	vmp_journal_add(m->d->journal, m->name, ev->epoch, "requests", "%s", text);
	vmp_log(n[6] ? LOG_WARNING : LOG_NOTICE, "%s: epoch %llu: requests: %s", m->name, (unsigned long long)ev->epoch, text);
	json_decref(m->sync.takeover);
	m->sync.takeover = json_incref(ev->obj);
	json_object_del(m->sync.takeover, "ev");
	vmp_group_publish_soon(m->d);
}

static int address_of(const char *text, int *family, uint8_t bytes[static 16])
{
	*family = text && strchr(text, ':') ? AF_INET6 : AF_INET;
	return text && inet_pton(*family, text, bytes) == 1 ? 0 : -EINVAL;
}

/* From an entry address and port of the pair, and only from its primary: a relay cannot have anything else sent in anybody's name. */
static void on_tickle(struct vmp_member *m, const struct vmp_relay_event *ev)
{
	const struct vmp_pair_params *p = &m->params;
	json_int_t port = json_integer_value(json_object_get(ev->obj, "port"));
	struct vmp_tickle t = { .server_port = (uint16_t)port };
	const json_t *to = json_object_get(ev->obj, "to"), *c;
	CLEANUP_CLOSE int fd = -1;
	bool ours = false;
	size_t i;
	int r;

	if (m->sync.role != VMP_RELAY_PRIMARY || address_of(json_string_value(json_object_get(ev->obj, "from")), &t.family, t.server) < 0)
		return;
	for (unsigned a = 0; a < p->n_entry; a++)
		for (unsigned s = 0; s < p->n_services; s++)
			ours |= p->entry[a].family == t.family && !memcmp(p->entry[a].bytes, t.server, sizeof(t.server)) &&
				p->service[s].port == port;
	if (!ours) {
		vmp_log(LOG_WARNING, "%s: the relay wants clients to be told in the name of an address that is not the pair's: not done", m->name);
		return;
	}
	fd = vmp_tickle_socket(t.family);
	if (fd < 0) {
		vmp_log(LOG_WARNING, "%s: clients of the old primary cannot be told that it is gone: raw socket: %s", m->name, strerror(-fd));
		return;
	}
	json_array_foreach(to, i, c) {
		json_int_t client_port = json_integer_value(json_array_get(c, 1));
		int family;

		if (client_port < 1 || client_port > UINT16_MAX ||
		    address_of(json_string_value(json_array_get(c, 0)), &family, t.client) < 0 || family != t.family)
			continue;
		t.client_port = (uint16_t)client_port;
		r = vmp_tickle_send(fd, &t);
		if (r < 0)
			vmp_log(LOG_DEBUG, "%s: a client of the old primary is not told: %s", m->name, strerror(-r));
	}
}

static void on_stats(struct vmp_member *m, const struct vmp_relay_event *ev)
{
	uint64_t diverged = vmp_relay_count(ev->obj, "diverged");
	bool more = diverged > vmp_relay_count(m->sync.stats, "diverged");

	json_decref(m->sync.stats);
	m->sync.stats = json_incref(ev->obj);
	json_object_del(m->sync.stats, "ev");
	if (more)
		vmp_group_publish_soon(m->d);
}

static void retry(void *data)
{
	struct vmp_member *m = data;

	if (m->phase == VMP_HOST_RUNNING)
		begin(m);
}

static void gone(struct vmp_member *m, const char *why)
{
	struct vmp_sync *s = &m->sync;
	uint64_t now = vmp_now_ns();
	unsigned wait = RETRY_FIRST_MS;

	s->relay = vmp_relay_stop(s->relay);
	snprintf(s->reason, sizeof(s->reason), "%.199s", why);
	vmp_log(LOG_ERR, "%s: %s; what it held is lost, and it is started again", m->name, why);
	vmp_journal_add(m->d->journal, m->name, 0, "cause", "%s", why);
	if (s->begun_ns && now - s->begun_ns > GOOD_RUN_MS * ms_ns)
		s->failures = 0;
	for (unsigned i = 0; i < s->failures && wait < RETRY_MAX_MS; i++)
		wait *= 2;
	s->failures++;
	s->caught = false;
	vmp_loop_timer(m->d->loop, &s->timer, now + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS) * ms_ns, retry, m);
	vmp_member_content(m, 0); /* H4, R2: as when the VM ends */
}

static void on_relay(void *data, const struct vmp_relay_event *ev)
{
	struct vmp_member *m = data;

	switch (ev->type) {
	case VMP_RELAY_EV_HELLO:
		m->sync.port = ev->port;
		m->sync.reason[0] = '\0';
		vmp_journal_add(m->d->journal, m->name, 0, "relay", "runs, process %d, port %u", (int)ev->pid, ev->port);
		vmp_sync_update(m);
		vmp_member_to_core(m);
		vmp_member_changed(m);
		break;
	case VMP_RELAY_EV_READY: {
		struct vmp_event in = { .type = VMP_EV_RELAY_READY, .pair = m->id, .epoch = ev->epoch };

		vmp_exec_feed(m->d, &in);
		break;
	}
	case VMP_RELAY_EV_CAUGHT:
		on_caught(m, ev);
		break;
	case VMP_RELAY_EV_NEED_MEMBER:
		on_need_member(m, ev);
		break;
	case VMP_RELAY_EV_STATS:
		on_stats(m, ev);
		break;
	case VMP_RELAY_EV_TAKEOVER:
		on_takeover(m, ev);
		break;
	case VMP_RELAY_EV_TICKLE:
		on_tickle(m, ev);
		break;
	case VMP_RELAY_EV_NOTE:
	case VMP_RELAY_EV_ERROR:
		vmp_log(ev->level, "%s: relay: %s", m->name, ev->text);
		if (ev->level <= LOG_WARNING)
			vmp_journal_add(m->d->journal, m->name, 0, "relay", "%s", ev->text);
		break;
	case VMP_RELAY_EV_LOST:
		gone(m, ev->text);
		break;
	case VMP_RELAY_EV_START:
		break;
	}
}

/* --- start and end ----------------------------------------------------------------------------------------------------------- */
static void forget_told(struct vmp_sync *s)
{
	s->role = VMP_RELAY_IDLE;
	s->role_epoch = 0;
	s->peer_node = 0;
	s->peer_port = 0;
	s->peer_member = 0;
	s->peer_address[0] = '\0';
	s->port = 0;
	s->caught = false;
	json_decref(s->stats);
	s->stats = NULL;
}

static int attach(struct vmp_member *m, uint64_t known, char *reason, size_t size)
{
	char channel[VMP_CONF_STR + 96], keys[VMP_CONF_STR + 96];

	vmp_sync_guest_paths(m, channel, sizeof(channel), keys, sizeof(keys));
	return vmp_relay_attach(m->d->relays, m->name, channel, known, config_line(m), on_relay, m, &m->sync.relay, reason, size);
}

static void begin(struct vmp_member *m)
{
	struct vmp_sync *s = &m->sync;
	char reason[VMP_CONF_STR + 200] = "";
	int r;

	forget_told(s);
	s->begun_ns = vmp_now_ns();
	if (!m->member)
		vmp_member_content(m, vmp_member_new_id());
	r = relays(m->d, reason, sizeof(reason));
	if (r == 0 && in_guest(m)) {
		r = attach(m, 0, reason, sizeof(reason));
	} else {
		if (r == 0)
			r = write_keys(m, reason, sizeof(reason));
		if (r == 0)
			r = vmp_relay_start(m->d->relays, m->name, config_line(m), on_relay, m, &s->relay, reason, sizeof(reason));
	}
	if (r < 0) {
		gone(m, reason[0] ? reason : strerror(-r));
		return;
	}
	vmp_sync_update(m);
	vmp_member_changed(m); /* the facts name it */
}

void vmp_sync_start(struct vmp_member *m)
{
	if (!vmp_sync_wanted(m) || m->sync.relay)
		return;
	m->sync.failures = 0;
	begin(m);
}

bool vmp_sync_adopt(struct vmp_member *m, const struct vmp_facts *f)
{
	char reason[VMP_CONF_STR + 200] = "";

	if (!vmp_sync_wanted(m))
		return true;
	forget_told(&m->sync);
	m->sync.begun_ns = vmp_now_ns();
	if (in_guest(m)) /* which relay it is shows in its hello */
		return f->relay_number && relays(m->d, reason, sizeof(reason)) == 0 &&
		       attach(m, f->relay_number, reason, sizeof(reason)) == 0;
	if (relays(m->d, reason, sizeof(reason)) == 0 && write_keys(m, reason, sizeof(reason)) == 0 &&
	    vmp_relay_adopt(m->d->relays, m->name, f->relay_instance, f->relay_pid, f->relay_start, config_line(m), on_relay, m,
			    &m->sync.relay, reason, sizeof(reason)) == 0) {
		vmp_log(LOG_NOTICE, "%s: relay taken over, process %d", m->name, (int)f->relay_pid);
		return true;
	}
	vmp_log(LOG_WARNING, "%s: %s; a new one is started", m->name, reason[0] ? reason : "its relay is gone");
	return false;
}

void vmp_sync_end_others(struct vmp_daemon *d)
{
	char dir[VMP_CONF_STR + 8], reason[VMP_CONF_STR + 200];

	snprintf(dir, sizeof(dir), "%s/relay", d->conf.runtime_dir);
	if (access(dir, F_OK) == 0 && relays(d, reason, sizeof(reason)) == 0)
		vmp_relays_end_others(d->relays);
}

void vmp_sync_stop(struct vmp_member *m)
{
	char path[VMP_CONF_STR + 96];

	if (vmp_sync_wanted(m)) { /* it has read them; a start writes them anew */
		key_path(m, path, sizeof(path));
		unlink(path);
	}
	vmp_loop_timer_del(m->d->loop, &m->sync.timer);
	m->sync.relay = vmp_relay_stop(m->sync.relay);
	forget_told(&m->sync);
	m->sync.reason[0] = '\0';
}

void vmp_sync_forget(struct vmp_member *m)
{
	vmp_loop_timer_del(m->d->loop, &m->sync.timer);
	json_decref(m->sync.stats);
	json_decref(m->sync.takeover);
}

/* --- what it is told ----------------------------------------------------------------------------------------------------------- */
void vmp_sync_fence(struct vmp_member *m, uint64_t epoch)
{
	/* Without a relay there is no answer, and the attempt ends by its time limit: this member has no content to be primary with. */
	if (m->sync.relay)
		vmp_relay_send(m->sync.relay, vmp_relay_fence_line(epoch, 0));
}

void vmp_sync_mode(struct vmp_member *m, const struct vmp_action *a)
{
	if (m->sync.relay)
		vmp_relay_send(m->sync.relay, vmp_relay_mode_line(a->code, a->op, (uint8_t)a->a, a->b));
}

static void tell_role(struct vmp_member *m, enum vmp_relay_role role, uint64_t epoch)
{
	struct vmp_sync *s = &m->sync;

	if (s->role == role && (role == VMP_RELAY_IDLE || s->role_epoch == epoch))
		return;
	s->role = role;
	s->role_epoch = epoch;
	vmp_relay_send(s->relay, vmp_relay_role_line(role, epoch));
}

/* The relay of a node as it published it last. What is not known changes nothing: an old address is no worse than none. */
static void tell_peer(struct vmp_member *m, uint8_t node)
{
	struct vmp_sync *s = &m->sync;
	const json_t *p = node ? vmp_group_pair(m->d, node, m->name) : NULL, *o = p ? json_object_get(p, "relay") : NULL;
	const char *address = json_string_value(json_object_get(o, "address"));
	uint16_t port = (uint16_t)json_integer_value(json_object_get(o, "port"));
	uint64_t member = 0;

	if (!address || !*address || !port || !vmp_relay_u64(o, "member", &member) || !member)
		return;
	if (s->peer_node == node && s->peer_port == port && s->peer_member == member && !strcmp(s->peer_address, address))
		return;
	s->peer_node = node;
	s->peer_port = port;
	s->peer_member = member;
	snprintf(s->peer_address, sizeof(s->peer_address), "%s", address);
	vmp_relay_send(s->relay, vmp_relay_peer_line(node, address, port, member));
}

/* The node whose member is, or may become, this primary's standby. */
static uint8_t standby_node(const struct vmp_member *m, const struct vmp_pair_view *v)
{
	const struct vmp_config *c = &m->d->core.config;

	if (v->sync_node && v->sync_node != m->d->node)
		return v->sync_node;
	for (unsigned i = 0; i < c->n; i++)
		if (c->voter[i].node != m->d->node && (v->peer[i].flags & VMP_MEMBER_RUNNING))
			return c->voter[i].node;
	return 0;
}

void vmp_sync_update(struct vmp_member *m)
{
	struct vmp_pair_view v;

	if (!m->sync.relay || !vmp_member_view(m, &v))
		return;
	switch ((enum vmp_role)v.role) {
	case VMP_ROLE_HOLDING:
		tell_peer(m, standby_node(m, &v));
		tell_role(m, VMP_RELAY_PRIMARY, v.epoch);
		break;
	case VMP_ROLE_CLOSING:
		tell_role(m, VMP_RELAY_IDLE, 0);
		break;
	case VMP_ROLE_NONE:
		if (v.primary && v.primary != m->d->node && !v.reg.state.cold) {
			tell_peer(m, v.primary);
			tell_role(m, VMP_RELAY_STANDBY, v.reg.state.epoch);
		} else {
			tell_role(m, VMP_RELAY_IDLE, 0);
		}
		break;
	case VMP_ROLE_ESTABLISHING: /* it was fenced, and learns in a moment what it is */
	case VMP_ROLE_COUNT:
		break;
	}
}

void vmp_sync_update_all(struct vmp_daemon *d)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used)
			vmp_sync_update(&d->members[i]);
}

void vmp_sync_reconfigure(struct vmp_member *m)
{
	if (m->sync.relay)
		vmp_relay_send(m->sync.relay, config_line(m));
}

void vmp_sync_rekey(struct vmp_daemon *d)
{
	char reason[VMP_CONF_STR + 200];

	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];

		if (!m->used || !m->sync.relay)
			continue;
		if (write_keys(m, reason, sizeof(reason)) < 0)
			vmp_log(LOG_ERR, "%s: new keys do not reach the relay: %s", m->name, reason);
		else if (in_guest(m)) /* fw_cfg shows what was there when qemu started */
			vmp_log(LOG_NOTICE, "%s: the relay in the guest has the new keys from the next start of its VM on", m->name);
		else
			vmp_relay_send(m->sync.relay, vmp_relay_plain_line("rekey"));
	}
}

/* --- what is published ------------------------------------------------------------------------------------------------------------ */
json_t *vmp_sync_state(const struct vmp_member *m)
{
	const struct vmp_sync *s = &m->sync;
	char member[24], address[VMP_ADDR_STRLEN];
	bool up = vmp_sync_ready(m);

	if (!vmp_sync_wanted(m))
		return NULL;
	snprintf(member, sizeof(member), "0x%llx", (unsigned long long)m->member);
	return json_pack("{s:s s:s s:s s:i s:s s:i s:s s:O? s:O?}", "place", in_guest(m) ? "guest" : "host", "state",
			 up ? "up" : s->relay ? "starting" : "down", "address", own_address(m, address), "port", up ? (int)s->port : 0, "member",
			 member, "pid", s->relay ? (int)vmp_relay_pid(s->relay) : 0, "reason", s->reason, "stats", s->stats, "takeover",
			 s->takeover);
}
