/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "daemon/cli/cli.h"
#include "daemon/pairparam.h"

static const struct cli_command commands[] = {
	{"status", "[PAIR]", "pairs, members, roles, epoch, lease, sync; what is wrong", NULL, OPT_OUTPUT, 0, 1, cmd_status},
	{"events", "[PAIR]", "what happened, newest last", NULL, OPT_OUTPUT | OPT_FOLLOW | OPT_LIMIT, 0, 1, cmd_events},
	{"why", "PAIR", "the last change of primary, from all nodes on one time line",
	 "Times are in milliseconds from the first sign; nodes are compared by their clocks, so they are as exact as those are set.",
	 OPT_OUTPUT, 1, 1, cmd_why},
	{"switchover", "PAIR", "move the pair to its standby, as planned work",
	 "Refused when the standby is not in sync, or while Pacemaker does not manage the pair.", OPT_OUTPUT, 1, 1, cmd_switchover},
	{"hold", "PAIR|--all TIME", "no failover for a short time (planned work on a host or network)",
	 "TIME as 3s or 2500ms; at most hold_max_ms of vmpaird.conf. Meanwhile a lost primary is not replaced.", OPT_OUTPUT | OPT_ALL, 1, 2,
	 cmd_hold},
	{"unhold", "PAIR|--all", "end a hold", NULL, OPT_OUTPUT | OPT_ALL, 0, 1, cmd_unhold},
	{"force-primary", "PAIR", "make this node's member primary although it may lack data (last resort)",
	 "For when the member on record is lost for good. What that one had acknowledged and this one does not hold is lost.\n"
	 "Asks first; --yes does not.", OPT_OUTPUT | OPT_YES, 1, 1, cmd_force_primary},
	{"voter", "add|remove|lost NODE", "change who takes part in leases",
	 "One node at a time; corosync's node list is a wish only, and a dead node stays a voter until it is removed here.\n"
	 "add, remove   done when the new set is in force everywhere; all other voters have to be up\n"
	 "lost          a cold start, or its removal, no longer waits for that node's disk, which is lost for good;\n"
	 "              one of two that is being removed has to be fenced first (asks for --yes)", OPT_OUTPUT | OPT_YES, 2, 2,
	 cmd_voter},
	{"fence", "NODE", "take all leases of a node away and keep it out, as fence_vmpair does",
	 "Done when its entries must be closed; its VMs are killed as soon as it hears of it, and none starts there before unfence.\n"
	 "Asks first; --yes does not. Pacemaker is not told: it sees its members fail there.", OPT_OUTPUT | OPT_YES, 1, 1, cmd_fence},
	{"unfence", "NODE", "let a fenced node take part again", NULL, OPT_OUTPUT, 1, 1, cmd_unfence},
	{"keygen", "", "make the key file of this cluster",
	 "Once, on one node; copy the file to the others. --force replaces an existing file.", OPT_FILE | OPT_FORCE, 0, 0, cmd_keygen},
	{"key", "rotate | list | add | use ID | drop ID", "change the keys of a running cluster",
	 "rotate   a new key on all nodes, in use at once, the old one still valid: no outage\n"
	 "list     keys of the key file (fingerprints, not secrets)\n"
	 "add, use, drop   the single steps on this node's key file, for a node that was away; `systemctl reload vmpaird` takes them over",
	 OPT_OUTPUT | OPT_FILE, 1, 2, cmd_key},
	{"check-config", "", "check vmpaird.conf and the key file, as vmpaird -t does", NULL, OPT_FILE, 0, 0, cmd_check_config},
	{0},
};

static const struct { enum cli_option bit; const char *text; } option_help[] = {
	{OPT_OUTPUT, "  -o, --output=text|json   form of the answer (default text)"},
	{OPT_FOLLOW, "  -f, --follow             go on with new events"},
	{OPT_LIMIT, "  -n, --limit=N            at most N events (default 100)"},
	{OPT_ALL, "  -a, --all                all pairs that this node holds"},
	{OPT_YES, "  -y, --yes                do not ask"},
	{OPT_FORCE, "      --force              replace what is there"},
	{OPT_FILE, "      --file=FILE          another file than the usual one"},
};

static void help_all(FILE *f)
{
	fputs("Usage: vmpair COMMAND [OPTION]... [ARGUMENT]...\n\nPairs of virtual machines behind one entry address.\n\nCommands:\n", f);
	for (const struct cli_command *c = commands; c->name; c++)
		fprintf(f, "  %-14s %s\n", c->name, c->summary);
	fputs("\nOptions of all commands:\n"
	      "  -s, --socket=PATH        control socket of vmpaird (default " VMP_CTL_SOCKET ")\n"
	      "  -t, --timeout=TIME       give up after this time (default 30s)\n"
	      "  -h, --help               this text; after a command, that of the command\n"
	      "  -V, --version            version\n"
	      "\nExit codes: 0 done, 1 failed or refused, 2 usage, 3 vmpaird does not answer, 4 not found, 5 not done in time, 6 not root\n", f);
}

static void help_command(FILE *f, const struct cli_command *c)
{
	fprintf(f, "Usage: vmpair %s %s%s\n\n%c%s.\n", c->name, c->allowed ? "[OPTION]... " : "", c->args, c->summary[0] - 'a' + 'A',
		c->summary + 1);
	if (c->help)
		fprintf(f, "%s\n", c->help);
	fputs("\n", f);
	for (size_t i = 0; i < sizeof(option_help) / sizeof(option_help[0]); i++)
		if (c->allowed & option_help[i].bit)
			fprintf(f, "%s\n", option_help[i].text);
	fputs("  -s, --socket=PATH, -t, --timeout=TIME, -h, --help: as for all commands (vmpair --help)\n", f);
}

int cli_error(const struct cli *cli, int rc, const char *fmt, ...)
{
	va_list ap;
	fflush(stdout);
	fprintf(stderr, "vmpair%s%s: ", cli->cmd ? " " : "", cli->cmd ? cli->cmd->name : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return rc;
}

static int usage_error(const struct cli *cli, const char *what)
{
	cli_error(cli, VMP_CTL_USAGE, "%s", what);
	if (cli->cmd)
		fprintf(stderr, "Usage: vmpair %s %s   (vmpair %s --help)\n", cli->cmd->name, cli->cmd->args, cli->cmd->name);
	else
		fputs("Usage: vmpair COMMAND [OPTION]... [ARGUMENT]...   (vmpair --help)\n", stderr);
	return VMP_CTL_USAGE;
}

static const struct cli_command *find_command(const char *name)
{
	const struct cli_command *c = commands;
	while (c->name && strcmp(c->name, name))
		c++;
	return c->name ? c : NULL;
}

static int no_command(const struct cli *cli, const char *name)
{
	fprintf(stderr, "vmpair: no such command: %s\n", name);
	return usage_error(cli, "which command?");
}

int main(int argc, char **argv)
{
	enum { LONG_FORCE = 256, LONG_FILE };
	static const struct option longs[] = {
		{"output", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'}, {"follow", no_argument, NULL, 'f'},
		{"limit", required_argument, NULL, 'n'}, {"all", no_argument, NULL, 'a'}, {"yes", no_argument, NULL, 'y'},
		{"force", no_argument, NULL, LONG_FORCE}, {"file", required_argument, NULL, LONG_FILE}, {"socket", required_argument, NULL, 's'},
		{"timeout", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	struct cli cli = {.socket = getenv("VMPAIR_SOCKET"), .timeout_ms = 30000, .limit = 100};
	unsigned used = 0;
	bool want_help = false;
	uint32_t ms;
	char *end;
	int c;

	if (argc > 1 && argv[1][0] != '-') {
		if (!strcmp(argv[1], "help")) {
			want_help = true;
		} else {
			cli.cmd = find_command(argv[1]);
			if (!cli.cmd)
				return no_command(&cli, argv[1]);
		}
		argv[1] = argv[0];
		argv++;
		argc--;
	}
	while ((c = getopt_long(argc, argv, "o:jfn:ays:t:hV", longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			if (strcmp(optarg, "json") && strcmp(optarg, "text"))
				return usage_error(&cli, "--output is text or json");
			cli.json = !strcmp(optarg, "json");
			used |= OPT_OUTPUT;
			break;
		case 'j':
			cli.json = true;
			used |= OPT_OUTPUT;
			break;
		case 'f':
			cli.follow = true;
			used |= OPT_FOLLOW;
			break;
		case 'n':
			errno = 0;
			cli.limit = (int)strtol(optarg, &end, 10);
			if (errno || *end || end == optarg || cli.limit < 1 || cli.limit > 999)
				return usage_error(&cli, "--limit is a number of 1 to 999");
			used |= OPT_LIMIT;
			break;
		case 'a':
			cli.all = true;
			used |= OPT_ALL;
			break;
		case 'y':
			cli.yes = true;
			used |= OPT_YES;
			break;
		case LONG_FORCE:
			cli.force = true;
			used |= OPT_FORCE;
			break;
		case LONG_FILE:
			cli.file = optarg;
			used |= OPT_FILE;
			break;
		case 's':
			cli.socket = optarg;
			break;
		case 't':
			if (vmp_time_parse(optarg, &ms) < 0 || ms < 1 || ms > VMP_CTL_MAX_TIMEOUT_MS)
				return usage_error(&cli, "--timeout is a time of 1ms to 1h, such as 30s");
			cli.timeout_ms = (int)ms;
			break;
		case 'h':
			want_help = true;
			break;
		case 'V':
			puts("vmpair " PACKAGE_VERSION);
			return VMP_CTL_OK;
		default:
			return usage_error(&cli, "bad option");
		}
	}
	if (!cli.cmd && optind < argc && (!want_help || find_command(argv[optind]))) {
		cli.cmd = find_command(argv[optind]);
		if (!cli.cmd)
			return no_command(&cli, argv[optind]);
		optind++;
	}
	if (want_help) {
		if (cli.cmd)
			help_command(stdout, cli.cmd);
		else
			help_all(stdout);
		return VMP_CTL_OK;
	}
	if (!cli.cmd) {
		help_all(stderr);
		return VMP_CTL_USAGE;
	}
	if (used & ~cli.cmd->allowed)
		return usage_error(&cli, "an option does not fit this command");
	argc -= optind;
	argv += optind;
	if (argc < cli.cmd->min_args)
		return usage_error(&cli, "an argument is missing");
	if (argc > cli.cmd->max_args)
		return usage_error(&cli, "too many arguments");
	int rc = cli.cmd->run(&cli, argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout))
		return cli_error(&cli, VMP_CTL_FAILED, "cannot write: %s", strerror(errno));
	return rc == VMP_CTL_USAGE ? usage_error(&cli, "see the usage") : rc;
}
