#include "vsock.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "console.h"

#define AGAIN_US 100000

static int dial(unsigned port, int buffer)
{
    struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (buffer > 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    }
    if (connect(fd, (struct sockaddr *)&host, sizeof host) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* Hyper-V answers nothing where nobody listens, virtio-vsock resets; without its device a driver has no address yet. */
static bool may_pass(int error)
{
    return error == ETIMEDOUT || error == ECONNREFUSED || error == ECONNRESET || error == ENODEV || error == EADDRNOTAVAIL;
}

int vsock_dial(unsigned port, int buffer, uint64_t deadline)
{
    int fd;
    while ((fd = dial(port, buffer)) < 0 && may_pass(errno) && now_ms() < deadline)
        usleep(AGAIN_US);
    return fd;
}
