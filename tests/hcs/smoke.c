/* A program for Windows that goes once through the life of a compute system: the DLL's ABI as mingw-w64's header has
 * it. */
#include <stdio.h>
#include <wchar.h>

#include <winsock2.h>

#include <windows.h>

#include <computecore.h>

static const wchar_t ID[] = L"7a9c3d10-0000-4000-8000-00000000beef";
static HANDLE exited;

static void CALLBACK take_event(HCS_EVENT *event, void *context)
{
    printf("event %d %ls %d\n", (int)event->Type, event->EventData, *(int *)context);
    fflush(stdout);
    SetEvent(exited);
}

static HRESULT finish(HCS_OPERATION operation, HRESULT submitted, const char *name)
{
    PWSTR document = NULL;
    HRESULT result = submitted == S_OK ? HcsWaitForOperationResult(operation, 10000, &document) : submitted;
    printf("%s %08lx %ls\n", name, (unsigned long)result, document != NULL ? document : L"-");
    fflush(stdout);
    LocalFree(document);
    return result;
}

/* Arguments: the document's file as UTF-8, then what is to be granted. */
int wmain(int count, wchar_t **arguments)
{
    static char bytes[65536];
    static wchar_t document[65536];
    int number = 42;
    FILE *file = _wfopen(arguments[1], L"rb");
    if (file == NULL || fread(bytes, 1, sizeof bytes - 1, file) == 0)
        return 2;
    fclose(file);
    MultiByteToWideChar(CP_UTF8, 0, bytes, -1, document, 65536);
    exited = CreateEventW(NULL, FALSE, FALSE, NULL);
    for (int at = 2; at < count; at++)
        printf("grant %08lx\n", (unsigned long)HcsGrantVmAccess(ID, arguments[at]));
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    HCS_SYSTEM system = NULL;
    if (finish(operation, HcsCreateComputeSystem(ID, document, operation, NULL, &system), "create") == S_OK) {
        HcsSetComputeSystemCallback(system, HcsEventOptionNone, &number, take_event);
        finish(operation, HcsStartComputeSystem(system, operation, NULL), "start");
        finish(operation, HcsGetComputeSystemProperties(system, operation, NULL), "properties");
        finish(operation, HcsTerminateComputeSystem(system, operation, NULL), "terminate");
        WaitForSingleObject(exited, 10000);
    }
    HcsCloseOperation(operation);
    HcsCloseComputeSystem(system);
    return 0;
}
