/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers of the daemon as text for people. Whatever a field may lack is left out, so an older or newer daemon is still shown. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/cli/cli.h"

static const char *str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));
	return s ? s : "";
}

static int64_t num(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

static bool yes(const json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

void out_json(const json_t *j, bool one_line)
{
	json_dumpf(j, stdout, one_line ? JSON_COMPACT : JSON_INDENT(2));
	putchar('\n');
}

static void print_epoch(int64_t epoch)
{
	printf("%" PRId64 ".%" PRId64, epoch / 256, epoch % 256);
}

static void print_span(int64_t ms)
{
	int64_t s = ms / 1000;
	if (s < 120)
		printf("%" PRId64 " s", s);
	else if (s < 7200)
		printf("%" PRId64 " min", s / 60);
	else if (s < 172800)
		printf("%" PRId64 " h", s / 3600);
	else
		printf("%" PRId64 " days", s / 86400);
}

static void print_problems(const json_t *list, const char *indent)
{
	size_t i;
	json_t *p;
	json_array_foreach(list, i, p)
		printf("%s! %s\n", indent, json_string_value(p));
}

/* The counters that tell how it is; all of them are in the JSON. */
static void print_relay(const json_t *r)
{
	static const char *const shown[] = { "clients", "requests", "in_flight", "number", "held", "buffer_bytes", "diverged" };
	const json_t *stats = json_object_get(r, "stats");
	if (!r)
		return;
	printf("    relay %s", str(r, "state"));
	if (num(r, "pid"))
		printf(", pid %" PRId64, num(r, "pid"));
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		const json_t *v = json_object_get(stats, shown[i]);
		if (json_is_integer(v))
			printf(", %s %" PRId64, shown[i], (int64_t)json_integer_value(v));
		else if (json_is_string(v))
			printf(", %s %llu", shown[i], strtoull(json_string_value(v), NULL, 0));
	}
	putchar('\n');
}

static void print_pair(const json_t *p)
{
	const char *holder = str(p, "holder"), *sync = str(p, "sync"), *mode = str(p, "mode");
	size_t i;
	json_t *m, *e;
	printf("\npair %s", str(p, "name"));
	if (*str(p, "rsc") && strcmp(str(p, "rsc"), str(p, "name")))
		printf(" (resource %s)", str(p, "rsc"));
	printf(": ");
	if (!*holder)
		printf("NO PRIMARY");
	else
		printf("primary %s", holder);
	if (*sync)
		printf(", standby %s in sync", sync);
	else if (*holder)
		printf(", NO STANDBY IN SYNC");
	if (yes(p, "frozen"))
		printf(", FROZEN (%s)", str(p, "frozen_reason"));
	printf("\n  epoch ");
	print_epoch(num(p, "epoch"));
	if (*mode && strcmp(mode, "none"))
		printf(", mode %s", mode);
	printf(", entry");
	json_array_foreach(json_object_get(p, "entries"), i, e)
		printf(" %s", json_string_value(e));
	printf(" %s", yes(p, "entry_open") ? "open" : "CLOSED");
	if (json_is_integer(json_object_get(p, "lease_left_ms")))
		printf(", lease %" PRId64 " ms left", num(p, "lease_left_ms"));
	if (num(p, "held_ms"))
		printf(", held for %" PRId64 " ms", num(p, "held_ms"));
	putchar('\n');
	json_array_foreach(json_object_get(p, "members"), i, m) {
		printf("  %-12s %-9s %-8s %-9s", str(m, "node"), str(m, "role"), yes(m, "running") ? "running" : "-",
		       yes(m, "ready") ? "ready" : json_is_null(json_object_get(m, "ready")) ? "-" : "not ready");
		if (num(m, "pid"))
			printf(" pid %-7" PRId64, num(m, "pid"));
		if (*str(m, "internal"))
			printf(" %-15s", str(m, "internal"));
		if (json_is_integer(json_object_get(m, "score")))
			printf(" score %" PRId64, num(m, "score"));
		putchar('\n');
		print_relay(json_object_get(m, "relay"));
	}
	print_problems(json_object_get(p, "problems"), "  ");
}

void out_status(const json_t *r)
{
	const json_t *node = json_object_get(r, "node"), *cl = json_object_get(r, "cluster"), *pairs = json_object_get(r, "pairs");
	size_t i, k;
	json_t *n, *p, *link;
	printf("node %s (%" PRId64 "), vmpaird %s, up ", str(node, "name"), num(node, "id"), str(node, "version"));
	print_span(num(node, "uptime_ms"));
	if (yes(node, "witness")) /* has neither */
		puts(", witness");
	else
		printf("\ncluster: %s, corosync %s, pacemaker %s, libvirt %s\n", yes(cl, "quorate") ? "quorate" : "NO QUORUM",
		       str(cl, "corosync"), str(cl, "pacemaker"), str(cl, "libvirt"));
	printf("voters: %" PRId64 ", majority %" PRId64 "; regime %s", num(cl, "voters"), num(cl, "majority"), str(cl, "regime"));
	if (*str(cl, "regime_reason"))
		printf(" (%s)", str(cl, "regime_reason"));
	putchar('\n');
	json_array_foreach(json_object_get(r, "nodes"), i, n) {
		printf("  %-12s %3" PRId64 "  %-8s %-8s", str(n, "name"), num(n, "id"), yes(n, "online") ? "online" : "OFFLINE",
		       yes(n, "heard") ? "heard" : "SILENT");
		if (!yes(n, "voter"))
			printf(" no voter");
		if (json_is_object(json_object_get(n, "fenced")))
			printf(" FENCED");
		if (yes(n, "abstaining"))
			printf(" abstaining");
		if (num(n, "rtt_us"))
			printf(" round trip %.2f ms", (double)num(n, "rtt_us") / 1000);
		json_array_foreach(json_object_get(n, "links"), k, link)
			if (yes(n, "heard") && !yes(link, "heard"))
				printf(" link %s SILENT", str(link, "address"));
		if (num(n, "refused")) {
			const char *cause;
			json_t *count;
			printf(" refused %" PRId64, num(n, "refused"));
			json_object_foreach(json_object_get(n, "refused_causes"), cause, count)
				printf(" %s", cause);
		}
		if (*str(n, "reason"))
			printf(" (%s)", str(n, "reason"));
		putchar('\n');
	}
	print_problems(json_object_get(r, "problems"), "");
	json_array_foreach(pairs, i, p)
		print_pair(p);
	if (!json_array_size(pairs))
		puts("\nno pairs");
}

void out_event(const json_t *e)
{
	char when[64] = "?";
	int64_t ts = num(e, "ts");
	time_t s = (time_t)(ts / 1000);
	struct tm tm;
	if (localtime_r(&s, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	printf("%s.%03d  %-10s %-12s %-12s %s\n", when, (int)(ts % 1000), str(e, "node"), *str(e, "pair") ? str(e, "pair") : "-",
	       str(e, "what"), str(e, "text"));
}

void out_why(const json_t *r)
{
	size_t i;
	json_t *e, *m;
	printf("pair %s, epoch ", str(r, "pair"));
	print_epoch(num(r, "epoch"));
	if (*str(r, "node"))
		printf(": primary is %s", str(r, "node"));
	if (json_is_number(json_object_get(r, "took_ms")))
		printf(", entry bound %.1f ms after the first sign", json_number_value(json_object_get(r, "took_ms")));
	printf("\ncause: %s\n\n%10s  %-10s %-12s\n", *str(r, "cause") ? str(r, "cause") : "not on record", "ms", "node", "what");
	json_array_foreach(json_object_get(r, "events"), i, e)
		printf("%10.1f  %-10s %-12s %s\n", json_number_value(json_object_get(e, "t_ms")), str(e, "node"), str(e, "what"), str(e, "text"));
	if (json_array_size(json_object_get(r, "missing"))) {
		printf("\nnot heard, so its part is missing:");
		json_array_foreach(json_object_get(r, "missing"), i, m)
			printf(" %s", json_string_value(m));
		putchar('\n');
	}
}
