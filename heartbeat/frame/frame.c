/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names, refusals, and the way to each framing's parser. */
#include "heartbeat/frame/frame_int.h"

/* Bits VMP_CHAR_TOKEN 1, VALUE 2, TARGET 4, HOST 8; 32 bytes in a row. test_frame_http1 compares each with the grammar. */
const uint8_t vmp_char_class[256] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 15, 6, 7, 15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15, 6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 6, 14, 6, 6,
	6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 6, 14, 7, 15,
	7, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6, 7, 6, 15, 0,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
};

static const char *const framing_names[VMP_FRAMINGS] = {
	[VMP_FRAMING_HTTP1] = "http1", [VMP_FRAMING_RESP] = "resp", [VMP_FRAMING_LINE] = "line",
	[VMP_FRAMING_LENGTH] = "length-prefixed", [VMP_FRAMING_STREAM] = "stream",
};

const char *vmp_framing_name(enum vmp_framing framing)
{
	return (unsigned int)framing < VMP_FRAMINGS ? framing_names[framing] : NULL;
}

/* Digits up to `max`, ended by ',', '+' or the end of the text; *p is moved there. */
static bool number(const char **p, unsigned int max, unsigned int *ret)
{
	unsigned int n = 0;
	const char *s = *p;

	for (; *s >= '0' && *s <= '9'; s++) {
		n = n * 10 + (unsigned int)(*s - '0');
		if (n > max)
			return false;
	}
	if (s == *p || (*s && *s != ',' && *s != '+'))
		return false;
	*p = s;
	*ret = n;
	return true;
}

static bool word(const char **p, const char *name)
{
	size_t n = strlen(name);

	if (strncmp(*p, name, n) != 0 || (name[n - 1] != '=' && (*p)[n] && (*p)[n] != ','))
		return false;
	*p += n;
	return true;
}

static bool line_option(struct vmp_frame_conf *c, const char **p)
{
	unsigned int n;

	if (!word(p, "id=") || !number(p, 255, &n) || n == 0)
		return false;
	c->id_field = (uint8_t)n;
	return true;
}

static bool length_option(struct vmp_frame_conf *c, const char **p)
{
	unsigned int n, off;

	if (word(p, "little")) {
		c->little = true;
		return true;
	}
	if (word(p, "inclusive")) {
		c->inclusive = true;
		return true;
	}
	if (word(p, "width=")) {
		if (!number(p, 8, &n) || (n != 1 && n != 2 && n != 4 && n != 8))
			return false;
		c->width = (uint8_t)n;
		return true;
	}
	if (!word(p, "id=") || !number(p, UINT16_MAX, &off) || *(*p)++ != '+' || !number(p, VMP_FRAME_ID_MAX, &n) || n == 0)
		return false;
	c->id_offset = (uint16_t)off;
	c->id_len = (uint8_t)n;
	return true;
}

int vmp_framing_parse(const char *text, struct vmp_frame_conf *ret)
{
	struct vmp_frame_conf c = { .width = 4, .max_head = VMP_FRAME_HEAD_DEFAULT, .max_request = VMP_FRAME_REQUEST_DEFAULT };
	const char *p = text;
	unsigned int f;

	for (f = 0; f < VMP_FRAMINGS; f++)
		if (word(&p, framing_names[f]))
			break;
	if (f == VMP_FRAMINGS)
		return -EINVAL;
	c.framing = (uint8_t)f;
	while (*p) {
		if (*p++ != ',')
			return -EINVAL;
		if (!(f == VMP_FRAMING_LINE ? line_option(&c, &p) : f == VMP_FRAMING_LENGTH && length_option(&c, &p)) ||
		    (*p && *p != ','))
			return -EINVAL;
	}
	*ret = c;
	return 0;
}

/* --- refusals ----------------------------------------------------------------------------------------------------------------- */

/* The answer has no length: its end is the connection's. */
#define HTTP(status, text) \
	"HTTP/1.1 " status "\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n" text "\n"

#define REASON(name, status, text) { name, text, HTTP(status, text), sizeof(HTTP(status, text)) - 1, \
	"-ERR " text "\r\n", sizeof("-ERR " text "\r\n") - 1 }

static const struct {
	const char *name, *text;
	const char *http;
	size_t http_len;
	const char *resp;
	size_t resp_len;
} reasons[VMP_REFUSES] = {
	[VMP_REFUSE_NONE] = { "none", "", "", 0, "", 0 },
	[VMP_REFUSE_SYNTAX] = REASON("syntax", "400 Bad Request", "Protocol error: not as the protocol's grammar says"),
	[VMP_REFUSE_VERSION] = REASON("version", "505 HTTP Version Not Supported", "only HTTP/1.0 and HTTP/1.1 are served here"),
	[VMP_REFUSE_HOST] = REASON("host", "400 Bad Request", "exactly one valid Host is needed"),
	[VMP_REFUSE_FOLD] = REASON("obs-fold", "400 Bad Request", "a field is continued on the next line"),
	[VMP_REFUSE_LENGTH] = REASON("content-length", "400 Bad Request", "Protocol error: a length is no number, or given twice"),
	[VMP_REFUSE_LENGTH_CODING] = REASON("length-and-coding", "400 Bad Request", "both Content-Length and Transfer-Encoding"),
	[VMP_REFUSE_CODING] = REASON("transfer-encoding", "400 Bad Request", "Transfer-Encoding other than once chunked with HTTP/1.1"),
	[VMP_REFUSE_CHUNK] = REASON("bad-chunk", "400 Bad Request", "a chunk's size, extension or end is wrong"),
	[VMP_REFUSE_EXPECT] = REASON("expect", "417 Expectation Failed", "only 100-continue can be expected"),
	[VMP_REFUSE_ID] = REASON("request-id", "400 Bad Request", "the request's id is empty, too long, given twice or not well formed"),
	[VMP_REFUSE_METHOD] = REASON("method", "501 Not Implemented", "CONNECT is not served here"),
	[VMP_REFUSE_UPGRADE] = REASON("upgrade", "501 Not Implemented", "a mirrored service cannot change the protocol"),
	[VMP_REFUSE_TARGET_SIZE] = REASON("target-size", "414 URI Too Long", "the request line is too long"),
	[VMP_REFUSE_HEAD_SIZE] = REASON("head-size", "431 Request Header Fields Too Large", "the fields are too long or too many"),
	[VMP_REFUSE_SIZE] = REASON("size", "413 Content Too Large", "Protocol error: the request is longer than max_request"),
	[VMP_REFUSE_COMMAND] = REASON("command", "501 Not Implemented", "this command is not passed on"),
	[VMP_REFUSE_BACKEND_DOWN] = REASON("backend-down", "503 Service Unavailable", "the service does not accept connections"),
	[VMP_REFUSE_BACKEND_BROKEN] = REASON("backend-broken", "502 Bad Gateway", "the service's answer was cut off or not well formed"),
	[VMP_REFUSE_BACKEND_SLOW] = REASON("backend-slow", "504 Gateway Timeout", "the service did not answer in time"),
	[VMP_REFUSE_CLIENT_SLOW] = REASON("client-slow", "408 Request Timeout", "the request did not come in time"),
	[VMP_REFUSE_BUSY] = REASON("busy", "503 Service Unavailable", "no room for more requests at the moment"),
	[VMP_REFUSE_LOST] = REASON("lost", "500 Internal Server Error",
				   "the service failed after the request was handed to it: whether it was executed is not known"),
};

const char *vmp_refuse_name(enum vmp_refuse why)
{
	return reasons[why].name;
}

const char *vmp_refuse_text(enum vmp_refuse why)
{
	return reasons[why].text;
}

bool vmp_frame_failure(const struct vmp_frame_conf *conf, enum vmp_refuse why, const char **ret_text, size_t *ret_len)
{
	bool http = conf->framing == VMP_FRAMING_HTTP1, resp = conf->framing == VMP_FRAMING_RESP;

	*ret_text = http ? reasons[why].http : resp ? reasons[why].resp : "";
	*ret_len = http ? reasons[why].http_len : resp ? reasons[why].resp_len : 0;
	return resp && why >= VMP_REFUSE_COMMAND && why != VMP_REFUSE_CLIENT_SLOW;
}

int vmp_frame_refused(const struct vmp_frame_conf *conf, enum vmp_refuse why, struct vmp_unit *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->why = why;
	vmp_frame_failure(conf, why, &ret->reply, &ret->reply_len);
	return why == VMP_REFUSE_TARGET_SIZE || why == VMP_REFUSE_HEAD_SIZE || why == VMP_REFUSE_SIZE ? -EMSGSIZE : -EBADMSG;
}

/* --- requests and answers ------------------------------------------------------------------------------------------------------- */

int vmp_frame_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
		      struct vmp_unit *ret)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	if (len == 0)
		return 0;
	/* What lies behind max_request is not looked at, so it cannot matter how much has come. */
	if (len > conf->max_request)
		len = conf->max_request;
	switch ((enum vmp_framing)conf->framing) {
	case VMP_FRAMING_HTTP1:
		r = vmp_http1_request(st, conf, buf, len, ret);
		break;
	case VMP_FRAMING_RESP:
		r = vmp_resp_request(st, conf, buf, len, ret);
		break;
	case VMP_FRAMING_LINE:
		r = vmp_line_request(st, conf, buf, len, ret);
		break;
	case VMP_FRAMING_LENGTH:
		r = vmp_length_request(st, conf, buf, len, ret);
		break;
	default:
		ret->len = len;
		ret->flags = VMP_UNIT_NO_ANSWER;
		return 1;
	}
	if (r == 0 && !ret->interim && len == conf->max_request)
		return vmp_frame_refused(conf, VMP_REFUSE_SIZE, ret);
	return r;
}

void vmp_frame_answer_start(struct vmp_frame_ans *st, uint32_t unit_flags, uint32_t swallow)
{
	memset(st, 0, sizeof(*st));
	st->flags = unit_flags;
	st->swallow = swallow;
}

int vmp_frame_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (len == 0)
		return 0;
	switch ((enum vmp_framing)conf->framing) {
	case VMP_FRAMING_HTTP1:
		return vmp_http1_answer(st, conf, buf, len, ret);
	case VMP_FRAMING_RESP:
		return vmp_resp_answer(st, conf, buf, len, ret);
	case VMP_FRAMING_LINE:
		return vmp_line_answer(st, conf, buf, len, ret);
	case VMP_FRAMING_LENGTH:
		return vmp_length_answer(st, conf, buf, len, ret);
	default:
		ret->used = len;
		ret->flags = VMP_PART_UNTIL_EOF | VMP_PART_CLOSE;
		st->part_flags = ret->flags;
		return 0;
	}
}

int vmp_frame_answer_eof(const struct vmp_frame_ans *st, const struct vmp_frame_conf *conf)
{
	return conf->framing == VMP_FRAMING_STREAM || (st->part_flags & VMP_PART_UNTIL_EOF) ? 0 : -EBADMSG;
}
