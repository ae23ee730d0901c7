/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes fail where a test says so: pwrite and fdatasync are wrapped by the linker. One test uses a file system that is really full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon/store.h"
#include "daemon/wire.h"
#include "tests/unit/msggen.h"
#include "tests/unit/testdir.h"

#define BOOT 0xb007
#define COPY 256
#define SLOT (2 * COPY)

/* --- faults ------------------------------------------------------------------------------------------------------------- */
static atomic_int write_error, sync_error, syncs, torn;

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (torn) {	/* part of it gets there, then the power fails */
		(void)!__real_pwrite(fd, p, n / 2, at);
		errno = EIO;
		return -1;
	}
	if (write_error) {
		errno = write_error;
		return -1;
	}
	return __real_pwrite(fd, p, n, at);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	syncs++;
	if (sync_error) {
		errno = sync_error;
		return -1;
	}
	return __real_fdatasync(fd);
}

/* --- fixtures ----------------------------------------------------------------------------------------------------------- */
static char run_dir[160], state_dir[160];
static char reason[256];

static int begin(void **state)
{
	static unsigned int n;

	(void)state;
	write_error = sync_error = syncs = torn = 0;
	snprintf(run_dir, sizeof(run_dir), "%s/run%u", testdir, n);
	snprintf(state_dir, sizeof(state_dir), "%s/state%u", testdir, n++);
	return 0;
}

static int try_open(struct vmp_store **s, uint64_t boot, uint8_t self)
{
	struct vmp_store_param p = { run_dir, state_dir, self, boot };

	reason[0] = '\0';
	return vmp_store_new(s, &p, reason, sizeof(reason));
}

static struct vmp_store *store_open(uint64_t boot)
{
	struct vmp_store *s = NULL;

	if (try_open(&s, boot, 1) < 0)
		fail_msg("vmp_store_new: %s", reason);
	return s;
}

static struct vmp_record record(uint64_t pair, uint64_t seq)
{
	struct vmp_record r;

	gen_state = pair * 1000 + seq + 1;
	gen_record(&r);
	r.pair = pair;
	r.state.seq = seq;
	return r;
}

static void put(struct vmp_store *s, uint64_t pair, uint64_t seq)
{
	struct vmp_record r = record(pair, seq);

	assert_int_equal(vmp_store_put(s, &r), 0);
}

static void complete(struct vmp_store *s)
{
	struct vmp_store_node n = { .inc = 7, .voter = 8, .config_version = 9, .epoch_max = 10, .complete = true };

	assert_int_equal(vmp_store_put_node(s, &n), 0);
}

static void assert_has(const struct vmp_store_loaded *l, uint64_t pair, uint64_t seq)
{
	struct vmp_record want = record(pair, seq);

	for (unsigned int i = 0; i < l->count; i++)
		if (l->record[i].pair == pair) {
			assert_memory_equal(&l->record[i], &want, sizeof(want));
			return;
		}
	fail_msg("pair %u is missing", (unsigned int)pair);
}

static const char *registers(const char *dir)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/registers", dir);
	return path;
}

static void poke(const char *dir, off_t at, uint8_t xor)
{
	int fd = open(registers(dir), O_RDWR | O_CLOEXEC);
	uint8_t b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= xor;
	assert_int_equal(__real_pwrite(fd, &b, 1, at), 1);
	close(fd);
}

/* A daemon that is killed: nothing is flushed by vmp_store_free(). */
static void in_killed_child(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		fn();
		raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- runtime file --------------------------------------------------------------------------------------------------------- */
static void first_start(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	struct stat st;

	(void)state;
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_ABSENT);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_ABSENT);
	assert_int_equal(vmp_store_run(s)->count, 0);
	assert_int_equal(stat(run_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(registers(run_dir), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true((off_t)st.st_blocks * 512 >= st.st_size);	/* allocated */
	vmp_store_free(s);
}

static void same_boot(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	const struct vmp_store_loaded *l;

	(void)state;
	for (unsigned int i = 0; i < 5; i++)
		put(s, 100, i);
	put(s, 200, 1);
	complete(s);
	vmp_store_free(s);
	s = store_open(BOOT);
	l = vmp_store_run(s);
	assert_int_equal(l->state, VMP_STORE_SAME_BOOT);
	assert_int_equal(l->count, 2);
	assert_has(l, 100, 4);
	assert_has(l, 200, 1);
	assert_int_equal(l->node.boot, BOOT);
	assert_int_equal(l->node.inc, 7);
	assert_int_equal(l->node.voter, 8);
	assert_int_equal(l->node.epoch_max, 10);
	/* The values go on from there. */
	put(s, 100, 5);
	vmp_store_free(s);
	s = store_open(BOOT);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_SAME_BOOT);
	assert_has(vmp_store_run(s), 100, 5);
	vmp_store_free(s);
}

static void write_and_die(void)
{
	struct vmp_store *s = store_open(BOOT);

	complete(s);
	for (unsigned int i = 0; i < 50; i++)
		put(s, 1 + i % 3, i);
}

static void killed(void **state)
{
	struct vmp_store *s;

	(void)state;
	in_killed_child(write_and_die);
	s = store_open(BOOT);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_SAME_BOOT);
	assert_has(vmp_store_run(s), 1, 48);
	assert_has(vmp_store_run(s), 2, 49);
	assert_has(vmp_store_run(s), 3, 47);
	/* What had not reached the disk before the kill does now, without a new put. */
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	vmp_store_free(s);
	s = store_open(BOOT + 1);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_OTHER_BOOT);
	assert_has(vmp_store_disk(s), 2, 49);
	vmp_store_free(s);
}

/* X2: the abstention had not ended when the daemon died; so it must begin again. */
static void crash_while_abstaining(void **state)
{
	struct vmp_store *s = store_open(BOOT);

	(void)state;
	put(s, 1, 1);
	complete(s);
	vmp_store_free(s);
	s = store_open(BOOT + 1);	/* rebooted */
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_OTHER_BOOT);
	put(s, 1, 2);
	vmp_store_free(s);
	s = store_open(BOOT + 1);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_INCOMPLETE);
	assert_has(vmp_store_run(s), 1, 2);
	vmp_store_free(s);
	s = store_open(BOOT + 1);	/* again: it does not turn complete by itself */
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_INCOMPLETE);
	assert_has(vmp_store_run(s), 1, 2);
	complete(s);
	vmp_store_free(s);
	s = store_open(BOOT + 1);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_SAME_BOOT);
	vmp_store_free(s);
}

static void one_daemon_only(void **state)
{
	struct vmp_store *s = store_open(BOOT), *t = NULL;

	(void)state;
	assert_int_equal(try_open(&t, BOOT, 1), -EBUSY);
	assert_null(t);
	assert_non_null(strstr(reason, "another vmpaird uses it"));
	vmp_store_free(s);
	s = store_open(BOOT);
	vmp_store_free(s);
}

/* Any flipped bit of a used copy is damage, the newer and the older one alike; the good copy is handed over. */
static void flipped_bits(void **state)
{
	struct vmp_store *s;

	(void)state;
	for (unsigned int i = 0; i < 2 * COPY; i += 7) {
		begin(state);
		s = store_open(BOOT);
		put(s, 1, 1);
		put(s, 1, 2);
		complete(s);
		vmp_store_free(s);
		poke(run_dir, SLOT + i, 0x10);
		s = store_open(BOOT);
		assert_int_equal(vmp_store_run(s)->state, VMP_STORE_DAMAGED);
		assert_int_equal(vmp_store_run(s)->count, 1);
		assert_has(vmp_store_run(s), 1, i < COPY ? 2 : 1);
		vmp_store_free(s);
		s = store_open(BOOT);	/* made anew, not complete */
		assert_int_equal(vmp_store_run(s)->state, VMP_STORE_INCOMPLETE);
		assert_int_equal(vmp_store_run(s)->count, 0);
		vmp_store_free(s);
	}
	begin(state);
	s = store_open(BOOT);
	put(s, 1, 1);
	complete(s);
	vmp_store_free(s);
	poke(run_dir, 20 * SLOT + 100, 1);	/* in a slot never written */
	s = store_open(BOOT);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_DAMAGED);
	vmp_store_free(s);
}

static void wrong_size_or_owner(void **state)
{
	struct vmp_store *s = store_open(BOOT), *t = NULL;

	(void)state;
	put(s, 1, 1);
	complete(s);
	vmp_store_free(s);
	assert_int_equal(try_open(&t, BOOT, 2), 0);	/* another node's file */
	assert_int_equal(vmp_store_run(t)->state, VMP_STORE_DAMAGED);
	assert_int_equal(vmp_store_run(t)->count, 0);
	complete(t);
	vmp_store_free(t);
	assert_int_equal(truncate(registers(run_dir), 1000), 0);
	assert_int_equal(try_open(&t, BOOT, 2), 0);
	assert_int_equal(vmp_store_run(t)->state, VMP_STORE_DAMAGED);
	vmp_store_free(t);
}

static void torn_write(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	struct vmp_record r = record(1, 3);

	(void)state;
	put(s, 1, 1);
	put(s, 1, 2);
	complete(s);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	torn = 1;
	assert_int_equal(vmp_store_put(s, &r), -EIO);	/* so nothing was replied */
	torn = 0;
	vmp_store_free(s);
	s = store_open(BOOT);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_DAMAGED);
	assert_has(vmp_store_run(s), 1, 2);	/* never a mixture */
	vmp_store_free(s);
}

static void write_errors(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	struct vmp_record r = record(1, 2);
	struct vmp_store_node n = { .complete = true };

	(void)state;
	put(s, 1, 1);
	complete(s);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	write_error = EIO;
	assert_int_equal(vmp_store_put(s, &r), -EIO);
	write_error = ENOSPC;
	assert_int_equal(vmp_store_put(s, &r), -ENOSPC);
	n.complete = false;
	assert_int_equal(vmp_store_put_node(s, &n), -ENOSPC);
	n.complete = true;
	write_error = 0;
	/* Not called complete while a record is missing in it. */
	assert_int_equal(vmp_store_put_node(s, &n), -EAGAIN);
	vmp_store_free(s);
	s = store_open(BOOT);
	assert_int_equal(vmp_store_run(s)->state, VMP_STORE_SAME_BOOT);
	assert_has(vmp_store_run(s), 1, 1);
	write_error = EIO;
	assert_int_equal(vmp_store_put(s, &r), -EIO);
	write_error = 0;
	assert_int_equal(vmp_store_put(s, &r), 0);
	assert_int_equal(vmp_store_put_node(s, &n), 0);
	vmp_store_free(s);
	s = store_open(BOOT);
	assert_has(vmp_store_run(s), 1, 2);
	r.pair = 0;
	assert_int_equal(vmp_store_put(s, &r), -EINVAL);
	vmp_store_free(s);
}

static void all_slots(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	struct vmp_record r = record(1000, 1);

	(void)state;
	for (unsigned int i = 1; i <= VMP_STORE_PAIRS; i++)
		put(s, i, i);
	assert_int_equal(vmp_store_put(s, &r), -ENOSPC);
	put(s, 5, 6);	/* those that are there go on */
	complete(s);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	vmp_store_free(s);
	s = store_open(BOOT);
	assert_int_equal(vmp_store_run(s)->count, VMP_STORE_PAIRS);
	assert_int_equal(vmp_store_disk(s)->count, VMP_STORE_PAIRS);
	assert_has(vmp_store_run(s), VMP_STORE_PAIRS, VMP_STORE_PAIRS);
	assert_has(vmp_store_disk(s), 5, 6);
	vmp_store_free(s);
}

/* --- disk ------------------------------------------------------------------------------------------------------------------ */
static uint64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Without a flush: the newest value is on disk within the second, with few syncs. */
static void reaches_the_disk(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	uint64_t age, start = ms_now();

	(void)state;
	for (unsigned int i = 0; i < 1000; i++)
		put(s, 1 + i % 4, i);
	while (vmp_store_disk_status(s, &age) == 0 && age)
		usleep(1000);
	assert_int_equal(vmp_store_disk_status(s, &age), 0);
	assert_in_range(ms_now() - start, 0, VMP_STORE_DISK_MS);
	assert_in_range(syncs, 1, 10);
	complete(s);
	vmp_store_free(s);	/* writes what is pending */
	s = store_open(BOOT + 1);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_OTHER_BOOT);
	assert_int_equal(vmp_store_disk(s)->count, 4);
	assert_has(vmp_store_disk(s), 4, 999);
	vmp_store_free(s);
}

/* A disk that fails delays nobody, is told, and is caught up with when it works again. */
static void disk_fails(void **state)
{
	struct vmp_store *s = store_open(BOOT);
	uint64_t age, start;

	(void)state;
	put(s, 1, 1);
	complete(s);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	sync_error = EIO;
	put(s, 1, 2);
	assert_int_equal(vmp_store_flush(s, 5000), -EIO);
	start = ms_now();
	for (unsigned int i = 3; i < 200; i++)
		put(s, 1, i);
	assert_in_range(ms_now() - start, 0, 500);
	assert_int_equal(vmp_store_disk_status(s, &age), -EIO);
	sync_error = 0;
	/* It tries again by itself. */
	start = ms_now();
	while (vmp_store_disk_status(s, &age) < 0 || age) {
		assert_in_range(ms_now() - start, 0, 5000);
		usleep(1000);
	}
	vmp_store_free(s);
	s = store_open(BOOT + 1);
	assert_has(vmp_store_disk(s), 1, 199);
	vmp_store_free(s);
}

/* Power fails in the middle of a write to disk: the value before it is there. */
static void disk_torn(void **state)
{
	struct vmp_store *s = store_open(BOOT);

	(void)state;
	put(s, 1, 1);
	complete(s);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	put(s, 1, 2);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	vmp_store_free(s);
	poke(state_dir, SLOT + COPY + 50, 0xff);	/* the copy of the second value */
	s = store_open(BOOT + 1);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_OTHER_BOOT);
	assert_has(vmp_store_disk(s), 1, 1);
	put(s, 1, 3);
	complete(s);
	vmp_store_free(s);
	s = store_open(BOOT + 2);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_OTHER_BOOT);
	assert_has(vmp_store_disk(s), 1, 3);
	vmp_store_free(s);
}

/* A record lost for good: known as such until the voter has recovered. */
static void disk_damaged(void **state)
{
	struct vmp_store *s = store_open(BOOT);

	(void)state;
	put(s, 1, 1);
	put(s, 2, 1);
	complete(s);
	assert_int_equal(vmp_store_flush(s, 5000), 0);
	vmp_store_free(s);
	poke(state_dir, SLOT + 50, 0xff);
	s = store_open(BOOT + 1);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_DAMAGED);
	assert_int_equal(vmp_store_disk(s)->count, 1);
	assert_has(vmp_store_disk(s), 2, 1);
	vmp_store_free(s);
	s = store_open(BOOT + 2);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_INCOMPLETE);
	assert_has(vmp_store_disk(s), 2, 1);
	put(s, 1, 9);
	complete(s);
	vmp_store_free(s);
	s = store_open(BOOT + 3);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_OTHER_BOOT);
	assert_has(vmp_store_disk(s), 1, 9);
	assert_has(vmp_store_disk(s), 2, 1);
	vmp_store_free(s);
}

/* --- file systems that are full or not writable ------------------------------------------------------------------------------- */
static void full_runtime_dir(void **state)
{
	struct vmp_store *s = NULL;
	char opt[64];
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* A mount namespace of its own: the tmpfs goes with this process. */
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mkdir(run_dir, 0700) < 0)
			_exit(77);
		snprintf(opt, sizeof(opt), "size=16k,mode=0700");
		if (mount("tmpfs", run_dir, "tmpfs", 0, opt) < 0)
			_exit(77);
		if (try_open(&s, BOOT, 1) != -ENOSPC || s || !strstr(reason, "free some space there"))
			_exit(1);
		snprintf(opt, sizeof(opt), "size=64k");
		if (mount(NULL, run_dir, NULL, MS_REMOUNT, opt) < 0)
			_exit(77);
		if (try_open(&s, BOOT, 1) < 0)
			_exit(2);
		/* Filled to the last byte by somebody else: our space is ours already. */
		int fd = open(testdir_path("x"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		char path[200];
		static char block[4096];

		close(fd);
		snprintf(path, sizeof(path), "%s/fill", run_dir);
		fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		while (write(fd, block, sizeof(block)) > 0)
			;
		if (errno != ENOSPC)
			_exit(3);
		close(fd);
		for (unsigned int i = 1; i <= VMP_STORE_PAIRS; i++) {
			struct vmp_record r = record(i, 1);

			if (vmp_store_put(s, &r) < 0)
				_exit(4);
		}
		vmp_store_free(s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void state_dir_unusable(void **state)
{
	struct vmp_store *s;
	uint64_t age;

	(void)state;
	testdir_write(state_dir, "a file where the directory should be", 0600);
	s = store_open(BOOT);
	assert_int_equal(vmp_store_disk(s)->state, VMP_STORE_ABSENT);
	assert_int_equal(vmp_store_disk_status(s, &age), -ENOTDIR);
	put(s, 1, 1);	/* the runtime file works all the same */
	complete(s);
	assert_int_equal(vmp_store_flush(s, 1000), -ENOTDIR);
	vmp_store_free(s);
}

/* --- identity ------------------------------------------------------------------------------------------------------------------ */
static void voter_identity(void **state)
{
	struct vmp_store_voter v = { 0 }, back;
	bool created = false;

	(void)state;
	assert_int_equal(vmp_store_voter_load(state_dir, &back), -ENOENT);
	assert_int_equal(vmp_store_voter_get(state_dir, &v, &created), 0);
	assert_true(created);
	assert_true(v.voter != 0);
	assert_int_equal(v.version, 0);
	assert_int_equal(vmp_store_voter_get(state_dir, &back, &created), 0);
	assert_false(created);
	assert_int_equal(back.voter, v.voter);

	v.version = UINT64_MAX;
	v.count = VMP_STORE_VOTERS;
	for (unsigned int i = 0; i < VMP_STORE_VOTERS; i++) {
		v.set[i].node = (uint8_t)(255 - i);
		v.set[i].voter = gen();
	}
	v.count_before = VMP_STORE_VOTERS - 1;
	memcpy(v.before, v.set, v.count_before * sizeof(v.set[0]));
	assert_int_equal(vmp_store_voter_save(state_dir, &v), 0);
	memset(&back, 0, sizeof(back));
	assert_int_equal(vmp_store_voter_load(state_dir, &back), 0);
	assert_memory_equal(&v, &back, sizeof(v));
	v.count++;
	assert_int_equal(vmp_store_voter_save(state_dir, &v), -EINVAL);
	v.count--;
	v.count_before = VMP_STORE_VOTERS + 1;
	assert_int_equal(vmp_store_voter_save(state_dir, &v), -EINVAL);
}

/* No single wrong byte and no cut goes unnoticed, and a damaged identity is never replaced by a new one. */
static void voter_damaged(void **state)
{
	struct vmp_store_voter v = { .voter = 0x1234, .version = 3, .count = 1, .set = { { 1, 0x1234 } } }, back;
	char path[200], text[300], bad[300];
	bool created;
	size_t len;
	FILE *f;

	(void)state;
	assert_int_equal(vmp_store_voter_save(state_dir, &v), 0);
	snprintf(path, sizeof(path), "%s/voter", state_dir);
	f = fopen(path, "r");
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	for (size_t i = 0; i < len; i++) {
		memcpy(bad, text, len + 1);
		bad[i] ^= 1;
		testdir_write(path, bad, 0600);
		assert_int_equal(vmp_store_voter_get(state_dir, &back, &created), -EBADMSG);
		memcpy(bad, text, len + 1);
		bad[i] = '\0';
		testdir_write(path, bad, 0600);
		assert_int_equal(vmp_store_voter_get(state_dir, &back, &created), -EBADMSG);
	}
	testdir_write(path, text, 0600);
	assert_int_equal(vmp_store_voter_get(state_dir, &back, &created), 0);
}

static void voter_write_error(void **state)
{
	struct vmp_store_voter v = { .voter = 1 }, back;

	(void)state;
	assert_int_equal(vmp_store_voter_save(state_dir, &v), 0);
	v.version = 2;
	write_error = ENOSPC;
	assert_int_equal(vmp_store_voter_save(state_dir, &v), -ENOSPC);
	write_error = 0;
	assert_int_equal(vmp_store_voter_load(state_dir, &back), 0);
	assert_int_equal(back.version, 0);	/* the old one is whole */
}

static void boot_identity(void **state)
{
	uint64_t a = 0, b = 0;
	char path[200];

	(void)state;
	assert_int_equal(vmp_store_boot(run_dir, &a), 0);
	assert_int_equal(vmp_store_boot(run_dir, &b), 0);
	assert_true(a == b && a != 0);
	snprintf(path, sizeof(path), "%s/boot", run_dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(vmp_store_boot(run_dir, &b), 0);
	assert_true(a != b);
	assert_int_equal(truncate(path, 3), 0);
	assert_int_equal(vmp_store_boot(run_dir, &a), 0);
	assert_true(a != b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, begin)
		T(first_start), T(same_boot), T(killed), T(crash_while_abstaining), T(one_daemon_only), T(flipped_bits),
		T(wrong_size_or_owner), T(torn_write), T(write_errors), T(all_slots), T(reaches_the_disk), T(disk_fails), T(disk_torn),
		T(disk_damaged), T(full_runtime_dir), T(state_dir_unusable), T(voter_identity), T(voter_damaged), T(voter_write_error),
		T(boot_identity),
	};

	return cmocka_run_group_tests(tests, testdir_make, testdir_remove);
}
