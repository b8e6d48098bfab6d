#include "bridge.h"

#include <stdlib.h>
#include <string.h>

#include "platform.h"

#define CONSOLE_PATIENCE 50 /* times 20 ms that a console's server is waited for */

struct bridge {
    stream stream;
    bool closing, gone;
    int64_t latest;
    struct json *replies; /* an array */
    void (*event)(void *context, const struct json *event);
    void *context;
};

static unsigned port(void)
{
    char *value = environment("PROPOLIS_HCS_BRIDGE");
    unsigned number = value != NULL ? (unsigned)strtoul(value, NULL, 10) : 0;
    free(value);
    return number;
}

bool bridge_wanted(void)
{
    return port() != 0;
}

static void take_line(struct bridge *bridge, const char *line)
{
    struct json *message = json_parse(line, NULL);
    if (message == NULL)
        fatal("the bridge sent what is no JSON: %s", line);
    if (json_get(message, "n") != NULL) {
        json_add(bridge->replies, message);
        state_wake();
        return;
    }
    if (!bridge->closing && bridge->event != NULL)
        bridge->event(bridge->context, message);
    json_free(message);
}

static void receive(void *context)
{
    struct bridge *bridge = context;
    struct text line = {0};
    char buffer[4096];
    long length;
    while ((length = stream_receive(bridge->stream, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < length; at++) {
            if (buffer[at] != '\n') {
                text_add(&line, &buffer[at], 1);
                continue;
            }
            state_lock();
            take_line(bridge, line.data);
            state_unlock();
            line.length = 0;
        }
    free(line.data);
    state_lock();
    bridge->gone = true;
    if (!bridge->closing && bridge->event != NULL)
        bridge->event(bridge->context, NULL);
    state_wake();
    stream_close(bridge->stream);
    state_unlock();
}

struct bridge *bridge_open(void (*event)(void *, const struct json *), void *context)
{
    stream stream = stream_connect(port());
    if (stream == -1)
        return NULL;
    struct bridge *bridge = allocate(sizeof *bridge);
    *bridge = (struct bridge){.stream = stream, .replies = json_array(), .event = event, .context = context};
    thread_start(receive, bridge);
    return bridge;
}

/* The reply to request `number`, taken out of those that wait; NULL if it is not there. */
static struct json *take_reply(struct bridge *bridge, int64_t number)
{
    for (struct json **link = &bridge->replies->first; *link != NULL; link = &(*link)->next)
        if (json_number(*link, "n", 0) == number) {
            struct json *reply = *link;
            *link = reply->next;
            reply->next = NULL;
            return reply;
        }
    return NULL;
}

struct json *bridge_ask(struct bridge *bridge, struct json *request)
{
    int64_t number = ++bridge->latest;
    json_set(request, "n", json_integer(number));
    char *line = json_write(request);
    bool sent =
        !bridge->gone && stream_send(bridge->stream, line, strlen(line)) && stream_send(bridge->stream, "\n", 1);
    free(line);
    json_free(request);
    struct json *reply = NULL;
    while (sent && (reply = take_reply(bridge, number)) == NULL && !bridge->gone)
        state_wait(INFINITE);
    return reply;
}

void bridge_close(struct bridge *bridge)
{
    bridge->closing = true;
    if (!bridge->gone)
        stream_shutdown(bridge->stream); /* its thread closes it; the little that is left of it stays for that thread */
}

struct json *bridge_ask_once(struct json *request)
{
    struct bridge *bridge = bridge_open(NULL, NULL);
    if (bridge == NULL) {
        json_free(request);
        return NULL;
    }
    struct json *reply = bridge_ask(bridge, request);
    bridge_close(bridge);
    return reply;
}

struct json *bridge_request(const char *operation, const char *id)
{
    struct json *request = json_object();
    json_set(request, "op", json_string(operation));
    if (id != NULL)
        json_set(request, "id", json_string(id));
    return request;
}

struct relay {
    char *hello, *pipe;
};

static void relay(void *context)
{
    struct relay *relay = context;
    stream stream = stream_connect(port());
    intptr_t pipe = -1;
    for (int attempt = 0; pipe == -1 && attempt < CONSOLE_PATIENCE; attempt++) {
        pipe = pipe_connect(relay->pipe);
        if (pipe == -1)
            clock_sleep(20);
    }
    if (stream != -1 && stream_send(stream, relay->hello, strlen(relay->hello))) {
        char buffer[4096];
        long length;
        /* nobody at the pipe: the guest's words are read and forgotten, as a serial port without a cable does */
        while ((length = stream_receive(stream, buffer, sizeof buffer)) > 0)
            if (pipe != -1 && !pipe_send(pipe, buffer, (size_t)length)) {
                pipe_close(pipe);
                pipe = -1;
            }
    }
    if (pipe != -1)
        pipe_close(pipe);
    if (stream != -1)
        stream_close(stream);
    free(relay->hello);
    free(relay->pipe);
    free(relay);
}

void bridge_relay_console(const char *id, const char *pipe)
{
    struct relay *start = allocate(sizeof *start);
    struct json *hello = bridge_request("console", id);
    char *line = json_write(hello);
    start->hello = format("%s\n", line);
    start->pipe = duplicate(pipe);
    free(line);
    json_free(hello);
    thread_start(relay, start);
}
