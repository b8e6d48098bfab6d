/* VHDX, after MS-VHDX 20170915: headers, region tables, metadata, block allocation table. Numbers are little-endian. */
#include <stdlib.h>
#include <string.h>

#include "codes.h"
#include "disk.h"
#include "text.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define HEADER_SIZE (4 * KIB)
#define TABLE_SIZE (64 * KIB)
#define MOST_ENTRIES 2047
#define MOST_BYTES (64 * MIB * MIB)

struct region {
    uint64_t offset, length;
};

struct image {
    struct file *file;
    struct verdict *verdict;
    struct region bat, metadata, log;
    uint64_t block, size, sector;
    bool parent;
};

static const unsigned char BAT_REGION[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                             0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const unsigned char METADATA_REGION[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                                  0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};

enum item { FILE_PARAMETERS, DISK_SIZE, PAGE_83, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR, ITEMS };

static const struct {
    unsigned char guid[16];
    uint32_t length; /* 0: any */
    bool required;
} items[ITEMS] = {
    [FILE_PARAMETERS] =
        {{0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b}, 8, true},
    [DISK_SIZE] = {{0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8},
                   8,
                   true},
    [PAGE_83] = {{0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46},
                 16,
                 true},
    [LOGICAL_SECTOR] =
        {{0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f}, 4, true},
    [PHYSICAL_SECTOR] =
        {{0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56}, 4, true},
    [PARENT_LOCATOR] =
        {{0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c}, 0, false},
};

static uint32_t le16(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8;
}

static uint32_t le32(const unsigned char *at)
{
    return le16(at) | le16(at + 2) << 16;
}

static uint64_t le64(const unsigned char *at)
{
    return le32(at) | (uint64_t)le32(at + 4) << 32;
}

static bool all_zero(const unsigned char *at, size_t length)
{
    while (length-- > 0)
        if (*at++ != 0)
            return false;
    return true;
}

/* CRC-32C over `length` bytes whose field at 4 counts as zero. */
static uint32_t crc32c(const unsigned char *data, size_t length)
{
    uint32_t crc = UINT32_MAX;
    for (size_t at = 0; at < length; at++) {
        crc ^= at >= 4 && at < 8 ? 0u : data[at];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return ~crc;
}

static bool corrupt(struct image *image, const char *what)
{
    return complain(image->verdict, VHD_METADATA, "%s", what);
}

/* Both headers must be sound: who writes a new file has no excuse for one that is not. */
static bool check_headers(struct image *image, bool read_only)
{
    unsigned char headers[2][HEADER_SIZE];
    for (int at = 0; at < 2; at++) {
        unsigned char *header = headers[at];
        if (!file_read(image->file, (64 + 64 * at) * KIB, header, HEADER_SIZE) || memcmp(header, "head", 4) != 0)
            return corrupt(image, "a header is missing");
        if (le32(header + 4) != crc32c(header, HEADER_SIZE))
            return corrupt(image, "a header's checksum is wrong");
        if (le16(header + 66) != 1)
            return complain(image->verdict, VHD_FORMAT_VERSION, "a header's version is not 1");
        if (le16(header + 64) != 0)
            return complain(image->verdict, VHD_FORMAT_VERSION, "a header's log version is not 0");
        if (!all_zero(header + 80, HEADER_SIZE - 80))
            return corrupt(image, "a header's reserved bytes are not zero");
    }
    uint64_t first = le64(headers[0] + 8), second = le64(headers[1] + 8);
    if (first == second)
        return corrupt(image, "both headers have the same sequence number");
    const unsigned char *current = first > second ? headers[0] : headers[1];
    image->log = (struct region){le64(current + 72), le32(current + 68)};
    if (image->log.offset % MIB != 0 || image->log.length % MIB != 0 || image->log.offset < MIB)
        return corrupt(image, "the log does not lie on whole mebibytes");
    if (!all_zero(current + 48, 16) && read_only)
        return corrupt(image, "the log is not empty: it would have to be replayed, and the disk is read-only");
    return true;
}

static bool check_region_table(struct image *image, const unsigned char *table)
{
    uint32_t count = le32(table + 8);
    if (memcmp(table, "regi", 4) != 0 || le32(table + 4) != crc32c(table, TABLE_SIZE))
        return corrupt(image, "a region table is missing, or its checksum is wrong");
    if (count > MOST_ENTRIES)
        return corrupt(image, "a region table has too many entries");
    for (uint32_t number = 0; number < count; number++) {
        const unsigned char *entry = table + 16 + 32 * number;
        struct region region = {le64(entry + 16), le32(entry + 24)};
        if (memcmp(entry, BAT_REGION, 16) == 0)
            image->bat = region;
        else if (memcmp(entry, METADATA_REGION, 16) == 0)
            image->metadata = region;
        else if ((le32(entry + 28) & 1) != 0)
            return complain(image->verdict, VHD_FORMAT_VERSION, "a required region is unknown");
    }
    return true;
}

static bool overlap(struct region one, struct region other)
{
    return one.offset < other.offset + other.length && other.offset < one.offset + one.length;
}

static bool check_regions(struct image *image)
{
    unsigned char *tables = allocate(2 * TABLE_SIZE);
    bool good = file_read(image->file, 192 * KIB, tables, 2 * TABLE_SIZE) && check_region_table(image, tables)
                && check_region_table(image, tables + TABLE_SIZE);
    if (good && memcmp(tables, tables + TABLE_SIZE, TABLE_SIZE) != 0)
        good = corrupt(image, "the two region tables differ");
    free(tables);
    if (!good)
        return corrupt(image, "the region tables cannot be read");
    struct region *all[] = {&image->bat, &image->metadata, &image->log};
    for (int at = 0; at < 3; at++) {
        if (at < 2 && all[at]->length == 0)
            return corrupt(image, "the table or the metadata region is missing");
        if (all[at]->offset % MIB != 0 || all[at]->length % MIB != 0 || all[at]->offset < MIB)
            return corrupt(image, "a region does not lie on whole mebibytes");
        if (all[at]->offset + all[at]->length > file_size(image->file))
            return complain(image->verdict, VHD_INVALID_FILE_SIZE, "a region lies beyond the end of the file");
        for (int other = 0; other < at; other++)
            if (overlap(*all[at], *all[other]))
                return corrupt(image, "regions overlap");
    }
    return true;
}

static bool take_items(struct image *image, const unsigned char values[ITEMS][16])
{
    image->block = le32(values[FILE_PARAMETERS]);
    image->parent = (le32(values[FILE_PARAMETERS] + 4) & 2) != 0;
    image->size = le64(values[DISK_SIZE]);
    image->sector = le32(values[LOGICAL_SECTOR]);
    uint32_t physical = le32(values[PHYSICAL_SECTOR]);
    if (image->block < MIB || image->block > 256 * MIB || (image->block & (image->block - 1)) != 0)
        return complain(image->verdict, VHD_BLOCK_SIZE, "blocks of %llu bytes", (unsigned long long)image->block);
    if ((image->sector != 512 && image->sector != 4096) || (physical != 512 && physical != 4096))
        return complain(image->verdict, VHD_SECTOR_SIZE, "sectors of %llu and %u bytes",
                        (unsigned long long)image->sector, (unsigned)physical);
    if (image->size == 0 || image->size % image->sector != 0 || image->size > MOST_BYTES)
        return complain(image->verdict, VHD_INVALID_SIZE, "a disk of %llu bytes", (unsigned long long)image->size);
    if (image->parent)
        return complain(image->verdict, VHD_PARENT_NOT_FOUND, "it has a parent, which the stand-in does not look for");
    return true;
}

static bool check_metadata(struct image *image)
{
    unsigned char *table = allocate(TABLE_SIZE), values[ITEMS][16] = {{0}};
    bool found[ITEMS] = {false}, good = true;
    uint32_t count = 0;
    if (!file_read(image->file, image->metadata.offset, table, TABLE_SIZE) || memcmp(table, "metadata", 8) != 0
        || (count = le16(table + 10)) > MOST_ENTRIES)
        good = corrupt(image, "the metadata table is missing");
    for (uint32_t number = 0; good && number < count; number++) {
        const unsigned char *entry = table + 32 + 32 * number;
        uint32_t offset = le32(entry + 16), length = le32(entry + 20), flags = le32(entry + 24);
        int known = 0;
        while (known < ITEMS && memcmp(entry, items[known].guid, 16) != 0)
            known++;
        if (length > 0 && (offset < TABLE_SIZE || (uint64_t)offset + length > image->metadata.length))
            good = corrupt(image, "a metadata item lies outside of its region");
        else if (known == ITEMS)
            good =
                (flags & 4) == 0 || complain(image->verdict, VHD_FORMAT_VERSION, "a required metadata item is unknown");
        else if (found[known] || (items[known].length != 0 && length != items[known].length))
            good = corrupt(image, "a metadata item comes twice or has the wrong length");
        else if ((flags & 1) != 0 || (items[known].required && (flags & 4) == 0))
            good = corrupt(image, "a metadata item's flags are wrong");
        else if (items[known].length != 0)
            good = file_read(image->file, image->metadata.offset + offset, values[known], length)
                   || corrupt(image, "a metadata item cannot be read");
        found[known < ITEMS ? known : PARENT_LOCATOR] |= known < ITEMS;
    }
    free(table);
    for (int known = 0; good && known < ITEMS; known++)
        if (items[known].required && !found[known])
            good = corrupt(image, "a required metadata item is missing");
    return good && take_items(image, (const unsigned char(*)[16])values);
}

static int compare(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left, other = *(const uint64_t *)right;
    return (one > other) - (one < other);
}

static bool bat_corrupt(struct image *image, const char *what, uint64_t number)
{
    return complain(image->verdict, VHD_BAT_CORRUPT, "entry %llu of the block allocation table: %s",
                    (unsigned long long)number, what);
}

/* Payload blocks that lie in the file do so on whole mebibytes, inside, and not upon each other or a region. */
static bool check_entry(struct image *image, uint64_t entry, uint64_t number, bool bitmap, uint64_t *offset)
{
    uint64_t state = entry & 7;
    *offset = (entry >> 20) * MIB;
    if ((entry & 0xffff8) != 0)
        return bat_corrupt(image, "reserved bits are set", number);
    if (bitmap)
        return state == 0 || bat_corrupt(image, "a bitmap block of a disk without a parent", number);
    if (state == 4 || state == 5 || state == 7)
        return bat_corrupt(image, "a state that does not exist without a parent", number);
    if (state != 6) {
        *offset = 0;
        return true;
    }
    struct region block = {*offset, image->block};
    if (block.offset < MIB || block.offset + block.length > file_size(image->file))
        return bat_corrupt(image, "the block lies outside of the file", number);
    if (overlap(block, image->bat) || overlap(block, image->metadata) || overlap(block, image->log))
        return bat_corrupt(image, "the block lies upon a region", number);
    return true;
}

static bool check_bat(struct image *image)
{
    uint64_t ratio = (8 * MIB) * image->sector / image->block;
    uint64_t blocks = (image->size + image->block - 1) / image->block;
    uint64_t entries = blocks + (blocks - 1) / ratio, used = 0;
    if (entries * 8 > image->bat.length)
        return complain(image->verdict, VHD_BAT_CORRUPT, "the block allocation table is too short");
    unsigned char *table = allocate(entries * 8);
    uint64_t *offsets = allocate(entries * sizeof *offsets);
    bool good =
        file_read(image->file, image->bat.offset, table, entries * 8) || bat_corrupt(image, "cannot be read", 0);
    for (uint64_t number = 0; good && number < entries; number++) {
        uint64_t offset;
        good = check_entry(image, le64(table + 8 * number), number, number % (ratio + 1) == ratio, &offset);
        if (offset != 0)
            offsets[used++] = offset;
    }
    if (good)
        qsort(offsets, used, sizeof *offsets, compare);
    for (uint64_t at = 1; good && at < used; at++)
        if (offsets[at] - offsets[at - 1] < image->block)
            good = complain(image->verdict, VHD_BAT_CORRUPT, "two blocks lie upon each other");
    free(table);
    free(offsets);
    return good;
}

bool vhdx_check(struct file *file, bool read_only, struct verdict *verdict)
{
    struct image image = {.file = file, .verdict = verdict};
    unsigned char identifier[8];
    if (!file_read(file, 0, identifier, 8) || memcmp(identifier, "vhdxfile", 8) != 0)
        return complain(verdict, VHD_FORMAT_UNKNOWN, "it is no VHDX");
    if (file_size(file) % MIB != 0)
        return complain(verdict, VHD_INVALID_FILE_SIZE, "the file has %llu bytes, which are no whole mebibytes",
                        (unsigned long long)file_size(file));
    return check_headers(&image, read_only) && check_regions(&image) && check_metadata(&image) && check_bat(&image);
}
