"""Who gets in, who may change something, and what every request must keep."""

import re

import pytest

from cloud_node.console.throttle import FREE, Throttle
from cloud_node.console.users import Role, new_user, write_users

from .conftest import PASSWORD, PICTURE, fields_of, item, path_of, token_of

FORM = "application/x-www-form-urlencoded"
PAGES = ("/", "/triage", "/search", "/devices", "/export", path_of(1), f"{path_of(1)}.json", f"{path_of(1)}/heat.png")


@pytest.mark.parametrize("page", PAGES)
def test_nobody_sees_anything_without_a_login(visit, users, page):
    answer = visit(users=users).get(page)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")


@pytest.mark.parametrize("page", PAGES)
def test_a_viewer_sees_everything(log_in, page):
    answer = log_in("vic").get(page)
    assert answer.status_code == 200
    assert "content-security-policy" in answer.headers


def test_a_viewer_corrects_nothing(log_in, backing):
    client = log_in("vic")
    fields = fields_of(client, path_of(1))
    answer = client.post(path_of(1), data={**fields, "answer.object": "cone", "action": "save"})
    assert answer.status_code == 403
    assert backing.reader.corrections(item(1)) == []


def test_a_reviewer_corrects_under_their_name(log_in, backing):
    client = log_in("ann")
    fields = fields_of(client, path_of(1))
    assert client.post(path_of(1), data={**fields, "answer.object": "cone", "action": "save"}).status_code == 303
    (said,) = backing.reader.corrections(item(1))
    assert (said.author, said.answers["object"]) == ("ann", "cone")


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong horse"), ("nobody", PASSWORD), ("", "")])
def test_a_wrong_name_and_a_wrong_password_are_told_alike(visit, users, name, password):
    client = visit(users=users)
    fields = {"token": token_of(client, "/login"), "name": name, "password": password}
    answer = client.post("/login", data=fields)
    assert answer.status_code == 403
    assert "wrong name or password" in answer.text
    assert client.get("/triage").status_code == 303


def test_guessing_is_slowed_down(visit, users):
    client = visit(users=users)
    token = token_of(client, "/login")
    told = [
        client.post("/login", data={"token": token, "name": f"guess{n}", "password": "x"}).status_code
        for n in range(FREE + 1)
    ]
    assert told == [403] * FREE + [429]
    answer = client.post("/login", data={"token": token, "name": "ann", "password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_throttle_doubles_forgets_and_keeps_keys_apart():
    now = 0.0
    throttle = Throttle(lambda: now)
    for _ in range(FREE + 2):
        throttle.failed("a")
    assert throttle.wait_s("a") == 4.0
    assert throttle.wait_s("b") == 0.0
    now = 4.0
    assert throttle.wait_s("a") == 0.0
    for _ in range(60):
        throttle.failed("a")
    assert throttle.wait_s("a") == 300.0
    throttle.succeeded("a")
    assert throttle.wait_s("a") == 0.0


def test_a_session_ends_with_its_logout_wherever_its_cookie_was_kept(log_in):
    client = log_in("ann")
    kept = dict(client.cookies)
    assert client.post("/logout", data={"token": token_of(client, "/triage")}).status_code == 303
    client.cookies.update(kept)
    assert client.get("/triage").status_code == 303


def test_a_session_ends_with_its_password_and_with_its_user(log_in, users, users_made):
    client = log_in("ann")
    assert client.get("/triage").status_code == 200
    write_users(users, {**users_made, "ann": new_user("ann", Role.REVIEWER, "another one")})
    assert client.get("/triage").status_code == 303
    write_users(users, users_made)
    assert client.get("/triage").status_code == 200
    write_users(users, {"vic": users_made["vic"]})
    assert client.get("/triage").status_code == 303


def test_a_role_taken_away_is_gone_at_once(log_in, users, users_made):
    client = log_in("ann")
    fields = fields_of(client, path_of(1))
    write_users(users, {"ann": new_user("ann", Role.VIEWER, PASSWORD)})
    assert client.post(path_of(1), data={**fields, "action": "save"}).status_code in {303, 403}
    assert client.get(path_of(1)).status_code == 303


def test_a_forged_cookie_is_nobody(visit, users):
    client = visit(users=users)
    client.cookies.set("fusion-console", "WyJhIiwiYW5uIiwiIl0.forged.signature")
    assert client.get("/triage").status_code == 303


def test_cookies_cannot_be_read_by_scripts_nor_sent_by_other_sites(visit, users):
    plain = visit(users=users).get("/login").headers["set-cookie"]
    assert "HttpOnly" in plain
    assert "SameSite=strict" in plain
    assert "Secure" not in plain
    proxied = visit(base="https://localhost", users=users, behind_proxy=True).get("/login").headers
    assert proxied["set-cookie"].startswith("__Host-")
    assert "Secure" in proxied["set-cookie"]
    assert "strict-transport-security" in proxied


@pytest.mark.parametrize("token", [None, "", "0" * 64, "ü"])
def test_a_form_without_its_token_changes_nothing(local, backing, token):
    fields = fields_of(local, path_of(1))
    fields = {name: value for name, value in fields.items() if name != "token"} | ({"token": token} if token else {})
    assert local.post(path_of(1), data={**fields, "action": "save"}).status_code == 403
    assert backing.reader.corrections(item(1)) == []


def test_a_token_is_of_one_session(log_in):
    ann, vic = log_in("ann"), log_in("vic")
    fields = fields_of(ann, path_of(1))
    assert ann.post(path_of(1), data={**fields, "token": token_of(vic, "/triage")}).status_code == 403


def test_a_form_from_another_site_is_refused(local):
    fields = fields_of(local, path_of(1))
    for origin in ("http://evil.example", "null", "http://localhost:81", "http://[", "http://[::1"):
        assert local.post(path_of(1), data=fields, headers={"origin": origin}).status_code == 403
    assert local.post(path_of(1), data=fields, headers={"origin": "http://localhost"}).status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80"])
def test_other_names_are_refused_on_loopback(local, host):
    assert local.get("/triage", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8447", "127.0.0.1:1", "[::1]:8447"])
def test_names_of_this_machine_are_taken(local, host):
    assert local.get("/triage", headers={"host": host}).status_code == 200


def test_the_names_that_are_set_are_taken(visit, users):
    client = visit(users=users, hosts=("review.example",))
    assert client.get("/login", headers={"host": "review.example"}).status_code == 200
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("told", "host"),
    [
        ("review.example:8447", "review.example:8447"),
        ("Review.Example", "review.example"),
        ("[::1]", "[::1]:8447"),
        ("[2001:db8::7]:8447", "[2001:db8::7]"),
        ("2001:db8::7", "[2001:db8::7]:8447"),
    ],
)
def test_a_name_may_be_set_with_a_port_and_brackets(visit, users, told, host):
    client = visit(users=users, hosts=(told,))
    assert client.get("/login", headers={"host": host}).status_code == 200
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 400


def test_what_is_too_large_or_no_form_is_refused(local):
    fields = fields_of(local, path_of(1))
    assert local.post(path_of(1), data={**fields, "note": "x" * 70_000}).status_code == 413
    assert local.post(path_of(1), content=iter([b"x" * 40_000] * 3), headers={"content-type": FORM}).status_code == 413
    assert local.post(path_of(1), json={}).status_code == 415
    assert local.post(path_of(1), content=b"&" * 5000 + b"a=1", headers={"content-type": FORM}).status_code == 400
    assert local.get("/search?device=" + "x" * 9000).status_code == 414


def test_policy_allows_no_inline_script_and_no_other_host(local):
    headers = local.get("/triage").headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_pages_need_no_inline_script_or_style(local):
    for page in ("/", "/triage", "/search", "/devices", "/export", path_of(PICTURE)):
        text = local.get(page).text
        assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", text), page
        assert re.findall(r"<script[^>]*>", text) == re.findall(r'<script src="/static/[^>]*>', text)


def test_static_files_are_kept_by_their_version(local):
    address = re.search(r'href="(/static/console\.css\?v=\w+)"', local.get("/triage").text)[1]
    assert "immutable" in local.get(address).headers["cache-control"]
    assert local.get("/static/console.css").headers["cache-control"] == "no-cache"
    assert local.get("/static/../app.py").status_code == 404


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", ""])
def test_a_login_leads_to_no_other_site(visit, users, wanted):
    client = visit(users=users)
    fields = {"token": token_of(client, "/login"), "name": "ann", "password": PASSWORD, "next": wanted}
    assert client.post("/login", data=fields).headers["location"] == "/"


def test_a_login_leads_back(visit, users):
    client = visit(users=users)
    answer = client.get("/search?device=cart-1&order=value")
    page = client.get(answer.headers["location"]).text
    wanted = re.search(r'name="next" value="([^"]+)"', page)[1].replace("&amp;", "&")
    fields = {"token": token_of(client, "/login"), "name": "ann", "password": PASSWORD, "next": wanted}
    assert client.post("/login", data=fields).headers["location"] == "/search?device=cart-1&order=value"


def test_the_address_is_the_proxys_peer_only_behind_a_proxy(visit, users):
    """Whoever speaks to the console directly cannot pretend to come from elsewhere to guess on."""
    client = visit(users=users)
    token = token_of(client, "/login")
    told = [
        client.post(
            "/login",
            data={"token": token, "name": f"n{n}", "password": "x"},
            headers={"x-forwarded-for": f"10.0.0.{n}"},
        ).status_code
        for n in range(FREE + 1)
    ]
    assert told[-1] == 429
