/* Frames in and out of the agent's byte stream, through two buffers of fixed size. */
#ifndef PROPOLIS_FRAME_H
#define PROPOLIS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

struct frame {
    uint32_t length, stream;
    uint8_t type, flags;
    const uint8_t *payload;
};

struct inbox {
    size_t start, end;
    uint8_t bytes[4 * (WIRE_HEADER_SIZE + WIRE_MAX_PAYLOAD)];
};

/* Reads what is there; false when the host has hung up. */
bool inbox_fill(struct inbox *inbox, int fd);

enum inbox_next { INBOX_FRAME, INBOX_MORE, INBOX_BROKEN };

/* The next whole frame; its payload stays valid until inbox_fill. INBOX_BROKEN: not a frame of this protocol. */
enum inbox_next inbox_next(struct inbox *inbox, struct frame *frame);

struct outbox {
    int fd;
    size_t start, end;
    uint8_t bytes[4 * (WIRE_HEADER_SIZE + WIRE_MAX_PAYLOAD)];
};

/* Makes room for one frame of any size, waiting for the host where needed. False when the host has hung up. */
bool outbox_room(struct outbox *outbox);

/* Where the payload of the next frame goes: WIRE_MAX_PAYLOAD bytes, after outbox_room. */
uint8_t *outbox_payload(struct outbox *outbox);

/* Completes the frame whose payload is already in place. */
void outbox_commit(struct outbox *outbox, uint8_t type, uint32_t stream, size_t length);

/* Writes what the host takes now; false when it has hung up. */
bool outbox_flush(struct outbox *outbox);

static inline bool outbox_empty(const struct outbox *outbox)
{
    return outbox->start == outbox->end;
}

void put_u32(uint8_t *at, uint32_t value);
uint32_t get_u32(const uint8_t *at);
uint64_t get_u64(const uint8_t *at);
uint16_t get_u16(const uint8_t *at);

#endif
