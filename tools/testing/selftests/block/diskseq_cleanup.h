/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test has changed is put back when the program ends, whatever became of
 * the test.
 */
#ifndef __DISKSEQ_CLEANUP_H
#define __DISKSEQ_CLEANUP_H

#include <pthread.h>
#include <sys/mman.h>

#include "diskseq_util.h"

#define SETTING_MAX	16
#define LEFTOVER_MAX	16
#define END_CALL_MAX	4

/*
 * A failed assertion ends a test before its tear-down, and a timeout kills it:
 * what remains then is removed when the program ends. The memory is shared, as
 * each test is a process.
 */
struct setting {
	char		path[96];	/* empty: none */
	char		was[64];
};

struct leftover {
	void		(*remove)(const char *name);	/* NULL: none */
	char		name[32];
};

struct cleanup {
	pid_t		program;
	pid_t		test;		/* the last one that was begun */
	struct setting	settings[SETTING_MAX];
	struct leftover	leftovers[LEFTOVER_MAX];
};

static struct cleanup *cleanup;

/* See at_end() */
static void (*end_calls[END_CALL_MAX])(void);

static inline struct setting *setting_find(const char *path)
{
	int i;

	for (i = 0; i < SETTING_MAX; i++)
		if (!strcmp(cleanup->settings[i].path, path))
			return &cleanup->settings[i];
	return NULL;
}

/*
 * Change a setting of the kernel: a file that takes what it shows, or one of
 * several words it shows, where that in brackets is chosen. It gets back what
 * it was by setting_restore(), or when the program ends.
 */
static inline int setting_change(const char *path, const char *value)
{
	struct setting *setting = setting_find(path);
	char *chosen;
	int ret;

	if (!setting) {
		setting = setting_find("");
		if (!setting || strlen(path) >= sizeof(setting->path))
			return -ENOSPC;
		ret = read_text(path, setting->was, sizeof(setting->was));
		if (ret)
			return ret;
		chosen = strchr(setting->was, '[');
		if (chosen) {
			chosen[strcspn(chosen, "]")] = '\0';
			memmove(setting->was, chosen + 1, strlen(chosen));
		}
		strcpy(setting->path, path);
	}
	return write_text(path, value);
}

/* Nothing happens if it was not changed. */
static inline int setting_restore(const char *path)
{
	struct setting *setting = setting_find(path);
	int ret;

	if (!setting)
		return 0;
	ret = write_text(path, setting->was);
	setting->path[0] = '\0';
	return ret;
}

static inline struct leftover *leftover_find(const char *name)
{
	int i;

	for (i = 0; i < LEFTOVER_MAX; i++)
		if (!strcmp(cleanup->leftovers[i].name, name))
			return &cleanup->leftovers[i];
	return NULL;
}

/*
 * Have @remove called for @name when the program ends, unless leftover_gone()
 * is called before. Call it before the leftover is created.
 */
static inline int leftover_expect(const char *name,
				  void (*remove)(const char *name))
{
	struct leftover *leftover = leftover_find(name);

	if (!leftover)
		leftover = leftover_find("");
	if (!leftover || strlen(name) >= sizeof(leftover->name))
		return -ENOSPC;
	strcpy(leftover->name, name);
	leftover->remove = remove;
	return 0;
}

static inline void leftover_gone(const char *name)
{
	struct leftover *leftover = leftover_find(name);

	if (leftover)
		leftover->name[0] = '\0';
}

/* Memory that the program and its tests share, zeroed; it stays to the end. */
static inline void *shared_memory(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		abort();
	return mem;
}

/*
 * For the constructor of a driver's header: have @call called when the program
 * ends, after the settings and leftovers of the tests.
 */
static inline void at_end(void (*call)(void))
{
	int i;

	for (i = 0; i < END_CALL_MAX; i++) {
		if (end_calls[i])
			continue;
		end_calls[i] = call;
		return;
	}
	abort();
}

static inline void leftover_remove(struct leftover *leftover)
{
	pid_t pid;

	if (!leftover->name[0])
		return;
	pid = fork();
	if (!pid) {
		leftover->remove(leftover->name);
		_exit(0);
	}
	if (pid > 0)
		wait_for_exit(pid, PATIENCE_MS);
}

static inline void clean_up(void)
{
	int i;

	/* only if a signal ends the program */
	if (cleanup->test && !waitpid(cleanup->test, NULL, WNOHANG)) {
		kill(cleanup->test, SIGKILL);
		wait_for_exit(cleanup->test, PATIENCE_MS);
	}
	for (i = SETTING_MAX - 1; i >= 0; i--)
		if (cleanup->settings[i].path[0])
			setting_restore(cleanup->settings[i].path);
	for (i = LEFTOVER_MAX - 1; i >= 0; i--)
		leftover_remove(&cleanup->leftovers[i]);
	for (i = 0; i < END_CALL_MAX && end_calls[i]; i++)
		end_calls[i]();
}

static inline void note_test(void)
{
	if (getppid() == cleanup->program)
		cleanup->test = getpid();
}

/* Killed by a timeout or by the user */
static inline void end_program(int sig)
{
	if (getpid() == cleanup->program)
		exit(128 + sig);
	_exit(128 + sig);
}

static __attribute__((constructor)) void cleanup_init(void)
{
	cleanup = shared_memory(sizeof(*cleanup));
	cleanup->program = getpid();
	pthread_atfork(NULL, NULL, note_test);
	signal(SIGTERM, end_program);
	signal(SIGINT, end_program);
	/* not run by the tests' own processes: these leave by _exit() */
	atexit(clean_up);
}

#endif /* __DISKSEQ_CLEANUP_H */
