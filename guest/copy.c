#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#define PIECE (256 * 1024)

int copy_out(int to, const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t wrote = write(to, at, length);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return -1;
        at += wrote;
        length -= (size_t)wrote;
    }
    return 0;
}

ssize_t copy_in(int from, void *data, size_t length)
{
    size_t have = 0;
    while (have < length) {
        ssize_t got = read(from, (char *)data + have, length - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

int64_t copy_bytes(int from, int to, int64_t most)
{
    static char buffer[PIECE];
    int64_t moved = 0;
    bool spliced = true;
    while (moved < most) {
        size_t piece = most - moved < PIECE ? (size_t)(most - moved) : PIECE;
        ssize_t got = spliced ? splice(from, NULL, to, NULL, piece, SPLICE_F_MOVE) : read(from, buffer, piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && spliced && errno == EINVAL) { /* neither is a pipe, or a file system that cannot */
            spliced = false;
            continue;
        }
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        if (!spliced && copy_out(to, buffer, (size_t)got) != 0)
            return -1;
        moved += got;
    }
    return moved;
}
