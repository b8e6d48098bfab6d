/* Users and groups of the image, from its own passwd and group files, by docker's rules. */
#ifndef PROPOLIS_ACCOUNT_H
#define PROPOLIS_ACCOUNT_H

#include <stddef.h>
#include <sys/types.h>

#define ACCOUNT_GROUPS 1024
#define ACCOUNT_HOME 1024

struct account {
    uid_t uid;
    gid_t gid;
    size_t group_count;
    gid_t groups[ACCOUNT_GROUPS];
    char home[ACCOUNT_HOME];
};

/* Resolves `name|uid[:group|gid]` (empty: root) and more `groups` (names or numbers, NULL-terminated).
 *
 * Returns 0, or -1 with a sentence in `text`. Numbers need no entry; names do. Group memberships from the group file
 * count unless a group was named.
 */
int account_resolve(struct account *account, const char *user, char *const *groups, char *text, size_t size);

#endif
