/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Codec of the core's messages and records: explicit little-endian, versioned, length-limited. Pure functions.
 *
 * Versions: 1 = vmpair 0.1. A message of another version is refused (-EPROTONOSUPPORT); the decoder is strict: every
 * count within its limit, every reserved byte zero, no byte left over, else -EPROTO. encode(decode(x)) = x.
 */
#ifndef VMP_WIRE_H
#define VMP_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/core/core.h"

#define VMP_WIRE_VERSION 1
#define VMP_WIRE_MAX 1300

/* Length, or -EMSGSIZE (cap too small), -EINVAL (not a valid message). */
int vmp_wire_encode(const struct vmp_msg *msg, uint8_t *buf, size_t cap);
/* The first of the messages in a datagram; *buf and *len become what is left. 0, -EPROTO, -EPROTONOSUPPORT. Nothing is changed on
 * failure; *ret is wholly set (padding zero) on success. */
int vmp_wire_next(const uint8_t **buf, size_t *len, struct vmp_msg *ret);
/* Exactly one message. */
int vmp_wire_decode(const uint8_t *buf, size_t len, struct vmp_msg *ret);

/* One pair's record as kept in files. Same rules. */
#define VMP_RECORD_MAX 192
int vmp_record_encode(const struct vmp_record *rec, uint8_t *buf, size_t cap);
int vmp_record_decode(const uint8_t *buf, size_t len, struct vmp_record *ret);

#endif
