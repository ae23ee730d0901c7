/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signs that a member, or its host, is not well although its VM runs: who delivers them, and doing what core/trigger.h decides about them.
 * The loop only looks: what may wait (disks, commands of operators, libvirt) is done by threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum {
	AGAIN_MS = 1000,       /* what stays raised is decided again, since what stood in the way may have gone */
	GUEST_MS = 500,        /* how often the guest's channel is looked at */
	IO_ERRORS_MS = 10000,  /* within which I/O errors count */
	RECOVER_MS = 60000,    /* for a guest to be ready again after a reset */
	KEEP_MS = 60000,       /* how long an event counts that nothing takes back */
	RESET_MS = 10000,      /* for libvirt to reset it */
	PAUSE_TELL_MS = 300,   /* a panic and a migration pause the VM as well, and say so a moment later */
	REFUSED_MS = 500,
	CHANNEL_BYTES = 65536, /* read from a guest at one look */
	DISKS_MS = 2000,       /* from one look at the disks' files to the next */
};

static void health_stop(struct vmp_member *m);
static void health_later(struct vmp_member *m);

static struct vmp_sign *sign_of(struct vmp_member *m, enum vmp_trigger t)
{
	return &m->signs.of[t];
}

static bool of_host(unsigned t)
{
	return vmp_trigger_info(t)->flags & VMP_TRG_HOST;
}

/* --- what is decided, and done ------------------------------------------------------------------------------------------------- */
static uint64_t window_ns(const struct vmp_member *m)
{
	return m->params.trigger_window_ms * ms_ns;
}

/* Of the pair: those that this node ended, and what the others published of theirs. */
static uint32_t failovers(const struct vmp_member *m)
{
	uint32_t n = vmp_trigger_count(&m->signs.failovers, window_ns(m), vmp_now_ns());

	for (unsigned i = 0; i < m->d->n_nodes; i++) {
		const json_t *p = m->d->nodes[i].id != m->d->node ? vmp_group_pair(m->d, m->d->nodes[i].id, m->name) : NULL;

		n += (uint32_t)json_integer_value(json_object_get(json_object_get(p, "signs"), "failovers"));
	}
	return n;
}

static bool other_has(const struct vmp_member *m, unsigned node, unsigned t)
{
	const json_t *p = node ? vmp_group_pair(m->d, node, m->name) : NULL, *one;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(p, "signs"), "active"), i, one) {
		const char *name = json_string_value(json_object_get(one, "trigger"));

		if (name && !strcmp(name, vmp_trigger_text(t)))
			return true;
	}
	return false;
}

/* The guest executes nothing, for a reason that is known: that it is silent is no sign of its own. */
static bool stands_still(const struct vmp_signs *s)
{
	return s->paused || s->of[VMP_TRG_PANIC].hyst.raised;
}

static bool suspended(const struct vmp_member *m, unsigned t)
{
	const struct vmp_signs *s = &m->signs;

	if (m->phase != VMP_HOST_RUNNING || s->moving || s->resetting)
		return true;
	if (t != VMP_TRG_PANIC && s->of[VMP_TRG_PANIC].hyst.raised && !of_host(t))
		return true;
	return t != VMP_TRG_PANIC && s->paused && s->how != VMP_VIRT_HOW_IOERROR && s->how != VMP_VIRT_HOW_WATCHDOG;
}

static struct vmp_trg_out decide(struct vmp_member *m, unsigned t)
{
	struct vmp_signs *s = &m->signs;
	uint64_t now = vmp_now_ns();
	struct vmp_pair_view v = { 0 };
	struct vmp_trg_in in = { .trigger = (uint8_t)t, .policy = m->params.on[t], .frozen = m->frozen, .suspended = suspended(m, t),
				 .limit = m->params.trigger_limit };
	unsigned standby = 0;

	if (!vmp_member_view(m, &v))
		in.suspended = true;
	in.primary = v.role == VMP_ROLE_HOLDING;
	if (in.primary)
		standby = v.mode == VMP_MODE_SYNC && v.sync_node != m->d->node ? v.sync_node : 0;
	in.other = in.primary ? standby != 0 : v.primary && v.primary != m->d->node;
	if (in.primary && s->refused_ns && now - s->refused_ns < REFUSED_MS * ms_ns)
		in.other = false; /* the core knows better */
	in.other_same = in.primary && of_host(t) && other_has(m, standby, t);
	in.restarts = vmp_trigger_count(&s->of[t].resets, window_ns(m), now);
	in.failovers = failovers(m);
	return vmp_trigger_decide(&in);
}

static const char *act_text(unsigned act)
{
	switch ((enum vmp_trg_act)act) {
	case VMP_TRG_DO_NOTHING: return "";
	case VMP_TRG_DO_REPORT: return "reported only";
	case VMP_TRG_DO_RESET: return "the guest is reset";
	case VMP_TRG_DO_FAILOVER: return "failover";
	case VMP_TRG_DO_REPLACE: return "the member is replaced";
	}
	return "";
}

static void forget_guest_signs(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;
	char old[4096];

	/* what the guest said before it began anew */
	for (unsigned i = 0; s->guest_fd >= 0 && i < CHANNEL_BYTES / sizeof(old) && read(s->guest_fd, old, sizeof(old)) > 0; i++)
		;

	for (unsigned t = 0; t < VMP_TRG_COUNT; t++)
		if (!of_host(t)) {
			s->of[t].hyst = (struct vmp_trg_hyst){ 0 };
			s->of[t].did = VMP_TRG_DO_NOTHING;
		}
	s->guest = (struct vmp_trg_silence){ 0 };
	s->greeted = s->health_was_ok = false;
}

static void reset_guest(struct vmp_member *m, unsigned t)
{
	struct vmp_signs *s = &m->signs;
	int r = vmp_virt_reset(m->d->virt, m->id, RESET_MS, m->id);

	vmp_trigger_mark(&s->of[t].resets, vmp_now_ns()); /* one that fails counts as well */
	if (r < 0) {
		vmp_log(LOG_ERR, "%s: the guest cannot be reset: %s", m->name, strerror(-r));
		return;
	}
	s->resetting = true;
	s->resetter = (uint8_t)t;
}

static void act_on(struct vmp_member *m, unsigned t)
{
	struct vmp_sign *one = sign_of(m, t);
	struct vmp_trg_out out = decide(m, t);
	struct vmp_event ev = { .type = VMP_EV_SWITCHOVER, .pair = m->id, .on = true };
	bool news = out.act != one->did || out.why != one->why;

	one->again_ns = vmp_now_ns() + AGAIN_MS * ms_ns;
	if (out.act == VMP_TRG_DO_NOTHING)
		return;
	if (news) {
		vmp_log(LOG_WARNING, "%s: trigger %s: %s; %s%s%s", m->name, vmp_trigger_text(t), one->text, act_text(out.act), *out.why ? ": " : "",
			out.why);
		/* the first word of a change of primary says why there is one */
		vmp_journal_add(m->d->journal, m->name, 0, out.act == VMP_TRG_DO_FAILOVER ? "cause" : "trigger", "trigger %s: %s; %s%s%s", vmp_trigger_text(t), one->text,
				act_text(out.act), *out.why ? ": " : "", out.why);
	}
	one->did = (uint8_t)out.act;
	one->why = out.why;
	vmp_group_publish_soon(m->d);
	switch (out.act) {
	case VMP_TRG_DO_NOTHING:
	case VMP_TRG_DO_REPORT:
		break;
	case VMP_TRG_DO_RESET:
		reset_guest(m, t);
		break;
	case VMP_TRG_DO_FAILOVER:
		m->signs.moving = true;
		m->signs.mover = (uint8_t)t;
		vmp_exec_op(m->d, VMP_OP_TRIGGER, 0, &ev); /* close, release, claim, open: as a switchover */
		break;
	case VMP_TRG_DO_REPLACE:
		vmp_member_end(m, one->text);
		break;
	}
}

void vmp_signs_moved(struct vmp_member *m, int rc, const char *reason)
{
	struct vmp_signs *s = &m->signs;
	struct vmp_sign *one = sign_of(m, s->mover);

	if (!s->moving)
		return;
	s->moving = false;
	if (rc < 0) {
		vmp_journal_add(m->d->journal, m->name, 0, "trigger", "trigger %s: no failover: %s", vmp_trigger_text(s->mover), reason);
		s->refused_ns = vmp_now_ns();
		one->again_ns = 0;
		if (m->phase == VMP_HOST_RUNNING)
			act_on(m, s->mover);
		return;
	}
	vmp_trigger_mark(&s->failovers, vmp_now_ns());
	vmp_group_publish_soon(m->d);
	/* The pair is in other hands: Pacemaker starts a fresh member here. A host's trouble is no fault of the guest. */
	if (m->phase == VMP_HOST_RUNNING && !of_host(s->mover))
		vmp_member_end(m, one->text);
}

/* One sign; `text` is kept of the bad ones. */
static void sign(struct vmp_member *m, enum vmp_trigger t, bool bad, const char *text)
{
	struct vmp_sign *one = sign_of(m, t);
	uint32_t need = t == VMP_TRG_HEALTH ? m->params.health_failures : vmp_trigger_info(t)->need;
	uint64_t now = vmp_now_ns();

	if (bad) {
		snprintf(one->text, sizeof(one->text), "%.159s", text);
		one->last_ns = now;
	}
	switch (vmp_trigger_sample(&one->hyst, bad, need, t == VMP_TRG_IO_ERROR ? IO_ERRORS_MS * ms_ns : 0, now)) {
	case VMP_TRG_SAME:
		break;
	case VMP_TRG_RAISED:
		one->since_ns = now;
		one->did = VMP_TRG_DO_NOTHING;
		act_on(m, t);
		break;
	case VMP_TRG_CLEARED:
		vmp_log(LOG_NOTICE, "%s: trigger %s: over", m->name, vmp_trigger_text(t));
		vmp_journal_add(m->d->journal, m->name, 0, "trigger-over", "trigger %s: %s", vmp_trigger_text(t), one->text);
		vmp_group_publish_soon(m->d);
		break;
	}
}

/* What needs no repetition to be believed. */
static void sign_at_once(struct vmp_member *m, enum vmp_trigger t, const char *text)
{
	struct vmp_sign *one = sign_of(m, t);

	snprintf(one->text, sizeof(one->text), "%.159s", text);
	one->last_ns = vmp_now_ns();
	if (one->hyst.raised)
		return;
	one->hyst = (struct vmp_trg_hyst){ .raised = true };
	one->since_ns = vmp_now_ns();
	one->did = VMP_TRG_DO_NOTHING;
	act_on(m, t);
}

/* --- what libvirt says ------------------------------------------------------------------------------------------------------------ */
static void on_paused(struct vmp_member *m, const struct vmp_virt_event *ev)
{
	struct vmp_signs *s = &m->signs;

	s->paused = true;
	s->paused_told = false;
	s->how = (uint8_t)ev->how;
	s->paused_ns = vmp_now_ns();
	if (ev->how == VMP_VIRT_HOW_IOERROR)
		sign_at_once(m, VMP_TRG_IO_ERROR, "the VM was stopped by an I/O error of a disk");
	else if (ev->how == VMP_VIRT_HOW_WATCHDOG)
		sign_at_once(m, VMP_TRG_WATCHDOG, "the guest did not feed its watchdog");
}

static void on_resumed(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;

	if (s->paused_told) {
		vmp_log(LOG_NOTICE, "%s: VM runs on", m->name);
		vmp_journal_add(m->d->journal, m->name, 0, "resumed", "the VM runs on");
	}
	s->paused = s->paused_told = false;
	/* whoever let it run on has seen why it was stopped */
	s->of[VMP_TRG_PANIC].hyst = s->of[VMP_TRG_IO_ERROR].hyst = (struct vmp_trg_hyst){ 0 };
	if (s->guest.heard_ns) /* it could not speak */
		vmp_trigger_heard(&s->guest, vmp_now_ns());
	s->health_was_ok = false;
	vmp_group_publish_soon(m->d);
}

static void on_reset(struct vmp_member *m, const struct vmp_virt_event *ev)
{
	struct vmp_signs *s = &m->signs;

	if (!s->resetting)
		return;
	s->resetting = false;
	if (ev->rc < 0) {
		vmp_log(LOG_ERR, "%s: the guest cannot be reset: %s", m->name, ev->reason[0] ? ev->reason : strerror(-ev->rc));
		vmp_journal_add(m->d->journal, m->name, 0, "trigger", "the guest cannot be reset: %s", ev->reason);
		return; /* it stays raised: tried again, or the failover comes */
	}
	vmp_journal_add(m->d->journal, m->name, 0, "reset", "the guest was reset because of trigger %s", vmp_trigger_text(s->resetter));
	s->paused = false;
	s->reset_ns = vmp_now_ns();
	s->recover_ns = s->reset_ns + RECOVER_MS * ms_ns;
	forget_guest_signs(m);
	vmp_group_publish_soon(m->d);
}

void vmp_signs_virt(struct vmp_member *m, const struct vmp_virt_event *ev)
{
	struct vmp_signs *s = &m->signs;
	char text[160];

	if (!s->on)
		return;
	switch (ev->type) {
	case VMP_VIRT_PANICKED:
		sign_at_once(m, VMP_TRG_PANIC, ev->reason);
		break;
	case VMP_VIRT_WATCHDOG:
		sign(m, VMP_TRG_WATCHDOG, true, ev->reason);
		break;
	case VMP_VIRT_IO_ERROR:
		vmp_log(LOG_WARNING, "%s: I/O error: %s", m->name, ev->reason);
		snprintf(text, sizeof(text), "I/O errors of %.140s", ev->reason);
		sign(m, VMP_TRG_IO_ERROR, true, text);
		break;
	case VMP_VIRT_PAUSED:
		on_paused(m, ev);
		break;
	case VMP_VIRT_RESUMED:
		on_resumed(m);
		break;
	case VMP_VIRT_REBOOTED: /* whatever the guest was, it begins anew */
		forget_guest_signs(m);
		vmp_group_publish_soon(m->d);
		break;
	case VMP_VIRT_RESET:
		on_reset(m, ev);
		break;
	case VMP_VIRT_PONG:
		/* That libvirt cannot ask, or that the agent was ended, says nothing about the guest. */
		if (!s->greeted && ev->rc == 0)
			vmp_trigger_heard(&s->guest, vmp_now_ns());
		else if (!s->greeted && ev->rc != -ETIMEDOUT)
			s->guest.heard_ns = 0;
		break;
	default:
		break;
	}
}

bool vmp_signs_shutdown(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;
	struct vmp_sign *one = sign_of(m, VMP_TRG_SHUTDOWN);

	if (!s->on || !vmp_member_primary(m))
		return false;
	snprintf(one->text, sizeof(one->text), "the guest shut itself down");
	if (decide(m, VMP_TRG_SHUTDOWN).act != VMP_TRG_DO_REPORT)
		return false;
	vmp_log(LOG_WARNING, "%s: trigger shutdown: the guest shut itself down; reported only", m->name);
	vmp_journal_add(m->d->journal, m->name, 0, "trigger", "trigger shutdown: the guest shut itself down; reported only");
	s->held = true;
	return true;
}

/* --- vmpair-guest, or the QEMU guest agent --------------------------------------------------------------------------------------------- */
void vmp_signs_channel(const struct vmp_daemon *d, const char *pair, char *path, size_t size)
{
	snprintf(path, size, "%s/signs/%s.sock", d->conf.runtime_dir, pair);
}

int vmp_signs_prepare(struct vmp_daemon *d, char *reason, size_t size)
{
	char dir[VMP_CONF_STR + 8];

	snprintf(dir, sizeof(dir), "%s/signs", d->conf.runtime_dir);
	if (mkdir(dir, 0711) == 0 || errno == EEXIST)
		return 0;
	snprintf(reason, size, "%s: %s", dir, strerror(errno));
	return -errno;
}

static void channel_close(struct vmp_signs *s)
{
	if (s->guest_fd >= 0)
		close(s->guest_fd);
	s->guest_fd = -1;
}

/* A stream socket of the same host: connected at once, or not at all. */
static void channel_open(struct vmp_member *m)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char path[VMP_CONF_STR + 96];
	int fd;

	vmp_signs_channel(m->d, m->name, path, sizeof(path));
	if (strlen(path) >= sizeof(sa.sun_path))
		return;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		close(fd); /* a VM of before there were channels has none */
	else
		m->signs.guest_fd = fd;
}

/*
 * vmpair-guest writes "alive\n" each second, and "bye\n" when it is ended on purpose. It belongs to the guest, which is not trusted: no
 * more is read at once than is good for the loop, and the last word of what was read counts.
 */
static void channel_read(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;
	char buf[4096];
	size_t total = 0;
	ssize_t n;

	while (total < CHANNEL_BYTES && (n = read(s->guest_fd, buf, sizeof(buf))) != 0) {
		const char *alive, *bye;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break;
		total += (size_t)n;
		alive = memmem(buf, (size_t)n, "alive\n", 6);
		bye = memmem(buf, (size_t)n, "bye\n", 4);
		if (alive && (!bye || alive > bye)) {
			if (!s->greeted)
				vmp_journal_add(m->d->journal, m->name, 0, "guest", "vmpair-guest is heard");
			s->greeted = true;
			vmp_trigger_heard(&s->guest, vmp_now_ns());
			sign(m, VMP_TRG_HANG, false, "");
		} else if (bye) {
			vmp_journal_add(m->d->journal, m->name, 0, "guest", "vmpair-guest was ended in the guest");
			s->greeted = false;
			s->guest.heard_ns = 0;
		}
	}
	if (total < CHANNEL_BYTES)
		channel_close(s);
}

static void look_at_guest(struct vmp_member *m, uint64_t now)
{
	struct vmp_signs *s = &m->signs;
	uint64_t limit = m->params.hang_timeout_ms * ms_ns, ping_ms = m->params.hang_timeout_ms / 4;
	char text[80];

	if (now < s->guest_ns)
		return;
	s->guest_ns = now + GUEST_MS * ms_ns;
	if (s->guest_fd < 0)
		channel_open(m);
	if (s->guest_fd >= 0)
		channel_read(m);
	if (!s->greeted && m->dom && m->dom->agent)
		vmp_virt_ping(m->d->virt, m->id, (unsigned)(ping_ms < 1000 ? 1000 : ping_ms)); /* -EBUSY while it is being asked */
	if (stands_still(s) || s->recover_ns)
		return;
	now = vmp_now_ns();
	if (vmp_trigger_silent(&s->guest, GUEST_MS * ms_ns, limit, now)) {
		snprintf(text, sizeof(text), "nothing was heard of the guest for %llu ms",
			 (unsigned long long)((now - s->guest.heard_ns) / ms_ns));
		sign(m, VMP_TRG_HANG, true, text);
	} else if (s->guest.heard_ns && !s->greeted) {
		sign(m, VMP_TRG_HANG, false, "");
	}
}

/* --- health check of the application --------------------------------------------------------------------------------------------------------- */
enum work_kind { WORK_COMMAND, WORK_DISKS };

struct vmp_work {
	struct vmp_daemon *d;
	uint64_t pair;
	enum work_kind kind;
	int timeout_ms, rc, done[2];
	char command[256], env[3][VMP_ADDR_STRLEN + 80];
	unsigned n_paths;
	char *path[2 * VMP_DOMXML_DISKS];
	char text[160];
};

static void work_free(struct vmp_work *w)
{
	for (unsigned i = 0; i < w->n_paths; i++)
		free(w->path[i]);
	free(w);
}

static void run_command(struct vmp_work *w)
{
	char *argv[] = { (char *)"/usr/bin/env", w->env[0], w->env[1], w->env[2], (char *)"/bin/sh", (char *)"-c", w->command, NULL };

	w->rc = vmp_proc_run(argv, w->timeout_ms, w->text, sizeof(w->text));
	w->text[strcspn(w->text, "\n")] = '\0';
	if (w->rc == 0)
		return;
	if (w->rc == -ETIMEDOUT)
		snprintf(w->text, sizeof(w->text), "the command did not end within %d ms", w->timeout_ms);
	else if (w->rc < 0)
		snprintf(w->text, sizeof(w->text), "the command: %s", strerror(-w->rc));
	else if (!w->text[0])
		snprintf(w->text, sizeof(w->text), "the command ended with status %d", w->rc);
}

/* The beginning of each file, past the page cache where the file system can do that: storage that is gone shows in I/O only. */
static int read_beginning(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
	CLEANUP_FREE void *buf = NULL;

	if (fd < 0 && errno == EINVAL)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (posix_memalign(&buf, 4096, 4096))
		return -ENOMEM;
	return pread(fd, buf, 4096, 0) < 0 ? -errno : 0;
}

static void run_disks(struct vmp_work *w)
{
	for (unsigned i = 0; i < w->n_paths && w->rc == 0; i++) {
		w->rc = read_beginning(w->path[i]);
		if (w->rc < 0)
			snprintf(w->text, sizeof(w->text), "%.110s: %.40s", w->path[i], strerror(-w->rc));
	}
}

static void *work_run(void *arg)
{
	struct vmp_work *w = arg;
	char done = 1;

	if (w->kind == WORK_COMMAND)
		run_command(w);
	else
		run_disks(w);
	if (write(w->done[1], &done, 1) < 0)
		return NULL;
	return NULL;
}

static void health_result(struct vmp_member *m, int r);

static void on_work(int fd, short revents, void *data)
{
	struct vmp_work *w = data;
	struct vmp_member *m = vmp_member_by_id(w->d, w->pair);

	(void)revents;
	vmp_loop_del_fd(w->d->loop, fd);
	close(w->done[0]);
	close(w->done[1]);
	if (m && m->signs.disks == w) {
		m->signs.disks = NULL;
		m->signs.disks_ns = vmp_now_ns() + DISKS_MS * ms_ns;
		if (w->rc != -ENOMEM)
			sign(m, VMP_TRG_STORAGE, w->rc < 0, w->text);
	} else if (m && m->signs.command == w) { /* else it was given up meanwhile */
		m->signs.command = NULL;
		snprintf(m->signs.health_why, sizeof(m->signs.health_why), "%s", w->text);
		health_result(m, w->rc == 0 ? 1 : -EIO);
	}
	work_free(w);
}

static struct vmp_work *work_new(struct vmp_member *m, enum work_kind kind, int timeout_ms)
{
	struct vmp_work *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->d = m->d;
	w->pair = m->id;
	w->kind = kind;
	w->timeout_ms = timeout_ms;
	return w;
}

/* Takes w; NULL when it could not be begun. */
static struct vmp_work *work_begin(struct vmp_work *w)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int r;

	if (pipe2(w->done, O_CLOEXEC | O_NONBLOCK) < 0) {
		work_free(w);
		return NULL;
	}
	r = vmp_loop_add_fd(w->d->loop, VMP_PRIO_LOW, w->done[0], POLLIN, on_work, w);
	if (r == 0) {
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, 512u << 10);
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r = -pthread_create(&t, &attr, work_run, w);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		pthread_attr_destroy(&attr);
		if (r == 0)
			return w;
		vmp_loop_del_fd(w->d->loop, w->done[0]);
	}
	close(w->done[0]);
	close(w->done[1]);
	work_free(w);
	return NULL;
}

static void probe_end(struct vmp_member *m)
{
	if (!m->signs.probe)
		return;
	vmp_loop_del_fd(m->d->loop, vmp_probe_fd(m->signs.probe));
	m->signs.probe = vmp_probe_free(m->signs.probe);
}

/* r > 0: well. A check that has never succeeded says that it, or the start of the application, is not done yet. */
static void health_result(struct vmp_member *m, int r)
{
	struct vmp_signs *s = &m->signs;

	probe_end(m);
	health_later(m);
	if (stands_still(s) || !s->on)
		return;
	if (r > 0)
		s->health_was_ok = true;
	if (s->health_was_ok)
		sign(m, VMP_TRG_HEALTH, r <= 0, s->health_why);
}

static void health_deadline(void *data)
{
	struct vmp_member *m = data;
	int r = vmp_probe_dispatch(m->signs.probe, vmp_now_ns(), m->signs.health_why, sizeof(m->signs.health_why));

	health_result(m, r ? r : -ETIMEDOUT);
}

static void health_fd(int fd, short revents, void *data)
{
	struct vmp_member *m = data;
	int r = vmp_probe_dispatch(m->signs.probe, vmp_now_ns(), m->signs.health_why, sizeof(m->signs.health_why));

	(void)revents;
	if (r)
		health_result(m, r);
	else
		vmp_loop_mod_fd(m->d->loop, fd, vmp_probe_events(m->signs.probe));
}

static void health_command(struct vmp_member *m)
{
	struct vmp_work *w = work_new(m, WORK_COMMAND, (int)m->params.health_timeout_ms);
	char addr[VMP_ADDR_STRLEN];

	if (w) {
		snprintf(w->command, sizeof(w->command), "%s", m->params.health_cmd);
		snprintf(w->env[0], sizeof(w->env[0]), "VMPAIR_PAIR=%s", m->name);
		snprintf(w->env[1], sizeof(w->env[1]), "VMPAIR_ADDRESS=%s", m->params.has_internal ? vmp_addr_str(&m->slot.internal, false, addr) : "");
		snprintf(w->env[2], sizeof(w->env[2]), "VMPAIR_ROLE=primary");
		m->signs.command = work_begin(w);
	}
	if (!m->signs.command)
		health_later(m); /* no means to ask: nothing follows from it */
}

static void health_begin(void *data)
{
	struct vmp_member *m = data;
	struct vmp_signs *s = &m->signs;
	struct vmp_probe_spec spec = { .kind = m->params.health == VMP_HEALTH_HTTP ? VMP_PROBE_HTTP : VMP_PROBE_TCP,
				       .port = m->params.health_port };
	uint64_t deadline = vmp_now_ns() + m->params.health_timeout_ms * ms_ns;
	int r;

	if (!vmp_member_primary(m) || stands_still(s) || s->command) {
		/* begins anew with the role: as a standby it was not asked */
		if (!vmp_member_primary(m)) {
			s->health_was_ok = false;
			s->of[VMP_TRG_HEALTH].hyst = (struct vmp_trg_hyst){ 0 };
		}
		health_later(m);
		return;
	}
	if (m->params.health == VMP_HEALTH_COMMAND) {
		health_command(m);
		return;
	}
	snprintf(spec.path, sizeof(spec.path), "%s", m->params.health_path);
	r = vmp_probe_start(&s->probe, &spec, &m->slot.internal, vmp_member_bridge(m), deadline, s->health_why, sizeof(s->health_why));
	if (r == 0)
		r = vmp_loop_add_fd(m->d->loop, VMP_PRIO_LOW, vmp_probe_fd(s->probe), vmp_probe_events(s->probe), health_fd, m);
	if (r < 0) {
		s->probe = vmp_probe_free(s->probe);
		health_result(m, r);
		return;
	}
	vmp_loop_timer(m->d->loop, &s->health_timer, deadline, health_deadline, m);
}

static void health_later(struct vmp_member *m)
{
	vmp_loop_timer_del(m->d->loop, &m->signs.health_timer);
	if (m->signs.on && m->params.health != VMP_HEALTH_NONE)
		vmp_loop_timer(m->d->loop, &m->signs.health_timer, vmp_now_ns() + m->params.health_interval_ms * ms_ns, health_begin, m);
}

static void health_stop(struct vmp_member *m)
{
	probe_end(m);
	vmp_loop_timer_del(m->d->loop, &m->signs.health_timer);
	m->signs.command = NULL; /* one that runs ends by its own time limit */
	m->signs.health_was_ok = false;
}

/* --- storage ---------------------------------------------------------------------------------------------------------------------- */
/* One look at a time: where it hangs, so would the next. */
static void look_at_disks(struct vmp_member *m, uint64_t now)
{
	struct vmp_signs *s = &m->signs;
	struct vmp_work *w;

	if (!m->params.storage_timeout_ms || !m->dom || !m->dom->n_disks || now < s->disks_ns)
		return;
	if (s->disks) {
		sign(m, VMP_TRG_STORAGE, true, "the files of the VM's disks do not answer");
		s->disks_ns = now + DISKS_MS * ms_ns;
		return;
	}
	w = work_new(m, WORK_DISKS, 0);
	for (unsigned i = 0; w && i < m->dom->n_disks; i++) {
		w->path[w->n_paths] = strdup(m->dom->disk[i].path);
		w->n_paths += w->path[w->n_paths] != NULL;
		w->path[w->n_paths] = strdup(m->dom->disk[i].backing);
		w->n_paths += w->path[w->n_paths] != NULL;
	}
	s->disks = w ? work_begin(w) : NULL;
	s->disks_ns = now + (s->disks ? m->params.storage_timeout_ms : DISKS_MS) * ms_ns;
}

/* --- host -------------------------------------------------------------------------------------------------------------------------- */
enum { LOAD_EVERY = 1000 / VMP_HOSTWATCH_MS };

static void look_at_uplink(struct vmp_member *m)
{
	int r = vmp_hostwatch_carrier(m->d->host, m->params.uplink);
	char text[IFNAMSIZ + 40];

	if (r == -ENODATA || r == -ENOSPC)
		return;
	snprintf(text, sizeof(text), "uplink %s %s", m->params.uplink, r == -ENOENT ? "is not there" : r < 0 ? "is down" : "has no carrier");
	sign(m, VMP_TRG_UPLINK, r != 1, text);
}

static void look_at_load(struct vmp_member *m)
{
	static const struct {
		enum vmp_hostwatch_load load;
		const char *what;
	} kinds[] = {
		[VMP_OVERLOAD_CPU] = { VMP_LOAD_CPU, "share of time in which processes waited for a processor" },
		[VMP_OVERLOAD_MEMORY] = { VMP_LOAD_MEMORY, "share of time in which processes waited for memory" },
		[VMP_OVERLOAD_IO] = { VMP_LOAD_IO, "share of time in which processes waited for I/O" },
		[VMP_OVERLOAD_LOAD] = { VMP_LOAD_AVERAGE, "load average per processor" },
	};
	int r = vmp_hostwatch_load(m->d->host, kinds[m->params.overload].load);
	char text[100];

	if (r < 0)
		return; /* a kernel without it */
	snprintf(text, sizeof(text), "%s: %d %%", kinds[m->params.overload].what, r);
	sign(m, VMP_TRG_OVERLOAD, (uint32_t)r >= m->params.overload_percent, text);
}

/* Each reading is one sign; where the thread that reads is late there are fewer. */
static void look_at_host(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;
	uint64_t serial;

	if (!m->params.uplink[0] && m->params.overload == VMP_OVERLOAD_NONE)
		return;
	if (!m->d->host && vmp_hostwatch_new(&m->d->host, NULL) < 0)
		return;
	serial = vmp_hostwatch_serial(m->d->host);
	if (serial != s->host_serial && m->params.uplink[0])
		look_at_uplink(m);
	s->host_serial = serial;
	if (serial - s->load_serial >= LOAD_EVERY && m->params.overload != VMP_OVERLOAD_NONE) {
		s->load_serial = serial;
		look_at_load(m);
	}
}

/* --- beginning, end, and now and then ----------------------------------------------------------------------------------------------------- */
void vmp_signs_init(struct vmp_member *m)
{
	m->signs.guest_fd = -1;
}

void vmp_signs_start(struct vmp_member *m)
{
	struct vmp_trg_ring kept = m->signs.failovers;

	vmp_signs_stop(m);
	m->signs = (struct vmp_signs){ .guest_fd = -1, .on = true, .failovers = kept };
	health_later(m);
}

void vmp_signs_stop(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;

	s->on = s->moving = s->resetting = s->paused = s->held = false;
	s->recover_ns = 0;
	channel_close(s);
	health_stop(m);
	s->disks = NULL;
	for (unsigned t = 0; t < VMP_TRG_COUNT; t++)
		s->of[t].hyst = (struct vmp_trg_hyst){ 0 };
}

void vmp_signs_reconfigure(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;

	if (!s->on)
		return;
	health_stop(m);
	health_later(m);
	s->of[VMP_TRG_HEALTH].hyst = (struct vmp_trg_hyst){ 0 };
	for (unsigned t = 0; t < VMP_TRG_COUNT; t++)
		s->of[t].again_ns = 0; /* another policy may decide otherwise */
	if (!m->params.uplink[0])
		s->of[VMP_TRG_UPLINK].hyst = (struct vmp_trg_hyst){ 0 };
	if (m->params.overload == VMP_OVERLOAD_NONE)
		s->of[VMP_TRG_OVERLOAD].hyst = (struct vmp_trg_hyst){ 0 };
	if (!m->params.storage_timeout_ms)
		s->of[VMP_TRG_STORAGE].hyst = (struct vmp_trg_hyst){ 0 };
}

/* A guest that was reset has to be as it was, or the reset has not helped. */
static void look_at_recovery(struct vmp_member *m, uint64_t now)
{
	struct vmp_signs *s = &m->signs;
	bool well = vmp_member_ready(m) && (m->ready_spec.kind == VMP_PROBE_NONE || m->own.ok_ns > s->reset_ns) &&
		    (m->params.health == VMP_HEALTH_NONE || !vmp_member_primary(m) || s->health_was_ok);

	if (!s->recover_ns)
		return;
	if (well) {
		s->recover_ns = 0;
		vmp_journal_add(m->d->journal, m->name, 0, "well", "the guest is as it was before its reset");
	} else if (now >= s->recover_ns && !s->paused) {
		s->recover_ns = 0;
		sign_at_once(m, s->resetter, "the guest was reset and is not well again");
	}
}

static void forget_event(struct vmp_member *m, enum vmp_trigger t, uint64_t now)
{
	struct vmp_sign *one = sign_of(m, t);

	if (!one->hyst.raised || m->signs.paused || now - one->last_ns < KEEP_MS * ms_ns)
		return;
	one->hyst = (struct vmp_trg_hyst){ 0 };
	vmp_journal_add(m->d->journal, m->name, 0, "trigger-over", "trigger %s: %s", vmp_trigger_text(t), one->text);
	vmp_group_publish_soon(m->d);
}

void vmp_signs_slow(struct vmp_member *m)
{
	struct vmp_signs *s = &m->signs;
	uint64_t now = vmp_now_ns();

	if (!s->on || m->phase != VMP_HOST_RUNNING)
		return;
	if (s->paused && !s->paused_told && now - s->paused_ns >= PAUSE_TELL_MS * ms_ns && !s->of[VMP_TRG_PANIC].hyst.raised) {
		s->paused_told = true;
		vmp_log(LOG_NOTICE, "%s: VM is paused: %s", m->name, vmp_virt_how_str(s->how));
		vmp_journal_add(m->d->journal, m->name, 0, "paused", "%s", vmp_virt_how_str(s->how));
		vmp_group_publish_soon(m->d);
	}
	look_at_guest(m, now);
	look_at_disks(m, now);
	look_at_host(m);
	look_at_recovery(m, now);
	forget_event(m, VMP_TRG_WATCHDOG, now);
	forget_event(m, VMP_TRG_IO_ERROR, now);
	for (unsigned t = 0; t < VMP_TRG_COUNT; t++)
		if (s->of[t].hyst.raised && now >= s->of[t].again_ns && m->phase == VMP_HOST_RUNNING)
			act_on(m, t);
}

/* --- what is told ------------------------------------------------------------------------------------------------------------------------- */
json_t *vmp_signs_state(const struct vmp_member *m)
{
	const struct vmp_signs *s = &m->signs;
	uint64_t now = vmp_now_ns();
	json_t *active = json_array();
	uint32_t n = vmp_trigger_count(&s->failovers, window_ns(m), now);

	for (unsigned t = 0; t < VMP_TRG_COUNT; t++) {
		const struct vmp_sign *one = &s->of[t];
		char text[sizeof(one->text)];

		if (!one->hyst.raised)
			continue;
		snprintf(text, sizeof(text), "%s", one->text);
		vmp_text_clean(text);
		json_array_append_new(active, json_pack("{s:s s:s s:s s:s s:I}", "trigger", vmp_trigger_text(t), "text", text, "did",
							act_text(one->did), "why", one->why ? one->why : "", "since_ms",
							(json_int_t)((now - one->since_ns) / ms_ns)));
	}
	if (s->held)
		json_array_append_new(active, json_pack("{s:s s:s s:s s:s}", "trigger", vmp_trigger_text(VMP_TRG_SHUTDOWN), "text",
							s->of[VMP_TRG_SHUTDOWN].text, "did", act_text(VMP_TRG_DO_REPORT), "why",
							"Pacemaker decides what follows"));
	if (!n && !json_array_size(active) && !s->paused_told) {
		json_decref(active);
		return NULL;
	}
	return json_pack("{s:o s:i s:i s:i s:s?}", "active", active, "failovers", (int)n, "limit", (int)m->params.trigger_limit, "window_s",
			 (int)(m->params.trigger_window_ms / 1000), "paused", s->paused_told ? vmp_virt_how_str(s->how) : NULL);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

void vmp_signs_status(const char *node, const char *pair, const json_t *signs, json_t *problems)
{
	const json_t *one;
	size_t i;

	if (!strcmp(text_of(signs, "paused"), vmp_virt_how_str(VMP_VIRT_HOW_MIGRATED)))
		json_array_append_new(problems, json_sprintf("%s: its VM is being migrated: no failover for that", node));
	else if (*text_of(signs, "paused"))
		json_array_append_new(problems, json_sprintf("%s: its VM is %s: no failover for that (virsh resume %s)", node,
							     text_of(signs, "paused"), pair));
	json_array_foreach(json_object_get(signs, "active"), i, one)
		json_array_append_new(problems, json_sprintf("%s: trigger %s: %s; %s%s%s", node, text_of(one, "trigger"), text_of(one, "text"),
							     *text_of(one, "did") ? text_of(one, "did") : "not acted on yet",
							     *text_of(one, "why") ? ": " : "", text_of(one, "why")));
}
