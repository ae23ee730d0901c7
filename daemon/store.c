/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/store.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "internal/cleanup.h"
#include "internal/endian.h"

/*
 * File: slots 0 (node) and 1..VMP_STORE_PAIRS, each of two copies. A copy is little-endian and never crosses a page:
 *
 *     0 magic (4)   4 format (2)   6 kind (1)   7 node (1)   8 generation (8)   16 length (2)   18 zero (6)
 *     24 payload   240 SHA-256 of bytes 0..239, truncated to 16
 *
 * All zero: never written. Formats: 1 = vmpair 0.1.
 */
#define COPY 256
#define COPY_SUM 240
#define COPY_PAYLOAD 24
#define PAYLOAD_MAX (COPY_SUM - COPY_PAYLOAD)
#define SLOTS (1 + VMP_STORE_PAIRS)
#define FILE_SIZE ((off_t)SLOTS * 2 * COPY)
#define MAGIC 0x31524d56u	/* "VMR1" */
#define FORMAT 1
#define KIND_NODE 1
#define KIND_PAIR 2
#define NODE_LEN 41

#define DISK_GATHER_MS 100	/* values that come within this time share an fdatasync */
#define DISK_RETRY_MS 1000

_Static_assert(VMP_RECORD_MAX <= PAYLOAD_MAX, "a record fits into a copy");
_Static_assert(VMP_STORE_PAIRS >= VMP_MAX_PAIRS, "a slot for each pair of the core");
_Static_assert(VMP_STORE_VOTERS >= VMP_MAX_VOTERS, "room for all voters");

struct slot {
	uint64_t gen;		/* newest good generation; 0: never written */
	uint8_t copy;		/* where it is */
	uint64_t pair;
};

struct slotfile {
	int fd;
	uint8_t self;
	struct slot slot[SLOTS];
};

struct pending {
	bool dirty;
	uint16_t len;
	uint8_t payload[PAYLOAD_MAX];
};

struct vmp_store {
	uint8_t self;
	uint64_t boot;
	struct slotfile run;
	struct vmp_store_loaded run_loaded, disk_loaded;
	unsigned int n_failed;
	uint64_t failed[VMP_STORE_PAIRS];	/* pairs whose last put did not get into the runtime file */

	/* Of the disk thread, under `lock`; `disk` itself is touched by the thread only once it runs. */
	struct slotfile disk;
	uint64_t disk_pair[SLOTS];	/* pair of each slot, for the owner */
	bool thread_up;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake, done;
	struct pending pending[SLOTS];
	unsigned int dirty;
	unsigned int writing;		/* taken out of `pending`, not yet safe */
	uint64_t oldest_ns;		/* of what is dirty or being written */
	int disk_err;			/* last attempt; 0: fine */
	bool hurry, stop;
};

const char *vmp_store_state_str(enum vmp_store_state state)
{
	switch (state) {
	case VMP_STORE_ABSENT:
		return "absent";
	case VMP_STORE_SAME_BOOT:
		return "same boot";
	case VMP_STORE_OTHER_BOOT:
		return "earlier boot";
	case VMP_STORE_INCOMPLETE:
		return "incomplete";
	case VMP_STORE_DAMAGED:
		return "damaged";
	}
	return "?";
}

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* --- slots ---------------------------------------------------------------------------------------------------------------- */
static int checksum(const uint8_t *p, size_t len, uint8_t sum[16])
{
	uint8_t full[32];

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, p, len, full) != 0)
		return -EIO;
	memcpy(sum, full, 16);
	return 0;
}

static int pwrite_all(int fd, const uint8_t *p, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Writes the older copy. The slot's bookkeeping changes by slot_written() only, when the caller knows the write to be good. */
static int slot_write(const struct slotfile *f, unsigned int i, uint8_t kind, const uint8_t *payload, size_t len)
{
	const struct slot *s = &f->slot[i];
	uint8_t c[COPY] = { 0 };
	int r;

	put_le32(c, MAGIC);
	put_le16(c + 4, FORMAT);
	c[6] = kind;
	c[7] = f->self;
	put_le64(c + 8, s->gen + 1);
	put_le16(c + 16, (uint16_t)len);
	memcpy(c + COPY_PAYLOAD, payload, len);
	r = checksum(c, COPY_SUM, c + COPY_SUM);
	if (r < 0)
		return r;
	return pwrite_all(f->fd, c, sizeof(c), ((off_t)i * 2 + (s->gen ? !s->copy : 0)) * COPY);
}

static void slot_written(struct slotfile *f, unsigned int i)
{
	struct slot *s = &f->slot[i];

	s->copy = s->gen ? !s->copy : 0;
	s->gen++;
}

enum copy_state { COPY_EMPTY, COPY_GOOD, COPY_BAD };

static enum copy_state copy_check(const uint8_t *c, uint8_t self, uint8_t kind)
{
	static const uint8_t zero[COPY];
	uint8_t sum[16];

	if (memcmp(c, zero, COPY) == 0)
		return COPY_EMPTY;
	if (get_le32(c) != MAGIC || get_le16(c + 4) != FORMAT || c[6] != kind || c[7] != self || get_le64(c + 8) == 0 ||
	    get_le16(c + 16) > PAYLOAD_MAX || checksum(c, COPY_SUM, sum) < 0 || memcmp(sum, c + COPY_SUM, sizeof(sum)) != 0)
		return COPY_BAD;
	return COPY_GOOD;
}

static size_t node_encode(const struct vmp_store_node *n, uint8_t *p)
{
	put_le64(p, n->boot);
	put_le64(p + 8, n->inc);
	put_le64(p + 16, n->voter);
	put_le64(p + 24, n->config_version);
	put_le64(p + 32, n->epoch_max);
	p[40] = n->complete;
	return NODE_LEN;
}

static int node_decode(const uint8_t *p, size_t len, struct vmp_store_node *ret)
{
	if (len != NODE_LEN || p[40] > 1)
		return -EBADMSG;
	*ret = (struct vmp_store_node){
		.boot = get_le64(p), .inc = get_le64(p + 8), .voter = get_le64(p + 16), .config_version = get_le64(p + 24),
		.epoch_max = get_le64(p + 32), .complete = p[40],
	};
	return 0;
}

/*
 * Reads everything; sets the slots of f and what was found. strict: one bad copy is damage although the other is good (the
 * runtime file); else only a slot without a good copy is (the disk, where power may fail in the middle of a write).
 */
static int file_load(struct slotfile *f, uint64_t boot, bool strict, struct vmp_store_loaded *ret)
{
	CLEANUP_FREE uint8_t *buf = malloc((size_t)FILE_SIZE);
	bool damaged = false, node_known = false, any = false;
	struct stat st;
	size_t have = 0;

	memset(ret, 0, sizeof(*ret));
	memset(f->slot, 0, sizeof(f->slot));
	if (!buf)
		return -ENOMEM;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return 0;	/* ABSENT */
	if (st.st_size != FILE_SIZE)
		damaged = true;
	memset(buf, 0, (size_t)FILE_SIZE);
	while (have < (size_t)FILE_SIZE) {
		ssize_t n = pread(f->fd, buf + have, (size_t)FILE_SIZE - have, (off_t)have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	for (unsigned int i = 0; i < SLOTS; i++) {
		const uint8_t *best = NULL;
		unsigned int bad = 0;

		for (uint8_t c = 0; c < 2; c++) {
			const uint8_t *p = buf + ((size_t)i * 2 + c) * COPY;
			enum copy_state cs = copy_check(p, f->self, i ? KIND_PAIR : KIND_NODE);

			bad += cs == COPY_BAD;
			any |= cs != COPY_EMPTY;
			if (cs == COPY_GOOD && (!best || get_le64(p + 8) > f->slot[i].gen)) {
				best = p;
				f->slot[i].gen = get_le64(p + 8);
				f->slot[i].copy = c;
			}
		}
		if (bad && (strict || !best))
			damaged = true;
		if (!best)
			continue;
		if (i == 0) {
			node_known = node_decode(best + COPY_PAYLOAD, get_le16(best + 16), &ret->node) == 0;
			damaged |= !node_known;
		} else if (vmp_record_decode(best + COPY_PAYLOAD, get_le16(best + 16), &ret->record[ret->count]) == 0) {
			f->slot[i].pair = ret->record[ret->count++].pair;
		} else {
			damaged = true;
		}
	}
	/* One pair in two slots cannot come from us. */
	for (unsigned int i = 1; i < SLOTS; i++)
		for (unsigned int k = 1; k < i; k++)
			damaged |= f->slot[i].pair && f->slot[i].pair == f->slot[k].pair;

	if (damaged || (any && !node_known))
		ret->state = VMP_STORE_DAMAGED;
	else if (!any)
		ret->state = VMP_STORE_ABSENT;
	else if (!ret->node.complete)
		ret->state = VMP_STORE_INCOMPLETE;
	else
		ret->state = ret->node.boot == boot ? VMP_STORE_SAME_BOOT : VMP_STORE_OTHER_BOOT;
	return 0;
}

/* All blocks are there afterwards, so no later write can lack space. */
static int file_allocate(int fd)
{
	int r;

	do {
		r = posix_fallocate(fd, 0, FILE_SIZE);
	} while (r == EINTR);
	return -r;
}

static int dir_make(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (stat(dir, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int file_open(const char *dir, struct slotfile *f)
{
	CLEANUP_CLOSE int fd = -1;
	char path[512];
	int r;

	r = dir_make(dir);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/registers", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	f->fd = TAKE_FD(fd);
	return 0;
}

static int dir_sync(const char *dir)
{
	CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* --- the disk thread ------------------------------------------------------------------------------------------------------ */
/* Takes all dirty values, writes them and syncs. Called and left with the lock held. */
static void disk_write(struct vmp_store *s)
{
	struct { unsigned int i; struct pending p; } *job;
	unsigned int n = 0;
	int r = 0;

	job = malloc(s->dirty * sizeof(*job));
	if (!job) {
		s->disk_err = -ENOMEM;
		return;
	}
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (!s->pending[i].dirty)
			continue;
		job[n].i = i;
		job[n++].p = s->pending[i];
		s->pending[i].dirty = false;
	}
	s->writing = n;
	s->dirty = 0;
	pthread_mutex_unlock(&s->lock);

	for (unsigned int k = 0; k < n && r == 0; k++)
		r = slot_write(&s->disk, job[k].i, job[k].i ? KIND_PAIR : KIND_NODE, job[k].p.payload, job[k].p.len);
	if (r == 0 && fdatasync(s->disk.fd) < 0)
		r = -errno;
	for (unsigned int k = 0; k < n && r == 0; k++)
		slot_written(&s->disk, job[k].i);

	pthread_mutex_lock(&s->lock);
	s->writing = 0;
	s->disk_err = r;
	if (r < 0) {
		/* Again later, into the same copies; what came meanwhile is newer and stays. */
		for (unsigned int k = 0; k < n; k++)
			if (!s->pending[job[k].i].dirty) {
				s->pending[job[k].i] = job[k].p;
				s->dirty++;
			}
	} else {
		/* What came meanwhile is younger than this. */
		s->oldest_ns = s->dirty ? monotonic_ns() : 0;
	}
	free(job);
}

static void wait_ms(struct vmp_store *s, unsigned int ms)
{
	struct timespec ts;
	uint64_t at = monotonic_ns() + ms * 1000000ULL;

	ts.tv_sec = (time_t)(at / 1000000000ULL);
	ts.tv_nsec = (long)(at % 1000000000ULL);
	while (!s->stop && !s->hurry)
		if (pthread_cond_timedwait(&s->wake, &s->lock, &ts) == ETIMEDOUT)
			break;
}

static void *disk_thread(void *arg)
{
	struct vmp_store *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->dirty && !s->stop)
			pthread_cond_wait(&s->wake, &s->lock);
		if (s->dirty) {
			wait_ms(s, DISK_GATHER_MS);
			disk_write(s);
			s->hurry = false;
			pthread_cond_broadcast(&s->done);
		}
		if (s->stop)
			break;
		if (s->disk_err < 0)
			wait_ms(s, DISK_RETRY_MS);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int thread_start(struct vmp_store *s)
{
	struct sched_param prio = { 0 };
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	/* Neither signals nor the real-time priority of the loop belong here. */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &prio);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, &attr, disk_thread, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	s->thread_up = r == 0;
	return -r;
}

/* A slot for the pair in the disk file: the owner's map decides, the thread only gets slot numbers. */
static int pair_slot(uint64_t *pairs, uint64_t pair)
{
	int free_slot = -ENOSPC;

	for (int i = 1; i < SLOTS; i++) {
		if (pairs[i] == pair)
			return i;
		if (!pairs[i] && free_slot < 0)
			free_slot = i;
	}
	return free_slot;
}

static void disk_queue(struct vmp_store *s, unsigned int i, const uint8_t *payload, size_t len)
{
	pthread_mutex_lock(&s->lock);
	if (!s->dirty && !s->writing)
		s->oldest_ns = monotonic_ns();
	if (!s->pending[i].dirty) {
		s->pending[i].dirty = true;
		s->dirty++;
	}
	s->pending[i].len = (uint16_t)len;
	memcpy(s->pending[i].payload, payload, len);
	if (s->thread_up)
		pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */
static int run_open(struct vmp_store *s, const char *dir, char *reason, size_t size)
{
	struct vmp_store_node fresh = { .boot = s->boot };
	uint8_t payload[PAYLOAD_MAX];
	int r;

	r = file_open(dir, &s->run);
	if (r < 0) {
		snprintf(reason, size, "%s/registers: %s%s", dir, strerror(-r), r == -EBUSY ? " (another vmpaird uses it)" : "");
		return r;
	}
	r = file_load(&s->run, s->boot, true, &s->run_loaded);
	if (r == 0 && s->run_loaded.state != VMP_STORE_SAME_BOOT && s->run_loaded.state != VMP_STORE_INCOMPLETE) {
		/* Begin anew. A crash on the way leaves something that is not SAME_BOOT either. */
		memset(s->run.slot, 0, sizeof(s->run.slot));
		if (ftruncate(s->run.fd, 0) < 0)
			r = -errno;
	}
	if (r == 0)
		r = file_allocate(s->run.fd);
	if (r == 0 && s->run_loaded.state != VMP_STORE_SAME_BOOT) {
		r = slot_write(&s->run, 0, KIND_NODE, payload, node_encode(&fresh, payload));
		if (r == 0)
			slot_written(&s->run, 0);
	}
	if (r < 0)
		snprintf(reason, size, "%s/registers: %s%s", dir, strerror(-r), r == -ENOSPC ? " (free some space there)" : "");
	return r;
}

/*
 * A damaged file is made anew from what could be read, not complete, so that it stays known as such until the voter has recovered
 * its registers from the others. By rename: a power failure leaves the one or the other.
 */
static int disk_mend(struct vmp_store *s, const char *dir)
{
	CLEANUP_CLOSE int fd = -1;
	struct slotfile f = { .self = s->self };
	struct vmp_store_node node = s->disk_loaded.node;
	uint8_t payload[PAYLOAD_MAX];
	char path[512], tmp[520];
	int r;

	snprintf(path, sizeof(path), "%s/registers", dir);	/* was short enough for file_open() */
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	f.fd = fd;
	node.complete = false;
	r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : file_allocate(fd);
	if (r == 0)
		r = slot_write(&f, 0, KIND_NODE, payload, node_encode(&node, payload));
	if (r == 0)
		slot_written(&f, 0);
	for (unsigned int i = 0; i < s->disk_loaded.count && r == 0; i++) {
		int len = vmp_record_encode(&s->disk_loaded.record[i], payload, sizeof(payload));

		r = len < 0 ? len : slot_write(&f, i + 1, KIND_PAIR, payload, (size_t)len);
		if (r == 0) {
			slot_written(&f, i + 1);
			f.slot[i + 1].pair = s->disk_loaded.record[i].pair;
		}
	}
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	close(s->disk.fd);
	s->disk = f;
	(void)TAKE_FD(fd);
	return 0;
}

static int disk_open(struct vmp_store *s, const char *dir)
{
	int r;

	r = file_open(dir, &s->disk);
	if (r == 0)
		r = file_load(&s->disk, s->boot, false, &s->disk_loaded);
	if (r == 0)
		r = s->disk_loaded.state == VMP_STORE_DAMAGED ? disk_mend(s, dir) : file_allocate(s->disk.fd);
	if (r == 0)
		r = dir_sync(dir);
	for (unsigned int i = 0; i < SLOTS; i++)
		s->disk_pair[i] = s->disk.slot[i].pair;
	return r;
}

/* What a killed daemon had put into the runtime file but not yet on disk. */
static void disk_catch_up(struct vmp_store *s)
{
	const struct vmp_store_loaded *l = &s->run_loaded;
	uint8_t payload[PAYLOAD_MAX];

	if (l->state != VMP_STORE_SAME_BOOT && l->state != VMP_STORE_INCOMPLETE)
		return;
	for (unsigned int i = 0; i < l->count; i++) {
		int at = pair_slot(s->disk_pair, l->record[i].pair);
		int len = vmp_record_encode(&l->record[i], payload, sizeof(payload));

		if (at > 0 && len > 0) {
			s->disk_pair[at] = l->record[i].pair;
			disk_queue(s, (unsigned int)at, payload, (size_t)len);
		}
	}
	if (l->state == VMP_STORE_SAME_BOOT)
		disk_queue(s, 0, payload, node_encode(&l->node, payload));
}

int vmp_store_new(struct vmp_store **ret, const struct vmp_store_param *param, char *reason, size_t reason_size)
{
	struct vmp_store *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;
	int r;

	if (!s) {
		snprintf(reason, reason_size, "out of memory");
		return -ENOMEM;
	}
	s->self = s->run.self = s->disk.self = param->self;
	s->boot = param->boot;
	s->run.fd = s->disk.fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_cond_init(&s->done, &attr);
	pthread_condattr_destroy(&attr);

	r = run_open(s, param->runtime_dir, reason, reason_size);
	if (r == 0) {
		r = disk_open(s, param->state_dir);
		if (r == -EBUSY)
			snprintf(reason, reason_size, "%s/registers: another vmpaird uses it", param->state_dir);
		else if (r < 0 && s->disk.fd < 0) {
			s->disk_err = r;	/* told by disk_status; only a restart opens it again */
			r = 0;
		} else {
			s->disk_err = r;	/* no space yet: tried again with each write */
			disk_catch_up(s);
			r = thread_start(s);
			if (r < 0)
				snprintf(reason, reason_size, "cannot start a thread: %s", strerror(-r));
		}
	}
	if (r < 0) {
		vmp_store_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct vmp_store *vmp_store_free(struct vmp_store *s)
{
	if (!s)
		return NULL;
	if (s->thread_up) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_broadcast(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	if (s->run.fd >= 0)
		close(s->run.fd);
	if (s->disk.fd >= 0)
		close(s->disk.fd);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->done);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

const struct vmp_store_loaded *vmp_store_run(const struct vmp_store *s)
{
	return &s->run_loaded;
}

const struct vmp_store_loaded *vmp_store_disk(const struct vmp_store *s)
{
	return &s->disk_loaded;
}

/* --- values ---------------------------------------------------------------------------------------------------------------- */
static void note_result(struct vmp_store *s, uint64_t pair, bool ok)
{
	unsigned int i = 0;

	while (i < s->n_failed && s->failed[i] != pair)
		i++;
	if (ok && i < s->n_failed)
		s->failed[i] = s->failed[--s->n_failed];
	else if (!ok && i == s->n_failed && i < VMP_STORE_PAIRS)
		s->failed[s->n_failed++] = pair;
}

int vmp_store_put(struct vmp_store *s, const struct vmp_record *rec)
{
	uint64_t pairs[SLOTS];
	uint8_t payload[PAYLOAD_MAX];
	int len, i, r;

	if (!rec->pair)
		return -EINVAL;
	len = vmp_record_encode(rec, payload, sizeof(payload));
	if (len < 0)
		return len;
	for (unsigned int k = 0; k < SLOTS; k++)
		pairs[k] = s->run.slot[k].pair;
	i = pair_slot(pairs, rec->pair);
	if (i < 0)
		return i;
	r = slot_write(&s->run, (unsigned int)i, KIND_PAIR, payload, (size_t)len);
	note_result(s, rec->pair, r == 0);
	if (r < 0)
		return r;
	slot_written(&s->run, (unsigned int)i);
	s->run.slot[i].pair = rec->pair;

	if (s->disk.fd < 0)
		return 0;
	/* Whether the disk has room is not the business of the reply that waits for this. */
	i = pair_slot(s->disk_pair, rec->pair);
	if (i > 0) {
		s->disk_pair[i] = rec->pair;
		disk_queue(s, (unsigned int)i, payload, (size_t)len);
	}
	return 0;
}

int vmp_store_put_node(struct vmp_store *s, const struct vmp_store_node *node)
{
	struct vmp_store_node n = *node;
	uint8_t payload[PAYLOAD_MAX];
	size_t len;
	int r;

	if (n.complete && s->n_failed)
		return -EAGAIN;
	n.boot = s->boot;
	len = node_encode(&n, payload);
	r = slot_write(&s->run, 0, KIND_NODE, payload, len);
	if (r < 0)
		return r;
	slot_written(&s->run, 0);
	if (s->disk.fd >= 0)
		disk_queue(s, 0, payload, len);
	return 0;
}

int vmp_store_disk_status(struct vmp_store *s, uint64_t *ret_age_ms)
{
	int r;

	pthread_mutex_lock(&s->lock);
	/* Never 0 while something is on its way. */
	*ret_age_ms = s->dirty || s->writing ? (monotonic_ns() - s->oldest_ns) / 1000000 + 1 : 0;
	r = s->disk_err;
	pthread_mutex_unlock(&s->lock);
	return r;
}

int vmp_store_flush(struct vmp_store *s, unsigned int timeout_ms)
{
	uint64_t at = monotonic_ns() + timeout_ms * 1000000ULL;
	struct timespec ts = { (time_t)(at / 1000000000ULL), (long)(at % 1000000000ULL) };
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (!s->thread_up)
		r = s->disk_err;
	while (r == 0 && (s->dirty || s->writing)) {
		s->hurry = true;
		pthread_cond_broadcast(&s->wake);
		if (pthread_cond_timedwait(&s->done, &s->lock, &ts) == ETIMEDOUT)
			r = s->disk_err ? s->disk_err : -ETIMEDOUT;
		else if (s->disk_err)
			r = s->disk_err;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* --- identity and voter set --------------------------------------------------------------------------------------------------- */
#define VOTER_MAX 2048

static void voter_sum(const char *text, size_t len, char hex[33])
{
	uint8_t sum[16] = { 0 };

	checksum((const uint8_t *)text, len, sum);
	for (unsigned int i = 0; i < sizeof(sum); i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

static int hex64(const char *w, uint64_t *ret)
{
	uint64_t v = 0;

	if (strlen(w) != 16)
		return -EBADMSG;
	for (; *w; w++) {
		unsigned int d = *w >= '0' && *w <= '9' ? (unsigned int)(*w - '0') : *w >= 'a' && *w <= 'f' ? (unsigned int)(*w - 'a' + 10) : 16;

		if (d == 16)
			return -EBADMSG;
		v = v << 4 | d;
	}
	*ret = v;
	return 0;
}

/* The text without its checksum line. Damage cannot get this far unless the file was made by hand, but nothing is taken on trust. */
static int voter_parse(char *text, struct vmp_store_voter *ret)
{
	struct vmp_store_voter v = { 0 };
	char *save = NULL, *line = strtok_r(text, "\n", &save);
	unsigned long long version;
	char word[17];
	int end;

	if (!line || strcmp(line, "vmpair-voter 1") != 0)
		return -EBADMSG;
	line = strtok_r(NULL, "\n", &save);
	if (!line || sscanf(line, "voter %16s%n", word, &end) != 1 || line[end] || hex64(word, &v.voter) < 0 || !v.voter)
		return -EBADMSG;
	line = strtok_r(NULL, "\n", &save);
	if (!line || sscanf(line, "version %llu%n", &version, &end) != 1 || line[end])
		return -EBADMSG;
	v.version = version;
	while ((line = strtok_r(NULL, "\n", &save))) {
		unsigned int node;
		uint64_t id;
		char kind[8];

		if (sscanf(line, "%7s %u %16s%n", kind, &node, word, &end) != 3 || line[end] || node < 1 || node > 255 || hex64(word, &id) < 0)
			return -EBADMSG;
		if (!strcmp(kind, "member") && v.count < VMP_STORE_VOTERS) {
			v.set[v.count].voter = id;
			v.set[v.count++].node = (uint8_t)node;
		} else if (!strcmp(kind, "before") && v.count_before < VMP_STORE_VOTERS) {
			v.before[v.count_before].voter = id;
			v.before[v.count_before++].node = (uint8_t)node;
		} else {
			return -EBADMSG;
		}
	}
	*ret = v;
	return 0;
}

int vmp_store_voter_load(const char *state_dir, struct vmp_store_voter *ret)
{
	CLEANUP_CLOSE int fd = -1;
	char path[512], text[VOTER_MAX], hex[33], *sum;
	size_t len = 0;

	if (snprintf(path, sizeof(path), "%s/voter", state_dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	while (len < sizeof(text) - 1) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	if (memchr(text, '\0', len))
		return -EBADMSG;
	/* Last line: checksum of all before it. */
	if (len < 42 || text[len - 1] != '\n')
		return -EBADMSG;
	text[len - 1] = '\0';
	sum = strrchr(text, '\n');
	if (!sum || strncmp(sum + 1, "sum ", 4) != 0)
		return -EBADMSG;
	voter_sum(text, (size_t)(sum + 1 - text), hex);
	if (strcmp(sum + 5, hex) != 0)
		return -EBADMSG;
	sum[1] = '\0';
	return voter_parse(text, ret);
}

int vmp_store_voter_save(const char *state_dir, const struct vmp_store_voter *v)
{
	CLEANUP_CLOSE int fd = -1;
	char path[512], tmp[520], text[VOTER_MAX], hex[33];
	size_t n;
	int r;

	if (!v->voter || v->count > VMP_STORE_VOTERS || v->count_before > VMP_STORE_VOTERS)
		return -EINVAL;
	if (snprintf(path, sizeof(path), "%s/voter", state_dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	r = dir_make(state_dir);
	if (r < 0)
		return r;
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	n = (size_t)snprintf(text, sizeof(text), "vmpair-voter 1\nvoter %016llx\nversion %llu\n", (unsigned long long)v->voter,
			     (unsigned long long)v->version);
	for (unsigned int i = 0; i < v->count; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "member %u %016llx\n", v->set[i].node,
				      (unsigned long long)v->set[i].voter);
	for (unsigned int i = 0; i < v->count_before; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "before %u %016llx\n", v->before[i].node,
				      (unsigned long long)v->before[i].voter);
	voter_sum(text, n, hex);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "sum %s\n", hex);

	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = pwrite_all(fd, (const uint8_t *)text, n, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	return dir_sync(state_dir);
}

int vmp_store_voter_get(const char *state_dir, struct vmp_store_voter *ret, bool *ret_created)
{
	struct vmp_store_voter v = { 0 };
	int r;

	r = vmp_store_voter_load(state_dir, ret);
	if (r != -ENOENT) {
		if (r == 0)
			*ret_created = false;
		/* The daemon before may have died between rename and this; what is read may be said now, and has to outlive a power cut. */
		return r ? r : dir_sync(state_dir);
	}
	do {
		if (gnutls_rnd(GNUTLS_RND_NONCE, &v.voter, sizeof(v.voter)) != 0)
			return -EIO;
	} while (!v.voter);
	r = vmp_store_voter_save(state_dir, &v);
	if (r < 0)
		return r;
	*ret = v;
	*ret_created = true;
	return 0;
}

static uint64_t fnv(uint64_t h, const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ ((const uint8_t *)p)[i]) * 1099511628211ULL;
	return h;
}

/* The random number of the runtime directory, made when it is not there. */
static int boot_nonce(const char *dir, uint64_t *ret)
{
	CLEANUP_CLOSE int fd = -1;
	char path[512], tmp[520];
	uint64_t v;
	int r;

	r = dir_make(dir);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/boot", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0) {
		if (read(fd, &v, sizeof(v)) == sizeof(v)) {
			*ret = v;
			return 0;
		}
		close(TAKE_FD(fd));
	} else if (errno != ENOENT) {
		return -errno;
	}
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	if (gnutls_rnd(GNUTLS_RND_NONCE, &v, sizeof(v)) != 0)
		return -EIO;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = pwrite_all(fd, (const uint8_t *)&v, sizeof(v), 0);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	*ret = v;
	return 0;
}

int vmp_store_boot(const char *runtime_dir, uint64_t *ret)
{
	CLEANUP_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	uint64_t nonce, h;
	char text[64];
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text));
	if (n < 0)
		return -errno;
	if (n < 36)
		return -EIO;
	r = boot_nonce(runtime_dir, &nonce);
	if (r < 0)
		return r;
	h = fnv(fnv(14695981039346656037ULL, text, 36), &nonce, sizeof(nonce));
	*ret = h ? h : 1;
	return 0;
}
