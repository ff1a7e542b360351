"""The command tree `ostiary`: a small root here, the commands in the part that they belong to.

Other parts add theirs through the entry-point group `ostiary.commands` and take from here `open_runtime`,
`current_settings`, `emit`, `json_option` and `CLI_ACTOR`.
"""

from core.cli.output import emit, json_option
from core.cli.tree import cli_actor, current_settings, main, open_runtime, root

__all__ = ["cli_actor", "current_settings", "emit", "json_option", "main", "open_runtime", "root"]
