/* The builtin `dial`: joins the standard streams to a socket in the guest, until the other side has said all. */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "builtin.h"
#include "copy.h"

static int dial_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -1;
    return fd;
}

static int dial_tcp(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int fd = -1;
    /* without a host: the loopback addresses of both families */
    if (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    for (const struct addrinfo *one = found; one != NULL; one = one->ai_next) {
        fd = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, one->ai_addr, one->ai_addrlen) == 0)
            break;
        int saved = errno;
        close(fd);
        fd = -1;
        errno = saved;
    }
    freeaddrinfo(found);
    return fd;
}

int builtin_dial(char *const *argv)
{
    int fd = strcmp(argv[1], "unix") == 0 ? dial_unix(argv[2]) : dial_tcp(argv[2], argv[3]);
    if (fd < 0)
        return builtin_fault(argv[2], errno);
    (void)!write(1, "\n", 1); /* tells that the connection is there */
    signal(SIGPIPE, SIG_IGN);
    pid_t sender = fork();
    if (sender < 0)
        return builtin_fault(argv[2], errno);
    if (sender == 0) {
        close(1);
        copy_bytes(0, fd, COPY_ALL);
        shutdown(fd, SHUT_WR);
        _exit(0);
    }
    close(0);
    int status = copy_bytes(fd, 1, COPY_ALL) < 0 ? errno : 0;
    kill(sender, SIGKILL);
    return status != 0 ? builtin_fault(argv[2], status) : 0;
}
