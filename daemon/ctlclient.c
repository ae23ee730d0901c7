/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/ctlclient.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl.h"
#include "internal/cleanup.h"

struct vmp_ctlc {
	int fd;
	char *buf;
};

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

static int left_ms(int64_t end)
{
	int64_t left = end - now_ms();
	return left > 0 ? (int)left : 0;
}

static void pause_ms(int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	nanosleep(&ts, NULL);
}

int vmp_ctlc_open(struct vmp_ctlc **ret, const char *path, int timeout_ms)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int64_t end = now_ms() + timeout_ms;
	if (!path)
		path = VMP_CTL_SOCKET;
	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);

	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Connecting to a full backlog gives EAGAIN, which poll() cannot wait for. */
	while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (!left_ms(end))
			return -ETIMEDOUT;
		pause_ms(5);
	}
	struct vmp_ctlc *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->buf = malloc(VMP_CTL_MAX_MSG);
	if (!c->buf) {
		free(c);
		return -ENOMEM;
	}
	int size = VMP_CTL_MAX_MSG;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	c->fd = TAKE_FD(fd);
	*ret = c;
	return 0;
}

int vmp_ctlc_open_wait(struct vmp_ctlc **ret, const char *path, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	for (;;) {
		int rc = vmp_ctlc_open(ret, path, left_ms(end));
		if ((rc != -ENOENT && rc != -ECONNREFUSED) || !left_ms(end))
			return rc;
		pause_ms(20);
	}
}

struct vmp_ctlc *vmp_ctlc_free(struct vmp_ctlc *c)
{
	if (c) {
		close(c->fd);
		free(c->buf);
		free(c);
	}
	return NULL;
}

static int wait_for(int fd, short events, int64_t end, bool forever)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int n = poll(&p, 1, forever ? -1 : left_ms(end));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
	}
}

static int receive(struct vmp_ctlc *c, int64_t end, bool forever, json_t **ret)
{
	for (;;) {
		int rc = wait_for(c->fd, POLLIN, end, forever);
		if (rc < 0)
			return rc;
		ssize_t n = recv(c->fd, c->buf, VMP_CTL_MAX_MSG, MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		json_t *obj = (size_t)n > VMP_CTL_MAX_MSG ? NULL : json_loadb(c->buf, (size_t)n, 0, NULL);
		if (!json_is_object(obj)) {
			json_decref(obj);
			return -EPROTO;
		}
		*ret = obj;
		return 0;
	}
}

static int send_request(struct vmp_ctlc *c, const json_t *req, int64_t end)
{
	CLEANUP_FREE char *text = json_dumps(req, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	size_t len = strlen(text);
	if (len > VMP_CTL_MAX_MSG)
		return -E2BIG;
	for (;;) {
		if (send(c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == EPIPE)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		int rc = wait_for(c->fd, POLLOUT, end, false);
		if (rc < 0)
			return rc;
	}
}

int vmp_ctlc_call(struct vmp_ctlc *c, const json_t *req, int ack_ms, int reply_ms, json_t **ret, bool *ret_acked)
{
	int64_t end = now_ms() + ack_ms;
	if (ret_acked)
		*ret_acked = false;
	/* The server may have refused us (not root, too many clients): its message says so and waits to be read. */
	int rc = send_request(c, req, end);
	if (rc < 0 && rc != -ECONNRESET)
		return rc;
	for (;;) {
		json_t *obj;
		rc = receive(c, end, false, &obj);
		if (rc < 0)
			return rc;
		if (json_is_true(json_object_get(obj, "ack"))) {
			json_decref(obj);
			end = now_ms() + reply_ms;
			if (ret_acked)
				*ret_acked = true;
			continue;
		}
		if (!json_is_integer(json_object_get(obj, "rc"))) {
			json_decref(obj);
			return -EPROTO;
		}
		*ret = obj;
		return 0;
	}
}

int vmp_ctlc_next(struct vmp_ctlc *c, int timeout_ms, json_t **ret)
{
	return receive(c, now_ms() + (timeout_ms < 0 ? 0 : timeout_ms), timeout_ms < 0, ret);
}
