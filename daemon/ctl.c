/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal/cleanup.h"

#define MS UINT64_C(1000000)
#define ACCEPT_BATCH 16
/* Bytes waiting for one client: a full reply and the events behind it. */
#define MAX_QUEUE_BYTES (2u * VMP_CTL_MAX_MSG)

struct msg {
	struct msg *next;
	size_t len;
	char text[];
};

struct client {
	struct vmp_ctl *ctl;
	int fd;			/* -1 = free */
	short watched;
	uint64_t token;		/* request in work, 0 = none */
	uint64_t reply_by_ns;	/* of that request */
	uint64_t idle_by_ns;	/* no request in work, not subscribed */
	uint64_t send_by_ns;	/* something waits to be sent */
	bool closing;		/* closed as soon as the queue is empty */
	bool subscribed;
	bool all_pairs;
	char pair[64];
	struct msg *head, **tail;
	unsigned n_queued;
	size_t queued_bytes;
	uint64_t lost;		/* events not queued since the last one that was */
};

struct vmp_ctl {
	struct vmp_loop_ops ops;
	char *path;
	uid_t allow_uid;
	uint32_t send_ms, idle_ms;
	void *data;
	void (*request)(void *data, uint64_t token, const char *cmd, json_t *msg);
	void (*cancelled)(void *data, uint64_t token, int rc);
	int fd;
	bool paused;		/* not accepting: out of descriptors */
	uint64_t resume_ns;
	uint64_t last_token;
	struct vmp_ctl_stats stats;
	char *buf;
	struct client clients[VMP_CTL_MAX_CLIENTS];
};

static void client_io(int fd, short revents, void *data);
static void client_update(struct client *c);

static uint64_t now(struct vmp_ctl *ctl)
{
	return ctl->ops.now_ns(ctl->ops.loop);
}

static void client_close(struct client *c)
{
	struct vmp_ctl *ctl = c->ctl;
	uint64_t token = c->token;
	ctl->ops.del_fd(ctl->ops.loop, c->fd);
	close(c->fd);
	while (c->head) {
		struct msg *m = c->head;
		c->head = m->next;
		free(m);
	}
	if (c->subscribed)
		ctl->stats.subscribers--;
	ctl->stats.clients--;
	memset(c, 0, sizeof(*c));
	c->fd = -1;
	if (token && ctl->cancelled)
		ctl->cancelled(ctl->data, token, -ECONNRESET);
}

/* Sends what the socket takes. False: the client is closed. */
static bool client_flush(struct client *c)
{
	struct vmp_ctl *ctl = c->ctl;
	while (c->head) {
		struct msg *m = c->head;
		if (send(c->fd, m->text, m->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)
				break;
			client_close(c);
			return false;
		}
		c->head = m->next;
		if (!c->head)
			c->tail = &c->head;
		c->n_queued--;
		c->queued_bytes -= m->len;
		free(m);
		c->send_by_ns = now(ctl) + ctl->send_ms * MS;
	}
	if (!c->head && c->closing) {
		client_close(c);
		return false;
	}
	client_update(c);
	return true;
}

/* Watch for what can be used now: no new request before the last one is answered, no room before something waits. */
static void client_update(struct client *c)
{
	short want = 0;
	if (!c->token && !c->closing && !c->head)
		want |= POLLIN;
	if (c->head)
		want |= POLLOUT;
	if (want != c->watched && c->ctl->ops.mod_fd(c->ctl->ops.loop, c->fd, want) == 0)
		c->watched = want;
}

static int client_queue(struct client *c, const char *text, size_t len)
{
	struct msg *m = malloc(sizeof(*m) + len);
	if (!m)
		return -ENOMEM;
	m->next = NULL;
	m->len = len;
	memcpy(m->text, text, len);
	if (!c->head)
		c->send_by_ns = now(c->ctl) + c->ctl->send_ms * MS;
	*c->tail = m;
	c->tail = &m->next;
	c->n_queued++;
	c->queued_bytes += len;
	return 0;
}

/* Queues and sends at once what goes. The client may be closed by it. -E2BIG: the object does not fit one message. */
static int client_send(struct client *c, const json_t *obj)
{
	CLEANUP_FREE char *text = json_dumps(obj, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	size_t len = strlen(text);
	if (len > VMP_CTL_MAX_MSG)
		return -E2BIG;
	int rc = client_queue(c, text, len);
	if (rc < 0)
		return rc;
	client_flush(c);
	return 0;
}

/* Answers without a handler and, where asked, ends the connection after that. */
static void client_refuse(struct client *c, enum vmp_ctl_rc rc, const char *reason, bool closing)
{
	json_t *obj = json_pack("{s:i s:s}", "rc", (int)rc, "reason", reason);
	c->closing |= closing;
	c->idle_by_ns = now(c->ctl) + c->ctl->idle_ms * MS;
	if (!obj || client_send(c, obj) < 0)
		client_close(c);
	json_decref(obj);
}

static void client_request(struct client *c, const char *text, size_t len)
{
	struct vmp_ctl *ctl = c->ctl;
	json_error_t error;
	json_t *msg = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const char *cmd = json_string_value(json_object_get(msg, "cmd"));
	json_t *version = json_object_get(msg, "v"), *timeout = json_object_get(msg, "timeout_ms");
	json_int_t ms = timeout ? json_integer_value(timeout) : VMP_CTL_DEFAULT_TIMEOUT_MS;
	const char *wrong = NULL;

	if (!json_is_object(msg))
		wrong = "the request is not a JSON object";
	else if (!json_is_integer(version) || json_integer_value(version) != VMP_CTL_VERSION)
		wrong = "the request is of another version of the control protocol; vmpair and vmpaird must be of one release";
	else if (!cmd || !*cmd)
		wrong = "the request names no command";
	else if (ms <= 0 || ms > VMP_CTL_MAX_TIMEOUT_MS)
		wrong = "timeout_ms is out of range";
	if (wrong) {
		ctl->stats.bad_messages++;
		json_decref(msg);
		client_refuse(c, VMP_CTL_USAGE, wrong, true);
		return;
	}
	/* The token is set after the ack has gone out: a client that is already gone never comes to the handler. */
	static const char ack[] = "{\"ack\":true}";
	if (client_queue(c, ack, sizeof(ack) - 1) < 0) {
		client_close(c);
	} else if (client_flush(c)) {
		c->token = ++ctl->last_token;
		c->reply_by_ns = now(ctl) + (uint64_t)ms * MS;
		client_update(c);
		ctl->request(ctl->data, c->token, cmd, msg);
	}
	json_decref(msg);
}

static void client_io(int fd, short revents, void *data)
{
	struct client *c = data;
	struct vmp_ctl *ctl = c->ctl;
	if (revents & POLLOUT)
		if (!client_flush(c))
			return;
	if (revents & POLLIN) {
		ssize_t n = recv(fd, ctl->buf, VMP_CTL_MAX_MSG, MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			client_close(c);
			return;
		}
		if ((size_t)n > VMP_CTL_MAX_MSG) {
			ctl->stats.bad_messages++;
			client_refuse(c, VMP_CTL_USAGE, "the request is too long", true);
			return;
		}
		client_request(c, ctl->buf, (size_t)n);
		return;
	}
	if (revents & (POLLHUP | POLLERR))
		client_close(c);
}

/* For a newcomer when all places are taken: of those that nobody waits for, the one that is quiet for longest. */
static struct client *evict(struct vmp_ctl *ctl)
{
	struct client *oldest = NULL;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS; i++) {
		struct client *c = &ctl->clients[i];
		if (!c->token && !c->subscribed && (!oldest || c->idle_by_ns < oldest->idle_by_ns))
			oldest = c;
	}
	if (oldest) {
		ctl->stats.dropped_idle++;
		client_close(oldest);
	}
	return oldest;
}

static void refuse_fd(int fd, enum vmp_ctl_rc rc, const char *reason)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "{\"rc\":%d,\"reason\":\"%s\"}", (int)rc, reason);
	send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void accept_one(struct vmp_ctl *ctl, int fd)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || (cred.uid != ctl->allow_uid && cred.uid != 0)) {
		ctl->stats.refused_uid++;
		refuse_fd(fd, VMP_CTL_DENIED, "only root may talk to vmpaird");
		return;
	}
	struct client *c = NULL;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS && !c; i++)
		if (ctl->clients[i].fd < 0)
			c = &ctl->clients[i];
	if (!c)
		c = evict(ctl);
	if (!c) {
		ctl->stats.refused_full++;
		refuse_fd(fd, VMP_CTL_FAILED, "too many clients");
		return;
	}
	int size = VMP_CTL_MAX_MSG;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	*c = (struct client){.ctl = ctl, .fd = fd, .watched = POLLIN, .tail = &c->head, .idle_by_ns = now(ctl) + ctl->idle_ms * MS};
	int rc = ctl->ops.add_fd(ctl->ops.loop, fd, POLLIN, client_io, c);
	if (rc < 0) {
		c->fd = -1;
		refuse_fd(fd, VMP_CTL_FAILED, "out of resources");
		return;
	}
	ctl->stats.accepted++;
	ctl->stats.clients++;
}

static void listener_io(int fd, short revents, void *data)
{
	struct vmp_ctl *ctl = data;
	(void)revents;
	for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
		int cfd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (cfd < 0) {
			/* Out of descriptors: the waiting connection would wake us for ever. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				ctl->paused = ctl->ops.mod_fd(ctl->ops.loop, fd, 0) == 0;
				ctl->resume_ns = now(ctl) + 200 * MS;
			}
			return;
		}
		accept_one(ctl, cfd);
	}
}

int vmp_ctl_new(struct vmp_ctl **ret, const struct vmp_ctl_params *params, char *reason, size_t reason_size)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	const char *path = params->path ? params->path : VMP_CTL_SOCKET;
	int rc = -ENOMEM;
	bool bound = false;

	if (strlen(path) >= sizeof(sa.sun_path)) {
		snprintf(reason, reason_size, "%s: the path is too long for a socket", path);
		return -ENAMETOOLONG;
	}
	memcpy(sa.sun_path, path, strlen(path) + 1);
	struct vmp_ctl *ctl = calloc(1, sizeof(*ctl));
	if (!ctl) {
		snprintf(reason, reason_size, "out of memory");
		return -ENOMEM;
	}
	ctl->ops = *params->ops;
	ctl->allow_uid = params->allow_uid;
	vmp_ctl_set_client_timeout(ctl, params->client_timeout_ms);
	ctl->data = params->data;
	ctl->request = params->request;
	ctl->cancelled = params->cancelled;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS; i++)
		ctl->clients[i].fd = -1;
	ctl->path = strdup(path);
	ctl->buf = malloc(VMP_CTL_MAX_MSG);
	ctl->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!ctl->path || !ctl->buf || ctl->fd < 0) {
		rc = ctl->fd < 0 ? -errno : -ENOMEM;
		snprintf(reason, reason_size, "%s: %s", path, strerror(-rc));
		goto fail;
	}
	if (connect(ctl->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN) {
		rc = -EADDRINUSE;
		snprintf(reason, reason_size, "%s: another vmpaird listens there", path);
		goto fail;
	}
	unlink(path);
	/* Linux gives the socket's own mode to the file, so it is never open to others. */
	if (fchmod(ctl->fd, 0600) < 0 || bind(ctl->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		rc = -errno;
	else
		rc = 0;
	bound = rc == 0;
	if (rc == 0 && listen(ctl->fd, VMP_CTL_MAX_CLIENTS) < 0)
		rc = -errno;
	if (rc == 0)
		rc = ctl->ops.add_fd(ctl->ops.loop, ctl->fd, POLLIN, listener_io, ctl);
	if (rc < 0) {
		snprintf(reason, reason_size, "%s: cannot listen: %s", path, strerror(-rc));
		goto fail;
	}
	*ret = ctl;
	return 0;
fail:
	if (bound)
		unlink(path);
	if (ctl->fd >= 0)
		close(ctl->fd);
	free(ctl->path);
	free(ctl->buf);
	free(ctl);
	return rc;
}

void vmp_ctl_set_client_timeout(struct vmp_ctl *ctl, uint32_t ms)
{
	ctl->send_ms = ms ? ms : VMP_CTL_SEND_MS;
	ctl->idle_ms = ms ? ms : VMP_CTL_IDLE_MS;
}

struct vmp_ctl *vmp_ctl_free(struct vmp_ctl *ctl)
{
	if (!ctl)
		return NULL;
	ctl->cancelled = NULL;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS; i++)
		if (ctl->clients[i].fd >= 0)
			client_close(&ctl->clients[i]);
	ctl->ops.del_fd(ctl->ops.loop, ctl->fd);
	close(ctl->fd);
	unlink(ctl->path);
	free(ctl->path);
	free(ctl->buf);
	free(ctl);
	return NULL;
}

static struct client *by_token(struct vmp_ctl *ctl, uint64_t token)
{
	for (unsigned i = 0; token && i < VMP_CTL_MAX_CLIENTS; i++)
		if (ctl->clients[i].fd >= 0 && ctl->clients[i].token == token)
			return &ctl->clients[i];
	return NULL;
}

/* Takes the token off the client and sends; a reply that cannot be sent is replaced by one that says so. */
static int answer(struct client *c, int rc, const char *reason, json_t *extra)
{
	json_t *obj = extra ? extra : json_object();
	json_object_set_new(obj, "rc", json_integer(rc));
	json_object_set_new(obj, "reason", json_string(reason ? reason : ""));
	c->token = 0;
	c->idle_by_ns = now(c->ctl) + c->ctl->idle_ms * MS;
	int sent = client_send(c, obj);
	if (sent < 0)
		client_refuse(c, VMP_CTL_FAILED, sent == -E2BIG ? "the answer is too long for one message; ask for one pair" : "out of memory",
			      false);
	json_decref(obj);
	return sent;
}

int vmp_ctl_reply(struct vmp_ctl *ctl, uint64_t token, int rc, const char *reason, json_t *extra)
{
	struct client *c = by_token(ctl, token);
	if (!c) {
		json_decref(extra);
		return -ENOENT;
	}
	return answer(c, rc, reason, extra);
}

int vmp_ctl_reply_ocf(struct vmp_ctl *ctl, uint64_t token, int ocf, const char *reason)
{
	return vmp_ctl_reply(ctl, token, VMP_CTL_OK, reason, json_pack("{s:i}", "ocf", ocf));
}

int vmp_ctl_subscribe(struct vmp_ctl *ctl, uint64_t token, const char *pair, json_t *extra)
{
	struct client *c = by_token(ctl, token);
	if (!c) {
		json_decref(extra);
		return -ENOENT;
	}
	if (ctl->stats.subscribers >= VMP_CTL_MAX_SUBSCRIBERS) {
		json_decref(extra);
		answer(c, VMP_CTL_FAILED, "too many subscribers", NULL);
		return -EBUSY;
	}
	c->subscribed = true;
	c->all_pairs = !pair;
	snprintf(c->pair, sizeof(c->pair), "%s", pair ? pair : "");
	ctl->stats.subscribers++;
	return answer(c, VMP_CTL_OK, NULL, extra);
}

void vmp_ctl_publish(struct vmp_ctl *ctl, const char *pair, const json_t *event)
{
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS; i++) {
		struct client *c = &ctl->clients[i];
		if (c->fd < 0 || !c->subscribed || c->closing || (pair && !c->all_pairs && strcmp(pair, c->pair)))
			continue;
		if (!text) {
			json_t *obj = json_pack("{s:O}", "event", event);
			text = obj ? json_dumps(obj, JSON_COMPACT) : NULL;
			json_decref(obj);
			if (!text)
				return;
			len = strlen(text);
		}
		char lost[48];
		int lost_len = snprintf(lost, sizeof(lost), "{\"lost\":%llu}", (unsigned long long)c->lost);
		if (c->n_queued + 2 > VMP_CTL_MAX_QUEUE || c->queued_bytes + len > MAX_QUEUE_BYTES || len > VMP_CTL_MAX_MSG ||
		    (c->lost && client_queue(c, lost, (size_t)lost_len) < 0)) {
			c->lost++;
			ctl->stats.events_lost++;
			continue;
		}
		c->lost = 0;
		if (client_queue(c, text, len) < 0)
			c->lost = 1;
		client_flush(c);
	}
}

/* The instant at which a client is to be looked at, and why. */
enum due { DUE_NONE, DUE_SEND, DUE_REPLY, DUE_IDLE };

static uint64_t client_due(const struct client *c, enum due *ret_why)
{
	uint64_t at = VMP_NO_DEADLINE;
	enum due why = DUE_NONE;
	if (c->head) {
		at = c->send_by_ns;
		why = DUE_SEND;
	}
	if (c->token && c->reply_by_ns < at) {
		at = c->reply_by_ns;
		why = DUE_REPLY;
	} else if (!c->token && !c->subscribed && !c->head && c->idle_by_ns < at) {
		at = c->idle_by_ns;
		why = DUE_IDLE;
	}
	*ret_why = why;
	return at;
}

uint64_t vmp_ctl_deadline_ns(const struct vmp_ctl *ctl)
{
	uint64_t min = ctl->paused ? ctl->resume_ns : VMP_NO_DEADLINE;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS; i++) {
		enum due why;
		if (ctl->clients[i].fd < 0)
			continue;
		uint64_t at = client_due(&ctl->clients[i], &why);
		min = at < min ? at : min;
	}
	return min;
}

void vmp_ctl_tick(struct vmp_ctl *ctl, uint64_t now_ns)
{
	if (ctl->paused && now_ns >= ctl->resume_ns && ctl->ops.mod_fd(ctl->ops.loop, ctl->fd, POLLIN) == 0)
		ctl->paused = false;
	for (unsigned i = 0; i < VMP_CTL_MAX_CLIENTS; i++) {
		struct client *c = &ctl->clients[i];
		enum due why;
		if (c->fd < 0 || client_due(c, &why) > now_ns)
			continue;
		switch (why) {
		case DUE_SEND:
			ctl->stats.dropped_slow++;
			client_close(c);
			break;
		case DUE_IDLE:
			ctl->stats.dropped_idle++;
			client_close(c);
			break;
		case DUE_REPLY: {
			uint64_t token = c->token;
			ctl->stats.timeouts++;
			answer(c, VMP_CTL_TIMEOUT, "not done within the time given", NULL);
			if (ctl->cancelled)
				ctl->cancelled(ctl->data, token, -ETIMEDOUT);
			break;
		}
		case DUE_NONE:
			break;
		}
	}
}

void vmp_ctl_get_stats(const struct vmp_ctl *ctl, struct vmp_ctl_stats *ret)
{
	*ret = ctl->stats;
}
