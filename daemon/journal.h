/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happened to which pair, when and why: the source of `vmpair events` and `vmpair why`. The newest 4096 events are
 * kept in memory and each is appended as one JSON object per line to LOGDIR/events.jsonl (rotated at 8 MiB, one old file
 * kept), from where they are read back at start. Writing is done by the log thread.
 * Times: t_ns is CLOCK_REALTIME (for people, comparable between nodes as far as their clocks are set), mono_ns is
 * CLOCK_BOOTTIME (for differences on one node). Nothing about safety is decided from either.
 * Called from the loop's thread only.
 */
#ifndef VMP_JOURNAL_H
#define VMP_JOURNAL_H

#include <jansson.h>
#include <stdint.h>

struct vmp_journal;

struct vmp_journal_event {
	uint64_t seq; /* grows by one per event of this node */
	uint64_t t_ns, mono_ns;
	uint64_t epoch; /* 0 = none */
	char node[64];
	char pair[64];  /* empty = the node itself */
	char what[24];  /* one word: detected, unbound, released, claimed, bound, agreed ... */
	char text[200];
};

/* `dir` may be NULL (memory only). A file that cannot be opened is reported in *ret_warning (or ""). */
int vmp_journal_new(struct vmp_journal **ret, const char *dir, const char *node, char *ret_warning, size_t cap);
void vmp_journal_free(struct vmp_journal *j);
/* The name that events carry from now on. */
void vmp_journal_set_node(struct vmp_journal *j, const char *node);
typedef void (*vmp_journal_fn)(const struct vmp_journal_event *ev, void *data);
/* Called for each new event (subscriptions). */
void vmp_journal_set_listener(struct vmp_journal *j, vmp_journal_fn fn, void *data);
void vmp_journal_add(struct vmp_journal *j, const char *pair, uint64_t epoch, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* The newest `max` events of a pair (NULL = all), oldest first, as a JSON array owned by the caller. */
json_t *vmp_journal_list(const struct vmp_journal *j, const char *pair, unsigned max);
json_t *vmp_journal_event_json(const struct vmp_journal_event *ev);
/*
 * The last change of primary of a pair, from events of several nodes (an array as vmp_journal_list() makes, of any order;
 * borrowed): {pair, epoch, cause, took_ms, events:[{t_ms, node, what, text}]} with t_ms counted from the first event of the
 * change. NULL when there was none.
 */
json_t *vmp_journal_why(const json_t *events, const char *pair);

/* Replaces what is not UTF-8 (text of libvirt, or cut within a character) by '?', in place: JSON takes no such text. */
void vmp_text_clean(char *s);

#endif
