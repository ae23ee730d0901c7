/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Golden traces: a script of commands, a line "----", and every step of every node it leads to. Heartbeats, their acks, members'
 * lists and ticks that only send those are left out unless the script says "all".
 *
 *   trace FILE...            compare          trace --update FILE...   write what happens now
 *
 * commands: cluster N [fresh] | some N VOTERS | voter-add NODE WHO OP | voter-remove NODE WHO OP | add NODE PAIR | member NODE PAIR ID | exit NODE PAIR | promote NODE PAIR OP | demote NODE PAIR OP |
 *   switchover NODE PAIR OP | hold NODE MS OP | run MS | cut A B | heal A B | stop NODE | restart NODE | crash NODE | boot NODE |
 *   fenced NODE OF | bar NODE WHO OP | lift NODE WHO OP | freeze NODE | all | # comment
 */
#include <errno.h>

#include "tests/trace/world.h"

static char *result;
static size_t result_len;
static FILE *sink;
static bool all;

static void line(const char *text)
{
	const char *does = strstr(text, "-> ");

	if (!all) {
		if (!does || (strstr(text, " heartbeat ") < does && strstr(text, " heartbeat ") && !strstr(does, "; ")))
			return;		/* nothing done, or only a heartbeat answered */
		if (strstr(text, " tick ") && strstr(text, " tick ") < does && !strstr(does, "claim") && !strstr(does, "probe") &&
		    !strstr(does, "entry-close") && !strstr(does, "entry-open") && !strstr(does, "put ") && !strstr(does, "read") &&
		    !strstr(does, "note") && !strstr(does, "release") && !strstr(does, "op-done") && !strstr(does, "end-members"))
			return;
		if (strstr(text, " ack seq=") && strstr(text, " ack seq=") < does && strstr(does, "-> entry-refresh"))
			return;
	}
	fprintf(sink, "%s\n", text);
}

static uint64_t arg(char **save)
{
	const char *word = strtok_r(NULL, " ", save);

	return word ? strtoull(word, NULL, 0) : 0;
}

static int command(char *text)
{
	char *save, *cmd = strtok_r(text, " ", &save);
	uint64_t a, b, c;
	bool fresh;

	if (!cmd || *cmd == '#')
		return 0;
	fprintf(sink, "> %s", cmd);
	if (*save)
		fprintf(sink, " %s", save);
	fputc('\n', sink);
	fresh = strstr(save, "fresh");
	a = arg(&save);
	b = arg(&save);
	c = arg(&save);
	if (!strcmp(cmd, "cluster")) {
		world_new((unsigned int)a, fresh);
	} else if (!strcmp(cmd, "some") && b <= a) {
		world_some((unsigned int)a, (unsigned int)b);
	} else if (!strcmp(cmd, "all")) {
		all = true;
	} else if (!strcmp(cmd, "run")) {
		world_run(a);
	} else if (a > world.n || ((!strcmp(cmd, "cut") || !strcmp(cmd, "voter-add") || !strcmp(cmd, "voter-remove")) && b > world.n)) {
		return -EINVAL;
	} else if (!strcmp(cmd, "add")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_PAIR_ADD, .pair = b,
								 .policy = { .auto_failover = true, .cold_start = true } });
	} else if (!strcmp(cmd, "member") || !strcmp(cmd, "exit")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_MEMBER, .pair = b, .member = c, .on = c != 0, .ready = c != 0 });
	} else if (!strcmp(cmd, "promote")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_PROMOTE, .pair = b, .op = c,
								 .deadline_ns = world.now + 500 * WORLD_MS });
	} else if (!strcmp(cmd, "demote")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_DEMOTE, .pair = b, .op = c });
	} else if (!strcmp(cmd, "switchover")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_SWITCHOVER, .pair = b, .op = c });
	} else if (!strcmp(cmd, "hold")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_HOLD, .ms = (uint32_t)b, .op = c });
	} else if (!strcmp(cmd, "voter-add") || !strcmp(cmd, "voter-remove")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_VOTERS, .node = (uint8_t)b, .on = cmd[6] == 'a', .op = c,
								 .deadline_ns = world.now + 1000 * WORLD_MS });
	} else if (!strcmp(cmd, "freeze")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_FREEZE, .on = true });
	} else if (!strcmp(cmd, "fenced")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_FENCED, .node = (uint8_t)b, .member = 0xb0 + b });
	} else if (!strcmp(cmd, "bar") || !strcmp(cmd, "lift")) {
		world_event((unsigned int)a, (struct vmp_event){ .type = VMP_EV_BAR, .node = (uint8_t)b, .on = *cmd == 'b', .op = c,
								 .member = VMP_BAR_BY_AGENT, .deadline_ns = world.now + 500 * WORLD_MS });
	} else if (!strcmp(cmd, "cut") || !strcmp(cmd, "heal")) {
		world_cut((unsigned int)a, (unsigned int)b, *cmd == 'c');
	} else if (!strcmp(cmd, "drop") && b && b <= world.n) {
		world.cut[a][b] = true;	/* from a to b only; "heal" ends it */
	} else if (!strcmp(cmd, "stop") || !strcmp(cmd, "crash")) {
		world_down((unsigned int)a, *cmd == 'c');
	} else if (!strcmp(cmd, "restart") || !strcmp(cmd, "boot")) {
		world_start((unsigned int)a, *cmd == 'r');
	} else {
		return -EINVAL;
	}
	return 0;
}

static int trace(const char *file, bool update)
{
	char *text = NULL, *expected, *copy, *save, *one;
	size_t cap = 0;
	FILE *f = fopen(file, "r");
	ssize_t len;
	int r = 0;

	if (!f || (len = getdelim(&text, &cap, '\0', f)) < 0) {
		perror(file);
		return 1;
	}
	fclose(f);
	expected = strstr(text, "----\n");
	if (expected) {
		*expected = '\0';
		expected += 5;
	}
	copy = strdup(text);
	sink = open_memstream(&result, &result_len);
	if (!copy || !sink)
		abort();
	all = false;
	world.line = line;
	for (one = strtok_r(copy, "\n", &save); one && !r; one = strtok_r(NULL, "\n", &save)) {
		char shown[256];

		snprintf(shown, sizeof shown, "%s", one);
		r = command(one);
		if (r)
			fprintf(stderr, "%s: what is \"%s\"?\n", file, shown);
	}
	fclose(sink);
	if (!r && update) {
		f = fopen(file, "w");
		if (!f || fprintf(f, "%s----\n%s", text, result) < 0 || fclose(f))
			r = 1;
	} else if (!r && (!expected || strcmp(expected, result))) {
		const char *e = expected ? expected : "", *g = result;
		unsigned int no = 1;

		while (*e && *g && strcspn(e, "\n") == strcspn(g, "\n") && !strncmp(e, g, strcspn(e, "\n"))) {
			e += strcspn(e, "\n") + (e[strcspn(e, "\n")] == '\n');
			g += strcspn(g, "\n") + (g[strcspn(g, "\n")] == '\n');
			no++;
		}
		printf("not ok - %s: line %u after ----\n# expected %.*s\n# got      %.*s\n", file, no, (int)strcspn(e, "\n"), e,
		       (int)strcspn(g, "\n"), g);
		r = 1;
	} else if (!r) {
		printf("ok - %s\n", file);
	}
	free(copy);
	free(text);
	free(result);
	return r ? 1 : 0;
}

int main(int argc, char **argv)
{
	bool update = argc > 1 && !strcmp(argv[1], "--update");
	int i, r = 0;

	for (i = update ? 2 : 1; i < argc; i++)
		r |= trace(argv[i], update);
	return r;
}
