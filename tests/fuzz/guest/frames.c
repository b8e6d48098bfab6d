/* libFuzzer target: frames from the host, cut in two anywhere. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "frame.h"

static volatile uint64_t sink;

static void feed(struct inbox *inbox, const uint8_t *data, size_t size)
{
    struct frame frame;
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0 || write(ends[1], data, size) != (ssize_t)size)
        abort();
    inbox_fill(inbox, ends[0]);
    while (inbox_next(inbox, &frame) == INBOX_FRAME) {
        for (uint32_t i = 0; i < frame.length; i++)
            sink += frame.payload[i];
        if (frame.length >= 8)
            sink += get_u64(frame.payload) + get_u16(frame.payload);
    }
    close(ends[0]);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 32768)
        return 0;
    struct inbox *inbox = calloc(1, sizeof *inbox);
    size_t cut = (size - 1) * data[0] / 255;
    feed(inbox, data + 1, cut);
    feed(inbox, data + 1 + cut, size - 1 - cut);
    free(inbox);
    return 0;
}
