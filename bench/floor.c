/* The floor to compare with: says one byte at the same kind of port that the agent uses, then does as it is told. */
#include <fcntl.h>
#include <sched.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <unistd.h>

#define BULK (256L << 20)

static char buffer[1 << 20];

int main(void)
{
    int port;
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    while ((port = open("/dev/vport0p1", O_RDWR)) < 0)
        sched_yield();
    write(port, "x", 1);
    for (long got, left = BULK; (got = read(port, buffer, sizeof buffer)) > 0; left = BULK) {
        if (buffer[0] == 'o') /* output, the last byte of which is the answer */
            for (left -= 1; left > 0;)
                left -= write(port, buffer, left < 65536 ? (size_t)left : 65536);
        else if (buffer[0] == 'i') /* input, whose end is told */
            while ((left -= got) > 0)
                got = read(port, buffer, 65536);
        else if (buffer[0] == 'k') /* what the kernel logged */
            for (long length = klogctl(3, buffer, sizeof buffer), at = 0; at < length;)
                at += write(port, buffer + at, (size_t)(length - at));
        if (buffer[0] != 'k')
            write(port, buffer, 1);
    }
}
