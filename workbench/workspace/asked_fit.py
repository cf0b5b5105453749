"""A fit as somebody asks for it, written as JSON or as Python and read back; `cli.fit_command` writes and reads it as a command.

A text says which model, rows, method, knobs, seed, dose and chat rendering, and only what is not as it would be without a word. Reading
what was written gives an equal record, and equal records fit the same edit: what is read is never run, and a word that is not known is
refused.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, cast, final

from workbench import methods as registered
from workbench.edits.lane import valid_dose
from workbench.errors import BadKnob
from workbench.knobs import COMPAT, as_json
from workbench.place import read_place
from workbench.settings import FitSettings

_NO_KNOBS: Mapping[str, object] = MappingProxyType({})
_KINDS: Mapping[str, tuple[type, ...]] = {"seed": (int,), "dose": (int, float), "config": (dict,), "chat": (bool, type(None))}
_LARGEST_SEED = 2**32 - 1
_FORM = 'session = open_session("embedded"); fitted = session.fit("sea", "truthfulness", {"keep": 0.9}, seed=0)'


@final
@dataclass(frozen=True)
class AskedFit:
    """A fit on a model of a workspace; `config` holds the knobs that are not as by default, whatever it was given.

    Raises:
        UnknownMethod, UnknownKnob, BadKnob, BadDose, BadPlace: a word or a value that is not known, a seed that is none, or a system
            turn without chat.
    """

    method: str
    data: str
    config: Mapping[str, object] = field(default_factory=lambda: _NO_KNOBS)
    seed: int = 0
    dose: float = 1.0
    chat: bool | None = None
    system: str = ""
    place: str = ""
    model: str = "embedded"
    dtype: str = "float32"
    device: str = "cpu"
    workspace: str = ""

    def __post_init__(self) -> None:
        known = registered.get(self.method)
        made, plain = as_json(known.configure(self.config)), as_json(known.config())
        told: dict[str, object] = {name: value for name, value in made.items() if value != plain[name]}
        if COMPAT in told:
            told[COMPAT] = {name: value for name, value in made[COMPAT].items() if value != plain[COMPAT][name]}
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise BadKnob(f"seed = {self.seed} is no seed.", f"Give a whole number from 0 to {_LARGEST_SEED}.")
        if self.system and self.chat is False:
            raise BadKnob("A system turn is given, and chat is off.", "Turn chat on, or leave the system turn out.")
        object.__setattr__(self, "config", told)
        object.__setattr__(self, "dose", valid_dose(self.dose))
        object.__setattr__(self, "place", str(read_place(self.place)))

    @staticmethod
    def of(settings: FitSettings, model: str, **where: str) -> AskedFit:
        """The fit that settings ask for; `where` holds the dtype, the device and the workspace, if they are not the usual ones.

        Raises:
            BadKnob: the rows have no name under which another program finds them. Others: as `AskedFit`.
        """
        if not isinstance(settings.source, str):
            raise BadKnob("The rows of this fit have no name.", "Save them as a set, or give a file.")
        made = as_json(registered.get(settings.method).configure(settings.config, settings.preset))
        how = (settings.seed, settings.dose, settings.chat, settings.system, settings.place)
        return AskedFit(settings.method, settings.source, made, *how, model=model, **where)

    @property
    def settings(self) -> FitSettings:
        """What `Session.run` takes, on the asked model."""
        return FitSettings(
            self.method, self.data, self.config, seed=self.seed, dose=self.dose, chat=self.chat, system=self.system, place=self.place
        )  # fmt: skip


_USUAL = {item.name: item.default for item in fields(AskedFit) if item.name not in ("method", "data", "config")}


def written_json(asked: AskedFit) -> str:
    """One JSON object, a field a line."""
    told = asdict(asked)
    kept = {name: value for name, value in told.items() if name not in _USUAL or name in ("model", "seed", "dose") or value != _USUAL[name]}
    return json.dumps(kept, indent=2, ensure_ascii=False)


def read_json(text: str) -> AskedFit:
    """The fit that a JSON object asks for.

    Raises:
        BadKnob: it is no such object; the message names the line, the field or the type. Others: as `AskedFit`.
    """
    try:
        told: object = json.loads(text)
    except RecursionError as error:
        raise BadKnob("This is no fit: brackets stand in brackets, deeper than any knob.", "Take the form's again.") from error
    except ValueError as error:
        raise BadKnob(f"This is no JSON: {error}.", "Mend it there, or take the form's again.") from error
    if not isinstance(told, dict):
        raise BadKnob("This is no JSON object.", 'Write {"method": …, "data": …}.')
    return _checked(cast("dict[str, object]", told))


def written_python(asked: AskedFit) -> str:
    """Python that opens the model, fits, and sets the dose; it needs nothing but the package."""
    where = {name: getattr(asked, name) for name in ("workspace", "dtype", "device") if getattr(asked, name) != _USUAL[name]}
    how = {name: getattr(asked, name) for name in ("chat", "system", "place") if getattr(asked, name) != _USUAL[name]}
    knobs = f", {dict(asked.config)!r}" if asked.config else ""
    lines = [
        "from workbench import open_session",
        "",
        f"session = open_session({asked.model!r}{_keywords(where)})",
        f"fitted = session.fit({asked.method!r}, {asked.data!r}{knobs}{_keywords({'seed': asked.seed, **how})})",
        f"edit = fitted.edit.dosed({asked.dose!r})",
    ]
    return "\n".join(lines)


def _keywords(given: Mapping[str, object]) -> str:
    return "".join(f", {name}={value!r}" for name, value in given.items())


def read_python(text: str) -> AskedFit:
    """The fit that such Python asks for. Nothing is run: the arguments are literals, and every other statement is refused.

    Raises:
        BadKnob: a line that is none of these, or an argument that is no literal or not known. Others: as `AskedFit`.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: brackets in brackets, or dots behind dots
        raise BadKnob(f"This is no Python: {error}.", f"Write {_FORM}") from error
    told: dict[str, object] = {}
    called: set[str] = set()
    for line in body:
        if isinstance(line, ast.ImportFrom) and line.module == "workbench":
            continue
        call = line.value if isinstance(line, ast.Assign | ast.Expr) else None
        name = _called(call.func) if isinstance(call, ast.Call) else ""
        if not isinstance(call, ast.Call) or name not in _CALLS:
            raise BadKnob(f"Line {line.lineno} is no part of a fit.", f"Write {_FORM}")
        if name in called:
            raise BadKnob(f"Line {line.lineno}: a second {name}; a form is one fit.", f"Write {_FORM}")
        called.add(name)
        told |= _arguments(call, _CALLS[name])
    return _checked(told)


_CALLS: Mapping[str, tuple[str, ...]] = {
    "open_session": ("model", "workspace", "dtype", "device"),
    "session.fit": ("method", "data", "config", "seed", "chat", "system", "place"),
    "fitted.edit.dosed": ("dose",),
}
_IN_ORDER = {"open_session": 2, "session.fit": 3, "fitted.edit.dosed": 1}


def _called(func: ast.expr) -> str:
    """A name with its dots; empty for anything else that can be called."""
    if isinstance(func, ast.Attribute):
        return f"{_called(func.value)}.{func.attr}"
    return func.id if isinstance(func, ast.Name) else ""


def _arguments(call: ast.Call, names: tuple[str, ...]) -> dict[str, object]:
    """The arguments of a call by name; the first ones may stand without theirs."""
    name = _called(call.func)
    pairs = [*zip(names[: _IN_ORDER[name]], call.args), *((item.arg, item.value) for item in call.keywords)]
    unknown = [said for said, _ in pairs if said not in names]
    if unknown or len(call.args) > _IN_ORDER[name] or len({said for said, _ in pairs}) < len(pairs):
        what = f"{name} takes {', '.join(names)}, each once"
        raise BadKnob(f"Line {call.lineno}: {what}; the first {_IN_ORDER[name]} without their names.", f"Write {_FORM}")
    try:
        return {str(said): ast.literal_eval(value) for said, value in pairs}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:  # a list as a key, signs behind signs
        raise BadKnob(f"Line {call.lineno}: an argument is no literal.", "Write numbers, texts, lists and dictionaries out.") from error


def _checked(told: Mapping[str, object]) -> AskedFit:
    names = [item.name for item in fields(AskedFit)]
    unknown, missing = [name for name in told if name not in names], [name for name in ("method", "data") if name not in told]
    if unknown or missing:
        what = f"{unknown[0]!r} is not known" if unknown else f"{missing[0]!r} is missing"
        raise BadKnob(f"Of a fit, {what}.", f"It has {', '.join(names)}; method and data are needed.")
    for name, value in told.items():
        kinds = _KINDS.get(name, (str,))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join("none" if kind is type(None) else _WORDS[kind] for kind in kinds)
            raise BadKnob(f"{name} = {value!r} is not {wanted}.", f"Give {wanted}.")
    _check_names(told.get("config"))
    made = cast("Callable[..., AskedFit]", AskedFit)
    given: dict[str, Any] = dict(told)
    return made(**given)


def _check_names(config: object) -> None:
    """Knobs, and the switches of one, are named by texts. Raises: BadKnob."""
    if isinstance(config, dict):
        for name, value in cast("dict[object, object]", config).items():
            if not isinstance(name, str):
                raise BadKnob(f"{name!r} is no name of a knob.", "Write names of knobs in quotes.")
            _check_names(value)


_WORDS: Mapping[type, str] = {str: "a text", int: "a whole number", float: "a number", dict: "an object of knobs", bool: "true or false"}
