/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate's program, as documentation: the daemon ships the instructions (vmp_tcbpf_insns in daemon/tcbpf.c) and needs no compiler.
 * tests/unit/test_gate_prog compiles this with clang, where there is one, and compares.
 *
 * Both directions of a gated port. The time is read before the word, so a word revoked meanwhile is seen. A word of 0 (closed)
 * is past at any time. Otherwise TC_ACT_UNSPEC, so that other tc programs of the port still run.
 */
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2

static unsigned long long (*const ktime_get_boot_ns)(void) = (void *)125;

volatile unsigned long long expiry; /* the map's only value, CLOCK_BOOTTIME ns */

__attribute__((section("tc"), used)) int gate(void *skb)
{
	unsigned long long now = ktime_get_boot_ns();
	unsigned long long end = expiry;

	(void)skb;
	return now >= end ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}
