/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heartbeat/relay/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal/cleanup.h"

#define DEVICE_RETRY_NS 100000000u

json_t *vmpr_json_u64(uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
	return json_string(text);
}

int vmpr_json_get_u64(const json_t *msg, const char *name, uint64_t *ret)
{
	const json_t *v = json_object_get(msg, name);
	const char *text;
	char *end;
	unsigned long long n;

	if (!v)
		return -ENOENT;
	if (json_is_integer(v)) {
		if (json_integer_value(v) < 0)
			return -EINVAL;
		*ret = (uint64_t)json_integer_value(v);
		return 0;
	}
	text = json_string_value(v);
	if (!text || strncmp(text, "0x", 2) != 0 || strlen(text) < 3 || strlen(text) > 18 ||
	    strspn(text + 2, "0123456789abcdefABCDEF") != strlen(text + 2))
		return -EINVAL;
	n = strtoull(text, &end, 16);
	*ret = n;
	return 0;
}

static void conn_lost(struct vmpr_ctl *c)
{
	bool was = c->connected;

	c->connected = c->greeted = c->too_long = false;
	c->in_len = 0;
	/* what left only in part is sent again whole */
	if (c->head)
		c->head->off = 0;
	if (c->kind == VMPR_CTL_DEVICE) {
		if (!c->retry.next)
			vmpr_tmo_arm(c->ev, &c->retries, &c->retry);
	} else {
		vmpr_src_close(c->ev, &c->conn);
	}
	if (was)
		c->ops->lost(c->ctx);
}

static void take_line(struct vmpr_ctl *c, const char *line, size_t len)
{
	json_error_t err;
	json_t *msg = json_loadb(line, len, JSON_REJECT_DUPLICATES, &err);
	const char *cmd = json_string_value(json_object_get(msg, "cmd"));

	if (!cmd)
		vmpr_ctl_send(c, json_pack("{s:s,s:s}", "ev", "error", "text", msg ? "a line without \"cmd\"" : err.text), false);
	else
		c->ops->command(c->ctx, cmd, msg);
	json_decref(msg);
}

static void take_input(struct vmpr_ctl *c)
{
	for (;;) {
		ssize_t n = read(c->conn.fd, c->in + c->in_len, sizeof(c->in) - c->in_len);
		char *start = c->in, *nl;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			conn_lost(c);
			return;
		}
		c->connected = true;
		c->in_len += (size_t)n;
		while ((nl = memchr(start, '\n', c->in_len - (size_t)(start - c->in)))) {
			int fd = c->conn.fd;

			if (c->too_long)
				c->too_long = false;
			else if (nl > start)
				take_line(c, start, (size_t)(nl - start));
			if (c->conn.fd != fd)
				return;
			start = nl + 1;
		}
		c->in_len -= (size_t)(start - c->in);
		memmove(c->in, start, c->in_len);
		if (c->in_len == sizeof(c->in)) {
			if (!c->too_long)
				vmpr_ctl_send(c, json_pack("{s:s,s:s}", "ev", "error", "text", "a line longer than 4096 bytes"), false);
			c->too_long = true;
			c->in_len = 0;
		}
	}
}

/* The event may be older than what was just read: the next daemon's first words, after a hang-up that nobody has looked at. */
static bool hung_up(const struct vmpr_ctl *c)
{
	struct pollfd p = { .fd = c->conn.fd };

	return c->kind != VMPR_CTL_DEVICE || poll(&p, 1, 0) < 0 || (p.revents & (POLLHUP | POLLERR));
}

static void conn_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_ctl *c = vmpr_container(s, struct vmpr_ctl, conn);

	if (events & EPOLLIN)
		take_input(c);
	if (s->fd >= 0 && (events & EPOLLOUT))
		vmpr_ctl_flush(c);
	if (s->fd >= 0 && (events & (EPOLLHUP | EPOLLERR)) && hung_up(c))
		conn_lost(c);
}

static void listener_event(struct vmpr_src *s, uint32_t events)
{
	struct vmpr_ctl *c = vmpr_container(s, struct vmpr_ctl, listener);
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (c->conn.fd >= 0)
		conn_lost(c);
	c->connected = true;
	if (vmpr_src_add(c->ev, &c->conn, fd, EPOLLIN | EPOLLOUT | EPOLLET, conn_event) < 0)
		close(fd);
}

/* A virtio port tells by a hang-up that nobody has it open on the host; there is nothing to close and open again. */
static void device_retry(struct vmpr_tmo *t)
{
	struct vmpr_ctl *c = vmpr_container(t, struct vmpr_ctl, retry);

	if (!c->connected) {
		take_input(c);
		if (!c->connected && !c->retry.next)
			vmpr_tmo_arm(c->ev, &c->retries, &c->retry);
	}
}

static int listen_at(struct vmpr_ctl *c, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	strcpy(c->path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0600) < 0 || listen(fd, 4) < 0)
		return -errno;
	r = vmpr_src_add(c->ev, &c->listener, fd, EPOLLIN, listener_event);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

int vmpr_ctl_open(struct vmpr_ctl *c, struct vmpr_ev *ev, enum vmpr_ctl_kind kind, const char *path, int fd,
		  const struct vmpr_ctl_ops *ops, void *ctx)
{
	int flags, r;

	*c = (struct vmpr_ctl){ .ev = ev, .kind = kind, .ops = ops, .ctx = ctx, .conn.fd = -1, .listener.fd = -1 };
	c->tail = &c->head;
	vmpr_tmo_list_add(ev, &c->retries, DEVICE_RETRY_NS, device_retry);
	if (kind == VMPR_CTL_LISTEN)
		return listen_at(c, path);
	if (kind == VMPR_CTL_DEVICE) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fd < 0)
			return -errno;
	} else {
		flags = fcntl(fd, F_GETFL);
		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return -errno;
		c->connected = true;
	}
	r = vmpr_src_add(ev, &c->conn, fd, EPOLLIN | EPOLLOUT | EPOLLET, conn_event);
	if (r < 0)
		close(fd);
	return r;
}

void vmpr_ctl_close(struct vmpr_ctl *c)
{
	vmpr_tmo_stop(&c->retry);
	vmpr_src_close(c->ev, &c->conn);
	vmpr_src_close(c->ev, &c->listener);
	if (c->path[0])
		unlink(c->path);
	while (c->head) {
		struct vmpr_ctl_line *l = c->head;

		c->head = l->next;
		free(l);
	}
	c->tail = &c->head;
}

void vmpr_ctl_start(struct vmpr_ctl *c)
{
	static const char line[] = "{\"ev\":\"start\"}\n";

	/* nobody may be there: then it is lost, which is what the repetition is for */
	if (c->conn.fd >= 0 && write(c->conn.fd, line, sizeof(line) - 1) < 0)
		return;
}

void vmpr_ctl_flush(struct vmpr_ctl *c)
{
	while (c->greeted && c->conn.fd >= 0 && c->head) {
		struct vmpr_ctl_line *l = c->head;
		ssize_t n = write(c->conn.fd, l->text + l->off, l->len - l->off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return; /* full: EPOLLOUT follows; broken: a hang-up does */
		l->off += (size_t)n;
		if (l->off < l->len)
			return;
		c->head = l->next;
		if (!c->head)
			c->tail = &c->head;
		c->lines--;
		free(l);
	}
}

void vmpr_ctl_send(struct vmpr_ctl *c, json_t *msg, bool first)
{
	CLEANUP_FREE char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	struct vmpr_ctl_line *l = NULL;
	size_t len;

	json_decref(msg);
	if (text && c->lines < VMPR_CTL_QUEUE) {
		len = strlen(text);
		l = malloc(sizeof(*l) + len + 2);
	}
	if (!l) {
		c->dropped++;
		return;
	}
	memcpy(l->text, text, len);
	l->text[len] = '\n';
	l->len = len + 1;
	l->off = 0;
	l->next = NULL;
	c->lines++;
	if (first && (!c->head || c->head->off == 0)) {
		l->next = c->head;
		c->head = l;
		if (!l->next)
			c->tail = &l->next;
	} else {
		*c->tail = l;
		c->tail = &l->next;
	}
	if (first)
		c->greeted = true;
	vmpr_ctl_flush(c);
}
