/* The footer of a fixed VHD, after the Virtual Hard Disk Image Format Specification. Numbers are big-endian. */
#include <string.h>

#include "codes.h"
#include "disk.h"

#define FOOTER 512
#define CHECKSUM_AT 64
#define FIXED 2
#define MOST_BYTES (2040ull << 30)

static uint32_t be32(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t be64(const unsigned char *at)
{
    return (uint64_t)be32(at) << 32 | be32(at + 4);
}

static uint32_t checksum(const unsigned char *footer)
{
    uint32_t sum = 0;
    for (int at = 0; at < FOOTER; at++)
        if (at < CHECKSUM_AT || at >= CHECKSUM_AT + 4)
            sum += footer[at];
    return ~sum;
}

bool vhd_check(struct file *file, struct verdict *verdict)
{
    unsigned char footer[FOOTER];
    uint64_t size = file_size(file);
    if (size < FOOTER || !file_read(file, size - FOOTER, footer, FOOTER) || memcmp(footer, "conectix", 8) != 0)
        return complain(verdict, VHD_FOOTER_MISSING, "the footer of a VHD is missing");
    if (be32(footer + CHECKSUM_AT) != checksum(footer))
        return complain(verdict, VHD_FOOTER_CHECKSUM, "the footer's checksum is wrong");
    if (be32(footer + 12) != 0x00010000)
        return complain(verdict, VHD_FORMAT_VERSION, "the footer's version is not 1.0");
    if ((be32(footer + 8) & 2) == 0)
        return complain(verdict, VHD_FOOTER_CORRUPT, "the reserved feature bit is not set");
    if (be32(footer + 60) != FIXED)
        return complain(verdict, NOT_SUPPORTED, "type %u: the stand-in reads fixed VHDs only",
                        (unsigned)be32(footer + 60));
    if (be64(footer + 16) != UINT64_MAX)
        return complain(verdict, VHD_FOOTER_CORRUPT, "a fixed VHD has no data offset");
    uint64_t current = be64(footer + 48);
    if (current != size - FOOTER)
        return complain(verdict, VHD_INVALID_FILE_SIZE, "the footer says %llu bytes, the file has %llu before it",
                        (unsigned long long)current, (unsigned long long)(size - FOOTER));
    if (current == 0 || current % 512 != 0 || current > MOST_BYTES || be64(footer + 40) == 0)
        return complain(verdict, VHD_INVALID_SIZE, "a disk of %llu bytes", (unsigned long long)current);
    if (footer[84] > 1)
        return complain(verdict, VHD_FOOTER_CORRUPT, "the saved state is neither 0 nor 1");
    return true;
}
