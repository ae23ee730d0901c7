/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Feeds bytes to the framings in pieces and writes down what they say, so that two ways of feeding can be compared. Each call
 * gets a block of exactly the bytes it may read: anything beyond shows under a sanitizer.
 */
#ifndef VMP_TEST_FRAMEFEED_H
#define VMP_TEST_FRAMEFEED_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/frame/frame.h"

#define FEED_LOG (256u << 10)

struct feed_log {
	size_t n;
	char text[FEED_LOG];
};

__attribute__((format(printf, 2, 3))) static inline void feed_say(struct feed_log *log, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(log->text + log->n, sizeof(log->text) - log->n, fmt, ap);
	va_end(ap);
	log->n += (size_t)n;
	if (log->n >= sizeof(log->text))
		log->n = sizeof(log->text) - 1;
}

static inline void feed_bytes(struct feed_log *log, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] == '\r')
			feed_say(log, "\\r");
		else if (p[i] == '\n')
			feed_say(log, "\\n");
		else if (p[i] >= ' ' && p[i] <= '~' && p[i] != '\\')
			feed_say(log, "%c", p[i]);
		else
			feed_say(log, "\\x%02x", (uint8_t)p[i]);
}

static inline char *feed_exact(const char *p, size_t n)
{
	char *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	if (n)
		memcpy(copy, p, n);
	return copy;
}

/*
 * The end of the piece that begins at `at`: cut 0 = everything at once, 1 = a byte each time, else one cut at that place.
 */
static inline size_t feed_piece(size_t at, size_t len, size_t cut)
{
	return cut == 0 ? len : cut == 1 ? at + (at < len) : at < cut && cut < len ? cut : len;
}

/*
 * One line per unit: "LENGTH flags" and what else there is. "100 Continue" is left out unless `with_continue`: whether it is
 * sent depends on what has come. Ends at an error.
 */
static inline void feed_requests(const struct vmp_frame_conf *conf, const char *in, size_t len, size_t cut, bool with_continue,
				 struct feed_log *log)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} flags[] = {
		{ VMP_UNIT_IDEMPOTENT, "idempotent" }, { VMP_UNIT_HAS_ID, "id" }, { VMP_UNIT_CLOSE, "close" },
		{ VMP_UNIT_UPGRADE, "upgrade" }, { VMP_UNIT_HEAD, "head" }, { VMP_UNIT_NO_ANSWER, "no-answer" },
		{ VMP_UNIT_LOCAL, "local" }, { VMP_UNIT_SKIP, "skip" }, { VMP_UNIT_HTTP10, "1.0" }, { VMP_UNIT_VARIES, "varies" },
	};
	struct vmp_frame_req st = { 0 };
	size_t begin = 0, have = feed_piece(0, len, cut);

	for (;;) {
		char *piece = feed_exact(in + begin, have - begin);
		struct vmp_unit u;
		int r = vmp_frame_request(&st, conf, piece, have - begin, &u);

		if (r < 0) {
			feed_say(log, "error %s", vmp_refuse_name(u.why));
			if (u.reply_len)	/* "HTTP/1.1 400 ...", "-ERR ..." */
				feed_say(log, " %.3s", u.reply + (*u.reply == 'H' ? 9 : 1));
			feed_say(log, "\n");
			free(piece);
			return;
		}
		if (r == 0 && u.interim && (conf->framing != VMP_FRAMING_HTTP1 || with_continue)) {
			feed_say(log, "interim ");
			feed_bytes(log, u.interim, u.interim_len);
			feed_say(log, "\n");
		}
		if (r == 1) {
			feed_say(log, "%zu", u.len);
			for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
				if (u.flags & flags[i].flag)
					feed_say(log, " %s", flags[i].name);
			if (u.id_len) {
				feed_say(log, " <");
				feed_bytes(log, u.id, u.id_len);
				feed_say(log, ">");
			}
			if (u.swallow)
				feed_say(log, " swallow=%u", u.swallow);
			if (u.why)
				feed_say(log, " %s", vmp_refuse_name(u.why));
			if (u.reply_len) {
				feed_say(log, " ");
				feed_bytes(log, u.reply, u.reply_len);
			}
			feed_say(log, "\n");
			begin += u.len;
			if (begin > have)
				abort();
		}
		free(piece);
		if (r == 0 && !u.interim) {
			if (have == len)
				break;
			have = feed_piece(have, len, cut);
		}
	}
	if (begin < len)
		feed_say(log, "more\n");
}

/* One answer: the client's bytes, those that vary in <>, the swallowed ones in braces, how it ended, what is left over. */
static inline void feed_answer(const struct vmp_frame_conf *conf, uint32_t unit_flags, uint32_t swallow, const char *in, size_t len,
			       size_t cut, struct feed_log *log)
{
	struct vmp_frame_ans st;
	size_t begin = 0, have = feed_piece(0, len, cut), said = 0;
	bool swallowed = false;
	uint32_t known = 0;

	vmp_frame_answer_start(&st, unit_flags, swallow);
	for (;;) {
		char *piece = feed_exact(in + begin, have - begin);
		struct vmp_part part;
		int r = vmp_frame_answer(&st, conf, piece, have - begin, &part);

		if (r == 0 && part.used > have - begin)
			abort();
		if (r == 0 && part.used) {
			if (said && swallowed != !!(part.flags & VMP_PART_SWALLOW))
				feed_say(log, "%s", swallowed ? "}" : "{");
			else if (!said && (part.flags & VMP_PART_SWALLOW))
				feed_say(log, "{");
			swallowed = part.flags & VMP_PART_SWALLOW;
			said += part.used;
			feed_bytes(log, piece, part.vary_off);
			feed_say(log, "%s", part.vary_len ? "<" : "");
			feed_bytes(log, piece + part.vary_off, part.vary_len);
			feed_say(log, "%s", part.vary_len ? ">" : "");
			feed_bytes(log, piece + part.vary_off + part.vary_len, part.used - part.vary_off - part.vary_len);
		}
		begin += part.used;
		known |= part.flags;
		free(piece);
		if (r < 0) {
			/* how much of it went out before depends on the pieces; that it is broken does not */
			log->n = 0;
			feed_say(log, "broken\n");
			return;
		}
		if (part.flags & VMP_PART_DONE)
			break;
		if (!part.used) {
			if (have == len) {
				if (swallowed)
					feed_say(log, "}");
				feed_say(log, "\n%s%s\n", vmp_frame_answer_eof(&st, conf) == 0 ? "whole by eof" : "cut off",
					 known & VMP_PART_CLOSE ? " close" : "");
				return;
			}
			have = feed_piece(have, len, cut);
		}
	}
	feed_say(log, "\ndone%s%s%s left %zu\n", known & VMP_PART_CLOSE ? " close" : "", known & VMP_PART_UPGRADED ? " upgraded" : "",
		 known & VMP_PART_UNTIL_EOF ? " until-eof" : "", len - begin);
}

#endif
