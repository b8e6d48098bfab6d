#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "console.h"

#define MOST_SIGNAL 64

void processes_open(struct processes *processes, int epoll, struct outbox *outbox)
{
    processes->epoll = epoll;
    processes->outbox = outbox;
}

struct process *processes_find(struct processes *processes, uint32_t stream)
{
    for (int i = 0; stream != 0 && i < WIRE_MAX_STREAMS; i++)
        if (processes->table[i].stream == stream)
            return &processes->table[i];
    return NULL;
}

/* Sends one small frame. */
static void tell(struct processes *processes, uint8_t type, uint32_t stream, const void *payload, size_t length)
{
    if (processes->hung_up || !outbox_room(processes->outbox)) {
        processes->hung_up = true;
        return;
    }
    memcpy(outbox_payload(processes->outbox), payload, length);
    outbox_commit(processes->outbox, type, stream, length);
}

static void tell_numbers(struct processes *processes, uint8_t type, uint32_t stream, uint32_t first, const uint32_t *second)
{
    uint8_t payload[8];
    put_u32(payload, first);
    if (second != NULL)
        put_u32(payload + 4, *second);
    tell(processes, type, stream, payload, second != NULL ? 8 : 4);
}

void process_fail(struct processes *processes, uint32_t stream, uint32_t code, const char *text)
{
    uint8_t payload[4 + WIRE_MAX_TEXT];
    size_t length = strnlen(text, WIRE_MAX_TEXT);
    put_u32(payload, code);
    memcpy(payload + 4, text, length);
    tell(processes, FRAME_FAILED, stream, payload, 4 + length);
}

/* Asks epoll for `events` of one end. Errors and hang-ups are always told while an end is registered. */
static void watch(struct processes *processes, struct process *process, int end, uint32_t events)
{
    uint64_t slot = (uint64_t)(process - processes->table);
    struct epoll_event event = {.events = events, .data.u64 = PROCESS_TOKEN | slot << 40 | (uint64_t)end << 32 | process->stream};
    if (process->fds[end] < 0 || process->watched[end] == events)
        return;
    epoll_ctl(processes->epoll, process->watched[end] == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, process->fds[end], &event);
    process->watched[end] = events;
}

static void unwatch(struct processes *processes, struct process *process, int end)
{
    if (process->watched[end] != 0)
        epoll_ctl(processes->epoll, EPOLL_CTL_DEL, process->fds[end], NULL);
    process->watched[end] = 0;
}

static void close_end(struct processes *processes, struct process *process, int end)
{
    if (process->fds[end] < 0)
        return;
    unwatch(processes, process, end);
    close(process->fds[end]);
    process->fds[end] = -1;
}

static void free_process(struct processes *processes, struct process *process)
{
    for (int end = 0; end < END_COUNT; end++)
        close_end(processes, process, end);
    if (process->exited)
        processes->draining--;
    free(process->input);
    memset(process, 0, sizeof *process);
}

void process_start(struct processes *processes, uint32_t stream, const struct spec *spec, const char *hostname, bool main)
{
    static struct launch_failure failure;
    struct launched launched;
    struct process *process = NULL;
    for (int i = 0; process == NULL && i < WIRE_MAX_STREAMS; i++)
        if (processes->table[i].stream == 0)
            process = &processes->table[i];
    if (process == NULL) {
        process_fail(processes, stream, FAILURE_RESOURCES, "too many processes run for the host at once");
        return;
    }
    if (!launch(spec, hostname, main, &launched, &failure)) {
        process_fail(processes, stream, failure.code, failure.text);
        return;
    }
    memset(process, 0, sizeof *process);
    process->stream = stream;
    process->pid = launched.pid;
    process->tty = spec->tty;
    process->fds[END_INPUT] = launched.input;
    process->fds[END_OUTPUT] = launched.output;
    process->fds[END_ERRORS] = launched.errors;
    process->fds[END_REPORT] = launched.report;
    process->credit[END_OUTPUT] = process->credit[END_ERRORS] = spec->credit;
    watch(processes, process, END_REPORT, EPOLLIN);
}

/* The child's pipe has spoken: the program runs, or it does not. */
static void read_report(struct processes *processes, struct process *process)
{
    struct launch_failure failure;
    ssize_t got = read(process->fds[END_REPORT], &failure, sizeof failure);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got == sizeof failure) {
        failure.text[sizeof failure.text - 1] = '\0';
        process_fail(processes, process->stream, failure.code, failure.text);
        free_process(processes, process); /* the child is reaped as one nobody knows */
        return;
    }
    close_end(processes, process, END_REPORT);
    process->running = true;
    tell_numbers(processes, FRAME_STARTED, process->stream, (uint32_t)process->pid, NULL);
    if (process->input_ended) {
        process_end_input(processes, process);
    } else {
        process->granted = WIRE_STDIN_WINDOW;
        tell_numbers(processes, FRAME_CREDIT, process->stream, WIRE_STDIN_WINDOW, NULL);
        if (!process->tty)
            watch(processes, process, END_INPUT, EPOLLERR); /* tells when nobody reads any more */
    }
    for (int end = END_OUTPUT; end <= END_ERRORS; end++)
        if (process->credit[end] > 0)
            watch(processes, process, end, EPOLLIN);
}

/* Standard input is over: the process does not read it, or all of it is delivered. */
static void drop_input(struct processes *processes, struct process *process, bool told)
{
    close_end(processes, process, END_INPUT);
    process->input_start = process->input_end = 0;
    if (!told && !process->input_closed_told)
        tell(processes, FRAME_STDIN_CLOSED, process->stream, "", 0);
    process->input_closed_told = true;
}

/* On a terminal the end of input is a character, and counts as such only at the start of a line. */
static void type_end_of_file(struct process *process)
{
    struct termios settings;
    if (tcgetattr(process->fds[END_INPUT], &settings) != 0 || (settings.c_lflag & ICANON) == 0)
        return;
    char keys[2] = {(char)settings.c_cc[VEOF], (char)settings.c_cc[VEOF]};
    bool fresh = process->last_input == '\0' || process->last_input == '\n' || process->last_input == '\r';
    (void)!write(process->fds[END_INPUT], keys, fresh ? 1 : 2);
}

/* Delivers what is buffered, grants again what was used, closes at the end. */
static void pump_input(struct processes *processes, struct process *process)
{
    int fd = process->fds[END_INPUT];
    while (fd >= 0 && process->input_start < process->input_end) {
        ssize_t wrote = write(fd, process->input + process->input_start, process->input_end - process->input_start);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0 && errno == EAGAIN)
            break;
        if (wrote <= 0) {
            drop_input(processes, process, false);
            return;
        }
        process->last_input = process->input[process->input_start + (uint32_t)wrote - 1];
        process->input_start += (uint32_t)wrote;
        process->consumed += (uint32_t)wrote;
    }
    bool empty = process->input_start == process->input_end;
    if (process->consumed >= WIRE_STDIN_WINDOW / 4 || (empty && process->consumed > 0 && !process->input_ended)) {
        tell_numbers(processes, FRAME_CREDIT, process->stream, process->consumed, NULL);
        process->granted += process->consumed;
        process->consumed = 0;
    }
    if (empty && process->input_ended && fd >= 0) {
        if (process->tty)
            type_end_of_file(process);
        drop_input(processes, process, true);
    } else if (!empty) {
        watch(processes, process, END_INPUT, EPOLLOUT);
    } else if (process->tty) {
        unwatch(processes, process, END_INPUT);
    } else {
        watch(processes, process, END_INPUT, EPOLLERR);
    }
}

bool process_input(struct processes *processes, struct process *process, const uint8_t *data, uint32_t length)
{
    if (!process->running || process->input_ended || length == 0 || length > process->granted)
        return false;
    process->granted -= length;
    if (process->fds[END_INPUT] < 0)
        return true;
    if (process->input_start == process->input_end) { /* what goes out at once needs no buffer */
        ssize_t wrote = write(process->fds[END_INPUT], data, length);
        if (wrote > 0) {
            process->last_input = data[wrote - 1];
            process->consumed += (uint32_t)wrote;
            data += wrote;
            length -= (uint32_t)wrote;
        }
        if (length == 0) {
            pump_input(processes, process);
            return true;
        }
    }
    if (process->input == NULL && (process->input = malloc(WIRE_STDIN_WINDOW)) == NULL) {
        drop_input(processes, process, false);
        return true;
    }
    /* Buffered and granted together never exceed the window, so there is room after moving. */
    if (process->input_start > 0) {
        memmove(process->input, process->input + process->input_start, process->input_end - process->input_start);
        process->input_end -= process->input_start;
        process->input_start = 0;
    }
    memcpy(process->input + process->input_end, data, length);
    process->input_end += length;
    pump_input(processes, process);
    return true;
}

void process_end_input(struct processes *processes, struct process *process)
{
    process->input_ended = true;
    if (process->running)
        pump_input(processes, process);
}

bool process_grant(struct processes *processes, struct process *process, uint32_t source, uint32_t bytes)
{
    if ((source != SOURCE_STDOUT && source != SOURCE_STDERR) || bytes > WIRE_MAX_CREDIT - process->credit[source])
        return false;
    process->credit[source] += bytes;
    if (process->running && process->credit[source] > 0)
        watch(processes, process, (int)source, EPOLLIN);
    return true;
}

void process_signal(struct process *process, uint32_t number, uint32_t scope)
{
    if (process->exited || number == 0 || number > MOST_SIGNAL)
        return;
    if (scope != SCOPE_GROUP || kill(-process->pid, (int)number) != 0)
        kill(process->pid, (int)number); /* a child that has not come to setsid leads no group yet */
}

void process_resize(struct process *process, uint16_t rows, uint16_t columns)
{
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (process->tty && process->fds[END_OUTPUT] >= 0)
        ioctl(process->fds[END_OUTPUT], TIOCSWINSZ, &size);
}

/* Together with its header a piece fills whole writes of 32 KiB, the most that a virtio port takes at once. */
#define PIECE (WIRE_MAX_PAYLOAD - WIRE_HEADER_SIZE)
#define PIECES_AT_ONCE 4

/* Moves one piece of output to the host, as far as credit goes; false when there is no more for now. */
static bool move_piece(struct processes *processes, struct process *process, int end)
{
    size_t most = process->credit[end] < PIECE ? process->credit[end] : PIECE;
    if (most == 0) {
        unwatch(processes, process, end);
        return false;
    }
    if (processes->hung_up || !outbox_room(processes->outbox)) {
        processes->hung_up = true;
        return false;
    }
    ssize_t got = read(process->fds[end], outbox_payload(processes->outbox), most);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) { /* a terminal ends with EIO */
        process->owed[end] = 0;
        close_end(processes, process, end);
        return false;
    }
    outbox_commit(processes->outbox, end == END_OUTPUT ? FRAME_STDOUT : FRAME_STDERR, process->stream, (size_t)got);
    process->credit[end] -= (uint32_t)got;
    process->owed[end] -= process->owed[end] < (uint32_t)got ? process->owed[end] : (uint32_t)got;
    process->output_ms = process->exited ? now_ms() : 0;
    return (size_t)got == most;
}

static void pump_output(struct processes *processes, struct process *process, int end)
{
    for (int i = 0; i < PIECES_AT_ONCE; i++)
        if (!move_piece(processes, process, end))
            return;
}

void processes_event(struct processes *processes, uint64_t token, uint32_t events)
{
    struct process *process = &processes->table[token >> 40 & 0x3ff];
    int end = (int)(token >> 32 & 0xff);
    if (process->stream != (uint32_t)token || end >= END_COUNT || process->fds[end] < 0)
        return; /* ended while this event was under way */
    if (end == END_REPORT)
        read_report(processes, process);
    else if (end != END_INPUT)
        pump_output(processes, process, end);
    else if (process->input_start < process->input_end)
        pump_input(processes, process);
    else if ((events & EPOLLERR) != 0) /* without it the event is stale: a frame has emptied the buffer meanwhile */
        drop_input(processes, process, false);
}

static void note_exit(struct processes *processes, struct process *process, int status)
{
    process->exited = true;
    process->status = status;
    process->exit_ms = process->output_ms = now_ms();
    processes->draining++;
    for (int end = END_OUTPUT; end <= END_ERRORS; end++) {
        int waiting = 0;
        if (process->fds[end] >= 0 && ioctl(process->fds[end], FIONREAD, &waiting) == 0 && waiting > 0)
            process->owed[end] = (uint32_t)waiting;
    }
}

void processes_reap(struct processes *processes)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < WIRE_MAX_STREAMS; i++) {
            struct process *process = &processes->table[i];
            if (process->stream != 0 && process->pid == pid && !process->exited) {
                note_exit(processes, process, status);
                break;
            }
        }
}

/* When this process' output counts as finished: now (0), at a time, or only by what the host does (UINT64_MAX). */
static uint64_t finish_time(const struct process *process)
{
    if (!process->running || process->owed[END_OUTPUT] > 0 || process->owed[END_ERRORS] > 0)
        return UINT64_MAX;
    if (process->fds[END_OUTPUT] < 0 && process->fds[END_ERRORS] < 0)
        return 0;
    uint64_t silence = process->output_ms + WIRE_DRAIN_SILENCE_MS, limit = process->exit_ms + WIRE_DRAIN_LIMIT_MS;
    return silence < limit ? silence : limit;
}

uint64_t processes_drain(struct processes *processes, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; processes->draining > 0 && i < WIRE_MAX_STREAMS; i++) {
        struct process *process = &processes->table[i];
        if (process->stream == 0 || !process->exited)
            continue;
        uint64_t due = finish_time(process);
        if (due <= now) {
            int status = process->status;
            uint32_t number = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
            tell_numbers(processes, FRAME_EXIT, process->stream, number == 0 ? (uint32_t)WEXITSTATUS(status) : 0, &number);
            free_process(processes, process);
        } else if (due < next) {
            next = due;
        }
    }
    return next;
}
