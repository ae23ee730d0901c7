/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Announcements byte for byte, against frames written out by hand from RFC 826, 5227 and 4861. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/announce.h"

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

static void arp_request(void **state)
{
	static const uint8_t want[VMP_ANNOUNCE_ARP_LEN] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x06,
		0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56,
		0xc0, 0x00, 0x02, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x02, 0x0a,
	};
	uint8_t got[VMP_ANNOUNCE_ARP_LEN];

	(void)state;
	vmp_announce_arp(got, mac, (const uint8_t[]){ 192, 0, 2, 10 }, 1);
	assert_memory_equal(got, want, sizeof want);
}

static void arp_reply(void **state)
{
	static const uint8_t want[VMP_ANNOUNCE_ARP_LEN] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x08, 0x06,
		0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56,
		0xc0, 0x00, 0x02, 0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0x00, 0x02, 0x0a,
	};
	uint8_t got[VMP_ANNOUNCE_ARP_LEN];

	(void)state;
	vmp_announce_arp(got, mac, (const uint8_t[]){ 192, 0, 2, 10 }, 2);
	assert_memory_equal(got, want, sizeof want);
}

static void advertisement(void **state)
{
	static const uint8_t addr[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 0x0a };
	static const uint8_t head[] = {
		0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x86, 0xdd, 0x60,
		0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0x20, 0x01, 0x0d, 0xb8, 0,	0,    0,    0,
		0,    0,    0,	  0,	0,    0,    0,	  0x0a, 0xff, 0x02, 0,	  0,	0,    0,    0,
		0,    0,    0,	  0,	0,    0,    0,	  0,	0x01, 0x88, 0x00, /* type, code; then the checksum */
	};
	static const uint8_t tail[] = {
		0x20, 0x00, 0x00, 0x00, 0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,	  0,	0,    0,
		0,    0,    0,	  0,	0,    0x0a, 0x02, 0x01, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56,
	};
	uint8_t got[VMP_ANNOUNCE_NA_LEN];
	unsigned int sum = 0x20 + 0x3a;

	(void)state;
	vmp_announce_na(got, mac, addr);
	assert_int_equal(sizeof head + 2 + sizeof tail, VMP_ANNOUNCE_NA_LEN);
	assert_memory_equal(got, head, sizeof head);
	assert_memory_equal(got + sizeof head + 2, tail, sizeof tail);
	/* With its checksum in it, pseudo header and message add up to all ones. */
	for (size_t i = 22; i < sizeof got; i += 2)
		sum += (unsigned int)(got[i] << 8 | got[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal(sum, 0xffff);
}

/* An odd carry is where hand-made checksums go wrong. */
static void checksums(void **state)
{
	uint8_t got[VMP_ANNOUNCE_NA_LEN], addr[16], m[6];

	(void)state;
	for (unsigned int n = 0; n < 2000; n++) {
		unsigned int sum = 0x20 + 0x3a, x = n * 2654435761u;

		for (unsigned int i = 0; i < 16; i++)
			addr[i] = (uint8_t)(x = x * 1103515245u + 12345u, x >> 16);
		for (unsigned int i = 0; i < 6; i++)
			m[i] = (uint8_t)(x = x * 1103515245u + 12345u, x >> 16);
		vmp_announce_na(got, m, addr);
		for (size_t i = 22; i < sizeof got; i += 2)
			sum += (unsigned int)(got[i] << 8 | got[i + 1]);
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		assert_int_equal(sum, 0xffff);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(arp_request),
		cmocka_unit_test(arp_reply),
		cmocka_unit_test(advertisement),
		cmocka_unit_test(checksums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
