"""What a plan tells of money, and the picture that it draws without asking anybody."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from cli_parts import Person
from conftest import Built
from documents import PICTURE
from test_cli_documents import fits

pytestmark = pytest.mark.xdist_group("cli")

TOTAL = (
    r"^On AWS: €\d+\.\d\d a month idle at list prices, €0\.\d{4} more for each hour in which the node runs\. "
    r"On the bill €\d"
)


def test_the_first_up_told_what_the_stack_costs(built: Built) -> None:
    assert re.search(TOTAL, built.first_up.out, re.M)


def test_the_document_says_what_each_line_and_all_of_them_cost(built: Built) -> None:
    document = built.person.run("plan", "-o", "json").document
    costs = {entry["key"]: entry["cost"] for entry in document["resources"]}
    assert costs["vpc"] == {"idle_month_eur": 0, "active_hour_eur": 0}
    assert costs["node"]["idle_month_eur"] > 1 and 0.01 < costs["node"]["active_hour_eur"] < 0.1
    for name in ("idle_month_eur", "active_hour_eur"):
        assert sum(cost[name] for cost in costs.values()) == pytest.approx(document["cost"][name], abs=0.01)
    assert {entry["group"] for entry in document["resources"]} >= {"network", "data", "identity", "router", "node"}


def test_a_gateway_that_the_node_will_not_use_is_told(built: Built) -> None:
    said = built.person.with_variables(AISTRATUS_NETWORK__ENABLE_NAT_GW="true").run("plan")
    assert said.code == 2
    assert "the node stays in the public subnet, where the NAT gateway is of no use to it" in said.out
    assert "of no use" not in built.person.run("plan").out


def test_the_rate_is_a_setting(built: Built) -> None:
    dear = built.person.with_variables(AISTRATUS_BUDGET__USD_PER_EUR="0.5").run("plan", "-o", "json").document
    cheap = built.person.with_variables(AISTRATUS_BUDGET__USD_PER_EUR="2").run("plan", "-o", "json").document
    assert dear["cost"]["idle_month_eur"] == pytest.approx(4 * cheap["cost"]["idle_month_eur"], abs=0.01)


def test_down_says_what_it_would_save(built: Built) -> None:
    said = built.person.run("down", "--plan")
    assert said.code == 2
    assert re.search(r"^- node +Instance +−€\d\.\d\d +−€0\.\d{4}  i-\w+$", said.out, re.M)
    assert re.search(r"^\d+ to delete; on AWS that saves €\d+\.\d\d a month idle at list prices, ", said.out, re.M)
    document = built.person.run("down", "--plan", "-o", "json").document
    assert document["cost"] == built.person.run("plan", "-o", "json").document["cost"]


def test_a_new_stack_is_planned_group_by_group_with_prices(person: Person) -> None:
    said = person.run("plan")
    assert said.code == 2
    heads = [line.split("  ")[0] for line in said.out.splitlines() if re.match(r"[a-zA-Z]+( +a month idle|$)", line)]
    assert heads[0] == "network" and {"data", "identity", "router", "API", "node"} <= set(heads)
    assert re.search(r"^\+ vpc +Vpc +free$", said.out, re.M)
    assert re.search(r"^\+ node +Instance +€\d\.\d\d +€0\.\d{4}$", said.out, re.M)
    assert re.search(TOTAL, said.out, re.M)


@pytest.mark.parametrize("form", ["mermaid", "dot", "svg"])
def test_the_picture_needs_neither_credentials_nor_a_cloud(person: Person, form: str) -> None:
    said = person.run("--env", "dev", "plan", "--graph", form)
    assert (said.code, said.err) == (0, "")
    assert "jobs_queue" in said.out and "routes_public" in said.out
    if form == "svg":
        ElementTree.fromstring(said.out)
    in_json = person.run("--env", "dev", "plan", "--graph", form, "-o", "json")
    fits(in_json.document, PICTURE)
    assert in_json.document["picture"] == said.out
    assert not (person.home / ".local/state/aistratus/local").exists()


def test_a_form_that_nobody_draws_is_refused(person: Person) -> None:
    said = person.run("plan", "--graph", "jpeg")
    assert said.code == 2
    assert "mermaid" in said.err
