"""KVM's ioctl numbers and structures, spelled as in linux/kvm.h (x86-64). Declarations only, no policy.

The structures are `struct` formats, as `fcntl.ioctl` takes bytes; ctypes is needed only for an address.
"""

import ctypes
import mmap
from struct import Struct

KVM_API_VERSION = 12

KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
KVM_CREATE_VCPU = 0xAE41
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_SET_TSS_ADDR = 0xAE47
KVM_RUN = 0xAE80
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_SET_CPUID2 = 0x4008AE90

KVM_EXIT_HLT = 5
KVM_EXIT_SHUTDOWN = 8
KVM_EXIT_FAIL_ENTRY = 9
KVM_EXIT_INTERNAL_ERROR = 17
EXIT_NAMES = {
    KVM_EXIT_HLT: "KVM_EXIT_HLT",
    KVM_EXIT_SHUTDOWN: "KVM_EXIT_SHUTDOWN",
    KVM_EXIT_FAIL_ENTRY: "KVM_EXIT_FAIL_ENTRY",
    KVM_EXIT_INTERNAL_ERROR: "KVM_EXIT_INTERNAL_ERROR",
}

kvm_userspace_memory_region = Struct("=IIQQQ")  # slot, flags, guest_phys_addr, memory_size, userspace_addr
kvm_regs = Struct("=18Q")  # rax rbx rcx rdx rsi rdi rsp rbp r8..r15 rip rflags
kvm_segment = Struct("=QIH10B")  # base limit selector type present dpl db s l g avl unusable padding
kvm_dtable = Struct("=QH6x")
kvm_sregs_size = 312
kvm_cpuid2_header = Struct("=II")  # nent, padding
kvm_cpuid_entry2_size = 40

SREGS_CS = 0
SREGS_DATA_SEGMENTS = tuple(24 * index for index in range(1, 6))  # ds es fs gs ss
SREGS_CR0 = 8 * 24 + 2 * 16
SREGS_CR3 = SREGS_CR0 + 16
SREGS_CR4 = SREGS_CR0 + 24
SREGS_EFER = SREGS_CR0 + 40

RUN_EXIT_REASON = 8
"""Offset of `exit_reason` in struct kvm_run."""


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping lies in this process. Valid only while `memory` is open."""
    view = (ctypes.c_char * len(memory)).from_buffer(memory)
    try:
        return ctypes.addressof(view)
    finally:
        del view
