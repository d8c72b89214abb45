/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Partition tables, sound and broken, for the tests of the disk sequence
 * number: written to a file or a disk from its beginning.
 *
 * Functions return 0 or a negative errno.
 */
#ifndef __DISKSEQ_TABLE_H
#define __DISKSEQ_TABLE_H

#include <endian.h>

#include "diskseq_util.h"

#define SECTOR		512
#define TABLE_SECTORS	4096	/* of the disk that a table is for */
#define PART_SECTORS	8	/* a page: each part of a chain takes a read */

#define TYPE_EXTENDED	0x05
#define TYPE_LINUX	0x83
#define TYPE_PROTECTIVE	0xee

struct mbr_entry {
	__u8	status;
	__u8	chs_first[3];
	__u8	type;
	__u8	chs_last[3];
	__u32	start;		/* little endian, as all that follows */
	__u32	nr_sectors;
};

#define MBR_ENTRY(_type, _start, _nr)	\
	{ .type = _type, .start = htole32(_start), .nr_sectors = htole32(_nr) }

struct gpt_header {
	char	signature[8];
	__u32	revision;
	__u32	size;
	__u32	crc;
	__u32	reserved;
	__u64	my_lba;
	__u64	other_lba;
	__u64	first_usable;
	__u64	last_usable;
	__u8	guid[16];
	__u64	entries_lba;
	__u32	nr_entries;
	__u32	entry_size;
	__u32	entries_crc;
};

struct gpt_entry {
	__u8	type[16];
	__u8	guid[16];
	__u64	first;
	__u64	last;
	__u64	attributes;
	__u16	name[36];
};

#define GPT_ENTRIES	128
#define GPT_HEADER_SIZE	92	/* without padding */

static inline int table_write(int fd, __u64 sector, const void *buf, size_t size)
{
	ssize_t len = pwrite(fd, buf, size, sector * SECTOR);

	if (len < 0)
		return -errno;
	return (size_t)len == size ? 0 : -EIO;
}

/* A master boot record, or that of an extended partition */
static inline int mbr_write(int fd, __u64 sector, const struct mbr_entry *entries,
			    int nr)
{
	unsigned char buf[SECTOR] = { [510] = 0x55, [511] = 0xaa };

	memcpy(buf + 446, entries, nr * sizeof(*entries));
	return table_write(fd, sector, buf, sizeof(buf));
}

/* The two partitions of most tests, in the first sector of a disk */
static inline void table_two(unsigned char sector[static SECTOR])
{
	const struct mbr_entry entries[4] = {
		MBR_ENTRY(TYPE_LINUX, 64, 64),
		MBR_ENTRY(TYPE_LINUX, 128, 64),
	};

	memcpy(sector + 446, entries, sizeof(entries));
	sector[510] = 0x55;
	sector[511] = 0xaa;
}

/* Four primary partitions */
static inline int table_mbr(int fd)
{
	const struct mbr_entry entries[] = {
		MBR_ENTRY(TYPE_LINUX, 64, 64),
		MBR_ENTRY(TYPE_LINUX, 128, 64),
		MBR_ENTRY(TYPE_LINUX, 192, 64),
		MBR_ENTRY(TYPE_LINUX, 256, 64),
	};

	return mbr_write(fd, 0, entries, 4);
}

/* One extended partition with a chain of logical ones, each read by itself */
static inline int table_chain(int fd, unsigned int nr)
{
	const unsigned int first = 64;
	const struct mbr_entry extended =
		MBR_ENTRY(TYPE_EXTENDED, first, TABLE_SECTORS - first);
	unsigned int i;
	int ret;

	ret = mbr_write(fd, 0, &extended, 1);
	for (i = 0; !ret && i < nr; i++) {
		const struct mbr_entry entries[] = {
			MBR_ENTRY(TYPE_LINUX, 1, PART_SECTORS - 1),
			MBR_ENTRY(TYPE_EXTENDED, (i + 1) * PART_SECTORS,
				  PART_SECTORS),
		};

		/* the last one has no next */
		ret = mbr_write(fd, first + i * PART_SECTORS, entries,
				i + 1 < nr ? 2 : 1);
	}
	return ret;
}

/* One extended partition whose chain is a ring */
static inline int table_ring(int fd)
{
	const struct mbr_entry
		extended = MBR_ENTRY(TYPE_EXTENDED, 64, 64),
		itself = MBR_ENTRY(TYPE_EXTENDED, 0, 64);
	int ret;

	ret = mbr_write(fd, 0, &extended, 1);
	return ret ? ret : mbr_write(fd, 64, &itself, 1);
}

/* One that is there, one behind the end of the disk, one across it */
static inline int table_beyond(int fd)
{
	const struct mbr_entry entries[] = {
		MBR_ENTRY(TYPE_LINUX, 64, 64),
		MBR_ENTRY(TYPE_LINUX, 2 * TABLE_SECTORS, 64),
		MBR_ENTRY(TYPE_LINUX, TABLE_SECTORS - 64, 1024),
	};

	return mbr_write(fd, 0, entries, 3);
}

/* What only looks like a table by its last two bytes */
static inline int table_garbage(int fd)
{
	unsigned char buf[SECTOR];

	memset(buf, 0xa5, sizeof(buf));
	buf[510] = 0x55;
	buf[511] = 0xaa;
	return table_write(fd, 0, buf, sizeof(buf));
}

static inline __u32 table_crc(const void *buf, size_t size)
{
	const unsigned char *p = buf;
	__u32 crc = ~0U;
	int bit;

	while (size--) {
		crc ^= *p++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* @bad_crc: of the entries */
static inline int gpt_write(int fd, unsigned int nr, bool bad_crc)
{
	const struct mbr_entry protective =
		MBR_ENTRY(TYPE_PROTECTIVE, 1, TABLE_SECTORS - 1);
	const unsigned int array = GPT_ENTRIES * sizeof(struct gpt_entry) / SECTOR;
	struct gpt_entry entries[GPT_ENTRIES] = {};
	struct gpt_header header = {
		.signature = { 'E', 'F', 'I', ' ', 'P', 'A', 'R', 'T' },
		.revision = htole32(0x10000),
		.size = htole32(GPT_HEADER_SIZE),
		.first_usable = htole64(2 + array),
		.last_usable = htole64(TABLE_SECTORS - 2 - array),
		.guid = { 1 },
		.nr_entries = htole32(GPT_ENTRIES),
		.entry_size = htole32(sizeof(*entries)),
	};
	unsigned int i;
	int ret;

	for (i = 0; i < nr; i++) {
		const __u64 first = 64 + i * PART_SECTORS;

		entries[i].type[0] = 0xaf;
		entries[i].guid[0] = i + 1;
		entries[i].first = htole64(first);
		entries[i].last = htole64(first + PART_SECTORS - 1);
	}
	header.entries_crc = htole32(table_crc(entries, sizeof(entries)) ^ bad_crc);

	ret = mbr_write(fd, 0, &protective, 1);
	/* at the beginning, and again at the end */
	for (i = 0; !ret && i < 2; i++) {
		const __u64 lba = i ? TABLE_SECTORS - 1 : 1;
		const __u64 other = i ? 1 : TABLE_SECTORS - 1;
		const __u64 entries_lba = i ? lba - array : lba + 1;

		header.my_lba = htole64(lba);
		header.other_lba = htole64(other);
		header.entries_lba = htole64(entries_lba);
		header.crc = 0;
		header.crc = htole32(table_crc(&header, GPT_HEADER_SIZE));
		ret = table_write(fd, lba, &header, GPT_HEADER_SIZE);
		if (!ret)
			ret = table_write(fd, entries_lba, entries,
					  sizeof(entries));
	}
	return ret;
}

static inline int table_gpt(int fd)
{
	return gpt_write(fd, GPT_ENTRIES, false);
}

static inline int table_bad_gpt(int fd)
{
	return gpt_write(fd, GPT_ENTRIES, true);
}

/* A disk that ends before its partitions do */
static inline int table_truncated_gpt(int fd)
{
	int ret = gpt_write(fd, GPT_ENTRIES, false);

	return !ret && ftruncate(fd, 1024 * SECTOR) ? -errno : ret;
}

#endif /* __DISKSEQ_TABLE_H */
