/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/relaymsg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "daemon/core/core.h"
#include "internal/cleanup.h"

/* --- events ------------------------------------------------------------------------------------------------------------ */
bool vmp_relay_u64(const json_t *obj, const char *key, uint64_t *ret)
{
	const char *s = json_string_value(json_object_get(obj, key));
	size_t len = s ? strlen(s) : 0;

	if (len < 3 || len > 18 || s[0] != '0' || s[1] != 'x' || strspn(s + 2, "0123456789abcdef") != len - 2)
		return false;
	*ret = strtoull(s, NULL, 16);
	return true;
}

uint64_t vmp_relay_count(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);
	uint64_t n = 0;

	if (json_is_integer(v) && json_integer_value(v) > 0)
		return (uint64_t)json_integer_value(v);
	vmp_relay_u64(obj, key, &n);
	return n;
}

/* 64-bit numbers are strings, but a small one may come as a plain number; a missing one is 0. */
static bool number(const json_t *obj, const char *key, uint64_t max, uint64_t *ret)
{
	const json_t *v = json_object_get(obj, key);
	uint64_t n = 0;

	if (json_is_integer(v) && json_integer_value(v) >= 0)
		n = (uint64_t)json_integer_value(v);
	else if (v && !vmp_relay_u64(obj, key, &n))
		return false;
	if (n > max)
		return false;
	*ret = n;
	return true;
}

/* It goes to logs and terminals. */
static void take_text(const json_t *obj, const char *key, char *buf, size_t size)
{
	const char *s = json_string_value(json_object_get(obj, key));
	size_t n = 0;

	for (; s && *s && n + 1 < size; s++)
		buf[n++] = *s >= ' ' && *s < 127 ? *s : '?';
	buf[n] = '\0';
}

static int level_of(const char *name)
{
	static const struct { const char *name; int level; } levels[] = {
		{ "error", LOG_ERR }, { "warning", LOG_WARNING }, { "notice", LOG_NOTICE }, { "info", LOG_INFO }, { "debug", LOG_DEBUG },
	};

	for (unsigned i = 0; name && i < ARRAY_SIZE(levels); i++)
		if (!strcmp(levels[i].name, name))
			return levels[i].level;
	return LOG_WARNING;
}

int vmp_relay_event_parse(const char *line, size_t len, struct vmp_relay_event *ret, char *reason, size_t size)
{
	static const struct { const char *name; enum vmp_relay_event_type type; } types[] = {
		{ "start", VMP_RELAY_EV_START }, { "hello", VMP_RELAY_EV_HELLO }, { "ready", VMP_RELAY_EV_READY },
		{ "caught", VMP_RELAY_EV_CAUGHT }, { "need-member", VMP_RELAY_EV_NEED_MEMBER }, { "stats", VMP_RELAY_EV_STATS },
		{ "takeover", VMP_RELAY_EV_TAKEOVER }, { "note", VMP_RELAY_EV_NOTE }, { "error", VMP_RELAY_EV_ERROR },
		{ "tickle", VMP_RELAY_EV_TICKLE },
	};
	struct vmp_relay_event ev = { .level = LOG_WARNING };
	uint64_t node, port, pid, version = VMP_RELAY_VERSION;
	json_error_t err;
	const char *name;
	unsigned i = 0;
	bool good;

	if (len >= VMP_RELAY_LINE) {
		snprintf(reason, size, "line of %zu bytes", len);
		return -EINVAL;
	}
	ev.obj = json_loadb(line, len, JSON_REJECT_DUPLICATES, &err);
	name = json_string_value(json_object_get(ev.obj, "ev"));
	while (name && i < ARRAY_SIZE(types) && strcmp(types[i].name, name))
		i++;
	if (!name || i == ARRAY_SIZE(types)) {
		snprintf(reason, size, "%s", !ev.obj ? "no JSON object" : name ? "unknown event" : "no member \"ev\"");
		json_decref(ev.obj);
		return -EINVAL;
	}
	ev.type = types[i].type;
	ev.on = json_is_true(json_object_get(ev.obj, "on"));
	take_text(ev.obj, ev.type == VMP_RELAY_EV_NEED_MEMBER ? "reason" : "text", ev.text, sizeof(ev.text));
	ev.level = level_of(json_string_value(json_object_get(ev.obj, "level")));
	good = number(ev.obj, "epoch", UINT64_MAX, &ev.epoch) && number(ev.obj, "op", UINT64_MAX, &ev.op) &&
	       number(ev.obj, "member", UINT64_MAX, &ev.member) && number(ev.obj, "node", 255, &node) &&
	       number(ev.obj, "sync_port", 65535, &port) && number(ev.obj, "pid", INT32_MAX, &pid);
	if (good && json_object_get(ev.obj, "version"))
		good = number(ev.obj, "version", UINT32_MAX, &version);
	if (good)
		switch (ev.type) {
		case VMP_RELAY_EV_HELLO: good = port != 0; break;
		case VMP_RELAY_EV_READY: good = ev.epoch != 0; break;
		case VMP_RELAY_EV_CAUGHT: good = json_is_boolean(json_object_get(ev.obj, "on")) && node && (!ev.on || ev.member); break;
		case VMP_RELAY_EV_TAKEOVER: good = ev.epoch != 0; break;
		default: break;
		}
	if (!good || version != VMP_RELAY_VERSION) {
		if (good)
			snprintf(reason, size, "%s: version %llu, not %d", name, (unsigned long long)version, VMP_RELAY_VERSION);
		else
			snprintf(reason, size, "%s: a member is missing or out of range", name);
		json_decref(ev.obj);
		return -EINVAL;
	}
	ev.node = (uint8_t)node;
	ev.port = (uint16_t)port;
	ev.pid = (pid_t)pid;
	*ret = ev;
	return 0;
}

void vmp_relay_event_done(struct vmp_relay_event *ev)
{
	json_decref(ev->obj);
	ev->obj = NULL;
}

/* --- commands ---------------------------------------------------------------------------------------------------------- */
static json_t *hex(uint64_t v)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "0x%llx", (unsigned long long)v);
	return json_string(buf);
}

/* Steals o. */
static char *line_of(json_t *o)
{
	CLEANUP_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	char *line = NULL;

	json_decref(o);
	if (text && len + 1 < VMP_RELAY_LINE)
		line = malloc(len + 2);
	if (!line)
		return NULL;
	memcpy(line, text, len);
	memcpy(line + len, "\n", 2);
	return line;
}

char *vmp_relay_config_line(const struct vmp_relay_config *c)
{
	static const char *const kinds[] = { "journal", "mirror" }, *const redos[] = { "never", "idempotent", "all" };
	const struct vmp_pair_params *p = c->params;
	char addr[VMP_ADDR_STRLEN];
	json_t *listen = json_array(), *o;

	for (unsigned i = 0; i < p->n_entry; i++)
		json_array_append_new(listen, json_string(vmp_addr_str(&p->entry[i], false, addr)));
	o = json_pack("{s:s s:i s:s s:o s:i s:o s:o s:s s:o s:s s:s s:I s:I s:I s:I s:I s:s s:s s:i s:i}", "cmd", "config", "version",
		      VMP_RELAY_VERSION, "pair", p->pair, "id", hex(c->pair_id), "node", (int)c->node, "member", hex(c->member), "listen",
		      listen, "backend", c->backend, "services", vmp_services_json(p->service, p->n_services), "kind", kinds[p->sync],
		      "redo", redos[p->redo], "sync_buffer", (json_int_t)p->sync_buffer, "answer_keep_ms", (json_int_t)p->answer_keep_ms,
		      "max_request", (json_int_t)p->max_request, "peer_timeout_ms", (json_int_t)p->sync_timeout_ms, "hb_ms",
		      (json_int_t)c->hb_ms, "keys", c->keys, "bind", c->bind, "port_min", (int)c->port_min, "port_max", (int)c->port_max);
	if (o && c->pristine)
		json_object_set_new(o, "pristine", json_true());
	if (o && p->export_cmd[0])
		json_object_set_new(o, "export", json_string(p->export_cmd));
	if (o && p->import_cmd[0])
		json_object_set_new(o, "import", json_string(p->import_cmd));
	return line_of(o);
}

char *vmp_relay_fence_line(uint64_t epoch, uint64_t op)
{
	return line_of(json_pack("{s:s s:o s:I}", "cmd", "fence", "epoch", hex(epoch), "op", (json_int_t)op));
}

char *vmp_relay_role_line(enum vmp_relay_role role, uint64_t epoch)
{
	static const char *const names[] = { "none", "primary", "standby" };

	return line_of(json_pack("{s:s s:s s:o}", "cmd", "role", "role", names[role], "epoch", hex(epoch)));
}

char *vmp_relay_mode_line(unsigned mode, uint64_t op, uint8_t node, uint64_t member)
{
	return line_of(json_pack("{s:s s:s s:I s:i s:o}", "cmd", "mode", "mode", vmp_mode_name(mode), "op", (json_int_t)op, "node", (int)node,
				 "member", hex(member)));
}

char *vmp_relay_peer_line(uint8_t node, const char *address, uint16_t port, uint64_t member)
{
	if (!node)
		return line_of(json_pack("{s:s s:i}", "cmd", "peer", "node", 0));
	return line_of(json_pack("{s:s s:i s:s s:i s:o}", "cmd", "peer", "node", (int)node, "address", address, "port", (int)port, "member",
				 hex(member)));
}

char *vmp_relay_member_line(uint64_t member)
{
	return line_of(json_pack("{s:s s:o}", "cmd", "member", "member", hex(member)));
}

char *vmp_relay_plain_line(const char *cmd)
{
	return line_of(json_pack("{s:s}", "cmd", cmd));
}
