/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a voter must not forget.
 *
 * RUNTIME_DIR/registers (tmpfs): one slot per pair and one for the node, preallocated, so a later write cannot run out of space. Written
 * before the reply or send that depends on it (write returns -errno: then do not reply). It is trusted (state SAME_BOOT) only when it
 * is of this boot, undamaged, of this node, and was marked complete: a voter that must abstain (X2) marks it complete only when
 * the abstention has ended, so a crash in between abstains again.
 *
 * STATE_DIR/registers: the same slots for a cold start (X5), written by a thread with fdatasync; the newest value wins and reaches the
 * disk within VMP_STORE_DISK_MS if the disk works. Errors there are reported, retried, and never delay the caller.
 *
 * STATE_DIR/voter: identity and voter set; written synchronously (new file, fsync, rename, fsync of the directory).
 *
 * Each slot has two copies with a generation and a checksum; a write goes to the older copy, so a torn write leaves the other.
 * A copy that fails its checksum makes the file DAMAGED even if the other copy is good: whether the newer value was already
 * answered for cannot be known, and abstaining for one lease is cheap. What is readable is handed over all the same.
 *
 * Threads: one owner thread calls everything; the disk thread is internal. Only vmp_store_voter_*() and vmp_store_new()/flush block.
 */
#ifndef VMP_STORE_H
#define VMP_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/core.h"

#define VMP_STORE_PAIRS 64
#define VMP_STORE_VOTERS 8
#define VMP_STORE_DISK_MS 1000

enum vmp_store_state {
	VMP_STORE_ABSENT,	/* no file */
	VMP_STORE_SAME_BOOT,	/* of this boot, complete: rule X1 */
	VMP_STORE_OTHER_BOOT,	/* complete, of an earlier boot; what the disk copy normally is */
	VMP_STORE_INCOMPLETE,	/* of this boot, but the voter had not ended its abstention */
	VMP_STORE_DAMAGED,	/* checksum, size, format, or another node's */
};
const char *vmp_store_state_str(enum vmp_store_state state);

/* Node slot. */
struct vmp_store_node {
	uint64_t boot;		/* set by the store */
	uint64_t inc;		/* of the daemon that wrote it */
	uint64_t voter;		/* identity, see vmp_store_voter */
	uint64_t config_version;
	uint64_t epoch_max;	/* highest epoch used or seen by this node */
	bool complete;		/* not abstaining */
};

struct vmp_store_voter {
	uint64_t voter;		/* identity of this node's voter */
	uint64_t version;	/* of the set below */
	unsigned int count, count_before;
	struct {
		uint8_t node;
		uint64_t voter;
	} set[VMP_STORE_VOTERS], before[VMP_STORE_VOTERS];	/* `before`: what the set was proposed on, needed until it is settled */
};

struct vmp_store;

struct vmp_store_param {
	const char *runtime_dir, *state_dir;	/* made with mode 0700 when missing */
	uint8_t self;
	uint64_t boot;		/* of this boot; vmp_store_boot() */
};

/*
 * Opens both files (locked: -EBUSY when another daemon has them), loads them, makes new ones where the old cannot be used. The loaded
 * values stay readable until free. A state_dir that cannot be written is not fatal (see disk_status), a runtime_dir is.
 */
int vmp_store_new(struct vmp_store **ret, const struct vmp_store_param *param, char *reason, size_t reason_size);
/* Writes what is pending to disk (bounded by one attempt), ends the thread. */
struct vmp_store *vmp_store_free(struct vmp_store *s);

/* What was found at the start. Records of slots that could be read; node is all zero when unknown. */
struct vmp_store_loaded {
	enum vmp_store_state state;
	struct vmp_store_node node;
	unsigned int count;
	struct vmp_record record[VMP_STORE_PAIRS];
};
const struct vmp_store_loaded *vmp_store_run(const struct vmp_store *s);
const struct vmp_store_loaded *vmp_store_disk(const struct vmp_store *s);

/*
 * Write through to the /run file and queue for the disk. -ENOSPC: more pairs than slots. put_node with `complete` is refused (-EAGAIN)
 * while the last put of some pair failed: the file would claim to hold what it does not.
 */
int vmp_store_put(struct vmp_store *s, const struct vmp_record *rec);
int vmp_store_put_node(struct vmp_store *s, const struct vmp_store_node *node);

/* 0: the disk copy is up to date or on its way; else the negative errno of the last attempt, *ret_age_ms = age of the oldest
 * value not yet on disk (0: none). */
int vmp_store_disk_status(struct vmp_store *s, uint64_t *ret_age_ms);
/* Wait until all queued values are on disk; -ETIMEDOUT or the disk's error. Blocks: tests and shutdown. */
int vmp_store_flush(struct vmp_store *s, unsigned int timeout_ms);

/* -ENOENT none yet, -EBADMSG damaged. */
int vmp_store_voter_load(const char *state_dir, struct vmp_store_voter *ret);
int vmp_store_voter_save(const char *state_dir, const struct vmp_store_voter *v);
/* Load, or make and save a new random identity (count 0, version 0); a damaged file is an error, never replaced silently. */
int vmp_store_voter_get(const char *state_dir, struct vmp_store_voter *ret, bool *ret_created);

/*
 * Identity of this boot, never 0: a digest of the kernel's boot id and of a random number kept in runtime_dir. With the latter, a node
 * that is a container or namespace and loses its /run counts as rebooted, although the kernel went on.
 */
int vmp_store_boot(const char *runtime_dir, uint64_t *ret);

#endif
