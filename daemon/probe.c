/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal/cleanup.h"

enum probe_state { CONNECTING, SENDING, READING, DONE };

struct vmp_probe {
	enum vmp_probe_kind kind;
	enum probe_state state;
	int fd;
	int rc; /* in DONE */
	uint64_t deadline_ns;
	size_t len, pos;
	char request[512];
	char answer[64]; /* of the status line no more is wanted than its beginning */
	size_t got;
};

int vmp_probe_parse(const char *text, struct vmp_probe_spec *ret_, char *reason, size_t reason_size)
{
	struct vmp_probe_spec s = { .kind = VMP_PROBE_NONE };
	unsigned long port = 0;
	const char *p;
	size_t n;

	if (text[0] == '\0' || !strcmp(text, "none")) {
		*ret_ = s;
		return 0;
	}
	if (!strncmp(text, "tcp:", 4)) {
		s.kind = VMP_PROBE_TCP;
		p = text + 4;
	} else if (!strncmp(text, "http:", 5)) {
		s.kind = VMP_PROBE_HTTP;
		p = text + 5;
	} else {
		snprintf(reason, reason_size, "'%.64s' is not a readiness check (none, tcp:PORT or http:PORT/PATH)",
			 text);
		return -EINVAL;
	}
	n = strspn(p, "0123456789");
	if (n > 0 && n <= 5)
		port = strtoul(p, NULL, 10);
	if (port < 1 || port > 65535) {
		snprintf(reason, reason_size, "'%.64s': the port is not in 1..65535", text);
		return -EINVAL;
	}
	s.port = (uint16_t)port;
	p += n;
	if (s.kind == VMP_PROBE_TCP && *p != '\0') {
		snprintf(reason, reason_size, "'%.64s': nothing may stand behind the port", text);
		return -EINVAL;
	}
	if (s.kind == VMP_PROBE_HTTP) {
		if (*p == '\0')
			p = "/";
		if (*p != '/' || strlen(p) >= sizeof(s.path)) {
			snprintf(reason, reason_size, "'%.64s': the path does not begin with '/' or is too long", text);
			return -EINVAL;
		}
		/* It goes into the request line as it is: no blanks, no control characters. */
		for (const char *c = p; *c != '\0'; c++) {
			if (*c <= ' ' || *c == 0x7f || (unsigned char)*c >= 0x80) {
				snprintf(reason, reason_size,
					 "'%.64s': the path holds a character that must be written as %%XX", text);
				return -EINVAL;
			}
		}
		snprintf(s.path, sizeof(s.path), "%s", p);
	}
	*ret_ = s;
	return 0;
}

static socklen_t sockaddr_of(const struct vmp_addr *addr, uint16_t port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (addr->family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, addr->bytes, 4);
		return sizeof(*in);
	}
	if (addr->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr->bytes, 16);
		return sizeof(*in6);
	}
	return 0;
}

int vmp_probe_start(struct vmp_probe **ret_, const struct vmp_probe_spec *spec, const struct vmp_addr *addr,
		    const char *device, uint64_t deadline_ns, char *reason, size_t reason_size)
{
	/* Close with a reset: a check must leave no TIME_WAIT behind, it is repeated for ever. */
	const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_storage sa;
	char host[VMP_ADDR_STRLEN];
	struct vmp_probe *p;
	socklen_t len;
	int rc;

	len = sockaddr_of(addr, spec->port, &sa);
	if (len == 0 || spec->kind == VMP_PROBE_NONE) {
		snprintf(reason, reason_size, "nothing to check, or no address");
		return -EINVAL;
	}
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
	    (device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1) < 0)) {
		rc = -errno;
		snprintf(reason, reason_size, "socket%s%s: %s", device ? " on " : "", device ? device : "",
			 strerror(-rc));
		return rc;
	}
	if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS) {
		rc = -errno;
		snprintf(reason, reason_size, "connect: %s", strerror(-rc));
		return rc;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->kind = spec->kind;
	p->deadline_ns = deadline_ns;
	vmp_addr_str(addr, false, host);
	if (p->kind == VMP_PROBE_HTTP)
		p->len = (size_t)snprintf(p->request, sizeof(p->request),
					  "GET %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUser-Agent: vmpair\r\nAccept: */*\r\n"
					  "Connection: close\r\n\r\n",
					  spec->path, addr->family == AF_INET6 ? "[" : "", host,
					  addr->family == AF_INET6 ? "]" : "", spec->port);
	p->fd = TAKE_FD(fd);
	*ret_ = p;
	return 0;
}

int vmp_probe_fd(const struct vmp_probe *p)
{
	return p->fd;
}

short vmp_probe_events(const struct vmp_probe *p)
{
	return p->state == READING ? POLLIN : POLLOUT;
}

uint64_t vmp_probe_deadline(const struct vmp_probe *p)
{
	return p->deadline_ns;
}

static int failed(int rc, const char *doing, char *reason, size_t reason_size)
{
	snprintf(reason, reason_size, "%s: %s", doing, strerror(-rc));
	return rc;
}

/* "HTTP/1.x NNN": 0 = not enough yet. */
static int judge(const char *answer, size_t got, bool at_end, char *reason, size_t reason_size)
{
	static const char want[] = "HTTP/1.";
	size_t n = got < sizeof(want) - 1 ? got : sizeof(want) - 1;
	int status = 0;

	if (memcmp(answer, want, n) != 0)
		goto not_http;
	if (got < 12)
		return at_end ? failed(-EPROTO, got ? "the answer ends early" : "no answer", reason, reason_size) : 0;
	if (answer[8] != ' ')
		goto not_http;
	for (int i = 9; i < 12; i++) {
		if (answer[i] < '0' || answer[i] > '9')
			goto not_http;
		status = status * 10 + (answer[i] - '0');
	}
	if (status >= 200 && status < 400)
		return 1;
	snprintf(reason, reason_size, "HTTP status %d", status);
	return -EPROTO;
not_http:
	snprintf(reason, reason_size, "the answer is not HTTP");
	return -EPROTO;
}

static int advance(struct vmp_probe *p, char *reason, size_t reason_size)
{
	if (p->state == CONNECTING) {
		struct pollfd pf = { .fd = p->fd, .events = POLLOUT };
		socklen_t len = sizeof(int);
		int err = 0;

		if (poll(&pf, 1, 0) < 1)
			return 0;
		if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
			err = errno;
		if (err)
			return failed(-err, "connect", reason, reason_size);
		if (p->kind == VMP_PROBE_TCP)
			return 1;
		p->state = SENDING;
	}
	while (p->state == SENDING) {
		ssize_t n = send(p->fd, p->request + p->pos, p->len - p->pos, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : failed(-errno, "send", reason, reason_size);
		p->pos += (size_t)n;
		if (p->pos == p->len)
			p->state = READING;
	}
	for (;;) {
		ssize_t n = recv(p->fd, p->answer + p->got, sizeof(p->answer) - p->got, 0);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : failed(-errno, "receive", reason, reason_size);
		p->got += (size_t)n;
		rc = judge(p->answer, p->got, n == 0, reason, reason_size);
		if (rc != 0)
			return rc;
	}
}

int vmp_probe_dispatch(struct vmp_probe *p, uint64_t now_ns, char *reason, size_t reason_size)
{
	static const char *const doing[] = { "no connection", "the request is not taken", "no answer" };
	int rc;

	if (p->state == DONE)
		return p->rc;
	rc = advance(p, reason, reason_size);
	if (rc == 0 && now_ns >= p->deadline_ns) {
		snprintf(reason, reason_size, "%s in time", doing[p->state]);
		rc = -ETIMEDOUT;
	}
	if (rc != 0) {
		p->state = DONE;
		p->rc = rc;
	}
	return rc;
}

struct vmp_probe *vmp_probe_free(struct vmp_probe *p)
{
	if (p) {
		close(p->fd);
		free(p);
	}
	return NULL;
}
