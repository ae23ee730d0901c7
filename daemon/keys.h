/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The key file (/etc/vmpair/keys): the secrets shared by all daemons of a cluster.
 *
 *     key ID HEX64 [send]        # comment
 *
 * ID is 1..65535, HEX64 a 32-byte secret. Up to VMP_KEYS_MAX keys are valid for receiving, exactly one is used for
 * sending. Rotation without an outage, each step on all nodes before the next: add (receive only), set send, drop.
 * The file must be a regular file of root (or of the caller's effective user) with mode 0600 or stricter.
 *
 * Errors: negative errno. Complaints about content go to `diag` (may be NULL) and never contain a secret.
 * Writers replace the file atomically (0600, fsync of file and directory) under a lock, so two of them cannot mix.
 * Blocking file I/O: call from start-up, reload and the CLI. No global state; any thread.
 */
#ifndef VMP_KEYS_H
#define VMP_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/diag.h"

#define VMP_KEYS_MAX 4
#define VMP_KEY_LEN 32
#define VMP_KEY_FP_LEN 17	/* 16 hex digits and NUL */

struct vmp_key {
	uint16_t id;
	uint8_t secret[VMP_KEY_LEN];
};

struct vmp_keys {
	unsigned int count;
	unsigned int send;	/* index of the key used for sending */
	struct vmp_key key[VMP_KEYS_MAX];
};

/* -ENOENT no file, -EACCES wrong owner or mode, -EINVAL content; each explained in diag. On failure *ret is unchanged. */
int vmp_keys_load(const char *path, struct vmp_keys *ret, struct vmp_diag *diag);

/* Parse text of the same form; `name` stands for the file in complaints. */
int vmp_keys_parse(const char *name, const char *text, size_t len, struct vmp_keys *ret, struct vmp_diag *diag);

/* New file with one random key (ID 1, send); its directory is made (0755) where only that is missing. -EEXIST unless force. */
int vmp_keys_generate(const char *path, bool force, struct vmp_diag *diag);

/*
 * The steps of a rotation on the file. add: a random key with a free ID, receive only; -ENOSPC when VMP_KEYS_MAX are
 * there. import: the same with a key made on another node (secret of VMP_KEY_LEN bytes); -EEXIST when the ID is taken by
 * another secret, 0 and no change when it is the same key. set_send: -ENOENT unknown ID. drop: -ENOENT unknown,
 * -EBUSY the sending key.
 */
int vmp_keys_add(const char *path, uint16_t *ret_id, struct vmp_diag *diag);
int vmp_keys_import(const char *path, uint16_t id, const uint8_t *secret, struct vmp_diag *diag);
int vmp_keys_set_send(const char *path, uint16_t id, struct vmp_diag *diag);
int vmp_keys_drop(const char *path, uint16_t id, struct vmp_diag *diag);

/*
 * Keys for one purpose and one name, each made from the cluster's key of the same id (HKDF-SHA256), so that who gets them learns nothing
 * about the others. 0 or -EIO.
 */
int vmp_keys_derive(const struct vmp_keys *keys, const char *purpose, const char *name, struct vmp_keys *ret);
/* A file of the same form for another user, replaced as a whole; uid -1: the caller's. */
int vmp_keys_write(const char *path, const struct vmp_keys *keys, uid_t uid, gid_t gid);

/* Index of the key with that ID, or -ENOENT. */
int vmp_keys_find(const struct vmp_keys *keys, uint16_t id);

/* A one-way digest by which operators compare keys of two nodes; it may be printed and logged. */
void vmp_key_fingerprint(const struct vmp_key *key, char ret[VMP_KEY_FP_LEN]);

/* Overwrite the secrets. */
void vmp_keys_wipe(struct vmp_keys *keys);

static inline void vmp_keys_wipe_p(struct vmp_keys *keys)
{
	vmp_keys_wipe(keys);
}
#define CLEANUP_KEYS __attribute__((cleanup(vmp_keys_wipe_p)))

#endif
