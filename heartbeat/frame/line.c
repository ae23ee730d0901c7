/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines, and units that begin with their length. Either is asked for by the service's own protocol; there is no refusal in it. */
#include "heartbeat/frame/frame_int.h"

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int vmp_line_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_unit *ret)
{
	const char *lf = memchr(buf + st->scanned, '\n', len - st->scanned);
	size_t i = 0, begin;

	if (!lf) {
		st->scanned = (uint32_t)len;
		return 0;
	}
	ret->len = (size_t)(lf - buf) + 1;
	for (unsigned int field = 1; conf->id_field; field++) {
		while (i < ret->len && blank(buf[i]))
			i++;
		begin = i;
		while (i < ret->len && !blank(buf[i]))
			i++;
		if (i == begin)
			break;
		if (field < conf->id_field)
			continue;
		if (i - begin > VMP_FRAME_ID_MAX)
			return vmp_frame_refused(conf, VMP_REFUSE_ID, ret);
		ret->id = buf + begin;
		ret->id_len = (uint32_t)(i - begin);
		ret->flags |= VMP_UNIT_HAS_ID;
		break;
	}
	memset(st, 0, offsetof(struct vmp_frame_req, id));
	return 1;
}

int vmp_line_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret)
{
	const char *lf = memchr(buf, '\n', len);

	(void)st;
	(void)conf;
	ret->used = lf ? (size_t)(lf - buf) + 1 : len;
	if (lf)
		ret->flags = VMP_PART_DONE;
	return 0;
}

/* The bytes behind the length, or UINT64_MAX when it counts itself and is too short for that. */
static uint64_t length_of(const struct vmp_frame_conf *conf, const char *buf)
{
	const uint8_t *p = (const uint8_t *)buf;
	uint64_t n = 0;

	for (unsigned int i = 0; i < conf->width; i++)
		n |= (uint64_t)p[i] << 8 * (conf->little ? i : conf->width - 1u - i);
	if (conf->inclusive)
		return n < conf->width ? UINT64_MAX : n - conf->width;
	return n == UINT64_MAX ? n - 1 : n;
}

int vmp_length_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
		       struct vmp_unit *ret)
{
	uint64_t n;

	(void)st;
	if (len < conf->width)
		return 0;
	n = length_of(conf, buf);
	if (n == UINT64_MAX)
		return vmp_frame_refused(conf, VMP_REFUSE_LENGTH, ret);
	if (n > conf->max_request || n + conf->width > conf->max_request)
		return vmp_frame_refused(conf, VMP_REFUSE_SIZE, ret);
	if (len < conf->width + n)
		return 0;
	ret->len = (size_t)n + conf->width;
	if (conf->id_len && n >= (uint64_t)conf->id_offset + conf->id_len) {
		ret->id = buf + conf->width + conf->id_offset;
		ret->id_len = conf->id_len;
		ret->flags = VMP_UNIT_HAS_ID;
	}
	return 1;
}

int vmp_length_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret)
{
	size_t at = 0;
	uint64_t n;

	if (st->state == 0) {
		if (len < conf->width)
			return 0;
		st->left = length_of(conf, buf);
		if (st->left == UINT64_MAX)
			return -EBADMSG;
		st->state = 1;
		at = conf->width;
	}
	n = len - at < st->left ? len - at : st->left;
	st->left -= n;
	ret->used = at + (size_t)n;
	if (!st->left)
		ret->flags = VMP_PART_DONE;
	return 0;
}
