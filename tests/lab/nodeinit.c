/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nodeinit NETNS HOSTNAME PIDFILE COMMAND [ARG...]
 *
 * Makes a lab node: enters the network namespace, makes mount, pid, uts and ipc namespaces, and stays in them as
 * process 1, which reaps every orphan (libvirt waits long for a killed qemu that nobody reaps). COMMAND sets the node
 * up from inside; the caller's nodeinit ends with its exit status once it is done, leaving the node running. PIDFILE
 * gets process 1's id as the caller sees it. SIGTERM to process 1 ends the node, so does SIGKILL (power loss).
 */
#include <config.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "nodeinit: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void write_pid(const char *path, pid_t pid)
{
	FILE *f = fopen(path, "we");

	if (!f || fprintf(f, "%ld\n", (long)pid) < 0 || fclose(f) != 0)
		die(path);
}

/* The node's life: reap until told to end. The set-up's status goes to the caller through `ready`. */
__attribute__((noreturn)) static void live(pid_t setup, int ready, const sigset_t *mask)
{
	for (;;) {
		int status, sig;
		pid_t pid;

		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid != setup)
				continue;
			unsigned char rc = WIFEXITED(status) ? (unsigned char)WEXITSTATUS(status) : 125;
			if (write(ready, &rc, 1) < 0 || rc != 0)
				exit(rc);
			close(ready);
			/* nothing of the caller may be held open by the node */
			int null = open("/dev/null", O_RDWR);
			if (null >= 0) {
				for (int fd = 0; fd < 3; fd++)
					dup2(null, fd);
				if (null > 2)
					close(null);
			}
		}
		sig = sigwaitinfo(mask, NULL);
		if (sig == SIGTERM || sig == SIGINT)
			exit(0); /* the kernel kills everything else in the pid namespace */
	}
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: nodeinit NETNS HOSTNAME PIDFILE COMMAND [ARG...]\n");
		return 2;
	}

	int netns = open(argv[1], O_RDONLY | O_CLOEXEC), ready[2];
	if (netns < 0 || setns(netns, CLONE_NEWNET) < 0)
		die(argv[1]);
	close(netns);
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC) < 0)
		die("unshare");
	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe2");

	pid_t node = fork();
	if (node < 0)
		die("fork");
	if (node > 0) {
		unsigned char rc = 125;
		write_pid(argv[3], node);
		close(ready[1]);
		if (read(ready[0], &rc, 1) < 1)
			rc = 125;
		return rc;
	}

	/* process 1: descriptors of the caller (locks, pipes) must not live as long as the node */
	if (dup2(ready[1], 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0)
		die("dup2");
	close_range(4, ~0U, 0);
	setsid();
	sigset_t mask, old;
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, &old);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		die("mount");
	if (sethostname(argv[2], strlen(argv[2])) < 0)
		die("sethostname");

	pid_t setup = fork();
	if (setup < 0)
		die("fork");
	if (setup == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		execvp(argv[4], argv + 4);
		die(argv[4]);
	}
	live(setup, 3, &mask);
}
