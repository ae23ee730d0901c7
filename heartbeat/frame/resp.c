/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Redis' protocol, version 2, as the server reads it but stricter: CRLF is looked at, numbers have one spelling, an inline
 * command has no control characters and no quotes where it matters. HELLO is answered as by a server that knows version 2
 * only, so clients stay with it.
 */
#include "heartbeat/frame/frame_int.h"

#define ARGS_MAX (1u << 20)
#define NUMBER_LINE_MAX 32u	/* type, 20 digits, CRLF */
#define INLINE_MAX (64u << 10)

enum { BEGIN, ARG_SIZE, ARG };				/* low bits of the state of a request */
#define TRANSACTION 0x10u
#define ABORTED 0x20u

enum action {
	WRITE,		/* passed on; also all that is not in the table */
	READ,		/* and may be executed twice */
	READ_VARIES,	/* and another member's answer may differ: order of a set, time left, statistics */
	STATE,		/* refused: changes the connection or the way it answers */
	WAITS,		/* refused in mirror kind: would hold up all others */
	CHANCE,		/* refused in mirror kind: every member would write something else */
	ADMIN,		/* refused in mirror kind: stops or rewires the server */
	MULTI, EXEC, DISCARD, QUIT, SELECT, CLIENT, HELLO, AUTH, CONFIG, XADD, XREAD,
};

/* Sorted by name. */
static const struct command {
	const char *name;
	enum action action;
} commands[] = {
	{ "acl", ADMIN }, { "asking", STATE }, { "auth", AUTH }, { "bgrewriteaof", WRITE }, { "bgsave", WRITE },
	{ "bitcount", READ }, { "bitfield_ro", READ }, { "bitpos", READ }, { "blmove", WAITS }, { "blmpop", WAITS },
	{ "blpop", WAITS }, { "brpop", WAITS }, { "brpoplpush", WAITS }, { "bzmpop", WAITS }, { "bzpopmax", WAITS },
	{ "bzpopmin", WAITS }, { "client", CLIENT }, { "cluster", ADMIN }, { "command", READ_VARIES }, { "config", CONFIG },
	{ "dbsize", READ_VARIES }, { "debug", ADMIN }, { "discard", DISCARD }, { "dump", READ }, { "echo", READ },
	{ "exec", EXEC }, { "exists", READ }, { "expiretime", READ_VARIES }, { "failover", ADMIN }, { "geodist", READ },
	{ "geohash", READ }, { "geopos", READ }, { "georadius_ro", READ }, { "georadiusbymember_ro", READ },
	{ "geosearch", READ }, { "get", READ }, { "getbit", READ }, { "getrange", READ }, { "hello", HELLO },
	{ "hexists", READ }, { "hget", READ }, { "hgetall", READ_VARIES }, { "hkeys", READ_VARIES }, { "hlen", READ },
	{ "hmget", READ }, { "hrandfield", READ_VARIES }, { "hscan", READ_VARIES }, { "hstrlen", READ },
	{ "hvals", READ_VARIES }, { "info", READ_VARIES }, { "keys", READ_VARIES }, { "lastsave", READ_VARIES },
	{ "latency", READ_VARIES }, { "lcs", READ }, { "lindex", READ }, { "llen", READ }, { "lolwut", READ_VARIES },
	{ "lpos", READ }, { "lrange", READ }, { "memory", READ_VARIES }, { "mget", READ }, { "migrate", ADMIN },
	{ "module", ADMIN }, { "monitor", STATE }, { "multi", MULTI }, { "object", READ_VARIES }, { "pexpiretime", READ_VARIES }, { "ping", READ },
	{ "psubscribe", STATE }, { "psync", STATE }, { "pttl", READ_VARIES }, { "punsubscribe", STATE }, { "quit", QUIT },
	{ "randomkey", READ_VARIES }, { "readonly", STATE }, { "readwrite", STATE }, { "replconf", STATE },
	{ "replicaof", ADMIN }, { "reset", STATE }, { "role", READ_VARIES }, { "scan", READ_VARIES }, { "scard", READ },
	{ "script", WRITE }, { "sdiff", READ_VARIES }, { "select", SELECT }, { "shutdown", ADMIN }, { "sinter", READ_VARIES },
	{ "sintercard", READ }, { "sismember", READ }, { "slaveof", ADMIN }, { "slowlog", READ_VARIES },
	{ "smembers", READ_VARIES }, { "smismember", READ }, { "sort_ro", READ }, { "spop", CHANCE },
	{ "srandmember", READ_VARIES }, { "sscan", READ_VARIES }, { "ssubscribe", STATE }, { "strlen", READ },
	{ "subscribe", STATE }, { "substr", READ }, { "sunion", READ_VARIES }, { "sunsubscribe", STATE }, { "sync", STATE },
	{ "time", READ_VARIES }, { "ttl", READ_VARIES }, { "type", READ }, { "unsubscribe", STATE }, { "unwatch", STATE },
	{ "wait", WAITS }, { "waitaof", WAITS }, { "watch", STATE }, { "xadd", XADD }, { "xinfo", READ_VARIES },
	{ "xlen", READ }, { "xpending", READ_VARIES }, { "xrange", READ }, { "xread", XREAD }, { "xreadgroup", XREAD },
	{ "xrevrange", READ }, { "zcard", READ }, { "zcount", READ }, { "zdiff", READ }, { "zinter", READ },
	{ "zintercard", READ }, { "zlexcount", READ }, { "zmscore", READ }, { "zrandmember", READ_VARIES }, { "zrange", READ },
	{ "zrangebylex", READ }, { "zrangebyscore", READ }, { "zrank", READ }, { "zrevrange", READ },
	{ "zrevrangebylex", READ }, { "zrevrangebyscore", READ }, { "zrevrank", READ }, { "zscan", READ_VARIES },
	{ "zscore", READ }, { "zunion", READ },
};

#define NAME_MAX_LEN 24u

static enum action command_action(const char *p, size_t n)
{
	char name[NAME_MAX_LEN];
	size_t lo = 0, hi = sizeof(commands) / sizeof(commands[0]);

	if (n >= sizeof(name))
		return WRITE;
	for (size_t i = 0; i < n; i++)
		name[i] = p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] | 0x20) : p[i] ? p[i] : ' ';
	name[n] = '\0';
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(name, commands[mid].name);

		if (c == 0)
			return commands[mid].action;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return WRITE;
}

/* --- one command ---------------------------------------------------------------------------------------------------------------- */

/* Decimal, one spelling only: no sign but '-' before "1" for null, no leading zeros. */
static bool number(const char *p, size_t n, int64_t *ret)
{
	int64_t v = 0;

	if (n == 2 && p[0] == '-' && p[1] == '1') {
		*ret = -1;
		return true;
	}
	if (n == 0 || n > 10 || (n > 1 && *p == '0'))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (p[i] - '0');
	}
	*ret = v;
	return true;
}

/* 1, *ret_n = length without CRLF; 0 more; -EBADMSG */
static int number_line(struct vmp_frame_req *st, const char *buf, size_t len, size_t *ret_n)
{
	size_t to = len < (size_t)st->pos + NUMBER_LINE_MAX ? len : (size_t)st->pos + NUMBER_LINE_MAX;
	const char *lf = to > st->pos ? memchr(buf + st->pos, '\n', to - st->pos) : NULL;

	if (!lf)
		return len >= (size_t)st->pos + NUMBER_LINE_MAX ? -EBADMSG : 0;
	if (lf == buf + st->pos || lf[-1] != '\r')
		return -EBADMSG;
	*ret_n = (size_t)(lf - buf) - 1 - st->pos;
	return 1;
}

/* 1 = [st->line, st->pos) is a whole command, 0 = more, < 0 with *ret_why */
static int command_whole(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
			 enum vmp_refuse *ret_why)
{
	int64_t v;
	size_t n;
	int r;

	*ret_why = VMP_REFUSE_SYNTAX;
	for (;;)
		switch (st->state & 0xf) {
		case BEGIN:
			if (st->pos >= len)
				return 0;
			st->line = st->pos;
			if (buf[st->pos] != '*') {
				size_t from = st->scanned > st->pos ? st->scanned : st->pos, to = (size_t)st->pos + INLINE_MAX;
				const char *lf;

				to = len < to ? len : to;
				lf = memchr(buf + from, '\n', to - from);
				if (!lf) {
					st->scanned = (uint32_t)to;
					return to < len || to == (size_t)st->pos + INLINE_MAX ? -EBADMSG : 0;
				}
				st->pos = (uint32_t)(lf - buf) + 1;
				return 1;
			}
			r = number_line(st, buf, len, &n);
			if (r <= 0)
				return r;
			if (!number(buf + st->pos + 1, n - 1, &v) || v > (int64_t)ARGS_MAX)
				return -EBADMSG;
			st->pos += (uint32_t)n + 2;
			if (v <= 0)
				return 1;
			st->left = (uint32_t)v;
			st->state = (uint8_t)((st->state & 0xf0) | ARG_SIZE);
			break;
		case ARG_SIZE:
			if (st->pos < len && buf[st->pos] != '$')
				return -EBADMSG;
			r = number_line(st, buf, len, &n);
			if (r <= 0)
				return r;
			if (!number(buf + st->pos + 1, n - 1, &v) || v < 0)
				return -EBADMSG;
			st->pos += (uint32_t)n + 2;
			if ((uint64_t)v + st->pos + 2 > conf->max_request) {
				*ret_why = VMP_REFUSE_SIZE;
				return -EMSGSIZE;
			}
			st->body_end = st->pos + (uint32_t)v;
			st->state = (uint8_t)((st->state & 0xf0) | ARG);
			break;
		default:	/* ARG */
			if ((len > st->body_end && buf[st->body_end] != '\r') ||
			    (len > (size_t)st->body_end + 1 && buf[st->body_end + 1] != '\n'))
				return -EBADMSG;
			if (len < (size_t)st->body_end + 2)
				return 0;
			st->pos = st->body_end + 2;
			if (--st->left == 0) {
				st->state &= 0xf0;
				return 1;
			}
			st->state = (uint8_t)((st->state & 0xf0) | ARG_SIZE);
			break;
		}
}

/* The arguments of a whole command, one after the other. */
struct args {
	const char *p, *end;
	bool inl;
};

static bool args_next(struct args *a, const char **ret, size_t *ret_n)
{
	size_t n = 0;

	if (a->inl) {
		while (a->p < a->end && (*a->p == ' ' || *a->p == '\t'))
			a->p++;
		*ret = a->p;
		while (a->p < a->end && *a->p != ' ' && *a->p != '\t')
			a->p++;
		*ret_n = (size_t)(a->p - *ret);
		return *ret_n > 0;
	}
	if (a->p >= a->end)
		return false;
	for (a->p++; *a->p != '\r'; a->p++)	/* checked when it was read */
		n = n * 10 + (size_t)(*a->p - '0');
	*ret = a->p + 2;
	*ret_n = n;
	a->p += n + 4;
	return true;
}

/* Sets *a to the arguments; 0 = there are none, 1, -EBADMSG = an inline command that could be read in two ways. */
static int args_begin(const char *cmd, size_t n, struct args *a)
{
	a->inl = *cmd != '*';
	a->end = cmd + n;
	if (!a->inl) {
		a->p = (const char *)memchr(cmd, '\n', n) + 1;
		return a->p < a->end;
	}
	a->end--;
	if (a->end > cmd && a->end[-1] == '\r')
		a->end--;
	a->p = cmd;
	if (!vmp_value_clean(cmd, (size_t)(a->end - cmd)))
		return -EBADMSG;
	while (a->p < a->end && (*a->p == ' ' || *a->p == '\t'))
		a->p++;
	return a->p < a->end;
}

struct verdict {
	enum action action;	/* WRITE or READ: passed on; MULTI, EXEC, DISCARD; else answered here */
	uint32_t flags;
	const char *reply;
	enum vmp_refuse why;
};

static void refuse(struct verdict *v, const char *text)
{
	v->action = STATE;
	v->flags = 0;
	v->reply = text;
	v->why = VMP_REFUSE_COMMAND;
}

#define ALONE "-ERR a replicated service keeps no state of a connection: this command is not passed on\r\n"

/* What is to become of a command with at least one argument, its name. -EBADMSG: end the connection. */
static int command_judge(struct args a, bool mirror, struct verdict *v)
{
	const char *name, *arg;
	size_t n, arg_n;
	bool quotes;

	memset(v, 0, sizeof(*v));
	args_next(&a, &name, &n);
	quotes = a.inl && (memchr(name, '"', (size_t)(a.end - name)) || memchr(name, '\'', (size_t)(a.end - name)));
	if (a.inl) {
		/* a web page that is made to talk to us; the server closes the connection at this, too */
		if (VMP_SAME(name, n, "post") || VMP_SAME(name, n, "host:"))
			return -EBADMSG;
		if (memchr(name, '"', n) || memchr(name, '\'', n)) {
			refuse(v, "-ERR Protocol error: quotes in the name of a command\r\n");
			return 0;
		}
	}
	v->action = command_action(name, n);
	if (quotes && v->action >= MULTI) {
		refuse(v, "-ERR Protocol error: quotes are not understood here, send an array of strings\r\n");
		return 0;
	}
	switch (v->action) {
	case READ:
		v->flags = VMP_UNIT_IDEMPOTENT;
		break;
	case READ_VARIES:
		v->action = READ;
		v->flags = VMP_UNIT_IDEMPOTENT | VMP_UNIT_VARIES;
		break;
	case STATE:
		refuse(v, ALONE);
		break;
	case WAITS:
		v->action = WRITE;
		if (mirror)
			refuse(v, "-ERR a mirrored service has one connection for all: a command that waits is not passed on\r\n");
		break;
	case CHANCE:
		v->action = WRITE;
		if (mirror)
			refuse(v, "-ERR every member would choose by itself: name what to take (SRANDMEMBER, then SREM)\r\n");
		break;
	case ADMIN:
		v->action = WRITE;
		if (mirror)
			refuse(v, "-ERR not passed on to the members of a mirrored service\r\n");
		break;
	case SELECT:
		v->action = READ;
		v->flags = VMP_UNIT_IDEMPOTENT;
		if (!args_next(&a, &arg, &arg_n) || !VMP_SAME(arg, arg_n, "0"))
			refuse(v, "-ERR a replicated service has database 0 only\r\n");
		break;
	case CLIENT:
		if (args_next(&a, &arg, &arg_n) && (VMP_SAME(arg, arg_n, "setname") || VMP_SAME(arg, arg_n, "setinfo")))
			v->reply = "+OK\r\n";
		else
			refuse(v, ALONE);
		break;
	case HELLO:
		refuse(v, "-ERR unknown command 'HELLO'\r\n");
		v->why = VMP_REFUSE_NONE;
		break;
	case AUTH:
		refuse(v, "-ERR AUTH is not passed on: a replicated service keeps no state of a connection\r\n");
		break;
	case CONFIG:
		v->action = WRITE;
		if (args_next(&a, &arg, &arg_n) && VMP_SAME(arg, arg_n, "get")) {
			v->action = READ;
			v->flags = VMP_UNIT_IDEMPOTENT | VMP_UNIT_VARIES;
		} else if (mirror) {
			refuse(v, "-ERR not passed on to the members of a mirrored service\r\n");
		}
		break;
	case XADD:
		v->action = WRITE;
		for (unsigned int i = 0; mirror && args_next(&a, &arg, &arg_n); i++)
			/* key, options, then the id: "*" or "MS-*"; a threshold or field of that form is refused as well */
			if (i > 0 && arg_n && arg[arg_n - 1] == '*' && (arg_n == 1 || arg[arg_n - 2] == '-')) {
				refuse(v, "-ERR every member would make an id by itself: name the entry's id\r\n");
				break;
			}
		break;
	case XREAD:
		v->action = WRITE;
		while (mirror && args_next(&a, &arg, &arg_n))
			if (VMP_SAME(arg, arg_n, "streams")) {
				break;
			} else if (VMP_SAME(arg, arg_n, "block")) {
				refuse(v, "-ERR a mirrored service has one connection for all: a command that waits is not "
					  "passed on\r\n");
				break;
			}
		break;
	case MULTI:
	case EXEC:
	case DISCARD:
		if (args_next(&a, &arg, &arg_n)) {
			refuse(v, "-ERR wrong number of arguments\r\n");
			v->why = VMP_REFUSE_NONE;
		}
		break;
	case QUIT:
		v->reply = "+OK\r\n";
		v->flags = VMP_UNIT_CLOSE;
		break;
	default:
		break;
	}
	return 0;
}

/* --- units ---------------------------------------------------------------------------------------------------------------------- */

#define Q8 "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
#define ACKS_MAX 64u
static const char acks[] = "+OK\r\n" Q8 Q8 Q8 Q8 Q8 Q8 Q8 Q8;

/* The acknowledgements that are due, or as many as one constant holds. */
static int interim_acks(struct vmp_frame_req *st, struct vmp_unit *ret)
{
	uint32_t n = st->count - st->acked, first = st->acked == 0;

	if (n > ACKS_MAX)
		n = ACKS_MAX;
	ret->interim = first ? acks : acks + 5;
	ret->interim_len = first ? 5 + (n - 1) * 9 : n * 9;
	st->acked += n;
	return 0;
}

static int unit_whole(struct vmp_frame_req *st, struct vmp_unit *ret, uint32_t flags)
{
	ret->len = st->pos;
	ret->flags = flags;
	ret->swallow = flags & VMP_UNIT_LOCAL ? 0 : st->count;
	memset(st, 0, offsetof(struct vmp_frame_req, id));
	return 1;
}

static int unit_local(struct vmp_frame_req *st, struct vmp_unit *ret, const char *reply, enum vmp_refuse why, uint32_t flags)
{
	ret->reply = reply;
	ret->reply_len = strlen(reply);
	ret->why = why;
	return unit_whole(st, ret, flags | VMP_UNIT_LOCAL);
}

/* Read the current command once more, when those before it are acknowledged: answers keep the order of their commands. */
static int acks_first(struct vmp_frame_req *st, struct vmp_unit *ret)
{
	st->pos = st->line;
	st->state &= 0xf0;
	return interim_acks(st, ret);
}

/* A command within MULTI: 1 = the unit is whole, 0 = tell the client this first, -EAGAIN = go on with the next command. */
static int in_transaction(struct vmp_frame_req *st, const struct verdict *v, struct vmp_unit *ret)
{
	bool queue = v->action == WRITE || v->action == READ;

	if (queue) {
		st->count++;
		st->flags = (st->flags & (v->flags | ~VMP_UNIT_IDEMPOTENT)) | (v->flags & VMP_UNIT_VARIES);
		return -EAGAIN;
	}
	if (st->acked < st->count)
		return acks_first(st, ret);
	switch (v->action) {
	case EXEC:
		if (!(st->state & ABORTED))
			return unit_whole(st, ret, st->flags);
		return unit_local(st, ret, "-EXECABORT Transaction discarded because of previous errors.\r\n", VMP_REFUSE_COMMAND, 0);
	case DISCARD:
		return unit_local(st, ret, "+OK\r\n", VMP_REFUSE_NONE, 0);
	case QUIT:
		return unit_local(st, ret, v->reply, VMP_REFUSE_NONE, VMP_UNIT_CLOSE);
	default:
		st->state |= ABORTED;
		st->count++;
		st->acked++;
		ret->interim = v->action == MULTI ? "-ERR MULTI calls can not be nested\r\n" :
			       v->why ? v->reply : "-ERR not allowed between MULTI and EXEC\r\n";
		ret->interim_len = strlen(ret->interim);
		return 0;
	}
}

int vmp_resp_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_unit *ret)
{
	for (;;) {
		enum vmp_refuse why;
		struct verdict v;
		struct args a;
		int r = command_whole(st, conf, buf, len, &why);

		if (r < 0)
			return st->acked < st->count ? acks_first(st, ret) : vmp_frame_refused(conf, why, ret);
		if (r == 0)
			return st->acked < st->count ? interim_acks(st, ret) : 0;
		r = args_begin(buf + st->line, st->pos - st->line, &a);
		if (r == 0) {	/* an empty line or array has no answer */
			if (st->state & TRANSACTION)
				continue;
			return unit_whole(st, ret, VMP_UNIT_SKIP);
		}
		if (r < 0 || command_judge(a, conf->mirror, &v) < 0)
			return st->acked < st->count ? acks_first(st, ret) : vmp_frame_refused(conf, VMP_REFUSE_SYNTAX, ret);
		if (st->state & TRANSACTION) {
			r = in_transaction(st, &v, ret);
			if (r == -EAGAIN)
				continue;
			return r;
		}
		switch (v.action) {
		case WRITE:
		case READ:
			return unit_whole(st, ret, v.flags);
		case MULTI:
			st->state |= TRANSACTION;
			st->flags = VMP_UNIT_IDEMPOTENT;
			st->count = 1;
			break;
		case EXEC:
			return unit_local(st, ret, "-ERR EXEC without MULTI\r\n", VMP_REFUSE_NONE, 0);
		case DISCARD:
			return unit_local(st, ret, "-ERR DISCARD without MULTI\r\n", VMP_REFUSE_NONE, 0);
		default:
			return unit_local(st, ret, v.reply, v.why, v.flags);
		}
	}
}

/* --- answers -------------------------------------------------------------------------------------------------------------------- */

enum { TYPE, TEXT, BULK };

int vmp_resp_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret)
{
	uint32_t kind = st->swallow ? VMP_PART_SWALLOW : 0;
	size_t at = 0, n;
	const char *lf;
	int64_t v;

	for (;;) {
		ret->used = at;
		ret->flags = kind;
		switch (st->state) {
		case TYPE:
			if (at == len)
				return 0;
			if (buf[at] == '+' || buf[at] == '-') {
				st->state = TEXT;
				continue;
			}
			if (buf[at] != ':' && buf[at] != '$' && buf[at] != '*')
				return -EBADMSG;
			n = len - at < NUMBER_LINE_MAX ? len - at : NUMBER_LINE_MAX;
			lf = memchr(buf + at, '\n', n);
			if (!lf) {
				if (n == NUMBER_LINE_MAX || conf->max_head <= n)
					return -EBADMSG;
				return 0;
			}
			n = (size_t)(lf - (buf + at));
			if (lf[-1] != '\r')
				return -EBADMSG;
			if (buf[at] != ':' && !number(buf + at + 1, n - 2, &v))
				return -EBADMSG;
			if (buf[at] == '$' && v >= 0) {
				st->left = (uint64_t)v + 2;
				st->state = BULK;
			} else if (buf[at] == '*' && v > 0) {
				st->items += (uint64_t)v;
			}
			at += n + 1;
			break;
		case TEXT:
			lf = memchr(buf + at, '\n', len - at);
			if (!lf) {
				ret->used = len;
				return 0;
			}
			at = (size_t)(lf - buf) + 1;
			st->state = TYPE;
			break;
		default:	/* BULK */
			n = len - at < st->left ? len - at : (size_t)st->left;
			st->left -= n;
			at += n;
			if (st->left) {
				ret->used = at;
				return 0;
			}
			st->state = TYPE;
			break;
		}
		if (st->state != TYPE)
			continue;
		/* a value has ended, or a non-empty array has begun: that one is no end of a value */
		if (st->items == 0) {
			ret->used = at;
			if (st->swallow == 0) {
				ret->flags |= VMP_PART_DONE;
				return 0;
			}
			if (--st->swallow == 0)
				return 0;
		} else {
			st->items--;
		}
	}
}
