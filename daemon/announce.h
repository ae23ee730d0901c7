/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * announce: gratuitous ARP (request and reply) and unsolicited neighbour advertisement for an entry address, sent
 * through AF_PACKET with the guest's MAC as source, so that switches and hosts outside learn where the entry is now.
 *
 * The frame builders are pure. Sending never blocks; negative errno (-ENOBUFS and -EAGAIN: the queue is full, the
 * repeat will mend it).
 */
#ifndef VMP_ANNOUNCE_H
#define VMP_ANNOUNCE_H

#include <stddef.h>
#include <stdint.h>

#define VMP_ANNOUNCE_ARP_LEN 42
#define VMP_ANNOUNCE_NA_LEN 86 /* Ethernet 14, IPv6 40, NA 24, option 8 */
#define VMP_ANNOUNCE_REPEATS 4

/* Offsets of the first announcement and its repeats, in milliseconds after the open. */
extern const unsigned int vmp_announce_repeat_ms[VMP_ANNOUNCE_REPEATS];

/* op 1: request with target MAC 0; op 2: reply with target MAC ff:ff:ff:ff:ff:ff. Sender = target address. */
void vmp_announce_arp(uint8_t ret_frame[VMP_ANNOUNCE_ARP_LEN], const uint8_t mac[6], const uint8_t addr[4],
		      unsigned int op);
void vmp_announce_na(uint8_t ret_frame[VMP_ANNOUNCE_NA_LEN], const uint8_t mac[6], const uint8_t addr[16]);

int vmp_announce_socket(void); /* descriptor, or negative errno */
/* All frames for one address out of one interface. family AF_INET: ARP request, then reply; AF_INET6: NA. */
int vmp_announce_send(int fd, int ifindex, const uint8_t mac[6], int family, const uint8_t *addr);

#endif
