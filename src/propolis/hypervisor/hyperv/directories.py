"""Directories of the host that a running machine is shown, opened with the rights of its user.

Left to itself the service opens them as the machine's own account, which may not enter a user's profile. So the request
comes with the user's token, as those of WSL do. Where that is refused, the account's rights are better than nothing.
"""

from propolis.errors import PropolisError
from propolis.hypervisor.hyperv import document
from propolis.hypervisor.hyperv.base import Platform
from propolis.hypervisor.hyperv.system import ComputeSystem
from propolis.spec import Share


async def show(system: ComputeSystem, platform: Platform, share: Share) -> None:
    """Show the machine one more directory.

    Raises:
        BackendError: the directory cannot be shared, or Hyper-V refuses.
    """
    what = f"the directory {share.path} cannot be shared"
    try:
        with platform.user_token() as token:
            await system.modify(what, document.add_share(share, as_user=True), token)
    except (PropolisError, OSError) as refused:
        try:
            await system.modify(what, document.add_share(share, as_user=False))
        except PropolisError as error:
            raise (refused if isinstance(refused, PropolisError) else error) from error
