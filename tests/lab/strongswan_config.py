"""What a strongSwan peer of the lab is told, written as `strongswan.conf` and `swanctl.conf`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography import x509

from tests.lab.certificates import Identity, certificate_pem, key_pem

_PLUGINS = (
    "random nonce openssl sha1 kdf pem pkcs1 pkcs8 x509 pubkey revocation constraints "
    "eap-identity eap-mschapv2 eap-tls eap-ttls eap-gtc"
)
"""Few, for a quick start."""
_ESP_PLUGINS = {"userspace": "kernel-libipsec kernel-netlink", "kernel": "kernel-netlink"}
"""Of two that can do ESP, the first one does it."""
_NETWORK_PLUGINS = "socket-default vici updown resolve"

CONNECTION = "gateway"
CHILD = "net"

Section = Mapping[str, "str | Section"]
EspPlace = Literal["userspace", "kernel"]
"""Who does a peer's ESP: charon itself over a TUN device, as a machine that runs these tests need not have it in its
kernel, or the kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A remote-access client.

    `identity` is IDi; with EAP `eap_identity` is what the EAP server is told, the same where it is not given.
    """

    remote_address: str
    remote_identity: str
    trust_pem: str
    """The certificates that the gateway's must lead to."""
    method: Literal["eap-mschapv2", "eap-tls", "eap-ttls", "pubkey", "psk"]
    identity: str
    then: Literal["eap-mschapv2", "eap-tls"] | None = None
    """A second authentication after the first one (RFC 4739)."""
    gateway_method: Literal["pubkey", "eap-tls", "psk"] = "pubkey"
    """How the gateway has to prove itself; by EAP, it may leave its certificate out of IKE (RFC 5998)."""
    pre_shared_key: str | None = None
    ppk: tuple[str, str] | None = None
    """Name and secret of a post-quantum pre-shared key (RFC 8784)."""
    ppk_required: bool = False
    eap_identity: str | None = None
    password: str | None = None
    credential: Identity | None = None
    known_authorities: tuple[x509.Certificate, ...] = ()
    """Beside those in `trust_pem`: the way from its own certificate up, which it sends as far as the root."""
    authentication: str | None = None
    """`auth` of swanctl.conf where `method` is not enough (`rsa-sha384`, `ecdsa`, `rsa/pss`)."""
    proposals: str = "aes256gcm16-prfsha256-x25519"
    esp_proposals: str = "aes256gcm16"
    virtual_addresses: str = "0.0.0.0,::"
    remote_selectors: str = "0.0.0.0/0,::/0"
    fragmentation: Literal["yes", "accept", "force", "no"] = "yes"
    fragment_size_bytes: int = 1280
    dpd_delay_s: int = 0
    """0 is never."""
    tls_version: Literal["1.2", "1.3"] = "1.2"
    """Inside EAP. With TLS 1.3, strongSwan 5.9.8 understands itself only: it is older than RFC 9190, ends with a
    segmentation fault where the server sends the protected success indication, and derives another MSK."""
    signature_authentication: bool = True
    """Offer RFC 7427; without it the classic methods are used."""
    esp: EspPlace = "userspace"
    connection_options: Section = field(default_factory=dict)
    """More of the connection in swanctl.conf, or other values (`rekey_time`, `mobike`, `ppk_id`, ...)."""
    child_options: Section = field(default_factory=dict)
    """The same of its child."""
    charon_options: Section = field(default_factory=dict)
    """The same of the daemon in strongswan.conf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """A strongSwan gateway: the yardstick of the benchmarks, and what the lab itself is checked with."""

    identity: str
    credential: Identity
    method: Literal["eap-mschapv2", "eap-tls", "pubkey"] = "eap-mschapv2"
    users: Mapping[str, str] = field(default_factory=dict)
    """Name to password."""
    client_trust_pem: str = ""
    """What client certificates must lead to."""
    pool_ipv4: str = "10.99.0.0/16"
    pool_ipv6: str = "fd99::/112"
    local_selectors: str = "10.1.0.0/24,fd01::/64"
    proposals: str = "aes256gcm16-prfsha256-x25519"
    esp_proposals: str = "aes256gcm16"
    log_level: int = 1
    esp: EspPlace = "userspace"


def strongswan_conf(directory: Path, *, config: ClientConfig | GatewayConfig) -> str:
    """The daemon's own settings; sockets and logs in `directory`."""
    client = config if isinstance(config, ClientConfig) else None
    log_level = config.log_level if isinstance(config, GatewayConfig) else 1
    charon: dict[str, str | Section] = {
        "load": f"{_PLUGINS} {_ESP_PLUGINS[config.esp]} {_NETWORK_PLUGINS}",
        "install_virtual_ip": "yes",
        "install_routes": "yes",
        # A dead gateway is noticed in some six seconds instead of three minutes.
        "retransmit_timeout": "1.0",
        "retransmit_tries": "3",
        "retransmit_base": "1.2",
        "half_open_timeout": "15",
        "filelog": {
            "log": {
                "path": str(directory / "charon.log"),
                "flush_line": "yes",
                # Seconds since 1970, so that a log line can be compared with what another process did.
                "time_format": "%s",
                "time_add_ms": "yes",
                "default": str(log_level),
            }
        },
        "plugins": {
            "vici": {"socket": vici_uri(directory)},
            "resolve": {"file": str(directory / "resolv.conf")},
            # The virtual address and the gateway's may lie in the same selector (0.0.0.0/0).
            "kernel-libipsec": {"allow_peer_ts": "yes"},
        },
    }
    if client:
        charon["fragment_size"] = str(client.fragment_size_bytes)
        charon["signature_authentication"] = "yes" if client.signature_authentication else "no"
        charon["tls"] = {"version_min": client.tls_version, "version_max": client.tls_version}
        charon |= client.charon_options
    else:
        # Half-open SAs by the hundred from one address are the benchmark's purpose.
        charon |= {"dos_protection": "no", "cookie_threshold": "0", "block_threshold": "0"}
        charon["tls"] = {"version_min": "1.2", "version_max": "1.3"}
    return _write(
        {"charon": charon, "swanctl": {"load": "pem pkcs1 pkcs8 x509 revocation constraints openssl random"}}
    )


def client_conf(directory: Path, config: ClientConfig) -> str:
    """`swanctl.conf` of a client; writes the certificates that it names."""
    local: dict[str, str | Section] = {
        "id": _quoted(config.identity),
        "auth": config.authentication or config.method,
    }
    secrets: dict[str, str | Section] = {}
    second: dict[str, str | Section] = {"auth": config.then, "id": local["id"]} if config.then else {}
    eap = second if config.then else local if config.method.startswith("eap-") else {}
    if eap:
        eap["eap_id"] = _quoted(config.eap_identity or config.identity)
    if config.credential is not None:
        local["certs"] = _write_credential(directory, "client", config.credential)
    if config.password is not None:
        secrets["eap-client"] = {"id": str(eap["eap_id"]), "secret": _quoted(config.password)}
    if config.pre_shared_key is not None:
        both = {"id-1": local["id"], "id-2": config.remote_identity}
        secrets["ike-site"] = {**both, "secret": _quoted(config.pre_shared_key)}
    ppk: dict[str, str | Section] = {}
    if config.ppk is not None:
        name, secret = config.ppk
        ppk = {"ppk_id": _quoted(name), "ppk_required": "yes" if config.ppk_required else "no"}
        secrets["ppk-client"] = {"id": _quoted(name), "secret": _quoted(secret)}
    remote: dict[str, str | Section] = {"auth": config.gateway_method, "id": config.remote_identity}
    if config.gateway_method == "pubkey":
        (directory / "trust.pem").write_text(config.trust_pem, encoding="utf-8")
        remote["cacerts"] = str(directory / "trust.pem")
    elif config.gateway_method == "eap-tls":
        # What is trusted inside EAP can't be said for one connection.
        (directory / "x509ca").mkdir(exist_ok=True)
        (directory / "x509ca" / "trust.pem").write_text(config.trust_pem, encoding="utf-8")
    for number, authority in enumerate(config.known_authorities):
        (directory / "x509ca").mkdir(exist_ok=True)
        (directory / "x509ca" / f"{number}.pem").write_text(certificate_pem(authority), encoding="utf-8")
    connection: Section = {
        "version": "2",
        "remote_addrs": config.remote_address,
        "proposals": config.proposals,
        **({"vips": config.virtual_addresses} if config.virtual_addresses else {}),
        "fragmentation": config.fragmentation,
        "dpd_delay": f"{config.dpd_delay_s}s",
        "rekey_time": "0s",
        "local": local,
        **({"local-2": second} if second else {}),
        "remote": remote,
        **ppk,
        "children": {
            CHILD: {
                "remote_ts": config.remote_selectors,
                "esp_proposals": config.esp_proposals,
                "rekey_time": "0s",
                "dpd_action": "clear",
                **config.child_options,
            }
        },
        **config.connection_options,
    }
    return _write({"connections": {CONNECTION: connection}, "secrets": secrets})


def gateway_conf(directory: Path, config: GatewayConfig) -> str:
    """`swanctl.conf` of a gateway; writes the certificate that it names."""
    remote: dict[str, str | Section] = {"auth": config.method}
    if config.method != "pubkey":
        remote["eap_id"] = "%any"
    if config.client_trust_pem:
        (directory / "x509ca").mkdir(exist_ok=True)
        (directory / "x509ca" / "clients.pem").write_text(config.client_trust_pem, encoding="utf-8")
    connection: Section = {
        "version": "2",
        "proposals": config.proposals,
        "pools": "staff4,staff6",
        "send_cert": "always",
        "unique": "never",
        "rekey_time": "0s",
        "local": {
            "id": config.identity,
            "auth": "pubkey",
            "certs": _write_credential(directory, "gateway", config.credential),
        },
        "remote": remote,
        "children": {
            CHILD: {
                "local_ts": config.local_selectors,
                "esp_proposals": config.esp_proposals,
                "rekey_time": "0s",
            }
        },
    }
    return _write(
        {
            "connections": {CONNECTION: connection},
            "pools": {"staff4": {"addrs": config.pool_ipv4}, "staff6": {"addrs": config.pool_ipv6}},
            "secrets": {
                f"eap-{number}": {"id": name, "secret": _quoted(password)}
                for number, (name, password) in enumerate(config.users.items())
            },
        }
    )


def vici_uri(directory: Path) -> str:
    """Where the daemon listens for `swanctl`."""
    return f"unix://{directory / 'charon.vici'}"


def _write_credential(directory: Path, name: str, identity: Identity) -> str:
    """Write key and certificates where `swanctl --load-creds` looks; the path of the certificate."""
    for folder in ("private", "x509"):
        (directory / folder).mkdir(exist_ok=True)
    (directory / "private" / f"{name}.pem").write_text(key_pem(identity.key), encoding="utf-8")
    path = directory / "x509" / f"{name}.pem"
    path.write_text(certificate_pem(identity.certificate), encoding="utf-8")
    for number, intermediate in enumerate(identity.intermediates):
        (directory / "x509" / f"{name}-{number}.pem").write_text(certificate_pem(intermediate), encoding="utf-8")
    return str(path)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(section: Section, indent: int = 0) -> str:
    """The syntax that both files share; each brace on a line of its own, since two on one are misread."""
    lines = []
    for key, value in section.items():
        if isinstance(value, str):
            lines.append(f"{'  ' * indent}{key} = {value}\n")
        else:
            lines.append(f"{'  ' * indent}{key} {{\n{_write(value, indent + 1)}{'  ' * indent}}}\n")
    return "".join(lines)
