/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The built agent, run as Pacemaker runs it, against a control socket whose answers the test decides, and without one. */
#include "daemon/ctl.h"
#include "daemon/facts.h"
#include "daemon/proc.h"
#include "pollloop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define AGENT "agents/pair"

enum mode { ANSWER, IGNORE, DROP_ONCE, HANG, RETRY_ONCE, RETRY };

struct world {
	char dir[64], path[96], facts[96], domain[96];
	struct pollloop *loop;
	struct vmp_ctl *ctl;
	enum mode mode;
	int ocf;
	const char *reason;
	unsigned requests;
	json_t *last;
	char err[4096];
	int64_t took_ms;
};

static void on_request(void *data, uint64_t token, const char *cmd, json_t *msg)
{
	struct world *w = data;
	(void)cmd;
	w->requests++;
	json_decref(w->last);
	w->last = json_incref(msg);
	if (w->mode == RETRY || (w->mode == RETRY_ONCE && w->requests == 1))
		vmp_ctl_reply(w->ctl, token, VMP_CTL_FAILED, "not yet", json_pack("{s:b}", "retry", 1));
	else if (w->mode == ANSWER || w->mode == RETRY_ONCE || (w->mode == DROP_ONCE && w->requests > 1))
		vmp_ctl_reply_ocf(w->ctl, token, w->ocf, w->reason);
}

static void start_server(struct world *w)
{
	char reason[128];
	struct vmp_ctl_params p = {
		.ops = pollloop_ops(w->loop), .path = w->path, .allow_uid = getuid(), .data = w, .request = on_request,
	};
	assert_int_equal(vmp_ctl_new(&w->ctl, &p, reason, sizeof(reason)), 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	strcpy(w->dir, "/tmp/vmp-agent-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	snprintf(w->facts, sizeof(w->facts), "%s/pairs", w->dir);
	snprintf(w->domain, sizeof(w->domain), "%s/web.xml", w->dir);
	int fd = open(w->domain, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	w->loop = pollloop_new();
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char cmd[128];
	vmp_ctl_free(w->ctl);
	pollloop_free(w->loop);
	json_decref(w->last);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
	free(w);
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* Runs one action and serves the socket meanwhile; returns its exit code. vars: NULL-terminated "NAME=value". */
static int run(struct world *w, const char *action, const char *const *vars)
{
	char sock[128], facts[128], domain[160];
	const char *env[24] = {
		"OCF_ROOT=/usr/lib/ocf", "OCF_RESOURCE_INSTANCE=vm-web", "OCF_RESKEY_pair=vmptest-web", "OCF_RESKEY_entry=10.0.0.10/24",
		"OCF_RESKEY_entry_nic=br0", "OCF_RESKEY_crm_feature_set=3.16.2", "OCF_RESKEY_CRM_meta_on_node=n1", sock, facts, domain,
	};
	unsigned n = 10;
	snprintf(sock, sizeof(sock), "VMPAIR_SOCKET=%s", w->path);
	snprintf(facts, sizeof(facts), "VMPAIR_FACTS_DIR=%s", w->facts);
	snprintf(domain, sizeof(domain), "OCF_RESKEY_domain=%s", w->domain);
	for (; vars && *vars; vars++) {
		size_t len = strcspn(*vars, "=") + 1;
		unsigned i = 0;
		while (i < n && strncmp(env[i], *vars, len))
			i++;
		assert_true(i < 23);
		env[i] = *vars;
		n = i == n ? n + 1 : n;
	}
	int out[2];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, out[1], 2);
	char *argv[] = {(char *)AGENT, (char *)action, NULL};
	pid_t pid;
	int64_t start = now_ms();
	assert_int_equal(posix_spawn(&pid, AGENT, &fa, NULL, argv, (char **)env), 0);
	posix_spawn_file_actions_destroy(&fa);
	close(out[1]);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	while (poll(&p, 1, 1) == 0) {
		if (!w->ctl || w->mode == HANG)
			continue;
		pollloop_round(w->loop, 1);
		if (w->mode == DROP_ONCE && w->requests == 1 && w->last) {
			w->ctl = vmp_ctl_free(w->ctl);
			start_server(w);
			json_decref(w->last);
			w->last = NULL;
		}
	}
	w->took_ms = now_ms() - start;
	close(pidfd);
	ssize_t len = read(out[0], w->err, sizeof(w->err) - 1);
	w->err[len > 0 ? len : 0] = '\0';
	close(out[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	while (w->ctl && w->mode != HANG && pollloop_round(w->loop, 0) > 0)
		;
	return WEXITSTATUS(status);
}

static void write_facts(struct world *w, pid_t pid, enum vmp_told told, bool same_process)
{
	json_t *params = json_object();
	struct vmp_facts f = {.pair = "vmptest-web", .rsc = "vm-web", .pid = pid, .told = told, .primary = told == VMP_TOLD_PROMOTED, .params = params};
	if (pid)
		assert_int_equal(vmp_proc_start_time(pid, &f.start_time), 0);
	if (!same_process)
		f.start_time += 1;
	assert_int_equal(vmp_facts_write(w->facts, &f), 0);
	json_decref(params);
}

/* A process that stands for the VM; deaf: it ignores SIGTERM. */
static pid_t fake_vm(bool deaf)
{
	int ready[2];
	char b;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGTERM, deaf ? SIG_IGN : SIG_DFL);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &b, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static const char *const recurring[] = {"OCF_RESKEY_CRM_meta_interval=10000", "OCF_RESKEY_CRM_meta_timeout=500", NULL};
static const char *const promoted[] = {"OCF_RESKEY_CRM_meta_interval=10000", "OCF_RESKEY_CRM_meta_timeout=500",
				       "OCF_RESKEY_CRM_meta_role=Promoted", NULL};
static const char *const oneshot[] = {"OCF_RESKEY_CRM_meta_timeout=500", NULL};

static void daemon_decides(void **state)
{
	struct world *w = *state;
	start_server(w);
	for (w->ocf = 0; w->ocf <= 9; w->ocf++) {
		w->reason = w->ocf == 1 ? "a reason" : NULL;
		static const char *const names[] = {"start", "stop", "monitor", "promote", "demote", "reload-agent", "validate-all"};
		for (unsigned i = 0; i < 7; i++) {
			/* a stop that the daemon cannot do is done from the facts: nothing runs here */
			int want = i == 1 ? 0 : w->ocf;
			assert_int_equal(run(w, names[i], promoted), want);
			if (w->ocf == 1 && i != 1)
				assert_string_equal(w->err, "ocf-exit-reason:a reason\n");
		}
	}
	assert_string_equal(json_string_value(json_object_get(w->last, "cmd")), "validate");
	w->ocf = 8;
	run(w, "monitor", promoted);
	assert_string_equal(json_string_value(json_object_get(w->last, "cmd")), "monitor");
	assert_string_equal(json_string_value(json_object_get(w->last, "pair")), "vmptest-web");
	assert_string_equal(json_string_value(json_object_get(w->last, "rsc")), "vm-web");
	assert_string_equal(json_string_value(json_object_get(w->last, "role")), "Promoted");
	assert_string_equal(json_string_value(json_object_get(w->last, "node")), "n1");
	assert_int_equal(json_integer_value(json_object_get(w->last, "interval_ms")), 10000);
	json_t *params = json_object_get(w->last, "params");
	assert_int_equal(json_object_size(params), 4);
	assert_string_equal(json_string_value(json_object_get(params, "entry_nic")), "br0");
}

static void long_reasons_are_cut(void **state)
{
	struct world *w = *state;
	char longish[400];
	start_server(w);
	memset(longish, 'r', sizeof(longish) - 1);
	longish[sizeof(longish) - 1] = '\0';
	longish[150] = '\n';
	w->reason = longish;
	w->ocf = 1;
	assert_int_equal(run(w, "promote", oneshot), 1);
	assert_int_equal(strlen(w->err), strlen("ocf-exit-reason:") + 128 + 1);
	assert_non_null(strstr(w->err, "...\n"));
}

static void bad_parameters_never_reach_the_daemon(void **state)
{
	struct world *w = *state;
	start_server(w);
	static const char *const bad_entry[] = {"OCF_RESKEY_entry=nonsense", NULL}, *const unknown[] = {"OCF_RESKEY_colour=red", NULL},
		*const no_file[] = {"OCF_RESKEY_domain=/nonexistent.xml", NULL}, *const no_name[] = {"OCF_RESKEY_pair=", NULL};
	assert_int_equal(run(w, "start", bad_entry), 6);
	assert_non_null(strstr(w->err, "ocf-exit-reason:parameter entry: 'nonsense'"));
	assert_int_equal(run(w, "validate-all", unknown), 6);
	assert_non_null(strstr(w->err, "unknown parameter"));
	assert_int_equal(run(w, "start", no_file), 5);
	assert_int_equal(run(w, "reload-agent", bad_entry), 6);
	assert_int_equal(run(w, "stop", no_name), 0);	/* must not fail: the node would be fenced */
	assert_int_equal(run(w, "monitor", no_name), 7);
	assert_int_equal(w->requests, 0);
}

static void silence_is_never_7_while_the_vm_runs(void **state)
{
	struct world *w = *state;
	pid_t vm = fake_vm(false);
	for (int hang = 0; hang < 2; hang++) {
		if (hang) {
			start_server(w);
			w->mode = HANG;
		}
		write_facts(w, vm, VMP_TOLD_UNPROMOTED, true);
		assert_int_equal(run(w, "monitor", recurring), 0);
		assert_int_equal(run(w, "monitor", oneshot), 0);
		assert_int_equal(run(w, "monitor", promoted), 8);
		assert_true(w->took_ms < 1500);
		write_facts(w, vm, VMP_TOLD_PROMOTED, true);
		assert_int_equal(run(w, "monitor", recurring), 8);
		assert_int_equal(run(w, "monitor", oneshot), 8);
		assert_int_equal(run(w, "demote", oneshot), 0);
		assert_int_equal(run(w, "promote", oneshot), 1);
		assert_int_equal(run(w, "start", oneshot), 1);
		assert_true(w->took_ms < 1500);
		assert_int_equal(run(w, "reload-agent", oneshot), 1);
	}
	assert_int_equal(kill(vm, SIGKILL), 0);
	assert_int_equal(waitpid(vm, NULL, 0), vm);
}

static void accepted_but_not_answered(void **state)
{
	struct world *w = *state;
	pid_t vm = fake_vm(false);
	start_server(w);
	w->mode = IGNORE;
	write_facts(w, vm, VMP_TOLD_PROMOTED, true);
	assert_int_equal(run(w, "monitor", recurring), 8);
	assert_true(w->took_ms < 1500);
	assert_int_equal(kill(vm, SIGKILL), 0);
	assert_int_equal(waitpid(vm, NULL, 0), vm);
	assert_int_equal(run(w, "monitor", recurring), 1);
}

static void vm_gone_and_daemon_silent(void **state)
{
	struct world *w = *state;
	write_facts(w, getpid(), VMP_TOLD_PROMOTED, false);	/* the number now belongs to another process */
	assert_int_equal(run(w, "monitor", recurring), 1);
	assert_non_null(strstr(w->err, "ocf-exit-reason:"));
	assert_int_equal(run(w, "monitor", oneshot), 7);
	assert_int_equal(run(w, "stop", oneshot), 0);
	assert_int_equal(run(w, "demote", oneshot), 0);
}

static void damaged_facts_are_no_proof(void **state)
{
	struct world *w = *state;
	char file[128];
	write_facts(w, 0, VMP_TOLD_UNPROMOTED, true);
	snprintf(file, sizeof(file), "%s/vmptest-web.json", w->facts);
	assert_int_equal(truncate(file, 10), 0);
	assert_int_equal(run(w, "monitor", oneshot), 1);
	assert_int_equal(run(w, "stop", oneshot), 1);
}

static void stop_ends_the_vm_itself(void **state)
{
	struct world *w = *state;
	for (int deaf = 0; deaf < 2; deaf++) {
		pid_t vm = fake_vm(deaf);
		write_facts(w, vm, VMP_TOLD_UNPROMOTED, true);
		/* as a child of ours it stays a zombie, which counts as gone */
		assert_int_equal(run(w, "stop", oneshot), 0);
		int status;
		assert_int_equal(waitpid(vm, &status, WNOHANG), vm);
		assert_int_equal(WTERMSIG(status), deaf ? SIGKILL : SIGTERM);
	}
	/* the daemon answers, but cannot */
	pid_t vm = fake_vm(false);
	write_facts(w, vm, VMP_TOLD_UNPROMOTED, true);
	start_server(w);
	w->ocf = 1;
	assert_int_equal(run(w, "stop", oneshot), 0);
	assert_int_equal(waitpid(vm, NULL, WNOHANG), vm);
	/* the daemon takes the request and never answers */
	vm = fake_vm(false);
	write_facts(w, vm, VMP_TOLD_UNPROMOTED, true);
	w->mode = IGNORE;
	assert_int_equal(run(w, "stop", oneshot), 0);
	assert_true(w->took_ms < 2000);
	assert_int_equal(waitpid(vm, NULL, WNOHANG), vm);
}

static void vm_without_facts_is_found_by_name(void **state)
{
	struct world *w = *state;
	pid_t pid;
	char *argv[] = {(char *)"vmptest-qemu", (char *)"-c", (char *)"read x", (char *)"-name",
			(char *)"guest=vmptest-web,debug-threads=on", NULL};
	int in[2];
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	assert_int_equal(posix_spawn(&pid, "/bin/sh", &fa, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&fa);
	assert_int_equal(run(w, "monitor", recurring), 0);
	assert_int_equal(run(w, "monitor", promoted), 8);
	assert_int_equal(run(w, "monitor", oneshot), 0);
	assert_int_equal(run(w, "stop", oneshot), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), pid);
	close(in[0]);
	close(in[1]);
	assert_int_equal(run(w, "monitor", oneshot), 7);
}

static void daemon_restarts_during_a_request(void **state)
{
	struct world *w = *state;
	start_server(w);
	w->mode = DROP_ONCE;
	w->ocf = 0;
	assert_int_equal(run(w, "promote", oneshot), 0);
	assert_int_equal(w->requests, 2);
}

static void daemon_that_is_not_ready_yet(void **state)
{
	struct world *w = *state;
	start_server(w);
	w->mode = RETRY_ONCE;
	w->ocf = 0;
	assert_int_equal(run(w, "start", oneshot), 0);
	assert_int_equal(w->requests, 2);
	/* it never is: the facts decide */
	pid_t vm = fake_vm(false);
	write_facts(w, vm, VMP_TOLD_PROMOTED, true);
	w->mode = RETRY;
	assert_int_equal(run(w, "monitor", recurring), 8);
	assert_int_equal(run(w, "promote", oneshot), 1);
	/* it answers, but knows nothing of a VM whose process lives */
	w->mode = ANSWER;
	w->ocf = 7;
	assert_int_equal(run(w, "monitor", recurring), 8);
	w->ocf = 0;
	assert_int_equal(run(w, "stop", oneshot), 0);
	assert_int_equal(waitpid(vm, NULL, WNOHANG), vm);
	w->ocf = 7;
	assert_int_equal(run(w, "monitor", recurring), 7);
}

static void monitor_is_quick(void **state)
{
	struct world *w = *state;
	start_server(w);
	int64_t best = 1000;
	w->ocf = 8;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(run(w, "monitor", promoted), 8);
		best = w->took_ms < best ? w->took_ms : best;
	}
	print_message("# monitor: best of 10 took %lld ms\n", (long long)best);
	assert_true(best <= 50);
}

int main(void)
{
	if (access(AGENT, X_OK) < 0) {
		printf("%s is not here: run from the build directory\n", AGENT);
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(daemon_decides, setup, teardown),
		cmocka_unit_test_setup_teardown(long_reasons_are_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_parameters_never_reach_the_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(silence_is_never_7_while_the_vm_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(accepted_but_not_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(vm_gone_and_daemon_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_facts_are_no_proof, setup, teardown),
		cmocka_unit_test_setup_teardown(stop_ends_the_vm_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(vm_without_facts_is_found_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(daemon_restarts_during_a_request, setup, teardown),
		cmocka_unit_test_setup_teardown(daemon_that_is_not_ready_yet, setup, teardown),
		cmocka_unit_test_setup_teardown(monitor_is_quick, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
