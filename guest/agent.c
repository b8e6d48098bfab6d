#include "agent.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "console.h"
#include "frame.h"
#include "namespace.h"
#include "process.h"
#include "transport.h"

#define EVENTS 64
#define TOKEN_PORT 1
#define TOKEN_CHILD 2
#define LAST_WORDS_MS 1000
#define LOOK_AGAIN_MS 20

/* What children need not have: leaving it out halves the time of a fork. */
struct memory {
    struct inbox inbox;
    struct outbox outbox;
    struct processes processes;
};

static struct memory *memory;

static struct {
    int port, children;
    bool port_wants_write;
    const struct spec *main;
    bool main_started;
    /* A document that comes in pieces. */
    uint8_t *document;
    uint32_t document_length, document_stream;
    uint8_t document_type;
    /* SHUTDOWN */
    bool stopping, killed;
    uint64_t deadline;
} agent;

static void greet(struct agent_stamps *stamps)
{
    struct utsname name;
    char text[768];
    uint8_t *at = outbox_payload(&memory->outbox);
    uname(&name);
    stamps->ready = now_ms();
    snprintf(text, sizeof text,
             "{\"generation\":%d,\"release\":\"%.100s\",\"machine\":\"%.100s\","
             "\"stamps\":{\"init\":%llu,\"disks\":%llu,\"root\":%llu,\"ready\":%llu}}",
             WIRE_GENERATION, name.release, name.machine, (unsigned long long)stamps->init, (unsigned long long)stamps->disks,
             (unsigned long long)stamps->root, (unsigned long long)stamps->ready);
    memcpy(at, text, strlen(text));
    outbox_commit(&memory->outbox, FRAME_HELLO, 0, strlen(text));
    transport_greet(agent.port, memory->outbox.bytes, memory->outbox.end);
    memory->outbox.end = 0;
}

static _Noreturn void end_machine(void)
{
    kill(-1, SIGKILL);
    power_off();
}

static _Noreturn void refuse(const char *what)
{
    console_say("the host broke the agent protocol: %s", what);
    end_machine();
}

/* A whole EXEC or START document. */
static void run_document(uint8_t type, uint32_t stream, const void *data, size_t length)
{
    struct spec spec;
    const char *error = spec_parse(&spec, type == FRAME_EXEC ? SPEC_EXEC : SPEC_START, data, length);
    if (error != NULL) {
        char text[256];
        snprintf(text, sizeof text, "the request is not valid: %s", error);
        process_fail(&memory->processes, stream, FAILURE_INVALID, text);
        return;
    }
    if (type == FRAME_EXEC) {
        process_start(&memory->processes, stream, &spec, agent.main->hostname, false);
    } else if (agent.main_started) {
        process_fail(&memory->processes, stream, FAILURE_INVALID, "the machine's own process was started before");
    } else {
        struct spec main = *agent.main;
        main.credit = spec.credit;
        agent.main_started = true;
        process_start(&memory->processes, stream, &main, agent.main->hostname, true);
    }
    spec_free(&spec);
}

static void take_document(const struct frame *frame)
{
    bool more = (frame->flags & FLAG_MORE) != 0;
    if (agent.document == NULL) {
        if (frame->stream == 0 || processes_find(&memory->processes, frame->stream) != NULL)
            refuse("a stream that is in use");
        if (!more) {
            run_document(frame->type, frame->stream, frame->payload, frame->length);
            return;
        }
        agent.document = malloc(WIRE_MAX_DOCUMENT); /* touched only as far as it is filled */
        if (agent.document == NULL)
            refuse("a document too large for the machine's memory");
        agent.document_length = 0;
        agent.document_stream = frame->stream;
        agent.document_type = frame->type;
    }
    if (frame->stream != agent.document_stream || frame->type != agent.document_type ||
        frame->length > WIRE_MAX_DOCUMENT - agent.document_length)
        refuse("a document in pieces that do not fit");
    memcpy(agent.document + agent.document_length, frame->payload, frame->length);
    agent.document_length += frame->length;
    if (more)
        return;
    run_document(frame->type, frame->stream, agent.document, agent.document_length);
    free(agent.document);
    agent.document = NULL;
}

static void start_shutdown(uint32_t grace_ms)
{
    if (agent.stopping)
        return;
    agent.stopping = true;
    agent.deadline = now_ms() + (grace_ms < WIRE_MAX_GRACE_MS ? grace_ms : WIRE_MAX_GRACE_MS);
    if (grace_ms > 0)
        kill(-1, SIGTERM);
}

static void answer_ping(const struct frame *frame)
{
    if (!outbox_room(&memory->outbox))
        end_machine();
    memcpy(outbox_payload(&memory->outbox), frame->payload, frame->length);
    outbox_commit(&memory->outbox, FRAME_PONG, 0, frame->length);
}

static void require(const struct frame *frame, uint32_t length)
{
    if (frame->length != length || frame->flags != 0)
        refuse("a frame of the wrong size");
}

/* Frames for one process; those that come after its end are no fault of the host. */
static void take_process_frame(const struct frame *frame)
{
    struct process *process = processes_find(&memory->processes, frame->stream);
    switch (frame->type) {
    case FRAME_STDIN:
        if (frame->flags != 0 || (process != NULL && !process_input(&memory->processes, process, frame->payload, frame->length)))
            refuse("input beyond its credit");
        return;
    case FRAME_STDIN_EOF:
        require(frame, 0);
        if (process != NULL)
            process_end_input(&memory->processes, process);
        return;
    case FRAME_SIGNAL:
        require(frame, 8);
        if (process != NULL)
            process_signal(process, get_u32(frame->payload), get_u32(frame->payload + 4));
        return;
    case FRAME_RESIZE:
        require(frame, 4);
        if (process != NULL)
            process_resize(process, get_u16(frame->payload), get_u16(frame->payload + 2));
        return;
    case FRAME_GRANT:
        require(frame, 8);
        if (process != NULL && !process_grant(&memory->processes, process, get_u32(frame->payload), get_u32(frame->payload + 4)))
            refuse("a grant out of bounds");
        return;
    default:
        refuse("an unknown type of frame");
    }
}

static void take_frame(const struct frame *frame)
{
    if (agent.document != NULL && frame->type != agent.document_type)
        refuse("a document that was not finished");
    switch (frame->type) {
    case FRAME_EXEC:
    case FRAME_START:
        if ((frame->flags & ~FLAG_MORE) != 0)
            refuse("an unknown flag");
        take_document(frame);
        return;
    case FRAME_SHUTDOWN:
        require(frame, 4);
        start_shutdown(get_u32(frame->payload));
        return;
    case FRAME_CLOCK:
        require(frame, 8);
        clock_tell(get_u64(frame->payload));
        return;
    case FRAME_PING:
        require(frame, 8);
        answer_ping(frame);
        return;
    default:
        take_process_frame(frame);
    }
}

static void serve_port(uint32_t events)
{
    struct frame frame;
    bool alive = true;
    if ((events & EPOLLIN) != 0) {
        enum inbox_next next;
        alive = inbox_fill(&memory->inbox, agent.port);
        while ((next = inbox_next(&memory->inbox, &frame)) == INBOX_FRAME)
            take_frame(&frame);
        if (next == INBOX_BROKEN)
            refuse("bytes that are no frame");
    }
    if (!alive || (events & (EPOLLHUP | EPOLLERR)) != 0)
        end_machine(); /* a guest that nobody listens to ends */
}

static void serve_children(void)
{
    struct signalfd_siginfo ignored[16];
    while (read(agent.children, ignored, sizeof ignored) > 0) {
    }
    processes_reap(&memory->processes);
}

/* Kills when the grace is over; ends the machine when all is reaped and told, or soon after in any case. */
static uint64_t step_shutdown(uint64_t now)
{
    if (!agent.stopping)
        return UINT64_MAX;
    siginfo_t ignored;
    bool waits = namespace_finish();
    bool childless = waitid(P_ALL, 0, &ignored, WEXITED | WNOHANG | WNOWAIT) != 0;
    if (childless && memory->processes.draining == 0 && outbox_empty(&memory->outbox))
        power_off();
    if (now < agent.deadline) /* nobody tells when a namespace is empty */
        return waits && now + LOOK_AGAIN_MS < agent.deadline ? now + LOOK_AGAIN_MS : agent.deadline;
    if (agent.killed)
        end_machine();
    agent.killed = true;
    kill(-1, SIGKILL);
    agent.deadline = now + LAST_WORDS_MS;
    return agent.deadline;
}

/* Sends what is waiting; returns how long epoll may sleep, in ms. */
static int settle(void)
{
    uint64_t now = now_ms();
    uint64_t due = processes_drain(&memory->processes, now);
    if (memory->processes.hung_up || !outbox_flush(&memory->outbox))
        end_machine();
    uint64_t other = step_shutdown(now);
    due = due < other ? due : other;
    bool wants_write = !outbox_empty(&memory->outbox);
    if (wants_write != agent.port_wants_write) {
        struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.u64 = TOKEN_PORT};
        epoll_ctl(memory->processes.epoll, EPOLL_CTL_MOD, agent.port, &event);
        agent.port_wants_write = wants_write;
    }
    return due == UINT64_MAX ? -1 : due <= now ? 0 : (int)(due - now);
}

static int open_children(void)
{
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    return signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
}

void agent_serve(int port, const struct spec *main, struct agent_stamps *stamps)
{
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || madvise(memory, sizeof *memory, MADV_DONTFORK) != 0)
        die_errno("no memory for the agent");
    agent.port = memory->outbox.fd = port;
    agent.main = main;
    agent.children = open_children();
    if (epoll < 0 || agent.children < 0)
        die_errno("cannot set up the agent");
    signal(SIGPIPE, SIG_IGN);
    processes_open(&memory->processes, epoll, &memory->outbox);
    greet(stamps);
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = TOKEN_PORT};
    epoll_ctl(epoll, EPOLL_CTL_ADD, port, &wanted);
    wanted.data.u64 = TOKEN_CHILD;
    epoll_ctl(epoll, EPOLL_CTL_ADD, agent.children, &wanted);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, settle());
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == TOKEN_PORT)
                serve_port(events[i].events);
            else if (events[i].data.u64 == TOKEN_CHILD)
                serve_children();
            else
                processes_event(&memory->processes, events[i].data.u64, events[i].events);
        }
    }
}
