#include "disk.h"

#include <string.h>

#include "codes.h"
#include "text.h"

bool disk_check(const char *path, bool read_only, struct verdict *verdict)
{
    bool vhd = ends_with_any_case(path, ".vhd"), vhdx = ends_with_any_case(path, ".vhdx");
    if (!vhd && !vhdx)
        return complain(verdict, VHD_NO_PROVIDER, "a virtual disk's name ends in .vhd or .vhdx");
    struct file *file;
    HRESULT code = file_open(path, &file);
    if (code != OK)
        return complain(verdict, code, "it cannot be opened");
    bool good = vhdx ? vhdx_check(file, read_only, verdict) : vhd_check(file, verdict);
    file_close(file);
    return good;
}
