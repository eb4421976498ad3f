"""`iot token`: a right is given, used, and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Core


def test_a_token_lets_its_holder_do_what_its_role_may_until_it_is_revoked(core: Core) -> None:
    added = core.json("token", "add", "An", "--role", "viewer", "--days", "30")
    mine = {"IOT_TOKEN": added["secret"], "IOT_URL": core.url}
    assert core("device", "list", env=mine).code == 0
    refused = core("area", "add", "x-1", "--name", "X", env=mine)
    assert refused.code == 1
    assert "viewer" in refused.err
    assert added["token"]["id"] in [each["id"] for each in core.json("token", "list")]
    assert core("token", "revoke", str(added["token"]["id"])).code == 0
    assert core("device", "list", env=mine).code != 0


def test_the_list_shows_what_a_token_may_not_the_most_that_it_could(core: Core) -> None:
    core("area", "add", "token-ward", "--name", "Token ward")
    core.folder.joinpath("words").write_text("four unrelated words 2\n")
    file = str(core.folder / "words")
    core("user", "add", "lan", "--role", "technician", "--area", "token-ward", "--password-file", file)
    env = {"IOT_CONTEXTS_DIR": str(core.folder / "lan")}
    ended = core("login", core.url, "--user", "lan", "--plain", "--password-file", file, env=env)
    assert ended.code == 0, ended.err
    row = next(each for each in core("token", "list").out.splitlines() if " lan " in each)
    assert "technician token-ward" in row
    assert "admin" not in row
    listed = next(each for each in core.json("token", "list") if each["user"] == "lan")
    assert listed["rights"] == [{"role": "technician", "area": "token-ward"}]


def test_the_secret_of_a_token_is_shown_once(core: Core) -> None:
    secret = core.json("token", "add", "scada", "--role", "operator")["secret"]
    assert secret not in core("token", "list", "--output", "json").out


def test_a_given_push_secret_comes_from_a_file_not_from_the_command_line(core: Core) -> None:
    secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    path = core.folder / "secret"
    path.write_text(f"{secret}\n")
    added = core.json("push", "add", "from-file", "--webhook", "http://127.0.0.1:9/x", "--secret-file", str(path))
    assert added["secret"] == secret
    assert core("push", "remove", "from-file").code == 0


def test_a_password_without_a_terminal_is_asked_for_by_file(core: Core) -> None:
    ended = core("user", "add", "an", "--role", "viewer")
    assert (ended.code, "--password-file" in ended.err, "GetPass" in ended.err) == (2, True, False)
