/* The connection to the bridge on the Linux side (bridge.py), which boots machines and keeps the table of systems
 * between processes.
 *
 * Lines of JSON: requests carry a number "n" that the reply repeats, events carry none. Without PROPOLIS_HCS_BRIDGE
 * there is no bridge, and no machine. With the state locked; waiting unlocks it.
 */
#ifndef HCS_BRIDGE_H
#define HCS_BRIDGE_H

#include "json.h"

struct bridge;

bool bridge_wanted(void);

/* `event` is told, with the state locked, what the bridge says unasked; NULL when the connection ends by itself. */
struct bridge *bridge_open(void (*event)(void *context, const struct json *event), void *context);

/* Takes `request` over. The reply is freed by the caller; NULL when the bridge is gone. */
struct json *bridge_ask(struct bridge *bridge, struct json *request);
void bridge_close(struct bridge *bridge);

/* Over a connection that is made for this alone. */
struct json *bridge_ask_once(struct json *request);

struct json *bridge_request(const char *operation, const char *id);

/* Connect the console of a machine to the pipe in its document; ends with the machine. */
void bridge_relay_console(const char *id, const char *pipe);

#endif
