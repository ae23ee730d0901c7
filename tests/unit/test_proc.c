/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
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

static void *sleeper(void *arg)
{
	prctl(PR_SET_NAME, (const char *)arg);
	for (;;)
		pause();
	return NULL;
}

static void *ends(void *arg)
{
	char c;

	prctl(PR_SET_NAME, "CPU 1/X");
	if (read(*(int *)arg, &c, 1) < 0)
		abort();
	return NULL;
}

/* What a killed process with much memory looks like: a thread of it has ended, another one has not. */
static void threads(void **state)
{
	static const char *const names[] = { "CPU ", NULL };
	int fd[8], go[2], up[2], ended = 0, whole = -1;
	struct pollfd pf[3];
	uint64_t start = 0;
	unsigned int n;
	pid_t pid;
	char c = 0;
	(void)state;

	n = vmp_proc_threads(getpid(), names, fd, 8);
	if (n == 0)
		skip(); /* a kernel without pidfds of threads */
	assert_int_equal(n, 1);
	close(fd[0]);
	assert_int_equal(vmp_proc_threads(0x7ffffff0, names, fd, 8), 0);

	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pthread_t t;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&t, NULL, sleeper, (void *)(uintptr_t) "CPU 0/X");
		pthread_create(&t, NULL, sleeper, (void *)(uintptr_t) "worker");
		pthread_create(&t, NULL, ends, &go[0]);
		for (;;) { /* ready when all have their names */
			n = vmp_proc_threads(getpid(), names, fd, 8);
			for (unsigned int i = 0; i < n; i++)
				close(fd[i]);
			if (n == 3)
				break;
			usleep(1000);
		}
		if (write(up[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(up[0], &c, 1), 1);
	assert_int_equal(vmp_proc_threads(pid, names, fd, 2), 2);
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(vmp_proc_threads(pid, names, fd, 8), 3);
	assert_int_equal(vmp_proc_open(pid, &start, &whole), 0);
	assert_false(vmp_proc_ending(pid));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fcntl(fd[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		assert_int_equal(vmp_proc_gone(fd[i]), 0);
		pf[i] = (struct pollfd){ .fd = fd[i], .events = POLLIN };
	}
	/* one of them ends by itself: that is not the end of the process */
	assert_int_equal(write(go[1], &c, 1), 1);
	assert_int_equal(poll(pf, 3, 5000), 1);
	for (int i = 0; i < 3; i++)
		ended += pf[i].revents != 0;
	assert_int_equal(ended, 1);
	assert_false(vmp_proc_ending(pid));
	assert_int_equal(vmp_proc_gone(whole), 0);
	kill(pid, SIGKILL);
	for (int tries = 0; !vmp_proc_ending(pid) && tries < 5000; tries++) /* a thread that has just taken the signal does not show it for a moment */
		usleep(1000);
	assert_true(vmp_proc_ending(pid));
	assert_int_equal(vmp_proc_wait(whole, 5000), 0);
	assert_true(vmp_proc_ending(pid));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(vmp_proc_gone(fd[i]), 1);
		close(fd[i]);
	}
	waitpid(pid, NULL, 0);
	assert_true(vmp_proc_ending(pid));
	close(whole);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(up[i]);
	}
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
		cmocka_unit_test(threads),
		cmocka_unit_test(find),
		cmocka_unit_test(helpers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
