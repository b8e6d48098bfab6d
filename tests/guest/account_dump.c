/* account_dump ROOT USER GROUP...: prints what account_resolve says below ROOT: "uid gid groups home", or "error: ...". */
#include <stdio.h>
#include <unistd.h>

#include "account.h"

int main(int argc, char **argv)
{
    static struct account account;
    char text[512];
    if (argc < 3 || chroot(argv[1]) != 0 || chdir("/") != 0)
        return 2;
    if (account_resolve(&account, argv[2], argv + 3, text, sizeof text) != 0) {
        printf("error: %s", text);
        return 0;
    }
    printf("%u %u [", account.uid, account.gid);
    for (size_t i = 0; i < account.group_count; i++)
        printf(i > 0 ? " %u" : "%u", account.groups[i]);
    printf("] %s", account.home);
    return 0;
}
