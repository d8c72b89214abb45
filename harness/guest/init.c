// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the guest. It mounts what tests need, runs the selftests that
 * kselftest's own install step listed, reports them in kselftest's own format
 * over a port of its own and powers off.
 *
 * Its parameters are in its environment, into which the kernel puts those key=value
 * words of the command line that it does not recognize:
 *
 *   TEST=pattern,...  which tests (names, as in fnmatch)
 *   REPEAT=n          how often each
 *   SCALE=n           factor for the tests' timeouts, for a slow guest
 *   TEST_TIMEOUT=n    seconds for each test, whatever its settings say
 *   FROM=name         the first test to run
 *   FRESH=1           run no test after one that had to be stopped: power off
 *   SHELL_ONLY=1      run a shell on the console instead
 *   HOOK=what         break something, to test the harness (see hook())
 *
 * The environment goes on to the tests.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KSELFTEST	"/kselftest"
#define MAX_TESTS	256
#define MAX_MODULES	64
#define KSFT_SKIP	4
/* As in kselftest/runner.sh. */
#define DEFAULT_TIMEOUT	45

struct test {
	char dir[64];
	char name[128];
};

static FILE *report;

/* The host sees from the end of the results how far the tests came. */
static void power_off(void)
{
	if (report)
		fflush(report);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void __attribute__((noreturn, format(printf, 1, 2))) panic(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	fprintf(stderr, "init: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(err));
	power_off();
	exit(1);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "init: write %s: %s\n", path, strerror(errno));
	close(fd);
}

static const char *option(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void mount_at(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		panic("mount %s", dir);
}

/* Of a kernel that has as modules what others have built in: those named there. */
static void load_modules(void)
{
	char *argv[MAX_MODULES + 4] = { "modprobe", "-a", "-q" };
	FILE *f = fopen("/lib/modules/diskseq", "re");
	int n = 3, status;
	pid_t pid;

	if (!f)
		return;
	while (n < MAX_MODULES + 3 && fscanf(f, "%63ms", &argv[n]) == 1)
		n++;
	fclose(f);
	/* for those that the kernel itself asks for */
	write_file("/proc/sys/kernel/modprobe", "/usr/sbin/modprobe");
	pid = fork();
	if (pid < 0)
		panic("fork");
	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
}

static void mount_all(void)
{
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	load_modules();
	mount_at("tmpfs", "/tmp");
	mount_at("tmpfs", "/run");
	mount_at("configfs", "/sys/kernel/config");
	mount_at("debugfs", "/sys/kernel/debug");
	mkdir("/dev/shm", 0777);
	mount_at("tmpfs", "/dev/shm");
	if (symlink("/proc/self/fd", "/dev/fd") && errno != EEXIST)
		panic("/dev/fd");
}

/*
 * The kernel did this for the boot's own console; after devtmpfs is mounted
 * there are better ones, and a shell wants a controlling terminal.
 */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0)
		panic("/dev/console");
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
}

/* The host gave the port a name; which /dev/vportNpM it is, sysfs knows. */
static FILE *open_port(const char *wanted)
{
	double deadline = now() + 10;
	struct dirent *entry;
	char path[300], name[64];
	DIR *dir;
	FILE *f;

	do {
		dir = opendir("/sys/class/virtio-ports");
		while (dir && (entry = readdir(dir))) {
			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
				 entry->d_name);
			f = fopen(path, "re");
			if (!f)
				continue;
			if (!fgets(name, sizeof(name), f))
				name[0] = '\0';
			fclose(f);
			name[strcspn(name, "\n")] = '\0';
			if (strcmp(name, wanted))
				continue;
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			f = fopen(path, "we");
			if (f) {
				closedir(dir);
				return f;
			}
		}
		if (dir)
			closedir(dir);
		usleep(20000);
	} while (now() < deadline);

	errno = ENOENT;
	panic("no virtio port is named %s", wanted);
}

static bool wanted(const char *name)
{
	char patterns[4096], *p, *save;

	snprintf(patterns, sizeof(patterns), "%s", option("TEST", "*"));
	for (p = strtok_r(patterns, ",", &save); p; p = strtok_r(NULL, ",", &save))
		if (!fnmatch(p, name, 0))
			return true;
	return false;
}

/* kselftest-list.txt: a line "collection:test" for each installed test */
static int read_list(struct test *tests)
{
	FILE *f = fopen(KSELFTEST "/kselftest-list.txt", "re");
	const char *from = option("FROM", "");
	bool begun = !*from;
	struct test t;
	int n = 0;

	if (!f)
		panic(KSELFTEST "/kselftest-list.txt");
	while (fscanf(f, " %63[^:]:%127s", t.dir, t.name) == 2) {
		begun |= !strcmp(t.name, from);
		if (!begun || !wanted(t.name))
			continue;
		if (n == MAX_TESTS)
			panic("more than %d tests", MAX_TESTS);
		tests[n++] = t;
	}
	fclose(f);
	return n;
}

/* "timeout=" in the settings of the test's collection; 0 means none */
static int timeout_of(const struct test *t)
{
	int timeout = DEFAULT_TIMEOUT;
	char path[128], line[128];
	FILE *f;

	if (getenv("TEST_TIMEOUT"))
		return atoi(getenv("TEST_TIMEOUT"));
	snprintf(path, sizeof(path), KSELFTEST "/%s/settings", t->dir);
	f = fopen(path, "re");
	if (f) {
		while (fgets(line, sizeof(line), f))
			sscanf(line, "timeout=%d", &timeout);
		fclose(f);
	}
	return timeout * atoi(option("SCALE", "1"));
}

/* Nested TAP is a comment of the outer one's: "# " before each line. */
static void report_output(const char *buf, ssize_t len, bool *at_start)
{
	ssize_t i;

	for (i = 0; i < len; i++) {
		if (*at_start)
			fputs("# ", report);
		fputc(buf[i], report);
		*at_start = buf[i] == '\n';
	}
}

static pid_t start(const struct test *t, int *output)
{
	char dir[128], path[256];
	int fds[2];
	pid_t pid;

	snprintf(dir, sizeof(dir), KSELFTEST "/%s", t->dir);
	snprintf(path, sizeof(path), "./%s", t->name);

	if (pipe2(fds, O_CLOEXEC))
		panic("pipe");
	pid = fork();
	if (pid < 0)
		panic("fork");
	if (pid == 0) {
		setsid();
		close(0);
		open("/dev/null", O_RDONLY);
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		if (chdir(dir) == 0)
			execl(path, t->name, NULL);
		printf("%s: %s\n", path, strerror(errno));
		fflush(stdout);
		_exit(127);
	}
	close(fds[1]);
	*output = fds[0];
	return pid;
}

/* Reaps what is there to reap; true when PID was among it. */
static bool reap(pid_t pid, int *status)
{
	bool seen = false;
	pid_t child;
	int s;

	while ((child = waitpid(-1, &s, WNOHANG)) > 0) {
		if (child == pid) {
			*status = s;
			seen = true;
		}
	}
	return seen;
}

/*
 * Passes PID's output on until it ends or LIMIT seconds are over. What a
 * background child prints after that is ignored.
 */
static bool follow(pid_t pid, int fd, double limit, int *status)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	double deadline = now() + limit;
	bool at_start = true, ended = false;
	char buf[4096];
	ssize_t len;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (;;) {
		len = read(fd, buf, sizeof(buf));
		if (len > 0) {
			report_output(buf, len, &at_start);
			continue;
		}
		if (ended)
			break;
		/* Once more: it may have printed something just before its end. */
		ended = reap(pid, status);
		if (ended)
			continue;
		if (limit && now() > deadline)
			break;
		if (len == 0)
			usleep(10000);
		else
			poll(&pollfd, 1, 50);
	}
	if (!at_start)
		fputc('\n', report);
	return ended;
}

/* A process in uninterruptible sleep survives SIGKILL: report where it sleeps. */
static void kill_all(pid_t pid)
{
	double deadline = now() + 10;
	int status;

	kill(-pid, SIGKILL);
	while (now() < deadline) {
		if (reap(pid, &status))
			return;
		usleep(20000);
	}
	fprintf(report, "# did not die of SIGKILL: see the blocked tasks on the console\n");
	write_file("/proc/sysrq-trigger", "w");
}

/* Returns whether the test ended of itself. */
static bool run_test(const struct test *t, int number)
{
	int timeout = timeout_of(t), status = 0, fd;
	char marker[256], what[256];
	double begin = now();
	bool ended;
	pid_t pid;

	/* So that whatever the kernel reports can be put down to a test. */
	snprintf(marker, sizeof(marker), "<5>diskseq: test %s\n", t->name);
	write_file("/dev/kmsg", marker);

	snprintf(what, sizeof(what), "selftests: %s: %s", t->dir, t->name);
	fprintf(report, "# %s\n", what);
	pid = start(t, &fd);
	ended = follow(pid, fd, timeout, &status);
	if (!ended) {
		kill_all(pid);
		fprintf(report, "#\nnot ok %d %s # TIMEOUT %d seconds\n", number, what, timeout);
	} else if (WIFSIGNALED(status)) {
		fprintf(report, "not ok %d %s # signal=%d\n", number, what, WTERMSIG(status));
	} else if (WEXITSTATUS(status) == KSFT_SKIP) {
		fprintf(report, "ok %d %s # SKIP\n", number, what);
	} else if (WEXITSTATUS(status)) {
		fprintf(report, "not ok %d %s # exit=%d\n", number, what, WEXITSTATUS(status));
	} else {
		fprintf(report, "ok %d %s\n", number, what);
	}
	kill(-pid, SIGKILL);
	close(fd);
	fprintf(report, "# time: %s %.1f s\n", t->name, now() - begin);
	fflush(report);
	return ended;
}

static void run_tests(void)
{
	static struct test tests[MAX_TESTS];
	int repeat = atoi(option("REPEAT", "1"));
	int n = read_list(tests), number = 0;
	int i, r;

	/* KCSAN watches one access in 4000, which sees little in so short a time. */
	write_file("/sys/module/kcsan/parameters/skip_watch", "200\n");

	fprintf(report, "TAP version 13\n1..%d\n", n * repeat);
	for (i = 0; i < n; i++)
		for (r = 0; r < repeat; r++)
			if (!run_test(&tests[i], ++number) && getenv("FRESH"))
				/* at once: a shutdown may wait for what hangs */
				write_file("/proc/sysrq-trigger", "b");
	write_file("/dev/kmsg", "<5>diskseq: end of tests\n");
	fprintf(report, "# end of results\n");
	fflush(report);
}

static void run_shell(void)
{
	pid_t pid = fork();
	int fd, status = 0;

	if (pid == 0) {
		setsid();
		fd = open("/dev/ttyS0", O_RDWR);
		if (fd >= 0) {
			ioctl(fd, TIOCSCTTY, 0);
			dup2(fd, 0);
			dup2(fd, 1);
			dup2(fd, 2);
		}
		if (chdir(KSELFTEST))
			perror(KSELFTEST);
		setenv("PS1", "diskseq# ", 1);
		execl("/bin/sh", "-sh", NULL);
		perror("/bin/sh");
		_exit(127);
	}
	while (!reap(pid, &status))
		usleep(50000);
}

/* What a kernel with CONFIG_GCOV_KERNEL counted goes to the host. */
static void send_counters(void)
{
	FILE *port;
	int status = 0;
	pid_t pid;

	if (access("/sys/kernel/debug/gcov", F_OK))
		return;
	port = open_port("diskseq.gcov");
	pid = fork();
	if (pid == 0) {
		dup2(fileno(port), 1);
		execl("/send-counters", "send-counters", NULL);
		_exit(127);
	}
	while (!reap(pid, &status))
		usleep(50000);
	if (status)
		panic("/send-counters");
}

/* Ways to go wrong: the harness's own tests want to see each of them noticed. */
static void hook(const char *what)
{
	if (!strcmp(what, "oops"))
		write_file("/proc/sysrq-trigger", "c");
	else if (!strcmp(what, "die"))
		power_off();
	else if (!strcmp(what, "hang"))
		for (;;)
			pause();
}

int main(void)
{
	const char *breakage = getenv("HOOK");

	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin:" KSELFTEST, 1);
	setenv("HOME", "/tmp", 1);
	mount_all();
	open_console();
	/* Every message goes to the console, except where it has a shell. */
	write_file("/proc/sys/kernel/printk", getenv("SHELL_ONLY") ? "4\n" : "8\n");
	if (breakage && !strcmp(breakage, "hang-at-boot"))
		hook("hang");
	if (getenv("SHELL_ONLY")) {
		run_shell();
	} else {
		report = open_port("diskseq.tap");
		setvbuf(report, NULL, _IOLBF, 4096);
		if (breakage) {
			fprintf(report, "TAP version 13\n1..1\n# selftests: block: hook\n");
			fflush(report);
			write_file("/dev/kmsg", "<5>diskseq: test hook\n");
			hook(breakage);
		}
		run_tests();
		if (!report_leaks())
			panic("/sys/kernel/debug/kmemleak");
		send_counters();
	}
	power_off();
}
