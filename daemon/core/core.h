/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pure core: leases, claims, registers and in-sync bookkeeping of all pairs of one node. The rules are those of
 * doc/protocol.md; their numbers (V1, C3, H6 ...) stand in the code beside what implements them.
 *
 * Purpose   vmp_core_step() takes one event and gives back an ordered list of actions. Nothing else has an effect.
 * Units     every time is CLOCK_BOOTTIME of this node in nanoseconds (_ns); parameters in milliseconds say _ms.
 * Ownership fixed-size values only, no pointers in any of these structures; the caller provides all memory.
 * Errors    negative errno. Ill-formed input changes nothing and gives -EINVAL; the step is total otherwise.
 * Threads   none; a struct vmp_core belongs to one thread at a time.
 *
 * Duties of the runtime
 *  - ev->now_ns is read after the event was taken from its source (V1), and never goes back between steps;
 *  - actions are done strictly in order. VMP_ACT_PERSIST comes before the sends and stores it covers: when writing fails, drop the
 *    rest of the list, but for what vmp_action_stands() keeps, and feed VMP_EV_PERSIST_FAILED at once, before any other event;
 *  - a VMP_ACT_SEND addressed to the own node (or to all voters, which includes it) comes back as an ordinary VMP_EV_MSG;
 *  - VMP_EV_TICK is fed at or after vmp_core_deadline(); feeding it earlier or more often is harmless;
 *  - the /run file is marked complete once vmp_core_run_complete() says so after a step's actions were done. Only a file so marked may
 *    be used for VMP_START_SAME_BOOT; a daemon that dies while it abstains starts again with VMP_START_NEW (X1, X2);
 *  - ENTRY_CLOSE, RELAY_FENCE are answered by CLOSED, RELAY_READY carrying the same epoch (and op);
 *  - an ENTRY_OPEN or ENTRY_REFRESH that is refused is made up for by the next one; see vmp_action_lapses() for the rest of the list;
 *  - a failed VMP_ACT_PERSIST_CONFIG is a VMP_EV_PERSIST_FAILED with pair 0;
 *  - a SEND may name a node that is not a voter (yet, or any more); messages from such nodes are fed as well.
 *
 * Changing the voter set (section 12): VMP_EV_VOTERS on a node that stays a voter, with node, on (add, else remove), op, deadline_ns and,
 * to add, member = the new node's voter id, or 0 for the one that node told when it asked this node for its configuration (a daemon
 * without a configuration asks the nodes of its wish list; so list the voters there). OP_DONE: 0 done, settled, the next change may come;
 * -EINPROGRESS proposed, but not everybody needed has answered before the deadline: it is driven on, and finished by any voter if this
 * node fails; -ETIMEDOUT nothing was changed: not all voters are up and not abstaining, or no majority (reason); -EBUSY another change
 * runs here, or the node to remove is primary of a pair (reason held-elsewhere); -EHOSTUNREACH the node to add was never heard;
 * -EEXIST its node id is a voter with another voter id: remove that one first; -EINVAL a node cannot remove itself; -ENOSPC set full.
 * A node that is not heard may be removed when all others are up; from three voters to two needs both that stay (T3).
 * Progress: vmp_core_node_view(). The version of a configuration is the proposer's epoch of VMP_PAIR_VOTERS, 1 for the first.
 *
 * Barring a node (our extension of the protocol, rules B1 to B6 in bar.c): VMP_EV_BAR with node, on (bar, else lift), op, deadline_ns and
 * member = enum vmp_bar_by. OP_DONE 0: a majority has recorded it, and to bar: every lease of that node is over, and it gets none and opens
 * no entry until the bar is lifted; -ETIMEDOUT: not reached before the deadline, the outcome is open (reason: no-majority, or guard-not-clear
 * with fewer than three voters, where leases have no end); -ECANCELED: the opposite was asked for here; -EBUSY too many at once;
 * -ENOSPC no register is left. VMP_ACT_END_MEMBERS: this node is barred, or was: end all its VMs at once and
 * without asking anybody, and start none while vmp_core_barred().
 */
#ifndef VMP_CORE_H
#define VMP_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_MAX_PAIRS 64	/* registers per cluster, hosted here or not; the reserved one of the voter set included */
#define VMP_MAX_VOTERS 8
#define VMP_MAX_ACTIONS 512
#define VMP_MAX_MSGS 128
#define VMP_TABLE_REGS 16		/* registers in one TABLE, COLD, CONFIG_OK or ACK */
#define VMP_HB_STATES 4	/* states in one HEARTBEAT */
#define VMP_ACK_REGS 8		/* registers of unsupported pairs in one ACK */
#define VMP_SEND_RING 64	/* heartbeats whose send time is remembered */
#define VMP_PAIR_VOTERS 1	/* M1: the reserved pair whose holder may change the voter set */
#define VMP_PAIR_BAR(node) (0xffffffffffffff00ull + (node))	/* the register that says whether a node is barred */
#define VMP_BAR_REQS 4		/* requests that may wait for one bar */

#define VMP_NEVER UINT64_MAX

/* I3: epoch = counter * 256 + node */
static inline uint8_t vmp_epoch_node(uint64_t epoch)
{
	return (uint8_t)epoch;
}

static inline bool vmp_pair_is_bar(uint64_t id)
{
	return id > VMP_PAIR_BAR(0);
}

static inline uint8_t vmp_pair_bar_node(uint64_t id)
{
	return (uint8_t)id;
}

/* Not of a pair that somebody named. */
static inline bool vmp_pair_reserved(uint64_t id)
{
	return id <= VMP_PAIR_VOTERS || id >= VMP_PAIR_BAR(0);
}

static inline uint64_t vmp_epoch_counter(uint64_t epoch)
{
	return epoch >> 8;
}

/* --- names: one list each, expanded into enums here and into texts in core_str.c --------------------------------- */
#define VMP_ROLES(X) X(NONE, "none") X(ESTABLISHING, "establishing") X(HOLDING, "holding") X(CLOSING, "closing")
#define VMP_MODES(X) X(WAIT, "wait") X(ALONE, "alone") X(SYNC, "sync")
#define VMP_PEER_LINKS(X) X(KEEP, "keep") X(FAILOVER, "failover")

/* Why the role of a pair changed, or is sought. */
#define VMP_CAUSES(X) \
	X(NONE, "none") X(PROMOTE, "promote") X(DEMOTE, "demote") X(SWITCHOVER, "switchover") X(FORCE, "force") \
	X(VM_EXIT, "vm-exit") X(NODE_LOST, "node-lost") X(TAKEOVER, "takeover") X(PEER_LINK, "peer-link") X(REMOVED, "removed") \
	X(HIGHER_STATE, "higher-state") X(RECLAIM, "reclaim") X(RESUME, "resume") X(ATTEMPT_FAILED, "attempt-failed") \
	X(PERSIST_FAILED, "persist-failed") X(CLOCK_JUMP, "clock-jump") X(RETURN, "return") X(VOTERS, "voters") \
	X(BARRED, "barred") X(TRIGGER, "trigger")

/* Why something was refused or is not being done; texts for people come from vmp_reason_text(). */
#define VMP_REASONS(X) \
	X(NONE, "ok") X(ABSTAINING, "voter-abstaining") X(CONFIG_VERSION, "configuration-version") \
	X(EPOCH_LOW, "epoch-not-higher") X(GUARD, "guard-not-clear") X(NOT_ELIGIBLE, "member-not-in-sync") \
	X(RELEASED, "epoch-released") X(LEARNED, "promise-learned") X(STATE_LOW, "state-not-newer") \
	X(NO_PAIR, "unknown-pair") X(NO_MEMBER, "no-ready-member") X(NO_STANDBY, "no-in-sync-standby") X(FROZEN, "frozen") \
	X(NOT_HOLDER, "not-holder") X(BUSY, "busy") X(MEMBER_ALIVE, "recorded-member-may-be-alive") X(NO_MAJORITY, "no-majority") \
	X(TIMEOUT, "time-limit") X(SUPERSEDED, "superseded") X(TABLE_FULL, "table-full") X(NO_QUORUM_CONFIG, "no-configuration") \
	X(PERSIST, "cannot-write") X(HELD_ELSEWHERE, "held-elsewhere") X(LEASE, "no-lease") X(VOTERS, "voter-set-rule") \
	X(BARRED, "node-barred") X(NOT_FENCED, "not-fenced") X(NOT_LOST, "not-lost")

/* Points of the time line that `vmpair why` shows; a, b, c as noted. */
#define VMP_NOTES(X) \
	X(DETECTED, "detected")		/* a = cause, b = node concerned */ \
	X(CLAIM_SENT, "claim-sent")	/* a = epoch, b = cause, c = 1 when forced */ \
	X(PROBE_SENT, "probe-sent")	/* a = cause */ \
	X(GRANTED, "granted")		/* a = epoch, b = voter's node */ \
	X(REFUSED, "refused")		/* a = epoch, b = voter's node, c = reason */ \
	X(GAVE_UP, "gave-up")		/* a = epoch, c = reason */ \
	X(ESTABLISHED, "established")	/* a = epoch, b = seq */ \
	X(BOUND, "bound")		/* a = epoch, b = expiry */ \
	X(UNBOUND, "unbound")		/* a = epoch */ \
	X(LAPSED, "lapsed")		/* a = epoch: lease over, no higher state known */ \
	X(RELEASED, "released")		/* a = epoch, b = node it is handed to or 0, c = cause */ \
	X(DROPPED, "dropped")		/* a = own epoch, b = higher epoch */ \
	X(RECLAIM, "reclaim")		/* a = own epoch, b = promised epoch that stands in the way */ \
	X(RESUMED, "resumed")		/* a = epoch */ \
	X(ALONE, "alone")		/* a = epoch, b = seq */ \
	X(SYNC, "in-sync")		/* a = epoch, b = seq, c = node */ \
	X(STANDBY_LOST, "standby-lost")	/* a = node */ \
	X(BLOCKED, "blocked")		/* c = reason: a claim is due but not allowed */ \
	X(ABSTAINING, "abstaining")	/* a = until (no pair) */ \
	X(RECOVERED, "recovered")	/* a = tables counted, b = 1 for a cold start (no pair) */ \
	X(FIRST_START, "first-start")	/* a = voters (no pair) */ \
	X(CONFIG, "configuration")	/* a = version, b = voters, c = 1 when settled (no pair) */ \
	X(HELD, "hold")			/* a = epoch, b = end of the held lease */ \
	X(FORCED, "forced")		/* a = epoch: a voter granted by force */ \
	X(REBOOTED, "rebooted")		/* a = epoch of an earlier boot of this node, released */ \
	X(BARRED, "barred")		/* a = node, b = node that wrote it, c = enum vmp_bar_by (no pair) */ \
	X(UNBARRED, "unbarred")		/* as before */

#define VMP_MSG_TYPES(X) \
	X(HEARTBEAT, "heartbeat") X(ACK, "ack") X(CLAIM, "claim") X(PROBE, "probe") X(PROBE_OK, "probe_ok") X(GRANT, "grant") \
	X(REFUSE, "refuse") X(PUT, "put") X(PUT_OK, "put_ok") X(HOLD, "hold") X(HOLD_OK, "hold_ok") X(UNHOLD, "unhold") \
	X(RELEASE, "release") X(TAKEOVER, "takeover") X(READ, "read") X(TABLE, "table") X(COLD, "cold") \
	X(CONFIG, "config") X(CONFIG_OK, "config_ok") X(STATES, "states") X(STATES_OK, "states_ok") X(MEMBERS, "members")

#define VMP_EVENTS(X) \
	X(TICK, "tick") X(MSG, "msg") X(PAIR_ADD, "pair-add") X(PAIR_REMOVE, "pair-remove") X(MEMBER, "member") \
	X(PEER_LINK, "peer-link") X(PROMOTE, "promote") X(DEMOTE, "demote") X(SWITCHOVER, "switchover") X(FORCE, "force") \
	X(FREEZE, "freeze") X(HOLD, "hold") X(UNHOLD, "unhold") X(CLOSED, "closed") X(RELAY_READY, "relay-ready") \
	X(PERSIST_FAILED, "persist-failed") X(FENCED, "fenced") X(CLOCK_JUMP, "clock-jump") X(VOTERS, "voters") X(LOST_DISKS, "lost-disks") \
	X(IN_SYNC, "in-sync") X(BAR, "bar")

#define VMP_ACTIONS(X) \
	X(PERSIST, "persist") X(PERSIST_CONFIG, "persist-config") X(SEND, "send") X(ENTRY_OPEN, "entry-open") \
	X(ENTRY_REFRESH, "entry-refresh") X(ENTRY_CLOSE, "entry-close") X(RELAY_FENCE, "relay-fence") X(MODE, "mode") \
	X(ROLE, "role") X(OP_DONE, "op-done") X(NOTE, "note") X(END_MEMBERS, "end-members")

/* How far a change of the voter set has come (M2). */
#define VMP_CHANGE_PHASES(X) \
	X(IDLE, "none") X(WANT, "waiting-for-voters") X(CLAIM, "claiming") X(PROPOSE, "proposing") X(HAND, "handing-over") \
	X(WAIT, "waiting-out-leases") X(MARK, "confirming")

#define VMP_E(name, text) VMP_CH_##name,
enum vmp_change_phase { VMP_CHANGE_PHASES(VMP_E) VMP_CH_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_ROLE_##name,
enum vmp_role { VMP_ROLES(VMP_E) VMP_ROLE_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_MODE_##name,
enum vmp_mode { VMP_MODES(VMP_E) VMP_MODE_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_PEER_LINK_##name,
enum vmp_peer_link { VMP_PEER_LINKS(VMP_E) VMP_PEER_LINK_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_CAUSE_##name,
enum vmp_cause { VMP_CAUSES(VMP_E) VMP_CAUSE_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_REASON_##name,
enum vmp_reason { VMP_REASONS(VMP_E) VMP_REASON_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_NOTE_##name,
enum vmp_note { VMP_NOTES(VMP_E) VMP_NOTE_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_MSG_##name,
enum vmp_msg_type { VMP_MSG_NONE_, VMP_MSG_TYPES(VMP_E) VMP_MSG_COUNT };	/* wire numbers: 1, 2, ... in this order */
#undef VMP_E
#define VMP_E(name, text) VMP_EV_##name,
enum vmp_event_type { VMP_EVENTS(VMP_E) VMP_EV_COUNT };
#undef VMP_E
#define VMP_E(name, text) VMP_ACT_##name,
enum vmp_action_type { VMP_ACTIONS(VMP_E) VMP_ACT_COUNT };
#undef VMP_E

/* --- identities and registers (sections 2 and 3) ----------------------------------------------------------------- */
struct vmp_voter {
	uint64_t id;		/* I1: random, made when the node became a voter; never 0 */
	uint8_t node;		/* corosync nodeid 1..255 */
};

struct vmp_config {
	uint64_t version;	/* 0: none yet (first-ever start); 1: the first; then the epoch it was proposed under */
	uint8_t n;
	struct vmp_voter voter[VMP_MAX_VOTERS];		/* ascending by node */
};

/* A vote. It never changes `state`. */
struct vmp_promised {
	uint64_t epoch;		/* 0: none */
	uint64_t boot;		/* boot id of the claiming node; 0: not known (learned from a state) */
	uint8_t node;
	bool released;
	bool own;		/* granted by this voter itself; false: learned from another (V4) */
};

/* What an established holder wrote; ordered by (epoch, seq). */
struct vmp_state {
	uint64_t epoch, seq;	/* epoch 0: no state yet */
	uint64_t holder_member, sync_member;
	uint8_t holder;
	uint8_t sync_node;	/* 0: no member is in sync */
	bool cold;		/* X5: came from disk copies; nobody is in sync, only the last holder's node or force may claim */
};

struct vmp_reg {
	uint64_t pair;
	struct vmp_promised promised;
	struct vmp_state state;
};

/* What is kept per pair in /run (before the reply or send it covers) and under /var/lib (within 1 s, used by X5 only). */
struct vmp_record {
	uint64_t pair;
	struct vmp_promised promised;
	struct vmp_state state;
	struct vmp_state own;	/* newest state this node put as holder (role establishing or holding) */
	uint64_t own_epoch;	/* epoch held; of the pair `voters`: rec.forgot */
	uint64_t own_member;	/* member held with */
	uint64_t released;	/* highest own epoch released: never resumed (R1) */
	uint64_t epoch_seen;	/* highest epoch used or seen (C1) */
	uint64_t held_until_ns;	/* H8: a hold granted as voter ends here; only means something within one boot, 0: none */
	uint64_t hold_nonce;	/* H8: the hold this node took as holder, 0: none */
	uint8_t role;		/* enum vmp_role */
};

/* --- messages (section 4). The receiver's runtime names the authenticated sender. ---------------------------------- */
struct vmp_held {
	uint64_t pair, epoch;
};

struct vmp_pair_state {
	uint64_t pair;
	struct vmp_state state;
};

#define VMP_MEMBER_RUNNING 1
#define VMP_MEMBER_READY 2
#define VMP_MEMBER_LISTED 4	/* not sent: the node has said that it has, or is starting, a member */

struct vmp_member_info {
	uint64_t pair, member;
	uint8_t flags;
};

struct vmp_msg_heartbeat {
	uint64_t inc, seq, boot;
	bool abstaining;
	uint8_t n_held, n_states;
	struct vmp_pair_state state[VMP_HB_STATES];
	struct vmp_held held[VMP_MAX_PAIRS];
};

/* n_supported * 16 + n_regs * 96 stays within 1152 bytes. */
struct vmp_msg_ack {
	uint64_t inc, seq;	/* of the heartbeat answered */
	uint8_t n_supported, n_regs;
	struct vmp_reg reg[VMP_ACK_REGS];
	struct vmp_held supported[VMP_MAX_PAIRS];
};


struct vmp_msg_claim {		/* CLAIM and PROBE */
	uint64_t pair, epoch, nonce, member, boot;
	uint64_t release_of;	/* epoch the old holder released to us; 0: none */
	uint64_t fenced_boot;	/* R3; 0: none */
	uint8_t fenced_node;
	bool force;
};

struct vmp_msg_grant {		/* GRANT, PROBE_OK */
	uint64_t pair, epoch, nonce;
	uint64_t bar;		/* register of a bar: epoch of the newest bar known to this voter */
};

struct vmp_msg_refuse {		/* answer to CLAIM, PROBE and PUT */
	uint64_t pair, epoch, nonce;
	uint64_t remain_ns;	/* reason GUARD: time until the guard ends by the voter's clock; VMP_NEVER: never */
	struct vmp_promised promised;
	struct vmp_state state;
	uint8_t reason;
	bool probe;
};

struct vmp_msg_put {
	uint64_t pair, boot;
	struct vmp_state state;
};

struct vmp_msg_put_ok {
	uint64_t pair, epoch, seq;
	uint64_t remain_ns;	/* register of a bar: time for which guards of this voter cover pairs of that node; VMP_NEVER: no end (B2) */
};

struct vmp_msg_hold {		/* HOLD, HOLD_OK, UNHOLD */
	uint64_t pair, epoch, nonce;
	uint32_t ms;
};

struct vmp_msg_release {
	uint64_t pair, epoch, boot;
};

struct vmp_msg_takeover {
	uint64_t pair, epoch;
	uint8_t cause;		/* enum vmp_cause, for the time line only */
	struct vmp_state state;
};

struct vmp_msg_read {
	uint64_t boot;		/* of the reader */
	uint64_t nonce;
};

struct vmp_msg_table {		/* TABLE; COLD (X5: an abstaining voter's disk copy); CONFIG_OK, STATES, STATES_OK (M2) */
	uint64_t nonce;		/* of the read answered; M2: version */
	uint8_t part, parts;	/* 0 .. parts-1 */
	uint8_t n_regs;
	bool waited;		/* COLD: this voter has sat out its wait (X2) as well */
	struct vmp_config config;
	struct vmp_reg reg[VMP_TABLE_REGS];
};

struct vmp_msg_config {
	struct vmp_config config, previous;
	uint64_t epoch;		/* a proposal: equals config.version; 0: config is settled */
	bool chosen;		/* of a proposal: a majority of the previous set has adopted it, so nothing else can follow that set */
};

struct vmp_msg_members {
	uint8_t n;
	struct vmp_member_info member[VMP_MAX_PAIRS];
};

struct vmp_msg {
	uint8_t type;		/* enum vmp_msg_type */
	uint64_t version;	/* configuration version of the sender */
	uint64_t voter;		/* voter id of the sender */
	union {
		struct vmp_msg_heartbeat heartbeat;
		struct vmp_msg_ack ack;
		struct vmp_msg_claim claim;		/* CLAIM, PROBE */
		struct vmp_msg_grant grant;		/* GRANT, PROBE_OK */
		struct vmp_msg_refuse refuse;
		struct vmp_msg_put put;
		struct vmp_msg_put_ok put_ok;
		struct vmp_msg_hold hold;		/* HOLD, HOLD_OK, UNHOLD */
		struct vmp_msg_release release;
		struct vmp_msg_takeover takeover;
		struct vmp_msg_read read;
		struct vmp_msg_table table;		/* TABLE, COLD, CONFIG_OK, STATES, STATES_OK */
		struct vmp_msg_config config;
		struct vmp_msg_members members;
	} u;
};

/* --- events ------------------------------------------------------------------------------------------------------------ */
struct vmp_policy {
	uint8_t peer_link;	/* enum vmp_peer_link */
	bool auto_failover;	/* claim on own initiative when the primary is lost */
	bool cold_start;	/* PROMOTE may force when every recorded member is known to be gone */
	bool relay;		/* a relay says by IN_SYNC what the standby holds; else a ready standby counts as in sync */
};

struct vmp_event {
	uint8_t type;		/* enum vmp_event_type */
	uint8_t node;		/* MSG: sender; FENCED, VOTERS, LOST_DISKS, BAR: node; IN_SYNC: the standby's node */
	bool on;		/* PEER_LINK: up; FREEZE: frozen; MEMBER: running; VOTERS: add (else remove); IN_SYNC: has caught up;
				 * BAR: bar (else lift); SWITCHOVER: because of a trigger */
	bool ready;		/* MEMBER; PEER_LINK down: it had worked since this node holds the pair */
	uint64_t now_ns;
	uint64_t pair;		/* 0 with FREEZE, HOLD, UNHOLD: all pairs; with PERSIST_FAILED: the configuration */
	uint64_t op;		/* PROMOTE ... VOTERS, BAR: request id given back by OP_DONE (0: no answer wanted); CLOSED: op of ENTRY_CLOSE;
				 * IN_SYNC: op of the MODE wait it answers (D2: holds everything up to that), else 0 */
	uint64_t epoch;		/* CLOSED, RELAY_READY */
	uint64_t member;	/* MEMBER: content id, 0 = none. IN_SYNC: the standby's. FENCED: boot id.
				 * VOTERS: voter id to add, 0: as heard from the node. BAR: enum vmp_bar_by */
	uint64_t deadline_ns;	/* PROMOTE, FORCE, VOTERS, BAR: give up at */
	uint32_t ms;		/* HOLD */
	struct vmp_policy policy;	/* PAIR_ADD: also changes the policy of a pair that exists */
	struct vmp_msg msg;	/* MSG */
};

/* --- actions ----------------------------------------------------------------------------------------------------------- */
#define VMP_TO_VOTERS 0		/* all voters of the configuration, the own node included */

struct vmp_action {
	uint8_t type;		/* enum vmp_action_type */
	uint8_t to;		/* SEND: node, or VMP_TO_VOTERS */
	uint8_t code;		/* MODE: mode; ROLE: role; NOTE: note; OP_DONE: reason */
	uint8_t cause;		/* ROLE */
	int32_t rc;		/* OP_DONE: 0 or -errno */
	uint16_t msg;		/* SEND: index into out->msg */
	uint64_t pair;
	uint64_t epoch;		/* ENTRY_*, RELAY_FENCE, MODE, ROLE */
	uint64_t expiry_ns;	/* ENTRY_OPEN, ENTRY_REFRESH: absolute */
	uint64_t op;		/* ENTRY_CLOSE: give it back in CLOSED; MODE wait: in IN_SYNC; OP_DONE: the request */
	uint64_t a, b, c;	/* NOTE; MODE sync: a = node, b = member whose word an answer waits for (D1) */
};

struct vmp_out {
	uint16_t n_actions, n_msgs;
	struct vmp_action action[VMP_MAX_ACTIONS];
	struct vmp_msg msg[VMP_MAX_MSGS];
};

/* --- start ------------------------------------------------------------------------------------------------------------- */
enum vmp_start {
	VMP_START_NEW,		/* memory lost: reboot, missing or damaged /run file, new voter (X2); records are disk copies, maybe none */
	VMP_START_SAME_BOOT,	/* X1: the records of /run, of this boot and marked complete */
};

struct vmp_init {
	uint8_t node;
	uint8_t start;		/* enum vmp_start */
	bool no_disk;		/* START_NEW: there is no disk copy, so this voter adds nothing to a cold start (X5) */
	uint8_t n_wish;		/* nodes of corosync's node list, used only to form the first configuration */
	uint8_t wish[VMP_MAX_VOTERS];
	uint8_t n_records;
	uint64_t now_ns;
	uint64_t boot, inc, voter;	/* I1; none may be 0 */
	uint64_t seed;		/* random: drives nonces and back-off */
	uint32_t lease_ms, hb_ms, gate_delay_ms, hold_max_ms;
	uint32_t clock_error_permille;	/* rho * 1000 */
	struct vmp_config config;	/* persisted configuration, version 0 when there is none */
	struct vmp_config previous;	/* persisted with it: the set that it was proposed on, n = 0 for the first */
	struct vmp_record record[VMP_MAX_PAIRS];
};

/* --- state --------------------------------------------------------------------------------------------------------------- */
enum vmp_phase { VMP_PH_IDLE, VMP_PH_PROBING, VMP_PH_CLAIMING, VMP_PH_FENCING, VMP_PH_PUTTING };

enum vmp_put_goal { VMP_PUT_NONE, VMP_PUT_ESTABLISH, VMP_PUT_ALONE, VMP_PUT_SYNC, VMP_PUT_SAME };

struct vmp_attempt {		/* section 6 */
	uint8_t phase;		/* enum vmp_phase */
	uint8_t cause;		/* enum vmp_cause */
	bool force;
	uint8_t granted;	/* bit per voter: grants, or positive probes */
	uint8_t fenced_node;
	uint8_t reason;		/* last refusal */
	uint64_t fenced_boot;
	uint64_t epoch, nonce, member, release_of;
	uint64_t first_ns;	/* first send of the claim (C3, C4) */
	uint64_t next_ns;	/* next repeat */
	uint64_t ack[VMP_MAX_VOTERS];
};

struct vmp_put {		/* H6 */
	uint8_t goal;		/* enum vmp_put_goal */
	uint8_t ok;		/* bit per voter */
	uint64_t first_ns, next_ns;
	struct vmp_state state;
};

struct vmp_request {		/* an operation waiting for its end */
	uint64_t op, deadline_ns;
};

struct vmp_pair {
	uint64_t id;
	/* voter (section 5) */
	struct vmp_reg reg;
	uint64_t guard_ns;	/* never shrinks but for UNHOLD; VMP_NEVER only with n < 3 (T1) */
	uint64_t told_ns;	/* T1: when the node whose promise that is is told of it again, unless it lists the pair until then */
	uint64_t held_nonce, held_until_ns;	/* H8: the newest hold accepted */
	uint64_t epoch_seen;
	/* hosted here */
	bool hosted, frozen, link_down, running, ready;
	bool held_off;		/* Pacemaker demoted it: claims only when told to */
	bool remove;		/* PAIR_REMOVE: no longer hosted once it is released */
	bool dirty;		/* the last write failed: write again before anything is sent */
	bool on_run;		/* /run says that the pair is held here */
	bool written, on_run_next;	/* the last step asked for a write, after which it says so, or does not */
	uint8_t role, mode;
	uint8_t cause;		/* why the role is sought or left */
	struct vmp_policy policy;
	uint64_t member;
	/* holder (section 7) */
	bool entry_open;
	uint64_t epoch, held_member, released;
	struct vmp_state own;	/* newest state put, or to be put, in `epoch` */
	uint64_t ack[VMP_MAX_VOTERS];
	uint64_t expiry_ns;	/* last value stored for the entry */
	uint64_t hold_end_ns;	/* H8 */
	uint64_t carry_ns;	/* end of the lease that the voter set before this one supported */
	uint64_t hold_nonce, hold_first_ns;
	uint64_t old_hold_nonce;	/* of a hold taken before this daemon started */
	uint64_t renew_from_ns;		/* T1: the holder renews by itself from here on */
	uint32_t hold_ms;
	uint8_t hold_ok;
	struct vmp_request hold_req;
	struct vmp_put put;
	uint8_t caught_node;	/* policy.relay: the standby that has caught up */
	uint64_t caught_member, catch_op;
	/* release (section 9) */
	uint64_t close_op;
	uint8_t hand_to;
	struct vmp_request release_req;
	struct vmp_state hand_state;
	uint64_t rel_epoch, rel_boot, rel_until_ns, rel_next_ns;
	/* candidate (section 6) */
	struct vmp_attempt at;
	uint64_t backoff_ns;	/* no new attempt before */
	uint64_t ran_ns;		/* last time it was looked at whether to claim */
	uint64_t learn_ns;	/* not eligible as far as known here: next time to ask the others */
	uint64_t takeover_epoch;	/* epoch released to us, 0: none */
	uint64_t return_ns;	/* a released, still eligible old holder may claim from here on (R2) */
	struct vmp_request promote;
	bool promote_force;
	uint64_t forced_member;		/* a forced attempt with this member wrote its state to some voters only: the next is forced too */
	uint8_t blocked;	/* reason last noted */
	uint64_t lost_noted;	/* epoch whose loss was noted */
	uint8_t stepped;	/* the state before this step, for the check against pair.def */
	/* members of the other nodes, by voter index */
	struct vmp_member_info peer[VMP_MAX_VOTERS];
};

struct vmp_peer {		/* per voter index */
	uint64_t heard_ns;	/* last heartbeat; 0: never */
	uint64_t acked_ns;	/* own send time of the newest heartbeat that this voter answered, whatever it supported */
	uint64_t members_ns;	/* last MEMBERS; 0: never */
	uint64_t idle_ack_ns, idle_inc;	/* V2: last answer to a heartbeat that held nothing, and the run of the daemon that got it */
	uint64_t boot, inc;
	uint64_t told_ns;	/* M3: last time it was told our configuration, or asked for its own */
	uint64_t fenced_boot;	/* R3: verified as gone */
	bool left_out;		/* T1: fenced and not yet recovered */
	bool lost;		/* of `parted`: an operator says that its disk is (X5) */
	bool abstaining;	/* its newest heartbeat says so */
};

struct vmp_recovery {		/* section 11 */
	bool abstaining, waited, cold_allowed, no_disk;
	uint64_t forgot;	/* version that was not settled when the abstention ended: until one is, not counted as one of the old set (M2) */
	uint64_t until_ns;	/* end of the wait (X2) */
	uint64_t nonce, next_ns;
	uint8_t tables;		/* voters whose complete table came for this nonce */
	uint8_t colds;		/* voters whose complete disk copy came for this nonce */
	uint8_t lost;		/* voters the operator named as lost (X5) */
	uint8_t other_wish;	/* first start: nodes of the wish list whose own list differs */
	uint64_t parts[VMP_MAX_VOTERS];		/* parts seen, as bits */
	uint8_t kind[VMP_MAX_VOTERS];		/* message type the parts belong to */
	uint64_t cold_voter[VMP_MAX_VOTERS];	/* first start: voter ids told by nodes without a configuration */
	uint8_t n_reg;		/* what the answers said, merged apart until the end of the abstention */
	struct vmp_reg reg[VMP_MAX_PAIRS];
	struct vmp_promised mine[VMP_MAX_PAIRS];	/* of the same pairs: the newest promise that an answer has to an earlier boot of this node */
};

struct vmp_stranger {		/* a node outside the voter set that asked for its configuration */
	uint8_t node;
	uint64_t voter;
};

struct vmp_change {		/* section 12: a change of the voter set driven by this node */
	uint8_t phase;		/* enum vmp_change_phase */
	bool requested, add;	/* not requested: only finishes what another proposer left */
	bool handing;
	uint8_t node, reason;
	uint64_t voter;
	uint64_t epoch, nonce, first_ns;	/* of the reserved pair; the epoch is the new version */
	uint64_t next_ns, wait_ns;
	uint8_t granted;	/* bit per voter of the configuration */
	/* bit per voter of `all`, which is old and next together */
	uint8_t ok, abstained, merged, marked;
	uint64_t parts[VMP_MAX_VOTERS];
	struct vmp_config old, next, all;
	struct vmp_request req;
};

/* At whose request a node was barred, or its bar lifted. */
enum vmp_bar_by { VMP_BAR_BY_NOBODY, VMP_BAR_BY_AGENT, VMP_BAR_BY_OPERATOR };

struct vmp_bar {		/* a bar that this node sets or lifts */
	uint8_t node, by;	/* node 0: free */
	bool lift;
	uint8_t phase;
	uint8_t granted, ok;	/* bit per voter */
	uint8_t reason;
	uint64_t epoch, nonce, first_ns, next_ns;
	uint64_t last_bar;	/* newest bar that a majority knows of */
	uint64_t clear_ns[VMP_MAX_VOTERS];	/* B2: from when on this voter protects nothing of the node; 0: not known */
	uint64_t grace_ns;	/* B5: the node itself is waited for until here */
	struct vmp_state state;
	struct vmp_request req[VMP_BAR_REQS];
};

struct vmp_core {
	/* parameters */
	uint8_t node, self;	/* self: own voter index; VMP_MAX_VOTERS when not in the configuration */
	uint8_t n_wish, wish[VMP_MAX_VOTERS];
	uint64_t boot, inc, voter;
	uint64_t lease_ns, hb_ns, q_ns, holder_ns /* H */;
	uint32_t hold_max_ms, rho_permille;
	struct vmp_config config;
	struct vmp_config previous;	/* what the current one was proposed on; n = 0: not known */
	uint8_t m, r;
	bool settled;		/* M2 is through with the current version; checked anew with every tick */
	bool config_dirty;	/* the configuration could not be written: nothing is said until it is */
	bool config_acted, config_alone;	/* the last step asked for that write, and for nothing else */
	uint64_t config_next_ns;	/* next try */
	bool from_static;	/* T3: not settled, and the set before had fewer than three */
	bool renew_ok;		/* T1 is in force for the holders here */
	uint64_t told_settled;	/* version that another voter says is settled */
	uint64_t finish_ns;	/* not settled: finish it ourselves from here on */
	uint64_t stranger_told_ns;
	struct vmp_stranger stranger[VMP_MAX_VOTERS];
	/* heartbeat */
	uint64_t late_ns;	/* since when this daemon runs again after it had not been scheduled; 0: it always was */
	uint64_t start_ns, now_ns, seq, next_hb_ns, next_members_ns, renew_ns;
	uint64_t sent_ns[VMP_SEND_RING];
	uint64_t sent_seq[VMP_SEND_RING];
	uint8_t state_turn, ack_turn, tick_turn;
	bool more;		/* a tick ran out of room and goes on at once */
	bool members_changed, frozen, fresh;
	uint64_t prng, next_op;
	uint64_t epoch_skip;	/* I3: epochs up to here may have been used before the memory was lost */
	uint64_t fault_pair;	/* after -ENOTRECOVERABLE: the pair and its transition */
	uint8_t fault_from, fault_to;
	struct vmp_peer peer[VMP_MAX_VOTERS];
	struct vmp_peer parted;	/* while the current version is not settled: the voter that it removes */
	struct vmp_recovery rec;
	struct vmp_change change;
	struct vmp_bar bar[VMP_MAX_VOTERS];
	uint64_t bar_seen;	/* B3: the newest bar of this node that was acted upon */
	bool bar_due;		/* a bar has changed: see with the next tick, now, what follows from it */
	uint8_t n_pairs;
	struct vmp_pair pair[VMP_MAX_PAIRS];
#ifdef VMP_CORE_BUGS
	uint64_t bugs;		/* test build only: wrong variants switched on */
#endif
};

/* --- functions ----------------------------------------------------------------------------------------------------------- */

/* H for given parameters, in ns; 0 when it would not be positive. */
uint64_t vmp_holder_lease_ns(uint32_t lease_ms, uint32_t clock_error_permille, uint32_t gate_delay_ms);

/* Start. -EINVAL for ill-formed parameters (also H < 3 * hb_ms). The first actions come with the first TICK, due at once. */
int vmp_core_init(struct vmp_core *c, const struct vmp_init *init);

/* One step. 0; -EINVAL: ill-formed event, nothing changed; -ENOTRECOVERABLE: a transition that pair.def does not allow
 * happened, which is a bug: the caller must close all entries and stop. `out` is always valid. */
int vmp_core_step(struct vmp_core *c, const struct vmp_event *ev, struct vmp_out *out);

/* A write before this action has failed: is it done all the same? An answer is, as a failure (-EIO), and the end of the members. */
bool vmp_action_stands(struct vmp_action *a);

/*
 * The store of an ENTRY_OPEN or ENTRY_REFRESH of pair `unstored` (0: none), earlier in this list, was refused: is this SEND left out? So is the
 * one that ends a hold (H8): the gate may still go by the longer word that the hold was for.
 */
bool vmp_action_lapses(const struct vmp_out *out, const struct vmp_action *a, uint64_t unstored);

/* Next instant at which a TICK is wanted. */
uint64_t vmp_core_deadline(const struct vmp_core *c);

/* Local invariants; 0 or -ENOTRECOVERABLE with the number of the broken one in *ret_which. */
int vmp_core_check(const struct vmp_core *c, int *ret_which);

/* X1: nothing that /run has to hold is missing in it. */
bool vmp_core_run_complete(const struct vmp_core *c);

/* How many more pairs can get a register; those of deleted pairs are never freed, some are kept for reserved ones. */
unsigned int vmp_core_pairs_left(const struct vmp_core *c);

/* The record to write for VMP_ACT_PERSIST. -ENOENT when the pair is unknown. */
int vmp_core_record(const struct vmp_core *c, uint64_t pair, struct vmp_record *ret);
/* The configuration to write for VMP_ACT_PERSIST_CONFIG, and the one that it was proposed on (n = 0: the first). */
void vmp_core_config(const struct vmp_core *c, struct vmp_config *ret, struct vmp_config *ret_previous);

struct vmp_pair_view {
	uint64_t pair;
	bool hosted, frozen, entry_open, ready, running;
	uint8_t role, mode, phase;
	uint8_t cause, blocked;		/* enum vmp_cause; enum vmp_reason why no claim is made */
	uint64_t epoch, seq, member;
	struct vmp_reg reg;		/* the own voter's register: newest state known here */
	uint8_t primary;		/* node that the newest state names as holder, 0 none */
	uint8_t sync_node;		/* in-sync standby of the newest state, 0 none */
	bool on_run;			/* /run says that the pair is held here: without it no entry opens */
	uint64_t lease_end_ns;		/* 0 when no lease */
	uint64_t hold_end_ns;		/* H8: end of the hold taken by this holder, 0 none */
	uint64_t guard_ns;
	uint8_t support;		/* number of voters whose support is younger than H */
	struct vmp_member_info peer[VMP_MAX_VOTERS];	/* by voter index */
};

struct vmp_node_view {
	bool abstaining, cold_wait;	/* cold_wait: only X5 can end the abstention */
	uint64_t until_ns;
	uint8_t n, m, heard;		/* voters; majority; voters heard within L (the own one included) */
	uint8_t answered;		/* abstaining: voters that answered our read */
	uint8_t other_wish;		/* first start: a node that waits for other nodes than we do, so that nothing is formed; 0 none */
	bool fast_node_loss;		/* false: fewer than three voters (T1, T2) */
	bool endless;			/* guards have no end (T1, T3): after the loss of a node only a verified fence (R3) clears them */
	bool settled;			/* M2 is through with this version */
	uint8_t change;			/* enum vmp_change_phase: what this node does about the voter set */
	uint8_t change_node;		/* node being added or removed by it, 0 none */
	uint8_t parted;			/* voter that a version removes which is not settled, 0: none */
	bool waits;			/* M2: nothing is granted before that one has left the old set, or is fenced */
	uint64_t parted_heard_ns;
	struct vmp_config config;
	uint64_t heard_ns[VMP_MAX_VOTERS];	/* by voter index */
	uint64_t boot[VMP_MAX_VOTERS];		/* that each said last; 0: not heard since this daemon started */
};

int vmp_core_pair_view(const struct vmp_core *c, uint64_t pair, uint64_t now_ns, struct vmp_pair_view *ret);
void vmp_core_node_view(const struct vmp_core *c, uint64_t now_ns, struct vmp_node_view *ret);

struct vmp_bar_view {
	bool known;		/* it has been barred some time */
	bool barred;
	bool busy;		/* this node is setting or lifting a bar */
	uint8_t writer;		/* node that wrote what is known */
	uint8_t by;		/* enum vmp_bar_by */
	uint64_t epoch;
};

/* Whether a node is barred, as far as is known here. */
bool vmp_core_barred(const struct vmp_core *c, uint8_t node, struct vmp_bar_view *ret);

/* H2: end of the lease of a pair, from own send times only; 0 when the pair is not held here. */
uint64_t vmp_core_lease_end(const struct vmp_core *c, uint64_t pair);

/* FNV-1a 64 of a pair name; never a reserved id. */
uint64_t vmp_pair_id(const char *name);

/* core_str.c: one stable line (no newline) for an event with everything it caused; returns the length it needs, like snprintf.
 * Times are shown in microseconds relative to `base_ns`. */
size_t vmp_core_str(const struct vmp_core *c, const struct vmp_event *ev, const struct vmp_out *out, uint64_t base_ns,
		    char *buf, size_t size);
size_t vmp_msg_str(const struct vmp_msg *msg, char *buf, size_t size);
size_t vmp_action_str(const struct vmp_out *out, unsigned int i, uint64_t base_ns, char *buf, size_t size);

const char *vmp_role_name(unsigned int role);
const char *vmp_mode_name(unsigned int mode);
const char *vmp_cause_name(unsigned int cause);
const char *vmp_reason_name(unsigned int reason);
const char *vmp_reason_text(unsigned int reason);	/* a sentence for people */
const char *vmp_note_name(unsigned int note);
const char *vmp_change_name(unsigned int phase);
const char *vmp_msg_name(unsigned int type);
const char *vmp_event_name(unsigned int type);
const char *vmp_action_name(unsigned int type);

#endif
