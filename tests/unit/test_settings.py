"""Where a setting comes from, what is refused, and how a person finds the place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from aistratus.cli.init import commented
from aistratus.core.errors import UsageError
from aistratus.settings import ModelSettings, Section, Settings
from aistratus.settings_load import _line, load

ROOT = Path(__file__).parents[2]


def settings(folder: Path, text: str = "", flags: dict[str, Any] | None = None, **variables: str) -> Settings:
    (folder / "aistratus.toml").write_text(text, encoding="utf-8")
    return load(flags=flags, environ=variables, start=folder)


def refusal(folder: Path, text: str = "", flags: dict[str, Any] | None = None, **variables: str) -> str:
    with pytest.raises(UsageError) as caught:
        settings(folder, text, flags, **variables)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "")


# --- precedence -------------------------------------------------------------------------------------------------


def test_file_env_table_variables_and_flags_win_in_this_order(tmp_path: Path) -> None:
    file = 'region = "eu-west-1"\n[envs.dev]\nregion = "eu-west-2"\n'
    assert settings(tmp_path, "").region is None
    assert settings(tmp_path, file).region == "eu-west-1"
    assert settings(tmp_path, file, AISTRATUS_ENV="dev").region == "eu-west-2"
    variables = {"AISTRATUS_ENV": "dev", "AISTRATUS_REGION": "eu-west-3"}
    assert settings(tmp_path, file, **variables).region == "eu-west-3"
    assert settings(tmp_path, file, {"region": "eu-south-1"}, **variables).region == "eu-south-1"


def test_the_env_table_follows_whoever_chooses_the_env(tmp_path: Path) -> None:
    file = 'env = "dev"\n[envs.dev.node]\nvolume_gib = 40\n[envs.prod.node]\nvolume_gib = 50\n'
    assert settings(tmp_path, file).node.volume_gib == 40
    assert settings(tmp_path, file, AISTRATUS_ENV="prod").node.volume_gib == 50
    assert settings(tmp_path, file, {"env": "dev"}, AISTRATUS_ENV="prod").node.volume_gib == 40


def test_tables_merge_field_by_field(tmp_path: Path) -> None:
    file = '[node]\ncpu_type = "t3.large"\n[envs.local.node]\nvolume_gib = 40\n'
    node = settings(tmp_path, file, AISTRATUS_NODE__IMAGE="/an/image").node
    assert (node.cpu_type, node.volume_gib, node.image) == ("t3.large", 40, "/an/image")


def test_a_list_is_given_as_json_in_a_variable(tmp_path: Path) -> None:
    found = settings(tmp_path, AISTRATUS_API__CORS_ORIGINS='["https://a.example"]')
    assert found.api.cors_origins == ("https://a.example",)


def test_the_nearest_file_upwards_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "aistratus.toml").write_text("[node]\nvolume_gib = 40\n")
    assert load(environ={}, start=inner).node.volume_gib == 40
    (tmp_path / "a" / "aistratus.toml").write_text("[node]\nvolume_gib = 50\n")
    assert load(environ={}, start=inner).node.volume_gib == 50
    named = tmp_path / "other.toml"
    named.write_text("[node]\nvolume_gib = 60\n")
    assert load(environ={"AISTRATUS_CONFIG": str(named)}, start=inner).node.volume_gib == 60
    assert load(environ={"AISTRATUS_CONFIG": "missing"}, config=named, start=inner).node.volume_gib == 60


def test_a_models_path_is_meant_from_the_files_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "aistratus.toml").write_text('[model]\npath = "models/my.gguf"\n')
    assert load(environ={}, start=inner).model.path == tmp_path / "models/my.gguf"


def test_one_changed_throttle_keeps_the_others(tmp_path: Path) -> None:
    throttles = settings(tmp_path, '[api.throttles]\n"POST /infer" = { rate = 1, burst = 2 }\n').api.throttles
    assert throttles["POST /infer"].rate == 1
    assert throttles["GET /jobs/{id}"].rate == 500
    moved = settings(tmp_path, '[api]\nhealth_path = "/well"\n').api.throttles
    assert "GET /well" in moved and "GET /health" not in moved


DEMO = {"local": {"model": {"path": "/demo.gguf", "name": "demo", "context_tokens": 512}}}


def test_an_envs_own_model_is_replaced_whole(tmp_path: Path) -> None:
    """Another model must not answer under the demo model's name."""
    assert load(environ={}, start=tmp_path, defaults=DEMO).model.name == "demo"
    other = load(environ={"AISTRATUS_MODEL__PATH": "/mine.gguf"}, start=tmp_path, defaults=DEMO).model
    assert (other.path, other.name, other.context_tokens) == (Path("/mine.gguf"), None, ModelSettings().context_tokens)
    warmer = load(environ={"AISTRATUS_MODEL__TEMPERATURE": "0.5"}, start=tmp_path, defaults=DEMO).model
    assert (warmer.name, warmer.temperature) == ("demo", 0.5)
    assert load(environ={"AISTRATUS_ENV": "dev"}, start=tmp_path, defaults=DEMO).model.path is None


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_wrong_value_names_key_file_line_and_what_is_allowed(tmp_path: Path) -> None:
    told = refusal(tmp_path, "# mine\n[node]\n\nvolume_gib = 4\n")
    assert told == (
        "wrong setting node.volume_gib = 4 (/aistratus.toml, line 4): it has to be greater than or equal to 8"
    )
    assert "(/aistratus.toml, line 2)" in refusal(tmp_path, "[envs.local.node]\nvolume_gib = 4\n")
    assert "(variable AISTRATUS_NODE__VOLUME_GIB)" in refusal(tmp_path, AISTRATUS_NODE__VOLUME_GIB="4")
    assert "(option --region)" in refusal(tmp_path, flags={"region": "home"})


def test_every_wrong_value_is_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, '[node]\nvolume_gib = 4\n[api]\nlog_days = 8\n[auth]\noperator_email = "me"\n')
    assert [line for line in ("line 2", "line 4", "line 6") if line not in told] == []
    assert "1, 3, 5, 7, 14, 30" in told


@pytest.mark.parametrize("path", ["/queue-health", "/openapi.json", "/infer"])
def test_the_health_check_takes_no_other_routes_path(tmp_path: Path, path: str) -> None:
    told = refusal(tmp_path, f'[api]\nhealth_path = "{path}"\n')
    assert f"(/aistratus.toml, line 2): {path} is another route of this API; use /health" in told


def test_the_health_check_hides_no_job(tmp_path: Path) -> None:
    told = refusal(tmp_path, '[api]\nhealth_path = "/jobs/health"\n')
    assert "/jobs/health is where a job of that name is read (GET /jobs/{id}); use /health" in told
    for free in ("/jobs", "/jobs/health/deep", "/infer/health"):
        assert settings(tmp_path, f'[api]\nhealth_path = "{free}"\n').api.health_path == free


@pytest.mark.parametrize("region", ["cn-north-1", "cn-northwest-1", "us-iso-east-1", "us-isob-east-1"])
def test_a_region_with_other_endpoints_is_refused_with_the_reason(tmp_path: Path, region: str) -> None:
    told = refusal(tmp_path, f'region = "{region}"\n')
    assert "endpoints of its own, outside amazonaws.com" in told
    assert "choose another, for example eu-central-1" in told
    assert settings(tmp_path, 'region = "us-gov-west-1"\n').region == "us-gov-west-1"


@pytest.mark.parametrize("path", ["/ping", "/sping"])
def test_paths_that_aws_answers_itself_are_refused_with_the_reason(tmp_path: Path, path: str) -> None:
    told = refusal(tmp_path, f'[api]\nhealth_path = "{path}"\n')
    assert f"{path} is answered by API Gateway itself and would never reach the router; use /health" in told
    assert "line 2" in told
    told = refusal(tmp_path, f'[api.throttles]\n"GET {path}" = {{ rate = 1, burst = 1 }}\n')
    assert "answered by API Gateway itself" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[node]\nvolum_gib = 9\n", "node.volum_gib = 9 (/aistratus.toml, line 2): there is no such setting"),
        ("colour = 1\n", "colour = 1 (/aistratus.toml, line 1): there is no such setting"),
        ("[nodes]\ncpu = 1\n", "nodes (/aistratus.toml, line 1): there is no such setting"),
        ("node = 3\n", "node = 3 (/aistratus.toml, line 1): "),
        ("envs = 3\n", "a table [envs.NAME] holds what is different"),
        ("[envs]\nlocal = 3\n", "a table [envs.NAME] holds what is different"),
        ("[node\n", "/aistratus.toml isn't valid TOML: "),
        ("a = 1\na = 2\n", "(at line 2"),
        ('env = "Prod"\n', "1 to 16 lower-case letters"),
        ('[model]\nurl = "https://a.example/x.gguf"\n', "needs its own sha256"),
        ('[api.throttles]\n"GET /nowhere" = { rate = 1, burst = 1 }\n', "its routes are POST /infer"),
        ('[api.throttles]\n"infer" = { rate = 1, burst = 1 }\n', "write it like 'POST /infer'"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_sentence(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node = 3\n", "node = 3 (/aistratus.toml, line 1): it has to be a table"),
        ("[api]\nthrottle = 3\n", "it has to be a table"),
        ("[api]\ncors_origins = 3\n", "it has to be a list"),
        ("[network]\nenable_nat_gw = 3\n", "it has to be true or false"),
        ("[node]\nvolume_gib = 'big'\n", "it has to be a whole number"),
        ('region = "mars-1"\n', "expected here: AWS region; for example eu-central-1"),
        ('[auth]\noperator_email = "me"\n', "for example ann@example.com"),
        ('[delivery]\nrepository = "me"\n', "expected here: the GitHub repository, as owner/name; for example octo"),
        ('[node]\ncpu_type = "big"\n', "for example t3.small"),
        ('[node]\nssh_cidr = "0.0.0.0/0"\n', "it opens one address only"),
        ('[node]\nssh_cidr = "home"\n', "it has to be an IPv4 address, as 203.0.113.7"),
        ('[node]\ntransport = "telnet"\n', "ssm"),
    ],
)
def test_what_is_allowed_is_told_in_words_of_the_file(tmp_path: Path, text: str, told: str) -> None:
    said = refusal(tmp_path, text)
    assert told in said
    assert [word for word in ("Input should", "Value error", "pattern", "dictionary") if word in said] == []


def test_every_pattern_has_an_example_that_it_takes() -> None:
    with_pattern = [entry for _, entry in fields(Settings) if "pattern=" in repr(entry.metadata)]
    assert len(with_pattern) >= 8
    for entry in with_pattern:
        pattern = next(found.pattern for found in entry.metadata if hasattr(found, "pattern"))
        assert re.search(pattern, entry.default or entry.examples[0])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[envs.Bad_Name.node]\nvolume_gib = 9\n", "envs.Bad_Name (/aistratus.toml): an env's name has 1 to"),
        ("[envs.dev.nod]\nvolume_gib = 9\n", "envs.dev.nod (/aistratus.toml, line 1): there is no such setting"),
        (
            "[envs.dev.node]\nvolum_gib = 9\n",
            "envs.dev.node.volum_gib = 9 (/aistratus.toml, line 2): there is no such setting",
        ),
        ("[envs]\ndev = 3\n", "a table [envs.NAME] holds what is different"),
    ],
)
def test_a_typing_error_in_another_envs_table_is_found_too(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text, AISTRATUS_ENV="prod")


def test_another_envs_values_wait_until_it_is_used(tmp_path: Path) -> None:
    file = '[envs.dev.model]\nurl = "https://a.example/x.gguf"\n'
    assert settings(tmp_path, file).env == "local"


def test_unknown_variables_are_refused(tmp_path: Path) -> None:
    assert "(variable AISTRATUS_NODE__VOLUM): there is no such setting" in refusal(tmp_path, AISTRATUS_NODE__VOLUM="1")
    assert "AISTRATUS_NODE" in refusal(tmp_path, AISTRATUS_NODE="3")
    both = {"AISTRATUS_NODE": "3", "AISTRATUS_NODE__VOLUME_GIB": "40"}
    assert settings(tmp_path, **both).node.volume_gib == 40
    assert settings(tmp_path, AISTRATUS_OUTPUT="json", AISTRATUS_VERBOSE="1", PATH="/bin").env == "local"


def test_a_file_that_is_named_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="doesn't exist; `aistratus init` writes one"):
        load(config=tmp_path / "missing.toml", environ={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="can't be read"):
        load(config=tmp_path / "binary.toml", environ={})


# --- the finder of lines ---------------------------------------------------------------------------------------------

NAMES = st.text("abcdefgh_", min_size=1, max_size=4)
TABLES = st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(), min_size=1, max_size=3), min_size=1, max_size=4)


@given(TABLES, st.lists(st.sampled_from(["", "# a = 1", "  # [b]"]), max_size=3), st.data())
def test_the_line_that_is_named_holds_the_value(
    tables: dict[str, dict[str, int]], between: list[str], data: st.DataObject
) -> None:
    lines: list[str] = []
    for table, entries in tables.items():
        lines += [*between, f"[{table}]", *between, *(f"{key} = {value}" for key, value in entries.items())]
    text = "\n".join(lines)
    assert tomllib.loads(text) == tables
    table = data.draw(st.sampled_from(sorted(tables)))
    key = data.draw(st.sampled_from(sorted(tables[table])))
    line = _line(text, [table, key])
    assert line is not None and lines[line - 1] == f"{key} = {tables[table][key]}"
    above = [one for one in lines[:line] if one.startswith("[")]
    assert above[-1] == f"[{table}]"
    assert _line(text, [table, "missing"]) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("node.volume_gib = 1", 1),
        ("node = { volume_gib = 1 }", 1),
        ("[node]\n'volume_gib' = 1", 2),
        ("[ node ]\n  volume_gib=1", 2),
    ],
)
def test_other_ways_to_write_a_setting_are_found(text: str, line: int) -> None:
    assert _line(text, ["node", "volume_gib"]) == line


# --- the commented file ----------------------------------------------------------------------------------------------


def test_the_repositorys_file_is_what_init_writes() -> None:
    assert (ROOT / "aistratus.toml").read_text(encoding="utf-8") == commented()


def test_the_commented_file_changes_nothing_and_every_line_of_it_counts(tmp_path: Path) -> None:
    assert settings(tmp_path, commented()) == settings(tmp_path, "")
    counting = re.sub(r"^# (?=[\w.]+(\.\"[^\"]+\")? = )(?!.*\"…\")", "", commented(), flags=re.M)
    _head, _, rest = counting.partition("\nenv = ")
    assert counting != commented() and tomllib.loads("env = " + rest)["node"]["volume_gib"] == 20
    assert settings(tmp_path, "env = " + rest) == settings(tmp_path, "")


UNITS = (
    r"milliseconds|minutes|days|prompts a minute|requests a second|GiB|tokens|requests at once|surest|EUR|US dollars"
    r"|YYYY|environments|images|hours|TCP port"
)


def fields(model: type[BaseModel], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, entry in model.model_fields.items():
        kind = entry.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found += fields(kind, f"{path}{name}.")
        if entry.description or not (isinstance(kind, type) and issubclass(kind, Section)):
            found.append((path + name, entry))
    return found


def test_every_setting_is_described_and_every_number_has_a_unit() -> None:
    found = fields(Settings)
    assert [name for name, entry in found if not entry.description] == []
    numbers = [(name, entry) for name, entry in found if type(entry.default) in (int, float) or "rate" in name]
    assert len(numbers) >= 8
    assert [name for name, entry in numbers if not re.search(UNITS, entry.description)] == []


# --- money ------------------------------------------------------------------------------------------------------


def test_the_budget_is_counted_in_dollars_by_the_dated_rate(tmp_path: Path) -> None:
    budget = settings(tmp_path, '[budget]\nlimit_eur = 10\nusd_per_eur = 1.1\nrate_date = "2026-11-02"\n').budget
    assert (budget.limit_usd, budget.kill_usd) == (11.0, 23.1)
    assert budget.rate_date.isoformat() == "2026-11-02"


def test_machines_are_not_stopped_before_anybody_is_told(tmp_path: Path) -> None:
    told = refusal(tmp_path, "[budget]\nlimit_eur = 30\n")
    assert "kill_eur must not be below limit_eur" in told
    assert "budget" in told
    assert "rate_date" in refusal(tmp_path, '[budget]\nrate_date = "yesterday"\n')


def test_what_a_prompt_wakes_the_node_as_is_one_of_its_types(tmp_path: Path) -> None:
    def wakes_as(word: str, more: str = "") -> str:
        return settings(tmp_path, f'[node]\nwake_as = "{word}"\n{more}').node.wake_type

    assert [wakes_as(word) for word in ("last", "cpu", "gpu")] == ["", "t3.small", "g4dn.xlarge"]
    assert wakes_as("gpu", 'gpu_types = ["g6.xlarge", "g5.xlarge"]') == "g6.xlarge"
    told = refusal(tmp_path, '[node]\nwake_as = "gpu"\ngpu_types = []\n')
    assert "wake_as can't be gpu, because gpu_types names none" in told
