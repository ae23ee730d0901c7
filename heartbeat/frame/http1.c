/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112). Each line is looked at once, when it is whole; what was found stays in the state,
 * so it makes no difference in which pieces the bytes come.
 */
#include "heartbeat/frame/frame_int.h"

#define FIELDS_MAX 128u
#define CHUNK_LINE_MAX 300u	/* size, extensions, CRLF */
#define CHUNK_DIGITS_MAX 8u
#define CHUNK_EXT_MAX 4096u	/* all extensions of a message */
#define ID_KEY_MAX (VMP_FRAME_ID_MAX - 17u)

enum { START, FIELDS, BODY, CHUNK_SIZE, CHUNK_DATA, TRAILER, UNTIL_EOF };

/* What was seen in the head. */
enum {
	SEEN_HTTP10 = 0x1, SEEN_SAFE = 0x2, SEEN_HOST = 0x4, SEEN_LENGTH = 0x8, SEEN_CHUNKED = 0x10, SEEN_CLOSE = 0x20,
	SEEN_KEEP = 0x40, SEEN_CONN_UPGRADE = 0x80, SEEN_UPGRADE = 0x100, SEEN_EXPECT = 0x200, SEEN_CODING = 0x400,
};

enum field {
	F_OTHER, F_HOST, F_CONNECTION, F_LENGTH, F_CODING, F_EXPECT, F_UPGRADE, F_KEY, F_REQUEST_ID, F_DATE,
};

static enum field field_known(const char *p, size_t n)
{
	switch (n) {
	case 4:
		return VMP_SAME(p, n, "host") ? F_HOST : VMP_SAME(p, n, "date") ? F_DATE : F_OTHER;
	case 6:
		return VMP_SAME(p, n, "expect") ? F_EXPECT : F_OTHER;
	case 7:
		return VMP_SAME(p, n, "upgrade") ? F_UPGRADE : F_OTHER;
	case 10:
		return VMP_SAME(p, n, "connection") ? F_CONNECTION : F_OTHER;
	case 12:
		return VMP_SAME(p, n, "x-request-id") ? F_REQUEST_ID : F_OTHER;
	case 14:
		return VMP_SAME(p, n, "content-length") ? F_LENGTH : F_OTHER;
	case 15:
		return VMP_SAME(p, n, "idempotency-key") ? F_KEY : F_OTHER;
	case 17:
		return VMP_SAME(p, n, "transfer-encoding") ? F_CODING : F_OTHER;
	default:
		return F_OTHER;
	}
}

struct span {
	const char *p;
	size_t n;
};

/*
 * A field line without its CRLF. 0 and its name's meaning and value without blanks around, or the reason against it. Some
 * servers take '_' for '-': a framing field spelled so would be seen by them only.
 */
static enum vmp_refuse field_split(const char *line, size_t n, enum field *ret_field, struct span *ret_value)
{
	size_t name = 0, end = n;

	if (*line == ' ' || *line == '\t')
		return VMP_REFUSE_FOLD;
	while (name < n && vmp_char_is(line[name], VMP_CHAR_TOKEN))
		name++;
	if (name == 0 || name == n || line[name] != ':')
		return VMP_REFUSE_SYNTAX;
	*ret_field = field_known(line, name);
	if (*ret_field == F_OTHER && ((name == 14 && line[7] == '_') || (name == 17 && line[8] == '_'))) {
		if (VMP_SAME(line, 7, "content") && VMP_SAME(line + 8, name - 8, "length"))
			return VMP_REFUSE_LENGTH;
		if (VMP_SAME(line, 8, "transfer") && VMP_SAME(line + 9, name - 9, "encoding"))
			return VMP_REFUSE_CODING;
	}
	name++;
	if (!vmp_value_clean(line + name, n - name))
		return VMP_REFUSE_SYNTAX;
	while (name < end && (line[name] == ' ' || line[name] == '\t'))
		name++;
	while (end > name && (line[end - 1] == ' ' || line[end - 1] == '\t'))
		end--;
	ret_value->p = line + name;
	ret_value->n = end - name;
	return VMP_REFUSE_NONE;
}

/* The next element of a list of tokens, without blanks around; false at the end. Empty elements are passed over. */
static bool list_next(struct span *list, struct span *ret)
{
	while (list->n) {
		const char *comma = memchr(list->p, ',', list->n);
		size_t n = comma ? (size_t)(comma - list->p) : list->n;
		struct span e = { list->p, n };

		list->p += comma ? n + 1 : n;
		list->n -= comma ? n + 1 : n;
		while (e.n && (*e.p == ' ' || *e.p == '\t'))
			e.p++, e.n--;
		while (e.n && (e.p[e.n - 1] == ' ' || e.p[e.n - 1] == '\t'))
			e.n--;
		if (e.n) {
			*ret = e;
			return true;
		}
	}
	return false;
}

static uint16_t connection_options(struct span v)
{
	struct span e;
	uint16_t seen = 0;

	while (list_next(&v, &e))
		if (VMP_SAME(e.p, e.n, "close"))
			seen |= SEEN_CLOSE;
		else if (VMP_SAME(e.p, e.n, "keep-alive"))
			seen |= SEEN_KEEP;
		else if (VMP_SAME(e.p, e.n, "upgrade"))
			seen |= SEEN_CONN_UPGRADE;
	return seen;
}

/* Digits only; saturates. */
static bool length_value(struct span v, uint64_t *ret)
{
	uint64_t n = 0;

	if (!v.n)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n > (UINT64_MAX >> 5) ? UINT64_MAX >> 1 : n * 10 + (uint64_t)(v.p[i] - '0');
	}
	*ret = n;
	return true;
}

/* A chunk's first line without CRLF: size and the bytes of its extensions. */
static bool chunk_line(const char *line, size_t n, uint64_t *ret_size, size_t *ret_ext)
{
	uint64_t size = 0;
	size_t i = 0;

	for (; i < n; i++) {
		char c = line[i];
		unsigned int d;

		if (c >= '0' && c <= '9')
			d = (unsigned int)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			d = (unsigned int)((c | 0x20) - 'a' + 10);
		else
			break;
		if (i == CHUNK_DIGITS_MAX)
			return false;
		size = size << 4 | d;
	}
	if (i == 0 || (i < n && line[i] != ';') || !vmp_value_clean(line + i, n - i))
		return false;
	*ret_size = size;
	*ret_ext = n - i;
	return true;
}

/*
 * A line's end: 1 and *ret_n = its length without CRLF; 0 = not there yet; -EBADMSG when it ends in a bare LF; -EMSGSIZE when it
 * does not end before `limit`.
 */
static int line_find(const char *buf, size_t len, size_t limit, uint32_t pos, uint32_t *scanned, size_t *ret_n)
{
	size_t from = *scanned > pos ? *scanned : pos, to = len < limit ? len : limit;
	const char *lf = to > from ? memchr(buf + from, '\n', to - from) : NULL;

	if (!lf) {
		if (len >= limit)
			return -EMSGSIZE;
		*scanned = (uint32_t)(to > from ? to : from);
		return 0;
	}
	if (lf == buf + pos || lf[-1] != '\r')
		return -EBADMSG;
	*ret_n = (size_t)(lf - buf) - 1 - pos;
	return 1;
}

/* --- requests ----------------------------------------------------------------------------------------------------------------- */

static enum vmp_refuse request_line(struct vmp_frame_req *st, const char *line, size_t n)
{
	size_t m = 0, t, target;

	while (m < n && vmp_char_is(line[m], VMP_CHAR_TOKEN))
		m++;
	if (m == 0 || m == n || line[m] != ' ')
		return VMP_REFUSE_SYNTAX;
	target = t = m + 1;
	while (t < n && vmp_char_is(line[t], VMP_CHAR_TARGET))
		t++;
	if (t == target || t == n || line[t] != ' ')
		return VMP_REFUSE_SYNTAX;
	if (n - t != sizeof(" HTTP/1.1") - 1 || memcmp(line + t, " HTTP/1.", 8) != 0 || (line[n - 1] != '1' && line[n - 1] != '0'))
		return n - t == sizeof(" HTTP/1.1") - 1 && memcmp(line + t, " HTTP/", 6) == 0 && line[n - 2] == '.' &&
			       line[n - 3] >= '0' && line[n - 3] <= '9' && line[n - 1] >= '0' && line[n - 1] <= '9' ?
			       VMP_REFUSE_VERSION : VMP_REFUSE_SYNTAX;
	if (line[n - 1] == '0') {
		st->seen |= SEEN_HTTP10;
		st->flags |= VMP_UNIT_HTTP10;
	}
	switch (m) {	/* methods are in capitals, RFC 9110 section 9.1 */
	case 3:
		if (memcmp(line, "GET", 3) == 0)
			st->seen |= SEEN_SAFE;
		else if (memcmp(line, "PUT", 3) == 0)
			st->flags |= VMP_UNIT_IDEMPOTENT;
		break;
	case 4:
		if (memcmp(line, "HEAD", 4) == 0) {
			st->seen |= SEEN_SAFE;
			st->flags |= VMP_UNIT_HEAD;
		}
		break;
	case 5:
		if (memcmp(line, "TRACE", 5) == 0)
			st->seen |= SEEN_SAFE;
		break;
	case 6:
		if (memcmp(line, "DELETE", 6) == 0)
			st->flags |= VMP_UNIT_IDEMPOTENT;
		break;
	case 7:
		if (memcmp(line, "CONNECT", 7) == 0)
			return VMP_REFUSE_METHOD;
		if (memcmp(line, "OPTIONS", 7) == 0)
			st->seen |= SEEN_SAFE;
		break;
	default:
		break;
	}
	if (st->seen & SEEN_SAFE)
		st->flags |= VMP_UNIT_IDEMPOTENT;
	/* origin-form, absolute-form or "*": what has neither is an authority, which only CONNECT takes */
	if (line[target] != '/' && !(line[target] == '*' && t == target + 1)) {
		const char *colon = memchr(line + target, ':', t - target);

		if (!colon || t - (size_t)(colon - line) < 4 || memcmp(colon, "://", 3) != 0)
			return VMP_REFUSE_SYNTAX;
	}
	st->line = (uint32_t)t;
	return VMP_REFUSE_NONE;
}

/* The value of Idempotency-Key or X-Request-Id; the first is stronger. */
static enum vmp_refuse request_id(struct vmp_frame_req *st, enum field field, struct span v)
{
	uint8_t bit = field == F_KEY ? 2 : 1;

	if (field == F_REQUEST_ID && !v.n)
		return VMP_REFUSE_NONE;
	if (st->id_kind & bit)
		return VMP_REFUSE_ID;
	if (v.n >= 2 && *v.p == '"') {
		if (v.p[v.n - 1] != '"')
			return VMP_REFUSE_ID;
		v.p++;
		v.n -= 2;
		for (size_t i = 0; i < v.n; i++)
			if (v.p[i] < ' ' || v.p[i] == '"' || (v.p[i] == '\\' && ++i == v.n))
				return VMP_REFUSE_ID;	/* a quoted pair is kept as it is written */
	} else {
		for (size_t i = 0; i < v.n; i++)
			if (!vmp_char_is(v.p[i], VMP_CHAR_TARGET) || v.p[i] == '"')
				return VMP_REFUSE_ID;
	}
	if (!v.n || v.n > ID_KEY_MAX)
		return VMP_REFUSE_ID;
	if (bit == 2 || !(st->id_kind & 2)) {
		memcpy(st->id, v.p, v.n);
		st->id_len = (uint8_t)v.n;
	}
	st->id_kind |= bit;
	return VMP_REFUSE_NONE;
}

static enum vmp_refuse request_field(struct vmp_frame_req *st, const char *line, size_t n, bool trailer)
{
	enum field field;
	struct span v, e;
	enum vmp_refuse why = field_split(line, n, &field, &v);
	bool one;

	if (why != VMP_REFUSE_NONE)
		return why;
	if (++st->count > FIELDS_MAX)
		return VMP_REFUSE_HEAD_SIZE;
	if (field == F_OTHER)
		return VMP_REFUSE_NONE;
	if (trailer)	/* too late to say how the message is framed or whom it is for */
		return field == F_HOST || field == F_LENGTH || field == F_CODING ? VMP_REFUSE_SYNTAX : VMP_REFUSE_NONE;
	switch (field) {
	case F_HOST:
		if (st->seen & SEEN_HOST)
			return VMP_REFUSE_HOST;
		st->seen |= SEEN_HOST;
		for (size_t i = 0; i < v.n; i++)
			if (!vmp_char_is(v.p[i], VMP_CHAR_HOST))
				return VMP_REFUSE_HOST;
		return VMP_REFUSE_NONE;
	case F_CONNECTION:
		st->seen |= connection_options(v);
		return VMP_REFUSE_NONE;
	case F_LENGTH:
		if ((st->seen & SEEN_LENGTH) || !length_value(v, &st->length))
			return VMP_REFUSE_LENGTH;
		st->seen |= SEEN_LENGTH;
		return VMP_REFUSE_NONE;
	case F_CODING:
		one = !(st->seen & SEEN_CODING) && VMP_SAME(v.p, v.n, "chunked");
		st->seen |= SEEN_CODING | SEEN_CHUNKED;
		return one ? VMP_REFUSE_NONE : VMP_REFUSE_CODING;
	case F_EXPECT:
		while (list_next(&v, &e)) {
			if (!VMP_SAME(e.p, e.n, "100-continue"))
				return VMP_REFUSE_EXPECT;
			st->seen |= SEEN_EXPECT;
		}
		return VMP_REFUSE_NONE;
	case F_UPGRADE:
		st->seen |= SEEN_UPGRADE;
		return VMP_REFUSE_NONE;
	case F_KEY:
	case F_REQUEST_ID:
		return st->seen & SEEN_SAFE ? VMP_REFUSE_NONE : request_id(st, field, v);
	default:
		return VMP_REFUSE_NONE;
	}
}

/* '@' and FNV-1a, 64 bits, of method and target in hex behind the key. Only for ids, so speed does not count. */
static void id_scope(struct vmp_frame_req *st, const char *buf)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (uint32_t i = 0; i < st->line; i++)
		h = (h ^ (uint8_t)buf[i]) * 0x100000001b3u;
	st->id[st->id_len++] = '@';
	for (int shift = 60; shift >= 0; shift -= 4)
		st->id[st->id_len++] = "0123456789abcdef"[h >> shift & 15];
}

/* The empty line has come: what the fields say together. */
static enum vmp_refuse request_head(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf)
{
	uint16_t seen = st->seen;

	if (!(seen & (SEEN_HOST | SEEN_HTTP10)))
		return VMP_REFUSE_HOST;
	if ((seen & SEEN_LENGTH) && (seen & SEEN_CODING))
		return VMP_REFUSE_LENGTH_CODING;
	if ((seen & SEEN_CODING) && (seen & SEEN_HTTP10))
		return VMP_REFUSE_CODING;
	if ((seen & SEEN_CLOSE) || ((seen & SEEN_HTTP10) && !(seen & SEEN_KEEP)))
		st->flags |= VMP_UNIT_CLOSE;
	if ((seen & SEEN_UPGRADE) && (seen & SEEN_CONN_UPGRADE) && !(seen & SEEN_HTTP10)) {
		if (conf->mirror)
			return VMP_REFUSE_UPGRADE;
		st->flags |= VMP_UNIT_UPGRADE;
	}
	if (st->id_kind) {
		id_scope(st, buf);
		st->flags |= VMP_UNIT_HAS_ID;
	}
	if (seen & SEEN_LENGTH) {
		if (st->length > conf->max_request || st->pos + st->length > conf->max_request)
			return VMP_REFUSE_SIZE;
		st->body_end = st->pos + (uint32_t)st->length;
	} else {
		st->body_end = st->pos;
	}
	st->state = seen & SEEN_CODING ? CHUNK_SIZE : BODY;
	return VMP_REFUSE_NONE;
}

static int unit_whole(struct vmp_frame_req *st, struct vmp_unit *ret)
{
	ret->len = st->pos;
	ret->flags = st->flags;
	if (st->flags & VMP_UNIT_HAS_ID) {
		ret->id = st->id;
		ret->id_len = st->id_len;
	}
	/* the bytes of the id stay as they are until the next call */
	memset(st, 0, offsetof(struct vmp_frame_req, id));
	return 1;
}

static int refused(const struct vmp_frame_conf *conf, enum vmp_refuse why, struct vmp_unit *ret)
{
	return vmp_frame_refused(conf, why, ret);
}

/* In the head: 0 = more is needed, 1 = head is whole, < 0 */
static int request_lines(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
			 struct vmp_unit *ret)
{
	for (;;) {
		enum vmp_refuse why;
		size_t n;
		int r;

		if (st->state == START && len && *buf != '\r' && !vmp_char_is(*buf, VMP_CHAR_TOKEN))
			return refused(conf, VMP_REFUSE_SYNTAX, ret);
		r = line_find(buf, len, conf->max_head, st->pos, &st->scanned, &n);
		if (r == 0)
			return 0;
		if (r < 0)
			return refused(conf, r == -EBADMSG ? VMP_REFUSE_SYNTAX : st->state == START ? VMP_REFUSE_TARGET_SIZE :
				       VMP_REFUSE_HEAD_SIZE, ret);
		if (st->state == START) {
			if (n == 0) {	/* RFC 9112 section 2.2: an empty line before a request is passed over */
				st->pos = 2;
				st->flags = VMP_UNIT_SKIP;
				return unit_whole(st, ret);
			}
			why = request_line(st, buf, n);
			st->state = FIELDS;
		} else if (n) {
			why = request_field(st, buf + st->pos, n, false);
		} else {
			st->pos += 2;
			why = request_head(st, conf, buf);
			return why == VMP_REFUSE_NONE ? 1 : refused(conf, why, ret);
		}
		if (why != VMP_REFUSE_NONE)
			return refused(conf, why, ret);
		st->pos += (uint32_t)n + 2;
	}
}

/* 0 = more is needed, 1 = the last chunk and its trailer are whole, < 0 */
static int request_chunks(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
			  struct vmp_unit *ret)
{
	for (;;) {
		uint64_t size;
		size_t n, ext;
		int r;

		switch (st->state) {
		case CHUNK_SIZE:
			r = line_find(buf, len, (size_t)st->pos + CHUNK_LINE_MAX, st->pos, &st->scanned, &n);
			if (r == 0)
				return 0;
			if (r < 0 || !chunk_line(buf + st->pos, n, &size, &ext) || (st->ext += (uint32_t)ext) > CHUNK_EXT_MAX)
				return refused(conf, VMP_REFUSE_CHUNK, ret);
			st->pos += (uint32_t)n + 2;
			if (size + st->pos > conf->max_request)
				return refused(conf, VMP_REFUSE_SIZE, ret);
			st->body_end = st->pos + (uint32_t)size;
			st->state = size ? CHUNK_DATA : TRAILER;
			break;
		case CHUNK_DATA:
			if ((len > st->body_end && buf[st->body_end] != '\r') ||
			    (len > (size_t)st->body_end + 1 && buf[st->body_end + 1] != '\n'))
				return refused(conf, VMP_REFUSE_CHUNK, ret);
			if (len < (size_t)st->body_end + 2)
				return 0;
			st->pos = st->body_end + 2;
			st->state = CHUNK_SIZE;
			break;
		default:	/* TRAILER; it began at body_end */
			r = line_find(buf, len, (size_t)st->body_end + conf->max_head, st->pos, &st->scanned, &n);
			if (r == 0)
				return 0;
			if (r < 0)
				return refused(conf, r == -EBADMSG ? VMP_REFUSE_SYNTAX : VMP_REFUSE_HEAD_SIZE, ret);
			if (n) {
				enum vmp_refuse why = request_field(st, buf + st->pos, n, true);

				if (why != VMP_REFUSE_NONE)
					return refused(conf, why, ret);
			}
			st->pos += (uint32_t)n + 2;
			if (n == 0)
				return 1;
			break;
		}
	}
}

int vmp_http1_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_unit *ret)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	bool head = st->state <= FIELDS;
	int r;

	if (head) {
		r = request_lines(st, conf, buf, len, ret);
		if (r <= 0 || (ret->flags & VMP_UNIT_SKIP))
			return r;
	}
	if (st->state == BODY) {
		if (len >= st->body_end) {
			st->pos = st->body_end;
			return unit_whole(st, ret);
		}
	} else {
		r = request_chunks(st, conf, buf, len, ret);
		if (r != 0)
			return r < 0 ? r : unit_whole(st, ret);
	}
	/* a client whose body is under way does not wait */
	if (head && len == st->pos && (st->seen & SEEN_EXPECT) && !(st->seen & SEEN_HTTP10)) {
		ret->interim = go_on;
		ret->interim_len = sizeof(go_on) - 1;
	}
	return 0;
}

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

static int status_line(struct vmp_frame_ans *st, const char *line, size_t n)
{
	unsigned int status = 0;

	if (n < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ')
		return -EBADMSG;
	for (int i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return -EBADMSG;
		status = status * 10 + (unsigned int)(line[i] - '0');
	}
	if (status < 100 || (n > 12 && line[12] != ' ') || !vmp_value_clean(line + 12, n - 12))
		return -EBADMSG;
	if (line[7] == '0')
		st->seen |= SEEN_HTTP10;
	st->status = (uint16_t)status;
	return 0;
}

static int answer_field(struct vmp_frame_ans *st, const char *buf, const char *line, size_t n)
{
	enum field field;
	struct span v, e, last = { NULL, 0 };

	if (field_split(line, n, &field, &v) != VMP_REFUSE_NONE || ++st->count > FIELDS_MAX)
		return -EBADMSG;
	switch (field) {
	case F_CONNECTION:
		st->seen |= connection_options(v);
		return 0;
	case F_LENGTH:
		if ((st->seen & SEEN_LENGTH) || !length_value(v, &st->left))
			return -EBADMSG;
		st->seen |= SEEN_LENGTH;
		return 0;
	case F_CODING:
		if (st->seen & SEEN_CODING)
			return -EBADMSG;
		st->seen |= SEEN_CODING;
		while (list_next(&v, &e)) {
			if (last.n && VMP_SAME(last.p, last.n, "chunked"))
				return -EBADMSG;
			last = e;
		}
		if (last.n && VMP_SAME(last.p, last.n, "chunked"))
			st->seen |= SEEN_CHUNKED;
		return 0;
	case F_DATE:
		st->vary_off = (uint32_t)(v.p - buf);
		st->vary_len = (uint32_t)v.n;
		return 0;
	default:
		return 0;
	}
}

/* The head is whole: sets the state for what follows. */
static int answer_head(struct vmp_frame_ans *st, struct vmp_part *ret)
{
	uint16_t seen = st->seen;

	if ((seen & SEEN_CODING) && ((seen & SEEN_LENGTH) || (seen & SEEN_HTTP10)))
		return -EBADMSG;
	if (st->status == 101) {
		if (!(st->flags & VMP_UNIT_UPGRADE))
			return -EBADMSG;
		ret->flags = VMP_PART_DONE | VMP_PART_UPGRADED;
		return 1;
	}
	if (st->status < 200) {
		/*
		 * The relay has answered 100-continue itself; other interim answers are passed on (RFC 9110 section 15.2),
		 * but HTTP/1.0 knows none.
		 */
		if (st->status == 100 || (st->flags & VMP_UNIT_HTTP10))
			ret->flags = VMP_PART_SWALLOW;
		return 1;
	}
	if ((st->flags & VMP_UNIT_CLOSE) || (seen & SEEN_CLOSE) || ((seen & SEEN_HTTP10) && !(seen & SEEN_KEEP)))
		st->part_flags |= VMP_PART_CLOSE;
	if (st->status == 204 || st->status == 304 || (st->flags & VMP_UNIT_HEAD)) {
		st->left = 0;
		st->state = BODY;
	} else if (seen & SEEN_CHUNKED) {
		st->scanned = 0;
		st->state = CHUNK_SIZE;
	} else if (seen & SEEN_LENGTH) {
		st->state = BODY;
	} else {
		st->part_flags |= VMP_PART_CLOSE | VMP_PART_UNTIL_EOF;
		st->state = UNTIL_EOF;
	}
	return 0;
}

/* 0 = more is needed, 1 = a part ends here, 2 = the head ends, < 0 */
static int answer_lines(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
			struct vmp_part *ret)
{
	for (;;) {
		size_t n;
		int r;

		if (st->state == START && len && *buf != 'H')
			return -EBADMSG;
		r = line_find(buf, len, conf->max_head, st->pos, &st->scanned, &n);
		if (r <= 0)
			return r < 0 ? -EBADMSG : 0;
		if (st->state == START) {
			r = status_line(st, buf, n);
			st->state = FIELDS;
		} else if (n) {
			r = answer_field(st, buf, buf + st->pos, n);
		} else {
			st->pos += 2;
			r = answer_head(st, ret);
			return r < 0 ? r : r == 0 ? 2 : 1;
		}
		if (r < 0)
			return r;
		st->pos += (uint32_t)n + 2;
	}
}

int vmp_http1_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret)
{
	size_t at = 0, n, ext;
	uint64_t size;
	int r;

	if (st->state <= FIELDS) {
		r = answer_lines(st, conf, buf, len, ret);
		if (r <= 0)
			return r;
		at = st->pos;
		if (r == 1) {
			uint32_t flags = st->flags;

			ret->used = at;
			vmp_frame_answer_start(st, flags, 0);
			return 0;
		}
		ret->vary_off = st->vary_off;
		ret->vary_len = st->vary_len;
	}
	for (;;) {
		ret->used = at;
		ret->flags = st->part_flags;
		switch (st->state) {
		case BODY:
			n = len - at < st->left ? len - at : (size_t)st->left;
			ret->used = at + n;
			st->left -= n;
			if (!st->left)
				ret->flags |= VMP_PART_DONE;
			return 0;
		case UNTIL_EOF:
			ret->used = len;
			return 0;
		case CHUNK_SIZE:
			r = line_find(buf + at, len - at, CHUNK_LINE_MAX, 0, &st->scanned, &n);
			if (r == 0)
				return 0;
			if (r < 0 || !chunk_line(buf + at, n, &size, &ext))
				return -EBADMSG;
			st->scanned = 0;
			at += n + 2;
			st->left = size;
			st->count = 0;
			st->state = size ? CHUNK_DATA : TRAILER;
			break;
		case CHUNK_DATA:
			n = len - at < st->left ? len - at : (size_t)st->left;
			st->left -= n;
			at += n;
			ret->used = at;
			if (st->left || len - at < 2) {
				if (!st->left && len > at && buf[at] != '\r')
					return -EBADMSG;
				return 0;
			}
			if (buf[at] != '\r' || buf[at + 1] != '\n')
				return -EBADMSG;
			at += 2;
			st->scanned = 0;
			st->state = CHUNK_SIZE;
			break;
		default:	/* TRAILER: each line by itself */
			r = line_find(buf + at, len - at, conf->max_head, 0, &st->scanned, &n);
			if (r == 0)
				return 0;
			if (r < 0)
				return -EBADMSG;
			st->scanned = 0;
			if (n) {
				enum field field;
				struct span v;

				if (field_split(buf + at, n, &field, &v) != VMP_REFUSE_NONE || ++st->count > FIELDS_MAX ||
				    field == F_LENGTH || field == F_CODING)
					return -EBADMSG;
			}
			at += n + 2;
			if (n == 0) {
				ret->used = at;
				ret->flags |= VMP_PART_DONE;
				return 0;
			}
			break;
		}
	}
}
