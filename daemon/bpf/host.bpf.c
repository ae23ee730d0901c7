/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate's programs for addresses of the host itself, as documentation: the daemon ships the instructions (vmp_tcbpf_host in
 * daemon/tcbpf_host.c) and needs no compiler. tests/unit/test_gate_prog compiles this with clang, where there is one, once for each
 * direction, and compares.
 *
 * They stand on the interface that holds the addresses. Way in: what would make this host take a packet for such an address, or answer
 * for it. Way out (EGRESS): what comes from it. So a host whose gate is closed still reaches the address where it is open, and hears the
 * announcements of the host that has it (an ARP whose sender and target are the address). Frames may carry up to two VLAN tags; a tag that
 * the network card or the kernel has taken off is not seen here at all. A header that is cut short is none.
 *
 * The time is read before the word, so a word revoked meanwhile is seen.
 */
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2
#define BE16(n) ((unsigned short)(((n) & 0xff) << 8 | (n) >> 8 & 0xff)) /* a program for a little-endian machine */
#define ETH_HLEN 14
#define VLAN_HLEN 4

#ifdef EGRESS
#define IPV4_ADDR 12 /* source */
#define IPV6_ADDR 8
#define ARP_ADDR 14 /* sender */
#define ND_TYPE 136 /* advertisement */
#else
#define IPV4_ADDR 16 /* destination */
#define IPV6_ADDR 24
#define ARP_ADDR 24 /* target */
#define ND_TYPE 135 /* solicitation */
#endif

typedef unsigned int u32;

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const load)(const void *skb, u32 offset, void *to, u32 len) = (void *)26;
static unsigned long long (*const ktime_get_boot_ns)(void) = (void *)125;

volatile unsigned long long expiry; /* the map's only value, CLOCK_BOOTTIME ns */

/* Addresses of the pair, 16 bytes each, IPv4 as ::ffff:a.b.c.d; filled in by the daemon. */
__attribute__((section("maps"), used)) u32 addrs[5] = { 1 /* hash */, 16, 4, 16, 0 };

struct arp {
	unsigned short hardware, protocol;
	unsigned char hlen, plen;
};

__attribute__((section("tc"), used)) int host(void *skb)
{
	u32 key[4], at = ETH_HLEN, target = 0;
	unsigned long long now;
	unsigned short proto;
	struct arp arp;

	/* Not an initializer, which would lie in a section of its own. */
	key[0] = key[1] = key[3] = 0;
	key[2] = (u32)BE16(0xffff) << 16;
	if (load(skb, ETH_HLEN - 2, &proto, sizeof proto))
		return TC_ACT_UNSPEC;
	for (int i = 0; i < 2; i++) {
		if (proto != BE16(0x8100) && proto != BE16(0x88a8))
			break;
		if (load(skb, at + VLAN_HLEN - 2, &proto, sizeof proto))
			return TC_ACT_UNSPEC;
		at += VLAN_HLEN;
	}
	if (proto == BE16(0x0800)) {
		if (load(skb, at + IPV4_ADDR, &key[3], 4))
			return TC_ACT_UNSPEC;
	} else if (proto == BE16(0x0806)) {
		if (load(skb, at, &arp, sizeof arp) || arp.protocol != BE16(0x0800) || arp.hlen != 6 || arp.plen != 4 ||
		    load(skb, at + ARP_ADDR, &key[3], 4))
			return TC_ACT_UNSPEC;
#ifndef EGRESS
		u32 sender;

		if (load(skb, at + 14, &sender, 4) || sender == key[3])
			return TC_ACT_UNSPEC;
#endif
	} else if (proto == BE16(0x86dd)) {
		unsigned char next, type;

		if (load(skb, at + IPV6_ADDR, key, sizeof key) || load(skb, at + 6, &next, 1))
			return TC_ACT_UNSPEC;
		if (next == 58 && !load(skb, at + 40, &type, 1) && type == ND_TYPE)
			target = at + 48;
	} else {
		return TC_ACT_UNSPEC;
	}
	if (!map_lookup(addrs, key) && (!target || load(skb, target, key, sizeof key) || !map_lookup(addrs, key)))
		return TC_ACT_UNSPEC;
	now = ktime_get_boot_ns();
	return now >= expiry ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}
