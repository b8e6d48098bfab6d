/* The published HCS schema as tables, and the check of a document against them: types, names, required members, words,
 * and from which Windows on a member is known.
 */
#ifndef HCS_SCHEMA_H
#define HCS_SCHEMA_H

#include "json.h"
#include "result.h"

struct shape;

extern const struct shape compute_system, modify_request, attachment, plan9_share, hvsocket_service, com_port,
    system_query, property_query, service_query, save_options, shutdown_options, pause_options, crash_options,
    network_adapter, processor_limits;

unsigned schema_build(void); /* of Windows: PROPOLIS_HCS_BUILD, 26100 by default */
unsigned schema_minor(void); /* the highest 2.N that this build knows */

/* Whether `value` has this shape. `path` is how messages call it: "$" for a document. */
bool schema_check(const struct json *value, const struct shape *shape, const char *path, struct verdict *verdict);

#endif
