/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What parsing costs: one request as wrk sends it, one answer as nginx gives it, and a pair of resp. Best of 500 rounds, in ns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "heartbeat/frame/frame.h"

#define ROUND 1000	/* short, so that many rounds go undisturbed */

static const char get[] = "GET /index.html HTTP/1.1\r\nHost: 10.99.0.1:8080\r\n\r\n";
static const char browser[] =
	"POST /account/17/transfer?to=18 HTTP/1.1\r\nHost: bank.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) "
	"Gecko/20100101 Firefox/128.0\r\nAccept: application/json\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n"
	"Content-Type: application/json\r\nContent-Length: 13\r\nIdempotency-Key: \"6f9619ff-8b86-d011-b42d-00c04fc964ff\"\r\n"
	"Connection: keep-alive\r\n\r\n{\"amount\": 1}";
static const char answer[] =
	"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 64\r\n"
	"Last-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"6740-40\"\r\nAccept-Ranges: bytes\r\n\r\n"
	"0123456789012345678901234567890123456789012345678901234567890123";
static const char set[] = "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000017\r\n$3\r\nxxx\r\n";

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double request_ns(const struct vmp_frame_conf *conf, const char *text, size_t len)
{
	double best = 0;

	for (int round = 0; round < 500; round++) {
		double t0 = now_ns(), t;

		for (int i = 0; i < ROUND; i++) {
			struct vmp_frame_req st = { 0 };
			struct vmp_unit u;

			if (vmp_frame_request(&st, conf, text, len, &u) != 1 || u.len != len)
				abort();
		}
		t = (now_ns() - t0) / ROUND;
		best = round == 0 || t < best ? t : best;
	}
	return best;
}

static double answer_ns(const struct vmp_frame_conf *conf, const char *text, size_t len)
{
	double best = 0;

	for (int round = 0; round < 500; round++) {
		double t0 = now_ns(), t;

		for (int i = 0; i < ROUND; i++) {
			struct vmp_frame_ans st;
			struct vmp_part p;

			vmp_frame_answer_start(&st, 0, 0);
			if (vmp_frame_answer(&st, conf, text, len, &p) != 0 || p.used != len || !(p.flags & VMP_PART_DONE))
				abort();
		}
		t = (now_ns() - t0) / ROUND;
		best = round == 0 || t < best ? t : best;
	}
	return best;
}

int main(void)
{
	struct vmp_frame_conf http, resp;

	if (vmp_framing_parse("http1", &http) < 0 || vmp_framing_parse("resp", &resp) < 0)
		return 1;
	printf("frame.http1_request_ns %.1f\n", request_ns(&http, get, sizeof(get) - 1));
	printf("frame.http1_request_long_ns %.1f\n", request_ns(&http, browser, sizeof(browser) - 1));
	printf("frame.http1_answer_ns %.1f\n", answer_ns(&http, answer, sizeof(answer) - 1));
	printf("frame.resp_request_ns %.1f\n", request_ns(&resp, set, sizeof(set) - 1));
	printf("frame.resp_answer_ns %.1f\n", answer_ns(&resp, "+OK\r\n", 5));
	return 0;
}
