/* libFuzzer target: the JSON reader and what init and agent make of their documents. */
#include <stdlib.h>
#include <string.h>

#include "spec.h"

static volatile size_t sink;

static void touch(char *const *list)
{
    for (; *list != NULL; list++)
        sink += strlen(*list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spec spec;
    if (size == 0 || spec_parse(&spec, (enum spec_kind)(data[0] % 3), data + 1, size - 1) != NULL)
        return 0;
    if (data[0] % 3 != SPEC_START) {
        touch(spec.argv);
        touch(spec.env);
        touch(spec.groups);
        touch(spec.sysctls);
        sink += strlen(spec.working_dir) + strlen(spec.user) + strlen(spec.hostname) + strlen(spec.seed) + strlen(spec.resolver);
        for (int i = 0; i < spec.mount_count; i++)
            sink += strlen(spec.mounts[i].target) + strlen(spec.mounts[i].source) + strlen(spec.mounts[i].options);
    }
    spec_free(&spec);
    return 0;
}
