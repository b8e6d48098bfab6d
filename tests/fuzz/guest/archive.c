/* libFuzzer target: headers, pax records and sparse maps of archives, up to where files would be made. */
#include <sys/mman.h>

#include "extract.c"

int builtin_fault(const char *subject, int error)
{
    (void)subject;
    return error;
}

static void each(void)
{
    static struct member member;
    char line[24];
    bool end = false;
    while (next_member(&member, &end) == 0 && !end) {
        char *at = job.extended, *key, *value;
        for (size_t length; job.extended_length > 0 && next_record(&at, job.extended + job.extended_length, &key, &value, &length);)
            keep(member.link, value, length);
        is_below(member.name);
        is_below(member.link);
        int64_t stored = member.size, number;
        if (member.sparse && sparse_number(line, sizeof line, &stored, &number) != 0)
            return;
        if (stored > (1 << 20) || skip(stored + padding(member.size)) != 0)
            return;
        job.extended_length = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    if (file < 0 && (file = memfd_create("archive", 0)) < 0)
        abort();
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size || lseek(file, 0, SEEK_SET) != 0 || dup2(file, 0) != 0)
        abort();
    free(job.extended); /* anew, so that a read beyond what was written is seen */
    job.extended = NULL;
    job.start = job.end = job.extended_length = 0;
    each();
    return 0;
}
