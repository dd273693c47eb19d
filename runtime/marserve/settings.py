"""The table of the settings that this version uses. Pure data.

`config.py` reads files by it; `settings_documents.py` prints the example file and the reference
page from it. What becomes of other keys of TorchServe stands in `foreign_settings.py`.
"""

from __future__ import annotations

from marserve import settings_models, settings_overload, settings_ports, settings_server
from marserve.setting import Setting

GROUPS: dict[str, tuple[Setting, ...]] = {
    "Addresses": settings_ports.ADDRESSES,
    "gRPC": settings_ports.GRPC,
    "TLS": settings_ports.TLS,
    "Who may do what": settings_ports.TOKENS,
    "CORS": settings_ports.CORS,
    "Models": settings_models.MODEL_SETTINGS,
    "Workers and batches": settings_models.WORKERS,
    "Sandbox": settings_models.SANDBOX,
    "Overload": settings_overload.OVERLOAD,
    "Stateful models": settings_models.SEQUENCES,
    "Limits": settings_server.LIMITS,
    "Files": settings_server.FILES,
    "Metrics": settings_server.METRICS,
    "Protocols": settings_server.PROTOCOLS,
    "Environment": settings_server.ENVIRONMENT,
}

SETTINGS: dict[str, Setting] = {
    setting.key: setting for group in GROUPS.values() for setting in group
}
