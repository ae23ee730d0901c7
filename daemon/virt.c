/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/virt.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "daemon/proc.h"
#include "daemon/virtcall.h"
#include "internal/cleanup.h"

#define MS 1000000u
#define JOBS_MAX 6   /* of one pair in flight, hung ones included */
#define GRACE_MS 200 /* a job that kept its deadline gets so long to say why it failed */
#define OUT_MAX (VMP_VIRT_MAX_PAIRS * 8)
#define STOP_WAIT_MS 200

#define THREADS_MAX 4 /* watched of a VM, to learn of its end before its memory is freed */

enum { EV_INBOX, EV_TIMER, EV_WAKE, EV_PROC, EV_THREAD = EV_PROC + VMP_VIRT_MAX_PAIRS };

enum op_kind { OP_NONE, OP_START, OP_STOP, OP_REMOVE, OP_RESET };

enum stop_phase {
	S_FIND,	      /* no process known: looking for it */
	S_WAIT_START, /* a start that was given up has not come back yet */
	S_CLEAN,      /* there is no process; libvirt may have a record left */
	S_GRACEFUL,
	S_DESTROY,
	S_KILL,
};

enum want { WANT_NOTHING, WANT_RUN, WANT_STOP };

struct pair {
	uint64_t id; /* 0 = free */
	char name[64], uuid[37];
	struct vmp_virt_run run, last_run;
	int pidfd, dom_id;
	int thread[THREADS_MAX]; /* pidfds; -1: none */
	bool told_exit, told_cause, paused, panicked;
	bool pinging; /* a PING is in flight */
	enum vmp_virt_how cause; /* of the run that is ending */
	enum want want;

	enum op_kind op;
	bool internal; /* a stop of our own: no result is reported */
	uint64_t tag, deadline_ns;
	struct vmp_vc_job *job; /* the job the operation waits for */
	enum stop_phase phase;
	struct vmp_virt_stop stop;

	uint64_t since;		   /* jobs up to this one were a former registration's */
	unsigned int jobs, starts; /* in flight */
};

struct vmp_virt {
	struct vmp_vc *vc;
	int epfd, timerfd, wakefd;
	char *pid_dir;
	bool connected;
	uint64_t next_job, armed_ns;
	struct pair pair[VMP_VIRT_MAX_PAIRS];
	struct vmp_virt_event out[OUT_MAX];
	unsigned int out_head, out_n;
};

static void stop_begin(struct vmp_virt *v, struct pair *p);
static void stop_enter(struct vmp_virt *v, struct pair *p, enum stop_phase phase);

/* --- words -------------------------------------------------------------------- */

const char *vmp_virt_event_str(enum vmp_virt_event_type type)
{
	static const char *const words[] = {
		[VMP_VIRT_STARTED] = "started",
		[VMP_VIRT_STOPPED] = "stopped",
		[VMP_VIRT_REMOVED] = "removed",
		[VMP_VIRT_FOUND] = "found",
		[VMP_VIRT_EXITED] = "exited",
		[VMP_VIRT_GONE] = "gone",
		[VMP_VIRT_CAUSE] = "cause",
		[VMP_VIRT_REBOOTED] = "rebooted",
		[VMP_VIRT_PAUSED] = "paused",
		[VMP_VIRT_RESUMED] = "resumed",
		[VMP_VIRT_PANICKED] = "panicked",
		[VMP_VIRT_WATCHDOG] = "watchdog",
		[VMP_VIRT_IO_ERROR] = "io-error",
		[VMP_VIRT_RESET] = "reset",
		[VMP_VIRT_PONG] = "pong",
		[VMP_VIRT_LIBVIRTD_LOST] = "libvirtd-lost",
		[VMP_VIRT_LIBVIRTD_BACK] = "libvirtd-back",
		[VMP_VIRT_NOTE] = "note",
	};

	return (size_t)type < ARRAY_SIZE(words) ? words[type] : "?";
}

const char *vmp_virt_how_str(enum vmp_virt_how how)
{
	static const char *const words[] = {
		[VMP_VIRT_HOW_UNKNOWN] = "process ended",
		[VMP_VIRT_HOW_SHUTDOWN] = "guest powered off",
		[VMP_VIRT_HOW_SIGNAL] = "qemu was told to end",
		[VMP_VIRT_HOW_DESTROYED] = "destroyed by hand",
		[VMP_VIRT_HOW_CRASHED] = "crashed",
		[VMP_VIRT_HOW_MIGRATED] = "migrated",
		[VMP_VIRT_HOW_SAVED] = "saved to a file",
		[VMP_VIRT_HOW_OPERATOR] = "paused by hand",
		[VMP_VIRT_HOW_IOERROR] = "I/O error",
		[VMP_VIRT_HOW_WATCHDOG] = "watchdog",
	};

	return (size_t)how < ARRAY_SIZE(words) ? words[how] : "?";
}

/* --- events out ------------------------------------------------------------------ */

__attribute__((format(printf, 5, 6))) static struct vmp_virt_event *tell(struct vmp_virt *v, struct pair *p,
									 enum vmp_virt_event_type type, uint64_t at_ns,
									 const char *fmt, ...)
{
	struct vmp_virt_event *e;
	va_list ap;

	if (v->out_n == OUT_MAX) {
		/* Cannot be: each round starts empty and tells less than this. Keep the newest, it is the state that
		 * counts. */
		v->out_head = (v->out_head + 1) % OUT_MAX;
		v->out_n--;
	}
	e = &v->out[(v->out_head + v->out_n++) % OUT_MAX];
	memset(e, 0, sizeof(*e));
	e->type = type;
	e->at_ns = at_ns;
	if (p) {
		e->pair_id = p->id;
		e->run = p->run;
	}
	va_start(ap, fmt);
	vsnprintf(e->reason, sizeof(e->reason), fmt, ap);
	va_end(ap);
	return e;
}

/* An event that was not brought about by the descriptor must make it readable. */
static void wake(struct vmp_virt *v)
{
	uint64_t one = 1;

	while (write(v->wakefd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* --- operations --------------------------------------------------------------------- */

static void drop_job(struct vmp_virt *v, struct pair *p, bool cancel)
{
	if (p->job && cancel)
		vmp_vc_cancel(v->vc, p->job);
	vmp_vc_job_unref(p->job);
	p->job = NULL;
}

/* The operation waits for the new job from now on. The caller's reference to `job` passes over. */
static int submit(struct vmp_virt *v, struct pair *p, struct vmp_vc_job *job)
{
	int rc;

	if (!job)
		return -ENOMEM;
	drop_job(v, p, true);
	job->id = ++v->next_job;
	/* looking for a process never hangs */
	rc = p->jobs < JOBS_MAX || job->kind == VMP_VC_FIND ? vmp_vc_submit(v->vc, job) : -EAGAIN;
	if (rc < 0) {
		vmp_vc_job_unref(job);
		return rc;
	}
	p->job = job;
	p->jobs++;
	if (job->kind == VMP_VC_START)
		p->starts++;
	return 0;
}

static int submit_simple(struct vmp_virt *v, struct pair *p, enum vmp_vc_job_kind kind)
{
	struct vmp_vc_job *job = vmp_vc_job_new(kind, p->id, p->name, p->uuid);

	if (job)
		job->deadline_ns = p->deadline_ns;
	return submit(v, p, job);
}

static void finish(struct vmp_virt *v, struct pair *p, int rc, const char *reason)
{
	static const enum vmp_virt_event_type result[] = {
		[OP_START] = VMP_VIRT_STARTED, [OP_STOP] = VMP_VIRT_STOPPED, [OP_REMOVE] = VMP_VIRT_REMOVED, [OP_RESET] = VMP_VIRT_RESET
	};
	enum op_kind op = p->op;

	if (op == OP_NONE)
		return;
	p->op = OP_NONE;
	p->deadline_ns = 0;
	drop_job(v, p, true);
	if (!p->internal) {
		struct vmp_virt_event *e = tell(v, p, result[op], vmp_vc_now_ns(), "%s", reason);

		e->rc = rc;
		e->tag = p->tag;
	} else if (rc < 0) {
		tell(v, p, VMP_VIRT_NOTE, vmp_vc_now_ns(), "%s: a VM that should not run could not be ended: %s",
		     p->name, reason);
	}
	p->internal = false;
}

/* --- the process ----------------------------------------------------------------------- */

static void unwatch_thread(struct vmp_virt *v, int *fd)
{
	if (*fd < 0)
		return;
	epoll_ctl(v->epfd, EPOLL_CTL_DEL, *fd, NULL);
	close(*fd);
	*fd = -1;
}

/* What cannot be watched is made up for by the pidfd of the process, later. */
static void watch_threads(struct vmp_virt *v, struct pair *p)
{
	static const char *const lasting[] = { "CPU ", "call_rcu", NULL }; /* as qemu names them for libvirt */
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = EV_THREAD + (uint64_t)(p - v->pair) };
	unsigned int n = vmp_proc_threads(p->run.pid, lasting, p->thread, THREADS_MAX);

	for (unsigned int i = 0; i < n; i++)
		if (epoll_ctl(v->epfd, EPOLL_CTL_ADD, p->thread[i], &ev) < 0)
			unwatch_thread(v, &p->thread[i]);
}

/* Takes the pidfd. */
static void set_run(struct vmp_virt *v, struct pair *p, pid_t pid, uint64_t start_ticks, int pidfd, int dom_id)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = EV_PROC + (uint64_t)(p - v->pair) };

	p->run = (struct vmp_virt_run){ .pid = pid, .start_ticks = start_ticks };
	p->pidfd = pidfd;
	p->dom_id = dom_id;
	p->told_exit = p->told_cause = p->paused = p->panicked = false;
	p->cause = VMP_VIRT_HOW_UNKNOWN;
	if (epoll_ctl(v->epfd, EPOLL_CTL_ADD, pidfd, &ev) < 0)
		tell(v, p, VMP_VIRT_NOTE, vmp_vc_now_ns(), "%s: its process cannot be watched: %s", p->name,
		     strerror(errno));
	watch_threads(v, p);
}

static void forget_run(struct vmp_virt *v, struct pair *p)
{
	if (p->pidfd < 0)
		return;
	epoll_ctl(v->epfd, EPOLL_CTL_DEL, p->pidfd, NULL);
	close(p->pidfd);
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		unwatch_thread(v, &p->thread[i]);
	p->pidfd = -1;
	p->dom_id = -1;
	p->paused = false;
	p->last_run = p->run;
	p->run = (struct vmp_virt_run){ 0 };
}

static void exited(struct vmp_virt *v, struct pair *p, enum vmp_virt_how how, bool gone, uint64_t at_ns)
{
	struct vmp_virt_event *e;

	if (p->told_exit)
		return;
	p->told_exit = true;
	p->told_cause = how != VMP_VIRT_HOW_UNKNOWN;
	e = tell(v, p, VMP_VIRT_EXITED, at_ns, "%s",
		 how == VMP_VIRT_HOW_UNKNOWN && !gone ? "process killed or exiting" : vmp_virt_how_str(how));
	e->how = how;
	e->gone = gone;
}

static void process_gone(struct vmp_virt *v, struct pair *p)
{
	if (p->told_exit)
		tell(v, p, VMP_VIRT_GONE, vmp_vc_now_ns(), "process %d", (int)p->run.pid);
	else
		exited(v, p, p->cause, true, vmp_vc_now_ns());
	forget_run(v, p);
	if (p->op == OP_STOP)
		finish(v, p, 0, "");
}

/*
 * A killed VM executes nothing more from now on, while the kernel is still freeing its memory: only then is the process gone.
 * A thread that ended by itself (a vCPU was unplugged) means nothing.
 */
static void thread_gone(struct vmp_virt *v, struct pair *p)
{
	if (p->pidfd >= 0 && vmp_proc_ending(p->run.pid))
		exited(v, p, p->cause, false, vmp_vc_now_ns());
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		if (p->thread[i] >= 0 && vmp_proc_gone(p->thread[i]) == 1)
			unwatch_thread(v, &p->thread[i]);
}

/* A VM that runs without a request of the owner. */
static void found(struct vmp_virt *v, struct pair *p, pid_t pid, uint64_t start_ticks, int pidfd, int dom_id)
{
	set_run(v, p, pid, start_ticks, pidfd, dom_id);
	if (p->op == OP_STOP)
		return;
	if (p->want == WANT_STOP && p->op == OP_NONE) {
		tell(v, p, VMP_VIRT_NOTE, vmp_vc_now_ns(), "%s: a start that was given up came true: ended again",
		     p->name);
		p->stop = (struct vmp_virt_stop){ .destroy_ms = 2000, .kill_ms = 5000 };
		p->internal = true;
		stop_begin(v, p);
		return;
	}
	p->want = WANT_RUN;
	tell(v, p, VMP_VIRT_FOUND, vmp_vc_now_ns(), "process %d", (int)pid);
}

/* libvirt says that it runs, and we know of no process: libvirt's pid file names it. */
static void look(struct vmp_virt *v, struct pair *p, int dom_id)
{
	uint64_t start;
	int pidfd;
	pid_t pid;

	if (p->pidfd < 0 && p->op != OP_START &&
	    vmp_proc_find_vm(v->pid_dir, p->name, p->uuid, false, &pid, &start, &pidfd) == 0)
		found(v, p, pid, start, pidfd, dom_id);
}

/* --- stop ---------------------------------------------------------------------------------- */

static void stop_begin(struct vmp_virt *v, struct pair *p)
{
	p->op = OP_STOP;
	if (p->pidfd < 0)
		stop_enter(v, p, S_FIND);
	else
		stop_enter(v, p, p->stop.graceful_ms && v->connected && !p->told_exit ? S_GRACEFUL : S_DESTROY);
}

static void stop_enter(struct vmp_virt *v, struct pair *p, enum stop_phase phase)
{
	unsigned int ms = phase == S_GRACEFUL ? p->stop.graceful_ms
			  : phase == S_KILL   ? p->stop.kill_ms
					      : p->stop.destroy_ms;
	int rc = 0;

	p->phase = phase;
	p->deadline_ns = vmp_vc_now_ns() + (uint64_t)ms * MS;
	switch (phase) {
	case S_FIND:
		rc = submit_simple(v, p, VMP_VC_FIND);
		break;
	case S_WAIT_START:
		break;
	case S_CLEAN:
		rc = v->connected ? submit_simple(v, p, VMP_VC_DESTROY) : -ENOTCONN;
		break;
	case S_GRACEFUL:
		rc = submit_simple(v, p, VMP_VC_SHUTDOWN);
		break;
	case S_DESTROY:
		rc = v->connected ? submit_simple(v, p, VMP_VC_DESTROY) : -ENOTCONN;
		if (rc < 0)
			vmp_proc_kill(p->pidfd, SIGTERM);
		return;
	case S_KILL:
		drop_job(v, p, true);
		vmp_proc_kill(p->pidfd, SIGKILL);
		return;
	}
	if (rc < 0 && phase == S_GRACEFUL)
		stop_enter(v, p, S_DESTROY);
	else if (rc < 0 && phase == S_FIND)
		finish(v, p, rc, "the process cannot be looked for");
	else if (rc < 0)
		finish(v, p, 0, "");
}

/* No process was found. */
static void stop_none(struct vmp_virt *v, struct pair *p)
{
	stop_enter(v, p, p->starts > 0 ? S_WAIT_START : S_CLEAN);
}

/* No process: stopped, whatever libvirtd believes; unless one has come up meanwhile. */
static void stop_clean(struct vmp_virt *v, struct pair *p)
{
	if (p->pidfd >= 0)
		stop_enter(v, p, S_DESTROY);
	else
		finish(v, p, 0, "");
}

static void stop_late(struct vmp_virt *v, struct pair *p)
{
	char text[96];

	switch (p->phase) {
	case S_GRACEFUL:
		stop_enter(v, p, S_DESTROY);
		break;
	case S_DESTROY:
		tell(v, p, VMP_VIRT_NOTE, vmp_vc_now_ns(),
		     "%s: not ended in %u ms by libvirt: its process %d is killed", p->name, p->stop.destroy_ms,
		     (int)p->run.pid);
		stop_enter(v, p, S_KILL);
		break;
	case S_KILL:
		snprintf(text, sizeof(text), "process %d does not end, %u ms after SIGKILL", (int)p->run.pid,
			 p->stop.kill_ms);
		finish(v, p, -ETIMEDOUT, text);
		break;
	case S_FIND:
		if (p->pidfd >= 0)
			stop_enter(v, p, S_DESTROY);
		else
			finish(v, p, -ETIMEDOUT, "looking for the process took too long");
		break;
	case S_WAIT_START:
		tell(v, p, VMP_VIRT_NOTE, vmp_vc_now_ns(),
		     "%s: libvirtd hangs in its start; should it come true, it is ended again", p->name);
		finish(v, p, 0, "");
		break;
	case S_CLEAN:
		stop_clean(v, p);
		break;
	}
}

static void stop_job_done(struct vmp_virt *v, struct pair *p, struct vmp_vc_msg *m)
{
	drop_job(v, p, false);
	switch (p->phase) {
	case S_FIND:
		if (m->rc == 0 && p->pidfd < 0)
			set_run(v, p, m->pid, m->start_ticks, TAKE_FD(m->pidfd), -1);
		if (p->pidfd >= 0)
			stop_begin(v, p);
		else
			stop_none(v, p);
		break;
	case S_GRACEFUL:
		if (m->rc < 0)
			stop_enter(v, p, S_DESTROY);
		break;
	case S_DESTROY:
		/* libvirt has done its part, and the pidfd tells; or it could not: then the process is asked itself. */
		if (m->rc < 0)
			vmp_proc_kill(p->pidfd, SIGTERM);
		break;
	case S_CLEAN:
		stop_clean(v, p);
		break;
	case S_WAIT_START:
	case S_KILL:
		break;
	}
}

/* --- what the threads say ------------------------------------------------------------------- */

static void clear(struct pair *p)
{
	memset(p, 0, sizeof(*p));
	p->pidfd = p->dom_id = -1;
	for (unsigned int i = 0; i < THREADS_MAX; i++)
		p->thread[i] = -1;
}

static struct pair *by_id(const struct vmp_virt *v, uint64_t id)
{
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++)
		if (id != 0 && v->pair[i].id == id)
			return (struct pair *)&v->pair[i];
	return NULL;
}

static struct pair *by_uuid(struct vmp_virt *v, const char *uuid)
{
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++)
		if (v->pair[i].id != 0 && !strcasecmp(v->pair[i].uuid, uuid))
			return &v->pair[i];
	return NULL;
}

static void job_done(struct vmp_virt *v, struct vmp_vc_msg *m)
{
	struct pair *p = by_id(v, m->pair_id);
	bool current;

	if (m->detached) {
		struct vmp_virt_event *e = tell(v, NULL, VMP_VIRT_REMOVED, m->at_ns, "%s", m->reason);

		e->pair_id = m->pair_id;
		e->tag = m->tag;
		e->rc = m->rc;
		return;
	}
	if (!p || m->job_id <= p->since)
		return;
	p->jobs--;
	if (m->kind == VMP_VC_START)
		p->starts--;
	current = p->job && p->job->id == m->job_id;
	if (m->kind == VMP_VC_PING) {
		p->pinging = false;
		if (p->pidfd >= 0)
			tell(v, p, VMP_VIRT_PONG, m->at_ns, "%s", m->reason)->rc = m->rc;
		return;
	}

	if (m->kind == VMP_VC_START && !current) {
		/* a start that was given up */
		if (m->rc == 0 && p->pidfd < 0)
			found(v, p, m->pid, m->start_ticks, TAKE_FD(m->pidfd), m->dom_id);
		if (p->op == OP_STOP && p->phase == S_WAIT_START) {
			if (p->pidfd >= 0)
				stop_enter(v, p, S_DESTROY);
			else if (p->starts == 0)
				stop_enter(v, p, S_CLEAN);
		}
		return;
	}
	if (!current)
		return;
	if (p->op == OP_START) {
		if (m->rc == 0 && p->pidfd < 0)
			set_run(v, p, m->pid, m->start_ticks, TAKE_FD(m->pidfd), m->dom_id);
		else if (m->rc < 0)
			p->want = WANT_STOP;
		finish(v, p, m->rc, m->rc < 0 && !m->reason[0] ? strerror(-m->rc) : m->reason);
	} else if (p->op == OP_STOP) {
		stop_job_done(v, p, m);
	} else if (p->op == OP_REMOVE || p->op == OP_RESET) {
		finish(v, p, m->rc, m->reason);
	}
}

static void paused(struct vmp_virt *v, struct pair *p, enum vmp_virt_how how, uint64_t at_ns)
{
	p->paused = true;
	if (how == VMP_VIRT_HOW_MIGRATED)
		p->cause = how; /* should it end now, then because it has left, whoever says so first */
	tell(v, p, VMP_VIRT_PAUSED, at_ns, "%s", how == VMP_VIRT_HOW_UNKNOWN ? "the guest sleeps" : vmp_virt_how_str(how))->how = how;
}

static void resumed(struct vmp_virt *v, struct pair *p, uint64_t at_ns)
{
	if (!p->paused && !p->panicked)
		return;
	p->paused = p->panicked = false;
	if (p->cause == VMP_VIRT_HOW_MIGRATED)
		p->cause = VMP_VIRT_HOW_UNKNOWN; /* the migration was given up */
	tell(v, p, VMP_VIRT_RESUMED, at_ns, "resumed");
}

static void panicked(struct vmp_virt *v, struct pair *p, uint64_t at_ns)
{
	if (p->panicked || p->told_exit)
		return;
	p->panicked = true;
	tell(v, p, VMP_VIRT_PANICKED, at_ns, "the guest's kernel panicked");
}

static enum vmp_virt_how state_how(int reason)
{
	switch (reason) {
	case VIR_DOMAIN_PAUSED_IOERROR:
		return VMP_VIRT_HOW_IOERROR;
	case VIR_DOMAIN_PAUSED_WATCHDOG:
		return VMP_VIRT_HOW_WATCHDOG;
	case VIR_DOMAIN_PAUSED_MIGRATION:
	case VIR_DOMAIN_PAUSED_POSTCOPY:
	case VIR_DOMAIN_PAUSED_POSTCOPY_FAILED:
		return VMP_VIRT_HOW_MIGRATED;
	default:
		return VMP_VIRT_HOW_OPERATOR;
	}
}

/* What happened while nobody listened. */
static void catch_up(struct vmp_virt *v, struct pair *p, const struct vmp_vc_active *a, uint64_t at_ns)
{
	if (p->pidfd < 0 || p->told_exit)
		return;
	if (a->state == VIR_DOMAIN_CRASHED)
		panicked(v, p, at_ns);
	else if (a->state == VIR_DOMAIN_PAUSED && !p->paused)
		paused(v, p, state_how(a->reason), at_ns);
	else if (a->state == VIR_DOMAIN_RUNNING)
		resumed(v, p, at_ns);
}

static void connected(struct vmp_virt *v, struct vmp_vc_msg *m)
{
	v->connected = true;
	tell(v, NULL, VMP_VIRT_LIBVIRTD_BACK, m->at_ns, "connected");
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++) {
		struct pair *p = &v->pair[i];
		const struct vmp_vc_active *active = NULL;

		if (p->id == 0)
			continue;
		for (unsigned int k = 0; k < m->n_active && !active; k++)
			if (!strcasecmp(m->active[k].uuid, p->uuid))
				active = &m->active[k];
		if (active) {
			look(v, p, -1);
			catch_up(v, p, active, m->at_ns);
		} else if (p->pidfd >= 0 && vmp_proc_gone(p->pidfd) == 0) {
			tell(v, p, VMP_VIRT_NOTE, m->at_ns, "%s runs as process %d, but libvirt does not know it",
			     p->name, (int)p->run.pid);
		}
	}
}

static void lost(struct vmp_virt *v, struct vmp_vc_msg *m)
{
	v->connected = false;
	tell(v, NULL, VMP_VIRT_LIBVIRTD_LOST, m->at_ns, "%s", m->reason);
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++) {
		struct pair *p = &v->pair[i];

		if (p->id == 0 || p->op != OP_STOP || p->pidfd < 0)
			continue;
		if (p->phase == S_GRACEFUL && p->job)
			stop_enter(v, p, S_DESTROY); /* the power button was not pressed */
		else if (p->phase == S_DESTROY)
			vmp_proc_kill(p->pidfd, SIGTERM);
	}
}

static enum vmp_virt_how stopped_how(int detail)
{
	switch (detail) {
	case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
		return VMP_VIRT_HOW_SHUTDOWN;
	case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
		return VMP_VIRT_HOW_DESTROYED;
	case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
	case VIR_DOMAIN_EVENT_STOPPED_FAILED:
		return VMP_VIRT_HOW_CRASHED;
	case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
		return VMP_VIRT_HOW_MIGRATED;
	case VIR_DOMAIN_EVENT_STOPPED_SAVED:
		return VMP_VIRT_HOW_SAVED;
	default:
		return VMP_VIRT_HOW_UNKNOWN;
	}
}

static enum vmp_virt_how paused_how(int detail)
{
	switch (detail) {
	case VIR_DOMAIN_EVENT_SUSPENDED_IOERROR:
		return VMP_VIRT_HOW_IOERROR;
	case VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG:
		return VMP_VIRT_HOW_WATCHDOG;
	case VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED:
	case VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY:
	case VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED:
		return VMP_VIRT_HOW_MIGRATED;
	default:
		return VMP_VIRT_HOW_OPERATOR;
	}
}

/* libvirt's word on the end of a run, which may be the one before the present one. */
static void stopped(struct vmp_virt *v, struct pair *p, bool ours, int detail, uint64_t at_ns)
{
	enum vmp_virt_how how = stopped_how(detail);

	if (p->pidfd >= 0 && !p->told_exit && vmp_proc_gone(p->pidfd) == 1) {
		p->cause = how; /* told with the exit, which is next */
	} else if ((p->pidfd < 0 || ours) && p->told_exit && !p->told_cause) {
		struct vmp_virt_event *e = tell(v, p, VMP_VIRT_CAUSE, at_ns, "%s", vmp_virt_how_str(how));

		e->how = how;
		e->run = p->pidfd >= 0 ? p->run : p->last_run;
		p->told_cause = true;
	}
}

static void lifecycle(struct vmp_virt *v, struct vmp_vc_msg *m)
{
	struct pair *p = by_uuid(v, m->uuid);
	bool ours;

	if (!p)
		return;
	/* An event may be about the run before: libvirt numbers runs. */
	ours = p->pidfd >= 0 && (m->dom_id <= 0 || p->dom_id <= 0 || m->dom_id == p->dom_id);
	switch (m->event) {
	case VIR_DOMAIN_EVENT_STARTED:
		look(v, p, m->dom_id);
		break;
	case VIR_DOMAIN_EVENT_SHUTDOWN:
		if (ours)
			exited(v, p,
			       p->cause != VMP_VIRT_HOW_UNKNOWN			? p->cause
			       : m->detail == VIR_DOMAIN_EVENT_SHUTDOWN_HOST	? VMP_VIRT_HOW_SIGNAL
										: VMP_VIRT_HOW_SHUTDOWN,
			       false, m->at_ns);
		break;
	case VIR_DOMAIN_EVENT_CRASHED:
		if (ours && m->detail == VIR_DOMAIN_EVENT_CRASHED_PANICKED)
			panicked(v, p, m->at_ns);
		break;
	case VIR_DOMAIN_EVENT_STOPPED:
		stopped(v, p, ours, m->detail, m->at_ns);
		break;
	case VIR_DOMAIN_EVENT_SUSPENDED:
	case VIR_DOMAIN_EVENT_PMSUSPENDED:
		if (ours && !p->told_exit)
			paused(v, p, m->event == VIR_DOMAIN_EVENT_SUSPENDED ? paused_how(m->detail) : VMP_VIRT_HOW_UNKNOWN, m->at_ns);
		break;
	case VIR_DOMAIN_EVENT_RESUMED:
		if (ours)
			resumed(v, p, m->at_ns);
		break;
	default:
		break;
	}
}

static void take_message(struct vmp_virt *v)
{
	struct vmp_vc_msg *m = vmp_vc_take(v->vc);
	struct pair *p;

	if (!m)
		return;
	switch (m->type) {
	case VMP_VC_DONE:
		job_done(v, m);
		break;
	case VMP_VC_CONNECTED:
		connected(v, m);
		break;
	case VMP_VC_LOST:
		lost(v, m);
		break;
	case VMP_VC_LIFECYCLE:
		lifecycle(v, m);
		break;
	case VMP_VC_REBOOT:
		p = by_uuid(v, m->uuid);
		if (p && p->pidfd >= 0)
			tell(v, p, VMP_VIRT_REBOOTED, m->at_ns, "the guest rebooted");
		break;
	case VMP_VC_WATCHDOG:
		p = by_uuid(v, m->uuid);
		if (p && p->pidfd >= 0 && !p->told_exit)
			tell(v, p, VMP_VIRT_WATCHDOG, m->at_ns, "the guest did not feed its watchdog");
		break;
	case VMP_VC_IO_ERROR:
		p = by_uuid(v, m->uuid);
		if (p && p->pidfd >= 0 && !p->told_exit)
			tell(v, p, VMP_VIRT_IO_ERROR, m->at_ns, "%s", m->reason);
		break;
	}
	vmp_vc_msg_free(m);
}

/* --- time ------------------------------------------------------------------------------------ */

static void arm_timer(struct vmp_virt *v)
{
	struct itimerspec its = { 0 };
	uint64_t at = UINT64_MAX;

	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++)
		if (v->pair[i].id != 0 && v->pair[i].deadline_ns != 0 && v->pair[i].deadline_ns < at)
			at = v->pair[i].deadline_ns;
	if (at == UINT64_MAX)
		at = 0;
	if (at == v->armed_ns)
		return;
	v->armed_ns = at;
	its.it_value.tv_sec = (time_t)(at / 1000000000u);
	its.it_value.tv_nsec = (long)(at % 1000000000u);
	timerfd_settime(v->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
}

static void expire(struct vmp_virt *v)
{
	uint64_t now = vmp_vc_now_ns(), count;

	if (read(v->timerfd, &count, sizeof(count)) < 0)
		count = 0;
	v->armed_ns = 0;
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++) {
		struct pair *p = &v->pair[i];

		if (p->id == 0 || p->deadline_ns == 0 || p->deadline_ns > now)
			continue;
		if (p->op == OP_STOP) {
			stop_late(v, p);
		} else if (p->op == OP_START) {
			p->want = WANT_STOP;
			finish(v, p, -ETIMEDOUT, "libvirtd did not answer in time");
		} else {
			finish(v, p, -ETIMEDOUT, "not done in time");
		}
	}
}

static bool watch(struct vmp_virt *v, int fd, uint64_t what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = what };

	return epoll_ctl(v->epfd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

/* --- interface ---------------------------------------------------------------------------------- */

int vmp_virt_new(struct vmp_virt **ret_, const struct vmp_virt_opts *opts, char *reason, size_t reason_size)
{
	static const struct vmp_virt_opts none;
	struct vmp_virt *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return -ENOMEM;
	if (!opts)
		opts = &none;
	v->epfd = v->timerfd = v->wakefd = -1;
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++)
		clear(&v->pair[i]);
	v->pid_dir = strdup(opts->pid_dir ? opts->pid_dir : "/run/libvirt/qemu");
	v->epfd = epoll_create1(EPOLL_CLOEXEC);
	v->timerfd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	v->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!v->pid_dir || v->epfd < 0 || v->timerfd < 0 || v->wakefd < 0) {
		rc = v->pid_dir ? -errno : -ENOMEM;
		snprintf(reason, reason_size, "descriptors for libvirt: %s", strerror(-rc));
		goto fail;
	}
	rc = vmp_vc_new(&v->vc, opts, reason, reason_size);
	if (rc < 0)
		goto fail;
	if (watch(v, vmp_vc_fd(v->vc), EV_INBOX) && watch(v, v->timerfd, EV_TIMER) && watch(v, v->wakefd, EV_WAKE)) {
		*ret_ = v;
		return 0;
	}
	rc = -errno;
	snprintf(reason, reason_size, "descriptors for libvirt: %s", strerror(-rc));
fail:
	vmp_virt_free(v);
	return rc;
}

struct vmp_virt *vmp_virt_free(struct vmp_virt *v)
{
	if (!v)
		return NULL;
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS; i++)
		if (v->pair[i].id != 0)
			vmp_virt_pair_del(v, v->pair[i].id);
	if (v->vc)
		vmp_vc_stop(v->vc, STOP_WAIT_MS);
	if (v->epfd >= 0)
		close(v->epfd);
	if (v->timerfd >= 0)
		close(v->timerfd);
	if (v->wakefd >= 0)
		close(v->wakefd);
	free(v->pid_dir);
	free(v);
	return NULL;
}

int vmp_virt_fd(const struct vmp_virt *v)
{
	return v->epfd;
}

bool vmp_virt_connected(const struct vmp_virt *v)
{
	return v->connected;
}

int vmp_virt_next(struct vmp_virt *v, struct vmp_virt_event *ret_)
{
	while (v->out_n == 0) {
		struct epoll_event ev[VMP_VIRT_MAX_PAIRS + EV_PROC];
		bool inbox = false, timer = false;
		uint64_t count;
		int n = epoll_wait(v->epfd, ev, (int)ARRAY_SIZE(ev), 0);

		/* Ends of processes first: they are what is urgent. */
		for (int i = 0; i < n; i++) {
			if (ev[i].data.u64 >= EV_THREAD)
				thread_gone(v, &v->pair[ev[i].data.u64 - EV_THREAD]);
			else if (ev[i].data.u64 >= EV_PROC)
				process_gone(v, &v->pair[ev[i].data.u64 - EV_PROC]);
			else if (ev[i].data.u64 == EV_INBOX)
				inbox = true;
			else if (ev[i].data.u64 == EV_TIMER)
				timer = true;
			else if (read(v->wakefd, &count, sizeof(count)) < 0)
				break;
		}
		if (inbox)
			take_message(v);
		if (timer)
			expire(v);
		arm_timer(v);
		if (n <= 0)
			return 0;
	}
	*ret_ = v->out[v->out_head];
	v->out_head = (v->out_head + 1) % OUT_MAX;
	v->out_n--;
	return 1;
}

int vmp_virt_pair_add(struct vmp_virt *v, uint64_t pair_id, const char *name, const char *uuid,
		      struct vmp_virt_run *ret_run)
{
	struct pair *p = NULL;
	uint64_t start;
	int pidfd;
	pid_t pid;

	if (pair_id == 0 || strlen(name) >= sizeof(p->name) || strlen(uuid) >= sizeof(p->uuid))
		return -EINVAL;
	if (by_id(v, pair_id) || by_uuid(v, uuid))
		return -EEXIST;
	for (size_t i = 0; i < VMP_VIRT_MAX_PAIRS && !p; i++)
		if (v->pair[i].id == 0)
			p = &v->pair[i];
	if (!p)
		return -ENOSPC;
	clear(p);
	p->id = pair_id;
	p->since = v->next_job;
	snprintf(p->name, sizeof(p->name), "%s", name);
	snprintf(p->uuid, sizeof(p->uuid), "%s", uuid);
	if (vmp_proc_find_vm(v->pid_dir, name, uuid, false, &pid, &start, &pidfd) == 0) {
		set_run(v, p, pid, start, pidfd, -1);
		p->want = WANT_RUN;
	}
	*ret_run = p->run;
	return 0;
}

void vmp_virt_pair_del(struct vmp_virt *v, uint64_t pair_id)
{
	struct pair *p = by_id(v, pair_id);

	if (!p)
		return;
	p->internal = true;
	p->op = OP_NONE;
	drop_job(v, p, true);
	forget_run(v, p);
	clear(p);
	arm_timer(v);
}

int vmp_virt_run(const struct vmp_virt *v, uint64_t pair_id, struct vmp_virt_run *ret_)
{
	const struct pair *p = by_id(v, pair_id);

	if (!p)
		return -ENOENT;
	*ret_ = p->run;
	return 0;
}

static int copy_disks(struct vmp_vc_job *job, const struct vmp_domxml *d)
{
	for (unsigned int i = 0; i < d->n_disks; i++) {
		job->n_disks = i + 1;
		job->disk[i].path = strdup(d->disk[i].path);
		job->disk[i].backing = strdup(d->disk[i].backing);
		job->disk[i].format = strdup(d->disk[i].format);
		if (!job->disk[i].path || !job->disk[i].backing || !job->disk[i].format)
			return -ENOMEM;
	}
	job->xml = strdup(d->xml);
	/* The directory is wanted by overlays and by UEFI variables; a domain with neither needs none. */
	if (d->n_disks > 0 || strstr(d->xml, d->disk_dir)) {
		job->disk_dir = strdup(d->disk_dir);
		if (!job->disk_dir)
			return -ENOMEM;
	}
	return job->xml ? 0 : -ENOMEM;
}

int vmp_virt_start(struct vmp_virt *v, uint64_t pair_id, const struct vmp_domxml *d, unsigned int timeout_ms,
		   uint64_t tag)
{
	struct pair *p = by_id(v, pair_id);
	struct vmp_vc_job *job;
	uint64_t now = vmp_vc_now_ns();
	int rc;

	if (!p)
		return -ENOENT;
	if (p->op == OP_STOP && p->internal && p->pidfd < 0)
		finish(v, p, 0, ""); /* nothing is left of the late start that it was about */
	if (p->op != OP_NONE)
		return -EBUSY;
	if (p->pidfd >= 0 && p->told_exit)
		return -EBUSY; /* it is about to end: EXITED with gone, or a stop, first */
	if (p->pidfd >= 0) {
		struct vmp_virt_event *e = tell(v, p, VMP_VIRT_STARTED, now, "it runs already");

		e->tag = tag;
		p->want = WANT_RUN;
		wake(v);
		return 0;
	}
	job = vmp_vc_job_new(VMP_VC_START, p->id, p->name, p->uuid);
	if (!job)
		return -ENOMEM;
	job->deadline_ns = now + (uint64_t)timeout_ms * MS;
	rc = copy_disks(job, d);
	if (rc < 0) {
		vmp_vc_job_unref(job);
		return rc;
	}
	rc = submit(v, p, job);
	if (rc < 0)
		return rc;
	p->op = OP_START;
	p->want = WANT_RUN;
	p->tag = tag;
	p->deadline_ns = now + (uint64_t)(timeout_ms + GRACE_MS) * MS;
	arm_timer(v);
	return 0;
}

int vmp_virt_stop(struct vmp_virt *v, uint64_t pair_id, const struct vmp_virt_stop *how, uint64_t tag)
{
	struct pair *p = by_id(v, pair_id);

	if (!p)
		return -ENOENT;
	if (p->op == OP_REMOVE)
		return -EBUSY;
	if (p->op != OP_NONE)
		finish(v, p, -ECANCELED, "a stop was asked for");
	p->want = WANT_STOP;
	p->tag = tag;
	p->internal = false;
	p->stop = *how;
	if (p->stop.destroy_ms == 0)
		p->stop.destroy_ms = 2000;
	if (p->stop.kill_ms == 0)
		p->stop.kill_ms = 5000;
	stop_begin(v, p);
	arm_timer(v);
	wake(v);
	return 0;
}

int vmp_virt_remove(struct vmp_virt *v, uint64_t pair_id, const char *disk_dir, unsigned int timeout_ms, uint64_t tag)
{
	struct pair *p = by_id(v, pair_id);
	struct vmp_vc_job *job;
	int rc;

	if (p && (p->op != OP_NONE || p->pidfd >= 0))
		return -EBUSY;
	job = vmp_vc_job_new(VMP_VC_REMOVE, pair_id, p ? p->name : "", p ? p->uuid : "");
	if (!job)
		return -ENOMEM;
	job->tag = tag;
	job->disk_dir = strdup(disk_dir);
	if (!job->disk_dir) {
		vmp_vc_job_unref(job);
		return -ENOMEM;
	}
	if (!p) {
		/* of a pair that was forgotten before: nothing to keep track of */
		job->detached = true;
		job->id = ++v->next_job;
		rc = vmp_vc_submit(v->vc, job);
		vmp_vc_job_unref(job);
		return rc;
	}
	rc = submit(v, p, job);
	if (rc < 0)
		return rc;
	p->op = OP_REMOVE;
	p->tag = tag;
	p->deadline_ns = vmp_vc_now_ns() + (uint64_t)timeout_ms * MS;
	arm_timer(v);
	return 0;
}

int vmp_virt_reset(struct vmp_virt *v, uint64_t pair_id, unsigned int timeout_ms, uint64_t tag)
{
	struct pair *p = by_id(v, pair_id);
	int rc;

	if (!p || p->pidfd < 0 || p->told_exit)
		return -ESRCH;
	if (p->op != OP_NONE)
		return -EBUSY;
	p->deadline_ns = vmp_vc_now_ns() + (uint64_t)timeout_ms * MS;
	rc = submit_simple(v, p, VMP_VC_RESET);
	if (rc < 0) {
		p->deadline_ns = 0;
		return rc;
	}
	p->op = OP_RESET;
	p->tag = tag;
	p->internal = false;
	arm_timer(v);
	return 0;
}

int vmp_virt_ping(struct vmp_virt *v, uint64_t pair_id, unsigned int timeout_ms)
{
	struct pair *p = by_id(v, pair_id);
	struct vmp_vc_job *job;
	int rc;

	if (!p || p->pidfd < 0 || p->told_exit)
		return -ESRCH;
	if (p->pinging)
		return -EBUSY;
	job = vmp_vc_job_new(VMP_VC_PING, p->id, p->name, p->uuid);
	if (!job)
		return -ENOMEM;
	job->id = ++v->next_job;
	job->deadline_ns = vmp_vc_now_ns() + (uint64_t)timeout_ms * MS;
	rc = vmp_vc_submit(v->vc, job);
	vmp_vc_job_unref(job);
	if (rc < 0)
		return rc;
	p->pinging = true;
	p->jobs++;
	return 0;
}

int vmp_virt_kill(struct vmp_virt *v, uint64_t pair_id)
{
	struct pair *p = by_id(v, pair_id);

	if (!p)
		return -ENOENT;
	return p->pidfd >= 0 ? vmp_proc_kill(p->pidfd, SIGKILL) : -ESRCH;
}
