/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OCF runtime: what every agent in C needs. An agent is a table of parameters and a table of actions; meta-data, usage and the reading of
 * the environment come from these. Pacemaker ends an agent that exceeds its time with SIGKILL, so nothing here needs cleaning up, and every
 * wait is bounded by the operation's timeout.
 */
#ifndef VMP_OCF_H
#define VMP_OCF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/agree.h"
#include "daemon/pairparam.h"

struct ocf_env {
	const char *instance;		/* resource id without instance number */
	const char *node;		/* own node as Pacemaker calls it, or "" */
	enum vmp_told op_role;		/* role of the recurring monitor */
	uint32_t interval_ms;		/* 0: probe or one-shot */
	uint32_t timeout_ms;		/* of the operation */
	uint64_t start_ms;		/* CLOCK_MONOTONIC */
	int check_level;
	json_t *params;			/* object of strings: every OCF_RESKEY_ that is not Pacemaker's own */
};

struct ocf_action {
	const char *name;
	int (*run)(struct ocf_env *env);	/* NULL: answered by the runtime */
	const char *timeout, *interval, *role;	/* advised; interval and role NULL where they do not apply */
	bool hidden;				/* works, but is not in the meta-data */
};

struct ocf_agent {
	const char *name, *version, *shortdesc, *longdesc;
	const struct vmp_param *params;
	const struct ocf_action *actions;	/* ends with a NULL name */
};

int ocf_main(const struct ocf_agent *agent, int argc, char **argv);

/* Milliseconds of the operation's time that are left, less a margin for saying why. */
uint32_t ocf_left_ms(const struct ocf_env *env);

/* Why the action ends as it does: last line on stderr as Pacemaker wants it (at most 128 characters), and syslog. Never blocks. */
void ocf_exit_reason(const struct ocf_env *env, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ocf_log(const struct ocf_env *env, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
