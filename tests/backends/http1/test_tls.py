"""Certificates are checked, by the name in the URL."""

import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from antiphon.backends.http1 import client as module
from antiphon.backends.http1.client import Client
from antiphon.backends.http1.connection import HttpError
from tests.backends.http1.peer import OK, Peer, answer_all, serving, whole


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For "localhost", with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@pytest.fixture
def _trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As an operator would have it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    module._trust.cache_clear()
    yield
    module._trust.cache_clear()


@pytest.mark.usefixtures("_trusted")
async def test_https(client: Client, server_side: ssl.SSLContext) -> None:
    spoken = []

    async def talk(peer: Peer) -> None:
        tls = peer.writer.get_extra_info("ssl_object")
        spoken.append(tls.selected_alpn_protocol())
        await answer_all(peer)

    async with serving(talk, server_side) as server:
        url = f"https://localhost:{server.port}/"
        for size in (2, 3_000_000):
            assert await whole(await client.request("POST", url, bytes(size))) == b"ok"
        assert spoken == ["http/1.1"]
        await client.aclose()
        await server.is_left()


@pytest.mark.usefixtures("_trusted")
async def test_another_name_is_refused(client: Client, server_side: ssl.SSLContext) -> None:
    async with serving(answer_all, server_side) as server:
        with pytest.raises(HttpError, match="certificate"):
            await client.request("POST", f"https://127.0.0.1:{server.port}/")
    assert server.heads == []


async def test_an_unknown_signer_is_refused(client: Client, server_side: ssl.SSLContext) -> None:
    async with serving(answer_all, server_side) as server:
        with pytest.raises(HttpError, match="certificate"):
            await client.request("POST", f"https://localhost:{server.port}/")
    assert server.heads == []


@pytest.mark.usefixtures("_trusted")
async def test_large_answers_and_slow_readers(client: Client, server_side: ssl.SSLContext) -> None:
    size = 20_000_000

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        await peer.say(bytes(size))
        await peer.request()
        await peer.say(OK)

    async with serving(talk, server_side) as server:
        url = f"https://localhost:{server.port}/"
        answer = await client.request("POST", url)
        assert len(await whole(answer)) == size
        assert await whole(await client.request("POST", url)) == b"ok"
    assert server.connections == 1
