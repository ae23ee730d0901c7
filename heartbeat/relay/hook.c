/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The application's state, for a standby that begins anew (mirror kind): the pair's `export` command writes it to its
 * standard output on the primary, `import` reads it on the standby. Child processes, in a process group of their own, with a
 * time limit; the loop only moves bytes.
 *
 * The state is that of a point in the order of requests: nothing is given to the application from the moment it has answered
 * everything until the export's first byte (or its end), which the command must write only when the state is fixed.
 */
#include "heartbeat/relay/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal/cleanup.h"

enum { IMPORT_AHEAD = 1 << 20, IOV = 16 };

struct vmpr_hook {
	struct vmpr_relay *r;
	struct vmpr_src pipe, proc;
	struct vmpr_tmo tmo;
	struct vmpr_tmo_list tmos; /* one of its own: registered once */
	pid_t pid;
	bool import, running, readable, writable, first, ended, last, killed;
	bool waits; /* import: begins when the application has nothing of the old content under way */
	int status;
	struct vmpr_queue queue; /* import: not written yet */
};

static void hook_pump(struct vmpr_hook *h);

static void hook_kill(struct vmpr_hook *h)
{
	if (h->running && h->pid > 0) {
		kill(-h->pid, SIGKILL);
		h->killed = true;
	}
}

static void hook_done(struct vmpr_hook *h)
{
	struct vmpr_relay *r = h->r;

	hook_kill(h);
	vmpr_tmo_stop(&h->tmo);
	vmpr_src_close(&r->ev, &h->pipe);
	vmpr_queue_clear(&r->pool, &h->queue);
	h->waits = false;
	/* the watch of the process stays until it is reaped */
	h->ended = true;
}

static void proc_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_hook *h = vmpr_container(s, struct vmpr_hook, proc);

	(void)events;
	if (waitpid(h->pid, &h->status, WNOHANG) != h->pid)
		return;
	h->running = false;
	vmpr_src_close(&h->r->ev, s);
	if (h->ended && !h->import)
		vmpr_export_pump(h->r); /* the next one may have waited for this */
	else
		hook_pump(h);
}

static void pipe_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_hook *h = vmpr_container(s, struct vmpr_hook, pipe);

	if (events & (EPOLLIN | EPOLLHUP))
		h->readable = true;
	if (events & (EPOLLOUT | EPOLLERR))
		h->writable = true;
	hook_pump(h);
}

static void hook_late(struct vmpr_tmo *t)
{
	struct vmpr_hook *h = vmpr_container(t, struct vmpr_hook, tmo);

	vmpr_note(h->r, LOG_WARNING, "the %s command was ended: not done within %u s", h->import ? "import" : "export",
		  h->r->conf.hook_ms / 1000);
	hook_kill(h);
}

static int hook_start(struct vmpr_hook *h, const char *command)
{
	struct vmpr_relay *r = h->r;
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	char pair[80], backend[96], services[32 + VMPR_SERVICES * 80] = "VMPAIR_SERVICES=";
	char *envp[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", pair, backend, services, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	int p[2], n;
	CLEANUP_CLOSE int ours = -1;
	CLEANUP_CLOSE int theirs = -1;
	CLEANUP_CLOSE int pidfd = -1;

	snprintf(pair, sizeof(pair), "VMPAIR_PAIR=%s", r->conf.pair);
	snprintf(backend, sizeof(backend), "VMPAIR_BACKEND=%s", r->conf.backend);
	for (unsigned int i = 0; i < r->conf.n_services; i++) {
		size_t len = strlen(services);

		snprintf(services + len, sizeof(services) - len, "%s%s:%u:%u", i ? " " : "", r->conf.service[i].framing,
			 r->conf.service[i].port, r->conf.service[i].backend_port);
	}
	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	ours = h->import ? p[1] : p[0];
	theirs = h->import ? p[0] : p[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, theirs, h->import ? STDIN_FILENO : STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&fa, h->import ? STDOUT_FILENO : STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawnattr_init(&at);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setsigdefault(&at, &all);
	posix_spawnattr_setpgroup(&at, 0);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	n = posix_spawn(&h->pid, "/bin/sh", &fa, &at, argv, envp);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	if (n != 0)
		return -n;
	h->running = true;
	h->ended = h->killed = h->first = h->last = h->readable = h->writable = false;
	h->pipe.fd = h->proc.fd = -1;
	pidfd = (int)syscall(SYS_pidfd_open, h->pid, 0);
	n = pidfd < 0 ? -errno : vmpr_src_add(&r->ev, &h->proc, pidfd, EPOLLIN, proc_event);
	if (n < 0) {
		/* without a watch it could not be reaped: not at all then */
		kill(-h->pid, SIGKILL);
		waitpid(h->pid, NULL, 0);
		h->running = false;
		return n;
	}
	(void)TAKE_FD(pidfd);
	n = vmpr_src_add(&r->ev, &h->pipe, ours, EPOLLIN | EPOLLOUT | EPOLLET, pipe_event);
	if (n < 0) {
		hook_done(h);
		return n;
	}
	(void)TAKE_FD(ours);
	vmpr_tmo_arm(&r->ev, &h->tmos, &h->tmo);
	return 0;
}

static struct vmpr_hook *hook_of(struct vmpr_relay *r, struct vmpr_hook **slot, bool import)
{
	if (*slot)
		return *slot;
	*slot = calloc(1, sizeof(**slot));
	if (!*slot)
		return NULL;
	(*slot)->r = r;
	(*slot)->import = import;
	(*slot)->ended = true;
	(*slot)->pipe.fd = (*slot)->proc.fd = -1;
	vmpr_tmo_list_add(&r->ev, &(*slot)->tmos, (uint64_t)r->conf.hook_ms * 1000000u, hook_late);
	return *slot;
}

/* --- export -------------------------------------------------------------------------------------------------------------- */
static void lane_resume(struct vmpr_relay *r)
{
	if (!r->lane_paused)
		return;
	r->lane_paused = false;
	vmpr_lane_pump(r);
}

static void export_end(struct vmpr_hook *h, const char *why)
{
	struct vmpr_relay *r = h->r;

	hook_done(h);
	if (why) {
		vmpr_note(r, LOG_WARNING, "export for a new standby failed: %s", why);
		vmpair_session_export_failed(r->session, why);
	}
	lane_resume(r);
}

static void export_read(struct vmpr_hook *h)
{
	struct vmpr_relay *r = h->r;
	char text[80], buf[16384]; /* not the scratch: this runs while others work on that */

	while (!h->ended && h->readable) {
		ssize_t n = read(h->pipe.fd, buf, sizeof(buf));
		int e;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			h->readable = false;
			return;
		}
		if (n <= 0) {
			h->readable = false;
			h->last = true;
			vmpr_src_close(&r->ev, &h->pipe);
			break;
		}
		if (!h->first) {
			h->first = true;
			lane_resume(r);
		}
		e = vmpair_session_export(r->session, buf, (size_t)n, false);
		if (e == -ENOBUFS) {
			if (vmpr_queue_put(&r->pool, &h->queue, buf, (size_t)n) < 0)
				export_end(h, "out of memory");
			return;
		}
		if (e < 0) {
			export_end(h, NULL); /* nobody asks any more */
			return;
		}
	}
	if (!h->ended && h->last && !h->running) {
		if (h->status != 0) {
			snprintf(text, sizeof(text), "the export command ended with %s %d", WIFEXITED(h->status) ? "status" : "signal",
				 WIFEXITED(h->status) ? WEXITSTATUS(h->status) : WTERMSIG(h->status));
			export_end(h, text);
		} else if (vmpair_session_export(r->session, "", 0, true) != -ENOBUFS) {
			export_end(h, NULL);
		}
	}
}

/* What the session had no room for. */
static bool export_rest(struct vmpr_hook *h)
{
	struct vmpr_relay *r = h->r;
	struct iovec iov;

	while (!h->ended && h->queue.len > 0 && vmpr_queue_iov(&h->queue, h->queue.len, &iov, 1) == 1) {
		int e = vmpair_session_export(r->session, iov.iov_base, iov.iov_len, false);

		if (e == -ENOBUFS)
			return false;
		if (e < 0) {
			export_end(h, NULL);
			return false;
		}
		vmpr_queue_drop(&r->pool, &h->queue, iov.iov_len);
	}
	return true;
}

void vmpr_export_want(struct vmpr_relay *r)
{
	r->lane_paused = true;
	vmpr_export_pump(r);
}

void vmpr_export_pump(struct vmpr_relay *r)
{
	struct vmpr_hook *h = hook_of(r, &r->export_hook, false);
	int n;

	if (!h || !h->ended) {
		if (h)
			hook_pump(h);
		return;
	}
	if (!r->lane_paused || r->lane_sent > 0 || r->n_draining > 0 || h->running)
		return;
	n = vmpair_session_export_start(r->session);
	if (n == -EBUSY)
		return;
	if (n == 0)
		n = hook_start(h, r->conf.export_cmd);
	else if (n == -ENOENT) {
		lane_resume(r);
		return;
	}
	if (n < 0)
		export_end(h, strerror(-n));
}

/* --- import -------------------------------------------------------------------------------------------------------------- */
static void import_end(struct vmpr_hook *h, bool ok, const char *why)
{
	struct vmpr_relay *r = h->r;

	hook_done(h);
	if (!ok)
		vmpr_note(r, LOG_WARNING, "import of the primary's state failed: %s", why);
	vmpair_session_imported(r->session, r->ev.now_ns, ok);
}

static void import_write(struct vmpr_hook *h)
{
	struct vmpr_relay *r = h->r;
	bool last;
	char text[80];

	if (h->waits) {
		int n;

		if (r->n_draining > 0)
			return;
		h->waits = false;
		last = h->last;
		n = hook_start(h, r->conf.import_cmd);
		h->last = last;
		if (n < 0) {
			import_end(h, false, strerror(-n));
			return;
		}
	}
	while (!h->ended && h->writable && h->queue.len > 0) {
		struct iovec iov[IOV];
		ssize_t n = writev(h->pipe.fd, iov, vmpr_queue_iov(&h->queue, h->queue.len, iov, IOV));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			h->writable = false;
			break;
		}
		if (n < 0) {
			/* it reads no more: its status tells why, or that it had enough */
			vmpr_queue_clear(&r->pool, &h->queue);
			break;
		}
		vmpr_queue_drop(&r->pool, &h->queue, (size_t)n);
	}
	if (!h->ended && h->last && h->queue.len == 0)
		vmpr_src_close(&r->ev, &h->pipe);
	if (h->ended || h->running)
		return;
	if (h->status == 0 && h->last) {
		import_end(h, true, NULL);
		return;
	}
	snprintf(text, sizeof(text), "the import command ended with %s %d%s", WIFEXITED(h->status) ? "status" : "signal",
		 WIFEXITED(h->status) ? WEXITSTATUS(h->status) : WTERMSIG(h->status), h->last ? "" : " too early");
	import_end(h, false, text);
}

void vmpr_import_data(struct vmpr_relay *r, const void *data, size_t len, bool last)
{
	struct vmpr_hook *h = hook_of(r, &r->import_hook, true);
	int n = h ? 0 : -ENOMEM;

	if (h && h->ended) {
		n = h->running ? -EBUSY : 0;
		if (n == 0) {
			vmpr_lane_abandon(r);
			h->ended = false;
			h->waits = true;
		}
	}
	if (n == 0)
		n = vmpr_queue_put(&r->pool, &h->queue, data, len);
	if (n < 0) {
		if (h)
			import_end(h, false, strerror(-n));
		else
			vmpair_session_imported(r->session, r->ev.now_ns, false);
		return;
	}
	h->last = last;
	hook_pump(h);
}

bool vmpr_import_wants(const struct vmpr_relay *r)
{
	const struct vmpr_hook *h = r->import_hook;

	/* one that was given up may not have been reaped yet: the next one waits for that */
	return !h || (h->queue.len < IMPORT_AHEAD && !(h->ended && h->running));
}

static void hook_pump(struct vmpr_hook *h)
{
	if (h->ended)
		return;
	if (h->import)
		import_write(h);
	else if (export_rest(h))
		export_read(h);
}

/* Once a round: what they waited for may have come. */
void vmpr_hooks_pump(struct vmpr_relay *r)
{
	if (r->export_hook)
		vmpr_export_pump(r);
	if (r->import_hook && r->import_hook->waits)
		hook_pump(r->import_hook);
}

void vmpr_hooks_abandon(struct vmpr_relay *r)
{
	/* a lane that is paused goes on with the next round: then the session says that nobody waits for a state */
	if (r->export_hook && !r->export_hook->ended)
		hook_done(r->export_hook);
	if (r->import_hook && !r->import_hook->ended)
		hook_done(r->import_hook);
}

void vmpr_hooks_stop(struct vmpr_relay *r)
{
	vmpr_hooks_abandon(r);
	r->lane_paused = false;
}
