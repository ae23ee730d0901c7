/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tickle: one TCP segment by which a client learns that its connection ended with the old primary. A client that waits for an answer
 * sends nothing, so nobody can tell it; a bare ACK that does not fit its connection makes it say where it stands (RFC 9293, 3.10.7.4),
 * and the kernel that has the address now answers that with a reset. Samba's CTDB does the same after a takeover. A client that has no
 * such connection, or a new one from the same port, takes no harm.
 *
 * The packet builder is pure. Sending needs CAP_NET_RAW for the socket only, never blocks, and receives nothing. Negative errno.
 */
#ifndef VMP_TICKLE_H
#define VMP_TICKLE_H

#include <stddef.h>
#include <stdint.h>

#define VMP_TICKLE_PACKET_MAX 60 /* IPv6 40, TCP 20 */
#define VMP_TICKLE_WIRE_MAX 37

/* A client's connection. */
struct vmp_tickle {
	int family; /* AF_INET, AF_INET6 */
	uint8_t server[16], client[16]; /* network order; 4 used for v4 */
	uint16_t server_port, client_port;
};

/* The whole packet, IP header and all; its length. */
size_t vmp_tickle_packet(uint8_t ret_packet[VMP_TICKLE_PACKET_MAX], const struct vmp_tickle *t);

/* As the relays tell each other about it; length, 0 for another family. Reading: 0, -EINVAL. */
size_t vmp_tickle_pack(uint8_t ret_wire[VMP_TICKLE_WIRE_MAX], const struct vmp_tickle *t);
int vmp_tickle_unpack(struct vmp_tickle *ret, const uint8_t *wire, size_t len);

int vmp_tickle_socket(int family); /* descriptor, or negative errno: -EPERM without CAP_NET_RAW */
int vmp_tickle_send(int fd, const struct vmp_tickle *t);

#endif
