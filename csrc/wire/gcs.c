#include "wire/gcs.h"
#include <stddef.h>
#include <string.h>

static const struct {
    uint32_t request;
    const char *name;
} requests[] = {
#define X(id, text, number) {UINT32_C(number), text},
    MSH_GCS_REQUESTS(X)
#undef X
};
#define REQUESTS (sizeof requests / sizeof requests[0])

const char *msh_gcs_name(uint32_t type)
{
    if (type == MSH_GCS_CONTAINER_NOTIFICATION)
        return "ContainerNotification";
    for (size_t i = 0; i < REQUESTS; i++)
        if (requests[i].request == type || msh_gcs_response(requests[i].request) == type)
            return requests[i].name;
    return NULL;
}

uint32_t msh_gcs_request(const char *name)
{
    for (size_t i = 0; i < REQUESTS; i++)
        if (strcmp(requests[i].name, name) == 0)
            return requests[i].request;
    return 0;
}

const char *msh_hresult_text(int32_t hresult)
{
    switch (hresult) {
#define X(id, number, text)                                                                                  \
    case MSH_HR_##id:                                                                                        \
        return text;
        MSH_HRESULTS(X)
#undef X
    default:
        return NULL;
    }
}

const char *msh_gcs_scsi_controller(uint32_t controller)
{
    static const char *const guids[] = {
        "df6d0690-79e5-55b6-a5ec-c1e2f77f580a",
        "0110f83b-de10-5172-a266-78bca56bf50a",
        "b5d2d8d4-3a75-51bf-945b-3444dc6b8579",
        "305891a9-b251-5dfe-91a2-c25d9212275b",
    };
    return controller < sizeof guids / sizeof guids[0] ? guids[controller] : NULL;
}
