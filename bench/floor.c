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
        if (buffer[0] == 'o') /* output */
            while ((left -= write(port, buffer, 65536)) > 0) {
            }
        else if (buffer[0] == 'i') /* input, whose end is told */
            while ((left -= got) > 0)
                got = read(port, buffer, 65536);
        else if (buffer[0] == 'k') /* what the kernel logged */
            write(port, buffer, (size_t)klogctl(3, buffer, sizeof buffer));
        if (buffer[0] != 'o' && buffer[0] != 'k')
            write(port, buffer, 1);
    }
}
