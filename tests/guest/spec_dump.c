/* Reads a document on standard input, prints what spec_parse makes of it: NUL-ended fields, or "error: ...". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spec.h"

static void print_list(const char *name, char **list)
{
    for (; list != NULL && *list != NULL; list++)
        printf("%s=%s%c", name, *list, 0);
}

int main(int argc, char **argv)
{
    /* Exactly as long as the document, so that the sanitizers see a read beyond its end. */
    size_t length = 0, room = 1 << 23;
    char *input = malloc(room), *data;
    for (ssize_t got; (got = read(0, input + length, room - length)) > 0;)
        length += (size_t)got;
    data = malloc(length > 0 ? length : 1);
    memcpy(data, input, length);
    free(input);
    enum spec_kind kind = argc > 1 && strcmp(argv[1], "init") == 0 ? SPEC_INIT : SPEC_EXEC;
    struct spec spec;
    const char *error = spec_parse(&spec, kind, data, length);
    free(data);
    if (error != NULL) {
        printf("error: %s", error);
        return 0;
    }
    print_list("cmd", spec.argv);
    print_list("env", spec.env);
    print_list("groups", spec.groups);
    printf("working_dir=%s%cuser=%s%chostname=%s%c", spec.working_dir, 0, spec.user, 0, spec.hostname, 0);
    printf("tty=%d%crows=%u%ccolumns=%u%clayers=%lld%ccredit=%u", spec.tty, 0, spec.rows, 0, spec.columns, 0, (long long)spec.layers, 0,
           spec.credit);
    spec_free(&spec);
    return 0;
}
