/* Compute systems and the handles that programs hold on them. With the state locked. */
#ifndef HCS_SYSTEM_H
#define HCS_SYSTEM_H

#include "json.h"
#include "types.h"

enum state { STATE_CREATED, STATE_RUNNING, STATE_PAUSED, STATE_STOPPED, STATE_TEMPLATE };

struct bridge;

struct system {
    char *id, *owner, runtime[GUID_TEXT];
    enum state state;
    struct json *document;  /* as it is now, after what was added and removed */
    bool dies_with_handles; /* ShouldTerminateOnLastHandleClosed */
    bool listed;            /* in the table; false for one whose creation is under way or failed */
    bool lost;              /* the service died under it */
    char *exit;             /* SystemExitStatus, once it has ended */
    int handles;
    struct bridge *bridge; /* NULL: no machine */
    struct system *next;
};

/* What HCS_SYSTEM points to. Never freed, so that the use of a closed one is always seen. */
struct handle {
    bool closed;
    struct system *system;
    HCS_EVENT_CALLBACK callback;
    void *context;
    uint32_t options;
    int waiters; /* threads in a call that waits */
    struct handle *next;
};

struct handle *handle_of(HCS_SYSTEM system); /* NULL for NULL; ends the process for one that is closed */
struct handle *handle_open(struct system *system);
void handle_close(struct handle *handle);

struct system *system_find(const char *id);
struct system *system_make(const char *id, struct json *document); /* takes the document over */
void system_list(struct system *system);
void system_forget(struct system *system);
const char *system_state(const struct system *system);
bool system_state_from(const char *name, enum state *state);

/* The system has ended: remember how, and tell every handle. `status` is an HRESULT, `attribution` a JSON object or
 * NULL. */
void system_exited(struct system *system, HRESULT status, const char *type, struct json *attribution);
void system_tell(struct system *system, uint32_t event, const char *data);
void system_crashed(struct system *system, const char *log);

/* What the service itself knows of a system, as properties. */
struct json *system_properties(const struct system *system);
struct json *systems_properties(void); /* of all, an array; NULL when the bridge is gone */

/* The service died and came back: every handle is told, and worthless from then on. */
void systems_lose(void);

#endif
