/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmpair-vrrp-guard MAP FILE: keeps keepalived's track file of one pair at what the pair's expiry word says: 0 while the entry is open, 1
 * (which keepalived takes for FAULT) when it is not. A process of its own, so that VRRP gives the address up when the lease ends with
 * vmpaird stopped, late or dead. Started by vmpaird (vrrp.c), which wakes it with a byte on standard input when it has stored. Without
 * vmpaird (end of input) it stays until the lease has ended, or its successor for that file ends it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tcbpf.h"
#include "internal/cleanup.h"

#define LOCK_SUFFIX ".guard"

static int die(const char *what)
{
	fprintf(stderr, "vmpair-vrrp-guard: %s: %s\n", what, strerror(errno));
	return 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The file's lock is the guard's office: who comes ends who holds it. */
static int take_office(const char *file)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s" LOCK_SUFFIX, file);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	while (fcntl(fd, F_SETLK, &l) < 0) {
		struct flock who = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

		if (errno != EAGAIN && errno != EACCES)
			return -1;
		if (!fcntl(fd, F_GETLK, &who) && who.l_type != F_UNLCK)
			kill(who.l_pid, SIGKILL);
		poll(NULL, 0, 1);
	}
	return fd;
}

static bool says(const char *file, char c)
{
	CLEANUP_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC);
	char text[8] = "";

	return fd >= 0 && read(fd, text, sizeof text - 1) == 2 && text[0] == c && text[1] == '\n';
}

/* keepalived reads it when it is closed; a file that is not there counts as 0, so it is never removed or renamed. */
static void tell(const char *file, char c)
{
	const char text[2] = { c, '\n' };
	CLEANUP_CLOSE int fd = -1;

	if (says(file, c))
		return;
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || pwrite(fd, text, sizeof text, 0) != sizeof text || ftruncate(fd, sizeof text) < 0)
		die(file);
}

int main(int argc, char **argv)
{
	const struct sched_param least = { .sched_priority = sched_get_priority_min(SCHED_RR) };
	struct pollfd p[3] = { { .fd = STDIN_FILENO, .events = POLLIN } };
	char dir[512], buf[4096];
	uint64_t *word;
	int map, lock;

	if (argc != 3 || argv[2][0] != '/' || strlen(argv[2]) >= sizeof dir) {
		fprintf(stderr, "usage: vmpair-vrrp-guard MAP FILE (it is started by vmpaird)\n");
		return 2;
	}
	/* Before all that is ordinary; where that is not allowed it works as well as the machine lets it. */
	sched_setscheduler(0, SCHED_RR, &least);
	map = vmp_tcbpf_get(argv[1]);
	if (map < 0) {
		errno = -map;
		return die(argv[1]);
	}
	word = vmp_tcbpf_map_mmap(map);
	if (!word)
		return die(argv[1]);
	lock = take_office(argv[2]);
	if (lock < 0)
		return die(argv[2]);
	p[1] = (struct pollfd){ .fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK), .events = POLLIN };
	p[2] = (struct pollfd){ .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .events = POLLIN };
	snprintf(dir, sizeof dir, "%s", argv[2]);
	/* keepalived may write its initial value when it starts, people anything. */
	if (p[1].fd < 0 || p[2].fd < 0 || inotify_add_watch(p[2].fd, dirname(dir), IN_CLOSE_WRITE | IN_MOVE | IN_DELETE) < 0)
		return die(dir);
	for (;;) {
		uint64_t end = __atomic_load_n(word, __ATOMIC_SEQ_CST);
		bool open = end > now_ns();
		struct itimerspec at = { 0 };

		tell(argv[2], open ? '0' : '1');
		if (!open && p[0].fd < 0)
			return 0;
		if (open)
			at.it_value = (struct timespec){ (time_t)(end / 1000000000u), (long)(end % 1000000000u) };
		timerfd_settime(p[1].fd, TFD_TIMER_ABSTIME, &at, NULL);
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return die("poll");
		if (p[0].fd >= 0 && p[0].revents && read(STDIN_FILENO, buf, sizeof buf) == 0)
			p[0].fd = -1; /* poll() leaves it out */
		for (int i = 1; i < 3; i++)
			if (p[i].revents && read(p[i].fd, buf, sizeof buf) < 0 && errno != EAGAIN)
				return die("read");
	}
}
