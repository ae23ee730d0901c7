/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmpaird.conf: `name = value`, one a line, # starts a comment. A new option is one line in VMP_CONF_OPTIONS: it gives the
 * field, the default, the check, the text of `vmpaird --help-options` and the man page.
 *
 * Loading gathers all errors as FILE:LINE (diag); unknown and duplicate names are errors; cross-checks follow when every single
 * value is good. On failure the caller's old configuration stays untouched. Blocking file I/O; no global state.
 */
#ifndef VMP_CONF_H
#define VMP_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/diag.h"

#define VMP_CONF_STR 256
#define VMP_CONF_BINDS 2
#define VMP_CONF_NODES 768
#define VMP_CONF_MAX_NODES 8

#ifndef VMP_SYSCONFDIR
#define VMP_SYSCONFDIR "/etc/vmpair"
#endif
#ifndef VMP_RUNDIR
#define VMP_RUNDIR "/run/vmpair"
#endif
#ifndef VMP_STATEDIR
#define VMP_STATEDIR "/var/lib/vmpair"
#endif

/*
 * X(TYPE, field, "name", "default", min, max, "unit", reload, "help")
 *   UINT   unsigned number in [min, max]                     uint32_t field
 *   FRAC   decimal fraction, at most three places            uint32_t field in parts per thousand, like min and max
 *   BOOL   yes or no                                         bool field
 *   LEVEL  error, warning, notice, info, debug               uint32_t field (LOG_* of syslog.h)
 *   PATH   absolute path                                     char field[VMP_CONF_STR]
 *   STR    any text without spaces                           char field[VMP_CONF_STR]
 *   ADDRS  numeric addresses, at most VMP_CONF_BINDS, comma or space between; empty allowed      char field[VMP_CONF_STR]
 *   PORTS  FIRST-LAST, at least 2 ports of [min, max]        char field[VMP_CONF_STR]
 *   NODES  at most `max` of NAME ID ADDRESS [ADDRESS], commas between; empty allowed      char field[VMP_CONF_NODES]
 * reload: 1 = taken over by a reload, 0 = only by a restart of the daemon.
 */
#define VMP_CONF_OPTIONS(X) \
	X(UINT, hb_ms, "hb_ms", "20", 5, 1000, "ms", 0, \
	  "Interval of the heartbeats to every voter.") \
	X(UINT, lease_ms, "lease_ms", "150", 50, 60000, "ms", 0, \
	  "How long a voter that supported a holder grants the pair to nobody else. A lost node is noticed after this time. " \
	  "Must be the same on all nodes.") \
	X(FRAC, clock_error_permille, "clock_error", "0.10", 1, 300, "", 0, \
	  "Largest error of the clock rate of any node. A time daemon may slew by 0.10; use less only where its " \
	  "configuration limits the slew rate. Must be the same on all nodes.") \
	X(UINT, gate_delay_ms, "gate_delay_ms", "10", 0, 1000, "ms", 0, \
	  "Longest time a frame may spend between the entry gate and the wire.") \
	X(UINT, hold_max_ms, "hold_max_ms", "5000", 100, 60000, "ms", 0, \
	  "Longest hold a voter grants for a planned restart of a daemon.") \
	X(UINT, port, "port", "5440", 1, 65535, "", 0, \
	  "UDP port of the daemons. Must be the same on all nodes. Corosync uses 5405 to 5412.") \
	X(ADDRS, bind_address, "bind_address", "", 0, 0, "", 0, \
	  "Local addresses for the UDP port, one or two numeric ones; empty: all addresses.") \
	X(NODES, witness, "witness", "", 0, 1, "", 1, \
	  "A voter outside the cluster (vmpaird --witness): its name, a node id that corosync.conf does not use, and its numeric " \
	  "addresses. Must be the same on all nodes and on the witness itself.") \
	X(NODES, hosts, "hosts", "", 0, VMP_CONF_MAX_NODES - 1, "", 1, \
	  "The nodes of the cluster as in corosync.conf, for the witness, which has no Corosync. The nodes themselves do not need it, but " \
	  "may have it, so that one file serves all: where it differs from corosync.conf, vmpair status says so.") \
	X(STR, libvirt_uri, "libvirt_uri", "qemu:///system", 0, 0, "", 0, \
	  "Connection to libvirt.") \
	X(PATH, key_file, "key_file", VMP_SYSCONFDIR "/keys", 0, 0, "", 1, \
	  "Keys of the daemons among each other, made by `vmpair keygen`; mode 0600.") \
	X(PATH, runtime_dir, "runtime_dir", VMP_RUNDIR, 0, 0, "", 0, \
	  "Control socket and registers of this boot; must be on a file system that a reboot empties.") \
	X(PATH, state_dir, "state_dir", VMP_STATEDIR, 0, 0, "", 0, \
	  "Identity of the voter and the copy of the registers for a cold start; must survive a reboot.") \
	X(PATH, log_dir, "log_dir", "/var/log/vmpair", 0, 0, "", 0, \
	  "Events (events.jsonl) and the binding log.") \
	X(BOOL, binding_log, "binding_log", "no", 0, 1, "", 0, \
	  "Log every opening, refresh and closing of an entry to LOG_DIR/binding.log, by which tests prove that two nodes never had " \
	  "an entry open at once; 50 lines a second per primary.") \
	X(LEVEL, log_level, "log_level", "notice", 0, 0, "", 1, \
	  "Least level that is logged: error, warning, notice, info or debug.") \
	X(BOOL, realtime, "realtime", "yes", 0, 1, "", 0, \
	  "Run with real-time priority and locked memory where the system allows it.") \
	X(PORTS, relay_ports, "relay_ports", "7700-7799", 1, 65535, "", 0, \
	  "TCP and UDP ports, FIRST-LAST, at which the relays of this node's members take in those of their peers; one for each member.") \
	X(STR, relay_user, "relay_user", "nobody", 0, 0, "", 0, \
	  "User whom relays on the host run as. They get its rights, the right to use ports below 1024, and nothing else.") \
	X(UINT, control_timeout_ms, "control_timeout_ms", "5000", 100, 600000, "ms", 1, \
	  "A control client that neither reads nor writes for this long is dropped.")

#define VMP_CONF_FIELD_UINT(f) uint32_t f
#define VMP_CONF_FIELD_FRAC(f) uint32_t f
#define VMP_CONF_FIELD_LEVEL(f) uint32_t f
#define VMP_CONF_FIELD_BOOL(f) bool f
#define VMP_CONF_FIELD_PATH(f) char f[VMP_CONF_STR]
#define VMP_CONF_FIELD_STR(f) char f[VMP_CONF_STR]
#define VMP_CONF_FIELD_ADDRS(f) char f[VMP_CONF_STR]
#define VMP_CONF_FIELD_PORTS(f) char f[VMP_CONF_STR]
#define VMP_CONF_FIELD_NODES(f) char f[VMP_CONF_NODES]

struct vmp_conf {
#define X(type, field, name, def, min, max, unit, reload, help) VMP_CONF_FIELD_##type(field);
	VMP_CONF_OPTIONS(X)
#undef X
	/* Derived by the cross-checks. */
	uint32_t holder_ms;	/* H = L (1 - rho) / (1 + rho) - q, rounded down */
	uint16_t relay_port_min, relay_port_max;	/* relay_ports taken apart */
	unsigned int bind_count;
	char bind[VMP_CONF_BINDS][64];	/* bind_address taken apart; feed to vmp_net_addr_parse() */
};

struct vmp_conf_node {
	char name[64];
	uint8_t id;
	unsigned int n_addr;
	char addr[2][64];
};

void vmp_conf_defaults(struct vmp_conf *ret);

/* A value of NODES taken apart, blanks and all; returns the number, or -EINVAL with a sentence in why (may be NULL). */
int vmp_conf_nodes(const char *text, struct vmp_conf_node ret[VMP_CONF_MAX_NODES], char *why, size_t size);

/* What a witness has to know: its own entry and its hosts. 0, or -EINVAL with a line in diag. */
int vmp_conf_check_witness(const char *name, const struct vmp_conf *c, struct vmp_diag *diag);

/* The same on all daemons that talk to each other: a lease means something only to who counts as its holder does. */
uint32_t vmp_conf_lease_digest(const struct vmp_conf *c);

#define VMP_CONF_FILE VMP_SYSCONFDIR "/vmpaird.conf"

/*
 * path NULL: VMP_CONF_FILE, which may be missing: then all defaults hold. A file that somebody named must be there.
 * -ENOENT (no such file), -EINVAL (complaints in diag), other negative errno of reading.
 */
int vmp_conf_load(const char *path, struct vmp_conf *ret, struct vmp_diag *diag);
int vmp_conf_parse(const char *name, const char *text, size_t len, struct vmp_conf *ret, struct vmp_diag *diag);

/*
 * Values for a reload: *cur takes over from *fresh what a reload may change. Returns the number of options that differ but need a
 * restart, their names in `names` ("hb_ms, port").
 */
unsigned int vmp_conf_reload(struct vmp_conf *cur, const struct vmp_conf *fresh, char *names, size_t names_size);

/* The file that would give these values; every option with its help as a comment. Also the sample configuration. */
int vmp_conf_write(const struct vmp_conf *conf, FILE *out);

/* The option table as a man page section (roff). */
int vmp_conf_write_man(FILE *out);

#endif
