# SPDX-License-Identifier: GPL-2.0-or-later
# Export and import hooks for common applications (pair parameters export and import).
pkglibexec_PROGRAMS += heartbeat/hooks/redis-state
heartbeat_hooks_redis_state_SOURCES = heartbeat/hooks/redis.c
