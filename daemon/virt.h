/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual machines through libvirt, without ever waiting for libvirt in the loop.
 *
 * The owner (the loop thread) is the only caller of these functions; none blocks. All libvirt calls are made by threads
 * of this module; their results, libvirt's events, the ends of processes (pidfd) and deadlines are collected behind one
 * descriptor: when vmp_virt_fd() is readable, call vmp_virt_next() until it returns 0.
 *
 * A VM's end is told by its process (pidfds of it and of threads, which end before its memory is freed) or by the guest's
 * own power-off, never by libvirtd being away: losing, freezing or restarting libvirtd ends no VM. Each pair has its own pipeline, so a call that hangs delays no other
 * pair. A stop that libvirt never answers ends by signals to the process, and "stopped" is said only when the process
 * is known to be gone.
 *
 * Domains are transient: nothing stays in libvirt after a stop. Timeouts are milliseconds, `tag` is returned with the
 * result. Errors: negative errno, sentences in `reason`.
 */
#ifndef VMP_VIRT_H
#define VMP_VIRT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/domxml.h"

#define VMP_VIRT_MAX_PAIRS 64
#define VMP_VIRT_REASON 256

struct vmp_virt;

struct vmp_virt_opts {
	const char *uri;	   /* NULL: qemu:///system */
	const char *pid_dir;	   /* NULL: /run/libvirt/qemu */
	const char *qemu_img;	   /* NULL: qemu-img, found in PATH */
	unsigned int keepalive_s;  /* 0: 1 s; a libvirtd that answers none of ... */
	unsigned int keepalive_n;  /* 0: 4 ... in a row is lost */
	unsigned int retry_max_ms; /* 0: 2000; the reconnection back-off starts at 50 ms */
};

/* One run of a VM. */
struct vmp_virt_run {
	pid_t pid;	      /* 0 = does not run */
	uint64_t start_ticks; /* of the process: (pid, start_ticks) names it for good */
};

enum vmp_virt_event_type {
	VMP_VIRT_STARTED,  /* result of START: rc 0 with `run`, or -errno and reason */
	VMP_VIRT_STOPPED,  /* result of STOP: rc 0 = the process is gone; -ETIMEDOUT = it would not go */
	VMP_VIRT_REMOVED,  /* result of REMOVE */
	VMP_VIRT_FOUND,	   /* a VM of a registered pair was found running that no request is about (see pair_add) */
	VMP_VIRT_EXITED,   /* the VM is over: once per run, at the first evidence, also for a stop asked for */
	VMP_VIRT_GONE,	   /* the process of a run has ended that EXITED told of before (gone = false) */
	VMP_VIRT_CAUSE,	   /* libvirt's word on why a run ended, after EXITED with `how` UNKNOWN: for the journal */
	VMP_VIRT_REBOOTED, /* the guest rebooted: not an end */
	VMP_VIRT_PAUSED,   /* `how` tells why */
	VMP_VIRT_RESUMED,
	VMP_VIRT_PANICKED, /* the guest's kernel: the VM is stopped, its process is there */
	VMP_VIRT_WATCHDOG, /* of the guest: it expired, nothing was done about it */
	VMP_VIRT_IO_ERROR, /* of a disk: `reason` names it */
	VMP_VIRT_RESET,	   /* result of RESET */
	VMP_VIRT_PONG,	   /* result of PING: rc 0; -ETIMEDOUT = the guest agent is silent; else nothing is known */
	VMP_VIRT_LIBVIRTD_LOST, /* pair_id 0; nothing follows from it about any VM */
	VMP_VIRT_LIBVIRTD_BACK, /* pair_id 0 */
	VMP_VIRT_NOTE,		/* something worth a log line: `reason` */
};

enum vmp_virt_how {
	VMP_VIRT_HOW_UNKNOWN,	/* the process ended */
	VMP_VIRT_HOW_SHUTDOWN,	/* the guest powered off */
	VMP_VIRT_HOW_SIGNAL,	/* qemu was told to end (SIGTERM) */
	VMP_VIRT_HOW_DESTROYED, /* virsh destroy */
	VMP_VIRT_HOW_CRASHED,	/* guest panic, or qemu failed */
	VMP_VIRT_HOW_MIGRATED,
	VMP_VIRT_HOW_SAVED,
	VMP_VIRT_HOW_OPERATOR, /* paused by hand (or by a snapshot) */
	VMP_VIRT_HOW_IOERROR,  /* paused by an I/O error of a disk */
	VMP_VIRT_HOW_WATCHDOG,
};

struct vmp_virt_event {
	enum vmp_virt_event_type type;
	enum vmp_virt_how how;
	bool gone;	  /* EXITED: the process has ended; false: it is about to (killed, guest powered off or panicked) */
	uint64_t pair_id; /* 0: about libvirtd itself */
	uint64_t tag;
	int rc;
	struct vmp_virt_run run;
	uint64_t at_ns; /* CLOCK_BOOTTIME when the evidence was taken */
	char reason[VMP_VIRT_REASON];
};

struct vmp_virt_stop {
	unsigned int graceful_ms; /* ACPI power button first, for so long; 0 = none */
	unsigned int destroy_ms;  /* then libvirt's destroy (or SIGTERM without libvirt) for so long; 0: 2000 */
	unsigned int kill_ms;	  /* then SIGKILL through the pidfd; -ETIMEDOUT after so long; 0: 5000 */
};

const char *vmp_virt_event_str(enum vmp_virt_event_type type);
const char *vmp_virt_how_str(enum vmp_virt_how how);

/* Starts the threads; the connection is made in the background (LIBVIRTD_BACK tells of it). Options are copied. */
int vmp_virt_new(struct vmp_virt **ret_, const struct vmp_virt_opts *opts, char *reason, size_t reason_size);
/* VMs live on. Waits for threads for at most about 200 ms; one that hangs in libvirt is left behind with what it uses.
 */
struct vmp_virt *vmp_virt_free(struct vmp_virt *v);

int vmp_virt_fd(const struct vmp_virt *v);
/* 1 with an event in *ret_, 0 = none left. */
int vmp_virt_next(struct vmp_virt *v, struct vmp_virt_event *ret_);
bool vmp_virt_connected(const struct vmp_virt *v);

/*
 * Registers a pair's member on this node and adopts its VM if it runs: *ret_run is filled at once, from libvirt's pid
 * file and the process itself, without libvirtd (pid 0: not running). A VM that shows up later unasked is told by
 * FOUND. -EEXIST, -ENOSPC (more than VMP_VIRT_MAX_PAIRS).
 */
int vmp_virt_pair_add(struct vmp_virt *v, uint64_t pair_id, const char *name, const char *uuid,
		      struct vmp_virt_run *ret_run);
/* Forgets the pair; pending requests end without a result. A running VM lives on: stop it before, if it shall not. */
void vmp_virt_pair_del(struct vmp_virt *v, uint64_t pair_id);
/* The current run as known from its process; -ENOENT when the pair is not registered, else 0 (pid 0: none). */
int vmp_virt_run(const struct vmp_virt *v, uint64_t pair_id, struct vmp_virt_run *ret_);

/*
 * Makes missing overlays, then starts the VM; retried while libvirtd is away, until timeout_ms. The result is 0 at once
 * when it runs already. `d` is not kept. Results: -ENOTCONN (no libvirtd), -ETIMEDOUT (it hangs), -ESTALE (an overlay
 * of another template), -ECANCELED (a stop came), -EIO (libvirt or qemu-img says why in `reason`). Returns -EBUSY while
 * another request is under way, or when the run before has been told EXITED and its process has not ended (a stop ends
 * it). A start that was given up (timeout, or a stop came) and comes true late is ended again by this module; a NOTE
 * and EXITED tell of it.
 */
int vmp_virt_start(struct vmp_virt *v, uint64_t pair_id, const struct vmp_domxml *d, unsigned int timeout_ms,
		   uint64_t tag);
/* Ends the VM; idempotent. A start under way ends with -ECANCELED, a stop under way too (superseded). */
int vmp_virt_stop(struct vmp_virt *v, uint64_t pair_id, const struct vmp_virt_stop *how, uint64_t tag);
/*
 * Removes the disk directory (overlays, UEFI variables; anything else there stays and is an error) of a pair whose VM
 * is stopped; -EBUSY while it runs. The pair need not be registered any more (then timeout_ms says nothing).
 */
int vmp_virt_remove(struct vmp_virt *v, uint64_t pair_id, const char *disk_dir, unsigned int timeout_ms, uint64_t tag);
/*
 * Resets the guest in place, and lets a stopped VM run on: the same process, as when the guest reboots. Ended by a stop (-ECANCELED).
 * -EBUSY while another request is under way, -ESRCH when none runs.
 */
int vmp_virt_reset(struct vmp_virt *v, uint64_t pair_id, unsigned int timeout_ms, uint64_t tag);
/* Asks the QEMU guest agent for a sign of life. -EBUSY while it is being asked; a job that hangs keeps it so. */
int vmp_virt_ping(struct vmp_virt *v, uint64_t pair_id, unsigned int timeout_ms);
/* SIGKILL at once through the pidfd: the last means of keeping a VM off. -ESRCH when none runs. */
int vmp_virt_kill(struct vmp_virt *v, uint64_t pair_id);

#endif
