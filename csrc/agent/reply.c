#include "agent/reply.h"
#include "wire/gcs.h"
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 4096

int32_t msh_reply_result(const msh_err *err)
{
    if (err->hresult != 0)
        return err->hresult;
    switch (err->code) {
    case MSH_OK:
        return 0;
    case MSH_INVALID_ARGUMENT:
        return MSH_HR_INVALID_ARGUMENT;
    case MSH_NOT_FOUND:
        return MSH_HR_NOT_FOUND;
    case MSH_UNIMPLEMENTED:
        return MSH_HR_NOT_IMPLEMENTED;
    case MSH_DEADLINE_EXCEEDED:
        return MSH_HR_TIMEOUT;
    default:
        return MSH_HR_FAIL;
    }
}

json_t *msh_reply_ok(const char *activity)
{
    json_t *o = json_object();
    json_object_set_new(o, "Result", json_integer(0));
    if (activity != NULL && activity[0] != '\0')
        json_object_set_new(o, "ActivityId", json_string(activity));
    return o;
}

json_t *msh_reply_fail(const char *activity, int32_t result, const char *text)
{
    char message[TEXT_MAX];
    if (text == NULL || text[0] == '\0')
        snprintf(message, sizeof message, "HRESULT: 0x%08x", (unsigned)result);
    else
        snprintf(message, sizeof message, "HRESULT 0x%08x: %s", (unsigned)result, text);
    json_t *line = json_string(message);
    if (line == NULL) /* cut inside a character, or never text: say the number alone */
        line = json_sprintf("HRESULT: 0x%08x", (unsigned)result);
    json_t *o = msh_reply_ok(activity);
    json_object_set_new(o, "Result", json_integer(result));
    json_object_set(o, "ErrorMessage", line);
    json_t *record = json_object();
    json_object_set_new(record, "Result", json_integer(result));
    json_object_set(record, "Message", line);
    json_object_set_new(record, "ModuleName", json_string("gcs"));
    json_object_set_new(record, "FileName", json_string(""));
    json_object_set_new(record, "Line", json_integer(UINT32_MAX));
    json_t *records = json_array();
    json_array_append_new(records, record);
    json_object_set_new(o, "ErrorRecords", records);
    json_decref(line);
    return o;
}

json_t *msh_reply_negotiated(const char *activity)
{
    json_t *o = msh_reply_ok(activity);
    json_object_set_new(o, "Version", json_integer(MSH_GCS_VERSION));
    json_object_set_new(
        o, "Capabilities",
        json_pack("{s:[{s:i,s:i}],s:s,s:{s:b,s:b,s:b,s:b}}", "SupportedSchemaVersions", "Major", 2, "Minor",
                  1, "RuntimeOsType", "Linux", "GuestDefinedCapabilities", "NamespaceAddRequestSupported", 1,
                  "SignalProcessSupported", 1, "DumpStacksSupported", 1, "DeleteContainerStateSupported", 1));
    return o;
}

json_t *msh_notice_exit(const char *container, const char *activity, const char *type)
{
    json_t *o = json_object();
    json_object_set_new(o, "ContainerId", json_string(container));
    if (activity != NULL && activity[0] != '\0')
        json_object_set_new(o, "ActivityId", json_string(activity));
    json_object_set_new(o, "Type", json_string(type));
    json_object_set_new(o, "Operation", json_string("None"));
    json_object_set_new(o, "Result", json_integer(0));
    return o;
}
