/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsers of files an operator writes: configuration and keys. What the configuration parser takes reads back the same. */
#include <string.h>

#include "daemon/conf.h"
#include "daemon/keys.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vmp_conf conf, back;
	static struct vmp_diag diag;
	struct vmp_keys keys;
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	vmp_diag_init(&diag);
	if (vmp_conf_parse("fuzz", (const char *)data, size, &conf, &diag) == 0) {
		MUST(diag.count == 0);
		MUST(conf.holder_ms >= 3 * conf.hb_ms);
		f = open_memstream(&text, &len);
		MUST(f && vmp_conf_write(&conf, f) == 0 && fclose(f) == 0);
		MUST(vmp_conf_parse("back", text, len, &back, NULL) == 0);
		MUST(memcmp(&conf, &back, sizeof(conf)) == 0);
		free(text);
	} else {
		MUST(diag.count > 0 && diag.len > 0);
	}
	MUST(strlen(diag.text) == diag.len && diag.len < sizeof(diag.text));
	for (size_t i = 0; i < diag.len; i++)
		MUST(diag.text[i] == '\n' || (unsigned char)diag.text[i] >= 0x20);

	vmp_diag_init(&diag);
	if (vmp_keys_parse("fuzz", (const char *)data, size, &keys, &diag) == 0) {
		MUST(keys.count >= 1 && keys.count <= VMP_KEYS_MAX && keys.send < keys.count);
		for (unsigned int i = 0; i < keys.count; i++)
			MUST(keys.key[i].id && vmp_keys_find(&keys, keys.key[i].id) == (int)i);
	} else {
		MUST(diag.count > 0);
	}
	return 0;
}
