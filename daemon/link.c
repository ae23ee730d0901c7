/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/link.h"
#include "internal/cleanup.h"

#define REQ_MAX 1024
#define ANSWER_TIMEOUT_S 2
#define DUMP_TRIES 4
#define ROUTE_METRIC 0x7fffffff /* behind any route of others */
#define LOWER_UP 0x10000 /* IFF_LOWER_UP of linux/if.h, which cannot be included beside net/if.h */

struct vmp_link {
	struct mnl_socket *req;
	struct mnl_socket *watch;
	unsigned int seq;
	unsigned int portid;
	char rx[32768] __attribute__((aligned(8)));
};

static struct mnl_socket *open_socket(unsigned int groups)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

	if (!s)
		return NULL;
	if (mnl_socket_bind(s, groups, MNL_SOCKET_AUTOPID) < 0) {
		int saved = errno;
		mnl_socket_close(s);
		errno = saved;
		return NULL;
	}
	return s;
}

int vmp_link_new(struct vmp_link **ret)
{
	struct timeval tv = { .tv_sec = ANSWER_TIMEOUT_S };
	struct vmp_link *l = calloc(1, sizeof *l);
	int size = 1 << 20, r;

	if (!l)
		return -ENOMEM;
	l->req = open_socket(0);
	l->watch = l->req ? open_socket(RTMGRP_LINK | RTMGRP_TC | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR) : NULL;
	if (!l->watch || fcntl(mnl_socket_get_fd(l->watch), F_SETFL, O_NONBLOCK) < 0 ||
	    setsockopt(mnl_socket_get_fd(l->req), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) < 0) {
		r = -errno;
		vmp_link_free(l);
		return r;
	}
	/* A burst of foreign link changes should not overrun the watch; failing to grow it is no error, overrun is
	 * handled. */
	(void)setsockopt(mnl_socket_get_fd(l->watch), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	l->portid = mnl_socket_get_portid(l->req);
	*ret = l;
	return 0;
}

struct vmp_link *vmp_link_free(struct vmp_link *l)
{
	if (!l)
		return NULL;
	if (l->req)
		mnl_socket_close(l->req);
	if (l->watch)
		mnl_socket_close(l->watch);
	free(l);
	return NULL;
}

static struct nlmsghdr *request(struct vmp_link *l, char *buf, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++l->seq;
	return nlh;
}

/* Send one request and read up to its acknowledgement or the end of its dump. */
static int talk(struct vmp_link *l, struct nlmsghdr *nlh, mnl_cb_t cb, void *user)
{
	bool intr = false;

	if (mnl_socket_sendto(l->req, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(l->req, l->rx, sizeof l->rx);
		const struct nlmsghdr *first = (const struct nlmsghdr *)l->rx;
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		/* The answer to an earlier request that was given up (timeout) is not ours. */
		if (n < (ssize_t)sizeof *first || first->nlmsg_seq != nlh->nlmsg_seq)
			continue;
		r = mnl_cb_run(l->rx, (size_t)n, nlh->nlmsg_seq, l->portid, cb, user);
		if (r < 0 && errno == EINTR) {
			intr = true; /* the dump changed under way: read it to its end, then tell the caller */
			continue;
		}
		if (r < 0)
			return -errno;
		if (r == MNL_CB_STOP)
			return intr ? -EINTR : 0;
		/* A single answer to a plain get carries no acknowledgement. */
		if (!(nlh->nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP)))
			return 0;
	}
}

static struct nlmsghdr *link_request(struct vmp_link *l, char *buf, uint16_t type, uint16_t flags, unsigned char family,
				     int ifindex)
{
	struct nlmsghdr *nlh = request(l, buf, type, flags);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof *ifi);

	ifi->ifi_family = family;
	ifi->ifi_index = ifindex;
	return nlh;
}

static void parse_info(const struct nlattr *info, struct vmp_link_info *li)
{
	const struct nlattr *a;
	const struct nlattr *data = NULL;

	mnl_attr_for_each_nested(a, info) {
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			snprintf(li->kind, sizeof li->kind, "%.15s", mnl_attr_get_str(a));
		else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
			data = a;
	}
	if (!data || strcmp(li->kind, "tun"))
		return;
	mnl_attr_for_each_nested(a, data)
		if (mnl_attr_get_type(a) == IFLA_TUN_TYPE)
			li->tap = mnl_attr_get_u8(a) == IFF_TAP;
}

static void parse_link(const struct nlmsghdr *nlh, struct vmp_link_info *li)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a, *b;

	memset(li, 0, sizeof *li);
	li->ifindex = ifi->ifi_index;
	li->up = ifi->ifi_flags & IFF_UP;
	li->carrier = ifi->ifi_flags & LOWER_UP;
	mnl_attr_for_each(a, nlh, sizeof *ifi) {
		switch (mnl_attr_get_type(a)) {
		case IFLA_IFNAME:
			snprintf(li->name, sizeof li->name, "%.15s", mnl_attr_get_str(a));
			break;
		case IFLA_MASTER:
			li->master = (int)mnl_attr_get_u32(a);
			break;
		case IFLA_ADDRESS:
			if (ifi->ifi_type == ARPHRD_ETHER && mnl_attr_get_payload_len(a) == sizeof li->mac)
				memcpy(li->mac, mnl_attr_get_payload(a), sizeof li->mac);
			break;
		case IFLA_MTU:
			li->mtu = mnl_attr_get_u32(a);
			break;
		case IFLA_LINKINFO:
			parse_info(a, li);
			break;
		case IFLA_XDP:
			mnl_attr_for_each_nested(b, a)
				if (mnl_attr_get_type(b) == IFLA_XDP_ATTACHED)
					li->xdp = mnl_attr_get_u8(b) != XDP_ATTACHED_NONE;
			break;
		}
	}
}

static int on_link(const struct nlmsghdr *nlh, void *user)
{
	if (nlh->nlmsg_type == RTM_NEWLINK)
		parse_link(nlh, user);
	return MNL_CB_OK;
}

static int get_link(struct vmp_link *l, const char *name, int ifindex, struct vmp_link_info *ret)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = link_request(l, buf, RTM_GETLINK, 0, AF_UNSPEC, ifindex);
	struct vmp_link_info li = { 0 };
	int r;

	if (name)
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	r = talk(l, nlh, on_link, &li);
	if (r < 0)
		return r;
	if (!li.ifindex)
		return -ENODEV;
	*ret = li;
	return 0;
}

int vmp_link_get(struct vmp_link *l, const char *name, struct vmp_link_info *ret)
{
	if (!name[0] || strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	return get_link(l, name, 0, ret);
}

int vmp_link_get_index(struct vmp_link *l, int ifindex, struct vmp_link_info *ret)
{
	return ifindex > 0 ? get_link(l, NULL, ifindex, ret) : -EINVAL;
}

struct port_list {
	int bridge;
	unsigned int n, cap;
	struct vmp_link_info *v;
	int err;
};

static int on_port(const struct nlmsghdr *nlh, void *user)
{
	struct port_list *pl = user;
	struct vmp_link_info li;

	if (nlh->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	parse_link(nlh, &li);
	if (li.master != pl->bridge || pl->err)
		return MNL_CB_OK;
	if (pl->n == pl->cap) {
		unsigned int cap = pl->cap ? pl->cap * 2 : 16;
		struct vmp_link_info *v = realloc(pl->v, cap * sizeof *v);

		if (!v) {
			pl->err = -ENOMEM;
			return MNL_CB_OK;
		}
		pl->v = v;
		pl->cap = cap;
	}
	pl->v[pl->n++] = li;
	return MNL_CB_OK;
}

int vmp_link_ports(struct vmp_link *l, int bridge, int (*cb)(void *user, const struct vmp_link_info *li), void *user)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct port_list pl = { .bridge = bridge };
	int r = -EINTR;

	/* Collected first: the callback may talk through the same handle. */
	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nlmsghdr *nlh = link_request(l, buf, RTM_GETLINK, NLM_F_DUMP, AF_UNSPEC, 0);

		mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)bridge);
		pl.n = 0;
		r = talk(l, nlh, on_port, &pl);
	}
	if (!r)
		r = pl.err;
	for (unsigned int i = 0; !r && i < pl.n; i++)
		r = cb(user, &pl.v[i]);
	free(pl.v);
	return r;
}

static int tap_ioctl(const char *name, int flags, bool persist)
{
	CLEANUP_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq ifr = { 0 };

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
	ifr.ifr_flags = (short)flags;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, persist ? 1UL : 0UL) < 0)
		return -errno;
	return 0;
}

int vmp_link_tap_add(const char *name, bool multi_queue)
{
	int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0);
	int r;

	if (!name[0] || strlen(name) >= IFNAMSIZ || strchr(name, '%') || strchr(name, '/'))
		return -EINVAL;
	r = tap_ioctl(name, flags, true);
	/* Busy: it exists and its guest runs; that is an adoption. */
	return r == -EBUSY ? 0 : r;
}

int vmp_link_tap_del(const char *name)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct vmp_link *l;
	struct vmp_link_info li;
	int r = vmp_link_new(&l);

	if (r < 0)
		return r;
	r = vmp_link_get(l, name, &li);
	if (!r && !li.tap)
		r = -ENOTUNIQ;
	/* By netlink: works for both queue modes and while a guest still has it open. */
	if (!r)
		r = talk(l, link_request(l, buf, RTM_DELLINK, NLM_F_ACK, AF_UNSPEC, li.ifindex), NULL, NULL);
	vmp_link_free(l);
	return r == -ENODEV ? 0 : r;
}

int vmp_link_setup(struct vmp_link *l, int ifindex, uint32_t mtu, const uint8_t guest_mac[6])
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh;
	struct nlattr *spec, *inet6;
	uint8_t mac[6];

	/* The kernel's automatic address would send neighbour discovery of its own into the guest. Without IPv6 there
	 * is nothing to do. */
	nlh = link_request(l, buf, RTM_NEWLINK, NLM_F_ACK, AF_UNSPEC, ifindex);
	spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	inet6 = mnl_attr_nest_start(nlh, AF_INET6);
	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(nlh, inet6);
	mnl_attr_nest_end(nlh, spec);
	(void)talk(l, nlh, NULL, NULL);

	memcpy(mac, guest_mac, 6);
	mac[0] = 0xfe;
	nlh = link_request(l, buf, RTM_NEWLINK, NLM_F_ACK, AF_UNSPEC, ifindex);
	mnl_attr_put(nlh, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
	return talk(l, nlh, NULL, NULL);
}

int vmp_link_set_master(struct vmp_link *l, int ifindex, int master)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = link_request(l, buf, RTM_NEWLINK, NLM_F_ACK, AF_UNSPEC, ifindex);

	mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)master);
	return talk(l, nlh, NULL, NULL);
}

int vmp_link_set_up(struct vmp_link *l, int ifindex, bool up)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = link_request(l, buf, RTM_NEWLINK, NLM_F_ACK, AF_UNSPEC, ifindex);
	struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);

	ifi->ifi_change = IFF_UP;
	ifi->ifi_flags = up ? IFF_UP : 0;
	return talk(l, nlh, NULL, NULL);
}

int vmp_link_set_port_state(struct vmp_link *l, int ifindex, uint8_t br_state)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = link_request(l, buf, RTM_SETLINK, NLM_F_ACK, PF_BRIDGE, ifindex);
	struct nlattr *prot = mnl_attr_nest_start(nlh, IFLA_PROTINFO);

	mnl_attr_put_u8(nlh, IFLA_BRPORT_STATE, br_state);
	mnl_attr_nest_end(nlh, prot);
	return talk(l, nlh, NULL, NULL);
}

static int fdb(struct vmp_link *l, uint16_t type, uint16_t flags, int port, const uint8_t mac[6])
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = request(l, buf, type, NLM_F_ACK | flags);
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof *ndm);

	ndm->ndm_family = PF_BRIDGE;
	ndm->ndm_ifindex = port;
	ndm->ndm_flags = NTF_MASTER;
	ndm->ndm_state = NUD_REACHABLE; /* dynamic: it ages as a learned one does */
	/* Without NDA_VLAN a VLAN-aware bridge does it for every VLAN of the port. */
	mnl_attr_put(nlh, NDA_LLADDR, 6, mac);
	return talk(l, nlh, NULL, NULL);
}

int vmp_link_fdb_replace(struct vmp_link *l, int port, const uint8_t mac[6])
{
	return fdb(l, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, port, mac);
}

int vmp_link_fdb_delete(struct vmp_link *l, int port, const uint8_t mac[6])
{
	int r = fdb(l, RTM_DELNEIGH, 0, port, mac);

	return r == -ENOENT || r == -ENODEV ? 0 : r;
}

static struct nlmsghdr *addr_request(struct vmp_link *l, char *buf, uint16_t type, uint16_t flags, int ifindex, int family,
				     const uint8_t *addr, unsigned int prefix)
{
	struct nlmsghdr *nlh = request(l, buf, type, NLM_F_ACK | flags);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof *ifa);
	size_t len = family == AF_INET ? 4 : 16;

	ifa->ifa_family = (unsigned char)family;
	ifa->ifa_prefixlen = (unsigned char)prefix;
	ifa->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
	ifa->ifa_scope = RT_SCOPE_UNIVERSE;
	ifa->ifa_index = (unsigned int)ifindex;
	mnl_attr_put(nlh, IFA_LOCAL, len, addr);
	mnl_attr_put(nlh, IFA_ADDRESS, len, addr);
	return nlh;
}

static unsigned int own_prefix(int family, unsigned int prefix)
{
	return family == AF_INET ? 32 : prefix;
}

static int route_add(struct vmp_link *l, int ifindex, const uint8_t *addr, unsigned int prefix)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = request(l, buf, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof *rt);
	uint8_t net[4];
	int r;

	for (unsigned int i = 0; i < 4; i++)
		net[i] = prefix >= 8 * (i + 1) ? addr[i] : prefix <= 8 * i ? 0 : (uint8_t)(addr[i] & 0xff00 >> (prefix - 8 * i));
	rt->rtm_family = AF_INET;
	rt->rtm_dst_len = (unsigned char)prefix;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_scope = RT_SCOPE_LINK;
	rt->rtm_type = RTN_UNICAST;
	mnl_attr_put(nlh, RTA_DST, sizeof net, net);
	mnl_attr_put(nlh, RTA_PREFSRC, sizeof net, addr); /* the kernel takes the route away together with the address */
	mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)ifindex);
	mnl_attr_put_u32(nlh, RTA_PRIORITY, ROUTE_METRIC);
	r = talk(l, nlh, NULL, NULL);
	return r == -EEXIST ? 0 : r;
}

int vmp_link_addr_add(struct vmp_link *l, int ifindex, int family, const uint8_t *addr, unsigned int prefix)
{
	static const struct ifa_cacheinfo deprecated = { .ifa_prefered = 0, .ifa_valid = UINT32_MAX };
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = addr_request(l, buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, family, addr,
					    own_prefix(family, prefix));
	int r;

	if (family == AF_INET6)
		mnl_attr_put(nlh, IFA_CACHEINFO, sizeof deprecated, &deprecated);
	r = talk(l, nlh, NULL, NULL);
	r = r == -EEXIST ? 0 : r;
	return r || family == AF_INET6 || prefix == 32 ? r : route_add(l, ifindex, addr, prefix);
}

int vmp_link_addr_del(struct vmp_link *l, int ifindex, int family, const uint8_t *addr, unsigned int prefix)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	int r = talk(l, addr_request(l, buf, RTM_DELADDR, 0, ifindex, family, addr, own_prefix(family, prefix)), NULL, NULL);

	return r == -EADDRNOTAVAIL || r == -ENODEV || r == -ENXIO ? 0 : r;
}

struct addr_query {
	int but, family, found;
	unsigned int prefix;
	const uint8_t *addr;
};

static int on_addr(const struct nlmsghdr *nlh, void *user)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct addr_query *q = user;
	size_t len = q->family == AF_INET ? 4 : 16;
	const struct nlattr *a;
	bool match = false, ours;

	if (nlh->nlmsg_type != RTM_NEWADDR || ifa->ifa_family != q->family)
		return MNL_CB_OK;
	/* As vmp_link_addr_add puts them; one that is never to be chosen as a source (so ours) with the prefix that the pair had before, too. */
	ours = (int)ifa->ifa_index == q->but && (ifa->ifa_prefixlen == own_prefix(q->family, q->prefix) ||
						 (q->family == AF_INET6 && ifa->ifa_flags & IFA_F_DEPRECATED));
	mnl_attr_for_each(a, nlh, sizeof *ifa)
		/* IPv6 has only the second, unless there is a peer. */
		if ((mnl_attr_get_type(a) == IFA_LOCAL || (q->family == AF_INET6 && mnl_attr_get_type(a) == IFA_ADDRESS)) &&
		    mnl_attr_get_payload_len(a) == len && !memcmp(mnl_attr_get_payload(a), q->addr, len))
			match = true;
	if (match && !ours)
		q->found = (int)ifa->ifa_index;
	return MNL_CB_OK;
}

int vmp_link_addr_foreign(struct vmp_link *l, int but, int family, const uint8_t *addr, unsigned int prefix)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct addr_query q = { .but = but, .family = family, .prefix = prefix, .addr = addr };
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nlmsghdr *nlh = request(l, buf, RTM_GETADDR, NLM_F_DUMP);
		struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof *ifa);

		ifa->ifa_family = (unsigned char)family;
		q.found = 0;
		r = talk(l, nlh, on_addr, &q);
	}
	return r < 0 ? r : q.found;
}

static struct nlmsghdr *tc_request(struct vmp_link *l, char *buf, uint16_t type, uint16_t flags, int ifindex,
				   uint32_t handle, uint32_t parent, uint32_t info)
{
	struct nlmsghdr *nlh = request(l, buf, type, flags);
	struct tcmsg *tcm = mnl_nlmsg_put_extra_header(nlh, sizeof *tcm);

	tcm->tcm_family = AF_UNSPEC;
	tcm->tcm_ifindex = ifindex;
	tcm->tcm_handle = handle;
	tcm->tcm_parent = parent;
	tcm->tcm_info = info;
	return nlh;
}

struct kind_query {
	int ifindex;
	char kind[16];
};

static int on_qdisc(const struct nlmsghdr *nlh, void *user)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(nlh);
	struct kind_query *q = user;
	const struct nlattr *a;

	if (nlh->nlmsg_type != RTM_NEWQDISC || tcm->tcm_ifindex != q->ifindex || tcm->tcm_parent != TC_H_CLSACT)
		return MNL_CB_OK;
	mnl_attr_for_each(a, nlh, sizeof *tcm)
		if (mnl_attr_get_type(a) == TCA_KIND)
			snprintf(q->kind, sizeof q->kind, "%.15s", mnl_attr_get_str(a));
	return MNL_CB_OK;
}

int vmp_link_ingress_kind(struct vmp_link *l, int ifindex, char *ret_kind, size_t len)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct kind_query q = { .ifindex = ifindex };
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		q.kind[0] = '\0';
		r = talk(l, tc_request(l, buf, RTM_GETQDISC, NLM_F_DUMP, ifindex, 0, 0, 0), on_qdisc, &q);
	}
	if (r < 0)
		return r;
	snprintf(ret_kind, len, "%s", q.kind);
	return 0;
}

int vmp_link_clsact_add(struct vmp_link *l, int ifindex)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	char kind[16];
	struct nlmsghdr *nlh = tc_request(l, buf, RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, ifindex,
					  TC_H_MAKE(TC_H_CLSACT, 0), TC_H_CLSACT, 0);
	int r;

	mnl_attr_put_strz(nlh, TCA_KIND, "clsact");
	r = talk(l, nlh, NULL, NULL);
	if (!r)
		return 0;
	/* Both kinds live at ffff:, so "exists" is fine only if it is a clsact. */
	if (!vmp_link_ingress_kind(l, ifindex, kind, sizeof kind) && kind[0])
		return strcmp(kind, "clsact") ? -EEXIST : 0;
	return r;
}

int vmp_link_clsact_del(struct vmp_link *l, int ifindex)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));

	return talk(l, tc_request(l, buf, RTM_DELQDISC, NLM_F_ACK, ifindex, TC_H_MAKE(TC_H_CLSACT, 0), TC_H_CLSACT, 0),
		    NULL, NULL);
}

static uint32_t filter_parent(bool egress)
{
	return TC_H_MAKE(TC_H_CLSACT, egress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS);
}

static struct nlmsghdr *filter_request(struct vmp_link *l, char *buf, uint16_t type, uint16_t flags, int ifindex, bool egress,
				       uint32_t handle)
{
	uint16_t all = (uint16_t)((ETH_P_ALL << 8 | ETH_P_ALL >> 8) & 0xffff);
	struct nlmsghdr *nlh = tc_request(l, buf, type, NLM_F_ACK | flags, ifindex, handle, filter_parent(egress),
					  TC_H_MAKE(1U << 16, all));

	mnl_attr_put_strz(nlh, TCA_KIND, "bpf");
	return nlh;
}

int vmp_link_filter_add(struct vmp_link *l, int ifindex, bool egress, uint32_t handle, int prog_fd, const char *name)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = filter_request(l, buf, RTM_NEWTFILTER, NLM_F_CREATE, ifindex, egress, handle);
	struct nlattr *opt = mnl_attr_nest_start(nlh, TCA_OPTIONS);

	mnl_attr_put_u32(nlh, TCA_BPF_FD, (uint32_t)prog_fd);
	mnl_attr_put_strz(nlh, TCA_BPF_NAME, name);
	mnl_attr_put_u32(nlh, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(nlh, opt);
	return talk(l, nlh, NULL, NULL);
}

int vmp_link_filter_del(struct vmp_link *l, int ifindex, bool egress, uint32_t handle)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	int r = talk(l, filter_request(l, buf, RTM_DELTFILTER, 0, ifindex, egress, handle), NULL, NULL);

	/* Without its qdisc, tc answers "invalid". */
	return r == -ENOENT || r == -ENODEV || r == -EINVAL ? 0 : r;
}

struct filter_query {
	unsigned int n, max;
	uint32_t *ids;
};

static int on_filter(const struct nlmsghdr *nlh, void *user)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(nlh);
	struct filter_query *q = user;
	const struct nlattr *a, *b;
	uint32_t id = 0, flags = 0;

	/* A dump names each chain's priorities in order, and each once bare (handle 0) before its filters. */
	if (nlh->nlmsg_type != RTM_NEWTFILTER || !tcm->tcm_handle)
		return MNL_CB_OK;
	mnl_attr_for_each(a, nlh, sizeof *tcm) {
		/* Packets start in chain 0; other chains are reached only by an action of it. */
		if (mnl_attr_get_type(a) == TCA_CHAIN && mnl_attr_get_u32(a))
			return MNL_CB_OK;
		if (mnl_attr_get_type(a) != TCA_OPTIONS)
			continue;
		mnl_attr_for_each_nested(b, a) {
			if (mnl_attr_get_type(b) == TCA_BPF_ID)
				id = mnl_attr_get_u32(b);
			else if (mnl_attr_get_type(b) == TCA_BPF_FLAGS)
				flags = mnl_attr_get_u32(b);
		}
	}
	if (q->n < q->max)
		q->ids[q->n++] = flags & TCA_BPF_FLAG_ACT_DIRECT ? id : 0;
	return MNL_CB_OK;
}

int vmp_link_filter_list(struct vmp_link *l, int ifindex, bool egress, uint32_t *ret_ids, unsigned int max)
{
	char buf[REQ_MAX] __attribute__((aligned(8)));
	struct filter_query q = { .max = max, .ids = ret_ids };
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		q.n = 0;
		r = talk(l, tc_request(l, buf, RTM_GETTFILTER, NLM_F_DUMP, ifindex, 0, filter_parent(egress), 0),
			 on_filter, &q);
	}
	return r < 0 ? r : (int)q.n;
}

int vmp_link_watch_fd(const struct vmp_link *l)
{
	return mnl_socket_get_fd(l->watch);
}

int vmp_link_watch_read(struct vmp_link *l,
			void (*cb)(void *user, enum vmp_link_change what, const struct vmp_link_info *li), void *user)
{
	/* Not l->rx: the callback may make requests. */
	char buf[16384] __attribute__((aligned(8)));

	for (;;) {
		ssize_t n = mnl_socket_recvfrom(l->watch, buf, sizeof buf);
		struct vmp_link_info li = { 0 };
		int len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
			cb(user, VMP_LINK_OVERRUN, &li);
			continue;
		}
		if (n < 0)
			return -errno;
		len = (int)n;
		for (const struct nlmsghdr *nlh = (const void *)buf; mnl_nlmsg_ok(nlh, len);
		     nlh = mnl_nlmsg_next(nlh, &len)) {
			const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
			const struct tcmsg *tcm = mnl_nlmsg_get_payload(nlh);

			switch (nlh->nlmsg_type) {
			case RTM_NEWLINK:
			case RTM_DELLINK:
				/* In the bridge family these tell of membership; the plain message tells that as well.
				 */
				if (ifi->ifi_family != AF_UNSPEC)
					break;
				parse_link(nlh, &li);
				cb(user, nlh->nlmsg_type == RTM_NEWLINK ? VMP_LINK_NEW : VMP_LINK_DEL, &li);
				break;
			case RTM_NEWQDISC:
			case RTM_DELQDISC:
			case RTM_NEWTFILTER:
			case RTM_DELTFILTER:
				if (nlh->nlmsg_pid == l->portid)
					break;
				memset(&li, 0, sizeof li);
				li.ifindex = tcm->tcm_ifindex;
				cb(user, VMP_LINK_TC, &li);
				break;
			case RTM_DELADDR:
				if (nlh->nlmsg_pid == l->portid)
					break;
				memset(&li, 0, sizeof li);
				li.ifindex = (int)((const struct ifaddrmsg *)mnl_nlmsg_get_payload(nlh))->ifa_index;
				cb(user, VMP_LINK_ADDR_DEL, &li);
				break;
			}
		}
	}
}
