/* The types of computecore: mingw-w64's own headers for the DLL, so that the ABI is not our opinion, and the same names
 * for the Linux library, where wchar_t has four bytes.
 */
#ifndef HCS_TYPES_H
#define HCS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wchar.h>

#ifdef _WIN32

#include <winsock2.h>

#include <windows.h>

#include <computecore.h>

#else

typedef int32_t HRESULT;
typedef uint32_t DWORD, UINT32;
typedef uint64_t UINT64;
typedef wchar_t *PWSTR;
typedef const wchar_t *PCWSTR;
typedef void *HANDLE;
typedef void SECURITY_DESCRIPTOR;
typedef struct HCS_SYSTEM__ *HCS_SYSTEM;
typedef struct HCS_OPERATION__ *HCS_OPERATION;
typedef int32_t HCS_OPERATION_TYPE;
typedef uint32_t HCS_EVENT_OPTIONS;
typedef uint32_t HCS_EVENT_TYPE;

typedef struct HCS_EVENT {
    HCS_EVENT_TYPE Type;
    PCWSTR EventData;
    HCS_OPERATION Operation;
} HCS_EVENT;

#define WINAPI
#define CALLBACK
#define INFINITE 0xffffffffu

typedef void (*HCS_OPERATION_COMPLETION)(HCS_OPERATION operation, void *context);
typedef void (*HCS_EVENT_CALLBACK)(HCS_EVENT *event, void *context);

enum {
    HcsOperationTypeNone = -1,
    HcsOperationTypeEnumerate = 0,
    HcsOperationTypeCreate = 1,
    HcsOperationTypeStart = 2,
    HcsOperationTypeShutdown = 3,
    HcsOperationTypePause = 4,
    HcsOperationTypeResume = 5,
    HcsOperationTypeSave = 6,
    HcsOperationTypeTerminate = 7,
    HcsOperationTypeModify = 8,
    HcsOperationTypeGetProperties = 9,
    HcsOperationTypeCrash = 15,
};

enum {
    HcsEventSystemExited = 1,
    HcsEventSystemCrashInitiated = 2,
    HcsEventSystemCrashReport = 3,
    HcsEventSystemGuestConnectionClosed = 6,
    HcsEventOperationCallback = 0x01000000,
    HcsEventServiceDisconnect = 0x02000000,
};

enum { HcsEventOptionNone = 0, HcsEventOptionEnableOperationCallbacks = 1 };

void *LocalFree(void *memory); /* kernel32 has it on Windows */

#endif

#endif
