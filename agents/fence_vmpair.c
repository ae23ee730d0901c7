/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence_vmpair(8): fences a node by having a majority of the voters refuse its leases. vmpaird does the work and answers only when it is
 * done; this program speaks as fence agents do. Parameters come as command line options or, when there are none, as NAME=VALUE lines on
 * stdin; names that are not ours are ignored, as Pacemaker sends more. Exit: 0 done (status: on), 1 error, 2 status off.
 *
 * It cuts services off and does not end the host, so it offers no reboot: Pacemaker then asks for off, and for on when the node is back.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "agents/xmltext.h"
#include "config.h"
#include "daemon/ctl.h"
#include "daemon/ctlclient.h"
#include "internal/cleanup.h"

/* Tests lead it to a daemon of their own. */
#define ENV_SOCKET "VMPAIR_SOCKET"

enum { FENCE_OK = 0, FENCE_ERROR = 1, FENCE_OFF = 2 };
enum { NAME_MAX_LEN = 255, TIMEOUT_MAX_S = 3600, CONNECT_MS = 5000 };

struct input {
	char action[32];
	char plug[NAME_MAX_LEN + 1], nodename[NAME_MAX_LEN + 1];
	unsigned timeout_s;
	bool verbose;
};

static const struct param {
	const char *name, *getopt, *type, *def, *shortdesc, *obsoletes;
	bool deprecated;
} params[] = {
	{"action", "-o, --action=[action]", "string", "off", "off, on, status, monitor, list, validate-all or metadata", NULL, false},
	{"plug", "-n, --plug=[node]", "string", NULL, "Node to act on, by its name or id in corosync.conf; Pacemaker gives it", "port", false},
	{"port", "-n, --plug=[node]", "string", NULL, "Node to act on, by its name or id in corosync.conf; Pacemaker gives it", NULL, true},
	{"power_timeout", "--power-timeout=[seconds]", "second", "20", "Time limit of off and on", NULL, false},
	{"verbose", "-v, --verbose", "boolean", "0", "Say on stderr what is asked for", NULL, false},
};

static const char longdesc[] =
	"fence_vmpair cuts a node off from the service of all vmpair pairs, without a power switch. \"off\": a majority of the voters records that "
	"the node is barred, refuses it every lease from then on, and waits until the leases it may still have are over; by then the kernel of "
	"that node has closed the entries of its virtual machines, whether its daemon lives or not. Only then does the action succeed. The "
	"barred node, as soon as it hears of it, kills its members and starts none. \"on\" (unfencing) lifts the bar when the node has "
	"joined the cluster again. A minority cannot fence: the action fails.\n"
	"\n"
	"What it does NOT cover: it does not end the host. Resources other than ocf:vmpair:pair on that node (filesystems, databases, addresses, "
	"other virtual machines) go on, and so does access of its virtual machines to storage that vmpair does not manage. Where "
	"nodes run anything of that kind, use it in a topology together with a power device: power first and fence_vmpair at the next level, "
	"or both in one level. With fewer than three voters (two nodes without a witness) it can fence only a node that answers; use a power device "
	"there.\n"
	"\n"
	"vmpaird must run on the nodes that execute the device. See fence_vmpair(8).";

static bool to_stderr_only;

/* One line, for people and for Pacemaker, which shows the last one. */
static int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text[strcspn(text, "\n")] = '\0';
	fprintf(stderr, "fence_vmpair: %s\n", text);
	if (!to_stderr_only)
		syslog(LOG_DAEMON | LOG_ERR, "%s", text);
	return FENCE_ERROR;
}

/* --- metadata ------------------------------------------------------------------------------------------------------------- */
static int metadata(void)
{
	printf("<?xml version=\"1.0\" ?>\n"
	       "<resource-agent name=\"fence_vmpair\" shortdesc=\"Fencing by refusing a node all leases of vmpair\">\n"
	       "<longdesc>");
	xml_text(longdesc);
	printf("</longdesc>\n<vendor-url></vendor-url>\n<parameters>\n");
	for (size_t i = 0; i < ARRAY_SIZE(params); i++) {
		const struct param *p = &params[i];
		printf("\t<parameter name=\"%s\" unique=\"0\" required=\"0\"", p->name);
		if (p->obsoletes)
			printf(" obsoletes=\"%s\"", p->obsoletes);
		if (p->deprecated)
			printf(" deprecated=\"1\"");
		printf(">\n\t\t<getopt mixed=\"%s\" />\n\t\t<content type=\"%s\"", p->getopt, p->type);
		if (p->def)
			printf(" default=\"%s\"", p->def);
		printf(" />\n\t\t<shortdesc lang=\"en\">");
		xml_text(p->shortdesc);
		printf("</shortdesc>\n\t</parameter>\n");
	}
	printf("</parameters>\n<actions>\n"
	       "\t<action name=\"on\" on_target=\"1\" automatic=\"1\" />\n"
	       "\t<action name=\"off\" />\n"
	       "\t<action name=\"status\" />\n"
	       "\t<action name=\"list\" />\n"
	       "\t<action name=\"monitor\" />\n"
	       "\t<action name=\"metadata\" />\n"
	       "\t<action name=\"validate-all\" />\n"
	       "</actions>\n</resource-agent>\n");
	return fflush(stdout) == 0 ? FENCE_OK : FENCE_ERROR;
}

static int usage(FILE *f)
{
	fputs("Usage: fence_vmpair -o ACTION [-n NODE] [OPTION]...\n"
	      "Fences a node by refusing it all leases of vmpair. Without options, reads them as NAME=VALUE lines from stdin.\n\n"
	      "  -o, --action=ACTION          off (default), on, status, monitor, list, validate-all, metadata\n"
	      "  -n, --plug=NODE              node to act on, by its name or id in corosync.conf\n"
	      "      --power-timeout=SECONDS  time limit of off and on (default 20)\n"
	      "  -v, --verbose                say on stderr what is asked for\n"
	      "  -h, --help                   this text\n"
	      "  -V, --version                version\n"
	      "\nExit codes: 0 done (status: the node is not fenced), 1 error, 2 status: the node is fenced\n", f);
	return f == stderr ? FENCE_ERROR : FENCE_OK;
}

/* --- input ---------------------------------------------------------------------------------------------------------------- */
static int set_text(char *to, size_t size, const char *name, const char *value)
{
	if (strlen(value) >= size)
		return fail("%s: longer than %zu characters", name, size - 1);
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 127)
			return fail("%s: blanks and control characters are not allowed", name);
	strcpy(to, value);
	return FENCE_OK;
}

/* FENCE_OK also for what is not ours: Pacemaker and other tools send more than an agent knows. */
static int set(struct input *in, const char *name, const char *value, bool *ret_known)
{
	char *end;
	unsigned long v;
	*ret_known = true;
	if (!strcmp(name, "action") || !strcmp(name, "option"))
		return set_text(in->action, sizeof(in->action), "action", value);
	if (!strcmp(name, "plug") || !strcmp(name, "port"))
		return set_text(in->plug, sizeof(in->plug), name, value);
	if (!strcmp(name, "nodename"))
		return set_text(in->nodename, sizeof(in->nodename), name, value);
	if (!strcmp(name, "power_timeout")) {
		errno = 0;
		v = strtoul(value, &end, 10);
		if (errno || end == value || (*end && strcmp(end, "s")) || v < 1 || v > TIMEOUT_MAX_S || *value == '-')
			return fail("power_timeout: \"%.32s\" is not a number of seconds from 1 to %d", value, TIMEOUT_MAX_S);
		in->timeout_s = (unsigned)v;
		return FENCE_OK;
	}
	if (!strcmp(name, "verbose")) {
		in->verbose = strcmp(value, "0") && strcmp(value, "no") && strcmp(value, "false") && strcmp(value, "off");
		return FENCE_OK;
	}
	*ret_known = false;
	return FENCE_OK;
}

static int from_stdin(struct input *in)
{
	CLEANUP_FREE char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	bool known;
	while ((len = getline(&line, &cap, stdin)) > 0) {
		char *name = line, *value, *end;
		if ((size_t)len != strlen(line))
			return fail("stdin: a line with a zero byte");
		while (*name == ' ' || *name == '\t')
			name++;
		for (end = name + strlen(name); end > name && strchr(" \t\r\n", end[-1]); end--)
			end[-1] = '\0';
		if (!*name || *name == '#')
			continue;
		value = strchr(name, '=');
		if (!value)
			return fail("stdin: \"%.64s\" is not NAME=VALUE", name);
		*value++ = '\0';
		int rc = set(in, name, value, &known);
		if (rc)
			return rc;
	}
	return ferror(stdin) ? fail("stdin: %s", strerror(errno)) : FENCE_OK;
}

static int from_options(struct input *in, int argc, char **argv, bool *ret_done)
{
	static const struct option longs[] = {
		{"action", required_argument, NULL, 'o'}, {"plug", required_argument, NULL, 'n'}, {"port", required_argument, NULL, 'n'},
		{"nodename", required_argument, NULL, 'N'}, {"power-timeout", required_argument, NULL, 'T'}, {"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0},
	};
	bool known;
	int opt, rc = FENCE_OK;
	opterr = 0;
	while (rc == FENCE_OK && (opt = getopt_long(argc, argv, ":o:n:vhV", longs, NULL)) != -1) {
		switch (opt) {
		case 'o': rc = set(in, "action", optarg, &known); break;
		case 'n': rc = set(in, "plug", optarg, &known); break;
		case 'N': rc = set(in, "nodename", optarg, &known); break;
		case 'T': rc = set(in, "power_timeout", optarg, &known); break;
		case 'v': in->verbose = true; break;
		case 'h':
			*ret_done = true;
			return usage(stdout);
		case 'V':
			*ret_done = true;
			return printf("fence_vmpair %s\n", PACKAGE_VERSION) > 0 ? FENCE_OK : FENCE_ERROR;
		case ':': return fail("option %s needs a value (fence_vmpair --help)", argv[optind - 1]);
		default: return fail("unknown option %s (fence_vmpair --help)", argv[optind - 1]);
		}
	}
	if (rc == FENCE_OK && optind < argc)
		return fail("\"%.64s\" is not an option (fence_vmpair --help)", argv[optind]);
	return rc;
}

/* --- actions -------------------------------------------------------------------------------------------------------------- */
static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static const char *silence(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED: return "vmpaird does not run on this node";
	case -EACCES:
	case -EPERM: return "not root";
	case -ETIMEDOUT: return "vmpaird does not answer in time";
	case -ECONNRESET: return "vmpaird went away";
	}
	return strerror(-rc);
}

/* FENCE_OK and the reply; else the error was said. A daemon that goes away in the middle is asked again: every request can be repeated. */
static int ask(const struct input *in, const char *what, json_t **ret)
{
	int64_t end = now_ms() + (int64_t)in->timeout_s * 1000;
	int rc;
	for (;;) {
		int left = (int)(end - now_ms());
		struct vmp_ctlc *c;
		if (left <= 0)
			return fail("%s: %s", what, silence(-ETIMEDOUT));
		rc = vmp_ctlc_open_wait(&c, getenv(ENV_SOCKET), left < CONNECT_MS ? left : CONNECT_MS);
		if (rc < 0)
			return fail("%s: %s", what, silence(rc));
		left = (int)(end - now_ms());
		left = left > 1 ? left : 1;
		json_auto_t *req = json_pack("{s:i s:s s:s s:s s:s s:i}", "v", VMP_CTL_VERSION, "cmd", "fence", "what", what, "node",
							    in->plug, "by", "agent", "timeout_ms", left - left / 20);
		rc = req ? vmp_ctlc_call(c, req, left < CONNECT_MS ? left : CONNECT_MS, left, ret, NULL) : -EINVAL;
		vmp_ctlc_free(c);
		if (rc == 0 && json_is_true(json_object_get(*ret, "retry"))) {	/* the daemon has just started */
			struct timespec rest = {.tv_nsec = 100 * 1000000};
			json_decref(*ret);
			*ret = NULL;
			nanosleep(&rest, NULL);
			continue;
		}
		if (rc == -ECONNRESET)
			continue;
		if (rc < 0)
			return fail("%s: %s", what, rc == -EINVAL ? "the node's name is no valid text" : silence(rc));
		if (json_integer_value(json_object_get(*ret, "rc")) != VMP_CTL_OK) {
			const char *reason = json_string_value(json_object_get(*ret, "reason"));
			fail("%s: %s", what, reason && *reason ? reason : "vmpaird refuses without a reason");
			json_decref(*ret);
			*ret = NULL;
			return FENCE_ERROR;
		}
		return FENCE_OK;
	}
}

static int act_status(const struct input *in)
{
	json_auto_t *reply = NULL;
	int rc = ask(in, "status", &reply);
	if (rc)
		return rc;
	bool off = json_is_object(json_object_get(reply, "fenced"));
	printf("Status: %s\n", off ? "OFF" : "ON");
	return off ? FENCE_OFF : FENCE_OK;
}

static int act_list(const struct input *in)
{
	json_auto_t *reply = NULL;
	json_t *node;
	size_t i;
	int rc = ask(in, "list", &reply);
	if (rc)
		return rc;
	json_array_foreach(json_object_get(reply, "nodes"), i, node)
		printf("%s,\n", json_string_value(json_object_get(node, "name")));
	return fflush(stdout) == 0 ? FENCE_OK : FENCE_ERROR;
}

static int act(const struct input *in)
{
	static const struct { const char *action, *what; bool node; } asks[] = {
		{"off", "off", true}, {"on", "on", true}, {"status", "status", true}, {"monitor", "check", false}, {"list", "list", false},
		{"validate-all", NULL, false},
	};
	size_t i = 0;
	while (i < ARRAY_SIZE(asks) && strcmp(in->action, asks[i].action))
		i++;
	if (i == ARRAY_SIZE(asks)) {
		if (!strcmp(in->action, "reboot"))
			return fail("reboot is not offered: a fenced node goes on without its leases (off), and comes back by on");
		return fail("action \"%s\" is not known (off, on, status, monitor, list, validate-all, metadata)", in->action);
	}
	if (asks[i].node && !*in->plug)
		return fail("%s: which node? (plug)", in->action);
	if (!asks[i].what)
		return FENCE_OK;
	if (in->verbose)
		fprintf(stderr, "fence_vmpair: %s %s, at most %u s\n", in->action, in->plug, in->timeout_s);
	if (!strcmp(asks[i].what, "status"))
		return act_status(in);
	if (!strcmp(asks[i].what, "list"))
		return act_list(in);
	json_auto_t *reply = NULL;
	int rc = ask(in, asks[i].what, &reply);
	if (rc == FENCE_OK && asks[i].node)
		printf("Success: %s is %s\n", json_string_value(json_object_get(reply, "node")), !strcmp(in->action, "off") ? "OFF" : "ON");
	return rc;
}

int main(int argc, char **argv)
{
	struct input in = {.action = "off", .timeout_s = 20};
	bool done = false;
	to_stderr_only = isatty(STDERR_FILENO);
	openlog("fence_vmpair", LOG_PID, LOG_DAEMON);
	int rc = argc > 1 ? from_options(&in, argc, argv, &done) : from_stdin(&in);
	if (rc || done)
		return rc;
	if (!strcmp(in.action, "metadata") || !strcmp(in.action, "meta-data"))
		return metadata();
	if (!*in.plug)
		strcpy(in.plug, in.nodename);
	return act(&in);
}
