#include "identity.h"

#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"

/* What the image says goes first: only a missing or empty regular file is filled. */
static void fill(const char *path, const char *text)
{
    struct stat status;
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0)
        (void)!write(fd, text, strlen(text));
    close(fd);
}

void identity_name(const char *hostname)
{
    char text[512];
    if (hostname[0] == '\0')
        return;
    if (sethostname(hostname, strlen(hostname)) != 0)
        die_errno("cannot set the host name");
    mkdir("/etc", 0755);
    snprintf(text, sizeof text, "%.64s\n", hostname);
    fill("/etc/hostname", text);
    snprintf(text, sizeof text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t%.64s\n", hostname);
    fill("/etc/hosts", text);
}

void identity_resolver(const char *text)
{
    if (text[0] != '\0')
        fill("/etc/resolv.conf", text);
}

void identity_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return; /* a kernel without IPv4 has no lo to bring up */
    if (ioctl(fd, SIOCSIFFLAGS, &request) != 0)
        console_say("cannot bring up lo");
    close(fd);
}
