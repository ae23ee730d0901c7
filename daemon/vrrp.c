/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/vrrp.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum { RESTART_MS = 1000, REOPEN_MS = 1000 };

struct vmp_vrrp_guard {
	struct vmp_vrrp_guard *next;
	struct vmp_vrrp *v;
	char pair[64], map[256];
	int wake, pidfd;
	pid_t pid;
	uint64_t started_ns;
	bool stopping;
};

struct vmp_vrrp {
	struct vmp_loop *loop;
	char dir[256];
	char program[256];
	vmp_vrrp_fn fn;
	void *data;
	struct vmp_vrrp_guard *all;
	int fifo;
	ino_t fifo_ino;
	uint64_t looked_ns;
	char line[256];
	size_t have;
};

/* --- the FIFO ---------------------------------------------------------------------------------------------------------- */
/* INSTANCE "web" MASTER 100 */
static void on_line(struct vmp_vrrp *v, const char *line)
{
	char name[64], state[16];

	if (sscanf(line, "INSTANCE \"%63[^\"]\" %15[A-Z]", name, state) == 2)
		v->fn(v->data, name, state);
}

static void on_fifo(int fd, short revents, void *data)
{
	struct vmp_vrrp *v = data;
	ssize_t n;

	(void)revents;
	while ((n = read(fd, v->line + v->have, sizeof(v->line) - 1 - v->have)) > 0) {
		char *end;

		v->have += (size_t)n;
		v->line[v->have] = '\0';
		while ((end = strchr(v->line, '\n'))) {
			*end = '\0';
			on_line(v, v->line);
			v->have -= (size_t)(end + 1 - v->line);
			memmove(v->line, end + 1, v->have + 1);
		}
		if (v->have == sizeof(v->line) - 1)
			v->have = 0; /* no line of keepalived's */
	}
}

static void close_fifo(struct vmp_vrrp *v)
{
	if (v->fifo < 0)
		return;
	vmp_loop_del_fd(v->loop, v->fifo);
	close(v->fifo);
	v->fifo = -1;
}

/* Read and write: it has then no end when keepalived goes. keepalived removes, at its end, a FIFO that it made itself. */
static int open_fifo(struct vmp_vrrp *v)
{
	char path[300];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/notify", v->dir);
	if (mkfifo(path, 0600) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	close_fifo(v);
	v->fifo = fd;
	v->fifo_ino = st.st_ino;
	v->have = 0;
	return vmp_loop_add_fd(v->loop, VMP_PRIO_LOW, fd, POLLIN, on_fifo, v);
}

bool vmp_vrrp_carries(const struct vmp_addr *a)
{
	struct ifaddrs *list = NULL;
	bool found = false;

	if (getifaddrs(&list) < 0)
		return false;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != a->family)
			continue;
		if (a->family == AF_INET)
			found = !memcmp(&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr, a->bytes, 4);
		else
			found = !memcmp(&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, a->bytes, 16);
	}
	freeifaddrs(list);
	return found;
}

/* --- guards -------------------------------------------------------------------------------------------------------------- */
static void on_guard_end(int fd, short revents, void *data);

/* Closed once: the number may be another's a moment later. */
static void forget_fd(int *fd)
{
	CLEANUP_CLOSE int closed = TAKE_FD(*fd);

	(void)closed;
}

static int spawn(struct vmp_vrrp_guard *g)
{
	char file[400], *argv[] = { g->v->program, g->map, file, NULL }, *env[] = { NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	uint64_t start = 0;
	sigset_t set;
	int fds[2], r;

	g->started_ns = vmp_now_ns();
	snprintf(file, sizeof(file), "%s/%s", g->v->dir, g->pair);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fds[0], STDIN_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	sigfillset(&set);
	posix_spawnattr_setsigdefault(&attr, &set);
	r = -posix_spawn(&g->pid, g->v->program, &fa, &attr, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	close(fds[0]);
	if (r == 0)
		r = vmp_proc_open(g->pid, &start, &g->pidfd);
	if (r == 0)
		r = vmp_loop_add_fd(g->v->loop, VMP_PRIO_LOW, g->pidfd, POLLIN, on_guard_end, g);
	if (r < 0) {
		close(fds[1]);
		forget_fd(&g->pidfd);
		return r;
	}
	g->wake = fds[1];
	return 0;
}

static void let_go(struct vmp_vrrp_guard *g)
{
	if (g->pidfd >= 0)
		vmp_loop_del_fd(g->v->loop, g->pidfd);
	forget_fd(&g->pidfd);
	forget_fd(&g->wake);
}

static void guard_free(struct vmp_vrrp_guard *g)
{
	struct vmp_vrrp_guard **at = &g->v->all;

	while (*at && *at != g)
		at = &(*at)->next;
	if (*at)
		*at = g->next;
	let_go(g);
	free(g);
}

static void on_guard_end(int fd, short revents, void *data)
{
	struct vmp_vrrp_guard *g = data;

	(void)fd, (void)revents;
	waitpid(g->pid, NULL, WNOHANG);
	let_go(g);
	if (g->stopping) {
		guard_free(g);
		return;
	}
	vmp_log(LOG_WARNING, "%s: the guard of keepalived's track file ended; it is started again", g->pair);
	if (vmp_now_ns() - g->started_ns > RESTART_MS * ms_ns)
		spawn(g); /* what fails is tried again by vmp_vrrp_slow() */
}

int vmp_vrrp_guard_start(struct vmp_vrrp *v, const char *pair, const char *map, struct vmp_vrrp_guard **ret)
{
	struct vmp_vrrp_guard *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->v = v;
	g->wake = g->pidfd = -1;
	snprintf(g->pair, sizeof(g->pair), "%s", pair);
	snprintf(g->map, sizeof(g->map), "%s", map);
	r = spawn(g);
	if (r < 0) {
		free(g);
		return r;
	}
	g->next = v->all;
	v->all = g;
	*ret = g;
	return 0;
}

void vmp_vrrp_guard_wake(struct vmp_vrrp_guard *g)
{
	/* A full pipe wakes it as well. */
	if (g && g->wake >= 0 && write(g->wake, "", 1) < 0 && errno != EAGAIN)
		vmp_log(LOG_DEBUG, "%s: guard: %s", g->pair, strerror(errno));
}

struct vmp_vrrp_guard *vmp_vrrp_guard_stop(struct vmp_vrrp_guard *g)
{
	if (!g)
		return NULL;
	/* At the end of its input it writes what is true, and goes. */
	g->stopping = true;
	forget_fd(&g->wake);
	if (g->pidfd < 0)
		guard_free(g);
	return NULL;
}

/* --------------------------------------------------------------------------------------------------------------------------- */
int vmp_vrrp_new(struct vmp_vrrp **ret, struct vmp_loop *loop, const char *dir, const char *guard_program, vmp_vrrp_fn fn, void *data,
		 char *reason, size_t size)
{
	struct vmp_vrrp *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	v->loop = loop;
	v->fifo = -1;
	v->fn = fn;
	v->data = data;
	snprintf(v->dir, sizeof(v->dir), "%s", dir);
	snprintf(v->program, sizeof(v->program), "%s", guard_program);
	r = mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
	r = r ? r : open_fifo(v);
	if (r < 0) {
		snprintf(reason, size, "%s: %s", dir, strerror(-r));
		free(v);
		return r;
	}
	*ret = v;
	return 0;
}

struct vmp_vrrp *vmp_vrrp_free(struct vmp_vrrp *v)
{
	if (!v)
		return NULL;
	while (v->all)
		guard_free(v->all);
	close_fifo(v);
	free(v);
	return NULL;
}

void vmp_vrrp_slow(struct vmp_vrrp *v)
{
	uint64_t now = vmp_now_ns();
	char path[300];
	struct stat st;

	if (now - v->looked_ns < REOPEN_MS * ms_ns)
		return;
	v->looked_ns = now;
	snprintf(path, sizeof(path), "%s/notify", v->dir);
	if (stat(path, &st) < 0 || st.st_ino != v->fifo_ino)
		open_fifo(v);
	for (struct vmp_vrrp_guard *g = v->all; g; g = g->next)
		if (g->pidfd < 0 && !g->stopping && now - g->started_ns > RESTART_MS * ms_ns)
			spawn(g);
}
