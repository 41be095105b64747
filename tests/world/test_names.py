from __future__ import annotations

from typing import Any

from sfumato.world.names import concepts_of


def _entry(code: str, name: str, short: list[str], **other: Any) -> dict[str, Any]:
    given = {"category": "Objects", "subcategory": "tool", "sort_order": 0, **other}
    return {"unified": code, "name": name, "short_names": short, **given}


def _only(entry: dict[str, Any]) -> Any:
    (concept,) = concepts_of([entry], frozenset({entry["unified"].lower()}))
    return concept


def test_everyday_names_replace_formal_ones() -> None:
    concept = _only(_entry("1F47D", "EXTRATERRESTRIAL ALIEN", ["alien"]))
    assert (concept.name, concept.key, concept.names) == ("alien", "alien", ("alien", "extraterrestrial alien"))


def test_aliases_speak_of_no_other_colour() -> None:
    concept = _only(_entry("1F697", "AUTOMOBILE", ["car", "red_car"]))
    assert concept.names == ("car", "automobile")
    assert "heavy black heart" not in _only(_entry("2764-FE0F", "HEAVY BLACK HEART", ["heart"])).names


def test_adjectives_are_no_aliases_of_faces() -> None:
    face = _entry("1F60C", "RELIEVED FACE", ["relieved"], subcategory="face-sleepy")
    assert _only(face).names == ("relieved face",)


def test_misleading_aliases_are_left_out() -> None:
    concept = _only(_entry("1F50E", "RIGHT-POINTING MAGNIFYING GLASS", ["mag_right"]))
    assert concept.names == ("magnifying glass tilted right",)


def test_an_alias_that_two_concepts_share_belongs_to_neither() -> None:
    entries = [_entry("1", "FIRST SAW", ["saw"]), _entry("2", "SECOND SAW", ["saw"], sort_order=1)]
    assert [concept.names for concept in concepts_of(entries, frozenset())] == [("first saw",), ("second saw",)]


def test_core_needs_an_everyday_group_and_a_picture_everywhere() -> None:
    entries = [
        _entry("1F528", "HAMMER", ["hammer"]),
        _entry("1F6E0", "HAMMER AND WRENCH", ["tools"], sort_order=1),
        _entry("1F1E9", "GERMANY FLAG", ["de"], category="Flags", sort_order=2),
        _entry("1F550", "CLOCK FACE ONE OCLOCK", ["clock1"], sort_order=3),
        _entry("1F3FB", "SKIN", ["skin-tone-2"], category="Component", sort_order=4),
    ]
    concepts = concepts_of(entries, frozenset({"1f528", "1f1e9", "1f550"}))
    assert [(concept.index, concept.core) for concept in concepts] == [(0, True), (1, False), (2, False), (3, False)]


def test_plural_and_mass_names_are_known() -> None:
    assert _only(_entry("1F456", "JEANS", ["jeans"])).number == "plural"
    assert _only(_entry("1F35E", "BREAD", ["bread"])).number == "mass"
    assert _only(_entry("1F511", "KEY", ["key"])).number == "one"
