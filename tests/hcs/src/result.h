/* Result documents: what went wrong, as ResultError has it, and how a system ended. */
#ifndef HCS_RESULT_H
#define HCS_RESULT_H

#include "types.h"

/* What a check found. `message` says it in words; NULL while all is well. */
struct verdict {
    HRESULT code;
    char *message;
};

/* The first complaint stays. Always returns false. */
bool complain(struct verdict *verdict, HRESULT code, const char *format, ...);

char *result_error(HRESULT code, const char *message); /* JSON, to be freed; a NULL message: the code's name */

#endif
