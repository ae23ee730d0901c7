/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate on the kernel this runs on: real bridge, taps, programs and ruleset. Built twice: as the kernel allows (TCX
 * links, fence with owner), and with the means of older kernels forced (clsact, fence without owner).
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <net/ethernet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

static int refuse_nft; /* so many transactions to come; the worker's thread counts down */
ssize_t __real_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t len)
{
	const struct nlmsghdr *h = buf;

	if (h->nlmsg_type == NFNL_MSG_BATCH_BEGIN && __atomic_load_n(&refuse_nft, __ATOMIC_SEQ_CST) > 0) {
		__atomic_fetch_sub(&refuse_nft, 1, __ATOMIC_SEQ_CST);
		errno = ENOBUFS;
		return -1;
	}
	return __real_mnl_socket_sendto(nl, buf, len);
}

static int refuse_mmap;
uint64_t *__real_vmp_tcbpf_map_mmap(int fd);
uint64_t *__wrap_vmp_tcbpf_map_mmap(int fd);
uint64_t *__wrap_vmp_tcbpf_map_mmap(int fd)
{
	if (refuse_mmap > 0) {
		refuse_mmap--;
		errno = ENOMEM;
		return NULL;
	}
	return __real_vmp_tcbpf_map_mmap(fd);
}

static unsigned int flags;
static bool tcx; /* what the gate is expected to use */

static int setup(void **state)
{
	struct env *e = malloc(sizeof *e);

	env_up(e, flags);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	env_down(*state);
	free(*state);
	return 0;
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

/* In both directions, without and with VLAN tags: the gate asks for nothing but the port. */
static void assert_passes(struct env *e, int guest, bool want)
{
	for (e->tags = 0; e->tags <= 2; e->tags++) {
		bool out = env_passes_out(e, guest), in = env_passes_in(e, guest);

		if (out != want || in != want)
			fail_msg("frames with %u tags: out %d, in %d, wanted %d", e->tags, out, in, want);
	}
	e->tags = 0;
}

static void open_and_close(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_passes(e, guest, false);
	assert_false(info(e, P0).armed);
	assert_int_equal(info(e, P0).tcx, tcx);

	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(info(e, P0).armed);
	assert_true(info(e, P0).open);
	assert_passes(e, guest, true);

	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_false(info(e, P0).armed);
	assert_passes(e, guest, false);
	assert_int_equal(info(e, P0).expiry_ns, 0);

	/* The binding log has it all, in order. */
	assert_int_equal(e->n_stores, 2);
	assert_int_equal(e->store[0].op, VMP_GATE_STORE_OPEN);
	assert_int_equal(e->store[0].epoch, EPOCH(1));
	assert_true(e->store[0].value_ns > e->store[0].boot_ns);
	assert_int_equal(e->store[1].op, VMP_GATE_STORE_CLOSE);
	assert_true(e->store[1].boot_ns >= e->store[0].boot_ns);
}

/* Nobody does anything, and the gate closes at the instant it was told. */
static void expiry_cuts_off(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	uint64_t end, last = 0;
	unsigned int passed = 0;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	end = env_now() + 60 * MS;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), 0);
	for (;;) {
		uint64_t before = env_now();

		if (!env_passes_out(e, guest)) {
			assert_true(env_now() >= end);
			break;
		}
		last = before;
		passed++;
	}
	assert_true(passed > 0);
	assert_true(last < end);
	assert_passes(e, guest, false); /* by the program alone: the port is armed still */
	assert_false(info(e, P0).open);
	/* A lapsed lease (H3) comes back by one store. */
	end = env_now() + LONG_MS * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), 0);
	assert_true(env_passes_out(e, guest));
	assert_true(env_passes_in(e, guest));
}

/* K2: the daemon computes an expiry, is stopped, and stores it late. */
static void late_store_is_harmless(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	CLEANUP_CLOSE int map = -1;
	uint64_t end, computed;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	end = env_now() + 20 * MS;
	computed = end;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), 0);
	env_sleep_until(end);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), computed, computed), -ETIME);
	/* And had the stop come after that check: the same store, straight into the map. */
	map = vmp_tcbpf_get(VMP_GATE_BPFFS "/pair%0/map");
	assert_true(map >= 0);
	assert_int_equal(vmp_tcbpf_map_set(map, computed), 0);
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
}

static void rules_of_storing(void **state)
{
	struct env *e = *state;
	uint64_t now, end;

	assert_int_equal(open_for(e, P0, EPOCH(1), 100), -ENOENT);
	env_add(e, P0, 0);
	now = env_now();
	end = now + LONG_MS * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), -ESTALE);
	assert_int_equal(vmp_gate_open(e->g, P0, 0, end, end), -ESTALE);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end + 1, end), -ERANGE);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), now, end), -ETIME);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), UINT64_MAX, UINT64_MAX), -ERANGE);
	assert_int_equal(info(e, P0).expiry_ns, 0);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(2), end, end), 0);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), -ESTALE);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(3), end, end), -ESTALE);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(2), end + 1, end), -ERANGE);
	/* A late close of an epoch before leaves this one alone; a re-claim (H5) goes on without closing. */
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_true(info(e, P0).open);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(4), end, end), 0);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(2), end, end), -ESTALE);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(4)), 0);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(4), end, end), -ESTALE);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(3), end, end), -ESTALE);
	assert_int_equal(vmp_gate_prepare(e->g, P0, EPOCH(3)), -ESTALE);
	assert_int_equal(info(e, P0).expiry_ns, 0);
	/* H3, K6: the same epoch again, until it is released (R1). */
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(4), end, end), 0);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(4), end, end), 0);
	assert_int_equal(vmp_gate_retire(e->g, P0, EPOCH(4)), 0);
	assert_int_equal(info(e, P0).expiry_ns, 0);
	assert_false(info(e, P0).armed);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(4), end, end), -ESTALE);
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(4), end, end), -ESTALE);
	assert_int_equal(vmp_gate_prepare(e->g, P0, EPOCH(4)), -ESTALE);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(4)), 0);
	assert_int_equal(vmp_gate_close(e->g, P0, 0), 0);
	assert_int_equal(vmp_gate_close(e->g, P1, EPOCH(4)), -ENOENT);
}

static void prepare_arms_and_opens_nothing(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(vmp_gate_prepare(e->g, P0, EPOCH(1)), 0);
	for (uint64_t until = env_now() + 3000 * MS; !info(e, P0).armed;)
		assert_true(env_now() < until);
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_false(info(e, P0).armed);
}

/* A stop and a start in one breath: the second does not find the first in its way. */
static void removed_and_added(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";
	CLEANUP_CLOSE int guest = -1;
	struct vmp_gate_spec sp;

	env_add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	env_spec(&sp, 0);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	sp.mac[5] = 0x77; /* nothing of the old port is taken over */
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), -EAGAIN);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_GONE));
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	guest = env_guest("tap0");
	assert_false(env_passes_out(e, guest));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	/* Added and taken back again. */
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_GONE));
	assert_false(try_run("ip link show tap0"));
}

static void two_pairs(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int a = -1;
	CLEANUP_CLOSE int b = -1;

	env_add(e, P0, 0);
	env_add(e, P1, 1);
	a = env_guest("tap0");
	b = env_guest("tap1");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(env_passes_out(e, a));
	assert_false(env_passes_out(e, b));
	assert_int_equal(open_for(e, P1, EPOCH(7), LONG_MS), 0);
	assert_true(env_passes_out(e, a));
	assert_true(env_passes_out(e, b));
	assert_true(env_passes_in(e, b));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_false(env_passes_out(e, a));
	assert_true(env_passes_out(e, b));
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_GONE));
	assert_true(env_passes_out(e, b));
}

static void bad_specs(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON];
	struct vmp_gate_spec sp;
	const struct env_event *ev;

	env_add(e, P0, 0);
	env_spec(&sp, 0);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EEXIST);
	env_spec(&sp, 1);
	memcpy(sp.mac, env_mac[0], 6);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EEXIST);
	env_spec(&sp, 1);
	sp.addrs[1].addr[15] = 10;
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EEXIST);
	assert_non_null(strstr(reason, "2001:db8::a"));
	env_spec(&sp, 1);
	sp.mac[0] = 1;
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EINVAL);
	env_spec(&sp, 1);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "../x", &sp, reason, sizeof reason), -EINVAL);
	snprintf(sp.tap, sizeof sp.tap, "a/b");
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), -EINVAL);
	env_spec(&sp, 0);
	snprintf(sp.tap, sizeof sp.tap, "tap5");
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), -EBUSY);

	env_spec(&sp, 1);
	snprintf(sp.bridge, sizeof sp.bridge, "nobridge");
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
	ev = env_wait(e, VMP_GATE_EV_PORT_FAILED);
	assert_non_null(ev);
	assert_int_equal(ev->pair_id, P1);
	assert_non_null(strstr(ev->reason, "nobridge"));
	assert_false(try_run("ip link show tap1"));

	/* A device that is no tap stays as it is. */
	run("ip link add tap1 type bridge");
	env_spec(&sp, 1);
	assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
	ev = env_wait(e, VMP_GATE_EV_PORT_FAILED);
	assert_non_null(ev);
	assert_int_equal(ev->err, -ENOTSUP);
	assert_non_null(strstr(ev->reason, "bridge"));
	assert_true(try_run("ip link show tap1"));
	assert_false(output_has("nft list table bridge vmpair", "tap1"));
	run("ip link del tap1");
	if (try_run("ip link add link up1 name tap1 type macvtap")) {
		assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
		ev = env_wait(e, VMP_GATE_EV_PORT_FAILED);
		assert_non_null(ev);
		assert_non_null(strstr(ev->reason, "macvtap"));
		run("ip link del tap1");
	}
	/* `ingress` and clsact exclude each other; TCX minds neither. */
	run("ip tuntap add tap1 mode tap");
	if (try_run("tc qdisc add dev tap1 ingress")) {
		assert_int_equal(vmp_gate_port_add(e->g, P1, "other", &sp, reason, sizeof reason), 0);
		ev = env_wait(e, !tcx ? VMP_GATE_EV_PORT_FAILED : VMP_GATE_EV_PORT_READY);
		assert_non_null(ev);
		if (!tcx) {
			assert_int_equal(ev->err, -EEXIST);
			assert_non_null(strstr(ev->reason, "ingress"));
		}
	}
}

static void moves_fdb(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	uint8_t frame[60] = { 0 };

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	/* The bridge has learned that the entry is beyond the uplink. */
	memset(frame, 0xff, 6);
	memcpy(frame + 6, env_mac[0], 6);
	frame[12] = 0x88;
	frame[13] = 0xb5;
	env_send_outside(e, frame, sizeof frame);
	assert_true(output_has("bridge fdb show br brt", "52:54:00:aa:00:01 dev up0"));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(output_has("bridge fdb show br brt", "52:54:00:aa:00:01 dev tap0"));
	assert_false(output_has("bridge fdb show br brt", "52:54:00:aa:00:01 dev up0"));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	/* Its removal comes after the confirmation: nothing waits for it. */
	for (uint64_t until = env_now() + 3000 * MS; output_has("bridge fdb show br brt", "52:54:00:aa:00:01");)
		assert_true(env_now() < until);
	/* A guest behind a closed gate is not learned. */
	assert_false(env_passes_out(e, guest));
	assert_false(output_has("bridge fdb show br brt", "52:54:00:aa:00:01 dev tap0"));
}

/* As env_recv, of ARP and neighbour advertisements only: the kernel, too, says something now and then (IGMP, MLD). */
static int recv_announcement(int fd, uint8_t *buf, int cap, int ms)
{
	for (;;) {
		int n = env_recv(fd, buf, cap, ms);

		if (n < 0 || (n > 13 && buf[12] == 0x08 && buf[13] == 0x06) ||
		    (n > 54 && buf[12] == 0x86 && buf[13] == 0xdd && buf[20] == 58 && buf[54] == 136))
			return n;
	}
}

static void expect_announcement(struct env *e, unsigned int n)
{
	uint8_t want[3][VMP_ANNOUNCE_NA_LEN], got[2048];
	static const int len[3] = { VMP_ANNOUNCE_ARP_LEN, VMP_ANNOUNCE_ARP_LEN, VMP_ANNOUNCE_NA_LEN };
	struct vmp_gate_spec sp;

	env_spec(&sp, n);
	vmp_announce_arp(want[0], sp.mac, sp.addrs[0].addr, 1);
	vmp_announce_arp(want[1], sp.mac, sp.addrs[0].addr, 2);
	vmp_announce_na(want[2], sp.mac, sp.addrs[1].addr);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(recv_announcement(e->outside, got, sizeof got, 3000), len[i]);
		assert_memory_equal(got, want[i], (size_t)len[i]);
	}
}

static void drain(int fd)
{
	uint8_t buf[2048];

	while (env_recv(fd, buf, sizeof buf, 0) >= 0)
		;
}

static void announces(void **state)
{
	struct env *e = *state;
	uint8_t buf[2048];
	uint64_t start;
	const struct env_event *ev;

	env_add(e, P0, 0);
	drain(e->outside);
	assert_true(vmp_gate_deadline(e->g) == VMP_GATE_NEVER);
	start = env_now();
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	expect_announcement(e, 0);
	for (unsigned int i = 1; i < VMP_ANNOUNCE_REPEATS; i++) {
		uint64_t at = vmp_gate_deadline(e->g), nominal = start + vmp_announce_repeat_ms[i] * MS;

		assert_true(at >= nominal && at < nominal + 1000 * MS);
		vmp_gate_tick(e->g, at - 1);
		assert_int_equal(recv_announcement(e->outside, buf, sizeof buf, 0), -1);
		vmp_gate_tick(e->g, at);
		expect_announcement(e, 0);
	}
	assert_true(vmp_gate_deadline(e->g) == VMP_GATE_NEVER);
	/* The link to the switch goes and comes back: the switch may be another one, or have forgotten. */
	run("ip link set up1 down");
	assert_non_null(env_wait(e, VMP_GATE_EV_UPLINK_DOWN));
	run("ip link set up1 up");
	ev = env_wait(e, VMP_GATE_EV_UPLINK_UP);
	assert_non_null(ev);
	assert_int_equal(ev->pair_id, P0);
	expect_announcement(e, 0);
	assert_true(vmp_gate_deadline(e->g) != VMP_GATE_NEVER);
	/* Closed: no further word about it. */
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_true(vmp_gate_deadline(e->g) == VMP_GATE_NEVER);
	vmp_gate_tick(e->g, env_now() + 60000 * MS);
	assert_int_equal(recv_announcement(e->outside, buf, sizeof buf, 0), -1);
}

/* Without a named uplink every port of the bridge that is not a tap is one; a lapsed lease is not announced. */
static void announces_on_found_uplinks(void **state)
{
	struct env *e = *state;
	struct vmp_gate_spec sp;
	char reason[VMP_GATE_REASON];
	uint8_t buf[2048], want[VMP_ANNOUNCE_ARP_LEN];
	struct vmp_gate_addr a[1] = { { .family = AF_INET, .addr = { 198, 51, 100, 1 } } };
	uint64_t end;

	env_spec(&sp, 0);
	sp.uplink[0] = '\0';
	assert_int_equal(vmp_gate_port_add(e->g, P0, "p", &sp, reason, sizeof reason), 0);
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	drain(e->outside);
	drain(e->bystander);
	end = env_now() + 500 * MS;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), 0);
	assert_int_equal(recv_announcement(e->outside, buf, sizeof buf, 3000), VMP_ANNOUNCE_ARP_LEN);
	assert_int_equal(recv_announcement(e->bystander, buf, sizeof buf, 3000), VMP_ANNOUNCE_ARP_LEN);
	env_sleep_until(end);
	drain(e->outside);
	vmp_gate_tick(e->g, env_now() + 60000 * MS);
	assert_int_equal(recv_announcement(e->outside, buf, sizeof buf, 0), -1);
	/* Addresses change live; the new ones are announced at once. */
	end = env_now() + LONG_MS * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), 0);
	assert_int_equal(vmp_gate_port_addrs(e->g, P0, a, 1), 0);
	vmp_announce_arp(want, sp.mac, a[0].addr, 1);
	assert_int_equal(recv_announcement(e->outside, buf, sizeof buf, 3000), VMP_ANNOUNCE_ARP_LEN);
	assert_memory_equal(buf, want, sizeof want);
}

static void foreign_flush(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	unsigned int n = 0;
	bool owned;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	owned = output_has("nft list table bridge vmpair", "owner");
	assert_false(owned && (flags & VMP_GATE_FORCE_NO_OWNER));
	run("nft flush ruleset");
	if (owned) {
		/* owner+persist: a flush does not reach it. */
		assert_true(output_has("nft list table bridge vmpair", "tap0"));
		assert_false(try_run("nft delete table bridge vmpair"));
		assert_false(env_passes_out(e, guest));
		assert_int_equal(env_count(e, VMP_GATE_EV_FENCE_LOST), 0);
		return;
	}
	/* Closed and unarmed, and nothing passes while the fence is away and while it comes back. */
	do {
		assert_false(env_passes_out(e, guest));
		assert_false(env_passes_in(e, guest));
		env_pump(e);
		n++;
	} while (!env_count(e, VMP_GATE_EV_FENCE_RESTORED) && n < 100000);
	assert_int_equal(env_count(e, VMP_GATE_EV_FENCE_LOST), 1);
	assert_int_equal(env_count(e, VMP_GATE_EV_FENCE_RESTORED), 1);
	assert_true(output_has("nft list table bridge vmpair", "tap0"));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	/* Changes from inside the table count as well. The second loss within a minute: alarm, port disabled. */
	assert_int_equal(env_count(e, VMP_GATE_EV_ALARM), 0);
	run("nft flush chain bridge vmpair pre");
	assert_non_null(env_wait(e, VMP_GATE_EV_ALARM));
	assert_true(info(e, P0).alarm);
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
	assert_true(output_has("bridge link show dev tap0", "state disabled"));
	assert_true(output_has("nft list table bridge vmpair", "iifname @gated"));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), -EREMOTEIO);
	/* Foreign tables are nobody's business. */
	run("nft add table bridge vmpair2; nft add table inet vmpair; nft flush table inet vmpair");
	env_add(e, P0, 0);
	assert_int_equal(env_count(e, VMP_GATE_EV_FENCE_LOST), 2);
	assert_false(info(e, P0).alarm);
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
}

static void take_program_off(void)
{
	if (!tcx) {
		run("tc qdisc del dev tap0 clsact");
	} else {
		CLEANUP_CLOSE int l = vmp_tcbpf_get(VMP_GATE_BPFFS "/pair%0/ingress");

		assert_true(l >= 0);
		assert_int_equal(vmp_tcbpf_link_detach(l), 0);
	}
}

static void program_taken_off(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	/* Closed: the fence holds alone. */
	take_program_off();
	do {
		assert_false(env_passes_out(e, guest));
		assert_false(env_passes_in(e, guest));
		env_pump(e);
	} while (!env_count(e, VMP_GATE_EV_PROGRAM_RESTORED));
	assert_int_equal(env_count(e, VMP_GATE_EV_PROGRAM_LOST), 1);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	assert_true(env_passes_in(e, guest));
	/* Twice within a minute. */
	take_program_off();
	assert_non_null(env_wait(e, VMP_GATE_EV_ALARM));
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
	assert_true(output_has("bridge link show dev tap0", "state disabled"));
	assert_false(info(e, P0).armed);
	/* The operator has mended it. */
	env_add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	assert_true(env_passes_in(e, guest));
}

static void program_taken_off_open_port(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	uint64_t end;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	take_program_off();
	assert_non_null(env_wait(e, VMP_GATE_EV_PROGRAM_RESTORED));
	assert_true(info(e, P0).armed);
	assert_true(env_passes_out(e, guest));
	/* And the program that came back obeys the word. */
	end = env_now() + 10 * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), 0);
	env_sleep_until(end);
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
}

static void recreate_tap(void)
{
	run("ip link del tap0; ip tuntap add tap0 mode tap; ip link set tap0 master brt; ip link set tap0 up");
}

static void tap_recreated(void **state)
{
	struct env *e = *state;
	int guest;
	int before;
	uint64_t end;

	env_add(e, P0, 0);
	before = info(e, P0).ifindex;
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	recreate_tap();
	guest = env_guest("tap0");
	assert_non_null(env_wait(e, VMP_GATE_EV_TAP_RECREATED));
	assert_int_not_equal(info(e, P0).ifindex, before);
	assert_true(env_passes_out(e, guest));
	for (uint64_t until = env_now() + 3000 * MS;
	     !output_has("bridge fdb show br brt", "52:54:00:aa:00:01 dev tap0");)
		assert_true(env_now() < until);
	end = env_now() + 5 * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), 0);
	env_sleep_until(end);
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
	close(guest);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);

	/* Closed: not one frame of the new device passes, from its first on. */
	recreate_tap();
	guest = env_guest_now("tap0");
	for (;;) {
		assert_false(env_passes_out(e, guest));
		assert_false(env_passes_in(e, guest));
		env_pump(e);
		if (env_count(e, VMP_GATE_EV_TAP_RECREATED) == 2)
			break;
	}
	close(guest);
}

/* Nobody is there to attach anything: the fence alone keeps the new device shut, lease or no lease. */
static void tap_recreated_without_daemon(void **state)
{
	struct env *e = *state;
	int guest;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	env_gate_stop(e);
	assert_true(env_passes_out(e, guest)); /* as long as its lease lives */
	close(guest);
	recreate_tap();
	guest = env_guest("tap0");
	assert_passes(e, guest, false);
	/* Back again: new device, old word; not adopted as open. */
	env_gate_start(e);
	env_add(e, P0, 0);
	assert_false(info(e, P0).armed);
	assert_false(env_passes_out(e, guest));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	close(guest);
}

/* A virtual machine that was moved here by hand brings its entry port along: nobody has gated it, and it is shut all the same. */
static void tap_of_nobody(void **state)
{
	struct env *e = *state;

	for (int of_pair = 0; of_pair < 2; of_pair++) {
		const char *tap = of_pair ? "vpe0123456789" : "vp0";
		CLEANUP_CLOSE int guest = -1;

		run("ip tuntap add %s mode tap; ip link set %s master brt; ip link set %s up", tap, tap, tap);
		guest = env_guest(tap);
		assert_int_equal(env_passes_out(e, guest), !of_pair);
		assert_int_equal(env_passes_in(e, guest), !of_pair);
	}
}

static void tap_deleted(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	run("ip link del tap0");
	assert_non_null(env_wait(e, VMP_GATE_EV_TAP_LOST));
	assert_int_equal(info(e, P0).ifindex, 0);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_false(env_passes_out(e, guest));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
}

static void tap_renamed(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	run("ip link set tap0 down; ip link set tap0 name stolen; ip link set stolen up");
	assert_non_null(env_wait(e, VMP_GATE_EV_ALARM));
	assert_true(output_has("nft list table bridge vmpair", "stolen"));
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	/* Given back. */
	run("ip link set stolen down; ip link set stolen name tap0; ip link set tap0 up");
	env_add(e, P0, 0);
	assert_false(output_has("nft list table bridge vmpair", "stolen"));
	close(TAKE_FD(guest));
	guest = env_guest("tap0");
	assert_false(env_passes_out(e, guest));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	/* Replaced while it is away. */
	run("ip link set tap0 down; ip link set tap0 name stolen; ip link set stolen up");
	run("ip tuntap add tap0 mode tap; ip link set tap0 master brt; ip link set tap0 up");
	assert_non_null(env_wait(e, VMP_GATE_EV_TAP_RECREATED));
	assert_false(env_passes_out(e, guest));
	assert_false(env_passes_in(e, guest));
	run("ip link del stolen");
}

static void adoption(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	uint64_t end, word;
	int ifindex;

	env_add(e, P0, 0);
	env_add(e, P1, 1);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	word = info(e, P0).expiry_ns;
	ifindex = info(e, P0).ifindex;
	env_gate_stop(e);
	assert_true(env_passes_out(e, guest));
	env_gate_start(e);
	/* Restarted within the lease: not a frame is lost, before and after the port is claimed. */
	assert_true(env_passes_out(e, guest));
	assert_true(env_passes_in(e, guest));
	assert_non_null(vmp_gate_leftover(e->g, 0));
	assert_non_null(vmp_gate_leftover(e->g, 1));
	e->n_stores = 0;
	env_add(e, P0, 0);
	assert_true(env_passes_out(e, guest));
	assert_true(info(e, P0).open);
	assert_int_equal(info(e, P0).expiry_ns, word);
	assert_int_equal(info(e, P0).ifindex, ifindex);
	assert_int_equal(e->n_stores, 1);
	assert_int_equal(e->store[0].op, VMP_GATE_STORE_ADOPT);
	assert_int_equal(e->store[0].value_ns, word);
	/* K5: nothing is stored until somebody opens with fresh acks. */
	end = env_now() + LONG_MS * MS;
	assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(1), end, end), -ESTALE);
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(1), end, end), 0);
	assert_true(env_passes_out(e, guest));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_false(env_passes_out(e, guest));
	/* The other pair has not been claimed by anybody. */
	assert_string_equal(vmp_gate_leftover(e->g, 0), "pair.1");
	assert_null(vmp_gate_leftover(e->g, 1));
	assert_int_equal(vmp_gate_forget(e->g, P1, "pair.1"), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(try_run("ip link show tap1"));
	assert_int_not_equal(access(VMP_GATE_BPFFS "/pair%1", F_OK), 0);
	/* Stopped while closed, and after its lease: adopted as closed, disarmed. */
	end = env_now() + 5 * MS;
	assert_int_equal(vmp_gate_open(e->g, P0, EPOCH(2), end, end), 0);
	env_gate_stop(e);
	env_sleep_until(end);
	env_gate_start(e);
	env_add(e, P0, 0);
	assert_false(info(e, P0).armed);
	assert_false(env_passes_out(e, guest));
}

/* Closed before anybody claimed the port, or while it is being taken over: the word of the daemon before is 0 then, too. */
static void closed_before_it_is_ready(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	char reason[VMP_GATE_REASON] = "";
	struct rlimit files, none;
	struct vmp_gate_spec sp;
	int r, forgotten;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	env_gate_stop(e);
	env_gate_start(e);
	env_spec(&sp, 0);
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	r = vmp_gate_close(e->g, P0, EPOCH(1));
	assert_true(r == 0 || r == -EINPROGRESS);
	assert_false(env_passes_out(e, guest));
	assert_non_null(env_wait(e, VMP_GATE_EV_PORT_READY));
	assert_int_equal(info(e, P0).expiry_ns, 0);
	if (r)
		assert_non_null(env_wait(e, VMP_GATE_EV_CLOSED));
	assert_int_equal(vmp_gate_prepare(e->g, P0, EPOCH(2)), 0);	/* armed, and nothing passes */
	assert_false(env_passes_out(e, guest));

	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	env_gate_stop(e);
	env_gate_start(e);
	assert_true(env_passes_out(e, guest));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(2)), -ENOENT);
	assert_true(env_passes_out(e, guest));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);	/* it cannot be looked at: that is no close */
	none = (struct rlimit){ .rlim_max = files.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = vmp_gate_close_unclaimed(e->g, "pair.0");
	forgotten = vmp_gate_forget(e->g, P0, "pair.0");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(forgotten, -EMFILE);
	assert_true(env_passes_out(e, guest));
	assert_int_equal(vmp_gate_close_unclaimed(e->g, "pair.0"), 0);
	assert_false(env_passes_out(e, guest));
	assert_true(if_nametoindex("tap0"));	/* a guest may have it */
	assert_int_equal(vmp_gate_forget(e->g, P0, "pair.0"), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_int_equal(vmp_gate_close_unclaimed(e->g, "pair.0"), 0);
}

/* The port stands and its word cannot be mapped: the worker keeps what it has made, and the next try has it. */
static void word_not_mapped(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";
	struct vmp_gate_spec sp;

	env_spec(&sp, 0);
	refuse_mmap = 1;
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	for (uint64_t end = env_now() + 5000 * MS; !env_count(e, VMP_GATE_EV_PORT_FAILED) && env_now() < end;)
		env_pump(e);
	assert_int_equal(refuse_mmap, 0);
	assert_int_equal(env_count(e, VMP_GATE_EV_PORT_FAILED), 1);
	assert_false(info(e, P0).ready);
	run("ip link set brt down; ip link set brt name brx"); /* nor does the next try, for another reason */
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	for (uint64_t end = env_now() + 5000 * MS; env_count(e, VMP_GATE_EV_PORT_FAILED) < 2 && env_now() < end;)
		env_pump(e);
	run("ip link set brx name brt; ip link set brt up");
	assert_false(info(e, P0).ready);
	env_add(e, P1, 1); /* not in its place */
	assert_int_equal(vmp_gate_port_add(e->g, P0, "pair.0", &sp, reason, sizeof reason), 0);
	for (uint64_t end = env_now() + 5000 * MS; !info(e, P0).ready && env_now() < end;)
		env_pump(e);
	assert_true(output_has("ip link show master brt", "tap0"));
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(info(e, P0).open);
	assert_int_equal(open_for(e, P1, EPOCH(1), LONG_MS), 0);
}

/* An arm that the kernel refuses is tried again until it is done, and is nothing to another port, which closes as ever. */
static void fence_refuses(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	uint64_t end;

	env_add(e, P0, 0);
	env_add(e, P1, 1);
	guest = env_guest("tap0");
	__atomic_store_n(&refuse_nft, 1000000, __ATOMIC_SEQ_CST);
	assert_int_equal(vmp_gate_prepare(e->g, P0, EPOCH(1)), 0);
	for (end = env_now() + 5000 * MS; __atomic_load_n(&refuse_nft, __ATOMIC_SEQ_CST) > 999990 && env_now() < end;)
		env_pump(e);
	assert_int_equal(vmp_gate_close(e->g, P1, 0), 0); /* it was never open */
	assert_false(info(e, P0).armed);
	assert_int_equal(env_count(e, VMP_GATE_EV_ALARM), 0);
	__atomic_store_n(&refuse_nft, 0, __ATOMIC_SEQ_CST);
	for (end = env_now() + 5000 * MS; !info(e, P0).armed && env_now() < end;)
		env_pump(e);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), 0);
	assert_false(env_passes_out(e, guest));
}

/* A close behind a removal does not take its place: the port goes, and that says so. */
static void closed_while_it_is_removed(void **state)
{
	struct env *e = *state;

	env_add(e, P0, 0);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), -EINPROGRESS);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_int_equal(if_nametoindex("tap0"), 0);
	assert_int_equal(vmp_gate_close(e->g, P0, EPOCH(1)), -ENOENT);
}

/* The program was changed while nobody watched: what is adopted must be ours. */
static void adoption_of_tampered(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	env_gate_stop(e);
	take_program_off();
	env_gate_start(e);
	assert_false(env_passes_out(e, guest));
	env_add(e, P0, 0);
	assert_false(info(e, P0).armed);
	assert_false(env_passes_out(e, guest));
	assert_int_equal(open_for(e, P0, EPOCH(2), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	assert_true(env_passes_in(e, guest));
}

static void leaves_nothing(void **state)
{
	struct env *e = *state;
	char reason[VMP_GATE_REASON] = "";
	CLEANUP_CLOSE int guest = -1;

	env_add(e, P0, 0);
	env_add(e, P1, 1);
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_int_equal(vmp_gate_port_del(e->g, P0), 0);
	assert_int_equal(env_wait(e, VMP_GATE_EV_PORT_GONE)->err, 0);
	assert_false(try_run("ip link show tap0"));
	assert_int_not_equal(access(VMP_GATE_BPFFS "/pair%0", F_OK), 0);
	assert_false(output_has("nft list table bridge vmpair", "tap0"));
	assert_false(output_has("bridge fdb show br brt", "52:54:00:aa:00:01"));
	assert_true(output_has("nft list table bridge vmpair", "tap1"));
	if (output_has("nft list table bridge vmpair", "owner"))
		assert_int_equal(vmp_gate_purge(NULL, reason, sizeof reason), -EBUSY);
	/* Again, as a new pair of the same name. */
	env_add(e, P0, 0);
	guest = env_guest("tap0");
	assert_int_equal(open_for(e, P0, EPOCH(1), LONG_MS), 0);
	assert_true(env_passes_out(e, guest));
	env_gate_stop(e);
	assert_int_equal(vmp_gate_purge(NULL, reason, sizeof reason), 0);
	assert_false(try_run("ip link show tap0"));
	assert_false(try_run("ip link show tap1"));
	assert_false(output_has("nft list ruleset", "table"));
	assert_int_not_equal(access(VMP_GATE_BPFFS, F_OK), 0);
	assert_int_equal(vmp_gate_purge(NULL, reason, sizeof reason), 0);
}

/* While others load large rulesets the loop is not held up, and each close is confirmed in the end. */
static void foreign_load(void **state)
{
	struct env *e = *state;
	CLEANUP_CLOSE int guest = -1;
	uint64_t worst_refresh = 0;

	env_add(e, P0, 0);
	guest = env_guest("tap0");
	run("f=$(mktemp); { echo 'table ip big { set s { type ipv4_addr; elements = {'; i=0; while [ $i -lt 20000 ]; do "
	    "echo \"10.1.$((i / 256)).$((i %% 256)),\"; i=$((i + 1)); done; echo '10.2.0.1 } }'; echo '}'; } > $f; "
	    "(for i in 1 2 3; do nft -f $f; nft delete table ip big; done; rm -f $f) >/dev/null 2>&1 & ");
	for (unsigned int i = 1; i <= 50; i++) {
		uint64_t end = env_now() + LONG_MS * MS, t;
		int r = vmp_gate_open(e->g, P0, EPOCH(i), end, end);

		assert_true(!r || r == -EINPROGRESS);
		if (r)
			assert_non_null(env_wait(e, VMP_GATE_EV_OPENED));
		assert_true(env_passes_out(e, guest));
		t = env_now();
		assert_int_equal(vmp_gate_refresh(e->g, P0, EPOCH(i), end, end), 0);
		t = env_now() - t;
		worst_refresh = t > worst_refresh ? t : worst_refresh;
		r = vmp_gate_close(e->g, P0, EPOCH(i));
		assert_true(!r || r == -EINPROGRESS);
		assert_false(env_passes_out(e, guest)); /* by the word, at once */
		if (r) {
			const struct env_event *ev = env_wait(e, VMP_GATE_EV_CLOSED);

			assert_non_null(ev);
			assert_int_equal(ev->epoch, EPOCH(i));
		}
		assert_false(info(e, P0).armed);
	}
	printf("# worst refresh %.3f ms\n", (double)worst_refresh / 1e6);
	assert_int_equal(env_count(e, VMP_GATE_EV_FENCE_LOST), 0);
}

static bool kernel_has_tcx(void)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int prog = vmp_tcbpf_prog_load(&vmp_tcbpf_port, map, -1, NULL, 0);

	return prog >= 0 && vmp_tcbpf_has_tcx(prog);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(open_and_close),
		T(expiry_cuts_off),
		T(late_store_is_harmless),
		T(rules_of_storing),
		T(prepare_arms_and_opens_nothing),
		T(removed_and_added),
		T(two_pairs),
		T(bad_specs),
		T(moves_fdb),
		T(announces),
		T(announces_on_found_uplinks),
		T(foreign_flush),
		T(program_taken_off),
		T(program_taken_off_open_port),
		T(tap_recreated),
		T(tap_recreated_without_daemon),
		T(tap_of_nobody),
		T(tap_deleted),
		T(tap_renamed),
		T(adoption),
		T(closed_before_it_is_ready),
		T(closed_while_it_is_removed),
		T(fence_refuses),
		T(word_not_mapped),
		T(adoption_of_tampered),
		T(leaves_nothing),
		T(foreign_load),
#undef T
	};
	cpu_set_t one;
	/* One processor for test and worker: see env_passes_out. */
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
