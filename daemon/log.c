/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"

enum { QUEUE_LEN = 1024, LINE_MAX_LEN = 768 };

struct line {
	int fd;
	unsigned short len;
	char text[LINE_MAX_LEN];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	bool running, stop;
	int fd, max_level;
	enum vmp_log_style style;
	unsigned head, count;
	unsigned long dropped;
	struct line queue[QUEUE_LEN];
} lg = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .fd = STDERR_FILENO, .max_level = LOG_INFO };

static const char *level_name(int level)
{
	static const char *const names[] = { "emerg", "alert", "crit", "error", "warning", "notice", "info", "debug" };

	return level >= 0 && level < (int)ARRAY_SIZE(names) ? names[level] : "?";
}

int vmp_log_write(int fd, const char *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, p + done, len - done);
		struct stat st;
		int r, flags;

		if (n < 0 && errno == EINTR)
			continue;
		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		r = n < 0 ? -errno : -EIO;
		flags = fcntl(fd, F_GETFL);
		/* where the next one goes is the end only with O_APPEND */
		if (done && flags >= 0 && flags & O_APPEND && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size >= done &&
		    ftruncate(fd, st.st_size - (off_t)done) < 0)
			return -errno;
		return r;
	}
	return 0;
}

int vmp_log_file_open(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char end[4096];
	struct stat st;
	off_t from;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	from = st.st_size > (off_t)sizeof(end) ? st.st_size - (off_t)sizeof(end) : 0;
	n = S_ISREG(st.st_mode) ? pread(fd, end, sizeof(end), from) : 0;
	if (n < 0)
		return -errno;
	while (n > 0 && end[n - 1] != '\n')
		n--;
	/* One that is longer than what was read is none of ours: left as it is; and half a line is better than no log. */
	if ((n > 0 || from == 0) && from + n < st.st_size && S_ISREG(st.st_mode) && ftruncate(fd, from + n) < 0)
		vmp_log(LOG_WARNING, "%s: half a line at its end stays: %s", path, strerror(errno));
	return TAKE_FD(fd);
}

__attribute__((format(printf, 5, 0)))
static size_t format_line(char *buf, size_t cap, int level, enum vmp_log_style style, const char *fmt, va_list ap)
{
	size_t n = 0;
	int r;

	if (style == VMP_LOG_JOURNAL) {
		n = (size_t)snprintf(buf, cap, "<%d>", level);
	} else {
		struct timespec ts;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		n = strftime(buf, cap, "%F %T", &tm);
		n += (size_t)snprintf(buf + n, cap - n, ".%03ld %s: ", ts.tv_nsec / 1000000, level_name(level));
	}
	r = vsnprintf(buf + n, cap - n - 1, fmt, ap);
	if (r > 0)
		n += (size_t)r < cap - n - 1 ? (size_t)r : cap - n - 2;
	for (size_t i = 0; i < n; i++) /* one message is one line, whatever a peer or an XML file put into it */
		if ((unsigned char)buf[i] < 0x20)
			buf[i] = ' ';
	buf[n++] = '\n';
	return n;
}

__attribute__((format(printf, 1, 2)))
static void tell(const char *fmt, ...) /* by the writer itself */
{
	char buf[160];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (n > 0)
		vmp_log_write(lg.fd, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1);
}

static void *writer(void *arg)
{
	static struct line batch[64];

	(void)arg;
	pthread_mutex_lock(&lg.lock);
	for (;;) {
		unsigned n = 0;
		unsigned long dropped, unwritten = 0;
		int why = 0;

		while (lg.count == 0 && !lg.stop)
			pthread_cond_wait(&lg.wake, &lg.lock);
		if (lg.count == 0)
			break;
		while (n < ARRAY_SIZE(batch) && lg.count > 0) {
			batch[n++] = lg.queue[lg.head];
			lg.head = (lg.head + 1) % QUEUE_LEN;
			lg.count--;
		}
		dropped = lg.dropped;
		lg.dropped = 0;
		pthread_mutex_unlock(&lg.lock);
		for (unsigned i = 0; i < n; i++) {
			int r = vmp_log_write(batch[i].fd, batch[i].text, batch[i].len);

			if (r < 0 && batch[i].fd != lg.fd) { /* of the log itself there is nowhere left to report it */
				unwritten++;
				why = -r;
			}
		}
		if (dropped)
			tell("(%lu log messages dropped)\n", dropped);
		if (unwritten)
			tell("(events not written: %lu, %s; they are kept in memory only)\n", unwritten, strerror(why));
		pthread_mutex_lock(&lg.lock);
	}
	pthread_mutex_unlock(&lg.lock);
	return NULL;
}

int vmp_log_open(int fd, enum vmp_log_style style, int max_level)
{
	sigset_t all, old;
	int r;

	lg.fd = fd;
	lg.style = style;
	lg.max_level = max_level;
	lg.stop = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals belong to the loop's thread */
	r = pthread_create(&lg.thread, NULL, writer, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	lg.running = true;
	return 0;
}

void vmp_log_close(void)
{
	if (!lg.running)
		return;
	pthread_mutex_lock(&lg.lock);
	lg.stop = true;
	pthread_cond_signal(&lg.wake);
	pthread_mutex_unlock(&lg.lock);
	pthread_join(lg.thread, NULL);
	lg.running = false;
}

void vmp_log_set_level(int max_level)
{
	__atomic_store_n(&lg.max_level, max_level, __ATOMIC_RELAXED);
}

void vmp_log_line_to(int fd, const char *text, size_t len)
{
	bool cut = len > LINE_MAX_LEN;

	if (cut)
		len = LINE_MAX_LEN;
	if (!lg.running) {
		vmp_log_write(fd, text, len);
		return;
	}
	pthread_mutex_lock(&lg.lock);
	if (lg.count == QUEUE_LEN) {
		lg.dropped++;
	} else {
		struct line *l = &lg.queue[(lg.head + lg.count) % QUEUE_LEN];

		l->fd = fd;
		l->len = (unsigned short)len;
		memcpy(l->text, text, len);
		if (cut) /* else the next line would be lost as well */
			l->text[len - 1] = '\n';
		lg.count++;
		pthread_cond_signal(&lg.wake);
	}
	pthread_mutex_unlock(&lg.lock);
}

void vmp_log(int level, const char *fmt, ...)
{
	int saved = errno;
	char buf[LINE_MAX_LEN];
	va_list ap;
	size_t n;

	if (level > __atomic_load_n(&lg.max_level, __ATOMIC_RELAXED))
		return;
	va_start(ap, fmt);
	n = format_line(buf, sizeof(buf), level, lg.style, fmt, ap);
	va_end(ap);
	vmp_log_line_to(lg.fd, buf, n);
	errno = saved;
}

unsigned vmp_ratelimit_pass(struct vmp_ratelimit *state, uint64_t now_ns, uint64_t interval_ns)
{
	unsigned n;

	if (now_ns < state->next_ns) {
		state->suppressed++;
		return 0;
	}
	n = 1 + state->suppressed;
	state->suppressed = 0;
	state->next_ns = now_ns + interval_ns;
	return n;
}
