/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/proc.h"

#define UUID "0b0b0b0b-1c1c-8d1d-9e1e-0f0f0f0f0f0f"

/* A process that looks like a VM to us: its arguments are those of qemu, it does nothing until it is killed. */
static pid_t fake_vm(const char *uuid)
{
	static int input[2] = { -1, -1 }; /* kept open: what the process waits for never comes */
	int ready[2];
	pid_t pid;
	char c;

	if (input[0] < 0)
		assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(input[0], STDIN_FILENO);
		execl("/bin/sh", "sh", "-c", "read x; :", "-name", "guest=x", "-uuid", uuid, "-S", (char *)NULL);
		_exit(127);
	}
	/* exec closes our pipe: from then on the command line is the new one */
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 0);
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void identity(void **state)
{
	uint64_t a = 0, b = 0, other;
	int fd = -1, none = -1;
	pid_t pid;
	(void)state;

	assert_int_equal(vmp_proc_start_time(getpid(), &a), 0);
	assert_int_equal(vmp_proc_start_time(0, &a), -ESRCH);
	assert_int_equal(vmp_proc_start_time(-5, &a), -ESRCH);
	pid = fake_vm(UUID);
	assert_int_equal(vmp_proc_open(pid, &b, &fd), 0);
	assert_true(b >= a);
	other = b + 1;
	assert_int_equal(vmp_proc_open(pid, &other, &none), -ESRCH);
	assert_int_equal(none, -1);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(vmp_proc_gone(fd), 0);
	assert_int_equal(vmp_proc_wait(fd, 1), -ETIMEDOUT);
	assert_int_equal(vmp_proc_kill(fd, SIGKILL), 0);
	assert_int_equal(vmp_proc_wait(fd, 5000), 0);
	/* ended but not reaped: gone all the same */
	assert_int_equal(vmp_proc_gone(fd), 1);
	assert_int_equal(vmp_proc_open(pid, &b, &none), -ESRCH);
	waitpid(pid, NULL, 0);
	assert_int_equal(vmp_proc_kill(fd, SIGKILL), -ESRCH);
	assert_int_equal(vmp_proc_open(pid, &b, &none), -ESRCH);
	close(fd);
}

static void odd_name(void **state)
{
	uint64_t a, b;
	(void)state;

	assert_int_equal(vmp_proc_start_time(getpid(), &a), 0);
	prctl(PR_SET_NAME, "a) S 1 (x y");
	assert_int_equal(vmp_proc_start_time(getpid(), &b), 0);
	assert_true(a == b);
}

static void find(void **state)
{
	char dir[] = "/tmp/vmp-proc-XXXXXX", path[64];
	uint64_t start;
	pid_t pid = fake_vm(UUID), found = 0;
	int fd = -1;
	FILE *f;
	(void)state;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/web.pid", dir);
	assert_int_equal(vmp_proc_is_vm(pid, UUID), 1);
	assert_int_equal(vmp_proc_is_vm(pid, "0b0b0b0b-1c1c-8d1d-9e1e-0f0f0f0f0f00"), 0);
	assert_int_equal(vmp_proc_is_vm(getpid(), UUID), 0);
	assert_int_equal(vmp_proc_find_vm(dir, "web", UUID, false, &found, &start, &fd), -ESRCH);

	assert_int_equal(vmp_proc_find_vm(dir, "web", UUID, true, &found, &start, &fd), 0);
	assert_int_equal(found, pid);
	close(fd);

	/* a stale pid file that names somebody else's process */
	f = fopen(path, "w");
	fprintf(f, "%d\n", (int)getpid());
	fclose(f);
	assert_int_equal(vmp_proc_find_vm(dir, "web", UUID, false, &found, &start, &fd), -ESRCH);
	f = fopen(path, "w");
	fprintf(f, "nonsense");
	fclose(f);
	assert_int_equal(vmp_proc_find_vm(dir, "web", UUID, false, &found, &start, &fd), -ESRCH);
	f = fopen(path, "w");
	fprintf(f, "%d\n", (int)pid);
	fclose(f);
	found = 0;
	assert_int_equal(vmp_proc_find_vm(dir, "web", UUID, false, &found, &start, &fd), 0);
	assert_int_equal(found, pid);
	close(fd);
	end(pid);
	assert_int_equal(vmp_proc_find_vm(dir, "web", UUID, true, &found, &start, &fd), -ESRCH);
	unlink(path);
	rmdir(dir);
}

static void helpers(void **state)
{
	char *ok[] = { (char *)"sh", (char *)"-c", (char *)"echo out; echo err >&2; exit 3", NULL };
	char *lots[] = { (char *)"sh", (char *)"-c",
			 (char *)"i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890; i=$((i+1)); "
				 "done",
			 NULL };
	char *hang[] = { (char *)"sh", (char *)"-c", (char *)"echo begun; exec sleep 20", NULL };
	char *killed[] = { (char *)"sh", (char *)"-c", (char *)"kill -9 $$", NULL };
	char *left[] = { (char *)"sh", (char *)"-c", (char *)"exec 3>&1; (trap '' HUP; exec sleep 20 >&3) & echo $!",
			 NULL };
	char *missing[] = { (char *)"vmp-no-such-program", NULL };
	char out[64];
	(void)state;

	assert_int_equal(vmp_proc_run(ok, 5000, out, sizeof(out)), 3);
	assert_string_equal(out, "out\nerr");
	assert_int_equal(vmp_proc_run(lots, 10000, out, sizeof(out)), 0);
	assert_int_equal(strlen(out), sizeof(out) - 1);
	assert_int_equal(vmp_proc_run(hang, 100, out, sizeof(out)), -ETIMEDOUT);
	assert_string_equal(out, "begun");
	assert_int_equal(vmp_proc_run(killed, 5000, out, sizeof(out)), -ECANCELED);
	assert_int_equal(vmp_proc_run(missing, 5000, out, sizeof(out)), -ENOENT);
	assert_string_equal(out, "");
	/* a grandchild that keeps the pipe open holds nobody up */
	assert_int_equal(vmp_proc_run(left, 5000, out, sizeof(out)), 0);
	kill((pid_t)atoi(out), SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity),
		cmocka_unit_test(odd_name),
		cmocka_unit_test(find),
		cmocka_unit_test(helpers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
