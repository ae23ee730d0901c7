/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Three nodes with the shipped core for the Promela model (model.pml): nodes 0 and 1 host the one pair, node 2 is a witness. The model
 * decides what the network, the clocks and the hosts do; this does it and says what broke. Times in ns; one world per program. */
#ifndef VMP_SPIN_HARNESS_H
#define VMP_SPIN_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/core.h"

#define SPIN_N 3
#define SPIN_HELD 3		/* messages the network may keep for later */
#define SPIN_BACKLOG 4		/* messages that wait for a stopped daemon */
#define SPIN_PAIRS 2		/* the pair, and after a loss of memory `voters` (I3) */
#define SPIN_CORE (offsetof(struct vmp_core, pair) + SPIN_PAIRS * sizeof(struct vmp_pair))

struct spin_held {
	uint8_t from, to;
	uint32_t gen;
	struct vmp_msg msg;
};

struct spin_node {
	unsigned char core[SPIN_CORE];
	bool up, daemon, complete, stopped;
	uint64_t base_r, base_l, rate_permille;
	uint64_t boot, inc;
	uint32_t gen;
	struct vmp_record run[SPIN_PAIRS], disk[SPIN_PAIRS];	/* of the pair, of `voters`; pair 0: none */
	uint64_t expiry;	/* the gate */
	bool by_expiry;
	uint64_t member;	/* content id; 0: no VM */
	uint32_t holds;		/* acknowledged writes in this content */
	uint8_t mode;
	uint64_t mode_epoch, sync_member;
	struct vmp_state ever;
	struct vmp_reg seen;
	uint8_t n_backlog;
	struct spin_held backlog[SPIN_BACKLOG];
};

struct spin_world {
	uint64_t now, next_id, last_open;
	uint32_t acked;		/* writes acknowledged so far */
	uint32_t acked_from;	/* writes up to here may be lost: by force or after a cold start */
	uint8_t link[SPIN_N][SPIN_N];	/* enum spin_link */
	uint8_t n_held;
	uint8_t forced;		/* bit per node whose content may open without everything */
	char broken[64];
	struct spin_held held[SPIN_HELD];
	struct spin_node node[SPIN_N];
};

enum spin_link { SPIN_FAST, SPIN_CUT, SPIN_KEEP };

extern struct spin_world W;		/* saved and restored by the verifier */

void spin_start(unsigned int rates);		/* clocks: two bits per node, 0 slow, 1 exact, 2 fast */
void spin_advance(void);			/* one heartbeat interval of real time */
void spin_link(unsigned int from, unsigned int to, unsigned int how);
void spin_deliver(unsigned int i, bool keep);	/* a kept message arrives; `keep`: and will once more */
void spin_stop(unsigned int i, bool on);
void spin_kill(unsigned int i);
void spin_restart(unsigned int i);
void spin_crash(unsigned int i);
void spin_boot(unsigned int i);
void spin_vm_exit(unsigned int i);
void spin_fenced(unsigned int i);		/* power off, told to the others by boot id */
void spin_switchover(void);
bool spin_ok(void);				/* no invariant broken so far */
bool spin_takes_over(void);			/* bounded response, on a copy of the world as it is now */
bool spin_heals(void);				/* the same after everything is repaired */
void spin_hash(uint64_t hash[2]);

#endif
