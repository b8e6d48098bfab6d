#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "settle.h"

static int console_fd = -1;

void console_open(void)
{
    console_fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        if (null != fd)
            dup2(null, fd);
    if (null > 2)
        close(null);
}

static void say(int saved, const char *format, va_list arguments)
{
    char line[1024] = "propolis-init: ";
    size_t used = strlen(line);
    vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    used = strlen(line);
    if (saved != 0) {
        snprintf(line + used, sizeof line - used - 1, ": %s", strerror(saved));
        used = strlen(line);
    }
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    int fd = console_fd >= 0 ? console_fd : 2;
    if (write(fd, line, used) < 0 && fd != 2)
        (void)!write(2, line, used);
    tcdrain(fd);
}

void console_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(0, format, arguments);
    va_end(arguments);
}

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(0, format, arguments);
    va_end(arguments);
    power_off();
}

void die_errno(const char *format, ...)
{
    va_list arguments;
    int saved = errno;
    va_start(arguments, format);
    say(saved, format, arguments);
    va_end(arguments);
    power_off();
}

void power_off(void)
{
    settle();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
