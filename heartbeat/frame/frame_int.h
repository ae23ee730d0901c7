/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the framings share. Character classes are those of RFC 9110 and RFC 3986. */
#ifndef VMP_FRAME_INT_H
#define VMP_FRAME_INT_H

#include <errno.h>
#include <string.h>

#include "heartbeat/frame/frame.h"

#define VMP_CHAR_TOKEN 0x1u	/* of a method or field name */
#define VMP_CHAR_VALUE 0x2u	/* of a field value: VCHAR, obs-text, blank, tab */
#define VMP_CHAR_TARGET 0x4u	/* of a request target: VCHAR */
#define VMP_CHAR_HOST 0x8u	/* of Host: uri-host, port */
extern const uint8_t vmp_char_class[256];

static inline bool vmp_char_is(char c, uint8_t cls)
{
	return vmp_char_class[(uint8_t)c] & cls;
}

/* Every byte may stand in a field value. Eight at a time: control characters are rare, a tab is looked at twice. */
static inline bool vmp_value_clean(const char *p, size_t n)
{
	const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;

	for (; n >= 8; p += 8, n -= 8) {
		uint64_t v, del;

		memcpy(&v, p, 8);
		del = v ^ ones * 0x7f;
		if ((((v - ones * 0x20) & ~v) | ((del - ones) & ~del)) & high)
			for (unsigned int i = 0; i < 8; i++)
				if (!vmp_char_is(p[i], VMP_CHAR_VALUE))
					return false;
	}
	for (; n; p++, n--)
		if (!vmp_char_is(*p, VMP_CHAR_VALUE))
			return false;
	return true;
}

/* Text of letters, digits and '-' in lower case; the other in any case. */
static inline bool vmp_same(const char *p, size_t n, const char *lower, size_t lower_n)
{
	if (n != lower_n)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i]) != lower[i])
			return false;
	return true;
}
#define VMP_SAME(p, n, literal) vmp_same(p, n, literal, sizeof(literal) - 1)

/* Fills *ret for an error that ends the connection. */
int vmp_frame_refused(const struct vmp_frame_conf *conf, enum vmp_refuse why, struct vmp_unit *ret);

int vmp_http1_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_unit *ret);
int vmp_http1_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret);
int vmp_resp_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_unit *ret);
int vmp_resp_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret);
int vmp_line_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_unit *ret);
int vmp_line_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret);
int vmp_length_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
		       struct vmp_unit *ret);
int vmp_length_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret);

#endif
