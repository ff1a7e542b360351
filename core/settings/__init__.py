"""The one settings model: `ostiary.toml`, overridden by the environment, checked at start.

An environment variable overrides a key by its path: `OSTIARY_GATEWAY__IKE_PORT=1500` is `gateway.ike_port`.
Unknown keys and values out of range stop the start with the file, the key and what is allowed.
"""

from core.settings.directories import DirectorySettings
from core.settings.errors import SettingsError
from core.settings.loader import load_settings
from core.settings.model import (
    AaaSettings,
    DatabaseSettings,
    GatewaySettings,
    JobSettings,
    LogSettings,
    PkiSettings,
    PoolSettings,
    SecretSettings,
    Settings,
    WebSettings,
)
from core.settings.radius import RadiusClientSettings, RadiusSettings, UpstreamServerSettings, UpstreamSettings
from core.settings.rules import RuleSettings
from core.settings.shared_keys import PpkSettings, SitePeerSettings
from core.settings.trust import RevocationSettings, TrustedAuthoritySettings

__all__ = [
    "AaaSettings",
    "DatabaseSettings",
    "DirectorySettings",
    "GatewaySettings",
    "JobSettings",
    "LogSettings",
    "PkiSettings",
    "PoolSettings",
    "PpkSettings",
    "RadiusClientSettings",
    "RadiusSettings",
    "RevocationSettings",
    "RuleSettings",
    "SecretSettings",
    "Settings",
    "SettingsError",
    "SitePeerSettings",
    "TrustedAuthoritySettings",
    "UpstreamServerSettings",
    "UpstreamSettings",
    "WebSettings",
    "load_settings",
]
