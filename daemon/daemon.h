/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The running daemon: what its parts share. Private to exec.c (core and its actions), member.c (a pair's VM on this node),
 * request.c (control socket), group.c (what the daemons tell each other over CPG) and run.c (start, loop, stop).
 * Everything belongs to the loop's thread.
 */
#ifndef VMP_DAEMON_H
#define VMP_DAEMON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/cluster.h"
#include "daemon/conf.h"
#include "daemon/core/agree.h"
#include "daemon/core/core.h"
#include "daemon/core/fenced.h"
#include "daemon/core/trigger.h"
#include "daemon/ctl.h"
#include "daemon/domxml.h"
#include "daemon/facts.h"
#include "daemon/gate.h"
#include "daemon/hostwatch.h"
#include "daemon/journal.h"
#include "daemon/keys.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/net.h"
#include "daemon/pairparam.h"
#include "daemon/pcmk.h"
#include "daemon/probe.h"
#include "daemon/relay.h"
#include "daemon/rolepage.h"
#include "daemon/slot.h"
#include "daemon/store.h"
#include "daemon/virt.h"
#include "daemon/vrrp.h"

enum {
	VMP_EVENT_QUEUE = 256,  /* events made by actions of the step under way */
	VMP_MAX_OPS = 128,      /* requests waiting for the core */
	VMP_READY_FAILURES = 3, /* failed checks in a row until a ready member counts as not ready */
};

enum vmp_host_phase {
	VMP_HOST_IDLE,     /* no VM here */
	VMP_HOST_PREPARING, /* template being read, then the port being made */
	VMP_HOST_STARTING,
	VMP_HOST_RUNNING,
	VMP_HOST_FAILED,   /* ended by itself; Pacemaker has not called stop yet */
	VMP_HOST_STOPPING,
};

struct vmp_daemon;

/* A readiness check repeated for one address. */
struct vmp_checker {
	struct vmp_probe *probe;
	struct vmp_timer timer;
	struct vmp_daemon *d;
	struct vmp_member *m;
	bool of_peer;
	unsigned failures;
	bool answered; /* at least once since the VM started */
	bool ok;
	uint64_t ok_ns; /* newest good answer */
	char reason[160];
};

/* A member's relay and what it was told last (sync.c). */
struct vmp_sync {
	struct vmp_relay *relay; /* NULL: none runs */
	struct vmp_timer timer;  /* until it is started again */
	unsigned failures;
	uint64_t begun_ns;
	uint16_t port;           /* where its peer comes to; 0: has not said hello */
	enum vmp_relay_role role;
	uint64_t role_epoch;
	uint8_t peer_node;
	uint16_t peer_port;
	uint64_t peer_member;
	char peer_address[VMP_ADDR_STRLEN];
	bool caught;             /* what its word was about caught_node */
	uint8_t caught_node;
	json_t *stats, *takeover; /* newest, or NULL */
	char reason[200];        /* why none runs */
};

/* One trigger of a member. */
struct vmp_sign {
	struct vmp_trg_hyst hyst;
	struct vmp_trg_ring resets;
	uint64_t since_ns, again_ns; /* raised; decided again not before */
	uint64_t last_ns;	     /* newest bad one */
	uint8_t did;		     /* enum vmp_trg_act: the last that was decided since it was raised */
	const char *why;
	char text[160];
};

struct vmp_work; /* signs.c: done by a thread, as it may wait for a disk or a command */

/* What tells that a member, or its host, is not well (signs.c). */
struct vmp_signs {
	struct vmp_sign of[VMP_TRG_COUNT];
	struct vmp_trg_ring failovers;
	bool on;		/* watched: the VM runs */
	bool moving, resetting; /* asked of the core, of libvirt, because of ... */
	uint8_t mover, resetter;
	uint64_t reset_ns, recover_ns; /* when the guest was reset, and has to be well again; 0: it was not, or is */
	uint64_t refused_ns;	/* when the core said last that there is no standby */
	bool paused, paused_told, held; /* held: it shut itself down, and on_shutdown=report */
	uint8_t how;		/* enum vmp_virt_how: why it is paused */
	uint64_t paused_ns;

	int guest_fd; /* channel to vmpair-guest; -1: none */
	bool greeted; /* it is vmpair-guest that was heard, not the agent */
	struct vmp_trg_silence guest;
	uint64_t guest_ns; /* next look */

	struct vmp_probe *probe; /* the health check */
	struct vmp_timer health_timer;
	struct vmp_work *command, *disks;
	bool health_was_ok;
	char health_why[160];
	uint64_t host_serial, load_serial; /* readings of the host that were looked at */
	uint64_t disks_ns; /* next look, or when the one under way has to be done */
};

/* A pair hosted, or once hosted, on this node. */
struct vmp_member {
	struct vmp_daemon *d;
	bool used;
	uint64_t id;
	char name[64];
	char rsc[128];
	json_t *params_json; /* as in the CIB */
	json_t *params_refused; /* the last that a monitor brought and that cannot be taken live */
	struct vmp_pair_params params;
	struct vmp_internal_net internal; /* of the parameters */
	struct vmp_probe_spec ready_spec;
	struct vmp_slot slot;
	struct vmp_domxml *dom;
	struct { /* the guest's end of its entry port */
		bool known, multi_queue;
		uint8_t mac[6];
	} nic;

	enum vmp_host_phase phase;
	uint64_t member;     /* content id (I2); 0 = no VM */
	struct vmp_virt_run run;
	bool port_ready;
	unsigned port_tries; /* to take the port of a running VM over */
	bool port_again;     /* the next one is due */
	bool in_core;        /* PAIR_ADD was fed */
	bool core_running, core_ready; /* last MEMBER fed */
	uint64_t core_member;
	struct vmp_checker own, peer;
	struct vmp_sync sync;
	struct vmp_signs signs;
	struct { /* by migration (copies.c) */
		bool gone, still;	/* its VM left, or may have; it stands still for that */
		uint64_t asked_ns, id, no; /* the newest question to the others; bit per index of nodes: has said no */
		unsigned n_no;
		uint8_t at;		/* who has it; 0: nobody has said so */
	} left;
	bool link_down;
	uint64_t primary_ns; /* since when this member is primary */
	uint8_t peer_node;   /* whose member `peer` checks */
	char fail_reason[160]; /* why the VM ended or did not start; a failed start stays on record until the next one */
	bool start_failed;
	uint64_t failed_ns;
	uint64_t started_ns;

	uint64_t start_token, stop_token; /* requests waiting; 0 = none */
	json_t *monitor;                  /* a monitor whose answer waits for the flip (vmp_member_flip_pending) */
	uint64_t monitor_token, monitor_ns;
	uint64_t handed_ns;               /* since when another node is primary instead of this one; 0 = Pacemaker knows */
	bool stop_handed;                 /* the demote before the stop is done */
	bool retired;                     /* STOPPING by itself (A5), not asked by Pacemaker */
	bool stale;                       /* Pacemaker's records here tell of a member that has retired */
	uint64_t retired_ns;              /* since when Pacemaker is told to keep off this node for that; 0 = it is not */
	bool restarting;                  /* stopped and started again in place (A6), Pacemaker is told that it runs */
	bool stopped_here;                /* restarting: the process is gone, the start waits for the flip */
	bool been_ready;                  /* since its VM was started */
	bool stop_failed;                 /* STOPPING, but nothing is under way: the process would not go */
	uint64_t job;                     /* the newest that prepares a start */

	const char *failed_op;    /* operation that failed in Pacemaker's eyes and is on record there; NULL = none */
	uint32_t failed_interval_ms;
	bool monitor_failed;      /* the newest one, whatever was asked for since */
	enum vmp_told told;
	uint64_t told_changed_ns; /* since when reality differs from what Pacemaker was told; 0 = it does not */
	uint64_t behind_ns;       /* since when the first score waits for the primary's; 0 = it does not */
	bool score_known, score_set;
	uint32_t score;
	bool cib_known, frozen;
	char frozen_reason[96];

	uint64_t close_op;       /* of the ENTRY_CLOSE that waits for the gate */
	uint64_t close_epoch;
	uint64_t open_epoch;     /* epoch the gate was opened for */
	bool gate_open, was_primary;
	uint64_t entry_until_ns; /* stored last */
	struct vmp_vrrp_guard *guard; /* entry mode keepalived */
	char vrrp[16]; /* what keepalived said of its instance last; "" = nothing yet */
	struct vmp_rolepage *role_page; /* what applications on this host read; made by the first opening */
	bool close_again; /* the gate could not confirm a close */
	uint8_t last_role;
	uint8_t last_mode;
	uint64_t log_expiry_ns;
};

enum vmp_op_kind { VMP_OP_PROMOTE, VMP_OP_DEMOTE, VMP_OP_STOP, VMP_OP_SWITCHOVER, VMP_OP_FORCE, VMP_OP_HOLD, VMP_OP_HOLD_ALL, VMP_OP_UNHOLD,
		   VMP_OP_EXIT_HOLD, VMP_OP_VOTERS, VMP_OP_BAR, VMP_OP_TRIGGER };

struct vmp_op {
	uint64_t id; /* 0 = free */
	uint64_t token;
	uint64_t pair;
	enum vmp_op_kind kind;
	uint64_t begun_ns;
	uint8_t node; /* VMP_OP_BAR: who, and whether to bar */
	bool on;
};

enum { VMP_COPIES = 16 };
struct vmp_copy { /* a virtual machine of another node's member, migrated here by hand */
	char pair[64];
	uint8_t node;
	pid_t pid;
};

/* What is known of another node's end (fencing.c). */
struct vmp_fencing_peer {
	uint8_t node;          /* 0 = free */
	struct vmp_sighting seen;
	uint64_t heard_ns;     /* the word that seen.last_s is about */
	bool silent;
	bool asking;
	uint64_t asked_boot;   /* what the answer under way is about */
	uint64_t silent_ns, next_ns;
	uint8_t verdict;       /* enum vmp_fenced_verdict: what the newest look said */
	char trouble[160];     /* "", or why the fencer could not be asked */
	uint64_t proven;       /* boot that is over, told to the core; 0 = none */
	uint64_t proven_ns;
	char proof[320];
	bool fed, lied;
};

struct vmp_why_query; /* group.c */
struct vmp_remote;    /* group.c */

struct vmp_daemon {
	struct vmp_conf conf;
	const char *conf_path; /* as vmp_conf_load() takes it; of the caller of vmp_run() */
	struct vmp_keys keys;
	struct vmp_loop *loop;
	struct vmp_cluster *cluster;
	struct vmp_store *store;
	struct vmp_net *net;
	struct vmp_gate *gate; /* with virt, cluster and pcmk: NULL on a witness */
	struct vmp_virt *virt;
	struct vmp_ctl *ctl;
	struct vmp_pcmk *pcmk;
	struct vmp_journal *journal;
	struct vmp_relays *relays; /* NULL until a relay is wanted */
	struct vmp_hostwatch *host; /* NULL until something of it is wanted */
	struct vmp_vrrp *vrrp; /* NULL: /run cannot take it */
	int binding_fd;
	uint64_t started_ns;

	/* cluster */
	bool corosync_up, quorate, libvirt_up;
	uint8_t node;
	bool as_witness; /* this daemon is the witness */
	uint8_t witness; /* id of the witness, the last of nodes; 0 = none */
	char node_name[64];
	unsigned n_nodes;
	struct vmp_cluster_node nodes[VMP_CLUSTER_MAX_NODES];
	unsigned n_group;
	uint32_t group[VMP_CLUSTER_MAX_NODES];
	enum vmp_pcmk_state pcmk_state;
	struct vmp_cib cib; /* newest seen */
	bool cib_known;
	struct vmp_fencing_peer fencing[VMP_MAX_VOTERS];
	uint64_t fencing_urgent_ns; /* a promote waits until then */

	/* core */
	bool core_up;
	uint64_t boot, inc, next_op, next_job;
	struct vmp_store_voter voter;
	struct vmp_core core;
	struct vmp_out out;
	struct vmp_event *queue; /* VMP_EVENT_QUEUE */
	unsigned q_head, q_count;
	bool stepping;
	struct vmp_timer core_timer, adapter_timer, slow_timer;
	struct vmp_op ops[VMP_MAX_OPS];
	struct { /* hold of all pairs at once: answered when the last one has been */
		uint64_t token;	/* 0: none under way */
		unsigned left, held;
		uint64_t end_ns; /* of the first one to end */
		char failed[160];
	} hold_all;
	bool complete_stored;

	struct vmp_member members[VMP_GATE_MAX_PORTS];
	struct vmp_unadopted {
		char pair[64], reason[200];
		struct vmp_virt_run run; /* pid 0: none */
	} unadopted[8]; /* VMs of an earlier daemon that could not be taken over; told by status until they end */
	unsigned n_copies;
	struct vmp_copy copies[VMP_COPIES];
	uint64_t copies_ns; /* next look */
	struct vmp_remote *remotes;
	struct vmp_why_query *why;
	struct vmp_timer publish_timer;
	uint64_t last_publish_ns;
	bool publish_due;

	/* exit */
	bool exiting;
	unsigned exit_holds;
	struct vmp_timer exit_timer;

	struct vmp_ratelimit limit_persist, limit_gate, limit_late, limit_slow;
	uint64_t core_due_ns;
};

/* --- exec.c --- */
int vmp_exec_start(struct vmp_daemon *d);
void vmp_exec_feed(struct vmp_daemon *d, struct vmp_event *ev); /* now_ns is filled in */
void vmp_exec_rearm(struct vmp_daemon *d);
/* Feed an operation of the core; its OP_DONE answers `token`. */
void vmp_exec_op(struct vmp_daemon *d, enum vmp_op_kind kind, uint64_t token, struct vmp_event *ev);
/* Try a close again that could not be confirmed. */
void vmp_exec_close_again(struct vmp_member *m);
void vmp_exec_gate_event(void *user, const struct vmp_gate_event *ev);
const char *vmp_node_name(const struct vmp_daemon *d, unsigned node);

/* --- copies.c --- */
void vmp_copies_slow(struct vmp_daemon *d);
void vmp_copies_left(struct vmp_member *m); /* its VM ended, and was being migrated: the others are asked for it */
bool vmp_copies_forbid(const struct vmp_member *m, char *reason, size_t size); /* a start would, or might, make a second copy (A7) */
void vmp_copies_asked(struct vmp_daemon *d, unsigned from, const json_t *o); /* messages of the other daemons */
void vmp_copies_told(struct vmp_daemon *d, unsigned from, const json_t *o);
json_t *vmp_copies_state(const struct vmp_daemon *d);  /* for the others; NULL: none */
json_t *vmp_copies_text(const struct vmp_member *m);   /* what is to be known of a migration; NULL: nothing */
void vmp_copies_status(const struct vmp_daemon *d, const char *pair, json_t *problems);

/* --- member.c --- */
struct vmp_member *vmp_member_by_name(struct vmp_daemon *d, const char *name);
struct vmp_member *vmp_member_by_id(struct vmp_daemon *d, uint64_t id);
struct vmp_member *vmp_member_new(struct vmp_daemon *d, const char *name);
void vmp_member_forget(struct vmp_member *m);
int vmp_member_configure(struct vmp_member *m, const json_t *params, const char *rsc, char *reason, size_t size);
int vmp_member_reconfigure(struct vmp_member *m, const json_t *params, char *reason, size_t size);
void vmp_member_start(struct vmp_member *m, uint64_t token);
void vmp_member_stop(struct vmp_member *m, uint64_t token);
/* Stops are answered when the member's score is gone, or cannot be removed. */
void vmp_member_score_done(struct vmp_member *m, bool set, int rc);
void vmp_member_pcmk_absent(struct vmp_daemon *d);
void vmp_member_stop_now(struct vmp_member *m); /* the entry is closed: end the VM */
void vmp_member_end(struct vmp_member *m, const char *why); /* not asked for by Pacemaker, which starts another: as if it had ended by itself */
bool vmp_member_ready(const struct vmp_member *m);
const char *vmp_member_bridge(const struct vmp_member *m); /* that leads to the internal addresses; NULL: the routes know */
void vmp_member_adopt_all(struct vmp_daemon *d);
/* A register for this pair is there, or can still be had: those of deleted pairs are never freed. */
bool vmp_member_has_register(const struct vmp_daemon *d, uint64_t id);
void vmp_member_to_core(struct vmp_member *m);
uint64_t vmp_member_new_id(void);
/* The member's content was lost (0), or is another one from now on (I2). */
void vmp_member_content(struct vmp_member *m, uint64_t id);
void vmp_member_core_started(struct vmp_daemon *d);
void vmp_member_changed(struct vmp_member *m); /* role, readiness or parameters changed: facts, score, status */
void vmp_member_port_event(struct vmp_member *m, const struct vmp_gate_event *ev);
void vmp_member_virt_events(struct vmp_daemon *d);
void vmp_member_cib(struct vmp_daemon *d, const struct vmp_cib *cib);
void vmp_member_slow(struct vmp_daemon *d);
void vmp_member_entry_stored(struct vmp_member *m); /* open, closed, or open again after a lapse */
void vmp_member_merged(struct vmp_daemon *d); /* corosync's membership is one again, or a member here has ended */
void vmp_member_vrrp(void *daemon, const char *instance, const char *state);
void vmp_member_end_all(struct vmp_daemon *d); /* this node is fenced: no VM may be left */
bool vmp_member_view(const struct vmp_member *m, struct vmp_pair_view *ret);
bool vmp_member_primary(const struct vmp_member *m);
/* Ready, nobody holds the pair, and yet it may not be promoted: the members on record may have been ahead of it. */
bool vmp_member_left_out(const struct vmp_member *m, const struct vmp_pair_view *v);
/*
 * The pair has just gone to another node and Pacemaker has not promoted that one yet. Until it has (5 s at most) nothing is told
 * that would make Pacemaker abort "demote old; promote new": a stop and start of the old member would come before the promote.
 */
bool vmp_member_flip_pending(struct vmp_member *m);

/* --- sync.c: a member's relay --- */
bool vmp_sync_wanted(const struct vmp_member *m);
/* Before the VM starts: what a relay in it finds at its start. */
int vmp_sync_prepare(struct vmp_member *m, char *reason, size_t size);
void vmp_sync_guest_paths(const struct vmp_member *m, char *channel, size_t channel_size, char *keys, size_t keys_size);
bool vmp_sync_ready(const struct vmp_member *m); /* none is wanted, or it runs */
void vmp_sync_start(struct vmp_member *m);       /* the VM runs */
void vmp_sync_stop(struct vmp_member *m);
void vmp_sync_forget(struct vmp_member *m);
/* The very relay that a former daemon left: the member's content is what it was. False: it is gone, start another. */
bool vmp_sync_adopt(struct vmp_member *m, const struct vmp_facts *f);
void vmp_sync_fence(struct vmp_member *m, uint64_t epoch);
void vmp_sync_mode(struct vmp_member *m, const struct vmp_action *a);
void vmp_sync_update(struct vmp_member *m);      /* role and peer, if they changed */
void vmp_sync_update_all(struct vmp_daemon *d);
void vmp_sync_reconfigure(struct vmp_member *m);
void vmp_sync_end_others(struct vmp_daemon *d);  /* relays of pairs that are not known here any more */
void vmp_sync_rekey(struct vmp_daemon *d);
json_t *vmp_sync_state(const struct vmp_member *m); /* NULL: no relay is wanted */

/* --- bars.c: fencing by refusing leases --- */
void vmp_bars_note(struct vmp_daemon *d, const struct vmp_action *a);
bool vmp_bars_self(const struct vmp_daemon *d, char *reason, size_t size); /* this node is fenced */
json_t *vmp_bars_status(const struct vmp_daemon *d, uint8_t node); /* null, or from which node and for whom it was fenced */
void vmp_bars_problems(const struct vmp_daemon *d, json_t *problems);
/* Pacemaker is not to try starts of that pair here, one after the other, each of which shifts the pair's instances among the other nodes. */
void vmp_bars_keep_off(struct vmp_daemon *d, const char *pair, const char *rsc, bool on);
void vmp_bars_self_fenced(struct vmp_daemon *d); /* what else is to be done then than to end the members */
void vmp_bars_request(struct vmp_daemon *d, uint64_t token, const json_t *msg);
void vmp_bars_op_done(struct vmp_daemon *d, const struct vmp_op *op, int rc, unsigned reason);

/* --- fencing.c: what Pacemaker's fencing proves (R3), where guards have no end --- */
void vmp_fencing_load(struct vmp_daemon *d); /* what this boot's earlier daemon knew */
void vmp_fencing_heard(struct vmp_daemon *d, uint8_t node, uint64_t boot); /* before the core hears it */
void vmp_fencing_slow(struct vmp_daemon *d);
void vmp_fencing_urgent(struct vmp_daemon *d, uint64_t until_ns); /* a promote waits */
void vmp_fencing_history(void *daemon, const char *node, int64_t asked_s, const struct vmp_pcmk_history *history, int rc, const char *reason);
const char *vmp_fencing_none(const struct vmp_daemon *d); /* NULL, or why no node is ever fenced here */
/* Why a node that holds a pair is not known to be gone; NULL when it is heard, known to be gone, or its guards end by themselves. */
const char *vmp_fencing_why_not(const struct vmp_daemon *d, uint8_t node, char *buf, size_t size);
void vmp_fencing_problems(const struct vmp_daemon *d, const struct vmp_node_view *nv, json_t *problems);

/* --- signs.c: triggers --- */
void vmp_signs_init(struct vmp_member *m);
void vmp_signs_start(struct vmp_member *m); /* the VM runs */
void vmp_signs_stop(struct vmp_member *m);
void vmp_signs_reconfigure(struct vmp_member *m);
void vmp_signs_virt(struct vmp_member *m, const struct vmp_virt_event *ev);
void vmp_signs_slow(struct vmp_member *m);
void vmp_signs_moved(struct vmp_member *m, int rc, const char *reason); /* the core's answer to VMP_OP_TRIGGER */
/* The guest has powered itself off: true when nothing is to follow from it (on_shutdown=report). */
bool vmp_signs_shutdown(struct vmp_member *m);
void vmp_signs_channel(const struct vmp_daemon *d, const char *pair, char *path, size_t size);
int vmp_signs_prepare(struct vmp_daemon *d, char *reason, size_t size); /* before a VM starts: where its channel is made */
json_t *vmp_signs_state(const struct vmp_member *m); /* NULL: nothing to tell */
void vmp_signs_status(const char *node, const char *pair, const json_t *signs, json_t *problems);

/* --- request.c --- */
void vmp_request_handle(void *data, uint64_t token, const char *cmd, json_t *msg);
void vmp_request_cancelled(void *data, uint64_t token, int rc);
void vmp_request_switchover(struct vmp_daemon *d, uint64_t token, const char *pair);
/* Answer a monitor that waited. */
void vmp_request_monitor(struct vmp_daemon *d, uint64_t token, struct vmp_member *m, json_t *msg);
void vmp_request_op_done(struct vmp_daemon *d, const struct vmp_op *op, int rc, unsigned reason);

/* --- group.c --- */
int vmp_group_new(struct vmp_daemon *d);
void vmp_group_free(struct vmp_daemon *d);
void vmp_group_cluster_event(struct vmp_daemon *d);
/* A message of the group: any bytes of any node. */
void vmp_group_message(struct vmp_daemon *d, unsigned from, const char *text, size_t len);
void vmp_group_publish_soon(struct vmp_daemon *d);
void vmp_group_send(struct vmp_daemon *d, json_t *o); /* to all daemons; takes o */
/* NULL, or the state a node published last; of this node, what it was when first asked for in this round of the loop. Borrowed:
 * valid until the next message of that node, or the end of the round. */
const json_t *vmp_group_state(const struct vmp_daemon *d, unsigned node);
void vmp_group_own_stale(struct vmp_daemon *d); /* a round of the loop is over */
const json_t *vmp_group_pair(const struct vmp_daemon *d, unsigned node, const char *pair);
json_t *vmp_group_own_pair(const struct vmp_member *m);
void vmp_group_why(struct vmp_daemon *d, uint64_t token, const char *pair);
void vmp_group_key_rotate(struct vmp_daemon *d, uint64_t token);
/* Have the daemon of the pair's primary do it; its answer goes to `token`. */
/* Node that says to be primary of it, 0: none. Of several the one with the newest epoch: a daemon that is frozen says for long what it said last. */
unsigned vmp_group_primary(struct vmp_daemon *d, const char *pair);
void vmp_group_forward(struct vmp_daemon *d, uint64_t token, const char *cmd, const char *pair);
/* Answer a request that came from this node's socket or, passed on, from another node. Steals extra. */
void vmp_group_answer(struct vmp_daemon *d, uint64_t token, int rc, const char *reason, json_t *extra);
bool vmp_group_has(const struct vmp_daemon *d, unsigned node);

/* --- run.c --- */
struct vmp_run_opts {
	const char *conf_path; /* NULL: the usual file, which may be missing */
	bool foreground; /* log to stderr in plain form */
	bool witness;    /* a voter only: witness.h */
};
/* Corosync, or a witness's configuration, told who we are: build what needs it. */
void vmp_run_identified(struct vmp_daemon *d);
/* Tells systemd in what state the daemon is. */
void vmp_run_status(const struct vmp_daemon *d);
/* Runs the daemon; returns the process's exit status. */
int vmp_run(const struct vmp_run_opts *opts);

#endif
