#include "transport.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "console.h"
#include "devices.h"
#include "wire.h"

#define CONNECT_S 10

int transport_open(void)
{
    char path[DEVICES_PATH];
    devices_port(WIRE_PORT_NAME, path);
    int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        die_errno("cannot open the agent's port %s", path);
    return fd;
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
