#include "fault.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "platform.h"

#define USUAL_DELAY 3
#define GUEST_DELAY 50

static char *source;        /* the environment variable as it was read last */
static struct json *faults; /* and what it says; entries count down in it */

static void read_faults(void)
{
    char *now = environment("PROPOLIS_HCS_FAULTS");
    if (now == NULL || (source != NULL && strcmp(now, source) == 0)) {
        if (now == NULL) {
            json_free(faults);
            faults = NULL;
            free(source);
            source = NULL;
        }
        free(now);
        return;
    }
    json_free(faults);
    free(source);
    source = now;
    char *error = NULL;
    faults = json_parse(source, &error);
    if (faults == NULL || faults->kind != JSON_OBJECT)
        fatal("PROPOLIS_HCS_FAULTS: %s", error != NULL ? error : "not an object");
    for (const struct json *entry = faults->first; entry != NULL; entry = entry->next)
        if (!starts_with(entry->key, "Hcs") && strcmp(entry->key, "guest") != 0)
            fatal("PROPOLIS_HCS_FAULTS: %s is neither a function nor \"guest\"", entry->key);
}

static HRESULT read_code(const struct json *entry)
{
    const struct json *code = json_get(entry, "hresult");
    if (code == NULL)
        return 0;
    if (code->kind == JSON_NUMBER && code->integer)
        return (HRESULT)code->number;
    char *end = NULL;
    unsigned long value = code->kind == JSON_STRING ? strtoul(code->string, &end, 16) : 0;
    if (end == NULL || *end != '\0')
        fatal("PROPOLIS_HCS_FAULTS: hresult of %s is no number", entry->key != NULL ? entry->key : "an entry");
    return (HRESULT)value;
}

/* Whether this call is the entry's; counts `skip` and `times` down. */
static bool applies(struct json *entry)
{
    int64_t skip = json_number(entry, "skip", 0), times = json_number(entry, "times", -1);
    if (skip > 0) {
        json_set(entry, "skip", json_integer(skip - 1));
        return false;
    }
    if (times == 0)
        return false;
    if (times > 0)
        json_set(entry, "times", json_integer(times - 1));
    return true;
}

static void check_entry(const struct json *entry, const char *name)
{
    static const char *const known[] = {"hresult",  "immediate", "never", "disconnect",
                                        "delay_ms", "document",  "times", "skip"};
    if (entry->kind != JSON_OBJECT)
        fatal("PROPOLIS_HCS_FAULTS: what is said of %s is no object", name);
    for (const struct json *member = entry->first; member != NULL; member = member->next) {
        bool found = false;
        for (size_t at = 0; at < sizeof known / sizeof *known; at++)
            found |= strcmp(member->key, known[at]) == 0;
        if (!found)
            fatal("PROPOLIS_HCS_FAULTS: %s has no \"%s\"", name, member->key);
    }
}

bool fault_take(const char *name, struct fault *fault)
{
    memset(fault, 0, sizeof *fault);
    fault->delay = fault_delay();
    read_faults();
    struct json *entry = json_get(faults, name);
    if (entry == NULL)
        return false;
    struct json *end = entry->next;
    if (entry->kind == JSON_ARRAY) {
        entry = entry->first;
        end = NULL;
    }
    for (; entry != end; entry = entry->next) {
        check_entry(entry, name);
        if (!applies(entry))
            continue;
        fault->immediate = json_truth(entry, "immediate", false);
        fault->never = json_truth(entry, "never", false);
        fault->disconnect = json_truth(entry, "disconnect", false);
        fault->code = read_code(entry);
        fault->delay = (uint32_t)json_number(entry, "delay_ms", fault->delay);
        const struct json *document = json_get(entry, "document");
        fault->document = document != NULL ? json_write(document) : NULL;
        return true;
    }
    return false;
}

enum guest_fate fault_guest(uint32_t *after)
{
    static const struct {
        const char *word;
        enum guest_fate fate;
    } words[] = {
        {"crash", GUEST_CRASHES},
        {"exit", GUEST_EXITS},
        {"hang", GUEST_HANGS},
        {"triple-fault", GUEST_TRIPLE_FAULTS},
        {"service-disconnect", GUEST_LOSES_SERVICE},
    };
    read_faults();
    const struct json *guest = json_get(faults, "guest");
    if (guest == NULL)
        return GUEST_RUNS;
    const char *word = guest->kind == JSON_STRING ? guest->string : json_text(guest, "event", "");
    *after = (uint32_t)json_number(guest, "after_ms", GUEST_DELAY);
    for (size_t at = 0; at < sizeof words / sizeof *words; at++)
        if (strcmp(word, words[at].word) == 0)
            return words[at].fate;
    fatal("PROPOLIS_HCS_FAULTS: a guest does not %s", word);
}

uint32_t fault_delay(void)
{
    char *value = environment("PROPOLIS_HCS_DELAY_MS");
    uint32_t delay = value != NULL ? (uint32_t)strtoul(value, NULL, 10) : USUAL_DELAY;
    free(value);
    return delay;
}
