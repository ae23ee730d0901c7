/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/gate_env.h"

#define TYPE_TEST 0x88b5 /* for local experiments */
#define WAIT_MS 3000
#define TAG_LEN 4
#define FRAME_MAX (60 + 2 * TAG_LEN)

const uint8_t env_mac[2][6] = { { 0x52, 0x54, 0, 0xaa, 0, 1 }, { 0x52, 0x54, 0, 0xaa, 0, 2 } };

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(99);
}

void run(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	if (system(cmd)) {
		fprintf(stderr, "failed: %s\n", cmd);
		exit(99);
	}
}

bool try_run(const char *fmt, ...)
{
	char cmd[512], quiet[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	snprintf(quiet, sizeof quiet, "{ %s; } >/dev/null 2>&1", cmd);
	return !system(quiet);
}

bool output_has(const char *cmd, const char *text)
{
	char buf[8192];
	FILE *f = popen(cmd, "re");
	size_t n;

	if (!f)
		die("popen");
	n = fread(buf, 1, sizeof buf - 1, f);
	buf[n] = '\0';
	pclose(f);
	return strstr(buf, text) != NULL;
}

uint64_t env_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

void env_sleep_until(uint64_t boot_ns)
{
	struct timespec t = { .tv_sec = (time_t)(boot_ns / 1000000000ULL), .tv_nsec = (long)(boot_ns % 1000000000ULL) };

	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void ignore_event(void *user, const struct vmp_gate_event *ev)
{
	(void)user;
	(void)ev;
}

void env_process_init(void)
{
	struct vmp_gate_conf conf = { .event = ignore_event };
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate *g;
	int r;

	if (geteuid()) {
		puts("1..0 # SKIP needs root");
		exit(77);
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("1..0 # SKIP no namespaces: %s\n", strerror(errno));
		exit(77);
	}
	/* A bpf file system of our own, so that nothing is seen of the host's. The gate mounts it: cover what is there.
	 */
	if (mount("sysfs", "/sys", "sysfs", 0, NULL) < 0) {
		printf("1..0 # SKIP cannot mount sysfs: %s\n", strerror(errno));
		exit(77);
	}
	if (access("/dev/net/tun", R_OK | W_OK) < 0 || !try_run("ip -V && tc -V && nft -v && bridge -V")) {
		puts("1..0 # SKIP needs /dev/net/tun, iproute2 and nftables");
		exit(77);
	}
	r = vmp_gate_new(&g, &conf, reason, sizeof reason);
	if (r < 0) {
		printf("1..0 # SKIP this kernel cannot gate: %s\n", reason);
		exit(r == -EOPNOTSUPP || r == -EPERM ? 77 : 99);
	}
	vmp_gate_free(g);
	r = vmp_gate_purge(NULL, reason, sizeof reason);
	if (r < 0) {
		fprintf(stderr, "purge: %s\n", reason);
		exit(99);
	}
}

static int packet_socket(const char *name)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex(name) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	/* Only what comes in: what this end sends itself is no evidence. */
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0 ||
	    bind(fd, (struct sockaddr *)&to, sizeof to) < 0)
		die(name);
	return fd;
}

/* The kernel tells the bridge of a port's carrier with a delay. */
static void wait_forwarding(const char *port)
{
	uint64_t until = env_now() + WAIT_MS * 1000000ULL;
	char cmd[64];

	snprintf(cmd, sizeof cmd, "bridge link show dev %s", port);
	while (!output_has(cmd, "state forwarding"))
		if (env_now() > until)
			die("the bridge port does not forward");
}

void env_up(struct env *e, unsigned int flags)
{
	memset(e, 0, sizeof *e);
	e->flags = flags;
	e->wait_us = 1000000; /* the tests ask what happens, not how fast */
	if (unshare(CLONE_NEWNET) < 0)
		die("unshare");
	run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1 2>/dev/null || true; ip link set lo up; "
	    "ip link add brt type bridge; ip link add up0 type veth peer name up1; ip link add c0 type veth peer name c1; "
	    "ip link set up0 master brt; ip link set c0 master brt; for i in brt up0 up1 c0 c1; do ip link set $i up; done");
	wait_forwarding("up0");
	wait_forwarding("c0");
	e->outside = packet_socket("up1");
	e->bystander = packet_socket("c1");
	env_gate_start(e);
}

void env_down(struct env *e)
{
	char reason[VMP_GATE_REASON] = "";

	env_gate_stop(e);
	close(e->outside);
	close(e->bystander);
	if (vmp_gate_purge(NULL, reason, sizeof reason) < 0) {
		fprintf(stderr, "purge: %s\n", reason);
		exit(99);
	}
}

static void on_event(void *user, const struct vmp_gate_event *ev)
{
	struct env *e = user;
	struct env_event *t;

	if (e->n_events == ENV_MAX_EVENTS)
		die("too many events");
	t = &e->ev[e->n_events++];
	t->type = ev->type;
	t->pair_id = ev->pair_id;
	t->epoch = ev->epoch;
	t->err = ev->err;
	snprintf(t->reason, sizeof t->reason, "%s", ev->reason);
	if (getenv("GATE_TEST_VERBOSE"))
		fprintf(stderr, "# event %s pair %llu err %d %s\n", vmp_gate_ev_name(ev->type),
			(unsigned long long)ev->pair_id, ev->err, ev->reason);
}

static void on_stored(void *user, const struct vmp_gate_store *st)
{
	struct env *e = user;

	if (e->n_stores < ENV_MAX_STORES)
		e->store[e->n_stores++] = *st;
}

void env_gate_start(struct env *e)
{
	struct vmp_gate_conf conf = {
		.event = on_event, .stored = on_stored, .user = e, .flags = e->flags, .wait_us = e->wait_us
	};
	char reason[VMP_GATE_REASON] = "";

	if (vmp_gate_new(&e->g, &conf, reason, sizeof reason) < 0) {
		fprintf(stderr, "gate: %s\n", reason);
		exit(99);
	}
}

void env_gate_stop(struct env *e)
{
	e->g = vmp_gate_free(e->g);
}

void env_pump(struct env *e)
{
	vmp_gate_dispatch(e->g);
}

const struct env_event *env_wait(struct env *e, enum vmp_gate_ev type)
{
	uint64_t until = env_now() + WAIT_MS * 1000000ULL;

	for (;;) {
		struct pollfd p = { .fd = vmp_gate_fd(e->g), .events = POLLIN };
		uint64_t now;

		while (e->seen < e->n_events)
			if (e->ev[e->seen++].type == type)
				return &e->ev[e->seen - 1];
		now = env_now();
		if (now >= until)
			return NULL;
		poll(&p, 1, (int)((until - now) / 1000000) + 1);
		env_pump(e);
	}
}

unsigned int env_count(const struct env *e, enum vmp_gate_ev type)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < e->n_events; i++)
		n += e->ev[i].type == type;
	return n;
}

void env_spec(struct vmp_gate_spec *sp, unsigned int n)
{
	memset(sp, 0, sizeof *sp);
	snprintf(sp->tap, sizeof sp->tap, "tap%u", n);
	snprintf(sp->bridge, sizeof sp->bridge, "brt");
	snprintf(sp->uplink, sizeof sp->uplink, "up0");
	memcpy(sp->mac, env_mac[n], 6);
	sp->n_addrs = 2;
	sp->addrs[0].family = AF_INET;
	memcpy(sp->addrs[0].addr, (const uint8_t[]){ 192, 0, 2, (uint8_t)(10 + n) }, 4);
	sp->addrs[1].family = AF_INET6;
	memcpy(sp->addrs[1].addr, (const uint8_t[16]){ 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)(10 + n) }, 16);
}

void env_add(struct env *e, uint64_t pair_id, unsigned int n)
{
	char reason[VMP_GATE_REASON] = "", name[16];
	struct vmp_gate_spec sp;

	env_spec(&sp, n);
	snprintf(name, sizeof name, "pair.%u", n);
	if (vmp_gate_port_add(e->g, pair_id, name, &sp, reason, sizeof reason) < 0 ||
	    !env_wait(e, VMP_GATE_EV_PORT_READY)) {
		fprintf(stderr, "port_add: %s %s\n", reason, e->n_events ? e->ev[e->n_events - 1].reason : "");
		exit(99);
	}
}

int env_guest(const char *tap)
{
	int fd = env_guest_now(tap);

	wait_forwarding(tap);
	return fd;
}

int env_guest_now(const char *tap)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };

	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", tap);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
		die(tap);
	return fd;
}

int env_recv(int fd, uint8_t *buf, int cap, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (;;) {
		ssize_t n = read(fd, buf, (size_t)cap);

		if (n >= 0)
			return (int)n;
		if (errno == ENETDOWN) /* once, when the link went down */
			continue;
		if (errno != EAGAIN || poll(&p, 1, timeout_ms) <= 0)
			return -1;
	}
}

static size_t build(uint8_t frame[FRAME_MAX], unsigned int tags, const uint8_t *src, uint32_t seq)
{
	static const uint8_t outer[TAG_LEN] = { 0x88, 0xa8, 0, 200 }, inner[TAG_LEN] = { 0x81, 0, 0, 100 };
	uint8_t *at = frame + 12;

	memset(frame, 0, FRAME_MAX);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, src, 6);
	if (tags > 1)
		at = (uint8_t *)memcpy(at, outer, TAG_LEN) + TAG_LEN;
	if (tags > 0)
		at = (uint8_t *)memcpy(at, inner, TAG_LEN) + TAG_LEN;
	at[0] = TYPE_TEST >> 8;
	at[1] = TYPE_TEST & 0xff;
	memcpy(at + 2, &seq, sizeof seq);
	return 60 + tags * TAG_LEN;
}

/* Read frames until `until` is seen; was `want` among them, before it? */
static bool saw(int fd, uint32_t want, uint32_t until, bool *ret_until)
{
	uint8_t buf[2048];
	bool found = false;
	uint32_t seq;
	int n;

	*ret_until = false;
	while ((n = env_recv(fd, buf, sizeof buf, until ? WAIT_MS : 0)) >= 0) {
		const uint8_t *at = buf + 12;

		/* a tap has all tags in place, a packet socket not the outer one */
		while (n >= 18 && ((at[0] == 0x88 && at[1] == 0xa8) || (at[0] == 0x81 && !at[1]))) {
			at += TAG_LEN;
			n -= TAG_LEN;
		}
		if (n < 18 || at[0] != TYPE_TEST >> 8 || at[1] != (TYPE_TEST & 0xff))
			continue;
		memcpy(&seq, at + 2, sizeof seq);
		found = found || seq == want;
		if (seq == until) {
			*ret_until = true;
			return found;
		}
	}
	return found;
}

/* Broadcasts reach everybody; what one end does not read must not fill its queue. */
static void drop_all(int fd)
{
	uint8_t buf[2048];

	while (env_recv(fd, buf, sizeof buf, 0) >= 0)
		;
}

/*
 * No waiting for something that does not come: after the frame in question a second one takes a way that is open, and
 * when that has arrived the first one has been dropped. All of it runs on one processor, in order, within the sender's
 * system call.
 */
bool env_passes_out(struct env *e, int guest)
{
	static const uint8_t other[6] = { 0x52, 0x54, 0, 0xbb, 0, 1 };
	uint8_t frame[FRAME_MAX];
	size_t len;
	uint32_t seq = ++e->seq, sentinel = ++e->seq;
	bool arrived, found;

	drop_all(e->bystander);
	len = build(frame, e->tags, env_mac[0], seq);
	if (write(guest, frame, len) < 0 && errno != EIO) /* EIO: the tap is down */
		return false;
	build(frame, e->tags, other, sentinel);
	if (send(e->bystander, frame, len, 0) < 0)
		die("send");
	found = saw(e->outside, seq, sentinel, &arrived);
	if (!arrived) {
		fprintf(stderr, "the bystander's frame did not arrive\n");
		exit(99);
	}
	return found;
}

bool env_passes_in(struct env *e, int guest)
{
	static const uint8_t far[6] = { 0x52, 0x54, 0, 0xcc, 0, 1 };
	uint8_t frame[FRAME_MAX];
	uint32_t seq = ++e->seq;
	size_t len;
	bool arrived;

	drop_all(e->outside);
	len = build(frame, e->tags, far, seq);
	env_send_outside(e, frame, (int)len);
	saw(e->bystander, seq, seq, &arrived);
	if (!arrived) {
		fprintf(stderr, "the bystander did not get the frame\n");
		exit(99);
	}
	return saw(guest, seq, 0, &arrived);
}

void env_send_outside(struct env *e, const uint8_t *frame, int len)
{
	if (send(e->outside, frame, (size_t)len, 0) < 0)
		die("send");
}
