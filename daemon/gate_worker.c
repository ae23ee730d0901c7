/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/gate_int.h"
#include "internal/cleanup.h"

#define TWICE_WITHIN_NS (60 * NS_PER_S)
#define RETRY_MS 20ULL
#define RETRY_SLOW_MS 1000ULL /* what waits for a tap or an operator */
#define VERIFY_OPEN_MS 100    /* TCX links are taken off without a message; below any sensible lease */
#define VERIFY_CLOSED_MS 1000
#define UNUSED_ARM_MS 5000ULL /* a prepared port that nobody opened (its claim failed) is disarmed again */
#define PORT_DISABLED 0	      /* BR_STATE_DISABLED, BR_STATE_FORWARDING */
#define PORT_FORWARDING 3

void vmp_gate_reset_wport(struct wport *w)
{
	memset(w, 0, sizeof *w);
	w->map_fd = w->addrs_fd = w->prog_fd[0] = w->prog_fd[1] = w->link_fd[0] = w->link_fd[1] = -1;
	w->want = WANT_KEEP;
}

/* --- reports ------------------------------------------------------------------------------------------ */

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

/* --- the fence, for either kind ------------------------------------------------------------------------- */

static bool is_host(const struct slot *s)
{
	return on_host(s->w.spec.kind);
}

static bool armed(const struct vmp_gate *g, const struct slot *s)
{
	if (!s->w.ifindex)
		return false;
	return is_host(s) ? vmp_fence_host_armed(g->fence, s->name) == s->w.ifindex : vmp_fence_armed(g->fence, s->w.ifindex);
}

/* The pair's addresses, as the spec has them now. */
static int fence_host(struct vmp_gate *g, const struct slot *s, int ifindex)
{
	struct vmp_fence_addr addrs[VMP_FENCE_HOST_ADDRS];

	return vmp_fence_host(g->fence, s->name, ifindex, addrs, fence_addrs(&s->w.spec, addrs));
}

static int disarm(struct vmp_gate *g, const struct slot *s)
{
	if (is_host(s))
		return fence_host(g, s, 0);
	return s->w.ifindex ? vmp_fence_disarm(g->fence, s->w.ifindex) : 0;
}

/* What info() shows. */
static void publish(struct vmp_gate *g, struct slot *s)
{
	bool is_armed = armed(g, s);

	pthread_mutex_lock(&g->lock);
	s->s_ifindex = s->w.ifindex;
	memcpy(s->s_mac, s->w.mac, sizeof s->s_mac);
	memcpy(s->s_addrs, s->w.spec.addrs, sizeof s->s_addrs);
	s->s_n_addrs = s->w.spec.n_addrs;
	s->s_armed = is_armed;
	s->s_alarm = s->w.alarm;
	pthread_mutex_unlock(&g->lock);
}

/* --- programs ----------------------------------------------------------------------------------------- */

void vmp_gate_know(struct vmp_gate *g, const uint32_t prog_id[2])
{
	for (int i = 0; i < 2; i++)
		g->known[g->n_known++ % KNOWN_IDS] = prog_id[i];
}

static bool known(const struct vmp_gate *g, uint32_t id)
{
	for (unsigned int i = 0; id && i < KNOWN_IDS; i++)
		if (g->known[i] == id)
			return true;
	return false;
}

int vmp_gate_verify_program(struct vmp_gate *g, enum vmp_gate_kind kind, int ifindex, const uint32_t prog_id[2])
{
	for (int egress = 0; egress < 2; egress++) {
		uint32_t id[64];
		int n = g->tcx ? vmp_tcbpf_tcx_list(ifindex, egress, id, ARRAY_SIZE(id))
			       : vmp_link_filter_list(g->link, ifindex, egress, id, ARRAY_SIZE(id));
		int i = 0;

		/* Without its qdisc, tc answers a question about filters with "invalid". */
		if (n == -EINVAL && !g->tcx)
			return -EBADF;
		if (n < 0)
			return n;
		while (i < n && id[i] != prog_id[egress] && on_host(kind) && known(g, id[i]))
			i++;
		if (i == n || id[i] != prog_id[egress])
			return -EBADF;
	}
	return 0;
}

static int verify(struct vmp_gate *g, const struct slot *s)
{
	return vmp_gate_verify_program(g, s->w.spec.kind, s->w.ifindex, s->w.prog_id);
}

static void drop_links(struct vmp_gate *g, struct slot *s)
{
	for (int i = 0; i < 2; i++) {
		if (s->w.link_fd[i] < 0)
			continue;
		vmp_tcbpf_link_detach(s->w.link_fd[i]);
		close(s->w.link_fd[i]);
		s->w.link_fd[i] = -1;
		vmp_gate_pin_remove(g->dir, s->name, vmp_gate_link_pin[i]);
	}
}

static int attach_tcx(struct vmp_gate *g, struct slot *s)
{
	drop_links(g, s);
	for (int i = 0; i < 2; i++) {
		int r = vmp_tcbpf_link_new(s->w.prog_fd[i], s->w.ifindex, i == 1);

		if (r < 0)
			return r;
		s->w.link_fd[i] = r;
		r = vmp_gate_pin(g->dir, s->name, vmp_gate_link_pin[i], s->w.link_fd[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int attach_clsact(struct vmp_gate *g, struct slot *s)
{
	int r = vmp_link_clsact_add(g->link, s->w.ifindex);

	/* Several of HOST stand on one interface, each under a handle of its own. */
	for (int i = 0; i < 2 && !r; i++)
		r = vmp_link_filter_add(g->link, s->w.ifindex, i == 1, is_host(s) ? s->w.prog_id[i] : 1, s->w.prog_fd[i], "vmpair_gate");
	return r;
}

/* A filter of HOST that somebody has put another one before: removed, so that it can be added again as the first. */
static void drop_filters(struct vmp_gate *g, const struct slot *s)
{
	for (int i = 0; i < 2 && is_host(s) && !g->tcx; i++)
		if (s->w.prog_id[i]) /* 0 is every filter there, those of other pairs too */
			vmp_link_filter_del(g->link, s->w.ifindex, i == 1, s->w.prog_id[i]);
}

int vmp_gate_host_clear(struct vmp_link *l, bool tcx, const struct vmp_gate_spec *spec, const uint32_t prog_id[2])
{
	struct vmp_link_info li;
	uint32_t id;
	int r = vmp_link_get(l, spec->bridge, &li), n = 0;

	if (r < 0)
		return r == -ENODEV ? 0 : r;
	/* The addresses first: while the programs are there. */
	for (unsigned int i = 0; spec->kind == VMP_GATE_HOST && i < spec->n_addrs && !r; i++)
		r = vmp_link_addr_del(l, li.ifindex, spec->addrs[i].family, spec->addrs[i].addr, spec->addrs[i].prefix);
	if (tcx || r < 0)
		return r;
	for (int i = 0; i < 2 && !r; i++)
		r = prog_id[i] ? vmp_link_filter_del(l, li.ifindex, i == 1, prog_id[i]) : 0;
	for (int i = 0; i < 2 && n >= 0; i++) {
		int k = vmp_link_filter_list(l, li.ifindex, i == 1, &id, 1);

		n = k < 0 ? k : n + k;
	}
	if (!n && !r)
		vmp_link_clsact_del(l, li.ifindex);
	return r;
}

/* Make our program the first on both sides. Never called on an armed port. */
static int attach(struct vmp_gate *g, struct slot *s, char *reason, size_t len)
{
	int r;

	if (!verify(g, s))
		return 0;
	drop_filters(g, s);
	r = g->tcx ? attach_tcx(g, s) : attach_clsact(g, s);
	if (r == -EEXIST)
		return vmp_gate_fail(
			reason, len, r,
			"%s has an 'ingress' qdisc (libvirt's <bandwidth><outbound> makes one), which excludes the gate's "
			"clsact on this kernel: remove it",
			gated_dev(&s->w.spec));
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot attach the gate's program to %s: %s", gated_dev(&s->w.spec),
				     strerror(-r));
	r = verify(g, s);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "another tc program stands before the gate's on %s",
				     gated_dev(&s->w.spec));
	return 0;
}

void vmp_gate_close_program(struct slot *s)
{
	for (int i = 0; i < 2; i++) {
		vmp_close_p(&s->w.link_fd[i]);
		vmp_close_p(&s->w.prog_fd[i]);
		s->w.link_fd[i] = s->w.prog_fd[i] = -1;
		s->w.prog_id[i] = 0;
	}
	vmp_close_p(&s->w.addrs_fd);
	s->w.addrs_fd = -1; /* called again when the port goes: by then these numbers are others' */
}

void vmp_gate_pins_close(struct pins *p)
{
	vmp_close_p(&p->map);
	vmp_close_p(&p->addrs);
	vmp_close_p(&p->prog[0]);
	vmp_close_p(&p->prog[1]);
}

/* Is this program of our make, and does it use these maps? */
static bool fits(const struct vmp_gate *g, const struct pins *p, int i, enum vmp_gate_kind kind, uint32_t *ret_id)
{
	uint32_t map = 0, addrs = 0;
	struct vmp_tcbpf_info pi;

	if (p->prog[i] < 0 || vmp_tcbpf_prog_info(p->prog[i], &pi) < 0 || vmp_tcbpf_map_id(p->map, &map) < 0)
		return false;
	if (on_host(kind) && vmp_tcbpf_map_id(p->addrs, &addrs) < 0)
		return false;
	if (memcmp(pi.tag, g->tag[on_host(kind) ? 1 + i : 0], sizeof pi.tag))
		return false;
	*ret_id = pi.id;
	return (pi.map_id[0] == map && pi.map_id[1] == addrs) || (addrs && pi.map_id[0] == addrs && pi.map_id[1] == map);
}

bool vmp_gate_adopt_pins(struct vmp_gate *g, const char *pair, enum vmp_gate_kind kind, struct pins *ret)
{
	bool host = on_host(kind);
	struct pins p = {
		.map = vmp_gate_pin_get(g->dir, pair, "map"),
		.addrs = host ? vmp_gate_pin_get(g->dir, pair, "addrs") : -1,
		.prog = { vmp_gate_pin_get(g->dir, pair, vmp_gate_prog_pin[0]), vmp_gate_pin_get(g->dir, pair, vmp_gate_prog_pin[host]) },
	};

	/* Errors are no descriptors. */
	p.map = p.map < 0 ? -1 : p.map;
	p.addrs = p.addrs < 0 ? -1 : p.addrs;
	for (int i = 0; i < 2; i++)
		p.prog[i] = p.prog[i] < 0 ? -1 : p.prog[i];
	if (p.map < 0 || !vmp_tcbpf_map_fits(p.map) || (host && (p.addrs < 0 || !vmp_tcbpf_addrs_fits(p.addrs))) ||
	    !fits(g, &p, 0, kind, &p.prog_id[0]) || !fits(g, &p, 1, kind, &p.prog_id[1])) {
		vmp_gate_pins_close(&p);
		return false;
	}
	*ret = p;
	return true;
}

static void key_of_addr(const struct vmp_gate_addr *a, uint8_t ret[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->family == AF_INET6) {
		memcpy(ret, a->addr, 16);
		return;
	}
	memcpy(ret, mapped, sizeof mapped);
	memcpy(ret + 12, a->addr, 4);
}

static bool in_list(const struct vmp_gate_addr *a, unsigned int n, const struct vmp_gate_addr *which)
{
	for (unsigned int i = 0; i < n; i++)
		if (a[i].family == which->family && !memcmp(a[i].addr, which->addr, which->family == AF_INET ? 4 : 16))
			return true;
	return false;
}

/* The programs' set of addresses becomes the spec's: what goes was taken off the interface before. */
static int set_addrs(struct slot *s)
{
	const struct vmp_gate_spec *sp = &s->w.spec;
	uint8_t key[16], old[VMP_TCBPF_ADDRS][16];
	unsigned int n = 0;
	uint32_t prefix;
	int r = 0;

	for (int e = vmp_tcbpf_addrs_next(s->w.addrs_fd, NULL, key, &prefix); !e && n < VMP_TCBPF_ADDRS;
	     e = vmp_tcbpf_addrs_next(s->w.addrs_fd, key, key, &prefix))
		memcpy(old[n++], key, sizeof key);
	for (unsigned int i = 0; i < n && !r; i++) {
		bool stays = false;

		for (unsigned int k = 0; k < sp->n_addrs && !stays; k++) {
			key_of_addr(&sp->addrs[k], key);
			stays = !memcmp(key, old[i], sizeof key);
		}
		r = stays ? 0 : vmp_tcbpf_addrs_del(s->w.addrs_fd, old[i]);
	}
	for (unsigned int i = 0; i < sp->n_addrs && !r; i++) {
		key_of_addr(&sp->addrs[i], key);
		r = vmp_tcbpf_addrs_set(s->w.addrs_fd, key, sp->addrs[i].prefix);
	}
	return r;
}

static int new_programs(struct vmp_gate *g, struct slot *s, char *reason, size_t len)
{
	char log[256] = "";

	s->w.map_fd = vmp_tcbpf_map_new();
	s->w.addrs_fd = is_host(s) ? vmp_tcbpf_addrs_new() : -1;
	if (s->w.map_fd < 0 || (is_host(s) && s->w.addrs_fd < 0)) {
		int r = s->w.map_fd < 0 ? s->w.map_fd : s->w.addrs_fd;

		s->w.map_fd = s->w.map_fd < 0 ? -1 : s->w.map_fd;
		s->w.addrs_fd = s->w.addrs_fd < 0 ? -1 : s->w.addrs_fd;
		return vmp_gate_fail(reason, len, r, "cannot create the gate's maps: %s", strerror(-r));
	}
	for (int i = 0; i < 2; i++) {
		struct vmp_tcbpf_info pi;
		int r;

		if (i && !is_host(s))
			r = fcntl(s->w.prog_fd[0], F_DUPFD_CLOEXEC, 0);
		else
			r = vmp_tcbpf_prog_load(is_host(s) ? &vmp_tcbpf_host[i] : &vmp_tcbpf_port, s->w.map_fd, s->w.addrs_fd, log,
						sizeof log);
		if (r < 0)
			return vmp_gate_fail(reason, len, r, "cannot load the gate's program: %s %.120s", strerror(-r), log);
		s->w.prog_fd[i] = r;
		r = vmp_tcbpf_prog_info(s->w.prog_fd[i], &pi);
		r = r || (i && !is_host(s)) ? r : vmp_gate_pin(g->dir, s->name, vmp_gate_prog_pin[i], s->w.prog_fd[i]);
		if (r < 0)
			return vmp_gate_fail(reason, len, r, "cannot pin the gate's program below %s: %s", g->dir, strerror(-r));
		s->w.prog_id[i] = pi.id;
	}
	return 0;
}

/* What cannot be adopted (another version has loaded it) would drop everything behind the filter that takes its place. */
static void drop_pinned_filters(struct vmp_gate *g, struct slot *s)
{
	uint32_t id[2];

	vmp_gate_pin_prog_ids(g->dir, s->name, id);
	for (int i = 0; i < 2 && is_host(s) && !g->tcx; i++)
		if (id[i])
			vmp_link_filter_del(g->link, s->w.ifindex, i == 1, id[i]);
}

static int load_program(struct vmp_gate *g, struct slot *s, bool *ret_adopted, char *reason, size_t len)
{
	struct vmp_gate_spec old;
	char path[PATH_MAX];
	struct pins p;
	bool same;
	int r;

	if (s->w.prog_fd[0] >= 0) {
		*ret_adopted = false;
		return 0;
	}
	/* Pins made for another device say nothing about this one. */
	same = !vmp_gate_pin_spec_get(g->dir, s->name, &old) && old.kind == s->w.spec.kind && !strcmp(gated_dev(&old), gated_dev(&s->w.spec));
	if (same && old.kind == VMP_GATE_HOST) { /* adopted or not, they may be on the interface, as they were then */
		memcpy(s->w.applied, old.addrs, sizeof old.addrs);
		s->w.n_applied = old.n_addrs;
	}
	if (same && vmp_gate_adopt_pins(g, s->name, old.kind, &p)) {
		s->w.map_fd = p.map;
		s->w.addrs_fd = p.addrs;
		memcpy(s->w.prog_fd, p.prog, sizeof p.prog);
		memcpy(s->w.prog_id, p.prog_id, sizeof p.prog_id);
		vmp_gate_know(g, s->w.prog_id);
		for (int i = 0; g->tcx && i < 2; i++)
			s->w.link_fd[i] = vmp_gate_pin_get(g->dir, s->name, vmp_gate_link_pin[i]);
		*ret_adopted = true;
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int fd = vmp_gate_pin_get(g->dir, s->name, vmp_gate_link_pin[i]);

		if (fd >= 0)
			vmp_tcbpf_link_detach(fd);
	}
	drop_pinned_filters(g, s);
	vmp_gate_pin_remove_all(g->dir, s->name);
	vmp_gate_pin_path(g->dir, s->name, "", path, sizeof path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return vmp_gate_fail(reason, len, -errno, "mkdir %s: %s", path, strerror(errno));
	r = vmp_gate_pin_spec_set(g->dir, s->name, &s->w.spec);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot note the device below %s: %s", path, strerror(-r));
	r = new_programs(g, s, reason, len);
	if (r < 0)
		return r;
	r = vmp_gate_pin(g->dir, s->name, "map", s->w.map_fd);
	r = r || !is_host(s) ? r : vmp_gate_pin(g->dir, s->name, "addrs", s->w.addrs_fd);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot pin below %s: %s", path, strerror(-r));
	vmp_gate_know(g, s->w.prog_id);
	*ret_adopted = false;
	return 0;
}

/* --- ports -------------------------------------------------------------------------------------------- */

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
	if (is_host(s) && !s->w.bridge)
		return li->ifindex == s->w.ifindex;
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

	if (s->w.spec.uplink[0] || !s->w.bridge) {
		if (!vmp_link_get(g->link, s->w.spec.uplink[0] ? s->w.spec.uplink : gated_dev(&s->w.spec), &li))
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

static void unbind_addrs(struct vmp_gate *g, struct slot *s)
{
	for (unsigned int i = 0; s->w.ifindex && i < s->w.n_applied; i++)
		vmp_link_addr_del(g->link, s->w.ifindex, s->w.applied[i].family, s->w.applied[i].addr, s->w.applied[i].prefix);
	s->w.n_applied = 0;
	s->w.bound = s->w.addr_failed = false;
}

static void disable_port(struct vmp_gate *g, struct slot *s)
{
	/* Refused while the kernel's own STP runs the bridge, or without carrier: then the tap goes down as a whole. */
	if (is_host(s))
		unbind_addrs(g, s);
	else if (s->w.ifindex && vmp_link_set_port_state(g->link, s->w.ifindex, PORT_DISABLED) < 0)
		vmp_link_set_up(g->link, s->w.ifindex, false);
}

static void alarm_port(struct vmp_gate *g, struct slot *s, int err, const char *reason)
{
	s->w.alarm = true;
	disable_port(g, s);
	disarm(g, s);
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
	uint64_t ms = armed(g, s) ? VERIFY_OPEN_MS : VERIFY_CLOSED_MS;

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
	if (armed(g, s))
		return 0;
	r = attach(g, s, reason, sizeof reason);
	r = r ? r : is_host(s) ? fence_host(g, s, s->w.ifindex) : vmp_fence_arm(g->fence, s->w.ifindex);
	plan_verify(g, s);
	return r;
}

/*
 * A bridge port that does not forward (no guest has the tap open yet, STP is still listening) takes no entry; nothing
 * of the guest can be learned elsewhere through it either. The entry is made up for when the link changes, and once a
 * second.
 */
static void bind_fdb(struct vmp_gate *g, struct slot *s)
{
	s->w.bound = !vmp_link_fdb_replace(g->link, s->w.ifindex, s->w.spec.mac);
	s->w.fdb_retry_at_ns = s->w.bound ? 0 : clock_ns(CLOCK_MONOTONIC) + RETRY_SLOW_MS * NS_PER_MS;
}

static void bind_addrs(struct vmp_gate *g, struct slot *s)
{
	const struct vmp_gate_spec *sp = &s->w.spec;
	char reason[VMP_GATE_REASON] = "";
	int err = 0;

	for (unsigned int i = 0; i < sp->n_addrs; i++) {
		const struct vmp_gate_addr *a = &sp->addrs[i];
		char text[INET6_ADDRSTRLEN] = "";
		int r;

		if (!in_list(s->w.applied, s->w.n_applied, a) && s->w.n_applied < ARRAY_SIZE(s->w.applied))
			s->w.applied[s->w.n_applied++] = *a;
		r = vmp_link_addr_add(g->link, s->w.ifindex, a->family, a->addr, a->prefix);
		if (!r || err)
			continue;
		err = r;
		inet_ntop(a->family, a->addr, text, sizeof text);
		snprintf(reason, sizeof reason, "%s cannot be put on %s: %s", text, sp->bridge, strerror(-r));
	}
	s->w.bound = true;
	s->w.fdb_retry_at_ns = err ? clock_ns(CLOCK_MONOTONIC) + RETRY_SLOW_MS * NS_PER_MS : 0;
	if (err && !s->w.addr_failed)
		post(g, s, VMP_GATE_EV_ADDR_FAILED, err, reason);
	s->w.addr_failed = err < 0;
}

static void bind_entry(struct vmp_gate *g, struct slot *s)
{
	if (s->w.spec.kind == VMP_GATE_HOST)
		bind_addrs(g, s);
	else if (!is_host(s))
		bind_fdb(g, s);
}

/* Not part of the confirmation of a close: the port is closed with or without them. */
static void unbind_entry(struct vmp_gate *g, struct slot *s)
{
	if (is_host(s)) {
		unbind_addrs(g, s);
		return;
	}
	if (s->w.ifindex)
		vmp_link_fdb_delete(g->link, s->w.ifindex, s->w.spec.mac);
	s->w.bound = false;
}

static int serve_open(struct vmp_gate *g, struct slot *s, enum want want)
{
	int r = arm(g, s);

	if (!r && want == WANT_BOUND)
		bind_entry(g, s);
	return r;
}

static void program_lost(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON] = "";
	int r;

	disarm(g, s);
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
		snprintf(reason, sizeof reason, "the gate's program was taken off %s twice within a minute",
			 gated_dev(&s->w.spec));
		alarm_port(g, s, -EREMOTEIO, reason);
		return;
	}
	if (s->w.want >= WANT_ARMED) {
		r = arm(g, s);
		if (r < 0) {
			snprintf(reason, sizeof reason, "cannot arm %s again: %s", gated_dev(&s->w.spec), strerror(-r));
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
	if (s->w.setup && s->w.ifindex && verify(g, s) == -EBADF &&
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
			alarm_port(g, &g->slot[i], r < 0 ? r : -EREMOTEIO,
				   r < 0 ? "the nft fence was removed and cannot be installed again"
					 : "the nft fence was removed twice within a minute");
}

static void fence_retry(struct vmp_gate *g)
{
	int r = vmp_fence_install(g->fence);

	g->fence_retry_at_ns = r < 0 ? clock_ns(CLOCK_MONOTONIC) + RETRY_MS * NS_PER_MS : 0;
	if (!r)
		post(g, NULL, VMP_GATE_EV_FENCE_RESTORED, 0, NULL);
}

static int check_ingress(struct vmp_gate *g, const char *dev, int ifindex, char *reason, size_t len)
{
	char kind[16] = "";
	int r;

	if (g->tcx)
		return 0;
	r = vmp_link_ingress_kind(g->link, ifindex, kind, sizeof kind);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot ask for the qdiscs of %s: %s", dev, strerror(-r));
	if (!strcmp(kind, "ingress"))
		return vmp_gate_fail(
			reason, len, -EEXIST,
			"%s has an 'ingress' qdisc (libvirt's <bandwidth><outbound> makes one), which excludes the "
			"gate's clsact on this kernel: remove it",
			dev);
	return 0;
}

/* Checks of the device that stand before anything is attached. */
static int check_device(struct vmp_gate *g, const struct vmp_gate_spec *sp, const struct vmp_link_info *li,
			char *reason, size_t len)
{
	if (!(li->tap || !strcmp(li->kind, "veth")))
		return vmp_gate_fail(reason, len, -ENOTSUP, "%s is a %s, not a tap: its frames would pass the gate by",
				     sp->tap, li->kind[0] ? li->kind : "hardware interface (NIC or SR-IOV function)");
	if (li->xdp)
		return vmp_gate_fail(reason, len, -ENOTSUP, "%s has an XDP program, which can pass frames by the gate",
				     sp->tap);
	return check_ingress(g, sp->tap, li->ifindex, reason, len);
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
	if (is_host(s)) {
		disarm(g, s);
		drop_links(g, s);
		s->w.ifindex = s->w.bridge = 0;
		s->w.n_applied = 0; /* gone with it */
		s->w.bound = false;
		s->w.verify_at_ns = s->w.fdb_retry_at_ns = 0;
		return;
	}
	vmp_fence_disarm(g->fence, s->w.ifindex);
	/* Normally it is gone; renamed and replaced by a new tap, it leaves the bridge before its program and fence go.
	 */
	vmp_link_set_master(g->link, s->w.ifindex, 0);
	drop_alias(g, s);
	drop_links(g, s);
	s->w.ifindex = 0;
	s->w.bound = false;
	s->w.verify_at_ns = s->w.fdb_retry_at_ns = 0;
}

static void announce_again(struct vmp_gate *g, struct slot *s)
{
	pthread_mutex_lock(&g->lock);
	s->s_announce = true;
	pthread_mutex_unlock(&g->lock);
	notify(g);
}

static void learn_mac(struct vmp_gate *g, struct slot *s, const struct vmp_link_info *li)
{
	if (!memcmp(s->w.mac, li->mac, sizeof s->w.mac))
		return;
	memcpy(s->w.mac, li->mac, sizeof s->w.mac);
	publish(g, s);
	announce_again(g, s);
}

/* An address that somebody has made permanent would have this host talk to itself for it. */
static int check_foreign(struct vmp_gate *g, const struct vmp_gate_spec *sp, int ifindex, char *reason, size_t len)
{
	for (unsigned int i = 0; sp->kind == VMP_GATE_HOST && i < sp->n_addrs; i++) {
		const struct vmp_gate_addr *a = &sp->addrs[i];
		int at = vmp_link_addr_foreign(g->link, ifindex, a->family, a->addr, a->prefix);
		char text[INET6_ADDRSTRLEN] = "";
		struct vmp_link_info li;

		if (at < 0)
			return vmp_gate_fail(reason, len, at, "cannot ask for the host's addresses: %s", strerror(-at));
		if (!at || vmp_link_get_index(g->link, at, &li) < 0)
			continue;
		inet_ntop(a->family, a->addr, text, sizeof text);
		return vmp_gate_fail(reason, len, -EADDRINUSE,
				     "%s is on %s already: take the entry address out of the host's configuration", text, li.name);
	}
	return 0;
}

/* As it is on the interface: an IPv4 address always has /32 there. */
static bool same_there(const struct vmp_gate_addr *a, const struct vmp_gate_addr *b)
{
	return in_list(a, 1, b) && (a->family == AF_INET || a->prefix == b->prefix);
}

/* The interface's addresses that are the pair's no longer; with `all` those that still are, too. */
static void drop_addrs(struct vmp_gate *g, struct slot *s, bool all)
{
	const struct vmp_gate_spec *sp = &s->w.spec;

	if (sp->kind != VMP_GATE_HOST)
		return;
	for (unsigned int i = 0; i < s->w.n_applied;) {
		const struct vmp_gate_addr *a = &s->w.applied[i];
		bool stays = false;

		for (unsigned int k = 0; k < sp->n_addrs && !stays; k++)
			stays = same_there(&sp->addrs[k], a);
		if (stays) {
			i++;
			continue;
		}
		vmp_link_addr_del(g->link, s->w.ifindex, a->family, a->addr, a->prefix);
		s->w.applied[i] = s->w.applied[--s->w.n_applied];
	}
	for (unsigned int i = 0; all && i < sp->n_addrs; i++)
		vmp_link_addr_del(g->link, s->w.ifindex, sp->addrs[i].family, sp->addrs[i].addr, sp->addrs[i].prefix);
	if (all)
		s->w.n_applied = 0;
}

static int equip_host(struct vmp_gate *g, struct slot *s, bool *ret_adopted, char *reason, size_t len)
{
	const struct vmp_gate_spec *sp = &s->w.spec;
	struct vmp_link_info li, master;
	bool keep;
	int r = vmp_link_get(g->link, sp->bridge, &li);

	if (r < 0)
		return vmp_gate_fail(reason, len, r, "interface %s: %s", sp->bridge, strerror(-r));
	if (!memcmp(li.mac, (uint8_t[6]){ 0 }, sizeof li.mac) || li.tap || !strncmp(li.kind, "macv", 4) || !strncmp(li.kind, "ipv", 3))
		return vmp_gate_fail(reason, len, -ENOTSUP, "%s is no interface for the entry addresses (a bridge, bond, VLAN or NIC is)",
				     sp->bridge);
	if (li.master && !vmp_link_get_index(g->link, li.master, &master))
		return vmp_gate_fail(reason, len, -ENOTSUP, "%s belongs to %s: the entry addresses must be on that one", sp->bridge,
				     master.name);
	if (li.xdp)
		return vmp_gate_fail(reason, len, -ENOTSUP, "%s has an XDP program, which can pass frames by the gate", sp->bridge);
	r = check_ingress(g, sp->bridge, li.ifindex, reason, len);
	r = r ? r : check_foreign(g, sp, li.ifindex, reason, len);
	if (r < 0)
		return r;
	if (s->w.ifindex != li.ifindex)
		forget_ifindex(g, s);
	s->w.ifindex = li.ifindex;
	s->w.bridge = strcmp(li.kind, "bridge") ? 0 : li.ifindex;
	r = load_program(g, s, ret_adopted, reason, len);
	if (r < 0)
		return r;
	/* New addresses are fenced before anything else; armed stays what is armed behind programs that stand. */
	keep = !verify(g, s) && armed(g, s);
	if (!keep)
		*ret_adopted = false;
	drop_addrs(g, s, !keep);
	r = set_addrs(s);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot enter the addresses into the gate's map: %s", strerror(-r));
	r = fence_host(g, s, keep ? li.ifindex : 0);
	if (r < 0)
		return vmp_gate_fail(reason, len, r,
				     "cannot enter the addresses into the nft fence: %s (families inet and arp are needed)",
				     strerror(-r));
	r = attach(g, s, reason, len);
	if (r < 0)
		return r;
	/* What an earlier process had put there is taken off with the next close. */
	s->w.bound = keep;
	s->w.was_up = li.up;
	plan_verify(g, s);
	scan_uplinks(g, s);
	learn_mac(g, s, &li);
	return 0;
}

/* From the name in the spec to a gated, closed (or adopted) port in its bridge. */
static int equip(struct vmp_gate *g, struct slot *s, bool *ret_adopted, char *reason, size_t len)
{
	const struct vmp_gate_spec *sp = &s->w.spec;
	struct vmp_link_info br, li;
	int r;

	if (is_host(s))
		return equip_host(g, s, ret_adopted, reason, len);
	r = vmp_link_get(g->link, sp->bridge, &br);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "bridge %s: %s", sp->bridge, strerror(-r));
	if (strcmp(br.kind, "bridge"))
		return vmp_gate_fail(reason, len, -ENOTSUP, "%s is not a bridge", sp->bridge);
	r = vmp_link_get(g->link, sp->tap, &li);
	if (r < 0 && r != -ENODEV)
		return vmp_gate_fail(reason, len, r, "%s: %s", sp->tap, strerror(-r));
	r = r ? 0 : check_device(g, sp, &li, reason, len);
	if (r < 0)
		return r;
	/* The fence first: whatever comes up by that name is dropped from its first frame. */
	r = vmp_fence_gate(g->fence, sp->tap);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot enter %s into the nft fence: %s", sp->tap, strerror(-r));
	if (vmp_link_get(g->link, sp->tap, &li) == -ENODEV) {
		r = vmp_link_tap_add(sp->tap, sp->multi_queue);
		if (r < 0)
			return vmp_gate_fail(reason, len, r, "cannot create the tap %s: %s", sp->tap, strerror(-r));
		s->w.made_tap = true;
	}
	r = vmp_link_get(g->link, sp->tap, &li);
	r = r ? vmp_gate_fail(reason, len, r, "%s: %s", sp->tap, strerror(-r)) : check_device(g, sp, &li, reason, len);
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
	if (verify(g, s) < 0) {
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
			return vmp_gate_fail(reason, len, r, "cannot put %s into %s: %s", sp->tap, sp->bridge,
					     strerror(-r));
	}
	if (!li.up)
		r = vmp_link_set_up(g->link, li.ifindex, true);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot set %s up: %s", sp->tap, strerror(-r));
	plan_verify(g, s);
	scan_uplinks(g, s);
	return 0;
}

static int remove_host(struct vmp_gate *g, struct slot *s, char *reason, size_t len)
{
	int r, r2;

	/* An earlier process's, never added here. */
	if (!s->w.prog_id[0])
		vmp_gate_pin_prog_ids(g->dir, s->name, s->w.prog_id);
	disarm(g, s);
	unbind_addrs(g, s);
	r = vmp_gate_host_clear(g->link, g->tcx, &s->w.spec, s->w.prog_id);
	if (r < 0)
		vmp_gate_fail(reason, len, r, "cannot remove an entry address or the gate's programs from %s: %s", s->w.spec.bridge,
			      strerror(-r));
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int fd = s->w.link_fd[i] < 0 ? vmp_gate_pin_get(g->dir, s->name, vmp_gate_link_pin[i]) : -1;

		if (fd >= 0)
			vmp_tcbpf_link_detach(fd);
	}
	drop_links(g, s);
	vmp_gate_close_program(s);
	r2 = r ? 0 : vmp_fence_host(g->fence, s->name, 0, NULL, 0);
	if (r2 < 0)
		r = vmp_gate_fail(reason, len, r2, "cannot take the addresses of %s out of the nft fence: %s", s->name, strerror(-r2));
	r2 = vmp_gate_pin_remove_all(g->dir, s->name);
	if (!r && r2 < 0)
		r = vmp_gate_fail(reason, len, r2, "cannot remove the pins of %s below %s: %s", s->name, g->dir, strerror(-r2));
	vmp_gate_reset_wport(&s->w);
	return r;
}

static int remove_port(struct vmp_gate *g, struct slot *s, char *reason, size_t len)
{
	const char *tap = s->w.spec.tap;
	struct vmp_link_info li;
	int r = 0, r2;

	if (is_host(s))
		return remove_host(g, s, reason, len);

	if (!vmp_link_get(g->link, tap, &li)) {
		vmp_fence_disarm(g->fence, li.ifindex);
		vmp_link_fdb_delete(g->link, li.ifindex, s->w.spec.mac);
		if (li.tap) {
			r = vmp_link_tap_del(tap);
			if (r < 0)
				vmp_gate_fail(reason, len, r, "cannot remove the tap %s: %s", tap, strerror(-r));
		} else if (!g->tcx && s->w.setup) {
			vmp_link_clsact_del(g->link, li.ifindex);
		}
	}
	if (s->w.ifindex)
		vmp_fence_disarm(g->fence, s->w.ifindex);
	drop_alias(g, s);
	drop_links(g, s);
	vmp_gate_close_program(s);
	if (!r) {
		r = vmp_fence_ungate(g->fence, tap);
		if (r < 0)
			vmp_gate_fail(reason, len, r, "cannot take %s out of the nft fence: %s", tap, strerror(-r));
	}
	r2 = vmp_gate_pin_remove_all(g->dir, s->name);
	if (!r && r2 < 0)
		r = vmp_gate_fail(reason, len, r2, "cannot remove the pins of %s below %s: %s", s->name, g->dir,
				  strerror(-r2));
	/* The map's descriptor is the caller's now (s_map_fd). */
	vmp_gate_reset_wport(&s->w);
	return r;
}

/*
 * A port that could not be made: take back what this attempt made and leave foreign devices alone. What an earlier
 * process had made may have a running guest behind it: that stays gated and fenced.
 */
static void undo_equip(struct vmp_gate *g, struct slot *s, bool had_pins)
{
	disarm(g, s);
	if (!had_pins && is_host(s)) {
		drop_links(g, s);
		drop_filters(g, s);
		vmp_gate_pin_remove_all(g->dir, s->name);
		vmp_fence_host(g->fence, s->name, 0, NULL, 0);
	} else if (!had_pins) {
		drop_links(g, s);
		if (s->w.made_tap)
			vmp_link_tap_del(s->w.spec.tap);
		vmp_gate_pin_remove_all(g->dir, s->name);
		vmp_fence_ungate(g->fence, s->w.spec.tap);
	}
	vmp_gate_close_program(s);
	if (s->w.map_fd >= 0)
		close(s->w.map_fd);
	vmp_gate_reset_wport(&s->w);
}

/*
 * A standing port that could not become what it shall be is what it was: the programs' addresses and the fence's are those that go on the
 * interface, or the port is disabled.
 */
static void keep_spec(struct vmp_gate *g, struct slot *s, const struct vmp_gate_spec *was)
{
	int r;

	s->w.spec = *was;
	if (!is_host(s) || !s->w.ifindex || s->w.addrs_fd < 0)
		return;
	r = set_addrs(s);
	r = r ? r : fence_host(g, s, armed(g, s) ? s->w.ifindex : 0);
	if (r < 0 && !s->w.alarm)
		alarm_port(g, s, r, "the addresses of before cannot be gated again");
}

/* false: it is not what its new spec says. */
static bool serve_setup(struct vmp_gate *g, struct slot *s, const struct vmp_gate_spec *was)
{
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_spec pinned;
	bool adopted = false, was_alarm = s->w.alarm, had_pins = !vmp_gate_pin_spec_get(g->dir, s->name, &pinned);
	uint64_t word = 0;
	int r;

	s->w.alarm = false;
	r = equip(g, s, &adopted, reason, sizeof reason);
	if (!r && was_alarm) {
		s->w.lost_at_ns = 0;
		/* Without carrier (no guest yet) the kernel refuses, and opens the port itself when carrier comes. */
		if (!is_host(s))
			(void)vmp_link_set_port_state(g->link, s->w.ifindex, PORT_FORWARDING);
	}
	if (r < 0) {
		s->w.alarm = was_alarm;
		if (s->w.setup)
			keep_spec(g, s, was);
		else
			undo_equip(g, s, had_pins);
		publish(g, s);
		post(g, s, VMP_GATE_EV_PORT_FAILED, r, reason);
		return false;
	}
	s->w.setup = true;
	adopted = adopted && !vmp_tcbpf_map_get(s->w.map_fd, &word) && word > boot_ns();
	if (s->w.want == WANT_KEEP && adopted && armed(g, s))
		s->w.want = WANT_ARMED;
	else if (s->w.want == WANT_KEEP)
		s->w.want = WANT_CLOSED;
	publish(g, s);
	pthread_mutex_lock(&g->lock);
	s->s_map_fd = s->w.map_fd;
	s->adopted = s->adopted || adopted;
	pthread_mutex_unlock(&g->lock);
	post(g, s, VMP_GATE_EV_PORT_READY, 0, NULL);
	return true;
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
	if (disarm(g, s) < 0)
		return;
	s->w.want = WANT_CLOSED;
	s->w.disarm_at_ns = 0;
	if (s->w.bound)
		unbind_entry(g, s);
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

static void serve(struct vmp_gate *g, struct slot *s, uint32_t req, enum want want, bool setup, const struct vmp_gate_spec *was)
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
		setup = serve_setup(g, s, was);
	if (!s->w.setup) {
		serve_done(g, s, req);
		return;
	}
	if (s->w.want >= WANT_ARMED) {
		r = serve_open(g, s, s->w.want);
	} else {
		r = disarm(g, s);
		plan_verify(g, s);
	}
	if (r < 0) {
		/* Not there yet: the wish stays, the tap's return or the clock brings us back. A close that fails is
		 * worth an alarm. */
		s->w.retry_at_ns = clock_ns(CLOCK_MONOTONIC) +
				   (s->w.alarm || !s->w.ifindex ? RETRY_SLOW_MS : RETRY_MS) * NS_PER_MS;
		publish(g, s);
		if (s->w.want == WANT_CLOSED && !s->w.alarm) {
			snprintf(reason, sizeof reason, "cannot disarm %s: %s", gated_dev(&s->w.spec), strerror(-r));
			alarm_port(g, s, r, reason);
		}
		return;
	}
	serve_done(g, s, req);
	if (s->w.want != WANT_BOUND)
		s->w.fdb_retry_at_ns = 0;
	else if (setup && is_host(s))
		announce_again(g, s); /* perhaps with other addresses */
	plan_disarm(s);
	if (s->w.want == WANT_CLOSED && s->w.bound)
		unbind_entry(g, s);
}

static void serve_all(struct vmp_gate *g)
{
	for (;;) {
		struct slot *s = NULL;
		uint64_t now = clock_ns(CLOCK_MONOTONIC);
		struct vmp_gate_spec was = { .n_addrs = 0 };
		uint32_t req = 0;
		enum want want = WANT_KEEP;
		bool setup = false;

		pthread_mutex_lock(&g->lock);
		/* Opening and closing standing ports goes before making and removing ports. */
		for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
			struct slot *c = &g->slot[i];
			bool slow = c->setup || c->want == WANT_REMOVED;

			if (c->req == c->done ||
			    (c->w.retry_at_ns && c->w.retry_at_ns > now && c->w.want == c->want && !c->setup))
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
			was = s->w.spec;
			if (setup || want == WANT_REMOVED)
				s->w.spec = s->s_spec;
		}
		pthread_mutex_unlock(&g->lock);
		if (!s)
			return;
		serve(g, s, req, want, setup, &was);
	}
}

/* --- watch -------------------------------------------------------------------------------------------- */

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

/* The fence goes by names and a renamed tap slips out of it: fence the new name, and let nobody through until this is
 * mended. */
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

/* The fence knows host addresses by the interface's index: nothing slips out of it. */
static void host_renamed(struct vmp_gate *g, struct slot *s, const char *name)
{
	char reason[VMP_GATE_REASON];

	if (s->w.alarm)
		return;
	snprintf(reason, sizeof reason, "the interface %s was renamed to %s", s->w.spec.bridge, name);
	alarm_port(g, s, -EREMOTEIO, reason);
}

/* Messages may be older than what we did since; the device's state now is what counts. */
static void check_tap(struct vmp_gate *g, struct slot *s)
{
	char reason[VMP_GATE_REASON];
	struct vmp_link_info li;
	int r = vmp_link_get(g->link, gated_dev(&s->w.spec), &li);

	if (s->w.ifindex && r == -ENODEV) {
		struct vmp_link_info now;

		if (!vmp_link_get_index(g->link, s->w.ifindex, &now) && !is_host(s))
			tap_renamed(g, s, now.name);
		else if (!vmp_link_get_index(g->link, s->w.ifindex, &now))
			host_renamed(g, s, now.name);
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
		snprintf(reason, sizeof reason, "an XDP program was put on %s, which can pass frames by the gate",
			 gated_dev(&s->w.spec));
		alarm_port(g, s, -EREMOTEIO, reason);
	} else if (s->w.alarm) {
		/* A change of carrier makes the bridge enable the port again. */
		disable_port(g, s);
	} else if (li.carrier && s->w.fdb_retry_at_ns) {
		bind_entry(g, s);
	} else if (is_host(s)) {
		learn_mac(g, s, &li);
		/* Routes, and with IPv6 addresses, went with it. */
		if (li.up && !s->w.was_up && s->w.want == WANT_BOUND)
			bind_entry(g, s);
		s->w.was_up = li.up;
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
		own = li->ifindex && (li->ifindex == s->w.ifindex || !strcmp(li->name, gated_dev(&s->w.spec)));
		switch (what) {
		case VMP_LINK_NEW:
		case VMP_LINK_DEL:
			if (own)
				check_tap(g, s);
			if (!own || (is_host(s) && !s->w.bridge))
				uplink_changed(g, s, li, what == VMP_LINK_DEL);
			if (what == VMP_LINK_NEW && !is_host(s) && !strcmp(li->name, s->w.spec.bridge) && li->ifindex != s->w.bridge)
				check_tap(g, s);
			break;
		case VMP_LINK_TC:
			if (own)
				check_program(g, s);
			break;
		case VMP_LINK_ADDR_DEL:
			/* By hand, or with the interface set down. */
			if (own && is_host(s) && s->w.want == WANT_BOUND && !s->w.alarm)
				bind_entry(g, s);
			break;
		case VMP_LINK_OVERRUN:
			check_tap(g, s);
			check_program(g, s);
			scan_uplinks(g, s);
			if (is_host(s) && s->w.ifindex && s->w.want == WANT_BOUND && !s->w.alarm)
				bind_entry(g, s);
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

void *vmp_gate_worker(void *arg)
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
				bind_entry(g, s);
			if (s->w.disarm_at_ns && s->w.disarm_at_ns <= now)
				disarm_unused(g, s);
		}
	}
}
