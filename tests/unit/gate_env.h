/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small world for tests of the gate, in a network and mount namespace of its own: a bridge "brt" with an uplink (up0,
 * its far end up1 is the outside), a bystander port (c0, far end c1), and taps the gate makes. Frames are real and
 * cross the real bridge.
 */
#ifndef VMP_TEST_GATE_ENV_H
#define VMP_TEST_GATE_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/gate.h"

#define ENV_MAX_EVENTS 256
#define ENV_MAX_STORES 256

struct env_event {
	enum vmp_gate_ev type;
	uint64_t pair_id, epoch;
	int err;
	char reason[VMP_GATE_REASON];
};

struct env {
	struct vmp_gate *g;
	unsigned int flags, wait_us;
	unsigned int tags; /* VLAN tags of the frames that env_passes_ send: 0, 1 (802.1Q) or 2 (802.1Q within 802.1ad) */
	int outside, bystander;	     /* packet sockets on up1 and c1 */
	unsigned int n_events, seen; /* events taken by env_wait */
	struct env_event ev[ENV_MAX_EVENTS];
	unsigned int n_stores;
	struct vmp_gate_store store[ENV_MAX_STORES];
	uint32_t seq;
};

/* Once per process: leave the host's namespaces. Exits 77 with a reason where that, or gating, is impossible. */
void env_process_init(void);
void env_up(struct env *e, unsigned int flags); /* new network namespace and bridge */
void env_down(struct env *e);
void env_gate_start(struct env *e);
void env_gate_stop(struct env *e);

__attribute__((format(printf, 1, 2))) void run(const char *fmt, ...); /* shell command that must succeed */
__attribute__((format(printf, 1, 2))) bool try_run(const char *fmt, ...);
bool output_has(const char *cmd, const char *text);

/* Next event of that type after those taken already, waiting up to 3 s; NULL = did not come. */
const struct env_event *env_wait(struct env *e, enum vmp_gate_ev type);
void env_pump(struct env *e); /* deliver what is there */
unsigned int env_count(const struct env *e, enum vmp_gate_ev type);

extern const uint8_t env_mac[2][6];
void env_spec(struct vmp_gate_spec *sp, unsigned int n); /* pair n: tapN, its MAC, 192.0.2.(10+n), 2001:db8::(10+n) */
void env_add(struct env *e, uint64_t pair_id, unsigned int n); /* port_add, wait until it is ready */
int env_guest(const char *tap);	    /* be the guest: descriptor of the tap, whose bridge port forwards */
int env_guest_now(const char *tap); /* the same, without waiting for the bridge */

bool env_passes_out(struct env *e, int guest); /* does a broadcast of the guest reach the outside? */
bool env_passes_in(struct env *e, int guest);
int env_recv(int fd, uint8_t *buf, int cap, int timeout_ms); /* one frame from a packet socket or tap, -1 = none */
void env_send_outside(struct env *e, const uint8_t *frame, int len);

uint64_t env_now(void); /* CLOCK_BOOTTIME ns */
void env_sleep_until(uint64_t boot_ns);

#endif
