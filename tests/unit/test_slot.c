/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "daemon/slot.h"

static void addresses(void **state)
{
	static const char *const bad[] = { "",		 "1.2.3.4",	 "1.2.3.4/", "1.2.3.4/33",
					   "1.2.3.4/0",	 "1.2.3.4/24x",	 "1.2.3/24", "/24",
					   "::1/129",	 "1.2.3.4/0024", "gg::1/64", "1.2.3.4 /24",
					   "-1.2.3.4/24" };
	struct vmp_addr a;
	char buf[VMP_ADDR_STRLEN];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vmp_addr_parse(bad[i], &a), -EINVAL);
	assert_int_equal(vmp_addr_parse("192.0.2.10/24", &a), 0);
	assert_string_equal(vmp_addr_str(&a, true, buf), "192.0.2.10/24");
	assert_int_equal(vmp_addr_parse("2001:db8:0::10/64", &a), 0);
	assert_string_equal(vmp_addr_str(&a, false, buf), "2001:db8::10");
	memset(&a, 0, sizeof(a));
	assert_string_equal(vmp_addr_str(&a, true, buf), "none");
}

static void entry_lists(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "no entry address" },
		{ " , ,", "no entry address" },
		{ "192.0.2.10", "not ADDRESS/PREFIX" },
		{ "192.0.2.10/24 bogus", "'bogus'" },
		{ "192.0.2.0/24", "network itself" },
		{ "192.0.2.255/24", "broadcast" },
		{ "224.0.0.1/24", "multicast" },
		{ "127.0.0.1/8", "loopback" },
		{ "0.0.0.0/8", "unspecified" },
		{ "255.255.255.254/24", "reserved" },
		{ "169.254.3.4/16", "link-local" },
		{ "fe80::1/64", "link-local" },
		{ "ff02::1/64", "multicast" },
		{ "::1/128", "loopback" },
		{ "::/64", "unspecified" },
		{ "::ffff:1.2.3.4/96", "IPv4-mapped" },
		{ "2001:db8::/64", "anycast" },
		{ "192.0.2.10/24,192.0.2.10/25", "given twice" },
		{ "2001:db8::a/64 2001:DB8:0::A/64", "given twice" },
		{ "10.0.0.1/8 10.0.0.2/8 10.0.0.3/8 10.0.0.4/8 10.0.0.5/8", "more than 4" },
		{ "11111111111111111111111111111111111111111111111111111111111111111111/8", "not ADDRESS/PREFIX" },
	};
	struct vmp_addr a[4], b[1];
	unsigned int n, m;
	char reason[200];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		reason[0] = '\0';
		assert_int_equal(vmp_entry_parse(bad[i].text, a, 4, &n, reason, sizeof(reason)), -EINVAL);
		if (!strstr(reason, bad[i].says))
			fail_msg("'%s' gave '%s'", bad[i].text, reason);
	}
	assert_int_equal(vmp_entry_parse(" 192.0.2.10/24,\n2001:db8::10/64 , 10.0.0.0/31\t10.9.9.9/32", a, 4, &n,
					 reason, sizeof(reason)),
			 0);
	assert_int_equal(n, 4);
	assert_int_equal(a[1].family, AF_INET6);
	assert_int_equal(vmp_entry_parse("2001:db8::10/48", b, 1, &m, reason, sizeof(reason)), 0);
	assert_ptr_equal(vmp_entry_common(a, n, b, m), &a[1]);
	assert_int_equal(vmp_entry_parse("2001:db8::11/48", b, 1, &m, reason, sizeof(reason)), 0);
	assert_null(vmp_entry_common(a, n, b, m));
}

static void internal_nets(void **state)
{
	static const char *const bad[] = { "",
					   "192.168.77.0",
					   "192.168.77.1/24",
					   "192.168.77.0/31",
					   "192.168.77.0/24@",
					   "192.168.77.0/24@a/b",
					   "192.168.77.0/24@sixteen-letters-",
					   "224.0.0.0/24",
					   "127.0.0.0/8",
					   "fe80::/64@x" };
	struct vmp_internal_net net, other;
	char reason[200], buf[VMP_ADDR_STRLEN];
	struct vmp_addr a;
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		reason[0] = '\0';
		assert_int_equal(vmp_internal_net_parse(bad[i], &net, reason, sizeof(reason)), -EINVAL);
		assert_int_not_equal(reason[0], '\0');
	}
	assert_int_equal(vmp_internal_net_parse("192.168.77.0/24@br-int", &net, reason, sizeof(reason)), 0);
	assert_string_equal(net.bridge, "br-int");
	assert_int_equal(vmp_slot_internal_addr(&net, 254, &a), 0);
	assert_string_equal(vmp_addr_str(&a, true, buf), "192.168.77.254/24");
	assert_int_equal(vmp_slot_internal_addr(&net, 255, &a), -EINVAL);
	assert_int_equal(vmp_slot_internal_addr(&net, 0, &a), -EINVAL);
	assert_int_equal(vmp_internal_net_parse("192.168.0.0/16@br-int", &other, reason, sizeof(reason)), 0);
	assert_true(vmp_internal_net_overlap(&net, &other));
	assert_int_equal(vmp_internal_net_parse("192.168.0.0/16@br-x", &other, reason, sizeof(reason)), 0);
	assert_false(vmp_internal_net_overlap(&net, &other));
	assert_int_equal(vmp_internal_net_parse("192.168.76.0/24@br-int", &other, reason, sizeof(reason)), 0);
	assert_false(vmp_internal_net_overlap(&net, &other));
	assert_int_equal(vmp_internal_net_parse("10.1.0.0/22", &net, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_slot_internal_addr(&net, 255, &a), 0);
	assert_int_equal(vmp_internal_net_parse("10.1.0.8/29", &net, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_slot_internal_addr(&net, 6, &a), 0);
	assert_string_equal(vmp_addr_str(&a, true, buf), "10.1.0.14/29");
	assert_int_equal(vmp_slot_internal_addr(&net, 7, &a), -EINVAL);
	assert_int_equal(vmp_slot_internal_addr(&net, 9, &a), -EINVAL);
	assert_int_equal(vmp_internal_net_parse("fd00:77::/64", &net, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_slot_internal_addr(&net, 255, &a), 0);
	assert_string_equal(vmp_addr_str(&a, true, buf), "fd00:77::ff/64");
}

static void macs(void **state)
{
	static const char *const bad[] = { "",
					   "52:54:00:12:34",
					   "52:54:00:12:34:5",
					   "52:54:00:12:34:56:",
					   "53:54:00:12:34:56",
					   "00:00:00:00:00:00",
					   "52-54-00-12-34-56",
					   "52:54:00:12:34:5g" };
	uint8_t m[6];
	char buf[18];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vmp_mac_parse(bad[i], m), -EINVAL);
	assert_int_equal(vmp_mac_parse("52:54:00:AB:cd:01", m), 0);
	assert_string_equal(vmp_mac_str(m, buf), "52:54:00:ab:cd:01");
}

static void slots(void **state)
{
	struct vmp_internal_net net;
	struct vmp_slot s, t;
	char reason[200], buf[18];
	uint8_t mac[6];
	(void)state;

	assert_int_equal(vmp_internal_net_parse("192.168.77.0/24@br-int", &net, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_slot_derive("web", 2, &net, &s, reason, sizeof(reason)), 0);
	/* These values are on disks and in guests: they must never change. */
	assert_string_equal(s.hostname, "web-2");
	assert_true(s.pair_id == vmp_pair_id("web"));
	assert_string_equal(s.entry_tap, "vpe1948721ef1");
	assert_memory_equal(s.internal_tap, "vpi", 3);
	assert_string_equal(s.internal_tap + 3, s.entry_tap + 3);
	assert_string_equal(s.machine_id, "64918f9b402822c2aca7094cb5468081");
	assert_string_equal(s.uuid, "10969f61-5d3e-87c5-b036-c9ee5e94610c");
	assert_string_equal(vmp_mac_str(s.internal_mac, buf), "02:17:94:82:71:02");
	assert_true(strlen(s.entry_tap) < IFNAMSIZ);

	for (unsigned int node = 1; node < 255; node++) {
		if (node == 2)
			continue;
		assert_int_equal(vmp_slot_derive("web", node, &net, &t, reason, sizeof(reason)), 0);
		assert_string_not_equal(s.machine_id, t.machine_id);
		assert_string_not_equal(s.uuid, t.uuid);
		assert_string_not_equal(s.hostname, t.hostname);
		assert_memory_not_equal(s.internal_mac, t.internal_mac, 6);
		assert_false(vmp_addr_equal(&s.internal, &t.internal));
		assert_string_equal(s.entry_tap, t.entry_tap);
	}
	vmp_slot_mac("web", 2, 1, mac);
	assert_memory_not_equal(mac, s.internal_mac, 6);
	assert_int_equal(mac[0], 0x02);
	assert_int_equal(mac[5], 2);

	assert_int_equal(vmp_slot_derive("web", 255, &net, &t, reason, sizeof(reason)), -EINVAL);
	assert_non_null(strstr(reason, "node id 255"));
	assert_int_equal(vmp_slot_derive("web", 256, NULL, &t, reason, sizeof(reason)), -EINVAL);
	assert_int_equal(vmp_slot_derive("web", 0, NULL, &t, reason, sizeof(reason)), -EINVAL);
	assert_int_equal(vmp_slot_derive("web", 255, NULL, &t, reason, sizeof(reason)), 0);
	assert_int_equal(t.internal.family, 0);
}

static void names(void **state)
{
	static const char *const bad[] = {
		"",	    "-a",  ".a",
		"_a",	    "a b", "a/b",
		"\303\244", "a\n", "1234567890123456789012345678901234567890123456789012345678901234"
	};
	char longest[] = "123456789012345678901234567890123456789012345678901234567890123";
	struct vmp_slot s, t;
	char reason[200];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vmp_pair_name_check(bad[i], reason, sizeof(reason)), -EINVAL);
	assert_int_equal(vmp_slot_derive(longest, 255, NULL, &s, reason, sizeof(reason)), 0);
	assert_true(strlen(s.hostname) <= 63);
	longest[62] = 'x';
	assert_int_equal(vmp_slot_derive(longest, 255, NULL, &t, reason, sizeof(reason)), 0);
	assert_string_not_equal(s.hostname, t.hostname);
	assert_int_equal(vmp_slot_derive("a_b.c", 3, NULL, &s, reason, sizeof(reason)), 0);
	assert_int_equal(vmp_slot_derive("a-b-c", 3, NULL, &t, reason, sizeof(reason)), 0);
	assert_memory_equal(s.hostname, "a-b-c-", 6);
	assert_null(strpbrk(s.hostname, "_."));
	assert_string_equal(t.hostname, "a-b-c-3");
	assert_string_not_equal(s.hostname, t.hostname);
	/* FNV-1a 64 test vector */
	assert_true(vmp_pair_id("foobar") == 0x85944171f73967e8u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(entry_lists), cmocka_unit_test(internal_nets),
		cmocka_unit_test(macs),	     cmocka_unit_test(slots),	    cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
