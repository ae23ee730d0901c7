/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The threads below virt.c: the only callers of libvirt. One keeps the connection, one runs libvirt's event loop, and
 * each job has a thread of its own for as long as it lasts, so that a call that hangs holds up nothing but itself.
 *
 * Everything they have to say is put into one inbox, a queue with an eventfd, and taken by the owner. The set is
 * reference counted: a thread that hangs in libvirt keeps what it uses, and nobody waits for it.
 */
#ifndef VMP_VIRTCALL_H
#define VMP_VIRTCALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/virt.h"

enum vmp_vc_job_kind {
	VMP_VC_START,	 /* overlays, domain, process */
	VMP_VC_SHUTDOWN, /* the power button */
	VMP_VC_DESTROY,
	VMP_VC_FIND,   /* look for the process among all: no libvirt */
	VMP_VC_REMOVE, /* the disk directory: no libvirt */
	VMP_VC_RESET,
	VMP_VC_PING, /* the guest agent */
};

struct vmp_vc_job {
	enum vmp_vc_job_kind kind;
	uint64_t pair_id, id;
	char name[64], uuid[37];
	uint64_t deadline_ns; /* after it nothing new is begun */
	uint64_t tag;	      /* of a detached one */
	bool detached;	      /* no pair keeps track of it: its result is told as it comes */
	char *xml, *disk_dir;
	unsigned int n_disks;
	struct vmp_domxml_disk disk[VMP_DOMXML_DISKS];
	atomic_bool cancelled;
	atomic_uint refs;
};

enum vmp_vc_msg_type {
	VMP_VC_DONE,	  /* of a job: rc, reason; START and FIND with the process */
	VMP_VC_CONNECTED, /* with the domains that are active */
	VMP_VC_LOST,
	VMP_VC_LIFECYCLE, /* event and detail of libvirt */
	VMP_VC_REBOOT,
	VMP_VC_WATCHDOG,
	VMP_VC_IO_ERROR, /* reason: disk and error */
};

#define VMP_VC_UUID_LEN 37

struct vmp_vc_active {
	char uuid[VMP_VC_UUID_LEN];
	int state, reason; /* virDomainState, and what that has as reasons; -1 = not known */
};

struct vmp_vc_msg {
	struct vmp_vc_msg *next;
	enum vmp_vc_msg_type type;
	uint64_t at_ns;
	enum vmp_vc_job_kind kind; /* DONE */
	uint64_t pair_id, job_id, tag;
	bool detached;
	int rc;
	pid_t pid;
	uint64_t start_ticks;
	int pidfd;  /* -1 = none; belongs to the message */
	int dom_id; /* of libvirt; -1 = unknown */
	int event, detail;
	char uuid[VMP_VC_UUID_LEN];
	char reason[VMP_VIRT_REASON];
	unsigned int n_active;
	struct vmp_vc_active *active;
};

struct vmp_vc;

int vmp_vc_new(struct vmp_vc **ret_, const struct vmp_virt_opts *opts, char *reason, size_t reason_size);
/* Ends the threads, waits for them for at most wait_ms, gives the reference up. */
void vmp_vc_stop(struct vmp_vc *vc, unsigned int wait_ms);
int vmp_vc_fd(const struct vmp_vc *vc);
/* The oldest message, or NULL. */
struct vmp_vc_msg *vmp_vc_take(struct vmp_vc *vc);
void vmp_vc_msg_free(struct vmp_vc_msg *m);

struct vmp_vc_job *vmp_vc_job_new(enum vmp_vc_job_kind kind, uint64_t pair_id, const char *name, const char *uuid);
void vmp_vc_job_unref(struct vmp_vc_job *job);
/* Starts the job's thread, which holds a reference of its own. Exactly one DONE follows (unless the call hangs for
 * ever). */
int vmp_vc_submit(struct vmp_vc *vc, struct vmp_vc_job *job);
/* Nothing new is begun for it; a call under way is not interrupted. */
void vmp_vc_cancel(struct vmp_vc *vc, struct vmp_vc_job *job);

uint64_t vmp_vc_now_ns(void); /* CLOCK_BOOTTIME */

#endif
