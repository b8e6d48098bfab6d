/* What to run: the document of /.propolis_init.json and of the agent's EXEC and START. */
#ifndef PROPOLIS_SPEC_H
#define PROPOLIS_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spec {
    char **argv, **env, **groups; /* NULL-terminated; never NULL after a successful parse */
    const char *working_dir, *user, *hostname;
    int64_t layers; /* -1: not given */
    uint32_t credit;
    uint16_t rows, columns;
    bool tty;
    char *text; /* where all strings live */
};

enum spec_kind { SPEC_INIT, SPEC_EXEC, SPEC_START };

/* Returns NULL, or what is wrong with the document; `spec` needs spec_free in the first case only. */
const char *spec_parse(struct spec *spec, enum spec_kind kind, const void *data, size_t length);
void spec_free(struct spec *spec);

#endif
