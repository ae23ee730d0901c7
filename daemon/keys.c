/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/keys.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal/cleanup.h"

#define FILE_MAX 16384

/* A buffer that held secrets. */
struct secret_buf {
	char *p;
	size_t size;
};

static void secret_buf_done(struct secret_buf *b)
{
	if (b->p)
		gnutls_memset(b->p, 0, b->size);
	free(b->p);
}
#define CLEANUP_SECRET __attribute__((cleanup(secret_buf_done)))

void vmp_keys_wipe(struct vmp_keys *keys)
{
	gnutls_memset(keys, 0, sizeof(*keys));
}

int vmp_keys_find(const struct vmp_keys *keys, uint16_t id)
{
	for (unsigned int i = 0; i < keys->count; i++)
		if (keys->key[i].id == id)
			return (int)i;
	return -ENOENT;
}

void vmp_key_fingerprint(const struct vmp_key *key, char ret[VMP_KEY_FP_LEN])
{
	static const char label[] = "vmpair key fingerprint";
	uint8_t mac[32] = { 0 };

	gnutls_hmac_fast(GNUTLS_MAC_SHA256, key->secret, sizeof(key->secret), label, sizeof(label) - 1, mac);
	for (unsigned int i = 0; i < 8; i++)
		snprintf(ret + 2 * i, 3, "%02x", mac[i]);
}

/* --- parsing ---------------------------------------------------------------------------------------------------------- */
static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_secret(const char *w, size_t len, uint8_t *out)
{
	if (len != 2 * VMP_KEY_LEN)
		return -EINVAL;
	for (unsigned int i = 0; i < VMP_KEY_LEN; i++) {
		int hi = hex_digit(w[2 * i]), lo = hex_digit(w[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

static int parse_id(const char *w, size_t len, uint16_t *ret)
{
	unsigned int v = 0;

	if (len == 0 || len > 5)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (w[i] < '0' || w[i] > '9')
			return -EINVAL;
		v = v * 10 + (unsigned int)(w[i] - '0');
	}
	if (v < 1 || v > UINT16_MAX)
		return -ERANGE;
	*ret = (uint16_t)v;
	return 0;
}

static bool word_is(const char *w, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(w, text, len) == 0;
}

static bool weak(const uint8_t *secret)
{
	for (unsigned int i = 1; i < VMP_KEY_LEN; i++)
		if (secret[i] != secret[0])
			return false;
	return true;
}

struct parse {
	const char *name;
	struct vmp_diag *diag;
	struct vmp_keys keys;
	unsigned int line_of[VMP_KEYS_MAX];
	unsigned int send_line;		/* 0: none yet */
	unsigned int errors;
};

/* Complaints quote no part of a line that could be a secret. */
static void parse_line(struct parse *st, unsigned int line, const char *p, const char *end)
{
	const char *word[5];
	size_t wlen[5];
	unsigned int n = 0, idx = st->keys.count;
	struct vmp_key key;
	bool send = false;
	int r;

	for (const char *q = p; q < end; q++)
		if (*q == '#') {
			end = q;
			break;
		}
	while (p < end) {
		while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
			p++;
		if (p == end)
			break;
		if (n < ARRAY_SIZE(word))
			word[n] = p;
		while (p < end && *p != ' ' && *p != '\t' && *p != '\r')
			p++;
		if (n < ARRAY_SIZE(word))
			wlen[n] = (size_t)(p - word[n]);
		n++;
	}
	if (n == 0)
		return;

	st->errors++;	/* taken back below when all is well */
	if (!word_is(word[0], wlen[0], "key")) {
		vmp_diag_add(st->diag, st->name, line, "a line must be `key ID HEX [send]` (other lines start with #)");
		return;
	}
	if (n < 3 || n > 4) {
		vmp_diag_add(st->diag, st->name, line, "`key` takes an ID, 64 hex digits and maybe `send`, not %u words", n - 1);
		return;
	}
	r = parse_id(word[1], wlen[1], &key.id);
	if (r < 0) {
		vmp_diag_add(st->diag, st->name, line, "the key ID must be a number from 1 to 65535");
		return;
	}
	if (parse_secret(word[2], wlen[2], key.secret) < 0) {
		vmp_diag_add(st->diag, st->name, line,
			     "key %u is not 64 hex digits (`vmpair keygen` makes a key file)", key.id);
		goto wipe;
	}
	if (weak(key.secret)) {
		vmp_diag_add(st->diag, st->name, line,
			     "key %u is one byte repeated, not a secret (`vmpair keygen` makes a key file)", key.id);
		goto wipe;
	}
	if (n == 4) {
		if (!word_is(word[3], wlen[3], "send")) {
			vmp_diag_add(st->diag, st->name, line, "only `send` may follow key %u", key.id);
			goto wipe;
		}
		send = true;
	}
	r = vmp_keys_find(&st->keys, key.id);
	if (r >= 0) {
		vmp_diag_add(st->diag, st->name, line, "key %u is already on line %u (each ID once)", key.id, st->line_of[r]);
		goto wipe;
	}
	if (send && st->send_line) {
		vmp_diag_add(st->diag, st->name, line, "key %u is marked `send`, but so is the key on line %u (keep one)",
			     key.id, st->send_line);
		goto wipe;
	}
	if (idx == VMP_KEYS_MAX) {
		vmp_diag_add(st->diag, st->name, line, "more than %d keys (drop the old ones: `vmpair key drop ID`)", VMP_KEYS_MAX);
		goto wipe;
	}
	st->keys.key[idx] = key;
	st->line_of[idx] = line;
	if (send) {
		st->keys.send = idx;
		st->send_line = line;
	}
	st->keys.count++;
	st->errors--;
wipe:
	gnutls_memset(&key, 0, sizeof(key));
}

int vmp_keys_parse(const char *name, const char *text, size_t len, struct vmp_keys *ret, struct vmp_diag *diag)
{
	struct parse st = { .name = name, .diag = diag };
	const char *p = text, *end = text + len;
	unsigned int line = 0;
	int r = 0;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		if (!nl)
			nl = end;
		parse_line(&st, ++line, p, nl);
		p = nl + 1;
	}
	if (!st.errors && st.keys.count == 0) {
		vmp_diag_add(diag, name, 0, "there is no key in this file (`vmpair keygen` makes one)");
		st.errors++;
	}
	if (!st.errors && !st.send_line) {
		vmp_diag_add(diag, name, 0, "no key is marked `send` (append `send` to the line of the key to send with)");
		st.errors++;
	}
	if (st.errors)
		r = -EINVAL;
	else
		*ret = st.keys;
	gnutls_memset(&st, 0, sizeof(st));
	return r;
}

int vmp_keys_load(const char *path, struct vmp_keys *ret, struct vmp_diag *diag)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_SECRET struct secret_buf buf = { NULL, FILE_MAX + 1 };
	struct stat st;
	size_t len = 0;

	/* O_NONBLOCK: a FIFO put there must not hang us before fstat tells that it is none of ours. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = errno;

		vmp_diag_add(diag, path, 0, "%s%s", strerror(err), err == ENOENT ?
			     " (make it with `vmpair keygen` on one node and copy it to the others)" : "");
		return -err;
	}
	if (!S_ISREG(st.st_mode)) {
		vmp_diag_add(diag, path, 0, "is not a regular file");
		return -EACCES;
	}
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		vmp_diag_add(diag, path, 0, "belongs to user %u, not to root (chown root %s; make new keys if others could read them)",
			     (unsigned int)st.st_uid, path);
		return -EACCES;
	}
	if (st.st_mode & 077) {
		vmp_diag_add(diag, path, 0, "has mode %04o, others may read or write it (chmod 0600 %s; make new keys if they could)",
			     (unsigned int)st.st_mode & 07777, path);
		return -EACCES;
	}
	buf.p = malloc(buf.size);
	if (!buf.p)
		return -ENOMEM;
	while (len < buf.size) {
		ssize_t n = read(fd, buf.p + len, buf.size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = errno;

			vmp_diag_add(diag, path, 0, "%s", strerror(err));
			return -err;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > FILE_MAX) {
		vmp_diag_add(diag, path, 0, "is longer than %d bytes, this is not a key file", FILE_MAX);
		return -EINVAL;
	}
	return vmp_keys_parse(path, buf.p, len, ret, diag);
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */
/* Opens the directory of path and locks it; *ret_base points into path. */
static int dir_lock(const char *path, int *ret_fd, const char **ret_base)
{
	CLEANUP_CLOSE int fd = -1;
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	if (len >= sizeof(dir))
		return -ENAMETOOLONG;
	if (!slash)
		strcpy(dir, ".");
	else if (len == 0)
		strcpy(dir, "/");
	else
		snprintf(dir, sizeof(dir), "%.*s", (int)len, path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	*ret_fd = TAKE_FD(fd);
	*ret_base = slash ? slash + 1 : path;
	return 0;
}

/* The directory of a new key file, where only that is missing: what is in it besides (domain XML) is no secret. */
static int dir_make(const char *path)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	if (!dir)
		return -ENOENT;
	return mkdir(dir, 0755) < 0 ? -errno : 0;
}

static int write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

struct save_how {
	const char *head;
	bool replace;
	uid_t uid; /* -1: stays the caller's */
	gid_t gid;
};

static int save_as(int dir, const char *base, const struct vmp_keys *keys, const struct save_how *how)
{
	CLEANUP_SECRET struct secret_buf buf = { NULL, strlen(how->head) + 1 + VMP_KEYS_MAX * 96 };
	CLEANUP_CLOSE int fd = -1;
	char tmp[NAME_MAX + 1];
	uint32_t rnd;
	size_t len;
	int r;

	buf.p = malloc(buf.size);
	if (!buf.p)
		return -ENOMEM;
	len = (size_t)snprintf(buf.p, buf.size, "%s", how->head);
	for (unsigned int i = 0; i < keys->count; i++) {
		len += (size_t)snprintf(buf.p + len, buf.size - len, "key %u ", keys->key[i].id);
		for (unsigned int b = 0; b < VMP_KEY_LEN; b++)
			len += (size_t)snprintf(buf.p + len, buf.size - len, "%02x", keys->key[i].secret[b]);
		len += (size_t)snprintf(buf.p + len, buf.size - len, "%s\n", i == keys->send ? " send" : "");
	}

	if (gnutls_rnd(GNUTLS_RND_NONCE, &rnd, sizeof(rnd)) != 0)
		return -EIO;
	if (snprintf(tmp, sizeof(tmp), ".%.200s.%08x", base, rnd) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, buf.p, len);
	if (r == 0 && how->uid != (uid_t)-1 && fchown(fd, how->uid, how->gid) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0) {
		/* link() refuses an existing name, rename() replaces it; both are atomic. */
		if (how->replace)
			r = renameat(dir, tmp, dir, base) < 0 ? -errno : 0;
		else
			r = linkat(dir, tmp, dir, base, 0) < 0 ? -errno : 0;
	}
	if (r < 0 || !how->replace)
		unlinkat(dir, tmp, 0);
	if (r == 0 && fsync(dir) < 0)
		r = -errno;
	return r;
}

static int save(int dir, const char *base, const struct vmp_keys *keys, bool replace)
{
	struct save_how how = { .replace = replace, .uid = (uid_t)-1,
				.head = "# Secrets of the vmpair daemons; the same on all nodes, mode 0600.\n"
					"# Written by `vmpair keygen` and `vmpair key`, which keep no other comments.\n"
					"# key ID SECRET [send]\n" };

	return save_as(dir, base, keys, &how);
}

int vmp_keys_write(const char *path, const struct vmp_keys *keys, uid_t uid, gid_t gid)
{
	struct save_how how = { .replace = true, .uid = uid, .gid = gid,
				.head = "# Made by vmpaird from the cluster's keys; it is written anew when they change.\n" };
	CLEANUP_CLOSE int dir = -1;
	const char *base;
	int r = dir_lock(path, &dir, &base);

	return r < 0 ? r : save_as(dir, base, keys, &how);
}

int vmp_keys_derive(const struct vmp_keys *keys, const char *purpose, const char *name, struct vmp_keys *ret)
{
	gnutls_datum_t salt = { (uint8_t *)(uintptr_t)purpose, (unsigned int)strlen(purpose) };
	gnutls_datum_t info = { (uint8_t *)(uintptr_t)name, (unsigned int)strlen(name) };
	CLEANUP_KEYS struct vmp_keys out = *keys;
	int r = 0;

	for (unsigned int i = 0; i < out.count && r == 0; i++) {
		uint8_t prk[32];
		gnutls_datum_t secret = { (uint8_t *)(uintptr_t)keys->key[i].secret, VMP_KEY_LEN }, prk_d = { prk, sizeof(prk) };

		r = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &secret, &salt, prk);
		if (r == 0)
			r = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &prk_d, &info, out.key[i].secret, VMP_KEY_LEN);
		gnutls_memset(prk, 0, sizeof(prk));
	}
	if (r != 0)
		return -EIO;
	*ret = out;
	return 0;
}

static int random_key(struct vmp_key *ret)
{
	return gnutls_rnd(GNUTLS_RND_KEY, ret->secret, sizeof(ret->secret)) == 0 ? 0 : -EIO;
}

int vmp_keys_generate(const char *path, bool force, struct vmp_diag *diag)
{
	CLEANUP_KEYS struct vmp_keys keys = { .count = 1 };
	CLEANUP_CLOSE int dir = -1;
	const char *base;
	int r;

	keys.key[0].id = 1;
	r = random_key(&keys.key[0]);
	if (r == 0)
		r = dir_lock(path, &dir, &base);
	if (r == -ENOENT && dir_make(path) == 0)
		r = dir_lock(path, &dir, &base);
	if (r == 0)
		r = save(dir, base, &keys, force);
	if (r == -EEXIST)
		vmp_diag_add(diag, path, 0, "exists already; replacing it cuts this node off from the others until all have the new "
			     "file (`vmpair key rotate` changes keys without that, --force replaces it)");
	else if (r < 0)
		vmp_diag_add(diag, path, 0, "%s", strerror(-r));
	return r;
}

/* Load, change, save, under the lock. The path is resolved first, so a symbolic link stays one. */
struct change {
	int (*fn)(struct vmp_keys *keys, void *arg);
	void *arg;
};

static int change_file(const char *path, const struct change *c, struct vmp_diag *diag)
{
	CLEANUP_KEYS struct vmp_keys keys = { 0 };
	CLEANUP_CLOSE int dir = -1;
	CLEANUP_FREE char *real = realpath(path, NULL);
	const char *base, *target = real ? real : path;
	int r;

	r = dir_lock(target, &dir, &base);
	if (r < 0) {
		vmp_diag_add(diag, path, 0, "%s", strerror(-r));
		return r;
	}
	r = vmp_keys_load(target, &keys, diag);
	if (r < 0)
		return r;
	r = c->fn(&keys, c->arg);
	if (r > 0)
		return 0;	/* nothing to change */
	if (r == 0)
		r = save(dir, base, &keys, true);
	switch (r) {
	case 0:
		break;
	case -ENOENT:
		vmp_diag_add(diag, path, 0, "has no key of that ID (`vmpair key list` shows them)");
		break;
	case -ENOSPC:
		vmp_diag_add(diag, path, 0, "holds %u keys already, or the disk is full (drop an old key: `vmpair key drop ID`)", keys.count);
		break;
	case -EBUSY:
		vmp_diag_add(diag, path, 0, "that key is the one sent with (choose another first: `vmpair key use ID`)");
		break;
	case -EEXIST:
		vmp_diag_add(diag, path, 0, "has another key under that ID (drop it, or copy the file from the other node)");
		break;
	default:
		vmp_diag_add(diag, path, 0, "%s", strerror(-r));
	}
	return r;
}

static int do_import(struct vmp_keys *keys, void *arg)
{
	const struct vmp_key *key = arg;
	int i = vmp_keys_find(keys, key->id);

	if (key->id == 0 || weak(key->secret))
		return -EINVAL;
	if (i >= 0)
		return gnutls_memcmp(keys->key[i].secret, key->secret, VMP_KEY_LEN) == 0 ? 1 : -EEXIST;
	if (keys->count == VMP_KEYS_MAX)
		return -ENOSPC;
	keys->key[keys->count++] = *key;
	return 0;
}

static int do_add(struct vmp_keys *keys, void *arg)
{
	struct vmp_key *key = arg;
	unsigned int id = keys->key[keys->send].id;

	/* Above all others, so that an ID is not soon used again for another secret; around at the end of the range. */
	for (unsigned int i = 0; i < keys->count; i++)
		if (keys->key[i].id > id)
			id = keys->key[i].id;
	do {
		id = id % UINT16_MAX + 1;
	} while (vmp_keys_find(keys, (uint16_t)id) >= 0);
	key->id = (uint16_t)id;
	return do_import(keys, key);
}

static int do_send(struct vmp_keys *keys, void *arg)
{
	int i = vmp_keys_find(keys, *(uint16_t *)arg);

	if (i < 0)
		return i;
	if (keys->send == (unsigned int)i)
		return 1;
	keys->send = (unsigned int)i;
	return 0;
}

static int do_drop(struct vmp_keys *keys, void *arg)
{
	int i = vmp_keys_find(keys, *(uint16_t *)arg);

	if (i < 0)
		return i;
	if (keys->send == (unsigned int)i)
		return -EBUSY;
	memmove(&keys->key[i], &keys->key[i + 1], (keys->count - (unsigned int)i - 1) * sizeof(keys->key[0]));
	keys->count--;
	gnutls_memset(&keys->key[keys->count], 0, sizeof(keys->key[0]));
	if (keys->send > (unsigned int)i)
		keys->send--;
	return 0;
}

int vmp_keys_add(const char *path, uint16_t *ret_id, struct vmp_diag *diag)
{
	struct vmp_key key = { 0 };
	int r;

	r = random_key(&key);
	if (r == 0)
		r = change_file(path, &(struct change){ do_add, &key }, diag);
	if (r == 0)
		*ret_id = key.id;
	gnutls_memset(&key, 0, sizeof(key));
	return r;
}

int vmp_keys_import(const char *path, uint16_t id, const uint8_t *secret, struct vmp_diag *diag)
{
	struct vmp_key key = { .id = id };
	int r;

	memcpy(key.secret, secret, VMP_KEY_LEN);
	r = change_file(path, &(struct change){ do_import, &key }, diag);
	gnutls_memset(&key, 0, sizeof(key));
	return r;
}

int vmp_keys_set_send(const char *path, uint16_t id, struct vmp_diag *diag)
{
	return change_file(path, &(struct change){ do_send, &id }, diag);
}

int vmp_keys_drop(const char *path, uint16_t id, struct vmp_diag *diag)
{
	return change_file(path, &(struct change){ do_drop, &id }, diag);
}
