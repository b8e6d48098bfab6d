"""The stand-in's library by ctypes, for its own tests: each call has its own operation, results are Python's.

Deliberately not the product's binding: a test double that is tested through what it is to test would prove little.
"""

import ctypes
import json
from dataclasses import dataclass
from pathlib import Path

OK = 0
TIMEOUT = 0x80370118

_EVENT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_COMPLETION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class _Event(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint32), ("data", ctypes.c_wchar_p), ("operation", ctypes.c_void_p))


@dataclass
class Result:
    """What a call came to: the code as an unsigned number, the document parsed (or None)."""

    code: int
    document: object = None

    @property
    def message(self):
        """The words of the first error event."""
        return self.document["ErrorEvents"][0]["Message"]


class ComputeCore:
    """The functions by their names without `Hcs`; `System` and operations are plain pointers."""

    def __init__(self, path: Path):
        self.dll = ctypes.CDLL(str(path))
        self.dll.HcsCreateOperation.restype = ctypes.c_void_p
        self.dll.HcsGetOperationContext.restype = ctypes.c_void_p
        self.dll.HcsGetComputeSystemFromOperation.restype = ctypes.c_void_p
        self.dll.HcsGetOperationId.restype = ctypes.c_uint64
        self.dll.LocalFree.argtypes = (ctypes.c_void_p,)
        self.kept = []
        self.systems = set()
        """Handles that are open."""

    def call(self, name, *arguments):
        """A function that returns an HRESULT; strings and pointers are passed as such."""
        converted = [
            ctypes.c_wchar_p(argument)
            if isinstance(argument, str)
            else ctypes.c_void_p(argument)
            if argument is None or (isinstance(argument, int) and argument > 0xFFFFFFFF)
            else argument
            for argument in arguments
        ]
        return getattr(self.dll, name)(*converted) & 0xFFFFFFFF

    def take(self, pointer):
        """The document behind a pointer that the library gave, which is freed."""
        if not pointer.value:
            return None
        text = ctypes.wstring_at(pointer.value)
        self.dll.LocalFree(pointer)
        return json.loads(text)

    def operation(self, context=None, callback=None):
        """A new operation."""
        if callback is None:
            return self.dll.HcsCreateOperation(context, None)
        kept = _COMPLETION(callback)
        self.kept.append(kept)
        return self.dll.HcsCreateOperation(context, kept)

    def close_operation(self, operation):
        """HcsCloseOperation."""
        self.dll.HcsCloseOperation(ctypes.c_void_p(operation))

    def result(self, operation):
        """HcsGetOperationResult."""
        document = ctypes.c_void_p()
        return Result(self.call("HcsGetOperationResult", operation, ctypes.byref(document)), self.take(document))

    def wait(self, operation, milliseconds=10_000):
        """HcsWaitForOperationResult."""
        document = ctypes.c_void_p()
        code = self.call("HcsWaitForOperationResult", operation, milliseconds, ctypes.byref(document))
        return Result(code, self.take(document))

    def do(self, name, system, *arguments, milliseconds=10_000):
        """A function that takes a system and an operation: submitted, waited for."""
        operation = self.operation()
        code = self.call(name, system, operation, *arguments)
        result = Result(code) if code else self.wait(operation, milliseconds)
        self.close_operation(operation)
        return result

    def create(self, id, document):
        """HcsCreateComputeSystem, waited for; returns the system (None where none was made) and the result."""
        system, operation = ctypes.c_void_p(), self.operation()
        text = document if isinstance(document, str) else json.dumps(document)
        code = self.call("HcsCreateComputeSystem", id, text, operation, None, ctypes.byref(system))
        result = Result(code) if code else self.wait(operation)
        self.close_operation(operation)
        if system.value:
            self.systems.add(system.value)
        return system.value, result

    def open(self, id, access=0x10000000):
        """HcsOpenComputeSystem."""
        system = ctypes.c_void_p()
        code = self.call("HcsOpenComputeSystem", id, ctypes.c_uint32(access), ctypes.byref(system))
        if system.value:
            self.systems.add(system.value)
        return code, system.value

    def close(self, system):
        """HcsCloseComputeSystem."""
        self.systems.discard(system)
        self.dll.HcsCloseComputeSystem(ctypes.c_void_p(system))

    def start(self, system):
        """HcsStartComputeSystem."""
        return self.do("HcsStartComputeSystem", system, None)

    def terminate(self, system):
        """HcsTerminateComputeSystem."""
        return self.do("HcsTerminateComputeSystem", system, None)

    def properties(self, system, query=None):
        """HcsGetComputeSystemProperties."""
        return self.do("HcsGetComputeSystemProperties", system, json.dumps(query) if query is not None else None)

    def modify(self, system, request, token=None):
        """HcsModifyComputeSystem."""
        return self.do("HcsModifyComputeSystem", system, json.dumps(request), ctypes.c_void_p(token))

    def enumerate(self, query=None):
        """HcsEnumerateComputeSystems."""
        operation = self.operation()
        code = self.call("HcsEnumerateComputeSystems", json.dumps(query) if query is not None else None, operation)
        result = Result(code) if code else self.wait(operation)
        self.close_operation(operation)
        return result

    def listen(self, system, callback, options=0):
        """HcsSetComputeSystemCallback; `callback(type, text)` is called on a thread of the library."""

        def called(event, _context):
            event = ctypes.cast(event, ctypes.POINTER(_Event)).contents
            callback(event.type, event.data)

        kept = _EVENT_CALLBACK(called)
        self.kept.append(kept)
        return self.call("HcsSetComputeSystemCallback", system, options, None, kept)

    def wait_for_exit(self, system, milliseconds=10_000):
        """HcsWaitForComputeSystemExit."""
        document = ctypes.c_void_p()
        code = self.call("HcsWaitForComputeSystemExit", system, milliseconds, ctypes.byref(document))
        return Result(code, self.take(document))

    def service(self, query=None):
        """HcsGetServiceProperties."""
        document = ctypes.c_void_p()
        text = json.dumps(query) if query is not None else None
        code = self.call("HcsGetServiceProperties", text, ctypes.byref(document))
        return Result(code, self.take(document))

    def grant(self, id, path):
        """HcsGrantVmAccess."""
        return self.call("HcsGrantVmAccess", id, str(path))

    def revoke(self, id, path):
        """HcsRevokeVmAccess."""
        return self.call("HcsRevokeVmAccess", id, str(path))
