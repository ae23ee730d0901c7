/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that the daemon answers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cli/cli.h"
#include "daemon/ctlclient.h"
#include "daemon/pairparam.h"

#define CONNECT_MS 3000

static int client_error(const struct cli *cli, int rc, bool acked)
{
	const char *path = cli->socket ? cli->socket : VMP_CTL_SOCKET;
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED:
		return cli_error(cli, VMP_CTL_UNREACHABLE, "vmpaird does not run on this node (%s): systemctl start vmpaird", path);
	case -EACCES:
	case -EPERM:
		return cli_error(cli, VMP_CTL_DENIED, "only root may talk to vmpaird");
	case -ETIMEDOUT:
		if (acked)
			return cli_error(cli, VMP_CTL_TIMEOUT, "no answer in time; what was asked for may still happen");
		return cli_error(cli, VMP_CTL_UNREACHABLE, "vmpaird does not answer: it hangs or the node is overloaded");
	case -ECONNRESET:
		return cli_error(cli, VMP_CTL_UNREACHABLE, "vmpaird ended before it answered");
	}
	return cli_error(cli, VMP_CTL_FAILED, "%s: %s", path, strerror(-rc));
}

static int ask_on(struct cli *cli, struct vmp_ctlc *c, const char *cmd, json_t *args, json_t **ret)
{
	json_t *req = args ? args : json_object(), *reply = NULL;
	bool acked = false;
	json_object_set_new(req, "v", json_integer(VMP_CTL_VERSION));
	json_object_set_new(req, "cmd", json_string(cmd));
	json_object_set_new(req, "timeout_ms", json_integer(cli->timeout_ms));
	/* a little longer than the daemon has, so that its own word on the time is heard */
	int rc = vmp_ctlc_call(c, req, CONNECT_MS, cli->timeout_ms + 500, &reply, &acked);
	json_decref(req);
	if (rc < 0)
		return client_error(cli, rc, acked);
	int code = (int)json_integer_value(json_object_get(reply, "rc"));
	const char *reason = json_string_value(json_object_get(reply, "reason"));
	if (code == VMP_CTL_OK) {
		*ret = reply;
		return VMP_CTL_OK;
	}
	if (cli->json)
		out_json(reply, false);
	cli_error(cli, code, "%s", reason && *reason ? reason : "refused");
	json_decref(reply);
	/* the arguments were good enough to be sent: no usage text after it */
	return code == VMP_CTL_USAGE ? VMP_CTL_FAILED : code;
}

int cli_ask(struct cli *cli, const char *cmd, json_t *args, json_t **ret)
{
	struct vmp_ctlc *c;
	int rc = vmp_ctlc_open(&c, cli->socket, CONNECT_MS);
	if (rc < 0) {
		json_decref(args);
		return client_error(cli, rc, false);
	}
	rc = ask_on(cli, c, cmd, args, ret);
	vmp_ctlc_free(c);
	return rc;
}

static json_t *pair_arg(int argc, char **argv)
{
	return argc ? json_pack("{s:s}", "pair", argv[0]) : json_object();
}

/* The usual end: JSON as it came, or one line of text. */
static int done(const struct cli *cli, json_t *reply, const char *text)
{
	if (cli->json)
		out_json(reply, false);
	else
		puts(text);
	json_decref(reply);
	return VMP_CTL_OK;
}

static const char *text_of(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));
	return s ? s : "?";
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	int rc = cli_ask(cli, "status", pair_arg(argc, argv), &reply);
	if (rc)
		return rc;
	if (cli->json)
		out_json(reply, false);
	else
		out_status(reply);
	json_decref(reply);
	return VMP_CTL_OK;
}

int cmd_why(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	int rc = cli_ask(cli, "why", pair_arg(argc, argv), &reply);
	if (rc)
		return rc;
	if (cli->json)
		out_json(reply, false);
	else
		out_why(reply);
	json_decref(reply);
	return VMP_CTL_OK;
}

static void one_event(const struct cli *cli, const json_t *event)
{
	if (cli->json)
		out_json(event, true);
	else
		out_event(event);
}

/* Followed events are one JSON object a line, so that a reader need not wait for an end that does not come. */
int cmd_events(struct cli *cli, int argc, char **argv)
{
	struct vmp_ctlc *c;
	json_t *reply, *args = pair_arg(argc, argv), *e;
	size_t i;
	json_object_set_new(args, "follow", json_boolean(cli->follow));
	json_object_set_new(args, "limit", json_integer(cli->limit));
	int rc = vmp_ctlc_open(&c, cli->socket, CONNECT_MS);
	if (rc < 0) {
		json_decref(args);
		return client_error(cli, rc, false);
	}
	rc = ask_on(cli, c, "events", args, &reply);
	if (rc == VMP_CTL_OK) {
		if (cli->json && !cli->follow)
			out_json(reply, false);
		else
			json_array_foreach(json_object_get(reply, "events"), i, e)
				one_event(cli, e);
		json_decref(reply);
	}
	while (rc == VMP_CTL_OK && cli->follow) {
		if (fflush(stdout) != 0)
			break;		/* the reader has gone */
		int r = vmp_ctlc_next(c, -1, &reply);
		if (r < 0) {
			rc = client_error(cli, r, true);
			break;
		}
		json_t *lost = json_object_get(reply, "lost");
		if (json_object_get(reply, "event"))
			one_event(cli, json_object_get(reply, "event"));
		else if (lost && cli->json)
			out_json(reply, true);
		else if (lost)
			printf("(%" JSON_INTEGER_FORMAT " events were lost: this reader was too slow)\n", json_integer_value(lost));
		json_decref(reply);
	}
	vmp_ctlc_free(c);
	return rc;
}

int cmd_switchover(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	char text[512];
	int rc = cli_ask(cli, "switchover", pair_arg(argc, argv), &reply);
	if (rc)
		return rc;
	json_int_t epoch = json_integer_value(json_object_get(reply, "epoch"));
	snprintf(text, sizeof(text), "%s moved from %s to %s (epoch %lld.%lld)", argv[0], text_of(reply, "from"), text_of(reply, "to"),
		 (long long)epoch / 256, (long long)epoch % 256);
	return done(cli, reply, text);
}

int cmd_hold(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	uint32_t ms;
	char text[256];
	if (argc != (cli->all ? 1 : 2))
		return VMP_CTL_USAGE;
	if (vmp_time_parse(argv[argc - 1], &ms) < 0 || !ms)
		return cli_error(cli, VMP_CTL_USAGE, "'%s' is not a time (3s, 2500ms)", argv[argc - 1]);
	json_t *args = pair_arg(argc - 1, argv);
	json_object_set_new(args, "ms", json_integer(ms));
	int rc = cli_ask(cli, "hold", args, &reply);
	if (rc)
		return rc;
	snprintf(text, sizeof(text), "held for %lld ms", (long long)json_integer_value(json_object_get(reply, "until_ms")));
	if (cli->all)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ", %lld pairs",
			 (long long)json_integer_value(json_object_get(reply, "pairs")));
	return done(cli, reply, text);
}

int cmd_unhold(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	if (argc != (cli->all ? 0 : 1))
		return VMP_CTL_USAGE;
	int rc = cli_ask(cli, "unhold", pair_arg(argc, argv), &reply);
	return rc ? rc : done(cli, reply, "hold ended");
}

/* Asks for the name of what is acted upon, unless --yes was given; 0 or an exit status. */
static int confirm(struct cli *cli, const char *danger, const char *text, const char *kind, const char *name)
{
	char line[128];
	if (cli->yes)
		return 0;
	if (!isatty(STDIN_FILENO))
		return cli_error(cli, VMP_CTL_FAILED, "%s: without a terminal it needs --yes", danger);
	printf("%s\nType the %s's name to go on: ", text, kind);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return cli_error(cli, VMP_CTL_FAILED, "not confirmed");
	line[strcspn(line, "\n")] = '\0';
	return strcmp(line, name) ? cli_error(cli, VMP_CTL_FAILED, "not confirmed") : 0;
}

int cmd_force_primary(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	char text[512];
	(void)argc;
	snprintf(text, sizeof(text), "The member of %s on this node becomes primary even if it is not the one on record as in sync.\n"
		 "What clients were told is done, and this member does not hold, is lost. Other members must be made anew.", argv[0]);
	int rc = confirm(cli, "this may lose data", text, "pair", argv[0]);
	if (rc)
		return rc;
	rc = cli_ask(cli, "force-primary", json_pack("{s:s s:b}", "pair", argv[0], "yes", 1), &reply);
	if (rc)
		return rc;
	json_int_t epoch = json_integer_value(json_object_get(reply, "epoch"));
	snprintf(text, sizeof(text), "primary by force (epoch %lld.%lld)", (long long)epoch / 256, (long long)epoch % 256);
	return done(cli, reply, text);
}

static int fence(struct cli *cli, const char *what, const char *node)
{
	json_t *reply;
	char text[160];
	int rc = cli_ask(cli, "fence", json_pack("{s:s s:s s:s}", "what", what, "node", node, "by", "operator"), &reply);
	if (rc)
		return rc;
	snprintf(text, sizeof(text), "%s, %lld ms", strcmp(what, "off") ? "unfenced" : "fenced",
		 (long long)json_integer_value(json_object_get(reply, "took_ms")));
	return done(cli, reply, text);
}

int cmd_fence(struct cli *cli, int argc, char **argv)
{
	char text[256];
	(void)argc;
	snprintf(text, sizeof(text), "All leases of %s end, and its VMs are killed; none starts there before it is unfenced.", argv[0]);
	int rc = confirm(cli, "this kills the VMs of that node", text, "node", argv[0]);
	return rc ? rc : fence(cli, "off", argv[0]);
}

int cmd_unfence(struct cli *cli, int argc, char **argv)
{
	(void)argc;
	return fence(cli, "on", argv[0]);
}

int cmd_voter(struct cli *cli, int argc, char **argv)
{
	json_t *reply;
	json_int_t voters;
	char text[128];
	(void)argc;
	if (strcmp(argv[0], "add") && strcmp(argv[0], "remove") && strcmp(argv[0], "lost"))
		return VMP_CTL_USAGE;
	if (!strcmp(argv[0], "lost") && !cli->yes)
		return cli_error(cli, VMP_CTL_FAILED, "what only the disk of %s knew is given up, and a member that it had in sync may be passed over: "
				 "say --yes when that disk is lost for good", argv[1]);
	int rc = cli_ask(cli, "voters", json_pack("{s:s s:s}", "what", argv[0], "node", argv[1]), &reply);
	if (rc)
		return rc;
	if (!strcmp(argv[0], "lost"))
		return done(cli, reply, "nothing waits for that disk any more");
	voters = json_integer_value(json_object_get(reply, "voters"));
	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT " voter%s", voters, voters == 1 ? "" : "s");
	return done(cli, reply, text);
}
