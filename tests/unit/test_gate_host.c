/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses of the host itself behind the gate, on the kernel this runs on: the host's own stack answers ARP, neighbour solicitations and
 * echo requests, or must not. Built twice, as test_gate is.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/announce.h"
#include "daemon/tcbpf.h"
#include "internal/cleanup.h"
#include "tests/unit/gate_env.h"

#define MS 1000000ULL
#define P0 0x1001ULL
#define P1 0x1002ULL
#define EPOCH(n) ((n)*256ULL + 1)
#define LONG_MS 20000

static unsigned int flags;
static bool tcx;

/* The bridge's own addresses, never gated, and somebody on the network. */
static const uint8_t own4[16] = { 192, 0, 2, 1 }, far4[16] = { 192, 0, 2, 200 };
static const uint8_t own6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 1 }, far6[16] = { 0x20, 1, 0xd, 0xb8, [15] = 200 };
static const uint8_t far_mac[6] = { 2, 0, 0, 0, 0, 200 }, bridge_mac[6] = { 2, 0, 0, 0, 1, 1 };

static void bridge_up(void)
{
	run("ip link set brt address 02:00:00:00:01:01; ip link set brt up; sysctl -qw net.ipv6.conf.brt.disable_ipv6=0 "
	    "net.ipv6.conf.brt.accept_dad=0 net.ipv6.conf.brt.addr_gen_mode=1; ip addr replace 192.0.2.1/24 dev brt; "
	    "ip addr replace 2001:db8::1/64 dev brt nodad; ip neigh replace 192.0.2.200 lladdr 02:00:00:00:00:c8 dev brt; "
	    "ip neigh replace 2001:db8::c8 lladdr 02:00:00:00:00:c8 dev brt");
}

static int setup(void **state)
{
	struct env *e = malloc(sizeof *e);

	env_up(e, flags);
	bridge_up();
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	env_down(*state);
	free(*state);
	return 0;
}

static void spec(struct vmp_gate_spec *sp, unsigned int n)
{
	env_spec(sp, n);
	sp->kind = VMP_GATE_HOST;
	sp->tap[0] = '\0';
	memset(sp->mac, 0, sizeof sp->mac);
	sp->addrs[0].prefix = 24;
	sp->addrs[1].prefix = 64;
}

static void add(struct env *e, uint64_t pair_id, unsigned int n)
{
	char reason[VMP_GATE_REASON] = "", name[16];
	struct vmp_gate_spec sp;

	spec(&sp, n);
	snprintf(name, sizeof name, "pair.%u", n);
	if (vmp_gate_port_add(e->g, pair_id, name, &sp, reason, sizeof reason) < 0 || !env_wait(e, VMP_GATE_EV_PORT_READY)) {
		fprintf(stderr, "port_add: %s %s\n", reason, e->n_events ? e->ev[e->n_events - 1].reason : "");
		exit(99);
	}
}

static int open_for(struct env *e, uint64_t pair, uint64_t epoch, uint64_t ms)
{
	uint64_t end = env_now() + ms * MS;

	return vmp_gate_open(e->g, pair, epoch, end, end);
}

static struct vmp_gate_info info(struct env *e, uint64_t pair)
{
	struct vmp_gate_info i;

	assert_int_equal(vmp_gate_port_info(e->g, pair, &i), 0);
	return i;
}

/* --- frames ------------------------------------------------------------------------------------------------------------ */

static unsigned int sum16(unsigned int sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (unsigned int)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void put_sum(uint8_t *p, unsigned int sum)
{
	p[0] = (uint8_t)(~sum >> 8);
	p[1] = (uint8_t)~sum;
}

static size_t arp_request(uint8_t *f, const uint8_t *addr)
{
	memset(f, 0xff, 6);
	memcpy(f + 6, far_mac, 6);
	memcpy(f + 12, "\x8\x6\0\1\x8\0\6\4\0\1", 10);
	memcpy(f + 22, far_mac, 6);
	memcpy(f + 28, far4, 4);
	memset(f + 32, 0, 6);
	memcpy(f + 38, addr, 4);
	return 42;
}

static size_t ipv6(uint8_t *f, const uint8_t *to_mac, const uint8_t *to, size_t len)
{
	uint8_t *ip = f + 14;
	unsigned int sum;

	memcpy(f, to_mac, 6);
	memcpy(f + 6, far_mac, 6);
	memcpy(f + 12, "\x86\xdd\x60\0\0\0\0\0\x3a\xff", 10);
	ip[5] = (uint8_t)len;
	memcpy(ip + 8, far6, 16);
	memcpy(ip + 24, to, 16);
	sum = sum16((unsigned int)len + 58, ip + 8, 32);
	put_sum(ip + 42, sum16(sum, ip + 40, len));
	return 54 + len;
}

static size_t solicitation(uint8_t *f, const uint8_t *addr)
{
	uint8_t mac[6] = { 0x33, 0x33, 0xff, addr[13], addr[14], addr[15] };
	uint8_t group[16] = { 0xff, 2, [11] = 1, 0xff, addr[13], addr[14], addr[15] };
	uint8_t *p = f + 54;

	memset(p, 0, 32);
	p[0] = 135;
	memcpy(p + 8, addr, 16);
	p[24] = 1;
	p[25] = 1;
	memcpy(p + 26, far_mac, 6);
	return ipv6(f, mac, group, 32);
}

static size_t echo(uint8_t *f, const uint8_t *mac, int family, const uint8_t *addr)
{
	uint8_t *ip = f + 14;

	if (family == AF_INET6) {
		memset(f + 54, 0, 8);
		f[54] = 128;
		return ipv6(f, mac, addr, 8);
	}
	memcpy(f, mac, 6);
	memcpy(f + 6, far_mac, 6);
	memcpy(f + 12, "\x8\0\x45\0\0\x1c\0\0\0\0\x40\1\0\0", 14);
	memcpy(ip + 12, far4, 4);
	memcpy(ip + 16, addr, 4);
	put_sum(ip + 10, sum16(0, ip, 20));
	memset(ip + 20, 0, 8);
	ip[20] = 8;
	put_sum(ip + 22, sum16(0, ip + 20, 8));
	return 42;
}

enum what { ARP_REPLY, ECHO4, ADVERT, ECHO6, ANY_FROM };

/* Is this such a frame from `addr`? ANY_FROM: anything that names it as its source. */
static bool from(const uint8_t *f, int len, enum what what, int family, const uint8_t *addr)
{
	bool v4 = len >= 34 && !memcmp(f + 12, "\x8\0", 2) && !memcmp(f + 26, addr, 4);
	bool arp = len >= 42 && !memcmp(f + 12, "\x8\x6", 2) && !memcmp(f + 28, addr, 4);
	bool v6 = len >= 54 && !memcmp(f + 12, "\x86\xdd", 2), v6from = v6 && !memcmp(f + 22, addr, 16);
	bool na = v6 && len >= 78 && f[20] == 58 && f[54] == 136 && !memcmp(f + 62, addr, 16);

	switch (what) {
	case ARP_REPLY:
		return arp && f[21] == 2;
	case ECHO4:
		return v4 && f[23] == 1 && f[34] == 0;
	case ADVERT:
		return na;
	case ECHO6:
		return v6from && f[20] == 58 && f[54] == 129;
	case ANY_FROM:
		return family == AF_INET ? v4 || arp : v6from || na;
	}
	return false;
}

static void send_by(const char *dev, const uint8_t *f, size_t len)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(dev) };
	CLEANUP_CLOSE int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && sendto(fd, f, len, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)len);
}

/*
 * Sends a request for `addr` and the same for an address of the host that is not gated. By the time the second is answered so is the first,
 * or it never will be: all of it runs on one processor, in order.
 */
static bool answered(struct env *e, enum what what, const uint8_t *addr)
{
	int family = what == ARP_REPLY || what == ECHO4 ? AF_INET : AF_INET6;
	const uint8_t *sentinel = family == AF_INET ? own4 : own6;
	const uint8_t *ask[2] = { addr, sentinel };
	uint8_t f[2048];
	bool found = false;
	int n;

	while (env_recv(e->outside, f, sizeof f, 0) >= 0)
		;
	/* a frame may be lost while the kernel changes rules or programs: then both are asked again */
	for (int tries = 0; tries < 3; tries++) {
		for (int i = 0; i < 2; i++) {
			size_t len = what == ARP_REPLY ? arp_request(f, ask[i])
				     : what == ADVERT  ? solicitation(f, ask[i])
						       : echo(f, bridge_mac, family, ask[i]);

			env_send_outside(e, f, (int)len);
		}
		while ((n = env_recv(e->outside, f, sizeof f, 1500)) >= 0) {
			if (from(f, n, what, family, sentinel))
				return found;
			found = found || from(f, n, ANY_FROM, family, addr);
		}
	}
	fprintf(stderr, "no answer from the address that is not gated (%d)\n", what);
	exit(99);
}

static const struct vmp_gate_spec *of(unsigned int n)
{
	static struct vmp_gate_spec sp;

	spec(&sp, n);
	return &sp;
}

static void expect(struct env *e, unsigned int n, bool want)
{
	for (enum what what = ARP_REPLY; what <= ECHO6; what++) {
		uint64_t end = env_now() + 3000 * MS;
		bool got = answered(e, what, of(n)->addrs[what >= ADVERT].addr);

		/* The kernel joins the group of a new IPv6 address a little later, in a thread of its own, and may drop what waits meanwhile
		 * for a neighbour. What is to be closed is asked once. */
		while (want && !got && env_now() < end)
			got = answered(e, what, of(n)->addrs[what >= ADVERT].addr);
		if (got != want)
			print_message("pair %u, %s: %s\n", n, want ? "open" : "closed", (const char *const[]){ "ARP", "echo", "advertisement",
				      "echo over IPv6" }[what]);
		assert_int_equal(got, want);
	}
}

static bool has_addresses(unsigned int n)
{
	char a[32], b[32];

	snprintf(a, sizeof a, "192.0.2.%u/32", 10 + n);
	snprintf(b, sizeof b, "2001:db8::%x/64", 10 + n);
	return output_has("ip -br addr show brt", a) && output_has("ip -br addr show brt", b);
}

static void until(bool (*cond)(unsigned int), unsigned int n, bool want)
{
	for (uint64_t end = env_now() + 3000 * MS; cond(n) != want;)
		assert_true(env_now() < end);
}

/* As a daemon that died has left them. */
static void put_addresses(void)
{
	run("ip addr add 192.0.2.10/32 dev brt; ip addr add 2001:db8::a/64 dev brt nodad");
}

/* --- tests ------------------------------------------------------------------------------------------------------------- */

static void open_and_close(void **state)
{
	struct env *e = *state;

	add(e, P0, 0);
	assert_false(has_addresses(0));
	expect(e, 0, false);
	assert_int_equal(info(e, P0).tcx, tcx);

	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(info(e, P0).armed);
	assert_true(info(e, P0).open);
	assert_true(has_addresses(0));
	/* Usable at once, and nothing that the host would choose for itself. */
	assert_false(output_has("ip -6 addr show brt to 2001:db8::a", "tentative"));
	assert_true(output_has("ip -6 addr show brt to 2001:db8::a", "deprecated"));
	assert_true(output_has("ip route get 192.0.2.200", "src 192.0.2.1 "));
	expect(e, 0, true);

	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_false(info(e, P0).armed);
	expect(e, 0, false);
	until(has_addresses, 0, false);
	assert_false(output_has("ip route", "192.0.2.10"));
	/* Again, as after a switch back. */
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	expect(e, 0, true);
	assert_int_equal(e->n_stores, 3);
	assert_int_equal(e->store[1].op, VMP_GATE_STORE_CLOSE);
}

/* The address is there all the time, and so is the stack behind it: the gate alone keeps it quiet. */
static void closed_with_address(void **state)
{
	struct env *e = *state;
	uint8_t f[2048];
	int n;

	put_addresses();
	expect(e, 0, true); /* as long as nothing is gated */
	add(e, P0, 0);
	assert_false(has_addresses(0)); /* taken off: the host shall reach the other host */
	run("ip addr add 192.0.2.10/24 dev brt; ip addr add 2001:db8::a/64 dev brt nodad");
	expect(e, 0, false);
	run("ip addr del 192.0.2.10/24 dev brt; ip addr del 2001:db8::a/64 dev brt");
	put_addresses();
	expect(e, 0, false);
	/* What the host itself sends from there: ARP, IPv4, neighbour discovery, IPv6. */
	while (env_recv(e->outside, f, sizeof f, 0) >= 0)
		;
	assert_false(try_run("ping -c 1 -W 1 -I 192.0.2.10 192.0.2.200"));
	assert_false(try_run("ping -c 1 -W 1 -I 2001:db8::a 2001:db8::c8"));
	try_run("arping -c 1 -w 1 -U -I brt 192.0.2.10; ping -c 1 -W 1 -I 192.0.2.10 192.0.2.201");
	while ((n = env_recv(e->outside, f, sizeof f, 0)) >= 0) {
		assert_false(from(f, n, ANY_FROM, AF_INET, of(0)->addrs[0].addr));
		assert_false(from(f, n, ANY_FROM, AF_INET6, of(0)->addrs[1].addr));
	}
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	expect(e, 0, true);
}

/* Nobody does anything, and the gate closes at the instant it was told, with the address still in place. */
static void expiry_cuts_off(void **state)
{
	struct env *e = *state;
	uint64_t end, last = 0;
	unsigned int passed = 0;

	add(e, P0, 0);
	end = env_now() + 60 * MS;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), 0);
	for (;;) {
		uint64_t before = env_now();

		if (!answered(e, ECHO4, of(0)->addrs[0].addr)) {
			assert_true(env_now() >= end);
			break;
		}
		last = before;
		passed++;
	}
	assert_true(passed > 0);
	assert_true(last < end);
	assert_true(has_addresses(0));
	expect(e, 0, false);
	end = env_now() + LONG_MS * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), 0);
	expect(e, 0, true);
}

static void several_pairs(void **state)
{
	struct env *e = *state;

	add(e, P0, 0);
	add(e, P1, 1);
	assert_int_equal(open_for(e, P1, EPOCH(1), LONG_MS), 0);
	expect(e, 0, false);
	expect(e, 1, true);
	assert_int_equal(open_for(e, P0, EPOCH(7), LONG_MS), 0);
	expect(e, 0, true);
	expect(e, 1, true);
	assert_int_equal(vmp_gate_close(e->g, P1, EPOCH(1)), 0);
	expect(e, 0, true);
	expect(e, 1, false);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(has_addresses(0));
	assert_int_equal(open_for(e, P1, EPOCH(2), LONG_MS), 0);
	expect(e, 1, true);
	assert_int_equal(env_count(e, VMP_GATE_EV_PROGRAM_LOST), 0);
	/* Nobody's address any more. */
	put_addresses();
	expect(e, 0, true);
}

/* Another interface of the same host, which the kernel would answer on as well. */
static void other_interfaces(void **state)
{
	struct env *e = *state;
	uint8_t f[2048], mac[6];
	const uint8_t *addr = of(0)->addrs[0].addr;
	int n;

	run("ip link add x0 type veth peer name x1; ip link set x0 address 02:00:00:00:02:01; ip link set x0 up; ip link set x1 up; "
	    "ip addr add 198.51.100.1/24 dev x0");
	memcpy(mac, "\2\0\0\0\2\1", 6);
	add(e, P0, 0);
	for (int open = 0; open < 2; open++) {
		if (open)
			assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
		else
			put_addresses();
		while (env_recv(e->outside, f, sizeof f, 0) >= 0)
			;
		send_by("x1", f, echo(f, mac, AF_INET, addr));
		send_by("x1", f, echo(f, mac, AF_INET, own4)); /* answered: the stack takes what comes there */
		while ((n = env_recv(e->outside, f, sizeof f, 3000)) >= 0 && !from(f, n, ECHO4, AF_INET, own4))
			assert_false(from(f, n, ECHO4, AF_INET, addr));
		assert_true(n >= 0);
		assert_int_equal(answered(e, ECHO4, addr), open);
	}
}

/* A standby's host is a client like any other. */
static void own_traffic(void **state)
{
	struct env *e = *state;
	const uint8_t *addr = of(0)->addrs[0].addr;
	uint8_t f[2048], g[64] = { 0 };
	bool asked = false, sent = false;
	int n;

	add(e, P0, 0);
	while (env_recv(e->outside, f, sizeof f, 0) >= 0)
		;
	assert_int_equal(system("ping -c 1 -W 2 192.0.2.10 > /dev/null 2>&1 &"), 0);
	while (!sent && (n = env_recv(e->outside, f, sizeof f, 3000)) >= 0) {
		if (n >= 42 && !memcmp(f + 12, "\x8\x6", 2) && !memcmp(f + 38, addr, 4) && !memcmp(f + 28, own4, 4)) {
			asked = true;
			/* The host where it is open answers. */
			memcpy(g, f + 6, 6);
			memcpy(g + 6, far_mac, 6);
			memcpy(g + 12, f + 12, 10);
			g[21] = 2;
			memcpy(g + 22, far_mac, 6);
			memcpy(g + 28, addr, 4);
			memcpy(g + 32, f + 22, 10);
			env_send_outside(e, g, 42);
		}
		sent = n >= 34 && !memcmp(f + 12, "\x8\0", 2) && !memcmp(f + 30, addr, 4) && !memcmp(f, far_mac, 6);
	}
	assert_true(asked && sent);
	/* It moves to yet another host, which announces it: heard. */
	vmp_announce_arp(g, (const uint8_t[]){ 2, 0, 0, 0, 3, 1 }, addr, 1);
	env_send_outside(e, g, VMP_ANNOUNCE_ARP_LEN);
	assert_false(answered(e, ARP_REPLY, addr));
	assert_true(output_has("ip neigh show", "192.0.2.10 dev brt lladdr 02:00:00:00:03:01"));
}

static void take_program_off(void)
{
	if (!tcx) {
		run("tc qdisc del dev brt clsact");
	} else {
		CLEANUP_CLOSE int l = vmp_tcbpf_get(VMP_GATE_BPFFS "/pair%0/ingress");

		assert_true(l >= 0);
		assert_int_equal(vmp_tcbpf_link_detach(l), 0);
	}
}

static void program_taken_off(void **state)
{
	struct env *e = *state;

	add(e, P0, 0);
	put_addresses();
	take_program_off();
	/* The fence holds alone, and while the program comes back. */
	do {
		expect(e, 0, false);
		env_pump(e);
	} while (!env_count(e, VMP_GATE_EV_PROGRAM_RESTORED));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	expect(e, 0, true);
	take_program_off();
	assert_non_null(env_wait(e, VMP_GATE_EV_ALARM));
	assert_false(info(e, P0).armed);
	assert_false(has_addresses(0));
	put_addresses();
	expect(e, 0, false);
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), -EREMOTEIO);
	/* The operator has mended it. */
	add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	expect(e, 0, true);
}

static void foreign_flush(void **state)
{
	struct env *e = *state;

	add(e, P0, 0);
	put_addresses();
	run("nft flush ruleset");
	if (output_has("nft list table inet vmpair", "owner")) {
		assert_false(try_run("nft delete table inet vmpair"));
		assert_false(try_run("nft delete table arp vmpair"));
		expect(e, 0, false);
		assert_int_equal(env_count(e, VMP_GATE_EV_FENCE_LOST), 0);
		return;
	}
	do {
		expect(e, 0, false);
		env_pump(e);
	} while (!env_count(e, VMP_GATE_EV_FENCE_RESTORED));
	assert_true(output_has("nft list table inet vmpair", "192.0.2.10"));
	assert_true(output_has("nft list table arp vmpair", "192.0.2.10"));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	expect(e, 0, true);
	/* One table of the three, the second time within a minute. */
	run("nft flush chain arp vmpair in");
	assert_non_null(env_wait(e, VMP_GATE_EV_ALARM));
	expect(e, 0, false);
}

static bool is_announced(struct env *e, const struct vmp_gate_spec *sp, const uint8_t *mac)
{
	uint8_t want[3][VMP_ANNOUNCE_NA_LEN], f[2048];
	unsigned int seen = 0;
	int n;

	vmp_announce_arp(want[0], mac, sp->addrs[0].addr, 1);
	vmp_announce_arp(want[1], mac, sp->addrs[0].addr, 2);
	vmp_announce_na(want[2], mac, sp->addrs[1].addr);
	while (seen != 7 && (n = env_recv(e->outside, f, sizeof f, 3000)) >= 0)
		for (unsigned int i = 0; i < 3; i++)
			if (n == (i < 2 ? VMP_ANNOUNCE_ARP_LEN : VMP_ANNOUNCE_NA_LEN) && !memcmp(f, want[i], (size_t)n))
				seen |= 1U << i;
	return seen == 7;
}

static void announces(void **state)
{
	static const uint8_t other_mac[6] = { 2, 0, 0, 0, 1, 2 };
	struct env *e = *state;
	struct vmp_gate_spec sp;
	uint8_t f[2048];
	int n;

	add(e, P0, 0);
	spec(&sp, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(is_announced(e, &sp, bridge_mac));
	for (unsigned int i = 1; i < VMP_ANNOUNCE_REPEATS; i++) {
		vmp_gate_tick(e->g, vmp_gate_deadline(e->g));
		assert_true(is_announced(e, &sp, bridge_mac));
	}
	/* The link to the switch goes and comes back. */
	run("ip link set up1 down");
	assert_non_null(env_wait(e, VMP_GATE_EV_UPLINK_DOWN));
	run("ip link set up1 up");
	assert_non_null(env_wait(e, VMP_GATE_EV_UPLINK_UP));
	for (uint64_t end = env_now() + 3000 * MS; !output_has("bridge link show dev up0", "state forwarding");)
		assert_true(env_now() < end);
	vmp_gate_tick(e->g, env_now() + 60000 * MS);
	assert_true(is_announced(e, &sp, bridge_mac));
	/* A bridge may change its address with its ports. */
	run("ip link set brt address 02:00:00:00:01:02");
	for (uint64_t end = env_now() + 3000 * MS; vmp_gate_deadline(e->g) == VMP_GATE_NEVER; env_pump(e))
		assert_true(env_now() < end);
	assert_true(is_announced(e, &sp, other_mac));
	/* What is sent late does not get by the gate. */
	n = vmp_announce_socket();
	assert_true(n >= 0);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	while (env_recv(e->outside, f, sizeof f, 0) >= 0)
		;
	vmp_announce_send(n, (int)if_nametoindex("brt"), other_mac, AF_INET, sp.addrs[0].addr);
	vmp_announce_send(n, (int)if_nametoindex("brt"), other_mac, AF_INET6, sp.addrs[1].addr);
	close(n);
	while ((n = env_recv(e->outside, f, sizeof f, 0)) >= 0)
		assert_false(from(f, n, ANY_FROM, AF_INET, sp.addrs[0].addr) || from(f, n, ANY_FROM, AF_INET6, sp.addrs[1].addr));
}

static void addresses_change(void **state)
{
	struct env *e = *state;
	struct vmp_gate_spec sp;

	add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	/* Taken off by hand, and by the interface going down: put back. */
	run("ip addr del 192.0.2.10/32 dev brt; ip addr del 2001:db8::a/64 dev brt");
	until(has_addresses, 0, true);
	run("ip link set brt down");
	bridge_up();
	until(has_addresses, 0, true);
	expect(e, 0, true);
	/* Others from now on: the old ones are nobody's. */
	spec(&sp, 1);
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, sp.addrs, sp.n_addrs), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	until(has_addresses, 1, true);
	assert_false(has_addresses(0));
	expect(e, 1, true);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	expect(e, 1, false);
	until(has_addresses, 1, false);
	put_addresses();
	expect(e, 0, true);
	/* While closed: gated at once. */
	spec(&sp, 0);
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, sp.addrs, sp.n_addrs), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_false(has_addresses(0));
	put_addresses();
	expect(e, 0, false);
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, sp.addrs, 0), -EINVAL);
}

static void address_refused(void **state)
{
	struct env *e = *state;
	const struct env_event *ev;

	add(e, P0, 0);
	run("sysctl -qw net.ipv6.conf.brt.disable_ipv6=1");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	ev = env_wait(e, VMP_GATE_EV_ADDR_FAILED);
	assert_non_null(ev);
	assert_non_null(strstr(ev->reason, "2001:db8::a"));
	assert_true(answered(e, ECHO4, of(0)->addrs[0].addr));
	bridge_up();
	until(has_addresses, 0, true);
	expect(e, 0, true);
}

static void interface_recreated(void **state)
{
	struct env *e = *state;

	add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	run("ip link del brt");
	assert_non_null(env_wait(e, VMP_GATE_EV_TAP_LOST));
	assert_int_equal(info(e, P0).ifindex, 0);
	assert_false(info(e, P0).open);
	run("ip link add brt type bridge; ip link set up0 master brt; ip link set c0 master brt");
	bridge_up();
	assert_non_null(env_wait(e, VMP_GATE_EV_TAP_RECREATED));
	for (uint64_t end = env_now() + 3000 * MS; !output_has("bridge link show dev up0", "state forwarding");)
		assert_true(env_now() < end);
	until(has_addresses, 0, true);
	expect(e, 0, true);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	expect(e, 0, false);
}

static void adoption(void **state)
{
	struct env *e = *state;
	uint64_t end, word;

	add(e, P0, 0);
	add(e, P1, 1);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_int_equal(open_for(e, P1, EPOCH(1), LONG_MS), 0);
	word = info(e, P0).expiry_ns;
	env_gate_stop(e);
	expect(e, 0, true);
	env_gate_start(e);
	/* Restarted within the lease: served before and after the port is claimed. */
	expect(e, 0, true);
	expect(e, 1, true);
	e->n_stores = 0;
	add(e, P0, 0);
	expect(e, 0, true);
	assert_true(info(e, P0).open);
	assert_int_equal(info(e, P0).expiry_ns, word);
	assert_int_equal(e->n_stores, 1);
	assert_int_equal(e->store[0].op, VMP_GATE_STORE_ADOPT);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	expect(e, 0, false);
	until(has_addresses, 0, false);
	expect(e, 1, true);
	assert_int_equal(env_count(e, VMP_GATE_EV_PROGRAM_LOST), 0);
	/* The other pair is nobody's. */
	assert_string_equal(vmp_gate_leftover(e->g, 0), "pair.1");
	assert_int_equal(vmp_gate_forget(e->g, P1, "pair.1"), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(has_addresses(1));
	assert_int_not_equal(access(VMP_GATE_BPFFS "/pair%1", F_OK), 0);
	assert_false(output_has("nft list ruleset", "192.0.2.11"));
	/* Killed while open, back after its lease: the address was left in place, and is gated all the time. */
	end = env_now() + 5 * MS;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(2), end, end), 0);
	env_gate_stop(e);
	env_sleep_until(end);
	assert_true(has_addresses(0));
	expect(e, 0, false);
	env_gate_start(e);
	expect(e, 0, false);
	add(e, P0, 0);
	assert_false(info(e, P0).armed);
	assert_false(has_addresses(0));
	expect(e, 0, false);
	assert_int_equal(open_for(e, P0, EPOCH(3), LONG_MS), 0);
	expect(e, 0, true);
	/* With the program taken off meanwhile. */
	env_gate_stop(e);
	take_program_off();
	env_gate_start(e);
	expect(e, 0, false);
	add(e, P0, 0);
	assert_false(info(e, P0).armed);
	assert_int_equal(open_for(e, P0, EPOCH(4), LONG_MS), 0);
	expect(e, 0, true);
}

static void bad_specs(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON];
	struct vmp_gate_spec sp;
	const struct env_event *ev;

	add(e, P0, 0);
	spec(&sp, 1);
	memcpy(sp.addrs[1].addr, of(0)->addrs[1].addr, 16);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EEXIST);
	assert_non_null(strstr(reason, "2001:db8::a"));
	snprintf(sp.bridge, sizeof sp.bridge, "other"); /* and on any interface */
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EEXIST);
	spec(&sp, 1);
	sp.addrs[0].prefix = 33;
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EINVAL);
	spec(&sp, 1);
	sp.n_addrs = 0;
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EINVAL);
	spec(&sp, 0);
	snprintf(sp.bridge, sizeof sp.bridge, "c1");
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), -EBUSY);
	env_spec(&sp, 0); /* a tap with the same address on the same bridge */
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EEXIST);

	run("sysctl -qw net.ipv6.conf.c1.disable_ipv6=0; ip addr add 2001:db8::b/128 dev c1");
	spec(&sp, 1);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
	ev = env_wait(e, VMP_GATE_EV_PORT_FAILED);
	assert_non_null(ev);
	assert_non_null(strstr(ev->reason, "2001:db8::b is on c1 already"));
	run("ip addr del 2001:db8::b/128 dev c1; ip addr add 192.0.2.11/24 dev brt");
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
	ev = env_wait(e, VMP_GATE_EV_PORT_FAILED);
	assert_non_null(ev);
	assert_non_null(strstr(ev->reason, "192.0.2.11 is on brt already"));
	run("ip addr del 192.0.2.11/24 dev brt");

	static const struct {
		const char *dev, *says;
	} bad[] = { { "nobridge", "nobridge" }, { "up0", "brt" }, { "lo", "no interface" } };

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		spec(&sp, 1);
		snprintf(sp.bridge, sizeof sp.bridge, "%s", bad[i].dev);
		assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
		ev = env_wait(e, VMP_GATE_EV_PORT_FAILED);
		assert_non_null(ev);
		assert_non_null(strstr(ev->reason, bad[i].says));
		assert_false(output_has("nft list ruleset", "192.0.2.11"));
		assert_int_not_equal(access(VMP_GATE_BPFFS "/other", F_OK), 0);
	}
	expect(e, 0, false);
}

/* The host has no address of its own in that network, or gets one later: it reaches its clients, and keeps its own address. */
static void routes(void **state)
{
	struct env *e = *state;

	run("ip addr del 192.0.2.1/24 dev brt");
	add(e, P0, 0);
	add(e, P1, 1);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_int_equal(open_for(e, P1, EPOCH(1), LONG_MS), 0);
	assert_true(output_has("ip route get 192.0.2.200 from 192.0.2.10", "dev brt"));
	assert_true(output_has("ip route get 192.0.2.200", "src 192.0.2.10"));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	until(has_addresses, 0, false);
	assert_true(output_has("ip route get 192.0.2.200", "src 192.0.2.11"));
	bridge_up();
	assert_true(output_has("ip route get 192.0.2.200", "src 192.0.2.1 "));
	expect(e, 1, true);
	assert_int_equal(vmp_gate_close(e->g, P1, EPOCH(1)), 0);
	until(has_addresses, 1, false);
	expect(e, 1, false);
	assert_false(output_has("ip route show", "2147483647"));
}

/* A NIC does as well as a bridge. */
static void plain_interface(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_spec sp;

	spec(&sp, 0);
	run("ip link add x0 type veth peer name x1; sysctl -qw net.ipv6.conf.x0.disable_ipv6=0; ip link set x0 up; ip link set x1 up");
	snprintf(sp.bridge, sizeof sp.bridge, "x0");
	sp.uplink[0] = '\0';
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(output_has("ip -br addr show x0", "192.0.2.10/32"));
	run("ip link set x1 down");
	assert_non_null(env_wait(e, VMP_GATE_EV_UPLINK_DOWN));
	run("ip link set x1 up");
	assert_non_null(env_wait(e, VMP_GATE_EV_UPLINK_UP));
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(output_has("ip -br addr show x0", "192.0.2.10"));
	assert_false(output_has("tc qdisc show dev x0", "clsact"));
}

static bool file_says(const char *path, const char *want)
{
	char text[8] = "";
	FILE *f = fopen(path, "re");

	if (!f)
		return false;
	if (!fgets(text, sizeof text, f))
		text[0] = '\0';
	fclose(f);
	return !strcmp(text, want);
}

static void until_file(const char *path, const char *want)
{
	for (uint64_t end = env_now() + 3000 * MS; !file_says(path, want); env_sleep_until(env_now() + MS))
		assert_true(env_now() < end);
}

static pid_t guard(const char *map, const char *file, int *ret_wake)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fds[0], STDIN_FILENO);
		execl(GUARD_PROGRAM, GUARD_PROGRAM, map, file, (char *)NULL);
		_exit(127);
	}
	close(fds[0]);
	*ret_wake = fds[1];
	return pid;
}

/* Somebody else moves the addresses: not touched, but gated; and the file that tells that somebody follows the word. */
static void moved_by_other(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "", map[256], dir[] = "/tmp/vmpair-guard-XXXXXX", file[64], path[128];
	struct vmp_gate_spec sp;
	int wake, wake2, status;
	pid_t first, second;
	uint64_t end;

	spec(&sp, 0);
	sp.kind = VMP_GATE_HOST_OTHER;
	put_addresses();
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_true(has_addresses(0));
	expect(e, 0, false);

	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/pair.0", dir);
	assert_int_equal(vmp_gate_word_path(e->g, "pair.0", map, sizeof map), 0);
	first = guard(map, file, &wake);
	until_file(file, "1\n");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_int_equal(write(wake, "", 1), 1);
	until_file(file, "0\n");
	expect(e, 0, true);
	/* Others write it (keepalived's init_file), or remove it: put right. */
	run("echo 1 > %s", file);
	until_file(file, "0\n");
	assert_int_equal(unlink(file), 0);
	until_file(file, "0\n");
	/* The successor of a restarted daemon ends the one before. */
	second = guard(map, file, &wake2);
	assert_int_equal(waitpid(first, &status, 0), first);
	assert_true(file_says(file, "0\n"));
	/* Nobody wakes it, nobody is there any more: the end of the lease is enough. */
	end = env_now() + 40 * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), 0);
	assert_int_equal(write(wake2, "", 1), 1);
	close(wake2);
	assert_int_equal(waitpid(second, &status, 0), second);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(env_now() >= end);
	assert_true(file_says(file, "1\n"));
	expect(e, 0, false);
	assert_true(has_addresses(0));
	close(wake);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_true(has_addresses(0));
	unlink(file);
	snprintf(path, sizeof path, "%s.guard", file);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

static void leaves_nothing(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";

	add(e, P0, 0);
	add(e, P1, 1);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_int_equal(open_for(e, P1, EPOCH(1), LONG_MS), 0);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(has_addresses(0));
	assert_int_not_equal(access(VMP_GATE_BPFFS "/pair%0", F_OK), 0);
	assert_false(output_has("nft list ruleset", "192.0.2.10"));
	assert_true(output_has("nft list ruleset", "192.0.2.11"));
	if (output_has("nft list table bridge vmpair", "owner"))
		assert_int_equal(vmp_gate_purge(NULL, reason, sizeof reason), -EBUSY);
	env_gate_stop(e);
	expect(e, 1, true);
	assert_int_equal(vmp_gate_purge(NULL, reason, sizeof reason), 0);
	assert_false(has_addresses(1));
	assert_false(output_has("nft list ruleset", "table"));
	assert_false(output_has("tc qdisc show dev brt", "clsact"));
	assert_int_not_equal(access(VMP_GATE_BPFFS, F_OK), 0);
	/* The last pair deleted takes the tables of this mode along. */
	env_gate_start(e);
	add(e, P0, 0);
	assert_true(output_has("nft list ruleset", "table inet vmpair"));
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(output_has("nft list ruleset", "table inet vmpair"));
	assert_false(output_has("nft list ruleset", "table arp vmpair"));
	assert_false(output_has("tc qdisc show dev brt", "clsact"));
	put_addresses();
	expect(e, 0, true);
}

static bool kernel_has_tcx(void)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int prog = vmp_tcbpf_prog_load(&vmp_tcbpf_port, map, -1, NULL, 0);

	return prog >= 0 && vmp_tcbpf_has_tcx(prog);
}

/* A live change that cannot be made: nothing of it goes on the interface, what was there stays, and is gated as it was. */
static void a_failed_change_changes_nothing(void **state)
{
	struct env *e = *state;
	struct vmp_gate_spec sp;
	uint8_t f[2048];
	int n;

	add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	run("ip addr add 192.0.2.11/24 dev c1"); /* taken by the host itself */
	spec(&sp, 1);
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, sp.addrs, sp.n_addrs), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_FAILED)->err, -EADDRINUSE);
	run("ip addr del 192.0.2.11/24 dev c1");
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	while (env_recv(e->outside, f, sizeof f, 0) >= 0)
		;
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	until(has_addresses, 0, true);
	assert_true(is_announced(e, of(0), bridge_mac));
	while ((n = env_recv(e->outside, f, sizeof f, 0)) >= 0)
		assert_false(from(f, n, ANY_FROM, AF_INET, of(1)->addrs[0].addr));
	assert_false(output_has("ip -br addr show brt", "192.0.2.11"));
	expect(e, 0, true);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(2)), 0);
	expect(e, 0, false);
	expect(e, 1, false);
	/* And can be made when nothing is in its way. */
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, sp.addrs, sp.n_addrs), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_int_equal(open_for(e, P0, EPOCH(3), LONG_MS), 0);
	until(has_addresses, 1, true);
	expect(e, 1, true);
	assert_false(has_addresses(0));
}

/* Our own address with another prefix is no foreign one, neither live nor after a restart. */
static void another_prefix(void **state)
{
	struct env *e = *state;
	struct vmp_gate_spec sp;
	char reason[VMP_GATE_REASON] = "";

	add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	spec(&sp, 0);
	sp.addrs[1].prefix = 112;
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, sp.addrs, sp.n_addrs), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	for (uint64_t end = env_now() + 3000 * MS; !output_has("ip -br addr show brt", "2001:db8::a/112");)
		assert_true(env_now() < end);
	assert_false(output_has("ip -br addr show brt", "2001:db8::a/64"));
	env_gate_stop(e);
	env_gate_start(e);
	spec(&sp, 0); /* and back meanwhile */
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_int_equal(env_count(e, VMP_GATE_EV_PORT_FAILED), 0);
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	until(has_addresses, 0, true);
	expect(e, 0, true);
}

/* What a daemon of another version has left cannot be taken over: its addresses, with their prefixes of then, and its filters go all the same. */
static void what_cannot_be_adopted(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_spec sp;

	spec(&sp, 0);
	sp.addrs[1].prefix = 112;
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	for (uint64_t end = env_now() + 3000 * MS; !output_has("ip -br addr show brt", "2001:db8::a/112");)
		assert_true(env_now() < end);
	env_gate_stop(e);
	run("rm %s/pair%%0/map", VMP_GATE_BPFFS);
	env_gate_start(e);
	add(e, P0, 0);
	assert_false(output_has("ip -br addr show brt", "2001:db8::a"));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	until(has_addresses, 0, true);
	expect(e, 0, true);
	env_gate_stop(e);
	run("rm %s/pair%%0/map", VMP_GATE_BPFFS);
	env_gate_start(e);
	assert_int_equal(vmp_gate_forget(e->g, P0, "pair.0"), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(output_has("ip -br addr show brt", "2001:db8::a"));
	assert_false(output_has("tc filter show dev brt ingress; tc filter show dev brt egress", "vmpair"));
}

/* A pair whose programs cannot be pinned takes back what it has made itself, and nothing of another pair on that interface. */
static void a_pair_that_fails_beside(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_spec sp;
	uint64_t end;

	add(e, P0, 0);
	end = env_now() + 1500 * MS;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), 0);
	run("mkdir %s/other %s/other/prog", VMP_GATE_BPFFS, VMP_GATE_BPFFS);
	spec(&sp, 1);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
	assert_true(env_wait(e, VMP_GATE_EV_PORT_FAILED)->err < 0);
	run("rmdir %s/other/prog; rmdir %s/other || true", VMP_GATE_BPFFS, VMP_GATE_BPFFS);
	env_sleep_until(end);
	expect(e, 0, false);
	assert_true(info(e, P0).armed); /* closed by its program alone */
	assert_int_equal(env_count(e, VMP_GATE_EV_PROGRAM_LOST), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(open_and_close),
		T(closed_with_address),
		T(expiry_cuts_off),
		T(several_pairs),
		T(other_interfaces),
		T(own_traffic),
		T(program_taken_off),
		T(foreign_flush),
		T(announces),
		T(addresses_change),
		T(address_refused),
		T(a_failed_change_changes_nothing),
		T(another_prefix),
		T(what_cannot_be_adopted),
		T(a_pair_that_fails_beside),
		T(interface_recreated),
		T(adoption),
		T(bad_specs),
		T(routes),
		T(plain_interface),
		T(moved_by_other),
		T(leaves_nothing),
#undef T
	};
	cpu_set_t one;
	/* One processor for test and worker: see answered(). */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
	env_process_init();
	tcx = kernel_has_tcx();
#ifdef GATE_TEST_CLSACT
	tcx = false;
	flags = VMP_GATE_FORCE_CLSACT | VMP_GATE_FORCE_NO_OWNER;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
