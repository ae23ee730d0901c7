/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/virtcall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/proc.h"
#include "internal/cleanup.h"

#define STACK_SIZE (512u << 10) /* memory may be locked: a thread must not cost its 8 MiB */
#define RETRY_MIN_MS 50
#define REMOVED_MS 2000 /* how long libvirt may take to forget the domain before */
#define INBOX_MAX 1024 /* events; results of jobs are bounded by the jobs */

struct vmp_vc {
	char *uri, *pid_dir, *qemu_img;
	int keepalive_s;
	unsigned int keepalive_n, retry_max_ms;
	int fd;

	pthread_mutex_t lock;
	pthread_cond_t cond; /* connection, quit, cancelled jobs, ended threads */
	/* under the lock */
	unsigned int refs, threads;
	bool quit, closed;  /* closed: the connection that conn is (or was) has ended */
	virConnectPtr conn; /* NULL = none */
	struct vmp_vc_msg *head, *tail;
	unsigned int n_msgs;
	char close_reason[64];
};

uint64_t vmp_vc_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- references, inbox ---------------------------------------------------------- */

static void vc_unref_unlock(struct vmp_vc *vc)
{
	bool last = --vc->refs == 0;

	pthread_mutex_unlock(&vc->lock);
	if (!last)
		return;
	while (vc->head) {
		struct vmp_vc_msg *m = vc->head;

		vc->head = m->next;
		vmp_vc_msg_free(m);
	}
	close(vc->fd);
	pthread_cond_destroy(&vc->cond);
	pthread_mutex_destroy(&vc->lock);
	free(vc->uri);
	free(vc->pid_dir);
	free(vc->qemu_img);
	free(vc);
}

static void vc_unref(void *opaque)
{
	struct vmp_vc *vc = opaque;

	pthread_mutex_lock(&vc->lock);
	vc_unref_unlock(vc);
}

static struct vmp_vc *vc_ref(struct vmp_vc *vc)
{
	pthread_mutex_lock(&vc->lock);
	vc->refs++;
	pthread_mutex_unlock(&vc->lock);
	return vc;
}

void vmp_vc_msg_free(struct vmp_vc_msg *m)
{
	if (!m)
		return;
	if (m->pidfd >= 0)
		close(m->pidfd);
	free(m->active);
	free(m);
}

static struct vmp_vc_msg *msg_new(enum vmp_vc_msg_type type)
{
	struct vmp_vc_msg *m = calloc(1, sizeof(*m));

	if (m) {
		m->type = type;
		m->at_ns = vmp_vc_now_ns();
		m->pidfd = -1;
		m->dom_id = -1;
	}
	return m;
}

/* Takes the message. Must not fail for results; events over the limit are dropped and the connection is made anew. */
static void post(struct vmp_vc *vc, struct vmp_vc_msg *m)
{
	bool event = m->type != VMP_VC_DONE && m->type != VMP_VC_CONNECTED && m->type != VMP_VC_LOST;
	uint64_t one = 1;

	pthread_mutex_lock(&vc->lock);
	if (vc->quit || (event && vc->n_msgs >= INBOX_MAX)) {
		if (!vc->quit && !vc->closed) {
			vc->closed = true;
			snprintf(vc->close_reason, sizeof(vc->close_reason), "too many events at once");
			pthread_cond_broadcast(&vc->cond);
		}
		pthread_mutex_unlock(&vc->lock);
		vmp_vc_msg_free(m);
		return;
	}
	if (vc->tail)
		vc->tail->next = m;
	else
		vc->head = m;
	vc->tail = m;
	vc->n_msgs++;
	pthread_mutex_unlock(&vc->lock);
	while (write(vc->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

struct vmp_vc_msg *vmp_vc_take(struct vmp_vc *vc)
{
	struct vmp_vc_msg *m;
	uint64_t count;

	pthread_mutex_lock(&vc->lock);
	m = vc->head;
	if (m) {
		vc->head = m->next;
		m->next = NULL;
		vc->n_msgs--;
	}
	if (!vc->head) {
		vc->tail = NULL;
		/* non-blocking; a writer that comes after this makes it readable again */
		if (read(vc->fd, &count, sizeof(count)) < 0)
			count = 0;
	}
	pthread_mutex_unlock(&vc->lock);
	return m;
}

int vmp_vc_fd(const struct vmp_vc *vc)
{
	return vc->fd;
}

/* --- threads ------------------------------------------------------------------------ */

static int thread_start(void *(*fn)(void *), void *arg)
{
	const struct sched_param none = { .sched_priority = 0 };
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t t;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc)
		return -rc;
	/* The loop may be a real-time thread: these are not, and signals are not for them. */
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &none);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

/* Waits on the condition until `at_ns` (CLOCK_BOOTTIME) at the latest; the lock is held. */
static void wait_until(struct vmp_vc *vc, uint64_t at_ns)
{
	uint64_t now = vmp_vc_now_ns(), left = at_ns > now ? at_ns - now : 0;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += (time_t)(left / 1000000000u);
	ts.tv_nsec += (long)(left % 1000000000u);
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	pthread_cond_timedwait(&vc->cond, &vc->lock, &ts);
}

static void no_print(void *data, virErrorPtr err)
{
	(void)data;
	(void)err;
}

static void *event_thread(void *arg)
{
	(void)arg;
	for (;;)
		if (virEventRunDefaultImpl() < 0)
			usleep(10000); /* not the loop: this thread has nothing else to do, and must not spin */
	return NULL;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_rc;

/* libvirt's event loop is one for the whole process and cannot be taken back. */
static void libvirt_init(void)
{
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) {
		once_rc = -ENOSYS;
		return;
	}
	virSetErrorFunc(NULL, no_print);
	once_rc = thread_start(event_thread, NULL);
}

static void last_error(char *buf, size_t size)
{
	virErrorPtr e = virGetLastError();
	size_t n;

	snprintf(buf, size, "%s", e && e->message ? e->message : "libvirt gave no reason");
	for (n = strlen(buf); n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == ' '); n--)
		buf[n - 1] = '\0';
	for (char *p = buf; *p; p++)
		if (*p == '\n')
			*p = ' ';
}

/* --- connection ------------------------------------------------------------------------- */

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
	static const char *const words[] = { "error", "libvirtd closed the connection", "libvirtd does not answer",
					     "closed" };
	struct vmp_vc *vc = opaque;

	pthread_mutex_lock(&vc->lock);
	if (conn == vc->conn) {
		vc->closed = true;
		snprintf(vc->close_reason, sizeof(vc->close_reason), "%s",
			 reason >= 0 && (size_t)reason < ARRAY_SIZE(words) ? words[reason] : words[0]);
		pthread_cond_broadcast(&vc->cond);
	}
	pthread_mutex_unlock(&vc->lock);
}

static void post_event(struct vmp_vc *vc, enum vmp_vc_msg_type type, virDomainPtr dom, int event, int detail, const char *reason)
{
	struct vmp_vc_msg *m = msg_new(type);

	if (!m)
		return; /* the process itself, by its pidfd, is the evidence that counts */
	snprintf(m->reason, sizeof(m->reason), "%s", reason);
	m->event = event;
	m->detail = detail;
	m->dom_id = (int)virDomainGetID(dom);
	if (virDomainGetUUIDString(dom, m->uuid) < 0)
		vmp_vc_msg_free(m);
	else
		post(vc, m);
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *opaque)
{
	(void)conn;
	post_event(opaque, VMP_VC_LIFECYCLE, dom, event, detail, "");
	return 0;
}

static void on_reboot(virConnectPtr conn, virDomainPtr dom, void *opaque)
{
	(void)conn;
	post_event(opaque, VMP_VC_REBOOT, dom, 0, 0, "");
}

static void on_watchdog(virConnectPtr conn, virDomainPtr dom, int action, void *opaque)
{
	(void)conn;
	post_event(opaque, VMP_VC_WATCHDOG, dom, action, 0, "");
}

static void on_io_error(virConnectPtr conn, virDomainPtr dom, const char *path, const char *alias, int action, const char *reason,
			void *opaque)
{
	char text[VMP_VIRT_REASON];

	(void)conn;
	snprintf(text, sizeof(text), "%.160s%s%.60s", path && *path ? path : alias, reason && *reason ? ": " : "", reason ? reason : "");
	post_event(opaque, VMP_VC_IO_ERROR, dom, action, 0, text);
}

enum { SUBSCRIPTIONS = 4 };

static int subscribe(struct vmp_vc *vc, virConnectPtr conn, int ids[static SUBSCRIPTIONS])
{
	static const struct {
		int id;
		virConnectDomainEventGenericCallback fn;
	} want[SUBSCRIPTIONS] = {
		{ VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
		{ VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot) },
		{ VIR_DOMAIN_EVENT_ID_WATCHDOG, VIR_DOMAIN_EVENT_CALLBACK(on_watchdog) },
		{ VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, VIR_DOMAIN_EVENT_CALLBACK(on_io_error) },
	};

	for (unsigned int i = 0; i < SUBSCRIPTIONS; i++) {
		ids[i] = virConnectDomainEventRegisterAny(conn, NULL, want[i].id, want[i].fn, vc_ref(vc), vc_unref);
		if (ids[i] < 0) {
			vc_unref(vc);
			return -1;
		}
	}
	return 0;
}

/* Called after subscribing, so that nothing falls between the list and the events. */
static struct vmp_vc_msg *active_domains(virConnectPtr conn)
{
	struct vmp_vc_msg *m = msg_new(VMP_VC_CONNECTED);
	virDomainPtr *doms = NULL;
	int n;

	n = virConnectListAllDomains(conn, &doms, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	if (n >= 0 && m) {
		m->active = calloc((size_t)n + 1, sizeof(*m->active));
		for (int i = 0; i < n && m->active; i++) {
			struct vmp_vc_active *a = &m->active[m->n_active];

			if (virDomainGetUUIDString(doms[i], a->uuid) < 0)
				continue;
			if (virDomainGetState(doms[i], &a->state, &a->reason, 0) < 0)
				a->state = a->reason = -1;
			m->n_active++;
		}
	}
	for (int i = 0; i < n; i++)
		virDomainFree(doms[i]);
	free(doms);
	if (n < 0 || !m || !m->active) {
		vmp_vc_msg_free(m);
		return NULL;
	}
	return m;
}

/* One connection from its beginning to its end. False: it was not made, `why` says why not. */
static bool serve(struct vmp_vc *vc, char *why, size_t why_size)
{
	virConnectPtr conn = virConnectOpen(vc->uri);
	int ids[SUBSCRIPTIONS] = { -1, -1, -1, -1 };
	struct vmp_vc_msg *m;
	bool ok = false;

	if (!conn) {
		last_error(why, why_size);
		return false;
	}
	pthread_mutex_lock(&vc->lock);
	vc->closed = false;
	vc->conn = conn;
	vc->close_reason[0] = '\0';
	pthread_mutex_unlock(&vc->lock);

	if (virConnectRegisterCloseCallback(conn, on_close, vc_ref(vc), vc_unref) < 0) {
		vc_unref(vc);
		virResetLastError();
	}
	/* 1: the other side knows no keepalive (local drivers) */
	if (virConnectSetKeepAlive(conn, vc->keepalive_s, vc->keepalive_n) < 0)
		virResetLastError();
	m = subscribe(vc, conn, ids) == 0 ? active_domains(conn) : NULL;
	if (m) {
		ok = true;
		post(vc, m);
		pthread_mutex_lock(&vc->lock);
		pthread_cond_broadcast(&vc->cond);
		while (!vc->quit && !vc->closed)
			pthread_cond_wait(&vc->cond, &vc->lock);
		snprintf(why, why_size, "%s", vc->close_reason);
		pthread_mutex_unlock(&vc->lock);
	} else {
		last_error(why, why_size);
	}

	pthread_mutex_lock(&vc->lock);
	vc->conn = NULL;
	pthread_mutex_unlock(&vc->lock);
	for (int i = 0; i < SUBSCRIPTIONS; i++)
		if (ids[i] >= 0)
			virConnectDomainEventDeregisterAny(conn, ids[i]);
	virConnectUnregisterCloseCallback(conn, on_close);
	virConnectClose(conn);
	return ok;
}

static void *conn_thread(void *arg)
{
	struct vmp_vc *vc = arg;
	unsigned int delay_ms = RETRY_MIN_MS;
	bool told = false;

	for (;;) {
		char why[VMP_VIRT_REASON] = "";
		bool served = serve(vc, why, sizeof(why));
		struct vmp_vc_msg *m;

		/* A lost connection is told each time, one that cannot be made only the first time. */
		if (served || !told) {
			m = msg_new(VMP_VC_LOST);
			if (m) {
				snprintf(m->reason, sizeof(m->reason), "%s", why);
				post(vc, m);
			}
			told = true;
		}
		if (served)
			delay_ms = RETRY_MIN_MS;
		pthread_mutex_lock(&vc->lock);
		for (uint64_t at = vmp_vc_now_ns() + (uint64_t)delay_ms * 1000000u; !vc->quit && vmp_vc_now_ns() < at;)
			wait_until(vc, at);
		if (vc->quit)
			break;
		pthread_mutex_unlock(&vc->lock);
		delay_ms = delay_ms * 2 < vc->retry_max_ms ? delay_ms * 2 : vc->retry_max_ms;
	}
	vc->threads--;
	pthread_cond_broadcast(&vc->cond);
	vc_unref_unlock(vc);
	return NULL;
}

/* --- jobs ---------------------------------------------------------------------------------- */

struct vmp_vc_job *vmp_vc_job_new(enum vmp_vc_job_kind kind, uint64_t pair_id, const char *name, const char *uuid)
{
	struct vmp_vc_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->kind = kind;
	job->pair_id = pair_id;
	snprintf(job->name, sizeof(job->name), "%s", name);
	snprintf(job->uuid, sizeof(job->uuid), "%s", uuid);
	atomic_init(&job->cancelled, false);
	atomic_init(&job->refs, 1);
	return job;
}

void vmp_vc_job_unref(struct vmp_vc_job *job)
{
	if (!job || atomic_fetch_sub(&job->refs, 1) > 1)
		return;
	for (unsigned int i = 0; i < job->n_disks; i++) {
		free(job->disk[i].path);
		free(job->disk[i].backing);
		free(job->disk[i].format);
	}
	free(job->xml);
	free(job->disk_dir);
	free(job);
}

void vmp_vc_cancel(struct vmp_vc *vc, struct vmp_vc_job *job)
{
	atomic_store(&job->cancelled, true);
	pthread_mutex_lock(&vc->lock);
	pthread_cond_broadcast(&vc->cond);
	pthread_mutex_unlock(&vc->lock);
}

static int left_ms(const struct vmp_vc_job *job)
{
	uint64_t now = vmp_vc_now_ns();

	return job->deadline_ns > now ? (int)((job->deadline_ns - now) / 1000000u) + 1 : 0;
}

/* The connection with a reference, or NULL when there is none until the job's deadline (at once when !wait). */
static virConnectPtr conn_get(struct vmp_vc *vc, struct vmp_vc_job *job, bool wait)
{
	virConnectPtr conn = NULL;

	pthread_mutex_lock(&vc->lock);
	while (wait && (!vc->conn || vc->closed) && !vc->quit && !atomic_load(&job->cancelled) && left_ms(job) > 0)
		wait_until(vc, job->deadline_ns);
	if (vc->conn && !vc->closed && !vc->quit && virConnectRef(vc->conn) == 0)
		conn = vc->conn;
	pthread_mutex_unlock(&vc->lock);
	return conn;
}

/* A pause before the next try; ends early when the job is cancelled. False: no time is left. */
static bool pause_retry(struct vmp_vc *vc, struct vmp_vc_job *job)
{
	uint64_t at = vmp_vc_now_ns() + (uint64_t)RETRY_MIN_MS * 1000000u;
	bool go_on;

	pthread_mutex_lock(&vc->lock);
	while (vmp_vc_now_ns() < at && !vc->quit && !atomic_load(&job->cancelled))
		wait_until(vc, at);
	go_on = !vc->quit && !atomic_load(&job->cancelled) && left_ms(job) > 0;
	pthread_mutex_unlock(&vc->lock);
	return go_on;
}

static bool connection_trouble(virConnectPtr conn)
{
	virErrorPtr e = virGetLastError();

	/* the question about the connection resets the error: it comes last */
	return (e && (e->domain == VIR_FROM_RPC || e->code == VIR_ERR_RPC)) || virConnectIsAlive(conn) != 1;
}

static int make_dir(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		/* qemu may run as another user: it must get through, it need not list */
		if (mkdir(copy, 0711) < 0 && errno != EEXIST)
			return -errno;
		*p = c;
		if (c == '\0')
			return 0;
	}
}

/* The name of the backing file as the header of a qcow2 image gives it; "" when it gives none. */
static int backing_of(const char *path, char *ret_name, size_t size)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t h[20];
	uint64_t offset = 0;
	uint32_t len = 0;

	ret_name[0] = '\0';
	if (fd < 0)
		return -errno;
	if (pread(fd, h, sizeof(h), 0) != sizeof(h) || memcmp(h, "QFI\xfb", 4) != 0)
		return -EBADMSG;
	for (int i = 8; i < 16; i++)
		offset = offset << 8 | h[i];
	for (int i = 16; i < 20; i++)
		len = len << 8 | h[i];
	if (offset == 0)
		return 0;
	if (len >= size || offset > INT32_MAX || pread(fd, ret_name, len, (off_t)offset) != (ssize_t)len) {
		ret_name[0] = '\0';
		return -EBADMSG;
	}
	ret_name[len] = '\0';
	return 0;
}

/* An overlay of an earlier template would give the guest a disk nobody means any more. */
static int check_overlay(const struct vmp_domxml_disk *d, char *reason, size_t size)
{
	char backing[1024];
	int rc = backing_of(d->path, backing, sizeof(backing));

	if (rc == 0 && !strcmp(backing, d->backing))
		return 0;
	if (rc < 0)
		snprintf(reason, size, "%s is no qcow2 overlay (remove it)", d->path);
	else
		snprintf(reason, size, "%s is an overlay of %s, the template says %s (remove it to begin anew)",
			 d->path, backing[0] ? backing : "nothing", d->backing);
	return -ESTALE;
}

/* Made under another name first: an overlay that is there is whole. */
static int make_overlay(struct vmp_vc *vc, struct vmp_vc_job *job, const struct vmp_domxml_disk *d, char *reason,
			size_t size)
{
	CLEANUP_FREE char *tmp = NULL;
	char out[160], *line;
	struct stat st;
	int rc;

	if (lstat(d->path, &st) == 0)
		return check_overlay(d, reason, size);
	if (asprintf(&tmp, "%s.new", d->path) < 0) {
		tmp = NULL;
		return -ENOMEM;
	}
	{
		char *argv[] = { vc->qemu_img, (char *)"create", (char *)"-q", (char *)"-f", (char *)"qcow2",
				 (char *)"-F", d->format,	 (char *)"-b", d->backing,   tmp,
				 NULL };

		rc = vmp_proc_run(argv, left_ms(job), out, sizeof(out));
	}
	line = strchr(out, '\n');
	if (line)
		*line = '\0';
	if (rc == 0 && rename(tmp, d->path) < 0)
		rc = -errno;
	if (rc == 0)
		return 0;
	unlink(tmp);
	if (rc > 0)
		snprintf(reason, size, "overlay of %s: %s", d->backing, out[0] ? out : "qemu-img failed");
	else if (rc == -ENOENT)
		snprintf(reason, size, "overlay of %s: %s was not found (install qemu-utils)", d->backing,
			 vc->qemu_img);
	else
		snprintf(reason, size, "overlay of %s: %s", d->backing, strerror(-rc));
	return rc > 0 ? -EIO : rc;
}

static int make_overlays(struct vmp_vc *vc, struct vmp_vc_job *job, char *reason, size_t size)
{
	int rc;

	if (!job->disk_dir)
		return 0;
	rc = make_dir(job->disk_dir);
	if (rc < 0) {
		snprintf(reason, size, "%s: %s", job->disk_dir, strerror(-rc));
		return rc;
	}
	for (unsigned int i = 0; i < job->n_disks && rc == 0; i++) {
		if (atomic_load(&job->cancelled))
			return -ECANCELED;
		rc = make_overlay(vc, job, &job->disk[i], reason, size);
	}
	return rc;
}

/* Nothing but what we made is removed; anything else there stays and is an error. */
static int remove_disks(const char *dir, char *reason, size_t size)
{
	static const char *const ours[] = { ".qcow2", ".qcow2.new", "nvram.fd" };
	struct dirent *e;
	DIR *d = opendir(dir);
	int rc = 0;

	if (!d) {
		if (errno == ENOENT)
			return 0;
		rc = -errno;
	}
	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
			size_t n = strlen(ours[i]);

			if (len >= n && !strcmp(e->d_name + len - n, ours[i]) && unlinkat(dirfd(d), e->d_name, 0) < 0 &&
			    errno != ENOENT)
				rc = -errno;
		}
	}
	if (d)
		closedir(d);
	if (rc == 0 && rmdir(dir) < 0 && errno != ENOENT)
		rc = -errno;
	if (rc < 0)
		snprintf(reason, size, "%s: %s", dir, strerror(-rc));
	return rc;
}

/* Answers -EAGAIN when it is worth another try, -EBUSY when it may be. */
static int start_once(struct vmp_vc *vc, struct vmp_vc_job *job, virConnectPtr conn, struct vmp_vc_msg *m)
{
	virDomainPtr dom = virDomainLookupByUUIDString(conn, job->uuid);
	int rc;

	if (dom && virDomainIsActive(dom) == 1) {
		rc = vmp_proc_find_vm(vc->pid_dir, job->name, job->uuid, true, &m->pid, &m->start_ticks, &m->pidfd);
		m->dom_id = (int)virDomainGetID(dom);
		/* libvirt has not yet seen that the process is gone: help it */
		if (rc == -ESRCH && virDomainDestroy(dom) < 0)
			virResetLastError();
		virDomainFree(dom);
		return rc == -ESRCH ? -EAGAIN : rc;
	}
	if (dom)
		virDomainFree(dom);
	else if (virGetLastErrorCode() != VIR_ERR_NO_DOMAIN)
		goto failed;
	if (atomic_load(&job->cancelled))
		return -ECANCELED;

	/* Transient, and not tied to our connection: it outlives this daemon and leaves nothing in libvirt. */
	dom = virDomainCreateXML(conn, job->xml, VIR_DOMAIN_NONE);
	if (!dom)
		goto failed;
	m->dom_id = (int)virDomainGetID(dom);
	virDomainFree(dom);
	rc = vmp_proc_find_vm(vc->pid_dir, job->name, job->uuid, true, &m->pid, &m->start_ticks, &m->pidfd);
	if (rc < 0)
		snprintf(m->reason, sizeof(m->reason), "the VM's process ended at once");
	return rc;
failed:
	rc = virGetLastErrorCode();
	last_error(m->reason, sizeof(m->reason));
	/* Of a domain that it is told to create, libvirt knows nothing while it is taking the one before, of the same id, from its list, or fails
	 * with "already being removed", which has no code of its own. */
	if (rc == VIR_ERR_NO_DOMAIN || connection_trouble(conn))
		return -EAGAIN;
	return rc == VIR_ERR_OPERATION_FAILED ? -EBUSY : -EIO;
}

static int run_start(struct vmp_vc *vc, struct vmp_vc_job *job, struct vmp_vc_msg *m)
{
	int rc = make_overlays(vc, job, m->reason, sizeof(m->reason));
	unsigned int busy = 0;

	while (rc == 0) {
		virConnectPtr conn = conn_get(vc, job, true);

		if (!conn) {
			if (atomic_load(&job->cancelled))
				return -ECANCELED;
			snprintf(m->reason, sizeof(m->reason), "libvirtd does not answer (%s)", vc->uri);
			return -ENOTCONN;
		}
		rc = start_once(vc, job, conn, m);
		virConnectClose(conn);
		if (rc == -EBUSY)
			rc = ++busy < REMOVED_MS / RETRY_MIN_MS ? -EAGAIN : -EIO;
		if (rc != -EAGAIN)
			break;
		if (!pause_retry(vc, job))
			return atomic_load(&job->cancelled) ? -ECANCELED : -ETIMEDOUT;
		rc = 0;
	}
	return rc;
}

/* The caller closes the connection; no domain, with libvirt's error, when it knows none. -ENOTCONN: nobody to ask. */
static int open_domain(struct vmp_vc *vc, struct vmp_vc_job *job, struct vmp_vc_msg *m, virConnectPtr *ret_conn, virDomainPtr *ret_dom)
{
	virConnectPtr conn = conn_get(vc, job, false);

	if (!conn) {
		snprintf(m->reason, sizeof(m->reason), "libvirtd does not answer (%s)", vc->uri);
		return -ENOTCONN;
	}
	*ret_dom = virDomainLookupByUUIDString(conn, job->uuid);
	*ret_conn = conn;
	return 0;
}

/* -ENOENT: libvirt knows no such domain; -ENOTCONN: nobody to ask. */
static int run_end(struct vmp_vc *vc, struct vmp_vc_job *job, struct vmp_vc_msg *m)
{
	virConnectPtr conn;
	virDomainPtr dom;
	int rc = open_domain(vc, job, m, &conn, &dom);

	if (rc < 0)
		return rc;
	rc = -EIO;
	if (!dom)
		rc = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? -ENOENT : -EIO;
	else if (virDomainIsActive(dom) == 0)
		rc = -ENOENT;
	else if (job->kind == VMP_VC_SHUTDOWN)
		rc = virDomainShutdownFlags(dom, VIR_DOMAIN_SHUTDOWN_DEFAULT) < 0 ? -EIO : 0;
	else
		rc = virDomainDestroy(dom) < 0 ? -EIO : 0;
	if (rc == -EIO)
		last_error(m->reason, sizeof(m->reason));
	if (dom)
		virDomainFree(dom);
	virConnectClose(conn);
	return rc;
}

/* A VM that was stopped (by a panic, an I/O error) runs again after it. */
static int reset_domain(virDomainPtr dom)
{
	int state;

	if (virDomainReset(dom, 0) < 0 || virDomainGetState(dom, &state, NULL, 0) < 0)
		return -EIO;
	if ((state == VIR_DOMAIN_PAUSED || state == VIR_DOMAIN_CRASHED) && virDomainResume(dom) < 0)
		return -EIO;
	return 0;
}

/* Any answer is a sign of life. */
static int ping_agent(virDomainPtr dom, int timeout_s)
{
	CLEANUP_FREE char *xml = NULL;
	unsigned int nseconds;
	long long seconds;
	const char *at;
	virErrorPtr e;

	if (virDomainAgentSetResponseTimeout(dom, timeout_s, 0) < 0)
		return -EIO;
	if (virDomainGetTime(dom, &seconds, &nseconds, 0) == 0)
		return 0;
	e = virGetLastError();
	if (!e || (e->code != VIR_ERR_AGENT_UNRESPONSIVE && e->code != VIR_ERR_AGENT_UNSYNCED))
		return -EIO;
	/* silent, or has it closed its port? */
	xml = virDomainGetXMLDesc(dom, 0);
	at = xml ? strstr(xml, "name='org.qemu.guest_agent.0'") : NULL;
	return at && !strncmp(at + strlen("name='org.qemu.guest_agent.0'"), " state='connected'", 18) ? -ETIMEDOUT : -EIO;
}

static int run_in_guest(struct vmp_vc *vc, struct vmp_vc_job *job, struct vmp_vc_msg *m)
{
	virConnectPtr conn;
	virDomainPtr dom;
	int rc = open_domain(vc, job, m, &conn, &dom);

	if (rc < 0)
		return rc;
	rc = -EIO;
	if (dom)
		rc = job->kind == VMP_VC_RESET ? reset_domain(dom) : ping_agent(dom, (left_ms(job) + 999) / 1000);
	if (rc < 0)
		last_error(m->reason, sizeof(m->reason));
	if (dom)
		virDomainFree(dom);
	virConnectClose(conn);
	return rc;
}

struct thread_arg {
	struct vmp_vc *vc;
	struct vmp_vc_job *job;
	struct vmp_vc_msg *msg; /* made beforehand: a result is never lost for want of memory */
};

static void *job_thread(void *arg)
{
	struct thread_arg a = *(struct thread_arg *)arg;
	struct vmp_vc_msg *m = a.msg;

	free(arg);
	switch (a.job->kind) {
	case VMP_VC_START:
		m->rc = run_start(a.vc, a.job, m);
		break;
	case VMP_VC_SHUTDOWN:
	case VMP_VC_DESTROY:
		m->rc = run_end(a.vc, a.job, m);
		break;
	case VMP_VC_FIND:
		m->rc = vmp_proc_find_vm(a.vc->pid_dir, a.job->name, a.job->uuid, true, &m->pid, &m->start_ticks,
					 &m->pidfd);
		break;
	case VMP_VC_REMOVE:
		m->rc = remove_disks(a.job->disk_dir, m->reason, sizeof(m->reason));
		break;
	case VMP_VC_RESET:
	case VMP_VC_PING:
		m->rc = run_in_guest(a.vc, a.job, m);
		break;
	}
	m->at_ns = vmp_vc_now_ns();
	vmp_vc_job_unref(a.job);
	post(a.vc, m);
	pthread_mutex_lock(&a.vc->lock);
	a.vc->threads--;
	pthread_cond_broadcast(&a.vc->cond);
	vc_unref_unlock(a.vc);
	return NULL;
}

static int thread_ref(struct vmp_vc *vc, void *(*fn)(void *), void *arg)
{
	int rc;

	pthread_mutex_lock(&vc->lock);
	vc->refs++;
	vc->threads++;
	pthread_mutex_unlock(&vc->lock);
	rc = thread_start(fn, arg);
	if (rc < 0) {
		pthread_mutex_lock(&vc->lock);
		vc->threads--;
		vc_unref_unlock(vc);
	}
	return rc;
}

int vmp_vc_submit(struct vmp_vc *vc, struct vmp_vc_job *job)
{
	struct thread_arg *arg = malloc(sizeof(*arg));
	struct vmp_vc_msg *m = msg_new(VMP_VC_DONE);
	int rc = -ENOMEM;

	if (arg && m) {
		m->kind = job->kind;
		m->pair_id = job->pair_id;
		m->job_id = job->id;
		m->tag = job->tag;
		m->detached = job->detached;
		*arg = (struct thread_arg){ .vc = vc, .job = job, .msg = m };
		atomic_fetch_add(&job->refs, 1);
		rc = thread_ref(vc, job_thread, arg);
		if (rc == 0)
			return 0;
		atomic_fetch_sub(&job->refs, 1);
	}
	free(arg);
	vmp_vc_msg_free(m);
	return rc;
}

/* --- beginning and end -------------------------------------------------------------------------- */

int vmp_vc_new(struct vmp_vc **ret_, const struct vmp_virt_opts *opts, char *reason, size_t reason_size)
{
	pthread_condattr_t ca;
	struct vmp_vc *vc;
	int rc;

	pthread_once(&once, libvirt_init);
	if (once_rc < 0) {
		snprintf(reason, reason_size, "libvirt's event loop cannot be started: %s", strerror(-once_rc));
		return once_rc;
	}
	vc = calloc(1, sizeof(*vc));
	if (!vc)
		return -ENOMEM;
	vc->refs = 1;
	vc->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = vc->fd < 0 ? -errno : 0;
	pthread_mutex_init(&vc->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&vc->cond, &ca);
	pthread_condattr_destroy(&ca);
	vc->uri = strdup(opts->uri ? opts->uri : "qemu:///system");
	vc->pid_dir = strdup(opts->pid_dir ? opts->pid_dir : "/run/libvirt/qemu");
	vc->qemu_img = strdup(opts->qemu_img ? opts->qemu_img : "qemu-img");
	vc->keepalive_s = opts->keepalive_s ? (int)opts->keepalive_s : 1;
	vc->keepalive_n = opts->keepalive_n ? opts->keepalive_n : 4;
	vc->retry_max_ms = opts->retry_max_ms ? opts->retry_max_ms : 2000;
	if (rc == 0 && (!vc->uri || !vc->pid_dir || !vc->qemu_img))
		rc = -ENOMEM;
	if (rc == 0)
		rc = thread_ref(vc, conn_thread, vc);
	if (rc < 0) {
		snprintf(reason, reason_size, "threads for libvirt: %s", strerror(-rc));
		vc_unref(vc);
		return rc;
	}
	*ret_ = vc;
	return 0;
}

void vmp_vc_stop(struct vmp_vc *vc, unsigned int wait_ms)
{
	uint64_t end = vmp_vc_now_ns() + (uint64_t)wait_ms * 1000000u;

	pthread_mutex_lock(&vc->lock);
	vc->quit = true;
	pthread_cond_broadcast(&vc->cond);
	while (vc->threads > 0 && vmp_vc_now_ns() < end)
		wait_until(vc, end);
	vc_unref_unlock(vc);
}
