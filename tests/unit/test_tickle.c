/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The segment itself, and what the kernel makes of it: a client whose server has silently gone gets a reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/tickle.h"

static struct vmp_tickle tickle(const char *server, uint16_t server_port, const char *client, uint16_t client_port)
{
	struct vmp_tickle t = { .family = strchr(server, ':') ? AF_INET6 : AF_INET, .server_port = server_port, .client_port = client_port };

	assert_int_equal(inet_pton(t.family, server, t.server), 1);
	assert_int_equal(inet_pton(t.family, client, t.client), 1);
	return t;
}

/* RFC 1071: over what carries its own checksum the sum is all ones. */
static unsigned int sum(const uint8_t *p, size_t len, unsigned int n)
{
	for (size_t i = 0; i < len; i++)
		n += i % 2 ? p[i] : (unsigned int)p[i] << 8;
	while (n >> 16)
		n = (n & 0xffff) + (n >> 16);
	return n;
}

static void test_packet(void **state)
{
	struct vmp_tickle t4 = tickle("192.0.2.10", 80, "198.51.100.7", 40001), t6 = tickle("2001:db8::10", 443, "2001:db8:1::7", 40001);
	uint8_t p[VMP_TICKLE_PACKET_MAX];

	(void)state;
	assert_int_equal(vmp_tickle_packet(p, &t4), 40);
	assert_int_equal(sum(p, 20, 0), 0xffff);
	assert_int_equal(sum(p + 12, 28, 6 + 20), 0xffff);	/* addresses and segment, protocol, length */
	assert_memory_equal(p + 12, t4.server, 4);
	assert_memory_equal(p + 16, t4.client, 4);
	assert_true(p[20] == 0 && p[21] == 80 && p[22] == 40001 >> 8 && p[23] == (40001 & 255));
	assert_int_equal(p[33], 0x10);		/* ACK and nothing else: it must never look like the beginning or the end of a connection */
	assert_int_equal(vmp_tickle_packet(p, &t6), 60);
	assert_int_equal(sum(p + 8, 52, 6 + 20), 0xffff);
	assert_memory_equal(p + 8, t6.server, 16);
	assert_memory_equal(p + 24, t6.client, 16);
}

static void test_wire(void **state)
{
	struct vmp_tickle t4 = tickle("192.0.2.10", 80, "198.51.100.7", 40001), t6 = tickle("2001:db8::10", 443, "2001:db8:1::7", 1), got;
	uint8_t wire[VMP_TICKLE_WIRE_MAX + 1];
	size_t len;

	(void)state;
	len = vmp_tickle_pack(wire, &t4);
	assert_int_equal(len, 13);
	assert_int_equal(vmp_tickle_unpack(&got, wire, len), 0);
	assert_memory_equal(&got, &t4, sizeof(got));
	len = vmp_tickle_pack(wire, &t6);
	assert_int_equal(len, VMP_TICKLE_WIRE_MAX);
	assert_int_equal(vmp_tickle_unpack(&got, wire, len), 0);
	assert_memory_equal(&got, &t6, sizeof(got));
	for (size_t i = 0; i <= sizeof(wire); i++) {
		if (i != VMP_TICKLE_WIRE_MAX)
			assert_int_equal(vmp_tickle_unpack(&got, wire, i), -EINVAL);
	}
	wire[0] = 5;
	assert_int_equal(vmp_tickle_unpack(&got, wire, len), -EINVAL);
	wire[0] = 6;
	wire[3] = wire[4] = 0;
	assert_int_equal(vmp_tickle_unpack(&got, wire, len), -EINVAL);
}

static uint16_t port_of(const struct sockaddr_storage *ss)
{
	return ntohs(ss->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)ss)->sin6_port : ((const struct sockaddr_in *)ss)->sin_port);
}

static void kernel(const char *server, const char *client)
{
	struct vmp_tickle t = tickle(server, 1, client, 1);
	struct sockaddr_storage ss = { .ss_family = (sa_family_t)t.family }, cs;
	socklen_t len = sizeof(ss), clen = sizeof(cs);
	int listener = socket(t.family, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(t.family, SOCK_STREAM | SOCK_CLOEXEC, 0), peer, on = 1, raw;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	memcpy(t.family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)&ss)->sin6_addr : (void *)&((struct sockaddr_in *)&ss)->sin_addr, t.server,
	       t.family == AF_INET6 ? 16 : 4);
	assert_int_equal(bind(listener, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&ss, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&cs, &clen), 0);
	assert_int_equal(write(fd, "request", 7), 7);
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer >= 0);
	/* gone without a word, as with its host */
	assert_int_equal(setsockopt(peer, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	close(peer);
	close(listener);
	assert_int_equal(poll(&p, 1, 100), 0);
	t.server_port = port_of(&ss);
	t.client_port = port_of(&cs);
	raw = vmp_tickle_socket(t.family);
	assert_true(raw >= 0);
	assert_int_equal(vmp_tickle_send(raw, &t), 0);
	assert_int_equal(poll(&p, 1, 2000), 1);
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close(raw);
	close(fd);
}

static void test_kernel(void **state)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int s;

	(void)state;
	if (unshare(CLONE_NEWNET) < 0) {
		print_message("needs a network namespace of its own: %s\n", strerror(errno));
		skip();
	}
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
	kernel("127.0.0.2", "127.0.0.1");
	s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s >= 0)
		kernel("::1", "::1");
	close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packet),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
