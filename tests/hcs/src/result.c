#include "result.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"

#define PROVIDER "17a2a8c1-5e1c-4b0e-9f9c-7a6f70726f70"
#define MOST 2048

bool complain(struct verdict *verdict, HRESULT code, const char *format, ...)
{
    if (verdict->message != NULL)
        return false;
    char words[MOST];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    verdict->code = code;
    verdict->message = duplicate(words);
    return false;
}

char *result_error(HRESULT code, const char *message)
{
    char *number = format("The operation failed with 0x%08x.", (unsigned)code);
    struct json *error = json_object(), *event = json_object(), *events = json_array();
    json_set(error, "Error", json_integer(code));
    json_set(error, "ErrorMessage", json_string(number));
    json_set(event, "Message", json_string(message != NULL ? message : number));
    json_set(event, "Provider", json_string(PROVIDER));
    json_set(event, "EventId", json_integer(1));
    json_set(event, "Flags", json_integer(0));
    json_set(event, "Source", json_string("propolis stand-in for HCS"));
    json_set(event, "Data", json_array());
    json_add(events, event);
    json_set(error, "ErrorEvents", events);
    char *text = json_write(error);
    json_free(error);
    free(number);
    return text;
}
