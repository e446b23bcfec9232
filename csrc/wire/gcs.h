/* wire/gcs.h - the numbers of the guest bridge protocol: message identifiers, HRESULTs, ports, well-known
 * ids.
 *
 * Layer      wire: constants and pure look-ups.
 * See        PROTOCOL.md */
#ifndef MSH_WIRE_GCS_H
#define MSH_WIRE_GCS_H
#include <stdbool.h>
#include <stdint.h>

/* X(name in C, name in the protocol, request identifier): every request, in the order of its procedure. */
#define MSH_GCS_REQUESTS(X)                                                                                  \
    X(CREATE, "Create", 0x10100101)                                                                          \
    X(START, "Start", 0x10100201)                                                                            \
    X(SHUTDOWN_GRACEFUL, "ShutdownGraceful", 0x10100301)                                                     \
    X(SHUTDOWN_FORCED, "ShutdownForced", 0x10100401)                                                         \
    X(EXECUTE_PROCESS, "ExecuteProcess", 0x10100501)                                                         \
    X(WAIT_FOR_PROCESS, "WaitForProcess", 0x10100601)                                                        \
    X(SIGNAL_PROCESS, "SignalProcess", 0x10100701)                                                           \
    X(RESIZE_CONSOLE, "ResizeConsole", 0x10100801)                                                           \
    X(GET_PROPERTIES, "GetProperties", 0x10100901)                                                           \
    X(MODIFY_SETTINGS, "ModifySettings", 0x10100a01)                                                         \
    X(NEGOTIATE_PROTOCOL, "NegotiateProtocol", 0x10100b01)                                                   \
    X(DUMP_STACKS, "DumpStacks", 0x10100c01)                                                                 \
    X(DELETE_CONTAINER_STATE, "DeleteContainerState", 0x10100d01)                                            \
    X(UPDATE_CONTAINER, "UpdateContainer", 0x10100e01)                                                       \
    X(LIFECYCLE_NOTIFICATION, "LifecycleNotification", 0x10100f01)                                           \
    X(MODIFY_SERVICE_SETTINGS, "ModifyServiceSettings", 0x10200101)
#define X(id, text, number) MSH_GCS_##id = number,
enum { MSH_GCS_REQUESTS(X) MSH_GCS_CONTAINER_NOTIFICATION = 0x30100101 };
#define MSH_GCS_EXT_OUT_OF_MEMORY UINT32_C(0x30180101) /* an extension; procedures from 0x800 on are ours */
#undef X

typedef enum msh_gcs_class {
    MSH_GCS_REQUEST = 1,
    MSH_GCS_RESPONSE = 2,
    MSH_GCS_NOTIFICATION = 3
} msh_gcs_class;

static inline unsigned msh_gcs_class_of(uint32_t type) /* 0..15; compare with msh_gcs_class */
{
    return type >> 28;
}
static inline uint32_t msh_gcs_response(uint32_t request) /* also for requests that nobody knows */
{
    return UINT32_C(0x20000000) | (request & UINT32_C(0x0fffffff));
}
/* "ModifySettings" for the request and for its response, "ContainerNotification"; NULL for unknown numbers.
 */
const char *msh_gcs_name(uint32_t type);
/* Request identifier by protocol name, exact spelling; 0 when there is none. */
uint32_t msh_gcs_request(const char *name);

#define MSH_GCS_VERSION 4
#define MSH_GCS_NULL_CONTAINER                                                                               \
    "00000000-0000-0000-0000-000000000000"        /* the UVM itself; also the zero GUID                      \
                                                   */
#define MSH_GCS_WAIT_FOREVER UINT32_C(0xffffffff) /* TimeoutInMs */

/* Ports that the host listens on. */
#define MSH_PORT_ENTROPY UINT32_C(1)
#define MSH_PORT_LOG     UINT32_C(109)
#define MSH_PORT_PLAN9   UINT32_C(564)
#define MSH_PORT_BRIDGE  UINT32_C(0x40000000)
#define MSH_PORT_STDIO   UINT32_C(0x40000001) /* first of the growing stdio ports */

/* X(name, number, meaning). On the wire `Result` is the same number as a signed decimal. */
#define MSH_HRESULTS(X)                                                                                      \
    X(NOT_IMPLEMENTED, 0x80004001, "not implemented")                                                        \
    X(FAIL, 0x80004005, "unspecified failure")                                                               \
    X(FILE_NOT_FOUND, 0x80070002, "program not found")                                                       \
    X(ACCESS_DENIED, 0x80070005, "program not executable")                                                   \
    X(INVALID_ARGUMENT, 0x80070057, "invalid argument")                                                      \
    X(NOT_FOUND, 0x80070490, "not found")                                                                    \
    X(INVALID_STATE, 0x80370105, "invalid state")                                                            \
    X(TIMEOUT, 0xC0370109, "timeout")                                                                        \
    X(UNKNOWN_MESSAGE, 0xC037010B, "unknown message")                                                        \
    X(UNSUPPORTED_VERSION, 0xC037010C, "unsupported protocol version")                                       \
    X(INVALID_JSON, 0xC037010D, "invalid JSON")                                                              \
    X(SYSTEM_NOT_FOUND, 0xC037010E, "no such container")                                                     \
    X(SYSTEM_EXISTS, 0xC037010F, "container exists")                                                         \
    X(SYSTEM_STOPPED, 0xC0370110, "container already stopped")
#define X(id, number, text) MSH_HR_##id = (int32_t)UINT32_C(number),
enum { MSH_HRESULTS(X) };
#undef X
const char *msh_hresult_text(int32_t hresult); /* NULL for numbers outside the table */

/* Instance GUID by which the guest knows SCSI controller 0..3; NULL beyond. */
const char *msh_gcs_scsi_controller(uint32_t controller);
#endif
