/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Time, small files, and processes.
 *
 * Functions return 0 (or what their name implies) or a negative errno, here and in
 * the other headers of these tests.
 */
#ifndef __DISKSEQ_UTIL_H
#define __DISKSEQ_UTIL_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/types.h>

#define PAGE		4096	/* the unit in which the tests read and write data */

/*
 * Long enough for a slow virtual machine: a test that waits so long fails. On a kernel
 * on which many do, DISKSEQ_PATIENCE makes it shorter.
 */
#define PATIENCE_MS	patience_ms()

static inline int patience_ms(void)
{
	const char *env = getenv("DISKSEQ_PATIENCE");
	int ms = env ? atoi(env) : 0;

	return ms > 0 ? ms : 20000;
}

/* Longer than a task waits for a lock that is held only for a moment */
#define LONG_SLEEP_MS	50

static inline long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* How many rounds a test goes: DISKSEQ_CYCLES asks for more, up to @most. */
static inline int test_rounds(int most)
{
	const char *env = getenv("DISKSEQ_CYCLES");
	int rounds = env ? atoi(env) / 8 : 12;

	if (rounds > most)
		rounds = most;
	return rounds > 10 ? rounds : 10;
}

/*
 * A machine that other programs use is only suspended, and a driver only unloaded, if
 * that is asked for.
 */
static inline bool may_disrupt(void)
{
	return getenv("DISKSEQ_DISRUPT");
}

/* Only where there is no event to wait for. */
static inline void nap(void)
{
	struct timespec ts = { .tv_nsec = 1000000 };

	nanosleep(&ts, NULL);
}

static inline int read_text(const char *path, char *buf, size_t size)
{
	ssize_t len;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = read(fd, buf, size - 1);
	if (len < 0)
		len = -errno;
	close(fd);
	if (len < 0)
		return len;
	buf[len] = '\0';
	return 0;
}

static inline int write_text(const char *path, const char *text)
{
	ssize_t len;
	int fd;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = write(fd, text, strlen(text));
	if (len < 0)
		len = -errno;
	close(fd);
	return len < 0 ? len : 0;
}

/*
 * Load the driver if it is a module. Errors are ignored, because the caller
 * checks for the driver.
 */
static inline void load_module(const char *name, const char *parameter)
{
	pid_t pid;

	pid = fork();
	if (!pid) {
		execlp("modprobe", "modprobe", "-q", name, parameter, NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static inline bool kernel_is_before(int major, int minor)
{
	struct utsname u;
	int has[2];

	return !uname(&u) && sscanf(u.release, "%d.%d", &has[0], &has[1]) == 2 &&
	       (has[0] < major || (has[0] == major && has[1] < minor));
}

/* udev opens disks at times of its own choosing. */
static inline bool udev_is_running(void)
{
	return !access("/run/udev/control", F_OK);
}

/* Flags and counters that threads share */

static inline bool flag_is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static inline void flag_set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

static inline void counter_inc(unsigned int *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELEASE);
}

static inline unsigned int counter_read(const unsigned int *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

static inline bool wait_for_count(const unsigned int *counter, unsigned int least)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (counter_read(counter) < least) {
		if (now_ms() > deadline)
			return false;
		nap();
	}
	return true;
}

/*
 * The exit status of a child. -ETIMEDOUT: it has not ended, because it hangs in
 * the kernel; -EINTR: a signal ended it.
 */
static inline int wait_for_exit(pid_t pid, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	int status;
	pid_t ret;

	while (!(ret = waitpid(pid, &status, WNOHANG))) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
	if (ret < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* Which sleep in the kernel a task is in, killable or not; -1: it is in none. */
static inline long which_sleep(pid_t tid)
{
	static const char count[] = "\nvoluntary_ctxt_switches:";
	char path[64], buf[4096], *at;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (read_text(path, buf, sizeof(buf)) || !strstr(buf, "\nState:\tD"))
		return -1;
	at = strstr(buf, count);
	return at ? atol(at + strlen(count)) : -1;
}

/*
 * Wait until a thread sleeps in the kernel and does not soon wake up. False: it has
 * set @done before.
 */
static inline bool wait_until_it_waits(pid_t tid, const bool *done)
{
	long long now = now_ms(), since = now, deadline = now + PATIENCE_MS;
	long before = -1, sleep;

	while (now < deadline && !flag_is_set(done)) {
		sleep = which_sleep(tid);
		if (sleep < 0 || sleep != before)
			since = now;
		else if (now - since >= LONG_SLEEP_MS)
			return true;
		before = sleep;
		nap();
		now = now_ms();
	}
	return false;
}

#endif /* __DISKSEQ_UTIL_H */
