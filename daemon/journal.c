/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/loop.h"
#include "internal/cleanup.h"

enum { KEEP = 4096, ROTATE_BYTES = 8 << 20 };
/* What belongs to one change of primary lies within this time before and after its "bound". */
static const uint64_t before_ns = 20000000000u, after_ns = 30000000000u;

struct vmp_journal {
	struct vmp_journal_event ring[KEEP];
	uint64_t next_seq;
	uint64_t file_bytes;
	int fd;
	char dir[256];
	char node[64];
	vmp_journal_fn fn;
	void *data;
};

/* Bytes of a well-formed UTF-8 sequence, 0 if there is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] >= 0x90))
		return 0; /* overlong, surrogate, above U+10FFFF */
	return n;
}

void vmp_text_clean(char *s)
{
	while (*s) {
		size_t n = utf8_len((const unsigned char *)s);

		if (n == 0)
			*s = '?';
		s += n ? n : 1;
	}
}

static void copy(char *dst, size_t cap, const char *src)
{
	size_t n = strnlen(src, cap - 1);

	memcpy(dst, src, n);
	dst[n] = '\0';
	vmp_text_clean(dst);
}

json_t *vmp_journal_event_json(const struct vmp_journal_event *ev)
{
	return json_pack("{s:I s:I s:I s:I s:s s:s s:s s:s}", "seq", (json_int_t)ev->seq, "t_ns", (json_int_t)ev->t_ns, "mono_ns",
			 (json_int_t)ev->mono_ns, "epoch", (json_int_t)ev->epoch, "node", ev->node, "pair", ev->pair, "what",
			 ev->what, "text", ev->text);
}

static void keep(struct vmp_journal *j, struct vmp_journal_event *ev)
{
	ev->seq = ++j->next_seq;
	j->ring[ev->seq % KEEP] = *ev;
}

static void read_back(struct vmp_journal *j, const char *path)
{
	char *line = NULL;
	size_t cap = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	while (getline(&line, &cap, f) > 0) {
		struct vmp_journal_event ev = { 0 };
		const char *node, *pair, *what, *text;
		json_int_t t, mono, epoch;
		json_t *o = json_loads(line, 0, NULL);

		if (o && json_unpack(o, "{s:I s:I s:I s:s s:s s:s s:s}", "t_ns", &t, "mono_ns", &mono, "epoch", &epoch, "node",
				     &node, "pair", &pair, "what", &what, "text", &text) == 0) {
			ev.t_ns = (uint64_t)t;
			ev.mono_ns = (uint64_t)mono;
			ev.epoch = (uint64_t)epoch;
			copy(ev.node, sizeof(ev.node), node);
			copy(ev.pair, sizeof(ev.pair), pair);
			copy(ev.what, sizeof(ev.what), what);
			copy(ev.text, sizeof(ev.text), text);
			keep(j, &ev);
		}
		json_decref(o);
	}
	free(line);
	fclose(f);
}

static int open_file(struct vmp_journal *j)
{
	struct stat st;
	char path[300];

	snprintf(path, sizeof(path), "%s/events.jsonl", j->dir);
	j->fd = vmp_log_file_open(path);
	if (j->fd < 0)
		return j->fd;
	j->file_bytes = fstat(j->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	return 0;
}

int vmp_journal_new(struct vmp_journal **ret, const char *dir, const char *node, char *ret_warning, size_t cap)
{
	struct vmp_journal *j = calloc(1, sizeof(*j));
	char path[300];

	if (!j)
		return -ENOMEM;
	ret_warning[0] = '\0';
	j->fd = -1;
	copy(j->node, sizeof(j->node), node);
	if (dir) {
		int r;

		copy(j->dir, sizeof(j->dir), dir);
		snprintf(path, sizeof(path), "%s/events.jsonl", j->dir);
		read_back(j, path);
		r = open_file(j);
		if (r < 0)
			snprintf(ret_warning, cap, "%s: %s; events are kept in memory only", path, strerror(-r));
	}
	*ret = j;
	return 0;
}

void vmp_journal_free(struct vmp_journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	free(j);
}

void vmp_journal_set_node(struct vmp_journal *j, const char *node)
{
	copy(j->node, sizeof(j->node), node);
}

void vmp_journal_set_listener(struct vmp_journal *j, vmp_journal_fn fn, void *data)
{
	j->fn = fn;
	j->data = data;
}

static void append(struct vmp_journal *j, const struct vmp_journal_event *ev)
{
	json_t *o = vmp_journal_event_json(ev);
	char *s = o ? json_dumps(o, JSON_COMPACT) : NULL;
	size_t len = s ? strlen(s) : 0;

	if (s) {
		s[len] = '\n'; /* in place of the terminating NUL */
		vmp_log_line_to(j->fd, s, len + 1);
		j->file_bytes += len + 1;
	}
	free(s);
	json_decref(o);
	if (j->file_bytes > ROTATE_BYTES) {
		char from[300], to[300];
		int old = j->fd;

		snprintf(from, sizeof(from), "%s/events.jsonl", j->dir);
		snprintf(to, sizeof(to), "%s/events.jsonl.1", j->dir);
		if (rename(from, to) == 0 && open_file(j) == 0) {
			/* the writer thread may still have lines queued for the old number: keep that number */
			dup3(j->fd, old, O_CLOEXEC);
			close(j->fd);
		}
		j->fd = old;
		j->file_bytes = 0;
	}
}

void vmp_journal_add(struct vmp_journal *j, const char *pair, uint64_t epoch, const char *what, const char *fmt, ...)
{
	struct vmp_journal_event ev = { .mono_ns = vmp_now_ns(), .epoch = epoch };
	struct timespec ts;
	va_list ap;

	clock_gettime(CLOCK_REALTIME, &ts);
	ev.t_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	copy(ev.node, sizeof(ev.node), j->node);
	copy(ev.pair, sizeof(ev.pair), pair ? pair : "");
	copy(ev.what, sizeof(ev.what), what);
	va_start(ap, fmt);
	vsnprintf(ev.text, sizeof(ev.text), fmt, ap);
	va_end(ap);
	vmp_text_clean(ev.text);
	keep(j, &ev);
	if (j->fd >= 0)
		append(j, &ev);
	if (j->fn)
		j->fn(&ev, j->data);
}

json_t *vmp_journal_list(const struct vmp_journal *j, const char *pair, unsigned max)
{
	uint64_t first = j->next_seq > KEEP ? j->next_seq - KEEP + 1 : 1, seq;
	json_t *a = json_array();
	unsigned n = 0;

	for (seq = j->next_seq + 1; seq > first && n < max; seq--)
		if (!pair || !strcmp(j->ring[(seq - 1) % KEEP].pair, pair))
			n++;
	for (; seq <= j->next_seq; seq++) {
		const struct vmp_journal_event *ev = &j->ring[seq % KEEP];

		if (!pair || !strcmp(ev->pair, pair))
			json_array_append_new(a, vmp_journal_event_json(ev));
	}
	return a;
}

static uint64_t get_u64(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static const char *get_str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int by_time(const void *a, const void *b)
{
	uint64_t ta = get_u64(*(json_t *const *)a, "t_ns"), tb = get_u64(*(json_t *const *)b, "t_ns");

	return ta < tb ? -1 : ta > tb;
}

json_t *vmp_journal_why(const json_t *events, const char *pair)
{
	size_t n = json_array_size(events), n_of = 0, first;
	CLEANUP_FREE json_t **of = calloc(n ? n : 1, sizeof(json_t *));
	const json_t *bound = NULL;
	const char *cause = "";
	uint64_t bound_t, prev_t = 0, t0;
	json_t *list;

	if (!of)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		json_t *e = json_array_get(events, i);

		if (strcmp(get_str(e, "pair"), pair) != 0)
			continue;
		of[n_of++] = e;
		if (!strcmp(get_str(e, "what"), "bound") && (!bound || get_u64(e, "epoch") > get_u64(bound, "epoch")))
			bound = e;
	}
	if (!bound)
		return NULL;
	qsort(of, n_of, sizeof(json_t *), by_time);
	bound_t = get_u64(bound, "t_ns");
	for (size_t i = 0; i < n_of; i++) { /* the change before this one ended with its own "bound" */
		uint64_t t = get_u64(of[i], "t_ns");

		if (!strcmp(get_str(of[i], "what"), "bound") && t < bound_t)
			prev_t = t;
	}
	/* It began with the newest cause or detection after the previous change. */
	for (first = 0; first < n_of; first++) {
		uint64_t t = get_u64(of[first], "t_ns");
		const char *what = get_str(of[first], "what");

		if (t > prev_t && t + before_ns > bound_t && t <= bound_t &&
		    (!strcmp(what, "cause") || !strcmp(what, "detected") || !strcmp(what, "unbound") || !strcmp(what, "claimed")))
			break;
	}
	if (first == n_of)
		return NULL;
	t0 = get_u64(of[first], "t_ns");
	list = json_array();
	for (size_t i = first; i < n_of; i++) {
		uint64_t t = get_u64(of[i], "t_ns");
		const char *what = get_str(of[i], "what");

		if (t > bound_t + after_ns)
			break;
		if (!*cause && (!strcmp(what, "cause") || !strcmp(what, "detected")))
			cause = get_str(of[i], "text");
		json_array_append_new(list, json_pack("{s:f s:s s:s s:s s:I}", "t_ms", (double)(int64_t)(t - t0) / 1e6, "node",
						      get_str(of[i], "node"), "what", what, "text", get_str(of[i], "text"),
						      "epoch", (json_int_t)get_u64(of[i], "epoch")));
	}
	return json_pack("{s:s s:I s:s s:s s:I s:f s:o}", "pair", pair, "epoch", (json_int_t)get_u64(bound, "epoch"), "cause", cause,
			 "node", get_str(bound, "node"), "t0_ns", (json_int_t)t0, "took_ms", (double)(bound_t - t0) / 1e6, "events",
			 list);
}
