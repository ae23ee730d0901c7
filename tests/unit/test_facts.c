/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/facts.h"
#include "daemon/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static char dir[64];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/vmp-facts-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static struct vmp_facts sample(const char *name, json_t *params)
{
	struct vmp_facts f = {.pid = 4711, .start_time = 123456789012, .primary = true, .epoch = 1282, .told = VMP_TOLD_PROMOTED, .params = params};
	snprintf(f.pair, sizeof(f.pair), "%s", name);
	snprintf(f.rsc, sizeof(f.rsc), "vm-%s", name);
	snprintf(f.vrrp, sizeof(f.vrrp), "MASTER");
	f.has_nic = f.entry_multi_queue = true;
	memcpy(f.entry_mac, "\x52\x54\x00\x77\x01\x0f", 6);
	return f;
}

static void written_facts_are_read_again(void **state)
{
	(void)state;
	json_t *params = json_pack("{s:s s:s}", "pair", "web", "entry", "10.0.0.1/24");
	struct vmp_facts f = sample("web", params), r;
	char sub[128];
	snprintf(sub, sizeof(sub), "%s/pairs", dir);
	assert_int_equal(vmp_facts_read(sub, "web", &r), -ENOENT);
	assert_int_equal(vmp_facts_write(sub, &f), 0);
	struct stat st;
	assert_int_equal(stat(sub, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(vmp_facts_read(sub, "web", &r), 0);
	assert_string_equal(r.pair, "web");
	assert_string_equal(r.rsc, "vm-web");
	assert_int_equal(r.pid, 4711);
	assert_int_equal(r.start_time, 123456789012);
	assert_true(r.primary);
	assert_int_equal(r.epoch, 1282);
	assert_int_equal(r.told, VMP_TOLD_PROMOTED);
	assert_string_equal(r.vrrp, "MASTER");
	assert_true(r.has_nic && r.entry_multi_queue);
	assert_memory_equal(r.entry_mac, f.entry_mac, 6);
	assert_true(json_equal(r.params, params));
	vmp_facts_done(&r);
	json_decref(params);
	assert_int_equal(vmp_facts_remove(sub, "web"), 0);
	assert_int_equal(vmp_facts_remove(sub, "web"), 0);
	assert_int_equal(vmp_facts_read(sub, "web", &r), -ENOENT);
	assert_int_equal(vmp_facts_read(sub, "../web", &r), -EINVAL);
	assert_int_equal(rmdir(sub), 0);
}

static void put_file(const char *name, const char *text)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void damaged_or_old_files_are_refused(void **state)
{
	(void)state;
	struct vmp_facts r;
	static const char *const bad[] = {
		"", "{", "{}", "[]", "{\"v\":1}",
		"{\"v\":2,\"boot\":\"x\",\"pair\":\"a\",\"rsc\":\"a\",\"pid\":1,\"start_time\":1,\"member\":1,\"primary\":true,\"epoch\":1,\"told\":\"promoted\",\"params\":{}}",
		"{\"v\":1,\"boot\":\"x\",\"pair\":\"b\",\"rsc\":\"a\",\"pid\":1,\"start_time\":1,\"member\":1,\"primary\":true,\"epoch\":1,\"told\":\"promoted\",\"params\":{}}",
		"{\"v\":1,\"boot\":\"x\",\"pair\":\"a\",\"rsc\":\"a\",\"pid\":-1,\"start_time\":1,\"member\":1,\"primary\":true,\"epoch\":1,\"told\":\"promoted\",\"params\":{}}",
		"{\"v\":1,\"boot\":\"x\",\"pair\":\"a\",\"rsc\":\"a\",\"pid\":1,\"start_time\":1,\"member\":1,\"primary\":true,\"epoch\":1,\"told\":\"promoted\",\"params\":[]}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_file("a.json", bad[i]);
		assert_int_equal(vmp_facts_read(dir, "a", &r), -EBADMSG);
	}
	put_file("a.json", "{\"v\":1,\"boot\":\"other\",\"pair\":\"a\",\"rsc\":\"a\",\"pid\":1,\"start_time\":1,\"member\":1,\"primary\":true,\"epoch\":1,"
			   "\"told\":\"promoted\",\"params\":{}}");
	assert_int_equal(vmp_facts_read(dir, "a", &r), -ESTALE);
}

static int count(const struct vmp_facts *f, void *data)
{
	assert_non_null(f->params);
	++*(int *)data;
	return 0;
}

static int stop_at_first(const struct vmp_facts *f, void *data)
{
	(void)f;
	++*(int *)data;
	return -ECANCELED;
}

static void all_files_are_visited(void **state)
{
	(void)state;
	json_t *params = json_object();
	static const char *const names[] = {"one", "two.x", "three"};
	int n = 0;
	for (int i = 0; i < 3; i++) {
		struct vmp_facts f = sample(names[i], params);
		assert_int_equal(vmp_facts_write(dir, &f), 0);
	}
	put_file("broken.json", "{");
	put_file("one.new", "{");
	put_file(".json", "{}");
	assert_int_equal(vmp_facts_each(dir, count, &n), 0);
	assert_int_equal(n, 3);
	n = 0;
	assert_int_equal(vmp_facts_each(dir, stop_at_first, &n), -ECANCELED);
	assert_int_equal(n, 1);
	assert_int_equal(vmp_facts_each("/nonexistent/x", count, &n), 0);
	json_decref(params);
}

static void process_is_told_from_another_of_the_same_number(void **state)
{
	(void)state;
	struct vmp_facts f = {.pid = getpid()};
	assert_int_equal(vmp_proc_start_time(f.pid, &f.start_time), 0);
	assert_int_equal(vmp_facts_vm_running(&f), 1);
	f.start_time++;
	assert_int_equal(vmp_facts_vm_running(&f), 0);
	f.pid = 0;
	assert_int_equal(vmp_facts_vm_running(&f), 0);

	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char b;
		close(fds[1]);
		_exit(read(fds[0], &b, 1) == 0 ? 0 : 1);
	}
	f.pid = pid;
	assert_int_equal(vmp_proc_start_time(pid, &f.start_time), 0);
	assert_int_equal(vmp_facts_vm_running(&f), 1);
	close(fds[1]);
	siginfo_t si;
	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
	assert_int_equal(vmp_facts_vm_running(&f), 0);	/* a zombie runs no more */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(vmp_facts_vm_running(&f), 0);
	assert_int_equal(vmp_proc_start_time(pid, &f.start_time), -ESRCH);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(written_facts_are_read_again, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_or_old_files_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(all_files_are_visited, setup, teardown),
		cmocka_unit_test(process_is_told_from_another_of_the_same_number),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
