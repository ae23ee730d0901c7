/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds the parts together: configuration and commands of vmpaird, the session, the link, takeover, and the order of
 * things in one round of the loop: read everything, record it, see what may leave now, send the records, let answers out.
 */
#include "heartbeat/relay/relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "internal/cleanup.h"

#define SAY_NS 60000000000u
#define SECOND_NS 1000000000u
#define SLOW_TICK_NS 500000000u
#define STOP_NS 2000000000u
#define START_NS 500000000u

enum { RESERVED_FDS = 64 };

/* --- telling ------------------------------------------------------------------------------------------------------------ */
static void note(struct vmpr_relay *r, int level, const char *text)
{
	static const char *const names[] = { "error", "error", "error", "error", "warning", "notice", "info", "debug" };

	if (r->ctl.greeted || r->ctl.kind == VMPR_CTL_DEVICE)
		vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:s,s:s}", "ev", "note", "level", names[level & 7], "text", text), false);
	else
		vmp_log(level, "%s%s%s", r->conf.pair, r->conf.pair[0] ? ": " : "", text);
}

void vmpr_note(struct vmpr_relay *r, int level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	note(r, level, text);
}

void vmpr_say(struct vmpr_relay *r, int slot, const char *fmt, ...)
{
	unsigned int n = vmp_ratelimit_pass(&r->said[slot], r->ev.now_ns, SAY_NS);
	char text[512];
	size_t len;
	va_list ap;

	if (!n)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	len = strlen(text);
	if (n > 1)
		snprintf(text + len, sizeof(text) - len, " (%u more like this since the last)", n - 1);
	note(r, LOG_WARNING, text);
}

__attribute__((format(printf, 2, 3)))
static void error(struct vmpr_relay *r, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:s}", "ev", "error", "text", text), !r->ctl.greeted);
}

void vmpr_fail(struct vmpr_relay *r, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error(r, "%s", text);
	r->stop = r->failed = true;
}

/* --- configuration --------------------------------------------------------------------------------------------------------- */
struct get {
	struct vmpr_relay *r;
	const json_t *msg;
	bool bad;
};

static void get_text(struct get *g, const char *name, char *ret, size_t size, bool must)
{
	const json_t *v = json_object_get(g->msg, name);
	const char *text = json_string_value(v);

	if (!v && !must)
		return;
	if (!text || strlen(text) >= size || (must && !*text)) {
		error(g->r, "config: \"%s\" is missing, no text or too long", name);
		g->bad = true;
		return;
	}
	strcpy(ret, text);
}

static void get_number(struct get *g, const char *name, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v = *ret;
	int n = vmpr_json_get_u64(g->msg, name, &v);

	if (n == -ENOENT && (*ret || min == 0))
		return;
	if (n < 0 || v < min || v > max) {
		error(g->r, "config: \"%s\" is missing or not in [%llu, %llu]", name, (unsigned long long)min, (unsigned long long)max);
		g->bad = true;
		return;
	}
	*ret = v;
}

static void get_u32(struct get *g, const char *name, uint32_t min, uint32_t max, uint32_t *ret)
{
	uint64_t v = *ret;

	get_number(g, name, min, max, &v);
	*ret = (uint32_t)v;
}

static int get_choice(struct get *g, const char *name, const char *const *words, int def)
{
	const json_t *v = json_object_get(g->msg, name);
	const char *text = json_string_value(v);

	if (!v && def >= 0)
		return def;
	for (int i = 0; text && words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	error(g->r, "config: \"%s\" is missing or unknown", name);
	g->bad = true;
	return 0;
}

static int conf_parse(struct vmpr_relay *r, const json_t *msg, struct vmpr_conf *c)
{
	static const char *const kinds[] = { "journal", "mirror", NULL }, *const redos[] = { "never", "idempotent", "all", NULL };
	struct get g = { .r = r, .msg = msg };
	const json_t *list, *item;
	uint64_t node = 0, version = 0;
	size_t i;

	/* what stays when nothing is said */
	*c = (struct vmpr_conf){ .sync_buffer = 64 << 20, .answer_keep_ms = 60000, .max_request = VMP_FRAME_REQUEST_DEFAULT,
				 .peer_timeout_ms = 300, .hb_ms = 20, .port_min = 7700, .port_max = 7799, .request_ms = 30000,
				 .idle_ms = 75000, .send_ms = 30000, .connect_ms = 2000, .answer_ms = 60000, .hook_ms = 600000,
				 .max_clients = 1000000, .max_backends = 512 };
	get_number(&g, "version", 1, 1, &version);
	get_text(&g, "pair", c->pair, sizeof(c->pair), true);
	get_number(&g, "id", 1, UINT64_MAX, &c->id);
	get_number(&g, "member", 1, UINT64_MAX, &c->member);
	get_number(&g, "node", 1, 255, &node);
	c->node = (uint8_t)node;
	get_text(&g, "backend", c->backend, sizeof(c->backend), true);
	get_text(&g, "keys", c->keys, sizeof(c->keys), r->keys_path == NULL);
	get_text(&g, "bind", c->bind, sizeof(c->bind), true);
	get_text(&g, "export", c->export_cmd, sizeof(c->export_cmd), false);
	get_text(&g, "import", c->import_cmd, sizeof(c->import_cmd), false);
	c->kind = (uint8_t)get_choice(&g, "kind", kinds, -1);
	c->redo = (uint8_t)get_choice(&g, "redo", redos, VMPR_REDO_IDEMPOTENT);
	c->pristine = json_is_true(json_object_get(msg, "pristine"));
	get_number(&g, "sync_buffer", VMPAIR_BUFFER_MIN, UINT64_C(1) << 40, &c->sync_buffer);
	get_u32(&g, "answer_keep_ms", 0, 86400000, &c->answer_keep_ms);
	get_u32(&g, "max_request", 1024, 1u << 30, &c->max_request);
	get_u32(&g, "peer_timeout_ms", 20, 60000, &c->peer_timeout_ms);
	get_u32(&g, "hb_ms", 5, 10000, &c->hb_ms);
	get_u32(&g, "port_min", 1, 65535, &c->port_min);
	get_u32(&g, "port_max", 1, 65535, &c->port_max);
	get_u32(&g, "request_timeout_ms", 100, 86400000, &c->request_ms);
	get_u32(&g, "idle_timeout_ms", 100, 86400000, &c->idle_ms);
	get_u32(&g, "send_timeout_ms", 100, 86400000, &c->send_ms);
	get_u32(&g, "connect_timeout_ms", 10, 600000, &c->connect_ms);
	get_u32(&g, "answer_timeout_ms", 10, 86400000, &c->answer_ms);
	get_u32(&g, "hook_timeout_ms", 100, 86400000, &c->hook_ms);
	get_u32(&g, "max_clients", 1, 1000000, &c->max_clients);
	get_u32(&g, "max_backends", 1, 100000, &c->max_backends);
	if (c->port_min > c->port_max)
		c->port_max = c->port_min;

	list = json_object_get(msg, "listen");
	if (json_array_size(list) == 0 || json_array_size(list) > VMPR_LISTEN) {
		error(r, "config: \"listen\" needs 1 to %d addresses", VMPR_LISTEN);
		return -EINVAL;
	}
	json_array_foreach(list, i, item) {
		struct vmpr_addr a;
		const char *text = json_string_value(item);

		if (!text || strlen(text) >= sizeof(c->listen[0]) || vmpr_addr_parse(text, 0, &a) < 0) {
			error(r, "config: \"listen\": %s is no address", text ? text : "that");
			return -EINVAL;
		}
		strcpy(c->listen[c->n_listen++], text);
	}
	list = json_object_get(msg, "services");
	if (json_array_size(list) == 0 || json_array_size(list) > VMPR_SERVICES) {
		error(r, "config: \"services\" needs 1 to %d services", VMPR_SERVICES);
		return -EINVAL;
	}
	json_array_foreach(list, i, item) {
		const char *framing = json_string_value(json_object_get(item, "framing"));
		uint64_t port = 0, backend_port = 0;
		struct vmp_frame_conf frame;

		if (!framing || strlen(framing) >= sizeof(c->service[0].framing) || vmp_framing_parse(framing, &frame) < 0) {
			error(r, "config: service %zu: unknown framing %s", i, framing ? framing : "");
			return -EINVAL;
		}
		if (frame.framing == VMP_FRAMING_STREAM && c->kind == VMPAIR_MIRROR) {
			error(r, "config: service %zu: a stream has no requests, so it cannot be mirrored", i);
			return -EINVAL;
		}
		if (vmpr_json_get_u64(item, "port", &port) < 0 || port < 1 || port > 65535) {
			error(r, "config: service %zu: no port", i);
			return -EINVAL;
		}
		backend_port = port;
		if (vmpr_json_get_u64(item, "backend_port", &backend_port) == -EINVAL || backend_port < 1 || backend_port > 65535) {
			error(r, "config: service %zu: no backend_port", i);
			return -EINVAL;
		}
		strcpy(c->service[c->n_services].framing, framing);
		c->service[c->n_services].port = (uint16_t)port;
		c->service[c->n_services].backend_port = (uint16_t)backend_port;
		c->n_services++;
	}
	return g.bad ? -EINVAL : 0;
}

static struct vmpair_session_conf session_conf(const struct vmpr_relay *r)
{
	const struct vmpr_conf *c = &r->conf;

	return (struct vmpair_session_conf){
		.pair = c->id, .member = r->member, .node = c->node, .kind = c->kind, .pristine = c->pristine,
		.can_export = c->export_cmd[0], .can_import = c->import_cmd[0], .buffer_bytes = c->sync_buffer,
		.request_max = c->max_request, .keep_ns = (uint64_t)c->answer_keep_ms * 1000000u,
		.peer_timeout_ns = (uint64_t)c->peer_timeout_ms * 1000000u,
	};
}

static uint64_t random_number(void)
{
	uint64_t v = 0;

	while (!v)
		if (getrandom(&v, sizeof(v), 0) != sizeof(v))
			v = 0;
	return v;
}

static int keys_load(struct vmpr_relay *r)
{
	const char *path = r->keys_path ? r->keys_path : r->conf.keys;
	struct vmp_diag diag;
	CLEANUP_KEYS struct vmp_keys fresh = { 0 };
	int n;

	vmp_diag_init(&diag);
	n = vmp_keys_load(path, &fresh, &diag);
	if (n < 0) {
		error(r, "keys: %s", diag.text[0] ? diag.text : strerror(-n));
		return n;
	}
	vmp_keys_wipe(&r->keys);
	r->keys = fresh;
	return 0;
}

static void services_set(struct vmpr_relay *r)
{
	for (unsigned int i = 0; i < r->conf.n_services; i++) {
		struct vmpr_service *sv = &r->service[i];

		sv->r = r;
		sv->index = (uint16_t)i;
		sv->port = r->conf.service[i].port;
		vmp_framing_parse(r->conf.service[i].framing, &sv->frame);
		sv->frame.mirror = r->conf.kind == VMPAIR_MIRROR;
		sv->frame.max_request = r->conf.max_request;
		if (sv->frame.max_head > sv->frame.max_request)
			sv->frame.max_head = sv->frame.max_request;
		sv->pipeline = sv->frame.framing == VMP_FRAMING_HTTP1 ? 1 : VMPR_PIPELINE;
		vmpr_addr_parse(r->conf.backend, r->conf.service[i].backend_port, &sv->backend);
	}
}

static unsigned int clients_limit(const struct vmpr_conf *c)
{
	struct rlimit rl;
	rlim_t backends = c->kind == VMPAIR_MIRROR ? c->n_services : (rlim_t)c->max_backends * c->n_services, room;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 256;
	if (rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
		getrlimit(RLIMIT_NOFILE, &rl);
	}
	if (backends > rl.rlim_cur / 2)
		backends = rl.rlim_cur / 2;
	room = rl.rlim_cur > RESERVED_FDS + backends ? rl.rlim_cur - RESERVED_FDS - backends : 1;
	return room < c->max_clients ? (unsigned int)room : c->max_clients;
}

/* --- the link ----------------------------------------------------------------------------------------------------------------- */
static void link_up(void *ctx, bool initiator)
{
	struct vmpr_relay *r = ctx;

	if (vmpair_session_link_up(r->session, r->ev.now_ns, initiator) < 0)
		vmpr_link_drop(&r->link);
}

static void link_down(void *ctx, const char *reason)
{
	struct vmpr_relay *r = ctx;

	r->live.heard = false;
	vmpair_session_link_down(r->session, reason);
	vmpr_hooks_abandon(r);
}

static int link_input(void *ctx, const uint8_t *buf, size_t len)
{
	struct vmpr_relay *r = ctx;

	return vmpair_session_input(r->session, r->ev.now_ns, buf, len);
}

static bool link_wants(void *ctx)
{
	struct vmpr_relay *r = ctx;

	return vmpair_session_wants_input(r->session) && vmpr_import_wants(r);
}

static void link_output(void *ctx, const uint8_t **ret, size_t *ret_len)
{
	struct vmpr_relay *r = ctx;
	const void *p = NULL;

	*ret_len = vmpair_session_output(r->session, &p);
	*ret = p;
}

static void link_output_done(void *ctx, size_t len)
{
	struct vmpr_relay *r = ctx;

	vmpair_session_output_done(r->session, r->ev.now_ns, len);
}

static void link_refused(void *ctx, const char *reason)
{
	struct vmpr_relay *r = ctx;

	r->count.peer_refused++;
	vmpr_say(r, VMPR_SAY_PEER, "peer relay: %s", reason);
}

static const struct vmpr_link_ops link_ops = { link_up, link_down, link_input, link_wants, link_output, link_output_done, link_refused };

/* --- commands ------------------------------------------------------------------------------------------------------------------- */
static void say_hello(struct vmpr_relay *r)
{
	vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:i,s:i,s:i,s:o,s:o}", "ev", "hello", "version", 1, "sync_port", (int)r->link.port, "pid",
					 (int)getpid(), "member", vmpr_json_u64(r->member), "instance", vmpr_json_u64(r->instance)), true);
}

static void conf_change(struct vmpr_relay *r, const struct vmpr_conf *fresh)
{
	struct vmpr_conf *c = &r->conf, same = *fresh;
	struct vmpair_session_conf sc;

	/* these can change while it runs; everything else must be as it was */
	same.answer_keep_ms = c->answer_keep_ms;
	same.peer_timeout_ms = c->peer_timeout_ms;
	same.hb_ms = c->hb_ms;
	same.redo = c->redo;
	same.max_request = c->max_request;
	same.member = c->member;
	same.pristine = c->pristine;
	strcpy(same.export_cmd, c->export_cmd);
	strcpy(same.import_cmd, c->import_cmd);
	strcpy(same.keys, c->keys);
	if (memcmp(&same, c, sizeof(same)) != 0)
		error(r, "config: only answer_keep_ms, peer_timeout_ms, hb_ms, redo, max_request, keys, export and import can change; "
		      "the rest holds from the next start of the relay on");
	if (!fresh->export_cmd[0] != !c->export_cmd[0] || !fresh->import_cmd[0] != !c->import_cmd[0])
		error(r, "config: export and import can be replaced, but be added or taken away only by a start of the relay");
	else
		memcpy(c->export_cmd, fresh->export_cmd, sizeof(c->export_cmd)), memcpy(c->import_cmd, fresh->import_cmd, sizeof(c->import_cmd));
	c->answer_keep_ms = fresh->answer_keep_ms;
	c->peer_timeout_ms = fresh->peer_timeout_ms;
	c->hb_ms = fresh->hb_ms;
	c->redo = fresh->redo;
	c->max_request = fresh->max_request;
	memcpy(c->keys, fresh->keys, sizeof(c->keys));
	r->live.interval_ns = (uint64_t)c->hb_ms * 1000000u;
	r->live.timeout_ns = r->link.silent_ns = (uint64_t)c->peer_timeout_ms * 1000000u;
	services_set(r);
	sc = session_conf(r);
	sc.random = 1;
	if (vmpair_session_reconf(r->session, &sc) < 0)
		error(r, "config: the session did not take the change");
}

static void cmd_config(struct vmpr_relay *r, const json_t *msg)
{
	struct vmpair_session_conf sc;
	struct vmpr_conf fresh;
	struct vmpr_addr bind;
	int n;

	if (conf_parse(r, msg, &fresh) < 0)
		return;
	if (r->configured) {
		conf_change(r, &fresh);
		say_hello(r);
		if (r->caught_msg)
			vmpr_ctl_send(&r->ctl, json_incref(r->caught_msg), false);
		return;
	}
	r->conf = fresh;
	r->member = fresh.member;
	r->max_clients = clients_limit(&r->conf);
	if (vmpr_addr_parse(r->conf.bind, 0, &bind) < 0 || vmpr_addr_parse(r->conf.backend, 0, &(struct vmpr_addr){ 0 }) < 0) {
		error(r, "config: \"bind\" or \"backend\" is no address");
		return;
	}
	if (keys_load(r) < 0)
		return;
	sc = session_conf(r);
	sc.random = random_number();
	n = vmpair_session_new(&r->session, &sc);
	if (n < 0) {
		error(r, "config: the session refuses it: %s", strerror(-n));
		return;
	}
	services_set(r);
	n = vmpr_link_open(&r->link, &r->ev, &r->keys, &bind, (uint16_t)r->conf.port_min, (uint16_t)r->conf.port_max,
			   (uint64_t)r->conf.peer_timeout_ms * 1000000u, &link_ops, r);
	if (n == 0)
		n = vmpr_live_open(&r->live, &r->ev, r->conf.node, &r->keys, &bind, r->link.port, (uint64_t)r->conf.hb_ms * 1000000u,
				   (uint64_t)r->conf.peer_timeout_ms * 1000000u);
	if (n < 0) {
		error(r, "config: cannot use ports %u to %u of %s for the peer: %s", r->conf.port_min, r->conf.port_max, r->conf.bind, strerror(-n));
		r->stop = true;
		return;
	}
	vmpr_clients_init(r);
	vmpr_backends_init(r);
	n = vmpr_listen_open(r);
	if (n < 0) {
		error(r, "config: cannot listen for clients: %s", strerror(-n));
		r->stop = true;
		return;
	}
	r->configured = true;
	say_hello(r);
}

static void serve_nobody(struct vmpr_relay *r)
{
	vmpr_tickles_stop(r);
	vmpr_listen_watch(r, false);
	vmpr_clients_close(r);
	vmpr_hooks_stop(r);
	if (r->conf.kind == VMPAIR_MIRROR)
		vmpr_lane_keep(r);
	else
		vmpr_backends_close(r);
}

/* Requests the old primary had accepted; libvmpair says which, the pair's `redo` what becomes of the doubtful ones. */
static void take_over(struct vmpr_relay *r, uint64_t epoch)
{
	struct vmpr_takeover *t = &r->takeover;
	struct vmpair_entry e;
	struct vmpair_info info;
	uint64_t cursor = 0, number;

	vmpair_session_info(r->session, &info);
	*t = (struct vmpr_takeover){ .open = true, .epoch = epoch, .at_ns = r->ev.now_ns, .done = info.finished,
				     .answered = info.entries - info.finished - info.unfinished };
	t->kept = t->answered;
	while (vmpair_session_next_unfinished(r->session, &cursor, &e)) {
		struct vmpr_req *req;
		bool doubtful = e.state == VMPAIR_UNDER_WAY && !e.here;

		if (doubtful)
			t->dispatched++;
		else
			t->received++;
		if (r->conf.kind == VMPAIR_MIRROR)
			continue; /* in the lane already, or put there below */
		if (doubtful && r->conf.redo != VMPR_REDO_ALL &&
		    (r->conf.redo == VMPR_REDO_NEVER || !(e.flags & (VMPAIR_IDEMPOTENT | VMPAIR_HAS_ID)))) {
			vmpr_say(r, VMPR_SAY_LOST, "takeover: a request that had been given to the application and got no answer is not "
				 "repeated (redo=%s): id %.*s", r->conf.redo == VMPR_REDO_NEVER ? "never" : "idempotent",
				 e.id_len ? (int)e.id_len : 4, e.id_len ? (const char *)e.id : "none");
			if (!(e.flags & VMPAIR_HAS_ID) || e.service >= r->conf.n_services ||
			    !vmpr_outcome_unknown(r, &r->service[e.service].frame, e.conn, e.seq, false, VMP_REFUSE_LOST, &number))
				vmpair_session_drop(r->session, e.conn, e.seq, vmp_refuse_name(VMP_REFUSE_LOST));
			t->dropped++;
			continue;
		}
		req = vmpr_req_of(r, &e);
		if (!req) {
			vmpr_note(r, LOG_WARNING, "takeover: a request is not one of service %u here: dropped", e.service);
			vmpair_session_drop(r->session, e.conn, e.seq, "not a request of this service");
			t->dropped++;
			continue;
		}
		t->executed++;
		vmpr_dispatch(req, NULL, 0);
	}
	if (r->conf.kind == VMPAIR_MIRROR) {
		t->executed = t->received + t->dispatched;
		vmpr_lane_fill(r);
	}
}

static void takeover_tell(struct vmpr_relay *r)
{
	struct vmpr_takeover *t = &r->takeover;

	t->open = false;
	vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "ev", "takeover", "epoch", vmpr_json_u64(t->epoch),
					 "received", (json_int_t)t->received, "dispatched", (json_int_t)t->dispatched, "answered",
					 (json_int_t)t->answered, "done", (json_int_t)t->done, "executed", (json_int_t)t->executed,
					 "dropped", (json_int_t)t->dropped, "kept", (json_int_t)t->kept, "first_answer_us",
					 (json_int_t)t->first_answer_us), false);
}

void vmpr_relay_first_answer(struct vmpr_relay *r)
{
	r->takeover.first_answer_us = (vmpr_now_ns() - r->takeover.at_ns) / 1000;
	takeover_tell(r);
}

uint64_t vmpr_newest(struct vmpr_relay *r)
{
	struct vmpair_info info;

	vmpair_session_info(r->session, &info);
	vmpr_made(r, info.number);
	return r->newest;
}

static int become_primary(struct vmpr_relay *r, uint64_t epoch)
{
	bool was = r->role == VMPAIR_PRIMARY;
	uint64_t base = (epoch >> 8) << 32;
	int n;

	if (was && epoch == r->epoch)
		return 0;
	if (r->role == VMPAIR_IDLE)
		serve_nobody(r);
	if (!was)
		vmpr_tickles_collect(r);
	n = vmpair_session_primary(r->session, r->ev.now_ns, epoch);
	if (n < 0)
		vmpr_tickles_stop(r);
	if (n == -ENODATA) {
		vmpr_fail(r, "this member's content is not known, it cannot be primary");
		return 0;
	}
	if (n < 0)
		return n;
	r->role = VMPAIR_PRIMARY;
	r->epoch = epoch;
	r->limit = vmpair_session_leave_limit(r->session);
	if (base > r->next_conn)
		r->next_conn = base + 1;
	vmpr_newest(r);
	if (was)
		return 0;
	r->mode = VMPAIR_MODE_WAIT;
	r->synced = false;
	vmpr_link_role(&r->link, true, false);
	take_over(r, epoch);
	vmpr_listen_watch(r, r->n_clients < r->max_clients);
	vmpr_tickles_start(r);
	return 0;
}

static int become_standby(struct vmpr_relay *r, uint64_t epoch)
{
	int n;

	if (r->role == VMPAIR_PRIMARY) {
		r->role = VMPAIR_IDLE;
		serve_nobody(r);
	}
	n = vmpair_session_standby(r->session, r->ev.now_ns, epoch);
	if (n < 0)
		return n;
	r->role = VMPAIR_STANDBY;
	r->epoch = epoch;
	vmpr_link_role(&r->link, false, true);
	return 0;
}

static void become_none(struct vmpr_relay *r)
{
	r->role = VMPAIR_IDLE;
	serve_nobody(r);
	vmpair_session_idle(r->session);
	vmpr_link_role(&r->link, false, false);
}

static void caught_forget(struct vmpr_relay *r)
{
	json_decref(r->caught_msg);
	r->caught_msg = NULL;
}

static void cmd_role(struct vmpr_relay *r, const json_t *msg)
{
	const char *role = json_string_value(json_object_get(msg, "role"));
	uint64_t epoch = 0;
	int n;

	if (!role || (strcmp(role, "none") != 0 && vmpr_json_get_u64(msg, "epoch", &epoch) < 0)) {
		error(r, "role: no role or no epoch");
		return;
	}
	if (strcmp(role, "primary") == 0) {
		n = become_primary(r, epoch);
	} else if (strcmp(role, "standby") == 0) {
		caught_forget(r);
		n = become_standby(r, epoch);
	} else if (strcmp(role, "none") == 0) {
		caught_forget(r);
		become_none(r);
		n = 0;
	} else {
		n = -EINVAL;
	}
	if (n < 0)
		error(r, "role %s, epoch 0x%llx: %s", role, (unsigned long long)epoch,
		      n == -ESTALE ? "the epoch is too old" : strerror(-n));
}

static void cmd_mode(struct vmpr_relay *r, const json_t *msg)
{
	static const char *const modes[] = { "wait", "alone", "sync", NULL };
	const char *text = json_string_value(json_object_get(msg, "mode"));
	uint64_t op = 0, node = 0, member = 0;
	int mode = -1;

	for (int i = 0; text && modes[i]; i++)
		if (strcmp(text, modes[i]) == 0)
			mode = i;
	if (mode < 0 || vmpr_json_get_u64(msg, "op", &op) == -EINVAL || vmpr_json_get_u64(msg, "node", &node) == -EINVAL ||
	    vmpr_json_get_u64(msg, "member", &member) == -EINVAL || node > 255) {
		error(r, "mode: unknown, or a bad number");
		return;
	}
	r->mode = (enum vmpair_mode)mode;
	if (r->mode != VMPAIR_MODE_WAIT)
		r->synced = r->mode == VMPAIR_MODE_SYNC;
	vmpair_session_mode(r->session, r->mode, op, (uint8_t)node, member);
}

static void cmd_peer(struct vmpr_relay *r, const json_t *msg)
{
	const char *address = json_string_value(json_object_get(msg, "address"));
	uint64_t node = 0, port = 0;
	struct vmpr_addr a = { 0 };

	if (vmpr_json_get_u64(msg, "node", &node) < 0 || node > 255 ||
	    (node && (!address || vmpr_json_get_u64(msg, "port", &port) < 0 || port < 1 || port > 65535 ||
		      vmpr_addr_parse(address, (uint16_t)port, &a) < 0))) {
		error(r, "peer: needs node, address and port");
		return;
	}
	vmpr_live_peer(&r->live, (uint8_t)node, &a);
	vmpr_link_peer(&r->link, &a);
}

static void cmd_member(struct vmpr_relay *r, const json_t *msg)
{
	uint64_t member = 0;
	int n = vmpr_json_get_u64(msg, "member", &member);

	if (n == 0 && member == r->member)
		return;
	if (n == 0)
		n = vmpair_session_set_member(r->session, member);
	if (n < 0) {
		error(r, "member: %s", n == -EBUSY ? "a primary keeps its content" : strerror(-n));
		return;
	}
	r->member = member;
	vmpr_hooks_stop(r);
	/* what was still to be executed belonged to the old content */
	if (r->conf.kind == VMPAIR_MIRROR)
		vmpr_lane_abandon(r);
	else
		vmpr_backends_close(r);
}

static void ready_tell(struct vmpr_relay *r, uint64_t epoch, uint64_t op)
{
	vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:o,s:I}", "ev", "ready", "epoch", vmpr_json_u64(epoch), "op", (json_int_t)op), false);
}

static void command(void *ctx, const char *cmd, json_t *msg)
{
	struct vmpr_relay *r = ctx;
	uint64_t epoch = 0, op = 0;

	if (strcmp(cmd, "config") == 0) {
		cmd_config(r, msg);
	} else if (strcmp(cmd, "stop") == 0) {
		vmpr_listen_watch(r, false);
		r->stopping = true;
		r->stop = !r->configured;
		r->stats_ns = r->ev.now_ns + STOP_NS; /* from here on: when it ends at the latest */
	} else if (!r->configured) {
		error(r, "%s: config comes first", cmd);
	} else if (strcmp(cmd, "fence") == 0) {
		if (vmpr_json_get_u64(msg, "epoch", &epoch) < 0 || vmpr_json_get_u64(msg, "op", &op) == -EINVAL) {
			error(r, "fence: no epoch");
			return;
		}
		vmpair_session_fence(r->session, epoch);
		ready_tell(r, epoch, op);
	} else if (strcmp(cmd, "role") == 0) {
		cmd_role(r, msg);
	} else if (strcmp(cmd, "mode") == 0) {
		cmd_mode(r, msg);
	} else if (strcmp(cmd, "peer") == 0) {
		cmd_peer(r, msg);
	} else if (strcmp(cmd, "member") == 0) {
		cmd_member(r, msg);
	} else if (strcmp(cmd, "rekey") == 0) {
		if (keys_load(r) == 0 && (vmpr_link_keys(&r->link) < 0 || vmpr_live_keys(&r->live, &r->keys) < 0))
			error(r, "rekey: the new keys could not be taken");
	} else {
		error(r, "unknown command %s", cmd);
	}
}

static void control_lost(void *ctx)
{
	struct vmpr_relay *r = ctx;

	if (r->ctl.kind == VMPR_CTL_FD) {
		vmp_log(LOG_WARNING, "%s: vmpaird has gone: ending", r->conf.pair);
		r->stop = true;
	} else if (r->ctl.kind == VMPR_CTL_DEVICE && r->configured) {
		/* A daemon that comes back within its lease goes on in the same epoch: nothing leaves until it has said so. */
		r->mode = VMPAIR_MODE_WAIT;
		vmpair_session_mode(r->session, r->mode, 0, 0, 0);
	}
}

static const struct vmpr_ctl_ops ctl_ops = { command, control_lost };

/* --- what the session says ----------------------------------------------------------------------------------------------------------- */
static void caught_tell(struct vmpr_relay *r, const struct vmpair_event *ev)
{
	json_t *msg;

	if (ev->node)
		r->caught_node = ev->node;
	msg = json_pack("{s:s,s:b,s:i,s:o,s:I}", "ev", "caught", "on", ev->on, "node", (int)r->caught_node, "member",
			vmpr_json_u64(ev->member), "op", (json_int_t)ev->op);
	caught_forget(r);
	/* for the next daemon, which has not asked for anything yet */
	r->caught_msg = json_deep_copy(msg);
	json_object_set_new(r->caught_msg, "op", json_integer(0));
	vmpr_ctl_send(&r->ctl, msg, false);
}

static void link_end(struct vmpr_relay *r, const char *reason)
{
	char text[160];

	/* the session's text is its own only until the next call */
	snprintf(text, sizeof(text), "%s", reason ? reason : "");
	vmpr_link_flush(&r->link);
	vmpr_link_drop(&r->link);
	vmpair_session_link_down(r->session, text);
	vmpr_hooks_abandon(r);
}

static void session_events(struct vmpr_relay *r)
{
	struct vmpair_event ev;

	while (vmpair_session_next_event(r->session, &ev)) {
		switch (ev.type) {
		case VMPAIR_EV_HELD:
			break; /* the limit is asked for once a round */
		case VMPAIR_EV_ROOM:
			vmpr_backends_room(r);
			vmpr_clients_room(r);
			break;
		case VMPAIR_EV_CAUGHT:
			caught_tell(r, &ev);
			break;
		case VMPAIR_EV_EXECUTE:
			/* a primary gives its own requests to the lane as they come */
			if (r->role == VMPAIR_STANDBY)
				vmpr_lane_fill(r);
			break;
		case VMPAIR_EV_NEED_MEMBER:
			vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:s}", "ev", "need-member", "reason", ev.reason), false);
			break;
		case VMPAIR_EV_NEED_EXPORT:
			vmpr_export_want(r);
			break;
		case VMPAIR_EV_IMPORT:
			vmpr_import_data(r, ev.data, ev.len, ev.last);
			break;
		case VMPAIR_EV_DIVERGED:
			r->count.diverged++;
			vmpr_say(r, VMPR_SAY_DIVERGED, "the answer to request 0x%llx/%u differs from the primary's: the members' contents "
				 "are not the same any more", (unsigned long long)ev.conn, ev.seq);
			break;
		case VMPAIR_EV_REFUSED:
			r->count.peer_refused++;
			vmpr_say(r, VMPR_SAY_PEER, "peer relay refused: %s", ev.reason ? ev.reason : "");
			link_end(r, ev.reason);
			vmpr_link_refused(&r->link);
			break;
		case VMPAIR_EV_LINK_LOST:
			r->count.link_lost++;
			vmpr_say(r, VMPR_SAY_PEER, "connection to the peer relay lost: %s", ev.reason ? ev.reason : "");
			link_end(r, ev.reason);
			break;
		}
	}
}

/* --- running -------------------------------------------------------------------------------------------------------------------------- */
static void stats_tell(struct vmpr_relay *r)
{
	struct vmpair_info i;
	json_t *refused, *msg;

	if (!r->ctl.greeted || memcmp(&r->count, &r->told, sizeof(r->told)) == 0)
		return;
	r->told = r->count;
	vmpair_session_info(r->session, &i);
	refused = json_object();
	for (unsigned int w = 1; w < VMP_REFUSES; w++)
		if (r->count.refused[w])
			json_object_set_new(refused, vmp_refuse_name(w), json_integer((json_int_t)r->count.refused[w]));
	msg = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:b}", "ev", "stats",
			"clients", (json_int_t)r->n_clients, "accepted", (json_int_t)r->count.accepted, "requests",
			(json_int_t)r->count.requests, "answers", (json_int_t)r->count.answers, "repeats", (json_int_t)r->count.repeats,
			"in_flight", (json_int_t)r->in_flight, "held", vmpr_json_u64(i.held), "number", vmpr_json_u64(i.number),
			"history", vmpr_json_u64(i.history), "epoch", vmpr_json_u64(i.epoch), "buffer_bytes", (json_int_t)i.bytes,
			"diverged", (json_int_t)r->count.diverged, "dropped_slow", (json_int_t)r->count.dropped_slow, "backend_errors",
			(json_int_t)r->count.backend_errors, "peer_refused", (json_int_t)r->count.peer_refused, "link_lost",
			(json_int_t)r->count.link_lost, "rtt_us",
			(json_int_t)(r->live.node ? vmp_seal_rtt_us(r->live.seal, r->live.node) : 0), "linked", i.linked, "caught_up",
			i.caught_up);
	if (msg)
		json_object_set_new(msg, "refused", refused);
	else
		json_decref(refused);
	vmpr_ctl_send(&r->ctl, msg, false);
}

static uint64_t deadline(const struct vmpr_relay *r)
{
	uint64_t at, d;

	if (r->again || r->b_again || r->dirty)
		return r->ev.now_ns;
	if (!r->configured)
		return r->guest ? r->start_ns : VMPR_NEVER;
	at = r->tick_ns;
	if ((d = vmpair_session_deadline(r->session)) < at)
		at = d;
	if ((d = vmpr_link_deadline(&r->link)) < at)
		at = d;
	if ((d = vmpr_live_deadline(&r->live)) < at)
		at = d;
	if ((d = vmpr_backends_deadline(r)) < at)
		at = d;
	if ((d = vmpr_tickles_deadline(r)) < at)
		at = d;
	return at;
}

static void ticks(struct vmpr_relay *r)
{
	uint64_t now = r->ev.now_ns;

	if (now >= vmpair_session_deadline(r->session))
		vmpair_session_tick(r->session, now);
	if (now >= vmpr_link_deadline(&r->link))
		vmpr_link_tick(&r->link);
	if (now >= vmpr_live_deadline(&r->live)) {
		struct vmpr_word own = { .role = (uint8_t)r->role, .epoch = r->epoch, .member = r->member };
		struct vmpair_info info;

		vmpair_session_info(r->session, &info);
		own.held = r->role == VMPAIR_PRIMARY ? info.held : info.number;
		if (vmpr_live_tick(&r->live, &own) && r->link.used) {
			r->count.link_lost++;
			vmpr_say(r, VMPR_SAY_PEER, "connection to the peer relay lost: no datagrams for %u ms", r->conf.peer_timeout_ms);
			link_end(r, "no datagrams from the peer");
		}
	}
	if (r->live.news) {
		r->live.news = false;
		vmpr_say(r, VMPR_SAY_LIVE, "datagram refused: %s", vmp_seal_cause_help(r->live.refused_why));
	}
	if (now >= vmpr_backends_deadline(r))
		vmpr_backends_tick(r);
	if (now >= vmpr_tickles_deadline(r))
		vmpr_tickles_tick(r);
	if (now >= r->tick_ns) {
		r->tick_ns = now + SLOW_TICK_NS;
		vmpr_backends_tick(r);
		if (r->takeover.open && now - r->takeover.at_ns > 2 * (uint64_t)SECOND_NS)
			takeover_tell(r);
		if (!r->stopping && now >= r->stats_ns) {
			r->stats_ns = now + SECOND_NS;
			stats_tell(r);
		}
		if (!r->accepting && r->role == VMPAIR_PRIMARY && !r->stopping && r->n_clients < r->max_clients)
			vmpr_listen_watch(r, true);
	}
}

static void round_work(struct vmpr_relay *r)
{
	vmpr_clients_again(r);
	vmpr_backends_again(r);
	if (!r->configured) {
		if (r->guest && r->ev.now_ns >= r->start_ns) {
			r->start_ns = r->ev.now_ns + START_NS;
			vmpr_ctl_start(&r->ctl);
		}
		return;
	}
	vmpr_link_resume(&r->link);
	ticks(r);
	vmpr_hooks_pump(r);
	session_events(r);
	r->limit = vmpair_session_leave_limit(r->session);
	vmpr_clients_release(r);
	vmpr_backends_release(r);
	/* records first: the standby works while answers are written */
	vmpr_link_flush(&r->link);
	session_events(r); /* what was sent may be what an event waited for */
	vmpr_clients_flush(r);
	if (r->blocked && vmpair_session_room(r->session, 4096))
		vmpr_clients_room(r);
	if (r->stopping && ((r->in_flight == 0 && r->mark_n == 0) || r->ev.now_ns >= r->stats_ns))
		r->stop = true;
}

int vmpr_relay_run(struct vmpr_relay *r, enum vmpr_ctl_kind kind, const char *path, int fd)
{
	int n = vmpr_ev_init(&r->ev);

	r->link.listener.fd = -1;
	r->guest = kind == VMPR_CTL_DEVICE;
	r->instance = random_number();
	if (n == 0)
		n = vmpr_ctl_open(&r->ctl, &r->ev, kind, path, fd, &ctl_ops, r);
	while (n == 0 && !r->stop) {
		n = vmpr_ev_round(&r->ev, deadline(r));
		round_work(r);
		vmpr_ev_reap(&r->ev);
	}
	if (r->configured) {
		if (r->role == VMPAIR_PRIMARY)
			r->role = VMPAIR_IDLE;
		serve_nobody(r);
		vmpr_backends_close(r);
		vmpr_listen_close(r);
	}
	caught_forget(r);
	vmpr_ctl_close(&r->ctl);
	vmpr_link_close(&r->link);
	vmpr_live_close(&r->live);
	vmpr_ev_reap(&r->ev);
	r->session = vmpair_session_free(r->session);
	while (r->free_reqs) {
		struct vmpr_req *req = r->free_reqs;

		r->free_reqs = req->next;
		free(req);
	}
	free(r->export_hook);
	free(r->import_hook);
	free(r->marks);
	vmpr_pool_done(&r->pool);
	vmp_keys_wipe(&r->keys);
	vmpr_ev_done(&r->ev);
	return n == 0 && r->failed ? -ENODATA : n;
}
