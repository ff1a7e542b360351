"""Windows 10 and 11: the connection by PowerShell, since only that can give it algorithms that are not old.

By itself Windows offers MODP-1024 alone, which no proposal policy of the gateway accepts. The one suite set here is
accepted by all of them but `cnsa2`. No PFS group: Windows answers a rekeying by the gateway with an error where there
is a key exchange in it, and the IKE SA that the keys come from Windows itself rekeys after some hours.
"""

from __future__ import annotations

from aaa.enrolment.target import CONNECTION, Target

ROOT_FILE = "ostiary-root.crt"
_ALL_IPV6 = "2000::/3"
"""What Windows takes for all of IPv6; it makes no default route of its own there."""


def powershell(target: Target) -> str:
    """Commands for a PowerShell of the user, `ostiary-root.crt` being trusted by the machine already."""
    lines = [
        f"Add-VpnConnection -Name {CONNECTION} -ServerAddress {target.identity} `",
        "  -TunnelType Ikev2 -AuthenticationMethod Eap -Force",
        f"Set-VpnConnectionIPsecConfiguration -ConnectionName {CONNECTION} `",
        "  -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA384 -DHGroup ECP384 `",
        "  -CipherTransformConstants GCMAES256 -AuthenticationTransformConstants GCMAES256 `",
        "  -PfsGroup None -Force",
        f"Set-VpnConnection -Name {CONNECTION} -SplitTunneling ${not target.is_full_tunnel} -Force",
    ]
    add_route = f"Add-VpnConnectionRoute -ConnectionName {CONNECTION} -DestinationPrefix"
    return "\n".join([*lines, *(f"{add_route} {prefix}" for prefix in routes(target))])


def routes(target: Target) -> list[str]:
    """What Windows has to be told by hand: it takes no route from the traffic selectors."""
    found = []
    for network in target.networks:
        if network.version == 6 and network.prefixlen == 0:
            found.append(_ALL_IPV6)
        elif not (network.version == 4 and target.is_full_tunnel):
            found.append(str(network))
    return found


def script(target: Target) -> str:
    """The same as a file, with the root certificate and what has to be known."""
    return "\n".join(
        (
            f"# Makes the VPN connection {CONNECTION} to {target.identity} for user {target.user_name}.",
            "# The root certificate needs an administrator, once for the machine:",
            f"#   Import-Certificate -FilePath {ROOT_FILE} -CertStoreLocation Cert:\\LocalMachine\\Root",
            "$ErrorActionPreference = 'Stop'",
            f"Get-VpnConnection -Name {CONNECTION} -ErrorAction SilentlyContinue | Remove-VpnConnection -Force",
            powershell(target),
            "",
        )
    )
