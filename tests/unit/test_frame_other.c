/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and options of framings; resp, line, length-prefixed and stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "tests/unit/framefeed.h"

static struct feed_log once, cut;

static struct vmp_frame_conf conf_new(const char *text)
{
	struct vmp_frame_conf c;

	assert_int_equal(vmp_framing_parse(text, &c), 0);
	return c;
}

static void check_n(const struct vmp_frame_conf *conf, const char *in, size_t len, const char *want)
{
	once.n = 0;
	feed_requests(conf, in, len, 0, true, &once);
	assert_string_equal(once.text, want);
	for (size_t at = 1; at < len; at++) {
		cut.n = 0;
		feed_requests(conf, in, len, at, true, &cut);
		assert_string_equal(cut.text, want);
	}
}

static void answer_n(const struct vmp_frame_conf *conf, uint32_t swallow, const char *in, size_t len, const char *want)
{
	once.n = 0;
	feed_answer(conf, 0, swallow, in, len, 0, &once);
	assert_string_equal(once.text, want);
	for (size_t at = 1; at < len; at++) {
		cut.n = 0;
		feed_answer(conf, 0, swallow, in, len, at, &cut);
		assert_string_equal(cut.text, want);
	}
}

static void names_and_options(void **state)
{
	static const char *const wrong[] = {
		"", "http", "http11", "http1,", "http1,x", "line,", "line,id", "line,id=", "line,id=0", "line,id=256", "line,id=1x",
		"line,,id=1", "resp,little", "length-prefixed,width=3", "length-prefixed,id=1", "length-prefixed,id=1+0",
		"length-prefixed,id=1+129", "length-prefixed,id=65536+1", "length-prefixed,littlex", "streams", "line,id=99999999999",
	};
	struct vmp_frame_conf c, before;

	(void)state;
	for (unsigned int f = 0; f < VMP_FRAMINGS; f++) {
		c = conf_new(vmp_framing_name(f));
		assert_int_equal(c.framing, f);
		assert_int_equal(c.max_request, VMP_FRAME_REQUEST_DEFAULT);
		assert_int_equal(c.max_head, VMP_FRAME_HEAD_DEFAULT);
	}
	assert_null(vmp_framing_name(VMP_FRAMINGS));
	c = conf_new("line,id=3");
	assert_int_equal(c.id_field, 3);
	c = conf_new("length-prefixed,width=8,little,inclusive,id=12+16");
	assert_int_equal(c.width, 8);
	assert_true(c.little && c.inclusive);
	assert_int_equal(c.id_offset, 12);
	assert_int_equal(c.id_len, 16);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memset(&c, 0x5a, sizeof(c));
		before = c;
		assert_int_equal(vmp_framing_parse(wrong[i], &c), -EINVAL);
		assert_memory_equal(&c, &before, sizeof(c));
	}
}

/* --- resp ----------------------------------------------------------------------------------------------------------------------- */

static struct vmp_frame_conf conf_resp(bool mirror)
{
	struct vmp_frame_conf c = conf_new("resp");

	c.mirror = mirror;
	return c;
}

static void resp(bool mirror, const char *in, const char *want)
{
	struct vmp_frame_conf c = conf_resp(mirror);

	check_n(&c, in, strlen(in), want);
}

static void resp_commands(void **state)
{
	static const char nul[] = "*2\r\n$3\r\nGET\r\n$3\r\na\0b\r\n", nul_inline[] = "GET a\0b\r\n";
	struct vmp_frame_conf c = conf_resp(false);

	(void)state;
	resp(false, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*2\r\n$3\r\ngEt\r\n$1\r\nk\r\n", "30\n20 idempotent\n");
	resp(false, "*1\r\n$4\r\nPING\r\nPING\r\nping x\n", "14 idempotent\n6 idempotent\n7 idempotent\n");
	resp(false, "\r\n*0\r\n*-1\r\n  \r\nPING\r\n", "2 skip\n4 skip\n5 skip\n4 skip\n6 idempotent\n");
	resp(false, "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "19 idempotent\n");
	resp(false, "TTL k\r\nSMEMBERS s\r\nFROB x\r\nsubstrx\r\n", "7 idempotent varies\n12 idempotent varies\n8\n9\n");
	resp(false, "*1\r\n$4\r\nQUIT\r\n", "14 close local +OK\\r\\n\n");
	check_n(&c, nul, sizeof(nul) - 1, "22 idempotent\n");
	check_n(&c, nul_inline, sizeof(nul_inline) - 1, "error syntax ERR\n");
	c.max_request = 40;
	check_n(&c, "*1\r\n$30\r\n", 9, "error size ERR\n");
	check_n(&c, "*1\r\n$29\r\n", 9, "more\n");
}

static void resp_malformed(void **state)
{
	static const char *const bad[] = {
		"*1\n$4\r\nPING\r\n", "*1\r\n$4\nPING\r\n", "*1\r\n$4\r\nPINGx\r\n", "*1\r\n$4\r\nPING\n\n", "*1\r\n:4\r\n", "*x\r\n",
		"*01\r\n", "*+1\r\n", "*1 \r\n", "*1\r\n$-1\r\n", "*1\r\n$04\r\n", "*1\r\n$4 \r\n", "*1048577\r\n",
		"*00000000000000000000000000000000000001\r\n", "*99999999999\r\n", "POST / HTTP/1.1\r\n", "Host: a\r\n", "GET a\rb\r\n",
		"GET \x01\r\n", "*-2\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		resp(false, bad[i], "error syntax ERR\n");
}

#define ALONE "-ERR a replicated service keeps no state of a connection: this command is not passed on\\r\\n"

static void resp_refused(void **state)
{
	static const char *const always[] = {
		"WATCH k\r\n", "UNWATCH\r\n", "SUBSCRIBE c\r\n", "PSUBSCRIBE c\r\n", "SSUBSCRIBE c\r\n", "MONITOR\r\n", "SYNC\r\n",
		"PSYNC ? -1\r\n", "REPLCONF x\r\n", "RESET\r\n", "CLIENT REPLY OFF\r\n", "CLIENT TRACKING ON\r\n", "CLIENT\r\n",
		"AUTH x\r\n", "SELECT 1\r\n", "SELECT\r\n", "READONLY\r\n", "\"SUBSCRIBE\" c\r\n", "'WATCH' k\r\n", "CLIENT \"REPLY\" OFF\r\n",
		"SELECT '1'\r\n",
	};
	static const char *const mirrored[] = {
		"BLPOP l 0\r\n", "BZPOPMIN z 0\r\n", "WAIT 1 0\r\n", "SPOP s\r\n", "XADD s * f v\r\n", "XADD s MAXLEN ~ 5 * f v\r\n",
		"XADD s 5-* f v\r\n", "XREAD BLOCK 0 STREAMS s $\r\n", "XREADGROUP GROUP g c COUNT 1 block 5 STREAMS s >\r\n",
		"SHUTDOWN\r\n", "DEBUG SLEEP 1\r\n", "REPLICAOF a 1\r\n", "CONFIG SET x y\r\n", "ACL LIST\r\n", "MIGRATE x\r\n",
	};
	char want[64];

	(void)state;
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
		for (int mirror = 0; mirror < 2; mirror++) {
			struct vmp_frame_conf c = conf_resp(mirror);

			once.n = 0;
			feed_requests(&c, always[i], strlen(always[i]), 0, true, &once);
			snprintf(want, sizeof(want), "%zu local command -ERR ", strlen(always[i]));
			assert_memory_equal(once.text, want, strlen(want));
		}
	}
	for (size_t i = 0; i < sizeof(mirrored) / sizeof(mirrored[0]); i++) {
		snprintf(want, sizeof(want), "%zu\n", strlen(mirrored[i]));
		resp(false, mirrored[i], want);
		once.n = 0;
		feed_requests(&(struct vmp_frame_conf){ .framing = VMP_FRAMING_RESP, .mirror = true, .max_request = 100 }, mirrored[i],
			      strlen(mirrored[i]), 0, true, &once);
		snprintf(want, sizeof(want), "%zu local command -ERR ", strlen(mirrored[i]));
		assert_memory_equal(once.text, want, strlen(want));
	}
	resp(true, "SELECT 0\r\n", "10 idempotent\n");
	resp(true, "CONFIG GET save\r\n", "17 idempotent varies\n");
	resp(true, "XADD s 5-1 f v\r\n", "16\n");
	resp(true, "XREAD STREAMS s block 0 0\r\n", "27\n");
	resp(true, "CLIENT SETNAME x\r\n", "18 local +OK\\r\\n\n");
	resp(true, "*3\r\n$6\r\nclient\r\n$7\r\nSetInfo\r\n$1\r\nx\r\n", "36 local +OK\\r\\n\n");
	resp(true, "HELLO 3\r\n", "9 local -ERR unknown command 'HELLO'\\r\\n\n");
	resp(true, "WATCH k\r\nPING\r\n", "9 local command " ALONE "\n6 idempotent\n");
}

static void resp_transactions(void **state)
{
	char many[4096] = "MULTI\r\n", want[4096];

	(void)state;
	resp(true, "EXEC\r\n", "6 local -ERR EXEC without MULTI\\r\\n\n");
	resp(true, "DISCARD\r\n", "9 local -ERR DISCARD without MULTI\\r\\n\n");
	resp(true, "MULTI x\r\n", "9 local -ERR wrong number of arguments\\r\\n\n");

	/* more acknowledgements than one constant holds */
	snprintf(want, sizeof(want), "interim +OK\\r\\n");
	for (int i = 0; i < 100; i++) {
		strcat(many, "INCR a\r\n");
		if (i == 63)
			strcat(want, "\ninterim ");
		strcat(want, "+QUEUED\\r\\n");
	}
	strcat(many, "EXEC\r\n");
	strcat(want, "\n813 swallow=101\n");
	once.n = 0;
	feed_requests(&(struct vmp_frame_conf){ .framing = VMP_FRAMING_RESP, .max_request = 4096 }, many, strlen(many), 0, true, &once);
	assert_string_equal(once.text, want);
}

/* Several acknowledgements in a row as one: how they are cut depends on the pieces. */
static void squeeze(struct feed_log *log)
{
	char *p;

	while ((p = strstr(log->text, "\ninterim ")))
		memmove(p, p + 9, strlen(p + 9) + 1);
}

/* Acknowledged by us, also when all of it came at once: the unit's answer is always EXEC's alone. */
static void resp_transactions_in_pieces(void **state)
{
	static const char *const t[][2] = {
		{ "MULTI\r\nSET a 1\r\nTTL a\r\nEXEC\r\nGET a\r\n",
		  "interim +OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n\n29 varies swallow=3\n7 idempotent\n" },
		{ "*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n",
		  "interim +OK\\r\\n+QUEUED\\r\\n\n50 swallow=2\n" },
		{ "MULTI\r\nEXEC\r\n", "interim +OK\\r\\n\n13 idempotent swallow=1\n" },
		{ "MULTI\r\nSET a 1\r\nDISCARD\r\n", "interim +OK\\r\\n+QUEUED\\r\\n\n25 local +OK\\r\\n\n" },
		{ "MULTI\r\nSET a 1\r\nQUIT\r\n", "interim +OK\\r\\n+QUEUED\\r\\n\n22 close local +OK\\r\\n\n" },
		{ "MULTI\r\nMULTI\r\nSET a 1\r\nEXEC\r\n",
		  "interim +OK\\r\\n-ERR MULTI calls can not be nested\\r\\n+QUEUED\\r\\n\n"
		  "29 local command -EXECABORT Transaction discarded because of previous errors.\\r\\n\n" },
		{ "MULTI\r\n\r\nWATCH k\r\nEXEC\r\nPING\r\n",
		  "interim +OK\\r\\n" ALONE "\n"
		  "24 local command -EXECABORT Transaction discarded because of previous errors.\\r\\n\n6 idempotent\n" },
		{ "MULTI\r\nSPOP s\r\nDISCARD\r\n",
		  "interim +OK\\r\\n-ERR every member would choose by itself: name what to take (SRANDMEMBER, then SREM)\\r\\n\n"
		  "24 local +OK\\r\\n\n" },
		{ "MULTI\r\nHELLO 3\r\n", "interim +OK\\r\\n-ERR not allowed between MULTI and EXEC\\r\\n\nmore\n" },
	};
	struct vmp_frame_conf c = conf_resp(true);

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		size_t len = strlen(t[i][0]);

		for (size_t at = 0; at < len; at++) {
			cut.n = 0;
			feed_requests(&c, t[i][0], len, at, true, &cut);
			squeeze(&cut);
			assert_string_equal(cut.text, t[i][1]);
		}
	}
}

static void resp_answers(void **state)
{
	struct vmp_frame_conf c = conf_resp(false);
	static const struct {
		uint32_t swallow;
		const char *in, *want;
	} t[] = {
		{ 0, "+OK\r\n+", "+OK\\r\\n\ndone left 1\n" },
		{ 0, "-ERR no\r\n", "-ERR no\\r\\n\ndone left 0\n" },
		{ 0, ":-12\r\n", ":-12\\r\\n\ndone left 0\n" },
		{ 0, "$3\r\na\nb\r\n", "$3\\r\\na\\nb\\r\\n\ndone left 0\n" },
		{ 0, "$0\r\n\r\n", "$0\\r\\n\\r\\n\ndone left 0\n" },
		{ 0, "$-1\r\n", "$-1\\r\\n\ndone left 0\n" },
		{ 0, "*-1\r\n", "*-1\\r\\n\ndone left 0\n" },
		{ 0, "*0\r\n", "*0\\r\\n\ndone left 0\n" },
		{ 0, "*2\r\n*2\r\n+a\r\n$1\r\nb\r\n*0\r\n:1\r\n", "*2\\r\\n*2\\r\\n+a\\r\\n$1\\r\\nb\\r\\n*0\\r\\n\ndone left 4\n" },
		{ 0, "*2\r\n+a\r\n", "*2\\r\\n+a\\r\\n\ncut off\n" },
		{ 2, "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n", "{+OK\\r\\n+QUEUED\\r\\n}*1\\r\\n:1\\r\\n\ndone left 0\n" },
		{ 2, "+OK\r\n-ERR x\r\n-EXECABORT\r\n", "{+OK\\r\\n-ERR x\\r\\n}-EXECABORT\\r\\n\ndone left 0\n" },
		{ 1, "+OK\r\n", "{+OK\\r\\n}\ncut off\n" },
		{ 0, "HTTP/1.1 400\r\n", "broken\n" },
		{ 0, "%1\r\n", "broken\n" },
		{ 0, "$x\r\n", "broken\n" },
		{ 0, ":1\n", "broken\n" },
		{ 0, "*1\r\n!\r\n", "broken\n" },
		{ 0, "$00000000000000000000000000000000000000\r\n", "broken\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		answer_n(&c, t[i].swallow, t[i].in, strlen(t[i].in), t[i].want);
}

static void resp_goes_on_after_failures(void **state)
{
	struct vmp_frame_conf c = conf_resp(true);

	(void)state;
	for (unsigned int why = VMP_REFUSE_NONE + 1; why < VMP_REFUSES; why++) {
		const char *text;
		size_t len;

		assert_int_equal(vmp_frame_failure(&c, why, &text, &len), why >= VMP_REFUSE_COMMAND && why != VMP_REFUSE_CLIENT_SLOW);
		once.n = 0;
		feed_answer(&c, 0, 0, text, len, 0, &once);
		assert_non_null(strstr(once.text, "done left 0"));
		assert_int_equal(*text, '-');
	}
}

/* --- line, length-prefixed, stream ---------------------------------------------------------------------------------------------- */

static void lines(void **state)
{
	struct vmp_frame_conf c = conf_new("line"), id = conf_new("line,id=2");
	char buf[256];

	(void)state;
	check_n(&c, "a b\r\n\nc\nd", 9, "5\n1\n2\nmore\n");
	check_n(&id, "PUT 17 x\nPUT\tabc\r\n PUT\nPUT \n\n", 29, "9 id <17>\n9 id <abc>\n5\n5\n1\n");
	memset(buf, 'x', sizeof(buf));
	memcpy(buf, "a ", 2);
	buf[2 + 128] = '\n';
	once.n = 0;
	feed_requests(&id, buf, 131, 0, true, &once);
	assert_memory_equal(once.text, "131 id <", 8);
	buf[2 + 128] = 'x';
	buf[2 + 129] = '\n';
	check_n(&id, buf, 132, "error request-id\n");
	c.max_request = 8;
	check_n(&c, "1234567\n12345678", 16, "8\nerror size\n");
	answer_n(&c, 0, "OK 1\r\nnext", 10, "OK 1\\r\\n\ndone left 4\n");
	answer_n(&c, 0, "OK", 2, "OK\ncut off\n");
}

static void length_prefixed(void **state)
{
	struct vmp_frame_conf c = conf_new("length-prefixed"), w2 = conf_new("length-prefixed,width=2,little,inclusive,id=1+3");
	struct vmp_frame_conf w8 = conf_new("length-prefixed,width=8"), w1 = conf_new("length-prefixed,width=1");

	(void)state;
	check_n(&c, "\0\0\0\3abc\0\0\0\0\0\0\0\1", 15, "7\n4\nmore\n");
	check_n(&w2, "\6\0-abc\x5\0-ab\2\0", 13, "6 id <abc>\n5\n2\n");
	check_n(&w2, "\1\0", 2, "error content-length\n");
	check_n(&w8, "\0\0\0\0\0\0\0\1a", 9, "9\n");
	check_n(&w8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "error size\n");
	check_n(&w8, "\0\0\0\1\0\0\0\0", 8, "error size\n");
	check_n(&w1, "\3abc\1", 5, "4\nmore\n");
	c.max_request = 8;
	check_n(&c, "\0\0\0\4abcd\0\0\0\5", 12, "8\nerror size\n");
	answer_n(&c, 0, "\0\0\0\2ab\0", 7, "\\x00\\x00\\x00\\x02ab\ndone left 1\n");
	answer_n(&c, 0, "\0\0\0\0", 4, "\\x00\\x00\\x00\\x00\ndone left 0\n");
	answer_n(&c, 0, "\0\0\0\2a", 5, "\\x00\\x00\\x00\\x02a\ncut off\n");
	answer_n(&c, 0, "\xff\xff\xff\xff" "a", 5, "\\xff\\xff\\xff\\xffa\ncut off\n");
	answer_n(&w2, 0, "\1\0", 2, "broken\n");
}

static void streams(void **state)
{
	struct vmp_frame_conf c = conf_new("stream");

	(void)state;
	once.n = 0;
	feed_requests(&c, "abcdef", 6, 0, true, &once);
	assert_string_equal(once.text, "6 no-answer\n");
	once.n = 0;
	feed_requests(&c, "abcdef", 6, 2, true, &once);
	assert_string_equal(once.text, "2 no-answer\n4 no-answer\n");
	c.max_request = 4;
	once.n = 0;
	feed_requests(&c, "abcdef", 6, 0, true, &once);
	assert_string_equal(once.text, "4 no-answer\n2 no-answer\n");
	answer_n(&c, 0, "abcdef", 6, "abcdef\nwhole by eof close\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_options),
		cmocka_unit_test(resp_commands),
		cmocka_unit_test(resp_malformed),
		cmocka_unit_test(resp_refused),
		cmocka_unit_test(resp_transactions),
		cmocka_unit_test(resp_transactions_in_pieces),
		cmocka_unit_test(resp_answers),
		cmocka_unit_test(resp_goes_on_after_failures),
		cmocka_unit_test(lines),
		cmocka_unit_test(length_prefixed),
		cmocka_unit_test(streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
