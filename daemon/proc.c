/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"

extern char **environ;

#define CMDLINE_MAX (256u << 10)
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif
#define PF_EXITING 0x4u /* /proc/PID/stat field 9; part of the kernel's interface since 2.4 */

static int read_proc(pid_t pid, const char *file, char *buf, size_t size, size_t *ret_len)
{
	CLEANUP_CLOSE int fd = -1;
	char path[96];
	size_t len = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	while (len < size - 1) {
		ssize_t n = read(fd, buf + len, size - 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	*ret_len = len;
	return 0;
}

/* /proc/PID/stat by fields: a state is the third, numbers follow it. The name in field 2 may hold blanks and brackets. */
static const char *stat_field(const char *stat, int field)
{
	const char *p = strrchr(stat, ')');

	for (int at = 2; p && at < field; at++)
		p = strchr(p + 1, ' ');
	return p ? p + 1 : NULL;
}

static int stat_number(const char *stat, int field, uint64_t *ret)
{
	const char *p = stat_field(stat, field);
	uint64_t v;
	char *end;

	if (!p)
		return -EPROTO;
	errno = 0;
	v = strtoull(p, &end, 10);
	if (end == p || errno)
		return -EPROTO;
	*ret = v;
	return 0;
}

int vmp_proc_start_time(pid_t pid, uint64_t *ret_ticks)
{
	char buf[1024];
	size_t len;
	int rc;

	if (pid <= 0)
		return -ESRCH;
	rc = read_proc(pid, "stat", buf, sizeof(buf), &len);
	return rc < 0 ? rc : stat_number(buf, 22, ret_ticks);
}

int vmp_proc_open(pid_t pid, uint64_t *start, int *ret_pidfd)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t ticks;
	int rc;

	if (pid <= 0)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == EINVAL ? -ESRCH : -errno; /* EINVAL: a thread, not a process */
	rc = vmp_proc_start_time(pid, &ticks);
	if (rc < 0)
		return rc;
	if (*start != 0 && *start != ticks)
		return -ESRCH;
	/* Had it ended meanwhile, the number may be another's by now. */
	if (vmp_proc_gone(fd) != 0)
		return -ESRCH;
	*start = ticks;
	*ret_pidfd = TAKE_FD(fd);
	return 0;
}

int vmp_proc_kill(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int vmp_proc_gone(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

unsigned int vmp_proc_threads(pid_t pid, const char *const *names, int *ret_pidfds, unsigned int max)
{
	char path[64], comm[64];
	unsigned int n = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	if (!d)
		return 0;
	while (n < max && (e = readdir(d))) {
		char *end;
		long tid = strtol(e->d_name, &end, 10);
		bool wanted = tid == pid;
		size_t len;
		int fd;

		if (*end != '\0' || tid <= 0)
			continue;
		snprintf(path, sizeof(path), "task/%ld/comm", tid);
		if (!wanted && read_proc(pid, path, comm, sizeof(comm), &len) == 0)
			for (unsigned int i = 0; names[i] && !wanted; i++)
				wanted = !strncmp(comm, names[i], strlen(names[i]));
		if (!wanted)
			continue;
		fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
		if (fd >= 0)
			ret_pidfds[n++] = fd;
		else if (errno == EINVAL)
			break;
	}
	closedir(d);
	return n;
}

bool vmp_proc_ending(pid_t pid)
{
	uint64_t flags, pending;
	const char *state;
	char buf[1024];
	size_t len;

	if (read_proc(pid, "stat", buf, sizeof(buf), &len) < 0)
		return true;
	state = stat_field(buf, 3);
	if (!state || stat_number(buf, 9, &flags) < 0 || stat_number(buf, 31, &pending) < 0)
		return false;
	/* The end of a process is a SIGKILL to each of its threads, whatever began it. */
	return *state == 'Z' || *state == 'X' || (flags & PF_EXITING) || (pending & 1u << (SIGKILL - 1));
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int vmp_proc_wait(int pidfd, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;

	for (;;) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		int64_t left = end - now_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);

		if (n == 1)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && left <= 0)
			return -ETIMEDOUT;
	}
}

int vmp_proc_is_vm(pid_t pid, const char *uuid)
{
	CLEANUP_FREE char *buf = malloc(CMDLINE_MAX);
	bool next = false;
	size_t len;
	int rc;

	if (!buf)
		return -ENOMEM;
	rc = read_proc(pid, "cmdline", buf, CMDLINE_MAX, &len);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < len; i += strlen(buf + i) + 1) {
		if (next)
			return strcasecmp(buf + i, uuid) == 0;
		next = !strcmp(buf + i, "-uuid");
	}
	return 0;
}

/* Opens the process first and looks at it after, so that the answer is about the process that is open. */
static int open_if_vm(pid_t pid, const char *uuid, uint64_t *ret_start, int *ret_pidfd)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t start = 0;
	int rc;

	rc = vmp_proc_open(pid, &start, &fd);
	if (rc < 0)
		return rc;
	rc = vmp_proc_is_vm(pid, uuid);
	if (rc <= 0)
		return rc < 0 ? rc : -ESRCH;
	if (vmp_proc_gone(fd) != 0)
		return -ESRCH;
	*ret_start = start;
	*ret_pidfd = TAKE_FD(fd);
	return 0;
}

int vmp_proc_find_vm(const char *pid_dir, const char *name, const char *uuid, bool scan, pid_t *ret_pid,
		     uint64_t *ret_start, int *ret_pidfd)
{
	char path[4096], text[32];
	CLEANUP_CLOSE int fd = -1;
	struct dirent *e;
	ssize_t n;
	DIR *d;
	int rc = -ESRCH;

	if (snprintf(path, sizeof(path), "%s/%s.pid", pid_dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n > 0) {
		pid_t pid;

		text[n] = '\0';
		pid = (pid_t)strtol(text, NULL, 10);
		rc = open_if_vm(pid, uuid, ret_start, ret_pidfd);
		if (rc == 0) {
			*ret_pid = pid;
			return 0;
		}
	}
	if (!scan)
		return -ESRCH;

	d = opendir("/proc");
	if (!d)
		return -errno;
	rc = -ESRCH;
	while (rc < 0 && (e = readdir(d))) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);

		if (*end != '\0' || pid <= 0 || vmp_proc_is_vm((pid_t)pid, uuid) != 1)
			continue;
		if (open_if_vm((pid_t)pid, uuid, ret_start, ret_pidfd) == 0) {
			*ret_pid = (pid_t)pid;
			rc = 0;
		}
	}
	closedir(d);
	return rc;
}

static int spawn_helper(char *const argv[], int out_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	rc = posix_spawn_file_actions_init(&fa);
	if (rc)
		return -rc;
	rc = posix_spawnattr_init(&attr);
	if (rc) {
		posix_spawn_file_actions_destroy(&fa);
		return -rc;
	}
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&fa, out_fd, STDOUT_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&fa, out_fd, STDERR_FILENO);
	if (!rc)
		rc = posix_spawnp(ret_pid, argv[0], &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -rc;
}

/* Takes what is there; what does not fit is thrown away so that the writer never waits. True at end of file. */
static bool drain(int fd, char *out, size_t out_size, size_t *len)
{
	char buf[512];

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0;
		for (ssize_t i = 0; i < n && *len + 1 < out_size; i++)
			out[(*len)++] = buf[i];
	}
}

int vmp_proc_run(char *const argv[], int timeout_ms, char *out, size_t out_size)
{
	CLEANUP_CLOSE int rd = -1, wr = -1, pidfd = -1;
	int64_t end = now_ms() + timeout_ms;
	bool eof = false, late = false;
	siginfo_t si = { 0 };
	size_t len = 0;
	uint64_t start = 0;
	int p[2], rc;
	pid_t pid;

	if (out_size)
		out[0] = '\0';
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	rd = p[0];
	wr = p[1];
	fcntl(rd, F_SETFL, O_NONBLOCK);
	rc = spawn_helper(argv, wr, &pid);
	if (rc < 0)
		return rc;
	close(TAKE_FD(wr));
	rc = vmp_proc_open(pid, &start, &pidfd);
	if (rc < 0 && rc != -ESRCH) {
		/* Out of descriptors: no way to wait with a limit, so it gets no time at all. */
		kill(pid, SIGKILL);
		late = true;
	}
	while (pidfd >= 0 && !vmp_proc_gone(pidfd)) {
		struct pollfd pf[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = eof ? -1 : rd, .events = POLLIN } };
		int64_t left = end - now_ms();

		if (left <= 0 && !late) {
			vmp_proc_kill(pidfd, SIGKILL);
			late = true;
		}
		poll(pf, 2, late ? -1 : (int)left);
		if (pf[1].revents)
			eof = drain(rd, out, out_size, &len);
	}
	while (waitid(P_PID, (id_t)pid, &si, WEXITED) < 0 && errno == EINTR)
		;
	drain(rd, out, out_size, &len);
	while (len > 0 && (out[len - 1] == '\n' || out[len - 1] == '\r'))
		len--;
	if (out_size)
		out[len] = '\0';
	if (late)
		return rc < 0 ? rc : -ETIMEDOUT;
	return si.si_code == CLD_EXITED ? si.si_status : -ECANCELED;
}
