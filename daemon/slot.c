/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/slot.h"

#include <ctype.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/fence.h"

int vmp_pair_name_check(const char *name, char *reason, size_t reason_size)
{
	size_t len = strlen(name);

	if (len == 0 || len > VMP_PAIR_NAME_MAX) {
		snprintf(reason, reason_size, "a pair's name has 1 to %d characters", VMP_PAIR_NAME_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c < 0x80 && (isalnum(c) || (i > 0 && strchr("_.-", c))))
			continue;
		snprintf(reason, reason_size,
			 "a pair's name is made of letters, digits, '_', '.' and '-' and begins with a letter or "
			 "digit");
		return -EINVAL;
	}
	return 0;
}

/* Identities that guests see are taken from a cryptographic hash: no chance of two pairs colliding in practice. */
static int slot_hash(const char *what, const char *pair, unsigned int node_id, uint8_t ret_[static 32])
{
	char text[128];
	int n = snprintf(text, sizeof(text), "vmpair/%s/%s/%u", what, pair, node_id);

	return gnutls_hash_fast(GNUTLS_DIG_SHA256, text, (size_t)n, ret_) < 0 ? -EIO : 0;
}

void vmp_slot_mac(const char *pair, unsigned int node_id, unsigned int index, uint8_t ret_[static 6])
{
	uint64_t h = vmp_pair_id(pair) ^ (uint64_t)index * 0x9e3779b97f4a7c15u;

	/* FNV spreads badly in its low bits: mix before cutting. */
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	ret_[0] = 0x02;
	for (int i = 1; i <= 4; i++)
		ret_[i] = (uint8_t)(h >> (8 * i));
	ret_[5] = (uint8_t)node_id;
}

int vmp_slot_internal_addr(const struct vmp_internal_net *net, unsigned int node_id, struct vmp_addr *ret_)
{
	struct vmp_addr a = net->net;
	unsigned int bits = a.family == AF_INET ? 32 : 128;
	unsigned int host_bits = bits - a.prefix;
	char unused[128];

	if (node_id < 1 || node_id > 255 || (host_bits < 8 && node_id >> host_bits))
		return -EINVAL;
	a.bytes[bits / 8 - 1] |= (uint8_t)node_id;
	if (vmp_addr_host_check(&a, unused, sizeof(unused)) < 0)
		return -EINVAL;
	*ret_ = a;
	return 0;
}

static void slot_hostname(const char *pair, uint64_t pair_id, unsigned int node_id, char ret_[static 65])
{
	/* 63 is the longest label, "-", 8 digits, "-", three digits of the node id go behind the name. */
	const size_t room = 63 - 4, room_changed = 63 - 4 - 9;
	char name[VMP_PAIR_NAME_MAX + 1];
	size_t len = strlen(pair);
	bool changed = len > room;

	for (size_t i = 0; i <= len; i++) {
		changed = changed || pair[i] == '_' || pair[i] == '.';
		name[i] = pair[i] == '_' || pair[i] == '.' ? '-' : pair[i];
	}
	if (changed)
		snprintf(ret_, 65, "%.*s-%08x-%u", (int)room_changed, name, (unsigned int)(pair_id >> 32), node_id);
	else
		snprintf(ret_, 65, "%.*s-%u", (int)room, name, node_id);
}

int vmp_slot_derive(const char *pair, unsigned int node_id, const struct vmp_internal_net *net, struct vmp_slot *ret_,
		    char *reason, size_t reason_size)
{
	struct vmp_slot s = { 0 };
	char buf[VMP_ADDR_STRLEN];
	uint8_t h[32], *u;
	int rc;

	rc = vmp_pair_name_check(pair, reason, reason_size);
	if (rc < 0)
		return rc;
	if (node_id < 1 || node_id > 255) {
		snprintf(reason, reason_size, "node id %u is not in 1..255", node_id);
		return -EINVAL;
	}
	if (net && vmp_slot_internal_addr(net, node_id, &s.internal) < 0) {
		snprintf(reason, reason_size,
			 "internal net %s has no host address for node id %u (choose a shorter prefix)",
			 vmp_addr_str(&net->net, true, buf), node_id);
		return -EINVAL;
	}
	s.pair_id = vmp_pair_id(pair);
	s.node_id = (uint8_t)node_id;
	slot_hostname(pair, s.pair_id, node_id, s.hostname);
	snprintf(s.entry_tap, sizeof(s.entry_tap), VMP_FENCE_PREFIX "%010llx", (unsigned long long)(s.pair_id & 0xffffffffffu));
	snprintf(s.internal_tap, sizeof(s.internal_tap), "vpi%010llx", (unsigned long long)(s.pair_id & 0xffffffffffu));
	vmp_slot_mac(pair, node_id, 0, s.internal_mac);

	if (slot_hash("machine-id", pair, node_id, h) < 0)
		goto fail;
	for (int i = 0; i < 16; i++)
		snprintf(s.machine_id + 2 * i, 3, "%02x", h[i]);
	if (slot_hash("uuid", pair, node_id, h) < 0)
		goto fail;
	u = h; /* RFC 9562 version 8: our own way of making it */
	u[6] = (u[6] & 0x0f) | 0x80;
	u[8] = (u[8] & 0x3f) | 0x80;
	snprintf(s.uuid, sizeof(s.uuid), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
		 u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	*ret_ = s;
	return 0;
fail:
	snprintf(reason, reason_size, "SHA-256 is not available");
	return -EIO;
}
