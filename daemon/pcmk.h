/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pacemaker, as far as the daemon talks to it: promotion scores and bans are written by attrd_updater, failures that are over cleaned by
 * crm_resource, the fencer's history is asked for by stonith_admin, in short-lived processes; the CIB's file is watched for what decides whether a pair is managed. Nothing here blocks the loop: processes are
 * started and awaited, and the CIB is read and parsed, in short-lived threads of ordinary priority, whose results come back through an
 * eventfd.
 *
 * Scores: per pair one process at a time (four in all), in the order in which values were set; of several values waiting for the same node the newest wins.
 * A process that exceeds the deadline is killed. After a failure the value is tried again with a growing delay (0.5 to 30 s) until written or
 * replaced; Pacemaker being absent is reported once by the state callback, not per attempt. Values that were written are not written
 * again until vmp_pcmk_rewrite, the return of an absent Pacemaker, or the periodic refresh (attrd ignores an unchanged value).
 *
 * The attribute of a pair is "master-" + resource id, transient, without dampening.
 */
#ifndef VMP_PCMK_H
#define VMP_PCMK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/fenced.h"
#include "internal/loopops.h"

#define VMP_PCMK_MAX_PAIRS	64
#define VMP_CIB_MAX_NODES	64	/* width of vmp_cib_pair.banned */
#define VMP_PCMK_MAX_NODES	8	/* values waiting per pair */

enum vmp_pcmk_state { VMP_PCMK_UNKNOWN, VMP_PCMK_UP, VMP_PCMK_ABSENT };

/* A pair as the CIB has it. */
struct vmp_cib_pair {
	char pair[64];
	char rsc[128];			/* primitive's id: what OCF_RESOURCE_INSTANCE and the score attribute use */
	char clone[128];		/* id of the clone around it, or "" */
	bool managed;			/* is-managed of primitive, group, clone, defaults */
	bool maintenance;		/* maintenance-mode of the cluster, of the node, or of the resource */
	bool enabled;			/* target-role is not Stopped */
	bool frozen;			/* !managed or maintenance: the fast path does nothing by itself */
	char frozen_reason[96];
	uint64_t banned;		/* bit per index of nodes: a location constraint keeps the pair off that node */
};

struct vmp_cib_node {
	char name[64];
	bool standby;
};

struct vmp_cib {
	uint64_t admin_epoch, epoch, num_updates;
	bool stonith_enabled;
	bool maintenance_mode;		/* whole cluster */
	unsigned n_power, n_cut;	/* fence devices that are enabled: fence_vmpair (cut), and all others (sbd's watchdog is one) */
	char power[128];		/* names of the others, for people; "..." where there are more */
	unsigned n_nodes;
	struct vmp_cib_node nodes[VMP_CIB_MAX_NODES];
	unsigned n_pairs;
	struct vmp_cib_pair pairs[VMP_PCMK_MAX_PAIRS];
	unsigned n_skipped;		/* pairs beyond the limit, or without a usable name */
};

/* Pure: the CIB's text (without status section, as on disk) seen by node `node`. 0, -EBADMSG with a reason. */
int vmp_cib_parse(const char *xml, size_t len, const char *node, struct vmp_cib *ret, char *reason, size_t reason_size);

/* One operation of the fencer against a node. */
struct vmp_pcmk_fence {
	struct vmp_fence f;
	char action[16], client[64], delegate[64];	/* delegate: the node that executed it; "" while pending */
};

#define VMP_PCMK_MAX_FENCES 32

struct vmp_pcmk_history {
	unsigned n;			/* the newest, in any order */
	struct vmp_pcmk_fence list[VMP_PCMK_MAX_FENCES];
};

/*
 * Pure: what "stonith_admin --history NODE --verbose --output-as=xml" printed, warnings before or behind it passed over. Only operations
 * against `node`. 0, -ENOTCONN with what the fencer or the tool says, -EBADMSG with a reason. Without --verbose 2.1.5 prints the newest success only.
 */
int vmp_fencing_parse(const char *text, size_t len, const char *node, struct vmp_pcmk_history *ret, char *reason, size_t reason_size);

struct vmp_pcmk;

struct vmp_pcmk_params {
	const struct vmp_loop_ops *ops;	/* copied */
	const char *node;		/* own node name */
	const char *attrd_updater;	/* NULL = /usr/sbin/attrd_updater */
	const char *crm_resource;	/* NULL = /usr/sbin/crm_resource */
	const char *stonith_admin;	/* NULL = /usr/sbin/stonith_admin */
	const char *cibadmin;		/* NULL = /usr/sbin/cibadmin */
	const char *cib_dir;		/* NULL = /var/lib/pacemaker/cib; may come into being later */
	uint32_t deadline_ms;		/* 0 = 5000, per process */
	uint32_t refresh_ms;		/* 0 = 300000 */
	void *data;
	void (*state)(void *data, enum vmp_pcmk_state state, const char *reason);	/* on change only */
	/* A value is written (rc 0) or could not be written at this attempt (rc -errno); took_ms = age of the request. */
	void (*score_done)(void *data, const char *pair, const char *node, bool set, uint32_t score, int rc, uint32_t took_ms);
	void (*ban_done)(void *data, const char *pair, bool on, int rc, const char *reason);	/* rc 0, or -errno with a reason */
	/* count: failures that the fail count tells from now on */
	void (*clean_done)(void *data, const char *pair, uint32_t count, int rc, const char *reason);
	void (*count_done)(void *data, const char *pair, int rc, const char *reason);
	void (*unpend_done)(void *data, const char *pair, int rc, const char *reason);
	void (*refresh_done)(void *data, const char *pair, int rc, const char *reason);
	void (*unfencing_done)(void *data, int rc, const char *reason);
	/* asked_s: wall clock just before the fencer was asked. rc -errno with a reason: history is empty and means nothing */
	void (*fencing)(void *data, const char *node, int64_t asked_s, const struct vmp_pcmk_history *history, int rc, const char *reason);
	void (*cib)(void *data, const struct vmp_cib *cib);				/* content changed; valid during the call */
	void (*cib_error)(void *data, const char *reason);
};

int vmp_pcmk_new(struct vmp_pcmk **ret, const struct vmp_pcmk_params *params, char *reason, size_t reason_size);
/* Waits for nothing: a helper that runs is left to end within its deadline. NULL is fine; returns NULL. */
struct vmp_pcmk *vmp_pcmk_free(struct vmp_pcmk *p);

/* Wanted score of a node (NULL = own) for the pair; set false deletes the attribute. 0, -EINVAL, -ENOSPC. */
int vmp_pcmk_score(struct vmp_pcmk *p, const char *pair, const char *rsc, const char *node, bool set, uint32_t score);
/* The own node's score is on its way: score_done follows. Not while Pacemaker does not answer. */
bool vmp_pcmk_pending(struct vmp_pcmk *p, const char *pair);
/* The attribute may have been lost (start or probe came, Pacemaker or the membership changed): write again; pair NULL = all. */
void vmp_pcmk_rewrite(struct vmp_pcmk *p, const char *pair);
/* The pair is gone here: deletes the own attribute and forgets the pair. */
void vmp_pcmk_forget(struct vmp_pcmk *p, const char *pair);
/*
 * Keeps the resource off this node, by a fail count of INFINITY, or takes that back. Pacemaker then stops its instance here, not as failed,
 * and starts none. Transient attributes only: unlike crm_resource --ban or --refresh it leaves the CIB's configuration alone, by a change of
 * which the CIB of a partition without quorum could win over that of the others when they merge. No effect where migration-threshold is 0.
 * Tried once; ban_done tells. 0, -EINVAL, -errno.
 */
int vmp_pcmk_ban(struct vmp_pcmk *p, const char *pair, const char *rsc, bool on);
/*
 * The resource has recovered on this node from a failed operation: takes its record out of Pacemaker's history (crm_resource --cleanup, for this
 * operation), but keeps the number of failures, as fail count of an "operation" named recovered, so that migration-threshold and
 * failure-timeout go on as usual. Left in, the failure would come back to life: for the scheduler (2.1.5, update_resource_state) a demote
 * that has succeeded does not clear an earlier failed monitor, and it would stop and start the member, be it the primary, when a transition
 * is planned anew between demote and the next monitor, or between that monitor's end and promote.
 * Taking the one record out of the CIB is not enough: the node's own Pacemaker keeps it and sends it again when a new DC asks. The price: the
 * member is found by a probe afterwards, and Pacemaker restarts it, instead of reloading, for the next change of its parameters.
 * Tried once; clean_done tells. 0, -EINVAL, -errno.
 */
int vmp_pcmk_clean(struct vmp_pcmk *p, const char *pair, const char *rsc, const char *op, uint32_t interval_ms);
/* One failure more on this node that Pacemaker has not seen, because it was mended in place; counted as above. Tried once; count_done tells. */
int vmp_pcmk_count(struct vmp_pcmk *p, const char *pair, const char *rsc);
/*
 * The resource was stopped on this node after a monitor of it had failed, and is about to be whole on others: takes monitors "under way" here
 * out of the CIB's status. When a recurring monitor fails at once, in its first run after a demote, Pacemaker (2.1.5) keeps the failure in a
 * record of its own, and the record of a monitor under way beside it. By that the scheduler keeps the instance for this node (find_anonymous_clone): well as long as it starts
 * it here again, but with two members elsewhere it counts three, stops the surplus one, be it the primary, and starts it anew, over and over
 * until failure-timeout. After a stop no recurring monitor can be under way. Status only: no change of the configuration, and none at all
 * where there is no such record; the node's own Pacemaker does not keep it either, so it does not come back. Tried once; unpend_done tells.
 * 0, -EINVAL, -errno.
 */
int vmp_pcmk_unpend(struct vmp_pcmk *p, const char *pair, const char *rsc);
/*
 * Nothing runs here any more, though Pacemaker's own records of this node still say so (A5): it forgets them, failures too, and looks. Writes
 * into the configuration ("last-lrm-refresh"), so only in a partition with quorum. Tried once; refresh_done tells. 0, -EINVAL, -errno.
 */
int vmp_pcmk_refresh(struct vmp_pcmk *p, const char *pair, const char *rsc);
/*
 * This node was fenced without having been ended, and is back: has Pacemaker unfence it, as it does with a node that has booted. It would not
 * by itself, since the node's attribute manager brings the mark of the earlier unfencing ("#node-unfenced") back into the cluster.
 * Tried once; unfencing_done tells. 0 or -errno.
 */
int vmp_pcmk_unfencing(struct vmp_pcmk *p);
/* What this node's fencer remembers of a node. Tried once; fencing tells. 0, -EINVAL, -errno. */
int vmp_pcmk_fencing(struct vmp_pcmk *p, const char *node);
enum vmp_pcmk_state vmp_pcmk_get_state(const struct vmp_pcmk *p);

uint64_t vmp_pcmk_deadline_ns(const struct vmp_pcmk *p);
void vmp_pcmk_tick(struct vmp_pcmk *p, uint64_t now_ns);

#endif
