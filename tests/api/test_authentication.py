"""Authentication of a subscription's requests: what is accepted, what is stored sealed, and what is never shown."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from api.subscriptions import authentication as checks
from domain.wire.client_certificate import ClientCertificate, Validity, validity_of
from storage.subscriptions.queries import open_authentication
from tests.api.installation import RECEIVER, Shop, header, paths
from tests.receiver import Authority

MASK = "•••"
BASIC = {"type": "basic", "username": "shop", "password": "open s3same"}
BEARER = {"type": "bearer", "token": "s3cret-token"}
OAUTH2 = {
    "type": "oauth2",
    "tokenUrl": RECEIVER,
    "clientId": "shop",
    "clientSecret": "s3cret",
    "scope": "deliveries read:all",
}


def mtls(certificate: str, key: str) -> dict[str, str]:
    return {"type": "mtls", "certificate": certificate, "privateKey": key}


def self_signed(bits: int) -> tuple[str, str]:
    """A certificate of an RSA key, and the key. The numbers of a long key are made up, which saves its generation."""
    key = rsa.generate_private_key(65537, 2048 if bits > 2048 else bits)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example.com")])
    began, ends = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=90)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, began, ends)
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()
    if bits > 2048:
        p, q = (1 << bits // 2) - 1, (1 << bits // 2) - 3
        numbers = rsa.RSAPrivateNumbers(p, q, 3, 3, 3, 3, rsa.RSAPublicNumbers(65537, p * q))
        key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def stored(shop: Shop, subscription_id: str) -> dict[str, str] | None:
    """The authentication as it will be sent."""
    sealed = (await shop.row(subscription_id))["sealed_authentication"]
    return open_authentication(sealed, shop.installation.app.state.resources.sealer)


@pytest.mark.parametrize(
    ("authentication", "path"),
    [
        pytest.param({"type": "digest"}, "authentication", id="another type"),
        pytest.param({"username": "shop"}, "authentication", id="no type"),
        pytest.param("Bearer s3cret", "authentication", id="a text"),
        pytest.param({"type": "bearer"}, "authentication.token", id="a missing field"),
        pytest.param({**BEARER, "password": "s3cret"}, "authentication.password", id="a field of another type"),
        pytest.param({**BEARER, "token": "s3cret\r\nX-Other: 1"}, "authentication.token", id="a line break"),
        pytest.param({**BEARER, "token": "two words"}, "authentication.token", id="a token of two words"),
        pytest.param({**BEARER, "token": "s" * 4090}, "authentication.token", id="a token that is too long"),
        pytest.param({**BASIC, "username": "shop:1"}, "authentication.username", id="a colon in a user name"),
        pytest.param({**BASIC, "username": MASK}, "authentication.username", id="a mask in place of a name"),
        pytest.param({**BASIC, "password": "s3cret\N{EURO SIGN}"}, "authentication.password", id="no ASCII"),
        pytest.param({**OAUTH2, "scope": "two  spaces"}, "authentication.scope", id="no scope"),
        pytest.param({**OAUTH2, "tokenUrl": "https://10.0.0.1/"}, "authentication.tokenUrl", id="a private token URL"),
        pytest.param({**OAUTH2, "tokenUrl": "s3cret"}, "authentication.tokenUrl", id="a token URL that is none"),
        pytest.param({**BASIC, "password": MASK}, "authentication.password", id="a mask without a stored value"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_not_repeated(shop: Shop, authentication: Any, path: str) -> None:
    response = await shop.create(authentication=authentication)
    assert paths(response) == [path]
    assert "s3cret" not in response.text


@pytest.mark.parametrize("given", [BASIC, BEARER, OAUTH2], ids=lambda given: given["type"])
async def test_secrets_are_read_back_masked_and_stored_sealed(shop: Shop, given: dict[str, str]) -> None:
    subscription_id = await shop.created(authentication=given)
    masked = {name: MASK if name in ("password", "token", "clientSecret") else value for name, value in given.items()}
    assert (await shop.details(subscription_id))["authentication"] == masked
    sealed = (await shop.row(subscription_id))["sealed_authentication"]
    for secret in (value for value in given.values() if "s3" in value):
        assert secret.encode() not in sealed
        assert secret not in str(await shop.audit())
    assert await stored(shop, subscription_id) == given


async def test_an_update_changes_what_it_names_and_keeps_a_masked_secret(shop: Shop) -> None:
    subscription_id = await shop.created(authentication=BASIC)
    await shop.update(subscription_id, name="CRM")
    assert await stored(shop, subscription_id) == BASIC
    renamed = {**BASIC, "username": "till", "password": MASK}
    assert (await shop.update(subscription_id, authentication=renamed)).status_code == 204
    assert await stored(shop, subscription_id) == {**BASIC, "username": "till"}
    changes = (await shop.audit())[-1]["changes"]["authentication"]
    assert changes == {"before": {**BASIC, "password": MASK}, "after": renamed}
    assert paths(await shop.update(subscription_id, authentication={**BEARER, "token": MASK})) == [
        "authentication.token"
    ]
    await shop.update(subscription_id, authentication=BEARER)
    assert await stored(shop, subscription_id) == BEARER
    assert (await shop.audit())[-1]["changes"]["authentication"]["after"] == {"type": "bearer", "token": "••• (new)"}
    await shop.update(subscription_id, authentication=None)
    assert (await shop.details(subscription_id))["authentication"] is None


async def test_a_client_certificate_is_masked_and_its_expiry_shown(shop: Shop, authority: Authority) -> None:
    expiry = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    given = mtls(*authority.client_pems("shop.example.com", not_after=expiry))
    subscription_id = await shop.created(authentication=given)
    details = await shop.details(subscription_id)
    masked = {"type": "mtls", "certificate": MASK, "privateKey": MASK}
    assert details["authentication"] == masked
    assert datetime.fromisoformat(details["certificateExpiresAt"]) == expiry
    assert "PRIVATE KEY" not in str(await shop.audit())
    assert (await shop.update(subscription_id, authentication=masked, name="CRM")).status_code == 204
    assert await stored(shop, subscription_id) == given
    assert (await shop.details(subscription_id))["certificateExpiresAt"] == details["certificateExpiresAt"]
    other = mtls(*authority.client_pems("shop.example.com", not_after=expiry + timedelta(days=365)))
    assert (await shop.update(subscription_id, authentication=other)).status_code == 204
    assert await stored(shop, subscription_id) == other
    for half, missing in (("privateKey", "certificate"), ("certificate", "privateKey")):
        alone = {**masked, half: given[half]}
        assert paths(await shop.update(subscription_id, authentication=alone)) == [f"authentication.{missing}"]
    await shop.update(subscription_id, authentication=None)
    assert (await shop.details(subscription_id))["certificateExpiresAt"] is None


async def test_a_client_certificate_that_cannot_be_used_is_refused(shop: Shop, authority: Authority) -> None:
    certificate, key = authority.client_pems("shop.example.com")
    private = load_pem_private_key(key.encode(), password=None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret"))
    encrypted = private.private_bytes(*form).decode()
    expired = authority.client_pems("shop.example.com", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    early = authority.client_pems(
        "shop.example.com", not_before=datetime(2100, 1, 1, tzinfo=UTC), not_after=datetime(2101, 1, 1, tzinfo=UTC)
    )
    _, another = authority.client_pems("shop.example.com")
    for given, path, message in (
        (mtls(key, key), "certificate", "is no certificate in PEM"),
        (mtls(certificate, certificate), "privateKey", "is no private key in PEM"),
        (mtls(certificate, encrypted), "privateKey", "is encrypted: remove its passphrase"),
        (mtls(certificate, another), "privateKey", "is not the key of the (first) certificate"),
        (mtls(*expired), "certificate", "has expired, at 2020-01-01T00:00:00+00:00"),
        (mtls(*early), "certificate", "is valid from 2100-01-01T00:00:00+00:00 only"),
        (mtls(*self_signed(1024)), "certificate", "cannot be used for TLS: ee key too small"),
        (mtls(*self_signed(16_000)), "privateKey", "is an RSA key of more than 4096 bits"),
        (mtls("x" * 16_385, key), "certificate", "must be text in PEM, at most 16384 characters"),
    ):
        response = await shop.create(authentication=given)
        assert paths(response) == [f"authentication.{path}"]
        assert response.json()["errors"][0]["message"] == message
        assert "PRIVATE" not in response.text


async def test_two_credentials_in_one_header_are_refused(shop: Shop) -> None:
    own = [header("authorization", "Bearer 1")]
    assert paths(await shop.create(headers=own, authentication=BASIC)) == ["authentication"]
    with_header = await shop.created(headers=own)
    assert paths(await shop.update(with_header, authentication=BASIC)) == ["authentication"]
    assert (await shop.update(with_header, authentication=BASIC, headers=[])).status_code == 204
    assert paths(await shop.update(with_header, headers=own)) == ["authentication"]


async def test_a_deleted_subscription_leaves_no_secret(shop: Shop) -> None:
    subscription_id = await shop.created(authentication=BASIC)
    await shop.client.delete(shop.path(subscription_id))
    assert (await shop.row(subscription_id))["sealed_authentication"] is None


async def test_a_set_compares_secrets_without_showing_them(shop: Shop) -> None:
    async def applied(authentication: Any) -> dict[str, Any]:
        entry = {"eventName": "CustomerRegistered", "name": "CRM", "url": RECEIVER, "authentication": authentication}
        body = {"subscriptionSet": {"subscriptions": [entry]}}
        response = await shop.client.post(f"/api/{shop.store}/webhook/subscription-set", json=body)
        assert response.status_code == 200, response.text
        assert "s3ven" not in response.text
        assert BASIC["password"] not in response.text
        return dict(response.json())

    created = await applied(BASIC)
    assert {"field": "authentication", "before": None, "after": {**BASIC, "password": "••• (new)"}} in created[
        "changes"
    ][0]["changes"]
    for same in (BASIC, {**BASIC, "password": MASK}):
        assert (await applied(same))["changes"] == []
    [changed] = (await applied({**BASIC, "password": "s3ven"}))["changes"]
    assert [field["after"]["password"] for field in changed["changes"]] == ["••• (new)"]
    [removed] = (await applied(None))["changes"]
    assert removed["loses"] == ["the authentication"]
    [row] = (await shop.client.get(f"/api/{shop.store}/webhook/subscription-set")).json()["subscriptions"]
    assert row["authentication"] is None


async def test_a_stored_secret_does_not_follow_its_destination_to_another_origin(shop: Shop) -> None:
    other = "https://other.example.com/"
    plain = await shop.created(authentication=BASIC)
    assert paths(await shop.update(plain, url=other, authentication={**BASIC, "password": MASK})) == [
        "authentication.password"
    ]
    assert paths(await shop.update(plain, url=other)) == ["authentication"]
    assert (await shop.update(plain, url=other, authentication=BASIC)).status_code == 204


async def test_neither_client_secret_nor_access_token_follows_to_another_origin(shop: Shop) -> None:
    other = "https://other.example.com/"
    client = await shop.created(authentication=OAUTH2)
    masked = {**OAUTH2, "clientSecret": MASK}
    for url, token_url in ((RECEIVER, other), (other, RECEIVER)):
        moved = await shop.update(client, url=url, authentication={**masked, "tokenUrl": token_url})
        assert paths(moved) == ["authentication.clientSecret"]
        assert moved.json()["errors"][0]["code"] == "destination_changed"
    assert paths(await shop.update(client, url=other)) == ["authentication"]
    same = {**masked, "tokenUrl": f"{RECEIVER}/token"}
    assert (await shop.update(client, url=f"{RECEIVER}/hook", authentication=same)).status_code == 204
    assert await stored(shop, client) == {**OAUTH2, "tokenUrl": f"{RECEIVER}/token"}
    assert (await shop.update(client, url=other, authentication=OAUTH2)).status_code == 204


async def test_a_client_certificate_does_not_follow_to_another_origin(shop: Shop, authority: Authority) -> None:
    other = "https://other.example.com/"
    given = mtls(*authority.client_pems("shop.example.com"))
    subscription_id = await shop.created(authentication=given)
    masked = {"type": "mtls", "certificate": MASK, "privateKey": MASK}
    refused = paths(await shop.update(subscription_id, url=other, authentication=masked))
    assert sorted(refused) == ["authentication.certificate", "authentication.privateKey"]
    assert paths(await shop.update(subscription_id, url=other)) == ["authentication"]
    assert (await shop.update(subscription_id, url=other, authentication=given)).status_code == 204


async def test_a_certificate_is_parsed_once_and_in_no_transaction(
    shop: Shop, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []

    def noted(pair: ClientCertificate) -> Validity:
        parsed.append(shop.installation.app.state.resources.database.pool.checkedout())
        return validity_of(pair)

    monkeypatch.setattr(checks, "validity_of", noted)
    given = mtls(*authority.client_pems("shop.example.com"))
    subscription_id = await shop.created(authentication=given)
    await shop.update(subscription_id, authentication=given)
    entry = {"eventName": "CustomerRegistered", "name": "CRM", "url": RECEIVER, "authentication": given}
    body = {"subscriptionSet": {"subscriptions": [entry]}}
    response = await shop.client.post(f"/api/{shop.store}/webhook/subscription-set", json=body)
    assert response.status_code == 200, response.text
    assert parsed == [0, 0, 0]


async def test_a_set_gives_secrets_again_for_another_origin(shop: Shop) -> None:
    async def applied(url: str, password: str) -> Any:
        authentication = {**BASIC, "password": password}
        entry = {"eventName": "CustomerRegistered", "name": "CRM", "url": url, "authentication": authentication}
        body = {"subscriptionSet": {"subscriptions": [{**entry, "headers": [header("A", password)]}]}}
        return await shop.client.post(f"/api/{shop.store}/webhook/subscription-set", json=body)

    await applied(RECEIVER, "1")
    assert paths(await applied("https://other.example.com/", MASK)) == ["subscriptions.0.headers.0.headerValue"]
    assert (await applied("https://other.example.com/", "1")).status_code == 200
