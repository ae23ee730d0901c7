/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/announce.h"
#include "internal/cleanup.h"

const unsigned int vmp_announce_repeat_ms[VMP_ANNOUNCE_REPEATS] = { 0, 100, 500, 2000 };

static void put_be16(uint8_t *p, unsigned int v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

void vmp_announce_arp(uint8_t ret_frame[VMP_ANNOUNCE_ARP_LEN], const uint8_t mac[6], const uint8_t addr[4],
		      unsigned int op)
{
	uint8_t *p = ret_frame;

	memset(p, 0xff, 6);
	memcpy(p + 6, mac, 6);
	put_be16(p + 12, ETHERTYPE_ARP);
	p += 14;
	put_be16(p, 1); /* Ethernet */
	put_be16(p + 2, ETHERTYPE_IP);
	p[4] = 6;
	p[5] = 4;
	put_be16(p + 6, op);
	memcpy(p + 8, mac, 6);
	memcpy(p + 14, addr, 4);
	memset(p + 18, op == 2 ? 0xff : 0, 6);
	memcpy(p + 24, addr, 4);
}

static unsigned int sum16(unsigned int sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (unsigned int)(p[i] << 8 | p[i + 1]);
	return sum;
}

void vmp_announce_na(uint8_t ret_frame[VMP_ANNOUNCE_NA_LEN], const uint8_t mac[6], const uint8_t addr[16])
{
	static const uint8_t all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	static const uint8_t all_nodes[16] = { 0xff, 0x02, [15] = 1 };
	uint8_t *ip = ret_frame + 14, *na = ip + 40;
	unsigned int sum;

	memset(ret_frame, 0, VMP_ANNOUNCE_NA_LEN);
	memcpy(ret_frame, all_nodes_mac, 6);
	memcpy(ret_frame + 6, mac, 6);
	put_be16(ret_frame + 12, ETHERTYPE_IPV6);
	ip[0] = 0x60;
	put_be16(ip + 4, 32);
	ip[6] = 58;  /* ICMPv6 */
	ip[7] = 255; /* receivers drop anything else (RFC 4861, 7.1.2) */
	memcpy(ip + 8, addr, 16);
	memcpy(ip + 24, all_nodes, 16);
	na[0] = 136;
	na[4] = 0x20; /* override; not solicited, not a router */
	memcpy(na + 8, addr, 16);
	na[24] = 2; /* target link-layer address, in units of 8 bytes */
	na[25] = 1;
	memcpy(na + 26, mac, 6);
	sum = sum16(32 + 58, ip + 8, 32); /* pseudo header: addresses, length, next header */
	sum = sum16(sum, na, 32);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put_be16(na + 2, ~sum & 0xffff);
}

int vmp_announce_socket(void)
{
	/* Protocol 0: it sends and never receives. */
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static int send_frame(int fd, int ifindex, const uint8_t *frame, size_t len)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = ifindex, .sll_halen = 6 };

	memcpy(&to.sll_protocol, frame + 12, 2);
	memcpy(to.sll_addr, frame, 6);
	if (sendto(fd, frame, len, MSG_DONTWAIT, (const struct sockaddr *)&to, sizeof to) < 0)
		return -errno;
	return 0;
}

int vmp_announce_send(int fd, int ifindex, const uint8_t mac[6], int family, const uint8_t *addr)
{
	uint8_t frame[VMP_ANNOUNCE_NA_LEN];
	int r, r2;

	if (family == AF_INET6) {
		vmp_announce_na(frame, mac, addr);
		return send_frame(fd, ifindex, frame, VMP_ANNOUNCE_NA_LEN);
	}
	if (family != AF_INET)
		return -EAFNOSUPPORT;
	/* Some stacks take only requests to heart, some only replies. */
	vmp_announce_arp(frame, mac, addr, 1);
	r = send_frame(fd, ifindex, frame, VMP_ANNOUNCE_ARP_LEN);
	vmp_announce_arp(frame, mac, addr, 2);
	r2 = send_frame(fd, ifindex, frame, VMP_ANNOUNCE_ARP_LEN);
	return r ? r : r2;
}
