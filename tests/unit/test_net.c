/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real sockets on the loopback; time is a counter of the test where it matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/net.h"
#include "daemon/wire.h"
#include "tests/unit/msggen.h"

#define END_MAX 4

struct end {
	struct vmp_net *net;
	uint8_t node;
	unsigned int messages, sessions, reports;
	uint8_t last_from;
	struct vmp_msg last;
	uint64_t session_inc;
	unsigned int report_cause[VMP_NET_CAUSE_COUNT];
	uint64_t report_count[VMP_NET_CAUSE_COUNT];
	uint8_t report_node;
	int report_err;
	char report_from[80];
	unsigned int replies;	/* to each message, from within the callback */
	bool forget;		/* and then remove its sender */
};

static uint64_t clock_now = 1000000000ULL;

static uint64_t test_now(void)
{
	return clock_now;
}

static void on_message(void *ctx, uint8_t from, uint64_t now_ns, const struct vmp_msg *msg)
{
	struct end *e = ctx;

	assert_int_equal(now_ns, clock_now);
	e->messages++;
	e->last_from = from;
	e->last = *msg;
	for (unsigned int i = 0; i < e->replies; i++)
		assert_int_equal(vmp_net_send(e->net, from, msg), 0);
	if (e->forget)
		assert_int_equal(vmp_net_peer_del(e->net, from), 0);
}

static void on_session(void *ctx, uint8_t node, uint64_t inc)
{
	struct end *e = ctx;
	struct vmp_msg m;

	e->sessions++;
	e->session_inc = inc;
	/* It can be used at once. */
	gen_msg(&m, VMP_MSG_READ, false);
	m.u.read.nonce = 4711;
	assert_int_equal(vmp_net_send(e->net, node, &m), 0);
}

static void on_report(void *ctx, uint8_t node, unsigned int cause, uint64_t count, int err, const char *address)
{
	struct end *e = ctx;

	e->reports++;
	e->report_cause[cause]++;
	e->report_count[cause] += count;
	e->report_node = node;
	e->report_err = err;
	snprintf(e->report_from, sizeof(e->report_from), "%s", address);
}

static const struct vmp_net_ops ops = { on_message, on_session, on_report };

static struct vmp_keys keys_make(uint8_t seed)
{
	struct vmp_keys k = { .count = 1 };

	k.key[0].id = 1;
	for (unsigned int i = 0; i < VMP_KEY_LEN; i++)
		k.key[0].secret[i] = (uint8_t)(seed + i);
	return k;
}

static void end_open(struct end *e, uint8_t node, uint64_t inc, uint16_t port, const struct vmp_keys *keys)
{
	struct vmp_net_param param = { .self = node, .inc = inc, .port = port, .keys = keys, .now_ns = test_now };
	char reason[256] = "";
	int r;

	memset(e, 0, sizeof(*e));
	e->node = node;
	r = vmp_net_new(&e->net, &param, &ops, e, reason, sizeof(reason));
	if (r < 0)
		fail_msg("vmp_net_new: %s", reason);
}

static void end_peer(struct end *e, const struct end *other, const char *a, const char *b)
{
	struct vmp_net_addr addr[2];

	assert_int_equal(vmp_net_addr_parse(a, vmp_net_port(other->net), &addr[0]), 0);
	if (b)
		assert_int_equal(vmp_net_addr_parse(b, vmp_net_port(other->net), &addr[1]), 0);
	assert_int_equal(vmp_net_peer_set(e->net, other->node, addr, b ? 2 : 1), 0);
}

/* Datagrams sent by others than the ends below: raw ones, and the balance of ends that are gone. */
static int64_t outside;

static int64_t balance(const struct end *e)
{
	struct vmp_net_peer_stats st;
	int64_t sum = 0;

	for (unsigned int node = 0; node <= END_MAX; node++) {
		if (vmp_net_peer_stats(e->net, (uint8_t)node, &st) < 0)
			continue;
		for (unsigned int i = 0; i < VMP_NET_LINKS; i++)
			sum += (int64_t)st.link[i].tx;
		for (unsigned int c = 0; c < VMP_SEAL_CAUSE_COUNT; c++)
			sum -= (int64_t)st.causes[c];
	}
	return sum;
}

/* Run all until every datagram that left has arrived, and so has all it led to. */
static void settle(struct end **e, unsigned int n)
{
	for (unsigned int tries = 0; tries < 5000; tries++) {
		struct pollfd p[END_MAX];
		int64_t under_way = outside;

		for (unsigned int i = 0; i < n; i++) {
			assert_true(vmp_net_dispatch(e[i]->net) >= 0);
			p[i] = (struct pollfd){ vmp_net_fd(e[i]->net), POLLIN, 0 };
		}
		for (unsigned int i = 0; i < n; i++)
			under_way += balance(e[i]);
		if (!under_way)
			return;
		poll(p, n, 1);
	}
	fail_msg("datagrams were lost on the loopback");
}

static int begin(void **state)
{
	(void)state;
	outside = 0;
	return 0;
}

static void meet(struct end *a, struct end *b)
{
	struct end *both[] = { a, b };
	struct vmp_msg m;

	gen_msg(&m, VMP_MSG_READ, false);
	assert_int_equal(vmp_net_send(a->net, b->node, &m), -ENOTCONN);
	settle(both, 2);
	assert_true(a->sessions && b->sessions);
}

/* Ends 1 and 2, which know each other. */
static void pair_open(struct end *a, struct end *b, const struct vmp_keys *keys)
{
	end_open(a, 1, 0xa1, 0, keys);
	end_open(b, 2, 0xb1, 0, keys);
	end_peer(a, b, "127.0.0.1", NULL);
	end_peer(b, a, "127.0.0.1", NULL);
	meet(a, b);
}

static void exchange(const char *a_addr, const char *a_addr2, const char *b_addr, const char *b_addr2)
{
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_peer_stats st;
	struct end a, b, *both[] = { &a, &b };
	struct vmp_msg m;

	end_open(&a, 1, 0xa1, 0, &keys);
	end_open(&b, 2, 0xb1, 0, &keys);
	end_peer(&a, &b, b_addr, b_addr2);
	end_peer(&b, &a, a_addr, a_addr2);
	meet(&a, &b);
	assert_int_equal(a.session_inc, 0xb1);
	assert_int_equal(b.session_inc, 0xa1);
	/* What each sent from its session callback arrived. */
	assert_int_equal(a.messages, 1);
	assert_int_equal(b.messages, 1);
	assert_int_equal(b.last.u.read.nonce, 4711);

	for (unsigned int type = 1; type < VMP_MSG_COUNT; type++) {
		gen_msg(&m, type, true);
		assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
		settle(both, 2);
		assert_int_equal(b.messages, 1 + type);
		assert_int_equal(b.last_from, 1);
		assert_memory_equal(&m, &b.last, sizeof(m));
	}
	b.replies = 1;
	gen_msg(&m, VMP_MSG_HEARTBEAT, false);
	assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	settle(both, 2);
	assert_int_equal(a.messages, 2);
	assert_memory_equal(&m, &a.last, sizeof(m));

	assert_int_equal(vmp_net_peer_stats(b.net, 1, &st), 0);
	assert_int_equal(st.inc, 0xa1);
	assert_int_equal(st.rx, VMP_MSG_COUNT + 1);
	assert_int_equal(st.links, a_addr2 ? 2 : 1);
	assert_int_equal(st.causes[VMP_SEAL_DUPLICATE], a_addr2 ? VMP_MSG_COUNT + 1 : 0);
	assert_int_equal(st.last_rx_ns, clock_now);
	assert_true(st.link[0].rx > 0 && st.link[0].tx > 0);
	assert_int_equal(st.link[0].tx_errors, 0);
	assert_int_equal(a.reports + b.reports, 0);
	assert_int_equal(vmp_net_peer_stats(b.net, 9, &st), -ENOENT);
	vmp_net_free(a.net);
	vmp_net_free(b.net);
}

/* What is sent to a peer while datagrams are worked off leaves in as few of them as it fits into. */
static void joined(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_peer_stats before, st;
	struct end a, b, *both[] = { &a, &b };
	uint8_t buf[VMP_WIRE_MAX];
	struct vmp_msg m;
	int len;

	(void)state;
	pair_open(&a, &b, &keys);
	gen_msg(&m, VMP_MSG_TABLE, true);
	len = vmp_wire_encode(&m, buf, sizeof(buf));
	assert_true(len > 0);
	assert_int_equal(vmp_net_peer_stats(b.net, 1, &before), 0);
	b.replies = 40;
	a.messages = 0;
	assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	settle(both, 2);
	assert_int_equal(a.messages, 40);
	assert_memory_equal(&m, &a.last, sizeof(m));
	assert_int_equal(vmp_net_peer_stats(b.net, 1, &st), 0);
	assert_int_equal(st.tx - before.tx, 40);
	assert_int_equal(st.link[0].tx - before.link[0].tx, (40 + VMP_WIRE_MAX / len - 1) / (VMP_WIRE_MAX / len));
	/* a peer that is removed while something waits for it: that leaves first */
	b.replies = 1;
	b.forget = true;
	assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	while (a.messages < 41) {
		struct pollfd p[] = { { vmp_net_fd(a.net), POLLIN, 0 }, { vmp_net_fd(b.net), POLLIN, 0 } };

		assert_true(poll(p, 2, 5000) > 0);
		assert_true(vmp_net_dispatch(b.net) >= 0 && vmp_net_dispatch(a.net) >= 0);
	}
	vmp_net_free(a.net);
	vmp_net_free(b.net);
}

static void ipv4(void **state)
{
	(void)state;
	exchange("127.0.0.1", NULL, "127.0.0.1", NULL);
}

static void ipv6(void **state)
{
	(void)state;
	if (access("/proc/net/if_inet6", R_OK) < 0)
		skip();
	exchange("::1", NULL, "::1", NULL);
}

static void two_links(void **state)
{
	(void)state;
	exchange("127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2");
}

static void restart(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct end a, b, *both[] = { &a, &b };
	struct vmp_msg m;
	uint16_t port;

	(void)state;
	pair_open(&a, &b, &keys);
	port = vmp_net_port(b.net);
	outside += balance(&b);
	vmp_net_free(b.net);
	end_open(&b, 2, 0xb2, port, &keys);
	end_peer(&b, &a, "127.0.0.1", NULL);
	/* The next datagram of the side that knows nothing of the restart is enough: one heartbeat. */
	clock_now += 20000000;
	gen_msg(&m, VMP_MSG_READ, false);
	assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	settle(both, 2);
	assert_int_equal(a.session_inc, 0xb2);
	assert_int_equal(b.session_inc, 0xa1);
	assert_int_equal(b.messages, 1);	/* from the session callback */
	clock_now += 20000000;
	assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	settle(both, 2);
	assert_int_equal(b.messages, 2);
	assert_int_equal(a.reports + b.reports, 0);	/* nothing to worry an operator with */
	vmp_net_free(a.net);
	vmp_net_free(b.net);
}

static void several_at_once(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct end e[END_MAX], *all[END_MAX];
	const uint8_t to[] = { 2, 3, 4, 77 };
	struct vmp_msg m;

	(void)state;
	for (unsigned int i = 0; i < END_MAX; i++) {
		end_open(&e[i], (uint8_t)(i + 1), 0xc0 + i, 0, &keys);
		all[i] = &e[i];
	}
	for (unsigned int i = 0; i < END_MAX; i++)
		for (unsigned int k = 0; k < END_MAX; k++)
			if (i != k)
				end_peer(&e[i], &e[k], "127.0.0.1", "127.0.0.3");
	gen_msg(&m, VMP_MSG_HEARTBEAT, true);
	assert_int_equal(vmp_net_send_many(e[0].net, to, 4, &m), 0);	/* hellos only */
	settle(all, END_MAX);
	assert_int_equal(e[0].sessions, 3);
	for (unsigned int i = 1; i < END_MAX; i++)
		e[i].messages = 0;
	assert_int_equal(vmp_net_send_many(e[0].net, to, 4, &m), 3);
	settle(all, END_MAX);
	for (unsigned int i = 1; i < END_MAX; i++) {
		assert_int_equal(e[i].messages, 1);
		assert_memory_equal(&e[i].last, &m, sizeof(m));
	}
	assert_int_equal(vmp_net_peer_del(e[0].net, 3), 0);
	assert_int_equal(vmp_net_send_many(e[0].net, to, 4, &m), 2);
	assert_int_equal(vmp_net_send(e[0].net, 3, &m), -ENOENT);
	for (unsigned int i = 0; i < END_MAX; i++)
		vmp_net_free(e[i].net);
}

static int garbage_socket(const struct end *to)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(vmp_net_port(to->net)), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/* Garbage is counted, told once a minute with the number, and takes nothing from the peers. */
static void garbage(void **state)
{
	static uint8_t junk[4000];
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_peer_stats st;
	struct end a, b, *both[] = { &a, &b };
	struct vmp_msg m;
	int fd;

	(void)state;
	pair_open(&a, &b, &keys);
	fd = garbage_socket(&b);
	for (unsigned int i = 0; i < 2000; i++) {
		size_t len = gen() % sizeof(junk);

		for (size_t k = 0; k < 64 && k < len; k++)
			junk[k] = (uint8_t)gen();
		assert_int_equal(send(fd, junk, len, 0), len);
		outside++;
		if (i % 100 == 99)
			settle(both, 2);
	}
	assert_int_equal(vmp_net_peer_stats(b.net, 0, &st), 0);
	assert_int_equal(st.causes[VMP_SEAL_GARBAGE], 2000);
	assert_int_equal(b.reports, 1);
	assert_int_equal(b.report_node, 0);
	assert_int_equal(b.report_count[VMP_SEAL_GARBAGE], 1);
	assert_memory_equal(b.report_from, "127.0.0.1:", 10);
	clock_now += VMP_NET_REPORT_NS;
	assert_int_equal(send(fd, junk, 10, 0), 10);
	outside++;
	settle(both, 2);
	assert_int_equal(b.reports, 2);
	assert_int_equal(b.report_count[VMP_SEAL_GARBAGE], 2001);

	gen_msg(&m, VMP_MSG_READ, false);
	b.messages = 0;
	assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	settle(both, 2);
	assert_int_equal(b.messages, 1);
	close(fd);
	vmp_net_free(a.net);
	vmp_net_free(b.net);
}

/* Several messages queued during a pause are all handed over by one dispatch. */
static void drained_wholly(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct end a, b;
	unsigned int calls;
	struct vmp_msg m;

	(void)state;
	pair_open(&a, &b, &keys);
	b.messages = 0;
	gen_msg(&m, VMP_MSG_GRANT, false);
	for (unsigned int i = 0; i < 500; i++)
		assert_int_equal(vmp_net_send(a.net, 2, &m), 0);
	/* Far fewer calls than batches of the system call. */
	for (calls = 0; b.messages < 500 && calls < 10; calls++) {
		struct pollfd p = { vmp_net_fd(b.net), POLLIN, 0 };

		assert_int_equal(poll(&p, 1, 5000), 1);
		assert_true(vmp_net_dispatch(b.net) > 0);
	}
	assert_int_equal(b.messages, 500);
	assert_int_equal(vmp_net_dispatch(b.net), 0);
	vmp_net_free(a.net);
	vmp_net_free(b.net);
}

static void wrong_key_and_version(void **state)
{
	struct vmp_keys keys = keys_make(1), other = keys_make(2);
	struct end a, b, *both[] = { &a, &b };
	uint8_t future[200] = { 'V', 'P', VMP_SEAL_VERSION + 1, 1, 1, 2 };
	struct vmp_msg m;
	int fd;

	(void)state;
	end_open(&a, 1, 0xa1, 0, &keys);
	end_open(&b, 2, 0xb1, 0, &other);
	end_peer(&a, &b, "127.0.0.1", NULL);
	end_peer(&b, &a, "127.0.0.1", NULL);
	gen_msg(&m, VMP_MSG_READ, false);
	for (unsigned int i = 0; i < 1500; i++) {	/* 30 s of heartbeats */
		assert_int_equal(vmp_net_send(a.net, 2, &m), -ENOTCONN);
		settle(both, 2);
		clock_now += 20000000;
	}
	assert_int_equal(b.reports, 1);
	assert_int_equal(b.report_cause[VMP_SEAL_AUTH], 1);
	assert_int_equal(b.report_node, 1);
	assert_int_equal(a.sessions + b.sessions, 0);
	fd = garbage_socket(&b);
	assert_int_equal(send(fd, future, sizeof(future), 0), sizeof(future));
	outside++;
	settle(both, 2);
	assert_int_equal(b.report_cause[VMP_SEAL_BAD_VERSION], 1);
	close(fd);

	/* Mended by a reload on one side: they meet at the next heartbeat. */
	assert_int_equal(vmp_net_set_keys(b.net, &keys), 0);
	clock_now += 20000000;
	assert_int_equal(vmp_net_send(a.net, 2, &m), -ENOTCONN);
	settle(both, 2);
	assert_int_equal(a.sessions + b.sessions, 2);
	vmp_net_free(a.net);
	vmp_net_free(b.net);
}

static void send_errors(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_param param = { .self = 1, .inc = 1, .keys = &keys, .bind_count = 1 };
	struct vmp_net_peer_stats st;
	struct vmp_net_addr v6;
	struct end a = { .node = 1 };
	struct vmp_msg m;
	char reason[256] = "";

	(void)state;
	/* A peer with an IPv6 address only, while we are bound to an IPv4 one. */
	assert_int_equal(vmp_net_addr_parse("127.0.0.1", 0, &param.bind[0]), 0);
	assert_int_equal(vmp_net_new(&a.net, &param, &ops, &a, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_net_addr_parse("::1", 9, &v6), 0);
	assert_int_equal(vmp_net_peer_set(a.net, 2, &v6, 1), 0);
	gen_msg(&m, VMP_MSG_READ, false);
	assert_int_equal(vmp_net_send(a.net, 2, &m), -ENOTCONN);
	assert_int_equal(a.report_cause[VMP_NET_SEND], 1);
	assert_int_equal(a.report_err, -EAFNOSUPPORT);
	assert_string_equal(a.report_from, "[::1]:9");
	assert_int_equal(vmp_net_peer_stats(a.net, 2, &st), 0);
	assert_int_equal(st.link[0].tx_errors, 1);
	vmp_net_free(a.net);
}

/* A recorded datagram of an earlier start, sent again and again: told, but not for a restart's few. */
static void old_session_replayed(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_peer_stats st;
	struct end b;
	uint8_t header[VMP_SEAL_OVERHEAD] = { 'V', 'P', VMP_SEAL_VERSION, 1, 1, 2, 1, 0, 0xa0 };
	struct vmp_net_addr addr;
	int fd;

	(void)state;
	end_open(&b, 2, 0xb1, 0, &keys);
	assert_int_equal(vmp_net_addr_parse("127.0.0.1", 9, &addr), 0);
	assert_int_equal(vmp_net_peer_set(b.net, 1, &addr, 1), 0);
	fd = garbage_socket(&b);
	for (unsigned int i = 0; i < 100; i++) {	/* 2 s */
		assert_int_equal(send(fd, header, sizeof(header), 0), sizeof(header));
		do {
			struct pollfd p = { vmp_net_fd(b.net), POLLIN, 0 };

			assert_int_equal(poll(&p, 1, 5000), 1);
		} while (vmp_net_dispatch(b.net) == 0);
		assert_int_equal(b.reports, i >= 50);
		clock_now += 20000000;
	}
	assert_int_equal(b.report_cause[VMP_SEAL_OLD_SESSION], 1);
	assert_int_equal(vmp_net_peer_stats(b.net, 1, &st), 0);
	assert_int_equal(st.causes[VMP_SEAL_OLD_SESSION], 100);
	assert_int_equal(st.last_rx_ns, 0);	/* nothing authentic */
	close(fd);
	vmp_net_free(b.net);
}

/* One of two links is dead: the kernel says so at once, the messages go over the other. In a network namespace of its own. */
static int one_link_child(void)
{
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_peer_stats st;
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	struct end a, b, *both[] = { &a, &b };
	struct vmp_msg m;
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return 77;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		return 77;
	close(fd);
	end_open(&a, 1, 0xa1, 0, &keys);
	end_open(&b, 2, 0xb1, 0, &keys);
	end_peer(&a, &b, "192.0.2.1", "127.0.0.1");
	end_peer(&b, &a, "127.0.0.1", NULL);
	meet(&a, &b);
	gen_msg(&m, VMP_MSG_READ, false);
	b.messages = 0;
	for (unsigned int i = 0; i < 10; i++)
		if (vmp_net_send(a.net, 2, &m) != 0)
			return 1;
	settle(both, 2);
	vmp_net_peer_stats(a.net, 2, &st);
	if (b.messages != 10 || st.link[0].tx != 0 || st.link[0].tx_errors < 10 || st.link[1].tx_errors != 0 || st.link[0].last_rx_ns ||
	    !st.link[1].last_rx_ns)
		return 2;
	if (a.report_cause[VMP_NET_SEND] != 1 || a.report_err != -ENETUNREACH || strncmp(a.report_from, "192.0.2.1:", 10) != 0)
		return 3;
	vmp_net_free(a.net);
	vmp_net_free(b.net);
	return 0;
}

static void one_link_down(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(one_link_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void port_in_use(void **state)
{
	struct vmp_keys keys = keys_make(1);
	struct vmp_net_param param = { .self = 2, .inc = 1, .keys = &keys };
	struct vmp_net *n = NULL;
	char reason[256] = "";
	struct end a;

	(void)state;
	end_open(&a, 1, 0xa1, 0, &keys);
	param.port = vmp_net_port(a.net);
	assert_int_equal(vmp_net_new(&n, &param, &ops, NULL, reason, sizeof(reason)), -EADDRINUSE);
	assert_null(n);
	assert_non_null(strstr(reason, "does another vmpaird run?"));
	vmp_net_free(a.net);
}

static void address_text(void **state)
{
	static const char *const bad[] = { "", "host", "1.2.3", "1.2.3.4.5", "fe80::1%nosuchif0", "::1%", "1.2.3.4:5", "[::1]" };
	struct vmp_net_addr a;
	char text[80];

	(void)state;
	assert_int_equal(vmp_net_addr_parse("192.0.2.1", 5440, &a), 0);
	vmp_net_addr_str(&a, text, sizeof(text));
	assert_string_equal(text, "192.0.2.1:5440");
	assert_int_equal(vmp_net_addr_parse("2001:db8::1", 1, &a), 0);
	vmp_net_addr_str(&a, text, sizeof(text));
	assert_string_equal(text, "[2001:db8::1]:1");
	assert_int_equal(vmp_net_addr_parse("fe80::1%lo", 1, &a), 0);
	vmp_net_addr_str(&a, text, sizeof(text));
	assert_string_equal(text, "[fe80::1%lo]:1");
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vmp_net_addr_parse(bad[i], 1, &a), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, begin)
		T(joined), T(ipv4), T(ipv6), T(two_links), T(restart),
		T(several_at_once), T(garbage), T(drained_wholly),
		T(wrong_key_and_version), T(send_errors), T(old_session_replayed), T(one_link_down), T(port_in_use),
		T(address_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
