/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logging of the programs. Messages are formatted by the caller and written by a thread of their own, so a slow terminal,
 * pipe or disk never delays the event loop; when the queue (1024 messages) is full a message is dropped and the number of
 * dropped ones is logged later. Levels are those of syslog(3): NOTICE = something an operator wants to know happened,
 * WARNING = works but needs a look, ERR = something asked for could not be done, INFO/DEBUG = for trouble-shooting.
 * Thread-safe. Before vmp_log_open() messages go to stderr directly.
 */
#ifndef VMP_LOG_H
#define VMP_LOG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

enum vmp_log_style {
	VMP_LOG_PLAIN,   /* local time with milliseconds, level, text: for a terminal or a file */
	VMP_LOG_JOURNAL, /* "<level>text" as systemd's journal reads it on stderr */
};

/* Start the writer thread; `fd` stays the caller's. Returns 0 or -errno. */
int vmp_log_open(int fd, enum vmp_log_style style, int max_level);
/* Write out what is queued and stop the thread. */
void vmp_log_close(void);
void vmp_log_set_level(int max_level);
void vmp_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * Files of lines that programs read: open one to append to it (0600; half a line at its end, which a crash has left, is
 * cut off), and write a line now: all of it, or nothing, since half a line would spoil the next one too. For the one writer
 * of a file. Return a descriptor, 0, or -errno.
 */
int vmp_log_file_open(const char *path);
int vmp_log_write(int fd, const char *line, size_t len);
/* Append a finished line (with its newline) to another descriptor in the same order-keeping, non-blocking way. */
void vmp_log_line_to(int fd, const char *line, size_t len);

/*
 * At most one message per interval for one cause: returns 0 to stay silent, else 1 + the number of times it stayed
 * silent since the last message. `state` starts zeroed. Times in CLOCK_BOOTTIME ns.
 */
struct vmp_ratelimit {
	uint64_t next_ns;
	unsigned suppressed;
};
unsigned vmp_ratelimit_pass(struct vmp_ratelimit *state, uint64_t now_ns, uint64_t interval_ns);

#endif
