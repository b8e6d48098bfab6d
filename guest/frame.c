#include "frame.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t get_u64(const uint8_t *at)
{
    return (uint64_t)get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

bool inbox_fill(struct inbox *inbox, int fd)
{
    /* moved only when a whole frame would no longer fit, so that bytes are seldom copied twice */
    if (inbox->start == inbox->end) {
        inbox->start = inbox->end = 0;
    } else if (sizeof inbox->bytes - inbox->start < WIRE_HEADER_SIZE + WIRE_MAX_PAYLOAD) {
        memmove(inbox->bytes, inbox->bytes + inbox->start, inbox->end - inbox->start);
        inbox->end -= inbox->start;
        inbox->start = 0;
    }
    while (inbox->end < sizeof inbox->bytes) {
        ssize_t got = read(fd, inbox->bytes + inbox->end, sizeof inbox->bytes - inbox->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 && errno == EAGAIN;
        inbox->end += (size_t)got;
    }
    return true;
}

enum inbox_next inbox_next(struct inbox *inbox, struct frame *frame)
{
    const uint8_t *at = inbox->bytes + inbox->start;
    size_t have = inbox->end - inbox->start;
    if (have < WIRE_HEADER_SIZE)
        return INBOX_MORE;
    frame->length = get_u32(at);
    frame->type = at[4];
    frame->flags = at[5];
    frame->stream = get_u32(at + 8);
    if (frame->length > WIRE_MAX_PAYLOAD || get_u16(at + 6) != 0)
        return INBOX_BROKEN;
    if (have < WIRE_HEADER_SIZE + frame->length)
        return INBOX_MORE;
    frame->payload = at + WIRE_HEADER_SIZE;
    inbox->start += WIRE_HEADER_SIZE + frame->length;
    return INBOX_FRAME;
}

bool outbox_flush(struct outbox *outbox)
{
    while (outbox->start < outbox->end) {
        ssize_t wrote = write(outbox->fd, outbox->bytes + outbox->start, outbox->end - outbox->start);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return errno == EAGAIN;
        if (wrote == 0)
            return true;
        outbox->start += (size_t)wrote;
    }
    outbox->start = outbox->end = 0;
    return true;
}

bool outbox_room(struct outbox *outbox)
{
    const size_t need = WIRE_HEADER_SIZE + WIRE_MAX_PAYLOAD;
    while (sizeof outbox->bytes - outbox->end < need) {
        if (!outbox_flush(outbox))
            return false;
        if (outbox->start > 0) {
            memmove(outbox->bytes, outbox->bytes + outbox->start, outbox->end - outbox->start);
            outbox->end -= outbox->start;
            outbox->start = 0;
        }
        if (sizeof outbox->bytes - outbox->end >= need)
            break;
        struct pollfd wanted = {.fd = outbox->fd, .events = POLLOUT};
        if (poll(&wanted, 1, -1) > 0 && (wanted.revents & (POLLHUP | POLLERR)) != 0)
            return false;
    }
    return true;
}

uint8_t *outbox_payload(struct outbox *outbox)
{
    return outbox->bytes + outbox->end + WIRE_HEADER_SIZE;
}

void outbox_commit(struct outbox *outbox, uint8_t type, uint32_t stream, size_t length)
{
    uint8_t *at = outbox->bytes + outbox->end;
    put_u32(at, (uint32_t)length);
    at[4] = type;
    memset(at + 5, 0, 3);
    put_u32(at + 8, stream);
    outbox->end += WIRE_HEADER_SIZE + length;
}
