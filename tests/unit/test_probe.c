/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check against real sockets on loopback; the server side is played step by step in the same thread. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/probe.h"

static char reason[200];

static int server(int family, uint16_t *ret_port, struct vmp_addr *ret_addr)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
	socklen_t len = family == AF_INET ? sizeof(in) : sizeof(in6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, sa, len) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, sa, &len), 0);
	*ret_port = ntohs(family == AF_INET ? in.sin_port : in6.sin6_port);
	memset(ret_addr, 0, sizeof(*ret_addr));
	assert_int_equal(vmp_addr_parse(family == AF_INET ? "127.0.0.1/8" : "::1/128", ret_addr), 0);
	return fd;
}

static int step(struct vmp_probe *p, uint64_t now)
{
	struct pollfd pf = { .fd = vmp_probe_fd(p), .events = vmp_probe_events(p) };

	assert_int_equal(poll(&pf, 1, 5000), 1);
	reason[0] = '\0';
	return vmp_probe_dispatch(p, now, reason, sizeof(reason));
}

static void specs(void **state)
{
	static const char *const bad[] = {
		"tcp",	 "tcp:",     "tcp:0",	    "tcp:65536",	 "tcp:80x",	     "tcp:080000", "tcp:80/",
		"http:", "http:80x", "http:80/a b", "http:80/a\r\nX: y", "http:80/\303\244", "udp:53",	   "icmp"
	};
	struct vmp_probe_spec s;
	char longest[400] = "http:80/";
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		reason[0] = '\0';
		assert_int_equal(vmp_probe_parse(bad[i], &s, reason, sizeof(reason)), -EINVAL);
		assert_int_not_equal(reason[0], '\0');
	}
	memset(longest + 8, 'x', 300);
	assert_int_equal(vmp_probe_parse(longest, &s, reason, sizeof(reason)), -EINVAL);
	assert_int_equal(vmp_probe_parse("", &s, reason, sizeof(reason)), 0);
	assert_int_equal(s.kind, VMP_PROBE_NONE);
	assert_int_equal(vmp_probe_parse("none", &s, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_probe_parse("tcp:65535", &s, reason, sizeof(reason)), 0);
	assert_int_equal(s.kind, VMP_PROBE_TCP);
	assert_int_equal(s.port, 65535);
	assert_int_equal(vmp_probe_parse("http:8080", &s, reason, sizeof(reason)), 0);
	assert_string_equal(s.path, "/");
	assert_int_equal(vmp_probe_parse("http:8080/a/b?c=1", &s, reason, sizeof(reason)), 0);
	assert_string_equal(s.path, "/a/b?c=1");
}

static void tcp(void **state)
{
	struct vmp_probe_spec s = { .kind = VMP_PROBE_TCP };
	struct vmp_addr addr;
	struct vmp_probe *p = NULL;
	int lfd = server(AF_INET, &s.port, &addr), rc;
	(void)state;

	assert_int_equal(vmp_probe_start(&p, &s, &addr, NULL, 100, reason, sizeof(reason)), 0);
	assert_int_equal(step(p, 1), 1);
	assert_int_equal(vmp_probe_dispatch(p, 1000, reason, sizeof(reason)), 1);
	p = vmp_probe_free(p);
	close(lfd);

	rc = vmp_probe_start(&p, &s, &addr, NULL, 100, reason, sizeof(reason));
	if (rc == 0)
		rc = step(p, 1);
	assert_int_equal(rc, -ECONNREFUSED);
	assert_non_null(strstr(reason, "connect"));
	p = vmp_probe_free(p);

	s.kind = VMP_PROBE_NONE;
	assert_int_equal(vmp_probe_start(&p, &s, &addr, NULL, 100, reason, sizeof(reason)), -EINVAL);
	s.kind = VMP_PROBE_TCP;
	assert_int_equal(vmp_probe_start(&p, &s, &addr, "no-such-device", 100, reason, sizeof(reason)) < 0, 1);
	addr.family = 0;
	assert_int_equal(vmp_probe_start(&p, &s, &addr, NULL, 100, reason, sizeof(reason)), -EINVAL);
}

static void timeouts(void **state)
{
	struct vmp_probe_spec s = { .kind = VMP_PROBE_TCP };
	struct vmp_addr addr;
	struct vmp_probe *fill[32] = { 0 }, *p = NULL;
	int lfd = server(AF_INET, &s.port, &addr);
	(void)state;

	/* a listener that never accepts: its queue fills, the next connection stays on its way */
	for (size_t i = 0; i < 32 && !p; i++) {
		struct pollfd pf;

		assert_int_equal(vmp_probe_start(&fill[i], &s, &addr, NULL, 100, reason, sizeof(reason)), 0);
		pf = (struct pollfd){ .fd = vmp_probe_fd(fill[i]), .events = POLLOUT };
		if (poll(&pf, 1, 20) == 0)
			p = fill[i];
	}
	assert_non_null(p);
	assert_int_equal(vmp_probe_dispatch(p, 99, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_probe_deadline(p), 100);
	assert_int_equal(vmp_probe_dispatch(p, 100, reason, sizeof(reason)), -ETIMEDOUT);
	assert_string_equal(reason, "no connection in time");
	for (size_t i = 0; i < 32; i++)
		vmp_probe_free(fill[i]);
	close(lfd);
}

/* One HTTP check in which the server sends `parts` one by one and then closes (or not). */
static int http_once(int family, const char *const *parts, int shut)
{
	static const char want[] = "GET /ready HTTP/1.1\r\nHost: ";
	struct vmp_probe_spec s;
	struct vmp_addr addr;
	struct vmp_probe *p = NULL;
	char got[512];
	int lfd, fd, rc;
	ssize_t n;

	assert_int_equal(vmp_probe_parse("http:1/ready", &s, reason, sizeof(reason)), 0);
	lfd = server(family, &s.port, &addr);
	if (lfd < 0)
		return 77;
	assert_int_equal(vmp_probe_start(&p, &s, &addr, NULL, 100, reason, sizeof(reason)), 0);
	assert_int_equal(step(p, 1), 0);
	assert_int_equal(vmp_probe_events(p), POLLIN);
	fd = accept(lfd, NULL, NULL);
	assert_true(fd >= 0);
	n = recv(fd, got, sizeof(got) - 1, 0);
	assert_true(n > 0);
	got[n] = '\0';
	assert_memory_equal(got, want, sizeof(want) - 1);
	assert_string_equal(got + n - 4, "\r\n\r\n");
	rc = 0;
	for (; *parts && rc == 0; parts++) {
		assert_int_equal(send(fd, *parts, strlen(*parts), MSG_NOSIGNAL), strlen(*parts));
		rc = step(p, 2);
	}
	if (rc == 0 && shut) {
		shutdown(fd, SHUT_WR);
		rc = step(p, 3);
	}
	if (rc == 0)
		rc = vmp_probe_dispatch(p, 100, reason, sizeof(reason));
	vmp_probe_free(p);
	close(fd);
	close(lfd);
	return rc;
}

static void http(void **state)
{
	const char *const ok[] = { "HTTP/1.0 200 OK\r\n\r\n", NULL }, *const moved[] = { "HTTP/1.1 302 Found\r\n",
											 NULL };
	const char *const slow[] = { "H", "TTP/1", ".1 2", "0", "4", NULL }, *const no[] = { "HTTP/1.1 503 Busy\r\n",
											     NULL };
	const char *const early[] = { "HTTP/1.1 20", NULL }, *const nothing[] = { NULL };
	const char *const ssh[] = { "SSH-2.0-OpenSSH\r\n", NULL }, *const odd[] = { "HTTP/1.1 2x0 OK\r\n", NULL };
	(void)state;

	assert_int_equal(http_once(AF_INET, ok, 0), 1);
	assert_int_equal(http_once(AF_INET, moved, 0), 1);
	assert_int_equal(http_once(AF_INET, slow, 0), 1);
	assert_int_equal(http_once(AF_INET, no, 0), -EPROTO);
	assert_string_equal(reason, "HTTP status 503");
	assert_int_equal(http_once(AF_INET, early, 1), -EPROTO);
	assert_non_null(strstr(reason, "ends early"));
	assert_int_equal(http_once(AF_INET, nothing, 1), -EPROTO);
	assert_int_equal(http_once(AF_INET, nothing, 0), -ETIMEDOUT);
	assert_string_equal(reason, "no answer in time");
	assert_int_equal(http_once(AF_INET, early, 0), -ETIMEDOUT);
	assert_int_equal(http_once(AF_INET, ssh, 0), -EPROTO);
	assert_int_equal(http_once(AF_INET, odd, 0), -EPROTO);
	if (http_once(AF_INET6, ok, 0) == 77)
		print_message("no IPv6 on loopback here: not tried\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs),
		cmocka_unit_test(tcp),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(http),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
