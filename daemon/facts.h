/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local facts of a pair: VMP_RUNDIR/pairs/NAME.json, written by the daemon whenever one of them changes, read by a daemon that was
 * restarted (parameters, VM process, what Pacemaker was told) and by the agent when no daemon answers. Replaced as a whole by rename,
 * so a reader sees the old or the new one. tmpfs: nothing here survives a reboot, and a file of another boot is refused.
 */
#ifndef VMP_FACTS_H
#define VMP_FACTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/core/agree.h"
#include "daemon/proc.h" /* vmp_proc_start_time() */

#define VMP_FACTS_DIR VMP_RUNDIR "/pairs"

struct vmp_facts {
	char pair[64];
	char rsc[128];			/* resource id in the CIB, without instance number */
	pid_t pid;			/* of the VM; 0 = none */
	uint64_t start_time;		/* of that process: field 22 of /proc/PID/stat, ticks since boot */
	uint64_t member;		/* content id (I2) of that run, 0 = none */
	bool primary;
	uint64_t epoch;
	pid_t relay_pid;		/* of its relay on the host; 0 = none */
	uint64_t relay_start;		/* of that process */
	uint32_t relay_instance;	/* names its control socket */
	uint64_t relay_number;		/* of its newest hello, 0 = none */
	enum vmp_told told;
	bool has_nic;			/* the guest's end of its entry port, of which the template may say something else by now: */
	uint8_t entry_mac[6];
	bool entry_multi_queue;
	char vrrp[16];			/* what keepalived said of its instance last; "" = nothing yet, or another entry mode */
	json_t *params;			/* object of strings, as in the CIB; owned by the facts when read, borrowed when written */
};

/* dir NULL = VMP_FACTS_DIR. 0 or -errno. The write makes the directory (0700) when it is missing. */
int vmp_facts_write(const char *dir, const struct vmp_facts *f);
/* -ENOENT none, -ESTALE of another boot, -EBADMSG damaged. */
int vmp_facts_read(const char *dir, const char *pair, struct vmp_facts *ret);
int vmp_facts_remove(const char *dir, const char *pair);
/* Calls fn for each readable file; stops at the first non-zero result and returns it. Facts are released after the call. */
int vmp_facts_each(const char *dir, int (*fn)(const struct vmp_facts *f, void *data), void *data);
void vmp_facts_done(struct vmp_facts *f);

/* 1 the very process runs, 0 it does not (a zombie does not), -errno. */
int vmp_facts_vm_running(const struct vmp_facts *f);

#endif
