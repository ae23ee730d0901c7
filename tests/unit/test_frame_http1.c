/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/framefeed.h"

#define H "Host: a\r\n"
#define E "\r\n"
#define GET "GET / HTTP/1.1\r\n" H
#define POST "POST /x HTTP/1.1\r\n" H

static struct feed_log once, cut;

static struct vmp_frame_conf conf_new(void)
{
	struct vmp_frame_conf c;

	assert_int_equal(vmp_framing_parse("http1", &c), 0);
	return c;
}

static void check_n(const struct vmp_frame_conf *conf, const char *in, size_t len, const char *want)
{
	once.n = 0;
	feed_requests(conf, in, len, 0, false, &once);
	assert_string_equal(once.text, want);
	for (size_t at = 1; at < len; at++) {
		cut.n = 0;
		feed_requests(conf, in, len, at, false, &cut);
		assert_string_equal(cut.text, want);
	}
}

static void check(const char *in, const char *want)
{
	struct vmp_frame_conf c = conf_new();

	check_n(&c, in, strlen(in), want);
}

static void check_table(const char *const (*t)[2], size_t n)
{
	for (size_t i = 0; i < n; i++)
		check(t[i][0], t[i][1]);
}
#define TABLE(t) check_table(t, sizeof(t) / sizeof((t)[0]))

static void whole_requests(void **state)
{
	static const char *const t[][2] = {
		{ GET E, "27 idempotent\n" },
		{ GET E GET E "GET", "27 idempotent\n27 idempotent\nmore\n" },
		{ "HEAD / HTTP/1.1\r\n" H E, "28 idempotent head\n" },
		{ "OPTIONS * HTTP/1.1\r\n" H E, "31 idempotent\n" },
		{ "PUT /x HTTP/1.1\r\n" H "Content-Length: 3\r\n" E "abc", "50 idempotent\n" },
		{ "DELETE /x HTTP/1.1\r\n" H E, "31 idempotent\n" },
		{ POST "Content-Length: 0\r\n" E POST E, "48\n29\n" },
		{ POST "content-LENGTH:  5\t\r\n" E "abcde" GET E, "55\n27 idempotent\n" },
		{ POST "Content-Length: 5\r\n" E "abcd", "more\n" },
		{ "get / HTTP/1.1\r\n" H E, "27\n" },
		{ "GET http://a/x?y HTTP/1.1\r\n" H E, "38 idempotent\n" },
		{ "GET / HTTP/1.0\r\n" E, "18 idempotent close 1.0\n" },
		{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" E, "42 idempotent 1.0\n" },
		{ GET "Connection: foo, ,CLOSE\r\n" E, "52 idempotent close\n" },
		{ GET "Connection: keep-alive\r\nConnection: close\r\n" E, "70 idempotent close\n" },
		/* an empty line before a request */
		{ "\r\n\r\n" GET E, "2 skip\n2 skip\n27 idempotent\n" },
		{ GET "Connection: upgrade\r\nUpgrade: websocket\r\n" E, "68 idempotent upgrade\n" },
		{ GET "Upgrade: websocket\r\n" E, "47 idempotent\n" },
		{ GET "X-Bytes: \x80\xff a\tb\r\n" E, "44 idempotent\n" },
		{ GET "Empty:\r\n" E, "35 idempotent\n" },
	};

	(void)state;
	TABLE(t);
}

static void chunked_bodies(void **state)
{
#define TE POST "Transfer-Encoding: Chunked\r\n" E
	static const char *const t[][2] = {
		{ TE "0\r\n\r\n" GET E, "62\n27 idempotent\n" },
		{ TE "3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n", "86\n" },
		{ TE "3;x=y;z=\"q\"\r\nabc\r\n0\r\nMD5: x\r\nOther: y\r\n\r\n", "98\n" },
		{ TE "A\r\n0123456789\r\n000\r\n\r\n" GET E, "79\n27 idempotent\n" },
		{ TE "3\r\nabc", "more\n" },
		{ TE "3\r\nabc\r\n0\r\nTrailer: x\r\n", "more\n" },
	};

	(void)state;
	TABLE(t);
}

/* What two parsers could read in two ways is refused by the first. */
static void smuggling(void **state)
{
	static const char *const t[][2] = {
		/* lengths */
		{ POST "Content-Length: 5\r\nContent-Length: 6\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: 5\r\nContent-Length: 5\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: 5, 5\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: +5\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: -5\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: 0x5\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: 5 5\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length:\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: 5\r\nContent_Length: 6\r\n" E, "error content-length 400\n" },
		{ POST "Content-Length: 99999999999999999999999999999999999999\r\n" E, "error size 413\n" },
		{ POST "Content-Length: 18446744073709551617\r\n" E, "error size 413\n" },
		{ POST "Content-Length: 4294967297\r\n" E, "error size 413\n" },
		/* both */
		{ POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" E, "error length-and-coding 400\n" },
		{ POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" E, "error length-and-coding 400\n" },
		/* codings */
		{ POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding: chunked, chunked\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding: gzip, chunked\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding: chunked, identity\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding: identity\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding: xchunked\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding: \"chunked\"\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding:\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer_Encoding: chunked\r\n" E, "error transfer-encoding 400\n" },
		{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" E, "error transfer-encoding 400\n" },
		{ POST "Transfer-Encoding : chunked\r\n" E, "error syntax 400\n" },
		{ POST "Transfer-Encoding\t: chunked\r\n" E, "error syntax 400\n" },
		{ POST "Transfer-Encoding: \vchunked\r\n" E, "error syntax 400\n" },
		/* continued fields */
		{ POST "Transfer-Encoding:\r\n chunked\r\n" E, "error transfer-encoding 400\n" },
		{ POST "X: a\r\n b\r\n" E, "error obs-fold 400\n" },
		{ POST "X: a\r\n\tb\r\n" E, "error obs-fold 400\n" },
		{ "GET / HTTP/1.1\r\n " H E, "error obs-fold 400\n" },
		/* line ends */
		{ "GET / HTTP/1.1\nHost: a\n\n", "error syntax 400\n" },
		{ "GET / HTTP/1.1\r\nHost: a\n\r\n", "error syntax 400\n" },
		{ "GET / HTTP/1.1\r\nHost: a\r\n\n", "error syntax 400\n" },
		{ "\nGET / HTTP/1.1\r\n", "error syntax 400\n" },
		{ GET "X: a\rContent-Length: 5\r\n" E, "error syntax 400\n" },
		{ GET "X: a\r\r\n" E, "error syntax 400\n" },
		{ "GET /\rx HTTP/1.1\r\n" H E, "error syntax 400\n" },
		/* names */
		{ GET ": x\r\n" E, "error syntax 400\n" },
		{ GET "no colon\r\n" E, "error syntax 400\n" },
		{ GET "X(y): z\r\n" E, "error syntax 400\n" },
		{ GET "X\x80: z\r\n" E, "error syntax 400\n" },
		{ GET "X: \x7f\r\n" E, "error syntax 400\n" },
		{ GET "X: 12345678\x01\r\n" E, "error syntax 400\n" },
		/* request line */
		{ "GET  / HTTP/1.1\r\n" H E, "error syntax 400\n" },
		{ "GET / HTTP/1.1 \r\n" H E, "error syntax 400\n" },
		{ "GET / x HTTP/1.1\r\n" H E, "error syntax 400\n" },
		{ "GET /\xc3\xa4 HTTP/1.1\r\n" H E, "error syntax 400\n" },
		{ "GET\t/ HTTP/1.1\r\n" H E, "error syntax 400\n" },
		{ "GET /\r\n", "error syntax 400\n" },
		{ "GET a:80 HTTP/1.1\r\n" H E, "error syntax 400\n" },
		{ " GET / HTTP/1.1\r\n" H E, "error syntax 400\n" },
		{ "GET / http/1.1\r\n" H E, "error syntax 400\n" },
		{ "GET / HTTP/01.1\r\n" H E, "error syntax 400\n" },
		{ "GET / HTTP/1.2\r\n" H E, "error version 505\n" },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "error version 505\n" },
		{ "\x16\x03\x01\x02", "error syntax 400\n" },
		{ "CONNECT a:80 HTTP/1.1\r\n" H E, "error method 501\n" },
		/* hosts */
		{ "GET / HTTP/1.1\r\n" E, "error host 400\n" },
		{ GET H E, "error host 400\n" },
		{ "GET / HTTP/1.0\r\n" H H E, "error host 400\n" },
		{ "GET / HTTP/1.1\r\nHost: a b\r\n" E, "error host 400\n" },
		{ "GET / HTTP/1.1\r\nHost: a/b\r\n" E, "error host 400\n" },
		{ "GET / HTTP/1.1\r\nHost: a@b\r\n" E, "error host 400\n" },
		/* chunks */
		{ TE "x\r\n", "error bad-chunk 400\n" },
		{ TE "\r\n", "error bad-chunk 400\n" },
		{ TE "+3\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "-3\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "0x3\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE " 3\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "3 \r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "3\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "3\r\nabcd\r\n", "error bad-chunk 400\n" },
		{ TE "3\r\nabc\n0\r\n", "error bad-chunk 400\n" },
		{ TE "3\r\nabc\rx0\r\n", "error bad-chunk 400\n" },
		{ TE "3;a\nb\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "3;a\rb\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "000000003\r\nabc\r\n", "error bad-chunk 400\n" },
		{ TE "fffffffff\r\n", "error bad-chunk 400\n" },
		{ TE "ffffffff\r\n", "error size 413\n" },
		{ TE "0\r\nContent-Length: 5\r\n\r\n", "error syntax 400\n" },
		{ TE "0\r\nHost: b\r\n\r\n", "error syntax 400\n" },
		{ TE "0\r\nTransfer-Encoding: chunked\r\n\r\n", "error syntax 400\n" },
		{ TE "0\r\nX: y\n\r\n", "error syntax 400\n" },
		{ TE "0\r\n x\r\n\r\n", "error obs-fold 400\n" },
		/* behind a good one */
		{ GET E "GET / HTTP/1.1\r\n" E, "27 idempotent\nerror host 400\n" },
	};
	static const char nul_value[] = GET "X: a\0b\r\n" E, nul_name[] = GET "X\0: a\r\n" E, nul_target[] = "GET /\0 HTTP/1.1\r\n" H E;
	struct vmp_frame_conf c = conf_new();

	(void)state;
	TABLE(t);
	check_n(&c, nul_value, sizeof(nul_value) - 1, "error syntax 400\n");
	check_n(&c, nul_name, sizeof(nul_name) - 1, "error syntax 400\n");
	check_n(&c, nul_target, sizeof(nul_target) - 1, "error syntax 400\n");
}

static void limits(void **state)
{
	struct vmp_frame_conf c = conf_new();
	char buf[1024], fields[8192] = GET;

	(void)state;
	c.max_head = 64;
	c.max_request = 100;
	memset(buf, 'a', sizeof(buf));
	memcpy(buf, "GET /", 5);
	check_n(&c, buf, 63, "more\n");
	check_n(&c, buf, 64, "error target-size 414\n");
	memcpy(buf, "GET / HTTP/1.1\r\nHost: ", 22);
	memcpy(buf + 60, "\r\n\r\n", 4);
	check_n(&c, buf, 64, "64 idempotent\n");
	memcpy(buf + 60, "b\r\n\r\n", 5);
	check_n(&c, buf, 65, "error head-size 431\n");
	snprintf(buf, sizeof(buf), POST "Content-Length: 51\r\n\r\n%051d", 5);
	check_n(&c, buf, strlen(buf), "100\n");
	snprintf(buf, sizeof(buf), POST "Content-Length: 52\r\n\r\n%052d", 5);
	check_n(&c, buf, strlen(buf), "error size 413\n");
	/* refused before the client is asked to send it */
	snprintf(buf, sizeof(buf), POST "Content-Length: 52\r\n\r\n");
	check_n(&c, buf, strlen(buf), "error size 413\n");
	snprintf(buf, sizeof(buf), TE "20\r\n%032d\r\n1\r\na\r\n", 0);
	check_n(&c, buf, strlen(buf), "error size 413\n");
	snprintf(buf, sizeof(buf), TE "1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n0\r\n\r\n");
	check_n(&c, buf, strlen(buf), "error size 413\n");

	c = conf_new();
	for (int i = 0; i < 127; i++)
		strcat(fields, "A: b\r\n");
	check_n(&c, fields, strlen(fields), "more\n");
	strcat(fields, "\r\n");
	check_n(&c, fields, strlen(fields), "789 idempotent\n");
	fields[strlen(fields) - 2] = '\0';
	strcat(fields, "A: b\r\n\r\n");
	check_n(&c, fields, strlen(fields), "error head-size 431\n");

	/* extensions: of one line (with its CRLF 300 bytes), and of all */
	snprintf(buf, sizeof(buf), TE "1;%0296d\r\nx\r\n0\r\n\r\n", 0);
	check_n(&c, buf, strlen(buf), "365\n");
	snprintf(buf, sizeof(buf), TE "1;%0297d\r\nx\r\n0\r\n\r\n", 0);
	check_n(&c, buf, strlen(buf), "error bad-chunk 400\n");
	snprintf(fields, sizeof(fields), "%s", TE);
	for (int i = 0; i < 16; i++)
		snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields), "1;%0255d\r\nx\r\n", 0);
	check_n(&c, fields, strlen(fields), "more\n");
	strcat(fields, "1;\r\nx\r\n");
	check_n(&c, fields, strlen(fields), "error bad-chunk 400\n");
}

static void ids(void **state)
{
#define KEY111 "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901"
	static const char *const t[][2] = {
		{ POST "Idempotency-Key: \"8e03\"\r\n" E, "54 id <8e03@bf8a491a62e9a5d2>\n" },
		{ POST "Idempotency-Key: 8e03\r\n" E, "52 id <8e03@bf8a491a62e9a5d2>\n" },
		{ POST "X-Request-Id: 8e03\r\n" E, "49 id <8e03@bf8a491a62e9a5d2>\n" },
		/* the key is stronger, wherever it stands */
		{ POST "X-Request-Id: r\r\nIdempotency-Key: k\r\n" E, "66 id <k@bf8a491a62e9a5d2>\n" },
		{ POST "Idempotency-Key: k\r\nX-Request-Id: r\r\n" E, "66 id <k@bf8a491a62e9a5d2>\n" },
		{ POST "Idempotency-Key: \"a b\\\"c\"\r\n" E, "56 id <a b\\x5c\"c@bf8a491a62e9a5d2>\n" },
		/* the same key for something else is another id */
		{ "PUT /x HTTP/1.1\r\n" H "Idempotency-Key: 8e03\r\n" E, "51 idempotent id <8e03@b9cc0192c84365a5>\n" },
		{ "POST /y HTTP/1.1\r\n" H "Idempotency-Key: 8e03\r\n" E, "52 id <8e03@bf8a4a1a62e9a785>\n" },
		/* reads are not kept */
		{ GET "Idempotency-Key: k\r\n" E, "47 idempotent\n" },
		{ GET "X-Request-Id: \"\r\n" E, "44 idempotent\n" },
		{ POST "X-Request-Id:\r\n" E, "44\n" },
		{ POST "Idempotency-Key: " KEY111 "\r\n" E, "159 id <" KEY111 "@bf8a491a62e9a5d2>\n" },
		{ POST "Idempotency-Key: " KEY111 "2\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key:\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key: \"\"\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key: \"a\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key: \"a\";x=y\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key: \"a\\\"\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key: a b\r\n" E, "error request-id 400\n" },
		{ POST "Idempotency-Key: a\r\nIdempotency-Key: a\r\n" E, "error request-id 400\n" },
		{ POST "X-Request-Id: a\r\nX-Request-Id: b\r\n" E, "error request-id 400\n" },
		{ POST "X-Request-Id: \xc3\xa4\r\n" E, "error request-id 400\n" },
	};

	(void)state;
	TABLE(t);
}

static void expectations(void **state)
{
	static const char with[] = POST "Expect: 100-Continue\r\nContent-Length: 3\r\n" E "abc";
	static const char none[] = POST "Expect: 100-continue\r\nContent-Length: 0\r\n" E;
	static const char old[] = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" E "abc";
	struct vmp_frame_conf c = conf_new();

	(void)state;
	check(with, "73\n");
	check(none, "70\n");
	check(old, "63 close 1.0\n");
	check(POST "Expect: 200-maybe\r\n" E, "error expect 417\n");
	check(POST "Expect: 100-continue, x\r\n" E, "error expect 417\n");
	/* said once, when the head is whole and nothing of the body has come */
	for (size_t at = 1; at < sizeof(with) - 1; at++) {
		cut.n = 0;
		feed_requests(&c, with, sizeof(with) - 1, at, true, &cut);
		assert_string_equal(cut.text, at == 1 || at == 70 ? "interim HTTP/1.1 100 Continue\\r\\n\\r\\n\n73\n" : "73\n");
	}
	cut.n = 0;
	feed_requests(&c, none, sizeof(none) - 1, 1, true, &cut);
	assert_string_equal(cut.text, "70\n");
	cut.n = 0;
	feed_requests(&c, old, sizeof(old) - 1, 1, true, &cut);
	assert_string_equal(cut.text, "63 close 1.0\n");
	c.max_request = 100;
	cut.n = 0;
	feed_requests(&c, POST "Expect: 100-continue\r\nContent-Length: 99\r\n" E, 71, 1, true, &cut);
	assert_string_equal(cut.text, "error size 413\n");
}

static void mirror_has_no_streams(void **state)
{
	static const char up[] = GET "Connection: Upgrade\r\nUpgrade: websocket\r\n" E;
	struct vmp_frame_conf c = conf_new();

	(void)state;
	c.mirror = true;
	check_n(&c, up, sizeof(up) - 1, "error upgrade 501\n");
	check_n(&c, GET "Upgrade: h2c\r\n" E, 41, "41 idempotent\n");
}

static void answer(uint32_t flags, const char *in, const char *want)
{
	struct vmp_frame_conf c = conf_new();
	size_t len = strlen(in);

	once.n = 0;
	feed_answer(&c, flags, 0, in, len, 0, &once);
	assert_string_equal(once.text, want);
	for (size_t at = 1; at < len; at++) {
		cut.n = 0;
		feed_answer(&c, flags, 0, in, len, at, &cut);
		assert_string_equal(cut.text, want);
	}
}

static void answers(void **state)
{
#define OK "HTTP/1.1 200 OK\r\n"
#define OK_ "HTTP/1.1 200 OK\\r\\n"
	(void)state;
	answer(0, OK "Content-Length: 3\r\n\r\nabcHTTP", OK_ "Content-Length: 3\\r\\n\\r\\nabc\ndone left 4\n");
	answer(0, OK "Content-Length: 0\r\n\r\n", OK_ "Content-Length: 0\\r\\n\\r\\n\ndone left 0\n");
	answer(0, OK "Content-Length: 3\r\n\r\nab", OK_ "Content-Length: 3\\r\\n\\r\\nab\ncut off\n");
	answer(0, OK "Date: Sun, 22 Nov\r\nContent-Length: 1\r\n\r\na",
	       OK_ "Date: <Sun, 22 Nov>\\r\\nContent-Length: 1\\r\\n\\r\\na\ndone left 0\n");
	answer(0, OK "Connection: close\r\nContent-Length: 0\r\n\r\n",
	       OK_ "Connection: close\\r\\nContent-Length: 0\\r\\n\\r\\n\ndone close left 0\n");
	answer(VMP_UNIT_HEAD, OK "Content-Length: 3\r\n\r\n", OK_ "Content-Length: 3\\r\\n\\r\\n\ndone left 0\n");
	answer(0, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
	       "HTTP/1.1 304 Not Modified\\r\\nContent-Length: 3\\r\\n\\r\\n\ndone left 0\n");
	answer(0, "HTTP/1.1 204\r\n\r\n", "HTTP/1.1 204\\r\\n\\r\\n\ndone left 0\n");
	answer(0, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\ndone close left 0\n");
	answer(0, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
	       "HTTP/1.0 200 OK\\r\\nConnection: keep-alive\\r\\nContent-Length: 0\\r\\n\\r\\n\ndone left 0\n");
	answer(VMP_UNIT_CLOSE, OK "Content-Length: 0\r\n\r\n", OK_ "Content-Length: 0\\r\\n\\r\\n\ndone close left 0\n");
	answer(0, OK "\r\nabc", OK_ "\\r\\nabc\nwhole by eof close\n");
	answer(0, OK "Transfer-Encoding: gzip\r\n\r\nabc", OK_ "Transfer-Encoding: gzip\\r\\n\\r\\nabc\nwhole by eof close\n");
	answer(0, OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0;x\r\nT: u\r\n\r\nmore",
	       OK_ "Transfer-Encoding: chunked\\r\\n\\r\\n3\\r\\nabc\\r\\n0;x\\r\\nT: u\\r\\n\\r\\n\ndone left 4\n");
	answer(0, OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	       OK_ "Transfer-Encoding: gzip, chunked\\r\\n\\r\\n0\\r\\n\\r\\n\ndone left 0\n");
	answer(0, "", "\ncut off\n");
	answer(0, "HTTP/1.1 2", "\ncut off\n");
	/* interim answers: ours was sent already, others go on, but not to a client that knows none */
	answer(0, "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
	       "{HTTP/1.1 100 Continue\\r\\n\\r\\n}" OK_ "Content-Length: 0\\r\\n\\r\\n\ndone left 0\n");
	answer(0, "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
	       "HTTP/1.1 103 Hints\\r\\nLink: x\\r\\n\\r\\n" OK_ "Content-Length: 0\\r\\n\\r\\n\ndone left 0\n");
	answer(VMP_UNIT_HTTP10, "HTTP/1.1 103 Hints\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
	       "{HTTP/1.1 103 Hints\\r\\n\\r\\n}" OK_ "Content-Length: 0\\r\\n\\r\\n\ndone left 0\n");
	answer(VMP_UNIT_UPGRADE, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\x01\x02",
	       "HTTP/1.1 101 Switching\\r\\nUpgrade: x\\r\\n\\r\\n\ndone upgraded left 2\n");
}

static void broken_answers(void **state)
{
	static const char *const bad[] = {
		"HTTP/1.1 101 Switching\r\n\r\n", "HTTP/2 200\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 099 No\r\n\r\n",
		"HTTP/1.1 200\tOK\r\n\r\n", "HTTP/1.1 200 OK\n\n", OK "X: y\n\r\n", OK " folded\r\n\r\n", OK "X : y\r\n\r\n",
		OK "Content-Length: x\r\n\r\n", OK "Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
		OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		OK "Transfer-Encoding: chunked, gzip, chunked\r\n\r\n", OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", OK "Transfer-Encoding: chunked\r\n\r\nx\r\n",
		OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\rx",
		OK "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
	};
	struct vmp_frame_conf c = conf_new();
	char big[200];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		answer(0, bad[i], "broken\n");
	c.max_head = 100;
	memset(big, 'a', sizeof(big));
	memcpy(big, "HTTP/1.1 200 ", 13);
	once.n = 0;
	feed_answer(&c, 0, 0, big, 99, 0, &once);
	assert_string_equal(once.text, "\ncut off\n");
	once.n = 0;
	feed_answer(&c, 0, 0, big, 100, 0, &once);
	assert_string_equal(once.text, "broken\n");
}

/* The table of character classes against the grammar of RFC 9110 section 5.6.2 and 5.5: through fields of one character. */
static void characters(void **state)
{
	struct vmp_frame_conf c = conf_new();

	(void)state;
	for (int ch = 1; ch < 256; ch++) {
		bool alnum = (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
		bool token = alnum || (ch < 128 && strchr("!#$%&'*+-.^_`|~", ch));
		bool value = ch == '\t' || (ch >= ' ' && ch != 0x7f);
		bool host = alnum || (ch < 128 && strchr("-._~!$&'()*+,;=%:[]", ch)) || ch == ' ' || ch == '\t';
		char in[64];

		if (ch == '\r' || ch == '\n')
			continue;
		snprintf(in, sizeof(in), GET "X%cX: y\r\n" E, ch);
		once.n = 0;
		feed_requests(&c, in, strlen(in), 0, false, &once);
		assert_string_equal(once.text, token || ch == ':' ? "35 idempotent\n" : "error syntax 400\n");
		snprintf(in, sizeof(in), GET "X: 1234%c6789\r\n" E, ch);
		once.n = 0;
		feed_requests(&c, in, strlen(in), 0, false, &once);
		assert_string_equal(once.text, value ? "41 idempotent\n" : "error syntax 400\n");
		snprintf(in, sizeof(in), "GET / HTTP/1.1\r\nHost: %c\r\n" E, ch);
		once.n = 0;
		feed_requests(&c, in, strlen(in), 0, false, &once);
		assert_string_equal(once.text, host ? "27 idempotent\n" : value ? "error host 400\n" : "error syntax 400\n");
	}
}

static void refusals_are_answers(void **state)
{
	struct vmp_frame_conf c = conf_new();

	(void)state;
	for (unsigned int why = VMP_REFUSE_NONE + 1; why < VMP_REFUSES; why++) {
		const char *text;
		size_t len;

		assert_non_null(vmp_refuse_name(why));
		assert_non_null(vmp_refuse_text(why));
		assert_false(vmp_frame_failure(&c, why, &text, &len));
		assert_int_equal(strlen(text), len);
		once.n = 0;
		feed_answer(&c, 0, 0, text, len, 0, &once);
		assert_non_null(strstr(once.text, "whole by eof close"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_requests),
		cmocka_unit_test(chunked_bodies),
		cmocka_unit_test(smuggling),
		cmocka_unit_test(limits),
		cmocka_unit_test(ids),
		cmocka_unit_test(expectations),
		cmocka_unit_test(mirror_has_no_streams),
		cmocka_unit_test(answers),
		cmocka_unit_test(broken_answers),
		cmocka_unit_test(characters),
		cmocka_unit_test(refusals_are_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
