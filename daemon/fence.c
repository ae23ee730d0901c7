/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/fence.h"
#include "internal/cleanup.h"

#define SET_GATED "gated"
#define SET_ARMED "armed"
#define SET_GATED6 "gated6"
#define SET_ARMED6 "armed6"
#define PRIORITY (-350)
/* NF_BR_PRE_ROUTING and NF_BR_POST_ROUTING; their header does not compile beside net/if.h. */
#define HOOK_PREROUTING 0
#define HOOK_POSTROUTING 4
#define BATCH_MAX 262144 /* a batch fills half of it at most */
#define LO_INDEX 1	 /* in every network namespace */
#define ICMPV6 58
#define WATCH_DATAGRAMS 64 /* per call: a foreign load of thousands of rules must not hold up other work */
/* nft's own numbers for `type ifname` and `type iface_index`, so that `nft list` shows the sets readably. */
#define TYPE_IFNAME 41
#define TYPE_IFINDEX 20
#define TYPE_IPADDR 7
#define TYPE_IP6ADDR 8
#define TYPE_JOIN(a, b) ((a) << 6 | (b))
#define BYTEORDER_HOST 1
#define BYTEORDER_NETWORK 2
/* Flags newer than the headers of the oldest system we build on. */
#define TABLE_OWNER 0x2U
#define TABLE_PERSIST 0x4U

enum table { T_BRIDGE, T_INET, T_ARP, N_TABLES };
#define MAX_RULES 8

static const uint8_t families[N_TABLES] = { NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_ARP };
static const unsigned int n_rules[N_TABLES] = { 4, 6, 2 };

struct host {
	char name[64];
	int ifindex;
	unsigned int n;
	struct vmp_fence_addr addr[VMP_FENCE_HOST_ADDRS];
	bool doubt; /* as below */
};

struct vmp_fence {
	struct mnl_socket *req;
	struct mnl_socket *watch;
	unsigned int portid;
	uint32_t seq;
	bool no_owner, owned, installed;
	bool stands[N_TABLES];
	uint64_t handle[N_TABLES]; /* of the table in the kernel: another one by that name is not ours */
	uint64_t rule[N_TABLES][MAX_RULES];
	unsigned int n_gated, n_armed, n_hosts;
	struct host host[VMP_FENCE_HOSTS];
	char gated[VMP_FENCE_MAX][IFNAMSIZ];
	uint32_t armed[VMP_FENCE_MAX];
	/* Interfaces of which a change of `armed` failed: what the kernel has is not known until the whole table was written. */
	unsigned int n_doubt;
	uint32_t doubt[VMP_FENCE_MAX];
	char tx[BATCH_MAX] __attribute__((aligned(8)));
	char rx[32768] __attribute__((aligned(8)));
};

static struct mnl_socket *open_socket(unsigned int group)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int g = (int)group;

	if (!s)
		return NULL;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    (group && mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, &g, sizeof g) < 0)) {
		int saved = errno;
		mnl_socket_close(s);
		errno = saved;
		return NULL;
	}
	return s;
}

int vmp_fence_new(struct vmp_fence **ret, bool no_owner)
{
	struct vmp_fence *f = calloc(1, sizeof *f);
	int size = 4 << 20, r;

	if (!f)
		return -ENOMEM;
	f->no_owner = no_owner;
	f->req = open_socket(0);
	f->watch = f->req ? open_socket(NFNLGRP_NFTABLES) : NULL;
	if (!f->watch) {
		r = -errno;
		vmp_fence_free(f);
		return r;
	}
	/* Room for the messages of a large foreign ruleset; an overrun is handled, so failing here is no error. */
	(void)setsockopt(mnl_socket_get_fd(f->watch), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	f->portid = mnl_socket_get_portid(f->req);
	*ret = f;
	return 0;
}

struct vmp_fence *vmp_fence_free(struct vmp_fence *f)
{
	if (!f)
		return NULL;
	if (f->req)
		mnl_socket_close(f->req);
	if (f->watch)
		mnl_socket_close(f->watch);
	free(f);
	return NULL;
}

/* --- one transaction --------------------------------------------------------------------------------------------- */

struct batch {
	struct vmp_fence *f;
	struct mnl_nlmsg_batch *b;
	enum table t;
	uint32_t set_id;
	bool full;
};

static int batch_begin(struct batch *b, struct vmp_fence *f)
{
	b->f = f;
	b->t = T_BRIDGE;
	b->set_id = 0;
	b->full = false;
	b->b = mnl_nlmsg_batch_start(f->tx, sizeof f->tx / 2);
	if (!b->b)
		return -ENOMEM;
	nftnl_batch_begin(mnl_nlmsg_batch_current(b->b), ++f->seq);
	mnl_nlmsg_batch_next(b->b);
	return 0;
}

static struct nlmsghdr *batch_msg(struct batch *b, uint16_t type, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(b->b), type, families[b->t], flags, ++b->f->seq);
}

static void batch_next(struct batch *b)
{
	if (!mnl_nlmsg_batch_next(b->b))
		b->full = true;
}

/* The kernel has answered when sendmsg returns: the first error counts, else at least one acknowledgement must be
 * there. */
static int batch_commit(struct batch *b)
{
	struct vmp_fence *f = b->f;
	uint32_t first = ((struct nlmsghdr *)f->tx)->nlmsg_seq;
	int result = -EIO;
	ssize_t n;

	nftnl_batch_end(mnl_nlmsg_batch_current(b->b), ++f->seq);
	batch_next(b);
	if (b->full) {
		mnl_nlmsg_batch_stop(b->b);
		return -EMSGSIZE;
	}
	do
		n = mnl_socket_sendto(f->req, mnl_nlmsg_batch_head(b->b), mnl_nlmsg_batch_size(b->b));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		result = -errno;
	mnl_nlmsg_batch_stop(b->b);
	if (n < 0)
		return result;
	while ((n = mnl_socket_recvfrom(f->req, f->rx, sizeof f->rx)) > 0) {
		int len = (int)n;

		for (const struct nlmsghdr *nlh = (const void *)f->rx; mnl_nlmsg_ok(nlh, len);
		     nlh = mnl_nlmsg_next(nlh, &len)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

			if (nlh->nlmsg_type != NLMSG_ERROR || (int32_t)(nlh->nlmsg_seq - first) < 0)
				continue;
			if (e->error < 0 && (result == -EIO || !result))
				result = e->error;
			else if (!e->error && result == -EIO)
				result = 0;
		}
	}
	return result;
}

static int put_table(struct batch *b, uint16_t type, uint16_t flags, uint32_t table_flags)
{
	struct nftnl_table *t = nftnl_table_alloc();

	if (!t)
		return -ENOMEM;
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, VMP_FENCE_TABLE);
	nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, families[b->t]);
	if (type == NFT_MSG_NEWTABLE)
		nftnl_table_set_u32(t, NFTNL_TABLE_FLAGS, table_flags);
	nftnl_table_nlmsg_build_payload(batch_msg(b, type, flags), t);
	nftnl_table_free(t);
	batch_next(b);
	return 0;
}

static int put_set(struct batch *b, const char *name, uint32_t key_type, uint32_t key_len, uint32_t byteorder, uint32_t *ret_id)
{
	struct nftnl_set *s = nftnl_set_alloc();
	struct nftnl_udata_buf *u = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);

	if (!s || !u) {
		if (s)
			nftnl_set_free(s);
		if (u)
			nftnl_udata_buf_free(u);
		return -ENOMEM;
	}
	/* For `nft list` only: it takes keys for big endian if it is not told. */
	nftnl_udata_put_u32(u, NFTNL_UDATA_SET_KEYBYTEORDER, byteorder);
	nftnl_set_set_data(s, NFTNL_SET_USERDATA, nftnl_udata_buf_data(u), nftnl_udata_buf_len(u));
	nftnl_udata_buf_free(u);
	nftnl_set_set_str(s, NFTNL_SET_TABLE, VMP_FENCE_TABLE);
	nftnl_set_set_str(s, NFTNL_SET_NAME, name);
	nftnl_set_set_u32(s, NFTNL_SET_FAMILY, families[b->t]);
	*ret_id = ++b->set_id;
	nftnl_set_set_u32(s, NFTNL_SET_ID, *ret_id);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, key_type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, key_len);
	nftnl_set_nlmsg_build_payload(batch_msg(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
	batch_next(b);
	return 0;
}

static int put_elem(struct batch *b, uint16_t type, uint16_t flags, const char *set, const void *key, uint32_t key_len)
{
	struct nftnl_set *s = nftnl_set_alloc();
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();

	if (!s || !e) {
		if (s)
			nftnl_set_free(s);
		if (e)
			nftnl_set_elem_free(e);
		return -ENOMEM;
	}
	nftnl_set_set_str(s, NFTNL_SET_TABLE, VMP_FENCE_TABLE);
	nftnl_set_set_str(s, NFTNL_SET_NAME, set);
	nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, key_len);
	nftnl_set_elem_add(s, e);
	nftnl_set_elems_nlmsg_build_payload(batch_msg(b, type, flags), s);
	nftnl_set_free(s);
	batch_next(b);
	return 0;
}

static int put_gated(struct batch *b, uint16_t type, uint16_t flags, const char *ifname)
{
	char key[IFNAMSIZ] = { 0 };

	memcpy(key, ifname, strnlen(ifname, sizeof key - 1));
	return put_elem(b, type, flags, SET_GATED, key, sizeof key);
}

static int put_chain(struct batch *b, const char *name, uint32_t hook)
{
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!c)
		return -ENOMEM;
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, VMP_FENCE_TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, PRIORITY);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	nftnl_chain_nlmsg_build_payload(batch_msg(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE), c);
	nftnl_chain_free(c);
	batch_next(b);
	return 0;
}

/* Expressions are added to a rule one by one; what fails once makes the rest do nothing, and put_rule() tells. */
struct rule {
	struct nftnl_rule *r;
	bool failed;
};

static struct nftnl_expr *add_expr(struct rule *r, const char *name)
{
	struct nftnl_expr *e = r->r && !r->failed ? nftnl_expr_alloc(name) : NULL;

	if (!e)
		r->failed = true;
	else
		nftnl_rule_add_expr(r->r, e);
	return e;
}

static void add_meta(struct rule *r, uint32_t key, uint32_t reg)
{
	struct nftnl_expr *e = add_expr(r, "meta");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, reg);
}

static void add_payload(struct rule *r, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
	struct nftnl_expr *e = add_expr(r, "payload");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, reg);
}

static void add_cmp(struct rule *r, uint32_t op, const void *value, uint32_t len)
{
	struct nftnl_expr *e = add_expr(r, "cmp");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, value, len);
}

static void add_lookup(struct rule *r, const char *set, uint32_t id, bool invert)
{
	struct nftnl_expr *e = add_expr(r, "lookup");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, set);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SET_ID, id);
	if (invert)
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
}

/* Ends with a counted drop. ack: of the last message of a batch. */
static int put_rule(struct batch *b, const char *chain, struct rule *r, bool ack)
{
	struct nftnl_expr *e;

	add_expr(r, "counter");
	e = add_expr(r, "immediate");
	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
		nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, NF_DROP);
		nftnl_rule_set_str(r->r, NFTNL_RULE_TABLE, VMP_FENCE_TABLE);
		nftnl_rule_set_str(r->r, NFTNL_RULE_CHAIN, chain);
		nftnl_rule_set_u32(r->r, NFTNL_RULE_FAMILY, families[b->t]);
		nftnl_rule_nlmsg_build_payload(
			batch_msg(b, NFT_MSG_NEWRULE, (uint16_t)(NLM_F_CREATE | NLM_F_APPEND | (ack ? NLM_F_ACK : 0))), r->r);
		batch_next(b);
	}
	if (r->r)
		nftnl_rule_free(r->r);
	return r->failed ? -ENOMEM : 0;
}

/* iifname @gated iif != @armed counter drop, the same for iifname "vpe*", and both for the way out */
static int put_port_rules(struct batch *b, const char *chain, uint32_t meta_name, uint32_t meta_index, const uint32_t id[2], bool ack)
{
	int rc = 0;

	for (int any = 0; any < 2; any++) {
		struct rule r = { .r = nftnl_rule_alloc() };

		add_meta(&r, meta_name, NFT_REG_1);
		if (any)
			add_cmp(&r, NFT_CMP_EQ, VMP_FENCE_PREFIX, strlen(VMP_FENCE_PREFIX));
		else
			add_lookup(&r, SET_GATED, id[0], false);
		add_meta(&r, meta_index, NFT_REG_1);
		add_lookup(&r, SET_ARMED, id[1], true);
		rc = rc ? rc : put_rule(b, chain, &r, ack && any);
	}
	return rc;
}

/* Where a packet carries an address that counts. */
struct place {
	uint32_t base, offset, len;
};

/* ADDRESS @gated IF . ADDRESS != @armed counter drop, after the caller's own conditions */
static int put_host_rule(struct batch *b, const char *chain, struct rule *r, uint32_t meta_index, struct place p, const uint32_t id[2])
{
	const char *gated = p.len == 4 ? SET_GATED : SET_GATED6, *armed = p.len == 4 ? SET_ARMED : SET_ARMED6;

	add_payload(r, p.base, p.offset, p.len, NFT_REG_1);
	add_lookup(r, gated, id[0], false);
	add_meta(r, meta_index, NFT_REG_1);
	add_payload(r, p.base, p.offset, p.len, NFT_REG32_01);
	add_lookup(r, armed, id[1], true);
	return put_rule(b, chain, r, false);
}

static int put_inet_rules(struct batch *b, const char *chain, bool out, const uint32_t id4[2], const uint32_t id6[2])
{
	const uint32_t lo = LO_INDEX, index = out ? NFT_META_OIF : NFT_META_IIF;
	const uint8_t v4 = NFPROTO_IPV4, v6 = NFPROTO_IPV6, icmpv6 = ICMPV6, nd = out ? 136 : 135;
	int rc = 0;

	/* IPv4, IPv6, neighbour discovery */
	for (unsigned int i = 0; i < 3 && !rc; i++) {
		struct rule r = { .r = nftnl_rule_alloc() };
		struct place p = { NFT_PAYLOAD_NETWORK_HEADER, i ? out ? 8 : 24 : out ? 12 : 16, i ? 16 : 4 };

		add_meta(&r, NFT_META_NFPROTO, NFT_REG_1);
		add_cmp(&r, NFT_CMP_EQ, i ? &v6 : &v4, 1);
		add_meta(&r, index, NFT_REG_1);
		add_cmp(&r, NFT_CMP_NEQ, &lo, sizeof lo);
		if (i == 2) {
			add_meta(&r, NFT_META_L4PROTO, NFT_REG_1);
			add_cmp(&r, NFT_CMP_EQ, &icmpv6, 1);
			add_payload(&r, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, NFT_REG_1);
			add_cmp(&r, NFT_CMP_EQ, &nd, 1);
			p = (struct place){ NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16 };
		}
		rc = put_host_rule(b, chain, &r, index, p, i ? id6 : id4);
	}
	return rc;
}

static int put_arp_rules(struct batch *b, const uint32_t id[2])
{
	const struct place sender = { NFT_PAYLOAD_NETWORK_HEADER, 14, 4 }, target = { NFT_PAYLOAD_NETWORK_HEADER, 24, 4 };
	struct rule in = { .r = nftnl_rule_alloc() }, out = { .r = nftnl_rule_alloc() };
	int r;

	/* The announcement of the host that has the address shall be heard: only what others ask is dropped. */
	add_payload(&in, sender.base, sender.offset, sender.len, NFT_REG_1);
	add_lookup(&in, SET_GATED, id[0], true);
	r = put_host_rule(b, "in", &in, NFT_META_IIF, target, id);
	return put_host_rule(b, "out", &out, NFT_META_OIF, sender, id) ?: r;
}

/* --- questions to the kernel ------------------------------------------------------------------------------------- */

struct snapshot {
	uint64_t handle;
	uint32_t flags;
	uint64_t rule[MAX_RULES];
	unsigned int n_rules, n_elems, n_foreign;
	const struct vmp_fence *f;
	enum table t;
};

static int ask(struct vmp_fence *f, struct nlmsghdr *nlh, mnl_cb_t cb, void *user)
{
	if (mnl_socket_sendto(f->req, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	/* Each part of a dump is ready when the former one was read, so the non-blocking socket never runs dry before
	 * the end. */
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(f->req, f->rx, sizeof f->rx);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n >= (ssize_t)sizeof(struct nlmsghdr) && ((struct nlmsghdr *)f->rx)->nlmsg_seq != nlh->nlmsg_seq)
			continue;
		r = mnl_cb_run(f->rx, (size_t)n, nlh->nlmsg_seq, f->portid, cb, user);
		if (r < 0)
			return -errno;
		if (r == MNL_CB_STOP || !(nlh->nlmsg_flags & NLM_F_DUMP))
			return 0;
	}
}

static int on_table(const struct nlmsghdr *nlh, void *user)
{
	struct snapshot *s = user;
	struct nftnl_table *t = nftnl_table_alloc();

	if (t && !nftnl_table_nlmsg_parse(nlh, t)) {
		s->handle = nftnl_table_get_u64(t, NFTNL_TABLE_HANDLE);
		s->flags = nftnl_table_get_u32(t, NFTNL_TABLE_FLAGS);
	}
	if (t)
		nftnl_table_free(t);
	return MNL_CB_OK;
}

static int on_rule(const struct nlmsghdr *nlh, void *user)
{
	struct snapshot *s = user;
	struct nftnl_rule *r = nftnl_rule_alloc();

	if (r && !nftnl_rule_nlmsg_parse(nlh, r)) {
		if (s->n_rules < MAX_RULES)
			s->rule[s->n_rules] = nftnl_rule_get_u64(r, NFTNL_RULE_HANDLE);
		s->n_rules++;
	}
	if (r)
		nftnl_rule_free(r);
	return MNL_CB_OK;
}

/* Key of a host's address in `gated` (4 or 16 bytes), or behind an interface's index in `armed`. */
static uint32_t host_key(const struct vmp_fence_addr *a, int ifindex, uint8_t ret[20])
{
	uint32_t len = a->family == AF_INET ? 4 : 16, at = ifindex ? sizeof ifindex : 0;

	memcpy(ret, &ifindex, at);
	memcpy(ret + at, a->addr, len);
	return at + len;
}

static bool known_host(const struct vmp_fence *f, enum table t, const void *key, uint32_t len)
{
	for (unsigned int i = 0; i < f->n_hosts; i++)
		for (unsigned int k = 0; k < f->host[i].n; k++) {
			const struct vmp_fence_addr *a = &f->host[i].addr[k];
			uint8_t want[20];

			if (t == T_ARP && a->family != AF_INET)
				continue;
			if ((host_key(a, 0, want) == len && !memcmp(want, key, len)) ||
			    (f->host[i].ifindex && host_key(a, f->host[i].ifindex, want) == len && !memcmp(want, key, len)))
				return true;
		}
	return false;
}

static bool known_elem(const struct vmp_fence *f, enum table t, const void *key, uint32_t len)
{
	if (t != T_BRIDGE)
		return known_host(f, t, key, len);
	if (len == sizeof(uint32_t)) {
		for (unsigned int i = 0; i < f->n_armed; i++)
			if (!memcmp(&f->armed[i], key, len))
				return true;
	} else if (len == IFNAMSIZ) {
		for (unsigned int i = 0; i < f->n_gated; i++)
			if (!strncmp(f->gated[i], key, IFNAMSIZ))
				return true;
	}
	return false;
}

static unsigned int count_elems(const struct vmp_fence *f, enum table t)
{
	unsigned int n = 0;

	if (t == T_BRIDGE)
		return f->n_gated + f->n_armed;
	for (unsigned int i = 0; i < f->n_hosts; i++)
		for (unsigned int k = 0; k < f->host[i].n; k++)
			if (t == T_INET || f->host[i].addr[k].family == AF_INET)
				n += f->host[i].ifindex ? 2 : 1;
	return n;
}

static int on_elem(struct nftnl_set_elem *e, void *user)
{
	struct snapshot *s = user;
	uint32_t len = 0;
	const void *key = nftnl_set_elem_get(e, NFTNL_SET_ELEM_KEY, &len);

	if (key && known_elem(s->f, s->t, key, len))
		s->n_elems++;
	else
		s->n_foreign++;
	return 0;
}

static int on_elems(const struct nlmsghdr *nlh, void *user)
{
	struct nftnl_set *set = nftnl_set_alloc();

	if (set && !nftnl_set_elems_nlmsg_parse(nlh, set))
		nftnl_set_elem_foreach(set, on_elem, user);
	if (set)
		nftnl_set_free(set);
	return MNL_CB_OK;
}

static int snapshot_elems(struct vmp_fence *f, const char *name, struct snapshot *s)
{
	struct nftnl_set *set = nftnl_set_alloc();
	struct nlmsghdr *nlh;

	if (!set)
		return -ENOMEM;
	nftnl_set_set_str(set, NFTNL_SET_TABLE, VMP_FENCE_TABLE);
	nftnl_set_set_str(set, NFTNL_SET_NAME, name);
	nlh = nftnl_nlmsg_build_hdr(f->tx, NFT_MSG_GETSETELEM, families[s->t], NLM_F_DUMP | NLM_F_ACK, ++f->seq);
	nftnl_set_nlmsg_build_payload(nlh, set);
	nftnl_set_free(set);
	return ask(f, nlh, on_elems, s);
}

static int snapshot_table(struct vmp_fence *f, struct snapshot *s)
{
	struct nftnl_table *t = nftnl_table_alloc();
	struct nlmsghdr *nlh;

	if (!t)
		return -ENOMEM;
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, VMP_FENCE_TABLE);
	nlh = nftnl_nlmsg_build_hdr(f->tx, NFT_MSG_GETTABLE, families[s->t], 0, ++f->seq);
	nftnl_table_nlmsg_build_payload(nlh, t);
	nftnl_table_free(t);
	return ask(f, nlh, on_table, s);
}

static int snapshot_rules(struct vmp_fence *f, struct snapshot *s)
{
	struct nftnl_rule *r = nftnl_rule_alloc();
	struct nlmsghdr *nlh;

	if (!r)
		return -ENOMEM;
	nftnl_rule_set_str(r, NFTNL_RULE_TABLE, VMP_FENCE_TABLE);
	nlh = nftnl_nlmsg_build_hdr(f->tx, NFT_MSG_GETRULE, families[s->t], NLM_F_DUMP, ++f->seq);
	nftnl_rule_nlmsg_build_payload(nlh, r);
	nftnl_rule_free(r);
	return ask(f, nlh, on_rule, s);
}

static int snapshot_all(struct vmp_fence *f, enum table t, struct snapshot *s)
{
	static const char *const sets[] = { SET_GATED, SET_ARMED, SET_GATED6, SET_ARMED6 };
	int r = -EINTR;

	/* A dump is cut short when somebody commits meanwhile. */
	for (int i = 0; i < 4 && r == -EINTR; i++) {
		*s = (struct snapshot){ .f = f, .t = t };
		r = snapshot_table(f, s);
		r = r ? r : snapshot_rules(f, s);
		for (unsigned int k = 0; !r && k < (t == T_INET ? 4 : 2); k++)
			r = snapshot_elems(f, sets[k], s);
	}
	return r;
}

int vmp_fence_verify(struct vmp_fence *f)
{
	if (!f->installed)
		return -EBADF;
	for (enum table t = 0; t < N_TABLES; t++) {
		struct snapshot s;
		int r;

		if (!f->stands[t])
			continue;
		r = snapshot_all(f, t, &s);
		if (r == -ENOENT)
			return -EBADF;
		if (r < 0)
			return r;
		if (s.handle != f->handle[t] || (s.flags & NFT_TABLE_F_DORMANT) || s.n_rules != n_rules[t] ||
		    memcmp(s.rule, f->rule[t], s.n_rules * sizeof *s.rule) || s.n_foreign || s.n_elems != count_elems(f, t))
			return -EBADF;
	}
	return 0;
}

/* --- changes ----------------------------------------------------------------------------------------------------- */

static int put_port_table(struct batch *b)
{
	struct vmp_fence *f = b->f;
	uint32_t id[2] = { 0 };
	int r;

	r = put_set(b, SET_GATED, TYPE_IFNAME, IFNAMSIZ, BYTEORDER_HOST, &id[0]);
	r = r ? r : put_set(b, SET_ARMED, TYPE_IFINDEX, sizeof(uint32_t), BYTEORDER_HOST, &id[1]);
	for (unsigned int i = 0; !r && i < f->n_gated; i++)
		r = put_gated(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, f->gated[i]);
	for (unsigned int i = 0; !r && i < f->n_armed; i++)
		r = put_elem(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, SET_ARMED, &f->armed[i], sizeof f->armed[i]);
	r = r ? r : put_chain(b, "pre", HOOK_PREROUTING);
	r = r ? r : put_chain(b, "post", HOOK_POSTROUTING);
	r = r ? r : put_port_rules(b, "pre", NFT_META_IIFNAME, NFT_META_IIF, id, false);
	return r ? r : put_port_rules(b, "post", NFT_META_OIFNAME, NFT_META_OIF, id, true);
}

static int put_host_elem(struct batch *b, uint16_t type, uint16_t flags, const struct vmp_fence_addr *a, int ifindex)
{
	bool v4 = a->family == AF_INET;
	const char *set = ifindex ? v4 ? SET_ARMED : SET_ARMED6 : v4 ? SET_GATED : SET_GATED6;
	uint8_t key[20];

	return put_elem(b, type, flags, set, key, host_key(a, ifindex, key));
}

static int put_host_table(struct batch *b)
{
	struct vmp_fence *f = b->f;
	uint32_t id4[2] = { 0 }, id6[2] = { 0 };
	bool arp = b->t == T_ARP;
	int r;

	r = put_set(b, SET_GATED, TYPE_IPADDR, 4, BYTEORDER_NETWORK, &id4[0]);
	r = r ? r : put_set(b, SET_ARMED, TYPE_JOIN(TYPE_IFINDEX, TYPE_IPADDR), 8, BYTEORDER_NETWORK, &id4[1]);
	r = r || arp ? r : put_set(b, SET_GATED6, TYPE_IP6ADDR, 16, BYTEORDER_NETWORK, &id6[0]);
	r = r || arp ? r : put_set(b, SET_ARMED6, TYPE_JOIN(TYPE_IFINDEX, TYPE_IP6ADDR), 20, BYTEORDER_NETWORK, &id6[1]);
	for (unsigned int i = 0; !r && i < f->n_hosts; i++)
		for (unsigned int k = 0; !r && k < f->host[i].n; k++) {
			const struct vmp_fence_addr *a = &f->host[i].addr[k];

			if (arp && a->family != AF_INET)
				continue;
			r = put_host_elem(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, a, 0);
			if (!r && f->host[i].ifindex)
				r = put_host_elem(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE, a, f->host[i].ifindex);
		}
	/* arp has hooks of its own, which begin with input as 0 */
	r = r ? r : put_chain(b, "in", arp ? 0 : NF_INET_LOCAL_IN);
	r = r ? r : put_chain(b, "out", arp ? 1 : NF_INET_LOCAL_OUT);
	if (arp)
		return r ? r : put_arp_rules(b, id4);
	r = r ? r : put_inet_rules(b, "in", false, id4, id6);
	return r ? r : put_inet_rules(b, "out", true, id4, id6);
}

/* first_flags: what a table that is there is expected to have; the delete in between needs it to exist and to be ours.
 */
static int install(struct vmp_fence *f, uint32_t first_flags, uint32_t flags)
{
	struct batch b;
	int r = batch_begin(&b, f);

	if (r < 0)
		return r;
	/* The port's table last: its end asks for the acknowledgement. */
	for (int t = N_TABLES - 1; t >= 0 && !r; t--) {
		b.t = (enum table)t;
		if (t != T_BRIDGE && !f->n_hosts && !f->stands[t])
			continue;
		r = put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, first_flags);
		r = r ? r : put_table(&b, NFT_MSG_DELTABLE, 0, 0);
		if (r || (t != T_BRIDGE && !f->n_hosts))
			continue;
		r = put_table(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, flags);
		r = r ? r : t == T_BRIDGE ? put_port_table(&b) : put_host_table(&b);
	}
	if (r < 0) {
		mnl_nlmsg_batch_stop(b.b);
		return r;
	}
	return batch_commit(&b);
}

int vmp_fence_install(struct vmp_fence *f)
{
	const uint32_t own = TABLE_OWNER | TABLE_PERSIST;
	struct snapshot s;
	int r = -EOPNOTSUPP;

	/* Left by a process before us, though no address is gated now. */
	for (enum table t = T_INET; t < N_TABLES && !f->installed; t++) {
		s = (struct snapshot){ .f = f, .t = t };
		f->stands[t] = !snapshot_table(f, &s);
	}
	if (!f->no_owner) {
		/* Ours or an orphan; then one without flags; then a kernel that does not know persist. */
		r = install(f, own, own);
		if (r == -EOPNOTSUPP || r == -EINVAL)
			r = install(f, 0, own);
	}
	f->owned = !r;
	if (r == -EOPNOTSUPP || r == -EINVAL)
		r = install(f, 0, 0);
	if (r < 0)
		return r == -EPERM ? -EBUSY : r;
	f->installed = true;
	for (enum table t = 0; t < N_TABLES; t++) {
		f->stands[t] = t == T_BRIDGE || f->n_hosts;
		if (!f->stands[t])
			continue;
		r = snapshot_all(f, t, &s);
		if (r < 0)
			return r;
		f->handle[t] = s.handle;
		memcpy(f->rule[t], s.rule, sizeof s.rule);
	}
	r = vmp_fence_verify(f);
	if (r >= 0) {
		f->n_doubt = 0;
		for (unsigned int i = 0; i < f->n_hosts; i++)
			f->host[i].doubt = false;
	}
	return r;
}

/* One element; if the kernel's table is not what we remember, the whole table is written from what we remember. */
static int change(struct vmp_fence *f, uint16_t type, const char *ifname, const uint32_t *ifindex)
{
	uint16_t flags = (uint16_t)(NLM_F_ACK | (type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0));
	struct batch b;
	int r;

	if (!f->installed)
		return 0;
	r = batch_begin(&b, f);
	if (r < 0)
		return r;
	r = ifname ? put_gated(&b, type, flags, ifname)
		   : put_elem(&b, type, flags, SET_ARMED, ifindex, sizeof *ifindex);
	if (r < 0) {
		mnl_nlmsg_batch_stop(b.b);
		return r;
	}
	r = batch_commit(&b);
	return r < 0 ? vmp_fence_install(f) : 0;
}

static bool in_doubt(struct vmp_fence *f, uint32_t ifindex, bool add)
{
	for (unsigned int i = 0; i < f->n_doubt; i++)
		if (f->doubt[i] == ifindex)
			return true;
	if (add && f->n_doubt < VMP_FENCE_MAX) /* arm() takes care that there is room */
		f->doubt[f->n_doubt++] = ifindex;
	return false;
}

static int find_gated(const struct vmp_fence *f, const char *ifname)
{
	for (unsigned int i = 0; i < f->n_gated; i++)
		if (!strcmp(f->gated[i], ifname))
			return (int)i;
	return -1;
}

static int find_armed(const struct vmp_fence *f, int ifindex)
{
	for (unsigned int i = 0; i < f->n_armed; i++)
		if (f->armed[i] == (uint32_t)ifindex)
			return (int)i;
	return -1;
}

int vmp_fence_gate(struct vmp_fence *f, const char *ifname)
{
	if (!ifname[0] || strlen(ifname) >= IFNAMSIZ)
		return -EINVAL;
	if (find_gated(f, ifname) >= 0)
		return 0;
	if (f->n_gated == VMP_FENCE_MAX)
		return -ENOSPC;
	snprintf(f->gated[f->n_gated++], IFNAMSIZ, "%s", ifname);
	return change(f, NFT_MSG_NEWSETELEM, ifname, NULL);
}

int vmp_fence_ungate(struct vmp_fence *f, const char *ifname)
{
	char name[IFNAMSIZ];
	int i = find_gated(f, ifname);

	if (i < 0)
		return 0;
	memcpy(name, f->gated[i], sizeof name);
	memmove(f->gated[i], f->gated[--f->n_gated], IFNAMSIZ);
	return change(f, NFT_MSG_DELSETELEM, name, NULL);
}

int vmp_fence_arm(struct vmp_fence *f, int ifindex)
{
	uint32_t key = (uint32_t)ifindex;
	int r;

	if (ifindex <= 0)
		return -EINVAL;
	if (find_armed(f, ifindex) >= 0)
		return 0;
	if (f->n_armed == VMP_FENCE_MAX || f->n_doubt == VMP_FENCE_MAX)
		return -ENOSPC;
	f->armed[f->n_armed++] = key;
	r = change(f, NFT_MSG_NEWSETELEM, NULL, &key);
	if (r < 0) { /* the next try begins anew */
		f->n_armed--;
		in_doubt(f, key, true);
	}
	return r;
}

int vmp_fence_disarm(struct vmp_fence *f, int ifindex)
{
	uint32_t key = (uint32_t)ifindex;
	int i = find_armed(f, ifindex), r;

	if (i < 0)
		return in_doubt(f, key, false) ? vmp_fence_install(f) : 0;
	f->armed[i] = f->armed[--f->n_armed];
	r = change(f, NFT_MSG_DELSETELEM, NULL, &key);
	if (r < 0)
		in_doubt(f, key, true);
	return r;
}

static struct host *find_host(const struct vmp_fence *f, const char *name)
{
	for (unsigned int i = 0; i < f->n_hosts; i++)
		if (!strcmp(f->host[i].name, name))
			return (struct host *)&f->host[i];
	return NULL;
}

static bool has_addr(const struct host *h, const struct vmp_fence_addr *a)
{
	for (unsigned int i = 0; i < h->n; i++)
		if (h->addr[i].family == a->family && !memcmp(h->addr[i].addr, a->addr, a->family == AF_INET ? 4 : 16))
			return true;
	return false;
}

/* What `from` has and `to` has not goes, or (type NEWSETELEM) comes, in `gated` or in `armed`; their number. */
static int put_difference(struct batch *b, uint16_t type, const struct host *from, const struct host *to, bool armed)
{
	uint16_t flags = (uint16_t)(NLM_F_ACK | (type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0));
	bool other_if = armed && from->ifindex != to->ifindex;
	int n = 0;

	if (armed && !from->ifindex)
		return 0;
	for (unsigned int i = 0; i < from->n; i++) {
		int r = 0;

		if (!other_if && has_addr(to, &from->addr[i]))
			continue;
		for (b->t = T_INET; b->t < N_TABLES && !r; b->t++)
			if (b->t == T_INET || from->addr[i].family == AF_INET)
				r = put_host_elem(b, type, flags, &from->addr[i], armed ? from->ifindex : 0);
		if (r < 0)
			return r;
		n++;
	}
	return n;
}

static int change_host(struct vmp_fence *f, const struct host *old, const struct host *new)
{
	int n[4] = { 0 }, r;
	struct batch b;

	if (!f->installed)
		return 0;
	r = batch_begin(&b, f);
	if (r < 0)
		return r;
	n[0] = put_difference(&b, NFT_MSG_DELSETELEM, old, new, true);
	n[1] = n[0] < 0 ? 0 : put_difference(&b, NFT_MSG_DELSETELEM, old, new, false);
	n[2] = n[1] < 0 ? 0 : put_difference(&b, NFT_MSG_NEWSETELEM, new, old, false);
	n[3] = n[2] < 0 ? 0 : put_difference(&b, NFT_MSG_NEWSETELEM, new, old, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(n) && !r; i++)
		r = n[i] < 0 ? n[i] : 0;
	if (r < 0 || !(n[0] + n[1] + n[2] + n[3])) {
		mnl_nlmsg_batch_stop(b.b);
		return r;
	}
	return batch_commit(&b);
}

int vmp_fence_host(struct vmp_fence *f, const char *name, int ifindex, const struct vmp_fence_addr *addrs, unsigned int n)
{
	struct host *h = find_host(f, name), old = { .n = 0 }, new = { .ifindex = ifindex, .n = n };
	int r;

	if (strlen(name) >= sizeof new.name || ifindex < 0 || n > VMP_FENCE_HOST_ADDRS)
		return -EINVAL;
	if (!h && !n)
		return 0;
	if (!h && f->n_hosts == VMP_FENCE_HOSTS)
		return -ENOSPC;
	snprintf(new.name, sizeof new.name, "%s", name);
	if (n)
		memcpy(new.addr, addrs, n * sizeof *addrs);
	if (h)
		old = *h;
	else
		h = &f->host[f->n_hosts++];
	*h = new;
	if (!n)
		*h = f->host[--f->n_hosts];
	/* The first group brings the tables, the last one takes them along. */
	r = !f->installed ? 0 : f->stands[T_INET] != (f->n_hosts > 0) || old.doubt ? -EAGAIN : change_host(f, &old, &new);
	if (r < 0)
		r = vmp_fence_install(f);
	if (r >= 0)
		return 0;
	h = find_host(f, name);
	if (old.n && !h)
		h = &f->host[f->n_hosts++];
	if (old.n)
		*h = old;
	else if (h)
		*h = f->host[--f->n_hosts];
	if (vmp_fence_install(f) < 0 && old.n)
		h->doubt = true;
	return r;
}

int vmp_fence_host_armed(const struct vmp_fence *f, const char *name)
{
	const struct host *h = find_host(f, name);

	return h ? h->ifindex : 0;
}

bool vmp_fence_armed(const struct vmp_fence *f, int ifindex)
{
	return find_armed(f, ifindex) >= 0;
}

bool vmp_fence_owned(const struct vmp_fence *f)
{
	return f->owned;
}

/* --- watch ------------------------------------------------------------------------------------------------------- */

int vmp_fence_watch_fd(const struct vmp_fence *f)
{
	return mnl_socket_get_fd(f->watch);
}

/* A message of the nf_tables subsystem about our table that another process caused. */
static bool touches(const struct vmp_fence *f, const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;
	bool ours = false;

	if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || (nlh->nlmsg_type & 0xff) == NFT_MSG_NEWGEN || nlh->nlmsg_pid == f->portid)
		return false;
	for (enum table t = 0; t < N_TABLES; t++)
		ours = ours || (f->stands[t] && nfg->nfgen_family == families[t]);
	if (!ours)
		return false;
	/* Table, chain, rule, set and element messages all carry the table's name as attribute 1. */
	mnl_attr_for_each(a, nlh, sizeof *nfg)
		if (mnl_attr_get_type(a) == 1 && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			return !strcmp(mnl_attr_get_str(a), VMP_FENCE_TABLE);
	return false;
}

int vmp_fence_watch_read(struct vmp_fence *f)
{
	bool touched = false;

	for (int i = 0; i < WATCH_DATAGRAMS; i++) {
		ssize_t n = mnl_socket_recvfrom(f->watch, f->rx, sizeof f->rx);
		int len = (int)n;

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
			/* Lost messages need not have been ours. */
			if (f->installed && vmp_fence_verify(f) == -EBADF)
				touched = true;
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		for (const struct nlmsghdr *nlh = (const void *)f->rx; n > 0 && mnl_nlmsg_ok(nlh, len);
		     nlh = mnl_nlmsg_next(nlh, &len))
			if (touches(f, nlh))
				touched = true;
	}
	return touched && f->installed;
}

static int delete_table(struct vmp_fence *f, enum table t)
{
	const uint32_t own = TABLE_OWNER | TABLE_PERSIST;
	struct snapshot s = { .f = f, .t = t };
	struct batch b;
	int r = snapshot_table(f, &s);

	if (r == -ENOENT || (r == -EOPNOTSUPP && t != T_BRIDGE))
		return 0;
	if (r < 0)
		return r;
	r = batch_begin(&b, f);
	if (r < 0)
		return r;
	b.t = t;
	/* An orphan has to be taken over first. */
	if ((s.flags & TABLE_PERSIST) && !(s.flags & TABLE_OWNER))
		r = put_table(&b, NFT_MSG_NEWTABLE, 0, own);
	r = r ? r : put_table(&b, NFT_MSG_DELTABLE, NLM_F_ACK, 0);
	if (r < 0) {
		mnl_nlmsg_batch_stop(b.b);
		return r;
	}
	r = batch_commit(&b);
	f->stands[t] = f->stands[t] && r < 0;
	return r == -EPERM ? -EBUSY : r;
}

int vmp_fence_delete(struct vmp_fence *f)
{
	int r = 0;

	for (enum table t = 0; t < N_TABLES && !r; t++)
		r = delete_table(f, t);
	if (!r)
		f->installed = f->owned = false;
	return r;
}
