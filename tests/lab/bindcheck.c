/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bindcheck [-e] NODE=FILE...
 *
 * Reads the binding logs of all nodes (one clock) and proves that no two nodes had a pair's entry open at once. Lines:
 *   BOOTTIME_NS open|refresh|close|adopt PAIR EPOCH EXPIRY_NS
 *   BOOTTIME_NS off - 0 0		written by the lab: the whole node has lost its power, and whatever was open there is gone
 * Each line is a store of the expiry word: from then on the entry is open until EXPIRY_NS or until the node's next store
 * for the pair, whichever comes first (close stores 0; adopt tells the word found at the start). Further rules: an open
 * carries an epoch above every epoch any other node opened before, and not below the node's own; a node's times never
 * fall; refresh names the epoch last opened and not closed. A last line without its newline is what power loss leaves and is left out.
 *
 * Exit status: 0 proven, 1 a rule is broken (each case is printed), 2 the logs cannot be read or say nothing at all
 * (with -e an empty log is fine).
 */
#include <config.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct store {
	uint64_t at, until, expiry, epoch;
	unsigned int node, line;
	char op; /* first letter */
	char pair[64];
};

struct off {
	uint64_t at;
	unsigned int node;
};

static struct store *stores;
static struct off *offs;
static size_t n_offs;
static size_t n_stores, room;
static char **node_names;
static unsigned int broken;

static const char *node_name(unsigned int node)
{
	return node_names[node];
}

static bool read_log(unsigned int node, const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t cap = 0;
	ssize_t len;
	unsigned int line = 0;
	uint64_t before = 0;
	bool ok = true;

	if (!f) {
		fprintf(stderr, "bindcheck: %s: %s\n", path, strerror(errno));
		return false;
	}
	while ((len = getline(&text, &cap, f)) > 0) {
		struct store s = {.node = node, .line = ++line};
		char op[16];
		int end = 0;

		if (text[len - 1] != '\n')
			break;
		if (sscanf(text, "%" SCNu64 " %15s %63s %" SCNu64 " %" SCNu64 " %n", &s.at, op, s.pair, &s.epoch, &s.expiry,
			   &end) != 5 || text[end] != '\0' ||
		    (strcmp(op, "open") && strcmp(op, "refresh") && strcmp(op, "close") && strcmp(op, "adopt") &&
		     (strcmp(op, "off") || strcmp(s.pair, "-")))) {
			fprintf(stderr, "bindcheck: %s:%u: not a line of a binding log\n", path, line);
			ok = false;
			break;
		}
		if (s.at < before) {
			printf("%s:%u: time falls\n", node_name(node), line);
			broken++;
		}
		before = s.at;
		if (!strcmp(op, "off")) {
			offs = reallocarray(offs, n_offs + 1, sizeof(*offs));
			if (!offs)
				abort();
			offs[n_offs++] = (struct off){.at = s.at, .node = node};
			continue;
		}
		s.op = op[0];
		if (s.op == 'c')
			s.expiry = 0;
		if (n_stores == room) {
			room = room ? room * 2 : 4096;
			stores = reallocarray(stores, room, sizeof(*stores));
			if (!stores)
				abort();
		}
		stores[n_stores++] = s;
	}
	free(text);
	fclose(f);
	return ok;
}

static int by_pair_node_line(const void *a, const void *b)
{
	const struct store *x = a, *y = b;
	int d = strcmp(x->pair, y->pair);

	if (d)
		return d;
	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

static int by_pair_time(const void *a, const void *b)
{
	const struct store *x = a, *y = b;
	int d = strcmp(x->pair, y->pair);

	if (d)
		return d;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

/* Within one node: how long each store keeps the entry open, and whether its epoch fits. */
static void node_rules(void)
{
	uint64_t epoch = 0; /* of the last open; 0 while closed or unknown */

	for (size_t i = 0; i < n_stores; i++) {
		struct store *s = &stores[i], *next = i + 1 < n_stores ? s + 1 : NULL;
		bool first = i == 0 || strcmp(s->pair, s[-1].pair) || s->node != s[-1].node;

		if (next && (strcmp(next->pair, s->pair) || next->node != s->node))
			next = NULL;
		s->until = next && next->at < s->expiry ? next->at : s->expiry;
		for (size_t k = 0; k < n_offs; k++)
			if (offs[k].node == s->node && offs[k].at >= s->at && offs[k].at < s->until)
				s->until = offs[k].at;
		if (first)
			epoch = 0;
		switch (s->op) {
		case 'o':
			epoch = s->epoch;
			break;
		case 'r':
			if (epoch != s->epoch) {
				printf("%s:%u: %s: refresh of epoch %" PRIu64 ", open is %" PRIu64 "\n", node_name(s->node), s->line,
				       s->pair, s->epoch, epoch);
				broken++;
			}
			break;
		case 'a': /* a new process that may still hold the epoch its predecessor opened */
			break;
		default:
			epoch = 0;
			break;
		}
	}
}

/* Over all nodes, in order of time. */
static void pair_rules(void)
{
	const struct store *holder = NULL; /* the store that keeps the entry open the longest so far */
	uint64_t highest = 0;
	unsigned int highest_node = 0;

	for (size_t i = 0; i < n_stores; i++) {
		const struct store *s = &stores[i];

		if (i == 0 || strcmp(s->pair, s[-1].pair)) {
			holder = NULL;
			highest = 0;
		}
		if (s->op == 'o') {
			if (s->epoch < highest || (s->epoch == highest && s->node != highest_node)) {
				printf("%s:%u: %s: epoch %" PRIu64 " opened after %" PRIu64 "\n", node_name(s->node), s->line, s->pair,
				       s->epoch, highest);
				broken++;
			}
			if (s->epoch > highest) {
				highest = s->epoch;
				highest_node = s->node;
			}
		}
		if (s->until <= s->at)
			continue;
		if (holder && holder->node != s->node && holder->until > s->at) {
			uint64_t end = holder->until < s->until ? holder->until : s->until;
			printf("%s: open at once on %s (line %u) and %s (line %u) from %" PRIu64 " for %.3f ms\n", s->pair,
			       node_name(holder->node), holder->line, node_name(s->node), s->line, s->at,
			       (double)(end - s->at) / 1e6);
			broken++;
		}
		if (!holder || s->until > holder->until || holder->node == s->node)
			holder = s;
	}
}

int main(int argc, char **argv)
{
	bool empty_ok = false, ok = true;
	int i = 1;

	if (i < argc && !strcmp(argv[i], "-e")) {
		empty_ok = true;
		i++;
	}
	if (i >= argc) {
		fprintf(stderr, "usage: bindcheck [-e] NODE=FILE...\n");
		return 2;
	}
	node_names = calloc((size_t)argc, sizeof(*node_names));
	if (!node_names)
		abort();
	for (unsigned int node = 0; i < argc; i++, node++) {
		char *eq = strchr(argv[i], '=');
		if (!eq) {
			fprintf(stderr, "bindcheck: %s: expected NODE=FILE\n", argv[i]);
			return 2;
		}
		*eq = '\0';
		node_names[node] = argv[i];
		ok = read_log(node, eq + 1) && ok;
	}

	if (n_stores) {
		qsort(stores, n_stores, sizeof(*stores), by_pair_node_line);
		node_rules();
		qsort(stores, n_stores, sizeof(*stores), by_pair_time);
		pair_rules();
	}

	size_t opens = 0, pairs = 0;
	for (size_t k = 0; k < n_stores; k++) {
		opens += stores[k].op == 'o';
		pairs += k == 0 || strcmp(stores[k].pair, stores[k - 1].pair);
	}
	printf("%zu stores, %zu opens, %zu pairs, %u broken rules\n", n_stores, opens, pairs, broken);
	free(stores);
	free(offs);
	free(node_names);
	if (!ok || (!opens && !empty_ok))
		return 2;
	return broken ? 1 : 0;
}
