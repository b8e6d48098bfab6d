/* What the stand-in needs of the system below it: one lock, threads, text, files, a loopback connection, the console's
 * pipe.
 *
 * Strings are UTF-8 inside; paths are as the document has them. platform_windows.c and platform_linux.c implement it.
 */
#ifndef HCS_PLATFORM_H
#define HCS_PLATFORM_H

#include "types.h"

/* One lock guards all tables; whoever changes something others wait for wakes them all. */
void state_lock(void);
void state_unlock(void);
void state_wait(uint32_t milliseconds);
void state_wake(void);

void thread_start(void (*run)(void *context), void *context);
uint64_t thread_self(void);
uint64_t clock_now(void); /* milliseconds of a clock that only goes forward */
void clock_sleep(uint32_t milliseconds);

/* The caller made a mistake that real HCS answers with an access violation: say which on stderr and abort. */
_Noreturn void fatal(const char *format, ...);

char *environment(const char *name); /* NULL where it is not set; to be freed */
void *local_alloc(size_t size);      /* what the caller frees with LocalFree */

/* Files, opened for reading. `open` returns the HRESULT of a failure. */
struct file;
HRESULT file_open(const char *path, struct file **file);
uint64_t file_size(struct file *file);
bool file_read(struct file *file, uint64_t offset, void *buffer, size_t length);
void file_close(struct file *file);
bool file_is_directory(const char *path);
bool directory_is_open_to_all(const char *path); /* by its mode; always under Wine */
HRESULT file_create_empty(const char *path);

#define ATTRIBUTE_SPARSE 0x200u
#define ATTRIBUTE_COMPRESSED 0x800u
#define ATTRIBUTE_ENCRYPTED 0x4000u
uint32_t file_attributes(const char *path); /* NTFS attributes; 0 on Linux */

bool path_is_absolute(const char *path);
bool path_is_pipe(const char *path);
bool path_equal(const char *left, const char *right); /* as the system compares names */
bool path_is_readable_by_all(const char *path);       /* below the system's program directory */

/* A stream to a TCP port of this machine, or to a pipe. -1: none. */
typedef intptr_t stream;
stream stream_connect(unsigned port);
bool stream_send(stream stream, const void *data, size_t length);
long stream_receive(stream stream, void *buffer, size_t size); /* 0 at the end or on failure */
void stream_shutdown(stream stream);                           /* wakes a receiver in another thread */
void stream_close(stream stream);
intptr_t pipe_connect(const char *path); /* the console's server, as a client; -1: nobody serves it */
bool pipe_send(intptr_t pipe, const void *data, size_t length);
void pipe_close(intptr_t pipe);

#endif
