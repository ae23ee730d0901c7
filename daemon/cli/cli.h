/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmpair(8): a table of commands. A command's options are the bits of `allowed`; --help, --socket and --timeout work everywhere. */
#ifndef VMP_CLI_H
#define VMP_CLI_H

#include <jansson.h>
#include <stdbool.h>

#include "daemon/ctl.h"

enum cli_option {
	OPT_OUTPUT = 1 << 0,
	OPT_FOLLOW = 1 << 1,
	OPT_YES = 1 << 2,
	OPT_FORCE = 1 << 3,
	OPT_FILE = 1 << 4,
	OPT_LIMIT = 1 << 5,
	OPT_ALL = 1 << 6,
};

struct cli {
	const struct cli_command *cmd;
	const char *socket;		/* NULL = the usual one */
	int timeout_ms;
	bool json, follow, yes, force, all;
	int limit;
	const char *file;		/* NULL = the usual one */
};

struct cli_command {
	const char *name, *args, *summary;
	const char *help;		/* further lines of --help */
	unsigned allowed;
	int min_args, max_args;
	int (*run)(struct cli *cli, int argc, char **argv);	/* returns the exit code (enum vmp_ctl_rc) */
};

int cmd_status(struct cli *cli, int argc, char **argv);
int cmd_events(struct cli *cli, int argc, char **argv);
int cmd_why(struct cli *cli, int argc, char **argv);
int cmd_switchover(struct cli *cli, int argc, char **argv);
int cmd_hold(struct cli *cli, int argc, char **argv);
int cmd_unhold(struct cli *cli, int argc, char **argv);
int cmd_force_primary(struct cli *cli, int argc, char **argv);
int cmd_fence(struct cli *cli, int argc, char **argv);
int cmd_unfence(struct cli *cli, int argc, char **argv);
int cmd_voter(struct cli *cli, int argc, char **argv);
int cmd_keygen(struct cli *cli, int argc, char **argv);
int cmd_key(struct cli *cli, int argc, char **argv);
int cmd_check_config(struct cli *cli, int argc, char **argv);

/* Error message on stderr, with the command's name; returns rc. */
int cli_error(const struct cli *cli, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Asks the daemon (steals args, an object or NULL). 0 and a reply whose rc was 0; else the exit code, the reason having been printed. */
int cli_ask(struct cli *cli, const char *cmd, json_t *args, json_t **ret);

/* Text for people, on stdout. */
void out_status(const json_t *reply);
void out_event(const json_t *event);
void out_why(const json_t *reply);
void out_json(const json_t *j, bool one_line);

#endif
