"""A trial of KVM: some guest code, and how it ended.

On nested and cloud machines KVM may create machines, enter long mode and halt, and still emulate every instruction, or
give up at the first one its emulator does not know. So the guest code turns on paging and SSE, executes `pxor` and
`lock cmpxchg16b`, and counts a loop against the clock.
Follows Documentation/virt/kvm/api.rst; x86-64 only.
"""

import sys

assert sys.platform != "win32"

import fcntl
import mmap
import os
import platform
import time
from struct import pack_into, unpack_from

from propolis.hypervisor.base import Availability
from propolis.hypervisor.kvm import _ffi

_LOOPS = 100_000
_SLOWEST_LOOP = 0.01
"""Seconds. Hardware needs some 0.1 ms for the loop; where each instruction is emulated it took 50 to 170 ms."""

_PML4, _PDPT, _PD, _CODE, _DATA, _STACK = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x7000
_MEMORY = 1 << 21
_CODE_BYTES = (
    bytes.fromhex("660fefc0")  # pxor xmm0, xmm0
    + bytes.fromhex("be") + _DATA.to_bytes(4, "little")  # mov esi, DATA
    + bytes.fromhex("31c031d231db31c9")  # xor eax, eax; edx; ebx; ecx
    + bytes.fromhex("f0480fc70e")  # lock cmpxchg16b [rsi]
    + bytes.fromhex("b9") + _LOOPS.to_bytes(4, "little")  # mov ecx, LOOPS
    + bytes.fromhex("ffc975fc")  # dec ecx; jnz -4
    + bytes.fromhex("f4")  # hlt
)  # fmt: skip
_CR0_PE, _CR0_MP, _CR0_PG = 1, 1 << 1, 1 << 31
_CR4_PAE, _CR4_OSFXSR, _CR4_OSXMMEXCPT = 1 << 5, 1 << 9, 1 << 10
_EFER_LME, _EFER_LMA = 1 << 8, 1 << 10
_PRESENT_WRITABLE, _LARGE_PAGE = 0b11, 1 << 7

_INCOMPLETE = "this host's virtualization is incomplete (a nested one?); ask its provider for nested virtualization"


def run_guest_code(kvm: int) -> Availability:
    """Run it on the open /dev/kvm `kvm`."""
    if platform.machine() != "x86_64":
        return Availability.unusable(f"the probe knows no guest code for {platform.machine()} yet")
    try:
        return _run_on_x86_64(kvm)
    except OSError as error:
        return Availability.unusable(f"a KVM call failed: {error.strerror}", "check the kernel log of this host")


def _run_on_x86_64(kvm: int) -> Availability:
    version = fcntl.ioctl(kvm, _ffi.KVM_GET_API_VERSION)
    if version != _ffi.KVM_API_VERSION:
        return Availability.unusable(f"KVM speaks API version {version}, not {_ffi.KVM_API_VERSION}")
    descriptors: list[int] = []
    memory = mmap.mmap(-1, _MEMORY)
    try:
        vm = fcntl.ioctl(kvm, _ffi.KVM_CREATE_VM, 0)
        descriptors.append(vm)
        fcntl.ioctl(vm, _ffi.KVM_SET_TSS_ADDR, 0x0FFBD000)
        region = _ffi.kvm_userspace_memory_region.pack(0, 0, 0, _MEMORY, _ffi.address_of(memory))
        fcntl.ioctl(vm, _ffi.KVM_SET_USER_MEMORY_REGION, region)
        vcpu = fcntl.ioctl(vm, _ffi.KVM_CREATE_VCPU, 0)
        descriptors.append(vcpu)
        _copy_cpuid(kvm, vcpu)
        _enter_long_mode(vcpu, memory)
        with mmap.mmap(vcpu, fcntl.ioctl(kvm, _ffi.KVM_GET_VCPU_MMAP_SIZE)) as run:
            before = time.thread_time()
            fcntl.ioctl(vcpu, _ffi.KVM_RUN, 0)
            return _judge(unpack_from("=I", run, _ffi.RUN_EXIT_REASON)[0], time.thread_time() - before)
    finally:
        for descriptor in reversed(descriptors):
            os.close(descriptor)
        memory.close()


def _copy_cpuid(kvm: int, vcpu: int) -> None:
    """Without CPUID the guest has no SSE."""
    entries = 256
    table = bytearray(_ffi.kvm_cpuid2_header.size + entries * _ffi.kvm_cpuid_entry2_size)
    _ffi.kvm_cpuid2_header.pack_into(table, 0, entries, 0)
    fcntl.ioctl(kvm, _ffi.KVM_GET_SUPPORTED_CPUID, table)
    fcntl.ioctl(vcpu, _ffi.KVM_SET_CPUID2, table)


def _enter_long_mode(vcpu: int, memory: mmap.mmap) -> None:
    pack_into("=Q", memory, _PML4, _PDPT | _PRESENT_WRITABLE)
    pack_into("=Q", memory, _PDPT, _PD | _PRESENT_WRITABLE)
    pack_into("=Q", memory, _PD, _PRESENT_WRITABLE | _LARGE_PAGE)
    memory[_CODE : _CODE + len(_CODE_BYTES)] = _CODE_BYTES

    sregs = bytearray(_ffi.kvm_sregs_size)
    fcntl.ioctl(vcpu, _ffi.KVM_GET_SREGS, sregs)
    _ffi.kvm_segment.pack_into(sregs, _ffi.SREGS_CS, 0, 0xFFFFFFFF, 8, 11, 1, 0, 0, 1, 1, 1, 0, 0, 0)
    for offset in _ffi.SREGS_DATA_SEGMENTS:
        _ffi.kvm_segment.pack_into(sregs, offset, 0, 0xFFFFFFFF, 16, 3, 1, 0, 1, 1, 0, 1, 0, 0, 0)
    pack_into("=Q", sregs, _ffi.SREGS_CR0, _CR0_PE | _CR0_MP | _CR0_PG)
    pack_into("=Q", sregs, _ffi.SREGS_CR3, _PML4)
    pack_into("=Q", sregs, _ffi.SREGS_CR4, _CR4_PAE | _CR4_OSFXSR | _CR4_OSXMMEXCPT)
    pack_into("=Q", sregs, _ffi.SREGS_EFER, _EFER_LME | _EFER_LMA)
    fcntl.ioctl(vcpu, _ffi.KVM_SET_SREGS, bytes(sregs))

    regs = [0] * 18
    regs[6], regs[16], regs[17] = _STACK, _CODE, 2  # rsp, rip, rflags with its reserved bit
    fcntl.ioctl(vcpu, _ffi.KVM_SET_REGS, _ffi.kvm_regs.pack(*regs))


def _judge(exit_reason: int, seconds: float) -> Availability:
    if exit_reason != _ffi.KVM_EXIT_HLT:
        name = _ffi.EXIT_NAMES.get(exit_reason, f"exit {exit_reason}")
        return Availability.unusable(
            f"/dev/kvm opens, but plain guest code ends in {name}",
            _INCOMPLETE,
        )
    if seconds > _SLOWEST_LOOP:
        took = f"{_LOOPS} turns of a loop took {seconds * 1000:.0f} ms"
        return Availability.unusable(
            f"KVM emulates guest code instead of running it ({took})",
            _INCOMPLETE,
        )
    took = f"{_LOOPS} turns of a loop took {seconds * 1e6:.0f} us"
    return Availability(usable=True, reason=f"KVM runs guest code ({took})", accelerated=True)
