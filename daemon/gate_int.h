/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the gate, shared by gate.c (the caller's side), gate_worker.c (the thread) and gate_pins.c (what
 * outlives the process). Threads: each part of a slot says whose it is. Errors as in gate.h.
 */
#ifndef VMP_GATE_INT_H
#define VMP_GATE_INT_H

#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "daemon/fence.h"
#include "daemon/gate.h"
#include "daemon/link.h"
#include "daemon/tcbpf.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL
#define MAX_UPLINKS 4
#define BIT(ev) (1U << (ev))

/* What the caller wishes of a port. The worker brings the kernel there, however often the wish changed meanwhile. */
enum want {
	WANT_REMOVED,
	WANT_KEEP,   /* just added: stay armed if adopted with a live word, else be closed */
	WANT_CLOSED, /* disarmed */
	WANT_ARMED,
	WANT_BOUND, /* armed, FDB entry on the tap */
};

struct uplink {
	int ifindex;
	bool carrier;
};

/* The worker's knowledge of a port; only the worker touches it. */
struct wport {
	struct vmp_gate_spec spec;
	char alias[IFNAMSIZ]; /* what somebody renamed the tap to, fenced as well */
	bool setup, alarm, bound, made_tap, addr_failed, was_up;
	int ifindex, bridge, map_fd, addrs_fd, prog_fd[2], link_fd[2]; /* TAP: the same program twice */
	uint32_t prog_id[2];
	uint8_t mac[6]; /* HOST: of the interface */
	unsigned int n_applied; /* HOST: addresses that may be on the interface */
	struct vmp_gate_addr applied[VMP_GATE_MAX_ADDRS];
	enum want want; /* served last */
	uint64_t lost_at_ns, retry_at_ns, verify_at_ns, fdb_retry_at_ns, disarm_at_ns;
};

struct slot {
	/* caller's side */
	bool used, ready, open, close_pending, open_pending;
	bool readd; /* added again while being removed: `spec` is for then */
	uint64_t pair_id;
	char name[VMP_GATE_NAME_MAX];
	struct vmp_gate_spec spec;
	uint64_t *word;
	int map_fd;
	uint64_t epoch, closed_epoch, retired_epoch, pending_epoch;
	uint32_t pending_req;
	unsigned int repeat; /* next of vmp_announce_repeat_ms */
	uint64_t repeat_base_ns;

	/* shared, under the gate's lock */
	uint32_t req, done;
	enum want want;
	bool setup, waiting, adopted, s_alarm, s_armed, s_announce;
	uint8_t s_mac[6];
	unsigned int s_n_addrs;
	struct vmp_gate_addr s_addrs[VMP_GATE_MAX_ADDRS]; /* of the spec in effect */
	struct vmp_gate_spec s_spec;
	int s_ifindex, s_map_fd;
	uint64_t done_at_ns;
	unsigned int n_uplinks;
	struct uplink uplink[MAX_UPLINKS];
	uint32_t ev_bits;
	uint64_t ev_at_ns[VMP_GATE_EV_MAX];
	int ev_err[VMP_GATE_EV_MAX];
	char ev_reason[VMP_GATE_REASON];

	struct wport w;
};

struct leftover {
	char name[VMP_GATE_NAME_MAX];
	struct vmp_gate_spec spec; /* kind, tap or bridge, addresses */
};

/* What a pair has pinned besides links; descriptors, -1 = none. */
struct pins {
	int map, addrs, prog[2];
	uint32_t prog_id[2];
};

#define KNOWN_IDS 256

struct vmp_gate {
	struct vmp_gate_conf conf;
	char dir[PATH_MAX / 4];
	bool tcx;
	int announce_fd, wake_fd, out_fd;
	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool stop;
	uint32_t ev_bits;
	uint64_t ev_at_ns[VMP_GATE_EV_MAX];
	int ev_err[VMP_GATE_EV_MAX];
	unsigned int n_leftover;
	struct leftover leftover[VMP_GATE_MAX_PORTS];
	struct slot slot[VMP_GATE_MAX_PORTS];

	/* the worker's, before its start the creator's */
	struct vmp_link *link;
	struct vmp_fence *fence;
	uint8_t tag[3][VMP_TCBPF_TAG]; /* of the port's program, of the host's for the way in and out (zero: this kernel takes none) */
	/* Programs of all pairs: on an interface with several pairs they stand one behind the other. The ids of a running system are
	 * not used twice. */
	uint32_t known[KNOWN_IDS];
	unsigned int n_known;
	uint64_t fence_lost_at_ns, fence_retry_at_ns;
};

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint64_t boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

/* Write a reason, return err. */
__attribute__((format(printf, 4, 5))) int vmp_gate_fail(char *reason, size_t len, int err, const char *fmt, ...);

/* --- gate_pins.c --- */

extern const char *const vmp_gate_link_pin[2];
extern const char *const vmp_gate_prog_pin[2];
void vmp_gate_pin_prog_ids(const char *base, const char *pair, uint32_t ret[2]); /* of the pinned programs, also where they cannot be adopted; or 0 */

/* what = "map", "prog", "prog-out", "addrs", a link's name, or "" for the pair's directory */
void vmp_gate_pin_path(const char *base, const char *pair, const char *what, char *ret, size_t len);
int vmp_gate_pin(const char *base, const char *pair, const char *what, int fd);
int vmp_gate_pin_get(const char *base, const char *pair, const char *what); /* descriptor */
void vmp_gate_pin_remove(const char *base, const char *pair, const char *what);
int vmp_gate_pin_remove_all(const char *base, const char *pair);
/* Which device the pins are for: kind, and tap or bridge. get also reads the addresses. */
int vmp_gate_pin_spec_get(const char *base, const char *pair, struct vmp_gate_spec *ret);
int vmp_gate_pin_spec_set(const char *base, const char *pair, const struct vmp_gate_spec *spec);
int vmp_gate_bpffs_prepare(const char *dir, bool create, char *reason, size_t len);
/* Call cb for each pair that has a directory of pins; all names are read before, for cb may remove. */
int vmp_gate_for_each_pinned(const char *dir, int (*cb)(void *user, const char *pair), void *user);

/* --- gate_worker.c --- */

void *vmp_gate_worker(void *gate);
void vmp_gate_reset_wport(struct wport *w);
void vmp_gate_close_program(struct slot *s); /* this process's descriptors only */
/* 0: these programs come first on their sides, HOST: behind none but those of other pairs; -EBADF: not; other: cannot tell. */
int vmp_gate_verify_program(struct vmp_gate *g, enum vmp_gate_kind kind, int ifindex, const uint32_t prog_id[2]);
/* Take over what an earlier process pinned for this pair, if it is of our make and belongs together. */
bool vmp_gate_adopt_pins(struct vmp_gate *g, const char *pair, enum vmp_gate_kind kind, struct pins *ret);
void vmp_gate_pins_close(struct pins *p);
void vmp_gate_know(struct vmp_gate *g, const uint32_t prog_id[2]);
/* Take the programs of HOST off their interface, and the addresses. */
int vmp_gate_host_clear(struct vmp_link *l, bool tcx, const struct vmp_gate_spec *spec, const uint32_t prog_id[2]);

static inline bool on_host(enum vmp_gate_kind kind)
{
	return kind != VMP_GATE_TAP;
}

/* The device that is gated. */
static inline const char *gated_dev(const struct vmp_gate_spec *sp)
{
	return on_host(sp->kind) ? sp->bridge : sp->tap;
}

static inline unsigned int fence_addrs(const struct vmp_gate_spec *sp, struct vmp_fence_addr ret[VMP_FENCE_HOST_ADDRS])
{
	for (unsigned int i = 0; i < sp->n_addrs; i++) {
		ret[i].family = sp->addrs[i].family;
		memcpy(ret[i].addr, sp->addrs[i].addr, sizeof ret[i].addr);
	}
	return sp->n_addrs;
}

#endif
