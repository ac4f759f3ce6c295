"""What a DSN says of TLS is libpq's to keep, on each of our connections."""

import datetime
import ipaddress
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg.conninfo import make_conninfo

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool

from ...conftest import POSTGRES_15, absent
from ...parts.servers.logins import execute
from ...parts.servers.own_server import OwnServer, account, own_server

TLS = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"


def write_certificate(folder: Path, name: str) -> None:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path = folder / f"{name}.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    if user := account():
        shutil.chown(path, user)


@pytest.fixture(scope="module")
def tls_server() -> Iterator[OwnServer]:
    """A server with TLS, which the embedded one was built without, and a certificate it has not."""
    if not POSTGRES_15.exists():
        absent("15")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "PGFLOW_PG_BIN", str(POSTGRES_15))
        with own_server() as server:
            write_certificate(server.folder, "server")
            write_certificate(server.folder, "stranger")
            for name, value in {
                "ssl_cert_file": str(server.folder / "server.crt"),
                "ssl_key_file": str(server.folder / "server.key"),
                "ssl": "on",
            }.items():
                execute(server.dsn, f"alter system set {name} = '{value}'")
            server.restart("fast")
            yield server


async def test_a_server_without_tls_is_refused_where_it_is_required():
    with own_server() as plain, pytest.raises(psycopg.OperationalError, match="SSL") as refused:
        await Connection.connect(make_conninfo(plain.tcp, sslmode="require"))
    assert "server does not support SSL" in str(refused.value)


async def test_a_server_that_proves_who_it_is_is_connected_by_tls(tls_server):
    dsn = make_conninfo(
        tls_server.tcp, sslmode="verify-full", sslrootcert=str(tls_server.folder / "server.crt")
    )
    async with Pool(dsn) as pool, pool.connection() as connection:
        ((encrypted, version),) = await (await connection.execute(TLS)).fetchall()
    assert encrypted
    assert version.startswith("TLSv1.")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sslrootcert": "stranger.crt"}, "certificate verify failed"),
        ({"sslrootcert": "server.crt", "host": "localhost"}, "does not match host name"),
    ],
)
async def test_a_server_that_does_not_prove_who_it_is_is_refused(tls_server, parameters, message):
    root = {"sslrootcert": str(tls_server.folder / parameters["sslrootcert"])}
    dsn = make_conninfo(tls_server.tcp, sslmode="verify-full", **(parameters | root))
    with pytest.raises(psycopg.OperationalError, match=message):
        await Connection.connect(dsn)
