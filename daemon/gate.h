/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gate: the entry gate of each pair. A tc eBPF program on the member's tap, both directions, lets frames pass only
 * while CLOCK_BOOTTIME is before an absolute expiry held in a map; a static nft fence drops everything on a gated port
 * that is not armed. The kernel ends the lease by itself; a daemon that is dead, stopped or late cannot extend it (K1,
 * K2).
 *
 * Two kinds of port. TAP: the guest carries the entry addresses, and all of its frames are gated. HOST: the host carries them
 * on an interface (the entry bridge); programs there, one for each direction, gate what is for or from these addresses (daemon/bpf/
 * host.bpf.c), the fence keeps them off all other interfaces, and they are on the interface only while the port is open: elsewhere the
 * host is a client of its pair like any other machine. Several pairs may share an interface. The way back to clients must lead
 * through that interface too.
 *
 * Units: every `_ns` is CLOCK_BOOTTIME in nanoseconds unless it says otherwise.
 * Errors: 0 or negative errno; `reason` gets one sentence for people and is written only on failure.
 * Ownership: strings and specs are copied. The gate is freed with vmp_gate_free(), which leaves ports, programs and
 * fence in the kernel on purpose: expiry closes them (binding rule 5). vmp_gate_purge() removes them.
 *
 * Threads. All functions are for one thread, the caller's loop; that thread alone writes expiry words (K3). Everything
 * that takes a kernel lock others can hold for long (the nftables commit mutex: 300 ms measured while a foreign ruleset
 * loads; the rtnl lock: while other links are made) is done by one worker thread inside, because such a wait happens
 * within sendmsg(2), where no timeout applies. Callbacks run in the caller's thread, within vmp_gate_dispatch()
 * (events) or within the call that stores (binding log). No callback may free the gate. Create the gate after the
 * process has chosen its scheduling policy: the worker inherits it.
 *
 * Two locks on the door, and what of them is on the fast path. Open means: the word holds a live expiry, and the
 * ifindex is armed; armed always means: program attached and verified (binding rule 6). K4 asks that a close be done
 * only when both "word is 0" and "disarmed" are confirmed, so a closed port is closed in two independent ways: taking
 * the program off a standby's tap opens nothing.
 *
 * Close: the word is stored as 0 and read back from the kernel's map at once (microseconds, no lock); the disarm goes
 * to the worker and is waited for at most `wait_us`. Normally both are confirmed within 30 us and the call returns 0.
 * If somebody holds the nft mutex it returns -EINPROGRESS without holding up the loop, and VMP_GATE_EV_CLOSED tells the
 * moment of confirmation: release (R1) only then. The delay is bounded by the lease itself, for the voters' guards run
 * out as they do after a node loss. Treating the word alone as closed would be faster in that rare case and would rest
 * on one lock, so it is not done.
 *
 * Open: the arm needs a commit too. vmp_gate_prepare(), called when a candidate has its grants (RELAY_FENCE), arms
 * while the word is still 0, beside the round trip of the put; vmp_gate_open() then finds the port armed. A lease that
 * lapses closes by the word alone; what the caller does not close stays armed, so one refresh reopens it (H3).
 */
#ifndef VMP_GATE_H
#define VMP_GATE_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_GATE_BPFFS "/sys/fs/bpf/vmpair"
#define VMP_GATE_MAX_ADDRS 16
#define VMP_GATE_MAX_PORTS 64
#define VMP_GATE_NAME_MAX 64
#define VMP_GATE_REASON 256
#define VMP_GATE_NEVER UINT64_MAX

struct vmp_gate;

enum vmp_gate_flags {
	/* For tests: the means of older kernels. */
	VMP_GATE_FORCE_CLSACT = 1 << 0,	  /* clsact + cls_bpf instead of TCX links */
	VMP_GATE_FORCE_NO_OWNER = 1 << 1, /* fence table without owner+persist */
};

enum vmp_gate_ev {
	/* The port stands: tap in the bridge, program attached, fenced, closed (or adopted as it was). */
	VMP_GATE_EV_PORT_READY,
	/* port_add failed: err, reason. A port that did not stand before is forgotten, one that did stays as it is. */
	VMP_GATE_EV_PORT_FAILED,
	/* port_del or forget is done, nothing of it is left (err: something is, see reason). */
	VMP_GATE_EV_PORT_GONE,
	/* Follows an open that returned -EINPROGRESS: armed, FDB moved, announced. */
	VMP_GATE_EV_OPENED,
	/* Follows a close that returned -EINPROGRESS: word 0 and disarmed, both confirmed. */
	VMP_GATE_EV_CLOSED,
	/* Somebody took the program off. The port was disarmed first; RESTORED or ALARM follows. */
	VMP_GATE_EV_PROGRAM_LOST,
	VMP_GATE_EV_PROGRAM_RESTORED,
	/* The nft table was changed or removed by somebody else. pair_id 0. */
	VMP_GATE_EV_FENCE_LOST,
	VMP_GATE_EV_FENCE_RESTORED,
	/* The tap (the interface) is gone; port_add again before the VM is started again. */
	VMP_GATE_EV_TAP_LOST,
	/* Same name, new ifindex: fenced from its first frame on, now gated again. */
	VMP_GATE_EV_TAP_RECREATED,
	/* Carrier of an uplink: an open pair is announced again when it comes. */
	VMP_GATE_EV_UPLINK_UP,
	VMP_GATE_EV_UPLINK_DOWN,
	/* Program or fence lost twice within a minute, repair failed, tap renamed, XDP: the bridge port is disabled. */
	VMP_GATE_EV_ALARM,
	/* HOST: open, but an address cannot be put on the interface (err, reason); tried again every second, told once. */
	VMP_GATE_EV_ADDR_FAILED,
	VMP_GATE_EV_MAX,
};

struct vmp_gate_event {
	enum vmp_gate_ev type;
	uint64_t pair_id;      /* 0: concerns all */
	const char *pair_name; /* "" if pair_id is 0; valid during the callback */
	uint64_t epoch;	       /* OPENED, CLOSED */
	uint64_t at_ns;	       /* when the worker saw or confirmed it */
	int err;	       /* negative errno or 0 */
	const char *reason;    /* "" if there is nothing to say */
};

enum vmp_gate_store_op { VMP_GATE_STORE_OPEN, VMP_GATE_STORE_REFRESH, VMP_GATE_STORE_CLOSE, VMP_GATE_STORE_ADOPT };

/* One line of the binding log. ADOPT stores nothing: it tells the word found at the start (K5). */
struct vmp_gate_store {
	enum vmp_gate_store_op op;
	uint64_t pair_id;
	const char *pair_name;
	uint64_t epoch;	   /* 0 for ADOPT */
	uint64_t value_ns; /* the word; 0 = closed */
	/* CLOCK_BOOTTIME and CLOCK_MONOTONIC: before the store of open and refresh, after the read-back of close. */
	uint64_t boot_ns;
	uint64_t mono_ns;
};

struct vmp_gate_conf {
	const char *bpffs_dir; /* NULL: VMP_GATE_BPFFS. Its parent must be a bpf file system; /sys/fs/bpf is made one */
	unsigned int flags;    /* enum vmp_gate_flags */
	unsigned int wait_us;  /* longest wait for the worker within open and close; 0: 1000 */
	void (*event)(void *user, const struct vmp_gate_event *ev);
	void (*stored)(void *user, const struct vmp_gate_store *st); /* may be NULL */
	void *user;
};

struct vmp_gate_addr {
	int family;	  /* AF_INET or AF_INET6 */
	uint8_t addr[16]; /* network order, first 4 bytes for AF_INET */
	uint8_t prefix;	  /* HOST only: length of the network's prefix */
};

/* HOST_OTHER: as HOST, but somebody else (keepalived) puts the addresses there and takes them away. */
enum vmp_gate_kind { VMP_GATE_TAP, VMP_GATE_HOST, VMP_GATE_HOST_OTHER };

struct vmp_gate_spec {
	enum vmp_gate_kind kind;
	char tap[IFNAMSIZ];    /* made persistent if missing; another kind is refused (macvtap, VF, NIC). TAP only */
	char bridge[IFNAMSIZ]; /* must exist. HOST: the interface for the addresses, a bridge or another that is no bridge's port */
	char uplink[IFNAMSIZ]; /* "": every port of the bridge that is not a tap */
	uint8_t mac[6];	       /* the guest's entry MAC (shared by both members). TAP only: HOST announces the interface's own */
	bool multi_queue;      /* tap for a guest with several queues. TAP only */
	unsigned int n_addrs;
	struct vmp_gate_addr addrs[VMP_GATE_MAX_ADDRS];
};

struct vmp_gate_info {
	bool ready, armed, open; /* open: word is live now, and armed */
	bool alarm;
	bool tcx;	    /* attached by TCX links; else clsact */
	int ifindex;	    /* 0: no tap at present */
	uint64_t epoch;	    /* of the last open; 0 = none since this process started */
	uint64_t expiry_ns; /* the word as the kernel has it */
};

/*
 * Probe the kernel, take over or install the fence (with the ports pinned by an earlier process in it), start the
 * worker. Blocks (start-up only). -EOPNOTSUPP: this kernel cannot gate and vmpaird must refuse pairs; -EBUSY: another
 * daemon owns the fence.
 */
int vmp_gate_new(struct vmp_gate **ret, const struct vmp_gate_conf *conf, char *reason, size_t reason_len);
struct vmp_gate *vmp_gate_free(struct vmp_gate *g); /* accepts NULL, returns NULL; kernel objects stay */

int vmp_gate_fd(const struct vmp_gate *g);		 /* poll for POLLIN, then dispatch */
int vmp_gate_dispatch(struct vmp_gate *g);		 /* number of events delivered */
uint64_t vmp_gate_deadline(const struct vmp_gate *g);	 /* when tick() is wanted, VMP_GATE_NEVER if not */
void vmp_gate_tick(struct vmp_gate *g, uint64_t now_ns); /* repeats of announcements */

/*
 * Make or adopt a port; always asynchronous: PORT_READY or PORT_FAILED follows a 0. Call it before each start of the
 * VM; for a port that is there already it repairs what is missing, takes over addresses, ends an alarm and never
 * changes the word. A new port is closed. One adopted under a live word (pinned by an earlier process) stays open until
 * that word is past: open it from fresh acks (H7) or close it. -EINVAL: bad spec; -EEXIST: tap, (bridge, MAC) or an
 * entry address on that bridge belongs to another pair; -EBUSY: it stands with another tap, bridge or MAC; -ENOSPC: too
 * many ports. While the pair's port is being removed this is remembered: PORT_GONE comes, then PORT_READY or
 * PORT_FAILED of the new one.
 */
int vmp_gate_port_add(struct vmp_gate *g, uint64_t pair_id, const char *pair_name, const struct vmp_gate_spec *spec,
		      char *reason, size_t reason_len);
/* New entry addresses of a standing port; an open one is announced again. HOST: PORT_READY or PORT_FAILED follows. -ENOENT, -EINVAL,
 * -EEXIST. */
int vmp_gate_port_addrs(struct vmp_gate *g, uint64_t pair_id, const struct vmp_gate_addr *addrs, unsigned int n_addrs);
/* Close, then remove tap, programs, pins and fence elements; PORT_GONE follows. The VM must have ended. -ENOENT. */
int vmp_gate_port_del(struct vmp_gate *g, uint64_t pair_id);
/* Where the expiry word of a standing port is pinned; -ENAMETOOLONG. */
int vmp_gate_word_path(const struct vmp_gate *g, const char *pair_name, char *ret, size_t size);
int vmp_gate_port_info(const struct vmp_gate *g, uint64_t pair_id, struct vmp_gate_info *ret);

/*
 * Pairs found pinned at the start that no port_add has claimed: name them, or close and remove all that a daemon before has left of one
 * without a port here (PORT_GONE follows). -ENOENT: nothing; -EBUSY: it has a port; another error: it could not be closed, and nothing is
 * removed.
 */
const char *vmp_gate_leftover(const struct vmp_gate *g, unsigned int i); /* NULL after the last */
int vmp_gate_forget(struct vmp_gate *g, uint64_t pair_id, const char *pair_name);
/*
 * Closes what a daemon before has left of a pair without a port here, one that nobody has claimed, or whose port_add failed: its word is 0
 * then, read back (the first of K4's two locks; nobody here can arm or disarm it). Its tap and pins stay. 0 also where there is nothing.
 */
int vmp_gate_close_unclaimed(struct vmp_gate *g, const char *pair_name);

/*
 * Arm ahead of an open for this epoch; changes no word. Optional. 0 = submitted; -ESTALE: epoch was closed already;
 * -EBUSY: a close is not confirmed yet; -EAGAIN: not ready. Prepared and not opened within 5 s (the claim failed), it
 * is disarmed again by itself.
 */
int vmp_gate_prepare(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch);

/*
 * Store the expiry, arm, move the FDB entry, announce (and again after 100, 500, 2000 ms and when an uplink's carrier
 * returns). 0: all done. -EINPROGRESS: the expiry is stored, the rest follows, then OPENED. Nothing is stored on any
 * other error: -ENOENT no such port, -EAGAIN port not ready, -ERANGE expiry above lease_end or absurd, -ETIME expiry is
 * past, -ESTALE epoch retired, or older than the newest one opened or closed, -EBUSY a close is not confirmed yet,
 * -EREMOTEIO port in alarm.
 */
int vmp_gate_open(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns);
/* One aligned 64-bit store; same errors; -ESTALE as well if this epoch is not open: never opened, or closed since. */
int vmp_gate_refresh(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns);
/*
 * 0: closed, both ways confirmed. -EINPROGRESS: word 0 confirmed, CLOSED follows. After either nothing is stored until
 * the next open: refreshes are refused, and so is an open of an older epoch. The same epoch may be opened again, as H3
 * and K6 need it; after a release (R1) vmp_gate_retire() rules that out. epoch 0: close whatever is open. Closing a
 * closed port is 0. -ENOENT: no such port. A port that is being removed: -EINPROGRESS, and PORT_GONE follows.
 */
int vmp_gate_close(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch);

/* Nothing is stored for this or an older epoch ever again; closes it if it is still open (then as vmp_gate_close()). */
int vmp_gate_retire(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch);

/* Remove every trace of every pair: pins, programs, taps, table. No gate of another process may be alive (-EBUSY).
 * Blocks. */
int vmp_gate_purge(const char *bpffs_dir, char *reason, size_t reason_len);

const char *vmp_gate_ev_name(enum vmp_gate_ev ev);

#endif
