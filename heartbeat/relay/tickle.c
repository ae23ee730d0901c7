/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After a takeover: clients that were connected to the old primary and wait for an answer are made to notice (daemon/tickle.h). Which
 * ones there were is in the records. Inside a guest the relay sends by itself, where it is let; on a host it has no right to and asks
 * the daemon, which checks that the segment comes from the pair's own address. Several rounds, as the first ones may reach the client
 * before the news where the address is now; some at a time, so that ten thousand clients do not come back in one moment.
 */
#include "heartbeat/relay/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TICKLES_MAX = 65536, BATCH = 32, PAUSE_NS = 2000000, NOT_OPEN = -1, NOT_LET = -2 };
/* The first one behind the announcement of the address; Linux answers such segments of one connection only every 500 ms. */
static const uint64_t round_ns[] = { 10000000, 550000000, 1100000000, 2500000000 };

struct vmpr_tickles {
	struct vmp_tickle *t;
	size_t n, at, sent;
	unsigned int round;
	uint64_t start_ns, due_ns;
	int fd[2]; /* guest: IPv4, IPv6 */
};

size_t vmpr_tickle_of(const struct vmpr_addr *server, const struct vmpr_addr *client, uint8_t wire[VMP_TICKLE_WIRE_MAX])
{
	const struct sockaddr_in *s4 = (const void *)&server->ss, *c4 = (const void *)&client->ss;
	const struct sockaddr_in6 *s6 = (const void *)&server->ss, *c6 = (const void *)&client->ss;
	struct vmp_tickle t = { .family = client->ss.ss_family };

	if (server->ss.ss_family != client->ss.ss_family)
		return 0;
	if (t.family == AF_INET6) {
		memcpy(t.server, &s6->sin6_addr, 16);
		memcpy(t.client, &c6->sin6_addr, 16);
		t.server_port = ntohs(s6->sin6_port);
		t.client_port = ntohs(c6->sin6_port);
	} else {
		memcpy(t.server, &s4->sin_addr, 4);
		memcpy(t.client, &c4->sin_addr, 4);
		t.server_port = ntohs(s4->sin_port);
		t.client_port = ntohs(c4->sin_port);
	}
	return vmp_tickle_pack(wire, &t);
}

void vmpr_tickles_stop(struct vmpr_relay *r)
{
	struct vmpr_tickles *k = r->tickles;

	if (!k)
		return;
	for (unsigned int i = 0; i < 2; i++)
		if (k->fd[i] >= 0)
			close(k->fd[i]);
	free(k->t);
	free(k);
	r->tickles = NULL;
}

/* They belong to epochs before: the session forgets them when it becomes primary, so they are collected before that. */
void vmpr_tickles_collect(struct vmpr_relay *r)
{
	struct vmpr_tickles *k;
	struct vmpair_conn c;
	uint64_t cursor = 0;
	size_t n = 0;

	vmpr_tickles_stop(r);
	while (n < TICKLES_MAX && vmpair_session_next_conn(r->session, &cursor, &c))
		n++;
	if (!n)
		return;
	k = calloc(1, sizeof(*k));
	if (!k)
		return; /* clients then notice by themselves */
	k->fd[0] = k->fd[1] = NOT_OPEN;
	k->t = calloc(n, sizeof(*k->t));
	if (!k->t) {
		free(k);
		return;
	}
	for (cursor = 0; k->n < n && vmpair_session_next_conn(r->session, &cursor, &c);)
		k->n += vmp_tickle_unpack(&k->t[k->n], c.data, c.len) == 0;
	r->tickles = k;
}

void vmpr_tickles_start(struct vmpr_relay *r)
{
	if (!r->tickles)
		return;
	r->tickles->start_ns = r->ev.now_ns;
	r->tickles->due_ns = r->ev.now_ns + round_ns[0];
}

uint64_t vmpr_tickles_deadline(const struct vmpr_relay *r)
{
	return r->tickles ? r->tickles->due_ns : VMPR_NEVER;
}

static void send_here(struct vmpr_relay *r, const struct vmp_tickle *t)
{
	int *fd = &r->tickles->fd[t->family == AF_INET6];

	if (*fd == NOT_OPEN) {
		int n = vmp_tickle_socket(t->family);

		*fd = n < 0 ? NOT_LET : n;
		if (n < 0)
			vmpr_note(r, LOG_NOTICE, "clients of the old primary notice by themselves that it is gone: no raw socket: %s", strerror(-n));
	}
	if (*fd >= 0)
		vmp_tickle_send(*fd, t); /* one that is lost is sent again */
}

static bool same_server(const struct vmp_tickle *a, const struct vmp_tickle *b)
{
	return a->family == b->family && a->server_port == b->server_port && memcmp(a->server, b->server, sizeof(a->server)) == 0;
}

/* Connections to one address and port in one line. */
static void ask_daemon(struct vmpr_relay *r, const struct vmp_tickle *t, size_t n)
{
	char server[INET6_ADDRSTRLEN], client[INET6_ADDRSTRLEN];
	json_t *to = json_array();

	inet_ntop(t->family, t->server, server, sizeof(server));
	for (size_t i = 0; i < n; i++) {
		inet_ntop(t->family, t[i].client, client, sizeof(client));
		json_array_append_new(to, json_pack("[s,i]", client, (int)t[i].client_port));
	}
	vmpr_ctl_send(&r->ctl, json_pack("{s:s,s:s,s:i,s:o}", "ev", "tickle", "from", server, "port", (int)t->server_port, "to", to), false);
}

void vmpr_tickles_tick(struct vmpr_relay *r)
{
	struct vmpr_tickles *k = r->tickles;
	size_t end = k->n - k->at < BATCH ? k->n : k->at + BATCH;

	while (k->at < end) {
		const struct vmp_tickle *t = &k->t[k->at];
		size_t n = 1;

		if (r->guest) {
			send_here(r, t);
		} else {
			while (k->at + n < end && same_server(t, t + n))
				n++;
			ask_daemon(r, t, n);
		}
		k->at += n;
	}
	k->due_ns = r->ev.now_ns + PAUSE_NS;
	if (k->at < k->n)
		return;
	if (!k->round)
		vmpr_note(r, LOG_INFO, "%zu clients of the old primary are told that their connections are over", k->n);
	k->at = 0;
	if (++k->round == sizeof(round_ns) / sizeof(round_ns[0]))
		vmpr_tickles_stop(r);
	else if (k->start_ns + round_ns[k->round] > k->due_ns)
		k->due_ns = k->start_ns + round_ns[k->round];
}
