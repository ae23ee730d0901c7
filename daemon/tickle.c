/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/tickle.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

enum { TCP_LEN = 20, ACK = 0x10, WIRE_HEAD = 5 };

static void put_be16(uint8_t *p, unsigned int v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned int get_be16(const uint8_t *p)
{
	return (unsigned int)(p[0] << 8 | p[1]);
}

static unsigned int sum16(unsigned int sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += get_be16(p + i);
	return sum;
}

static unsigned int fold(unsigned int sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

static size_t addr_len(int family)
{
	return family == AF_INET6 ? 16 : 4;
}

size_t vmp_tickle_packet(uint8_t ret_packet[VMP_TICKLE_PACKET_MAX], const struct vmp_tickle *t)
{
	bool v6 = t->family == AF_INET6;
	size_t ip_len = v6 ? 40 : 20, alen = addr_len(t->family);
	uint8_t *ip = ret_packet, *tcp = ip + ip_len, *addrs = ip + (v6 ? 8 : 12);

	memset(ret_packet, 0, VMP_TICKLE_PACKET_MAX);
	if (v6) {
		ip[0] = 0x60;
		put_be16(ip + 4, TCP_LEN);
		ip[6] = IPPROTO_TCP;
		ip[7] = 64;
	} else {
		ip[0] = 0x45;
		put_be16(ip + 2, 20 + TCP_LEN);
		ip[8] = 64;
		ip[9] = IPPROTO_TCP;
	}
	memcpy(addrs, t->server, alen);
	memcpy(addrs + alen, t->client, alen);
	if (!v6)
		put_be16(ip + 10, fold(sum16(0, ip, 20)));
	/* sequence and acknowledgement number 0: what the client is at is not known here, and need not be */
	put_be16(tcp, t->server_port);
	put_be16(tcp + 2, t->client_port);
	tcp[12] = TCP_LEN / 4 << 4;
	tcp[13] = ACK;
	put_be16(tcp + 14, 1024);
	put_be16(tcp + 16, fold(sum16(sum16(IPPROTO_TCP + TCP_LEN, addrs, 2 * alen), tcp, TCP_LEN)));
	return ip_len + TCP_LEN;
}

size_t vmp_tickle_pack(uint8_t ret_wire[VMP_TICKLE_WIRE_MAX], const struct vmp_tickle *t)
{
	size_t alen = addr_len(t->family);

	if (t->family != AF_INET && t->family != AF_INET6)
		return 0;
	ret_wire[0] = t->family == AF_INET6 ? 6 : 4;
	put_be16(ret_wire + 1, t->server_port);
	put_be16(ret_wire + 3, t->client_port);
	memcpy(ret_wire + WIRE_HEAD, t->server, alen);
	memcpy(ret_wire + WIRE_HEAD + alen, t->client, alen);
	return WIRE_HEAD + 2 * alen;
}

int vmp_tickle_unpack(struct vmp_tickle *ret, const uint8_t *wire, size_t len)
{
	struct vmp_tickle t = { 0 };
	size_t alen;

	if (len < WIRE_HEAD || (wire[0] != 4 && wire[0] != 6))
		return -EINVAL;
	t.family = wire[0] == 6 ? AF_INET6 : AF_INET;
	alen = addr_len(t.family);
	t.server_port = (uint16_t)get_be16(wire + 1);
	t.client_port = (uint16_t)get_be16(wire + 3);
	if (len != WIRE_HEAD + 2 * alen || !t.server_port || !t.client_port)
		return -EINVAL;
	memcpy(t.server, wire + WIRE_HEAD, alen);
	memcpy(t.client, wire + WIRE_HEAD + alen, alen);
	*ret = t;
	return 0;
}

int vmp_tickle_socket(int family)
{
	/* Protocol RAW: the packet brings its own header, and nothing is received. */
	int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

	return fd < 0 ? -errno : fd;
}

int vmp_tickle_send(int fd, const struct vmp_tickle *t)
{
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in to4 = { .sin_family = AF_INET };
	bool v6 = t->family == AF_INET6;
	uint8_t packet[VMP_TICKLE_PACKET_MAX];
	size_t len = vmp_tickle_packet(packet, t);

	memcpy(&to4.sin_addr, t->client, 4);
	memcpy(&to6.sin6_addr, t->client, 16);
	if (sendto(fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL, v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4,
		   v6 ? sizeof(to6) : sizeof(to4)) < 0)
		return -errno;
	return 0;
}
