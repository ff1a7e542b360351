"""The settings themselves, one frozen model for each subsystem."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.settings.directories import MOST_DIRECTORIES, DirectorySettings
from core.settings.section import Section
from core.settings.shared_keys import MOST_PPKS, MOST_SITE_PEERS, PpkSettings, SitePeerSettings, check_apart
from core.settings.trust import MOST_TRUSTED_AUTHORITIES, RevocationSettings, TrustedAuthoritySettings
from core.settings.values import (
    EVERYTHING,
    MOST_NETWORKS,
    Address,
    DnsDomains,
    DnsServers,
    HostOrAddress,
    Network,
    Port,
    Seconds,
)
from core.text import hide_url_password


class LogSettings(Section):
    """What the processes write to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class DatabaseSettings(Section):
    """Where the rows live; without a URL, `ostiary.db` (SQLite, WAL) in the state directory."""

    url: str | None = None

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise ValueError("allowed are sqlite:///PATH and postgresql://USER:PASSWORD@HOST/NAME")
        return url


class SecretSettings(Section):
    """Where the key that encrypts secrets at rest is read from; made at first start if it is missing."""

    key_file: Path | None = None


class JobSettings(Section):
    """Celery; without a broker URL, its filesystem broker in the state directory."""

    broker_url: str | None = None

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("amqp://", "amqps://")):
            raise ValueError("allowed are amqp://USER:PASSWORD@HOST/VHOST and amqps://...")
        return url

    sweep_interval_s: Seconds = 10.0


class PoolSettings(Section):
    """Virtual addresses for clients. A pool without IPv6 gives out no IPv6 address, and the reverse."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None

    @model_validator(mode="after")
    def _has_a_network(self) -> PoolSettings:
        if self.ipv4 is None and self.ipv6 is None:
            raise ValueError("a pool needs ipv4, ipv6 or both")
        return self


class GatewaySettings(Section):
    """The IKEv2 responder and its data plane."""

    name: str = Field(default="gateway-1", pattern=r"^[A-Za-z0-9.-]{1,48}$")
    identity: str = Field(default="gateway.ostiary.internal", pattern=r"^[A-Za-z0-9.-]{1,253}$")
    """The FQDN that clients type and that the certificate carries."""
    public_addresses: tuple[Address, ...] = ()
    """Addresses put beside the identity in the gateway's certificate, for clients configured by address."""
    listen: tuple[Address, ...] = (IPv4Address("0.0.0.0"), IPv6Address("::"))  # noqa: S104
    ike_port: Port = 500
    natt_port: Port = 4500
    proposal_policy: Literal["modern", "compatible", "cnsa2"] = "modern"
    """Which algorithms clients may use; `gateway.ike.policy` has them."""
    data_plane: Literal["auto", "kernel", "userspace"] = "auto"
    xfrm_interface: Literal["auto", "on", "off"] = "auto"
    """Whether the kernel's ESP works through an XFRM interface, or by policies alone."""
    xfrm_id: int = Field(default=111, ge=1, le=255)
    """First octet of every reqid and of the if_id: what marks the kernel's states and policies as this gateway's."""
    link_name: str = Field(default="ostiary0", pattern=r"^[A-Za-z0-9_.-]{1,15}$")
    tunnel_mtu_bytes: int = Field(default=1400, ge=1280, le=9000)
    pools: tuple[PoolSettings, ...] = (
        PoolSettings(name="staff", ipv4=IPv4Network("10.99.0.0/20"), ipv6=IPv6Network("fd99:05e1:a57e::/112")),
    )
    networks: tuple[Network, ...] = Field(EVERYTHING, max_length=MOST_NETWORKS)
    """What a client may reach through the tunnel unless a rule says otherwise."""
    dns: DnsServers = ()
    dns_domains: DnsDomains = ()
    """What the DNS servers are asked for, by clients that can tell (RFC 8598); empty for everything."""
    sessions_per_device: int = Field(default=4, ge=1, le=100_000)
    """Beyond it the oldest one ends: a device has two while it changes networks, and none needs a pool of them."""
    dpd_interval_s: Seconds = 30.0
    """Silence after which the gateway asks whether the peer is alive (RFC 7296 section 2.4)."""
    retransmit_timeouts_s: Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=16)] = (
        2.0,
        3.0,
        5.0,
        8.0,
        12.0,
    )
    """Waits before each retransmission of a request of ours; after the last one the peer is dead."""
    half_open_timeout_s: Seconds = 30.0
    slow_handshake_s: Seconds = 5.0
    """A handshake that took longer is explained like one that failed."""
    handshake_reports_kept: int = Field(default=2000, ge=10, le=1_000_000)
    """Explanations of failed and slow handshakes: of peers that had proved their address, and as many of others."""
    handshake_reports_days: int = Field(default=30, ge=1, le=3650)
    half_open_limit: int = Field(default=2000, ge=1, le=100_000)
    half_open_limit_per_address: int = Field(default=50, ge=1, le=100_000)
    cookie_threshold: int = Field(default=100, ge=0, le=100_000)
    """Half-open SAs above which an IKE_SA_INIT must bring a cookie (RFC 7296 section 2.6)."""
    cookie_threshold_per_address: int = Field(default=10, ge=0, le=100_000)
    """Likewise, of one IPv4 address or IPv6 /64."""
    init_rate_per_address: Seconds = 50.0
    """Handshakes a second that one address begins without a cookie, and as many with one; four times that at once."""
    fragment_size_bytes: int = Field(default=1280, ge=576, le=9000)
    """Largest IP datagram that carries an IKE fragment (RFC 7383)."""
    keepalive_interval_s: Seconds = 20.0
    mobike_patience_s: Seconds = 300.0
    """How long a client that can change its address has to answer: it may be on its way (RFC 4555 section 3.11)."""
    window_size: int = Field(default=1, ge=1, le=16)
    """Requests that a client may have outstanding at a time (RFC 7296 section 2.3)."""
    ticket_lifetime_s: float = Field(default=4 * 3600.0, ge=0, le=12 * 3600.0)
    """For how long a client may come back by a ticket instead of a new sign-in (RFC 5723); 0: never."""
    redirect_targets: tuple[HostOrAddress, ...] = Field((), max_length=16)
    """Other gateways, by address or name, to which clients can be sent (RFC 5685)."""
    redirect_in: Literal["ike-sa-init", "ike-auth"] = "ike-sa-init"
    """Whether they are sent away in their first exchange, or after they have proved who they are."""
    session_limit: int | None = Field(default=None, ge=1)
    """Sessions from which on clients are sent away that let themselves be sent. None: no limit."""
    drained_per_s: Seconds = 10.0
    """Connected clients that are sent away in a second, while the gateway drains."""
    ike_rekey_s: Seconds = 14 * 3600.0
    """After which the gateway rekeys an IKE SA. Clients prefer to do it themselves, after 2 to 8 hours."""
    child_rekey_s: Seconds = 3 * 3600.0
    """After which the gateway rekeys a child SA. Clients do it after half an hour to 2 hours."""
    replay_window_packets: int = Field(default=1024, ge=64, le=4096)
    eap_only: bool = False
    """Show no certificate in IKE to clients that take EAP-TLS alone as the gateway's proof (RFC 5998)."""
    rsa_pss: bool = False
    """Sign with RSASSA-PSS for clients of RFC 7427 that do not say what they can; Android's own can't verify it."""
    site_peers: tuple[SitePeerSettings, ...] = Field((), max_length=MOST_SITE_PEERS)
    ppks: tuple[PpkSettings, ...] = Field((), max_length=MOST_PPKS)
    ppk_required: bool = False
    """Nobody enters without one of `ppks`."""
    aaa: Literal["in-process"] = "in-process"
    control_address: Address = IPv4Address("127.0.0.1")
    control_port: Port = 3799
    """Where RADIUS dynamic authorization (RFC 5176) is received."""

    @field_validator("pools")
    @classmethod
    def _pool_names_are_unique(cls, pools: tuple[PoolSettings, ...]) -> tuple[PoolSettings, ...]:
        names = [pool.name for pool in pools]
        if len(set(names)) != len(names):
            raise ValueError("each pool needs a name of its own")
        return pools

    @field_validator("site_peers")
    @classmethod
    def _sites_are_apart(cls, sites: tuple[SitePeerSettings, ...]) -> tuple[SitePeerSettings, ...]:
        for what, values in (
            ("a name", [s.name for s in sites]),
            ("an identity", [s.identity.lower() for s in sites]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"each site peer needs {what} of its own")
        return sites

    @field_validator("ppks")
    @classmethod
    def _ppk_names_are_unique(cls, ppks: tuple[PpkSettings, ...]) -> tuple[PpkSettings, ...]:
        if len({ppk.name for ppk in ppks}) != len(ppks):
            raise ValueError("each post-quantum pre-shared key needs a name of its own")
        return ppks

    @model_validator(mode="after")
    def _shared_keys_fit(self) -> GatewaySettings:
        if self.ppk_required and not self.ppks:
            raise ValueError("ppk_required lets nobody in while ppks is empty")
        owners: dict[str, Sequence[Network]] = {f"site {site.name}": site.networks for site in self.site_peers}
        pools = {f"pool {pool.name}": [n for n in (pool.ipv4, pool.ipv6) if n is not None] for pool in self.pools}
        if owners:
            check_apart({**owners, **pools})
        return self

    @model_validator(mode="after")
    def _domains_have_servers(self) -> GatewaySettings:
        if self.dns_domains and not self.dns:
            raise ValueError("dns_domains are names that the servers in dns are asked for, and dns is empty")
        return self


SignInMethod = Literal[
    "eap-mschapv2",
    "eap-tls",
    "eap-ttls",
    "eap-peap",
    "certificate",
    "certificate+eap-mschapv2",
    "certificate+eap-tls",
    "certificate+eap-ttls",
    "certificate+eap-peap",
    "psk",
]


class RuleSettings(Section):
    """One access rule; the first whose conditions all hold decides. An empty condition holds for all, but for that of
    `device_states`.
    """

    name: str = Field(min_length=1, max_length=64)
    effect: Literal["allow", "deny"] = "allow"
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    methods: tuple[SignInMethod, ...] = ()
    """`certificate+...` is both in one sign-in, the device's and then its user's; `psk` is for site peers, which no
    other rule lets in.
    """
    device_states: tuple[Literal["trusted", "quarantined", "unmanaged"], ...] = ()
    """Empty means trusted where the rule allows: what others are to have has to name them. A rule that denies holds
    for all then. `unmanaged` is not in the inventory at all.
    """
    device_users: Literal["owner", "anyone"] = "owner"
    """Who may sign in on a device whose certificate comes before its user's proof."""
    gateways: tuple[str, ...] = ()
    pool: str | None = None
    tunnel: Literal["full", "split"] | None = None
    """`full` reaches everything and takes no `networks`; `split` has to leave something out; without it, the
    networks say.
    """
    networks: tuple[Network, ...] = Field((), max_length=MOST_NETWORKS)
    """Subnets that the tunnel reaches; empty means the gateway's own list."""
    dns: DnsServers = ()
    """Empty means the gateway's own servers and domains."""
    dns_domains: DnsDomains = ()
    devices_at_once: int | None = Field(default=None, ge=1, le=100_000)
    """Instead of `aaa.devices_at_once`."""
    session_lifetime_s: Seconds = 12 * 3600.0
    reason: str = ""
    """Why the rule denies, for the audit log."""

    @model_validator(mode="after")
    def _a_full_tunnel_has_no_networks(self) -> RuleSettings:
        if self.tunnel == "full" and self.networks:
            raise ValueError('tunnel = "full" reaches everything: leave networks out, or say tunnel = "split"')
        return self

    @model_validator(mode="after")
    def _a_quarantine_says_what_it_reaches(self) -> RuleSettings:
        lets_in = self.effect == "allow" and "quarantined" in self.device_states
        if lets_in and not self.networks and self.tunnel != "full":
            # What is left out means the gateway's own list, which is the last thing to be meant here.
            raise ValueError('a rule for quarantined devices needs networks (tunnel = "full" means everything)')
        return self


class AaaSettings(Section):
    """Who may sign in, how, and to what."""

    eap_methods: tuple[Literal["mschapv2", "tls", "ttls", "peap"], ...] = ("mschapv2", "tls")
    """Offered in this order; a client that wants another one says so with a Nak (RFC 3748 section 5.3)."""
    eap_inner_methods: tuple[Literal["mschapv2", "gtc", "pap"], ...] = ("mschapv2", "gtc", "pap")
    """Inside the tunnels of `ttls` and `peap`. EAP-GTC makes no key, so it is good for nothing outside of one."""
    peap_cryptobinding: Literal["required", "optional"] = "required"
    """Whether a client has to prove that it is at both ends of the tunnel of `peap`."""
    access_code_lifetime_s: Seconds = 8 * 3600.0
    interim_interval_s: Seconds = 60.0
    sign_in_failures_per_minute: int = Field(default=10, ge=1, le=10_000)
    """Failures from one address, or ten times as many for one identity, that close the door for a minute."""
    devices_at_once: int | None = Field(default=None, ge=1, le=100_000)
    """Of one user, over all gateways; beyond it the one that connected first is disconnected. None: no limit."""
    directories: tuple[DirectorySettings, ...] = Field((), max_length=MOST_DIRECTORIES)
    rules: tuple[RuleSettings, ...] = (RuleSettings(name="trusted-devices"),)

    @field_validator("directories")
    @classmethod
    def _directory_names_are_unique(cls, directories: tuple[DirectorySettings, ...]) -> tuple[DirectorySettings, ...]:
        names = [directory.name for directory in directories]
        if len(set(names)) != len(names):
            raise ValueError("each directory needs a name of its own")
        return directories


class PkiSettings(Section):
    """The certificate authority, and others that are trusted beside it."""

    organization: str = Field(default="Ostiary", min_length=1, max_length=64)
    key_type: Literal["ecdsa-p256", "rsa-3072"] = "ecdsa-p256"
    """Of the root and the issuing CA."""
    gateway_key_type: Literal["ecdsa-p256", "rsa-3072", "ed25519"] = "rsa-3072"
    """RSA is the one type that every stock client accepts. EAP-TLS uses this one."""
    gateway_extra_key_types: tuple[Literal["ecdsa-p256", "rsa-3072", "ed25519"], ...] = ()
    """A certificate more of each, for clients that say they can verify it."""
    root_lifetime_days: int = Field(default=3650, ge=30, le=7300)
    issuing_lifetime_days: int = Field(default=1825, ge=30, le=3650)
    server_lifetime_days: int = Field(default=90, ge=1, le=397)
    device_lifetime_hours: int = Field(default=24, ge=1, le=24 * 397)
    revocation: RevocationSettings = RevocationSettings()
    trusted_authorities: tuple[TrustedAuthoritySettings, ...] = Field((), max_length=MOST_TRUSTED_AUTHORITIES)

    @field_validator("trusted_authorities")
    @classmethod
    def _authority_names_are_unique(
        cls, authorities: tuple[TrustedAuthoritySettings, ...]
    ) -> tuple[TrustedAuthoritySettings, ...]:
        names = [authority.name for authority in authorities]
        if len(set(names)) != len(names):
            raise ValueError("each trusted authority needs a name of its own")
        return authorities


class WebSettings(Section):
    """Portal and security console."""

    host: Address = IPv4Address("0.0.0.0")  # noqa: S104
    port: Port = 8443
    public_host: str = Field(default="localhost", pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    """The name in the portal's URL and certificate."""
    threads: int = Field(default=32, ge=1, le=256)
    session_idle_s: Seconds = 1800.0
    session_lifetime_s: Seconds = 12 * 3600.0
    first_run_link_lifetime_s: Seconds = 24 * 3600.0


class Settings(BaseSettings):
    """All of Ostiary's settings."""

    model_config = SettingsConfigDict(
        env_prefix="OSTIARY_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    state_dir: Path = Path("/var/lib/ostiary")
    log: LogSettings = LogSettings()
    database: DatabaseSettings = DatabaseSettings()
    secrets: SecretSettings = SecretSettings()
    jobs: JobSettings = JobSettings()
    gateway: GatewaySettings = GatewaySettings()
    aaa: AaaSettings = AaaSettings()
    pki: PkiSettings = PkiSettings()
    web: WebSettings = WebSettings()

    @model_validator(mode="after")
    def _rules_name_existing_pools(self) -> Settings:
        pools = {pool.name for pool in self.gateway.pools}
        for rule in self.aaa.rules:
            if rule.pool is not None and rule.pool not in pools:
                known = ", ".join(sorted(pools))
                raise ValueError(f"rule {rule.name!r} names pool {rule.pool!r}; the pools are: {known}")
        return self

    @model_validator(mode="after")
    def _tunnels_have_something_inside(self) -> Settings:
        aaa = self.aaa
        if "ttls" in aaa.eap_methods and not aaa.eap_inner_methods:
            raise ValueError('aaa.eap_methods has "ttls", which needs one of aaa.eap_inner_methods')
        if "peap" in aaa.eap_methods and not {"mschapv2", "gtc"}.intersection(aaa.eap_inner_methods):
            raise ValueError('aaa.eap_methods has "peap", which needs "mschapv2" or "gtc" in aaa.eap_inner_methods')
        return self

    @model_validator(mode="after")
    def _eap_alone_proves_both_sides(self) -> Settings:
        if self.gateway.eap_only and set(self.aaa.eap_methods) != {"tls"}:
            raise ValueError(
                'gateway.eap_only needs aaa.eap_methods = ["tls"]: a password proves the gateway to nobody, '
                "and clients announce EAP alone before they choose a method"
            )
        return self

    @model_validator(mode="after")
    def _rules_fit_the_gateway(self) -> Settings:
        for rule in self.aaa.rules:
            networks = rule.networks or self.gateway.networks
            everything = next((network for network in networks if network.prefixlen == 0), None)
            if rule.tunnel == "split" and everything is not None:
                whose = "its" if rule.networks else "the gateway's"
                raise ValueError(f'rule {rule.name!r} has tunnel = "split", but {whose} networks have {everything}')
            if rule.dns_domains and not (rule.dns or self.gateway.dns):
                raise ValueError(f"rule {rule.name!r} has dns_domains, but neither it nor the gateway has dns")
        return self

    @property
    def database_url(self) -> str:
        """The database URL, SQLite in the state directory where none is set."""
        return self.database.url or f"sqlite:///{self.state_dir / 'ostiary.db'}"

    @property
    def shown_database_url(self) -> str:
        """The database URL without its password, for messages."""
        return hide_url_password(self.database_url)

    @property
    def secret_key_path(self) -> Path:
        """The file that holds the keys for secrets at rest."""
        return self.secrets.key_file or self.state_dir / "secret.key"
