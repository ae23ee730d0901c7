/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * entrywatch MAP IFACE ADDRESS
 *
 * Looks every 2 ms at what the kernel of this node has, so that nothing depends on what any daemon tells of itself: whether the expiry word
 * pinned at MAP says that the entry is open here, and whether IFACE has ADDRESS. The time from the first look at which they differ to
 * the first at which they agree again is a disagreement; not to be looked for a while can only make it longer. For each line on standard input it
 * prints "LONGEST_MS LINE", the longest disagreement since the line before, one that goes on included; "quit" ends it.
 */
#include <config.h>
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tcbpf.h"
#include "internal/cleanup.h"

enum { LOOK_MS = 2 };

static void die(const char *what)
{
	fprintf(stderr, "entrywatch: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The pin is another one for each member, and none without: opened anew each time. */
static bool word_open(const char *map)
{
	CLEANUP_CLOSE int fd = vmp_tcbpf_get(map);
	uint64_t end;

	return fd >= 0 && !vmp_tcbpf_map_get(fd, &end) && end > now_ns();
}

static bool has_address(const char *iface, const struct in_addr *address)
{
	struct ifaddrs *list, *a;

	if (getifaddrs(&list) < 0)
		die("getifaddrs");
	for (a = list; a; a = a->ifa_next)
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET && !strcmp(a->ifa_name, iface) &&
		    ((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr.s_addr == address->s_addr)
			break;
	freeifaddrs(list);
	return a;
}

int main(int argc, char **argv)
{
	const struct sched_param least = { .sched_priority = sched_get_priority_min(SCHED_RR) };
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	uint64_t since = 0, worst = 0;
	struct in_addr address;
	char text[256];
	size_t have = 0;

	if (argc != 4 || inet_pton(AF_INET, argv[3], &address) != 1) {
		fputs("usage: entrywatch MAP IFACE ADDRESS\n", stderr);
		return 2;
	}
	sched_setscheduler(0, SCHED_RR, &least); /* else it measures itself */
	for (;;) {
		bool differ = word_open(argv[1]) != has_address(argv[2], &address);
		uint64_t now = now_ns(), lasted;

		if (differ && !since)
			since = now;
		lasted = since ? now - since : 0;
		if (!differ)
			since = 0;
		if (lasted > worst)
			worst = lasted;
		if (poll(&input, 1, LOOK_MS) <= 0)
			continue;
		if (read(STDIN_FILENO, text + have, 1) <= 0)
			return 0;
		if (text[have] == '\n' || have == sizeof(text) - 2) {
			text[have] = '\0';
			if (!strcmp(text, "quit"))
				return 0;
			printf("%.1f %s\n", (double)worst / 1e6, text);
			fflush(stdout);
			worst = have = 0;
		} else
			have++;
	}
}
