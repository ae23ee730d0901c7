/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Manual pages from their templates (standard input): the tables of options and parameters come from the tables that the programs use. */
#include <stdio.h>
#include <string.h>

#include "daemon/conf.h"
#include "daemon/pairparam.h"

static void roff(const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", stdout);
	for (; *s; s++)
		switch (*s) {
		case '\\': fputs("\\e", stdout); break;
		case '-': fputs("\\-", stdout); break;
		default: putchar(*s);
		}
}

static void parameters(void)
{
	puts(".SH PARAMETERS");
	for (const struct vmp_param *p = vmp_pair_param_table; p->name; p++) {
		printf(".TP\n.B %s\n", p->name);
		roff(p->longdesc);
		if (p->options) {
			fputs("\n.br\nValue: ", stdout);
			for (unsigned i = 0; p->options[i]; i++) {
				if (i)
					fputs(" or ", stdout);
				roff(p->options[i]);
			}
		}
		fputs(p->options ? "; " : "\n.br\n", stdout);
		if (p->required)
			fputs("Required", stdout);
		else
			printf("%s: %s", p->options ? "default" : "Default", p->def ? p->def : "none");
		puts(p->reloadable ? "; may be changed live." : ".");
	}
}

int main(void)
{
	char line[1024];
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "@OPTIONS@\n")) {
			if (vmp_conf_write_man(stdout) < 0)
				return 1;
		} else if (!strcmp(line, "@PARAMETERS@\n")) {
			parameters();
		} else {
			fputs(line, stdout);
		}
	}
	return fflush(stdout) != 0 || ferror(stdin);
}
