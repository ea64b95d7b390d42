"""A dataclass from YAML or JSON values: types checked, unknown keys refused with the nearest one.

A field that is a dataclass itself is a section, and a setting is named in full by its sections: train.batch.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from ardm.errors import ArdmError

T = TypeVar("T")
NAMED = "named"
"""Metadata of a section: {key: {name: values}}.  Such a key is not a field; its name stands for the values."""
SHOWN = 12
"""Names that an error lists, at most."""
ELSEWHERE = {
    "rate": ("lr", "learning_rate", "max_lr"),
    "steps": ("epochs", "num_epochs", "n_epochs", "max_epochs", "iterations", "max_iters"),
    "batch": ("bs", "batch_size"),
    "blocks": ("layers", "num_layers", "n_layers", "depth", "num_hidden_layers"),
    "width": ("dim", "d_model", "hidden_size", "hidden_dim", "n_embd", "embed_dim"),
    "heads": ("n_heads", "num_heads", "n_head", "num_attention_heads"),
    "classes": ("vocab", "vocab_size", "num_classes", "n_classes"),
    "clip": ("grad_clip", "max_grad_norm", "gradient_clip_val"),
    "ema": ("ema_decay", "ema_rate"),
    "precision": ("dtype", "amp", "mixed_precision", "bf16"),
}
"""What other libraries call a setting; spelling alone would lead from `lr` to `folder`."""


def from_values(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make a dataclass, and the dataclasses inside it, from JSON or YAML values.

    Settings that are missing keep their defaults; an empty section (None) keeps them all.
    where: the sections around `kind`, for errors, such as "model.".
    Raises ArdmError for an unknown key, suggesting the nearest one, and for a value of another type.
    """
    return _made(kind, values, where, _full_names(kind, where))


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Copy values and apply overrides, each written "section.key=value" with a value in YAML.

    Raises ArdmError for an override of any other form.
    """
    changed = copy.deepcopy(dict(values))
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise ArdmError(f"an override is written key=value, such as train.batch=32; got {item!r}")
        try:
            _put(changed, key.strip().split("."), yaml.safe_load(value))
        except yaml.YAMLError:
            raise ArdmError(f"the value of {key} is not valid YAML: {value!r}") from None
    return changed


def nearest(word: str, known: Collection[str]) -> str:
    """The end of an error about an unknown word: the nearest known one, or else the first few."""
    usual = [name for name, others in ELSEWHERE.items() if word in others and name in known]
    close = usual or difflib.get_close_matches(word, known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f", … ({len(known)} in all)" if len(known) > SHOWN else ""
    return f"; there are {', '.join(list(known)[:SHOWN])}{more}"


def _made(kind: Any, values: Any, where: str, every: Mapping[str, str]) -> Any:
    if not isinstance(values, Mapping):
        raise ArdmError(f"{where[:-1] or 'a configuration'} must hold settings, not {values!r}")
    fields, hints = {field.name: field for field in dataclasses.fields(kind)}, typing.get_type_hints(kind)
    made = {}
    for key, value in values.items():
        if key not in fields:
            raise ArdmError(f"unknown setting {where}{key}{_nearest_setting(str(key), where, list(fields), every)}")
        if dataclasses.is_dataclass(hints[key]):
            inner = _expanded(value, fields[key], f"{where}{key}.")
            made[key] = _made(hints[key], inner, f"{where}{key}.", every)
        else:
            made[key] = _typed(hints[key], value, where + key)
    return kind(**made)


def _expanded(values: Any, section: dataclasses.Field[Any], where: str) -> Any:
    """The values of a section; those that a name stands for come first, so that others override them."""
    values = {} if values is None else values
    for key, sets in section.metadata.get(NAMED, {}).items():
        if isinstance(values, Mapping) and key in values:
            name = str(values[key])
            if name not in sets:
                raise ArdmError(f"unknown {where}{key} {name!r}{nearest(name, sets)}")
            values = {**sets[name], **{k: v for k, v in values.items() if k != key}}
    return values


def _typed(wanted: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_typed(typing.get_args(wanted)[0], v, where) for v in items)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(typing.get_args(wanted)[0], value, where)
    truth = isinstance(value, bool)
    if wanted is float and isinstance(value, (int, float, str)) and not truth:
        try:
            return float(value)  # YAML 1.1 reads 1e-3 as text
        except ValueError:
            pass
    if wanted is str and isinstance(value, (int, float)) and not truth:
        return str(value)  # YAML reads the name 27 as a number
    if isinstance(value, wanted) and not (wanted is int and truth):
        return value
    raise ArdmError(f"{where} must be of type {wanted.__name__}; got {value!r}")


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for i, part in enumerate(path[:-1]):
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ArdmError(f"{'.'.join(path[: i + 1])} is a value, not a section")
        values = inner
    values[path[-1]] = value


def _full_names(kind: Any, where: str) -> dict[str, str]:
    """The full name of each setting outside of `kind` itself, and its last part."""
    found: dict[str, str] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            section = f"{where}{field.name}."
            inner = [f.name for f in dataclasses.fields(hints[field.name])]
            found |= {section + name: name for name in (*inner, *field.metadata.get(NAMED, ()))}
    return found


def _nearest_setting(key: str, where: str, own: list[str], every: Mapping[str, str]) -> str:
    """A setting of the same name in another section; else the nearest in this one; else the nearest in any.

    The same names are those of other libraries, too.
    """
    usual = next((name for name, others in ELSEWHERE.items() if key in others), key)
    if usual in own:
        return f"; did you mean {where + usual!r}?"
    if same := [full for full, name in every.items() if name == usual]:
        return f"; did you mean {' or '.join(map(repr, same))}?"
    if close := difflib.get_close_matches(key, own, 1, 0.6):
        return f"; did you mean {where + close[0]!r}?"
    if close := difflib.get_close_matches(key, sorted(set(every.values())), 1, 0.7):
        return f"; did you mean {' or '.join(repr(full) for full, name in every.items() if name == close[0])}?"
    return nearest(key, own)
