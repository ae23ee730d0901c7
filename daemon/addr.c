/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/addr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static unsigned int addr_bits(const struct vmp_addr *a)
{
	return a->family == AF_INET ? 32 : 128;
}

int vmp_addr_parse(const char *text, struct vmp_addr *ret_)
{
	struct vmp_addr a = { 0 };
	char buf[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	unsigned int prefix = 0;
	size_t n;

	if (!slash)
		return -EINVAL;
	n = (size_t)(slash - text);
	if (n == 0 || n >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, n);
	buf[n] = '\0';
	a.family = strchr(buf, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(a.family, buf, a.bytes) != 1)
		return -EINVAL;

	n = strspn(slash + 1, "0123456789");
	if (n == 0 || n > 3 || slash[1 + n] != '\0')
		return -EINVAL;
	for (size_t i = 1; i <= n; i++)
		prefix = prefix * 10 + (unsigned int)(slash[i] - '0');
	if (prefix == 0 || prefix > addr_bits(&a))
		return -EINVAL;
	a.prefix = (uint8_t)prefix;
	*ret_ = a;
	return 0;
}

/* Are all host bits equal to `one`? An address without host bits has none that could be wrong. */
static bool host_bits_all(const struct vmp_addr *a, bool one)
{
	for (unsigned int bit = a->prefix; bit < addr_bits(a); bit++)
		if (((a->bytes[bit / 8] >> (7 - bit % 8)) & 1) != (one ? 1 : 0))
			return false;
	return true;
}

int vmp_addr_host_check(const struct vmp_addr *a, char *reason, size_t reason_size)
{
	static const uint8_t zero[16], loopback6[16] = { [15] = 1 };
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *b = a->bytes;
	bool v4 = a->family == AF_INET;
	const char *what = NULL;
	char buf[VMP_ADDR_STRLEN];

	if (!memcmp(b, zero, v4 ? 4 : 16) || (v4 && b[0] == 0))
		what = "is the unspecified address";
	else if (v4 ? b[0] == 127 : !memcmp(b, loopback6, 16))
		what = "is a loopback address";
	else if (v4 ? b[0] >= 224 && b[0] < 240 : b[0] == 0xff)
		what = "is a multicast address";
	else if (v4 && b[0] >= 240)
		what = "is a reserved address";
	else if (v4 ? b[0] == 169 && b[1] == 254 : b[0] == 0xfe && (b[1] & 0xc0) == 0x80)
		what = "is a link-local address";
	else if (!v4 && !memcmp(b, mapped, sizeof(mapped)))
		what = "is an IPv4-mapped address (write it as IPv4)";
	else if (a->prefix < addr_bits(a) - 1 && host_bits_all(a, false))
		what = v4 ? "is the address of the network itself" : "is the routers' anycast address of the network";
	else if (v4 && a->prefix < 31 && host_bits_all(a, true))
		what = "is the broadcast address of its network";
	if (!what)
		return 0;
	snprintf(reason, reason_size, "%s %s: no host can have it", vmp_addr_str(a, true, buf), what);
	return -EINVAL;
}

int vmp_entry_parse(const char *text, struct vmp_addr *ret_, unsigned int max, unsigned int *ret_n, char *reason,
		    size_t reason_size)
{
	static const char blanks[] = ", \t\r\n";
	unsigned int count = 0;

	for (const char *p = text + strspn(text, blanks); *p != '\0'; p += strspn(p, blanks)) {
		size_t len = strcspn(p, blanks);
		char item[VMP_ADDR_STRLEN];

		if (count == max) {
			snprintf(reason, reason_size, "more than %u entry addresses", max);
			return -EINVAL;
		}
		snprintf(item, sizeof(item), "%.*s", (int)(len < sizeof(item) ? len : sizeof(item) - 1), p);
		if (len >= sizeof(item) || vmp_addr_parse(item, &ret_[count]) < 0) {
			snprintf(reason, reason_size,
				 "'%s' is not ADDRESS/PREFIX (such as 192.0.2.10/24 or 2001:db8::10/64)", item);
			return -EINVAL;
		}
		if (vmp_addr_host_check(&ret_[count], reason, reason_size) < 0)
			return -EINVAL;
		for (unsigned int i = 0; i < count; i++) {
			if (vmp_addr_equal(&ret_[i], &ret_[count])) {
				snprintf(reason, reason_size, "entry address %s is given twice",
					 vmp_addr_str(&ret_[i], false, item));
				return -EINVAL;
			}
		}
		count++;
		p += len;
	}
	if (count == 0) {
		snprintf(reason, reason_size, "no entry address given");
		return -EINVAL;
	}
	*ret_n = count;
	return 0;
}

/* A name the kernel would take for an interface. */
static bool ifname_ok(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (const char *p = name; *p != '\0'; p++)
		if (!isgraph((unsigned char)*p) || *p == '/' || *p == ':')
			return false;
	return true;
}

int vmp_internal_net_parse(const char *text, struct vmp_internal_net *ret_, char *reason, size_t reason_size)
{
	struct vmp_internal_net net = { 0 };
	struct vmp_addr host;
	const char *at = strchr(text, '@');
	size_t len = at ? (size_t)(at - text) : strlen(text);
	char prefix[VMP_ADDR_STRLEN], buf[VMP_ADDR_STRLEN];

	snprintf(prefix, sizeof(prefix), "%.*s", (int)(len < sizeof(prefix) ? len : sizeof(prefix) - 1), text);
	if (len >= sizeof(prefix) || vmp_addr_parse(prefix, &net.net) < 0) {
		snprintf(reason, reason_size, "'%s' is not NETWORK/PREFIX[@BRIDGE] (such as 192.168.77.0/24@br-int)",
			 prefix);
		return -EINVAL;
	}
	if (at) {
		if (!ifname_ok(at + 1)) {
			snprintf(reason, reason_size, "'%.32s' cannot be the name of a bridge", at + 1);
			return -EINVAL;
		}
		snprintf(net.bridge, sizeof(net.bridge), "%s", at + 1);
	}
	if (net.net.prefix > addr_bits(&net.net) - 2 || !host_bits_all(&net.net, false)) {
		snprintf(reason, reason_size,
			 "%s is not a network with room for members (the bits after /%u must be 0)",
			 vmp_addr_str(&net.net, true, buf), net.net.prefix);
		return -EINVAL;
	}
	host = net.net;
	host.bytes[host.family == AF_INET ? 3 : 15] |= 1;
	if (vmp_addr_host_check(&host, reason, reason_size) < 0)
		return -EINVAL;
	*ret_ = net;
	return 0;
}

bool vmp_addr_equal(const struct vmp_addr *a, const struct vmp_addr *b)
{
	return a->family == b->family && !memcmp(a->bytes, b->bytes, addr_bits(a) / 8);
}

const struct vmp_addr *vmp_entry_common(const struct vmp_addr *a, unsigned int n_a, const struct vmp_addr *b,
					unsigned int n_b)
{
	for (unsigned int i = 0; i < n_a; i++)
		for (unsigned int k = 0; k < n_b; k++)
			if (vmp_addr_equal(&a[i], &b[k]))
				return &a[i];
	return NULL;
}

bool vmp_internal_net_overlap(const struct vmp_internal_net *a, const struct vmp_internal_net *b)
{
	unsigned int common = a->net.prefix < b->net.prefix ? a->net.prefix : b->net.prefix;

	if (a->net.family != b->net.family || strcmp(a->bridge, b->bridge) != 0)
		return false;
	for (unsigned int bit = 0; bit < common; bit++)
		if (((a->net.bytes[bit / 8] ^ b->net.bytes[bit / 8]) >> (7 - bit % 8)) & 1)
			return false;
	return true;
}

const char *vmp_addr_str(const struct vmp_addr *a, bool with_prefix, char buf[static VMP_ADDR_STRLEN])
{
	size_t len;

	if ((a->family != AF_INET && a->family != AF_INET6) || !inet_ntop(a->family, a->bytes, buf, VMP_ADDR_STRLEN)) {
		snprintf(buf, VMP_ADDR_STRLEN, "none");
		return buf;
	}
	len = strlen(buf);
	if (with_prefix)
		snprintf(buf + len, VMP_ADDR_STRLEN - len, "/%u", a->prefix);
	return buf;
}

int vmp_mac_parse(const char *text, uint8_t ret_[static 6])
{
	static const uint8_t zero[6];
	uint8_t mac[6];

	for (int i = 0; i < 6; i++, text += 3) {
		unsigned int byte;

		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
		    text[2] != (i < 5 ? ':' : '\0') || sscanf(text, "%2x", &byte) != 1)
			return -EINVAL;
		mac[i] = (uint8_t)byte;
	}
	if ((mac[0] & 1) || !memcmp(mac, zero, sizeof(mac)))
		return -EINVAL;
	memcpy(ret_, mac, sizeof(mac));
	return 0;
}

const char *vmp_mac_str(const uint8_t mac[static 6], char buf[static 18])
{
	snprintf(buf, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return buf;
}
