/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/announce.h"
#include "daemon/fence.h"
#include "daemon/gate.h"
#include "daemon/link.h"
#include "daemon/tcbpf.h"
#include "internal/cleanup.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S 1000000000ULL
#define MAX_AHEAD_NS (3600 * NS_PER_S) /* no hold is that long: such an expiry is a bug of the caller */
#define WAIT_US_DEFAULT 1000
#define MAX_UPLINKS 4
#define TWICE_WITHIN_NS (60 * NS_PER_S)
#define RETRY_MS 20ULL
#define RETRY_SLOW_MS 1000ULL /* what waits for a tap or an operator */
#define VERIFY_OPEN_MS 100 /* TCX links are taken off without a message; below any sensible lease */
#define VERIFY_CLOSED_MS 1000
#define WORKER_STACK (256 * 1024) /* all of it is locked into memory */
#define UNUSED_ARM_MS 5000ULL /* a prepared port that nobody opened (its claim failed) is disarmed again */
#define PORT_DISABLED 0 /* BR_STATE_DISABLED, BR_STATE_FORWARDING */
#define PORT_FORWARDING 3
#define BIT(ev) (1U << (ev))

/* What the caller wishes of a port. The worker brings the kernel there, however often the wish changed meanwhile. */
enum want {
	WANT_REMOVED,
	WANT_KEEP,   /* just added: stay armed if adopted with a live word, else be closed */
	WANT_CLOSED, /* disarmed */
	WANT_ARMED,
	WANT_BOUND,  /* armed, FDB entry on the tap */
};

struct uplink {
	int ifindex;
	bool carrier;
};

/* The worker's knowledge of a port; only the worker touches it. */
struct wport {
	struct vmp_gate_spec spec;
	char alias[IFNAMSIZ]; /* what somebody renamed the tap to, fenced as well */
	bool setup, alarm, bound, made_tap;
	int ifindex, bridge, map_fd, prog_fd, link_fd[2];
	uint32_t prog_id;
	enum want want; /* served last */
	uint64_t lost_at_ns, retry_at_ns, verify_at_ns, fdb_retry_at_ns, disarm_at_ns;
};

struct slot {
	/* caller's side */
	bool used, ready, open, close_pending, open_pending;
	bool readd; /* added again while being removed: `spec` is for then */
	uint64_t pair_id;
	char name[VMP_GATE_NAME_MAX];
	struct vmp_gate_spec spec;
	uint64_t *word;
	int map_fd;
	uint64_t epoch, closed_epoch, retired_epoch, pending_epoch;
	uint32_t pending_req;
	unsigned int repeat; /* next of vmp_announce_repeat_ms */
	uint64_t repeat_base_ns;

	/* shared, under the gate's lock */
	uint32_t req, done;
	enum want want;
	bool setup, waiting, adopted, s_alarm, s_armed;
	struct vmp_gate_spec s_spec;
	int s_ifindex, s_map_fd;
	uint64_t done_at_ns;
	unsigned int n_uplinks;
	struct uplink uplink[MAX_UPLINKS];
	uint32_t ev_bits;
	uint64_t ev_at_ns[VMP_GATE_EV_MAX];
	int ev_err[VMP_GATE_EV_MAX];
	char ev_reason[VMP_GATE_REASON];

	struct wport w;
};

struct leftover {
	char name[VMP_GATE_NAME_MAX];
	char tap[IFNAMSIZ];
};

struct vmp_gate {
	struct vmp_gate_conf conf;
	char dir[PATH_MAX / 4];
	bool tcx;
	int announce_fd, wake_fd, out_fd;
	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool stop;
	uint32_t ev_bits;
	uint64_t ev_at_ns[VMP_GATE_EV_MAX];
	int ev_err[VMP_GATE_EV_MAX];
	unsigned int n_leftover;
	struct leftover leftover[VMP_GATE_MAX_PORTS];
	struct slot slot[VMP_GATE_MAX_PORTS];

	/* the worker's, before its start the creator's */
	struct vmp_link *link;
	struct vmp_fence *fence;
	uint8_t tag[VMP_TCBPF_TAG];
	uint64_t fence_lost_at_ns, fence_retry_at_ns;
};

static void reset_wport(struct wport *w)
{
	memset(w, 0, sizeof *w);
	w->map_fd = w->prog_fd = w->link_fd[0] = w->link_fd[1] = -1;
	w->want = WANT_KEEP;
}

static const char *const ev_names[VMP_GATE_EV_MAX] = {
	[VMP_GATE_EV_PORT_READY] = "port-ready", [VMP_GATE_EV_PORT_FAILED] = "port-failed", [VMP_GATE_EV_PORT_GONE] = "port-gone",
	[VMP_GATE_EV_OPENED] = "opened", [VMP_GATE_EV_CLOSED] = "closed", [VMP_GATE_EV_PROGRAM_LOST] = "program-lost",
	[VMP_GATE_EV_PROGRAM_RESTORED] = "program-restored", [VMP_GATE_EV_FENCE_LOST] = "fence-lost",
	[VMP_GATE_EV_FENCE_RESTORED] = "fence-restored", [VMP_GATE_EV_TAP_LOST] = "tap-lost",
	[VMP_GATE_EV_TAP_RECREATED] = "tap-recreated", [VMP_GATE_EV_UPLINK_UP] = "uplink-up",
	[VMP_GATE_EV_UPLINK_DOWN] = "uplink-down", [VMP_GATE_EV_ALARM] = "alarm",
};

const char *vmp_gate_ev_name(enum vmp_gate_ev ev)
{
	return (unsigned int)ev < VMP_GATE_EV_MAX ? ev_names[ev] : "?";
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

__attribute__((format(printf, 4, 5))) static int fail(char *reason, size_t len, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (len)
		vsnprintf(reason, len, fmt, ap);
	va_end(ap);
	return err;
}

/* The word is shared with the program (and with the daemon's next life): whole, ordered accesses only. */
static uint64_t word_get(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void word_set(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* --- pins -------------------------------------------------------------------------------------------------------- */

static const char *const link_pin[2] = { "ingress", "egress" };

/* bpffs reserves dots in names; '%' is no character of a pair's name. */
static void swap_dots(char *s, char from, char to)
{
	for (; *s; s++)
		if (*s == from)
			*s = to;
}

static void pin_path(const char *base, const char *pair, const char *what, char *ret, size_t len)
{
	char name[VMP_GATE_NAME_MAX];

	snprintf(name, sizeof name, "%s", pair);
	swap_dots(name, '.', '%');
	snprintf(ret, len, "%s/%s%s%s", base, name, what[0] ? "/" : "", what);
}

static int pin_fd(const char *base, const char *pair, const char *what, int fd)
{
	char path[PATH_MAX];

	pin_path(base, pair, what, path, sizeof path);
	unlink(path);
	return vmp_tcbpf_pin(fd, path);
}

static int pin_get(const char *base, const char *pair, const char *what)
{
	char path[PATH_MAX];

	pin_path(base, pair, what, path, sizeof path);
	return vmp_tcbpf_get(path);
}

static void pin_remove(const char *base, const char *pair, const char *what)
{
	char path[PATH_MAX];

	pin_path(base, pair, what, path, sizeof path);
	unlink(path);
}

static int pin_remove_all(const char *base, const char *pair)
{
	char path[PATH_MAX];

	pin_remove(base, pair, "map");
	pin_remove(base, pair, "prog");
	pin_remove(base, pair, link_pin[0]);
	pin_remove(base, pair, link_pin[1]);
	pin_remove(base, pair, "tap");
	pin_path(base, pair, "", path, sizeof path);
	return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The tap's name is kept as a symbolic link: what one daemon made, the next (or a purge) finds without any other file. */
static int pin_tap_get(const char *base, const char *pair, char ret[IFNAMSIZ])
{
	char path[PATH_MAX], tap[IFNAMSIZ];
	ssize_t n;

	pin_path(base, pair, "tap", path, sizeof path);
	n = readlink(path, tap, sizeof tap);
	if (n < 0)
		return -errno;
	if (n == 0 || n >= IFNAMSIZ)
		return -EBADF;
	memset(ret, 0, IFNAMSIZ);
	memcpy(ret, tap, (size_t)n);
	return 0;
}

static int pin_tap_set(const char *base, const char *pair, const char *tap)
{
	char path[PATH_MAX];

	pin_path(base, pair, "tap", path, sizeof path);
	unlink(path);
	return symlink(tap, path) < 0 ? -errno : 0;
}

static int bpffs_prepare(const char *dir, bool create, char *reason, size_t len)
{
	char parent[PATH_MAX];
	struct statfs fs;
	char *slash;

	snprintf(parent, sizeof parent, "%s", dir);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return fail(reason, len, -EINVAL, "'%s' is no directory below a bpf file system", dir);
	*slash = '\0';
	if (statfs(parent, &fs) < 0)
		return fail(reason, len, -errno, "%s: %s (a kernel without CONFIG_BPF_SYSCALL, or sysfs is not mounted)", parent, strerror(errno));
	if (fs.f_type != BPF_FS_MAGIC) {
		if (!create)
			return -ENOENT;
		if (strcmp(parent, "/sys/fs/bpf"))
			return fail(reason, len, -EINVAL, "%s is not on a bpf file system (mount -t bpf bpf %s)", dir, parent);
		if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") < 0)
			return fail(reason, len, -errno, "cannot mount the bpf file system on %s: %s", parent, strerror(errno));
	}
	if (create && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return fail(reason, len, -errno, "mkdir %s: %s", dir, strerror(errno));
	return 0;
}

/* Call cb for each pair that has a directory of pins; all names are read before, for cb may remove. */
static int for_each_pinned(const char *dir, int (*cb)(void *user, const char *pair), void *user)
{
	char names[VMP_GATE_MAX_PORTS][VMP_GATE_NAME_MAX];
	unsigned int n = 0;
	struct dirent *e;
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (n < VMP_GATE_MAX_PORTS && (e = readdir(d))) {
		if (e->d_name[0] == '.' || strlen(e->d_name) >= VMP_GATE_NAME_MAX)
			continue;
		snprintf(names[n], sizeof names[n], "%.63s", e->d_name);
		swap_dots(names[n++], '%', '.');
	}
	closedir(d);
	for (unsigned int i = 0; i < n && !r; i++)
		r = cb(user, names[i]);
	return r;
}

/* --- the worker: reports ------------------------------------------------------------------------------------------ */

static void notify(struct vmp_gate *g)
{
	uint64_t one = 1;

	/* Cannot be full; and if it were, the reader would wake anyway. */
	if (write(g->out_fd, &one, sizeof one) < 0)
		return;
}

static void post(struct vmp_gate *g, struct slot *s, enum vmp_gate_ev ev, int err, const char *reason)
{
	pthread_mutex_lock(&g->lock);
	if (!s) {
		g->ev_bits |= BIT(ev);
		g->ev_at_ns[ev] = boot_ns();
		g->ev_err[ev] = err;
	} else {
		/* Of an uplink's states, and of two attempts, only the last is of interest. */
		if (ev == VMP_GATE_EV_UPLINK_UP)
			s->ev_bits &= ~BIT(VMP_GATE_EV_UPLINK_DOWN);
		if (ev == VMP_GATE_EV_UPLINK_DOWN)
			s->ev_bits &= ~BIT(VMP_GATE_EV_UPLINK_UP);
		if (ev == VMP_GATE_EV_PORT_READY)
			s->ev_bits &= ~BIT(VMP_GATE_EV_PORT_FAILED);
		if (ev == VMP_GATE_EV_PORT_FAILED)
			s->ev_bits &= ~BIT(VMP_GATE_EV_PORT_READY);
		s->ev_bits |= BIT(ev);
		s->ev_at_ns[ev] = boot_ns();
		s->ev_err[ev] = err;
		if (reason)
			snprintf(s->ev_reason, sizeof s->ev_reason, "%s", reason);
	}
	pthread_mutex_unlock(&g->lock);
	notify(g);
}

/* What info() shows. */
static void publish(struct vmp_gate *g, struct slot *s)
{
	bool armed = s->w.ifindex && vmp_fence_armed(g->fence, s->w.ifindex);

	pthread_mutex_lock(&g->lock);
	s->s_ifindex = s->w.ifindex;
	s->s_armed = armed;
	s->s_alarm = s->w.alarm;
	pthread_mutex_unlock(&g->lock);
}

/* --- the worker: programs ----------------------------------------------------------------------------------------- */

/* 0: our program comes first on both sides; -EBADF: it does not; other: cannot tell. */
static int verify_program(struct vmp_gate *g, int ifindex, uint32_t prog_id)
{
	for (int egress = 0; egress < 2; egress++) {
		uint32_t id = 0;
		int r = g->tcx ? vmp_tcbpf_tcx_first(ifindex, egress, &id) : vmp_link_filter_first(g->link, ifindex, egress, &id);

		/* Without its qdisc, tc answers a question about filters with "invalid". */
		if (r == -EINVAL && !g->tcx)
			return -EBADF;
		if (r < 0)
			return r;
		if (id != prog_id)
			return -EBADF;
	}
	return 0;
}

static void drop_links(struct vmp_gate *g, struct slot *s)
{
	for (int i = 0; i < 2; i++) {
		if (s->w.link_fd[i] < 0)
			continue;
		vmp_tcbpf_link_detach(s->w.link_fd[i]);
		close(s->w.link_fd[i]);
		s->w.link_fd[i] = -1;
		pin_remove(g->dir, s->name, link_pin[i]);
	}
}

static int attach_tcx(struct vmp_gate *g, struct slot *s)
{
	drop_links(g, s);
	for (int i = 0; i < 2; i++) {
		int r = vmp_tcbpf_link_new(s->w.prog_fd, s->w.ifindex, i == 1);

		if (r < 0)
			return r;
		s->w.link_fd[i] = r;
		r = pin_fd(g->dir, s->name, link_pin[i], s->w.link_fd[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int attach_clsact(struct vmp_gate *g, struct slot *s)
{
	int r = vmp_link_clsact_add(g->link, s->w.ifindex);

	r = r ? r : vmp_link_filter_add(g->link, s->w.ifindex, false, s->w.prog_fd, "vmpair_gate");
	return r ? r : vmp_link_filter_add(g->link, s->w.ifindex, true, s->w.prog_fd, "vmpair_gate");
}

/* Make our program the first on both sides. Never called on an armed port. */
static int attach(struct vmp_gate *g, struct slot *s, char *reason, size_t len)
{
	int r;

	if (!verify_program(g, s->w.ifindex, s->w.prog_id))
		return 0;
	r = g->tcx ? attach_tcx(g, s) : attach_clsact(g, s);
	if (r == -EEXIST)
		return fail(reason, len, r, "%s has an 'ingress' qdisc (libvirt's <bandwidth><outbound> makes one), which excludes the gate's "
			    "clsact on this kernel: remove it", s->w.spec.tap);
	if (r < 0)
		return fail(reason, len, r, "cannot attach the gate's program to %s: %s", s->w.spec.tap, strerror(-r));
	r = verify_program(g, s->w.ifindex, s->w.prog_id);
	if (r < 0)
		return fail(reason, len, r, "another tc program stands before the gate's on %s", s->w.spec.tap);
	return 0;
}

static void close_program(struct slot *s)
{
	for (int i = 0; i < 2; i++) {
		if (s->w.link_fd[i] >= 0)
			close(s->w.link_fd[i]);
		s->w.link_fd[i] = -1;
	}
	if (s->w.prog_fd >= 0)
		close(s->w.prog_fd);
	s->w.prog_fd = -1;
	s->w.prog_id = 0;
}

/* Take over what an earlier process pinned for this pair, if it is of our make and belongs together. */
static bool adopt_pins(struct vmp_gate *g, const char *pair, int *ret_map, int *ret_prog, uint32_t *ret_prog_id)
{
	CLEANUP_CLOSE int map = pin_get(g->dir, pair, "map");
	CLEANUP_CLOSE int prog = map >= 0 ? pin_get(g->dir, pair, "prog") : -1;
	struct vmp_tcbpf_info pi;
	uint32_t map_id;

	if (map < 0 || prog < 0 || !vmp_tcbpf_map_fits(map) || vmp_tcbpf_map_id(map, &map_id) < 0 || vmp_tcbpf_prog_info(prog, &pi) < 0)
		return false;
	if (memcmp(pi.tag, g->tag, sizeof pi.tag) || pi.map_id != map_id)
		return false;
	*ret_map = TAKE_FD(map);
	*ret_prog = TAKE_FD(prog);
	*ret_prog_id = pi.id;
	return true;
}

static int load_program(struct vmp_gate *g, struct slot *s, bool *ret_adopted, char *reason, size_t len)
{
	char path[PATH_MAX], tap[IFNAMSIZ] = "";
	struct vmp_tcbpf_info pi;
	int r;

	if (s->w.prog_fd >= 0) {
		*ret_adopted = false;
		return 0;
	}
	/* Pins made for another tap say nothing about this one. */
	if (!pin_tap_get(g->dir, s->name, tap) && !strcmp(tap, s->w.spec.tap) &&
	    adopt_pins(g, s->name, &s->w.map_fd, &s->w.prog_fd, &s->w.prog_id)) {
		for (int i = 0; g->tcx && i < 2; i++)
			s->w.link_fd[i] = pin_get(g->dir, s->name, link_pin[i]);
		*ret_adopted = true;
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int old = pin_get(g->dir, s->name, link_pin[i]);

		if (old >= 0)
			vmp_tcbpf_link_detach(old);
	}
	pin_remove_all(g->dir, s->name);
	pin_path(g->dir, s->name, "", path, sizeof path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return fail(reason, len, -errno, "mkdir %s: %s", path, strerror(errno));
	r = pin_tap_set(g->dir, s->name, s->w.spec.tap);
	if (r < 0)
		return fail(reason, len, r, "cannot note the tap below %s: %s", path, strerror(-r));
	s->w.map_fd = vmp_tcbpf_map_new();
	if (s->w.map_fd < 0)
		return fail(reason, len, s->w.map_fd, "cannot create the gate's map: %s", strerror(-s->w.map_fd));
	s->w.prog_fd = vmp_tcbpf_prog_load(s->w.map_fd, vmp_tcbpf_insns, vmp_tcbpf_n_insns, NULL, 0);
	if (s->w.prog_fd < 0)
		return fail(reason, len, s->w.prog_fd, "cannot load the gate's program: %s", strerror(-s->w.prog_fd));
	r = vmp_tcbpf_prog_info(s->w.prog_fd, &pi);
	r = r ? r : pin_fd(g->dir, s->name, "map", s->w.map_fd);
	r = r ? r : pin_fd(g->dir, s->name, "prog", s->w.prog_fd);
	if (r < 0)
		return fail(reason, len, r, "cannot pin below %s: %s", path, strerror(-r));
	s->w.prog_id = pi.id;
	*ret_adopted = false;
	return 0;
}

/* --- the worker: ports -------------------------------------------------------------------------------------------- */

struct uplink_scan {
	struct vmp_gate *g;
	struct slot *s;
	unsigned int n;
	struct uplink v[MAX_UPLINKS];
};

static bool is_uplink(const struct vmp_gate *g, const struct slot *s, const struct vmp_link_info *li)
{
	if (s->w.spec.uplink[0])
		return !strcmp(li->name, s->w.spec.uplink);
	if (!s->w.bridge || li->master != s->w.bridge || !strcmp(li->kind, "tun"))
		return false;
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++)
		if (g->slot[i].w.setup && g->slot[i].w.ifindex == li->ifindex)
			return false;
	return li->ifindex != s->w.ifindex;
}

static int on_port(void *user, const struct vmp_link_info *li)
{
	struct uplink_scan *u = user;

	if (u->n < MAX_UPLINKS && is_uplink(u->g, u->s, li))
		u->v[u->n++] = (struct uplink){ .ifindex = li->ifindex, .carrier = li->carrier };
	return 0;
}

static void scan_uplinks(struct vmp_gate *g, struct slot *s)
{
	struct uplink_scan u = { .g = g, .s = s };
	struct vmp_link_info li;

	if (s->w.spec.uplink[0]) {
		if (!vmp_link_get(g->link, s->w.spec.uplink, &li))
			on_port(&u, &li);
	} else {
		vmp_link_ports(g->link, s->w.bridge, on_port, &u);
	}
	pthread_mutex_lock(&g->lock);
	s->n_uplinks = u.n;
	memcpy(s->uplink, u.v, sizeof u.v);
	pthread_mutex_unlock(&g->lock);
}

static void uplink_changed(struct vmp_gate *g, struct slot *s, const struct vmp_link_info *li, bool gone)
{
	bool is = !gone && is_uplink(g, s, li), was_up = false, up;
	unsigned int i;

	pthread_mutex_lock(&g->lock);
	for (i = 0; i < s->n_uplinks && s->uplink[i].ifindex != li->ifindex; i++)
		;
	if (i < s->n_uplinks) {
		was_up = s->uplink[i].carrier;
		if (is)
			s->uplink[i].carrier = li->carrier;
		else
			s->uplink[i] = s->uplink[--s->n_uplinks];
	} else if (is && s->n_uplinks < MAX_UPLINKS) {
		s->uplink[s->n_uplinks++] = (struct uplink){ .ifindex = li->ifindex, .carrier = li->carrier };
	}
	pthread_mutex_unlock(&g->lock);
	up = is && li->carrier;
	if (up != was_up)
		post(g, s, up ? VMP_GATE_EV_UPLINK_UP : VMP_GATE_EV_UPLINK_DOWN, 0, NULL);
}

static void disable_port(struct vmp_gate *g, struct slot *s)
{
	/* Refused while the kernel's own STP runs the bridge, or without carrier: then the tap goes down as a whole. */
	if (s->w.ifindex && vmp_link_set_port_state(g->link, s->w.ifindex, PORT_DISABLED) < 0)
		vmp_link_set_up(g->link, s->w.ifindex, false);
}

static void alarm_port(struct vmp_gate *g, struct slot *s, int err, const char *reason)
{
	s->w.alarm = true;
	disable_port(g, s);
	if (s->w.ifindex)
		vmp_fence_disarm(g->fence, s->w.ifindex);
	publish(g, s);
	post(g, s, VMP_GATE_EV_ALARM, err, reason);
}

static bool twice(uint64_t *last_ns)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), before = *last_ns;

	*last_ns = now;
	return before && now - before < TWICE_WITHIN_NS;
}

static void plan_verify(struct vmp_gate *g, struct slot *s)
{
	uint64_t ms = vmp_fence_armed(g->fence, s->w.ifindex) ? VERIFY_OPEN_MS : VERIFY_CLOSED_MS;

	s->w.verify_at_ns = g->tcx && s->w.ifindex ? clock_ns(CLOCK_MONOTONIC) + ms * NS_PER_MS : 0;
}

/* Arm, but only behind a program that was looked at just now. */
static int arm(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON] = "";
	int r;

	if (s->w.alarm)
		return -EREMOTEIO;
	if (!s->w.ifindex)
		return -ENODEV;
	if (vmp_fence_armed(g->fence, s->w.ifindex))
		return 0;
	r = attach(g, s, reason, sizeof reason);
	r = r ? r : vmp_fence_arm(g->fence, s->w.ifindex);
	plan_verify(g, s);
	return r;
}

/*
 * A bridge port that does not forward (no guest has the tap open yet, STP is still listening) takes no entry; nothing of the guest can
 * be learned elsewhere through it either. The entry is made up for when the link changes, and once a second.
 */
static void bind_fdb(struct vmp_gate *g, struct slot *s)
{
	s->w.bound = !vmp_link_fdb_replace(g->link, s->w.ifindex, s->w.spec.mac);
	s->w.fdb_retry_at_ns = s->w.bound ? 0 : clock_ns(CLOCK_MONOTONIC) + RETRY_SLOW_MS * NS_PER_MS;
}

static int serve_open(struct vmp_gate *g, struct slot *s, enum want want)
{
	int r = arm(g, s);

	if (!r && want == WANT_BOUND)
		bind_fdb(g, s);
	return r;
}

static void program_lost(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON] = "";
	int r;

	vmp_fence_disarm(g->fence, s->w.ifindex);
	publish(g, s);
	post(g, s, VMP_GATE_EV_PROGRAM_LOST, 0, NULL);
	/* An alarmed port gets its program back as well: one lock more on a closed door. */
	r = attach(g, s, reason, sizeof reason);
	if (r == -ENODEV)
		return; /* the tap is on its way out; its own message follows */
	if (s->w.alarm)
		return;
	if (r < 0) {
		alarm_port(g, s, r, reason);
		return;
	}
	if (twice(&s->w.lost_at_ns)) {
		snprintf(reason, sizeof reason, "the gate's program was taken off %s twice within a minute", s->w.spec.tap);
		alarm_port(g, s, -EREMOTEIO, reason);
		return;
	}
	if (s->w.want >= WANT_ARMED) {
		r = arm(g, s);
		if (r < 0) {
			snprintf(reason, sizeof reason, "cannot arm %s again: %s", s->w.spec.tap, strerror(-r));
			alarm_port(g, s, r, reason);
			return;
		}
	}
	plan_verify(g, s);
	publish(g, s);
	post(g, s, VMP_GATE_EV_PROGRAM_RESTORED, 0, NULL);
}

static void check_program(struct vmp_gate *g, struct slot *s)
{
	struct vmp_link_info li;

	plan_verify(g, s);
	/* With the device its programs go too; that is told by the device's own message. */
	if (s->w.setup && s->w.ifindex && verify_program(g, s->w.ifindex, s->w.prog_id) == -EBADF &&
	    vmp_link_get_index(g->link, s->w.ifindex, &li) != -ENODEV)
		program_lost(g, s);
}

static void fence_lost(struct vmp_gate *g)
{
	int r = vmp_fence_install(g->fence);
	bool again;

	post(g, NULL, VMP_GATE_EV_FENCE_LOST, 0, NULL);
	again = twice(&g->fence_lost_at_ns);
	g->fence_retry_at_ns = r < 0 ? clock_ns(CLOCK_MONOTONIC) + RETRY_MS * NS_PER_MS : 0;
	if (!r)
		post(g, NULL, VMP_GATE_EV_FENCE_RESTORED, 0, NULL);
	for (unsigned int i = 0; (r < 0 || again) && i < VMP_GATE_MAX_PORTS; i++)
		if (g->slot[i].w.setup && !g->slot[i].w.alarm)
			alarm_port(g, &g->slot[i], r < 0 ? r : -EREMOTEIO, r < 0 ? "the nft fence was removed and cannot be installed again" :
				   "the nft fence was removed twice within a minute");
}

static void fence_retry(struct vmp_gate *g)
{
	int r = vmp_fence_install(g->fence);

	g->fence_retry_at_ns = r < 0 ? clock_ns(CLOCK_MONOTONIC) + RETRY_MS * NS_PER_MS : 0;
	if (!r)
		post(g, NULL, VMP_GATE_EV_FENCE_RESTORED, 0, NULL);
}

/* Checks of the device that stand before anything is attached. */
static int check_device(struct vmp_gate *g, const struct vmp_gate_spec *sp, const struct vmp_link_info *li, char *reason, size_t len)
{
	char kind[16] = "";
	int r;

	if (!(li->tap || !strcmp(li->kind, "veth")))
		return fail(reason, len, -ENOTSUP, "%s is a %s, not a tap: its frames would pass the gate by", sp->tap,
			    li->kind[0] ? li->kind : "hardware interface (NIC or SR-IOV function)");
	if (li->xdp)
		return fail(reason, len, -ENOTSUP, "%s has an XDP program, which can pass frames by the gate", sp->tap);
	if (g->tcx)
		return 0;
	r = vmp_link_ingress_kind(g->link, li->ifindex, kind, sizeof kind);
	if (r < 0)
		return fail(reason, len, r, "cannot ask for the qdiscs of %s: %s", sp->tap, strerror(-r));
	if (!strcmp(kind, "ingress"))
		return fail(reason, len, -EEXIST, "%s has an 'ingress' qdisc (libvirt's <bandwidth><outbound> makes one), which excludes the "
			    "gate's clsact on this kernel: remove it", sp->tap);
	return 0;
}

static void drop_alias(struct vmp_gate *g, struct slot *s)
{
	if (s->w.alias[0])
		vmp_fence_ungate(g->fence, s->w.alias);
	s->w.alias[0] = '\0';
}

static void forget_ifindex(struct vmp_gate *g, struct slot *s)
{
	if (!s->w.ifindex)
		return;
	vmp_fence_disarm(g->fence, s->w.ifindex);
	/* Normally it is gone; renamed and replaced by a new tap, it leaves the bridge before its program and fence go. */
	vmp_link_set_master(g->link, s->w.ifindex, 0);
	drop_alias(g, s);
	drop_links(g, s);
	s->w.ifindex = 0;
	s->w.bound = false;
	s->w.verify_at_ns = s->w.fdb_retry_at_ns = 0;
}

/* From the name in the spec to a gated, closed (or adopted) port in its bridge. */
static int equip(struct vmp_gate *g, struct slot *s, bool *ret_adopted, char *reason, size_t len)
{
	const struct vmp_gate_spec *sp = &s->w.spec;
	struct vmp_link_info br, li;
	int r;

	r = vmp_link_get(g->link, sp->bridge, &br);
	if (r < 0)
		return fail(reason, len, r, "bridge %s: %s", sp->bridge, strerror(-r));
	if (strcmp(br.kind, "bridge"))
		return fail(reason, len, -ENOTSUP, "%s is not a bridge", sp->bridge);
	r = vmp_link_get(g->link, sp->tap, &li);
	if (r < 0 && r != -ENODEV)
		return fail(reason, len, r, "%s: %s", sp->tap, strerror(-r));
	r = r ? 0 : check_device(g, sp, &li, reason, len);
	if (r < 0)
		return r;
	/* The fence first: whatever comes up by that name is dropped from its first frame. */
	r = vmp_fence_gate(g->fence, sp->tap);
	if (r < 0)
		return fail(reason, len, r, "cannot enter %s into the nft fence: %s", sp->tap, strerror(-r));
	if (vmp_link_get(g->link, sp->tap, &li) == -ENODEV) {
		r = vmp_link_tap_add(sp->tap, sp->multi_queue);
		if (r < 0)
			return fail(reason, len, r, "cannot create the tap %s: %s", sp->tap, strerror(-r));
		s->w.made_tap = true;
	}
	r = vmp_link_get(g->link, sp->tap, &li);
	r = r ? fail(reason, len, r, "%s: %s", sp->tap, strerror(-r)) : check_device(g, sp, &li, reason, len);
	if (r < 0)
		return r;
	if (s->w.ifindex != li.ifindex)
		forget_ifindex(g, s);
	else
		drop_alias(g, s);
	s->w.ifindex = li.ifindex;
	s->w.bridge = br.ifindex;
	r = load_program(g, s, ret_adopted, reason, len);
	if (r < 0)
		return r;
	if (verify_program(g, s->w.ifindex, s->w.prog_id) < 0) {
		vmp_fence_disarm(g->fence, s->w.ifindex);
		*ret_adopted = false;
	}
	r = attach(g, s, reason, len);
	if (r < 0)
		return r;
	if (li.master != br.ifindex) {
		r = vmp_link_setup(g->link, li.ifindex, br.mtu, sp->mac);
		r = r ? r : vmp_link_set_master(g->link, li.ifindex, br.ifindex);
		if (r < 0)
			return fail(reason, len, r, "cannot put %s into %s: %s", sp->tap, sp->bridge, strerror(-r));
	}
	if (!li.up)
		r = vmp_link_set_up(g->link, li.ifindex, true);
	if (r < 0)
		return fail(reason, len, r, "cannot set %s up: %s", sp->tap, strerror(-r));
	plan_verify(g, s);
	scan_uplinks(g, s);
	return 0;
}

static int remove_port(struct vmp_gate *g, struct slot *s, char *reason, size_t len)
{
	const char *tap = s->w.spec.tap;
	struct vmp_link_info li;
	int r = 0, r2;

	if (!vmp_link_get(g->link, tap, &li)) {
		vmp_fence_disarm(g->fence, li.ifindex);
		vmp_link_fdb_delete(g->link, li.ifindex, s->w.spec.mac);
		if (li.tap) {
			r = vmp_link_tap_del(tap);
			if (r < 0)
				fail(reason, len, r, "cannot remove the tap %s: %s", tap, strerror(-r));
		} else if (!g->tcx && s->w.setup) {
			vmp_link_clsact_del(g->link, li.ifindex);
		}
	}
	if (s->w.ifindex)
		vmp_fence_disarm(g->fence, s->w.ifindex);
	drop_alias(g, s);
	drop_links(g, s);
	close_program(s);
	if (!r) {
		r = vmp_fence_ungate(g->fence, tap);
		if (r < 0)
			fail(reason, len, r, "cannot take %s out of the nft fence: %s", tap, strerror(-r));
	}
	r2 = pin_remove_all(g->dir, s->name);
	if (!r && r2 < 0)
		r = fail(reason, len, r2, "cannot remove the pins of %s below %s: %s", s->name, g->dir, strerror(-r2));
	/* The map's descriptor is the caller's now (s_map_fd). */
	reset_wport(&s->w);
	return r;
}

/*
 * A port that could not be made: take back what this attempt made and leave foreign devices alone. What an earlier process
 * had made may have a running guest behind it: that stays gated and fenced.
 */
static void undo_equip(struct vmp_gate *g, struct slot *s, bool had_pins)
{
	if (s->w.ifindex)
		vmp_fence_disarm(g->fence, s->w.ifindex);
	if (!had_pins) {
		drop_links(g, s);
		if (s->w.made_tap)
			vmp_link_tap_del(s->w.spec.tap);
		pin_remove_all(g->dir, s->name);
		vmp_fence_ungate(g->fence, s->w.spec.tap);
	}
	close_program(s);
	if (s->w.map_fd >= 0)
		close(s->w.map_fd);
	reset_wport(&s->w);
}

static void serve_setup(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON] = "";
	char tap[IFNAMSIZ];
	bool adopted = false, was_alarm = s->w.alarm, had_pins = !pin_tap_get(g->dir, s->name, tap);
	uint64_t word = 0;
	int r;

	s->w.alarm = false;
	r = equip(g, s, &adopted, reason, sizeof reason);
	if (!r && was_alarm) {
		s->w.lost_at_ns = 0;
		/* Without carrier (no guest yet) the kernel refuses, and opens the port itself when carrier comes. */
		(void)vmp_link_set_port_state(g->link, s->w.ifindex, PORT_FORWARDING);
	}
	if (r < 0) {
		s->w.alarm = was_alarm;
		if (!s->w.setup)
			undo_equip(g, s, had_pins);
		publish(g, s);
		post(g, s, VMP_GATE_EV_PORT_FAILED, r, reason);
		return;
	}
	s->w.setup = true;
	adopted = adopted && !vmp_tcbpf_map_get(s->w.map_fd, &word) && word > boot_ns();
	if (s->w.want == WANT_KEEP && adopted && vmp_fence_armed(g->fence, s->w.ifindex))
		s->w.want = WANT_ARMED;
	else if (s->w.want == WANT_KEEP)
		s->w.want = WANT_CLOSED;
	publish(g, s);
	pthread_mutex_lock(&g->lock);
	s->s_map_fd = s->w.map_fd;
	s->adopted = s->adopted || adopted;
	pthread_mutex_unlock(&g->lock);
	post(g, s, VMP_GATE_EV_PORT_READY, 0, NULL);
}

static void plan_disarm(struct slot *s)
{
	s->w.disarm_at_ns = s->w.want == WANT_ARMED ? clock_ns(CLOCK_MONOTONIC) + UNUSED_ARM_MS * NS_PER_MS : 0;
}

/* Armed for a claim that failed, or adopted from a process whose lease has run out since. */
static void disarm_unused(struct vmp_gate *g, struct slot *s)
{
	uint64_t word = 0;

	plan_disarm(s);
	if (vmp_tcbpf_map_get(s->w.map_fd, &word) < 0 || word > boot_ns())
		return;
	if (s->w.ifindex && vmp_fence_disarm(g->fence, s->w.ifindex) < 0)
		return;
	s->w.want = WANT_CLOSED;
	s->w.disarm_at_ns = 0;
	publish(g, s);
}

static void serve_done(struct vmp_gate *g, struct slot *s, uint32_t req)
{
	bool waiting;

	publish(g, s);
	pthread_mutex_lock(&g->lock);
	s->done = req;
	s->done_at_ns = boot_ns();
	waiting = s->waiting;
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
	if (!waiting)
		notify(g);
}

static void serve(struct vmp_gate *g, struct slot *s, uint32_t req, enum want want, bool setup)
{
	char reason[VMP_GATE_REASON] = "";
	int r = 0;

	s->w.retry_at_ns = 0;
	if (want == WANT_REMOVED) {
		r = remove_port(g, s, reason, sizeof reason);
		post(g, s, VMP_GATE_EV_PORT_GONE, r, reason);
		serve_done(g, s, req);
		return;
	}
	if (want != WANT_KEEP)
		s->w.want = want;
	else if (!s->w.setup)
		s->w.want = WANT_KEEP;
	if (setup)
		serve_setup(g, s);
	if (!s->w.setup) {
		serve_done(g, s, req);
		return;
	}
	if (s->w.want >= WANT_ARMED) {
		r = serve_open(g, s, s->w.want);
	} else {
		r = s->w.ifindex ? vmp_fence_disarm(g->fence, s->w.ifindex) : 0;
		plan_verify(g, s);
	}
	if (r < 0) {
		/* Not there yet: the wish stays, the tap's return or the clock brings us back. A close that fails is worth an alarm. */
		s->w.retry_at_ns = clock_ns(CLOCK_MONOTONIC) +
				   (s->w.alarm || !s->w.ifindex ? RETRY_SLOW_MS : RETRY_MS) * NS_PER_MS;
		publish(g, s);
		if (s->w.want == WANT_CLOSED && !s->w.alarm) {
			snprintf(reason, sizeof reason, "cannot disarm %s: %s", s->w.spec.tap, strerror(-r));
			alarm_port(g, s, r, reason);
		}
		return;
	}
	serve_done(g, s, req);
	if (s->w.want != WANT_BOUND)
		s->w.fdb_retry_at_ns = 0;
	plan_disarm(s);
	/* Not part of the confirmation: the port is closed with or without a stale entry. */
	if (s->w.want == WANT_CLOSED && s->w.bound) {
		if (s->w.ifindex)
			vmp_link_fdb_delete(g->link, s->w.ifindex, s->w.spec.mac);
		s->w.bound = false;
	}
}

static void serve_all(struct vmp_gate *g)
{
	for (;;) {
		struct slot *s = NULL;
		uint64_t now = clock_ns(CLOCK_MONOTONIC);
		uint32_t req = 0;
		enum want want = WANT_KEEP;
		bool setup = false;

		pthread_mutex_lock(&g->lock);
		/* Opening and closing standing ports goes before making and removing ports. */
		for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
			struct slot *c = &g->slot[i];
			bool slow = c->setup || c->want == WANT_REMOVED;

			if (c->req == c->done || (c->w.retry_at_ns && c->w.retry_at_ns > now && c->w.want == c->want && !c->setup))
				continue;
			if (!s || !slow)
				s = c;
			if (!slow)
				break;
		}
		if (s) {
			req = s->req;
			want = s->want;
			setup = s->setup;
			s->setup = false;
			if (setup || want == WANT_REMOVED)
				s->w.spec = s->s_spec;
		}
		pthread_mutex_unlock(&g->lock);
		if (!s)
			return;
		serve(g, s, req, want, setup);
	}
}

/* --- the worker: watch -------------------------------------------------------------------------------------------- */

static void tap_lost(struct vmp_gate *g, struct slot *s)
{
	forget_ifindex(g, s);
	publish(g, s);
	post(g, s, VMP_GATE_EV_TAP_LOST, 0, NULL);
}

static void tap_recreated(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON] = "";
	bool adopted;
	int r = equip(g, s, &adopted, reason, sizeof reason);

	if (!r && s->w.want >= WANT_ARMED && !s->w.alarm)
		r = serve_open(g, s, s->w.want);
	if (r == -ENODEV)
		return;
	if (r < 0) {
		alarm_port(g, s, r, reason);
		return;
	}
	if (s->w.alarm)
		disable_port(g, s);
	if (s->w.retry_at_ns)
		s->w.retry_at_ns = 1; /* what waited for the tap is due */
	publish(g, s);
	post(g, s, VMP_GATE_EV_TAP_RECREATED, 0, NULL);
}

/* The fence goes by names and a renamed tap slips out of it: fence the new name, and let nobody through until this is mended. */
static void tap_renamed(struct vmp_gate *g, struct slot *s, const char *name)
{
	char reason[VMP_GATE_REASON], old[IFNAMSIZ];

	memcpy(old, s->w.alias, sizeof old);
	if (strcmp(old, name)) {
		snprintf(s->w.alias, sizeof s->w.alias, "%s", name);
		vmp_fence_gate(g->fence, name);
		if (old[0])
			vmp_fence_ungate(g->fence, old);
	}
	if (s->w.alarm) {
		disable_port(g, s);
		return;
	}
	snprintf(reason, sizeof reason, "the tap %s was renamed to %s", s->w.spec.tap, name);
	alarm_port(g, s, -EREMOTEIO, reason);
}

/* Messages may be older than what we did since; the device's state now is what counts. */
static void check_tap(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON];
	struct vmp_link_info li;
	int r = vmp_link_get(g->link, s->w.spec.tap, &li);

	if (s->w.ifindex && r == -ENODEV) {
		struct vmp_link_info now;

		if (!vmp_link_get_index(g->link, s->w.ifindex, &now))
			tap_renamed(g, s, now.name);
		else
			tap_lost(g, s);
		return;
	}
	if (s->w.ifindex && !r && li.ifindex != s->w.ifindex)
		tap_lost(g, s);
	if (r < 0)
		return;
	if (!s->w.ifindex) {
		tap_recreated(g, s);
		return;
	}
	if (li.xdp && !s->w.alarm) {
		snprintf(reason, sizeof reason, "an XDP program was put on %s, which can pass frames by the gate", s->w.spec.tap);
		alarm_port(g, s, -EREMOTEIO, reason);
	} else if (s->w.alarm) {
		/* A change of carrier makes the bridge enable the port again. */
		disable_port(g, s);
	} else if (li.carrier && s->w.fdb_retry_at_ns) {
		bind_fdb(g, s);
	} else if (!li.master) {
		if (!vmp_link_get(g->link, s->w.spec.bridge, &li)) {
			s->w.bridge = li.ifindex;
			vmp_link_set_master(g->link, s->w.ifindex, li.ifindex);
		}
	}
}

static void on_link_change(void *user, enum vmp_link_change what, const struct vmp_link_info *li)
{
	struct vmp_gate *g = user;

	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		struct slot *s = &g->slot[i];
		bool own;

		if (!s->w.setup)
			continue;
		own = li->ifindex && (li->ifindex == s->w.ifindex || !strcmp(li->name, s->w.spec.tap));
		switch (what) {
		case VMP_LINK_NEW:
		case VMP_LINK_DEL:
			if (own)
				check_tap(g, s);
			else
				uplink_changed(g, s, li, what == VMP_LINK_DEL);
			if (what == VMP_LINK_NEW && !strcmp(li->name, s->w.spec.bridge) && li->ifindex != s->w.bridge)
				check_tap(g, s);
			break;
		case VMP_LINK_TC:
			if (own)
				check_program(g, s);
			break;
		case VMP_LINK_OVERRUN:
			check_tap(g, s);
			check_program(g, s);
			scan_uplinks(g, s);
			break;
		}
	}
}

/* Milliseconds until the worker has something to do without being told, -1 = nothing. */
static int worker_timeout(struct vmp_gate *g)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), next = g->fence_retry_at_ns ? g->fence_retry_at_ns : UINT64_MAX;

	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		const struct wport *w = &g->slot[i].w;

		if (w->retry_at_ns && w->retry_at_ns < next)
			next = w->retry_at_ns;
		if (w->setup && w->verify_at_ns && w->verify_at_ns < next)
			next = w->verify_at_ns;
		if (w->fdb_retry_at_ns && w->fdb_retry_at_ns < next)
			next = w->fdb_retry_at_ns;
		if (w->disarm_at_ns && w->disarm_at_ns < next)
			next = w->disarm_at_ns;
	}
	if (next == UINT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / NS_PER_MS) + 1;
}

static void *worker(void *arg)
{
	struct vmp_gate *g = arg;
	struct pollfd fds[3] = {
		{ .fd = g->wake_fd, .events = POLLIN },
		{ .fd = vmp_link_watch_fd(g->link), .events = POLLIN },
		{ .fd = vmp_fence_watch_fd(g->fence), .events = POLLIN },
	};

	for (;;) {
		uint64_t now, n;
		bool stop;

		/* Also with POLLERR: reading is what clears an overrun. */
		if (poll(fds, ARRAY_SIZE(fds), worker_timeout(g)) < 0 && errno != EINTR)
			return NULL;
		if (read(g->wake_fd, &n, sizeof n) < 0 && errno != EAGAIN)
			return NULL;
		pthread_mutex_lock(&g->lock);
		stop = g->stop;
		pthread_mutex_unlock(&g->lock);
		if (stop)
			return NULL;
		serve_all(g);
		if (fds[1].revents)
			vmp_link_watch_read(g->link, on_link_change, g);
		if (fds[2].revents && vmp_fence_watch_read(g->fence) == 1)
			fence_lost(g);
		now = clock_ns(CLOCK_MONOTONIC);
		if (g->fence_retry_at_ns && g->fence_retry_at_ns <= now)
			fence_retry(g);
		for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
			struct slot *s = &g->slot[i];

			if (s->w.setup && s->w.verify_at_ns && s->w.verify_at_ns <= now)
				check_program(g, s);
			if (s->w.fdb_retry_at_ns && s->w.fdb_retry_at_ns <= now)
				bind_fdb(g, s);
			if (s->w.disarm_at_ns && s->w.disarm_at_ns <= now)
				disarm_unused(g, s);
		}
	}
}

/* --- the caller's side -------------------------------------------------------------------------------------------- */

static struct slot *find_slot(const struct vmp_gate *g, uint64_t pair_id)
{
	for (unsigned int i = 0; pair_id && i < VMP_GATE_MAX_PORTS; i++)
		if (g->slot[i].used && g->slot[i].pair_id == pair_id)
			return (struct slot *)&g->slot[i];
	return NULL;
}

static struct slot *new_slot(struct vmp_gate *g, uint64_t pair_id, const char *name)
{
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		struct slot *s = &g->slot[i];

		if (s->used)
			continue;
		s->used = true;
		s->ready = s->open = s->close_pending = s->open_pending = false;
		s->pair_id = pair_id;
		snprintf(s->name, sizeof s->name, "%s", name);
		s->word = NULL;
		s->map_fd = -1;
		s->epoch = s->closed_epoch = s->retired_epoch = 0;
		s->readd = false;
		s->repeat = VMP_ANNOUNCE_REPEATS;
		/* The counters of wishes go on; the worker's part is clean since it removed the port before. */
		pthread_mutex_lock(&g->lock);
		s->want = WANT_KEEP;
		s->setup = s->waiting = s->adopted = s->s_alarm = s->s_armed = false;
		s->s_ifindex = 0;
		s->s_map_fd = -1;
		s->n_uplinks = 0;
		s->ev_bits = 0;
		s->ev_reason[0] = '\0';
		pthread_mutex_unlock(&g->lock);
		return s;
	}
	return NULL;
}

/* Only after the worker let go of the port (removed, or ended). */
static void free_slot(struct slot *s)
{
	int fd = s->map_fd >= 0 ? s->map_fd : s->s_map_fd;

	vmp_tcbpf_map_munmap(s->word);
	if (fd >= 0)
		close(fd);
	s->used = false;
	s->word = NULL;
	s->map_fd = s->s_map_fd = -1;
	s->pair_id = 0;
}

static uint32_t submit(struct vmp_gate *g, struct slot *s, enum want want, bool setup)
{
	uint64_t one = 1;
	uint32_t req;

	pthread_mutex_lock(&g->lock);
	req = ++s->req;
	s->want = want;
	if (setup) {
		s->setup = true;
		s->s_spec = s->spec;
	}
	pthread_mutex_unlock(&g->lock);
	if (write(g->wake_fd, &one, sizeof one) < 0)
		return req; /* counter full: the worker is awake */
	return req;
}

/* Wait a short while for the worker; on -ETIMEDOUT dispatch will tell. */
static int wait_done(struct vmp_gate *g, struct slot *s, uint32_t req)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)g->conf.wait_us * 1000;
	until.tv_sec += until.tv_nsec / (long)NS_PER_S;
	until.tv_nsec %= (long)NS_PER_S;
	pthread_mutex_lock(&g->lock);
	s->waiting = true;
	while ((int32_t)(s->done - req) < 0 && !r)
		r = pthread_cond_timedwait(&g->cond, &g->lock, &until);
	s->waiting = false;
	r = (int32_t)(s->done - req) < 0 ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&g->lock);
	return r;
}

static void binding_log(struct vmp_gate *g, const struct slot *s, enum vmp_gate_store_op op, uint64_t epoch, uint64_t value, uint64_t at_ns,
			uint64_t mono_ns)
{
	struct vmp_gate_store st = {
		.op = op, .pair_id = s->pair_id, .pair_name = s->name, .epoch = epoch, .value_ns = value, .boot_ns = at_ns, .mono_ns = mono_ns,
	};

	if (g->conf.stored)
		g->conf.stored(g->conf.user, &st);
}

static void announce(struct vmp_gate *g, struct slot *s)
{
	struct uplink up[MAX_UPLINKS];
	unsigned int n;

	pthread_mutex_lock(&g->lock);
	n = s->n_uplinks;
	memcpy(up, s->uplink, sizeof up);
	pthread_mutex_unlock(&g->lock);
	for (unsigned int u = 0; u < n; u++)
		for (unsigned int i = 0; up[u].carrier && i < s->spec.n_addrs; i++) {
			/* Only under a live lease: after its end the address may be somebody else's. */
			if (!s->word || word_get(s->word) <= boot_ns())
				return;
			(void)vmp_announce_send(g->announce_fd, up[u].ifindex, s->spec.mac, s->spec.addrs[i].family, s->spec.addrs[i].addr);
		}
}

static void announce_start(struct vmp_gate *g, struct slot *s)
{
	s->repeat = 1;
	s->repeat_base_ns = boot_ns();
	announce(g, s);
}

int vmp_gate_fd(const struct vmp_gate *g)
{
	return g->out_fd;
}

uint64_t vmp_gate_deadline(const struct vmp_gate *g)
{
	uint64_t next = VMP_GATE_NEVER;

	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		const struct slot *s = &g->slot[i];
		uint64_t at;

		if (!s->used || !s->open || s->repeat >= VMP_ANNOUNCE_REPEATS)
			continue;
		at = s->repeat_base_ns + vmp_announce_repeat_ms[s->repeat] * NS_PER_MS;
		if (at < next)
			next = at;
	}
	return next;
}

void vmp_gate_tick(struct vmp_gate *g, uint64_t now_ns)
{
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		struct slot *s = &g->slot[i];
		bool due = false;

		/* A late tick sends once for all that is due. */
		while (s->used && s->open && s->repeat < VMP_ANNOUNCE_REPEATS &&
		       s->repeat_base_ns + vmp_announce_repeat_ms[s->repeat] * NS_PER_MS <= now_ns) {
			s->repeat++;
			due = true;
		}
		if (due)
			announce(g, s);
	}
}

static void deliver(struct vmp_gate *g, const struct slot *s, enum vmp_gate_ev type, uint64_t epoch, uint64_t at_ns, int err,
		    const char *reason)
{
	struct vmp_gate_event ev = {
		.type = type, .pair_id = s ? s->pair_id : 0, .pair_name = s ? s->name : "", .epoch = epoch, .at_ns = at_ns, .err = err,
		.reason = reason,
	};

	g->conf.event(g->conf.user, &ev);
}

static bool carries_reason(unsigned int ev)
{
	return ev == VMP_GATE_EV_PORT_FAILED || ev == VMP_GATE_EV_PORT_GONE || ev == VMP_GATE_EV_ALARM;
}

static int on_ready(struct vmp_gate *g, struct slot *s, int map_fd, bool adopted)
{
	if (!s->word) {
		s->map_fd = map_fd;
		s->word = vmp_tcbpf_map_mmap(map_fd);
		if (!s->word)
			return -errno;
		if (adopted)
			binding_log(g, s, VMP_GATE_STORE_ADOPT, 0, word_get(s->word), boot_ns(), clock_ns(CLOCK_MONOTONIC));
	}
	s->ready = true;
	return 0;
}

static void add_again(struct vmp_gate *g, uint64_t pair_id, const char *name, const struct vmp_gate_spec *spec)
{
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_event e = {
		.type = VMP_GATE_EV_PORT_FAILED, .pair_id = pair_id, .pair_name = name, .at_ns = boot_ns(), .reason = reason,
	};

	e.err = vmp_gate_port_add(g, pair_id, name, spec, reason, sizeof reason);
	if (e.err < 0)
		g->conf.event(g->conf.user, &e);
}

static int dispatch_slot(struct vmp_gate *g, struct slot *s)
{
	uint64_t at[VMP_GATE_EV_MAX], done_at;
	int err[VMP_GATE_EV_MAX], map_fd, n = 0;
	char reason[VMP_GATE_REASON];
	uint64_t pair_id = s->pair_id;
	bool adopted, forget, removed;
	uint32_t bits, done;

	pthread_mutex_lock(&g->lock);
	bits = s->ev_bits;
	s->ev_bits = 0;
	memcpy(at, s->ev_at_ns, sizeof at);
	memcpy(err, s->ev_err, sizeof err);
	memcpy(reason, s->ev_reason, sizeof reason);
	map_fd = s->s_map_fd;
	adopted = s->adopted;
	s->adopted = false;
	done = s->done;
	done_at = s->done_at_ns;
	removed = s->want == WANT_REMOVED;
	pthread_mutex_unlock(&g->lock);

	if (bits & BIT(VMP_GATE_EV_PORT_READY)) {
		int r = on_ready(g, s, map_fd, adopted);

		if (r < 0) {
			bits = (bits & ~BIT(VMP_GATE_EV_PORT_READY)) | BIT(VMP_GATE_EV_PORT_FAILED);
			err[VMP_GATE_EV_PORT_FAILED] = r;
			snprintf(reason, sizeof reason, "cannot map the expiry word: %s", strerror(-r));
		}
	}
	/* A port that never stood is forgotten; one on which only a repair failed stays. After a removal no other news count. */
	forget = (bits & BIT(VMP_GATE_EV_PORT_GONE)) || ((bits & BIT(VMP_GATE_EV_PORT_FAILED)) && !s->ready && !removed);
	if (removed)
		bits &= BIT(VMP_GATE_EV_PORT_GONE);
	if ((bits & BIT(VMP_GATE_EV_UPLINK_UP)) && s->open)
		announce_start(g, s);
	for (unsigned int ev = 0; ev < VMP_GATE_EV_MAX; ev++) {
		char name[VMP_GATE_NAME_MAX];

		if (!(bits & BIT(ev)))
			continue;
		n++;
		if (forget && (ev == VMP_GATE_EV_PORT_GONE || ev == VMP_GATE_EV_PORT_FAILED)) {
			/* Free first: the callback may add the pair anew. */
			struct vmp_gate_event e = {
				.type = ev, .pair_id = pair_id, .pair_name = name, .at_ns = at[ev], .err = err[ev], .reason = reason,
			};

			struct vmp_gate_spec spec = s->spec;
			bool readd = s->readd;

			memcpy(name, s->name, sizeof name);
			free_slot(s);
			g->conf.event(g->conf.user, &e);
			if (readd && !find_slot(g, pair_id))
				add_again(g, pair_id, name, &spec);
			return n;
		}
		deliver(g, s, (enum vmp_gate_ev)ev, 0, at[ev], err[ev], carries_reason(ev) ? reason : "");
		if (!s->used || s->pair_id != pair_id)
			return n;
	}
	if (s->close_pending && (int32_t)(done - s->pending_req) >= 0) {
		s->close_pending = false;
		deliver(g, s, VMP_GATE_EV_CLOSED, s->pending_epoch, done_at, 0, "");
		n++;
	} else if (s->open_pending && (int32_t)(done - s->pending_req) >= 0) {
		s->open_pending = false;
		announce_start(g, s);
		deliver(g, s, VMP_GATE_EV_OPENED, s->pending_epoch, done_at, 0, "");
		n++;
	}
	return n;
}

int vmp_gate_dispatch(struct vmp_gate *g)
{
	uint64_t count, at[VMP_GATE_EV_MAX];
	int n = 0, err[VMP_GATE_EV_MAX];
	uint32_t bits;

	if (read(g->out_fd, &count, sizeof count) < 0 && errno != EAGAIN)
		return -errno;
	pthread_mutex_lock(&g->lock);
	bits = g->ev_bits;
	g->ev_bits = 0;
	memcpy(at, g->ev_at_ns, sizeof at);
	memcpy(err, g->ev_err, sizeof err);
	pthread_mutex_unlock(&g->lock);
	for (unsigned int ev = 0; ev < VMP_GATE_EV_MAX; ev++)
		if (bits & BIT(ev)) {
			deliver(g, NULL, (enum vmp_gate_ev)ev, 0, at[ev], err[ev], "");
			n++;
		}
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++)
		if (g->slot[i].used)
			n += dispatch_slot(g, &g->slot[i]);
	return n;
}

/* --- ports -------------------------------------------------------------------------------------------------------- */

static bool good_name(const char *s, size_t max, bool iface)
{
	size_t len = strnlen(s, max);

	if (!len || len == max || s[0] == '.' || (!iface && s[0] == '-'))
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!alnum && c != '_' && c != '.' && c != '-' && !(iface && c == ':'))
			return false;
	}
	return true;
}

static bool same_addr(const struct vmp_gate_addr *a, const struct vmp_gate_addr *b)
{
	return a->family == b->family && !memcmp(a->addr, b->addr, a->family == AF_INET ? 4 : 16);
}

static int check_addrs(const struct vmp_gate *g, uint64_t pair_id, const char *bridge, const struct vmp_gate_addr *a, unsigned int n,
		       char *reason, size_t len)
{
	if (n > VMP_GATE_MAX_ADDRS)
		return fail(reason, len, -EINVAL, "more than %d entry addresses", VMP_GATE_MAX_ADDRS);
	for (unsigned int i = 0; i < n; i++) {
		if (a[i].family != AF_INET && a[i].family != AF_INET6)
			return fail(reason, len, -EINVAL, "entry address %u is neither IPv4 nor IPv6", i + 1);
		for (unsigned int j = 0; j < VMP_GATE_MAX_PORTS; j++) {
			const struct slot *o = &g->slot[j];

			if (!o->used || o->pair_id == pair_id || strcmp(o->spec.bridge, bridge))
				continue;
			for (unsigned int k = 0; k < o->spec.n_addrs; k++) {
				char text[INET6_ADDRSTRLEN] = "";

				if (!same_addr(&a[i], &o->spec.addrs[k]))
					continue;
				inet_ntop(a[i].family, a[i].addr, text, sizeof text);
				return fail(reason, len, -EEXIST, "entry address %s on %s is pair %s's", text, bridge, o->name);
			}
		}
	}
	return 0;
}

static int check_spec(const struct vmp_gate *g, uint64_t pair_id, const char *pair_name, const struct vmp_gate_spec *sp, char *reason,
		      size_t len)
{
	static const uint8_t zero[6];

	if (!pair_id || !good_name(pair_name, VMP_GATE_NAME_MAX, false))
		return fail(reason, len, -EINVAL, "bad pair name");
	if (!good_name(sp->tap, IFNAMSIZ, true))
		return fail(reason, len, -EINVAL, "bad name of the tap");
	if (!good_name(sp->bridge, IFNAMSIZ, true))
		return fail(reason, len, -EINVAL, "bad name of the entry bridge");
	if (sp->uplink[0] && !good_name(sp->uplink, IFNAMSIZ, true))
		return fail(reason, len, -EINVAL, "bad name of the uplink");
	if ((sp->mac[0] & 1) || !memcmp(sp->mac, zero, 6))
		return fail(reason, len, -EINVAL, "the entry MAC must be a unicast address");
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		const struct slot *o = &g->slot[i];

		if (!o->used || o->pair_id == pair_id)
			continue;
		if (!strcmp(o->spec.tap, sp->tap))
			return fail(reason, len, -EEXIST, "tap %s is pair %s's", sp->tap, o->name);
		if (!strcmp(o->name, pair_name))
			return fail(reason, len, -EEXIST, "a port of a pair of that name is just being removed");
		if (!strcmp(o->spec.bridge, sp->bridge) && !memcmp(o->spec.mac, sp->mac, 6))
			return fail(reason, len, -EEXIST, "the entry MAC on %s is pair %s's", sp->bridge, o->name);
	}
	for (unsigned int i = 0; i < g->n_leftover; i++)
		if (!strcmp(g->leftover[i].tap, sp->tap) && strcmp(g->leftover[i].name, pair_name))
			return fail(reason, len, -EEXIST, "tap %s is still pair %s's, from an earlier run: forget that pair first", sp->tap,
				    g->leftover[i].name);
	return check_addrs(g, pair_id, sp->bridge, sp->addrs, sp->n_addrs, reason, len);
}

static void drop_leftover(struct vmp_gate *g, const char *name)
{
	for (unsigned int i = 0; i < g->n_leftover; i++)
		if (!strcmp(g->leftover[i].name, name)) {
			g->leftover[i] = g->leftover[--g->n_leftover];
			return;
		}
}

int vmp_gate_port_add(struct vmp_gate *g, uint64_t pair_id, const char *pair_name, const struct vmp_gate_spec *spec, char *reason,
		      size_t reason_len)
{
	struct slot *s = find_slot(g, pair_id);
	int r = check_spec(g, pair_id, pair_name, spec, reason, reason_len);

	if (r < 0)
		return r;
	if (s) {
		if (s->want == WANT_REMOVED) {
			s->spec = *spec;
			s->readd = true;
			return 0;
		}
		if (strcmp(s->spec.tap, spec->tap) || strcmp(s->spec.bridge, spec->bridge) || memcmp(s->spec.mac, spec->mac, 6) ||
		    s->spec.multi_queue != spec->multi_queue)
			return fail(reason, reason_len, -EBUSY, "the port of %s stands with another tap, bridge or MAC: delete it first", pair_name);
	} else {
		s = new_slot(g, pair_id, pair_name);
		if (!s)
			return fail(reason, reason_len, -ENOSPC, "more than %d gated ports", VMP_GATE_MAX_PORTS);
		drop_leftover(g, pair_name);
	}
	s->spec = *spec;
	/* The wish stays what it is: adding again repairs, it neither opens nor closes. */
	submit(g, s, s->want, true);
	return 0;
}

int vmp_gate_port_addrs(struct vmp_gate *g, uint64_t pair_id, const struct vmp_gate_addr *addrs, unsigned int n_addrs)
{
	struct slot *s = find_slot(g, pair_id);
	int r;

	if (!s)
		return -ENOENT;
	r = check_addrs(g, pair_id, s->spec.bridge, addrs, n_addrs, NULL, 0);
	if (r < 0)
		return r;
	memcpy(s->spec.addrs, addrs, n_addrs * sizeof *addrs);
	s->spec.n_addrs = n_addrs;
	if (s->open)
		announce_start(g, s);
	return 0;
}

/* K4, first half: 0 in the word, and the kernel's own copy says so. */
static int close_word(struct vmp_gate *g, struct slot *s, uint64_t epoch)
{
	uint64_t seen = UINT64_MAX;
	int r;

	if (!s->word)
		return 0;
	word_set(s->word, 0);
	r = vmp_tcbpf_map_get(s->map_fd, &seen);
	if (r < 0 || seen) {
		/* Never seen; the other way to write is the one thing left to try. */
		r = vmp_tcbpf_map_set(s->map_fd, 0);
		r = r ? r : vmp_tcbpf_map_get(s->map_fd, &seen);
		if (r < 0 || seen)
			return r < 0 ? r : -EIO;
	}
	binding_log(g, s, VMP_GATE_STORE_CLOSE, epoch, 0, boot_ns(), clock_ns(CLOCK_MONOTONIC));
	return 0;
}

static void end_epoch(struct slot *s, uint64_t epoch)
{
	if (epoch > s->closed_epoch)
		s->closed_epoch = epoch;
	s->open = s->open_pending = false;
	s->repeat = VMP_ANNOUNCE_REPEATS;
}

int vmp_gate_port_del(struct vmp_gate *g, uint64_t pair_id)
{
	struct slot *s = find_slot(g, pair_id);

	if (!s)
		return -ENOENT;
	end_epoch(s, s->epoch);
	s->close_pending = s->readd = false;
	if (s->want == WANT_REMOVED)
		return 0;
	(void)close_word(g, s, s->epoch);
	s->ready = false;
	submit(g, s, WANT_REMOVED, false);
	return 0;
}

const char *vmp_gate_leftover(const struct vmp_gate *g, unsigned int i)
{
	return i < g->n_leftover ? g->leftover[i].name : NULL;
}

int vmp_gate_forget(struct vmp_gate *g, const char *pair_name)
{
	for (unsigned int i = 0; i < g->n_leftover; i++) {
		struct slot *s;

		if (strcmp(g->leftover[i].name, pair_name))
			continue;
		s = new_slot(g, 0, pair_name);
		if (!s)
			return -ENOSPC;
		snprintf(s->spec.tap, sizeof s->spec.tap, "%s", g->leftover[i].tap);
		s->s_spec = s->spec;
		drop_leftover(g, pair_name);
		submit(g, s, WANT_REMOVED, false);
		return 0;
	}
	return -ENOENT;
}

int vmp_gate_port_info(const struct vmp_gate *g, uint64_t pair_id, struct vmp_gate_info *ret)
{
	struct slot *s = find_slot(g, pair_id);

	if (!s)
		return -ENOENT;
	memset(ret, 0, sizeof *ret);
	pthread_mutex_lock((pthread_mutex_t *)&g->lock);
	ret->armed = s->s_armed;
	ret->alarm = s->s_alarm;
	ret->ifindex = s->s_ifindex;
	pthread_mutex_unlock((pthread_mutex_t *)&g->lock);
	ret->ready = s->ready;
	ret->tcx = g->tcx;
	ret->epoch = s->epoch;
	ret->expiry_ns = s->word ? word_get(s->word) : 0;
	ret->open = ret->armed && ret->expiry_ns > boot_ns();
	return 0;
}

/* --- open, refresh, close ------------------------------------------------------------------------------------------ */

/* The newest closed epoch may be opened again (H3, K6), a retired one (R1) never. */
static bool stale(const struct slot *s, uint64_t epoch)
{
	return !epoch || epoch <= s->retired_epoch || epoch < s->closed_epoch || epoch < s->epoch;
}

/* Rules K2 and K3, for open and refresh alike. now_ns is taken before the store. */
static int check_store(const struct slot *s, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns, uint64_t now_ns)
{
	if (!s)
		return -ENOENT;
	if (!s->ready)
		return -EAGAIN;
	if (stale(s, epoch))
		return -ESTALE;
	if (expiry_ns > lease_end_ns)
		return -ERANGE;
	if (expiry_ns <= now_ns)
		return -ETIME;
	if (expiry_ns - now_ns > MAX_AHEAD_NS)
		return -ERANGE;
	return 0;
}

static bool in_alarm(struct vmp_gate *g, const struct slot *s)
{
	bool a;

	pthread_mutex_lock(&g->lock);
	a = s->s_alarm;
	pthread_mutex_unlock(&g->lock);
	return a;
}

int vmp_gate_prepare(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch)
{
	struct slot *s = find_slot(g, pair_id);

	if (!s)
		return -ENOENT;
	if (!s->ready)
		return -EAGAIN;
	if (s->close_pending)
		return -EBUSY;
	if (stale(s, epoch))
		return -ESTALE;
	/* Also if that was the last wish: it may have been prepared, and disarmed again, before. */
	if (s->want != WANT_BOUND)
		submit(g, s, WANT_ARMED, false);
	return 0;
}

int vmp_gate_open(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns)
{
	struct slot *s = find_slot(g, pair_id);
	uint64_t now = boot_ns(), mono = clock_ns(CLOCK_MONOTONIC);
	int r = check_store(s, epoch, expiry_ns, lease_end_ns, now);
	uint32_t req;

	if (r < 0)
		return r;
	/* The close before must be through, or its confirmation would never come true. */
	if (s->close_pending)
		return -EBUSY;
	if (in_alarm(g, s))
		return -EREMOTEIO;
	word_set(s->word, expiry_ns);
	s->epoch = epoch;
	s->open = true;
	binding_log(g, s, VMP_GATE_STORE_OPEN, epoch, expiry_ns, now, mono);
	req = submit(g, s, WANT_BOUND, false);
	if (!wait_done(g, s, req)) {
		s->open_pending = false;
		announce_start(g, s);
		return 0;
	}
	s->open_pending = true;
	s->pending_epoch = epoch;
	s->pending_req = req;
	return -EINPROGRESS;
}

int vmp_gate_refresh(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns)
{
	struct slot *s = find_slot(g, pair_id);
	uint64_t now = boot_ns(), mono = clock_ns(CLOCK_MONOTONIC);
	int r = check_store(s, epoch, expiry_ns, lease_end_ns, now);

	if (r < 0)
		return r;
	if (epoch != s->epoch || !s->open)
		return -ESTALE;
	word_set(s->word, expiry_ns);
	binding_log(g, s, VMP_GATE_STORE_REFRESH, epoch, expiry_ns, now, mono);
	return 0;
}

int vmp_gate_close(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch)
{
	struct slot *s = find_slot(g, pair_id);
	uint32_t req;
	int r;

	if (!s)
		return -ENOENT;
	/* A late close of an older epoch must not shut the newer one. */
	if (epoch && epoch < s->epoch) {
		if (epoch > s->closed_epoch)
			s->closed_epoch = epoch;
		return 0;
	}
	end_epoch(s, epoch ? epoch : s->epoch);
	r = close_word(g, s, epoch ? epoch : s->epoch);
	req = submit(g, s, WANT_CLOSED, false);
	if (r < 0)
		return r;
	if (!wait_done(g, s, req)) {
		s->close_pending = false;
		return 0;
	}
	s->close_pending = true;
	s->pending_epoch = epoch ? epoch : s->epoch;
	s->pending_req = req;
	return -EINPROGRESS;
}

int vmp_gate_retire(struct vmp_gate *g, uint64_t pair_id, uint64_t epoch)
{
	struct slot *s = find_slot(g, pair_id);

	if (!s)
		return -ENOENT;
	if (epoch > s->retired_epoch)
		s->retired_epoch = epoch;
	return s->open && s->epoch <= epoch ? vmp_gate_close(g, pair_id, s->epoch) : 0;
}

/* --- start and end -------------------------------------------------------------------------------------------------- */

static int probe_kernel(struct vmp_gate *g, char *reason, size_t len)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int prog = -1;
	struct vmp_tcbpf_info pi;
	char log[512] = "", path[PATH_MAX];
	uint64_t *word;
	int r;

	if (map < 0)
		return fail(reason, len, map == -EPERM ? -EPERM : -EOPNOTSUPP, "bpf(2) refuses a map that can be mapped: %s (%s)", strerror(-map),
			    map == -EPERM ? "needs CAP_BPF and CAP_NET_ADMIN; in a container, seccomp must allow bpf" : "needs kernel 5.5 or newer");
	word = vmp_tcbpf_map_mmap(map);
	if (!word)
		return fail(reason, len, -EOPNOTSUPP, "the kernel does not map a bpf map into memory: %s", strerror(errno));
	vmp_tcbpf_map_munmap(word);
	prog = vmp_tcbpf_prog_load(map, vmp_tcbpf_insns, vmp_tcbpf_n_insns, log, sizeof log);
	if (prog < 0)
		return fail(reason, len, prog == -EPERM ? -EPERM : -EOPNOTSUPP, "the kernel refuses the gate's program: %s (needs kernel 5.8 or newer; "
			    "kernel lockdown 'confidentiality' forbids it) %.120s", strerror(-prog), log);
	r = vmp_tcbpf_prog_info(prog, &pi);
	if (r < 0)
		return fail(reason, len, -EOPNOTSUPP, "the kernel does not tell about bpf programs: %s", strerror(-r));
	memcpy(g->tag, pi.tag, sizeof g->tag);
	g->tcx = !(g->conf.flags & VMP_GATE_FORCE_CLSACT) && vmp_tcbpf_has_tcx(prog);
	snprintf(path, sizeof path, "%s/%%probe", g->dir);
	unlink(path);
	r = vmp_tcbpf_pin(map, path);
	if (r < 0)
		return fail(reason, len, r, "cannot pin below %s: %s", g->dir, strerror(-r));
	unlink(path);
	return 0;
}

/* What an earlier process left: its taps stay behind the fence, and ports open under a live word stay armed. */
static int on_pinned(void *user, const char *pair)
{
	struct vmp_gate *g = user;
	CLEANUP_CLOSE int map = -1;
	CLEANUP_CLOSE int prog = -1;
	struct leftover *l = &g->leftover[g->n_leftover];
	struct vmp_link_info li;
	uint32_t prog_id;
	uint64_t word;
	int r;

	if (pin_tap_get(g->dir, pair, l->tap) < 0) {
		pin_remove_all(g->dir, pair);
		return 0;
	}
	snprintf(l->name, sizeof l->name, "%s", pair);
	r = vmp_fence_gate(g->fence, l->tap);
	if (r < 0)
		return r;
	g->n_leftover++;
	if (vmp_link_get(g->link, l->tap, &li) || !adopt_pins(g, pair, &map, &prog, &prog_id) || vmp_tcbpf_map_get(map, &word) < 0)
		return 0;
	if (word > boot_ns() && !verify_program(g, li.ifindex, prog_id))
		return vmp_fence_arm(g->fence, li.ifindex);
	return 0;
}

static int start_worker(struct vmp_gate *g)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	/* Signals are the loop's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&g->thread, &attr, worker, g);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r)
		return -r;
	pthread_setname_np(g->thread, "vmpaird-gate");
	g->thread_runs = true;
	return 0;
}

static void init_lock(struct vmp_gate *g)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	/* The worker may be of lower priority than the loop; while it holds the lock it must not be. */
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setprotocol(&ma, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&g->lock, &ma);
	pthread_mutexattr_destroy(&ma);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&g->cond, &ca);
	pthread_condattr_destroy(&ca);
}

static int gate_init(struct vmp_gate *g, char *reason, size_t len)
{
	int r = bpffs_prepare(g->dir, true, reason, len);

	r = r ? r : probe_kernel(g, reason, len);
	if (r < 0)
		return r;
	r = vmp_link_new(&g->link);
	if (r < 0)
		return fail(reason, len, r, "rtnetlink: %s", strerror(-r));
	r = vmp_fence_new(&g->fence, g->conf.flags & VMP_GATE_FORCE_NO_OWNER);
	if (r < 0)
		return fail(reason, len, r, "netlink socket of nftables: %s (CONFIG_NF_TABLES is needed)", strerror(-r));
	r = for_each_pinned(g->dir, on_pinned, g);
	if (r < 0)
		return fail(reason, len, r, "cannot take over the pins below %s: %s", g->dir, strerror(-r));
	r = vmp_fence_install(g->fence);
	if (r == -EBUSY)
		return fail(reason, len, r, "the nft table bridge %s belongs to another running process (is a vmpaird running?)", VMP_FENCE_TABLE);
	if (r == -EPERM || r == -EACCES)
		return fail(reason, len, r, "nftables: %s (needs CAP_NET_ADMIN)", strerror(-r));
	if (r < 0)
		return fail(reason, len, -EOPNOTSUPP, "cannot install the nft fence in the bridge family: %s (kernel without CONFIG_NF_TABLES_BRIDGE?)",
			    strerror(-r));
	g->announce_fd = vmp_announce_socket();
	if (g->announce_fd < 0)
		return fail(reason, len, g->announce_fd, "packet socket: %s (needs CAP_NET_RAW)", strerror(-g->announce_fd));
	g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->out_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->wake_fd < 0 || g->out_fd < 0)
		return fail(reason, len, -errno, "eventfd: %s", strerror(errno));
	r = start_worker(g);
	return r < 0 ? fail(reason, len, r, "cannot start a thread: %s", strerror(-r)) : 0;
}

int vmp_gate_new(struct vmp_gate **ret, const struct vmp_gate_conf *conf, char *reason, size_t reason_len)
{
	const char *dir = conf->bpffs_dir ? conf->bpffs_dir : VMP_GATE_BPFFS;
	struct vmp_gate *g;
	int r;

	if (strlen(dir) >= sizeof g->dir || !conf->event)
		return fail(reason, reason_len, -EINVAL, "bad gate configuration");
	g = calloc(1, sizeof *g);
	if (!g)
		return fail(reason, reason_len, -ENOMEM, "out of memory");
	g->conf = *conf;
	if (!g->conf.wait_us)
		g->conf.wait_us = WAIT_US_DEFAULT;
	snprintf(g->dir, sizeof g->dir, "%s", dir);
	g->announce_fd = g->wake_fd = g->out_fd = -1;
	init_lock(g);
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		g->slot[i].map_fd = g->slot[i].s_map_fd = -1;
		reset_wport(&g->slot[i].w);
	}
	r = gate_init(g, reason, reason_len);
	if (r < 0) {
		vmp_gate_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

struct vmp_gate *vmp_gate_free(struct vmp_gate *g)
{
	uint64_t one = 1;

	if (!g)
		return NULL;
	if (g->thread_runs) {
		pthread_mutex_lock(&g->lock);
		g->stop = true;
		pthread_mutex_unlock(&g->lock);
		if (write(g->wake_fd, &one, sizeof one) >= 0 || errno == EAGAIN)
			pthread_join(g->thread, NULL);
	}
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		struct slot *s = &g->slot[i];

		close_program(s);
		if (s->used)
			free_slot(s);
	}
	vmp_fence_free(g->fence);
	vmp_link_free(g->link);
	vmp_close_p(&g->announce_fd);
	vmp_close_p(&g->wake_fd);
	vmp_close_p(&g->out_fd);
	pthread_cond_destroy(&g->cond);
	pthread_mutex_destroy(&g->lock);
	free(g);
	return NULL;
}

struct purge {
	const char *dir;
	struct vmp_fence *fence;
	int err;
	char name[VMP_GATE_NAME_MAX];
};

static int on_purge_fence(void *user, const char *pair)
{
	struct purge *p = user;
	char tap[IFNAMSIZ];

	return pin_tap_get(p->dir, pair, tap) < 0 ? 0 : vmp_fence_gate(p->fence, tap);
}

static void purge_pins(const char *dir, const char *pair)
{
	CLEANUP_CLOSE int map = pin_get(dir, pair, "map");

	/* Whoever still holds the tap open is cut off before anything is taken apart. */
	if (map >= 0)
		vmp_tcbpf_map_set(map, 0);
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int fd = pin_get(dir, pair, link_pin[i]);

		if (fd >= 0)
			vmp_tcbpf_link_detach(fd);
	}
}

static int on_purge(void *user, const char *pair)
{
	struct purge *p = user;
	char tap[IFNAMSIZ] = "";
	int r;

	r = pin_tap_get(p->dir, pair, tap) < 0 ? 0 : vmp_link_tap_del(tap);
	purge_pins(p->dir, pair);
	/* Not a tap: a device of somebody else's, of which only our links were ours. */
	if (r == -ENOTUNIQ)
		r = 0;
	r = r ? r : pin_remove_all(p->dir, pair);
	if (r < 0 && !p->err) {
		p->err = r;
		snprintf(p->name, sizeof p->name, "%s", pair);
	}
	return 0;
}

int vmp_gate_purge(const char *bpffs_dir, char *reason, size_t reason_len)
{
	struct purge p = { .dir = bpffs_dir ? bpffs_dir : VMP_GATE_BPFFS };
	bool pins;
	int r, r2;

	r = bpffs_prepare(p.dir, false, reason, reason_len);
	if (r < 0 && r != -ENOENT)
		return r;
	pins = !r;
	r = vmp_fence_new(&p.fence, false);
	if (r < 0)
		return fail(reason, reason_len, r, "netlink socket of nftables: %s", strerror(-r));
	/* Writing the fence shows whether a daemon is alive, and it stays up until the taps are gone. */
	r = pins ? for_each_pinned(p.dir, on_purge_fence, &p) : 0;
	r = r ? r : vmp_fence_install(p.fence);
	if (r == -EBUSY) {
		vmp_fence_free(p.fence);
		return fail(reason, reason_len, r, "a running vmpaird owns the gates: stop it first");
	}
	r = 0;
	if (pins) {
		r = for_each_pinned(p.dir, on_purge, &p);
		if (!r && p.err)
			r = fail(reason, reason_len, p.err, "cannot remove all of pair %s: %s", p.name, strerror(-p.err));
		if (!r && rmdir(p.dir) < 0 && errno != ENOENT)
			r = fail(reason, reason_len, -errno, "rmdir %s: %s", p.dir, strerror(errno));
	}
	r2 = vmp_fence_delete(p.fence);
	/* A kernel without nftables never had a fence. */
	if (!r && r2 < 0 && r2 != -EOPNOTSUPP)
		r = fail(reason, reason_len, r2, "cannot delete the nft table bridge %s: %s", VMP_FENCE_TABLE, strerror(-r2));
	vmp_fence_free(p.fence);
	return r;
}
