/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Record codec. One header of fixed length, little-endian:
 *      0 length of the whole record, u32      4 type   5 flags   6 service, u16
 *      8 epoch   16 number   24 conn, u64 each      32 seq, u32   36 id length, u16   38 zero, u16
 *     40 digest   48 total, u64 each      56 id, then data
 * What decodes encodes to the same bytes: there is one form of each record only.
 */
#include <errno.h>
#include <string.h>

#include "internal/endian.h"
#include "vmpair/sync.h"

#define WIRE_FLAGS (VMPAIR_LAST | VMPAIR_IDEMPOTENT | VMPAIR_HAS_ID | VMPAIR_SAME | VMPAIR_IN_STATE)

static const char *const names[] = {
	[VMPAIR_START] = "start", [VMPAIR_OPEN] = "open", [VMPAIR_REQUEST] = "request", [VMPAIR_DISPATCHED] = "dispatched",
	[VMPAIR_ANSWER] = "answer", [VMPAIR_DONE] = "done", [VMPAIR_DROP] = "drop", [VMPAIR_CLOSE] = "close",
	[VMPAIR_HELLO] = "hello", [VMPAIR_WELCOME] = "welcome", [VMPAIR_REFUSE] = "refuse", [VMPAIR_CONFIRM] = "confirm",
	[VMPAIR_PING] = "ping", [VMPAIR_SNAPSHOT] = "snapshot", [VMPAIR_SNAPSHOT_END] = "snapshot-end",
};

static bool type_ok(unsigned int type)
{
	return type < sizeof(names) / sizeof(names[0]) && names[type];
}

const char *vmpair_record_name(unsigned int type)
{
	return type_ok(type) ? names[type] : "unknown";
}

int vmpair_record_encode(const struct vmpair_record *rec, void *buf, size_t size)
{
	uint8_t *p = buf;
	size_t len;

	if (rec->id_len > VMPAIR_ID_MAX || rec->data_len > VMPAIR_DATA_MAX)
		return -EMSGSIZE;
	if (!type_ok(rec->type) || rec->flags & ~WIRE_FLAGS)
		return -EINVAL;
	len = VMPAIR_HEADER_LEN + rec->id_len + rec->data_len;
	if (size < len)
		return -ENOSPC;
	put_le32(p, (uint32_t)len);
	p[4] = rec->type;
	p[5] = rec->flags;
	put_le16(p + 6, rec->service);
	put_le64(p + 8, rec->epoch);
	put_le64(p + 16, rec->number);
	put_le64(p + 24, rec->conn);
	put_le32(p + 32, rec->seq);
	put_le16(p + 36, (uint16_t)rec->id_len);
	put_le16(p + 38, 0);
	put_le64(p + 40, rec->digest);
	put_le64(p + 48, rec->total);
	p += VMPAIR_HEADER_LEN;
	if (rec->id_len)
		memcpy(p, rec->id, rec->id_len);
	if (rec->data_len)
		memcpy(p + rec->id_len, rec->data, rec->data_len);
	return (int)len;
}

int vmpair_record_decode(const void *buf, size_t len, struct vmpair_record *ret)
{
	const uint8_t *p = buf;
	uint32_t total;
	uint16_t id_len;

	if (len < 4)
		return 0;
	/* The length is checked as soon as it is there, so that nobody waits for bytes of a record that is refused anyway. */
	total = get_le32(p);
	if (total < VMPAIR_HEADER_LEN || total > VMPAIR_RECORD_MAX)
		return -EPROTO;
	if (len < VMPAIR_HEADER_LEN)
		return 0;
	id_len = get_le16(p + 36);
	if (!type_ok(p[4]) || p[5] & ~WIRE_FLAGS || id_len > VMPAIR_ID_MAX || get_le16(p + 38) ||
	    total < VMPAIR_HEADER_LEN + id_len || total - VMPAIR_HEADER_LEN - id_len > VMPAIR_DATA_MAX)
		return -EPROTO;
	if (len < total)
		return 0;
	ret->type = p[4];
	ret->flags = p[5];
	ret->service = get_le16(p + 6);
	ret->epoch = get_le64(p + 8);
	ret->number = get_le64(p + 16);
	ret->conn = get_le64(p + 24);
	ret->seq = get_le32(p + 32);
	ret->digest = get_le64(p + 40);
	ret->total = get_le64(p + 48);
	ret->id_len = id_len;
	ret->data_len = total - VMPAIR_HEADER_LEN - id_len;
	ret->id = p + VMPAIR_HEADER_LEN;
	ret->data = p + VMPAIR_HEADER_LEN + id_len;
	return (int)total;
}
