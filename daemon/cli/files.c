/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on files of this node: keys and configuration. Only `key rotate` needs the daemon. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cli/cli.h"
#include "daemon/conf.h"
#include "daemon/keys.h"

/* The key file that the configuration names, else the usual one. */
static const char *key_file(const struct cli *cli, struct vmp_conf *conf)
{
	if (cli->file)
		return cli->file;
	if (vmp_conf_load(NULL, conf, NULL) < 0)
		vmp_conf_defaults(conf);
	return conf->key_file;
}

static int failed(const struct cli *cli, const char *path, int rc, const struct vmp_diag *diag)
{
	if (diag->count)
		fputs(diag->text, stderr);
	else
		cli_error(cli, VMP_CTL_FAILED, "%s: %s", path, strerror(-rc));
	return VMP_CTL_FAILED;
}

int cmd_keygen(struct cli *cli, int argc, char **argv)
{
	struct vmp_diag diag;
	struct vmp_conf conf;
	const char *path = key_file(cli, &conf);
	(void)argc, (void)argv;
	vmp_diag_init(&diag);
	int rc = vmp_keys_generate(path, cli->force, &diag);
	if (rc < 0)
		return failed(cli, path, rc, &diag);
	printf("%s: new key. Copy the file to all nodes (mode 0600), then start or reload vmpaird there.\n", path);
	return VMP_CTL_OK;
}

static int list_keys(struct cli *cli, const char *path)
{
	struct vmp_diag diag;
	CLEANUP_KEYS struct vmp_keys keys = {0};
	json_t *list = json_array();
	vmp_diag_init(&diag);
	int rc = vmp_keys_load(path, &keys, &diag);
	if (rc < 0) {
		json_decref(list);
		return failed(cli, path, rc, &diag);
	}
	for (unsigned i = 0; i < keys.count; i++) {
		char fp[VMP_KEY_FP_LEN];
		vmp_key_fingerprint(&keys.key[i], fp);
		if (cli->json)
			json_array_append_new(list, json_pack("{s:i s:s s:b}", "id", keys.key[i].id, "fingerprint", fp, "send", i == keys.send));
		else
			printf("key %-5u %s  %s\n", keys.key[i].id, fp, i == keys.send ? "used for sending" : "valid for receiving");
	}
	if (cli->json) {
		json_t *obj = json_pack("{s:s s:O}", "file", path, "keys", list);
		out_json(obj, false);
		json_decref(obj);
	}
	json_decref(list);
	return VMP_CTL_OK;
}

static int rotate(struct cli *cli)
{
	json_t *reply, *name;
	size_t i;
	int rc = cli_ask(cli, "key-rotate", NULL, &reply);
	if (rc)
		return rc;
	if (cli->json) {
		out_json(reply, false);
	} else {
		printf("key %lld is in use on", (long long)json_integer_value(json_object_get(reply, "key_id")));
		json_array_foreach(json_object_get(reply, "nodes"), i, name)
			printf(" %s", json_string_value(name));
		printf("; older keys stay valid until `vmpair key drop ID' on each node\n");
	}
	json_decref(reply);
	return VMP_CTL_OK;
}

int cmd_key(struct cli *cli, int argc, char **argv)
{
	struct vmp_diag diag;
	struct vmp_conf conf;
	const char *what = argv[0], *path;
	bool with_id = !strcmp(what, "use") || !strcmp(what, "drop");
	unsigned long id = 0;
	uint16_t new_id;
	char *end;
	int rc;

	if (argc != (with_id ? 2 : 1))
		return VMP_CTL_USAGE;
	if (!strcmp(what, "rotate"))
		return cli->file ? VMP_CTL_USAGE : rotate(cli);
	if (with_id) {
		errno = 0;
		id = strtoul(argv[1], &end, 10);
		if (errno || *end || end == argv[1] || id < 1 || id > UINT16_MAX)
			return cli_error(cli, VMP_CTL_USAGE, "'%s' is no key id (1 to 65535)", argv[1]);
	}
	path = key_file(cli, &conf);
	vmp_diag_init(&diag);
	if (!strcmp(what, "list"))
		return list_keys(cli, path);
	if (!strcmp(what, "add")) {
		rc = vmp_keys_add(path, &new_id, &diag);
		if (rc == 0)
			printf("key %u added, valid for receiving\n", new_id);
	} else if (!strcmp(what, "use")) {
		rc = vmp_keys_set_send(path, (uint16_t)id, &diag);
		if (rc == 0)
			printf("key %lu is used for sending after a reload of vmpaird\n", id);
	} else if (!strcmp(what, "drop")) {
		rc = vmp_keys_drop(path, (uint16_t)id, &diag);
		if (rc == 0)
			printf("key %lu dropped; it is refused after a reload of vmpaird\n", id);
	} else {
		return VMP_CTL_USAGE;
	}
	if (rc == 0)
		return VMP_CTL_OK;
	failed(cli, path, rc, &diag);
	return rc == -ENOENT && with_id && access(path, F_OK) == 0 ? VMP_CTL_NOT_FOUND : VMP_CTL_FAILED;
}

int cmd_check_config(struct cli *cli, int argc, char **argv)
{
	const char *path = cli->file ? cli->file : VMP_CONF_FILE;
	struct vmp_diag diag;
	struct vmp_conf conf;
	struct vmp_keys keys;
	(void)argc, (void)argv;
	vmp_diag_init(&diag);
	int rc = vmp_conf_load(cli->file, &conf, &diag);
	if (rc < 0)
		return failed(cli, path, rc, &diag);
	rc = vmp_keys_load(conf.key_file, &keys, &diag);
	if (rc < 0)
		return failed(cli, conf.key_file, rc, &diag);
	vmp_keys_wipe(&keys);
	printf("%s%s and %s are good; a holder's lease lasts %u ms\n", path, access(path, F_OK) == 0 ? "" : " (missing: all defaults)",
	       conf.key_file, conf.holder_ms);
	return VMP_CTL_OK;
}
