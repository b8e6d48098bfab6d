#include "platform.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codes.h"
#include "text.h"

static SRWLOCK lock = SRWLOCK_INIT;
static CONDITION_VARIABLE changed = CONDITION_VARIABLE_INIT;

void state_lock(void)
{
    AcquireSRWLockExclusive(&lock);
}

void state_unlock(void)
{
    ReleaseSRWLockExclusive(&lock);
}

void state_wait(uint32_t milliseconds)
{
    SleepConditionVariableSRW(&changed, &lock, milliseconds, 0);
}

void state_wake(void)
{
    WakeAllConditionVariable(&changed);
}

struct start {
    void (*run)(void *);
    void *context;
};

static DWORD WINAPI enter(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    start.run(start.context);
    return 0;
}

void thread_start(void (*run)(void *), void *context)
{
    struct start *start = allocate(sizeof *start);
    *start = (struct start){run, context};
    HANDLE thread = CreateThread(NULL, 0, enter, start, 0, NULL);
    if (thread == NULL)
        fatal("no thread can be started");
    CloseHandle(thread);
}

uint64_t thread_self(void)
{
    return GetCurrentThreadId();
}

uint64_t clock_now(void)
{
    return GetTickCount64();
}

void clock_sleep(uint32_t milliseconds)
{
    Sleep(milliseconds);
}

void fatal(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("computecore stand-in: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    fflush(stderr);
    TerminateProcess(GetCurrentProcess(), 0xc0000005u); /* the exit status of an access violation */
    abort();
}

/* For functions of the system; freed by free. */
static wchar_t *wide_path(const char *path)
{
    PWSTR local = widen(path);
    wchar_t *copy = _wcsdup(local);
    LocalFree(local);
    if (copy == NULL)
        fatal("out of memory");
    return copy;
}

char *environment(const char *name)
{
    wchar_t *wide = wide_path(name);
    DWORD room = GetEnvironmentVariableW(wide, NULL, 0);
    wchar_t *value = room > 0 ? allocate(room * sizeof *value) : NULL;
    char *result = value != NULL && GetEnvironmentVariableW(wide, value, room) < room ? narrow(value) : NULL;
    free(value);
    free(wide);
    return result;
}

void *local_alloc(size_t size)
{
    return LocalAlloc(LMEM_FIXED, size);
}

struct file {
    HANDLE handle;
    uint64_t size;
};

HRESULT file_open(const char *path, struct file **file)
{
    wchar_t *wide = wide_path(path);
    HANDLE handle = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                                OPEN_EXISTING, 0, NULL);
    free(wide);
    if (handle == INVALID_HANDLE_VALUE)
        return HRESULT_FROM_WIN32(GetLastError());
    LARGE_INTEGER size;
    if (!GetFileSizeEx(handle, &size)) {
        CloseHandle(handle);
        return ACCESS_DENIED;
    }
    *file = allocate(sizeof **file);
    **file = (struct file){handle, (uint64_t)size.QuadPart};
    return OK;
}

uint64_t file_size(struct file *file)
{
    return file->size;
}

bool file_read(struct file *file, uint64_t offset, void *buffer, size_t length)
{
    OVERLAPPED place = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
    DWORD done;
    return ReadFile(file->handle, buffer, (DWORD)length, &done, &place) && done == length;
}

void file_close(struct file *file)
{
    CloseHandle(file->handle);
    free(file);
}

uint32_t file_attributes(const char *path)
{
    wchar_t *wide = wide_path(path);
    DWORD attributes = GetFileAttributesW(wide);
    free(wide);
    return attributes == INVALID_FILE_ATTRIBUTES ? 0 : attributes;
}

bool file_is_directory(const char *path)
{
    return (file_attributes(path) & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

bool directory_is_open_to_all(const char *path)
{
    return file_is_directory(path);
}

HRESULT file_create_empty(const char *path)
{
    wchar_t *wide = wide_path(path);
    HANDLE handle = CreateFileW(wide, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    free(wide);
    if (handle == INVALID_HANDLE_VALUE)
        return HRESULT_FROM_WIN32(GetLastError());
    CloseHandle(handle);
    return OK;
}

bool path_is_absolute(const char *path)
{
    bool drive = (path[0] | 32) >= 'a' && (path[0] | 32) <= 'z' && path[1] == ':';
    return drive && path[2] == '\\';
}

bool path_is_pipe(const char *path)
{
    return starts_with(path, "\\\\.\\pipe\\") && path[9] != '\0';
}

bool path_equal(const char *left, const char *right)
{
    wchar_t *one = wide_path(left), *other = wide_path(right);
    for (wchar_t *at = one; *at != L'\0'; at++)
        *at = *at == L'/' ? L'\\' : *at;
    for (wchar_t *at = other; *at != L'\0'; at++)
        *at = *at == L'/' ? L'\\' : *at;
    bool equal = CompareStringOrdinal(one, -1, other, -1, TRUE) == CSTR_EQUAL;
    free(one);
    free(other);
    return equal;
}

bool path_is_readable_by_all(const char *path)
{
    char *copy = duplicate(path);
    lower(copy);
    bool inside = starts_with(copy, "c:\\program files\\") || starts_with(copy, "c:\\windows\\");
    free(copy);
    return inside;
}

stream stream_connect(unsigned port)
{
    static bool ready;
    WSADATA data;
    if (!ready && WSAStartup(MAKEWORD(2, 2), &data) != 0)
        return -1;
    ready = true;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((u_short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SOCKET handle = WSASocketW(AF_INET, SOCK_STREAM, 0, NULL, 0, WSA_FLAG_NO_HANDLE_INHERIT | WSA_FLAG_OVERLAPPED);
    if (handle == INVALID_SOCKET)
        return -1;
    if (connect(handle, (struct sockaddr *)&address, sizeof address) != 0) {
        closesocket(handle);
        return -1;
    }
    return (stream)handle;
}

bool stream_send(stream stream, const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        int sent = send((SOCKET)stream, at, (int)length, 0);
        if (sent <= 0)
            return false;
        at += sent;
        length -= (size_t)sent;
    }
    return true;
}

long stream_receive(stream stream, void *buffer, size_t size)
{
    int received = recv((SOCKET)stream, buffer, (int)size, 0);
    return received > 0 ? received : 0;
}

void stream_shutdown(stream stream)
{
    shutdown((SOCKET)stream, SD_BOTH);
}

void stream_close(stream stream)
{
    closesocket((SOCKET)stream);
}

intptr_t pipe_connect(const char *path)
{
    wchar_t *wide = wide_path(path);
    HANDLE handle = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    if (handle == INVALID_HANDLE_VALUE) /* a server that only reads */
        handle = CreateFileW(wide, GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    free(wide);
    return handle == INVALID_HANDLE_VALUE ? -1 : (intptr_t)handle;
}

bool pipe_send(intptr_t pipe, const void *data, size_t length)
{
    DWORD written;
    const char *at = data;
    while (length > 0) {
        if (!WriteFile((HANDLE)pipe, at, (DWORD)length, &written, NULL))
            return false;
        at += written;
        length -= written;
    }
    return true;
}

void pipe_close(intptr_t pipe)
{
    CloseHandle((HANDLE)pipe);
}
