"""From what a caller asks for to a machine whose agent answers. The one place where the rooms meet; read it downwards.

It decides order and clean-up, nothing else: each step is one call into the room that knows how.
"""

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from propolis import disk, guest, image
from propolis.agent.client import AgentClient, Hello
from propolis.errors import BootFailed, MachineLost
from propolis.host import system
from propolis.host.directories import cache_directory, data_directory
from propolis.hypervisor import registry
from propolis.hypervisor.base import Backend, VMHandle
from propolis.machine.workload import main_process
from propolis.progress import Reporter
from propolis.spec import BootPlan, Disk, DiskFormat, InitConfig, MachineSpec, Process, VMConfig
from propolis.state.record import MachineRecord, ProcessIdentity
from propolis.state.store import MachineStore, this_process
