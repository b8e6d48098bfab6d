/* What to run: the document of /.propolis_init.json and of the agent's EXEC and START. */
#ifndef PROPOLIS_SPEC_H
#define PROPOLIS_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPEC_RLIMITS 16
#define SPEC_MOUNTS 64

struct spec_rlimit {
    int64_t resource, soft, hard; /* -1: no limit */
};

struct spec_mount {
    const char *type;    /* "share", "file" or "tmpfs" */
    const char *source;  /* the share's tag; the name of a file in it follows a slash */
    const char *target;
    const char *options; /* tmpfs: as mount(2) takes them */
    bool read_only;
};

struct spec {
    char **argv, **env, **groups; /* NULL-terminated; never NULL after a successful parse */
    const char *working_dir, *user;
    struct spec_rlimit rlimits[SPEC_RLIMITS];
    int rlimit_count;
    int64_t umask;        /* -1: 022 */
    int64_t capabilities; /* a mask; -1: all */
    uint32_t credit;
    uint16_t rows, columns;
    bool tty, builtin, no_new_privs, seccomp;
    /* The machine's own, from /.propolis_init.json alone. */
    const char *hostname, *seed, *resolver;
    char **sysctls; /* name=value */
    struct spec_mount mounts[SPEC_MOUNTS];
    int mount_count;
    int64_t layers;     /* -1: not given */
    int64_t most_tasks; /* 0: as many as there may be */
    bool read_only, unmasked, own_pids, later_shares;
    char *text; /* where all strings live */
};

enum spec_kind { SPEC_INIT, SPEC_EXEC, SPEC_START };

/* Returns NULL, or what is wrong with the document; `spec` needs spec_free in the first case only. */
const char *spec_parse(struct spec *spec, enum spec_kind kind, const void *data, size_t length);
void spec_free(struct spec *spec);

#endif
