// SPDX-License-Identifier: GPL-2.0
/*
 * What the disk sequence number costs: how long some operations take that assign,
 * announce or return a number, and some that have nothing to do with it.
 * stress/goals explains each item. The same program runs on both kernels.
 *
 * In the environment: ITEM=pattern,... selects items; ICOUNT=1 states that the clock
 * advances by 1 ns with each instruction of the only processor.
 *
 * Prints TAP, with a line for each block of rounds
 *
 *   # bench ITEM ELAPSED BUSY
 *
 * in ns for one operation. BUSY is ELAPSED without the time in which the processor was
 * idle; with ICOUNT=1 that is the number of instructions.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "program.h"

#include <fnmatch.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>

#define FEW		8		/* disks, and threads at most */
#define MANY		512
#define SPARE		999		/* comes and goes */
#define CLOSED		1000		/* and the seven after it: not held open */
#define READ_SIZE	(64 << 20)	/* sixteen times that are 1 GiB */
#define CHUNK		(1 << 20)

static int control, listener, uevent, images[2];
static int loops[FEW];
static char *chunk;
static bool has_number, detaches_late;
static pid_t idler;
static clockid_t idle_clock;

static uint64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		die("clock");
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* The items: each does it once, for thread number WHO. */

static void do_getdiskseq(int who)
{
	__u64 value;

	if (ioctl(loops[who], BLKGETDISKSEQ, &value))
		die("BLKGETDISKSEQ");
}

static void do_getsize64(int who)
{
	__u64 value;

	if (ioctl(loops[who], BLKGETSIZE64, &value))
		die("BLKGETSIZE64");
}

static void do_roget(int who)
{
	int value;

	if (ioctl(loops[who], BLKROGET, &value))
		die("BLKROGET");
}

static int configure(int who, int image, __u32 flags)
{
	struct loop_config config = { .fd = image, .info.lo_flags = flags };

	return ioctl(loops[who], LOOP_CONFIGURE, &config);
}

static void attach(int who, int image, __u32 flags)
{
	if (configure(who, image, flags))
		die("LOOP_CONFIGURE");
}

static void open_loop(int who)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/loop%d", who);
	loops[who] = open(path, O_RDWR | O_CLOEXEC);
	if (loops[who] < 0)
		die("%s", path);
}

static void detach(int who)
{
	if (ioctl(loops[who], LOOP_CLR_FD, 0))
		die("LOOP_CLR_FD");
	if (detaches_late) {
		close(loops[who]);
		open_loop(who);
	}
}

/* Newer kernels detach at the last close only, even if LOOP_CLR_FD asks for it. */
static void find_out_when_it_detaches(void)
{
	attach(0, images[0], 0);
	detach(0);
	if (!configure(0, images[0], 0)) {
		detach(0);
		return;
	}
	detaches_late = true;
	close(loops[0]);
	open_loop(0);
}

static void do_attach(int who)
{
	attach(who, images[0], 0);
	detach(who);
}

/* The last close detaches, as it does after mount -o loop. */
static void do_autoclear(int who)
{
	struct loop_config config = {
		.fd = images[0], .info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/loop%d", CLOSED + who);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config))
		die("%s", path);
	close(fd);
}

static void do_attach_part(int who)
{
	attach(who, images[1], LO_FLAGS_PARTSCAN);
	detach(who);
}

static void do_uevent(int who)
{
	(void)who;
	if (pwrite(uevent, "change", 6, 0) != 6)
		die("uevent");
}

static void do_alloc(int who)
{
	(void)who;
	if (ioctl(control, LOOP_CTL_ADD, SPARE) < 0)
		die("LOOP_CTL_ADD");
	if (ioctl(control, LOOP_CTL_REMOVE, SPARE) < 0)
		die("LOOP_CTL_REMOVE");
}

/* From a file in memory, through the page cache of the loop device. */
static void do_read(int who)
{
	off_t at;
	int i;

	attach(who, images[0], 0);
	for (i = 0; i < 16; i++) {
		for (at = 0; at < READ_SIZE; at += CHUNK)
			if (pread(loops[who], chunk, CHUNK, at) != CHUNK)
				die("read");
		if (ioctl(loops[who], BLKFLSBUF, 0))
			die("BLKFLSBUF");
	}
	detach(who);
}

/* The device is attached, so LOOP_CONFIGURE fails. */
static void do_refuse(int who)
{
	if (!configure(who, images[0], 0) || errno != EBUSY)
		die("LOOP_CONFIGURE that had to fail");
}

static const struct item {
	const char	*name;
	void		(*op)(int who);
	int		rounds, blocks;
	int		disks;
	bool		threads;	/* one for each processor */
	bool		attached;	/* the devices are */
	bool		number;		/* needs a kernel that has it */
} items[] = {
	{ "getdiskseq", do_getdiskseq, 50000, 5, .disks = FEW, .number = true },
	{ "getsize64", do_getsize64, 50000, 5, .disks = FEW },
	{ "roget", do_roget, 50000, 5, .disks = FEW },
	{ "attach", do_attach, 20, 5, .disks = FEW },
	{ "attach-part", do_attach_part, 20, 5, .disks = FEW },
	{ "last-close", do_autoclear, 20, 5, .disks = FEW },
	{ "uevent", do_uevent, 1000, 5, .disks = FEW },
	{ "alloc", do_alloc, 20, 5, .disks = FEW },
	{ "read", do_read, 1, 3, .disks = FEW },
	{ "getdiskseq-many", do_getdiskseq, 50000, 5, .disks = MANY, .number = true },
	{ "attach-many", do_attach, 20, 5, .disks = MANY },
	{ "uevent-many", do_uevent, 1000, 5, .disks = MANY },
	{ "alloc-many", do_alloc, 20, 5, .disks = MANY },
	{ "cycles", do_attach, 100, 3, .disks = FEW, .threads = true },
	{ "autoclear", do_autoclear, 500, 3, .disks = FEW, .threads = true },
	{ "refuse", do_refuse, 2000, 3, .disks = FEW, .threads = true, .attached = true },
};

#define ITEMS (int)(sizeof(items) / sizeof(items[0]))

static bool wanted(const struct item *item)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char patterns[512], *p, *save;
	const char *env = getenv("ITEM");

	/* more than two processors are there for threads only */
	if (item->threads ? cpus < 2 : cpus > 2)
		return false;
	snprintf(patterns, sizeof(patterns), "%s", env && *env ? env : "*");
	for (p = strtok_r(patterns, ",", &save); p; p = strtok_r(NULL, ",", &save))
		if (!fnmatch(p, item->name, 0))
			return true;
	return false;
}

/* A listener, as on a real machine. It does not read while an item is measured. */
static void listen_to_uevents(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int size = 64 << 20;

	listener = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (listener < 0 || bind(listener, (void *)&addr, sizeof(addr)) ||
	    setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		die("netlink");
}

static void read_uevents(void)
{
	char buf[8192];

	while (recv(listener, buf, sizeof(buf), MSG_DONTWAIT) >= 0)
		;
	if (errno != EAGAIN)
		die("events of which the listener knows nothing");
}

/* With data in each page: nothing is quicker to read than a hole. */
static int make_image(off_t size)
{
	int fd = syscall(__NR_memfd_create, "image", 1U /* MFD_CLOEXEC */);
	off_t at;

	if (fd < 0)
		die("memfd_create");
	for (at = 0; at < size; at += CHUNK)
		if (pwrite(fd, chunk, CHUNK, at) != CHUNK)
			die("image");
	return fd;
}

static void make_partitions(int fd)
{
	static const unsigned char table[2][16] = {
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0 },
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 128, 0, 0, 0, 64, 0, 0, 0 },
	};

	if (pwrite(fd, table, sizeof(table), 446) != sizeof(table) ||
	    pwrite(fd, "\x55\xaa", 2, 510) != 2)
		die("partition table");
}

static void make_disks(int upto)
{
	static int disks;

	for (; disks < upto; disks++) {
		if (ioctl(control, LOOP_CTL_ADD, disks) < 0 && errno != EEXIST)
			die("LOOP_CTL_ADD %d", disks);
		if (disks < FEW)
			open_loop(disks);
	}
	read_uevents();
}

/*
 * Uses the idle time of the only processor, and measures it. Otherwise the clock
 * would jump ahead by an unknown amount.
 */
static void start_idler(void)
{
	struct sched_param param = {};

	idler = fork();
	if (idler < 0)
		die("fork");
	if (idler == 0) {
		if (sched_setscheduler(0, 5 /* SCHED_IDLE */, &param))
			_exit(1);
		for (;;)
			__asm__ volatile("");
	}
	if (clock_getcpuclockid(idler, &idle_clock))
		die("clock of the idler");
}

static pthread_barrier_t barrier;

struct thread {
	pthread_t		id;
	const struct item	*item;
	int			who;
};

static void *run_thread(void *arg)
{
	const struct thread *t = arg;
	int i;

	pthread_barrier_wait(&barrier);
	for (i = 0; i < t->item->rounds; i++)
		t->item->op(t->who);
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* Returns how often it was done. */
static int run_threads(const struct item *item, uint64_t *begin, uint64_t *end)
{
	int n = sysconf(_SC_NPROCESSORS_ONLN), i;
	struct thread threads[FEW];

	if (n > FEW)
		n = FEW;
	pthread_barrier_init(&barrier, NULL, n + 1);
	for (i = 0; i < n; i++) {
		threads[i].item = item;
		threads[i].who = i;
		if (pthread_create(&threads[i].id, NULL, run_thread, &threads[i]))
			die("thread");
	}
	pthread_barrier_wait(&barrier);
	*begin = read_clock(CLOCK_MONOTONIC);
	pthread_barrier_wait(&barrier);
	*end = read_clock(CLOCK_MONOTONIC);
	for (i = 0; i < n; i++)
		pthread_join(threads[i].id, NULL);
	pthread_barrier_destroy(&barrier);
	return n * item->rounds;
}

static void measure(const struct item *item)
{
	uint64_t begin, end, idle = 0;
	int times = item->rounds, i;

	for (i = 0; item->attached && i < FEW; i++)
		attach(i, images[0], 0);
	if (item->threads) {
		times = run_threads(item, &begin, &end);
	} else {
		/* the first one finds cold caches */
		if (item->rounds > 1)
			item->op(0);
		if (idler)
			idle = read_clock(idle_clock);
		begin = read_clock(CLOCK_MONOTONIC);
		for (i = 0; i < item->rounds; i++)
			item->op(0);
		end = read_clock(CLOCK_MONOTONIC);
		if (idler)
			idle = read_clock(idle_clock) - idle;
	}
	for (i = 0; item->attached && i < FEW; i++)
		detach(i);
	read_uevents();

	printf("# bench %s %.1f ", item->name, (double)(end - begin) / times);
	if (idler)
		printf("%.1f\n", (double)(end - begin - idle) / times);
	else
		printf("-\n");
	fflush(stdout);
}

/* Block by block, so that what disturbs the machine disturbs all alike. */
static void measure_with(int disks)
{
	int block, i;

	make_disks(disks);
	for (block = 0; block < 5; block++)
		for (i = 0; i < ITEMS; i++)
			if (items[i].disks == disks && block < items[i].blocks &&
			    wanted(&items[i]) && (has_number || !items[i].number))
				measure(&items[i]);
}

int main(void)
{
	__u64 number;
	int i, n = 0;

	for (i = 0; i < ITEMS; i++)
		n += wanted(&items[i]);
	printf("TAP version 13\n1..%d\n", n);

	chunk = malloc(CHUNK);
	if (!chunk)
		die("malloc");
	memset(chunk, 0x5a, CHUNK);
	images[0] = make_image(READ_SIZE);
	images[1] = make_image(CHUNK);
	make_partitions(images[1]);
	/* before there are disks, which it would keep open */
	if (getenv("ICOUNT"))
		start_idler();
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		die("/dev/loop-control");
	listen_to_uevents();
	make_disks(1);
	for (i = 0; i < FEW; i++)
		if (ioctl(control, LOOP_CTL_ADD, CLOSED + i) < 0)
			die("LOOP_CTL_ADD %d", CLOSED + i);
	uevent = open("/sys/block/loop0/uevent", O_WRONLY | O_CLOEXEC);
	if (uevent < 0)
		die("uevent");
	has_number = !ioctl(loops[0], BLKGETDISKSEQ, &number);
	find_out_when_it_detaches();

	measure_with(FEW);
	measure_with(MANY);
	if (idler)
		kill(idler, SIGKILL);

	for (i = 0, n = 0; i < ITEMS; i++)
		if (wanted(&items[i]))
			printf("ok %d %s%s\n", ++n, items[i].name, has_number || !items[i].number ?
			       "" : " # SKIP this kernel has no sequence number");
	return 0;
}
