/* The processes that run for the host: their pipes, credit and end. */
#ifndef PROPOLIS_PROCESS_H
#define PROPOLIS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "frame.h"
#include "launch.h"
#include "spec.h"

/* What of a process an event is about; also the index into `fds`. */
enum process_end { END_INPUT, END_OUTPUT, END_ERRORS, END_REPORT, END_COUNT };

struct process {
    uint32_t stream; /* 0: this slot is free */
    pid_t pid;
    bool running, tty, exited;
    bool input_ended, input_closed_told;
    int status; /* of waitpid, once it has exited */
    int fds[END_COUNT];
    uint32_t watched[END_COUNT]; /* epoll events now asked for; 0 means not registered */
    uint32_t credit[END_COUNT];  /* what the host takes of END_OUTPUT and END_ERRORS */
    uint32_t owed[END_COUNT];    /* bytes that were in the pipe when the process ended */
    uint64_t exit_ms, output_ms;
    uint8_t *input; /* WIRE_STDIN_WINDOW bytes, made when first needed */
    uint32_t input_start, input_end;
    uint32_t granted, consumed; /* standard input: what the host may still send; what was used and not granted again */
    uint8_t last_input;
};

struct processes {
    int epoll;
    struct outbox *outbox;
    bool hung_up; /* the host is gone: nothing can be told any more */
    int draining;
    struct process table[WIRE_MAX_STREAMS];
};

/* The token that epoll gives back, and its reading. */
#define PROCESS_TOKEN 0x8000000000000000u

void processes_open(struct processes *processes, int epoll, struct outbox *outbox);

/* The process on that stream, or NULL. */
struct process *processes_find(struct processes *processes, uint32_t stream);

/* Starts a process on a free stream; tells the host when that fails. */
void process_start(struct processes *processes, uint32_t stream, const struct spec *spec, const char *hostname, bool main);

/* What came from the host. False: it broke the protocol. */
bool process_input(struct processes *processes, struct process *process, const uint8_t *data, uint32_t length);
void process_end_input(struct processes *processes, struct process *process);
bool process_grant(struct processes *processes, struct process *process, uint32_t source, uint32_t bytes);
void process_signal(struct process *process, uint32_t number, uint32_t scope);
void process_resize(struct process *process, uint16_t rows, uint16_t columns);

/* An epoll event for one of the processes. */
void processes_event(struct processes *processes, uint64_t token, uint32_t events);

/* Collects every child that has ended. */
void processes_reap(struct processes *processes);

/* Ends what is due; returns the time of the next call that is needed, or UINT64_MAX. */
uint64_t processes_drain(struct processes *processes, uint64_t now);

void process_fail(struct processes *processes, uint32_t stream, uint32_t code, const char *text);

#endif
