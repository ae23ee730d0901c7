/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parameters of a pair, as the CIB gives them: one table of names, types, defaults and help, from which come the agent's meta-data, its
 * validation, the daemon's parsed form and the manual's list. Pure: no I/O; whether files and bridges exist is checked by the caller.
 */
#ifndef VMP_PAIRPARAM_H
#define VMP_PAIRPARAM_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/addr.h" /* struct vmp_addr, vmp_addr_parse(), vmp_entry_parse(), vmp_internal_net_parse() */
#include "daemon/core/trigger.h" /* struct vmp_trg_policy */
#include "daemon/service.h"

#define VMP_PAIR_MAX_ENTRY 8

enum vmp_entry_mode {
	VMP_ENTRY_BRIDGE,	/* the guests carry the entry addresses */
	VMP_ENTRY_HOST,		/* the host's bridge carries them */
	VMP_ENTRY_KEEPALIVED,	/* the same, but keepalived moves them */
};
enum vmp_relay_place { VMP_RELAY_NONE, VMP_RELAY_HOST, VMP_RELAY_GUEST };
enum vmp_sync_kind { VMP_SYNC_JOURNAL, VMP_SYNC_MIRROR };
enum vmp_redo { VMP_REDO_NEVER, VMP_REDO_IDEMPOTENT, VMP_REDO_ALL };

enum vmp_ready_kind { VMP_READY_RUNNING, VMP_READY_TCP, VMP_READY_HTTP };
enum vmp_health_kind { VMP_HEALTH_NONE, VMP_HEALTH_TCP, VMP_HEALTH_HTTP, VMP_HEALTH_COMMAND };
enum vmp_overload_kind { VMP_OVERLOAD_NONE, VMP_OVERLOAD_CPU, VMP_OVERLOAD_MEMORY, VMP_OVERLOAD_IO, VMP_OVERLOAD_LOAD };

struct vmp_pair_params {
	char pair[64];
	char domain[256];				/* libvirt XML, absolute path */
	struct vmp_addr entry[VMP_PAIR_MAX_ENTRY];
	unsigned n_entry;
	char entry_nic[IFNAMSIZ];			/* host bridge of the entry NIC */
	bool has_internal;
	struct vmp_addr internal;			/* network: host bits zero */
	char internal_bridge[IFNAMSIZ];			/* "" = not checked: the domain XML names it */
	enum vmp_ready_kind ready;
	uint16_t ready_port;
	char ready_path[128];				/* http only, begins with / */
	uint32_t ready_timeout_ms;
	bool peer_link_failover;
	bool cold_start_auto;
	uint32_t stop_timeout_ms;
	enum vmp_entry_mode entry_mode;
	/* the relay; all of it means nothing with VMP_RELAY_NONE */
	enum vmp_relay_place relay;
	struct vmp_service service[VMP_MAX_SERVICES];
	unsigned n_services;
	enum vmp_sync_kind sync;
	enum vmp_redo redo;
	uint64_t sync_buffer;				/* bytes */
	uint32_t max_request;				/* bytes */
	uint32_t answer_keep_ms, sync_timeout_ms;
	char export_cmd[256], import_cmd[256];		/* "" = none */
	/* triggers */
	struct vmp_trg_policy on[VMP_TRG_COUNT];
	uint32_t trigger_limit, trigger_window_ms;
	uint32_t hang_timeout_ms;
	enum vmp_health_kind health;
	uint16_t health_port;
	char health_path[128];				/* HTTP: begins with / */
	char health_cmd[256];				/* COMMAND */
	uint32_t health_interval_ms, health_timeout_ms, health_failures;
	enum vmp_overload_kind overload;
	uint32_t overload_percent;
	char uplink[IFNAMSIZ];				/* "" = not watched */
	uint32_t storage_timeout_ms;			/* 0 = not watched */
};

enum vmp_param_type { VMP_PARAM_STRING, VMP_PARAM_SELECT, VMP_PARAM_TIME, VMP_PARAM_SIZE };

struct vmp_param {
	const char *name;
	enum vmp_param_type type;
	bool required, unique, reloadable;
	const char *def;				/* NULL = none */
	const char *const *options;			/* SELECT: NULL-terminated */
	const char *shortdesc, *longdesc;
};

/* The table; ends with a NULL name. */
extern const struct vmp_param vmp_pair_param_table[];

/*
 * Parses an object of strings. All faults are reported by error (name of the parameter, message), then -EINVAL returned; an unknown name is
 * a fault. Missing optional parameters take their defaults.
 */
int vmp_pair_params_parse(const json_t *obj, struct vmp_pair_params *ret,
			  void (*error)(void *data, const char *param, const char *message), void *data);
/* 0 when only reloadable parameters differ, else the name of the first other one in *ret_name and -EBUSY. */
int vmp_pair_params_reloadable(const struct vmp_pair_params *a, const struct vmp_pair_params *b, const char **ret_name);

bool vmp_pair_name_valid(const char *name);
/* "30s", "500ms", "2min", plain number = seconds; 0 or -EINVAL, -ERANGE. */
int vmp_time_parse(const char *text, uint32_t *ret_ms);
/* "64M", "512k", "1G" (powers of 1024; KiB, MiB, GiB as well), plain number = bytes; 0 or -EINVAL, -ERANGE. */
int vmp_size_parse(const char *text, uint64_t *ret);

#endif
