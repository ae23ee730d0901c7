/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small world for real relays: a network namespace of its own, applications that behave as their requests say, clients, and
 * the daemon's side of the control channel. Everything blocks with a time limit; a limit that is reached ends the test.
 */
#ifndef RELAY_WORLD_H
#define RELAY_WORLD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { NODES = 3, IDS = 20000, WAIT_MS = 10000 };

#define CHECK(cond) check_((cond), #cond, __FILE__, __LINE__)
void check_(bool ok, const char *what, const char *file, int line);
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...);
uint64_t now_ms(void);

/* Needs root: skips (77) without. */
void world_init(void);
const char *world_dir(void);

/*
 * An application on 127.0.0.1 (http1, line): what it does stands in the request, see world.c. executed[] counts per number.
 */
struct app {
	int port, line_port, fd, line_fd;
	int executed[IDS];
	uint64_t total;
	bool twist; /* its answers differ from everybody else's */
	bool breaks; /* it ends connections instead of answering /n/ and "n" */
	bool holds; /* it does nothing with lines until this is false again */
};
struct app *app_start(int port, int line_port);
void app_stop(struct app *a); /* refuses connections from now on */
void app_resume(struct app *a);

struct relay {
	int node, fd, port;
	pid_t pid;
	uint64_t member;
	char ip[16]; /* entry address: one per node here, so that a test can reach each */
	char line[65536];
	size_t len;
	json_t *events;
};

/* `program` NULL: the shipped one. `more`: members of the configuration as a JSON object, or NULL. */
struct relay *relay_start(int node, const char *program, const char *more);
struct relay *relay_start_raw(int node, const char *program); /* no configuration is sent */
json_t *relay_conf(struct relay *r, const char *more);
void relay_kill(struct relay *r); /* SIGKILL, and free */
int relay_stop(struct relay *r);  /* by command; its exit status */
__attribute__((format(printf, 2, 3))) void relay_cmd(struct relay *r, const char *fmt, ...);
void relay_send(struct relay *r, const char *text);
/* The next event of that name (earlier ones of other names stay); NULL after ms. Owned by the caller. */
json_t *relay_event(struct relay *r, const char *name, int ms);
json_t *relay_expect(struct relay *r, const char *name);
/* Until the newest stats have `name` >= value. */
void relay_stats(struct relay *r, const char *name, int64_t value);
int64_t relay_refused(struct relay *r, const char *why);
void relay_primary(struct relay *r, uint64_t epoch);	/* fence, role, mode alone */
void relay_follow(struct relay *standby, struct relay *primary, uint64_t epoch);
void relay_sync(struct relay *primary, struct relay *standby); /* waits until caught up, by the recorded steps */

int dial(const char *ip, int port);
void put(int fd, const char *text);
__attribute__((format(printf, 2, 3))) void putf(int fd, const char *fmt, ...);
/* One HTTP answer within ms: its status, 0 nothing came, -1 closed. body may be NULL. */
int answer_in(int fd, char *body, size_t size, int ms);
int answer(int fd, char *body, size_t size);
/* A whole request on a connection of its own. */
int ask(struct relay *r, const char *method, const char *target, const char *id, char *body, size_t size);
/* One line, without its end. */
int line_in(int fd, char *buf, size_t size, int ms);
bool closed_in(int fd, int ms);

#define HTTP_PORT 8080
#define LINE_PORT 8081
#define STREAM_PORT 8082

#endif
