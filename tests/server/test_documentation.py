"""Pages for people work without internet, and without a key; every GET answers HEAD."""

import re

import httpx
import pytest


@pytest.mark.parametrize("page", ["/", "/docs", "/redoc"])
def test_pages_load_nothing_from_elsewhere(fake, page):
    with httpx.Client(base_url=fake.url, follow_redirects=True) as http:
        answer = http.get(page)
        assert answer.status_code == 200
        assert "<title>llada_exp" in answer.text
        parts = re.findall(r"""(?:src|href)=["']([^"']+)["']""", answer.text)
        assert len(parts) >= 2
        assert "//" not in "".join(parts)
        for part in parts:
            there = http.get(part)
            assert (there.status_code, len(there.content) > 500) == (200, True), part
    assert not re.findall(r"https?://", answer.text)


def test_the_first_page_is_the_documentation(fake_http):
    answer = fake_http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert fake_http.get("/openapi.json").json()["info"]["title"] == "llada_exp"


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/v1/models", "/v1", "/metrics", "/openapi.json"])
def test_head_is_get_without_a_body(fake_http, path):
    head, get = fake_http.head(path), fake_http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert (
        head.headers["content-type"] == get.headers["content-type"] if "content-type" in get.headers else True
    )
    assert fake_http.get("/v1/models").status_code == 200, "the connection is still in order"


def test_head_of_what_is_only_posted_is_refused(fake_http):
    assert fake_http.head("/v1/chat/completions").status_code == 405
