/* Programs that are part of the agent: each runs in a child of it, like any other process of the host's.
 *
 * The exit status is 0 or an errno; then one sentence is on standard error. Bulk data goes through the standard streams,
 * so their credit bounds it, and a builtin that hangs, dies or is killed harms nobody else.
 */
#ifndef PROPOLIS_BUILTIN_H
#define PROPOLIS_BUILTIN_H

/* Runs argv[0]; returns its exit status. */
int builtin_run(char *const *argv);

/* Says what is wrong with `subject`; returns `error`, for the exit status. */
int builtin_fault(const char *subject, int error);

/* The programs, each with argv as above. */
int builtin_stat(char *const *argv);    /* PATH, follow|nofollow */
int builtin_list(char *const *argv);    /* DIRECTORY */
int builtin_mkdir(char *const *argv);   /* PATH, octal mode, parents|one */
int builtin_remove(char *const *argv);  /* PATH, recursive|one */
int builtin_rename(char *const *argv);  /* FROM, TO */
int builtin_read(char *const *argv);    /* PATH, offset, length or -1 */
int builtin_write(char *const *argv);   /* PATH, octal mode, truncate|append|new */
int builtin_extract(char *const *argv); /* DIRECTORY, keep|UID:GID; a tar on standard input */
int builtin_archive(char *const *argv); /* PATH, follow|nofollow; a tar on standard output */
int builtin_watch(char *const *argv);   /* PATH, recursive|one */
int builtin_dial(char *const *argv);    /* tcp HOST PORT, or unix PATH */
int builtin_stats(char *const *argv);
int builtin_mount(char *const *argv);   /* TARGET, share|file|tmpfs, source, options, ro|rw; tells the mount's number */
int builtin_unmount(char *const *argv); /* TARGET, its number */

#endif
