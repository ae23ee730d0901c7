/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/pairparam.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal/cleanup.h"

static const char *const opt_peer_link[] = {"keep", "failover", NULL};
static const char *const opt_cold_start[] = {"auto", "manual", NULL};
/* in the order of the enums */
static const char *const opt_entry_mode[] = {"bridge", "host", "keepalived", NULL};
static const char *const opt_relay[] = {"none", "host", "guest", NULL};
static const char *const opt_sync[] = {"journal", "mirror", NULL};
static const char *const opt_redo[] = {"never", "idempotent", "all", NULL};

const struct vmp_param vmp_pair_param_table[] = {
	{"pair", VMP_PARAM_STRING, true, true, false, NULL, NULL,
	 "Name of the pair",
	 "Name of the pair, the same on all nodes and used by one resource only: letters, digits, '_', '.', '-', at most 63 characters. "
	 "The virtual machines get this name in libvirt."},
	{"domain", VMP_PARAM_STRING, true, false, false, NULL, NULL,
	 "libvirt domain XML",
	 "Absolute path of the libvirt domain XML from which each node makes its member. The file must be the same on all nodes: its digest "
	 "is compared, and a member whose file differs is refused."},
	{"entry", VMP_PARAM_STRING, true, true, true, NULL, NULL,
	 "Entry addresses",
	 "Entry address of the pair, the only address that clients know, as ADDRESS/PREFIX; IPv4 or IPv6; up to 8, separated by commas or "
	 "blanks. Both members carry it; only the primary's is let through."},
	{"entry_nic", VMP_PARAM_STRING, true, false, false, NULL, NULL,
	 "Bridge of the entry network",
	 "Host bridge to which the domain's entry network card is attached, the same name on all nodes. With entry_mode=host and keepalived: the interface "
	 "that carries the entry addresses (a bridge, or another one that is no port of a bridge); the way back to clients must lead through "
	 "it."},
	{"internal_net", VMP_PARAM_STRING, false, false, false, NULL, NULL,
	 "Internal network",
	 "Network between the members, as ADDRESS/PREFIX or ADDRESS/PREFIX@BRIDGE. A member's internal address is the network's address plus "
	 "its node's corosync id. Needed for readiness checks and for peer_link."},
	{"ready", VMP_PARAM_STRING, false, false, true, "running", NULL,
	 "Readiness check",
	 "When a member may become primary: 'running' (its virtual machine runs), 'tcp:PORT' (it takes connections) or 'http:PORT/PATH' (it "
	 "answers with a 2xx status), asked at its internal address."},
	{"ready_timeout", VMP_PARAM_TIME, false, false, true, "1s", NULL,
	 "Time limit of a readiness check",
	 "Time within which one readiness check must be answered."},
	{"peer_link", VMP_PARAM_SELECT, false, false, true, "keep", opt_peer_link,
	 "When only the internal network is lost",
	 "What happens when the members no longer reach each other while both hosts live. keep: the primary stays, without an in-sync standby. "
	 "failover: the standby takes over."},
	{"cold_start", VMP_PARAM_SELECT, false, false, true, "auto", opt_cold_start,
	 "When both recorded members are gone",
	 "auto: a fresh member may become primary when both members on record are known to be gone. manual: only after vmpair force-primary."},
	{"stop_timeout", VMP_PARAM_TIME, false, false, true, "30s", NULL,
	 "Time for the guest to shut down",
	 "How long a stop waits for the guest to shut down by itself before its virtual machine is ended. Keep it below the timeout of the "
	 "stop operation."},
	{"entry_mode", VMP_PARAM_SELECT, false, false, false, "bridge", opt_entry_mode,
	 "Who carries the entry addresses",
	 "bridge: both guests carry the entry addresses and the MAC address, and only the primary's port is let through, for frames with VLAN "
	 "tags (802.1Q, 802.1ad) as for those without. host: the primary's host carries the entry addresses on the bridge entry_nic, and "
	 "something on the host, such as the relay, takes the connections; the guest needs to know nothing of it. keepalived: like host, but "
	 "keepalived moves the addresses, by a VRRP instance with the name of the pair that is ruled by vmpaird's track file; see "
	 "vmpair-keepalived(7)."},
	{"relay", VMP_PARAM_SELECT, false, false, false, "none", opt_relay,
	 "Where the relay runs",
	 "none: clients reach the member directly, and requests under way are lost with it. host: vmpair-relay on each host takes the "
	 "connections of the services and passes every request and answer to the standby's host before the client gets it (needs "
	 "entry_mode=host and internal_net). guest: the same inside the guests, whose image has to contain vmpair-relay (needs "
	 "entry_mode=bridge)."},
	{"services", VMP_PARAM_STRING, false, false, false, NULL, NULL,
	 "Services of the relay",
	 "What the relay serves, as FRAMING:PORT or FRAMING:PORT:BACKENDPORT, up to 16, separated by blanks, for example "
	 "'http1:80:8080 resp:6379'. Clients come to PORT of the entry addresses, the application listens on BACKENDPORT (default: the same) "
	 "of the member. Framings: http1; resp (Redis); line; length-prefixed; stream (no requests, only bytes). "
	 "Options follow the framing, as in 'line,id=2:7000' (the second field is the request's id) or "
	 "'length-prefixed,width=4,little,inclusive,id=0+16:7001' (bytes and order of the length, whether it counts itself, and the id's place "
	 "after it). Required with relay=host and relay=guest."},
	{"sync", VMP_PARAM_SELECT, false, false, false, "journal", opt_sync,
	 "What the standby does with requests",
	 "journal: it keeps them and executes the unfinished ones when it takes over; for members that share their state behind an application "
	 "that honours request ids. mirror: its own application executes every request in the primary's order, and the answers are compared."},
	{"redo", VMP_PARAM_SELECT, false, false, true, "idempotent", opt_redo,
	 "Requests handed to the application, but not answered",
	 "What a journal standby does with them when it takes over. never: they are dropped and reported. idempotent: they are executed when "
	 "their method is idempotent or they carry an id of their own, else dropped and reported. all: they are executed."},
	{"sync_buffer", VMP_PARAM_SIZE, false, false, false, "64M", NULL,
	 "Memory for requests and answers",
	 "Memory of the relay for requests and answers that are unfinished, kept, or not confirmed by the standby. At the limit clients are "
	 "read more slowly; nothing is dropped."},
	{"answer_keep", VMP_PARAM_TIME, false, false, true, "60s", NULL,
	 "How long answers are kept",
	 "How long the answer to a finished request that carried an id is kept for a client that repeats it."},
	{"max_request", VMP_PARAM_SIZE, false, false, true, "1M", NULL,
	 "Largest request",
	 "A larger one is refused, in the way the framing has for it (413 with http1)."},
	{"sync_timeout", VMP_PARAM_TIME, false, false, true, "300ms", NULL,
	 "When the standby's relay counts as lost",
	 "Silence after which the relays give each other up; the primary then asks to go on alone."},
	{"export", VMP_PARAM_STRING, false, false, true, NULL, NULL,
	 "Command that gives out the application's state",
	 "With sync=mirror: run at the primary for a new standby, writes the application's state to its standard output. Run where the relay "
	 "runs, with VMPAIR_BACKEND and VMPAIR_SERVICES set. Without it and import a new standby is never in sync."},
	{"import", VMP_PARAM_STRING, false, false, true, NULL, NULL,
	 "Command that takes in the application's state",
	 "With sync=mirror: run at the new standby, reads what export wrote from its standard input and makes the application continue with it."},
	{"hang_timeout", VMP_PARAM_TIME, false, false, true, "10s", NULL,
	 "Silence of a guest that counts as a hang",
	 "See on_hang. vmpair-guest sends a sign of life every second; give several times that."},
	{"health", VMP_PARAM_STRING, false, false, true, "none", NULL,
	 "Health check of the application",
	 "Check of the primary's application: 'none', 'tcp:PORT' or 'http:PORT/PATH', asked at the member's internal address, or 'command:PATH "
	 "ARGUMENTS', run by a shell on the host with VMPAIR_PAIR, VMPAIR_ADDRESS and VMPAIR_ROLE set, whose exit status 0 means well. See on_health."},
	{"health_interval", VMP_PARAM_TIME, false, false, true, "2s", NULL,
	 "Time between health checks", "Time from the end of one health check to the next."},
	{"health_timeout", VMP_PARAM_TIME, false, false, true, "2s", NULL,
	 "Time limit of a health check", "A health check that takes longer has failed; a command is killed."},
	{"health_failures", VMP_PARAM_STRING, false, false, true, "3", NULL,
	 "Failed health checks in a row that count", "1 to 100; see on_health."},
	{"overload", VMP_PARAM_STRING, false, false, true, "none", NULL,
	 "Limit of the host's load",
	 "'none'; 'cpu:PERCENT', 'memory:PERCENT' or 'io:PERCENT': share of the last ten seconds in which some process waited for it "
	 "(/proc/pressure); or 'load:PERCENT': load average of the last minute per processor. See on_overload."},
	{"uplink", VMP_PARAM_STRING, false, false, true, NULL, NULL,
	 "Uplink of the entry network",
	 "Name of the host's interface by which clients are reached, the same on all nodes; its carrier is watched. See on_uplink."},
	{"storage_timeout", VMP_PARAM_TIME, false, false, true, "20s", NULL,
	 "Time limit for the VM's storage",
	 "How long it may take to look at the files of the VM's disks; 0 switches the watch off. See on_storage."},
	{"trigger_limit", VMP_PARAM_STRING, false, false, true, "3", NULL,
	 "How often triggers may move the pair",
	 "At most so many failovers by triggers, 0 to 16, of the pair within trigger_window; what comes after them is reported only. The loss of a "
	 "virtual machine or of a node is no trigger."},
	{"trigger_window", VMP_PARAM_TIME, false, false, true, "10min", NULL,
	 "Time for which triggers are counted", "For trigger_limit, and for the N of restart:N."},
#define VALUES_ANY "'failover', 'report', or 'restart:N': the guest is reset in place up to N times within trigger_window, then it is a failover."
#define VALUES_MOVE "'failover' or 'report'."
#define VMP_TRIGGER(name, text, def, allowed, flags, need, shortdesc, longdesc) \
	{"on_" text, VMP_PARAM_STRING, false, false, true, def, NULL, shortdesc, longdesc " " VALUES_##allowed},
#include "daemon/core/trigger.def"
#undef VMP_TRIGGER
	{0},
};

bool vmp_pair_name_valid(const char *name)
{
	size_t len = strlen(name);
	if (len == 0 || len > 63 || !isalnum((unsigned char)name[0]))
		return false;
	for (const char *p = name; *p; p++)
		if (!((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || strchr("_.-", *p)))
			return false;
	return true;
}

/* Decimal digits only, as strtoul takes blanks and signs. */
static int number(const char *text, unsigned long max, unsigned long *ret, const char **ret_end)
{
	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long v = strtoul(text, &end, 10);
	if (errno || v > max)
		return -ERANGE;
	*ret = v;
	*ret_end = end;
	return 0;
}

static bool prefix_equal(const struct vmp_addr *a, const struct vmp_addr *b)
{
	unsigned bits = a->prefix < b->prefix ? a->prefix : b->prefix;
	for (unsigned bit = 0; bit < bits; bit++)
		if ((a->bytes[bit / 8] ^ b->bytes[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return a->family == b->family;
}

int vmp_time_parse(const char *text, uint32_t *ret_ms)
{
	static const struct { const char *unit; unsigned long factor; } units[] = {
		{"", 1000}, {"ms", 1}, {"s", 1000}, {"sec", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000},
	};
	unsigned long v;
	const char *end;
	int rc = number(text, UINT32_MAX, &v, &end);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit))
			continue;
		if (v > UINT32_MAX / units[i].factor)
			return -ERANGE;
		*ret_ms = (uint32_t)(v * units[i].factor);
		return 0;
	}
	return -EINVAL;
}

int vmp_size_parse(const char *text, uint64_t *ret)
{
	static const struct { const char *unit; unsigned shift; } units[] = {
		{"", 0}, {"B", 0}, {"k", 10}, {"K", 10}, {"KiB", 10}, {"M", 20}, {"MiB", 20}, {"G", 30}, {"GiB", 30},
	};
	unsigned long v;
	const char *end;
	int rc = number(text, ULONG_MAX, &v, &end);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit))
			continue;
		if ((uint64_t)v > UINT64_MAX >> units[i].shift)
			return -ERANGE;
		*ret = (uint64_t)v << units[i].shift;
		return 0;
	}
	return -EINVAL;
}

static bool ifname_valid(const char *s)
{
	size_t len = strlen(s);
	return len > 0 && len < IFNAMSIZ && strcmp(s, ".") && strcmp(s, "..") && !strpbrk(s, "/: \t\n");
}

struct parse {
	struct vmp_pair_params p;
	void (*error)(void *data, const char *param, const char *message);
	void *data;
	unsigned errors;
};

__attribute__((format(printf, 3, 4)))
static void fault(struct parse *ps, const char *param, const char *fmt, ...)
{
	char msg[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	ps->errors++;
	if (ps->error)
		ps->error(ps->data, param, msg);
}

static void parse_internal(struct parse *ps, const char *v)
{
	struct vmp_internal_net net;
	char reason[192];
	if (vmp_internal_net_parse(v, &net, reason, sizeof(reason)) < 0) {
		fault(ps, "internal_net", "%s", reason);
		return;
	}
	ps->p.internal = net.net;
	memcpy(ps->p.internal_bridge, net.bridge, sizeof(ps->p.internal_bridge));
	ps->p.has_internal = true;
}

/* tcp:PORT or http:PORT/PATH; `others` are the values that the caller has looked for already. */
static bool parse_check(struct parse *ps, const char *name, const char *v, const char *others, bool *ret_http, uint16_t *ret_port, char *path,
			size_t size)
{
	bool http = !strncmp(v, "http:", 5);
	unsigned long port;
	const char *end;
	if (!http && strncmp(v, "tcp:", 4)) {
		fault(ps, name, "'%s' is none of %s, tcp:PORT, http:PORT/PATH", v, others);
		return false;
	}
	if (number(strchr(v, ':') + 1, 65535, &port, &end) < 0 || port == 0) {
		fault(ps, name, "'%s' has no port of 1 to 65535", v);
		return false;
	}
	if (http) {
		if (*end && *end != '/')
			fault(ps, name, "'%s' is not http:PORT/PATH", v);
		else if (strlen(end) >= size)
			fault(ps, name, "the path is longer than %zu characters", size - 1);
		else
			for (const char *p = end; *p; p++)
				if (*p <= ' ' || *p >= 127) {
					fault(ps, name, "the path holds a blank or a character outside ASCII");
					break;
				}
		snprintf(path, size, "%s", *end ? end : "/");
	} else if (*end) {
		fault(ps, name, "'%s' is not tcp:PORT", v);
	}
	*ret_http = http;
	*ret_port = (uint16_t)port;
	return true;
}

static void parse_ready(struct parse *ps, const char *v)
{
	bool http;
	if (!strcmp(v, "running"))
		ps->p.ready = VMP_READY_RUNNING;
	else if (parse_check(ps, "ready", v, "running", &http, &ps->p.ready_port, ps->p.ready_path, sizeof(ps->p.ready_path)))
		ps->p.ready = http ? VMP_READY_HTTP : VMP_READY_TCP;
}

static uint32_t parse_time(struct parse *ps, const char *name, const char *v, uint32_t min_ms, uint32_t max_ms)
{
	uint32_t ms = 0;
	int rc = vmp_time_parse(v, &ms);
	if (rc == -EINVAL)
		fault(ps, name, "'%s' is not a time (500ms, 30s, 2min; a plain number is seconds)", v);
	else if (rc < 0 || ms < min_ms || ms > max_ms)
		fault(ps, name, "'%s' is not between %u ms and %u ms", v, min_ms, max_ms);
	return ms;
}

static uint64_t parse_size(struct parse *ps, const char *name, const char *v, uint64_t min, uint64_t max)
{
	uint64_t size = 0;
	int rc = vmp_size_parse(v, &size);
	if (rc == -EINVAL)
		fault(ps, name, "'%s' is not a size (512k, 64M, 1G; a plain number is bytes)", v);
	else if (rc < 0 || size < min || size > max)
		fault(ps, name, "'%s' is not between %llu and %llu bytes", v, (unsigned long long)min, (unsigned long long)max);
	return size;
}

static void parse_command(struct parse *ps, const char *name, const char *v, char *buf, size_t size)
{
	if (v[0] != '/')
		fault(ps, name, "'%s' does not begin with an absolute path", v);
	else if (strlen(v) >= size)
		fault(ps, name, "the command is longer than %zu characters", size - 1);
	else if (strpbrk(v, "\n\r"))
		fault(ps, name, "the command has more than one line");
	else
		snprintf(buf, size, "%s", v);
}

static void parse_health(struct parse *ps, const char *v)
{
	bool http;
	if (!strcmp(v, "none")) {
		ps->p.health = VMP_HEALTH_NONE;
	} else if (!strncmp(v, "command:", 8)) {
		ps->p.health = VMP_HEALTH_COMMAND;
		parse_command(ps, "health", v + 8, ps->p.health_cmd, sizeof(ps->p.health_cmd));
	} else if (parse_check(ps, "health", v, "none, command:PATH", &http, &ps->p.health_port, ps->p.health_path, sizeof(ps->p.health_path))) {
		ps->p.health = http ? VMP_HEALTH_HTTP : VMP_HEALTH_TCP;
	}
}

static uint32_t parse_count(struct parse *ps, const char *name, const char *v, uint32_t min, uint32_t max)
{
	unsigned long n = 0;
	const char *end = "x";
	if (number(v, max, &n, &end) < 0 || *end || n < min)
		fault(ps, name, "'%s' is not a number of %u to %u", v, min, max);
	return (uint32_t)n;
}

static void parse_overload(struct parse *ps, const char *v)
{
	static const char *const kinds[] = {"none", "cpu:", "memory:", "io:", "load:"}; /* in the order of the enum */
	unsigned k = 1;
	if (!strcmp(v, kinds[0])) {
		ps->p.overload = VMP_OVERLOAD_NONE;
		return;
	}
	while (k < ARRAY_SIZE(kinds) && strncmp(v, kinds[k], strlen(kinds[k])))
		k++;
	if (k == ARRAY_SIZE(kinds)) {
		fault(ps, "overload", "'%s' is none of none, cpu:PERCENT, memory:PERCENT, io:PERCENT, load:PERCENT", v);
		return;
	}
	ps->p.overload = (enum vmp_overload_kind)k;
	ps->p.overload_percent = parse_count(ps, "overload", v + strlen(kinds[k]), 1, k == VMP_OVERLOAD_LOAD ? 100000 : 100);
}

/* failover, report, restart:N */
static void parse_policy(struct parse *ps, unsigned trigger, const char *name, const char *v)
{
#define ANY true
#define MOVE false
#define VMP_TRIGGER(id, text, def, allowed, flags, need, shortdesc, longdesc) [VMP_TRG_##id] = allowed,
	static const bool restart_allowed[] = {
#include "daemon/core/trigger.def"
	};
#undef VMP_TRIGGER
#undef ANY
#undef MOVE
	struct vmp_trg_policy *to = &ps->p.on[trigger];
	if (!strcmp(v, "failover")) {
		*to = (struct vmp_trg_policy){.what = VMP_TRG_FAILOVER};
	} else if (!strcmp(v, "report")) {
		*to = (struct vmp_trg_policy){.what = VMP_TRG_REPORT};
	} else if (restart_allowed[trigger] && !strncmp(v, "restart:", 8)) {
		*to = (struct vmp_trg_policy){.what = VMP_TRG_RESTART};
		to->restarts = (uint8_t)parse_count(ps, name, v + 8, 1, VMP_TRG_RING - 1);
	} else {
		fault(ps, name, "'%s' is none of failover, report%s", v, restart_allowed[trigger] ? ", restart:N" : "");
	}
}

static bool parse_trigger(struct parse *ps, const char *n, const char *v)
{
#define VMP_TRIGGER(id, text, def, allowed, flags, need, shortdesc, longdesc) "on_" text,
	static const char *const names[] = {
#include "daemon/core/trigger.def"
	};
#undef VMP_TRIGGER
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(n, names[i])) {
			parse_policy(ps, i, n, v);
			return true;
		}
	if (!strcmp(n, "trigger_limit"))
		ps->p.trigger_limit = parse_count(ps, n, v, 0, VMP_TRG_RING);
	else if (!strcmp(n, "trigger_window"))
		ps->p.trigger_window_ms = parse_time(ps, n, v, 1000, 86400000);
	else if (!strcmp(n, "hang_timeout"))
		ps->p.hang_timeout_ms = parse_time(ps, n, v, 2000, 600000);
	else if (!strcmp(n, "health"))
		parse_health(ps, v);
	else if (!strcmp(n, "health_interval"))
		ps->p.health_interval_ms = parse_time(ps, n, v, 100, 3600000);
	else if (!strcmp(n, "health_timeout"))
		ps->p.health_timeout_ms = parse_time(ps, n, v, 10, 600000);
	else if (!strcmp(n, "health_failures"))
		ps->p.health_failures = parse_count(ps, n, v, 1, 100);
	else if (!strcmp(n, "overload"))
		parse_overload(ps, v);
	else if (!strcmp(n, "storage_timeout"))
		ps->p.storage_timeout_ms = parse_time(ps, n, v, 0, 600000);
	else if (strcmp(n, "uplink"))
		return false;
	else if (!ifname_valid(v))
		fault(ps, n, "'%s' is not the name of an interface", v);
	else
		snprintf(ps->p.uplink, sizeof(ps->p.uplink), "%s", v);
	return true;
}

static void parse_one(struct parse *ps, const struct vmp_param *t, const char *v)
{
	const char *n = t->name;
	unsigned i = 0;
	if (t->type == VMP_PARAM_SELECT) {
		while (t->options[i] && strcmp(t->options[i], v))
			i++;
		if (!t->options[i]) {
			char list[128] = "";
			for (unsigned k = 0; t->options[k]; k++)
				snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", k ? ", " : "", t->options[k]);
			fault(ps, n, "'%s' is none of %s", v, list);
			return;
		}
	}
	if (parse_trigger(ps, n, v)) {
		return;
	} else if (!strcmp(n, "pair")) {
		if (!vmp_pair_name_valid(v))
			fault(ps, n, "'%s' is not a name of letters, digits, '_', '.', '-' (at most 63, beginning with a letter or digit)", v);
		else
			snprintf(ps->p.pair, sizeof(ps->p.pair), "%s", v);
	} else if (!strcmp(n, "domain")) {
		if (v[0] != '/')
			fault(ps, n, "'%s' is not an absolute path", v);
		else if (strlen(v) >= sizeof(ps->p.domain))
			fault(ps, n, "the path is longer than %zu characters", sizeof(ps->p.domain) - 1);
		else
			snprintf(ps->p.domain, sizeof(ps->p.domain), "%s", v);
	} else if (!strcmp(n, "entry")) {
		char reason[192];
		if (vmp_entry_parse(v, ps->p.entry, VMP_PAIR_MAX_ENTRY, &ps->p.n_entry, reason, sizeof(reason)) < 0) {
			ps->p.n_entry = 0;
			fault(ps, n, "%s", reason);
		}
	} else if (!strcmp(n, "entry_nic")) {
		if (!ifname_valid(v))
			fault(ps, n, "'%s' is not the name of a bridge", v);
		else
			snprintf(ps->p.entry_nic, sizeof(ps->p.entry_nic), "%s", v);
	} else if (!strcmp(n, "internal_net")) {
		parse_internal(ps, v);
	} else if (!strcmp(n, "ready")) {
		parse_ready(ps, v);
	} else if (!strcmp(n, "ready_timeout")) {
		ps->p.ready_timeout_ms = parse_time(ps, n, v, 10, 60000);
	} else if (!strcmp(n, "peer_link")) {
		ps->p.peer_link_failover = !strcmp(v, "failover");
	} else if (!strcmp(n, "cold_start")) {
		ps->p.cold_start_auto = !strcmp(v, "auto");
	} else if (!strcmp(n, "stop_timeout")) {
		ps->p.stop_timeout_ms = parse_time(ps, n, v, 0, 3600000);
	} else if (!strcmp(n, "entry_mode")) {
		ps->p.entry_mode = (enum vmp_entry_mode)i;
	} else if (!strcmp(n, "relay")) {
		ps->p.relay = (enum vmp_relay_place)i;
	} else if (!strcmp(n, "services")) {
		char reason[192];
		if (vmp_services_parse(v, ps->p.service, VMP_MAX_SERVICES, &ps->p.n_services, reason, sizeof(reason)) < 0)
			fault(ps, n, "%s", reason);
	} else if (!strcmp(n, "sync")) {
		ps->p.sync = (enum vmp_sync_kind)i;
	} else if (!strcmp(n, "redo")) {
		ps->p.redo = (enum vmp_redo)i;
	} else if (!strcmp(n, "sync_buffer")) {
		ps->p.sync_buffer = parse_size(ps, n, v, 1u << 20, 16ull << 30);
	} else if (!strcmp(n, "answer_keep")) {
		ps->p.answer_keep_ms = parse_time(ps, n, v, 0, 86400000);
	} else if (!strcmp(n, "max_request")) {
		ps->p.max_request = (uint32_t)parse_size(ps, n, v, 1024, 256u << 20);
	} else if (!strcmp(n, "sync_timeout")) {
		ps->p.sync_timeout_ms = parse_time(ps, n, v, 50, 60000);
	} else if (!strcmp(n, "export")) {
		parse_command(ps, n, v, ps->p.export_cmd, sizeof(ps->p.export_cmd));
	} else if (!strcmp(n, "import")) {
		parse_command(ps, n, v, ps->p.import_cmd, sizeof(ps->p.import_cmd));
	}
}

/* What fits together; each value by itself is good. */
static void check_relay(struct parse *ps, const json_t *obj)
{
	const struct vmp_pair_params *p = &ps->p;
	if (p->relay == VMP_RELAY_NONE) {
		if (p->n_services)
			fault(ps, "services", "only a relay has services: set relay=host or relay=guest");
		return;
	}
	if (p->relay == VMP_RELAY_HOST && p->entry_mode == VMP_ENTRY_BRIDGE)
		fault(ps, "relay", "host needs entry_mode=host or entry_mode=keepalived");
	if (p->relay == VMP_RELAY_GUEST && p->entry_mode != VMP_ENTRY_BRIDGE)
		fault(ps, "relay", "guest needs entry_mode=bridge");
	if (!json_object_get(obj, "internal_net"))
		fault(ps, "relay", "needs internal_net, through which %s", p->relay == VMP_RELAY_HOST ? "it reaches the application" :
		      "the relays reach each other");
	if (!json_object_get(obj, "services"))
		fault(ps, "services", "required with relay=%s", opt_relay[p->relay]);
	if (p->max_request > p->sync_buffer / 4)
		fault(ps, "max_request", "more than a quarter of sync_buffer");
	/* A mirror keeps the guest's own state, which a reset loses without anybody's notice. */
	if (p->relay == VMP_RELAY_HOST && p->sync == VMP_SYNC_MIRROR)
		for (unsigned i = 0; i < VMP_TRG_COUNT; i++)
			if (p->on[i].what == VMP_TRG_RESTART) {
				fault(ps, "sync", "mirror with relay=host excludes the policy restart: the application would lose its state");
				break;
			}
	if (!p->export_cmd[0] != !p->import_cmd[0])
		fault(ps, p->export_cmd[0] ? "import" : "export", "export and import are given together or not at all");
}

int vmp_pair_params_parse(const json_t *obj, struct vmp_pair_params *ret,
			  void (*error)(void *data, const char *param, const char *message), void *data)
{
	struct parse ps = {.error = error, .data = data};
	const char *key;
	json_t *value;
	if (!json_is_object(obj))
		return -EINVAL;
	json_object_foreach((json_t *)obj, key, value) {
		const struct vmp_param *t = vmp_pair_param_table;
		while (t->name && strcmp(t->name, key))
			t++;
		if (!t->name)
			fault(&ps, key, "unknown parameter");
		else if (!json_is_string(value))
			fault(&ps, key, "not a string");
	}
	for (const struct vmp_param *t = vmp_pair_param_table; t->name; t++) {
		value = json_object_get(obj, t->name);
		const char *v = json_string_value(value);
		if (value && !v)
			continue;
		if (!v || !*v) {
			if (t->required)
				fault(&ps, t->name, "required, but not set");
			v = t->def;
		}
		if (v)
			parse_one(&ps, t, v);
	}
	const struct vmp_pair_params *p = &ps.p;
	if (p->ready != VMP_READY_RUNNING && !json_object_get(obj, "internal_net"))
		fault(&ps, "ready", "a tcp or http check needs internal_net, through which it is asked");
	if ((p->health == VMP_HEALTH_TCP || p->health == VMP_HEALTH_HTTP) && !json_object_get(obj, "internal_net"))
		fault(&ps, "health", "a tcp or http check needs internal_net, through which it is asked");
	if (p->peer_link_failover && !json_object_get(obj, "internal_net"))
		fault(&ps, "peer_link", "failover needs internal_net");
	if (p->has_internal && p->internal_bridge[0] && !strcmp(p->internal_bridge, p->entry_nic))
		fault(&ps, "internal_net", "its bridge is the entry bridge '%s'", p->entry_nic);
	for (unsigned i = 0; p->has_internal && i < p->n_entry; i++)
		if (prefix_equal(&p->entry[i], &p->internal))
			fault(&ps, "internal_net", "overlaps with the entry network");
	check_relay(&ps, obj);
	if (ps.errors)
		return -EINVAL;
	*ret = ps.p;
	return 0;
}

int vmp_pair_params_reloadable(const struct vmp_pair_params *a, const struct vmp_pair_params *b, const char **ret_name)
{
	const char *name = NULL;
	if (strcmp(a->pair, b->pair))
		name = "pair";
	else if (strcmp(a->domain, b->domain))
		name = "domain";
	else if (strcmp(a->entry_nic, b->entry_nic))
		name = "entry_nic";
	else if (a->has_internal != b->has_internal || memcmp(&a->internal, &b->internal, sizeof(a->internal)) ||
		 strcmp(a->internal_bridge, b->internal_bridge))
		name = "internal_net";
	else if (a->entry_mode != b->entry_mode)
		name = "entry_mode";
	else if (a->relay != b->relay)
		name = "relay";
	else if (a->relay != VMP_RELAY_NONE && (a->n_services != b->n_services || memcmp(a->service, b->service, sizeof(a->service))))
		name = "services";
	else if (a->relay != VMP_RELAY_NONE && a->sync != b->sync)
		name = "sync";
	else if (a->relay != VMP_RELAY_NONE && a->sync_buffer != b->sync_buffer)
		name = "sync_buffer";
	if (!name)
		return 0;
	*ret_name = name;
	return -EBUSY;
}
