"""A subscription's own headers: which there may be, how they are kept, and what a mask written back means."""

import pytest

from tests.api.installation import RECEIVER, Shop, header, paths

MASK = "•••"
ORIGIN = RECEIVER.removesuffix("/hook")


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Content-Type", "Transfer-Encoding", "CONNECTION", "Keep-Alive", "TE", "Trailer"),
        *("Accept-Encoding", "Expect"),
        *("Upgrade", "Proxy-Authorization", "webhook-id", "Webhook-Anything", "X-Webhook-Signature", "x-webhook-x"),
        *("", "a b", "a:b", "a\r\nb", "ä", "a\x00", "a" * 129),
    ],
)
async def test_header_names_that_the_sender_sets_or_that_are_none_are_refused(shop: Shop, name: str) -> None:
    response = await shop.create(headers=[{"headerName": name, "headerValue": "1"}])
    assert paths(response) == ["headers.0.headerName"]


@pytest.mark.parametrize("value", ["a\r\nX-Other: 1", "a\nb", "a\rb", "a\x0bb", "a\x7f", "ä", "a" * 4097, "\t"])
async def test_header_values_cannot_smuggle_anything(shop: Shop, value: str) -> None:
    response = await shop.create(headers=[{"headerName": "A", "headerValue": value}])
    assert paths(response) == ["headers.0.headerValue"]


async def test_the_refusal_of_a_header_does_not_repeat_its_value(shop: Shop) -> None:
    response = await shop.create(headers=[header("A", "secret\n")])
    assert "secret" not in response.text


async def test_header_values_are_read_back_masked_and_stored_sealed(shop: Shop) -> None:
    headers = [header("Authorization", "Bearer s3cret"), header("B", "")]
    subscription_id = await shop.created(headers=headers)
    found = await shop.details(subscription_id)
    assert found["headers"] == [
        header("Authorization", MASK),
        header("B", MASK),
    ]
    assert (found["headerName"], found["headerValue"]) == ("Authorization", MASK)
    listed = (await shop.client.get(shop.path())).json()["items"][0]
    assert (listed["headerName"], listed["headerValue"]) == ("Authorization", MASK)
    assert b"s3cret" not in (await shop.row(subscription_id))["sealed_headers"]
    assert "s3cret" not in str(await shop.audit())
    assert await shop.stored_headers(subscription_id) == [("Authorization", "Bearer s3cret"), ("B", "")]


async def test_the_deprecated_single_header_is_taken(shop: Shop) -> None:
    subscription_id = await shop.created(headerName="X-Key", headerValue="1")
    assert await shop.stored_headers(subscription_id) == [("X-Key", "1")]


async def test_the_single_header_joins_the_others_unless_it_is_among_them(shop: Shop) -> None:
    others = [header("A", "1")]
    both = await shop.created(headers=others, headerName="B", headerValue="2")
    assert await shop.stored_headers(both) == [("A", "1"), ("B", "2")]
    same = await shop.created(headers=others, headerName="a", headerValue=MASK)
    assert await shop.stored_headers(same) == [("A", "1")]


async def test_the_single_header_does_not_lead_past_the_most_there_may_be(shop: Shop) -> None:
    most = [header(f"H-{number}", "1") for number in range(20)]
    assert paths(await shop.create(headers=[*most, header("B", "2")])) == ["headers"]
    assert paths(await shop.create(headers=most, headerName="B", headerValue="2")) == ["headerName"]
    same = await shop.created(headers=most, headerName="h-19", headerValue="2")
    assert paths(await shop.update(same, headers=most, headerName="B", headerValue="2")) == ["headerName"]


async def test_a_mask_written_back_leaves_the_stored_value(shop: Shop) -> None:
    subscription_id = await shop.created(headers=[header("A", "1"), header("B", "2")])
    changed = [
        header("b", MASK),
        header("C", "3"),
        header("A", "new"),
    ]
    assert (await shop.update(subscription_id, headers=changed)).status_code == 204
    assert await shop.stored_headers(subscription_id) == [("b", "2"), ("C", "3"), ("A", "new")]


async def test_headers_left_out_whole_stay_and_an_empty_list_removes_them(shop: Shop) -> None:
    subscription_id = await shop.created(headers=[header("A", "1")])
    await shop.update(subscription_id)
    assert await shop.stored_headers(subscription_id) == [("A", "1")]
    await shop.update(subscription_id, headers=[])
    assert await shop.stored_headers(subscription_id) == []


async def test_a_header_left_out_of_the_list_is_removed(shop: Shop) -> None:
    headers = [header("A", "1"), header("B", "2")]
    subscription_id = await shop.created(headers=headers)
    await shop.update(subscription_id, headers=[header("B", MASK)])
    assert await shop.stored_headers(subscription_id) == [("B", "2")]


async def test_a_mask_with_nothing_behind_it_is_refused(shop: Shop) -> None:
    masked = [header("A", MASK)]
    assert paths(await shop.create(headers=masked)) == ["headers.0.headerValue"]
    subscription_id = await shop.created(headers=[header("B", "1")])
    assert paths(await shop.update(subscription_id, headers=masked)) == ["headers.0.headerValue"]


async def test_a_stored_value_does_not_follow_the_url_to_another_origin(shop: Shop) -> None:
    subscription_id = await shop.created(headers=[header("A", "1")])
    for other in ("https://other.example.com/", RECEIVER.replace("https://", "https://other."), f"{ORIGIN}:8443/"):
        for given, path in (({"headers": [header("A", MASK)]}, "headers.0.headerValue"), ({}, "headers")):
            refused = await shop.update(subscription_id, url=other, **given)
            assert (refused.status_code, paths(refused)) == (400, [path])
            assert refused.json()["errors"][0]["message"] == "enter it again, since the destination changed"
    same = await shop.update(subscription_id, url=f"{ORIGIN}:443/new", headers=[header("A", MASK)])
    assert same.status_code == 204
    again = await shop.update(subscription_id, url="https://other.example.com/", headers=[header("A", "2")])
    assert again.status_code == 204
    assert await shop.stored_headers(subscription_id) == [("A", "2")]
