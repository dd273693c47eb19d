"""The settings of the ports: where they listen, how they are protected, what they answer. Data."""

from __future__ import annotations

from marserve.addresses import HOST, address
from marserve.config_values import (
    BOOLEAN,
    HEADER_VALUE,
    HOSTS,
    OPTIONAL_FILE,
    PATTERNS,
    PLAIN,
    POSITIVE_NUMBER,
    SWITCHED_OFF,
    TEXT,
    choice,
    optional_whole_number,
    whole_number,
)
from marserve.setting import Setting

_PORT = whole_number(0, 65535)
_AGE = optional_whole_number(1, 2**53)

ADDRESSES = (
    Setting(
        "inference_address",
        address(80, 443),
        "http://127.0.0.1:8080",
        "Where predictions are asked for. The default is reached from this machine only; "
        "http://0.0.0.0:8080 opens it to others. https://… speaks TLS, unix:/run/marserve.sock "
        "listens on a socket in the file system. Port 0 takes a free one.",
        "inference",
    ),
    Setting(
        "management_address",
        address(8081, 8444),
        "http://127.0.0.1:8081",
        "Where models are registered, scaled and removed. Whoever may use this port can load "
        "code, so beyond this machine it asks for a token. The same address as inference_address "
        "serves both on one port.",
        "management",
    ),
    Setting(
        "metrics_address",
        address(8082, 8445),
        "http://127.0.0.1:8082",
        "Where Prometheus scrapes /metrics.",
        "metrics",
    ),
    Setting(
        "enable_metrics_api",
        BOOLEAN,
        "true",
        "false leaves the metrics port closed.",
        "enable_metrics_api",
    ),
)

GRPC = (
    Setting(
        "enable_grpc_api",
        BOOLEAN,
        "true",
        "false leaves the gRPC ports closed.",
        "enable_grpc_api",
    ),
    Setting(
        "grpc_inference_address",
        HOST,
        "127.0.0.1",
        "The interface of the gRPC inference port.",
        "grpc_inference_host",
    ),
    Setting(
        "grpc_inference_port",
        _PORT,
        "7070",
        "The gRPC inference port. Port 0 takes a free one.",
        "grpc_inference_port",
    ),
    Setting(
        "grpc_management_address",
        HOST,
        "127.0.0.1",
        "The interface of the gRPC management port.",
        "grpc_management_host",
    ),
    Setting(
        "grpc_management_port",
        _PORT,
        "7071",
        "The gRPC management port. Port 0 takes a free one.",
        "grpc_management_port",
    ),
    Setting(
        "grpc_inference_max_connection_age_ms",
        _AGE,
        "",
        "A gRPC connection to the inference port is asked to reconnect after so long, so that "
        "load balancers can spread clients anew.",
        "grpc_inference_max_connection_age_ms",
        unit="ms",
        example="3600000",
        default_note="never",
    ),
    Setting(
        "grpc_inference_max_connection_age_grace_ms",
        _AGE,
        "",
        "How long its calls may then take to finish.",
        "grpc_inference_max_connection_age_grace_ms",
        unit="ms",
        example="60000",
        default_note="until they have finished",
    ),
    Setting(
        "grpc_management_max_connection_age_ms",
        _AGE,
        "",
        "The same for the management port.",
        "grpc_management_max_connection_age_ms",
        unit="ms",
        example="3600000",
        default_note="never",
    ),
    Setting(
        "grpc_management_max_connection_age_grace_ms",
        _AGE,
        "",
        "The same for the management port.",
        "grpc_management_max_connection_age_grace_ms",
        unit="ms",
        example="60000",
        default_note="until they have finished",
    ),
    Setting(
        "enable_grpc_ssl",
        BOOLEAN,
        "false",
        "true makes both gRPC ports speak TLS, with the certificate of the https ports.",
        "enable_grpc_ssl",
    ),
)

TLS = (
    Setting(
        "certificate_file",
        OPTIONAL_FILE,
        "",
        "The certificate, or the chain with the server's own first, as PEM. It belongs to "
        "private_key_file, and to every https address.",
        "certificate_file",
        example="/etc/marserve/server.pem",
    ),
    Setting(
        "private_key_file",
        OPTIONAL_FILE,
        "",
        "The private key of certificate_file, as PEM without a pass phrase.",
        "private_key_file",
        example="/etc/marserve/server.key",
    ),
    Setting(
        "keystore",
        OPTIONAL_FILE,
        "",
        "Certificate and private key together in a PKCS#12 file, in place of the two above.",
        "keystore",
        example="/etc/marserve/keystore.p12",
    ),
    Setting(
        "keystore_pass",
        PLAIN,
        "changeit",
        "The password of the keystore. $$NAME$$ keeps it out of this file.",
        "keystore_pass",
    ),
    Setting(
        "keystore_type",
        choice("PKCS12"),
        "PKCS12",
        "The format of the keystore. Java's own, JKS, is not read: keytool -importkeystore "
        "-deststoretype PKCS12 converts it.",
        "keystore_type",
    ),
)

TOKENS = (
    Setting(
        "disable_token_authorization",
        SWITCHED_OFF,
        "",
        "true asks nobody for a token, not even beyond this machine: say it only where something "
        "else keeps strangers away. false asks on every port but the metrics port.",
        "token_authorization",
        example="false",
        default_note="the management ports ask for a token when other machines can reach them",
    ),
    Setting(
        "token_expiration_min",
        POSITIVE_NUMBER,
        "60",
        "How long the tokens for inference and management are good; the one that renews them "
        "does not expire. A fraction is possible.",
        "token_expiration_min",
        unit="minutes",
    ),
    Setting(
        "inference_token",
        TEXT,
        "",
        "The key for inference, in place of one that is drawn at each start: 16 to 512 visible "
        "characters. It does not expire. $$NAME$$ takes it from the environment variable NAME.",
        "inference_token",
        example="at-least-sixteen-characters",
        default_note="drawn at each start, see key_file.json",
    ),
    Setting(
        "management_token",
        TEXT,
        "",
        "The key for management, likewise.",
        "management_token",
        example="sixteen-other-characters",
        default_note="drawn at each start, see key_file.json",
    ),
    Setting(
        "token_errors_as_400",
        BOOLEAN,
        "false",
        "true answers a missing or wrong token with 400, as TorchServe does, in place of 401 "
        "and 403.",
        "token_errors_as_400",
    ),
    Setting(
        "token_for_metrics",
        BOOLEAN,
        "false",
        "true asks for the management key on the metrics port, and for the description of the "
        "management API.",
        "token_for_metrics",
    ),
    Setting(
        "allowed_hosts",
        HOSTS,
        "",
        "Names by which the management port may be called while it asks for no token, separated "
        "by commas; * is any. Addresses, localhost, names of one label and names below .local, "
        ".internal and .svc are always among them. Others could be pointed here by the owner of a "
        "web page.",
        "allowed_hosts",
        example="models.example.com",
    ),
    Setting(
        "allowed_urls",
        PATTERNS,
        "",
        "From where archives may be fetched when a model is registered by URL. Entries look like "
        "URLs with .* for any text and are compared part by part: scheme, host, port, path. A "
        "host that is named without .* may have a private address. No comma can be part of one.",
        "allowed_urls",
        example="https://models.example.com/.*,https://bucket.s3.amazonaws.com/.*",
        default_note="from nowhere; archives of the model store need no URL",
    ),
    Setting(
        "max_archive_size",
        whole_number(1, 2**53),
        str(50 << 30),
        "Larger archives are not fetched.",
        "max_archive_bytes",
        unit="bytes",
    ),
    Setting(
        "download_timeout",
        whole_number(1),
        "3600",
        "How long fetching an archive may take.",
        "download_timeout_s",
        unit="s",
    ),
    Setting(
        "use_env_allowed_urls",
        BOOLEAN,
        "false",
        "true lets the environment variable TS_ALLOWED_URLS set allowed_urls; "
        "enable_envvars_config alone does not.",
        "use_env_allowed_urls",
        file_only=True,
    ),
)

CORS = (
    Setting(
        "cors_allowed_origin",
        HEADER_VALUE,
        "",
        "Sent as Access-Control-Allow-Origin, so that pages of other sites may use the ports.",
        "cors_allowed_origin",
        example="https://app.example.com",
        default_note="no CORS headers",
    ),
    Setting(
        "cors_allowed_methods",
        HEADER_VALUE,
        "",
        "Sent as Access-Control-Allow-Methods.",
        "cors_allowed_methods",
        example="GET, POST, PUT, OPTIONS",
    ),
    Setting(
        "cors_allowed_headers",
        HEADER_VALUE,
        "",
        "Sent as Access-Control-Allow-Headers.",
        "cors_allowed_headers",
        example="X-Custom-Header",
    ),
)
