import asyncio
import json

import httpx2
import msgspec
import pytest

from penstock.errors import UsageError
from penstock.source.hostile import Hostility, ResponseFault
from penstock.source.nationalities import NATIONALITIES
from penstock.source.standin import FIELDS, load_captured_users, make_app


def get(app, url: str) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://standin.test") as client:
            return await client.get(url)

    return asyncio.run(ask())


def users(query: str) -> list:
    return get(make_app(), f"/api/?{query}").json()["results"]


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/1.4", "/api/1.4/"])
def test_every_url_responds(path):
    """All URLs of the API respond, with one user by default."""
    answer = get(make_app(), path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json().keys() == {"results", "info"}
    assert len(answer.json()["results"]) == 1


def test_other_versions_are_not_found():
    """Other versions of the API respond with 404."""
    assert get(make_app(), "/api/1.3/").status_code == 404


def test_health_responds_despite_faults():
    """The health endpoint responds even with a fault rate of 1."""
    assert get(make_app(hostility=Hostility(rate=1)), "/health").status_code == 200


def test_info_has_the_captured_format(captured_file):
    """`info` has seed, results and page, in the format of a captured response."""
    info = get(make_app(), "/api/?seed=s&results=3&page=2").json()["info"]
    assert info == {"seed": "s", "results": 3, "page": 2, "version": "1.4"}
    assert list(info) == list(msgspec.json.decode(captured_file.read_bytes())["info"])


def test_without_a_seed_users_differ():
    """Without a seed, each response has different users and the seed it used."""
    app = make_app()
    first, second = get(app, "/api/?results=5").json(), get(app, "/api/?results=5").json()
    assert first["info"]["seed"] != second["info"]["seed"]
    assert get(app, f"/api/?results=5&seed={first['info']['seed']}").json() == first


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("", 1),
        ("0", 1),
        ("-5", 1),
        ("x", 1),
        ("1.5", 1),
        ("5001", 1),
        ("9" * 5000, 1),
        ("\u0663", 1),
        ("2", 2),
        ("5000", 5000),
    ],
)
def test_results_is_the_number_of_users(given, count):
    """`results` is 1 to 5000. Other values count as 1."""
    assert len(users(f"seed=s&inc=nat&results={given}")) == count


@pytest.mark.parametrize("page", ["", "0", "-1", "x", "10001"])
def test_a_page_out_of_range_is_page_1(page):
    """A page out of range counts as page 1."""
    assert users(f"seed=s&page={page}") == users("seed=s&page=1")


def test_pages_have_no_gaps_or_overlaps():
    """Pages of one size have no gaps or overlaps."""
    assert users("seed=s&results=10&page=1") + users("seed=s&results=10&page=2") == users("seed=s&results=20")


def test_the_same_query_returns_the_same_users():
    """The same seed returns the same users from another app."""
    query = "seed=s&results=20&nat=ir,ua&gender=female"
    assert users(query) == users(query)


@pytest.mark.parametrize(
    ("nat", "given"),
    [("gb", {"GB"}), ("GB,no", {"GB", "NO"}), (" tr , ", {"TR"}), ("xx", None), ("gb,xx", None), ("", None)],
)
def test_nat_selects_nationalities(nat, given):
    """`nat` is a list of nationalities, ignored if one is unknown."""
    assert {user["nat"] for user in users(f"seed=s&results=400&nat={nat}")} == (given or set(NATIONALITIES))


@pytest.mark.parametrize(
    ("gender", "given"),
    [("female", {"female"}), ("male", {"male"}), ("x", {"male", "female"}), ("", {"male", "female"})],
)
def test_gender_selects_a_gender(gender, given):
    """`gender` is female or male. Other values are ignored."""
    assert {user["gender"] for user in users(f"seed=s&results=50&gender={gender}")} == given


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("inc=name,NAT", ["name", "nat"]),
        ("inc=nat, name", ["name", "nat"]),
        ("exc=login,id", [field for field in FIELDS if field not in ("login", "id")]),
        ("inc=name,login&exc=login", ["name"]),
        ("inc=nothing", []),
        ("inc=&exc=", list(FIELDS)),
    ],
)
def test_inc_and_exc_select_fields(query, fields):
    """`inc` and `exc` select top-level fields and do not change their values."""
    whole, chosen = users("seed=s")[0], users(f"seed=s&{query}")[0]
    assert list(chosen) == fields
    assert chosen == {field: whole[field] for field in fields}


def test_formats_other_than_json_are_an_error():
    """Formats other than JSON are answered with an error."""
    assert get(make_app(), "/api/?format=JSON").status_code == 200
    answer = get(make_app(), "/api/?format=csv")
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}


# a captured answer


def test_a_captured_response_is_served_unchanged(captured_file):
    """The users of a captured response are served unchanged, at most all of them."""
    captured = msgspec.json.decode(captured_file.read_bytes())["results"]
    answer = get(make_app(load_captured_users(captured_file)), "/api/?results=500&seed=s").json()
    assert answer["results"] == captured
    assert answer["info"]["results"] == 30


def test_a_captured_response_is_served_in_pages(captured_file):
    """Pages iterate over the captured users and start over at the end."""
    captured = msgspec.json.decode(captured_file.read_bytes())["results"]
    app = make_app(load_captured_users(captured_file))
    assert get(app, "/api/?results=20&page=1").json()["results"] == captured[:20]
    assert get(app, "/api/?results=20&page=2").json()["results"] == captured[20:] + captured[:10]


def test_a_captured_response_is_filtered(captured_file):
    """`nat` and `gender` filter the captured users, possibly to none."""
    app = make_app(load_captured_users(captured_file))
    users = get(app, "/api/?results=30&nat=au&gender=female").json()["results"]
    assert [(user["nat"], user["gender"]) for user in users] == [("AU", "female")] * 2
    assert get(app, "/api/?results=30&nat=ca").json()["results"] == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"results": 1}', '{"results": [1]}'])
def test_a_file_that_is_not_a_response_is_rejected(tmp_path, content):
    """When the stand-in is created."""
    file = tmp_path / "answer.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"answer\.json"):
        load_captured_users(file)


# hostility


class Always(Hostility):
    """The same fault for every response."""

    def __init__(self, trouble: ResponseFault, **kwargs) -> None:
        super().__init__(**kwargs)
        object.__setattr__(self, "always", trouble)

    def choose_fault(self, request: int) -> ResponseFault:
        return self.always


@pytest.mark.parametrize(
    ("trouble", "status", "retry_after"),
    [(ResponseFault.THROTTLED, 429, "1"), (ResponseFault.OVERLOADED, 503, None), (ResponseFault.ERROR, 200, None)],
)
def test_faulty_responses_contain_no_users(trouble, status, retry_after):
    """Throttled, overloaded and error responses contain no users."""
    answer = get(make_app(hostility=Always(trouble)), "/api/")
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == retry_after
    assert "results" not in answer.text


def test_a_truncated_response_is_invalid_json():
    """A truncated response has a correct length and invalid JSON."""
    answer = get(make_app(hostility=Always(ResponseFault.TRUNCATED)), "/api/")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_slow_response_is_valid(monkeypatch):
    """A slow response is valid but delayed."""
    delays = []

    async def sleep(delay_s):
        delays.append(delay_s)

    monkeypatch.setattr("penstock.source.standin.asyncio.sleep", sleep)
    answer = get(make_app(hostility=Always(ResponseFault.SLOW, slow_s=3)), "/api/?seed=s")
    assert answer.json() == get(make_app(), "/api/?seed=s").json()
    assert delays == [3]


def test_a_cut_response_ends_early(served):
    """A cut response ends before its Content-Length, which clients detect."""
    url = served(make_app(hostility=Always(ResponseFault.CUT)))
    with (
        httpx2.Client(trust_env=False) as client,
        pytest.raises(httpx2.RemoteProtocolError, match="without sending complete"),
    ):
        client.get(url)


def test_damaged_users_are_the_same_in_every_request():
    """Damaged users are the same in every request and page size, so that a retry gets the same ones."""
    app = make_app(hostility=Always(ResponseFault.NONE, rate=0.5))
    whole = get(app, "/api/?seed=s&results=20").json()["results"]
    pages = [get(app, f"/api/?seed=s&results=10&page={page}").json()["results"] for page in (1, 2)]
    assert whole == pages[0] + pages[1]
    assert whole != users("seed=s&results=20")
