/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "agents/xmltext.h"
#include "agents/ocf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"

#define EXIT_REASON_MAX 128
#define RESKEY "OCF_RESKEY_"

extern char **environ;
static const char *agent_name = "ocf";

static uint64_t monotonic_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint32_t ocf_left_ms(const struct ocf_env *env)
{
	uint64_t margin = env->timeout_ms / 10;
	if (margin > 2000)
		margin = 2000;
	uint64_t used = monotonic_ms() - env->start_ms + margin;
	return used >= env->timeout_ms ? 0 : (uint32_t)(env->timeout_ms - used);
}

/* Not syslog(3): that one waits for a syslog daemon that hangs, and a monitor that waits is a failure of the resource. */
static void to_syslog(const struct ocf_env *env, int level, const char *text)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	char line[1024];
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	int n = snprintf(line, sizeof(line), "<%d>%s(%s)[%d]: %s", LOG_DAEMON | level, agent_name, env->instance, (int)getpid(), text);
	if (n > 0)
		sendto(fd, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1, MSG_DONTWAIT | MSG_NOSIGNAL,
		       (struct sockaddr *)&sa, sizeof(sa));
}

void ocf_log(const struct ocf_env *env, int level, const char *fmt, ...)
{
	char text[768];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s\n", text);
	to_syslog(env, level, text);
}

void ocf_exit_reason(const struct ocf_env *env, const char *fmt, ...)
{
	char text[768];
	const char *prefix = getenv("OCF_EXIT_REASON_PREFIX");
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	text[strcspn(text, "\n")] = '\0';
	to_syslog(env, LOG_ERR, text);
	if (strlen(text) > EXIT_REASON_MAX)
		strcpy(text + EXIT_REASON_MAX - 3, "...");
	fprintf(stderr, "%s%s\n", prefix && *prefix ? prefix : "ocf-exit-reason:", text);
}

static void xml_desc(const char *indent, const char *tag, const char *text)
{
	printf("%s<%s lang=\"en\">", indent, tag);
	xml_text(text);
	printf("</%s>\n", tag);
}

/*
 * The internal subset tells the old DTD, by which ocf-tester still judges, of what OCF 1.1 added; nothing else reads it.
 */
static int meta_data(const struct ocf_agent *a)
{
	printf("<?xml version=\"1.0\"?>\n"
	       "<!DOCTYPE resource-agent SYSTEM \"ra-api-1.dtd\" [\n"
	       "<!ATTLIST parameter reloadable (1|0) #IMPLIED>\n"
	       "<!ATTLIST action name (start|stop|monitor|promote|demote|reload-agent|meta-data|validate-all) #REQUIRED>\n"
	       "]>\n"
	       "<resource-agent name=\"%s\" version=\"%s\">\n"
	       "<version>1.1</version>\n", a->name, a->version);
	xml_desc("", "longdesc", a->longdesc);
	xml_desc("", "shortdesc", a->shortdesc);
	printf("<parameters>\n");
	for (const struct vmp_param *p = a->params; p->name; p++) {
		printf("  <parameter name=\"%s\"%s%s%s>\n", p->name, p->unique ? " unique=\"1\"" : "", p->required ? " required=\"1\"" : "",
		       p->reloadable ? " reloadable=\"1\"" : "");
		xml_desc("    ", "longdesc", p->longdesc);
		xml_desc("    ", "shortdesc", p->shortdesc);
		printf("    <content type=\"string\"");
		if (p->def) {
			printf(" default=\"");
			xml_text(p->def);
			putchar('"');
		}
		printf("/>\n  </parameter>\n");
	}
	printf("</parameters>\n<actions>\n");
	for (const struct ocf_action *c = a->actions; c->name; c++) {
		if (c->hidden)
			continue;
		printf("  <action name=\"%s\" timeout=\"%s\"", c->name, c->timeout);
		if (c->interval)
			printf(" interval=\"%s\" depth=\"0\"", c->interval);
		if (c->role)
			printf(" role=\"%s\"", c->role);
		printf("/>\n");
	}
	printf("</actions>\n</resource-agent>\n");
	return fflush(stdout) == 0 ? VMP_OCF_OK : VMP_OCF_ERR_GENERIC;
}

static void list_actions(const struct ocf_agent *a, FILE *out, const char *separator)
{
	const char *last = "";
	for (const struct ocf_action *c = a->actions; c->name; c++) {
		if (!strcmp(c->name, last))
			continue;
		fprintf(out, "%s%s", *last ? separator : "", c->name);
		last = c->name;
	}
	fputc('\n', out);
}

static void usage(const struct ocf_agent *a, FILE *out)
{
	fprintf(out, "usage: %s ACTION\nOCF 1.1 resource agent: %s\nParameters come in the environment (OCF_RESKEY_NAME). Actions: ", a->name,
		a->shortdesc);
	list_actions(a, out, " ");
}

static uint32_t env_ms(const char *name, uint32_t def)
{
	const char *s = getenv(name);
	char *end;
	if (!s || !*s)
		return def;
	errno = 0;
	unsigned long v = strtoul(s, &end, 10);
	return errno || *end || v > UINT32_MAX ? def : (uint32_t)v;
}

static enum vmp_told env_role(void)
{
	const char *s = getenv(RESKEY "CRM_meta_role");
	if (!s)
		return VMP_TOLD_UNKNOWN;
	if (!strcasecmp(s, "Promoted") || !strcasecmp(s, "Master"))
		return VMP_TOLD_PROMOTED;
	if (!strcasecmp(s, "Unpromoted") || !strcasecmp(s, "Slave"))
		return VMP_TOLD_UNPROMOTED;
	return VMP_TOLD_UNKNOWN;
}

/* What is Pacemaker's or a tool's own and no parameter of the agent. */
static bool is_reserved(const char *name)
{
	return !strncmp(name, "CRM_meta_", 9) || !strncmp(name, "crm_", 4) || !strncmp(name, "trace_", 6) || !strncmp(name, "OCF_", 4);
}

static json_t *env_params(void)
{
	json_t *obj = json_object();
	for (char **e = environ; obj && *e; e++) {
		char name[64];
		const char *eq;
		if (strncmp(*e, RESKEY, strlen(RESKEY)) || !(eq = strchr(*e, '=')))
			continue;
		const char *key = *e + strlen(RESKEY);
		size_t len = (size_t)(eq - key);
		if (!len || len >= sizeof(name))
			continue;
		memcpy(name, key, len);
		name[len] = '\0';
		if (is_reserved(name))
			continue;
		/* json_string refuses what is not UTF-8: the raw bytes would be lost in any case, so they become a value that no check accepts */
		json_t *value = json_string(eq + 1);
		json_object_set_new(obj, name, value ? value : json_string("(not UTF-8)"));
	}
	return obj;
}

int ocf_main(const struct ocf_agent *agent, int argc, char **argv)
{
	agent_name = agent->name;
	const char *name = argc == 2 ? argv[1] : NULL;
	if (!name) {
		usage(agent, stderr);
		return VMP_OCF_ERR_ARGS;
	}
	if (!strcmp(name, "meta-data"))
		return meta_data(agent);
	if (!strcmp(name, "usage") || !strcmp(name, "help") || !strcmp(name, "--help")) {
		usage(agent, stdout);
		return VMP_OCF_OK;
	}
	if (!strcmp(name, "methods")) {
		list_actions(agent, stdout, "\n");
		return VMP_OCF_OK;
	}
	const struct ocf_action *action = agent->actions;
	while (action->name && (strcmp(action->name, name) || !action->run))
		action++;
	if (!action->name) {
		usage(agent, stderr);
		return VMP_OCF_ERR_UNIMPLEMENTED;
	}

	uint32_t timeout_ms = 20000;
	vmp_time_parse(action->timeout, &timeout_ms);
	const char *instance = getenv("OCF_RESOURCE_INSTANCE"), *node = getenv(RESKEY "CRM_meta_on_node"), *level = getenv("OCF_CHECK_LEVEL");
	struct ocf_env env = {
		.instance = instance && *instance ? instance : "default",
		.node = node ? node : "",
		.op_role = env_role(),
		.interval_ms = env_ms(RESKEY "CRM_meta_interval", 0),
		.timeout_ms = env_ms(RESKEY "CRM_meta_timeout", timeout_ms),
		.start_ms = monotonic_ms(),
		.check_level = level ? atoi(level) : 0,
		.params = env_params(),
	};
	if (!env.params) {
		ocf_exit_reason(&env, "out of memory");
		return VMP_OCF_ERR_GENERIC;
	}
	if (!env.timeout_ms)
		env.timeout_ms = timeout_ms;
	int rc = action->run(&env);
	json_decref(env.params);
	return rc;
}
