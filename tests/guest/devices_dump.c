/* Prints what devices.c finds in the made-up directory `sys`: disks COUNT | port NAME | vmbus | vsock. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "console.h"
#include "devices.h"

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    exit(3);
}

void die_errno(const char *format, ...)
{
    (void)format;
    exit(4);
}

uint64_t now_ms(void)
{
    static uint64_t now; /* patience ends at the second look */
    return now += 20000;
}

int main(int count, char **arguments)
{
    static char paths[DEVICES_LAYERS + 1][DEVICES_PATH];
    const char *verb = count > 1 ? arguments[1] : "";
    devices_open();
    if (strcmp(verb, "disks") == 0 && count == 3) {
        int disks = atoi(arguments[2]);
        devices_disks(paths, disks);
        for (int i = 0; i < disks; i++)
            puts(paths[i]);
    } else if (strcmp(verb, "port") == 0 && count == 3) {
        puts(devices_port(arguments[2], paths[0]) ? paths[0] : "none");
    } else if (strcmp(verb, "vmbus") == 0) {
        puts(devices_vmbus() ? "yes" : "no");
    } else if (strcmp(verb, "vsock") == 0) {
        puts(devices_vsock() ? "yes" : "no");
    } else {
        return 2;
    }
    return 0;
}
