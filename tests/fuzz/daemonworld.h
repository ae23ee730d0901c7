/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A daemon of node 1 of three without a core, for bytes that come from other daemons or over the control socket: real control socket,
 * journal and key file in a directory of its own, nothing else. One for the whole run. */
#ifndef VMP_FUZZ_DAEMONWORLD_H
#define VMP_FUZZ_DAEMONWORLD_H

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/pollloop.h"

static struct vmp_daemon *D;
static struct pollloop *L;
static char dir[] = "/tmp/vmpair-fuzz.XXXXXX";
static char path[64];

static void world_end(void)
{
	char cmd[64];

	D->ctl = vmp_ctl_free(D->ctl);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd) != 0)
		fprintf(stderr, "%s is left\n", dir);
}

static void world_begin(void)
{
	struct vmp_ctl_params cp = { .path = path, .allow_uid = getuid(), .request = vmp_request_handle, .cancelled = vmp_request_cancelled };
	struct vmp_diag diag;
	char reason[200] = "";
	FILE *f;

	MUST(mkdtemp(dir));
	D = calloc(1, sizeof(*D));
	MUST(D);
	vmp_conf_defaults(&D->conf);
	snprintf(D->conf.key_file, sizeof(D->conf.key_file), "%s/keys", dir);
	snprintf(D->conf.runtime_dir, sizeof(D->conf.runtime_dir), "%s", dir);
	MUST(vmp_log_open(open("/dev/null", O_WRONLY | O_CLOEXEC), VMP_LOG_PLAIN, LOG_ERR) == 0);
	f = fopen(D->conf.key_file, "w");
	MUST(f);
	fprintf(f, "key 1 %064d send\n", 7);
	fclose(f);
	MUST(chmod(D->conf.key_file, 0600) == 0);
	vmp_diag_init(&diag);
	MUST(vmp_keys_load(D->conf.key_file, &D->keys, &diag) == 0);
	MUST(vmp_journal_new(&D->journal, dir, "n1", reason, sizeof(reason)) == 0);
	MUST(vmp_loop_new(&D->loop) == 0);
	MUST(vmp_group_new(D) == 0);
	L = pollloop_new();
	cp.ops = pollloop_ops(L);
	cp.data = D;
	snprintf(path, sizeof(path), "%s/sock", dir);
	MUST(vmp_ctl_new(&D->ctl, &cp, reason, sizeof(reason)) == 0);
	D->binding_fd = -1;
	D->node = 1;
	D->corosync_up = D->quorate = true;
	D->n_nodes = D->n_group = 3;
	for (unsigned i = 0; i < 3; i++) {
		D->nodes[i].id = D->group[i] = i + 1;
		snprintf(D->nodes[i].name, sizeof(D->nodes[i].name), "n%u", i + 1);
	}
	strcpy(D->node_name, "n1");
	vmp_journal_set_node(D->journal, "n1");
	atexit(world_end);
}

static void world_drain(int fd)		/* whatever is answered is one JSON object */
{
	static char buf[VMP_CTL_MAX_MSG];
	ssize_t n;

	while (pollloop_round(L, 0) > 0)
		;
	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		json_t *o = json_loadb(buf, (size_t)n, 0, NULL);

		MUST(json_is_object(o));
		json_decref(o);
	}
}

/* A client's datagram; the answers are read and thrown away. */
static void world_ask(const void *text, size_t len)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	MUST(fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	if (send(fd, text, len, MSG_NOSIGNAL) >= 0)
		world_drain(fd);
	close(fd);
	while (pollloop_round(L, 0) > 0)
		;
	vmp_group_own_stale(D);
}

#endif
