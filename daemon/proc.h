/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes known for sure: a process is named by (pid, start time), held by a pidfd, and never mixed up with a later
 * one of the same number. Start times are clock ticks since boot, as in /proc/PID/stat field 22.
 *
 * Any thread; nothing blocks unless said so. Negative errno; -ESRCH = no such process (any more).
 */
#ifndef VMP_PROC_H
#define VMP_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int vmp_proc_start_time(pid_t pid, uint64_t *ret_ticks);
/*
 * Opens a pidfd (O_CLOEXEC) of `pid`. *start: 0 = any, filled in; else the process must have that start time. The check
 * is made after the pidfd is open, so that what it names is what was checked.
 */
int vmp_proc_open(pid_t pid, uint64_t *start, int *ret_pidfd);
/* Sends a signal; -ESRCH when it has ended. */
int vmp_proc_kill(int pidfd, int sig);
/* 1 when the process has ended (reaped or not), 0 when it lives. */
int vmp_proc_gone(int pidfd);
/*
 * Threads of `pid` that last as long as it does: the main one, and those whose name begins with one of `names` (ends with
 * NULL), max pidfds in all, which become readable when the thread has ended. A killed process is freed by its last thread,
 * which takes long where it has much memory (22 ms for 128 MiB in small pages, seconds for large guests); the others end at
 * once. Returns how many; 0 where the kernel has no pidfds of threads (before 6.9).
 */
unsigned int vmp_proc_threads(pid_t pid, const char *const *names, int *ret_pidfds, unsigned int max);
/* The process is past return: killed or exiting, or gone; asked when a thread has ended, which alone may mean little. */
bool vmp_proc_ending(pid_t pid);
/* 0 when it ended within timeout_ms (blocks: not for the loop), -ETIMEDOUT. */
int vmp_proc_wait(int pidfd, int timeout_ms);

/* 1 when the arguments of `pid` contain `uuid` right after "-uuid", 0 when not: is it the VM with this uuid? */
int vmp_proc_is_vm(pid_t pid, const char *uuid);
/* Finds the VM with this uuid: first by libvirt's PID_DIR/NAME.pid, then among all processes when `scan`. -ESRCH: none.
 */
int vmp_proc_find_vm(const char *pid_dir, const char *name, const char *uuid, bool scan, pid_t *ret_pid,
		     uint64_t *ret_start, int *ret_pidfd);

/*
 * Runs a helper program to its end: blocks for timeout_ms at most, then kills it (-ETIMEDOUT). Its standard output and
 * error go to `out` (cut to size, always ended). Returns its exit status (0..255), or a negative errno; -ECANCELED =
 * ended by a signal. Signal mask and handlers of the helper are the default ones.
 */
int vmp_proc_run(char *const argv[], int timeout_ms, char *out, size_t out_size);

#endif
