/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/cluster.h"

#include <corosync/cmap.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"

enum { QUEUE_LEN = 256, RETRY_MS = 500, SEND_RETRY_MS = 10 };

struct item {
	struct item *next;
	struct vmp_cluster_event ev;
};

struct out {
	size_t len;
	uint8_t *data;
};

struct vmp_cluster {
	pthread_t thread;
	pthread_mutex_t lock;
	int event_fd; /* thread -> owner */
	int wake_fd;  /* owner -> thread */
	bool stop, connected;
	struct item *first, **last;
	unsigned n_items;
	struct out send[QUEUE_LEN];
	unsigned send_head, send_count;

	/* the thread's own */
	cmap_handle_t cmap;
	cmap_track_handle_t track;
	cpg_handle_t cpg;
	quorum_handle_t quorum;
	bool have_cmap, have_cpg, have_quorum, nodelist_changed, failed;
};

static const struct cpg_name group = { .length = 6, .value = "vmpair" };

static void poke(int fd)
{
	uint64_t one = 1;
	ssize_t r = write(fd, &one, sizeof(one)); /* EAGAIN: it is readable already */

	(void)r;
}

static void drain(int fd)
{
	uint64_t n;
	ssize_t r = read(fd, &n, sizeof(n));

	(void)r;
}

/* State events replace each other in meaning, so only messages are refused when the owner is behind. */
static void post(struct vmp_cluster *c, const struct vmp_cluster_event *ev)
{
	struct item *it;

	it = calloc(1, sizeof(*it));
	if (!it) {
		free(ev->data);
		return;
	}
	it->ev = *ev;
	pthread_mutex_lock(&c->lock);
	if (ev->type == VMP_CLUSTER_MSG && c->n_items >= QUEUE_LEN) {
		pthread_mutex_unlock(&c->lock);
		free(ev->data);
		free(it);
		return;
	}
	*c->last = it;
	c->last = &it->next;
	c->n_items++;
	pthread_mutex_unlock(&c->lock);
	poke(c->event_fd);
}

static void get_string(cmap_handle_t h, const char *key, char *buf, size_t cap)
{
	char *s = NULL;

	buf[0] = '\0';
	if (cmap_get_string(h, key, &s) == CS_OK) {
		snprintf(buf, cap, "%s", s);
		free(s);
	}
}

static int read_nodelist(struct vmp_cluster *c, struct vmp_cluster_event *ev)
{
	uint32_t own_pos = UINT32_MAX;

	cmap_get_uint32(c->cmap, "nodelist.local_node_pos", &own_pos);
	for (uint32_t pos = 0; pos < VMP_CLUSTER_MAX_NODES; pos++) {
		struct vmp_cluster_node *n = &ev->nodes[ev->n_nodes];
		char key[CMAP_KEYNAME_MAXLEN + 1];

		memset(n, 0, sizeof(*n));
		snprintf(key, sizeof(key), "nodelist.node.%u.nodeid", pos);
		if (cmap_get_uint32(c->cmap, key, &n->id) != CS_OK)
			continue;
		for (unsigned i = 0; i < ARRAY_SIZE(n->addr); i++) {
			snprintf(key, sizeof(key), "nodelist.node.%u.ring%u_addr", pos, i);
			get_string(c->cmap, key, n->addr[i], sizeof(n->addr[i]));
		}
		snprintf(key, sizeof(key), "nodelist.node.%u.name", pos);
		get_string(c->cmap, key, n->name, sizeof(n->name));
		if (!n->name[0])
			memcpy(n->name, n->addr[0], sizeof(n->name));
		if (pos == own_pos)
			ev->own_id = n->id;
		ev->n_nodes++;
	}
	return ev->n_nodes && ev->own_id ? 0 : -ENOENT;
}

static void on_cmap(cmap_handle_t h, cmap_track_handle_t t, int32_t event, const char *key, struct cmap_notify_value nv,
		    struct cmap_notify_value ov, void *data)
{
	struct vmp_cluster *c = data;

	(void)h, (void)t, (void)event, (void)key, (void)nv, (void)ov;
	c->nodelist_changed = true;
}

static void on_deliver(cpg_handle_t h, const struct cpg_name *g, uint32_t node, uint32_t pid, void *msg, size_t len)
{
	struct vmp_cluster_event ev = { .type = VMP_CLUSTER_MSG, .from = node, .len = len };
	void *ctx = NULL;

	(void)g, (void)pid;
	if (len > VMP_CLUSTER_MSG_MAX || cpg_context_get(h, &ctx) != CS_OK)
		return;
	ev.data = malloc(len + 1);
	if (!ev.data)
		return;
	memcpy(ev.data, msg, len);
	ev.data[len] = '\0';
	post(ctx, &ev);
}

static void on_confchg(cpg_handle_t h, const struct cpg_name *g, const struct cpg_address *members, size_t n,
		       const struct cpg_address *left, size_t n_left, const struct cpg_address *joined, size_t n_joined)
{
	struct vmp_cluster_event ev = { .type = VMP_CLUSTER_MEMBERS };
	void *ctx = NULL;

	(void)g, (void)left, (void)n_left, (void)joined, (void)n_joined;
	if (cpg_context_get(h, &ctx) != CS_OK)
		return;
	for (size_t i = 0; i < n && ev.n_nodes < VMP_CLUSTER_MAX_NODES; i++)
		ev.nodes[ev.n_nodes++].id = members[i].nodeid;
	post(ctx, &ev);
}

static void on_totem(cpg_handle_t h, struct cpg_ring_id ring, uint32_t n, const uint32_t *members)
{
	(void)h, (void)ring, (void)n, (void)members;
}

static void on_quorum(quorum_handle_t h, uint32_t quorate, struct quorum_ring_id ring, uint32_t n, const uint32_t *members)
{
	struct vmp_cluster_event ev = { .type = VMP_CLUSTER_QUORUM, .quorate = quorate, .ring_seq = ring.seq };
	const void *ctx = NULL;

	if (quorum_context_get(h, &ctx) != CS_OK)
		return;
	for (uint32_t i = 0; i < n && ev.n_nodes < VMP_CLUSTER_MAX_NODES; i++)
		ev.nodes[ev.n_nodes++].id = members[i];
	post((struct vmp_cluster *)(uintptr_t)ctx, &ev);
}

static void on_quorum_nodelist(quorum_handle_t h, struct quorum_ring_id ring, uint32_t n, const uint32_t *members,
			       uint32_t n_joined, const uint32_t *joined, uint32_t n_left, const uint32_t *left)
{
	(void)h, (void)ring, (void)n, (void)members, (void)n_joined, (void)joined, (void)n_left, (void)left;
}

static void disconnect(struct vmp_cluster *c)
{
	struct vmp_cluster_event ev = { .type = VMP_CLUSTER_LOST };

	if (c->have_cpg)
		cpg_finalize(c->cpg);
	if (c->have_quorum)
		quorum_finalize(c->quorum);
	if (c->have_cmap)
		cmap_finalize(c->cmap);
	c->have_cpg = c->have_quorum = c->have_cmap = c->failed = false;
	pthread_mutex_lock(&c->lock);
	bool was = c->connected;
	c->connected = false;
	while (c->send_count) { /* what was not sent is out of date after a reconnection; the owner states its state anew */
		free(c->send[c->send_head].data);
		c->send_head = (c->send_head + 1) % QUEUE_LEN;
		c->send_count--;
	}
	pthread_mutex_unlock(&c->lock);
	if (was)
		post(c, &ev);
}

static bool connect_all(struct vmp_cluster *c)
{
	cpg_model_v1_data_t cpg_model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_deliver,
		.cpg_confchg_fn = on_confchg,
		.cpg_totem_confchg_fn = on_totem,
		.flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
	};
	quorum_model_v1_data_t quorum_model = {
		.model = QUORUM_MODEL_V1,
		.quorum_notify_fn = on_quorum,
		.nodelist_notify_fn = on_quorum_nodelist,
	};
	struct vmp_cluster_event up = { .type = VMP_CLUSTER_UP };
	uint32_t quorum_type;
	struct cpg_name g = group;

	if (cmap_initialize(&c->cmap) != CS_OK)
		return false;
	c->have_cmap = true;
	if (read_nodelist(c, &up) < 0)
		return false;
	if (cmap_track_add(c->cmap, "nodelist.", CMAP_TRACK_ADD | CMAP_TRACK_DELETE | CMAP_TRACK_MODIFY | CMAP_TRACK_PREFIX,
			   on_cmap, c, &c->track) != CS_OK)
		return false;
	if (quorum_model_initialize(&c->quorum, QUORUM_MODEL_V1, (quorum_model_data_t *)&quorum_model, &quorum_type, c) != CS_OK)
		return false;
	c->have_quorum = true;
	if (cpg_model_initialize(&c->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&cpg_model, c) != CS_OK)
		return false;
	c->have_cpg = true;
	if (quorum_trackstart(c->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES) != CS_OK)
		return false;
	if (cpg_join(c->cpg, &g) != CS_OK)
		return false;
	pthread_mutex_lock(&c->lock);
	c->connected = true;
	pthread_mutex_unlock(&c->lock);
	post(c, &up);
	return true;
}

/* Returns whether something is left to be sent. */
static bool send_queued(struct vmp_cluster *c)
{
	for (;;) {
		struct iovec iov;
		cs_error_t r;

		pthread_mutex_lock(&c->lock);
		if (!c->send_count) {
			pthread_mutex_unlock(&c->lock);
			return false;
		}
		iov.iov_base = c->send[c->send_head].data;
		iov.iov_len = c->send[c->send_head].len;
		pthread_mutex_unlock(&c->lock);
		r = cpg_mcast_joined(c->cpg, CPG_TYPE_AGREED, &iov, 1);
		if (r == CS_ERR_TRY_AGAIN)
			return true;
		pthread_mutex_lock(&c->lock);
		free(c->send[c->send_head].data);
		c->send_head = (c->send_head + 1) % QUEUE_LEN;
		c->send_count--;
		pthread_mutex_unlock(&c->lock);
		if (r != CS_OK) {
			c->failed = true;
			return false;
		}
	}
}

static bool stopping(struct vmp_cluster *c)
{
	pthread_mutex_lock(&c->lock);
	bool stop = c->stop;
	pthread_mutex_unlock(&c->lock);
	return stop;
}

/* Dispatch what is there; a dead corosync shows as an error of any of the three. */
static bool dispatch_ok(cs_error_t r)
{
	return r == CS_OK || r == CS_ERR_TRY_AGAIN;
}

static void *run(void *arg)
{
	struct vmp_cluster *c = arg;

	while (!stopping(c)) {
		int cmap_fd = -1, cpg_fd = -1, quorum_fd = -1;
		bool pending;

		if (!connect_all(c) || cmap_fd_get(c->cmap, &cmap_fd) != CS_OK || cpg_fd_get(c->cpg, &cpg_fd) != CS_OK ||
		    quorum_fd_get(c->quorum, &quorum_fd) != CS_OK) {
			struct pollfd p = { .fd = c->wake_fd, .events = POLLIN };

			disconnect(c);
			if (poll(&p, 1, RETRY_MS) > 0)
				drain(c->wake_fd);
			continue;
		}
		pending = false;
		while (!stopping(c) && !c->failed) {
			struct pollfd p[] = {
				{ .fd = c->wake_fd, .events = POLLIN }, { .fd = cpg_fd, .events = POLLIN },
				{ .fd = quorum_fd, .events = POLLIN },  { .fd = cmap_fd, .events = POLLIN },
			};

			if (poll(p, ARRAY_SIZE(p), pending ? SEND_RETRY_MS : -1) < 0 && errno != EINTR)
				break;
			if (p[0].revents)
				drain(c->wake_fd);
			if ((p[1].revents && !dispatch_ok(cpg_dispatch(c->cpg, CS_DISPATCH_ALL))) ||
			    (p[2].revents && !dispatch_ok(quorum_dispatch(c->quorum, CS_DISPATCH_ALL))) ||
			    (p[3].revents && !dispatch_ok(cmap_dispatch(c->cmap, CS_DISPATCH_ALL))))
				break;
			if (c->nodelist_changed) {
				struct vmp_cluster_event ev = { .type = VMP_CLUSTER_NODELIST };

				c->nodelist_changed = false;
				if (read_nodelist(c, &ev) == 0)
					post(c, &ev);
			}
			pending = send_queued(c);
		}
		disconnect(c);
	}
	return NULL;
}

int vmp_cluster_new(struct vmp_cluster **ret)
{
	struct vmp_cluster *c = calloc(1, sizeof(*c));
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	c->last = &c->first;
	c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->event_fd < 0 || c->wake_fd < 0) {
		r = -errno;
		goto fail;
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 4 << 20); /* cpg_dispatch() keeps a buffer of 1 MiB on the stack */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&c->thread, &attr, run, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r == 0) {
		*ret = c;
		return 0;
	}
fail:
	if (c->event_fd >= 0)
		close(c->event_fd);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	free(c);
	return r;
}

void vmp_cluster_free(struct vmp_cluster *c)
{
	struct vmp_cluster_event ev;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_mutex_unlock(&c->lock);
	poke(c->wake_fd);
	/* A frozen corosync can hold the thread in a call for ever; the process is about to end, so it is not waited for. */
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	if (pthread_timedjoin_np(c->thread, NULL, &until) != 0) {
		pthread_detach(c->thread);
		return;
	}
	while (vmp_cluster_next(c, &ev) > 0)
		vmp_cluster_event_done(&ev);
	close(c->event_fd);
	close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int vmp_cluster_fd(const struct vmp_cluster *c)
{
	return c->event_fd;
}

int vmp_cluster_next(struct vmp_cluster *c, struct vmp_cluster_event *ret)
{
	struct item *it;

	pthread_mutex_lock(&c->lock);
	it = c->first;
	if (it) {
		c->first = it->next;
		if (!c->first)
			c->last = &c->first;
		c->n_items--;
	} else {
		drain(c->event_fd);
	}
	pthread_mutex_unlock(&c->lock);
	if (!it)
		return 0;
	*ret = it->ev;
	free(it);
	return 1;
}

void vmp_cluster_event_done(struct vmp_cluster_event *ev)
{
	free(TAKE_PTR(ev->data));
}

int vmp_cluster_send(struct vmp_cluster *c, const void *data, size_t len)
{
	uint8_t *copy;
	int r = 0;

	if (len > VMP_CLUSTER_MSG_MAX)
		return -EMSGSIZE;
	copy = malloc(len ? len : 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	pthread_mutex_lock(&c->lock);
	if (!c->connected) {
		r = -ENOTCONN;
	} else if (c->send_count == QUEUE_LEN) {
		r = -ENOBUFS;
	} else {
		c->send[(c->send_head + c->send_count++) % QUEUE_LEN] = (struct out){ len, copy };
		copy = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	free(copy);
	if (r == 0)
		poke(c->wake_fd);
	return r;
}
