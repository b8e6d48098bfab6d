#include "platform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "codes.h"
#include "text.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;

__attribute__((constructor)) static void open_state(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
}

void state_lock(void)
{
    pthread_mutex_lock(&lock);
}

void state_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void state_wait(uint32_t milliseconds)
{
    if (milliseconds == INFINITE) {
        pthread_cond_wait(&changed, &lock);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000l;
    if (until.tv_nsec >= 1000000000l) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000l;
    }
    pthread_cond_timedwait(&changed, &lock, &until);
}

void state_wake(void)
{
    pthread_cond_broadcast(&changed);
}

struct start {
    void (*run)(void *);
    void *context;
};

static void *enter(void *argument)
{
    struct start start = *(struct start *)argument;
    free(argument);
    start.run(start.context);
    return NULL;
}

void thread_start(void (*run)(void *), void *context)
{
    struct start *start = allocate(sizeof *start);
    *start = (struct start){run, context};
    pthread_t thread;
    if (pthread_create(&thread, NULL, enter, start) != 0)
        fatal("no thread can be started");
    pthread_detach(thread);
}

uint64_t thread_self(void)
{
    return (uint64_t)pthread_self();
}

uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void clock_sleep(uint32_t milliseconds)
{
    usleep(milliseconds * 1000);
}

void fatal(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("computecore stand-in: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    abort();
}

char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? duplicate(value) : NULL;
}

void *local_alloc(size_t size)
{
    return malloc(size);
}

void *LocalFree(void *memory)
{
    free(memory);
    return NULL;
}

struct file {
    int descriptor;
    uint64_t size;
};

static HRESULT code_of_errno(void)
{
    return errno == ENOENT ? NOT_FOUND_FILE : errno == ENOTDIR ? NOT_FOUND_PATH : ACCESS_DENIED;
}

HRESULT file_open(const char *path, struct file **file)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (descriptor < 0)
        return code_of_errno();
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(descriptor);
        return ACCESS_DENIED;
    }
    *file = allocate(sizeof **file);
    **file = (struct file){descriptor, (uint64_t)status.st_size};
    return OK;
}

uint64_t file_size(struct file *file)
{
    return file->size;
}

bool file_read(struct file *file, uint64_t offset, void *buffer, size_t length)
{
    return pread(file->descriptor, buffer, length, (off_t)offset) == (ssize_t)length;
}

void file_close(struct file *file)
{
    close(file->descriptor);
    free(file);
}

bool file_is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool directory_is_open_to_all(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && (status.st_mode & 0005) == 0005;
}

HRESULT file_create_empty(const char *path)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return code_of_errno();
    close(descriptor);
    return OK;
}

uint32_t file_attributes(const char *path)
{
    (void)path;
    return 0;
}

bool path_is_absolute(const char *path)
{
    return path[0] == '/';
}

bool path_is_pipe(const char *path)
{
    return path[0] == '/';
}

bool path_equal(const char *left, const char *right)
{
    return strcmp(left, right) == 0;
}

bool path_is_readable_by_all(const char *path)
{
    return starts_with(path, "/usr/");
}

stream stream_connect(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 && connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

bool stream_send(stream stream, const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t sent = send((int)stream, at, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        length -= (size_t)sent;
    }
    return true;
}

long stream_receive(stream stream, void *buffer, size_t size)
{
    ssize_t received;
    do
        received = recv((int)stream, buffer, size, 0);
    while (received < 0 && errno == EINTR);
    return received > 0 ? (long)received : 0;
}

void stream_shutdown(stream stream)
{
    shutdown((int)stream, SHUT_RDWR);
}

void stream_close(stream stream)
{
    close((int)stream);
}

intptr_t pipe_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 && connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

bool pipe_send(intptr_t pipe, const void *data, size_t length)
{
    return stream_send(pipe, data, length);
}

void pipe_close(intptr_t pipe)
{
    close((int)pipe);
}
