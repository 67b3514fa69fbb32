"""An operation, a dependency and a timer between their documents (spec section 12) and the fields of a form. Pure.

What such a document may be is the node's to say when it is written; here only what a form alone can get wrong is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from m2mapp.formats.documents import dump_json, is_cbor, is_json, load_json
from m2mapp.model.errors import Malformed

INPUTS = (("none", "nothing"), ("text", "this text"), ("json", "this JSON"), ("uri", "what is found at this URI when it runs"))
METHODS = (
    ("update", "update (PUT)"),
    ("create", "create (POST)"),
    ("retrieve", "retrieve (GET)"),
    ("delete", "delete (DELETE)"),
)
TWICE = (("", "as the method says: all but create may"), ("true", "may be sent again"), ("false", "must not be sent twice"))
SCHEDULES = (("cron", "cron: minute hour day month weekday"), ("every", "every, such as 15m"), ("at", "once, at a time"))
_PLAIN = ("rule", "objectResource", "method", "outputURI", "for", "holdoff", "expiry")
_TRUTHS = {"": None, "true": True, "false": False}

Get = Callable[[str], str]
"""The value of a form's field by its name, empty where there is none."""


def operation_fields(document: Mapping[str, object]) -> dict[str, str]:
    """The fields of the form for an operation's document; for an empty one those of a new operation."""
    fields = {name: _text(document.get(name)) for name in _PLAIN}
    fields["method"] = fields["method"] or "update"
    fields["priority"] = _text(document.get("priority", 0))
    fields["dependencyURIs"] = "\n".join(_texts(document.get("dependencyURIs")))
    idempotent = document.get("idempotent")
    fields["idempotent"] = "" if idempotent is None else str(idempotent).lower()
    if "inputURI" in document:
        fields["inputKind"], fields["input"] = "uri", _text(document["inputURI"])
    elif isinstance(document.get("input"), str):
        fields["inputKind"], fields["input"] = "text", _text(document["input"])
    elif "input" in document:
        fields["inputKind"], fields["input"] = "json", dump_json(document["input"]).decode()
    else:
        fields["inputKind"], fields["input"] = "none", ""
    return fields


def operation_document(get: Get) -> dict[str, object]:
    """The document that a form's fields say. Raises `Malformed` for what is no number, no JSON, or no choice of the form."""
    document: dict[str, object] = {name: get(name).strip() for name in _PLAIN if get(name).strip()}
    document.setdefault("rule", "")
    document["priority"] = _whole("priority", get("priority") or "0")
    uris = get("dependencyURIs").split()
    if uris:
        document["dependencyURIs"] = uris
    if get("idempotent") not in _TRUTHS:
        raise Malformed("idempotent", get("idempotent"), "true, false, or left out")
    if get("idempotent"):
        document["idempotent"] = _TRUTHS[get("idempotent")]
    return document | _input(get("inputKind") or "none", get("input"))


def dependency_document(get: Get) -> dict[str, object]:
    """The document of a dependency that a form's fields say."""
    return {name: get(name).strip() for name in ("name", "uri", "rule", "logic") if get(name).strip()}


def timer_document(get: Get) -> dict[str, object]:
    """The document of a timer that a form's fields say. Raises `Malformed` for what is no choice of the form."""
    kind = get("schedule")
    if kind not in dict(SCHEDULES):
        raise Malformed("schedule", kind, f"one of {', '.join(dict(SCHEDULES))}")
    document: dict[str, object] = {kind: get("time").strip(), "missed": get("missed") or "run"}
    if kind == "cron" and get("timezone").strip():
        document["timezone"] = get("timezone").strip()
    return document


def timer_fields(document: Mapping[str, object]) -> dict[str, str]:
    """The fields of the form for a timer's document; for an empty one those of a new timer."""
    kind = next((name for name, _ in SCHEDULES if name in document), "cron")
    return {
        "schedule": kind,
        "time": _text(document.get(kind)),
        "timezone": _text(document.get("timezone")),
        "missed": _text(document.get("missed")) or "run",
    }


def tried_value(get: Get) -> dict[str, object]:
    """What is asked of `evaluate`: a past evaluation, or a value, as the content of the media type that was typed."""
    if get("evaluation"):
        return {"evaluation": get("evaluation")}
    media_type = get("contentType").strip() or "text/plain"
    asked: dict[str, object] = {"value": _as_value("value", get("value"), media_type), "contentType": media_type}
    if get("before"):
        asked["before"] = _as_value("before", get("before"), media_type)
    return asked


def _as_value(name: str, text: str, media_type: str) -> object:
    """A content as documents have it; CBOR is typed as the JSON that says the same."""
    return load_json(text.encode(), name) if is_json(media_type) or is_cbor(media_type) else text


def _input(kind: str, text: str) -> dict[str, object]:
    if kind == "none":
        return {}
    if kind == "uri":
        return {"inputURI": text.strip()}
    if kind == "text":
        return {"input": text}
    if kind != "json":
        raise Malformed("inputKind", kind, f"one of {', '.join(dict(INPUTS))}")
    return {"input": load_json(text.encode(), "input")}


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Malformed(name, text, "a whole number") from None


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []
