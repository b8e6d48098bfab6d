#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "console.h"
#include "devices.h"
#include "vsock.h"
#include "wire.h"

#define CONNECT_S 10
#define WAIT_MS 10000
#define AGAIN_MS 100

static int open_port(const char *path)
{
    int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        die_errno("cannot open the agent's port %s", path);
    return fd;
}

static _Noreturn void give_up(bool vsock, int error)
{
    if (!vsock)
        die("the port %s did not appear within %d s: a driver or the device is missing", WIRE_PORT_NAME, WAIT_MS / 1000);
    errno = error;
    die_errno("the host does not listen at vsock port %d", WIRE_VSOCK_PORT);
}

/* Whichever comes first. Devices report that they come; that the host begins to listen, nobody reports. */
int transport_open(void)
{
    char path[DEVICES_PATH];
    uint64_t deadline = now_ms() + WAIT_MS, until = deadline;
    for (;;) {
        if (devices_port(WIRE_PORT_NAME, path))
            return open_port(path);
        bool vsock = devices_vsock();
        int error = 0;
        if (vsock) {
            int fd = vsock_dial(WIRE_VSOCK_PORT, 0, 0);
            if (fd >= 0)
                return fd;
            error = errno;
            until = now_ms() + AGAIN_MS;
        }
        if (!devices_wait(until < deadline ? until : deadline) && now_ms() >= deadline)
            give_up(vsock, error);
    }
}

static void too_late(int number)
{
    (void)number;
}

/* poll() cannot wait for the host: while it is away the port reports POLLHUP at once. A blocking write can. */
void transport_greet(int fd, const void *data, size_t length)
{
    struct sigaction action = {.sa_handler = too_late};
    const char *at = data;
    sigaction(SIGALRM, &action, NULL);
    alarm(CONNECT_S);
    while (length > 0) {
        ssize_t wrote = write(fd, at, length);
        if (wrote < 0)
            die_errno("the host does not listen at the agent's port");
        at += wrote;
        length -= (size_t)wrote;
    }
    alarm(0);
    signal(SIGALRM, SIG_DFL);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        die_errno("cannot make the agent's port non-blocking");
}
