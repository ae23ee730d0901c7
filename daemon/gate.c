/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/announce.h"
#include "daemon/gate_int.h"
#include "internal/cleanup.h"

#define MAX_AHEAD_NS (3600 * NS_PER_S) /* no hold is that long: such an expiry is a bug of the caller */
#define WAIT_US_DEFAULT 1000
#define WORKER_STACK (256 * 1024) /* all of it is locked into memory */

static const char *const ev_names[VMP_GATE_EV_MAX] = {
	[VMP_GATE_EV_PORT_READY] = "port-ready",
	[VMP_GATE_EV_PORT_FAILED] = "port-failed",
	[VMP_GATE_EV_PORT_GONE] = "port-gone",
	[VMP_GATE_EV_OPENED] = "opened",
	[VMP_GATE_EV_CLOSED] = "closed",
	[VMP_GATE_EV_PROGRAM_LOST] = "program-lost",
	[VMP_GATE_EV_PROGRAM_RESTORED] = "program-restored",
	[VMP_GATE_EV_FENCE_LOST] = "fence-lost",
	[VMP_GATE_EV_FENCE_RESTORED] = "fence-restored",
	[VMP_GATE_EV_TAP_LOST] = "tap-lost",
	[VMP_GATE_EV_TAP_RECREATED] = "tap-recreated",
	[VMP_GATE_EV_UPLINK_UP] = "uplink-up",
	[VMP_GATE_EV_UPLINK_DOWN] = "uplink-down",
	[VMP_GATE_EV_ALARM] = "alarm",
	[VMP_GATE_EV_ADDR_FAILED] = "address-failed",
};

const char *vmp_gate_ev_name(enum vmp_gate_ev ev)
{
	return (unsigned int)ev < VMP_GATE_EV_MAX ? ev_names[ev] : "?";
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
		s->setup = s->waiting = s->adopted = s->s_alarm = s->s_armed = s->s_announce = false;
		s->s_ifindex = 0;
		s->s_map_fd = -1;
		s->n_uplinks = s->s_n_addrs = 0;
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

static void binding_log(struct vmp_gate *g, const struct slot *s, enum vmp_gate_store_op op, uint64_t epoch,
			uint64_t value, uint64_t at_ns, uint64_t mono_ns)
{
	struct vmp_gate_store st = {
		.op = op,
		.pair_id = s->pair_id,
		.pair_name = s->name,
		.epoch = epoch,
		.value_ns = value,
		.boot_ns = at_ns,
		.mono_ns = mono_ns,
	};

	if (g->conf.stored)
		g->conf.stored(g->conf.user, &st);
}

static void announce(struct vmp_gate *g, struct slot *s)
{
	struct vmp_gate_addr addrs[VMP_GATE_MAX_ADDRS];
	struct uplink up[MAX_UPLINKS];
	unsigned int n, n_addrs = s->spec.n_addrs;
	uint8_t mac[6];

	memcpy(mac, s->spec.mac, sizeof mac);
	memcpy(addrs, s->spec.addrs, sizeof addrs);
	pthread_mutex_lock(&g->lock);
	n = s->n_uplinks;
	memcpy(up, s->uplink, sizeof up);
	if (on_host(s->spec.kind)) {
		/* Out of the interface itself: the gate stands there, and a bridge sends it to guests as well. */
		up[0] = (struct uplink){ .ifindex = s->s_ifindex, .carrier = true };
		n = s->s_ifindex ? 1 : 0;
		memcpy(mac, s->s_mac, sizeof mac);
		/* Those that are gated and served, which need not be those that are wanted. */
		memcpy(addrs, s->s_addrs, sizeof addrs);
		n_addrs = s->s_n_addrs;
	}
	pthread_mutex_unlock(&g->lock);
	for (unsigned int u = 0; u < n; u++)
		for (unsigned int i = 0; up[u].carrier && i < n_addrs; i++) {
			/* Only under a live lease: after its end the address may be somebody else's. */
			if (!s->word || word_get(s->word) <= boot_ns())
				return;
			(void)vmp_announce_send(g->announce_fd, up[u].ifindex, mac, addrs[i].family, addrs[i].addr);
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

static void deliver(struct vmp_gate *g, const struct slot *s, enum vmp_gate_ev type, uint64_t epoch, uint64_t at_ns,
		    int err, const char *reason)
{
	struct vmp_gate_event ev = {
		.type = type,
		.pair_id = s ? s->pair_id : 0,
		.pair_name = s ? s->name : "",
		.epoch = epoch,
		.at_ns = at_ns,
		.err = err,
		.reason = reason,
	};

	g->conf.event(g->conf.user, &ev);
}

static bool carries_reason(unsigned int ev)
{
	return ev == VMP_GATE_EV_PORT_FAILED || ev == VMP_GATE_EV_PORT_GONE || ev == VMP_GATE_EV_ALARM ||
	       ev == VMP_GATE_EV_ADDR_FAILED;
}

static int on_ready(struct vmp_gate *g, struct slot *s, int map_fd, bool adopted)
{
	if (!s->word) {
		s->map_fd = map_fd;
		s->word = vmp_tcbpf_map_mmap(map_fd);
		if (!s->word) {
			s->map_fd = -1; /* the worker has it still */
			return -errno;
		}
		if (adopted)
			binding_log(g, s, VMP_GATE_STORE_ADOPT, 0, word_get(s->word), boot_ns(),
				    clock_ns(CLOCK_MONOTONIC));
	}
	s->ready = true;
	return 0;
}

static void add_again(struct vmp_gate *g, uint64_t pair_id, const char *name, const struct vmp_gate_spec *spec)
{
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_event e = {
		.type = VMP_GATE_EV_PORT_FAILED,
		.pair_id = pair_id,
		.pair_name = name,
		.at_ns = boot_ns(),
		.reason = reason,
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
	bool adopted, forget, removed, again;
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
	again = s->s_announce;
	s->s_announce = false;
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
	/* A port that never stood is forgotten; one on which only a repair failed stays, and one that the worker has (its map)
	 * and we cannot open yet. After a removal no other news count. */
	forget = (bits & BIT(VMP_GATE_EV_PORT_GONE)) ||
		 ((bits & BIT(VMP_GATE_EV_PORT_FAILED)) && map_fd < 0 && !s->ready && !removed);
	if (removed)
		bits &= BIT(VMP_GATE_EV_PORT_GONE);
	if ((again || (bits & BIT(VMP_GATE_EV_UPLINK_UP))) && s->open)
		announce_start(g, s);
	for (unsigned int ev = 0; ev < VMP_GATE_EV_MAX; ev++) {
		char name[VMP_GATE_NAME_MAX];

		if (!(bits & BIT(ev)))
			continue;
		n++;
		if (forget && (ev == VMP_GATE_EV_PORT_GONE || ev == VMP_GATE_EV_PORT_FAILED)) {
			/* Free first: the callback may add the pair anew. */
			struct vmp_gate_event e = {
				.type = ev,
				.pair_id = pair_id,
				.pair_name = name,
				.at_ns = at[ev],
				.err = err[ev],
				.reason = reason,
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

static int check_prefix(enum vmp_gate_kind kind, const struct vmp_gate_addr *a, char *reason, size_t len)
{
	if (kind != VMP_GATE_TAP && (!a->prefix || a->prefix > (a->family == AF_INET ? 32 : 128)))
		return vmp_gate_fail(reason, len, -EINVAL, "an entry address has no good length of its prefix");
	return 0;
}

static int check_addrs(const struct vmp_gate *g, uint64_t pair_id, enum vmp_gate_kind kind, const char *bridge,
		       const struct vmp_gate_addr *a, unsigned int n, char *reason, size_t len)
{
	if (!n && kind != VMP_GATE_TAP)
		return vmp_gate_fail(reason, len, -EINVAL, "no entry address");
	if (n > VMP_GATE_MAX_ADDRS)
		return vmp_gate_fail(reason, len, -EINVAL, "more than %d entry addresses", VMP_GATE_MAX_ADDRS);
	for (unsigned int i = 0; i < n; i++) {
		if (a[i].family != AF_INET && a[i].family != AF_INET6)
			return vmp_gate_fail(reason, len, -EINVAL, "entry address %u is neither IPv4 nor IPv6", i + 1);
		if (check_prefix(kind, &a[i], reason, len) < 0)
			return -EINVAL;
		for (unsigned int j = 0; j < VMP_GATE_MAX_PORTS; j++) {
			const struct slot *o = &g->slot[j];

			if (!o->used || o->pair_id == pair_id ||
			    (strcmp(o->spec.bridge, bridge) && (kind == VMP_GATE_TAP || o->spec.kind == VMP_GATE_TAP)))
				continue;
			for (unsigned int k = 0; k < o->spec.n_addrs; k++) {
				char text[INET6_ADDRSTRLEN] = "";

				if (!same_addr(&a[i], &o->spec.addrs[k]))
					continue;
				inet_ntop(a[i].family, a[i].addr, text, sizeof text);
				return vmp_gate_fail(reason, len, -EEXIST, "entry address %s on %s is pair %s's", text,
						     bridge, o->name);
			}
		}
	}
	return 0;
}

static int check_spec(const struct vmp_gate *g, uint64_t pair_id, const char *pair_name, const struct vmp_gate_spec *sp,
		      char *reason, size_t len)
{
	static const uint8_t zero[6];

	if (!pair_id || !good_name(pair_name, VMP_GATE_NAME_MAX, false))
		return vmp_gate_fail(reason, len, -EINVAL, "bad pair name");
	if (sp->kind == VMP_GATE_TAP && !good_name(sp->tap, IFNAMSIZ, true))
		return vmp_gate_fail(reason, len, -EINVAL, "bad name of the tap");
	if (!good_name(sp->bridge, IFNAMSIZ, true))
		return vmp_gate_fail(reason, len, -EINVAL, "bad name of the entry bridge");
	if (sp->uplink[0] && !good_name(sp->uplink, IFNAMSIZ, true))
		return vmp_gate_fail(reason, len, -EINVAL, "bad name of the uplink");
	if (sp->kind == VMP_GATE_TAP && ((sp->mac[0] & 1) || !memcmp(sp->mac, zero, 6)))
		return vmp_gate_fail(reason, len, -EINVAL, "the entry MAC must be a unicast address");
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		const struct slot *o = &g->slot[i];

		if (!o->used || o->pair_id == pair_id)
			continue;
		if (sp->kind == VMP_GATE_TAP && o->spec.kind == sp->kind && !strcmp(o->spec.tap, sp->tap))
			return vmp_gate_fail(reason, len, -EEXIST, "tap %s is pair %s's", sp->tap, o->name);
		if (!strcmp(o->name, pair_name))
			return vmp_gate_fail(reason, len, -EEXIST,
					     "a port of a pair of that name is just being removed");
		if (sp->kind == VMP_GATE_TAP && o->spec.kind == sp->kind && !strcmp(o->spec.bridge, sp->bridge) &&
		    !memcmp(o->spec.mac, sp->mac, 6))
			return vmp_gate_fail(reason, len, -EEXIST, "the entry MAC on %s is pair %s's", sp->bridge,
					     o->name);
	}
	for (unsigned int i = 0; i < g->n_leftover; i++) {
		const struct vmp_gate_spec *o = &g->leftover[i].spec;
		bool same = sp->kind == VMP_GATE_TAP && !strcmp(o->tap, sp->tap);

		if (!strcmp(g->leftover[i].name, pair_name) || on_host(o->kind) != on_host(sp->kind))
			continue;
		for (unsigned int k = 0; on_host(sp->kind) && k < o->n_addrs; k++)
			for (unsigned int n = 0; n < sp->n_addrs; n++)
				same = same || same_addr(&o->addrs[k], &sp->addrs[n]);
		if (same)
			return vmp_gate_fail(reason, len, -EEXIST,
					     "%s is still pair %s's, from an earlier run: forget that pair first",
					     sp->kind == VMP_GATE_TAP ? sp->tap : "an entry address", g->leftover[i].name);
	}
	return check_addrs(g, pair_id, sp->kind, sp->bridge, sp->addrs, sp->n_addrs, reason, len);
}

static void drop_leftover(struct vmp_gate *g, const char *name)
{
	for (unsigned int i = 0; i < g->n_leftover; i++)
		if (!strcmp(g->leftover[i].name, name)) {
			g->leftover[i] = g->leftover[--g->n_leftover];
			return;
		}
}

int vmp_gate_port_add(struct vmp_gate *g, uint64_t pair_id, const char *pair_name, const struct vmp_gate_spec *spec,
		      char *reason, size_t reason_len)
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
		if (s->spec.kind != spec->kind || strcmp(s->spec.tap, spec->tap) || strcmp(s->spec.bridge, spec->bridge) ||
		    memcmp(s->spec.mac, spec->mac, 6) || s->spec.multi_queue != spec->multi_queue)
			return vmp_gate_fail(reason, reason_len, -EBUSY,
					     "the port of %s stands with another tap, bridge or MAC: delete it first",
					     pair_name);
	} else {
		s = new_slot(g, pair_id, pair_name);
		if (!s)
			return vmp_gate_fail(reason, reason_len, -ENOSPC, "more than %d gated ports",
					     VMP_GATE_MAX_PORTS);
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
	r = check_addrs(g, pair_id, s->spec.kind, s->spec.bridge, addrs, n_addrs, NULL, 0);
	if (r < 0)
		return r;
	memcpy(s->spec.addrs, addrs, n_addrs * sizeof *addrs);
	s->spec.n_addrs = n_addrs;
	if (on_host(s->spec.kind) && s->want != WANT_REMOVED) {
		/* To be gated and put on the interface before anything is said about them: the worker has it announced. */
		submit(g, s, s->want, true);
		return 0;
	}
	if (s->open)
		announce_start(g, s);
	return 0;
}

/* A port that was not taken over, or is not yet, may stand open under the word of the daemon before. */
static int close_pinned(const struct vmp_gate *g, const char *name)
{
	CLEANUP_CLOSE int map = vmp_gate_pin_get(g->dir, name, "map");
	uint64_t seen = UINT64_MAX;
	int r;

	if (map < 0)
		return map == -ENOENT ? 0 : map;
	if (!vmp_tcbpf_map_fits(map))	/* not ours: no program of ours goes by it */
		return 0;
	r = vmp_tcbpf_map_set(map, 0);
	r = r ? r : vmp_tcbpf_map_get(map, &seen);
	return r ? r : seen ? -EIO : 0;
}

/* K4, first half: 0 in the word, and the kernel's own copy says so. */
static int close_word(struct vmp_gate *g, struct slot *s, uint64_t epoch)
{
	uint64_t seen = UINT64_MAX;
	int r;

	if (!s->word)
		return close_pinned(g, s->name);
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

int vmp_gate_forget(struct vmp_gate *g, uint64_t pair_id, const char *pair_name)
{
	struct vmp_gate_spec spec;
	struct slot *s;
	int r;

	if (find_slot(g, pair_id))
		return -EBUSY;
	r = vmp_gate_pin_spec_get(g->dir, pair_name, &spec);
	if (r < 0)
		return r;
	r = close_pinned(g, pair_name); /* at once; what remains the worker removes */
	if (r < 0)
		return r;
	s = new_slot(g, pair_id, pair_name);
	if (!s)
		return -ENOSPC;
	s->spec = s->s_spec = spec;
	drop_leftover(g, pair_name);
	submit(g, s, WANT_REMOVED, false);
	return 0;
}

int vmp_gate_close_unclaimed(struct vmp_gate *g, const char *pair_name)
{
	return close_pinned(g, pair_name);
}

int vmp_gate_word_path(const struct vmp_gate *g, const char *pair_name, char *ret, size_t size)
{
	char path[PATH_MAX];

	vmp_gate_pin_path(g->dir, pair_name, "map", path, sizeof path);
	if (strlen(path) >= size)
		return -ENAMETOOLONG;
	snprintf(ret, size, "%s", path);
	return 0;
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

/* --- open, refresh, close ------------------------------------------------------------------------------------------
 */

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
	if (s->want == WANT_REMOVED)	/* VMP_GATE_EV_PORT_GONE follows */
		return r < 0 ? r : -EINPROGRESS;
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

/* --- start and end --------------------------------------------------------------------------------------------------
 */

static int probe_kernel(struct vmp_gate *g, char *reason, size_t len)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int addrs = vmp_tcbpf_addrs_new();
	CLEANUP_CLOSE int prog = -1;
	struct vmp_tcbpf_info pi;
	char log[512] = "", path[PATH_MAX];
	uint64_t *word;
	int r;

	if (map < 0)
		return vmp_gate_fail(reason, len, map == -EPERM ? -EPERM : -EOPNOTSUPP,
				     "bpf(2) refuses a map that can be mapped: %s (%s)", strerror(-map),
				     map == -EPERM
					     ? "needs CAP_BPF and CAP_NET_ADMIN; in a container, seccomp must allow bpf"
					     : "needs kernel 5.5 or newer");
	word = vmp_tcbpf_map_mmap(map);
	if (!word)
		return vmp_gate_fail(reason, len, -EOPNOTSUPP, "the kernel does not map a bpf map into memory: %s",
				     strerror(errno));
	vmp_tcbpf_map_munmap(word);
	prog = vmp_tcbpf_prog_load(&vmp_tcbpf_port, map, -1, log, sizeof log);
	if (prog < 0)
		return vmp_gate_fail(reason, len, prog == -EPERM ? -EPERM : -EOPNOTSUPP,
				     "the kernel refuses the gate's program: %s (needs kernel 5.8 or newer; "
				     "kernel lockdown 'confidentiality' forbids it) %.120s",
				     strerror(-prog), log);
	r = vmp_tcbpf_prog_info(prog, &pi);
	if (r < 0)
		return vmp_gate_fail(reason, len, -EOPNOTSUPP, "the kernel does not tell about bpf programs: %s",
				     strerror(-r));
	memcpy(g->tag[0], pi.tag, sizeof g->tag[0]);
	for (unsigned int i = 0; addrs >= 0 && i < 2; i++) {
		CLEANUP_CLOSE int host = vmp_tcbpf_prog_load(&vmp_tcbpf_host[i], map, addrs, NULL, 0);

		/* Without it there is no entry mode `host`; port_add tells why. */
		if (host >= 0 && !vmp_tcbpf_prog_info(host, &pi))
			memcpy(g->tag[1 + i], pi.tag, sizeof g->tag[0]);
	}
	g->tcx = !(g->conf.flags & VMP_GATE_FORCE_CLSACT) && vmp_tcbpf_has_tcx(prog);
	snprintf(path, sizeof path, "%s/%%probe", g->dir);
	unlink(path);
	r = vmp_tcbpf_pin(map, path);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot pin below %s: %s", g->dir, strerror(-r));
	unlink(path);
	return 0;
}

static int on_known(void *user, const char *pair)
{
	struct vmp_gate *g = user;
	struct vmp_gate_spec sp;
	struct pins p;

	if (!vmp_gate_pin_spec_get(g->dir, pair, &sp) && vmp_gate_adopt_pins(g, pair, sp.kind, &p)) {
		vmp_gate_know(g, p.prog_id);
		vmp_gate_pins_close(&p);
	}
	return 0;
}

/* What an earlier process left stays behind the fence, and ports open under a live word stay armed. */
static int on_pinned(void *user, const char *pair)
{
	struct vmp_gate *g = user;
	struct leftover *l = &g->leftover[g->n_leftover];
	struct vmp_fence_addr addrs[VMP_FENCE_HOST_ADDRS];
	struct vmp_link_info li;
	struct pins p;
	uint64_t word = 0;
	bool host, live;
	int r;

	if (vmp_gate_pin_spec_get(g->dir, pair, &l->spec) < 0) {
		vmp_gate_pin_remove_all(g->dir, pair);
		return 0;
	}
	snprintf(l->name, sizeof l->name, "%s", pair);
	host = on_host(l->spec.kind);
	r = host ? vmp_fence_host(g->fence, pair, 0, addrs, fence_addrs(&l->spec, addrs)) : vmp_fence_gate(g->fence, l->spec.tap);
	if (r < 0)
		return r;
	g->n_leftover++;
	if (vmp_link_get(g->link, gated_dev(&l->spec), &li) || !vmp_gate_adopt_pins(g, pair, l->spec.kind, &p))
		return 0;
	live = !vmp_tcbpf_map_get(p.map, &word) && word > boot_ns() &&
	       !vmp_gate_verify_program(g, l->spec.kind, li.ifindex, p.prog_id);
	vmp_gate_pins_close(&p);
	if (!live)
		return 0;
	return host ? vmp_fence_host(g->fence, pair, li.ifindex, addrs, fence_addrs(&l->spec, addrs))
		    : vmp_fence_arm(g->fence, li.ifindex);
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
	r = pthread_create(&g->thread, &attr, vmp_gate_worker, g);
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
	int r = vmp_gate_bpffs_prepare(g->dir, true, reason, len);

	r = r ? r : probe_kernel(g, reason, len);
	if (r < 0)
		return r;
	r = vmp_link_new(&g->link);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "rtnetlink: %s", strerror(-r));
	r = vmp_fence_new(&g->fence, g->conf.flags & VMP_GATE_FORCE_NO_OWNER);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "netlink socket of nftables: %s (CONFIG_NF_TABLES is needed)",
				     strerror(-r));
	r = vmp_gate_for_each_pinned(g->dir, on_known, g);
	r = r ? r : vmp_gate_for_each_pinned(g->dir, on_pinned, g);
	if (r < 0)
		return vmp_gate_fail(reason, len, r, "cannot take over the pins below %s: %s", g->dir, strerror(-r));
	r = vmp_fence_install(g->fence);
	if (r == -EBUSY)
		return vmp_gate_fail(
			reason, len, r,
			"the nft table bridge %s belongs to another running process (is a vmpaird running?)",
			VMP_FENCE_TABLE);
	if (r == -EPERM || r == -EACCES)
		return vmp_gate_fail(reason, len, r, "nftables: %s (needs CAP_NET_ADMIN)", strerror(-r));
	if (r < 0)
		return vmp_gate_fail(
			reason, len, -EOPNOTSUPP,
			"cannot install the nft fence in the bridge family: %s (kernel without CONFIG_NF_TABLES_BRIDGE?)",
			strerror(-r));
	g->announce_fd = vmp_announce_socket();
	if (g->announce_fd < 0)
		return vmp_gate_fail(reason, len, g->announce_fd, "packet socket: %s (needs CAP_NET_RAW)",
				     strerror(-g->announce_fd));
	g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->out_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->wake_fd < 0 || g->out_fd < 0)
		return vmp_gate_fail(reason, len, -errno, "eventfd: %s", strerror(errno));
	r = start_worker(g);
	return r < 0 ? vmp_gate_fail(reason, len, r, "cannot start a thread: %s", strerror(-r)) : 0;
}

int vmp_gate_new(struct vmp_gate **ret, const struct vmp_gate_conf *conf, char *reason, size_t reason_len)
{
	const char *dir = conf->bpffs_dir ? conf->bpffs_dir : VMP_GATE_BPFFS;
	struct vmp_gate *g;
	int r;

	if (strlen(dir) >= sizeof g->dir || !conf->event)
		return vmp_gate_fail(reason, reason_len, -EINVAL, "bad gate configuration");
	g = calloc(1, sizeof *g);
	if (!g)
		return vmp_gate_fail(reason, reason_len, -ENOMEM, "out of memory");
	g->conf = *conf;
	if (!g->conf.wait_us)
		g->conf.wait_us = WAIT_US_DEFAULT;
	snprintf(g->dir, sizeof g->dir, "%s", dir);
	g->announce_fd = g->wake_fd = g->out_fd = -1;
	init_lock(g);
	for (unsigned int i = 0; i < VMP_GATE_MAX_PORTS; i++) {
		g->slot[i].map_fd = g->slot[i].s_map_fd = -1;
		vmp_gate_reset_wport(&g->slot[i].w);
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

		vmp_gate_close_program(s);
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
	struct vmp_link *link;
	int err;
	char name[VMP_GATE_NAME_MAX];
};

static int on_purge_fence(void *user, const char *pair)
{
	struct vmp_fence_addr addrs[VMP_FENCE_HOST_ADDRS];
	struct purge *p = user;
	struct vmp_gate_spec sp;

	if (vmp_gate_pin_spec_get(p->dir, pair, &sp) < 0)
		return 0;
	return on_host(sp.kind) ? vmp_fence_host(p->fence, pair, 0, addrs, fence_addrs(&sp, addrs))
					: vmp_fence_gate(p->fence, sp.tap);
}

static void purge_pins(const char *dir, const char *pair)
{
	CLEANUP_CLOSE int map = vmp_gate_pin_get(dir, pair, "map");

	/* Whoever still holds the tap open is cut off before anything is taken apart. */
	if (map >= 0)
		vmp_tcbpf_map_set(map, 0);
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int fd = vmp_gate_pin_get(dir, pair, vmp_gate_link_pin[i]);

		if (fd >= 0)
			vmp_tcbpf_link_detach(fd);
	}
}

static int purge_host(struct purge *p, const char *pair, const struct vmp_gate_spec *sp)
{
	uint32_t id[2];
	bool tcx = true;

	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int link = vmp_gate_pin_get(p->dir, pair, vmp_gate_link_pin[i]);

		tcx = tcx && link >= 0;
	}
	vmp_gate_pin_prog_ids(p->dir, pair, id);
	purge_pins(p->dir, pair);
	return vmp_gate_host_clear(p->link, tcx, sp, id);
}

static int on_purge(void *user, const char *pair)
{
	struct purge *p = user;
	struct vmp_gate_spec sp = { .kind = VMP_GATE_TAP };
	int r;

	r = vmp_gate_pin_spec_get(p->dir, pair, &sp) < 0 ? 0
	    : on_host(sp.kind)				 ? purge_host(p, pair, &sp)
							 : vmp_link_tap_del(sp.tap);
	purge_pins(p->dir, pair);
	/* Not a tap: a device of somebody else's, of which only our links were ours. */
	if (r == -ENOTUNIQ)
		r = 0;
	r = r ? r : vmp_gate_pin_remove_all(p->dir, pair);
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

	r = vmp_gate_bpffs_prepare(p.dir, false, reason, reason_len);
	if (r < 0 && r != -ENOENT)
		return r;
	pins = !r;
	r = vmp_fence_new(&p.fence, false);
	if (r < 0)
		return vmp_gate_fail(reason, reason_len, r, "netlink socket of nftables: %s", strerror(-r));
	r = vmp_link_new(&p.link);
	if (r < 0) {
		vmp_fence_free(p.fence);
		return vmp_gate_fail(reason, reason_len, r, "rtnetlink: %s", strerror(-r));
	}
	/* Writing the fence shows whether a daemon is alive, and it stays up until the taps are gone. */
	r = pins ? vmp_gate_for_each_pinned(p.dir, on_purge_fence, &p) : 0;
	r = r ? r : vmp_fence_install(p.fence);
	if (r == -EBUSY) {
		vmp_link_free(p.link);
		vmp_fence_free(p.fence);
		return vmp_gate_fail(reason, reason_len, r, "a running vmpaird owns the gates: stop it first");
	}
	r = 0;
	if (pins) {
		r = vmp_gate_for_each_pinned(p.dir, on_purge, &p);
		if (!r && p.err)
			r = vmp_gate_fail(reason, reason_len, p.err, "cannot remove all of pair %s: %s", p.name,
					  strerror(-p.err));
		if (!r && rmdir(p.dir) < 0 && errno != ENOENT)
			r = vmp_gate_fail(reason, reason_len, -errno, "rmdir %s: %s", p.dir, strerror(errno));
	}
	r2 = vmp_fence_delete(p.fence);
	/* A kernel without nftables never had a fence. */
	if (!r && r2 < 0 && r2 != -EOPNOTSUPP)
		r = vmp_gate_fail(reason, reason_len, r2, "cannot delete the nft table bridge %s: %s", VMP_FENCE_TABLE,
				  strerror(-r2));
	vmp_link_free(p.link);
	vmp_fence_free(p.fence);
	return r;
}
