/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the gate costs the loop: median and 99th percentile of each call, in microseconds, alone and while another
 * process loads a large ruleset. In namespaces of its own; root. usage: gate_bench [ROUNDS]
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/announce.h"
#include "daemon/fence.h"
#include "daemon/gate.h"
#include "daemon/link.h"
#include "tests/unit/gate_env.h"

#define MAX_ROUNDS 20000
#define PAIR 0x1001ULL

enum what {
	OPEN,
	OPEN_PREPARED,
	REFRESH,
	CLOSE,
	CLOSED_AFTER,
	FENCE_ARM,
	FENCE_DISARM,
	FDB_REPLACE,
	FDB_DELETE,
	ANNOUNCE,
	N_WHAT
};

static const char *const names[N_WHAT] = {
	"open",	     "open_prepared", "refresh",     "close",	   "close_until_confirmed",
	"fence_arm", "fence_disarm",  "fdb_replace", "fdb_delete", "announce_arp2_na"
};
static double sample[N_WHAT][MAX_ROUNDS];
static unsigned int count[N_WHAT];

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void add(enum what w, double us)
{
	if (count[w] < MAX_ROUNDS)
		sample[w][count[w]++] = us;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *title)
{
	printf("%s\n", title);
	for (int w = 0; w < N_WHAT; w++) {
		if (!count[w])
			continue;
		qsort(sample[w], count[w], sizeof *sample[w], by_value);
		printf("  %-22s median %9.1f  p99 %9.1f  max %9.1f us  n %u\n", names[w], sample[w][count[w] / 2],
		       sample[w][count[w] * 99 / 100], sample[w][count[w] - 1], count[w]);
		count[w] = 0;
	}
}

static void gate_rounds(struct env *e, unsigned int rounds, uint64_t *epoch)
{
	for (unsigned int i = 0; i < rounds; i++) {
		uint64_t end = env_now() + 10000000000ULL;
		struct vmp_gate_info in;
		double t;
		int r;

		*epoch += 256;
		if (i & 1) {
			/* As the daemon does it: armed while the state is put to the voters. */
			vmp_gate_prepare(e->g, PAIR, *epoch);
			do
				vmp_gate_port_info(e->g, PAIR, &in);
			while (!in.armed);
		}
		t = now_us();
		r = vmp_gate_open(e->g, PAIR, *epoch, end, end);
		add(i & 1 ? OPEN_PREPARED : OPEN, now_us() - t);
		if (r == -EINPROGRESS)
			env_wait(e, VMP_GATE_EV_OPENED);
		for (int k = 0; k < 4; k++) {
			t = now_us();
			vmp_gate_refresh(e->g, PAIR, *epoch, end, end);
			add(REFRESH, now_us() - t);
		}
		t = now_us();
		r = vmp_gate_close(e->g, PAIR, *epoch);
		add(CLOSE, now_us() - t);
		if (r == -EINPROGRESS)
			env_wait(e, VMP_GATE_EV_CLOSED);
		add(CLOSED_AFTER, now_us() - t);
		e->n_events = e->seen = 0;
	}
}

static void parts(unsigned int rounds)
{
	struct vmp_fence *f;
	struct vmp_link *l;
	struct vmp_link_info tap, up;
	struct vmp_gate_spec sp;
	int fd = vmp_announce_socket();

	if (fd < 0 || vmp_fence_new(&f, false) < 0 || vmp_link_new(&l) < 0 || vmp_link_get(l, "tap0", &tap) < 0 ||
	    vmp_link_get(l, "up0", &up) < 0)
		exit(99);
	vmp_fence_gate(f, "tap0");
	if (vmp_fence_install(f) < 0)
		exit(99);
	env_spec(&sp, 0);
	for (unsigned int i = 0; i < rounds; i++) {
		double t[7];

		t[0] = now_us();
		vmp_fence_arm(f, tap.ifindex);
		t[1] = now_us();
		vmp_fence_disarm(f, tap.ifindex);
		t[2] = now_us();
		vmp_link_fdb_replace(l, tap.ifindex, sp.mac);
		t[3] = now_us();
		vmp_link_fdb_delete(l, tap.ifindex, sp.mac);
		t[4] = now_us();
		vmp_announce_send(fd, up.ifindex, sp.mac, sp.addrs[0].family, sp.addrs[0].addr);
		vmp_announce_send(fd, up.ifindex, sp.mac, sp.addrs[1].family, sp.addrs[1].addr);
		t[5] = now_us();
		for (int k = 0; k < 5; k++)
			add((enum what)(FENCE_ARM + k), t[k + 1] - t[k]);
	}
	vmp_fence_delete(f);
	vmp_fence_free(f);
	vmp_link_free(l);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 500;
	struct env *e = calloc(1, sizeof *e);
	uint64_t epoch = 1;
	pid_t pid;
	int guest;

	if (!e || !rounds || rounds > MAX_ROUNDS / 4) {
		fprintf(stderr, "usage: gate_bench [1..%d]\n", MAX_ROUNDS / 4);
		return 2;
	}
	env_process_init();
	env_up(e, 0);
	env_gate_stop(e);
	e->wait_us = 1000; /* the daemon's, not the tests' */
	env_gate_start(e);
	env_add(e, PAIR, 0);
	guest = env_guest("tap0");

	gate_rounds(e, rounds, &epoch);
	report("alone");
	run("f=/tmp/gate_bench.$$; { echo 'table ip big { set s { type ipv4_addr; elements = {'; i=0; while [ $i -lt 30000 ]; do "
	    "echo \"10.$((i / 65536)).$((i / 256 %% 256)).$((i %% 256)),\"; i=$((i + 1)); done; echo '11.2.0.1 } }'; echo '}'; } > $f; mv $f big.nft");
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "while nft -f big.nft && nft delete table ip big; do :; done",
		      (char *)NULL);
		_exit(127);
	}
	gate_rounds(e, rounds, &epoch);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	unlink("big.nft");
	report("while 30,000 set elements are loaded and deleted over and over");
	env_gate_stop(e);
	parts(rounds);
	report("parts, called directly");
	close(guest);
	env_down(e);
	free(e);
	return 0;
}
