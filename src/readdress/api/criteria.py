"""The criteria of a search as the wire has them, and what they ask of the directory.

Parts that stand side by side must all hold.
"""

from typing import Annotated, Literal

from msgspec import Meta

from readdress.api.shapes import TEXT_CONTROLS_ONLY, Shape
from readdress.directory.conditions import FIELDS, All, AnyOf, Condition, Tag, Text
from readdress.errors import InvalidParameterException

DEPTH_MAX = 8
CONDITIONS_MAX = 100
_SearchValue = Annotated[str, Meta(max_length=4096), TEXT_CONTROLS_ONLY]


class StringCondition(Shape):
    field_name: _SearchValue | None = None
    value: _SearchValue | None = None
    comparison_type: Literal["STARTS_WITH", "CONTAINS", "EXACT"] | None = None


class SearchCriteria(Shape):
    or_conditions: "list[SearchCriteria] | None" = None
    and_conditions: "list[SearchCriteria] | None" = None
    string_condition: StringCondition | None = None


class TagCondition(Shape):
    tag_key: _SearchValue | None = None
    tag_value: _SearchValue | None = None


class TagFilter(Shape):
    or_conditions: list[list[TagCondition]] | None = None
    and_conditions: list[TagCondition] | None = None
    tag_condition: TagCondition | None = None


class SearchFilter(Shape):
    tag_filter: TagFilter | None = None


def to_condition(criteria: SearchCriteria | None, search_filter: SearchFilter | None) -> Condition:
    """Raises InvalidParameterException."""
    return All([*_criteria(criteria), *_tag_filter(search_filter)])


class _Budget:
    """How many conditions a request may still spend."""

    def __init__(self) -> None:
        self.left = CONDITIONS_MAX

    def spend(self, member: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise InvalidParameterException(
                f"{member}: a search has at most {CONDITIONS_MAX} conditions. Ask in several searches."
            )


def _criteria(criteria: SearchCriteria | None) -> list[Condition]:
    return _criterion(criteria, "SearchCriteria", DEPTH_MAX, _Budget()) if criteria else []


def _criterion(criteria: SearchCriteria, member: str, depth_left: int, budget: _Budget) -> list[Condition]:
    if not depth_left:
        raise InvalidParameterException(f"{member}: conditions nest at most {DEPTH_MAX} deep.")
    found: list[Condition] = []
    if criteria.string_condition or not (criteria.and_conditions or criteria.or_conditions):
        budget.spend(member)  # an empty one costs the database as much
    if criteria.string_condition:
        found.append(_text(criteria.string_condition, f"{member}.StringCondition"))
    for children, name, kind in (
        (criteria.and_conditions, "AndConditions", All),
        (criteria.or_conditions, "OrConditions", AnyOf),
    ):
        if children:
            inner = [
                All(_criterion(child, f"{member}.{name}[{at}]", depth_left - 1, budget))
                for at, child in enumerate(children)
            ]
            found.append(kind(inner))
    return found


def _text(condition: StringCondition, member: str) -> Text:
    field = (condition.field_name or "").lower()
    if field not in FIELDS:
        raise InvalidParameterException(f"{member}.FieldName: has to be EmailAddress, DisplayName or Description.")
    if condition.value is None:
        raise InvalidParameterException(f"{member}.Value: is required. Give it a value.")
    if condition.comparison_type is None:
        raise InvalidParameterException(f"{member}.ComparisonType: is required. Give EXACT, STARTS_WITH or CONTAINS.")
    return Text(field, condition.comparison_type, condition.value)


def _tag_filter(search_filter: SearchFilter | None) -> list[Condition]:
    tag_filter = search_filter.tag_filter if search_filter else None
    if tag_filter is None:
        return []
    member, budget = "SearchFilter.TagFilter", _Budget()
    found: list[Condition] = []
    if tag_filter.tag_condition:
        found.append(_tag(tag_filter.tag_condition, f"{member}.TagCondition", budget))
    if tag_filter.and_conditions:
        found.extend(_tags(tag_filter.and_conditions, f"{member}.AndConditions", budget))
    if tag_filter.or_conditions:
        alternatives = [
            All(_tags(group, f"{member}.OrConditions[{at}]", budget))
            for at, group in enumerate(tag_filter.or_conditions)
        ]
        found.append(AnyOf(alternatives))
    return found


def _tags(conditions: list[TagCondition], member: str, budget: _Budget) -> list[Condition]:
    if not conditions:
        budget.spend(member)
    return [_tag(condition, f"{member}[{at}]", budget) for at, condition in enumerate(conditions)]


def _tag(condition: TagCondition, member: str, budget: _Budget) -> Tag:
    budget.spend(member)
    if not condition.tag_key:
        raise InvalidParameterException(f"{member}.TagKey: is required. Give it a value.")
    return Tag(condition.tag_key, condition.tag_value)
