/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests and answers of every framing. The first bytes choose framing, limits and what the request was; the rest is fed at
 * once, cut once, and byte by byte: the same must come out. A unit, parsed again by itself, says the same once more.
 */
#include "tests/unit/framefeed.h"

#include "tests/fuzz/fuzz.h"

static struct feed_log once, cut, bytes;

/* Acknowledgements in a row are cut differently; streams, too. */
static void squeeze(struct feed_log *log)
{
	char *to = log->text;

	for (const char *p = log->text; *p; p++) {
		if (strncmp(p, "\ninterim ", 9) == 0) {
			p += 8;
			continue;
		}
		*to++ = *p;
	}
	*to = '\0';
	log->n = (size_t)(to - log->text);
}

static void same(const struct feed_log *a, const struct feed_log *b)
{
	if (a->n == b->n && memcmp(a->text, b->text, a->n) == 0)
		return;
	fprintf(stderr, "--- one\n%.*s--- other\n%.*s", (int)a->n, a->text, (int)b->n, b->text);
	MUST(!"the pieces make a difference");
}

static void again(const struct vmp_frame_conf *conf, const char *in, size_t len)
{
	struct vmp_frame_req st = { 0 }, st2 = { 0 };
	struct vmp_unit u, u2;
	size_t begin = 0;
	int r, r2;

	while (begin < len) {
		char id[VMP_FRAME_ID_MAX];

		do
			r = vmp_frame_request(&st, conf, in + begin, len - begin, &u);
		while (r == 0 && u.interim);
		if (r != 1) {
			MUST(r == 0 || (u.why && u.reply));
			return;
		}
		MUST(u.len > 0 && u.len <= len - begin && u.len <= conf->max_request);
		MUST(u.id_len <= VMP_FRAME_ID_MAX && !u.id_len == !(u.flags & VMP_UNIT_HAS_ID));
		if (u.id_len)
			memcpy(id, u.id, u.id_len);
		do
			r2 = vmp_frame_request(&st2, conf, in + begin, u.len, &u2);
		while (r2 == 0 && u2.interim);
		MUST(r2 == 1 && u2.len == u.len && u2.flags == u.flags && u2.swallow == u.swallow && u2.why == u.why);
		MUST(u2.id_len == u.id_len && (!u.id_len || memcmp(u2.id, id, u.id_len) == 0));
		begin += u.len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmp_frame_conf conf = { 0 };
	const char *in = (const char *)data + 4;
	uint32_t flags;
	size_t at;

	if (size < 4 || size > 4096)
		return 0;
	size -= 4;
	conf.framing = data[0] % VMP_FRAMINGS;
	conf.mirror = data[0] & 0x20;
	conf.little = data[0] & 0x40;
	conf.inclusive = data[0] & 0x80;
	conf.width = (uint8_t)(1u << (data[1] & 3));
	conf.id_field = data[1] >> 2 & 3;
	conf.id_offset = data[1] >> 4;
	conf.id_len = data[1] >> 3 & 7;
	conf.max_head = 512u << (data[2] & 3);
	conf.max_request = 256u << (data[2] >> 2 & 7);
	flags = (data[3] & 1 ? VMP_UNIT_HEAD : 0) | (data[3] & 2 ? VMP_UNIT_UPGRADE : 0) | (data[3] & 4 ? VMP_UNIT_HTTP10 : 0) |
		(data[3] & 8 ? VMP_UNIT_CLOSE : 0);
	at = size ? 2 + (data[3] * 31u + data[2]) % size : 2;

	once.n = cut.n = bytes.n = 0;
	once.text[0] = cut.text[0] = bytes.text[0] = '\0';
	feed_requests(&conf, in, size, 0, false, &once);
	if (conf.framing != VMP_FRAMING_STREAM) {
		feed_requests(&conf, in, size, 1, false, &bytes);
		feed_requests(&conf, in, size, at, false, &cut);
		squeeze(&once);
		squeeze(&bytes);
		squeeze(&cut);
		same(&once, &bytes);
		same(&once, &cut);
	}
	again(&conf, in, size);

	once.n = cut.n = bytes.n = 0;
	feed_answer(&conf, flags, data[3] >> 4 & 3, in, size, 0, &once);
	feed_answer(&conf, flags, data[3] >> 4 & 3, in, size, 1, &bytes);
	feed_answer(&conf, flags, data[3] >> 4 & 3, in, size, at, &cut);
	same(&once, &bytes);
	same(&once, &cut);
	return 0;
}
